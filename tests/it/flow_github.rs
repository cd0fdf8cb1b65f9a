//! Pull requests on GitHub: what is particular there, and what goes wrong there.

use crate::browser::{can_run, shoot};
use crate::support::appliance::{Options, http_client};
use crate::support::browser::Browser;
use crate::support::forge::github::state::{APP, BOT};
use crate::support::forge::github::{hooks_sign, installed};
use crate::support::gated::{Change, SOON};
use crate::support::gated_github::{GatedGitHub, REPOSITORY};
use crate::support::person::{items, text};
use crate::support::problem::assert_problem;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SECRET: &str = "it is a secret to everybody";

impl GatedGitHub {
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

    async fn codes(&self) -> (String, Vec<String>) {
        let gate = self.gate().await;
        let found = gate["findings"].as_array().expect("findings").iter();
        let codes = found.map(|it| text(it, "code")).collect();
        (text(&gate, "strength"), codes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_webhooks_signed_with_sha256_count_and_each_once() {
    let it = GatedGitHub::start().await;
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    let body =
        json!({"action": "synchronize", "number": change.iid, "repository": {"id": REPOSITORY}}).to_string();
    let body = body.as_bytes();
    let right = hooks_sign(SECRET, body);
    let event = ("x-github-event", "pull_request");
    let id = ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    let with = |signature: (&'static str, String)| {
        let it = &it;
        async move {
            it.send_hook(body, &[event, id, (signature.0, &signature.1)])
                .await
                .0
        }
    };
    assert_eq!(it.send_hook(body, &[event, id]).await.0, 401, "no signature");
    assert_eq!(
        with(("x-hub-signature", right.clone())).await,
        401,
        "SHA-1's header only"
    );
    assert_eq!(
        with(("x-hub-signature-256", hooks_sign("another secret entirely", body))).await,
        401
    );
    assert_eq!(with(("x-hub-signature-256", right[..40].to_owned())).await, 401);
    assert_eq!(with(("x-hub-signature-256", right.clone())).await, 202);
    let signed = ("x-hub-signature-256", right.as_str());
    let (status, again) = it.send_hook(body, &[event, id, signed]).await;
    assert_eq!(
        (status, &again["status"]),
        (200, &json!("known")),
        "a replay is ignored"
    );
    // Authentic and senseless.
    for (name, odd) in [
        ("pull_request", &b"payload=%7B%7D"[..]),
        ("pull_request", b"{"),
        ("pull_request", br#"{"repository":{"id":42}}"#),
        ("push", br#"{"repository":{"id":42},"ref":7}"#),
    ] {
        let signature = hooks_sign(SECRET, odd);
        let headers = [
            ("x-github-event", name),
            ("x-hub-signature-256", signature.as_str()),
        ];
        assert_eq!(
            it.send_hook(odd, &headers).await.0,
            400,
            "{}",
            String::from_utf8_lossy(odd)
        );
    }
    let ping = b"{\"zen\":\"x\"}";
    let signature = hooks_sign(SECRET, ping);
    let (status, _) = it
        .send_hook(
            ping,
            &[("x-github-event", "ping"), ("x-hub-signature-256", &signature)],
        )
        .await;
    assert_eq!(status, 200);
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_forks_closing_and_renaming_are_followed() {
    let it = GatedGitHub::start().await;
    let change = it.open("feature", "main");
    let first = it.pending(&change, "main").await;
    it.github.close(REPOSITORY, change.iid, it.carl_account);
    it.auditor.wait_for_status(&first, "cancelled", SOON).await;
    it.github.reopen(REPOSITORY, change.iid, it.carl_account);
    let second = text(&it.request(&change, "main", "pending").await, "id");
    assert_ne!(first, second);
    it.github
        .make_draft(REPOSITORY, change.iid, it.carl_account, true);
    it.bea.approve(&second).await;
    it.expect_status(&change.head, "main", "success");

    // A fork's commits get their status in the base repository.
    let fork = REPOSITORY + 1;
    it.github.fork(REPOSITORY, fork, "carl");
    let commit = GatedGitHub::commit_of_carl("forked.rs");
    it.github.branch(fork, "forked", "main");
    let head = it.github.commit(fork, "forked", it.carl_account, &commit);
    let number = it
        .github
        .open(REPOSITORY, fork, "forked", "main", "From a fork", it.carl_account);
    let forked = Change {
        iid: number,
        branch: "forked".to_owned(),
        head,
    };
    let id = it.pending(&forked, "main").await;
    it.bea.approve(&id).await;
    // Who pushed to the fork is not told, which costs one approver more.
    let shown = it.auditor.request(&id).await;
    assert_eq!(shown["status"], "pending", "{shown}");
    it.ada.approve(&id).await;
    it.expect_status(&forked.head, "main", "success");

    // Renamed, it is found again by its number.
    it.github
        .change(|state| state.repository_mut(REPOSITORY).name = "renamed".to_owned());
    let late = it.open("late", "main");
    it.expect_status_within(&late.head, "main", "pending", SOON);
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_as_strong_as_githubs_rules() {
    let it = GatedGitHub::start().await;
    assert_eq!(it.codes().await, ("hard".to_owned(), vec![]));
    let rules = |source: Option<u64>, bypass: Vec<Value>| {
        it.github
            .change(|state| state.repository_mut(REPOSITORY).rulesets.clear());
        for branch in ["main", "production"] {
            it.github
                .require_check(REPOSITORY, branch, source, bypass.clone());
        }
    };
    let one = |strength: &str, code: &str| (strength.to_owned(), vec![code.to_owned()]);
    rules(None, vec![]);
    assert_eq!(it.codes().await, one("soft", "any_source"));
    rules(Some(APP + 1), vec![]);
    assert_eq!(it.codes().await, one("none", "other_source"));
    rules(
        Some(APP),
        vec![json!({"actor_type": "OrganizationAdmin", "actor_id": null, "bypass_mode": "always"})],
    );
    // Each branch has a ruleset of its own, and is told with its own.
    let bypass = || "bypass".to_owned();
    assert_eq!(it.codes().await, ("soft".to_owned(), vec![bypass(), bypass()]));
    rules(Some(APP), vec![]);
    let installation = it.installation;
    it.github.change(|state| {
        let granted = &mut state
            .installations
            .get_mut(&installation)
            .expect("it")
            .permissions;
        granted.remove("administration");
    });
    assert_eq!(it.codes().await, one("soft", "bypass_unknown"));
    // A classic protection is seen without that permission.
    let classic = |admins: bool| {
        it.github.change(|state| {
            let record = state.repository_mut(REPOSITORY);
            record.rulesets.clear();
            for branch in ["main", "production"] {
                let checks = vec![(format!("signedapproval/{branch}"), Some(APP as i64))];
                record.classic.insert(branch.to_owned(), (checks, admins));
            }
        });
    };
    classic(true);
    assert_eq!(it.codes().await, ("hard".to_owned(), vec![]));
    classic(false);
    assert_eq!(it.codes().await, one("soft", "bypass"));
    it.github
        .change(|state| state.repository_mut(REPOSITORY).classic.clear());
    assert_eq!(it.codes().await, one("none", "not_required"));
    it.github.change(|state| {
        let granted = &mut state
            .installations
            .get_mut(&installation)
            .expect("it")
            .permissions;
        granted.insert("statuses".to_owned(), "read".to_owned());
    });
    assert_eq!(it.codes().await.1, ["not_required", "permissions"]);
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_cuts_or_refuses_leaves_a_change_waiting_with_words() {
    let it = GatedGitHub::start().await;
    // A list that GitHub cut is judged by the strictest rules, and said so.
    it.github
        .change(|state| state.repository_mut(REPOSITORY).counted_files = Some(3_000));
    let huge = it.open("huge", "main");
    it.expect_status_within(&huge.head, "main", "pending", SOON);
    let id = text(&it.request(&huge, "main", "pending").await, "id");
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(page.contains("3000 files, more than GitHub lists"), "{page}");
    it.github
        .change(|state| state.repository_mut(REPOSITORY).counted_files = None);

    // A secondary limit and a lost token pass by themselves.
    let limited = json!({"message": "You have exceeded a secondary rate limit. Please wait a few minutes."});
    it.github
        .fail("POST", "/statuses/", 1, 403, &[("retry-after", "1")], limited);
    it.github
        .change(|state| state.tokens.iter_mut().for_each(|it| it.revoked = true));
    let change = it.open("limited", "main");
    it.expect_status_within(&change.head, "main", "pending", SOON);

    // A suspended installation is for an admin to lift; nothing turns green meanwhile.
    let installation = it.installation;
    let suspend = |on: bool| {
        it.github.change(|state| {
            state.installations.get_mut(&installation).expect("it").suspended = on;
        });
    };
    suspend(true);
    let path = format!(
        "/api/v1/integrations/{}/projects/{}/check",
        it.integration.id, it.project
    );
    let refused = it.ada.post(&path, &json!({})).await;
    let told = refused.text();
    assert_problem!(refused, 422, "forge-answer");
    assert!(told.contains("suspended: an owner"), "{told}");
    let id = text(&it.request(&change, "main", "pending").await, "id");
    it.bea.approve(&id).await;
    let started = Instant::now();
    loop {
        let told = it.ada.journal("status.confirmed").await;
        let mut refused = told.iter().filter_map(|it| it["data"]["refused"].as_str());
        if refused.any(|it| it.contains("suspended: an owner")) {
            break;
        }
        assert!(started.elapsed() < SOON, "{told:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let shown = it.github.status(REPOSITORY, &change.head, "signedapproval/main");
    assert_eq!(shown.as_deref(), Some("pending"), "nothing turns green meanwhile");
    suspend(false);
    let pushed = it.push(&change, "more.rs");
    it.expect_status_within(&pushed.head, "main", "pending", Duration::from_secs(60));
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_merging_is_matched_to_its_approval() {
    let it = GatedGitHub::start().await;
    let mia = it.github.add_user("mia", "mia@example.test");
    let mut tip = it.tip("main");
    let seen = async |tip: &str| {
        let started = Instant::now();
        loop {
            let all = it.ada.journal("branch.observed").await;
            if all.iter().any(|it| it["data"]["commit"] == tip) {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{tip} was never seen"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    seen(&tip).await;
    for method in ["merge", "squash", "rebase"] {
        let change = it.open(method, "main");
        let change = it.push(&change, &format!("{method}-2.rs"));
        let id = it.pending(&change, "main").await;
        it.bea.approve(&id).await;
        it.expect_status(&change.head, "main", "success");
        // The branch moves on beside it.
        it.github
            .merge_past_the_rules(REPOSITORY, change.iid, method, mia);
        tip = it.tip("main");
        seen(&tip).await;
    }
    let told = items(&it.auditor.get("/api/v1/exceptions").await);
    assert!(told.is_empty(), "{told:#?}");
    let pushed = it
        .github
        .push(REPOSITORY, "main", mia, &GatedGitHub::commit_of_carl("around.rs"));
    seen(&pushed).await;
    let started = Instant::now();
    loop {
        let told = items(&it.auditor.get("/api/v1/exceptions").await);
        if let [one] = told.as_slice() {
            assert_eq!(one["type"], "exception.unapproved_change", "{one}");
            break;
        }
        assert!(started.elapsed() < SOON, "{told:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_made_from_the_page_and_its_key_taken_over() {
    let it = GatedGitHub::start().await;
    it.github
        .change(|state| state.codes.push("code-of-githubs".to_owned()));
    let base = it.github.base_url();
    let form = [
        ("name", "Gate"),
        ("base_url", base.as_str()),
        ("organization", "org"),
        ("merge", "yes"),
    ];
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let page = it
        .ada
        .send_bytes(
            "POST",
            "/dashboard/integrations/github/app",
            &[
                ("content-type", "application/x-www-form-urlencoded"),
                ("origin", &it.appliance.origin()),
            ],
            Some(body.into_bytes()),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(
        policy.contains(&format!("form-action 'self' {}", it.github.base_url())),
        "{policy}"
    );
    let html = page.text();
    assert!(
        html.contains("/organizations/org/settings/apps/new?state="),
        "{html}"
    );
    assert!(
        html.contains("&#34;contents&#34;:&#34;write&#34;")
            || html.contains("&quot;contents&quot;:&quot;write&quot;")
    );
    let (_, rest) = html.split_once("apps/new?state=").expect("a state");
    let state: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    // Without a session GitHub's way back still shows a page, and finishes nothing by itself.
    let back = format!("/dashboard/integrations/github/made?code=code-of-githubs&state={state}");
    let landed = it.appliance.api().get(&back).await;
    assert_eq!(landed.status, 200);
    let finish = json!({"code": "code-of-githubs", "state": state});
    let path = "/api/v1/integrations/github/apps";
    let other = json!({"code": "code-of-githubs", "state": "0".repeat(32)});
    assert_eq!(it.ada.post(path, &other).await.status, 400);
    let made = it.ada.post(path, &finish).await.expect(201);
    assert_eq!(made["app"]["id"], APP, "{made}");
    assert!(
        text(&made, "install_url").ends_with("/github-apps/gate/installations/new"),
        "{made}"
    );
    assert_eq!(
        it.ada.post(path, &finish).await.status,
        400,
        "a state is good once"
    );
    assert!(!made.to_string().contains("PRIVATE KEY"));
    // It works: the repository is gated through it.
    let second = text(&made, "id");
    let wanted = json!({"owner": "org", "repository": "app", "branch_patterns": ["main"]});
    let gated = it
        .ada
        .post(&format!("/api/v1/integrations/{second}/projects"), &wanted)
        .await
        .expect(201);
    assert_eq!(gated["project_id"], REPOSITORY, "{gated}");
    for page in ["/dashboard/integrations", "/dashboard/integrations/github"] {
        let text = it.ada.get(page).await.text();
        assert!(
            text.contains("org/app") || page.ends_with("integrations"),
            "{page}"
        );
        assert!(text.contains("GitHub"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_app_is_said() {
    let it = GatedGitHub::start().await;
    let key = it.github.read(|it| it.private_key());
    let base = it.github.base_url();
    let connect = async |more: Value| {
        let mut body =
            json!({"kind": "github", "name": "Again", "base_url": base, "app_id": APP, "private_key": key});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        it.ada.post("/api/v1/integrations", &body).await
    };
    let made = connect(json!({"app_id": APP.to_string()})).await.expect(201);
    assert!(
        text(&made, "webhook_secret").starts_with("whsec_"),
        "one is made: {made}"
    );
    assert_eq!(made["account"]["id"], BOT.to_string(), "{made}");
    for (more, status) in [
        (json!({"private_key": "nonsense"}), 422),
        (json!({"app_id": 0}), 400),
        (json!({"app_id": null}), 400),
        (json!({"token": "glpat-x"}), 400),
        (json!({"webhook_secret": "short"}), 400),
        (json!({"installation_id": "x"}), 400),
    ] {
        let answer = connect(more.clone()).await;
        assert_eq!(answer.status, status, "{more}: {answer:?}");
    }
    // Another App's number with this key.
    let refused = connect(json!({"app_id": APP + 1})).await;
    assert!(refused.text().contains("does not accept the App"), "{refused:?}");
    let path = format!("/api/v1/integrations/{}/projects", it.integration.id);
    for (wanted, status) in [
        (
            json!({"owner": "org", "repository": "none", "branch_patterns": ["main"]}),
            422,
        ),
        (json!({"owner": "org", "branch_patterns": ["main"]}), 400),
        (
            json!({"owner": "org/x", "repository": "app", "branch_patterns": ["main"]}),
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
        assert_eq!(answer.status, status, "{wanted}: {answer:?}");
    }
}

/// GitHub's own recorded payloads (npm `@octokit/webhooks-examples`), where `tests/run` has installed them.
#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_payload_of_github_is_taken_or_refused_cleanly() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/npm/node_modules/@octokit/webhooks-examples/api.github.com/index.json"
    );
    let Ok(recorded) = std::fs::read(path) else {
        eprintln!("skipped: {path} is missing");
        return;
    };
    let recorded: Vec<Value> = serde_json::from_slice(&recorded).expect("JSON");
    let it = GatedGitHub::start().await;
    let (mut sent, mut by_answer) = (0, std::collections::BTreeMap::<String, usize>::new());
    for event in &recorded {
        let name = text(event, "name");
        for example in event["examples"].as_array().expect("examples") {
            let body = example.to_string().into_bytes();
            let (signature, id) = (hooks_sign(SECRET, &body), format!("recorded-{sent}"));
            let headers = [
                ("x-github-event", name.as_str()),
                ("x-github-delivery", id.as_str()),
                ("x-hub-signature-256", signature.as_str()),
            ];
            let (status, answer) = it.send_hook(&body, &headers).await;
            assert!(matches!(status, 200 | 202 | 400), "{name}: {status} {answer}");
            if status == 400 {
                assert_eq!(answer["type"], "/problems/bad-request", "{name}: {answer}");
            }
            *by_answer.entry(format!("{status}")).or_default() += 1;
            sent += 1;
        }
    }
    println!(
        "{sent} recorded payloads of {} events: {by_answer:?}",
        recorded.len()
    );
    assert_eq!(sent, 329);
    assert!(!by_answer.contains_key("400"), "{by_answer:?}");
}

/// Held against GitHub's own OpenAPI documents: see what was called. The fakes' other tests fail at the first violation.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_held_against_githubs_own_description() {
    let Some(document) = installed() else {
        return;
    };
    let it = GatedGitHub::start_with(json!({"auto_merge": true})).await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    it.github.expect("the merge", SOON, |github| {
        github.pull(REPOSITORY, change.iid).merged.is_some()
    });
    it.gate().await;
    it.github.assert_no_violations();
    let called = document.called();
    for it in &called {
        println!("{it}");
    }
    assert!(
        called
            .iter()
            .any(|it| it.ends_with("PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge"))
    );
    // It bites.
    for (method, path, query, body) in [
        (
            "POST",
            "repos/o/r/statuses/abc",
            "",
            br#"{"state":"passed"}"#.as_slice(),
        ),
        (
            "PUT",
            "repos/o/r/pulls/1/merge",
            "",
            br#"{"merge_method":"fast"}"#,
        ),
        ("GET", "repos/o/r/pulls", "state=opened", b""),
        ("GET", "repos/o/r/pull", "", b""),
    ] {
        assert!(
            document.check(method, path, query, body).is_err(),
            "{method} {path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_queue_lands_only_what_is_approved_as_queued() {
    let it = GatedGitHub::start_with(json!({"auto_merge": true})).await;
    // The branch has been seen, so its queue is looked at.
    let started = Instant::now();
    while it.ada.journal("branch.observed").await.is_empty() {
        assert!(started.elapsed() < SOON, "no branch was seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    it.github.change(|state| {
        state
            .repository_mut(REPOSITORY)
            .queue
            .insert("main".to_owned(), Vec::new());
    });
    let group = |number: u64| {
        let queue = it
            .github
            .read(|state| state.repository(REPOSITORY).queue["main"].clone());
        queue.into_iter().find(|it| it.0 == number).map(|it| it.1)
    };
    let first = it.open("first", "main");
    let id = it.pending(&first, "main").await;
    it.bea.approve(&id).await;
    // A merge is refused there, so it is put into the queue at its approved head.
    it.github
        .expect("the queue's entry", SOON, |_| group(first.iid).is_some());
    let landing = group(first.iid).expect("it is there");
    it.expect_status_within(&landing, "main", "success", SOON);

    // Somebody queues what is not approved: the commit that holds it fails, and drops out.
    let second = it.open("second", "main");
    it.pending(&second, "main").await;
    it.github.enqueue_anyway(REPOSITORY, second.iid);
    let landing = group(second.iid).expect("it is there");
    it.expect_status_within(&landing, "main", "failure", SOON);
    it.github.assert_no_violations();
}

/// Every GraphQL document that is sent, against GitHub's own schema, where `tests/run` has installed it.
#[tokio::test(flavor = "multi_thread")]
async fn graphql_documents_fit_githubs_schema() {
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/target/npm");
    if !std::path::Path::new(modules)
        .join("node_modules/@octokit/graphql-schema")
        .exists()
    {
        eprintln!("skipped: @octokit/graphql-schema is not in {modules}");
        return;
    }
    let documents = signedapproval::forge::github::DOCUMENTS;
    let check = |documents: Vec<&str>| {
        let mut child = std::process::Command::new("node")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/graphql_documents.mjs"
            ))
            .arg(modules)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("node runs");
        let input = serde_json::to_vec(&documents).expect("JSON");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), &input).expect("it reads");
        let done = child.wait_with_output().expect("it ends");
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
        )
    };
    let (fits, wrong) = check(documents.to_vec());
    assert!(fits, "{wrong}");
    println!("{} documents fit", documents.len());
    assert!(!check(vec!["{ viewer { nothingOfTheKind } }"]).0, "it bites");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_installed_from_the_page_in_a_real_browser() {
    if !can_run("the_app_is_installed_from_the_page_in_a_real_browser") {
        return;
    }
    let it = GatedGitHub::start().await;
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
    browser.goto(&page("/dashboard/integrations")).await;
    shoot(&browser, "integrations").await;
    browser.goto(&page("/dashboard/integrations/github")).await;
    browser.wait_for_text("org/app").await;
    shoot(&browser, "integrations-github").await;
    browser.click("#by-hand > summary").await;
    shoot(&browser, "integrations-github-by-hand").await;
    // As far as the browser lets the form go.
    browser.fill("#name", "Gate").await;
    browser.fill("#organization", "org").await;
    browser.fill("#base_url", &it.github.base_url()).await;
    browser.click("#connect > form button").await;
    browser.wait_for_text("What it asks for, and why").await;
    shoot(&browser, "github-app").await;
    browser.click("main form button").await;
    browser.wait_for_text("GitHub has made the App").await;
    browser.click("[data-form] button").await;
    browser.wait_for_text("Now install it on your repositories").await;
    shoot(&browser, "github-made").await;
    let all = it.ada.get("/api/v1/integrations").await;
    assert_eq!(items(&all).len(), 2, "{all:?}");
    let violations = browser.csp_violations().await;
    assert!(violations.is_empty(), "{violations:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_webhooks_everything_is_found_by_looking() {
    let options = Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1s");
    let it = GatedGitHub::start_in(options, json!({})).await;
    // As where GitHub can't reach this server: outbound only.
    it.github.change(|state| state.hook_url = None);
    assert_eq!(
        it.codes().await,
        ("hard".to_owned(), vec!["webhook_missing".to_owned()])
    );
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    let pushed = it.push(&change, "more.rs");
    it.pending(&pushed, "main").await;
    it.github.close(REPOSITORY, change.iid, it.carl_account);
    let last = text(&it.requests(change.iid).await[0], "id");
    it.auditor.wait_for_status(&last, "cancelled", SOON).await;
    // What has not changed is asked for so that it costs nothing.
    it.github.expect("lists that have not changed", SOON, |github| {
        github.calls_to("GET", "/pulls").iter().any(|it| it.status == 304)
    });
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_to_nobody_is_fetched_and_asked_for_again() {
    let mut it = GatedGitHub::start().await;
    let first = it.open("first", "main");
    it.pending(&first, "main").await;
    it.appliance.stop().await;
    let missed = it.open("missed", "main");
    it.github.expect("the delivery's failure", SOON, |github| {
        github.read(|state| state.deliveries.iter().any(|it| it.status == 502))
    });
    it.appliance.restart().await;
    it.pending(&missed, "main").await;
    it.github
        .expect("a delivery asked for again, and taken", SOON, |github| {
            github.read(|state| {
                state
                    .deliveries
                    .iter()
                    .any(|it| it.redelivery && it.status < 300 && it.status > 0)
            })
        });
    assert!(!it.github.calls_to("POST", "/attempts").is_empty());
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_rate_limit_is_waited_for() {
    let it = GatedGitHub::start().await;
    let now = jiff::Timestamp::now().as_second();
    let reset = (now + 3).to_string();
    let headers = [
        ("x-ratelimit-limit", "5000"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", reset.as_str()),
    ];
    let body = json!({"message": "API rate limit exceeded for installation ID 1."});
    it.github.fail("GET", "/pulls/", 1, 403, &headers, body);
    let change = it.open("limited", "main");
    it.pending(&change, "main").await;
    let calls = it.github.read(|state| state.calls.clone());
    let refused = calls
        .iter()
        .position(|it| it.status == 403)
        .expect("it was refused");
    let next = calls[refused + 1..]
        .iter()
        .find(|it| it.path.contains("/pulls/"))
        .expect("it went on");
    assert_eq!(next.status, 200);
    assert_eq!(
        calls.iter().filter(|it| it.status == 403).count(),
        1,
        "nothing was called meanwhile"
    );
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_waits_on_github_until_it_is_approved() {
    let options = Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1s");
    let it = GatedGitHub::start_in(options, json!({"environments": ["production"]})).await;
    assert_eq!(
        it.codes().await,
        ("soft".to_owned(), vec!["environment_missing".to_owned()])
    );
    it.github.add_environment(REPOSITORY, "production", false, true);
    assert_eq!(
        it.codes().await,
        ("none".to_owned(), vec!["environment_open".to_owned()])
    );
    it.github.add_environment(REPOSITORY, "production", true, true);
    assert_eq!(
        it.codes().await,
        ("soft".to_owned(), vec!["environment_bypass".to_owned()])
    );
    it.github.add_environment(REPOSITORY, "production", true, false);
    assert_eq!(it.codes().await, ("hard".to_owned(), vec![]));

    let waits = async |count: usize| {
        let started = Instant::now();
        loop {
            let all = items(
                &it.auditor
                    .get("/api/v1/approvals?kind=deployment&limit=100")
                    .await,
            );
            let pending: Vec<&Value> = all.iter().filter(|it| it["status"] == "pending").collect();
            if let (true, [one]) = (all.len() == count, pending.as_slice()) {
                return text(one, "id");
            }
            assert!(
                started.elapsed() < SOON,
                "not {count}, one of them pending: {all:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let first = it
        .github
        .deploy(REPOSITORY, "main", "production", it.carl_account);
    let id = waits(1).await;
    assert_eq!(it.github.deploy_state(REPOSITORY, first), "waiting");
    assert_problem!(it.carl.decide(&id, "approve", None).await, 403, "self-approval");
    it.bea.approve(&id).await;
    it.github.expect("the deployment goes on", SOON, |github| {
        github.deploy_state(REPOSITORY, first) == "in_progress"
    });
    let reviews = it.github.calls_to("POST", "/deployment_protection_rule");
    assert!(
        reviews.iter().all(|it| it.body["state"] == "approved"),
        "{reviews:?}"
    );
    assert!(
        reviews[0].body["comment"]
            .as_str()
            .is_some_and(|it| it.contains("Approved by Bea"))
    );

    let second = it
        .github
        .deploy(REPOSITORY, "main", "production", it.carl_account);
    let id = waits(2).await;
    it.bea.reject(&id, "Not today").await;
    it.github.expect("the deployment is refused", SOON, |github| {
        github.deploy_state(REPOSITORY, second) == "failure"
    });
    let mut told = items(&it.auditor.get("/api/v1/exceptions").await);
    // What was changed about the gate above is told too.
    told.retain(|it| it["type"] == "exception.unapproved_deployment");
    assert!(told.is_empty(), "all of it was decided: {told:#?}");

    // Somebody takes the rule away, and deploys.
    it.github.add_environment(REPOSITORY, "production", false, false);
    it.github
        .deploy(REPOSITORY, "main", "production", it.carl_account);
    let started = Instant::now();
    loop {
        let told = items(&it.auditor.get("/api/v1/exceptions").await);
        if told
            .iter()
            .any(|it| it["type"] == "exception.unapproved_deployment")
        {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{told:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    it.github.assert_no_violations();
}
