//! Deployments on a forge: short histories, and that no job is ever started without an approval of exactly it.

use super::*;
use crate::domain::decide::{NextStep, may_ask_again, next_step};
use crate::domain::deployment::{
    Deployment, DeploymentAnswer, DeploymentFacts, DeploymentKey, DeploymentState, Phase,
};
use crate::domain::governance::Exception;

const SHA: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";

fn account(id: &str) -> Account {
    Account {
        id: id.into(),
        username: format!("user{id}"),
        name: format!("User {id}"),
    }
}

/// A job that waits to deploy to production, started by the account that person 1 may be linked to.
fn job(project: &ProjectId, number: u64) -> DeploymentFacts {
    DeploymentFacts {
        key: DeploymentKey {
            project: project.clone(),
            job: number,
        },
        deployment: 1000 + number,
        phase: Phase::Waiting,
        blocked: false,
        environment: "production".into(),
        tier: None,
        job_name: "deploy".into(),
        ref_name: MAIN.into(),
        sha: SHA.into(),
        pipeline: 7,
        triggered_by: account("77"),
        job_account: Some(account("77")),
        web_url: String::new(),
        commit_title: String::new(),
        superseded_by: None,
    }
}

impl World {
    fn see(&mut self, facts: DeploymentFacts) {
        self.seq += 1;
        let mut bits = [3; 16];
        bits[..8].copy_from_slice(&self.seq.to_be_bytes());
        let subject = format!("{{\"job\":{},\"sha\":\"{}\"}}", facts.key.job, facts.sha);
        self.give(Command::ObserveDeployment {
            facts: Box::new(facts),
            subject,
            fresh: RequestId::from_random(bits),
        })
        .unwrap();
    }

    fn deployment(&self, facts: &DeploymentFacts) -> Option<Deployment> {
        self.get(&facts.key.row()).unwrap()
    }

    fn asked(&self, facts: &DeploymentFacts) -> RequestId {
        self.deployment(facts).unwrap().request.unwrap()
    }

    fn start_job(&mut self, facts: &DeploymentFacts) -> bool {
        let facts = Box::new(facts.clone());
        self.give(Command::StartDeployment { facts }).is_ok()
    }

    fn answer(&mut self, facts: &DeploymentFacts, answer: DeploymentAnswer) {
        let deployment = facts.key.clone();
        self.give(Command::RecordDeployment { deployment, answer })
            .unwrap();
    }

    fn unapproved(&self) -> usize {
        let all = self.all::<Exception>().unwrap();
        all.iter()
            .filter(|it| it.kind == "exception.unapproved_deployment")
            .count()
    }
}

fn started(facts: &DeploymentFacts, by: &str) -> DeploymentFacts {
    DeploymentFacts {
        phase: Phase::Started,
        job_account: Some(account(by)),
        ..facts.clone()
    }
}

#[test]
fn an_approval_starts_its_job_once() {
    let (mut world, project) = world(1, 2);
    let facts = job(&project, 1);
    world.see(facts.clone());
    let id = world.asked(&facts);
    assert!(!world.start_job(&facts), "nobody has approved it");
    world.decision(&id, 2, Answer::Approve).unwrap();
    assert!(world.start_job(&facts));
    assert!(world.request(&id).consumed_at.is_some());
    assert!(!world.start_job(&facts), "it is spent");
    world.answer(&facts, DeploymentAnswer::Started { by: None });
    world.see(started(&facts, "5"));
    assert_eq!(world.unapproved(), 0);
    assert_eq!(world.deployment(&facts).unwrap().state, DeploymentState::Started);
    // A look that began before still shows it waiting: that opens nothing.
    world.see(facts.clone());
    assert_eq!(world.asked(&facts), id);
}

