//! Deployments that wait on a forge: what is asked for a job, what an approval of it may start, and what was started
//! without one.

use crate::domain::decide::administration::live_project;
use crate::domain::decide::changes::{Judgement, defaults, void_with};
use crate::domain::decide::requests::{opened, policy_in_force};
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::deployment::{
    Deployment, DeploymentAnswer, DeploymentFacts, DeploymentKey, DeploymentState, Phase,
};
use crate::domain::event::Event;
use crate::domain::ids::{PersonId, RequestId};
use crate::domain::people::Person;
use crate::domain::policy::{Asked, ControlFiles, NamePattern, Outcome, Question, Unattributed, evaluate};
use crate::domain::project::{Integration, Project};
use crate::domain::refusal::Refusal;
use crate::domain::request::{Involvement, Kind, Opening, Request, Requester, Status};
use crate::domain::state::{Fault, Read};
use crate::domain::text::visible;
use crate::domain::time::Time;
use std::collections::BTreeMap;

/// How long a deployment on a forge waits where no rule says less, in seconds: nothing there waits for it meanwhile.
pub const WAIT_SECONDS: u64 = 86_400;

/// What is to be done about a deployment now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    Nothing,
    /// Spend its approval and start the job.
    Start,
    /// Its approval is spent: find out whether the job was started, and start it if not, while the approval holds.
    Resume {
        in_time: bool,
    },
    /// Tell the forge of the rejection.
    TellRejection,
}

/// What is to be done about a deployment whose request stands so.
pub fn next_step(it: &Deployment, request: Option<&Request>, now: Time) -> NextStep {
    let Some(request) = request.filter(|request| it.request.as_ref() == Some(&request.id)) else {
        return NextStep::Nothing;
    };
    match (it.state, request.status) {
        (DeploymentState::Starting, Status::Approved | Status::Skipped) => NextStep::Resume {
            in_time: in_time(request, now),
        },
        (DeploymentState::Waiting, Status::Approved | Status::Skipped)
            if request.consumed_at.is_none() && in_time(request, now) =>
        {
            NextStep::Start
        }
        (DeploymentState::Waiting, Status::Rejected) if it.facts.blocked && !it.rejection_told => {
            NextStep::TellRejection
        }
        _ => NextStep::Nothing,
    }
}

fn in_time(request: &Request, now: Time) -> bool {
    !request.lapsed && request.expires_at.is_none_or(|it| now < it)
}

/// What is asked for a job, in one line: the action that people sign.
pub fn action_text(project_path: &str, facts: &DeploymentFacts) -> String {
    format!(
        "Deploy {project_path} to {}: start job {} of pipeline {}",
        facts.environment, facts.job_name, facts.pipeline
    )
}

