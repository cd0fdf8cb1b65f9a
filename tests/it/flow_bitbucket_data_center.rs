//! Pull requests on Bitbucket Data Center: what is particular there, and what goes wrong there.

use crate::browser::{can_run, shoot};
use crate::support::appliance::{Options, http_client};
use crate::support::authority::Authority;
use crate::support::browser::Browser;
use crate::support::forge::bitbucket_data_center::state::Access;
use crate::support::forge::bitbucket_data_center::{FakeBitbucketDataCenter, validator};
use crate::support::forge::front::Front;
use crate::support::forge::github::hooks_sign;
use crate::support::forge::gitlab::repository::{Edit, NewCommit};
use crate::support::gated::{Change, SOON};
use crate::support::gated_bitbucket_data_center::{GatedBitbucketDataCenter, REPOSITORY, SECRET};
use crate::support::person::{Person, items, text};
use crate::support::problem::assert_problem;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn only_webhooks_signed_with_sha256_count_and_each_once() {
    let it = GatedBitbucketDataCenter::start().await;
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    let body = json!({"eventKey": "pr:from_ref_updated", "pullRequest": {"id": change.iid,
        "toRef": {"id": "refs/heads/main", "repository": {"id": REPOSITORY}}}})
    .to_string();
    let body = body.as_bytes();
    let right = hooks_sign(SECRET, body);
    let event = ("x-event-key", "pr:from_ref_updated");
    let id = ("x-request-id", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    let sent = async |signature: &str| {
        it.send_hook(body, &[event, id, ("x-hub-signature", signature)])
            .await
            .0
    };
    assert_eq!(it.send_hook(body, &[event, id]).await.0, 401, "no signature");
    let (status, told) = it
        .send_hook(
            body,
            &[
                event,
                id,
                ("x-hub-signature", "sha1=0123456789abcdef0123456789abcdef01234567"),
            ],
        )
        .await;
    assert_eq!(status, 401, "SHA-1: {told}");
    assert!(told.to_string().contains("SHA-256"), "{told}");
    assert_eq!(sent(&hooks_sign("another secret entirely", body)).await, 401);
    assert_eq!(sent(&right[..40]).await, 401, "cut");
    assert_eq!(
        it.send_hook(body, &[event, id, ("x-hub-signature-256", &right)])
            .await
            .0,
        401,
        "another forge's header"
    );
    assert_eq!(sent(&right).await, 202);
    let (status, again) = it
        .send_hook(body, &[event, id, ("x-hub-signature", &right)])
        .await;
    assert_eq!(
        (status, &again["status"]),
        (200, &json!("known")),
        "a replay is ignored"
    );
    // Authentic and senseless.
    for (name, odd) in [
        ("pr:opened", &b"{"[..]),
        ("pr:opened", br#"{"repository":{"id":42}}"#),
        ("repo:refs_changed", br#"{"repository":{"id":42},"changes":[]}"#),
        (
            "repo:refs_changed",
            br#"{"repository":{"id":42},"changes":[{"ref":{"id":"main"},"fromHash":"1","toHash":"2"}]}"#,
        ),
    ] {
        let signature = hooks_sign(SECRET, odd);
        let headers = [("x-event-key", name), ("x-hub-signature", signature.as_str())];
        let (status, told) = it.send_hook(odd, &headers).await;
        assert_eq!(status, 400, "{} {told}", String::from_utf8_lossy(odd));
    }
    // What "Test connection" sends.
    let ping = b"{\"test\":true}";
    let signature = hooks_sign(SECRET, ping);
    let headers = [
        ("x-event-key", "diagnostics:ping"),
        ("x-hub-signature", signature.as_str()),
    ];
    assert_eq!(it.send_hook(ping, &headers).await.0, 200);
    assert_eq!(it.send_hook(ping, &headers[..1]).await.0, 401, "unsigned");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_forks_declining_and_renaming_are_followed() {
    let it = GatedBitbucketDataCenter::start().await;
    let change = it.open("feature", "main");
    let first = it.pending(&change, "main").await;
    it.bitbucket.decline(REPOSITORY, change.iid, it.carl_account);
    it.auditor.wait_for_status(&first, "cancelled", SOON).await;
    // Of the reopening nobody is told.
    it.bitbucket.reopen(REPOSITORY, change.iid, it.carl_account);
    let second = text(&it.request(&change, "main", "pending").await, "id");
    assert_ne!(first, second);
    it.bitbucket
        .edit(REPOSITORY, change.iid, it.carl_account, |it| it.draft = true);
    it.bea.approve(&second).await;
    it.expect_status(&change.head, "main", "success");

    // A fork's commits get their status in the repository they are to be merged into, also from one that is not ours to see.
    let fork = REPOSITORY + 1;
    it.bitbucket.fork(REPOSITORY, fork, it.carl_account);
    it.bitbucket.branch(fork, "forked", "main");
    let commit = GatedBitbucketDataCenter::commit_of_carl("forked.rs");
    let head = it.bitbucket.commit(fork, "forked", it.carl_account, &commit);
    let number = it
        .bitbucket
        .open(REPOSITORY, fork, "forked", "main", "From a fork", it.carl_account);
    let forked = Change {
        iid: number,
        branch: "forked".to_owned(),
        head,
    };
    let id = it.pending(&forked, "main").await;
    it.bea.approve(&id).await;
    // Who pushed to the fork is told only to its admins, which costs one approver more.
    let shown = it.auditor.request(&id).await;
    assert_eq!(shown["status"], "pending", "{shown}");
    it.ada.approve(&id).await;
    it.expect_status(&forked.head, "main", "success");

    // Renamed, it is found again by its number.
    it.bitbucket
        .change(|state| state.repository_mut(REPOSITORY).slug = "renamed".to_owned());
    let late = it.open("late", "main");
    it.expect_status_within(&late.head, "main", "pending", SOON);
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_as_strong_as_bitbuckets_permissions() {
    let it = GatedBitbucketDataCenter::start().await;
    let one = |strength: &str, code: &str| (strength.to_owned(), vec![code.to_owned()]);
    // A required build is one that every reader can forge.
    assert_eq!(it.gate().await, one("soft", "any_source"));
    let rules = |kind: &str, users: &[u64], groups: &[&str]| {
        it.bitbucket
            .change(|state| state.repository_mut(REPOSITORY).restrictions.clear());
        for branch in ["main", "production"] {
            it.bitbucket.restrict(REPOSITORY, branch, kind, users, groups);
        }
    };
    it.bitbucket
        .change(|state| state.repository_mut(REPOSITORY).restrictions.clear());
    let (strength, codes) = it.gate().await;
    assert_eq!((strength.as_str(), codes.len()), ("soft", 2), "{codes:?}");
    assert!(codes.contains(&"others_push".to_owned()), "{codes:?}");
    it.bitbucket
        .change(|state| state.repository_mut(REPOSITORY).conditions.clear());
    assert_eq!(it.gate().await, one("none", "not_required"));

    it.set(json!({"enforcement": "merge_broker"})).await;
    rules("read-only", &[it.bot], &[]);
    assert_eq!(it.gate().await, ("hard".to_owned(), vec![]));
    rules("read-only", &[it.bot, it.carl_account], &[]);
    assert_eq!(it.gate().await, one("soft", "others_merge"));
    rules("read-only", &[it.bot], &["stash-users"]);
    assert_eq!(it.gate().await, one("soft", "others_merge"));
    rules("read-only", &[], &[]);
    assert_eq!(it.gate().await, one("hard", "we_cannot_merge"));
    rules("read-only", &[it.bot], &[]);
    it.bitbucket.change(|state| {
        let settings = &mut state.repository_mut(REPOSITORY).settings;
        settings["requiredApprovers"] = json!({"enabled": true, "count": "2"});
    });
    assert_eq!(it.gate().await, one("hard", "merge_checks"));
    let project = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.integration.id, it.project
    );
    let shown = it.ada.get(&project).await.text();
    assert!(shown.contains("2 approvals by reviewers"), "{shown}");
    it.bitbucket.change(|state| {
        let settings = &mut state.repository_mut(REPOSITORY).settings;
        settings["requiredApprovers"] = json!({"enabled": false});
    });
    // Webhooks: gone, switched off, deaf.
    let hook = |change: fn(&mut crate::support::forge::bitbucket_data_center::state::Hook)| {
        it.bitbucket.change(|state| {
            let hooks = &mut state.repository_mut(REPOSITORY).hooks;
            change(hooks.first_mut().expect("a webhook"));
        });
    };
    hook(|it| it.events.truncate(2));
    assert_eq!(it.gate().await, one("hard", "webhook_events"));
    hook(|it| it.active = false);
    assert_eq!(it.gate().await, one("hard", "webhook_inactive"));
    hook(|it| it.url.push('x'));
    assert_eq!(it.gate().await, one("hard", "webhook_missing"));
    // Without Admin nobody knows who is exempt.
    it.bitbucket.let_in(REPOSITORY, it.bot, Access::Write);
    let (strength, codes) = it.gate().await;
    assert_eq!(strength, "none");
    assert_eq!(codes, ["permissions_unread", "webhook_unread"]);
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_are_read_to_their_end_and_cut_ones_leave_a_change_waiting() {
    let it = GatedBitbucketDataCenter::start().await;
    let policy = json!({ "rules": [
        { "name": "Docs", "match": { "branch": "*", "paths": ["docs/**"] }, "action": "skip" },
        { "name": "Code", "match": { "branch": "*", "paths": ["src/**"] }, "require": { "method": ["passkey"] } },
    ] });
    it.ada.put_policy("default", &policy).await;
    // Pages of seven.
    it.bitbucket.change(|state| state.page_max = 7);
    let pages = |count: usize, last: &str| {
        let mut edits: Vec<Edit> = (0..count)
            .map(|n| Edit::write(&format!("docs/{n:03}.md"), "1\n"))
            .collect();
        edits.push(Edit::write(last, "1\n"));
        NewCommit::by("Carl", "carl@example.test", "Write pages", edits)
    };
    let docs = it.open_with("docs", "main", &pages(30, "docs/z.md"));
    it.expect_status(&docs.head, "main", "success");
    // The file that asks for somebody stands on the last page.
    let mixed = it.open_with("mixed", "main", &pages(30, "src/main.rs"));
    let id = it.pending(&mixed, "main").await;
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(page.contains("src/main.rs"), "the last page was read");
    let asked = it.bitbucket.calls_to("GET", "/compare/changes");
    assert!(
        asked.iter().any(|it| it.query.contains("start=28")),
        "{}",
        asked.len()
    );

    // A symlink in the skipped folder is no text, and is never skipped.
    let link = NewCommit::by(
        "Carl",
        "carl@example.test",
        "Link",
        vec![Edit::Symlink {
            path: "docs/link.md".to_owned(),
            target: "/etc/passwd".to_owned(),
        }],
    );
    let link = it.open_with("link", "main", &link);
    it.pending(&link, "main").await;

    // A list that Bitbucket cuts is judged by the strictest rules, and said so.
    it.bitbucket.change(|state| state.changes_max = Some(20));
    let cut = it.open_with("cut", "main", &pages(40, "docs/y.md"));
    let id = it.pending(&cut, "main").await;
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(page.contains("more files than Bitbucket lists"), "{page}");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_refusals_end_pending_with_words() {
    let it = GatedBitbucketDataCenter::start().await;
    // Its own limit: everything waits as long as it says, and goes on by itself.
    let limited = json!({"errors": [{"context": null, "message": "You have been rate limited", "exceptionName": null}]});
    let headers = [
        ("retry-after", "2"),
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-fillrate", "5"),
        ("x-ratelimit-interval-seconds", "1"),
    ];
    it.bitbucket
        .fail("GET", "/pull-requests/", 1, 429, &headers, limited);
    let change = it.open("limited", "main");
    let id = it.pending(&change, "main").await;
    let calls = it.bitbucket.read(|state| state.calls.clone());
    let refused = calls
        .iter()
        .position(|it| it.status == 429)
        .expect("it was refused");
    assert!(
        calls[refused + 1..].iter().any(|it| it.status == 200),
        "it went on"
    );
    assert_eq!(calls.iter().filter(|it| it.status == 429).count(), 1);

    // A revoked token is for an admin to replace; nothing turns green meanwhile.
    it.bitbucket.revoke(&it.token);
    let path = format!(
        "/api/v1/integrations/{}/projects/{}/check",
        it.integration.id, it.project
    );
    let answer = it.ada.post(&path, &json!({})).await;
    let told = answer.text();
    assert_problem!(answer, 422, "forge-answer");
    assert!(told.contains("revoked or has expired"), "{told}");
    it.bea.approve(&id).await;
    let refusal = async |words: &str| {
        let started = Instant::now();
        loop {
            let told = it.ada.journal("status.confirmed").await;
            let mut refused = told.iter().filter_map(|it| it["data"]["refused"].as_str());
            if refused.any(|it| it.contains(words)) {
                return;
            }
            assert!(started.elapsed() < SOON, "not {words}: {told:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    refusal("revoked or has expired").await;
    assert_eq!(it.status(&change.head, "main").as_deref(), Some("pending"));

    // The token is good again, and its account sees nothing of the repository.
    it.bitbucket.change(|state| {
        state.tokens.values_mut().for_each(|it| it.revoked = false);
        state.repository_mut(REPOSITORY).members.remove(&it.bot);
    });
    let answer = it.ada.post(&path, &json!({})).await;
    let told = answer.text();
    assert_problem!(answer, 422, "forge-answer");
    assert!(
        told.contains("no such") || told.contains("may not do this"),
        "{told}"
    );
    assert!(!told.contains(&it.token), "the token is nobody's to read");
    it.bitbucket.let_in(REPOSITORY, it.bot, Access::Admin);
    let pushed = it.push(&change, "more.rs");
    it.expect_status_within(&pushed.head, "main", "pending", Duration::from_secs(60));
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_merging_is_matched_to_its_approval() {
    let it = GatedBitbucketDataCenter::start().await;
    let mia = it.bitbucket.add_user("mia", "mia@example.test");
    it.seen(&it.tip("main")).await;
    for strategy in ["ff-only", "no-ff", "squash", "rebase-no-ff", "rebase-ff-only"] {
        let change = it.open(strategy, "main");
        let change = it.push(&change, &format!("{strategy}-2.rs"));
        let id = it.pending(&change, "main").await;
        it.bea.approve(&id).await;
        it.expect_status(&change.head, "main", "success");
        if strategy != "ff-only" {
            // The branch has moved on beside it.
            let beside = it.open(&format!("beside-{strategy}"), "main");
            let id = it.pending(&beside, "main").await;
            it.bea.approve(&id).await;
            it.expect_status(&beside.head, "main", "success");
            it.bitbucket
                .merge_past_the_rules(REPOSITORY, beside.iid, "no-ff", mia);
        }
        it.bitbucket
            .merge_past_the_rules(REPOSITORY, change.iid, strategy, mia);
        it.seen(&it.tip("main")).await;
    }
    let told = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(told.is_empty(), "{told:#?}");
    // A merge made by hand, of an approved head, with something more in it.
    let change = it.open("by-hand", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    let more = vec![Edit::write("smuggled.rs", "1\n")];
    let by_hand = NewCommit::by("Mia", "mia@example.test", "Merge", more).merging(&change.head);
    let tip = it.bitbucket.push(REPOSITORY, "main", mia, &by_hand);
    it.seen(&tip).await;
    let told = it.exception("unapproved_change").await;
    assert_eq!(told["by"]["username"], "mia", "{told}");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_merged_is_looked_at_after_the_merge() {
    let it = GatedBitbucketDataCenter::start_with(json!({"enforcement": "merge_broker"})).await;
    it.bitbucket.change(|state| {
        let record = state.repository_mut(REPOSITORY);
        record.conditions.clear();
        record.restrictions.clear();
    });
    for branch in ["main", "production"] {
        it.bitbucket
            .restrict(REPOSITORY, branch, "read-only", &[it.bot], &[]);
    }
    assert_eq!(it.gate().await, ("hard".to_owned(), vec![]));
    it.seen(&it.tip("main")).await;

    // Somebody edits the title between the look and the merge: out of date, tried again, merged.
    let stale = json!({"errors": [{"message": "You are attempting to modify a pull request based on out-of-date information.",
        "exceptionName": "com.atlassian.bitbucket.pull.PullRequestOutOfDateException"}]});
    it.bitbucket.fail("POST", "/merge", 1, 409, &[], stale);
    let first = it.open("first", "main");
    let id = it.pending(&first, "main").await;
    it.bea.approve(&id).await;
    it.bitbucket.expect("the merge", SOON, |it| {
        it.pull(REPOSITORY, first.iid).state == "MERGED"
    });
    let asked = it.bitbucket.calls_to("POST", "/merge");
    assert_eq!(asked.iter().map(|it| it.status).collect::<Vec<_>>(), [409, 200]);

    // A merge check of Bitbucket's own: it waits, and merges when that is met.
    let settings = |on: bool| {
        it.bitbucket.change(|state| {
            let settings = &mut state.repository_mut(REPOSITORY).settings;
            settings["requiredApprovers"] = json!({"enabled": on, "count": "1"});
        });
    };
    settings(true);
    let vetoed = it.open("vetoed", "main");
    let id = it.pending(&vetoed, "main").await;
    it.bea.approve(&id).await;
    let looks = || {
        it.bitbucket
            .calls_to("GET", &format!("/{}/merge", vetoed.iid))
            .len()
    };
    it.bitbucket
        .expect("a look at what stands in the way", SOON, |_| looks() >= 2);
    assert_eq!(it.bitbucket.pull(REPOSITORY, vetoed.iid).state, "OPEN");
    settings(false);
    it.bitbucket.expect("the merge", SOON, |it| {
        it.pull(REPOSITORY, vetoed.iid).state == "MERGED"
    });
    it.seen(&it.tip("main")).await;
    let told = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(
        told.iter().all(|it| it["type"] != "exception.unapproved_change"),
        "{told:#?}"
    );

    // Bitbucket's version does not pin the head: a push in the last moment is merged, and found.
    let raced = it.open("raced", "main");
    let id = it.pending(&raced, "main").await;
    let sneaked = GatedBitbucketDataCenter::commit_of_carl("sneaked.rs");
    it.bitbucket
        .change(|state| state.race = Some((raced.iid, it.carl_account, sneaked)));
    it.bea.approve(&id).await;
    it.bitbucket.expect("the merge", SOON, |it| {
        it.pull(REPOSITORY, raced.iid).state == "MERGED"
    });
    assert_ne!(it.bitbucket.pull(REPOSITORY, raced.iid).head, raced.head);
    let told = it.exception("unapproved_change").await;
    assert_eq!(told["change"]["number"].as_u64(), Some(raced.iid), "{told}");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_token_can_not_merge_and_says_so() {
    let it = GatedBitbucketDataCenter::start().await;
    // The account behind a repository's token: it has no e-mail and is in no list of people.
    let service = it.bitbucket.add_user("access-token-user-2-42", "");
    it.bitbucket.let_in(REPOSITORY, service, Access::Admin);
    let token = it.bitbucket.add_token(service, Access::Admin);
    let project = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.integration.id, it.project
    );
    it.ada
        .send("DELETE", &project, Some(&json!({"reason": "Another account"})))
        .await;
    let base = it.bitbucket.base_url();
    let body = json!({"kind": "bitbucket_dc", "name": "By the repository's token", "base_url": base, "token": token,
        "webhook_secret": SECRET});
    let integration = it.ada.connect(&body).await;
    it.bitbucket
        .add_hook(REPOSITORY, &integration.webhook_url, SECRET);
    let wanted = json!({"project_key": "PRJ", "repository": "app", "branch_patterns": ["main"], "quorum": 1, "auto_merge": true});
    let gated = it.ada.gate_project(&integration, &wanted).await;
    let check = format!(
        "/api/v1/integrations/{}/projects/{}/check",
        integration.id,
        text(&gated, "id")
    );
    let gate = it.ada.post(&check, &json!({})).await.expect(200)["gate"].clone();
    assert!(gate["findings"].to_string().contains("service_account"), "{gate}");
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    let started = Instant::now();
    loop {
        let told = it.ada.journal("merge.answered").await;
        let words = format!("{told:?}");
        if words.contains("token of a user") {
            break;
        }
        assert!(started.elapsed() < SOON, "{told:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_webhooks_everything_is_found_by_looking() {
    let options = Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1s");
    let it = GatedBitbucketDataCenter::start_in(options, json!({})).await;
    // As where Bitbucket can't reach this server: outbound only.
    it.bitbucket
        .change(|state| state.repository_mut(REPOSITORY).hooks.clear());
    assert!(it.gate().await.1.contains(&"webhook_missing".to_owned()));
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    let pushed = it.push(&change, "more.rs");
    it.pending(&pushed, "main").await;
    it.bitbucket
        .retarget(REPOSITORY, change.iid, "production", it.carl_account);
    it.pending(&pushed, "production").await;
    // A green that somebody forged is found among the builds.
    it.forge_status(&pushed.head, "production").await;
    it.exception("status_forged").await;
    it.expect_status(&pushed.head, "production", "pending");
    it.bitbucket.decline(REPOSITORY, change.iid, it.carl_account);
    let last = text(&it.requests(change.iid).await[0], "id");
    it.auditor.wait_for_status(&last, "cancelled", SOON).await;
    let mia = it.bitbucket.add_user("mia", "mia@example.test");
    it.bitbucket.push(
        REPOSITORY,
        "main",
        mia,
        &GatedBitbucketDataCenter::commit_of_carl("around.rs"),
    );
    let told = it.exception("unapproved_change").await;
    assert_eq!(told["by"]["username"], "mia", "{told}");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_queue_lands_only_what_is_approved_as_queued() {
    let options = Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1s");
    let it = GatedBitbucketDataCenter::start_in(options, json!({})).await;
    it.bitbucket.change(|state| state.version = "10.2.0".to_owned());
    it.seen(&it.tip("main")).await;
    let first = it.open("first", "main");
    let id = it.pending(&first, "main").await;
    it.bea.approve(&id).await;
    it.expect_status(&first.head, "main", "success");
    let prepared = it.bitbucket.enqueue(REPOSITORY, first.iid);
    it.expect_status(&prepared, "main", "success");
    it.bitbucket.expect("the landing", SOON, |it| {
        it.pull(REPOSITORY, first.iid).state == "MERGED"
    });
    assert_eq!(it.tip("main"), prepared);
    it.seen(&prepared).await;

    // Somebody queues what is not approved: the commit that holds it fails.
    let second = it.open("second", "main");
    it.pending(&second, "main").await;
    let prepared = it.bitbucket.enqueue(REPOSITORY, second.iid);
    it.expect_status(&prepared, "main", "failed");
    assert_eq!(it.bitbucket.pull(REPOSITORY, second.iid).state, "OPEN");
    let told = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(told.is_empty(), "{told:#?}");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_only_where_it_is_given() {
    let it = GatedBitbucketDataCenter::start().await;
    let authority = Authority::new("company");
    let front = Front::before(it.bitbucket.port(), &authority.localhost());
    let base = format!("https://localhost:{}/bitbucket", front.port);
    let connect = async |ca: Option<&str>| {
        let mut body = json!({"kind": "bitbucket_dc", "name": "Behind", "base_url": base, "token": it.token});
        if let Some(ca) = ca {
            body["ca_pem"] = json!(ca);
        }
        it.ada.post("/api/v1/integrations", &body).await
    };
    let refused = connect(None).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(
        refused.text().to_lowercase().contains("certificate"),
        "{refused:?}"
    );
    let other = Authority::new("other");
    let refused = connect(Some(&other.pem)).await;
    assert_eq!(refused.status, 422, "another authority: {refused:?}");
    let made = connect(Some(&authority.pem)).await.expect(201);
    assert_eq!(made["account"]["username"], "gate", "{made}");
    // And it works: a repository is gated through it.
    let path = format!("/api/v1/integrations/{}/projects", text(&made, "id"));
    let wanted = json!({"project_key": "PRJ", "repository": "app", "branch_patterns": ["main"]});
    let gated = it.ada.post(&path, &wanted).await.expect(201);
    assert_eq!(gated["project_id"], REPOSITORY, "{gated}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_connection_is_said() {
    let it = GatedBitbucketDataCenter::start().await;
    let base = it.bitbucket.base_url();
    for (more, status) in [
        (json!({"token": "BBDC-unknown"}), 422),
        (json!({"token": ""}), 400),
        (json!({"base_url": "http://example.com/bitbucket"}), 422),
        (json!({"base_url": "ftp://example.com"}), 422),
        (json!({"app_id": 7}), 400),
        (json!({"webhook_secret": "short"}), 400),
        (json!({"ca_pem": "nonsense"}), 422),
    ] {
        let mut body = json!({"kind": "bitbucket_dc", "name": "Again", "base_url": base, "token": it.token});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let answer = it.ada.post("/api/v1/integrations", &body).await;
        let fits = if status == 422 {
            matches!(answer.status, 400 | 422)
        } else {
            answer.status == status
        };
        assert!(fits, "{more}: {answer:?}");
    }
    let path = format!("/api/v1/integrations/{}/projects", it.integration.id);
    for (wanted, status) in [
        (
            json!({"project_key": "PRJ", "repository": "none", "branch_patterns": ["main"]}),
            422,
        ),
        (
            json!({"project_key": "NONE", "repository": "app", "branch_patterns": ["main"]}),
            422,
        ),
        (json!({"project_key": "PRJ", "branch_patterns": ["main"]}), 400),
        (
            json!({"project_key": "PRJ/x", "repository": "app", "branch_patterns": ["main"]}),
            400,
        ),
        (
            json!({"project_id": REPOSITORY, "branch_patterns": ["main"], "enforcement": "bot_approval"}),
            400,
        ),
        (
            json!({"project_id": REPOSITORY, "branch_patterns": ["main"]}),
            409,
        ),
    ] {
        let answer = it.ada.post(&path, &wanted).await;
        let fits = if status == 422 {
            matches!(answer.status, 400 | 422)
        } else {
            answer.status == status
        };
        assert!(fits, "{wanted}: {answer:?}");
    }
    it.bitbucket.assert_no_violations();
}

/// Held against Atlassian's own OpenAPI document: see what was called. The other tests of this file fail at the first
/// violation.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_held_against_atlassians_own_description() {
    let Some(document) = validator::present() else {
        return;
    };
    let it = GatedBitbucketDataCenter::start_with(json!({"auto_merge": true})).await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    it.bitbucket.expect("the merge", SOON, |it| {
        it.pull(REPOSITORY, change.iid).state == "MERGED"
    });
    it.gate().await;
    it.seen(&it.tip("main")).await;
    it.bitbucket.assert_no_violations();
    let called = document.called();
    for it in &called {
        println!("{it}");
    }
    assert!(
        called
            .iter()
            .any(|it| it.contains("POST") && it.ends_with("{pullRequestId}/merge"))
    );
    // It bites.
    let repository = "api/latest/projects/PRJ/repos/app";
    for (method, path, query, body) in [
        (
            "POST",
            format!("{repository}/commits/abc/builds"),
            "",
            br#"{"key":"x","state":"GREEN","url":"x"}"#.as_slice(),
        ),
        (
            "POST",
            format!("{repository}/commits/abc/builds"),
            "",
            br#"{"key":"x","state":"FAILED"}"#,
        ),
        ("GET", format!("{repository}/pull-requests"), "status=OPEN", b""),
        ("GET", format!("{repository}/commits/abc/builds"), "", b""),
        ("GET", format!("{repository}/pull-request/1"), "", b""),
        ("PUT", format!("{repository}/pull-requests/1/merge"), "", b""),
    ] {
        assert!(
            document.check(method, &path, query, body).is_err(),
            "{method} {path}?{query}"
        );
    }
}

/// The fake refuses what the real one refuses; otherwise its green tests would say nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_fake_refuses_as_bitbucket_does() {
    let bitbucket = FakeBitbucketDataCenter::start();
    let (ann, bob) = (
        bitbucket.add_user("ann", "ann@x.org"),
        bitbucket.add_user("bob", "bob@x.org"),
    );
    bitbucket.add_repository(REPOSITORY, "PRJ", "app");
    bitbucket.let_in(REPOSITORY, ann, Access::Admin);
    bitbucket.let_in(REPOSITORY, bob, Access::Read);
    let (admin, reader) = (
        bitbucket.add_token(ann, Access::Admin),
        bitbucket.add_token(bob, Access::Admin),
    );
    let weak = bitbucket.add_token(ann, Access::Read);
    bitbucket.branch(REPOSITORY, "topic", "main");
    let commit = GatedBitbucketDataCenter::commit_of_carl("a.rs");
    bitbucket.commit(REPOSITORY, "topic", ann, &commit);
    let number = bitbucket.open(REPOSITORY, REPOSITORY, "topic", "main", "T", ann);
    let base = format!("{}/rest/api/latest/projects/PRJ/repos/app", bitbucket.base_url());
    let call = async |method: &str, path: &str, token: &str, body: Option<Value>| {
        let method = method.parse().expect("a method");
        let mut call = http_client(None).request(method, format!("{base}{path}"));
        if !token.is_empty() {
            call = call.bearer_auth(token);
        }
        if let Some(body) = body {
            call = call.json(&body);
        }
        let answer = call.send().await.expect("it answers");
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap_or(Value::Null);
        let exception = body["errors"][0]["exceptionName"].as_str().unwrap_or_default();
        (status, exception.to_owned())
    };
    let merge = format!("/pull-requests/{number}/merge");
    let at = |version: i64| Some(json!({ "version": version }));
    assert_eq!(call("GET", "/pull-requests", "", None).await.0, 401, "nobody");
    assert_eq!(
        call("GET", "/pull-requests", "x", None).await.0,
        401,
        "no token of its"
    );
    assert_eq!(
        call("GET", "/webhooks", &reader, None).await.0,
        401,
        "readers see no webhooks"
    );
    assert_eq!(
        call("POST", &merge, &reader, at(0)).await.0,
        401,
        "readers do not merge"
    );
    assert_eq!(
        call("POST", &merge, &weak, at(0)).await.0,
        401,
        "nor does a reading token"
    );
    assert_eq!(call("GET", "/pull-requests/99", &admin, None).await.0, 404);
    let (status, exception) = call("POST", &merge, &admin, at(7)).await;
    assert!(
        status == 409 && exception.ends_with("PullRequestOutOfDateException"),
        "{status} {exception}"
    );
    bitbucket.restrict(REPOSITORY, "main", "read-only", &[], &[]);
    let (status, exception) = call("POST", &merge, &admin, at(0)).await;
    assert!(
        status == 409 && exception.ends_with("PullRequestMergeVetoedException"),
        "{status} {exception}"
    );
    bitbucket.change(|state| state.repository_mut(REPOSITORY).restrictions.clear());
    assert_eq!(call("POST", &merge, &admin, at(0)).await.0, 200);
    assert_eq!(call("POST", &merge, &admin, at(1)).await.0, 409, "it is merged");
    bitbucket.revoke(&admin);
    assert_eq!(call("GET", "/pull-requests", &admin, None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_mapped_by_their_number() {
    let it = GatedBitbucketDataCenter::start().await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    assert_problem!(it.carl.decide(&id, "approve", None).await, 403, "self-approval");
    // Under another name he is the same.
    it.bitbucket.change(|state| {
        let user = state.users.get_mut(&it.carl_account).expect("Carl");
        (user.name, user.email) = ("karl".to_owned(), "karl@example.test".to_owned());
    });
    let pushed = it.push(&change, "more.rs");
    let id = it.pending(&pushed, "main").await;
    assert_problem!(it.carl.decide(&id, "approve", None).await, 403, "self-approval");
    // Whoever pushed has a part in it, whatever the commit says.
    let dora: &Person = &it.bea;
    let account = it.bitbucket.add_user("bea", "bea@example.test");
    it.ada
        .link_account(dora, &it.integration, &account.to_string())
        .await;
    let commit = GatedBitbucketDataCenter::commit_of_carl("pushed-by-bea.rs");
    let head = it.bitbucket.push(REPOSITORY, "feature", account, &commit);
    let pushed = Change { head, ..change };
    let id = it.pending(&pushed, "main").await;
    assert_problem!(it.bea.decide(&id, "approve", None).await, 403, "self-approval");
    it.ada.approve(&id).await;
    it.expect_status(&pushed.head, "main", "success");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_and_connects_a_data_center_in_a_real_browser() {
    if !can_run("the_page_shows_and_connects_a_data_center_in_a_real_browser") {
        return;
    }
    let it = GatedBitbucketDataCenter::start_with(json!({"enforcement": "merge_broker"})).await;
    it.bitbucket.change(|state| {
        let record = state.repository_mut(REPOSITORY);
        record.restrictions.clear();
        record.conditions.clear();
    });
    let readers = &["stash-users"];
    it.bitbucket
        .restrict(REPOSITORY, "main", "read-only", &[it.bot], &[]);
    it.bitbucket
        .restrict(REPOSITORY, "production", "read-only", &[it.bot], readers);
    assert_eq!(it.gate().await.0, "soft");
    let url = text(&it.ada.invite("Dana Reyes", &["admin"]).await, "invite_url");
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    let page = format!("{}/dashboard/integrations/bitbucket", it.appliance.base());
    browser.goto(&page).await;
    browser.wait_for_text("PRJ/app").await;
    let open = "document.querySelectorAll('.rows details').forEach(it => { it.open = true; })";
    browser.script(open, &[]).await;
    browser
        .wait_for_text("Others than this server can change production")
        .await;
    shoot(&browser, "integrations-bitbucket-dc").await;
    browser.click("#data-center > summary").await;
    browser.fill("#dc-name", "Second Bitbucket").await;
    browser.fill("#dc-base", &it.bitbucket.base_url()).await;
    browser.fill("#dc-token", "BBDC-nobodys").await;
    browser
        .fill("#data-center input[name=reason]", "To show it")
        .await;
    browser.click("#data-center form button").await;
    browser.wait_for_text("revoked or has expired").await;
    shoot(&browser, "integrations-bitbucket-dc-refused").await;
    browser.fill("#dc-token", &it.token).await;
    browser.click("#data-center form button").await;
    browser.wait_for_text("Now tell Bitbucket where to call").await;
    shoot(&browser, "integrations-bitbucket-dc-connected").await;
    let all = it.ada.get("/api/v1/integrations").await;
    assert_eq!(items(&all).len(), 2, "{all:?}");
    let violations = browser.csp_violations().await;
    assert!(violations.is_empty(), "{violations:#?}");
}
