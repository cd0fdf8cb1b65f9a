//! Deployments that wait for this App: environments with its deployment protection rule. GitHub holds such a job until the App
//! answers its review callback, and starts it itself then.
//!
//! Source: "Creating custom deployment protection rules" of GitHub's documentation.

use crate::domain::deployment::Phase;
use crate::domain::facts::Account;
use crate::domain::text::shortened;
use crate::domain::time::Time;
use crate::forge::github::contributors::Commit;
use crate::forge::github::repository::Place;
use crate::forge::github::{GitHub, Limits, User, commit_id, full_ref, page_url, with_words};
use crate::forge::{DeploymentHead, StartOutcome};
use crate::outbound::{Error, Method, Outcome};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;

/// Deployments looked at for what was started lately.
const NEWEST: &str = "15";
/// Of one environment and commit the newest is the one that waits.
const OF_A_COMMIT: &str = "5";
/// Runs that wait, looked at in one go.
const RUNS_MAX: usize = 50;
const STATUS_LIMITS: Limits = Limits {
    pages: 3,
    bytes: 1024 * 1024,
};
/// Characters GitHub takes of a comment.
const COMMENT_MAX: usize = 1_000;
/// Longest text that is kept of a commit, in characters.
const TEXT_MAX: usize = 300;

#[derive(Clone, Debug, Deserialize)]
struct Deployment {
    id: u64,
    sha: String,
    #[serde(rename = "ref")]
    reference: String,
    #[serde(default)]
    task: String,
    environment: String,
    creator: Option<User>,
    created_at: String,
    updated_at: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    state: String,
    #[serde(default)]
    log_url: String,
    #[serde(default)]
    target_url: String,
    creator: Option<User>,
    created_at: String,
}

#[derive(Deserialize)]
struct Runs {
    workflow_runs: Vec<Run>,
}

#[derive(Clone, Debug, Deserialize)]
struct Run {
    id: u64,
    head_sha: String,
    #[serde(default)]
    html_url: String,
    actor: Option<User>,
    triggering_actor: Option<User>,
}

#[derive(Deserialize)]
struct Pending {
    environment: Environment,
}

#[derive(Deserialize)]
struct Environment {
    name: String,
}

impl GitHub {
    /// See [`crate::forge::Forge::waiting_deployments`].
    pub(crate) async fn waiting_deployments(
        &self,
        forge_project_id: &str,
        environment: Option<&str>,
        only_created: bool,
    ) -> Result<Vec<DeploymentHead>, Error> {
        if only_created {
            // GitHub's deployments that wait say so.
            return Ok(Vec::new());
        }
        let place = self.place(forge_project_id).await?;
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for run in self.waiting_runs(&place).await? {
            for waits in self.pending(&place, run.id).await? {
                if environment.is_some_and(|it| it != waits) {
                    continue;
                }
                let query = [
                    ("sha", run.head_sha.as_str()),
                    ("environment", waits.as_str()),
                    ("per_page", OF_A_COMMIT),
                ];
                let (reply, _) = self.fetch_again(&place, &["deployments"], &query).await?;
                let listed: Vec<Deployment> = reply.json()?;
                for it in listed {
                    if !seen.insert(it.id) {
                        continue;
                    }
                    let head = self.head_of(&place, it).await?;
                    found.extend(head.filter(|it| it.phase == Some(Phase::Waiting)));
                }
            }
        }
        Ok(found)
    }

    /// See [`crate::forge::Forge::changed_deployments`].
    pub(crate) async fn changed_deployments(
        &self,
        forge_project_id: &str,
        since: Time,
    ) -> Result<Vec<DeploymentHead>, Error> {
        let place = self.place(forge_project_id).await?;
        let (reply, _) = self
            .fetch_again(&place, &["deployments"], &[("per_page", NEWEST)])
            .await?;
        let listed: Vec<Deployment> = reply.json()?;
        let mut found = Vec::new();
        for it in listed {
            let head = self.head_of(&place, it).await?;
            found.extend(head.filter(|it| it.updated_at >= since));
        }
        Ok(found)
    }

    /// See [`crate::forge::Forge::deployment`].
    pub(crate) async fn deployment(
        &self,
        forge_project_id: &str,
        deployment: u64,
    ) -> Result<Option<DeploymentHead>, Error> {
        let place = self.place(forge_project_id).await?;
        let number = deployment.to_string();
        match self
            .get::<Deployment>(&place, &["deployments", &number], &[])
            .await
        {
            Ok(it) => self.head_of(&place, it).await,
            Err(error) if error.status() == Some(404) => self.project(forge_project_id).await.map(|_| None),
            Err(error) => Err(error),
        }
    }

