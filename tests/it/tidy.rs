//! Checks of the code's shape that the compiler does not make: who may name whom, what every file begins with, and that
//! documentation and code name the same things.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use signedapproval::config::{KEYS, Kind, RELOADED};
use signedapproval::domain::policy::Document;
use std::collections::BTreeSet;

/// Every top-level module and what it may name, innermost first.
/// A row may only mention rows above it, so the table itself cannot hold a cycle.
const MODULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("tlog", &[]),
    ("clock", &["domain"]),
    ("signing", &[]),
    ("evidence", &["domain", "tlog"]),
    ("config", &["domain"]),
    ("outbound", &["clock"]),
    ("identity", &["domain", "clock", "evidence"]),
    ("listen", &["domain", "clock"]),
    ("store", &["domain", "tlog", "evidence"]),
    ("audit", &["domain", "tlog", "evidence", "store"]),
    ("forge", &["domain", "config", "outbound"]),
    ("sink", &["domain", "tlog", "outbound"]),
    ("texts", &["domain"]),
    ("notify", &["domain", "outbound"]),
    (
        "engine",
        &["domain", "tlog", "evidence", "clock", "signing", "store"],
    ),
    (
        "effects",
        &[
            "domain", "evidence", "clock", "config", "outbound", "store", "forge", "sink", "engine", "notify",
        ],
    ),
    (
        "web",
        &[
            "domain", "tlog", "evidence", "clock", "config", "identity", "listen", "store", "audit",
            "engine", "forge", "sink", "texts", "outbound", "notify",
        ],
    ),
    ("cli", &["*"]),
];

/// Outside names with one home each.
const HOMES: &[(&str, &[&str])] = &[
    ("redb::", &["store"]),
    // `serve` builds the server that `web` fills.
    ("actix_web::", &["web", "cli"]),
    ("reqwest::", &["outbound"]),
    ("webauthn_rs::", &["identity"]),
    ("lettre::", &["notify"]),
    ("SystemTime::now", &["clock"]),
];

/// Modules that compute and never touch the world.
const PURE: &[&str] = &["domain", "tlog", "evidence"];
const WORLD: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "tokio::",
    "rand::",
    "getrandom::",
    "tracing::",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory, with its path from the root and its text.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                found.push((
                    path.strip_prefix(root()).expect("below the root").to_path_buf(),
                    text,
                ));
            }
        }
    }
    assert!(!found.is_empty(), "no source below {below}");
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    let in_a_folder = path.components().any(|it| it.as_os_str() == "tests");
    in_a_folder || path.ends_with("tests.rs")
}

fn assert_tidy(untidy: &[String]) {
    assert!(untidy.is_empty(), "\n{}\n", untidy.join("\n"));
}

/// The line without what stands behind `//`.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn modules_only_look_down() {
    let mut untidy = Vec::new();
    for (idx, (module, allowed)) in MODULES.iter().enumerate() {
        for it in allowed.iter().filter(|it| **it != "*") {
            if !MODULES[..idx].iter().any(|(above, _)| above == it) {
                untidy.push(format!("table: `{module}` names `{it}`, which is not above it"));
            }
        }
    }
    for (path, text) in sources("src") {
        let inside = path.strip_prefix("src").expect("in src");
        let module = inside
            .iter()
            .next()
            .and_then(|it| it.to_str())
            .expect("a name")
            .trim_end_matches(".rs");
        // `pkcs11` is a program of its own, which names nothing of ours.
        if ["lib", "main", "pkcs11"].contains(&module) {
            continue;
        }
        let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
            untidy.push(format!("{}: add `{module}` to the table", path.display()));
            continue;
        };
        for (idx, line) in text.lines().enumerate() {
            let code = code(line);
            let at = format!("{}:{}", path.display(), idx + 1);
            for rest in code.split("crate::").skip(1) {
                let named = rest
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or_default();
                if named.is_empty() {
                    untidy.push(format!("{at}: name one module in a `use crate::`"));
                } else if named != module && !allowed.contains(&named) && !allowed.contains(&"*") {
                    untidy.push(format!("{at}: `{module}` may not name `{named}`"));
                }
            }
            // In `mod.rs`, `super` is the crate root: a way around the table.
            if path.ends_with("mod.rs") && code.contains("super::") {
                untidy.push(format!("{at}: write `crate::..`, not `super::..`"));
            }
            if is_test(&path) {
                continue;
            }
            for name in WORLD
                .iter()
                .filter(|it| PURE.contains(&module) && code.contains(**it))
            {
                untidy.push(format!("{at}: `{module}` is pure, `{name}` is not"));
            }
            for (name, homes) in HOMES {
                if code.contains(name) && !homes.contains(&module) {
                    untidy.push(format!("{at}: `{name}` belongs in `{}`", homes.join("`, `")));
                }
            }
        }
    }
    assert_tidy(&untidy);
}

