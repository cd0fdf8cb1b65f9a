//! Bitbucket's entities as JSON, as far as this product looks at them.

use crate::support::forge::bitbucket_data_center::state::{Build, Move, State};
use crate::support::forge::github::shapes::blob;
use crate::support::forge::gitlab::repository::{FileDiff, Signature};
use jiff::Timestamp;
use serde_json::{Value, json};

pub fn time(at: Timestamp) -> i64 {
    at.as_millisecond()
}

pub fn user_json(state: &State, id: u64) -> Value {
    let Some(it) = state.users.get(&id) else {
        return Value::Null;
    };
    json!({
        "id": it.id, "name": it.name, "displayName": it.display, "emailAddress": it.email, "active": true,
        "slug": it.name.to_lowercase(), "type": if it.service { "SERVICE" } else { "NORMAL" },
        "links": {"self": [{"href": format!("{}/users/{}", state.base_url, it.name)}]},
    })
}

/// Name and e-mail of a commit; the account where Bitbucket knows the e-mail.
fn signature_json(state: &State, it: &Signature) -> Value {
    let known = state
        .users
        .values()
        .find(|user| !user.email.is_empty() && user.email.eq_ignore_ascii_case(&it.email));
    match known {
        Some(user) => user_json(state, user.id),
        None => json!({"name": it.name, "emailAddress": it.email}),
    }
}

pub fn repository_json(state: &State, id: u64) -> Value {
    let it = state.repository(id);
    let page = format!("{}/projects/{}/repos/{}/browse", state.base_url, it.key, it.slug);
    json!({
        "id": it.id, "slug": it.slug, "name": it.slug, "hierarchyId": "e3c939f9ef4a7fae272e", "scmId": "git",
        "state": "AVAILABLE", "statusMessage": "Available", "forkable": true, "public": false, "archived": false,
        "project": {"key": it.key, "id": 1, "name": it.key, "public": false, "type": "NORMAL"},
        "links": {"self": [{"href": page}]},
    })
}

pub fn branch_json(name: &str, sha: &str) -> Value {
    json!({
        "id": format!("refs/heads/{name}"), "displayId": name, "type": "BRANCH", "latestCommit": sha,
        "latestChangeset": sha, "isDefault": name == "main",
    })
}

pub fn commit_json(state: &State, sha: &str) -> Value {
    let it = state.objects.get(sha).expect("a commit of this fake");
    let at = time(it.at);
    json!({
        "id": sha, "displayId": &sha[..11], "message": it.message,
        "author": signature_json(state, &it.author), "authorTimestamp": at,
        "committer": signature_json(state, &it.committer), "committerTimestamp": at,
        "parents": it.parents.iter().map(|it| json!({"id": it, "displayId": &it[..11]})).collect::<Vec<_>>(),
    })
}

fn side(state: &State, repository: u64, branch: &str, sha: &str) -> Value {
    json!({
        "id": format!("refs/heads/{branch}"), "displayId": branch, "latestCommit": sha, "type": "BRANCH",
        "repository": repository_json(state, repository),
    })
}

pub fn pull_json(state: &State, repository: u64, number: u64) -> Value {
    let record = state.repository(repository);
    let it = &record.pulls[&number];
    let page = format!(
        "{}/projects/{}/repos/{}/pull-requests/{number}",
        state.base_url, record.key, record.slug
    );
    let mut out = json!({
        "id": it.id, "version": it.version, "title": it.title, "description": "", "state": it.state,
        "open": it.state == "OPEN", "closed": it.state != "OPEN", "draft": it.draft, "locked": false,
        "createdDate": time(it.created), "updatedDate": time(it.updated),
        "fromRef": side(state, it.source, &it.from_ref, &it.head),
        "toRef": side(state, repository, &it.to_ref, &it.tip),
        "author": {"user": user_json(state, it.author), "role": "AUTHOR", "approved": false, "status": "UNAPPROVED"},
        "reviewers": [], "participants": [], "properties": {}, "links": {"self": [{"href": page}]},
    });
    if let Some(closed) = it.closed {
        out["closedDate"] = json!(time(closed));
    }
    if let Some(commit) = &it.merge_commit {
        out["properties"]["mergeCommit"] = json!({"id": commit, "displayId": &commit[..11]});
    }
    out
}

pub fn path_json(path: &str) -> Value {
    let components: Vec<&str> = path.split('/').collect();
    json!({"components": components, "name": components.last(), "parent": "", "toString": path})
}

