//! What somebody wants to happen. Imperative; carries every fact and every random number the decision needs.

use crate::domain::branch::{Landing, Moved};
use crate::domain::condition::Reported;
use crate::domain::danger::Act;
use crate::domain::deployment::{DeploymentAnswer, DeploymentFacts, DeploymentKey};
use crate::domain::event::{Actor, Event};
use crate::domain::facts::{Account, ChangeFacts};
use crate::domain::follow_up::CommitFacts;
use crate::domain::gate::Finding;
use crate::domain::governance::Governed;
use crate::domain::ids::{
    ApiKeyId, ChatId, DelegationId, DeviceId, Digest, IntegrationId, InvitationId, PersonId, ProjectId,
    ProposalId, RequestId, SinkId, ViewId,
};
use crate::domain::notice::{
    Chat, Delivery, MailWhen, NoticeKind, NoticeSettings, Platform, QuietHours, TestBy,
};
use crate::domain::people::{Role, Scope};
use crate::domain::policy::Method;
use crate::domain::project::{Enforcement, ForgeKind, ProjectSettings};
use crate::domain::provision::{Attempt, PlannedChange, Seen, StepReport};
use crate::domain::request::{Answer, ChangeKey, GateState, Requester, Status, StatusKey};
use crate::domain::rollback::FoundCheckpoint;
use crate::domain::set_up::{SetUpStep, SetUpWord};
use crate::domain::sink::{Destination, SinkFormat};
use crate::domain::time::Time;
use std::collections::BTreeSet;

/// A passkey that `identity` has checked and that is to be recorded.
#[derive(Clone, Debug)]
pub struct NewPasskey {
    pub credential_id: String,
    pub label: String,
    pub spki: String,
    pub spki_sha256: Digest,
    pub alg: i64,
    pub aaguid: String,
    pub platform: bool,
    pub transports: Vec<String>,
    pub backup_eligible: bool,
    pub backup_state: bool,
    pub sign_count: u32,
    /// The relying-party library's record, kept as a blob.
    pub record: Vec<u8>,
    /// The attestation object as it came, kept as a blob.
    pub attestation: Vec<u8>,
    /// Seconds before it may decide.
    pub hold_seconds: u64,
    pub confirmed_by: Vec<String>,
}

/// A browser session to open along the way.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub token_sha256: Digest,
    pub lifetime_seconds: u64,
}

/// A one-time link for somebody who has no passkey yet.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    pub id: InvitationId,
    pub token_sha256: Digest,
    pub lifetime_seconds: u64,
}

/// A passkey under exactly one call, checked before it gets here.
#[derive(Clone, Debug)]
pub struct Confirmed {
    pub person: PersonId,
    pub proof: CeremonyProof,
    /// What was signed and the signature, to be kept.
    pub evidence: Vec<u8>,
}

/// The proof of one passkey ceremony, checked twice before it gets here.
#[derive(Clone, Debug)]
pub struct CeremonyProof {
    pub credential_id: String,
    pub nonce: [u8; 32],
    pub authenticator_data: Vec<u8>,
    pub client_data_json: Vec<u8>,
    pub signature: Vec<u8>,
    pub rp_id: String,
    pub origin: String,
    pub sign_count: u32,
    pub backup_eligible: bool,
    pub backup_state: bool,
}

/// How a person showed that a decision is theirs.
#[derive(Clone, Debug)]
pub enum Proof {
    Passkey(CeremonyProof),
    /// A one-time code.
    Code {
        /// The time step whose code it is, found with the secret; `None`: that of no step near.
        step: Option<u64>,
    },
}

impl From<CeremonyProof> for Proof {
    fn from(proof: CeremonyProof) -> Proof {
        Proof::Passkey(proof)
    }
}

