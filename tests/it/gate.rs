//! How strong a gate really is on GitLab: what the appliance finds there, what it calls it, and that it reports what got
//! worse. Cases A11 and A28 of the threats.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

impl Gated {
    fn project_path(&self) -> String {
        format!(
            "/api/v1/integrations/{}/projects/{}",
            self.integration.id, self.project
        )
    }

    /// The gate as the appliance found it by itself, once it is what the test waits for.
    async fn gate_when(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let gate = self.auditor.get(&self.project_path()).await.expect(200)["gate"].clone();
            if holds(&gate) {
                return gate;
            }
            assert!(started.elapsed() < SOON, "the gate never was {what}: {gate:#}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// The gate as it is found now.
    pub async fn look(&self) -> Value {
        let path = format!("{}/check", self.project_path());
        self.ada.post(&path, &json!({})).await.expect(200)["gate"].clone()
    }

    async fn drifts(&self) -> Vec<Value> {
        let mut all = items(&self.auditor.get("/api/v1/exceptions").await);
        all.retain(|it| it["type"] == "exception.protection_drift");
        all
    }
}

/// The kinds of findings, each once, in order.
fn codes(gate: &Value) -> Vec<&str> {
    let findings = gate["findings"].as_array().expect("findings");
    let codes: BTreeSet<&str> = findings.iter().filter_map(|it| it["code"].as_str()).collect();
    codes.into_iter().collect()
}

fn reasons(gate: &Value) -> String {
    let reasons = gate["reasons"].as_array().expect("reasons");
    reasons
        .iter()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_is_hard_where_only_the_appliance_can_merge_and_push() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    let gate = it.gate_when("hard", |gate| gate["strength"] == "hard").await;
    assert_eq!(codes(&gate), [""; 0]);
    assert!(gate["checked_at"].is_string(), "{gate}");
    // Even then it promises no more than it can hold.
    assert!(
        reasons(&gate).contains("it would be found and reported"),
        "{gate:#}"
    );
    assert!(!reasons(&gate).contains("bypass"), "{gate:#}");

    // What is the same is not recorded again.
    let before = it.ada.journal("gate.checked").await;
    assert_eq!(it.look().await["strength"], "hard");
    assert_eq!(it.ada.journal("gate.checked").await, before);
    assert_eq!(before.len(), 1, "{before:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_around_the_gate_is_found_and_named() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    let mia = it.gitlab.add_user("mia", "Mia", "mia@example.test");
    let eve = it.gitlab.add_user("eve", "Eve", "eve@example.test");
    it.gitlab.add_member(PROJECT, eve, DEVELOPER);
    it.gate_when("hard", |gate| gate["strength"] == "hard").await;
    let protect = |push, merge, users: &[u64]| {
        it.gitlab.unprotect(PROJECT, "main");
        it.gitlab.protect(PROJECT, "main", push, merge, users);
    };

    it.gitlab.unprotect(PROJECT, "main");
    let gate = it.look().await;
    assert_eq!(gate["strength"], "none", "{gate:#}");
    assert!(codes(&gate).contains(&"unprotected"), "{gate:#}");
    assert!(reasons(&gate).starts_with("`main` is not protected"), "{gate:#}");

    // A pattern that takes the branch in protects it.
    it.gitlab.protect(PROJECT, "ma*", 0, MAINTAINER, &[]);
    assert_eq!(it.look().await["strength"], "hard");
    it.gitlab.unprotect(PROJECT, "ma*");

    protect(DEVELOPER, MAINTAINER, &[]);
    let gate = it.look().await;
    assert_eq!(
        (&gate["strength"], codes(&gate)),
        (&json!("none"), vec!["others_push"]),
        "{gate:#}"
    );

    // Nobody but the appliance is Maintainer yet.
    protect(MAINTAINER, MAINTAINER, &[]);
    assert_eq!(it.look().await["strength"], "hard");
    it.gitlab.add_member(PROJECT, mia, MAINTAINER);
    let gate = it.look().await;
    assert_eq!(gate["strength"], "soft", "{gate:#}");
    assert_eq!(codes(&gate), ["others_merge", "others_push", "status_is_display"]);
    assert!(
        reasons(&gate).contains("Mia can push to `main` directly"),
        "{gate:#}"
    );
    it.gitlab.add_member(PROJECT, mia, DEVELOPER);

    // Somebody by name (Premium).
    protect(0, 0, &[eve]);
    let gate = it.look().await;
    assert_eq!(gate["strength"], "soft", "{gate:#}");
    assert!(reasons(&gate).contains("Eve can merge into `main`"), "{gate:#}");

    // Every Developer: the status holds something only while pipelines must succeed.
    protect(0, DEVELOPER, &[]);
    let gate = it.look().await;
    assert_eq!(gate["strength"], "soft", "{gate:#}");
    it.gitlab
        .set(PROJECT, |it| it.allow_merge_on_skipped_pipeline = true);
    let gate = it.look().await;
    assert_eq!(gate["strength"], "soft", "{gate:#}");
    assert!(codes(&gate).contains(&"skipped_pipelines"), "{gate:#}");
    it.gitlab
        .set(PROJECT, |it| it.only_allow_merge_if_pipeline_succeeds = false);
    let gate = it.look().await;
    assert_eq!(gate["strength"], "none", "{gate:#}");
    assert!(codes(&gate).contains(&"pipeline_not_needed"), "{gate:#}");
    protect(0, MAINTAINER, &[]);
    assert_eq!(it.look().await["strength"], "hard");

    it.gitlab.rescope_token(&it.token, &["read_api"]);
    let gate = it.look().await;
    assert_eq!(
        (&gate["strength"], codes(&gate)),
        (&json!("none"), vec!["token_scope"]),
        "{gate:#}"
    );
    it.gitlab.rescope_token(&it.token, &["api"]);
    assert_eq!(it.look().await["strength"], "hard");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_is_never_called_a_gate() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    it.gate_when("hard", |gate| gate["strength"] == "hard").await;
    it.gitlab
        .fail("GET", "/protected_branches", 9, Trouble::Code(502));
    let gate = it.look().await;
    assert_eq!(
        (&gate["strength"], codes(&gate)),
        (&json!("none"), vec!["settings_unreadable"]),
        "{gate:#}"
    );
    it.gitlab.heal();
    assert_eq!(it.look().await["strength"], "hard");

    // A token that is dead answers nothing at all: whoever asks is told, and what was found stays until it is known.
    it.gitlab.revoke_token(&it.token);
    let refused = it
        .ada
        .post(&format!("{}/check", it.project_path()), &json!({}))
        .await;
    assert_problem!(refused, 422, "forge-answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_webhook_the_gate_says_that_it_is_slower() {
    let it = Gated::start_with(Hook::None, json!({})).await;
    let gate = it
        .gate_when("checked", |gate| gate["checked_at"].is_string())
        .await;
    assert_eq!(
        (&gate["strength"], codes(&gate)),
        (&json!("hard"), vec!["nobody_merges", "webhook_missing"]),
        "{gate:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protection_that_was_dropped_is_an_exception_that_somebody_looks_over() {
    let mut it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    it.gate_when("hard", |gate| gate["strength"] == "hard").await;
    assert!(it.drifts().await.is_empty());

    // While the appliance is away; at its start it looks.
    it.appliance.stop().await;
    it.gitlab.unprotect(PROJECT, "main");
    it.appliance.restart().await;
    it.gate_when("none", |gate| gate["strength"] == "none").await;
    let drifts = it.drifts().await;
    assert_eq!(drifts.len(), 1, "{drifts:#?}");
    let (drift, data) = (&drifts[0], &drifts[0]["data"]);
    assert_eq!(
        (&data["before"], &data["strength"]),
        (&json!("hard"), &json!("none"))
    );
    assert_eq!(
        (&drift["state"], &data["project"]),
        (&json!("open"), &json!(it.project))
    );

    // It stays one exception however often it is looked at, and mending it is none.
    it.look().await;
    it.gitlab.protect(PROJECT, "main", 0, MAINTAINER, &[]);
    assert_eq!(it.look().await["strength"], "hard");
    assert_eq!(it.drifts().await.len(), 1);

    let page = it.ada.get("/dashboard/exceptions").await.text();
    assert!(
        page.contains("A gate became weaker: none instead of hard"),
        "{page}"
    );
    let path = format!("/api/v1/exceptions/{}/review", text(drift, "id"));
    it.ada
        .post(&path, &json!({"note": "Somebody tidied up; put back."}))
        .await
        .expect(200);
    assert_eq!(it.drifts().await[0]["state"], "reviewed");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_setting_of_the_project_is_looked_at_anew_and_is_no_drift() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    it.gate_when("hard", |gate| gate["strength"] == "hard").await;
    let body = json!({
        "branch_patterns": ["main", "playground"], "required_approval_count": 1, "auto_merge": true,
    });
    let put = it.ada.put(&it.project_path(), &body).await;
    assert_eq!(put.status, 200, "{put:?}");
    let gate = it
        .gate_when("checked again", |gate| gate["checked_at"].is_string())
        .await;
    assert_eq!(gate["strength"], "none", "{gate:#}");
    assert!(codes(&gate).contains(&"unprotected"), "{gate:#}");
    assert!(it.drifts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_decides_sees_how_strong_the_gate_is() {
    let it = Gated::start().await;
    it.gate_when("checked", |gate| gate["checked_at"].is_string())
        .await;
    it.gitlab.unprotect(PROJECT, "main");
    it.look().await;
    let change = it.open("topic", "main");
    let request = it.pending(&change, "main").await;
    let page = it.bea.get(&format!("/a/{request}")).await.text();
    assert!(
        page.contains("Gate: none") && page.contains("is not protected"),
        "{page}"
    );
    let page = it.ada.get("/dashboard/integrations/gitlab").await.text();
    assert!(page.contains("Gate: none"), "{page}");
    // Not everybody makes the appliance ask its forge.
    let refused = it
        .bea
        .post(&format!("{}/check", it.project_path()), &json!({}))
        .await;
    assert_problem!(refused, 403, "forbidden");
}
