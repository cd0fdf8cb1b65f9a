//! The appliance in one thread: the real store and writer on a machine that can fail, and the followers as `effects` has
//! them, one look at a time. What was acknowledged and what the forge was told is remembered outside of it.

use crate::forge::{Forge, MergeAnswer, Number, Told};
use crate::passkey::{ORIGIN, Passkey};
use crate::storage::{Failure, Fate, Machine, StepKind, Survival};
use ed25519_dalek::SigningKey;
use signedapproval::clock::Clock;
use signedapproval::domain::command::{Command, Confirmed, Decide, Reply};
use signedapproval::domain::decide::wanted_status;
use signedapproval::domain::event::{Actor, Event};
use signedapproval::domain::facts::{ChangeFacts, ChangeState};
use signedapproval::domain::governance::Governed;
use signedapproval::domain::ids::{Digest, PersonId, ProjectId, RequestId};
use signedapproval::domain::people::Person;
use signedapproval::domain::policy::Method;
use signedapproval::domain::project::{Integration, Project};
use signedapproval::domain::request::{
    Answer, Change, ChangeKey, ConfirmedStatus, GateState, MergeRecord, Opening, Request, Status, StatusKey,
    change_row,
};
use signedapproval::domain::state::{Read, Table, decode};
use signedapproval::domain::time::Time;
use signedapproval::engine::{Begun, Error, Submission, Writer, begin_instance, continue_instance};
use signedapproval::evidence::intent::Intent;
use signedapproval::evidence::subject::{ChangeSubject, files_digest};
use signedapproval::signing::{FileSigner, Keys};
use signedapproval::store;
use signedapproval::store::{Snapshot, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The instance of every simulated day.
pub const INSTANCE: &str = "6f1c2a34-0b5d-4e6f-8a7b-9c0d1e2f3a4b";
/// Names of the followers' cursors, as in `effects`.
pub const STATUS_CURSOR: &str = "forge-status";
pub const MERGE_CURSOR: &str = "forge-merge";
/// Whether a change that was merged keeps green only the head that it was merged with. Where it does not, another head
/// that was approved and then left stays green for ever. Says what `wanted_status` does; the checks at rest are the
/// stricter for it.
pub const KEEPS_ONLY_WHAT_LANDED: bool = false;
/// Whether the status follower looks again at a commit that a change has left. Without it, another change with the same
/// head keeps the red of a rejected or expired request that no longer concerns it, until it is decided itself.
pub const LOOKS_BACK: bool = false;
/// Looks at the world after which whatever is still undone is stuck.
const ROUNDS_MAX: usize = 60;

/// The process is gone; whoever waits for an answer will not get one.
#[derive(Debug)]
pub struct Down;

/// A clock that a hand moves.
#[derive(Default)]
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn set(&self, time: Time) {
        self.0.store(time.0, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }
}

struct Running {
    store: Arc<Store>,
    writer: Writer,
    status_next: u64,
    /// The newest entry that touched each status to look at.
    dirty: BTreeMap<StatusKey, u64>,
    /// What was sent and not confirmed; after a start, all that the cursor has not passed.
    in_doubt: BTreeSet<StatusKey>,
    /// Nothing was followed yet.
    fresh: bool,
    merge_next: u64,
    to_merge: BTreeMap<RequestId, u64>,
}

/// Something on the forge that happens between a follower's reading and its writing.
#[derive(Clone, Debug)]
pub struct Push {
    pub number: Number,
    pub head: String,
    pub delivery: String,
}

/// One simulated appliance, its machine and its world.
pub struct Sim {
    pub machine: Machine,
    pub forge: Forge,
    pub clock: Arc<HandClock>,
    pub keys: Keys,
    /// Exact bytes of every entry that somebody was told of.
    pub acknowledged: Vec<Vec<u8>>,
    /// What the next power cuts leave; the last one repeats.
    pub survival: Vec<Survival>,
    pub n_starts: usize,
    /// Entries before this one were checked before.
    pub known: u64,
    /// Happens in the middle of the next look at the forge.
    pub meanwhile: Option<Push>,
    genesis_told: bool,
    running: Option<Running>,
}

/// What one process leaves to the next.
#[derive(Clone)]
pub struct Left {
    image: Vec<u8>,
    forge: Forge,
    acknowledged: Vec<Vec<u8>>,
}

/// A signing key of a seed.
pub fn key_of(seed: u8) -> Arc<FileSigner> {
    Arc::new(FileSigner::new(SigningKey::from_bytes(&[seed; 32])))
}

impl Sim {
    pub fn new(machine: Machine, survival: Vec<Survival>) -> Sim {
        let clock = Arc::new(HandClock::default());
        clock.set(at(0));
        Sim {
            machine,
            forge: Forge::default(),
            clock,
            keys: Keys {
                credential: key_of(1),
                log: key_of(2),
            },
            acknowledged: Vec::new(),
            survival,
            n_starts: 0,
            known: 0,
            meanwhile: None,
            genesis_told: false,
            running: None,
        }
    }

    /// What is left when the process ends now, to go on from as often as wanted.
    pub fn leave(self) -> Left {
        Left {
            image: self.machine.image(),
            forge: self.forge,
            acknowledged: self.acknowledged,
        }
    }

    /// Goes on from there, on a machine that fails these steps.
    pub fn go_on(left: &Left, failures: Vec<(u64, Failure)>, survival: Vec<Survival>) -> Sim {
        let machine = Machine::with_image(left.image.clone());
        for (step, failure) in failures {
            machine.fail(step, failure);
        }
        let mut sim = Sim::new(machine, survival);
        sim.genesis_told = !left.acknowledged.is_empty();
        sim.known = left.acknowledged.len() as u64;
        sim.forge = left.forge.clone();
        sim.acknowledged.clone_from(&left.acknowledged);
        sim
    }

    /// Starts the process if it is not running.
    pub fn start(&mut self) -> Result<(), Down> {
        if self.running.is_some() {
            return Ok(());
        }
        self.n_starts += 1;
        let failed = self.machine.n_failed();
        match self.begin() {
            Ok(begun) => {
                self.genesis_told = true;
                let store = begun.1;
                let snapshot = store.read().expect("a database that was just opened reads");
                let running = Running {
                    status_next: snapshot.cursor(STATUS_CURSOR).expect("cursors read"),
                    merge_next: snapshot.cursor(MERGE_CURSOR).expect("cursors read"),
                    dirty: BTreeMap::new(),
                    in_doubt: BTreeSet::new(),
                    fresh: true,
                    to_merge: BTreeMap::new(),
                    writer: begun.0.writer,
                    store,
                };
                self.running = Some(running);
                self.remember(None);
                if self.machine.is_down() {
                    Err(self.stop())
                } else {
                    Ok(())
                }
            }
            Err(error) => {
                assert!(
                    self.machine.n_failed() > failed || self.machine.is_down(),
                    "start failed by itself: {error}"
                );
                Err(self.stop())
            }
        }
    }

    fn begin(&mut self) -> Result<(Begun, Arc<Store>), store::Error> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let mut store = match self.machine.image().is_empty() {
            true => Store::create_on(self.machine.storage(), INSTANCE),
            false => Store::open_on(self.machine.storage()),
        };
        if matches!(&store, Err(store::Error::Damaged(_))) && !self.genesis_told {
            // The very first start was cut short before anything was told to anybody: it starts over.
            self.machine.wipe();
            store = Store::create_on(self.machine.storage(), INSTANCE);
        }
        let store = Arc::new(store?);
        let begun = match store.read()?.size()? {
            0 => {
                assert!(
                    !self.genesis_told,
                    "an empty journal where one with a genesis was"
                );
                begin_instance(store.clone(), self.keys.clone(), clock, ORIGIN, INSTANCE, "1.0.0")?
            }
            _ => {
                let mut begun = continue_instance(store.clone(), self.keys.clone(), clock, ORIGIN, "1.0.0")?;
                begun.go_on()?;
                begun
            }
        };
        Ok((begun, store))
    }

    /// Ends the process and puts the machine's power back on. The caller starts again.
    pub fn recover(&mut self) {
        self.running = None;
        let survival = if self.survival.len() > 1 {
            self.survival.remove(0)
        } else {
            self.survival[0]
        };
        self.machine.restart(survival);
    }

    fn stop(&mut self) -> Down {
        self.running = None;
        Down
    }

    pub fn read(&self) -> Snapshot {
        self.running().store.read().expect("the live database reads")
    }

    /// Starts over a machine that another process left, and answers what its journal holds.
    pub fn journal_of(machine: Machine) -> Vec<Vec<u8>> {
        let mut sim = Sim::new(machine, vec![Survival::Synced]);
        sim.start().expect("it starts");
        crate::checks::after_a_start(&sim);
        sim.acknowledged
    }

    /// The writer, for a test that runs it itself.
    pub fn into_writer(mut self) -> Writer {
        self.running
            .take()
            .expect("scripts act on a running appliance")
            .writer
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("scripts act on a running appliance")
    }

    fn running_mut(&mut self) -> &mut Running {
        self.running.as_mut().expect("scripts act on a running appliance")
    }

    /// Gives one command.
    pub fn give(&mut self, actor: Actor, command: Command) -> Result<Result<Reply, Error>, Down> {
        let submission = Submission {
            actor,
            command,
            secrets: Vec::new(),
            cursor: None,
        };
        Ok(self.give_all(vec![submission])?.remove(0))
    }

    /// Gives a group of commands, to be committed together.
    pub fn give_all(&mut self, group: Vec<Submission>) -> Result<Vec<Result<Reply, Error>>, Down> {
        let promised: Vec<_> = group.iter().map(|it| promise(&it.command)).collect();
        let failed = self.machine.n_failed();
        let group = group.into_iter().map(saying_why).map(confirmed).collect();
        match self.running_mut().writer.write(group) {
            Ok((results, size)) => {
                assert_eq!(
                    self.machine.n_failed(),
                    failed,
                    "acknowledged although the disk failed meanwhile"
                );
                let before = self.acknowledged.len();
                self.remember(Some(size));
                let mut fresh: Vec<String> =
                    self.acknowledged[before..].iter().map(|it| type_of(it)).collect();
                for (promise, result) in promised.iter().zip(&results) {
                    let (Some(kind), Ok(reply)) = (promise, result) else {
                        continue;
                    };
                    if matches!(reply, Reply::Nothing | Reply::Request { created: false, .. }) {
                        continue;
                    }
                    let found = fresh.iter().position(|it| it == kind);
                    let found =
                        found.unwrap_or_else(|| panic!("acknowledged, but no {kind} is in the journal"));
                    fresh.remove(found);
                }
                Ok(results)
            }
            Err(error) => {
                assert!(
                    self.machine.n_failed() > failed,
                    "the writer failed by itself: {error}"
                );
                if !self.machine.is_down() {
                    // Whoever goes on regardless must not be told yes, nor no.
                    let command = Command::RefuseCeremony {
                        person: None,
                        request: None,
                        reason: "again".into(),
                    };
                    let group = vec![Submission {
                        actor: Actor::System,
                        command,
                        secrets: Vec::new(),
                        cursor: None,
                    }];
                    let again = self.running_mut().writer.write(group);
                    assert!(again.is_err(), "acknowledged after an I/O error");
                }
                Err(self.stop())
            }
        }
    }

    /// Notes what is committed as told. `size` is what the writer says the journal has.
    fn remember(&mut self, size: Option<u64>) {
        let snapshot = self.read();
        let held = snapshot.size().expect("the size reads");
        if let Some(size) = size {
            assert_eq!(held, size, "acknowledged, but not committed");
        }
        let leaves = snapshot
            .leaves(self.acknowledged.len() as u64, usize::MAX)
            .expect("entries read");
        self.acknowledged.extend(leaves.into_iter().map(|(_, leaf)| leaf));
    }

    /// Calls the forge. `None`: no answer came; the call may have worked.
    fn call<T>(&mut self, act: impl FnOnce(&mut Forge) -> T) -> Result<Option<T>, Down> {
        let answer = match self.machine.step(StepKind::Contact) {
            Fate::Done => Some(act(&mut self.forge)),
            Fate::DoneButFailed => {
                act(&mut self.forge);
                None
            }
            Fate::Failed => None,
        };
        if self.machine.is_down() {
            Err(self.stop())
        } else {
            Ok(answer)
        }
    }

    /// A webhook of the forge about a change.
    pub fn hook(&mut self, number: &Number, delivery: &str) -> Result<(), Down> {
        let (integration, _) = self.project(&number.0);
        let actor = Actor::Forge {
            integration: integration.id.clone(),
        };
        let command = Command::ReceiveHook {
            integration: integration.id,
            delivery: delivery.to_owned(),
            event: "Merge Request Hook".into(),
            forge_project_id: number.0.clone(),
            number: Some(number.1),
        };
        self.give(actor, command)?
            .expect("a webhook of a known integration is taken");
        Ok(())
    }

    /// What a person decides about the request of a change, as their phone would send it.
    pub fn decision(&self, person: &PersonId, request: &RequestId, answer: Answer) -> Command {
        let snapshot = self.read();
        let record: Request = snapshot
            .get(request.as_str())
            .expect("requests read")
            .expect("the request exists");
        let who: Person = snapshot
            .get(person.as_str())
            .expect("people read")
            .expect("the person exists");
        let blob = snapshot
            .blob(&record.opening)
            .expect("blobs read")
            .expect("openings are kept");
        let opening: Opening = decode(&blob).expect("openings decode");
        let rules: Vec<String> = record.obligations.iter().map(|it| it.rule.clone()).collect();
        let now = self.clock.now();
        let issued_at = now.to_string();
        let expires_at = record.expires_at.map(|it| it.to_string());
        let comment = if answer == Answer::Reject {
            "Not like this."
        } else {
            ""
        };
        let intent = Intent {
            request,
            decision: answer,
            subject: opening.subject.as_bytes(),
            policy_sha256: record.policy.sha256,
            rules: &rules,
            person,
            person_name: &who.name,
            comment,
            issued_at: &issued_at,
            expires_at: expires_at.as_deref(),
        };
        let intent = intent.to_bytes().expect("a person's intent is well formed");
        let nonce = Digest::of(format!("nonce {person} {request} {now}").as_bytes()).0;
        let counter = who.passkeys[0].sign_count + 1;
        Command::Decide(Box::new(Decide {
            request: request.clone(),
            person: person.clone(),
            answer,
            method: Method::Passkey,
            comment: comment.into(),
            break_glass: false,
            match_code: None,
            challenge_issued_at: now,
            subject_sha256: record.subject_sha256,
            policy_sha256: record.policy.sha256,
            proof: Passkey::of(&who.name).sign(nonce, &intent, counter).into(),
            intent,
        }))
    }

    /// The integration and project of a forge's project number.
    pub fn project(&self, forge_project_id: &str) -> (Integration, Project) {
        let snapshot = self.read();
        let project = snapshot
            .all::<Project>()
            .expect("projects read")
            .into_iter()
            .find(|it| it.settings.forge_project_id == forge_project_id)
            .expect("scripts name projects that exist");
        let integration = snapshot
            .get::<Integration>(project.integration.as_str())
            .expect("integrations read");
        (integration.expect("a project's integration exists"), project)
    }

    /// Whether there is such a request.
    pub fn has(&self, request: &RequestId) -> bool {
        self.read()
            .get::<Request>(request.as_str())
            .expect("requests read")
            .is_some()
    }

    /// The request that gates a change now.
    pub fn request_of(&self, number: &Number) -> Option<Request> {
        let (_, project) = self.project(&number.0);
        let snapshot = self.read();
        let key = ChangeKey {
            project: project.id,
            number: number.1,
        };
        let change: Change = snapshot.get(&change_row(&key)).expect("changes read")?;
        snapshot.get(change.request?.as_str()).expect("requests read")
    }

    /// Every follower has one look. Answers whether anything is still to do.
    pub fn round(&mut self) -> Result<bool, Down> {
        let mut busy = self.intake()?;
        busy |= self.timers()?;
        busy |= self.statuses()?;
        busy |= self.merges()?;
        Ok(busy)
    }

    /// Followers look until nothing is to be done.
    pub fn quiet(&mut self) -> Result<(), Down> {
        for _ in 0..ROUNDS_MAX {
            if !self.round()? {
                return Ok(());
            }
        }
        panic!("the followers do not come to rest");
    }

    /// As `effects::reconcile`: compares the open changes with the recorded ones and hints at the doubtful.
    pub fn reconcile(&mut self) -> Result<(), Down> {
        let projects = self.read().all::<Project>().expect("projects read");
        for project in projects {
            let id = project.settings.forge_project_id.clone();
            let Some(listed) = self.call(|forge| {
                let open = forge
                    .changes
                    .iter()
                    .filter(|(number, it)| number.0 == id && it.state == ChangeState::Open);
                open.map(|(number, it)| (number.1, it.clone()))
                    .collect::<BTreeMap<_, _>>()
            })?
            else {
                continue;
            };
            let rows = {
                let prefix = format!("{}\0", project.id);
                self.read()
                    .with_prefix(Table::Changes, prefix.as_bytes())
                    .expect("changes read")
            };
            let recorded: BTreeMap<u64, Change> = rows
                .iter()
                .map(|(_, row)| decode::<Change>(row).expect("changes decode"))
                .map(|it| (it.key.number, it))
                .collect();
            let mut doubtful: Vec<u64> = Vec::new();
            for (number, change) in &listed {
                let same = recorded
                    .get(number)
                    .is_some_and(|it| it.open && it.head == change.head && it.target == change.target);
                if !same {
                    doubtful.push(*number);
                }
            }
            doubtful.extend(
                recorded
                    .iter()
                    .filter(|(n, it)| it.open && !listed.contains_key(n))
                    .map(|(n, _)| *n),
            );
            for number in doubtful {
                let change = ChangeKey {
                    project: project.id.clone(),
                    number,
                };
                self.give(Actor::System, Command::HintChange { change })?
                    .expect("a hint is always taken");
            }
        }
        Ok(())
    }

    /// As `effects::intake`.
    fn intake(&mut self) -> Result<bool, Down> {
        let rows = self
            .read()
            .scan_raw(Table::Hints, b"", &[0xff], 256, false)
            .expect("hints read");
        let mut busy = false;
        for (row, value) in rows {
            busy = true;
            let text = String::from_utf8(row).expect("hints are text");
            let (project, number) = text.split_once('\0').expect("a hint names project and number");
            let project = ProjectId::parse(project).expect("a project id");
            let number: u64 = number.parse().expect("a number");
            let hint = u64::from_be_bytes(value.try_into().expect("eight bytes"));
            let record: Project = self
                .read()
                .get(project.as_str())
                .expect("projects read")
                .expect("hinted projects exist");
            let at: Number = (record.settings.forge_project_id.clone(), number);
            let Some(facts) = self.call(|forge| forge.facts(&project, &at))? else {
                continue;
            };
            self.happen_meanwhile()?;
            let Some(facts) = facts else {
                let change = ChangeKey { project, number };
                let command = Command::ForgetHint {
                    change,
                    hint,
                    reason: "no such change".into(),
                };
                self.give(Actor::System, command)?
                    .expect("a hint is always dropped");
                continue;
            };
            let (integration, _) = self.project(&at.0);
            let files_sha256 = files_digest(&facts.files);
            let command = Command::ObserveChange {
                subject: subject(&integration, &record, &facts, files_sha256),
                files_sha256,
                hint: Some(hint),
                fresh: self.fresh(&at, &facts),
                facts: Box::new(facts),
            };
            self.give(
                Actor::Forge {
                    integration: integration.id,
                },
                command,
            )?
            .expect("facts are taken");
        }
        Ok(busy)
    }

    /// An id that depends on the change and on how many requests there were, not on when it is drawn.
    fn fresh(&self, at: &Number, facts: &ChangeFacts) -> RequestId {
        let n = self
            .read()
            .scan_raw(Table::RequestOrder, b"", &[0xff; 9], usize::MAX, false)
            .expect("they read")
            .len();
        let digest = Digest::of(format!("{} {} {} {n}", at.0, at.1, facts.head).as_bytes());
        RequestId::from_random(digest.0[..16].try_into().expect("sixteen bytes"))
    }

    fn happen_meanwhile(&mut self) -> Result<(), Down> {
        let Some(push) = self.meanwhile.take() else {
            return Ok(());
        };
        if let Some(change) = self.forge.changes.get_mut(&push.number)
            && change.state == ChangeState::Open
        {
            change.head = push.head;
        }
        self.hook(&push.number, &push.delivery)
    }

    /// As `engine::run_timers`.
    fn timers(&mut self) -> Result<bool, Down> {
        let now = u64::try_from(self.clock.now().0).expect("simulated days are after 1970");
        let rows = self
            .read()
            .scan_raw(Table::Deadlines, &[], &(now + 1).to_be_bytes(), 512, false);
        let rows = rows.expect("deadlines read");
        let busy = !rows.is_empty();
        for (row, _) in rows {
            let id = std::str::from_utf8(&row[8..])
                .ok()
                .and_then(RequestId::parse)
                .expect("a deadline names a request");
            self.give(Actor::System, Command::Expire { request: id })?
                .expect("expiry is always taken");
        }
        Ok(busy)
    }

    /// As `effects::status`: follow, then settle each dirty status once.
    fn statuses(&mut self) -> Result<bool, Down> {
        let snapshot = self.read();
        let running = self.running_mut();
        for (seq, leaf) in snapshot
            .leaves(running.status_next, usize::MAX)
            .expect("entries read")
        {
            let event = Snapshot::event(&leaf).expect("entries parse");
            if let Some(key) = touched(&event, &snapshot) {
                running.dirty.insert(key, seq);
            }
            running.status_next = seq + 1;
        }
        drop(snapshot);
        if std::mem::take(&mut running.fresh) {
            running.in_doubt.extend(running.dirty.keys().cloned());
        }
        let due: Vec<StatusKey> = running.dirty.keys().cloned().collect();
        let busy = !due.is_empty();
        for key in due {
            let running = self.running_mut();
            let others = running
                .dirty
                .iter()
                .filter(|(it, _)| **it != key)
                .map(|(_, seq)| *seq);
            let cursor = others.min().unwrap_or(running.status_next);
            let doubtful = !running.in_doubt.insert(key.clone());
            if self.settle(&key, cursor, doubtful)? {
                let running = self.running_mut();
                running.in_doubt.remove(&key);
                running.dirty.remove(&key);
            }
        }
        Ok(busy)
    }

    fn settle(&mut self, key: &StatusKey, cursor: u64, in_doubt: bool) -> Result<bool, Down> {
        let (wanted, journal_size, project) = {
            let snapshot = self.read();
            let wanted = wanted_status(key, in_doubt, &snapshot).expect("the state is sound");
            let last: Option<ConfirmedStatus> = snapshot.get(&key.row()).expect("statuses read");
            let Some(wanted) = wanted else { return Ok(true) };
            if !in_doubt && last.is_some_and(|it| it.state == wanted.state && it.refused.is_none()) {
                return Ok(true);
            }
            let project: Project = snapshot
                .get(key.project.as_str())
                .expect("projects read")
                .expect("gated projects exist");
            (
                wanted,
                snapshot.size().expect("the size reads"),
                project.settings.forge_project_id,
            )
        };
        self.happen_meanwhile()?;
        let told = Told {
            project,
            head: key.head.clone(),
            target: key.target.clone(),
            state: wanted.state,
            journal_size,
        };
        if self.call(|forge| forge.set_status(told))?.is_none() {
            return Ok(false);
        }
        let command = Command::ConfirmStatus {
            status: key.clone(),
            state: wanted.state,
            description: wanted.description,
            request: wanted.request,
            refused: None,
            sources: wanted.sources,
        };
        self.confirm(command, STATUS_CURSOR, cursor)?;
        Ok(true)
    }

    fn confirm(&mut self, command: Command, follower: &'static str, next: u64) -> Result<(), Down> {
        let submission = Submission {
            actor: Actor::System,
            command,
            secrets: Vec::new(),
            cursor: Some((follower, next)),
        };
        for result in self.give_all(vec![submission])? {
            result.expect("a confirmation is always taken");
        }
        Ok(())
    }

    /// As `effects::merge`.
    fn merges(&mut self) -> Result<bool, Down> {
        let snapshot = self.read();
        let running = self.running_mut();
        for (seq, leaf) in snapshot
            .leaves(running.merge_next, usize::MAX)
            .expect("entries read")
        {
            let event = Snapshot::event(&leaf).expect("entries parse");
            let due = match event {
                Event::StatusConfirmed {
                    state: GateState::Success,
                    request,
                    refused: None,
                    ..
                } => request,
                Event::ChangeObserved {
                    open: true,
                    draft: false,
                    request,
                    ..
                } => request,
                _ => None,
            };
            if let Some(id) = due {
                running.to_merge.entry(id).or_insert(seq);
            }
            running.merge_next = seq + 1;
        }
        drop(snapshot);
        let due: Vec<RequestId> = running.to_merge.keys().cloned().collect();
        let busy = !due.is_empty();
        for id in due {
            let running = self.running();
            let others = running
                .to_merge
                .iter()
                .filter(|(it, _)| **it != id)
                .map(|(_, seq)| *seq);
            let cursor = others.min().unwrap_or(running.merge_next);
            if self.merge(&id, cursor)? {
                self.running_mut().to_merge.remove(&id);
            }
        }
        Ok(busy)
    }

    fn merge(&mut self, id: &RequestId, cursor: u64) -> Result<bool, Down> {
        let Some((change, expires_at, number)) = self.to_merge(id) else {
            return Ok(true);
        };
        // Read once more, and what differs is left to a new request.
        let Some(now) = self.call(|forge| forge.facts(&change.key.project, &number))? else {
            return Ok(false);
        };
        let same = now.is_some_and(|it| {
            it.state == ChangeState::Open
                && it.head == change.head
                && it.target == change.target
                && files_digest(&it.files) == change.files_sha256
        });
        self.happen_meanwhile()?;
        if !same {
            let hint = Command::HintChange { change: change.key };
            self.give(Actor::System, hint)?.expect("a hint is always taken");
            return Ok(false);
        }
        if expires_at.is_some_and(|it| self.clock.now() >= it) {
            return Ok(true);
        }
        let (merged, commit, refused) = match self.call(|forge| forge.merge(&number, &change.head))? {
            Some(MergeAnswer::Merged(commit)) => (true, commit, None),
            Some(MergeAnswer::HeadMoved) => (false, None, Some("The head moved.".to_owned())),
            Some(MergeAnswer::NotReady) | None => return Ok(false),
        };
        let command = Command::RecordMerge {
            request: id.clone(),
            merged,
            commit,
            refused,
        };
        self.confirm(command, MERGE_CURSOR, cursor)?;
        Ok(true)
    }

    fn to_merge(&self, id: &RequestId) -> Option<(Change, Option<Time>, Number)> {
        let snapshot = self.read();
        let request: Request = snapshot.get(id.as_str()).expect("requests read")?;
        let approved = matches!(request.status, Status::Approved | Status::Skipped) && !request.lapsed;
        let asked = snapshot
            .get::<MergeRecord>(id.as_str())
            .expect("merges read")
            .is_some();
        let key = request.change.filter(|_| approved && !asked)?;
        let change: Change = snapshot.get(&change_row(&key)).expect("changes read")?;
        let current = change.open
            && !change.draft
            && change.request.as_ref() == Some(id)
            && Some(&change.head) == request.head.as_ref()
            && Some(&change.target) == request.target.as_ref();
        let status = StatusKey {
            project: key.project.clone(),
            head: change.head.clone(),
            target: change.target.clone(),
        };
        let green = snapshot
            .get::<ConfirmedStatus>(&status.row())
            .expect("statuses read")
            .is_some_and(|it| it.state == GateState::Success && it.refused.is_none());
        let project: Project = snapshot
            .get(key.project.as_str())
            .expect("projects read")
            .expect("gated projects exist");
        let number = (project.settings.forge_project_id, key.number);
        (current && green && project.settings.auto_merge).then_some((change, request.expires_at, number))
    }
}

