//! Every page, from the router's own table: no page is forgotten. What has no parameter is opened as it stands; what has one,
//! and what answers to a form, is named by a visit, or the test that looks at all of them fails.

mod accessible;
mod every_page;
mod forced;
mod forms;
mod from_nothing;
mod headers;
mod hostile;
mod keyboard;
mod languages;
mod outside;
mod printed;
mod translated;
mod tried;
mod unwell;
mod weight;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::browser::Browser;

/// `GET /path` and `POST /path` of everything that `src/web/routes.rs` lets the pages answer.
pub fn routes() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/routes.rs");
    let text = fs::read_to_string(file).expect("the routes");
    let (_, table) = text.split_once("fn table()").expect("the table of routes");
    let (table, _) = table.split_once("\n}\n").expect("its end");
    let mut found = BTreeSet::new();
    // Each path is a literal of its own; up to the next one stand its methods.
    let mut pieces = table.split('"').skip(1);
    while let (Some(path), Some(methods)) = (pieces.next(), pieces.next()) {
        for (word, method) in [("get(pages::", "GET"), ("post(pages::", "POST")] {
            if methods.contains(word) {
                found.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(found.len() > 40, "{found:#?}");
    found
}

/// One look at a page.
pub struct Visit {
    /// The route it is a look at, as [`routes`] names it; empty for what has none, such as an error page.
    pub route: String,
    /// Its name in the test's words.
    pub name: String,
    /// Its address behind the origin.
    pub path: String,
    /// What is done on it before it is looked at: a script, and what is true once it is done.
    pub then: Option<(String, String)>,
}

impl Visit {
    pub fn of(route: &str, path: impl Into<String>) -> Visit {
        let path = path.into();
        Visit {
            route: route.to_owned(),
            name: path.chars().take(60).collect(),
            path,
            then: None,
        }
    }

    /// Another name, where the path says too little.
    pub fn called(mut self, name: &str) -> Visit {
        self.name = name.to_owned();
        self
    }

    /// With something done on it first.
    pub fn then(mut self, script: &str, done: &str) -> Visit {
        self.then = Some((script.to_owned(), done.to_owned()));
        self
    }
}

/// All visits: these, and every page that needs no parameter.
pub fn all(named: Vec<Visit>, elsewhere: &[&str]) -> Vec<Visit> {
    let mut left: BTreeSet<String> = routes();
    for it in &named {
        assert!(
            it.route.is_empty() || routes().contains(&it.route),
            "there is no route {}",
            it.route
        );
        left.remove(&it.route);
    }
    for it in elsewhere {
        assert!(left.remove(*it), "{it} is visited twice, or is no route");
    }
    let mut visits = named;
    for route in left {
        let plain = route.strip_prefix("GET ").filter(|it| !it.contains('{'));
        let path =
            plain.unwrap_or_else(|| panic!("{route} is a page that nobody visits: name a visit of it"));
        visits.push(Visit::of(&route, path));
    }
    visits
}

/// Opens it, and does what has to be done there.
pub async fn open(browser: &Browser, base: &str, visit: &Visit) {
    browser.goto(&format!("{base}{}", visit.path)).await;
    // A report that takes more than a moment replaces the page that says so.
    browser
        .wait_until("document.readyState === 'complete' && !document.querySelector('[data-making]')")
        .await;
    if let Some((script, done)) = &visit.then {
        browser.script(script, &[]).await;
        browser.wait_until(done).await;
    }
    // What is folded away is part of the page.
    browser
        .script(
            "document.querySelectorAll('details').forEach((it) => (it.open = true))",
            &[],
        )
        .await;
}

/// Presses a button that sends a form, and waits for the page that answers.
pub async fn press(browser: &Browser, css: &str) {
    browser.script("document.body.dataset.before = ''", &[]).await;
    browser.click(css).await;
    browser
        .wait_until("document.body.dataset.before === undefined && document.readyState === 'complete'")
        .await;
}

/// Texts of a list of texts.
pub fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().expect("a list").iter();
    texts.map(|it| it.as_str().expect("text").to_owned()).collect()
}
