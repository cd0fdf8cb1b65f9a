//! The one pure decision: recorded state and a command in, what is to be recorded out.
//!
//! Runs inside the write transaction that will record its answer. It has no clock, no randomness and no I/O: the time
//! and every random number come in with the command.

mod administration;
mod attention;
mod branches;
mod changes;
mod codes;
mod conditions;
mod dangers;
mod decisions;
mod deployments;
mod erasures;
mod evidence;
mod exceptions;
mod gates;
mod governance;
mod impact;
mod judge;
mod notices;
mod people;
mod provision;
mod questions;
mod queue;
mod requests;
mod reviews;
mod rollback;
mod roster;
mod set_up;
mod sinks;
mod statuses;
mod views;

pub use attention::code_matches;
pub use branches::{Uncovered, uncovered};
pub use changes::{WantedLock, WantedStatus, wanted_lock, wanted_status};
pub use codes::deciding_codes;
pub use decisions::{Eligibility, Standing, eligibility, hopeless, may_answer, progress, standing};
pub use deployments::{NextStep, action_text, gates_environment, may_ask_again, next_step};
pub use governance::{REASON_CHARS_MAX, may_confirm};
pub use impact::{Difference, Impact, impact};
pub use judge::{as_judged_now, shortened};
pub use questions::{lint_facts, simulate};
pub use queue::{QueuedStatus, queued_status};
pub use requests::{may_see, reads_all};
pub use roster::Roster;

use crate::domain::command::{Command, Proof, Reply};
use crate::domain::event::{Actor, Event};
use crate::domain::governance::Proposal;
use crate::domain::ids::{Digest, PersonId, RequestId};
use crate::domain::policy::Method;
use crate::domain::refusal::Refusal;
use crate::domain::request::{Answer, ChangeKey, Opening, Request, Status};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;

/// What is to be recorded, in order, and what the submitter is told once it is.
#[derive(Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub reply: Result<Reply, Refusal>,
}

impl Plan {
    /// Nothing to record.
    pub fn nothing() -> Self {
        Plan {
            steps: Vec::new(),
            reply: Ok(Reply::Nothing),
        }
    }

    fn done(steps: Vec<Step>) -> Self {
        Plan {
            steps,
            reply: Ok(Reply::Done),
        }
    }

    fn refuse(refusal: Refusal) -> Self {
        Plan {
            steps: Vec::new(),
            reply: Err(refusal),
        }
    }
}

/// One thing to record.
#[derive(Debug)]
pub enum Step {
    /// A blob that a later event names by its digest.
    Blob(Vec<u8>),
    /// An event that is ready as it is.
    Event(Box<Event>),
    /// A decision: the engine makes and signs its credential, then records `decision.recorded`.
    Decision(Box<DecisionDraft>),
    /// An outcome: the engine makes and signs its statement, then records the event of that status.
    Outcome(Box<OutcomeDraft>),
    /// Something waits in a queue of work: look at this change (again). Queues hold no history; doing their work twice
    /// is harmless, so they are filled and emptied without an event.
    Hint(ChangeKey),
    /// The work is done, unless a newer hint came meanwhile.
    Unhint(ChangeKey, u64),
    /// A follower goes on at this journal position.
    Cursor(String, u64),
    /// The blob is no longer kept. An event of the same plan says so.
    Erase(Digest),
}

impl Step {
    /// Whether it decides something, or lets something through a gate.
    pub fn opens_a_gate(&self) -> bool {
        match self {
            Step::Decision(_) => true,
            Step::Outcome(it) => matches!(it.status, Status::Approved | Status::Skipped),
            _ => false,
        }
    }

    /// The step that records an event.
    fn event(event: Event) -> Step {
        Step::Event(Box::new(event))
    }
}

/// A decision before its credential exists.
#[derive(Debug, Clone)]
pub struct DecisionDraft {
    pub request: Box<Request>,
    pub opening: Box<Opening>,
    pub person: PersonId,
    pub answer: Answer,
    pub method: Method,
    pub comment: String,
    pub break_glass: bool,
    pub intent: Vec<u8>,
    pub challenge_issued_at: Time,
    pub proof: Proof,
}

/// Which credential filled a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilledBy {
    /// One recorded before.
    Earlier(Digest),
    /// The one recorded in the same plan, just before.
    ThisOne,
}

/// One obligation in an outcome and what filled it.
#[derive(Debug, Clone)]
pub struct FilledObligation {
    pub rule: String,
    pub quorum: u32,
    pub methods: Vec<Method>,
    pub by: Vec<FilledBy>,
    pub break_glass: bool,
}

