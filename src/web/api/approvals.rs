//! Requests: pipelines open them, wait for them, cancel and use them; people and auditors list them.

use crate::domain::attention::match_code;
use crate::domain::command::{Command, OpenRequest, Reply};
use crate::domain::decide::{Roster, as_judged_now, hopeless, may_see, reads_all, standing};
use crate::domain::deployment::{Deployment, DeploymentFacts};
use crate::domain::facts::Account;
use crate::domain::follow_up::CheckedCommit;
use crate::domain::ids::{Digest, RequestId};
use crate::domain::people::{ApiKey, Role, Scope, callback_secret_name};
use crate::domain::request::{Opening, Request, Requester, Status};
use crate::domain::search::find;
use crate::domain::state::{Read, decode};
use crate::evidence::subject::{ActionDigest, ActionKind, ActionSubject};
use crate::identity::random_id;
use crate::outbound::parse_base;
use crate::store::Snapshot;
use crate::web::api::{bounded, page_size};
use crate::web::app::{App, Shown};
use crate::web::body::read_json;
use crate::web::filters::Filters;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::http::header;
use actix_web::web::{Bytes, Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest action text, in characters: a long commit subject and a line of context.
const ACTION_CHARS_MAX: usize = 2_000;
/// Longest name of an environment or project.
const NAME_CHARS_MAX: usize = 255;
/// Longest time a request may be asked to wait (contract §3.1).
const TTL_SECONDS_MAX: u64 = 86_400;
/// How long an answer about a request is given again.
const SHOWN_AGAIN: Duration = Duration::from_secs(1);
/// Longest callback URL.
const CALLBACK_CHARS_MAX: usize = 1_000;
/// Longest `wait`.
const WAIT_SECONDS_MAX: u64 = 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestBody {
    action: String,
    ttl_seconds: Option<Value>,
    metadata: Option<Box<RawValue>>,
    environment: Option<String>,
    project: Option<String>,
    subject: Option<SubjectBody>,
    callback_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectBody {
    name: Option<String>,
    digest: DigestBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestBody {
    #[serde(rename = "gitCommit")]
    git_commit: Option<String>,
    sha256: Option<String>,
}

/// `POST /api/v1/approvals/request`: keys with the scope `request` or `admin`.
pub async fn request_approval(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let key = requesting_key(&caller)?;
    let (body, bytes) = read_json::<RequestBody>(&request, payload).await?;
    bounded("action", &body.action, ACTION_CHARS_MAX)?;
    for (field, text) in [("environment", &body.environment), ("project", &body.project)] {
        if let Some(text) = text {
            bounded(field, text, NAME_CHARS_MAX)?;
        }
    }
    if let Some(url) = &body.callback_url {
        callback(&app, key, url)?;
    }
    let ttl_seconds = body.ttl_seconds.as_ref().map(ttl).transpose()?;
    let metadata = body.metadata.as_deref().map(RawValue::get);
    let claimed: Option<Value> = metadata
        .map(serde_json::from_str)
        .transpose()
        .map_err(|_| Problem::bad_field("metadata", "not JSON"))?;
    if claimed.as_ref().is_some_and(|it| !it.is_object()) {
        return Err(Problem::bad_field("metadata", "must be an object"));
    }
    let digest = match &body.subject {
        Some(subject) => Some(subject_digest(subject)?),
        None => claimed
            .as_ref()
            .and_then(|it| it.get("commit")?.as_str())
            .filter(|it| is_hex(it, &[40, 64]))
            .map(|it| ("gitCommit".to_owned(), it.to_ascii_lowercase())),
    };
    let project = project_of(key, body.project)?;
    let id = RequestId::from_random(random_id());
    let requester = format!("key:{}", key.id);
    let subject = ActionSubject {
        kind: if body.environment.is_some() {
            ActionKind::Deployment
        } else {
            ActionKind::Action
        },
        action: &body.action,
        environment: body.environment.as_deref(),
        project: project.as_deref(),
        digest: match &digest {
            Some((kind, hex)) if kind == "gitCommit" => Some(ActionDigest::GitCommit(hex)),
            Some((_, hex)) => {
                Some(ActionDigest::Sha256(Digest::parse(hex).ok_or_else(|| {
                    Problem::bad_field("subject.digest.sha256", "64 hex digits")
                })?))
            }
            None => None,
        },
        requester: &requester,
        claimed_sha256: Digest::of(metadata.unwrap_or_default().as_bytes()),
        job: None,
    };
    let subject = String::from_utf8(subject.to_bytes()).map_err(Problem::internal)?;
    let open = OpenRequest {
        id,
        idempotency: idempotency_key(&request, key.id.as_str())?.map(|it| (it, Digest::of(&bytes))),
        ttl_seconds,
        requester: Requester::Key {
            id: key.id.clone(),
            name: key.name.clone(),
        },
        owner: key.owner.clone(),
        trial: false,
        subject,
        claimed: metadata.map(str::to_owned),
        digest,
        callback_url: body.callback_url,
        action: body.action,
        environment: body.environment,
        project,
    };
    match app
        .submit(caller.actor(), Command::OpenRequest(Box::new(open)))
        .await?
    {
        Reply::Request {
            id,
            status,
            expires_at,
            match_code,
            ..
        } => {
            // Compact and without a word of the caller's: shells split and expand this answer.
            let mut body = json!({
                "id": id,
                "status": status.name(),
                "expires_at": expires_at,
                "url": format!("{}/a/{id}", app.public_url),
            });
            if let Some(code) = match_code {
                body["match_code"] = json!(code.to_string());
            }
            Ok(HttpResponse::Created()
                .insert_header((header::LOCATION, format!("/api/v1/approvals/{id}")))
                .json(body))
        }
        other => Err(Problem::internal(format!("{other:?}"))),
    }
}

/// Where a key may let itself be called back: a key with a signing secret, a host that an admin listed, and nothing in the
/// URL that would be a secret in the journal.
fn callback(app: &App, key: &ApiKey, text: &str) -> Result<(), Problem> {
    let invalid = |reason: String| Problem::invalid("callback_url", reason);
    bounded("callback_url", text, CALLBACK_CHARS_MAX)?;
    let url = parse_base(text, &app.callbacks.allow_http).map_err(|e| invalid(e.to_string()))?;
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let listed = app.callbacks.hosts.iter().any(|it| match it.strip_prefix("*.") {
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|it| it.ends_with('.') && it.len() > 1),
        None => host == *it,
    });
    if !listed {
        return Err(invalid(format!(
            "callbacks to {host} are not allowed: an admin lists the hosts in callbacks.hosts"
        )));
    }
    if app.snapshot()?.secret(&callback_secret_name(&key.id))?.is_none() {
        return Err(invalid("this key has no callback secret; make a new key".into()));
    }
    Ok(())
}

fn ttl(value: &Value) -> Result<u64, Problem> {
    value
        .as_u64()
        .filter(|it| (1..=TTL_SECONDS_MAX).contains(it))
        .ok_or_else(|| Problem::bad_field("ttl_seconds", format!("an integer from 1 to {TTL_SECONDS_MAX}")))
}

fn subject_digest(subject: &SubjectBody) -> Result<(String, String), Problem> {
    if let Some(name) = &subject.name {
        bounded("subject.name", name, NAME_CHARS_MAX)?;
    }
    match (&subject.digest.git_commit, &subject.digest.sha256) {
        (Some(hex), None) if is_hex(hex, &[40, 64]) => Ok(("gitCommit".into(), hex.to_ascii_lowercase())),
        (None, Some(hex)) if is_hex(hex, &[64]) => Ok(("sha256".into(), hex.to_ascii_lowercase())),
        (Some(_), None) => Err(Problem::bad_field(
            "subject.digest.gitCommit",
            "40 or 64 hex digits",
        )),
        (None, Some(_)) => Err(Problem::bad_field("subject.digest.sha256", "64 hex digits")),
        _ => Err(Problem::bad_field(
            "subject.digest",
            "exactly one of gitCommit and sha256",
        )),
    }
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A key bound to projects asks for one of them; bound to one, it need not say which.
fn project_of(key: &ApiKey, asked: Option<String>) -> Result<Option<String>, Problem> {
    match asked {
        Some(name) if key.projects.is_empty() || key.projects.contains(&name) => Ok(Some(name)),
        Some(_) => Err(Problem::not_found()),
        None if key.projects.is_empty() => Ok(None),
        None if key.projects.len() == 1 => Ok(key.projects.first().cloned()),
        None => Err(Problem::bad_field(
            "project",
            "this key is for several projects; say which",
        )),
    }
}

/// The digest of the header `Idempotency-Key` and of whose it is, if it is there.
fn idempotency_key(request: &HttpRequest, caller: &str) -> Result<Option<Digest>, Problem> {
    let Some(value) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    let value = value.to_str().unwrap_or_default();
    if value.is_empty() || value.len() > 255 {
        return Err(Problem::bad_field(
            "Idempotency-Key",
            "1 to 255 printable ASCII characters",
        ));
    }
    Ok(Some(Digest::of(format!("{caller}\0{value}").as_bytes())))
}

fn requesting_key(caller: &Caller) -> Result<&ApiKey, Problem> {
    match caller {
        Caller::Key(key) if key.scopes.contains(&Scope::Request) || key.scopes.contains(&Scope::Admin) => {
            Ok(key)
        }
        _ => Err(Problem::forbidden(
            "This call is for keys with the scope request.",
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    wait: Option<u64>,
}

/// `GET /api/v1/approvals/{id}`: whoever may see the request. With `wait`, answers when its status or a decision
/// changes, or after that many seconds.
pub async fn get_approval(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
    query: Query<WaitQuery>,
) -> Result<HttpResponse, Problem> {
    let asked = RequestId::parse(&id).ok_or_else(Problem::not_found)?;
    // Before the first look, so that nothing happens unseen in between.
    let seconds = query.wait.filter(|it| *it > 0);
    let mut wait = seconds.map(|_| app.waits.enter(&asked));
    let (first, shown) = look(&app, &caller, &asked)?;
    let (Some(seconds), Some(wait)) = (seconds, wait.as_mut()) else {
        return Ok(as_json(shown));
    };
    if first.status != Status::Pending {
        return Ok(as_json(shown));
    }
    let _place = match &caller {
        Caller::Key(key) => Some(app.limits.poll(&key.id)?),
        Caller::Person(_) => None,
    };
    let before = first.changed_seq;
    drop((first, shown));
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds.min(WAIT_SECONDS_MAX));
    loop {
        tokio::select! {
            () = wait.woken() => {}
            () = tokio::time::sleep_until(until) => break,
        }
        let now: Option<Request> = app.snapshot()?.get(asked.as_str())?;
        if now.is_some_and(|it| it.changed_seq != before) {
            break;
        }
    }
    let (_, shown) = look(&app, &caller, &asked)?;
    Ok(as_json(shown))
}

fn as_json(body: Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(body)
}

/// The request as this caller sees it, and its JSON. The same question again before anything was recorded has the same
/// answer; for a second, since some of it follows from the time.
fn look(app: &App, caller: &Caller, id: &RequestId) -> Result<(Arc<Request>, Bytes), Problem> {
    let size = app.engine.size();
    if let Some(it) = recent(app, size, id, |it| is_own(caller, it)) {
        return match sees(caller, &it.request) {
            true => Ok((it.request, it.body)),
            false => Err(Problem::not_found()),
        };
    }
    let snapshot = app.snapshot()?;
    let request = visible_request(&snapshot, caller, id.as_str())?;
    let mut shown = show(app, &snapshot, &request)?;
    // Only for whoever asked: the approver is to find it there.
    let own = is_own(caller, &request);
    if let Some(it) = match_code(&request).filter(|_| own) {
        shown["match_code"] = json!(it.code.to_string());
    }
    let (request, body) = (Arc::new(request), Bytes::from(shown.to_string()));
    let kept = Shown {
        request: request.clone(),
        body: body.clone(),
        at: Instant::now(),
    };
    app.recent_requests.put(size, (id.clone(), own), kept);
    Ok((request, body))
}

/// What was shown of a request since the journal grew, and not too long ago: to whoever asked it, or to anybody else.
fn recent(app: &App, size: u64, id: &RequestId, is_own: impl Fn(&Request) -> bool) -> Option<Shown> {
    [true, false].into_iter().find_map(|own| {
        let found = app.recent_requests.get(size, &(id.clone(), own))?;
        (found.at.elapsed() < SHOWN_AGAIN && is_own(&found.request) == own).then_some(found)
    })
}

/// The answer that a key got, or another one like it, since the journal grew; `None` says nothing about the request.
pub fn shown_recently(app: &App, key: &ApiKey, id: &RequestId) -> Option<Bytes> {
    let shown = recent(app, app.engine.size(), id, |it| asked(key, it))?;
    may_see(key, &shown.request).then_some(shown.body)
}

/// Whether the caller is the key that asked.
fn is_own(caller: &Caller, request: &Request) -> bool {
    matches!(caller, Caller::Key(key) if asked(key, request))
}

fn asked(key: &ApiKey, request: &Request) -> bool {
    matches!(&request.requester, Requester::Key { id, .. } if *id == key.id)
}

fn sees(caller: &Caller, request: &Request) -> bool {
    match caller {
        Caller::Person(person) => !person.roles.is_empty(),
        Caller::Key(key) => may_see(key, request),
    }
}

/// The request by that id, if the caller may know of it.
pub fn visible_request(snapshot: &Snapshot, caller: &Caller, id: &str) -> Result<Request, Problem> {
    let id = RequestId::parse(id).ok_or_else(Problem::not_found)?;
    let request: Request = snapshot.get(id.as_str())?.ok_or_else(Problem::not_found)?;
    if sees(caller, &request) {
        Ok(as_judged_now(request, snapshot)?)
    } else {
        Err(Problem::not_found())
    }
}

/// What a request was opened with.
pub fn opening_of(snapshot: &Snapshot, request: &Request) -> Result<Opening, Problem> {
    let blob = snapshot.blob(&request.opening)?;
    let blob = blob.ok_or_else(|| Problem::internal(format!("the opening of {} is missing", request.id)))?;
    Ok(decode(&blob)?)
}

fn show(app: &App, snapshot: &Snapshot, request: &Request) -> Result<Value, Problem> {
    let opening = opening_of(snapshot, request)?;
    let raw =
        |text: &str| -> Result<Value, Problem> { serde_json::from_str(text).map_err(Problem::internal) };
    let (roster, now) = (Roster::load(snapshot)?, app.now());
    let standing = standing(request, &roster, now);
    let obligations: Vec<Value> = request
        .obligations
        .iter()
        .zip(&standing.filled)
        .map(|(it, filled)| {
            let approved = filled.persons.len();
            json!({ "rule": it.rule, "methods": it.methods, "quorum": it.quorum, "approved": approved })
        })
        .collect();
    let decisions: Vec<Value> = request
        .decisions
        .iter()
        .map(|it| {
            json!({
                "approver": { "id": it.person, "name": it.name },
                "decision": it.answer.name(),
                "method": it.method,
                "grade": it.method.grade(),
                "decided_at": it.decided_at,
                "comment": it.comment,
                "credential": format!("crd_{}", it.credential),
            })
        })
        .collect();
    let (kind, id, name) = request.requester.parts();
    let mut shown = json!({
        "id": request.id,
        "kind": request.kind.name(),
        "status": request.status.name(),
        "action": request.title,
        "subject": raw(&opening.subject)?,
        "requested_by": { "kind": kind, "id": id, "name": name },
        "created_at": request.created_at,
        "expires_at": request.expires_at,
        "environment": request.environment,
        "project": request.project_name,
        "obligations": obligations,
        "decisions": decisions,
        "claimed": opening.claimed.as_deref().map_or_else(|| Ok(json!({})), raw)?,
        "url": format!("{}/a/{}", app.public_url, request.id),
    });
    if request.calls_back {
        shown["callback"] = match &request.called_back {
            None => json!({ "state": "owed" }),
            Some(it) => json!({
                "state": if it.delivered { "delivered" } else { "failed" }, "reason": it.reason, "at": it.at,
            }),
        };
    }
    if opening.commit_of.is_some() {
        shown["verified"] = request.commit.as_ref().map_or(Value::Null, commit_shown);
    }
    if let Some(at) = request.consumed_at {
        shown["consumed_at"] = json!(at);
    }
    if let Some(at) = request.decided_at {
        shown["decided_at"] = json!(at);
    }
    if let Some(why) = &request.ended_because {
        shown["ended_because"] = json!(why);
    }
    if let Some(key) = &request.deployment {
        let record: Option<Deployment> = snapshot.get(&key.row())?;
        shown["deployment"] = deployment_shown(request, opening.deployment.as_deref(), record.as_ref());
    }
    let hopeless = hopeless(request, &roster, now);
    if !hopeless.is_empty() {
        shown["unsatisfiable"] = json!(hopeless);
    }
    if !opening.notes.is_empty() {
        shown["notes"] = json!(opening.notes);
    }
    Ok(shown)
}

/// What a forge said of the commit that a pipeline named.
fn commit_shown(it: &CheckedCommit) -> Value {
    json!({
        "project": it.project,
        "known": it.facts.is_some(),
        "title": it.facts.as_ref().map(|it| &it.title),
        "author": it.facts.as_ref().map(|it| &it.author),
        "committer": it.facts.as_ref().map(|it| &it.committer),
        "committed_at": it.facts.as_ref().map(|it| &it.committed_at),
        "web_url": it.facts.as_ref().and_then(|it| it.web_url.as_ref()),
        "checked_at": it.at,
    })
}

/// What was read about a deployment on its forge, and how it stands there.
fn deployment_shown(
    request: &Request,
    facts: Option<&DeploymentFacts>,
    record: Option<&Deployment>,
) -> Value {
    let current = record.filter(|it| it.request.as_ref() == Some(&request.id));
    let account = |it: &Account| json!({ "id": it.id, "username": it.username, "name": it.name });
    json!({
        "job": facts.map(|it| it.key.job),
        "job_name": facts.map(|it| &it.job_name),
        "pipeline": facts.map(|it| it.pipeline),
        "deployment": facts.map(|it| it.deployment),
        "ref": facts.map(|it| &it.ref_name),
        "tier": facts.and_then(|it| it.tier.as_ref()),
        "triggered_by": facts.map(|it| account(&it.triggered_by)),
        "web_url": facts.map(|it| &it.web_url),
        "state": current.map(|it| it.state),
        "started_by": current.and_then(|it| it.started_by.as_ref()).map(account),
        "refused": current.and_then(|it| it.refused.as_ref()),
    })
}

/// `GET /api/v1/approvals/{id}/trace`: whoever may see the request. Path → rules → obligation → which decision counted, or
/// why not.
pub async fn get_trace(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let request = visible_request(&snapshot, &caller, &id)?;
    let opening = opening_of(&snapshot, &request)?;
    let standing = standing(&request, &Roster::load(&snapshot)?, app.now());
    let stories: Vec<Value> = standing
        .stories
        .iter()
        .chain(&standing.break_glass)
        .map(|it| {
            let not_counted = it.not_counted.iter();
            let not_counted: Vec<Value> = not_counted
                .map(|(person, why)| json!({ "person": person, "why": why }))
                .collect();
            json!({ "rule": it.rule, "sentence": it.sentence, "counted": it.counted, "not_counted": not_counted })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "policy": request.policy,
        "obligations": request.obligations,
        "break_glass": request.break_glass,
        "ttl": request.ttl_seconds,
        "blocked": request.blocked,
        "skipped_by": opening.skipped_by,
        "trace": opening.trace,
        "reasons": opening.notes,
        "decisions": stories,
    })))
}

/// `GET /api/v1/approvals`: newest first; a key sees what it may.
pub async fn list_approvals(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (filters, others) = Filters::read(request.query_string());
    let (mut limit, mut before) = (None, None);
    for (name, value) in &others {
        let number = value.parse::<u64>().ok();
        match name.as_str() {
            "limit" => {
                let given = number.and_then(|it| usize::try_from(it).ok());
                limit = Some(given.ok_or_else(|| Problem::bad_field("limit", "not a number"))?);
            }
            "after" => {
                let cursor =
                    number.ok_or_else(|| Problem::bad_field("after", "not a cursor of this list"))?;
                before = Some(cursor);
            }
            other => return Err(Problem::bad_field(other, "not a parameter of this list")),
        }
    }
    let limit = page_size(limit)?;
    let mut query = filters
        .query()
        .map_err(|wrong| Problem::bad_field(wrong.field, wrong.reason))?;
    if let Caller::Key(key) = &caller {
        query.seen_by(key, reads_all(key));
    }
    let snapshot = app.snapshot()?;
    let found = find(&snapshot, &query, before, limit, |it| sees(&caller, it))?;
    let mut items = Vec::with_capacity(found.requests.len());
    for it in found.requests {
        items.push(show(&app, &snapshot, &as_judged_now(it, &snapshot)?)?);
    }
    let next = found.more.before().map(|it| it.to_string());
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next })))
}

