//! The signing keys, for admins at a browser: letting another take over, and revoking one. What they were and are is public
//! (`well_known.rs`); on the host the same is done by `local.rs`.

use crate::domain::command::Command;
use crate::domain::danger::Act;
use crate::engine::{KeyChange, Use};
use crate::web::api::local::changed;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::{Reason, Stated};
use crate::web::session::{Caller, SignedIn};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    r#use: String,
}

/// `POST /api/v1/keys/rotate`: an admin's passkey. The next key of a use takes over; `data` seals all secrets anew.
pub async fn rotate_key(
    app: Data<App>,
    who: SignedIn,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    Caller::Person(who.0.clone()).administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<RotateBody>(&request, payload).await?;
    let change = rotation(&body.r#use)?;
    begin(&app, &who, reason, Act::RotateKey).await?;
    Ok(changed(app.engine.change_keys(who.actor(), change).await?))
}

/// The change that lets the next key of a use take over.
pub fn rotation(of: &str) -> Result<KeyChange, Problem> {
    match of {
        "credential" => Ok(KeyChange::Rotate(Use::Credential)),
        "log" => Ok(KeyChange::Rotate(Use::Log)),
        "data" => Ok(KeyChange::DataKey),
        _ => Err(Problem::invalid("use", "`credential`, `log` or `data`.")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    keyid: String,
    from_seq: Option<u64>,
}

/// `POST /api/v1/keys/revoke`: an admin's passkey. From a position of the journal on nothing counts that the key signed.
pub async fn revoke_key(
    app: Data<App>,
    who: SignedIn,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    Caller::Person(who.0.clone()).administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<RevokeBody>(&request, payload).await?;
    let change = KeyChange::Revoke {
        keyid: body.keyid,
        from_seq: body.from_seq,
        reason: reason.clone().text(),
    };
    begin(&app, &who, reason, Act::RevokeKey).await?;
    Ok(changed(app.engine.change_keys(who.actor(), change).await?))
}

/// The journal has who confirmed it, and why, before anything is done about a key.
async fn begin(app: &App, who: &SignedIn, reason: Reason, act: Act) -> Result<(), Problem> {
    app.submit(who.actor(), reason.of(Command::BeginAct { act }))
        .await?;
    Ok(())
}
