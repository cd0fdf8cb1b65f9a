//! Which part of the journal a bundle covers, which events of it stand in full, and which files they call for.

use crate::audit::gates::{Check, Checked};
use crate::audit::{Error, damaged};
use crate::domain::ids::{Digest, PersonId, ProjectId, RequestId};
use crate::domain::project::Project;
use crate::domain::request::{Request, Status};
use crate::domain::retention::Erased;
use crate::domain::state::{Read, Table, decode};
use crate::domain::time::Time;
use crate::evidence::bundle::manifest::FilterForm;
use crate::evidence::credential::{Credential, Evidence};
use crate::evidence::dsse::Envelope;
use crate::evidence::outcome::OutcomeStatement;
use crate::store::{Snapshot, Store};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Entries read in one view of the database: a view that lives long keeps freed pages from being used again.
pub(super) const CHUNK: usize = 4_096;

/// What is wanted besides a period. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// A gated project's path or id, or the name a pipeline gave.
    pub project: Option<String>,
    pub person: Option<PersonId>,
    pub outcome: Option<Status>,
}

impl Filter {
    /// Nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether it is about this gated project, or about all of them.
    pub(super) fn means(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_none_or(|it| project.path == *it || project.id.as_str() == it)
    }

    /// As the manifest has it.
    pub fn form(&self) -> FilterForm {
        FilterForm {
            project: self.project.clone(),
            person: self.person.as_ref().map(ToString::to_string),
            outcome: self.outcome.map(|it| it.name().to_owned()),
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Inclusive.
    pub from: Time,
    /// Exclusive.
    pub to: Time,
    pub filter: Filter,
}

/// The part of the journal a period lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Position of the first entry of the period.
    pub first: u64,
    /// One more than the position of the last.
    pub end: u64,
    /// The largest checkpoint that covers none of the period; `None`: there is none.
    pub checkpoint_from: Option<(u64, String)>,
    /// The smallest that covers all before the period's end.
    pub checkpoint_to: (u64, String),
}

impl Range {
    /// Entries that the first checkpoint covers.
    pub fn from_size(&self) -> u64 {
        self.checkpoint_from.as_ref().map_or(0, |(size, _)| *size)
    }

    /// Entries that the second checkpoint covers.
    pub fn to_size(&self) -> u64 {
        self.checkpoint_to.0
    }
}

/// Finds a period in the journal.
///
/// # Errors
/// `Empty` when nothing is before its end.
pub fn range(from: Time, to: Time, state: &Snapshot) -> Result<Range, Error> {
    let first = first_at(from, state)?;
    let end = first_at(to, state)?;
    if end == 0 {
        return Err(Error::Empty);
    }
    let covering = state.checkpoint_covering(end - 1)?;
    Ok(Range {
        first,
        end,
        checkpoint_from: state.checkpoint_within(first)?,
        checkpoint_to: covering.ok_or_else(|| damaged("no checkpoint covers the period"))?,
    })
}

/// Position of the first entry at that time or after it. Times never run back.
///
/// # Errors
/// When an entry can't be read.
pub fn first_at(time: Time, state: &Snapshot) -> Result<u64, Error> {
    #[derive(Deserialize)]
    struct Timed {
        time: Time,
    }
    let (mut low, mut high) = (0, state.size()?);
    while low < high {
        let middle = low + (high - low) / 2;
        let leaf = state.leaf(middle)?;
        let leaf = leaf.ok_or_else(|| damaged(format!("entry {middle} is missing")))?;
        let timed: Timed =
            serde_json::from_slice(&leaf).map_err(|e| damaged(format!("entry {middle}: {e}")))?;
        if timed.time < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// An entry's outline, its parts unread.
#[derive(Deserialize)]
pub(super) struct Outline<'a> {
    pub r#type: &'a str,
    #[serde(borrow)]
    pub actor: &'a RawValue,
    #[serde(borrow)]
    pub data: &'a RawValue,
}

pub(super) fn outline(seq: u64, leaf: &[u8]) -> Result<Outline<'_>, Error> {
    serde_json::from_slice(leaf).map_err(|e| damaged(format!("entry {seq}: {e}")))
}

/// One bit an entry: which ones stand in full.
pub(super) struct Shown {
    first: u64,
    bits: Vec<u64>,
}

impl Shown {
    fn new(first: u64, end: u64) -> Self {
        let words = usize::try_from(end.saturating_sub(first).div_ceil(64)).unwrap_or(usize::MAX);
        Shown {
            first,
            bits: vec![0; words],
        }
    }