#[test]
fn whoever_started_the_pipeline_cannot_approve_and_nobody_known_costs_one_more() {
    let (mut world, project) = world_with(2, 3, true);
    let facts = job(&project, 1);
    world.see(facts.clone());
    let id = world.asked(&facts);
    assert!(matches!(
        world.decision(&id, 1, Answer::Approve),
        Err(Refusal::SelfApproval { .. })
    ));
    // The project's own number of approvals holds where no rule says otherwise.
    assert_eq!(world.request(&id).obligations[0].quorum, 2);
    let mut strange = job(&project, 2);
    strange.triggered_by = account("99");
    strange.environment = "staging/eu".into();
    world.see(strange.clone());
    let id = world.asked(&strange);
    assert_eq!(world.request(&id).obligations[0].quorum, 3);
}

#[test]
fn only_the_very_job_that_was_approved_is_started() {
    let (mut world, project) = world(1, 2);
    let facts = job(&project, 1);
    world.see(facts.clone());
    world.decision(&world.asked(&facts), 2, Answer::Approve).unwrap();
    let change = |edit: fn(&mut DeploymentFacts)| {
        let mut it = facts.clone();
        edit(&mut it);
        it
    };
    for (what, other) in [
        ("commit", change(|it| it.sha = OTHER.into())),
        ("environment", change(|it| it.environment = "staging/eu".into())),
        ("pipeline", change(|it| it.pipeline = 8)),
        ("job", change(|it| it.key.job = 2)),
        ("ref", change(|it| it.ref_name = "refs/tags/main".into())),
        ("deployment", change(|it| it.deployment = 1)),
        ("name", change(|it| it.job_name = "deploy2".into())),
        ("newer pipeline", change(|it| it.superseded_by = Some(9))),
        ("phase", change(|it| it.phase = Phase::Ended)),
    ] {
        assert!(!world.start_job(&other), "another {what}");
    }
    assert!(world.start_job(&facts));
}

#[test]
fn an_approval_that_ran_out_starts_nothing() {
    let (mut world, project) = world(1, 2);
    let facts = job(&project, 1);
    world.see(facts.clone());
    let id = world.asked(&facts);
    assert!(
        !may_ask_again(&id, Time(world.now), &world).unwrap(),
        "it is being asked"
    );
    world.decision(&id, 2, Answer::Approve).unwrap();
    let until = world.request(&id).expires_at.unwrap();
    world.now = until.0;
    assert!(!world.start_job(&facts));
    world.give(Command::Expire { request: id.clone() }).unwrap();
    assert!(world.request(&id).lapsed);
    // Somebody starts it now: that is without an approval.
    let mut other = world.clone();
    other.see(started(&facts, "42"));
    assert_eq!(other.unapproved(), 1);
    // Or asks again, which opens another request at the next look.
    assert!(may_ask_again(&id, Time(world.now), &world).unwrap());
    world
        .give(Command::AskDeploymentAgain { request: id.clone() })
        .unwrap();
    world.see(facts.clone());
    assert_ne!(world.asked(&facts), id);
    assert!(!may_ask_again(&id, Time(world.now), &world).unwrap());
}

#[test]
fn an_approval_spent_and_not_used_in_time_is_not_used_later() {
    let (mut world, project) = world(1, 2);
    let facts = job(&project, 1);
    world.see(facts.clone());
    let id = world.asked(&facts);
    world.decision(&id, 2, Answer::Approve).unwrap();
    assert!(world.start_job(&facts));
    let until = world.request(&id).expires_at.unwrap();
    let step = |world: &World, now: Time| {
        next_step(&world.deployment(&facts).unwrap(), Some(&world.request(&id)), now)
    };
    assert_eq!(
        step(&world, Time(until.0 - 1)),
        NextStep::Resume { in_time: true }
    );
    assert_eq!(step(&world, until), NextStep::Resume { in_time: false });
    world.now = until.0;
    let reason = "GitLab was away".to_owned();
    world.answer(&facts, DeploymentAnswer::OutOfTime { reason });
    assert_eq!(step(&world, until), NextStep::Nothing);
    assert!(!world.start_job(&facts));
    assert!(may_ask_again(&id, Time(world.now), &world).unwrap());
    // Whoever starts it then has no approval for it.
    world.see(started(&facts, "42"));
    assert_eq!(world.unapproved(), 1);
}

