//! The numbered rules of the policy that show only over time: one test or more each, named after it.

use super::*;
use crate::domain::decide::wanted_status;

fn configure(world: &mut World, project: &ProjectId, edit: impl FnOnce(&mut ProjectSettings)) {
    let record: crate::domain::project::Project = world.get(project.as_str()).unwrap().unwrap();
    let mut settings = record.settings;
    edit(&mut settings);
    let change = Governed::Project {
        project: project.clone(),
        settings,
    };
    world.give(govern(change, None)).unwrap();
}

pub(super) fn default_policy(world: &mut World, document: &str) {
    let change = Governed::Policy {
        name: "default".into(),
        document: Digest::of(document.as_bytes()),
    };
    world.give(govern(change, Some(document))).unwrap();
}

#[test]
fn rule_07_every_contributor_is_refused_and_a_stranger_costs_one_more_or_blocks() {
    for part in [Part::CommitAuthor, Part::Committer, Part::CoAuthor, Part::Pusher] {
        let (mut world, project) = world_with(1, 4, true);
        let mut change = facts(&project, &"1".repeat(40), MAIN);
        change.contributors.push(Contributor {
            part,
            account: None,
            name: "Three".into(),
            email: Some("P3@corp.example".into()),
        });
        world.observe(change);
        let id = world.current(&project).unwrap();
        let own = world.decision(&id, 3, Answer::Approve);
        assert!(matches!(own, Err(Refusal::SelfApproval { .. })), "{part:?}");
    }
    for (setting, quorum, blocked) in [(Unattributed::OneMore, 2, false), (Unattributed::Block, 1, true)] {
        let (mut world, project) = world_with(1, 4, true);
        configure(&mut world, &project, |it| it.unattributed = setting);
        let mut change = facts(&project, &"1".repeat(40), MAIN);
        change.contributors[0].email = Some("stranger@elsewhere.example".into());
        world.observe(change);
        let request = world.request(&world.current(&project).unwrap());
        assert_eq!(
            (request.obligations[0].quorum, request.blocked),
            (quorum, blocked),
            "{setting:?}"
        );
    }
}

#[test]
fn rule_07_a_private_commit_address_of_this_gitlab_bars_whose_account_it_names() {
    // The forge is git.corp.example, and person 1 is linked to account 77 there.
    for (email, barred, quorum) in [
        ("77-dev@users.noreply.git.corp.example", true, 1),
        (" 77-other-name@USERS.NOREPLY.git.corp.example", true, 1),
        ("78-dev@users.noreply.git.corp.example", false, 2),
        ("77-dev@users.noreply.elsewhere.example", false, 2),
        ("dev@users.noreply.git.corp.example", false, 2),
    ] {
        let (mut world, project) = world_with(1, 4, true);
        let mut change = facts(&project, &"1".repeat(40), MAIN);
        change.author.id = "99".into();
        change.contributors[0].email = Some(email.into());
        world.observe(change);
        let id = world.current(&project).unwrap();
        let told = world.decision(&id, 1, Answer::Approve);
        assert_eq!(
            matches!(told, Err(Refusal::SelfApproval { .. })),
            barred,
            "{email}: {told:?}"
        );
        assert_eq!(world.request(&id).obligations[0].quorum, quorum, "{email}");
    }
}

#[test]
fn rule_04_a_project_adds_control_files_that_no_rule_skips() {
    let (mut world, project) = world_with(1, 3, true);
    default_policy(
        &mut world,
        r#"{"rules":[{"name":"Docs","match":{"paths":["src/**"]},"action":"skip"}]}"#,
    );
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    // The engine ends a skipped request at once; to these tests a skip is the absence of obligations.
    assert!(
        world
            .request(&world.current(&project).unwrap())
            .obligations
            .is_empty()
    );
    configure(&mut world, &project, |it| {
        it.control_files = vec!["src/a.rs".into()]
    });
    world.observe(facts(&project, &"2".repeat(40), MAIN));
    assert_eq!(
        world.request(&world.current(&project).unwrap()).obligations[0].rule,
        "default"
    );
    let record: crate::domain::project::Project = world.get(project.as_str()).unwrap().unwrap();
    let settings = ProjectSettings {
        control_files: vec!["!bad".into()],
        environments: Vec::new(),
        ..record.settings
    };
    let change = Governed::Project { project, settings };
    assert!(matches!(
        world.give(govern(change, None)),
        Err(Refusal::Invalid { .. })
    ));
}

