//! The main journeys without a mouse: every stop is seen, the order is the page's own, the first stop leads past the
//! navigation, and nothing holds the focus. Skipped, visibly, where chromium is not installed.

use serde_json::Value;
use serde_json::json;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::person::items;
use crate::support::person::text;

/// More stops than any page has.
const STOPS_MAX: usize = 150;

/// Where the focus is: the element's words, whether it is this one, and what is wrong with how it is shown.
const STOP: &str = r#"
    const it = document.activeElement;
    if (!it || it === document.body || it === document.documentElement) return null;
    const wrong = [];
    const box = it.getBoundingClientRect();
    const shown = it.closest("label") ?? it;
    const { outlineStyle, outlineWidth } = getComputedStyle(it);
    if (!it.matches(":focus-visible, [type=date]:focus-within")) wrong.push("it does not know that it has the focus");
    if (outlineStyle === "none" || parseFloat(outlineWidth) < 2) wrong.push(`its outline is ${outlineStyle} ${outlineWidth}`);
    if (box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth) wrong.push("it is out of sight");
    if (!shown.checkVisibility({ visibilityProperty: true, opacityProperty: true })) wrong.push("it is not visible");
    if (it.tabIndex > 0) wrong.push(`its tabindex is ${it.tabIndex}`);
    if (window.before?.isConnected && window.before !== it
        && !(window.before.compareDocumentPosition(it) & Node.DOCUMENT_POSITION_FOLLOWING)) wrong.push("it stands before the last stop");
    window.before = it;
    const words = `${it.localName} ${it.id || it.name || it.innerText?.trim().slice(0, 40)}`;
    return [it.matches(arguments[0]), words, wrong];
"#;

/// Somebody at a keyboard.
struct Keys {
    browser: Browser,
    stops: usize,
    wrong: Vec<String>,
}

impl Keys {
    /// Presses a key as a person does.
    async fn press(&self, key: &str) {
        let (code, number, typed) = match key {
            "Tab" => ("Tab", 9, None),
            "Enter" => ("Enter", 13, Some("\r")),
            " " => ("Space", 32, Some(" ")),
            "ArrowDown" => ("ArrowDown", 40, None),
            other => panic!("no key {other}"),
        };
        let mut down = json!({"type": "keyDown", "key": key, "code": code, "windowsVirtualKeyCode": number});
        if let Some(typed) = typed {
            down["text"] = json!(typed);
        }
        self.browser.cdp("Input.dispatchKeyEvent", &down).await;
        let up = json!({"type": "keyUp", "key": key, "code": code, "windowsVirtualKeyCode": number});
        self.browser.cdp("Input.dispatchKeyEvent", &up).await;
    }

    /// One stop on: whether it is the one, and its words. Nothing where the page has ended.
    async fn step(&mut self, css: &str) -> Option<(bool, String)> {
        self.press("Tab").await;
        let found: Value = self.browser.script(STOP, &[json!(css)]).await;
        let found = found.as_array()?;
        self.stops += 1;
        let words = found[1].as_str().expect("words").to_owned();
        for it in found[2].as_array().expect("a list") {
            let url = self.browser.url().await;
            self.wrong.push(format!("{url}: {words}: {it}"));
        }
        Some((found[0] == true, words))
    }

    /// Tabs on until the focus is there.
    async fn reach(&mut self, css: &str) {
        let mut passed = Vec::new();
        for _ in 0..STOPS_MAX {
            match self.step(css).await {
                Some((true, _)) => return,
                Some((false, words)) => passed.push(words),
                None => break,
            }
        }
        panic!("{css} is not reached: {passed:#?}");
    }

    async fn type_into(&mut self, css: &str, typed: &str) {
        self.reach(css).await;
        self.browser
            .cdp("Input.insertText", &json!({"text": typed}))
            .await;
    }

    async fn enter(&mut self, css: &str) {
        self.reach(css).await;
        self.press("Enter").await;
    }

    /// From the top of a page: the first stop leads past the navigation, into the content.
    async fn skip(&mut self) {
        self.browser.script("window.before = undefined", &[]).await;
        let first = self.step(".skip").await;
        assert!(
            first.as_ref().is_some_and(|it| it.0),
            "the first stop is {first:?}"
        );
        self.press("Enter").await;
        self.browser
            .wait_until("document.activeElement.id === 'main'")
            .await;
        let hash = self.browser.script("return location.hash", &[]).await;
        assert_ne!(hash, "#main", "a link's token stays in the address");
    }

