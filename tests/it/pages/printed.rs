//! Pages on paper: what can be pressed or leads elsewhere is gone, and all of the evidence is there, folded and cut parts
//! included. Written as PDF beside the screenshots. Skipped, visibly, where chromium is not installed.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::browser::can_run;
use crate::pages::every_page::{ELSEWHERE, joined};
use crate::pages::{routes, texts};
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::person::text;

/// Between the margins of A4, in CSS pixels.
const WIDTH: u32 = 672;

/// What should not be on paper, and what is not whole there.
const LOOK: &str = r#"
    const wrong = [];
    const seen = (it) => it.checkVisibility({ visibilityProperty: true }) && it.getClientRects().length > 0;
    for (const it of document.querySelectorAll("nav, footer, button, .button, form[method=post], input[type=password], .skip, [data-copy]")) {
        if (seen(it)) wrong.push(`on paper: ${it.outerHTML.slice(0, 120)}`);
    }
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) wrong.push(`wider than the paper by ${scrollWidth - clientWidth}`);
    for (const it of document.querySelectorAll("main *")) {
        const { overflowX, overflowY } = getComputedStyle(it);
        if (!seen(it) || it.closest("svg")) continue;
        if (overflowX !== "visible" && it.scrollWidth > it.clientWidth + 1) wrong.push(`cut at the side: ${it.outerHTML.slice(0, 120)}`);
        if (overflowY !== "visible" && it.scrollHeight > it.clientHeight + 1) wrong.push(`cut at the end: ${it.outerHTML.slice(0, 120)}`);
    }
    for (const it of document.querySelectorAll("main details:not([open])")) {
        if (!seen(it)) continue;
        const parts = [...it.children].filter((part) => part.localName !== "summary" && part.textContent.trim());
        const hidden = parts.filter((part) => !seen(part) && !part.matches(".no-print, .hidden, [hidden], form, .files-to-keep, p:has(> button), .journal p:has(a)"));
        if (hidden.length) wrong.push(`folded away: ${hidden[0].outerHTML.slice(0, 160)}`);
    }
    const behind = [...document.querySelectorAll("main a[href], main time")].filter(seen)
        .map((it) => getComputedStyle(it, "::after").content).filter((it) => it.includes("("));
    return [wrong, `${document.querySelector("main").innerText} ${behind.join(" ")}`];
"#;

/// What is wrong with the open page as it would be printed, and its text then.
async fn on_paper(browser: &Browser, name: &str) -> (Vec<String>, String) {
    browser
        .cdp("Emulation.setEmulatedMedia", &json!({"media": "print"}))
        .await;
    browser.device(WIDTH, 1000, 1, false).await;
    let found = browser.script(LOOK, &[]).await;
    let wrong = texts(&found[0]).into_iter().map(|it| format!("{name}: {it}"));
    let wrong = wrong.collect();
    let said = found[1].as_str().expect("a text").to_owned();
    browser
        .cdp("Emulation.setEmulatedMedia", &json!({"media": ""}))
        .await;
    browser.device(1280, 900, 1, false).await;
    (wrong, said)
}

async fn as_pdf(browser: &Browser, name: &str) {
    let options = json!({"preferCSSPageSize": true, "printBackground": false});
    let answer = browser.cdp("Page.printToPDF", &options).await;
    let pdf = STANDARD
        .decode(answer["data"].as_str().expect("base64"))
        .expect("base64");
    assert!(pdf.starts_with(b"%PDF-"), "{name} is printed");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    fs::create_dir_all(&folder).expect("target is writable");
    fs::write(folder.join(format!("print-{name}.pdf")), pdf).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_all_of_the_evidence_and_nothing_to_press() {
    if !can_run("what_is_printed_is_all_of_the_evidence_and_nothing_to_press") {
        return;
    }
    let it = Gated::start().await;
    let base = it.appliance.base();
    let policy = json!({"rules": [{"name": "Release", "match": {"branch": "main", "paths": ["**"]},
        "require": {"method": ["passkey", "biometric"], "quorum": 1}}]});
    it.ada.put_policy("default", &policy).await;
    let first = it.open("retry-card-payments", "main");
    let approved = it.pending(&first, "main").await;
    it.bea.approve(&approved).await;
    let second = it.open("raise-the-limit", "production");
    let waits = it.pending(&second, "production").await;
    let third = it.open("drop-the-table", "main");
    let rejected = it.pending(&third, "main").await;
    it.bea.reject(&rejected, "Not on a Friday.").await;
    let url = text(
        &it.ada.invite("Olga", &["admin", "auditor", "approver"]).await,
        "invite_url",
    );
    let browser = joined(&url).await;

    let mut wrong = Vec::new();
    let digits = |text: &str| text.chars().filter(|it| !it.is_whitespace()).collect::<String>();
    for (name, id) in [
        ("receipt", &approved),
        ("rejection", &rejected),
        ("request", &waits),
    ] {
        let request = it.auditor.get(&format!("/api/v1/approvals/{id}")).await.json();
        browser.goto(&format!("{base}/a/{id}")).await;
        as_pdf(&browser, name).await;
        let subject = browser
            .script(
                "return document.querySelector('[data-subject]').dataset.subject",
                &[],
            )
            .await;
        let subject = subject.as_str().expect("a digest").to_owned();
        let (found, said) = on_paper(&browser, name).await;
        wrong.extend(found);
        let said = digits(&said);
        // What was signed, by its bytes and its digest; the change's own page; and when, for wherever the paper goes.
        for text in [
            &subject,
            &text(&request["subject"], "head"),
            &format!("({}", it.gitlab.base_url()),
            "Exactlywhatissigned",
            "\"refs/heads/",
            "Z)",
        ] {
            assert!(said.contains(text), "{name} lacks {text}: {said}");
        }
        let decisions = request["decisions"].as_array().expect("a list");
        assert_eq!(decisions.is_empty(), name == "request", "{request}");
        for decision in decisions {
            let credential = text(decision, "credential");
            assert!(said.contains(&credential), "{name} lacks {credential}: {said}");
            assert!(
                said.contains("opensslpkeyutl-verify"),
                "how it is verified: {said}"
            );
        }
    }
    for (name, path, texts) in [
        (
            "people",
            "/dashboard/people",
            ["carl@example.test", "asserted by an administrator"],
        ),
        ("audit", "/dashboard/audit", ["Root", "decision.recorded"]),
        ("policy", "/dashboard/policies/default", ["Release", "quorum"]),
    ] {
        browser.goto(&format!("{base}{path}")).await;
        as_pdf(&browser, name).await;
        let (found, said) = on_paper(&browser, name).await;
        wrong.extend(found);
        for text in texts {
            assert!(said.contains(text), "{name} lacks {text}: {said}");
        }
    }
    // And every page that is found without knowing anything's name, and the page that is made to be printed.
    let mut paths: Vec<String> = routes()
        .into_iter()
        .filter_map(|it| it.strip_prefix("GET ").map(str::to_owned))
        .filter(|it| !it.contains('{') && !ELSEWHERE.contains(&format!("GET {it}").as_str()))
        .collect();
    paths.push("/dashboard/set-up/signing-key".to_owned());
    assert!(paths.len() > 30, "{paths:?}");
    for path in paths {
        browser.goto(&format!("{base}{path}")).await;
        wrong.extend(on_paper(&browser, &path).await.0);
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
