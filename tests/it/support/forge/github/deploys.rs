//! Workflow runs that deploy, and the environments' rules that hold them.

use crate::support::forge::github::FakeGitHub;
use crate::support::forge::github::api::{Reply, Request};
use crate::support::forge::github::shapes::{time, user_json};
use crate::support::forge::github::state::{APP, State};
use crate::support::forge::gitlab::repository::Sha;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A deployment, and the run it belongs to.
#[derive(Clone, Debug)]
pub struct Deploy {
    pub id: u64,
    pub run: u64,
    pub environment: String,
    pub branch: String,
    pub sha: Sha,
    pub by: u64,
    pub at: Timestamp,
    /// Oldest first, and when.
    pub states: Vec<(&'static str, Timestamp)>,
}

/// An environment with our rule, and whether administrators may bypass it.
#[derive(Clone, Debug)]
pub struct Environment {
    pub name: String,
    pub asks_us: bool,
    pub admins_bypass: bool,
}

fn run_json(state: &State, it: &Deploy) -> Value {
    let waits = it.states.last().map(|it| it.0) == Some("waiting");
    json!({
        "id": it.run, "name": "Deploy", "head_sha": it.sha, "head_branch": it.branch, "event": "push",
        "status": if waits { "waiting" } else { "in_progress" },
        "html_url": format!("{}/org/app/actions/runs/{}", state.base_url, it.run),
        "actor": user_json(state, it.by), "triggering_actor": user_json(state, it.by),
    })
}

fn deployment_json(state: &State, it: &Deploy) -> Value {
    let last = it.states.last().map_or(it.at, |it| it.1);
    json!({
        "id": it.id, "sha": it.sha, "ref": it.branch, "task": "deploy", "environment": it.environment,
        "creator": user_json(state, it.by), "created_at": time(it.at), "updated_at": time(last), "payload": {},
        "description": "", "original_environment": it.environment,
    })
}

/// What is asked about deployments; `None` for anything else.
pub fn answer(state: &mut State, request: &Request, id: u64, rest: &[&str]) -> Option<Reply> {
    let all = state.repository(id).deploys.clone();
    let found = |number: &str| all.iter().find(|it| it.id.to_string() == number);
    Some(match (request.method.as_str(), rest) {
        ("GET", ["deployments"]) => {
            let wanted = |name: &str, of: &str| request.parameter(name).is_none_or(|it| it == of);
            let shown = all.iter().rev();
            let shown = shown.filter(|it| wanted("sha", &it.sha) && wanted("environment", &it.environment));
            Reply::page(
                request,
                state,
                shown.map(|it| deployment_json(state, it)).collect(),
            )
        }
        ("GET", ["deployments", number]) => match found(number) {
            Some(it) => Reply::ok(deployment_json(state, it)),
            None => Reply::not_found(),
        },
        ("GET", ["deployments", number, "statuses"]) => {
            let Some(it) = found(number) else {
                return Some(Reply::not_found());
            };
            let shown = it.states.iter().rev().map(|(word, at)| {
                let url = format!("{}/org/app/actions/runs/{}/job/1", state.base_url, it.run);
                json!({"id": 1, "state": word, "log_url": url, "target_url": url, "created_at": time(*at),
                    "creator": user_json(state, it.by), "environment": it.environment})
            });
            Reply::page(request, state, shown.collect())
        }
        ("GET", ["actions", "runs"]) => {
            let wanted = request.parameter("status").unwrap_or_default();
            let shown: Vec<Value> = all
                .iter()
                .rev()
                .map(|it| run_json(state, it))
                .filter(|it| it["status"] == wanted)
                .collect();
            Reply::ok(json!({"total_count": shown.len(), "workflow_runs": shown}))
        }
        ("GET", ["actions", "runs", number]) => match all.iter().find(|it| it.run.to_string() == *number) {
            Some(it) => Reply::ok(run_json(state, it)),
            None => Reply::not_found(),
        },
        ("GET", ["actions", "runs", number, "pending_deployments"]) => {
            let own = all.iter().filter(|it| it.run.to_string() == *number);
            let waiting = own.filter(|it| it.states.last().map(|it| it.0) == Some("waiting"));
            Reply::ok(
                waiting
                    .map(|it| json!({"environment": {"id": 7, "name": it.environment}, "wait_timer": 0, "reviewers": []}))
                    .collect(),
            )
        }
        ("POST", ["actions", "runs", number, "deployment_protection_rule"]) => {
            let number = (*number).to_owned();
            review(state, request, id, &number)
        }
        ("GET", ["environments"]) => {
            let shown: Vec<Value> = state
                .repository(id)
                .environments
                .iter()
                .map(|it| json!({"id": 7, "name": it.name, "can_admins_bypass": it.admins_bypass}))
                .collect();
            Reply::ok(json!({"total_count": shown.len(), "environments": shown}))
        }
        ("GET", ["environments", name, "deployment_protection_rules"]) => {
            let Some(it) = state
                .repository(id)
                .environments
                .iter()
                .find(|it| it.name == *name)
            else {
                return Some(Reply::not_found());
            };
            let rules: Vec<Value> = it
                .asks_us
                .then(|| json!({"id": 3, "enabled": true, "app": {"id": APP, "slug": "gate"}}))
                .into_iter()
                .collect();
            Reply::ok(json!({"total_count": rules.len(), "custom_deployment_protection_rules": rules}))
        }
        _ => return None,
    })
}

fn review(state: &mut State, request: &Request, id: u64, run: &str) -> Reply {
    let environment = request.body["environment_name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let decided = request.body["state"].as_str().unwrap_or_default().to_owned();
    let now = Timestamp::now();
    let record = state.repository_mut(id);
    let found = record
        .deploys
        .iter_mut()
        .find(|it| it.run.to_string() == run && it.environment == environment);
    let Some(it) = found else {
        return Reply::not_found();
    };
    if it.states.last().map(|it| it.0) != Some("waiting") {
        return Reply::refused(422, "There is no pending deployment protection rule to review.");
    }
    match decided.as_str() {
        "approved" => it.states.extend([("queued", now), ("in_progress", now)]),
        "rejected" => it.states.push(("failure", now)),
        _ => return Reply::refused(422, "Validation Failed"),
    }
    Reply::new(204, Value::Null)
}

impl FakeGitHub {
    /// An environment, with our rule or without.
    pub fn add_environment(&self, repository: u64, name: &str, asks_us: bool, admins_bypass: bool) {
        self.change(|state| {
            let all = &mut state.repository_mut(repository).environments;
            all.retain(|it| it.name != name);
            all.push(Environment {
                name: name.to_owned(),
                asks_us,
                admins_bypass,
            });
        });
    }

    /// A workflow run on a branch's tip that deploys; it waits where the environment asks us. The deployment's number.
    pub fn deploy(&self, repository: u64, branch: &str, environment: &str, by: u64) -> u64 {
        self.change(|state| {
            let (id, run) = (state.fresh(), state.fresh());
            let record = state.repository_mut(repository);
            let sha = record.branches[branch].clone();
            let asks = record
                .environments
                .iter()
                .any(|it| it.name == environment && it.asks_us);
            let now = Timestamp::now();
            record.deploys.push(Deploy {
                id,
                run,
                environment: environment.to_owned(),
                branch: branch.to_owned(),
                sha: sha.clone(),
                by,
                at: now,
                states: if asks {
                    vec![("waiting", now)]
                } else {
                    vec![("queued", now), ("in_progress", now)]
                },
            });
            if asks {
                let url = format!(
                    "{}/api/v3/repos/org/app/actions/runs/{run}/deployment_protection_rule",
                    state.base_url
                );
                let payload = json!({"action": "requested", "environment": environment, "event": "push",
                    "deployment_callback_url": url, "deployment": {"id": id, "sha": sha, "ref": branch},
                    "pull_requests": [], "sender": user_json(state, by)});
                state.raise(repository, "deployment_protection_rule", payload);
            }
            id
        })
    }

    /// The newest state of a deployment.
    pub fn deploy_state(&self, repository: u64, id: u64) -> &'static str {
        self.read(|state| {
            let all = &state.repository(repository).deploys;
            let found = all.iter().find(|it| it.id == id).expect("a deployment");
            found.states.last().expect("a state").0
        })
    }
}
