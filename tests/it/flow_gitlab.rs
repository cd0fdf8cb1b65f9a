//! Merge requests on GitLab, from the webhook to the status, as a forge and its people see them. Every success that
//! reaches the forge is checked against the appliance's own API while it is being posted.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::authenticator::Authenticator;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::gated::Change;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::gated::WEBHOOK_MAX;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// A lost webhook shows in the state within this (contract, section 3.4).
const LOST_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_request_waits_for_an_approver_and_turns_green_once() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;

    let statuses = it.gitlab.statuses(PROJECT, &change.head);
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    assert_eq!(statuses[0].name, "signedapproval/main");
    let link = statuses[0].target_url.clone().unwrap_or_default();
    assert!(
        link.starts_with(&it.appliance.public_url()),
        "the status links to {link:?}"
    );
    assert!(link.ends_with(&id), "the status links to {link:?}");

    let own = it.carl.decide(&id, "approve", None).await;
    assert_problem!(own, 403, "self-approval");
    assert!(!it.carl.has_in_inbox(&id).await, "an author is not asked");
    assert!(it.bea.has_in_inbox(&id).await, "an approver is asked");

    let answer = it.bea.decide(&id, "approve", None).await.expect(200);
    assert_eq!(answer["status"], "approved", "{answer}");
    let credential = text(&answer, "credential");
    it.expect_status(&change.head, "main", "success");

    let request = it.auditor.request(&id).await;
    assert_eq!(request["status"], "approved", "{request}");
    assert_eq!(request["kind"], "change");
    assert_eq!(
        request["decisions"].as_array().map(Vec::len),
        Some(1),
        "{request}"
    );
    let decision = &request["decisions"][0];
    assert_eq!(decision["approver"]["id"], it.bea.id());
    assert_eq!(decision["credential"], credential);
    assert_eq!(request["obligations"][0]["approved"], 1, "{request}");
    let listed = it
        .auditor
        .get(&format!("/api/v1/approvals/{id}/credentials"))
        .await
        .expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["id"], credential);
    assert_eq!(
        it.gitlab.merge_request(PROJECT, change.iid).state,
        "opened",
        "nobody asked for a merge"
    );

    // Another change goes its whole way, so the first one's posts are all in.
    let other = it.open("other", "main");
    it.bea.approve(&it.pending(&other, "main").await).await;
    it.expect_status(&other.head, "main", "success");
    assert_eq!(
        it.posts(&change.head, "success").len(),
        1,
        "exactly one success is posted"
    );
    assert_eq!(
        it.posts(&change.head, "pending").len(),
        1,
        "exactly one pending is posted"
    );
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_counts_as_well_as_a_token() {
    let it = Gated::start_with(Hook::Signing, json!({})).await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.settle(SOON);
    for delivery in it.gitlab.deliveries() {
        for attempt in &delivery.attempts {
            assert!(
                attempt.status.is_some_and(|it| it < 300),
                "{}: {attempt:?}",
                delivery.event
            );
        }
    }
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_pushed_or_committed_cannot_approve() {
    let it = Gated::start().await;
    let commit = Gated::commit_of_carl("both.rs").committed_by("Bea", "bea@example.test");
    let change = it.open_with("both", "main", "By two", &commit);
    let id = it.pending(&change, "main").await;
    let refused = it.bea.decide(&id, "approve", None).await;
    assert_problem!(refused, 403, "self-approval");
    it.ada.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_change_is_merged_at_its_approved_head_where_a_project_asks() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    assert!(
        it.gitlab.calls_to("PUT", "/merge").is_empty(),
        "nothing is merged before the approval"
    );
    it.bea.approve(&id).await;
    it.gitlab.expect("the merge", SOON, |gitlab| {
        gitlab.merge_request(PROJECT, change.iid).state == "merged"
    });
    let merges = it.gitlab.calls_to("PUT", "/merge");
    assert!(
        merges.iter().all(|call| call.body["sha"] == change.head),
        "every merge names the approved head: {merges:?}"
    );
    let done = merges.iter().filter(|call| call.status == Some(200)).count();
    assert_eq!(done, 1, "{merges:?}");
    it.gitlab.assert_no_violations();
    assert!(it.ada.journal("exception.unapproved_change").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_during_the_ceremony_burns_it() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    let signed = it
        .bea
        .begin_decision(&id, "approve", None)
        .await
        .expect("Bea may decide");
    let pushed = it.push(&change, "more.rs");
    let next = it.pending(&pushed, "main").await;
    assert_ne!(next, id);
    let refused = it.bea.finish_decision(&signed).await;
    assert_problem!(refused, 409, "stale-subject");
    let again = it.bea.finish_decision(&signed).await;
    assert_eq!(again.status, 409, "the ceremony is burnt: {again:?}");
    assert_eq!(it.auditor.request(&id).await["status"], "superseded");
    assert_eq!(it.auditor.request(&next).await["status"], "pending");
    assert!(it.posts(&change.head, "success").is_empty());
    assert!(it.posts(&pushed.head, "success").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_after_the_approval_takes_the_green_back() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    it.bea.approve(&it.pending(&change, "main").await).await;
    it.expect_status(&change.head, "main", "success");
    let pushed = it.push(&change, "more.rs");
    it.expect_status(&pushed.head, "main", "pending");
    it.gitlab.expect("the old head is green no more", SOON, |gitlab| {
        gitlab
            .status(PROJECT, &change.head, "signedapproval/main")
            .as_deref()
            != Some("success")
    });
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_force_push_back_does_not_revive_an_approval() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let first = it.pending(&change, "main").await;
    it.bea.approve(&first).await;
    it.expect_status(&change.head, "main", "success");
    let pushed = it.push(&change, "more.rs");
    it.pending(&pushed, "main").await;
    it.gitlab
        .force_push(PROJECT, &change.branch, it.carl_account, &change.head);
    let again = text(&it.request(&change, "main", "pending").await, "id");
    assert_ne!(again, first, "the old head is asked for anew");
    it.expect_status(&change.head, "main", "pending");
    it.ada.approve(&again).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn retargeting_to_another_gated_branch_asks_anew() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let first = it.pending(&change, "main").await;
    it.bea.approve(&first).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab
        .retarget(PROJECT, change.iid, "production", it.carl_account);
    let second = it.pending(&change, "production").await;
    assert_ne!(first, second);
    it.gitlab
        .expect("the old target is green no more", SOON, |gitlab| {
            gitlab
                .status(PROJECT, &change.head, "signedapproval/main")
                .as_deref()
                != Some("success")
        });
    assert!(
        it.gitlab
            .status(PROJECT, &change.head, "signedapproval/production")
            .as_deref()
            == Some("pending"),
        "an approval for one branch is none for another"
    );
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn retargeting_to_an_ungated_branch_ends_the_request() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.gitlab
        .retarget(PROJECT, change.iid, "playground", it.carl_account);
    it.auditor.wait_for_status(&id, "superseded", SOON).await;
    let refused = it.bea.decide(&id, "approve", None).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let names: Vec<String> = it
        .gitlab
        .statuses(PROJECT, &change.head)
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert!(
        !names.contains(&"signedapproval/playground".to_owned()),
        "{names:?}"
    );
    assert!(it.posts(&change.head, "success").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_not_gated_gets_no_status() {
    let it = Gated::start().await;
    let beside = it.open("beside", "playground");
    let gated = it.open("feature", "main");
    it.pending(&gated, "main").await;
    assert!(it.requests(beside.iid).await.is_empty());
    assert!(it.gitlab.statuses(PROJECT, &beside.head).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_cancels_and_reopening_asks_anew() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let first = it.pending(&change, "main").await;
    it.gitlab.close(PROJECT, change.iid, it.carl_account);
    it.auditor.wait_for_status(&first, "cancelled", SOON).await;
    assert!(!it.bea.has_in_inbox(&first).await);
    let refused = it.bea.decide(&first, "approve", None).await;
    assert_problem!(refused, 409, "already-ended");

    it.gitlab.reopen(PROJECT, change.iid, it.carl_account);
    let second = text(&it.request(&change, "main", "pending").await, "id");
    assert_ne!(first, second);
    it.expect_status(&change.head, "main", "pending");
    it.bea.approve(&second).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_does_not_outlive_a_close() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    it.bea.approve(&it.pending(&change, "main").await).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.close(PROJECT, change.iid, it.carl_account);
    it.gitlab.expect("a closed one is green no more", SOON, |gitlab| {
        gitlab
            .status(PROJECT, &change.head, "signedapproval/main")
            .as_deref()
            != Some("success")
    });
    it.gitlab.reopen(PROJECT, change.iid, it.carl_account);
    it.pending(&change, "main").await;
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_fails_the_status_and_a_new_head_starts_afresh() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.reject(&id, "Not like this").await;
    it.expect_status(&change.head, "main", "failed");
    let request = it.auditor.request(&id).await;
    assert_eq!(request["status"], "rejected");
    assert_eq!(request["decisions"][0]["decision"], "reject", "{request}");
    let late = it.ada.decide(&id, "approve", None).await;
    assert_problem!(late, 409, "already-ended");

    let pushed = it.push(&change, "better.rs");
    let next = it.pending(&pushed, "main").await;
    it.ada.approve(&next).await;
    it.expect_status(&pushed.head, "main", "success");
    let old = it.gitlab.status(PROJECT, &change.head, "signedapproval/main");
    assert_ne!(old.as_deref(), Some("success"));
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_targets_of_one_head_have_a_status_each() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let iid = it
        .gitlab
        .open_merge_request(PROJECT, "feature", "production", "The same", it.carl_account);
    let twin = Change {
        iid,
        ..change.clone()
    };
    let first = it.pending(&change, "main").await;
    let second = it.pending(&twin, "production").await;
    it.bea.approve(&first).await;
    it.expect_status(&change.head, "main", "success");
    assert_eq!(
        it.gitlab
            .status(PROJECT, &change.head, "signedapproval/production")
            .as_deref(),
        Some("pending")
    );
    it.bea.approve(&second).await;
    it.expect_status(&change.head, "production", "success");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_approved_change_does_not_turn_another_of_the_same_head_green() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    it.gitlab.branch(PROJECT, "copy", &change.head);
    let iid = it
        .gitlab
        .open_merge_request(PROJECT, "copy", "main", "The same again", it.carl_account);
    let twin = Change {
        iid,
        branch: "copy".to_owned(),
        head: change.head.clone(),
    };
    let first = it.pending(&change, "main").await;
    let second = text(&it.request(&twin, "main", "pending").await, "id");
    it.bea.approve(&first).await;
    // A whole other change goes by: had the first approval turned the status green, it would be seen.
    let other = it.open("other", "main");
    it.bea.approve(&it.pending(&other, "main").await).await;
    it.expect_status(&other.head, "main", "success");
    assert!(
        it.posts(&change.head, "success").is_empty(),
        "the other one still waits"
    );
    it.bea.approve(&second).await;
    it.expect_status(&change.head, "main", "success");
    // GitLab keeps a status for each branch: both are told.
    for iid in [change.iid, twin.iid] {
        it.gitlab.expect("the change can be merged", WEBHOOK_MAX, |it| {
            it.detailed_status(PROJECT, iid) == "mergeable"
        });
    }
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_change_that_goes_elsewhere_leaves_the_status_to_those_that_stay() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let first = it.pending(&change, "main").await;
    it.bea.reject(&first, "Not like this.").await;
    it.expect_status(&change.head, "main", "failed");
    // It goes to another target, and the same branch is offered for the first target once more; the appliance hears of
    // the second before it hears of the first.
    it.gitlab.hold_hooks();
    it.gitlab
        .retarget(PROJECT, change.iid, "production", it.carl_account);
    let iid = it
        .gitlab
        .open_merge_request(PROJECT, "feature", "main", "Once more", it.carl_account);
    let stays = Change {
        iid,
        ..change.clone()
    };
    for held in it.gitlab.held().iter().rev() {
        it.gitlab.release(held.id);
        let (what, target) = match it.requests(iid).await.is_empty() {
            true => (&stays, "main"),
            false => (&change, "production"),
        };
        it.request(what, target, "pending").await;
    }
    it.expect_status(&change.head, "main", "pending");
    it.expect_status(&change.head, "production", "pending");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_title_is_only_text() {
    let it = Gated::start().await;
    let title = "\u{202e}drawkcab\u{2066} <script>alert(1)</script> \"'><img src=x onerror=alert(1)> \u{1b}[31m {{7*7}}";
    let change = it.open_with("feature", "main", title, &Gated::commit_of_carl("a.rs"));
    let id = it.pending(&change, "main").await;
    let page = it.bea.get(&format!("/a/{id}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let html = page.text();
    for raw in ["<script>alert(1)", "<img src=x", "\u{202e}", "\u{2066}", "\u{1b}"] {
        assert!(!html.contains(raw), "{raw:?} stands raw in the page");
    }
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    for status in it.gitlab.statuses(PROJECT, &change.head) {
        let words = status.description.unwrap_or_default();
        assert!(
            !words.chars().any(|it| it.is_control() || it == '\u{202e}'),
            "{words:?}"
        );
    }
    assert!(!it.appliance.log().contains("\u{202e}"), "the log stays readable");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_with_two_passkeys_counts_once() {
    let it = Gated::start_with(Hook::Token, json!({"required_approval_count": 2})).await;
    let mut device = Authenticator::synced(&it.appliance.origin());
    let added = it.bea.add_passkey(&mut device, "Tablet").await;
    assert_eq!(added.status, 201, "{added:?}");
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    let first = it.bea.passkey().id;
    it.bea.authenticator().forget(&first);
    let second = it.bea.decide(&id, "approve", None).await;
    assert_problem!(second, 409, "already-decided");
    let request = it.auditor.request(&id).await;
    assert_eq!(request["status"], "pending", "{request}");
    assert_eq!(request["obligations"][0]["quorum"], 2, "{request}");
    assert_eq!(request["obligations"][0]["approved"], 1, "{request}");
    assert!(it.posts(&change.head, "success").is_empty());
    it.ada.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_by_a_stranger_needs_one_more_approver() {
    let it = Gated::start().await;
    let strange = NewCommit::by(
        "Zoe",
        "zoe@elsewhere.test",
        "Help out",
        vec![Edit::write("z.rs", "z\n")],
    );
    let change = it.open_with("feature", "main", "With help", &strange);
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    let request = it.auditor.request(&id).await;
    assert_eq!(
        request["status"], "pending",
        "one approval is not enough: {request}"
    );
    it.ada.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_status_says_what_is_needed_and_no_count_that_gitlab_would_not_let_grow() {
    let it = Gated::start().await;
    let dan = it.ada.bring_in(&it.appliance, "Dan", &["approver"]).await;
    it.ada.create_group("code", &[&it.bea]).await;
    it.ada.create_group("ops", &[&dan]).await;
    let rule = |name: &str| {
        json!({ "name": name, "match": { "branch": "main" },
            "require": { "method": ["passkey"], "approvers": [format!("group:{name}")] } })
    };
    it.ada
        .put_policy("default", &json!({ "rules": [rule("code"), rule("ops")] }))
        .await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    let says = |words: &str| {
        it.gitlab.expect(words, SOON, |forge| {
            let shown = forge.shown_status(PROJECT, &change.head, "signedapproval/main");
            shown.is_some_and(|it| it.description.as_deref() == Some(words))
        });
    };
    says("Waits for people: approvals needed for 2 rules");
    assert!(it.bea.has_in_inbox(&id).await);
    it.bea.approve(&id).await;
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(
        page.contains("May also decide:</strong> <bdi>Dan</bdi></p>"),
        "{page}"
    );
    let queue = it.ada.get("/a/").await.text();
    assert!(queue.contains("1 of 2 rules met, 1 approval so far"), "{queue}");
    dan.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    assert_eq!(it.posts(&change.head, "pending").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_may_skip_documentation_but_never_the_pipeline_itself() {
    let it = Gated::start().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [
                {"name": "Docs", "match": {"branch": "main", "paths": ["docs/**", "*.yml", "*.md"]}, "action": "skip"},
            ]}),
        )
        .await;
    let write = |path: &str| {
        NewCommit::by(
            "Carl",
            "carl@example.test",
            "Write",
            vec![Edit::write(path, "1\n")],
        )
    };
    let docs = it.open_with("docs", "main", "Words", &write("docs/a.md"));
    it.expect_status(&docs.head, "main", "success");
    let request = it.request(&docs, "main", "skipped").await;
    assert_eq!(request["decisions"], json!([]), "a skip is no approval");
    let shown = it.gitlab.shown_status(PROJECT, &docs.head, "signedapproval/main");
    let words = shown.and_then(|it| it.description).unwrap_or_default();
    assert!(words.contains("Docs"), "the status names the rule: {words:?}");

    let pipeline = it.open_with("ci", "main", "Pipeline", &write(".gitlab-ci.yml"));
    it.pending(&pipeline, "main").await;
    let mixed = it.open_with("mixed", "main", "Both", &write("src/a.rs"));
    it.pending(&mixed, "main").await;
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_past_the_gate_is_an_exception() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    let root = it.gitlab.add_user("root", "Root", "root@example.test");
    it.gitlab.merge_past_all_checks(PROJECT, change.iid, root);
    it.auditor.wait_for_status(&id, "cancelled", SOON).await;
    let found = it.ada.journal("exception.unapproved_change").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let open = items(&it.ada.get("/api/v1/exceptions?state=open").await);
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(it.posts(&change.head, "success").is_empty());
}

// ---- webhooks ----

/// How many entries the journal has that a webhook may have caused.
async fn effects(it: &Gated) -> usize {
    let mut count = 0;
    for kind in ["hook.received", "change.observed", "request.opened"] {
        count += it.ada.journal(kind).await.len();
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_does_not_verify_changes_nothing() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    it.gitlab.settle(SOON);
    let before = effects(&it).await;
    let delivery = it.gitlab.deliveries().last().expect("a delivery").id;
    let genuine = it
        .gitlab
        .request_of(delivery)
        .with("Idempotency-Key", "a-new-one");
    let secret = it.integration.webhook_secret.clone();
    let forged = [
        ("no secret", genuine.clone().without("X-Gitlab-Token")),
        ("wrong secret", genuine.clone().with("X-Gitlab-Token", "wrong")),
        ("empty secret", genuine.clone().with("X-Gitlab-Token", "")),
        (
            "half a secret",
            genuine
                .clone()
                .with("X-Gitlab-Token", &secret[..secret.len() / 2]),
        ),
        (
            // A signature that is there and wrong is never made good by a token.
            "wrong signature",
            genuine
                .clone()
                .with("webhook-id", "msg_1")
                .with(
                    "webhook-timestamp",
                    &jiff::Timestamp::now().as_second().to_string(),
                )
                .with(
                    "webhook-signature",
                    "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                ),
        ),
    ];
    for (what, request) in forged {
        let answer = it.gitlab.send_raw(request);
        assert_eq!(answer.status, Some(401), "{what}: {answer:?}");
    }
    let elsewhere = it
        .integration
        .webhook_url
        .replace(&it.integration.id, "int_00000000000000000000000000");
    let mut lost = genuine.clone();
    lost.url = elsewhere;
    let answer = it.gitlab.send_raw(lost);
    assert!(
        matches!(answer.status, Some(401 | 404)),
        "unknown integration: {answer:?}"
    );
    assert_eq!(
        effects(&it).await,
        before,
        "nothing forged leaves a trace of a change"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_signature_is_refused() {
    let it = Gated::start_with(Hook::Signing, json!({})).await;
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    let delivery = it.gitlab.deliveries().last().expect("a delivery").id;
    let past = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 3600).expect("a time");
    let answer = it.gitlab.send_raw(it.gitlab.request_at(delivery, past));
    assert_eq!(answer.status, Some(401), "{answer:?}");
    let mut bent = it.gitlab.request_of(delivery);
    bent.body.push(b' ');
    let answer = it.gitlab.send_raw(bent);
    assert_eq!(answer.status, Some(401), "{answer:?}");
    let answer = it
        .gitlab
        .send_raw(it.gitlab.request_of(delivery).without("webhook-signature"));
    assert_eq!(answer.status, Some(401), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_comes_again_changes_nothing() {
    let it = Gated::start().await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.gitlab.settle(SOON);
    let before = effects(&it).await;
    for delivery in it.gitlab.deliveries() {
        it.gitlab.deliver_twice(delivery.id);
    }
    it.gitlab.settle(SOON);
    assert_eq!(effects(&it).await, before, "the same delivery counts once");
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    let all = it.gitlab.deliveries();
    let pushed = it.push(&change, "more.rs");
    it.pending(&pushed, "main").await;
    // What was true once is only a hint: the forge is asked for what is true now.
    for (nth, delivery) in all.iter().enumerate() {
        let replay = it
            .gitlab
            .request_of(delivery.id)
            .with("Idempotency-Key", &format!("replayed-{nth}"));
        let answer = it.gitlab.send_raw(replay);
        assert!(answer.status.is_some_and(|it| it < 300), "{answer:?}");
    }
    let other = it.open("other", "main");
    it.pending(&other, "main").await;
    assert_eq!(
        it.requests(change.iid).await.len(),
        2,
        "one request for each head"
    );
    assert_ne!(
        it.gitlab
            .status(PROJECT, &pushed.head, "signedapproval/main")
            .as_deref(),
        Some("success")
    );
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_webhooks_do_no_harm() {
    let it = Gated::start().await;
    let hook = it.gitlab.read(|state| state.project(PROJECT).hooks[0].id);
    let other = json!({
        "object_kind": "merge_request", "project": {"id": 777}, "object_attributes": {"iid": 1, "target_project_id": 777},
    });
    let answer = it.gitlab.send_raw(
        it.gitlab
            .hook_request(hook, "Merge Request Hook", &other.to_string()),
    );
    assert!(
        answer.status.is_some_and(|it| it < 500),
        "a project that is not gated: {answer:?}"
    );
    for (what, body) in [
        ("no JSON", "not json".to_owned()),
        ("nothing", String::new()),
        ("a list", "[]".to_owned()),
        (
            "another shape",
            json!({"object_kind": "merge_request", "object_attributes": 7}).to_string(),
        ),
        ("deep", format!("{}{}", "[".repeat(50_000), "]".repeat(50_000))),
    ] {
        let answer = it
            .gitlab
            .send_raw(it.gitlab.hook_request(hook, "Merge Request Hook", &body));
        assert!(answer.status.is_some_and(|it| it < 500), "{what}: {answer:?}");
    }
    let big = json!({"object_kind": "merge_request", "padding": "x".repeat(10 * 1024 * 1024)}).to_string();
    let answer = it
        .gitlab
        .send_raw(it.gitlab.hook_request(hook, "Merge Request Hook", &big));
    // The answer may come before the body is through, and then the sender sees a broken pipe.
    assert!(matches!(answer.status, None | Some(413)), "10 MB: {answer:?}");
    assert!(it.ada.journal("request.opened").await.is_empty());

    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
}

/// The slow one: half a minute passes until the appliance compares for itself.
#[tokio::test(flavor = "multi_thread")]
async fn slow_a_lost_webhook_is_made_good_within_a_minute() {
    let it = Gated::start().await;
    it.gitlab.hooks_off();
    let change = it.open("feature", "main");
    it.expect_status_within(&change.head, "main", "pending", LOST_MAX);
    let id = text(&it.request(&change, "main", "pending").await, "id");
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    let pushed = it.push(&change, "more.rs");
    it.expect_status_within(&pushed.head, "main", "pending", LOST_MAX);
    it.gitlab.assert_no_violations();
}

// ---- a forge in trouble ----

/// One change through a trouble that strikes calls of that method and path.
async fn through(it: &Gated, name: &str, method: &str, path: &str, times: usize, trouble: Trouble) {
    it.gitlab.fail(method, path, times, trouble);
    let change = it.open(name, "main");
    it.expect_status_within(&change.head, "main", "pending", LOST_MAX);
    let id = text(&it.request(&change, "main", "pending").await, "id");
    it.bea.approve(&id).await;
    it.expect_status_within(&change.head, "main", "success", LOST_MAX);
    it.gitlab.assert_no_violations();
    let left: Vec<_> = it
        .gitlab
        .read(|state| state.faults.iter().map(|it| it.left).collect());
    assert!(
        left.iter().all(|it| *it == 0),
        "{name}: the trouble did not strike: {left:?}"
    );
    it.gitlab.heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_says_later_is_left_alone_so_long() {
    let it = Gated::start().await;
    through(&it, "status-429", "POST", "/statuses/", 1, Trouble::RetryLater(3)).await;
    through(
        &it,
        "read-429",
        "GET",
        "/merge_requests/",
        1,
        Trouble::RetryLater(3),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_status_is_tried_again() {
    let it = Gated::start().await;
    through(&it, "locked", "POST", "/statuses/", 2, Trouble::StatusLocked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_whose_answer_got_lost_is_no_mistake() {
    // The repetition meets GitLab's 400 "Cannot transition status", which here means that all is well.
    let it = Gated::start().await;
    through(&it, "lost", "POST", "/statuses/", 1, Trouble::LostAnswer(502)).await;
    through(&it, "cut", "POST", "/statuses/", 1, Trouble::CutBody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_forge_is_tried_again_and_never_green_meanwhile() {
    let it = Gated::start().await;
    through(&it, "status-500", "POST", "/statuses/", 2, Trouble::Code(500)).await;
    through(&it, "read-502", "GET", "/merge_requests/", 2, Trouble::Code(502)).await;
    through(&it, "html", "GET", "/merge_requests/", 1, Trouble::Html).await;
    through(&it, "half", "GET", "/merge_requests/", 1, Trouble::CutBody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_cut_off() {
    let it = Gated::start().await;
    through(
        &it,
        "flood",
        "GET",
        "/merge_requests/",
        1,
        Trouble::Flood(200 * 1024 * 1024),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_does_not_carry_the_token_away() {
    let it = Gated::start().await;
    let thief = crate::support::forge::gitlab::FakeGitLab::start();
    through(
        &it,
        "away",
        "GET",
        "/merge_requests/",
        1,
        Trouble::Redirect(format!("{}/api/v4/user", thief.base_url())),
    )
    .await;
    assert!(thief.calls().is_empty(), "{:?}", thief.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_right_after_a_restart() {
    let mut it = Gated::start().await;
    let change = it.open("feature", "main");
    let second = it.open("second", "main");
    let id = it.pending(&change, "main").await;
    let waiting = it.pending(&second, "main").await;
    it.gitlab.go_away();
    it.bea.approve(&id).await;
    it.appliance.kill9();
    it.gitlab.come_back();
    // Nobody is there to take this webhook.
    let pushed = it.push(&second, "more.rs");
    it.appliance.restart().await;
    it.expect_status_within(&change.head, "main", "success", SOON);
    it.expect_status_within(&pushed.head, "main", "pending", SOON);
    let late = it.bea.decide(&waiting, "approve", None).await;
    assert_eq!(late.status, 409, "{late:?}");
    assert_eq!(it.posts(&change.head, "success").len(), 1);
    it.gitlab.assert_no_violations();
}

// ---- settings ----

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_never_shows_its_secrets_again() {
    let it = Gated::start().await;
    let mut shown = String::new();
    for path in [
        "/api/v1/integrations".to_owned(),
        format!("/api/v1/integrations/{}", it.integration.id),
        format!("/api/v1/integrations/{}/projects", it.integration.id),
    ] {
        let answer = it.ada.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        shown.push_str(&answer.text());
    }
    let events: Vec<Value> = it.ada.journal("").await;
    shown.push_str(&serde_json::to_string(&events).expect("JSON"));
    shown.push_str(&it.appliance.log());
    for secret in [&it.token, &it.integration.webhook_secret] {
        assert!(!shown.contains(secret.as_str()), "a secret is told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_project_settings_are_refused() {
    let it = Gated::start().await;
    let path = format!("/api/v1/integrations/{}/projects", it.integration.id);
    let base = json!({
        "project_id": 4711, "branch_patterns": ["main"], "required_approval_count": 1, "auto_merge": false,
    });
    let twice = it
        .ada
        .post(
            &path,
            &json!({"project_id": PROJECT, "branch_patterns": ["main"], "required_approval_count": 1}),
        )
        .await;
    assert_eq!(twice.status, 409, "a project is gated once: {twice:?}");
    for (member, value) in [
        ("branch_patterns", json!([])),
        ("branch_patterns", json!(["[x"])),
        ("branch_patterns", json!("main")),
        ("required_approval_count", json!(0)),
        ("required_approval_count", json!(-1)),
        ("required_approval_count", json!("2")),
        ("auto_merge", json!("yes")),
        ("methods", json!([])),
        ("methods", json!(["password"])),
        ("approvers", json!(["group:nobody"])),
        ("policy", json!("unheard-of")),
        ("project_id", json!({})),
        ("unknown", json!(1)),
    ] {
        let mut body = base.clone();
        body[member] = value.clone();
        let answer = it.ada.post(&path, &body).await;
        assert!(matches!(answer.status, 400 | 422), "{member} {value}: {answer:?}");
    }
    let gone = it.ada.post(&path, &base).await;
    assert_eq!(gone.status, 422, "a project the forge does not know: {gone:?}");
}
