//! Follows the journal and makes each forge's status say what the gate says. Only the newest state matters: ten changes
//! of one status are one call. What is wanted is computed again right before it is sent.

use crate::domain::command::Command;
use crate::domain::decide::{WantedStatus, wanted_status};
use crate::domain::event::{Actor, Event};
use crate::domain::request::{ConfirmedStatus, Request, StatusKey};
use crate::domain::state::Read;
use crate::effects::pace::Pace;
use crate::effects::{Surroundings, Trouble};
use crate::engine::Submission;
use crate::forge::StatusWrite;
use crate::outbound::Outcome;
use crate::store::Snapshot;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the cursor.
const FOLLOWER: &str = "forge-status";
/// Entries read in one go.
const ENTRIES_MAX: usize = 1024;
const AT_ONCE: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A status that the forge refused is offered again after this long: somebody may have mended the token's rights.
const REFUSED_AGAIN: Duration = Duration::from_secs(300);

/// Statuses to look at, each with the journal position that made it so.
type Dirty = BTreeMap<StatusKey, u64>;

/// Keeps statuses right, for ever.
pub async fn run_statuses(at: Surroundings) {
    let mut grown = at.engine.watch_size();
    let mut dirty = Dirty::new();
    let mut pace: Pace<StatusKey> = Pace::new();
    let mut next = match at.store.read().and_then(|it| it.cursor(FOLLOWER)) {
        Ok(next) => next,
        Err(error) => {
            tracing::error!(%error, "the status follower's cursor can't be read");
            return;
        }
    };
    loop {
        if let Err(error) = follow(&at, &mut next, &mut dirty) {
            tracing::error!(%error, "the journal can't be followed");
        }
        let due: Vec<StatusKey> = dirty.keys().filter(|it| pace.is_due(it)).cloned().collect();
        let results: Vec<_> = stream::iter(due)
            .map(|key| {
                let at = &at;
                let cursor = dirty
                    .iter()
                    .filter(|(it, _)| **it != key)
                    .map(|(_, seq)| *seq)
                    .min()
                    .unwrap_or(next);
                async move {
                    let result = settle(at, &key, cursor).await;
                    (key, result)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (key, result) in results {
            match result {
                Ok(Settled::Right) => {
                    pace.done(&key);
                    dirty.remove(&key);
                }
                Ok(Settled::Refused) => pace.failed(&key, Some(REFUSED_AGAIN)),
                Ok(Settled::Later { after, reason }) => {
                    tracing::warn!(%reason, project = %key.project, sha = %key.head, "a status is not taken yet");
                    pace.failed(&key, after);
                }
                Err(error) => {
                    tracing::warn!(%error, project = %key.project, sha = %key.head, "a status can't be set yet");
                    pace.failed(&key, None);
                }
            }
        }
        tokio::select! {
            changed = grown.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Reads new entries and marks the statuses they touch.
fn follow(at: &Surroundings, next: &mut u64, dirty: &mut Dirty) -> Result<(), Trouble> {
    let snapshot = at.store.read()?;
    loop {
        let entries = snapshot.leaves(*next, ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok(());
        }
        for (seq, leaf) in entries {
            if let Some(key) = touched(&Snapshot::event(&leaf)?, &snapshot)? {
                dirty.entry(key).or_insert(seq);
            }
            *next = seq + 1;
        }
    }
}

fn touched(event: &Event, snapshot: &Snapshot) -> Result<Option<StatusKey>, Trouble> {
    if let Event::ChangeObserved {
        change, head, target, ..
    } = event
    {
        return Ok(Some(StatusKey {
            project: change.project.clone(),
            head: head.clone(),
            target: target.clone(),
        }));
    }
    let Some(id) = event.request() else {
        return Ok(None);
    };
    let Some(request) = snapshot.get::<Request>(id.as_str())? else {
        return Ok(None);
    };
    Ok(match (request.change, request.head, request.target) {
        (Some(change), Some(head), Some(target)) => Some(StatusKey {
            project: change.project,
            head,
            target,
        }),
        _ => None,
    })
}

enum Settled {
    Right,
    /// The forge will not take it; recorded once.
    Refused,
    Later {
        after: Option<Duration>,
        reason: String,
    },
}

async fn settle(at: &Surroundings, key: &StatusKey, cursor: u64) -> Result<Settled, Trouble> {
    let (wanted, last, connected) = {
        let snapshot = at.store.read()?;
        let wanted = wanted_status(key, &snapshot)?;
        let last = snapshot.get::<ConfirmedStatus>(&key.row())?;
        let Some(wanted) = wanted else {
            return Ok(Settled::Right);
        };
        let is_right = |it: &ConfirmedStatus| it.state == wanted.state && it.refused.is_none();
        if last.as_ref().is_some_and(is_right) {
            return Ok(Settled::Right);
        }
        (wanted, last, at.connected(&key.project, &snapshot)?)
    };
    let Some(connected) = connected else {
        return Ok(Settled::Right);
    };
    let write = StatusWrite {
        forge_project_id: connected.project.settings.forge_project_id.clone(),
        sha: key.head.clone(),
        ref_name: wanted.source.clone().unwrap_or_default(),
        name: key.name(),
        state: wanted.state,
        description: wanted.description.clone(),
        target_url: match &wanted.request {
            Some(request) => format!("{}/a/{request}", at.public_url),
            None => format!("{}/a/", at.public_url),
        },
    };
    match connected.forge.set_status(&write).await {
        Outcome::Delivered(()) => {
            confirm(at, key, wanted, None, cursor).await?;
            Ok(Settled::Right)
        }
        Outcome::Retry { after, reason } => Ok(Settled::Later { after, reason }),
        Outcome::Rejected { reason } => {
            let known =
                last.is_some_and(|it| it.refused.as_ref() == Some(&reason) && it.state == wanted.state);
            if !known {
                tracing::warn!(%reason, project = %key.project, sha = %key.head, "the forge refuses a status");
                confirm(at, key, wanted, Some(reason), cursor).await?;
            }
            Ok(Settled::Refused)
        }
    }
}

async fn confirm(
    at: &Surroundings,
    key: &StatusKey,
    wanted: WantedStatus,
    refused: Option<String>,
    cursor: u64,
) -> Result<(), Trouble> {
    let command = Command::ConfirmStatus {
        status: key.clone(),
        state: wanted.state,
        description: wanted.description,
        request: wanted.request,
        refused,
    };
    let submission = Submission {
        actor: Actor::System,
        command,
        secrets: Vec::new(),
        cursor: Some((FOLLOWER, cursor)),
    };
    at.engine.submit_with(submission).await?;
    Ok(())
}
