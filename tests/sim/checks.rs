//! What must hold whenever the appliance has been started again, and what must hold once its followers have come to
//! rest. Everything is worked out anew from the journal's bytes, never from the code that is being checked.

use crate::appliance::{KEEPS_ONLY_WHAT_LANDED, LOOKS_BACK, MERGE_CURSOR, STATUS_CURSOR, Sim, touched};
use crate::passkey::ORIGIN;
use crate::storage::Machine;
use signedapproval::domain::event::Event;
use signedapproval::domain::facts::ChangeState;
use signedapproval::domain::ids::{Digest, PersonId, RequestId};
use signedapproval::domain::project::Project;
use signedapproval::domain::request::{Answer, ChangeKey, GateState, Request, Status, change_row};
use signedapproval::domain::state::{Read, Row, Table};
use signedapproval::engine::rebuild;
use signedapproval::evidence::dsse::PublicKey;
use signedapproval::evidence::leaf;
use signedapproval::evidence::verify::{self, Expect, Journal, Trust};
use signedapproval::store::{Snapshot, Store};
use signedapproval::tlog::{Checkpoint, Frontier, Hash, Proof, VerifierKey, leaf_hash};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// What a request has come to, by the journal's entries alone.
#[derive(Clone, Debug, Default)]
struct Course {
    quorum: u32,
    approvals: BTreeSet<PersonId>,
    granted: bool,
    lapsed: bool,
    ended: bool,
    blocked_or_failed: bool,
}

#[derive(Clone, Debug)]
struct ChangeNow {
    open: bool,
    merged: bool,
    head: String,
    target: String,
    request: Option<RequestId>,
}

/// The journal retold.
#[derive(Clone, Debug, Default)]
struct Chronicle {
    requests: BTreeMap<RequestId, Course>,
    changes: BTreeMap<ChangeKey, ChangeNow>,
    /// Forge's project number of each project.
    projects: BTreeMap<String, String>,
    /// Commits that a change left after its request had failed.
    left: BTreeSet<Place>,
    /// Where each change has been.
    been: BTreeSet<(ChangeKey, Place)>,
}

/// Project number, head, target.
type Place = (String, String, String);

impl Chronicle {
    fn add(&mut self, event: &Event) {
        match event {
            Event::ProjectAdded {
                project, settings, ..
            } => {
                self.projects
                    .insert(project.to_string(), settings.forge_project_id.clone());
            }
            Event::ChangeObserved {
                change,
                open,
                merged,
                head,
                target,
                request,
                ..
            } => {
                let now = ChangeNow {
                    open: *open,
                    merged: *merged,
                    head: head.clone(),
                    target: target.clone(),
                    request: request.clone(),
                };
                if let Some(before) = self.changes.get(change)
                    && self
                        .course_of(before)
                        .is_some_and(|it| it.gate() == GateState::Failed)
                {
                    self.left.insert(self.place(change, before));
                }
                self.been.insert((change.clone(), self.place(change, &now)));
                self.changes.insert(change.clone(), now);
            }
            Event::RequestOpened {
                request, obligations, ..
            } => {
                let quorum = obligations.iter().map(|it| it.quorum).max().unwrap_or(1);
                let before = self.requests.insert(
                    request.clone(),
                    Course {
                        quorum,
                        ..Course::default()
                    },
                );
                assert!(before.is_none(), "{request} was opened twice");
            }
            Event::DecisionRecorded {
                request,
                person,
                decision,
                ..
            } => {
                let course = self.of(request);
                assert!(!course.ended, "a decision on {request}, which has ended");
                if *decision == Answer::Approve {
                    assert!(
                        course.approvals.insert(person.clone()),
                        "{person} counts twice in {request}"
                    );
                }
            }
            Event::RequestApproved { request, .. } => {
                let course = self.of(request);
                let enough = course.approvals.len() >= course.quorum as usize;
                assert!(
                    enough,
                    "{request} approved by {} of {}",
                    course.approvals.len(),
                    course.quorum
                );
                course.granted = true;
                course.end(request);
            }
            Event::RequestSkipped { request, .. } => {
                let course = self.of(request);
                course.granted = true;
                course.end(request);
            }
            Event::RequestRejected { request, .. } | Event::RequestExpired { request, .. } => {
                let course = self.of(request);
                course.blocked_or_failed = true;
                course.end(request);
            }
            Event::RequestCancelled { request, .. } | Event::RequestSuperseded { request, .. } => {
                self.of(request).end(request);
            }
            Event::RequestLapsed { request, .. } => self.of(request).lapsed = true,
            Event::RequestConsumed { request, .. } => {
                let course = self.of(request);
                assert!(
                    course.granted && !course.lapsed,
                    "{request} was used without an approval"
                );
            }
            _ => {}
        }
    }

