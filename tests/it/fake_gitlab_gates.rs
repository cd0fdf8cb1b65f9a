//! Checks what the fake GitLab gates with: approvals, external status checks, jobs, deployments.
//! Nothing here starts the appliance.

use hmac::KeyInit;
use hmac::Mac;
use serde_json::Value;
use serde_json::json;

use crate::fake_gitlab::Got;
use crate::fake_gitlab::P;
use crate::fake_gitlab::SOON;
use crate::fake_gitlab::Scene;
use crate::fake_gitlab::edit;
use crate::fake_gitlab::header;
use crate::fake_gitlab::receiver;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::Tier;

/// One who asks below the project.
struct Asker<'a> {
    scene: &'a Scene,
    token: String,
}

impl Scene {
    fn by(&self, token: &str) -> Asker<'_> {
        Asker {
            scene: self,
            token: token.to_owned(),
        }
    }

    fn bot(&self) -> Asker<'_> {
        self.by(&self.token)
    }

    fn person(&self, name: &str, level: u64) -> (u64, Asker<'_>) {
        let user = self.gitlab.add_user(name, name, &format!("{name}@example.com"));
        self.gitlab.add_member(P, user, level);
        let token = self.gitlab.add_token(user, &["api"]);
        (user, self.by(&token))
    }
}

impl Asker<'_> {
    fn ask(&self, method: &str, path: &str, body: Value) -> Got {
        self.scene
            .call(method, &format!("/projects/{P}/{path}"), &self.token, Some(body))
    }

    fn post(&self, path: &str, body: Value) -> Got {
        self.ask("POST", path, body)
    }

    fn see(&self, path: &str) -> Got {
        self.scene
            .call("GET", &format!("/projects/{P}/{path}"), &self.token, None)
    }
}

