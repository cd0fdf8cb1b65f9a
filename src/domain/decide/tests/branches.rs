//! What came into a gated branch and which approval covers it. Case E12 of the threats.

use super::*;
use crate::domain::branch::{Content, LandedAs, LandedChange, LandedCommit, Landing, Moved, Tip, Way};
use crate::domain::command::ObserveBranch;

/// The full id of a short name.
fn sha(name: &str) -> String {
    Digest::of(name.as_bytes()).to_string()[..40].to_owned()
}

fn commit(name: &str, parents: &[&str]) -> LandedCommit {
    LandedCommit {
        id: sha(name),
        parents: parents.iter().map(|it| sha(it)).collect(),
        title: name.to_owned(),
    }
}

fn merged(number: u64, head: &str, landed: &[(&str, Content)]) -> LandedChange {
    let landed = landed.iter().map(|(commit, content)| LandedAs {
        commit: sha(commit),
        content: content.clone(),
    });
    LandedChange {
        number,
        head: sha(head),
        by: Some(Account {
            id: "5".into(),
            username: "eve".into(),
            name: "Eve".into(),
        }),
        landed: landed.collect(),
    }
}

fn landing(commits: &[LandedCommit], changes: &[LandedChange]) -> Landing {
    Landing {
        commits: commits.to_vec(),
        incomplete: None,
        changes: changes.to_vec(),
    }
}

/// A way, the change's number and the commits that nothing covers.
type Found = (Way, Option<u64>, BTreeSet<String>);

impl World {
    /// The branch goes from `before` to `after`; what is told of it.
    fn lands(&mut self, project: &ProjectId, moved: Moved, after: &str, landing: Landing) -> Vec<Found> {
        let tip: Option<Tip> = self.get(&Tip::row(project, MAIN)).unwrap();
        let first = self.seq;
        self.give(Command::ObserveBranch(Box::new(ObserveBranch {
            project: project.clone(),
            branch: MAIN.into(),
            before: tip.map(|it| it.commit),
            commit: Some(sha(after)),
            moved,
            landing: (moved != Moved::FirstSeen).then_some(landing),
            by: None,
        })))
        .unwrap();
        assert!(self.seq > first, "nothing was recorded");
        self.told.drain(..).collect()
    }

    /// A change of `base..head` that person 2 approves, if it is to be.
    fn change(&mut self, project: &ProjectId, head: &str, base: &str, approved: bool) -> RequestId {
        let mut facts = facts(project, &sha(head), MAIN);
        facts.base = sha(base);
        self.observe(facts);
        let request = self.current(project).unwrap();
        if approved {
            self.decision(&request, 2, Answer::Approve).unwrap();
        }
        request
    }
}

fn gated() -> (World, ProjectId) {
    let (mut world, project) = world(1, 3);
    world.lands(&project, Moved::FirstSeen, "m0", landing(&[], &[]));
    (world, project)
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|it| sha(it)).collect()
}

#[test]
fn the_first_look_judges_nothing() {
    let (world, project) = gated();
    let tip: Tip = world.get(&Tip::row(&project, MAIN)).unwrap().unwrap();
    assert_eq!((tip.commit, tip.gone), (sha("m0"), false));
}

#[test]
fn an_approved_merge_fast_forward_and_squash_are_covered() {
    let two = [commit("t1", &["m0"]), commit("t2", &["t1"])];
    let merge = [&two[..], &[commit("m1", &["m0", "t2"])]].concat();
    let squash = [commit("s1", &["m0"])];
    let joined = [commit("s1", &["m0"]), commit("m1", &["m0", "s1"])];
    let same = |it| (it, Content::Same);
    for (after, commits, landed) in [
        ("m1", &merge[..], vec![same("m1")]),
        ("t2", &two[..], vec![]),
        ("s1", &squash[..], vec![same("s1")]),
        ("m1", &joined[..], vec![same("s1"), same("m1")]),
    ] {
        let (mut world, project) = gated();
        world.change(&project, "t2", "m0", true);
        let found = world.lands(
            &project,
            Moved::Forward,
            after,
            landing(commits, &[merged(1, "t2", &landed)]),
        );
        assert_eq!(found, [], "{after} {landed:?}");
    }
}

