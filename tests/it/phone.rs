//! The approver's phone: the request screen, what changed since the last look, the code, "Not me", going offline, and the
//! screenshots of all of it at 390 by 844.

use serde_json::Value;
use serde_json::json;

use crate::browser::assert_clean;
use crate::browser::assert_clean_but;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// An appliance, its admin, an approver, and a key that nobody owns.
pub struct Scene {
    pub appliance: Appliance,
    pub ada: Person,
    pub bea: Person,
    pub ci: Api,
}

impl Scene {
    pub async fn start(options: Options) -> Scene {
        let appliance = Appliance::start(options).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let key = ada.create_api_key("CI", &["request"], &[]).await;
        let ci = appliance.api().with_key(&key.key);
        Scene {
            appliance,
            ada,
            bea,
            ci,
        }
    }

    pub async fn new() -> Scene {
        Scene::start(Options::default()).await
    }

    pub async fn request(&self, action: &str) -> String {
        self.ci
            .open_request(&json!({"action": action, "ttl_seconds": 600}))
            .await
    }

    /// A browser in which somebody with this name enrolled and looks at their queue.
    pub async fn browser_of(&self, name: &str) -> Browser {
        let url = text(&self.ada.invite(name, &["approver"]).await, "invite_url");
        enrolled_browser(&url).await
    }
}

/// A phone whose passkey was just enrolled by an invitation.
pub async fn enrolled_browser(url: &str) -> Browser {
    let browser = Browser::start().await;
    browser.be_a_phone().await;
    browser.add_authenticator().await;
    browser.goto(url).await;
    browser.click("[data-enrol] button").await;
    browser.wait_until("location.pathname === '/a/'").await;
    browser
}

const WITH_CODE: &str = r#"{ "rules": [
  { "name": "Production by code", "match": { "environment": "production" },
    "require": { "method": ["passkey", "biometric"], "match_code": true } } ] }"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_request_screen_says_what_changed_since_the_last_look() {
    if !can_run("the_request_screen_says_what_changed_since_the_last_look") {
        return;
    }
    let it = Gated::start_with(
        crate::support::gated::Hook::Token,
        json!({"required_approval_count": 2}),
    )
    .await;
    let url = text(&it.ada.invite("Dana Reyes", &["approver"]).await, "invite_url");
    let first = it.open("retry-card-payments", "main");
    let first_id = it.pending(&first, "main").await;
    it.bea.approve(&first_id).await;

    let browser = enrolled_browser(&url).await;
    browser
        .goto(&format!("{}/a/{first_id}", it.appliance.base()))
        .await;
    browser.element("[data-answer=approve]").await;
    assert!(browser.find(".since").await.is_none(), "nothing came before it");
    let why = browser.text(".decide").await;
    assert!(why.contains("Why you"), "{why}");
    // The page tells the server that it was looked at.
    let seen = seen_by(&it.ada, &first_id, "Dana Reyes").await;
    assert!(seen, "the page tells that it was seen");

    let second = it.push(&first, "src/retries.rs");
    let second_id = it.pending(&second, "main").await;
    browser
        .goto(&format!("{}/a/{second_id}", it.appliance.base()))
        .await;
    let since = browser.text(".since").await;
    for said in [
        "Since you last looked",
        &format!(
            "The head moved from {} to {}",
            &first.head[..10],
            &second.head[..10]
        ),
        "One file differs",
        "Bea approved",
        "counts no more",
    ] {
        assert!(since.contains(said), "no {said:?} in {since}");
    }
    assert!(browser.find(".since a[href*='/-/compare/']").await.is_some());
    assert!(
        browser.find(".void s").await.is_some(),
        "the old approval is struck through"
    );
    shoot(&browser, "phone-since-last-look").await;
    assert_clean(&browser, &it.appliance).await;

    // Somebody who never looked is told what somebody else approved.
    let page = String::from_utf8(it.ada.get(&format!("/a/{second_id}")).await.body).unwrap();
    assert!(
        page.contains("Since Bea approved"),
        "another reader, another comparison"
    );
}