#[test]
fn rule_09_what_waits_too_long_expires_and_an_unused_approval_lapses() {
    let (mut world, project) = world_with(1, 3, true);
    let rule = r#"{"rules":[{"name":"Quick","match":{"branch":"main"},"require":{"method":["passkey"],"ttl_max":10}}]}"#;
    default_policy(&mut world, rule);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let waits = world.current(&project).unwrap();
    let deadline = world.request(&waits).expires_at.unwrap();
    let expire = |request: &RequestId| Command::Expire {
        request: request.clone(),
    };
    assert_eq!(world.give(expire(&waits)), Ok(Reply::Nothing), "not yet");
    world.now = deadline.0;
    world.give(expire(&waits)).unwrap();
    assert_eq!(world.request(&waits).status, Status::Expired);
    world.observe(facts(&project, &"2".repeat(40), MAIN));
    let granted = world.current(&project).unwrap();
    world.decision(&granted, 2, Answer::Approve).unwrap();
    world.now = world.request(&granted).expires_at.unwrap().0;
    world.give(expire(&granted)).unwrap();
    assert!(world.request(&granted).lapsed);
    let key = StatusKey {
        project,
        head: "2".repeat(40),
        target: MAIN.into(),
    };
    let status = wanted_status(&key, false, &world).unwrap().unwrap();
    assert_eq!(status.state, GateState::Failed, "the status turns back");
}

const QUICK: &str =
    r#"{"rules":[{"name":"Quick","match":{"branch":"main"},"require":{"method":["passkey"],"ttl_max":60}}]}"#;
const QUICK_PROD: &str = r#"{"rules":[{"name":"Quick","match":{"environment":"prod*"},"require":{"method":["passkey"],"ttl_max":60}}]}"#;

pub(super) fn deployment(world: &mut World, ttl_seconds: u64) -> RequestId {
    let id = RequestId::from_random([3; 16]);
    world
        .give(Command::OpenRequest(Box::new(OpenRequest {
            id: id.clone(),
            action: "Deploy".into(),
            environment: Some("production".into()),
            project: None,
            digest: None,
            claimed: None,
            ttl_seconds: Some(ttl_seconds),
            requester: Requester::Key {
                id: crate::domain::ids::ApiKeyId::from_random([5; 16]),
                name: "CI".into(),
            },
            owner: None,
            trial: false,
            subject: "{}".into(),
            idempotency: None,
            callback_url: None,
        })))
        .unwrap();
    id
}

/// An approval by somebody who was shown the request as the rules judge it now.
fn decision_as_judged(world: &mut World, id: &RequestId, person: u8) -> Result<Reply, Refusal> {
    let judged = crate::domain::decide::as_judged_now(world.request(id), world).unwrap();
    world.give(Command::Decide(Box::new(Decide {
        request: id.clone(),
        person: PersonId::from_random([person; 16]),
        answer: Answer::Approve,
        method: Method::Passkey,
        comment: String::new(),
        break_glass: false,
        match_code: None,
        intent: Vec::new(),
        challenge_issued_at: Time(world.now),
        subject_sha256: judged.subject_sha256,
        policy_sha256: judged.policy.sha256,
        proof: proof(person).into(),
    })))
}

#[test]
fn rule_13_a_tightened_ttl_max_holds_for_what_waits_and_never_lengthens() {
    let judged = |world: &World, id: &RequestId| {
        crate::domain::decide::as_judged_now(world.request(id), world).unwrap()
    };
    let shorten = |id: &RequestId| Command::Shorten { request: id.clone() };
    let mut world = World::default();
    world.person(2, &[Role::Approver]);
    let id = deployment(&mut world, 86_400);
    let opened = world.request(&id).created_at;
    default_policy(&mut world, QUICK_PROD);
    let minute = opened.plus_seconds(60);
    assert_eq!(judged(&world, &id).expires_at, Some(minute), "at once");
    assert_eq!(world.give(shorten(&id)), Ok(Reply::Done));
    assert_eq!(world.give(shorten(&id)), Ok(Reply::Nothing), "once is enough");
    let record = world.request(&id);
    assert_eq!((record.ttl_seconds, record.expires_at), (Some(60), Some(minute)));
    let rows = world
        .scan_raw(Table::Deadlines, &[], &[0xff; 9], 9, false)
        .unwrap();
    assert_eq!(rows.len(), 1, "the old deadline is gone");
    // A looser rule gives no time back.
    default_policy(&mut world, &QUICK_PROD.replace("60", "6000"));
    assert_eq!(judged(&world, &id).expires_at, Some(minute));
    assert_eq!(world.give(shorten(&id)), Ok(Reply::Nothing));
    world.now = minute.0;
    assert!(matches!(
        decision_as_judged(&mut world, &id, 2),
        Err(Refusal::AlreadyEnded { .. })
    ));
    world.give(Command::Expire { request: id.clone() }).unwrap();
    assert_eq!(world.request(&id).status, Status::Expired);
}

