//! What the lint tells of documents that are valid and probably do not mean what they say.

use super::*;
use proptest::prelude::*;

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
        admins: None,
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

#[test]
fn lint_tells_of_a_change_quorum_that_the_admins_there_cannot_reach() {
    let value = json!({"change_quorum": 3, "rules": []});
    let with = |admins| LintFacts {
        admins: Some(admins),
        ..LintFacts::default()
    };
    let told = warnings(&value, &with(1));
    assert!(
        told[0].starts_with("change_quorum: It asks for 3 admins, and 1 have"),
        "{told:?}"
    );
    assert!(warnings(&value, &with(3)).is_empty());
    assert!(warnings(&value, &LintFacts::default()).is_empty());
}

#[test]
fn a_glob_covers_another_only_where_every_path_proves_it() {
    let covers = |outer: &str, inner: &str| {
        PathGlob::new(outer)
            .unwrap()
            .covers(&PathGlob::new(inner).unwrap())
    };
    for (outer, inner) in [
        ("**", "docs/**"),
        ("docs/", "docs/a/**"),
        ("docs/**", "docs/**/*.md"),
        ("docs", "docs/a/b.md"),
        ("/src", "src/**"),
        ("*.md", "docs/*.md"),
        ("**/*.md", "*.md"),
        ("*.md", "docs/READ*.md"),
        ("a/*/c", "a/b/c"),
        (".github/workflows/**", ".github/workflows/*.yml"),
        ("DOCS/**", "DOCS/a/**"),
    ] {
        assert!(covers(outer, inner), "{outer} covers {inner}");
    }
    for (outer, inner) in [
        ("docs/**", "**"),
        ("docs/a/**", "docs/**"),
        ("*.md", "docs/**"),
        ("/docs/**", "docs/"),
        ("a*b", "ab*"),
        ("aba*aba", "ab*aba"),
        ("a/*/c", "a/**/c"),
        ("docs/**", "docs*"),
        ("?.md", "*.md"),
    ] {
        assert!(!covers(outer, inner), "{outer} does not cover {inner}");
    }
}

proptest! {
    /// Whatever is said to be covered is demanded.
    #[test]
    fn what_a_covered_glob_matches_the_other_one_demands(
        outer in "(/?)([ab*?]{1,3}|\\*\\*)(/([ab*]{1,3}|\\*\\*)){0,2}/?",
        inner in "(/?)([ab*?]{1,3}|\\*\\*)(/([ab*]{1,3}|\\*\\*)){0,2}/?",
        paths in proptest::collection::vec("[abAB]{1,3}(/[ab]{1,3}){0,3}", 1..30),
    ) {
        if let (Ok(outer), Ok(inner)) = (PathGlob::new(&outer), PathGlob::new(&inner)) && outer.covers(&inner) {
            for path in paths {
                let view = PathView::new(&path.as_str().into());
                let effort = &mut Effort::default();
                prop_assert!(!inner.demands(&view, effort) || outer.demands(&view, effort), "{path}");
            }
        }
    }
}

#[test]
fn lint_finds_skips_that_never_skip_and_names_that_deceive() {
    let passkey = json!({"method": ["passkey"]});
    let value = json!({"rules": [
        {"name": "all", "match": {"branch": "main", "paths": ["**"]}, "require": passkey},
        {"name": "docs", "match": {"branch": "main", "paths": ["docs/a/**"]}, "action": "skip"},
        {"name": "folder", "match": {"branch": "dev", "paths": ["docs/"]}, "require": passkey},
        {"name": "deep", "match": {"branch": "dev", "paths": ["docs/a/**"]}, "action": "skip"},
        {"name": "ci", "match": {"branch": "z", "paths": [".github/workflows/**"]}, "action": "skip"},
        {"name": "D\u{43e}cs", "match": {"branch": "y", "paths": ["a/b.c"]}, "action": "skip"},
        {"name": "turned \u{202e}", "match": {"branch": "x", "paths": ["a/b.c"]}, "action": "skip"},
        {"name": "DOCS", "match": {"branch": "w", "paths": ["a/b.c"]}, "action": "skip"},
    ]});
    let told = warnings(&value, &LintFacts::default());
    for wanted in [
        "docs: It never skips anything: \"all\" demands approval for all that it matches.",
        "deep: It never skips anything: \"folder\" demands approval for all that it matches.",
        "ci: `.github/workflows/**` matches nothing but control files, and those are never skipped.",
        "D\u{43e}cs: `D\u{43e}cs` mixes Latin letters with those of another alphabet that look like them.",
        "turned \u{202e}: `turned \\u{202e}` holds characters that can't be seen, or that turn their neighbours round.",
        "DOCS: Its name is easily taken for that of the rule \"docs\".",
    ] {
        assert!(told.iter().any(|t| t == wanted), "{wanted}\n{told:#?}");
    }
}