    /// See [`crate::forge::Forge::pipeline_account`].
    pub(crate) async fn pipeline_account(
        &self,
        forge_project_id: &str,
        head: &DeploymentHead,
    ) -> Result<Account, Error> {
        let place = self.place(forge_project_id).await?;
        let number = head.pipeline.to_string();
        let run: Run = self.get(&place, &["actions", "runs", &number], &[]).await?;
        if run.head_sha != head.sha {
            return Err(Error::NotJson("the workflow run is of another commit".to_owned()));
        }
        let who = run.triggering_actor.or(run.actor);
        who.map(Into::into)
            .ok_or_else(|| Error::NotJson("GitHub does not tell who started the workflow".to_owned()))
    }

    /// Approves or rejects what GitHub holds, by the review callback of its run.
    pub(crate) async fn answer_deployment(
        &self,
        forge_project_id: &str,
        deployment: u64,
        approve: bool,
        comment: &str,
    ) -> Outcome<()> {
        match self.review(forge_project_id, deployment, approve, comment).await {
            Ok(()) => Outcome::Delivered(()),
            Err(error) => judged(error),
        }
    }

    async fn review(
        &self,
        forge_project_id: &str,
        deployment: u64,
        approve: bool,
        comment: &str,
    ) -> Result<(), Error> {
        let head = self.deployment(forge_project_id, deployment).await?;
        let Some(head) = head else {
            return Err(Error::Refused("the deployment is gone on GitHub".to_owned()));
        };
        // What GitHub holds no more needs no answer.
        if head.held != Some(true) {
            return Ok(());
        }
        let place = self.place(forge_project_id).await?;
        let run = head.pipeline.to_string();
        // Never the address that a webhook brings along: only the run's number counts.
        let path = ["actions", "runs", run.as_str(), "deployment_protection_rule"];
        let call = self.in_repository(Method::Post, &place, &path)?.json(&json!({
            "environment_name": head.environment,
            "state": if approve { "approved" } else { "rejected" },
            "comment": shortened(comment, COMMENT_MAX),
        }));
        self.fetch_at(&place, call).await.map(drop)
    }

    /// GitHub starts what is approved itself, so only whether it does is looked at.
    pub(crate) async fn start_job(&self, forge_project_id: &str, job: u64) -> StartOutcome {
        match self.deployment(forge_project_id, job).await {
            Ok(Some(it)) if it.phase == Some(Phase::Started) => StartOutcome::Started,
            Ok(Some(it)) if it.held == Some(true) => StartOutcome::NotStartable {
                reason:
                    "GitHub still holds the job: other protection rules of the environment are not fulfilled"
                        .to_owned(),
            },
            Ok(_) => StartOutcome::NotStartable {
                reason: "the job does not run any more".to_owned(),
            },
            Err(error) => StartOutcome::Unclear {
                reason: super::explained(&error),
            },
        }
    }

    /// Runs that wait for a protection rule.
    async fn waiting_runs(&self, place: &Place) -> Result<Vec<Run>, Error> {
        let query = [("status", "waiting"), ("per_page", "100")];
        let (reply, _) = self.fetch_again(place, &["actions", "runs"], &query).await?;
        let mut runs: Runs = reply.json()?;
        runs.workflow_runs.truncate(RUNS_MAX);
        Ok(runs.workflow_runs)
    }

    /// The environments that a run waits for.
    async fn pending(&self, place: &Place, run: u64) -> Result<Vec<String>, Error> {
        let number = run.to_string();
        let path = ["actions", "runs", number.as_str(), "pending_deployments"];
        let found: Vec<Pending> = self.get(place, &path, &[]).await?;
        Ok(found.into_iter().map(|it| it.environment.name).collect())
    }

