//! Repositories, branches, commits, pull requests and statuses.

use crate::support::forge::github::api::{Reply, Request, Who};
use crate::support::forge::github::rules::{branch_json, in_force, lets_in};
use crate::support::forge::github::shapes::{
    blob, commit_json, file_json, files_of, pull_json, repository_json, status_json, time, tree_of, user_json,
};
use crate::support::forge::github::state::{BOT, State, Status};
use jiff::Timestamp;
use serde_json::{Value, json};

/// An installation sees its own repositories, and people all of them.
pub fn may_see(state: &State, who: Who, repository: u64) -> bool {
    match who {
        Who::Installation(id) => state.installations[&id].repositories.contains(&repository),
        Who::Person(_) => true,
        Who::Nobody | Who::App => false,
    }
}

/// What an installation was not granted, as GitHub says it.
fn lacks(state: &State, who: Who, permission: &str, write: bool) -> Option<Reply> {
    let Who::Installation(id) = who else { return None };
    let granted = state.installations[&id]
        .permissions
        .get(permission)
        .map(String::as_str);
    let enough = matches!(
        (granted, write),
        (Some("write" | "admin"), _) | (Some("read"), false)
    );
    (!enough).then(|| Reply::refused(403, "Resource not accessible by integration"))
}

/// As a list that is asked for again: 304 where nothing has changed.
fn tagged(request: &Request, reply: Reply) -> Reply {
    if reply.status != 200 {
        return reply;
    }
    let tag = format!("W/\"{}\"", blob(&format!("{}{:?}", reply.body, reply.headers)));
    match request.if_none_match.as_deref() == Some(tag.as_str()) {
        true => Reply::new(304, Value::Null).with("etag", &tag),
        false => reply.with("etag", &tag),
    }
}

pub fn answer(state: &mut State, request: &Request, who: Who, id: u64, rest: &[&str]) -> Reply {
    let (needs, write) = match (request.method.as_str(), rest) {
        ("POST", ["statuses", _]) => ("statuses", true),
        ("GET", ["commits", _, "statuses"]) => ("statuses", false),
        ("PUT", ["pulls", _, "merge"]) => ("contents", true),
        (_, ["pulls", ..]) => ("pull_requests", false),
        ("POST", ["actions", ..]) => ("deployments", true),
        (_, ["deployments", ..]) => ("deployments", false),
        (_, ["actions", ..] | ["environments", ..]) => ("actions", false),
        (_, [] | ["rules", ..] | ["rulesets", ..]) => ("metadata", false),
        _ => ("contents", false),
    };
    if let Some(refused) = lacks(state, who, needs, write) {
        return refused;
    }
    if let Some(reply) = super::deploys::answer(state, request, id, rest) {
        return match request.method.as_str() {
            "GET" => tagged(request, reply),
            _ => reply,
        };
    }
    match (request.method.as_str(), rest) {
        ("GET", []) => Reply::ok(repository_json(state, id)),
        ("GET", ["branches", name]) => match branch_json(state, id, name) {
            Some(it) => tagged(request, Reply::ok(it)),
            None => Reply::refused(404, "Branch not found"),
        },
        ("GET", ["git", "matching-refs", prefix @ ..]) => {
            let prefix = format!("refs/{}", prefix.join("/"));
            let refs = state.repository(id).branches.iter();
            let found = refs.map(|(name, sha)| (format!("refs/heads/{name}"), sha));
            let found = found.filter(|(name, _)| name.starts_with(&prefix));
            let list = found
                .map(|(name, sha)| json!({"ref": name, "object": {"type": "commit", "sha": sha, "url": ""}}));
            tagged(request, Reply::ok(list.collect()))
        }
        ("GET", ["git", "commits", sha]) => match state.objects.get(sha) {
            Some(_) => Reply::ok(json!({"sha": sha, "tree": {"sha": tree_of(state, sha)}})),
            None => Reply::not_found(),
        },
        ("GET", ["git", "trees", sha]) => tree(state, sha),
        ("GET", ["commits", sha]) => match state.objects.get(sha) {
            Some(_) => Reply::ok(commit_json(state, sha)),
            None => Reply::refused(422, &format!("No commit found for SHA: {sha}")),
        },
        ("GET", ["commits", sha, "statuses"]) => {
            let all = state.repository(id).statuses.get(*sha);
            let all = all
                .into_iter()
                .flatten()
                .rev()
                .map(|it| status_json(state, it))
                .collect();
            Reply::page(request, state, all)
        }
        ("POST", ["statuses", sha]) => post_status(state, request, who, id, sha),
        ("GET", ["compare", both]) => compare(state, request, both),
        ("GET", ["activity"]) => {
            let asked = request.parameter("ref").unwrap_or_default();
            let all = state.repository(id).activity.iter().rev();
            let all = all.filter(|it| it.reference == asked).map(|it| {
                json!({"id": 1, "activity_type": it.kind, "ref": it.reference, "before": it.before, "after": it.after,
                    "timestamp": time(it.at), "actor": user_json(state, it.actor), "node_id": "", })
            });
            Reply::ok(all.take(100).collect())
        }
        ("GET", ["rules", "branches", name]) => Reply::page(request, state, in_force(state, id, name)),
        ("GET", ["rulesets", number]) => {
            let found = state
                .repository(id)
                .rulesets
                .iter()
                .find(|it| it.id.to_string() == *number);
            let Some(it) = found else {
                return Reply::not_found();
            };
            let mut out = json!({"id": it.id, "name": it.name, "target": "branch", "enforcement": "active"});
            // Who may bypass is for those who could change it.
            if lacks(state, who, "administration", true).is_none() {
                out["bypass_actors"] = json!(it.bypass);
            }
            Reply::ok(out)
        }
        ("GET", ["pulls"]) => list(state, request, id),
        ("GET", ["pulls", number]) => match known(state, id, number) {
            Some(number) => Reply::ok(pull_json(state, id, number, true)),
            None => Reply::not_found(),
        },
        ("GET", ["pulls", number, "files"]) => match known(state, id, number) {
            Some(number) => {
                let pull = state.repository(id).pulls[&number].clone();
                let files = files_of(state, &pull);
                let mut all: Vec<Value> = files.iter().map(|it| file_json(state, &pull.head, it)).collect();
                all.truncate(3_000);
                Reply::page(request, state, all)
            }
            None => Reply::not_found(),
        },
        ("PUT", ["pulls", number, "merge"]) => match known(state, id, number) {
            Some(number) => merge(state, request, who, id, number),
            None => Reply::not_found(),
        },
        _ => Reply::not_found(),
    }
}

