//! Reading a change from Bitbucket Cloud, with everything the rules may ask. Lists are whole or marked as not whole, with the
//! reason; nothing is guessed in favour of a change.

use crate::domain::facts::{ChangeFacts, ChangeState, FileList, Merged};
use crate::domain::ids::ProjectId;
use crate::forge::bitbucket_cloud::commits::{Activity, Commit, commits_doubt, contributors, pushers};
use crate::forge::bitbucket_cloud::files::{Changed, file_list};
use crate::forge::bitbucket_cloud::pull_request::PullRequest;
use crate::forge::bitbucket_cloud::{BitbucketCloud, User};
use crate::forge::diff::{self, FilePatch, Modes};
use crate::forge::git::{commit_id, short_ref};
use crate::forge::pages::{BadPage, Limits, Listed, is_limit, pause};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use std::time::Duration;

/// Calls that reading a change usually takes: itself before and after, the two branches, merge base, files, difference,
/// commits, activity.
const CHANGE_CALLS: u32 = 9;
/// Attempts to see a change that stands still while it is read.
const TRIES: u32 = 3;
/// Time for reading one change, all attempts together.
const WHOLE_CHANGE: Duration = Duration::from_secs(120);
/// Files of a page, and in all 10,000.
const FILES_PAGE: &str = "500";
const FILE_LIMITS: Limits = Limits {
    pages: 20,
    bytes: 16 * 1024 * 1024,
};
pub(super) const COMMIT_LIMITS: Limits = Limits {
    pages: 50,
    bytes: 16 * 1024 * 1024,
};
const ACTIVITY_LIMITS: Limits = Limits {
    pages: 10,
    bytes: 16 * 1024 * 1024,
};
/// Bytes of a difference.
const DIFF_BYTES: u64 = 32 * 1024 * 1024;

/// The full ids that a pull request is about now.
struct Ends {
    head: String,
    /// The target's tip, or where it was when the pull request was closed.
    target: String,
}

impl BitbucketCloud {
    pub(super) async fn pull_request(&self, repository: &str, number: u64) -> Result<PullRequest, Error> {
        let text = number.to_string();
        let found: PullRequest = self.get(repository, &["pullrequests", &text], &[]).await?;
        let here = found.destination.repository.as_ref();
        if found.number != number || here.is_some_and(|it| it.uuid != repository) {
            return Err(Error::NotJson(
                "Bitbucket answered with another pull request".to_owned(),
            ));
        }
        Ok(found)
    }

