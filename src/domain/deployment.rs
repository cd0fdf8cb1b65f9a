//! Deployments that wait on a forge for an approval: a job that is bound to an environment, and what became of it.

use crate::domain::facts::Account;
use crate::domain::ids::{ProjectId, RequestId};
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Which job of which project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeploymentKey {
    pub project: ProjectId,
    /// The forge's number of the job. A job that is retried is another one.
    pub job: u64,
}

impl DeploymentKey {
    /// Key of a deployment in its tables.
    pub fn row(&self) -> String {
        format!("{}\0{:020}", self.project, self.job)
    }

    /// Reads such a row.
    pub fn of_row(row: &[u8]) -> Option<DeploymentKey> {
        let (project, job) = std::str::from_utf8(row).ok()?.split_once('\0')?;
        Some(DeploymentKey {
            project: ProjectId::parse(project)?,
            job: job.parse().ok()?,
        })
    }
}

/// Where a job stands on its forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It runs once somebody starts it.
    Waiting,
    /// It was started: it is queued, runs or has run.
    Started,
    /// It has not run and will not: cancelled, skipped, outdated, rejected or gone.
    Ended,
}

/// Everything the rules may ask about a deployment, read from the forge's API (never from a webhook body).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentFacts {
    pub key: DeploymentKey,
    /// The forge's number of the deployment.
    pub deployment: u64,
    pub phase: Phase,
    /// The forge holds it until it is approved there as well (GitLab: a protected environment).
    pub blocked: bool,
    pub environment: String,
    /// What the forge calls the environment's tier: `production`, `staging`, …
    pub tier: Option<String>,
    pub job_name: String,
    /// Full ref: `refs/heads/…`, `refs/tags/…` or `refs/merge-requests/…`.
    pub ref_name: String,
    /// Full commit id.
    pub sha: String,
    pub pipeline: u64,
    /// Who started the pipeline.
    pub triggered_by: Account,
    /// Who the job belongs to by now: whoever started it last.
    pub job_account: Option<Account>,
    /// Page of the job on the forge; empty if what the forge told is not an http(s) URL.
    pub web_url: String,
    /// First line of the commit's message: a claim of its author.
    pub commit_title: String,
    /// A newer pipeline has the same job for the same environment and ref: its job's number.
    pub superseded_by: Option<u64>,
}

impl DeploymentFacts {
    /// The same job would do the same: what an approval is bound to.
    pub fn same_subject(&self, other: &DeploymentFacts) -> bool {
        self.key == other.key
            && self.deployment == other.deployment
            && self.environment == other.environment
            && self.job_name == other.job_name
            && self.ref_name == other.ref_name
            && self.sha == other.sha
            && self.pipeline == other.pipeline
    }
}

/// Where a deployment stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Its job waits on the forge.
    Waiting,
    /// An approval was spent for it and the forge is being told to start it.
    Starting,
    /// Its job was started.
    Started,
    /// Its job will not run, or a newer one took its place.
    Ended,
}

impl DeploymentState {
    /// Something may still have to be done or looked at.
    pub fn is_open(self) -> bool {
        matches!(self, DeploymentState::Waiting | DeploymentState::Starting)
    }
}

/// A deployment as it was last seen, and the request that gates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub key: DeploymentKey,
    pub facts: DeploymentFacts,
    pub state: DeploymentState,
    /// `None`: none was opened, or it is to be asked again.
    pub request: Option<RequestId>,
    /// Why the forge does not do what was decided, in words for an admin.
    pub refused: Option<String>,
    /// The forge was told of the rejection.
    pub rejection_told: bool,
    /// Who started the job, once it is started.
    pub started_by: Option<Account>,
    pub observed_at: Time,
}

impl Record for Deployment {
    const TABLE: Table = Table::Deployments;
    fn key(&self) -> String {
        self.key.row()
    }
}

/// What a forge answered to what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum DeploymentAnswer {
    /// The approval is spent; the forge is told from here on.
    Starting,
    /// The job was started.
    Started { by: Option<Account> },
    /// The forge does not let our account do it, or not yet; tried again.
    Refused { reason: String },
    /// The forge did not start it while the approval held: it waits again, for another approval.
    OutOfTime { reason: String },
    /// The forge was told of the rejection.
    RejectionTold,
}
