//! The forges: what a webhook hints at, what a change really is, and the calls that make a forge show and do what was
//! decided. Adapters read and tell; they never decide, and never believe a webhook's content.

mod bitbucket;
pub mod bitbucket_cloud;
pub mod bitbucket_data_center;
mod co_authors;
mod deployment;
mod diff;
mod git;
pub mod github;
pub mod gitlab;
mod hold;
mod hook;
mod pages;
mod provision;
mod registry;
mod trial;

pub use deployment::{DeploymentHead, StartOutcome};
pub use hook::{Hint, HookEvent, HookRefusal, HookSecret, Pushed, SigningKey, parse_hook, verify_hook};
pub use provision::{HookScope, PlannedStep, ProvisionPlan, Restored, Wanted};
pub use registry::{Forges, Unseal, hook_secret_name, token_name};
pub use trial::{TrialWanted, Tried};

use crate::domain::branch::Landing;
use crate::domain::facts::Account;
use crate::domain::facts::ChangeFacts;
use crate::domain::facts::ChangeState;
use crate::domain::follow_up::CommitFacts;
use crate::domain::gate::Finding;
use crate::domain::ids::ProjectId;
use crate::domain::project::{Enforcement, ForgeKind, Integration, ProjectSettings};
use crate::domain::provision::Alteration;
use crate::domain::request::GateState;
use crate::domain::time::Time;
use crate::outbound::Error;
use crate::outbound::Outcome;
use crate::outbound::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use url::Url;

/// Where a forge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub kind: ForgeKind,
    /// Root of the installation, a path included if it lives below one.
    pub base_url: String,
    /// Certificates to trust beside the usual ones, in PEM.
    pub ca_pem: Option<String>,
}

/// A connected forge. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Forge {
    GitLab(gitlab::GitLab),
    GitHub(github::GitHub),
    BitbucketCloud(bitbucket_cloud::BitbucketCloud),
    BitbucketDataCenter(bitbucket_data_center::BitbucketDataCenter),
}

/// The same call to whichever forge it is.
macro_rules! each {
    ($forge:expr, $it:ident => $call:expr) => {
        match $forge {
            Forge::GitLab($it) => $call,
            Forge::GitHub($it) => $call,
            Forge::BitbucketCloud($it) => $call,
            Forge::BitbucketDataCenter($it) => $call,
        }
    };
}

/// Where a forge is called that people know by `base_url`: its API may be at another host.
///
/// # Errors
/// `Refused` if the address can't be used.
pub fn called_at(kind: ForgeKind, base_url: &str, allow_http: &[String]) -> Result<Vec<Url>, Error> {
    let both = |(one, other)| vec![one, other];
    match kind {
        ForgeKind::Github => github::roots(base_url, allow_http).map(both),
        ForgeKind::BitbucketCloud => bitbucket_cloud::roots(base_url, allow_http).map(both),
        ForgeKind::Gitlab | ForgeKind::BitbucketDataCenter => {
            Ok(vec![crate::outbound::parse_base(base_url, allow_http)?])
        }
    }
}

/// Prepares a connection; calls nothing yet. Plain http is let through only to the hosts of `allow_http`.
///
/// # Errors
/// `Refused` if the base URL or the CA certificates cannot be used.
pub fn connect(connection: &Connection, token: Secret, allow_http: &[String]) -> Result<Forge, Error> {
    match connection.kind {
        ForgeKind::Gitlab => gitlab::GitLab::new(connection, token, allow_http).map(Forge::GitLab),
        ForgeKind::Github => github::GitHub::new(connection, &token, allow_http).map(Forge::GitHub),
        ForgeKind::BitbucketCloud => {
            bitbucket_cloud::BitbucketCloud::new(connection, &token, allow_http).map(Forge::BitbucketCloud)
        }
        ForgeKind::BitbucketDataCenter => {
            bitbucket_data_center::BitbucketDataCenter::new(connection, token, allow_http)
                .map(Forge::BitbucketDataCenter)
        }
    }
}

impl Forge {
    /// The same connection for background reading, which makes room for decisions when the forge's rate limit is nearly
    /// used up: reading a change, a list, or settings is then refused with the wait that is left.
    pub fn in_background(&self) -> Forge {
        match self {
            Forge::GitLab(it) => Forge::GitLab(it.in_background()),
            Forge::GitHub(it) => Forge::GitHub(it.in_background()),
            Forge::BitbucketCloud(it) => Forge::BitbucketCloud(it.in_background()),
            Forge::BitbucketDataCenter(it) => Forge::BitbucketDataCenter(it.in_background()),
        }
    }

