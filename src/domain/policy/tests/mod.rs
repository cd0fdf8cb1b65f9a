//! Pure checks of the policy engine: one test for each numbered rule, the vectors, and properties that hold for any input.

mod lint;
mod properties;
mod rules;
mod table;

use crate::domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use crate::domain::ids::PersonId;
use crate::domain::policy::document::{
    Approver, DOCUMENT_BYTES_MAX, DefaultRule, Document, Method, RULES_MAX, RuleEffect,
};
use crate::domain::policy::evaluate::{
    Asked, BindBase, ControlFiles, Evaluation, Obligation, Outcome, ProjectDefaults, Question, Unattributed,
    combine, evaluate,
};
use crate::domain::policy::explain::{Doubt, Effect, stories};
use crate::domain::policy::fill::{Candidate, WhyNot, all_met, fill, may_fill, unsatisfiable};
use crate::domain::policy::fold::nfkc_casefold;
use crate::domain::policy::glob::{Effort, NamePattern, PathGlob, PathView};
use crate::domain::policy::lint::{LintFacts, lint};
use crate::domain::policy::question::Hypothesis;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/policy.json"));

/// The original product's example, as it stood.
const ORIGINAL: &str = r#"{
  "rules": [
    { "name": "Production deploys require passkey",
      "match": { "branch": "main", "paths": ["src/**", "deploy/**"] },
      "require": { "method": ["passkey", "biometric"], "quorum": 2, "ttl_max": 600 } },
    { "name": "Config changes need single approval",
      "match": { "branch": "main", "paths": ["config/**", ".env*", "*.yml"] },
      "require": { "method": ["passkey", "totp", "biometric"], "quorum": 1, "ttl_max": 1800 } },
    { "name": "Docs skip approval",
      "match": { "branch": "main", "paths": ["docs/**", "*.md"] },
      "action": "skip" }
  ]
}
"#;

// ---- small words for the tests ----

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

fn policy(value: &Value) -> Document {
    document(&value.to_string())
}

fn modified(path: &str) -> FileChange {
    FileChange {
        status: FileStatus::Modified,
        old_path: Some(path.into()),
        new_path: Some(path.into()),
        old_mode: FileMode::Known(0o100_644),
        new_mode: FileMode::Known(0o100_644),
        lines: None,
    }
}

fn listed(paths: &[&str]) -> FileList {
    FileList {
        files: paths.iter().map(|p| modified(p)).collect(),
        incomplete: None,
    }
}

fn judge(policy: Option<&Document>, branch: &str, files: &FileList) -> Evaluation {
    let asked = Asked::Change {
        branch,
        project: None,
        files,
        branch_patterns: None,
    };
    let (defaults, control_files) = (&ProjectDefaults::default(), &ControlFiles::default());
    evaluate(&Question {
        policy,
        defaults,
        control_files,
        asked,
    })
}

fn on_main(policy: &Document, paths: &[&str]) -> Evaluation {
    judge(Some(policy), "refs/heads/main", &listed(paths))
}

fn deployment(policy: Option<&Document>, environment: &str, ttl_seconds: Option<u64>) -> Evaluation {
    let asked = Asked::Action {
        environment: Some(environment),
        project: None,
        ttl_seconds,
    };
    let (defaults, control_files) = (&ProjectDefaults::default(), &ControlFiles::default());
    evaluate(&Question {
        policy,
        defaults,
        control_files,
        asked,
    })
}

fn names(obligations: &[Obligation]) -> Vec<&str> {
    obligations.iter().map(|o| o.rule.as_str()).collect()
}

fn person(n: u8) -> PersonId {
    PersonId::from_random([n; 16])
}

fn candidate(n: u8) -> Candidate {
    Candidate {
        person: person(n),
        emails: Vec::new(),
        method: Method::Passkey,
        device_bound: None,
        groups: BTreeSet::new(),
        author: false,
        contributor: false,
        barred: None,
    }
}

fn obligation(rule: &str, quorum: u32) -> Obligation {
    Obligation {
        rule: rule.to_owned(),
        methods: vec![Method::Passkey],
        quorum,
        ttl_max: None,
        approvers: Vec::new(),
        independent: false,
        allow_author: false,
        allow_contributor: false,
        match_code: false,
        device_bound: false,
        break_glass: false,
    }
}

// ---- the vectors ----

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .map(|v| v.as_str().expect("a list of strings").to_owned())
        .collect()
}

fn answer_to(vectors: &Value, case: &Value) -> Evaluation {
    let own = case["policy"]
        .as_str()
        .map(|name| policy(&vectors["documents"][name]));
    let defaults = match &case["defaults"] {
        Value::Null => ProjectDefaults::default(),
        given => serde_json::from_value(given.clone()).expect("project defaults"),
    };
    let mut change = case["change"].clone();
    if change.get("environment").is_some() {
        change["ttl_seconds"] = case["ttl_seconds"].clone();
        if let Some(members) = change.as_object_mut() {
            members.retain(|name, _| ["environment", "project", "ttl_seconds"].contains(&name.as_str()));
        }
    }
    let asked = Hypothesis::parse(change.to_string().as_bytes()).unwrap_or_else(|e| panic!("{e}: {case}"));
    asked.judged_by(own.as_ref(), &defaults, &ControlFiles::default())
}

fn includes(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(keys) => keys.iter().all(|(key, value)| whole[key] == *value),
        _ => whole["rule"] == *part,
    }
}