#[test]
fn every_file_says_what_it_is() {
    let mut untidy = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let first = text.lines().next().unwrap_or_default();
        let is_entry = path == Path::new("src/main.rs");
        if !is_entry && !first.starts_with("//! ") {
            untidy.push(format!(
                "{}: begins with {first:?}, not with `//!`",
                path.display()
            ));
        }
        let stem = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
        let drawers = [
            "utils", "util", "helpers", "helper", "common", "misc", "shared", "stuff",
        ];
        let folder = path
            .parent()
            .and_then(|it| it.file_name())
            .and_then(|it| it.to_str())
            .unwrap_or_default();
        if drawers.contains(&stem) || drawers.contains(&folder) {
            untidy.push(format!("{}: a drawer, not a name", path.display()));
        }
    }
    assert_tidy(&untidy);
}

#[test]
fn nothing_is_left_to_do() {
    let mut untidy = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for (idx, line) in text.lines().enumerate() {
            for word in ["todo!", "dbg!", "unimplemented!", "FIXME", "XXX", "TODO"] {
                if line.contains(word) {
                    untidy.push(format!("{}:{}: {word}", path.display(), idx + 1));
                }
            }
        }
    }
    assert_tidy(&untidy);
}

#[test]
fn the_product_never_unwraps() {
    let mut untidy = Vec::new();
    for (path, text) in sources("src") {
        if is_test(&path) {
            continue;
        }
        for (idx, line) in text.lines().enumerate() {
            // What follows in the file is a module of tests.
            if line.starts_with("#[cfg(test)]")
                && text.lines().nth(idx + 1).is_some_and(|it| it.ends_with('{'))
            {
                break;
            }
            if code(line).contains(".unwrap()") {
                untidy.push(format!(
                    "{}:{}: say in `expect` why it can't fail",
                    path.display(),
                    idx + 1
                ));
            }
        }
    }
    assert_tidy(&untidy);
}

