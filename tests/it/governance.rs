//! Changes to the rules over the wire: versions, second admins, what would change, deputies, break-glass.

use std::time::Duration;

use base64::Engine;
use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Answer;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::authenticator::Lie;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// A lost webhook shows in the state within this (contract, section 3.4).
const LOST_MAX: Duration = Duration::from_secs(60);

/// A policy that itself needs two admins to change.
fn guarded() -> Value {
    json!({
        "change_quorum": 2,
        "rules": [{ "name": "Production", "match": { "environment": "production" },
                    "require": { "method": ["passkey"], "quorum": 1, "approvers": ["group:release"], "ttl_max": 900 } }],
    })
}

/// Ada and Dora are admins; Bea approves and is in the group.
async fn company() -> (Appliance, Person, Person, Person) {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let dora = ada.bring_in(&appliance, "Dora", &["admin"]).await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    ada.create_group("release", &[&bea]).await;
    ada.put_policy("default", &guarded()).await;
    (appliance, ada, dora, bea)
}

/// A further admin's passkey under a proposal.
pub async fn confirm(who: &Person, proposal: &str, lies: &[Lie]) -> Answer {
    let path = format!("/api/v1/proposals/{proposal}/confirmation");
    let options = who.post(&format!("{path}/options"), &json!({})).await;
    if options.status != 200 {
        return options;
    }
    let options = options.json();
    let credential = who.authenticator().get_lying(&options["publicKey"], lies);
    let credential = credential.expect("the authenticator takes part");
    let body = json!({ "ceremony": options["ceremony"], "credential": credential });
    who.post(&path, &body).await
}

