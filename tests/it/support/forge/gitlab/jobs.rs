//! CI jobs: made by the test side, listed, played and cancelled by API, told by Pipeline and Job Hooks.
//! What a job deploys to, and who must approve that, is in `deployments.rs`.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::only;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::api::page_uncounted;
use crate::support::forge::gitlab::payloads;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;

/// What a job can be in.
const STATES: [&str; 12] = [
    "created",
    "waiting_for_resource",
    "preparing",
    "pending",
    "running",
    "success",
    "failed",
    "canceled",
    "canceling",
    "skipped",
    "manual",
    "scheduled",
];

/// The `environment:` of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnvironment {
    pub name: String,
    /// `start`, `prepare`, `verify`, `access` or `stop`; only `start` deploys.
    pub action: String,
    /// `production`, `staging`, `testing`, `development` or `other`.
    pub tier: String,
}

/// A job to be made.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub name: String,
    pub stage: String,
    pub manual: bool,
    pub allow_failure: bool,
    pub environment: Option<JobEnvironment>,
}

impl NewJob {
    /// A job that waits for a person and holds the pipeline up meanwhile.
    pub fn manual(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            stage: "deploy".to_owned(),
            manual: true,
            allow_failure: false,
            environment: None,
        }
    }

    /// A job that starts by itself.
    pub fn automatic(name: &str) -> Self {
        Self {
            manual: false,
            stage: "test".to_owned(),
            ..Self::manual(name)
        }
    }

    /// The same, deploying to an environment.
    pub fn deploying(mut self, environment: &str, tier: &str) -> Self {
        self.environment = Some(JobEnvironment {
            name: environment.to_owned(),
            action: "start".to_owned(),
            tier: tier.to_owned(),
        });
        self
    }

    /// The same, with an environment action other than `start`.
    pub fn acting(mut self, action: &str) -> Self {
        if let Some(environment) = &mut self.environment {
            action.clone_into(&mut environment.action);
        }
        self
    }

    /// The same, not holding the pipeline up.
    pub fn optional(mut self) -> Self {
        self.allow_failure = true;
        self
    }
}

/// A job of a pipeline.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: u64,
    pub pipeline: u64,
    pub name: String,
    pub stage: String,
    pub status: String,
    pub failure: Option<String>,
    pub manual: bool,
    pub allow_failure: bool,
    /// Who made the pipeline; after `play`, who played.
    pub user: u64,
    pub environment: Option<JobEnvironment>,
    /// A newer job stands in its place, and it counts no more.
    pub retried: bool,
    /// What was given when it was played.
    pub variables: Vec<(String, String)>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

fn unknown() -> Reply {
    Reply::message(404, "404 Not found")
}

fn scope(call: &Call) -> Result<Vec<String>, Reply> {
    let wanted = call.params.texts("scope").unwrap_or_default();
    if wanted.iter().all(|one| STATES.contains(&one.as_str())) {
        Ok(wanted)
    } else {
        Err(Reply::error(400, "scope does not have a valid value"))
    }
}

/// `/projects/:id/pipelines/:id/jobs`.
pub fn of_pipeline(state: &State, call: &Call, project: u64, pipeline: u64) -> Answer {
    let wanted = scope(call)?;
    let all = call.params.flag("include_retried")?.unwrap_or(false);
    let jobs = state
        .project(project)
        .jobs
        .iter()
        .rev()
        .filter(|job| job.pipeline == pipeline && (all || !job.retried));
    let found = jobs.filter(|job| wanted.is_empty() || wanted.contains(&job.status));
    page(
        state,
        call.request,
        &call.params,
        found.map(|job| shown(state, project, job)).collect(),
    )
}

