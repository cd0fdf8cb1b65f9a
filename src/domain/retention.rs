//! How long the documents of a request are kept, and their erasure afterwards.
//!
//! The journal itself is never shortened. What can be erased are the documents beside it: what a request was opened with, its
//! credentials and its outcome. Their digests stay in the entries, so the tree stays as it is, and an entry says what was
//! erased, when and why. Nothing is ever erased by itself: two admins order it, after the project's time of retention.

use crate::domain::deployment::{Deployment, DeploymentState};
use crate::domain::facts::{Account, ChangeFacts, FileList};
use crate::domain::ids::{Digest, ProjectId, ProposalId, RequestId};
use crate::domain::project::Project;
use crate::domain::request::{Change, Opening, Request, Requester, Status, change_row};
use crate::domain::state::{Fault, Read, Record, Table, decode};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Days the documents of a request are kept where nothing else is arranged: a year and the audit after it (PCI DSS 10.5.1).
pub const RETENTION_DAYS: u32 = 400;
/// Longest time of retention, in days: a hundred years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// What stands where something was erased.
pub const ERASED: &str = "(erased)";

/// The default of a project's settings.
pub fn default_days() -> u32 {
    RETENTION_DAYS
}

/// Whose documents are erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum ErasureScope {
    /// All requests of a gated project.
    Project { project: ProjectId },
    /// All requests that pipelines opened under this name of a project, or under none, and that belong to no gated one.
    Pipelines { project_name: Option<String> },
    /// One request.
    Request { request: RequestId },
}

impl ErasureScope {
    /// Whether a request is meant.
    pub fn covers(&self, request: &Request) -> bool {
        match self {
            ErasureScope::Project { project } => request.gated_project() == Some(project),
            ErasureScope::Pipelines { project_name } => {
                request.gated_project().is_none() && request.project_name == *project_name
            }
            ErasureScope::Request { request: id } => request.id == *id,
        }
    }
}

/// An erasure that two admins ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The proposal that was confirmed.
    pub id: ProposalId,
    pub scope: ErasureScope,
    /// Requests that ended before.
    pub before: Time,
    pub reason: String,
    /// Names of the admins behind it.
    pub by: Vec<String>,
    pub ordered_at: Time,
    /// Requests and documents erased so far.
    pub requests: u64,
    pub documents: u64,
    pub ended_at: Option<Time>,
    /// Journal position of `erasure.ordered`.
    pub seq: u64,
}

impl Record for Erasure {
    const TABLE: Table = Table::Erasures;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// What a document was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// What the request was opened with: title, files, names, the caller's metadata.
    Opening,
    /// A decision's credential.
    Credential,
    /// The outcome statement.
    Outcome,
}

/// One document that was erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedDocument {
    pub kind: DocumentKind,
    pub sha256: Digest,
}

/// What is recorded of an erased document, under its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Journal position of `blob.erased`.
    pub seq: u64,
    /// What stands in its place: of an opening, all of it that names nobody.
    pub stub: Option<Digest>,
}

impl Erased {
    /// What is recorded of a document; `None`: it was not erased.
    ///
    /// # Errors
    /// When the row can't be read.
    pub fn of(digest: &Digest, state: &impl Read) -> Result<Option<Erased>, Fault> {
        let row = state.get_raw(Table::Erased, &digest.0)?;
        row.map(|it| decode(&it)).transpose()
    }

    /// What stands in place of an erased opening, with its digest.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn stub_of(digest: &Digest, state: &impl Read) -> Result<Option<(Digest, Vec<u8>)>, Fault> {
        let Some(stub) = Erased::of(digest, state)?.and_then(|it| it.stub) else {
            return Ok(None);
        };
        Ok(state.blob(&stub)?.map(|it| (stub, it)))
    }
}

/// What a request was opened with.
///
/// # Errors
/// When it can't be read.
pub fn opening_of(request: &Request, state: &impl Read) -> Result<Opening, Fault> {
    let blob = state.blob(&request.opening)?;
    let blob = blob.ok_or_else(|| Fault(format!("the opening of {} is missing", request.id)))?;
    decode(&blob)
}

/// How many days the documents of a request are kept after its end.
///
/// # Errors
/// When the project can't be read.
pub fn days_kept(request: &Request, state: &impl Read) -> Result<u32, Fault> {
    match request.gated_project() {
        Some(id) => {
            let project: Option<Project> = state.get(id.as_str())?;
            Ok(project.map_or(RETENTION_DAYS, |it| it.settings.retention_days))
        }
        None => Ok(RETENTION_DAYS),
    }
}

/// Why the documents of a request can't be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It waits, or its approval can still be used, or somebody is still to be told.
    InUse,
    /// Its time of retention is not over.
    Retained,
    /// They are gone already.
    Erased,
    /// It was opened by a version whose documents may be shared by several requests.
    Shared,
}

/// Whether the documents of a request may be erased now.
///
/// # Errors
/// When the recorded state can't be read.
pub fn kept(request: &Request, now: Time, state: &impl Read) -> Result<Option<Kept>, Fault> {
    if request.erased_at.is_some() {
        return Ok(Some(Kept::Erased));
    }
    if in_use(request, now, state)? {
        return Ok(Some(Kept::InUse));
    }
    let days = days_kept(request, state)?;
    let ended = request.decided_at.unwrap_or(now);
    if ended.plus_seconds(u64::from(days) * 86_400) > now {
        return Ok(Some(Kept::Retained));
    }
    let own = opening_of(request, state)?.request.as_ref() == Some(&request.id);
    Ok((!own).then_some(Kept::Shared))
}

