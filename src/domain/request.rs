//! An approval request: one change or action that waits for people, and what became of it.

use crate::domain::deployment::{DeploymentFacts, DeploymentKey};
use crate::domain::facts::{Account, ChangeFacts};
use crate::domain::follow_up::{CalledBack, CheckedCommit};
use crate::domain::ids::{ApiKeyId, Digest, PersonId, ProjectId, RequestId};
use crate::domain::policy::{Method, Obligation, TraceEntry};
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What kind of thing is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A merge request on a forge.
    Change,
    /// An action with an environment.
    Deployment,
    /// Any other action sent to the API.
    Action,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Change, Kind::Deployment, Kind::Action];

    /// The word for it in the API and in evidence.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Change => "change",
            Kind::Deployment => "deployment",
            Kind::Action => "action",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|it| it.name() == text)
    }
}

/// Where a request stands. All but `Pending` are outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Approved,
    Rejected,
    Expired,
    Cancelled,
    Superseded,
    Skipped,
}

impl Status {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Approved => "approved",
            Status::Rejected => "rejected",
            Status::Expired => "expired",
            Status::Cancelled => "cancelled",
            Status::Superseded => "superseded",
            Status::Skipped => "skipped",
        }
    }

    /// All of them.
    pub const ALL: [Status; 7] = [
        Status::Pending,
        Status::Approved,
        Status::Rejected,
        Status::Expired,
        Status::Cancelled,
        Status::Superseded,
        Status::Skipped,
    ];

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|it| it.name() == text)
    }
}

/// Approve or reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Approve,
    Reject,
}

impl Answer {
    /// The word in the intent's `decision`.
    pub fn name(self) -> &'static str {
        match self {
            Answer::Approve => "approve",
            Answer::Reject => "reject",
        }
    }

    /// The printed meaning of the signature (21 CFR 11.50): the word in the intent's `meaning`.
    pub fn meaning(self) -> &'static str {
        match self {
            Answer::Approve => "approval",
            Answer::Reject => "rejection",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Answer> {
        match text {
            "approve" => Some(Answer::Approve),
            "reject" => Some(Answer::Reject),
            _ => None,
        }
    }
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Requester {
    /// A person, who tries the gate out.
    Person { id: PersonId, name: String },
    /// A machine caller's key.
    Key { id: ApiKeyId, name: String },
    /// The author of a change.
    ForgeAccount { id: String, name: String },
}

impl Opening {
    /// The branch, tag or other ref that it is about, where it names one.
    pub fn source(&self) -> Option<String> {
        let change = self.facts.as_ref().map(|it| &it.source);
        let named = change.or_else(|| self.deployment.as_ref().map(|it| &it.ref_name));
        named.filter(|it| !it.is_empty()).cloned()
    }
}

impl Requester {
    /// `(kind, id, name)` as evidence writes them.
    pub fn parts(&self) -> (&'static str, &str, &str) {
        match self {
            Requester::Person { id, name } => ("person", id.as_str(), name),
            Requester::Key { id, name } => ("key", id.as_str(), name),
            Requester::ForgeAccount { id, name } => ("forge_account", id, name),
        }
    }
}

/// The policy version a request is judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRef {
    pub name: String,
    /// 0 for the built-in default rule.
    pub version: u64,
    pub sha256: Digest,
}

/// One person's recorded decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub person: PersonId,
    pub name: String,
    pub answer: Answer,
    pub method: Method,
    pub decided_at: Time,
    pub comment: String,
    /// Digest of the credential file; its id is `crd_` and these digits.
    pub credential: Digest,
    /// Chosen as the emergency way through (policy rule 21).
    #[serde(default)]
    pub break_glass: bool,
    /// The passkey it was made with: revoked, it takes the decision with it while the quorum is not met.
    #[serde(default)]
    pub passkey: Option<String>,
    /// Journal position of `decision.recorded`.
    pub seq: u64,
}

