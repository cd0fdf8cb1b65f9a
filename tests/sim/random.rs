//! Random days: the same commands in any order, with anything failing at any time. Clock, ids and answers of the network
//! come from the seed, which stands in every message; `SEED=n` replays one.

use crate::appliance::{Down, Push, Sim, at};
use crate::checks::{after_a_start, at_rest};
use crate::day;
use crate::day::{APP, INFRA, MAIN};
use crate::forge::{MergeRequest, Number, account, commit};
use crate::storage::{Coin, Failure, Machine, Survival};
use signedapproval::clock::Clock;
use signedapproval::domain::command::Command;
use signedapproval::domain::event::Actor;
use signedapproval::domain::facts::{ChangeState, Merged};
use signedapproval::domain::refusal::Refusal;
use signedapproval::domain::request::{Answer, GateState, Status};
use signedapproval::domain::time::Time;
use signedapproval::engine::{Engine, Error, Submission};
use signedapproval::tlog::{Hash, leaf_hash, verify_consistency, verify_inclusion};
use std::panic::{AssertUnwindSafe, catch_unwind};

const ACTS: usize = 90;
const PEOPLE: [&str; 4] = ["Ada", "Bea", "Cem", "Otto"];

/// The seeds of an ordinary run; a seed that ever failed is added here with what it showed.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=24;

/// A proof that was handed out once.
struct Given {
    index: u64,
    size: u64,
    proof: Vec<Hash>,
    root: Hash,
}

struct Day {
    sim: Sim,
    coin: Coin,
    given: Vec<Given>,
    /// A decision that a person has signed and not sent yet.
    signed: Option<(&'static str, Command)>,
    n: u64,
}

impl Day {
    fn new(seed: u64) -> Day {
        let mut sim = Sim::new(Machine::new([]), vec![Survival::Process]);
        for idx in 0..6 {
            day::chapter(&mut sim, idx, after_a_start);
        }
        Day {
            sim,
            coin: Coin(seed),
            given: Vec::new(),
            signed: None,
            n: 0,
        }
    }

    fn number(&mut self) -> Number {
        let project = if self.coin.toss() { APP } else { INFRA };
        (project.into(), 1 + self.coin.below(3))
    }

    fn head(&mut self) -> String {
        // Few heads, so that they return and are shared.
        commit(&format!("head {}", self.coin.below(5)))
    }

    fn delivery(&mut self) -> String {
        self.n += 1;
        format!("delivery {}", self.n)
    }

    /// Changes the forge, and usually tells of it.
    fn change(&mut self, number: &Number, edit: impl FnOnce(&mut MergeRequest)) -> Result<(), Down> {
        let head = self.head();
        let docs = self.coin.below(4) == 0;
        let change = self
            .sim
            .forge
            .changes
            .entry(number.clone())
            .or_insert_with(|| MergeRequest {
                state: ChangeState::Open,
                title: format!("Change {}", number.1),
                head,
                target: MAIN.into(),
                author: account("Otto"),
                paths: vec![if docs {
                    "docs/a.md".into()
                } else {
                    "src/a.rs".into()
                }],
                merged: None,
            });
        if change.state != ChangeState::Merged {
            edit(change);
        }
        let delivery = self.delivery();
        if self.coin.below(4) == 0 {
            Ok(())
        } else {
            self.sim.hook(number, &delivery)
        }
    }

