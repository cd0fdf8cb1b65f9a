//! Changes to the rules: versions, second admins, what would change.

use super::*;
use crate::domain::command::ConfirmProposal;
use crate::domain::decide::impact;
use crate::domain::governance::{Proposal, ProposalState};
use crate::domain::ids::GroupId;
use crate::domain::policy::{Document, Outcome};
use crate::domain::project::PolicyRecord;

const ALONE: &str =
    r#"{"rules":[{"name":"Code","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":2}}]}"#;
const TOGETHER: &str = r#"{"change_quorum":2,"rules":[{"name":"Code","match":{"branch":"main"},"require":{"method":["passkey"],"quorum":2,"approvers":["group:release"]}}]}"#;
const LOOSE: &str = r#"{"rules":[{"name":"All","match":{},"action":"skip"}]}"#;

fn policy(name: &str, document: &str) -> Command {
    let change = Governed::Policy {
        name: name.into(),
        document: Digest::of(document.as_bytes()),
    };
    govern(change, Some(document))
}

fn release(members: &[u8], new: bool) -> Command {
    let change = Governed::Group {
        group: GroupId::from_random([4; 16]),
        new,
        name: "release".into(),
        members: members
            .iter()
            .map(|it| PersonId::from_random([*it; 16]))
            .collect(),
    };
    govern(change, None)
}

fn confirmation(person: u8) -> Command {
    Command::ConfirmProposal(Box::new(ConfirmProposal {
        proposal: ProposalId::from_random([5; 16]),
        person: PersonId::from_random([person; 16]),
        proof: proof(person),
        evidence: vec![person],
    }))
}

/// Persons 1 and 2 are admins, 3 an admin who approves, 4 an approver; `default` asks for two admins.
fn guarded() -> (World, ProjectId) {
    let mut world = World::default();
    for (number, roles) in [
        (1, vec![Role::Admin]),
        (2, vec![Role::Admin]),
        (3, vec![Role::Admin, Role::Approver]),
        (4, vec![Role::Approver]),
    ] {
        world.person(number, &roles);
    }
    let project = world.project(1);
    assert_eq!(world.give_by(1, release(&[3, 4], true)), Ok(Reply::Done));
    assert_eq!(world.give_by(1, policy("default", TOGETHER)), Ok(Reply::Done));
    (world, project)
}

impl World {
    fn policy(&self, name: &str) -> PolicyRecord {
        self.get(name).unwrap().unwrap()
    }

    fn proposal(&self) -> Proposal {
        self.get(ProposalId::from_random([5; 16]).as_str())
            .unwrap()
            .unwrap()
    }
}

#[test]
fn a_new_version_names_the_one_it_replaces_and_who_made_it() {
    let mut world = World::default();
    world.person(1, &[Role::Admin]);
    assert_eq!(world.give_by(1, policy("web", ALONE)), Ok(Reply::Done));
    assert_eq!(world.give_by(1, policy("web", LOOSE)), Ok(Reply::Done));
    let record = world.policy("web");
    assert_eq!(record.version, 2);
    assert_eq!(record.previous, Some(Digest::of(ALONE.as_bytes())));
    assert_eq!(
        (record.by, record.reason),
        (vec!["Person 1".to_owned()], "as agreed".to_owned())
    );
    let versions = world
        .with_prefix(Table::PolicyVersions, &PolicyRecord::versions_prefix("web"))
        .unwrap();
    assert_eq!(versions.len(), 2);
    // The same document again is no new version.
    assert_eq!(world.give_by(1, policy("web", LOOSE)), Ok(Reply::Nothing));
}