/// Everything that stays as it was when the request was opened. Kept as a blob, so that a leaf stays small.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// Whose it is, so that no two requests share one document. Absent in those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    pub kind: Kind,
    /// The subject's own bytes: exactly what is signed.
    pub subject: String,
    /// One line for people; text from outside.
    pub title: String,
    pub requester: Requester,
    pub policy: PolicyRef,
    pub obligations: Vec<Obligation>,
    pub break_glass: Vec<Obligation>,
    pub trace: Vec<TraceEntry>,
    /// Sentences about what made this stricter or impossible.
    pub notes: Vec<String>,
    /// People who made or asked for it, and how.
    pub involved: BTreeMap<PersonId, Involvement>,
    /// Seconds it may wait, and an approval of it may be used; `None`: without limit.
    pub ttl_seconds: Option<u64>,
    /// A rule says `block`, so no decision can make it green.
    pub blocked: bool,
    /// A change's facts as they were read from the forge.
    pub facts: Option<ChangeFacts>,
    pub change: Option<ChangeKey>,
    /// The facts of a deployment that waits on a forge, as they were read there.
    #[serde(default)]
    pub deployment: Option<Box<DeploymentFacts>>,
    pub environment: Option<String>,
    pub project_name: Option<String>,
    /// The caller's metadata, verbatim: claimed, decides nothing.
    pub claimed: Option<String>,
    /// Where the caller's digest came from: algorithm (`gitCommit`, `sha256`) and hex.
    pub digest: Option<(String, String)>,
    pub callback_url: Option<String>,
    /// The gated project whose forge is asked about the commit, where there is exactly one by that name.
    #[serde(default)]
    pub commit_of: Option<ProjectId>,
    /// Names of the skip rules, for a request that no person has to decide.
    pub skipped_by: Vec<String>,
}

/// That a person made, or asked for, what is to be approved (policy rule 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Involvement {
    /// The change's author, or who is answerable for the key that asks; else another contributor.
    pub author: bool,
    /// How, as a sentence to that person.
    pub why: String,
}

/// Which change on which project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChangeKey {
    pub project: ProjectId,
    pub number: u64,
}

/// A request as it stands. The bulk of what it was opened with is in the `opening` blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    pub kind: Kind,
    pub status: Status,
    pub title: String,
    pub requester: Requester,
    pub subject_sha256: Digest,
    pub policy: PolicyRef,
    pub obligations: Vec<Obligation>,
    pub break_glass: Vec<Obligation>,
    pub involved: BTreeMap<PersonId, Involvement>,
    pub ttl_seconds: Option<u64>,
    pub blocked: bool,
    /// Why nobody may approve it for now: its requester was reported. Never recorded, always judged anew.
    #[serde(skip)]
    pub held: Option<String>,
    pub change: Option<ChangeKey>,
    /// The job on a forge that waits for it.
    #[serde(default)]
    pub deployment: Option<DeploymentKey>,
    /// Head commit and full target ref of a change.
    pub head: Option<String>,
    pub target: Option<String>,
    pub environment: Option<String>,
    pub project_name: Option<String>,
    /// Full ref of a change's source, or what a deployment is of.
    #[serde(default)]
    pub source: Option<String>,
    /// The commit of an action or a deployment, where it is known by one.
    #[serde(default)]
    pub about_commit: Option<String>,
    pub opening: Digest,
    pub created_at: Time,
    pub expires_at: Option<Time>,
    pub decided_at: Option<Time>,
    /// Why it ended, where a person did not decide it.
    pub ended_because: Option<String>,
    pub decisions: Vec<Decision>,
    /// Digest of the outcome statement's file.
    pub outcome: Option<Digest>,
    pub consumed_at: Option<Time>,
    /// Digest of the idempotency key of that use, where there was one.
    #[serde(default)]
    pub consumed_by: Option<Digest>,
    /// Whoever asked is called back once it is over.
    #[serde(default)]
    pub calls_back: bool,
    /// How that went.
    #[serde(default)]
    pub called_back: Option<CalledBack>,
    /// What a forge said of the commit that a pipeline named.
    #[serde(default)]
    pub commit: Option<CheckedCommit>,
    /// An approval that was not used in time (policy rule 9).
    pub lapsed: bool,
    /// When its documents were erased. What the journal's entries say of it stays.
    #[serde(default)]
    pub erased_at: Option<Time>,
    /// How many requests were opened before it.
    #[serde(default)]
    pub ordinal: u64,
    /// Journal position of `request.opened`.
    pub seq: u64,
    /// Journal position of the last event that changed it.
    pub changed_seq: u64,
}