#[test]
fn a_job_started_under_a_standing_approval_uses_it_up() {
    let (mut world, project) = world(1, 2);
    let facts = job(&project, 1);
    world.see(facts.clone());
    let id = world.asked(&facts);
    world.decision(&id, 2, Answer::Approve).unwrap();
    world.see(started(&facts, "42"));
    assert_eq!(world.unapproved(), 0);
    assert!(world.request(&id).consumed_at.is_some());
    assert!(!world.start_job(&facts));
}

#[test]
fn a_rejection_is_told_once_where_the_forge_waits_for_it() {
    let (mut world, project) = world(1, 2);
    let facts = DeploymentFacts {
        blocked: true,
        ..job(&project, 1)
    };
    world.see(facts.clone());
    let id = world.asked(&facts);
    world.decision(&id, 2, Answer::Reject).unwrap();
    let step = |world: &World| {
        let now = Time(world.now);
        next_step(&world.deployment(&facts).unwrap(), Some(&world.request(&id)), now)
    };
    assert_eq!(step(&world), NextStep::TellRejection);
    world.answer(&facts, DeploymentAnswer::RejectionTold);
    assert_eq!(step(&world), NextStep::Nothing);
    assert!(!may_ask_again(&id, Time(world.now), &world).unwrap());
    assert!(!world.start_job(&facts));
}

#[test]
fn an_environment_that_is_not_gated_is_left_alone() {
    let (mut world, project) = world(1, 2);
    let facts = DeploymentFacts {
        environment: "review/1".into(),
        ..job(&project, 1)
    };
    world.see(facts.clone());
    assert!(world.deployment(&facts).is_none());
    world.see(started(&facts, "42"));
    assert_eq!(world.unapproved(), 0);
}

