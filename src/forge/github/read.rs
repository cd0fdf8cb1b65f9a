//! Reading a change from GitHub, with everything the rules may ask. Lists are whole or marked as not whole, with the reason;
//! nothing is guessed in favour of a change.

use crate::domain::facts::{ChangeFacts, ChangeState, FileList, Merged};
use crate::domain::follow_up::CommitFacts;
use crate::domain::ids::ProjectId;
use crate::domain::text::shortened;
use crate::forge::github::contributors::{Activity, Commit, Parent, commits_doubt, contributors, pushers};
use crate::forge::github::files::{Changed, Modes, Tree, file_list};
use crate::forge::github::pull_request::PullRequest;
use crate::forge::github::repository::Place;
use crate::forge::github::{
    GitHub, Limits, Listed, PER_PAGE, User, commit_id, full_ref, has_next, is_commit_id, is_limit,
    own_commit_id, page_url, pause, short_ref,
};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use std::time::Duration;

/// Calls that reading a change usually takes: itself before and after, its files, its commits, two trees, who pushed.
const CHANGE_CALLS: u32 = 7;
/// Attempts to see a change that stands still while it is read.
const TRIES: u32 = 3;
/// Time for reading one change, all attempts together.
const WHOLE_CHANGE: Duration = Duration::from_secs(120);
/// GitHub lists at most 3,000 files of a change, with patches.
pub(super) const FILE_LIMITS: Limits = Limits {
    pages: 30,
    bytes: 48 * 1024 * 1024,
};
/// Pages of a comparison's commits.
const COMPARE_PAGES: u32 = 100;
const COMPARE_BYTES: u64 = 48 * 1024 * 1024;
/// A tree has at most 100,000 entries and 7 MB.
const TREE_BYTES: u64 = 32 * 1024 * 1024;
/// Longest text that is kept of a commit, in characters.
const TEXT_MAX: usize = 300;

/// A comparison of two commits.
#[derive(Deserialize)]
pub(super) struct Compared {
    pub(super) status: String,
    pub(super) merge_base_commit: Parent,
    pub(super) total_commits: u64,
    #[serde(default)]
    pub(super) commits: Vec<Commit>,
    #[serde(default)]
    pub(super) files: Vec<Changed>,
}

impl GitHub {
    pub(super) async fn pull_request(&self, place: &Place, number: u64) -> Result<PullRequest, Error> {
        let text = number.to_string();
        let found: PullRequest = self.get(place, &["pulls", &text], &[]).await?;
        let here = found.base.repo.as_ref().is_some_and(|it| it.id == place.id);
        if !here {
            // The name belongs to another repository now.
            self.doubt_place(place.id);
        }
        if found.number != number || !here {
            return Err(Error::NotJson(
                "GitHub answered with another pull request".to_owned(),
            ));
        }
        Ok(found)
    }

    /// The commit a branch stands on.
    pub(crate) async fn branch_head(&self, forge_project_id: &str, branch: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Branch {
            commit: Parent,
        }
        let place = self.place(forge_project_id).await?;
        let found: Branch = self.get(&place, &["branches", short_ref(branch)], &[]).await?;
        Ok(commit_id(&found.commit.sha)?.to_owned())
    }

