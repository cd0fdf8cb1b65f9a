//! Branches, commits, differences, pull requests and statuses.

use crate::support::forge::bitbucket_cloud::api::{Who, not_found, ok, page, plain, refused};
use crate::support::forge::bitbucket_cloud::settings::{lacks_builds, lets};
use crate::support::forge::bitbucket_cloud::shapes::{
    commit_json, diff_text, diffstat_json, pull_json, status_json, user_json,
};
use crate::support::forge::bitbucket_cloud::state::{State, Status};
use crate::support::forge::host::{Answer, Asked};
use jiff::Timestamp;
use serde_json::{Value, json};

pub fn answer(state: &mut State, asked: &Asked, who: &Who, id: &str, rest: &[&str]) -> Answer {
    match (asked.method.as_str(), rest) {
        ("GET", ["refs", "branches"]) => {
            let all: Vec<Value> = state
                .repository(id)
                .branches
                .iter()
                .map(|(name, sha)| branch_json(state, id, name, sha))
                .collect();
            page(state, asked, all, 100, false, None)
        }
        ("GET", ["refs", "branches", name]) => match state.repository(id).branches.get(*name) {
            Some(sha) => ok(branch_json(state, id, name, sha)),
            None => refused(404, &format!("Branch \"{name}\" does not exist")),
        },
        ("GET", ["commit", sha]) => match commit_named(state, sha) {
            Some(sha) => ok(commit_json(state, id, &sha)),
            None => refused(404, &format!("Commit not found {sha}")),
        },
        ("GET", ["commits", sha]) => commits(state, asked, id, sha),
        ("GET", ["merge-base", both]) => {
            let ends = both.split_once("..").and_then(|(one, other)| {
                let (one, other) = (commit_named(state, one)?, commit_named(state, other)?);
                state.objects.merge_base(&one, &other)
            });
            match ends {
                Some(sha) => ok(commit_json(state, id, &sha)),
                None => not_found(),
            }
        }
        ("GET", ["diffstat", spec]) => match ends(state, spec) {
            Some((base, head)) => {
                let files = diffstat_json(&state.objects.diff(Some(&base), &head));
                let size = state.counted_files;
                let length = asked.parameter("pagelen").and_then(|it| it.parse().ok());
                // A page may be shorter than asked for.
                if length.is_some_and(|it: usize| it > state.files_page) {
                    return shorter_page(state, asked, files, size);
                }
                page(state, asked, files, 5000, false, size)
            }
            None => not_found(),
        },
        ("GET", ["diff", spec]) => match ends(state, spec) {
            Some((base, head)) => {
                let files = state.objects.diff(Some(&base), &head);
                let mut answer = ok(Value::Null);
                answer.content_type = "text/plain; charset=utf-8";
                answer.body = diff_text(state, Some(&base), &head, &files).into_bytes();
                answer
            }
            None => not_found(),
        },
        ("GET", ["src", sha, path @ ..]) => {
            let commit = commit_named(state, sha).and_then(|it| state.objects.get(&it).cloned());
            match commit.and_then(|it| it.tree.get(&path.join("/")).cloned()) {
                Some(entry) => {
                    let mut answer = ok(Value::Null);
                    answer.content_type = "application/octet-stream";
                    answer.body = entry.content.as_bytes().to_vec();
                    answer
                }
                None => not_found(),
            }
        }
        ("GET", ["commit", sha, "statuses"]) => {
            let all = state.repository(id).statuses.iter();
            let all = all
                .filter(|((commit, _), _)| commit == sha)
                .map(|it| status_json(it.1))
                .collect();
            page(state, asked, all, 100, false, None)
        }
        ("POST", ["commit", sha, "statuses", "build"]) => post_status(state, asked, id, sha),
        ("GET", ["pullrequests"]) => list(state, asked, id),
        ("GET", ["pullrequests", number]) => match known(state, id, number) {
            Some(number) => ok(pull_json(state, id, &state.repository(id).pulls[&number], true)),
            None => not_found(),
        },
        ("GET", ["pullrequests", number, "activity"]) => match known(state, id, number) {
            Some(number) => activity(state, asked, id, number),
            None => not_found(),
        },
        ("POST", ["pullrequests", number, "merge"]) => match known(state, id, number) {
            Some(number) => merge(state, asked, who, id, number),
            None => not_found(),
        },
        ("GET", ["pullrequests", _, "merge", "task-status", task]) => task_status(state, id, task),
        _ => not_found(),
    }
}

fn branch_json(state: &State, id: &str, name: &str, sha: &str) -> Value {
    json!({"type": "branch", "name": name, "target": commit_json(state, id, sha),
        "merge_strategies": state.repository(id).strategies})
}

fn known(state: &State, id: &str, number: &str) -> Option<u64> {
    let number = number.parse().ok()?;
    state.repository(id).pulls.contains_key(&number).then_some(number)
}

/// The commit that an id or the beginning of one names.
fn commit_named(state: &State, name: &str) -> Option<String> {
    state.objects.named(name)
}

/// Base and head of `HEAD..BASE`: Bitbucket names the newer one first.
fn ends(state: &State, spec: &str) -> Option<(String, String)> {
    let (head, base) = spec.split_once("..")?;
    Some((commit_named(state, base)?, commit_named(state, head)?))
}

fn shorter_page(state: &State, asked: &Asked, files: Vec<Value>, size: Option<u64>) -> Answer {
    let length = state.files_page;
    let number: usize = asked
        .parameter("page")
        .and_then(|it| it.parse().ok())
        .unwrap_or(1);
    let total = files.len();
    let shown: Vec<Value> = files
        .into_iter()
        .skip(length * (number - 1))
        .take(length)
        .collect();
    let mut body =
        json!({"values": shown, "pagelen": length, "page": number, "size": size.unwrap_or(total as u64)});
    if total > length * number {
        body["next"] = json!(format!(
            "https://elsewhere.test{}?page={}",
            asked.path,
            number + 1
        ));
    }
    ok(body)
}

