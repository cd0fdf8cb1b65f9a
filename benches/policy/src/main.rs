//! The policy engine beside two general engines, in one run: the same policies, the same changes, the same decisions.
//!
//! Each engine gets its policy compiled beforehand, and is timed from the list of paths to the set of obligations (ours
//! with its full trace as well). Medians and fastest of many rounds; no figure is asserted, the decisions are.
//!
//! - Cedar (`cedar-policy`): one `permit` a rule, with `like` patterns over `context.path`; one request a file, whose
//!   determining policies are the rules that match. Building the request belongs to the decision, since the path is
//!   its input. Parsing and validation of policies does not.
//! - Rego (`regorus`): the rules as data with prefixes and suffixes ready cut, so that it needs no globs: `startswith` and
//!   `endswith` are the cheapest it has. One evaluation a change, compiled for its entry point.
//!
//! Run with `cargo run --release` in this folder; `--own` measures our engine alone,
//! `--loop FILES` decides the small policy a million times under a profiler.

// The engine itself, without the server around it: `domain` names nothing outside itself.
#[path = "../../../src/domain/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only the policy engine is measured here")]
mod domain;

use cedar_policy::{
    Authorizer, Context, Entities, EntityUid, PolicyId, PolicySet, Request, RestrictedExpression,
};
use domain::facts::{FileChange, FileList, FileMode, FileStatus};
use domain::policy::{Asked, ControlFiles, Document, Outcome, ProjectDefaults, Question, evaluate};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A rule in the forms the three engines take.
struct Rule {
    name: String,
    skip: bool,
    globs: Vec<String>,
    /// For Cedar: patterns in which `*` crosses `/`.
    likes: Vec<String>,
    /// For Rego: what a path begins and ends with.
    ends: Vec<(String, String)>,
}

fn rule(name: &str, skip: bool) -> Rule {
    Rule {
        name: name.to_owned(),
        skip,
        globs: Vec::new(),
        likes: Vec::new(),
        ends: Vec::new(),
    }
}

impl Rule {
    /// Everything below a folder.
    fn below(mut self, folder: &str) -> Self {
        self.globs.push(format!("{folder}/**"));
        self.likes.push(format!("{folder}/*"));
        self.ends.push((format!("{folder}/"), String::new()));
        self
    }

    /// Files of an ending, at any depth.
    fn ending(mut self, ending: &str) -> Self {
        self.globs.push(format!("*.{ending}"));
        self.likes.push(format!("*.{ending}"));
        self.ends.push((String::new(), format!(".{ending}")));
        self
    }

    /// Files of an ending below a folder, with a wildcard in the middle.
    fn ending_below(mut self, folder: &str, ending: &str) -> Self {
        self.globs.push(format!("{folder}/*/**/*.{ending}"));
        self.likes.push(format!("{folder}/*/*.{ending}"));
        self.ends.push((format!("{folder}/"), format!(".{ending}")));
        self
    }
}

/// The seed: the three rules of a small company.
fn seed() -> Vec<Rule> {
    vec![
        rule("Production code", false).below("src").below("deploy"),
        rule("Configuration", false).below("config").ending("yml"),
        rule("Docs", true).below("docs").ending("md"),
    ]
}

/// A monorepo's policy: the seed, a rule for each service, some for kinds of files, some skips.
fn large() -> Vec<Rule> {
    let mut rules = seed();
    for at in 0..120 {
        rules.push(rule(&format!("Service {at}"), false).below(&format!("services/svc-{at}")));
    }
    for (at, ending) in [
        "tf", "sql", "proto", "rb", "cs", "kt", "swift", "ex", "scala", "lua",
    ]
    .iter()
    .enumerate()
    {
        rules.push(rule(&format!("Kind {at}"), false).ending(ending));
    }
    for at in 0..37 {
        rules.push(rule(&format!("Library {at}"), false).ending_below(&format!("libs/lib-{at}"), "rs"));
    }
    for at in 0..30 {
        rules.push(rule(&format!("Examples {at}"), true).below(&format!("examples/ex-{at}")));
    }
    rules
}

