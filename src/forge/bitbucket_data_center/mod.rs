//! Bitbucket Data Center by its REST API. No connection to one can be made yet, and every call is refused.

pub mod webhook;

use crate::domain::branch::Landing;
use crate::domain::facts::{Account, ChangeFacts};
use crate::domain::follow_up::CommitFacts;
use crate::domain::gate::Finding;
use crate::domain::ids::ProjectId;
use crate::forge::{
    ChangeHead, Connection, ForgeProject, Identity, Inspected, LandingAsked, MergeOutcome, QueuedGroup,
    StatusRead, StatusWrite, Still, Swept,
};
use crate::outbound::{Error, Outcome, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ABSENT: &str = "this version does not connect to Bitbucket Data Center";

/// A connected Bitbucket Data Center.
#[derive(Clone, Debug)]
pub struct BitbucketDataCenter(());

/// What every call comes to.
fn refused<T>() -> Result<T, Error> {
    Err(Error::Refused(ABSENT.to_owned()))
}

impl BitbucketDataCenter {
    /// Prepares a connection; calls nothing yet.
    ///
    /// # Errors
    /// `Refused`, always.
    pub fn new(_: &Connection, _: Secret, _: &[String]) -> Result<Self, Error> {
        refused()
    }

    pub(super) fn in_background(&self) -> Self {
        self.clone()
    }

    pub(super) fn heir_of(self, _: &Self) -> Self {
        self
    }

    pub(super) fn silent_for(&self) -> Option<Duration> {
        None
    }

    pub(crate) async fn identify(&self) -> Result<Identity, Error> {
        refused()
    }

    pub(crate) async fn project(&self, _: &str) -> Result<ForgeProject, Error> {
        refused()
    }

    pub(crate) async fn change(&self, _: &ProjectId, _: &str, _: u64) -> Result<ChangeFacts, Error> {
        refused()
    }

    pub(crate) async fn inspect(&self, _: &Inspected<'_>) -> Result<Vec<Finding>, Error> {
        refused()
    }

    pub(crate) async fn branch_head(&self, _: &str, _: &str) -> Result<String, Error> {
        refused()
    }

    pub(crate) async fn branches(&self, _: &str, _: &[String]) -> Result<BTreeMap<String, String>, Error> {
        refused()
    }

    pub(crate) async fn landing(&self, _: &LandingAsked<'_>) -> Result<(bool, Landing), Error> {
        refused()
    }

    pub(crate) async fn pusher(&self, _: &str, _: &str, _: &str) -> Option<Account> {
        None
    }

    pub(crate) async fn restless_commits(&self, _: &str) -> Result<BTreeSet<String>, Error> {
        refused()
    }

    pub(crate) async fn open_changes(&self, _: &str) -> Result<Vec<ChangeHead>, Error> {
        refused()
    }

    pub(crate) async fn changed_since(&self, _: Option<&str>, _: i64, _: u32) -> Result<Swept, Error> {
        refused()
    }

    pub(crate) async fn set_status(&self, _: &StatusWrite, _: &Still<'_>) -> Outcome<()> {
        Outcome::Rejected {
            reason: ABSENT.to_owned(),
        }
    }

    pub(crate) async fn read_status(&self, _: &str, _: &str, _: &str) -> Result<Option<StatusRead>, Error> {
        refused()
    }

    pub(crate) async fn queued_groups(&self, _: &str, _: &str) -> Result<Vec<QueuedGroup>, Error> {
        refused()
    }

    pub(crate) async fn merge(&self, _: &str, _: u64, _: &str, _: &str) -> MergeOutcome {
        MergeOutcome::Denied {
            reason: ABSENT.to_owned(),
        }
    }

    pub(crate) async fn commit(&self, _: &str, _: &str) -> Result<Option<CommitFacts>, Error> {
        refused()
    }
}

/// A failed read in words that an admin can act on.
pub(crate) fn explained(error: &Error) -> String {
    error.to_string()
}
