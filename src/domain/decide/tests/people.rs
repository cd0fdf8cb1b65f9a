//! One person standing in for another.

use super::*;
use crate::domain::decide::Roster;
use crate::domain::ids::{DelegationId, GroupId};
use crate::domain::policy::Approver;

const NUMBER: [u8; 16] = [1; 16];

fn delegation(from: u8, to: u8, ends: i64) -> Command {
    let change = Governed::Delegation {
        delegation: DelegationId::from_random(NUMBER),
        from: PersonId::from_random([from; 16]),
        to: PersonId::from_random([to; 16]),
        starts: Time(0),
        ends: Time(ends),
    };
    govern(change, None)
}

/// Person 1 makes the changes; 2 alone is in the group that approves them; 3 and 4 approve too, 5 is an admin.
fn away() -> (World, ProjectId, RequestId) {
    let (mut world, project) = world_with(1, 4, true);
    world.person(5, &[Role::Admin, Role::Approver]);
    let group = Governed::Group {
        group: GroupId::from_random([4; 16]),
        new: true,
        name: "release".into(),
        members: BTreeSet::from([PersonId::from_random([2; 16])]),
    };
    world.give_by(5, govern(group, None)).unwrap();
    let record: crate::domain::project::Project = world.get(project.as_str()).unwrap().unwrap();
    let settings = ProjectSettings {
        approvers: vec![Approver::Group("release".into())],
        ..record.settings
    };
    let change = Governed::Project {
        project: project.clone(),
        settings,
    };
    world.give_by(5, govern(change, None)).unwrap();
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    (world, project, id)
}

#[test]
fn a_deputy_decides_in_the_place_of_whoever_is_away_and_that_person_does_not() {
    let (mut world, _, id) = away();
    assert!(matches!(
        world.decision(&id, 3, Answer::Approve),
        Err(Refusal::NotEligible { .. })
    ));
    assert_eq!(world.give_by(2, delegation(2, 3, 90_000)), Ok(Reply::Done));
    assert!(matches!(
        world.decision(&id, 2, Answer::Approve),
        Err(Refusal::NotEligible { .. })
    ));
    assert!(matches!(
        world.decision(&id, 4, Answer::Approve),
        Err(Refusal::NotEligible { .. })
    ));
    assert!(world.decision(&id, 3, Answer::Approve).is_ok());
    assert_eq!(world.request(&id).status, Status::Approved);
}

#[test]
fn a_delegation_ends_by_itself_or_when_somebody_ends_it() {
    let (mut world, _, id) = away();
    world.give_by(2, delegation(2, 3, 90_000)).unwrap();
    let end = || Command::EndDelegation {
        delegation: DelegationId::from_random(NUMBER),
    };
    assert_eq!(
        world.give_by(4, end()),
        Err(Refusal::Unknown),
        "it is none of theirs"
    );
    let mut ended = world.clone();
    assert_eq!(ended.give_by(3, end()), Ok(Reply::Done));
    assert!(ended.decision(&id, 3, Answer::Approve).is_err());
    assert!(ended.decision(&id, 2, Answer::Approve).is_ok());
    world.now = 90_000;
    assert!(world.decision(&id, 3, Answer::Approve).is_err());
    assert!(world.decision(&id, 2, Answer::Approve).is_ok());
}

#[test]
fn nobody_picks_who_approves_what_they_made() {
    let (mut world, project, _) = away();
    // Person 1 made the change; were they in the group, their deputy would have their place.
    let group = Governed::Group {
        group: GroupId::from_random([4; 16]),
        new: false,
        name: "release".into(),
        members: BTreeSet::from([PersonId::from_random([1; 16]), PersonId::from_random([2; 16])]),
    };
    world.give_by(5, govern(group, None)).unwrap();
    world.give_by(1, delegation(1, 3, 90_000)).unwrap();
    world.observe(facts(&project, &"2".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    assert!(matches!(
        world.decision(&id, 3, Answer::Approve),
        Err(Refusal::NotEligible { .. })
    ));
}

#[test]
fn one_place_never_counts_twice() {
    let (mut world, project) = world_with(2, 4, true);
    world.person(5, &[Role::Admin, Role::Approver]);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    // Person 2 approves, and then lets 3 stand in: while that holds, 2's own approval does not count.
    assert!(world.decision(&id, 2, Answer::Approve).is_ok());
    world.give_by(2, delegation(2, 3, 90_000)).unwrap();
    assert!(world.decision(&id, 3, Answer::Approve).is_ok());
    assert_eq!(world.request(&id).status, Status::Pending);
    assert!(world.decision(&id, 4, Answer::Approve).is_ok());
    assert_eq!(world.request(&id).status, Status::Approved);
}

#[test]
fn a_delegation_that_could_be_misused_is_refused() {
    let (mut world, _, _) = away();
    let invalid = |answer: Result<Reply, Refusal>| matches!(answer, Err(Refusal::Invalid { .. }));
    assert!(invalid(world.give_by(2, delegation(2, 2, 90_000))), "to oneself");
    assert!(invalid(world.give_by(2, delegation(2, 3, 0))), "in the past");
    assert!(
        invalid(world.give_by(2, delegation(2, 3, 93 * 86_400_000))),
        "for ever"
    );
    assert!(invalid(world.give_by(2, delegation(2, 9, 90_000))), "to nobody");
    let grab = world.give_by(5, delegation(2, 5, 90_000));
    assert!(
        matches!(grab, Err(Refusal::NotAllowed { .. })),
        "an admin to himself"
    );
    assert_eq!(world.give_by(2, delegation(2, 3, 90_000)), Ok(Reply::Done));
    assert!(
        invalid(world.give_by(2, delegation(2, 4, 90_000))),
        "two deputies at once"
    );
    assert!(
        invalid(world.give_by(4, delegation(4, 2, 90_000))),
        "to somebody who is away"
    );
    let roster = Roster::load(&world).unwrap();
    let names: Vec<&str> = roster
        .stands_in_for(&PersonId::from_random([3; 16]), Time(10))
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["Person 2"]);
}