#[test]
fn a_direct_push_a_force_push_and_a_new_branch_are_told_with_all_their_commits() {
    let pushed = landing(&[commit("x1", &["m0"]), commit("x2", &["x1"])], &[]);
    for (moved, way) in [
        (Moved::Forward, Way::Pushed),
        (Moved::Rewritten, Way::Forced),
        (Moved::Created, Way::Created),
    ] {
        let (mut world, project) = gated();
        let found = world.lands(&project, moved, "x2", pushed.clone());
        assert_eq!(found, [(way, None, names(&["x1", "x2"]))]);
    }
    // Forced back to where it once was: nothing is new, and something is gone.
    let (mut world, project) = gated();
    let found = world.lands(&project, Moved::Rewritten, "m-1", landing(&[], &[]));
    assert_eq!(found, [(Way::Forced, None, names(&[]))]);
}

#[test]
fn a_merge_without_an_approval_is_told_once_whoever_sees_it_first() {
    let commits = [commit("t2", &["m0"]), commit("m1", &["m0", "t2"])];
    let seen = landing(&commits, &[merged(1, "t2", &[("m1", Content::Same)])]);
    let merge_facts = |project: &ProjectId| {
        let mut it = facts(project, &sha("t2"), MAIN);
        it.base = sha("m0");
        it.state = ChangeState::Merged;
        it.merged = Some(crate::domain::facts::Merged {
            by: None,
            commit: Some(sha("m1")),
        });
        it
    };
    let told = [(Way::Merged, Some(1), names(&["t2", "m1"]))];

    let (mut world, project) = gated();
    world.change(&project, "t2", "m0", false);
    assert_eq!(world.lands(&project, Moved::Forward, "m1", seen.clone()), told);
    world.observe(merge_facts(&project));
    assert_eq!(world.told, []);

    let (mut world, project) = gated();
    world.change(&project, "t2", "m0", false);
    world.observe(merge_facts(&project));
    let found: Vec<Found> = world.told.drain(..).collect();
    assert_eq!(found, [(Way::Merged, Some(1), names(&[]))]);
    assert_eq!(world.lands(&project, Moved::Forward, "m1", seen), []);
}

#[test]
fn another_head_another_target_and_an_approval_taken_back_cover_nothing() {
    let commits = [commit("t2", &["m0"]), commit("t3", &["t2"])];
    // Approved at t2, merged at t3.
    let (mut world, project) = gated();
    world.change(&project, "t2", "m0", true);
    let found = world.lands(
        &project,
        Moved::Forward,
        "t3",
        landing(&commits, &[merged(1, "t3", &[])]),
    );
    assert_eq!(found, [(Way::Merged, Some(1), names(&["t2", "t3"]))]);

    // Approved, and then pushed to: the approval is void.
    let (mut world, project) = gated();
    world.change(&project, "t2", "m0", true);
    world.change(&project, "t3", "m0", false);
    let found = world.lands(
        &project,
        Moved::Forward,
        "t2",
        landing(&commits[..1], &[merged(1, "t2", &[])]),
    );
    assert_eq!(found, [(Way::Merged, Some(1), names(&["t2"]))]);
}

#[test]
fn what_landed_must_be_what_was_approved() {
    let commits = [commit("t2", &["m0"]), commit("m1", &["m0", "t2"])];
    for content in [
        Content::Differs(vec!["src/evil.rs".into()]),
        Content::Unknown("GitLab does not show it".into()),
    ] {
        let (mut world, project) = gated();
        world.change(&project, "t2", "m0", true);
        let change = merged(1, "t2", &[("m1", content)]);
        let found = world.lands(&project, Moved::Forward, "m1", landing(&commits, &[change]));
        assert_eq!(found, [(Way::Merged, Some(1), names(&["t2", "m1"]))]);
    }
}

