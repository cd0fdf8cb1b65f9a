//! Audit bundles, for admins, auditors and keys with the scope `audit`: ask for one, see how far it is, fetch it.

use crate::audit::{Filter, Order};
use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::ids::PersonId;
use crate::domain::request::Status;
use crate::domain::review::JournalReview;
use crate::domain::time::Time;
use crate::evidence::bundle::verify::bundle;
use crate::evidence::dsse::PublicKey;
use crate::evidence::verify::Trust;
use crate::web::api::bounded;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::exports;
use crate::web::exports::{Job, State};
use crate::web::keys::{credential_keys, verifier_keys};
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::http::header;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest name of a project, in characters.
const PROJECT_CHARS_MAX: usize = 500;

/// What a bundle is asked for with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportBody {
    from: String,
    to: String,
    #[serde(default)]
    project: Option<String>,
    #[serde(default)]
    person: Option<String>,
    #[serde(default)]
    outcome: Option<String>,
}

impl ExportBody {
    /// The order, each member checked. Empty texts are as none, since forms send them.
    pub fn order(self) -> Result<Order, Problem> {
        let given = |it: Option<String>| it.filter(|it| !it.trim().is_empty());
        let person = match given(self.person) {
            None => None,
            Some(it) => Some(
                PersonId::parse(&it).ok_or_else(|| Problem::bad_field("person", "a person's id, per_…"))?,
            ),
        };
        let outcome = match given(self.outcome) {
            None => None,
            Some(it) => Some(
                Status::parse(&it)
                    .filter(|it| *it != Status::Pending)
                    .ok_or_else(|| {
                        Problem::bad_field(
                            "outcome",
                            "one of approved, rejected, expired, cancelled, superseded, skipped",
                        )
                    })?,
            ),
        };
        let project = given(self.project);
        if let Some(project) = &project {
            bounded("project", project, PROJECT_CHARS_MAX)?;
        }
        Ok(Order {
            from: instant("from", &self.from)?,
            to: instant("to", &self.to)?,
            filter: Filter {
                project,
                person,
                outcome,
            },
        })
    }
}

/// An instant (RFC 3339), or a day, which begins at midnight UTC.
pub fn instant(field: &str, text: &str) -> Result<Time, Problem> {
    let midnight = format!("{text}T00:00:00Z");
    let whole = if text.len() == 10 { midnight.as_str() } else { text };
    Time::parse(whole).ok_or_else(|| {
        Problem::bad_field(
            field,
            "an RFC 3339 time, as 2026-01-01T00:00:00Z, or a day, as 2026-01-01",
        )
    })
}

/// `POST /api/v1/audit/exports`: admins and auditors.
pub async fn start_export(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    start(&app, caller.actor(), "/api/v1", &request, payload).await
}

/// `POST /local/audit/exports`: the host.
pub async fn start_export_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    start(&app, Actor::Host, "/local", &request, payload).await
}

async fn start(
    app: &Data<App>,
    actor: Actor,
    base: &str,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<ExportBody>(request, payload).await?;
    let job = exports::start(app, actor, body.order()?).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("{base}/audit/exports/{}", job.id)))
        .json(json!({ "id": job.id, "status": "running" })))
}

