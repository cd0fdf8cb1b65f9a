//! What becomes of lost, late, doubled and foreign webhooks, and of a forge that is away or asks for quiet: in the end
//! everything is exactly as the forge has it. Cases A10, A12, E1, E4 to E9, E16, E17 and E19 of the threats.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Options;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::state::Attempt;
use crate::support::forge::gitlab::state::Call;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Change;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::items;
use crate::support::person::text;

/// What a lost webhook may cost (contract, section 3.4).
const LOST_MAX: Duration = Duration::from_secs(60);
/// A call that was on its way when the forge asked for quiet may still come in so long after.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// An appliance that looks at its forge every second.
fn quick() -> Options {
    Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1")
}

async fn gated(hook: Hook, settings: Value) -> Gated {
    Gated::start_in(quick(), hook, settings).await
}

impl Gated {
    /// Waits for the newest request of a merge request to have this status, whatever it is about.
    async fn ends(&self, iid: u64, status: &str) {
        let started = Instant::now();
        loop {
            let all = self.requests(iid).await;
            if all.first().is_some_and(|it| it["status"] == status) {
                return;
            }
            assert!(started.elapsed() < LOST_MAX, "!{iid} is not {status}: {all:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The status of a change on the forge is this and stays it over some looks of the reconciler.
    async fn stays(&self, change: &Change, target: &str, state: &str) {
        self.expect_status_within(&change.head, target, state, LOST_MAX);
        let before = self.requests(change.iid).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        self.expect_status(&change.head, target, state);
        assert_eq!(self.requests(change.iid).await, before);
    }

    fn hook_id(&self) -> u64 {
        self.gitlab.read(|state| state.project(PROJECT).hooks[0].id)
    }

    async fn hooks_received(&self) -> Vec<Value> {
        self.ada.journal("hook.received").await
    }

    /// Calls that came although the forge had asked for quiet.
    fn early_calls(&self) -> Vec<Call> {
        let calls = self.gitlab.calls();
        let asked: Vec<Instant> = calls
            .iter()
            .filter(|it| it.status == Some(429))
            .map(|it| it.at)
            .collect();
        let is_early = |call: &Call| {
            call.too_early
                && !asked
                    .iter()
                    .any(|at| call.at >= *at && call.at < *at + ON_ITS_WAY)
        };
        calls.into_iter().filter(is_early).collect()
    }
}

fn answered(attempt: &Attempt) -> u16 {
    attempt
        .status
        .unwrap_or_else(|| panic!("no answer: {:?}", attempt.error))
}

// E7: every webhook is lost. The changes of a merge request's whole life are found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn changes_whose_webhooks_are_all_lost_are_right_within_a_minute() {
    let it = gated(Hook::Token, json!({})).await;
    let stays = it.open("stays", "main");
    let (pushed, retargeted, closed) = (
        it.open("pushed", "main"),
        it.open("retargeted", "main"),
        it.open("closed", "main"),
    );
    let approved = it.open("approved", "main");
    for change in [&stays, &pushed, &retargeted, &closed, &approved] {
        it.pending(change, "main").await;
    }
    let request = text(&it.request(&approved, "main", "pending").await, "id");
    it.bea.approve(&request).await;
    it.expect_status(&approved.head, "main", "success");
    let merged = it.open("merged", "main");
    it.pending(&merged, "main").await;

    it.gitlab.settle(SOON);
    it.gitlab.hooks_off();
    let received = it.hooks_received().await.len();
    let lost = Instant::now();
    let opened = it.open("opened", "main");
    let pushed = it.push(&pushed, "more.rs");
    it.gitlab
        .retarget(PROJECT, retargeted.iid, "production", it.carl_account);
    it.gitlab.close(PROJECT, closed.iid, it.carl_account);
    it.gitlab
        .retitle(PROJECT, stays.iid, "Another title", it.carl_account);
    let approved = it.push(&approved, "after-approval.rs");
    it.gitlab
        .merge_past_all_checks(PROJECT, merged.iid, it.carl_account);
    // Opened and merged between two looks: nobody was asked, and that is told.
    let brief = it.open("brief", "main");
    it.gitlab
        .merge_past_all_checks(PROJECT, brief.iid, it.carl_account);

    for change in [&opened, &pushed, &approved] {
        it.expect_status_within(&change.head, "main", "pending", LOST_MAX);
        it.request(change, "main", "pending").await;
    }
    it.expect_status_within(&retargeted.head, "production", "pending", LOST_MAX);
    it.request(&retargeted, "production", "pending").await;
    it.ends(closed.iid, "cancelled").await;
    it.ends(merged.iid, "cancelled").await;
    let titled = |it: &Value| it["subject"]["change"] == format!("!{}", stays.iid);
    let started = Instant::now();
    loop {
        let observed = it.ada.journal("change.observed").await;
        let retitled = observed.iter().any(|it| it["data"]["title"] == "Another title");
        let exceptions = items(&it.auditor.get("/api/v1/exceptions").await);
        let unapproved = |iid: u64| {
            exceptions.iter().any(|it| {
                it["type"] == "exception.unapproved_change" && it["data"]["change"]["number"] == iid
            })
        };
        if retitled && unapproved(merged.iid) && unapproved(brief.iid) {
            break;
        }
        assert!(started.elapsed() < LOST_MAX, "{exceptions:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(lost.elapsed() < LOST_MAX, "{:?}", lost.elapsed());
    assert_eq!(
        it.requests(stays.iid)
            .await
            .iter()
            .filter(|it| titled(it))
            .count(),
        1
    );
    assert_eq!(it.hooks_received().await.len(), received);
    it.gitlab.assert_no_violations();
}

// E7, issue 4: an installation with several gated projects is read as a whole, and by numbers alone.
#[tokio::test(flavor = "multi_thread")]
async fn several_projects_are_found_in_the_one_list_of_their_installation() {
    let it = gated(Hook::None, json!({})).await;
    let bot = it
        .gitlab
        .read(|state| state.appliance)
        .expect("the appliance's account");
    let others: Vec<u64> = (1..=5).map(|n| 100 + n).collect();
    for id in &others {
        it.gitlab.add_project(*id, &format!("group/app-{id}"));
        it.gitlab.add_member(*id, bot, MAINTAINER);
        it.gitlab.add_member(*id, it.carl_account, MAINTAINER);
        it.ada
            .gate_project(
                &it.integration,
                &json!({"project_id": id, "branch_patterns": ["main"]}),
            )
            .await;
    }
    // Not gated, and in the list all the same.
    it.gitlab.add_project(200, "group/other");
    it.gitlab.add_member(200, bot, MAINTAINER);
    let mut heads = Vec::new();
    for id in others.iter().chain(&[200]) {
        it.gitlab.branch(*id, "topic", "main");
        let head = it.gitlab.commit(*id, "topic", &Gated::commit_of_carl("a.rs"));
        let iid = it
            .gitlab
            .open_merge_request(*id, "topic", "main", "A change", it.carl_account);
        heads.push((*id, iid, head));
    }
    let name = "signedapproval/main";
    for (id, _, head) in heads.iter().filter(|(id, ..)| *id != 200) {
        it.gitlab.expect(&format!("pending in {id}"), LOST_MAX, |it| {
            it.status(*id, head, name).as_deref() == Some("pending")
        });
    }
    let (_, _, foreign) = &heads[5];
    assert_eq!(it.gitlab.status(200, foreign, name), None);

    // Once it is going, the projects' own lists are hardly read: one list tells of all.
    it.gitlab.clear_calls();
    let (id, iid, _) = heads[0].clone();
    it.gitlab.close(id, iid, it.carl_account);
    let pushed = it.gitlab.push(
        others[1],
        "topic",
        it.carl_account,
        &Gated::commit_of_carl("b.rs"),
    );
    it.gitlab.expect("the push", LOST_MAX, |it| {
        it.status(others[1], &pushed, name).as_deref() == Some("pending")
    });
    let started = Instant::now();
    loop {
        let cancelled = items(&it.auditor.get("/api/v1/approvals?status=cancelled").await);
        if cancelled.len() == 1 {
            break;
        }
        assert!(started.elapsed() < LOST_MAX, "{cancelled:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lists = |path: &str| {
        let calls = it.gitlab.calls_to("GET", path);
        calls.iter().filter(|it| it.path.ends_with(path)).count()
    };
    let whole = it
        .gitlab
        .calls()
        .iter()
        .filter(|it| it.path == "/merge_requests")
        .count();
    assert!(whole > 0, "{:#?}", it.gitlab.calls());
    let own = lists("/merge_requests") - whole;
    assert!(
        own <= whole * 2,
        "{own} own lists beside {whole} of the installation"
    );

    // A list that can't be read whole is nothing to go by: the projects' own lists are read instead.
    it.gitlab.clear_calls();
    it.gitlab
        .fail("GET", "/merge_requests?scope=all", 1_000, Trouble::Code(500));
    let pushed = it.gitlab.push(
        others[2],
        "topic",
        it.carl_account,
        &Gated::commit_of_carl("c.rs"),
    );
    it.gitlab.expect("the push after all", LOST_MAX, |it| {
        it.status(others[2], &pushed, name).as_deref() == Some("pending")
    });
    it.gitlab.assert_no_violations();
}

// E17, E19: the forge is away while everything changes, the appliance is restarted meanwhile, and decisions go on.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_with_a_restart_all_states_are_exact() {
    let mut it = gated(Hook::Token, json!({})).await;
    let (decided, pushed, closed) = (
        it.open("decided", "main"),
        it.open("pushed", "main"),
        it.open("closed", "main"),
    );
    let request = it.pending(&decided, "main").await;
    for change in [&pushed, &closed] {
        it.pending(change, "main").await;
    }
    it.gitlab.settle(SOON);
    it.gitlab.go_away();
    it.gitlab.hooks_off();
    it.bea.approve(&request).await;
    let pushed = it.push(&pushed, "more.rs");
    it.gitlab.close(PROJECT, closed.iid, it.carl_account);
    let opened = it.open("opened", "main");
    tokio::time::sleep(Duration::from_secs(3)).await;
    it.appliance.kill9();
    it.appliance.restart().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // It says that it is not green yet; the decision stands.
    assert_eq!(
        it.gitlab
            .status(PROJECT, &decided.head, "signedapproval/main")
            .as_deref(),
        Some("pending")
    );
    it.gitlab.come_back();
    it.expect_status_within(&decided.head, "main", "success", LOST_MAX);
    it.stays(&opened, "main", "pending").await;
    it.stays(&pushed, "main", "pending").await;
    it.ends(closed.iid, "cancelled").await;
    it.gitlab.assert_no_violations();
}

// E16: storms of 429 while much happens. No follower calls before the time asked for, and the end is exact.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_calls_a_forge_that_asked_for_quiet_and_the_end_is_exact() {
    let it = gated(Hook::Token, json!({"auto_merge": true})).await;
    let changes: Vec<Change> = (0..6).map(|n| it.open(&format!("topic-{n}"), "main")).collect();
    for change in &changes {
        it.pending(change, "main").await;
    }
    for (path, after) in [
        ("/merge_requests", 1),
        ("/statuses/", 1),
        ("/events", 2),
        ("/merge_requests/", 9),
        ("/protected_branches", 0),
        ("/commits/", 3),
    ] {
        it.gitlab.fail_after(after, "", path, 1, Trouble::RetryLater(2));
    }
    let mut pushed = Vec::new();
    for (n, change) in changes.iter().enumerate() {
        if n % 2 == 0 {
            pushed.push(it.push(change, &format!("more-{n}.rs")));
        } else {
            let request = text(&it.request(change, "main", "pending").await, "id");
            it.bea.approve(&request).await;
        }
    }
    for change in &pushed {
        it.expect_status_within(&change.head, "main", "pending", LOST_MAX);
        it.request(change, "main", "pending").await;
    }
    for (n, change) in changes.iter().enumerate() {
        if n % 2 == 1 {
            it.expect_status_within(&change.head, "main", "success", LOST_MAX);
        }
    }
    let struck = it
        .gitlab
        .calls()
        .iter()
        .filter(|it| it.status == Some(429))
        .count();
    assert!(struck >= 3, "{struck} storms only");
    let early = it.early_calls();
    assert!(early.is_empty(), "calls inside Retry-After: {early:#?}");
    it.gitlab.assert_no_violations();
}

// E4, E5, E6: held back, turned around, and each of them three times.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_out_of_order_and_doubled_end_as_the_forge_has_it() {
    let it = gated(Hook::Token, json!({})).await;
    it.gitlab.hold_hooks();
    let first = it.open("topic", "main");
    let second = it.push(&first, "more.rs");
    let brief = it.open("brief", "main");
    it.gitlab.close(PROJECT, brief.iid, it.carl_account);
    it.gitlab
        .retarget(PROJECT, first.iid, "production", it.carl_account);
    let mut held = it.gitlab.held();
    held.reverse();
    for delivery in &held {
        it.gitlab.deliver_twice(delivery.id);
    }
    for delivery in held.iter().rev() {
        it.gitlab.resend(delivery.id);
    }
    it.gitlab.settle(SOON);
    it.stays(&second, "production", "pending").await;
    assert_eq!(
        it.gitlab.status(PROJECT, &first.head, "signedapproval/main"),
        None
    );
    let open = items(
        &it.auditor
            .get("/api/v1/approvals?status=pending&kind=change")
            .await,
    );
    assert_eq!(open.len(), 1, "{open:#?}");
    // Each delivery stands in the journal once.
    let mut deliveries: Vec<String> = it
        .hooks_received()
        .await
        .iter()
        .map(|it| it["data"]["delivery"].to_string())
        .collect();
    let all = deliveries.len();
    deliveries.sort();
    deliveries.dedup();
    assert_eq!(deliveries.len(), all);
    it.gitlab.assert_no_violations();
}

// E1, E9: what one connection's secret signed proves nothing to another.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_one_connection_opens_no_other() {
    let it = gated(Hook::Signing, json!({})).await;
    let other = it
        .ada
        .connect(&json!({
            "kind": "gitlab", "name": "Another", "base_url": it.gitlab.base_url(), "token": it.token,
        }))
        .await;
    let change = it.open("topic", "main");
    it.pending(&change, "main").await;
    it.gitlab.settle(SOON);
    let before = it.hooks_received().await.len();
    let body = it
        .gitlab
        .webhook_payload(PROJECT, change.iid, "update", it.carl_account)
        .to_string();
    let mut request = it.gitlab.hook_request(it.hook_id(), "Merge Request Hook", &body);
    request.url = other.webhook_url.clone();
    assert_eq!(answered(&it.gitlab.send_raw(request.clone())), 401);
    let bare = request
        .clone()
        .without("webhook-signature")
        .with("X-Gitlab-Token", &it.integration.webhook_secret);
    assert_eq!(answered(&it.gitlab.send_raw(bare)), 401);
    // And the secret of the right one, without the signature that it also bears.
    let altered = request
        .with("X-Gitlab-Token", &other.webhook_secret)
        .with("webhook-signature", "v1,AAAA");
    assert_eq!(answered(&it.gitlab.send_raw(altered)), 401);
    assert_eq!(it.hooks_received().await.len(), before);
}

// A12: a webhook about a project that is not gated, also one that was made anew under the path of a gated one.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_made_anew_under_the_same_path_is_another_one_and_is_shown() {
    let it = gated(Hook::Token, json!({})).await;
    let change = it.open("topic", "main");
    it.pending(&change, "main").await;
    let bot = it
        .gitlab
        .read(|state| state.appliance)
        .expect("the appliance's account");
    it.gitlab.settle(SOON);
    it.gitlab.delete_project(PROJECT);
    it.gitlab.add_project(99, "group/app");
    it.gitlab.add_member(99, bot, MAINTAINER);
    it.gitlab.add_member(99, it.carl_account, MAINTAINER);
    let (url, secret) = (&it.integration.webhook_url, &it.integration.webhook_secret);
    it.gitlab.register_hook(99, url, Some(secret), None);
    it.gitlab.branch(99, "topic", "main");
    let head = it.gitlab.commit(99, "topic", &Gated::commit_of_carl("a.rs"));
    let before = it.hooks_received().await.len();
    it.gitlab
        .open_merge_request(99, "topic", "main", "A change", it.carl_account);
    it.gitlab
        .push(99, "topic", it.carl_account, &Gated::commit_of_carl("b.rs"));
    it.gitlab.settle(SOON);
    let answers: Vec<Option<u16>> = it
        .gitlab
        .deliveries()
        .iter()
        .filter(|it| it.project == 99)
        .flat_map(|it| it.attempts.iter().map(|it| it.status))
        .collect();
    assert!(
        !answers.is_empty() && answers.iter().all(|it| *it == Some(200)),
        "{answers:?}"
    );
    tokio::time::sleep(Duration::from_millis(2_500)).await;