    fn of(&mut self, request: &RequestId) -> &mut Course {
        self.requests
            .get_mut(request)
            .unwrap_or_else(|| panic!("the journal speaks of {request}, never opened"))
    }

    fn course_of(&self, change: &ChangeNow) -> Option<&Course> {
        self.requests.get(change.request.as_ref()?)
    }

    /// What the forge should show, for every commit that an open gated change has: the worst of them.
    fn wanted(&self) -> BTreeMap<Place, GateState> {
        let mut wanted: BTreeMap<Place, GateState> = BTreeMap::new();
        for (key, change) in self.changes.iter().filter(|(_, it)| it.open) {
            let Some(course) = self.course_of(change) else {
                continue;
            };
            let state = course.gate();
            let slot = wanted.entry(self.place(key, change)).or_insert(state);
            *slot = worse(*slot, state);
        }
        wanted
    }

    /// Where a merged change keeps the green it was merged with.
    fn kept(&self) -> BTreeSet<Place> {
        let merged = self.changes.iter().filter(|(_, it)| it.merged);
        merged
            .filter(|(_, it)| self.course_of(it).is_some_and(|it| it.granted))
            .map(|(key, it)| self.place(key, it))
            .collect()
    }

    fn place(&self, key: &ChangeKey, change: &ChangeNow) -> Place {
        (
            self.projects[key.project.as_str()].clone(),
            change.head.clone(),
            change.target.clone(),
        )
    }
}

impl Course {
    fn end(&mut self, request: &RequestId) {
        assert!(!self.ended, "{request} ended twice");
        self.ended = true;
    }

    fn gate(&self) -> GateState {
        match (
            self.granted && !self.lapsed,
            self.blocked_or_failed || self.lapsed,
        ) {
            (true, _) => GateState::Success,
            (false, true) => GateState::Failed,
            (false, false) => GateState::Pending,
        }
    }
}

fn worse(one: GateState, other: GateState) -> GateState {
    let rank = |it| match it {
        GateState::Success => 0,
        GateState::Pending => 1,
        GateState::Failed => 2,
    };
    if rank(one) >= rank(other) { one } else { other }
}

