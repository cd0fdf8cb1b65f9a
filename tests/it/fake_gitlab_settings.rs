//! Checks the fake GitLab's settings: tiers, webhooks, protected branches, rate limits, and each of their refusals.
//! Nothing here starts the appliance.

use std::time::Duration;

use jiff::Timestamp;
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

#[test]
fn a_tier_opens_what_it_carries_and_nothing_else() {
    let s = Scene::new();
    let paths = [
        "approval_rules",
        "approvals",
        "protected_environments",
        "external_status_checks",
    ];
    let codes = |token: &str| {
        paths.map(|path| {
            s.call("GET", &format!("/projects/{P}/{path}"), token, None)
                .status
        })
    };
    assert_eq!(codes(&s.token), [404, 404, 404, 401], "free");
    s.gitlab.set_tier(Tier::Premium);
    assert_eq!(codes(&s.token), [200, 200, 200, 401]);
    s.gitlab.set_tier(Tier::Ultimate);
    assert_eq!(codes(&s.token), [200, 200, 200, 200]);
    assert_eq!(s.get("/license").status, 403, "administrators only");
    s.gitlab.community_edition();
    assert_eq!(codes(&s.token), [404; 4], "the routes do not exist");
    let told = s.get("/metadata").json();
    assert_eq!(
        (&told["enterprise"], &told["version"]),
        (&json!(false), &json!("19.5.0"))
    );
    s.gitlab.set_tier(Tier::Premium);
    let told = s.get("/metadata").json();
    assert_eq!(
        (&told["enterprise"], &told["version"]),
        (&json!(true), &json!("19.5.0-ee"))
    );
    assert_eq!(s.get("/projects/42").json()["id"], Value::from(P));
}

const SIGNING: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

impl Scene {
    fn ask(&self, method: &str, path: &str, body: Value) -> Got {
        self.call(method, &format!("/projects/{P}/{path}"), &self.token, Some(body))
    }

    fn see(&self, path: &str) -> Value {
        self.get(&format!("/projects/{P}/{path}")).json()
    }
}

