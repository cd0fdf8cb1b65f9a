//! Follows the journal and makes the forge's own lock of each change say what the gate says, where a project is enforced
//! by one: our account's approval, or our external status check.

use crate::domain::command::Command;
use crate::domain::decide::{WantedLock, wanted_lock};
use crate::domain::event::{Actor, Event};
use crate::domain::project::Enforcement;
use crate::domain::request::{ChangeKey, ConfirmedLock, GateState, Request, change_row};
use crate::domain::state::Read;
use crate::effects::latest::{Cursors, Latest, Settled, Touched, keep_right};
use crate::effects::{Surroundings, Trouble};
use crate::engine::Submission;
use crate::forge::{LockKind, LockWrite, hook_url};
use crate::outbound::Outcome;
use crate::store::Snapshot;

/// Keeps locks right, for ever.
pub async fn run_locks(at: Surroundings) -> Result<(), Trouble> {
    keep_right::<Locks>(at).await
}

struct Locks;

impl Latest for Locks {
    const FOLLOWER: &'static str = "forge-lock";
    type Key = ChangeKey;

    fn touched(event: &Event, snapshot: &Snapshot) -> Result<Option<Touched<ChangeKey>>, Trouble> {
        let key = match event {
            Event::ChangeObserved { change, .. } => Some(change.clone()),
            _ => match event.request() {
                Some(id) => snapshot.get::<Request>(id.as_str())?.and_then(|it| it.change),
                None => None,
            },
        };
        Ok(key.map(|key| Touched { key, in_doubt: false }))
    }

    async fn settle(
        at: Surroundings,
        key: ChangeKey,
        in_doubt: bool,
        cursors: Cursors,
    ) -> Result<Settled, Trouble> {
        settle(&at, &key, in_doubt, cursors).await
    }
}

async fn settle(
    at: &Surroundings,
    key: &ChangeKey,
    in_doubt: bool,
    cursors: Cursors,
) -> Result<Settled, Trouble> {
    let (wanted, last, connected) = {
        let snapshot = at.store.read()?;
        let Some(connected) = at.connected(&key.project, &snapshot)? else {
            return Ok(Settled::Right);
        };
        let Some(wanted) = wanted_lock(key, &snapshot)? else {
            return Ok(Settled::Right);
        };
        (
            wanted,
            snapshot.get::<ConfirmedLock>(&change_row(key))?,
            connected,
        )
    };
    let kind = match connected.project.settings.enforcement {
        Enforcement::BotApproval => LockKind::Approval,
        Enforcement::ExternalStatusCheck => LockKind::ExternalCheck,
        // Not, or no more, the forge's own lock: nothing of ours may be left open there.
        Enforcement::MergeBroker | Enforcement::CommitStatus => LockKind::Approval,
    };
    let ours = matches!(
        connected.project.settings.enforcement,
        Enforcement::BotApproval | Enforcement::ExternalStatusCheck
    );
    let opened = last.as_ref().is_some_and(|it| it.state == GateState::Success);
    if !ours && !opened {
        return Ok(Settled::Right);
    }
    let wanted = match ours {
        true => wanted,
        false => WantedLock {
            state: GateState::Pending,
            ..wanted
        },
    };
    let same = |it: &ConfirmedLock| {
        it.refused.is_none()
            && it.state == wanted.state
            && (it.head == wanted.head || wanted.state == GateState::Pending)
    };
    // What was never opened is closed, unless it was opened and the answer got lost.
    let right = match &last {
        Some(it) => same(it),
        None => wanted.state == GateState::Pending,
    };
    if right && !in_doubt {
        return Ok(Settled::Right);
    }
    let write = LockWrite {
        forge_project_id: connected.project.settings.forge_project_id.clone(),
        number: key.number,
        sha: wanted.head.clone(),
        kind,
        state: wanted.state,
        hook_url: hook_url(&at.public_url, &connected.integration),
    };
    match connected.forge.set_lock(&write).await {
        Outcome::Delivered(()) => {
            confirm(at, key, wanted, None, cursors.done).await?;
            Ok(Settled::Right)
        }
        Outcome::Retry { after, reason } => Ok(Settled::Later { after, reason }),
        Outcome::Rejected { reason } => {
            let known = last.is_some_and(|it| {
                it.refused.as_ref() == Some(&reason) && it.state == wanted.state && it.head == wanted.head
            });
            if !known {
                tracing::warn!(%reason, project = %key.project, change = key.number, "the forge refuses a lock");
                confirm(at, key, wanted, Some(reason), cursors.kept).await?;
            }
            Ok(Settled::Refused)
        }
    }
}

async fn confirm(
    at: &Surroundings,
    key: &ChangeKey,
    wanted: WantedLock,
    refused: Option<String>,
    cursor: u64,
) -> Result<(), Trouble> {
    let submission = Submission {
        actor: Actor::System,
        command: Command::ConfirmLock {
            change: key.clone(),
            head: wanted.head,
            state: wanted.state,
            request: wanted.request,
            refused,
        },
        secrets: Vec::new(),
        cursor: Some((Locks::FOLLOWER, cursor)),
    };
    at.engine.submit_with(submission).await?;
    Ok(())
}
