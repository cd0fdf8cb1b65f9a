//! What the forge's settings enforce: recorded when it changes, reported when it got worse.

use super::*;
use crate::domain::gate::{Finding, Gate, Strength};

fn finding(code: &str, leaves: Strength) -> Finding {
    Finding::new(code, leaves, format!("About {code}."))
}

impl World {
    fn found(&mut self, project: &ProjectId, findings: &[Finding]) -> Vec<Event> {
        let command = Command::RecordGate {
            project: project.clone(),
            findings: findings.to_vec(),
        };
        let plan = decide(command, &Actor::System, Time(self.now), self).unwrap();
        let events: Vec<Event> = plan
            .steps
            .into_iter()
            .map(|it| match it {
                Step::Event(event) => *event,
                other => panic!("{other:?}"),
            })
            .collect();
        for event in &events {
            self.seq += 1;
            let place = Place {
                seq: self.seq,
                time: Time(self.now),
                leaf: Digest([1; 32]),
            };
            apply(event, place, self).unwrap();
        }
        events
    }

    fn gate(&self, project: &ProjectId) -> Option<Gate> {
        self.get(project.as_str()).unwrap()
    }
}

fn drifts(events: &[Event]) -> Vec<(Strength, Strength, Vec<&str>)> {
    events
        .iter()
        .filter_map(|it| match it {
            Event::ExceptionProtectionDrift {
                before,
                strength,
                findings,
                ..
            } => Some((
                *before,
                *strength,
                findings.iter().map(|it| it.code.as_str()).collect(),
            )),
            _ => None,
        })
        .collect()
}

#[test]
fn the_first_look_is_recorded_and_is_no_drift() {
    let mut world = World::default();
    let project = world.project(1);
    let events = world.found(&project, &[finding("unprotected", Strength::None)]);
    assert_eq!((events.len(), drifts(&events).len()), (1, 0));
    assert_eq!(world.gate(&project).unwrap().strength, Strength::None);
    assert!(
        world.found(&ProjectId::from_random([9; 16]), &[]).is_empty(),
        "nobody knows it"
    );
}

#[test]
fn what_is_the_same_is_recorded_once_a_day() {
    let mut world = World::default();
    let project = world.project(1);
    let (a, b) = (finding("a", Strength::Soft), finding("b", Strength::Hard));
    assert_eq!(world.found(&project, &[a.clone(), b.clone()]).len(), 1);
    assert!(
        world
            .found(&project, &[b.clone(), a.clone(), b.clone()])
            .is_empty()
    );
    world.now += 24 * 3600 * 1000 - 1;
    assert!(world.found(&project, &[a.clone(), b.clone()]).is_empty());
    world.now += 1;
    assert_eq!(world.found(&project, &[a, b]).len(), 1);
}

#[test]
fn a_weaker_gate_and_a_new_kind_of_finding_are_drift() {
    let mut world = World::default();
    let project = world.project(1);
    world.found(&project, &[]);
    let merge = finding("others_merge", Strength::Soft);
    let events = world.found(&project, std::slice::from_ref(&merge));
    assert_eq!(
        drifts(&events),
        [(Strength::Hard, Strength::Soft, vec!["others_merge"])]
    );
    // As soft as before, and worse all the same.
    let skipped = finding("skipped_pipelines", Strength::Soft);
    let events = world.found(&project, &[merge.clone(), skipped.clone()]);
    assert_eq!(
        drifts(&events),
        [(Strength::Soft, Strength::Soft, vec!["skipped_pipelines"])]
    );
    // The same kind, leaving less.
    let open = finding("others_merge", Strength::None);
    let events = world.found(&project, &[open, skipped]);
    assert_eq!(
        drifts(&events),
        [(Strength::Soft, Strength::None, vec!["others_merge"])]
    );
    // Mended: recorded, and nothing to look over.
    let events = world.found(&project, &[merge]);
    assert_eq!((events.len(), drifts(&events).len()), (1, 0));
}

#[test]
fn other_settings_of_ours_begin_a_new_story() {
    let mut world = World::default();
    let project = world.project(1);
    world.person(1, &[Role::Admin]);
    world.found(&project, &[]);
    let settings: crate::domain::project::Project = world.get(project.as_str()).unwrap().unwrap();
    let settings = ProjectSettings {
        auto_merge: !settings.settings.auto_merge,
        ..settings.settings
    };
    let change = Governed::Project {
        project: project.clone(),
        settings,
    };
    assert_eq!(world.give_by(1, govern(change, None)), Ok(Reply::Done));
    assert_eq!(world.gate(&project), None);
    let events = world.found(&project, &[finding("nobody_merges", Strength::Hard)]);
    assert_eq!((events.len(), drifts(&events).len()), (1, 0));
}
