//! Follows the journal and merges what is approved, where a project asks for it: pinned to the approved head, once, and
//! never again with another head.

use crate::domain::command::Command;
use crate::domain::event::{Actor, Event};
use crate::domain::facts::ChangeState;
use crate::domain::ids::{ProjectId, RequestId};
use crate::domain::project::Enforcement;
use crate::domain::provision::is_trial_branch;
use crate::domain::request::{
    Change, ConfirmedStatus, GateState, MergeRecord, Request, Status, StatusKey, change_row,
};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::effects::latest::{CURSOR_ENTRIES, save_cursor};
use crate::effects::pace::Pace;
use crate::effects::{Connected, Surroundings, Trouble};
use crate::engine::Submission;
use crate::evidence::subject::files_digest;
use crate::forge::MergeOutcome;
use crate::store::Snapshot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::task::JoinSet;

/// Name of the cursor.
const FOLLOWER: &str = "forge-merge";
const ENTRIES_MAX: usize = 1024;
/// Projects in which something is merged at once.
const AT_ONCE: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A change that is not ready (pipeline, conflict, discussion) is tried again this much later at the soonest.
const NOT_READY: Duration = Duration::from_secs(2);

/// Merges what is approved, for ever. One at a time for each project, since a merge changes what the next one merges into;
/// projects side by side, so that a forge that hangs holds up its own alone.
pub async fn run_merges(at: Surroundings) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    let mut open: BTreeMap<RequestId, u64> = BTreeMap::new();
    let mut pace: Pace<RequestId> = Pace::new();
    let mut on_the_way: JoinSet<(RequestId, Result<Merged, Trouble>)> = JoinSet::new();
    let mut busy: HashMap<ProjectId, RequestId> = HashMap::new();
    // Marked anew while a call was on its way: not ended by that call.
    let mut again: HashSet<RequestId> = HashSet::new();
    let mut next = at.store.read()?.cursor(FOLLOWER)?;
    let mut saved = next;
    loop {
        for marked in follow(&at, &mut next, &mut open)? {
            if busy.values().any(|it| *it == marked) {
                again.insert(marked);
            }
        }
        if open.is_empty() && next - saved >= CURSOR_ENTRIES {
            // Nothing to merge for a long time, or ever: a start need not read all of it again.
            save_cursor(&at, FOLLOWER, next).await?;
            saved = next;
        }
        let due: Vec<RequestId> = open.keys().filter(|it| pace.is_due(it)).cloned().collect();
        for request in due {
            let Some(project) = project_of(&at, &request)? else {
                open.remove(&request);
                continue;
            };
            if busy.len() >= AT_ONCE || busy.contains_key(&project) {
                continue;
            }
            busy.insert(project, request.clone());
            let others = open.iter().filter(|(it, _)| **it != request);
            let cursor = others.map(|(_, seq)| *seq).min().unwrap_or(next);
            let at = at.clone();
            on_the_way.spawn(async move {
                let result = merge(&at, &request, cursor).await;
                (request, result)
            });
        }
        tokio::select! {
            Some(finished) = on_the_way.join_next() => {
                let (request, result) = finished.map_err(|e| Trouble::Forge(e.to_string()))?;
                busy.retain(|_, it| *it != request);
                let again = again.remove(&request);
                match result {
                    Ok(Merged::Ended) if again => pace.done(&request),
                    Ok(Merged::Ended) => {
                        pace.done(&request);
                        open.remove(&request);
                    }
                    Ok(Merged::Later { after, reason }) => {
                        tracing::info!(%reason, %request, "not merged yet");
                        pace.failed(&request, after);
                    }
                    Err(error) => {
                        tracing::warn!(%error, %request, "a merge can't be asked for yet");
                        pace.failed(&request, None);
                    }
                }
            }
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// The project of a request's change.
fn project_of(at: &Surroundings, request: &RequestId) -> Result<Option<ProjectId>, Trouble> {
    let record: Option<Request> = at.store.read()?.get(request.as_str())?;
    Ok(record.and_then(|it| it.change).map(|it| it.project))
}

/// A merge is due once the forge has confirmed the green status of its request.
///
/// Answers the requests that entries were about.
fn follow(
    at: &Surroundings,
    next: &mut u64,
    open: &mut BTreeMap<RequestId, u64>,
) -> Result<Vec<RequestId>, Trouble> {
    let snapshot = at.store.read()?;
    let mut marked = Vec::new();
    loop {
        let entries = snapshot.leaves(*next, ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok(marked);
        }
        for (seq, leaf) in entries {
            let due = match Snapshot::event(&leaf)? {
                Event::StatusConfirmed {
                    state: GateState::Success,
                    request: Some(request),
                    ..
                } => Some(request),
                // A draft that was approved becomes ready: its status is green already.
                Event::ChangeObserved {
                    open: true,
                    draft: false,
                    request: Some(request),
                    ..
                } => Some(request),
                _ => None,
            };
            if let Some(request) = due {
                marked.push(request.clone());
                open.entry(request).or_insert(seq);
            }
            *next = seq + 1;
        }
    }
}

enum Merged {
    /// Merged, refused for good, or no longer wanted.
    Ended,
    Later {
        after: Option<Duration>,
        reason: String,
    },
}

async fn merge(at: &Surroundings, id: &RequestId, cursor: u64) -> Result<Merged, Trouble> {
    let Some((change, expires_at, connected)) = due(at, id)? else {
        return Ok(Merged::Ended);
    };
    let forge_project = &connected.project.settings.forge_project_id;
    // The forge pins the head alone. Target, merge base and files are what was approved too, so the change is read once
    // more, and what differs is left to a new request.
    let now = connected
        .forge
        .change(&change.key.project, forge_project, change.key.number)
        .await
        .map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
    let same = now.state == ChangeState::Open
        && !now.draft
        && now.head == change.head
        && now.target == change.target
        && now.base == change.base
        && now.source_project_id == change.source_project_id
        && files_digest(&now.files) == change.files_sha256;
    if !same {
        let hint = Command::HintChange {
            change: change.key.clone(),
        };
        at.engine.submit(Actor::System, hint).await?;
        let reason = "the change is not what was approved; it is read anew".to_owned();
        return Ok(Merged::Later {
            after: Some(NOT_READY),
            reason,
        });
    }
    if expires_at.is_some_and(|it| at.clock.now() >= it) {
        return Ok(Merged::Ended);
    }
    let (merged, commit, refused) = match connected
        .forge
        .merge(forge_project, change.key.number, &change.head, &change.target)
        .await
    {
        MergeOutcome::Merged { commit } => (true, commit, None),
        MergeOutcome::HeadMoved => (
            false,
            None,
            Some("The head moved after the approval; the new head needs its own.".to_owned()),
        ),
        MergeOutcome::Denied { reason } => (false, None, Some(reason)),
        MergeOutcome::NotReady { reason } => {
            return Ok(Merged::Later {
                after: Some(NOT_READY),
                reason,
            });
        }
        MergeOutcome::Retry { after, reason } => return Ok(Merged::Later { after, reason }),
    };
    let command = Command::RecordMerge {
        request: id.clone(),
        merged,
        commit,
        refused,
    };
    let submission = Submission {
        actor: Actor::System,
        command,
        secrets: Vec::new(),
        cursor: Some((FOLLOWER, cursor)),
    };
    at.engine.submit_with(submission).await?;
    Ok(Merged::Ended)
}

/// The change to merge, until when, and where; `None` when there is nothing (more) to merge for this request.
fn due(at: &Surroundings, id: &RequestId) -> Result<Option<(Change, Option<Time>, Connected)>, Trouble> {
    let snapshot = at.store.read()?;
    let Some(request) = snapshot.get::<Request>(id.as_str())? else {
        return Ok(None);
    };
    let approved = matches!(request.status, Status::Approved | Status::Skipped) && !request.lapsed;
    let asked = snapshot.get::<MergeRecord>(id.as_str())?.is_some();
    let (Some(key), true, false) = (&request.change, approved, asked) else {
        return Ok(None);
    };
    let Some(change) = snapshot.get::<Change>(&change_row(key))? else {
        return Ok(None);
    };
    // A trial of the gate is never merged, not even where a rule skips it.
    let current = change.open
        && !is_trial_branch(&change.source)
        && !change.draft
        && change.request.as_ref() == Some(id)
        && Some(&change.head) == request.head.as_ref()
        && Some(&change.target) == request.target.as_ref();
    let status = StatusKey {
        project: key.project.clone(),
        head: change.head.clone(),
        target: change.target.clone(),
    };
    let Some(connected) = at.connected(&key.project, &snapshot)? else {
        return Ok(None);
    };
    // Where only we merge, the status is a display: a forge that will not show it (a fork's commit) holds nothing up.
    let shown = connected.project.settings.enforcement != Enforcement::MergeBroker;
    let green = snapshot
        .get::<ConfirmedStatus>(&status.row())?
        .is_some_and(|it| it.state == GateState::Success && (it.refused.is_none() || !shown));
    let wanted = current && green && connected.project.settings.auto_merge;
    Ok(wanted.then_some((change, request.expires_at, connected)))
}
