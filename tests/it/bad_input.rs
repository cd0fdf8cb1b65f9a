//! Every call with what it must not take: not JSON, wrong types, too long, too big, unknown, from nobody, from another
//! site, by another method. The answer is always a problem document, and nothing is recorded.

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Answer;
use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::person::Person;
use crate::support::problem::assert_problem;
use crate::support::problem::check_form;

const KIB: usize = 1024;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Anybody, without a session.
    Anyone,
    /// A machine with a key of scope `request`.
    Key,
    /// Any signed-in person.
    Person,
    /// An admin.
    Admin,
}

/// A call that takes a JSON body.
struct Call {
    method: &'static str,
    path: String,
    who: Who,
    /// A body that only its own values could make wrong.
    body: Value,
}

fn call(method: &'static str, path: &str, who: Who, body: Value) -> Call {
    Call {
        method,
        path: path.to_owned(),
        who,
        body,
    }
}

struct Scene {
    appliance: Appliance,
    ada: Person,
    ci: Api,
    request: String,
}

impl Scene {
    async fn new() -> Scene {
        let appliance = Appliance::start(Options::default()).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let key = ada.create_api_key("CI", &["request"], &[]).await.key;
        let ci = appliance.api().with_key(&key);
        let request = ci.open_request(&json!({"action": "a"})).await;
        Scene {
            appliance,
            ada,
            ci,
            request,
        }
    }

    /// Every call of the contract that changes something by a JSON body.
    fn calls(&self) -> Vec<Call> {
        let (request, person) = (&self.request, self.ada.id());
        let anything = json!({"id": "x", "rawId": "x", "type": "public-key", "response": {}});
        vec![
            call(
                "POST",
                "/api/v1/approvals/request",
                Who::Key,
                json!({"action": "a"}),
            ),
            call(
                "POST",
                &format!("/api/v1/approvals/{request}/decision/options"),
                Who::Person,
                json!({"decision": "approve"}),
            ),
            call(
                "POST",
                &format!("/api/v1/approvals/{request}/decision"),
                Who::Person,
                json!({"ceremony": "cer_00000000000000000000000000", "credential": anything}),
            ),
            call(
                "POST",
                "/api/v1/enrolment/options",
                Who::Anyone,
                json!({"token": "t"}),
            ),
            call(
                "POST",
                "/api/v1/enrolment",
                Who::Anyone,
                json!({"token": "t", "credential": anything}),
            ),
            call("POST", "/api/v1/session/options", Who::Anyone, json!({})),
            call(
                "POST",
                "/api/v1/session",
                Who::Anyone,
                json!({"ceremony": "cer_00000000000000000000000000", "credential": anything}),
            ),
            call(
                "POST",
                "/api/v1/me/passkeys/options",
                Who::Person,
                json!({"label": "x"}),
            ),
            call(
                "POST",
                "/api/v1/me/passkeys",
                Who::Person,
                json!({"ceremony": "cer_00000000000000000000000000", "confirm": anything, "credential": anything}),
            ),
            call("POST", "/api/v1/me/test-request", Who::Person, json!({})),
            call(
                "POST",
                "/api/v1/delegations",
                Who::Person,
                json!({"to": person, "ends": "2099-01-01T00:00:00Z"}),
            ),
            call(
                "POST",
                "/api/v1/integrations",
                Who::Admin,
                json!({"kind": "gitlab", "name": "G", "base_url": "http://127.0.0.1:1", "token": "t"}),
            ),
            call(
                "PUT",
                "/api/v1/policies/default",
                Who::Admin,
                json!({"rules": []}),
            ),
            call(
                "POST",
                "/api/v1/policies/validate",
                Who::Admin,
                json!({"rules": []}),
            ),
            call(
                "POST",
                "/api/v1/people",
                Who::Admin,
                json!({"name": "N", "email": "n@example.test", "roles": ["approver"]}),
            ),
            call(
                "POST",
                &format!("/api/v1/people/{person}/accounts"),
                Who::Admin,
                json!({"integration": "int_00000000000000000000000000", "account_id": "1"}),
            ),
            call(
                "POST",
                "/api/v1/groups",
                Who::Admin,
                json!({"name": "g", "members": []}),
            ),
            call(
                "POST",
                "/api/v1/api-keys",
                Who::Admin,
                json!({"name": "k", "scopes": ["request"]}),
            ),
        ]
    }

    /// How many entries the journal has.
    async fn entries(&self) -> usize {
        self.ada.journal("").await.len()
    }

    /// Makes a call as who may make it.
    async fn send(&self, call: &Call, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let origin = self.appliance.origin();
        let cookie = self.ada.session_cookie().expect("Ada is signed in");
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let api = match call.who {
            Who::Key => self.ci.clone(),
            Who::Anyone => self.appliance.api(),
            Who::Person | Who::Admin => self.appliance.api().with_header("cookie", &cookie),
        };
        let named = headers.iter().any(|(name, _)| *name == "origin");
        if call.who != Who::Key && !named {
            all.push(("origin", &origin));
        }
        api.send(call.method, &call.path, &all, Some(body)).await
    }
}

