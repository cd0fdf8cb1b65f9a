//! One-time codes (TOTP) as their owner uses them: setting them up by a passkey or right after an invitation, deciding by one,
//! what such a decision is called everywhere, and their end.

use serde_json::Value;
use serde_json::json;

use crate::browser::can_run;
use crate::browser::shoot;
use crate::phone::Scene;
use crate::phone::enrolled_browser;
use crate::support::appliance::Options;
use crate::support::authenticator::Totp;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;
use crate::threats_codes::codes_policy;
use crate::threats_codes::next_code;
use crate::threats_codes::scene;

#[tokio::test(flavor = "multi_thread")]
async fn setting_codes_up_takes_a_passkey_or_the_invitation_itself() {
    let it = Scene::new().await;
    // Bea's session was opened by her invitation a moment ago.
    let made = it.bea.post("/api/v1/me/totp", &json!({})).await.expect(201);
    assert!(text(&made, "qr").starts_with("data:image/svg+xml;base64,"));
    // A later session of hers is a session like any other: whoever has it has no passkey for that.
    it.bea.sign_in().await;
    assert_problem!(
        it.bea.post("/api/v1/me/totp", &json!({})).await,
        403,
        "not-allowed"
    );
    // Somebody else's passkey allows nothing.
    let options = it
        .bea
        .post("/api/v1/me/totp/options", &json!({}))
        .await
        .expect(200);
    let stranger = it.ada.passkey();
    let lie = crate::support::authenticator::Lie::PasskeyOf(Box::new(stranger));
    let credential = it
        .bea
        .authenticator()
        .get_lying(&options["publicKey"], &[lie])
        .expect("an answer");
    let body = json!({"ceremony": options["ceremony"], "credential": credential});
    assert_problem!(
        it.bea.post("/api/v1/me/totp", &body).await,
        401,
        "ceremony-failed"
    );
    // And a ceremony counts once.
    assert_problem!(it.bea.post("/api/v1/me/totp", &body).await, 409, "ceremony-spent");
    assert_eq!(it.bea.get("/api/v1/me/totp").await.json()["enrolled"], false);

    let app = it.bea.enrol_totp().await;
    let event = it.ada.journal("totp.enrolled").await.remove(0);
    assert_eq!(event["data"]["confirmed_by"].as_array().map(Vec::len), Some(1));
    assert_eq!(event["data"]["period"], 30);
    let shown = it.bea.get("/api/v1/me/totp").await.json();
    assert_eq!(
        (&shown["enrolled"], &shown["grade"]),
        (&json!(true), &json!("server-attested"))
    );
    // Nobody is shown the secret again, on no page and by no call.
    let secret = app.secret().to_vec();
    let base32 = base32(&secret);
    for path in ["/api/v1/me/totp", "/api/v1/me", "/a/codes", "/a/passkeys"] {
        let answer = it.bea.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains(&base32), "{path}");
    }
    let everything = it.ada.journal("").await;
    assert!(!serde_json::to_string(&everything).unwrap().contains(&base32));
}