    /// Keeps the waits that `before`, the same forge under another token, was asked for.
    fn heir_of(self, before: &Forge) -> Forge {
        match (self, before) {
            (Forge::GitLab(it), Forge::GitLab(before)) => Forge::GitLab(it.heir_of(before)),
            (Forge::GitHub(it), Forge::GitHub(before)) => Forge::GitHub(it.heir_of(before)),
            (Forge::BitbucketCloud(it), Forge::BitbucketCloud(before)) => {
                Forge::BitbucketCloud(it.heir_of(before))
            }
            (Forge::BitbucketDataCenter(it), Forge::BitbucketDataCenter(before)) => {
                Forge::BitbucketDataCenter(it.heir_of(before))
            }
            (it, _) => it,
        }
    }

    /// For how long the forge has answered no call at all; `None` while it answers.
    pub fn silent_for(&self) -> Option<Duration> {
        each!(self, it => it.silent_for())
    }

    /// What time it is by the forge, to the second, as its newest answer told; `None` before the first.
    pub fn time_there(&self) -> Option<Time> {
        each!(self, it => it.time_there())
    }

    /// Who the token is, what it may do and what it talks to.
    ///
    /// # Errors
    /// Any [`Error`]; `Status` 401 if the token is not accepted.
    pub async fn identify(&self) -> Result<Identity, Error> {
        match self {
            Forge::GitLab(it) => it.identify().await,
            Forge::GitHub(it) => it.me().await,
            Forge::BitbucketCloud(it) => it.identify().await,
            Forge::BitbucketDataCenter(it) => it.identify().await,
        }
    }

    /// A failed read in words that an admin can act on.
    pub fn explain(&self, error: &Error) -> String {
        match self {
            Forge::GitLab(_) => gitlab::explained(error),
            Forge::GitHub(_) => github::explained(error),
            Forge::BitbucketCloud(_) => bitbucket_cloud::explained(error),
            Forge::BitbucketDataCenter(_) => bitbucket_data_center::explained(error),
        }
    }

    /// A repository by the forge's stable number, or by its path with namespace.
    ///
    /// # Errors
    /// Any [`Error`]; `Status` 404 if there is none or the token may not see it.
    pub async fn project(&self, forge_project_id: &str) -> Result<ForgeProject, Error> {
        each!(self, it => it.project(forge_project_id).await)
    }

    /// What the forge's licence allows, as far as the answers about one repository tell.
    pub async fn tier(&self, forge_project_id: &str) -> Tier {
        match self {
            Forge::GitLab(it) => it.tier(forge_project_id).await,
            Forge::GitHub(_) | Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Tier::Unknown,
        }
    }

    /// Everything the rules may ask about a change. What cannot be read whole is marked so, with the reason; it is never
    /// silently left out.
    ///
    /// # Errors
    /// Any [`Error`] if the change itself cannot be read; `Status` 429 with the wait asked for.
    pub async fn change(
        &self,
        project: &ProjectId,
        forge_project_id: &str,
        number: u64,
    ) -> Result<ChangeFacts, Error> {
        each!(self, it => it.change(project, forge_project_id, number).await)
    }

    /// What the forge's settings enforce for a repository: everything that keeps its gate from being hard, and what else
    /// its admins should know. Nothing found means that only our account can merge and push. What can't be read is a
    /// finding of its own, never silence.
    ///
    /// # Errors
    /// Any [`Error`] if the repository itself can't be read.
    pub async fn inspect(&self, project: &Inspected<'_>) -> Result<Vec<Finding>, Error> {
        each!(self, it => it.inspect(project).await)
    }

    /// What setting a gate up would change. Changes nothing.
    ///
    /// # Errors
    /// Any [`Error`] if the repository or our account can't be read.
    pub async fn provision_plan(&self, wanted: &Wanted<'_>) -> Result<ProvisionPlan, Error> {
        match self {
            Forge::GitLab(it) => it.provision_plan(wanted).await,
            Forge::GitHub(_) => Err(Error::Refused(github::BY_HAND.to_owned())),
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => {
                Err(Error::Refused(bitbucket::BY_HAND.to_owned()))
            }
        }
    }

