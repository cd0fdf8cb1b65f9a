//! The repository as GitLab's API tells it: branches, tags, commits, compares and merge bases.
//! Names are resolved as git does it: a tag wins over a branch of the same name, `refs/heads/…` is the branch.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::decode;
use crate::support::forge::gitlab::api::only;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::api::page_of_commits;
use crate::support::forge::gitlab::pipelines;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;

fn no_commit() -> Reply {
    Reply::message(404, "404 Commit Not Found")
}

/// `/projects/:id/repository/…`.
pub fn route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let method = call.request.method.as_str();
    let project = call.project_as(state, REPORTER)?;
    match rest {
        ["branches"] if call.is("POST") => create_branch(state, call, project),
        ["branches", name] if call.is("DELETE") => delete_branch(state, call, project, &decode(name)),
        ["branches"] => only(method, "GET").and_then(|()| branches(state, call, project)),
        ["branches", name] => only(method, "GET").and_then(|()| branch(state, call, project, &decode(name))),
        ["tags"] => only(method, "GET").and_then(|()| tags(state, call, project)),
        ["tags", name] => only(method, "GET").and_then(|()| tag(state, project, &decode(name))),
        ["commits"] => only(method, "GET").and_then(|()| commits(state, call, project)),
        ["commits", name, rest @ ..] => {
            only(method, "GET").and_then(|()| one_commit(state, call, project, &decode(name), rest))
        }
        ["compare"] => only(method, "GET").and_then(|()| compare(state, call, project)),
        ["merge_base"] => only(method, "GET").and_then(|()| merge_base(state, call, project)),
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// `search` is a part of the name, `^` binds it to the start and `$` to the end; `regex` is RE2.
fn branches(state: &State, call: &Call, project: u64) -> Answer {
    let regex = match call.params.text("regex") {
        None => None,
        Some(pattern) => {
            Some(regex_lite::Regex::new(&pattern).map_err(|_| Reply::error(400, "regex is invalid"))?)
        }
    };
    let search = call.params.text("search");
    let names = state.project(project).branches.keys().filter(|name| {
        search.as_ref().is_none_or(|text| found(name, text))
            && regex.as_ref().is_none_or(|regex| regex.is_match(name))
    });
    let list = names
        .map(|name| shapes::branch(state, project, name, call.user))
        .collect();
    page(state, call.request, &call.params, list)
}

fn found(name: &str, search: &str) -> bool {
    match (search.strip_prefix('^'), search.strip_suffix('$')) {
        (Some(start), _) if start.ends_with('$') => name == start.trim_end_matches('$'),
        (Some(start), _) => name.starts_with(start),
        (_, Some(end)) => name.ends_with(end),
        _ => name.to_lowercase().contains(&search.to_lowercase()),
    }
}

fn branch(state: &State, call: &Call, project: u64, name: &str) -> Answer {
    if !state.project(project).branches.contains_key(name) {
        return Err(Reply::message(404, "404 Branch Not Found"));
    }
    Ok(Reply::json(200, &shapes::branch(state, project, name, call.user)))
}

fn create_branch(state: &mut State, call: &Call, project: u64) -> Answer {
    call.project_as(state, DEVELOPER)?;
    let (name, from) = (call.params.required("branch")?, call.params.required("ref")?);
    let bad = |why: String| Err(Reply::message(400, &why));
    if state.branch(project, &name).is_some() {
        return bad("Branch already exists".to_owned());
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    if name.is_empty() || name.contains("..") || name.contains(odd) || name.ends_with('/') {
        return bad("Branch name is invalid".to_owned());
    }
    let Some(sha) = state.find_commit(project, &from) else {
        return bad(format!("Invalid reference name: {from}"));
    };
    if !state.may_push_to(project, &name, call.user) {
        return bad("You are not allowed to create protected branches on this project.".to_owned());
    }
    state.set_branch(project, &name, &sha);
    state.pushed(project, &name, None, call.user);
    Ok(Reply::json(
        201,
        &shapes::branch(state, project, &name, call.user),
    ))
}

/// A protected branch goes only by the hand of a Maintainer, who may do it by API and page, though not by `git push`.
fn delete_branch(state: &mut State, call: &Call, project: u64, name: &str) -> Answer {
    call.project_as(state, DEVELOPER)?;
    if state.branch(project, name).is_none() {
        return Err(Reply::message(404, "404 Branch Not Found"));
    }
    if name == state.project(project).default_branch {
        return Err(Reply::message(405, "Cannot remove HEAD branch"));
    }
    let guarded = !state.protections(project, name).is_empty();
    if guarded && state.level(project, call.user) < MAINTAINER {
        let why = "You are not allowed to delete protected branches from this project.";
        return Err(Reply::message(400, why));
    }
    state.delete_branch(project, name, call.user);
    Ok(Reply::empty(204))
}

fn tags(state: &State, call: &Call, project: u64) -> Answer {
    let names = state.project(project).tags.keys();
    let list = names.map(|name| shapes::tag(state, project, name)).collect();
    page(state, call.request, &call.params, list)
}

fn tag(state: &State, project: u64, name: &str) -> Answer {
    if !state.project(project).tags.contains_key(name) {
        return Err(Reply::message(404, "404 Tag Not Found"));
    }
    Ok(Reply::json(200, &shapes::tag(state, project, name)))
}

/// `/repository/commits`: a ref, or a range `a..b`; newest first; GitLab counts no total here.
fn commits(state: &State, call: &Call, project: u64) -> Answer {
    let params = &call.params;
    let (since, until) = (params.date("since")?, params.date("until")?);
    let straight = params.flag("first_parent")?.unwrap_or(false);
    let list = if params.flag("all")?.unwrap_or(false) {
        everything(state, project)
    } else {
        let from = params
            .text("ref_name")
            .unwrap_or_else(|| state.project(project).default_branch.clone());
        let (older, tip) = match from.split_once("..") {
            Some((older, tip)) => (Some(older.to_owned()), tip.to_owned()),
            None => (None, from),
        };
        let tip = state.find_commit(project, &tip).ok_or_else(no_commit)?;
        let older = match older {
            None => None,
            Some(name) => Some(state.find_commit(project, &name).ok_or_else(no_commit)?),
        };
        if straight {
            state.objects.first_parents(older.as_deref(), &tip)
        } else {
            state.objects.range(older.as_deref(), &tip)
        }
    };
    let commits = list.iter().filter_map(|sha| state.objects.get(sha));
    let within = commits.filter(|c| since.is_none_or(|at| c.at >= at) && until.is_none_or(|at| c.at <= at));
    let list = within
        .map(|commit| shapes::commit(state, project, commit, true))
        .collect();
    page_of_commits(state, call.request, params, list)
}

/// Every commit a branch or tag leads to, newest first.
fn everything(state: &State, project: u64) -> Vec<Sha> {
    let record = state.project(project);
    let tips = record.branches.values().chain(record.tags.values());
    let all: BTreeSet<Sha> = tips.flat_map(|tip| state.objects.history(tip)).collect();
    let mut list: Vec<Sha> = all.into_iter().collect();
    list.sort_by_key(|sha| std::cmp::Reverse(state.objects.get(sha).map(|commit| commit.at)));
    list
}

fn one_commit(state: &State, call: &Call, project: u64, name: &str, rest: &[&str]) -> Answer {
    let sha = state.find_commit(project, name).ok_or_else(no_commit)?;
    let commit = state.objects.get(&sha).ok_or_else(no_commit)?;
    let paged = |list: Vec<Value>| page(state, call.request, &call.params, list);
    match rest {
        [] => Ok(Reply::json(200, &shapes::commit_detail(state, project, commit))),
        ["diff"] => {
            let files = state
                .objects
                .diff(commit.parents.first().map(String::as_str), &sha);
            paged(files.iter().map(shapes::file_diff).collect())
        }
        ["statuses"] => pipelines::statuses(state, call, project, &sha),
        ["merge_requests"] => {
            let all = state.project(project).merge_requests.values();
            let with = all.filter(|m| {
                m.diff.commits.contains(&sha)
                    || m.merge_commit_sha.as_ref() == Some(&sha)
                    || m.squash_commit_sha.as_ref() == Some(&sha)
            });
            paged(with.map(|m| shapes::change_in_list(state, m)).collect())
        }
        ["refs"] => {
            let wanted = call.params.choice("type", &["branch", "tag", "all"])?;
            let wanted = wanted.filter(|kind| kind != "all");
            let of = |kind: &str| wanted.as_ref().is_none_or(|wanted| wanted == kind);
            let mut list = Vec::new();
            if of("branch") {
                let names = state.branches_with(project, &sha).into_iter();
                list.extend(names.map(|name| json!({"type": "branch", "name": name})));
            }
            if of("tag") {
                let tags = state.project(project).tags.iter();
                let with = tags.filter(|(_, tip)| state.objects.is_ancestor(&sha, tip));
                list.extend(with.map(|(name, _)| json!({"type": "tag", "name": name})));
            }
            paged(list)
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// `/repository/compare`: the commits of `to` that `from` lacks, oldest first, and the diff from the merge base
/// (`straight`: from `from` itself). Above the instance's diff limit the diff is cut and `compare_timeout` says so.
fn compare(state: &State, call: &Call, project: u64) -> Answer {
    let params = &call.params;
    let (from, to) = (params.required("from")?, params.required("to")?);
    let straight = params.flag("straight")?.unwrap_or(false);
    let find = |name: &str| {
        state
            .find_commit(project, name)
            .ok_or_else(|| Reply::message(404, "404 Ref Not Found"))
    };
    let (start, end) = (find(&from)?, find(&to)?);
    let mut list = state.objects.range(Some(&start), &end);
    list.reverse();
    let base = if straight {
        Some(start.clone())
    } else {
        state.objects.merge_base(&start, &end)
    };
    let files = match &base {
        Some(base) => state.objects.diff(Some(base), &end),
        None => Vec::new(),
    };
    let cut = files.len() > state.max_files;
    let diffs: Vec<Value> = files
        .iter()
        .take(state.max_files)
        .map(shapes::file_diff)
        .collect();
    let commits: Vec<Value> = list
        .iter()
        .filter_map(|sha| state.objects.get(sha))
        .map(|commit| shapes::commit(state, project, commit, true))
        .collect();
    let web = format!(
        "{}/{}/-/compare/{start}...{end}",
        state.base_url,
        state.project(project).path
    );
    let body = json!({
        "commit": commits.last(),
        "commits": commits,
        "diffs": diffs,
        "compare_timeout": cut,
        "compare_same_ref": start == end,
        "web_url": web,
    });
    Ok(Reply::json(200, &body))
}

fn merge_base(state: &State, call: &Call, project: u64) -> Answer {
    let refs = call
        .params
        .texts("refs")
        .ok_or_else(|| Reply::error(400, "refs is missing"))?;
    if refs.len() < 2 {
        return Err(Reply::message(400, "Provide at least 2 refs"));
    }
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for name in &refs {
        match state.find_commit(project, name) {
            Some(sha) => found.push(sha),
            None => unknown.push(name.as_str()),
        }
    }
    if !unknown.is_empty() {
        let noun = if unknown.len() == 1 { "ref" } else { "refs" };
        return Err(Reply::message(
            400,
            &format!("Could not find {noun}: {}", unknown.join(", ")),
        ));
    }
    let first = found.remove(0);
    let base = found
        .iter()
        .try_fold(first, |base, sha| state.objects.merge_base(&base, sha));
    let base = base.and_then(|sha| state.objects.get(&sha));
    let base = base.ok_or_else(|| Reply::message(404, "404 Merge Base Not Found"))?;
    Ok(Reply::json(200, &shapes::commit(state, project, base, true)))
}

/// `/projects/:id/events`: of all activity the fake keeps the pushes, those of the merge button among them.
pub fn events(state: &State, call: &Call) -> Answer {
    let action = call.params.text("action");
    let (after, before) = (call.params.date("after")?, call.params.date("before")?);
    let sort = call.params.choice("sort", &["asc", "desc"])?;
    let project = call.project_as(state, REPORTER)?;
    let day = jiff::SignedDuration::from_hours(24);
    // `after` and `before` are days, and themselves left out.
    let within = |at: Timestamp| after.is_none_or(|d| at >= d + day) && before.is_none_or(|d| at < d);
    let wanted = action.is_none_or(|action| action == "pushed");
    let all = state
        .project(project)
        .pushes
        .iter()
        .filter(|push| wanted && within(push.at));
    let mut list: Vec<Value> = all.map(|push| shapes::push_event(state, project, push)).collect();
    if sort.as_deref() != Some("asc") {
        list.reverse();
    }
    page(state, call.request, &call.params, list)
}
