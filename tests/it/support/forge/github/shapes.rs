//! GitHub's entities as JSON, as far as this product looks at them.

use crate::support::forge::github::state::{Pull, State, Status};
use crate::support::forge::gitlab::repository::FileDiff;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn user_json(state: &State, id: u64) -> Value {
    let Some(user) = state.users.get(&id) else {
        return Value::Null;
    };
    let kind = if user.login.ends_with("[bot]") {
        "Bot"
    } else {
        "User"
    };
    json!({"id": user.id, "login": user.login, "type": kind, "site_admin": false})
}

/// The account that has an e-mail, as GitHub maps commits to people.
pub fn account_json(state: &State, email: &str) -> Value {
    if email == "noreply@github.com" {
        return json!({"id": 19_864_447, "login": "web-flow", "type": "User"});
    }
    let found = state
        .users
        .values()
        .find(|it| it.email.eq_ignore_ascii_case(email) && !email.is_empty());
    found.map_or(Value::Null, |it| user_json(state, it.id))
}

pub fn repository_json(state: &State, id: u64) -> Value {
    let it = state.repository(id);
    let full = format!("{}/{}", it.owner, it.name);
    json!({
        "id": it.id, "node_id": format!("R_{}", it.id), "name": it.name, "full_name": full,
        "owner": {"login": it.owner, "id": 1, "type": "Organization"}, "private": true, "fork": it.forked_from.is_some(),
        "html_url": format!("{}/{full}", state.base_url), "default_branch": "main", "archived": false,
        "allow_merge_commit": it.merge_commits, "allow_squash_merge": it.squash, "allow_rebase_merge": it.rebase,
    })
}

/// A blob's name in git's manner: the same content, the same name.
pub fn blob(content: &str) -> String {
    hex::encode(Sha256::digest(content.as_bytes()))[..40].to_owned()
}

fn side(state: &State, repository: Option<u64>, reference: &str, sha: &str) -> Value {
    let shown = repository.filter(|it| state.repositories.contains_key(it));
    json!({
        "label": reference, "ref": reference, "sha": sha,
        "repo": shown.map_or(Value::Null, |it| repository_json(state, it)),
    })
}

pub fn files_of(state: &State, pull: &Pull) -> Vec<FileDiff> {
    let base = state.objects.merge_base(&pull.base, &pull.head);
    state.objects.diff(base.as_deref(), &pull.head)
}

/// What GitHub's rules make of a pull request.
pub fn mergeable_state(state: &State, repository: u64, pull: &Pull) -> &'static str {
    if pull.draft {
        return "draft";
    }
    let tip = &state.repository(repository).branches[&pull.base_ref];
    if !state.objects.merged_tree(tip, &pull.head).1.is_empty() {
        return "dirty";
    }
    match super::rules::lets_in(state, repository, &pull.base_ref, &pull.head) {
        true => "clean",
        false => "blocked",
    }
}

/// A pull request, alone (`whole`) or in a list.
pub fn pull_json(state: &State, repository: u64, number: u64, whole: bool) -> Value {
    let record = state.repository(repository);
    let pull = &record.pulls[&number];
    let merged = pull.merged.as_ref();
    let full = format!("{}/{}", record.owner, record.name);
    let mut out = json!({
        "id": pull.id, "node_id": format!("PR_{}", pull.id), "number": number,
        "state": if pull.closed { "closed" } else { "open" }, "draft": pull.draft, "title": pull.title,
        "html_url": format!("{}/{full}/pull/{number}", state.base_url), "user": user_json(state, pull.author),
        "head": side(state, Some(pull.source), &pull.head_ref, &pull.head),
        "base": side(state, Some(repository), &pull.base_ref, &pull.base),
        "updated_at": time(pull.updated), "created_at": time(pull.updated),
        "merged_at": merged.map(|it| time(it.0)),
        "merge_commit_sha": merged.map(|it| it.2.clone()), "auto_merge": null, "author_association": "MEMBER",
    });
    if whole {
        let base = state.objects.merge_base(&pull.base, &pull.head);
        let commits = state.objects.range(base.as_deref(), &pull.head).len();
        let files = files_of(state, pull).len() as u64;
        out["merged"] = json!(merged.is_some());
        out["merged_by"] = merged.map_or(Value::Null, |it| user_json(state, it.1));
        out["commits"] = json!(commits);
        out["changed_files"] = json!(record.counted_files.unwrap_or(files));
        out["mergeable_state"] = json!(match pull.closed {
            true => "unknown",
            false => mergeable_state(state, repository, pull),
        });
    }
    out
}

pub fn file_json(state: &State, at: &str, it: &FileDiff) -> Value {
    let content = state
        .objects
        .get(at)
        .and_then(|commit| commit.tree.get(&it.new_path).map(|it| it.content.clone()));
    let lines = |sign: char| it.text.lines().filter(|line| line.starts_with(sign)).count();
    let (added, removed) = (lines('+'), lines('-'));
    let mut out = json!({
        "filename": it.new_path, "sha": content.map(|it| blob(&it)), "additions": added, "deletions": removed,
        "changes": added + removed,
        "status": match (it.new_file, it.deleted_file, it.renamed_file) {
            (true, ..) => "added",
            (_, true, _) => "removed",
            (_, _, true) => "renamed",
            _ => "modified",
        },
    });
    if it.renamed_file {
        out["previous_filename"] = json!(it.old_path);
    }
    if !it.text.is_empty() {
        out["patch"] = json!(it.text);
    }
    out
}

pub fn commit_json(state: &State, sha: &str) -> Value {
    let it = state.objects.get(sha).expect("a commit of this fake");
    let signed = |who: &crate::support::forge::gitlab::repository::Signature| json!({"name": who.name, "email": who.email, "date": time(it.at)});
    json!({
        "sha": sha, "html_url": format!("{}/commit/{sha}", state.base_url),
        "commit": {"message": it.message, "author": signed(&it.author), "committer": signed(&it.committer),
            "tree": {"sha": tree_of(state, sha)}},
        "author": account_json(state, &it.author.email), "committer": account_json(state, &it.committer.email),
        "parents": it.parents.iter().map(|it| json!({"sha": it})).collect::<Vec<_>>(),
    })
}

/// A tree's name: the same files, the same name.
pub fn tree_of(state: &State, sha: &str) -> String {
    let it = state.objects.get(sha).expect("a commit of this fake");
    let mut hash = Sha256::new();
    for (path, entry) in it.tree.iter() {
        hash.update(format!("{path}\0{}\0{}\0", entry.mode, blob(&entry.content)));
    }
    hex::encode(hash.finalize())[..40].to_owned()
}

pub fn status_json(state: &State, it: &Status) -> Value {
    json!({
        "id": it.id, "state": it.state, "context": it.context, "description": it.description,
        "target_url": it.target_url, "creator": user_json(state, it.creator), "created_at": time(it.at),
        "updated_at": time(it.at),
    })
}
