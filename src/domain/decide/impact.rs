//! "What would change": a policy that is not yet in force, over the requests that were opened lately. Reads only.

use crate::domain::decide::changes::judge_change_by;
use crate::domain::decide::requests::{DEFAULT_POLICY, judge_action_by};
use crate::domain::ids::RequestId;
use crate::domain::people::Person;
use crate::domain::policy::{Document, Evaluation};
use crate::domain::project::{Integration, PolicyRecord, Project};
use crate::domain::request::{Opening, Request, Requester};
use crate::domain::state::{Fault, Read, Table, decode};
use crate::domain::time::Time;
use std::collections::BTreeMap;

/// A request that the new document judges otherwise than the one in force.
#[derive(Clone, Debug)]
pub struct Difference {
    pub request: Request,
    /// By the policy in force.
    pub before: Evaluation,
    /// By the new document.
    pub after: Evaluation,
}

/// What a new document would have made of the requests of a period.
#[derive(Clone, Debug, Default)]
pub struct Impact {
    /// Requests that both documents judged.
    pub looked_at: usize,
    /// Older requests of the period were left out.
    pub more: bool,
    /// Newest first.
    pub differences: Vec<Difference>,
}

/// Judges every request opened at or after `since` that the policy `name` governs, newest first and at most `limit`, by
/// the document in force and by `document`. Everything else is as it is now: the people, the projects' settings.
///
/// # Errors
/// When the recorded state can't be read.
pub fn impact(
    name: &str,
    document: &Document,
    since: Time,
    limit: usize,
    state: &impl Read,
) -> Result<Impact, Fault> {
    let in_force = match state.get::<PolicyRecord>(name)? {
        Some(record) => {
            let bytes = state.blob(&record.document)?;
            let parsed = bytes.and_then(|it| Document::parse(&it).ok());
            Some(parsed.ok_or_else(|| Fault(format!("the document of policy {name} is damaged")))?)
        }
        None => None,
    };
    let people = state.all::<Person>()?;
    let projects: BTreeMap<_, _> = state
        .all::<Project>()?
        .into_iter()
        .filter(|it| !it.removed)
        .map(|it| (it.id.clone(), it))
        .collect();
    let forges: BTreeMap<_, _> = state
        .all::<Integration>()?
        .into_iter()
        .map(|it| (it.id.clone(), it))
        .collect();
    let mut found = Impact::default();
    let mut end = vec![0xff; 9];
    'pages: loop {
        let rows = state.scan_raw(Table::RequestOrder, b"", &end, 256, true)?;
        let Some((last, _)) = rows.last() else { break };
        end.clone_from(last);
        for (_, id) in &rows {
            let Some(id) = std::str::from_utf8(id).ok().and_then(RequestId::parse) else {
                return Err(Fault("odd row in the order of requests".into()));
            };
            let request: Request = state
                .get(id.as_str())?
                .ok_or_else(|| Fault(format!("request {id} is not recorded")))?;
            if request.created_at < since {
                break 'pages;
            }
            if found.looked_at >= limit {
                found.more = true;
                break 'pages;
            }
            let blob = state
                .blob(&request.opening)?
                .ok_or_else(|| Fault(format!("the opening of {id} is missing")))?;
            let opening: Opening = decode(&blob)?;
            let judged = |by: Option<&Document>| -> Result<Option<Evaluation>, Fault> {
                match (&opening.facts, &opening.change) {
                    (Some(facts), Some(change)) => {
                        let project = projects.get(&change.project);
                        let governed = project
                            .filter(|it| it.settings.policy.as_deref().unwrap_or(DEFAULT_POLICY) == name);
                        let Some(project) = governed else { return Ok(None) };
                        let forge = forges.get(&project.integration);
                        Ok(Some(judge_change_by(by, project, forge, facts, &people)?.0))
                    }
                    _ if name != DEFAULT_POLICY => Ok(None),
                    // A trial has a rule of its own, which no policy changes.
                    _ if matches!(opening.requester, Requester::Person { .. }) => Ok(None),
                    _ => Ok(Some(judge_action_by(
                        by,
                        opening.environment.as_deref(),
                        opening.project_name.as_deref(),
                        callers_limit(&opening),
                    ))),
                }
            };
            let (Some(before), Some(after)) = (judged(in_force.as_ref())?, judged(Some(document))?) else {
                continue;
            };
            found.looked_at += 1;
            if differs(&before, &after) {
                found.differences.push(Difference {
                    request,
                    before,
                    after,
                });
            }
        }
    }
    Ok(found)
}

/// The caller's own limit, as far as what was recorded tells: where a rule's is as short, the caller's does not show.
fn callers_limit(opening: &Opening) -> Option<u64> {
    let by_rules = opening.obligations.iter().filter_map(|it| it.ttl_max).min();
    opening
        .ttl_seconds
        .filter(|it| by_rules.is_none_or(|rules| *it < rules))
}

/// Another outcome, or other obligations, ways through or times. How it came about (the trace) may differ.
fn differs(before: &Evaluation, after: &Evaluation) -> bool {
    before.outcome != after.outcome
        || before.obligations != after.obligations
        || before.break_glass != after.break_glass
        || before.ttl != after.ttl
        || before.skipped_by != after.skipped_by
}