    /// See [`crate::forge::Forge::commit`].
    pub(crate) async fn commit(
        &self,
        forge_project_id: &str,
        sha: &str,
    ) -> Result<Option<CommitFacts>, Error> {
        #[derive(Deserialize)]
        struct Shown {
            #[serde(flatten)]
            commit: Commit,
            html_url: Option<String>,
        }
        let place = self.place(forge_project_id).await?;
        let found: Result<Shown, Error> = self
            .get(&place, &["commits", own_commit_id(sha)?], &[("per_page", "1")])
            .await;
        match found {
            Ok(it) if it.commit.sha.eq_ignore_ascii_case(sha) => {
                let (author, committer, committed_at) = it.commit.signed();
                Ok(Some(CommitFacts {
                    title: shortened(it.commit.title(), TEXT_MAX),
                    author: shortened(&author, TEXT_MAX),
                    committer: shortened(&committer, TEXT_MAX),
                    committed_at: shortened(&committed_at, TEXT_MAX),
                    web_url: it.html_url.map(|url| page_url(&url)).filter(|it| !it.is_empty()),
                }))
            }
            Ok(_) => Err(Error::NotJson("another commit than the one asked for".to_owned())),
            // 422: no commit by that id.
            Err(error) if matches!(error.status(), Some(404 | 422)) => {
                self.project(forge_project_id).await.map(|_| None)
            }
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
                host: self.api.host_str().unwrap_or_default().to_owned(),
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
        let text = number.to_string();
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
            let files_path = ["pulls", text.as_str(), "files"];
            let (files, compared, pushed) = tokio::join!(
                self.pages::<Changed>(&place, &files_path, &[], FILE_LIMITS),
                self.compare(&place, &before.base.sha, &before.head.sha),
                self.pushers(&place, &before),
            );
            // A rate limit is nobody's fault and says when to come back; anything else leaves a list incomplete.
            for error in [files.as_ref().err().map(|it| &it.error), compared.as_ref().err()]
                .into_iter()
                .flatten()
            {
                if is_limit(error) || error.status() == Some(401) {
                    return Err(error.clone());
                }
            }
            let pushed = pushed?;
            let base = compared.as_ref().ok().map(|it| it.merge_base_commit.sha.clone());
            let (old, new) = self.modes(&place, base.as_deref(), &before.head.sha).await?;
            let after = self.pull_request(&place, number).await?;
            let stood_still = before.standing()? == after.standing()?;
            if !stood_still && attempt < TRIES {
                pause(attempt).await;
                attempt += 1;
                before = after;
                continue;
            }
            let mut files = match files {
                Ok(listed) => file_list(&after, &listed.items, listed.whole, &old, &new),
                Err(bad) => FileList {
                    files: Vec::new(),
                    incomplete: Some(bad.told("the file list", "GitHub")),
                },
            };
            if !stood_still {
                let moved = "the change moved each time it was being read";
                files.incomplete.get_or_insert_with(|| moved.to_owned());
            }
            return facts(project, after, files, compared, pushed);
        }
    }

    /// Modes at the merge base and at the head. Where a tree can't be read they are unknown, and such a file is never
    /// skipped.
    async fn modes(&self, place: &Place, base: Option<&str>, head: &str) -> Result<(Modes, Modes), Error> {
        let (old, new) = tokio::join!(self.modes_at(place, base), self.modes_at(place, Some(head)));
        Ok((old?, new?))
    }

    async fn modes_at(&self, place: &Place, commit: Option<&str>) -> Result<Modes, Error> {
        let Some(commit) = commit.filter(|it| is_commit_id(it)) else {
            return Ok(Modes::unknown());
        };
        let call = self.in_repository(Method::Get, place, &["git", "trees", commit])?;
        let call = call.query([("recursive", "1")]).cap(TREE_BYTES);
        let read = async {
            let reply = self.fetch_at(place, call).await?;
            reply.json::<Tree>()
        };
        match read.await {
            Ok(tree) => Ok(tree.into()),
            Err(error) if is_limit(&error) => Err(error),
            Err(_) => Ok(Modes::unknown()),
        }
    }

    /// What `to` has and `from` has not, with all its commits.
    pub(super) async fn compare(&self, place: &Place, from: &str, to: &str) -> Result<Compared, Error> {
        let both = format!("{}...{}", commit_id(from)?, commit_id(to)?);
        let mut whole: Option<Compared> = None;
        for page in 1..=COMPARE_PAGES {
            let (number, size) = (page.to_string(), PER_PAGE.to_string());
            let call = self.in_repository(Method::Get, place, &["compare", &both])?;
            let call = call
                .query([("per_page", size.as_str()), ("page", number.as_str())])
                .cap(COMPARE_BYTES);
            let reply = self.fetch_at(place, call).await?;
            let found: Compared = reply.json()?;
            let whole = match &mut whole {
                Some(whole) => {
                    whole.commits.extend(found.commits);
                    whole
                }
                None => whole.insert(found),
            };
            if !has_next(&reply) || whole.commits.len() as u64 >= whole.total_commits {
                break;
            }
        }
        whole.ok_or_else(|| Error::NotJson("a comparison without a page".to_owned()))
    }

