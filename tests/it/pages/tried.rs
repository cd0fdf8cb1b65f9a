//! The two buttons that send whoever presses them a test, by mail and by push: what came of it stands beside them, well or not.
//! Skipped, visibly, where chromium is not installed.

use serde_json::json;

use crate::browser::{assert_clean, can_run, shoot};
use crate::notices::{configure, settings};
use crate::pages::every_page::joined;
use crate::pages::press;
use crate::phone::Scene;
use crate::support::browser::Browser;
use crate::support::person::text;
use crate::support::postman::Postman;
use crate::support::push::{Answering, PushService, Subscriber};

const NOTIFICATIONS: &str = "/dashboard/settings/notifications";

/// What stands where the answer to the last press is, which is right above the buttons and in sight.
async fn told(browser: &Browser, by: &str) -> String {
    press(browser, &format!("button[value={by}]")).await;
    let script = "const [said, form] = ['#tried', 'form:has(button[value=mail])'].map((it) => document.querySelector(it)); \
        const [a, b] = [said, form].map((it) => it.getBoundingClientRect()); \
        return [b.top - a.bottom, a.top >= 0 && b.bottom <= innerHeight, said.getAttribute('role')]";
    let at = browser.script(script, &[]).await;
    assert!(at[0].as_f64().is_some_and(|it| (0.0..40.0).contains(&it)), "{at}");
    assert_eq!((&at[1], &at[2]), (&json!(true), &json!("status")), "{at}");
    browser.text("#tried").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sends_themself_a_test_and_reads_what_came_of_it_beside_the_button() {
    if !can_run("an_admin_sends_themself_a_test_and_reads_what_came_of_it_beside_the_button") {
        return;
    }
    let it = Scene::new().await;
    let base = it.appliance.base();
    let (postman, push) = (Postman::start().await, PushService::start().await);
    let url = text(
        &it.ada.invite("Dana Reyes", &["admin", "approver"]).await,
        "invite_url",
    );
    let browser = joined(&url).await;

    // Before anything is set up: why nothing was sent, and where to set it up.
    browser.goto(&format!("{base}{NOTIFICATIONS}")).await;
    let said = told(&browser, "mail").await;
    assert!(
        said.contains("No mail was sent: no mail server is set up."),
        "{said}"
    );
    let said = told(&browser, "push").await;
    assert!(said.contains("no device of yours takes them yet"), "{said}");
    let href = browser
        .script("return document.querySelector('#tried a').pathname", &[])
        .await;
    assert_eq!(href, "/a/phone");
    assert!(postman.mails().is_empty() && push.taken().is_empty());

    configure(&it.ada, &settings(&push, &json!({"mail": postman.settings()}))).await;
    let subscriber = Subscriber::new(&push.endpoint("dana"));
    let body =
        json!({"platform": "webpush", "subscription": subscriber.json, "name": "Dana’s phone"}).to_string();
    let answer = browser
        .script_async(
            "const it = await fetch('/api/v1/me/devices', {method: 'POST', body: arguments[0], \
             headers: {'Content-Type': 'application/json'}}); return it.status",
            &[json!(body)],
        )
        .await;
    assert_eq!(answer, 200);
    // Both well: what was taken came to this person, and says that it is a test.
    browser.goto(&format!("{base}{NOTIFICATIONS}")).await;
    let said = told(&browser, "mail").await;
    assert!(said.contains("The mail server took the message."), "{said}");
    let mails = postman.mails();
    assert!(
        mails.len() == 1 && mails[0].contains("To: dana.reyes@example.test"),
        "{mails:?}"
    );
    let said = told(&browser, "push").await;
    assert!(
        said.contains("“Dana’s phone”: its push service took the message."),
        "{said}"
    );
    let pushed = push.wait_for(1).await;
    push.assert_correct();
    assert!(subscriber.read(&pushed[0].body)["notification"]["title"].is_string());
    shoot(&browser, "test-messages").await;

    // Both refused, in the other side's words.
    postman.refuse("Relaying denied");
    let said = told(&browser, "mail").await;
    assert!(
        said.contains("The mail was refused") && said.contains("Relaying denied"),
        "{said}"
    );
    assert_eq!(said.matches("Relaying denied").count(), 1, "{said}");
    let body = "the key is another one".to_owned();
    push.answer(
        "dana",
        Answering {
            status: 403,
            retry_after: None,
            body,
        },
    );
    let said = told(&browser, "push").await;
    assert!(
        said.contains("“Dana’s phone”: refused") && said.contains("the key is another one"),
        "{said}"
    );
    shoot(&browser, "test-messages-refused").await;
    push.answer("dana", Answering::status(410));
    let said = told(&browser, "push").await;
    assert!(said.contains("no longer known there"), "{said}");
    // Taken again once the server takes it.
    postman.take();
    let said = told(&browser, "mail").await;
    assert!(said.contains("The mail server took the message."), "{said}");
    assert_eq!(postman.mails().len(), 2);
    assert_clean(&browser, &it.appliance).await;
}
