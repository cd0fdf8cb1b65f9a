//! What happened. Facts in the past tense, never renamed once released; every projection follows from these alone.
//!
//! The `serde` names are the journal's own (`docs/journal-format.md`) and are pinned by a test.

use crate::domain::branch::{Moved, Way};
use crate::domain::condition::Severity;
use crate::domain::deployment::{DeploymentAnswer, DeploymentFacts, DeploymentKey, DeploymentState};
use crate::domain::facts::Account;
use crate::domain::follow_up::CommitFacts;
use crate::domain::gate::{Finding, Strength};
use crate::domain::governance::{Governed, ProposalState};
use crate::domain::ids::{
    ApiKeyId, ChatId, DelegationId, DeviceId, Digest, ExportId, GroupId, IntegrationId, InvitationId,
    PersonId, ProjectId, ProposalId, RequestId, SinkId, ViewId,
};
use crate::domain::notice::{
    Audience, ChatKind, Delivery, MailWhen, NoticeKind, NoticeSettings, Platform, QuietHours, TestBy,
};
use crate::domain::people::{Role, Scope};
use crate::domain::policy::Method;
use crate::domain::project::{Enforcement, ForgeKind, ProjectSettings};
use crate::domain::provision::{Attempt, PlannedChange, StepReport};
use crate::domain::request::{Answer, ChangeKey, GateState, Kind, Status, StatusKey};
use crate::domain::retention::{ErasedDocument, ErasureScope};
use crate::domain::rollback::{FoundCheckpoint, RollbackConfirmation};
use crate::domain::set_up::{SetUpStep, SetUpWord};
use crate::domain::sink::{Destination, SinkFormat};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// The appliance itself: timers, followers, start.
    System,
    /// A signed-in person.
    Person { id: PersonId, name: String },
    /// A machine caller.
    Key { id: ApiKeyId, name: String },
    /// Somebody on the appliance's own host, through its Unix socket.
    Host,
    /// A forge, by webhook or by what its API told.
    Forge { integration: IntegrationId },
}

/// What a passkey was when it was enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledPasskey {
    pub person: PersonId,
    pub name: String,
    pub credential_id: String,
    pub spki_sha256: Digest,
    pub aaguid: String,
    pub platform: bool,
    pub attestation_sha256: Digest,
    /// Credential ids of the passkeys that confirmed this one.
    pub confirmed_by: Vec<String>,
    pub label: String,
    /// SubjectPublicKeyInfo DER, base64.
    pub spki: String,
    pub alg: i64,
    pub transports: Vec<String>,
    pub backup_eligible: bool,
    pub backup_state: bool,
    pub sign_count: u32,
    pub record_sha256: Digest,
    pub decides_from: Time,
}

/// A one-time code that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedCode {
    /// How much it is worth: always `server-attested`.
    pub grade: String,
    /// Its time step, which is never taken again.
    pub step: u64,
}

/// A one-time code that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCode {
    /// It was right, and given where it does not count: its step is never taken again. Absent: it was wrong, which counts
    /// against the generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burnt_step: Option<u64>,
}

/// An obligation in the short form of `request.opened`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObligationLine {
    pub rule: String,
    pub methods: Vec<Method>,
    pub quorum: u32,
}

