//! What an earlier life of this server has begun on a forge and not ended: settings half set up, trials not cleared away.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::ids::ProjectId;
use crate::domain::provision::{Provisioning, StepReport, StepResult, Trial};
use crate::domain::state::Read;
use crate::effects::{Surroundings, Trouble};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Between two attempts at clearing a trial away.
const AGAIN: Duration = Duration::from_secs(60);
/// Longest time for one attempt.
const ONE_MAX: Duration = Duration::from_secs(45);

/// What is still to be ended.
pub(super) struct Unfinished {
    /// Nothing that was begun before this server's start goes on.
    from_before: Vec<String>,
    tried: HashMap<ProjectId, Instant>,
}

impl Unfinished {
    /// At start: what was being set up is recorded as interrupted, so that it can be undone.
    pub(super) async fn from_before(at: &Surroundings) -> Self {
        match end_runs(at).await {
            Ok(from_before) => Unfinished {
                from_before,
                tried: HashMap::new(),
            },
            Err(error) => {
                tracing::error!(%error, "what was begun before the start can't be ended now");
                Unfinished {
                    from_before: Vec::new(),
                    tried: HashMap::new(),
                }
            }
        }
    }

    /// Clears away what trials have left: those from before the start at once, others when they can't be going on any more.
    pub(super) async fn clear_trials(&mut self, at: &Surroundings) {
        let trials = at.store.read().map(|it| it.all::<Trial>());
        let trials = match trials {
            Ok(Ok(trials)) => trials,
            Ok(Err(error)) => return tracing::error!(%error, "trials can't be read"),
            Err(error) => return tracing::error!(%error, "trials can't be read"),
        };
        let now = at.clock.now();
        for trial in trials.into_iter().filter(|it| it.to_clear) {
            if trial.is_running(now) && !self.from_before.contains(&trial.branch) {
                continue;
            }
            let waits = self.tried.get(&trial.project);
            if waits.is_some_and(|it| it.elapsed() < AGAIN) {
                continue;
            }
            self.tried.insert(trial.project.clone(), Instant::now());
            let cleared = tokio::time::timeout(ONE_MAX, clear(at, &trial)).await;
            let cleared = cleared.unwrap_or_else(|_| Err(Trouble::Forge("the forge takes too long".into())));
            if let Err(error) = cleared {
                tracing::warn!(%error, project = %trial.project, branch = %trial.branch, "a trial can't be cleared away yet");
            }
        }
    }
}

/// Ends what was being set up; the branches of trials that went on.
async fn end_runs(at: &Surroundings) -> Result<Vec<String>, Trouble> {
    let (runs, trials) = {
        let snapshot = at.store.read()?;
        (snapshot.all::<Provisioning>()?, snapshot.all::<Trial>()?)
    };
    for run in runs {
        let Some(begun) = run.running else { continue };
        let unsure = run.made.iter().filter(|it| !it.certain && it.at == begun);
        let steps: Vec<StepReport> = unsure
            .clone()
            .map(|it| StepReport {
                id: it.id.clone(),
                what: it.what.clone(),
                result: StepResult::Failed,
                detail: "The server was stopped meanwhile; how far this got is found out when it is undone or planned anew."
                    .to_owned(),
                alteration: Some(it.alteration.clone()),
            })
            .collect();
        let Some(enforcement) = unsure.map(|it| it.enforcement).next() else {
            continue;
        };
        let command = Command::RecordProvisioning {
            project: run.project.clone(),
            enforcement,
            reason: "The server was stopped while this was being carried out.".to_owned(),
            steps,
        };
        at.engine.submit(Actor::System, command).await?;
    }
    Ok(trials
        .into_iter()
        .filter(|it| it.to_clear)
        .map(|it| it.branch)
        .collect())
}

async fn clear(at: &Surroundings, trial: &Trial) -> Result<(), Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&trial.project, &snapshot)?
    };
    // A project that is gated no more is not ours to touch.
    let Some(connected) = connected else { return Ok(()) };
    let id = &connected.project.settings.forge_project_id;
    let cleared = connected.forge.clear_trial(id, &trial.branch).await;
    cleared.map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
    let command = Command::ClearTrial {
        project: trial.project.clone(),
        branch: trial.branch.clone(),
    };
    at.engine.submit(Actor::System, command).await?;
    Ok(())
}
