//! Jobs, environments, deployments and protected environments of the fake GitLab.
//! As on GitLab, a job does not tell its environment: its deployment does, and has the job with it.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::licensed;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::payloads;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::Pipeline;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;

/// What a project has of it.
#[derive(Clone, Debug, Default)]
pub struct Deploying {
    pub jobs: Vec<Job>,
    pub environments: Vec<Environment>,
    pub deployments: Vec<Deployment>,
    pub protected: Vec<ProtectedEnvironment>,
    /// Where pipelines are written, if not in the usual file.
    pub ci_config_path: Option<String>,
    /// As older versions do: the deployment of a job that waits is left `created`.
    pub waits_as_created: bool,
    /// Every time a job began to run or was queued to: job and user.
    pub plays: Vec<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub id: u64,
    pub name: String,
    pub pipeline: u64,
    /// `created`, `manual`, `pending`, `running`, `success`, `failed`, `canceled`, `skipped`.
    pub status: String,
    /// Written with `when: manual`.
    pub manual: bool,
    pub user: u64,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct Environment {
    pub id: u64,
    pub name: String,
    pub tier: String,
}

#[derive(Clone, Debug)]
pub struct Deployment {
    pub id: u64,
    pub job: u64,
    pub environment: u64,
    /// `created`, `blocked`, `running`, `success`, `failed`, `canceled`, `skipped`.
    pub status: String,
    /// User, `approved` or `rejected`, comment.
    pub approvals: Vec<(u64, String, String)>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A protected environment (Premium): who may deploy, and whose approvals a deployment waits for.
#[derive(Clone, Debug)]
pub struct ProtectedEnvironment {
    pub name: String,
    pub deploy_level: u64,
    pub deploy_users: Vec<u64>,
    /// Each of them must approve once.
    pub approvers: Vec<u64>,
    /// Whoever started the pipeline may approve as well.
    pub self_approval: bool,
}

/// The test's side.
impl FakeGitLab {
    /// A job that deploys, in a pipeline: a manual one waits, another is queued at once. Pipeline and Job Hooks tell.
    pub fn add_deploy_job(
        &self,
        project: u64,
        pipeline: u64,
        name: &str,
        environment: &str,
        manual: bool,
    ) -> u64 {
        self.change_state(|state| {
            let user = state.pipeline_of(project, pipeline).user;
            state.deploy_job(project, pipeline, name, environment, manual, user)
        })
    }

    /// The environment's tier, as GitLab guesses it or as its project says.
    pub fn set_tier_of(&self, project: u64, environment: &str, tier: &str) {
        self.change_state(|state| {
            let id = state.environment(project, environment);
            let all = &mut state.project_mut(project).deploying.environments;
            let found = all.iter_mut().find(|it| it.id == id).expect("it was just made");
            tier.clone_into(&mut found.tier);
        });
    }

    /// A protected environment whose deployments wait for these approvals.
    pub fn protect_environment(
        &self,
        project: u64,
        name: &str,
        deploy: (u64, &[u64]),
        approvers: &[u64],
        self_approval: bool,
    ) {
        self.change_state(|state| {
            assert!(state.has(Tier::Premium), "GitLab Free protects no environment");
            let all = &mut state.project_mut(project).deploying.protected;
            all.retain(|it| it.name != name);
            all.push(ProtectedEnvironment {
                name: name.to_owned(),
                deploy_level: deploy.0,
                deploy_users: deploy.1.to_vec(),
                approvers: approvers.to_vec(),
                self_approval,
            });
        });
    }

    /// A job as it is now.
    pub fn job(&self, project: u64, job: u64) -> Job {
        self.read(|state| state.job(project, job).expect("a job that exists").clone())
    }

    /// Who started a job, each time.
    pub fn plays(&self, project: u64, job: u64) -> Vec<u64> {
        self.read(|state| {
            let all = state.project(project).deploying.plays.iter();
            all.filter(|it| it.0 == job).map(|it| it.1).collect()
        })
    }

    /// A job's deployment as it is now.
    pub fn deployment(&self, project: u64, job: u64) -> Deployment {
        self.read(|state| {
            let mut all = state.project(project).deploying.deployments.iter();
            all.find(|it| it.job == job)
                .expect("the job's deployment")
                .clone()
        })
    }

    /// Somebody presses play in the browser.
    pub fn play_as(&self, project: u64, job: u64, user: u64) {
        self.change_state(|state| {
            state.play(project, job, user).expect("a job that can be played");
        });
    }