/// What somebody wants to happen.
#[derive(Clone, Debug)]
pub enum Command {
    /// A change of the configuration, and why.
    Because {
        reason: String,
        command: Box<Command>,
    },
    /// What a passkey was put under, at this moment and for exactly this.
    Confirmed {
        confirmed: Box<Confirmed>,
        command: Box<Command>,
    },
    /// A dangerous act that is no command itself is about to begin.
    BeginAct {
        act: Act,
    },
    /// The very first admin enrols with the set-up link.
    ClaimSetUp {
        person: PersonId,
        name: String,
        email: String,
        passkey: NewPasskey,
        session: NewSession,
    },
    /// Adds a person and, usually, an invitation to enrol.
    AddPerson {
        person: PersonId,
        name: String,
        email: String,
        roles: BTreeSet<Role>,
        invitation: NewInvitation,
    },
    /// A new link for a person whose first one ran out.
    InviteAgain {
        person: PersonId,
        invitation: NewInvitation,
    },
    /// Changes roles or name, or deactivates.
    ChangePerson {
        person: PersonId,
        name: Option<String>,
        roles: Option<BTreeSet<Role>>,
        active: Option<bool>,
    },
    /// Enrols the first passkey by an invitation.
    Enrol {
        token_sha256: Digest,
        passkey: NewPasskey,
        session: NewSession,
    },
    /// Adds a further passkey, confirmed by one the person holds.
    AddPasskey {
        person: PersonId,
        passkey: NewPasskey,
    },
    /// A passkey counts no more.
    RevokePasskey {
        person: PersonId,
        credential_id: String,
        reason: String,
    },
    /// A generator of one-time codes, shown to work by one of them, takes the place of the person's one before.
    EnrolTotp {
        person: PersonId,
        /// The step whose code showed it.
        step: u64,
        /// Seconds before it may decide.
        hold_seconds: u64,
        /// Credential ids of the passkeys that allowed it; none: the invitation by which the person just enrolled.
        confirmed_by: Vec<String>,
    },
    /// A person's generator of one-time codes counts no more.
    RevokeTotp {
        person: PersonId,
        reason: String,
    },
    /// The actor gives one of their passkeys another name.
    NamePasskey {
        credential_id: String,
        label: String,
    },
    /// The actor ends one of their sessions.
    EndSession {
        token_sha256: Digest,
    },
    OpenSession {
        person: PersonId,
        session: NewSession,
        credential_id: String,
        sign_count: u32,
    },
    CloseSession {
        token_sha256: Digest,
    },
    LinkAccount {
        person: PersonId,
        integration: IntegrationId,
        account_id: String,
        /// How the person proved that it is theirs, in words; `None`: an admin says so.
        proof: Option<String>,
    },
    /// Changes what decides who must approve: at once, or as a proposal where a policy asks for further admins.
    Govern(Box<Govern>),
    /// A further admin's passkey under a proposal.
    ConfirmProposal(Box<ConfirmProposal>),
    WithdrawProposal {
        proposal: ProposalId,
        reason: String,
    },
    EndDelegation {
        delegation: DelegationId,
    },
    /// An admin says of a step of the setting up that it is right, not needed, or for later.
    AnswerSetUp {
        step: SetUpStep,
        word: SetUpWord,
        /// What it is about, as the admin saw it.
        of: String,
    },
    /// Somebody looked at an exception afterwards.
    ReviewException {
        exception: u64,
        note: String,
    },
    /// Somebody looked a period of the journal over.
    ReviewJournal {
        from: Time,
        to: Time,
        /// Entries the journal had when they looked.
        through: u64,
        note: String,
    },
    CreateApiKey {
        key: ApiKeyId,
        name: String,
        secret_sha256: Digest,
        scopes: BTreeSet<Scope>,
        projects: BTreeSet<String>,
        owner: Option<PersonId>,
        lifetime_seconds: u64,
    },
    RevokeApiKey {
        key: ApiKeyId,
    },
    AddIntegration {
        integration: IntegrationId,
        kind: ForgeKind,
        name: String,
        base_url: String,
        ca_pem: Option<String>,
        account: Option<Account>,
    },
    RemoveIntegration {
        integration: IntegrationId,
    },
    AddProject {
        project: ProjectId,
        integration: IntegrationId,
        path: String,
        web_url: String,
        settings: ProjectSettings,
    },
    /// A webhook came and verified. Its content is a hint only.
    ReceiveHook {
        integration: IntegrationId,
        delivery: String,
        event: String,
        forge_project_id: String,
        number: Option<u64>,
    },
    /// The reconciler wants a change looked at again.
    HintChange {
        change: ChangeKey,
    },
    /// A change as the forge's API shows it now, `hint` being the newest hint known before it was read.
    ObserveChange {
        facts: Box<ChangeFacts>,
        /// The subject's own bytes for these facts.
        subject: String,
        files_sha256: Digest,
        hint: Option<u64>,
        fresh: RequestId,
    },
    /// The forge no longer knows the change, or will not show it: nothing turns green.
    ForgetHint {
        change: ChangeKey,
        hint: u64,
        reason: String,
    },
    OpenRequest(Box<OpenRequest>),
    /// A person's decision, its ceremony checked.
    Decide(Box<Decide>),
    CancelRequest {
        request: RequestId,
        reason: String,
    },
    ConsumeRequest {
        request: RequestId,
        /// Digest of the caller's idempotency key, with the key's id.
        idempotency: Option<Digest>,
    },
    /// How the callback of a request went, for good.
    RecordCallback {
        request: RequestId,
        delivered: bool,
        reason: Option<String>,
    },
    /// What a forge said of the commit that a pipeline named; without a project nobody was asked.
    RecordCommit {
        request: RequestId,
        project: Option<ProjectId>,
        facts: Option<CommitFacts>,
    },
    /// The rules were changed, and this request may have less time by now.
    Shorten {
        request: RequestId,
    },
    /// A deadline has passed.
    Expire {
        request: RequestId,
    },
    /// A device of the actor's wants to be told.
    AddDevice(NewDevice),
    ConfirmDevice {
        device: DeviceId,
    },
    EndDevice {
        device: DeviceId,
        reason: String,
    },
    AddChat(Chat),
    RemoveChat {
        chat: ChatId,
    },
    ConfigureNotices(Box<NoticeSettings>),
    PreferNotices {
        mail: MailWhen,
        quiet: Option<QuietHours>,
    },
    /// A list of requests under a name: a new one, or another name or question for one that is there.
    SaveView {
        view: ViewId,
        name: String,
        query: String,
        /// For everybody who reads the dashboard.
        shared: bool,
    },
    RemoveView {
        view: ViewId,
    },
    /// The actor wants to see whether a message arrives.
    AskTestNotice {
        /// By this way alone.
        by: Option<TestBy>,
    },
    RecordNotice(NewNotice),
    MakePushKey {
        public_key: String,
    },
    /// The actor has a request on their screen.
    SeeRequest {
        request: RequestId,
    },
    /// The actor did not expect it: its requester is held until that was looked over.
    ReportRequest {
        request: RequestId,
        note: String,
    },
    /// Somebody picked another code than the requester sees.
    MissCode {
        request: RequestId,
        person: PersonId,
    },
    /// A ceremony that did not verify.
    RefuseCeremony {
        person: Option<PersonId>,
        request: Option<RequestId>,
        reason: String,
    },
    ConfirmStatus {
        status: StatusKey,
        state: GateState,
        description: String,
        request: Option<RequestId>,
        refused: Option<String>,
        /// The source branches it was told for.
        sources: Vec<String>,
    },
    RecordMerge {
        request: RequestId,
        merged: bool,
        commit: Option<String>,
        refused: Option<String>,
    },
    /// What the settings of a project's forge enforce, as they were just read.
    RecordGate {
        project: ProjectId,
        findings: Vec<Finding>,
    },
    /// A gated branch stands on another commit than when it was looked at before.
    ObserveBranch(Box<ObserveBranch>),
    /// All branches under these patterns have been looked at.
    WatchBranches {
        project: ProjectId,
        patterns: BTreeSet<String>,
    },
    /// A status of ours as the forge shows it.
    RecordReadBack {
        status: StatusKey,
        /// Somebody else's status under our name, as the newest there.
        forged: Option<ForgedStatus>,
        /// The forge shows neither: what it shows instead.
        lost: Option<String>,
        /// Ours is there and decides nothing: why.
        not_in_force: Option<String>,
    },
    /// The forge's own lock of a change, confirmed open for this head, was read and is not.
    MissLock {
        change: ChangeKey,
        head: String,
    },
    /// The forge's own lock of a change was told.
    ConfirmLock {
        change: ChangeKey,
        head: String,
        state: GateState,
        request: Option<RequestId>,
        refused: Option<String>,
    },
    /// An admin has confirmed a plan; this is what is about to be changed on the forge.
    StartProvisioning {
        project: ProjectId,
        enforcement: Enforcement,
        plan_sha256: Digest,
        reason: String,
        changes: Vec<PlannedChange>,
    },
    /// How carrying the plan out went.
    RecordProvisioning {
        project: ProjectId,
        enforcement: Enforcement,
        reason: String,
        steps: Vec<StepReport>,
    },
    /// An admin wants what was set up to be put back: may they?
    StartRestoring {
        project: ProjectId,
        reason: String,
    },
    /// How putting back went.
    RecordRestoring {
        project: ProjectId,
        reason: String,
        steps: Vec<StepReport>,
    },
    /// An admin wants the gate to be tried out.
    StartTrial {
        project: ProjectId,
        branch: String,
    },
    /// How a trial went.
    RecordTrial {
        project: ProjectId,
        branch: String,
        attempts: Vec<Attempt>,
        seen: Seen,
        cleared: bool,
    },
    /// A trial's branch and change are gone from the forge.
    ClearTrial {
        project: ProjectId,
        branch: String,
    },
    /// A job that deploys, as the forge's API shows it now.
    ObserveDeployment {
        facts: Box<DeploymentFacts>,
        /// The subject's own bytes for these facts.
        subject: String,
        fresh: RequestId,
    },
    /// The forge shows a deployment no more, or its environment is no longer gated.
    ForgetDeployment {
        deployment: DeploymentKey,
        reason: String,
    },
    /// Spends the approval of a deployment, right before the forge is told to start exactly this job.
    StartDeployment {
        facts: Box<DeploymentFacts>,
    },
    RecordDeployment {
        deployment: DeploymentKey,
        answer: DeploymentAnswer,
    },
    /// A deployment whose request ended without a decision that holds is to be asked again.
    AskDeploymentAgain {
        request: RequestId,
    },
    /// A key turned out not to be ours alone: takes back what was signed at this position of the journal or later.
    Disown {
        from_seq: u64,
        reason: String,
    },
    /// Takes back everything that waits or could still be used.
    LetAllGo {
        reason: String,
    },
    /// All conditions that a watcher sees now in its area (the first part of their names).
    ReportConditions {
        area: &'static str,
        now: Vec<Reported>,
    },
    /// Enough admins agree to go on from a journal that lacks entries.
    AcceptRollback(Box<AcceptRollback>),
    AddSink {
        sink: SinkId,
        wanted: Box<WantedSink>,
        /// The first entry it gets.
        from: u64,
    },
    ChangeSink {
        sink: SinkId,
        wanted: Box<WantedSink>,
    },
    RemoveSink {
        sink: SinkId,
    },
    ReportSink {
        sink: SinkId,
        report: SinkReport,
    },
    /// A sink has stored every entry before `next`.
    AcknowledgeSink {
        sink: SinkId,
        next: u64,
    },
    /// Somebody is about to decide: told to the log sinks before it happens, where they must have stored it.
    AnnounceDecision {
        request: RequestId,
        person: PersonId,
        answer: Answer,
        /// Digest of the intent that was signed.
        intent_sha256: Digest,
    },
    /// Erases the documents of these requests, as far as an ordered erasure means them and they may be.
    Erase {
        erasure: ProposalId,
        requests: Vec<RequestId>,
        /// There are no more.
        last: bool,
    },
    /// Events of the appliance about itself, at start.
    Record {
        events: Vec<Event>,
    },
}

