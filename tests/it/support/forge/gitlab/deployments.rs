//! Environments, deployments, and the approvals a protected environment (Premium) asks for before a job may be played.
//! An approval never starts the job: somebody still has to play it.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::decode;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::licensed;
use crate::support::forge::gitlab::api::method_not_allowed;
use crate::support::forge::gitlab::api::only;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::jobs;
use crate::support::forge::gitlab::payloads;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::Access;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;

/// Where jobs deploy to.
#[derive(Clone, Debug)]
pub struct Environment {
    pub id: u64,
    pub name: String,
    pub tier: String,
    pub created_at: Timestamp,
}

/// A protected environment: who may deploy, and how many of whom must approve first.
#[derive(Clone, Debug)]
pub struct ProtectedEnvironment {
    pub name: String,
    pub deploy: Vec<Access>,
    pub rules: Vec<EnvironmentRule>,
}

/// One rule of approvals of an environment.
#[derive(Clone, Debug)]
pub struct EnvironmentRule {
    pub access: Access,
    pub required: usize,
}

/// One person's word on a deployment.
#[derive(Clone, Debug)]
pub struct DeploymentApproval {
    pub user: u64,
    /// `approved` or `rejected`.
    pub status: String,
    pub comment: Option<String>,
    /// The rule it was given for.
    pub rule: u64,
    pub at: Timestamp,
}

/// A job's deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub id: u64,
    pub iid: u64,
    pub environment: u64,
    pub job: u64,
    pub sha: Sha,
    pub ref_name: String,
    /// Who made the pipeline.
    pub user: u64,
    /// `created`, `blocked`, `running`, `success`, `failed` or `canceled`.
    pub status: String,
    pub approvals: Vec<DeploymentApproval>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

fn unknown() -> Reply {
    Reply::message(404, "404 Not found")
}

