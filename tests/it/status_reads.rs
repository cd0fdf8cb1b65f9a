//! The state of a request, read again and again by pipelines: the second answer is given from memory, and is to be what the
//! first one was, for whoever may have it, and for nobody else.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::appliance::{Answer, Api, Appliance, Options};
use crate::support::monitor::Monitor;
use crate::support::person::Person;
use crate::support::problem::assert_problem;

/// All headers but those that are another's each time.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let mut all: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), format!("{value:?}")))
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_read_again_is_answered_as_before_and_only_to_whoever_may_see_it() {
    let (monitor, options) = Monitor::of(Options::default());
    let appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await;
    let ci = appliance.api().with_key(&key.key);
    let stranger = appliance
        .api()
        .with_key(&ada.create_api_key("Other", &["request"], &[]).await.key);
    let reader = appliance
        .api()
        .with_key(&ada.create_api_key("Audit", &["audit"], &[]).await.key);
    let id = ci
        .open_request(&json!({"action": "Deploy", "environment": "production"}))
        .await;
    let path = format!("/api/v1/approvals/{id}");

    // The same answer, with a request id of its own, however often.
    let first = ci.get(&path).await;
    first.expect(200);
    let mut ids = vec![first.header("x-request-id").expect("an id").to_owned()];
    for _ in 0..20 {
        let again = ci.get(&path).await;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.body, first.body);
        assert_eq!(headers(&again), headers(&first));
        ids.push(again.header("x-request-id").expect("an id").to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 21, "each answer has its own id");
    let counted = format!(
        "signedapproval_http_requests_total{{method=\"GET\",route=\"/api/v1/approvals/{{id}}\",status=\"200\"}} {}\n",
        ids.len()
    );
    let shown = monitor.scrape().await;
    assert!(shown.contains(&counted), "{shown}");

    // While it is in memory: a key that may not see it is told that there is none, whatever it asks with; one that may, sees
    // what is not the asker's alone; a wrong key is refused; other ways to call go the usual way.
    for _ in 0..2 {
        ci.get(&path).await.expect(200);
        assert_problem!(stranger.get(&path).await, 404, "not-found");
        let seen = reader.get(&path).await.expect(200);
        assert_eq!(seen["status"], "pending");
        let wrong = appliance.api().with_key("sa_wrong").get(&path).await;
        assert_problem!(wrong, 401, "unauthenticated");
        let none = appliance.api().get(&path).await;
        assert_problem!(none, 401, "unauthenticated");
    }
    let head = ci.send("HEAD", &path, &[], None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let options = ci.send("OPTIONS", &path, &[], None).await;
    assert_problem!(options, 405, "wrong-method");
    let sent_along = ci.send("GET", &path, &[], Some(b"{}".to_vec())).await;
    assert_eq!(sent_along.body, first.body);

    // What happens meanwhile shows at once.
    bea.approve(&id).await;
    assert_eq!(ci.get(&path).await.expect(200)["status"], "approved");
    assert_eq!(ci.get(&path).await.expect(200)["status"], "approved");
    ada.delete(&format!("/api/v1/api-keys/{}", key.id))
        .await
        .expect(204);
    assert_problem!(ci.get(&path).await, 401, "unauthenticated");
}

/// A pipeline whose key may read sixty times a minute: ten at once are a burst, then one a second.
async fn limited() -> (Appliance, Api) {
    let options = Options::default().env("SIGNEDAPPROVAL_LIMITS__READS_PER_MINUTE", "60");
    let appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let ci = appliance
        .api()
        .with_key(&ada.create_api_key("CI", &["request"], &[]).await.key);
    (appliance, ci)
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_memory_count_against_the_limit_of_the_key() {
    let (_appliance, ci) = limited().await;
    let id = ci
        .open_request(&json!({"action": "Deploy", "environment": "production"}))
        .await;
    let path = format!("/api/v1/approvals/{id}");
    // A slow machine may be given a few more, never the lot.
    let started = Instant::now();
    let mut granted = 0;
    for _ in 0..200 {
        let answer = ci.get(&path).await;
        if answer.status == 200 {
            granted += 1;
        } else {
            assert_problem!(answer, 429, "too-many");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
    }
    let due = 11 + started.elapsed().as_secs();
    assert!((10..=due).contains(&granted), "{granted} in {due}");
    assert!(
        started.elapsed() < Duration::from_secs(150),
        "200 calls take less"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_not_in_memory_counts_once() {
    let (_appliance, ci) = limited().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        let asked = json!({"action": format!("Deploy {n}"), "environment": "production"});
        ids.push(ci.open_request(&asked).await);
    }
    // The key is known from the first of them on, the answer of none: ten at once are still ten.
    for id in &ids {
        ci.get(&format!("/api/v1/approvals/{id}")).await.expect(200);
    }
}
