//! What must hold of the policy engine for any bytes whatsoever. Each target panics where it does not.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz -s none document tests/fuzz/corpus/document tests/fuzz/seeds/document \
//!     -- -dict=tests/fuzz/policy.dict -max_total_time=600
//! ```
//!
//! and the same for `glob` and `question`. The engine has no unsafe code, so no sanitizer is asked; overflow checks and
//! debug assertions are on.

// The engine itself, without the server around it: `domain` names nothing outside itself.
#[path = "../../../src/domain/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "only the policy engine is looked at here"
)]
mod domain;

use domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use domain::policy::glob::{Effort, PathView};
use domain::text::English;
use domain::policy::{
    Asked, ControlFiles, Document, Effect, Evaluation, Hypothesis, LintFacts, Outcome, PathGlob,
    ProjectDefaults, Question, evaluate, lint, words,
};

fn modified(path: RepoPath) -> FileChange {
    FileChange {
        status: FileStatus::Modified,
        old_path: Some(path.clone()),
        new_path: Some(path),
        old_mode: FileMode::Known(0o100_644),
        new_mode: FileMode::Known(0o100_644),
        lines: None,
    }
}

fn judge(document: &Document, files: Vec<FileChange>, whole: bool) -> Evaluation {
    let files = FileList {
        files,
        incomplete: (!whole).then(|| "cut".to_owned()),
    };
    evaluate(&Question {
        policy: Some(document),
        defaults: &ProjectDefaults::default(),
        control_files: &ControlFiles::default(),
        asked: Asked::Change {
            branch: "refs/heads/main",
            project: Some("pay/api"),
            files: &files,
            branch_patterns: None,
        },
    })
}

/// What is shown to people holds no control character, whatever came in.
fn shows_plainly(text: &str) {
    assert!(
        !text.chars().any(char::is_control),
        "a control character is shown: {text:?}"
    );
}

/// A document is refused with places and reasons, or read; and then it judges, explains and warns without a fault.
pub fn document(data: &[u8]) {
    let document = match Document::parse(data) {
        Ok(document) => document,
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = data.iter().filter(|it| **it == b'\n').count() as u32 + 1;
            for it in errors {
                assert!((1..=lines).contains(&it.line) && !it.reason.is_empty(), "{it:?}");
                shows_plainly(&it.to_string());
            }
            return;
        }
    };
    assert_eq!(document.bytes(), data);
    for it in lint(&document, &LintFacts::default()) {
        shows_plainly(&it.reason);
    }
    for it in document.rules() {
        shows_plainly(&words::rule(&English, it));
    }
    shows_plainly(&words::default_rule(&English, &document));
    // The paths that the document itself writes meet its globs more often than any other.
    let mut paths: Vec<RepoPath> = vec!["README.md".into(), "src/a.rs".into(), ".gitlab-ci.yml".into()];
    for rule in document.rules() {
        let globs = rule
            .match_
            .paths
            .iter()
            .flatten()
            .chain(&rule.match_.exclude_paths);
        paths.extend(globs.take(8).map(|it| RepoPath::from(it.text())));
        if paths.len() > 64 {
            break;
        }
    }
    let files: Vec<FileChange> = paths.into_iter().map(modified).collect();
    let all = judge(&document, files.clone(), true);
    shows_plainly(&words::judged(&English, &all));
    if all.outcome == Outcome::Skip {
        assert!(!all.skipped_by.is_empty() && all.obligations.is_empty());
        assert!(all.trace.iter().all(|it| it.effect == Effect::Skip));
    }
    if all.outcome == Outcome::Require {
        assert!(!all.obligations.is_empty());
    }
    // Fewer files never demand more, order does not matter, and a cut list demands as much at least.
    let demands = |it: &Evaluation| {
        it.obligations
            .iter()
            .map(|it| it.rule.clone())
            .collect::<Vec<_>>()
    };
    let covers = |large: &Evaluation, small: &Evaluation| {
        let large = demands(large);
        demands(small).iter().all(|it| large.contains(it))
    };
    let mut turned = files.clone();
    turned.reverse();
    assert_eq!(judge(&document, turned, true), all);
    let half = judge(&document, files[..files.len() / 2].to_vec(), true);
    assert!(files.len() < 2 || half.outcome == Outcome::Block || covers(&all, &half));
    let cut = judge(&document, files, false);
    assert!(cut.outcome != Outcome::Skip && covers(&cut, &all));
}

