//! Every dangerous act of the table in `docs/security.md`, one after the other on the program itself: refused to a session
//! alone, without a reason, to a ceremony over anything else; alone where two admins are needed. And one admin alone gets a
//! new server going.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::governance::confirm;
use crate::support::appliance::Answer;
use crate::support::authenticator::Lie;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Gated;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// What comes of an act once it has all it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    /// It is done, with this status.
    Done(u16),
    /// A proposal: another admin has to confirm it.
    Waits,
    /// It is refused for another reason, which is looked at after the passkey.
    Further(u16, &'static str),
}

/// One row: the act's name, the call, and what comes of it.
struct Row {
    act: &'static str,
    method: &'static str,
    path: String,
    body: Option<Value>,
    becomes: Becomes,
}

fn row(
    act: &'static str,
    method: &'static str,
    path: impl Into<String>,
    body: Value,
    becomes: Becomes,
) -> Row {
    Row {
        act,
        method,
        path: path.into(),
        body: (!body.is_null()).then_some(body),
        becomes,
    }
}

impl Row {
    fn bytes(&self) -> Option<Vec<u8>> {
        self.body.as_ref().map(|it| it.to_string().into_bytes())
    }

    /// By the session alone, with these headers besides.
    async fn bare(&self, who: &Person, origin: &str, headers: &[(&str, &str)]) -> Answer {
        let all = [&[("origin", origin)], headers].concat();
        who.send_bare(self.method, &self.path, &all, self.bytes()).await
    }

    /// With all it needs.
    async fn properly(&self, who: &Person, origin: &str) -> Answer {
        let word = who
            .confirm(self.method, &self.path, &[], self.bytes().as_deref(), &[])
            .await
            .unwrap_or_else(|refused| panic!("{}: {refused:?}", self.act));
        self.bare(who, origin, &[("x-confirmation", &word)]).await
    }

    fn check(&self, answer: &Answer) {
        let shown = format!("{}: {answer:?}", self.act);
        match self.becomes {
            Becomes::Done(status) => assert_eq!(answer.status, status, "{shown}"),
            Becomes::Waits => assert_eq!(answer.status, 202, "{shown}"),
            Becomes::Further(status, kind) => {
                assert_eq!(answer.status, status, "{shown}");
                assert_eq!(answer.json()["type"], format!("/problems/{kind}"), "{shown}");
            }
        }
    }
}

/// The names in the table, in its order.
fn table() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = fs::read_to_string(file).expect("the page");
    let (_, section) = text.split_once("\n## Dangerous changes\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let names = section.lines().filter_map(|it| it.strip_prefix("| `"));
    let names: Vec<String> = names
        .filter_map(|it| it.split('`').next())
        .map(str::to_owned)
        .collect();
    assert!(names.len() >= 16, "{names:?}");
    names
}

const LOOSE: &str = "{\"rules\":[{\"name\":\"All\",\"match\":{},\"action\":\"skip\"}]}";

/// A company whose group `release` a policy names, with a second project to be let go.
struct Scene {
    it: Gated,
    origin: String,
    api: String,
    group: String,
    second: String,
}

async fn scene() -> Scene {
    let it = Gated::start().await;
    let group = text(&it.ada.create_group("release", &[&it.bea]).await, "id");
    let policy = json!({"rules": [{"name": "Release", "match": {"environment": "production"},
        "require": {"method": ["passkey"], "quorum": 1, "approvers": ["group:release"]}}]});
    it.ada.put_policy("release", &policy).await;
    let api = format!("/api/v1/integrations/{}/projects", it.integration.id);
    // More is asked of a project by whoever is signed in.
    let more = json!({"branch_patterns": ["main", "production"], "required_approval_count": 2});
    let stricter = it
        .ada
        .send_bare(
            "PUT",
            &format!("{api}/{}", it.project),
            &[("origin", &it.appliance.origin())],
            Some(more.to_string().into_bytes()),
        )
        .await;
    assert_eq!(stricter.status, 200, "{stricter:?}");
    it.gitlab.add_project(43, "group/second");
    let bot = it
        .gitlab
        .read(|it| it.appliance)
        .expect("the appliance's account");
    it.gitlab.add_member(43, bot, MAINTAINER);
    let second = json!({"project_id": 43, "branch_patterns": ["main"]});
    let second = text(&it.ada.gate_project(&it.integration, &second).await, "id");
    Scene {
        origin: it.appliance.origin(),
        it,
        api,
        group,
        second,
    }
}

