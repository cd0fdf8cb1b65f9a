//! A page held against WCAG 2.2 AA by axe-core, light and dark, at 320 pixels and at 1280, and at 400 percent.

use std::env;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::browser::Browser;

/// axe's own rules of these levels, and the one of WCAG 2.2 that it leaves off by itself.
const RUN: &str = r#"
    const found = await axe.run(document, {
        runOnly: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] },
        rules: { "target-size": { enabled: true } },
        resultTypes: ["violations"],
    });
    return found.violations.map((it) => ({
        id: it.id, help: it.help, nodes: it.nodes.slice(0, 4).map((node) => node.html.slice(0, 200)),
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
                // Of what is taller than the window, the part that is in it.
                const [above, below] = [Math.max(box.top, 0), Math.min(box.bottom, innerHeight)];
                const top = document.elementFromPoint(box.left + box.width * x, above + (below - above) * y);
                return top && (shown.contains(top) || it.contains(top));
            }));
        if (!seen) {
            const { left, right, top, bottom } = shown.getBoundingClientRect();
            const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
            const at = [left, right, top, bottom].map(Math.round);
            covered.push(`${it.outerHTML.slice(0, 120)} at ${at}, under ${over?.outerHTML.slice(0, 80)}`);
        }
    }
    return covered;
"#;

/// How far it scrolls sideways, and what sticks out the most.
const SIDEWAYS: &str = r#"
    const { scrollWidth, clientWidth } = document.documentElement;
    const held = (it) => { for (let at = it.parentElement; at; at = at.parentElement)
        if (["auto", "scroll", "hidden"].includes(getComputedStyle(at).overflowX)) return true; return false; };
    const out = scrollWidth > clientWidth
        ? [...document.body.querySelectorAll("*")].filter((it) => !held(it) && it.getBoundingClientRect().right > clientWidth + 1) : [];
    return [scrollWidth - clientWidth, out.slice(-2).map((it) => it.outerHTML.slice(0, 160)).join(" | ")];
"#;

/// axe-core's text.
pub struct Axe(String);

impl Axe {
    /// Says so where npm's axe-core is not installed.
    pub fn installed(test: &str) -> Option<Axe> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm/node_modules/axe-core/axe.min.js");
        let text = fs::read_to_string(file).ok();
        if text.is_none() {
            eprintln!("SKIPPED {test}: what axe-core says, as npm's axe-core is not installed");
        }
        text.map(Axe)
    }

    /// What is wrong with the page that is open.
    pub async fn check(&self, browser: &Browser, page: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        browser.script(&self.0, &[]).await;
        // Each theme and each width once; all four pairs when asked, which found nothing more.
        let pairs = [(1280, "light"), (320, "dark"), (1280, "dark"), (320, "light")];
        let all = env::var_os("SIGNEDAPPROVAL_TEST_ALL_SCREENS").is_some();
        for (width, scheme) in pairs.into_iter().take(if all { 4 } else { 2 }) {
            browser.device(width, 844, 1, width < 500).await;
            let media = [
                ("prefers-color-scheme", scheme),
                ("prefers-reduced-motion", "reduce"),
            ];
            browser.media(&media).await;
            let found: Value = browser.script_async(RUN, &[]).await;
            for it in found.as_array().expect("a list") {
                wrong.push(format!("{page} at {width}, {scheme}: {it}"));
            }
            wrong.extend(sideways(browser, &format!("{page} at {width}")).await);
        }
        // At 400 percent a window of 1280 by 1024 is one of 320 by 256 (WCAG 1.4.10): all is there, nothing scrolls
        // sideways, and what has the focus is not covered.
        browser.device(320, 256, 4, false).await;
        wrong.extend(sideways(browser, &format!("{page} at 400 %")).await);
        let covered = browser.script(COVERED, &[]).await;
        for it in covered.as_array().expect("a list") {
            wrong.push(format!("{page} at 400 %: the focus is covered on {it}"));
        }
        browser.device(1280, 900, 1, false).await;
        wrong
    }
}

async fn sideways(browser: &Browser, page: &str) -> Option<String> {
    let found = browser.script(SIDEWAYS, &[]).await;
    let by = found[0].as_i64().expect("a number");
    (by > 0).then(|| format!("{page} scrolls sideways by {by}: {}", found[1]))
}
