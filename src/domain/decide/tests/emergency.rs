//! Break-glass (policy rule 21), and looking exceptions over.

use super::*;
use crate::domain::governance::Exception;

const POLICY: &str = r#"{"rules":[
 {"name":"Code","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":3}},
 {"name":"Fire","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":2,"break_glass":true,"approvers":["person:p2@corp.example","person:p3@corp.example"]}}]}"#;

fn burning() -> (World, RequestId) {
    burning_by(POLICY)
}

fn burning_by(policy: &str) -> (World, RequestId) {
    let (mut world, project) = world_with(1, 4, true);
    world.person(5, &[Role::Admin]);
    let change = Governed::Policy {
        name: "default".into(),
        document: Digest::of(policy.as_bytes()),
    };
    world.give_by(5, govern(change, Some(policy))).unwrap();
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    (world, id)
}

impl World {
    fn exceptions(&self) -> Vec<Exception> {
        self.all().unwrap()
    }
}

#[test]
fn rule_21_break_glass_is_another_way_through_that_is_chosen_and_told() {
    let (mut world, id) = burning();
    assert_eq!(
        world.request(&id).obligations.len(),
        1,
        "break-glass is never an obligation"
    );
    let silent = world.decision_with(&id, 2, Answer::Approve, "  ", true);
    assert!(
        matches!(silent, Err(Refusal::Invalid { .. })),
        "a reason is mandatory"
    );
    let other = world.decision_with(&id, 4, Answer::Approve, "fire", true);
    assert!(
        matches!(other, Err(Refusal::NotEligible { .. })),
        "it has its own group"
    );
    let reject = world.decision_with(&id, 2, Answer::Reject, "fire", true);
    assert!(matches!(reject, Err(Refusal::Invalid { .. })));
    assert!(
        world
            .decision_with(&id, 2, Answer::Approve, "the shop is down", true)
            .is_ok()
    );
    assert_eq!(world.request(&id).status, Status::Pending);
    assert!(world.exceptions().is_empty());
    assert!(
        world
            .decision_with(&id, 3, Answer::Approve, "agreed", true)
            .is_ok()
    );
    assert_eq!(world.request(&id).status, Status::Approved);
    let told = world.exceptions();
    assert_eq!((told.len(), told[0].kind.as_str()), (1, "exception.break_glass"));
    assert!(
        told[0].review.is_none(),
        "it stays open until somebody looked it over"
    );
}

#[test]
fn an_ordinary_approval_with_a_comment_is_no_break_glass() {
    let (mut world, id) = burning();
    assert!(
        world
            .decision_with(&id, 2, Answer::Approve, "looks good", false)
            .is_ok()
    );
    assert!(
        world
            .decision_with(&id, 3, Answer::Approve, "looks good", false)
            .is_ok()
    );
    assert_eq!(world.request(&id).status, Status::Pending);
    assert!(
        world
            .decision_with(&id, 4, Answer::Approve, "looks good", false)
            .is_ok()
    );
    assert_eq!(world.request(&id).status, Status::Approved, "the ordinary way");
    assert!(world.exceptions().is_empty());
}

/// Person 4 is asked by the ordinary rule; 2 and 3 by break-glass alone.
const APART: &str = r#"{"rules":[
 {"name":"Code","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":1,"approvers":["person:p4@corp.example"]}},
 {"name":"Fire","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":2,"break_glass":true,"approvers":["person:p2@corp.example","person:p3@corp.example"]}}]}"#;

#[test]
fn whom_only_break_glass_names_can_neither_approve_the_ordinary_way_nor_reject() {
    let (mut world, id) = burning_by(APART);
    for answer in [Answer::Approve, Answer::Reject] {
        let told = world.decision_with(&id, 2, answer, "down", false);
        let Err(Refusal::NotEligible { why }) = told else {
            panic!("{answer:?}: {told:?}")
        };
        assert!(
            why.contains("Only the break-glass rule “Fire” counts you"),
            "{why}"
        );
    }
    assert!(world.request(&id).decisions.is_empty(), "nothing is used up");
    for person in [2, 3] {
        world
            .decision_with(&id, person, Answer::Approve, "the shop is down", true)
            .unwrap();
    }
    assert_eq!(world.request(&id).status, Status::Approved);
    let (mut world, id) = burning_by(APART);
    world.decision(&id, 4, Answer::Reject).unwrap();
    assert_eq!(world.request(&id).status, Status::Rejected);
}

