//! Repositories: branches, commits, comparisons, builds, and the settings that guard them.

use crate::support::forge::bitbucket_data_center::api::{Caller, Reply, Request};
use crate::support::forge::bitbucket_data_center::shapes::{
    branch_json, build_json, change_json, commit_json, diff_json, move_json, pull_json, repository_json,
};
use crate::support::forge::bitbucket_data_center::state::{Access, Build, State};
use crate::support::forge::gitlab::repository::Sha;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The answer, if it is about one of these things.
pub fn answer(
    state: &mut State,
    request: &Request<'_>,
    api: &str,
    by: Caller,
    id: u64,
    rest: &[&str],
) -> Option<Reply> {
    let admin = by.access == Access::Admin;
    Some(match (request.method, api, rest) {
        ("GET", "api", []) => Reply::ok(repository_json(state, id)),
        ("GET", "api", ["default-branch"]) => match state.repository(id).branches.get("main") {
            Some(sha) => Reply::ok(branch_json("main", sha)),
            None => Reply::not_found("The default branch"),
        },
        ("GET", "api", ["branches"]) => branches(state, request, id),
        ("GET", "api", ["commits"]) => {
            let until = request.parameter("until").unwrap_or_default();
            match resolve(state, id, &until) {
                Some(sha) => {
                    let all = state.objects.range(None, &sha);
                    let shown = all.iter().map(|it| commit_json(state, it)).collect();
                    Reply::page(request, state, shown)
                }
                None => Reply::not_found(&format!("Commit {until}")),
            }
        }
        ("GET", "api", ["commits", sha]) => match state.objects.get(sha) {
            Some(_) => Reply::ok(commit_json(state, sha)),
            None => Reply::not_found(&format!("Commit {sha}")),
        },
        ("GET", "api", ["commits", sha, "merge-base"]) => {
            let other = request.parameter("otherCommitId").unwrap_or_default();
            if state.objects.get(sha).is_none() || state.objects.get(&other).is_none() {
                return Some(Reply::not_found("Commit"));
            }
            match state.objects.merge_base(sha, &other) {
                Some(base) => Reply::ok(commit_json(state, &base)),
                None => Reply::nothing(),
            }
        }
        ("GET", "api", ["commits", sha, "diff", path @ ..]) => {
            let since = request.parameter("since").unwrap_or_default();
            let path = path.join("/");
            if state.objects.get(sha).is_none() || state.objects.get(&since).is_none() {
                return Some(Reply::not_found("Commit"));
            }
            let files = state.objects.diff(Some(&since), sha);
            match files.iter().find(|it| it.new_path == path || it.old_path == path) {
                Some(it) => Reply::ok(diff_json(it)),
                None => Reply::ok(json!({"diffs": [], "truncated": false})),
            }
        }
        ("GET", "api", ["changes"]) => {
            let (since, until) = (
                request.parameter("since"),
                request.parameter("until").unwrap_or_default(),
            );
            changes(state, request, since.as_deref(), &until)
        }
        ("GET", "api", ["compare", "changes"]) => {
            // What `from` has and `to` has not: since their merge base.
            let (from, to) = (
                request.parameter("from").unwrap_or_default(),
                request.parameter("to").unwrap_or_default(),
            );
            let fork = request
                .parameter("fromRepo")
                .and_then(|it| it.parse().ok())
                .unwrap_or(id);
            if !reaches(state, fork, &from) || !reaches(state, id, &to) {
                return Some(Reply::not_found("Commit"));
            }
            let base = state.objects.merge_base(&from, &to);
            changes(state, request, base.as_deref(), &from)
        }
        ("GET", "api", ["compare", "commits"]) => {
            let (from, to) = (
                request.parameter("from").unwrap_or_default(),
                request.parameter("to").unwrap_or_default(),
            );
            if state.objects.get(&from).is_none() || state.objects.get(&to).is_none() {
                return Some(Reply::not_found("Commit"));
            }
            let all = state.objects.range(Some(&to), &from);
            let shown = all.iter().map(|it| commit_json(state, it)).collect();
            Reply::page(request, state, shown)
        }
        ("GET", "api", ["ref-change-activities"]) if !admin => Reply::forbidden(),
        ("GET", "api", ["ref-change-activities"]) => {
            let wanted = request.parameter("ref");
            let all = state.repository(id).moves.iter().rev();
            let all = all.filter(|it| wanted.as_ref().is_none_or(|wanted| it.reference == *wanted));
            let shown = all.map(|it| move_json(state, id, it)).collect();
            Reply::page(request, state, shown)
        }
        ("POST", "api", ["commits", sha, "builds"]) => post_build(state, request, id, sha),
        ("GET", "api", ["commits", sha, "builds"]) => {
            let key = request.parameter("key").unwrap_or_default();
            match state.repository(id).builds.get(*sha).and_then(|it| it.get(&key)) {
                Some(it) => Reply::ok(build_json(it)),
                None => Reply::not_found(&format!("Build status {key}")),
            }
        }
        ("GET", "api", ["settings", "pull-requests"]) => Reply::ok(state.repository(id).settings.clone()),
        ("GET", "api", ["webhooks"]) if !admin => Reply::forbidden(),
        ("GET", "api", ["webhooks"]) => {
            let hooks = state.repository(id).hooks.iter();
            let shown = hooks.map(|it| {
                json!({"id": it.id, "name": "SignedApproval", "url": it.url, "active": it.active, "events": it.events,
                    "configuration": {"secret": it.secret}, "sslVerificationRequired": true})
            });
            Reply::page(request, state, shown.collect())
        }
        ("GET", "branch-permissions", ["restrictions"]) if !admin => Reply::forbidden(),
        ("GET", "branch-permissions", ["restrictions"]) => {
            let all = state.repository(id).restrictions.clone();
            Reply::page(request, state, all)
        }
        ("GET", "required-builds", ["conditions"]) => {
            let all = state.repository(id).conditions.clone();
            Reply::page(request, state, all)
        }
        _ => return None,
    })
}