/// `/projects/:id/jobs/…`.
pub fn route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let method = call.request.method.as_str();
    let project = call.project_as(state, REPORTER)?;
    let [id, rest @ ..] = rest else {
        return only(method, "GET").and_then(|()| {
            let wanted = scope(call)?;
            let jobs = state.project(project).jobs.iter().rev();
            let found = jobs.filter(|job| wanted.is_empty() || wanted.contains(&job.status));
            let list = found.map(|job| shown(state, project, job)).collect();
            page_uncounted(state, call.request, &call.params, list)
        });
    };
    let id = int(id, "job_id")?;
    let job = state
        .project(project)
        .jobs
        .iter()
        .find(|job| job.id == id)
        .cloned()
        .ok_or_else(unknown)?;
    match rest {
        [] => only(method, "GET").map(|()| Reply::json(200, &shown(state, project, &job))),
        ["play"] => only(method, "POST").and_then(|()| play(state, call, project, &job)),
        ["retry"] => only(method, "POST").and_then(|()| retry(state, call, project, &job)),
        ["cancel"] => only(method, "POST").and_then(|()| cancel(state, call, project, &job)),
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// 403 for who may not run jobs on the branch or deploy to the environment, then 400 for what can not be played:
/// also a job whose deployment still waits for approvals.
fn play(state: &mut State, call: &Call, project: u64, job: &Job) -> Answer {
    let variables = variables(call)?;
    if !state.may_run(project, job, call.user) {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    // A manual job that has ended is playable too: GitLab runs it once more, as another job.
    if job.manual && matches!(job.status.as_str(), "success" | "failed" | "canceled") && !job.retried {
        let again = retry(state, call, project, job)?;
        return Ok(Reply { status: 200, ..again });
    }
    if job.status != "manual" || state.waits_for_approval(project, job.id) {
        return Err(Reply::message(400, "400 Bad request - Unplayable Job"));
    }
    state
        .project_mut(project)
        .deploying
        .plays
        .push((job.id, call.user));
    let own = state.job_mut(project, job.id);
    own.user = call.user;
    own.variables = variables;
    state.set_job(project, job.id, "pending", None);
    Ok(Reply::json(
        200,
        &shown(state, project, state.job(project, job.id)),
    ))
}

fn variables(call: &Call) -> Result<Vec<(String, String)>, Reply> {
    let given = match call.params.0.get("job_variables_attributes") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Reply::error(400, "job_variables_attributes is invalid")),
    };
    let one = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().map(str::to_owned);
        let missing = || Reply::error(400, "job_variables_attributes[0][key] is missing");
        Ok((
            text("key").ok_or_else(missing)?,
            text("value").ok_or_else(missing)?,
        ))
    };
    given.iter().map(one).collect()
}