/// A change as a forge lists it: in the order of its paths.
fn change(files: usize) -> Vec<String> {
    let mut paths: Vec<String> = (0..files)
        .map(|n| match n % 10 {
            0..=4 => format!("services/svc-{}/src/module_{}/file_{n}.rs", n % 120, n % 17),
            5 => format!("libs/lib-{}/src/parse/file_{n}.rs", n % 37),
            6 => format!("examples/ex-{}/main_{n}.py", n % 30),
            7 => format!("docs/guide/chapter_{n}.md"),
            8 => format!("infra/network/zone_{n}.tf"),
            _ => format!("src/core/engine/part_{n}.rs"),
        })
        .collect();
    paths.sort();
    paths
}

/// What comes out of each engine: the rules that ask, and whether the default rule does.
type Decision = (BTreeSet<String>, bool);

struct Ours(Document);

impl Ours {
    fn new(rules: &[Rule]) -> Self {
        let rules: Vec<Value> = rules
            .iter()
            .map(|it| {
                let match_ = json!({ "branch": "main", "paths": it.globs });
                match it.skip {
                    true => json!({ "name": it.name, "match": match_, "action": "skip" }),
                    false => {
                        json!({ "name": it.name, "match": match_, "require": { "method": ["passkey"] } })
                    }
                }
            })
            .collect();
        let document = json!({ "rules": rules }).to_string();
        Ours(Document::parse(document.as_bytes()).expect("the policy is valid"))
    }

    fn decide(
        &self,
        files: &FileList,
        control_files: &ControlFiles,
        defaults: &ProjectDefaults,
    ) -> domain::policy::Evaluation {
        evaluate(&Question {
            policy: Some(&self.0),
            defaults,
            control_files,
            asked: Asked::Change {
                branch: "refs/heads/main",
                project: None,
                files,
                branch_patterns: None,
            },
        })
    }
}

fn facts(paths: &[String]) -> FileList {
    let regular = FileMode::Known(0o100_644);
    let files = paths.iter().map(|it| FileChange {
        status: FileStatus::Modified,
        old_path: Some(it.as_str().into()),
        new_path: Some(it.as_str().into()),
        old_mode: regular,
        new_mode: regular,
        lines: None,
    });
    FileList {
        files: files.collect(),
        incomplete: None,
    }
}

struct Cedar {
    policies: PolicySet,
    skips: BTreeSet<PolicyId>,
    entities: Entities,
    authorizer: Authorizer,
    who: EntityUid,
    what: EntityUid,
    which: EntityUid,
}

impl Cedar {
    fn new(rules: &[Rule]) -> Self {
        let mut policies = PolicySet::new();
        let mut skips = BTreeSet::new();
        for it in rules {
            let any: Vec<String> = it
                .likes
                .iter()
                .map(|it| format!("context.path like \"{it}\""))
                .collect();
            let text = format!(
                "permit(principal, action, resource) when {{ context.branch == \"main\" && ({}) }};",
                any.join(" || ")
            );
            let id = PolicyId::new(&it.name);
            let policy = cedar_policy::Policy::parse(Some(id.clone()), text).expect("the policy parses");
            policies.add(policy).expect("names are unique");
            if it.skip {
                skips.insert(id);
            }
        }
        let uid = |text: &str| EntityUid::from_str(text).expect("an id");
        Cedar {
            policies,
            skips,
            entities: Entities::empty(),
            authorizer: Authorizer::new(),
            who: uid("User::\"author\""),
            what: uid("Action::\"change\""),
            which: uid("Repo::\"app\""),
        }
    }

    fn decide(&self, paths: &[String]) -> Decision {
        let (mut required, mut default) = (BTreeSet::new(), false);
        for path in paths {
            let context = Context::from_pairs([
                (
                    "branch".to_owned(),
                    RestrictedExpression::new_string("main".to_owned()),
                ),
                ("path".to_owned(), RestrictedExpression::new_string(path.clone())),
            ])
            .expect("a context");
            let request = Request::new(
                self.who.clone(),
                self.what.clone(),
                self.which.clone(),
                context,
                None,
            )
            .expect("a request");
            let answer = self
                .authorizer
                .is_authorized(&request, &self.policies, &self.entities);
            let (mut asks, mut skips) = (false, false);
            for id in answer.diagnostics().reason() {
                if self.skips.contains(id) {
                    skips = true;
                } else {
                    asks = true;
                    let name: &str = id.as_ref();
                    if !required.contains(name) {
                        required.insert(name.to_owned());
                    }
                }
            }
            default |= !asks && !skips;
        }
        (required, default)
    }
}

