//! Power cuts: what was acknowledged is there afterwards, and the forge ends right. Data that is not whole is refused,
//! never replaced.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::gated::Change;
use crate::support::gated::Gated;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::Person;
use crate::support::person::SignedDecision;
use crate::support::person::text;

/// Sends a signed decision from a task of its own; `None` when the appliance died before its answer.
async fn send(
    api: Api,
    origin: String,
    cookie: String,
    signed: SignedDecision,
    answered: Arc<Semaphore>,
) -> Option<(String, u16, String)> {
    let path = format!("/api/v1/approvals/{}/decision", signed.request);
    let headers = [
        ("content-type", "application/json"),
        ("origin", &origin[..]),
        ("cookie", &cookie[..]),
    ];
    let body = signed.body.to_string().into_bytes();
    let answer = api.try_send("POST", &path, &headers, Some(body)).await.ok()?;
    answered.add_permits(1);
    let credential = if answer.status == 200 {
        text(&answer.json(), "credential")
    } else {
        answer.text()
    };
    Some((signed.request, answer.status, credential))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_decision_or_request_is_lost() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let cleo = ada.bring_in(&appliance, "Cleo", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let mut approved: Vec<(String, String)> = Vec::new();
    let mut opened: Vec<String> = Vec::new();
    for round in 0..4_u32 {
        let mut signed = Vec::new();
        for nth in 0..12 {
            let id = ci
                .open_request(&json!({"action": format!("{round}-{nth}"), "ttl_seconds": 3600}))
                .await;
            let who = if nth % 2 == 0 { &bea } else { &cleo };
            let one = who
                .begin_decision(&id, "approve", None)
                .await
                .expect("an approver may decide");
            signed.push((one, who.session_cookie().expect("signed in")));
        }
        let mut sent = Vec::new();
        let answered = Arc::new(Semaphore::new(0));
        for (one, cookie) in signed {
            sent.push(tokio::spawn(send(
                appliance.api(),
                appliance.origin(),
                cookie,
                one,
                answered.clone(),
            )));
        }
        // More requests come in meanwhile.
        let mut asked = Vec::new();
        for nth in 0..12 {
            let ci = ci.clone();
            asked.push(tokio::spawn(async move {
                let body = json!({"action": format!("more {round}-{nth}"), "ttl_seconds": 3600}).to_string();
                let headers = [("content-type", "application/json")];
                let answer = ci
                    .try_send(
                        "POST",
                        "/api/v1/approvals/request",
                        &headers,
                        Some(body.into_bytes()),
                    )
                    .await;
                answer
                    .ok()
                    .filter(|it| it.status == 201)
                    .map(|it| text(&it.json(), "id"))
            }));
        }
        // Each round a little later: before the first answer, then amid them.
        drop(answered.acquire_many(round * 3).await.expect("never closed"));
        appliance.kill9();
        for one in sent {
            if let Some((request, status, credential)) = one.await.expect("no panic") {
                assert_eq!(status, 200, "{credential}");
                approved.push((request, credential));
            }
        }
        for one in asked {
            opened.extend(one.await.expect("no panic"));
        }
        appliance.restart().await;
        for (request, credential) in &approved {
            let now = ci.request(request).await;
            assert_eq!(now["status"], "approved", "round {round}: {now}");
            assert_eq!(
                now["decisions"][0]["credential"], *credential,
                "round {round}: {now}"
            );
            assert_eq!(
                now["decisions"].as_array().map(Vec::len),
                Some(1),
                "round {round}: {now}"
            );
        }
        for request in &opened {
            assert_eq!(ci.request(request).await["status"], "pending", "round {round}");
        }
    }
    assert!(
        approved.len() >= 3 + 6 + 9,
        "every kill came after so many answers"
    );
    eprintln!(
        "{} approvals and {} requests were acknowledged before a kill",
        approved.len(),
        opened.len()
    );
    let events = ada.journal("").await;
    for (nth, event) in events.iter().rev().enumerate() {
        let at = events.len() - 1 - nth;
        // Whichever way the list runs, no entry is missing or there twice.
        let seq = event["seq"].as_u64().expect("a position");
        assert!(seq == nth as u64 || seq == at as u64, "{event}");
    }
    for (request, credential) in approved.iter().take(3) {
        let file = ci.get(&format!("/api/v1/credentials/{credential}")).await;
        let told = appliance
            .api()
            .send(
                "POST",
                "/api/v1/verify",
                &[("content-type", "application/json")],
                Some(file.body),
            )
            .await
            .expect(200);
        assert_eq!(told["valid"], true, "{request}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forge_ends_right_whatever_moment_the_power_fails() {
    let mut it = Gated::start().await;
    for round in 0..3_u32 {
        // A burst of webhooks, cut off.
        let changes: Vec<Change> = (0..6)
            .map(|nth| it.open(&format!("burst-{round}-{nth}"), "main"))
            .collect();
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 150)).await;
        it.appliance.kill9();
        it.appliance.restart().await;
        let mut signed = Vec::new();
        for change in &changes {
            it.expect_status_within(&change.head, "main", "pending", SOON);
            let id = text(&it.request(change, "main", "pending").await, "id");
            signed.push(
                it.bea
                    .begin_decision(&id, "approve", None)
                    .await
                    .expect("Bea may decide"),
            );
        }
        // A burst of approvals, cut off.
        let cookie = it.bea.session_cookie().expect("signed in");
        let answered = Arc::new(Semaphore::new(0));
        let mut all = Vec::new();
        for one in signed {
            let (api, origin) = (it.appliance.api(), it.appliance.origin());
            all.push(tokio::spawn(send(
                api,
                origin,
                cookie.clone(),
                one,
                answered.clone(),
            )));
        }
        drop(answered.acquire_many(round * 2).await.expect("never closed"));
        it.appliance.kill9();
        let mut acknowledged = Vec::new();
        for one in all {
            if let Some((request, 200, _)) = one.await.expect("no panic") {
                acknowledged.push(request);
            }
        }
        it.appliance.restart().await;
        for change in &changes {
            let newest = it.requests(change.iid).await.remove(0);
            let id = text(&newest, "id");
            if acknowledged.contains(&id) {
                assert_eq!(newest["status"], "approved", "acknowledged, then lost: {newest}");
            } else if newest["status"] == "pending" {
                it.bea.approve(&id).await;
            }
            it.expect_status_within(&change.head, "main", "success", SOON);
            // A post whose answer the crash swallowed is posted again; it says the same.
            let last = it
                .gitlab
                .shown_status(PROJECT, &change.head, "signedapproval/main");
            assert_eq!(last.map(|it| it.status).as_deref(), Some("success"), "{change:?}");
            assert_eq!(
                it.requests(change.iid).await.len(),
                1,
                "one request for {change:?}"
            );
        }
        it.gitlab.assert_no_violations();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_request_is_the_same_one_after_a_crash() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let ci = appliance
        .api()
        .with_key(&ada.create_api_key("CI", &["request"], &[]).await.key);
    let body = json!({"action": "Deploy", "ttl_seconds": 600});
    let header = [("idempotency-key", "run-1")];
    let first = ci
        .send_json("POST", "/api/v1/approvals/request", &header, &body)
        .await
        .expect(201);
    appliance.kill9();
    appliance.restart().await;
    let again = ci
        .send_json("POST", "/api/v1/approvals/request", &header, &body)
        .await;
    assert!((200..300).contains(&again.status), "{again:?}");
    assert_eq!(again.json()["id"], first["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_expires_over_a_crash() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let ci = appliance
        .api()
        .with_key(&ada.create_api_key("CI", &["request"], &[]).await.key);
    let id = ci.open_request(&json!({"action": "a", "ttl_seconds": 1})).await;
    appliance.kill9();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    appliance.restart().await;
    ci.wait_for_status(&id, "expired", SOON).await;
}

/// The database.
fn database(appliance: &Appliance) -> PathBuf {
    let path = appliance.data_dir().join("journal.redb");
    assert!(path.is_file(), "a database");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_whole_is_refused_and_left_alone() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    appliance.stop().await;
    let path = database(&appliance);
    let good = fs::read(&path).expect("readable");
    let name = path
        .file_name()
        .and_then(|it| it.to_str())
        .expect("a name")
        .to_owned();
    let cases: Vec<(&str, Option<Vec<u8>>)> = vec![
        ("missing", None),
        ("empty", Some(Vec::new())),
        ("garbage", Some(vec![0x5a; good.len()])),
        ("half", Some(good[..good.len() / 2].to_vec())),
        ("another kind of file", Some(b"SQLite format 3\0".repeat(4096))),
    ];
    for (what, content) in cases {
        match &content {
            Some(bytes) => fs::write(&path, bytes).expect("writable"),
            None => fs::remove_file(&path).expect("there"),
        }
        let before = appliance.log().len();
        let Err(failure) = appliance.try_restart().await else {
            panic!("{what}: it started")
        };
        assert!(failure.code.is_some_and(|it| it != 0), "{what}: {failure:?}");
        let said = &failure.log[before.min(failure.log.len())..];
        assert!(!said.contains("panicked"), "{what}: {said}");
        assert!(
            said.contains(&name) || said.contains(&*appliance.data_dir().to_string_lossy()),
            "{what}: the message names the place: {said}"
        );
        match &content {
            Some(bytes) => assert!(
                fs::read(&path).expect("there") == *bytes,
                "{what}: it was touched"
            ),
            None => assert!(!path.exists(), "{what}: it was replaced"),
        }
    }
    appliance.expect_error("");
    fs::write(&path, &good).expect("writable");
    appliance.restart().await;
    assert_eq!(
        ada.get("/api/v1/me").await.status,
        200,
        "the good one is good again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_is_refused() {
    let appliance = Arc::new(Appliance::start(Options::default()).await);
    let ada = Person::set_up(&appliance, "Ada").await;
    let options = Options {
        data_dir: Some(appliance.data_dir().to_path_buf()),
        ..Options::default()
    };
    let Err(failure) = Appliance::try_start(options).await else {
        panic!("two processes share their data")
    };
    assert!(failure.code.is_some_and(|it| it != 0), "{failure:?}");
    assert!(!failure.log.contains("panicked"), "{failure:?}");
    assert_eq!(ada.get("/api/v1/me").await.status, 200, "the first one goes on");
    ada.create_api_key("CI", &["request"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_farewell_lets_calls_end_and_loses_nothing() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let ci = appliance
        .api()
        .with_key(&ada.create_api_key("CI", &["request"], &[]).await.key);
    let id = ci.open_request(&json!({"action": "a"})).await;
    let (waiting, path) = (ci.clone(), format!("/api/v1/approvals/{id}?wait=60"));
    let poll = tokio::spawn(async move { waiting.try_send("GET", &path, &[], None).await });
    // Nothing tells that the question has arrived; either way the end must come in time.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let status = appliance.stop().await;
    assert!(status.success(), "{status:?}");
    drop(poll.await.expect("no panic"));
    appliance.restart().await;
    assert_eq!(ci.request(&id).await["status"], "pending");
}
