//! The API's description, the program that is handed out, where keys count, and what they may use.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sha2::Digest as _;

use crate::ci_pieces::of_venv;
use crate::pipeline_gate::Scene;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::binary;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_served_for_programs_and_for_people() {
    let it = Appliance::start(Options::default()).await;
    let document = it.api().get("/api/v1/openapi.json").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], it.public_url());
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 50, "{}", paths.len());
    let open: Vec<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods
                .filter(|(_, it)| it["security"] == json!([]))
                .map(move |(method, _)| format!("{method} {path}"))
        })
        .collect();
    // Nothing else is without auth.
    assert_eq!(
        open,
        [
            "get /api/v1/cli",
            "get /api/v1/cli/{name}",
            "get /api/v1/cli/{name}/sha256",
            "post /api/v1/enrolment",
            "post /api/v1/enrolment/options",
            "get /api/v1/openapi.json",
            "post /api/v1/session",
            "post /api/v1/session/options",
            "post /api/v1/verify",
        ]
    );
    let page = it.api().get("/help/api").await;
    assert_eq!(page.status, 200);
    let page = page.text();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let title = operation["summary"].as_str().expect("a title");
            assert!(
                page.contains(&format!(">{}</h3>", title.replace('\'', "&#39;"))),
                "{method} {path} is not in the reference"
            );
        }
        assert!(
            page.contains(&format!("</strong> {path}</p>")),
            "{path} is not in the reference"
        );
    }
    assert!(!page.contains("<script>"), "a plain page");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_that_is_handed_out_is_the_one_that_serves() {
    let it = Appliance::start(Options::default()).await;
    let list = it.api().get("/api/v1/cli").await.expect(200);
    let item = &list["items"][0];
    let (name, sha256) = (text(item, "name"), text(item, "sha256"));
    let own = std::fs::read(binary()).expect("the binary under test");
    assert_eq!(sha256, hex::encode(sha2::Sha256::digest(&own)));
    assert_eq!(item["size"], own.len());
    let file = it.api().get(&format!("/api/v1/cli/{name}")).await;
    assert_eq!(file.status, 200);
    assert!(file.body == own, "byte for byte");
    let line = it.api().get(&format!("/api/v1/cli/{name}/sha256")).await;
    assert_eq!(line.text(), format!("{sha256}  {name}\n"));
    for odd in ["signedapproval", "..%2f..%2fetc%2fpasswd", &format!("{name}.sig")] {
        assert_eq!(
            it.api().get(&format!("/api/v1/cli/{odd}")).await.status,
            404,
            "{odd}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_in_its_own_place_and_time_alone() {
    let it = Scene::new().await;
    let id = it.ci.open_request(&json!({"action": "a"})).await;
    let path = format!("/api/v1/approvals/{id}");
    let nobody = it.appliance.api();
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{}:", it.key));
    for (name, value) in [
        ("authorization", it.key.clone()),
        ("authorization", format!("Basic {basic}")),
        ("authorization", format!("Token {}", it.key)),
        ("x-api-key", it.key.clone()),
        ("private-token", it.key.clone()),
        ("cookie", format!("signedapproval-session={}", it.key)),
        ("cookie", format!("Authorization=Bearer {}", it.key)),
    ] {
        let answer = nobody.send("GET", &path, &[(name, value.as_str())], None).await;
        assert_problem!(answer, 401, "unauthenticated");
    }
    for query in ["api_key", "access_token", "token"] {
        let answer = nobody.get(&format!("{path}?{query}={}", it.key)).await;
        assert!(matches!(answer.status, 400 | 401), "{query}: {answer:?}");
    }
    // In time, and then out of it.
    let soon = jiff::Timestamp::now() + Duration::from_millis(2_500);
    let made = it
        .ada
        .post(
            "/api/v1/api-keys",
            &json!({"name": "Short", "scopes": ["request"], "expires_at": soon.to_string()}),
        )
        .await
        .expect(201);
    let short = it.appliance.api().with_key(&text(&made, "key"));
    let own = short.open_request(&json!({"action": "a"})).await;
    let own = format!("/api/v1/approvals/{own}?wait=1");
    let started = std::time::Instant::now();
    let last = loop {
        let answer = short.get(&own).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it never ends");
    };
    assert_problem!(last, 401, "unauthenticated");
    let unknown = it.appliance.api().with_key("sa_000000").get(&path).await;
    assert_problem!(unknown, 401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_much_is_told_when_to_come_back() {
    let limited = Options::default()
        .env("SIGNEDAPPROVAL_LIMITS__CHANGES_PER_MINUTE", "60")
        .env("SIGNEDAPPROVAL_LIMITS__READS_PER_MINUTE", "120");
    let appliance = Appliance::start(limited).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let ci = appliance
        .api()
        .with_key(&ada.create_api_key("CI", &["request"], &[]).await.key);
    let other = appliance
        .api()
        .with_key(&ada.create_api_key("Other", &["request"], &[]).await.key);
    let open = json!({"action": "a"});
    let mut refused = None;
    for _ in 0..40 {
        let answer = ci.post("/api/v1/approvals/request", &open).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("40 at once are more than 60 a minute let through");
    assert_problem!(refused, 429, "too-many");
    let wait: u64 = refused
        .header("retry-after")
        .and_then(|it| it.parse().ok())
        .expect("Retry-After");
    assert!((1..=60).contains(&wait), "{wait}");
    other.open_request(&open).await;
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(ci.get("/api/v1/approvals?limit=1").await.status);
    }
    assert!(statuses.contains(&429) && statuses[0] == 200, "{statuses:?}");
}

/// Somebody else's tester over the whole document: as an admin's key, as a pipeline's key, and with a session. Long by
/// `SIGNEDAPPROVAL_SCHEMATHESIS_SECONDS`.
#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_5xx_no_undocumented_answer_and_no_route_without_auth() {
    let Some(program) = of_venv("schemathesis") else {
        return;
    };
    let seconds = std::env::var("SIGNEDAPPROVAL_SCHEMATHESIS_SECONDS").unwrap_or_else(|_| "12".to_owned());
    let examples = if seconds == "12" { "3" } else { "100" };
    let unlimited = Options::default()
        .env("SIGNEDAPPROVAL_LIMITS__CHANGES_PER_MINUTE", "0")
        .env("SIGNEDAPPROVAL_LIMITS__READS_PER_MINUTE", "0")
        .env("SIGNEDAPPROVAL_BACKUP__DIRECTORY", "backups");
    let appliance = Appliance::start(unlimited).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    // A long poll waits for what never comes here.
    std::fs::write(
        appliance.dir().join("schemathesis.toml"),
        "[parameters]\n\"query.wait\" = 0\n",
    )
    .expect("the test's directory is writable");
    let bearer = |key: &str| vec![format!("Authorization: Bearer {key}")];
    let admin = ada.create_api_key("admin", &["admin"], &[]).await.key;
    let request = ada.create_api_key("request", &["request"], &[]).await.key;
    let session = ada.session_cookie().expect("a session");
    let callers = [
        ("an admin's key", bearer(&admin)),
        ("a pipeline's key", bearer(&request)),
        (
            "a session",
            vec![
                format!("Cookie: {session}"),
                format!("Origin: {}", appliance.origin()),
            ],
        ),
    ];
    for (who, headers) in callers {
        let mut command = Command::new(&program);
        command
            .arg("run")
            .arg(format!("{}/api/v1/openapi.json", appliance.base()))
            .args(["--phases", "examples,coverage,fuzzing", "--max-time", &seconds, "--max-examples", examples])
            .args(["--seed", "7", "--workers", "1", "--no-color", "--request-timeout", "20", "--suppress-health-check", "all"])
            // Other checks hold the data against the schema both ways; what the rules say beyond the schema is a 422.
            .arg("--checks")
            .arg(
                "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                 response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth",
            )
            // (One worker: Python 3.11 can't parse code in two threads at once.)
            // It would end the session that it tests with; the stream of events never ends; the program is 100 MB.
            .args(["--exclude-path", "/api/v1/session", "--exclude-path", "/api/v1/inbox/events"])
            .args(["--exclude-path", "/api/v1/cli/{name}"])
            // It knows no way to make an archive.
            .args(["--exclude-path", "/api/v1/verify/bundle"])
            .current_dir(appliance.dir())
            .env("no_proxy", "*");
        for header in &headers {
            command.args(["-H", header]);
        }
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("no panic");
        let output = output.expect("schemathesis starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "as {who}:\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let summary = said.rfind("SUMMARY").map_or(said.as_str(), |at| &said[at..]);
        eprintln!("as {who}: {summary}");
    }
}