#[test]
fn a_push_beneath_an_approved_change_is_not_covered_by_it() {
    // Somebody pushed x1 to the branch; the change was made on top of it, so nobody approved x1.
    let commits = [commit("x1", &["m0"]), commit("t2", &["x1"])];
    let (mut world, project) = gated();
    world.change(&project, "t2", "x1", true);
    let found = world.lands(
        &project,
        Moved::Forward,
        "t2",
        landing(&commits, &[merged(1, "t2", &[])]),
    );
    assert_eq!(found, [(Way::Pushed, None, names(&["x1"]))]);
}

#[test]
fn what_another_merged_change_with_the_same_head_has_beneath_it_is_not_lost() {
    // Approved and fast-forwarded; a second, unapproved merge request had the same head, and somebody pushed x1 beneath.
    let commits = [commit("x1", &["m0"]), commit("t2", &["x1"])];
    let (mut world, project) = gated();
    world.change(&project, "t2", "x1", true);
    let changes = [merged(1, "t2", &[]), merged(2, "t2", &[])];
    let found = world.lands(&project, Moved::Forward, "t2", landing(&commits, &changes));
    assert_eq!(found, [(Way::Pushed, None, names(&["x1"]))]);
}

#[test]
fn a_list_that_is_not_whole_is_told() {
    let (mut world, project) = gated();
    let cut = Landing {
        incomplete: Some("too many".into()),
        ..landing(&[], &[])
    };
    let found = world.lands(&project, Moved::Forward, "m9", cut);
    assert_eq!(found, [(Way::Pushed, None, names(&[]))]);
}

#[test]
fn what_was_read_against_another_place_is_not_recorded() {
    let (mut world, project) = gated();
    let before = world.seq;
    let stale = ObserveBranch {
        project: project.clone(),
        branch: MAIN.into(),
        before: Some(sha("elsewhere")),
        commit: Some(sha("x1")),
        moved: Moved::Forward,
        landing: Some(landing(&[commit("x1", &["m0"])], &[])),
        by: None,
    };
    assert_eq!(
        world.give(Command::ObserveBranch(Box::new(stale))),
        Ok(Reply::Nothing)
    );
    assert_eq!(world.seq, before);
}

proptest! {
    /// Whatever comes in, each new commit is either covered by an approved change's own range, or told of.
    #[test]
    fn every_new_commit_is_covered_or_told(
        shape in proptest::collection::vec((0usize..6, 0usize..6), 1..12),
        approve in any::<bool>(),
        head in 0usize..12,
    ) {
        let name = |at: usize| format!("c{at}");
        let commits: Vec<LandedCommit> = shape
            .iter()
            .enumerate()
            .map(|(at, (one, two))| {
                let parent = |back: usize| if back >= at { "m0".to_owned() } else { name(at - 1 - back) };
                let mut parents = vec![parent(*one)];
                if two != one {
                    parents.push(parent(*two));
                }
                let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
                commit(&name(at), &parents)
            })
            .collect();
        let head = head % commits.len();
        let tip = name(commits.len() - 1);
        let (mut world, project) = gated();
        world.change(&project, &name(head), "m0", approve);
        let landing = landing(&commits, &[merged(1, &name(head), &[])]);
        let found = world.lands(&project, Moved::Forward, &tip, landing);
        let told: BTreeSet<String> = found.into_iter().flat_map(|it| it.2).collect();
        // By hand: what the head reaches.
        let mut reached: BTreeSet<usize> = [head].into();
        loop {
            let ids: BTreeSet<String> = reached.iter().flat_map(|it| commits[*it].parents.clone()).collect();
            let more: BTreeSet<usize> = (0..commits.len()).filter(|at| ids.contains(&commits[*at].id)).collect();
            if more.is_subset(&reached) { break }
            reached.extend(more);
        }
        for (at, it) in commits.iter().enumerate() {
            let covered = approve && reached.contains(&at);
            prop_assert_eq!(told.contains(&it.id), !covered, "{} of {:?}", at, shape);
        }
    }
}
