//! Every page in a language that is not English: `en-XA`, which is made from the catalogue, so that whatever is still English on a
//! page has not gone through it. Its texts are a third longer, and no page breaks out sideways with them. Skipped, visibly, where
//! chromium is not installed.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use regex_lite::Regex;
use serde_json::Value;
use serde_json::json;
use signedapproval::texts::accented;

use crate::browser::can_run;
use crate::pages::Visit;
use crate::pages::all;
use crate::pages::every_page::ELSEWHERE;
use crate::pages::every_page::joined;
use crate::pages::hostile::Hostile;
use crate::pages::open;
use crate::pages::texts;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;

/// What a person sees, hears or is told on a page, each text with the element around it, and what is wider than the window. Left
/// out is what is a machine's: code, and times, which the browser words.
const TEXTS: &str = r##"
    const machine = "script, style, code, pre, kbd, samp, textarea, time, [lang]:not(html), [translate=no], .mono, #payload";
    const found = [];
    const add = (text, at) => {
        const plain = text.replace(/<[^>]*>/g, " ").trim();
        if (plain) found.push([plain, at.outerHTML.slice(0, 200)]);
    };
    const everywhere = arguments[0] ? document.querySelectorAll("*") : [];
    add(document.title, document.querySelector("title"));
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (arguments[0] && walk.nextNode()) {
        const { data, parentElement } = walk.currentNode;
        if (!parentElement.closest(machine)) add(data, parentElement);
    }
    for (const it of everywhere) {
        for (const name of ["title", "placeholder", "alt", "aria-label", "aria-description", "aria-roledescription"]) {
            if (it.hasAttribute(name) && !it.closest(machine)) add(it.getAttribute(name), it);
        }
        if (it.matches("input[type=submit], input[type=button]")) add(it.value, it);
    }
    const wide = [];
    const edge = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > edge) {
        for (const it of document.querySelectorAll("body *")) {
            const { left, right, width } = it.getBoundingClientRect();
            if ((right > edge + 1 || left < -1) && width > 0 && !it.parentElement.closest(".scroll, pre") && it.children.length === 0) {
                wide.push(`${Math.round(left)} to ${Math.round(right)} of ${edge}: ${it.outerHTML.slice(0, 160)}`);
            }
        }
        if (!wide.length) wide.push(`${document.documentElement.scrollWidth} of ${edge}`);
    }
    return { found, wide, lang: document.documentElement.lang };
"##;

/// Names that are the same in every language, and what is one.
const NAMES: &[&str] = &[
    "SignedApproval",
    "GitLab",
    "GitHub",
    "Bitbucket",
    "English",
    "TLS",
    "UTC",
    "JSON",
    "Slack",
    "Mattermost",
    "URL",
];

/// What people and forges gave in this company, beside its Greek.
const GIVEN: &[&str] = &[
    "Ada's phone",
    "Bea's phone",
    "Carl's phone",
    "Dora's phone",
    "This device",
    "Ada",
    "Bea",
    "Carl",
    "Dora",
    "Eve",
    "Looker",
    "group/app",
    "signedapproval/main",
    "main",
    "production",
    "default",
    "Write b.rs",
    "a test",
    // GitLab's own names for a setting and a role.
    "Skipped pipelines are considered successful",
    "Maintainers",
    "Production code needs two people",
    // What the HTTP library says, should a forge of the tests close a connection just then.
    "connection closed before message completed",
];

/// What no language has words for: addresses, digests, ids, instants, the marks of the company's texts.
const DATA: &str = r"(?x)
    ^Deploy\ {3}to\ .* | [a-z]+://[^\s)]+ | \bpwned=\d+ | pw[a-z]*=?\d*… | --[a-z-]+ | (?:/[\w.-]+)+ | [\w-]+(?:\.[\w-]+)+
    | \b[0-9a-f]{4}(?:\ [0-9a-f]{4})+\b | @\w+ | \b(?:group|person): | \S+@\S+ | pwned=\d+ | \b[0-9a-f]{6,64}\b… | \b[0-9a-f]{6,64}\b
    | \b(?:apr|crd|per|prj|int|key|grp|snk|pol|prp)_[0-9a-z-]+ | \d{4}-\d\d-\d\dT[\d:.]+Z";

struct Findings {
    data: Regex,
    word: Regex,
    english: BTreeSet<String>,
    wide: BTreeSet<String>,
    pages: usize,
    /// The window is as narrow as a phone just now.
    narrow: bool,
}

