//! Pages in forced colours (a high contrast theme of the system): all text stands out from what is behind it, whatever has the
//! focus shows it, and no state is told by a colour alone. Skipped, visibly, where chromium is not installed.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::browser::can_run;
use crate::pages::texts;
use crate::phone::Scene;
use crate::support::browser::Browser;
use crate::support::person::text;

/// What can't be read, what hides its focus, and what says nothing but a colour.
const LOOK: &str = r#"
    const wrong = [];
    if (!matchMedia("(forced-colors: active)").matches) wrong.push("the colours are not forced");
    const behind = (it) => {
        for (let at = it; at; at = at.parentElement) {
            const { backgroundColor } = getComputedStyle(at);
            if (!/^rgba\(.*, 0\)$|^transparent$/.test(backgroundColor)) return backgroundColor;
        }
        return "rgb(255, 255, 255)";
    };
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const it = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !it.checkVisibility() || it.closest("svg, script")) continue;
        if (getComputedStyle(it).color === behind(it)) wrong.push(`text like its ground: ${it.outerHTML.slice(0, 120)}`);
    }
    for (const it of document.querySelectorAll(".badge, .signs li, .card-band, .band-where, .notice, .step-sign")) {
        if (it.checkVisibility() && !it.innerText.trim()) wrong.push(`a colour alone: ${it.outerHTML.slice(0, 120)}`);
    }
    for (const it of document.querySelectorAll("svg .approved-bar, svg .rejected-bar, svg .other-bar, svg .skipped-bar")) {
        if (!it.closest("figure")?.querySelector("table")) wrong.push("a chart without its table");
    }
    for (const it of document.querySelectorAll("a[href], button:enabled, input:not([type=hidden]):enabled, select, textarea, summary")) {
        if (!it.checkVisibility({ visibilityProperty: true })) continue;
        it.focus({ focusVisible: true });
        if (document.activeElement !== it) continue;
        const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(it);
        const told = [outlineStyle, outlineWidth, outlineColor, it.matches(":focus-visible"), document.hasFocus()].join(" ");
        const seen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && outlineColor !== behind(it.parentElement);
        if (!seen) wrong.push(`no focus to be seen (${told}): ${it.outerHTML.slice(0, 120)}`);
    }
    document.activeElement.blur();
    return wrong;
"#;

#[tokio::test(flavor = "multi_thread")]
async fn forced_colours_leave_text_focus_and_states_to_be_seen() {
    if !can_run("forced_colours_leave_text_focus_and_states_to_be_seen") {
        return;
    }
    let it = Scene::new().await;
    let waiting = it.request("Deploy api 4.2 to production").await;
    let over = it.request("Deploy api 4.1 to production").await;
    it.bea.approve(&over).await;
    let url = text(
        &it.ada.invite("Dana Reyes", &["approver", "admin"]).await,
        "invite_url",
    );
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    // As the window in front has it, whatever else is open on this machine.
    let focused = json!({"enabled": true});
    browser.cdp("Emulation.setFocusEmulationEnabled", &focused).await;
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser.wait_until("location.pathname === '/a/'").await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&folder).expect("target is writable");
    let base = it.appliance.base();
    let mut wrong = Vec::new();
    for (name, path) in [
        ("queue", "/a/".to_owned()),
        ("request", format!("/a/{waiting}")),
        ("receipt", format!("/a/{over}")),
        ("overview", "/dashboard".to_owned()),
        (
            "requests",
            "/dashboard/requests?environment=production".to_owned(),
        ),
        ("diagnostics", "/dashboard/settings/diagnostics".to_owned()),
        ("people", "/dashboard/people".to_owned()),
        ("editor", "/dashboard/policies/default/edit".to_owned()),
        ("report", "/dashboard/audit/report".to_owned()),
        ("set-up", "/dashboard/set-up".to_owned()),
        ("help", "/help".to_owned()),
    ] {
        browser.goto(&format!("{base}{path}")).await;
        for scheme in ["light", "dark"] {
            browser
                .media(&[
                    ("forced-colors", "active"),
                    ("prefers-color-scheme", scheme),
                    ("prefers-reduced-motion", "reduce"),
                ])
                .await;
            let found: Value = browser.script(LOOK, &[json!(null)]).await;
            wrong.extend(
                texts(&found)
                    .into_iter()
                    .map(|it| format!("{name}, {scheme}: {it}")),
            );
            browser
                .full_screenshot(&folder.join(format!("forced-{name}-{scheme}.png")))
                .await;
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