/// A page of the documentation.
fn page(name: &str) -> String {
    let path = root().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Each setting's section says what the code says: type, default, variable, and whether it is read anew.
#[test]
fn every_setting_is_documented() {
    let page = page("configure.md");
    let mut untidy = Vec::new();
    let mut documented: BTreeSet<String> = BTreeSet::new();
    for section in page.split("\n## `").skip(1) {
        let (name, text) = section.split_once('`').expect("a name");
        documented.insert(name.to_owned());
        let Some(key) = KEYS.iter().find(|it| it.name == name) else {
            untidy.push(format!("docs/configure.md: there is no setting `{name}`"));
            continue;
        };
        let field = |label: &str| {
            let line = text
                .lines()
                .find_map(|it| it.strip_prefix(&format!("- {label}: ")));
            line.unwrap_or("missing").to_owned()
        };
        let kind = match key.kind {
            Kind::Text => "text",
            Kind::Number => "number",
            Kind::List => "list",
            Kind::Secret => "secret",
        };
        let default = match key.default {
            "" => "none".to_owned(),
            it => format!("`{it}`"),
        };
        let variable = format!("`SIGNEDAPPROVAL_{}`", name.replace('.', "__").to_uppercase());
        let reload = if RELOADED.contains(&name) {
            "SIGHUP"
        } else {
            "missing"
        };
        for (label, wanted) in [
            ("Type", kind),
            ("Default", default.as_str()),
            ("Environment", variable.as_str()),
            ("Reload", reload),
        ] {
            if field(label) != wanted {
                let found = field(label);
                untidy.push(format!(
                    "docs/configure.md: `{name}`: {label}: {found}, in the code: {wanted}"
                ));
            }
        }
    }
    for key in KEYS.iter().filter(|it| !documented.contains(it.name)) {
        untidy.push(format!("docs/configure.md: `{}` is missing", key.name));
    }
    for name in RELOADED
        .iter()
        .filter(|it| !KEYS.iter().any(|key| key.name == **it))
    {
        untidy.push(format!("RELOADED: there is no setting `{name}`"));
    }
    assert_tidy(&untidy);
}

/// The paths that `src/web/routes.rs` serves to everybody.
fn routes() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/web/routes.rs")).expect("the routes");
    let mut found = Vec::new();
    for piece in text.split('"').skip(1).step_by(2) {
        if piece.starts_with('/') && !piece.contains(' ') {
            found.push(piece.to_owned());
        }
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

/// A path without the names of its parameters.
fn nameless(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '{' => {
                inside = true;
                out.push_str("{}");
            }
            '}' => inside = false,
            _ if inside => {}
            _ => out.push(c),
        }
    }
    out
}

#[test]
fn every_route_of_the_api_is_documented() {
    let page = nameless(&page("api.md"));
    let words: Vec<&str> = page
        .split(|c: char| c.is_whitespace() || "`|()<>,;\"'".contains(c))
        .map(|it| {
            it.split('?')
                .next()
                .unwrap_or_default()
                .trim_end_matches(['.', ':'])
        })
        .collect();
    let missing: Vec<String> = routes()
        .into_iter()
        .filter(|it| {
            ["/api/", "/hooks/", "/.well-known/", "/healthz", "/readyz"]
                .iter()
                .any(|p| it.starts_with(p))
        })
        .filter(|it| !words.contains(&nameless(it).as_str()))
        .map(|it| format!("docs/api.md: {it} is missing"))
        .collect();
    assert_tidy(&missing);
}

/// The names of all members that a JSON schema knows.
fn members(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            if let Some(properties) = fields.get("properties").and_then(|it| it.as_object()) {
                found.extend(properties.keys().cloned());
            }
            fields.values().for_each(|it| members(it, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|it| members(it, found)),
        _ => {}
    }
}

#[test]
fn the_page_about_policies_has_a_valid_example_and_every_key() {
    let page = page("policies.md");
    let example = page.split("```json").nth(1).and_then(|it| it.split("```").next());
    Document::parse(example.expect("an example").as_bytes()).expect("it is valid");
    let schema = fs::read(root().join("assets/static/policy.schema.json")).expect("the schema");
    let mut keys = BTreeSet::new();
    members(&serde_json::from_slice(&schema).expect("JSON"), &mut keys);
    let missing: Vec<String> = keys
        .iter()
        .filter(|it| !page.contains(&format!("{it}`")))
        .map(|it| format!("docs/policies.md: {it} is missing"))
        .collect();
    assert!(keys.contains("break_glass") && keys.len() > 10, "{keys:?}");
    assert_tidy(&missing);
}

