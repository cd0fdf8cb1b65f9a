//! Setting a gate up on GitLab from here, putting it back, and trying it out: the plan, exactly that plan, what is told
//! when something fails, and that nothing is left behind. Cases A11, A28, E10 and E14 of the threats.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::support::appliance::Answer;
use crate::support::appliance::Api;
use crate::support::browser::Browser;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::Tier;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

impl Gated {
    fn place(&self) -> String {
        format!(
            "/api/v1/integrations/{}/projects/{}",
            self.integration.id, self.project
        )
    }

    async fn plan(&self, mode: &str) -> Value {
        let path = format!("{}/provisioning?enforcement={mode}", self.place());
        self.ada.get(&path).await.expect(200)
    }

    async fn try_set_up(&self, plan: &Value) -> Answer {
        let body = json!({
            "enforcement": plan["enforcement"], "plan": plan["plan"], "reason": "We want a lock.",
        });
        self.ada
            .post(&format!("{}/provisioning", self.place()), &body)
            .await
    }

    async fn set_up(&self, mode: &str) -> Value {
        let plan = self.plan(mode).await;
        self.try_set_up(&plan).await.expect(200)
    }

    async fn try_undo(&self) -> Answer {
        let path = format!("{}/provisioning/undo", self.place());
        self.ada.post(&path, &json!({"reason": "It was a test."})).await
    }

    async fn project_now(&self) -> Value {
        self.ada.get(&self.place()).await.expect(200)
    }

    async fn gate_now(&self) -> Value {
        let path = format!("{}/check", self.place());
        self.ada.post(&path, &json!({})).await.expect(200)["gate"].clone()
    }

    /// Everything on the fake that setting up may touch, without the numbers of what is made anew.
    fn settings(&self) -> Value {
        self.gitlab.read(|state| {
            let project = state.project(PROJECT);
            let access = |list: &[crate::support::forge::gitlab::state::Access]| {
                let mut all: Vec<String> = list
                    .iter()
                    .map(|it| format!("{:?} {:?} {:?}", it.level, it.user, it.group))
                    .collect();
                all.sort();
                all
            };
            let mut rules: Vec<Value> = project
                .protections
                .iter()
                .map(|it| {
                    json!([
                        it.name,
                        access(&it.push),
                        access(&it.merge),
                        it.allow_force_push,
                        it.code_owners
                    ])
                })
                .collect();
            rules.sort_by_key(Value::to_string);
            let hooks: Vec<Value> = project
                .hooks
                .iter()
                .map(|it| json!([it.url, it.events, it.ssl_verification]))
                .collect();
            let approvals: Vec<Value> = project
                .approval_rules
                .iter()
                .map(|it| {
                    json!([
                        it.name,
                        it.required,
                        it.users,
                        it.groups,
                        it.branches.len(),
                        it.all_protected
                    ])
                })
                .collect();
            json!({
                "rules": rules, "hooks": hooks, "approvals": approvals,
                "checks": project.status_checks.len(),
                "settings": format!("{:?}", project.settings),
            })
        })
    }
}

/// A project that nothing holds: everybody pushes, skipped pipelines count, no webhook.
async fn open_project(settings: Value) -> Gated {
    let it = Gated::start_with(Hook::None, settings).await;
    it.gitlab.unprotect(PROJECT, "main");
    it.gitlab.protect(PROJECT, "main", DEVELOPER, DEVELOPER, &[]);
    it.gitlab.unprotect(PROJECT, "production");
    it.gitlab.set(PROJECT, |it| {
        it.allow_merge_on_skipped_pipeline = true;
        it.only_allow_merge_if_pipeline_succeeds = false;
    });
    it
}

fn ids(steps: &Value) -> Vec<&str> {
    let steps = steps["steps"].as_array().expect("steps");
    steps.iter().filter_map(|it| it["id"].as_str()).collect()
}

fn results(steps: &Value) -> Vec<(&str, &str)> {
    let steps = steps["steps"].as_array().expect("steps");
    steps
        .iter()
        .map(|it| {
            (
                it["id"].as_str().expect("an id"),
                it["result"].as_str().expect("a result"),
            )
        })
        .collect()
}

fn step<'a>(steps: &'a Value, id: &str) -> &'a Value {
    let all = steps["steps"].as_array().expect("steps");
    let found = all.iter().find(|it| it["id"] == id);
    found.unwrap_or_else(|| panic!("no step {id} in {steps:#}"))
}

