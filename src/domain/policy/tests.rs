//! Pure checks of the policy engine: one test for each numbered rule, the vectors, and properties that hold for any input.

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
use proptest::prelude::*;
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

// ---- the numbered rules ----

#[test]
fn the_original_document_loads_as_it_is() {
    let policy = document(ORIGINAL);
    assert_eq!(policy.rules().len(), 3);
    assert_eq!(policy.bytes(), ORIGINAL.as_bytes());
    assert_eq!(
        policy.sha256(),
        crate::domain::ids::Digest::of(ORIGINAL.as_bytes())
    );
    let RuleEffect::Require(first) = &policy.rules()[0].effect else {
        panic!("the first rule requires")
    };
    assert_eq!((first.quorum, first.ttl_max), (2, Some(600)));
    assert_eq!(policy.rules()[2].effect, RuleEffect::Skip);
    assert_eq!(policy.rules()[1].line, 6);
    assert!(policy.default_rule().is_none());
}

#[test]
fn the_smallest_documents_are_accepted() {
    assert!(document(r#"{"rules":[]}"#).rules().is_empty());
    assert_eq!(
        document(r#"{"default":"block","rules":[]}"#).default_rule(),
        Some(&DefaultRule::Block)
    );
    let text = r#"{"rules":[{"name":"é","match":{"exclude_paths":[]},"require":{"method":["totp","totp"],
        "approvers":["group:a b","person:a@b.c"],"ttl_max":2592000}}]}"#;
    let policy = document(text);
    let RuleEffect::Require(require) = &policy.rules()[0].effect else {
        panic!("it requires")
    };
    assert_eq!((require.quorum, &require.methods[..]), (1, &[Method::Totp][..]));
    let approvers = [
        Approver::Group("a b".to_owned()),
        Approver::Person("a@b.c".to_owned()),
    ];
    assert_eq!(require.approvers, approvers);
    assert_eq!(
        policy
            .approvers()
            .map(|(rule, line, _)| (rule, line))
            .collect::<Vec<_>>(),
        [("é", 1); 2]
    );
}

#[test]
fn rule_1_all_matching_rules_hold_whatever_their_order() {
    let rules = json!([
        {"name": "a", "match": {"branch": "main", "paths": ["src/**"]}, "require": {"method": ["passkey"]}},
        {"name": "b", "match": {"branch": "ma*", "paths": ["*.rs"]}, "require": {"method": ["totp"], "quorum": 2}},
    ]);
    let forth = on_main(&policy(&json!({"rules": [rules[0], rules[1]]})), &["src/x.rs"]);
    let back = on_main(&policy(&json!({"rules": [rules[1], rules[0]]})), &["src/x.rs"]);
    assert_eq!(
        (names(&forth.obligations), names(&back.obligations)),
        (vec!["a", "b"], vec!["b", "a"])
    );
}

#[test]
fn rule_2_require_beats_skip_and_nothing_means_the_default() {
    let policy = document(ORIGINAL);
    assert_eq!(
        names(&on_main(&policy, &["src/a.md"]).obligations),
        ["Production deploys require passkey"]
    );
    assert_eq!(on_main(&policy, &["a.md"]).outcome, Outcome::Skip);
    assert_eq!(names(&on_main(&policy, &["a.c"]).obligations), ["default"]);
}

#[test]
fn rule_3_a_skip_needs_every_path_a_complete_list_and_some_file() {
    let policy = document(ORIGINAL);
    assert_eq!(
        on_main(&policy, &["docs/a", "docs/b"]).skipped_by,
        ["Docs skip approval"]
    );
    assert_eq!(on_main(&policy, &["docs/a", "b"]).outcome, Outcome::Require);
    assert_eq!(on_main(&policy, &[]).outcome, Outcome::Require);
    let short = FileList {
        incomplete: Some("page 2 failed".to_owned()),
        ..listed(&["docs/a"])
    };
    assert_eq!(
        judge(Some(&policy), "refs/heads/main", &short).outcome,
        Outcome::Require
    );
}

#[test]
fn rule_4_control_files_are_never_skipped_and_settings_may_add_some() {
    let policy = policy(&json!({"rules": [{"name": "s", "match": {"branch": "main"}, "action": "skip"}]}));
    let files = listed(&["build/Makefile"]);
    let control_files = &ControlFiles::new(["Makefile"]).unwrap();
    let asked = Asked::Change {
        branch: "refs/heads/main",
        project: None,
        files: &files,
        branch_patterns: None,
    };
    let defaults = &ProjectDefaults::default();
    let answer = evaluate(&Question {
        policy: Some(&policy),
        defaults,
        control_files,
        asked,
    });
    assert_eq!(names(&answer.obligations), ["default"]);
    assert_eq!(answer.trace[0].doubts, [Doubt::ControlFile]);
    assert_eq!(on_main(&policy, &["build/Makefile"]).outcome, Outcome::Skip);
    assert!(ControlFiles::new(["a**"]).is_err());
}

