//! Setting a gate up on its forge, putting that back, and trying the gate out: who may, what is recorded, what a trial
//! proves.

use crate::domain::decide::administration::live_project;
use crate::domain::decide::gates::checked;
use crate::domain::decide::governance::{REASON_CHARS_MAX, change_quorum};
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::{Actor, Event};
use crate::domain::gate::{Finding, Gate, Strength, strength};
use crate::domain::governance::Governed;
use crate::domain::ids::{Digest, ProjectId};
use crate::domain::project::{Enforcement, Project};
use crate::domain::provision::{
    Attempt, PlannedChange, Provisioning, Seen, StepReport, Trial, inspected, settings_for,
};
use crate::domain::refusal::Refusal;
use crate::domain::request::{Change, Request, change_row};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;

#[expect(
    clippy::too_many_arguments,
    reason = "the members of one command, each with its own type"
)]
pub(super) fn start(
    project: ProjectId,
    enforcement: Enforcement,
    plan_sha256: Digest,
    reason: String,
    changes: Vec<PlannedChange>,
    needed: u32,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record = live_project(&project, state)?;
    checked_reason(&reason)?;
    nothing_runs(&project, now, state)?;
    let settings = settings_for(&record.settings, enforcement);
    if settings != record.settings {
        let change = Governed::Project {
            project: project.clone(),
            settings,
        };
        let quorum = change_quorum(&change, state)?.max(needed);
        if quorum > 1 {
            let why = format!(
                "It takes {quorum} admins to change how the gate of {} is enforced. Set \"enforcement\" of the \
                 project to \"{}\" first and have that confirmed; then set the gate up.",
                record.path,
                enforcement.name()
            );
            return Err(Refusal::NotAllowed { why }.into());
        }
    }
    if changes.is_empty() {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::GateProvisioningStarted {
        project,
        enforcement,
        plan_sha256,
        reason,
        by: name_of(actor),
        changes,
    })]))
}

pub(super) fn record(
    project: ProjectId,
    enforcement: Enforcement,
    reason: String,
    steps: Vec<StepReport>,
    actor: &Actor,
    state: &impl Read,
) -> Decided {
    let _: Project = state.get(project.as_str())?.ok_or(Refusal::Unknown)?;
    Ok(Plan::done(vec![Step::event(Event::GateProvisioned {
        project,
        enforcement,
        reason,
        by: name_of(actor),
        steps,
    })]))
}

/// Putting back makes a gate weaker. Where the rules ask for several admins to do that by the project's settings, one
/// admin can't do it this way either: first the several agree that the gate is a display, then it may be put back.
pub(super) fn start_restoring(
    project: ProjectId,
    reason: &str,
    needed: u32,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record = live_project(&project, state)?;
    checked_reason(reason)?;
    nothing_runs(&project, now, state)?;
    let display = record.settings.enforcement == Enforcement::CommitStatus && !record.settings.auto_merge;
    let change = Governed::Project {
        project,
        settings: record.settings,
    };
    let quorum = change_quorum(&change, state)?.max(needed);
    if quorum > 1 && !display {
        let why = format!(
            "It takes {quorum} admins to weaken the gate of {}. Set \"enforcement\" of the project to \
             \"commit_status\" without \"auto_merge\" first and have that confirmed; then put the settings back.",
            record.path
        );
        return Err(Refusal::NotAllowed { why }.into());
    }
    Ok(Plan::nothing())
}

pub(super) fn record_restoring(
    project: ProjectId,
    reason: String,
    steps: Vec<StepReport>,
    actor: &Actor,
    state: &impl Read,
) -> Decided {
    let _: Project = state.get(project.as_str())?.ok_or(Refusal::Unknown)?;
    Ok(Plan::done(vec![Step::event(Event::GateRestored {
        project,
        reason,
        by: name_of(actor),
        steps,
    })]))
}

