//! The pages in a real browser with a virtual authenticator: from the set-up link to the receipt, without one blocked
//! resource, console error or call to another host. Skipped, visibly, where chromium is not installed.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::json;

use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::person::Person;
use crate::support::person::text;

/// Whether to go on; says so where not.
pub fn can_run(test: &str) -> bool {
    if !Browser::available() {
        eprintln!("SKIPPED {test}: chromium and chromedriver are not installed");
    }
    Browser::available()
}

fn directory() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    fs::create_dir_all(&dir).expect("target is writable");
    dir
}

/// The page as it is now, wide and narrow, light and dark; it never scrolls sideways.
pub async fn shoot(browser: &Browser, name: &str) {
    for (width, height, mobile) in [(1280, 900, false), (390, 844, true)] {
        browser.device(width, height, 1, mobile).await;
        for scheme in ["light", "dark"] {
            // Without motion nothing is caught half way.
            browser
                .media(&[
                    ("prefers-color-scheme", scheme),
                    ("prefers-reduced-motion", "reduce"),
                ])
                .await;
            let file = directory().join(format!("{name}-{width}-{scheme}.png"));
            browser.full_screenshot(&file).await;
            assert!(
                fs::metadata(&file).is_ok_and(|it| it.len() > 2_000),
                "{}",
                file.display()
            );
        }
        let sideways = browser
            .script(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth",
                &[],
            )
            .await;
        assert!(
            sideways.as_i64().is_some_and(|it| it <= 0),
            "{name} scrolls sideways by {sideways} at {width}"
        );
    }
    browser.device(1280, 900, 1, false).await;
    browser.color_scheme("light").await;
}

/// What must be true of every page that was seen.
pub async fn assert_clean(browser: &Browser, appliance: &Appliance) {
    assert_clean_but(browser, appliance, "").await;
}

