//! Reading a change from GitLab, with everything the rules may ask. Lists are whole or marked as not whole, with the reason;
//! nothing is guessed in favour of a change.

use crate::domain::facts::ChangeFacts;
use crate::domain::facts::ChangeState;
use crate::domain::facts::FileList;
use crate::domain::facts::Merged;
use crate::domain::ids::ProjectId;
use crate::forge::ChangeHead;
use crate::forge::gitlab::BadPage;
use crate::forge::gitlab::GitLab;
use crate::forge::gitlab::Limits;
use crate::forge::gitlab::Listed;
use crate::forge::gitlab::User;
use crate::forge::gitlab::commit_id;
use crate::forge::gitlab::contributors::Commit;
use crate::forge::gitlab::contributors::Event;
use crate::forge::gitlab::contributors::commits_doubt;
use crate::forge::gitlab::contributors::contributors;
use crate::forge::gitlab::contributors::pushers;
use crate::forge::gitlab::files::Diff;
use crate::forge::gitlab::files::file_list;
use crate::forge::gitlab::full_ref;
use crate::forge::gitlab::is_limit;
use crate::forge::gitlab::merge_request::MergeRequest;
use crate::forge::gitlab::page_url;
use crate::forge::gitlab::pause;
use crate::forge::gitlab::project_number;
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::HashSet;
use std::time::Duration;

/// Calls that reading a change usually takes: itself before and after, its files, its commits, who pushed.
const CHANGE_CALLS: u32 = 5;
/// Attempts to see a change that stands still while it is read.
const TRIES: u32 = 3;
/// Time for reading one change, all attempts together.
const WHOLE_CHANGE: Duration = Duration::from_secs(120);
/// GitLab lists at most 3,000 files of a change, each patch at most 200 KB by default.
pub(super) const FILE_LIMITS: Limits = Limits {
    pages: 40,
    bytes: 48 * 1024 * 1024,
};
const COMMIT_LIMITS: Limits = Limits {
    pages: 100,
    bytes: 16 * 1024 * 1024,
};
const EVENT_LIMITS: Limits = Limits {
    pages: 10,
    bytes: 4 * 1024 * 1024,
};
const CHANGE_LIMITS: Limits = Limits {
    pages: 200,
    bytes: 16 * 1024 * 1024,
};

#[derive(Deserialize)]
pub(super) struct Branch {
    #[serde(default)]
    pub(super) name: String,
    pub(super) commit: BranchTip,
}

#[derive(Deserialize)]
pub(super) struct BranchTip {
    pub(super) id: String,
}

impl GitLab {
    pub(super) async fn merge_request(
        &self,
        forge_project_id: &str,
        number: u64,
    ) -> Result<MergeRequest, Error> {
        let project = project_number(forge_project_id)?;
        let text = number.to_string();
        let found: MergeRequest = self
            .get(&["projects", project, "merge_requests", &text], &[])
            .await?;
        let here = found.target_project_id.is_none_or(|it| it.to_string() == project);
        if found.iid != number || !here {
            return Err(Error::NotJson(
                "GitLab answered with another merge request".to_owned(),
            ));
        }
        Ok(found)
    }

