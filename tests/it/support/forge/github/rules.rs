//! What GitHub's rules for branches ask for.

use crate::support::forge::github::state::{APP, BOT, State};
use serde_json::{Value, json};

/// The rules in force on a branch, as GitHub tells them.
pub fn in_force(state: &State, repository: u64, branch: &str) -> Vec<Value> {
    let record = state.repository(repository);
    let mut found = Vec::new();
    for set in record
        .rulesets
        .iter()
        .filter(|it| it.branches.iter().any(|it| it == branch))
    {
        for rule in &set.rules {
            let mut rule = rule.clone();
            rule["ruleset_id"] = json!(set.id);
            rule["ruleset_source_type"] = json!("Repository");
            rule["ruleset_source"] = json!(format!("{}/{}", record.owner, record.name));
            found.push(rule);
        }
    }
    found
}

/// Whether the required checks of a branch let a commit in.
pub fn lets_in(state: &State, repository: u64, branch: &str, sha: &str) -> bool {
    let newest = state.newest(repository, sha);
    let passes = |context: &str, source: Option<i64>| {
        newest.get(&context.to_ascii_lowercase()).is_some_and(|it| {
            let by_app = it.creator == BOT;
            it.state == "success" && source.is_none_or(|it| it < 0 || (it == APP as i64 && by_app))
        })
    };
    let of_rules = in_force(state, repository, branch)
        .iter()
        .filter(|it| it["type"] == "required_status_checks")
        .all(|it| {
            let checks = it["parameters"]["required_status_checks"].as_array();
            checks.into_iter().flatten().all(|it| {
                passes(
                    it["context"].as_str().unwrap_or_default(),
                    it["integration_id"].as_i64(),
                )
            })
        });
    let classic = state.repository(repository).classic.get(branch);
    of_rules
        && classic.is_none_or(|(checks, _)| checks.iter().all(|(context, source)| passes(context, *source)))
}

/// A branch, with what readers are told of its classic protection.
pub fn branch_json(state: &State, repository: u64, branch: &str) -> Option<Value> {
    let record = state.repository(repository);
    let sha = record.branches.get(branch)?;
    let classic = record.classic.get(branch);
    let checks = classic.map_or_else(
        || json!({"enforcement_level": "off", "contexts": [], "checks": []}),
        |(checks, admins)| {
            json!({
                "enforcement_level": if *admins { "everyone" } else { "non_admins" },
                "contexts": checks.iter().map(|it| it.0.clone()).collect::<Vec<_>>(),
                "checks": checks.iter().map(|it| json!({"context": it.0, "app_id": it.1})).collect::<Vec<_>>(),
            })
        },
    );
    Some(json!({
        "name": branch, "commit": {"sha": sha, "url": ""}, "protected": classic.is_some(),
        "protection": {"enabled": classic.is_some(), "required_status_checks": checks}, "protection_url": "",
    }))
}
