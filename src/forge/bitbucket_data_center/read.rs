//! Reading a pull request from Bitbucket, with everything the rules may ask. Lists are whole or marked as not whole, with
//! the reason; nothing is guessed in favour of a change.

use crate::domain::facts::{ChangeFacts, ChangeState, FileList, Merged};
use crate::domain::follow_up::CommitFacts;
use crate::domain::ids::ProjectId;
use crate::domain::text::shortened;
use crate::forge::bitbucket_data_center::contributors::{
    Activity, Commit, Parent, RefActivity, commits_doubt, contributors, pushers, pushers_since_opening,
};
use crate::forge::bitbucket_data_center::files::{Changed, Told, file_list};
use crate::forge::bitbucket_data_center::pull_request::PullRequest;
use crate::forge::bitbucket_data_center::repository::{Place, once};
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, Page, User, is_signed_out};
use crate::forge::diff;
use crate::forge::git::{commit_id, is_commit_id, own_commit_id};
use crate::forge::pages::{BadPage, Limits, Listed, is_limit, pause};
use crate::outbound::{Error, Method};
use std::time::Duration;

/// Calls that reading a change usually takes: itself before and after, its base, files, commits, modes, who pushed.
const CHANGE_CALLS: u32 = 7;
/// Attempts to see a change that stands still while it is read.
const TRIES: u32 = 3;
/// Time for reading one change, all attempts together.
const WHOLE_CHANGE: Duration = Duration::from_secs(120);
/// Files of a change: 50,000, if Bitbucket gives them.
pub(super) const FILE_LIMITS: Limits = Limits {
    pages: 100,
    bytes: 16 * 1024 * 1024,
};
/// Commits of a change or between two places of a branch.
pub(super) const COMMIT_LIMITS: Limits = Limits {
    pages: 100,
    bytes: 32 * 1024 * 1024,
};
/// Moves of a branch, and what happened to a pull request.
const MOVE_LIMITS: Limits = Limits {
    pages: 10,
    bytes: 16 * 1024 * 1024,
};
/// Largest diff that is read for modes and numbers of lines.
const DIFF_BYTES: u64 = 16 * 1024 * 1024;
/// Longest text that is kept of a commit, in characters.
const TEXT_MAX: usize = 300;

/// The merge base of a change, its files, commits, diff, and who pushed.
struct Parts {
    base: Option<String>,
    files: Result<Listed<Changed>, BadPage>,
    commits: Result<Listed<Commit>, BadPage>,
    told: Told,
    pushed: (Vec<User>, Option<String>),
}

impl BitbucketDataCenter {
    pub(super) async fn pull_request(&self, place: &Place, number: u64) -> Result<PullRequest, Error> {
        let text = number.to_string();
        let found: PullRequest = self.get(place, &["pull-requests", &text], &[]).await?;
        let here = found.to_ref.repository.id == place.id;
        if !here {
            // The name belongs to another repository now.
            self.doubt_place(place.id);
        }
        if found.number != number || !here {
            return Err(Error::NotJson(
                "Bitbucket answered with another pull request".to_owned(),
            ));
        }
        Ok(found)
    }

    /// The commit a branch, given as a full ref, stands on.
    pub(crate) async fn branch_head(&self, forge_project_id: &str, branch: &str) -> Result<String, Error> {
        let place = self.place(forge_project_id).await?;
        self.tip(&place, branch).await
    }

    /// The same, once it is known where the repository is.
    pub(super) async fn tip(&self, place: &Place, branch: &str) -> Result<String, Error> {
        let call = self.in_repository(Method::Get, "api", place, &["commits"])?;
        let call = call.query([("until", branch), ("limit", "1")]);
        let page: Page<Parent> = self.fetch(call).await?.json()?;
        match page.values.first() {
            Some(it) => Ok(commit_id(&it.id)?.to_owned()),
            None => Err(Error::Status {
                code: 404,
                retry_after: None,
                excerpt: "the branch has no commit".to_owned(),
            }),
        }
    }