    /// The full id of a pull request's head. Of an open one it is where its branch stands; what the pull request itself shows
    /// is abbreviated and only says whether both speak of the same.
    ///
    /// # Errors
    /// `NotJson` while the branch and the pull request disagree.
    pub(super) async fn head_of(&self, repository: &str, change: &PullRequest) -> Result<String, Error> {
        let short = change.source.short();
        if change.state()? == ChangeState::Open
            && let Some(source) = &change.source.repository
        {
            match self.branch_head(&source.uuid, &change.source.branch.name).await {
                Ok(head) if !short.is_empty() && head.starts_with(short) => return Ok(head),
                Ok(_) => {
                    return Err(Error::NotJson(
                        "the branch has moved and its pull request not yet".to_owned(),
                    ));
                }
                // The branch is gone, or the fork is hidden from us: its commit is known here.
                Err(error) if matches!(error.status(), Some(403 | 404)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.commit_named(repository, short).await?.hash)
    }

    async fn ends(&self, repository: &str, change: &PullRequest) -> Result<Ends, Error> {
        let target = async {
            if change.state()? == ChangeState::Open {
                self.branch_head(repository, short_ref(&change.destination.branch.name))
                    .await
            } else {
                let short = change.destination.short();
                Ok(self.commit_named(repository, short).await?.hash)
            }
        };
        let (head, target) = tokio::join!(self.head_of(repository, change), target);
        Ok(Ends {
            head: head?,
            target: target?,
        })
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
                host: self.api.host_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    async fn read_change(
        &self,
        project: &ProjectId,
        repository: &str,
        number: u64,
    ) -> Result<ChangeFacts, Error> {
        let mut before = self.pull_request(repository, number).await?;
        let mut attempt = 1;
        loop {
            let ends = match self.ends(repository, &before).await {
                Ok(ends) => ends,
                // It moves: look again.
                Err(Error::NotJson(_)) if attempt < TRIES => {
                    pause(attempt).await;
                    attempt += 1;
                    before = self.pull_request(repository, number).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let base = match self.merge_base(repository, &ends.head, &ends.target).await {
                Ok(base) => base,
                // No common commit: all files are new to the target.
                Err(error) if error.status() == Some(404) => String::new(),
                Err(error) => return Err(error),
            };
            let (files, modes, commits, activity) = tokio::join!(
                self.changed(repository, &base, &ends.head),
                self.modes(repository, &base, &ends.head),
                self.commits_between(repository, &ends.target, &ends.head, COMMIT_LIMITS),
                self.activity(repository, number),
            );
            // A rate limit is nobody's fault and says when to come back; anything else leaves a list incomplete.
            let errors = [
                files.as_ref().err().map(|it| &it.error),
                commits.as_ref().err().map(|it| &it.error),
                activity.as_ref().err().map(|it| &it.error),
            ];
            for error in errors.into_iter().flatten() {
                if is_limit(error) || error.status() == Some(401) {
                    return Err(error.clone());
                }
            }
            let modes = modes?;
            let after = self.pull_request(repository, number).await?;
            let stood_still = before.standing()? == after.standing()?;
            if !stood_still && attempt < TRIES {
                pause(attempt).await;
                attempt += 1;
                before = after;
                continue;
            }
            let mut files = match files {
                Ok((listed, size)) => file_list(&listed.items, listed.whole, size, modes.as_ref()),
                Err(bad) => FileList {
                    files: Vec::new(),
                    incomplete: Some(bad.told("the file list", "Bitbucket")),
                },
            };
            if base.is_empty() {
                let reason = "the change has no commit in common with its target";
                files.incomplete.get_or_insert_with(|| reason.to_owned());
            }
            if !stood_still {
                let moved = "the change moved each time it was being read";
                files.incomplete.get_or_insert_with(|| moved.to_owned());
            }
            let merged = self.merged(repository, &after).await?;
            if stood_still {
                let (short, updated) = (after.source.short(), &after.updated_on);
                self.kept
                    .keep_head(repository, number, short, updated, &ends.head);
            }
            return facts(
                project,
                after,
                (ends.head, base),
                files,
                commits,
                activity,
                merged,
            );
        }
    }

    /// How a merged pull request landed.
    async fn merged(&self, repository: &str, change: &PullRequest) -> Result<Option<Merged>, Error> {
        if change.state()? != ChangeState::Merged {
            return Ok(None);
        }
        let commit = match change.landed() {
            Some(short) => match self.commit_named(repository, short).await {
                Ok(it) => Some(it.hash),
                Err(error) if error.status() == Some(404) => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        Ok(Some(Merged {
            by: change.closed_by.clone().map(Into::into),
            commit,
        }))
    }

    /// The newest commit that both have.
    pub(super) async fn merge_base(&self, repository: &str, one: &str, other: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Base {
            hash: String,
        }
        let both = format!("{}..{}", commit_id(one)?, commit_id(other)?);
        let found: Base = self.get(repository, &["merge-base", &both], &[]).await?;
        Ok(commit_id(&found.hash)?.to_owned())
    }

    /// What differs between two commits. Bitbucket names the newer one first.
    async fn changed(
        &self,
        repository: &str,
        base: &str,
        head: &str,
    ) -> Result<(Listed<Changed>, Option<u64>), BadPage> {
        let spec = if base.is_empty() {
            head.to_owned()
        } else {
            format!("{head}..{base}")
        };
        let query = [("topic", "false"), ("renames", "true"), ("pagelen", FILES_PAGE)];
        self.pages(repository, &["diffstat", &spec], &query, FILE_LIMITS)
            .await
    }

    /// The difference between two commits, file by file.
    pub(super) async fn patches(
        &self,
        repository: &str,
        base: &str,
        head: &str,
    ) -> Result<Vec<FilePatch>, Error> {
        let spec = format!("{}..{}", commit_id(head)?, commit_id(base)?);
        let call = self.in_repository(Method::Get, repository, &["diff", &spec])?;
        let call = call
            .query([("topic", "false"), ("renames", "true")])
            .header("accept", "text/plain")
            .cap(DIFF_BYTES);
        diff::read(&self.fetch(call).await?.body)
    }

    /// Modes at the merge base and at the head. Where the difference can't be read they are unknown, and such a file is never
    /// skipped.
    async fn modes(&self, repository: &str, base: &str, head: &str) -> Result<Option<Modes>, Error> {
        if base.is_empty() {
            return Ok(None);
        }
        match self.patches(repository, base, head).await {
            Ok(patches) => Ok(Some(Modes::of(&patches))),
            Err(error) if is_limit(&error) || error.status() == Some(401) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What happened to a pull request, the newest first.
    async fn activity(&self, repository: &str, number: u64) -> Result<Listed<Activity>, BadPage> {
        let text = number.to_string();
        let path = ["pullrequests", text.as_str(), "activity"];
        let query = [("pagelen", "50")];
        let (listed, _) = self.pages(repository, &path, &query, ACTIVITY_LIMITS).await?;
        Ok(listed)
    }
}

fn facts(
    project: &ProjectId,
    change: PullRequest,
    (head, base): (String, String),
    files: FileList,
    commits: Result<Listed<Commit>, BadPage>,
    activity: Result<Listed<Activity>, BadPage>,
    merged: Option<Merged>,
) -> Result<ChangeFacts, Error> {
    let mut reasons = Vec::new();
    let commits = match commits {
        Ok(listed) => {
            reasons.extend(commits_doubt(
                &listed.items,
                &head,
                listed.whole,
                files.files.is_empty(),
            ));
            listed.items
        }
        Err(bad) => {
            reasons.push(bad.told("the list of commits", "Bitbucket"));
            Vec::new()
        }
    };
    let (pushers, unread): (Vec<User>, _) = match activity {
        Ok(listed) => pushers(&listed.items, listed.whole),
        Err(bad) => (Vec::new(), Some(bad.told("the list of pushes", "Bitbucket"))),
    };
    reasons.extend(unread);
    let author = change.author();
    Ok(ChangeFacts {
        project: project.clone(),
        number: change.number,
        state: change.state()?,
        draft: change.is_draft(),
        web_url: change.links.page(),
        contributors: contributors(&author, &commits, &pushers),
        contributors_incomplete: (!reasons.is_empty()).then(|| reasons.join("; ")),
        commits: u32::try_from(commits.len()).unwrap_or(u32::MAX),
        author,
        source: change.source_ref(),
        // A fork that is gone is still none of ours.
        source_project_id: change
            .source
            .repository
            .as_ref()
            .map(|it| it.uuid.clone())
            .unwrap_or_default(),
        target: change.target_ref(),
        title: change.title,
        head,
        base,
        target_sha: None,
        files,
        merged,
    })
}
