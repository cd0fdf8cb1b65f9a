//! What holds for any policy, change and people, against an obvious reading of the rules.

use super::*;
use proptest::prelude::*;

/// Steps that any one match may take: a constant times the path times the glob, whatever they hold.
fn steps_allowed(glob: &str, path: &str) -> u64 {
    // Folding makes at most 18 characters of one, and a glob makes at most three states of a character.
    let (glob, path) = (
        nfkc_casefold(glob).len() + glob.len(),
        nfkc_casefold(path).len() + path.len(),
    );
    16 * (glob as u64 + 2) * (path as u64 + 2)
}

/// Each glob with a segment that nearly matches: it begins and ends as the glob asks, so that only the whole of it tells.
/// Paths are long enough for the glob's own length to count no more.
#[test]
fn globs_take_linear_time_whatever_they_hold() {
    let bombs = [
        ("**/**/**/*bx".to_owned(), "ax"),
        ("*a".repeat(500) + "*b*x", "aaaaaaaax"),
        ("**/".repeat(300) + "abx", "abbx"),
        ("**/*/".repeat(200) + "bx", "abx"),
        ("a*/**/".repeat(150) + "bx", "abx"),
        ("{a,a*}".repeat(160) + "bx", "aaabbx"),
        ("[!b]*".repeat(200) + "bx", "aaabbbx"),
        ("?*".repeat(500) + "bx", "aaaabx"),
        ("{aa,a}*{aa,a}*b*b*{x,xx}".to_owned(), "aaaaaaabx"),
    ];
    for (glob, near) in &bombs {
        let compiled = PathGlob::new(glob).unwrap();
        let mut twice = [0, 0];
        for (i, kib) in [8, 16].into_iter().enumerate() {
            let deep = format!("{near}/").repeat(kib * 1024 / (near.len() + 1)) + "y";
            let flat = "a".repeat(kib * 1024 - 2) + "bx";
            for path in [&deep, &flat] {
                let mut effort = Effort::default();
                let view = PathView::new(&path.as_str().into());
                compiled.demands(&view, &mut effort);
                compiled.grants(&view, &mut effort);
                assert!(
                    effort.steps <= steps_allowed(glob, path),
                    "{glob:.40}: {} steps",
                    effort.steps
                );
                twice[i] += effort.steps;
            }
        }
        assert!(twice[1] * 10 <= 22 * twice[0] + 640, "{glob:.40}: {twice:?}");
    }
}

#[test]
fn a_limit_ends_matching_in_the_middle_of_a_path() {
    let braces = format!("{}x", "{a,a*,aa}".repeat(100));
    let path = "a".repeat(4_094) + "bx";
    let view = PathView::new(&path.as_str().into());
    for glob in [braces, "*a".repeat(500) + "c*x", "?*".repeat(500) + "c*bx"] {
        let compiled = PathGlob::new(&glob).unwrap();
        let mut free = Effort::default();
        compiled.demands(&view, &mut free);
        let mut held = Effort::limited(2_000);
        compiled.demands(&view, &mut held);
        assert!(free.steps > 8_000, "{glob:.20}: {} steps", free.steps);
        assert!(
            held.is_spent() && held.steps < 6_000,
            "{glob:.20}: {} steps",
            held.steps
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

/// Globs of the kinds that the index tells apart, over few letters, so that they meet paths.
fn an_indexed_glob() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => "[aAb]{1,2}",
        1 => Just("a.b".to_owned()),
        1 => Just("*".to_owned()),
        1 => "\\*\\.[abB]",
        1 => "[aB]\\*",
        1 => "\\*[ab]",
        1 => "\\?[ab]",
        1 => Just("{a,B}".to_owned()),
        1 => Just("[a-c]".to_owned()),
        1 => Just("[!a]".to_owned()),
        1 => Just("**".to_owned()),
        1 => Just("ſ".to_owned()),
        1 => Just("ß".to_owned()),
    ];
    (
        proptest::collection::vec(segment, 1..4),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(segments, rooted, folder)| {
            let (root, end) = (if rooted { "/" } else { "" }, if folder { "/" } else { "" });
            format!("{root}{}{end}", segments.join("/"))
        })
}

fn an_indexed_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        6 => "[aAbB]{1,2}",
        2 => "[aAb]{1,2}\\.[abB]",
        1 => Just(String::new()),
        1 => Just("s".to_owned()),
        1 => Just("SS".to_owned()),
        1 => Just("ß".to_owned()),
        1 => Just("ａ".to_owned()),
        1 => Just("a\u{200d}".to_owned()),
        1 => Just("CODEOWNERS".to_owned()),
        1 => Just(".GitHub/workflows".to_owned()),
    ];
    proptest::collection::vec(segment, 1..5).prop_map(|it| it.join("/"))
}

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

    /// The index must find exactly the rules that the globs themselves match, for paths of every kind.
    #[test]
    fn the_index_finds_what_the_globs_match(
        globs in proptest::collection::vec(an_indexed_glob(), 1..8),
        excluded in proptest::collection::vec(an_indexed_glob(), 0..2),
        paths in proptest::collection::vec(an_indexed_path(), 1..6),
    ) {
        let rule = |name: &str, effect: (&str, Value)| {
            json!({ "name": name, "match": { "paths": globs, "exclude_paths": excluded }, effect.0: effect.1 })
        };
        let require = json!({ "method": ["passkey"] });
        let glass = json!({ "method": ["passkey"], "quorum": 2, "break_glass": true });
        let document = json!({ "rules": [
            rule("ask", ("require", require)), rule("skip", ("action", json!("skip"))), rule("fire", ("require", glass)),
        ] });
        let Ok(document) = Document::parse(document.to_string().as_bytes()) else { return Ok(()) };
        let compile = |list: &[String]| -> Vec<PathGlob> {
            list.iter().map(|it| PathGlob::new(it).expect("the document was valid")).collect()
        };
        let (own, left_out, effort) = (compile(&globs), compile(&excluded), &mut Effort::default());
        let names: Vec<&str> = paths.iter().map(String::as_str).collect();
        let answer = on_main(&document, &names);
        for entry in &answer.trace {
            let path = paths.iter().find(|it| RepoPath::from(it.as_str()).shown() == entry.path).expect("it was asked");
            let view = PathView::new(&path.as_str().into());
            let demands = |list: &[PathGlob], effort: &mut Effort| list.iter().any(|it| it.demands(&view, effort));
            let grants = |list: &[PathGlob], effort: &mut Effort| list.iter().any(|it| it.grants(&view, effort));
            let ask = demands(&own, effort) && !grants(&left_out, effort);
            let skip = grants(&own, effort) && !demands(&left_out, effort);
            let expected: Vec<&str> = [("ask", ask), ("skip", skip), ("fire", skip)]
                .into_iter()
                .filter_map(|(name, holds)| holds.then_some(name))
                .collect();
            prop_assert_eq!(&entry.matched[..], &expected[..], "{} of {:?} but {:?}", path, globs, excluded);
            let control = ControlFiles::default().hold(&view, effort);
            prop_assert_eq!(entry.doubts.contains(&Doubt::ControlFile), control, "{}", path);
        }
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
