//! What a waiting request is judged by now: the rules of its opening and the current ones both hold (policy rule 13),
//! and whoever turns out since to have made it is barred. A looser rule helps only new requests.

use crate::domain::apply::RULES;
use crate::domain::decide::Stop;
use crate::domain::decide::administration::live_project;
use crate::domain::decide::attention::held;
use crate::domain::decide::changes::judge_change;
use crate::domain::decide::deployments::judge_deployment;
use crate::domain::decide::provision::is_on_trial;
use crate::domain::decide::requests::judge_action;
use crate::domain::event::Event;
use crate::domain::policy::{Evaluation, Outcome, combine};
use crate::domain::request::{Opening, Request, Requester, Status};
use crate::domain::state::{Fault, Read, Table, decode};
use std::collections::BTreeSet;

/// The request with the obligations that hold now. Everything about people is asked of this, never of the record alone.
///
/// # Errors
/// When the recorded state can't be read.
pub fn as_judged_now(request: Request, state: &impl Read) -> Result<Request, Fault> {
    let request = by_the_rules_now(request, state)?;
    let held = match request.status {
        Status::Pending => held(&request, state)?,
        _ => None,
    };
    Ok(Request { held, ..request })
}

fn by_the_rules_now(request: Request, state: &impl Read) -> Result<Request, Fault> {
    // A trial has a rule of its own, which nothing changes.
    if request.status != Status::Pending || matches!(request.requester, Requester::Person { .. }) {
        return Ok(request);
    }
    if is_on_trial(&request, state)? {
        return Ok(Request {
            blocked: true,
            break_glass: Vec::new(),
            ..request
        });
    }
    let changed: Option<u64> = state
        .get_raw(Table::Counters, RULES)?
        .and_then(|it| it.try_into().ok())
        .map(u64::from_be_bytes);
    if changed.is_none_or(|it| it < request.seq) {
        return Ok(request);
    }
    match judged(request.clone(), state) {
        Ok(judged) => Ok(judged),
        Err(Stop::Fault(fault)) => Err(fault),
        // Its project is gone: nothing says any more what it needs, so nothing can fill it.
        Err(Stop::Refused(_)) => Ok(Request {
            blocked: true,
            break_glass: Vec::new(),
            ..request
        }),
    }
}

fn judged(request: Request, state: &impl Read) -> Result<Request, Stop> {
    let blob = state.blob(&request.opening)?;
    let blob = blob.ok_or_else(|| Fault(format!("the opening of {} is missing", request.id)))?;
    let opening: Opening = decode(&blob)?;
    let of_project = match (&opening.facts, &opening.change, &opening.deployment) {
        (Some(facts), Some(change), _) => {
            let project = live_project(&change.project, state)?;
            Some(judge_change(&project, facts, state)?)
        }
        (_, _, Some(facts)) => {
            let project = live_project(&facts.key.project, state)?;
            Some(judge_deployment(&project, facts, state)?)
        }
        _ => None,
    };
    let (current, policy, involved) = match of_project {
        Some(it) => (it.evaluation, it.policy.reference, it.involved),
        None => {
            let (evaluation, policy) = judge_action(
                opening.environment.as_deref(),
                opening.project_name.as_deref(),
                opening.ttl_seconds,
                state,
            )?;
            (evaluation, policy.reference, request.involved.clone())
        }
    };
    let before = Evaluation {
        outcome: if request.blocked {
            Outcome::Block
        } else {
            Outcome::Require
        },
        obligations: request.obligations.clone(),
        break_glass: request.break_glass.clone(),
        ttl: request.ttl_seconds,
        trace: Vec::new(),
        skipped_by: Vec::new(),
        reasons: Vec::new(),
        policy_sha256: Some(request.policy.sha256),
    };
    let both = combine(&before, &current);
    let names: BTreeSet<&str> = both.obligations.iter().map(|it| it.rule.as_str()).collect();
    // Two versions of one rule of which neither covers the other: an outcome can't name both, so nothing is approved
    // until the request is opened anew.
    let undecidable = names.len() != both.obligations.len();
    let mut everyone = request.involved.clone();
    for (person, involvement) in involved {
        everyone.entry(person).or_insert(involvement);
    }
    // Counted from the opening, and the earlier of the two: rules give no time back (policy rule 9).
    let by_rules = both.ttl.map(|it| request.created_at.plus_seconds(it));
    Ok(Request {
        blocked: both.outcome == Outcome::Block || undecidable,
        obligations: both.obligations,
        break_glass: both.break_glass,
        involved: everyone,
        policy,
        ttl_seconds: both.ttl,
        expires_at: request.expires_at.into_iter().chain(by_rules).min(),
        ..request
    })
}

/// The event that gives a waiting request the time it has by now, where that is less than what is recorded. Everything
/// that asks `as_judged_now` goes by it at once; recorded, it also stands in the table of deadlines.
///
/// # Errors
/// When the recorded state can't be read.
pub fn shortened(request: Request, state: &impl Read) -> Result<Option<Event>, Fault> {
    if request.status != Status::Pending {
        return Ok(None);
    }
    let recorded = (request.ttl_seconds, request.expires_at);
    let judged = as_judged_now(request, state)?;
    let (Some(ttl_seconds), Some(expires_at)) = (judged.ttl_seconds, judged.expires_at) else {
        return Ok(None);
    };
    Ok(
        (recorded != (Some(ttl_seconds), Some(expires_at))).then_some(Event::RequestShortened {
            request: judged.id,
            policy_sha256: judged.policy.sha256,
            ttl_seconds,
            expires_at,
        }),
    )
}