/// The moment `seconds` after the simulated day began.
pub fn at(seconds: i64) -> Time {
    Time(1_800_000_000_000 + seconds * 1000)
}

/// The entry that an accepted command promises.
fn promise(command: &Command) -> Option<&'static str> {
    Some(match command {
        Command::ClaimSetUp { .. } | Command::Enrol { .. } => "person.enrolled",
        Command::AddPerson { .. } => "person.created",
        Command::LinkAccount { .. } => "account.linked",
        Command::CreateApiKey { .. } => "api_key.created",
        Command::AddIntegration { .. } => "integration.added",
        Command::AddProject { .. } => "project.added",
        Command::Govern(it) => match &it.change {
            Governed::Policy { .. } => "policy.activated",
            Governed::Project { .. } => "project.changed",
            _ => return None,
        },
        Command::ReceiveHook { .. } => "hook.received",
        Command::OpenRequest(_) => "request.opened",
        Command::Decide(_) => "decision.recorded",
        Command::CancelRequest { .. } => "request.cancelled",
        Command::ConsumeRequest { .. } => "request.consumed",
        Command::RefuseCeremony { .. } => "ceremony.refused",
        Command::ConfirmStatus { .. } => "status.confirmed",
        Command::RecordMerge { .. } => "merge.answered",
        _ => return None,
    })
}

