//! A person's own one-time codes (TOTP): set up with a passkey or right after an invitation, shown once, confirmed by a code,
//! removed at any time. They decide only where a rule lists them.

use crate::domain::command::Command;
use crate::domain::decide::deciding_codes;
use crate::domain::ids::CeremonyId;
use crate::domain::people::{Passkey, Person, Session};
use crate::domain::state::Read;
use crate::domain::totp::totp_secret;
use crate::identity::{Purpose, SETTING_UP_SECONDS, Tried, hash_token, matching_step, new_secret};
use crate::web::api::Empty;
use crate::web::api::decisions::passkeys_with_records;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::qr::qr_data_url;
use crate::web::session::{SignedIn, session_token};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

/// `GET /api/v1/me/totp`: whoever is signed in.
pub async fn get_totp(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let taken = deciding_codes(&app.snapshot()?)?;
    Ok(HttpResponse::Ok().json(match &who.0.totp {
        None => json!({ "enrolled": false, "grade": "server-attested", "taken_by": taken }),
        Some(it) => json!({
            "enrolled": true,
            "grade": "server-attested",
            "taken_by": taken,
            "added_at": it.added_at,
            "decides_from": it.decides_from,
            "last_used_at": it.last_used_at,
            "locked_at": it.locked_at,
        }),
    }))
}