/// Whether an environment is one of those a project gates.
///
/// # Errors
/// A pattern that can't be read: only valid ones are recorded.
pub fn gates_environment(project: &Project, environment: &str) -> Result<bool, Fault> {
    for text in &project.settings.environments {
        let pattern =
            NamePattern::new(text).map_err(|e| Fault(format!("environment of {}: {e}", project.id)))?;
        if pattern.matches(environment) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn observe(
    facts: DeploymentFacts,
    subject: String,
    fresh: RequestId,
    now: Time,
    state: &impl Read,
) -> Decided {
    let project = match live_project(&facts.key.project, state) {
        Ok(project) => project,
        Err(Stop::Refused(_)) => return Ok(Plan::nothing()),
        Err(fault) => return Err(fault),
    };
    if !gates_environment(&project, &facts.environment)? {
        return forget(
            facts.key,
            "This environment is no longer gated.".to_owned(),
            state,
        );
    }
    let before: Option<Deployment> = state.get(&facts.key.row())?;
    let gate = gate_of(before.as_ref(), state)?;
    match facts.phase {
        Phase::Waiting => waiting(&project, before, gate, facts, subject, fresh, now, state),
        Phase::Started => started(&project, before, gate, facts, now, state),
        Phase::Ended => {
            let Some(before) = before.filter(|it| it.state.is_open()) else {
                return Ok(Plan::nothing());
            };
            let because = "The job ended on the forge without having run: cancelled, skipped, outdated or refused there.";
            Ok(ended(before, gate, facts, Status::Cancelled, because))
        }
    }
}

fn gate_of(it: Option<&Deployment>, state: &impl Read) -> Result<Option<Request>, Fault> {
    match it.and_then(|it| it.request.as_ref()) {
        Some(id) => state.get(id.as_str()),
        None => Ok(None),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "what is known, what is seen, and what is needed to ask"
)]
fn waiting(
    project: &Project,
    before: Option<Deployment>,
    gate: Option<Request>,
    facts: DeploymentFacts,
    subject: String,
    fresh: RequestId,
    now: Time,
    state: &impl Read,
) -> Decided {
    if facts.superseded_by.is_some() {
        return Ok(match before.filter(|it| it.state.is_open()) {
            Some(before) => ended(
                before,
                gate,
                facts,
                Status::Superseded,
                "A newer pipeline waits to deploy here.",
            ),
            // What was outdated before anybody saw it is nobody's business.
            None => Plan::nothing(),
        });
    }
    let mut steps = Vec::new();
    match &before {
        // The forge still shows what it was before the start: it is read again soon.
        Some(it) if it.state == DeploymentState::Started => return Ok(Plan::nothing()),
        Some(it) if it.state.is_open() && it.request.is_some() && it.facts.same_subject(&facts) => {
            if it.facts.blocked != facts.blocked {
                let request = it.request.clone();
                steps.push(observed(facts, it.state, request));
            }
            return Ok(Plan::done(steps));
        }
        Some(it) if it.state.is_open() => {
            let because = "The job is not what it was.";
            steps.extend(
                gate.as_ref()
                    .and_then(|it| void_with(it, Status::Superseded, because)),
            );
        }
        _ => {}
    }
    steps.push(observed(
        facts.clone(),
        DeploymentState::Waiting,
        Some(fresh.clone()),
    ));
    let (opening, policy) = opening(project, facts, subject, state)?;
    steps.extend(opened(&fresh, opening, policy, None, now));
    Ok(Plan::done(steps))
}

fn started(
    project: &Project,
    before: Option<Deployment>,
    gate: Option<Request>,
    facts: DeploymentFacts,
    now: Time,
    state: &impl Read,
) -> Decided {
    if before
        .as_ref()
        .is_some_and(|it| it.state == DeploymentState::Started)
    {
        return Ok(Plan::nothing());
    }
    if let (Some(before), Some(gate)) = (&before, &gate)
        && covers(gate, before, &facts, own_account(project, state)?.as_deref(), now)
    {
        let mut steps = Vec::new();
        if gate.consumed_at.is_none() {
            let request = gate.id.clone();
            steps.push(Step::event(Event::RequestConsumed {
                request,
                idempotency: None,
            }));
        }
        let by = facts.job_account;
        steps.push(answered(before, DeploymentAnswer::Started { by }));
        return Ok(Plan::done(steps));
    }
    let request = before.and_then(|it| it.request);
    let because = "The job was started on the forge without this approval.";
    let mut steps: Vec<Step> = gate
        .as_ref()
        .and_then(|it| void_with(it, Status::Cancelled, because))
        .into_iter()
        .collect();
    steps.push(Step::event(Event::ExceptionUnapprovedDeployment {
        deployment: facts.key.clone(),
        job_name: facts.job_name.clone(),
        environment: facts.environment.clone(),
        ref_name: facts.ref_name.clone(),
        sha: facts.sha.clone(),
        pipeline: facts.pipeline,
        by: facts.job_account.clone(),
        request: request.clone(),
    }));
    steps.push(observed(facts, DeploymentState::Started, request));
    Ok(Plan::done(steps))
}

/// Whether a started job was started under its approval: by us once it was spent for it, or by anybody while it held.
fn covers(
    gate: &Request,
    before: &Deployment,
    facts: &DeploymentFacts,
    own: Option<&str>,
    now: Time,
) -> bool {
    let approved = matches!(gate.status, Status::Approved | Status::Skipped);
    let by_us = own.is_some() && facts.job_account.as_ref().map(|it| it.id.as_str()) == own;
    let spent = gate.consumed_at.is_some();
    let holds =
        in_time(gate, now) && (!spent || before.state == DeploymentState::Starting) && before.state.is_open();
    approved && before.facts.same_subject(facts) && ((by_us && spent) || holds)
}

fn own_account(project: &Project, state: &impl Read) -> Result<Option<String>, Fault> {
    let integration: Option<Integration> = state.get(project.integration.as_str())?;
    Ok(integration.and_then(|it| it.account).map(|it| it.id))
}

/// Ends a deployment that was open.
fn ended(
    before: Deployment,
    gate: Option<Request>,
    facts: DeploymentFacts,
    status: Status,
    because: &str,
) -> Plan {
    let mut steps: Vec<Step> = gate
        .as_ref()
        .and_then(|it| void_with(it, status, because))
        .into_iter()
        .collect();
    steps.push(observed(facts, DeploymentState::Ended, before.request));
    Plan::done(steps)
}

pub(super) fn forget(key: DeploymentKey, reason: String, state: &impl Read) -> Decided {
    let before: Option<Deployment> = state.get(&key.row())?;
    let Some(before) = before.filter(|it| it.state.is_open()) else {
        return Ok(Plan::nothing());
    };
    let gate = gate_of(Some(&before), state)?;
    let facts = DeploymentFacts {
        phase: Phase::Ended,
        ..before.facts.clone()
    };
    Ok(ended(before, gate, facts, Status::Cancelled, &reason))
}

pub(super) fn start(facts: DeploymentFacts, now: Time, state: &impl Read) -> Decided {
    let refuse = |why: &str| Err(Refusal::NotUsable { why: why.into() }.into());
    live_project(&facts.key.project, state)?;
    let record: Option<Deployment> = state.get(&facts.key.row())?;
    let Some(record) = record else {
        return refuse("Nobody was asked about this job.");
    };
    let gate = gate_of(Some(&record), state)?;
    let ready = facts.phase == Phase::Waiting && facts.superseded_by.is_none();
    if !ready || !record.facts.same_subject(&facts) {
        return refuse("The job is no longer what was approved.");
    }
    match next_step(&record, gate.as_ref(), now) {
        NextStep::Start => {}
        NextStep::Nothing | NextStep::Resume { .. } | NextStep::TellRejection => {
            return refuse("No approval of this job can be used now.");
        }
    }
    let Some(request) = gate.map(|it| it.id) else {
        return refuse("Nobody was asked about this job.");
    };
    Ok(Plan::done(vec![
        Step::event(Event::RequestConsumed {
            request,
            idempotency: None,
        }),
        answered(&record, DeploymentAnswer::Starting),
    ]))
}

pub(super) fn record(key: DeploymentKey, answer: DeploymentAnswer, state: &impl Read) -> Decided {
    let record: Deployment = state.get(&key.row())?.ok_or(Refusal::Unknown)?;
    let gate = gate_of(Some(&record), state)?;
    let fits = match &answer {
        // Only what spends an approval begins a start.
        DeploymentAnswer::Starting => return Err(Refusal::Unknown.into()),
        DeploymentAnswer::Started { .. } | DeploymentAnswer::OutOfTime { .. } => {
            record.state == DeploymentState::Starting
        }
        DeploymentAnswer::Refused { reason } => {
            record.state.is_open() && record.refused.as_ref() != Some(reason)
        }
        DeploymentAnswer::RejectionTold => {
            !record.rejection_told && gate.is_some_and(|it| it.status == Status::Rejected)
        }
    };
    Ok(match fits {
        true => Plan::done(vec![answered(&record, answer)]),
        false => Plan::nothing(),
    })
}

pub(super) fn ask_again(request: RequestId, now: Time, state: &impl Read) -> Decided {
    let gate: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
    let record: Option<Deployment> = match &gate.deployment {
        Some(key) => state.get(&key.row())?,
        None => None,
    };
    let Some(record) = record else {
        let why = "Only a deployment that waits on a forge can be asked again from here.".to_owned();
        return Err(Refusal::NotAllowed { why }.into());
    };
    let current = record.request.as_ref() == Some(&request) && record.state == DeploymentState::Waiting;
    if !current {
        let why = "The job no longer waits for this request.".to_owned();
        return Err(Refusal::NotAllowed { why }.into());
    }
    let why = match gate.status {
        Status::Pending => "It is still being asked.",
        Status::Rejected => "It was rejected, and that holds for this job. A new pipeline asks anew.",
        Status::Approved | Status::Skipped if in_time(&gate, now) && gate.consumed_at.is_none() => {
            "It is approved and about to be started."
        }
        _ => {
            let deployment = record.key;
            return Ok(Plan::done(vec![Step::event(Event::DeploymentAskedAgain {
                deployment,
                request,
            })]));
        }
    };
    Err(Refusal::NotAllowed { why: why.to_owned() }.into())
}

/// Whether a deployment's ended request can be asked again.
pub fn may_ask_again(request: &RequestId, now: Time, state: &impl Read) -> Result<bool, Fault> {
    match ask_again(request.clone(), now, state) {
        Ok(_) => Ok(true),
        Err(Stop::Refused(_)) => Ok(false),
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

fn answered(it: &Deployment, answer: DeploymentAnswer) -> Step {
    Step::event(Event::DeploymentAnswered {
        deployment: it.key.clone(),
        request: it.request.clone(),
        answer,
    })
}

fn observed(facts: DeploymentFacts, state: DeploymentState, request: Option<RequestId>) -> Step {
    Step::event(Event::DeploymentObserved {
        facts: Box::new(facts),
        state,
        request,
    })
}

/// Everything a deployment's request is opened with, and the policy's bytes.
fn opening(
    project: &Project,
    facts: DeploymentFacts,
    subject: String,
    state: &impl Read,
) -> Result<(Opening, Vec<u8>), Stop> {
    let Judgement {
        evaluation,
        policy,
        involved,
    } = judge_deployment(project, &facts, state)?;
    let opening = Opening {
        request: None,
        kind: Kind::Deployment,
        subject,
        title: action_text(&project.path, &facts),
        requester: Requester::ForgeAccount {
            id: facts.triggered_by.id.clone(),
            name: facts.triggered_by.name.clone(),
        },
        policy: policy.reference,
        obligations: evaluation.obligations,
        break_glass: evaluation.break_glass,
        trace: evaluation.trace,
        notes: evaluation.reasons,
        involved,
        ttl_seconds: evaluation.ttl,
        blocked: evaluation.outcome == Outcome::Block,
        environment: Some(facts.environment.clone()),
        project_name: Some(project.path.clone()),
        claimed: None,
        digest: Some(("gitCommit".to_owned(), facts.sha.clone())),
        callback_url: None,
        commit_of: None,
        skipped_by: evaluation.skipped_by,
        facts: None,
        change: None,
        deployment: Some(Box::new(facts)),
    };
    Ok((opening, policy.bytes))
}

/// Judges a deployment by the rules in force: the policy that governs deployments, with the project's own settings where
/// no rule says otherwise.
pub(super) fn judge_deployment(
    project: &Project,
    facts: &DeploymentFacts,
    state: &impl Read,
) -> Result<Judgement, Stop> {
    let defaults = defaults(project);
    let policy = policy_in_force(None, &defaults, state)?;
    let mut evaluation = evaluate(&Question {
        policy: policy.document.as_ref(),
        defaults: &defaults,
        control_files: &ControlFiles::default(),
        asked: Asked::Action {
            environment: Some(&facts.environment),
            project: Some(&project.path),
            ttl_seconds: Some(WAIT_SECONDS),
        },
    });
    let involved = involved(project, facts, &state.all::<Person>()?);
    let own = own_account(project, state)?;
    let by_us = own.as_ref() == Some(&facts.triggered_by.id);
    if by_us {
        evaluation.reasons.push(
            "This server's own account started the pipeline, by a merge: nobody is barred as the one who did.".into(),
        );
    } else if involved.is_empty() {
        // It could be anybody's second account: where several people are asked, that costs one more (policy rule 7).
        let several = evaluation.obligations.iter().any(|it| it.quorum > 1);
        let mut note = format!(
            "The account {} that started the pipeline is linked to nobody here, so it could be anybody's. Link it to its \
             person.",
            visible(&facts.triggered_by.username)
        );
        if several {
            let reasons = evaluation.reasons.clone();
            let setting = project.settings.unattributed;
            evaluation = evaluation.for_unattributed(setting);
            evaluation.reasons = reasons;
            note.push_str(match setting {
                Unattributed::OneMore => " One more approver is needed.",
                Unattributed::Block => " The project blocks such deployments.",
            });
        }
        evaluation.reasons.push(note);
    }
    Ok(Judgement {
        evaluation,
        policy,
        involved,
    })
}

/// Who started the pipeline, if that is known.
fn involved(
    project: &Project,
    facts: &DeploymentFacts,
    people: &[Person],
) -> BTreeMap<PersonId, Involvement> {
    let linked = |it: &&Person| {
        it.accounts
            .iter()
            .any(|a| a.integration == project.integration && a.account_id == facts.triggered_by.id)
    };
    let why = "You started the pipeline, so you can't approve its deployment.";
    people
        .iter()
        .filter(linked)
        .map(|it| {
            let involvement = Involvement {
                author: true,
                why: why.to_owned(),
            };
            (it.id.clone(), involvement)
        })
        .collect()
}