/// What a case says of an answer that the answer does not say; empty if it holds.
fn disagreement(case: &Value, answer: &Evaluation) -> String {
    let expect = &case["expect"];
    let told = serde_json::to_value(answer).expect("an evaluation serialises");
    let wanted = expect["obligations"].as_array().expect("obligations");
    let got = told["obligations"].as_array().expect("obligations");
    let mut wrong = String::new();
    if told["outcome"] != expect["outcome"] {
        wrong += " outcome";
    }
    if wanted.len() != got.len() || !wanted.iter().zip(got).all(|(w, g)| includes(g, w)) {
        wrong += " obligations";
    }
    if expect.get("ttl").is_some_and(|ttl| told["ttl"] != *ttl) {
        wrong += " ttl";
    }
    if expect
        .get("skipped_by")
        .is_some_and(|names| told["skipped_by"] != *names)
    {
        wrong += " skipped_by";
    }
    if let Some(rules) = expect.get("break_glass")
        && names(&answer.break_glass) != strings(rules)
    {
        wrong += " break_glass";
    }
    if let Some(doubts) = expect.get("doubts") {
        let doubts: BTreeSet<String> = strings(doubts).into_iter().collect();
        let listed = answer.trace.iter().flat_map(|e| &e.doubts);
        let told = listed.map(|d| {
            serde_json::to_value(d)
                .expect("a doubt")
                .as_str()
                .expect("text")
                .to_owned()
        });
        if doubts != told.collect::<BTreeSet<_>>() {
            wrong += " doubts";
        }
    }
    wrong
}

fn check_cases(vectors: &Value, chosen: impl Fn(u64) -> bool) -> usize {
    let cases = vectors["cases"].as_array().expect("cases");
    let chosen: Vec<&Value> = cases
        .iter()
        .filter(|c| chosen(c["rule"].as_u64().expect("a rule number")))
        .collect();
    let mut failures = Vec::new();
    for case in &chosen {
        let answer = answer_to(vectors, case);
        let wrong = disagreement(case, &answer);
        if !wrong.is_empty() {
            failures.push(format!("{case}\n  wrong:{wrong}\n  {answer:?}"));
        }
        let again: Evaluation =
            serde_json::from_value(serde_json::to_value(&answer).expect("out")).expect("back");
        assert_eq!(again, answer);
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        chosen.len(),
        failures.join("\n")
    );
    chosen.len()
}

#[test]
fn the_cases_table_holds() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(check_cases(&vectors, |rule| rule == 0), 13);
}

#[test]
fn the_vectors_hold() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    assert!(check_cases(&vectors, |rule| rule > 0) > 200);
}

#[test]
fn the_vectors_of_refused_documents_hold() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for case in vectors["refused"].as_array().unwrap() {
        let errors = match Document::parse(case["document"].as_str().unwrap().as_bytes()) {
            Ok(_) => panic!("accepted: {case}"),
            Err(errors) => errors,
        };
        let (line, reason) = (case["line"].as_u64().unwrap(), case["reason"].as_str().unwrap());
        let told = errors
            .iter()
            .any(|e| u64::from(e.line) == line && e.reason.contains(reason));
        assert!(told, "{case}\n{errors:?}");
    }
}

#[test]
fn the_vectors_of_globs_hold() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut effort = Effort::default();
    for case in vectors["globs"].as_array().unwrap() {
        let glob = PathGlob::new(case["glob"].as_str().unwrap()).unwrap_or_else(|e| panic!("{case}: {e}"));
        let view = PathView::new(&case["path"].as_str().unwrap().into());
        assert_eq!(
            glob.demands(&view, &mut effort),
            case["demands"],
            "demands: {case}"
        );
        assert_eq!(glob.grants(&view, &mut effort), case["grants"], "grants: {case}");
    }
    for case in vectors["bad_globs"].as_array().unwrap() {
        let bad = PathGlob::new(case["glob"].as_str().unwrap())
            .expect_err(&case.to_string())
            .to_string();
        assert!(bad.contains(case["reason"].as_str().unwrap()), "{case}: {bad}");
    }
    for case in vectors["branches"].as_array().unwrap() {
        let pattern = NamePattern::new(case["pattern"].as_str().unwrap()).unwrap();
        assert_eq!(
            pattern.matches_branch(case["branch"].as_str().unwrap()),
            case["matches"],
            "{case}"
        );
    }
    for text in strings(&vectors["bad_branches"]) {
        assert!(NamePattern::new(&text).is_err(), "{text}");
    }
}

#[test]
fn the_vectors_of_who_fills_what_hold() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for case in vectors["fills"].as_array().unwrap() {
        let obligations: Vec<Obligation> = serde_json::from_value(case["obligations"].clone()).unwrap();
        let told = case["people"].as_array().unwrap().iter().map(|p| Candidate {
            emails: strings(&p["emails"]),
            method: serde_json::from_value(p["method"].clone()).unwrap(),
            groups: strings(&p["groups"]).into_iter().collect(),
            author: p["author"] == true,
            contributor: p["contributor"] == true,
            barred: p["barred"].as_str().map(str::to_owned),
            ..candidate(u8::try_from(p["person"].as_u64().unwrap()).unwrap())
        });
        let people: Vec<Candidate> = told.collect();
        let filled = fill(&obligations, &people);
        let counts: Vec<usize> = filled.iter().map(|f| f.persons.len()).collect();
        let wanted: Vec<usize> = serde_json::from_value(case["counts"].clone()).unwrap();
        assert_eq!(
            (counts, all_met(&filled)),
            (wanted, case["met"] == true),
            "{case}"
        );
        for story in stories(&obligations, &filled, &people) {
            let told: BTreeSet<&PersonId> = story
                .counted
                .iter()
                .chain(story.not_counted.iter().map(|(p, _)| p))
                .collect();
            let there: BTreeSet<&PersonId> = people.iter().map(|p| &p.person).collect();
            assert_eq!(told, there, "every decision is told of once: {case}");
        }
    }
}
