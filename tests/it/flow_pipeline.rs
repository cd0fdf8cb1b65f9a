//! What pipelines call: open, wait, cancel, use, list, and the original product's own two workflow steps under two shells.

use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::new_dir;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;
use crate::support::problem::check_form;

const SOON: Duration = Duration::from_secs(30);
const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// An appliance, its admin (who owns the keys), an approver and a pipeline's key.
struct Scene {
    appliance: Appliance,
    ada: Person,
    bea: Person,
    key: String,
    ci: Api,
}

impl Scene {
    async fn new() -> Scene {
        let appliance = Appliance::start(Options::default()).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let key = ada.create_api_key("CI", &["request"], &[]).await.key;
        let ci = appliance.api().with_key(&key);
        Scene {
            appliance,
            ada,
            bea,
            key,
            ci,
        }
    }
}

fn request(id: &str) -> String {
    format!("/api/v1/approvals/{id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_request_is_compact_and_echoes_no_word_of_the_caller() {
    let it = Scene::new().await;
    let answer = it
        .ci
        .post(
            "/api/v1/approvals/request",
            &json!({
                "action": "Deploy * $(id) `id` to production", "ttl_seconds": 600,
                "metadata": {"repo": "team/app", "commit": SHA, "actor": "mallory"},
            }),
        )
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let body = answer.text();
    for echo in ["Deploy", "$(", "`", "*", "mallory", "team/app", " ", "\n"] {
        assert!(!body.contains(echo), "{echo:?} stands in {body}");
    }
    let made = answer.json();
    let mut members: Vec<&String> = made.as_object().expect("an object").keys().collect();
    members.sort();
    assert_eq!(members, ["expires_at", "id", "status", "url"]);
    assert_eq!(made["status"], "pending");
    let id = text(&made, "id");
    assert!(id.starts_with("apr_"), "{id}");
    assert!(text(&made, "url").starts_with(&it.appliance.public_url()));

    let shown = it.ci.request(&id).await;
    assert_eq!(shown["id"], id);
    assert_eq!(shown["kind"], "action");
    assert_eq!(shown["status"], "pending");
    assert_eq!(shown["action"], "Deploy * $(id) `id` to production");
    assert_eq!(
        shown["subject"]["digest"]["gitCommit"], SHA,
        "metadata.commit becomes the subject: {shown}"
    );
    assert_eq!(
        shown["claimed"],
        json!({"repo": "team/app", "commit": SHA, "actor": "mallory"})
    );
    assert_eq!(shown["requested_by"]["kind"], "key", "{shown}");
    assert_ne!(
        shown["requested_by"]["name"], "mallory",
        "a claim is nobody's name"
    );
    assert_eq!(shown["expires_at"], made["expires_at"]);
    let life = jiff_seconds(&shown["expires_at"]) - jiff_seconds(&shown["created_at"]);
    assert_eq!(life, 600, "{shown}");
    assert_eq!(shown["decisions"], json!([]));
    let obligations = shown["obligations"].as_array().expect("obligations");
    assert_eq!(obligations.len(), 1, "{shown}");
    assert_eq!(obligations[0]["rule"], "default");
    assert_eq!(obligations[0]["quorum"], 1);
    assert_eq!(obligations[0]["approved"], 0);
    assert_eq!(obligations[0]["methods"], json!(["passkey", "biometric"]));
}

fn jiff_seconds(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("not a time: {time}"));
    assert!(text.ends_with('Z'), "times are UTC: {text}");
    text.parse::<jiff::Timestamp>().expect("RFC 3339").as_second()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_subject_is_follows_from_the_body() {
    let it = Scene::new().await;
    let digest = |body: Value| {
        let ci = it.ci.clone();
        async move {
            let id = ci.open_request(&body).await;
            ci.request(&id).await
        }
    };
    let short = digest(json!({"action": "a", "metadata": {"commit": "0123abc"}})).await;
    assert_eq!(
        short["subject"]["digest"],
        Value::Null,
        "a short commit id names nothing: {short}"
    );
    let other = "f".repeat(64);
    let both = digest(json!({
        "action": "a", "metadata": {"commit": SHA}, "subject": {"name": "image", "digest": {"sha256": other}},
    }))
    .await;
    assert_eq!(
        both["subject"]["digest"],
        json!({"sha256": other}),
        "the subject comes first: {both}"
    );
    let deployment = digest(json!({"action": "a", "environment": "production", "project": "app"})).await;
    assert_eq!(deployment["kind"], "deployment");
    assert_eq!(deployment["subject"]["environment"], "production");
    assert_eq!(deployment["subject"]["project"], "app");
    let life = jiff_seconds(&deployment["expires_at"]) - jiff_seconds(&deployment["created_at"]);
    assert_eq!(life, 600, "a deployment that says nothing waits ten minutes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_live_is_an_integer_within_bounds() {
    let it = Scene::new().await;
    for bad in [
        json!(0),
        json!(-1),
        json!(86_401),
        json!(1.5),
        json!("600"),
        json!(true),
        json!([600]),
        json!(1e30),
    ] {
        let answer = it
            .ci
            .post(
                "/api/v1/approvals/request",
                &json!({"action": "a", "ttl_seconds": bad}),
            )
            .await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        check_form(&answer);
    }
    for good in [1, 86_400] {
        it.ci
            .open_request(&json!({"action": "a", "ttl_seconds": good}))
            .await;
    }
    assert_eq!(it.ada.journal("request.opened").await.len(), 2);

    it.ada
        .put_policy(
            "default",
            &json!({"rules": [], "default": {"method": ["passkey"], "quorum": 1, "ttl_max": 120}}),
        )
        .await;
    let made = it
        .ci
        .post(
            "/api/v1/approvals/request",
            &json!({"action": "a", "ttl_seconds": 3600}),
        )
        .await
        .expect(201);
    let shown = it.ci.request(&text(&made, "id")).await;
    assert_eq!(made["expires_at"], shown["expires_at"]);
    let life = jiff_seconds(&shown["expires_at"]) - jiff_seconds(&shown["created_at"]);
    assert_eq!(life, 120, "the policy's limit holds, and is told: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_gives_the_same_request() {
    let it = Scene::new().await;
    let post = |ci: Api, key: &'static str, body: Value| async move {
        ci.send_json(
            "POST",
            "/api/v1/approvals/request",
            &[("idempotency-key", key)],
            &body,
        )
        .await
    };
    let body = json!({"action": "Deploy", "ttl_seconds": 600});
    let first = post(it.ci.clone(), "run-1", body.clone()).await.expect(201);
    let again = post(it.ci.clone(), "run-1", body.clone()).await;
    assert!((200..300).contains(&again.status), "{again:?}");
    assert_eq!(again.json()["id"], first["id"]);
    let other = post(it.ci.clone(), "run-1", json!({"action": "Deploy another"})).await;
    assert_problem!(other, 409, "idempotency-conflict");
    let next = post(it.ci.clone(), "run-2", body.clone()).await.expect(201);
    assert_ne!(next["id"], first["id"]);
    let neighbour = it.ada.create_api_key("Other", &["request"], &[]).await.key;
    let theirs = post(it.appliance.api().with_key(&neighbour), "run-1", body.clone())
        .await
        .expect(201);
    assert_ne!(
        theirs["id"], first["id"],
        "keys do not share their idempotency keys"
    );
    assert_eq!(it.ada.journal("request.opened").await.len(), 3);

    // Ten at once are one.
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(tokio::spawn(post(it.ci.clone(), "run-3", body.clone())));
    }
    let mut ids = Vec::new();
    for one in all {
        ids.push(text(&one.await.expect("no panic").json(), "id"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_its_own_requests_and_nothing_tells_the_others_exist() {
    let it = Scene::new().await;
    let stranger = it.ada.create_api_key("Other", &["request"], &[]).await.key;
    let stranger = it.appliance.api().with_key(&stranger);
    let id = it.ci.open_request(&json!({"action": "a"})).await;
    let unknown = "apr_00000000000000000000000000";
    let plain = |answer: &crate::support::appliance::Answer| {
        let mut document = check_form(answer);
        document["instance"] = Value::Null;
        (answer.status, document)
    };
    for (method, end) in [
        ("GET", ""),
        ("GET", "/credentials"),
        ("GET", "/outcome"),
        ("POST", "/cancel"),
        ("POST", "/consume"),
    ] {
        let foreign = stranger
            .send(method, &format!("{}{end}", request(&id)), &[], None)
            .await;
        let nothing = stranger
            .send(method, &format!("{}{end}", request(unknown)), &[], None)
            .await;
        assert_problem!(foreign, 404, "not-found");
        assert_eq!(plain(&foreign), plain(&nothing), "{method} {end}");
    }
    // What the original's loop reads: a status that is neither word.
    assert_eq!(stranger.get(&request(&id)).await.json()["status"], 404);
    assert!(items(&stranger.get("/api/v1/approvals").await).is_empty());
    assert_eq!(items(&it.ci.get("/api/v1/approvals").await).len(), 1);
    for scope in ["audit", "admin"] {
        let wide = it.ada.create_api_key(scope, &[scope], &[]).await.key;
        let wide = it.appliance.api().with_key(&wide);
        assert_eq!(wide.request(&id).await["id"], id, "{scope} sees all");
    }
    let bound = it
        .ada
        .create_api_key("bound", &["audit"], &["elsewhere"])
        .await
        .key;
    let bound = it.appliance.api().with_key(&bound).get(&request(&id)).await;
    assert_problem!(bound, 404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_key_cannot_approve_what_it_asks() {
    let it = Scene::new().await;
    let id = it.ci.open_request(&json!({"action": "a"})).await;
    let own = it.ada.decide(&id, "approve", None).await;
    assert_problem!(own, 403, "self-approval");
    assert_eq!(it.ci.request(&id).await["status"], "pending");
    it.bea.approve(&id).await;
    assert_eq!(it.ci.request(&id).await["status"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_never_decides() {
    let it = Scene::new().await;
    let id = it.ci.open_request(&json!({"action": "a"})).await;
    for scope in ["request", "audit", "admin"] {
        let key = it.ada.create_api_key(scope, &[scope], &[]).await.key;
        let api = it.appliance.api().with_key(&key);
        for (end, body) in [
            ("decision/options", json!({"decision": "approve"})),
            ("decision", json!({"ceremony": "cer_x", "credential": {}})),
        ] {
            let answer = api.post(&format!("{}/{end}", request(&id)), &body).await;
            assert!(matches!(answer.status, 401 | 403), "{scope} {end}: {answer:?}");
        }
    }
    assert_eq!(it.ci.request(&id).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_decides_expires() {
    let it = Scene::new().await;
    let id = it
        .ci
        .open_request(&json!({"action": "a", "ttl_seconds": 1}))
        .await;
    let started = Instant::now();
    let ended = it.ci.get(&format!("{}?wait=20", request(&id))).await.expect(200);
    assert_eq!(ended["status"], "expired", "{ended}");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "the wait ends with the expiry"
    );
    let late = it.bea.decide(&id, "approve", None).await;
    assert_problem!(late, 409, "already-ended");
    let used = it.ci.post(&format!("{}/consume", request(&id)), &json!({})).await;
    assert_problem!(used, 409, "not-usable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_when_somebody_decides() {
    let it = Scene::new().await;
    let id = it
        .ci
        .open_request(&json!({"action": "a", "ttl_seconds": 600}))
        .await;
    let started = Instant::now();
    let quiet = it.ci.get(&format!("{}?wait=1", request(&id))).await.expect(200);
    assert_eq!(quiet["status"], "pending");
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "it waits as long as asked"
    );

    let (ci, path) = (it.ci.clone(), format!("{}?wait=60", request(&id)));
    let waiting = tokio::spawn(async move {
        let answer = ci.get(&path).await;
        (answer, Instant::now())
    });
    let signed = it
        .bea
        .begin_decision(&id, "approve", None)
        .await
        .expect("Bea may decide");
    it.bea.finish_decision(&signed).await.expect(200);
    let decided = Instant::now();
    let (answer, answered) = waiting.await.expect("no panic");
    assert_eq!(answer.expect(200)["status"], "approved");
    assert!(
        answered.saturating_duration_since(decided) < Duration::from_secs(2),
        "it answers at once, not after the wait"
    );
    let started = Instant::now();
    it.ci.get(&format!("{}?wait=30", request(&id))).await.expect(200);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "a request with its outcome is not waited for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_at_a_first_decision_of_two() {
    let it = Scene::new().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [], "default": {"method": ["passkey", "biometric"], "quorum": 2}}),
        )
        .await;
    let cleo = it.ada.bring_in(&it.appliance, "Cleo", &["approver"]).await;
    let id = it
        .ci
        .open_request(&json!({"action": "a", "ttl_seconds": 600}))
        .await;
    let (ci, path) = (it.ci.clone(), format!("{}?wait=60", request(&id)));
    let waiting = tokio::spawn(async move { ci.get(&path).await });
    // Nothing tells that the question has arrived; had it come after the decision, it would wait for the next one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    it.bea.approve(&id).await;
    let half = waiting.await.expect("no panic").expect(200);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(half["status"], "pending");
    assert_eq!(half["obligations"][0]["approved"], 1, "{half}");
    cleo.approve(&id).await;
    assert_eq!(it.ci.request(&id).await["status"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_is_over() {
    let it = Scene::new().await;
    let id = it.ci.open_request(&json!({"action": "a"})).await;
    let signed = it
        .bea
        .begin_decision(&id, "approve", None)
        .await
        .expect("Bea may decide");
    let cancelled = it.ci.post(&format!("{}/cancel", request(&id)), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(it.ci.request(&id).await["status"], "cancelled");
    let late = it.bea.finish_decision(&signed).await;
    assert_problem!(late, 409, "already-ended");
    let again = it.ci.post(&format!("{}/cancel", request(&id)), &json!({})).await;
    assert_problem!(again, 409, "already-ended");
    assert!(it.ada.journal("decision.recorded").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_used_once() {
    let it = Scene::new().await;
    let id = it
        .ci
        .open_request(&json!({"action": "a", "environment": "production"}))
        .await;
    let consume = format!("{}/consume", request(&id));
    assert_problem!(it.ci.post(&consume, &json!({})).await, 409, "not-usable");
    it.bea.approve(&id).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        let (ci, consume) = (it.ci.clone(), consume.clone());
        all.push(tokio::spawn(
            async move { ci.post(&consume, &json!({})).await.status },
        ));
    }
    let mut statuses = Vec::new();
    for one in all {
        statuses.push(one.await.expect("no panic"));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(it.ada.journal("request.consumed").await.len(), 1);
    let rejected = it.ci.open_request(&json!({"action": "b"})).await;
    it.bea.reject(&rejected, "no").await;
    assert_problem!(
        it.ci
            .post(&format!("{}/consume", request(&rejected)), &json!({}))
            .await,
        409,
        "not-usable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_pages_through_everything_once() {
    let it = Scene::new().await;
    let mut made = Vec::new();
    for nth in 0..7 {
        let body = if nth % 2 == 0 {
            json!({"action": format!("a{nth}")})
        } else {
            json!({"action": format!("a{nth}"), "environment": "production"})
        };
        made.push(it.ci.open_request(&body).await);
    }
    it.bea.approve(&made[0]).await;
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = it
            .ci
            .get(&format!("/api/v1/approvals?limit=3{after}"))
            .await
            .expect(200);
        let rows = page["items"].as_array().expect("items");
        assert!(rows.len() <= 3);
        seen.extend(rows.iter().map(|it| text(it, "id")));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
        assert!(seen.len() <= made.len(), "the pages go round in a circle");
    }
    made.reverse();
    assert_eq!(seen, made, "every request once, newest first");
    let count = |query: &'static str| {
        let ci = it.ci.clone();
        async move { items(&ci.get(&format!("/api/v1/approvals?{query}")).await).len() }
    };
    assert_eq!(count("status=approved").await, 1);
    assert_eq!(count("status=pending").await, 6);
    assert_eq!(count("kind=deployment").await, 3);
    assert_eq!(count("kind=change").await, 0);
    assert_eq!(count("status=pending&kind=action").await, 3);
    for bad in ["status=maybe", "limit=0", "limit=x", "limit=-1", "after=%00"] {
        let answer = it.ci.get(&format!("/api/v1/approvals?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        check_form(&answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_until_it_is_taken_back() {
    let it = Scene::new().await;
    let made = it
        .ada
        .post(
            "/api/v1/api-keys",
            &json!({"name": "Short", "scopes": ["request"]}),
        )
        .await
        .expect(201);
    let api = it.appliance.api().with_key(&text(&made, "key"));
    let id = api.open_request(&json!({"action": "a"})).await;
    let listed = it.ada.get("/api/v1/api-keys").await;
    assert!(
        !listed.text().contains(&text(&made, "key")),
        "a key is shown once"
    );
    let gone = it
        .ada
        .delete(&format!("/api/v1/api-keys/{}", text(&made, "id")))
        .await;
    assert!((200..300).contains(&gone.status), "{gone:?}");
    assert_problem!(api.get(&request(&id)).await, 401, "unauthenticated");
    for odd in ["sa_wrong", "", "Bearer", "sa_"] {
        assert_eq!(
            it.appliance
                .api()
                .with_key(odd)
                .get("/api/v1/approvals")
                .await
                .status,
            401,
            "{odd:?}"
        );
    }
}

// ---- the original product's workflow ----

/// The first step's `run` block as it stands in the original's workflow.
const REQUEST_STEP: &str = r#"RESPONSE=$(curl -s -X POST \
  https://signedapproval.net/api/v1/approvals/request \
  -H "Authorization: Bearer ${{ secrets.SA_API_KEY }}" \
  -H "Content-Type: application/json" \
  -d '{
    "action": "Deploy commit ${{ github.sha }} to production",
    "ttl_seconds": 600,
    "metadata": {
      "repo": "${{ github.repository }}",
      "commit": "${{ github.sha }}",
      "actor": "${{ github.actor }}"
    }
  }')
echo "id=$(echo $RESPONSE | jq -r '.id')" >> $GITHUB_OUTPUT
"#;

/// The second step's.
pub const WAIT_STEP: &str = r#"for i in $(seq 1 60); do
  STATUS=$(curl -s \
    https://signedapproval.net/api/v1/approvals/${{ steps.approval.outputs.id }} \
    -H "Authorization: Bearer ${{ secrets.SA_API_KEY }}" \
    | jq -r '.status')
  if [ "$STATUS" = "approved" ]; then
    echo "Approved!"
    exit 0
  elif [ "$STATUS" = "rejected" ]; then
    echo "Rejected by approver"
    exit 1
  fi
  sleep 10
done
echo "Approval timed out"
exit 1
"#;

/// A step as the runner hands it to a shell: expressions filled in, host and key those of the test.
pub fn filled(step: &str, appliance: &Appliance, key: &str, id: &str) -> String {
    step.replace("https://signedapproval.net", &appliance.base())
        .replace("${{ secrets.SA_API_KEY }}", key)
        .replace("${{ github.sha }}", SHA)
        .replace("${{ github.repository }}", "team/app")
        .replace("${{ github.actor }}", "carl")
        .replace("${{ steps.approval.outputs.id }}", id)
}

pub fn shell(shell: &str, dir: &Path, script: &str) -> Output {
    let mut command = Command::new(shell);
    // What GitHub's runner sets: `bash -e` there, plain `-e` for another shell.
    command.arg("-e").arg("-c").arg(script);
    command
        .current_dir(dir)
        .env("GITHUB_OUTPUT", dir.join("output"))
        .env("no_proxy", "*");
    command.output().unwrap_or_else(|e| panic!("{shell}: {e}"))
}

async fn workflow(name: &'static str, decision: &'static str, code: i32, says: &str) {
    for tool in ["curl", "jq", name] {
        if Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .is_ok_and(|it| !it.status.success())
        {
            eprintln!("SKIPPED: {tool} is not installed, so the original's workflow can't run here");
            return;
        }
    }
    let it = Scene::new().await;
    let dir = new_dir();
    // A file that a careless expansion of the answer would pick up.
    std::fs::write(dir.join("id"), "x").expect("a writable directory");
    let script = filled(REQUEST_STEP, &it.appliance, &it.key, "");
    let at = dir.clone();
    let first = tokio::task::spawn_blocking(move || shell(name, &at, &script))
        .await
        .expect("no panic");
    assert!(first.status.success(), "{first:?}");
    let output = std::fs::read_to_string(dir.join("output")).expect("the step's output");
    let id = output
        .trim()
        .strip_prefix("id=")
        .unwrap_or_else(|| panic!("{output:?}"))
        .to_owned();
    assert!(id.starts_with("apr_"), "{output:?}");
    let shown = it.ci.request(&id).await;
    assert_eq!(shown["action"], format!("Deploy commit {SHA} to production"));
    assert_eq!(shown["subject"]["digest"]["gitCommit"], SHA);
    assert_eq!(it.bea.decide(&id, decision, Some("seen")).await.status, 200);
    let script = filled(WAIT_STEP, &it.appliance, &it.key, &id);
    let at = dir.clone();
    let second = tokio::task::spawn_blocking(move || shell(name, &at, &script))
        .await
        .expect("no panic");
    assert_eq!(second.status.code(), Some(code), "{second:?}");
    assert_eq!(String::from_utf8_lossy(&second.stdout).trim(), says);
    std::fs::remove_dir_all(&dir).expect("the test's own directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_workflow_goes_on_after_an_approval() {
    workflow("bash", "approve", 0, "Approved!").await;
    workflow("dash", "approve", 0, "Approved!").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_workflow_stops_at_a_rejection() {
    workflow("bash", "reject", 1, "Rejected by approver").await;
    workflow("dash", "reject", 1, "Rejected by approver").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_may_have_rules_of_its_own() {
    let it = Scene::new().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [
                {"name": "Production", "match": {"environment": "production"},
                 "require": {"method": ["passkey", "biometric"], "quorum": 2, "ttl_max": 300}},
                {"name": "Sandbox", "match": {"environment": "sandbox*"}, "action": "skip"},
            ]}),
        )
        .await;
    let cleo = it.ada.bring_in(&it.appliance, "Cleo", &["approver"]).await;
    let skipped = it
        .ci
        .post(
            "/api/v1/approvals/request",
            &json!({"action": "a", "environment": "sandbox-1"}),
        )
        .await
        .expect(201);
    assert_eq!(skipped["status"], "skipped", "{skipped}");
    let strict = it
        .ci
        .open_request(&json!({"action": "a", "environment": "production", "ttl_seconds": 3600}))
        .await;
    it.bea.approve(&strict).await;
    assert_eq!(it.ci.request(&strict).await["status"], "pending");
    cleo.approve(&strict).await;
    let done = it.ci.wait_for_status(&strict, "approved", SOON).await;
    assert_eq!(done["obligations"][0]["rule"], "Production", "{done}");
}