impl Request {
    /// Whether `person` has decided it.
    pub fn decided_by(&self, person: &PersonId) -> bool {
        self.decisions.iter().any(|it| it.person == *person)
    }

    /// The gated project on a forge that it belongs to.
    pub fn gated_project(&self) -> Option<&ProjectId> {
        let change = self.change.as_ref().map(|it| &it.project);
        change.or_else(|| self.deployment.as_ref().map(|it| &it.project))
    }

    /// Who asked, as a forge account or key or person name.
    pub fn requested_by(&self) -> &str {
        self.requester.parts().2
    }
}

impl Record for Request {
    const TABLE: Table = Table::Requests;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// A change as it was last seen, and the request that gates it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    pub key: ChangeKey,
    pub open: bool,
    pub merged: bool,
    pub draft: bool,
    pub title: String,
    pub web_url: String,
    pub author: Account,
    pub head: String,
    pub base: String,
    #[serde(default)]
    pub target_sha: Option<String>,
    pub source: String,
    pub target: String,
    pub source_project_id: String,
    pub files_sha256: Digest,
    /// `None` while its target branch is not gated.
    pub request: Option<RequestId>,
    pub observed_at: Time,
}

impl Record for Change {
    const TABLE: Table = Table::Changes;
    fn key(&self) -> String {
        change_row(&self.key)
    }
}

/// Key of a change in its tables.
pub fn change_row(key: &ChangeKey) -> String {
    format!("{}\0{:020}", key.project, key.number)
}

/// What the forge's status of one commit and target should be, or was last confirmed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    Pending,
    Success,
    Failed,
}

/// Which status on which commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StatusKey {
    pub project: ProjectId,
    pub head: String,
    /// Full target ref.
    pub target: String,
}

impl StatusKey {
    /// Key of the row in its table.
    pub fn row(&self) -> String {
        format!("{}\0{}\0{}", self.project, self.head, self.target)
    }

    /// The status's name on every forge: `signedapproval/<target branch>`.
    pub fn name(&self) -> String {
        format!(
            "signedapproval/{}",
            self.target.strip_prefix("refs/heads/").unwrap_or(&self.target)
        )
    }
}

/// A status the forge has confirmed (or refused for good).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedStatus {
    pub key: StatusKey,
    pub state: GateState,
    pub description: String,
    pub request: Option<RequestId>,
    /// The forge's refusal, where it will not take the status.
    pub refused: Option<String>,
    pub confirmed_at: Time,
    /// Read back, the status is there and decides nothing: why.
    #[serde(default)]
    pub not_in_force: Option<String>,
    /// The source branches it was told for: a forge may keep a status apart for each.
    #[serde(default)]
    pub sources: Vec<String>,
}

impl Record for ConfirmedStatus {
    const TABLE: Table = Table::Statuses;
    fn key(&self) -> String {
        self.key.row()
    }
}

/// A merge asked of a forge for an approved request, and what it answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MergeRecord {
    pub request: RequestId,
    /// Merged as this commit, where the forge told.
    pub commit: Option<String>,
    pub merged: bool,
    /// Why it will not be asked again.
    pub refused: Option<String>,
    pub at: Time,
}

impl Record for MergeRecord {
    const TABLE: Table = Table::Merges;
    fn key(&self) -> String {
        self.request.to_string()
    }
}

/// What the forge's own lock of a change (our approval, or our external check) was last told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedLock {
    pub change: ChangeKey,
    /// The head it was told of.
    pub head: String,
    pub state: GateState,
    pub request: Option<RequestId>,
    /// The forge's refusal, where it will not take it.
    pub refused: Option<String>,
    pub confirmed_at: Time,
}

impl Record for ConfirmedLock {
    const TABLE: Table = Table::Locks;
    fn key(&self) -> String {
        change_row(&self.change)
    }
}
