//! Follows the journal and merges what is approved, where a project asks for it: pinned to the approved head, once, and
//! never again with another head.

use crate::domain::command::Command;
use crate::domain::event::{Actor, Event};
use crate::domain::ids::RequestId;
use crate::domain::request::{Change, GateState, MergeRecord, Request, Status, change_row};
use crate::domain::state::Read;
use crate::effects::pace::Pace;
use crate::effects::{Surroundings, Trouble};
use crate::engine::Submission;
use crate::forge::MergeOutcome;
use crate::store::Snapshot;
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the cursor.
const FOLLOWER: &str = "forge-merge";
const ENTRIES_MAX: usize = 1024;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A change that is not ready (pipeline, conflict, discussion) is tried again this much later at the soonest.
const NOT_READY: Duration = Duration::from_secs(2);

/// Merges what is approved, for ever.
pub async fn run_merges(at: Surroundings) {
    let mut grown = at.engine.watch_size();
    let mut open: BTreeMap<RequestId, u64> = BTreeMap::new();
    let mut pace: Pace<RequestId> = Pace::new();
    let mut next = match at.store.read().and_then(|it| it.cursor(FOLLOWER)) {
        Ok(next) => next,
        Err(error) => {
            tracing::error!(%error, "the merge follower's cursor can't be read");
            return;
        }
    };
    loop {
        if let Err(error) = follow(&at, &mut next, &mut open) {
            tracing::error!(%error, "the journal can't be followed");
        }
        let due: Vec<RequestId> = open.keys().filter(|it| pace.is_due(it)).cloned().collect();
        // One at a time: a merge changes what the next one merges into.
        for request in due {
            let cursor = open
                .iter()
                .filter(|(it, _)| **it != request)
                .map(|(_, seq)| *seq)
                .min()
                .unwrap_or(next);
            match merge(&at, &request, cursor).await {
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
        tokio::select! {
            changed = grown.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// A merge is due once the forge has confirmed the green status of its request.
fn follow(at: &Surroundings, next: &mut u64, open: &mut BTreeMap<RequestId, u64>) -> Result<(), Trouble> {
    let snapshot = at.store.read()?;
    loop {
        let entries = snapshot.leaves(*next, ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok(());
        }
        for (seq, leaf) in entries {
            let event = Snapshot::event(&leaf)?;
            if let Event::StatusConfirmed {
                state: GateState::Success,
                request: Some(request),
                refused: None,
                ..
            } = event
            {
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
    let (head, number, connected) = {
        let snapshot = at.store.read()?;
        let Some(request) = snapshot.get::<Request>(id.as_str())? else {
            return Ok(Merged::Ended);
        };
        let green = matches!(request.status, Status::Approved | Status::Skipped) && !request.lapsed;
        let asked = snapshot.get::<MergeRecord>(id.as_str())?.is_some();
        let (Some(key), Some(head), true, false) = (&request.change, &request.head, green, asked) else {
            return Ok(Merged::Ended);
        };
        let change = snapshot.get::<Change>(&change_row(key))?;
        let current = change.is_some_and(|it| it.open && !it.draft && it.request.as_ref() == Some(id));
        let Some(connected) = at.connected(&key.project, &snapshot)? else {
            return Ok(Merged::Ended);
        };
        if !current || !connected.project.settings.auto_merge {
            return Ok(Merged::Ended);
        }
        (head.clone(), key.number, connected)
    };
    let forge_project = &connected.project.settings.forge_project_id;
    let (merged, commit, refused) = match connected.forge.merge(forge_project, number, &head).await {
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