#[test]
fn rule_5_obligations_are_anded_and_independent_means_other_people() {
    let apart = Obligation {
        independent: true,
        ..obligation("b", 1)
    };
    let both = [obligation("a", 1), apart];
    assert!(!all_met(&fill(&both, &[candidate(1)])));
    assert!(all_met(&fill(&both, &[candidate(1), candidate(2)])));
    let few = unsatisfiable(&both, &[candidate(1)]);
    assert_eq!(few.iter().map(|u| u.rule.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(unsatisfiable(&both, &[candidate(1), candidate(2)]).is_empty());
}

#[test]
fn rule_6_quorum_counts_persons_and_too_few_people_are_told_at_once() {
    let two = [obligation("a", 2)];
    assert_eq!(fill(&two, &[candidate(1), candidate(1)])[0].persons, [person(1)]);
    let report = unsatisfiable(&two, &[candidate(1), candidate(1)]);
    assert_eq!((report[0].quorum, report[0].eligible), (2, 1));
    assert_eq!(
        report[0].reason,
        "The rule \"a\" needs 2 approvers, and 1 can fill it."
    );
}

#[test]
fn rule_7_authors_and_contributors_cannot_approve_their_own_change() {
    let author = Candidate {
        author: true,
        ..candidate(1)
    };
    let contributor = Candidate {
        contributor: true,
        ..candidate(2)
    };
    let why = may_fill(&author, &obligation("a", 1)).unwrap_err();
    assert!(why == WhyNot::Author && why.is_self_approval());
    assert_eq!(
        may_fill(&contributor, &obligation("a", 1)),
        Err(WhyNot::Contributor)
    );
    assert!(
        may_fill(
            &author,
            &Obligation {
                allow_author: true,
                ..obligation("a", 1)
            }
        )
        .is_ok()
    );
    assert!(
        may_fill(
            &contributor,
            &Obligation {
                allow_contributor: true,
                ..obligation("a", 1)
            }
        )
        .is_ok()
    );
}

#[test]
fn rule_7_an_unattributed_commit_needs_one_more_person_or_blocks() {
    let policy = document(ORIGINAL);
    let plain = on_main(&policy, &["src/a", "config/b"]);
    let more = plain.clone().for_unattributed(Unattributed::OneMore);
    assert_eq!(
        more.obligations.iter().map(|o| o.quorum).collect::<Vec<_>>(),
        [3, 2]
    );
    assert_eq!(
        plain.for_unattributed(Unattributed::Block).outcome,
        Outcome::Block
    );
    let skipped = on_main(&policy, &["docs/a"]);
    assert_eq!(skipped.clone().for_unattributed(Unattributed::OneMore), skipped);
    assert_eq!(
        skipped.for_unattributed(Unattributed::Block).outcome,
        Outcome::Block
    );
}

#[test]
fn rule_8_a_stronger_method_satisfies_a_weaker_and_never_the_reverse() {
    for (i, made) in Method::ALL.into_iter().enumerate() {
        for (j, asked) in Method::ALL.into_iter().enumerate() {
            assert_eq!(made.satisfies(asked), i >= j);
        }
    }
    assert_eq!(
        serde_json::to_value(Method::ALL).unwrap(),
        json!(["totp", "passkey", "biometric"])
    );
    let weak = may_fill(
        &Candidate {
            method: Method::Totp,
            ..candidate(1)
        },
        &obligation("a", 1),
    );
    assert_eq!(
        weak.unwrap_err().to_string(),
        "The rule \"a\" asks for passkey, and totp is weaker."
    );
}

#[test]
fn rule_9_the_shortest_limit_holds() {
    let policy = document(ORIGINAL);
    assert_eq!(on_main(&policy, &["src/a.yml"]).ttl, Some(600));
    assert_eq!(on_main(&policy, &["a.c"]).ttl, None);
    assert_eq!(deployment(Some(&policy), "x", None).ttl, Some(600));
    assert_eq!(deployment(Some(&policy), "x", Some(86_400)).ttl, Some(86_400));
}

#[test]
fn rule_11_decisions_are_bound_to_the_merge_base_unless_told_otherwise() {
    assert_eq!(BindBase::default(), BindBase::MergeBase);
    let all = [BindBase::MergeBase, BindBase::TargetSha, BindBase::None];
    assert_eq!(
        serde_json::to_value(all).unwrap(),
        json!(["merge_base", "target_sha", "none"])
    );
}

#[test]
fn rule_13_the_opening_policy_and_the_current_one_both_hold() {
    let rule = |name: &str, quorum: u32, method: &str, ttl: u64| {
        let require = json!({"method": [method], "quorum": quorum, "ttl_max": ttl});
        json!({"name": name, "match": {"branch": "main"}, "require": require})
    };
    let at = |rules: Value| on_main(&policy(&json!({"rules": rules})), &["x"]);
    let two = at(json!([rule("a", 2, "passkey", 600)]));
    let one = at(json!([rule("a", 1, "passkey", 300)]));
    for both in [combine(&two, &one), combine(&one, &two)] {
        assert_eq!(
            both.obligations.len(),
            1,
            "a looser version of the same rule adds nothing"
        );
        assert_eq!(
            (both.obligations[0].quorum, both.obligations[0].ttl_max),
            (2, Some(300))
        );
        assert_eq!(both.ttl, Some(300));
    }
    let other = at(json!([rule("a", 1, "biometric", 600)]));
    let both = combine(&two, &other);
    assert_eq!(both.obligations.len(), 2, "neither makes the other needless");
    let renamed = combine(&two, &at(json!([rule("b", 1, "passkey", 600)])));
    assert_eq!(names(&renamed.obligations), ["a", "b"]);
    let skipping = at(json!([{"name": "s", "match": {}, "action": "skip"}]));
    let both = combine(&two, &skipping);
    assert_eq!(
        (both.outcome, names(&both.obligations)),
        (Outcome::Require, vec!["a"])
    );
    assert!(both.skipped_by.is_empty());
    let blocked = judge(
        Some(&policy(&json!({"rules": [], "default": "block"}))),
        "refs/heads/main",
        &listed(&["x"]),
    );
    assert_eq!(combine(&two, &blocked).outcome, Outcome::Block);
    assert_eq!(combine(&two, &two), two);
}

#[test]
fn rule_13_a_new_way_through_helps_only_new_requests() {
    let glass = |quorum: u32, who: &str| {
        on_main(
            &policy(&json!({"rules": [{"name": "fire", "match": {}, "require":
                {"method": ["passkey"], "quorum": quorum, "break_glass": true, "approvers": [who]}}]})),
            &["x"],
        )
    };
    let none = judge(None, "refs/heads/main", &listed(&["x"]));
    assert!(combine(&none, &glass(2, "group:a")).break_glass.is_empty());
    assert!(combine(&glass(2, "group:a"), &none).break_glass.is_empty());
    assert_eq!(
        combine(&glass(3, "group:a"), &glass(2, "group:a")).break_glass[0].quorum,
        3
    );
    assert_eq!(
        combine(&glass(2, "group:a"), &glass(3, "group:a")).break_glass[0].quorum,
        3
    );
    assert!(
        combine(&glass(2, "group:a"), &glass(2, "group:b"))
            .break_glass
            .is_empty()
    );
}

#[test]
fn rule_14_a_rename_is_judged_at_both_ends() {
    let policy = document(ORIGINAL);
    let mut file = modified("src/k.rs");
    file.status = FileStatus::Renamed;
    file.new_path = Some("docs/k.md".into());
    let at = |file: &FileChange| {
        let files = FileList {
            files: vec![file.clone()],
            incomplete: None,
        };
        judge(Some(&policy), "refs/heads/main", &files)
    };
    let answer = at(&file);
    assert_eq!(names(&answer.obligations), ["Production deploys require passkey"]);
    assert_eq!(
        answer.trace.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(),
        ["docs/k.md", "src/k.rs"]
    );
    file.status = FileStatus::Copied;
    assert_eq!(at(&file).outcome, Outcome::Skip);
}

#[test]
fn rule_15_a_doubtful_list_brings_every_require_rule_and_the_default() {
    let files = FileList {
        incomplete: Some("3001 files, 3000 listed".to_owned()),
        ..listed(&["docs/a"])
    };
    let answer = judge(Some(&document(ORIGINAL)), "refs/heads/main", &files);
    assert_eq!(answer.obligations.len(), 3);
    assert!(answer.reasons[0].contains("3001 files, 3000 listed"));
    assert_eq!(answer.trace[0].doubts, [Doubt::FileListIncomplete]);
}

#[test]
fn rule_16_an_empty_change_gets_the_default_rule() {
    let answer = on_main(&document(ORIGINAL), &[]);
    assert_eq!(
        (answer.outcome, names(&answer.obligations)),
        (Outcome::Require, vec!["default"])
    );
}

#[test]
fn rule_17_all_errors_of_a_document_are_told_with_their_lines() {
    let text = "{\"rules\":[\n {\"name\":\"a\",\n  \"match\":{\"branch\":\"main\",\n  \"path\":[]},\n  \"require\":{\"method\":[\"sms\"],\n  \"quorm\":1}}]}";
    let errors = Document::parse(text.as_bytes()).unwrap_err();
    let told: Vec<(u32, &str)> = errors.iter().map(|e| (e.line, e.key.as_str())).collect();
    let wanted = [
        (4, "rules[0].match.path"),
        (5, "rules[0].require.method[0]"),
        (6, "rules[0].require.quorm"),
    ];
    assert_eq!(told, wanted);
    assert_eq!(
        errors[0].to_string().split(';').next(),
        Some("line 4: rules[0].match.path: unknown key")
    );
}

#[test]
fn rule_17_too_large_documents_are_refused() {
    let rule = |i: usize| format!(r#"{{"name":"{i}","match":{{}},"action":"skip"}}"#);
    let of = |n: usize| {
        format!(
            "{{\"rules\":[{}]}}",
            (0..n).map(rule).collect::<Vec<_>>().join(",")
        )
    };
    assert!(Document::parse(of(RULES_MAX).as_bytes()).is_ok());
    assert!(
        Document::parse(of(RULES_MAX + 1).as_bytes()).unwrap_err()[0]
            .reason
            .contains("1000 rules")
    );
    let padded = |n: usize| format!("{{\"rules\":[]}}{}", " ".repeat(n - 12));
    assert!(Document::parse(padded(DOCUMENT_BYTES_MAX).as_bytes()).is_ok());
    let errors = Document::parse(padded(DOCUMENT_BYTES_MAX + 1).as_bytes()).unwrap_err();
    assert!(errors[0].reason.contains("larger than"));
    let not_utf8 = Document::parse(b"{\n\"rules\":[\xff]}").unwrap_err();
    assert_eq!(
        (not_utf8[0].line, not_utf8[0].reason.contains("UTF-8")),
        (2, true)
    );
}

#[test]
fn rule_18_grants_are_narrow_and_demands_are_wide() {
    let glob = PathGlob::new("docs").unwrap();
    let mut effort = Effort::default();
    let mut both = |path: &str| {
        let view = PathView::new(&path.into());
        (glob.demands(&view, &mut effort), glob.grants(&view, &mut effort))
    };
    assert_eq!(both("docs"), (true, true));
    assert_eq!(both("docs/a"), (true, false));
    assert_eq!(both("DOCS"), (true, false));
    assert_eq!(both("doc"), (false, false));
}

#[test]
fn rule_18_bytes_that_are_no_utf8_equal_no_glob_but_a_wildcard_covers_them() {
    let view = PathView::new(&RepoPath(b"src/\xff\xfe.rs".to_vec()));
    let mut effort = Effort::default();
    assert!(PathGlob::new("src/*.rs").unwrap().grants(&view, &mut effort));
    assert!(PathGlob::new("src/??.rs").unwrap().grants(&view, &mut effort));
    assert!(
        !PathGlob::new("src/\u{ff}\u{fe}.rs")
            .unwrap()
            .demands(&view, &mut effort)
    );
    assert!(
        !PathGlob::new("src/\u{fffd}.rs")
            .unwrap()
            .demands(&view, &mut effort)
    );
}

#[test]
fn rule_18_folding_is_the_standards() {
    for (text, folded) in [
        ("abc/ABC", "abc/abc"),
        ("ｓｒｃ", "src"),
        ("s\u{200c}r\u{ad}c\u{fe0f}\u{e0001}", "src"),
        ("Straße", "strasse"),
        ("ẞ", "ss"),
        ("cafe\u{301}", "café"),
        ("ﬀ", "ff"),
        ("Å", "å"),
        ("ΑΣ", "ας".replace('ς', "σ").as_str()),
        ("ℵ", "א"),
        ("㎒", "mhz"),
        ("\u{345}", "ι"),
        ("İ", "i\u{307}"),
        ("Ꭰ", "Ꭰ"),
        ("ꭰ", "Ꭰ"),
        ("\u{1d6b9}", "θ"),
        ("\u{3164}", ""),
        ("가", "가"),
    ] {
        assert_eq!(nfkc_casefold(text), folded, "{text:?}");
    }
}

#[test]
fn rule_19_main_is_refs_heads_main_and_nothing_else() {
    let main = NamePattern::new("main").unwrap();
    assert!(main.matches_branch("refs/heads/main"));
    for other in [
        "refs/tags/main",
        "refs/heads/Main",
        "main",
        "refs/heads/main/x",
        "refs/remotes/o/main",
    ] {
        assert!(!main.matches_branch(other), "{other}");
    }
    assert!(
        NamePattern::new("release/*")
            .unwrap()
            .matches_branch("refs/heads/release/a/b")
    );
}

#[test]
fn rule_20_a_branch_outside_the_patterns_is_not_gated() {
    let patterns = [NamePattern::new("main").unwrap()];
    let files = listed(&["x"]);
    let (defaults, control_files) = (&ProjectDefaults::default(), &ControlFiles::default());
    let at = |branch| {
        let asked = Asked::Change {
            branch,
            project: None,
            files: &files,
            branch_patterns: Some(&patterns),
        };
        evaluate(&Question {
            policy: None,
            defaults,
            control_files,
            asked,
        })
        .outcome
    };
    assert_eq!(
        (at("refs/heads/dev"), at("refs/heads/main")),
        (Outcome::NotGated, Outcome::Require)
    );
}

#[test]
fn rule_21_break_glass_is_another_way_and_never_an_obligation() {
    let policy = policy(&json!({"rules": [
        {"name": "src", "match": {"paths": ["src/**"]}, "require": {"method": ["passkey"]}},
        {"name": "fire", "match": {}, "require":
            {"method": ["passkey"], "quorum": 2, "break_glass": true, "approvers": ["group:fire"]}},
        {"name": "docs", "match": {"paths": ["docs/**"]}, "action": "skip"},
    ]}));
    let answer = on_main(&policy, &["src/x"]);
    assert_eq!(
        (names(&answer.obligations), names(&answer.break_glass)),
        (vec!["src"], vec!["fire"])
    );
    assert_eq!(
        serde_json::to_value(&answer.break_glass).unwrap()[0]["break_glass"],
        true
    );
    assert_eq!(on_main(&policy, &["docs/x"]).outcome, Outcome::Skip);
    assert_eq!(names(&on_main(&policy, &["x"]).obligations), ["default"]);
}

#[test]
fn rule_22_every_path_is_explained() {
    let policy = document(ORIGINAL);
    let answer = on_main(
        &policy,
        &["src/a.md", "docs/b", "c", ".gitlab-ci.yml", "e\u{202e}f"],
    );
    let told: Vec<(&str, Effect)> = answer.trace.iter().map(|e| (e.path.as_str(), e.effect)).collect();
    let wanted = [
        (".gitlab-ci.yml", Effect::Require),
        ("c", Effect::Default),
        ("docs/b", Effect::Skip),
        ("e\\u{202e}f", Effect::Default),
        ("src/a.md", Effect::Require),
    ];
    assert_eq!(told, wanted);
    assert_eq!(
        answer.trace[4].matched,
        ["Production deploys require passkey", "Docs skip approval"]
    );
    assert_eq!(
        answer.trace[4].obligations,
        ["Production deploys require passkey"]
    );
    assert_eq!(answer.trace[0].obligations.len(), 3);
    assert!(
        answer.trace[0]
            .reason
            .as_ref()
            .unwrap()
            .starts_with("It is a control file")
    );
    assert!(answer.reasons[0].starts_with("`.gitlab-ci.yml` can't be skipped."));

    let obligations = [Obligation {
        approvers: vec![Approver::Group("g".to_owned())],
        ..obligation("a", 1)
    }];
    let people = [
        candidate(1),
        Candidate {
            groups: ["g".to_owned()].into(),
            ..candidate(2)
        },
    ];
    let told = stories(&obligations, &fill(&obligations, &people), &people);
    assert_eq!(
        (told[0].sentence.as_str(), &told[0].counted[..]),
        ("1 of 1 approvals", &[person(2)][..])
    );
    assert_eq!(
        told[0].not_counted,
        [(person(1), "The rule \"a\" asks for one of: group:g.".to_owned())]
    );
}

#[test]
fn older_evaluations_are_read_back() {
    let old: Evaluation = serde_json::from_value(json!({"outcome": "require", "obligations":
        [{"rule": "a", "methods": ["passkey"], "quorum": 1}]}))
    .unwrap();
    assert_eq!((old.obligations[0].clone(), old.ttl), (obligation("a", 1), None));
    let written = serde_json::to_value(&old.obligations[0]).unwrap();
    assert_eq!(
        written,
        json!({"rule": "a", "methods": ["passkey"], "quorum": 1, "ttl_max": null})
    );
}

// ---- lint ----

fn warnings(policy: &Value, facts: &LintFacts) -> Vec<String> {
    lint(&self::policy(policy), facts)
        .into_iter()
        .map(|w| format!("{}: {}", w.rule, w.reason))
        .collect()
}

#[test]
fn lint_tells_of_quorums_methods_and_groups_that_nobody_can_serve() {
    let value = json!({"rules": [
        {"name": "many", "match": {}, "require": {"method": ["passkey"], "quorum": 3, "independent": true}},
        {"name": "face", "match": {"branch": "x"}, "require": {"method": ["biometric"]}},
        {"name": "gone", "match": {"branch": "y"}, "require": {"method": ["passkey"], "approvers": ["group:gone"]}},
    ], "default": {"method": ["passkey"], "quorum": 2}});
    let facts = LintFacts {
        people: Some(vec![candidate(1), candidate(2)]),
        groups: Some(["there".to_owned()].into()),
        sample_paths: Vec::new(),
    };
    let told = warnings(&value, &facts);
    let wanted = [
        "face: Nobody who may approve holds biometric, or anything stronger.",
        "face: The rule \"face\" needs 1 approvers, and 0 can fill it.",
        "gone: The rule \"gone\" needs 1 approvers, and 0 can fill it.",
        "gone: There is no group \"gone\".",
        "many: The rule \"many\" needs 3 approvers, and 2 can fill it.",
    ];
    assert_eq!(told, wanted);
    assert!(
        warnings(&value, &LintFacts::default()).is_empty(),
        "what is not known is not warned about"
    );
}

#[test]
fn lint_names_the_files_that_a_glob_without_slash_would_skip() {
    let sample_paths = ["src/a.md", "b.md", "src/secret/c.md", "src/x.rs"]
        .map(RepoPath::from)
        .to_vec();
    let facts = LintFacts {
        sample_paths,
        ..LintFacts::default()
    };
    let value = json!({"rules": [{"name": "s", "action": "skip",
        "match": {"branch": "main", "paths": ["*.md", "docs/**"], "exclude_paths": ["src/secret/"]}}]});
    assert_eq!(
        warnings(&value, &facts),
        ["s: `*.md` has no `/` and matches at any depth, as `src/a.md`."]
    );
}

#[test]
fn lint_tells_of_dead_and_needless_rules() {
    let passkey = json!({"method": ["passkey"]});
    let value = json!({"rules": [
        {"name": "all", "match": {"branch": "main"}, "require": passkey},
        {"name": "docs", "match": {"branch": "main", "paths": ["docs/**"]}, "action": "skip"},
        {"name": "src", "match": {"branch": "main", "paths": ["src/**"]}, "require": {"method": ["totp"]}},
        {"name": "twin", "match": {"branch": "main"}, "require": passkey},
        {"name": "env", "match": {"environment": "p", "paths": ["src/**"]}, "require": passkey},
        {"name": "tag", "match": {"branch": "refs/tags/v1"}, "require": passkey},
        {"name": "fire", "match": {"branch": "z"}, "require": {"method": ["passkey"], "quorum": 2, "break_glass": true}},
        {"name": "ci", "match": {"branch": "q", "paths": ["/Jenkinsfile", "a/b"]}, "action": "skip"},
        {"name": "any", "match": {}, "action": "skip"},
    ]});
    let told = warnings(&value, &LintFacts::default());
    for wanted in [
        "docs: It never skips anything: \"all\" demands approval for all that it matches.",
        "src: It adds nothing to the rule \"all\".",
        "twin: It adds nothing to the rule \"all\".",
        "env: It never matches: deployments have no paths, and it judges nothing else.",
        "tag: No branch is named like `refs/tags/v1`.",
        "fire: Break-glass should have a group of its own: name its `approvers`.",
        "ci: `/Jenkinsfile` is a control file, and those are never skipped.",
        "ci: `a/b` skips a file of that name only; write `a/b/**` for a folder.",
        "any: It skips every change, deployment and action that no other rule matches.",
    ] {
        assert!(told.iter().any(|t| t == wanted), "{wanted}\n{told:#?}");
    }
    assert!(!told.iter().any(|t| t.starts_with("all:")), "{told:#?}");
}

#[test]
fn lint_has_little_to_say_about_the_original() {
    let told = lint(&document(ORIGINAL), &LintFacts::default());
    assert_eq!(
        told.iter().map(|w| (w.line, w.rule.as_str())).collect::<Vec<_>>(),
        [(9, "Docs skip approval")]
    );
}

// ---- properties ----

/// Steps that any one match may take: a constant times the path times the glob, whatever they hold.
fn steps_allowed(glob: &str, path: &str) -> u64 {
    // Folding makes at most 18 characters of one, and a glob makes at most three states of a character.
    let (glob, path) = (
        nfkc_casefold(glob).len() + glob.len(),
        nfkc_casefold(path).len() + path.len(),
    );
    16 * (glob as u64 + 2) * (path as u64 + 2)
}

#[test]
fn globs_take_linear_time_whatever_they_hold() {
    let long = "a/".repeat(2047) + "ab";
    let flat = "a".repeat(4096);
    let bombs = [
        "**/**/**/*x".to_owned(),
        "*a".repeat(500) + "x",
        "**/".repeat(300) + "x",
        "**/*/".repeat(200) + "x",
        "a/**/".repeat(200) + "x",
        "{a,a*}".repeat(170) + "x",
        "[!b]*".repeat(200) + "x",
        "?*".repeat(500) + "x",
    ];
    for glob in &bombs {
        let compiled = PathGlob::new(glob).unwrap();
        for path in [&long, &flat] {
            let mut effort = Effort::default();
            let view = PathView::new(&path.as_str().into());
            assert!(!compiled.demands(&view, &mut effort) && !compiled.grants(&view, &mut effort));
            assert!(
                effort.steps <= steps_allowed(glob, path),
                "{glob:.40}: {} steps",
                effort.steps
            );
        }
        let mut twice = [0, 0];
        for (i, n) in [2048, 4096].into_iter().enumerate() {
            let mut effort = Effort::default();
            compiled.demands(&PathView::new(&"a".repeat(n).as_str().into()), &mut effort);
            twice[i] = effort.steps;
        }
        assert!(
            twice[1] <= 2 * twice[0] + 2 * glob.len() as u64 + 16,
            "{glob:.40}: {twice:?}"
        );
    }
}

/// An independent reading of rule 18 for globs of letters, `*`, `?`, `**` and `/`: slow, and obvious.
fn obviously_grants(glob: &str, path: &str) -> bool {
    fn segment(glob: &[u8], name: &[u8]) -> bool {
        match (glob.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => segment(&glob[1..], name) || (!name.is_empty() && segment(glob, &name[1..])),
            (Some(b'?'), Some(_)) => segment(&glob[1..], &name[1..]),
            (Some(a), Some(b)) => a == b && segment(&glob[1..], &name[1..]),
            _ => false,
        }
    }
    fn whole(glob: &[&str], path: &[&str]) -> bool {
        match (glob.first(), path.first()) {
            (None, None) => true,
            (Some(&"**"), _) if glob.len() == 1 => !path.is_empty(),
            (Some(&"**"), _) => whole(&glob[1..], path) || (!path.is_empty() && whole(glob, &path[1..])),
            (Some(g), Some(p)) => segment(g.as_bytes(), p.as_bytes()) && whole(&glob[1..], &path[1..]),
            _ => false,
        }
    }
    let directory = glob.ends_with('/');
    let body = glob.strip_suffix('/').unwrap_or(glob);
    let mut parts: Vec<&str> = body.strip_prefix('/').unwrap_or(body).split('/').collect();
    if !body.contains('/') {
        parts.insert(0, "**");
    }
    if directory {
        // Some directory, and everything below it.
        if parts.last() == Some(&"**") {
            parts.push("*");
        }
        parts.push("**");
    }
    whole(&parts, &path.split('/').collect::<Vec<_>>())
}

fn obviously_demands(glob: &str, path: &str) -> bool {
    let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
    ends.into_iter().any(|end| obviously_grants(glob, &path[..end]))
}

fn a_glob() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => "[ab*?]{1,3}", 1 => Just("**".to_owned())]
        .prop_filter("a whole segment", |s| s == "**" || !s.contains("**"));
    (
        prop::bool::ANY,
        prop::collection::vec(segment, 1..4),
        prop::bool::ANY,
    )
        .prop_map(|(front, parts, back)| {
            format!(
                "{}{}{}",
                if front { "/" } else { "" },
                parts.join("/"),
                if back { "/" } else { "" }
            )
        })
}

fn a_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,3}", 1..5).prop_map(|parts| parts.join("/"))
}

