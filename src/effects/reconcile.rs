//! Compares what the forges list with what is recorded, so that a lost webhook costs seconds, not a merge.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::policy::{BindBase, NamePattern};
use crate::domain::project::Project;
use crate::domain::request::{Change, ChangeKey};
use crate::domain::state::{Read, Table, decode};
use crate::effects::{Connected, Surroundings, Trouble};
use crate::forge::ChangeHead;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest time one project may take.
const ONE_MAX: Duration = Duration::from_secs(20);
/// Projects at once.
const AT_ONCE: usize = 16;

/// Reconciles all projects, for ever; at once after a start, since anything may have happened meanwhile.
pub async fn run_reconciler(at: Surroundings) -> Result<(), Trouble> {
    loop {
        let projects = match at
            .store
            .read()
            .map_err(Trouble::from)
            .and_then(|it| Ok(it.all::<Project>()?))
        {
            Ok(projects) => projects,
            Err(error) => {
                tracing::error!(%error, "projects can't be read");
                Vec::new()
            }
        };
        // Side by side and each within its time: a forge that hangs costs the others nothing.
        stream::iter(projects.iter().filter(|it| !it.removed))
            .for_each_concurrent(AT_ONCE, |project| async {
                let in_time = tokio::time::timeout(ONE_MAX, reconcile(&at, project)).await;
                match in_time.unwrap_or_else(|_| Err(Trouble::Forge("the forge takes too long".into()))) {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, project = %project.id, "a project can't be reconciled now");
                    }
                }
            })
            .await;
        tokio::time::sleep(at.look_every).await;
    }
}

async fn reconcile(at: &Surroundings, project: &Project) -> Result<(), Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&project.id, &snapshot)?
    };
    let Some(connected) = connected else { return Ok(()) };
    let forge_project = &project.settings.forge_project_id;
    let listed = connected
        .forge
        .open_changes(forge_project)
        .await
        .map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
    let listed: BTreeMap<u64, ChangeHead> = listed.into_iter().map(|it| (it.number, it)).collect();
    let recorded = recorded(at, project)?;
    let gated = |head: &ChangeHead| {
        let patterns = project.settings.branch_patterns.iter();
        patterns
            .filter_map(|it| NamePattern::new(it).ok())
            .any(|it| it.matches_branch(&head.target))
    };
    let target_heads = target_heads(&connected, &recorded).await?;
    let mut doubtful = Vec::new();
    for (number, head) in &listed {
        let same = match recorded.get(number) {
            Some(it) => {
                it.open
                    && it.head == head.head
                    && it.target == head.target
                    && it.draft == head.draft
                    && it.title == head.title
                    && it.request.is_some() == gated(head)
                    && target_heads
                        .get(&head.target)
                        .is_none_or(|now| it.target_sha.as_ref() == Some(now))
            }
            None => !gated(head),
        };
        if !same {
            doubtful.push(*number);
        }
    }
    doubtful.extend(
        recorded
            .iter()
            .filter(|(number, it)| it.open && !listed.contains_key(number))
            .map(|(n, _)| *n),
    );
    for number in doubtful {
        let change = ChangeKey {
            project: project.id.clone(),
            number,
        };
        at.engine
            .submit(Actor::System, Command::HintChange { change })
            .await?;
    }
    Ok(())
}

/// Where the branches that open changes aim at stand now, for a project that binds approvals to that (policy rule 11): a
/// branch that moves on changes nothing in the list of open changes.
async fn target_heads(
    connected: &Connected,
    recorded: &BTreeMap<u64, Change>,
) -> Result<BTreeMap<String, String>, Trouble> {
    let settings = &connected.project.settings;
    if settings.bind_base != BindBase::TargetSha {
        return Ok(BTreeMap::new());
    }
    let open = recorded.values().filter(|it| it.open && it.request.is_some());
    let targets: BTreeSet<&String> = open.map(|it| &it.target).collect();
    let mut heads = BTreeMap::new();
    for target in targets {
        let head = connected
            .forge
            .branch_head(&settings.forge_project_id, target)
            .await
            .map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
        heads.insert(target.clone(), head);
    }
    Ok(heads)
}

fn recorded(at: &Surroundings, project: &Project) -> Result<BTreeMap<u64, Change>, Trouble> {
    let snapshot = at.store.read()?;
    let rows = snapshot.with_prefix(Table::Changes, format!("{}\0", project.id).as_bytes())?;
    let mut changes = BTreeMap::new();
    for (_, row) in rows {
        let change: Change = decode(&row)?;
        changes.insert(change.key.number, change);
    }
    Ok(changes)
}