#[test]
fn webhooks_are_managed_by_maintainers_and_keep_their_secrets() {
    let s = Scene::new();
    let refused = s.call(
        "POST",
        "/projects/42/hooks",
        &s.ann_token,
        Some(json!({"url": "https://a.example"})),
    );
    assert_eq!(refused.status, 403);
    assert_eq!(
        s.ask("POST", "hooks", json!({})).json()["error"],
        "url is missing"
    );
    let bad = s.ask("POST", "hooks", json!({"url": "ftp://a.example"}));
    assert_eq!(
        (bad.status, &bad.json()["error"]),
        (422, &json!("Invalid url given"))
    );
    let odd = s.ask(
        "POST",
        "hooks",
        json!({"url": "https://a.example", "signing_token": "whsec_short"}),
    );
    assert_eq!(odd.status, 422);
    s.gitlab.block_local_hooks(true);
    for local in [
        "http://127.0.0.1:8080/x",
        "https://10.1.2.3/",
        "http://localhost/",
        "http://[::1]/",
    ] {
        assert_eq!(
            s.ask("POST", "hooks", json!({"url": local})).status,
            422,
            "{local}"
        );
    }
    let body = json!({"url": "https://gate.example/h", "token": "t", "signing_token": SIGNING,
        "push_events": false, "merge_requests_events": true, "name": "Gate"});
    let made = s.ask("POST", "hooks", body.clone());
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!(
        (&made["token_present"], &made["signing_token_present"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        (&made["push_events"], &made["merge_requests_events"]),
        (&json!(false), &json!(true))
    );
    assert!(
        made.get("token").is_none() && made.get("signing_token").is_none(),
        "{made}"
    );
    assert_eq!(
        (&made["alert_status"], &made["disabled_until"]),
        (&json!("executable"), &Value::Null)
    );
    let one = format!("hooks/{}", made["id"]);
    assert_eq!(s.ask("PUT", &one, json!({})).status, 400);
    assert_eq!(
        s.ask("PUT", &one, json!({"pipeline_events": true})).json()["pipeline_events"],
        true
    );
    assert_eq!(s.see("hooks").as_array().unwrap().len(), 1);
    assert_eq!(s.ask("DELETE", &one, json!({})).status, 204);
    assert_eq!(s.ask("DELETE", &one, json!({})).status, 404);

    s.gitlab.set_version("18.11.2-ee");
    let old = s.ask("POST", "hooks", body).json();
    assert_eq!(
        old["signing_token_present"], false,
        "silently ignored before 19.0"
    );
    s.gitlab.set_version("17.2.0-ee");
    assert_eq!(
        s.get(&format!("/projects/42/hooks/{}/events", old["id"])).status,
        404,
        "since 17.3"
    );
}

#[test]
fn webhook_history_resend_and_test_wait_for_the_receiver() {
    let s = Scene::new();
    let (url, got) = receiver("202 Accepted");
    let hook = s.gitlab.register_hook(P, &url, Some("plain secret"), None);
    assert_eq!(
        s.ask(
            "POST",
            &format!("hooks/{hook}/test/merge_requests_events"),
            json!({})
        )
        .status,
        422
    );
    assert_eq!(
        s.ask("POST", &format!("hooks/{hook}/test/nonsense"), json!({}))
            .status,
        400
    );
    s.open();
    let (first, _) = got.recv_timeout(SOON).unwrap();
    s.gitlab.settle(SOON);
    let events = format!("hooks/{hook}/events");
    let entry = s.see(&events)[0].clone();
    assert_eq!(
        (&entry["trigger"], &entry["response_status"]),
        (&json!("merge_request_hooks"), &json!("202"))
    );
    assert_eq!(entry["request_headers"]["X-Gitlab-Token"], "[REDACTED]");
    assert_eq!(entry["request_data"]["object_kind"], "merge_request");
    let again = s.ask("POST", &format!("{events}/{}/resend", entry["id"]), json!({}));
    assert_eq!(
        (again.status, again.json()),
        (201, json!({"response_status": 202}))
    );
    let (second, _) = got.recv_timeout(SOON).unwrap();
    assert_eq!(
        header(&first, "idempotency-key"),
        header(&second, "idempotency-key")
    );
    assert_eq!(
        s.see(&events).as_array().unwrap().len(),
        2,
        "each try is an entry"
    );
    assert_eq!(s.see(&format!("{events}?status=server_failure")), json!([]));
    assert_eq!(
        s.see(&format!("{events}?status=202,client_failure"))
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(s.get(&format!("/projects/42/{events}?status=odd")).status, 400);
    assert_eq!(s.get(&format!("/projects/42/{events}?per_page=21")).status, 400);
    assert_eq!(
        s.ask("POST", &format!("{events}/999999/resend"), json!({}))
            .status,
        404
    );

    s.gitlab.disable_hook(P, hook, None);
    s.gitlab.retitle(P, 1, "Lost", s.ann);
    assert!(
        got.recv_timeout(std::time::Duration::from_millis(100)).is_err(),
        "ended hooks hear nothing"
    );
    assert_eq!(s.see("hooks")[0]["alert_status"], "disabled");
    assert_eq!(
        s.ask(
            "POST",
            &format!("hooks/{hook}/test/merge_requests_events"),
            json!({})
        )
        .status,
        201
    );
    assert_eq!(
        s.see("hooks")[0]["alert_status"],
        "executable",
        "a good test wakes it"
    );
    let soon = Timestamp::now() + jiff::SignedDuration::from_secs(60);
    s.gitlab.disable_hook(P, hook, Some(soon));
    let paused = s.see("hooks")[0].clone();
    assert_eq!(paused["alert_status"], "temporarily_disabled");
    assert!(paused["disabled_until"].is_string());
    s.gitlab.disable_hook(P, hook, Some(Timestamp::now()));
    assert_eq!(
        s.see("hooks")[0]["alert_status"],
        "executable",
        "a pause ends by itself"
    );
    let test = || {
        s.ask(
            "POST",
            &format!("hooks/{hook}/test/merge_requests_events"),
            json!({}),
        )
        .status
    };
    let codes: Vec<u16> = (0..6).map(|_| test()).collect();
    assert!(codes.contains(&429), "five a minute: {codes:?}");

    let (url, _got) = receiver("500 Oops");
    let bad = s.gitlab.register_hook(P, &url, None, None);
    s.gitlab.change_state(|state| state.calls.clear());
    let failed = s.ask(
        "POST",
        &format!("hooks/{bad}/test/merge_requests_events"),
        json!({}),
    );
    assert_eq!((failed.status, failed.message().as_str()), (422, "500"));
}

#[test]
fn protected_branches_follow_the_tier_and_decide_rights() {
    let s = Scene::new();
    let body =
        json!({"name": "main", "push_access_level": 0, "merge_access_level": 40, "allow_force_push": false});
    let refused = s.call(
        "POST",
        "/projects/42/protected_branches",
        &s.ann_token,
        Some(body.clone()),
    );
    assert_eq!(refused.status, 403);
    let wrong = json!({"name": "main", "push_access_level": 20});
    assert_eq!(s.ask("POST", "protected_branches", wrong).status, 400);
    let named = json!({"name": "main", "allowed_to_merge": [{"user_id": s.bot}]});
    let blank = s.ask("POST", "protected_branches", named.clone());
    assert_eq!(
        (blank.status, blank.json()),
        (
            422,
            json!({"message": ["Merge access levels user must be blank"]})
        )
    );
    assert_eq!(s.ask("POST", "protected_branches", body.clone()).status, 201);
    let twice = s.ask("POST", "protected_branches", body);
    assert_eq!(
        (twice.status, twice.message().as_str()),
        (409, "Protected branch 'main' already exists")
    );
    let shown = s.see("protected_branches/main");
    assert_eq!(shown["push_access_levels"][0]["access_level"], 0);
    assert_eq!(shown["merge_access_levels"][0]["access_level"], 40);
    assert!(
        s.gitlab
            .read(|it| it.may_merge_into(P, "main", s.bot) && !it.may_push_to(P, "main", s.bot))
    );
    assert!(!s.gitlab.read(|it| it.may_merge_into(P, "main", s.ann)));
    let forced = s
        .ask(
            "PATCH",
            "protected_branches/main",
            json!({"allow_force_push": true}),
        )
        .json();
    assert_eq!(forced["allow_force_push"], true);
    assert_eq!(s.ask("DELETE", "protected_branches/main", json!({})).status, 204);
    assert_eq!(s.get("/projects/42/protected_branches/main").status, 404);

    s.gitlab.set_tier(Tier::Premium);
    let made = s.ask("POST", "protected_branches", named).json();
    assert_eq!(made["merge_access_levels"][0]["user_id"], s.bot);
    assert_eq!(
        made["push_access_levels"][0]["access_level"], 40,
        "the default where nobody is named"
    );
    let other = s.gitlab.add_user("mia", "Mia", "mia@example.com");
    let stranger = json!({"allowed_to_merge": [{"user_id": other}]});
    assert_eq!(
        s.ask("PATCH", "protected_branches/main", stranger.clone()).status,
        422
    );
    s.gitlab.add_member(P, other, MAINTAINER);
    assert_eq!(s.ask("PATCH", "protected_branches/main", stranger).status, 200);
    let ids = |field: &str| s.see("protected_branches/main")[field].clone();
    let push = ids("push_access_levels")[0]["id"].clone();
    let shut = json!({"allowed_to_push": [{"id": push, "access_level": 0}],
        "allowed_to_merge": [{"id": ids("merge_access_levels")[1]["id"], "_destroy": true}]});
    let shut = s.ask("PATCH", "protected_branches/main", shut).json();
    assert_eq!(shut["merge_access_levels"].as_array().unwrap().len(), 1);
    assert!(s.gitlab.read(|it| it.may_merge_into(P, "main", s.bot)));
    assert!(
        !s.gitlab.read(|it| it.may_merge_into(P, "main", other)),
        "only who is named"
    );
    assert_eq!(
        s.ask(
            "PATCH",
            "protected_branches/main",
            json!({"allowed_to_push": [{"id": 1}]})
        )
        .status,
        404
    );
    // A second level beside the first opens what the first one shut.
    s.ask(
        "PATCH",
        "protected_branches/main",
        json!({"allowed_to_push": [{"access_level": DEVELOPER}]}),
    );
    assert!(s.gitlab.read(|it| it.may_push_to(P, "main", s.ann)));
    let crew = s.gitlab.add_group("crew", &[s.ann]);
    s.ask(
        "PATCH",
        "protected_branches/main",
        json!({"allowed_to_unprotect": [{"group_id": crew}]}),
    );
    assert_eq!(
        s.ask("DELETE", "protected_branches/main", json!({})).status,
        403,
        "only the crew"
    );
}

#[test]
fn project_settings_are_taken_as_the_tier_has_them() {
    let s = Scene::new();
    let put = |body: Value| s.call("PUT", "/projects/42", &s.token, Some(body));
    assert_eq!(put(json!({})).status, 400);
    assert_eq!(put(json!({"merge_method": "octopus"})).status, 400);
    let refused = s.call(
        "PUT",
        "/projects/42",
        &s.ann_token,
        Some(json!({"merge_method": "ff"})),
    );
    assert_eq!(refused.status, 403);
    let body = json!({"only_allow_merge_if_pipeline_succeeds": true, "merge_method": "ff", "squash_option": "always",
        "only_allow_merge_if_all_discussions_are_resolved": true, "allow_merge_on_skipped_pipeline": true,
        "only_allow_merge_if_all_status_checks_passed": true});
    let set = put(body.clone()).json();
    for (name, value) in body.as_object().unwrap() {
        if name != "only_allow_merge_if_all_status_checks_passed" {
            assert_eq!(&set[name], value, "{name}");
        }
    }
    assert!(
        set.get("only_allow_merge_if_all_status_checks_passed").is_none(),
        "Ultimate only"
    );
    s.gitlab.set_tier(Tier::Ultimate);
    assert_eq!(
        put(body).json()["only_allow_merge_if_all_status_checks_passed"],
        true
    );
    let commit = edit("x", vec![Edit::write("x", "x")]);
    s.gitlab.try_push(P, "main", s.ann, &commit).unwrap();
}

#[test]
fn a_limited_token_is_told_to_wait_and_watched() {
    let s = Scene::new();
    s.gitlab.limit_within(2, Duration::from_millis(1200), &s.token);
    let first = s.get("/version");
    let told = |got: &Got, name: &str| got.header(name).to_owned();
    assert_eq!(first.status, 200);
    assert_eq!(
        (
            told(&first, "ratelimit-limit"),
            told(&first, "ratelimit-remaining")
        ),
        ("2".into(), "1".into())
    );
    assert_eq!(told(&first, "ratelimit-observed"), "1");
    assert!(told(&first, "ratelimit-reset").parse::<i64>().unwrap() >= Timestamp::now().as_second());
    s.get("/version");
    let over = s.get("/version");
    assert_eq!((over.status, over.text.as_str()), (429, "Retry later\n"));
    assert_eq!(told(&over, "retry-after"), "2");
    assert_eq!(
        s.call("GET", "/version", &s.ann_token, None).status,
        200,
        "each token has its own"
    );
    s.gitlab.assert_no_violations();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(s.get("/version").status, 429);
    assert_eq!(s.gitlab.violations().len(), 1, "{:?}", s.gitlab.violations());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(s.get("/version").status, 200);
    assert_eq!(s.gitlab.violations().len(), 1);
    assert_eq!(s.gitlab.calls_like("GET", "/version").len(), 6);
    assert_eq!(
        s.gitlab.most_calls_within(Duration::from_secs(1), "", "/version"),
        5
    );
    assert_eq!(s.gitlab.calls_by_minute("GET", "/version"), [6]);
    s.gitlab.unlimited(&s.token);
    assert_eq!(told(&s.get("/version"), "ratelimit-limit"), "");
}