const FILES: [&str; 14] = [
    "src/a",
    "src/b.md",
    "SRC/c",
    "docs/a",
    "docs/b.md",
    "x.md",
    "Makefile",
    ".gitlab-ci.yml",
    "docs//x",
    "a/CODEOWNERS",
    "src/gen/x",
    "deploy/x.yml",
    "docs/x ",
    "ｓｒｃ/x",
];
const GLOBS: [&str; 12] = [
    "src/**",
    "*.md",
    "docs/",
    "docs",
    "**",
    "/src/*",
    "*.yml",
    "[a-m]*",
    "src/gen/**",
    "{src,docs}/**",
    "Make*",
    "*",
];

fn a_file() -> impl Strategy<Value = FileChange> {
    let modes = prop_oneof![5 => Just(0o100_644), 1 => Just(0o120_000), 1 => Just(0o100_755)];
    let statuses = prop_oneof![
        Just(FileStatus::Modified),
        Just(FileStatus::Renamed),
        Just(FileStatus::Copied)
    ];
    (
        prop::sample::select(&FILES[..]),
        prop::sample::select(&FILES[..]),
        statuses,
        modes,
    )
        .prop_map(|(old, new, status, mode)| FileChange {
            status,
            old_path: Some(if status == FileStatus::Modified { new } else { old }.into()),
            new_mode: FileMode::Known(mode),
            ..modified(new)
        })
}

