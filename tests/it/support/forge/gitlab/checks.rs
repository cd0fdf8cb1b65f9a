//! External status checks (Ultimate): a service is told of merge requests and answers `passed` for a head.
//! Whoever may push may answer for the service; that is GitLab's rule and no fault of the fake.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::check_sha;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::licensed;
use crate::support::forge::gitlab::api::method_not_allowed;
use crate::support::forge::gitlab::api::only;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::hooks::fresh_uuid;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::Delivery;
use crate::support::forge::gitlab::state::Fate;
use crate::support::forge::gitlab::state::HookMode;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::MergeRequest;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;

/// A service a project has named.
#[derive(Clone, Debug)]
pub struct StatusCheck {
    pub id: u64,
    pub name: String,
    pub url: String,
    pub secret: Option<String>,
    /// Ids of protected branches; none: all branches.
    pub branches: Vec<u64>,
}

/// What was answered for a head of a merge request; the newest counts.
#[derive(Clone, Debug)]
pub struct CheckResponse {
    pub id: u64,
    pub check: u64,
    pub sha: Sha,
    /// `pending`, `passed` or `failed`.
    pub status: String,
    pub at: Timestamp,
    pub retried: bool,
}

fn unknown() -> Reply {
    Reply::message(404, "404 Not found")
}

fn unauthorized() -> Reply {
    Reply::message(401, "401 Unauthorized")
}

/// `/projects/:id/external_status_checks/…`. The licence is looked at before the role.
pub fn route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project(state)?;
    licensed(state, Tier::Ultimate, unauthorized())?;
    if state.level(project, call.user) < MAINTAINER {
        return Err(if call.is("GET") {
            unauthorized()
        } else {
            Reply::json(401, &json!({"message": ["Not allowed"]}))
        });
    }
    let [id, rest @ ..] = rest else {
        return match call.request.method.as_str() {
            "GET" => {
                let checks = state.project(project).status_checks.iter();
                let list = checks.map(|check| shown(state, project, check)).collect();
                page(state, call.request, &call.params, list)
            }
            "POST" => create(state, call, project),
            _ => Err(method_not_allowed()),
        };
    };
    if !rest.is_empty() {
        return Err(Reply::error(404, "404 Not Found"));
    }
    let id = int(id, "check_id")?;
    let at = state
        .project(project)
        .status_checks
        .iter()
        .position(|check| check.id == id);
    let at = at.ok_or_else(unknown)?;
    match call.request.method.as_str() {
        "PUT" => {
            let mut check = state.project(project).status_checks[at].clone();
            fill(state, call, project, &mut check)?;
            let body = shown(state, project, &check);
            state.project_mut(project).status_checks[at] = check;
            Ok(Reply::json(200, &body))
        }
        "DELETE" => {
            state.project_mut(project).status_checks.remove(at);
            Ok(Reply::empty(204))
        }
        _ => Err(method_not_allowed()),
    }
}

fn create(state: &mut State, call: &Call, project: u64) -> Answer {
    let (name, url) = (
        call.params.required("name")?,
        call.params.required("external_url")?,
    );
    let mut check = StatusCheck {
        id: state.fresh_id(),
        name,
        url,
        secret: None,
        branches: Vec::new(),
    };
    fill(state, call, project, &mut check)?;
    let body = shown(state, project, &check);
    state.project_mut(project).status_checks.push(check);
    Ok(Reply::json(201, &body))
}