    /// From top to end: every stop that the page has, once, and then out of it.
    async fn walk(&mut self) -> usize {
        self.browser.reload().await;
        let all = "return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex=\"0\"]')]\
                   .filter((it) => !it.disabled && it.tabIndex >= 0 && it.checkVisibility({ visibilityProperty: true })).length";
        let there = self.browser.script(all, &[]).await.as_u64().expect("a number");
        let mut count = 0;
        while self.step("nothing").await.is_some() {
            count += 1;
            assert!(
                count < STOPS_MAX,
                "the focus never leaves {}",
                self.browser.url().await
            );
        }
        // Of a group of radio buttons only one is a stop; a region that scrolls is one more.
        assert!(
            count > 5 && count <= there as usize + 5,
            "{count} stops of {there}"
        );
        count
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_journeys_need_no_mouse() {
    if !can_run("the_main_journeys_need_no_mouse") {
        return;
    }
    let it = Gated::start().await;
    let url = text(
        &it.ada.invite("Dana Reyes", &["approver", "admin"]).await,
        "invite_url",
    );
    let change = it.open("retry-card-payments", "main");
    let id = it.pending(&change, "main").await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let mut keys = Keys {
        browser,
        stops: 0,
        wrong: Vec::new(),
    };

    // An invitation, signing out, signing in.
    keys.browser.goto(&url).await;
    keys.skip().await;
    keys.type_into("#label", "My laptop").await;
    keys.enter("[data-enrol] button").await;
    keys.browser.wait_until("location.pathname === '/a/'").await;
    keys.enter("form[data-to='/api/v1/session'] button").await;
    keys.browser.wait_until("location.pathname === '/login'").await;
    // The one thing to do there has the focus already.
    keys.browser
        .wait_until("document.activeElement.matches('[data-login] button')")
        .await;
    keys.press("Enter").await;
    keys.browser
        .wait_until("location.pathname === '/dashboard'")
        .await;

    // What waits is found, read and decided.
    keys.enter(".main-nav a[href='/a/']").await;
    keys.browser.wait_until("location.pathname === '/a/'").await;
    keys.walk().await;
    keys.browser.reload().await;
    keys.skip().await;
    keys.enter(&format!("a[href='/a/{id}']")).await;
    keys.browser
        .wait_until(&format!("location.pathname === '/a/{id}'"))
        .await;
    keys.walk().await;
    keys.browser.reload().await;
    keys.skip().await;
    // Folded parts open by the keyboard.
    keys.enter("details.exact > summary").await;
    keys.browser
        .wait_until("document.querySelector('details.exact').open")
        .await;
    keys.type_into("#comment", "Read line by line").await;
    let asking = "return document.querySelector('.asking').checkVisibility()";
    let early = keys.browser.script(asking, &[]).await;
    assert_eq!(early, false, "nobody is asked for a passkey yet");
    keys.enter("[data-answer=approve]").await;
    keys.browser
        .wait_until("document.querySelector('#receipt')")
        .await;
    it.expect_status(&change.head, "main", "success");

    // A person.
    let base = it.appliance.base();
    keys.browser.goto(&format!("{base}/dashboard/people")).await;
    keys.walk().await;
    keys.browser.reload().await;
    keys.skip().await;
    keys.type_into("#name", "Eve").await;
    keys.type_into("#email", "eve@example.test").await;
    keys.reach("[name=roles][value=auditor]").await;
    keys.press(" ").await;
    keys.type_into("#add [name=reason]", "Audits").await;
    keys.enter("#add form button").await;
    keys.browser
        .wait_until("!document.querySelector('#invited').hidden")
        .await;
    // What is shown once has the focus, and is read from there on.
    keys.browser
        .wait_until("document.activeElement.matches('#invited h3')")
        .await;
    keys.reach("#invited a").await;
    let people = items(&it.ada.get("/api/v1/people").await);
    let eve = people.iter().find(|it| it["name"] == "Eve").expect("Eve");
    assert_eq!(eve["roles"], json!(["approver", "auditor"]));

    // A project.
    it.gitlab.add_project(43, "group/second");
    let bot = it
        .gitlab
        .read(|it| it.appliance)
        .expect("the appliance's account");
    it.gitlab
        .add_member(43, bot, crate::support::forge::gitlab::state::MAINTAINER);
    keys.browser
        .goto(&format!("{base}/dashboard/integrations/gitlab"))
        .await;
    keys.skip().await;
    keys.enter("details.adding > summary").await;
    keys.type_into("[name=project_id]", "43").await;
    keys.reach("[name=enforcement]").await;
    keys.press("ArrowDown").await;
    keys.type_into("details.adding [name=reason]", "A second one")
        .await;
    keys.enter("details.adding form > button").await;
    keys.browser.wait_for_text("group/second").await;

    // An API key.
    keys.browser.goto(&format!("{base}/dashboard/api-keys")).await;
    keys.skip().await;
    keys.type_into("#name", "CI").await;
    keys.type_into("#add [name=reason]", "Deploys").await;
    keys.enter("#add form button").await;
    keys.browser
        .wait_until("!document.querySelector('#made').hidden")
        .await;
    let key = keys.browser.text("#new-key").await;
    assert!(key.starts_with("sa_"), "{key}");

    println!("{} stops", keys.stops);
    let wrong = &keys.wrong;
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert_clean(&keys.browser, &it.appliance).await;
}