fn some_files(at_least: usize) -> impl Strategy<Value = Vec<FileChange>> {
    prop::collection::vec(a_file(), at_least..5)
}

/// A rule without its name. None of its globs names a whole path, which rule 4 would reward.
fn a_rule() -> impl Strategy<Value = Value> {
    let branch = prop::sample::select(vec![json!(null), json!("main"), json!("ma*"), json!("dev")]);
    let globs = || prop::collection::vec(prop::sample::select(&GLOBS[..]), 0..3);
    (branch, globs(), globs(), 0..4u32, prop::option::of(1..2000u32)).prop_map(
        |(branch, paths, exclude, quorum, ttl)| {
            let mut rule = json!({"match": {"exclude_paths": exclude}});
            if !branch.is_null() {
                rule["match"]["branch"] = branch;
            }
            if !paths.is_empty() {
                rule["match"]["paths"] = json!(paths);
            }
            if quorum == 0 {
                rule["action"] = json!("skip");
            } else {
                rule["require"] = json!({"method": ["passkey"], "quorum": quorum});
                if let Some(ttl) = ttl {
                    rule["require"]["ttl_max"] = json!(ttl);
                }
            }
            rule
        },
    )
}

fn some_rules() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(a_rule(), 0..6).prop_map(|mut rules| {
        for (i, rule) in rules.iter_mut().enumerate() {
            rule["name"] = json!(format!("r{i}"));
        }
        rules
    })
}

