//! Merge queues: a forge lands commits of its own making there, which need a status too. Each is green only if every change
//! it holds is approved at just the head it was queued with.

use crate::domain::branch::Tip;
use crate::domain::command::Command;
use crate::domain::decide::queued_status;
use crate::domain::event::Actor;
use crate::domain::project::Project;
use crate::domain::request::{ConfirmedStatus, GateState, StatusKey};
use crate::domain::state::{Read, Table, decode};
use crate::effects::rounds::{every, run_rounds};
use crate::effects::{Connected, Surroundings, Trouble};
use crate::forge::{QueuedGroup, StatusWrite};
use crate::outbound::Outcome;
use std::time::Duration;

/// A webhook says when a queue has something to land; without one it is looked so many times more seldom.
const SELDOM: u32 = 4;
/// How often a change that is not recorded as queued is waited for, and how long each time.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(2);

/// Judges what merge queues are about to land, for ever.
pub async fn run_queues(at: Surroundings) -> Result<(), Trouble> {
    let wakes = |event: &str| event == "merge_group";
    run_rounds(&at, "queues", every(at.look_every) * SELDOM, wakes, |project| {
        look(&at, project)
    })
    .await
}

async fn look(at: &Surroundings, project: Project) -> Result<(), Trouble> {
    let (connected, tips) = {
        let snapshot = at.store.read()?;
        let connected = at.connected(&project.id, &snapshot)?;
        let Some(connected) = connected.filter(|it| it.integration.kind.has_merge_queues()) else {
            return Ok(());
        };
        let rows = snapshot.with_prefix(Table::Tips, Tip::prefix(&project.id).as_bytes())?;
        let tips: Vec<Tip> = rows
            .iter()
            .map(|(_, row)| decode(row))
            .collect::<Result<_, _>>()?;
        (connected, tips)
    };
    for tip in tips.iter().filter(|it| !it.gone) {
        let asked = connected
            .forge
            .queued_groups(&project.settings.forge_project_id, &tip.branch)
            .await;
        let groups = asked.map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
        for group in &groups {
            judge(at, &connected, &tip.branch, group).await?;
        }
    }
    Ok(())
}

/// Says of one commit what is to be said.
async fn judge(
    at: &Surroundings,
    connected: &Connected,
    target: &str,
    group: &QueuedGroup,
) -> Result<(), Trouble> {
    let project = &connected.project.id;
    let key = StatusKey {
        project: project.clone(),
        head: group.head.clone(),
        target: target.to_owned(),
    };
    for attempt in 1..=TRIES {
        let (wanted, last) = {
            let snapshot = at.store.read()?;
            let wanted = queued_status(project, target, &group.members, group.known, &snapshot)?;
            (wanted, snapshot.get::<ConfirmedStatus>(&key.row())?)
        };
        for change in &wanted.unread {
            let change = change.clone();
            at.engine
                .submit(Actor::System, Command::HintChange { change })
                .await?;
        }
        let told = last.is_some_and(|it| it.state == wanted.state && it.refused.is_none());
        if !told {
            tell(at, connected, &key, wanted.state, &wanted.description, group).await?;
        }
        if wanted.unread.is_empty() || attempt == TRIES {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn tell(
    at: &Surroundings,
    connected: &Connected,
    key: &StatusKey,
    state: GateState,
    description: &str,
    group: &QueuedGroup,
) -> Result<(), Trouble> {
    let write = StatusWrite {
        forge_project_id: connected.project.settings.forge_project_id.clone(),
        sha: key.head.clone(),
        ref_name: String::new(),
        name: key.name(),
        state,
        description: description.to_owned(),
        target_url: format!("{}/a/", at.public_url),
        insist: false,
    };
    // Asked again right before the green is told.
    let still = || {
        let now = at.store.read().ok().and_then(|snapshot| {
            queued_status(&key.project, &key.target, &group.members, group.known, &snapshot).ok()
        });
        now.is_some_and(|it| it.state == state)
    };
    let refused = match connected.forge.set_status(&write, &still).await {
        Outcome::Delivered(()) => None,
        Outcome::Rejected { reason } => Some(reason),
        Outcome::Retry { reason, .. } => return Err(Trouble::Forge(reason)),
    };
    let command = Command::ConfirmStatus {
        status: key.clone(),
        state,
        description: description.to_owned(),
        request: None,
        refused,
        sources: Vec::new(),
    };
    at.engine.submit(Actor::System, command).await?;
    Ok(())
}