impl Command {
    /// Whether it changes the configuration on somebody's word and says no reason: it is refused then.
    pub fn lacks_reason(&self, actor: &Actor) -> bool {
        let (Actor::Person { .. } | Actor::Key { .. }) = actor else {
            return false;
        };
        match self {
            Command::Confirmed { command, .. } => command.lacks_reason(actor),
            Command::Because { reason, .. } | Command::WithdrawProposal { reason, .. } => {
                reason.trim().is_empty()
            }
            Command::Govern(it) => {
                let own = matches!((&it.change, actor), (Governed::Delegation { from, .. }, Actor::Person { id, .. }) if from == id);
                !own && it.reason.trim().is_empty()
            }
            Command::AddPerson { .. }
            | Command::InviteAgain { .. }
            | Command::ChangePerson { .. }
            | Command::LinkAccount { proof: None, .. }
            | Command::CreateApiKey { .. }
            | Command::RevokeApiKey { .. }
            | Command::AddIntegration { .. }
            | Command::RemoveIntegration { .. }
            | Command::AddProject { .. }
            | Command::AddChat(_)
            | Command::RemoveChat { .. }
            | Command::ConfigureNotices(_)
            | Command::StartTrial { .. }
            | Command::BeginAct { .. }
            | Command::AddSink { .. }
            | Command::ChangeSink { .. }
            | Command::RemoveSink { .. } => true,
            _ => false,
        }
    }
}