fn answer_for(rules: &[Value], files: &[FileChange]) -> Evaluation {
    let list = FileList {
        files: files.to_vec(),
        incomplete: None,
    };
    judge(Some(&policy(&json!({"rules": rules}))), "refs/heads/main", &list)
}

fn named_obligations(answer: &Evaluation) -> BTreeSet<String> {
    answer.obligations.iter().map(|o| o.rule.clone()).collect()
}

/// Every assignment of people to rules, tried one by one.
fn obviously_fillable(obligations: &[Obligation], people: &[Candidate]) -> bool {
    let choices = obligations.len() + 1;
    (0..choices.pow(people.len() as u32)).any(|mut code| {
        // Each person serves one independent obligation, or (the last choice) all that are not independent.
        let mut served = vec![0u32; obligations.len()];
        for candidate in people {
            let choice = code % choices;
            code /= choices;
            for (i, obligation) in obligations.iter().enumerate() {
                let serves = if obligation.independent {
                    choice == i
                } else {
                    choice == obligations.len()
                };
                served[i] += u32::from(serves && may_fill(candidate, obligation).is_ok());
            }
        }
        served
            .iter()
            .zip(obligations)
            .all(|(served, o)| *served >= o.quorum)
    })
}

fn some_obligations() -> impl Strategy<Value = Vec<Obligation>> {
    let one = (1..3u32, prop::bool::ANY, prop::option::of(0..3usize));
    prop::collection::vec(one, 1..4).prop_map(|all| {
        let made = all
            .into_iter()
            .enumerate()
            .map(|(i, (quorum, independent, group))| Obligation {
                independent,
                approvers: group
                    .map(|g| Approver::Group(g.to_string()))
                    .into_iter()
                    .collect(),
                ..obligation(&i.to_string(), quorum)
            });
        made.collect()
    })
}