fn known(state: &State, id: u64, number: &str) -> Option<u64> {
    let number = number.parse().ok()?;
    state.repository(id).pulls.contains_key(&number).then_some(number)
}

fn tree(state: &State, sha: &str) -> Reply {
    let Some(commit) = state.objects.get(sha) else {
        return Reply::not_found();
    };
    let entries = commit.tree.iter().map(|(path, entry)| {
        let kind = if entry.mode == "160000" { "commit" } else { "blob" };
        json!({"path": path, "mode": entry.mode, "type": kind, "sha": blob(&entry.content)})
    });
    Reply::ok(
        json!({"sha": tree_of(state, sha), "url": "", "truncated": false, "tree": entries.collect::<Vec<_>>()}),
    )
}

fn compare(state: &State, request: &Request, both: &str) -> Reply {
    let Some((from, to)) = both.split_once("...") else {
        return Reply::not_found();
    };
    if state.objects.get(from).is_none() || state.objects.get(to).is_none() {
        return Reply::not_found();
    }
    let Some(base) = state.objects.merge_base(from, to) else {
        return Reply::refused(404, "No common ancestor between the commits.");
    };
    let mut commits = state.objects.range(Some(from), to);
    commits.reverse();
    let behind = state.objects.range(Some(to), from).len();
    let status = match (commits.is_empty(), behind) {
        (true, 0) => "identical",
        (false, 0) => "ahead",
        (true, _) => "behind",
        (false, _) => "diverged",
    };
    let total = commits.len();
    let shown = commits.iter().map(|it| commit_json(state, it)).collect();
    let mut page = Reply::page(request, state, shown);
    let first = request.number("page", 1) == 1;
    let files = state.objects.diff(Some(&base), to);
    let files: Vec<Value> = files
        .iter()
        .take(if first { 300 } else { 0 })
        .map(|it| file_json(state, to, it))
        .collect();
    page.body = json!({
        "status": status, "ahead_by": total, "behind_by": behind, "total_commits": total,
        "merge_base_commit": {"sha": base}, "base_commit": {"sha": from}, "commits": page.body, "files": files,
    });
    page
}