const REGO: &str = r#"package approval
import rego.v1

matches(path, rule) if {
    some ends in rule.ends
    startswith(path, ends[0])
    endswith(path, ends[1])
}

required contains rule.name if {
    some path in input.paths
    some rule in data.rules.require
    matches(path, rule)
}

asked(path) if {
    some rule in data.rules.require
    matches(path, rule)
}

skipped(path) if {
    some rule in data.rules.skip
    matches(path, rule)
}

default unmatched := false

unmatched if {
    some path in input.paths
    not asked(path)
    not skipped(path)
}

decision := {"required": required, "default": unmatched}
"#;

struct Rego(regorus::Engine);

impl Rego {
    fn new(rules: &[Rule]) -> Self {
        let of = |skip: bool| -> Vec<Value> {
            let some = rules.iter().filter(|it| it.skip == skip);
            some.map(|it| json!({ "name": it.name, "ends": it.ends }))
                .collect()
        };
        let data = json!({ "rules": { "require": of(false), "skip": of(true) } });
        let mut engine = regorus::Engine::new();
        engine
            .add_policy("approval.rego".to_owned(), REGO.to_owned())
            .expect("the policy parses");
        engine.add_data_json(&data.to_string()).expect("the data reads");
        Rego(engine)
    }

    fn decide(&mut self, input: &regorus::Value) -> regorus::Value {
        self.0.set_input(input.clone());
        self.0
            .eval_rule("data.approval.decision".to_owned())
            .expect("it evaluates")
    }
}

fn rego_input(paths: &[String]) -> regorus::Value {
    regorus::Value::from_json_str(&json!({ "paths": paths }).to_string()).expect("the input reads")
}

fn rego_decision(value: &regorus::Value) -> Decision {
    let told: Value = serde_json::from_str(&value.to_json_str().expect("JSON")).expect("JSON");
    let names = told["required"].as_array().expect("a set").iter();
    let names = names.map(|it| it.as_str().expect("a name").to_owned()).collect();
    (names, told["default"].as_bool().expect("a flag"))
}

/// How long one decision takes. Other guests of the same machine make some rounds slow, and none fast.
#[derive(Clone, Copy)]
struct Time {
    median: Duration,
    fastest: Duration,
}

/// As many rounds as fit into two seconds, at least five.
fn timed(mut work: impl FnMut()) -> Time {
    work();
    let begun = Instant::now();
    let mut each = Vec::new();
    while each.len() < 5 || (begun.elapsed() < Duration::from_secs(2) && each.len() < 20_000) {
        let start = Instant::now();
        work();
        each.push(start.elapsed());
    }
    each.sort();
    Time {
        median: each[each.len() / 2],
        fastest: each[0],
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", shown(self.median), shown(self.fastest))
    }
}

