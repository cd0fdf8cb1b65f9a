//! What a pipeline's request brings about besides its answer: a signed callback, and a look at its commit on the forge.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use serde_json::Value;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

const SOON: Duration = Duration::from_secs(30);

/// One call that a receiver got: headers and body.
type Got = (HeaderMap, Vec<u8>);

/// A receiver that answers each call with the next of these statuses, the last one for ever.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    async fn start(statuses: &'static [u16]) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!(
            "http://127.0.0.1:{}/done",
            listener.local_addr().expect("bound").port()
        );
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let kept = got.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let mut piece = [0; 4096];
                let (headers, body) = loop {
                    let read = stream.read(&mut piece).await.unwrap_or(0);
                    bytes.extend_from_slice(&piece[..read]);
                    let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
                        continue;
                    };
                    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
                    let mut headers = HeaderMap::new();
                    for (name, value) in head.lines().skip(1).filter_map(|it| it.split_once(": ")) {
                        let name: reqwest::header::HeaderName = name.parse().expect("a name");
                        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
                    }
                    let length: usize = headers["content-length"]
                        .to_str()
                        .expect("text")
                        .parse()
                        .expect("a number");
                    if bytes.len() >= at + 4 + length {
                        break (headers, bytes[at + 4..].to_vec());
                    }
                };
                let nth = {
                    let mut kept = kept.lock().expect("no holder panics");
                    kept.push((headers, body));
                    kept.len() - 1
                };
                let status = statuses[nth.min(statuses.len() - 1)];
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Receiver { url, got }
    }

    /// Waits for so many calls.
    async fn calls(&self, count: usize) -> Vec<Got> {
        let started = Instant::now();
        loop {
            let got = self.got.lock().expect("no holder panics").clone();
            if got.len() >= count {
                return got;
            }
            assert!(started.elapsed() < SOON, "{} of {count} calls came", got.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until the request's callback has this state.
async fn callback_is(ci: &Api, id: &str, state: &str) -> Value {
    let started = Instant::now();
    loop {
        let shown = ci.request(id).await;
        if shown["callback"]["state"] == state {
            return shown;
        }
        assert!(
            started.elapsed() < SOON,
            "the callback never was {state}: {shown}"
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// An appliance with Ada and Bea, a pipeline's key and its callback secret.
async fn scene(options: Options) -> (Appliance, Person, Person, Api, String) {
    let appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let made = ada
        .post("/api/v1/api-keys", &json!({"name": "CI", "scopes": ["request"]}))
        .await
        .expect(201);
    let ci = appliance.api().with_key(&text(&made, "key"));
    (appliance, ada, bea, ci, text(&made, "callback_secret"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_is_called_back_with_a_signature_that_their_library_takes() {
    let (mut appliance, ada, bea, ci, secret) = scene(Options::default()).await;
    // Busy at first: the message is the same when it comes again.
    let receiver = Receiver::start(&[503, 200]).await;
    let body = json!({"action": "Deploy", "environment": "production", "callback_url": receiver.url});
    let id = ci.open_request(&body).await;
    assert_eq!(callback_is(&ci, &id, "owed").await["status"], "pending");
    bea.approve(&id).await;
    let got = receiver.calls(2).await;
    let webhook = Webhook::new(&secret).expect("the secret is of the standard's form");
    for (headers, body) in &got {
        webhook.verify(body, headers).expect("the signature");
        assert!(
            Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
                .expect("a secret")
                .verify(body, headers)
                .is_err()
        );
    }
    assert_eq!(got[0].0["webhook-id"], got[1].0["webhook-id"]);
    assert_eq!(got[0].1, got[1].1);
    let told: Value = serde_json::from_slice(&got[1].1).expect("JSON");
    assert_eq!(told["type"], "request.approved");
    assert_eq!(told["data"]["id"], id);
    assert_eq!(told["data"]["environment"], "production");
    callback_is(&ci, &id, "delivered").await;
    assert!(!appliance.log().contains(&secret));
    // What is owed outlives a crash.
    let away = Receiver::start(&[500, 500, 500, 200]).await;
    let id = ci
        .open_request(&json!({"action": "Deploy", "callback_url": away.url}))
        .await;
    bea.reject(&id, "no").await;
    away.calls(1).await;
    appliance.kill9();
    appliance.restart().await;
    let got = away.calls(4).await;
    let told: Value = serde_json::from_slice(&got[3].1).expect("JSON");
    assert_eq!(told["type"], "request.rejected");
    callback_is(&ci, &id, "delivered").await;
    // A receiver that says no is not asked again.
    let closed = Receiver::start(&[410]).await;
    let id = ci
        .open_request(&json!({"action": "Deploy", "callback_url": closed.url}))
        .await;
    ci.post(&format!("/api/v1/approvals/{id}/cancel"), &json!({}))
        .await
        .expect(200);
    let failed = callback_is(&ci, &id, "failed").await;
    assert!(
        failed["callback"]["reason"]
            .as_str()
            .is_some_and(|it| it.contains("410")),
        "{failed}"
    );
    assert_eq!(closed.calls(1).await.len(), 1);
    assert_eq!(ada.journal("callback.answered").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_goes_where_an_admin_allows_it_and_nowhere_else() {
    let options = Options::default().env(
        "SIGNEDAPPROVAL_CALLBACKS__HOSTS",
        "ci.corp.example,*.hooks.example",
    );
    let (_appliance, ada, _, ci, _) = scene(options).await;
    for good in [
        "https://ci.corp.example/x",
        "https://a.hooks.example/",
        "https://CI.corp.example:8443/x",
    ] {
        ci.open_request(&json!({"action": "a", "callback_url": good}))
            .await;
    }
    for bad in [
        "https://other.example/",
        "https://hooks.example/",
        "https://evilhooks.example/",
        "https://ci.corp.example.evil.example/",
        "http://ci.corp.example/",
        "https://169.254.169.254/latest/meta-data",
        "https://user:pass@ci.corp.example/",
        "https://ci.corp.example/?token=1",
        "https://ci.corp.example/#x",
        "file:///etc/passwd",
        "ci.corp.example",
        "https://10.0.0.7/",
    ] {
        let answer = ci
            .post(
                "/api/v1/approvals/request",
                &json!({"action": "a", "callback_url": bad}),
            )
            .await;
        assert_problem!(answer, 422, "invalid");
        assert_eq!(answer.json()["field"], "callback_url", "{bad}");
    }
    assert_eq!(ada.journal("request.opened").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_forge_knows_of_a_commit_stands_beside_what_is_claimed() {
    let it = Gated::start_with(Hook::Token, json!({})).await;
    let path = it.gitlab.read(|state| state.project(PROJECT).path.clone());
    let key = it.ada.create_api_key("CI", &["request"], &[&path]).await.key;
    let ci = it.appliance.api().with_key(&key);
    let head = it.gitlab.head(PROJECT, "main");
    let ask = |sha: String| {
        json!({
            "action": "Deploy", "environment": "production", "project": path,
            "metadata": {"commit": sha, "title": "A title that the requester made up"},
        })
    };
    let verified = |id: String| {
        let ci = ci.clone();
        async move {
            let started = Instant::now();
            loop {
                let shown = ci.request(&id).await;
                if shown["verified"].is_object() {
                    return shown;
                }
                assert!(started.elapsed() < SOON, "the forge was never asked: {shown}");
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    };
    let known = ci.open_request(&ask(head.clone())).await;
    let shown = verified(known.clone()).await;
    assert_eq!(shown["verified"]["known"], true, "{shown}");
    let title = text(&shown["verified"], "title");
    assert!(!title.is_empty() && !title.contains("made up"), "{shown}");
    assert_eq!(shown["claimed"]["title"], "A title that the requester made up");
    let unknown = ci.open_request(&ask("f".repeat(40))).await;
    let shown = verified(unknown.clone()).await;
    assert_eq!(shown["verified"]["known"], false, "{shown}");
    // Where no integration knows the project, nothing is called verified.
    let elsewhere = it.ada.create_api_key("CI 2", &["request"], &[]).await.key;
    let elsewhere = it.appliance.api().with_key(&elsewhere);
    let id = elsewhere
        .open_request(&json!({"action": "Deploy", "project": "no/such", "metadata": {"commit": head}}))
        .await;
    assert!(elsewhere.request(&id).await.get("verified").is_none());

    let page = it.bea.get(&format!("/a/{known}")).await.text();
    let checked = page
        .find("Checked by this server on GitLab")
        .expect("checked facts");
    let claimed = page.find("Also claimed by the requester").expect("claims");
    assert!(checked < claimed && page[claimed..].contains("made up") && !page[..claimed].contains("made up"));
    if !can_run("what_the_forge_knows_of_a_commit_stands_beside_what_is_claimed") {
        return;
    }
    let browser = Browser::start().await;
    browser.add_authenticator().await;
    let invited = it.ada.invite("Dora", &["approver"]).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    for (path, name) in [
        (format!("/a/{known}"), "pipeline-commit-known"),
        (format!("/a/{unknown}"), "pipeline-commit-unknown"),
        ("/help/api".to_owned(), "api-reference"),
    ] {
        browser
            .goto(&format!("{}{path}", it.appliance.public_url()))
            .await;
        shoot(&browser, name).await;
        assert_clean(&browser, &it.appliance).await;
    }
}