#[test]
fn eligibility_tells_the_ways_apart_and_which_rules_lack_somebody_still() {
    let two = r#"{"rules":[
     {"name":"A","match":{"branch":"main"},"require":{"method":["passkey"],"approvers":["person:p2@corp.example","person:p4@corp.example"]}},
     {"name":"B","match":{"branch":"main"},"require":{"method":["passkey"],"approvers":["person:p3@corp.example"]}},
     {"name":"Fire","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":2,"break_glass":true,"approvers":["person:p3@corp.example","person:p5@corp.example"]}}]}"#;
    let (mut world, id) = burning_by(two);
    let ask = |world: &World, person: u8| {
        let roster = crate::domain::decide::Roster::load(world).unwrap();
        let id_of = PersonId::from_random([person; 16]);
        let request = world.request(&id);
        let told = crate::domain::decide::eligibility(
            &request,
            roster.person(&id_of).unwrap(),
            &roster,
            Time(world.now),
        );
        (told.rules, told.open, told.emergency)
    };
    let a = vec!["A".to_owned()];
    assert_eq!(ask(&world, 4), (a.clone(), a.clone(), Vec::new()));
    assert_eq!(
        ask(&world, 3),
        (vec!["B".into()], vec!["B".into()], vec!["Fire".into()])
    );
    let so_far = |world: &World| {
        let roster = crate::domain::decide::Roster::load(world).unwrap();
        crate::domain::decide::progress(&world.request(&id), &roster, Time(world.now))
    };
    assert_eq!(so_far(&world), "0 of 2 rules met");
    let status = |world: &World| {
        let request = world.request(&id);
        let key = StatusKey {
            project: request.change.unwrap().project,
            head: request.head.unwrap(),
            target: request.target.unwrap(),
        };
        let wanted = crate::domain::decide::wanted_status(&key, false, world);
        wanted.unwrap().unwrap().description
    };
    assert_eq!(status(&world), "Waits for people: approvals needed for 2 rules");
    world.decision(&id, 2, Answer::Approve).unwrap();
    assert_eq!(ask(&world, 4), (a, Vec::new(), Vec::new()), "A has what it asks");
    assert_eq!(so_far(&world), "1 of 2 rules met, 1 approval so far");
}

#[test]
fn an_exception_is_looked_over_once_by_somebody_who_took_no_part() {
    let (mut world, id) = burning();
    world
        .decision_with(&id, 2, Answer::Approve, "down", true)
        .unwrap();
    world
        .decision_with(&id, 3, Answer::Approve, "down", true)
        .unwrap();
    let exception = world.exceptions()[0].seq;
    let review = |note: &str| Command::ReviewException {
        exception,
        note: note.into(),
    };
    // Person 3 approved it, 1 made it; both may read exceptions as auditors.
    for person in [1, 3] {
        let roles = Command::ChangePerson {
            person: PersonId::from_random([person; 16]),
            name: None,
            roles: Some(BTreeSet::from([Role::Approver, Role::Auditor])),
            active: None,
        };
        world.give_by(5, roles).unwrap();
        assert!(matches!(
            world.give_by(person, review("fine")),
            Err(Refusal::NotEligible { .. })
        ));
    }
    assert_eq!(
        world.give_by(4, review("fine")),
        Err(Refusal::Unknown),
        "an approver only"
    );
    assert!(matches!(
        world.give_by(5, review(" ")),
        Err(Refusal::Invalid { .. })
    ));
    assert_eq!(
        world.give_by(5, review("justified, see the incident")),
        Ok(Reply::Done)
    );
    assert_eq!(world.exceptions()[0].review.as_ref().unwrap().name, "Person 5");
    assert!(matches!(
        world.give_by(5, review("again")),
        Err(Refusal::Outdated { .. })
    ));
}
