//! Keys of machine callers, for admins. The secret is shown once.

use crate::domain::command::Command;
use crate::domain::ids::{ApiKeyId, PersonId};
use crate::domain::people::{ApiKey, Scope, callback_secret_name};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::identity::{new_api_key, random_id};
use crate::outbound::standard_webhook::SigningSecret;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::{Reason, Stated};
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How long a key lives when nobody says, in seconds.
pub const KEY_SECONDS: u64 = 365 * 86_400;
/// Longest life of a key: every key expires.
const KEY_SECONDS_MAX: u64 = 2 * 365 * 86_400;
/// Most projects one key may be bound to.
const PROJECTS_MAX: usize = 100;

/// Body of `POST /api/v1/api-keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBody {
    pub name: String,
    pub scopes: Vec<String>,
    #[serde(default)]
    pub projects: Vec<String>,
    /// Person id or e-mail.
    pub owner: Option<String>,
    pub expires_at: Option<String>,
}

/// Makes a key for `POST /api/v1/api-keys` and for the Unix socket.
pub async fn make(
    app: &App,
    actor: crate::domain::event::Actor,
    owner_by_default: Option<PersonId>,
    reason: Option<Reason>,
    body: KeyBody,
) -> Result<Value, Problem> {
    let scopes = body
        .scopes
        .iter()
        .map(|it| {
            Scope::parse(it).ok_or_else(|| Problem::bad_field("scopes", "any of request, audit, admin"))
        })
        .collect::<Result<BTreeSet<_>, _>>()?;
    if body.projects.len() > PROJECTS_MAX || body.projects.iter().any(|it| it.is_empty() || it.len() > 255) {
        return Err(Problem::bad_field(
            "projects",
            format!("at most {PROJECTS_MAX} names of 1 to 255 bytes"),
        ));
    }
    let owner = match &body.owner {
        Some(who) => Some(super::local::person_by(app, who)?.id),
        None => owner_by_default,
    };
    let now = app.now();
    let lifetime_seconds = match &body.expires_at {
        None => KEY_SECONDS,
        Some(text) => {
            let until =
                Time::parse(text).ok_or_else(|| Problem::bad_field("expires_at", "an RFC 3339 time"))?;
            let seconds = now.seconds_until(until);
            if !(1..=KEY_SECONDS_MAX).contains(&seconds) {
                return Err(Problem::bad_field(
                    "expires_at",
                    "in the future, and within two years",
                ));
            }
            seconds
        }
    };
    let key = ApiKeyId::from_random(random_id());
    let secret = new_api_key();
    let command = Command::CreateApiKey {
        key: key.clone(),
        name: body.name,
        secret_sha256: secret.sha256,
        scopes,
        projects: body.projects.into_iter().collect(),
        owner,
        lifetime_seconds,
    };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(Problem::internal)?;
    let callback_secret = SigningSecret::from_random(&bytes).text();
    let name = callback_secret_name(&key);
    let sealed = (app.seal)(&name, callback_secret.expose().as_bytes());
    let command = match reason {
        Some(reason) => reason.of(command),
        None => command,
    };
    app.submit_with_secrets(actor, command, vec![(name, sealed)])
        .await?;
    Ok(json!({
        "id": key,
        "key": secret.text.as_str(),
        "callback_secret": callback_secret.expose(),
        "expires_at": now.plus_seconds(lifetime_seconds),
    }))
}

/// `POST /api/v1/api-keys`: admins. Whoever makes a key is answerable for it.
pub async fn create_api_key(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<KeyBody>(&request, payload).await?;
    if body.owner.is_some() {
        // Else one could approve what one asks, by naming somebody else.
        return Err(Problem::invalid(
            "owner",
            "a key belongs to whoever makes it; another owner is named on the host",
        ));
    }
    let maker = match &caller {
        Caller::Person(person) => Some(person.id.clone()),
        Caller::Key(key) => key.owner.clone(),
    };
    let made = make(&app, caller.actor(), maker, Some(reason), body).await?;
    Ok(HttpResponse::Created().json(made))
}

/// `GET /api/v1/api-keys`: admins and auditors. Never the secrets.
pub async fn list_api_keys(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let keys: Vec<ApiKey> = app.snapshot()?.all()?;
    let items: Vec<_> = keys
        .iter()
        .map(|it| {
            json!({
                "id": it.id, "name": it.name, "scopes": it.scopes, "projects": it.projects, "owner": it.owner,
                "created_at": it.created_at, "expires_at": it.expires_at, "revoked": it.revoked,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `DELETE /api/v1/api-keys/{id}`: admins. Counts from the next call on.
pub async fn revoke_api_key(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let key = ApiKeyId::parse(&id).ok_or_else(Problem::not_found)?;
    app.submit(caller.actor(), reason.of(Command::RevokeApiKey { key }))
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