#[test]
fn rule_13_a_change_without_limit_gets_the_new_one_and_so_does_its_approval() {
    let (mut world, project) = world_with(1, 3, true);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    assert_eq!(world.request(&id).expires_at, None);
    default_policy(&mut world, QUICK);
    let judged = crate::domain::decide::as_judged_now(world.request(&id), &world).unwrap();
    assert_eq!(judged.expires_at, Some(judged.created_at.plus_seconds(60)));
    let told = decision_as_judged(&mut world, &id, 2);
    assert!(told.is_ok(), "{told:?}");
    let record = world.request(&id);
    assert_eq!(record.status, Status::Approved);
    let used_until = record.decided_at.unwrap().plus_seconds(60);
    assert_eq!(
        record.expires_at,
        Some(used_until),
        "the approval's use has a limit"
    );
}

#[test]
fn rule_10_one_rejection_sticks_to_the_head() {
    let (mut world, project) = world_with(1, 3, true);
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    let id = world.current(&project).unwrap();
    world.decision(&id, 2, Answer::Reject).unwrap();
    assert_eq!(world.request(&id).status, Status::Rejected);
    assert!(matches!(
        world.decision(&id, 3, Answer::Approve),
        Err(Refusal::AlreadyEnded { .. })
    ));
    world.observe(facts(&project, &"1".repeat(40), MAIN));
    assert_eq!(
        world.current(&project),
        Some(id.clone()),
        "the same head asks nobody again"
    );
    world.observe(facts(&project, &"2".repeat(40), MAIN));
    let fresh = world.current(&project).unwrap();
    assert_ne!(fresh, id);
    assert!(world.decision(&fresh, 3, Answer::Approve).is_ok());
}

#[test]
fn rule_11_bind_base_says_what_else_voids_an_approval() {
    let cases = [
        // Setting, merge base moves, target moves: is it still the same request?
        (BindBase::MergeBase, true, false, false),
        (BindBase::MergeBase, false, true, true),
        (BindBase::TargetSha, true, false, false),
        (BindBase::TargetSha, false, true, false),
        (BindBase::None, true, true, true),
    ];
    for (setting, base, target, same) in cases {
        let (mut world, project) = world_with(1, 3, true);
        configure(&mut world, &project, |it| it.bind_base = setting);
        let mut change = facts(&project, &"1".repeat(40), MAIN);
        change.target_sha = (setting == BindBase::TargetSha).then(|| "d".repeat(40));
        world.observe(change.clone());
        let id = world.current(&project).unwrap();
        world.decision(&id, 2, Answer::Approve).unwrap();
        if base {
            change.base = "c".repeat(40);
        }
        if target && setting == BindBase::TargetSha {
            change.target_sha = Some("e".repeat(40));
        }
        world.observe(change);
        assert_eq!(
            world.current(&project).as_ref() == Some(&id),
            same,
            "{setting:?} {base} {target}"
        );
        assert_eq!(world.request(&id).lapsed, !same);
    }
}

#[test]
fn rule_12_closing_cancels_and_reopening_asks_anew() {
    let (mut world, project) = world_with(1, 3, true);
    let change = facts(&project, &"1".repeat(40), MAIN);
    world.observe(change.clone());
    let id = world.current(&project).unwrap();
    world.observe(ChangeFacts {
        state: ChangeState::Closed,
        ..change.clone()
    });
    assert_eq!(world.request(&id).status, Status::Cancelled);
    world.observe(change);
    assert_ne!(world.current(&project), Some(id));
}

#[test]
fn rule_20_a_branch_outside_the_patterns_is_not_gated() {
    let (mut world, project) = world_with(1, 3, true);
    world.observe(facts(&project, &"1".repeat(40), "refs/heads/dev"));
    assert_eq!(world.current(&project), None);
    let key = StatusKey {
        project,
        head: "1".repeat(40),
        target: "refs/heads/dev".into(),
    };
    assert_eq!(wanted_status(&key, false, &world).unwrap(), None);
}