    /// Makes one change of a confirmed plan, if what it changes is still as the plan found it. The answer is the change as
    /// it was made, with the numbers of what is new, and what else there is to say.
    ///
    /// # Errors
    /// A sentence for the admin, with the forge's words.
    pub async fn alter(
        &self,
        forge_project_id: &str,
        change: &Alteration,
        secret: &HookSecret,
    ) -> Result<(Alteration, String), String> {
        match self {
            Forge::GitLab(it) => it.alter(forge_project_id, change, secret).await,
            Forge::GitHub(_) => Err(github::BY_HAND.to_owned()),
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Err(bitbucket::BY_HAND.to_owned()),
        }
    }

    /// Puts one change back, unless somebody has changed the same since. `certain`: it is known to have been made whole.
    ///
    /// # Errors
    /// A sentence for the admin, with the forge's words.
    pub async fn restore(
        &self,
        forge_project_id: &str,
        change: &Alteration,
        certain: bool,
        secret: &HookSecret,
    ) -> Result<Restored, String> {
        match self {
            Forge::GitLab(it) => it.restore(forge_project_id, change, certain, secret).await,
            Forge::GitHub(_) => Err(github::BY_HAND.to_owned()),
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Err(bitbucket::BY_HAND.to_owned()),
        }
    }

    /// Tries a gate out with a throw-away change, and clears it away whatever comes of it. `other` is another account's
    /// token, used for the trial alone. Never merges anything. Takes up to a few minutes.
    pub async fn try_gate(&self, wanted: &TrialWanted<'_>, other: Option<Secret>) -> Tried {
        match self {
            Forge::GitLab(it) => it.try_gate(wanted, other).await,
            Forge::GitHub(_) => github::not_tried(),
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => bitbucket::not_tried(),
        }
    }

    /// Clears away what a trial has left. Repeating it is harmless.
    ///
    /// # Errors
    /// Any [`Error`]; then something may still be there.
    pub async fn clear_trial(&self, forge_project_id: &str, branch: &str) -> Result<(), Error> {
        match self {
            Forge::GitLab(it) => it.clear_trial(forge_project_id, branch).await,
            // No trial is ever made there.
            Forge::GitHub(_) | Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(()),
        }
    }

    /// The commit a branch, given as a full ref, stands on now.
    ///
    /// # Errors
    /// Any [`Error`]; `Status` 404 if there is no such branch.
    pub async fn branch_head(&self, forge_project_id: &str, branch: &str) -> Result<String, Error> {
        each!(self, it => it.branch_head(forge_project_id, branch).await)
    }

    /// Where the branches stand that any of the patterns names, by full ref. A branch that is not listed does not exist.
    ///
    /// # Errors
    /// Any [`Error`] if they can't all be read: never a part of them.
    pub async fn branches(
        &self,
        forge_project_id: &str,
        patterns: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        each!(self, it => it.branches(forge_project_id, patterns).await)
    }

    /// What came into a branch between two commits, and whether nothing was taken away on the way.
    ///
    /// # Errors
    /// Any [`Error`] that may pass. What is missing for good is said in the landing.
    pub async fn landing(&self, asked: &LandingAsked<'_>) -> Result<(bool, Landing), Error> {
        each!(self, it => it.landing(asked).await)
    }

    /// Who pushed a branch to where it stands now, where the forge tells.
    pub async fn pusher(&self, forge_project_id: &str, branch: &str, commit: &str) -> Option<Account> {
        each!(self, it => it.pusher(forge_project_id, branch, commit).await)
    }

