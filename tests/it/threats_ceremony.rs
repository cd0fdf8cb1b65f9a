//! The catalogue of attacks on the ceremony, by its numbers (C1 to C21): what each tries, and that nothing comes of it. What a
//! case shares with another test is tried here in short all the same, so that each number has its answer in one place.

use serde_json::Value;
use serde_json::json;

use crate::phone::Scene;
use crate::support::appliance::Options;
use crate::support::authenticator::Authenticator;
use crate::support::authenticator::Lie;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// An approval with this lie is refused with 401, recorded, and changes nothing.
async fn refused(it: &Scene, lie: Lie) {
    let id = it.request("Deploy").await;
    let before = it.ada.journal("ceremony.refused").await.len();
    let answer = it
        .bea
        .decide_lying(&id, "approve", None, std::slice::from_ref(&lie))
        .await;
    assert_problem!(answer, 401, "ceremony-failed");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
    assert_eq!(it.ada.journal("ceremony.refused").await.len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_another_origin_decides_nothing() {
    let it = Scene::new().await;
    let port = it.appliance.port();
    for origin in [
        "http://localhost".to_owned(),
        format!("https://localhost:{port}"),
        format!("http://x.localhost:{port}"),
        format!("http://localhost:{}", port + 1),
    ] {
        refused(&it, Lie::Origin(origin)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_another_relying_party_decides_nothing() {
    let it = Scene::new().await;
    refused(&it, Lie::RpId("evil.example".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_without_user_verification_or_presence_nothing_is_decided() {
    let it = Scene::new().await;
    refused(&it, Lie::NotVerified).await;
    refused(&it, Lie::NotPresent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_used_challenge_is_used_up_by_a_failed_try_too() {
    let it = Scene::new().await;
    let id = it.request("Deploy").await;
    let options = it
        .bea
        .decision_options(&id, "approve", None)
        .await
        .expect("Bea may");
    let failed = it
        .bea
        .finish_decision(&it.bea.sign_decision(&options, &[Lie::FlippedSignature]))
        .await;
    assert_problem!(failed, 401, "ceremony-failed");
    let honest = it.bea.finish_decision(&it.bea.sign_decision(&options, &[])).await;
    assert_problem!(honest, 409, "ceremony-spent");
    // A used one, sent once more with another answer, makes no second decision.
    let signed = it
        .bea
        .begin_decision(&id, "approve", None)
        .await
        .expect("Bea may");
    assert_eq!(it.bea.finish_decision(&signed).await.status, 200);
    let mut other = signed.clone();
    other.body["credential"]["clientExtensionResults"] = json!({"x": 1});
    assert_problem!(it.bea.finish_decision(&other).await, 409, "ceremony-spent");
    assert_eq!(it.ada.journal("decision.recorded").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_an_answer_for_one_request_or_decision_counts_for_no_other() {
    let it = Scene::new().await;
    let (one, two) = (it.request("Deploy one").await, it.request("Deploy two").await);
    let mut signed = it
        .bea
        .begin_decision(&one, "approve", None)
        .await
        .expect("Bea may");
    signed.request = two.clone();
    assert_problem!(it.bea.finish_decision(&signed).await, 401, "ceremony-failed");
    // A rejection does not become an approval: what was signed says which it is.
    let signed = it
        .bea
        .begin_decision(&one, "reject", Some("No"))
        .await
        .expect("Bea may");
    let mut turned = signed.body.clone();
    turned["decision"] = json!("approve");
    let answer = it
        .bea
        .post(&format!("/api/v1/approvals/{one}/decision"), &turned)
        .await;
    assert_ne!(answer.status, 200, "{answer:?}");
    for id in [one, two] {
        assert_eq!(it.ci.request(&id).await["status"], "pending");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_another_persons_passkey_decides_nothing() {
    let it = Scene::new().await;
    let stranger = it.ada.passkey();
    refused(&it, Lie::PasskeyOf(Box::new(stranger))).await;
    refused(&it, Lie::UserHandle(vec![7; 16])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_challenge_does_not_outlive_the_process() {
    let mut it = Scene::new().await;
    let id = it.request("Deploy").await;
    let options = it
        .bea
        .decision_options(&id, "approve", None)
        .await
        .expect("Bea may");
    let issued = jiff::Timestamp::now();
    let expires: jiff::Timestamp = options.expires_at.parse().expect("a time");
    let seconds = expires.duration_since(issued).as_secs();
    assert!((110..=121).contains(&seconds), "two minutes: {seconds}");
    let signed = it.bea.sign_decision(&options, &[]);
    it.appliance.restart().await;
    assert_problem!(it.bea.finish_decision(&signed).await, 409, "ceremony-spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_a_counter_that_goes_back_is_a_clone() {
    let it = Scene::new().await;
    let mut key = Authenticator::device_bound(&it.appliance.origin());
    assert_eq!(it.bea.add_passkey(&mut key, "Key").await.status, 201);
    for n in 0..3 {
        let id = it.request(&format!("Deploy {n}")).await;
        it.bea.approve(&id).await;
    }
    refused(&it, Lie::Counter(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c9_a_ceremony_in_a_foreign_frame_decides_nothing() {
    let it = Scene::new().await;
    refused(&it, Lie::CrossOrigin).await;
    refused(&it, Lie::TopOrigin("https://evil.example".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_a_passkey_that_was_slipped_in_decides_nothing_for_the_hold() {
    let it = Scene::start(Options::default().env("SIGNEDAPPROVAL_SECURITY__PASSKEY_HOLD", "1h")).await;
    // Bea enrolled under the hold herself; what is tried here is a further passkey, by somebody with her session.
    let mut thief = Authenticator::synced(&it.appliance.origin());
    let options = it
        .bea
        .post("/api/v1/me/passkeys/options", &json!({"label": "x"}))
        .await
        .expect(200);
    let created = thief.create(&options["publicKey"]).expect("a passkey");
    // Without one she holds, nothing is added.
    let own = thief.get(&options["publicKey"]);
    let confirm = own.unwrap_or_else(|_| {
        json!({"id": "AA", "rawId": "AA", "type": "public-key", "response": {
        "clientDataJSON": "e30", "authenticatorData": "AAAA", "signature": "AAAA"}})
    });
    let body = json!({"ceremony": options["ceremony"], "confirm": confirm, "credential": created});
    let answer = it.bea.post("/api/v1/me/passkeys", &body).await;
    assert!(matches!(answer.status, 400 | 401), "{answer:?}");
    // Added rightly, it signs in and does not decide yet.
    let mut tablet = Authenticator::synced(&it.appliance.origin());
    assert_eq!(it.bea.add_passkey(&mut tablet, "Tablet").await.status, 201);
    let held = it.bea.get("/api/v1/me/passkeys").await.expect(200);
    let newest = held["items"]
        .as_array()
        .expect("a list")
        .last()
        .expect("one")
        .clone();
    let from: jiff::Timestamp = text(&newest, "decides_from").parse().expect("a time");
    let seconds = from.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((3_500..=3_600).contains(&seconds), "an hour: {seconds}");
    let id = it.request("Deploy").await;
    let answer = it.bea.decide(&id, "approve", None).await;
    assert_problem!(answer, 403, "not-eligible");
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_where_a_rule_wants_a_passkey_bound_to_its_device_a_synced_one_decides_nothing() {
    let it = Scene::new().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [{"name": "Bound", "match": {"environment": "production"},
                "require": {"method": ["passkey"], "device_bound": true}}]}),
        )
        .await;
    let dan = Person::new(&it.appliance, "Dan");
    *dan.authenticator() = Authenticator::synced(&it.appliance.origin());
    let url = text(&it.ada.invite("Dan", &["approver"]).await, "invite_url");
    dan.claim(&url).await.expect(201);
    let body = json!({"action": "Deploy", "environment": "production", "ttl_seconds": 600});
    let opened = it.ci.post("/api/v1/approvals/request", &body).await.expect(201);
    let id = text(&opened, "id");
    assert_problem!(dan.decide(&id, "approve", None).await, 403, "method-not-allowed");
    let page = dan.get(&format!("/a/{id}")).await.text();
    assert!(
        page.contains("can’t be copied off its device"),
        "the page says why"
    );
    // A further one that is bound does; and the synced one still does not, once there are both.
    let mut key = Authenticator::device_bound(&it.appliance.origin());
    assert_eq!(dan.add_passkey(&mut key, "Key").await.status, 201);
    let key = key.passkey().clone();
    dan.authenticator().forget(&key.id);
    assert_problem!(dan.decide(&id, "approve", None).await, 403, "method-not-allowed");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
    dan.authenticator().import(key);
    dan.approve(&id).await;
    assert_eq!(it.ci.request(&id).await["status"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn c18_a_stolen_session_reads_and_decides_nothing() {
    let it = Scene::new().await;
    let id = it.request("Deploy").await;
    let stolen = it.bea.session_cookie().expect("a session");
    let thief = Person::new(&it.appliance, "Mallory");
    thief.set_session_cookie(&stolen);
    assert_eq!(
        thief.get(&format!("/api/v1/approvals/{id}")).await.status,
        200,
        "it reads"
    );
    let options = thief
        .post(
            &format!("/api/v1/approvals/{id}/decision/options"),
            &json!({"decision": "approve"}),
        )
        .await
        .expect(200);
    let mut own = Authenticator::synced(&it.appliance.origin());
    let mut creation = it
        .bea
        .post("/api/v1/me/passkeys/options", &json!({"label": "x"}))
        .await
        .expect(200);
    own.create(&creation["publicKey"].take())
        .expect("a passkey of the thief's");
    let thiefs = own.passkey().clone();
    let credential = it
        .bea
        .authenticator()
        .get_lying(&options["publicKey"], &[Lie::PasskeyOf(Box::new(thiefs))])
        .expect("an answer");
    let body = json!({"ceremony": options["ceremony"], "credential": credential});
    let answer = thief
        .post(&format!("/api/v1/approvals/{id}/decision"), &body)
        .await;
    assert_problem!(answer, 401, "ceremony-failed");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
    // Its owner sees it and ends it.
    let sessions = it.bea.get("/api/v1/me/sessions").await.expect(200);
    let sessions = sessions["items"].as_array().expect("a list").clone();
    let here = sessions
        .iter()
        .find(|it| it["this"] == true)
        .expect("this one")
        .clone();
    assert_problem!(
        it.ada
            .delete(&format!("/api/v1/me/sessions/{}", text(&here, "id")))
            .await,
        404,
        "not-found"
    );
    it.bea
        .delete(&format!("/api/v1/me/sessions/{}", text(&here, "id")))
        .await
        .expect(204);
    assert_eq!(thief.get("/api/v1/me").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn c19_a_session_from_before_the_sign_in_is_not_the_one_after_it() {
    let it = Scene::new().await;
    let before = it.bea.session_cookie().expect("a session");
    it.bea.sign_in().await;
    let after = it.bea.session_cookie().expect("a session");
    assert_ne!(before, after);
    it.bea.set_session_cookie(&before);
    assert_eq!(it.bea.get("/api/v1/me").await.status, 401, "the old one ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn c20_recovery_takes_two_admins_and_the_hold() {
    let it = Scene::new().await;
    let eve = it.ada.bring_in(&it.appliance, "Eve", &["admin"]).await;
    let path = format!("/api/v1/people/{}/recovery", it.bea.id());
    assert_problem!(
        it.bea.post(&path, &json!({"reason": "mine"})).await,
        403,
        "forbidden"
    );
    // One admin alone: a proposal, and nothing has changed.
    let asked = it
        .ada
        .post(&path, &json!({"reason": "Lost her phone; seen in person"}))
        .await
        .expect(202);
    let proposal = text(&asked, "proposal");
    it.bea.sign_in().await;
    let again = it
        .ada
        .post(&format!("/api/v1/people/{}/invitations", it.bea.id()), &json!({}))
        .await;
    assert_problem!(again, 403, "not-allowed");
    // Nor does the same admin confirm it.
    let own = it
        .ada
        .post(
            &format!("/api/v1/proposals/{proposal}/confirmation/options"),
            &json!({}),
        )
        .await;
    assert_problem!(own, 403, "not-eligible");
    confirm(&eve, &proposal).await;
    // Her passkeys and sessions ended.
    assert_eq!(it.bea.get("/api/v1/me").await.status, 401);
    let answer = it.bea.try_sign_in(&[]).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    let revoked = it.ada.journal("passkey.revoked").await;
    assert!(
        text(&revoked[0]["data"], "reason").contains("seen in person"),
        "{revoked:?}"
    );
    let invited = it
        .ada
        .post(&format!("/api/v1/people/{}/invitations", it.bea.id()), &json!({}))
        .await;
    let url = text(&invited.json(), "invite_url");
    let back = Person::enrol(&it.appliance, "Bea", &url).await;
    assert_eq!(back.id(), it.bea.id(), "the same person");
}

#[tokio::test(flavor = "multi_thread")]
async fn c20_after_a_recovery_on_the_host_the_new_passkey_waits_too() {
    let it = Scene::start(Options::default().env("SIGNEDAPPROVAL_SECURITY__PASSKEY_HOLD", "24h")).await;
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
    let made: Value = serde_json::from_str(&out).expect("JSON");
    let back = Person::enrol(&it.appliance, "Bea", &text(&made, "url")).await;
    let id = it.request("Deploy").await;
    assert_problem!(back.decide(&id, "approve", None).await, 403, "not-eligible");
    assert_eq!(
        it.ada.journal("passkey.revoked").await[0]["actor"]["kind"],
        "host"
    );
}

async fn confirm(admin: &Person, proposal: &str) {
    let base = format!("/api/v1/proposals/{proposal}/confirmation");
    let options = admin
        .post(&format!("{base}/options"), &json!({}))
        .await
        .expect(200);
    let credential = admin
        .authenticator()
        .get(&options["publicKey"])
        .expect("the admin's passkey answers");
    let body = json!({"ceremony": options["ceremony"], "credential": credential});
    let answer = admin.post(&base, &body).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c21_a_known_and_an_unknown_passkey_get_the_same_answer() {
    let it = Scene::new().await;
    let known = it.bea.try_sign_in(&[Lie::FlippedSignature]).await;
    let unknown = it.bea.try_sign_in(&[Lie::CredentialId(vec![9; 32])]).await;
    let of = |answer: &crate::support::appliance::Answer| {
        let mut body = answer.json();
        body["instance"] = Value::Null;
        (answer.status, body.to_string())
    };
    assert_eq!(of(&known), of(&unknown));
    assert_eq!(known.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn passkeys_have_names_and_say_when_they_were_used_last() {
    let it = Scene::new().await;
    let mut key = Authenticator::device_bound(&it.appliance.origin());
    assert_eq!(it.bea.add_passkey(&mut key, "Key").await.status, 201);
    let held = it.bea.get("/api/v1/me/passkeys").await.expect(200);
    let items = held["items"].as_array().expect("a list").clone();
    assert_eq!(items.len(), 2);
    assert_eq!(items[1]["last_used_at"], Value::Null, "{held}");
    let path = format!("/api/v1/me/passkeys/{}", text(&items[1], "id"));
    it.bea
        .patch(&path, &json!({"label": "On my key ring"}))
        .await
        .expect(204);
    assert_problem!(
        it.ada.patch(&path, &json!({"label": "x"})).await,
        404,
        "not-found"
    );
    assert_problem!(
        it.bea.patch(&path, &json!({"label": ""})).await,
        400,
        "bad-request"
    );
    assert_problem!(
        it.bea.patch(&path, &json!({"label": "a\u{202e}b"})).await,
        422,
        "invalid"
    );
    it.bea.sign_in().await;
    let held = it.bea.get("/api/v1/me/passkeys").await.expect(200);
    let labels: Vec<String> = held["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| text(it, "label"))
        .collect();
    assert!(labels.contains(&"On my key ring".to_owned()), "{labels:?}");
    assert!(
        held["items"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|it| it["last_used_at"].is_string()),
        "{held}"
    );
    // The last one stays; with two, either may go.
    it.bea.delete(&path).await.expect(204);
    let last = format!("/api/v1/me/passkeys/{}", text(&items[0], "id"));
    assert_problem!(it.bea.delete(&last).await, 403, "not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_authenticator_models_are_enrolled() {
    let model = "cb69481e-8ff7-4039-93ec-0a2729a154a8";
    let it = crate::support::appliance::Appliance::start(
        Options::default().env("SIGNEDAPPROVAL_SECURITY__AUTHENTICATORS", model),
    )
    .await;
    let ada = Person::new(&it, "Ada");
    let refused = ada.claim(&it.setup_url()).await;
    assert_problem!(refused, 422, "invalid");
    let good: Vec<u8> = hex::decode(model.replace('-', "")).expect("hex");
    ada.authenticator().aaguid = good.try_into().expect("16 bytes");
    ada.claim(&it.setup_url()).await.expect(201);
    let held = ada.get("/api/v1/me/passkeys").await.expect(200);
    assert_eq!(held["items"][0]["aaguid"], model);
}
