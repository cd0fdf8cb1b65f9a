//! Looks at every gated project in turn: each after its time, or at once when a webhook says that something happened.

use crate::domain::event::Event;
use crate::domain::ids::{IntegrationId, ProjectId};
use crate::domain::project::Project;
use crate::domain::state::Read;
use crate::effects::{Surroundings, Trouble};
use crate::store::Snapshot;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whose time has come, webhooks aside.
const TICK: Duration = Duration::from_millis(500);
/// What happens within this is looked at together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Entries read in one go.
const ENTRIES_MAX: usize = 1024;
/// Projects of one forge at once.
const AT_ONCE: usize = 8;
/// More projects of one forge than this are looked at a little less often, by the usual setting every 55 seconds instead of
/// 40: still within a minute, and within what a forge lets one account call.
const MANY: usize = 250;
/// Longest time one project may take.
const ONE_MAX: Duration = Duration::from_secs(45);

/// The time between two looks at what costs a call for each project: less often than the list of open changes, which one
/// call tells for many, and often enough that whatever happens is found within a minute by the usual setting.
pub(super) fn every(look_every: Duration) -> Duration {
    look_every * 8 / 5
}

/// Looks at projects, for ever; at all of them at once after a start, since anything may have happened meanwhile.
///
/// `every`: the time between two looks at a project. `wakes`: whether a webhook's event word is reason to look now.
/// `look`: one look; its failure is logged under `what` and tried again after `every`.
pub(super) async fn run_rounds<F>(
    at: &Surroundings,
    what: &'static str,
    every: Duration,
    wakes: fn(&str) -> bool,
    mut look: impl FnMut(Project) -> F,
) -> Result<(), Trouble>
where
    F: Future<Output = Result<(), Trouble>>,
{
    let mut grown = at.engine.watch_size();
    let mut next_looks: HashMap<ProjectId, Instant> = HashMap::new();
    let mut read_to = *grown.borrow_and_update();
    let mut woken: HashSet<ProjectId> = HashSet::new();
    let mut on_the_way = FuturesUnordered::new();
    let mut busy: HashMap<ProjectId, IntegrationId> = HashMap::new();
    let mut of_forge: HashMap<IntegrationId, usize> = HashMap::new();
    loop {
        woken.extend(woken_since(at, &mut read_to, wakes)?);
        let now = Instant::now();
        let mut all = at.store.read()?.all::<Project>()?;
        all.retain(|it| !it.removed);
        of_forge.clear();
        for it in &all {
            *of_forge.entry(it.integration.clone()).or_default() += 1;
        }
        let mut due: Vec<Project> = all
            .into_iter()
            .filter(|it| !busy.contains_key(&it.id))
            .filter(|it| woken.contains(&it.id) || next_looks.get(&it.id).is_none_or(|at| *at <= now))
            .collect();
        due.sort_by_key(|it| (!woken.contains(&it.id), next_looks.get(&it.id).copied()));
        for project in due {
            // A forge that hangs holds up its own projects alone.
            let of_its_forge = busy.values().filter(|it| **it == project.integration).count();
            if of_its_forge >= AT_ONCE {
                continue;
            }
            let id = project.id.clone();
            busy.insert(id.clone(), project.integration.clone());
            woken.remove(&id);
            let many = of_forge.get(&project.integration).is_some_and(|it| *it > MANY);
            let next = now + if many { every * 11 / 8 } else { every };
            let look = look(project);
            on_the_way.push(async move {
                let result = tokio::time::timeout(ONE_MAX, look).await;
                let result =
                    result.unwrap_or_else(|_| Err(Trouble::Forge("the forge takes too long".into())));
                if let Err(error) = result {
                    tracing::warn!(%error, project = %id, what, "a project can't be looked at now");
                }
                (id, next)
            });
        }
        tokio::select! {
            Some((id, next)) = on_the_way.next() => {
                busy.remove(&id);
                next_looks.insert(id, next);
                continue;
            }
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(TICK) => {}
        }
        // A burst of webhooks is one reason to look.
        tokio::time::sleep(TOGETHER).await;
    }
}

/// The projects that webhooks since the last time were about.
fn woken_since(
    at: &Surroundings,
    read_to: &mut u64,
    wakes: fn(&str) -> bool,
) -> Result<HashSet<ProjectId>, Trouble> {
    let snapshot = at.store.read()?;
    let mut told = HashSet::new();
    loop {
        let entries = snapshot.leaves(*read_to, ENTRIES_MAX)?;
        if entries.is_empty() {
            break;
        }
        for (seq, leaf) in entries {
            *read_to = seq + 1;
            if let Event::HookReceived {
                integration,
                event,
                forge_project_id,
                ..
            } = Snapshot::event(&leaf)?
                && wakes(&event)
            {
                told.insert((integration, forge_project_id));
            }
        }
    }
    if told.is_empty() {
        return Ok(HashSet::new());
    }
    let projects = snapshot.all::<Project>()?.into_iter();
    let about = |it: &Project| told.contains(&(it.integration.clone(), it.settings.forge_project_id.clone()));
    Ok(projects.filter(about).map(|it| it.id).collect())
}