    fn set(&mut self, seq: u64) {
        if let Some(at) = seq.checked_sub(self.first)
            && let Some(word) = self.bits.get_mut((at / 64) as usize)
        {
            *word |= 1 << (at % 64);
        }
    }

    pub fn has(&self, seq: u64) -> bool {
        seq.checked_sub(self.first)
            .and_then(|at| Some(self.bits.get((at / 64) as usize)? >> (at % 64) & 1 == 1))
            .unwrap_or(false)
    }
}

/// What an outcome's event says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub seq: u64,
    pub outcome: Digest,
}

/// What is left of a request whose documents were erased.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    pub ended: Option<Ended>,
    /// Position and credential of its decisions in the bundle.
    pub decisions: Vec<(u64, Digest)>,
    /// Position of the entry that says what was erased.
    pub seq: u64,
}

/// Everything a bundle's files follow from.
pub(super) struct Selection {
    pub shown: Shown,
    pub counts: BTreeMap<String, u64>,
    /// Credential → position of its decision.
    pub credentials: BTreeMap<Digest, u64>,
    pub outcomes: BTreeMap<RequestId, Ended>,
    /// Request → its credentials in the bundle, by position.
    pub decisions: HashMap<RequestId, Vec<(u64, Digest)>>,
    /// Documents beside the journal.
    pub blobs: BTreeSet<Digest>,
    /// Enrolment entries, by the digest of their bytes: they stand among the blobs.
    pub enrolments: BTreeMap<Digest, u64>,
    /// Requests whose documents were erased since: how each ended, if it ended in the period, and the credentials it had, by
    /// position.
    pub erased: BTreeMap<RequestId, Gone>,
    /// Positions of the entries that say so.
    pub erasures: BTreeSet<u64>,
    /// Positions of exceptions that are shown.
    pub exceptions: Vec<u64>,
    /// Changes of access and rules, by their type.
    pub access: Vec<u64>,
    /// What was found about each project's gate.
    pub gates: BTreeMap<ProjectId, Checked>,
}