/// Takes what a call gives; name and address are each unique in the project.
fn fill(state: &State, call: &Call, project: u64, check: &mut StatusCheck) -> Result<(), Reply> {
    let params = &call.params;
    check.name = params.text("name").unwrap_or(check.name.clone());
    check.url = params.text("external_url").unwrap_or(check.url.clone());
    let invalid = |what: &str| Err(Reply::json(422, &json!({"message": [what]})));
    let good = url::Url::parse(&check.url).is_ok_and(|it| matches!(it.scheme(), "http" | "https"));
    if !good {
        return invalid("External url is blocked: Only allowed schemes are http, https");
    }
    let others = || {
        state
            .project(project)
            .status_checks
            .iter()
            .filter(|old| old.id != check.id)
    };
    if others().any(|old| old.name == check.name) {
        return invalid("Name has already been taken");
    }
    if others().any(|old| old.url == check.url) {
        return invalid("External url has already been taken");
    }
    if let Some(secret) = params.text("shared_secret") {
        check.secret = (!secret.is_empty()).then_some(secret);
    }
    if let Some(branches) = params.numbers("protected_branch_ids")? {
        let known = |id: &u64| state.project(project).protections.iter().any(|p| p.id == *id);
        check.branches = branches.into_iter().filter(known).collect();
    }
    Ok(())
}

fn shown(state: &State, project: u64, check: &StatusCheck) -> Value {
    let protections = state.project(project).protections.iter();
    let covered = protections.filter(|p| check.branches.contains(&p.id));
    let branches: Vec<Value> = covered
        .map(|p| json!({"id": p.id, "project_id": project, "name": p.name, "code_owner_approval_required": p.code_owners}))
        .collect();
    json!({
        "id": check.id,
        "name": check.name,
        "project_id": project,
        "external_url": check.url,
        "hmac": check.secret.is_some(),
        "protected_branches": branches,
    })
}