/// `POST /api/v1/approvals/{id}/cancel`: the key that asked, or an admin.
pub async fn cancel_approval(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let request = changeable(&app, &caller, &id)?;
    let who = match &caller {
        Caller::Person(it) => it.name.clone(),
        Caller::Key(it) => it.name.clone(),
    };
    let reason = format!("Cancelled by {who}.");
    app.submit(
        caller.actor(),
        Command::CancelRequest {
            request: request.id.clone(),
            reason,
        },
    )
    .await?;
    let (_, shown) = look(&app, &caller, &request.id)?;
    Ok(as_json(shown))
}

/// `POST /api/v1/approvals/{id}/consume`: the key that asked. 200 once, and to the repetition of the same use.
pub async fn consume_approval(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let used_by = match &caller {
        Caller::Key(key) => idempotency_key(&request, key.id.as_str())?,
        Caller::Person(person) => idempotency_key(&request, person.id.as_str())?,
    };
    let request = changeable(&app, &caller, &id)?;
    app.submit(
        caller.actor(),
        Command::ConsumeRequest {
            request: request.id.clone(),
            idempotency: used_by,
        },
    )
    .await?;
    let (_, shown) = look(&app, &caller, &request.id)?;
    Ok(as_json(shown))
}

/// `POST /api/v1/approvals/{id}/ask-again`: approvers and admins. A deployment on a forge whose request ran out is asked
/// again, under a new id, as soon as the forge was looked at.
pub async fn ask_again(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    let request = visible_request(&app.snapshot()?, &caller, &id)?;
    let may = match &caller {
        Caller::Person(person) => person.has(Role::Approver) || person.has(Role::Admin),
        Caller::Key(key) => key.scopes.contains(&Scope::Admin),
    };
    if !may {
        return Err(Problem::forbidden("Approvers and admins ask again."));
    }
    let request = request.id;
    app.submit(caller.actor(), Command::AskDeploymentAgain { request })
        .await?;
    Ok(HttpResponse::Accepted().json(json!({ "status": "asked" })))
}

fn changeable(app: &App, caller: &Caller, id: &str) -> Result<Request, Problem> {
    let snapshot = app.snapshot()?;
    let request = visible_request(&snapshot, caller, id)?;
    let own = match (caller, &request.requester) {
        (Caller::Key(key), Requester::Key { id, .. }) => key.id == *id || key.scopes.contains(&Scope::Admin),
        (Caller::Key(key), _) => key.scopes.contains(&Scope::Admin),
        (Caller::Person(person), Requester::Person { id, .. }) if person.id == *id => true,
        (Caller::Person(_), _) => caller.administers().is_ok(),
    };
    if own {
        Ok(request)
    } else {
        Err(Problem::forbidden(
            "Only whoever asked, or an admin, may do this.",
        ))
    }
}
