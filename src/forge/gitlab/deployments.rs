//! Jobs that deploy to an environment. GitLab's jobs do not tell their environment; its deployments do, on every tier, and
//! each has its job with it. The deployment of a job that waits is `blocked`, whatever it waits for; older versions leave it
//! `created`. Whether a protected environment holds it (Premium), only the deployment by itself tells.

use crate::domain::deployment::Phase;
use crate::domain::facts::Account;
use crate::domain::text::shortened;
use crate::domain::time::Time;
use crate::forge::gitlab::{
    GitLab, Limits, User, commit_id, explained, page_url, project_number, with_words,
};
use crate::forge::{DeploymentHead, StartOutcome};
use crate::outbound::{Error, Method, Outcome};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// How much of a list of deployments is read: a thousand, the newest first.
const LIMITS: Limits = Limits {
    pages: 10,
    bytes: 8 * 1024 * 1024,
};
/// A short look at a list: the newest hundred.
const SHORT: Limits = Limits { pages: 1, ..LIMITS };
/// Starting a job writes to several tables, which takes longer than a read.
const START_TIME: Duration = Duration::from_secs(30);
/// GitLab's limits for names are below these, in characters.
const NAME_MAX: usize = 300;
const TITLE_MAX: usize = 300;

#[derive(Deserialize)]
struct Deployment {
    id: u64,
    #[serde(rename = "ref", default)]
    reference: String,
    #[serde(default)]
    sha: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: Option<String>,
    environment: Option<Environment>,
    /// Absent for a deployment that no job of GitLab makes.
    deployable: Option<Job>,
    /// These on Premium, of a deployment by itself.
    pending_approval_count: Option<u64>,
    approval_summary: Option<ApprovalSummary>,
}

#[derive(Deserialize)]
struct ApprovalSummary {
    #[serde(default)]
    rules: Vec<ApprovalRule>,
}

#[derive(Deserialize)]
struct ApprovalRule {
    #[serde(default)]
    required_approvals: u64,
    #[serde(default)]
    deployment_approvals: Vec<Approval>,
}

#[derive(Deserialize)]
struct Approval {
    #[serde(default)]
    status: String,
}

impl Deployment {
    /// Approvals are missing on GitLab.
    fn is_held(&self) -> bool {
        let short = |it: &ApprovalRule| {
            let given = it
                .deployment_approvals
                .iter()
                .filter(|it| it.status == "approved")
                .count();
            u64::try_from(given).unwrap_or(u64::MAX) < it.required_approvals
        };
        let by_rules = self
            .approval_summary
            .as_ref()
            .is_some_and(|it| it.rules.iter().any(short));
        by_rules || self.pending_approval_count.is_some_and(|it| it > 0)
    }
}

#[derive(Deserialize)]
struct Environment {
    id: u64,
    name: String,
    #[serde(default)]
    tier: Option<String>,
}

#[derive(Deserialize)]
struct Job {
    id: u64,
    name: String,
    status: String,
    #[serde(default)]
    tag: Option<bool>,
    started_at: Option<String>,
    #[serde(default)]
    web_url: Option<String>,
    user: Option<User>,
    pipeline: Option<PipelineOf>,
    commit: Option<Commit>,
}

#[derive(Deserialize)]
struct PipelineOf {
    id: u64,
}

#[derive(Deserialize)]
struct Commit {
    #[serde(default)]
    title: Option<String>,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    sha: String,
    user: Option<User>,
}

impl GitLab {
    /// See [`crate::forge::Forge::waiting_deployments`].
    pub(crate) async fn waiting_deployments(
        &self,
        forge_project_id: &str,
        environment: Option<&str>,
        only_created: bool,
        short: bool,
    ) -> Result<Vec<DeploymentHead>, Error> {
        let status = if only_created { "created" } else { "blocked" };
        let limits = if short { SHORT } else { LIMITS };
        let mut query = vec![("status", status), ("order_by", "id"), ("sort", "desc")];
        query.extend(environment.map(|it| ("environment", it)));
        self.deployments(forge_project_id, &query, limits).await
    }

    /// See [`crate::forge::Forge::changed_deployments`].
    pub(crate) async fn changed_deployments(
        &self,
        forge_project_id: &str,
        since: Time,
    ) -> Result<Vec<DeploymentHead>, Error> {
        let since = since.to_string();
        let query = [
            ("updated_after", since.as_str()),
            ("order_by", "updated_at"),
            ("sort", "desc"),
        ];
        self.deployments(forge_project_id, &query, LIMITS).await
    }