/// A commit by its id, or a branch by its full name.
fn resolve(state: &State, id: u64, text: &str) -> Option<Sha> {
    let branch = text.strip_prefix("refs/heads/");
    match branch {
        Some(name) => state.repository(id).branches.get(name).cloned(),
        None => state.objects.get(text).map(|it| it.sha.clone()),
    }
}

/// Whether a commit is in a repository: on one of its branches, or the head of a pull request there.
fn reaches(state: &State, id: u64, sha: &str) -> bool {
    if state.objects.get(sha).is_none() {
        return false;
    }
    let record = state.repository(id);
    let pulls = record.pulls.values().flat_map(|it| [&it.head, &it.tip]);
    record
        .branches
        .values()
        .chain(pulls)
        .any(|it| state.objects.is_ancestor(sha, it))
}

fn branches(state: &State, request: &Request<'_>, id: u64) -> Reply {
    let filter = request.parameter("filterText").unwrap_or_default().to_lowercase();
    let record = state.repository(id);
    let mut all: Vec<_> = record
        .branches
        .iter()
        .filter(|(name, _)| name.to_lowercase().contains(&filter))
        .collect();
    if request.parameter("orderBy").as_deref() == Some("MODIFICATION") {
        all.sort_by_key(|(name, _)| std::cmp::Reverse(record.moved.get(*name).copied()));
    }
    let shown = all
        .into_iter()
        .map(|(name, sha)| branch_json(name, sha))
        .collect();
    Reply::page(request, state, shown)
}

fn changes(state: &State, request: &Request<'_>, from: Option<&str>, to: &str) -> Reply {
    let known = |sha: &str| state.objects.get(sha).is_some();
    if !known(to) || from.is_some_and(|it| !known(it)) {
        return Reply::not_found("Commit");
    }
    let files = state.objects.diff(from, to);
    let shown = files.iter().map(|it| change_json(state, from, to, it)).collect();
    Reply::cut(request, state, shown, state.changes_max)
}

fn post_build(state: &mut State, request: &Request<'_>, id: u64, sha: &str) -> Reply {
    let text = |name: &str| request.body[name].as_str().map(str::to_owned);
    let invalid = |message: &str| Reply::refused(400, "ValidationException", message);
    if state.objects.get(sha).is_none() {
        return Reply::not_found(&format!("Commit {sha}"));
    }
    let (Some(key), Some(word), Some(url)) = (text("key"), text("state"), text("url")) else {
        return invalid("key, state and url are required");
    };
    if key.trim().is_empty() || key.chars().count() > 255 || url.chars().count() > 450 {
        return invalid("key or url is blank or too long");
    }
    if !["SUCCESSFUL", "FAILED", "INPROGRESS", "CANCELLED", "UNKNOWN"].contains(&word.as_str()) {
        return invalid("state is not one of the known ones");
    }
    if text("description").is_some_and(|it| it.chars().count() > 255) {
        return invalid("description is too long");
    }
    let build = Build {
        key: key.clone(),
        parent: text("parent"),
        name: text("name"),
        state: word,
        url,
        description: text("description"),
        reference: text("ref"),
        at: Timestamp::now(),
    };
    let builds = &mut state.repository_mut(id).builds;
    builds.entry(sha.to_owned()).or_default().insert(key, build);
    super::acts::land_queue(state, id);
    Reply::nothing()
}

/// How many builds of each state commits have; those without any are left out.
pub fn stats(state: &State, asked: &Value) -> Reply {
    let mut out = Map::new();
    for sha in asked.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let all = state.repositories.values().filter_map(|it| it.builds.get(sha));
        let words: Vec<&str> = all
            .flat_map(|it| it.values())
            .map(|it| it.state.as_str())
            .collect();
        let count = |word: &str| words.iter().filter(|it| **it == word).count();
        if !words.is_empty() {
            let shown = json!({"successful": count("SUCCESSFUL"), "inProgress": count("INPROGRESS"),
                "failed": count("FAILED"), "cancelled": count("CANCELLED"), "unknown": count("UNKNOWN")});
            out.insert(sha.to_owned(), shown);
        }
    }
    Reply::ok(Value::Object(out))
}

/// The pull requests of a repository, as a list is asked for.
pub fn listed(state: &State, request: &Request<'_>, id: u64) -> Reply {
    let asked = |name: &str, otherwise: &str| request.parameter(name).unwrap_or_else(|| otherwise.to_owned());
    let (wanted, order, at) = (
        asked("state", "OPEN"),
        asked("order", "NEWEST"),
        request.parameter("at"),
    );
    let mut all: Vec<_> = state.repository(id).pulls.values().collect();
    all.retain(|it| wanted == "ALL" || it.state == wanted);
    all.retain(|it| {
        at.as_ref()
            .is_none_or(|at| *at == format!("refs/heads/{}", it.to_ref))
    });
    match order.as_str() {
        "OLDEST" => {}
        "CLOSED_DATE" => all.sort_by_key(|it| std::cmp::Reverse(it.closed)),
        // By creation: the harder of the two that the documentation leaves open.
        _ => all.reverse(),
    }
    let shown = all.into_iter().map(|it| pull_json(state, id, it.id)).collect();
    Reply::page(request, state, shown)
}
