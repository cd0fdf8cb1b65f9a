//! Pull requests: what is shown of them, and merging.

use crate::support::forge::bitbucket_data_center::api::{Caller, Reply, Request};
use crate::support::forge::bitbucket_data_center::repositories::listed;
use crate::support::forge::bitbucket_data_center::shapes::{
    commit_json, pull_json, raw_diff, time, user_json,
};
use crate::support::forge::bitbucket_data_center::state::{Access, Pull, State};
use serde_json::{Value, json};

pub fn answer(
    state: &mut State,
    request: &Request<'_>,
    api: &str,
    by: Caller,
    id: u64,
    rest: &[&str],
) -> Option<Reply> {
    let ["pull-requests", rest @ ..] = rest else {
        return None;
    };
    if api != "api" {
        return None;
    }
    let method = request.method;
    let Some((number, rest)) = rest.split_first() else {
        return (method == "GET").then(|| listed(state, request, id));
    };
    let (number, diff) = match number.strip_suffix(".diff") {
        Some(number) => (number, true),
        None => (*number, false),
    };
    let found = number
        .parse()
        .ok()
        .and_then(|it: u64| state.repository(id).pulls.get(&it).cloned());
    let Some(pull) = found else {
        return Some(Reply::not_found(&format!("Pull request {number}")));
    };
    Some(match (method, rest) {
        ("GET", []) if diff => {
            let base = state.objects.merge_base(&pull.tip, &pull.head);
            let files = state.objects.diff(base.as_deref(), &pull.head);
            Reply::plain(raw_diff(&files))
        }
        ("GET", []) => Reply::ok(pull_json(state, id, pull.id)),
        ("GET", ["merge-base"]) => match state.objects.merge_base(&pull.tip, &pull.head) {
            Some(base) => Reply::ok(commit_json(state, &base)),
            None => Reply::nothing(),
        },
        ("GET", ["commits"]) => {
            let all = state.objects.range(Some(&pull.tip), &pull.head);
            let shown = all.iter().map(|it| commit_json(state, it)).collect();
            Reply::page(request, state, shown)
        }
        ("GET", ["activities"]) => {
            let all = pull.activities.iter().rev();
            let shown = all.map(|it| {
                let mut out = json!({"id": it.id, "action": it.action, "createdDate": time(it.at), "user": user_json(state, it.user)});
                for (name, value) in it.more.as_object().into_iter().flatten() {
                    out[name] = value.clone();
                }
                out
            });
            Reply::page(request, state, shown.collect())
        }
        ("GET", ["merge"]) if pull.state != "OPEN" => not_open(),
        ("GET", ["merge"]) => {
            let (conflicted, vetoes) = objections(state, id, &pull, by);
            let outcome = if conflicted { "CONFLICTED" } else { "CLEAN" };
            Reply::ok(
                json!({"canMerge": !conflicted && vetoes.is_empty(), "conflicted": conflicted, "outcome": outcome,
                "vetoes": vetoes.iter().map(|it| json!({"summaryMessage": it, "detailedMessage": it})).collect::<Vec<_>>()}),
            )
        }
        ("POST", ["merge"]) => merge(state, request, id, &pull, by),
        _ => Reply::not_found("This page"),
    })
}

fn not_open() -> Reply {
    Reply::refused(
        409,
        "pull.IllegalPullRequestStateException",
        "This pull request is not open.",
    )
}

/// Whether it conflicts, and why it may not be merged by somebody now.
fn objections(state: &State, id: u64, pull: &Pull, by: Caller) -> (bool, Vec<String>) {
    let record = state.repository(id);
    let tip = &record.branches[&pull.to_ref];
    let conflicted = !state.objects.merged_tree(tip, &pull.head).1.is_empty();
    let mut vetoes = Vec::new();
    if pull.draft {
        vetoes.push("This pull request is a draft.".to_owned());
    }
    if by.access < Access::Write {
        vetoes.push("You do not have permission to merge.".to_owned());
    }
    let reference = format!("refs/heads/{}", pull.to_ref);
    for it in &record.restrictions {
        let about = it["matcher"]["id"] == reference.as_str() && it["type"] == "read-only";
        let users = it["users"].as_array().into_iter().flatten();
        if about && !users.into_iter().any(|it| it["id"] == by.user) {
            vetoes.push("Branch permissions do not allow you to change this branch.".to_owned());
        }
    }
    let green = |key: &str| {
        let builds = record.builds.get(&pull.head);
        builds.is_some_and(|it| {
            it.values()
                .any(|it| it.parent.as_deref() == Some(key) && it.state == "SUCCESSFUL")
        })
    };
    for it in record
        .conditions
        .iter()
        .filter(|it| it["refMatcher"]["id"] == reference.as_str())
    {
        let keys = it["buildParentKeys"].as_array().into_iter().flatten();
        if !keys.into_iter().filter_map(Value::as_str).all(green) {
            vetoes.push("Not all required builds are successful yet.".to_owned());
        }
    }
    let wanted = record.settings["requiredApprovers"]["enabled"] == true;
    if wanted {
        vetoes.push("You need approvals of reviewers before this can be merged.".to_owned());
    }
    (conflicted, vetoes)
}

fn merge(state: &mut State, request: &Request<'_>, id: u64, pull: &Pull, by: Caller) -> Reply {
    if by.access < Access::Write {
        return Reply::forbidden();
    }
    if pull.state != "OPEN" {
        return not_open();
    }
    let version = request
        .parameter("version")
        .and_then(|it| it.parse::<i64>().ok())
        .or(request.body["version"].as_i64());
    match version {
        Some(version) if version == pull.version => {}
        Some(_) => {
            return Reply::refused(
                409,
                "pull.PullRequestOutOfDateException",
                "You are attempting to modify a pull request based on out-of-date information.",
            );
        }
        None => {
            let number = pull.id;
            state
                .violations
                .push(format!("a merge of #{number} that names no version"));
            return Reply::refused(409, "pull.PullRequestOutOfDateException", "version is required");
        }
    }
    if state.users[&by.user].email.is_empty() {
        return Reply::refused(
            409,
            "scm.CommitAuthorException",
            "Only users with a valid e-mail address can create a commit",
        );
    }
    let (conflicted, vetoes) = objections(state, id, pull, by);
    if conflicted || !vetoes.is_empty() {
        let mut reply = Reply::refused(
            409,
            "pull.PullRequestMergeVetoedException",
            "Merging the pull request was vetoed.",
        );
        reply.body["errors"][0]["conflicted"] = json!(conflicted);
        reply.body["errors"][0]["vetoes"] = json!(
            vetoes
                .iter()
                .map(|it| json!({"summaryMessage": it, "detailedMessage": it}))
                .collect::<Vec<_>>()
        );
        return reply;
    }
    if let Some((number, who, commit)) = state.race.take() {
        assert_eq!(
            number, pull.id,
            "another pull request is merged than the raced one"
        );
        let sha = state.objects.commit(Some(&pull.head), &commit);
        state.move_branch(pull.source, &pull.from_ref, &sha, who);
    }
    let strategy = state.repository(id).strategy;
    state.merge(id, pull.id, strategy, by.user);
    Reply::ok(pull_json(state, id, pull.id))
}