fn joined(list: &Value) -> String {
    let list = list.as_array().expect("a list");
    list.iter()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_says_for_each_mode_and_edition_what_would_change() {
    let it = open_project(json!({})).await;
    let mia = it.gitlab.add_user("mia", "Mia\u{202e}", "mia@example.test");
    it.gitlab.add_member(PROJECT, mia, MAINTAINER);
    it.gitlab.clear_calls();

    let plan = it.plan("merge_broker").await;
    let broker = [
        "webhook",
        "protect:main",
        "protect:production",
        "allow_merge_on_skipped_pipeline",
    ];
    assert_eq!(ids(&plan), broker, "{plan:#}");
    let main = step(&plan, "protect:main");
    assert_eq!(
        main["before"],
        "push: Developers + Maintainers; merge: Developers + Maintainers"
    );
    assert_eq!(main["after"], "push: No one; merge: Maintainers");
    // What it costs on Free is said before: the window, and who can still merge.
    assert!(
        text(main, "what").contains("for about a second the branch is unprotected"),
        "{main}"
    );
    assert_eq!(step(&plan, "protect:production")["before"], "not protected");
    let warnings = joined(&plan["warnings"]);
    assert!(warnings.contains("Mia\\u{202e} can still merge"), "{warnings}");
    assert!(
        plan["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .all(|it| it["by_hand"].is_null()),
        "{plan:#}"
    );

    let plan = it.plan("commit_status").await;
    let status = [
        "webhook",
        "only_allow_merge_if_pipeline_succeeds",
        "allow_merge_on_skipped_pipeline",
    ];
    assert_eq!(ids(&plan), status, "{plan:#}");
    assert!(joined(&plan["warnings"]).contains("a display"), "{plan:#}");

    // What the edition does not have is not pretended.
    let plan = it.plan("bot_approval").await;
    assert!(
        text(step(&plan, "approval_rule"), "by_hand").contains("Premium"),
        "{plan:#}"
    );
    let plan = it.plan("external_status_check").await;
    assert!(
        text(step(&plan, "status_check"), "by_hand").contains("Ultimate"),
        "{plan:#}"
    );

    it.gitlab.set_tier(Tier::Premium);
    let plan = it.plan("merge_broker").await;
    assert_eq!(
        step(&plan, "protect:main")["after"],
        "push: No one; merge: this server's account"
    );
    assert!(!joined(&plan["warnings"]).contains("Mia"), "{plan:#}");
    let plan = it.plan("bot_approval").await;
    assert!(step(&plan, "approval_rule")["by_hand"].is_null(), "{plan:#}");
    assert!(
        text(step(&plan, "approval_rule"), "after").contains("`main` and `production`"),
        "{plan:#}"
    );
    assert_eq!(
        step(&plan, "protect:main")["after"],
        "push: No one; merge: as now"
    );

    it.gitlab.set_tier(Tier::Ultimate);
    let plan = it.plan("external_status_check").await;
    assert!(step(&plan, "status_check")["by_hand"].is_null(), "{plan:#}");
    assert!(joined(&plan["warnings"]).contains("does not lock"), "{plan:#}");

    // A plan only reads.
    let wrote = it
        .gitlab
        .calls()
        .into_iter()
        .filter(|it| it.method != "GET" && !it.path.contains("/statuses/"));
    assert_eq!(wrote.count(), 0);
    let unknown = it
        .ada
        .get(&format!("{}/provisioning?enforcement=magic", it.place()))
        .await;
    assert_problem!(unknown, 400, "bad-request");
    let refused = it.bea.get(&format!("{}/provisioning", it.place())).await;
    assert_problem!(refused, 403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_gate_is_set_up_hard_and_put_back_exactly() {
    let it = open_project(json!({})).await;
    assert_eq!(it.gate_now().await["strength"], "none");
    let before = it.settings();

    let done = it.set_up("merge_broker").await;
    assert_eq!(done["complete"], true, "{done:#}");
    assert!(
        results(&done).iter().all(|(_, result)| *result == "done"),
        "{done:#}"
    );
    assert_eq!(done["gate"]["strength"], "hard", "{done:#}");
    let project = it.project_now().await;
    assert_eq!(
        (&project["enforcement"], &project["auto_merge"]),
        (&json!("merge_broker"), &json!(true))
    );
    // The webhook proves itself, and hears everything but comments.
    let hook = it.gitlab.read(|state| state.project(PROJECT).hooks[0].clone());
    assert_eq!(hook.url, it.integration.webhook_url);
    let secret = Some(it.integration.webhook_secret.clone());
    assert_eq!((&hook.token, &hook.signing_token), (&secret, &secret));
    assert!(
        hook.events.contains("deployment_events") && !hook.events.contains("note_events"),
        "{:?}",
        hook.events
    );

    // It works: only the server merges, by what is approved.
    let change = it.open("topic", "main");
    let request = it.pending(&change, "main").await;
    it.bea.approve(&request).await;
    it.gitlab.expect("it is merged", SOON, |it| {
        it.merge_request(PROJECT, change.iid).state == "merged"
    });

    // Nothing is left to do, and the same plan again changes nothing.
    let plan = it.plan("merge_broker").await;
    assert_eq!(ids(&plan), [""; 0], "{plan:#}");
    assert_eq!(plan["undoable"].as_array().map(Vec::len), Some(4), "{plan:#}");
    let again = it.try_set_up(&plan).await.expect(200);
    assert_eq!((&again["complete"], ids(&again)), (&json!(true), vec![]));

    let undone = it.try_undo().await.expect(200);
    assert_eq!(undone["complete"], true, "{undone:#}");
    assert!(
        results(&undone).iter().all(|(_, result)| *result == "done"),
        "{undone:#}"
    );
    assert_eq!(it.settings(), before);
    assert_eq!(undone["gate"]["strength"], "none", "{undone:#}");
    // What an admin takes away deliberately is looked over by somebody all the same.
    let open = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(
        open.iter().any(|it| it["type"] == "exception.protection_drift"),
        "{open:#?}"
    );
    assert_problem!(it.try_undo().await, 403, "not-allowed");

    let started = it.ada.journal("gate.provisioning_started").await;
    let made = it.ada.journal("gate.provisioned").await;
    let restored = it.ada.journal("gate.restored").await;
    assert_eq!((started.len(), made.len(), restored.len()), (1, 1, 1));
    assert_eq!(made[0]["data"]["reason"], "We want a lock.");
    assert_eq!(restored[0]["data"]["by"], "Ada");
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_exactly_the_plan_that_was_shown_is_carried_out() {
    let it = open_project(json!({})).await;
    let plan = it.plan("merge_broker").await;
    it.gitlab.protect(PROJECT, "main", MAINTAINER, DEVELOPER, &[]);
    let before = it.settings();
    assert_problem!(it.try_set_up(&plan).await, 409, "outdated");
    // Whoever may merge by hand is a part of what is confirmed.
    let plan = it.plan("merge_broker").await;
    let mia = it.gitlab.add_user("mia", "Mia", "mia@example.test");
    it.gitlab.add_member(PROJECT, mia, MAINTAINER);
    assert_problem!(it.try_set_up(&plan).await, 409, "outdated");
    // Another mode's plan, and no plan at all.
    let mut other = it.plan("commit_status").await;
    other["enforcement"] = json!("merge_broker");
    assert_problem!(it.try_set_up(&other).await, 409, "outdated");
    let plan = it.plan("merge_broker").await;
    let path = format!("{}/provisioning", it.place());
    let origin = it.appliance.origin();
    for (body, status, problem) in [
        (
            json!({"enforcement": "merge_broker", "plan": plan["plan"], "reason": "  "}),
            422,
            "invalid",
        ),
        (
            json!({"enforcement": "merge_broker", "plan": "yes", "reason": "r"}),
            400,
            "bad-request",
        ),
        (
            json!({"enforcement": "merge_broker", "plan": plan["plan"]}),
            422,
            "invalid",
        ),
        (
            json!({"enforcement": "magic", "plan": plan["plan"], "reason": "r"}),
            400,
            "bad-request",
        ),
    ] {
        // No reason beside the body's.
        let headers = [("origin", origin.as_str()), ("x-reason", "")];
        let refused = it.ada.send_with("POST", &path, &headers, Some(&body)).await;
        assert_eq!(refused.status, status, "{body} {refused:?}");
        assert_problem!(refused, status, problem);
    }
    let body = json!({"enforcement": "merge_broker", "plan": plan["plan"], "reason": "r"});
    assert_problem!(it.bea.post(&path, &body).await, 403, "forbidden");
    assert_eq!(it.settings(), before);
    assert_eq!(it.ada.journal("gate.provisioning_started").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_role_every_step_says_what_a_person_has_to_click() {
    let it = open_project(json!({})).await;
    let bot = it.gitlab.read(|state| {
        let found = state.users.values().find(|it| it.username == "project_42_bot_a1");
        found.expect("the bot").id
    });
    it.gitlab.add_member(PROJECT, bot, DEVELOPER);
    let plan = it.plan("merge_broker").await;
    assert_eq!(
        ids(&plan),
        [
            "webhook",
            "protect:main",
            "protect:production",
            "allow_merge_on_skipped_pipeline"
        ]
    );
    for step in plan["steps"].as_array().expect("steps") {
        let told = text(step, "by_hand");
        assert!(
            told.starts_with("The token's account is Developer of the project"),
            "{told}"
        );
        assert!(told.contains("Settings → "), "{told}");
    }
    let before = it.settings();
    assert_problem!(it.try_set_up(&plan).await, 422, "invalid");
    assert_eq!(it.settings(), before);

    it.gitlab.add_member(PROJECT, bot, MAINTAINER);
    it.gitlab.rescope_token(&it.token, &["read_api"]);
    let plan = it.plan("commit_status").await;
    assert!(
        text(step(&plan, "webhook"), "by_hand").contains("has not the scope api"),
        "{plan:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_gitlab_blocks_is_explained_and_nothing_else_is_done() {
    let it = open_project(json!({})).await;
    let before = it.settings();
    it.gitlab.block_local_hooks(true);
    let done = it.set_up("merge_broker").await;
    assert_eq!(done["complete"], false, "{done:#}");
    let failed = step(&done, "webhook");
    assert_eq!(failed["result"], "failed", "{failed}");
    let detail = text(failed, "detail");
    assert!(
        detail.contains("Admin → Settings → Network → Outbound requests"),
        "{detail}"
    );
    assert!(detail.contains("Invalid url given"), "{detail}");
    assert!(!detail.contains(&it.integration.webhook_secret), "{detail}");
    let rest: Vec<&str> = results(&done).iter().skip(1).map(|it| it.1).collect();
    assert_eq!(rest, ["not_tried"; 3]);
    assert_eq!(it.settings(), before);
    // The mode is what it was: a gate that is not set up is not called one.
    assert_eq!(it.project_now().await["enforcement"], "commit_status");

    it.gitlab.block_local_hooks(false);
    assert_eq!(it.set_up("merge_broker").await["complete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_half_way_stops_and_what_was_done_can_be_put_back() {
    let it = open_project(json!({})).await;
    let before = it.settings();
    // The old entry is gone, the new one refused: the old one is made again.
    it.gitlab
        .fail("POST", "/protected_branches", 1, Trouble::Code(500));
    let done = it.set_up("merge_broker").await;
    let order: Vec<&str> = results(&done).iter().map(|it| it.1).collect();
    assert_eq!(order, ["done", "failed", "not_tried", "not_tried"], "{done:#}");
    let detail = text(step(&done, "protect:main"), "detail");
    assert!(detail.contains("The entry is again as it was before"), "{detail}");
    assert_eq!(it.settings()["rules"], before["rules"]);
    let page = it
        .ada
        .get(&format!("/dashboard/integrations/gitlab/{}/gate", it.project))
        .await
        .text();
    assert!(
        page.contains("Not tried") && page.contains("Put the old settings back"),
        "{page}"
    );
    let undone = it.try_undo().await.expect(200);
    assert_eq!(
        results(&undone),
        [("protect:main", "unchanged"), ("webhook", "done")],
        "{undone:#}"
    );
    assert_eq!(it.settings(), before);

    // Not even that works: it is said loudly, and putting back makes the old entry again.
    it.gitlab
        .fail("POST", "/protected_branches", 4, Trouble::Code(500));
    let done = it.set_up("merge_broker").await;
    let detail = text(step(&done, "protect:main"), "detail");
    assert!(detail.contains("UNPROTECTED"), "{detail}");
    let undone = it.try_undo().await.expect(200);
    assert_eq!(undone["complete"], true, "{undone:#}");
    assert_eq!(it.settings(), before);

    // An answer that got lost is no failure where the change was made.
    it.gitlab.fail("PUT", "/projects/42", 1, Trouble::LostAnswer(502));
    let done = it.set_up("merge_broker").await;
    assert_eq!(done["complete"], true, "{done:#}");
    // And a success that changed nothing is one.
    it.try_undo().await.expect(200);
    it.gitlab
        .fail("POST", "/protected_branches", 1, Trouble::NotStored);
    let done = it.set_up("merge_broker").await;
    assert_eq!(step(&done, "protect:main")["result"], "failed", "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_since_is_left_alone_and_told() {
    let it = open_project(json!({})).await;
    assert_eq!(it.set_up("merge_broker").await["complete"], true);
    // By hand: another protection, the flag on again, the webhook away.
    it.gitlab.protect(PROJECT, "main", MAINTAINER, MAINTAINER, &[]);
    it.gitlab
        .set(PROJECT, |it| it.allow_merge_on_skipped_pipeline = true);
    it.gitlab
        .change_state(|state| state.project_mut(PROJECT).hooks.clear());
    let undone = it.try_undo().await.expect(200);
    assert_eq!(
        results(&undone),
        [
            ("allow_merge_on_skipped_pipeline", "unchanged"),
            ("protect:production", "done"),
            ("protect:main", "left_alone"),
            ("webhook", "unchanged"),
        ],
        "{undone:#}"
    );
    let detail = text(step(&undone, "protect:main"), "detail");
    assert!(detail.contains("Somebody has changed it since"), "{detail}");
    let rules = it.settings()["rules"].clone();
    assert_eq!(rules.as_array().map(Vec::len), Some(1), "{rules}");
    assert_eq!(it.plan("merge_broker").await["undoable"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_lacks_events_or_is_disabled_is_mended_and_never_doubled() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    let before = it.settings();
    let hook = it.gitlab.read(|state| state.project(PROJECT).hooks[0].id);
    it.gitlab.push(
        PROJECT,
        "playground",
        it.carl_account,
        &Gated::commit_of_carl("seen.rs"),
    );
    it.gitlab.settle(SOON);
    it.gitlab.disable_hook(PROJECT, hook, None);
    let plan = it.plan("merge_broker").await;
    assert_eq!(ids(&plan), ["webhook"], "{plan:#}");
    let told = text(step(&plan, "webhook"), "before");
    assert!(
        told.contains("deployments") && told.contains("disabled"),
        "{told}"
    );
    let done = it.try_set_up(&plan).await.expect(200);
    assert_eq!(done["complete"], true, "{done:#}");
    it.gitlab.read(|state| {
        let hooks = &state.project(PROJECT).hooks;
        assert_eq!(hooks.len(), 1);
        assert_eq!(hooks[0].alert_status, "executable");
        assert!(hooks[0].events.contains("job_events"));
    });
    it.try_undo().await.expect(200);
    assert_eq!(it.settings(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrators_token_sets_up_one_system_hook_for_all_projects() {
    let it = open_project(json!({})).await;
    let before = it.settings();
    let path = format!("{}/provisioning?enforcement=merge_broker&hook=", it.place());
    let refused = it.ada.get(&format!("{path}group")).await;
    assert_problem!(refused, 400, "bad-request");
    assert!(refused.text().contains("project, system"), "{refused:?}");

    // Without the right, a person is told what to click.
    let plan = it.ada.get(&format!("{path}system")).await.expect(200);
    let by_hand = text(step(&plan, "system_hook"), "by_hand");
    assert!(
        by_hand.contains("Only an administrator's token") && by_hand.contains("Admin → System hooks"),
        "{by_hand}"
    );
    assert!(!ids(&plan).contains(&"webhook"), "{plan:#}");

    // System hooks reach private addresses where webhooks of projects don't.
    let account = it.gitlab.read(|state| state.appliance).expect("an account");
    it.gitlab.make_admin(account);
    it.gitlab.block_local_hooks(true);
    assert!(joined(&it.plan("merge_broker").await["warnings"]).contains("one system hook"));
    let plan = it.ada.get(&format!("{path}system")).await.expect(200);
    assert_eq!(step(&plan, "system_hook")["by_hand"], Value::Null, "{plan:#}");
    assert!(
        joined(&plan["warnings"]).contains("tells nothing of pipelines"),
        "{plan:#}"
    );
    // The plan names the place of the hook too: without it, it is another plan.
    let body = json!({"enforcement": "merge_broker", "plan": plan["plan"], "reason": "We want a lock."});
    let to = format!("{}/provisioning", it.place());
    assert_problem!(it.ada.post(&to, &body).await, 409, "outdated");
    let body = json!({
        "enforcement": "merge_broker", "hook": "system", "plan": plan["plan"], "reason": "We want a lock.",
    });
    let done = it.ada.post(&to, &body).await.expect(200);
    assert_eq!(done["complete"], true, "{done:#}");
    let detail = text(step(&done, "system_hook"), "detail");
    assert_eq!(detail, "GitLab signs its calls.");
    it.gitlab.read(|state| {
        assert!(state.project(PROJECT).hooks.is_empty());
        let [hook] = state.system_hooks.as_slice() else {
            panic!("not one system hook: {:?}", state.system_hooks);
        };
        let events: Vec<&str> = hook.events.iter().map(String::as_str).collect();
        assert_eq!(events, ["merge_requests_events", "push_events"]);
    });
    // It is seen, and so the project's own is not missed.
    assert!(!codes(&it.gate_now().await).contains(&"webhook_missing"));
    let plan = it.ada.get(&format!("{path}system")).await.expect(200);
    assert!(!ids(&plan).contains(&"system_hook"), "{plan:#}");

    // A merge request comes in by it, signed.
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    it.gitlab.settle(SOON);
    it.gitlab.read(|state| {
        let hook = state.system_hooks[0].id;
        let sent: Vec<_> = state.deliveries.values().filter(|it| it.hook == hook).collect();
        assert!(!sent.is_empty());
        for it in sent {
            let code = it.attempts.last().and_then(|it| it.status);
            assert!(matches!(code, Some(200 | 202)), "{it:?}");
        }
    });
    let received = it.ada.journal("hook.received").await;
    assert!(!received.is_empty(), "the journal knows no webhook");

    it.try_undo().await.expect(200);
    assert!(it.gitlab.read(|state| state.system_hooks.is_empty()));
    assert_eq!(it.settings(), before);
    assert!(codes(&it.gate_now().await).contains(&"webhook_missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn premium_names_the_account_alone_and_asks_for_its_approval() {
    let it = open_project(json!({})).await;
    it.gitlab.set_tier(Tier::Premium);
    let mia = it.gitlab.add_user("mia", "Mia", "mia@example.test");
    it.gitlab.add_member(PROJECT, mia, MAINTAINER);
    let before = it.settings();
    it.gitlab.clear_calls();
    let done = it.set_up("merge_broker").await;
    assert_eq!(done["complete"], true, "{done:#}");
    assert_eq!(done["gate"]["strength"], "hard", "{done:#}");
    // An entry that is there is changed, never taken away.
    assert_eq!(it.gitlab.calls_to("DELETE", "/protected_branches").len(), 0);
    assert_eq!(it.try_undo().await.expect(200)["complete"], true);
    assert_eq!(it.settings(), before);

    let done = it.set_up("bot_approval").await;
    assert_eq!(done["complete"], true, "{done:#}");
    assert_eq!(it.project_now().await["enforcement"], "bot_approval");
    it.gitlab.read(|state| {
        let rules = &state.project(PROJECT).approval_rules;
        assert_eq!(rules.len(), 1, "{rules:?}");
        assert_eq!(
            (rules[0].name.as_str(), rules[0].required, rules[0].branches.len()),
            ("SignedApproval", 1, 2)
        );
        assert_eq!(rules[0].users.len(), 1);
        let settings = &state.project(PROJECT).settings;
        assert!(settings.reset_approvals_on_push && settings.merge_requests_author_approval);
        assert!(!settings.merge_requests_disable_committers_approval);
    });
    // What the doctor asks of this mode is what the plan has made.
    let found = codes(&done["gate"]).join(" ");
    assert!(!found.contains("approval"), "{done:#}");
    let plan = it.plan("bot_approval").await;
    assert_eq!(ids(&plan), [""; 0], "{plan:#}");
    let undone = it.try_undo().await.expect(200);
    assert_eq!(undone["complete"], true, "{undone:#}");
    assert_eq!(it.settings(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn ultimate_asks_this_server_before_it_merges() {
    let it = open_project(json!({})).await;
    it.gitlab.set_tier(Tier::Ultimate);
    let before = it.settings();
    let done = it.set_up("external_status_check").await;
    assert_eq!(done["complete"], true, "{done:#}");
    assert_eq!(it.settings()["checks"], 1);
    let plan = it.plan("external_status_check").await;
    assert_eq!(ids(&plan), [""; 0], "{plan:#}");
    let undone = it.try_undo().await.expect(200);
    assert_eq!(undone["complete"], true, "{undone:#}");
    assert_eq!(it.settings(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_takes_in_other_branches_is_left_to_a_person() {
    let it = open_project(json!({})).await;
    it.gitlab.protect(PROJECT, "*", DEVELOPER, DEVELOPER, &[]);
    let plan = it.plan("merge_broker").await;
    let wide = step(&plan, "protect:*");
    assert!(
        text(wide, "by_hand").contains("takes in other branches too"),
        "{wide}"
    );
    let done = it.try_set_up(&plan).await.expect(200);
    assert_eq!(step(&done, "protect:*")["result"], "by_hand");
    assert_eq!(done["complete"], false);
    // Not hard, and not called so.
    assert_ne!(done["gate"]["strength"], "hard", "{done:#}");
    assert_eq!(it.project_now().await["enforcement"], "commit_status");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_admin_alone_neither_changes_the_mode_nor_takes_the_gate_away() {
    let it = open_project(json!({})).await;
    it.set_up("merge_broker").await;
    let policy = json!({
        "change_quorum": 2,
        "rules": [{ "name": "Main", "match": { "branch": "main" }, "require": { "method": ["passkey"], "quorum": 1 } }],
    });
    it.ada.put_policy("default", &policy).await;
    let before = it.settings();
    let plan = it.plan("commit_status").await;
    let refused = it.try_set_up(&plan).await;
    assert!(
        refused.text().contains("Set \\\"enforcement\\\" of the project"),
        "{refused:?}"
    );
    assert_problem!(refused, 403, "not-allowed");
    let refused = it.try_undo().await;
    assert!(refused.text().contains("2 admins to weaken"), "{refused:?}");
    assert_problem!(refused, 403, "not-allowed");
    assert_eq!(it.settings(), before);
    // What is in force already may be mended by one.
    it.gitlab
        .set(PROJECT, |it| it.allow_merge_on_skipped_pipeline = true);
    assert_eq!(it.set_up("merge_broker").await["complete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_journal_the_log_or_an_answer() {
    let it = open_project(json!({})).await;
    it.gitlab.set_tier(Tier::Ultimate);
    let developer = it.gitlab.add_token(it.carl_account, &["api"]);
    let mut seen = String::new();
    for mode in ["external_status_check", "bot_approval", "merge_broker"] {
        seen += &it.plan(mode).await.to_string();
        it.gitlab.fail(
            "PUT",
            "/projects/42",
            1,
            Trouble::Json(400, json!({"message": it.token})),
        );
        seen += &it.set_up(mode).await.to_string();
        it.gitlab.heal();
        seen += &it.set_up(mode).await.to_string();
    }
    seen += &it
        .ada
        .post(
            &format!("{}/trial", it.place()),
            &json!({"other_token": developer}),
        )
        .await
        .text();
    seen += &it.try_undo().await.text();
    for kind in [
        "gate.provisioning_started",
        "gate.provisioned",
        "gate.restored",
        "gate.trial_started",
        "gate.tried",
    ] {
        let entries = it.ada.journal(kind).await;
        assert!(!entries.is_empty(), "{kind}");
        seen += &json!(entries).to_string();
    }
    seen += &it
        .ada
        .get(&format!("/dashboard/integrations/gitlab/{}/gate", it.project))
        .await
        .text();
    seen += &it.appliance.log();
    for (what, secret) in [
        ("token", &it.token),
        ("webhook secret", &it.integration.webhook_secret),
        ("developer's token", &developer),
    ] {
        assert!(!seen.contains(secret.as_str()), "the {what} is seen");
    }
}

impl Gated {
    async fn trial(&self, body: &Value) -> Value {
        self.ada
            .post(&format!("{}/trial", self.place()), body)
            .await
            .expect(200)
    }

    /// Nothing of a trial is left on the forge, and its request has ended.
    async fn assert_cleared(&self) {
        self.gitlab.read(|state| {
            let project = state.project(PROJECT);
            let branches: Vec<_> = project
                .branches
                .keys()
                .filter(|it| it.contains("-trial-"))
                .collect();
            assert!(branches.is_empty(), "{branches:?}");
            for change in project.merge_requests.values() {
                assert_ne!(
                    (change.state.as_str(), change.title.contains("Trial")),
                    ("opened", true)
                );
                assert_ne!(
                    (change.state.as_str(), change.title.contains("Trial")),
                    ("merged", true)
                );
            }
        });
        let started = Instant::now();
        loop {
            let all = items(&self.auditor.get("/api/v1/approvals?kind=change&limit=100").await);
            let mut trials = all.iter().filter(|it| text(it, "action").contains("Trial"));
            if trials.all(|it| it["status"] == "cancelled") {
                return;
            }
            assert!(started.elapsed() < SOON, "{all:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Asks, and does not mind what becomes of it.
async fn post(api: &Api, path: &str, body: &str) -> bool {
    let json = [("content-type", "application/json")];
    let body = Some(body.as_bytes().to_vec());
    api.try_send("POST", path, &json, body).await.is_ok()
}

fn codes(gate: &Value) -> Vec<&str> {
    let findings = gate["findings"].as_array().expect("findings");
    findings.iter().filter_map(|it| it["code"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_of_a_hard_gate_finds_no_way_through() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    let developer = it.gitlab.add_token(it.carl_account, &["api"]);
    let tried = it.trial(&json!({"other_token": developer})).await;
    assert_eq!(tried["trial"]["findings"], json!([]), "{tried:#}");
    assert_eq!(tried["trial"]["cleared"], true, "{tried:#}");
    assert_eq!(tried["gate"]["strength"], "hard", "{tried:#}");
    let attempts = tried["trial"]["attempts"].to_string();
    assert!(
        attempts.contains("401") && attempts.contains("It may not merge."),
        "{attempts}"
    );
    assert!(attempts.contains("as @carl"), "{attempts}");
    // A status is a display, also where nothing follows from it.
    assert!(
        attempts.contains("green status in this server's name"),
        "{attempts}"
    );
    it.assert_cleared().await;
    // The only merge that was ever asked for names a commit that does not exist.
    let mut merges = it.gitlab.calls_to("PUT", "/merge");
    merges.retain(|it| it.path.ends_with("/merge"));
    assert_eq!(merges.len(), 1);
    assert!(
        merges.iter().all(|it| it.body["sha"] == "0".repeat(40)),
        "{merges:#?}"
    );
    assert_eq!(it.ada.journal("gate.tried").await.len(), 1);
    it.gitlab.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_of_a_soft_gate_shows_what_a_forged_status_opens() {
    let it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    let mia = it.gitlab.add_user("mia", "Mia", "mia@example.test");
    it.gitlab.add_member(PROJECT, mia, MAINTAINER);
    let developer = it.gitlab.add_token(it.carl_account, &["api"]);
    // Without another token: GitLab holds it while the status is pending.
    let tried = it.trial(&json!({})).await;
    assert_eq!(tried["trial"]["findings"], json!([]), "{tried:#}");
    let tried = it.trial(&json!({"other_token": developer})).await;
    assert_eq!(tried["gate"]["strength"], "soft", "{tried:#}");
    assert!(
        codes(&tried["gate"]).contains(&"trial_forged_status"),
        "{tried:#}"
    );
    assert!(
        !codes(&tried["gate"]).contains(&"trial_developer_merges"),
        "{tried:#}"
    );
    it.assert_cleared().await;
    // What the trial itself posted alarms nobody, and is set back.
    let open = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(
        open.iter().all(|it| it["type"] != "exception.status_forged"),
        "{open:#?}"
    );
    // It counts until a setting changes, whatever looks say in between.
    assert!(codes(&it.gate_now().await).contains(&"trial_forged_status"));
    // A trial that does not ask does not answer.
    let tried = it.trial(&json!({})).await;
    assert!(
        codes(&tried["gate"]).contains(&"trial_forged_status"),
        "{tried:#}"
    );
    it.gitlab.add_member(PROJECT, mia, DEVELOPER);
    let gate = it.gate_now().await;
    assert_eq!(
        (&gate["strength"], codes(&gate)),
        (&json!("hard"), vec![]),
        "{gate:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_of_an_open_project_proves_that_nothing_holds() {
    let it = open_project(json!({})).await;
    it.gitlab.register_hook(
        PROJECT,
        &it.integration.webhook_url,
        Some(&it.integration.webhook_secret),
        None,
    );
    let developer = it.gitlab.add_token(it.carl_account, &["api"]);
    let tried = it
        .trial(&json!({"other_token": developer, "branch": "production"}))
        .await;
    assert_eq!(tried["gate"]["strength"], "none", "{tried:#}");
    let found = codes(&tried["gate"]);
    assert!(
        found.contains(&"trial_open_while_waiting") && found.contains(&"trial_developer_merges"),
        "{tried:#}"
    );
    it.assert_cleared().await;
    // Our own token says nothing about others; a dead one neither.
    let tried = it.trial(&json!({"other_token": it.token})).await;
    assert!(
        tried["trial"]["attempts"]
            .to_string()
            .contains("this server's own account"),
        "{tried:#}"
    );
    let tried = it.trial(&json!({"other_token": "glpat-nonsense"})).await;
    assert!(
        tried["trial"]["attempts"]
            .to_string()
            .contains("does not accept the token"),
        "{tried:#}"
    );
    let path = format!("{}/trial", it.place());
    assert_problem!(
        it.ada.post(&path, &json!({"branch": "playground"})).await,
        422,
        "invalid"
    );
    assert_problem!(it.bea.post(&path, &json!({})).await, 403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_a_trial_and_a_crash_leaves_nothing_behind() {
    let mut it = Gated::start_with(Hook::Token, json!({"auto_merge": true})).await;
    // Its own status never arrives, so that the trial waits.
    it.gitlab.fail("POST", "/statuses/", 1000, Trouble::Code(503));
    let (api, path) = (it.appliance.api(), format!("{}/trial", it.place()));
    let key = it.ada.create_api_key("Trier", &["admin"], &[]).await;
    let waiting = tokio::spawn(async move { post(&api.with_key(&key.key), &path, "{}").await });
    it.gitlab.expect("the trial is open", SOON, |it| {
        it.read(|state| {
            let all = &state.project(PROJECT).merge_requests;
            all.values()
                .any(|it| it.title.contains("Trial") && it.state == "opened")
        })
    });
    let started = Instant::now();
    let request = loop {
        let all = items(&it.auditor.get("/api/v1/approvals?kind=change&limit=100").await);
        if let Some(found) = all.first() {
            break found.clone();
        }
        assert!(started.elapsed() < SOON, "the trial has no request");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let refused = it.bea.decide(&text(&request, "id"), "approve", None).await;
    assert_problem!(refused, 403, "blocked");
    // One at a time.
    let second = it.ada.post(&format!("{}/trial", it.place()), &json!({})).await;
    assert_problem!(second, 409, "outdated");

    it.appliance.kill9();
    let _ = waiting.await;
    it.gitlab.heal();
    it.appliance.restart().await;
    it.gitlab.expect("it is cleared away", SOON, |it| {
        it.read(|state| {
            let project = state.project(PROJECT);
            let open = project.merge_requests.values().any(|it| it.state == "opened");
            !open && !project.branches.keys().any(|it| it.contains("-trial-"))
        })
    });
    it.assert_cleared().await;
    let started = Instant::now();
    while it.ada.journal("gate.trial_cleared").await.is_empty() {
        assert!(started.elapsed() < SOON, "not recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tried = it.trial(&json!({})).await;
    assert_eq!(tried["trial"]["cleared"], true, "{tried:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_up_that_a_crash_cut_short_can_be_put_back() {
    let mut it = open_project(json!({})).await;
    let before = it.settings();
    let plan = it.plan("merge_broker").await;
    it.gitlab.fail_after(
        0,
        "POST",
        "/protected_branches",
        1,
        Trouble::Hang(Duration::from_secs(60)),
    );
    let (api, path) = (it.appliance.api(), format!("{}/provisioning", it.place()));
    let key = it.ada.create_api_key("Setter", &["admin"], &[]).await;
    let body = json!({"enforcement": "merge_broker", "plan": plan["plan"], "reason": "r"}).to_string();
    let waiting = tokio::spawn(async move { post(&api.with_key(&key.key), &path, &body).await });
    it.gitlab.expect("the old entry is gone", SOON, |it| {
        it.read(|state| {
            let mut rules = state.project(PROJECT).protections.iter();
            !rules.any(|it| it.name == "main" && it.push.iter().any(|it| it.level == Some(DEVELOPER)))
        })
    });
    let running = it.try_undo().await;
    assert_problem!(running, 409, "outdated");
    it.appliance.kill9();
    let _ = waiting.await;
    it.gitlab.heal();
    it.appliance.restart().await;
    let started = Instant::now();
    while it.ada.journal("gate.provisioned").await.is_empty() {
        assert!(started.elapsed() < SOON, "the interruption is not recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let undone = it.try_undo().await.expect(200);
    assert_eq!(undone["complete"], true, "{undone:#}");
    assert_eq!(it.settings(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_set_up_tried_and_put_back_in_the_browser() {
    if !can_run("the_gate_is_set_up_tried_and_put_back_in_the_browser") {
        return;
    }
    let it = open_project(json!({})).await;
    let mia = it.gitlab.add_user("mia", "Mia", "mia@example.test");
    it.gitlab.add_member(PROJECT, mia, MAINTAINER);
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let invited = it.ada.invite("Dora", &["admin"]).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    browser
        .goto(&format!(
            "{}/dashboard/integrations/gitlab",
            it.appliance.public_url()
        ))
        .await;
    browser.click("a[href$='/gate']").await;
    browser.wait_for_text("Choose what enforces it").await;
    shoot(&browser, "gate-modes").await;

    browser.click("a[href^='?enforcement=merge_broker']").await;
    browser.wait_for_text("The plan").await;
    browser.wait_for_text("Mia can still merge").await;
    shoot(&browser, "gate-plan").await;
    browser
        .fill("#reason", "Only the server merges from now on.")
        .await;
    browser.click("#plan form button").await;
    browser.wait_for_text("What was set up").await;
    let result = browser.text("#result").await;
    assert!(result.contains("Done") && !result.contains("Failed"), "{result}");
    shoot(&browser, "gate-result").await;

    let developer = it.gitlab.add_token(it.carl_account, &["api"]);
    browser.fill("#other_token", &developer).await;
    browser.click("#trial form button").await;
    browser
        .wait_until_within(
            "document.querySelector('#trial').textContent.includes('It may not merge')",
            SOON * 4,
        )
        .await;
    shoot(&browser, "gate-trial").await;
    assert!(!browser.source().await.contains(&developer));

    // Two admins would have to make the project's gate a display first; the other one's passkey is lost.
    let lost = ["admin", "recover", &it.ada.email, "--reason", "a test"];
    let (code, out, err) = it.appliance.cli(&lost).await;
    assert_eq!(code, 0, "{out}{err}");
    browser.fill("#undo-reason", "It was a test.").await;
    browser.click("#undo form button").await;
    browser.wait_for_text("What was put back").await;
    shoot(&browser, "gate-undone").await;
    assert_clean(&browser, &it.appliance).await;
}