#[derive(Clone, Debug)]
enum Act {
    See {
        job: u64,
        phase: u8,
        by: u8,
        other: bool,
        newer: bool,
    },
    Decide {
        job: u64,
        person: u8,
        approve: bool,
    },
    Start {
        job: u64,
        other: bool,
    },
    Answer {
        job: u64,
        what: u8,
    },
    Wait {
        seconds: u32,
    },
    Expire {
        job: u64,
    },
    AskAgain {
        job: u64,
    },
    Forget {
        job: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let number = 1..3_u64;
    prop_oneof![
        4 => (number.clone(), 0..8_u8, 0..3_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(job, phase, by, other, newer)| Act::See { job, phase, by, other, newer }),
        4 => (number.clone(), 2..4_u8, prop::bool::weighted(0.8))
            .prop_map(|(job, person, approve)| Act::Decide { job, person, approve }),
        4 => (number.clone(), prop::bool::weighted(0.2)).prop_map(|(job, other)| Act::Start { job, other }),
        2 => (number.clone(), 0..3_u8).prop_map(|(job, what)| Act::Answer { job, what }),
        1 => prop_oneof![Just(10_u32), Just(50_000), Just(90_000)].prop_map(|seconds| Act::Wait { seconds }),
        1 => number.clone().prop_map(|job| Act::Expire { job }),
        1 => number.clone().prop_map(|job| Act::AskAgain { job }),
        1 => number.prop_map(|job| Act::Forget { job }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_job_is_ever_started_without_an_approval_of_exactly_it(acts in prop::collection::vec(act(), 1..60)) {
        let (mut world, project) = world(1, 3);
        let mut spent: BTreeSet<RequestId> = BTreeSet::new();
        for it in acts {
            let number = match &it {
                Act::See { job, .. } | Act::Decide { job, .. } | Act::Start { job, .. } | Act::Answer { job, .. }
                | Act::Expire { job } | Act::AskAgain { job } | Act::Forget { job } => *job,
                Act::Wait { .. } => 1,
            };
            let plain = job(&project, number);
            let before = world.deployment(&plain);
            let gate = before.as_ref().and_then(|it| it.request.clone()).map(|it| world.request(&it));
            let exceptions = world.unapproved();
            let now = Time(world.now + 1);
            match &it {
                Act::See { phase, by, other, newer, .. } => {
                    let mut facts = plain.clone();
                    facts.phase = match phase { 0..5 => Phase::Waiting, 5 | 6 => Phase::Started, _ => Phase::Ended };
                    facts.job_account = Some(account(["77", "42", "5"][usize::from(*by)]));
                    if *other { facts.sha = OTHER.into(); }
                    if *newer { facts.superseded_by = Some(9); }
                    world.see(facts);
                }
                Act::Decide { person, approve, .. } => {
                    if let Some(gate) = &gate {
                        let answer = if *approve { Answer::Approve } else { Answer::Reject };
                        let _ = world.decision(&gate.id, *person, answer);
                    }
                }
                Act::Start { other, .. } => {
                    let mut facts = plain.clone();
                    if *other { facts.sha = OTHER.into(); }
                    let begun = world.start_job(&facts);
                    if begun {
                        let gate = gate.clone().expect("somebody was asked");
                        let before = before.clone().expect("it was seen");
                        prop_assert_eq!(gate.status, Status::Approved);
                        prop_assert!(!gate.lapsed && gate.consumed_at.is_none());
                        prop_assert!(gate.expires_at.is_some_and(|it| now < it));
                        prop_assert_eq!(before.state, DeploymentState::Waiting);
                        prop_assert_eq!(&before.facts.sha, &facts.sha);
                        prop_assert!(spent.insert(gate.id), "spent twice");
                    }
                }
                Act::Answer { what, .. } if before.is_some() => {
                    let reason = "no".to_owned();
                    world.answer(&plain, match what {
                        0 => DeploymentAnswer::Started { by: None },
                        1 => DeploymentAnswer::Refused { reason },
                        _ => DeploymentAnswer::OutOfTime { reason },
                    });
                }
                Act::Answer { .. } => {}
                Act::Wait { seconds } => world.now += i64::from(*seconds) * 1000,
                Act::Expire { .. } => {
                    if let Some(gate) = &gate {
                        world.give(Command::Expire { request: gate.id.clone() }).unwrap();
                    }
                }
                Act::AskAgain { .. } => {
                    if let Some(gate) = &gate {
                        let _ = world.give(Command::AskDeploymentAgain { request: gate.id.clone() });
                    }
                }
                Act::Forget { .. } => {
                    let reason = "gone".to_owned();
                    world.give(Command::ForgetDeployment { deployment: plain.key.clone(), reason }).unwrap();
                }
            }
            let after = world.deployment(&plain);
            let state = |it: &Option<Deployment>| it.as_ref().map(|it| it.state);
            // Nothing becomes a start but by spending an approval.
            if state(&after) == Some(DeploymentState::Starting) && state(&before) != state(&after) {
                let by_spending = matches!(it, Act::Start { .. });
                prop_assert!(by_spending);
            }
            // Whatever was started is either under an approval that is spent, or an exception.
            if state(&after) == Some(DeploymentState::Started) && state(&before) != state(&after) {
                let gate = after.as_ref().and_then(|it| it.request.clone()).map(|it| world.request(&it));
                let approved = gate.as_ref().is_some_and(|it| it.status == Status::Approved && it.consumed_at.is_some());
                prop_assert!(approved || world.unapproved() == exceptions + 1);
                if world.unapproved() == exceptions {
                    spent.insert(gate.expect("it was approved").id);
                }
            }
            // What is open in the record is what the table of open ones says.
            let row = plain.key.row();
            let listed = world.get_raw(Table::OpenDeployments, row.as_bytes()).unwrap().is_some();
            prop_assert_eq!(listed, after.is_some_and(|it| it.state.is_open()));
        }
    }
}
