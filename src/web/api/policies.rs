//! Policies: documents, versioned, checked before they count.

use crate::domain::governance::Governed;
use crate::domain::ids::Digest;
use crate::domain::policy::{Document, ParseError};
use crate::domain::project::PolicyRecord;
use crate::domain::state::Read;
use crate::web::api::bounded;
use crate::web::api::governance::{Change, govern};
use crate::web::app::App;
use crate::web::body::read_bytes;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

/// Largest policy document, in bytes; the parser's own limit.
pub(super) const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

pub(super) fn parsed(bytes: &[u8]) -> Result<Document, Problem> {
    Document::parse(bytes).map_err(|errors| {
        let listed: Vec<Value> = errors.iter().map(error_json).collect();
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Problem::invalid("policy", first).with_errors(json!(listed))
    })
}

fn error_json(it: &ParseError) -> Value {
    json!({ "line": it.line, "key": it.key, "reason": it.reason })
}

/// `GET /api/v1/policies`: admins and auditors.
pub async fn list_policies(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let items: Vec<_> = app.snapshot()?.all::<PolicyRecord>()?.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

pub(super) fn shown(it: &PolicyRecord) -> Value {
    json!({
        "name": it.name, "version": it.version, "sha256": it.document, "previous_sha256": it.previous,
        "reason": it.reason, "by": it.by, "proposal": it.proposal, "activated_at": it.activated_at,
    })
}

/// `GET /api/v1/policies/{name}`: admins and auditors. The document's exact bytes.
pub async fn get_policy(app: Data<App>, caller: Caller, name: Path<String>) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let snapshot = app.snapshot()?;
    let record: PolicyRecord = snapshot.get(&name)?.ok_or_else(Problem::not_found)?;
    let bytes = snapshot
        .blob(&record.document)?
        .ok_or_else(|| Problem::internal("a policy is missing"))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(bytes))
}

/// `PUT /api/v1/policies/{name}`: admins. Counts for requests opened from now on.
pub async fn put_policy(
    app: Data<App>,
    caller: Caller,
    name: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    bounded("name", &name, 200)?;
    let document = read_bytes(&request, payload, DOCUMENT_BYTES_MAX).await?;
    parsed(&document)?;
    let reason = request
        .headers()
        .get("x-reason")
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let reason = crate::domain::text::shortened(reason, 500);
    let before: Option<PolicyRecord> = app.snapshot()?.get(&name)?;
    let change = Change {
        change: Governed::Policy {
            name: name.clone(),
            document: Digest::of(&document),
        },
        document: Some(document),
        expected: expected_version(&request)?,
        reason,
    };
    if let Some(waits) = govern(&app, caller.actor(), change).await? {
        return Ok(waits.answer());
    }
    let record: PolicyRecord = app
        .snapshot()?
        .get(&name)?
        .ok_or_else(|| Problem::internal("a policy is missing"))?;
    let mut body = shown(&record);
    body["changed"] = json!(before.is_none_or(|it| it.version != record.version));
    Ok(HttpResponse::Ok().json(body))
}

/// The document the caller started from, where `If-Match` names one by its digest.
fn expected_version(request: &HttpRequest) -> Result<Option<Digest>, Problem> {
    let Some(value) = request.headers().get("if-match") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim_matches('"');
    let digest = Digest::parse(text)
        .ok_or_else(|| Problem::bad_field("If-Match", "the sha256 of a version, in quotes"))?;
    Ok(Some(digest))
}

/// `POST /api/v1/policies/validate`: admins and auditors. The body is the raw document.
pub async fn validate_policy(
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let document = read_bytes(&request, payload, DOCUMENT_BYTES_MAX).await?;
    parsed(&document)?;
    Ok(HttpResponse::Ok().json(json!({ "valid": true, "warnings": [] })))
}