/// The part of `/projects/:id/merge_requests/:iid/…` that is about status checks.
pub fn change_route(state: &mut State, call: &Call, change: &MergeRequest, rest: &[&str]) -> Answer {
    let method = call.request.method.as_str();
    licensed(state, Tier::Ultimate, unauthorized())?;
    if state.level(change.project, call.user) < DEVELOPER {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    match rest {
        ["status_checks"] => only(method, "GET").and_then(|()| {
            let one = |check: &StatusCheck| {
                let status = state.check_status(change, check.id);
                json!({"id": check.id, "name": check.name, "external_url": check.url, "status": status})
            };
            let list = state.checks_of(change).into_iter().map(one).collect();
            page(state, call.request, &call.params, list)
        }),
        ["status_check_responses"] => only(method, "POST").and_then(|()| respond(state, call, change)),
        ["status_checks", id, "retry"] => only(method, "POST")
            .and_then(|()| retry(state, call, change, int(id, "external_status_check_id")?)),
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// In GitLab's order: the check must exist (404), then the sha must be the head (409).
fn respond(state: &mut State, call: &Call, change: &MergeRequest) -> Answer {
    let params = &call.params;
    let sha = params.required("sha")?;
    params.required("external_status_check_id")?;
    params.required("status")?;
    let id = params.number("external_status_check_id")?.expect("just required");
    let status = params
        .choice("status", &["passed", "failed", "pending"])?
        .expect("just required");
    let checks = &state.project(change.project).status_checks;
    let check = checks
        .iter()
        .find(|check| check.id == id)
        .cloned()
        .ok_or_else(unknown)?;
    check_sha(params, change)?;
    let response = state.answer_check(change, id, &sha, &status);
    let body = json!({
        "id": response,
        "merge_request": shapes::change_in_list(state, state.change(change.project, change.iid)),
        "external_status_check": shown(state, change.project, &check),
    });
    Ok(Reply::json(201, &body))
}

fn retry(state: &mut State, call: &Call, change: &MergeRequest, id: u64) -> Answer {
    let checks = &state.project(change.project).status_checks;
    let check = checks
        .iter()
        .find(|check| check.id == id)
        .cloned()
        .ok_or_else(unknown)?;
    if state.check_status(change, id) != "failed" {
        return Err(Reply::message(422, "External status check must be failed"));
    }
    let own = state.change_mut(change.project, change.iid);
    if let Some(last) = own.check_responses.iter_mut().rev().find(|it| it.check == id) {
        last.retried = true;
    }
    let body = super::payloads::merge_request_hook(
        state,
        change.project,
        change.iid,
        "update",
        call.user,
        None,
        json!({}),
    );
    state.call_check(change.project, &check, &body);
    Ok(Reply::message(202, "202 Accepted"))
}

impl State {
    /// The checks that hold for the merge request's target branch.
    pub fn checks_of(&self, change: &MergeRequest) -> Vec<&StatusCheck> {
        if !self.has(Tier::Ultimate) {
            return Vec::new();
        }
        let guarding: Vec<u64> = self
            .protections(change.project, &change.target_branch)
            .iter()
            .map(|p| p.id)
            .collect();
        let holds = |check: &&StatusCheck| {
            check.branches.is_empty() || check.branches.iter().any(|id| guarding.contains(id))
        };
        self.project(change.project)
            .status_checks
            .iter()
            .filter(holds)
            .collect()
    }

    /// The newest answer for the present head; `pending` while there is none, and again after a retry.
    pub fn check_status(&self, change: &MergeRequest, check: u64) -> &str {
        let own = &self.change(change.project, change.iid).check_responses;
        let last = own
            .iter()
            .rev()
            .find(|it| it.check == check && it.sha == change.head);
        last.filter(|it| !it.retried)
            .map_or("pending", |it| it.status.as_str())
    }

    /// Whether status checks hold the merge up.
    pub fn checks_block(&self, change: &MergeRequest) -> bool {
        self.project(change.project)
            .settings
            .only_allow_merge_if_all_status_checks_passed
            && self
                .checks_of(change)
                .iter()
                .any(|check| self.check_status(change, check.id) != "passed")
    }

    fn answer_check(&mut self, change: &MergeRequest, check: u64, sha: &str, status: &str) -> u64 {
        let id = self.fresh_id();
        let response = CheckResponse {
            id,
            check,
            sha: sha.to_owned(),
            status: status.to_owned(),
            at: Timestamp::now(),
            retried: false,
        };
        self.change_mut(change.project, change.iid)
            .check_responses
            .push(response);
        self.run_auto_merges();
        id
    }

    /// Tells the services of a merge request's event.
    pub fn tell_checks(&mut self, project: u64, iid: u64, body: &Value) {
        let change = self.change(project, iid).clone();
        let checks: Vec<StatusCheck> = self.checks_of(&change).into_iter().cloned().collect();
        for check in checks {
            self.call_check(project, &check, body);
        }
    }

    /// One call of a service, by the machinery of webhooks; see `hooks::request`.
    fn call_check(&mut self, project: u64, check: &StatusCheck, body: &Value) {
        let mut body = body.clone();
        body["external_approval_rule"] =
            json!({"id": check.id, "name": check.name, "external_url": check.url});
        let fate = match self.hook_mode {
            HookMode::On => Fate::Sent,
            HookMode::Hold => Fate::Held,
            HookMode::Off => Fate::Lost,
        };
        let id = self.fresh_id();
        let delivery = Delivery {
            id,
            project,
            hook: check.id,
            event: "External Status Check".to_owned(),
            key: fresh_uuid(),
            event_uuid: fresh_uuid(),
            body: body.to_string(),
            fate,
            attempts: Vec::new(),
            at: Timestamp::now(),
        };
        self.deliveries.insert(id, delivery);
        if fate == Fate::Sent {
            self.outbox.push(id);
        }
    }
}

impl FakeGitLab {
    /// Two minutes pass for every open check: GitLab fails what is still pending for its head.
    pub fn time_out_status_checks(&self, project: u64) {
        self.change_state(|state| {
            let all: Vec<MergeRequest> = state.project(project).merge_requests.values().cloned().collect();
            for change in all.iter().filter(|change| change.state == "opened") {
                let checks: Vec<u64> = state.checks_of(change).iter().map(|check| check.id).collect();
                for check in checks {
                    if state.check_status(change, check) == "pending" {
                        state.answer_check(change, check, &change.head, "failed");
                    }
                }
            }
        });
    }
}
