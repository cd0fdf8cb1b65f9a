//! Looks at what each project's forge really enforces, and has it recorded when it changed.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::gate::{Finding, Gate, Strength};
use crate::domain::ids::ProjectId;
use crate::domain::project::Project;
use crate::domain::state::Read;
use crate::effects::unfinished::Unfinished;
use crate::effects::{Connected, Surroundings, Trouble};
use crate::forge::{Inspected, hook_url};
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Drift is found within five minutes; the rest is room for a slow forge.
const EVERY: Duration = Duration::from_secs(240);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(60);
/// How often projects that are new or were changed are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest time one project may take.
const ONE_MAX: Duration = Duration::from_secs(45);
/// Projects at once.
const AT_ONCE: usize = 8;
/// All projects are looked at in no fewer rounds than this, so that their calls spread over some minutes.
const ROUNDS_MIN: usize = 100;
/// So many failures in a row are an outage worth recording, and no hiccup.
const FAILURES_MAX: u32 = 3;

/// When a project was looked at last, and how it went.
#[derive(Clone, Copy)]
struct Looked {
    next: Instant,
    failures: u32,
}

/// Looks at all projects, for ever; at once after a start, since anything may have happened meanwhile.
pub async fn run_inspector(at: Surroundings) -> Result<(), Trouble> {
    let mut looked: HashMap<ProjectId, Looked> = HashMap::new();
    let mut unfinished = Unfinished::from_before(&at).await;
    loop {
        unfinished.clear_trials(&at).await;
        let due = match due(&at, &looked) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "projects can't be read");
                Vec::new()
            }
        };
        let results: Vec<(ProjectId, Result<(), Trouble>)> = stream::iter(due)
            .map(|project| {
                let (at, looked) = (&at, &looked);
                async move {
                    let failures = looked.get(&project.id).map_or(0, |it| it.failures);
                    let result = look(at, &project, failures).await;
                    (project.id, result)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (project, result) in results {
            let before = looked.get(&project).map_or(0, |it| it.failures);
            let (wait, failures) = match result {
                Ok(()) => (EVERY, 0),
                Err(error) => {
                    tracing::warn!(%error, %project, "the settings of a project can't be looked at now");
                    (AGAIN, before.saturating_add(1))
                }
            };
            let next = Instant::now() + wait;
            looked.insert(project, Looked { next, failures });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Projects whose time has come, and those of which nothing is recorded since they were added or changed.
fn due(at: &Surroundings, looked: &HashMap<ProjectId, Looked>) -> Result<Vec<Project>, Trouble> {
    let snapshot = at.store.read()?;
    let now = Instant::now();
    let mut due = Vec::new();
    let mut all = 0;
    for project in snapshot.all::<Project>()? {
        if project.removed {
            continue;
        }
        all += 1;
        let is_due = match looked.get(&project.id) {
            Some(it) if it.next > now => {
                it.failures == 0 && snapshot.get::<Gate>(project.id.as_str())?.is_none()
            }
            _ => true,
        };
        if is_due {
            due.push(project);
        }
    }
    // What was never looked at first, then what waits longest; never all of hundreds at once.
    due.sort_by_key(|it| looked.get(&it.id).map(|it| it.next));
    due.truncate(AT_ONCE.max(all / ROUNDS_MIN));
    Ok(due)
}

async fn look(at: &Surroundings, project: &Project, failures: u32) -> Result<(), Trouble> {
    let found = tokio::time::timeout(ONE_MAX, inspect(at, project)).await;
    let found = found.unwrap_or_else(|_| Err(Trouble::Forge("the forge takes too long".into())));
    let findings = match found {
        Ok(Some(findings)) => findings,
        Ok(None) => return Ok(()),
        Err(trouble) if failures + 1 >= FAILURES_MAX => {
            record(at, project, vec![unknown(&trouble)]).await?;
            return Err(trouble);
        }
        Err(trouble) => return Err(trouble),
    };
    record(at, project, findings).await
}

/// What is found; `None` once the project was removed.
async fn inspect(at: &Surroundings, project: &Project) -> Result<Option<Vec<Finding>>, Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&project.id, &snapshot)?
    };
    let Some(connected) = connected.map(Connected::in_background) else {
        return Ok(None);
    };
    let hook_url = hook_url(&at.public_url, &connected.integration);
    let now = at.clock.now().to_the_second();
    let asked = Inspected::of(&connected.project.settings, &hook_url, &now);
    let found = connected.forge.inspect(&asked).await;
    let found = found.map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
    Ok(Some(found))
}

/// Nobody can say what holds a gate whose forge does not answer.
fn unknown(trouble: &Trouble) -> Finding {
    Finding::new(
        "unreachable",
        Strength::None,
        format!("The project can't be looked at, so nobody knows what holds the gate: {trouble}."),
    )
}

async fn record(at: &Surroundings, project: &Project, findings: Vec<Finding>) -> Result<(), Trouble> {
    let command = Command::RecordGate {
        project: project.id.clone(),
        findings,
    };
    at.engine.submit(Actor::System, command).await?;
    Ok(())
}
