//! What came into a gated branch, matched to approvals: whatever no approval covers is an exception.
//!
//! A commit is covered when it is the approved head of a change merged into this branch, an ancestor of one, or the
//! merge or squashed commit by which such a change landed, with the same content. Everything else got around the gate.

use crate::domain::apply::bypass_row;
use crate::domain::branch::{Content, LandedChange, Landing, Moved, Tip, Way};
use crate::domain::command::ObserveBranch;
use crate::domain::decide::administration::live_project;
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::Event;
use crate::domain::facts::Account;
use crate::domain::ids::ProjectId;
use crate::domain::refusal::Refusal;
use crate::domain::request::{Change, ChangeKey, MergeRecord, Request, Status, change_row};
use crate::domain::state::{Fault, Read, Table};
use crate::domain::text::visible;
use std::collections::{BTreeMap, BTreeSet};

/// Commits named in one exception.
const COMMITS_MAX: usize = 20;
/// Paths named in one sentence.
const PATHS_MAX: usize = 3;

/// Something in a landing that no approval covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    pub way: Way,
    /// The change that was merged; `None` for a push.
    pub change: Option<u64>,
    /// The change's head, or the branch's.
    pub head: String,
    pub by: Option<Account>,
    /// The commit on the branch by which it landed.
    pub commit: Option<String>,
    /// All commits of it that are in the landing.
    pub commits: BTreeSet<String>,
    pub reason: String,
}

pub(super) fn observe(it: ObserveBranch, state: &impl Read) -> Decided {
    match live_project(&it.project, state) {
        Ok(_) => {}
        // Taken away while its forge was asked.
        Err(Stop::Refused(Refusal::Unknown)) => return Ok(Plan::nothing()),
        Err(stop) => return Err(stop),
    }
    let recorded: Option<Tip> = state.get(&Tip::row(&it.project, &it.branch))?;
    // Judged against another place than where the branch is recorded: to be read again.
    if recorded.as_ref().map(|tip| &tip.commit) != it.before.as_ref() {
        return Ok(Plan::nothing());
    }
    let unchanged = recorded.as_ref().is_some_and(|tip| {
        tip.gone == it.commit.is_none() && it.commit.as_ref().is_none_or(|c| *c == tip.commit)
    });
    if unchanged {
        return Ok(Plan::nothing());
    }
    let mut steps = vec![Step::event(Event::BranchObserved {
        project: it.project.clone(),
        branch: it.branch.clone(),
        moved: it.moved,
        before: it.before.clone(),
        commit: it.commit.clone(),
    })];
    if let (Some(landing), Some(commit)) = (&it.landing, &it.commit) {
        for found in uncovered(&it.project, &it.branch, it.moved, commit, landing, state)? {
            steps.push(exception(&it, found));
        }
    }
    Ok(Plan::done(steps))
}

fn exception(it: &ObserveBranch, found: Uncovered) -> Step {
    let pushed = found.change.is_none();
    Step::event(Event::ExceptionUnapprovedChange {
        project: it.project.clone(),
        way: found.way,
        change: found.change.map(|number| ChangeKey {
            project: it.project.clone(),
            number,
        }),
        head: found.head,
        target: it.branch.clone(),
        by: found.by.or_else(|| it.by.clone()),
        commit: found.commit,
        before: it.before.clone().filter(|_| pushed),
        commits: found.commits.into_iter().take(COMMITS_MAX).collect(),
        reason: found.reason,
    })
}

/// Everything in a landing that no approval covers, merged changes first; of those, what an exception has told of already
/// is left out.
///
/// # Errors
/// When the recorded state can't be read.
pub fn uncovered(
    project: &ProjectId,
    branch: &str,
    moved: Moved,
    tip: &str,
    landing: &Landing,
    state: &impl Read,
) -> Result<Vec<Uncovered>, Fault> {
    let parents: BTreeMap<&str, &[String]> = landing
        .commits
        .iter()
        .map(|it| (it.id.as_str(), it.parents.as_slice()))
        .collect();
    let mut covered: BTreeSet<&str> = BTreeSet::new();
    let mut refused: Vec<(&LandedChange, String)> = Vec::new();
    for change in &landing.changes {
        match approved_base(project, branch, change, state)? {
            Ok(base) => {
                covered.extend(own_commits(&change.head, &base, &parents));
                covered.extend(change.landed.iter().map(|it| it.commit.as_str()));
            }
            Err(why) => refused.push((change, why)),
        }
    }
    let mut found = Vec::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for (change, reason) in refused {
        let own: BTreeSet<&str> = with_ancestors(&change.head, &parents)
            .into_iter()
            .chain(change.landed.iter().map(|it| it.commit.as_str()))
            .filter(|it| parents.contains_key(it) && !covered.contains(it) && !told.contains(it))
            .collect();
        let landed = change.landed.last().map(|it| it.commit.clone());
        let commit = landed.or_else(|| own.contains(change.head.as_str()).then(|| change.head.clone()));
        // Without a commit of its own it came with something else, and what is new beneath it is nobody's.
        let Some(commit) = commit.filter(|_| !own.is_empty()) else {
            continue;
        };
        told.extend(&own);
        let key = ChangeKey {
            project: project.clone(),
            number: change.number,
        };
        if !is_known(&key, &commit, state)? {
            found.push(Uncovered {
                way: Way::Merged,
                change: Some(change.number),
                head: change.head.clone(),
                by: change.by.clone(),
                commit: Some(commit),
                commits: own.into_iter().map(str::to_owned).collect(),
                reason,
            });
        }
    }
    let mut left: BTreeSet<String> = BTreeSet::new();
    for id in parents.keys() {
        if !covered.contains(id) && !told.contains(id) {
            left.insert((*id).to_owned());
        }
    }
    let way = match moved {
        Moved::Rewritten => Way::Forced,
        Moved::Created => Way::Created,
        Moved::FirstSeen | Moved::Forward | Moved::Deleted => Way::Pushed,
    };
    let rewritten = moved == Moved::Rewritten;
    if !left.is_empty() || rewritten || landing.incomplete.is_some() {
        let reason = match (&landing.incomplete, rewritten) {
            (Some(why), _) => format!("What came in could not be read whole: {}.", visible(why)),
            (None, true) => "History that was in the branch was taken away by force.".to_owned(),
            (None, false) => "No approval covers these commits.".to_owned(),
        };
        found.push(Uncovered {
            way,
            change: None,
            head: tip.to_owned(),
            by: None,
            commit: Some(tip.to_owned()),
            commits: left,
            reason,
        });
    }
    Ok(found)
}