    /// Commits on which anything about their pipelines changed since a time (RFC 3339), statuses among it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn restless_commits(
        &self,
        forge_project_id: &str,
        since: &str,
    ) -> Result<BTreeSet<String>, Error> {
        match self {
            Forge::GitLab(it) => it.restless_commits(forge_project_id, since).await,
            Forge::GitHub(it) => it.restless_commits(forge_project_id).await,
            Forge::BitbucketCloud(it) => it.restless_commits(forge_project_id).await,
            Forge::BitbucketDataCenter(it) => it.restless_commits(forge_project_id).await,
        }
    }

    /// Why a status that is there decides nothing about a change; `None` if it does.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn not_in_force(
        &self,
        forge_project_id: &str,
        number: u64,
        status: &StatusRead,
    ) -> Result<Option<String>, Error> {
        match self {
            Forge::GitLab(it) => it.not_in_force(forge_project_id, number, status).await,
            // The newest status of a name is the one that counts.
            Forge::GitHub(_) | Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(None),
        }
    }

    /// Tells the forge's own lock of a change what the gate says of one head. Repeating it is harmless.
    pub async fn set_lock(&self, write: &LockWrite) -> Outcome<()> {
        match self {
            Forge::GitLab(it) => it.set_lock(write).await,
            Forge::GitHub(_) => Outcome::Rejected {
                reason: github::NO_LOCK.to_owned(),
            },
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Outcome::Rejected {
                reason: bitbucket::NO_LOCK.to_owned(),
            },
        }
    }

    /// Whether the forge's own lock of a change is still what it was told: open for this head.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn lock_is_open(&self, write: &LockWrite) -> Result<bool, Error> {
        match self {
            Forge::GitLab(it) => it.lock_is_open(write).await,
            Forge::GitHub(_) | Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(false),
        }
    }

    /// All open changes of a repository, for reconciliation.
    ///
    /// # Errors
    /// Any [`Error`] if one page cannot be read: never a part of the list.
    pub async fn open_changes(&self, forge_project_id: &str) -> Result<Vec<ChangeHead>, Error> {
        each!(self, it => it.open_changes(forge_project_id).await)
    }

    /// All open changes of all repositories that the token sees, if that takes no more than so many calls.
    ///
    /// # Errors
    /// Any [`Error`] if one page cannot be read: never a part of the list.
    pub async fn open_everywhere(&self, calls_max: u32) -> Result<Swept, Error> {
        match self {
            Forge::GitLab(it) => it.open_everywhere(calls_max).await,
            // The others list the open pull requests of one repository only.
            Forge::GitHub(_) | Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(Swept::TooLong),
        }
    }

    /// The changes of one repository, or of all that the token sees, that were touched after `since` (unix seconds by the
    /// forge's clock), closed and merged ones too.
    ///
    /// # Errors
    /// As [`Forge::open_everywhere`].
    pub async fn changed_since(
        &self,
        forge_project_id: Option<&str>,
        since: i64,
        calls_max: u32,
    ) -> Result<Swept, Error> {
        each!(self, it => it.changed_since(forge_project_id, since, calls_max).await)
    }

    /// The changes of a repository about which a webhook to `hook_url` got lost, as far as the forge remembers.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn missed_hooks(&self, forge_project_id: &str, hook_url: &str) -> Result<Vec<u64>, Error> {
        match self {
            Forge::GitLab(it) => it.missed_hooks(forge_project_id, hook_url).await,
            Forge::GitHub(it) => it.missed_hooks(forge_project_id).await,
            // Cloud tells nobody of its deliveries, Data Center only of the newest one: the lists of changes find the same.
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(Vec::new()),
        }
    }

    /// Makes the forge show a state on a commit. Repeating it is harmless.
    ///
    /// `still`: whether that is still what it should say. Asked right before the call that says it: what comes before may
    /// have taken its time.
    pub async fn set_status(&self, write: &StatusWrite, still: &Still<'_>) -> Outcome<()> {
        each!(self, it => it.set_status(write, still).await)
    }

    /// The newest status of that name on a commit and branch, whoever wrote it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn read_status(
        &self,
        forge_project_id: &str,
        sha: &str,
        ref_name: &str,
        name: &str,
    ) -> Result<Option<StatusRead>, Error> {
        match self {
            Forge::GitLab(it) => it.read_status(forge_project_id, sha, ref_name, name).await,
            Forge::GitHub(it) => it.read_status(forge_project_id, sha, name).await,
            Forge::BitbucketCloud(it) => it.read_status(forge_project_id, sha, name).await,
            Forge::BitbucketDataCenter(it) => it.read_status(forge_project_id, sha, name).await,
        }
    }

    /// What the merge queue of a branch (full ref) is about to land, first to last; empty where there is none.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn queued_groups(
        &self,
        forge_project_id: &str,
        branch: &str,
    ) -> Result<Vec<QueuedGroup>, Error> {
        match self {
            // A train's own commits need no status of ours: what may enter it is gated.
            Forge::GitLab(_) => Ok(Vec::new()),
            Forge::GitHub(it) => it.queued_groups(forge_project_id, branch).await,
            // Its merge queue asks for pipelines of its own and for nobody's status.
            Forge::BitbucketCloud(_) => Ok(Vec::new()),
            Forge::BitbucketDataCenter(it) => it.queued_groups(forge_project_id, branch).await,
        }
    }

    /// Merges a change if its head is still `sha` and it still goes into `target`, a full ref.
    pub async fn merge(&self, forge_project_id: &str, number: u64, sha: &str, target: &str) -> MergeOutcome {
        each!(self, it => it.merge(forge_project_id, number, sha, target).await)
    }

    /// Jobs that deploy and have not been started, the newest first: of one environment or of all; those that the forge
    /// counts as waiting, or (`only_created`) those that it counts as not begun. `short`: a hundred are enough.
    ///
    /// # Errors
    /// Any [`Error`] if one page cannot be read.
    pub async fn waiting_deployments(
        &self,
        forge_project_id: &str,
        environment: Option<&str>,
        only_created: bool,
        short: bool,
    ) -> Result<Vec<DeploymentHead>, Error> {
        match self {
            Forge::GitLab(it) => {
                it.waiting_deployments(forge_project_id, environment, only_created, short)
                    .await
            }
            Forge::GitHub(it) => {
                it.waiting_deployments(forge_project_id, environment, only_created)
                    .await
            }
            // Neither Bitbucket has a deployment that it holds for somebody's answer.
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(Vec::new()),
        }
    }

    /// Jobs that deploy of which anything changed since then, by the forge's clock, the newest first.
    ///
    /// # Errors
    /// Any [`Error`] if one page cannot be read.
    pub async fn changed_deployments(
        &self,
        forge_project_id: &str,
        since: Time,
    ) -> Result<Vec<DeploymentHead>, Error> {
        match self {
            Forge::GitLab(it) => it.changed_deployments(forge_project_id, since).await,
            Forge::GitHub(it) => it.changed_deployments(forge_project_id, since).await,
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(Vec::new()),
        }
    }

    /// A deployment as it is now; `None` if there is none by that number, or no job makes it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn deployment(
        &self,
        forge_project_id: &str,
        deployment: u64,
    ) -> Result<Option<DeploymentHead>, Error> {
        match self {
            Forge::GitLab(it) => it.deployment(forge_project_id, deployment).await,
            Forge::GitHub(it) => it.deployment(forge_project_id, deployment).await,
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(None),
        }
    }

    /// Who started the pipeline that a job belongs to.
    ///
    /// # Errors
    /// Any [`Error`]; `NotJson` if the pipeline is of another commit.
    pub async fn pipeline_account(
        &self,
        forge_project_id: &str,
        head: &DeploymentHead,
    ) -> Result<Account, Error> {
        match self {
            Forge::GitLab(it) => it.pipeline_account(forge_project_id, head).await,
            Forge::GitHub(it) => it.pipeline_account(forge_project_id, head).await,
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => {
                Err(Error::Refused(bitbucket::NO_DEPLOYMENTS.to_owned()))
            }
        }
    }

    /// What the forge calls an environment's tier, where it tells.
    ///
    /// # Errors
    /// Any [`Error`] but that our account may not see it.
    pub async fn environment_tier(
        &self,
        forge_project_id: &str,
        environment_id: u64,
    ) -> Result<Option<String>, Error> {
        match self {
            Forge::GitLab(it) => it.environment_tier(forge_project_id, environment_id).await,
            Forge::GitHub(_) | Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Ok(None),
        }
    }

    /// The account of that name; `None` where the forge knows none, or shows none.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn account_named(&self, username: &str) -> Result<Option<Account>, Error> {
        match self {
            Forge::GitLab(it) => it.account_named(username).await,
            Forge::GitHub(it) => it.account_named(username).await,
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Err(no_proof()),
        }
    }

    /// What an account wrote about itself, in the one place where nobody else writes for it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn said_of_itself(&self, account: &Account) -> Result<String, Error> {
        match self {
            Forge::GitLab(it) => it.said_of_itself(account).await,
            Forge::GitHub(it) => it.said_of_itself(account).await,
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Err(no_proof()),
        }
    }

    /// A commit of a project; `None` if the forge knows none by that id there.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn commit(&self, forge_project_id: &str, sha: &str) -> Result<Option<CommitFacts>, Error> {
        each!(self, it => it.commit(forge_project_id, sha).await)
    }

    /// Approves or rejects a deployment that the forge holds. Repeating it is harmless.
    pub async fn answer_deployment(
        &self,
        forge_project_id: &str,
        deployment: u64,
        approve: bool,
        comment: &str,
    ) -> Outcome<()> {
        match self {
            Forge::GitLab(it) => {
                it.answer_deployment(forge_project_id, deployment, approve, comment)
                    .await
            }
            Forge::GitHub(it) => {
                it.answer_deployment(forge_project_id, deployment, approve, comment)
                    .await
            }
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => Outcome::Rejected {
                reason: bitbucket::NO_DEPLOYMENTS.to_owned(),
            },
        }
    }

    /// Starts a job that waits. Repeating it may start it twice: read it first.
    pub async fn start_job(&self, forge_project_id: &str, job: u64) -> StartOutcome {
        match self {
            Forge::GitLab(it) => it.start_job(forge_project_id, job).await,
            Forge::GitHub(it) => it.start_job(forge_project_id, job).await,
            Forge::BitbucketCloud(_) | Forge::BitbucketDataCenter(_) => StartOutcome::Denied {
                reason: bitbucket::NO_DEPLOYMENTS.to_owned(),
            },
        }
    }
}