/// `/projects/:id/environments/…`.
pub fn environments(state: &State, call: &Call, rest: &[&str]) -> Answer {
    only(call.request.method.as_str(), "GET")?;
    let project = call.project_as(state, REPORTER)?;
    let record = state.project(project);
    match rest {
        [] => {
            let (name, search) = (call.params.text("name"), call.params.text("search"));
            let found = record.environments.iter().filter(|it| {
                name.as_ref().is_none_or(|wanted| *wanted == it.name)
                    && search.as_ref().is_none_or(|text| it.name.contains(text.as_str()))
            });
            page(
                state,
                call.request,
                &call.params,
                found.map(|it| shown_environment(state, project, it)).collect(),
            )
        }
        [id] => {
            let id = int(id, "environment_id")?;
            let found = record
                .environments
                .iter()
                .find(|it| it.id == id)
                .ok_or_else(unknown)?;
            let mut body = shown_environment(state, project, found);
            let last = record
                .deployments
                .iter()
                .rev()
                .find(|it| it.environment == id && it.status == "success");
            body["last_deployment"] = json!(last.map(|it| shown(state, project, it)));
            Ok(Reply::json(200, &body))
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

fn shown_environment(state: &State, project: u64, of: &Environment) -> Value {
    let slug: String = of
        .name
        .to_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    json!({
        "id": of.id,
        "name": of.name,
        "slug": slug,
        "description": null,
        "external_url": null,
        "state": "available",
        "tier": of.tier,
        "created_at": shapes::date(of.created_at),
        "updated_at": shapes::date(of.created_at),
        "project": {"id": project, "path_with_namespace": state.project(project).path},
        "auto_stop_at": null,
        "auto_stop_setting": "always",
    })
}

/// `/projects/:id/deployments/…`.
pub fn route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let method = call.request.method.as_str();
    let project = call.project_as(state, REPORTER)?;
    let [id, rest @ ..] = rest else {
        return only(method, "GET").and_then(|()| list(state, call, project));
    };
    let id = int(id, "deployment_id")?;
    let found = state
        .project(project)
        .deployments
        .iter()
        .find(|it| it.id == id)
        .cloned();
    let found = found.ok_or_else(unknown)?;
    match rest {
        [] => only(method, "GET").map(|()| Reply::json(200, &extended(state, project, &found))),
        ["approval"] if state.enterprise => {
            only(method, "POST").and_then(|()| approval(state, call, project, &found))
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

fn list(state: &State, call: &Call, project: u64) -> Answer {
    let params = &call.params;
    let states = [
        "created", "running", "success", "failed", "canceled", "skipped", "blocked",
    ];
    let status = params.choice("status", &states)?;
    let order = params.choice(
        "order_by",
        &["id", "iid", "created_at", "updated_at", "finished_at", "ref"],
    )?;
    let sort = params.choice("sort", &["asc", "desc"])?;
    let (after, before) = (params.date("updated_after")?, params.date("updated_before")?);
    let environment = params.text("environment");
    let name = |it: &Deployment| state.environment(project, it.environment).name.clone();
    let mut found: Vec<&Deployment> = state
        .project(project)
        .deployments
        .iter()
        .filter(|it| status.as_ref().is_none_or(|wanted| *wanted == it.status))
        .filter(|it| environment.as_ref().is_none_or(|wanted| *wanted == name(it)))
        .filter(|it| {
            after.is_none_or(|at| it.updated_at >= at) && before.is_none_or(|at| it.updated_at <= at)
        })
        .collect();
    match order.as_deref() {
        Some("updated_at") => found.sort_by_key(|it| (it.updated_at, it.id)),
        Some("finished_at") => found.sort_by_key(|it| (it.finished_at, it.id)),
        Some("ref") => found.sort_by(|a, b| (&a.ref_name, a.id).cmp(&(&b.ref_name, b.id))),
        _ => found.sort_by_key(|it| it.id),
    }
    if sort.as_deref() == Some("desc") {
        found.reverse();
    }
    page(
        state,
        call.request,
        params,
        found.into_iter().map(|it| shown(state, project, it)).collect(),
    )
}

/// A deployment as lists show it.
fn shown(state: &State, project: u64, of: &Deployment) -> Value {
    json!({
        "id": of.id,
        "iid": of.iid,
        "ref": of.ref_name,
        "sha": of.sha,
        "created_at": shapes::date(of.created_at),
        "updated_at": shapes::date(of.updated_at),
        "finished_at": of.finished_at.map(shapes::date),
        "user": shapes::user_basic(state, of.user),
        "environment": shown_environment(state, project, state.environment(project, of.environment)),
        "deployable": jobs::shown(state, project, state.job(project, of.job)),
        "status": of.status,
    })
}

/// A deployment on its own: with what was said of it, where the edition knows approvals.
fn extended(state: &State, project: u64, of: &Deployment) -> Value {
    let mut body = shown(state, project, of);
    if !state.enterprise {
        return body;
    }
    let said = |it: &DeploymentApproval| shown_approval(state, it);
    let rules: Vec<&EnvironmentRule> = state.rules_of_environment(project, of.environment);
    let rule = |rule: &&EnvironmentRule| {
        let access = shapes::access(state, &rule.access);
        let given = of.approvals.iter().filter(|it| it.rule == rule.access.id);
        json!({
            "user": rule.access.user.map(|user| shapes::user_basic(state, user)),
            "group": rule.access.group.map(|group| json!({"id": group, "name": access["access_level_description"]})),
            "access_level": rule.access.level,
            "access_level_description": access["access_level_description"],
            "required_approvals": rule.required,
            "deployment_approvals": given.map(said).collect::<Vec<Value>>(),
        })
    };
    body["pending_approval_count"] = json!(state.missing_approvals(project, of));
    body["approvals"] = json!(of.approvals.iter().map(said).collect::<Vec<Value>>());
    body["approval_summary"] = json!({"rules": rules.iter().map(rule).collect::<Vec<Value>>()});
    body
}

fn shown_approval(state: &State, of: &DeploymentApproval) -> Value {
    json!({
        "user": shapes::user_basic(state, of.user),
        "status": of.status,
        "created_at": shapes::date(of.at),
        "comment": of.comment,
    })
}

/// `POST …/deployments/:id/approval`, refused in GitLab's order and words.
fn approval(state: &mut State, call: &Call, project: u64, of: &Deployment) -> Answer {
    let params = &call.params;
    params.required("status")?;
    let status = params
        .choice("status", &["approved", "rejected"])?
        .expect("just required");
    let refuse = |why: &str| Err(Reply::message(400, why));
    let name = state.environment(project, of.environment).name.clone();
    if state.protected_environment(project, &name).is_none() {
        return refuse("This environment is not protected.");
    }
    let rules: Vec<EnvironmentRule> = state
        .rules_of_environment(project, of.environment)
        .into_iter()
        .cloned()
        .collect();
    if rules.is_empty() {
        return refuse("Deployment approvals is not configured for this environment.");
    }
    let mine: Vec<&EnvironmentRule> = rules
        .iter()
        .filter(|rule| state.admits(project, &rule.access, call.user))
        .collect();
    if mine.is_empty() {
        return refuse(
            "You don't have permission to approve this deployment. Contact the project or group owner for help.",
        );
    }
    if !state.waits_for_approval(project, of.job) {
        return refuse("This deployment is not waiting for approvals.");
    }
    let told =
        |rule: &EnvironmentRule| shapes::access(state, &rule.access)["access_level_description"].clone();
    let rule = match params.text("represented_as") {
        None => Some(mine[0]),
        Some(as_whom) => mine.iter().copied().find(|rule| told(rule) == json!(as_whom)),
    };
    let Some(rule) = rule.map(|rule| rule.access.id) else {
        return refuse(
            "There are no approval rules for the given `represent_as` parameter. Use a valid User/Group/Role name instead.",
        );
    };
    if status == "approved" && of.user == call.user && !state.project(project).triggerer_may_approve {
        return refuse(
            "You cannot approve your own deployment. This configuration can be adjusted in the protected environment settings.",
        );
    }
    let comment = params.text("comment");
    let said = state.say(
        project,
        of.id,
        DeploymentApproval {
            user: call.user,
            status,
            comment,
            rule,
            at: Timestamp::now(),
        },
    );
    Ok(Reply::json(201, &shown_approval(state, &said)))
}

/// `/projects/:id/protected_environments/…`.
pub fn protected(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    call.project_as(state, REPORTER)?;
    licensed(state, Tier::Premium, Reply::message(404, "404 Not Found"))?;
    let project = call.project_as(state, MAINTAINER)?;
    match rest {
        [] if call.is("GET") => {
            let all = state.project(project).protected_environments.iter();
            let list = all.map(|it| shown_protected(state, it)).collect();
            page(state, call.request, &call.params, list)
        }
        [] if call.is("POST") => protect(state, call, project),
        [name] => {
            let name = decode(name);
            let all = &state.project(project).protected_environments;
            let at = all.iter().position(|it| it.name == name).ok_or_else(unknown)?;
            match call.request.method.as_str() {
                "GET" => Ok(Reply::json(200, &shown_protected(state, &all[at]))),
                "PUT" => {
                    let mut it = all[at].clone();
                    fill(state, call, project, &mut it)?;
                    let body = shown_protected(state, &it);
                    state.project_mut(project).protected_environments[at] = it;
                    Ok(Reply::json(200, &body))
                }
                "DELETE" => {
                    state.project_mut(project).protected_environments.remove(at);
                    Ok(Reply::empty(204))
                }
                _ => Err(method_not_allowed()),
            }
        }
        _ => Err(method_not_allowed()),
    }
}

fn protect(state: &mut State, call: &Call, project: u64) -> Answer {
    let name = call.params.required("name")?;
    if !call.params.0.contains_key("deploy_access_levels") {
        return Err(Reply::error(400, "deploy_access_levels is missing"));
    }
    if call
        .params
        .number("required_approval_count")?
        .is_some_and(|count| count > 0)
    {
        return Err(Reply::message(
            422,
            "422 Unprocessable entity - Parameter 'required_approval_count' is deprecated",
        ));
    }
    if state.protected_environment(project, &name).is_some() {
        return Err(Reply::message(
            409,
            &format!("Environment '{name}' is already protected"),
        ));
    }
    let mut it = ProtectedEnvironment {
        name,
        deploy: Vec::new(),
        rules: Vec::new(),
    };
    fill(state, call, project, &mut it)?;
    let body = shown_protected(state, &it);
    state.project_mut(project).protected_environments.push(it);
    Ok(Reply::json(201, &body))
}

/// Takes the entries of a call: one with an `id` changes or (`_destroy`) removes that one, others are added.
fn fill(state: &mut State, call: &Call, project: u64, it: &mut ProtectedEnvironment) -> Result<(), Reply> {
    for entry in entries(call, "deploy_access_levels")? {
        let access = access_of(state, project, &entry)?;
        match position(it.deploy.iter().map(|old| old.id), &entry)? {
            Some(at) if entry["_destroy"] == json!(true) => drop(it.deploy.remove(at)),
            Some(at) => it.deploy[at] = access,
            None => it.deploy.push(access),
        }
    }
    for entry in entries(call, "approval_rules")? {
        let access = access_of(state, project, &entry)?;
        let required = usize::try_from(entry["required_approvals"].as_u64().unwrap_or(1)).expect("64 bits");
        let rule = EnvironmentRule { access, required };
        match position(it.rules.iter().map(|old| old.access.id), &entry)? {
            Some(at) if entry["_destroy"] == json!(true) => drop(it.rules.remove(at)),
            Some(at) => it.rules[at] = rule,
            None => it.rules.push(rule),
        }
    }
    Ok(())
}

fn entries(call: &Call, name: &str) -> Result<Vec<Value>, Reply> {
    match call.params.0.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.clone()),
        Some(_) => Err(Reply::error(400, &format!("{name} is invalid"))),
    }
}

fn position(mut ids: impl Iterator<Item = u64>, entry: &Value) -> Result<Option<usize>, Reply> {
    match entry["id"].as_u64() {
        None => Ok(None),
        Some(id) => ids.position(|old| old == id).map(Some).ok_or_else(unknown),
    }
}

/// An entry, checked: levels from Developer on, users and groups that know the project.
fn access_of(state: &mut State, project: u64, entry: &Value) -> Result<Access, Reply> {
    let number = |name: &str| entry[name].as_u64();
    let access = Access {
        id: number("id").unwrap_or_else(|| state.fresh_id()),
        level: number("access_level"),
        user: number("user_id"),
        group: number("group_id"),
    };
    if access.level.is_some_and(|level| ![30, 40, 60].contains(&level)) {
        return Err(Reply::error(
            400,
            "deploy_access_levels[0][access_level] does not have a valid value",
        ));
    }
    let stranger = access
        .user
        .is_some_and(|user| state.level(project, user) < DEVELOPER)
        || access
            .group
            .is_some_and(|group| !state.groups.contains_key(&group));
    let nobody = access.level.is_none() && access.user.is_none() && access.group.is_none();
    if stranger || (nobody && entry["_destroy"] != json!(true) && entry["id"].is_null()) {
        return Err(Reply::json(
            422,
            &json!({"message": ["Deploy access levels is invalid"]}),
        ));
    }
    Ok(access)
}

fn shown_protected(state: &State, it: &ProtectedEnvironment) -> Value {
    let rule = |rule: &EnvironmentRule| {
        let mut body = shapes::access(state, &rule.access);
        body["access_level"] = json!(rule.access.level);
        body["required_approvals"] = json!(rule.required);
        body["group_inheritance_type"] = json!(0);
        body
    };
    json!({
        "name": it.name,
        "deploy_access_levels": it.deploy.iter().map(|access| shapes::access(state, access)).collect::<Vec<Value>>(),
        "required_approval_count": 0,
        "approval_rules": it.rules.iter().map(rule).collect::<Vec<Value>>(),
    })
}

/// The rules of deployments.
impl State {
    pub fn environment(&self, project: u64, id: u64) -> &Environment {
        let found = self.project(project).environments.iter().find(|it| it.id == id);
        found.expect("an environment that exists")
    }

    /// The protection of an environment, as far as the licence carries it.
    fn protected_environment(&self, project: u64, name: &str) -> Option<&ProtectedEnvironment> {
        let all = &self.project(project).protected_environments;
        all.iter()
            .find(|it| it.name == name)
            .filter(|_| self.has(Tier::Premium))
    }

    fn rules_of_environment(&self, project: u64, environment: u64) -> Vec<&EnvironmentRule> {
        let name = &self.environment(project, environment).name;
        let found = self.protected_environment(project, name);
        found.map(|it| it.rules.iter().collect()).unwrap_or_default()
    }

    pub fn may_deploy(&self, project: u64, environment: &str, user: u64) -> bool {
        let found = self.protected_environment(project, environment);
        found.is_none_or(|it| it.deploy.iter().any(|access| self.admits(project, access, user)))
    }

    fn missing_approvals(&self, project: u64, of: &Deployment) -> usize {
        let given = |rule: &EnvironmentRule| {
            let of_rule = of
                .approvals
                .iter()
                .filter(|it| it.rule == rule.access.id && it.status == "approved");
            of_rule.count()
        };
        let rules = self.rules_of_environment(project, of.environment);
        rules
            .iter()
            .map(|rule| rule.required.saturating_sub(given(rule)))
            .sum()
    }

    /// Whether the job can not be played because its deployment waits for approvals.
    pub fn waits_for_approval(&self, project: u64, job: u64) -> bool {
        let own = self.project(project).deployments.iter().find(|it| it.job == job);
        let waits = self.job(project, job).status == "manual";
        own.is_some_and(|it| waits && self.missing_approvals(project, it) > 0)
    }

    /// Makes the environment and the deployment of a job that starts one; `blocked` where approvals are missing.
    pub fn prepare_deployment(&mut self, project: u64, job: u64, user: u64) {
        let own = self.job(project, job).clone();
        let Some(wanted) = own.environment.filter(|it| it.action == "start") else {
            return;
        };
        let pipeline = self.pipeline(project, own.pipeline).clone();
        let known = self
            .project(project)
            .environments
            .iter()
            .find(|it| it.name == wanted.name)
            .map(|it| it.id);
        let now = Timestamp::now();
        let environment = known.unwrap_or_else(|| {
            let id = self.fresh_id();
            let made = Environment {
                id,
                name: wanted.name.clone(),
                tier: wanted.tier.clone(),
                created_at: now,
            };
            self.project_mut(project).environments.push(made);
            id
        });
        let deployment = Deployment {
            id: self.fresh_id(),
            iid: self.project(project).deployments.len() as u64 + 1,
            environment,
            job,
            sha: pipeline.sha,
            ref_name: pipeline.ref_name,
            user,
            status: String::new(),
            approvals: Vec::new(),
            created_at: now,
            updated_at: now,
            finished_at: None,
        };
        let blocked = self.missing_approvals(project, &deployment) > 0;
        let status = match own.status.as_str() {
            _ if blocked => "blocked",
            // So does every other job that waits for a person, on all tiers; older versions leave it `created`.
            "manual" if !self.project(project).deploying.waits_as_created => "blocked",
            "success" => "success",
            _ => "created",
        };
        let deployment = Deployment {
            status: status.to_owned(),
            ..deployment
        };
        self.project_mut(project).deployments.push(deployment);
        if blocked {
            // What would have started by itself waits for a person, too.
            "manual".clone_into(&mut self.job_mut(project, job).status);
        }
    }

    /// A job's deployment follows it; GitLab tells starts and ends, and nothing of waiting.
    pub fn follow_job(&mut self, project: u64, job: u64, status: &str) {
        let wanted = match status {
            "running" | "success" | "failed" | "canceled" => status,
            _ => return,
        };
        let found = self
            .project_mut(project)
            .deployments
            .iter_mut()
            .find(|it| it.job == job);
        let Some(own) = found.filter(|it| it.status != wanted) else {
            return;
        };
        wanted.clone_into(&mut own.status);
        let now = Timestamp::now();
        own.updated_at = now;
        own.finished_at = (wanted != "running").then_some(now);
        let id = own.id;
        let body = payloads::deployment_hook(self, project, id);
        self.raise(project, "Deployment Hook", "deployment_events", &body);
    }

    /// Keeps somebody's word, the first of its kind from each person; a rejection fails the job, the last approval frees
    /// it to be played.
    fn say(&mut self, project: u64, deployment: u64, said: DeploymentApproval) -> DeploymentApproval {
        let found = self
            .project_mut(project)
            .deployments
            .iter_mut()
            .find(|it| it.id == deployment);
        let own = found.expect("a deployment that exists");
        own.updated_at = Timestamp::now();
        let kept = match own.approvals.iter_mut().find(|it| it.user == said.user) {
            Some(old) => {
                if old.status != said.status {
                    *old = said;
                }
                old.clone()
            }
            None => {
                own.approvals.push(said.clone());
                said
            }
        };
        let own = own.clone();
        if kept.status == "rejected" {
            self.set_job(project, own.job, "failed", Some("deployment_rejected"));
        } else if self.missing_approvals(project, &own) == 0 {
            let found = self
                .project_mut(project)
                .deployments
                .iter_mut()
                .find(|it| it.id == deployment);
            "created".clone_into(&mut found.expect("a deployment that exists").status);
        }
        kept
    }
}

impl FakeGitLab {
    /// The deployment of a job, as it is.
    pub fn deployment(&self, project: u64, job: u64) -> Option<Deployment> {
        self.read(|state| {
            state
                .project(project)
                .deployments
                .iter()
                .find(|it| it.job == job)
                .cloned()
        })
    }

    /// Whether who made the pipeline may approve its deployments; GitLab's default is that they may not.
    pub fn let_triggerer_approve(&self, project: u64, may: bool) {
        self.change_state(|state| state.project_mut(project).triggerer_may_approve = may);
    }
}
