//! Telling people: browsers' push services, Apple's, mail and chats, each against a real server; who is told, how often, and
//! what is recorded of it.

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::phone::Scene;
use crate::support::appliance::Options;
use crate::support::gated::Gated;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;
use crate::support::push::Answering;
use crate::support::push::PushService;
use crate::support::push::Subscriber;
use crate::support::push::apple_claims;
use crate::support::push::apple_key;

const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(30);

/// Settings for a push service of the test's own.
pub fn settings(service: &PushService, more: &Value) -> Value {
    let mut settings = json!({
        "push_hosts": ["localhost"], "ca_pem": service.ca_pem, "contact": "mailto:ops@example.com",
    });
    for (name, value) in more.as_object().expect("an object") {
        settings[name] = value.clone();
    }
    settings
}

pub async fn configure(admin: &Person, settings: &Value) {
    admin
        .put("/api/v1/settings/notifications", settings)
        .await
        .expect(200);
}

/// Registers a browser of this person's at the service, and gives its keys.
pub async fn subscribe(person: &Person, service: &PushService, name: &str) -> (String, Subscriber) {
    let subscriber = Subscriber::new(&service.endpoint(name));
    let body = json!({"platform": "webpush", "subscription": subscriber.json, "name": name});
    let answer = person.post("/api/v1/me/devices", &body).await.expect(200);
    assert_eq!(answer["state"], "live");
    (text(&answer, "id"), subscriber)
}

/// The recorded messages, once there are that many.
async fn sent(admin: &Person, count: usize) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let events = admin.journal("notification.sent").await;
        if events.len() >= count {
            return events;
        }
        assert!(
            started.elapsed() < SOON,
            "{} of {count}: {events:#?}",
            events.len()
        );
        tokio::time::sleep(POLL).await;
    }
}