/// One entry of the journal, without its position, time and actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    #[serde(rename = "instance.created")]
    InstanceCreated {
        instance: String,
        public_url: String,
        version: String,
    },
    #[serde(rename = "epoch.opened")]
    EpochOpened {
        epoch: u32,
        origin: String,
        reason: String,
        previous: Option<String>,
    },
    #[serde(rename = "key.activated")]
    KeyActivated {
        r#use: String,
        keyid: String,
        /// SubjectPublicKeyInfo DER, base64.
        spki: String,
        /// Signatures over what stands at this position of the journal, or later, count.
        from_seq: u64,
        /// The blob with which the key before introduced this one; none for the first, and for one that follows a
        /// compromised key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        introduction: Option<Digest>,
    },
    /// Another key has taken over.
    #[serde(rename = "key.retired")]
    KeyRetired {
        r#use: String,
        keyid: String,
        spki: String,
        /// The first position for which its signatures no longer count.
        from_seq: u64,
    },
    /// Somebody else may hold the key: from a position on, nothing it signed counts.
    #[serde(rename = "key.compromised")]
    KeyCompromised {
        r#use: String,
        keyid: String,
        spki: String,
        /// The first position for which its signatures do not count. May lie far back.
        from_seq: u64,
        reason: String,
    },
    /// A backup was written and found good.
    #[serde(rename = "backup.written")]
    BackupWritten {
        /// The file's name, without its folder.
        file: String,
        /// Entries in it: this event is not.
        entries: u64,
        bytes: u64,
        /// SHA-256 of the file up to its last record, 64 hex digits.
        sha256: String,
    },
    /// The journal goes on from a backup. What happened after it was made is not known here.
    #[serde(rename = "backup.restored")]
    BackupRestored {
        entries: u64,
        /// When the backup was made.
        created_at: String,
    },
    /// Stored secrets were sealed anew with a new data key.
    #[serde(rename = "data_key.rotated")]
    DataKeyRotated {
        /// How many secrets.
        secrets: u64,
    },

    /// Signing keys in files and data keys stand under another passphrase.
    #[serde(rename = "passphrase.changed")]
    PassphraseChanged {},

    #[serde(rename = "person.created")]
    PersonCreated {
        person: PersonId,
        name: String,
        email: String,
        roles: BTreeSet<Role>,
    },
    #[serde(rename = "person.changed")]
    PersonChanged {
        person: PersonId,
        name: String,
        roles: BTreeSet<Role>,
        active: bool,
    },
    #[serde(rename = "invitation.created")]
    InvitationCreated {
        invitation: InvitationId,
        person: PersonId,
        token_sha256: Digest,
        expires_at: Time,
    },
    #[serde(rename = "person.enrolled")]
    PersonEnrolled {
        invitation: Option<Digest>,
        #[serde(flatten)]
        passkey: Box<EnrolledPasskey>,
    },
    #[serde(rename = "passkey.added")]
    PasskeyAdded {
        #[serde(flatten)]
        passkey: Box<EnrolledPasskey>,
    },
    #[serde(rename = "passkey.revoked")]
    PasskeyRevoked {
        person: PersonId,
        credential_id: String,
        reason: String,
    },
    /// A generator of one-time codes (TOTP) counts from here on, in place of the one before. Its secret lies sealed elsewhere.
    #[serde(rename = "totp.enrolled")]
    TotpEnrolled {
        person: PersonId,
        /// The person's.
        name: String,
        /// Credential ids of the passkeys that allowed it; none: an invitation did.
        confirmed_by: Vec<String>,
        /// The step whose code showed that it works.
        step: u64,
        period: u64,
        digits: u64,
        decides_from: Time,
    },
    /// It counts no more.
    #[serde(rename = "totp.revoked")]
    TotpRevoked { person: PersonId, reason: String },
    /// Too many codes in a row were wrong: it decides nothing until another is enrolled.
    #[serde(rename = "totp.locked")]
    TotpLocked {
        person: PersonId,
        name: String,
        /// Wrong codes in a row.
        wrong: u32,
    },
    /// Its owner gave it another name.
    #[serde(rename = "passkey.named")]
    PasskeyNamed {
        person: PersonId,
        credential_id: String,
        label: String,
    },
    #[serde(rename = "session.opened")]
    SessionOpened {
        person: PersonId,
        session_sha256: Digest,
        expires_at: Time,
        credential_id: String,
        sign_count: u32,
    },
    #[serde(rename = "session.closed")]
    SessionClosed {
        person: PersonId,
        session_sha256: Digest,
    },
    #[serde(rename = "account.linked")]
    AccountLinked {
        person: PersonId,
        integration: IntegrationId,
        account_id: String,
        proven: bool,
        /// How the person proved it, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<String>,
    },
    #[serde(rename = "group.set")]
    GroupSet {
        group: GroupId,
        name: String,
        members: BTreeSet<PersonId>,
    },
    #[serde(rename = "group.removed")]
    GroupRemoved { group: GroupId },

    #[serde(rename = "api_key.created")]
    ApiKeyCreated {
        key: ApiKeyId,
        name: String,
        secret_sha256: Digest,
        scopes: BTreeSet<Scope>,
        projects: BTreeSet<String>,
        owner: Option<PersonId>,
        expires_at: Time,
    },
    #[serde(rename = "api_key.revoked")]
    ApiKeyRevoked { key: ApiKeyId, secret_sha256: Digest },

    #[serde(rename = "integration.added")]
    IntegrationAdded {
        integration: IntegrationId,
        kind: ForgeKind,
        name: String,
        base_url: String,
        ca_pem: Option<String>,
        account: Option<Account>,
    },
    #[serde(rename = "integration.removed")]
    IntegrationRemoved { integration: IntegrationId },
    #[serde(rename = "project.added")]
    ProjectAdded {
        project: ProjectId,
        integration: IntegrationId,
        path: String,
        web_url: String,
        settings: ProjectSettings,
    },
    #[serde(rename = "project.changed")]
    ProjectChanged {
        project: ProjectId,
        settings: ProjectSettings,
    },
    #[serde(rename = "project.removed")]
    ProjectRemoved { project: ProjectId },
    #[serde(rename = "policy.activated")]
    PolicyActivated {
        name: String,
        version: u64,
        sha256: Digest,
        /// The document it takes the place of.
        previous_sha256: Option<Digest>,
        reason: String,
        /// Names of the admins who made and confirmed it.
        by: Vec<String>,
        proposal: Option<ProposalId>,
    },
    /// A change to the rules waits for further admins.
    #[serde(rename = "proposal.made")]
    ProposalMade {
        proposal: ProposalId,
        change: Governed,
        base: Option<Digest>,
        reason: String,
        quorum: u32,
        person: Option<PersonId>,
        name: String,
        /// Who was an admin with a passkey that may decide when it was made, the proposer left out: nobody else confirms it.
        #[serde(default)]
        may_confirm: Vec<PersonId>,
    },
    #[serde(rename = "proposal.confirmed")]
    ProposalConfirmed {
        proposal: ProposalId,
        person: PersonId,
        name: String,
        credential_id: String,
        sign_count: u32,
        /// Blob with what was signed and the signature.
        evidence_sha256: Digest,
    },
    #[serde(rename = "proposal.closed")]
    ProposalClosed {
        proposal: ProposalId,
        state: ProposalState,
        reason: String,
    },
    #[serde(rename = "delegation.made")]
    DelegationMade {
        delegation: DelegationId,
        from: PersonId,
        to: PersonId,
        starts: Time,
        ends: Time,
        reason: String,
        by: String,
    },
    #[serde(rename = "delegation.ended")]
    DelegationEnded { delegation: DelegationId },

    #[serde(rename = "hook.received")]
    HookReceived {
        integration: IntegrationId,
        delivery: String,
        event: String,
        change: Option<ChangeKey>,
        forge_project_id: String,
    },
    #[serde(rename = "change.observed")]
    ChangeObserved {
        change: ChangeKey,
        open: bool,
        merged: bool,
        draft: bool,
        title: String,
        web_url: String,
        author: Account,
        head: String,
        base: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_sha: Option<String>,
        source: String,
        target: String,
        source_project_id: String,
        files_sha256: Digest,
        request: Option<RequestId>,
        /// The status it had a part in before, where its head or target is another now: it is the others' alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<StatusKey>,
    },

    #[serde(rename = "request.opened")]
    RequestOpened {
        request: RequestId,
        kind: Kind,
        subject_sha256: Digest,
        policy_sha256: Digest,
        obligations: Vec<ObligationLine>,
        /// Blob with everything the request was opened with.
        opening_sha256: Digest,
        expires_at: Option<Time>,
        /// `key id NUL key`'s digest and the body's, where the caller sent an idempotency key.
        idempotency: Option<(Digest, Digest)>,
    },
    #[serde(rename = "decision.recorded")]
    DecisionRecorded {
        request: RequestId,
        person: PersonId,
        name: String,
        decision: Answer,
        method: Method,
        subject_sha256: Digest,
        credential_sha256: Digest,
        /// Which passkey, and its counter after this use.
        credential_id: Option<String>,
        sign_count: Option<u32>,
        comment: String,
        /// The person chose the emergency way (policy rule 21).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        break_glass: bool,
        /// What it rests on, where that is no passkey's signature.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<UsedCode>,
    },
    #[serde(rename = "request.approved")]
    RequestApproved {
        request: RequestId,
        outcome_sha256: Digest,
        expires_at: Option<Time>,
    },
    #[serde(rename = "request.rejected")]
    RequestRejected {
        request: RequestId,
        outcome_sha256: Digest,
    },
    #[serde(rename = "request.expired")]
    RequestExpired {
        request: RequestId,
        outcome_sha256: Digest,
    },
    #[serde(rename = "request.cancelled")]
    RequestCancelled {
        request: RequestId,
        outcome_sha256: Digest,
        reason: String,
    },
    #[serde(rename = "request.superseded")]
    RequestSuperseded {
        request: RequestId,
        outcome_sha256: Digest,
        reason: String,
    },
    #[serde(rename = "request.skipped")]
    RequestSkipped {
        request: RequestId,
        outcome_sha256: Digest,
        rules: Vec<String>,
    },
    /// The rules became stricter while it waits (policy rule 13): it has less time, counted from its opening.
    #[serde(rename = "request.shortened")]
    RequestShortened {
        request: RequestId,
        /// Digest of the policy that shortens it.
        policy_sha256: Digest,
        ttl_seconds: u64,
        expires_at: Time,
    },
    /// A device wants to be told when something waits. Its address lies sealed elsewhere.
    #[serde(rename = "device.added")]
    DeviceAdded {
        device: DeviceId,
        person: PersonId,
        platform: Platform,
        name: String,
        host: String,
        address_sha256: Digest,
        /// The device's own key, which signs a challenge before it is told anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_key: Option<String>,
        /// It is told from here on; otherwise only once it has signed its challenge.
        live: bool,
    },
    /// A device signed its challenge, or said again that its address holds (at most once a day).
    #[serde(rename = "device.confirmed")]
    DeviceConfirmed { device: DeviceId, person: PersonId },
    /// A device is told nothing more.
    #[serde(rename = "device.ended")]
    DeviceEnded {
        device: DeviceId,
        person: PersonId,
        reason: String,
    },
    /// A chat is told from here on. Its URL lies sealed elsewhere.
    #[serde(rename = "chat.added")]
    ChatAdded {
        chat: ChatId,
        name: String,
        kind: ChatKind,
        host: String,
        audience: Audience,
    },
    #[serde(rename = "chat.removed")]
    ChatRemoved { chat: ChatId },
    /// What admins arrange about messages, as it is from here on. Without secrets.
    #[serde(rename = "notifications.configured")]
    NotificationsConfigured { settings: Box<NoticeSettings> },
    /// What a person arranges about messages to them, as it is from here on.
    #[serde(rename = "notifications.preferred")]
    NotificationsPreferred {
        person: PersonId,
        mail: MailWhen,
        quiet: Option<QuietHours>,
    },
    /// A list of requests stands under a name, or has another name or question.
    #[serde(rename = "view.saved")]
    ViewSaved {
        view: ViewId,
        name: String,
        /// The filters, as the page writes them into its address.
        query: String,
        /// Whose it is; `None`: everybody's who reads the dashboard.
        owner: Option<PersonId>,
    },
    #[serde(rename = "view.removed")]
    ViewRemoved { view: ViewId },
    /// A person wants to see whether a message arrives.
    #[serde(rename = "notification.asked")]
    NotificationAsked {
        person: PersonId,
        /// By this way alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TestBy>,
    },
    /// Somebody was told, or it was tried.
    #[serde(rename = "notification.sent")]
    NotificationSent {
        /// A person's id, or a chat's.
        to: String,
        requests: Vec<RequestId>,
        kind: NoticeKind,
        /// Who asked, of a message about one request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requester: Option<String>,
        /// Another try of a message that is recorded already.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
        deliveries: Vec<Delivery>,
    },
    /// The appliance made the key that signs for push services.
    #[serde(rename = "push_key.made")]
    PushKeyMade { public_key: String },
    /// Somebody who may decide it has it on their screen for the first time.
    #[serde(rename = "request.seen")]
    RequestSeen { request: RequestId, person: PersonId },
    /// Somebody who wanted to approve it picked another code than the requester sees.
    #[serde(rename = "request.code_missed")]
    RequestCodeMissed { request: RequestId, person: PersonId },
    /// Somebody says that a request is not theirs to expect: its requester is held until this was looked over.
    #[serde(rename = "exception.requester_reported")]
    ExceptionRequesterReported {
        request: RequestId,
        /// `key/<id>`, or `account/<integration>/<the forge's number>`.
        requester: String,
        /// What the requester calls itself.
        requester_name: String,
        person: PersonId,
        name: String,
        note: String,
    },
    /// A granted approval that was not used in time (policy rule 9).
    #[serde(rename = "request.lapsed")]
    RequestLapsed { request: RequestId, reason: String },
    #[serde(rename = "request.consumed")]
    RequestConsumed {
        request: RequestId,
        /// `key id NUL key`'s digest, where the caller sent an idempotency key: its repetition is the same use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency: Option<Digest>,
    },
    /// Whoever asked was called back, or will not be.
    #[serde(rename = "callback.answered")]
    CallbackAnswered {
        request: RequestId,
        delivered: bool,
        reason: Option<String>,
    },
    /// What a forge said of the commit that a pipeline named.
    #[serde(rename = "commit.checked")]
    CommitChecked {
        request: RequestId,
        project: Option<ProjectId>,
        facts: Option<CommitFacts>,
    },
    #[serde(rename = "ceremony.refused")]
    CeremonyRefused {
        person: Option<PersonId>,
        request: Option<RequestId>,
        reason: String,
        /// It was a one-time code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<RefusedCode>,
    },

    #[serde(rename = "status.confirmed")]
    StatusConfirmed {
        status: StatusKey,
        state: GateState,
        description: String,
        request: Option<RequestId>,
        refused: Option<String>,
        /// The source branches (full refs) it was told for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sources: Vec<String>,
    },
    #[serde(rename = "merge.answered")]
    MergeAnswered {
        request: RequestId,
        merged: bool,
        commit: Option<String>,
        refused: Option<String>,
    },
    /// A request was approved the emergency way (policy rule 21); somebody else has to look it over.
    #[serde(rename = "exception.break_glass")]
    ExceptionBreakGlass {
        request: RequestId,
        rule: String,
        approvers: Vec<PersonId>,
    },
    /// An audit bundle was asked for.
    #[serde(rename = "export.requested")]
    ExportRequested {
        export: ExportId,
        from: Time,
        to: Time,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_project: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_person: Option<PersonId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_outcome: Option<Status>,
    },
    /// Somebody looked a period of the journal over.
    #[serde(rename = "journal.reviewed")]
    JournalReviewed {
        from: Time,
        to: Time,
        /// Entries the journal had when they looked.
        through: u64,
        person: PersonId,
        name: String,
        note: String,
    },
    /// An admin said of a step of the setting up that it is right, not needed, or for later.
    #[serde(rename = "set_up.answered")]
    SetUpAnswered {
        step: SetUpStep,
        word: SetUpWord,
        /// The public URL or key id it is about; empty where it is about nothing that could change.
        of: String,
        person: PersonId,
        name: String,
    },
    /// Somebody confirmed with a passkey the dangerous change whose entries follow.
    #[serde(rename = "ceremony.confirmed")]
    CeremonyConfirmed {
        person: PersonId,
        name: String,
        /// The act's name, as `docs/security.md` lists them.
        act: String,
        credential_id: String,
        sign_count: u32,
        /// Blob with what was signed and the signature.
        evidence_sha256: Digest,
    },
    /// An audit bundle was made.
    #[serde(rename = "export.made")]
    ExportMade {
        export: ExportId,
        bundle_sha256: Digest,
        bytes: u64,
        events: u64,
        credentials: u64,
        outcomes: u64,
    },
    /// What the settings of a project's forge were found to enforce.
    #[serde(rename = "gate.checked")]
    GateChecked {
        project: ProjectId,
        strength: Strength,
        findings: Vec<Finding>,
    },
    /// The forge's settings enforce less than when they were looked at before.
    #[serde(rename = "exception.protection_drift")]
    ExceptionProtectionDrift {
        project: ProjectId,
        before: Strength,
        strength: Strength,
        /// What is new or worse.
        findings: Vec<Finding>,
    },
    /// What enforces a gate is about to be set up on the forge: all of it, before the first call.
    #[serde(rename = "gate.provisioning_started")]
    GateProvisioningStarted {
        project: ProjectId,
        enforcement: Enforcement,
        /// Digest of the plan that was confirmed.
        plan_sha256: Digest,
        reason: String,
        by: String,
        changes: Vec<PlannedChange>,
    },
    /// How setting it up went, and what can be undone.
    #[serde(rename = "gate.provisioned")]
    GateProvisioned {
        project: ProjectId,
        enforcement: Enforcement,
        reason: String,
        by: String,
        steps: Vec<StepReport>,
    },
    /// What was set up was put back, as far as it was still as it had been set up.
    #[serde(rename = "gate.restored")]
    GateRestored {
        project: ProjectId,
        reason: String,
        by: String,
        steps: Vec<StepReport>,
    },
    /// A trial of the gate begins: this throw-away branch is about to be made.
    #[serde(rename = "gate.trial_started")]
    GateTrialStarted {
        project: ProjectId,
        branch: String,
        by: String,
    },
    /// How a trial of the gate went.
    #[serde(rename = "gate.tried")]
    GateTried {
        project: ProjectId,
        branch: String,
        by: String,
        attempts: Vec<Attempt>,
        /// What it proved.
        findings: Vec<Finding>,
        /// What a look at the settings had found by then, where there had been one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<Vec<Finding>>,
        /// Its branch and change are gone from the forge.
        cleared: bool,
    },
    /// What a trial had left behind is gone from the forge.
    #[serde(rename = "gate.trial_cleared")]
    GateTrialCleared { project: ProjectId, branch: String },
    #[serde(rename = "exception.reviewed")]
    ExceptionReviewed {
        /// Journal position of the exception.
        exception: u64,
        person: PersonId,
        name: String,
        note: String,
    },
    /// Something is in a gated branch that no approval covers.
    #[serde(rename = "exception.unapproved_change")]
    ExceptionUnapprovedChange {
        project: ProjectId,
        way: Way,
        /// The change that was merged; `None` for a push.
        change: Option<ChangeKey>,
        /// The change's head, or where the push left the branch.
        head: String,
        target: String,
        by: Option<Account>,
        /// The commit on the branch, where the forge tells.
        commit: Option<String>,
        /// Where the branch was before, for a push.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<String>,
        /// Pushed commits that nothing covers, at most 20 of them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        commits: Vec<String>,
        /// Why nothing covers it, a sentence for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Somebody else wrote a status under our name.
    #[serde(rename = "exception.status_forged")]
    ExceptionStatusForged {
        status: StatusKey,
        /// The state they gave it, in the forge's word.
        shown: String,
        by: Option<Account>,
        /// The forge's number of that status, as text.
        forge_status: String,
        request: Option<RequestId>,
    },
    /// Read back, the forge's own lock of a change is not open as it was confirmed.
    #[serde(rename = "lock.lost")]
    LockLost { change: ChangeKey },
    /// A gated branch was seen on another commit than before.
    #[serde(rename = "branch.observed")]
    BranchObserved {
        project: ProjectId,
        /// Full ref.
        branch: String,
        moved: Moved,
        before: Option<String>,
        /// `None`: it was deleted.
        commit: Option<String>,
    },
    /// The branches under these patterns have been looked at: what appears under them later is new.
    #[serde(rename = "branches.watched")]
    BranchesWatched {
        project: ProjectId,
        patterns: BTreeSet<String>,
    },
    /// Something about the appliance itself needs a person from now on, or is said in other words.
    #[serde(rename = "condition.began")]
    ConditionBegan {
        condition: String,
        severity: Severity,
        detail: String,
    },
    /// It is over.
    #[serde(rename = "condition.ended")]
    ConditionEnded { condition: String },
    /// A status was read back from the forge.
    #[serde(rename = "status.read_back")]
    StatusReadBack {
        status: StatusKey,
        /// It is there and decides nothing: why. `None`: it is in force.
        not_in_force: Option<String>,
    },
    /// Read back, the forge does not show the status that it had confirmed.
    #[serde(rename = "status.lost")]
    StatusLost {
        status: StatusKey,
        /// What it shows instead, a sentence for people.
        reason: String,
    },
    /// The forge's own lock of a change was told what the gate says.
    #[serde(rename = "lock.confirmed")]
    LockConfirmed {
        change: ChangeKey,
        head: String,
        state: GateState,
        request: Option<RequestId>,
        refused: Option<String>,
    },
    /// A job that deploys, as its forge shows it, and the request that gates it.
    #[serde(rename = "deployment.observed")]
    DeploymentObserved {
        facts: Box<DeploymentFacts>,
        state: DeploymentState,
        request: Option<RequestId>,
    },
    /// What the forge answered to what was decided about a deployment.
    #[serde(rename = "deployment.answered")]
    DeploymentAnswered {
        deployment: DeploymentKey,
        request: Option<RequestId>,
        #[serde(flatten)]
        answer: DeploymentAnswer,
    },
    /// Somebody wants a deployment asked again whose request ended without a decision that holds.
    #[serde(rename = "deployment.asked_again")]
    DeploymentAskedAgain {
        deployment: DeploymentKey,
        request: RequestId,
    },
    /// A gated job was started without an approval of it.
    #[serde(rename = "exception.unapproved_deployment")]
    ExceptionUnapprovedDeployment {
        deployment: DeploymentKey,
        job_name: String,
        environment: String,
        ref_name: String,
        sha: String,
        pipeline: u64,
        by: Option<Account>,
        request: Option<RequestId>,
    },
    /// The journal is copied to one more place.
    #[serde(rename = "sink.added")]
    SinkAdded {
        sink: SinkId,
        name: String,
        destination: Destination,
        format: SinkFormat,
        /// The first entry it gets.
        from: u64,
    },
    #[serde(rename = "sink.changed")]
    SinkChanged {
        sink: SinkId,
        name: String,
        destination: Destination,
        format: SinkFormat,
    },
    #[serde(rename = "sink.removed")]
    SinkRemoved { sink: SinkId },
    /// An admin had a test message sent.
    #[serde(rename = "sink.tested")]
    SinkTested {
        sink: SinkId,
        /// Why it was not taken; `None`: it was.
        refused: Option<String>,
    },
    /// A sink has not taken what it should for long.
    #[serde(rename = "exception.sink_stuck")]
    ExceptionSinkStuck {
        sink: SinkId,
        name: String,
        /// The first entry it lacks.
        next: u64,
        reason: String,
    },
    /// A sink that was stuck takes entries again.
    #[serde(rename = "sink.recovered")]
    SinkRecovered {
        sink: SinkId,
        /// The first entry it lacked by then.
        next: u64,
    },
    /// A sink refused an entry for good and took a substitute, which names the entry's position and hash.
    #[serde(rename = "exception.sink_entry_withheld")]
    ExceptionSinkEntryWithheld {
        sink: SinkId,
        name: String,
        /// Journal position of the entry.
        entry: u64,
        reason: String,
    },
    /// Admins went on from a journal that a checkpoint outside does not fit. What happened after its end is lost.
    #[serde(rename = "exception.rollback_accepted")]
    ExceptionRollbackAccepted {
        /// Entries the journal had.
        size: u64,
        found: Vec<FoundCheckpoint>,
        by: Vec<RollbackConfirmation>,
    },
    /// Somebody's decision was verified and is about to be recorded, once a log sink has stored this.
    #[serde(rename = "decision.announced")]
    DecisionAnnounced {
        request: RequestId,
        person: PersonId,
        decision: Answer,
        intent_sha256: Digest,
    },
    /// Two admins ordered the documents of requests that ended before a time to be erased.
    #[serde(rename = "erasure.ordered")]
    ErasureOrdered {
        /// The proposal they confirmed.
        erasure: ProposalId,
        scope: ErasureScope,
        before: Time,
        reason: String,
        by: Vec<String>,
    },
    /// The documents of one request were erased. Their digests stand in the entries that named them.
    #[serde(rename = "blob.erased")]
    BlobErased {
        erasure: ProposalId,
        request: RequestId,
        documents: Vec<ErasedDocument>,
        /// What stands in place of the opening: all of it that names nobody.
        stub_sha256: Digest,
        reason: String,
    },
    /// An erasure went through all it was ordered for.
    #[serde(rename = "erasure.ended")]
    ErasureEnded {
        erasure: ProposalId,
        requests: u64,
        documents: u64,
    },
}