fn in_use(request: &Request, now: Time, state: &impl Read) -> Result<bool, Fault> {
    if request.status == Status::Pending || request.decided_at.is_none() {
        return Ok(true);
    }
    let row = request.id.as_str().as_bytes();
    for open in [Table::OpenCallbacks, Table::OpenCommits] {
        if state.get_raw(open, row)?.is_some() {
            return Ok(true);
        }
    }
    if let Some(key) = &request.change
        && let Some(change) = state.get::<Change>(&change_row(key))?
        && change.open
        && change.request.as_ref() == Some(&request.id)
    {
        return Ok(true);
    }
    if let Some(key) = &request.deployment
        && let Some(deployment) = state.get::<Deployment>(&key.row())?
        && matches!(
            deployment.state,
            DeploymentState::Waiting | DeploymentState::Starting
        )
        && deployment.request.as_ref() == Some(&request.id)
    {
        return Ok(true);
    }
    let usable = request.status == Status::Approved && request.consumed_at.is_none() && !request.lapsed;
    // What a pipeline was granted without a limit of time is used up by its retention.
    Ok(usable && request.gated_project().is_none() && request.expires_at.is_some_and(|it| it > now))
}

/// All of an opening that names nobody: what the other projections follow from.
pub fn redacted(opening: Opening) -> Opening {
    let requester = match opening.requester {
        Requester::Person { id, .. } => Requester::Person {
            id,
            name: ERASED.to_owned(),
        },
        Requester::Key { id, .. } => Requester::Key {
            id,
            name: ERASED.to_owned(),
        },
        Requester::ForgeAccount { .. } => Requester::ForgeAccount {
            id: String::new(),
            name: ERASED.to_owned(),
        },
    };
    Opening {
        subject: "{}".to_owned(),
        title: ERASED.to_owned(),
        requester,
        trace: Vec::new(),
        notes: Vec::new(),
        involved: Default::default(),
        claimed: None,
        callback_url: None,
        facts: opening.facts.map(redacted_change),
        deployment: opening.deployment.map(|mut it| {
            it.triggered_by = nobody();
            it.job_account = None;
            it.ref_name = String::new();
            it.web_url = String::new();
            it.commit_title = ERASED.to_owned();
            it
        }),
        ..opening
    }
}

fn redacted_change(facts: ChangeFacts) -> ChangeFacts {
    ChangeFacts {
        title: ERASED.to_owned(),
        web_url: String::new(),
        author: nobody(),
        source: String::new(),
        files: FileList {
            files: Vec::new(),
            incomplete: Some("The list of files was erased.".to_owned()),
        },
        contributors: Vec::new(),
        merged: None,
        ..facts
    }
}

fn nobody() -> Account {
    Account {
        id: String::new(),
        username: ERASED.to_owned(),
        name: ERASED.to_owned(),
    }
}

/// What a look at some of the recorded requests found.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// Those whose documents may be erased.
    pub erasable: Vec<Request>,
    /// Those that ended in time and are meant, and can't be erased: their time of retention is not over.
    pub retained: u64,
    /// They are in use.
    pub in_use: u64,
    /// An earlier version opened them.
    pub shared: u64,
    /// Where to go on; `None`: there are no more.
    pub next: Option<u64>,
}

/// Looks at recorded requests in the order in which they were opened, `rows` of them from journal position `from` on: which
/// of them an erasure would take the documents of.
///
/// # Errors
/// When the recorded state can't be read.
pub fn examine(
    scope: &ErasureScope,
    before: Time,
    now: Time,
    from: u64,
    rows: usize,
    state: &impl Read,
) -> Result<Examined, Fault> {
    let mut found = Examined::default();
    let ids = match scope {
        ErasureScope::Request { request } => vec![(Vec::new(), request.as_str().as_bytes().to_vec())],
        _ => {
            let order = Table::RequestOrder;
            let ids = state.scan_raw(order, &from.to_be_bytes(), &[0xff; 9], rows, false)?;
            if ids.len() == rows {
                let last = ids.last().and_then(|(key, _)| key.as_slice().try_into().ok());
                found.next = last.map(|it| u64::from_be_bytes(it) + 1);
            }
            ids
        }
    };
    for (_, id) in ids {
        let id = std::str::from_utf8(&id).unwrap_or_default();
        let Some(request) = state.get::<Request>(id)? else {
            continue;
        };
        if request.created_at >= before {
            // Whatever was opened later ended later as well.
            found.next = None;
            break;
        }
        if !scope.covers(&request) || request.decided_at.is_none_or(|it| it >= before) {
            continue;
        }
        match kept(&request, now, state)? {
            None => found.erasable.push(request),
            Some(Kept::InUse) => found.in_use += 1,
            Some(Kept::Retained) => found.retained += 1,
            Some(Kept::Shared) => found.shared += 1,
            Some(Kept::Erased) => {}
        }
    }
    Ok(found)
}
