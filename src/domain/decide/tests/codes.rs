//! One-time codes: what a wrong one costs, the lock that outlasts any window, and that passkeys never pay for it.

use super::rules::{default_policy, deployment};
use super::*;
use crate::domain::people::Person;
use crate::domain::totp::step_at;

const BY_CODE: &str = r#"{"rules":[],"default":{"method":["passkey","totp"],"quorum":1}}"#;

/// Person 2 has an app whose codes the default rule takes, and a request waits.
fn world_by_code() -> (World, RequestId) {
    let (mut world, _) = world(1, 2);
    default_policy(&mut world, BY_CODE);
    world.now = 1_000_000_000_000;
    let person = PersonId::from_random([2; 16]);
    world.give(enrol(&person, step_at(Time(world.now)))).unwrap();
    let id = deployment(&mut world, 86_400);
    (world, id)
}

fn enrol(person: &PersonId, step: u64) -> Command {
    Command::EnrolTotp {
        person: person.clone(),
        step,
        hold_seconds: 0,
        confirmed_by: vec!["credential-2".into()],
    }
}

fn by_code(world: &mut World, id: &RequestId, step: Option<u64>) -> Result<Reply, Refusal> {
    let request = world.request(id);
    world.give(Command::Decide(Box::new(Decide {
        request: id.clone(),
        person: PersonId::from_random([2; 16]),
        answer: Answer::Approve,
        method: Method::Totp,
        comment: String::new(),
        break_glass: false,
        match_code: None,
        intent: Vec::new(),
        challenge_issued_at: Time(world.now),
        subject_sha256: request.subject_sha256,
        policy_sha256: request.policy.sha256,
        proof: Proof::Code { step },
    })))
}

fn generator(world: &World) -> crate::domain::totp::Generator {
    let person = PersonId::from_random([2; 16]);
    world
        .get::<Person>(person.as_str())
        .unwrap()
        .and_then(|it| it.totp)
        .expect("an app")
}

#[test]
fn c14_ten_wrong_codes_in_a_row_lock_the_app_for_good_and_no_passkey() {
    let (mut world, id) = world_by_code();
    for n in 0..10 {
        assert_eq!(by_code(&mut world, &id, None), Err(Refusal::WrongCode), "try {n}");
        if n % 5 == 4 {
            let shut = by_code(&mut world, &id, None);
            assert_eq!(
                matches!(shut, Err(Refusal::TooManyCodes { .. })),
                n == 4,
                "{shut:?}"
            );
            world.now += 300_000;
        }
    }
    assert!(generator(&world).locked_at.is_some());
    world.now += 30 * 86_400_000;
    let id = deployment(&mut world, 86_400);
    let right = step_at(Time(world.now)) + 1;
    let locked = by_code(&mut world, &id, Some(right));
    assert!(
        matches!(locked, Err(Refusal::MethodNotAllowed { .. })),
        "{locked:?}"
    );
    world
        .decision(&id, 2, Answer::Approve)
        .expect("the passkey decides");
    // Another app ends the lock.
    let step = step_at(Time(world.now));
    world.give(enrol(&PersonId::from_random([2; 16]), step)).unwrap();
    assert!(generator(&world).locked_at.is_none());
}

#[test]
fn c14_a_right_code_ends_the_row_and_takes_no_try_of_the_window() {
    let (mut world, id) = world_by_code();
    for _ in 0..4 {
        assert_eq!(by_code(&mut world, &id, None), Err(Refusal::WrongCode));
    }
    let right = step_at(Time(world.now)) + 1;
    by_code(&mut world, &id, Some(right)).expect("a right one");
    let after = generator(&world);
    assert_eq!((after.wrong_in_a_row, after.wrong.len()), (0, 4));
    assert_eq!(after.last_step, right);
    assert_eq!(world.request(&id).status, Status::Approved);
}

#[test]
fn c15_a_right_code_is_used_up_where_it_does_not_count_and_costs_no_try() {
    let (mut world, id) = world_by_code();
    default_policy(
        &mut world,
        r#"{"rules":[],"default":{"method":["passkey"],"quorum":1}}"#,
    );
    let step = step_at(Time(world.now)) + 1;
    let request = crate::domain::decide::as_judged_now(world.request(&id), &world).unwrap();
    let refused = world.give(Command::Decide(Box::new(Decide {
        request: id.clone(),
        person: PersonId::from_random([2; 16]),
        answer: Answer::Approve,
        method: Method::Totp,
        comment: String::new(),
        break_glass: false,
        match_code: None,
        intent: Vec::new(),
        challenge_issued_at: Time(world.now),
        subject_sha256: request.subject_sha256,
        policy_sha256: request.policy.sha256,
        proof: Proof::Code { step: Some(step) },
    })));
    assert!(
        matches!(refused, Err(Refusal::MethodNotAllowed { .. })),
        "{refused:?}"
    );
    let after = generator(&world);
    assert_eq!((after.last_step, after.wrong_in_a_row), (step, 0));
}

#[test]
fn an_app_is_enrolled_with_a_passkey_that_lives_and_a_code_of_now() {
    let (mut world, _) = world_by_code();
    let person = PersonId::from_random([1; 16]);
    let step = step_at(Time(world.now));
    let with = |confirmed_by: Vec<String>, step| Command::EnrolTotp {
        person: person.clone(),
        step,
        hold_seconds: 0,
        confirmed_by,
    };
    assert!(matches!(
        world.give(with(vec!["credential-2".into()], step)),
        Err(Refusal::NotAllowed { .. })
    ));
    let late = world.give(with(vec!["credential-1".into()], step - 2));
    assert_eq!(late, Err(Refusal::WrongCode));
    world
        .give(with(vec!["credential-1".into()], step))
        .expect("by their own");
}