    /// A runner takes a queued job, or finishes one that runs.
    pub fn job_becomes(&self, project: u64, job: u64, status: &str) {
        self.change_state(|state| state.job_becomes(project, job, status));
    }

    /// Somebody retries a job in the browser: another job, which runs at once.
    pub fn retry_as(&self, project: u64, job: u64, user: u64) -> u64 {
        self.change_state(|state| state.retry(project, job, user, true))
    }

    /// A pipeline with its jobs and their deployments is removed.
    pub fn delete_pipeline(&self, project: u64, pipeline: u64) {
        self.change_state(|state| {
            let it = state.project_mut(project);
            it.pipelines.retain(|it| it.id != pipeline);
            it.deploying.jobs.retain(|it| it.pipeline != pipeline);
            let jobs: Vec<u64> = it.deploying.jobs.iter().map(|it| it.id).collect();
            it.deploying.deployments.retain(|it| jobs.contains(&it.job));
        });
    }
}

/// The rules of change.
impl State {
    fn pipeline_of(&self, project: u64, pipeline: u64) -> &Pipeline {
        let mut all = self.project(project).pipelines.iter();
        all.find(|it| it.id == pipeline).expect("a pipeline that exists")
    }

    fn job(&self, project: u64, job: u64) -> Option<&Job> {
        let mut all = self.project(project).deploying.jobs.iter();
        all.find(|it| it.id == job)
    }

    fn environment(&mut self, project: u64, name: &str) -> u64 {
        let known = self.project(project).deploying.environments.iter();
        if let Some(it) = known.clone().find(|it| it.name == name) {
            return it.id;
        }
        let id = self.fresh_id();
        let tier = match name.split('/').next().unwrap_or_default() {
            it if it.contains("prod") || it == "live" => "production",
            it if it.contains("stag") => "staging",
            _ => "other",
        };
        self.project_mut(project)
            .deploying
            .environments
            .push(Environment {
                id,
                name: name.to_owned(),
                tier: tier.to_owned(),
            });
        id
    }

    fn protected_environment(&self, project: u64, environment: u64) -> Option<&ProtectedEnvironment> {
        let it = &self.project(project).deploying;
        let name = &it.environments.iter().find(|it| it.id == environment)?.name;
        it.protected.iter().find(|it| it.name == *name)
    }

    fn deploy_job(
        &mut self,
        project: u64,
        pipeline: u64,
        name: &str,
        environment: &str,
        manual: bool,
        user: u64,
    ) -> u64 {
        let (job, deployment) = (self.fresh_id(), self.fresh_id());
        let environment = self.environment(project, environment);
        let now = Timestamp::now();
        let blocked = self
            .protected_environment(project, environment)
            .is_some_and(|it| !it.approvers.is_empty());
        let waits = manual || blocked;
        let waits_as_created = self.project(project).deploying.waits_as_created;
        let deploying = &mut self.project_mut(project).deploying;
        deploying.jobs.push(Job {
            id: job,
            name: name.to_owned(),
            pipeline,
            status: if waits { "manual" } else { "pending" }.to_owned(),
            manual: waits,
            user,
            created_at: now,
            started_at: None,
            finished_at: None,
        });
        deploying.deployments.push(Deployment {
            id: deployment,
            job,
            environment,
            // On every tier, whatever it waits for.
            status: if waits && !waits_as_created {
                "blocked"
            } else {
                "created"
            }
            .to_owned(),
            approvals: Vec::new(),
            created_at: now,
            updated_at: now,
        });
        if !waits {
            deploying.plays.push((job, user));
        }
        self.tell_job(project, job, user);
        job
    }

    fn job_becomes(&mut self, project: u64, job: u64, status: &str) {
        let now = Timestamp::now();
        let deploying = &mut self.project_mut(project).deploying;
        let found = deploying.jobs.iter_mut().find(|it| it.id == job);
        let found = found.expect("a job that exists");
        status.clone_into(&mut found.status);
        match status {
            "running" => found.started_at = Some(now),
            "success" | "failed" | "canceled" => found.finished_at = Some(now),
            _ => {}
        }
        let user = found.user;
        let deployment = deploying.deployments.iter_mut().find(|it| it.job == job);
        if let (Some(it), "running" | "success" | "failed" | "canceled" | "skipped") = (deployment, status) {
            status.clone_into(&mut it.status);
            it.updated_at = now;
        }
        self.tell_job(project, job, user);
    }