/// Which move of a branch is looked at.
#[derive(Clone, Copy)]
pub struct LandingAsked<'a> {
    pub forge_project_id: &'a str,
    /// Full ref.
    pub branch: &'a str,
    pub before: &'a str,
    pub after: &'a str,
    /// Changes merged since then (RFC 3339) are asked for.
    pub since: &'a str,
    /// The commit as which our own account merged a change, pinned to what was approved: it is not compared again.
    pub ours: &'a (dyn Fn(u64) -> Option<String> + Send + Sync),
}

/// A commit that a merge queue is about to land.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedGroup {
    /// Full commit id: the one that would land, and that needs a status.
    pub head: String,
    /// All changes it holds, by number and head.
    pub members: Vec<(u64, String)>,
    /// The forge told everything that it holds.
    pub known: bool,
}

/// What a forge's own lock of a change is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockWrite {
    pub forge_project_id: String,
    pub number: u64,
    /// Full commit id of the head it is about.
    pub sha: String,
    pub kind: LockKind,
    pub state: GateState,
    /// Where our external check leads.
    pub hook_url: String,
}

/// Kinds of lock a forge has for a change, besides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// An approval of our account.
    Approval,
    /// An external check that waits for our answer.
    ExternalCheck,
}

/// What is looked at when a gate is inspected.
#[derive(Clone, Copy, Debug)]
pub struct Inspected<'a> {
    pub forge_project_id: &'a str,
    /// The branches that are gated, as the project's settings name them.
    pub branch_patterns: &'a [String],
    /// The environments whose deployments are gated.
    pub environments: &'a [String],
    /// Files that no rule skips, besides the built-in ones.
    pub control_files: &'a [String],
    /// Our account merges what is approved.
    pub auto_merge: bool,
    pub enforcement: Enforcement,
    /// Where webhooks of this integration lead.
    pub hook_url: &'a str,
    /// The day, as `YYYY-MM-DD`.
    pub today: &'a str,
}

