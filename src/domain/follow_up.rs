//! What a pipeline's request still owes once it is opened or over: a look at its commit on a forge, and a callback.

use crate::domain::ids::ProjectId;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// A commit as a forge knows it. Its texts are its author's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitFacts {
    /// First line of the message.
    pub title: String,
    pub author: String,
    pub committer: String,
    /// As the forge writes it, RFC 3339.
    pub committed_at: String,
    pub web_url: Option<String>,
}

/// What a forge said of the commit that a pipeline named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedCommit {
    pub project: ProjectId,
    /// `None`: the forge knows no such commit there.
    pub facts: Option<CommitFacts>,
    pub at: Time,
}

/// How the callback of a request went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledBack {
    pub delivered: bool,
    /// Why not.
    pub reason: Option<String>,
    pub at: Time,
}