async fn wait_until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_says_title_target_and_files_to_the_browser_alone() {
    let service = PushService::start().await;
    let it = Gated::start().await;
    configure(&it.ada, &settings(&service, &json!({}))).await;
    let (device, browser) = subscribe(&it.bea, &service, "phone").await;
    let change = it.open("retry-card-payments", "main");
    let id = it.pending(&change, "main").await;

    let pushed = service.wait_for(1).await;
    service.assert_correct();
    let told = browser.read(&pushed[0].body);
    assert_eq!(told["web_push"], 8030);
    assert_eq!(told["app_badge"], 1);
    let shown = &told["notification"];
    assert_eq!(shown["title"], "Approval needed");
    let body = text(shown, "body");
    for said in ["group/app", "!1", "→ main", "1 file"] {
        assert!(body.contains(said), "no {said:?} in {body:?}");
    }
    assert_eq!(shown["navigate"], format!("{}/a/{id}", it.appliance.public_url()));
    assert_eq!(shown["tag"], pushed[0].headers["topic"]);
    assert!(
        !String::from_utf8_lossy(&pushed[0].body).contains("group/app"),
        "nothing of it is readable on the way"
    );

    // It is recorded, shown to people, and holds no address.
    let events = sent(&it.ada, 1).await;
    let data = &events[0]["data"];
    assert_eq!(data["to"], it.bea.id());
    assert_eq!(data["kind"], "opened");
    assert_eq!(data["deliveries"][0]["channel"], format!("device/{device}"));
    assert_eq!(data["deliveries"][0]["sent"], "delivered");
    it.bea
        .post(&format!("/api/v1/approvals/{id}/seen"), &json!({}))
        .await
        .expect(204);
    let notices = items(&it.ada.get(&format!("/api/v1/approvals/{id}/notices")).await);
    assert_eq!(notices[0]["to"]["name"], "Bea");
    assert!(notices[0]["seen_at"].is_string(), "{notices:?}");
    let everything = serde_json::to_string(&it.ada.journal("").await).unwrap() + &it.appliance.log();
    for secret in [&service.endpoint("phone"), &text(&browser.json["keys"], "auth")] {
        assert!(
            !everything.contains(secret.as_str()),
            "{secret} in journal or log"
        );
    }
    let page = String::from_utf8(it.ada.get(&format!("/a/{id}")).await.body).unwrap();
    assert!(page.contains("Who was told"), "the page says who was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_reduces_a_push_to_one_approval_waiting() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    configure(&it.ada, &settings(&service, &json!({"text": "minimal"}))).await;
    let (_, browser) = subscribe(&it.bea, &service, "phone").await;
    it.request("Deploy the secret project").await;
    let pushed = service.wait_for(1).await;
    let told = browser.read(&pushed[0].body);
    assert_eq!(told["notification"]["title"], "1 approval waiting");
    assert!(!told.to_string().contains("secret project"), "{told}");
    let ttl: u64 = pushed[0].headers["ttl"].parse().unwrap();
    assert!((590..=600).contains(&ttl), "the time that is left: {ttl}");
    service.assert_correct();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_push_service_is_acted_on() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    configure(
        &it.ada,
        &settings(
            &service,
            &json!({"per_requester": 100, "per_ten_minutes": 100, "per_hour": 100}),
        ),
    )
    .await;
    for (name, status) in [
        ("gone", 410),
        ("unknown", 404),
        ("large", 413),
        ("unsigned", 403),
        ("good", 201),
    ] {
        service.answer(name, Answering::status(status));
        subscribe(&it.bea, &service, name).await;
    }
    service.answer(
        "busy",
        Answering {
            retry_after: Some(1),
            ..Answering::status(429)
        },
    );
    subscribe(&it.bea, &service, "busy").await;
    it.request("Deploy").await;
    let events = sent(&it.ada, 1).await;
    let ended = |name: &str| {
        let all = events[0]["data"]["deliveries"].as_array().unwrap();
        let it = all.iter().find(|it| it["name"] == name).unwrap();
        (
            text(it, "sent"),
            it["reason"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(ended("good").0, "delivered");
    assert_eq!(ended("gone").0, "gone");
    assert_eq!(ended("unknown").0, "gone");
    assert_eq!(ended("large").0, "refused");
    let (word, reason) = ended("unsigned");
    assert_eq!(word, "refused");
    assert!(reason.contains("contact"), "says what an admin can do: {reason}");
    assert_eq!(ended("busy").0, "later");
    // What is gone is no device any more; what was busy is asked again, and not before it said.
    let live: Vec<String> = items(&it.bea.get("/api/v1/me/devices").await)
        .iter()
        .filter(|it| it["state"] == "live")
        .map(|it| text(it, "name"))
        .collect();
    assert!(
        !live.contains(&"gone".to_owned()) && !live.contains(&"unknown".to_owned()),
        "{live:?}"
    );
    service.answer("busy", Answering::status(201));
    let events = sent(&it.ada, 2).await;
    assert_eq!(events[1]["data"]["again"], true);
    assert_eq!(events[1]["data"]["deliveries"][0]["sent"], "delivered");
    let asked: Vec<Instant> = service
        .taken()
        .iter()
        .filter(|it| it.path.ends_with("/busy"))
        .map(|it| it.at)
        .collect();
    assert!(
        asked.len() == 2 && asked[1] - asked[0] >= Duration::from_secs(1),
        "{asked:?}"
    );
    // The next request goes to the live ones alone.
    it.request("Deploy again").await;
    sent(&it.ada, 3).await;
    let gone = service
        .taken()
        .iter()
        .filter(|it| it.path.ends_with("/gone"))
        .count();
    assert_eq!(gone, 1);
    service.assert_correct();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_kept_fresh_and_leads_nowhere_else() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    configure(&it.ada, &settings(&service, &json!({}))).await;
    let (first, browser) = subscribe(&it.bea, &service, "phone").await;
    // Each load of a page says it again; it stays one device.
    for _ in 0..3 {
        let body = json!({"platform": "webpush", "subscription": browser.json});
        let again = it.bea.post("/api/v1/me/devices", &body).await.expect(200);
        assert_eq!(again["id"], first);
    }
    assert_eq!(it.ada.journal("device.added").await.len(), 1);
    // The browser took another address.
    let newer = Subscriber::new(&service.endpoint("phone-2"));
    let body =
        json!({"platform": "webpush", "subscription": newer.json, "replaces": browser.json["endpoint"]});
    let moved = it.bea.post("/api/v1/me/devices", &body).await.expect(200);
    assert_ne!(moved["id"], first);
    let live = items(&it.bea.get("/api/v1/me/devices").await);
    assert_eq!(
        live.iter().filter(|it| it["state"] == "live").count(),
        1,
        "{live:?}"
    );
    // Somebody else signs in with that browser: it is theirs from then on.
    let body = json!({"platform": "webpush", "subscription": newer.json});
    it.ada.post("/api/v1/me/devices", &body).await.expect(200);
    let bea = items(&it.bea.get("/api/v1/me/devices").await);
    assert!(bea.iter().all(|it| it["state"] == "dead"), "{bea:?}");

    for (endpoint, status, problem) in [
        ("https://10.0.0.1/x", 422, "invalid"),
        ("https://169.254.169.254/latest", 422, "invalid"),
        ("https://evil.example/x", 422, "invalid"),
        ("https://localhost.evil.example/x", 422, "invalid"),
        ("ftp://localhost/x", 400, "bad-request"),
        ("https://user@localhost/x", 400, "bad-request"),
        ("no url", 400, "bad-request"),
    ] {
        let other = Subscriber::new(endpoint);
        let body = json!({"platform": "webpush", "subscription": other.json});
        assert_problem!(it.bea.post("/api/v1/me/devices", &body).await, status, problem);
    }
    let mut odd = Subscriber::new(&service.endpoint("odd")).json;
    odd["keys"]["p256dh"] = json!("AAAA");
    let body = json!({"platform": "webpush", "subscription": odd});
    assert_problem!(it.bea.post("/api/v1/me/devices", &body).await, 400, "bad-request");
    assert_problem!(
        it.ada.delete(&format!("/api/v1/me/devices/{first}")).await,
        404,
        "not-found"
    );
    // A host taken from the list is called no more, also for devices that were there.
    configure(
        &it.ada,
        &settings(&service, &json!({"push_hosts": ["fcm.googleapis.com"]})),
    )
    .await;
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    let _ = dan;
    it.request("Deploy").await;
    assert!(service.taken().is_empty(), "nothing was sent to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_fifty_requests_at_one_person_are_five_messages_and_the_queue_shows_all() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    configure(&it.ada, &settings(&service, &json!({"per_requester": 2}))).await;
    let (_, browser) = subscribe(&it.bea, &service, "phone").await;
    let mut all = Vec::new();
    for n in 0..50 {
        all.push(it.request(&format!("Deploy {n}")).await);
    }
    assert_eq!(it.bea.inbox().await.len(), 50, "the queue never hides");
    wait_until("everything is told", || async {
        let mut told = std::collections::BTreeSet::new();
        for event in it.ada.journal("notification.sent").await {
            for id in event["data"]["requests"].as_array().unwrap() {
                told.insert(id.to_string());
            }
        }
        told.len() >= 3
    })
    .await;
    // Two of this requester one by one, the rest in a digest; whatever came after the digest waits for the next.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let pushed = service.taken();
    assert!(pushed.len() <= 5, "{} messages", pushed.len());
    let last = browser.read(&pushed.last().unwrap().body);
    assert!(
        text(&last["notification"], "title").ends_with("approvals waiting"),
        "{last}"
    );
    assert_eq!(
        last["notification"]["navigate"],
        format!("{}/a/", it.appliance.public_url())
    );
    let mut told: Vec<String> = Vec::new();
    for event in it.ada.journal("notification.sent").await {
        for id in event["data"]["requests"].as_array().unwrap() {
            told.push(id.to_string());
        }
    }
    let count = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), count, "nothing is told twice");
    // A notification decides nothing by itself: its link opens a page.
    for id in &all[..2] {
        assert_eq!(it.ci.request(id).await["status"], "pending");
    }
    service.assert_correct();
}

#[tokio::test(flavor = "multi_thread")]
async fn reminders_go_on_until_somebody_decides_and_then_the_next_group_is_told() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    let eve = it.ada.bring_in(&it.appliance, "Eve", &["auditor"]).await;
    it.ada.create_group("leads", &[&eve]).await;
    configure(
        &it.ada,
        &settings(
            &service,
            &json!({"remind_after": 1, "reminders": 1, "escalate_after": 2, "escalate_to": ["leads"]}),
        ),
    )
    .await;
    let (_, bea) = subscribe(&it.bea, &service, "bea").await;
    let (_, lead) = subscribe(&eve, &service, "eve").await;
    let id = it.request("Deploy").await;
    let pushed = service.wait_for(3).await;
    let titles: Vec<String> = pushed
        .iter()
        .map(|it| {
            let whose = if it.path.ends_with("/bea") { &bea } else { &lead };
            text(&whose.read(&it.body)["notification"], "title")
        })
        .collect();
    assert_eq!(titles[0], "Approval needed");
    assert!(titles.contains(&"Still waiting for you".to_owned()), "{titles:?}");
    assert!(
        titles.contains(&"Nobody has decided yet".to_owned()),
        "{titles:?}"
    );
    it.bea.approve(&id).await;
    let before = service.taken().len();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(service.taken().len(), before, "decided: nobody is told any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_hold_messages_and_never_the_queue() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    configure(&it.ada, &settings(&service, &json!({}))).await;
    subscribe(&it.bea, &service, "phone").await;
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let clock = |hours: i64| {
        let at = &now + jiff::Span::new().hours(hours);
        format!("{:02}:{:02}", at.hour(), at.minute())
    };
    let quiet = json!({"mail": "never", "quiet": {"from": clock(-1), "until": clock(2), "zone": "UTC"}});
    it.bea.put("/api/v1/me/notifications", &quiet).await.expect(200);
    let id = it.request("Deploy").await;
    assert!(it.bea.has_in_inbox(&id).await);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(service.taken().is_empty(), "it is quiet");
    it.bea
        .put(
            "/api/v1/me/notifications",
            &json!({"mail": "never", "quiet": null}),
        )
        .await
        .expect(200);
    service.wait_for(1).await;
    for wrong in [
        json!({"quiet": {"from": "25:00", "until": "07:00", "zone": "UTC"}}),
        json!({"quiet": {"from": "22:00", "until": "22:00", "zone": "UTC"}}),
        json!({"quiet": {"from": "22:00", "until": "07:00", "zone": "Mars/Olympus"}}),
        json!({"mail": "sometimes"}),
    ] {
        let answer = it.bea.put("/api/v1/me/notifications", &wrong).await;
        assert!(matches!(answer.status, 400 | 422), "{wrong}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_survive_a_restart_and_are_not_sent_twice() {
    let service = PushService::start().await;
    let mut it = Scene::new().await;
    configure(&it.ada, &settings(&service, &json!({"remind_after": null}))).await;
    subscribe(&it.bea, &service, "phone").await;
    it.request("Deploy").await;
    sent(&it.ada, 1).await;
    it.appliance.restart().await;
    it.request("Deploy more").await;
    sent(&it.ada, 2).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(service.taken().len(), 2, "one for each request");
    // Told that it has to wait, and ended meanwhile: it goes out after the start.
    service.answer("phone", Answering::status(503));
    it.request("Deploy even more").await;
    sent(&it.ada, 3).await;
    it.appliance.kill9();
    service.answer("phone", Answering::status(201));
    it.appliance.restart().await;
    let events = sent(&it.ada, 4).await;
    assert_eq!(events[3]["data"]["deliveries"][0]["sent"], "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_are_told_at_once_of_what_went_around_and_of_not_me() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    configure(&it.ada, &settings(&service, &json!({}))).await;
    let (_, admin) = subscribe(&it.ada, &service, "admin").await;
    let id = it.request("Deploy").await;
    it.bea
        .post(&format!("/api/v1/approvals/{id}/not-me"), &json!({}))
        .await
        .expect(204);
    let pushed = service.wait_for(1).await;
    let told = admin.read(&pushed[0].body);
    assert_eq!(told["notification"]["title"], "Not me: a requester was reported");
    assert!(text(&told["notification"], "body").contains("Bea"), "{told}");
    // The owner of a passkey is told of a new one (threat C10).
    let (_, phone) = subscribe(&it.bea, &service, "bea").await;
    let mut tablet = crate::support::authenticator::Authenticator::synced(&it.appliance.origin());
    assert_eq!(it.bea.add_passkey(&mut tablet, "Tablet").await.status, 201);
    let pushed = service.wait_for(2).await;
    let told = phone.read(&pushed[1].body);
    assert_eq!(
        told["notification"]["title"],
        "A passkey was added to your account"
    );
    service.assert_correct();
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("a port")
        .port()
}

async fn wait_for_port(port: u16) {
    wait_until("the server listens", || async move {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_implementation_verifies_and_decrypts_our_push() {
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm/node_modules/web-push-testing");
    if !oracle.exists() {
        eprintln!(
            "SKIPPED an_independent_implementation_verifies_and_decrypts_our_push: npm's web-push-testing is not installed"
        );
        return;
    }
    let port = free_port();
    let script = format!(
        "const Api = require('./src/PushApiModel.js'); const Server = require('./src/server.js'); \
         new Server(new (Api.PushApiModel ?? Api)(), {port}).startServer();"
    );
    let child = Command::new("node")
        .args(["-e", &script])
        .current_dir(&oracle)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("node runs");
    let _oracle = Running(child);
    wait_for_port(port).await;

    let it = Scene::new().await;
    configure(
        &it.ada,
        &json!({"push_hosts": ["localhost"], "contact": "mailto:ops@example.com"}),
    )
    .await;
    let key = it.bea.get("/api/v1/push-key").await.expect(200);
    let http = crate::support::appliance::http_client(None);
    let form = format!(
        "userVisibleOnly=true&applicationServerKey={}",
        text(&key, "public_key")
    );
    let subscribed = http
        .post(format!("http://localhost:{port}/subscribe"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .expect("the oracle answers");
    let subscribed: Value = serde_json::from_slice(&subscribed.bytes().await.unwrap()).unwrap();
    let hash = text(&subscribed["data"], "clientHash");
    let url_safe = |name: &str| {
        let raw = text(&subscribed["data"]["keys"], name);
        let bytes = URL_SAFE_NO_PAD
            .decode(raw.trim_end_matches('='))
            .or_else(|_| STANDARD.decode(&raw))
            .expect("base64");
        // The oracle writes base64url of the bytes.
        URL_SAFE_NO_PAD.encode(bytes)
    };
    let body = json!({"platform": "webpush", "subscription": {
        "endpoint": text(&subscribed["data"], "endpoint"),
        "keys": {"p256dh": url_safe("p256dh"), "auth": url_safe("auth")}}});
    it.bea.post("/api/v1/me/devices", &body).await.expect(200);
    it.request("Deploy api 4.2").await;
    let events = sent(&it.ada, 1).await;
    assert_eq!(
        events[0]["data"]["deliveries"][0]["sent"], "delivered",
        "{events:#?}"
    );
    let got = http
        .post(format!("http://localhost:{port}/get-notifications"))
        .header("content-type", "application/json")
        .body(json!({"clientHash": hash}).to_string())
        .send()
        .await
        .expect("the oracle answers");
    let got = String::from_utf8(got.bytes().await.unwrap().to_vec()).unwrap();
    assert!(got.contains("Deploy api 4.2") && got.contains("8030"), "{got}");

    let expired = http
        .post(format!("http://localhost:{port}/expire-subscription/{hash}"))
        .send()
        .await
        .expect("the oracle answers");
    assert_eq!(expired.status(), 200);
    it.request("Deploy api 4.3").await;
    let events = sent(&it.ada, 2).await;
    assert_eq!(events[1]["data"]["deliveries"][0]["sent"], "gone", "{events:#?}");
}

/// As the one before it, by other hands again: what Debian's Node is too old for, Python decrypts everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn mozillas_decryption_reads_our_push_and_verifies_who_sent_it() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let there = Command::new(&python)
        .args(["-c", "import http_ece"])
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|it| it.success()) {
        eprintln!(
            "SKIPPED mozillas_decryption_reads_our_push_and_verifies_who_sent_it: PyPI's http_ece is not installed"
        );
        return;
    }
    let port = free_port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/push_oracle.py");
    let child = Command::new(&python)
        .arg(script)
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("python runs");
    let _oracle = Running(child);
    wait_for_port(port).await;
    let http = crate::support::appliance::http_client(None);
    let oracle = format!("http://localhost:{port}");
    let ask = async |path: &str| -> Value {
        let answer = http
            .get(format!("{oracle}{path}"))
            .send()
            .await
            .expect("an answer");
        serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON")
    };

    let it = Scene::new().await;
    configure(
        &it.ada,
        &json!({"push_hosts": ["localhost"], "contact": "mailto:ops@example.com"}),
    )
    .await;
    let body = json!({"platform": "webpush",
        "subscription": {"endpoint": format!("{oracle}/push"), "keys": ask("/keys").await}});
    it.bea.post("/api/v1/me/devices", &body).await.expect(200);
    let id = it.request("Deploy api 4.2 — fällt um?").await;
    let events = sent(&it.ada, 1).await;
    assert_eq!(
        events[0]["data"]["deliveries"][0]["sent"], "delivered",
        "{events:#?}"
    );
    let got = ask("/got").await;
    assert_eq!(got.as_array().map(Vec::len), Some(1), "{got}");
    let message: Value = serde_json::from_str(&text(&got[0], "text")).expect("JSON");
    assert_eq!(message["web_push"], 8030);
    assert_eq!(message["notification"]["body"], "Deploy api 4.2 — fällt um?");
    assert_eq!(
        message["notification"]["navigate"],
        format!("{}/a/{id}", it.appliance.public_url())
    );
    assert_eq!(got[0]["claims"]["sub"], "mailto:ops@example.com");
    let key = it.bea.get("/api/v1/push-key").await.expect(200);
    assert_eq!(
        got[0]["key"], key["public_key"],
        "the key that browsers were given"
    );

    http.post(format!("{oracle}/expire"))
        .body("")
        .send()
        .await
        .expect("an answer");
    it.request("Deploy api 4.3").await;
    let events = sent(&it.ada, 2).await;
    assert_eq!(events[1]["data"]["deliveries"][0]["sent"], "gone", "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apple_takes_our_request_and_its_refusals_are_acted_on() {
    let apple = PushService::apple().await;
    let it = Scene::new().await;
    let (pem, public) = apple_key();
    let apns = json!({"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.approvals",
        "base_url": apple.base(), "key": pem});
    let shown = it
        .ada
        .put(
            "/api/v1/settings/notifications",
            &settings(
                &apple,
                &json!({"apns": apns, "per_requester": 100, "per_ten_minutes": 100, "per_hour": 100}),
            ),
        )
        .await
        .expect(200);
    assert_eq!(shown["apns"]["key_set"], true);
    assert!(
        !shown.to_string().contains("PRIVATE KEY"),
        "a secret is never shown"
    );

    // A device shows that it holds its key before it is told anything.
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let point = p256::EncodedPoint::from(key.verifying_key());
    let mut spki = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    spki.extend_from_slice(point.as_bytes());
    let body = json!({"platform": "apns", "token": "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0",
        "name": "Bea's iPhone", "device_public_key": STANDARD.encode(&spki)});
    let pending = it.bea.post("/api/v1/me/devices", &body).await.expect(201);
    assert_eq!(pending["state"], "pending");
    let confirm = format!("/api/v1/me/devices/{}/confirm", text(&pending, "id"));
    let signed = |challenge: &str| {
        use p256::ecdsa::signature::Signer;
        let challenge = URL_SAFE_NO_PAD.decode(challenge).unwrap();
        let message = [b"signedapproval/device-challenge/v1\0".as_slice(), &challenge].concat();
        let signature: p256::ecdsa::Signature = key.sign(&message);
        STANDARD.encode(signature.to_der())
    };
    it.request("Before it is confirmed").await;
    let other =
        json!({"ceremony": pending["ceremony"], "signature": signed(&URL_SAFE_NO_PAD.encode([1; 32]))});
    assert_problem!(it.bea.post(&confirm, &other).await, 401, "ceremony-failed");
    let burnt = json!({"ceremony": pending["ceremony"], "signature": signed(&text(&pending, "challenge"))});
    assert_problem!(it.bea.post(&confirm, &burnt).await, 409, "ceremony-spent");
    let pending = it.bea.post("/api/v1/me/devices", &body).await.expect(201);
    let confirm = format!("/api/v1/me/devices/{}/confirm", text(&pending, "id"));
    let right = json!({"ceremony": pending["ceremony"], "signature": signed(&text(&pending, "challenge"))});
    assert_eq!(it.bea.post(&confirm, &right).await.expect(200)["state"], "live");

    let id = it.request("Deploy api 4.2").await;
    let pushed = apple.wait_for(1).await;
    let first = pushed
        .iter()
        .find(|it| String::from_utf8_lossy(&it.body).contains("Deploy api 4.2"))
        .cloned();
    let first = match first {
        Some(first) => first,
        None => apple.wait_for(2).await[1].clone(),
    };
    assert_eq!(
        first.path,
        "/3/device/00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"
    );
    for (name, value) in [
        ("apns-topic", "com.example.approvals"),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
    ] {
        assert_eq!(first.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(first.headers["apns-collapse-id"].len() <= 64);
    let expiration: i64 = first.headers["apns-expiration"].parse().unwrap();
    let left = expiration - jiff::Timestamp::now().as_second();
    assert!((580..=600).contains(&left), "the time that is left: {left}");
    let claims = apple_claims(&first, &public);
    assert_eq!(claims["iss"], "TEAM123456");
    let payload: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(payload["aps"]["alert"]["title"], "Approval needed");
    assert_eq!(payload["aps"]["category"], "APPROVAL");
    assert_eq!(payload["url"], format!("{}/a/{id}", it.appliance.public_url()));

    // The same token is used again, and a device Apple does not know is none any more.
    apple.answer(
        "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0",
        Answering {
            body: json!({"reason": "BadDeviceToken"}).to_string(),
            ..Answering::status(400)
        },
    );
    it.request("Deploy api 4.3").await;
    wait_until("the device is gone", || async {
        items(&it.bea.get("/api/v1/me/devices").await)
            .iter()
            .all(|it| it["state"] != "live")
    })
    .await;

    // A device that was unregistered (410): the same, and its owner is told why.
    let unregistered = "11".repeat(32);
    let body = json!({"platform": "apns", "token": unregistered, "name": "Bea's old iPhone",
        "device_public_key": STANDARD.encode(&spki)});
    let pending = it.bea.post("/api/v1/me/devices", &body).await.expect(201);
    let confirm = format!("/api/v1/me/devices/{}/confirm", text(&pending, "id"));
    let right = json!({"ceremony": pending["ceremony"], "signature": signed(&text(&pending, "challenge"))});
    assert_eq!(it.bea.post(&confirm, &right).await.expect(200)["state"], "live");
    apple.answer(
        &unregistered,
        Answering {
            body: json!({"reason": "Unregistered", "timestamp": 1_800_000_000_000_u64}).to_string(),
            ..Answering::status(410)
        },
    );
    it.request("Deploy api 4.4").await;
    wait_until("the unregistered device is gone", || async {
        items(&it.bea.get("/api/v1/me/devices").await)
            .iter()
            .all(|it| it["state"] != "live")
    })
    .await;
    let reasons: std::collections::BTreeMap<String, String> = it
        .ada
        .journal("device.ended")
        .await
        .iter()
        .map(|it| (text(&it["data"], "device"), text(&it["data"], "reason")))
        .collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[&text(&pending, "id")].contains("inactive"), "{reasons:?}");
    assert!(
        reasons.values().any(|it| it.contains("token was bad")),
        "{reasons:?}"
    );
    let tokens: std::collections::BTreeSet<String> = apple
        .taken()
        .iter()
        .map(|it| it.headers["authorization"].clone())
        .collect();
    assert_eq!(tokens.len(), 1, "one token for an hour");
}

/// A real mail server, which writes every mail it takes into a file; TLS by STARTTLS, and a login.
const MAIL_SERVER: &str = r#"
import asyncio, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, SMTP

class Handler:
    async def handle_DATA(self, server, session, envelope):
        with open(sys.argv[4], "ab") as out:
            out.write(b"TLS %s\nTO %s\n" % (str(session.ssl is not None).encode(), envelope.rcpt_tos[0].encode()))
            out.write(envelope.content + b"\n--end--\n")
        return "250 taken"

def login(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"gate", b"hunter2-hunter2")
    return AuthResult(success=good, handled=False)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
controller = Controller(Handler(), hostname="127.0.0.1", port=int(sys.argv[1]), tls_context=context,
    require_starttls=True, authenticator=login, auth_required=True)
controller.start()
asyncio.new_event_loop().run_forever()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_mail_arrives_over_tls() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let there = Command::new(&python).args(["-c", "import aiosmtpd"]).output();
    if !there.is_ok_and(|it| it.status.success()) {
        eprintln!("SKIPPED a_real_mail_arrives_over_tls: PyPI's aiosmtpd is not installed");
        return;
    }
    let it = Scene::new().await;
    let dir = it.appliance.dir().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(dir.join("mail.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("mail.key"), key.serialize_pem()).unwrap();
    let port = free_port();
    let child = Command::new(&python)
        .args(["-c", MAIL_SERVER, &port.to_string()])
        .args([dir.join("mail.pem"), dir.join("mail.key"), dir.join("mails")])
        .spawn()
        .unwrap();
    let _server = Running(child);
    wait_for_port(port).await;

    let mail = json!({"host": "localhost", "port": port, "tls": "starttls", "username": "gate",
        "from": "SignedApproval <gate@example.com>"});
    let wrong = json!({"ca_pem": certificate.pem(), "mail": mail});
    let mut good = wrong.clone();
    good["mail"]["password"] = json!("hunter2-hunter2");
    let shown = it
        .ada
        .put("/api/v1/settings/notifications", &good)
        .await
        .expect(200);
    assert_eq!(shown["mail"]["password_set"], true);
    assert!(!shown.to_string().contains("hunter2"));
    let id = it.request("Deploy the café \u{2192} prod").await;
    let events = sent(&it.ada, 1).await;
    let delivery = &events[0]["data"]["deliveries"][0];
    assert_eq!(delivery["channel"], "mail");
    assert_eq!(delivery["sent"], "delivered", "{events:#?}");
    let mails = std::fs::read_to_string(dir.join("mails")).unwrap();
    assert!(
        mails.contains("TLS True") && mails.contains("TO bea@example.test"),
        "{mails}"
    );
    assert!(mails.contains("Subject: Approval needed"), "{mails}");
    let plain = mails.replace("=\r\n", "").replace("=\n", "");
    assert!(plain.contains(&format!("/a/{id}")), "{mails}");
    assert!(mails.contains("Auto-Submitted: auto-generated"), "{mails}");
    let everything = serde_json::to_string(&it.ada.journal("").await).unwrap() + &it.appliance.log();
    assert!(!everything.contains("hunter2"), "the password stands nowhere");

    // A password that is wrong is refused for good, and said so; a server that is away is asked again.
    let mut other = good.clone();
    other["mail"]["password"] = json!("not-this-one");
    it.ada
        .put("/api/v1/settings/notifications", &other)
        .await
        .expect(200);
    it.request("Deploy again").await;
    let events = sent(&it.ada, 2).await;
    let delivery = &events[1]["data"]["deliveries"][0];
    assert_eq!(delivery["sent"], "refused", "{delivery}");
    assert!(!delivery.to_string().contains("not-this-one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_are_told_of_their_groups_requests() {
    let service = PushService::start().await;
    let it = Scene::new().await;
    configure(&it.ada, &settings(&service, &json!({}))).await;
    let group = it.ada.create_group("release", &[&it.bea]).await;
    let mut ids = Vec::new();
    for (kind, audience) in [
        ("slack", "everyone".to_owned()),
        ("mattermost", text(&group, "id")),
        ("teams", "everyone".to_owned()),
        ("ntfy", it.bea.id()),
    ] {
        let body = json!({"name": kind, "kind": kind, "audience": audience,
            "url": format!("{}/hooks/{kind}?token=very-secret", service.base())});
        let chat = it.ada.post("/api/v1/chats", &body).await.expect(201);
        assert!(!chat.to_string().contains("very-secret"), "{chat}");
        ids.push(text(&chat, "id"));
    }
    let id = it
        .request("Deploy <!channel> @here [x](https://evil.example)")
        .await;
    let taken = service.wait_for(4).await;
    let of = |kind: &str| {
        let it = taken
            .iter()
            .find(|it| it.path.contains(kind))
            .unwrap_or_else(|| panic!("nothing for {kind}"));
        String::from_utf8(it.body.clone()).unwrap()
    };
    for kind in ["slack", "mattermost", "teams"] {
        let body: Value = serde_json::from_str(&of(kind)).unwrap();
        assert!(body.to_string().contains(&format!("/a/{id}")), "{body}");
        // Slack knows no such links; its own signs are escaped.
        let linked = kind != "slack" && body.to_string().contains("](https://evil");
        assert!(!body.to_string().contains("<!channel>") && !linked, "{body}");
    }
    let ntfy = taken.iter().find(|it| it.path.contains("ntfy")).unwrap();
    assert_eq!(
        ntfy.headers["click"],
        format!("{}/a/{id}", it.appliance.public_url())
    );
    let events = sent(&it.ada, 4).await;
    let to: std::collections::BTreeSet<String> = events.iter().map(|it| text(&it["data"], "to")).collect();
    assert_eq!(to.len(), 4, "three rooms and Bea: {to:?}");
    let everything = serde_json::to_string(&it.ada.journal("").await).unwrap() + &it.appliance.log();
    assert!(!everything.contains("very-secret"), "a webhook's URL is a secret");
    it.ada
        .delete(&format!("/api/v1/chats/{}", ids[0]))
        .await
        .expect(204);
    for body in [
        json!({"name": "x", "kind": "irc", "url": "https://chat.example/"}),
        json!({"name": "x", "kind": "slack", "url": "http://chat.example/"}),
        json!({"name": "x", "kind": "slack", "url": "https://169.254.169.254/"}),
        json!({"name": "x", "kind": "slack", "url": "https://chat.example/", "audience": "nobody"}),
    ] {
        let answer = it.ada.post("/api/v1/chats", &body).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
    }
    assert_problem!(it.bea.get("/api/v1/chats").await, 403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_messages_are_checked_and_for_admins() {
    let it = Scene::start(Options::default()).await;
    let path = "/api/v1/settings/notifications";
    assert_problem!(it.bea.get(path).await, 403, "forbidden");
    assert_problem!(it.bea.put(path, &json!({})).await, 403, "forbidden");
    for (wrong, field) in [
        (json!({"contact": "mailto:root@localhost"}), "contact"),
        (json!({"contact": "https://localhost"}), "contact"),
        (json!({"push_hosts": ["*"]}), "push_hosts"),
        (json!({"push_hosts": ["UPPER.example"]}), "push_hosts"),
        (json!({"remind_after": 0}), "remind_after"),
        (json!({"reminders": 99}), "reminders"),
        (json!({"escalate_to": ["nobody"]}), "escalate_to"),
        (json!({"per_ten_minutes": 0}), "per_ten_minutes"),
        (json!({"ca_pem": "no certificate"}), "ca_pem"),
        (
            json!({"mail": {"host": "", "port": 25, "tls": "starttls", "from": "a@b.example"}}),
            "mail",
        ),
        (
            json!({"mail": {"host": "m", "port": 25, "tls": "none", "from": "a@b.example", "username": "u"}}),
            "mail.tls",
        ),
        (
            json!({"apns": {"team_id": "x", "key_id": "KEY1234567", "topic": "t"}}),
            "apns",
        ),
        (
            json!({"apns": {"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "t", "key": "none"}}),
            "apns.key",
        ),
    ] {
        let answer = it.ada.put(path, &wrong).await;
        assert_problem!(answer, 422, "invalid");
        assert_eq!(answer.json()["field"], field, "{wrong}");
    }
    for wrong in [
        json!({"no_such": 1}),
        json!([]),
        json!({"text": "loud"}),
        json!({"mail": {"host": 1}}),
    ] {
        assert_problem!(it.ada.put(path, &wrong).await, 400, "bad-request");
    }
}