impl<'a> Inspected<'a> {
    /// What is looked at for a project; `now` is the time of the look, as RFC 3339.
    pub fn of(settings: &'a ProjectSettings, hook_url: &'a str, now: &'a str) -> Self {
        Inspected {
            forge_project_id: &settings.forge_project_id,
            branch_patterns: &settings.branch_patterns,
            environments: &settings.environments,
            control_files: &settings.control_files,
            auto_merge: settings.auto_merge,
            enforcement: settings.enforcement,
            hook_url,
            today: now.get(..10).unwrap_or_default(),
        }
    }
}

/// Nobody proves an account there: what we call with is asked about repositories, not about people.
fn no_proof() -> Error {
    Error::Refused("accounts on this forge are linked by an admin".to_owned())
}

/// Where the webhooks of an integration lead.
pub fn hook_url(public_url: &str, integration: &Integration) -> String {
    let (base, kind) = (public_url.trim_end_matches('/'), integration.kind.name());
    format!("{base}/hooks/{kind}/{}", integration.id)
}

/// Who a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Without an id where the forge does not tell whose the token is.
    pub account: Account,
    /// What the token may do, in the forge's words; empty if the forge does not tell.
    pub scopes: Vec<String>,
    /// Last day of the token, `YYYY-MM-DD`.
    pub token_expires_at: Option<String>,
    /// The forge's version, empty if it does not tell.
    pub version: String,
    pub tier: Tier,
}

/// What a forge's licence allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Free,
    Premium,
    Ultimate,
    /// The answers do not tell.
    Unknown,
}