/// An outcome before its statement exists.
#[derive(Debug, Clone)]
pub struct OutcomeDraft {
    pub request: RequestId,
    pub opening: Digest,
    pub status: Status,
    pub obligations: Vec<FilledObligation>,
    pub expires_at: Option<Time>,
    pub reason: String,
    pub skipped_by: Vec<String>,
}

/// Why somebody changes the configuration with this command: what its entries are recorded with.
///
/// # Errors
/// When a proposal can't be read.
pub fn reason_of(command: &Command, state: &impl Read) -> Result<Option<String>, Fault> {
    let reason = match command {
        Command::Confirmed { command, .. } => return reason_of(command, state),
        Command::Because { reason, .. } => Some(reason.clone()),
        Command::Govern(it) => Some(it.reason.clone()),
        Command::ConfirmProposal(it) => state.get::<Proposal>(it.proposal.as_str())?.map(|it| it.reason),
        _ => None,
    };
    Ok(reason.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()))
}

/// Decides one command.
///
/// # Errors
/// A `Fault` means the recorded state could not be read: the caller must stop. Rules that say no are in the plan.
pub fn decide(command: Command, actor: &Actor, now: Time, state: &impl Read) -> Result<Plan, Fault> {
    let (command, confirmed) = match command {
        Command::Confirmed { confirmed, command } => (*command, Some(*confirmed)),
        command => (command, None),
    };
    if command.lacks_reason(actor) {
        let reason = "Say why: each change of the configuration is recorded with its reason.";
        return Ok(Plan::refuse(Refusal::invalid("reason", reason)));
    }
    let (command, reason) = match command {
        Command::Because { command, reason } => (*command, reason),
        command => (command, String::new()),
    };
    let Some(act) = dangers::act_of(&command, actor, state)? else {
        return carry_out(command, Danger::none(), actor, now, state);
    };
    let needed = dangers::admins_needed(act, &command, actor, now, state)?;
    let evidence = confirmed.as_ref().map(|it| Digest::of(&it.evidence));
    let told = match dangers::let_pass(act, confirmed, actor, now, state) {
        Ok(told) => told,
        Err(Stop::Refused(refusal)) => return Ok(Plan::refuse(refusal)),
        Err(Stop::Fault(fault)) => return Err(fault),
    };
    let danger = Danger {
        needed,
        by_key: matches!(actor, Actor::Key { .. }),
    };
    if danger.by_key && !matches!(command, Command::Govern(_)) {
        return Ok(Plan::refuse(dangers::no_key(act)));
    }
    let command = match evidence.filter(|_| needed > 1) {
        Some(evidence) => dangers::as_proposal(command, &reason, &evidence, state)?,
        None => command,
    };
    let mut plan = carry_out(command, danger, actor, now, state)?;
    if plan.reply.is_ok() {
        plan.steps.splice(0..0, told);
    }
    Ok(plan)
}

/// What a dangerous act needs besides its ceremony.
#[derive(Clone, Copy, Debug)]
struct Danger {
    /// Admins, the acting one among them; 1 where it is no dangerous act.
    needed: u32,
    /// A key asks, which has no passkey: it waits for an admin's.
    by_key: bool,
}

impl Danger {
    /// It is no dangerous act.
    fn none() -> Self {
        Danger {
            needed: 1,
            by_key: false,
        }
    }
}

