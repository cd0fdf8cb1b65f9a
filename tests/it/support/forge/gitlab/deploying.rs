//! The test side's ways with jobs that deploy: made in a pipeline that exists, started by people in the browser, protected
//! in a word, and who started what.

use jiff::Timestamp;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::deployments::EnvironmentRule;
use crate::support::forge::gitlab::deployments::ProtectedEnvironment;
use crate::support::forge::gitlab::jobs::Job;
use crate::support::forge::gitlab::jobs::JobEnvironment;
use crate::support::forge::gitlab::payloads;
use crate::support::forge::gitlab::state::Access;
use crate::support::forge::gitlab::state::State;

/// What a project has of it besides jobs, environments and deployments.
#[derive(Clone, Debug, Default)]
pub struct Deploying {
    /// Where pipelines are written, if not in the usual file.
    pub ci_config_path: Option<String>,
    /// As older versions do: the deployment of a job that waits is left `created`.
    pub waits_as_created: bool,
    /// Every time a job was started: job and user.
    pub plays: Vec<(u64, u64)>,
}

impl FakeGitLab {
    /// A job that deploys, in a pipeline: a manual one waits, another is queued at once.
    pub fn add_deploy_job(
        &self,
        project: u64,
        pipeline: u64,
        name: &str,
        environment: &str,
        manual: bool,
    ) -> u64 {
        self.change_state(|state| {
            let user = state.pipeline(project, pipeline).user;
            let tier = match environment {
                it if it.contains("prod") => "production",
                it if it.contains("stag") => "staging",
                _ => "other",
            };
            let job = Job {
                id: state.fresh_id(),
                pipeline,
                name: name.to_owned(),
                stage: "deploy".to_owned(),
                status: if manual { "manual" } else { "pending" }.to_owned(),
                failure: None,
                manual,
                allow_failure: false,
                user,
                environment: Some(JobEnvironment {
                    name: environment.to_owned(),
                    action: "start".to_owned(),
                    tier: tier.to_owned(),
                }),
                retried: false,
                variables: Vec::new(),
                created_at: Timestamp::now(),
                started_at: None,
                finished_at: None,
            };
            state.add_job(project, job)
        })
    }

    /// A protected environment: who may deploy (a level and people), and of whom one approval each is needed.
    pub fn protect_environment(&self, project: u64, name: &str, deploy: (u64, &[u64]), approvers: &[u64]) {
        self.change_state(|state| {
            let mut access = |level: Option<u64>, user: Option<u64>| Access {
                id: state.fresh_id(),
                level,
                user,
                group: None,
            };
            let mut all = vec![access(Some(deploy.0), None)];
            all.extend(deploy.1.iter().map(|user| access(None, Some(*user))));
            let rules = approvers.iter().map(|user| EnvironmentRule {
                access: access(None, Some(*user)),
                required: 1,
            });
            let it = ProtectedEnvironment {
                name: name.to_owned(),
                rules: rules.collect(),
                deploy: all,
            };
            let known = &mut state.project_mut(project).protected_environments;
            known.retain(|it| it.name != name);
            known.push(it);
        });
    }

    /// Who started a job, each time.
    pub fn plays(&self, project: u64, job: u64) -> Vec<u64> {
        self.read(|state| {
            let all = state.project(project).deploying.plays.iter();
            all.filter(|it| it.0 == job).map(|it| it.1).collect()
        })
    }

    /// Somebody presses play in the browser.
    pub fn play_as(&self, project: u64, job: u64, user: u64) {
        let played = self.try_play_as(project, job, user);
        played.expect("a job that this person can play");
    }

    /// Somebody retries a job in the browser: another job, which runs at once.
    pub fn retry_as(&self, project: u64, job: u64, user: u64) -> u64 {
        self.change_state(|state| {
            let old = state.job(project, job).clone();
            state.job_mut(project, job).retried = true;
            let id = state.fresh_id();
            let new = Job {
                id,
                status: "pending".to_owned(),
                user,
                created_at: Timestamp::now(),
                started_at: None,
                finished_at: None,
                ..old
            };
            state.add_job(project, new);
            state.project_mut(project).deploying.plays.push((id, user));
            id
        })
    }

    /// A pipeline with its jobs and their deployments is removed.
    pub fn delete_pipeline(&self, project: u64, pipeline: u64) {
        self.change_state(|state| {
            let it = state.project_mut(project);
            it.pipelines.retain(|it| it.id != pipeline);
            it.jobs.retain(|it| it.pipeline != pipeline);
            let jobs: Vec<u64> = it.jobs.iter().map(|it| it.id).collect();
            it.deployments.retain(|it| jobs.contains(&it.job));
        });
    }
}

impl State {
    fn add_job(&mut self, project: u64, job: Job) -> u64 {
        let (id, pipeline, user) = (job.id, job.pipeline, job.user);
        self.project_mut(project).jobs.push(job);
        self.prepare_deployment(project, id, user);
        let body = payloads::job_hook(self, project, id);
        self.raise(project, "Job Hook", "job_events", &body);
        let body = payloads::pipeline_hook(self, project, pipeline, user);
        self.raise(project, "Pipeline Hook", "pipeline_events", &body);
        id
    }
}