fn type_of(leaf: &[u8]) -> String {
    Snapshot::event(leaf).expect("entries parse").type_name()
}

/// As `effects::status`: the status an entry may change.
pub fn touched(event: &Event, state: &impl Read) -> Option<StatusKey> {
    if let Event::ChangeObserved {
        change, head, target, ..
    } = event
    {
        return Some(StatusKey {
            project: change.project.clone(),
            head: head.clone(),
            target: target.clone(),
        });
    }
    let request: Request = state.get(event.request()?.as_str()).expect("requests read")?;
    match (request.change, request.head, request.target) {
        (Some(change), Some(head), Some(target)) => Some(StatusKey {
            project: change.project,
            head,
            target,
        }),
        _ => None,
    }
}

fn subject(
    integration: &Integration,
    project: &Project,
    facts: &ChangeFacts,
    files_sha256: Digest,
) -> String {
    let subject = ChangeSubject {
        forge: integration.kind.name(),
        instance: &integration.base_url,
        project_id: &project.settings.forge_project_id,
        project: &project.path,
        change: &integration.kind.change_text(facts.number),
        source_project_id: &facts.source_project_id,
        source: &facts.source,
        target: &facts.target,
        head: &facts.head,
        base: &facts.base,
        files_sha256,
        files_count: facts.files.files.len() as u64,
        files_complete: facts.files.incomplete.is_none(),
        author: &facts.author.username,
        title_sha256: Digest::of(facts.title.as_bytes()),
        bind_base: None,
        target_sha: None,
    };
    String::from_utf8(subject.to_bytes()).expect("a subject is text")
}

/// A person's change of the configuration has their passkey under it, which counts where the change is dangerous.
fn confirmed(it: Submission) -> Submission {
    let (Actor::Person { id, name }, Command::Because { .. } | Command::Govern(_)) = (&it.actor, &it.command)
    else {
        return it;
    };
    let evidence = format!("{name} confirms {:?}", it.command).into_bytes();
    let proof = Passkey::of(name).sign([7; 32], &evidence, 0);
    Submission {
        command: Command::Confirmed {
            confirmed: Box::new(Confirmed {
                person: id.clone(),
                proof,
                evidence,
            }),
            command: Box::new(it.command),
        },
        ..it
    }
}

/// A change of the configuration says why.
fn saying_why(it: Submission) -> Submission {
    match it.command.lacks_reason(&it.actor) {
        true => Submission {
            command: Command::Because {
                reason: "a day like any other".into(),
                command: Box::new(it.command),
            },
            ..it
        },
        false => it,
    }
}