    // Nothing of the old project's gate holds for the new one, and an admin sees where webhooks come from, once.
    assert_eq!(it.gitlab.status(99, &head, "signedapproval/main"), None);
    let received = it.hooks_received().await;
    assert_eq!(received.len(), before + 1, "{received:#?}");
    let stranger = received
        .iter()
        .find(|it| it["data"]["forge_project_id"] == "99")
        .expect("an entry about project 99");
    assert_eq!(stranger["data"]["change"], Value::Null);
    let page = it.ada.get("/dashboard/integrations/gitlab").await.text();
    assert!(
        page.contains("projects that are not gated here") && page.contains(">99<"),
        "{page}"
    );
    // Its old changes are gone with it, which is no reason to conclude anything about them.
    assert_eq!(it.requests(change.iid).await[0]["status"], "pending");
    it.gitlab.assert_no_violations();
}

// E7: where no webhook is, and none could come in, everything works all the same: what is sent goes out from here.
#[tokio::test(flavor = "multi_thread")]
async fn without_any_webhook_a_change_is_found_approved_and_merged() {
    let it = gated(Hook::None, json!({"auto_merge": true})).await;
    let change = it.open("topic", "main");
    it.expect_status_within(&change.head, "main", "pending", LOST_MAX);
    let request = text(&it.request(&change, "main", "pending").await, "id");
    it.bea.approve(&request).await;
    it.gitlab.expect("it is merged", LOST_MAX, |gitlab| {
        gitlab.merge_request(PROJECT, change.iid).state == "merged"
    });
    assert!(it.hooks_received().await.is_empty());
    it.gitlab.assert_no_violations();
}

