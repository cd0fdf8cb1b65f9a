//! Policies: documents, versioned, checked before they count.

use crate::domain::decide::{lint_facts, simulate};
use crate::domain::governance::Governed;
use crate::domain::ids::Digest;
use crate::domain::policy::{Document, Evaluation, Hypothesis, ParseError, Warning, lint};
use crate::domain::project::PolicyRecord;
use crate::domain::state::Read;
use crate::web::api::bounded;
use crate::web::api::governance::{Change, govern};
use crate::web::app::App;
use crate::web::body::{parse, read_bytes};
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Largest question to the simulator, in bytes: a document, and thousands of files.
const SIMULATE_BYTES_MAX: usize = 2 * 1024 * 1024;
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
    stated: Stated,
    name: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    bounded("name", &name, 200)?;
    let document = read_bytes(&request, payload, DOCUMENT_BYTES_MAX).await?;
    let warnings = linted(&app, parsed(&document)?).await?;
    let before: Option<PolicyRecord> = app.snapshot()?.get(&name)?;
    let change = Change {
        change: Governed::Policy {
            name: name.clone(),
            document: Digest::of(&document),
        },
        document: Some(document),
        expected: expected_version(&request)?,
        reason: reason.text(),
    };
    if let Some(waits) = govern(&app, caller.actor(), change).await? {
        return Ok(waits.answer());
    }
    let record: PolicyRecord = app
        .snapshot()?
        .get(&name)?
        .ok_or_else(|| Problem::internal("a policy is missing"))?;
    let mut body = shown(&record);
    body["warnings"] = json!(warnings);
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
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let document = parsed(&read_bytes(&request, payload, DOCUMENT_BYTES_MAX).await?)?;
    let warnings = linted(&app, document).await?;
    Ok(HttpResponse::Ok().json(json!({ "valid": true, "warnings": warnings })))
}

/// Looks a document over with what this appliance knows: its people, its groups, and files that were changed lately. Off
/// the threads that answer requests.
pub async fn linted(app: &App, document: Document) -> Result<Vec<Warning>, Problem> {
    let (snapshot, now) = (app.snapshot()?, app.now());
    let warnings = web::block(move || lint_facts(now, &snapshot).map(|facts| lint(&document, &facts)))
        .await
        .map_err(Problem::internal)?;
    Ok(warnings?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimulateBody {
    policy: Option<Box<RawValue>>,
    name: Option<String>,
    change: Box<RawValue>,
}

/// `POST /api/v1/policies/simulate`: admins and auditors. What a policy makes of a change that need not exist.
pub async fn simulate_policy(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let bytes = read_bytes(&request, payload, SIMULATE_BYTES_MAX).await?;
    let body: SimulateBody = parse(&bytes)?;
    let asked =
        Hypothesis::parse(body.change.get().as_bytes()).map_err(|e| Problem::invalid(&e.field, e.reason))?;
    let snapshot = app.snapshot()?;
    let document = match (body.policy, body.name) {
        (Some(policy), None) => parsed(policy.get().as_bytes())?,
        (None, Some(name)) => {
            let record: Option<PolicyRecord> = snapshot.get(&name)?;
            let record = record
                .ok_or_else(|| Problem::invalid("name", format!("There is no policy named {name}.")))?;
            let bytes = snapshot.blob(&record.document)?;
            parsed(&bytes.ok_or_else(|| Problem::internal("a policy is missing"))?)?
        }
        _ => return Err(Problem::bad_field("policy", "either `policy` or `name`")),
    };
    Ok(HttpResponse::Ok().json(simulated(&app, document, asked).await?))
}

/// Asks the engine, with the settings of the project that the question names, if it is gated here. Off the threads that
/// answer requests.
pub async fn simulated(app: &App, document: Document, asked: Hypothesis) -> Result<Evaluation, Problem> {
    let snapshot = app.snapshot()?;
    let answer = web::block(move || simulate(&asked, Some(&document), &snapshot))
        .await
        .map_err(Problem::internal)?;
    Ok(answer?)
}
