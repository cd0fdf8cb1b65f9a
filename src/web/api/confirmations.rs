//! The ceremony under a dangerous call: `web/confirm.rs` says what becomes of it.

use crate::domain::command::Confirmed;
use crate::domain::decide::REASON_CHARS_MAX;
use crate::domain::ids::{CeremonyId, Digest};
use crate::domain::people::Passkey;
use crate::domain::refusal::Refusal;
use crate::evidence::intent::{ACT_INTENT_TYPE, ActIntent};
use crate::identity::{Purpose, new_token};
use crate::web::api::decisions::deciding_passkeys;
use crate::web::api::governance::{evidence, refused};
use crate::web::app::App;
use crate::web::assertion;
use crate::web::body::read_json;
use crate::web::confirm::Call;
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest path of a call, in bytes.
const PATH_BYTES_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallBody {
    method: String,
    path: String,
    body_sha256: String,
    #[serde(default)]
    reason: String,
}

/// `POST /api/v1/me/confirmations/options`: whoever is signed in.
pub async fn start_confirming(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<CallBody>(&request, payload).await?;
    if !["POST", "PUT", "PATCH", "DELETE"].contains(&body.method.as_str()) {
        return Err(Problem::bad_field("method", "POST, PUT, PATCH or DELETE"));
    }
    if !body.path.starts_with("/api/v1/") || body.path.len() > PATH_BYTES_MAX {
        return Err(Problem::bad_field("path", "that of a call, with its query"));
    }
    if body.reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::invalid(
            "reason",
            format!("At most {REASON_CHARS_MAX} characters."),
        ));
    }
    let call = Call {
        body_sha256: Digest::parse(&body.body_sha256).ok_or_else(|| {
            Problem::bad_field("body_sha256", "the digest of the body: 64 lowercase hex digits")
        })?,
        method: body.method,
        path: body.path,
        reason: body.reason.trim().to_owned(),
    };
    let (snapshot, now, person) = (app.snapshot()?, app.now(), &who.0);
    let held = deciding_passkeys(&snapshot, person, now)?;
    if held.is_empty() {
        let why = match person.live_passkeys().map(|it| it.decides_from).min() {
            Some(from) => format!(
                "Your passkey is new and may confirm from {} on.",
                from.to_the_second()
            ),
            None => "You have no passkey.".to_owned(),
        };
        return Err(Refusal::NotEligible { why }.into());
    }
    let intent = ActIntent {
        v: 1,
        kind: ACT_INTENT_TYPE,
        method: &call.method,
        path: &call.path,
        body_sha256: call.body_sha256,
        reason: &call.reason,
        person: person.id.as_str(),
        person_name: &person.name,
        issued_at: &now.to_string(),
    }
    .to_bytes();
    let (bound, shown) = assertion::over(intent, |it| app.relying_party.start_assertion(&held, it))?;
    let purpose = Purpose::Act {
        person: person.id.clone(),
        method: call.method,
        path: call.path,
        body_sha256: call.body_sha256,
        reason: call.reason,
        intent: bound.intent,
        nonce: bound.nonce,
        challenge: bound.challenge,
        state: bound.state,
    };
    Ok(shown.begin(&app.ceremonies, purpose, now))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody {
    ceremony: String,
    credential: Value,
}

/// `POST /api/v1/me/confirmations`: the person whose ceremony it is. The word is good for that one call, once.
pub async fn confirm_call(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<AnswerBody>(&request, payload).await?;
    let ceremony = CeremonyId::parse(&body.ceremony).ok_or_else(Problem::ceremony_spent)?;
    let now = app.now();
    let Some(Purpose::Act {
        person,
        method,
        path,
        body_sha256,
        reason,
        intent,
        nonce,
        challenge,
        state,
    }) = app.ceremonies.take(&ceremony, now)
    else {
        return Err(Problem::ceremony_spent());
    };
    if person != who.0.id {
        refused(&app, &who, "a ceremony of another person".into()).await?;
        return Err(Problem::ceremony_failed());
    }
    let held: Vec<Passkey> = who.0.live_passkeys().cloned().collect();
    let proof =
        match app
            .relying_party
            .finish_assertion(&state, &body.credential, &challenge, nonce, &person, &held)
        {
            Ok(proof) => proof,
            Err(error) => {
                refused(&app, &who, error.to_string()).await?;
                return Err(Problem::ceremony_failed());
            }
        };
    let word = new_token();
    let confirmed = Confirmed {
        person,
        evidence: evidence(&intent, &nonce, &proof),
        proof,
    };
    let call = Call {
        method,
        path,
        body_sha256,
        reason,
    };
    app.confirmations.keep(word.sha256, call, confirmed, now);
    Ok(HttpResponse::Ok().json(json!({ "confirmation": word.text.as_str() })))
}
