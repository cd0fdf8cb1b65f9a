//! Bitbucket's entities as JSON, as far as this product looks at them, and differences as git writes them.

use crate::support::forge::bitbucket_cloud::state::{Pull, State, Status};
use crate::support::forge::gitlab::repository::{FileDiff, Signature};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Digits of a commit in a pull request.
const ABBREVIATED: usize = 12;

pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

pub fn user_json(state: &State, uuid: &str) -> Value {
    match state.users.get(uuid) {
        Some(it) => json!({"type": "user", "uuid": it.uuid, "nickname": it.nickname, "display_name": it.name,
            "account_id": format!("557058:{}", it.nickname)}),
        None => Value::Null,
    }
}

pub fn repository_json(state: &State, id: &str) -> Value {
    let it = state.repository(id);
    let full = format!("{}/{}", it.workspace, it.slug);
    json!({
        "type": "repository", "uuid": it.uuid, "full_name": full, "name": it.slug, "slug": it.slug, "scm": "git",
        "is_private": true, "workspace": {"type": "workspace", "slug": it.workspace, "uuid": "{00000000-0000-4000-8000-000000000000}"},
        "mainbranch": {"type": "branch", "name": "main"},
        "links": {"html": {"href": format!("{}/{full}", state.base_url)}},
    })
}

fn side(state: &State, repository: &str, branch: &str, sha: &str) -> Value {
    let shown = state.repositories.get(repository);
    let place = match shown {
        Some(it) => {
            json!({"type": "repository", "uuid": it.uuid, "full_name": format!("{}/{}", it.workspace, it.slug)})
        }
        None => Value::Null,
    };
    json!({
        "branch": {"name": branch}, "repository": place,
        "commit": {"type": "commit", "hash": sha.get(..ABBREVIATED).unwrap_or(sha)},
    })
}

/// A pull request, alone (`whole`) or in a list.
pub fn pull_json(state: &State, id: &str, pull: &Pull, whole: bool) -> Value {
    let record = state.repository(id);
    let full = format!("{}/{}", record.workspace, record.slug);
    let mut out = json!({
        "type": "pullrequest", "id": pull.number, "title": pull.title, "state": pull.state, "draft": pull.draft,
        "author": user_json(state, &pull.author),
        "source": side(state, &pull.source, &pull.source_branch, &pull.head),
        "destination": side(state, id, &pull.target_branch, &pull.target),
        "merge_commit": pull.landed.as_ref().map(|it| json!({"type": "commit", "hash": it[..ABBREVIATED]})),
        "created_on": time(pull.updated), "updated_on": time(pull.updated), "comment_count": 0, "task_count": 0,
        "links": {"html": {"href": format!("{}/{full}/pull-requests/{}", state.base_url, pull.number)}},
    });
    if whole {
        out["closed_by"] = pull
            .closed_by
            .as_ref()
            .map_or(Value::Null, |it| user_json(state, it));
        out["destination"]["branch"]["merge_strategies"] = json!(record.strategies);
        out["destination"]["branch"]["default_merge_strategy"] = json!(record.strategies.first());
    }
    out
}

/// The account that has an e-mail, as Bitbucket maps commits to people.
fn signature_json(state: &State, it: &Signature) -> Value {
    let mut out = json!({"type": "author", "raw": format!("{} <{}>", it.name, it.email)});
    let known = state.users.values().find(|user| user.email == it.email);
    if let Some(known) = known {
        out["user"] = user_json(state, &known.uuid);
    }
    out
}

pub fn commit_json(state: &State, id: &str, sha: &str) -> Value {
    let it = state.objects.get(sha).expect("a commit of this fake");
    let record = state.repository(id);
    json!({
        "type": "commit", "hash": sha, "message": it.message, "date": time(it.at),
        "author": signature_json(state, &it.author), "committer": signature_json(state, &it.committer),
        "parents": it.parents.iter().map(|it| json!({"type": "commit", "hash": it})).collect::<Vec<_>>(),
        "links": {"html": {"href": format!("{}/{}/{}/commits/{sha}", state.base_url, record.workspace, record.slug)}},
    })
}

