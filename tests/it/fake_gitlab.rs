//! Checks the fake GitLab itself: each refusal once, its webhooks against another implementation's signatures, its faults.
//! Nothing here starts the appliance.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::jobs::NewJob;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::GUEST;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::Tier;

pub const P: u64 = 42;
pub const SOON: Duration = Duration::from_secs(10);

/// A project with Ann (developer), a bot (maintainer) and a branch `work` that adds one line to the README.
pub struct Scene {
    pub gitlab: FakeGitLab,
    pub ann: u64,
    pub bot: u64,
    pub token: String,
    pub ann_token: String,
    pub client: reqwest::Client,
    pub runtime: tokio::runtime::Runtime,
}

pub struct Got {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }
    pub fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .map_or_else(|| self.text.clone(), str::to_owned)
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub fn edit(message: &str, edits: Vec<Edit>) -> NewCommit {
    NewCommit::by("Ann", "ann@example.com", message, edits)
}

impl Scene {
    pub fn new() -> Self {
        Self::at("")
    }

    pub fn at(prefix: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let gitlab = FakeGitLab::start_at(prefix);
        let ann = gitlab.add_user("ann", "Ann", "ann@example.com");
        let bot = gitlab.add_user("project_42_bot_a1", "Gate", "gate@example.com");
        gitlab.add_project(P, "group/app");
        gitlab.add_member(P, ann, DEVELOPER);
        gitlab.add_member(P, bot, MAINTAINER);
        gitlab.appliance_is(bot);
        gitlab.branch(P, "work", "main");
        gitlab.commit(
            P,
            "work",
            &edit("Say more", vec![Edit::write("README.md", "# A project\nMore\n")]),
        );
        let token = gitlab.add_token(bot, &["api"]);
        let ann_token = gitlab.add_token(ann, &["api"]);
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            gitlab,
            ann,
            bot,
            token,
            ann_token,
            client,
            runtime,
        }
    }

    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Got, reqwest::Error> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}/api/v4{path}", self.gitlab.base_url());
        self.runtime.block_on(async {
            let mut call = self.client.request(method, url).timeout(SOON);
            if !token.is_empty() {
                call = call.header("PRIVATE-TOKEN", token);
            }
            if let Some(body) = body {
                call = call.json(body);
            }
            let answer = call.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok(Got {
                status,
                headers,
                text: answer.text().await?,
            })
        })
    }

    pub fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Got {
        self.try_call(method, path, token, body.as_ref()).unwrap()
    }

    pub fn get(&self, path: &str) -> Got {
        self.call("GET", path, &self.token, None)
    }

    pub fn post(&self, sha: &str, body: Value) -> Got {
        self.call(
            "POST",
            &format!("/projects/{P}/statuses/{sha}"),
            &self.token,
            Some(body),
        )
    }

    pub fn merge(&self, iid: u64, token: &str, body: Value) -> Got {
        self.call(
            "PUT",
            &format!("/projects/{P}/merge_requests/{iid}/merge"),
            token,
            Some(body),
        )
    }

    pub fn open(&self) -> (u64, String) {
        let iid = self
            .gitlab
            .open_merge_request(P, "work", "main", "Say more", self.ann);
        (iid, self.gitlab.head(P, "work"))
    }
}

#[test]
fn tokens_scopes_and_roles_are_refused_as_gitlab_does() {
    let s = Scene::new();
    let refused = s.call("GET", "/projects/42", "", None);
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (401, "401 Unauthorized")
    );
    assert_eq!(s.call("GET", "/user", "glpat-wrong", None).status, 401);
    assert_eq!(s.get("/user").json()["id"], s.bot);
    assert_eq!(
        s.get("/personal_access_tokens/self").json()["scopes"],
        json!(["api"])
    );
    assert_eq!(s.get("/metadata").json()["enterprise"], true);

    let reader = s.gitlab.add_token(s.bot, &["read_api"]);
    let (_, sha) = s.open();
    assert_eq!(s.call("GET", "/projects/42", &reader, None).status, 200);
    let refused = s.call(
        "POST",
        &format!("/projects/42/statuses/{sha}"),
        &reader,
        Some(json!({"state": "pending"})),
    );
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (403, &json!("insufficient_scope"))
    );

    s.gitlab.revoke_token(&reader);
    assert_eq!(
        s.call("GET", "/user", &reader, None).json()["error"],
        "invalid_token"
    );

    let outsider = s.gitlab.add_user("eve", "Eve", "eve@example.com");
    let eve = s.gitlab.add_token(outsider, &["api"]);
    let hidden = s.call("GET", "/projects/group%2Fapp", &eve, None);
    assert_eq!(
        (hidden.status, hidden.message().as_str()),
        (404, "404 Project Not Found")
    );
    s.gitlab.add_member(P, outsider, GUEST);
    assert_eq!(s.call("GET", "/projects/group%2Fapp", &eve, None).status, 200);
    assert_eq!(
        s.call("GET", "/projects/42/merge_requests", &eve, None).status,
        403
    );
    assert_eq!(
        s.call("GET", "/projects/42/hooks", &s.ann_token, None).status,
        403
    );
}