    /// The accounts that pushed to the source branch, as far as GitHub tells, and why not all of them.
    async fn pushers(
        &self,
        place: &Place,
        change: &PullRequest,
    ) -> Result<(Vec<User>, Option<String>), Error> {
        let Some(source) = &change.head.repo else {
            return Ok((
                Vec::new(),
                Some("the fork it comes from is gone, and with it who pushed to it".to_owned()),
            ));
        };
        let there = Place {
            id: source.id,
            owner: source.owner.login.clone(),
            name: source.name.clone(),
            installation: place.installation,
        };
        let branch = full_ref(&change.head.reference);
        match self.activity(&there, &branch).await {
            Ok(listed) => Ok(pushers(listed.items, &branch, listed.whole)),
            Err(error) if is_limit(&error) => Err(error),
            Err(error) => {
                let what = match error.status() {
                    Some(code) => format!("GitHub answered {code}"),
                    None => error.to_string(),
                };
                let whose = if source.id == place.id { "" } else { " to the fork" };
                Ok((
                    Vec::new(),
                    Some(format!("the list of pushes{whose} could not be read: {what}")),
                ))
            }
        }
    }

    /// The newest moves of a branch.
    pub(super) async fn activity(&self, place: &Place, branch: &str) -> Result<Listed<Activity>, Error> {
        let call = self.in_repository(Method::Get, place, &["activity"])?;
        let call = call.query([("ref", branch), ("per_page", "100")]);
        let reply = self.fetch_at(place, call).await?;
        let items = reply.json()?;
        Ok(Listed {
            items,
            whole: !has_next(&reply),
        })
    }
}

fn facts(
    project: &ProjectId,
    change: PullRequest,
    files: FileList,
    compared: Result<Compared, Error>,
    (pushers, pushers_unread): (Vec<User>, Option<String>),
) -> Result<ChangeFacts, Error> {
    let state = change.state()?;
    let head = commit_id(&change.head.sha)?.to_owned();
    let (base, commits, mut reasons) = match compared {
        Ok(it) => {
            let base = commit_id(&it.merge_base_commit.sha)?.to_owned();
            let doubt = commits_doubt(&it.commits, &head, it.total_commits, files.files.is_empty());
            (base, it.commits, Vec::from_iter(doubt))
        }
        Err(error) => {
            let what = match error.status() {
                Some(code) => format!("GitHub answered {code}"),
                None => error.to_string(),
            };
            (
                String::new(),
                Vec::new(),
                vec![format!("the list of commits could not be read: {what}")],
            )
        }
    };
    reasons.extend(pushers_unread);
    let author = change.author();
    let as_user = User {
        id: author.id.parse().unwrap_or_default(),
        login: author.username.clone(),
    };
    let merged = (state == ChangeState::Merged).then(|| Merged {
        by: change.merged_by.clone().map(Into::into),
        commit: change.landed().map(str::to_owned),
    });
    // A fork that is gone is still none of ours.
    let source_project_id = match &change.head.repo {
        Some(it) => it.id.to_string(),
        None => String::new(),
    };
    Ok(ChangeFacts {
        project: project.clone(),
        number: change.number,
        state,
        draft: change.is_draft(),
        web_url: page_url(&change.html_url),
        contributors: contributors(&as_user, &commits, &pushers),
        contributors_incomplete: (!reasons.is_empty()).then(|| reasons.join("; ")),
        commits: u32::try_from(commits.len()).unwrap_or(u32::MAX),
        title: change.title,
        author,
        source: full_ref(&change.head.reference),
        source_project_id,
        target: full_ref(&change.base.reference),
        head,
        base,
        target_sha: None,
        files,
        merged,
    })
}
