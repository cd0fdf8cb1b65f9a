//! What went around the gate on GitLab is found, however it got there: merges, squashes, fast-forwards, direct pushes,
//! pushes by force, hand-made merges, forged statuses. Cases A8, A9, E10, E12 and E18 of the threats.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::support::browser::Browser;
use crate::support::forge::gitlab::merging::MergeWish;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Change;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::items;

/// A bypass is reported within this, webhooks or not.
const FOUND_MAX: Duration = Duration::from_secs(60);

impl Gated {
    /// A gated project and Mia, a Maintainer who merges.
    pub async fn with_mia(settings: Value) -> (Gated, u64) {
        let it = Gated::start_with(Hook::Token, settings).await;
        let mia = it.gitlab.add_user("mia", "Mia", "mia@example.test");
        it.gitlab.add_member(PROJECT, mia, MAINTAINER);
        it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
        (it, mia)
    }

    /// Waits until the appliance has seen the branch on this commit.
    pub async fn seen(&self, branch: &str, commit: &str) {
        let started = Instant::now();
        loop {
            let seen = self.ada.journal("branch.observed").await;
            let at = |it: &Value| {
                it["data"]["branch"] == format!("refs/heads/{branch}") && it["data"]["commit"] == commit
            };
            if seen.iter().any(at) {
                return;
            }
            assert!(
                started.elapsed() < FOUND_MAX,
                "{branch} was never seen on {commit}: {seen:#?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// All exceptions of a kind, oldest first.
    pub async fn exceptions(&self, kind: &str) -> Vec<Value> {
        let mut all = items(&self.auditor.get("/api/v1/exceptions").await);
        all.retain(|it| it["type"] == format!("exception.{kind}"));
        all.reverse();
        all
    }

    /// Waits until so many bypasses have been reported.
    async fn reported(&self, count: usize) -> Vec<Value> {
        self.told("unapproved_change", count).await
    }

    /// Waits until so many exceptions of a kind have been reported.
    pub async fn told(&self, kind: &str, count: usize) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let found = self.exceptions(kind).await;
            if found.len() >= count {
                assert_eq!(found.len(), count, "{found:#?}");
                return found;
            }
            assert!(started.elapsed() < FOUND_MAX, "not {count}: {found:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Opened, approved by Bea and green.
    pub async fn approved(&self, branch: &str, target: &str) -> Change {
        let change = self.open(branch, target);
        let id = self.pending(&change, target).await;
        self.bea.approve(&id).await;
        self.expect_status(&change.head, target, "success");
        change
    }
}

pub fn commit(name: &str, file: &str) -> NewCommit {
    let email = format!("{}@example.test", name.to_lowercase());
    NewCommit::by(
        name,
        &email,
        &format!("Write {file}"),
        vec![Edit::write(file, "x\n")],
    )
}

/// `data` of the one exception there is.
fn only(found: &[Value]) -> &Value {
    assert_eq!(found.len(), 1, "{found:#?}");
    &found[0]["data"]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_an_approved_change_lands_is_matched_to_its_approval() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let squash = MergeWish {
        squash: Some(true),
        ..MergeWish::default()
    };
    for (method, wish) in [
        ("merge", MergeWish::default()),
        ("merge", squash.clone()),
        ("rebase_merge", MergeWish::default()),
        ("ff", MergeWish::default()),
        ("ff", squash),
    ] {
        it.gitlab.set(PROJECT, |it| it.merge_method = method.to_owned());
        let name = format!("{method}-{}", wish.squash.is_some());
        let change = it.approved(&name, "main").await;
        it.gitlab
            .try_merge_as(PROJECT, change.iid, mia, &wish)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
    }
    // The branch moves on under an approved change, so that the merge commit has another tree than its head.
    it.gitlab.set(PROJECT, |it| it.merge_method = "merge".to_owned());
    let (first, second) = (it.approved("one", "main").await, it.approved("two", "main").await);
    for change in [first, second] {
        it.gitlab.merge_as(PROJECT, change.iid, mia);
    }
    it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_merge_train_lands_is_matched_car_by_car() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    // What is not approved does not get onto the train.
    let waiting = it.open("waiting", "main");
    it.pending(&waiting, "main").await;
    it.expect_status(&waiting.head, "main", "pending");
    let refused = it.gitlab.try_join_train(PROJECT, waiting.iid, mia);
    assert_eq!(refused, Err("ci_still_running".to_owned()));

    let (first, moved, last) = (
        it.approved("one", "main").await,
        it.approved("two", "main").await,
        it.approved("three", "main").await,
    );
    let mut tried = Vec::new();
    for change in [&first, &moved, &last] {
        let on = it.gitlab.try_join_train(PROJECT, change.iid, mia);
        tried.push(on.unwrap_or_else(|e| panic!("!{}: {e}", change.iid)));
    }
    // A push takes a car off, and the one behind it is made anew.
    let pushed = it.push(&moved, "late.rs");
    it.pending(&pushed, "main").await;
    let landed = it.gitlab.run_train(PROJECT, "main");
    let cars: Vec<u64> = landed.iter().map(|it| it.0).collect();
    assert_eq!(cars, [first.iid, last.iid]);
    assert_eq!(landed[0].1, tried[0]);
    assert_ne!(landed[1].1, tried[2]);
    it.seen("main", &landed[1].1).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    // The train's own commits are nobody's to judge: no status of ours is on them.
    it.gitlab.settle(SOON);
    for sha in tried.iter().chain(landed.iter().map(|it| &it.1)) {
        let posted = it.gitlab.calls_to("POST", &format!("/statuses/{sha}"));
        assert!(posted.is_empty(), "{posted:#?}");
    }
    it.gitlab.assert_no_violations();

    // A car with something in it that nobody approved is found like any merge.
    it.gitlab
        .set(PROJECT, |it| it.only_allow_merge_if_pipeline_succeeds = false);
    it.gitlab
        .try_join_train(PROJECT, pushed.iid, mia)
        .expect("nothing holds it");
    let landed = it.gitlab.run_train(PROJECT, "main");
    assert_eq!(landed.len(), 1);
    it.seen("main", &landed[0].1).await;
    let found = it.reported(1).await;
    let data = only(&found);
    assert_eq!(
        (
            &data["way"],
            &data["commit"],
            &data["change"]["number"],
            &data["by"]["username"]
        ),
        (
            &json!("merged"),
            &json!(landed[0].1),
            &json!(pushed.iid),
            &json!("mia")
        ),
        "{data:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_appliance_merges_past_a_train_and_the_cars_behind_it_still_match() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let car = it.approved("car", "main").await;
    let tried = it.gitlab.try_join_train(PROJECT, car.iid, mia).expect("approved");
    // From now on the appliance merges what is approved.
    let path = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.integration.id, it.project
    );
    let all =
        json!({"branch_patterns": ["main", "production"], "required_approval_count": 1, "auto_merge": true});
    it.ada.put(&path, &all).await.expect(200);
    let quick = it.open("quick", "main");
    it.bea.approve(&it.pending(&quick, "main").await).await;
    it.gitlab.expect("the merge", SOON, |gitlab| {
        gitlab.merge_request(PROJECT, quick.iid).state == "merged"
    });
    let landed = it.gitlab.run_train(PROJECT, "main");
    for (iid, commit) in &landed {
        assert_eq!(*iid, car.iid);
        assert_ne!(*commit, tried, "the train stands on what was merged meanwhile");
        it.seen("main", commit).await;
    }
    assert_eq!(it.gitlab.merge_request(PROJECT, car.iid).state, "merged");
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_push_is_reported_with_who_and_what_and_waits_for_somebody_else_to_look_it_over() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let mia_here = it.ada.bring_in(&it.appliance, "Mia", &["admin"]).await;
    it.ada
        .link_account(&mia_here, &it.integration, &mia.to_string())
        .await;
    let before = it.gitlab.head(PROJECT, "main");
    let pushed = it
        .gitlab
        .push_anyway(PROJECT, "main", mia, &commit("Mia", "hotfix.rs"));
    it.seen("main", &pushed).await;
    let found = it.exceptions("unapproved_change").await;
    let data = only(&found);
    assert_eq!(
        (&data["way"], &data["by"]["username"], &data["change"]),
        (&json!("pushed"), &json!("mia"), &Value::Null),
        "{data:#}"
    );
    assert_eq!(
        (&data["before"], &data["commit"], &data["commits"]),
        (&json!(before), &json!(pushed), &json!([pushed])),
        "{data:#}"
    );
    assert_eq!(found[0]["state"], "open");

    let path = format!(
        "/api/v1/exceptions/{}/review",
        found[0]["id"].as_str().unwrap_or_default()
    );
    let own = mia_here.post(&path, &json!({"note": "It was urgent."})).await;
    assert_eq!(own.status, 403, "whoever did it can't look it over: {own:?}");
    it.ada
        .post(&path, &json!({"note": "Agreed by phone, looked at the diff."}))
        .await
        .expect(200);
    let page = it.ada.get("/dashboard/exceptions").await.text();
    assert!(
        page.contains("Mia pushed to main directly, around the gate"),
        "{page}"
    );
    assert!(page.contains("Agreed by phone"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_taken_away_by_force_is_reported_even_where_nothing_new_came() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let first = it.gitlab.head(PROJECT, "main");
    let change = it.approved("feature", "main").await;
    it.gitlab.merge_as(PROJECT, change.iid, mia);
    it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    it.gitlab.force_push_anyway(PROJECT, "main", mia, &first);
    it.gitlab.settle(SOON);
    let started = Instant::now();
    let found = loop {
        let found = it.exceptions("unapproved_change").await;
        if !found.is_empty() {
            break found;
        }
        assert!(started.elapsed() < FOUND_MAX, "the force-push was never reported");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let data = only(&found);
    assert_eq!(
        (&data["way"], &data["commit"]),
        (&json!("forced"), &json!(first)),
        "{data:#}"
    );
    assert_eq!(data["by"]["username"], "mia", "{data:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_made_merge_with_something_else_in_it_is_not_the_approved_change() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let change = it.approved("feature", "main").await;
    let evil = vec![Edit::write("backdoor.rs", "open\n")];
    let pushed = it
        .gitlab
        .push_evil_merge(PROJECT, "main", mia, &change.head, evil);
    it.seen("main", &pushed).await;
    let found = it.exceptions("unapproved_change").await;
    let data = only(&found);
    assert_eq!(data["commit"], json!(pushed), "{data:#}");
    let commits = data["commits"].as_array().expect("commits");
    assert!(commits.contains(&json!(pushed)), "{data:#}");
    assert_eq!(data["by"]["username"], "mia", "{data:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_another_head_than_the_approved_one_is_reported_once() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    it.gitlab.hooks_off();
    let change = it.open("feature", "main");
    it.gitlab.hooks_on();
    it.gitlab.merge_past_all_checks(PROJECT, change.iid, mia);
    let landed: Sha = it.gitlab.head(PROJECT, "main");
    it.seen("main", &landed).await;
    // Both lookers have seen it: the branch's and the merge request's.
    let started = Instant::now();
    while it.ada.journal("change.observed").await.is_empty() {
        assert!(started.elapsed() < FOUND_MAX, "the merge request was never read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = it.exceptions("unapproved_change").await;
    let data = only(&found);
    assert_eq!(
        (&data["way"], &data["commit"], &data["change"]["number"]),
        (&json!("merged"), &json!(landed), &json!(change.iid)),
        "{data:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_appliance_merged_itself_is_never_reported() {
    let (it, _) = Gated::with_mia(json!({"auto_merge": true})).await;
    for name in ["one", "two", "three"] {
        let change = it.open(name, "main");
        it.bea.approve(&it.pending(&change, "main").await).await;
        it.gitlab.expect("the merge", SOON, |gitlab| {
            gitlab.merge_request(PROJECT, change.iid).state == "merged"
        });
    }
    it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_the_appliance_was_away_is_found_at_its_start() {
    let (mut it, mia) = Gated::with_mia(json!({})).await;
    let change = it.approved("feature", "main").await;
    it.appliance.stop().await;
    it.gitlab.merge_as(PROJECT, change.iid, mia);
    let pushed = it
        .gitlab
        .push_anyway(PROJECT, "main", mia, &commit("Mia", "quiet.rs"));
    it.appliance.restart().await;
    it.seen("main", &pushed).await;
    let found = it.exceptions("unapproved_change").await;
    let data = only(&found);
    assert_eq!(
        (&data["way"], &data["commits"]),
        (&json!("pushed"), &json!([pushed])),
        "{data:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_appears_under_a_gated_pattern_is_judged_by_what_is_new_in_it() {
    let (it, mia) = Gated::with_mia(json!({"branch_patterns": ["main", "release/*"]})).await;
    let main = it.gitlab.head(PROJECT, "main");
    it.gitlab
        .try_create_branch(PROJECT, "release/1", "main", mia)
        .expect("a Maintainer may");
    it.seen("release/1", &main).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    let loose = it.gitlab.loose_commit(PROJECT, &main, &commit("Mia", "own.rs"));
    it.gitlab
        .try_create_branch(PROJECT, "release/2", &loose, mia)
        .expect("a Maintainer may");
    it.seen("release/2", &loose).await;
    let found = it.exceptions("unapproved_change").await;
    let data = only(&found);
    assert_eq!(
        (&data["way"], &data["commits"]),
        (&json!("created"), &json!([loose])),
        "{data:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_around_the_gate_once_more_is_reported_once_more() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let before = it.gitlab.head(PROJECT, "main");
    let pushed = it
        .gitlab
        .push_anyway(PROJECT, "main", mia, &commit("Mia", "hotfix.rs"));
    it.reported(1).await;
    // Taken away by force, and pushed again.
    it.gitlab.force_push_anyway(PROJECT, "main", mia, &before);
    it.reported(2).await;
    it.gitlab.force_push_anyway(PROJECT, "main", mia, &pushed);
    it.reported(3).await;
    // And into another gated branch.
    it.gitlab.force_push_anyway(PROJECT, "production", mia, &pushed);
    let found = it.reported(4).await;
    let last = &found[3]["data"];
    assert_eq!(
        (&last["target"], &last["commits"]),
        (&json!("refs/heads/production"), &json!([pushed])),
        "{last:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_made_merge_that_takes_others_work_away_is_not_the_approved_change() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let (fix, change) = (
        it.approved("fix", "main").await,
        it.approved("feature", "main").await,
    );
    it.gitlab.merge_as(PROJECT, fix.iid, mia);
    it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    // A merge whose tree is the approved head's: the fix that came in meanwhile is gone.
    let undone = vec![Edit::delete("fix.rs")];
    let pushed = it
        .gitlab
        .push_evil_merge(PROJECT, "main", mia, &change.head, undone);
    it.seen("main", &pushed).await;
    let found = it.reported(1).await;
    assert_eq!(found[0]["data"]["commit"], json!(pushed), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_while_a_project_was_taken_away_and_added_again_is_reported() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let path = format!("/api/v1/integrations/{}/projects", it.integration.id);
    let gone = it.ada.delete(&format!("{path}/{}", it.project)).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let pushed = it
        .gitlab
        .push_anyway(PROJECT, "main", mia, &commit("Mia", "meanwhile.rs"));
    let body =
        json!({"project_id": PROJECT, "branch_patterns": ["refs/heads/main"], "required_approval_count": 1});
    let again = it.ada.post(&path, &body).await.expect(201);
    assert_eq!(
        again["branch_patterns"],
        json!(["main"]),
        "a full ref means the branch"
    );
    let found = it.reported(1).await;
    assert_eq!(found[0]["data"]["commits"], json!([pushed]), "{found:#?}");
}

/// A8 and A23: what is approved is the fork's head; nothing is ever written to the fork, and its owner's status there
/// counts nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_from_a_fork_is_gated_and_merged_at_its_approved_head() {
    const FORK: u64 = 43;
    let (it, _) = Gated::with_mia(json!({"auto_merge": true})).await;
    it.gitlab.fork(PROJECT, FORK, "carl/app");
    it.gitlab.add_member(FORK, it.carl_account, MAINTAINER);
    it.gitlab.branch(FORK, "topic", "main");
    let head = it
        .gitlab
        .commit(FORK, "topic", &Gated::commit_of_carl("forked.rs"));
    let iid =
        it.gitlab
            .open_fork_merge_request(PROJECT, FORK, "topic", "main", "From a fork", it.carl_account);
    let change = Change {
        iid,
        branch: "topic".to_owned(),
        head,
    };
    let request = it.request(&change, "main", "pending").await;
    let id = request["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        request["subject"]["source_project_id"],
        FORK.to_string(),
        "{request:#}"
    );
    it.gitlab.post_status(
        FORK,
        &change.head,
        it.carl_account,
        "signedapproval/main",
        "topic",
        "success",
    );
    // Who pushed to the fork can't be read, so it may be anybody: one more approver.
    it.bea.approve(&id).await;
    it.ada.approve(&id).await;
    it.gitlab.expect("the merge", FOUND_MAX, |gitlab| {
        gitlab.merge_request(PROJECT, change.iid).state == "merged"
    });
    it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
    let written = it
        .gitlab
        .calls()
        .into_iter()
        .filter(|call| call.method != "GET" && call.path.starts_with(&format!("/projects/{FORK}/")));
    assert_eq!(written.count(), 0, "nothing is written to the fork");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_named_like_the_branch_changes_nothing() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let loose = it.gitlab.loose_commit(
        PROJECT,
        &it.gitlab.head(PROJECT, "main"),
        &commit("Mia", "evil.rs"),
    );
    let change = it.open("feature", "main");
    it.gitlab.push_tag(PROJECT, "main", &loose, mia);
    it.bea.approve(&it.pending(&change, "main").await).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.merge_as(PROJECT, change.iid, mia);
    it.seen("main", &it.gitlab.head(PROJECT, "main")).await;
    assert_eq!(it.exceptions("unapproved_change").await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_else_set_is_set_back_and_reported() {
    let it = Gated::start().await;
    let eve = it.gitlab.add_user("eve", "Eve", "eve@example.test");
    it.gitlab.add_member(PROJECT, eve, DEVELOPER);
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.gitlab.post_status(
        PROJECT,
        &change.head,
        eve,
        "signedapproval/main",
        "feature",
        "success",
    );
    let shown = it
        .gitlab
        .shown_status(PROJECT, &change.head, "signedapproval/main");
    assert_eq!(shown.expect("a status").author, eve, "GitLab takes it");

    let back = |gitlab: &crate::support::forge::gitlab::FakeGitLab| {
        let shown = gitlab.shown_status(PROJECT, &change.head, "signedapproval/main");
        shown.is_some_and(|it| it.author != eve && it.status == "pending")
    };
    it.gitlab.expect("our status shown again", FOUND_MAX, back);
    let found = it.exceptions("status_forged").await;
    let data = only(&found);
    assert_eq!(
        (&data["by"]["username"], &data["shown"], &data["request"]),
        (&json!("eve"), &json!("success"), &json!(id)),
        "{data:#}"
    );
    let page = it.ada.get("/dashboard/exceptions").await.text();
    assert!(
        page.contains("Eve set our status signedapproval/main to success"),
        "{page}"
    );

    // It works on: the approval turns it green, and that is ours.
    it.bea.approve(&id).await;
    it.gitlab.expect("our success", SOON, |gitlab| {
        let shown = gitlab.shown_status(PROJECT, &change.head, "signedapproval/main");
        shown.is_some_and(|it| it.author != eve && it.status == "success")
    });
    assert_eq!(it.exceptions("status_forged").await.len(), 1);
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_set_while_nobody_asked_is_set_back_once_somebody_asks_again() {
    let (it, mia) = Gated::with_mia(json!({})).await;
    let before = it.gitlab.head(PROJECT, "production");
    it.seen("production", &before).await;
    let change = it.open("feature", "production");
    it.pending(&change, "production").await;
    it.gitlab.merge_past_all_checks(PROJECT, change.iid, mia);
    it.reported(1).await;
    let name = "signedapproval/production";
    it.gitlab
        .post_status(PROJECT, &change.head, mia, name, "feature", "success");
    let started = Instant::now();
    while it.exceptions("status_forged").await.is_empty() {
        assert!(started.elapsed() < FOUND_MAX, "it is reported");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The merge is undone, and the same commit is offered once more.
    it.gitlab.force_push(PROJECT, "production", mia, &before);
    let iid = it
        .gitlab
        .open_merge_request(PROJECT, "feature", "production", "Once more", it.carl_account);
    let again = Change { iid, ..change };
    it.request(&again, "production", "pending").await;
    it.gitlab.expect("our status shown again", FOUND_MAX, |gitlab| {
        let shown = gitlab.shown_status(PROJECT, &again.head, name);
        shown.is_some_and(|it| it.author != mia && it.status == "pending")
    });
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_the_forge_took_and_did_not_keep_is_sent_again() {
    let it = Gated::start().await;
    it.gitlab.fail(
        "POST",
        "/statuses/",
        1,
        crate::support::forge::gitlab::faults::Trouble::NotStored,
    );
    let change = it.open("feature", "main");
    it.expect_status_within(&change.head, "main", "pending", SOON);
    let lost = it.ada.journal("status.lost").await;
    assert_eq!(lost.len(), 1, "{lost:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_status_that_decides_nothing_is_called_so() {
    let it = Gated::start().await;
    let change = it.approved("feature", "main").await;
    let id = it.requests(change.iid).await[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    // The project's own pipeline for the merge request comes late, and GitLab goes by that one.
    it.gitlab
        .add_merged_results_pipeline(PROJECT, change.iid, "success", it.carl_account);
    let started = Instant::now();
    loop {
        let page = it.bea.get(&format!("/a/{id}")).await.text();
        if page.contains("approved, and not in force") {
            assert!(page.contains("goes by another pipeline"), "{page}");
            break;
        }
        assert!(started.elapsed() < FOUND_MAX, "nobody was told: {page}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = it.ada.journal("status.read_back").await;
    assert_eq!(told.len(), 1, "{told:#?}");
}

/// Everything at once, for people: the gate's findings, a push, a forged status, a hand-made merge, and the look afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn what_went_around_the_gate_is_read_and_looked_over_in_the_browser() {
    if !can_run("what_went_around_the_gate_is_read_and_looked_over_in_the_browser") {
        return;
    }
    let (it, mia) = Gated::with_mia(json!({"auto_merge": false})).await;
    let eve = it.gitlab.add_user("eve", "Eve", "eve@example.test");
    it.gitlab.add_member(PROJECT, eve, DEVELOPER);
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    it.gitlab.post_status(
        PROJECT,
        &change.head,
        eve,
        "signedapproval/main",
        "feature",
        "success",
    );
    let started = Instant::now();
    while it.exceptions("status_forged").await.is_empty() {
        assert!(started.elapsed() < FOUND_MAX, "the forged status was never found");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let approved = it.approved("other", "main").await;
    let evil = vec![Edit::write("backdoor.rs", "open\n")];
    let merged = it
        .gitlab
        .push_evil_merge(PROJECT, "main", mia, &approved.head, evil);
    it.seen("main", &merged).await;
    let pushed = it
        .gitlab
        .push_anyway(PROJECT, "main", mia, &commit("Mia", "hotfix.rs"));
    it.seen("main", &pushed).await;

    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let invited = it.ada.invite("Dora", &["admin"]).await;
    let url = invited["invite_url"].as_str().expect("a link");
    browser.goto(url).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    let page = |path: &str| format!("{}{path}", it.appliance.public_url());
    browser.goto(&page("/dashboard")).await;
    browser.wait_for_text("Mia pushed to main directly").await;
    shoot(&browser, "bypass-dashboard").await;
    browser.goto(&page("/dashboard/integrations/gitlab")).await;
    browser.wait_for_text("Gate:").await;
    browser.click("details.gate summary").await;
    shoot(&browser, "gate-findings").await;
    browser.goto(&page("/dashboard/exceptions")).await;
    browser.wait_for_text("Eve set our status").await;
    browser.wait_for_text("differs in backdoor.rs").await;
    shoot(&browser, "bypass-exceptions").await;
    browser
        .fill(
            "li textarea",
            "Talked to Mia: an urgent fix, read line by line and kept.",
        )
        .await;
    browser.click("li form button").await;
    browser.wait_for_text("Looked over by Dora").await;
    shoot(&browser, "bypass-reviewed").await;
    assert_clean(&browser, &it.appliance).await;
}
