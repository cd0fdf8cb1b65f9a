//! What auditors see in a browser: the report that verifies itself, the audit pages, the page where proofs are dropped.
//! Skipped, visibly, where chromium is not installed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::bundles::EVER;
use crate::bundles::Scene;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::long_journal::fill;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// Opens a report from its file and waits for its verdict: the word, and how many signatures it checked.
async fn verdict(browser: &Browser, path: &Path) -> (String, u64) {
    browser.goto(&format!("file://{}", path.display())).await;
    browser
        .wait_until("document.body.dataset.verification !== undefined")
        .await;
    let word = browser
        .attribute("body", "data-verification")
        .await
        .expect("a verdict");
    let count = browser
        .attribute("body", "data-signatures")
        .await
        .expect("a count");
    (word, count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_verifies_every_signature_offline_and_finds_one_changed_byte() {
    if !can_run("the_report_verifies_every_signature_offline_and_finds_one_changed_byte") {
        return;
    }
    let it = Scene::new().await;
    let bytes = it.export("all.zip", EVER, &[]).await;
    let report = crate::bundles::unpack(&bytes)
        .into_iter()
        .find(|it| it.0 == "report.html")
        .expect("a report")
        .1;
    let path = it.path("report.html");
    fs::write(&path, &report).expect("a writable directory");
    let browser = Browser::start().await;
    browser.offline(true).await;
    // Three decisions by appliance and passkey, three outcomes, one checkpoint.
    assert_eq!(verdict(&browser, &path).await, ("valid".into(), 10));
    shoot(&browser, "report-valid").await;
    browser
        .cdp("Emulation.setEmulatedMedia", &json!({"media": "print"}))
        .await;
    browser.device(794, 1123, 1, false).await;
    let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    browser.full_screenshot(&shots.join("report-print.png")).await;
    let pdf = browser
        .cdp(
            "Page.printToPDF",
            &json!({"preferCSSPageSize": true, "printBackground": true}),
        )
        .await;
    assert!(
        pdf["data"].as_str().is_some_and(|it| it.len() > 10_000),
        "it prints"
    );
    browser
        .cdp("Emulation.setEmulatedMedia", &json!({"media": ""}))
        .await;
    assert!(
        browser.csp_violations().await.is_empty(),
        "{:#?}",
        browser.csp_violations().await
    );

    // One byte of what is shown, of what was signed, of a signature: each is seen, and where.
    let whole = String::from_utf8(report).expect("text");
    let at = |needle: &str, more: usize| whole.find(needle).unwrap_or_else(|| panic!("{needle}")) + more;
    for (what, place) in [
        ("a name", at("data-f=\"approver\">", 18)),
        ("the sentence", at(" was approved by", 5)),
        ("the outcome", at("data-f=\"outcome\">", 18)),
        ("a payload", at("{\"payload\":\"", 90)),
        ("a signature", at("\"sig\":\"", 30)),
        ("the checkpoint", at("id=\"checkpoint\">", 70)),
    ] {
        let mut bent = whole.clone().into_bytes();
        bent[place] = if bent[place] == b'x' { b'y' } else { b'x' };
        let path = it.path("bent.html");
        fs::write(&path, &bent).expect("a writable directory");
        let (word, _) = verdict(&browser, &path).await;
        assert_eq!(word, "invalid", "{what} changed");
        if what == "a name" {
            browser.wait_for_text("NOT VERIFIED").await;
            shoot(&browser, "report-changed").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_exports_reviews_and_verifies_in_the_browser() {
    if !can_run("an_auditor_exports_reviews_and_verifies_in_the_browser") {
        return;
    }
    let it = Scene::new().await;
    let auditor = it.it.ada.invite("Otto", &["auditor"]).await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let link = ["invite_url", "url"]
        .iter()
        .find_map(|name| auditor[*name].as_str())
        .expect("a link");
    browser.goto(link).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;

    let base = it.it.appliance.base();
    browser.goto(&format!("{base}/dashboard/audit")).await;
    browser.click("[data-to='/api/v1/audit/exports'] button").await;
    browser
        .wait_until("document.querySelector('a[download][href*=exports]')")
        .await;
    shoot(&browser, "audit").await;
    let href = browser
        .attribute("a[download][href*=exports]", "href")
        .await
        .expect("a link");
    assert!(href.ends_with("/bundle"), "{href}");

    browser
        .goto(&format!(
            "{base}/dashboard/audit?request={}#timeline",
            it.approved
        ))
        .await;
    let page = browser.text("main").await;
    assert!(page.contains(" was approved by Bea via biometric at "), "{page}");
    for kind in ["request.opened", "decision.recorded", "request.approved"] {
        assert!(page.contains(kind), "{kind}: {page}");
    }
    assert!(!page.contains("session.opened"), "{page}");
    shoot(&browser, "audit-story").await;

    browser.goto(&format!("{base}/dashboard/audit/report")).await;
    browser.wait_for_text("Who held which credential").await;
    let page = browser.text("main").await;
    for words in [
        "Time from request to decision",
        "Exceptions first",
        "Changes of access",
        "Bea",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    shoot(&browser, "audit-report").await;
    browser.fill("[name=note]", "Nothing out of order.").await;
    browser.click("[data-to='/api/v1/audit/reviews'] button").await;
    browser
        .wait_until("location.pathname === '/dashboard/audit'")
        .await;
    browser.wait_for_text("Nothing out of order.").await;
    let reviewed = it.it.ada.journal("journal.reviewed").await;
    assert_eq!(reviewed.len(), 1, "{reviewed:#?}");
    assert_eq!(reviewed[0]["data"]["name"], "Otto");

    // A proof and a bundle, dropped.
    let bundle = it.export("all.zip", EVER, &[]).await;
    browser.goto(&format!("{base}/verify")).await;
    let drop = |name: &str, bytes: &[u8]| {
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        (name.to_owned(), data)
    };
    let script = "const [name, data] = arguments; const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)); \
         const list = new DataTransfer(); list.items.add(new File([bytes], name)); \
         const input = document.querySelector('[data-drop] input'); input.files = list.files; \
         document.querySelector('[data-verdict]').hidden = true; input.dispatchEvent(new Event('change'));";
    let credential = crate::bundles::unpack(&bundle)
        .into_iter()
        .find(|it| it.0.starts_with("credentials/") && it.0.ends_with(".dsse.json"))
        .expect("a credential")
        .1;
    let mut bent = credential.clone();
    bent[60] ^= 1;
    let mut cut = bundle.clone();
    cut.truncate(bundle.len() - 5);
    for (name, bytes, valid) in [
        ("c.dsse.json", &credential, "true"),
        ("bent.dsse.json", &bent, "false"),
        ("all.zip", &bundle, "true"),
        ("cut.zip", &cut, "false"),
    ] {
        let (name, data) = drop(name, bytes);
        browser.script(script, &[json!(name), json!(data)]).await;
        browser
            .wait_until("!document.querySelector('[data-verdict]').hidden")
            .await;
        let shown = browser.attribute("[data-verdict]", "data-valid").await;
        assert_eq!(
            shown.as_deref(),
            Some(valid),
            "{name}: {}",
            browser.text("[data-verdict]").await
        );
        if name == "all.zip" {
            shoot(&browser, "verify").await;
        }
    }
    assert_clean(&browser, &it.it.appliance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_are_made_by_auditors_and_filters_find_entries() {
    let it = Scene::new().await;
    let body = json!({"from": "2026-01-01", "to": "2026-04-01", "note": "Looked at 25 changes."});
    let refused = it.it.bea.post("/api/v1/audit/reviews", &body).await;
    assert_problem!(refused, 403, "forbidden");
    let refused = it.it.auditor.post("/api/v1/audit/reviews", &body).await;
    assert_problem!(refused, 403, "not-allowed");
    for (bad, status, slug) in [
        (
            json!({"from": "2026-04-01", "to": "2026-01-01", "note": "Long enough."}),
            422,
            "invalid",
        ),
        (
            json!({"from": "2026-01-01", "to": "2026-04-01", "note": " "}),
            422,
            "invalid",
        ),
        (
            json!({"from": "then", "to": "2026-04-01", "note": "Long enough."}),
            400,
            "bad-request",
        ),
    ] {
        let answer = it.it.ada.post("/api/v1/audit/reviews", &bad).await;
        assert_problem!(answer, status, slug);
    }
    assert_eq!(it.it.ada.post("/api/v1/audit/reviews", &body).await.status, 201);
    let listed = it.it.auditor.get("/api/v1/audit/reviews").await.expect(200);
    assert_eq!(listed["items"][0]["note"], "Looked at 25 changes.");
    assert_eq!(listed["items"][0]["name"], "Ada");
    assert!(
        listed["items"][0]["through"].as_u64().is_some_and(|it| it > 20),
        "{listed}"
    );

    let page = |answer: crate::support::appliance::Answer| answer.text();
    let all = page(it.it.ada.get("/dashboard/audit").await);
    assert!(all.contains("hook.received"));
    let keys = page(it.it.ada.get("/dashboard/audit?kind=key.").await);
    assert!(
        keys.contains("key.activated") && !keys.contains(">hook.received<"),
        "{keys}"
    );
    let none = page(it.it.ada.get("/dashboard/audit?since=2099-01-01").await);
    assert!(none.contains("There are none."), "{none}");
    assert_eq!(it.it.bea.get("/dashboard/audit/report").await.status, 403);
    let report = page(
        it.it
            .ada
            .get("/dashboard/audit/report?from=2020-01-01&to=2026-01-01")
            .await,
    );
    assert!(report.contains("at most 400 days"), "{report}");
    // A bundle that is sent by somebody unknown is not looked at.
    let unknown = it
        .it
        .appliance
        .api()
        .post("/api/v1/verify/bundle", &Value::Null)
        .await;
    assert_problem!(unknown, 401, "unauthenticated");
    let bytes = it.export("all.zip", EVER, &[]).await;
    let answer = it
        .it
        .ada
        .send_bytes(
            "POST",
            "/api/v1/verify/bundle",
            &[("origin", &it.it.appliance.origin())],
            Some(bytes),
        )
        .await;
    assert_eq!(answer.expect(200)["valid"], true);
    assert_eq!(
        text(&it.it.ada.journal("export.requested").await[0], "type"),
        "export.requested"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_period_is_reported_beside_its_page_and_what_is_far_back_is_found() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let public_url = appliance.public_url();
    appliance.stop().await;
    fill(appliance.data_dir(), &public_url, 10_000);
    appliance.restart().await;
    let page = async |path: &str| ada.get(path).await.text();

    // The first entries of all, behind thousands of others: until all are marked, the page says that it has not looked there.
    let keys = loop {
        let keys = page("/dashboard/audit?kind=key.").await;
        if !keys.contains("None among the newest entries") {
            break keys;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(
        keys.contains(">key.activated<") && !keys.contains(">hook.received<"),
        "{keys}"
    );
    let hers = page(&format!("/dashboard/audit?person={}", ada.id())).await;
    assert!(
        hers.contains(">person.") && !hers.contains(">hook.received<"),
        "{hers}"
    );
    // What is recorded now is found at once.
    let group = json!({"name": "Payments"});
    ada.post("/api/v1/groups", &group).await.expect(201);
    let hers = page(&format!("/dashboard/audit?person={}", ada.id())).await;
    assert!(hers.contains(">group."), "{hers}");

    let made = async |path: &str| loop {
        let page = page(path).await;
        if !page.contains("data-making") {
            return page;
        }
        assert!(
            page.contains("The report is being made") && page.contains("audit.js"),
            "{page}"
        );
        assert!(
            !page.contains("I have reviewed this period"),
            "nobody signs off what is not shown"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let first = made("/dashboard/audit/report").await;
    assert!(first.contains("Who held which credential"), "{first}");
    assert!(!first.contains("Make it anew"), "{first}");
    // Others look at the same one, which says of when it is, and how to have a newer one.
    ada.post("/api/v1/groups", &json!({"name": "Platform"}))
        .await
        .expect(201);
    let same = made("/dashboard/audit/report").await;
    let link = same
        .split_once("/dashboard/audit/report?from=")
        .expect("a link")
        .1;
    let link = link.split_once('"').expect("its end").0;
    assert!(
        same.contains("Make it anew") && !same.contains("Platform"),
        "{same}"
    );
    let link = link.replace("&amp;", "&").replace("&#38;", "&");
    let anew = made(&format!("/dashboard/audit/report?from={link}")).await;
    assert!(!anew.contains("Make it anew"), "{anew}");
    let changes = anew.split_once("Changes of access").expect("a part").1;
    assert!(
        changes.contains("Ada") && changes.matches("group.").count() > 0,
        "{changes}"
    );
}
