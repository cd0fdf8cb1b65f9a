//! Checks the fake GitLab's history: branches, compares, merges of every method, pushes around the merge button, lists.
//! Nothing here starts the appliance.

use serde_json::Value;
use serde_json::json;

use crate::fake_gitlab::P;
use crate::fake_gitlab::Scene;
use crate::fake_gitlab::edit;
use crate::support::forge::gitlab::changes::StatusPost;
use crate::support::forge::gitlab::merging::MergeWish;
use crate::support::forge::gitlab::repository::Edit;

fn names(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|it| it[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn branches_are_listed_searched_and_compared() {
    let s = Scene::new();
    s.gitlab.branch(P, "release/1", "main");
    s.gitlab.branch(P, "old", "main");
    s.gitlab
        .commit(P, "main", &edit("On main", vec![Edit::write("m", "m\n")]));
    s.gitlab.protect(P, "main", 0, 40, &[]);
    let list = |query: &str| {
        names(
            &s.get(&format!("/projects/42/repository/branches?{query}")).json(),
            "name",
        )
    };
    assert_eq!(list(""), ["main", "old", "release/1", "work"]);
    assert_eq!(list("search=^re"), ["release/1"]);
    assert_eq!(list("search=LD"), ["old"]);
    assert_eq!(list("regex=^(main|work)$"), ["main", "work"]);
    assert_eq!(s.get("/projects/42/repository/branches?regex=(").status, 400);
    let main = s.get("/projects/42/repository/branches/main").json();
    assert_eq!(
        (&main["protected"], &main["default"], &main["merged"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_eq!(main["commit"]["id"], s.gitlab.head(P, "main"));
    assert_eq!(
        s.get("/projects/42/repository/branches/old").json()["merged"],
        true
    );
    assert_eq!(s.get("/projects/42/repository/branches/release%2F1").status, 200);
    assert_eq!(s.get("/projects/42/repository/branches/nope").status, 404);

    let there = s.get("/projects/42/repository/compare?from=main&to=work").json();
    assert_eq!(names(&there["commits"], "title"), ["Say more"]);
    assert_eq!(names(&there["diffs"], "new_path"), ["README.md"]);
    assert_eq!(
        (&there["compare_timeout"], &there["compare_same_ref"]),
        (&json!(false), &json!(false))
    );
    let straight = s
        .get("/projects/42/repository/compare?from=main&to=work&straight=true")
        .json();
    assert_eq!(names(&straight["diffs"], "new_path"), ["README.md", "m"]);
    let same = s.get("/projects/42/repository/compare?from=main&to=main").json();
    assert_eq!(
        (&same["compare_same_ref"], &same["commit"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(s.get("/projects/42/repository/compare?from=main").status, 400);
    let unknown = s.get("/projects/42/repository/compare?from=main&to=nope");
    assert_eq!(
        (unknown.status, unknown.message().as_str()),
        (404, "404 Ref Not Found")
    );

    let old = s.gitlab.head(P, "old");
    assert_eq!(
        s.get("/projects/42/repository/merge_base?refs[]=main&refs[]=work")
            .json()["id"],
        old
    );
    let alone = s.get("/projects/42/repository/merge_base?refs[]=main");
    assert_eq!(
        (alone.status, alone.message().as_str()),
        (400, "Provide at least 2 refs")
    );
    let unknown = s.get("/projects/42/repository/merge_base?refs[]=main&refs[]=x");
    assert_eq!(
        (unknown.status, unknown.message().as_str()),
        (400, "Could not find ref: x")
    );
}

#[test]
fn branches_are_made_and_removed_by_those_who_may() {
    let s = Scene::new();
    s.gitlab.protect(P, "safe*", 0, 40, &[]);
    let make = |name: &str, from: &str| {
        let body = json!({"branch": name, "ref": from});
        s.call(
            "POST",
            "/projects/42/repository/branches",
            &s.ann_token,
            Some(body),
        )
    };
    assert_eq!(make("new", "main").status, 201);
    assert_eq!(make("new", "main").message(), "Branch already exists");
    assert_eq!(make("other", "nope").message(), "Invalid reference name: nope");
    assert_eq!(make("a b", "main").status, 400);
    assert_eq!(make("safe-1", "main").status, 400, "nobody pushes there");
    s.gitlab.branch(P, "safe-2", "main");
    let remove = |name: &str, token: &str| {
        s.call(
            "DELETE",
            &format!("/projects/42/repository/branches/{name}"),
            token,
            None,
        )
        .status
    };
    assert_eq!(remove("new", &s.ann_token), 204);
    assert_eq!(remove("new", &s.ann_token), 404);
    assert_eq!(remove("main", &s.token), 405);
    assert_eq!(remove("safe-2", &s.ann_token), 400);
    assert_eq!(remove("safe-2", &s.token), 204, "a Maintainer may, by API");
}

#[test]
fn commits_tell_parents_and_their_own_diff() {
    let s = Scene::new();
    let (iid, head) = s.open();
    s.gitlab.merge_as(P, iid, s.bot);
    let landed = s.gitlab.head(P, "main");
    let one = s.get(&format!("/projects/42/repository/commits/{landed}")).json();
    assert_eq!(one["parent_ids"].as_array().unwrap().len(), 2);
    assert_eq!(one["parent_ids"][1], head);
    let diff = s
        .get(&format!("/projects/42/repository/commits/{landed}/diff"))
        .json();
    assert_eq!(
        names(&diff, "new_path"),
        ["README.md"],
        "a merge against its first parent"
    );
    let of = s
        .get(&format!(
            "/projects/42/repository/commits/{landed}/merge_requests"
        ))
        .json();
    assert_eq!(of[0]["iid"], iid);
    let all = s.get("/projects/42/repository/commits?ref_name=main");
    assert_eq!(all.json().as_array().unwrap().len(), 3);
    let line = s.get("/projects/42/repository/commits?ref_name=main&first_parent=true");
    assert_eq!(line.json().as_array().unwrap().len(), 2);
    let full = s.get("/projects/42/repository/commits?ref_name=main&per_page=3");
    assert_eq!(
        (full.header("x-total"), full.header("x-next-page")),
        ("", "2"),
        "GitLab does not count commits"
    );
    let beyond = s.get("/projects/42/repository/commits?ref_name=main&per_page=3&page=2");
    assert_eq!((beyond.json(), beyond.header("x-next-page")), (json!([]), ""));
    assert_eq!(s.get("/projects/42/repository/commits?ref_name=nope").status, 404);
}

#[test]
fn every_merge_method_leaves_its_own_marks() {
    for (method, squash) in [
        ("merge", false),
        ("merge", true),
        ("rebase_merge", true),
        ("ff", false),
        ("ff", true),
    ] {
        let s = Scene::new();
        s.gitlab
            .set(P, |settings| settings.merge_method = method.to_owned());
        let second = edit("More still", vec![Edit::write("more", "x\n")]);
        let head = s.gitlab.commit(P, "work", &second);
        let (iid, _) = s.open();
        let before = s.gitlab.head(P, "main");
        let body = s
            .merge(iid, &s.token, json!({"sha": head, "squash": squash}))
            .json();
        let tip = s.gitlab.head(P, "main");
        let case = format!("{method}, squash {squash}: {body}");
        assert_eq!(body["sha"], head, "{case}");
        assert_eq!(
            (&body["merge_user"]["id"], &body["merged_by"]["id"]),
            (&json!(s.bot), &json!(s.bot)),
            "{case}"
        );
        assert!(body["merged_at"].is_string(), "{case}");
        let commit = s.get(&format!("/projects/42/repository/commits/{tip}")).json();
        match (method, squash) {
            ("ff", false) => {
                assert_eq!(tip, head, "{case}");
                assert_eq!(
                    (&body["merge_commit_sha"], &body["squash_commit_sha"]),
                    (&Value::Null, &Value::Null)
                );
            }
            ("ff", true) => {
                assert_eq!(body["squash_commit_sha"], tip, "{case}");
                assert_eq!(body["merge_commit_sha"], Value::Null, "{case}");
                assert_eq!(commit["parent_ids"], json!([before]), "{case}");
            }
            (_, squash) => {
                assert_eq!(body["merge_commit_sha"], tip, "{case}");
                let landed = if squash {
                    body["squash_commit_sha"].clone()
                } else {
                    json!(head)
                };
                assert_eq!(commit["parent_ids"], json!([before, landed]), "{case}");
            }
        }
        let push = s.get("/projects/42/events?action=pushed").json()[0].clone();
        assert_eq!(
            (&push["author_id"], &push["push_data"]["commit_to"]),
            (&json!(s.bot), &json!(tip)),
            "{case}"
        );
        assert_eq!(push["push_data"]["commit_from"], before, "{case}");
    }
}

#[test]
fn linear_projects_ask_for_a_rebase_and_squash_follows_the_project() {
    let s = Scene::new();
    s.gitlab
        .set(P, |settings| settings.merge_method = "rebase_merge".to_owned());
    let (iid, head) = s.open();
    s.gitlab.push(
        P,
        "main",
        s.bot,
        &edit("Elsewhere", vec![Edit::write("e", "e\n")]),
    );
    assert_eq!(s.gitlab.detailed_status(P, iid), "need_rebase");
    assert_eq!(s.merge(iid, &s.token, json!({"sha": head})).status, 405);
    let rebase = |token: &str| s.call("PUT", "/projects/42/merge_requests/1/rebase", token, None);
    s.gitlab.protect(P, "work", 40, 40, &[]);
    assert_eq!(rebase(&s.ann_token).status, 403);
    assert_eq!(rebase(&s.token).status, 403, "protected from force push");
    s.gitlab.unprotect(P, "work");
    let asked = rebase(&s.ann_token);
    assert_eq!(
        (asked.status, asked.json()),
        (202, json!({"rebase_in_progress": true}))
    );
    let moved = s
        .get("/projects/42/merge_requests/1?include_rebase_in_progress=true")
        .json();
    assert_ne!(moved["sha"], head);
    assert_eq!(
        (&moved["rebase_in_progress"], &moved["merge_error"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(s.gitlab.detailed_status(P, iid), "mergeable");
    let rebased = s
        .get("/projects/42/repository/commits?ref_name=work&per_page=1")
        .json()[0]
        .clone();
    assert_eq!(
        (&rebased["author_name"], &rebased["committer_name"]),
        (&json!("Ann"), &json!("Ann"))
    );
    s.gitlab
        .set(P, |settings| settings.squash_option = "always".to_owned());
    let merged = s
        .merge(iid, &s.token, json!({"sha": moved["sha"], "squash": false}))
        .json();
    assert_eq!(merged["squash"], true, "{merged}");
    assert_eq!(rebase(&s.token).status, 405, "merged already");

    s.gitlab.branch(P, "clash", "main");
    s.gitlab
        .commit(P, "clash", &edit("Clash", vec![Edit::write("e", "theirs\n")]));
    let iid = s.gitlab.open_merge_request(P, "clash", "main", "Clash", s.ann);
    s.gitlab
        .push(P, "main", s.bot, &edit("Ours", vec![Edit::write("e", "ours\n")]));
    s.call("PUT", "/projects/42/merge_requests/2/rebase", &s.token, None);
    let error = s.gitlab.merge_request(P, iid).merge_error;
    assert!(error.unwrap().starts_with("Rebase failed"));
}

#[test]
fn a_push_that_brings_the_commits_in_marks_the_merge_request_merged() {
    let s = Scene::new();
    let (iid, head) = s.open();
    let theirs = edit("By hand", vec![]).merging(&head);
    let merge = s.gitlab.push(P, "main", s.ann, &theirs);
    s.gitlab
        .push(P, "main", s.ann, &edit("After", vec![Edit::write("a", "a\n")]));
    let body = s.get(&format!("/projects/42/merge_requests/{iid}")).json();
    assert_eq!(
        (&body["state"], &body["merged_by"]["id"]),
        (&json!("merged"), &json!(s.ann))
    );
    assert_eq!(body["merge_commit_sha"], merge);

    // A fast-forward by hand: the head itself is what GitLab holds for the merge.
    s.gitlab.branch(P, "next", "main");
    let head = s
        .gitlab
        .commit(P, "next", &edit("Next", vec![Edit::write("n", "n\n")]));
    let iid = s.gitlab.open_merge_request(P, "next", "main", "Next", s.ann);
    s.gitlab.force_push(P, "main", s.bot, &head);
    assert_eq!(s.gitlab.merge_request(P, iid).merge_commit_sha, Some(head));
}

#[test]
fn people_push_only_where_they_may_and_owners_anyway() {
    let s = Scene::new();
    s.gitlab.protect(P, "main", 0, 40, &[]);
    let more = |text: &str| edit(text, vec![Edit::write("x", text)]);
    let refused = s.gitlab.try_push(P, "main", s.bot, &more("a")).unwrap_err();
    assert!(
        refused.contains("not allowed to push code to protected branches"),
        "{refused}"
    );
    let start = s.gitlab.head(P, "main");
    let tip = s.gitlab.push_anyway(P, "main", s.bot, &more("b"));
    assert_eq!(s.gitlab.head(P, "main"), tip);
    s.gitlab.protect(P, "main", 40, 40, &[]);
    assert!(s.gitlab.try_push(P, "main", s.ann, &more("c")).is_err());
    s.gitlab.try_push(P, "main", s.bot, &more("d")).unwrap();
    let refused = s.gitlab.try_force_push(P, "main", s.bot, &start).unwrap_err();
    assert!(refused.contains("force push"), "{refused}");
    s.gitlab.force_push_anyway(P, "main", s.bot, &start);
    assert_eq!(s.gitlab.head(P, "main"), start);
    s.gitlab.try_force_push(P, "work", s.ann, &start).unwrap();

    let outsider = s.gitlab.add_user("eve", "Eve", "eve@example.com");
    assert!(s.gitlab.try_create_branch(P, "new", "main", outsider).is_err());
    s.gitlab.try_create_branch(P, "new", "main", s.ann).unwrap();
    assert!(
        s.gitlab.try_delete_branch(P, "main", s.bot).is_err(),
        "never by git"
    );
    s.gitlab.try_delete_branch(P, "new", s.ann).unwrap();

    let evil = vec![Edit::write("back_door", "open\n")];
    let sha = s.gitlab.push_evil_merge(P, "main", s.bot, "work", evil);
    let files = s
        .get(&format!("/projects/42/repository/commits/{sha}/diff"))
        .json();
    assert!(names(&files, "new_path").contains(&"back_door".to_owned()));

    s.gitlab.push_tag(P, "main", &start, s.ann);
    let by_name = s.get("/projects/42/repository/commits/main").json();
    assert_eq!(by_name["id"], start, "a tag wins over the branch");
    let branch = s
        .get("/projects/42/repository/commits/refs%2Fheads%2Fmain")
        .json();
    assert_eq!(branch["id"], sha);
    assert_eq!(
        s.get("/projects/42/repository/branches/main").json()["commit"]["id"],
        sha
    );
    assert_eq!(s.get("/projects/42/repository/tags/main").json()["target"], start);
    let newest = s.get("/projects/42/events?action=pushed").json()[0].clone();
    assert_eq!(newest["push_data"]["ref_type"], "tag");
}

#[test]
fn people_merge_only_what_they_may() {
    let s = Scene::new();
    s.gitlab.protect(P, "main", 0, 40, &[]);
    let (iid, head) = s.open();
    let wish = MergeWish::default();
    assert!(s.gitlab.try_merge_as(P, iid, s.ann, &wish).is_err());
    s.gitlab
        .set(P, |it| it.only_allow_merge_if_all_discussions_are_resolved = true);
    s.gitlab.open_thread(P, iid);
    assert_eq!(
        s.gitlab.try_merge_as(P, iid, s.bot, &wish),
        Err("discussions_not_resolved".to_owned())
    );
    assert_eq!(s.merge(iid, &s.token, json!({"sha": head})).status, 405);
    s.gitlab.resolve_threads(P, iid);
    let post = StatusPost {
        state: "success".to_owned(),
        name: "ci".to_owned(),
        ..StatusPost::default()
    };
    s.gitlab.try_post_status(P, &head, s.ann, &post).unwrap();
    let outsider = s.gitlab.add_user("eve", "Eve", "eve@example.com");
    assert!(s.gitlab.try_post_status(P, &head, outsider, &post).is_err());
    s.gitlab.try_merge_as(P, iid, s.bot, &wish).unwrap();
}

#[test]
fn merge_requests_are_listed_over_all_projects_as_they_move() {
    let s = Scene::new();
    s.gitlab.add_project(43, "group/other");
    s.gitlab.add_project(44, "group/hidden");
    s.gitlab.add_member(43, s.bot, 20);
    for project in [43, 44] {
        s.gitlab.branch(project, "work", "main");
        s.gitlab
            .commit(project, "work", &edit("Else", vec![Edit::write("f", "f\n")]));
        s.gitlab
            .open_merge_request(project, "work", "main", "Else", s.ann);
    }
    let (iid, _) = s.open();
    assert_eq!(
        s.get("/merge_requests").json(),
        json!([]),
        "created by the caller, unless asked for all"
    );
    let list = s.get("/merge_requests?scope=all&state=opened&order_by=updated_at&sort=asc&per_page=1");
    assert_eq!((list.header("x-total"), list.header("x-next-page")), ("2", "2"));
    assert_eq!(list.json()[0]["project_id"], 43);
    assert_eq!(list.json()[0]["target_project_id"], 43);
    assert_eq!(s.get("/merge_requests?scope=most").status, 400);

    let moved = |what: &str, act: &dyn Fn()| {
        let path = "/merge_requests?scope=all&order_by=updated_at&per_page=1";
        let before = s.get(path).json()[0]["updated_at"].as_str().unwrap().to_owned();
        std::thread::sleep(std::time::Duration::from_millis(3));
        act();
        let after = s.get(path).json()[0].clone();
        assert!(
            after["updated_at"].as_str().unwrap() > before.as_str(),
            "{what}: {after}"
        );
        assert_eq!(
            (&after["project_id"], &after["iid"]),
            (&json!(P), &json!(iid)),
            "{what}"
        );
        let since = after["updated_at"].as_str().unwrap();
        let only = s
            .get(&format!("/projects/42/merge_requests?updated_after={since}"))
            .json();
        assert_eq!(only.as_array().unwrap().len(), 1, "{what}");
    };
    moved("push", &|| {
        s.gitlab
            .push(P, "work", s.ann, &edit("More", vec![Edit::write("g", "g\n")]));
    });
    s.gitlab.branch(P, "dev", "main");
    moved("retarget", &|| s.gitlab.retarget(P, iid, "dev", s.ann));
    moved("title", &|| s.gitlab.retitle(P, iid, "Say a lot more", s.ann));
    moved("draft", &|| s.gitlab.set_draft(P, iid, true, s.ann));
    moved("ready", &|| s.gitlab.set_draft(P, iid, false, s.ann));
    moved("close", &|| s.gitlab.close(P, iid, s.ann));
    moved("reopen", &|| s.gitlab.reopen(P, iid, s.ann));
    moved("merge", &|| s.gitlab.merge_as(P, iid, s.bot));
}

#[test]
fn merge_requests_are_opened_and_edited_by_api() {
    let s = Scene::new();
    let path = "/projects/42/merge_requests";
    let open = |body: Value| s.call("POST", path, &s.ann_token, Some(body));
    assert_eq!(open(json!({"source_branch": "work"})).status, 400);
    let body = json!({"source_branch": "work", "target_branch": "main", "title": "By API"});
    assert_eq!(open(body.clone()).json()["iid"], 1);
    assert_eq!(open(body).status, 409, "one for each pair of branches");
    let absent = json!({"source_branch": "nope", "target_branch": "main", "title": "x"});
    assert_eq!(open(absent).status, 409);
    let change = |body: Value| s.call("PUT", &format!("{path}/1"), &s.ann_token, Some(body));
    assert_eq!(change(json!({})).status, 400);
    assert_eq!(change(json!({"target_branch": "nope"})).status, 409);
    assert_eq!(change(json!({"state_event": "close"})).json()["state"], "closed");
    assert_eq!(
        change(json!({"state_event": "reopen", "title": "Draft: x"})).json()["draft"],
        true
    );
}

#[test]
fn pipelines_are_listed_and_the_merge_request_ones_lead() {
    let s = Scene::new();
    s.gitlab
        .set(P, |it| it.only_allow_merge_if_pipeline_succeeds = true);
    let (iid, head) = s.open();
    s.post(&head, json!({"state": "pending", "name": "gate", "ref": "work"}));
    let of = |query: &str| s.get(&format!("/projects/42/pipelines?{query}")).json();
    let first = of("source=external")[0].clone();
    assert_eq!(
        (&first["sha"], &first["ref"], &first["status"]),
        (&json!(head), &json!("work"), &json!("pending"))
    );
    std::thread::sleep(std::time::Duration::from_millis(3));
    s.post(&head, json!({"state": "failed", "name": "other", "ref": "work"}));
    let again = of("source=external")[0].clone();
    assert_eq!(again["id"], first["id"]);
    assert!(
        again["updated_at"].as_str() > first["updated_at"].as_str(),
        "a status moves it"
    );
    let since = again["updated_at"].as_str().unwrap();
    assert_eq!(
        of(&format!("updated_after={since}&order_by=updated_at&sort=asc"))
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(of("ref=main"), json!([]));
    assert_eq!(s.get("/projects/42/pipelines?order_by=age").status, 400);
    let status = s
        .get(&format!("/projects/42/repository/commits/{head}/statuses"))
        .json()[0]
        .clone();
    assert_eq!(
        (&status["pipeline_id"], &status["author"]["id"]),
        (&first["id"], &json!(s.bot))
    );
    assert!(status["created_at"].is_string() && status["finished_at"].is_null());

    let shown = || s.get(&format!("/projects/42/merge_requests/{iid}")).json()["head_pipeline"].clone();
    assert_eq!(shown()["id"], first["id"]);
    assert_eq!(s.gitlab.detailed_status(P, iid), "ci_still_running");
    let (merged, sha) = s.gitlab.add_merged_results_pipeline(P, iid, "success", s.ann);
    let head_pipeline = shown();
    assert_eq!(
        (&head_pipeline["id"], &head_pipeline["sha"]),
        (&json!(merged), &json!(sha))
    );
    assert_eq!(head_pipeline["ref"], "refs/merge-requests/1/merge");
    assert_eq!(
        s.gitlab.detailed_status(P, iid),
        "mergeable",
        "our failed status blocks nothing"
    );
    let there = json!({"state": "failed", "name": "gate", "pipeline_id": merged});
    assert_eq!(s.post(&sha, there).status, 201);
    assert_eq!(s.gitlab.detailed_status(P, iid), "ci_must_pass");
    s.gitlab
        .push(P, "work", s.ann, &edit("Later", vec![Edit::write("l", "l\n")]));
    assert_eq!(shown(), Value::Null, "it was for the head before");
    let detached = s.gitlab.add_detached_pipeline(P, iid, "running", s.ann);
    assert_eq!(shown()["id"], detached);
}
