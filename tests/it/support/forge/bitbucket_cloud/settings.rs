//! Branch restrictions and webhooks.

use crate::support::forge::bitbucket_cloud::api::{not_found, ok, page};
use crate::support::forge::bitbucket_cloud::state::State;
use crate::support::forge::host::{Answer, Asked};
use serde_json::{Value, json};

pub fn answer(state: &State, asked: &Asked, id: &str, rest: &[&str]) -> Answer {
    let record = state.repository(id);
    match (asked.method.as_str(), rest) {
        ("GET", ["branch-restrictions"]) => page(state, asked, record.restrictions.clone(), 100, false, None),
        ("GET", ["effective-branching-model"]) => ok(json!({
            "type": "effective_repository_branching_model",
            "development": {"name": "main", "branch": {"type": "branch", "name": "main"}, "use_mainbranch": true},
            "branch_types": [{"kind": "release", "prefix": "release/"}, {"kind": "feature", "prefix": "feature/"}],
        })),
        ("GET", ["hooks"]) => {
            let all = record.hooks.iter().map(|it| {
                json!({"type": "webhook_subscription", "url": it.url, "active": it.active, "events": it.events,
                    "secret_set": !it.secret.is_empty(), "description": "Gate"})
            });
            page(state, asked, all.collect(), 100, false, None)
        }
        _ => not_found(),
    }
}

/// Whether somebody is let through by the restrictions of that kind on a branch; those that have none of them, are.
pub fn lets(state: &State, id: &str, kind: &str, branch: &str, user: Option<&str>) -> bool {
    let record = state.repository(id);
    let on_it = record.restrictions.iter().filter(|it| {
        it["kind"] == kind
            && it["branch_match_kind"] == "glob"
            && (it["pattern"] == branch || it["pattern"] == "**")
    });
    let mut on_it = on_it.peekable();
    if on_it.peek().is_none() {
        return true;
    }
    let named = |it: &Value| {
        let users = it["users"].as_array();
        users
            .into_iter()
            .flatten()
            .any(|it| it["uuid"].as_str() == user && user.is_some())
    };
    on_it.any(named)
}

/// Whether the branch's merge checks are enforced and ask for builds that a commit has not.
pub fn lacks_builds(state: &State, id: &str, branch: &str, sha: &str) -> bool {
    let record = state.repository(id);
    let of = |kind: &str| {
        record
            .restrictions
            .iter()
            .find(|it| it["kind"] == kind && it["pattern"] == branch)
    };
    let (Some(builds), Some(_)) = (of("require_passing_builds_to_merge"), of("enforce_merge_checks")) else {
        return false;
    };
    let all: Vec<_> = record
        .statuses
        .iter()
        .filter(|((commit, _), _)| commit == sha)
        .map(|it| it.1)
        .collect();
    let green = all.iter().filter(|it| it.state == "SUCCESSFUL").count() as u64;
    green < builds["value"].as_u64().unwrap_or(1) || all.iter().any(|it| it.state != "SUCCESSFUL")
}
