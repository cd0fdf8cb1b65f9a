//! Requests that pipelines and people send to the API, and what ends a request without a decision.

use crate::domain::apply::waiting_row;
use crate::domain::attention::{code_for, is_reported, key_row, match_code};
use crate::domain::command::{OpenRequest, Reply};
use crate::domain::decide::judge::{as_judged_now, shortened};
use crate::domain::decide::{Decided, OutcomeDraft, Plan, Step, Stop};
use crate::domain::event::{Event, ObligationLine};
use crate::domain::follow_up::CommitFacts;
use crate::domain::ids::{Digest, ProjectId, RequestId};
use crate::domain::people::{ApiKey, Scope};
use crate::domain::policy::{
    Approver, Asked, ControlFiles, Document, Evaluation, Method, Obligation, Outcome, ProjectDefaults,
    Question, evaluate,
};
use crate::domain::project::{PolicyRecord, Project};
use crate::domain::refusal::Refusal;
use crate::domain::request::{
    Change, Involvement, Kind, Opening, PolicyRef, Request, Requester, Status, change_row,
};
use crate::domain::state::{Read, Table, decode, encode};
use crate::domain::text::shortened as shortened_text;
use crate::domain::time::Time;
use std::collections::BTreeMap;

/// Requests of one key that may wait at once. Past it a runaway pipeline is told to stop, and nobody else notices.
pub const WAITING_PER_KEY_MAX: usize = 1_000;

/// Longest reason for which a callback was given up, in characters.
const REASON_CHARS_MAX: usize = 300;

/// The policy that governs what names none.
pub(super) const DEFAULT_POLICY: &str = "default";

/// The policy in force: its name and version, its document (none for the built-in default rule), and the bytes to keep
/// with the request so that its digest always leads to something.
pub(super) struct InForce {
    pub reference: PolicyRef,
    pub document: Option<Document>,
    pub bytes: Vec<u8>,
}

/// Finds the policy for a project (or for actions, with `None`), the built-in default rule where there is none.
pub(super) fn policy_in_force(
    named: Option<&str>,
    defaults: &ProjectDefaults,
    state: &impl Read,
) -> Result<InForce, Stop> {
    let name = named.unwrap_or(DEFAULT_POLICY);
    if let Some(record) = state.get::<PolicyRecord>(name)? {
        let bytes = state.blob(&record.document)?.ok_or_else(|| {
            crate::domain::state::Fault(format!("the document of policy {name} is missing"))
        })?;
        // Only valid documents are activated; one that no longer parses means damage, and damage is never green.
        let document = Document::parse(&bytes)
            .map_err(|_| crate::domain::state::Fault(format!("the document of policy {name} is damaged")))?;
        let reference = PolicyRef {
            name: record.name,
            version: record.version,
            sha256: record.document,
        };
        return Ok(InForce {
            reference,
            document: Some(document),
            bytes,
        });
    }
    let methods = defaults
        .methods
        .clone()
        .unwrap_or_else(|| vec![Method::Passkey, Method::Biometric]);
    let rule = serde_json::json!({
        "rules": [],
        "default": { "method": methods, "quorum": defaults.quorum.max(1) },
    });
    let bytes = rule.to_string().into_bytes();
    let reference = PolicyRef {
        name: "built-in".into(),
        version: 0,
        sha256: Digest::of(&bytes),
    };
    Ok(InForce {
        reference,
        document: None,
        bytes,
    })
}