    fn act(&mut self) -> Result<(), Down> {
        let number = self.number();
        match self.coin.below(20) {
            0..=3 => {
                let head = self.head();
                self.change(&number, |it| {
                    it.head = head;
                    it.state = ChangeState::Open;
                })
            }
            4 => self.change(&number, |it| it.state = ChangeState::Closed),
            5 => self.change(&number, |it| {
                it.state = ChangeState::Merged;
                it.merged = Some(Merged {
                    by: Some(account("Otto")),
                    commit: Some(commit("landed")),
                });
            }),
            6..=10 => self.decide(&number),
            11 => self.send_signed(),
            12 => {
                let action = format!("deploy {}", self.coin.below(3));
                day::ask(&mut self.sim, &action)
            }
            13 => {
                let request = day::action_id(&format!("deploy {}", self.coin.below(3)));
                let known = self.sim.has(&request);
                let command = match self.coin.below(3) {
                    0 if known => self.sim.decision(&day::person("Bea"), &request, Answer::Approve),
                    1 => Command::CancelRequest {
                        request,
                        reason: "not today".into(),
                    },
                    _ => Command::ConsumeRequest {
                        request,
                        idempotency: None,
                    },
                };
                allowed(self.sim.give(day::by("Bea"), command)?);
                Ok(())
            }
            14 => {
                // Now and then a host's clock is set back a little.
                let now = self.sim.clock.now();
                let later = match self.coin.below(5) {
                    0 => Time(now.0 - 1_500),
                    _ => now.plus_seconds(self.coin.below(400)),
                };
                self.sim.clock.set(later);
                Ok(())
            }
            15 => self.sim.reconcile(),
            16 => {
                let head = self.head();
                let delivery = self.delivery();
                self.sim.meanwhile = Some(Push {
                    number,
                    head,
                    delivery,
                });
                Ok(())
            }
            17 => {
                self.remember_proofs();
                Ok(())
            }
            _ => self.sim.round().map(drop),
        }
    }

    fn decide(&mut self, number: &Number) -> Result<(), Down> {
        if self.sim.forge.changes.contains_key(number)
            && let Some(request) = self.sim.request_of(number)
        {
            let name = PEOPLE[self.coin.below(4) as usize];
            let answer = if self.coin.below(5) == 0 {
                Answer::Reject
            } else {
                Answer::Approve
            };
            let command = self.sim.decision(&day::person(name), &request.id, answer);
            if self.coin.below(4) == 0 {
                self.signed = Some((name, command));
            } else {
                allowed(self.sim.give(day::by(name), command)?);
            }
        }
        Ok(())
    }

    fn send_signed(&mut self) -> Result<(), Down> {
        if let Some((name, command)) = self.signed.take() {
            allowed(self.sim.give(day::by(name), command)?);
        }
        Ok(())
    }

    fn remember_proofs(&mut self) {
        let snapshot = self.sim.read();
        let size = snapshot.size().expect("the size reads");
        let index = self.coin.below(size);
        let proof = snapshot.inclusion_proof(index, size).expect("proofs are made");
        let root = snapshot.root(size).expect("roots are made");
        self.given.push(Given {
            index,
            size,
            proof,
            root,
        });
    }

    /// What was proven stays proven: the same proof, the same root, and each log the beginning of the next.
    fn proofs_hold(&self) {
        let snapshot = self.sim.read();
        let now = snapshot.size().expect("the size reads");
        let root = snapshot.root(now).expect("roots are made");
        for it in &self.given {
            let leaf = snapshot
                .leaf(it.index)
                .expect("entries read")
                .expect("the entry is there");
            let again = snapshot
                .inclusion_proof(it.index, it.size)
                .expect("proofs are made");
            assert_eq!(again, it.proof, "an entry changed an earlier proof");
            verify_inclusion(&leaf_hash(&leaf), it.index, it.size, &it.proof, &it.root).expect("it verifies");
            let consistency = snapshot.consistency_proof(it.size, now).expect("proofs are made");
            verify_consistency(it.size, &it.root, now, &root, &consistency).expect("the log only grew");
        }
    }

    fn live(&mut self) {
        for _ in 0..ACTS {
            if self.coin.below(8) == 0 {
                let step = self.sim.machine.steps().len() as u64 + 1 + self.coin.below(60);
                self.sim
                    .machine
                    .fail(step, Failure::ALL[self.coin.below(4) as usize]);
            }
            // Whoever was interrupted gives up; the forge's webhook is lost.
            if self.act().is_err() {
                self.recover();
            }
        }
        self.sim.machine.fail_no_more();
        self.sim.meanwhile = None;
        let evening = self.sim.clock.now().plus_seconds(86_400);
        self.sim.clock.set(evening);
        // What is known comes to rest by itself; the reconciler then finds what no webhook told of.
        let result = self
            .sim
            .quiet()
            .and_then(|()| self.sim.reconcile())
            .and_then(|()| self.sim.quiet());
        result.expect("nothing fails any more");
        after_a_start(&self.sim);
        at_rest(&self.sim);
        self.proofs_hold();
    }