/// The merge base of an approved change that was merged as it was approved, or why no approval covers it.
fn approved_base(
    project: &ProjectId,
    branch: &str,
    landed: &LandedChange,
    state: &impl Read,
) -> Result<Result<String, String>, Fault> {
    let key = ChangeKey {
        project: project.clone(),
        number: landed.number,
    };
    let change: Option<Change> = state.get(&change_row(&key))?;
    let request: Option<Request> = match change.as_ref().and_then(|it| it.request.as_ref()) {
        Some(id) => state.get(id.as_str())?,
        None => None,
    };
    let (Some(change), Some(request)) = (change, request) else {
        return Ok(Err("Nobody was asked to approve it.".to_owned()));
    };
    let approved = matches!(request.status, Status::Approved | Status::Skipped) && !request.lapsed;
    if !approved {
        return Ok(Err("It was merged without an approval that holds.".to_owned()));
    }
    if request.head.as_deref() != Some(&landed.head) {
        return Ok(Err("Another head than the approved one was merged.".to_owned()));
    }
    if request.target.as_deref() != Some(branch) {
        return Ok(Err("It was approved for another branch.".to_owned()));
    }
    let ours: Option<MergeRecord> = state.get(request.id.as_str())?;
    let ours = ours.and_then(|it| it.commit.filter(|_| it.merged));
    for it in landed
        .landed
        .iter()
        .filter(|it| ours.as_ref() != Some(&it.commit))
    {
        match &it.content {
            Content::Same => {}
            Content::Differs(paths) => {
                let shown: Vec<String> = paths.iter().take(PATHS_MAX).map(|it| visible(it)).collect();
                let more = paths.len().saturating_sub(PATHS_MAX);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                return Ok(Err(format!(
                    "What landed is not what was approved: it differs in {}{more}.",
                    shown.join(", ")
                )));
            }
            Content::Unknown(why) => {
                return Ok(Err(format!(
                    "What landed could not be compared with what was approved: {}.",
                    visible(why)
                )));
            }
        }
    }
    Ok(Ok(change.base))
}

/// The commits of a change that are among the new ones: what its head has and its merge base has not.
fn own_commits<'a>(head: &str, base: &str, parents: &BTreeMap<&'a str, &'a [String]>) -> BTreeSet<&'a str> {
    let below = with_ancestors(base, parents);
    let all = with_ancestors(head, parents);
    all.difference(&below).copied().collect()
}

/// A commit and all its ancestors that are among the new ones.
fn with_ancestors<'a>(head: &str, parents: &BTreeMap<&'a str, &'a [String]>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&str> = vec![head];
    while let Some(id) = next.pop() {
        if let Some((id, its)) = parents.get_key_value(id)
            && seen.insert(*id)
        {
            next.extend(its.iter().map(String::as_str));
        }
    }
    seen
}

fn is_known(change: &ChangeKey, commit: &str, state: &impl Read) -> Result<bool, Fault> {
    let row = bypass_row(change, commit);
    Ok(state.get_raw(Table::Bypasses, row.as_bytes())?.is_some())
}

pub(super) fn watch(project: ProjectId, patterns: BTreeSet<String>, state: &impl Read) -> Decided {
    match live_project(&project, state) {
        Ok(_) => {}
        Err(Stop::Refused(Refusal::Unknown)) => return Ok(Plan::nothing()),
        Err(stop) => return Err(stop),
    }
    Ok(Plan::done(vec![Step::event(Event::BranchesWatched {
        project,
        patterns,
    })]))
}

/// Whether an exception has told of a merged change and the commit by which it landed.
pub(super) fn is_told(change: &ChangeKey, commit: Option<&String>, state: &impl Read) -> Result<bool, Fault> {
    commit.map_or(Ok(false), |it| is_known(change, it, state))
}
