//! A pull request as GitHub's lists and pages show it.

use crate::domain::facts::{Account, ChangeState};
use crate::forge::github::{User, full_ref, is_commit_id};
use crate::forge::{ChangeHead, ListedChange};
use crate::outbound::Error;
use serde::Deserialize;

/// What stands in place of an account that was deleted.
const GHOST: (&str, &str) = ("10137", "ghost");

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PullRequest {
    pub(super) number: u64,
    state: String,
    #[serde(default)]
    pub(super) draft: Option<bool>,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) html_url: String,
    user: Option<User>,
    pub(super) head: Side,
    pub(super) base: Side,
    #[serde(default)]
    updated_at: String,
    merged_at: Option<String>,
    pub(super) merge_commit_sha: Option<String>,
    /// Only where it is shown by itself, like what follows.
    pub(super) merged_by: Option<User>,
    pub(super) changed_files: Option<u64>,
    pub(super) commits: Option<u64>,
    pub(super) mergeable_state: Option<String>,
    pub(super) node_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Side {
    pub(super) sha: String,
    #[serde(rename = "ref")]
    pub(super) reference: String,
    /// `None`: the fork is gone.
    pub(super) repo: Option<SideRepository>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SideRepository {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) owner: super::repository::Owner,
}

/// What must be the same before and after a change is read.
#[derive(PartialEq, Eq)]
pub(super) struct Standing<'a> {
    head: &'a str,
    target: &'a str,
    state: ChangeState,
    changed_files: Option<u64>,
    commits: Option<u64>,
}

impl PullRequest {
    pub(super) fn state(&self) -> Result<ChangeState, Error> {
        match (self.state.as_str(), &self.merged_at) {
            (_, Some(_)) => Ok(ChangeState::Merged),
            ("open", None) => Ok(ChangeState::Open),
            ("closed", None) => Ok(ChangeState::Closed),
            _ => Err(Error::NotJson(
                "the pull request is in a state that is not known here".to_owned(),
            )),
        }
    }

    pub(super) fn is_draft(&self) -> bool {
        self.draft.unwrap_or(false)
    }

    pub(super) fn author(&self) -> Account {
        self.user.clone().map_or_else(
            || Account {
                id: GHOST.0.to_owned(),
                username: GHOST.1.to_owned(),
                name: GHOST.1.to_owned(),
            },
            Account::from,
        )
    }

    pub(super) fn standing(&self) -> Result<Standing<'_>, Error> {
        Ok(Standing {
            head: &self.head.sha,
            target: &self.base.reference,
            state: self.state()?,
            changed_files: self.changed_files,
            commits: self.commits,
        })
    }

    /// The commit it landed as. For a pull request that is not merged GitHub names a trial of it there.
    pub(super) fn landed(&self) -> Option<&str> {
        self.merged_at.as_ref()?;
        self.merge_commit_sha.as_deref().filter(|it| is_commit_id(it))
    }

    /// Seconds since 1970 of its last change, by GitHub's clock.
    pub(super) fn updated(&self) -> Option<i64> {
        let time: jiff::Timestamp = self.updated_at.parse().ok()?;
        Some(time.as_second())
    }

    pub(super) fn listed(self, forge_project_id: &str) -> Option<ListedChange> {
        let merged_at = match &self.merged_at {
            Some(text) => Some(text.parse::<jiff::Timestamp>().ok()?.as_second()),
            None => None,
        };
        Some(ListedChange {
            forge_project_id: forge_project_id.to_owned(),
            state: self.state().ok()?,
            merged_at,
            head: self.shown(),
        })
    }

    pub(super) fn shown(self) -> ChangeHead {
        let draft = self.is_draft();
        ChangeHead {
            number: self.number,
            head: Some(self.head.sha)
                .filter(|it| is_commit_id(it))
                .unwrap_or_default(),
            target: full_ref(&self.base.reference),
            source: full_ref(&self.head.reference),
            updated_at: self.updated_at,
            draft,
            title: self.title,
        }
    }
}
