//! Setting a gate up, putting it back and trying it out: what is recorded, who may, and what a trial leaves behind.

use super::*;
use crate::domain::gate::{Finding, Gate, Strength};
use crate::domain::project::Enforcement;
use crate::domain::provision::{
    Alteration, PlannedChange, Provisioning, Seen, StepReport, StepResult, Trial,
};
use serde_json::json;

fn change(name: &str, before: bool, after: bool) -> PlannedChange {
    let settings = |on: bool| BTreeMap::from([("on".to_owned(), json!(on))]);
    PlannedChange {
        id: format!("set:{name}"),
        what: format!("Set {name}."),
        alteration: Alteration {
            kind: "project".into(),
            name: name.into(),
            number: None,
            before: Some(settings(before)),
            after: settings(after),
        },
    }
}

fn report(of: &PlannedChange, result: StepResult) -> StepReport {
    let changed = !matches!(result, StepResult::NotTried | StepResult::ByHand);
    StepReport {
        id: of.id.clone(),
        what: of.what.clone(),
        result,
        detail: String::new(),
        alteration: changed.then(|| of.alteration.clone()),
    }
}

impl World {
    fn start(&mut self, project: &ProjectId, changes: &[PlannedChange]) -> Result<Reply, Refusal> {
        self.give_by(
            1,
            Command::StartProvisioning {
                project: project.clone(),
                enforcement: Enforcement::CommitStatus,
                plan_sha256: Digest([3; 32]),
                reason: "as agreed".into(),
                changes: changes.to_vec(),
            },
        )
    }

    fn finish(&mut self, project: &ProjectId, steps: Vec<StepReport>) {
        let command = Command::RecordProvisioning {
            project: project.clone(),
            enforcement: Enforcement::CommitStatus,
            reason: "as agreed".into(),
            steps,
        };
        assert_eq!(self.give_by(1, command), Ok(Reply::Done));
    }

    fn restored(&mut self, project: &ProjectId, steps: Vec<StepReport>) {
        let command = Command::RecordRestoring {
            project: project.clone(),
            reason: "not any more".into(),
            steps,
        };
        assert_eq!(self.give_by(1, command), Ok(Reply::Done));
    }

    fn made(&self, project: &ProjectId) -> Vec<(String, bool)> {
        let found: Provisioning = self.get(project.as_str()).unwrap().unwrap();
        found.made.into_iter().map(|it| (it.id, it.certain)).collect()
    }

    fn look(&mut self, project: &ProjectId, findings: &[Finding]) -> Vec<String> {
        let command = Command::RecordGate {
            project: project.clone(),
            findings: findings.to_vec(),
        };
        self.give(command).unwrap();
        let gate: Gate = self.get(project.as_str()).unwrap().unwrap();
        gate.findings.into_iter().map(|it| it.code).collect()
    }

    fn start_trial(&mut self, project: &ProjectId, branch: &str) -> Result<Reply, Refusal> {
        let (project, branch) = (project.clone(), branch.to_owned());
        self.give_by(1, Command::StartTrial { project, branch })
    }

    fn try_out(&mut self, project: &ProjectId, branch: &str, seen: Seen, cleared: bool) {
        assert_eq!(self.start_trial(project, branch), Ok(Reply::Done));
        let command = Command::RecordTrial {
            project: project.clone(),
            branch: branch.to_owned(),
            attempts: Vec::new(),
            seen,
            cleared,
        };
        assert_eq!(self.give(command), Ok(Reply::Done));
    }
}

#[test]
fn what_is_about_to_be_made_can_be_undone_before_anybody_knows_how_it_went() {
    let mut world = World::default();
    let project = world.project(1);
    world.person(1, &[Role::Admin]);
    let (a, b, c) = (
        change("a", false, true),
        change("b", false, true),
        change("c", false, true),
    );
    assert_eq!(
        world.start(&project, &[a.clone(), b.clone(), c.clone()]),
        Ok(Reply::Done)
    );
    let all = ["set:a", "set:b", "set:c"].map(|it| (it.to_owned(), false));
    assert_eq!(world.made(&project), all);
    // One at a time, for as long as a run can take.
    assert!(matches!(
        world.start(&project, std::slice::from_ref(&a)),
        Err(Refusal::Outdated { .. })
    ));
    world.finish(
        &project,
        vec![
            report(&a, StepResult::Done),
            report(&b, StepResult::Failed),
            report(&c, StepResult::NotTried),
        ],
    );
    assert_eq!(
        world.made(&project),
        [("set:a".to_owned(), true), ("set:b".to_owned(), false)]
    );
    // Made twice, undone once each; what failed stays.
    let back = change("a", true, false);
    assert_eq!(
        world.start(&project, std::slice::from_ref(&back)),
        Ok(Reply::Done)
    );
    world.finish(&project, vec![report(&back, StepResult::Done)]);
    assert_eq!(world.made(&project).len(), 3);
    world.restored(
        &project,
        vec![
            report(&back, StepResult::Done),
            report(&b, StepResult::Failed),
            report(&a, StepResult::LeftAlone),
        ],
    );
    assert_eq!(world.made(&project), [("set:b".to_owned(), false)]);
}