#[test]
fn wrong_ids_types_and_verbs_are_refused() {
    let s = Scene::new();
    s.open();
    let cases = [
        ("GET", "/projects/42/merge_requests/x", 400),
        ("GET", "/projects/42/merge_requests/9", 404),
        ("GET", "/projects/43", 404),
        ("GET", "/projects/42/merge_requests?state=open", 400),
        ("GET", "/projects/42/merge_requests?updated_after=yesterday", 400),
        ("GET", "/projects/42/merge_requests?page=0", 400),
        ("GET", "/projects/42/repository/commits/ffffffffff", 404),
        ("GET", "/users/x", 400),
        ("GET", "/users/999999", 404),
        ("GET", "/nothing", 404),
        ("POST", "/projects/42/merge_requests/1/merge", 405),
        ("GET", "/projects/42/external_status_checks", 401),
        ("GET", "/projects/42/approval_rules", 404),
    ];
    for (method, path, wanted) in cases {
        assert_eq!(
            s.call(method, path, &s.token, None).status,
            wanted,
            "{method} {path}"
        );
    }
}

#[test]
fn it_answers_only_below_its_path_and_knows_moved_projects() {
    let s = Scene::at("/gitlab");
    assert_eq!(s.get("/version").status, 200);
    let root = s.gitlab.base_url().replace("/gitlab", "");
    let beside = s.runtime.block_on(async {
        s.client
            .get(format!("{root}/api/v4/version"))
            .send()
            .await
            .unwrap()
    });
    assert_eq!(beside.status(), 404);
    s.gitlab.rename_project(P, "group/renamed");
    let moved = s.get("/projects/group%2Fapp/merge_requests");
    assert_eq!(moved.status, 301);
    assert_eq!(
        moved.header("location"),
        format!("{}/api/v4/projects/42/merge_requests", s.gitlab.base_url())
    );
    s.gitlab.add_project(99, "group/app");
    assert_eq!(s.get("/projects/group%2Fapp").status, 404);
}