/// An entry of `changes`, between `from` and `to`.
pub fn change_json(state: &State, from: Option<&str>, to: &str, it: &FileDiff) -> Value {
    let content = |sha: Option<&str>, path: &str| {
        let commit = sha.and_then(|it| state.objects.get(it))?;
        commit.tree.get(path).map(|it| blob(&it.content))
    };
    let executable = |mode: &str| mode == "100755";
    let (kind, source) = match (it.new_file, it.deleted_file, it.renamed_file) {
        (true, ..) => ("ADD", false),
        (_, true, _) => ("DELETE", false),
        (_, _, true) => ("MOVE", true),
        _ => ("MODIFY", false),
    };
    let mode = if it.deleted_file { &it.a_mode } else { &it.b_mode };
    let mut out = json!({
        "type": kind, "path": path_json(&it.new_path), "nodeType": if mode == "160000" { "SUBMODULE" } else { "FILE" },
        "percentUnchanged": -1, "properties": {}, "contentId": content(Some(to), &it.new_path),
        "fromContentId": content(from, &it.old_path),
    });
    if !it.deleted_file {
        out["executable"] = json!(executable(&it.b_mode));
    }
    if !it.new_file {
        out["srcExecutable"] = json!(executable(&it.a_mode));
    }
    if source {
        out["srcPath"] = path_json(&it.old_path);
    }
    out
}

/// A diff as git writes it.
pub fn raw_diff(files: &[FileDiff]) -> String {
    let mut out = String::new();
    for it in files {
        let (old, new) = (&it.old_path, &it.new_path);
        out.push_str(&format!("diff --git a/{old} b/{new}\n"));
        match (it.new_file, it.deleted_file) {
            (true, _) => out.push_str(&format!("new file mode {}\nindex 0000000..1111111\n", it.b_mode)),
            (_, true) => out.push_str(&format!(
                "deleted file mode {}\nindex 1111111..0000000\n",
                it.a_mode
            )),
            _ if it.a_mode != it.b_mode => {
                out.push_str(&format!("old mode {}\nnew mode {}\n", it.a_mode, it.b_mode));
            }
            _ if !it.text.is_empty() => out.push_str(&format!("index 1111111..2222222 {}\n", it.b_mode)),
            _ => {}
        }
        if it.renamed_file {
            out.push_str(&format!(
                "similarity index 90%\nrename from {old}\nrename to {new}\n"
            ));
        }
        if !it.text.is_empty() {
            let before = if it.new_file {
                "/dev/null".to_owned()
            } else {
                format!("a/{old}")
            };
            let after = if it.deleted_file {
                "/dev/null".to_owned()
            } else {
                format!("b/{new}")
            };
            out.push_str(&format!("--- {before}\n+++ {after}\n{}", it.text));
            if !it.text.ends_with('\n') {
                out.push('\n');
            }
        }
    }
    out
}

/// One file's diff in Bitbucket's own form.
pub fn diff_json(it: &FileDiff) -> Value {
    let mut hunks: Vec<Value> = Vec::new();
    for line in it.text.lines() {
        if line.starts_with("@@ ") {
            hunks.push(json!({"segments": [], "truncated": false}));
            continue;
        }
        let kind = match line.chars().next() {
            Some('+') => "ADDED",
            Some('-') => "REMOVED",
            Some(' ') | None => "CONTEXT",
            _ => continue,
        };
        let Some(hunk) = hunks.last_mut() else { continue };
        let segments = hunk["segments"].as_array_mut().expect("an array");
        if segments.last().is_none_or(|it| it["type"] != kind) {
            segments.push(json!({"type": kind, "lines": [], "truncated": false}));
        }
        let text = line.get(1..).unwrap_or_default();
        let last = segments.last_mut().expect("it was pushed");
        last["lines"]
            .as_array_mut()
            .expect("an array")
            .push(json!({"line": text, "truncated": false}));
    }
    json!({"diffs": [{"source": path_json(&it.old_path), "destination": path_json(&it.new_path), "hunks": hunks, "truncated": false}],
        "truncated": false})
}

pub fn build_json(it: &Build) -> Value {
    json!({
        "key": it.key, "parent": it.parent, "name": it.name, "state": it.state, "url": it.url,
        "description": it.description, "ref": it.reference, "createdDate": time(it.at), "updatedDate": time(it.at),
    })
}

pub fn move_json(state: &State, repository: u64, it: &Move) -> Value {
    let short = it.reference.trim_start_matches("refs/heads/");
    json!({
        "id": it.id, "createdDate": time(it.at), "user": user_json(state, it.by), "trigger": "push",
        "repository": repository_json(state, repository),
        "refChange": {"ref": {"id": it.reference, "displayId": short, "type": "BRANCH"}, "refId": it.reference,
            "fromHash": it.from, "toHash": it.to, "type": it.kind},
    })
}