    /// A deployment as its statuses tell; `None` if no workflow run makes it.
    async fn head_of(&self, place: &Place, it: Deployment) -> Result<Option<DeploymentHead>, Error> {
        let number = it.id.to_string();
        let statuses = self
            .pages::<Status>(place, &["deployments", &number, "statuses"], &[], STATUS_LIMITS)
            .await
            .map_err(|it| it.error)?
            .items;
        let sha = commit_id(&it.sha)?.to_owned();
        let run = match statuses.iter().find_map(Status::run) {
            Some(run) => Some(run),
            None => self.run_of(place, &it).await?,
        };
        let Some(run) = run else { return Ok(None) };
        let newest = statuses.first();
        let has = |states: &[&str]| statuses.iter().any(|it| states.contains(&it.state.as_str()));
        let ran = has(&["in_progress", "success"]);
        let phase = phase(newest.map(|it| it.state.as_str()), ran, has(&["waiting"]));
        let began = statuses.iter().rev().find(|it| it.state == "in_progress");
        let account = match phase {
            Some(Phase::Started) => newest.and_then(|it| it.creator.clone()).or(it.creator.clone()),
            _ => it.creator.clone(),
        };
        let updated = newest.map_or(it.updated_at.as_str(), |status| {
            status.created_at.as_str().max(it.updated_at.as_str())
        });
        let updated_at = time(updated)?;
        let run_text = run.to_string();
        let shown: Result<Run, Error> = self.get(place, &["actions", "runs", &run_text], &[]).await;
        let title: Result<Commit, Error> = self.get(place, &["commits", &sha], &[("per_page", "1")]).await;
        Ok(Some(DeploymentHead {
            deployment: it.id,
            // GitHub has one job for each deployment.
            job: it.id,
            phase,
            ran,
            held: Some(phase == Some(Phase::Waiting)),
            only_created: false,
            environment: it.environment,
            environment_id: 0,
            job_name: it.task,
            ref_name: reference(&it.reference),
            sha,
            pipeline: run,
            account: account.map(Into::into),
            web_url: shown.map(|it| page_url(&it.html_url)).unwrap_or_default(),
            commit_title: title
                .map(|it| shortened(it.title(), TEXT_MAX))
                .unwrap_or_default(),
            created_at: time(&it.created_at)?,
            started_at: began.map(|it| time(&it.created_at)).transpose()?,
            updated_at,
        }))
    }

    /// The run of a deployment whose statuses do not name it: the one that waits for its environment at its commit.
    async fn run_of(&self, place: &Place, it: &Deployment) -> Result<Option<u64>, Error> {
        for run in self.waiting_runs(place).await? {
            if run.head_sha == it.sha && self.pending(place, run.id).await?.contains(&it.environment) {
                return Ok(Some(run.id));
            }
        }
        Ok(None)
    }
}

impl Status {
    /// The number of its workflow run: `…/actions/runs/NUMBER/…`.
    fn run(&self) -> Option<u64> {
        [&self.log_url, &self.target_url].into_iter().find_map(|url| {
            let (_, rest) = url.split_once("/actions/runs/")?;
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        })
    }
}

/// Where a deployment stands. One that was refused has failed without ever having run.
fn phase(newest: Option<&str>, ran: bool, waited: bool) -> Option<Phase> {
    match newest? {
        "waiting" => Some(Phase::Waiting),
        _ if ran => Some(Phase::Started),
        // Let through, and not begun yet.
        "queued" | "pending" if waited => Some(Phase::Started),
        "queued" | "pending" => None,
        _ => Some(Phase::Ended),
    }
}

/// GitHub writes branches, tags and commits alike; only a full ref is taken at its word.
fn reference(text: &str) -> String {
    if text.starts_with("refs/") {
        text.to_owned()
    } else {
        full_ref(text)
    }
}

fn time(text: &str) -> Result<Time, Error> {
    Time::parse(text).ok_or_else(|| Error::NotJson("a time that is none".to_owned()))
}

/// What a refusal of an answer means.
fn judged(error: Error) -> Outcome<()> {
    let Error::Status {
        code,
        excerpt,
        retry_after: None,
    } = &error
    else {
        return error.into_outcome();
    };
    let rejected = |sentence: &str| Outcome::Rejected {
        reason: with_words(sentence, excerpt),
    };
    match code {
        403 => rejected(
            "the App may not answer: it needs the permission Deployments (read and write), accepted by the installation",
        ),
        404 => rejected("GitHub knows no such run, or the App's rule is not enabled for the environment"),
        422 => rejected("GitHub does not take the answer as it is"),
        _ => error.into_outcome(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_that_never_ran_was_not_started() {
        use Phase::{Ended, Started, Waiting};
        for (newest, ran, waited, expected) in [
            (Some("waiting"), false, true, Some(Waiting)),
            (Some("queued"), false, true, Some(Started)),
            (Some("queued"), false, false, None),
            (Some("in_progress"), true, false, Some(Started)),
            (Some("failure"), true, true, Some(Started)),
            (Some("failure"), false, true, Some(Ended)),
            (Some("error"), false, true, Some(Ended)),
            (Some("inactive"), true, true, Some(Started)),
            (None, false, false, None),
        ] {
            assert_eq!(phase(newest, ran, waited), expected, "{newest:?} {ran} {waited}");
        }
    }

    #[test]
    fn only_the_number_of_a_run_is_taken_from_an_address() {
        let status = |log_url: &str| -> Status {
            serde_json::from_value(json!({"state": "waiting", "log_url": log_url, "created_at": "x"}))
                .expect("a status")
        };
        assert_eq!(
            status("https://github.com/o/r/actions/runs/123/job/7").run(),
            Some(123)
        );
        assert_eq!(status("https://github.com/o/r/actions/runs/123").run(), Some(123));
        assert_eq!(status("https://evil.example/actions/runs/x").run(), None);
        assert_eq!(status("").run(), None);
    }
}
