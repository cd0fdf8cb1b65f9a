//! Policies before they hold: checked, explained, simulated; the same answer by API and command line; the schema.

use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Answer;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::problem::assert_problem;

/// The original product's own example.
const ORIGINAL: &str = r#"{
  "rules": [
    { "name": "Production deploys require passkey",
      "match": { "branch": "main", "paths": ["src/**", "deploy/**"] },
      "require": { "method": ["passkey", "biometric"], "quorum": 2, "ttl_max": 600 } },
    { "name": "Config changes need single approval",
      "match": { "branch": "main", "paths": ["config/**", ".env*", "*.yml"] },
      "require": { "method": ["passkey", "totp", "biometric"], "quorum": 1, "ttl_max": 1800 } },
    { "name": "Docs skip approval",
      "match": { "branch": "main", "paths": ["docs/**", "*.md"] },
      "action": "skip" }
  ]
}
"#;

struct Scene {
    appliance: Appliance,
    ada: Person,
}

impl Scene {
    async fn new() -> Scene {
        let appliance = Appliance::start(Options::default()).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        Scene { appliance, ada }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.appliance.dir().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a UTF-8 path").to_owned()
    }

    /// The document's bytes as they are.
    async fn send(&self, method: &str, path: &str, text: &str) -> Answer {
        let origin = self.appliance.origin();
        let headers = [("origin", origin.as_str()), ("content-type", "application/json")];
        let body = Some(text.as_bytes().to_vec());
        self.ada.send_bytes(method, path, &headers, body).await
    }

