//! Log sinks against receivers that refuse what the real ones refuse: every entry, in order, at least once, and the bytes
//! prove it by themselves.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::free_port;
use crate::support::browser::Browser;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;
use crate::support::receivers::Fault;
use crate::support::receivers::Kind;
use crate::support::receivers::Receiver;

/// Whatever has to arrive arrives within this.
pub const SOON: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(30);

/// An appliance whose files go beside its data.
pub fn with_directory(more: &str) -> Options {
    Options {
        files: vec![],
        ..Options::default().config(&format!("[sinks]\ndirectory = \"{{dir}}\"\n{more}"))
    }
}

pub async fn add(admin: &Person, body: &Value) -> Value {
    admin.post("/api/v1/sinks", body).await.expect(201)
}

pub async fn sink(admin: &Person, id: &str) -> Value {
    admin.get(&format!("/api/v1/sinks/{id}")).await.expect(200)
}

/// Waits until a sink has everything.
pub async fn up_to_date(admin: &Person, id: &str) -> Value {
    until(admin, id, |it| it["state"] == "up_to_date").await
}

pub async fn until(admin: &Person, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let it = sink(admin, id).await;
        if wanted(&it) {
            return it;
        }
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {it}");
        tokio::time::sleep(POLL).await;
    }
}

/// The root of RFC 6962 over leaves, written a second time.
fn root(leaves: &[&[u8]]) -> Vec<u8> {
    match leaves {
        [] => Sha256::digest(b"").to_vec(),
        [leaf] => Sha256::new()
            .chain_update([0])
            .chain_update(leaf)
            .finalize()
            .to_vec(),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            let both = [root(left), root(right)].concat();
            Sha256::new()
                .chain_update([1])
                .chain_update(both)
                .finalize()
                .to_vec()
        }
    }
}

/// What a receiver holds, put in order: each entry once. Panics if the order is not the journal's, if one is missing, or if
/// the newest checkpoint among them is not over exactly these bytes. Gives the number of entries it covers.
#[track_caller]
pub fn assert_whole(records: &[String]) -> u64 {
    let mut leaves: Vec<&[u8]> = Vec::new();
    let mut newest = None;
    for record in records {
        let value: Value = serde_json::from_str(record).unwrap_or_else(|e| panic!("{e}: {record}"));
        if value["type"] == "checkpoint" {
            newest = Some(value);
            continue;
        }
        if value["type"] == "sink.test" {
            continue;
        }
        let seq = usize::try_from(
            value["seq"]
                .as_u64()
                .unwrap_or_else(|| panic!("no seq: {record}")),
        )
        .unwrap();
        // A repetition goes back, never ahead.
        assert!(
            seq <= leaves.len(),
            "entry {} is missing before {record}",
            leaves.len()
        );
        if seq == leaves.len() {
            leaves.push(record.as_bytes());
        } else {
            assert_eq!(leaves[seq], record.as_bytes(), "a repetition is the same");
        }
    }
    let newest = newest.expect("there is a checkpoint");
    let size = usize::try_from(newest["size"].as_u64().unwrap()).unwrap();
    let note = newest["checkpoint"].as_str().unwrap();
    assert!(size <= leaves.len(), "the checkpoint comes after its entries");
    let lines: Vec<&str> = note.lines().collect();
    assert_eq!(lines[1], size.to_string());
    assert_eq!(
        lines[2],
        STANDARD.encode(root(&leaves[..size])),
        "the checkpoint is over these bytes"
    );
    u64::try_from(leaves.len()).unwrap()
}

pub fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Makes some entries.
async fn act(admin: &Person, round: &str) {
    for n in 0..3 {
        admin
            .create_group(&format!("group {round} {n} ä\u{1F512}\"\\"), &[])
            .await;
    }
}

/// A sink of each kind but syslog, which has real servers of its own.
pub struct Four {
    pub webhook: Receiver,
    pub hec: Receiver,
    pub datadog: Receiver,
    pub ids: Vec<String>,
}