#[test]
fn approvals_require_nothing_on_free() {
    let s = Scene::new();
    let (_, head) = s.open();
    let ann = s.by(&s.ann_token);
    let given = ann.post("merge_requests/1/approve", json!({"sha": head}));
    assert_eq!(given.status, 201, "authors too, on Free");
    let body = given.json();
    assert_eq!(
        (&body["approvals_required"], &body["user_has_approved"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(body["approved_by"][0]["user"]["id"], s.ann);
    s.gitlab
        .push(P, "work", s.ann, &edit("More", vec![Edit::write("m", "m")]));
    assert_eq!(
        s.gitlab.merge_request(P, 1).approvals.len(),
        1,
        "Free takes none back"
    );
    assert_eq!(ann.post("merge_requests/1/unapprove", json!({})).status, 201);
    assert_eq!(ann.post("merge_requests/1/unapprove", json!({})).status, 404);
    assert_eq!(
        s.bot()
            .post("approvals", json!({"reset_approvals_on_push": true}))
            .status,
        404
    );
}

#[test]
fn approval_rules_block_until_whom_they_name_has_approved() {
    let s = Scene::new();
    s.gitlab.set_tier(Tier::Premium);
    s.gitlab.protect(P, "main", 0, MAINTAINER, &[]);
    let (mia, as_mia) = s.person("mia", MAINTAINER);
    let outsider = s.gitlab.add_user("eve", "Eve", "eve@example.com");
    let (iid, head) = s.open();
    let bot = s.bot();
    let rule = json!({"name": "Gate", "approvals_required": 1, "user_ids": [s.bot, outsider],
        "applies_to_all_protected_branches": true});
    assert_eq!(
        s.by(&s.ann_token).post("approval_rules", rule.clone()).status,
        403
    );
    assert_eq!(bot.post("approval_rules", json!({"name": "x"})).status, 400);
    let made = bot.post("approval_rules", rule.clone()).json();
    assert_eq!(
        made["users"].as_array().unwrap().len(),
        1,
        "outsiders are dropped in silence: {made}"
    );
    assert_eq!(made["protected_branches"][0]["name"], "main");
    assert_eq!(bot.post("approval_rules", rule).status, 400, "the name is taken");
    assert_eq!(s.gitlab.detailed_status(P, iid), "not_approved");
    assert_eq!(s.merge(iid, &s.token, json!({"sha": head})).status, 405);
    assert_eq!(as_mia.post("merge_requests/1/approve", json!({})).status, 201);
    assert_eq!(
        s.gitlab.detailed_status(P, iid),
        "not_approved",
        "not her approval"
    );
    assert_eq!(
        bot.post("merge_requests/1/approve", json!({"sha": "0".repeat(40)}))
            .status,
        409
    );
    assert_eq!(
        s.by(&s.ann_token)
            .post("merge_requests/1/approve", json!({}))
            .status,
        401,
        "its author"
    );
    assert_eq!(
        bot.post("merge_requests/1/approve", json!({"sha": head})).status,
        201
    );
    assert_eq!(
        bot.post("merge_requests/1/approve", json!({"sha": head})).status,
        401,
        "twice"
    );
    let state = bot.see("merge_requests/1/approval_state").json();
    assert_eq!(
        (
            &state["rules"][0]["approved"],
            &state["rules"][0]["approved_by"][0]["id"]
        ),
        (&json!(true), &json!(s.bot))
    );
    let all = bot.see("merge_requests/1/approvals").json();
    assert_eq!(
        (
            &all["approvals_required"],
            &all["approvals_left"],
            &all["approved"]
        ),
        (&json!(1), &json!(0), &json!(true))
    );
    assert_eq!(s.gitlab.detailed_status(P, iid), "mergeable");

    s.gitlab
        .push(P, "work", s.ann, &edit("More", vec![Edit::write("m", "m")]));
    assert_eq!(
        s.gitlab.detailed_status(P, iid),
        "not_approved",
        "a push takes them back"
    );
    let path = format!("approval_rules/{}", made["id"]);
    assert_eq!(
        bot.ask("PUT", &path, json!({"approvals_required": 0})).json()["approvals_required"],
        0
    );
    assert_eq!(s.gitlab.detailed_status(P, iid), "mergeable");
    bot.ask("PUT", &path, json!({"approvals_required": 1}));
    // A rule nobody is left to fulfil is fulfilled: here the only approver becomes a committer.
    bot.post(
        "approvals",
        json!({"merge_requests_disable_committers_approval": true}),
    );
    let by_bot = edit("By the bot", vec![]).committed_by("Gate", "gate@example.com");
    s.gitlab.push(P, "work", s.ann, &by_bot);
    assert_eq!(
        bot.post("merge_requests/1/approve", json!({})).status,
        401,
        "a committer"
    );
    assert_eq!(
        s.gitlab.detailed_status(P, iid),
        "mergeable",
        "GitLab lets an unfulfillable rule pass"
    );
    assert_eq!(bot.ask("DELETE", &path, json!({})).status, 204);
    assert_eq!(bot.see(&path).status, 404);
    s.gitlab.merge_as(P, iid, mia);
}

#[test]
fn approval_settings_are_kept_and_followed() {
    let s = Scene::new();
    s.gitlab.set_tier(Tier::Premium);
    s.open();
    let bot = s.bot();
    assert_eq!(bot.post("approvals", json!({})).status, 400);
    assert_eq!(
        s.by(&s.ann_token)
            .post("approvals", json!({"reset_approvals_on_push": false}))
            .status,
        403
    );
    let set = json!({"reset_approvals_on_push": false, "disable_overriding_approvers_per_merge_request": true,
        "merge_requests_author_approval": true, "require_password_to_approve": true});
    assert_eq!(bot.post("approvals", set.clone()).status, 201);
    let kept = bot.see("approvals").json();
    for (name, value) in set.as_object().unwrap() {
        assert_eq!(&kept[name], value, "{name}");
    }
    assert_eq!(
        bot.post("merge_requests/1/approve", json!({})).status,
        401,
        "a token has no password"
    );
    bot.post("approvals", json!({"require_password_to_approve": false}));
    assert_eq!(bot.post("merge_requests/1/approve", json!({})).status, 201);
    assert_eq!(
        s.by(&s.ann_token)
            .ask("PUT", "merge_requests/1/reset_approvals", json!({}))
            .status,
        401,
        "bots only"
    );
    assert_eq!(
        bot.ask("PUT", "merge_requests/1/reset_approvals", json!({}))
            .status,
        202
    );
    let other = json!({"name": "dev only", "approvals_required": 1, "user_ids": [s.bot], "protected_branch_ids": [999]});
    assert_eq!(
        bot.post("approval_rules", other).json()["protected_branches"],
        json!([])
    );
    let (_, guest) = s.person("gus", 10);
    assert_eq!(guest.post("merge_requests/1/approve", json!({})).status, 403);
}

#[test]
fn a_status_check_is_told_answered_and_times_out() {
    let s = Scene::new();
    s.gitlab.set_tier(Tier::Ultimate);
    let (url, got) = receiver("200 OK");
    let bot = s.bot();
    let check = json!({"name": "Gate", "external_url": url, "shared_secret": "hush"});
    assert_eq!(
        s.by(&s.ann_token)
            .post("external_status_checks", check.clone())
            .status,
        401
    );
    assert_eq!(
        bot.post("external_status_checks", json!({"name": "Gate"})).status,
        400
    );
    let made = bot.post("external_status_checks", check.clone()).json();
    assert_eq!(made["hmac"], true);
    assert!(!made.to_string().contains("hush"));
    assert_eq!(
        bot.post("external_status_checks", check).status,
        422,
        "name and address are unique"
    );
    s.gitlab
        .set(P, |it| it.only_allow_merge_if_all_status_checks_passed = true);
    let (iid, head) = s.open();
    let (told, body) = got.recv_timeout(SOON).unwrap();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"hush").unwrap();
    mac.update(&body);
    assert_eq!(
        header(&told, "x-gitlab-signature"),
        hex::encode(mac.finalize().into_bytes())
    );
    assert!(!told.to_lowercase().contains("idempotency-key"), "{told}");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&body["object_kind"], &body["external_approval_rule"]["id"]),
        (&json!("merge_request"), &made["id"])
    );

    let status = || bot.see("merge_requests/1/status_checks").json()[0]["status"].clone();
    assert_eq!(status(), "pending");
    assert_eq!(s.gitlab.detailed_status(P, iid), "status_checks_must_pass");
    assert_eq!(s.merge(iid, &s.token, json!({"sha": head})).status, 405);
    let respond = |who: &Asker, sha: &str, id: &Value, status: &str| {
        let body = json!({"sha": sha, "external_status_check_id": id, "status": status});
        who.post("merge_requests/1/status_check_responses", body).status
    };
    assert_eq!(respond(&bot, &"0".repeat(40), &made["id"], "passed"), 409);
    assert_eq!(respond(&bot, &head, &json!(7), "passed"), 404);
    assert_eq!(respond(&bot, &head, &made["id"], "green"), 400);
    let retry = format!("merge_requests/1/status_checks/{}/retry", made["id"]);
    assert_eq!(bot.post(&retry, json!({})).status, 422, "not failed");
    s.gitlab.time_out_status_checks(P);
    assert_eq!(status(), "failed", "after two minutes");
    assert_eq!(bot.post(&retry, json!({})).status, 202);
    got.recv_timeout(SOON).unwrap();
    assert_eq!(status(), "pending");
    let (_, dev) = s.person("dev", DEVELOPER);
    assert_eq!(
        respond(&dev, &head, &made["id"], "passed"),
        201,
        "any Developer may"
    );
    assert_eq!(s.gitlab.detailed_status(P, iid), "mergeable");
    s.gitlab
        .push(P, "work", s.ann, &edit("More", vec![Edit::write("m", "m")]));
    assert_eq!(status(), "pending", "for another head");
    let path = format!("external_status_checks/{}", made["id"]);
    assert_eq!(
        bot.ask("PUT", &path, json!({"name": "Other"})).json()["name"],
        "Other"
    );
    assert_eq!(bot.ask("DELETE", &path, json!({})).status, 204);
    assert_eq!(s.gitlab.detailed_status(P, iid), "mergeable");
}