async fn seen_by(admin: &Person, request: &str, _name: &str) -> bool {
    for _ in 0..100 {
        let events = admin.journal("request.seen").await;
        if events.iter().any(|it| it["data"]["request"] == request) {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_seen_once_by_each_person() {
    let it = Scene::new().await;
    let id = it.request("Deploy").await;
    let path = format!("/api/v1/approvals/{id}/seen");
    for _ in 0..3 {
        it.bea.post(&path, &json!({})).await.expect(204);
    }
    it.ada.post(&path, &json!({})).await.expect(204);
    let events = it.ada.journal("request.seen").await;
    assert_eq!(events.len(), 2, "{events:?}");
    assert_problem!(
        it.bea
            .post(
                "/api/v1/approvals/apr_00000000000000000000000000000000/seen",
                &json!({})
            )
            .await,
        404,
        "not-found"
    );
    assert_eq!(it.appliance.api().post(&path, &json!({})).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_me_holds_everything_of_the_requester_until_it_was_looked_over() {
    let it = Scene::new().await;
    let (id, other) = (it.request("Deploy one").await, it.request("Deploy two").await);
    let report = it
        .bea
        .post(
            &format!("/api/v1/approvals/{id}/not-me"),
            &json!({"note": "Nobody told me"}),
        )
        .await;
    report.expect(204);

    for waiting in [&id, &other] {
        let refused = it.bea.decide(waiting, "approve", None).await;
        assert_problem!(refused, 403, "not-allowed");
    }
    let refused = it
        .ci
        .post(
            "/api/v1/approvals/request",
            &json!({"action": "Deploy three", "ttl_seconds": 600}),
        )
        .await;
    assert_problem!(refused, 403, "not-allowed");
    // What was asked before it can still be rejected.
    it.bea.reject(&other, "Not asked for").await;

    // Another key is not held.
    let second = it.ada.create_api_key("Other", &["request"], &[]).await;
    let second = it.appliance.api().with_key(&second.key);
    let fine = second
        .open_request(&json!({"action": "Something else", "ttl_seconds": 600}))
        .await;
    it.bea.approve(&fine).await;

    let exceptions = it.ada.get("/api/v1/exceptions?state=open").await.json();
    let exception = &exceptions["items"][0];
    assert_eq!(exception["type"], "exception.requester_reported");
    assert_eq!(exception["data"]["note"], "Nobody told me");
    let review = format!("/api/v1/exceptions/{}/review", text(exception, "id"));
    // The key's owner took part in it; somebody else looks it over.
    let answer = it
        .ada
        .post(&review, &json!({"note": "It was the nightly job"}))
        .await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let eve = it.ada.bring_in(&it.appliance, "Eve", &["auditor"]).await;
    eve.post(&review, &json!({"note": "It was the nightly job"}))
        .await
        .expect(200);
    it.bea.approve(&id).await;
    it.request("Deploy four").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_asked_says_not_me_and_never_of_a_test_request() {
    let it = Scene::new().await;
    let id = it.request("Deploy").await;
    let path = format!("/api/v1/approvals/{id}/not-me");
    let eve = it.ada.bring_in(&it.appliance, "Eve", &["auditor"]).await;
    assert_problem!(eve.post(&path, &json!({})).await, 403, "not-eligible");
    // Ada owns the key, so she is not asked either.
    assert_problem!(it.ada.post(&path, &json!({})).await, 403, "self-approval");
    let trial = it
        .bea
        .post("/api/v1/me/test-request", &json!({}))
        .await
        .expect(201);
    let own = format!("/api/v1/approvals/{}/not-me", text(&trial, "id"));
    assert_problem!(it.bea.post(&own, &json!({})).await, 403, "not-allowed");
    it.bea.post(&path, &json!({})).await.expect(204);
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    assert_problem!(dan.post(&path, &json!({})).await, 409, "outdated");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_by_code_needs_the_two_digits_the_requester_sees() {
    let it = Scene::new().await;
    it.ada
        .put_policy("default", &serde_json::from_str(WITH_CODE).unwrap())
        .await;
    let body = json!({"action": "Deploy", "environment": "production", "ttl_seconds": 600});
    let opened = it.ci.post("/api/v1/approvals/request", &body).await.expect(201);
    let id = text(&opened, "id");
    let code = text(&opened, "match_code");
    assert_eq!(
        it.ci.request(&id).await["match_code"],
        code,
        "whoever asked may ask again"
    );
    let as_bea = it.bea.get(&format!("/api/v1/approvals/{id}")).await.json();
    assert_eq!(
        as_bea["match_code"],
        Value::Null,
        "the approver is to look for it"
    );

    let options = format!("/api/v1/approvals/{id}/decision/options");
    let without = it.bea.post(&options, &json!({"decision": "approve"})).await;
    assert_problem!(without, 422, "invalid");
    let odd = it
        .bea
        .post(&options, &json!({"decision": "approve", "match_code": "4x"}))
        .await;
    assert_problem!(odd, 400, "bad-request");
    let right = it
        .bea
        .post(&options, &json!({"decision": "approve", "match_code": code}))
        .await;
    assert_eq!(right.status, 200, "{right:?}");

    // A wrong pick ends it for that person, also with the right one afterwards; rejecting needs none.
    let wrong = if code == "42" { "43" } else { "42" };
    let missed = it
        .bea
        .post(&options, &json!({"decision": "approve", "match_code": wrong}))
        .await;
    assert_problem!(missed, 422, "invalid");
    let late = it
        .bea
        .post(&options, &json!({"decision": "approve", "match_code": code}))
        .await;
    assert_problem!(late, 403, "not-eligible");
    // The ceremony that began with the right code does not help after the wrong one.
    let begun = right.json();
    let credential = it.bea.authenticator().get(&begun["publicKey"]).expect("signed");
    let body = json!({"ceremony": begun["ceremony"], "credential": credential});
    let answer = it
        .bea
        .post(&format!("/api/v1/approvals/{id}/decision"), &body)
        .await;
    assert_problem!(answer, 403, "not-eligible");
    assert_eq!(it.ada.journal("request.code_missed").await.len(), 1);
    it.bea.reject(&id, "I did not expect it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_request_by_code_shows_it_in_its_status() {
    let it = Gated::start().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [{"name": "Coded", "match": {"branch": "main"},
                "require": {"method": ["passkey"], "match_code": true}}]}),
        )
        .await;
    let change = it.open("retry-card-payments", "main");
    let id = it.pending(&change, "main").await;
    it.expect_status(&change.head, "main", "pending");
    let told = it.posts(&change.head, "pending");
    let told = serde_json::to_string(&told.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>()).unwrap();
    let code: String = told
        .split("Code ")
        .nth(1)
        .unwrap_or_else(|| panic!("no code in {told}"))
        .chars()
        .take(2)
        .collect();
    let options = format!("/api/v1/approvals/{id}/decision/options");
    let right = it
        .bea
        .post(&options, &json!({"decision": "approve", "match_code": code}))
        .await;
    assert_eq!(right.status, 200, "{right:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_by_code_and_not_me_in_the_browser() {
    if !can_run("the_phone_by_code_and_not_me_in_the_browser") {
        return;
    }
    let it = Scene::new().await;
    it.ada
        .put_policy("default", &serde_json::from_str(WITH_CODE).unwrap())
        .await;
    let body = json!({"action": "Deploy api 4.2 to production", "environment": "production", "ttl_seconds": 600,
        "metadata": {"actor": "\u{202e}ymmot", "note": "line\u{0}break"}});
    let opened = it.ci.post("/api/v1/approvals/request", &body).await.expect(201);
    let id = text(&opened, "id");
    let browser = it.browser_of("Dana Reyes").await;
    shoot(&browser, "phone-queue").await;
    browser.goto(&format!("{}/a/{id}", it.appliance.base())).await;
    browser.element("[data-answer=approve]").await;
    let page = browser.text("main").await;
    assert!(page.contains("PRODUCTION"), "the band says where: {page}");
    assert!(
        !page.contains("asks for your passkey now"),
        "nothing asks yet: {page}"
    );
    assert!(page.contains("\\u{202e}ymmot"), "bidi is visible: {page}");
    shoot(&browser, "phone-request").await;
    browser.click("[data-answer=approve]").await;
    browser
        .wait_for_text("Pick the code that the requester sees")
        .await;
    let equal = browser
        .script(
            "const [a, b] = document.querySelectorAll('.pair button'); \
             const [x, y] = [a.getBoundingClientRect(), b.getBoundingClientRect()]; \
             return [Math.abs(x.width - y.width), Math.abs(x.height - y.height), x.height]",
            &[],
        )
        .await;
    assert!(
        equal[0].as_f64().unwrap() < 1.0
            && equal[1].as_f64().unwrap() < 1.0
            && equal[2].as_f64().unwrap() >= 44.0,
        "both answers are equally large: {equal}"
    );
    let code = text(&opened, "match_code");
    browser.click(&format!("label:has(input[value='{code}'])")).await;
    browser.click("[data-answer=approve]").await;
    browser.wait_until("document.querySelector('#receipt')").await;
    shoot(&browser, "phone-receipt").await;

    let body = json!({"action": "Drop the customers table", "environment": "production", "ttl_seconds": 600});
    let flood = text(
        &it.ci.post("/api/v1/approvals/request", &body).await.expect(201),
        "id",
    );
    browser.goto(&format!("{}/a/{flood}", it.appliance.base())).await;
    browser.click(".report summary").await;
    browser.fill("#report-note", "I am on holiday").await;
    shoot(&browser, "phone-not-me").await;
    browser.click(".report button").await;
    browser.wait_until("document.querySelector('#held')").await;
    assert!(
        browser.find("[data-answer=approve]").await.is_none(),
        "nothing to approve while it is held"
    );
    shoot(&browser, "phone-held").await;
    assert_clean_but(&browser, &it.appliance, "/decision/options").await;
}

/// What no other journey passes: the moment of the passkey, what was refused and why, what ran out, and a person's own pages.
#[tokio::test(flavor = "multi_thread")]
async fn the_moment_of_the_passkey_and_the_other_ends_of_a_request() {
    if !can_run("the_moment_of_the_passkey_and_the_other_ends_of_a_request") {
        return;
    }
    let it = Scene::new().await;
    let url = text(
        &it.ada.invite("Dana Reyes", &["approver", "admin"]).await,
        "invite_url",
    );
    let browser = enrolled_browser(&url).await;
    let base = it.appliance.base();
    let body =
        json!({"action": "Deploy api 4.2 to production", "environment": "production", "ttl_seconds": 600});
    let opened = it.ci.post("/api/v1/approvals/request", &body).await.expect(201);
    browser.goto(&format!("{base}/a/{}", text(&opened, "id"))).await;
    browser.element("[data-answer=approve]").await;
    // The device's own window is not the page's: here it stays open.
    browser
        .script(
            "navigator.credentials.get = () => new Promise(() => {}); return true",
            &[],
        )
        .await;
    browser.click("[data-answer=approve]").await;
    browser
        .wait_until("document.querySelector('.asking').checkVisibility()")
        .await;
    let locked = browser
        .script(
            "return [...document.querySelectorAll('[data-decide] button')].every((it) => it.disabled)",
            &[],
        )
        .await;
    assert_eq!(locked, true, "nothing is pressed twice");
    shoot(&browser, "phone-passkey").await;

    let rejected = it.request("Drop the customers table").await;
    it.bea
        .reject(&rejected, "Not on a Friday, and not without a backup")
        .await;
    browser.goto(&format!("{base}/a/{rejected}")).await;
    let page = browser.text("main").await;
    assert!(
        page.contains("It is rejected.") && page.contains("not without a backup"),
        "{page}"
    );
    shoot(&browser, "phone-rejected").await;

    let expired = it
        .ci
        .open_request(&json!({"action": "Restart the database", "ttl_seconds": 1}))
        .await;
    let ended = it
        .ci
        .get(&format!("/api/v1/approvals/{expired}?wait=30"))
        .await
        .expect(200);
    assert_eq!(ended["status"], "expired");
    browser.goto(&format!("{base}/a/{expired}")).await;
    let page = browser.text("main").await;
    assert!(
        page.contains("Nobody decided in time. Nothing was approved."),
        "{page}"
    );
    assert!(browser.find("[data-answer]").await.is_none());
    shoot(&browser, "phone-expired").await;

    for (name, path) in [
        ("phone-phone", "/a/phone"),
        ("phone-passkeys", "/a/passkeys"),
        ("phone-notifications", "/dashboard/settings/notifications"),
    ] {
        browser.goto(&format!("{base}{path}")).await;
        shoot(&browser, name).await;
    }
    // An invitation is a link and the same as a code for the phone's camera.
    browser.goto(&format!("{base}/dashboard/people")).await;
    browser.fill("#name", "Eve").await;
    browser.fill("#email", "eve@example.test").await;
    browser.click("#add form button").await;
    browser
        .wait_until("document.querySelector('#invited img').naturalWidth > 0")
        .await;
    shoot(&browser, "invitation-qr").await;
    assert_clean(&browser, &it.appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_no_old_page_offers_a_decision() {
    if !can_run("without_a_network_no_old_page_offers_a_decision") {
        return;
    }
    let mut it = Scene::new().await;
    let id = it.request("Deploy").await;
    let browser = it.browser_of("Dana Reyes").await;
    browser
        .wait_until("navigator.serviceWorker.controller !== null")
        .await;
    let page = format!("{}/a/{id}", it.appliance.base());
    browser.goto(&page).await;
    browser.element("[data-answer=approve]").await;

    // The device itself loses its network.
    browser.offline(true).await;
    browser
        .wait_until("document.querySelector('[data-answer=approve]').hidden")
        .await;
    shoot(&browser, "phone-lost-connection").await;
    browser.offline(false).await;
    browser
        .wait_until("!document.querySelector('[data-answer=approve]')?.hidden")
        .await;

    // The server is out of reach: the worker shows its own page, never one it has seen before.
    it.appliance.stop().await;
    browser.goto(&page).await;
    browser.wait_for_text("No connection").await;
    assert!(browser.find("[data-answer]").await.is_none());
    shoot(&browser, "phone-offline").await;
    let kept = browser
        .script_async(
            "const all = []; for (const name of await caches.keys()) \
             for (const it of await (await caches.open(name)).keys()) all.push(new URL(it.url).pathname); return all",
            &[],
        )
        .await;
    let kept = kept.as_array().unwrap();
    assert!(
        kept.iter()
            .all(|it| it == "/offline" || it.as_str().unwrap().starts_with("/static/")),
        "{kept:?}"
    );
    it.appliance.restart().await;
    browser.click("[data-again]").await;
    browser.element("[data-answer=approve]").await;
}