/// A glob and a path: what is granted is demanded too, in linear time, and an engine that knows the glob from its
/// document finds the same.
pub fn glob(data: &[u8]) {
    let Some(at) = data.iter().position(|it| *it == b'\n') else {
        return;
    };
    let (text, path) = (&data[..at], &data[at + 1..]);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if path.len() > 4096 {
        return;
    }
    let compiled = match PathGlob::new(text) {
        Ok(it) => it,
        Err(e) => return shows_plainly(&e.to_string()),
    };
    let path = RepoPath(path.to_vec());
    let view = PathView::new(&path);
    let mut effort = Effort::default();
    let (demands, grants) = (
        compiled.demands(&view, &mut effort),
        compiled.grants(&view, &mut effort),
    );
    assert!(demands || !grants, "granted, but not demanded");
    // Folding makes at most 18 characters of one, and a glob makes at most three states of a character.
    let allowed = 16 * 18 * 18 * (text.len() as u64 + 2) * (path.0.len() as u64 + 2);
    assert!(effort.steps <= allowed, "{} steps", effort.steps);
    if let Some(named) = compiled.named_path() {
        assert!(
            compiled.names(&named)
                && compiled.grants(&PathView::new(&named), &mut effort)
                    == compiled.grants(&PathView::new(&named), &mut Effort::default())
        );
    }
    let written = serde_json::json!({ "rules": [
        { "name": "ask", "match": { "paths": [text] }, "require": { "method": ["passkey"] } },
        { "name": "skip", "match": { "paths": [text] }, "action": "skip" },
    ] });
    let document = Document::parse(written.to_string().as_bytes()).expect("the glob is valid");
    let answer = judge(&document, vec![modified(path)], true);
    assert_eq!(answer.trace.len(), 1);
    let matched = &answer.trace[0].matched;
    assert_eq!(
        matched.iter().any(|it| it == "ask"),
        demands,
        "the engine and the glob disagree"
    );
    assert_eq!(
        matched.iter().any(|it| it == "skip"),
        grants,
        "the engine and the glob disagree"
    );
    shows_plainly(&answer.trace[0].path);
}

/// Rules of each kind that the words in the seeds' questions meet.
const POLICY: &str = r#"{ "rules": [
  { "name": "code", "match": { "branch": "main", "paths": ["src/**", "*.yml"], "exclude_paths": ["src/gen/"] },
    "require": { "method": ["passkey"], "quorum": 2, "ttl_max": 600, "approvers": ["group:release"] } },
  { "name": "docs", "match": { "branch": ["main", "release/*"], "paths": ["docs/", "*.md", "{a,b}*/?[!c]/**"] }, "action": "skip" },
  { "name": "fire", "match": { "branch": "*" }, "require": { "method": ["passkey"], "quorum": 2, "break_glass": true } },
  { "name": "production", "match": { "environment": "prod*", "project": "pay/*" },
    "require": { "method": ["biometric"], "ttl_max": 60, "independent": true } },
  { "name": "staging", "match": { "environment": "staging" }, "action": "skip" } ],
  "default": { "method": ["passkey"], "quorum": 1 } }"#;

/// A question to the simulator is refused with its field, or answered: without a policy, and by one with rules of each kind.
pub fn question(data: &[u8]) {
    match Hypothesis::parse(data) {
        Ok(asked) => {
            let document = Document::parse(POLICY.as_bytes()).expect("the policy is valid");
            for policy in [None, Some(&document)] {
                let answer =
                    asked.judged_by(policy, &ProjectDefaults::default(), &ControlFiles::default());
                for it in &answer.trace {
                    shows_plainly(&it.path);
                }
                shows_plainly(&words::judged(&English, &answer));
                match answer.outcome {
                    Outcome::Skip => assert!(policy.is_some() && answer.obligations.is_empty()),
                    Outcome::Require => assert!(!answer.obligations.is_empty()),
                    Outcome::Block | Outcome::NotGated => {}
                }
            }
        }
        Err(e) => {
            assert!(!e.field.is_empty() && !e.reason.is_empty());
            shows_plainly(&e.to_string());
        }
    }
}
