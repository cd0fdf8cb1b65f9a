//! The first passkey of a person: by the set-up link, or by an invitation.

use crate::domain::command::{Command, NewSession, Reply};
use crate::domain::event::Actor;
use crate::domain::ids::{Digest, PersonId};
use crate::domain::people::{Invitation, Person};
use crate::domain::refusal::Refusal;
use crate::domain::state::Read;
use crate::identity::{Purpose, hash_token, new_token, random_id};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::{SESSION_SECONDS, check_not_foreign, session_cookie};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsBody {
    token: String,
    name: Option<String>,
    email: Option<String>,
}

/// `POST /api/v1/enrolment/options`: the bearer of a set-up or invitation token.
pub async fn start_enrolment(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    check_not_foreign(&request)?;
    let (body, _) = read_json::<OptionsBody>(&request, payload).await?;
    let token = hash_token(&body.token);
    let (person, name, email) = if app.is_set_up_token(&token) {
        let name = body
            .name
            .ok_or_else(|| Problem::bad_field("name", "your name, as it will stand in every record"))?;
        let email = body
            .email
            .ok_or_else(|| Problem::bad_field("email", "your e-mail address"))?;
        if name.trim().is_empty() || name.chars().count() > 200 {
            return Err(Problem::bad_field("name", "1 to 200 characters"));
        }
        if !email.contains('@') || email.len() > 254 {
            return Err(Problem::bad_field("email", "an e-mail address"));
        }
        (
            PersonId::from_random(random_id()),
            name.trim().to_owned(),
            email.trim().to_lowercase(),
        )
    } else {
        let person = invited(&app, &token)?;
        (person.id, person.name, person.email)
    };
    let (public_key, state) = app
        .relying_party
        .start_registration(&person, &name, &email, &[])
        .map_err(Problem::internal)?;
    let purpose = Purpose::Enrol {
        token,
        person,
        name,
        email,
        state: Box::new(state),
    };
    app.ceremonies.begin_enrolment(token, purpose, app.now());
    Ok(HttpResponse::Ok().json(json!({ "publicKey": public_key })))
}

fn invited(app: &App, token: &Digest) -> Result<Person, Problem> {
    let snapshot = app.snapshot()?;
    let invitation: Option<Invitation> = snapshot.get(&token.to_string())?;
    let invitation = invitation
        .filter(|it| !it.used && app.now() < it.expires_at)
        .ok_or(Refusal::LinkSpent)?;
    let person: Option<Person> = snapshot.get(invitation.person.as_str())?;
    Ok(person.filter(|it| it.active).ok_or(Refusal::LinkSpent)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrolmentBody {
    token: String,
    credential: Value,
    label: Option<String>,
}

/// `POST /api/v1/enrolment`: the bearer of the token, with the new passkey.
pub async fn enrol(app: Data<App>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    check_not_foreign(&request)?;
    let (body, _) = read_json::<EnrolmentBody>(&request, payload).await?;
    let token = hash_token(&body.token);
    let now = app.now();
    let is_set_up = app.is_set_up_token(&token);
    if !is_set_up {
        invited(&app, &token)?;
    }
    let Some(Purpose::Enrol {
        person,
        name,
        email,
        state,
        ..
    }) = app.ceremonies.take_enrolment(&token, now)
    else {
        return Err(Problem::ceremony_spent());
    };
    let registered = app.relying_party.finish_registration(
        &state,
        &body.credential,
        body.label.as_deref(),
        app.passkey_hold_seconds,
    );
    let passkey = match registered {
        Ok(passkey) => passkey,
        Err(crate::identity::Error::Form(reason)) => {
            refused(&app, reason).await?;
            return Err(Problem::bad_field(
                "credential",
                "not a WebAuthn RegistrationResponseJSON",
            ));
        }
        Err(error @ crate::identity::Error::Model(_)) => {
            refused(&app, error.to_string()).await?;
            return Err(Problem::invalid("credential", error.to_string()));
        }
        Err(error) => {
            refused(&app, error.to_string()).await?;
            return Err(Problem::ceremony_failed());
        }
    };
    let cookie = new_token();
    let session = NewSession {
        token_sha256: cookie.sha256,
        lifetime_seconds: SESSION_SECONDS,
    };
    let actor = Actor::Person {
        id: person.clone(),
        name: name.clone(),
    };
    let command = if is_set_up {
        Command::ClaimSetUp {
            person: person.clone(),
            name,
            email,
            passkey,
            session,
        }
    } else {
        Command::Enrol {
            token_sha256: token,
            passkey,
            session,
        }
    };
    let Reply::Person { id } = app.submit(actor, command).await? else {
        return Err(Problem::internal("an enrolment without a person"));
    };
    if is_set_up {
        app.spend_set_up_token();
    }
    let person: Person = app
        .snapshot()?
        .get(id.as_str())?
        .ok_or_else(|| Problem::internal("an enrolled person is missing"))?;
    Ok(HttpResponse::Created()
        .cookie(session_cookie(&app, &cookie.text))
        .json(json!({
            "person": { "id": person.id, "name": person.name, "roles": person.roles },
        })))
}

async fn refused(app: &App, reason: String) -> Result<(), Problem> {
    let reason = crate::domain::text::shortened(&reason, 300);
    app.submit(
        Actor::System,
        Command::RefuseCeremony {
            person: None,
            request: None,
            reason,
        },
    )
    .await?;
    Ok(())
}
