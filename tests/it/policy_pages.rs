//! The pages about rules and people, in a real browser: the editor, what it explains while one types, versions,
//! proposals, groups, deputies, exceptions. Skipped, visibly, where chromium is not installed.

use serde_json::Value;
use serde_json::json;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::governance::confirm;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::gated::SOON;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;

/// An admin of the software kind, and one in the browser.
async fn two_admins(appliance: &Appliance) -> (Person, Browser) {
    let dora = Person::set_up(appliance, "Dora").await;
    let browser = sign_in(&dora, "Ada", &["admin", "approver"]).await;
    (dora, browser)
}

/// Somebody new, in a browser of their own.
async fn sign_in(admin: &Person, name: &str, roles: &[&str]) -> Browser {
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let invited = admin.invite(name, roles).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    browser
}

/// Saves what asks for less: the editor wants a passkey, and the other admin confirms.
async fn save_weaker(browser: &Browser, other: &Person) {
    browser.click("button[value=save]").await;
    browser.wait_for_text("Your passkey is missing").await;
    browser.click("[data-save-policy]").await;
    browser
        .wait_until("location.pathname.startsWith('/dashboard/proposals/')")
        .await;
    let url = browser.url().await;
    let proposal = url.rsplit('/').next().expect("an id");
    confirm(other, proposal, &[]).await.expect(200);
}