fn list(state: &State, request: &Request, id: u64) -> Reply {
    let asked = |name: &str, otherwise: &str| request.parameter(name).unwrap_or_else(|| otherwise.to_owned());
    let (wanted, sort) = (asked("state", "open"), asked("sort", "created"));
    let base = request.parameter("base");
    let mut all: Vec<_> = state.repository(id).pulls.values().collect();
    all.retain(|it| match wanted.as_str() {
        "open" => !it.closed,
        "closed" => it.closed,
        _ => true,
    });
    all.retain(|it| base.as_ref().is_none_or(|base| it.base_ref == *base));
    match sort.as_str() {
        "updated" => all.sort_by_key(|it| it.updated),
        _ => all.sort_by_key(|it| it.number),
    }
    if asked("direction", "desc") == "desc" {
        all.reverse();
    }
    let shown = all
        .into_iter()
        .map(|it| pull_json(state, id, it.number, false))
        .collect();
    tagged(request, Reply::page(request, state, shown))
}

fn post_status(state: &mut State, request: &Request, who: Who, id: u64, sha: &str) -> Reply {
    let creator = match who {
        Who::Person(it) => it,
        _ => BOT,
    };
    if state.objects.get(sha).is_none() {
        return Reply::refused(422, &format!("No commit found for SHA: {sha}"));
    }
    let text = |name: &str| request.body[name].as_str().map(str::to_owned);
    let wanted = text("state").unwrap_or_default();
    if !["pending", "success", "failure", "error"].contains(&wanted.as_str()) {
        return Reply::refused(422, "Validation Failed");
    }
    let description = text("description");
    if description.as_ref().is_some_and(|it| it.chars().count() > 140) {
        let mut reply = Reply::refused(422, "Validation Failed");
        reply.body["errors"] = json!([{"message": "description is too long (maximum is 140 characters)"}]);
        return reply;
    }
    let status = Status {
        id: state.fresh(),
        state: wanted,
        context: text("context").unwrap_or_else(|| "default".to_owned()),
        description,
        target_url: text("target_url"),
        creator,
        at: Timestamp::now(),
    };
    let shown = status_json(state, &status);
    state.set_status(id, sha, status);
    Reply::new(201, shown)
}

fn merge(state: &mut State, request: &Request, who: Who, id: u64, number: u64) -> Reply {
    let pull = state.repository(id).pulls[&number].clone();
    if pull.closed {
        return Reply::refused(405, "Pull Request is not mergeable");
    }
    if state.repository(id).queue.contains_key(&pull.base_ref) {
        return Reply::refused(405, "Changes must be made through the merge queue");
    }
    match request.body["sha"].as_str() {
        Some(sha) if sha != pull.head => {
            return Reply::refused(409, "Head branch was modified. Review and try the merge again.");
        }
        Some(_) => {}
        None => state
            .violations
            .push(format!("a merge of #{number} that names no head")),
    }
    let tip = state.repository(id).branches[&pull.base_ref].clone();
    if pull.draft || !state.objects.merged_tree(&tip, &pull.head).1.is_empty() {
        return Reply::refused(405, "Pull Request is not mergeable");
    }
    if !lets_in(state, id, &pull.base_ref, &pull.head) {
        return Reply::refused(405, "Required status check \"signedapproval\" is expected.");
    }
    let method = request.body["merge_method"]
        .as_str()
        .unwrap_or("merge")
        .to_owned();
    let record = state.repository(id);
    let allowed = match method.as_str() {
        "merge" => record.merge_commits,
        "squash" => record.squash,
        _ => record.rebase,
    };
    if !allowed {
        return Reply::refused(405, "Merge commits are not allowed on this repository.");
    }
    let by = match who {
        Who::Person(it) => it,
        _ => BOT,
    };
    let landed = state.merge(id, number, &method, by);
    Reply::ok(json!({"sha": landed, "merged": true, "message": "Pull Request successfully merged"}))
}
