//! The table of cases: one test a row, named after it.

use super::*;

/// The document of the table.
fn table() -> Document {
    let vectors: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    policy(&vectors["documents"]["table"])
}

fn asked(paths: &[&str]) -> Evaluation {
    on_main(&table(), paths)
}

/// Two people by passkey or biometric, within 600 seconds.
fn assert_q2(answer: &Evaluation) {
    assert_eq!(answer.outcome, Outcome::Require, "{answer:?}");
    let code = answer.obligations.first().expect("an obligation");
    assert_eq!(code.rule, "Production deploys require passkey");
    assert_eq!((code.quorum, answer.ttl), (2, Some(600)));
    assert_eq!(code.methods, [Method::Passkey, Method::Biometric]);
}

fn assert_skip(answer: &Evaluation) {
    assert_eq!(answer.outcome, Outcome::Skip, "{answer:?}");
    assert_eq!(answer.skipped_by, ["Docs skip approval"]);
}

fn assert_default(answer: &Evaluation) {
    assert_eq!(answer.outcome, Outcome::Require, "{answer:?}");
    assert_eq!(names(&answer.obligations), ["default"]);
}

fn file(status: FileStatus, old: &str, new: &str, new_mode: u32) -> FileList {
    let file = FileChange {
        status,
        old_path: Some(old.into()),
        new_path: Some(new.into()),
        new_mode: FileMode::Known(new_mode),
        ..modified(old)
    };
    FileList {
        files: vec![file],
        incomplete: None,
    }
}

#[test]
fn code_needs_two_people_in_ten_minutes() {
    let answer = asked(&["src/a.rs"]);
    assert_q2(&answer);
    assert_eq!(answer.obligations.len(), 1);
}

#[test]
fn docs_are_skipped() {
    assert_skip(&asked(&["docs/a.md"]));
}

#[test]
fn a_readme_among_code_needs_two_people_because_require_beats_skip() {
    assert_q2(&asked(&["src/README.md"]));
}

#[test]
fn markdown_is_skipped_at_any_depth() {
    assert_skip(&asked(&["a/b.md"]));
}

#[test]
fn docs_together_with_code_need_two_people() {
    assert_q2(&asked(&["docs/a.md", "src/x.rs"]));
}

#[test]
fn what_no_rule_matches_gets_the_default_rule() {
    assert_default(&asked(&["Makefile"]));
}

#[test]
fn a_rename_out_of_code_needs_two_people() {
    let list = file(FileStatus::Renamed, "src/k.rs", "docs/k.md", 0o100_644);
    assert_q2(&judge(Some(&table()), "refs/heads/main", &list));
}

#[test]
fn a_control_file_brings_every_require_rule_and_the_default() {
    let answer = asked(&[".gitlab-ci.yml"]);
    assert_q2(&answer);
    assert_eq!(
        names(&answer.obligations),
        ["Production deploys require passkey", "default"]
    );
}

#[test]
fn docs_that_become_a_symlink_are_not_skipped() {
    let list = file(FileStatus::Modified, "docs/a.md", "docs/a.md", 0o120_000);
    let answer = judge(Some(&table()), "refs/heads/main", &list);
    assert_eq!(answer.outcome, Outcome::Require);
    assert!(answer.trace[0].doubts.contains(&Doubt::Symlink), "{answer:?}");
}

#[test]
fn an_empty_change_gets_the_default_rule() {
    assert_default(&asked(&[]));
}

#[test]
fn a_list_that_was_cut_at_3000_of_3001_brings_every_require_rule_and_the_default() {
    let paths: Vec<String> = (0..3_000).map(|n| format!("docs/{n}.md")).collect();
    let list = FileList {
        files: paths.iter().map(|it| modified(it)).collect(),
        incomplete: Some("3,001 files of which 3,000 are listed".to_owned()),
    };
    let answer = judge(Some(&table()), "refs/heads/main", &list);
    assert_eq!(
        names(&answer.obligations),
        ["Production deploys require passkey", "default"]
    );
}

#[test]
fn another_branch_is_not_gated() {
    let patterns = [NamePattern::new("main").expect("a pattern")];
    let files = listed(&["src/a.rs"]);
    let policy = table();
    let answer = evaluate(&Question {
        policy: Some(&policy),
        defaults: &ProjectDefaults::default(),
        control_files: &ControlFiles::default(),
        asked: Asked::Change {
            branch: "refs/heads/dev",
            project: None,
            files: &files,
            branch_patterns: Some(&patterns),
        },
    });
    assert_eq!(answer.outcome, Outcome::NotGated);
}

#[test]
fn a_second_rule_adds_its_own_obligation_and_the_shortest_time_holds() {
    let answer = on_main(&document(ORIGINAL), &["src/app.yml"]);
    assert_eq!(
        names(&answer.obligations),
        [
            "Production deploys require passkey",
            "Config changes need single approval"
        ]
    );
    assert_eq!(answer.ttl, Some(600));
}