// E7, E8: GitLab keeps what it could not deliver for a week. After a start that is read.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_failed_while_the_server_was_away_are_read_from_the_forge() {
    let mut it = gated(Hook::Token, json!({})).await;
    let change = it.open("topic", "main");
    it.pending(&change, "main").await;
    it.gitlab.settle(SOON);
    it.appliance.stop().await;
    let pushed = it.push(&change, "more.rs");
    it.gitlab.settle(SOON);
    it.gitlab.clear_calls();
    it.appliance.restart().await;
    it.stays(&pushed, "main", "pending").await;
    let asked = format!("/hooks/{}/events", it.hook_id());
    it.gitlab.expect("the history is asked for", SOON, |gitlab| {
        gitlab
            .calls_to("GET", &asked)
            .iter()
            .any(|it| it.status == Some(200))
    });
    let calls = it.gitlab.calls_to("GET", &asked);
    assert!(calls.iter().all(|it| it.status == Some(200)), "{calls:#?}");
}

// E17: an authentic body of 10 MB is refused before it is read, the next one is taken, and nothing is lost by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_ten_megabytes_is_refused_and_the_change_is_found_all_the_same() {
    let it = gated(Hook::Token, json!({})).await;
    it.gitlab.hooks_off();
    let change = it.open("topic", "main");
    let mut body = it
        .gitlab
        .webhook_payload(PROJECT, change.iid, "open", it.carl_account);
    body["object_attributes"]["description"] = json!("x".repeat(10 * 1024 * 1024));
    let request = it
        .gitlab
        .hook_request(it.hook_id(), "Merge Request Hook", &body.to_string());
    let attempt = it.gitlab.send_raw(request);
    // The connection may break while the rest of the body is still being sent.
    assert!(matches!(attempt.status, Some(413) | None), "{attempt:?}");
    it.expect_status_within(&change.head, "main", "pending", LOST_MAX);
    it.gitlab.hooks_on();
    let next = it.open("next", "main");
    it.pending(&next, "main").await;
}

// A10: a tag that is named as the branch, at another commit, changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_named_like_a_branch_changes_nothing() {
    let it = gated(Hook::Token, json!({})).await;
    let change = it.open("topic", "main");
    let request = it.pending(&change, "main").await;
    it.bea.approve(&request).await;
    it.expect_status(&change.head, "main", "success");
    let evil = it
        .gitlab
        .loose_commit(PROJECT, &change.head, &Gated::commit_of_carl("evil.rs"));
    it.gitlab.tag(PROJECT, "main", &evil);
    it.gitlab.tag(PROJECT, "topic", &evil);
    let zeros = "0".repeat(40);
    let body = json!({
        "object_kind": "tag_push", "event_name": "tag_push", "before": zeros, "after": evil, "ref": "refs/tags/main",
        "user_id": it.carl_account, "project_id": PROJECT, "project": {"id": PROJECT},
    });
    let request = it
        .gitlab
        .hook_request(it.hook_id(), "Tag Push Hook", &body.to_string());
    assert!(answered(&it.gitlab.send_raw(request)) < 300);
    it.stays(&change, "main", "success").await;
    assert_eq!(it.gitlab.status(PROJECT, &evil, "signedapproval/main"), None);
    it.gitlab.assert_no_violations();
}