fn shown(it: Duration) -> String {
    match it.as_nanos() {
        ns @ 0..10_000 => format!("{ns} ns"),
        ns @ 10_000..10_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        ns => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

fn main() {
    let (control_files, defaults) = (ControlFiles::default(), ProjectDefaults::default());
    if std::env::args().any(|it| it == "--own") {
        for rules in [seed(), large()] {
            let ours = Ours::new(&rules);
            for files in [10, 3_000] {
                let list = facts(&change(files));
                let own = timed(|| {
                    drop(black_box(ours.decide(
                        black_box(&list),
                        &control_files,
                        &defaults,
                    )))
                });
                println!("{} rules, {files} files: {own}", rules.len());
            }
        }
        return;
    }
    // For a profiler: one case over and over.
    if let Some(files) = std::env::args().skip_while(|it| it != "--loop").nth(1) {
        let (ours, list) = (Ours::new(&seed()), facts(&change(files.parse().expect("a number of files"))));
        for _ in 0..1_000_000 {
            drop(black_box(ours.decide(black_box(&list), &control_files, &defaults)));
        }
        return;
    }
    println!("Medians; in brackets the fastest round, of which the ratios are.\n");
    println!("| rules | files | SignedApproval | Cedar | ratio | Rego | ratio |");
    println!("|---|---|---|---|---|---|---|");
    for rules in [seed(), large()] {
        let (ours, cedar, mut rego) = (Ours::new(&rules), Cedar::new(&rules), Rego::new(&rules));
        for files in [10, 3_000] {
            let paths = change(files);
            let (list, input) = (facts(&paths), rego_input(&paths));
            let told = ours.decide(&list, &control_files, &defaults);
            assert_eq!(told.outcome, Outcome::Require);
            let names: BTreeSet<String> = told.obligations.iter().map(|it| it.rule.clone()).collect();
            let default = names.contains("default");
            let names: BTreeSet<String> = names.into_iter().filter(|it| it != "default").collect();
            assert_eq!(
                cedar.decide(&paths),
                (names.clone(), default),
                "Cedar decides otherwise"
            );
            assert_eq!(
                rego_decision(&rego.decide(&input)),
                (names, default),
                "Rego decides otherwise"
            );

            let own = timed(|| {
                drop(black_box(ours.decide(
                    black_box(&list),
                    &control_files,
                    &defaults,
                )))
            });
            let by_cedar = timed(|| drop(black_box(cedar.decide(black_box(&paths)))));
            let by_rego = timed(|| drop(black_box(rego.decide(black_box(&input)))));
            let ratio = |it: Time| format!("{:.0}×", it.fastest.as_secs_f64() / own.fastest.as_secs_f64());
            println!(
                "| {} | {files} | {} | {} | {} | {} | {} |",
                rules.len(),
                own,
                by_cedar,
                ratio(by_cedar),
                by_rego,
                ratio(by_rego)
            );
        }
    }
    linearity(&control_files, &defaults);
}

/// Patterns that make other matchers explode, against longer and longer paths whose segments begin and end as the patterns
/// do, so that no look at an end answers: the time stays in proportion.
fn linearity(control_files: &ControlFiles, defaults: &ProjectDefaults) {
    println!("\n| 200 patterns | path | time | per KiB |");
    println!("|---|---|---|---|");
    let kinds: [(&str, &str, fn(usize) -> String); 4] = [
        ("**/**/**/*…bx", "abx", |n| format!("**/**/**/*{n}bx")),
        ("**/**/**/*…b*x", "abx", |n| format!("**/**/**/*{n}b*x")),
        ("a*a*a*a*…*a*b", "aaab", |n| format!("a*a*a*a*{n}*a*b")),
        ("{a,aa}{a,aa}{a,aa}*…*c", "aaac", |n| {
            format!("{{a,aa}}{{a,aa}}{{a,aa}}*{n}*c")
        }),
    ];
    let bomb = |glob: fn(usize) -> String| {
        let globs: Vec<String> = (0..200).map(glob).collect();
        let rule = json!({ "name": "bomb", "match": { "paths": globs }, "require": { "method": ["passkey"] } });
        Ours(Document::parse(json!({ "rules": [rule] }).to_string().as_bytes()).expect("valid"))
    };
    let deep = |near: &str, kib: usize| format!("{near}/").repeat(kib * 1024 / (near.len() + 1));
    for (name, near, glob) in kinds {
        let ours = bomb(glob);
        for kib in [1, 2, 4] {
            for (what, path) in [
                ("deep", deep(near, kib) + "y"),
                ("flat", "a".repeat(kib * 1024 - near.len()) + near),
            ] {
                let list = facts(&[path]);
                let time = timed(|| drop(black_box(ours.decide(black_box(&list), control_files, defaults))));
                println!(
                    "| `{name}` | {what}, {kib} KiB | {time} | {} |",
                    shown(time.median / kib as u32)
                );
            }
        }
    }
    let (name, near, glob) = kinds[0];
    let ours = bomb(glob);
    let paths: Vec<String> = (0..3_000).map(|n| format!("{}{n}", deep(near, 4))).collect();
    let list = facts(&paths);
    let time = timed(|| drop(black_box(ours.decide(black_box(&list), control_files, defaults))));
    println!("| `{name}` | 3,000 paths, deep, 4 KiB each | {time} | |");
}