fn base32(bytes: &[u8]) -> String {
    let mut bits = String::new();
    for byte in bytes {
        bits.push_str(&format!("{byte:08b}"));
    }
    bits.as_bytes()
        .chunks(5)
        .map(|it| {
            let text = std::str::from_utf8(it).unwrap();
            let value = usize::from_str_radix(&format!("{text:0<5}"), 2).unwrap();
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[value])
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_shows_wrong_codes_is_not_set_up() {
    let it = Scene::new().await;
    let confirm = "/api/v1/me/totp/confirm";
    assert_problem!(
        it.bea.post(confirm, &json!({"code": "123456"})).await,
        409,
        "ceremony-spent"
    );
    let made = it.bea.set_up_totp().await.expect(201);
    let app = Totp::from_otpauth_url(&text(&made, "otpauth_url"));
    for _ in 0..5 {
        let answer = it.bea.post(confirm, &json!({"code": app.wrong_code()})).await;
        assert_problem!(answer, 401, "ceremony-failed");
    }
    let answer = it.bea.post(confirm, &json!({"code": app.code()})).await;
    assert_problem!(answer, 409, "ceremony-spent");
    assert_problem!(
        it.bea.post(confirm, &json!({"code": 123456})).await,
        400,
        "bad-request"
    );
    assert!(it.ada.journal("totp.enrolled").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_by_a_code_is_called_server_attested_everywhere() {
    let (it, app) = scene().await;
    let id = it.request("Deploy api").await;
    let answer = it
        .bea
        .decide_by_totp(&id, "approve", &next_code(&app), Some("On call"))
        .await
        .expect(200);
    assert_eq!(answer["status"], "approved");
    let crd = text(&answer, "credential");

    // API: the request, its list of credentials, and the credential itself.
    let request = it.ci.request(&id).await;
    let decision = &request["decisions"][0];
    assert_eq!(
        (&decision["method"], &decision["grade"]),
        (&json!("totp"), &json!("server-attested"))
    );
    let listed = it
        .ci
        .get(&format!("/api/v1/approvals/{id}/credentials"))
        .await
        .expect(200);
    assert_eq!(listed[0]["grade"], "server-attested");
    let file = it.ci.get(&format!("/api/v1/credentials/{crd}")).await.expect(200);
    let payload = payload_of(&file);
    let method = &payload["predicate"]["method"];
    assert_eq!(
        method,
        &json!({"type": "totp", "grade": "server-attested", "userVerified": false})
    );
    let evidence = &payload["predicate"]["evidence"];
    assert_eq!(evidence["totp"]["period"], 30);
    let decided: jiff::Timestamp = text(&payload["predicate"]["times"], "decidedAt")
        .parse()
        .expect("a time");
    let step = evidence["totp"]["step"].as_i64().expect("a number");
    assert!(
        step.abs_diff(decided.as_second() / 30) <= 1,
        "step {step} at {decided}"
    );
    assert!(evidence.get("webauthn").is_none());

    // Journal.
    let event = it.ada.journal("decision.recorded").await.remove(0);
    assert_eq!(event["data"]["code"]["grade"], "server-attested");
    assert_eq!(event["data"]["credential_id"], Value::Null);

    // Receipt, for whoever decided and for an auditor.
    for who in [&it.bea, &it.ada] {
        let page = who.get(&format!("/a/{id}")).await.text();
        assert!(page.contains("via totp (server-attested) at "), "{page}");
        assert!(page.contains("one-time code, server-attested"), "{page}");
    }

    // Our own verifier takes it, and says what it shows and what not.
    let verdict = it.appliance.api().post("/api/v1/verify", &file).await.expect(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
}

fn payload_of(file: &Value) -> Value {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD
        .decode(text(file, "payload"))
        .expect("base64");
    serde_json::from_slice(&payload).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_rejects_and_counts_for_the_rules_that_list_it_alone() {
    let (it, app) = scene().await;
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    let id = it.request("Drop the table").await;
    let answer = it
        .bea
        .decide_by_totp(&id, "reject", &next_code(&app), Some("No"))
        .await
        .expect(200);
    assert_eq!(answer["status"], "rejected");
    // Malformed bodies say what is wrong with them.
    let path = format!("/api/v1/approvals/{}/decision", it.request("x").await);
    for body in [
        json!({"decision": "approve"}),
        json!({"totp": "123456"}),
        json!({"decision": "maybe", "totp": "123456"}),
        json!({"decision": "approve", "totp": "123456", "ceremony": "cer_0"}),
        json!({"decision": "approve", "totp": 123_456}),
        json!({"decision": "approve", "totp": "123456", "break_glass": true}),
    ] {
        assert_problem!(dan.post(&path, &body).await, 400, "bad-request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_that_were_removed_count_no_more_and_passkeys_go_on() {
    let (it, app) = scene().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [], "default": {"method": ["passkey", "totp"], "quorum": 2}}),
        )
        .await;
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    let eve = it.ada.bring_in(&it.appliance, "Eve", &["approver"]).await;
    let id = it.request("Deploy").await;
    let code = next_code(&app);
    it.bea
        .decide_by_totp(&id, "approve", &code, None)
        .await
        .expect(200);
    it.bea.delete("/api/v1/me/totp").await.expect(204);
    assert_problem!(it.bea.delete("/api/v1/me/totp").await, 404, "not-found");
    assert_eq!(it.ada.journal("totp.revoked").await.len(), 1);
    // Bea's approval fell with her app: it takes two others.
    dan.approve(&id).await;
    assert_eq!(it.ci.request(&id).await["status"], "pending");
    eve.approve(&id).await;
    assert_eq!(it.ci.request(&id).await["status"], "approved");
    // She has no code any more, and her passkey as before.
    let other = it.request("Restart").await;
    let answer = it.bea.decide_by_totp(&other, "approve", &code, None).await;
    assert_problem!(answer, 403, "method-not-allowed");
    it.bea.approve(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_codes_wait_out_the_hold_and_a_recovery_ends_them() {
    let it = Scene::start(Options::default().env("SIGNEDAPPROVAL_SECURITY__PASSKEY_HOLD", "1h")).await;
    it.ada.put_policy("default", &codes_policy()).await;
    let app = it.bea.enrol_totp().await;
    let id = it.request("Deploy").await;
    let answer = it
        .bea
        .decide_by_totp(&id, "approve", &next_code(&app), None)
        .await;
    assert_problem!(answer, 403, "not-eligible");
    let (code, out, err) = it
        .appliance
        .cli(&[
            "admin",
            "recover",
            "bea@example.test",
            "--reason",
            "lost",
            "--json",
        ])
        .await;
    assert_eq!(code, 0, "{out}{err}");
    let revoked = it.ada.journal("totp.revoked").await;
    assert_eq!(revoked[0]["data"]["reason"], "recovery");
    let made: Value = serde_json::from_str(&out).expect("JSON");
    let back = Person::enrol(&it.appliance, "Bea", &text(&made, "url")).await;
    assert_eq!(back.get("/api/v1/me/totp").await.json()["enrolled"], false);
}

/// A whole life of it on the phone: set up, used, removed.
#[tokio::test(flavor = "multi_thread")]
async fn codes_in_the_browser() {
    if !can_run("codes_in_the_browser") {
        return;
    }
    let it = Scene::new().await;
    it.ada.put_policy("default", &codes_policy()).await;
    let url = text(&it.ada.invite("Dana Reyes", &["approver"]).await, "invite_url");
    let browser = enrolled_browser(&url).await;
    let base = it.appliance.base();
    browser.goto(&format!("{base}/a/codes")).await;
    shoot(&browser, "codes-none").await;
    browser.click("[data-set-up] button").await;
    browser
        .wait_until("!document.querySelector('[data-secret]').hidden && document.querySelector('[data-qr]').naturalWidth > 0")
        .await;
    shoot(&browser, "codes-set-up").await;
    let otpauth = browser
        .script("return document.querySelector('[data-url]').href", &[])
        .await;
    let app = Totp::from_otpauth_url(otpauth.as_str().expect("a link"));
    browser.fill("#code", &app.wrong_code()).await;
    browser.click("[data-secret] button").await;
    browser.wait_for_text("The one-time code is not right").await;
    browser.fill("#code", &app.code()).await;
    browser.click("[data-secret] button").await;
    browser.wait_for_text("Remove one-time codes").await;
    shoot(&browser, "codes-there").await;

    let id = it.request("Deploy api 4.2").await;
    browser.goto(&format!("{base}/a/{id}")).await;
    browser.click(".by-code summary").await;
    browser.fill("#totp", &app.wrong_code()).await;
    browser.click("[data-code][data-answer=approve]").await;
    browser.wait_for_text("The one-time code is not right").await;
    shoot(&browser, "codes-refused").await;
    browser.fill("#totp", &next_code(&app)).await;
    browser.click("[data-code][data-answer=approve]").await;
    browser.wait_until("document.querySelector('#receipt')").await;
    let receipt = browser.text("#receipt").await;
    assert!(receipt.contains("server-attested"), "{receipt}");
    shoot(&browser, "codes-receipt").await;

    // Where no rule takes a code, none is offered.
    let body = json!({"action": "Deploy", "environment": "production", "ttl_seconds": 600});
    let opened = it.ci.post("/api/v1/approvals/request", &body).await.expect(201);
    browser.goto(&format!("{base}/a/{}", text(&opened, "id"))).await;
    browser.element("[data-answer=approve]").await;
    assert!(browser.find(".by-code").await.is_none());
    browser.goto(&format!("{base}/a/codes")).await;
    browser.click("button.reject").await;
    browser
        .wait_until("!document.querySelector('button.reject')")
        .await;
    // The browser writes down the two codes that were refused, and nothing else.
    let told = browser.console_errors().await;
    let refused = told
        .iter()
        .filter(|it| it.source == "network" && it.message.contains("401"));
    assert_eq!((refused.count(), told.len()), (2, 2), "{told:#?}");
    let violations = browser.csp_violations().await;
    assert!(violations.is_empty(), "{violations:#?}");
}