/// A repository as its forge describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeProject {
    /// The forge's stable number, as text.
    pub id: String,
    /// Path with namespace: for people, never an identity.
    pub path: String,
    /// Page on the forge; empty if what the forge told is not an http(s) URL.
    pub web_url: String,
    /// Short name; `None` for an empty repository.
    pub default_branch: Option<String>,
    pub archived: bool,
    /// Our token's role in it (GitLab: 30 Developer, 40 Maintainer, 50 Owner); `None` if the forge does not tell.
    pub access_level: Option<u32>,
    /// A change can only be merged after a successful pipeline.
    pub merge_needs_pipeline: bool,
    /// A skipped pipeline counts as a successful one there.
    pub merge_on_skipped_pipeline: bool,
    /// A change can only be merged once all external status checks have passed.
    pub merge_needs_checks: bool,
    /// Where its pipelines are written, if not in the usual file.
    pub ci_config: Option<String>,
}

/// An open change, as far as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeHead {
    pub number: u64,
    /// Full commit id; empty while the forge has not computed it.
    pub head: String,
    /// Full ref, `refs/heads/…`.
    pub target: String,
    /// Full ref, `refs/heads/…`.
    pub source: String,
    /// When anything about it changed last, RFC 3339 as the forge tells it.
    pub updated_at: String,
    pub draft: bool,
    pub title: String,
}

/// A change in a list over several repositories. A hint only, as a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedChange {
    /// The forge's stable number of the repository it is to be merged into, as text.
    pub forge_project_id: String,
    pub state: ChangeState,
    /// When it was merged, unix seconds by the forge's clock.
    pub merged_at: Option<i64>,
    /// The head may be empty.
    pub head: ChangeHead,
}

/// A list over several repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swept {
    Whole {
        /// Each change once.
        items: Vec<ListedChange>,
        /// The forge's clock when the list was begun, unix seconds.
        at: Option<i64>,
    },
    /// It takes more calls than were allowed; nothing of it is told.
    TooLong,
}

impl Swept {
    pub(crate) fn filtered(self, keep: impl Fn(&ListedChange) -> bool) -> Self {
        match self {
            Swept::Whole { mut items, at } => {
                items.retain(keep);
                Swept::Whole { items, at }
            }
            Swept::TooLong => Swept::TooLong,
        }
    }
}

/// Whether something is still true, asked at the last moment.
pub type Still<'a> = dyn Fn() -> bool + Send + Sync + 'a;

/// A status to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    pub forge_project_id: String,
    /// Full commit id.
    pub sha: String,
    /// The change's source branch, with or without `refs/heads/`.
    pub ref_name: String,
    pub name: String,
    pub state: GateState,
    /// Shortened where the forge has a limit.
    pub description: String,
    pub target_url: String,
    /// Nobody knows what the forge shows: what it shows afterwards is read, and somebody else's status is replaced.
    pub insist: bool,
}

/// A status as the forge shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRead {
    /// `None`: a state that we never write.
    pub state: Option<GateState>,
    /// The forge's word for its state.
    pub word: String,
    /// The account that wrote it; `None` where the forge does not tell.
    pub author: Option<Account>,
    /// The forge's number of it, as text.
    pub id: String,
    /// The pipeline it stands in, where forges have such.
    pub pipeline: Option<u64>,
    pub description: String,
}

/// How an attempt to merge ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeOutcome {
    /// Merged, as this commit on the target branch where the forge tells.
    Merged { commit: Option<String> },
    /// The head is another than the one approved. To be read anew, never to be asked again with the new head.
    HeadMoved,
    /// The forge does not merge it now (conflict, pipeline, discussion); to be tried again when something about it changes.
    NotReady { reason: String },
    /// Our account may not merge it.
    Denied { reason: String },
    /// The forge did not answer usefully. It may have merged all the same.
    Retry { after: Option<Duration>, reason: String },
}

impl MergeOutcome {
    /// After an error that says nothing about the change itself.
    pub(crate) fn after(error: Error) -> Self {
        match error.into_outcome::<()>() {
            Outcome::Retry { after, reason } => MergeOutcome::Retry { after, reason },
            Outcome::Rejected { reason } => MergeOutcome::Denied { reason },
            Outcome::Delivered(()) => MergeOutcome::Retry {
                after: None,
                reason: "unclear answer".to_owned(),
            },
        }
    }
}