pub(super) fn start_trial(
    project: ProjectId,
    branch: String,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Decided {
    live_project(&project, state)?;
    nothing_runs(&project, now, state)?;
    let before: Option<Trial> = state.get(project.as_str())?;
    if before.is_some_and(|it| it.to_clear) {
        let what =
            "What the last trial left on the forge is not cleared away yet. Try again in a few minutes.";
        return Err(Refusal::Outdated { what: what.into() }.into());
    }
    Ok(Plan::done(vec![Step::event(Event::GateTrialStarted {
        project,
        branch,
        by: name_of(actor),
    })]))
}

pub(super) fn record_trial(
    project: ProjectId,
    branch: String,
    attempts: Vec<Attempt>,
    seen: &Seen,
    cleared: bool,
    now: Time,
    state: &impl Read,
) -> Decided {
    let Some(trial) = state
        .get::<Trial>(project.as_str())?
        .filter(|it| it.branch == branch && it.ended_at.is_none())
    else {
        return Err(Refusal::Unknown.into());
    };
    let gate: Option<Gate> = state.get(project.as_str())?;
    let settings = gate.as_ref().map(inspected);
    // What nobody has looked at may let anybody in.
    let others = settings.as_ref().is_none_or(|it| strength(it) < Strength::Hard);
    let mut findings = seen.findings(others);
    // What was not asked this time is not answered by silence.
    findings.extend(trial.holes.into_iter().filter(|it| !seen.answers(&it.code)));
    findings.sort();
    findings.dedup();
    let mut steps = vec![Step::event(Event::GateTried {
        project: project.clone(),
        branch,
        by: trial.by,
        attempts,
        findings: findings.clone(),
        settings: settings.clone(),
        cleared,
    })];
    if let Some(settings) = settings {
        let all: Vec<Finding> = settings.into_iter().chain(findings).collect();
        steps.extend(checked(project, all, now, state)?);
    }
    Ok(Plan::done(steps))
}

pub(super) fn clear_trial(project: ProjectId, branch: String, state: &impl Read) -> Decided {
    let trial: Option<Trial> = state.get(project.as_str())?;
    if !trial.is_some_and(|it| it.branch == branch && it.to_clear) {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::GateTrialCleared {
        project,
        branch,
    })]))
}

/// Whether a waiting request is about the change that a trial has opened. Nobody can approve that one.
pub(super) fn is_on_trial(request: &Request, state: &impl Read) -> Result<bool, Fault> {
    let Some(key) = &request.change else {
        return Ok(false);
    };
    let trial = state.get::<Trial>(key.project.as_str())?;
    // Only while it runs, or is still to be cleared away: afterwards the name is anybody's.
    let Some(trial) = trial.filter(|it| it.ended_at.is_none() || it.to_clear) else {
        return Ok(false);
    };
    let change: Option<Change> = state.get(&change_row(key))?;
    Ok(change.is_some_and(|it| it.source.strip_prefix("refs/heads/") == Some(trial.branch.as_str())))
}

fn checked_reason(reason: &str) -> Result<(), Stop> {
    match reason.trim().chars().count() {
        0 => Err(Refusal::invalid("reason", "Say why.").into()),
        it if it > REASON_CHARS_MAX => {
            Err(Refusal::invalid("reason", format!("At most {REASON_CHARS_MAX} characters.")).into())
        }
        _ => Ok(()),
    }
}

/// One run at a time: each reads what the one before has left.
fn nothing_runs(project: &ProjectId, now: Time, state: &impl Read) -> Result<(), Stop> {
    let outdated = |what: &str| Err(Refusal::Outdated { what: what.into() }.into());
    let setting_up: Option<Provisioning> = state.get(project.as_str())?;
    if setting_up.is_some_and(|it| it.is_running(now)) {
        return outdated("This gate is being set up just now. Look at the plan again when that is done.");
    }
    let trial: Option<Trial> = state.get(project.as_str())?;
    if trial.is_some_and(|it| it.is_running(now)) {
        return outdated("This gate is being tried out just now. That takes a minute or two.");
    }
    Ok(())
}

fn name_of(actor: &Actor) -> String {
    match actor {
        Actor::Person { name, .. } => name.clone(),
        Actor::Key { name, .. } => format!("the key {name}"),
        Actor::Host => "the appliance's host".to_owned(),
        Actor::System | Actor::Forge { .. } => "the appliance".to_owned(),
    }
}