    fn recover(&mut self) {
        loop {
            self.sim.survival = vec![match self.coin.below(3) {
                0 => Survival::Process,
                1 => Survival::Synced,
                _ => Survival::Torn(self.coin.next()),
            }];
            self.sim.recover();
            if self.sim.start().is_ok() {
                break;
            }
        }
        after_a_start(&self.sim);
    }
}

/// The refusals that a disorderly day brings; anything else is a fault.
fn allowed(result: Result<signedapproval::domain::command::Reply, Error>) {
    match result {
        Ok(_) | Err(Error::ClockUnsound) => {}
        Err(Error::Refused(
            Refusal::SelfApproval { .. }
            | Refusal::AlreadyDecided
            | Refusal::AlreadyEnded { .. }
            | Refusal::StaleSubject
            | Refusal::NotUsable { .. }
            | Refusal::Unknown,
        )) => {}
        Err(other) => panic!("refused: {other:?}"),
    }
}

#[test]
fn random_days_keep_every_promise() {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => SEEDS.collect(),
    };
    for seed in seeds {
        let result = catch_unwind(AssertUnwindSafe(|| Day::new(seed).live()));
        assert!(
            result.is_ok(),
            "replay with SEED={seed} cargo test --test sim random_days"
        );
    }
}

/// Two people approve; whoever is first, and together or one by one, it comes to the same.
#[test]
fn the_order_of_two_approvals_does_not_change_the_outcome() {
    let number: Number = (INFRA.into(), 3);
    let come_to = |order: [&str; 2], together: bool| {
        let mut sim = Sim::new(Machine::new([]), vec![Survival::Process]);
        for idx in 0..6 {
            day::chapter(&mut sim, idx, after_a_start);
        }
        sim.clock.set(at(1000));
        day::push(&mut sim, INFRA, 3, "3a", "main.tf", "d1").expect("nothing fails");
        let request = sim.request_of(&number).expect("it was opened").id;
        let commands = order.map(|name| Submission {
            actor: day::by(name),
            command: sim.decision(&day::person(name), &request, Answer::Approve),
            secrets: Vec::new(),
            cursor: None,
        });
        if together {
            let replies = sim.give_all(commands.into()).expect("nothing fails");
            assert!(replies.iter().all(Result::is_ok), "{replies:?}");
        } else {
            for command in commands {
                sim.give_all(vec![command])
                    .expect("nothing fails")
                    .remove(0)
                    .expect("it counts");
            }
        }
        let ended = sim.request_of(&number).expect("it is there");
        assert_eq!(ended.status, Status::Approved);
        sim.quiet().expect("nothing fails");
        after_a_start(&sim);
        assert_eq!(sim.forge.merges, vec![(number.clone(), commit("3a"))]);
        sim.hook(&number, "d2").expect("nothing fails");
        sim.quiet().expect("nothing fails");
        at_rest(&sim);
        crate::checks::summary(&sim)
    };
    let one = come_to(["Bea", "Cem"], false);
    for (order, together) in [
        (["Cem", "Bea"], false),
        (["Bea", "Cem"], true),
        (["Cem", "Bea"], true),
    ] {
        assert_eq!(come_to(order, together), one, "{order:?} together: {together}");
    }
}