fn commits(state: &State, asked: &Asked, id: &str, sha: &str) -> Answer {
    let Some(head) = commit_named(state, sha) else {
        return refused(404, &format!("Commit not found {sha}"));
    };
    let mut all = state.objects.range(None, &head);
    for name in asked.parameters("exclude") {
        let Some(but) = commit_named(state, &name) else {
            return refused(404, &format!("Commit not found {name}"));
        };
        let hidden = state.objects.history(&but);
        all.retain(|it| !hidden.contains(it));
    }
    let all = all.iter().map(|it| commit_json(state, id, it)).collect();
    page(state, asked, all, 100, true, None)
}

fn list(state: &State, asked: &Asked, id: &str) -> Answer {
    let mut states = asked.parameters("state");
    if states.is_empty() {
        states.push("OPEN".to_owned());
    }
    let mut all: Vec<_> = state
        .repository(id)
        .pulls
        .values()
        .filter(|it| states.iter().any(|state| state == it.state))
        .collect();
    match asked.parameter("sort").as_deref() {
        Some("-updated_on") => all.sort_by_key(|it| std::cmp::Reverse(it.updated)),
        Some("created_on") => all.sort_by_key(|it| it.number),
        Some(_) => return refused(400, "Invalid sort"),
        None => all.reverse(),
    }
    let all = all.iter().map(|it| pull_json(state, id, it, false)).collect();
    page(state, asked, all, 50, false, None)
}

fn activity(state: &State, asked: &Asked, id: &str, number: u64) -> Answer {
    let pull = &state.repository(id).pulls[&number];
    let all = pull.updates.iter().rev().map(|(by, head)| {
        json!({"pull_request": {"type": "pullrequest", "id": number}, "update": {
            "state": pull.state, "author": user_json(state, by), "source": {"commit": {"hash": head[..12]}}}})
    });
    page(state, asked, all.collect(), 50, true, None)
}

fn post_status(state: &mut State, asked: &Asked, id: &str, sha: &str) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else {
        return refused(400, "Bad request");
    };
    if state.objects.get(sha).is_none() {
        return refused(404, &format!("Commit not found {sha}"));
    }
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let (Some(key), Some(word), Some(url)) = (text("key"), text("state"), text("url")) else {
        return refused(400, "key, state and url are required");
    };
    if key.chars().count() > 40 {
        return refused(400, "key: Ensure this value has at most 40 characters");
    }
    if !["SUCCESSFUL", "FAILED", "INPROGRESS", "STOPPED"].contains(&word.as_str()) {
        return refused(400, "state: Invalid");
    }
    let status = Status {
        name: text("name").unwrap_or_else(|| key.clone()),
        state: word,
        url,
        description: text("description").unwrap_or_default(),
        refname: text("refname"),
        updated: Timestamp::now(),
        key,
    };
    let shown = status_json(&status);
    state.set_status(id, sha, status);
    plain(201, &shown)
}

fn merge(state: &mut State, asked: &Asked, who: &Who, id: &str, number: u64) -> Answer {
    let by = who.user.clone();
    let pull = state.repository(id).pulls[&number].clone();
    if pull.state != "OPEN" {
        return refused(400, "This pull request is already closed.");
    }
    if !lets(state, id, "restrict_merges", &pull.target_branch, by.as_deref()) {
        return refused(403, "You don't have permission to merge into this branch.");
    }
    if lacks_builds(state, id, &pull.target_branch, &pull.head) {
        return refused(400, "This pull request has unresolved merge checks.");
    }
    if let Some((sha, pusher)) = state.pushed_in_between.take() {
        state.move_branch(&pull.source, &pull.source_branch, &sha, &pusher);
    }
    let pull = state.repository(id).pulls[&number].clone();
    let tip = state.repository(id).branches[&pull.target_branch].clone();
    if pull.draft || !state.objects.merged_tree(&tip, &pull.head).1.is_empty() {
        return refused(400, "You can't merge until you resolve all merge conflicts.");
    }
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
    let record = state.repository(id);
    let strategy = body["merge_strategy"].as_str().unwrap_or(&record.strategies[0]);
    if !record.strategies.iter().any(|it| it == strategy) {
        return refused(400, "merge_strategy: Not allowed on this branch.");
    }
    let strategy = strategy.to_owned();
    let by = by.unwrap_or_else(|| "{nobody}".to_owned());
    if state.slow_merges {
        let task = format!("task-{}", state.fresh());
        let location = format!("{}{}/task-status/{task}", state.base_url, asked.path);
        state.tasks.push((task, id.to_owned(), number, by, 0));
        let mut answer = plain(202, &Value::Null);
        answer.headers.push(("location".to_owned(), location));
        return answer;
    }
    state.merge(id, number, &strategy, &by);
    ok(pull_json(state, id, &state.repository(id).pulls[&number], true))
}

fn task_status(state: &mut State, id: &str, task: &str) -> Answer {
    let Some(found) = state.tasks.iter_mut().find(|it| it.0 == task && it.1 == id) else {
        return refused(400, "No such task");
    };
    found.4 += 1;
    let (number, by, asked) = (found.2, found.3.clone(), found.4);
    match asked {
        1 => ok(json!({"task_status": "PENDING"})),
        2 => {
            state.merge(id, number, "merge_commit", &by);
            ok(json!({"task_status": "SUCCESS"}))
        }
        _ => ok(json!({"task_status": "SUCCESS"})),
    }
}