#[test]
fn every_problem_type_is_documented() {
    let page = page("problems.md");
    let catalogue = signedapproval::web::problem::catalogue();
    assert!(catalogue.len() > 20);
    let missing: Vec<String> = catalogue
        .iter()
        .filter(|(slug, ..)| {
            !page.contains(&format!("`{slug}`")) && !page.contains(&format!("/problems/{slug}"))
        })
        .map(|(slug, ..)| format!("docs/problems.md: {slug} is missing"))
        .collect();
    assert_tidy(&missing);
    for (slug, title, paragraph) in catalogue {
        assert!(!title.is_empty() && paragraph.len() > 20, "{slug} says nothing");
    }
}

#[test]
fn the_contract_of_the_original_workflow_is_served() {
    let routes = routes();
    for path in ["/api/v1/approvals/request", "/api/v1/approvals/{id}"] {
        assert!(routes.iter().any(|it| it == path), "{path}");
    }
}

/// Whether `file::test` names a test of this suite.
fn is_a_test(name: &str) -> bool {
    let Some((file, test)) = name.split_once("::") else {
        return false;
    };
    let text = fs::read_to_string(root().join(format!("tests/it/{file}.rs"))).unwrap_or_default();
    text.contains(&format!("fn {test}()"))
}

/// Each attack on the ceremony has its number, and a test that bears it; each test with a number stands in the table.
#[test]
fn every_attack_on_the_ceremony_names_a_test_that_tries_it() {
    const ATTACKS: usize = 21;
    let page = page("security.md");
    let from = page.find("## Attacks on the ceremony").expect("the section");
    let section = page[from + 3..].split("\n## ").next().unwrap_or_default();
    let mut untidy = Vec::new();
    let mut numbers = BTreeSet::new();
    let mut named = BTreeSet::new();
    for row in section.lines().filter(|it| it.starts_with("| C")) {
        let id = row.split('|').nth(1).unwrap_or_default().trim().to_lowercase();
        let tests: Vec<&str> = row.split('`').filter(|it| it.contains("::")).collect();
        let its_own = tests.iter().any(|it| {
            it.split("::")
                .nth(1)
                .is_some_and(|it| it.starts_with(&format!("{id}_")))
        });
        if !its_own {
            untidy.push(format!("docs/security.md: {id} names no test of its number"));
        }
        for test in tests.iter().filter(|it| !is_a_test(it)) {
            untidy.push(format!("docs/security.md: there is no test {test}"));
        }
        named.extend(tests.iter().map(|it| (*it).to_owned()));
        numbers.insert(id);
    }
    let wanted: BTreeSet<String> = (1..=ATTACKS).map(|it| format!("c{it}")).collect();
    assert_eq!(numbers, wanted, "docs/security.md: every number once");
    for file in ["threats_ceremony", "threats_codes"] {
        let path = root().join(format!("tests/it/{file}.rs"));
        let text = fs::read_to_string(&path).expect("the tests");
        for name in text.lines().filter_map(|it| it.strip_prefix("async fn c")) {
            let name = format!("{file}::c{}", name.split('(').next().unwrap_or_default());
            let numbered = name
                .split("::c")
                .nth(1)
                .is_some_and(|it| it.starts_with(char::is_numeric));
            if numbered && !named.contains(&name) {
                untidy.push(format!("docs/security.md: {name} is missing"));
            }
        }
    }
    assert_tidy(&untidy);
}

/// What the table of the ways around the gate promises is shown by tests that exist.
#[test]
fn every_way_around_the_gate_names_a_test_that_exists() {
    let page = page("forges/gitlab.md");
    let from = page.find("## Who can still go around it").expect("the section");
    let section = page[from..].split("\n## ").next().unwrap_or_default();
    let named: BTreeSet<&str> = section.split('`').filter(|it| it.contains("::")).collect();
    assert!(named.len() >= 15, "the table is there: {named:?}");
    let mut missing = Vec::new();
    for name in named {
        if !is_a_test(name) {
            missing.push(format!("docs/forges/gitlab.md: there is no test {name}"));
        }
    }
    assert_tidy(&missing);
}