    async fn deployments(
        &self,
        forge_project_id: &str,
        query: &[(&str, &str)],
        limits: Limits,
    ) -> Result<Vec<DeploymentHead>, Error> {
        let project = project_number(forge_project_id)?;
        let listed = self
            .pages::<Deployment>(&["projects", project, "deployments"], query, limits)
            .await
            .map_err(|bad| bad.error)?;
        if !listed.whole && limits.pages > SHORT.pages {
            tracing::warn!(
                project,
                "GitLab lists more deployments than are looked at; the oldest are left out"
            );
        }
        // One that can't be read must not hide the others; without its parts it can't be asked for either.
        let heads = listed.items.into_iter().filter_map(|it| {
            let number = it.id;
            head(it).unwrap_or_else(|error| {
                tracing::warn!(%error, project, deployment = number, "a deployment can't be read");
                None
            })
        });
        Ok(heads.collect())
    }

    /// See [`crate::forge::Forge::deployment`].
    pub(crate) async fn deployment(
        &self,
        forge_project_id: &str,
        deployment: u64,
    ) -> Result<Option<DeploymentHead>, Error> {
        let project = project_number(forge_project_id)?;
        let number = deployment.to_string();
        let found: Result<Deployment, Error> = self
            .get(&["projects", project, "deployments", &number], &[])
            .await;
        match found {
            Ok(it) if it.id == deployment => {
                let held = Some(it.is_held());
                Ok(head(it)?.map(|it| DeploymentHead { held, ..it }))
            }
            Ok(_) => Err(Error::NotJson(
                "another deployment than the one asked for".to_owned(),
            )),
            Err(error) if error.status() == Some(404) => {
                // Without this the refusal may only mean that the token may not see the project now.
                self.project(project).await.map(|_| None)
            }
            Err(error) => Err(error),
        }
    }

    /// See [`crate::forge::Forge::pipeline_account`].
    pub(crate) async fn pipeline_account(
        &self,
        forge_project_id: &str,
        head: &DeploymentHead,
    ) -> Result<Account, Error> {
        let project = project_number(forge_project_id)?;
        let number = head.pipeline.to_string();
        let it: Pipeline = self
            .get(&["projects", project, "pipelines", &number], &[])
            .await?;
        if it.id != head.pipeline || it.sha != head.sha {
            return Err(Error::NotJson(
                "a pipeline of another commit than its job".to_owned(),
            ));
        }
        let account = it.user.map(Account::from).or_else(|| head.account.clone());
        account.ok_or_else(|| Error::NotJson("a pipeline that nobody started".to_owned()))
    }