fn carry_out(
    command: Command,
    danger: Danger,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Result<Plan, Fault> {
    let plan = match command {
        // Nobody gives a reason for giving a reason, or confirms a confirmation.
        Command::Because { .. } | Command::Confirmed { .. } => return Ok(Plan::refuse(Refusal::Unknown)),
        Command::BeginAct { .. } => Ok(Plan::done(Vec::new())),
        Command::ClaimSetUp {
            person,
            name,
            email,
            passkey,
            session,
        } => people::claim_set_up(person, name, email, passkey, session, now, state),
        Command::AddPerson {
            person,
            name,
            email,
            roles,
            invitation,
        } => people::add(person, name, email, roles, invitation, now, state),
        Command::InviteAgain { person, invitation } => people::invite_again(person, invitation, now, state),
        Command::ChangePerson {
            person,
            name,
            roles,
            active,
        } => people::change(person, name, roles, active, state),
        Command::Enrol {
            token_sha256,
            passkey,
            session,
        } => people::enrol(token_sha256, passkey, session, now, state),
        Command::AddPasskey { person, passkey } => people::add_passkey(person, passkey, now, state),
        Command::RevokePasskey {
            person,
            credential_id,
            reason,
        } => people::revoke_passkey(person, credential_id, reason, state),
        Command::EnrolTotp {
            person,
            step,
            hold_seconds,
            confirmed_by,
        } => codes::enrol(person, step, hold_seconds, confirmed_by, now, state),
        Command::RevokeTotp { person, reason } => codes::revoke(person, &reason, state),
        Command::NamePasskey { credential_id, label } => {
            people::name_passkey(credential_id, label, actor, state)
        }
        Command::EndSession { token_sha256 } => people::end_session(token_sha256, actor, state),
        Command::OpenSession {
            person,
            session,
            credential_id,
            sign_count,
        } => people::open_session(person, session, credential_id, sign_count, now, state),
        Command::CloseSession { token_sha256 } => people::close_session(token_sha256, state),
        Command::LinkAccount {
            person,
            integration,
            account_id,
            proof,
        } => people::link_account(person, integration, account_id, proof, state),
        Command::CreateApiKey {
            key,
            name,
            secret_sha256,
            scopes,
            projects,
            owner,
            lifetime_seconds,
        } => administration::create_api_key(
            key,
            name,
            secret_sha256,
            scopes,
            projects,
            owner,
            lifetime_seconds,
            now,
            state,
        ),
        Command::RevokeApiKey { key } => administration::revoke_api_key(key, state),
        Command::AddIntegration {
            integration,
            kind,
            name,
            base_url,
            ca_pem,
            account,
        } => administration::add_integration(integration, kind, name, base_url, ca_pem, account, state),
        Command::RemoveIntegration { integration } => {
            administration::remove_integration(integration, danger.needed, state)
        }
        Command::AddProject {
            project,
            integration,
            path,
            web_url,
            settings,
        } => administration::add_project(project, integration, path, web_url, settings, state),
        Command::Govern(it) => governance::govern(*it, danger.needed, danger.by_key, actor, now, state),
        Command::ConfirmProposal(it) => governance::confirm(*it, now, state),
        Command::WithdrawProposal { proposal, reason } => governance::withdraw(proposal, reason, state),
        Command::EndDelegation { delegation } => governance::end_delegation(delegation, actor, now, state),
        Command::ReviewJournal {
            from,
            to,
            through,
            note,
        } => reviews::sign_off(from, to, through, &note, actor, state),
        Command::AnswerSetUp { step, word, of } => set_up::answer(step, word, of, actor, state),
        Command::ReviewException { exception, note } => exceptions::review(exception, note, actor, state),
        Command::ReceiveHook {
            integration,
            delivery,
            event,
            forge_project_id,
            number,
        } => changes::receive_hook(integration, delivery, event, forge_project_id, number, now, state),
        Command::HintChange { change } => Ok(Plan::done(vec![Step::Hint(change)])),
        Command::ForgetHint { change, hint, reason } => changes::forget_hint(change, hint, reason, state),
        Command::ObserveChange {
            facts,
            subject,
            files_sha256,
            hint,
            fresh,
        } => changes::observe(*facts, subject, files_sha256, hint, fresh, now, state),
        Command::OpenRequest(open) => requests::open(*open, now, state),
        Command::Decide(decide) => decisions::decide(*decide, now, state),
        Command::CancelRequest { request, reason } => requests::cancel(request, reason, state),
        Command::ConsumeRequest { request, idempotency } => {
            requests::consume(request, idempotency, now, state)
        }
        Command::RecordCallback {
            request,
            delivered,
            reason,
        } => requests::record_callback(request, delivered, reason, state),
        Command::RecordCommit {
            request,
            project,
            facts,
        } => requests::record_commit(request, project, facts, state),
        Command::Shorten { request } => requests::shorten(request, state),
        Command::Expire { request } => requests::expire(request, now, state),
        Command::AddDevice(it) => notices::add_device(it, actor, now, state),
        Command::ConfirmDevice { device } => notices::confirm_device(device, actor, now, state),
        Command::EndDevice { device, reason } => notices::end_device(device, reason, actor, state),
        Command::AddChat(it) => notices::add_chat(it, state),
        Command::RemoveChat { chat } => notices::remove_chat(chat, state),
        Command::ConfigureNotices(it) => notices::configure(*it, state),
        Command::PreferNotices { mail, quiet } => notices::prefer(mail, quiet, actor, state),
        Command::SaveView {
            view,
            name,
            query,
            shared,
        } => views::save(view, name, query, shared, actor, state),
        Command::RemoveView { view } => views::remove(&view, actor, state),
        Command::AskTestNotice { by } => notices::ask_test(by, actor, state),
        Command::RecordNotice(it) => notices::record(it, state),
        Command::MakePushKey { public_key } => {
            Ok(Plan::done(vec![Step::event(Event::PushKeyMade { public_key })]))
        }
        Command::SeeRequest { request } => attention::see(request, actor, state),
        Command::ReportRequest { request, note } => attention::report(request, note, actor, now, state),
        Command::MissCode { request, person } => attention::miss_code(request, person, state),
        Command::RefuseCeremony {
            person,
            request,
            reason,
        } => Ok(Plan::done(vec![Step::event(Event::CeremonyRefused {
            person,
            request,
            reason,
            code: None,
        })])),
        Command::ConfirmStatus {
            status,
            state: gate,
            description,
            request,
            refused,
            sources,
        } => Ok(Plan::done(vec![Step::event(Event::StatusConfirmed {
            status,
            state: gate,
            description,
            request,
            refused,
            sources,
        })])),
        Command::RecordMerge {
            request,
            merged,
            commit,
            refused,
        } => Ok(Plan::done(vec![Step::event(Event::MergeAnswered {
            request,
            merged,
            commit,
            refused,
        })])),
        Command::RecordGate { project, findings } => gates::record(project, findings, now, state),
        Command::ObserveBranch(it) => branches::observe(*it, state),
        Command::WatchBranches { project, patterns } => branches::watch(project, patterns, state),
        Command::RecordReadBack {
            status,
            forged,
            lost,
            not_in_force,
        } => statuses::read_back(status, forged, lost, not_in_force, state),
        Command::MissLock { change, head } => statuses::miss_lock(change, &head, state),
        Command::ConfirmLock {
            change,
            head,
            state: told,
            request,
            refused,
        } => Ok(Plan::done(vec![Step::event(Event::LockConfirmed {
            change,
            head,
            state: told,
            request,
            refused,
        })])),
        Command::StartProvisioning {
            project,
            enforcement,
            plan_sha256,
            reason,
            changes,
        } => provision::start(
            project,
            enforcement,
            plan_sha256,
            reason,
            changes,
            danger.needed,
            actor,
            now,
            state,
        ),
        Command::RecordProvisioning {
            project,
            enforcement,
            reason,
            steps,
        } => provision::record(project, enforcement, reason, steps, actor, state),
        Command::StartRestoring { project, reason } => {
            provision::start_restoring(project, &reason, danger.needed, now, state)
        }
        Command::RecordRestoring {
            project,
            reason,
            steps,
        } => provision::record_restoring(project, reason, steps, actor, state),
        Command::StartTrial { project, branch } => provision::start_trial(project, branch, actor, now, state),
        Command::RecordTrial {
            project,
            branch,
            attempts,
            seen,
            cleared,
        } => provision::record_trial(project, branch, attempts, &seen, cleared, now, state),
        Command::ClearTrial { project, branch } => provision::clear_trial(project, branch, state),
        Command::ObserveDeployment {
            facts,
            subject,
            fresh,
        } => deployments::observe(*facts, subject, fresh, now, state),
        Command::ForgetDeployment { deployment, reason } => deployments::forget(deployment, reason, state),
        Command::StartDeployment { facts } => deployments::start(*facts, now, state),
        Command::RecordDeployment { deployment, answer } => deployments::record(deployment, answer, state),
        Command::AskDeploymentAgain { request } => deployments::ask_again(request, now, state),
        Command::Disown { from_seq, reason } => evidence::disown(from_seq, &reason, now, state),
        Command::LetAllGo { reason } => evidence::let_all_go(&reason, now, state),
        Command::ReportConditions { area, now } => conditions::report(area, now, state),
        Command::AcceptRollback(it) => rollback::accept(*it, now, state),
        Command::AddSink { sink, wanted, from } => sinks::add(sink, *wanted, from, state),
        Command::ChangeSink { sink, wanted } => sinks::change(sink, *wanted, state),
        Command::RemoveSink { sink } => sinks::remove(sink, state),
        Command::ReportSink { sink, report } => sinks::report(sink, report, state),
        Command::AcknowledgeSink { sink, next } => sinks::acknowledge(sink, next),
        Command::AnnounceDecision {
            request,
            person,
            answer,
            intent_sha256,
        } => Ok(Plan::done(vec![Step::event(Event::DecisionAnnounced {
            request,
            person,
            decision: answer,
            intent_sha256,
        })])),
        Command::Erase {
            erasure,
            requests,
            last,
        } => erasures::erase(&erasure, requests, last, now, state),
        Command::Record { events } => Ok(Plan::done(events.into_iter().map(Step::event).collect())),
    };
    match plan {
        Ok(plan) => Ok(plan),
        Err(Stop::Refused(refusal)) => Ok(Plan::refuse(refusal)),
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

/// Why a decision ends early.
#[derive(Debug)]
pub enum Stop {
    /// The rules say no.
    Refused(Refusal),
    /// The state could not be read.
    Fault(Fault),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

type Decided = Result<Plan, Stop>;

#[cfg(test)]
mod tests;
