//! Looks at what each project's forge really enforces, and has it recorded when it changed.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::gate::{Finding, Gate, Strength};
use crate::domain::ids::{IntegrationId, ProjectId};
use crate::domain::project::Project;
use crate::domain::state::Read;
use crate::effects::unfinished::Unfinished;
use crate::effects::{Connected, Surroundings, Trouble};
use crate::forge::{Identity, Inspected, hook_url};
use futures_util::StreamExt;
use futures_util::stream;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Drift is found within five minutes; the rest is room for a slow forge.
const EVERY: Duration = Duration::from_secs(240);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(60);
/// How often projects that are new or were changed are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So long it is believed that a token is what it was.
const FRESH: Duration = Duration::from_secs(20);
/// Longest time one project may take.
const ONE_MAX: Duration = Duration::from_secs(45);
/// Projects at once.
const AT_ONCE: usize = 8;
/// So many failures in a row are an outage worth recording, and no hiccup.
const FAILURES_MAX: u32 = 3;

/// Who the token of each integration is: the same for all its projects, and asked once for all that are looked at
/// around the same time.
#[derive(Default)]
struct Identities {
    known: RefCell<HashMap<IntegrationId, (Instant, Arc<Identity>)>>,
}

impl Identities {
    fn known(&self, integration: &IntegrationId) -> Option<Arc<Identity>> {
        let known = self.known.borrow();
        let (at, identity) = known.get(integration)?;
        (at.elapsed() < FRESH).then(|| identity.clone())
    }

    fn keep(&self, integration: &IntegrationId, identity: Identity) -> Arc<Identity> {
        let identity = Arc::new(identity);
        let row = (Instant::now(), identity.clone());
        self.known.borrow_mut().insert(integration.clone(), row);
        identity
    }
}

/// When a project was looked at last, and how it went.
#[derive(Clone, Copy)]
struct Looked {
    next: Instant,
    failures: u32,
}

/// Looks at all projects, for ever; at once after a start, since anything may have happened meanwhile.
pub async fn run_inspector(at: Surroundings) -> Result<(), Trouble> {
    let identities = Identities::default();
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
                let (at, looked, identities) = (&at, &looked, &identities);
                async move {
                    let failures = looked.get(&project.id).map_or(0, |it| it.failures);
                    let result = look(at, identities, &project, failures).await;
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
    for project in snapshot.all::<Project>()? {
        if project.removed {
            continue;
        }
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
    Ok(due)
}

async fn look(
    at: &Surroundings,
    identities: &Identities,
    project: &Project,
    failures: u32,
) -> Result<(), Trouble> {
    let found = tokio::time::timeout(ONE_MAX, inspect(at, identities, project)).await;
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
async fn inspect(
    at: &Surroundings,
    identities: &Identities,
    project: &Project,
) -> Result<Option<Vec<Finding>>, Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&project.id, &snapshot)?
    };
    let Some(connected) = connected.map(Connected::in_background) else {
        return Ok(None);
    };
    let hook_url = hook_url(&at.public_url, &connected.integration);
    let now = at.clock.now().to_the_second();
    let explain = |e| Trouble::Forge(connected.forge.explain(&e));
    let identity = match identities.known(&connected.integration.id) {
        Some(identity) => identity,
        None => {
            let asked = connected.forge.identify().await.map_err(explain)?;
            identities.keep(&connected.integration.id, asked)
        }
    };
    let asked = Inspected {
        identity: Some(&identity),
        ..Inspected::of(&connected.project.settings, &hook_url, &now)
    };
    let found = connected.forge.inspect(&asked).await.map_err(explain)?;
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