pub(super) fn open(open: OpenRequest, now: Time, state: &impl Read) -> Decided {
    if let Some((key, body)) = open.idempotency
        && let Some(row) = state.get_raw(Table::Idempotency, &key.0)?
    {
        let (seen, id): (Digest, RequestId) = decode(&row)?;
        if seen != body {
            return Err(Refusal::IdempotencyConflict.into());
        }
        let request: Request = state.get(id.as_str())?.ok_or(Refusal::Unknown)?;
        let request = as_judged_now(request, state)?;
        let reply = Reply::Request {
            match_code: match_code(&request).map(|it| it.code),
            id,
            status: request.status,
            expires_at: request.expires_at,
            created: false,
        };
        return Ok(Plan {
            steps: Vec::new(),
            reply: Ok(reply),
        });
    }
    if let Requester::Key { id, .. } = &open.requester
        && is_reported(&key_row(id.as_str()), state)?
    {
        let why = "Somebody reported what this key asks as unexpected. It asks nothing more until that was looked over.";
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    if let Requester::Key { id, .. } = &open.requester
        && let Some(row) = state.get_raw(Table::Counters, &waiting_row(id))?
        && usize::try_from(decode::<i64>(&row)?).unwrap_or(0) >= WAITING_PER_KEY_MAX
    {
        return Err(Refusal::TooManyWaiting {
            max: WAITING_PER_KEY_MAX,
        }
        .into());
    }
    let (judged, policy) = judge_action(
        open.environment.as_deref(),
        open.project.as_deref(),
        open.ttl_seconds,
        state,
    )?;
    let evaluation = if open.trial { trial(&open) } else { judged };
    let mut involved = BTreeMap::new();
    if let Some(owner) = &open.owner {
        let why = match open.trial {
            true => "You sent this test request yourself, so this rule lets you decide it.",
            false => "You are answerable for the key that asks, so you can't approve it.",
        };
        involved.insert(
            owner.clone(),
            Involvement {
                author: true,
                why: why.into(),
            },
        );
    }
    let kind = if open.environment.is_some() {
        Kind::Deployment
    } else {
        Kind::Action
    };
    let by_key = matches!(open.requester, Requester::Key { .. });
    let has_commit = open.digest.as_ref().is_some_and(|(name, _)| name == "gitCommit");
    let commit_of = match by_key && has_commit {
        true => project_named(open.project.as_deref(), state)?,
        false => None,
    };
    let opening = Opening {
        request: None,
        kind,
        subject: open.subject,
        title: open.action,
        requester: open.requester,
        policy: policy.reference,
        obligations: evaluation.obligations,
        break_glass: evaluation.break_glass,
        trace: evaluation.trace,
        notes: evaluation.reasons,
        involved,
        ttl_seconds: evaluation.ttl,
        blocked: evaluation.outcome == Outcome::Block,
        facts: None,
        change: None,
        deployment: None,
        environment: open.environment,
        project_name: open.project,
        claimed: open.claimed,
        digest: open.digest,
        callback_url: open.callback_url,
        commit_of,
        skipped_by: evaluation.skipped_by,
    };
    let expires_at = opening.ttl_seconds.map(|it| now.plus_seconds(it));
    let skipped = evaluation.outcome == Outcome::Skip;
    let status = if skipped { Status::Skipped } else { Status::Pending };
    let reply = Reply::Request {
        id: open.id.clone(),
        status,
        expires_at,
        created: true,
        match_code: code_for(&open.id, opening.obligations.iter().chain(&opening.break_glass))
            .map(|it| it.code),
    };
    let steps = opened(&open.id, opening, policy.bytes, open.idempotency, now);
    Ok(Plan {
        steps,
        reply: Ok(reply),
    })
}

/// Judges a deployment or action by the rules in force.
pub(super) fn judge_action(
    environment: Option<&str>,
    project: Option<&str>,
    ttl_seconds: Option<u64>,
    state: &impl Read,
) -> Result<(Evaluation, InForce), Stop> {
    let defaults = ProjectDefaults::default();
    let policy = policy_in_force(None, &defaults, state)?;
    let evaluation = judge_action_by(policy.document.as_ref(), environment, project, ttl_seconds);
    Ok((evaluation, policy))
}

/// Judges a deployment or action by a document.
pub(super) fn judge_action_by(
    document: Option<&Document>,
    environment: Option<&str>,
    project: Option<&str>,
    ttl_seconds: Option<u64>,
) -> Evaluation {
    evaluate(&Question {
        policy: document,
        defaults: &ProjectDefaults::default(),
        control_files: &ControlFiles::default(),
        asked: Asked::Action {
            environment,
            project,
            ttl_seconds,
        },
    })
}

/// The steps that open a request and, where rules skip it, end it at once.
pub(super) fn opened(
    id: &RequestId,
    mut opening: Opening,
    policy_bytes: Vec<u8>,
    idempotency: Option<(Digest, Digest)>,
    now: Time,
) -> Vec<Step> {
    opening.request = Some(id.clone());
    let skipped_by = opening.skipped_by.clone();
    let expires_at = opening.ttl_seconds.map(|it| now.plus_seconds(it));
    let subject_sha256 = Digest::of(opening.subject.as_bytes());
    let policy_sha256 = opening.policy.sha256;
    let obligations = opening
        .obligations
        .iter()
        .map(|it| ObligationLine {
            rule: it.rule.clone(),
            methods: it.methods.clone(),
            quorum: it.quorum,
        })
        .collect();
    let kind = opening.kind;
    let blob = encode(&opening);
    let opening_sha256 = Digest::of(&blob);
    let mut steps = vec![
        Step::Blob(policy_bytes),
        Step::Blob(blob),
        Step::event(Event::RequestOpened {
            request: id.clone(),
            kind,
            subject_sha256,
            policy_sha256,
            obligations,
            opening_sha256,
            expires_at,
            idempotency,
        }),
    ];
    if !skipped_by.is_empty() {
        steps.push(Step::Outcome(Box::new(OutcomeDraft {
            request: id.clone(),
            opening: opening_sha256,
            status: Status::Skipped,
            obligations: Vec::new(),
            expires_at,
            reason: String::new(),
            skipped_by,
        })));
    }
    steps
}

/// A person's own trial: that person alone decides it.
fn trial(open: &OpenRequest) -> Evaluation {
    let approvers = open
        .owner
        .iter()
        .map(|it| Approver::Person(it.to_string()))
        .collect();
    Evaluation {
        outcome: Outcome::Require,
        obligations: vec![Obligation {
            rule: "default".into(),
            methods: vec![Method::Passkey, Method::Biometric],
            quorum: 1,
            ttl_max: None,
            approvers,
            independent: false,
            allow_author: true,
            allow_contributor: false,
            match_code: false,
            device_bound: false,
            break_glass: false,
        }],
        break_glass: Vec::new(),
        ttl: open.ttl_seconds,
        trace: Vec::new(),
        skipped_by: Vec::new(),
        reasons: vec!["A test request: its sender decides it alone, which no real request allows.".into()],
        policy_sha256: None,
    }
}

pub(super) fn cancel(request: RequestId, reason: String, state: &impl Read) -> Decided {
    let record: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
    if record.status != Status::Pending {
        return Err(Refusal::AlreadyEnded {
            status: record.status.name(),
        }
        .into());
    }
    if record.change.is_some() {
        let why = "A change's approval ends with the change: close it on the forge.";
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    if record.deployment.is_some() {
        let why =
            "A deployment's approval ends with its job: reject it here, or cancel the pipeline on the forge.";
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    Ok(Plan::done(vec![ended(&record, Status::Cancelled, &reason)]))
}

pub(super) fn consume(
    request: RequestId,
    idempotency: Option<Digest>,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
    let refuse = |why: String| Err(Refusal::NotUsable { why }.into());
    if record.status != Status::Approved {
        return refuse(format!("This request is {}, not approved.", record.status.name()));
    }
    if record.change.is_some() {
        return refuse("A change's approval is used by its merge.".into());
    }
    if record.deployment.is_some() {
        return refuse("This approval is used by starting its job on the forge.".into());
    }
    if record.consumed_at.is_some() {
        // The answer got lost on its way, and the same use is told again.
        if idempotency.is_some() && record.consumed_by == idempotency {
            return Ok(Plan::nothing());
        }
        return refuse("This approval has been used; a deployment needs one of its own.".into());
    }
    if record.lapsed || record.expires_at.is_some_and(|it| now >= it) {
        return refuse("This approval was not used in time; ask again.".into());
    }
    Ok(Plan::done(vec![Step::event(Event::RequestConsumed {
        request,
        idempotency,
    })]))
}

/// The callback of a request was made, or never will be. Told twice, it counts once.
pub(super) fn record_callback(
    request: RequestId,
    delivered: bool,
    reason: Option<String>,
    state: &impl Read,
) -> Decided {
    if state
        .get_raw(Table::OpenCallbacks, request.as_str().as_bytes())?
        .is_none()
    {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::CallbackAnswered {
        request,
        delivered,
        reason: reason.map(|it| shortened_text(&it, REASON_CHARS_MAX)),
    })]))
}

