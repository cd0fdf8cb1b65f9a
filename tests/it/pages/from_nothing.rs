//! From a server that nobody has claimed to a merge request that somebody approved, in two browsers and nothing but their
//! pages. Skipped, visibly, where chromium is not installed.

use std::time::Instant;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Gated;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;

/// A person at a browser, whose clicks and filled fields are counted.
struct Hand {
    browser: Browser,
    clicks: u32,
    fields: u32,
}

impl Hand {
    async fn new() -> Hand {
        let browser = Browser::start().await;
        browser.add_authenticator().await;
        Hand {
            browser,
            clicks: 0,
            fields: 0,
        }
    }

    async fn click(&mut self, css: &str) {
        self.browser.click(css).await;
        self.clicks += 1;
    }

    async fn fill(&mut self, css: &str, text: &str) {
        self.browser.fill(css, text).await;
        self.fields += 1;
    }

    async fn until(&self, expression: &str) {
        self.browser.wait_until(expression).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_an_approved_merge_request_in_one_go() {
    if !can_run("from_nothing_to_an_approved_merge_request_in_one_go") {
        return;
    }
    let gitlab = FakeGitLab::start();
    let carl = gitlab.add_user("carl", "Carl", "carl@example.test");
    let bot = gitlab.add_user("project_42_bot_a1", "Gate", "gate@example.test");
    gitlab.add_project(PROJECT, "group/app");
    gitlab.add_member(PROJECT, carl, DEVELOPER);
    gitlab.add_member(PROJECT, bot, MAINTAINER);
    gitlab.appliance_is(bot);
    gitlab.protect(PROJECT, "main", 0, MAINTAINER, &[]);
    gitlab.set(PROJECT, |it| it.only_allow_merge_if_pipeline_succeeds = true);
    let token = gitlab.add_token(bot, &["api"]);
    let appliance = Appliance::start(Options::default()).await;
    let (mut ada, mut bea) = (Hand::new().await, Hand::new().await);
    let started = Instant::now();

    // The first admin, with a passkey.
    ada.browser.device(1280, 900, 1, false).await;
    ada.browser.goto(&appliance.setup_url()).await;
    ada.fill("[name=name]", "Ada Example").await;
    ada.fill("[name=email]", "ada@example.test").await;
    ada.click("[data-enrol] button").await;
    // The claim leads into the set-up, which goes on where nobody has been yet.
    ada.until("location.pathname === '/dashboard/set-up/public-url'")
        .await;
    ada.click("main form button.primary").await;
    // In an evaluation there is nothing to do about TLS; the fingerprint is copied, and typed from the copy.
    ada.until("location.pathname === '/dashboard/set-up/signing-key'")
        .await;
    let written = ada.browser.text(".fingerprint").await.replace(' ', "");
    let end = &written[written.len() - 8..];
    ada.fill("#typed", end).await;
    ada.click("main form button.primary").await;
    ada.until("location.pathname === '/dashboard/set-up/forge'").await;
    ada.click("main a.primary[href='/dashboard/integrations/gitlab']")
        .await;
    ada.fill("#base_url", &gitlab.base_url()).await;
    ada.fill("#token", &token).await;
    ada.fill("#connect [name=reason]", "The first forge").await;
    ada.click("#connect form button").await;
    ada.until("!document.querySelector('#connected').hidden").await;
    let url = ada.browser.text("#hook-url").await;
    let secret = ada.browser.text("#hook-secret").await;
    gitlab.register_hook(PROJECT, &url, Some(&secret), None);
    ada.click("#connected a.primary").await;

    // A project.
    ada.fill("[name=project_id]", &PROJECT.to_string()).await;
    ada.fill("details.adding [name=reason]", "It goes to production")
        .await;
    ada.click("details.adding form button").await;
    ada.browser.wait_for_text("1 approval").await;

    // From everywhere the set-up is one click away. It looks at what holds the gate, and then asks for a policy; the built-in
    // rule will do.
    ada.click(".side .set-up a").await;
    ada.until("location.pathname.startsWith('/dashboard/set-up/')")
        .await;
    let unseen = "return Boolean(document.querySelector('button.look'))";
    if ada.browser.script(unseen, &[]).await == true {
        ada.click("button.look").await;
        ada.until("location.pathname !== '/dashboard/set-up/forge'").await;
    } else if ada
        .browser
        .script("return location.pathname.endsWith('/forge')", &[])
        .await
        == true
    {
        // It had looked by itself in between.
        ada.click("main a.primary[href='/dashboard/set-up/policy']").await;
    }
    ada.until("location.pathname === '/dashboard/set-up/policy'")
        .await;
    ada.click("form[action='/dashboard/set-up/policy'] button:not(.small)")
        .await;
    ada.until("location.pathname === '/dashboard/set-up/approver'")
        .await;
    ada.fill("#name", "Bea").await;
    ada.fill("#email", "bea@example.test").await;
    ada.fill("#add [name=reason]", "Approves changes").await;
    ada.click("#add form button").await;
    ada.until("!document.querySelector('#invited').hidden").await;
    let invited = ada.browser.text("#invite-url").await;
    let code = "return document.querySelector('#invited .qr img').src.startsWith('data:image/')";
    assert_eq!(
        ada.browser.script(code, &[]).await,
        true,
        "the link as a code to scan"
    );

    // Its author, who is known so that nobody can take his change for a stranger's.
    ada.click(".side a[href='/dashboard/people']").await;
    ada.fill("#name", "Carl").await;
    ada.fill("#email", "carl@example.test").await;
    ada.fill("#add [name=reason]", "Writes the app").await;
    ada.click("#add form button").await;
    ada.until("!document.querySelector('#invited').hidden").await;
    ada.click("#invited a").await;
    ada.until("document.querySelector('#person') && document.querySelector('#invited').hidden")
        .await;
    let carls = ada
        .browser
        .script(
            "return [...document.querySelector('#person').options].find((it) => it.text === 'Carl').index",
            &[],
        )
        .await;
    // A list is one choice, made by its keys as well as by the mouse.
    ada.browser
        .script(
            "document.querySelector('#person').selectedIndex = arguments[0]",
            &[carls],
        )
        .await;
    ada.clicks += 1;
    ada.fill("#account_id", &carl.to_string()).await;
    ada.fill("#link [name=reason]", "His account").await;
    ada.click("#link form button").await;
    ada.browser.wait_for_text("asserted by an administrator").await;

    // The approver, on a phone of her own.
    bea.browser.be_a_phone().await;
    bea.browser.goto(&invited).await;
    bea.click("[data-enrol] button").await;
    bea.until("location.pathname === '/a/'").await;

    // A change comes, and the open queue shows it by itself.
    gitlab.branch(PROJECT, "retry-card-payments", "main");
    let head = gitlab.commit(PROJECT, "retry-card-payments", &Gated::commit_of_carl("retry.rs"));
    gitlab.open_merge_request(
        PROJECT,
        "retry-card-payments",
        "main",
        "Retry card payments",
        carl,
    );
    let state = |wanted: &'static str, head: String| {
        move |it: &FakeGitLab| it.status(PROJECT, &head, "signedapproval/main").as_deref() == Some(wanted)
    };
    gitlab.expect("the change waits", SOON, state("pending", head.clone()));
    bea.click("a[href^='/a/apr_']").await;
    bea.click("[data-answer=approve]").await;
    bea.until("document.querySelector('#receipt')").await;
    gitlab.expect("the change is green", SOON, state("success", head));
    let receipt = bea.browser.text("#receipt").await;
    assert!(
        receipt.contains("was approved by Bea via biometric at"),
        "{receipt}"
    );

    println!(
        "from nothing to an approved merge request: {:.1?}, {} clicks and {} fields, {} of the clicks and none of the \
         fields the approver's",
        started.elapsed(),
        ada.clicks + bea.clicks,
        ada.fields + bea.fields,
        bea.clicks
    );
    assert_eq!(bea.fields, 0);
    // With Bea's passkey the last step is done, and the list is gone.
    ada.browser
        .goto(&format!("{}/dashboard/set-up", appliance.base()))
        .await;
    ada.browser.wait_for_text("All set up").await;
    ada.browser.goto(&format!("{}/dashboard", appliance.base())).await;
    ada.browser.wait_for_text("Overview").await;
    let page = ada.browser.text("main").await;
    assert!(!page.contains("Getting started"), "{page}");
    assert!(page.contains("Retry card payments"), "{page}");
    assert_clean(&ada.browser, &appliance).await;
    assert_clean(&bea.browser, &appliance).await;
    gitlab.assert_no_violations();
}
