//! Settings → Diagnostics: what each forge's clock says, what came and was sent last, which hosts are called; and a support
//! bundle that names nobody and holds no secret.

use serde_json::{Value, json};

use crate::browser::{assert_clean, can_run, shoot};
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::monitor::page_says;
use crate::support::receivers::{Kind, Receiver};

const PAGE: &str = "/dashboard/settings/diagnostics";
const BUNDLE: &str = "/dashboard/settings/diagnostics/bundle";

#[tokio::test(flavor = "multi_thread")]
async fn diagnostics_tell_where_to_look_and_the_bundle_names_nobody() {
    let it = Gated::start().await;
    let receiver = Receiver::start(Kind::Datadog {
        key: "sink-secret-4711".into(),
    });
    let made =
        json!({ "kind": "datadog", "name": "Kennel", "url": receiver.url(), "token": "sink-secret-4711" });
    it.ada.post("/api/v1/sinks", &made).await.expect(201);
    let mail = json!({"mail": {"host": "mail.example", "port": 587, "tls": "starttls", "from": "gate@example.com",
        "username": "postman", "password": "mail-secret-4712"}});
    it.ada
        .put("/api/v1/settings/notifications", &mail)
        .await
        .expect(200);
    let key = it
        .ada
        .create_api_key("Robot pipeline", &["request"], &[])
        .await
        .key;
    let group = it.ada.create_group("Night watch", &[&it.bea]).await;
    let change = it.open("secret-project-x", "main");
    let request = it.pending(&change, "main").await;
    it.bea.approve(&request).await;

    // What was called has told its time; what came and is called stands there.
    page_says(&it.ada, PAGE, "the same as ours, within 2 s").await;
    let page = it.ada.get(PAGE).await.text();
    let place = it.gitlab.base_url();
    let place = place.split("//").nth(1).expect("a URL").trim_end_matches('/');
    for text in [
        place,
        "mail.example:587",
        "Kennel",
        "fcm.googleapis.com:443",
        "Webhook last seen: <time",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    // A look at this moment, without a script; and nobody else may have one.
    let checked = it.ada.send("POST", PAGE, None).await;
    assert_eq!(checked.status, 200, "{checked:?}");
    for text in ["Its name leads to", "Its API took our token"] {
        assert!(checked.text().contains(text), "{text}: {}", checked.text());
    }
    it.gitlab.go_away();
    let checked = it.ada.send("POST", PAGE, None).await.text();
    assert!(!checked.contains("Its API took our token"), "{checked}");
    it.gitlab.come_back();
    assert_eq!(it.bea.get(PAGE).await.status, 403);
    assert_eq!(it.bea.get(BUNDLE).await.status, 403);
    assert_eq!(it.bea.send("POST", PAGE, None).await.status, 403);
    let strange = it.appliance.api().get(BUNDLE).await;
    assert_eq!(strange.status, 401, "{strange:?}");

    let answer = it.ada.get(BUNDLE).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-disposition")
            .is_some_and(|it| it.starts_with("attachment"))
    );
    let text = answer.text();
    let bundle: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(bundle["forges"][0]["kind"], "gitlab");
    assert_eq!(bundle["log_sinks"][0]["kind"], "datadog");
    assert_eq!(bundle["rows"]["requests"], 1);
    assert_eq!(bundle["journal"]["types_of_these"]["decision.recorded"], 1);
    assert!(
        bundle["forges"][0]["clock_ahead_seconds"]
            .as_i64()
            .is_some_and(|it| it.abs() < 60)
    );
    let settings = bundle["settings"].as_array().expect("a list");
    assert!(settings.len() > 20, "{settings:?}");
    // No secret, no person, nothing that people wrote, no host and no path.
    let folder = it.appliance.dir().display().to_string();
    let passphrase =
        std::fs::read_to_string(it.appliance.data_dir().join("keys/passphrase")).expect("evaluation");
    let session = it.ada.session_cookie().expect("signed in");
    let session = session.split_once('=').expect("a cookie").1;
    let group = group["id"].as_str().expect("an id");
    for kept in [
        &it.token,
        &key,
        "sink-secret-4711",
        "mail-secret-4712",
        passphrase.trim(),
        session,
        "Ada",
        "Bea",
        "Carl",
        "ada@",
        "postman",
        "gate@",
        "Robot",
        "Kennel",
        "Night watch",
        group,
        &it.ada.id(),
        &it.bea.id(),
        "secret-project-x",
        "refs/heads",
        &change.head,
        &request,
        &it.project,
        place,
        "mail.example",
        "127.0.0.1",
        "localhost",
        &folder,
    ] {
        assert!(!text.contains(kept), "{kept} is in the bundle: {text}");
    }

    if !can_run("diagnostics_tell_where_to_look_and_the_bundle_names_nobody") {
        return;
    }
    let browser = Browser::start().await;
    browser.goto(&format!("{}/help", it.appliance.base())).await;
    let cookie = it.ada.session_cookie().expect("signed in");
    let (name, value) = cookie.split_once('=').expect("a cookie");
    browser
        .cdp(
            "Network.setCookie",
            &json!({"name": name, "value": value, "url": it.appliance.base(), "httpOnly": true, "sameSite": "Strict"}),
        )
        .await;
    browser.goto(&format!("{}{PAGE}", it.appliance.base())).await;
    browser
        .click("form[action='/dashboard/settings/diagnostics'] button")
        .await;
    browser.wait_for_text("Check again").await;
    shoot(&browser, "diagnostics").await;
    assert_clean(&browser, &it.appliance).await;
}
