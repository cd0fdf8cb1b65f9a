//! Looks at every gated project in turn: each after its time, or at once when a webhook says that something happened.

use crate::domain::event::Event;
use crate::domain::ids::ProjectId;
use crate::domain::project::Project;
use crate::domain::state::Read;
use crate::effects::{Surroundings, Trouble};
use crate::store::Snapshot;
use futures_util::StreamExt;
use futures_util::stream;
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
/// Projects at once.
const AT_ONCE: usize = 8;
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
    loop {
        let woken = woken(at, &mut read_to, wakes)?;
        let now = Instant::now();
        let due: Vec<Project> = at
            .store
            .read()?
            .all::<Project>()?
            .into_iter()
            .filter(|it| !it.removed)
            .filter(|it| woken.contains(&it.id) || next_looks.get(&it.id).is_none_or(|at| *at <= now))
            .collect();
        let looks: Vec<_> = due
            .into_iter()
            .map(|project| (project.id.clone(), look(project)))
            .collect();
        let done: Vec<ProjectId> = stream::iter(looks)
            .map(|(id, look)| async move {
                let result = tokio::time::timeout(ONE_MAX, look).await;
                let result =
                    result.unwrap_or_else(|_| Err(Trouble::Forge("the forge takes too long".into())));
                if let Err(error) = result {
                    tracing::warn!(%error, project = %id, what, "a project can't be looked at now");
                }
                id
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for id in done {
            next_looks.insert(id, now + every);
        }
        tokio::select! {
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(TICK) => {}
        }
        // A burst of webhooks is one reason to look.
        tokio::time::sleep(TOGETHER).await;
    }
}

/// The projects that webhooks since the last time were about.
fn woken(
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
