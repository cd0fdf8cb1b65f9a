//! Webhooks: whose they are, what is remembered of them and for how long.

use super::*;

const DAY: i64 = 24 * 3_600 * 1_000;

fn integration() -> IntegrationId {
    IntegrationId::from_random([1; 16])
}

/// A connected forge with project 42 gated.
fn gated() -> World {
    let mut world = World::default();
    let connect = Command::AddIntegration {
        integration: integration(),
        kind: ForgeKind::Gitlab,
        name: "GitLab".into(),
        base_url: "https://gitlab.example".into(),
        ca_pem: None,
        account: None,
    };
    world.give(connect).unwrap();
    add_project(&mut world, 2, "42");
    world
}

fn add_project(world: &mut World, id: u8, number: &str) {
    let settings = serde_json::json!({
        "forge_project_id": number, "branch_patterns": ["main"], "quorum": 1, "auto_merge": false, "policy": null,
        "approvers": [], "methods": null,
    });
    let add = Command::AddProject {
        project: ProjectId::from_random([id; 16]),
        integration: integration(),
        path: "g/a".into(),
        web_url: String::new(),
        settings: serde_json::from_value(settings).unwrap(),
    };
    world.give(add).unwrap();
}

fn hook(world: &mut World, delivery: &str, number: &str) -> Reply {
    let command = Command::ReceiveHook {
        integration: integration(),
        delivery: delivery.into(),
        event: "change".into(),
        forge_project_id: number.into(),
        number: Some(7),
    };
    world.give(command).unwrap()
}

fn rows(world: &World, table: Table) -> usize {
    world.rows.keys().filter(|(it, _)| *it == table).count()
}

#[test]
fn a_webhook_finds_its_project_by_number_as_long_as_it_is_gated() {
    let mut world = gated();
    assert!(matches!(hook(&mut world, "a", "42"), Reply::Done));
    assert_eq!(
        (rows(&world, Table::Hints), rows(&world, Table::Strangers)),
        (1, 0)
    );
    assert!(matches!(hook(&mut world, "a", "42"), Reply::Nothing));
    world
        .give(Command::RemoveIntegration {
            integration: integration(),
        })
        .unwrap();
    assert_eq!(rows(&world, Table::ForgeProjects), 0);
}

#[test]
fn a_webhook_of_a_stranger_is_recorded_once_a_day_until_it_is_gated() {
    let mut world = gated();
    assert!(matches!(hook(&mut world, "a", "99"), Reply::Done));
    assert!(matches!(hook(&mut world, "b", "99"), Reply::Nothing));
    assert_eq!(
        (rows(&world, Table::Hints), rows(&world, Table::Strangers)),
        (0, 1)
    );
    world.now += DAY;
    assert!(matches!(hook(&mut world, "c", "99"), Reply::Done));
    add_project(&mut world, 3, "99");
    assert_eq!(rows(&world, Table::Strangers), 0);
    assert!(matches!(hook(&mut world, "d", "99"), Reply::Done));
    assert_eq!(rows(&world, Table::Hints), 1);
}

#[test]
fn deliveries_are_forgotten_after_eight_days_and_not_before() {
    let mut world = gated();
    for n in 0..5 {
        hook(&mut world, &format!("old-{n}"), "42");
    }
    world.now += 8 * DAY - 1_000;
    assert!(matches!(hook(&mut world, "old-0", "42"), Reply::Nothing));
    world.now += 2_000;
    for n in 0..3 {
        hook(&mut world, &format!("new-{n}"), "42");
    }
    assert_eq!(rows(&world, Table::Deliveries), 3);
    assert_eq!(rows(&world, Table::DeliveryTimes), 3);
    assert!(matches!(hook(&mut world, "old-0", "42"), Reply::Done));
}