/// Values of other types than the one given.
fn wrong_types(right: &Value) -> Vec<Value> {
    [
        json!(null),
        json!(true),
        json!(7),
        json!(-1.5),
        json!("text"),
        json!([]),
        json!([[1]]),
        json!({"a": {"b": 1}}),
    ]
    .into_iter()
    .filter(|it| std::mem::discriminant(it) != std::mem::discriminant(right))
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_object_is_refused() {
    let it = Scene::new().await;
    let before = it.entries().await;
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("half an object", b"{".to_vec()),
        ("a word", b"nonsense".to_vec()),
        ("a member without value", b"{\"a\":}".to_vec()),
        ("an empty list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"7".to_vec()),
        ("a text", b"\"text\"".to_vec()),
        ("two objects", b"{\"a\":1}{\"b\":2}".to_vec()),
        ("a raw control character", b"{\"a\":\"\0\"}".to_vec()),
        ("no UTF-8", b"{\"\xff\xfe\":1}".to_vec()),
        ("a deep list", deep.into_bytes()),
    ];
    let mut taken = Vec::new();
    for call in it.calls() {
        // The members' values in a row, as a careless parser would take them for an object.
        let row = Value::Array(
            call.body
                .as_object()
                .expect("an object")
                .values()
                .cloned()
                .collect(),
        );
        let row = ("a list of the values", row.to_string().into_bytes());
        for (what, body) in bodies.iter().chain([&row]) {
            let answer = it.send(&call, &[], body.clone()).await;
            if matches!(answer.status, 400 | 422) {
                check_form(&answer);
            } else {
                let shown: String = format!("{answer:?}").chars().take(120).collect();
                taken.push(format!("{} {} with {what}: {shown}", call.method, call.path));
            }
        }
    }
    assert!(taken.is_empty(), "\n{}\n", taken.join("\n"));
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_wrong_type_is_refused() {
    let it = Scene::new().await;
    let before = it.entries().await;
    for call in it.calls() {
        let members: Vec<String> = call
            .body
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        for member in members {
            // An optional one may be null or left out, and a change or policy has shapes of its own.
            for wrong in wrong_types(&call.body[&member]) {
                if wrong.is_null() {
                    continue;
                }
                let mut body = call.body.clone();
                body[&member] = wrong;
                let answer = it.send(&call, &[], body.to_string().into_bytes()).await;
                let what = format!("{} {} {body}: {answer:?}", call.method, call.path);
                assert!((400..500).contains(&answer.status), "{what}");
                check_form(&answer);
            }
        }
        let mut body = call.body.clone();
        body["surprise"] = json!(1);
        let answer = it.send(&call, &[], body.to_string().into_bytes()).await;
        assert!(
            (400..500).contains(&answer.status),
            "unknown member: {} {answer:?}",
            call.path
        );
        check_form(&answer);
    }
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_long_is_refused() {
    let it = Scene::new().await;
    let before = it.entries().await;
    for call in it.calls() {
        let members: Vec<String> = call
            .body
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        for member in members {
            // A label is cut, not refused.
            if !call.body[&member].is_string() || member == "label" {
                continue;
            }
            let mut body = call.body.clone();
            body[&member] = json!("x".repeat(40 * KIB));
            let answer = it.send(&call, &[], body.to_string().into_bytes()).await;
            let what = format!("{} {} {member}: {answer:?}", call.method, call.path);
            assert!((400..500).contains(&answer.status), "{what}");
            check_form(&answer);
        }
    }
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let it = Scene::new().await;
    let before = it.entries().await;
    for call in it.calls() {
        let mut body = call.body.clone();
        // A policy document may be larger than any other body.
        let limit = if call.path.contains("/policies") { 256 } else { 64 };
        body["padding"] = json!("x".repeat(limit * KIB));
        let answer = it.send(&call, &[], body.to_string().into_bytes()).await;
        assert_problem!(answer, 413, "too-large");
    }
    for path in ["/hooks/gitlab/int_00000000000000000000000000", "/hooks/nothing/x"] {
        let answer = it
            .appliance
            .api()
            .send(
                "POST",
                path,
                &[("content-type", "application/json")],
                Some(vec![b' '; 1024 * KIB + 1]),
            )
            .await;
        assert!(matches!(answer.status, 401 | 404 | 413), "{path}: {answer:?}");
    }
    let verify = it
        .appliance
        .api()
        .send("POST", "/api/v1/verify", &[], Some(vec![b' '; 65 * KIB]))
        .await;
    assert_problem!(verify, 413, "too-large");
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_nobody_is_refused() {
    let it = Scene::new().await;
    let before = it.entries().await;
    let nobody = it.appliance.api();
    for call in it.calls().iter().filter(|it| it.who != Who::Anyone) {
        let answer = nobody.send_json(call.method, &call.path, &[], &call.body).await;
        assert_problem!(answer, 401, "unauthenticated");
        let with_key = nobody.with_key("sa_0000000000000000000000000000000000000000000");
        let answer = with_key.send_json(call.method, &call.path, &[], &call.body).await;
        assert_problem!(answer, 401, "unauthenticated");
        let stale = nobody.with_header(
            "cookie",
            "signedapproval-session=stale; __Host-signedapproval-session=stale",
        );
        let own = it.appliance.origin();
        let answer = stale
            .send_json(call.method, &call.path, &[("origin", &own)], &call.body)
            .await;
        assert_problem!(answer, 401, "unauthenticated");
    }
    for path in [
        "/api/v1/me",
        "/api/v1/inbox",
        "/api/v1/inbox/events",
        "/api/v1/approvals",
        "/api/v1/journal",
        "/api/v1/exceptions",
        "/api/v1/people",
        "/api/v1/groups",
        "/api/v1/api-keys",
        "/api/v1/integrations",
        "/api/v1/me/passkeys",
    ] {
        let answer = nobody.get(path).await;
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
        check_form(&answer);
    }
    let path = format!("/api/v1/approvals/{}", it.request);
    assert_problem!(nobody.get(&path).await, 401, "unauthenticated");
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_another_site_is_refused() {
    let it = Scene::new().await;
    let before = it.entries().await;
    let port = it.appliance.port();
    for call in it.calls().iter().filter(|it| it.who != Who::Key) {
        for origin in [
            "https://evil.example".to_owned(),
            "null".to_owned(),
            format!("http://localhost:{}", port + 1),
            format!("https://localhost:{port}"),
            format!("http://localhost:{port}.evil.example"),
        ] {
            let answer = it
                .send(call, &[("origin", &origin)], call.body.to_string().into_bytes())
                .await;
            assert_problem!(answer, 403, "cross-origin");
        }
        if call.who == Who::Anyone {
            continue;
        }
        for headers in [
            &[][..],
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")][..],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")][..],
        ] {
            let answer = it
                .ada
                .send_with(call.method, &call.path, headers, Some(&call.body))
                .await;
            assert_problem!(answer, 403, "cross-origin");
        }
    }
    let leave = it
        .ada
        .send_with(
            "DELETE",
            "/api/v1/session",
            &[("origin", "https://evil.example")],
            None,
        )
        .await;
    assert_problem!(leave, 403, "cross-origin");
    assert_eq!(
        it.ada.get("/api/v1/me").await.status,
        200,
        "the session still stands"
    );
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_exists_tells_which_methods_it_takes() {
    let it = Scene::new().await;
    let before = it.entries().await;
    for call in it.calls() {
        for method in ["TRACE", "PROPFIND"] {
            let answer = it
                .send(
                    &Call {
                        method,
                        body: Value::Null,
                        ..call_of(&call)
                    },
                    &[],
                    Vec::new(),
                )
                .await;
            assert_eq!(answer.status, 405, "{method} {}: {answer:?}", call.path);
            check_form(&answer);
        }
    }
    for (method, path) in [
        ("GET", "/api/v1/approvals/request"),
        ("DELETE", "/api/v1/approvals"),
        ("PUT", "/api/v1/session"),
        ("POST", "/api/v1/inbox"),
        ("POST", "/api/v1/journal"),
        ("PUT", "/api/v1/verify"),
    ] {
        let cookie = it.ada.session_cookie().expect("signed in");
        let own = it.appliance.origin();
        let answer = it
            .appliance
            .api()
            .send(method, path, &[("cookie", &cookie), ("origin", &own)], None)
            .await;
        // GET …/approvals/request reads the request by that id, which there is none.
        assert!(matches!(answer.status, 404 | 405), "{method} {path}: {answer:?}");
        check_form(&answer);
    }
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

fn call_of(call: &Call) -> Call {
    Call {
        method: call.method,
        path: call.path.clone(),
        who: call.who,
        body: call.body.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_is_not_found_whatever_it_looks_like() {
    let it = Scene::new().await;
    let before = it.entries().await;
    let long = "x".repeat(5_000);
    let ids = [
        "apr_00000000000000000000000000",
        "apr_",
        "x",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff",
        "%F0%9F%98%80",
        "apr_00000000000000000000000000'%20OR%201=1",
        &long,
    ];
    for id in ids {
        for (method, path) in [
            ("GET", format!("/api/v1/approvals/{id}")),
            ("GET", format!("/api/v1/approvals/{id}/credentials")),
            ("GET", format!("/api/v1/approvals/{id}/outcome")),
            ("POST", format!("/api/v1/approvals/{id}/cancel")),
            ("POST", format!("/api/v1/approvals/{id}/consume")),
            ("GET", format!("/api/v1/credentials/{id}")),
            ("GET", format!("/api/v1/credentials/{id}/event")),
            ("GET", format!("/api/v1/credentials/{id}/proof")),
            ("GET", format!("/api/v1/integrations/{id}")),
            ("GET", format!("/api/v1/integrations/{id}/projects")),
            ("DELETE", format!("/api/v1/api-keys/{id}")),
            ("DELETE", format!("/api/v1/me/passkeys/{id}")),
            ("GET", format!("/api/v1/unheard-of/{id}")),
        ] {
            let body = (method == "POST").then(|| json!({}));
            let answer = it.ada.send(method, &path, body.as_ref()).await;
            let shown: String = path.chars().take(100).collect();
            assert!(
                matches!(answer.status, 400 | 404 | 414),
                "{method} {shown}: {answer:?}"
            );
            check_form(&answer);
        }
    }
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_or_scope_that_is_missing_is_told() {
    let it = Scene::new().await;
    let bea = it.ada.bring_in(&it.appliance, "Bea", &["approver"]).await;
    let audrey = it.ada.bring_in(&it.appliance, "Audrey", &["auditor"]).await;
    let before = it.entries().await;
    for call in it.calls().iter().filter(|it| it.who == Who::Admin) {
        for person in [&bea, &audrey] {
            // Auditors read everything, and a look at a policy changes nothing.
            if person.name == "Audrey" && call.path.ends_with("/validate") {
                continue;
            }
            let answer = person.send(call.method, &call.path, Some(&call.body)).await;
            assert_problem!(answer, 403, "forbidden");
        }
        let answer = it.ci.send_json(call.method, &call.path, &[], &call.body).await;
        assert_problem!(answer, 403, "forbidden");
    }
    assert_eq!(
        audrey.get("/api/v1/journal?limit=1").await.status,
        200,
        "auditors read"
    );
    assert_problem!(bea.get("/api/v1/journal").await, 403, "forbidden");
    assert_problem!(it.ci.get("/api/v1/journal").await, 403, "forbidden");
    let decide = audrey.decide(&it.request, "approve", None).await;
    assert_problem!(decide, 403, "not-eligible");
    let ask = audrey
        .post("/api/v1/approvals/request", &json!({"action": "a"}))
        .await;
    assert_eq!(ask.status, 403, "{ask:?}");
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_called_json_is_refused() {
    let it = Scene::new().await;
    let before = it.entries().await;
    for call in it.calls().iter().filter(|it| !it.path.contains("/policies")) {
        let answer = it
            .send_typed(
                call,
                "application/x-www-form-urlencoded",
                call.body.to_string().into_bytes(),
            )
            .await;
        assert_problem!(answer, 415, "unsupported-media-type");
        let answer = it
            .send_typed(call, "text/plain", call.body.to_string().into_bytes())
            .await;
        assert_problem!(answer, 415, "unsupported-media-type");
    }
    assert_eq!(it.entries().await, before, "nothing is recorded");
}

impl Scene {
    async fn send_typed(&self, call: &Call, kind: &str, body: Vec<u8>) -> Answer {
        let origin = self.appliance.origin();
        let cookie = self.ada.session_cookie().expect("Ada is signed in");
        let headers = [("content-type", kind), ("origin", &origin), ("cookie", &cookie)];
        match call.who {
            Who::Key => {
                self.ci
                    .send(call.method, &call.path, &headers[..1], Some(body))
                    .await
            }
            Who::Anyone => {
                self.appliance
                    .api()
                    .send(call.method, &call.path, &headers[..2], Some(body))
                    .await
            }
            _ => {
                self.appliance
                    .api()
                    .send(call.method, &call.path, &headers, Some(body))
                    .await
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_type_is_served_as_a_page() {
    let it = Scene::new().await;
    let answer = it.appliance.api().get("/api/v1/approvals/x").await;
    let kind = check_form(&answer)["type"].as_str().expect("a type").to_owned();
    let page = it.appliance.api().get(&kind).await;
    assert_eq!(page.status, 200, "{kind}: {page:?}");
    assert_eq!(it.appliance.api().get("/problems/unheard-of").await.status, 404);
    let nothing = it.appliance.api().get("/api/v1/unheard-of").await;
    assert_problem!(nothing, 404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_protect_every_page() {
    let it = Scene::new().await;
    for path in ["/login", "/help", "/enrol"] {
        let page = it.appliance.api().get(path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
            "{path}: {policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(
            !policy.contains("unsafe-inline") && !policy.contains("unsafe-eval"),
            "{path}: {policy}"
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(page.header("referrer-policy").is_some(), "{path}");
    }
}