    /// See [`crate::forge::Forge::commit`].
    pub(crate) async fn commit(
        &self,
        forge_project_id: &str,
        sha: &str,
    ) -> Result<Option<CommitFacts>, Error> {
        let place = self.place(forge_project_id).await?;
        let sha = own_commit_id(sha)?;
        match self.get::<Commit>(&place, &["commits", sha], &[]).await {
            Ok(it) if it.id.eq_ignore_ascii_case(sha) => {
                let (author, committer, committed_at) = it.signed();
                Ok(Some(CommitFacts {
                    title: shortened(it.title(), TEXT_MAX),
                    author: shortened(&author, TEXT_MAX),
                    committer: shortened(&committer, TEXT_MAX),
                    committed_at: shortened(&committed_at, TEXT_MAX),
                    web_url: None,
                }))
            }
            Ok(_) => Err(Error::NotJson("another commit than the one asked for".to_owned())),
            Err(error) if error.status() == Some(404) => self.project(forge_project_id).await.map(|_| None),
            Err(error) => Err(error),
        }
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
                host: self.rest.host_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    async fn read_change(
        &self,
        project: &ProjectId,
        forge_project_id: &str,
        number: u64,
    ) -> Result<ChangeFacts, Error> {
        let mut place = self.place(forge_project_id).await?;
        let mut before = match self.pull_request(&place, number).await {
            Ok(it) => it,
            Err(error) => match self.moved(&place, &error).await? {
                Some(now) => {
                    place = now;
                    self.pull_request(&place, number).await?
                }
                None => return Err(error),
            },
        };
        let mut attempt = 1;
        loop {
            let parts = self.parts(&place, &before).await?;
            let after = self.pull_request(&place, number).await?;
            let stood_still = before.standing()? == after.standing()?;
            if !stood_still && attempt < TRIES {
                pause(attempt).await;
                attempt += 1;
                before = after;
                continue;
            }
            let mut files = match &parts.files {
                Ok(listed) => file_list(&listed.items, listed.whole, &parts.told),
                Err(bad) => FileList {
                    files: Vec::new(),
                    incomplete: Some(bad.told("the file list", "Bitbucket")),
                },
            };
            if parts.base.is_none() {
                files.incomplete.get_or_insert_with(|| {
                    "the change has no commit in common with its target branch".to_owned()
                });
            }
            if !stood_still {
                let moved = "the change moved each time it was being read";
                files.incomplete.get_or_insert_with(|| moved.to_owned());
            }
            let merger = match after.state()? {
                ChangeState::Merged => self.merger(&place, number).await?,
                _ => None,
            };
            return facts(project, after, files, parts, merger);
        }
    }

    /// Everything beside the pull request itself. A rate limit is nobody's fault and says when to come back; anything else
    /// leaves a list incomplete.
    async fn parts(&self, place: &Place, change: &PullRequest) -> Result<Parts, Error> {
        let head = commit_id(change.head())?;
        let text = change.number.to_string();
        let base = self.merge_base(place, change).await?;
        let commits_path = ["pull-requests", text.as_str(), "commits"];
        let files = async {
            match &base {
                Some(base) => self.changed_files(place, change, head, base).await,
                None => Ok(Listed {
                    items: Vec::new(),
                    whole: false,
                }),
            }
        };
        let (files, commits, told, pushed) = tokio::join!(
            files,
            self.pages::<Commit>(place, &commits_path, &[], COMMIT_LIMITS),
            self.told(place, &text),
            self.pushers(place, change),
        );
        for bad in [files.as_ref().err(), commits.as_ref().err()]
            .into_iter()
            .flatten()
        {
            if is_limit(&bad.error) || is_signed_out(&bad.error) {
                return Err(bad.error.clone());
            }
        }
        Ok(Parts {
            base,
            files,
            commits,
            told: told?,
            pushed: pushed?,
        })
    }

    /// What the head has and the base has not. Bitbucket keeps a fork's commits beside the target's while the pull request is
    /// open; where it does not any more, they are asked of the fork.
    async fn changed_files(
        &self,
        place: &Place,
        change: &PullRequest,
        head: &str,
        base: &str,
    ) -> Result<Listed<Changed>, BadPage> {
        let fork = change.from_ref.repository.id.to_string();
        let query = [("from", head), ("to", base), ("fromRepo", fork.as_str())];
        let path = ["compare", "changes"];
        match self.pages(place, &path, &query[..2], FILE_LIMITS).await {
            Err(bad) if bad.error.status() == Some(404) && change.is_from_fork() => {
                self.pages(place, &path, &query, FILE_LIMITS).await
            }
            answer => answer,
        }
    }

    /// The newest commit that head and target branch have in common; `None` if there is none.
    async fn merge_base(&self, place: &Place, change: &PullRequest) -> Result<Option<String>, Error> {
        let number = change.number.to_string();
        let call = self.in_repository(
            Method::Get,
            "api",
            place,
            &["pull-requests", &number, "merge-base"],
        )?;
        self.one_or_none(place, call).await
    }

    /// A commit, where there may be none (204).
    pub(super) async fn one_or_none(
        &self,
        place: &Place,
        call: crate::outbound::Call,
    ) -> Result<Option<String>, Error> {
        let reply = self.fetch_at(place, call).await?;
        if reply.status == 204 {
            return Ok(None);
        }
        let found: Parent = reply.json()?;
        Ok(Some(commit_id(&found.id)?.to_owned()))
    }

    /// Modes and numbers of lines. Where the diff can't be read they are unknown, and such a file is never skipped.
    async fn told(&self, place: &Place, number: &str) -> Result<Told, Error> {
        let name = format!("{number}.diff");
        let call = self.in_repository(Method::Get, "api", place, &["pull-requests", &name])?;
        let call = call.query([("contextLines", "0")]).cap(DIFF_BYTES);
        match self.fetch(call).await {
            Ok(reply) => Ok(Told::of(&diff::read(&reply.body).unwrap_or_default())),
            Err(error) if is_limit(&error) => Err(error),
            Err(_) => Ok(Told::default()),
        }
    }

    /// The accounts that pushed to the source branch, as far as Bitbucket tells, and why not all of them.
    async fn pushers(
        &self,
        place: &Place,
        change: &PullRequest,
    ) -> Result<(Vec<User>, Option<String>), Error> {
        let there = change.from_ref.repository.place();
        let branch = change.from_ref.id.as_str();
        let query = [("ref", branch)];
        let moves = self
            .pages::<RefActivity>(&there, &["ref-change-activities"], &query, MOVE_LIMITS)
            .await;
        let why = match moves {
            Ok(listed) => return Ok(pushers(listed.items, branch, listed.whole)),
            Err(bad) if is_limit(&bad.error) => return Err(bad.error),
            Err(bad) => match bad.error.status() {
                Some(401 | 403 | 404) if change.is_from_fork() => {
                    "who pushed to the fork before the pull request was opened is told only to the fork's admins".to_owned()
                }
                Some(401 | 403) => {
                    "who pushed before the pull request was opened is told only to admins of the repository".to_owned()
                }
                Some(code) => format!("the list of pushes could not be read: Bitbucket answered {code}"),
                None => format!("the list of pushes could not be read: {}", bad.error),
            },
        };
        // The pull request itself tells who moved it since it was opened.
        match self.activities(place, change.number).await {
            Ok(listed) => Ok((pushers_since_opening(listed.items), Some(why))),
            Err(bad) if is_limit(&bad.error) => Err(bad.error),
            Err(_) => Ok((Vec::new(), Some(why))),
        }
    }

    async fn activities(&self, place: &Place, number: u64) -> Result<Listed<Activity>, BadPage> {
        let number = number.to_string();
        let path = ["pull-requests", number.as_str(), "activities"];
        self.pages(place, &path, &[], MOVE_LIMITS).await
    }

    /// Who merged a pull request, where Bitbucket tells.
    pub(super) async fn merger(&self, place: &Place, number: u64) -> Result<Option<User>, Error> {
        let listed = self.activities(place, number).await.map_err(|it| it.error)?;
        let merged = listed.items.into_iter().find(|it| it.action == "MERGED");
        Ok(merged.and_then(|it| it.user))
    }
}

fn facts(
    project: &ProjectId,
    change: PullRequest,
    files: FileList,
    parts: Parts,
    merger: Option<User>,
) -> Result<ChangeFacts, Error> {
    let state = change.state()?;
    let head = commit_id(change.head())?.to_owned();
    let (commits, mut reasons) = match parts.commits {
        Ok(listed) => {
            let doubt = commits_doubt(&listed.items, &head, listed.whole, files.files.is_empty());
            (listed.items, Vec::from_iter(doubt))
        }
        Err(bad) => (Vec::new(), vec![bad.told("the list of commits", "Bitbucket")]),
    };
    let (pushed, unread) = parts.pushed;
    reasons.extend(unread);
    if change.author_user().is_none() {
        reasons.push("Bitbucket does not tell who opened the pull request".to_owned());
    }
    let merged = (state == ChangeState::Merged).then(|| Merged {
        by: merger.map(Into::into),
        commit: change.landed().map(str::to_owned),
    });
    Ok(ChangeFacts {
        project: project.clone(),
        number: change.number,
        state,
        draft: change.draft,
        web_url: change.links.page(),
        contributors: contributors(change.author_user(), &commits, &once(pushed)),
        contributors_incomplete: (!reasons.is_empty()).then(|| reasons.join("; ")),
        commits: u32::try_from(commits.len()).unwrap_or(u32::MAX),
        author: change.author(),
        source: change.from_ref.id.clone(),
        source_project_id: change.from_ref.repository.id.to_string(),
        target: change.to_ref.id.clone(),
        title: change.title,
        head,
        base: parts.base.filter(|it| is_commit_id(it)).unwrap_or_default(),
        target_sha: None,
        files,
        merged,
    })
}
