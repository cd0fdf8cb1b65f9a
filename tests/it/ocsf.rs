//! Entries as OCSF events, validated against the schema itself. Skipped, visibly, where the schema's package is missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::sinks::add;
use crate::sinks::lines;
use crate::sinks::until;
use crate::sinks::up_to_date;
use crate::sinks::with_directory;
use crate::support::appliance::Appliance;
use crate::support::authenticator::Lie;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::receivers::Kind;
use crate::support::receivers::Receiver;

/// The version in every event.
const VERSION: &str = "1.6.0";
/// Every class that is used, and the page that says so.
const CLASSES: [&str; 6] = ["2004", "3001", "3002", "3004", "3006", "6002"];

fn schemas() -> Option<BTreeMap<String, Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/venv/bin/python");
    let output = Command::new(python)
        .arg(root.join("tests/it/ocsf_schemas.py"))
        .arg(VERSION)
        .args(CLASSES)
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| serde_json::from_slice(&output.stdout).expect("the script writes JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_valid_by_the_schema_and_holds_the_entry() {
    let Some(schemas) = schemas() else {
        eprintln!(
            "SKIPPED every_event_is_valid_by_the_schema_and_holds_the_entry: ocsf-json-schema is not in target/venv"
        );
        return;
    };
    let appliance = Appliance::start(with_directory("stuck_after = \"1s\"\n")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver", "auditor"]).await;
    let file = json!({ "kind": "file", "name": "File", "file": "ocsf", "format": "ocsf" });
    let file = text(&add(&ada, &file).await, "id");
    // One of everything: sign-in and out, a refused one, a group made and removed, a key, a decision, an exception and its
    // review.
    bea.sign_out().await;
    bea.try_sign_in(&[Lie::NotVerified]).await;
    bea.sign_in().await;
    let group = text(&ada.create_group("release", &[&bea]).await, "id");
    ada.delete(&format!("/api/v1/groups/{group}")).await.expect(204);
    let key = ada.create_api_key("Pipeline", &["request"], &[]).await;
    let pipeline = appliance.api().with_key(&key.key);
    let request = pipeline
        .open_request(&json!({ "action": "deploy \u{202e}ä", "project": "shop" }))
        .await;
    bea.approve(&request).await;
    let dog = Receiver::start(Kind::Datadog { key: "right".into() });
    let made = json!({ "kind": "datadog", "name": "Dog", "url": dog.url(), "token": "wrong" });
    let stuck = text(&add(&ada, &made).await, "id");
    appliance.expect_error("a log sink is stuck");
    until(&ada, &stuck, |it| it["state"] == "stuck").await;
    let open = items(&ada.get("/api/v1/exceptions?state=open").await);
    let review = format!("/api/v1/exceptions/{}/review", text(&open[0], "id"));
    bea.post(&review, &json!({ "note": "wrong key" }))
        .await
        .expect(200);
    ada.post(&format!("/api/v1/sinks/{file}/test"), &json!({}))
        .await
        .expect(200);
    up_to_date(&ada, &file).await;

    let mut validators = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.set_default_draft(boon::Draft::V2020_12);
    let compiled: BTreeMap<String, boon::SchemaIndex> = schemas
        .into_iter()
        .map(|(class, schema)| {
            let id = schema["$id"].as_str().expect("it has an id").to_owned();
            compiler.add_resource(&id, schema).expect("a schema");
            let index = compiler.compile(&id, &mut validators).expect("it compiles");
            (class, index)
        })
        .collect();
    let (mut seen, mut seq) = (BTreeMap::<String, usize>::new(), 0);
    for line in lines(&appliance.dir().join("ocsf.jsonl")) {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        let class = event["class_uid"].to_string();
        let schema = compiled
            .get(&class)
            .unwrap_or_else(|| panic!("class {class} is not on the list"));
        if let Err(error) = validators.validate(&event, *schema) {
            panic!("{error:#}\n{event:#}");
        }
        let (activity, kind) = (
            event["activity_id"].as_u64().unwrap(),
            event["type_uid"].as_u64().unwrap(),
        );
        assert_eq!(kind, class.parse::<u64>().unwrap() * 100 + activity, "{event}");
        *seen.entry(class).or_default() += 1;
        if let Some(number) = event["metadata"]["sequence"].as_u64() {
            assert_eq!(number, seq, "in order");
            seq += 1;
            let leaf: Value = serde_json::from_str(event["raw_data"].as_str().unwrap()).expect("the entry");
            assert_eq!(leaf["seq"], number);
            assert_eq!(leaf["data"], event["unmapped"]);
        }
    }
    assert_eq!(
        seen.keys().map(String::as_str).collect::<Vec<_>>(),
        CLASSES,
        "{seen:?}"
    );
    // The page about the mapping names them all.
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sinks/ocsf.md")).unwrap();
    assert!(page.contains(VERSION) && CLASSES.iter().all(|it| page.contains(&format!(" {it} |"))));
}
