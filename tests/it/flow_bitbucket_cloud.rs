//! Pull requests on Bitbucket Cloud: what is particular there, and what goes wrong there.

use crate::browser::{can_run, shoot};
use crate::support::appliance::{Options, http_client};
use crate::support::browser::Browser;
use crate::support::forge::bitbucket_cloud::acts::sign;
use crate::support::forge::bitbucket_cloud::installed;
use crate::support::forge::bitbucket_cloud::state::Consumer;
use crate::support::forge::gitlab::repository::{Edit, NewCommit};
use crate::support::gated::{Change, SOON};
use crate::support::gated_bitbucket_cloud::{GatedBitbucketCloud, SCOPES};
use crate::support::person::{items, text};
use crate::support::problem::assert_problem;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What nobody told is found within this (contract, section 3.4).
const FOUND_MAX: Duration = Duration::from_secs(60);

impl GatedBitbucketCloud {
    /// Sends a webhook with these headers, as anybody could.
    async fn send_hook(&self, body: &[u8], headers: &[(&str, &str)]) -> (u16, Value) {
        let mut call = http_client(None)
            .post(&self.integration.webhook_url)
            .body(body.to_vec());
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        let answer = call.send().await.expect("it answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// It looks by itself every second, so that nothing takes long.
    async fn start_looking(settings: Value) -> Self {
        let options = Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1s");
        Self::start_in(options, settings).await
    }

    /// Waits until the journal tells that a branch was seen at a commit.
    async fn seen(&self, tip: &str) {
        let started = Instant::now();
        loop {
            let all = self.ada.journal("branch.observed").await;
            if all.iter().any(|it| it["data"]["commit"] == tip) {
                return;
            }
            assert!(started.elapsed() < FOUND_MAX, "{tip} was never seen");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn merged(&self, change: &Change) {
        self.until("it is merged", SOON, || {
            self.bitbucket.pull(&self.repository, change.iid).state == "MERGED"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_webhooks_signed_with_sha256_count_and_each_once() {
    let it = GatedBitbucketCloud::start().await;
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    let secret = it.integration.webhook_secret.clone();
    let body = json!({"pullrequest": {"id": change.iid}, "repository": {"uuid": it.repository}}).to_string();
    let body = body.as_bytes();
    let right = sign(&secret, body);
    let event = ("x-event-key", "pullrequest:updated");
    let id = ("x-request-uuid", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    let with = |name: &'static str, signature: String| {
        let it = &it;
        async move { it.send_hook(body, &[event, id, (name, &signature)]).await.0 }
    };
    assert_eq!(it.send_hook(body, &[event, id]).await.0, 401, "no signature");
    assert_eq!(
        with("x-hub-signature", right.replace("sha256", "sha1")).await,
        401,
        "SHA-1"
    );
    assert_eq!(
        with("x-hub-signature-256", right.clone()).await,
        401,
        "another header"
    );
    assert_eq!(
        with("x-hub-signature", sign("another secret entirely", body)).await,
        401
    );
    assert_eq!(with("x-hub-signature", right[..40].to_owned()).await, 401);
    assert_eq!(with("x-hub-signature", right.clone()).await, 202);
    let signed = ("x-hub-signature", right.as_str());
    let (status, again) = it.send_hook(body, &[event, id, signed]).await;
    assert_eq!(
        (status, &again["status"]),
        (200, &json!("known")),
        "a replay is ignored"
    );
    // Authentic and senseless.
    for (name, odd) in [
        ("pullrequest:created", &b"payload=%7B%7D"[..]),
        ("pullrequest:created", b"{"),
        (
            "pullrequest:created",
            br#"{"repository":{"uuid":"42"},"pullrequest":{"id":1}}"#,
        ),
        ("repo:push", br#"{"push":{}}"#),
    ] {
        let signature = sign(&secret, odd);
        let headers = [("x-event-key", name), ("x-hub-signature", signature.as_str())];
        let (status, _) = it.send_hook(odd, &headers).await;
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(odd));
    }
    let other = b"{}";
    let signature = sign(&secret, other);
    let headers = [
        ("x-event-key", "repo:fork"),
        ("x-hub-signature", signature.as_str()),
    ];
    assert_eq!(it.send_hook(other, &headers).await.0, 200);
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_forks_and_declining_are_followed() {
    let it = GatedBitbucketCloud::start().await;
    let carl = it.carl_account.clone();
    let change = it.open("feature", "main");
    let first = it.pending(&change, "main").await;
    it.bitbucket
        .edit(&it.repository, change.iid, "updated", &carl, |pull| {
            pull.draft = true
        });
    it.bea.approve(&first).await;
    it.expect_status(&change.head, "main", "SUCCESSFUL").await;
    it.bitbucket.decline(&it.repository, change.iid, &carl);
    let again = it.open("again", "main");
    let second = it.pending(&again, "main").await;
    it.bitbucket.decline(&it.repository, again.iid, &carl);
    it.auditor.wait_for_status(&second, "cancelled", SOON).await;

    // A fork's commits get their status in the target's repository, also where the fork itself is hidden from us.
    let fork = it.bitbucket.fork(&it.repository, "carl");
    for (branch, hidden) in [("forked", false), ("unseen", true)] {
        it.bitbucket
            .change(|state| state.repository_mut(&fork).hidden = hidden);
        let commit = GatedBitbucketCloud::commit_of_carl(&format!("{branch}.rs"));
        it.bitbucket.branch(&fork, branch, "main");
        let head = it.bitbucket.commit(&fork, branch, &commit);
        let iid = it.bitbucket.open(&it.repository, &fork, branch, "main", &carl);
        let forked = Change {
            iid,
            branch: branch.to_owned(),
            head,
        };
        let id = it.pending(&forked, "main").await;
        it.bea.approve(&id).await;
        it.expect_status(&forked.head, "main", "SUCCESSFUL").await;
    }

    // Renamed and moved, it is found all the same: it is known by its UUID.
    it.bitbucket.change(|state| {
        let record = state.repository_mut(&it.repository);
        (record.workspace, record.slug) = ("other".to_owned(), "renamed".to_owned());
    });
    let late = it.open("late", "main");
    it.pending(&late, "main").await;
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_as_strong_as_bitbuckets_restrictions() {
    let it = GatedBitbucketCloud::start_with(json!({"auto_merge": true})).await;
    let (hard, none) = ("hard".to_owned(), Vec::<String>::new());
    assert_eq!(it.codes().await, (hard.clone(), none));
    let mia = it.bitbucket.add_user("mia", "mia@example.test");
    let rules = |rules: &[(&str, &[&str])]| {
        it.bitbucket
            .change(|state| state.repository_mut(&it.repository).restrictions.clear());
        for branch in ["main", "production"] {
            for (kind, users) in rules {
                it.bitbucket.restrict(&it.repository, kind, branch, users);
            }
        }
    };
    let found = |strength: &str, codes: &[&str]| {
        let codes: Vec<String> = codes.iter().map(|it| (*it).to_owned()).collect();
        (strength.to_owned(), codes)
    };
    let (gate, mia) = (it.gate_account.as_str(), mia.as_str());
    let shut: (&str, &[&str]) = ("push", &[]);
    rules(&[]);
    assert_eq!(
        it.codes().await,
        found("none", &["anyone_merges", "anyone_pushes"])
    );
    rules(&[shut, ("require_passing_builds_to_merge", &[])]);
    assert_eq!(it.codes().await, found("soft", &["checks_warn"]));
    rules(&[
        shut,
        ("require_passing_builds_to_merge", &[]),
        ("enforce_merge_checks", &[]),
    ]);
    assert_eq!(it.codes().await, found("soft", &["builds_counted"]));
    rules(&[shut, ("restrict_merges", &[gate, mia])]);
    assert_eq!(it.codes().await, found("soft", &["others_merge"]));
    rules(&[("push", &[mia]), ("restrict_merges", &[gate])]);
    assert_eq!(it.codes().await, found("soft", &["others_push"]));
    rules(&[shut, ("restrict_merges", &[])]);
    assert_eq!(it.codes().await, found("hard", &["cannot_merge"]));
    rules(&[shut, ("restrict_merges", &[gate])]);
    it.bitbucket
        .change(|state| state.repository_mut(&it.repository).hooks[0].active = false);
    assert_eq!(it.codes().await, found("hard", &["webhook_disabled"]));
    // Without the scope nobody knows what holds the branches.
    it.bitbucket.change(|state| {
        state.tokens[0].scopes.retain(|it| it != "repository:admin");
        state.repository_mut(&it.repository).hooks[0].active = true;
    });
    let (strength, codes) = it.codes().await;
    assert_eq!(
        (strength.as_str(), codes),
        ("none", vec!["restrictions_unread".to_owned()])
    );
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bitbucket_cuts_or_refuses_leaves_a_change_waiting_with_words() {
    let it = GatedBitbucketCloud::start().await;
    // A list that Bitbucket cut is judged by the strictest rules, and said so.
    it.bitbucket.change(|state| state.counted_files = Some(9));
    let cut = it.open("cut", "main");
    let id = it.pending(&cut, "main").await;
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(page.contains("Bitbucket counts 9 files and lists 1"), "{page}");
    it.bitbucket.change(|state| state.counted_files = None);

    // A difference that takes Bitbucket too long, and a rate limit, with and without a wait, pass by themselves.
    let error = |message: &str| json!({"type": "error", "error": {"message": message}});
    it.bitbucket
        .fail("GET", "/diffstat/", 1, 555, &[], error("timed out"));
    let limited = [("retry-after", "1")];
    it.bitbucket.fail(
        "POST",
        "/statuses/build",
        1,
        429,
        &limited,
        error("Rate limit for this resource has been exceeded"),
    );
    let change = it.open("limited", "main");
    let id = it.pending(&change, "main").await;

    // A token that was taken back is for an admin to replace; nothing turns green meanwhile.
    let revoke = |on: bool| it.bitbucket.change(|state| state.tokens[0].revoked = on);
    revoke(true);
    let path = format!(
        "/api/v1/integrations/{}/projects/{}/check",
        it.integration.id, it.project
    );
    let refused = it.ada.post(&path, &json!({})).await;
    let told = refused.text();
    assert_problem!(refused, 422, "forge-answer");
    assert!(told.contains("wrong, expired or revoked"), "{told}");
    it.bea.approve(&id).await;
    let started = Instant::now();
    loop {
        let told = it.ada.journal("status.confirmed").await;
        let mut refused = told.iter().filter_map(|it| it["data"]["refused"].as_str());
        if refused.any(|it| it.contains("wrong, expired or revoked")) {
            break;
        }
        assert!(started.elapsed() < SOON, "{told:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let shown = it
        .bitbucket
        .status(&it.repository, &change.head, "signedapproval/main");
    assert_eq!(
        shown.as_deref(),
        Some("INPROGRESS"),
        "nothing turns green meanwhile"
    );
    revoke(false);

    // So is one that lacks a scope.
    it.bitbucket
        .change(|state| state.tokens[0].scopes = vec!["repository".to_owned(), "account".to_owned()]);
    let lacking = it.ada.post(&path, &json!({})).await.expect(200);
    let reasons = lacking["gate"]["reasons"].to_string();
    assert!(
        lacking["gate"]["strength"] == "none" && reasons.contains("administer repositories"),
        "{reasons}"
    );
    it.bitbucket
        .change(|state| state.tokens[0].scopes = SCOPES.map(str::to_owned).to_vec());
    let pushed = it.push(&change, "more.rs");
    it.expect_status_within(&pushed.head, "main", "INPROGRESS", FOUND_MAX)
        .await;
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_page_by_page_with_renames_and_modes() {
    let it = GatedBitbucketCloud::start().await;
    it.ada
        .put_policy(
            "default",
            &json!({ "rules": [
                { "name": "Docs", "match": { "branch": "*", "paths": ["docs/**"] }, "action": "skip" },
            ] }),
        )
        .await;
    it.bitbucket.change(|state| state.files_page = 2);
    let edits = |more: Vec<Edit>| {
        let mut all: Vec<Edit> = ["a", "b c", "über"]
            .map(|it| Edit::write(&format!("docs/{it}.md"), "1\n"))
            .to_vec();
        all.extend(more);
        NewCommit::by("Carl", "carl@example.test", "Write", all)
    };
    // Three pages, and the modes of every file are known: it is skipped.
    let docs = edits(vec![
        Edit::write("docs/d.md", "2\n"),
        Edit::write("docs/e.md", "3\n"),
    ]);
    let skipped = it.open_with("docs", "main", &docs);
    it.expect_status(&skipped.head, "main", "SUCCESSFUL").await;
    let request = it.requests(skipped.iid).await;
    assert_eq!(request[0]["status"], "skipped", "{request:#?}");
    assert!(it.bitbucket.calls_to("GET", "/diffstat/").len() >= 3);
    // Moved out of the place, or a link: not.
    let moved = edits(vec![Edit::rename("README.md", "docs/README.md")]);
    let moved = it.open_with("moved", "main", &moved);
    let id = it.pending(&moved, "main").await;
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(page.contains("README.md"), "{page}");
    let link = edits(vec![Edit::symlink("docs/passwd", "/etc/passwd")]);
    let link = it.open_with("link", "main", &link);
    it.pending(&link, "main").await;
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_merging_is_matched_to_its_approval_without_any_webhook() {
    let it = GatedBitbucketCloud::start_looking(json!({})).await;
    it.bitbucket.change(|state| state.silent = true);
    let mia = it.bitbucket.add_user("mia", "mia@example.test");
    it.seen(&it.tip("main")).await;
    let mut changes = Vec::new();
    for strategy in ["merge_commit", "squash", "rebase_fast_forward"] {
        let change = it.open(strategy, "main");
        changes.push((strategy, it.push(&change, &format!("{strategy}-2.rs"))));
    }
    let picture = NewCommit::by(
        "Carl",
        "carl@example.test",
        "Draw",
        vec![Edit::write("p.png", "\0png")],
    );
    changes.push(("squash", it.open_with("picture", "main", &picture)));
    for (_, change) in &changes {
        let key = "signedapproval/main";
        it.until("found without a webhook", FOUND_MAX, || {
            it.bitbucket.status(&it.repository, &change.head, key).as_deref() == Some("INPROGRESS")
        })
        .await;
        let id = text(&it.request(change, "main", "pending").await, "id");
        it.bea.approve(&id).await;
        it.expect_status(&change.head, "main", "SUCCESSFUL").await;
    }
    // The branch moves on beside each.
    for (strategy, change) in &changes {
        it.bitbucket
            .merge_past_the_rules(&it.repository, change.iid, strategy, &mia);
    }
    it.seen(&it.tip("main")).await;
    let told = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(told.is_empty(), "{told:#?}");
    let around = GatedBitbucketCloud::commit_of_carl("around.rs");
    let pushed = it.bitbucket.push(&it.repository, "main", &mia, &around);
    it.seen(&pushed).await;
    let told = it.exception("unapproved_change").await;
    assert!(told.to_string().contains(&pushed), "{told}");
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_is_waited_for_and_one_of_another_head_is_found() {
    let it = GatedBitbucketCloud::start_looking(json!({"auto_merge": true})).await;
    it.seen(&it.tip("main")).await;
    it.bitbucket.change(|state| state.slow_merges = true);
    let slow = it.open("slow", "main");
    let id = it.pending(&slow, "main").await;
    it.bea.approve(&id).await;
    it.merged(&slow).await;
    it.seen(&it.tip("main")).await;
    let started = Instant::now();
    loop {
        let told = it.ada.journal("merge.answered").await;
        if let [one] = told.as_slice() {
            assert_eq!(one["data"]["commit"], it.tip("main"), "{one}");
            break;
        }
        assert!(started.elapsed() < SOON, "it is not recorded: {told:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(told.is_empty(), "{told:#?}");

    // Somebody pushes between the look and the merge. Bitbucket takes no commit along, so it is found and not stopped.
    it.bitbucket.change(|state| state.slow_merges = false);
    let raced = it.open("raced", "main");
    let id = it.pending(&raced, "main").await;
    let sneaked = it.bitbucket.change(|state| {
        let commit = GatedBitbucketCloud::commit_of_carl("sneaked.rs");
        let sha = state.objects.commit(Some(&raced.head), &commit);
        state.pushed_in_between = Some((sha.clone(), it.carl_account.clone()));
        sha
    });
    it.bea.approve(&id).await;
    it.merged(&raced).await;
    let told = it.exception("unapproved_change").await;
    assert_eq!(told["change"]["number"].as_u64(), Some(raced.iid), "{told}");
    assert_eq!(
        it.bitbucket.pull(&it.repository, raced.iid).head,
        sneaked,
        "the other head was merged"
    );
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_status_is_found_without_a_webhook_and_set_back() {
    let it = GatedBitbucketCloud::start_looking(json!({})).await;
    let change = it.open("forged", "main");
    it.pending(&change, "main").await;
    it.bitbucket.change(|state| state.silent = true);
    it.forge_status(&change.head).await;
    let told = it.exception("status_forged").await;
    assert_eq!(told["shown"], "SUCCESSFUL", "{told}");
    it.expect_status(&change.head, "main", "INPROGRESS").await;
    it.bitbucket.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_connection_is_said() {
    let it = GatedBitbucketCloud::start().await;
    let base = it.bitbucket.base_url();
    let connect = async |more: Value| {
        let mut body = json!({"kind": "bitbucket", "name": "Again", "base_url": base});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        it.ada.post("/api/v1/integrations", &body).await
    };
    let token = &it.token;
    for (more, status) in [
        (json!({}), 400),
        (json!({"token": ""}), 400),
        (json!({"token": token, "client_id": "key"}), 400),
        (json!({"client_id": "key"}), 400),
        (json!({"client_secret": "s"}), 400),
        (
            json!({"email": "gate@example.test", "client_id": "key", "client_secret": "s"}),
            400,
        ),
        (json!({"token": token, "private_key": "x"}), 400),
        (json!({"token": token, "webhook_secret": "short"}), 400),
        (json!({"email": "gate@example.test", "token": "wrong"}), 422),
        (json!({"email": "carl@example.test", "token": token}), 422),
        (json!({"client_id": "key", "client_secret": "wrong"}), 422),
    ] {
        let answer = connect(more.clone()).await;
        assert_eq!(answer.status, status, "{more}: {answer:?}");
        assert!(!answer.text().contains(token.as_str()), "{answer:?}");
    }
    let path = format!("/api/v1/integrations/{}/projects", it.integration.id);
    for (wanted, status) in [
        (
            json!({"workspace": "team", "repository": "none", "branch_patterns": ["main"]}),
            422,
        ),
        (json!({"workspace": "team", "branch_patterns": ["main"]}), 400),
        (
            json!({"owner": "team", "repository": "app", "branch_patterns": ["main"]}),
            400,
        ),
        (
            json!({"workspace": "team/x", "repository": "app", "branch_patterns": ["main"]}),
            400,
        ),
        (json!({"project_id": 42, "branch_patterns": ["main"]}), 400),
        (
            json!({"project_id": it.repository, "branch_patterns": ["main"], "enforcement": "bot_approval"}),
            400,
        ),
        (
            json!({"project_id": it.repository, "branch_patterns": ["main"], "environments": ["production"]}),
            400,
        ),
        (
            json!({"project_id": it.repository, "branch_patterns": ["main"]}),
            409,
        ),
    ] {
        let answer = it.ada.post(&path, &wanted).await;
        assert_eq!(answer.status, status, "{wanted}: {answer:?}");
    }

    // An access token is nobody that Bitbucket tells of, and gates all the same.
    let other = it.bitbucket.add_repository("team", "other");
    let access = it.bitbucket.add_token(None, &["pullrequest:write", "webhook"]);
    let made = connect(json!({"name": "Access", "token": access}))
        .await
        .expect(201);
    assert_eq!(made["account"], Value::Null, "{made}");
    assert!(text(&made, "webhook_secret").starts_with("whsec_"), "{made}");
    let path = format!("/api/v1/integrations/{}/projects", text(&made, "id"));
    let original = json!({"workspace": "team", "repository": "other", "branch_patterns": ["main", "release/*"],
        "auto_merge": false, "quorum": 1});
    let gated = it.ada.post(&path, &original).await.expect(201);
    assert_eq!(gated["project_id"], other.as_str(), "{gated}");
    assert_eq!(gated["enforcement"], "commit_status", "{gated}");

    // A consumer's token is made, kept, and made anew when it is not taken any more.
    it.bitbucket.change(|state| {
        state.consumer = Some(Consumer {
            id: "key".to_owned(),
            secret: "the consumer's secret".to_owned(),
            scopes: vec!["account".to_owned(), "pullrequest:write".to_owned()],
        });
    });
    let third = it.bitbucket.add_repository("team", "third");
    let consumer = json!({"name": "Consumer", "client_id": "key", "client_secret": "the consumer's secret"});
    let made = connect(consumer).await.expect(201);
    let path = format!("/api/v1/integrations/{}/projects", text(&made, "id"));
    let wanted = json!({"workspace": "team", "repository": "third", "branch_patterns": ["main"]});
    let gated = it.ada.post(&path, &wanted).await.expect(201);
    assert_eq!(gated["project_id"], third.as_str(), "{gated}");
    it.bitbucket.change(|state| {
        let all = state.tokens.iter_mut();
        for it in all.filter(|it| it.secret.starts_with("consumer-token-")) {
            it.revoked = true;
        }
    });
    it.bitbucket.branch(&third, "feature", "main");
    let commit = GatedBitbucketCloud::commit_of_carl("third.rs");
    let head = it.bitbucket.commit(&third, "feature", &commit);
    it.bitbucket
        .open(&third, &third, "feature", "main", &it.carl_account);
    it.until("the consumer's status", FOUND_MAX, || {
        let key = "signedapproval/main";
        it.bitbucket.status(&third, &head, key).as_deref() == Some("INPROGRESS")
    })
    .await;
    it.bitbucket.assert_no_violations();
}

/// Held against Bitbucket's own OpenAPI document: see what was called. The fake's other tests fail at the first violation.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_held_against_bitbuckets_own_description() {
    let Some(document) = installed() else {
        return;
    };
    let it = GatedBitbucketCloud::start_looking(json!({"auto_merge": true})).await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    it.merged(&change).await;
    it.gate().await;
    it.seen(&it.tip("main")).await;
    it.bitbucket.assert_no_violations();
    let called = document.called();
    for it in &called {
        println!("{it}");
    }
    let merge = "POST /repositories/{workspace}/{repo_slug}/pullrequests/{pull_request_id}/merge";
    assert!(called.iter().any(|it| it.ends_with(merge)), "{called:?}");
    // It bites.
    for (method, path, query, body) in [
        (
            "POST",
            "repositories/w/r/commit/abc/statuses/build",
            "",
            br#"{"type":"build","key":"k","state":"GREEN"}"#.as_slice(),
        ),
        (
            "POST",
            "repositories/w/r/pullrequests/1/merge",
            "",
            br#"{"type":"x","merge_strategy":"fast"}"#,
        ),
        ("GET", "repositories/w/r/pullrequests", "state=open", b""),
        ("GET", "repositories/w/r/pullrequests", "colour=red", b""),
        ("GET", "repositories/w/r/pulls", "", b""),
    ] {
        assert!(
            document.check(method, path, query, body).is_err(),
            "{method} {path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bitbucket_is_connected_from_the_page_in_a_real_browser() {
    if !can_run("bitbucket_is_connected_from_the_page_in_a_real_browser") {
        return;
    }
    let it = GatedBitbucketCloud::start().await;
    it.gate().await;
    let url = text(&it.ada.invite("Dana Reyes", &["admin"]).await, "invite_url");
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    let page = |path: &str| format!("{}{path}", it.appliance.base());
    browser.goto(&page("/dashboard/integrations/bitbucket")).await;
    browser.wait_for_text("team/app").await;
    shoot(&browser, "integrations-bitbucket").await;
    for part in ["#consumer", "#data-center"] {
        browser.click(&format!("{part} > summary")).await;
    }
    shoot(&browser, "integrations-bitbucket-forms").await;
    browser.fill("#cloud-name", "Another").await;
    browser.fill("#cloud-token", &it.token).await;
    browser.fill("#cloud-email", "gate@example.test").await;
    browser.fill("#cloud input[name=reason]", "To show it").await;
    // The page connects to bitbucket.org; here it is the fake one.
    let elsewhere = "const it = document.createElement('input'); it.type = 'hidden'; it.name = 'base_url';\
                     it.value = arguments[0]; document.querySelector('#cloud form').append(it)";
    browser.script(elsewhere, &[json!(it.bitbucket.base_url())]).await;
    browser.click("#cloud button").await;
    browser.wait_for_text("Now tell Bitbucket where to call").await;
    shoot(&browser, "integrations-bitbucket-connected").await;
    let all = it.ada.get("/api/v1/integrations").await;
    assert_eq!(items(&all).len(), 2, "{all:?}");
    let violations = browser.csp_violations().await;
    assert!(violations.is_empty(), "{violations:#?}");
}