#[test]
fn merge_requests_carry_what_only_a_single_answer_shows() {
    let s = Scene::new();
    s.gitlab.hold_preparation(P, true);
    let (iid, head) = s.open();
    let early = s.get("/projects/42/merge_requests/1").json();
    assert_eq!(
        (&early["changes_count"], &early["diff_refs"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(early["detailed_merge_status"], "preparing");
    s.gitlab.finish_preparing(P, iid);

    let one = s.get("/projects/42/merge_requests/1").json();
    assert_eq!(one["changes_count"], "1");
    assert_eq!(one["diff_refs"]["base_sha"], s.gitlab.head(P, "main"));
    assert_eq!(
        (&one["sha"], &one["diff_refs"]["head_sha"]),
        (&json!(head), &json!(head))
    );
    assert_eq!(one["detailed_merge_status"], "mergeable");
    let listed = s.get("/projects/42/merge_requests?state=opened&scope=all").json();
    assert_eq!(listed[0]["iid"], 1);
    assert!(listed[0].get("changes_count").is_none() && listed[0].get("diff_refs").is_none());

    let message = "More\n\nWhy.\n\nCo-authored-by: Bob <bob@example.com>\n";
    let new = edit(message, vec![Edit::write("b", "b\n")]).committed_by("Cy", "cy@example.com");
    s.gitlab.push(P, "work", s.ann, &new);
    let commits = s.get("/projects/42/merge_requests/1/commits").json();
    assert_eq!(commits.as_array().unwrap().len(), 2);
    assert_eq!(commits[0]["trailers"]["Co-authored-by"], "Bob <bob@example.com>");
    assert_eq!(
        (&commits[0]["author_email"], &commits[0]["committer_email"]),
        (&json!("ann@example.com"), &json!("cy@example.com"))
    );
}

#[test]
fn diffs_tell_renames_modes_and_kinds_and_are_paged() {
    let s = Scene::new();
    s.gitlab.commit(
        P,
        "main",
        &edit(
            "Base",
            vec![
                Edit::write("src/auth.rs", "fn a() {}\nfn b() {}\n"),
                Edit::write("gone", "x\n"),
                Edit::write("run.sh", "true\n"),
                Edit::write("kind", "file\n"),
            ],
        ),
    );
    s.gitlab.branch(P, "many", "main");
    s.gitlab.commit(
        P,
        "many",
        &edit(
            "All at once",
            vec![
                Edit::rename("src/auth.rs", "docs/auth.md"),
                Edit::delete("gone"),
                Edit::mode("run.sh", "100755"),
                Edit::symlink("kind", "/etc/passwd"),
                Edit::submodule("dep", "1111111111111111111111111111111111111111"),
                Edit::write("big", &"line\n".repeat(60_000)),
            ],
        ),
    );
    s.gitlab.limit_diffs(1000, 100_000);
    s.gitlab.open_merge_request(P, "many", "main", "Many", s.ann);
    let files = s.get("/projects/42/merge_requests/1/diffs?per_page=100").json();
    let find = |new: &str| {
        files
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["new_path"] == new)
            .unwrap()
            .clone()
    };
    let renamed = find("docs/auth.md");
    assert_eq!(
        (&renamed["old_path"], &renamed["renamed_file"]),
        (&json!("src/auth.rs"), &json!(true))
    );
    assert_eq!(
        (&find("gone")["deleted_file"], &find("gone")["b_mode"]),
        (&json!(true), &json!("0"))
    );
    assert_eq!(
        (&find("run.sh")["a_mode"], &find("run.sh")["b_mode"]),
        (&json!("100644"), &json!("100755"))
    );
    assert_eq!(find("dep")["b_mode"], "160000");
    assert_eq!(
        (&find("big")["too_large"], &find("big")["diff"]),
        (&json!(true), &json!(""))
    );
    let kinds: Vec<&Value> = files
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["new_path"] == "kind")
        .collect();
    assert_eq!(kinds.len(), 2, "a change of type is a removal and an addition");

    let page = s.get("/projects/42/merge_requests/1/diffs?per_page=2&page=2");
    assert_eq!(page.json().as_array().unwrap().len(), 2);
    assert_eq!(
        (
            page.header("x-next-page"),
            page.header("x-total"),
            page.header("x-prev-page")
        ),
        ("3", "7", "1")
    );
    assert!(
        page.header("link").contains("rel=\"next\""),
        "{}",
        page.header("link")
    );
    let raw = s.get("/projects/42/merge_requests/1/raw_diffs");
    assert!(
        raw.text
            .contains("rename from src/auth.rs\nrename to docs/auth.md\n"),
        "{}",
        &raw.text[..300]
    );
}

#[test]
fn an_overflowing_diff_is_cut_and_says_so() {
    let s = Scene::new();
    let edits = (0..1200)
        .map(|n| Edit::write(&format!("docs/{n:04}"), "x\n"))
        .collect();
    s.gitlab.commit(P, "work", &edit("Many files", edits));
    s.open();
    assert_eq!(
        s.get("/projects/42/merge_requests/1").json()["changes_count"],
        "1000+"
    );
    let last = s.get("/projects/42/merge_requests/1/diffs?per_page=500&page=10");
    assert_eq!(
        (
            last.header("x-per-page"),
            last.header("x-next-page"),
            last.header("x-total")
        ),
        ("100", "", "1000")
    );
    assert_eq!(
        s.get("/projects/42/merge_requests/1/changes").json()["overflow"],
        true
    );
}

#[test]
fn statuses_follow_the_state_machine() {
    let s = Scene::new();
    let (_, sha) = s.open();
    let body = |state: &str| json!({"state": state, "name": "gate/main", "ref": "work", "description": "d"});
    let first = s.post(&sha, body("pending"));
    assert_eq!((first.status, &first.json()["status"]), (201, &json!("pending")));
    let again = s.post(&sha, body("pending"));
    assert_eq!(again.status, 400);
    assert_eq!(
        again.message(),
        "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \"enqueue\")"
    );
    assert_eq!(s.post(&sha, body("running")).status, 201);
    assert!(
        s.post(&sha, body("running"))
            .message()
            .starts_with("Cannot transition status via :run from :running")
    );
    assert!(
        s.post(&sha, body("pending"))
            .message()
            .starts_with("Cannot transition status via :enqueue from :running")
    );
    assert_eq!(s.post(&sha, body("success")).json()["id"], first.json()["id"]);
    let anew = s.post(&sha, body("pending"));
    assert_eq!(anew.status, 201);
    assert_ne!(anew.json()["id"], first.json()["id"]);

    let list = format!("/projects/42/repository/commits/{sha}/statuses?name=gate/main&ref=work");
    assert_eq!(s.get(&list).json().as_array().unwrap().len(), 1);
    assert_eq!(
        s.get(&format!("{list}&all=true"))
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let commit = s.get(&format!("/projects/42/repository/commits/{sha}")).json();
    assert_eq!(commit["last_pipeline"]["id"], anew.json()["pipeline_id"]);

    // Another user's record of the same name hides ours.
    s.gitlab
        .post_status(P, &sha, s.ann, "gate/main", "work", "success");
    assert_eq!(s.gitlab.status(P, &sha, "gate/main").as_deref(), Some("pending"));
    assert_eq!(s.gitlab.shown_status(P, &sha, "gate/main").unwrap().author, s.ann);
    assert_eq!(s.get(&list).json()[0]["author"]["id"], s.ann);
}

#[test]
fn bad_statuses_are_refused() {
    let s = Scene::new();
    let (_, sha) = s.open();
    let long = "x".repeat(256);
    let cases = [
        (json!({}), 400, "state is missing"),
        (
            json!({"state": "approved"}),
            400,
            "state does not have a valid value",
        ),
        (json!({"state": "pending", "ref": long}), 400, "ref must be"),
        (
            json!({"state": "pending", "description": long}),
            400,
            "is too long (maximum is 255 characters)",
        ),
        (json!({"state": "pending", "name": long}), 400, "is too long"),
        (
            json!({"state": "pending", "target_url": format!("https://a/{long}")}),
            400,
            "is too long",
        ),
        (
            json!({"state": "pending", "target_url": "no address"}),
            400,
            "is blocked",
        ),
        (
            json!({"state": "pending", "target_url": "javascript:1"}),
            400,
            "Only allowed schemes",
        ),
        (
            json!({"state": "pending", "pipeline_id": 7}),
            404,
            "404 Pipeline for pipeline_id, sha and ref Not Found",
        ),
    ];
    for (body, status, words) in cases {
        let got = s.post(&sha, body.clone());
        assert!(
            got.status == status && got.text.contains(words),
            "{body}: {} {}",
            got.status,
            got.text
        );
    }
    let nowhere = s.post(
        "ffffffffffffffffffffffffffffffffffffffff",
        json!({"state": "pending"}),
    );
    assert_eq!(
        (nowhere.status, nowhere.message().as_str()),
        (404, "404 Commit Not Found")
    );
    let loose = s.gitlab.loose_commit(P, &sha, &edit("Loose", vec![]));
    assert_eq!(
        s.post(&loose, json!({"state": "pending"})).message(),
        "404 References for commit Not Found"
    );
    assert!(
        s.gitlab.statuses(P, &sha).is_empty(),
        "a refused status leaves nothing behind"
    );

    s.gitlab.protect(P, "work", 0, MAINTAINER, &[]);
    let path = format!("/projects/42/statuses/{sha}");
    let body = json!({"state": "pending", "ref": "work"});
    assert_eq!(
        s.call("POST", &path, &s.ann_token, Some(body.clone())).status,
        403
    );
    assert_eq!(s.call("POST", &path, &s.token, Some(body)).status, 201);
}

#[test]
fn a_merge_is_refused_in_gitlabs_order() {
    let s = Scene::new();
    s.gitlab.protect(P, "main", 0, MAINTAINER, &[]);
    let (iid, head) = s.open();
    assert_eq!(s.merge(iid, &s.ann_token, json!({"sha": head})).status, 401);
    s.gitlab.set_draft(P, iid, true, s.ann);
    assert_eq!(
        s.merge(iid, &s.token, json!({"sha": "0".repeat(40)})).status,
        405,
        "mergeability comes before the sha"
    );
    s.gitlab.set_draft(P, iid, false, s.ann);
    let moved = s.merge(iid, &s.token, json!({"sha": "0".repeat(40)}));
    assert_eq!(moved.status, 409);
    assert!(
        moved
            .message()
            .starts_with("SHA does not match HEAD of source branch"),
        "{}",
        moved.text
    );

    s.gitlab.set(P, |settings| {
        settings.only_allow_merge_if_pipeline_succeeds = true
    });
    assert_eq!(
        s.merge(iid, &s.token, json!({"sha": head})).status,
        405,
        "no pipeline"
    );
    s.post(
        &head,
        json!({"state": "pending", "name": "gate/main", "ref": "work"}),
    );
    assert_eq!(s.gitlab.detailed_status(P, iid), "ci_still_running");
    assert_eq!(s.merge(iid, &s.token, json!({"sha": head})).status, 405);
    s.post(
        &head,
        json!({"state": "failed", "name": "gate/main", "ref": "work"}),
    );
    assert_eq!(s.gitlab.detailed_status(P, iid), "ci_must_pass");
    s.post(
        &head,
        json!({"state": "success", "name": "gate/main", "ref": "work"}),
    );
    let merged = s.merge(iid, &s.token, json!({"sha": head}));
    assert_eq!((merged.status, &merged.json()["state"]), (200, &json!("merged")));
    assert_eq!(merged.json()["merge_user"]["id"], s.bot);
    assert_eq!(merged.json()["merge_commit_sha"], s.gitlab.head(P, "main"));
    assert_eq!(
        s.merge(iid, &s.token, json!({"sha": head})).status,
        405,
        "merged already"
    );
    let push = &s.get("/projects/42/events?action=pushed").json()[0];
    assert_eq!(
        (&push["push_data"]["ref"], &push["author_id"]),
        (&json!("main"), &json!(s.bot))
    );
}

#[test]
fn a_merge_request_pipeline_outranks_our_status() {
    let s = Scene::new();
    s.gitlab.set(P, |settings| {
        settings.only_allow_merge_if_pipeline_succeeds = true
    });
    let (iid, head) = s.open();
    s.gitlab.add_pipeline(
        P,
        &head,
        "refs/merge-requests/1/head",
        "merge_request_event",
        "success",
        s.ann,
    );
    s.post(
        &head,
        json!({"state": "pending", "name": "gate/main", "ref": "work"}),
    );
    assert_eq!(
        s.gitlab.detailed_status(P, iid),
        "mergeable",
        "the pending status blocks nothing"
    );
}

#[test]
fn conflicts_auto_merge_and_approvals() {
    let s = Scene::new();
    let (iid, head) = s.open();
    s.gitlab.push(
        P,
        "main",
        s.bot,
        &edit("Other words", vec![Edit::write("README.md", "# Else\n")]),
    );
    assert_eq!(s.merge(iid, &s.token, json!({"sha": head})).status, 422);
    let main = s.gitlab.head(P, "main");
    let fixed = edit("Merge main", vec![Edit::write("README.md", "# Both\n")]).merging(&main);
    let head = s.gitlab.push(P, "work", s.ann, &fixed);
    assert_eq!(
        s.get("/projects/42/merge_requests/1").json()["diff_refs"]["base_sha"],
        main
    );

    let approve = |body: Value| {
        s.call(
            "POST",
            "/projects/42/merge_requests/1/approve",
            &s.token,
            Some(body),
        )
    };
    s.gitlab.set(P, |settings| {
        settings.approvals_required = 1;
        settings.only_allow_merge_if_pipeline_succeeds = true;
    });
    assert_eq!(s.gitlab.detailed_status(P, iid), "not_approved");
    assert_eq!(approve(json!({"sha": main})).status, 409);
    assert_eq!(approve(json!({"sha": head})).status, 201);
    assert_eq!(approve(json!({"sha": head})).status, 401, "twice");

    s.post(
        &head,
        json!({"state": "pending", "name": "gate/main", "ref": "work"}),
    );
    assert_eq!(
        s.merge(iid, &s.token, json!({"sha": head, "auto_merge": true}))
            .json()["state"],
        "opened"
    );
    s.post(
        &head,
        json!({"state": "success", "name": "gate/main", "ref": "work"}),
    );
    assert_eq!(s.gitlab.merge_request(P, iid).state, "merged");
}

#[test]
fn a_push_takes_approvals_and_auto_merge_away() {
    let s = Scene::new();
    s.gitlab.set_tier(Tier::Premium);
    s.gitlab.set(P, |settings| {
        settings.only_allow_merge_if_pipeline_succeeds = true
    });
    let (iid, head) = s.open();
    s.post(
        &head,
        json!({"state": "pending", "name": "gate/main", "ref": "work"}),
    );
    s.call("POST", "/projects/42/merge_requests/1/approve", &s.token, None);
    s.gitlab.auto_merge(P, iid, s.ann);
    let new = s
        .gitlab
        .push(P, "work", s.ann, &edit("Later", vec![Edit::write("late", "x\n")]));
    let change = s.gitlab.merge_request(P, iid);
    assert_eq!(
        (change.head.clone(), change.approvals.len(), change.auto_merge),
        (new, 0, None)
    );
    s.gitlab.force_push(P, "work", s.ann, &head);
    assert_eq!(s.gitlab.merge_request(P, iid).head, head);
    s.post(
        &head,
        json!({"state": "success", "name": "gate/main", "ref": "work"}),
    );
    assert_eq!(s.gitlab.merge_request(P, iid).state, "opened");
}

#[test]
fn a_fork_merge_request_is_not_gated_by_our_status() {
    let s = Scene::new();
    s.gitlab.set(P, |settings| {
        settings.only_allow_merge_if_pipeline_succeeds = true
    });
    s.gitlab.fork(P, 77, "ann/app");
    s.gitlab.add_member(77, s.ann, MAINTAINER);
    s.gitlab.commit(
        77,
        "theirs",
        &edit("From the fork", vec![Edit::write("f", "f\n")]),
    );
    let iid = s
        .gitlab
        .open_fork_merge_request(P, 77, "theirs", "main", "Fork", s.ann);
    let head = s.gitlab.head(77, "theirs");
    assert_eq!(
        s.post(&head, json!({"state": "success", "name": "g"})).message(),
        "404 References for commit Not Found"
    );
    assert_eq!(
        s.post(&head, json!({"state": "success", "name": "g", "ref": "theirs"}))
            .status,
        201
    );
    assert_eq!(
        s.gitlab.detailed_status(P, iid),
        "ci_must_pass",
        "the fork's pipeline counts, not ours"
    );
    assert_eq!(s.get("/projects/77").status, 404);
}

/// Takes webhooks and keeps head and body of each.
pub fn receiver(answer: &'static str) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks/gitlab/i1", listener.local_addr().unwrap());
    let (report, got) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut piece = [0; 4096];
            let (head, body) = loop {
                let n = stream.read(&mut piece).unwrap();
                bytes.extend_from_slice(&piece[..n]);
                let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
                    continue;
                };
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                });
                let length: usize = length.unwrap().parse().unwrap();
                if bytes.len() >= end + 4 + length {
                    break (head, bytes[end + 4..].to_vec());
                }
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            if report.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, got)
}