    /// Open merge requests, oldest first, so that what is opened while the pages are read comes last.
    pub(crate) async fn open_changes(&self, forge_project_id: &str) -> Result<Vec<ChangeHead>, Error> {
        let project = project_number(forge_project_id)?;
        self.begin(1)?;
        let query = [
            ("state", "opened"),
            ("scope", "all"),
            ("order_by", "created_at"),
            ("sort", "asc"),
        ];
        let path = ["projects", project, "merge_requests"];
        let listed = self
            .pages::<MergeRequest>(&path, &query, CHANGE_LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "the project has more open merge requests than can be read".to_owned(),
            ));
        }
        let mut seen = HashSet::new();
        let mut heads = Vec::new();
        for item in listed.items {
            if item.state != "opened" || !seen.insert(item.iid) {
                continue;
            }
            let draft = item.is_draft();
            let head = item
                .sha
                .as_deref()
                .map(commit_id)
                .transpose()?
                .unwrap_or_default()
                .to_owned();
            heads.push(ChangeHead {
                number: item.iid,
                head,
                target: full_ref(&item.target_branch),
                source: full_ref(&item.source_branch),
                updated_at: item.updated_at,
                draft,
                title: item.title,
            });
        }
        Ok(heads)
    }

    /// The commit a branch stands on (`GET /projects/:id/repository/branches/:branch`).
    pub(crate) async fn branch_head(&self, forge_project_id: &str, branch: &str) -> Result<String, Error> {
        let project = project_number(forge_project_id)?;
        let name = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        let found: Branch = self
            .get(&["projects", project, "repository", "branches", name], &[])
            .await?;
        Ok(commit_id(&found.commit.id)?.to_owned())
    }

    /// A change with everything the rules may ask.
    pub(crate) async fn change(
        &self,
        project: &ProjectId,
        forge_project_id: &str,
        number: u64,
    ) -> Result<ChangeFacts, Error> {
        self.begin(CHANGE_CALLS)?;
        match tokio::time::timeout(WHOLE_CHANGE, self.read_change(project, forge_project_id, number)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout {
                host: self.base.host_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    async fn read_change(
        &self,
        project: &ProjectId,
        forge_project_id: &str,
        number: u64,
    ) -> Result<ChangeFacts, Error> {
        let text = number.to_string();
        let path = [
            "projects",
            project_number(forge_project_id)?,
            "merge_requests",
            &text,
        ];
        let (diffs, commits) = (
            [&path[..], &["diffs"]].concat(),
            [&path[..], &["commits"]].concat(),
        );
        let mut before = self.merge_request(forge_project_id, number).await?;
        let mut attempt = 1;
        loop {
            if before.is_preparing() && attempt < TRIES {
                pause(attempt + 1).await;
                attempt += 1;
                before = self.merge_request(forge_project_id, number).await?;
                continue;
            }
            let (listed_files, listed_commits) = tokio::join!(
                self.pages::<Diff>(&diffs, &[], FILE_LIMITS),
                self.pages::<Commit>(&commits, &[], COMMIT_LIMITS),
            );
            // A rate limit is nobody's fault and says when to come back; anything else leaves the list incomplete.
            for bad in [listed_files.as_ref().err(), listed_commits.as_ref().err()]
                .into_iter()
                .flatten()
            {
                if is_limit(&bad.error) || bad.error.status() == Some(401) {
                    return Err(bad.error.clone());
                }
            }
            // Before the last look, since a long list of pushes takes its time.
            let pushed = self.pushers(&before).await?;
            let after = self.merge_request(forge_project_id, number).await?;
            let stood_still = before.still() == after.still();
            if !stood_still && attempt < TRIES {
                pause(attempt).await;
                attempt += 1;
                before = after;
                continue;
            }
            let mut files = match listed_files {
                Ok(listed) => file_list(&after, listed.items, listed.whole),
                Err(bad) => FileList {
                    files: Vec::new(),
                    incomplete: Some(bad.told("the file list", "GitLab")),
                },
            };
            if !stood_still {
                let moved = "the change moved each time it was being read";
                files.incomplete.get_or_insert_with(|| moved.to_owned());
            }
            let (pushers, pushers_unread) = pushed;
            return facts(project, after, files, listed_commits, pushers, pushers_unread);
        }
    }

    /// The accounts that pushed to the source branch, as far as GitLab's events tell, and why not all of them.
    async fn pushers(&self, change: &MergeRequest) -> Result<(Vec<User>, Option<String>), Error> {
        let Some(project) = change.source_project_id else {
            return Ok((
                Vec::new(),
                Some("the fork it comes from is gone, and with it who pushed to it".to_owned()),
            ));
        };
        let project = project.to_string();
        let path = ["projects", project.as_str(), "events"];
        match self
            .pages::<Event>(&path, &[("action", "pushed")], EVENT_LIMITS)
            .await
        {
            Ok(listed) => Ok(pushers(listed.items, &change.source_branch, listed.whole)),
            Err(bad) if is_limit(&bad.error) => Err(bad.error),
            Err(bad) => Ok((Vec::new(), Some(bad.told("the list of pushes", "GitLab")))),
        }
    }
}

fn facts(
    project: &ProjectId,
    change: MergeRequest,
    files: FileList,
    commits: Result<Listed<Commit>, BadPage>,
    pushers: Vec<User>,
    pushers_unread: Option<String>,
) -> Result<ChangeFacts, Error> {
    let head = change
        .head()
        .ok_or_else(|| Error::NotJson("the merge request has no head commit".to_owned()))?;
    let head = head.to_owned();
    let state = match change.state.as_str() {
        "opened" | "locked" => ChangeState::Open,
        "closed" => ChangeState::Closed,
        "merged" => ChangeState::Merged,
        _ => {
            return Err(Error::NotJson(
                "the merge request is in a state that is not known here".to_owned(),
            ));
        }
    };
    let base = change.diff_refs.as_ref().and_then(|it| it.base_sha.as_deref());
    let base = base.map(commit_id).transpose()?.unwrap_or_default().to_owned();
    let (commits, mut reasons) = match commits {
        Ok(listed) => {
            let doubt = commits_doubt(&listed.items, &head, listed.whole, files.files.is_empty());
            (listed.items, Vec::from_iter(doubt))
        }
        Err(bad) => (Vec::new(), vec![bad.told("the list of commits", "GitLab")]),
    };
    reasons.extend(pushers_unread);
    let merged = change.is_merged().then(|| Merged {
        by: change.merger().cloned().map(Into::into),
        commit: change.landed(),
    });
    Ok(ChangeFacts {
        project: project.clone(),
        number: change.iid,
        state,
        draft: change.is_draft(),
        web_url: page_url(&change.web_url),
        contributors: contributors(&change.author, &commits, pushers),
        contributors_incomplete: (!reasons.is_empty()).then(|| reasons.join("; ")),
        commits: u32::try_from(commits.len()).unwrap_or(u32::MAX),
        title: change.title,
        author: change.author.into(),
        source: full_ref(&change.source_branch),
        source_project_id: change
            .source_project_id
            .map(|it| it.to_string())
            .unwrap_or_default(),
        target: full_ref(&change.target_branch),
        head,
        base,
        target_sha: None,
        files,
        merged,
    })
}
