//! Erasing the documents of requests whose retention is over: whether it may be ordered, and what one step of it takes away.

use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::Event;
use crate::domain::ids::{Digest, ProjectId, ProposalId, RequestId};
use crate::domain::project::Project;
use crate::domain::refusal::Refusal;
use crate::domain::request::Request;
use crate::domain::retention::{
    DocumentKind, ErasedDocument, Erasure, ErasureScope, Kept, RETENTION_DAYS, kept, opening_of, redacted,
};
use crate::domain::state::{Fault, Read, encode};
use crate::domain::time::Time;

/// The gated project whose rules an erasure falls under.
pub(super) fn project_of(scope: &ErasureScope, state: &impl Read) -> Result<Option<Project>, Fault> {
    let id: Option<ProjectId> = match scope {
        ErasureScope::Project { project } => Some(project.clone()),
        ErasureScope::Pipelines { .. } => None,
        ErasureScope::Request { request } => state
            .get::<Request>(request.as_str())?
            .and_then(|it| it.gated_project().cloned()),
    };
    id.map_or(Ok(None), |it| state.get(it.as_str()))
}

/// Whether an erasure may be ordered.
pub(super) fn may_order(
    scope: &ErasureScope,
    before: Time,
    reason: &str,
    now: Time,
    state: &impl Read,
) -> Result<(), Stop> {
    if reason.trim().is_empty() {
        return Err(Refusal::invalid("reason", "Say why these documents are erased.").into());
    }
    if let ErasureScope::Request { request } = scope {
        let request: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
        let why = match kept(&request, now, state)? {
            None => None,
            Some(Kept::Erased) => Some("Its documents are erased already."),
            Some(Kept::InUse) => {
                Some("It waits, or its approval can still be used, or somebody is still to be told of it.")
            }
            Some(Kept::Retained) => Some("Its time of retention is not over."),
            Some(Kept::Shared) => {
                Some("It was opened by an earlier version, whose documents other requests may share.")
            }
        };
        if let Some(why) = why {
            return Err(Refusal::NotAllowed { why: why.into() }.into());
        }
    }
    let project = project_of(scope, state)?;
    if matches!(scope, ErasureScope::Project { .. }) && project.is_none() {
        return Err(Refusal::Unknown.into());
    }
    let days = project.map_or(RETENTION_DAYS, |it| it.settings.retention_days);
    if before.plus_seconds(u64::from(days) * 86_400) > now {
        let reason = format!("At least {days} days ago: so long the documents are kept.");
        return Err(Refusal::invalid("before", reason).into());
    }
    let running = |it: &Erasure| it.ended_at.is_none() && it.scope == *scope;
    if state.all::<Erasure>()?.iter().any(running) {
        let what = "The same is being erased already.".to_owned();
        return Err(Refusal::Duplicate { what }.into());
    }
    Ok(())
}

/// Erases the documents of some requests. Whatever is meant no more, or may not be erased, is passed over.
pub(super) fn erase(
    erasure: &ProposalId,
    requests: Vec<RequestId>,
    last: bool,
    now: Time,
    state: &impl Read,
) -> Decided {
    let order: Erasure = state.get(erasure.as_str())?.ok_or(Refusal::Unknown)?;
    if order.ended_at.is_some() {
        return Ok(Plan::nothing());
    }
    let mut steps = Vec::new();
    let (mut erased, mut count) = (order.requests, order.documents);
    for id in requests {
        let Some(request) = state.get::<Request>(id.as_str())? else {
            continue;
        };
        let ended = request.decided_at.is_some_and(|it| it < order.before);
        if !order.scope.covers(&request) || !ended || kept(&request, now, state)?.is_some() {
            continue;
        }
        let stub = encode(&redacted(opening_of(&request, state)?));
        let mut documents = vec![ErasedDocument {
            kind: DocumentKind::Opening,
            sha256: request.opening,
        }];
        documents.extend(request.decisions.iter().map(|it| ErasedDocument {
            kind: DocumentKind::Credential,
            sha256: it.credential,
        }));
        documents.extend(request.outcome.map(|sha256| ErasedDocument {
            kind: DocumentKind::Outcome,
            sha256,
        }));
        erased += 1;
        count += documents.len() as u64;
        let stub_sha256 = Digest::of(&stub);
        steps.extend(documents.iter().map(|it| Step::Erase(it.sha256)));
        steps.push(Step::Blob(stub));
        steps.push(Step::event(Event::BlobErased {
            erasure: order.id.clone(),
            request: request.id,
            documents,
            stub_sha256,
            reason: order.reason.clone(),
        }));
    }
    if last {
        steps.push(Step::event(Event::ErasureEnded {
            erasure: order.id,
            requests: erased,
            documents: count,
        }));
    }
    Ok(Plan::done(steps))
}