/// A forge was asked about the commit of a request. Told twice, it counts once.
pub(super) fn record_commit(
    request: RequestId,
    project: Option<ProjectId>,
    facts: Option<CommitFacts>,
    state: &impl Read,
) -> Decided {
    if state
        .get_raw(Table::OpenCommits, request.as_str().as_bytes())?
        .is_none()
    {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::CommitChecked {
        request,
        project,
        facts,
    })]))
}

/// The one gated project of that name, whose forge can be asked about a commit. Of two by the same name neither is meant
/// for certain.
fn project_named(name: Option<&str>, state: &impl Read) -> Result<Option<ProjectId>, Stop> {
    let Some(name) = name else { return Ok(None) };
    let all: Vec<Project> = state.all()?;
    let mut named = all.into_iter().filter(|it| !it.removed && it.path == name);
    let found = named.next();
    Ok(found.filter(|_| named.next().is_none()).map(|it| it.id))
}

pub(super) fn shorten(request: RequestId, state: &impl Read) -> Decided {
    let record: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
    Ok(match shortened(record, state)? {
        Some(event) => Plan::done(vec![Step::event(event)]),
        None => Plan::nothing(),
    })
}

pub(super) fn expire(request: RequestId, now: Time, state: &impl Read) -> Decided {
    let record: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
    let due = record.expires_at.is_some_and(|it| now >= it);
    match record.status {
        Status::Pending if due => Ok(Plan::done(vec![ended(
            &record,
            Status::Expired,
            "Its time ran out.",
        )])),
        Status::Approved if record.consumed_at.is_some() => Ok(Plan::nothing()),
        Status::Approved if due && !record.lapsed && is_merged(&record, state)? => Ok(Plan::nothing()),
        Status::Approved if due && !record.lapsed => {
            let reason = "The approval was not used in time.".to_owned();
            Ok(Plan::done(vec![Step::event(Event::RequestLapsed {
                request,
                reason,
            })]))
        }
        _ => Ok(Plan::nothing()),
    }
}

