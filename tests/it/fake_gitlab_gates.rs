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
use crate::support::forge::gitlab::jobs::NewJob;
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

#[test]
fn manual_jobs_are_played_by_who_may_reach_the_branch() {
    let s = Scene::new();
    s.gitlab.protect(P, "main", 0, MAINTAINER, &[]);
    let head = s.gitlab.head(P, "main");
    let (url, got) = receiver("200 OK");
    s.gitlab.register_hook(P, &url, None, None);
    s.gitlab.change_state(|state| {
        let hook = &mut state.project_mut(P).hooks[0];
        hook.events = ["pipeline_events", "job_events", "deployment_events"]
            .map(str::to_owned)
            .into();
    });
    let wanted = [
        NewJob::automatic("test"),
        NewJob::manual("deploy").deploying("production", "production"),
    ];
    let (pipeline, jobs) = s.gitlab.add_job_pipeline(P, "main", &head, s.ann, &wanted);
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(serde_json::from_slice::<Value>(&got.recv_timeout(SOON).unwrap().1).unwrap());
    }
    let hook = told.iter().find(|it| it["object_kind"] == "pipeline").unwrap();
    assert_eq!(hook["object_attributes"]["status"], "manual");
    let build = &hook["builds"][1];
    assert_eq!(
        (&build["manual"], &build["when"], &build["allow_failure"]),
        (&json!(true), &json!("manual"), &json!(false))
    );
    assert_eq!(
        build["environment"],
        json!({"name": "production", "action": "start", "deployment_tier": "production"})
    );

    let (ann, bot) = (s.by(&s.ann_token), s.bot());
    let waiting = bot.see("jobs?scope[]=manual").json();
    assert_eq!(
        (waiting.as_array().unwrap().len(), &waiting[0]["id"]),
        (1, &json!(jobs[1]))
    );
    assert_eq!(
        bot.see(&format!("pipelines/{pipeline}/jobs"))
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(bot.see("jobs?scope[]=odd").status, 400);
    assert_eq!(bot.see("pipelines/7/jobs").status, 404);
    let play = format!("jobs/{}/play", jobs[1]);
    assert_eq!(
        ann.post(&play, json!({})).status,
        403,
        "not on a protected branch"
    );
    let other = bot.post(&format!("jobs/{}/play", jobs[0]), json!({}));
    assert!(
        other.status == 400 && other.message().contains("Unplayable Job"),
        "{}",
        other.text
    );
    let played = bot.post(
        &play,
        json!({"job_variables_attributes": [{"key": "A", "value": "b"}]}),
    );
    assert_eq!(
        (played.status, &played.json()["status"]),
        (200, &json!("pending"))
    );
    assert_eq!(played.json()["user"]["id"], s.bot);
    assert_eq!(
        s.gitlab.job(P, jobs[1]).variables,
        [("A".to_owned(), "b".to_owned())]
    );
    assert_eq!(bot.post(&play, json!({})).status, 400, "played already");
    s.gitlab.set_job(P, jobs[1], "running");
    s.gitlab.set_job(P, jobs[1], "success");
    let mut deployed = Vec::new();
    while deployed.len() < 2 {
        let it: Value = serde_json::from_slice(&got.recv_timeout(SOON).unwrap().1).unwrap();
        if it["object_kind"] == "deployment" {
            deployed.push(it["status"].clone());
        }
    }
    assert_eq!(deployed, [json!("running"), json!("success")]);
    let again = format!("jobs/{}/retry", jobs[1]);
    assert_eq!(ann.post(&again, json!({})).status, 403);
    let anew = bot.post(&again, json!({}));
    assert_eq!((anew.status, &anew.json()["status"]), (201, &json!("pending")));
    assert_eq!(bot.post(&again, json!({})).status, 403, "once only");
    s.gitlab
        .set_job(P, anew.json()["id"].as_u64().unwrap(), "success");
    assert_eq!(
        bot.see(&format!("pipelines/{pipeline}")).json()["status"],
        "success"
    );
    assert_eq!(bot.see("environments").json()[0]["tier"], "production");
    assert_eq!(
        bot.see("deployments?environment=production&status=success")
            .json()[0]["sha"],
        head
    );
    assert_eq!(bot.see("deployments?status=odd").status, 400);

    let (_, jobs) = s
        .gitlab
        .add_job_pipeline(P, "main", &head, s.bot, &[NewJob::manual("again").optional()]);
    assert_eq!(
        ann.post(&format!("jobs/{}/cancel", jobs[0]), json!({})).status,
        403
    );
    let ended = bot.post(&format!("jobs/{}/cancel", jobs[0]), json!({}));
    assert_eq!((ended.status, &ended.json()["status"]), (201, &json!("canceled")));
    assert_eq!(
        s.gitlab.try_play_as(P, jobs[0], s.bot),
        Err("400 Bad request - Unplayable Job".to_owned())
    );
}

