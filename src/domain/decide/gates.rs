//! What the forge's settings were found to enforce: recorded when it changes, reported when it got worse.

use crate::domain::decide::administration::live_project;
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::Event;
use crate::domain::gate::{Finding, Gate, drift, strength};
use crate::domain::ids::ProjectId;
use crate::domain::provision::Trial;
use crate::domain::refusal::Refusal;
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;

/// What has not changed is recorded again after this long: the journal shows that the gate was looked at every day.
const AGAIN_SECONDS: u64 = 24 * 3600;

pub(super) fn record(
    project: ProjectId,
    mut findings: Vec<Finding>,
    now: Time,
    state: &impl Read,
) -> Decided {
    match live_project(&project, state) {
        Ok(_) => {}
        // Taken away while its forge was asked.
        Err(Stop::Refused(Refusal::Unknown)) => return Ok(Plan::nothing()),
        Err(stop) => return Err(stop),
    }
    if let Some(trial) = state.get::<Trial>(project.as_str())? {
        findings.extend(trial.holds(&findings).to_vec());
    }
    Ok(Plan::done(checked(project, findings, now, state)?))
}

/// The steps that record what was found, settings and trials together. None where nothing changed.
pub(super) fn checked(
    project: ProjectId,
    mut findings: Vec<Finding>,
    now: Time,
    state: &impl Read,
) -> Result<Vec<Step>, Fault> {
    findings.sort();
    findings.dedup();
    let before: Option<Gate> = state.get(project.as_str())?;
    let mut steps = Vec::new();
    if let Some(before) = &before {
        if before.findings == findings && now < before.checked_at.plus_seconds(AGAIN_SECONDS) {
            return Ok(Vec::new());
        }
        if let Some(worse) = drift(before, &findings) {
            steps.push(Step::event(Event::ExceptionProtectionDrift {
                project: project.clone(),
                before: before.strength,
                strength: strength(&findings),
                findings: worse,
            }));
        }
    }
    steps.push(Step::event(Event::GateChecked {
        project,
        strength: strength(&findings),
        findings,
    }));
    Ok(steps)
}