    /// `playable?` and `play`: a job that waits is queued, one that is finished is retried, any other can't be played.
    fn play(&mut self, project: u64, job: u64, user: u64) -> Result<u64, Reply> {
        let unplayable = || Reply::message(400, "400 Bad request - Unplayable Job");
        let found = self.job(project, job).cloned().ok_or_else(unplayable)?;
        let blocked = self.waits_for_approval(project, job);
        match found.status.as_str() {
            _ if !found.manual || blocked => Err(unplayable()),
            "manual" => {
                let deploying = &mut self.project_mut(project).deploying;
                deploying.plays.push((job, user));
                let it = deploying
                    .jobs
                    .iter_mut()
                    .find(|it| it.id == job)
                    .expect("found above");
                it.user = user;
                self.job_becomes(project, job, "pending");
                Ok(job)
            }
            "success" | "failed" | "canceled" => Ok(self.retry(project, job, user, true)),
            _ => Err(unplayable()),
        }
    }

    /// Another job of the same name in the same pipeline; a manual one waits again unless it is to run at once.
    fn retry(&mut self, project: u64, job: u64, user: u64, at_once: bool) -> u64 {
        let old = self.job(project, job).expect("a job that exists").clone();
        let of = self
            .project(project)
            .deploying
            .deployments
            .iter()
            .find(|it| it.job == job);
        let environment = of.expect("its deployment").environment;
        let all = &self.project(project).deploying.environments;
        let name = all
            .iter()
            .find(|it| it.id == environment)
            .expect("its environment")
            .name
            .clone();
        let new = self.deploy_job(project, old.pipeline, &old.name, &name, old.manual, user);
        if at_once && self.job(project, new).is_some_and(|it| it.status == "manual") {
            let deploying = &mut self.project_mut(project).deploying;
            deploying.plays.push((new, user));
            self.job_becomes(project, new, "pending");
        }
        new
    }

    /// Approvals of a protected environment are missing.
    fn waits_for_approval(&self, project: u64, job: u64) -> bool {
        let of = self
            .project(project)
            .deploying
            .deployments
            .iter()
            .find(|it| it.job == job);
        let Some(it) = of else { return false };
        let approvers = self
            .protected_environment(project, it.environment)
            .map(|it| &it.approvers);
        let given = |user: &u64| {
            it.approvals
                .iter()
                .any(|(who, was, _)| who == user && was == "approved")
        };
        approvers.is_some_and(|all| !all.iter().all(given))
    }

    /// May start it: on a protected ref whoever may merge or push there, in a protected environment whoever may deploy.
    fn may_play(&self, project: u64, job: &Job, user: u64) -> bool {
        let ref_name = &self.pipeline_of(project, job.pipeline).ref_name;
        let guarded = !self.protections(project, ref_name).is_empty();
        let on_ref = !guarded
            || self.may_merge_into(project, ref_name, user)
            || self.may_push_to(project, ref_name, user);
        self.level(project, user) >= DEVELOPER && on_ref && self.may_deploy(project, job.id, user)
    }

    fn may_deploy(&self, project: u64, job: u64, user: u64) -> bool {
        let mut all = self.project(project).deploying.deployments.iter();
        let Some(it) = all.find(|it| it.job == job) else {
            return true;
        };
        self.protected_environment(project, it.environment)
            .is_none_or(|it| {
                it.deploy_users.contains(&user)
                    || (it.deploy_level > 0 && self.level(project, user) >= it.deploy_level)
            })
    }