    /// See [`crate::forge::Forge::environment_tier`].
    pub(crate) async fn environment_tier(
        &self,
        forge_project_id: &str,
        environment_id: u64,
    ) -> Result<Option<String>, Error> {
        let project = project_number(forge_project_id)?;
        let number = environment_id.to_string();
        let found: Result<Environment, Error> = self
            .get(&["projects", project, "environments", &number], &[])
            .await;
        match found {
            Ok(it) => Ok(it.tier.map(|it| shortened(&it, NAME_MAX))),
            // Told by nobody: it decides nothing.
            Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// See [`crate::forge::Forge::answer_deployment`].
    pub(crate) async fn answer_deployment(
        &self,
        forge_project_id: &str,
        deployment: u64,
        approve: bool,
        comment: &str,
    ) -> Outcome<()> {
        let asked = async {
            let project = project_number(forge_project_id)?;
            let number = deployment.to_string();
            let status = if approve { "approved" } else { "rejected" };
            let call = self
                .call(
                    Method::Post,
                    &["projects", project, "deployments", &number, "approval"],
                )?
                .json(&json!({ "status": status, "comment": comment }));
            self.client.fetch(call).await
        };
        match asked.await {
            Ok(_) => Outcome::Delivered(()),
            Err(Error::Status {
                code: 400 | 401 | 403 | 404,
                retry_after: None,
                excerpt,
            }) => Outcome::Rejected {
                reason: with_words(
                    "GitLab does not let the token's account approve deployments to this environment: name it in the \
                         approval rules of the protected environment (Settings → CI/CD → Protected environments), and \
                         among those allowed to deploy. Where the account starts the pipeline itself by merging, tick \
                         \"Allow pipeline triggerer to approve deployment\"",
                    &excerpt,
                ),
            },
            Err(error) => {
                let reason = explained(&error);
                match error.into_outcome::<()>() {
                    Outcome::Retry { after, .. } => Outcome::Retry { after, reason },
                    Outcome::Delivered(()) | Outcome::Rejected { .. } => Outcome::Rejected { reason },
                }
            }
        }
    }

    /// See [`crate::forge::Forge::start_job`].
    pub(crate) async fn start_job(&self, forge_project_id: &str, job: u64) -> StartOutcome {
        let asked = async {
            let project = project_number(forge_project_id)?;
            let number = job.to_string();
            let call = self
                .call(Method::Post, &["projects", project, "jobs", &number, "play"])?
                .limit(START_TIME);
            self.client.fetch(call).await
        };
        match asked.await {
            // Whatever stands in it: GitLab says 200 once the job is under way.
            Ok(_) => StartOutcome::Started,
            Err(error) => not_started(&error),
        }
    }
}

/// What a refused or lost start means.
fn not_started(error: &Error) -> StartOutcome {
    let reason = explained(error);
    match error {
        Error::Status {
            code: 429 | 403,
            retry_after: Some(after),
            ..
        } => StartOutcome::Retry {
            after: Some(*after),
            reason,
        },
        Error::Status { code: 429, .. } => StartOutcome::Retry { after: None, reason },
        Error::Status {
            code: 401 | 403,
            excerpt,
            ..
        } => StartOutcome::Denied {
            reason: with_words(
                "GitLab does not let the token's account start the job: on a protected branch or tag it has to be among those \
                 allowed to merge or push (Settings → Repository → Protected branches), for a protected environment among \
                 those allowed to deploy, and the token needs the scope api",
                excerpt,
            ),
        },
        Error::Status {
            code: 400 | 404 | 405 | 409 | 422,
            excerpt,
            ..
        } => StartOutcome::NotStartable {
            reason: with_words("GitLab says that the job can't be started as it is", excerpt),
        },
        _ => StartOutcome::Unclear { reason },
    }
}

/// A deployment with its job; `None` for one that no job of GitLab makes.
fn head(it: Deployment) -> Result<Option<DeploymentHead>, Error> {
    let (Some(job), Some(environment)) = (it.deployable, it.environment) else {
        return Ok(None);
    };
    let Some(pipeline) = job.pipeline else {
        return Err(Error::NotJson("a job without its pipeline".to_owned()));
    };
    let ran = job.started_at.is_some();
    let tag = job.tag.unwrap_or(false);
    Ok(Some(DeploymentHead {
        deployment: it.id,
        job: job.id,
        phase: phase(&job.status, ran),
        ran,
        held: None,
        only_created: it.status == "created",
        environment: whole(environment.name)?,
        environment_id: environment.id,
        job_name: whole(job.name)?,
        ref_name: whole(full(&it.reference, tag))?,
        sha: commit_id(&it.sha)?.to_owned(),
        pipeline: pipeline.id,
        account: job.user.map(Account::from),
        web_url: page_url(job.web_url.as_deref().unwrap_or_default()),
        commit_title: shortened(
            job.commit.and_then(|it| it.title).as_deref().unwrap_or_default(),
            TITLE_MAX,
        ),
        created_at: time(&it.created_at)?,
        updated_at: time(it.updated_at.as_deref().unwrap_or(&it.created_at))?,
    }))
}

/// Where a job stands, by GitLab's word; `None` while its turn has not come, and for words nobody knows.
fn phase(status: &str, ran: bool) -> Option<Phase> {
    match status {
        "manual" => Some(Phase::Waiting),
        "pending" | "waiting_for_resource" | "preparing" | "waiting_for_callback" | "running" | "success" => {
            Some(Phase::Started)
        }
        // GitLab fails a job whose deployment is rejected, or that is outdated, before any runner has it.
        "failed" | "canceled" | "canceling" | "skipped" if ran => Some(Phase::Started),
        "failed" | "canceled" | "canceling" | "skipped" => Some(Phase::Ended),
        _ => None,
    }
}

/// A name that is signed is never cut: one longer than GitLab makes is refused.
fn whole(text: String) -> Result<String, Error> {
    match text.is_empty() || text.chars().count() > NAME_MAX {
        true => Err(Error::NotJson("a name that is empty or too long".to_owned())),
        false => Ok(text),
    }
}

fn full(reference: &str, tag: bool) -> String {
    match reference {
        it if it.starts_with("refs/") => it.to_owned(),
        it if tag => format!("refs/tags/{it}"),
        it => format!("refs/heads/{it}"),
    }
}

fn time(text: &str) -> Result<Time, Error> {
    Time::parse(text).ok_or_else(|| Error::NotJson("a time that can't be read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn deployment(job: Value) -> Deployment {
        let mut all = json!({
            "id": 5, "name": "deploy", "status": "manual", "tag": false, "started_at": null,
            "web_url": "https://git.example/p/-/jobs/5",
            "user": {"id": 7, "username": "carl", "name": "Carl"},
            "pipeline": {"id": 9}, "commit": {"title": "T"},
        });
        for (name, value) in job.as_object().unwrap() {
            all[name] = value.clone();
        }
        serde_json::from_value(json!({
            "id": 3, "ref": "main", "sha": "0123456789abcdef0123456789abcdef01234567", "status": "created",
            "created_at": "2026-11-22T10:00:00.000Z", "updated_at": "2026-11-22T10:00:01.500+01:00",
            "environment": {"id": 2, "name": "production"}, "deployable": all,
        }))
        .unwrap()
    }

    #[test]
    fn a_deployment_is_read_with_its_job() {
        let it = head(deployment(json!({}))).unwrap().unwrap();
        assert_eq!((it.deployment, it.job, it.pipeline), (3, 5, 9));
        assert_eq!(it.phase, Some(Phase::Waiting));
        assert_eq!(it.ref_name, "refs/heads/main");
        assert_eq!(it.updated_at.to_string(), "2026-11-22T09:00:01.500Z");
        let tag = head(deployment(json!({"tag": true}))).unwrap().unwrap();
        assert_eq!(tag.ref_name, "refs/tags/main");
    }

    #[test]
    fn a_job_waits_was_started_or_will_not_run() {
        for (status, started_at, wanted) in [
            ("manual", Value::Null, Some(Phase::Waiting)),
            ("created", Value::Null, None),
            ("scheduled", Value::Null, None),
            ("pending", Value::Null, Some(Phase::Started)),
            ("running", json!("2026-11-22T10:00:00Z"), Some(Phase::Started)),
            ("success", json!("2026-11-22T10:00:00Z"), Some(Phase::Started)),
            ("failed", Value::Null, Some(Phase::Ended)),
            ("failed", json!("2026-11-22T10:00:00Z"), Some(Phase::Started)),
            ("canceled", Value::Null, Some(Phase::Ended)),
            ("canceled", json!("2026-11-22T10:00:00Z"), Some(Phase::Started)),
            ("skipped", Value::Null, Some(Phase::Ended)),
            ("something new", Value::Null, None),
        ] {
            let it = head(deployment(json!({"status": status, "started_at": started_at})));
            assert_eq!(it.unwrap().unwrap().phase, wanted, "{status}");
        }
    }

    #[test]
    fn a_deployment_is_held_while_approvals_are_missing() {
        let of = |more: Value| {
            let mut all = json!({
                "id": 3, "ref": "main", "sha": "", "status": "blocked", "created_at": "",
                "environment": null, "deployable": null,
            });
            for (name, value) in more.as_object().unwrap() {
                all[name] = value.clone();
            }
            serde_json::from_value::<Deployment>(all).unwrap().is_held()
        };
        let rule = |given: &[&str]| {
            let given: Vec<Value> = given.iter().map(|it| json!({"status": it})).collect();
            json!({"approval_summary": {"rules": [{"required_approvals": 1, "deployment_approvals": given}]}})
        };
        assert!(!of(json!({})), "a manual job on Free is blocked too");
        assert!(of(json!({"pending_approval_count": 1})));
        assert!(!of(
            json!({"pending_approval_count": 0, "approval_summary": {"rules": []}})
        ));
        assert!(of(rule(&[])) && of(rule(&["rejected"])));
        assert!(!of(rule(&["approved"])));
    }

    #[test]
    fn what_is_signed_is_never_cut_or_abbreviated() {
        let mut short = deployment(json!({}));
        short.sha = "0123456789ab".to_owned();
        assert!(head(short).is_err());
        assert!(head(deployment(json!({"name": "x".repeat(301)}))).is_err());
        assert!(head(deployment(json!({"name": ""}))).is_err());
        assert!(head(deployment(json!({"pipeline": null}))).is_err());
    }

    #[test]
    fn an_answer_that_got_lost_is_never_taken_for_a_refusal() {
        let answered = |code, retry_after| {
            not_started(&Error::Status {
                code,
                retry_after,
                excerpt: String::new(),
            })
        };
        for code in [408, 500, 502, 503, 504, 302] {
            assert!(
                matches!(answered(code, None), StartOutcome::Unclear { .. }),
                "{code}"
            );
        }
        let host = "h".to_owned();
        assert!(matches!(
            not_started(&Error::Timeout { host }),
            StartOutcome::Unclear { .. }
        ));
        assert!(matches!(answered(403, None), StartOutcome::Denied { .. }));
        assert!(matches!(answered(400, None), StartOutcome::NotStartable { .. }));
        assert!(matches!(
            answered(429, Some(Duration::from_secs(3))),
            StartOutcome::Retry { .. }
        ));
    }
}