/// What a branch became, and what came into it.
#[derive(Clone, Debug)]
pub struct ObserveBranch {
    pub project: ProjectId,
    /// Full ref.
    pub branch: String,
    /// Where it was when this was read; another record by now voids what follows.
    pub before: Option<String>,
    /// `None`: it is gone.
    pub commit: Option<String>,
    pub moved: Moved,
    /// What came in; `None` where there is nothing to judge (first seen, deleted).
    pub landing: Option<Landing>,
    /// Who pushed, where the forge tells.
    pub by: Option<Account>,
}

/// A status under our name that is not ours.
#[derive(Clone, Debug)]
pub struct ForgedStatus {
    /// The forge's word for its state.
    pub shown: String,
    pub by: Option<Account>,
    /// The forge's number of it, as text.
    pub forge_status: String,
}

/// What goes on from a journal that lacks entries.
#[derive(Clone, Debug)]
pub struct AcceptRollback {
    /// Entries the journal has.
    pub size: u64,
    /// Checkpoints it does not fit.
    pub found: Vec<FoundCheckpoint>,
    /// Who agreed: person, name, and what was signed and the signature.
    pub confirmed: Vec<(Option<PersonId>, String, Option<Vec<u8>>)>,
    /// The epoch that begins with it, and its origin.
    pub epoch: u32,
    pub origin: String,
}