/// The journal, read once.
struct Entries {
    leaves: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl Entries {
    fn of(snapshot: &Snapshot) -> Entries {
        let rows = snapshot.leaves(0, usize::MAX).expect("entries read");
        let mut entries = Entries {
            leaves: Vec::new(),
            events: Vec::new(),
        };
        for (idx, (seq, leaf)) in rows.into_iter().enumerate() {
            assert_eq!(seq, idx as u64, "a gap in the journal");
            entries
                .events
                .push(Snapshot::event(&leaf).expect("entries parse"));
            entries.leaves.push(leaf);
        }
        entries
    }

    fn size(&self) -> u64 {
        self.leaves.len() as u64
    }
}

/// What must hold after every start, before anything else happens.
pub fn after_a_start(sim: &Sim) {
    let snapshot = sim.read();
    let entries = Entries::of(&snapshot);
    assert!(
        entries.leaves.len() >= sim.acknowledged.len(),
        "acknowledged entries are lost"
    );
    for (seq, (held, told)) in entries.leaves.iter().zip(&sim.acknowledged).enumerate() {
        assert!(held == told, "entry {seq} is not the one that was acknowledged");
    }
    whole(sim, &snapshot, &entries);
    same_as_rebuilt(&sim.machine, &snapshot);
    cursors_are_behind(sim, &snapshot, &entries);
    telling_was_justified(sim, &entries);
    evidence_verifies(sim, &snapshot, &entries);
}

/// What must hold when the followers have nothing more to do, beyond what holds after a start.
pub fn at_rest(sim: &Sim) {
    let snapshot = sim.read();
    let entries = Entries::of(&snapshot);
    let mut chronicle = Chronicle::default();
    for event in &entries.events {
        chronicle.add(event);
    }
    let wanted = chronicle.wanted();
    for (place, state) in &wanted {
        let shown = sim.forge.statuses.get(place);
        let right = shown == Some(state) || may_differ(sim, place, *state, &chronicle);
        let story = || story(sim, &snapshot, &entries, place);
        assert!(right, "the forge shows {shown:?}, not {state:?}\n{}", story());
    }
    let kept = chronicle.kept();
    for (place, state) in sim
        .forge
        .statuses
        .iter()
        .filter(|(it, _)| !wanted.contains_key(*it))
    {
        let green = *state == GateState::Success;
        let of_merged = chronicle
            .been
            .iter()
            .any(|(key, it)| it == place && chronicle.changes[key].merged);
        let right = !green || kept.contains(place) || (!KEEPS_ONLY_WHAT_LANDED && of_merged);
        assert!(
            right,
            "green on a commit that nobody asks for\n{}",
            story(sim, &snapshot, &entries, place)
        );
    }
    // Nothing is overlooked: what the gate knows of open changes is what the forge has.
    for (number, change) in &sim.forge.changes {
        let known = chronicle
            .changes
            .iter()
            .find(|(key, _)| chronicle.projects[key.project.as_str()] == number.0 && key.number == number.1);
        let Some((_, known)) = known else {
            // Opened and over before anybody told of it.
            assert!(change.state != ChangeState::Open, "{number:?} was never read");
            continue;
        };
        assert_eq!(known.open, change.state == ChangeState::Open, "{number:?}");
        assert!(
            !known.merged || change.state == ChangeState::Merged,
            "{number:?} is not merged"
        );
        if known.open {
            assert_eq!(
                (&known.head, &known.target),
                (&change.head, &change.target),
                "{number:?} is read no more"
            );
        }
    }
    cursors_are_behind(sim, &snapshot, &entries);
    telling_was_justified(sim, &entries);
    evidence_verifies(sim, &snapshot, &entries);
}

/// The log as an auditor checks it: positions, times, tree, checkpoint and its signature.
fn whole(sim: &Sim, snapshot: &Snapshot, entries: &Entries) {
    let mut frontier = Frontier::new();
    let mut last = String::new();
    for (seq, bytes) in entries.leaves.iter().enumerate() {
        frontier.append(leaf_hash(bytes));
        if (seq as u64) < sim.known {
            continue;
        }
        let leaf = leaf::parse(bytes).unwrap_or_else(|e| panic!("entry {seq}: {e}"));
        assert_eq!(leaf.seq, seq as u64, "an entry says another position");
        assert!(leaf.time >= last, "entry {seq} is older than the one before");
        last = leaf.time;
    }
    let size = entries.size();
    assert_eq!(
        snapshot.root(size).expect("the tree is whole"),
        frontier.root(),
        "tree and journal"
    );
    let (covered, note) = snapshot
        .latest_checkpoint()
        .expect("checkpoints read")
        .expect("there is a checkpoint");
    assert_eq!(covered, size, "the newest checkpoint does not cover the journal");
    let keys = [log_key(sim)];
    let (checkpoint, signers) = Checkpoint::open(note.as_bytes(), &keys).expect("the checkpoint verifies");
    assert!(!signers.is_empty());
    assert_eq!(
        (checkpoint.size(), *checkpoint.root()),
        (covered, frontier.root()),
        "checkpoint and journal"
    );
}

/// The log's verifier key, from the public URL and the instance as the documents say.
pub fn log_key(sim: &Sim) -> VerifierKey {
    let host = ORIGIN.trim_start_matches("https://");
    let origin = format!("{host}/log/{}/1", &crate::appliance::INSTANCE[..8]);
    VerifierKey::new(&origin, sim.keys.log.public_key()).expect("a verifier key")
}

/// Every projection.
fn tables(snapshot: &Snapshot) -> Tables {
    Table::ALL
        .iter()
        .map(|it| (it.name(), rows(snapshot, *it)))
        .collect()
}

fn rows(snapshot: &Snapshot, table: Table) -> Vec<Row> {
    snapshot
        .scan_raw(table, b"", &[0xff; 64], usize::MAX, false)
        .expect("projections read")
}

type Tables = BTreeMap<&'static str, Vec<Row>>;

/// What each journal makes of the projections, by its root: a rebuild depends on nothing but the entries and the blobs
/// they name, and those are checked elsewhere. Most interruptions end in a journal that was rebuilt before.
static REBUILT: Mutex<BTreeMap<[u8; 32], Tables>> = Mutex::new(BTreeMap::new());

fn rebuilt(machine: &Machine, snapshot: &Snapshot) -> Tables {
    let root = snapshot
        .root(snapshot.size().expect("the size reads"))
        .expect("roots are made")
        .0;
    if let Some(known) = REBUILT.lock().expect("unpoisoned").get(&root) {
        return known.clone();
    }
    let copy = Machine::with_image(machine.image());
    let store = Store::open_on(copy.storage()).expect("a copy opens");
    rebuild(&store).expect("projections rebuild");
    let again = store.read().expect("a rebuilt database reads");
    let checkpoint = |it: &Snapshot| it.latest_checkpoint().expect("checkpoints read");
    assert_eq!(
        checkpoint(&again),
        checkpoint(snapshot),
        "a rebuild changed a checkpoint"
    );
    let tables = tables(&again);
    REBUILT.lock().expect("unpoisoned").insert(root, tables.clone());
    tables
}

fn same_as_rebuilt(machine: &Machine, snapshot: &Snapshot) {
    let (mut held, mut fresh) = (tables(snapshot), rebuilt(machine, snapshot));
    // Whoever waits to be looked at again after a rebuild is looked at once more than needed, never once less.
    let (waiting, again) = (held.remove("hints"), fresh.remove("hints"));
    for (name, rows) in &held {
        assert!(
            *rows == fresh[name],
            "projection {name} is not what the journal says"
        );
    }
    let again: BTreeMap<Vec<u8>, Vec<u8>> = again.into_iter().flatten().collect();
    for (key, value) in waiting.into_iter().flatten() {
        let seq = u64::from_be_bytes(value[..].try_into().expect("a hint is eight bytes"));
        let entry = snapshot
            .leaf(seq)
            .expect("entries read")
            .expect("a hint is as old as an entry");
        let hooked = match Snapshot::event(&entry).expect("entries parse") {
            Event::HookReceived {
                change: Some(change), ..
            } => change_row(&change).as_bytes() == key,
            _ => false,
        };
        assert!(
            !hooked || again.get(&key) == Some(&value),
            "a rebuild forgets a webhook's hint"
        );
    }
}

/// A cursor never passes what is not told: every status that only entries before it touch is as it should be.
fn cursors_are_behind(sim: &Sim, snapshot: &Snapshot, entries: &Entries) {
    for follower in [STATUS_CURSOR, MERGE_CURSOR] {
        let cursor = snapshot.cursor(follower).expect("cursors read");
        assert!(
            cursor <= entries.size(),
            "the cursor {follower} is ahead of the journal"
        );
    }
    let cursor = snapshot.cursor(STATUS_CURSOR).expect("cursors read");
    let mut chronicle = Chronicle::default();
    let mut settled = BTreeSet::new();
    for (seq, event) in entries.events.iter().enumerate() {
        chronicle.add(event);
        let Some(key) = touched(event, snapshot) else {
            continue;
        };
        let place = (
            chronicle.projects[key.project.as_str()].clone(),
            key.head,
            key.target,
        );
        if (seq as u64) < cursor {
            settled.insert(place);
        } else {
            settled.remove(&place);
        }
    }
    for (place, state) in chronicle.wanted() {
        if settled.contains(&place) && !may_differ(sim, &place, state, &chronicle) {
            let shown = sim.forge.statuses.get(&place);
            let story = || story(sim, snapshot, entries, &place);
            assert!(
                shown == Some(&state),
                "the cursor {cursor} passed what was not told: {state:?}\n{}",
                story()
            );
        }
    }
}

/// What the journal and the forge have of one commit, for a message.
fn story(sim: &Sim, snapshot: &Snapshot, entries: &Entries, place: &Place) -> String {
    let mut lines = vec![format!("{place:?}")];
    for (seq, event) in entries.events.iter().enumerate() {
        let told = sim
            .forge
            .told
            .iter()
            .filter(|it| (&it.project, &it.head, &it.target) == (&place.0, &place.1, &place.2));
        for it in told.filter(|it| it.journal_size == seq as u64) {
            lines.push(format!("     told {:?}", it.state));
        }
        let of = touched(event, snapshot).is_some_and(|it| it.head == place.1 && it.target == place.2);
        let text = format!("{event:?}");
        if of || text.contains(&place.1) {
            lines.push(format!("{seq:4} {}", text.chars().take(260).collect::<String>()));
        }
    }
    lines.join("\n")
}

/// Whether the forge may show something else than is wanted, by the follower's known weakness; never green.
fn may_differ(sim: &Sim, place: &Place, wanted: GateState, chronicle: &Chronicle) -> bool {
    let shown = sim.forge.statuses.get(place);
    let red_for_yellow = shown == Some(&GateState::Failed) && wanted == GateState::Pending;
    !LOOKS_BACK && red_for_yellow && chronicle.left.contains(place)
}

/// Every green that the forge was ever told had its approval in the journal at that moment.
fn telling_was_justified(sim: &Sim, entries: &Entries) {
    let mut chronicle = Chronicle::default();
    let mut seq = 0;
    for told in &sim.forge.told {
        assert!(
            told.journal_size <= entries.size(),
            "the forge was told of entries that are lost"
        );
        while seq < told.journal_size {
            chronicle.add(&entries.events[seq as usize]);
            seq += 1;
        }
        if told.state == GateState::Success {
            let place = (told.project.clone(), told.head.clone(), told.target.clone());
            let wanted = chronicle.wanted().get(&place).copied();
            assert_eq!(
                wanted,
                Some(GateState::Success),
                "green without an approval: {told:?}"
            );
        }
    }
    for (number, head) in &sim.forge.merges {
        let green = sim
            .forge
            .told
            .iter()
            .any(|it| it.project == number.0 && it.head == *head && it.state == GateState::Success);
        assert!(green, "merged {number:?} without a green status");
    }
}

/// A request's outcome and its credentials, as files.
type Files = (Option<Vec<u8>>, Vec<Vec<u8>>);

/// Every credential and outcome verifies by itself, with its entry and the log's proof, and every granted approval as a
/// whole.
fn evidence_verifies(sim: &Sim, snapshot: &Snapshot, entries: &Entries) {
    let keys = [PublicKey::from_raw(&sim.keys.credential.public_key()).expect("a public key")];
    let log_keys = [log_key(sim)];
    let trust = Trust {
        keys: &keys,
        log_keys: &log_keys,
    };
    let mut files: BTreeMap<RequestId, Files> = BTreeMap::new();
    let mut fresh = BTreeSet::new();
    for (seq, (leaf, event)) in entries.leaves.iter().zip(&entries.events).enumerate() {
        for digest in named(event) {
            blob(snapshot, digest);
        }
        let (request, digest, is_outcome) = match event {
            Event::DecisionRecorded {
                request,
                credential_sha256,
                ..
            } => (request, credential_sha256, false),
            Event::RequestApproved {
                request,
                outcome_sha256,
                ..
            }
            | Event::RequestRejected {
                request,
                outcome_sha256,
            }
            | Event::RequestExpired {
                request,
                outcome_sha256,
            }
            | Event::RequestCancelled {
                request,
                outcome_sha256,
                ..
            }
            | Event::RequestSuperseded {
                request,
                outcome_sha256,
                ..
            }
            | Event::RequestSkipped {
                request,
                outcome_sha256,
                ..
            } => (request, outcome_sha256, true),
            _ => continue,
        };
        let file = blob(snapshot, digest);
        let of = files.entry(request.clone()).or_default();
        if is_outcome {
            of.0 = Some(file.clone())
        } else {
            of.1.push(file.clone())
        }
        // What was verified before, and is the same bytes, need not be verified again.
        if (seq as u64) < sim.known {
            continue;
        }
        fresh.insert(request.clone());
        let proof = proof(snapshot, seq as u64).encode();
        let journal = Journal {
            event: leaf,
            proof: Some(proof.as_bytes()),
        };
        let (report, _) = verify::document(&file, &trust, &Expect::default(), Some(&journal));
        assert!(report.valid, "entry {seq}: {report:#?}");
    }
    for request in snapshot.all::<Request>().expect("requests read") {
        if matches!(request.status, Status::Approved | Status::Skipped) && fresh.contains(&request.id) {
            let (outcome, credentials) = &files[&request.id];
            let outcome = outcome.as_ref().expect("what is granted has its outcome");
            let credentials: Vec<&[u8]> = credentials.iter().map(Vec::as_slice).collect();
            let report = verify::approval(outcome, &credentials, &trust, &Expect::default());
            assert!(report.valid, "{}: {report:#?}", request.id);
        }
    }
}

/// The blobs that an entry names and a rebuild or a reader needs.
fn named(event: &Event) -> Vec<&Digest> {
    match event {
        Event::RequestOpened {
            opening_sha256,
            policy_sha256,
            ..
        } => vec![opening_sha256, policy_sha256],
        Event::PolicyActivated { sha256, .. } => vec![sha256],
        Event::PersonEnrolled { passkey, .. } | Event::PasskeyAdded { passkey } => {
            vec![&passkey.record_sha256, &passkey.attestation_sha256]
        }
        _ => Vec::new(),
    }
}

fn blob(snapshot: &Snapshot, digest: &Digest) -> Vec<u8> {
    let bytes = snapshot
        .blob(digest)
        .expect("blobs read")
        .unwrap_or_else(|| panic!("the file {digest} is missing"));
    assert_eq!(Digest::of(&bytes), *digest, "a blob under another's digest");
    bytes
}

/// The proof of an entry to the smallest checkpoint that covers it.
pub fn proof(snapshot: &Snapshot, seq: u64) -> Proof {
    let (size, note) = snapshot
        .checkpoint_covering(seq)
        .expect("checkpoints read")
        .expect("every entry is covered by a checkpoint");
    let hashes: Vec<Hash> = snapshot.inclusion_proof(seq, size).expect("proofs are made");
    Proof::new(seq, hashes, &note).expect("a proof")
}

/// What a day came to, without times and positions, which an interruption may move.
pub fn summary(sim: &Sim) -> BTreeMap<String, String> {
    let snapshot = sim.read();
    let mut summary = BTreeMap::new();
    let projects: BTreeMap<String, String> = snapshot
        .all::<Project>()
        .expect("projects read")
        .into_iter()
        .map(|it| (it.id.to_string(), it.settings.forge_project_id))
        .collect();
    for request in snapshot.all::<Request>().expect("requests read") {
        let which = match &request.change {
            Some(key) => format!("{} !{}", projects[key.project.as_str()], key.number),
            None => request.title.clone(),
        };
        let decisions: BTreeSet<String> = request
            .decisions
            .iter()
            .map(|it| format!("{} {}", it.name, it.answer.name()))
            .collect();
        let value = format!(
            "{:?} lapsed {} used {} by {decisions:?} for {:?}",
            request.status,
            request.lapsed,
            request.consumed_at.is_some(),
            request.ended_because,
        );
        let head = request.head.unwrap_or_default();
        let n = (0..)
            .find(|n| !summary.contains_key(&format!("request {which} {head} {n}")))
            .expect("a free number");
        summary.insert(format!("request {which} {head} {n}"), value);
    }
    // Whether a commit ever got its yellow or red before it was over depends on who was quicker.
    for (place, _) in sim
        .forge
        .statuses
        .iter()
        .filter(|(_, it)| **it == GateState::Success)
    {
        summary.insert(format!("green {place:?}"), "shown".into());
    }
    summary.insert("merged".into(), format!("{:?}", sim.forge.merges));
    for table in [
        Table::People,
        Table::Groups,
        Table::Invitations,
        Table::Sessions,
        Table::ApiKeys,
    ]
    .into_iter()
    .chain([
        Table::Integrations,
        Table::Projects,
        Table::PasskeyOwners,
        Table::Waiting,
        Table::Deadlines,
    ]) {
        let rows: Vec<String> = rows(&snapshot, table)
            .iter()
            .map(|(key, value)| {
                format!(
                    "{}={}",
                    String::from_utf8_lossy(key),
                    String::from_utf8_lossy(value)
                )
            })
            .collect();
        summary.insert(format!("table {}", table.name()), rows.join("\n"));
    }
    summary
}