async fn active(who: &Person) -> Value {
    let list = items(&who.get("/api/v1/policies").await);
    list.into_iter()
        .find(|it| it["name"] == "default")
        .expect("there is one")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_a_guarded_policy_waits_for_a_second_admins_passkey() {
    let (_appliance, ada, dora, bea) = company().await;
    let before = active(&ada).await;
    let loose = json!({ "rules": [], "default": { "method": ["passkey"] } });
    let waits = ada.put("/api/v1/policies/default", &loose).await.expect(202);
    let proposal = text(&waits, "proposal");
    assert_eq!(active(&ada).await, before, "nothing holds yet");

    assert_problem!(confirm(&ada, &proposal, &[]).await, 403, "not-eligible");
    assert_problem!(confirm(&bea, &proposal, &[]).await, 403, "forbidden");
    // What is signed is the change: another challenge, no verified user, another site are all refused, and recorded.
    for lie in [Lie::Challenge(vec![7; 32]), Lie::NotVerified] {
        assert_problem!(confirm(&dora, &proposal, &[lie]).await, 401, "ceremony-failed");
    }
    assert_eq!(dora.journal("ceremony.refused").await.len(), 2);
    assert_eq!(active(&ada).await, before);

    let done = confirm(&dora, &proposal, &[]).await.expect(200);
    assert_eq!(done["state"], "carried_out", "{done}");
    let now = active(&ada).await;
    assert_eq!(now["version"], 2, "{now}");
    assert_eq!(now["by"], json!(["Ada", "Dora"]));
    assert_eq!(now["previous_sha256"], before["sha256"]);
    assert_eq!(now["proposal"], json!(proposal));
    assert_problem!(confirm(&dora, &proposal, &[]).await, 409, "outdated");

    let told = ada.journal("policy.activated").await;
    let data = &told.last().expect("two versions")["data"];
    assert_eq!(
        (&data["sha256"], &data["previous_sha256"]),
        (&now["sha256"], &before["sha256"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_is_good_for_one_proposal_and_one_admin() {
    let (_appliance, ada, dora, _) = company().await;
    let loose = json!({ "rules": [], "default": { "method": ["passkey"] } });
    let looser = json!({ "rules": [{ "name": "All", "match": {}, "action": "skip" }] });
    let first = text(
        &ada.put("/api/v1/policies/default", &loose).await.expect(202),
        "proposal",
    );
    let second = text(
        &ada.put("/api/v1/policies/default", &looser).await.expect(202),
        "proposal",
    );
    let options = dora
        .post(
            &format!("/api/v1/proposals/{first}/confirmation/options"),
            &json!({}),
        )
        .await
        .expect(200);
    let credential = dora.authenticator().get(&options["publicKey"]).expect("signed");
    let body = json!({ "ceremony": options["ceremony"], "credential": credential });
    let elsewhere = dora
        .post(&format!("/api/v1/proposals/{second}/confirmation"), &body)
        .await;
    assert_problem!(elsewhere, 401, "ceremony-failed");
    let burnt = dora
        .post(&format!("/api/v1/proposals/{first}/confirmation"), &body)
        .await;
    assert_problem!(burnt, 409, "ceremony-spent");
    // An approval's ceremony confirms nothing either.
    assert_eq!(active(&ada).await["version"], 1);
    assert_eq!(
        ada.delete(&format!("/api/v1/proposals/{second}")).await.status,
        204
    );
    assert_problem!(confirm(&dora, &second, &[]).await, 409, "outdated");
    assert_eq!(confirm(&dora, &first, &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_can_be_read_and_compared_and_a_new_one_tried_on_what_was_asked() {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let key = ada.create_api_key("CI", &["request"], &[]).await;
    let ci = appliance.api().with_key(&key.key);
    let one = "{\n  \"rules\": [],\n  \"default\": { \"method\": [\"passkey\"], \"quorum\": 1 }\n}\n";
    let two = one.replace("\"quorum\": 1", "\"quorum\": 2");
    let origin = appliance.origin();
    let send = async |method: &str, path: &str, document: &str, more: &[(&str, &str)]| {
        let headers = [
            &[("origin", origin.as_str()), ("content-type", "application/json")],
            more,
        ]
        .concat();
        ada.send_bytes(method, path, &headers, Some(document.as_bytes().to_vec()))
            .await
    };
    let policy = "/api/v1/policies/default";
    let first = send("PUT", policy, one, &[("x-reason", "to begin with")]).await;
    assert_eq!(first.status, 200);
    let id = ci
        .open_request(&json!({ "action": "Deploy", "environment": "production" }))
        .await;

    let tried = send("POST", &format!("{policy}/what-would-change"), &two, &[])
        .await
        .expect(200);
    assert_eq!(
        (&tried["looked_at"], &tried["differences"]),
        (&json!(1), &json!(1)),
        "{tried}"
    );
    assert_eq!(tried["items"][0]["request"], json!(id));
    assert_eq!(tried["items"][0]["before"]["obligations"][0]["quorum"], 1);
    assert_eq!(tried["items"][0]["after"]["obligations"][0]["quorum"], 2);
    assert_eq!(active(&ada).await["version"], 1, "trying changes nothing");

    let stale = [
        ("x-reason", "two"),
        (
            "if-match",
            "\"0000000000000000000000000000000000000000000000000000000000000000\"",
        ),
    ];
    let refused = send("PUT", policy, &two, &stale).await;
    assert_problem!(refused, 409, "outdated");
    let second = send("PUT", policy, &two, &[("x-reason", "four eyes")]).await;
    assert_eq!(second.status, 200);
    let versions = items(&ada.get("/api/v1/policies/default/versions").await);
    let told: Vec<_> = versions
        .iter()
        .map(|it| (it["version"].clone(), text(it, "reason")))
        .collect();
    assert_eq!(
        told,
        [
            (json!(2), "four eyes".to_owned()),
            (json!(1), "to begin with".to_owned())
        ]
    );
    assert_eq!(ada.get("/api/v1/policies/default/versions/1").await.text(), one);
    let diff = ada.get("/api/v1/policies/default/diff?from=1&to=2").await.text();
    assert!(
        diff.contains("\n-  \"default\": { \"method\": [\"passkey\"], \"quorum\": 1 }\n"),
        "{diff}"
    );
    assert!(
        diff.contains("\n+  \"default\": { \"method\": [\"passkey\"], \"quorum\": 2 }\n"),
        "{diff}"
    );
    for path in [
        "/api/v1/policies/default/versions/3",
        "/api/v1/policies/nope/versions",
    ] {
        assert_problem!(ada.get(path).await, 404, "not-found");
    }
    // What waits is bound by both versions, and its trace says why.
    let trace = ada
        .get(&format!("/api/v1/approvals/{id}/trace"))
        .await
        .expect(200);
    assert_eq!(trace["obligations"][0]["quorum"], 2, "{trace}");
    assert_eq!(trace["trace"][0]["effect"], "default", "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deputy_approves_while_somebody_is_away() {
    let (appliance, ada, dora, bea) = company().await;
    let carl = ada.bring_in(&appliance, "Carl", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await;
    let ci = appliance.api().with_key(&key.key);
    let deploy = json!({ "action": "Deploy", "environment": "production" });
    let id = ci.open_request(&deploy).await;
    assert_problem!(carl.decide(&id, "approve", None).await, 403, "not-eligible");

    let week = json!({ "to": carl.id(), "ends": "2099-01-01T00:00:00Z" });
    assert_problem!(bea.post("/api/v1/delegations", &week).await, 422, "invalid");
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let day = json!({ "to": carl.id(), "ends": ends.to_string(), "reason": "on holiday" });
    let made = bea.post("/api/v1/delegations", &day).await.expect(201);
    assert_eq!((&made["in_force"], &made["by"]), (&json!(true), &json!("Bea")));
    // An admin who lets somebody stand in for another changes who approves: the policy wants two of them.
    let by_admin = json!({ "from": carl.id(), "to": dora.id(), "ends": ends.to_string() });
    assert_problem!(
        dora.post("/api/v1/delegations", &by_admin).await,
        403,
        "not-allowed"
    );
    assert_problem!(
        carl.post(
            "/api/v1/delegations",
            &json!({ "from": bea.id(), "to": ada.id(), "ends": ends.to_string() })
        )
        .await,
        403,
        "forbidden"
    );

    assert!(carl.has_in_inbox(&id).await);
    assert!(!bea.has_in_inbox(&id).await);
    let away = bea.decide(&id, "approve", None).await;
    assert_problem!(away, 403, "not-eligible");
    carl.approve(&id).await;
    assert_eq!(ci.request(&id).await["status"], "approved");

    let next = ci.open_request(&deploy).await;
    assert_eq!(
        bea.delete(&format!("/api/v1/delegations/{}", text(&made, "id")))
            .await
            .status,
        204
    );
    assert_problem!(carl.decide(&next, "approve", None).await, 403, "not-eligible");
    bea.approve(&next).await;
    assert_eq!(ada.journal("delegation.made").await.len(), 1);
    assert_eq!(ada.journal("delegation.ended").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn break_glass_is_signed_as_such_told_and_looked_over() {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let carl = ada.bring_in(&appliance, "Carl", &["approver"]).await;
    let ines = ada.bring_in(&appliance, "Ines", &["auditor"]).await;
    ada.create_group("oncall", &[&bea, &carl]).await;
    let policy = json!({ "rules": [
        { "name": "Four", "match": { "environment": "production" }, "require": { "method": ["passkey"], "quorum": 4 } },
        { "name": "Fire", "match": { "environment": "production" },
          "require": { "method": ["passkey"], "quorum": 2, "break_glass": true, "approvers": ["group:oncall"] } } ] });
    ada.put_policy("default", &policy).await;
    let key = appliance
        .cli(&[
            "admin", "api-key", "create", "--name", "CI", "--scope", "request", "--json",
        ])
        .await;
    let key: Value = serde_json::from_str(&key.1).expect("JSON");
    let ci = appliance.api().with_key(&text(&key, "key"));
    let id = ci
        .open_request(&json!({ "action": "Hotfix", "environment": "production" }))
        .await;
    let waits = ci.request(&id).await;
    let hopeless = text(&waits["unsatisfiable"][0], "reason");
    assert_eq!(
        hopeless,
        "The rule \"Four\" needs 4 approvers, and 3 can fill it."
    );

    let glass =
        |comment: &'static str| json!({ "decision": "approve", "comment": comment, "break_glass": true });
    let path = format!("/api/v1/approvals/{id}/decision");
    let options = async |who: &Person, body: Value| who.post(&format!("{path}/options"), &body).await;
    assert_problem!(options(&bea, glass("")).await, 422, "invalid");
    assert_problem!(options(&ada, glass("fire")).await, 403, "not-eligible");
    for (who, credential) in [(&bea, 0), (&carl, 1)] {
        let options = options(who, glass("the shop is down")).await.expect(200);
        let signed = who.authenticator().get(&options["publicKey"]).expect("signed");
        let body = json!({ "ceremony": options["ceremony"], "credential": signed });
        let answer = who.post(&path, &body).await.expect(200);
        assert_eq!(answer["status"], ["pending", "approved"][credential], "{answer}");
    }
    let outcome = ci.get(&format!("/api/v1/approvals/{id}/outcome")).await.json();
    let payload = base64::engine::general_purpose::STANDARD.decode(text(&outcome, "payload"));
    let statement: Value = serde_json::from_slice(&payload.expect("base64")).expect("JSON");
    let obligations = &statement["predicate"]["obligations"];
    assert_eq!(
        obligations.as_array().map(Vec::len),
        Some(1),
        "that rule alone: {obligations}"
    );
    assert_eq!(
        (&obligations[0]["rule"], &obligations[0]["break_glass"]),
        (&json!("Fire"), &json!(true))
    );

    let open = items(&ines.get("/api/v1/exceptions?state=open").await);
    assert_eq!(
        (open.len(), &open[0]["type"]),
        (1, &json!("exception.break_glass")),
        "{open:?}"
    );
    let review = format!("/api/v1/exceptions/{}/review", text(&open[0], "id"));
    assert_problem!(
        bea.post(&review, &json!({ "note": "fine" })).await,
        403,
        "forbidden"
    );
    let done = ines
        .post(&review, &json!({ "note": "incident 4711" }))
        .await
        .expect(200);
    assert_eq!(
        (&done["state"], &done["review"]["by"]["name"]),
        (&json!("reviewed"), &json!("Ines"))
    );
    assert!(items(&ines.get("/api/v1/exceptions?state=open").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_an_approval_bound_to_the_target_branch_falls_when_that_moves_on() {
    let it = Gated::start_with(Hook::Token, json!({ "bind_base": "target_sha" })).await;
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    let subject = it.auditor.request(&id).await["subject"].clone();
    assert_eq!(
        subject["bind_base"], "target_sha",
        "the choice is signed: {subject}"
    );
    assert_eq!(subject["target_sha"].as_str().map(str::len), Some(40));
    it.bea.approve(&id).await;
    it.expect_status(&change.head, "main", "success");
    it.gitlab
        .commit(PROJECT, "main", &Gated::commit_of_carl("elsewhere.rs"));
    it.expect_status_within(&change.head, "main", "pending", LOST_MAX);
    let next = text(&it.request(&change, "main", "pending").await, "id");
    assert_ne!(next, id);
    it.bea.approve(&next).await;
    it.expect_status_within(&change.head, "main", "success", SOON);
    it.gitlab.assert_no_violations();
}