/// A new job in the place of one that has ended: it starts at once, unless its environment asks for approvals again.
fn retry(state: &mut State, call: &Call, project: u64, job: &Job) -> Answer {
    if !state.may_run(project, job, call.user) {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    if !matches!(job.status.as_str(), "success" | "failed" | "canceled") || job.retried {
        return Err(Reply::message(403, "403 Forbidden - Job is not retryable"));
    }
    state.job_mut(project, job.id).retried = true;
    let id = state.fresh_id();
    let new = Job {
        id,
        status: "created".to_owned(),
        failure: None,
        user: call.user,
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
        ..job.clone()
    };
    state.project_mut(project).jobs.push(new);
    state.prepare_deployment(project, id, call.user);
    let next = if state.waits_for_approval(project, id) {
        "manual"
    } else {
        "pending"
    };
    if next == "pending" {
        state.project_mut(project).deploying.plays.push((id, call.user));
    }
    state.set_job(project, id, next, None);
    Ok(Reply::json(201, &shown(state, project, state.job(project, id))))
}

/// What has ended already stays as it is, and the answer is the same.
fn cancel(state: &mut State, call: &Call, project: u64, job: &Job) -> Answer {
    call.project_as(state, DEVELOPER)?;
    if !state.may_run(project, job, call.user) {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    if matches!(
        job.status.as_str(),
        "created" | "pending" | "running" | "manual" | "scheduled"
    ) {
        state.set_job(project, job.id, "canceled", None);
    }
    Ok(Reply::json(
        201,
        &shown(state, project, state.job(project, job.id)),
    ))
}

/// A job as the API tells it.
pub fn shown(state: &State, project: u64, job: &Job) -> Value {
    let pipeline = state.pipeline(project, job.pipeline);
    let web = format!(
        "{}/{}/-/jobs/{}",
        state.base_url,
        state.project(project).path,
        job.id
    );
    let commit = state
        .objects
        .get(&pipeline.sha)
        .map(|commit| shapes::commit(state, project, commit, true));
    json!({
        "id": job.id,
        "name": job.name,
        "stage": job.stage,
        "status": job.status,
        "failure_reason": job.failure,
        "ref": pipeline.ref_name,
        "tag": false,
        "coverage": null,
        "allow_failure": job.allow_failure,
        "created_at": shapes::date(job.created_at),
        "started_at": job.started_at.map(shapes::date),
        "finished_at": job.finished_at.map(shapes::date),
        "erased_at": null,
        "duration": null,
        "queued_duration": null,
        "user": shapes::user_basic(state, job.user),
        "commit": commit,
        "pipeline": shapes::pipeline(state, pipeline),
        "web_url": web,
        "project": {"ci_job_token_scope_enabled": false},
        "artifacts": [],
        "runner": null,
        "artifacts_expire_at": null,
        "archived": false,
        "tag_list": [],
    })
}

/// A job as Pipeline Hooks list it.
pub fn build(state: &State, job: &Job) -> Value {
    let environment = job.environment.as_ref();
    json!({
        "id": job.id,
        "stage": job.stage,
        "name": job.name,
        "status": job.status,
        "created_at": payloads::hook_date(job.created_at),
        "started_at": job.started_at.map(payloads::hook_date),
        "finished_at": job.finished_at.map(payloads::hook_date),
        "duration": null,
        "queued_duration": null,
        "failure_reason": job.failure,
        "when": if job.manual { "manual" } else { "on_success" },
        "manual": job.manual,
        "allow_failure": job.allow_failure,
        "user": payloads::user_json(state, job.user),
        "runner": null,
        "artifacts_file": {"filename": null, "size": null},
        "environment": environment.map(|it| json!({
            "name": it.name,
            "action": it.action,
            "deployment_tier": it.tier,
        })),
    })
}

/// The rules of jobs.
impl State {
    pub fn job(&self, project: u64, job: u64) -> &Job {
        let found = self.project(project).jobs.iter().find(|it| it.id == job);
        found.expect("a job that exists")
    }

    pub fn job_mut(&mut self, project: u64, job: u64) -> &mut Job {
        let found = self.project_mut(project).jobs.iter_mut().find(|it| it.id == job);
        found.expect("a job that exists")
    }

    /// Developers run jobs; on a protected branch only who may push or merge there; where the environment is protected
    /// only who may deploy to it.
    fn may_run(&self, project: u64, job: &Job, user: u64) -> bool {
        let name = &self.pipeline(project, job.pipeline).ref_name;
        let branch = name.strip_prefix("refs/heads/").unwrap_or(name);
        self.level(project, user) >= DEVELOPER
            && (self.protections(project, branch).is_empty() || self.may_merge_into(project, branch, user))
            && job
                .environment
                .as_ref()
                .is_none_or(|it| self.may_deploy(project, &it.name, user))
    }

    /// Brings a job to another state, with its deployment, and tells it.
    pub fn set_job(&mut self, project: u64, job: u64, status: &str, failure: Option<&str>) {
        let own = self.job_mut(project, job);
        status.clone_into(&mut own.status);
        own.failure = failure.map(str::to_owned);
        let now = Timestamp::now();
        match status {
            "running" => own.started_at = Some(now),
            "success" | "failed" | "canceled" | "skipped" => own.finished_at = Some(now),
            _ => {}
        }
        let (pipeline, user) = (own.pipeline, own.user);
        let body = payloads::job_hook(self, project, job);
        self.raise(project, "Job Hook", "job_events", &body);
        self.follow_job(project, job, status);
        self.touch_pipeline(project, pipeline);
        self.settle_pipeline(project, pipeline, user);
    }
}

/// Pipelines with jobs.
impl FakeGitLab {
    /// A pipeline of a branch's commit with these jobs; manual ones wait, the others have succeeded. The answer is the
    /// pipeline and its jobs in order.
    pub fn add_job_pipeline(
        &self,
        project: u64,
        ref_name: &str,
        sha: &str,
        user: u64,
        jobs: &[NewJob],
    ) -> (u64, Vec<u64>) {
        self.change_state(|state| {
            let pipeline = state.new_pipeline(project, sha, ref_name, "push", user, None);
            let mut ids = Vec::new();
            for new in jobs {
                let id = state.fresh_id();
                ids.push(id);
                let now = Timestamp::now();
                let status = if new.manual { "manual" } else { "success" };
                state.project_mut(project).jobs.push(Job {
                    id,
                    pipeline,
                    name: new.name.clone(),
                    stage: new.stage.clone(),
                    status: status.to_owned(),
                    failure: None,
                    manual: new.manual,
                    allow_failure: new.allow_failure,
                    user,
                    environment: new.environment.clone(),
                    retried: false,
                    variables: Vec::new(),
                    created_at: now,
                    started_at: None,
                    finished_at: (!new.manual).then_some(now),
                });
                state.prepare_deployment(project, id, user);
            }
            for id in &ids {
                let body = payloads::job_hook(state, project, *id);
                state.raise(project, "Job Hook", "job_events", &body);
            }
            state.settle_pipeline(project, pipeline, user);
            (pipeline, ids)
        })
    }

    /// The runner's part: a job becomes `running`, `success`, `failed` …, and its deployment with it.
    pub fn set_job(&self, project: u64, job: u64, status: &str) {
        let failure = (status == "failed").then_some("script_failure");
        self.change_state(|state| state.set_job(project, job, status, failure));
    }

    /// The job as it is.
    pub fn job(&self, project: u64, job: u64) -> Job {
        self.read(|state| state.job(project, job).clone())
    }

    /// A person plays the job on the page; the error is the API's refusal.
    pub fn try_play_as(&self, project: u64, job: u64, user: u64) -> Result<(), String> {
        self.change_state(|state| {
            let own = state.job(project, job).clone();
            if !state.may_run(project, &own, user) {
                return Err("403 Forbidden".to_owned());
            }
            if own.status != "manual" || state.waits_for_approval(project, job) {
                return Err("400 Bad request - Unplayable Job".to_owned());
            }
            state.job_mut(project, job).user = user;
            state.project_mut(project).deploying.plays.push((job, user));
            state.set_job(project, job, "pending", None);
            Ok(())
        })
    }
}
