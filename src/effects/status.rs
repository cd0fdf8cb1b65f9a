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
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio::task::JoinSet;

/// Name of the cursor.
const FOLLOWER: &str = "forge-status";
/// Entries read in one go.
const ENTRIES_MAX: usize = 1024;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A status that the forge refused is offered again after this long: somebody may have mended the token's rights.
const REFUSED_AGAIN: Duration = Duration::from_secs(300);

/// Statuses to look at, each with the journal position that made it so.
type Dirty = BTreeMap<StatusKey, u64>;

/// Calls on their way at once, over all forges.
const IN_FLIGHT_MAX: usize = 32;

/// Keeps statuses right, for ever. Every call is a task of its own, so that a forge that hangs holds up nobody else's
/// status.
pub async fn run_statuses(at: Surroundings) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    let mut dirty = Dirty::new();
    let mut pace: Pace<StatusKey> = Pace::new();
    let mut on_the_way: JoinSet<(StatusKey, u64, Result<Settled, Trouble>)> = JoinSet::new();
    let mut busy: HashSet<StatusKey> = HashSet::new();
    // What was sent and not confirmed: the forge may show it or not. After a start that holds for all that the cursor
    // has not passed.
    let mut in_doubt: HashSet<StatusKey> = HashSet::new();
    let mut next = at.store.read()?.cursor(FOLLOWER)?;
    follow(&at, &mut next, &mut dirty)?;
    in_doubt.extend(dirty.keys().cloned());
    loop {
        for key in follow(&at, &mut next, &mut dirty)? {
            // Something new about it: a red state must not wait out the back-off of an older green one.
            pace.done(&key);
        }
        let due: Vec<StatusKey> = dirty
            .keys()
            .filter(|it| !busy.contains(*it) && pace.is_due(it))
            .cloned()
            .collect();
        for key in due.into_iter().take(IN_FLIGHT_MAX.saturating_sub(busy.len())) {
            let seen = dirty.get(&key).copied().unwrap_or(next);
            let others = dirty
                .iter()
                .filter(|(it, _)| **it != key)
                .map(|(_, seq)| *seq)
                .min();
            let cursors = Cursors {
                done: others.unwrap_or(next),
                kept: others.map_or(seen, |it| it.min(seen)),
            };
            let doubtful = in_doubt.contains(&key);
            in_doubt.insert(key.clone());
            busy.insert(key.clone());
            let at = at.clone();
            on_the_way.spawn(async move {
                let result = settle(&at, &key, doubtful, cursors).await;
                (key, seen, result)
            });
        }
        tokio::select! {
            Some(finished) = on_the_way.join_next() => {
                let (key, seen, result) = finished.map_err(|e| Trouble::Forge(e.to_string()))?;
                busy.remove(&key);
                match result {
                    Ok(Settled::Right) => {
                        in_doubt.remove(&key);
                        pace.done(&key);
                        // Touched again meanwhile, it is looked at again.
                        if dirty.get(&key) == Some(&seen) {
                            dirty.remove(&key);
                        }
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
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Where the cursor may move once a status is confirmed, and where it has to stay while the forge refuses it.
#[derive(Clone, Copy)]
struct Cursors {
    done: u64,
    kept: u64,
}

/// Reads new entries and marks the statuses they touch; answers which.
fn follow(at: &Surroundings, next: &mut u64, dirty: &mut Dirty) -> Result<Vec<StatusKey>, Trouble> {
    let snapshot = at.store.read()?;
    let mut marked = Vec::new();
    loop {
        let entries = snapshot.leaves(*next, ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok(marked);
        }
        for (seq, leaf) in entries {
            if let Some(key) = touched(&Snapshot::event(&leaf)?, &snapshot)? {
                dirty.insert(key.clone(), seq);
                marked.push(key);
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

async fn settle(
    at: &Surroundings,
    key: &StatusKey,
    in_doubt: bool,
    cursors: Cursors,
) -> Result<Settled, Trouble> {
    let (wanted, last, connected) = {
        let snapshot = at.store.read()?;
        let wanted = wanted_status(key, in_doubt, &snapshot)?;
        let last = snapshot.get::<ConfirmedStatus>(&key.row())?;
        let Some(wanted) = wanted else {
            return Ok(Settled::Right);
        };
        let is_right = |it: &ConfirmedStatus| it.state == wanted.state && it.refused.is_none();
        if !in_doubt && last.as_ref().is_some_and(is_right) {
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
            confirm(at, key, wanted, None, cursors.done).await?;
            Ok(Settled::Right)
        }
        Outcome::Retry { after, reason } => Ok(Settled::Later { after, reason }),
        Outcome::Rejected { reason } => {
            let known =
                last.is_some_and(|it| it.refused.as_ref() == Some(&reason) && it.state == wanted.state);
            if !known {
                tracing::warn!(%reason, project = %key.project, sha = %key.head, "the forge refuses a status");
                confirm(at, key, wanted, Some(reason), cursors.kept).await?;
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
