//! Every page as somebody sees it whose company is full of attacks: no script of theirs runs, no element of theirs is there,
//! nothing is hidden, and axe-core finds nothing in it, light and dark, narrow and wide. Skipped, visibly, where chromium is
//! not installed; the part of axe-core where that is not.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::browser::can_run;
use crate::pages::Visit;
use crate::pages::accessible::Axe;
use crate::pages::all;
use crate::pages::hostile::Hostile;
use crate::pages::hostile::marks;
use crate::pages::open;
use crate::pages::texts;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::problem::assert_problem;

/// What stands on a page that its makers did not put there, and which payloads it shows as text.
const FOREIGN: &str = r#"
    const own = new Set(("html head meta title link script body a abbr article aside b bdi blockquote br button caption code datalist "
        + "dd details div dl dt em fieldset figcaption figure footer form h1 h2 h3 h4 header hr img input label legend li main "
        + "nav noscript ol option p pre progress s section select small span strong style summary table tbody td textarea th "
        + "thead time tr ul svg circle g line path polyline rect text title use").split(" "));
    const bad = [];
    const shown = [];
    if (window.pwned !== undefined) bad.push(`a script of theirs ran: ${window.pwned}`);
    const hides = /[\u202a-\u202e\u2066-\u2069\u200b-\u200f\ufeff\u{e0000}-\u{e0fff}]/u;
    for (const it of document.querySelectorAll("*")) {
        const tag = it.outerHTML.slice(0, 160);
        if (it.hasAttribute("pwn")) bad.push(`an element of theirs: ${tag}`);
        if (!own.has(it.localName)) bad.push(`a strange element: ${tag}`);
        if (it.localName === "script" && !(it.getAttribute("src") ?? "").startsWith("/static/") && !arguments[0]) {
            bad.push(`a strange script: ${tag}`);
        }
        if (it.localName === "style" && !arguments[0]) bad.push(`a style: ${tag}`);
        for (const { name, value } of it.attributes) {
            shown.push(value);
            if (name.startsWith("on") || name === "srcdoc" || name === "style") bad.push(`${name} in ${tag}`);
            if (hides.test(value) && name !== "data-expect") bad.push(`something hidden in ${name} of ${tag}`);
            if (!["href", "src", "action", "formaction", "data", "poster", "xlink:href"].includes(name)) continue;
            const { protocol, host } = new URL(value, location.href);
            const picture = it.localName === "img" && value.startsWith("data:image/");
            if (!picture && !["http:", "https:", "file:", "otpauth:", "mailto:"].includes(protocol)) bad.push(`${protocol} in ${tag}`);
            if (name !== "href" && host !== location.host && !picture && it.dataset.elsewhere === undefined
                && !(it.localName === "form" && host === "github.example")) bad.push(`it goes to ${host}: ${tag}`);
        }
        if (it.value !== undefined && typeof it.value === "string") shown.push(it.value);
    }
    const walk = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const { data, parentElement } = walk.currentNode;
        shown.push(data);
        // What somebody wrote to be kept to the byte is shown as it is where it is edited.
        if (hides.test(data) && !parentElement.closest("textarea, script")) {
            bad.push(`something hidden in the text of ${parentElement.outerHTML.slice(0, 160)}`);
        }
    }
    // All scripts of a page together, as they are written.
    const scripts = performance.getEntriesByType("resource").filter((it) => /^\/static\/.*\.js$/.test(new URL(it.name).pathname));
    const written = scripts.reduce((sum, it) => sum + it.decodedBodySize, 0);
    if (written >= 10 * 1024) bad.push(`scripts of ${written} bytes: ${scripts.map((it) => it.name)}`);
    const marks = new Set(shown.flatMap((it) => it.match(/pwned=\d\d/g) ?? []));
    return { bad, marks: [...marks], title: document.title, heading: document.querySelector("h1")?.innerText ?? "" };
"#;

/// What was found, and which payloads were seen at all.
#[derive(Default)]
pub struct Findings {
    pub wrong: Vec<String>,
    pub seen: BTreeSet<String>,
    pub pages: usize,
    /// Routes that axe has looked at.
    routes: BTreeSet<String>,
}

impl Findings {
    /// Panics with all that was found, if anything was.
    pub fn assert_none(&self) {
        let wrong = &self.wrong;
        assert!(
            wrong.is_empty(),
            "{} findings\n{}\n",
            wrong.len(),
            wrong.join("\n")
        );
    }