/// The same, where the server refused something at a path that ends so: browsers write that down.
pub async fn assert_clean_but(browser: &Browser, appliance: &Appliance, refused: &str) {
    let violations = browser.csp_violations().await;
    assert!(violations.is_empty(), "{violations:#?}");
    let mut errors = browser.console_errors().await;
    // The login page asks once whether the strict cookie, which a link from elsewhere comes without, counts from here;
    // the browser writes down that it does not.
    let probe = format!("{}/api/v1/me - Failed to load resource", appliance.base());
    errors.retain(|it| {
        !(it.source == "network" && it.message.starts_with(&probe) && it.message.contains("401"))
    });
    // A dangerous change is refused to the session, and made once a passkey was put under it; the browser writes the first down.
    let dangerous = [
        "people",
        "policies",
        "integrations",
        "groups",
        "delegations",
        "erasures",
        "api-keys",
        "keys",
        "sinks",
    ];
    errors.retain(|it| {
        let of = |name: &&str| {
            it.message
                .starts_with(&format!("{}/api/v1/{name}", appliance.base()))
        };
        !(it.source == "network" && it.message.contains("403") && dangerous.iter().any(of))
    });
    let refused = format!("{refused} - Failed to load resource: the server responded with a status of 422");
    errors.retain(|it| it.source != "network" || refused.starts_with(' ') || !it.message.contains(&refused));
    assert!(errors.is_empty(), "{errors:#?}");
    let own = format!("{}/", appliance.base());
    let requested = browser.requested_urls().await;
    assert!(requested.len() > 5, "{requested:?}");
    for url in requested {
        assert!(
            url.starts_with(&own) || url.starts_with("data:"),
            "a request to {url}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_set_up_link_to_the_first_receipt() {
    if !can_run("from_the_set_up_link_to_the_first_receipt") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;

    browser.goto(&appliance.setup_url()).await;
    shoot(&browser, "setup").await;
    browser.fill("[name=name]", "Ada Example").await;
    browser.fill("[name=email]", "ada@example.test").await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("location.pathname.startsWith('/dashboard/set-up/')")
        .await;
    browser.goto(&format!("{}/dashboard", appliance.base())).await;
    browser.wait_for_text("Try it out").await;
    shoot(&browser, "dashboard").await;

    browser.click("#test button").await;
    browser
        .wait_until("location.pathname.startsWith('/a/apr_')")
        .await;
    browser.element("[data-answer=approve]").await;
    shoot(&browser, "request").await;
    let id = browser
        .url()
        .await
        .rsplit('/')
        .next()
        .expect("a path")
        .split('#')
        .next()
        .expect("an id")
        .to_owned();
    browser.click("[data-answer=approve]").await;
    browser.wait_until("document.querySelector('#receipt')").await;
    let receipt = browser.text("#receipt").await;
    assert!(receipt.contains("crd_"), "{receipt}");
    assert!(receipt.contains("Ada Example"), "{receipt}");
    shoot(&browser, "receipt").await;

    let cookies = browser.cookies().await;
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!(cookies[0]["httpOnly"], true);
    assert_eq!(cookies[0]["sameSite"], "Strict");
    let status = browser
        .script_async(
            "const it = await fetch('/api/v1/approvals/' + arguments[0]); return (await it.json()).status;",
            &[json!(id)],
        )
        .await;
    assert_eq!(status, "approved");
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_shows_itself_without_an_error() {
    if !can_run("every_page_shows_itself_without_an_error") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let browser = Browser::start().await;
    browser.add_authenticator().await;
    browser.goto(&appliance.setup_url()).await;
    browser.fill("[name=name]", "Ada").await;
    browser.fill("[name=email]", "ada@example.test").await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("location.pathname.startsWith('/dashboard/set-up/')")
        .await;
    browser.goto(&format!("{}/dashboard", appliance.base())).await;
    for path in [
        "/a/",
        "/a/history",
        "/a/away",
        "/a/phone",
        "/a/passkeys",
        "/dashboard/requests",
        "/dashboard/policies",
        "/dashboard/exceptions",
        "/dashboard/proposals",
        "/dashboard/integrations",
        "/dashboard/integrations/gitlab",
        "/dashboard/integrations/github",
        "/dashboard/people",
        "/dashboard/groups",
        "/dashboard/api-keys",
        "/dashboard/audit",
        "/dashboard/audit/report",
        "/dashboard/settings/log-sinks",
        "/dashboard/settings/notifications",
        "/dashboard/settings",
        "/dashboard/settings/general",
        "/dashboard/settings/tls",
        "/dashboard/settings/signing-keys",
        "/dashboard/settings/backup",
        "/dashboard/settings/security",
        "/dashboard/settings/about",
        "/dashboard/set-up/passkey",
        "/dashboard/set-up/public-url",
        "/dashboard/set-up/tls",
        "/dashboard/set-up/signing-key",
        "/dashboard/set-up/forge",
        "/dashboard/set-up/policy",
        "/dashboard/set-up/approver",
        "/verify",
        "/help",
        "/help/api",
        "/problems/self-approval",
    ] {
        browser.goto(&format!("{}{path}", appliance.base())).await;
        let heading = browser.text("h1").await;
        assert!(!heading.is_empty(), "{path}");
        shoot(
            &browser,
            &format!("page{}", path.trim_end_matches('/').replace('/', "-")),
        )
        .await;
    }
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invited_approver_signs_in_and_rejects() {
    if !can_run("an_invited_approver_signs_in_and_rejects") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let url = text(&ada.invite("Bea", &["approver"]).await, "invite_url");
    let ci = appliance
        .api()
        .with_key(&ada.create_api_key("CI", &["request"], &[]).await.key);
    let id = ci
        .open_request(&json!({"action": "Deploy <b>now</b> \u{202e}!", "environment": "production", "ttl_seconds": 600}))
        .await;

    let browser = Browser::start().await;
    browser.be_a_phone().await;
    browser.add_authenticator().await;
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser.wait_until("location.pathname === '/a/'").await;
    browser.wait_for_text("Deploy <b>now</b>").await;
    browser.click("form[data-to='/api/v1/session'] button").await;
    browser.wait_until("location.pathname === '/login'").await;
    browser.goto(&format!("{}/a/{id}", appliance.base())).await;
    browser.wait_until("location.pathname === '/login'").await;
    browser.click("[data-login] button").await;
    browser
        .wait_until(&format!("location.pathname === '/a/{id}'"))
        .await;

    browser.click("[data-answer=reject]").await;
    browser.wait_for_text("this needs a comment").await;
    browser.fill("[name=comment]", "Not on a Friday").await;
    browser.click("[data-answer=reject]").await;
    browser.wait_until("document.querySelector('#receipt')").await;
    assert!(browser.text("#receipt").await.contains("Not on a Friday"));
    let shown = ci.request(&id).await;
    assert_eq!(shown["status"], "rejected");
    assert_eq!(shown["decisions"][0]["comment"], "Not on a Friday", "{shown}");
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_request_moved_offers_no_decision() {
    if !can_run("a_page_whose_request_moved_offers_no_decision") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let url = text(&ada.invite("Bea", &["approver"]).await, "invite_url");
    let ci = appliance
        .api()
        .with_key(&ada.create_api_key("CI", &["request"], &[]).await.key);
    let id = ci
        .open_request(&json!({"action": "Deploy", "ttl_seconds": 600}))
        .await;
    let browser = Browser::start().await;
    browser.add_authenticator().await;
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser.wait_until("location.pathname === '/a/'").await;
    browser.goto(&format!("{}/a/{id}", appliance.base())).await;
    browser.element("[data-answer=approve]").await;
    let cancelled = ci
        .post(&format!("/api/v1/approvals/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    browser
        .wait_until("!document.querySelector('[data-moved]').hidden")
        .await;
    browser
        .wait_until("!document.querySelector('[data-answer]')")
        .await;
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_request_turns_green_when_a_passkey_signs_it_in_the_browser() {
    if !can_run("a_merge_request_turns_green_when_a_passkey_signs_it_in_the_browser") {
        return;
    }
    let it = Gated::start().await;
    let url = text(&it.ada.invite("Dana Reyes", &["approver"]).await, "invite_url");
    let change = it.open("retry-card-payments", "main");
    let id = it.pending(&change, "main").await;

    let browser = Browser::start().await;
    browser.add_authenticator().await;
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser.wait_until("location.pathname === '/a/'").await;
    browser
        .wait_until("document.querySelector('a[href*=apr_]')")
        .await;
    shoot(&browser, "merge-request-queue").await;
    browser.goto(&format!("{}/a/{id}", it.appliance.base())).await;
    browser.element("[data-answer=approve]").await;
    let page = browser.text("main").await;
    for shown in [&change.head[..8], "main", "Carl"] {
        assert!(page.contains(shown), "the page does not show {shown:?}: {page}");
    }
    shoot(&browser, "merge-request").await;
    browser.click("[data-answer=approve]").await;
    browser.wait_until("document.querySelector('#receipt')").await;
    it.expect_status(&change.head, "main", "success");
    let receipt = browser.text("#receipt").await;
    assert!(
        receipt.contains("was approved by Dana Reyes via biometric at"),
        "{receipt}"
    );
    assert!(receipt.contains("signature verified"), "{receipt}");
    shoot(&browser, "merge-request-receipt").await;
    assert_clean(&browser, &it.appliance).await;
    it.gitlab.assert_no_violations();
}