pub fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let found = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| panic!("no header {name} in {head}")).1
}

#[test]
fn webhooks_are_signed_ordered_and_can_be_sent_again() {
    let s = Scene::new();
    let (url, got) = receiver("202 Accepted");
    let signing = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    s.gitlab
        .register_hook(P, &url, Some("plain secret"), Some(signing));
    let (iid, old) = s.open();
    let (head, body) = got.recv_timeout(SOON).unwrap();
    assert_eq!(header(&head, "x-gitlab-event"), "Merge Request Hook");
    assert_eq!(header(&head, "x-gitlab-token"), "plain secret");
    assert_eq!(header(&head, "x-gitlab-instance"), s.gitlab.base_url());
    assert_eq!(header(&head, "webhook-id"), header(&head, "idempotency-key"));
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, header(&head, name).parse().unwrap());
    }
    standardwebhooks::Webhook::new(signing)
        .unwrap()
        .verify(&body, &headers)
        .unwrap();
    let opened: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(opened["object_attributes"]["action"], "open");
    assert_eq!(opened["object_attributes"]["last_commit"]["id"], old);
    assert_eq!(opened["user"]["email"], "[REDACTED]");

    s.gitlab
        .push(P, "work", s.ann, &edit("Next", vec![Edit::write("n", "n\n")]));
    let (push, _) = got.recv_timeout(SOON).unwrap();
    assert_eq!(header(&push, "x-gitlab-event"), "Push Hook");
    let (_, body) = got.recv_timeout(SOON).unwrap();
    let update: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (
            &update["object_attributes"]["action"],
            &update["object_attributes"]["oldrev"]
        ),
        (&json!("update"), &json!(old))
    );

    s.gitlab.settle(SOON);
    let first = s.gitlab.deliveries()[0].clone();
    assert_eq!(first.attempts[0].status, Some(202));
    s.gitlab.deliver_twice(first.id);
    for _ in 0..2 {
        let (again, _) = got.recv_timeout(SOON).unwrap();
        assert_eq!(header(&again, "idempotency-key"), first.key);
    }
    let bent = s
        .gitlab
        .request_of(first.id)
        .with("X-Gitlab-Token", "other")
        .without("webhook-signature");
    assert_eq!(s.gitlab.send_raw(bent).status, Some(202));
    let (bent, _) = got.recv_timeout(SOON).unwrap();
    assert_eq!(header(&bent, "x-gitlab-token"), "other");
    assert!(!bent.contains("webhook-signature"));

    s.gitlab.settle(SOON);
    s.gitlab.hold_hooks();
    s.gitlab.close(P, iid, s.ann);
    s.gitlab.reopen(P, iid, s.ann);
    s.gitlab.hooks_off();
    s.gitlab.retarget(P, iid, "main", s.ann);
    s.gitlab.hooks_on();
    let held = s.gitlab.held();
    assert_eq!(held.len(), 2);
    for delivery in held.iter().rev() {
        s.gitlab.release(delivery.id);
    }
    let actions: Vec<String> = (0..2)
        .map(|_| {
            let body: Value = serde_json::from_slice(&got.recv_timeout(SOON).unwrap().1).unwrap();
            body["object_attributes"]["action"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(actions, ["reopen", "close"]);
    assert!(
        got.recv_timeout(Duration::from_millis(200)).is_err(),
        "what was lost stays lost"
    );

    let hook = s.get("/projects/42/hooks").json()[0].clone();
    assert_eq!(
        (&hook["token_present"], &hook["signing_token_present"]),
        (&json!(true), &json!(true))
    );
    assert!(hook.get("token").is_none() && hook.get("signing_token").is_none());
    let events = s.get(&format!(
        "/projects/42/hooks/{}/events?status=successful",
        hook["id"]
    ));
    assert!(
        !events.text.contains("plain secret"),
        "the history redacts the token"
    );
    assert_eq!(events.json()[0]["response_status"], "202");
}

#[test]
fn a_hook_that_fails_is_recorded_and_paused_where_the_instance_does_that() {
    let s = Scene::new();
    let (url, _got) = receiver("500 Oops");
    s.gitlab.register_hook(P, &url, None, None);
    s.gitlab.change_state(|state| state.auto_disable_hooks = true);
    let (iid, _) = s.open();
    for n in 0..4 {
        s.gitlab.settle(SOON);
        s.gitlab.retitle(P, iid, &format!("Title {n}"), s.ann);
    }
    s.gitlab.settle(SOON);
    assert_eq!(
        s.get("/projects/42/hooks").json()[0]["alert_status"],
        "temporarily_disabled"
    );
    assert_eq!(s.gitlab.deliveries().last().unwrap().attempts.len(), 0);
}

#[test]
fn faults_come_as_planned_and_then_are_over() {
    let s = Scene::new();
    let (_, sha) = s.open();
    let body = json!({"state": "pending", "name": "g", "ref": "work"});
    s.gitlab
        .fail("POST", "/projects/*/statuses/*", 1, Trouble::RetryLater(1));
    let late = s.post(&sha, body.clone());
    assert_eq!(
        (late.status, late.text.trim(), late.header("retry-after")),
        (429, "Retry later", "1")
    );
    assert!(s.gitlab.statuses(P, &sha).is_empty());
    s.gitlab.assert_retry_after_respected();
    assert_eq!(s.get("/version").status, 200);
    assert!(
        s.gitlab.calls().last().unwrap().too_early,
        "a call inside Retry-After is noticed"
    );

    s.gitlab.fail("POST", "statuses", 1, Trouble::StatusLocked);
    assert_eq!(
        s.post(&sha, body.clone()).message(),
        "Another update to this commit status is in progress"
    );
    s.gitlab.fail("POST", "statuses", 1, Trouble::NotStored);
    assert_eq!(s.post(&sha, body.clone()).status, 201);
    assert!(s.gitlab.statuses(P, &sha).is_empty(), "answered but not stored");
    s.gitlab.fail("POST", "statuses", 1, Trouble::LostAnswer(502));
    let lost = s.post(&sha, body);
    assert_eq!(
        (lost.status, lost.header("content-type")),
        (502, "text/html; charset=utf-8")
    );
    assert_eq!(
        s.gitlab.status(P, &sha, "g").as_deref(),
        Some("pending"),
        "stored but not answered"
    );

    s.gitlab.fail_after(1, "GET", "/version", 1, Trouble::Code(500));
    let codes: Vec<u16> = (0..3).map(|_| s.get("/version").status).collect();
    assert_eq!(codes, [200, 500, 200]);
    s.gitlab.fail("", "/version", 1, Trouble::Html);
    assert!(s.get("/version").text.starts_with("<!DOCTYPE html>"));
    s.gitlab
        .fail("", "/version", 1, Trouble::Json(200, json!({"version": 7})));
    assert_eq!(s.get("/version").json(), json!({"version": 7}));
    s.gitlab.fail("", "/version", 1, Trouble::CutBody);
    assert!(
        s.try_call("GET", "/version", &s.token, None).is_err(),
        "the body breaks off"
    );
    s.gitlab.fail("", "/version", 1, Trouble::Flood(3_000_000));
    assert_eq!(s.get("/version").text.len(), 3_000_000);
    s.gitlab
        .fail("", "/version", 1, Trouble::Hang(Duration::from_millis(300)));
    let begun = Instant::now();
    assert_eq!(s.get("/version").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));

    s.gitlab.go_away();
    assert!(
        s.try_call("GET", "/version", &s.token, None).is_err(),
        "nobody listens"
    );
    s.gitlab.come_back();
    assert_eq!(s.get("/version").status, 200);
}

#[test]
fn successes_are_put_to_the_check() {
    let s = Scene::new();
    let (_, sha) = s.open();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    s.gitlab.on_success(Box::new(move |sha, name, _| {
        seen.lock().unwrap().push((P, sha.to_owned(), name.to_owned()));
        if name == "good" {
            Ok(())
        } else {
            Err("no quorum".to_owned())
        }
    }));
    s.gitlab.post_status(P, &sha, s.ann, "forged", "work", "success");
    s.post(&sha, json!({"state": "pending", "name": "good", "ref": "work"}));
    s.post(&sha, json!({"state": "success", "name": "good", "ref": "work"}));
    s.gitlab.assert_no_violations();
    s.post(&sha, json!({"state": "success", "name": "bad", "ref": "work"}));
    assert_eq!(
        asked.lock().unwrap().len(),
        2,
        "asked for the appliance's successes and no others"
    );
    let found = s.gitlab.violations();
    assert!(found.len() == 1 && found[0].contains("no quorum"), "{found:?}");
}

#[test]
fn waiting_ends_with_the_change() {
    let s = Scene::new();
    let (iid, _) = s.open();
    let (gitlab, ann) = (s.gitlab.clone(), s.ann);
    let waiting =
        std::thread::spawn(move || gitlab.wait_for(|g| g.merge_request(P, iid).state == "closed", SOON));
    s.gitlab.close(P, iid, ann);
    assert!(waiting.join().unwrap());
    assert!(!s.gitlab.wait_for(|_| false, Duration::from_millis(20)));
}

/// Runs a phase of `python_gitlab.py` in the virtual environment that `tests/run` makes.
fn python_gitlab(s: &Scene, phase: &str, more: Value) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run tests/run once, which installs python-gitlab there",
        python.display()
    );
    let mut given = json!({
        "url": s.gitlab.base_url(),
        "project": P,
        "tokens": {"bot": s.token, "ann": s.ann_token},
        "users": {"bot": s.bot, "ann": s.ann},
    });
    given
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let out = std::process::Command::new(python)
        .arg(root.join("tests/it/python_gitlab.py"))
        .args([phase, &given.to_string()])
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let calls: Vec<String> = s
        .gitlab
        .calls()
        .iter()
        .rev()
        .take(3)
        .map(|call| format!("{call:?}"))
        .collect();
    assert!(
        out.status.success(),
        "phase {phase}: {}\n{}{}\nlast calls, newest first:\n{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
        calls.join("\n")
    );
}

#[test]
fn another_ones_client_finds_gitlab_on_free() {
    let s = Scene::new();
    python_gitlab(&s, "free", json!({}));
    s.gitlab.assert_no_violations();
}

#[test]
fn another_ones_client_finds_gitlab_on_ultimate() {
    let s = Scene::new();
    s.gitlab.set_tier(Tier::Ultimate);
    let (url, _got) = receiver("200 OK");
    python_gitlab(&s, "paid", json!({"receiver": url}));
    let deploying = NewJob::manual("deploy").deploying("production", "production");
    let head = s.gitlab.head(P, "main");
    let jobs = [deploying, NewJob::manual("notify")];
    let (pipeline, jobs) = s.gitlab.add_job_pipeline(P, "main", &head, s.ann, &jobs);
    let more = json!({"pipeline": pipeline, "gated_job": jobs[0], "free_job": jobs[1]});
    python_gitlab(&s, "deploy", more);
    s.gitlab.assert_no_violations();
}
