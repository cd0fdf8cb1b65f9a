//! The numbered rules of the policy, as far as the engine alone shows them: one test or more each, named after it.

use super::*;

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
fn rule_01_all_matching_rules_hold_whatever_their_order() {
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
fn rule_02_require_beats_skip_and_nothing_means_the_default() {
    let policy = document(ORIGINAL);
    assert_eq!(
        names(&on_main(&policy, &["src/a.md"]).obligations),
        ["Production deploys require passkey".to_owned()]
    );
    assert_eq!(on_main(&policy, &["a.md"]).outcome, Outcome::Skip);
    assert_eq!(names(&on_main(&policy, &["a.c"]).obligations), ["default"]);
}

#[test]
fn rule_03_a_skip_needs_every_path_a_complete_list_and_some_file() {
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
fn rule_04_control_files_are_never_skipped_and_settings_may_add_some() {
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
fn rule_05_obligations_are_anded_and_independent_means_other_people() {
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
fn rule_06_quorum_counts_persons_and_too_few_people_are_told_at_once() {
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
fn rule_07_authors_and_contributors_cannot_approve_their_own_change() {
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
fn rule_07_an_unattributed_commit_needs_one_more_person_or_blocks() {
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
    let still = skipped.clone().for_unattributed(Unattributed::OneMore);
    assert_eq!(
        (still.outcome, still.obligations.len(), &still.skipped_by),
        (Outcome::Skip, 0, &skipped.skipped_by)
    );
    assert!(
        still.reasons[0].contains("skip the change all the same"),
        "{still:?}"
    );
    assert_eq!(
        skipped.for_unattributed(Unattributed::Block).outcome,
        Outcome::Block
    );
}

#[test]
fn rule_08_a_stronger_method_satisfies_a_weaker_and_never_the_reverse() {
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
fn rule_09_the_shortest_limit_holds() {
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
fn rule_15_a_question_that_tells_of_a_cut_list_is_explained_in_whole_sentences() {
    let asked = json!({"branch": "main", "complete": false, "paths": ["docs/a"]});
    let asked = Hypothesis::parse(asked.to_string().as_bytes()).unwrap();
    let policy = document(ORIGINAL);
    let answer = asked.judged_by(
        Some(&policy),
        &ProjectDefaults::default(),
        &ControlFiles::default(),
    );
    assert_eq!(
        answer.trace[0].reason.as_deref(),
        Some("The file list is incomplete: the question says so.")
    );
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
        answer.trace[4].matched[..],
        [
            "Production deploys require passkey".to_owned(),
            "Docs skip approval".to_owned()
        ]
    );
    assert_eq!(
        answer.trace[4].obligations[..],
        ["Production deploys require passkey".to_owned()]
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

/// Found by fuzzing.
#[test]
fn a_refused_question_repeats_nothing_that_hides() {
    let name = format!("old\u{7f}\u{202e}{}", "x".repeat(100_000));
    let asked = json!({ "branch": "main", name: "docs/y" });
    let refused = Hypothesis::parse(asked.to_string().as_bytes()).expect_err("no such member");
    let told = refused.to_string();
    assert!(
        told.contains(r"old\u{7f}\u{202e}xxx") && told.chars().count() < 400,
        "{told}"
    );
}

#[test]
fn a_change_too_costly_to_judge_meets_every_rule_and_is_told_so() {
    let braces = |n: usize| format!("{}{{x,y}}{n}", "{a,a*,aa}".repeat(30));
    let globs: Vec<String> = (0..200).map(braces).collect();
    let document = policy(&json!({"rules": [
        {"name": "costly", "match": {"branch": "main", "paths": globs}, "require": {"method": ["passkey"], "quorum": 2}},
        {"name": "other", "match": {"branch": "main", "paths": ["b"]}, "require": {"method": ["passkey"]}},
        {"name": "docs", "match": {"branch": "main", "paths": ["a*"]}, "action": "skip"},
        {"name": "fire", "match": {"branch": "main"}, "require": {"method": ["passkey"], "quorum": 2, "break_glass": true}},
    ]}));
    let paths: Vec<String> = (0..40).map(|n| format!("{}x{n}", "a".repeat(4_000))).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let answer = on_main(&document, &paths);
    let names: Vec<&str> = answer.obligations.iter().map(|it| it.rule.as_str()).collect();
    assert_eq!(names, ["costly", "other", "default"]);
    assert_eq!(answer.break_glass.len(), 1);
    assert_eq!(
        (answer.trace.len(), &answer.trace[0].doubts[..]),
        (1, &[Doubt::TooCostly][..])
    );
    assert!(
        answer.reasons[0].contains("would take too long"),
        "{:?}",
        answer.reasons
    );
    assert!(!answer.reasons[0].contains("incomplete"));
}
