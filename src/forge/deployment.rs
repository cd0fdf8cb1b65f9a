//! Deployments as the forges show them, and how the calls about them end.

use crate::domain::deployment::Phase;
use crate::domain::facts::Account;
use crate::domain::time::Time;
use std::time::Duration;

/// A job that deploys, as far as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentHead {
    /// The forge's number of the deployment.
    pub deployment: u64,
    /// The forge's number of the job.
    pub job: u64,
    /// `None`: its turn has not come yet.
    pub phase: Option<Phase>,
    /// A runner took it.
    pub ran: bool,
    /// The forge holds it until it is approved there as well; `None`: a list does not tell.
    pub held: Option<bool>,
    /// The forge's list of deployments that wait has it among those that are only created.
    pub only_created: bool,
    pub environment: String,
    /// The forge's number of the environment.
    pub environment_id: u64,
    pub job_name: String,
    /// Full ref.
    pub ref_name: String,
    /// Full commit id.
    pub sha: String,
    pub pipeline: u64,
    /// Whoever started the job last, else whoever started the pipeline.
    pub account: Option<Account>,
    /// Page of the job; empty if what the forge told is not an http(s) URL.
    pub web_url: String,
    pub commit_title: String,
    /// By the forge's clock.
    pub created_at: Time,
    pub updated_at: Time,
}

/// How an attempt to start a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartOutcome {
    /// The forge has started it.
    Started,
    /// The forge says that it can't be started as it is: only reading it again tells why.
    NotStartable { reason: String },
    /// Our account may not start it.
    Denied { reason: String },
    /// The forge did nothing and asks for another call later.
    Retry { after: Option<Duration>, reason: String },
    /// The forge did not answer usefully. It may have started it all the same: to be read before anything else.
    Unclear { reason: String },
}