/// `POST /api/v1/me/totp/options`: whoever is signed in. A passkey that is held allows the set-up.
pub async fn start_totp(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    read_json::<Empty>(&request, payload).await?;
    let held: Vec<Passkey> = who.0.live_passkeys().cloned().collect();
    let with_records = passkeys_with_records(&app.snapshot()?, held)?;
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge).map_err(Problem::internal)?;
    let (public_key, state) = app
        .relying_party
        .start_assertion(&with_records, &challenge)
        .map_err(Problem::internal)?;
    let purpose = Purpose::AllowTotp {
        person: who.0.id.clone(),
        challenge,
        state: Box::new(state),
    };
    let ceremony = app.ceremonies.begin(purpose, app.now());
    Ok(HttpResponse::Ok().json(json!({ "ceremony": ceremony, "publicKey": public_key })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowBody {
    ceremony: Option<String>,
    credential: Option<Value>,
}

/// `POST /api/v1/me/totp`: whoever's passkey allowed it, or whose invitation opened this very session a moment ago. The secret is
/// in this answer and in no other.
pub async fn set_up_totp(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<AllowBody>(&request, payload).await?;
    let confirmed_by = match (body.ceremony, body.credential) {
        (Some(ceremony), Some(credential)) => vec![allowed_by(&app, &who, &ceremony, &credential).await?],
        (None, None) if invited_just_now(&app, &who.0, &request)? => Vec::new(),
        _ => {
            return Err(Problem::not_allowed(
                "Confirm it with a passkey: `ceremony` and `credential` answer POST /api/v1/me/totp/options.",
            ));
        }
    };
    let host = app.public_url.split("://").last().unwrap_or_default();
    let secret = new_secret(&who.0.email, host).map_err(Problem::internal)?;
    let answer = json!({
        "otpauth_url": *secret.url,
        "secret": *secret.text,
        "qr": qr_data_url(&secret.url).map_err(Problem::internal)?,
        "expires_at": app.now().plus_seconds(SETTING_UP_SECONDS),
    });
    app.generators
        .begin(who.0.id.clone(), secret.bytes, confirmed_by, app.now());
    Ok(HttpResponse::Created().json(answer))
}

/// The id of the passkey that answered, if it did as it should.
async fn allowed_by(
    app: &App,
    who: &SignedIn,
    ceremony: &str,
    credential: &Value,
) -> Result<String, Problem> {
    let ceremony = CeremonyId::parse(ceremony).ok_or_else(Problem::ceremony_spent)?;
    let Some(Purpose::AllowTotp {
        person,
        challenge,
        state,
    }) = app.ceremonies.take(&ceremony, app.now())
    else {
        return Err(Problem::ceremony_spent());
    };
    let held: Vec<Passkey> = who.0.live_passkeys().cloned().collect();
    let checked = app
        .relying_party
        .finish_assertion(&state, credential, &challenge, [0; 32], &who.0.id, &held);
    match checked {
        Ok(proof) if person == who.0.id => Ok(proof.credential_id),
        other => {
            let reason = other
                .err()
                .map_or_else(|| "another person's ceremony".into(), |e| e.to_string());
            refused(app, who, &reason).await?;
            Err(Problem::ceremony_failed())
        }
    }
}

async fn refused(app: &App, who: &SignedIn, reason: &str) -> Result<(), Problem> {
    let command = Command::RefuseCeremony {
        person: Some(who.0.id.clone()),
        request: None,
        reason: crate::domain::text::shortened(reason, 300),
    };
    app.submit(who.actor(), command).await?;
    Ok(())
}

/// Whether this session was opened by enrolling with a link, and no longer ago than setting up may take: then the admin's
/// invitation allows it, as it allowed the passkey.
fn invited_just_now(app: &App, person: &Person, request: &HttpRequest) -> Result<bool, Problem> {
    let Some(token) = session_token(app, request) else {
        return Ok(false);
    };
    let session: Option<Session> = app.snapshot()?.get(&hash_token(&token).to_string())?;
    let Some(session) = session else {
        return Ok(false);
    };
    // By a link one enrols one's first passkey, in the entry before the session's own: both are of the same instant.
    let enrolled_by_it = |it: &Passkey| it.added_at == session.opened_at;
    let only = person.live_passkeys().count() == 1;
    let fresh = session.opened_at.seconds_until(app.now()) < SETTING_UP_SECONDS;
    Ok(only && fresh && person.live_passkeys().any(enrolled_by_it))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    code: String,
}

/// `POST /api/v1/me/totp/confirm`: whoever set it up. Only now it is stored, sealed.
pub async fn confirm_totp(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<CodeBody>(&request, payload).await?;
    let person = who.0.id.clone();
    match app.generators.confirm(&person, &body.code, app.now()) {
        Tried::Gone => Err(Problem::ceremony_spent()),
        Tried::Wrong => {
            refused(
                &app,
                &who,
                "a wrong code for a generator of one-time codes that is being set up",
            )
            .await?;
            Err(crate::domain::refusal::Refusal::WrongCode.into())
        }
        Tried::Works {
            secret,
            confirmed_by,
            step,
        } => {
            let name = totp_secret(&person);
            let sealed = (app.seal)(&name, &secret);
            let command = Command::EnrolTotp {
                person: person.clone(),
                step,
                hold_seconds: app.passkey_hold_seconds,
                confirmed_by,
            };
            app.submit_with_secrets(who.actor(), command, vec![(name, sealed)])
                .await?;
            let record: Option<Person> = app.snapshot()?.get(person.as_str())?;
            let from = record.and_then(|it| it.totp).map(|it| it.decides_from);
            Ok(HttpResponse::Ok().json(json!({ "enrolled": true, "decides_from": from })))
        }
    }
}

/// `DELETE /api/v1/me/totp`: whose codes they are.
pub async fn remove_totp(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let name = totp_secret(&who.0.id);
    // Nothing is left of the secret: an empty one stands in its place.
    let nothing = (app.seal)(&name, &[]);
    let command = Command::RevokeTotp {
        person: who.0.id.clone(),
        reason: "removed by its owner".into(),
    };
    app.submit_with_secrets(who.actor(), command, vec![(name, nothing)])
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The time step whose code this is, by the person's own secret. `None` also where there is no secret.
pub(super) fn step_of(app: &App, person: &Person, code: &str) -> Result<Option<u64>, Problem> {
    if person.totp.is_none() {
        return Ok(None);
    }
    let name = totp_secret(&person.id);
    let sealed = app.snapshot()?.secret(&name)?;
    let secret = sealed
        .and_then(|it| (app.unseal)(&name, &it))
        .map(zeroize::Zeroizing::new);
    Ok(secret.and_then(|it| matching_step(&it, code, app.now())))
}