async fn set(browser: &Browser, css: &str, value: &str) {
    let script = "const it = document.querySelector(arguments[0]); it.value = arguments[1]; \
                  it.dispatchEvent(new Event('input', { bubbles: true }))";
    browser.script(script, &[json!(css), json!(value)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_written_mended_tried_and_saved_in_the_editor() {
    if !can_run("a_policy_is_written_mended_tried_and_saved_in_the_editor") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let (dora, browser) = two_admins(&appliance).await;
    let page = |path: &str| format!("{}{path}", appliance.public_url());
    browser.goto(&page("/dashboard/policies")).await;
    browser.wait_for_text("built-in rule governs").await;
    shoot(&browser, "policies-empty").await;
    browser.click("main form button").await;
    browser
        .wait_until("location.pathname === '/dashboard/policies/default/edit'")
        .await;

    // A mistake is told beside the text while one types, and Save keeps every letter.
    let good = json!({ "rules": [
        { "name": "<script>alert(1)</script>\u{202e}", "match": { "branch": "main", "paths": ["src/**"] },
          "require": { "method": ["passkey"], "quorum": 2, "ttl_max": 600 } },
        { "name": "Docs", "match": { "branch": "main", "paths": ["docs/**"] }, "action": "skip" } ] });
    let good = serde_json::to_string_pretty(&good).expect("JSON");
    let broken = good.replace("\"quorum\": 2", "\"quorum\": 0");
    set(&browser, "#document", &broken).await;
    browser.wait_for_text("must be 1 or more").await;
    set(&browser, "#reason", "first version").await;
    browser.click("button[value=save]").await;
    browser.wait_for_text("This is not a valid policy").await;
    let kept = browser
        .script("return document.querySelector('#document').value", &[])
        .await;
    assert_eq!(kept.as_str(), Some(broken.as_str()));
    let line = 1 + broken
        .lines()
        .position(|it| it.contains("quorum"))
        .expect("there is one");
    assert_eq!(
        browser.text("[data-found] [data-line]").await,
        format!("Line {line}")
    );
    browser.click("[data-found] [data-line]").await;
    let chosen = browser
        .script("const it = document.querySelector('#document'); return it.value.slice(it.selectionStart, it.selectionEnd)", &[])
        .await;
    assert!(
        chosen.as_str().is_some_and(|it| it.contains("\"quorum\": 0")),
        "{chosen}"
    );
    assert_eq!(browser.text("[data-place]").await, format!("Line {line}"));
    shoot(&browser, "policy-editor-error").await;

    // Explained live, by the same engine as the gate.
    set(&browser, "#document", &good).await;
    set(&browser, "#paths", "src/a.rs\ndocs/a.md\n").await;
    browser.wait_for_text("2 people by passkey").await;
    shoot(&browser, "policy-editor-explains").await;
    set(&browser, "#paths", "docs/a.md\n").await;
    browser
        .wait_for_text("No approval needed: skipped by “Docs”.")
        .await;
    set(&browser, "#branch", "").await;
    set(&browser, "#environment", "production").await;
    browser
        .wait_for_text("Needs 1 person by passkey or biometric (the default rule), within 10 min.")
        .await;
    // It skips what the built-in rule asks for, so it takes a passkey, and the other admin's.
    save_weaker(&browser, &dora).await;
    browser.goto(&page("/dashboard/policies/default")).await;
    browser.wait_for_text("version 1").await;
    let said = browser.text("main").await;
    assert!(said.contains("<script>alert(1)</script>\\u{202e}"), "{said}");
    shoot(&browser, "policy").await;

    // Somebody else saves meanwhile: the text stays, and the page says what differs.
    browser.goto(&page("/dashboard/policies/default/edit")).await;
    let mut theirs: Value = serde_json::from_str(&good).expect("JSON");
    theirs["default"] = json!({ "method": ["passkey"], "quorum": 3 });
    dora.put_policy("default", &theirs).await;
    let mine = good.replace("docs/**", "manual/**");
    set(&browser, "#document", &mine).await;
    set(&browser, "#reason", "the folder moved").await;
    browser.click("button[value=save]").await;
    browser
        .wait_for_text("Version 2 became active while you were writing")
        .await;
    let kept = browser
        .script("return document.querySelector('#document').value", &[])
        .await;
    assert_eq!(kept.as_str(), Some(mine.as_str()));
    shoot(&browser, "policy-editor-outdated").await;
    save_weaker(&browser, &dora).await;
    browser
        .goto(&page("/dashboard/policies/default?from=2&to=3"))
        .await;
    browser.wait_for_text("Version 2 → version 3").await;
    shoot(&browser, "policy-diff").await;
    browser.goto(&page("/dashboard/policies")).await;
    shoot(&browser, "policies").await;
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_editor_loses_nothing_and_names_the_limit_before_it_sends() {
    if !can_run("the_editor_loses_nothing_and_names_the_limit_before_it_sends") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let (dora, browser) = two_admins(&appliance).await;
    let editor = format!("{}/dashboard/policies/default/edit", appliance.public_url());
    let value = async |css: &str| {
        let script = "return document.querySelector(arguments[0]).value";
        let value = browser.script(script, &[json!(css)]).await;
        value.as_str().expect("a text").to_owned()
    };
    browser.goto(&editor).await;
    let mine = "{ \"rules\": [ 1 ] }";
    set(&browser, "#document", mine).await;
    set(&browser, "#reason", "as agreed").await;
    browser.click("button[value=save]").await;
    browser.wait_for_text("This is not a valid policy").await;
    // Refused, it is the draft: typing the same again does not end that, and another visit offers it with its reason.
    set(&browser, "#document", mine).await;
    browser.goto(&editor).await;
    browser.wait_for_text("keeps a draft of yours").await;
    assert_ne!(value("#document").await, mine);
    browser.click("[data-take-draft]").await;
    assert_eq!(value("#document").await, mine);
    assert_eq!(value("#reason").await, "as agreed");

    // Ten megabytes: neither sent nor said to be kept where the browser has no room.
    let paste = "const it = document.querySelector('#document'); it.value = 'x'.repeat(10_000_000); \
                 it.dispatchEvent(new Event('input', { bubbles: true }))";
    browser.script(paste, &[]).await;
    browser
        .wait_for_text("has 10000000 bytes and a policy may have 262144")
        .await;
    browser
        .wait_for_text("This browser can’t keep so large a draft")
        .await;
    assert!(!browser.text("main").await.contains("did not answer"));
    browser.click("button[value=save]").await;
    assert_eq!(
        value("#document").await.len(),
        10_000_000,
        "it stands where it stood"
    );
    shoot(&browser, "policy-editor-too-large").await;
    set(&browser, "#document", mine).await;

    // What is saved is a draft no more.
    let good = "{ \"rules\": [] }";
    set(&browser, "#document", good).await;
    browser.click("button[value=save]").await;
    browser
        .wait_until("location.pathname === '/dashboard/policies/default'")
        .await;
    dora.put_policy("default", &json!({ "rules": [], "default": "block" }))
        .await;
    browser.goto(&editor).await;
    browser.wait_for_text("Version 2 is active").await;
    browser.wait_until("localStorage.length === 0").await;
    assert!(!browser.text("main").await.contains("keeps a draft"));
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_beyond_the_limit_comes_back_with_its_text_and_the_limit() {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let origin = appliance.origin();
    let own = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", origin.as_str()),
    ];
    let path = "/dashboard/policies/default/edit";
    let send = async |length: usize| {
        let form = format!("do=save&reason=because&document={}", "x".repeat(length));
        ada.send_bytes("POST", path, &own, Some(form.into_bytes())).await
    };
    let answer = send(2_000_000).await;
    assert_eq!(answer.status, 413);
    let page = answer.text();
    assert!(page.contains("The document has 2000000 bytes, and a policy may have 262144."));
    assert!(
        page.contains(&"x".repeat(2_000_000)) && page.contains("because"),
        "the text is back"
    );
    let answer = send(6_000_000).await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("a policy may have 262144 bytes"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_editor_works_without_script_and_refuses_strangers() {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let origin = appliance.origin();
    let form = |fields: &[(&str, &str)]| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        form.finish().into_bytes()
    };
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let path = "/dashboard/policies/default/edit";
    let document = "{\r\n \"rules\": []\r\n}";
    let save = form(&[
        ("document", document),
        ("reason", "to begin"),
        ("base", ""),
        ("do", "save"),
    ]);
    let foreign = [kind, ("origin", "https://evil.example")];
    let answer = ada.send_bytes("POST", path, &foreign, Some(save.clone())).await;
    assert_eq!(answer.status, 403);
    let own = [kind, ("origin", origin.as_str())];
    assert_eq!(
        bea.send_bytes("POST", path, &own, Some(save.clone()))
            .await
            .status,
        403
    );
    let gone = appliance.api().send("POST", path, &own, Some(save.clone())).await;
    assert_eq!(gone.status, 401);
    assert!(gone.text().contains("You are signed out"), "{}", gone.text());
    assert!(items(&ada.get("/api/v1/policies").await).is_empty());
    let silent = form(&[("document", document), ("base", ""), ("do", "save")]);
    let answer = ada.send_bytes("POST", path, &own, Some(silent)).await;
    assert!(answer.text().contains("Say why"), "{}", answer.text());
    let answer = ada.send_bytes("POST", path, &own, Some(save)).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/dashboard/policies/default"))
    );
    assert_eq!(
        ada.get("/api/v1/policies/default").await.text(),
        "{\n \"rules\": []\n}"
    );
    let compare = form(&[
        ("document", r#"{"rules":[],"default":"block"}"#),
        ("do", "compare"),
        ("branch", "main"),
        ("paths", "a"),
    ]);
    let answer = ada.send_bytes("POST", path, &own, Some(compare)).await.text();
    assert!(answer.contains("Blocked: no decision opens it"), "{answer}");
    assert!(answer.contains("nothing can be compared"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_admin_confirms_a_change_in_the_browser() {
    if !can_run("a_second_admin_confirms_a_change_in_the_browser") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let (dora, browser) = two_admins(&appliance).await;
    let key = dora.create_api_key("CI", &["request"], &[]).await;
    let ci = appliance.api().with_key(&key.key);
    let guarded = json!({ "change_quorum": 2, "rules": [
        { "name": "Production", "match": { "environment": "production" }, "require": { "method": ["passkey"], "quorum": 2 } }] });
    dora.put_policy("default", &guarded).await;
    ci.open_request(&json!({ "action": "Deploy 1.2.3", "environment": "production" }))
        .await;
    let loose = json!({ "change_quorum": 2, "rules": [
        { "name": "Production", "match": { "environment": "production" }, "require": { "method": ["passkey"], "quorum": 1 } }] });
    let waits = dora.put("/api/v1/policies/default", &loose).await.expect(202);
    browser
        .goto(&format!("{}/dashboard", appliance.public_url()))
        .await;
    browser.wait_for_text("Changes to the rules that wait").await;
    browser
        .goto(&format!("{}{}", appliance.public_url(), text(&waits, "url")))
        .await;
    browser.wait_for_text("1 would have needed less").await;
    shoot(&browser, "proposal").await;
    browser.click("[data-answer]").await;
    browser.wait_for_text("Carried out").await;
    shoot(&browser, "proposal-carried").await;
    let policies = items(&dora.get("/api/v1/policies").await);
    assert_eq!(policies[0]["by"], json!(["Dora", "Ada"]));
    browser
        .goto(&format!("{}/dashboard/proposals", appliance.public_url()))
        .await;
    browser.wait_for_text("None waits").await;
    shoot(&browser, "proposals").await;
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_deputies_are_arranged_in_the_browser() {
    if !can_run("groups_and_deputies_are_arranged_in_the_browser") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let (dora, browser) = two_admins(&appliance).await;
    let page = |path: &str| format!("{}{path}", appliance.public_url());
    browser.goto(&page("/dashboard/groups")).await;
    browser.fill("#name", "release").await;
    browser.click("section.panel input[type=checkbox]").await;
    browser.click("section.panel button").await;
    browser.wait_for_text("No rule names it").await;
    let rule = json!({ "rules": [], "default": { "method": ["passkey"], "approvers": ["group:release"] } });
    dora.put_policy("default", &rule).await;
    browser.goto(&page("/dashboard/groups")).await;
    browser.wait_for_text("Named by policy default").await;
    browser.click("details summary").await;
    shoot(&browser, "groups").await;
    let groups = items(&dora.get("/api/v1/groups").await);
    assert_eq!(
        groups[0]["members"].as_array().map(Vec::len),
        Some(1),
        "{groups:?}"
    );

    browser.goto(&page("/a/away")).await;
    browser.wait_for_text("Nobody stands in for you").await;
    shoot(&browser, "away-empty").await;
    browser.click("section[aria-labelledby=own-head] button").await;
    browser.wait_for_text("Dora stands in for you").await;
    shoot(&browser, "away").await;
    browser.click("main .rows button").await;
    browser.wait_for_text("Dora stood in for you").await;
    assert_clean(&browser, &appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_page_explains_a_refusal_a_skip_and_the_emergency_way() {
    if !can_run("a_request_page_explains_a_refusal_a_skip_and_the_emergency_way") {
        return;
    }
    let it = Gated::start().await;
    let policy = json!({ "rules": [
        { "name": "Code", "match": { "branch": "main", "paths": ["*.rs"] },
          "require": { "method": ["passkey"], "quorum": 2, "approvers": ["group:release"] } },
        { "name": "Docs", "match": { "branch": "main", "paths": ["docs/**"] }, "action": "skip" },
        { "name": "Fire", "match": { "branch": "main" },
          "require": { "method": ["passkey"], "quorum": 2, "break_glass": true } } ] });
    it.ada.create_group("release", &[&it.bea, &it.carl]).await;
    it.ada.put_policy("default", &policy).await;
    let browser = sign_in(&it.ada, "Eve", &["approver", "auditor"]).await;
    let page = |path: &str| format!("{}{path}", it.appliance.public_url());

    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    browser.goto(&page(&format!("/a/{id}"))).await;
    browser
        .wait_for_text("The rule \"Code\" needs 2 approvers, and 1 can fill it.")
        .await;
    browser
        .wait_for_text("May not approve: Carl, who made this change.")
        .await;
    // Nobody's ordinary approval of hers could count, so none is offered that would use up her one decision.
    browser.wait_for_text("In an emergency only").await;
    browser.wait_for_text("go the way of “Fire”").await;
    let offered = "return [...document.querySelectorAll('[data-answer]')].map(it => it.dataset.answer).join() + \
                   document.querySelector('[name=break_glass]').checked";
    let offered = browser.script(offered, &[]).await;
    assert_eq!(offered.as_str(), Some("approvetrue"));
    let options = format!("/api/v1/approvals/{id}/decision/options");
    // Dan approves, and stands in no group either.
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    for answer in ["approve", "reject"] {
        let body = json!({ "decision": answer, "comment": "no" });
        let told = dan.post(&options, &body).await.expect(403);
        assert!(
            told.to_string().contains("Only the break-glass rule “Fire”"),
            "{told}"
        );
    }
    shoot(&browser, "request-explains-refusal").await;
    // The emergency way asks for a reason, and signs that it is one.
    browser.click("[data-answer=approve]").await;
    browser.wait_for_text("Say why: this needs a comment.").await;
    browser.fill("#comment", "the shop is down").await;
    browser.click("[data-answer=approve]").await;
    browser.wait_until("document.querySelector('#receipt')").await;
    browser
        .wait_for_text("does not count here: The rule \"Code\" asks for one of: group:release.")
        .await;
    shoot(&browser, "request-break-glass").await;
    let options = json!({ "decision": "approve", "comment": "agreed", "break_glass": true });
    let path = format!("/api/v1/approvals/{id}/decision");
    let options = it
        .bea
        .post(&format!("{path}/options"), &options)
        .await
        .expect(200);
    let signed = it.bea.authenticator().get(&options["publicKey"]).expect("signed");
    let body = json!({ "ceremony": options["ceremony"], "credential": signed });
    it.bea.post(&path, &body).await.expect(200);
    // Every admin and auditor sees it at once, wherever they begin.
    for start in ["/a/", "/dashboard"] {
        browser.goto(&page(start)).await;
        browser.wait_for_text("The glass was broken.").await;
    }
    browser.goto(&page(&format!("/a/{id}"))).await;
    browser.wait_for_text("given as an emergency").await;
    browser.goto(&page("/dashboard/exceptions")).await;
    browser.wait_for_text("broke the glass by rule “Fire”").await;
    browser.wait_for_text("somebody else has to look it over").await;
    shoot(&browser, "exceptions").await;

    let docs = it.open_with("docs", "main", "Docs", &Gated::commit_of_carl("docs/a.md"));
    let skipped = text(&it.request(&docs, "main", "skipped").await, "id");
    it.gitlab.settle(SOON);
    browser.goto(&page(&format!("/a/{skipped}"))).await;
    browser
        .wait_for_text("No approval was needed: a rule of the policy skips it.")
        .await;
    browser.click("details:has(table) summary").await;
    shoot(&browser, "request-explains-skip").await;
    assert_clean(&browser, &it.appliance).await;
}