/// A webhook that comes while the reconciler's own hint is being worked off asks for another look.
#[test]
fn a_webhook_is_not_lost_behind_a_hint_of_the_reconciler() {
    let mut sim = Sim::new(Machine::new([]), vec![Survival::Process]);
    for idx in 0..6 {
        day::chapter(&mut sim, idx, after_a_start);
    }
    let number: Number = (APP.into(), 1);
    day::push(&mut sim, APP, 1, "1a", "src/a.rs", "d1").expect("nothing fails");
    sim.quiet().expect("nothing fails");
    // A push whose webhook is lost; then one that is told of while the first is being read.
    sim.forge.changes.get_mut(&number).expect("it was opened").head = commit("1b");
    sim.reconcile().expect("nothing fails");
    sim.meanwhile = Some(Push {
        number: number.clone(),
        head: commit("1c"),
        delivery: "d2".into(),
    });
    sim.quiet().expect("nothing fails");
    assert_eq!(sim.request_of(&number).and_then(|it| it.head), Some(commit("1c")));
    at_rest(&sim);
}

/// A green whose answer got lost is taken back when the change moves on before the follower asks again.
#[test]
fn a_green_whose_answer_was_lost_is_taken_back() {
    let mut sim = Sim::new(Machine::new([]), vec![Survival::Process]);
    for idx in 0..6 {
        day::chapter(&mut sim, idx, after_a_start);
    }
    day::push(&mut sim, APP, 1, "1a", "src/a.rs", "d1").expect("nothing fails");
    sim.quiet().expect("nothing fails");
    day::decide(&mut sim, "Bea", APP, 1, Answer::Approve).expect("nothing fails");
    sim.machine.fail_next_call(Failure::ErrorDone);
    sim.round().expect("only the answer is lost");
    let place = (APP.to_owned(), commit("1a"), MAIN.to_owned());
    assert_eq!(
        sim.forge.statuses[&place],
        GateState::Success,
        "the forge has taken it"
    );
    day::push(&mut sim, APP, 1, "1b", "src/a.rs", "d2").expect("nothing fails");
    sim.quiet().expect("nothing fails");
    assert_ne!(
        sim.forge.statuses[&place],
        GateState::Success,
        "green on a head that nobody asks for"
    );
    day::push(&mut sim, APP, 1, "1a", "src/a.rs", "d3").expect("nothing fails");
    sim.quiet().expect("nothing fails");
    assert_ne!(
        sim.forge.statuses[&place],
        GateState::Success,
        "green on a head that nobody approved again"
    );
}

/// The engine's own thread: after an I/O error everybody who waits, and everybody who asks later, is told that it has
/// stopped; whoever was told yes finds it in the journal.
#[test]
fn an_engine_that_met_an_io_error_stops_for_good() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    for step in 1..=24 {
        let mut sim = Sim::new(Machine::new([]), vec![Survival::Synced]);
        sim.start().expect("nothing fails");
        let machine = sim.machine.clone();
        machine.fail(
            machine.steps().len() as u64 + step * 5,
            Failure::ALL[2 + step as usize % 2],
        );
        let engine = Engine::start(sim.into_writer()).expect("the engine starts");
        let told: Vec<String> = runtime.block_on(async {
            let ask = |n: u32| {
                let engine = engine.clone();
                let reason = format!("reason {n}");
                async move {
                    let command = Command::RefuseCeremony {
                        person: None,
                        request: None,
                        reason: reason.clone(),
                    };
                    (reason, engine.submit(Actor::System, command).await)
                }
            };
            let mut told = Vec::new();
            let mut stopped = false;
            for n in 0..12 {
                let (one, two) = tokio::join!(ask(2 * n), ask(2 * n + 1));
                for (reason, answer) in [one, two] {
                    match answer {
                        Ok(_) => {
                            assert!(!stopped, "acknowledged after an I/O error");
                            told.push(reason);
                        }
                        Err(error) => {
                            assert_eq!(error, Error::Stopped);
                            stopped = true;
                        }
                    }
                }
            }
            assert!(stopped, "step {step} was never reached");
            engine.stopped().await;
            told
        });
        drop(engine);
        machine.restart(Survival::Synced);
        let journal = Sim::journal_of(machine);
        let journal: Vec<String> = journal
            .iter()
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect();
        for reason in told {
            let times = journal
                .iter()
                .filter(|it| it.contains(&format!("\"{reason}\"")))
                .count();
            assert_eq!(times, 1, "{reason} was acknowledged");
        }
    }
}