/// A request whose documents may be erased: it is over, and its project keeps nothing.
async fn erasable(it: &Gated, project: &str) -> String {
    let change = it.open("feature", "main");
    let id = it.pending(&change, "main").await;
    it.bea.reject(&id, "not this").await;
    let days = json!({"days": 0, "reason": "A test bench keeps nothing."});
    it.ada
        .put(&format!("{project}/retention"), &days)
        .await
        .expect(200);
    it.gitlab.push(
        PROJECT,
        "feature",
        it.carl_account,
        &Gated::commit_of_carl("more.rs"),
    );
    let one = json!({"scope": {"of": "request", "request": id}});
    let until = Instant::now() + SOON;
    while it.ada.post("/api/v1/erasures/preview", &one).await.expect(200)["requests"] != 1 {
        assert!(Instant::now() < until, "a new head leaves the old request behind");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    id
}

async fn signing_key(who: &Person) -> String {
    let keys = who.get("/.well-known/signedapproval/keys.json").await.json();
    let keys = keys["keys"].as_array().expect("keys").clone();
    let mut found = keys
        .iter()
        .filter(|it| it["use"] == "credential" && it["until_seq"].is_null());
    text(found.next_back().expect("one signs"), "keyid")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_dangerous_act_is_done_by_a_session_alone_and_one_admin_gets_going() {
    let scene = scene().await;
    let (ada, it) = (&scene.it.ada, &scene.it);
    let eva = text(&ada.invite("Eva", &["auditor"]).await, "id");
    let old_key = signing_key(ada).await;
    let ends = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let project = format!("{}/{}", scene.api, it.project);
    let old = erasable(it, &project).await;
    let account = it.gitlab.add_user("bea", "Bea", "bea@example.test");
    let hook = json!({"name": "Archive", "kind": "webhook", "url": "http://127.0.0.1:9/"});
    let sink = text(&ada.post("/api/v1/sinks", &hook).await.expect(201), "id");
    // Another name takes whoever is signed in; another place for the journal's copy takes a passkey.
    let renamed = json!({"name": "Vault", "kind": "webhook", "url": "http://127.0.0.1:9/"});
    let elsewhere = json!({"name": "Vault", "kind": "webhook", "url": "http://127.0.0.1:10/"});
    for (body, status) in [(renamed, 200), (elsewhere, 403)] {
        let headers = [("origin", scene.origin.as_str())];
        let bytes = Some(body.to_string().into_bytes());
        let answer = ada
            .send_bare("PUT", &format!("/api/v1/sinks/{sink}"), &headers, bytes)
            .await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let rows = [
        row(
            "people.invite",
            "POST",
            "/api/v1/people",
            json!({"name": "Otto", "email": "otto@example.test", "roles": ["approver"]}),
            Becomes::Done(201),
        ),
        row(
            "people.roles",
            "PATCH",
            format!("/api/v1/people/{eva}"),
            json!({"roles": ["auditor", "approver"]}),
            Becomes::Done(200),
        ),
        row(
            "policy.weaken",
            "PUT",
            "/api/v1/policies/default",
            serde_json::from_str(LOOSE).expect("JSON"),
            Becomes::Done(200),
        ),
        row(
            "project.weaken",
            "PUT",
            project.clone(),
            json!({"branch_patterns": ["main"]}),
            Becomes::Done(200),
        ),
        row(
            "project.remove",
            "DELETE",
            format!("{}/{}", scene.api, scene.second),
            Value::Null,
            Becomes::Done(204),
        ),
        // Nothing was set up from here, which is found out behind the passkey.
        row(
            "gate.put_back",
            "POST",
            format!("{project}/provisioning/undo"),
            json!({}),
            Becomes::Further(403, "not-allowed"),
        ),
        row(
            "group.members",
            "PUT",
            format!("/api/v1/groups/{}", scene.group),
            json!({"name": "release", "members": [it.bea.id(), it.carl.id()]}),
            Becomes::Done(200),
        ),
        row(
            "delegation.make",
            "POST",
            "/api/v1/delegations",
            json!({"from": it.bea.id(), "to": it.carl.id(), "ends": ends}),
            Becomes::Done(201),
        ),
        row(
            "people.recover",
            "POST",
            format!("/api/v1/people/{}/recovery", it.carl.id()),
            json!({}),
            Becomes::Waits,
        ),
        row(
            "documents.erase",
            "POST",
            "/api/v1/erasures",
            json!({"scope": {"of": "request", "request": old}}),
            Becomes::Waits,
        ),
        row(
            "api_key.admin",
            "POST",
            "/api/v1/api-keys",
            json!({"name": "Robot", "scopes": ["admin"]}),
            Becomes::Done(201),
        ),
        row(
            "keys.rotate",
            "POST",
            "/api/v1/keys/rotate",
            json!({"use": "credential"}),
            Becomes::Done(200),
        ),
        row(
            "keys.revoke",
            "POST",
            "/api/v1/keys/revoke",
            json!({"keyid": old_key}),
            Becomes::Done(200),
        ),
        row(
            "account.link",
            "POST",
            format!("/api/v1/people/{}/accounts", it.bea.id()),
            json!({"integration": it.integration.id, "account_id": account.to_string()}),
            Becomes::Done(201),
        ),
        row(
            "sink.remove",
            "DELETE",
            format!("/api/v1/sinks/{sink}"),
            Value::Null,
            Becomes::Done(204),
        ),
        row(
            "integration.remove",
            "DELETE",
            format!("/api/v1/integrations/{}", it.integration.id),
            Value::Null,
            Becomes::Done(204),
        ),
    ];
    let mut tried: Vec<String> = rows.iter().map(|it| it.act.to_owned()).collect();
    let mut named = table();
    tried.sort();
    named.sort();
    assert_eq!(tried, named, "the table and what is tried");

    // The appliance's own entries come when they come.
    let size = async || {
        let mut all = ada.journal("").await;
        all.retain(|it| it["actor"]["name"] == "Ada");
        all.len()
    };
    for it in &rows {
        let before = size().await;
        let alone = it.bare(ada, &scene.origin, &[]).await;
        assert_eq!(alone.status, 403, "{}: {alone:?}", it.act);
        assert_eq!(
            alone.json()["type"],
            "/problems/passkey-needed",
            "{}: {alone:?}",
            it.act
        );
        assert_eq!(size().await, before, "{}: nothing was recorded", it.act);
        let silent = it.bare(ada, &scene.origin, &[("x-reason", " ")]).await;
        assert_eq!(silent.status, 422, "{}: {silent:?}", it.act);
        assert_eq!(silent.json()["field"], "X-Reason", "{}: {silent:?}", it.act);
        // A finger that was not shown, and a word for another call.
        let bytes = it.bytes();
        let unverified = ada
            .confirm(it.method, &it.path, &[], bytes.as_deref(), &[Lie::NotVerified])
            .await;
        assert_problem!(unverified.expect_err("refused"), 401, "ceremony-failed");
        let other = ada
            .confirm(it.method, &it.path, &[], Some(b"{}  "), &[])
            .await
            .expect("another call's word");
        let elsewhere = it.bare(ada, &scene.origin, &[("x-confirmation", &other)]).await;
        assert_problem!(elsewhere, 401, "ceremony-failed");
        let burnt = it.bare(ada, &scene.origin, &[("x-confirmation", &other)]).await;
        assert_problem!(burnt, 409, "ceremony-spent");

        it.check(&it.properly(ada, &scene.origin).await);
        if !matches!(it.becomes, Becomes::Further(..)) {
            let told = ada.journal("ceremony.confirmed").await.pop().expect("an entry");
            assert_eq!(
                (&told["data"]["act"], &told["data"]["reason"]),
                (&json!(it.act), &json!("a test")),
                "{told}"
            );
        }
    }
    scene.it.appliance.assert_journal_verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_two_admins_are_needed_one_alone_changes_nothing() {
    let scene = scene().await;
    let (ada, it) = (&scene.it.ada, &scene.it);
    let dora = ada.bring_in(&it.appliance, "Dora", &["admin"]).await;
    let project = format!("{}/{}", scene.api, it.project);
    let rows = [
        row(
            "policy.weaken",
            "PUT",
            "/api/v1/policies/default",
            serde_json::from_str(LOOSE).expect("JSON"),
            Becomes::Waits,
        ),
        row(
            "project.weaken",
            "PUT",
            project,
            json!({"branch_patterns": ["main"]}),
            Becomes::Waits,
        ),
        row(
            "project.remove",
            "DELETE",
            format!("{}/{}", scene.api, scene.second),
            Value::Null,
            Becomes::Waits,
        ),
        row(
            "people.invite",
            "POST",
            "/api/v1/people",
            json!({"name": "Otto", "email": "otto@example.test", "roles": ["admin"]}),
            Becomes::Waits,
        ),
        row(
            "people.roles",
            "PATCH",
            format!("/api/v1/people/{}", it.bea.id()),
            json!({"roles": ["approver", "admin"]}),
            Becomes::Waits,
        ),
        // An admin lets herself into a group that a policy names.
        row(
            "group.members",
            "PUT",
            format!("/api/v1/groups/{}", scene.group),
            json!({"name": "release", "members": [it.bea.id(), ada.id()]}),
            Becomes::Waits,
        ),
        row(
            "people.recover",
            "POST",
            format!("/api/v1/people/{}/recovery", it.carl.id()),
            json!({}),
            Becomes::Waits,
        ),
    ];
    let state = async || {
        let mut all = Vec::new();
        for path in ["/api/v1/policies", "/api/v1/people", "/api/v1/groups", &scene.api] {
            let mut list = items(&ada.get(path).await);
            // What the forge's settings enforce is looked at meanwhile.
            list.iter_mut().for_each(|it| it["gate"] = Value::Null);
            all.push(Value::from(list));
        }
        all
    };
    for it in &rows {
        let before = state().await;
        let waits = it.properly(ada, &scene.origin).await;
        it.check(&waits);
        let proposal = text(&waits.json(), "proposal");
        assert_eq!(state().await, before, "{}: nothing holds yet", it.act);
        assert_problem!(confirm(ada, &proposal, &[]).await, 403, "not-eligible");
        let lied = confirm(&dora, &proposal, &[Lie::NotVerified]).await;
        assert_problem!(lied, 401, "ceremony-failed");
        assert_eq!(state().await, before, "{}: nothing holds yet", it.act);
        let done = confirm(&dora, &proposal, &[]).await.expect(200);
        assert_eq!(done["state"], "carried_out", "{}: {done}", it.act);
        assert_ne!(state().await, before, "{}: it holds", it.act);
    }
    // Taking a colleague's role would leave one alone, who then needs nobody.
    let alone = row(
        "people.roles",
        "PATCH",
        format!("/api/v1/people/{}", dora.id()),
        json!({"roles": ["auditor"]}),
        Becomes::Waits,
    );
    alone.check(&alone.properly(ada, &scene.origin).await);
    // A forge with gated projects goes only after they went.
    let whole = row(
        "integration.remove",
        "DELETE",
        format!("/api/v1/integrations/{}", it.integration.id),
        Value::Null,
        Becomes::Further(403, "not-allowed"),
    );
    whole.check(&whole.properly(ada, &scene.origin).await);
    // What makes things stricter, or touches no admin and no place of one's own, one does alone.
    let strict = json!({"rules": [], "default": "block"});
    ada.put_policy("another", &strict).await;
    ada.invite("Frida", &["approver"]).await;
    it.appliance.assert_journal_verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_admin_key_asks_of_these_waits_for_a_persons_passkey() {
    let scene = scene().await;
    let (ada, it) = (&scene.it.ada, &scene.it);
    let key = ada.create_api_key("Robot", &["admin"], &[]).await;
    let robot = it.appliance.api().with_key(&key.key);
    let loose: Value = serde_json::from_str(LOOSE).expect("JSON");
    let waits = robot.put("/api/v1/policies/default", &loose).await.expect(202);
    let policies = async || items(&ada.get("/api/v1/policies").await);
    assert!(policies().await.iter().all(|it| it["name"] != "default"));
    let done = confirm(ada, &text(&waits, "proposal"), &[]).await.expect(200);
    assert_eq!(done["state"], "carried_out", "{done}");
    assert!(policies().await.iter().any(|it| it["name"] == "default"));
    for (method, path, body) in [
        (
            "PATCH",
            format!("/api/v1/people/{}", it.bea.id()),
            json!({"roles": ["approver", "admin"]}),
        ),
        (
            "POST",
            "/api/v1/people".to_owned(),
            json!({"name": "Eve", "email": "eve@example.test", "roles": ["admin"]}),
        ),
        (
            "POST",
            "/api/v1/api-keys".to_owned(),
            json!({"name": "Another", "scopes": ["admin"]}),
        ),
        (
            "DELETE",
            format!("/api/v1/integrations/{}", it.integration.id),
            json!({}),
        ),
        (
            "POST",
            "/api/v1/keys/rotate".to_owned(),
            json!({"use": "credential"}),
        ),
    ] {
        let refused = robot.send_json(method, &path, &[], &body).await;
        assert!(
            [401, 403].contains(&refused.status),
            "{method} {path}: {refused:?}"
        );
    }
    // What a directory is joined by goes on: people come and leave.
    let person = json!({"name": "Eve", "email": "eve@example.test", "roles": ["approver"]});
    let eve = text(&robot.post("/api/v1/people", &person).await.expect(201), "id");
    let left = robot
        .patch(&format!("/api/v1/people/{eve}"), &json!({"active": false}))
        .await;
    left.expect(200);
    // Stricter rules need nobody's passkey.
    let strict = json!({"rules": [], "default": "block"});
    robot.put("/api/v1/policies/default", &strict).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_an_admin_who_becomes_an_approver_decides_nothing_that_waits() {
    let it = Gated::start().await;
    let (ada, bea) = (&it.ada, &it.bea);
    let dora = ada.bring_in(&it.appliance, "Dora", &["admin"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await;
    let ci = it.appliance.api().with_key(&key.key);
    let waits = ci.open_request(&json!({"action": "Deploy"})).await;
    let own = json!({"roles": ["admin", "approver"]});
    let proposal = dora
        .patch(&format!("/api/v1/people/{}", dora.id()), &own)
        .await
        .expect(202);
    assert_problem!(dora.decide(&waits, "approve", None).await, 403, "not-eligible");
    confirm(ada, &text(&proposal, "proposal"), &[]).await.expect(200);
    assert_problem!(dora.decide(&waits, "approve", None).await, 403, "not-eligible");
    assert!(!dora.has_in_inbox(&waits).await);
    let next = ci.open_request(&json!({"action": "Deploy again"})).await;
    dora.approve(&next).await;

    // The same of a group.
    let group = text(&ada.create_group("release", &[bea]).await, "id");
    let policy = json!({"rules": [{"name": "Release", "match": {"environment": "production"},
        "require": {"method": ["passkey"], "quorum": 1, "approvers": ["group:release"]}}]});
    let waiting = ada.put("/api/v1/policies/default", &policy).await;
    assert_eq!(waiting.status, 200, "{waiting:?}");
    let deploy = json!({"action": "Deploy", "environment": "production"});
    let waits = ci.open_request(&deploy).await;
    let members = json!({"name": "release", "members": [bea.id(), dora.id()]});
    let proposal = dora
        .put(&format!("/api/v1/groups/{group}"), &members)
        .await
        .expect(202);
    confirm(ada, &text(&proposal, "proposal"), &[]).await.expect(200);
    assert_problem!(dora.decide(&waits, "approve", None).await, 403, "not-eligible");
    let next = ci.open_request(&deploy).await;
    dora.approve(&next).await;
    bea.approve(&waits).await;
}
