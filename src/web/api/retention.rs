//! Erasing documents whose retention is over: what would go, the order that a second admin confirms, and what was done.

use crate::audit;
use crate::audit::Erasable;
use crate::domain::governance::Governed;
use crate::domain::project::{Project, ProjectSettings};
use crate::domain::retention::{Erasure, ErasureScope, RETENTION_DAYS};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::web::api::governance::{Change, govern};
use crate::web::api::integrations::find_project;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureBody {
    scope: ErasureScope,
    before: Option<Time>,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

/// `GET /api/v1/erasures`: admins and auditors. Newest first.
pub async fn list_erasures(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let mut all: Vec<Erasure> = app.snapshot()?.all()?;
    all.sort_by_key(|it| std::cmp::Reverse(it.seq));
    Ok(HttpResponse::Ok().json(json!({ "items": all, "next": null })))
}

/// `POST /api/v1/erasures/preview`: admins and auditors. What an erasure would take away; nothing is changed.
pub async fn preview_erasure(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let (body, _) = read_json::<ErasureBody>(&request, payload).await?;
    let before = before(&app, &body)?;
    let found = count(&app, body.scope, before).await?;
    let mut shown = serde_json::to_value(&found).map_err(Problem::internal)?;
    shown["before"] = json!(before);
    Ok(HttpResponse::Ok().json(shown))
}

/// `POST /api/v1/erasures`: admins. A proposal, which a second admin confirms with a passkey.
pub async fn order_erasure(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let (body, _) = read_json::<ErasureBody>(&request, payload).await?;
    let Caller::Person(_) = &caller else {
        return Err(Problem::forbidden("A person orders an erasure, not a key."));
    };
    let before = before(&app, &body)?;
    let reason = stated.or(body.reason)?.text();
    let found = count(&app, body.scope.clone(), before).await?;
    if found.requests == 0 && !matches!(body.scope, ErasureScope::Request { .. }) {
        return Err(Problem::invalid(
            "before",
            "No request of these has documents that may be erased.",
        ));
    }
    let change = Governed::Erasure {
        scope: body.scope,
        before,
    };
    match govern(&app, caller.actor(), Change::of(change, reason)).await? {
        Some(waits) => Ok(waits.answer()),
        None => Err(Problem::internal("an erasure by one admin")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionBody {
    days: u32,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

/// `PUT /api/v1/integrations/{id}/projects/{pid}/retention`: admins. How many days documents are kept, all else as it is.
pub async fn put_retention(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    ids: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let record = find_project(&app, &ids.0, &ids.1)?;
    let (body, _) = read_json::<RetentionBody>(&request, payload).await?;
    let change = Governed::Project {
        project: record.id,
        settings: ProjectSettings {
            retention_days: body.days,
            ..record.settings
        },
    };
    let reason = stated.or(body.reason)?.text();
    if let Some(waits) = govern(&app, caller.actor(), Change::of(change, reason)).await? {
        return Ok(waits.answer());
    }
    let record = find_project(&app, &ids.0, &ids.1)?;
    Ok(HttpResponse::Ok().json(json!({ "project": record.id, "days": record.settings.retention_days })))
}

/// The time before which requests have to have ended: as given, else as early as the retention lets it be.
fn before(app: &App, body: &ErasureBody) -> Result<Time, Problem> {
    if let Some(before) = body.before {
        return Ok(before);
    }
    let days = match &body.scope {
        ErasureScope::Project { project } => app
            .snapshot()?
            .get::<Project>(project.as_str())?
            .map(|it| it.settings.retention_days),
        ErasureScope::Pipelines { .. } => None,
        ErasureScope::Request { .. } => Some(0),
    };
    Ok(earlier(app.now(), days.unwrap_or(RETENTION_DAYS)))
}

/// So many days before a time.
pub fn earlier(time: Time, days: u32) -> Time {
    Time(time.0 - i64::from(days) * 86_400_000)
}

/// Counts what an erasure would take away, off the threads that answer requests.
///
/// # Errors
/// When it can't be read.
pub async fn count(app: &Data<App>, scope: ErasureScope, before: Time) -> Result<Erasable, Problem> {
    let (inner, now) = (app.clone(), app.now());
    let counted = web::block(move || audit::erasable(&inner.store, &scope, before, now)).await;
    counted.map_err(Problem::internal)?.map_err(Problem::internal)
}
