//! Follows the journal and makes each forge's status say what the gate says.

use crate::domain::command::Command;
use crate::domain::decide::{WantedStatus, wanted_status};
use crate::domain::event::{Actor, Event};
use crate::domain::request::{ConfirmedStatus, Request, StatusKey};
use crate::domain::state::Read;
use crate::effects::latest::{Cursors, Latest, Settled, Touched, keep_right};
use crate::effects::{Surroundings, Trouble};
use crate::engine::Submission;
use crate::forge::StatusWrite;
use crate::outbound::Outcome;
use crate::store::Snapshot;

/// Keeps statuses right, for ever.
pub async fn run_statuses(at: Surroundings) -> Result<(), Trouble> {
    keep_right::<Statuses>(at).await
}

struct Statuses;

impl Latest for Statuses {
    const FOLLOWER: &'static str = "forge-status";
    type Key = StatusKey;

    fn touched(event: &Event, snapshot: &Snapshot) -> Result<Vec<Touched<StatusKey>>, Trouble> {
        // Read back, it was not what was confirmed.
        if let Event::ExceptionStatusForged { status, .. } | Event::StatusLost { status, .. } = event {
            return Ok(vec![Touched {
                key: status.clone(),
                in_doubt: true,
            }]);
        }
        let keys = touched(event, snapshot)?;
        let plain = |key| Touched { key, in_doubt: false };
        Ok(keys.into_iter().map(plain).collect())
    }

    async fn settle(
        at: Surroundings,
        key: StatusKey,
        in_doubt: bool,
        cursors: Cursors,
    ) -> Result<Settled, Trouble> {
        settle(&at, &key, in_doubt, cursors).await
    }
}

fn touched(event: &Event, snapshot: &Snapshot) -> Result<Vec<StatusKey>, Trouble> {
    if let Event::ChangeObserved {
        change,
        head,
        target,
        left,
        ..
    } = event
    {
        let now = StatusKey {
            project: change.project.clone(),
            head: head.clone(),
            target: target.clone(),
        };
        // What it left may be better without it: a rejected change no longer holds back those that stay.
        return Ok(left.iter().cloned().chain([now]).collect());
    }
    let Some(id) = event.request() else {
        return Ok(Vec::new());
    };
    let Some(request) = snapshot.get::<Request>(id.as_str())? else {
        return Ok(Vec::new());
    };
    Ok(match (request.change, request.head, request.target) {
        (Some(change), Some(head), Some(target)) => vec![StatusKey {
            project: change.project,
            head,
            target,
        }],
        _ => Vec::new(),
    })
}

async fn settle(
    at: &Surroundings,
    key: &StatusKey,
    in_doubt: bool,
    cursors: Cursors,
) -> Result<Settled, Trouble> {
    let (wanted, last, insist, connected) = {
        let snapshot = at.store.read()?;
        let wanted = wanted_status(key, in_doubt, &snapshot)?;
        let last = snapshot.get::<ConfirmedStatus>(&key.row())?;
        let Some(wanted) = wanted else {
            return Ok(Settled::Right);
        };
        if !in_doubt && last.as_ref().is_some_and(|it| says(it, &wanted)) {
            return Ok(Settled::Right);
        }
        // What was confirmed for another request may have been written over while nobody asked for this commit.
        let again = last.as_ref().is_some_and(|it| it.request != wanted.request);
        (
            wanted,
            last,
            in_doubt || again,
            at.connected(&key.project, &snapshot)?,
        )
    };
    let Some(connected) = connected else {
        return Ok(Settled::Right);
    };
    let mut write = StatusWrite {
        forge_project_id: connected.project.settings.forge_project_id.clone(),
        sha: key.head.clone(),
        ref_name: String::new(),
        name: key.name(),
        state: wanted.state,
        description: wanted.description.clone(),
        target_url: match &wanted.request {
            Some(request) => format!("{}/a/{request}", at.public_url),
            None => format!("{}/a/", at.public_url),
        },
        insist,
    };
    let state = wanted.state;
    let still = || {
        let now = at
            .store
            .read()
            .ok()
            .and_then(|it| wanted_status(key, in_doubt, &it).ok());
        now.flatten().is_some_and(|it| it.state == state)
    };
    let mut told = Outcome::Delivered(());
    let no_branch = [String::new()];
    let branches = match wanted.sources.as_slice() {
        [] => &no_branch,
        some => some,
    };
    for branch in branches {
        write.ref_name.clone_from(branch);
        told = connected.forge.set_status(&write, &still).await;
        if !matches!(told, Outcome::Delivered(())) {
            break;
        }
    }
    match told {
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

/// Whether the forge was told just this: for every branch, and for the request it is about now.
fn says(confirmed: &ConfirmedStatus, wanted: &WantedStatus) -> bool {
    confirmed.state == wanted.state
        && confirmed.refused.is_none()
        && wanted.sources.iter().all(|it| confirmed.sources.contains(it))
        && confirmed.request == wanted.request
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
        sources: wanted.sources,
    };
    let submission = Submission {
        actor: Actor::System,
        command,
        secrets: Vec::new(),
        cursor: Some((Statuses::FOLLOWER, cursor)),
    };
    at.engine.submit_with(submission).await?;
    Ok(())
}
