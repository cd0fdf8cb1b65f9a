//! A pull request as Bitbucket's lists and pages show it.

use crate::domain::facts::{Account, ChangeState};
use crate::forge::bitbucket_data_center::repository::{Links, Repository};
use crate::forge::bitbucket_data_center::{User, rfc3339};
use crate::forge::git::is_commit_id;
use crate::forge::{ChangeHead, ListedChange};
use crate::outbound::Error;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PullRequest {
    #[serde(rename = "id")]
    pub(super) number: u64,
    /// Goes up with each edit of title, description, reviewers and target; new commits do not change it.
    pub(super) version: i64,
    #[serde(default)]
    pub(super) title: String,
    state: String,
    /// Newer versions only.
    #[serde(default)]
    pub(super) draft: bool,
    #[serde(default)]
    updated_date: i64,
    closed_date: Option<i64>,
    pub(super) from_ref: Side,
    pub(super) to_ref: Side,
    author: Option<Participant>,
    #[serde(default)]
    pub(super) links: Links,
    #[serde(default)]
    properties: Properties,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Side {
    /// Full ref.
    pub(super) id: String,
    #[serde(default)]
    pub(super) latest_commit: String,
    pub(super) repository: Repository,
}

#[derive(Clone, Debug, Deserialize)]
struct Participant {
    user: User,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Properties {
    merge_commit: Option<Named>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
}

/// What must be the same before and after a change is read.
#[derive(PartialEq, Eq)]
pub(super) struct Standing<'a> {
    head: &'a str,
    target: &'a str,
    state: ChangeState,
    draft: bool,
}

impl PullRequest {
    pub(super) fn state(&self) -> Result<ChangeState, Error> {
        match self.state.as_str() {
            "OPEN" => Ok(ChangeState::Open),
            "MERGED" => Ok(ChangeState::Merged),
            "DECLINED" => Ok(ChangeState::Closed),
            _ => Err(Error::NotJson(
                "the pull request is in a state that is not known here".to_owned(),
            )),
        }
    }

    pub(super) fn author(&self) -> Account {
        self.author.clone().map_or_else(
            || Account {
                id: String::new(),
                username: "unknown".to_owned(),
                name: "unknown".to_owned(),
            },
            |it| it.user.into(),
        )
    }

    pub(super) fn author_user(&self) -> Option<&User> {
        self.author.as_ref().map(|it| &it.user)
    }

    pub(super) fn head(&self) -> &str {
        &self.from_ref.latest_commit
    }

    pub(super) fn target(&self) -> &str {
        &self.to_ref.id
    }

    pub(super) fn is_from_fork(&self) -> bool {
        self.from_ref.repository.id != self.to_ref.repository.id
    }

    pub(super) fn standing(&self) -> Result<Standing<'_>, Error> {
        Ok(Standing {
            head: self.head(),
            target: self.target(),
            state: self.state()?,
            draft: self.draft,
        })
    }

    /// The commit it landed as, where Bitbucket tells: a fast-forward makes none.
    pub(super) fn landed(&self) -> Option<&str> {
        let commit = self.properties.merge_commit.as_ref()?;
        Some(commit.id.as_str()).filter(|it| is_commit_id(it) && self.state == "MERGED")
    }

    /// Milliseconds since 1970 of its last change, by Bitbucket's clock.
    pub(super) fn updated(&self) -> i64 {
        self.updated_date.max(self.closed_date.unwrap_or(0))
    }

    /// Milliseconds since 1970 of its end.
    pub(super) fn closed(&self) -> Option<i64> {
        self.closed_date
    }

    pub(super) fn listed(self, forge_project_id: &str) -> Option<ListedChange> {
        let state = self.state().ok()?;
        let merged = (state == ChangeState::Merged)
            .then_some(self.closed_date)
            .flatten();
        Some(ListedChange {
            forge_project_id: forge_project_id.to_owned(),
            state,
            merged_at: merged.map(|it| it / 1000),
            head: self.shown(),
        })
    }

    pub(super) fn shown(self) -> ChangeHead {
        ChangeHead {
            number: self.number,
            head: Some(self.from_ref.latest_commit)
                .filter(|it| is_commit_id(it))
                .unwrap_or_default(),
            target: self.to_ref.id,
            source: self.from_ref.id,
            updated_at: rfc3339(self.updated_date),
            draft: self.draft,
            title: self.title,
        }
    }
}