    async fn simulate(&self, change: Value) -> Answer {
        let policy: Value = serde_json::from_str(ORIGINAL).expect("JSON");
        let body = json!({ "policy": policy, "change": change });
        self.ada.post("/api/v1/policies/simulate", &body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_and_command_line_give_the_same_answer_to_the_same_question() {
    let it = Scene::new().await;
    let file = it.file("policy.json", ORIGINAL);
    for (paths, outcome) in [
        (vec!["src/a.rs"], "require"),
        (vec!["docs/a.md"], "skip"),
        (vec!["docs/a.md", "src/x.rs"], "require"),
        (vec!["src/app.yml"], "require"),
        (vec![".gitlab-ci.yml"], "require"),
        (vec!["Makefile"], "require"),
    ] {
        let by_api = it
            .simulate(json!({ "branch": "main", "paths": paths }))
            .await
            .expect(200);
        let mut arguments = vec!["policy", "explain", &file, "--branch", "main", "--json"];
        arguments.extend(paths.iter().flat_map(|it| ["--path", it]));
        let (code, told, _) = it.appliance.tool(&arguments, &[]).await;
        assert_eq!(code, 0);
        let by_hand: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(by_api["outcome"], outcome, "{paths:?}: {by_api}");
        for member in [
            "outcome",
            "obligations",
            "break_glass",
            "ttl",
            "trace",
            "skipped_by",
            "reasons",
        ] {
            assert_eq!(by_api[member], by_hand[member], "{member} of {paths:?}");
        }
    }
    let change = json!({ "branch": "main", "complete": true, "files": [
        { "status": "renamed", "old_path": "src/k.rs", "new_path": "docs/k.md", "old_mode": "100644", "new_mode": "100644" },
        { "status": "modified", "old_path_b64": "ZG9jcy//", "new_path_b64": "ZG9jcy//", "old_mode": "100644", "new_mode": "120000" }] });
    let by_api = it.simulate(change.clone()).await.expect(200);
    let change = it.file("change.json", &change.to_string());
    let (_, told, _) = it
        .appliance
        .tool(&["policy", "explain", &file, "--change", &change, "--json"], &[])
        .await;
    let by_hand: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(by_api["trace"], by_hand["trace"]);
    let (code, text, _) = it
        .appliance
        .tool(
            &[
                "policy",
                "explain",
                &file,
                "--branch",
                "main",
                "--path",
                "docs/a.md",
            ],
            &[],
        )
        .await;
    assert_eq!(code, 0);
    assert_eq!(
        text,
        "No approval needed: skipped by “Docs skip approval”.\n\ndocs/a.md\n  matches “Docs skip approval”: skipped\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_judges_as_the_simulator_said() {
    let it = Scene::new().await;
    let policy = json!({ "rules": [{ "name": "Prod", "match": { "environment": "prod*", "project": "pay/*" },
        "require": { "method": ["passkey"], "quorum": 3, "ttl_max": 700 } }] });
    it.ada.put_policy("default", &policy).await;
    let question =
        json!({ "name": "default", "change": { "environment": "production", "project": "pay/api" } });
    let told = it
        .ada
        .post("/api/v1/policies/simulate", &question)
        .await
        .expect(200);
    let key = it.ada.create_api_key("CI", &["request"], &[]).await;
    let ci = it.appliance.api().with_key(&key.key);
    let open = json!({ "action": "Deploy", "environment": "production", "project": "pay/api" });
    let id = ci.open_request(&open).await;
    let trace = it
        .ada
        .get(&format!("/api/v1/approvals/{id}/trace"))
        .await
        .expect(200);
    for member in [
        "obligations",
        "break_glass",
        "ttl",
        "trace",
        "skipped_by",
        "reasons",
    ] {
        assert_eq!(told[member], trace[member], "{member}");
    }
    assert_eq!(told["obligations"][0]["quorum"], 3);
    let nobody = json!({ "name": "nope", "change": { "environment": "production" } });
    assert_problem!(
        it.ada.post("/api/v1/policies/simulate", &nobody).await,
        422,
        "invalid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tightened_ttl_max_reaches_what_waits() {
    let it = Scene::new().await;
    let key = it.ada.create_api_key("CI", &["request"], &[]).await;
    let ci = it.appliance.api().with_key(&key.key);
    let open = json!({ "action": "Deploy", "environment": "production", "ttl_seconds": 86_400 });
    let id = ci.open_request(&open).await;
    let path = format!("/api/v1/approvals/{id}");
    let limit = |seconds: u32| {
        json!({ "rules": [{ "name": "Prod", "match": { "environment": "prod*" },
            "require": { "method": ["passkey"], "ttl_max": seconds } }] })
    };
    it.ada.put_policy("default", &limit(3_600)).await;
    let shown = it.ada.get(&path).await.expect(200);
    let time =
        |it: &Value| signedapproval::domain::time::Time::parse(it.as_str().expect("a time")).expect("a time");
    let opened = time(&shown["created_at"]);
    assert_eq!(time(&shown["expires_at"]), opened.plus_seconds(3_600), "at once");
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    let until = opened.plus_seconds(3_600).to_the_second();
    assert!(page.contains(&format!("datetime=\"{until}\"")), "{page}");
    // The next one has run out by the time it is looked at.
    it.ada.put_policy("default", &limit(1)).await;
    let ended = ci
        .wait_for_status(&id, "expired", std::time::Duration::from_secs(10))
        .await;
    assert_eq!(time(&ended["expires_at"]), opened.plus_seconds(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_makes_no_sense_names_the_field() {
    let it = Scene::new().await;
    for (change, field) in [
        (json!({}), "change.branch"),
        (
            json!({ "branch": "main", "environment": "prod" }),
            "change.branch",
        ),
        (json!({ "environment": "prod", "paths": ["a"] }), "change.paths"),
        (
            json!({ "branch": "main", "ttl_seconds": 5 }),
            "change.ttl_seconds",
        ),
        (
            json!({ "branch": "main", "paths": ["a"], "files": [] }),
            "change.paths",
        ),
        (json!({ "branch": "main", "paths": [""] }), "change.paths[0]"),
        (
            json!({ "branch": "main", "files": [{ "status": "moved" }] }),
            "change.files[0].status",
        ),
        (
            json!({ "branch": "main", "files": [{ "status": "added", "new_path": "a", "new_mode": "644" }] }),
            "change.files[0].new_mode",
        ),
        (
            json!({ "branch": "main", "files": [{ "status": "added", "new_path_b64": "?" }] }),
            "change.files[0].new_path_b64",
        ),
        (
            json!({ "branch": "main", "branch_patterns": ["!x"] }),
            "change.branch_patterns[0]",
        ),
        (json!({ "branch": "main", "colour": "red" }), "change"),
    ] {
        let answer = it.simulate(change.clone()).await;
        let problem = answer.expect(422);
        assert_eq!(problem["field"], field, "{change}: {problem}");
    }
    let (code, _, error) = {
        let file = it.file("policy.json", ORIGINAL);
        it.appliance
            .tool(
                &["policy", "explain", &file, "--branch", "main", "--path", ""],
                &[],
            )
            .await
    };
    assert_eq!((code, error.contains("paths[0]")), (2, true), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_document_is_refused_with_its_lines_and_the_last_good_one_stays_active() {
    let it = Scene::new().await;
    assert_eq!(
        it.send("PUT", "/api/v1/policies/default", ORIGINAL).await.status,
        200
    );
    let broken = ORIGINAL
        .replace("\"quorum\": 2", "\"quorum\": 0")
        .replace("\"action\": \"skip\"", "\"action\": \"allow\"");
    for path in ["/api/v1/policies/default", "/api/v1/policies/validate"] {
        let method = if path.ends_with("validate") { "POST" } else { "PUT" };
        let problem = it.send(method, path, &broken).await.expect(422);
        let lines: Vec<&Value> = problem["errors"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| &it["line"])
            .collect();
        assert_eq!(lines, [5, 11], "{problem}");
    }
    let file = it.file("broken.json", &broken);
    let (code, told, _) = it.appliance.tool(&["policy", "check", &file], &[]).await;
    assert_eq!(code, 1);
    let first = format!("{file}:5: rules[0].require.quorum: must be 1 or more\n");
    assert!(told.starts_with(&first), "{told}");
    let list = items(&it.ada.get("/api/v1/policies").await);
    assert_eq!((list.len(), &list[0]["version"]), (1, &json!(1)));
    assert_eq!(it.ada.get("/api/v1/policies/default").await.text(), ORIGINAL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_beyond_all_bounds_gets_a_clear_limit_error() {
    let it = Scene::new().await;
    let ten_megabytes = format!("{{\"rules\":[{}]}}", " ".repeat(10_000_000));
    let rule = |n: usize| format!("{{\"name\":\"{n}\",\"match\":{{}},\"action\":\"skip\"}}");
    let many: Vec<String> = (0..100_000).map(rule).collect();
    let many = format!("{{\"rules\":[{}]}}", many.join(","));
    let few: Vec<String> = (0..1_001).map(rule).collect();
    let few = format!("{{\"rules\":[{}]}}", few.join(","));
    for document in [&ten_megabytes, &many] {
        for (method, path) in [
            ("PUT", "/api/v1/policies/default"),
            ("POST", "/api/v1/policies/validate"),
        ] {
            assert_problem!(it.send(method, path, document).await, 413, "too-large");
        }
        let file = it.file("large.json", document);
        let (code, told, _) = it.appliance.tool(&["policy", "check", &file], &[]).await;
        assert_eq!(code, 1);
        assert!(
            told.ends_with("the document is larger than 262144 bytes\n"),
            "{told}"
        );
    }
    let problem = it.send("PUT", "/api/v1/policies/default", &few).await.expect(422);
    assert!(
        problem.to_string().contains("holds more than 1000 rules"),
        "{problem}"
    );
    assert!(
        items(&it.ada.get("/api/v1/policies").await).is_empty(),
        "nothing was saved"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_originals_example_loads_and_its_lint_report_says_what_to_look_at() {
    let it = Scene::new().await;
    let file = it.file("original.json", ORIGINAL);
    let (code, told, _) = it.appliance.tool(&["policy", "check", &file], &[]).await;
    assert_eq!(code, 0);
    let report: Vec<&str> = told.lines().map(|it| it.trim_start_matches(&file)).collect();
    assert_eq!(
        report[..report.len() - 1],
        [":9: warning: Docs skip approval: `*.md` has no `/` and matches at any depth."]
    );
    let paths = it.file("paths.txt", "README.md\nsrc/secret/notes.md\nsrc/a.rs\n");
    let (code, told, _) = it
        .appliance
        .tool(&["policy", "check", &file, "--paths", &paths], &[])
        .await;
    assert_eq!(code, 0);
    assert!(
        told.contains("matches at any depth, as `src/secret/notes.md`."),
        "{told}"
    );
    // The appliance knows more: who there is, and which groups.
    let told = it
        .send("POST", "/api/v1/policies/validate", ORIGINAL)
        .await
        .expect(200);
    let reasons = told["warnings"].to_string();
    assert!(
        reasons.contains("needs 2 approvers, and 1 can fill it"),
        "{reasons}"
    );
    let unknown = r#"{"rules":[],"default":{"method":["passkey"],"approvers":["group:ghosts"]}}"#;
    let told = it
        .send("POST", "/api/v1/policies/validate", unknown)
        .await
        .expect(200);
    assert!(
        told["warnings"]
            .to_string()
            .contains("There is no group \\\"ghosts\\\"."),
        "{told}"
    );
    assert_problem!(
        it.send("PUT", "/api/v1/policies/default", unknown).await,
        422,
        "invalid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_and_the_parser_agree() {
    let it = Scene::new().await;
    let answer = it.appliance.api().get("/schema/policy.json").await;
    assert_eq!(answer.header("content-type"), Some("application/schema+json"));
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource("http://here/schema/policy.json", answer.json())
        .expect("a schema");
    let schema = compiler
        .compile("http://here/schema/policy.json", &mut schemas)
        .expect("it compiles");
    let vectors: Value = serde_json::from_str(include_str!("../vectors/policy.json")).expect("JSON");
    let documents = vectors["documents"].as_object().expect("documents");
    for (name, document) in documents {
        let told = schemas.validate(document, schema);
        assert!(told.is_ok(), "{name}: {:?}", told.err().map(|e| e.to_string()));
    }
    let rule = |rule: Value| json!({ "rules": [rule] });
    let require = |require: Value| rule(json!({ "name": "a", "match": {}, "require": require }));
    for broken in [
        json!([]),
        json!({}),
        json!({ "rules": [], "more": 1 }),
        json!({ "rules": [], "default": "allow" }),
        json!({ "rules": [], "change_quorum": 0 }),
        json!({ "rules": [], "change_quorum": 11 }),
        json!({ "rules": [], "default": { "method": ["passkey"], "independent": true } }),
        rule(json!({ "name": "a", "match": {} })),
        rule(json!({ "name": "", "match": {}, "action": "skip" })),
        rule(json!({ "name": "default", "match": {}, "action": "skip" })),
        rule(json!({ "name": "a", "match": {}, "action": "allow" })),
        rule(json!({ "name": "a", "match": {}, "action": "skip", "require": { "method": ["passkey"] } })),
        rule(json!({ "name": "a", "match": { "branch": "x", "environment": "y" }, "action": "skip" })),
        rule(json!({ "name": "a", "match": { "paths": [] }, "action": "skip" })),
        rule(json!({ "name": "a", "match": { "paths": ["!x"] }, "action": "skip" })),
        rule(json!({ "name": "a", "match": { "branch": [] }, "action": "skip" })),
        require(json!({ "quorum": 1 })),
        require(json!({ "method": [] })),
        require(json!({ "method": ["password"] })),
        require(json!({ "method": ["passkey"], "quorum": 0 })),
        require(json!({ "method": ["passkey"], "quorum": 1.5 })),
        require(json!({ "method": ["passkey"], "quorum": 101 })),
        require(json!({ "method": ["passkey"], "ttl_max": 0 })),
        require(json!({ "method": ["passkey"], "ttl_max": 2_592_001 })),
        require(json!({ "method": ["passkey"], "approvers": ["release"] })),
        require(json!({ "method": ["passkey"], "approvers": [] })),
        require(json!({ "method": ["passkey"], "break_glass": true })),
        require(json!({ "method": ["passkey", "totp"], "quorum": 2, "break_glass": true })),
    ] {
        assert!(
            schemas.validate(&broken, schema).is_err(),
            "the schema takes {broken}"
        );
        let answer = it
            .send("POST", "/api/v1/policies/validate", &broken.to_string())
            .await;
        assert_eq!(answer.status, 422, "the parser takes {broken}");
    }
    for good in documents.values() {
        let answer = it
            .send("POST", "/api/v1/policies/validate", &good.to_string())
            .await;
        assert_eq!(answer.status, 200, "{good}");
    }
}
