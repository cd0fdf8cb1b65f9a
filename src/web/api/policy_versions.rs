//! Earlier versions of policies, what differs between two, and what a new one would change.

use crate::domain::decide::{Impact, impact};
use crate::domain::ids::Digest;
use crate::domain::policy::{Document, Evaluation};
use crate::domain::project::PolicyRecord;
use crate::domain::state::{Read, Table, decode};
use crate::web::api::policies::{DOCUMENT_BYTES_MAX, parsed, shown};
use crate::web::app::App;
use crate::web::body::read_bytes;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

/// How far back "what would change" looks, in seconds: 30 days.
pub const PERIOD_SECONDS: i64 = 30 * 86_400;
/// The most requests it judges. Past it the answer says that older ones were left out.
pub const REQUESTS_MAX: usize = 5_000;
/// The most differences in an answer.
const DIFFERENCES_MAX: usize = 500;

/// Every version of a policy, oldest first.
pub fn versions(state: &impl Read, name: &str) -> Result<Vec<PolicyRecord>, Problem> {
    let rows = state.with_prefix(Table::PolicyVersions, &PolicyRecord::versions_prefix(name))?;
    let mut all = Vec::new();
    for (_, bytes) in rows {
        all.push(decode(&bytes)?);
    }
    Ok(all)
}

/// The exact bytes of a document.
pub fn document(state: &impl Read, digest: &Digest) -> Result<Vec<u8>, Problem> {
    let bytes = state.blob(digest)?;
    bytes.ok_or_else(|| Problem::internal("a policy is missing"))
}

fn version(state: &impl Read, name: &str, number: &str) -> Result<PolicyRecord, Problem> {
    let number: u64 = number.parse().map_err(|_| Problem::not_found())?;
    let found = versions(state, name)?.into_iter().find(|it| it.version == number);
    found.ok_or_else(Problem::not_found)
}

/// `GET /api/v1/policies/{name}/versions`: admins and auditors. Newest first.
pub async fn list_versions(
    app: Data<App>,
    caller: Caller,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let all = versions(&app.snapshot()?, &name)?;
    if all.is_empty() {
        return Err(Problem::not_found());
    }
    let items: Vec<Value> = all.iter().rev().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/policies/{name}/versions/{version}`: admins and auditors. The document's exact bytes.
pub async fn get_version(
    app: Data<App>,
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let snapshot = app.snapshot()?;
    let bytes = document(&snapshot, &version(&snapshot, &path.0, &path.1)?.document)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(bytes))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    from: String,
    to: String,
}

/// `GET /api/v1/policies/{name}/diff?from=1&to=2`: admins and auditors. A unified diff, as text.
pub async fn diff_versions(
    app: Data<App>,
    caller: Caller,
    name: Path<String>,
    query: Query<DiffQuery>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let snapshot = app.snapshot()?;
    let text = |number: &str| -> Result<String, Problem> {
        let record = version(&snapshot, &name, number)?;
        let bytes = document(&snapshot, &record.document)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (from, to) = (text(&query.from)?, text(&query.to)?);
    let diff = similar::TextDiff::from_lines(&from, &to)
        .unified_diff()
        .header(
            &format!("version {}", query.from),
            &format!("version {}", query.to),
        )
        .to_string();
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(diff))
}

/// `POST /api/v1/policies/{name}/what-would-change`: admins and auditors. The body is the raw document; nothing of it
/// holds afterwards.
pub async fn what_would_change(
    app: Data<App>,
    caller: Caller,
    name: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let bytes = read_bytes(&request, payload, DOCUMENT_BYTES_MAX).await?;
    let document = parsed(&bytes)?;
    let found = replayed(&app, name.into_inner(), document).await?;
    let items: Vec<Value> = found
        .differences
        .iter()
        .take(DIFFERENCES_MAX)
        .map(|it| {
            json!({
                "request": it.request.id, "title": it.request.title, "kind": it.request.kind.name(),
                "status": it.request.status.name(), "created_at": it.request.created_at,
                "before": told(&it.before), "after": told(&it.after),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "looked_at": found.looked_at, "older_left_out": found.more, "differences": found.differences.len(),
        "items": items,
    })))
}

/// Judges the requests of the last 30 days by a document that does not hold. Off the threads that answer requests: there
/// may be thousands.
pub async fn replayed(app: &App, name: String, document: Document) -> Result<Impact, Problem> {
    let snapshot = app.snapshot()?;
    let since = crate::domain::time::Time(app.now().0 - PERIOD_SECONDS * 1000);
    let found = web::block(move || impact(&name, &document, since, REQUESTS_MAX, &snapshot))
        .await
        .map_err(Problem::internal)?;
    Ok(found?)
}

fn told(it: &Evaluation) -> Value {
    json!({
        "outcome": it.outcome, "obligations": it.obligations, "break_glass": it.break_glass, "ttl": it.ttl,
        "skipped_by": it.skipped_by,
    })
}