/// Reads the period once or twice and says what belongs into the bundle.
pub(super) fn select(
    store: &Store,
    order: &Order,
    range: &Range,
    told: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<Selection, Error> {
    let mut selection = Selection {
        shown: Shown::new(range.first, range.end),
        counts: BTreeMap::new(),
        credentials: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        decisions: HashMap::new(),
        blobs: BTreeSet::new(),
        enrolments: BTreeMap::new(),
        erased: BTreeMap::new(),
        erasures: BTreeSet::new(),
        exceptions: Vec::new(),
        access: Vec::new(),
        gates: BTreeMap::new(),
    };
    let mut sieve = Sieve::new(&order.filter, &store.read()?)?;
    if !order.filter.is_empty() {
        walk(store, range, |seq, leaf, state| sieve.learn(seq, leaf, state))?;
    }
    walk(store, range, |seq, leaf, state| {
        if seq.is_multiple_of(CHUNK as u64) {
            told(seq)?;
        }
        let outline = outline(seq, leaf)?;
        if !sieve.lets_through(seq, &outline, state)? {
            return Ok(());
        }
        selection.shown.set(seq);
        match selection.counts.get_mut(outline.r#type) {
            Some(count) => *count += 1,
            None => {
                selection.counts.insert(outline.r#type.to_owned(), 1);
            }
        }
        selection.take(seq, &outline)
    })?;
    selection.complete(store, range)?;
    Ok(selection)
}

/// Reads the period in order, a view of the database every few thousand entries.
fn walk(
    store: &Store,
    range: &Range,
    mut each: impl FnMut(u64, &[u8], &Snapshot) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut next = range.first;
    while next < range.end {
        let state = store.read()?;
        let take = CHUNK.min(usize::try_from(range.end - next).unwrap_or(CHUNK));
        state.each_leaf(next, take, |seq, leaf| each(seq, leaf, &state))?;
        next += take as u64;
    }
    Ok(())
}

/// Members that lead to files.
#[derive(Deserialize)]
struct Named {
    request: Option<RequestId>,
    credential_sha256: Option<Digest>,
    outcome_sha256: Option<Digest>,
    opening_sha256: Option<Digest>,
    policy_sha256: Option<Digest>,
    attestation_sha256: Option<Digest>,
    evidence_sha256: Option<Digest>,
    stub_sha256: Option<Digest>,
    sha256: Option<Digest>,
    change: Option<Value>,
}

impl Selection {
    fn take(&mut self, seq: u64, outline: &Outline<'_>) -> Result<(), Error> {
        let kind = outline.r#type;
        if kind.starts_with("exception.") && kind != "exception.reviewed" {
            self.exceptions.push(seq);
        }
        if is_access(kind) {
            self.access.push(seq);
        }
        if kind == "gate.checked" {
            let check: Check =
                serde_json::from_str(outline.data.get()).map_err(|e| damaged(format!("entry {seq}: {e}")))?;
            self.checked(seq, check);
        }
        let leads_somewhere = matches!(
            kind,
            "decision.recorded"
                | "policy.activated"
                | "person.enrolled"
                | "passkey.added"
                | "proposal.made"
                | "proposal.confirmed"
                | "blob.erased"
        ) || (kind.starts_with("request.") && kind != "request.consumed");
        if !leads_somewhere {
            return Ok(());
        }
        let named: Named =
            serde_json::from_str(outline.data.get()).map_err(|e| damaged(format!("entry {seq}: {e}")))?;
        match (kind, named.request) {
            ("decision.recorded", Some(request)) => {
                if let Some(credential) = named.credential_sha256 {
                    self.credentials.insert(credential, seq);
                    self.decisions.entry(request).or_default().push((seq, credential));
                }
            }
            (_, Some(request)) => {
                if let Some(outcome) = named.outcome_sha256 {
                    self.outcomes.insert(request, Ended { seq, outcome });
                }
            }
            _ => {}
        }
        let document = named.change.as_ref().and_then(|it| it["document"].as_str());
        self.blobs.extend(
            [
                named.opening_sha256,
                named.policy_sha256,
                named.attestation_sha256,
                named.evidence_sha256,
                named.stub_sha256,
                named.sha256.filter(|_| kind == "policy.activated"),
                document.and_then(Digest::parse),
            ]
            .into_iter()
            .flatten(),
        );
        Ok(())
    }

    /// Adds what is named by what was found: earlier credentials of an outcome, policies, enrolments.
    fn complete(&mut self, store: &Store, range: &Range) -> Result<(), Error> {
        let state = store.read()?;
        self.set_erased_apart(&state)?;
        let outcomes: Vec<(RequestId, Ended)> =
            self.outcomes.iter().map(|(id, it)| (id.clone(), *it)).collect();
        for (request, ended) in outcomes {
            let file = state.blob(&ended.outcome)?;
            let file = file.ok_or_else(|| damaged(format!("the outcome of {request} is missing")))?;
            let outcome = statement(&file).and_then(|it| OutcomeStatement::parse(&it).ok());
            let outcome =
                outcome.ok_or_else(|| damaged(format!("the outcome of {request} can't be read")))?;
            self.blobs.insert(outcome.policy_sha256);
            let named = outcome.obligations.iter().flat_map(|it| &it.credentials);
            for digest in named.filter_map(|it| Digest::parse(it.strip_prefix("crd_")?)) {
                if self.credentials.contains_key(&digest) {
                    continue;
                }
                let row = state.get_raw(Table::Credentials, &digest.0)?;
                let row = row.ok_or_else(|| damaged(format!("crd_{digest} is not recorded")))?;
                let (_, seq): (RequestId, u64) = decode(&row)?;
                self.credentials.insert(digest, seq);
                self.decisions
                    .entry(request.clone())
                    .or_default()
                    .push((seq, digest));
            }
        }
        for decisions in self.decisions.values_mut() {
            decisions.sort_unstable();
        }
        let credentials: Vec<Digest> = self.credentials.keys().copied().collect();
        for digest in credentials {
            let credential = credential(&digest, &state)?;
            self.blobs.insert(credential.policy_sha256);
            if let Evidence::Webauthn(it) = credential.evidence {
                self.enrolments.insert(it.enrolment_sha256, it.enrolment_event);
                if (range.first..range.end).contains(&it.enrolment_event)
                    && !self.shown.has(it.enrolment_event)
                {
                    self.shown.set(it.enrolment_event);
                    let leaf = state.leaf(it.enrolment_event)?.unwrap_or_default();
                    let outline = outline(it.enrolment_event, &leaf)?;
                    *self.counts.entry(outline.r#type.to_owned()).or_insert(0) += 1;
                    self.take(it.enrolment_event, &outline)?;
                }
            }
        }
        Ok(())
    }
}

impl Selection {
    /// Credentials and outcomes that are there no more, because an entry says so.
    fn set_erased_apart(&mut self, state: &Snapshot) -> Result<(), Error> {
        let gone = |digest: &Digest, what: &str| -> Result<Option<u64>, Error> {
            if state.has_blob(digest)? {
                return Ok(None);
            }
            let erased = Erased::of(digest, state)?;
            let erased = erased.ok_or_else(|| damaged(format!("{what} is missing")))?;
            Ok(Some(erased.seq))
        };
        let mut left = HashMap::new();
        for (request, decisions) in std::mem::take(&mut self.decisions) {
            let Some((_, first)) = decisions.first() else {
                continue;
            };
            // A request's documents go together.
            match gone(first, &format!("crd_{first}"))? {
                None => {
                    left.insert(request, decisions);
                }
                Some(seq) => {
                    for (_, digest) in &decisions {
                        self.credentials.remove(digest);
                    }
                    self.erasures.insert(seq);
                    let gone = self.erased.entry(request).or_default();
                    (gone.decisions, gone.seq) = (decisions, seq);
                }
            }
        }
        self.decisions = left;
        let ended: Vec<(RequestId, Ended)> = self.outcomes.iter().map(|(id, it)| (id.clone(), *it)).collect();
        for (request, ended) in ended {
            if let Some(seq) = gone(&ended.outcome, &format!("the outcome of {request}"))? {
                self.outcomes.remove(&request);
                self.erasures.insert(seq);
                let gone = self.erased.entry(request).or_default();
                (gone.ended, gone.seq) = (Some(ended), seq);
            }
        }
        for digest in &self.blobs {
            if let Some(erased) = Erased::of(digest, state)? {
                self.erasures.insert(erased.seq);
            }
        }
        Ok(())
    }
}

/// Whether an event changes who may do what: access, credentials, rules, keys.
pub(super) fn is_access(kind: &str) -> bool {
    let changes = [
        "person.",
        "passkey.",
        "totp.",
        "group.",
        "api_key.",
        "account.",
        "delegation.",
        "policy.",
        "proposal.",
        "project.",
        "integration.",
        "key.",
        "epoch.",
        "retention.",
        "blob.",
        "erasure.",
    ];
    changes.iter().any(|it| kind.starts_with(it))
}

/// The payload of an envelope.
pub(super) fn statement(file: &[u8]) -> Option<Vec<u8>> {
    Some(Envelope::parse(file).ok()?.payload)
}

/// A credential as it was stored.
pub(super) fn credential(digest: &Digest, state: &Snapshot) -> Result<Credential, Error> {
    let file = state.blob(digest)?;
    let file = file.ok_or_else(|| damaged(format!("crd_{digest} is missing")))?;
    let read = statement(&file).and_then(|it| Credential::parse(&it).ok());
    read.ok_or_else(|| damaged(format!("crd_{digest} can't be read")))
}

/// Decides which events stand in full.
struct Sieve {
    filter: Filter,
    /// Gated projects the filter means.
    projects: BTreeSet<ProjectId>,
    /// Requests of the project, as far as they were asked.
    of_project: HashMap<RequestId, bool>,
    by_person: BTreeSet<RequestId>,
    by_outcome: BTreeSet<RequestId>,
}

impl Sieve {
    fn new(filter: &Filter, state: &Snapshot) -> Result<Self, Error> {
        let mut projects = BTreeSet::new();
        if filter.project.is_some() {
            let all: Vec<Project> = state.all()?;
            projects.extend(all.into_iter().filter(|it| filter.means(it)).map(|it| it.id));
        }
        Ok(Sieve {
            filter: filter.clone(),
            projects,
            of_project: HashMap::new(),
            by_person: BTreeSet::new(),
            by_outcome: BTreeSet::new(),
        })
    }

    /// Notes which requests the person decided and which ended as wanted.
    fn learn(&mut self, seq: u64, leaf: &[u8], _: &Snapshot) -> Result<(), Error> {
        let outline = outline(seq, leaf)?;
        let ending = self.filter.outcome.map(|it| format!("request.{}", it.name()));
        let decided = outline.r#type == "decision.recorded" && self.filter.person.is_some();
        if !decided && ending.as_deref() != Some(outline.r#type) {
            return Ok(());
        }
        let data: Value =
            serde_json::from_str(outline.data.get()).map_err(|e| damaged(format!("entry {seq}: {e}")))?;
        let Some(request) = data["request"].as_str().and_then(RequestId::parse) else {
            return Ok(());
        };
        if decided {
            let person = data["person"].as_str().and_then(PersonId::parse);
            if person.is_some() && person == self.filter.person {
                self.by_person.insert(request);
            }
        } else {
            self.by_outcome.insert(request);
        }
        Ok(())
    }

    fn lets_through(&mut self, seq: u64, outline: &Outline<'_>, state: &Snapshot) -> Result<bool, Error> {
        if self.filter.is_empty() {
            return Ok(true);
        }
        let kind = outline.r#type;
        // Without these nothing else could be verified.
        if kind.starts_with("key.") || kind == "epoch.opened" || kind == "instance.created" {
            return Ok(true);
        }
        let data: Value =
            serde_json::from_str(outline.data.get()).map_err(|e| damaged(format!("entry {seq}: {e}")))?;
        if let Some(request) = data["request"].as_str().and_then(RequestId::parse) {
            return self.wants(&request, state);
        }
        if self.filter.outcome.is_some() {
            return Ok(false);
        }
        Ok(self.is_of_project(&data) && self.is_of_person(outline, &data)?)
    }

    fn wants(&mut self, request: &RequestId, state: &Snapshot) -> Result<bool, Error> {
        let person = self.filter.person.is_none() || self.by_person.contains(request);
        let outcome = self.filter.outcome.is_none() || self.by_outcome.contains(request);
        if !person || !outcome {
            return Ok(false);
        }
        let Some(wanted) = &self.filter.project else {
            return Ok(true);
        };
        if let Some(known) = self.of_project.get(request) {
            return Ok(*known);
        }
        let record: Option<Request> = state.get(request.as_str())?;
        let of_project = record.is_some_and(|it| {
            it.gated_project().is_some_and(|it| self.projects.contains(it))
                || it.project_name.as_ref() == Some(wanted)
        });
        self.of_project.insert(request.clone(), of_project);
        Ok(of_project)
    }

    fn is_of_project(&self, data: &Value) -> bool {
        if self.filter.project.is_none() {
            return true;
        }
        let places = [
            "/project",
            "/change/project",
            "/status/project",
            "/deployment/project",
            "/facts/key/project",
        ];
        places
            .iter()
            .filter_map(|it| data.pointer(it)?.as_str().and_then(ProjectId::parse))
            .any(|it| self.projects.contains(&it))
    }

    fn is_of_person(&self, outline: &Outline<'_>, data: &Value) -> Result<bool, Error> {
        let Some(person) = &self.filter.person else {
            return Ok(true);
        };
        let actor: Value = serde_json::from_str(outline.actor.get()).map_err(|e| damaged(e.to_string()))?;
        let found = [&data["person"], &actor["id"]];
        Ok(found.iter().any(|it| it.as_str() == Some(person.as_str())))
    }
}
