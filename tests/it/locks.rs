//! The forge's own locks on GitLab: the approval that only the appliance's account can give (Premium), and the external
//! status check (Ultimate). Both follow the decision, are bound to its head, and are taken back with it.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::http_client;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::merging::MergeWish;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::Tier;
use crate::support::gated::Change;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::items;
use crate::support::person::text;

impl Gated {
    /// A call of GitLab's own API by the appliance's account, as its administrator would make it.
    async fn gitlab_api(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/api/v4/projects/{PROJECT}/{path}", self.gitlab.base_url());
        let method = method.parse().expect("a method");
        let call = http_client(None)
            .request(method, url)
            .header("PRIVATE-TOKEN", &self.token);
        let answer = call.json(&body).send().await.expect("the fake GitLab answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    fn own_account(&self) -> u64 {
        let found = self.gitlab.read(|state| {
            let mut users = state.users.values();
            users
                .find(|it| it.username.starts_with("project_42_bot"))
                .map(|it| it.id)
        });
        found.expect("the appliance's account")
    }

    /// A project that waits for the appliance's approval, as GitLab Premium can.
    async fn with_approval_rule(settings: Value) -> Gated {
        let mut settings = settings;
        settings["enforcement"] = json!("bot_approval");
        let it = Gated::start_with(Hook::Token, settings).await;
        it.ask_for_our_approval().await;
        it
    }

    /// Makes GitLab, as Premium, wait for the appliance's approval.
    pub async fn ask_for_our_approval(&self) {
        self.gitlab.set_tier(Tier::Premium);
        for branch in ["main", "production"] {
            self.gitlab.protect(PROJECT, branch, 0, DEVELOPER, &[]);
        }
        let rule = json!({
            "name": "SignedApproval", "approvals_required": 1, "user_ids": [self.own_account()],
            "applies_to_all_protected_branches": true,
        });
        assert_eq!(self.gitlab_api("POST", "approval_rules", rule).await.0, 201);
        let sound = json!({
            "reset_approvals_on_push": true, "disable_overriding_approvers_per_merge_request": true,
            "merge_requests_author_approval": false,
        });
        assert!(self.gitlab_api("POST", "approvals", sound).await.0 < 300);
    }

    fn has_our_approval(&self, change: &Change) -> bool {
        self.gitlab
            .read(|state| !state.change(PROJECT, change.iid).approvals.is_empty())
    }

    async fn checked_gate(&self) -> Value {
        let path = format!(
            "/api/v1/integrations/{}/projects/{}/check",
            self.integration.id, self.project
        );
        self.ada.post(&path, &json!({})).await.expect(200)["gate"].clone()
    }
}

fn codes(gate: &Value) -> Vec<String> {
    let all = gate["findings"].as_array().expect("findings");
    all.iter()
        .filter_map(|it| it["code"].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_appliances_approval_is_the_lock_and_comes_with_the_decision() {
    let it = Gated::with_approval_rule(json!({})).await;
    let gate = it.checked_gate().await;
    assert_eq!(
        (&gate["strength"], codes(&gate)),
        (&json!("hard"), vec![]),
        "{gate:#}"
    );

    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    let eve = it.gitlab.add_user("eve", "Eve", "eve@example.test");
    it.gitlab.add_member(PROJECT, eve, DEVELOPER);
    // Even with a green status of her own: GitLab waits for the one approval she can't give.
    it.gitlab.post_status(
        PROJECT,
        &change.head,
        eve,
        "signedapproval/main",
        "feature",
        "success",
    );
    let refused = it
        .gitlab
        .try_merge_as(PROJECT, change.iid, eve, &MergeWish::default());
    assert!(refused.is_err(), "GitLab must not merge it");
    assert!(!it.has_our_approval(&change));

    it.bea.approve(&id).await;
    it.gitlab.expect("our approval", SOON, |gitlab| {
        gitlab.read(|state| !state.change(PROJECT, change.iid).approvals.is_empty())
    });
    let approvals = it
        .gitlab
        .calls_to("POST", &format!("/merge_requests/{}/approve", change.iid));
    assert_eq!(approvals.len(), 1, "{approvals:#?}");
    assert_eq!(
        approvals[0].body["sha"],
        json!(change.head),
        "pinned to the approved head"
    );
    it.gitlab.expect("a mergeable merge request", SOON, |gitlab| {
        gitlab
            .try_merge_as(PROJECT, change.iid, eve, &MergeWish::default())
            .is_ok()
    });
    let started = Instant::now();
    let opened = |all: &[Value]| all.iter().any(|it| it["data"]["state"] == "success");
    while !opened(&it.ada.journal("lock.confirmed").await) {
        assert!(started.elapsed() < SOON, "the lock was never confirmed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let page = it.bea.get(&format!("/a/{id}")).await.text();
    assert!(
        page.contains("this server’s approval for exactly this commit"),
        "{page}"
    );
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_a_forged_committer_makes_void_is_no_lock() {
    let it = Gated::with_approval_rule(json!({})).await;
    let committers = json!({"merge_requests_disable_committers_approval": true});
    assert!(it.gitlab_api("POST", "approvals", committers).await.0 < 300);
    let gate = it.checked_gate().await;
    assert_eq!(
        (
            &gate["strength"],
            codes(&gate).contains(&"approval_void".to_owned())
        ),
        (&json!("soft"), true),
        "{gate:#}"
    );
    // What it is about: nobody has approved this, and GitLab takes it.
    let forged = Gated::commit_of_carl("forged.rs").committed_by("Gate", "gate@example.test");
    let change = it.open_with("forged", "main", "Forged", &forged);
    it.pending(&change, "main").await;
    it.gitlab
        .set(PROJECT, |it| it.only_allow_merge_if_pipeline_succeeds = false);
    assert!(!it.has_our_approval(&change));
    let merged = it
        .gitlab
        .try_merge_as(PROJECT, change.iid, it.carl_account, &MergeWish::default());
    assert!(merged.is_ok(), "{merged:?}");
    it.gitlab.settle(SOON);
    let started = Instant::now();
    while it.ada.journal("exception.unapproved_change").await.is_empty() {
        assert!(started.elapsed() < SOON, "the merge was never reported");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_taken_back_when_the_head_moves_even_where_gitlab_keeps_it() {
    let it = Gated::with_approval_rule(json!({})).await;
    let keeps = json!({"reset_approvals_on_push": false});
    assert!(it.gitlab_api("POST", "approvals", keeps).await.0 < 300);
    let gate = it.checked_gate().await;
    assert_eq!(gate["strength"], "soft", "{gate:#}");
    assert!(codes(&gate).contains(&"approvals_kept".to_owned()), "{gate:#}");

    let change = it.open("feature", "main");
    it.bea.approve(&it.pending(&change, "main").await).await;
    it.gitlab.expect("our approval", SOON, |gitlab| {
        gitlab.read(|state| !state.change(PROJECT, change.iid).approvals.is_empty())
    });
    let next = it.push(&change, "more.rs");
    it.pending(&next, "main").await;
    it.gitlab.expect("no approval of ours", SOON, |gitlab| {
        gitlab.read(|state| state.change(PROJECT, change.iid).approvals.is_empty())
    });
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_for_the_approval_to_lock_is_named() {
    let it = Gated::start_with(Hook::Token, json!({"enforcement": "bot_approval"})).await;
    // Free: there are no approval rules at all.
    let gate = it.checked_gate().await;
    assert!(
        codes(&gate).contains(&"approvals_unreadable".to_owned()),
        "{gate:#}"
    );
    it.gitlab.set_tier(Tier::Premium);
    let gate = it.checked_gate().await;
    assert!(
        codes(&gate).contains(&"approval_rule_missing".to_owned()),
        "{gate:#}"
    );
    assert_ne!(gate["strength"], "hard");
    // Somebody else may fill the rule as well.
    let (bot, mia) = (
        it.own_account(),
        it.gitlab.add_user("mia", "Mia", "mia@example.test"),
    );
    it.gitlab.add_member(PROJECT, mia, DEVELOPER);
    let rule = json!({
        "name": "Either", "approvals_required": 1, "user_ids": [bot, mia], "applies_to_all_protected_branches": true,
    });
    assert_eq!(it.gitlab_api("POST", "approval_rules", rule).await.0, 201);
    let gate = it.checked_gate().await;
    assert!(
        codes(&gate).contains(&"approval_rule_missing".to_owned()),
        "{gate:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gitlab_refuses_is_told_to_the_approvers() {
    let it = Gated::with_approval_rule(json!({})).await;
    // Whoever opened it can't approve it, and that is the appliance's own account here.
    let bot = it.own_account();
    it.gitlab.branch(PROJECT, "own", "main");
    let head = it.gitlab.commit(PROJECT, "own", &Gated::commit_of_carl("own.rs"));
    let iid = it
        .gitlab
        .open_merge_request(PROJECT, "own", "main", "By the bot", bot);
    let change = Change {
        iid,
        branch: "own".to_owned(),
        head,
    };
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    let started = Instant::now();
    loop {
        let page = it.bea.get(&format!("/a/{id}")).await.text();
        if page.contains("GitLab refused this server’s approval") {
            assert!(
                page.contains("neither the merge request’s author") || page.contains("author"),
                "{page}"
            );
            break;
        }
        assert!(started.elapsed() < SOON, "nobody was told: {page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = it.ada.journal("lock.confirmed").await;
    assert_eq!(told.len(), 1, "told once: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_status_check_follows_the_decision_and_is_called_what_it_is() {
    let settings = json!({"enforcement": "external_status_check"});
    let it = Gated::start_with(Hook::None, settings).await;
    it.gitlab.set_tier(Tier::Ultimate);
    let check = json!({
        "name": "SignedApproval", "external_url": it.integration.webhook_url,
        "shared_secret": it.integration.webhook_secret,
    });
    assert_eq!(
        it.gitlab_api("POST", "external_status_checks", check).await.0,
        201
    );
    it.gitlab.set(PROJECT, |it| {
        it.only_allow_merge_if_all_status_checks_passed = true
    });
    it.gitlab.protect(PROJECT, "main", 0, DEVELOPER, &[]);
    let gate = it.checked_gate().await;
    assert_eq!(
        gate["strength"], "soft",
        "every Developer can answer it: {gate:#}"
    );
    assert!(codes(&gate).contains(&"check_is_display".to_owned()), "{gate:#}");

    // GitLab's own call tells of the merge request: no webhook is registered.
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    let hooks = it.ada.journal("hook.received").await;
    assert!(!hooks.is_empty(), "the check's call counts as a webhook");
    it.gitlab.time_out_status_checks(PROJECT);
    assert_ne!(it.gitlab.detailed_status(PROJECT, change.iid), "mergeable");

    it.bea.approve(&id).await;
    it.gitlab.expect("a check that has passed", SOON, |gitlab| {
        gitlab.read(|state| {
            let change = state.change(PROJECT, change.iid).clone();
            state
                .checks_of(&change)
                .iter()
                .all(|it| state.check_status(&change, it.id) == "passed")
        })
    });
    let answers = it.gitlab.calls_to("POST", "/status_check_responses");
    let passed: Vec<_> = answers
        .iter()
        .filter(|it| it.body["status"] == "passed")
        .collect();
    assert_eq!(passed.len(), 1, "{answers:#?}");
    assert_eq!(passed[0].body["sha"], json!(change.head));

    // Rejected: failed, and GitLab keeps it closed.
    let other = it.open("other", "main");
    it.bea
        .reject(&it.pending(&other, "main").await, "Not this way.")
        .await;
    it.gitlab.expect("a failed check", SOON, |gitlab| {
        gitlab.read(|state| {
            let change = state.change(PROJECT, other.iid).clone();
            state
                .checks_of(&change)
                .iter()
                .all(|it| state.check_status(&change, it.id) == "failed")
        })
    });
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_says_which_lock_it_has_and_a_broker_always_merges() {
    let it = Gated::start().await;
    let path = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.integration.id, it.project
    );
    let mut body = json!({"branch_patterns": ["main"], "required_approval_count": 1});
    for (enforcement, auto_merge) in [
        ("merge_broker", true),
        ("bot_approval", false),
        ("external_status_check", false),
        ("commit_status", false),
    ] {
        body["enforcement"] = json!(enforcement);
        let put = it.ada.put(&path, &body).await.expect(200);
        assert_eq!(
            (&put["enforcement"], &put["auto_merge"]),
            (&json!(enforcement), &json!(auto_merge))
        );
    }
    body["enforcement"] = json!("merge_broker");
    body["auto_merge"] = json!(false);
    assert_eq!(it.ada.put(&path, &body).await.status, 422);
    body["enforcement"] = json!("wishes");
    assert_eq!(it.ada.put(&path, &body).await.status, 400);
    let listed = items(
        &it.ada
            .get(&format!("/api/v1/integrations/{}/projects", it.integration.id))
            .await,
    );
    assert_eq!(listed[0]["enforcement"], "commit_status");
}

/// A23: the status of a fork's commit may not be shown in the target project; the broker is the lock, not the status.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_status_gitlab_will_not_show_is_merged_by_the_broker_and_by_nobody_else() {
    let it = Gated::start_with(
        Hook::Token,
        json!({"enforcement": "merge_broker", "auto_merge": true}),
    )
    .await;
    it.gitlab.fail("POST", "/statuses/", 99, Trouble::Code(404));
    it.gitlab
        .set(PROJECT, |it| it.only_allow_merge_if_pipeline_succeeds = false);
    let change = it.open("feature", "main");
    let id = text(&it.request(&change, "main", "pending").await, "id");
    it.bea.approve(&id).await;
    it.gitlab.expect("the merge", SOON, |gitlab| {
        gitlab.merge_request(PROJECT, change.iid).state == "merged"
    });
    let merges = it.gitlab.calls_to("PUT", "/merge");
    assert_eq!(merges.len(), 1, "{merges:#?}");
    assert_eq!(merges[0].body["sha"], json!(change.head));

    // With another lock the status is what people act on: nothing is merged behind it.
    let path = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.integration.id, it.project
    );
    let body = json!({
        "branch_patterns": ["main"], "required_approval_count": 1, "auto_merge": true, "enforcement": "commit_status",
    });
    it.ada.put(&path, &body).await.expect(200);
    let other = it.open("other", "main");
    let id = text(&it.request(&other, "main", "pending").await, "id");
    it.bea.approve(&id).await;
    let started = Instant::now();
    let refused = |all: &[Value]| {
        let of_other = |it: &Value| it["data"]["status"]["head"] == other.head.as_str();
        all.iter()
            .any(|it| of_other(it) && it["data"]["state"] == "success" && it["data"]["refused"].is_string())
    };
    while !refused(&it.ada.journal("status.confirmed").await) {
        assert!(started.elapsed() < SOON, "the refusal was never recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        it.gitlab.calls_to("PUT", "/merge").len(),
        1,
        "only the first was asked for"
    );
}
