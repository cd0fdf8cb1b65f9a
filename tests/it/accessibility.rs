//! The approver's pages, held against WCAG 2.2 AA by axe-core, light and dark, on a phone, at 320 pixels, and at 400 percent.
//! Skipped, visibly, where chromium or axe-core is not installed.

use std::fs;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::browser::can_run;
use crate::phone::Scene;
use crate::phone::enrolled_browser;
use crate::support::browser::Browser;
use crate::support::person::text;

/// axe's own rules of these levels, and the one of WCAG 2.2 that it leaves off by itself.
const RUN: &str = r#"
    const found = await axe.run(document, {
        runOnly: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] },
        rules: { "target-size": { enabled: true } },
    });
    return found.violations.map((it) => ({
        id: it.id, help: it.help, nodes: it.nodes.map((node) => node.html.slice(0, 200)),
    }));
"#;

/// Whatever has the focus must be seen at least in part (WCAG 2.2, 2.4.11): no bar that sticks may lie over it.
const COVERED: &str = r#"
    const covered = [];
    const all = "a[href], button:enabled, input:enabled, select, textarea, summary, [tabindex='0']";
    for (const it of document.querySelectorAll(all)) {
        // Out of sight until the keyboard reaches it, which no script does.
        if (!it.checkVisibility({ visibilityProperty: true }) || it.matches(".skip")) continue;
        it.focus();
        const shown = it.closest("label") ?? it;
        const seen = [...shown.getClientRects()].some((box) =>
            [0.02, 0.25, 0.5, 0.75, 0.98].flatMap((x) => [[x, 0.2], [x, 0.5], [x, 0.8]]).some(([x, y]) => {
                const top = document.elementFromPoint(box.left + box.width * x, box.top + box.height * y);
                return top && (shown.contains(top) || it.contains(top));
            }));
        if (!seen) covered.push(it.outerHTML.slice(0, 120));
    }
    return covered;
"#;

/// At 400 percent a window of 1280 by 1024 is one of 320 by 256 (WCAG 1.4.10): all is there, nothing scrolls sideways, and
/// what has the focus is not covered.
async fn check_zoomed(browser: &Browser, page: &str) -> Vec<String> {
    browser.device(320, 256, 4, false).await;
    let mut wrong = Vec::new();
    let sideways = sideways(browser).await;
    if sideways > 0 {
        wrong.push(format!("{page} scrolls sideways by {sideways} at 400 %"));
    }
    let covered = browser.script(COVERED, &[]).await;
    for it in covered.as_array().expect("a list") {
        wrong.push(format!("{page} at 400 %: the focus is covered on {it}"));
    }
    wrong
}

async fn sideways(browser: &Browser) -> i64 {
    let it = browser
        .script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth",
            &[],
        )
        .await;
    it.as_i64().expect("a number")
}

async fn check(browser: &Browser, axe: &str, page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (width, scheme) in [(390, "light"), (390, "dark"), (320, "light")] {
        browser.device(width, 844, 1, true).await;
        browser
            .media(&[
                ("prefers-color-scheme", scheme),
                ("prefers-reduced-motion", "reduce"),
            ])
            .await;
        browser.script(axe, &[]).await;
        let found: Value = browser.script_async(RUN, &[]).await;
        for it in found.as_array().expect("a list") {
            wrong.push(format!("{page} at {width}, {scheme}: {it}"));
        }
        let sideways = sideways(browser).await;
        if sideways > 0 {
            wrong.push(format!("{page} scrolls sideways by {sideways} at {width}"));
        }
    }
    wrong.extend(check_zoomed(browser, page).await);
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_the_approver_meets_wcag_2_2_aa() {
    let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm/node_modules/axe-core/axe.min.js");
    let Ok(axe) = fs::read_to_string(axe) else {
        eprintln!("SKIPPED every_page_of_the_approver_meets_wcag_2_2_aa: npm's axe-core is not installed");
        return;
    };
    if !can_run("every_page_of_the_approver_meets_wcag_2_2_aa") {
        return;
    }
    let it = Scene::new().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [{"name": "Production by code", "match": {"environment": "production"},
                "require": {"method": ["passkey", "biometric"], "match_code": true}}]}),
        )
        .await;
    it.ada
        .put(
            "/api/v1/settings/notifications",
            &json!({"mail":
            {"host": "mail.example", "port": 587, "tls": "starttls", "from": "gate@example.com"}}),
        )
        .await
        .expect(200);
    let waiting = it
        .ci
        .open_request(
            &json!({"action": "Deploy api", "environment": "production", "ttl_seconds": 600,
            "metadata": {"actor": "carl"}}),
        )
        .await;
    let rejected = it.request("Drop the table").await;
    it.bea.reject(&rejected, "Not on a Friday").await;
    let approved = it.request("Restart").await;
    it.bea.approve(&approved).await;

    let mut wrong = Vec::new();
    let base = it.appliance.base();
    let invited = text(&it.ada.invite("Eve", &["approver"]).await, "invite_url");
    let stranger = Browser::start().await;
    for (page, url) in [
        ("/login", format!("{base}/login")),
        ("/enrol", invited),
        ("/enrol without a token", format!("{base}/enrol")),
        ("/offline", format!("{base}/offline")),
        ("/help", format!("{base}/help")),
    ] {
        stranger.goto(&url).await;
        wrong.extend(check(&stranger, &axe, page).await);
    }
    drop(stranger);

    let url = text(
        &it.ada.invite("Dana Reyes", &["approver", "admin"]).await,
        "invite_url",
    );
    let browser = enrolled_browser(&url).await;
    for (page, path) in [
        ("queue", "/a/".to_owned()),
        ("request", format!("/a/{waiting}")),
        ("rejected", format!("/a/{rejected}")),
        ("approved", format!("/a/{approved}")),
        ("history", "/a/history".to_owned()),
        ("phone", "/a/phone".to_owned()),
        ("passkeys", "/a/passkeys".to_owned()),
        ("codes", "/a/codes".to_owned()),
        ("accounts", "/a/accounts".to_owned()),
        ("away", "/a/away".to_owned()),
        ("notifications", "/dashboard/settings/notifications".to_owned()),
        ("people", "/dashboard/people".to_owned()),
    ] {
        browser.goto(&format!("{base}{path}")).await;
        browser
            .script(
                "document.querySelectorAll('details').forEach((it) => (it.open = true))",
                &[],
            )
            .await;
        wrong.extend(check(&browser, &axe, page).await);
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