    pub async fn look(&mut self, browser: &Browser, axe: Option<&Axe>, name: &str, is_report: bool) {
        self.pages += 1;
        let found: Value = browser.script(FOREIGN, &[json!(is_report)]).await;
        for it in texts(&found["bad"]) {
            self.wrong.push(format!("{name}: {it}"));
        }
        self.seen.extend(texts(&found["marks"]));
        for it in ["title", "heading"] {
            if found[it].as_str().is_none_or(str::is_empty) {
                self.wrong.push(format!("{name} has no {it}"));
            }
        }
        if let Some(axe) = axe {
            self.wrong.extend(axe.check(browser, name).await);
        }
    }

    pub async fn visit(&mut self, browser: &Browser, axe: Option<&Axe>, base: &str, visits: &[Visit]) {
        for it in visits {
            open(browser, base, it).await;
            // Another way to ask for a page makes no other page; a request is one by what became of it.
            let fresh = it.route.is_empty()
                || it.route == "GET /a/{id}"
                || it.route == "GET /dashboard/set-up/{step}"
                || self.routes.insert(it.route.clone());
            let axe = axe.filter(|_| fresh || it.then.is_some());
            self.look(browser, axe, &format!("{} ({})", it.name, it.route), false)
                .await;
        }
    }

    /// What the browser itself wrote down.
    pub async fn blocked(&mut self, browser: &Browser) {
        for it in browser.csp_violations().await {
            self.wrong.push(format!("the policy was needed: {}", it.message));
        }
        for url in browser.requested_urls().await {
            let own = ["http://localhost:", "data:", "file:"];
            if !own.iter().any(|it| url.starts_with(it)) {
                self.wrong.push(format!("a request to {url}"));
            }
        }
    }
}

/// Routes that are looked at by whoever is not signed in, or that lead on at once.
pub const ELSEWHERE: &[&str] = &[
    "GET /",
    "GET /unseal",
    "GET /setup",
    "GET /login",
    "GET /enrol",
    "GET /offline",
    // It remembers the choice and leads back to its own page.
    "POST /language",
];

pub async fn joined(url: &str) -> Browser {
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    browser.goto(url).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_lets_an_attack_through_and_every_page_is_accessible() {
    let name = "no_page_lets_an_attack_through_and_every_page_is_accessible";
    if !can_run(name) {
        return;
    }
    let axe = Axe::installed(name);
    let axe = axe.as_ref();
    let mut found = Findings::default();

    let started = Instant::now();
    // Before anybody has claimed the server.
    let fresh = Appliance::start(Options::default()).await;
    let stranger = Browser::start().await;
    let url = fresh.setup_url();
    let (base, path) = (fresh.base(), url.split_once("/setup").expect("a link").1);
    let unclaimed = [
        Visit::of("GET /setup", format!("/setup{path}")).called("set up"),
        Visit::of("GET /setup", "/setup").called("set up without the link"),
    ];
    found.visit(&stranger, axe, &base, &unclaimed).await;
    drop(fresh);

    let making = Instant::now();
    let company = Hostile::start().await;
    let made = making.elapsed();
    let base = company.it.appliance.base();
    let outside = company.for_strangers().await;
    found.visit(&stranger, axe, &base, &outside).await;
    found.blocked(&stranger).await;
    drop(stranger);

    // Where a page leads on at once there is nothing to look at.
    for path in ["/", "/unseal"] {
        let answer = company.it.appliance.api().get(path).await;
        assert_eq!(answer.status, 303, "{answer:?}");
    }
    let visits = company.visits();
    let browser = joined(company.overseer()).await;
    found.visit(&browser, axe, &base, &all(visits, ELSEWHERE)).await;

    // What leaves the server as a file, opened as one.
    let file = company.report().await;
    browser.goto(&format!("file://{}", file.display())).await;
    browser
        .wait_until("document.body.dataset.verification !== undefined")
        .await;
    found.look(&browser, axe, "report.html", true).await;
    found.blocked(&browser).await;

    // The catalogue itself is worth something: each payload was there to be seen.
    let unseen: Vec<String> = marks().difference(&found.seen).cloned().collect();
    assert!(unseen.is_empty(), "never shown: {unseen:?}");
    assert!(found.pages > 60, "{}", found.pages);
    println!(
        "{} pages, {} payloads, {:.1?} of which {made:.1?} made the company",
        found.pages,
        found.seen.len(),
        started.elapsed(),
    );
    found.assert_none();
    // An answer that is no page is no page for browsers either.
    let evil = company.it.appliance.api().get("/api/v1/%3Cscript%3E").await;
    assert_problem!(evil, 404, "not-found");
    assert_eq!(evil.header("content-type"), Some("application/problem+json"));
}