#[test]
fn a_policy_that_asks_for_two_admins_changes_only_with_a_second_ones_passkey() {
    let (mut world, _) = guarded();
    assert!(matches!(
        world.give_by(1, policy("default", LOOSE)),
        Ok(Reply::Proposed { .. })
    ));
    assert_eq!(world.policy("default").version, 1, "nothing holds yet");
    let own = world.give_by(1, confirmation(1));
    assert!(
        matches!(own, Err(Refusal::NotEligible { .. })),
        "the proposer can't be the second admin"
    );
    let approver = world.give_by(4, confirmation(4));
    assert!(
        matches!(approver, Err(Refusal::NotEligible { .. })),
        "only admins confirm"
    );
    assert_eq!(world.give_by(2, confirmation(2)), Ok(Reply::Done));
    let record = world.policy("default");
    assert_eq!(record.document, Digest::of(LOOSE.as_bytes()));
    assert_eq!(record.by, ["Person 1", "Person 2"]);
    assert!(record.proposal.is_some());
    assert_eq!(world.proposal().state, ProposalState::CarriedOut);
    assert!(matches!(
        world.give_by(3, confirmation(3)),
        Err(Refusal::Outdated { .. })
    ));
}

#[test]
fn a_machine_that_proposes_counts_as_no_admin() {
    let (mut world, _) = guarded();
    let key = Actor::Key {
        id: crate::domain::ids::ApiKeyId::from_random([1; 16]),
        name: "CI".into(),
    };
    assert!(matches!(
        world.give_as(&key, policy("default", LOOSE)),
        Ok(Reply::Proposed { .. })
    ));
    assert_eq!(world.give_by(1, confirmation(1)), Ok(Reply::Done));
    assert_eq!(world.policy("default").version, 1, "one admin is not two");
    assert_eq!(world.give_by(2, confirmation(2)), Ok(Reply::Done));
    assert_eq!(world.policy("default").version, 2);
}

#[test]
fn whoever_loses_the_role_before_the_end_no_longer_stands_behind_a_proposal() {
    let (mut world, _) = guarded();
    world.give_by(1, policy("default", LOOSE)).unwrap();
    let demotion = Command::ChangePerson {
        person: PersonId::from_random([1; 16]),
        name: None,
        roles: Some(BTreeSet::from([Role::Auditor])),
        active: None,
    };
    // Of oneself one may say so alone.
    world.give_by(1, demotion).unwrap();
    assert_eq!(world.give_by(2, confirmation(2)), Ok(Reply::Done));
    assert_eq!(world.policy("default").version, 1);
    assert_eq!(world.give_by(3, confirmation(3)), Ok(Reply::Done));
    assert_eq!(world.policy("default").version, 2);
}

#[test]
fn there_is_no_way_round_the_second_admin() {
    let (mut world, project) = guarded();
    // Another policy for the project, no gate at all, other members of the group, another group by its name.
    world.give(policy("free", LOOSE)).unwrap();
    let record: crate::domain::project::Project = world.get(project.as_str()).unwrap().unwrap();
    let settings = ProjectSettings {
        policy: Some("free".into()),
        ..record.settings
    };
    let elsewhere = Governed::Project {
        project: project.clone(),
        settings,
    };
    let removal = Governed::ProjectRemoval {
        project: project.clone(),
    };
    let standing_in = Governed::Delegation {
        delegation: crate::domain::ids::DelegationId::from_random([1; 16]),
        from: PersonId::from_random([4; 16]),
        to: PersonId::from_random([3; 16]),
        starts: Time(0),
        ends: Time(90_000),
    };
    for change in [
        govern(elsewhere, None),
        govern(removal, None),
        release(&[3], false),
        govern(standing_in, None),
    ] {
        let before = world.clone();
        assert!(matches!(world.give_by(1, change), Ok(Reply::Proposed { .. })));
        world = before;
    }
    let gone = govern(
        Governed::GroupRemoval {
            group: GroupId::from_random([4; 16]),
        },
        None,
    );
    assert!(
        matches!(world.give_by(1, gone), Err(Refusal::NotAllowed { .. })),
        "a rule names it"
    );
    let integration = IntegrationId::from_random([9; 16]);
    let away = world.give_by(1, Command::RemoveIntegration { integration });
    assert!(matches!(away, Err(Refusal::NotAllowed { .. })));
}

