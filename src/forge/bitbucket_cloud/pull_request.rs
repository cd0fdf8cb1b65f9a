//! A pull request as Bitbucket's lists and pages show it. Its commits are abbreviated there to twelve digits, which name
//! nothing for certain.

use crate::domain::facts::{Account, ChangeState};
use crate::forge::bitbucket_cloud::User;
use crate::forge::bitbucket_cloud::repository::Links;
use crate::forge::git::full_ref;
use crate::outbound::Error;
use serde::Deserialize;

/// What stands in place of an account that is gone.
const NOBODY: &str = "former user";

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PullRequest {
    #[serde(rename = "id")]
    pub(super) number: u64,
    state: String,
    #[serde(default)]
    draft: Option<bool>,
    #[serde(default)]
    pub(super) title: String,
    author: Option<User>,
    pub(super) source: Side,
    pub(super) destination: Side,
    merge_commit: Option<Hash>,
    /// Who merged or declined it; only where it is shown by itself.
    pub(super) closed_by: Option<User>,
    #[serde(default)]
    pub(super) updated_on: String,
    #[serde(default)]
    pub(super) queued: Option<bool>,
    #[serde(default)]
    pub(super) links: Links,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Side {
    /// `None`: the commit is gone.
    commit: Option<Hash>,
    pub(super) branch: Branch,
    /// `None`: the fork is gone.
    pub(super) repository: Option<Place>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hash {
    pub(super) hash: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Branch {
    pub(super) name: String,
    #[serde(default)]
    pub(super) merge_strategies: Vec<String>,
    #[serde(default)]
    pub(super) default_merge_strategy: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Place {
    pub(super) uuid: String,
}

impl Side {
    /// The abbreviated commit; empty where there is none.
    pub(super) fn short(&self) -> &str {
        self.commit.as_ref().map_or("", |it| it.hash.as_str())
    }
}

/// What must be the same before and after a change is read.
#[derive(PartialEq, Eq)]
pub(super) struct Standing<'a> {
    head: &'a str,
    source: &'a str,
    target: &'a str,
    state: ChangeState,
    updated: &'a str,
}

impl PullRequest {
    pub(super) fn state(&self) -> Result<ChangeState, Error> {
        match self.state.as_str() {
            "OPEN" => Ok(ChangeState::Open),
            "MERGED" => Ok(ChangeState::Merged),
            "DECLINED" | "SUPERSEDED" => Ok(ChangeState::Closed),
            _ => Err(Error::NotJson(
                "the pull request is in a state that is not known here".to_owned(),
            )),
        }
    }

    pub(super) fn is_draft(&self) -> bool {
        self.draft.unwrap_or(false)
    }

    pub(super) fn author(&self) -> Account {
        self.author.clone().map_or_else(
            || Account {
                id: NOBODY.to_owned(),
                username: NOBODY.to_owned(),
                name: NOBODY.to_owned(),
            },
            Account::from,
        )
    }

    /// The abbreviated commit it landed as.
    pub(super) fn landed(&self) -> Option<&str> {
        self.merge_commit
            .as_ref()
            .map(|it| it.hash.as_str())
            .filter(|it| !it.is_empty())
    }

    pub(super) fn standing(&self) -> Result<Standing<'_>, Error> {
        Ok(Standing {
            head: self.source.short(),
            source: &self.source.branch.name,
            target: &self.destination.branch.name,
            state: self.state()?,
            updated: &self.updated_on,
        })
    }

    pub(super) fn source_ref(&self) -> String {
        full_ref(&self.source.branch.name)
    }

    pub(super) fn target_ref(&self) -> String {
        full_ref(&self.destination.branch.name)
    }

    /// Seconds since 1970 of its last change, by Bitbucket's clock.
    pub(super) fn updated(&self) -> Option<i64> {
        let time: jiff::Timestamp = self.updated_on.parse().ok()?;
        Some(time.as_second())
    }
}