pub fn status_json(it: &Status) -> Value {
    json!({
        "type": "build", "key": it.key, "name": it.name, "state": it.state, "url": it.url, "description": it.description,
        "refname": it.refname, "created_on": time(it.updated), "updated_on": time(it.updated),
    })
}

fn word(it: &FileDiff) -> &'static str {
    match (it.new_file, it.deleted_file, it.renamed_file) {
        (true, ..) => "added",
        (_, true, _) => "removed",
        (_, _, true) => "renamed",
        _ => "modified",
    }
}

/// `diffstat`: a file that changes its type is one entry.
pub fn diffstat_json(files: &[FileDiff]) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for it in files {
        let file = |path: &str| json!({"type": "commit_file", "path": path, "escaped_path": quoted(path)});
        let lines = |sign: char| it.text.lines().filter(|line| line.starts_with(sign)).count();
        let typed = files.iter().any(|other| {
            other.new_path == it.new_path && other.new_file != it.new_file && (it.new_file || it.deleted_file)
        });
        if typed && it.new_file {
            continue;
        }
        let word = if typed { "modified" } else { word(it) };
        out.push(json!({
            "type": "diffstat", "status": word, "lines_added": lines('+'), "lines_removed": lines('-'),
            "old": if word == "added" { Value::Null } else { file(&it.old_path) },
            "new": if word == "removed" { Value::Null } else { file(&it.new_path) },
        }));
    }
    out
}

/// A path as git writes it in a difference.
fn quoted(path: &str) -> String {
    let plain = |b: &u8| (b' '..=b'~').contains(b) && !matches!(b, b'"' | b'\\');
    if path.as_bytes().iter().all(plain) {
        return path.to_owned();
    }
    path.bytes().fold(String::new(), |mut out, b| {
        if plain(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "\\{b:03o}");
        }
        out
    })
}

/// A blob's name in git's manner: the same content, the same name.
fn blob(content: &str) -> String {
    hex::encode(Sha256::digest(content.as_bytes()))[..10].to_owned()
}

/// The difference, as `git diff` writes it.
pub fn diff_text(state: &State, base: Option<&str>, head: &str, files: &[FileDiff]) -> String {
    let content = |at: Option<&str>, path: &str| {
        let commit = at.and_then(|it| state.objects.get(it));
        let entry = commit.and_then(|it| it.tree.get(path).cloned());
        entry.map(|it| it.content.to_string()).unwrap_or_default()
    };
    let mut out = String::new();
    for it in files {
        let name = |side: &str, path: &str| {
            let text = quoted(path);
            match text == path {
                true => format!("{side}/{path}"),
                false => format!("\"{side}/{text}\""),
            }
        };
        let (old, new) = (name("a", &it.old_path), name("b", &it.new_path));
        let _ = writeln!(out, "diff --git {old} {new}");
        if it.new_file {
            let _ = writeln!(out, "new file mode {}", it.b_mode);
        } else if it.deleted_file {
            let _ = writeln!(out, "deleted file mode {}", it.a_mode);
        } else if it.a_mode != it.b_mode {
            let _ = writeln!(out, "old mode {}\nnew mode {}", it.a_mode, it.b_mode);
        }
        if it.renamed_file {
            let _ = writeln!(
                out,
                "similarity index 90%\nrename from {}\nrename to {}",
                it.old_path, it.new_path
            );
        }
        if it.text.is_empty() {
            continue;
        }
        let (before, after) = (content(base, &it.old_path), content(Some(head), &it.new_path));
        let mode = match it.a_mode == it.b_mode {
            true => format!(" {}", it.b_mode),
            false => String::new(),
        };
        let _ = writeln!(out, "index {}..{}{mode}", blob(&before), blob(&after));
        let none = "/dev/null".to_owned();
        let (old, new) = (
            if it.new_file { none.clone() } else { old },
            if it.deleted_file { none } else { new },
        );
        if before.contains('\0') || after.contains('\0') {
            let _ = writeln!(out, "Binary files {old} and {new} differ");
            continue;
        }
        let tab = |path: &str| if path.contains(' ') { "\t" } else { "" };
        let _ = writeln!(out, "--- {old}{}\n+++ {new}{}", tab(&old), tab(&new));
        out.push_str(&it.text);
    }
    out
}