#[test]
fn an_interrupted_run_gives_way_after_its_time() {
    let mut world = World::default();
    let project = world.project(1);
    world.person(1, &[Role::Admin]);
    let a = change("a", false, true);
    assert_eq!(world.start(&project, std::slice::from_ref(&a)), Ok(Reply::Done));
    assert!(matches!(
        world.start_trial(&project, "t"),
        Err(Refusal::Outdated { .. })
    ));
    world.now += 300 * 1000;
    assert_eq!(world.start(&project, std::slice::from_ref(&a)), Ok(Reply::Done));
    // What the first run may have done stays on the list.
    world.finish(&project, vec![report(&a, StepResult::Done)]);
    assert_eq!(
        world.made(&project),
        [("set:a".to_owned(), false), ("set:a".to_owned(), true)]
    );
}

#[test]
fn a_reason_is_asked_for_and_a_removed_project_is_none() {
    let mut world = World::default();
    let project = world.project(1);
    world.person(1, &[Role::Admin]);
    let command = |project: &ProjectId, reason: &str| Command::StartRestoring {
        project: project.clone(),
        reason: reason.to_owned(),
    };
    assert!(matches!(
        world.give_by(1, command(&project, " ")),
        Err(Refusal::Invalid { .. })
    ));
    assert!(matches!(
        world.give_by(1, command(&project, &"x".repeat(501))),
        Err(Refusal::Invalid { .. })
    ));
    assert_eq!(world.give_by(1, command(&project, "why")), Ok(Reply::Nothing));
    let nobody = ProjectId::from_random([9; 16]);
    assert_eq!(world.give_by(1, command(&nobody, "why")), Err(Refusal::Unknown));
    assert_eq!(world.start_trial(&nobody, "t"), Err(Refusal::Unknown));
}

#[test]
fn a_proved_hole_counts_until_it_is_answered_or_the_settings_change() {
    let mut world = World::default();
    let project = world.project(1);
    world.person(1, &[Role::Admin]);
    let others = Finding::new("others_merge", Strength::Soft, "Ann can merge.");
    world.look(&project, std::slice::from_ref(&others));
    let forged = Seen {
        open_while_waiting: Some(false),
        developer_merges: Some(false),
        developer_posts: Some(true),
        open_by_forgery: Some(true),
    };
    world.try_out(&project, "t1", forged, true);
    let both = ["others_merge", "trial_forged_status"];
    assert_eq!(world.look(&project, std::slice::from_ref(&others)), both);
    // Another name in the words is no other setting, nor is a note that opens nothing.
    let named = Finding::new("others_merge", Strength::Soft, "Ann and Ben can merge.");
    let note = Finding::new("token_expires", Strength::Hard, "Soon.");
    assert_eq!(
        world.look(&project, &[named, note]),
        ["others_merge", "token_expires", "trial_forged_status"]
    );
    // A trial that could not ask answers nothing.
    world.try_out(&project, "t2", Seen::default(), true);
    assert_eq!(world.look(&project, std::slice::from_ref(&others)), both);
    let held = Seen {
        open_by_forgery: Some(false),
        ..forged
    };
    world.try_out(&project, "t3", held, true);
    assert_eq!(
        world.look(&project, std::slice::from_ref(&others)),
        ["others_merge"]
    );
    world.try_out(&project, "t4", forged, true);
    assert_eq!(
        world.look(&project, &[]),
        [""; 0],
        "the setting that let others merge is gone"
    );
}

#[test]
fn what_a_trial_left_behind_is_cleared_before_another_begins() {
    let mut world = World::default();
    let project = world.project(1);
    world.person(1, &[Role::Admin]);
    world.try_out(&project, "t1", Seen::default(), false);
    assert!(matches!(
        world.start_trial(&project, "t2"),
        Err(Refusal::Outdated { .. })
    ));
    let clear = |branch: &str| Command::ClearTrial {
        project: project.clone(),
        branch: branch.to_owned(),
    };
    assert_eq!(world.give(clear("other")), Ok(Reply::Nothing));
    assert_eq!(world.give(clear("t1")), Ok(Reply::Done));
    assert_eq!(world.give(clear("t1")), Ok(Reply::Nothing));
    assert_eq!(world.start_trial(&project, "t2"), Ok(Reply::Done));
    let trial: Trial = world.get(project.as_str()).unwrap().unwrap();
    assert!(trial.to_clear && trial.ended_at.is_none());
    // The answer of a trial that was given up counts no more.
    let late = Command::RecordTrial {
        project: project.clone(),
        branch: "t1".into(),
        attempts: Vec::new(),
        seen: Seen::default(),
        cleared: true,
    };
    assert_eq!(world.give(late), Err(Refusal::Unknown));
}