#[test]
fn a_protected_environment_blocks_until_it_is_approved_and_then_waits_for_play() {
    let s = Scene::new();
    s.gitlab.set_tier(Tier::Premium);
    let (mia, as_mia) = s.person("mia", MAINTAINER);
    let (bot, head) = (s.bot(), s.gitlab.head(P, "main"));
    let job = || NewJob::manual("deploy").deploying("production", "production");
    let make = || s.gitlab.add_job_pipeline(P, "main", &head, mia, &[job()]).1[0];
    let open = make();
    let free = s.gitlab.deployment(P, open).unwrap();
    assert_eq!(free.status, "blocked");
    let approve = |who: &Asker, deployment: u64, body: Value| {
        who.post(&format!("deployments/{deployment}/approval"), body)
    };
    let yes = || json!({"status": "approved", "comment": "By proof 7"});
    assert_eq!(
        approve(&bot, free.id, yes()).message(),
        "This environment is not protected."
    );

    let path = "protected_environments";
    assert_eq!(
        s.by(&s.ann_token)
            .post(path, json!({"name": "production"}))
            .status,
        403
    );
    assert_eq!(bot.post(path, json!({"name": "production"})).status, 400);
    let body = json!({"name": "production", "deploy_access_levels": [{"access_level": 40}],
        "approval_rules": [{"user_id": s.bot}, {"access_level": 40, "required_approvals": 1}]});
    let made = bot.post(path, body.clone());
    assert_eq!(
        (
            made.status,
            &made.json()["approval_rules"][0]["required_approvals"]
        ),
        (201, &json!(1))
    );
    let twice = bot.post(path, body);
    assert_eq!(
        (twice.status, twice.message().as_str()),
        (409, "Environment 'production' is already protected")
    );
    let role = made.json()["approval_rules"][1]["id"].clone();
    let shut = json!({"approval_rules": [{"id": role, "_destroy": true}]});
    assert_eq!(
        bot.ask("PUT", "protected_environments/production", shut).json()["approval_rules"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let job = make();
    let blocked = bot
        .see("deployments?status=blocked&environment=production&order_by=updated_at&sort=desc")
        .json();
    assert_eq!(
        (&blocked[0]["deployable"]["id"], &blocked[0]["user"]["id"]),
        (&json!(job), &json!(mia))
    );
    assert_eq!(blocked[0]["deployable"]["pipeline"]["sha"], head);
    let id = blocked[0]["id"].as_u64().unwrap();
    let one = bot.see(&format!("deployments/{id}")).json();
    assert_eq!(
        (
            &one["pending_approval_count"],
            &one["approval_summary"]["rules"][0]["user"]["id"]
        ),
        (&json!(1), &json!(s.bot))
    );
    assert_eq!(
        bot.post(&format!("jobs/{job}/play"), json!({})).status,
        400,
        "not approved"
    );
    assert_eq!(
        s.by(&s.ann_token)
            .post(&format!("jobs/{job}/play"), json!({}))
            .status,
        403,
        "may not deploy"
    );
    assert_eq!(approve(&bot, id, json!({})).status, 400);
    assert_eq!(approve(&bot, 7, yes()).status, 404);
    assert!(
        approve(&as_mia, id, yes())
            .message()
            .starts_with("You don't have permission")
    );
    let odd = json!({"status": "approved", "represented_as": "Nobody"});
    assert!(
        approve(&bot, id, odd)
            .message()
            .starts_with("There are no approval rules")
    );
    let said = approve(&bot, id, yes());
    assert_eq!(
        (said.status, &said.json()["comment"]),
        (201, &json!("By proof 7"))
    );
    assert_eq!(
        approve(&bot, id, yes()).message(),
        "This deployment is not waiting for approvals."
    );
    assert_eq!(
        s.gitlab.job(P, job).status,
        "manual",
        "an approval starts nothing"
    );
    let one = bot.see(&format!("deployments/{id}")).json();
    assert_eq!(
        (&one["status"], &one["pending_approval_count"]),
        (&json!("created"), &json!(0))
    );
    assert_eq!(bot.post(&format!("jobs/{job}/play"), json!({})).status, 200);

    let refused = make();
    let id = s.gitlab.deployment(P, refused).unwrap().id;
    approve(&bot, id, json!({"status": "rejected"}));
    let job = s.gitlab.job(P, refused);
    assert_eq!(
        (job.status.as_str(), job.failure.as_deref()),
        ("failed", Some("deployment_rejected"))
    );
    assert_eq!(s.gitlab.deployment(P, refused).unwrap().status, "failed");

    let own = s.gitlab.add_job_pipeline(
        P,
        "main",
        &head,
        s.bot,
        &[NewJob::manual("deploy").deploying("production", "production")],
    );
    let id = s.gitlab.deployment(P, own.1[0]).unwrap().id;
    assert!(
        approve(&bot, id, yes())
            .message()
            .starts_with("You cannot approve your own deployment.")
    );
    s.gitlab.let_triggerer_approve(P, true);
    assert_eq!(approve(&bot, id, yes()).status, 201);
    assert_eq!(
        bot.ask("DELETE", "protected_environments/production", json!({}))
            .status,
        204
    );
    s.gitlab.set_tier(Tier::Free);
    assert_eq!(bot.see(path).status, 404);
}