#[test]
fn a_proposal_is_void_once_what_it_replaces_has_changed() {
    let (mut world, _) = guarded();
    world.give_by(1, release(&[3], false)).unwrap();
    // Another way to the same group, carried in between.
    let other = Command::Govern(Box::new(Govern {
        fresh: ProposalId::from_random([6; 16]),
        ..match release(&[4], false) {
            Command::Govern(it) => *it,
            _ => unreachable!("release governs"),
        }
    }));
    world.give_by(1, other).unwrap();
    let second = match confirmation(2) {
        Command::ConfirmProposal(it) => Command::ConfirmProposal(Box::new(ConfirmProposal {
            proposal: ProposalId::from_random([6; 16]),
            ..*it
        })),
        _ => unreachable!("a confirmation confirms"),
    };
    assert_eq!(world.give_by(2, second), Ok(Reply::Done));
    assert!(matches!(
        world.give_by(2, confirmation(2)),
        Err(Refusal::Outdated { .. })
    ));
}

#[test]
fn only_the_admins_of_the_time_a_proposal_was_made_confirm_it() {
    let mut world = World::default();
    world.person(1, &[Role::Admin]);
    world.person(2, &[Role::Approver]);
    assert_eq!(
        world.give_by(
            1,
            policy(
                "default",
                &TOGETHER.replace("\"group:release\"", "\"person:p2@corp.example\"")
            )
        ),
        Ok(Reply::Done)
    );
    assert!(matches!(
        world.give_by(1, policy("default", LOOSE)),
        Ok(Reply::Proposed { .. })
    ));
    assert!(world.proposal().may_confirm.is_empty());
    // The proposer makes the second admin, of somebody who was there and of somebody new.
    let promotion = Command::ChangePerson {
        person: PersonId::from_random([2; 16]),
        name: None,
        roles: Some(BTreeSet::from([Role::Admin, Role::Approver])),
        active: None,
    };
    world.give_by(1, promotion).unwrap();
    world.person(3, &[Role::Admin]);
    for person in [2, 3] {
        let told = world.give_by(person, confirmation(person));
        let Err(Refusal::NotEligible { why }) = told else {
            panic!("{person}: {told:?}")
        };
        assert!(why.contains("when this was proposed"), "{why}");
    }
    assert_eq!(world.policy("default").version, 1);
    // What is proposed from now on, they may.
    let proposal = ProposalId::from_random([5; 16]);
    let reason = "not now".to_owned();
    world
        .give_by(1, Command::WithdrawProposal { proposal, reason })
        .unwrap();
    world.give_by(1, policy("default", LOOSE)).unwrap();
    assert_eq!(world.give_by(3, confirmation(3)), Ok(Reply::Done));
    assert_eq!(world.policy("default").version, 2);
}

#[test]
fn a_withdrawn_proposal_is_never_carried_out() {
    let (mut world, _) = guarded();
    world.give_by(1, policy("default", LOOSE)).unwrap();
    let proposal = ProposalId::from_random([5; 16]);
    let reason = "not needed".to_owned();
    let withdrawal = Command::WithdrawProposal { proposal, reason };
    assert_eq!(world.give_by(3, withdrawal.clone()), Ok(Reply::Done));
    assert!(matches!(
        world.give_by(2, confirmation(2)),
        Err(Refusal::Outdated { .. })
    ));
    assert!(matches!(
        world.give_by(2, withdrawal),
        Err(Refusal::Outdated { .. })
    ));
    assert_eq!(world.policy("default").version, 1);
}