fn some_people() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec((1..7u8, prop::collection::btree_set(0..3usize, 0..3)), 0..6).prop_map(|all| {
        let made = all.into_iter().map(|(n, groups)| Candidate {
            groups: groups.into_iter().map(|g| g.to_string()).collect(),
            ..candidate(n)
        });
        made.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_rules_never_matters(
        (rules, other) in some_rules().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
        files in some_files(0),
    ) {
        let (a, b) = (answer_for(&rules, &files), answer_for(&other, &files));
        prop_assert_eq!(named_obligations(&a), named_obligations(&b));
        prop_assert_eq!((a.outcome, a.ttl), (b.outcome, b.ttl));
    }

    #[test]
    fn the_order_of_files_never_matters(
        rules in some_rules(),
        (files, other) in some_files(0).prop_flat_map(|f| (Just(f.clone()), Just(f).prop_shuffle())),
    ) {
        prop_assert_eq!(answer_for(&rules, &files), answer_for(&rules, &other));
    }

    #[test]
    fn another_require_rule_never_weakens_what_the_others_demand(
        rules in some_rules(), mut added in a_rule(), files in some_files(0),
    ) {
        if added["require"].is_null() {
            added["require"] = json!({"method": ["passkey"]});
        }
        added.as_object_mut().unwrap().remove("action");
        added["name"] = json!("added");
        let before = answer_for(&rules, &files);
        let more: Vec<Value> = rules.into_iter().chain([added]).collect();
        let after = answer_for(&more, &files);
        let mut wanted = named_obligations(&before);
        let kept = named_obligations(&after);
        // The default rule gives way only to the added one.
        if kept.contains("added") {
            wanted.remove("default");
        }
        prop_assert!(wanted.is_subset(&kept), "{:?} {:?}", wanted, kept);
        prop_assert!(after.outcome == before.outcome || after.outcome == Outcome::Require);
    }

    #[test]
    fn another_file_never_weakens_the_answer(
        rules in some_rules(), files in some_files(1), added in a_file(),
    ) {
        let before = answer_for(&rules, &files);
        let more: Vec<FileChange> = files.into_iter().chain([added]).collect();
        let after = answer_for(&rules, &more);
        prop_assert!(named_obligations(&before).is_subset(&named_obligations(&after)));
        prop_assert!(before.outcome == Outcome::Skip || after.outcome == before.outcome);
        prop_assert!(before.ttl.is_none() || after.ttl <= before.ttl);
    }

    #[test]
    fn a_cut_list_demands_at_least_as_much(rules in some_rules(), files in some_files(1)) {
        let whole = answer_for(&rules, &files);
        let cut = FileList { files, incomplete: Some("cut".to_owned()) };
        let cut = judge(Some(&policy(&json!({"rules": rules}))), "refs/heads/main", &cut);
        prop_assert!(named_obligations(&whole).is_subset(&named_obligations(&cut)));
        prop_assert_eq!(cut.outcome, Outcome::Require);
    }

    #[test]
    fn both_policies_hold_whichever_came_first(
        one in some_rules(), two in some_rules(), files in some_files(0), people in some_people(),
    ) {
        let (a, b) = (answer_for(&one, &files), answer_for(&two, &files));
        let (forth, back) = (combine(&a, &b), combine(&b, &a));
        let met = |e: &Evaluation| e.outcome == Outcome::Skip || all_met(&fill(&e.obligations, &people));
        prop_assert_eq!(met(&forth), met(&a) && met(&b));
        prop_assert_eq!(met(&forth), met(&back));
        prop_assert_eq!((forth.outcome, forth.ttl), (back.outcome, back.ttl));
    }

    #[test]
    fn people_are_counted_once_and_fill_whatever_can_be_filled(
        obligations in some_obligations(), people in some_people(),
    ) {
        let mut seen = BTreeSet::new();
        let single: Vec<Candidate> = people.into_iter().filter(|p| seen.insert(p.person.clone())).collect();
        let filled = fill(&obligations, &single);
        for (i, slot) in filled.iter().enumerate() {
            let distinct: BTreeSet<_> = slot.persons.iter().collect();
            prop_assert_eq!(distinct.len(), slot.persons.len());
            prop_assert!(slot.persons.len() <= slot.quorum as usize);
            for who in &slot.persons {
                let able = single.iter().find(|p| p.person == *who).unwrap();
                prop_assert!(may_fill(able, &obligations[i]).is_ok());
                let elsewhere = (0..filled.len()).any(|j| j != i && filled[j].persons.contains(who));
                prop_assert!(!(obligations[i].independent && elsewhere));
            }
        }
        prop_assert_eq!(all_met(&filled), obviously_fillable(&obligations, &single));
        prop_assert_eq!(unsatisfiable(&obligations, &single).is_empty(), all_met(&filled));
        let doubled: Vec<Candidate> = single.iter().chain(&single).cloned().collect();
        prop_assert_eq!(fill(&obligations, &doubled), filled);
    }

    #[test]
    fn globs_match_as_an_obvious_reading_does(glob in a_glob(), path in a_path()) {
        let compiled = PathGlob::new(&glob).unwrap();
        let (view, mut effort) = (PathView::new(&path.as_str().into()), Effort::default());
        prop_assert_eq!(compiled.grants(&view, &mut effort), obviously_grants(&glob, &path));
        prop_assert_eq!(compiled.demands(&view, &mut effort), obviously_demands(&glob, &path));
    }

    #[test]
    fn no_glob_and_no_path_makes_matching_slow_or_panic(
        glob in "[ab/*?\\[\\]{},!\u{e9}\u{ff0f}\u{fb01}-]{0,40}", path in "[abAB/ \u{e9}\u{200c}\u{ff41}]{0,200}",
    ) {
        if let Ok(compiled) = PathGlob::new(&glob) {
            let (view, mut effort) = (PathView::new(&path.as_str().into()), Effort::default());
            let granted = compiled.grants(&view, &mut effort);
            let demanded = compiled.demands(&view, &mut effort);
            prop_assert!(!granted || demanded, "what is granted is demanded");
            prop_assert!(effort.steps <= 2 * steps_allowed(&glob, &path));
        }
    }

    #[test]
    fn folding_twice_is_folding_once(text in "\\PC{0,12}") {
        let once = nfkc_casefold(&text).into_owned();
        prop_assert_eq!(nfkc_casefold(&once).into_owned(), once.clone());
    }

    #[test]
    fn damaged_documents_are_never_read_as_something_else(
        at in 0..ORIGINAL.len(), byte in prop::num::u8::ANY, cut in prop::bool::ANY,
    ) {
        let mut bytes = ORIGINAL.as_bytes().to_vec();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        match Document::parse(&bytes) {
            Ok(policy) => {
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                prop_assert_eq!(policy.rules().len(), value["rules"].as_array().unwrap().len());
            }
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }
}