impl Findings {
    /// Makes the window narrow or wide, as it is not.
    async fn turn(&mut self, browser: &Browser) {
        self.narrow = !self.narrow;
        let (width, height) = if self.narrow { (390, 844) } else { (1280, 900) };
        browser.device(width, height, 1, false).await;
    }

    async fn look(&mut self, browser: &Browser, name: &str) {
        self.pages += 1;
        // The texts are the same at every width.
        for texts_too in [true, false] {
            if !texts_too {
                self.turn(browser).await;
            }
            let width = if self.narrow { 390 } else { 1280 };
            let found: Value = browser.script(TEXTS, &[json!(texts_too)]).await;
            for it in texts(&found["wide"]) {
                self.wide.insert(format!("{name} at {width}: {it}"));
            }
            if let Some(dir) = env::var_os("SIGNEDAPPROVAL_TEST_SCREENSHOTS") {
                let file = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
                fs::create_dir_all(&dir).expect("a writable directory");
                let fold = "document.querySelectorAll('details').forEach((it) => (it.open = false))";
                browser.script(fold, &[]).await;
                browser
                    .full_screenshot(&Path::new(&dir).join(format!("{file}-{width}.png")))
                    .await;
            }
            assert_eq!(found["lang"], language().as_str(), "{name}");
            for it in found["found"].as_array().expect("a list") {
                let (text, at) = (it[0].as_str().expect("text"), it[1].as_str().expect("text"));
                if let Some(left) = self.english_in(text) {
                    self.english.insert(format!("{left} ⟵ {text} ⟵ {at} ⟵ {name}"));
                }
            }
        }
    }

    /// What of a text is English still.
    fn english_in(&self, text: &str) -> Option<String> {
        let mut left = text.to_owned();
        for it in NAMES.iter().chain(GIVEN) {
            left = left.replace(it, " ");
        }
        let left = self.data.replace_all(&left, " ");
        let words: Vec<&str> = self.word.find_iter(&left).map(|it| it.as_str()).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    async fn visit(&mut self, browser: &Browser, base: &str, visits: Vec<Visit>) {
        self.turn(browser).await;
        for mut it in visits {
            // What a visit waits for is a text as well.
            if let Some((_, done)) = &mut it.then {
                for text in ["not a valid policy", "Check again"] {
                    let foreign = accented(text);
                    *done = done.replace(text, foreign.trim_start_matches("[!!").trim_end_matches("!!]"));
                }
            }
            open(browser, base, &it).await;
            self.look(browser, &format!("{} {}", it.name, it.route)).await;
        }
    }
}

/// The language of tests that is spoken: `ar-XB` in its place shows every page from right to left.
fn language() -> String {
    env::var("SIGNEDAPPROVAL_TEST_LANGUAGE").unwrap_or_else(|_| "en-XA".to_owned())
}

async fn speak(browser: &Browser, base: &str) {
    let cookie = json!({"name": "language", "value": language(), "url": base});
    browser.cdp("Network.setCookie", &cookie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_of_every_page_goes_through_the_catalogue() {
    let name = "every_text_of_every_page_goes_through_the_catalogue";
    if !can_run(name) {
        return;
    }
    let mut found = Findings {
        data: Regex::new(DATA).expect("a pattern"),
        word: Regex::new("[A-Za-z]{2,}").expect("a pattern"),
        english: BTreeSet::new(),
        wide: BTreeSet::new(),
        pages: 0,
        narrow: false,
    };
    // Before anybody has claimed the server.
    let fresh = Appliance::start(Options::default()).await;
    let stranger = Browser::start().await;
    let (base, url) = (fresh.base(), fresh.setup_url());
    speak(&stranger, &base).await;
    let path = url.split_once("/setup").expect("a link").1;
    let unclaimed = vec![
        Visit::of("GET /setup", format!("/setup{path}")).called("set up"),
        Visit::of("GET /setup", "/setup").called("set up without the link"),
    ];
    found.visit(&stranger, &base, unclaimed).await;
    drop(fresh);

    let company = Hostile::harmless().await;
    let base = company.it.appliance.base();
    let outside = company.for_strangers().await;
    speak(&stranger, &base).await;
    found.visit(&stranger, &base, outside).await;
    drop(stranger);

    let browser = joined(company.overseer()).await;
    speak(&browser, &base).await;
    found
        .visit(&browser, &base, all(company.visits(), ELSEWHERE))
        .await;

    assert!(found.pages > 60, "{}", found.pages);
    let wrong: Vec<String> = found.english.into_iter().chain(found.wide).collect();
    assert!(
        wrong.is_empty(),
        "{} findings on {} pages\n{}\n",
        wrong.len(),
        found.pages,
        wrong.join("\n")
    );
}