/// A merge has used the approval: nothing is left to run out.
fn is_merged(request: &Request, state: &impl Read) -> Result<bool, Stop> {
    let Some(key) = &request.change else {
        return Ok(false);
    };
    let change: Option<Change> = state.get(&change_row(key))?;
    Ok(change.is_some_and(|it| it.merged && it.request.as_ref() == Some(&request.id)))
}

/// The step that ends a request without its quorum.
pub(super) fn ended(request: &Request, status: Status, reason: &str) -> Step {
    Step::Outcome(Box::new(OutcomeDraft {
        request: request.id.clone(),
        opening: request.opening,
        status,
        obligations: Vec::new(),
        expires_at: request.expires_at,
        reason: reason.to_owned(),
        skipped_by: Vec::new(),
    }))
}

/// Whether a key reads more than its own requests: those of its projects, or all where it is for none.
pub fn reads_all(key: &ApiKey) -> bool {
    key.scopes.contains(&Scope::Audit) || key.scopes.contains(&Scope::Admin)
}

/// Whether a key may know of a request: its own, or any of its projects with `audit` or `admin`.
pub fn may_see(key: &ApiKey, request: &Request) -> bool {
    let own = matches!(&request.requester, Requester::Key { id, .. } if *id == key.id);
    let wide = reads_all(key);
    let within = key.projects.is_empty()
        || request
            .project_name
            .as_ref()
            .is_some_and(|it| key.projects.contains(it));
    own || (wide && within)
}