impl Four {
    pub async fn start(admin: &Person) -> Four {
        let webhook = Receiver::start(Kind::Webhook);
        let hec = Receiver::start(Kind::Hec {
            token: "b7b0-hec".into(),
            acknowledges: true,
        });
        let datadog = Receiver::start(Kind::Datadog { key: "dd-key".into() });
        let hook = add(
            admin,
            &json!({ "kind": "webhook", "name": "Hook", "url": format!("{}/in", webhook.url()) }),
        )
        .await;
        webhook.with(|it| it.secret = text(&hook, "signing_secret"));
        let splunk = json!({
            "kind": "splunk_hec", "name": "Splunk", "url": hec.url(), "token": "b7b0-hec", "index": "audit",
        });
        let dog = json!({
            "kind": "datadog", "name": "Datadog", "url": datadog.url(), "token": "dd-key", "tags": ["env:test"],
        });
        let file = json!({ "kind": "file", "name": "File", "file": "journal" });
        let ids = vec![
            text(&hook, "id"),
            text(&add(admin, &splunk).await, "id"),
            text(&add(admin, &dog).await, "id"),
            text(&add(admin, &file).await, "id"),
        ];
        Four {
            webhook,
            hec,
            datadog,
            ids,
        }
    }

    pub async fn all_up_to_date(&self, admin: &Person) {
        for id in &self.ids {
            up_to_date(admin, id).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_gets_every_entry_in_order_and_the_bytes_prove_it() {
    let mut appliance = Appliance::start(with_directory("")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let mut four = Four::start(&ada).await;
    act(&ada, "one").await;
    four.all_up_to_date(&ada).await;

    // Each fails in its own way, the appliance is killed meanwhile, and goes on where it was.
    let wait = |seconds| Fault::Status(429, Some(seconds));
    four.webhook.with(|it| {
        it.faults.extend([
            Fault::Status(503, None),
            Fault::Cut,
            wait(1),
            Fault::Status(500, None),
        ]);
    });
    four.hec.with(|it| {
        it.faults
            .extend([Fault::Status(503, None), Fault::Cut, Fault::Cut])
    });
    four.datadog.stop();
    act(&ada, "two").await;
    let behind = until(&ada, &four.ids[2], |it| it["state"] == "failing").await;
    assert!(behind["lag"]["entries"].as_u64().unwrap() >= 3, "{behind}");
    appliance.kill9();
    appliance.restart().await;
    act(&ada, "three").await;
    four.datadog.go_on();
    four.all_up_to_date(&ada).await;
    appliance.stop().await;

    let file = lines(&appliance.dir().join("journal.jsonl"));
    let journal = assert_whole(&file);
    for receiver in [&four.webhook, &four.hec, &four.datadog] {
        assert_eq!(assert_whole(&receiver.records()), journal);
        let refusals = receiver.with(|it| it.refusals.clone());
        assert!(refusals.is_empty(), "{refusals:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_refused_gets_a_substitute_and_that_is_told() {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let hec = Receiver::start(Kind::Hec {
        token: "t0ken".into(),
        acknowledges: false,
    });
    hec.with(|it| it.poison = Some("poisonous".into()));
    let made = json!({ "kind": "splunk_hec", "name": "Splunk", "url": hec.url(), "token": "t0ken" });
    let id = text(&add(&ada, &made).await, "id");
    ada.create_group("before", &[]).await;
    ada.create_group("poisonous", &[]).await;
    ada.create_group("after", &[]).await;
    appliance.expect_error("a log sink does not take an entry");
    let state = until(&ada, &id, |it| it["withheld"] == 1 && it["state"] == "up_to_date").await;
    assert_eq!(state["lag"]["entries"], 0);

    // The receiver has no gap: in the entry's place stand its position and the hash by which the log knows it.
    let records: Vec<Value> = hec
        .records()
        .iter()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let poison = ada
        .journal("group.set")
        .await
        .into_iter()
        .find(|it| it["data"]["name"] == "poisonous")
        .unwrap();
    let substitute = records
        .iter()
        .find(|it| it["type"] == "entry.withheld")
        .expect("a substitute");
    assert_eq!(substitute["seq"], poison["seq"]);
    let mut leaf_hash = None;
    // The second way to the leaf's bytes: another receiver that takes everything.
    let hook = Receiver::start(Kind::Webhook);
    let other = add(
        &ada,
        &json!({ "kind": "webhook", "name": "Hook", "url": hook.url() }),
    )
    .await;
    hook.with(|it| it.secret = text(&other, "signing_secret"));
    up_to_date(&ada, &text(&other, "id")).await;
    for record in hook.records() {
        let value: Value = serde_json::from_str(&record).unwrap();
        if value["seq"] == poison["seq"] {
            let hash = Sha256::new()
                .chain_update([0])
                .chain_update(record.as_bytes())
                .finalize();
            leaf_hash = Some(hex::encode(hash));
        }
    }
    assert_eq!(substitute["leaf_hash"].as_str(), leaf_hash.as_deref());
    let seen: Vec<u64> = records
        .iter()
        .filter(|it| it["type"] != "checkpoint")
        .filter_map(|it| it["seq"].as_u64())
        .collect();
    let mut once = seen.clone();
    once.dedup();
    assert_eq!(once, (0..=*once.last().unwrap()).collect::<Vec<u64>>());
    // And somebody has to look.
    let open = items(&ada.get("/api/v1/exceptions?state=open").await);
    assert!(
        open.iter()
            .any(|it| it["type"] == "exception.sink_entry_withheld" && it["data"]["entry"] == poison["seq"]),
        "{open:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_stuck_is_an_exception_until_it_recovers() {
    let mut appliance = Appliance::start(Options::default().config("[sinks]\nstuck_after = \"1s\"\n")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let datadog = Receiver::start(Kind::Datadog { key: "right".into() });
    let made = json!({ "kind": "datadog", "name": "Dog", "url": datadog.url(), "token": "wrong" });
    let id = text(&add(&ada, &made).await, "id");
    appliance.expect_error("a log sink is stuck");
    let stuck = until(&ada, &id, |it| it["state"] == "stuck").await;
    assert!(text(&stuck, "reason").contains("403"), "{stuck}");
    assert!(!stuck.to_string().contains("wrong"), "{stuck}");
    assert!(stuck["lag"]["entries"].as_u64().unwrap() > 0 && stuck["failing_since"].is_string());
    let open = items(&ada.get("/api/v1/exceptions?state=open").await);
    assert_eq!(
        open.iter()
            .filter(|it| it["type"] == "exception.sink_stuck")
            .count(),
        1,
        "{open:?}"
    );
    // Told once, also over a restart.
    appliance.restart().await;
    until(&ada, &id, |it| it["failures"].as_u64() > Some(3)).await;
    assert_eq!(ada.journal("exception.sink_stuck").await.len(), 1);
    // A refused credential drops nothing: with the right one everything comes.
    let better = json!({ "kind": "datadog", "name": "Dog", "url": datadog.url(), "token": "right" });
    ada.put(&format!("/api/v1/sinks/{id}"), &better).await.expect(200);
    up_to_date(&ada, &id).await;
    assert_eq!(ada.journal("sink.recovered").await.len(), 1);
    up_to_date(&ada, &id).await;
    assert_whole(&datadog.records());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_how_far_each_sink_is_behind() {
    let port = free_port();
    let options = with_directory("").config(&format!(
        "metrics.listen = \"127.0.0.1:{port}\"\n[sinks]\ndirectory = \"{{dir}}\"\n"
    ));
    let appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let datadog = Receiver::start(Kind::Datadog { key: "right".into() });
    let dog = json!({ "kind": "datadog", "name": "Dog \"1\"", "url": datadog.url(), "token": "wrong" });
    let dog = text(&add(&ada, &dog).await, "id");
    let file = json!({ "kind": "file", "name": "File", "file": "journal" });
    let file = text(&add(&ada, &file).await, "id");
    until(&ada, &dog, |it| it["state"] == "failing").await;
    up_to_date(&ada, &file).await;
    let answer = appliance
        .api()
        .get(&format!("http://127.0.0.1:{port}/metrics"))
        .await;
    let metrics = answer.text();
    let value = |name: &str, sink: &str| {
        let line = metrics
            .lines()
            .find(|it| it.starts_with(&format!("{name}{{")) && it.contains(sink));
        let value = line.and_then(|it| it.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{name} of {sink}: {metrics}"))
    };
    let operate = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md")).unwrap();
    for (name, behind) in [
        ("signedapproval_sink_lag_entries", true),
        ("signedapproval_sink_failing", true),
        ("signedapproval_sink_lag_seconds", false),
        ("signedapproval_sink_withheld_entries", false),
    ] {
        assert_eq!(value(name, &file), 0.0, "{name}");
        assert!(!behind || value(name, &dog) >= 1.0, "{name}");
        assert!(operate.contains(&format!("`{name}`")), "{name} is not documented");
    }
    assert!(metrics.contains("name=\"Dog \\\"1\\\"\""), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_waits_for_a_sink_where_that_is_asked_for() {
    let settings = "require = \"any\"\nrequire_wait = \"1s\"\n";
    let appliance = Appliance::start(with_directory(settings)).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("Pipeline", &["request"], &[]).await;
    let pipeline = appliance.api().with_key(&key.key);
    let request = pipeline
        .open_request(&json!({ "action": "deploy", "project": "shop" }))
        .await;

    // No sink at all: nothing is decided, and what was about to be is written down.
    let refused = bea.decide(&request, "approve", None).await;
    assert_problem!(&refused, 503, "sink-required");
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert_eq!(pipeline.request(&request).await["status"], "pending");
    assert_eq!(ada.journal("decision.recorded").await.len(), 0);
    assert_eq!(ada.journal("decision.announced").await.len(), 1);

    // One that takes nothing does not help; one that does, does.
    let hook = Receiver::start(Kind::Webhook);
    hook.with(|it| it.secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into());
    add(
        &ada,
        &json!({ "kind": "webhook", "name": "Hook", "url": hook.url() }),
    )
    .await;
    assert_problem!(bea.decide(&request, "approve", None).await, 503, "sink-required");
    add(
        &ada,
        &json!({ "kind": "file", "name": "File", "file": "journal" }),
    )
    .await;
    bea.approve(&request).await;
    assert_eq!(pipeline.request(&request).await["status"], "approved");
    // The file has the announcement, and has had it before the decision.
    let records = lines(&appliance.dir().join("journal.jsonl"));
    let announced = records
        .iter()
        .rposition(|it| it.contains("\"type\":\"decision.announced\""));
    assert!(announced.is_some(), "{records:?}");
    let announced = ada.journal("decision.announced").await;
    let recorded = ada.journal("decision.recorded").await;
    assert_eq!((announced.len(), recorded.len()), (3, 1));
    assert!(announced[2]["seq"].as_u64() < recorded[0]["seq"].as_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_never_come_back_and_do_not_follow_to_another_place() {
    let appliance = Appliance::start(with_directory("")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let (one, two) = (Receiver::start(Kind::Webhook), Receiver::start(Kind::Webhook));
    let made = json!({
        "kind": "webhook", "name": "Hook", "url": format!("{}/a", one.url()), "authorization": "Bearer hush-hush",
    });
    let hook = add(&ada, &made).await;
    let (id, secret) = (text(&hook, "id"), text(&hook, "signing_secret"));
    one.with(|it| it.secret = secret.clone());
    up_to_date(&ada, &id).await;
    assert!(one.with(|it| it.calls.iter().all(|call| call.contains("Bearer hush-hush"))));
    for shown in [
        ada.get("/api/v1/sinks").await.text(),
        sink(&ada, &id).await.to_string(),
    ] {
        assert!(!shown.contains("hush") && !shown.contains("whsec_"), "{shown}");
    }
    // The same place keeps its secrets.
    let renamed = json!({ "kind": "webhook", "name": "Renamed", "url": format!("{}/a", one.url()) });
    let same = ada
        .put(&format!("/api/v1/sinks/{id}"), &renamed)
        .await
        .expect(200);
    assert!(same["signing_secret"].is_null());
    up_to_date(&ada, &id).await;
    // Another place gets a new one, and no header of the old.
    let moved = json!({ "kind": "webhook", "name": "Renamed", "url": format!("{}/a", two.url()) });
    let moved = ada.put(&format!("/api/v1/sinks/{id}"), &moved).await.expect(200);
    assert_ne!(text(&moved, "signing_secret"), secret);
    two.with(|it| it.secret = text(&moved, "signing_secret"));
    up_to_date(&ada, &id).await;
    let calls = two.with(|it| it.calls.clone());
    assert!(
        !calls.is_empty() && !calls.iter().any(|it| it.contains("hush")),
        "{calls:?}"
    );
    let splunk = json!({ "kind": "splunk_hec", "name": "S", "url": one.url(), "token": "t-o-k-e-n" });
    let splunk = text(&add(&ada, &splunk).await, "id");
    let moved = json!({ "kind": "splunk_hec", "name": "S", "url": two.url() });
    let problem = ada.put(&format!("/api/v1/sinks/{splunk}"), &moved).await;
    assert_problem!(&problem, 422, "invalid");
    assert_eq!(problem.json()["field"], "token");
    // Nothing of a secret is in the journal, the log or a file.
    let journal = serde_json::to_string(&ada.journal("").await).unwrap();
    for secret in ["hush-hush", "t-o-k-e-n", secret.as_str()] {
        assert!(
            !journal.contains(secret) && !appliance.log().contains(secret),
            "{secret}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_message_tells_whether_it_arrives_and_nothing_else() {
    let appliance = Appliance::start(with_directory("")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let auditor = ada.bring_in(&appliance, "Audrey", &["auditor"]).await;
    let hook = Receiver::start(Kind::Webhook);
    let made = add(
        &ada,
        &json!({ "kind": "webhook", "name": "Hook", "url": hook.url(), "format": "ocsf" }),
    )
    .await;
    let path = format!("/api/v1/sinks/{}/test", text(&made, "id"));
    hook.with(|it| it.secret = text(&made, "signing_secret"));
    up_to_date(&ada, &text(&made, "id")).await;
    assert_eq!(
        ada.post(&path, &json!({})).await.expect(200),
        json!({ "stored": true, "reason": null, "told": "It was taken." })
    );
    assert!(hook.records().iter().any(|it| it.contains("sink.test")));
    // The entry about the test goes there as well, and must not meet the fault.
    up_to_date(&ada, &text(&made, "id")).await;
    hook.with(|it| it.faults.push_back(Fault::Status(503, None)));
    let failed = ada.post(&path, &json!({})).await.expect(200);
    assert_eq!(failed["stored"], false);
    assert!(
        text(&failed, "reason").contains("503") && !failed.to_string().contains("banner"),
        "{failed}"
    );
    up_to_date(&ada, &text(&made, "id")).await;
    hook.with(|it| {
        it.faults
            .push_back(Fault::Redirect("http://127.0.0.1:1/admin".into()))
    });
    let redirected = ada.post(&path, &json!({})).await.expect(200);
    assert!(text(&redirected, "reason").contains("redirect"), "{redirected}");
    assert_problem!(auditor.post(&path, &json!({})).await, 403, "forbidden");
    assert_eq!(ada.journal("sink.tested").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_that_lead_where_they_must_not_or_make_no_sense_are_refused() {
    let appliance = Appliance::start(with_directory("")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let auditor = ada.bring_in(&appliance, "Audrey", &["auditor"]).await;
    let web = |url: &str| json!({ "kind": "webhook", "name": "W", "url": url });
    let syslog = |more: Value| {
        let mut it = json!({ "kind": "syslog", "name": "S", "host": "logs.example" });
        it.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        it
    };
    let cases = [
        (web("https://10.0.0.5/x"), 422, "url"),
        (web("https://[fd00::1]/x"), 422, "url"),
        (web("https://169.254.169.254/latest"), 422, "url"),
        (web("https://192.168.1.1"), 422, "url"),
        (web("http://example.com/x"), 422, "url"),
        (web("https://u:p@example.com/"), 422, "url"),
        (web("https://example.com/?token=x"), 422, "url"),
        (web("file:///etc/passwd"), 422, "url"),
        (web(""), 400, "url"),
        (json!({ "kind": "webhook", "name": "W" }), 400, "url"),
        (json!({ "kind": "kafka", "name": "W" }), 400, "kind"),
        (
            json!({ "kind": "webhook", "name": "W", "url": "https://example.com", "token": "x" }),
            400,
            "token",
        ),
        (
            json!({ "kind": "webhook", "name": "W", "url": "https://example.com", "from": "tomorrow" }),
            400,
            "from",
        ),
        (
            json!({ "kind": "webhook", "name": "W", "url": "https://example.com", "ca_pem": "x" }),
            422,
            "url",
        ),
        (
            json!({ "kind": "splunk_hec", "name": "W", "url": "https://example.com" }),
            422,
            "token",
        ),
        (
            json!({ "kind": "splunk_hec", "name": "W", "url": "https://example.com", "token": "a\nb" }),
            400,
            "token",
        ),
        (
            json!({ "kind": "datadog", "name": "W", "url": "https://example.com", "token": "x", "tags": ["a,b"] }),
            400,
            "tags",
        ),
        (
            json!({ "kind": "file", "name": "F", "file": "../../etc/x" }),
            400,
            "file",
        ),
        (json!({ "kind": "file", "name": "F", "file": "" }), 400, "file"),
        (json!({ "kind": "file", "name": "", "file": "f" }), 400, "name"),
        (syslog(json!({ "port": 0 })), 400, "port"),
        (syslog(json!({ "port": 70000 })), 400, "port"),
        (syslog(json!({ "transport": "udp" })), 400, "transport"),
        (syslog(json!({ "facility": 24 })), 400, "facility"),
        (
            syslog(json!({ "message_bytes_max": 100 })),
            400,
            "message_bytes_max",
        ),
        (syslog(json!({ "host": "a b" })), 400, "host"),
        (syslog(json!({ "host": "10.0.0.1" })), 422, "ca_pem"),
        (
            syslog(json!({ "transport": "tcp", "ca_pem": "x" })),
            400,
            "ca_pem",
        ),
        (syslog(json!({ "client_certificate": "x" })), 422, "ca_pem"),
    ];
    for (body, status, field) in cases {
        let answer = ada.post("/api/v1/sinks", &body).await;
        assert_eq!(answer.status, status, "{body} {answer:?}");
        assert_eq!(answer.json()["field"], field, "{body} {answer:?}");
    }
    assert_problem!(
        auditor.post("/api/v1/sinks", &web("https://example.com")).await,
        403,
        "forbidden"
    );
    assert!(items(&auditor.get("/api/v1/sinks").await).is_empty());

    // A name that leads into a private network is found out when it is called: localhost is let through by evaluation mode
    // alone, and here by nobody.
    let file = add(&ada, &json!({ "kind": "file", "name": "F", "file": "f" })).await;
    assert_problem!(
        ada.post(
            "/api/v1/sinks",
            &json!({ "kind": "file", "name": "F", "file": "g" })
        )
        .await,
        409,
        "duplicate"
    );
    assert_problem!(
        ada.post(
            "/api/v1/sinks",
            &json!({ "kind": "file", "name": "G", "file": "f" })
        )
        .await,
        409,
        "duplicate"
    );
    let path = format!("/api/v1/sinks/{}", text(&file, "id"));
    assert_problem!(ada.put(&path, &web("https://example.com")).await, 422, "invalid");
    ada.delete(&path).await.expect(204);
    assert_problem!(ada.get(&path).await, 404, "not-found");
    assert_problem!(ada.delete("/api/v1/sinks/snk_0").await, 404, "not-found");
    // It had the word of its own removal.
    let started = Instant::now();
    while !lines(&appliance.dir().join("f.jsonl"))
        .iter()
        .any(|it| it.contains("sink.removed"))
    {
        assert!(started.elapsed() < SOON);
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_sinks_are_added_tested_and_removed_in_the_browser() {
    if !can_run("log_sinks_are_added_tested_and_removed_in_the_browser") {
        return;
    }
    let appliance = Appliance::start(with_directory("stuck_after = \"1s\"\n")).await;
    let dora = Person::set_up(&appliance, "Dora").await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let invited = dora.invite("Ada", &["admin"]).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    let page = format!("{}/dashboard/settings/log-sinks", appliance.public_url());
    browser.goto(&page).await;
    browser.wait_for_text("No log sink yet").await;
    assert_eq!(
        browser.text(".crumbs").await.replace(['\n', ' '], ""),
        "Dashboard→Settings→Logsinks"
    );

    // A webhook: its secret is shown once, and it works.
    let hook = Receiver::start(Kind::Webhook);
    browser
        .script(
            "document.querySelectorAll('details.adding').forEach((it) => (it.open = true))",
            &[],
        )
        .await;
    shoot(&browser, "log-sinks-forms").await;
    browser.fill("#hook-name", "Archive <b>").await;
    browser.fill("#hook-url", &hook.url()).await;
    browser.click("form:has(#hook-url) button").await;
    browser
        .wait_until("!document.querySelector('#made').hidden")
        .await;
    let secret = browser.text("#new-secret").await;
    assert!(secret.starts_with("whsec_"), "{secret}");
    hook.with(|it| it.secret = secret);
    let archive = text(&items(&dora.get("/api/v1/sinks").await)[0], "id");
    up_to_date(&dora, &archive).await;
    // One that does not work says so beside its name.
    let datadog = Receiver::start(Kind::Datadog { key: "right".into() });
    let dog = json!({ "kind": "datadog", "name": "Datadog EU", "url": datadog.url(), "token": "wrong" });
    let dog = text(&add(&dora, &dog).await, "id");
    appliance.expect_error("a log sink is stuck");
    until(&dora, &dog, |it| it["state"] == "stuck").await;
    // The page is of one moment, and each word about the other one is an entry more.
    let started = std::time::Instant::now();
    loop {
        browser.goto(&page).await;
        if browser.text("main").await.contains("Up to date") {
            break;
        }
        assert!(started.elapsed() < SOON, "the archive never is up to date");
    }
    browser.wait_for_text("it does not accept our credential").await;
    assert!(!browser.source().await.contains("whsec_"));
    browser.click(&format!("#{archive} form button.small")).await;
    browser.wait_for_text("It was taken.").await;
    shoot(&browser, "log-sinks").await;
    // Settings are changed here as well: what is left empty stays, and the reason is recorded.
    browser.click(&format!("#{archive} .adding summary")).await;
    let form = format!("#{archive} .adding form");
    browser.fill(&format!("{form} [name=name]"), "Archive 2").await;
    browser.fill(&format!("{form} [name=reason]"), "it moved").await;
    shoot(&browser, "log-sinks-change").await;
    browser.click(&format!("{form} .primary")).await;
    browser
        .wait_until(&format!("!document.getElementById('{archive}-saved').hidden"))
        .await;
    let changed = dora.journal("sink.changed").await.pop().expect("an entry");
    assert_eq!(
        (&changed["data"]["name"], &changed["data"]["reason"]),
        (&json!("Archive 2"), &json!("it moved")),
        "{changed}"
    );
    let secret = format!("return document.getElementById('{archive}-secret').textContent");
    assert_eq!(
        browser.script(&secret, &[]).await,
        "",
        "the address is the same, and so is the secret"
    );
    up_to_date(&dora, &archive).await;
    browser.goto(&page).await;
    browser.click(&format!("#{dog} .sure summary")).await;
    browser.click(&format!("#{dog} .reject")).await;
    browser
        .wait_until(&format!("!document.getElementById('{dog}')"))
        .await;
    assert_clean(&browser, &appliance).await;
}
