//! Signing in and out. A session reads and administers; it never decides.

use crate::domain::command::{Command, NewSession};
use crate::domain::event::Actor;
use crate::domain::ids::{CeremonyId, PersonId};
use crate::domain::people::Person;
use crate::domain::state::{Read, Table};
use crate::identity::{Purpose, RelyingParty, hash_token, new_token};
use crate::web::api::Empty;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::{
    SESSION_SECONDS, SignedIn, check_not_foreign, no_session_cookie, session_cookie, session_token,
};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

/// `POST /api/v1/session/options`: anybody.
pub async fn start_session(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    check_not_foreign(&request)?;
    read_json::<Empty>(&request, payload).await?;
    let (public_key, state) = app.relying_party.start_sign_in().map_err(Problem::internal)?;
    let ceremony = app.ceremonies.begin(
        Purpose::SignIn {
            state: Box::new(state),
        },
        app.now(),
    );
    Ok(HttpResponse::Ok().json(json!({ "ceremony": ceremony, "publicKey": public_key })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionBody {
    ceremony: String,
    credential: Value,
}

/// `POST /api/v1/session`: whoever holds an enrolled passkey.
pub async fn open_session(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    check_not_foreign(&request)?;
    let (body, _) = read_json::<SessionBody>(&request, payload).await?;
    let now = app.now();
    let ceremony = CeremonyId::parse(&body.ceremony).ok_or_else(Problem::ceremony_spent)?;
    let Some(Purpose::SignIn { state }) = app.ceremonies.take(&ceremony, now) else {
        return Err(Problem::ceremony_spent());
    };
    let credential_id = RelyingParty::credential_id(&body.credential)
        .map_err(|_| Problem::bad_field("credential", "not a WebAuthn AuthenticationResponseJSON"))?;
    let verified = (|| -> Result<_, Problem> {
        let snapshot = app.snapshot()?;
        // An unknown passkey and a wrong answer look the same from outside.
        let owner = snapshot.get_raw(Table::PasskeyOwners, credential_id.as_bytes())?;
        let owner = owner.and_then(|it| PersonId::parse(std::str::from_utf8(&it).ok()?));
        let Some(owner) = owner else {
            return Ok(Err((None, "an unknown passkey".to_owned())));
        };
        let person: Option<Person> = snapshot.get(owner.as_str())?;
        let Some(person) = person.filter(|it| it.active) else {
            return Ok(Err((Some(owner), "an inactive person".to_owned())));
        };
        let passkey = person
            .live_passkeys()
            .find(|it| it.credential_id == credential_id)
            .cloned();
        let Some(passkey) = passkey else {
            return Ok(Err((Some(owner), "a revoked passkey".to_owned())));
        };
        let record = snapshot.blob(&passkey.record)?;
        let record = record.ok_or_else(|| Problem::internal("a passkey's record is missing"))?;
        let checked =
            app.relying_party
                .finish_sign_in(*state, &body.credential, &person.id, &passkey, &record);
        Ok(match checked {
            Ok(it) => Ok((person, it)),
            Err(error) => Err((Some(owner), error.to_string())),
        })
    })()?;
    let (person, sign_in) = match verified {
        Ok(verified) => verified,
        Err((person, reason)) => {
            let reason = crate::domain::text::shortened(&reason, 300);
            if person.is_some() || app.may_journal_a_stranger() {
                let command = Command::RefuseCeremony {
                    person,
                    request: None,
                    reason,
                };
                app.submit(Actor::System, command).await?;
            }
            return Err(Problem::ceremony_failed());
        }
    };
    let cookie = new_token();
    let session = NewSession {
        token_sha256: cookie.sha256,
        lifetime_seconds: SESSION_SECONDS,
    };
    let actor = Actor::Person {
        id: person.id.clone(),
        name: person.name.clone(),
    };
    let command = Command::OpenSession {
        person: person.id.clone(),
        session,
        credential_id,
        sign_count: sign_in.sign_count,
    };
    app.submit(actor, command).await?;
    // The session that was open in this browser ends with the new one: no id outlives a sign-in.
    if let Some(old) = session_token(&app, &request) {
        app.submit(
            Actor::System,
            Command::CloseSession {
                token_sha256: hash_token(&old),
            },
        )
        .await?;
    }
    Ok(HttpResponse::Ok()
        .cookie(session_cookie(&app, &cookie.text))
        .json(json!({
            "person": { "id": person.id, "name": person.name, "roles": person.roles },
        })))
}

/// `DELETE /api/v1/session`: whoever is signed in.
pub async fn close_session(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if let Some(token) = session_token(&app, &request) {
        app.submit(
            who.actor(),
            Command::CloseSession {
                token_sha256: hash_token(&token),
            },
        )
        .await?;
    }
    Ok(HttpResponse::NoContent().cookie(no_session_cookie(&app)).finish())
}
