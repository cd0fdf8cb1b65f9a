//! Trying a gate out: what is asked for, and what came of it.

use crate::domain::provision::{Attempt, Seen};

/// What is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct TrialWanted<'a> {
    pub forge_project_id: &'a str,
    /// The branches that are gated, as the project's settings name them.
    pub branch_patterns: &'a [String],
    /// The gated branch to try, by its short name; `None`: the first there is.
    pub target: Option<&'a str>,
    /// Name of the throw-away branch.
    pub branch: &'a str,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    pub attempts: Vec<Attempt>,
    pub seen: Seen,
    /// Branch and change are gone from the forge.
    pub cleared: bool,
}
