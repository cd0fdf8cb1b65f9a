//! What a first load costs: everything a browser with an empty cache fetches for a page, as it goes over the wire.
//! Skipped, visibly, where chromium is not installed.

use serde_json::json;

use crate::browser::can_run;
use crate::phone::Scene;
use crate::support::browser::Browser;
use crate::support::person::text;

/// A first load has less than this.
const BYTES_MAX: u64 = 60_000;
/// All scripts of a page, as they are written, have less than this.
const SCRIPT_BYTES_MAX: u64 = 10 * 1024;

/// Bytes of all scripts of a page, as they are written, and each one's.
const SCRIPTS: &str = r#"
    const own = performance.getEntriesByType("resource").filter((it) => new URL(it.name).pathname.endsWith(".js")
        && new URL(it.name).pathname !== "/sw.js");
    return [own.reduce((sum, it) => sum + it.decodedBodySize, 0),
        own.map((it) => `${new URL(it.name).pathname} ${it.decodedBodySize}`).join(", "),
        document.querySelectorAll("script[src]").length === own.length];
"#;

/// Bytes of the page and of all it loads, headers included, and each part's.
const TRANSFERRED: &str = r#"
    const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    const own = all.filter((it) => new URL(it.name).pathname !== "/api/v1/inbox/events");
    return [own.reduce((sum, it) => sum + it.transferSize, 0),
        own.map((it) => `${new URL(it.name).pathname} ${it.transferSize}`).join(", ")];
"#;

async fn transferred(browser: &Browser, url: &str) -> (u64, String) {
    browser
        .cdp("Network.setCacheDisabled", &json!({"cacheDisabled": true}))
        .await;
    browser.goto(url).await;
    // The list is filled a moment after the page has loaded.
    browser
        .wait_until(
            "['app.css', 'app.js'].every((name) => performance.getEntriesByType('resource')\
             .some((it) => it.name.includes(name) && it.responseEnd > 0))",
        )
        .await;
    let found = browser.script(TRANSFERRED, &[]).await;
    (
        found[0].as_u64().expect("a number"),
        text(&json!({"it": found[1]}), "it"),
    )
}

/// The bytes of all scripts of the page that is open; one that has too many is told.
async fn scripts_of(browser: &Browser, page: &str, heavy: &mut Vec<String>) -> u64 {
    browser.wait_until(&format!("(() => {{ {SCRIPTS} }})()[2]")).await;
    let scripts = browser.script(SCRIPTS, &[]).await;
    let written = scripts[0].as_u64().expect("a number");
    println!("{page}: scripts of {written} bytes: {}", scripts[1]);
    if written >= SCRIPT_BYTES_MAX {
        heavy.push(format!("{page}: scripts of {written} bytes: {}", scripts[1]));
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_transfers_less_than_60_kilobytes() {
    if !can_run("a_first_load_transfers_less_than_60_kilobytes") {
        return;
    }
    let it = Scene::new().await;
    let waiting = it.request("Deploy api 4.2 to production").await;
    let url = text(
        &it.ada.invite("Dana Reyes", &["approver", "admin"]).await,
        "invite_url",
    );
    let browser = Browser::start().await;
    browser.add_authenticator().await;
    // The worker fetches its own things, later and once: they belong to no page's first load.
    browser.cdp("Network.enable", &json!({})).await;
    browser
        .cdp("Network.setBypassServiceWorker", &json!({"bypass": true}))
        .await;
    let base = it.appliance.base();
    let mut heavy = Vec::new();
    let mut most = 0;
    for path in [
        "/login",
        "",
        "/a/",
        "/a/phone",
        "/a/passkeys",
        "/a/codes",
        "/a/accounts",
        &format!("/a/{waiting}"),
        "/dashboard/requests",
        "/dashboard/set-up",
        "/dashboard/audit",
        "/dashboard/integrations/gitlab",
        "/dashboard/api-keys",
        "/verify",
        "/offline",
        "/dashboard",
        "/dashboard/policies/default/edit",
        "/dashboard/people",
        "/dashboard/settings/log-sinks",
        "/help",
    ] {
        if path.is_empty() {
            browser.goto(&url).await;
            browser.click("[data-enrol] button").await;
            browser.wait_until("location.pathname === '/a/'").await;
            continue;
        }
        let (bytes, parts) = transferred(&browser, &format!("{base}{path}")).await;
        println!("{path}: {bytes} bytes: {parts}");
        // Style, script and page at the least.
        assert!(
            parts.contains("/static/app.css") && parts.contains("/static/app.js"),
            "{parts}"
        );
        assert!(bytes > 5_000, "{path}: {parts}");
        if bytes >= BYTES_MAX {
            heavy.push(format!("{path}: {bytes} bytes: {parts}"));
        }
        most = most.max(scripts_of(&browser, path, &mut heavy).await);
    }
    // What asks for less comes back for a passkey, with the scripts of the ceremony in place of the editor's.
    browser
        .goto(&format!("{base}/dashboard/policies/default/edit"))
        .await;
    let looser = json!({"rules": [{"name": "Docs", "match": {"branch": "*"}, "action": "skip"}]}).to_string();
    browser.fill("#document", &looser).await;
    browser.fill("#reason", "a test").await;
    browser.click("button[value=save]").await;
    browser.wait_for_text("Your passkey is missing").await;
    let parts = browser.script(TRANSFERRED, &[]).await[1].to_string();
    assert!(
        parts.contains("/static/save-policy.js") && parts.contains("/static/confirm.js"),
        "{parts}"
    );
    let at = "the policy that needs a passkey";
    most = most.max(scripts_of(&browser, at, &mut heavy).await);
    assert!(most > 5_000, "the heaviest has more than this: {most}");
    assert!(heavy.is_empty(), "\n{}\n", heavy.join("\n"));
}
