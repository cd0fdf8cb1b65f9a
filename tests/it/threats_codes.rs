//! The catalogue of attacks on one-time codes, by its numbers (C12 to C16). Codes are taken within a step of the server's clock, so
//! a test enrols with the code of now and decides with the one after it: no slow run makes a difference.

use std::fs;

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;

use crate::degraded::wait_for_reasons;
use crate::degraded::write_from_tomorrow;
use crate::phone::Scene;
use crate::support::appliance::Until;
use crate::support::authenticator::Totp;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// What takes codes: everything but production, which wants a passkey.
pub fn codes_policy() -> Value {
    json!({"rules": [
        {"name": "Production by passkey", "match": {"environment": "production"}, "require": {"method": ["passkey"]}},
        {"name": "Staging", "match": {"environment": "staging"}, "require": {"method": ["passkey", "totp"]}},
    ], "default": {"method": ["passkey", "totp"], "quorum": 1}})
}

/// A scene in which codes are taken, and Bea's app.
pub async fn scene() -> (Scene, Totp) {
    let it = Scene::new().await;
    it.ada.put_policy("default", &codes_policy()).await;
    let app = it.bea.enrol_totp().await;
    (it, app)
}

fn unix_seconds() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).expect("after 1970")
}

/// A code that counts and was not used yet: the one after now.
pub fn next_code(app: &Totp) -> String {
    app.code_at(unix_seconds() + app.period_s)
}