/// `GET /api/v1/audit/exports`: admins and auditors. Newest first; those of this process that are still there.
pub async fn list_exports(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let items: Vec<Value> = app.exports.all().iter().map(|it| told(it, "/api/v1")).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/audit/exports/{id}`: admins and auditors.
pub async fn get_export(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    Ok(HttpResponse::Ok().json(told(&*app.exports.find(&id)?, "/api/v1")))
}

/// `GET /local/audit/exports/{id}`: the host.
pub async fn get_export_locally(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(told(&*app.exports.find(&id)?, "/local")))
}

/// `DELETE /api/v1/audit/exports/{id}`: admins and auditors. Calls it off, or throws it away; the journal keeps that it
/// was asked for.
pub async fn remove_export(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    app.exports.remove(&id)?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /api/v1/audit/exports/{id}/bundle`: admins and auditors. The archive, once it is done.
pub async fn get_bundle(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    exports::download(&app.exports.find(&id)?)
}

/// `GET /local/audit/exports/{id}/bundle`: the host.
pub async fn get_bundle_locally(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Problem> {
    exports::download(&app.exports.find(&id)?)
}

fn told(job: &Job, base: &str) -> Value {
    let filter = &job.order.filter;
    let mut value = json!({
        "id": job.id, "from": job.order.from, "to": job.order.to, "created_at": job.at,
        "project": filter.project, "person": filter.person, "outcome": filter.outcome.map(Status::name),
        "done": job.done.load(Ordering::Relaxed), "total": job.total.load(Ordering::Relaxed), "url": null,
    });
    match job.state() {
        State::Running => value["status"] = json!("running"),
        State::Failed(reason) => {
            value["status"] = json!("failed");
            value["reason"] = json!(reason);
        }
        State::Done { sha256, bytes } => {
            value["status"] = json!("done");
            value["done"] = value["total"].clone();
            value["url"] = json!(format!("{base}/audit/exports/{}/bundle", job.id));
            value["sha256"] = json!(sha256);
            value["bytes"] = json!(bytes);
        }
    }
    value
}

/// The same, for the jobs a page shows.
pub fn percent(job: &Arc<Job>) -> u64 {
    let (done, total) = (
        job.done.load(Ordering::Relaxed),
        job.total.load(Ordering::Relaxed),
    );
    (done * 100).checked_div(total).unwrap_or(0).min(100)
}

/// What a review of the journal is recorded with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewBody {
    from: String,
    to: String,
    note: String,
}

/// `POST /api/v1/audit/reviews`: admins and auditors. Signs off that the caller has looked a period over.
pub async fn review_journal(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let (body, _) = read_json::<ReviewBody>(&request, payload).await?;
    let command = Command::ReviewJournal {
        from: instant("from", &body.from)?,
        to: instant("to", &body.to)?,
        through: app.snapshot()?.size()?,
        note: body.note,
    };
    app.submit(caller.actor(), command).await?;
    Ok(HttpResponse::Created().json(json!({})))
}

/// `GET /api/v1/audit/reviews`: admins and auditors. Newest first.
pub async fn list_reviews(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let mut items = JournalReview::all(&app.snapshot()?)?;
    items.reverse();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// Largest bundle that is verified here, in bytes.
const BUNDLE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Time for a bundle to arrive.
const BUNDLE_SECONDS_MAX: u64 = 600;

/// `POST /api/v1/verify/bundle`: everybody who is signed in, and keys. The archive as the body; every check out.
pub async fn verify_bundle(app: Data<App>, _: Caller, mut payload: Payload) -> Result<HttpResponse, Problem> {
    let keys = credential_keys(&app.snapshot()?)?;
    let log_keys = verifier_keys(&app.snapshot()?)?;
    let mut upload = app.exports.upload()?;
    let whole = async {
        let mut bytes = 0;
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(|_| Problem::bad_request("The body broke off."))?;
            bytes += piece.len() as u64;
            if bytes > BUNDLE_BYTES_MAX {
                return Err(Problem::too_large(
                    usize::try_from(BUNDLE_BYTES_MAX).unwrap_or(usize::MAX),
                ));
            }
            upload.file.write_all(&piece).map_err(Problem::internal)?;
        }
        Ok(upload)
    };
    let limit = std::time::Duration::from_secs(BUNDLE_SECONDS_MAX);
    let mut upload = tokio::time::timeout(limit, whole)
        .await
        .unwrap_or_else(|_| Err(Problem::bad_request("The body came too slowly.")))?;
    let report = actix_web::web::block(move || {
        let keys: Vec<PublicKey> = keys
            .iter()
            .filter_map(|it| PublicKey::from_spki(&it.spki()).ok())
            .collect();
        let trust = Trust {
            keys: &keys,
            log_keys: &log_keys,
        };
        bundle(&mut upload.file, &trust)
    })
    .await
    .map_err(Problem::internal)?
    .map_err(Problem::internal)?;
    Ok(HttpResponse::Ok().json(report))
}
