//! Follows the journal and makes the forge's own lock of each change say what the gate says, where a project is enforced
//! by one: our account's approval, or our external status check.

use crate::domain::command::Command;
use crate::domain::decide::{WantedLock, wanted_lock};
use crate::domain::event::{Actor, Event};
use crate::domain::project::{Enforcement, Project};
use crate::domain::request::{ChangeKey, ConfirmedLock, GateState, Request, change_row};
use crate::domain::state::{Read, Table, decode};
use crate::effects::latest::{Cursors, Latest, Settled, Touched, keep_right};
use crate::effects::rounds::{every, run_rounds};
use crate::effects::{Connected, Surroundings, Trouble};
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

    fn touched(event: &Event, snapshot: &Snapshot) -> Result<Vec<Touched<ChangeKey>>, Trouble> {
        if let Event::LockLost { change } = event {
            return Ok(vec![Touched {
                key: change.clone(),
                in_doubt: true,
            }]);
        }
        let key = match event {
            Event::ChangeObserved { change, .. } => Some(change.clone()),
            _ => match event.request() {
                Some(id) => snapshot.get::<Request>(id.as_str())?.and_then(|it| it.change),
                None => None,
            },
        };
        let touched = key.map(|key| Touched { key, in_doubt: false });
        Ok(touched.into_iter().collect())
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

/// Reads back, for ever, whether the locks that were opened are open: a forge closes its own at a push, and people may.
pub async fn run_lock_read_back(at: Surroundings) -> Result<(), Trouble> {
    let wakes = |event: &str| event == "change";
    run_rounds(&at, "locks", every(at.look_every), wakes, |project| {
        read_back(&at, project)
    })
    .await
}

async fn read_back(at: &Surroundings, project: Project) -> Result<(), Trouble> {
    let Some(kind) = lock_of(project.settings.enforcement) else {
        return Ok(());
    };
    let (connected, opened) = {
        let snapshot = at.store.read()?;
        let Some(connected) = at
            .connected(&project.id, &snapshot)?
            .map(Connected::in_background)
        else {
            return Ok(());
        };
        let rows = snapshot.with_prefix(Table::Locks, format!("{}\0", project.id).as_bytes())?;
        let mut opened = Vec::new();
        for (_, row) in rows {
            let lock: ConfirmedLock = decode(&row)?;
            let is_open = lock.state == GateState::Success && lock.refused.is_none();
            let wanted = wanted_lock(&lock.change, &snapshot)?;
            if is_open && wanted.is_some_and(|it| it.state == GateState::Success && it.head == lock.head) {
                opened.push(lock);
            }
        }
        (connected, opened)
    };
    for lock in opened {
        let asked = LockWrite {
            forge_project_id: project.settings.forge_project_id.clone(),
            number: lock.change.number,
            sha: lock.head.clone(),
            kind,
            state: lock.state,
            hook_url: hook_url(&at.public_url, &connected.integration),
        };
        let open = connected.forge.lock_is_open(&asked).await;
        if !open.map_err(|e| Trouble::Forge(connected.forge.explain(&e)))? {
            let command = Command::MissLock {
                change: lock.change,
                head: lock.head,
            };
            at.engine.submit(Actor::System, command).await?;
        }
    }
    Ok(())
}

/// The forge's own lock that a mode uses.
fn lock_of(enforcement: Enforcement) -> Option<LockKind> {
    match enforcement {
        Enforcement::BotApproval => Some(LockKind::Approval),
        Enforcement::ExternalStatusCheck => Some(LockKind::ExternalCheck),
        Enforcement::MergeBroker | Enforcement::CommitStatus => None,
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
    let lock = lock_of(connected.project.settings.enforcement);
    let ours = lock.is_some();
    // Not, or no more, the forge's own lock: nothing of ours may be left open there.
    let kind = lock.unwrap_or(LockKind::Approval);
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
