//! Passkey ceremonies: every lie of an authenticator is refused and recorded, every ceremony is used once, and a session
//! is only ever the way in.

use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::authenticator::Authenticator;
use crate::support::authenticator::Lie;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;
use crate::support::problem::check_form;

struct Scene {
    appliance: Appliance,
    ada: Person,
    bea: Person,
    ci: Api,
}

impl Scene {
    async fn new() -> Scene {
        let appliance = Appliance::start(Options::default()).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let key = ada.create_api_key("CI", &["request"], &[]).await.key;
        let ci = appliance.api().with_key(&key);
        Scene {
            appliance,
            ada,
            bea,
            ci,
        }
    }

    async fn request(&self) -> String {
        self.ci
            .open_request(&json!({"action": "Deploy", "ttl_seconds": 3600}))
            .await
    }

    async fn refusals(&self) -> usize {
        self.ada.journal("ceremony.refused").await.len()
    }
}

/// Every way in which an assertion of Bea's may depart from the truth; the other person is Ada.
fn lies(it: &Scene) -> Vec<(&'static str, Lie)> {
    let port = it.appliance.port();
    vec![
        ("an origin without port", Lie::Origin("http://localhost".into())),
        (
            "an origin with another port",
            Lie::Origin(format!("http://localhost:{}", port + 1)),
        ),
        (
            "an origin with another scheme",
            Lie::Origin(format!("https://localhost:{port}")),
        ),
        (
            "an origin of a sub-domain",
            Lie::Origin(format!("http://x.localhost:{port}")),
        ),
        ("a foreign origin", Lie::Origin("https://evil.example".into())),
        ("another RP id", Lie::RpId("other.example".into())),
        ("no user verification", Lie::NotVerified),
        ("no user presence", Lie::NotPresent),
        ("crossOrigin", Lie::CrossOrigin),
        ("topOrigin", Lie::TopOrigin("https://evil.example".into())),
        (
            "topOrigin alone",
            Lie::TopOriginAlone("https://evil.example".into()),
        ),
        ("the type of a registration", Lie::Type("webauthn.create".into())),
        ("another challenge", Lie::Challenge(vec![7; 32])),
        ("a counter that goes back", Lie::Counter(1)),
        ("a flipped signature", Lie::FlippedSignature),
        ("altered client data", Lie::AlteredClientData),
        ("altered authenticator data", Lie::AlteredAuthenticatorData),
        ("backed up but not eligible", Lie::BackedUpButNotEligible),
        (
            "another person's passkey",
            Lie::PasskeyOf(Box::new(it.ada.passkey())),
        ),
        (
            "another person's credential id",
            Lie::CredentialId(it.ada.passkey().id),
        ),
        ("an unknown credential id", Lie::CredentialId(vec![9; 32])),
        (
            "another user handle",
            Lie::UserHandle(it.ada.passkey().user_handle),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lie_becomes_a_decision() {
    let it = Scene::new().await;
    // Some honest answers first, so that a counter can go back.
    for _ in 0..3 {
        it.bea.approve(&it.request().await).await;
    }
    // The library that checks passkeys tells the log of some lies itself.
    it.appliance.expect_error("webauthn_rs_core");
    let id = it.request().await;
    let decisions = it.ada.journal("decision.recorded").await.len();
    for (what, lie) in lies(&it) {
        let before = it.refusals().await;
        let answer = it.bea.decide_lying(&id, "approve", None, &[lie]).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        check_form(&answer);
        let events = it.ada.journal("ceremony.refused").await;
        assert_eq!(events.len(), before + 1, "{what} is recorded");
        let told = events.last().map(Value::to_string).unwrap_or_default();
        assert!(told.contains(&id), "{what}: the event names the request: {told}");
        assert!(
            told.contains(&it.bea.id()),
            "{what}: the event names the person: {told}"
        );
    }
    assert_eq!(it.ada.journal("decision.recorded").await.len(), decisions);
    assert_eq!(it.ci.request(&id).await["status"], "pending");
    it.bea.approve(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lie_opens_a_session() {
    let it = Scene::new().await;
    for _ in 0..3 {
        it.bea.sign_in().await;
    }
    it.bea.sign_out().await;
    it.appliance.expect_error("webauthn_rs_core");
    for (what, lie) in lies(&it) {
        // Another person's passkey, honest in itself, signs that person in: that is no lie here.
        if what == "another person's passkey" {
            continue;
        }
        let before = it.refusals().await;
        let answer = it.bea.try_sign_in(&[lie]).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert!(answer.header("set-cookie").is_none(), "{what}");
        assert_eq!(it.refusals().await, before + 1, "{what} is recorded");
        assert_eq!(it.bea.get("/api/v1/me").await.status, 401, "{what}");
    }
    it.bea.sign_in().await;
    assert_eq!(it.bea.get("/api/v1/me").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lie_enrols_a_passkey() {
    let it = Scene::new().await;
    let port = it.appliance.port();
    for (what, lie) in [
        ("origin", Lie::Origin(format!("http://localhost:{}", port + 1))),
        ("RP id", Lie::RpId("other.example".into())),
        ("UV", Lie::NotVerified),
        ("UP", Lie::NotPresent),
        ("crossOrigin", Lie::CrossOrigin),
        ("topOrigin", Lie::TopOriginAlone("https://evil.example".into())),
        ("type", Lie::Type("webauthn.get".into())),
        ("challenge", Lie::Challenge(vec![7; 32])),
        ("public key", Lie::BrokenPublicKey),
        ("taken credential id", Lie::CredentialId(it.ada.passkey().id)),
    ] {
        let invited = it.ada.invite(&format!("Dan {what}"), &["approver"]).await;
        let url = text(&invited, "invite_url");
        let before = it.ada.journal("person.enrolled").await.len();
        let dan = Person::new(&it.appliance, "Dan");
        let answer = dan.claim_lying(&url, &[lie]).await;
        assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        check_form(&answer);
        assert_eq!(it.ada.journal("person.enrolled").await.len(), before, "{what}");
        assert!(dan.session_cookie().is_none(), "{what}");
        // The invitation still works for an honest device.
        let honest = Person::new(&it.appliance, "Dan").claim(&url).await;
        assert_eq!(honest.status, 201, "{what}: {honest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_try_burns_its_ceremony() {
    let it = Scene::new().await;
    let id = it.request().await;
    let options = it
        .bea
        .decision_options(&id, "approve", None)
        .await
        .expect("Bea may decide");
    let wrong = it.bea.sign_decision(&options, &[Lie::FlippedSignature]);
    assert_eq!(it.bea.finish_decision(&wrong).await.status, 401);
    let honest = it.bea.sign_decision(&options, &[]);
    let late = it.bea.finish_decision(&honest).await;
    assert_problem!(late, 409, "ceremony-spent");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_answer_again_gets_the_same_200_and_any_other_409() {
    let it = Scene::new().await;
    let id = it.request().await;
    let options = it
        .bea
        .decision_options(&id, "approve", None)
        .await
        .expect("Bea may decide");
    let signed = it.bea.sign_decision(&options, &[]);
    let first = it.bea.finish_decision(&signed).await;
    assert_eq!(first.status, 200, "{first:?}");
    let entries = it.ada.journal("").await.len();
    for _ in 0..3 {
        let again = it.bea.finish_decision(&signed).await;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.json(), first.json());
    }
    let other = it.bea.sign_decision(&options, &[]);
    assert_ne!(other.body, signed.body, "another signature over the same");
    assert_problem!(it.bea.finish_decision(&other).await, 409, "ceremony-spent");
    let theirs = it.ada.finish_decision(&signed).await;
    assert!(
        matches!(theirs.status, 401 | 403 | 409),
        "another person's: {theirs:?}"
    );
    assert_eq!(
        it.ada.journal("").await.len(),
        entries,
        "nothing more is recorded"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_made_for_one_request_counts_for_no_other() {
    let it = Scene::new().await;
    let (one, two) = (it.request().await, it.request().await);
    let mut signed = it
        .bea
        .begin_decision(&one, "approve", None)
        .await
        .expect("Bea may decide");
    signed.request = two.clone();
    let moved = it.bea.finish_decision(&signed).await;
    assert!(matches!(moved.status, 401 | 409), "{moved:?}");
    signed.request = one.clone();
    let back = it.bea.finish_decision(&signed).await;
    assert_problem!(back, 409, "ceremony-spent");
    // The answer of one ceremony under the name of another.
    let (first, second) = (
        it.bea
            .begin_decision(&one, "approve", None)
            .await
            .expect("Bea may decide"),
        it.bea
            .begin_decision(&two, "approve", None)
            .await
            .expect("Bea may decide"),
    );
    let mut crossed = second.clone();
    crossed.body["credential"] = first.body["credential"].clone();
    let answer = it.bea.finish_decision(&crossed).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    for id in [one, two] {
        assert_eq!(it.ci.request(&id).await["status"], "pending");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_no_decision() {
    let it = Scene::new().await;
    let id = it.request().await;
    let options = it
        .bea
        .post("/api/v1/session/options", &json!({}))
        .await
        .expect(200);
    let credential = it
        .bea
        .authenticator()
        .get(&options["publicKey"])
        .expect("Bea's passkey answers");
    let body = json!({"ceremony": options["ceremony"], "credential": credential});
    let answer = it
        .bea
        .post(&format!("/api/v1/approvals/{id}/decision"), &body)
        .await;
    assert!(matches!(answer.status, 401 | 409), "{answer:?}");
    let signed = it
        .bea
        .begin_decision(&id, "approve", None)
        .await
        .expect("Bea may decide");
    let answer = it.bea.post("/api/v1/session", &signed.body).await;
    assert!(matches!(answer.status, 401 | 409), "{answer:?}");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_says_exactly_what_was_shown() {
    let it = Scene::new().await;
    let id = it.request().await;
    let options = it
        .bea
        .decision_options(&id, "reject", Some("Not today"))
        .await
        .expect("Bea may decide");
    let mut signed = it.bea.sign_decision(&options, &[]);
    // A body that asks for something else than the ceremony was opened for.
    signed.body["decision"] = json!("approve");
    let answer = it.bea.finish_decision(&signed).await;
    assert_ne!(answer.status, 200, "{answer:?}");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
    it.bea.reject(&id, "Not today").await;
    let shown = it.ci.request(&id).await;
    assert_eq!(shown["status"], "rejected");
    let credential = text(&shown["decisions"][0], "credential");
    let file = it
        .ci
        .get(&format!("/api/v1/credentials/{credential}"))
        .await
        .json();
    let payload = STANDARD.decode(text(&file, "payload")).expect("base64");
    let payload: Value = serde_json::from_slice(&payload).expect("JSON");
    assert_eq!(payload["predicate"]["comment"], "Not today");
    assert_eq!(payload["predicate"]["decision"], "reject");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_refused_without_harm() {
    let it = Scene::new().await;
    let id = it.request().await;
    for credential in [
        json!({}),
        json!({"id": "", "rawId": "", "type": "public-key", "response": {}}),
        json!({"id": "AA", "rawId": "AA", "type": "public-key", "response": {
            "clientDataJSON": "!!!", "authenticatorData": "AA", "signature": "AA"}}),
        json!({"id": "AA", "rawId": "AA", "type": "public-key", "response": {
            "clientDataJSON": "e30", "authenticatorData": "", "signature": ""}}),
    ] {
        let options = it
            .bea
            .decision_options(&id, "approve", None)
            .await
            .expect("Bea may decide");
        let body = json!({"ceremony": options.ceremony, "credential": credential});
        let answer = it
            .bea
            .post(&format!("/api/v1/approvals/{id}/decision"), &body)
            .await;
        assert!(matches!(answer.status, 400 | 401), "{credential}: {answer:?}");
        check_form(&answer);
    }
    let unknown = json!({"ceremony": "cer_00000000000000000000000000", "credential": {}});
    let answer = it
        .bea
        .post(&format!("/api/v1/approvals/{id}/decision"), &unknown)
        .await;
    assert!(matches!(answer.status, 400 | 409), "{answer:?}");
    it.bea.approve(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_works_once() {
    let it = Scene::new().await;
    let url = text(&it.ada.invite("Dan", &["approver"]).await, "invite_url");
    Person::enrol(&it.appliance, "Dan", &url).await;
    let thief = Person::new(&it.appliance, "Mallory").claim(&url).await;
    assert_problem!(thief, 409, "link-spent");
    let guessed = Person::new(&it.appliance, "Mallory")
        .claim(&format!("{}x", url))
        .await;
    assert!(matches!(guessed.status, 404 | 409), "{guessed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_use_one_invitation_at_once_become_one_person() {
    let it = Scene::new().await;
    let url = text(&it.ada.invite("Dan", &["approver"]).await, "invite_url");
    let (one, two) = (
        Person::new(&it.appliance, "Dan"),
        Person::new(&it.appliance, "Mallory"),
    );
    let (first, second) = tokio::join!(one.claim(&url), two.claim(&url));
    let good = [&first, &second].iter().filter(|it| it.status == 201).count();
    assert!(good <= 1, "{first:?} {second:?}");
    assert_eq!(
        it.ada.journal("person.enrolled").await.len(),
        2 + good,
        "Ada, Bea and at most one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_set_up_link_works_once() {
    let appliance = Appliance::start(Options::default()).await;
    let url = appliance.setup_url();
    let ada = Person::new(&appliance, "Ada");
    ada.claim(&url).await.expect(201);
    assert_eq!(ada.roles(), ["admin", "approver"]);
    let second = Person::new(&appliance, "Mallory").claim(&url).await;
    assert!(matches!(second.status, 404 | 409), "{second:?}");
    assert_eq!(ada.journal("person.enrolled").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_appliance_makes_no_new_set_up_link() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    appliance.restart().await;
    assert!(!appliance.data_dir().join("setup-url").exists());
    assert_eq!(
        ada.get("/api/v1/me").await.status,
        200,
        "a session outlives a restart"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclaimed_appliance_makes_a_new_link_at_each_start() {
    let mut appliance = Appliance::start(Options::default()).await;
    let old = appliance.setup_url();
    appliance.restart().await;
    let new = appliance.setup_url();
    assert_ne!(old, new);
    let late = Person::new(&appliance, "Mallory").claim(&old).await;
    assert!(matches!(late.status, 404 | 409), "{late:?}");
    Person::new(&appliance, "Ada").claim(&new).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_cookie_is_kept_from_scripts_and_other_sites() {
    let it = Scene::new().await;
    let answer = it.bea.try_sign_in(&[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    let lower = cookie.to_lowercase();
    for part in ["httponly", "samesite=strict", "path=/"] {
        assert!(lower.split(';').any(|it| it.trim() == part), "{part} in {cookie}");
    }
    assert!(!lower.contains("domain="), "{cookie}");
    let value = cookie
        .split(';')
        .next()
        .and_then(|it| it.split_once('='))
        .expect("a value")
        .1;
    assert!(value.len() >= 32, "a token that nobody guesses: {cookie}");
    let journal = serde_json::to_string(&it.ada.journal("").await).expect("JSON");
    assert!(!journal.contains(value), "the token stands in no record");
    assert!(!it.appliance.log().contains(value), "nor in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_the_sign_out() {
    let it = Scene::new().await;
    let stolen = it.bea.session_cookie().expect("Bea is signed in");
    it.bea.sign_out().await;
    assert!(
        it.bea.session_cookie().is_none(),
        "the browser forgets the cookie"
    );
    it.bea.set_session_cookie(&stolen);
    assert_eq!(
        it.bea.get("/api/v1/me").await.status,
        401,
        "a copy of it opens nothing"
    );
    it.bea.set_session_cookie("");
    it.bea.sign_in().await;
    let fresh = it.bea.session_cookie().expect("Bea is signed in");
    assert_ne!(fresh, stolen);
    assert_eq!(it.bea.get("/api/v1/me").await.json()["id"], it.bea.id());
}

/// Idle time is real time: this test lets a minute of it pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_uses_ends_after_its_idle_time() {
    let options = Options::default().config("[security]\nsession_idle = \"1m\"\n");
    let appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(61) {
        // Ada is there all the time, Bea is not.
        ada.get("/api/v1/me").await.expect(200);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    ada.get("/api/v1/me").await.expect(200);
    let answer = bea.get("/api/v1/me").await;
    assert_problem!(answer, 401, "unauthenticated");
    // Looking again does not revive it; the passkey does.
    assert_eq!(bea.get("/api/v1/me").await.status, 401);
    bea.sign_in().await;
    bea.get("/api/v1/me").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_taken_over_from_before_the_sign_in() {
    let it = Scene::new().await;
    let planted = "signedapproval-session=planted-by-somebody-else";
    it.bea.set_session_cookie(planted);
    it.bea.sign_in().await;
    let own = it.bea.session_cookie().expect("Bea is signed in");
    assert!(!own.contains("planted"), "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_passkey_is_confirmed_by_one_that_is_held() {
    let it = Scene::new().await;
    let mut tablet = Authenticator::synced(&it.appliance.origin());
    let added = it.bea.add_passkey(&mut tablet, "Tablet").await;
    assert_eq!(added.status, 201, "{added:?}");
    let events = it.ada.journal("passkey.added").await;
    assert!(!events.is_empty());

    // Confirmed by somebody else's passkey.
    let options = it
        .bea
        .post("/api/v1/me/passkeys/options", &json!({"label": "x"}))
        .await
        .expect(200);
    let stranger = Lie::PasskeyOf(Box::new(it.ada.passkey()));
    let confirm = it
        .bea
        .authenticator()
        .get_lying(&options["confirm"], &[stranger])
        .expect("an answer");
    let mut device = Authenticator::device_bound(&it.appliance.origin());
    let created = device.create(&options["publicKey"]).expect("a passkey");
    let body = json!({"ceremony": options["ceremony"], "confirm": confirm, "credential": created});
    let refused = it.bea.post("/api/v1/me/passkeys", &body).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let again = it.bea.post("/api/v1/me/passkeys", &body).await;
    assert_eq!(again.status, 409, "{again:?}");
    let held = it.bea.get("/api/v1/me/passkeys").await.expect(200);
    assert_eq!(held["items"].as_array().map(Vec::len), Some(2), "{held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_that_was_removed_decides_nothing() {
    let it = Scene::new().await;
    let mut tablet = Authenticator::synced(&it.appliance.origin());
    assert_eq!(it.bea.add_passkey(&mut tablet, "Tablet").await.status, 201);
    let id = it.request().await;
    let phone = it.bea.authenticator().passkeys()[0].clone();
    let options = it
        .bea
        .decision_options(&id, "approve", None)
        .await
        .expect("Bea may decide");
    let gone = it
        .bea
        .delete(&format!("/api/v1/me/passkeys/{}", phone.id_b64url()))
        .await;
    assert!((200..300).contains(&gone.status), "{gone:?}");
    let signed = it.bea.sign_decision(&options, &[Lie::PasskeyOf(Box::new(phone))]);
    let refused = it.bea.finish_decision(&signed).await;
    assert!(matches!(refused.status, 401 | 403), "{refused:?}");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_ceremonies_stop_nobody() {
    let it = Scene::new().await;
    let id = it.request().await;
    let mine = it
        .bea
        .begin_decision(&id, "approve", None)
        .await
        .expect("Bea may decide");
    let api = it.appliance.api();
    let mut refused = 0;
    for _ in 0..300 {
        let answer = api.post("/api/v1/session/options", &json!({})).await;
        assert!(matches!(answer.status, 200 | 429 | 503), "{answer:?}");
        refused += u32::from(answer.status != 200);
    }
    eprintln!("{refused} of 300 strangers were told to wait");
    let answer = it.bea.finish_decision(&mine).await;
    assert_eq!(answer.status, 200, "what was begun is not pushed out: {answer:?}");
    tokio::time::timeout(Duration::from_secs(10), it.bea.sign_in())
        .await
        .expect("a sign-in still works");
}