/// A log sink as an admin wants it, checked.
#[derive(Clone, Debug)]
pub struct WantedSink {
    pub name: String,
    pub destination: Destination,
    pub format: SinkFormat,
}

/// What a log sink's worker, or an admin's test of it, tells.
#[derive(Clone, Debug)]
pub enum SinkReport {
    /// It has not taken an entry for long; `next` is the first it lacks.
    Stuck { next: u64, reason: String },
    /// It takes entries again.
    Recovered { next: u64 },
    /// It refused one entry for good and took a substitute that says so.
    Withheld { entry: u64, reason: String },
    /// An admin had a test message sent.
    Tested { refused: Option<String> },
}

/// A change to the rules, or to who is meant by them.
#[derive(Clone, Debug)]
pub struct Govern {
    pub change: Governed,
    /// The bytes of a policy's document.
    pub document: Option<Vec<u8>>,
    /// Digest of the document the caller started from; another one in force refuses the change.
    pub expected: Option<Digest>,
    pub reason: String,
    /// Id of the proposal, should one be needed.
    pub fresh: ProposalId,
}

/// One further admin's passkey, its ceremony checked.
#[derive(Clone, Debug)]
pub struct ConfirmProposal {
    pub proposal: ProposalId,
    pub person: PersonId,
    pub proof: CeremonyProof,
    /// What was signed and the signature, to be kept.
    pub evidence: Vec<u8>,
}

/// A pipeline, or a person trying the gate out, asks.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub id: RequestId,
    pub action: String,
    pub environment: Option<String>,
    pub project: Option<String>,
    /// Algorithm (`gitCommit` or `sha256`) and hex.
    pub digest: Option<(String, String)>,
    /// The metadata's bytes as they came.
    pub claimed: Option<String>,
    pub ttl_seconds: Option<u64>,
    pub requester: Requester,
    /// The person who asks or is answerable for the key; may not decide, except in a test request.
    pub owner: Option<PersonId>,
    /// A person's own trial, which that person alone decides and which nothing consumes.
    pub trial: bool,
    pub subject: String,
    /// Digest of the caller's idempotency key (with the key's id) and of the body.
    pub idempotency: Option<(Digest, Digest)>,
    pub callback_url: Option<String>,
}

/// One person's decision.
#[derive(Clone, Debug)]
pub struct Decide {
    pub request: RequestId,
    pub person: PersonId,
    pub answer: Answer,
    pub method: Method,
    pub comment: String,
    /// The person chose the emergency way (policy rule 21).
    pub break_glass: bool,
    /// The code the person picked, where a rule asks for it.
    pub match_code: Option<u8>,
    /// The intent's exact bytes and what they say of the time.
    pub intent: Vec<u8>,
    pub challenge_issued_at: Time,
    /// Digest of the subject the person was shown.
    pub subject_sha256: Digest,
    /// Digest of the policy the intent names.
    pub policy_sha256: Digest,
    pub proof: Proof,
}

/// A device that wants to be told.
#[derive(Clone, Debug)]
pub struct NewDevice {
    pub id: DeviceId,
    pub platform: Platform,
    pub name: String,
    pub host: String,
    pub address_sha256: Digest,
    /// SubjectPublicKeyInfo in base64. A device with a key has to sign a challenge first.
    pub device_key: Option<String>,
    /// Digest of the address it had before.
    pub replaces: Option<Digest>,
}

/// A message that was sent, or tried.
#[derive(Clone, Debug)]
pub struct NewNotice {
    /// A person's id, or a chat's.
    pub to: String,
    pub requests: Vec<RequestId>,
    pub kind: NoticeKind,
    pub requester: Option<String>,
    pub again: bool,
    pub deliveries: Vec<Delivery>,
}

/// What the submitter of a command gets back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    /// The request made, or the one that was there already.
    Request {
        id: RequestId,
        status: Status,
        expires_at: Option<Time>,
        created: bool,
        /// What the requester shows where the approver can find it, where a rule asks for it.
        match_code: Option<u8>,
    },
    Decided {
        status: Status,
        credential: Digest,
    },
    Person {
        id: PersonId,
    },
    /// The change waits for further admins.
    Proposed {
        id: ProposalId,
    },
    /// Nothing changed.
    Nothing,
}