impl Event {
    /// The journal's word for this kind of event.
    pub fn type_name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map
                .get("type")
                .and_then(|it| it.as_str())
                .unwrap_or_default()
                .to_owned(),
            _ => String::new(),
        }
    }

    /// What the event is about: kind and id.
    pub fn object(&self) -> (&'static str, String) {
        match self {
            Event::InstanceCreated { instance, .. } => ("instance", instance.clone()),
            Event::EpochOpened { origin, .. } => ("log", origin.clone()),
            Event::KeyActivated { keyid, .. }
            | Event::KeyRetired { keyid, .. }
            | Event::KeyCompromised { keyid, .. } => ("key", keyid.clone()),
            Event::PassphraseChanged {} => ("passphrase", String::new()),
            Event::DataKeyRotated { .. } => ("data_key", String::new()),
            Event::BackupWritten { sha256, .. } => ("backup", sha256.clone()),
            Event::BackupRestored { created_at, .. } => ("backup", created_at.clone()),
            Event::PersonCreated { person, .. }
            | Event::PersonChanged { person, .. }
            | Event::InvitationCreated { person, .. }
            | Event::PasskeyRevoked { person, .. }
            | Event::PasskeyNamed { person, .. }
            | Event::TotpEnrolled { person, .. }
            | Event::TotpRevoked { person, .. }
            | Event::TotpLocked { person, .. }
            | Event::SessionOpened { person, .. }
            | Event::SessionClosed { person, .. }
            | Event::AccountLinked { person, .. } => ("person", person.to_string()),
            Event::PersonEnrolled { passkey, .. } | Event::PasskeyAdded { passkey } => {
                ("person", passkey.person.to_string())
            }
            Event::GroupSet { group, .. } | Event::GroupRemoved { group } => ("group", group.to_string()),
            Event::ApiKeyCreated { key, .. } | Event::ApiKeyRevoked { key, .. } => {
                ("api_key", key.to_string())
            }
            Event::IntegrationAdded { integration, .. }
            | Event::IntegrationRemoved { integration }
            | Event::HookReceived { integration, .. } => ("integration", integration.to_string()),
            Event::ProjectAdded { project, .. }
            | Event::ProjectChanged { project, .. }
            | Event::ProjectRemoved { project }
            | Event::GateChecked { project, .. }
            | Event::GateProvisioningStarted { project, .. }
            | Event::GateProvisioned { project, .. }
            | Event::GateRestored { project, .. }
            | Event::GateTrialStarted { project, .. }
            | Event::GateTried { project, .. }
            | Event::GateTrialCleared { project, .. }
            | Event::ExceptionProtectionDrift { project, .. } => ("project", project.to_string()),
            Event::PolicyActivated { name, .. } => ("policy", name.clone()),
            Event::ProposalMade { proposal, .. }
            | Event::ProposalConfirmed { proposal, .. }
            | Event::ProposalClosed { proposal, .. } => ("proposal", proposal.to_string()),
            Event::DelegationMade { delegation, .. } | Event::DelegationEnded { delegation } => {
                ("delegation", delegation.to_string())
            }
            Event::JournalReviewed { .. } => ("journal", String::new()),
            Event::SetUpAnswered { step, .. } => ("set_up", step.name().to_owned()),
            Event::CeremonyConfirmed { person, .. } => ("person", person.to_string()),
            Event::ExportRequested { export, .. } | Event::ExportMade { export, .. } => {
                ("export", export.to_string())
            }
            Event::DeviceAdded { device, .. }
            | Event::DeviceConfirmed { device, .. }
            | Event::DeviceEnded { device, .. } => ("device", device.to_string()),
            Event::ChatAdded { chat, .. } | Event::ChatRemoved { chat } => ("chat", chat.to_string()),
            Event::NotificationsConfigured { .. } => ("settings", "notifications".to_owned()),
            Event::NotificationsPreferred { person, .. } | Event::NotificationAsked { person, .. } => {
                ("person", person.to_string())
            }
            Event::ViewSaved { view, .. } | Event::ViewRemoved { view } => ("view", view.to_string()),
            Event::NotificationSent { to, .. } => ("notification", to.clone()),
            Event::PushKeyMade { public_key } => ("push_key", public_key.clone()),
            Event::ExceptionBreakGlass { request, .. }
            | Event::RequestSeen { request, .. }
            | Event::RequestCodeMissed { request, .. }
            | Event::ExceptionRequesterReported { request, .. } => ("request", request.to_string()),
            Event::ExceptionReviewed { exception, .. } => ("exception", exception.to_string()),
            Event::ChangeObserved { change, .. }
            | Event::LockConfirmed { change, .. }
            | Event::LockLost { change }
            | Event::ExceptionUnapprovedChange {
                change: Some(change), ..
            } => ("change", format!("{}/{}", change.project, change.number)),
            Event::ExceptionUnapprovedChange {
                project,
                target: branch,
                ..
            }
            | Event::BranchObserved { project, branch, .. } => ("branch", format!("{project}/{branch}")),
            Event::BranchesWatched { project, .. } => ("project", project.to_string()),
            Event::RequestOpened { request, .. }
            | Event::DecisionRecorded { request, .. }
            | Event::RequestApproved { request, .. }
            | Event::RequestRejected { request, .. }
            | Event::RequestExpired { request, .. }
            | Event::RequestCancelled { request, .. }
            | Event::RequestSuperseded { request, .. }
            | Event::RequestSkipped { request, .. }
            | Event::RequestShortened { request, .. }
            | Event::RequestLapsed { request, .. }
            | Event::RequestConsumed { request, .. }
            | Event::CallbackAnswered { request, .. }
            | Event::CommitChecked { request, .. }
            | Event::MergeAnswered { request, .. } => ("request", request.to_string()),
            Event::ExceptionRollbackAccepted { size, .. } => ("journal", size.to_string()),
            Event::DecisionAnnounced { request, .. } | Event::BlobErased { request, .. } => {
                ("request", request.to_string())
            }
            Event::ErasureOrdered { erasure, .. } | Event::ErasureEnded { erasure, .. } => {
                ("erasure", erasure.to_string())
            }
            Event::SinkAdded { sink, .. }
            | Event::SinkChanged { sink, .. }
            | Event::SinkRemoved { sink }
            | Event::SinkTested { sink, .. }
            | Event::SinkRecovered { sink, .. }
            | Event::ExceptionSinkStuck { sink, .. }
            | Event::ExceptionSinkEntryWithheld { sink, .. } => ("sink", sink.to_string()),
            Event::CeremonyRefused { request, person, .. } => match (request, person) {
                (Some(request), _) => ("request", request.to_string()),
                (None, Some(person)) => ("person", person.to_string()),
                (None, None) => ("session", String::new()),
            },
            Event::DeploymentObserved { facts, .. } => ("deployment", deployment_id(&facts.key)),
            Event::DeploymentAnswered { deployment, .. }
            | Event::DeploymentAskedAgain { deployment, .. }
            | Event::ExceptionUnapprovedDeployment { deployment, .. } => {
                ("deployment", deployment_id(deployment))
            }
            Event::ConditionBegan { condition, .. } | Event::ConditionEnded { condition } => {
                ("condition", condition.clone())
            }
            Event::StatusConfirmed { status, .. }
            | Event::StatusReadBack { status, .. }
            | Event::StatusLost { status, .. }
            | Event::ExceptionStatusForged { status, .. } => {
                ("status", format!("{}/{}", status.project, status.head))
            }
        }
    }

    /// The request this event changes, if it changes one.
    pub fn request(&self) -> Option<&RequestId> {
        match self {
            Event::RequestOpened { request, .. }
            | Event::DecisionRecorded { request, .. }
            | Event::RequestApproved { request, .. }
            | Event::RequestRejected { request, .. }
            | Event::RequestExpired { request, .. }
            | Event::RequestCancelled { request, .. }
            | Event::RequestSuperseded { request, .. }
            | Event::RequestSkipped { request, .. }
            | Event::RequestShortened { request, .. }
            | Event::RequestLapsed { request, .. }
            | Event::RequestConsumed { request, .. }
            | Event::BlobErased { request, .. }
            | Event::MergeAnswered { request, .. } => Some(request),
            _ => None,
        }
    }
}

fn deployment_id(key: &DeploymentKey) -> String {
    format!("{}/{}", key.project, key.job)
}