async fn refused_codes(admin: &Person) -> Vec<Value> {
    let mut events = admin.journal("ceremony.refused").await;
    events.retain(|it| !it["data"]["code"].is_null());
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_a_code_counts_once_on_any_request() {
    let (it, app) = scene().await;
    let (one, two) = (it.request("Deploy one").await, it.request("Deploy two").await);
    let (before, code) = (app.code(), next_code(&app));
    // The code that confirmed the app decides nothing.
    assert_problem!(
        it.bea.decide_by_totp(&one, "approve", &before, None).await,
        401,
        "ceremony-failed"
    );
    it.bea
        .decide_by_totp(&one, "approve", &code, None)
        .await
        .expect(200);
    // The same again, on the same request and another, and the code of the step before it.
    for (request, code) in [(&one, &code), (&two, &code), (&two, &before)] {
        let answer = it.bea.decide_by_totp(request, "approve", code, None).await;
        assert_problem!(answer, 401, "ceremony-failed");
    }
    assert_eq!(it.ci.request(&two).await["status"], "pending");
    assert_eq!(refused_codes(&it.ada).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_a_code_is_used_up_beyond_a_crash() {
    let (mut it, app) = scene().await;
    let (one, two) = (it.request("Deploy one").await, it.request("Deploy two").await);
    let code = next_code(&app);
    it.bea
        .decide_by_totp(&one, "approve", &code, None)
        .await
        .expect(200);
    it.appliance.kill9();
    it.appliance.restart().await;
    let answer = it.bea.decide_by_totp(&two, "approve", &code, None).await;
    assert_problem!(answer, 401, "ceremony-failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_a_code_in_another_dress_is_wrong_and_counts() {
    let (it, app) = scene().await;
    let id = it.request("Deploy").await;
    let code = next_code(&app);
    let full_width: String = code
        .chars()
        .map(|it| char::from_u32(it as u32 - u32::from('0') + 0xff10).expect("a digit"))
        .collect();
    for dressed in [
        format!(" {code}"),
        format!("{code}\u{a0}"),
        full_width,
        format!("+{code}"),
        code[1..].to_owned(),
    ] {
        let answer = it.bea.decide_by_totp(&id, "approve", &dressed, None).await;
        assert_problem!(answer, 401, "ceremony-failed");
    }
    assert_eq!(refused_codes(&it.ada).await.len(), 5);
    // They were five wrong ones: the right one is not looked at now.
    let answer = it.bea.decide_by_totp(&id, "approve", &code, None).await;
    assert_problem!(answer, 429, "too-many");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_of_200_guesses_at_once_five_are_looked_at_and_no_crash_gives_more() {
    let (mut it, app) = scene().await;
    let id = it.request("Deploy").await;
    let wrong = app.wrong_code();
    let guesses = (0..200).map(|_| it.bea.decide_by_totp(&id, "approve", &wrong, None));
    let answers = join_all(guesses).await;
    let with = |status: u16| answers.iter().filter(|it| it.status == status).count();
    assert_eq!((with(401), with(429)), (5, 195));
    assert_eq!(refused_codes(&it.ada).await.len(), 5, "and no more are recorded");

    it.appliance.kill9();
    it.appliance.restart().await;
    let answer = it
        .bea
        .decide_by_totp(&id, "approve", &next_code(&app), None)
        .await;
    assert_problem!(answer, 429, "too-many");
    let wait: u64 = answer
        .header("retry-after")
        .expect("it says when")
        .parse()
        .expect("seconds");
    assert!((1..=300).contains(&wait), "{wait}");
    assert_eq!(refused_codes(&it.ada).await.len(), 5);
    // Passkeys are never locked by it.
    it.bea.approve(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c15_a_right_code_where_no_rule_takes_it_is_refused_and_used_up() {
    let (it, app) = scene().await;
    let body = json!({"action": "Deploy", "environment": "production", "ttl_seconds": 600});
    let opened = it.ci.post("/api/v1/approvals/request", &body).await.expect(201);
    let production = text(&opened, "id");
    let other = it.request("Restart").await;
    let code = next_code(&app);
    let answer = it.bea.decide_by_totp(&production, "approve", &code, None).await;
    assert_problem!(answer, 403, "method-not-allowed");
    let answer = it.bea.decide_by_totp(&other, "approve", &code, None).await;
    assert_problem!(answer, 401, "ceremony-failed");
    let refused = refused_codes(&it.ada).await;
    assert!(refused[0]["data"]["code"]["burnt_step"].is_u64(), "{refused:?}");
    assert_eq!(refused[1]["data"]["code"], json!({}), "the second one was wrong");
    // Nor where no policy says anything of codes.
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [], "default": {"method": ["passkey"]}}),
        )
        .await;
    let plain = it.request("Deploy again").await;
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    let app = dan.enrol_totp().await;
    let answer = dan
        .decide_by_totp(&plain, "approve", &next_code(&app), None)
        .await;
    assert_problem!(answer, 403, "method-not-allowed");
    // And nobody without an app has a code to give.
    let answer = it.ada.decide_by_totp(&plain, "approve", "123456", None).await;
    assert_problem!(answer, 403, "method-not-allowed");
    for id in [production, other, plain] {
        assert_eq!(it.ci.request(&id).await["status"], "pending");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c16_a_clock_a_minute_and_a_half_away_gives_no_code() {
    let (it, app) = scene().await;
    let id = it.request("Deploy").await;
    for away in [unix_seconds() - 90, unix_seconds() + 120] {
        let answer = it
            .bea
            .decide_by_totp(&id, "approve", &app.code_at(away), None)
            .await;
        assert_problem!(answer, 401, "ceremony-failed");
    }
    it.bea
        .decide_by_totp(&id, "approve", &next_code(&app), None)
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn c16_while_the_servers_clock_is_unsound_no_code_counts() {
    let (mut it, app) = scene().await;
    let id = it.request("Deploy").await;
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    it.appliance.stop().await;
    write_from_tomorrow(&it.appliance, &it.appliance.public_url());
    it.appliance
        .expect_error("the host's clock is behind the journal");
    it.appliance.options.until = Until::Alive;
    it.appliance.restart().await;
    wait_for_reasons(&it.appliance, &["clock_unsound"]).await;
    let answer = it
        .bea
        .decide_by_totp(&id, "approve", &next_code(&app), None)
        .await;
    assert_problem!(answer, 503, "clock-unsound");
    // Nor is an app enrolled by a clock that is wrong.
    let made = dan.set_up_totp().await.expect(201);
    let app = Totp::from_otpauth_url(&text(&made, "otpauth_url"));
    let answer = dan
        .post("/api/v1/me/totp/confirm", &json!({"code": app.code()}))
        .await;
    assert_problem!(answer, 503, "clock-unsound");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
}

/// No byte of a secret is in what the appliance wrote, but sealed.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_nowhere_on_disk_as_it_is() {
    let mut it = Scene::new().await;
    let made = it.bea.set_up_totp().await.expect(201);
    let url = text(&made, "otpauth_url");
    let app = Totp::from_otpauth_url(&url);
    it.bea
        .post("/api/v1/me/totp/confirm", &json!({"code": app.code()}))
        .await
        .expect(200);
    let base32 = text(&made, "secret").replace(' ', "");
    assert!(url.contains(&base32));
    it.appliance.kill9();
    let mut open = vec![it.appliance.data_dir().to_owned()];
    let mut looked_at = 0;
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                looked_at += bytes.len();
                for needle in [base32.as_bytes(), app.secret()] {
                    let found = bytes.windows(needle.len()).any(|it| it == needle);
                    assert!(!found, "{}", path.display());
                }
            }
        }
    }
    assert!(looked_at > 10_000, "the database was looked at");
    assert!(!it.appliance.log().contains(&base32));
}