#[test]
fn a_change_made_from_an_outdated_version_is_refused() {
    let mut world = World::default();
    world.person(1, &[Role::Admin]);
    world.give_by(1, policy("web", ALONE)).unwrap();
    let Command::Govern(it) = policy("web", LOOSE) else {
        unreachable!("a policy governs")
    };
    let stale = Govern {
        expected: Some(Digest([1; 32])),
        ..*it.clone()
    };
    let answer = world.give_by(1, Command::Govern(Box::new(stale)));
    assert!(matches!(answer, Err(Refusal::Outdated { .. })));
    let fresh = Govern {
        expected: Some(Digest::of(ALONE.as_bytes())),
        ..*it
    };
    assert_eq!(
        world.give_by(1, Command::Govern(Box::new(fresh))),
        Ok(Reply::Done)
    );
}

#[test]
fn an_invalid_document_is_refused_whole_and_the_last_good_one_stays() {
    let mut world = World::default();
    world.person(1, &[Role::Admin]);
    world.give_by(1, policy("web", ALONE)).unwrap();
    for broken in [
        "{",
        r#"{"rules":[],"rules":[]}"#,
        r#"{"rules":[{"name":"x","match":{}}]}"#,
    ] {
        assert!(matches!(
            world.give_by(1, policy("web", broken)),
            Err(Refusal::Invalid { .. })
        ));
        assert_eq!(world.policy("web").version, 1);
    }
    let unknown = r#"{"rules":[],"default":{"method":["passkey"],"approvers":["group:nobody"]}}"#;
    assert!(matches!(
        world.give_by(1, policy("web", unknown)),
        Err(Refusal::Invalid { .. })
    ));
}

#[test]
fn what_would_change_tells_the_requests_that_another_version_judges_otherwise() {
    let mut world = World::default();
    world.person(1, &[Role::Admin]);
    world.person(2, &[Role::Approver]);
    let project = world.project(1);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    let stricter = Document::parse(ALONE.as_bytes()).unwrap();
    let found = impact("default", &stricter, Time(0), 100, &world).unwrap();
    assert_eq!((found.looked_at, found.differences.len()), (1, 1));
    let difference = &found.differences[0];
    assert_eq!(difference.request.id, id);
    assert_eq!(difference.before.obligations[0].rule, "default");
    assert_eq!(difference.after.obligations[0].rule, "Code");
    // The same rules in other words change nothing; a policy that does not govern the project is not asked.
    let same = br#"{"rules":[],"default":{"method":["passkey","biometric"],"quorum":1}}"#;
    let same = Document::parse(same).unwrap();
    assert!(
        impact("default", &same, Time(0), 100, &world)
            .unwrap()
            .differences
            .is_empty()
    );
    assert_eq!(
        impact("other", &stricter, Time(0), 100, &world)
            .unwrap()
            .looked_at,
        0
    );
    // Older requests are out of the period, and a limit says that it was reached.
    assert_eq!(
        impact("default", &stricter, Time(world.now + 1), 100, &world)
            .unwrap()
            .looked_at,
        0
    );
    assert!(impact("default", &stricter, Time(0), 0, &world).unwrap().more);
    let skip = Document::parse(LOOSE.as_bytes()).unwrap();
    let found = impact("default", &skip, Time(0), 100, &world).unwrap();
    assert_eq!(found.differences[0].after.outcome, Outcome::Skip);
}

#[test]
fn what_would_change_knows_the_callers_own_limit() {
    let mut world = World::default();
    world.person(1, &[Role::Admin]);
    super::rules::deployment(&mut world, 300);
    let limit = |seconds: u32| {
        let text = format!(
            r#"{{"rules":[{{"name":"P","match":{{"environment":"prod*"}},"require":{{"method":["passkey"],"ttl_max":{seconds}}}}}],"default":{{"method":["passkey"]}}}}"#
        );
        Document::parse(text.as_bytes()).unwrap()
    };
    let told = impact("default", &limit(900), Time(0), 100, &world).unwrap();
    let (before, after) = (&told.differences[0].before, &told.differences[0].after);
    assert_eq!(
        (before.ttl, after.ttl),
        (Some(300), Some(300)),
        "the caller's is shorter"
    );
    let told = impact("default", &limit(60), Time(0), 100, &world).unwrap();
    assert_eq!(told.differences[0].after.ttl, Some(60));
}
