//! Every change of the configuration says why: refused without, recorded with it.

use serde_json::Value;
use serde_json::json;

use crate::support::gated::Gated;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// Values for the parts of a path that the appliance looks up before it asks for a reason.
fn path_of(template: &str, it: &Gated, integration: &str) -> String {
    let id = match template.split('/').nth(3) {
        Some("integrations") => integration.to_owned(),
        Some("groups") => format!("grp_{}", "0".repeat(32)),
        Some("people") => it.bea.id(),
        Some("api-keys") => format!("key_{}", "0".repeat(32)),
        _ => "x".to_owned(),
    };
    template
        .replace("{id}", &id)
        .replace("{pid}", &it.project)
        .replace("{name}", "default")
}

/// A body that is complete but for its reason.
fn body_of(name: &str, it: &Gated) -> Value {
    match name {
        "post /api/v1/groups" | "put /api/v1/groups/{id}" => json!({ "name": "release" }),
        "post /api/v1/people/{id}/recovery" => json!({}),
        "put /api/v1/integrations/{id}/projects/{pid}" => json!({ "branch_patterns": ["main"] }),
        "post /api/v1/integrations/{id}/projects" => {
            json!({ "project_id": 999, "branch_patterns": ["main"] })
        }
        "put /api/v1/integrations/{id}/projects/{pid}/retention" => json!({ "days": 500 }),
        "post /api/v1/integrations/{id}/projects/{pid}/provisioning" => {
            json!({ "enforcement": "commit_status", "plan": "0".repeat(64) })
        }
        "post /api/v1/integrations/{id}/projects/{pid}/provisioning/undo" => json!({}),
        "post /api/v1/delegations" => {
            json!({ "from": it.bea.id(), "to": it.ada.id(), "ends": "2099-01-01T00:00:00Z" })
        }
        "post /api/v1/erasures" => json!({ "scope": { "of": "project", "project": it.project } }),
        _ => json!({}),
    }
}

/// What is described as a change of the configuration, each as `method path`. `src/web/openapi/tests.rs` sees to it that no
/// other call of admins is one.
async fn described(it: &Gated) -> Vec<String> {
    let description = it.ada.get("/api/v1/openapi.json").await.expect(200);
    let mut found = Vec::new();
    for (path, operations) in description["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let parameters = operation["parameters"].as_array();
            if parameters.is_some_and(|it| it.iter().any(|it| it["name"] == "X-Reason")) {
                found.push(format!("{method} {path}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_of_the_configuration_is_taken_without_its_reason() {
    let it = Gated::start().await;
    let integration = text(&items(&it.ada.get("/api/v1/integrations").await)[0], "id");
    let all = described(&it).await;
    assert!(all.len() >= 30, "{all:#?}");
    let done = async || {
        let mut all = it.ada.journal("").await;
        all.retain(|entry| entry["actor"]["name"] == "Ada");
        all.len()
    };
    let before = done().await;
    let origin = it.appliance.origin();
    for name in &all {
        let (method, template) = name.split_once(' ').expect("method and path");
        // Of a delegation that is not there nobody says whose it is.
        if name == "delete /api/v1/delegations/{id}" {
            continue;
        }
        let path = path_of(template, &it, &integration);
        let body = body_of(name, &it);
        for reason in ["", "  "] {
            let headers = [("origin", origin.as_str()), ("x-reason", reason)];
            let method = method.to_ascii_uppercase();
            let answer = it.ada.send_with(&method, &path, &headers, Some(&body)).await;
            let shown = format!("{name}: {}", answer.text());
            assert_eq!(answer.status, 422, "{shown}");
            assert_eq!(answer.json()["field"], "X-Reason", "{shown}");
        }
    }
    assert_eq!(done().await, before, "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_stands_in_the_entry_and_is_shown() {
    let it = Gated::start().await;
    let origin = it.appliance.origin();
    let send = async |method: &str, path: &str, reason: &str, body: Value| {
        let headers = [("origin", origin.as_str()), ("x-reason", reason)];
        it.ada.send_with(method, path, &headers, Some(&body)).await
    };
    let person = json!({ "name": "Eva", "email": "eva@example.test", "roles": ["approver"] });
    let made = send(
        "POST",
        "/api/v1/people",
        "UTF-8\'\'Vertretung%20f%C3%BCr%20Bea",
        person,
    )
    .await;
    let eva = text(&made.expect(201), "id");
    let path = format!("/api/v1/people/{eva}");
    send("PATCH", &path, "left the team", json!({ "active": false }))
        .await
        .expect(200);
    let group = send("POST", "/api/v1/groups", "on call", json!({ "name": "night" })).await;
    let group = text(&group.expect(201), "id");
    let path = format!("/api/v1/groups/{group}");
    assert_eq!(send("DELETE", &path, "no longer", json!({})).await.status, 204);
    for (kind, reason) in [
        ("person.created", "Vertretung f\u{fc}r Bea"),
        ("person.changed", "left the team"),
        ("group.set", "on call"),
        ("group.removed", "no longer"),
    ] {
        let last = it.ada.journal(kind).await.pop().expect(kind);
        assert_eq!(last["data"]["reason"], reason, "{last}");
    }
    let page = it.ada.get("/dashboard/audit").await.text();
    for reason in ["Vertretung f\u{fc}r Bea", "left the team", "no longer"] {
        assert!(
            page.contains(&format!("Reason: <bdi>{reason}</bdi>")),
            "{reason}: {page}"
        );
    }
    let long = "x".repeat(501);
    let refused = send("POST", "/api/v1/groups", &long, json!({ "name": "day" })).await;
    assert_problem!(refused, 422, "invalid");
    let odd = send("POST", "/api/v1/groups", "UTF-8\'\'%ff", json!({ "name": "day" })).await;
    assert_problem!(odd, 400, "bad-request");
    it.appliance.assert_journal_verifies().await;
}
