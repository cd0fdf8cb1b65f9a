//! Gated branches: where they stand, and what came into them since they were looked at.

use crate::domain::facts::Account;
use crate::domain::ids::ProjectId;
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where a gated branch was seen last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    pub project: ProjectId,
    /// Full ref, `refs/heads/…`.
    pub branch: String,
    /// The last commit it was seen on, also after it was deleted.
    pub commit: String,
    pub gone: bool,
    /// When it was seen first.
    #[serde(default = "never")]
    pub since: Time,
    pub observed_at: Time,
}

fn never() -> Time {
    Time(i64::MAX)
}

impl Tip {
    /// Key of the row in its table.
    pub fn row(project: &ProjectId, branch: &str) -> String {
        format!("{project}\0{branch}")
    }

    /// What the rows of all branches of a project begin with.
    pub fn prefix(project: &ProjectId) -> String {
        format!("{project}\0")
    }
}

impl Record for Tip {
    const TABLE: Table = Table::Tips;
    fn key(&self) -> String {
        Tip::row(&self.project, &self.branch)
    }
}

/// The branch patterns of a project whose branches have been looked at once: what appears under them later is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    pub project: ProjectId,
    pub patterns: BTreeSet<String>,
}

impl Record for Watched {
    const TABLE: Table = Table::Watched;
    fn key(&self) -> String {
        self.project.to_string()
    }
}

/// How a branch got from one commit to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// Seen for the first time: nothing is known of what it was before.
    FirstSeen,
    /// Commits were added to it.
    Forward,
    /// History was taken away from it: a force-push.
    Rewritten,
    /// A branch under a pattern that was watched already.
    Created,
    Deleted,
}

/// A commit that a branch has now and did not have before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedCommit {
    pub id: String,
    pub parents: Vec<String>,
    /// First line of its message; text from outside.
    pub title: String,
}

/// How what landed compares with the head of the change it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The same tree, or the same lines added and removed.
    Same,
    /// Something else; the paths, for people.
    Differs(Vec<String>),
    /// It could not be compared; why.
    Unknown(String),
}

/// A commit by which a change landed, other than its head: a merge commit or a squashed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedAs {
    pub commit: String,
    pub content: Content,
}

/// A change that its forge calls merged into the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedChange {
    pub number: u64,
    /// Its head when it was merged.
    pub head: String,
    pub by: Option<Account>,
    /// The commits it landed as that are among the new ones.
    pub landed: Vec<LandedAs>,
}

/// What came into a branch between two looks, as its forge tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// All commits that are new, in no order.
    pub commits: Vec<LandedCommit>,
    /// `None`: the lists are whole. Otherwise why not.
    pub incomplete: Option<String>,
    /// The changes merged into the branch since.
    pub changes: Vec<LandedChange>,
}

/// How something came into a gated branch that no approval covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A change was merged that was not approved as it was merged.
    #[default]
    Merged,
    /// Commits were pushed to the branch directly.
    Pushed,
    /// The branch was pushed by force, away from what it had.
    Forced,
    /// The branch was made with commits that no approval covers.
    Created,
}