    /// Job, Pipeline and, once it runs, Deployment Hook.
    fn tell_job(&mut self, project: u64, job: u64, user: u64) {
        let found = self.job(project, job).expect("a job that exists").clone();
        let (told, deployment) = (
            build_hook(self, project, &found),
            deployment_hook(self, project, &found),
        );
        self.raise(project, "Job Hook", "job_events", &told);
        if matches!(
            found.status.as_str(),
            "running" | "success" | "failed" | "canceled"
        ) {
            self.raise(project, "Deployment Hook", "deployment_events", &deployment);
        }
        let mut body = payloads::pipeline_hook(self, project, found.pipeline, user);
        body["builds"] = self
            .project(project)
            .deploying
            .jobs
            .iter()
            .filter(|it| it.pipeline == found.pipeline)
            .map(|it| build(self, project, it))
            .collect();
        self.raise(project, "Pipeline Hook", "pipeline_events", &body);
    }
}

/// `/projects/:id/jobs`.
pub fn jobs_route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project_as(state, REPORTER)?;
    let find = |state: &State, id: &str| {
        let id = int(id, "job_id")?;
        let found = state.job(project, id).cloned();
        found.ok_or_else(|| Reply::message(404, "404 Not found"))
    };
    match (call.request.method.as_str(), rest) {
        ("GET", []) => {
            let scope = call.params.texts("scope");
            let all = state.project(project).deploying.jobs.iter().rev();
            let all = all.filter(|it| scope.as_ref().is_none_or(|s| s.contains(&it.status)));
            let list = all.map(|it| job_json(state, project, it)).collect();
            page(state, call.request, &call.params, list)
        }
        ("GET", [id]) => Ok(Reply::json(200, &job_json(state, project, &find(state, id)?))),
        ("POST", [id, action @ ("play" | "cancel" | "retry")]) => {
            let job = find(state, id)?;
            if !state.may_play(project, &job, call.user) {
                return Err(Reply::message(403, "403 Forbidden"));
            }
            let (code, now) = match *action {
                "play" => (200, state.play(project, job.id, call.user)?),
                "retry" => (201, state.retry(project, job.id, call.user, false)),
                _ => {
                    if matches!(job.status.as_str(), "created" | "pending" | "running" | "manual") {
                        state.job_becomes(project, job.id, "canceled");
                    }
                    (201, job.id)
                }
            };
            let now = state.job(project, now).expect("it was just there");
            Ok(Reply::json(code, &job_json(state, project, now)))
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// `/projects/:id/deployments`.
pub fn deployments_route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project_as(state, REPORTER)?;
    let find = |state: &State, id: &str| {
        let id = int(id, "deployment_id")?;
        let mut all = state.project(project).deploying.deployments.iter();
        let found = all.find(|it| it.id == id).cloned();
        found.ok_or_else(|| Reply::message(404, "404 Not found"))
    };
    match (call.request.method.as_str(), rest) {
        ("GET", []) => list_deployments(state, call, project),
        ("GET", [id]) => {
            let it = find(state, id)?;
            let mut body = deployment_json(state, project, &it);
            if state.has(Tier::Premium) {
                body["approvals"] = json!([]);
                body["pending_approval_count"] =
                    json!(usize::from(state.waits_for_approval(project, it.job)));
                body["approval_summary"] = summary(state, project, &it);
            }
            Ok(Reply::json(200, &body))
        }
        ("POST", [id, "approval"]) => {
            licensed(state, Tier::Premium, Reply::message(404, "404 Not Found"))?;
            let it = find(state, id)?;
            decide(state, call, project, &it)
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

fn list_deployments(state: &State, call: &Call, project: u64) -> Answer {
    let statuses = [
        "created", "running", "success", "failed", "canceled", "skipped", "blocked",
    ];
    let status = call.params.choice("status", &statuses)?;
    let order = call
        .params
        .choice("order_by", &["id", "iid", "created_at", "updated_at", "ref"])?;
    let sort = call.params.choice("sort", &["asc", "desc"])?;
    let after = call.params.date("updated_after")?;
    let by_update = order.as_deref() == Some("updated_at");
    if after.is_some() != by_update {
        let why = "`updated_at` filter and `updated_at` sorting must be paired";
        return Err(Reply::message(400, &format!("400 Bad request - {why}")));
    }
    let deploying = &state.project(project).deploying;
    let environment = call.params.text("environment");
    let wanted = environment.map(|name| {
        deploying
            .environments
            .iter()
            .find(|it| it.name == name)
            .map(|it| it.id)
    });
    let mut all: Vec<&Deployment> = deploying
        .deployments
        .iter()
        .filter(|it| status.as_ref().is_none_or(|s| it.status == *s))
        .filter(|it| wanted.is_none_or(|id| id == Some(it.environment)))
        .filter(|it| after.is_none_or(|at| it.updated_at > at))
        .collect();
    match by_update {
        true => all.sort_by_key(|it| (it.updated_at, it.id)),
        false => all.sort_by_key(|it| it.id),
    }
    if sort.as_deref() == Some("desc") {
        all.reverse();
    }
    let list = all
        .into_iter()
        .map(|it| deployment_json(state, project, it))
        .collect();
    page(state, call.request, &call.params, list)
}

/// `POST …/approval`, in GitLab's order: protected, not one's own, configured, waits, allowed.
fn decide(state: &mut State, call: &Call, project: u64, it: &Deployment) -> Answer {
    let status = call.params.required("status")?;
    if !["approved", "rejected"].contains(&status.as_str()) {
        return Err(Reply::error(400, "status does not have a valid value"));
    }
    let comment = call.params.text("comment").unwrap_or_default();
    let refuse = |why: &str| Err(Reply::message(400, &format!("400 Bad request - {why}")));
    let Some(protected) = state.protected_environment(project, it.environment).cloned() else {
        return refuse("This environment is not protected.");
    };
    let job = state.job(project, it.job).expect("the deployment's job").clone();
    let own = state.pipeline_of(project, job.pipeline).user == call.user;
    if own && status == "approved" && !protected.self_approval {
        return refuse(
            "You cannot approve your own deployment. This configuration can be adjusted in the protected environment settings.",
        );
    }
    if protected.approvers.is_empty() {
        return refuse("Deployment approvals is not configured for this environment.");
    }
    if job.status != "manual" || !state.waits_for_approval(project, it.job) {
        return refuse("This deployment is not waiting for approvals.");
    }
    if !protected.approvers.contains(&call.user) {
        return refuse(
            "You don't have permission to approve this deployment. Contact the project or group owner for help.",
        );
    }
    let now = Timestamp::now();
    let all = &mut state.project_mut(project).deploying.deployments;
    let found = all
        .iter_mut()
        .find(|other| other.id == it.id)
        .expect("found above");
    found.approvals.retain(|(user, _, _)| *user != call.user);
    found.approvals.push((call.user, status.clone(), comment.clone()));
    found.updated_at = now;
    if status == "rejected" {
        state.job_becomes(project, it.job, "failed");
    }
    let body = json!({
        "user": shapes::user_basic(state, call.user), "status": status, "comment": comment,
        "created_at": now.to_string(),
    });
    Ok(Reply::json(201, &body))
}

/// `/projects/:id/environments`.
pub fn environments_route(state: &State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project_as(state, REPORTER)?;
    let all = &state.project(project).deploying.environments;
    let show = |it: &Environment| {
        json!({
            "id": it.id, "name": it.name, "slug": it.name.replace('/', "-"), "external_url": null,
            "state": "available", "tier": it.tier,
        })
    };
    match (call.request.method.as_str(), rest) {
        ("GET", []) => page(state, call.request, &call.params, all.iter().map(show).collect()),
        ("GET", [id]) => {
            let id = int(id, "environment_id")?;
            let found = all.iter().find(|it| it.id == id);
            let found = found.ok_or_else(|| Reply::message(404, "404 Not found"))?;
            Ok(Reply::json(200, &show(found)))
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// `/projects/:id/protected_environments` (Premium).
pub fn protected_route(state: &State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project_as(state, MAINTAINER)?;
    licensed(state, Tier::Premium, Reply::message(404, "404 Not Found"))?;
    let all = &state.project(project).deploying.protected;
    let show = |it: &ProtectedEnvironment| {
        let user = |id: &u64| {
            let name = state.users.get(id).map(|it| it.name.clone());
            json!({
                "id": id, "user_id": id, "group_id": null, "access_level": null, "access_level_description": name,
            })
        };
        let mut deploy: Vec<Value> = it.deploy_users.iter().map(user).collect();
        if it.deploy_level > 0 {
            deploy.push(json!({
                "id": it.deploy_level, "user_id": null, "group_id": null, "access_level": it.deploy_level,
                "access_level_description": "Developers + Maintainers",
            }));
        }
        let rules = it.approvers.iter().map(|id| {
            let mut rule = user(id);
            rule["required_approvals"] = json!(1);
            rule
        });
        json!({
            "name": it.name, "deploy_access_levels": deploy, "approval_rules": rules.collect::<Vec<Value>>(),
            "required_approval_count": 0,
        })
    };
    match (call.request.method.as_str(), rest) {
        ("GET", []) => page(state, call.request, &call.params, all.iter().map(show).collect()),
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn job_json(state: &State, project: u64, job: &Job) -> Value {
    let record = state.project(project);
    let pipeline = state.pipeline_of(project, job.pipeline);
    let commit = state
        .objects
        .get(&pipeline.sha)
        .expect("a pipeline's commit exists");
    json!({
        "id": job.id,
        "status": job.status,
        "stage": "deploy",
        "name": job.name,
        "ref": pipeline.ref_name,
        "tag": record.tags.contains_key(&pipeline.ref_name) && !record.branches.contains_key(&pipeline.ref_name),
        "coverage": null,
        "allow_failure": false,
        "created_at": date(job.created_at),
        "started_at": job.started_at.map(date),
        "finished_at": job.finished_at.map(date),
        "erased_at": null,
        "duration": null,
        "queued_duration": null,
        "user": shapes::user_public(state, job.user),
        "commit": shapes::commit(state, project, commit, true),
        "pipeline": shapes::pipeline(state, pipeline),
        "web_url": format!("{}/{}/-/jobs/{}", state.base_url, record.path, job.id),
        "project": {"ci_job_token_scope_enabled": false},
        "artifacts": [],
        "runner": null,
        "artifacts_expire_at": null,
        "archived": false,
        "tag_list": [],
    })
}

fn deployment_json(state: &State, project: u64, it: &Deployment) -> Value {
    let job = state.job(project, it.job).expect("the deployment's job");
    let pipeline = state.pipeline_of(project, job.pipeline);
    let all = &state.project(project).deploying;
    let environment = all.environments.iter().find(|e| e.id == it.environment);
    let environment = environment.expect("the deployment's environment");
    json!({
        "id": it.id,
        "iid": it.id,
        "ref": pipeline.ref_name,
        "sha": pipeline.sha,
        "created_at": date(it.created_at),
        "updated_at": date(it.updated_at),
        "user": shapes::user_basic(state, pipeline.user),
        "environment": {
            "id": environment.id, "name": environment.name, "slug": environment.name.replace('/', "-"),
            "external_url": null,
        },
        "deployable": job_json(state, project, job),
        "status": it.status,
    })
}

fn summary(state: &State, project: u64, it: &Deployment) -> Value {
    let approvers = state.protected_environment(project, it.environment);
    let rules = approvers.map_or(&[][..], |it| &it.approvers).iter().map(|user| {
        let given = it.approvals.iter().filter(|(who, _, _)| who == user);
        let given: Vec<Value> = given
            .map(|(who, status, comment)| {
                json!({"user": shapes::user_basic(state, *who), "status": status, "comment": comment})
            })
            .collect();
        json!({
            "user_id": user, "group_id": null, "access_level": null, "required_approvals": 1,
            "deployment_approvals": given,
        })
    });
    json!({ "rules": rules.collect::<Vec<Value>>() })
}

/// One of the `builds` of a Pipeline Hook.
fn build(state: &State, project: u64, job: &Job) -> Value {
    let all = &state.project(project).deploying;
    let of = all.deployments.iter().find(|it| it.job == job.id);
    let environment = of.and_then(|of| all.environments.iter().find(|it| it.id == of.environment));
    json!({
        "id": job.id, "stage": "deploy", "name": job.name, "status": job.status,
        "created_at": date(job.created_at), "started_at": job.started_at.map(date),
        "finished_at": job.finished_at.map(date), "when": if job.manual { "manual" } else { "on_success" },
        "manual": job.manual, "allow_failure": false,
        "user": {"id": job.user, "name": "", "username": "", "email": "[REDACTED]"},
        "environment": environment.map(|it| json!({
            "name": it.name, "action": "start", "deployment_tier": it.tier,
        })),
    })
}

fn build_hook(state: &State, project: u64, job: &Job) -> Value {
    let pipeline = state.pipeline_of(project, job.pipeline);
    json!({
        "object_kind": "build", "ref": pipeline.ref_name, "tag": false, "sha": pipeline.sha,
        "build_id": job.id, "build_name": job.name, "build_stage": "deploy", "build_status": job.status,
        "pipeline_id": job.pipeline, "project_id": project, "project_name": state.project(project).path,
        "project": {"id": project, "path_with_namespace": state.project(project).path},
        "environment": build(state, project, job)["environment"],
    })
}

fn deployment_hook(state: &State, project: u64, job: &Job) -> Value {
    let all = &state.project(project).deploying;
    let of = all
        .deployments
        .iter()
        .find(|it| it.job == job.id)
        .expect("its deployment");
    json!({
        "object_kind": "deployment", "status": job.status, "deployment_id": of.id, "deployable_id": job.id,
        "environment": build(state, project, job)["environment"]["name"],
        "project": {"id": project, "path_with_namespace": state.project(project).path},
        "short_sha": &state.pipeline_of(project, job.pipeline).sha[..8],
    })
}
