//! What came into a gated branch: the commits between two looks, the pull requests they came from, and whether what landed is
//! what was in the pull request.

use crate::domain::branch::{Content, LandedAs, LandedChange, LandedCommit, Landing};
use crate::domain::facts::Account;
use crate::forge::LandingAsked;
use crate::forge::bitbucket_cloud::BitbucketCloud;
use crate::forge::bitbucket_cloud::commits::Commit;
use crate::forge::bitbucket_cloud::pull_request::PullRequest;
use crate::forge::bitbucket_cloud::read::COMMIT_LIMITS;
use crate::forge::diff::FilePatch;
use crate::forge::git::{commit_id, full_ref};
use crate::forge::pages::Limits;
use crate::outbound::{Error, Method};
use std::collections::{BTreeMap, BTreeSet};

/// Calls that looking at what came into a branch takes for one merge: two lists, pull requests, content.
const LANDING_CALLS: u32 = 6;
/// Pull requests that were merged lately.
const MERGED_PAGES: u32 = 50;
const MERGED_BYTES: u64 = 32 * 1024 * 1024;
const ONE: Limits = Limits {
    pages: 1,
    bytes: 1024 * 1024,
};
/// Paths kept of a difference.
const PATHS_MAX: usize = 50;
/// Commits of a pull request that is looked for as a row of commits of its own.
const ROW_MAX: usize = 250;
/// Files without lines that are compared byte by byte, and how long one may be.
const RAW_MAX: usize = 10;
const RAW_BYTES: u64 = 32 * 1024 * 1024;

impl BitbucketCloud {
    /// See [`crate::forge::Forge::landing`].
    pub(crate) async fn landing(&self, asked: &LandingAsked<'_>) -> Result<(bool, Landing), Error> {
        self.begin(LANDING_CALLS)?;
        let repository = asked.forge_project_id;
        let mut incomplete: Option<String> = None;
        // What the branch has now and had not; and what it had and has no more.
        let (now, before) = (commit_id(asked.after)?, commit_id(asked.before)?);
        let listed = self.commits_between(repository, before, now, COMMIT_LIMITS).await;
        let (forward, commits) = match listed {
            Ok(listed) => {
                if !listed.whole {
                    incomplete = Some("there are more commits than can be read".to_owned());
                }
                let lost = self.commits_between(repository, now, before, ONE).await;
                let lost = lost.map_err(|it| it.error)?;
                (lost.items.is_empty(), listed.items)
            }
            Err(bad) if bad.error.status() == Some(404) => {
                incomplete = Some("Bitbucket does not know the commit the branch was on before".to_owned());
                (false, Vec::new())
            }
            Err(bad) => return Err(bad.error),
        };
        let mut new: BTreeMap<String, Commit> = BTreeMap::new();
        for it in commits {
            new.insert(commit_id(&it.hash)?.to_owned(), it);
        }
        if forward && incomplete.is_none() && !new.contains_key(now) && now != before {
            incomplete = Some("Bitbucket's list of commits does not hold the newest one".to_owned());
        }
        let changes = self.landed_changes(asked, &new).await?;
        let commits = new.into_iter().map(|(id, it)| LandedCommit {
            id,
            title: it.title().to_owned(),
            parents: it.parents.into_iter().map(|it| it.hash).collect(),
        });
        let landing = Landing {
            commits: commits.collect(),
            incomplete,
            changes,
        };
        Ok((forward, landing))
    }

    /// The pull requests into the branch that Bitbucket calls merged since, as far as they brought any of the new commits.
    async fn landed_changes(
        &self,
        asked: &LandingAsked<'_>,
        new: &BTreeMap<String, Commit>,
    ) -> Result<Vec<LandedChange>, Error> {
        let since: jiff::Timestamp = asked
            .since
            .parse()
            .map_err(|_| Error::Refused("a time that is none".to_owned()))?;
        let query = [("state", "MERGED"), ("sort", "-updated_on"), ("pagelen", "50")];
        let repository = asked.forge_project_id;
        let mut merged: Vec<PullRequest> = Vec::new();
        let mut next: Option<String> = None;
        for page in 1.. {
            let (_, found) = self
                .page::<PullRequest>(
                    repository,
                    &["pullrequests"],
                    &query,
                    next.as_deref(),
                    MERGED_BYTES,
                )
                .await?;
            let older = |it: &PullRequest| it.updated().is_some_and(|at| at < since.as_second());
            let ends = found.values.iter().any(older);
            next = found.next_page()?;
            merged.extend(found.values);
            if ends || next.is_none() {
                break;
            }
            if page >= MERGED_PAGES {
                return Err(Error::NotJson(
                    "there are more pull requests than can be read".to_owned(),
                ));
            }
        }
        let mut changes = Vec::new();
        for it in merged {
            if it.target_ref() != full_ref(crate::forge::git::short_ref(asked.branch)) {
                continue;
            }
            let landed = it.landed().and_then(|short| the_one(new, short));
            let within = the_one(new, it.source.short());
            if landed.is_none() && within.is_none() {
                continue;
            }
            // Who merged it tells only its own page.
            let it = self.pull_request(repository, it.number).await?;
            let head = self.merged_head(repository, &it, landed, new).await?;
            let landed = match landed {
                Some(commit) if commit.hash != head => self.landed_as(asked, &it, &head, commit, new).await?,
                _ => Vec::new(),
            };
            changes.push(LandedChange {
                number: it.number,
                head,
                by: it.closed_by.map(Into::into),
                landed,
            });
        }
        Ok(changes)
    }

    /// The full head that was merged: what the merge commit itself names where there is one. Empty where Bitbucket does not
    /// show it any more, which no approval covers.
    async fn merged_head(
        &self,
        repository: &str,
        change: &PullRequest,
        landed: Option<&Commit>,
        new: &BTreeMap<String, Commit>,
    ) -> Result<String, Error> {
        let short = change.source.short();
        let parents = landed.map_or(&[][..], |it| &it.parents);
        if let Some(it) = parents
            .iter()
            .skip(1)
            .find(|it| !short.is_empty() && it.hash.starts_with(short))
        {
            return Ok(commit_id(&it.hash)?.to_owned());
        }
        if let Some(it) = the_one(new, short) {
            return Ok(it.hash.clone());
        }
        match self.commit_named(repository, short).await {
            Ok(it) => Ok(it.hash),
            Err(error) if error.status() == Some(404) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// The commits a pull request landed as: a merge commit, a squashed one, or its own ones made anew.
    async fn landed_as(
        &self,
        asked: &LandingAsked<'_>,
        change: &PullRequest,
        head: &str,
        commit: &Commit,
        new: &BTreeMap<String, Commit>,
    ) -> Result<Vec<LandedAs>, Error> {
        let repository = asked.forge_project_id;
        let ours = (asked.ours)(change.number).as_deref() == Some(commit.hash.as_str());
        let parent = |of: &str| {
            new.get(of)
                .and_then(|it| it.parents.first())
                .map(|it| it.hash.clone())
        };
        let single = commit.parents.len() == 1;
        let below = parent(&commit.hash);
        // Only a commit that was seen to hold the approved head is ever recorded as ours.
        let content = match ours && !single {
            true => Content::Same,
            false => {
                self.content(repository, head, &commit.hash, below.as_deref())
                    .await?
            }
        };
        let one = |content| {
            vec![LandedAs {
                commit: commit.hash.clone(),
                content,
            }]
        };
        if content == Content::Same || !single || head.is_empty() {
            return Ok(one(content));
        }
        // Rebased: a row of single commits, each made anew.
        let Some(count) = self.own_count(repository, head, below.as_deref()).await? else {
            return Ok(one(content));
        };
        let mut row = vec![commit.hash.clone()];
        while row.len() < count {
            match row.last().and_then(|it| parent(it)) {
                Some(older) if new.get(&older).is_some_and(|it| it.parents.len() == 1) => row.push(older),
                _ => return Ok(one(content)),
            }
        }
        let below = row.last().and_then(|it| parent(it));
        match self
            .content(repository, head, &commit.hash, below.as_deref())
            .await?
        {
            Content::Same => Ok(row
                .into_iter()
                .map(|commit| LandedAs {
                    commit,
                    content: Content::Same,
                })
                .collect()),
            _ => Ok(one(content)),
        }
    }

    /// How many commits a pull request had, if it may have landed as a row of them.
    async fn own_count(
        &self,
        repository: &str,
        head: &str,
        below: Option<&str>,
    ) -> Result<Option<usize>, Error> {
        let Some(below) = below else { return Ok(None) };
        let limits = Limits {
            pages: 3,
            ..COMMIT_LIMITS
        };
        let listed = self.commits_between(repository, below, head, limits).await;
        let listed = listed.map_err(|it| it.error)?;
        let count = listed.items.len();
        Ok(Some(count).filter(|it| listed.whole && (2..=ROW_MAX).contains(it)))
    }

    /// Whether what lies between `parent` and `commit` is what the head brought: the same lines in the same files, with the
    /// same modes.
    async fn content(
        &self,
        repository: &str,
        head: &str,
        commit: &str,
        parent: Option<&str>,
    ) -> Result<Content, Error> {
        let unknown = |text: &str| Ok(Content::Unknown(text.to_owned()));
        let (Some(parent), false) = (parent, head.is_empty()) else {
            return unknown("Bitbucket does not show what it was made from");
        };
        let compared = async {
            let base = self.merge_base(repository, head, parent).await?;
            tokio::try_join!(
                self.patches(repository, &base, head),
                self.patches(repository, parent, commit),
            )
        };
        let (proposed, landed) = match compared.await {
            Ok(both) => both,
            Err(error) if error.status() == Some(404) => {
                return unknown("Bitbucket does not show the commits any more");
            }
            Err(Error::NotJson(_)) => return unknown("Bitbucket does not tell the difference as git does"),
            Err(Error::TooLarge { .. }) => return unknown("it is too large to compare"),
            Err(error) => return Err(error),
        };
        match same_lines(&proposed, &landed) {
            Ok(silent) if silent.len() > RAW_MAX => unknown("too many files have no lines to compare"),
            Ok(silent) => {
                for path in silent {
                    let (one, other) = tokio::try_join!(
                        self.raw(repository, head, &path),
                        self.raw(repository, commit, &path)
                    )?;
                    if one != other {
                        return Ok(Content::Differs(vec![path]));
                    }
                }
                Ok(Content::Same)
            }
            Err(paths) => Ok(Content::Differs(paths)),
        }
    }

    /// The content of a file at a commit; `None` where there is none.
    async fn raw(&self, repository: &str, commit: &str, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut segments = vec!["src", commit];
        segments.extend(path.split('/'));
        let call = self.in_repository(Method::Get, repository, &segments)?;
        let call = call.header("accept", "*/*").cap(RAW_BYTES);
        match self.fetch(call).await {
            Ok(reply) => Ok(Some(reply.body)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// See [`crate::forge::Forge::pusher`]. Bitbucket tells it in webhooks alone, which are never believed.
    pub(crate) async fn pusher(&self, _: &str, _: &str, _: &str) -> Option<Account> {
        None
    }
}

/// The one commit whose id begins so; `None` where there are several.
fn the_one<'a>(new: &'a BTreeMap<String, Commit>, short: &str) -> Option<&'a Commit> {
    if short.is_empty() {
        return None;
    }
    let mut all = new
        .range(short.to_owned()..)
        .take_while(|(id, _)| id.starts_with(short));
    let found = all.next().map(|(_, it)| it);
    found.filter(|_| all.next().is_none())
}

/// What a pull request changes beside what landed for it, file by file: the paths of files that have no lines to compare, or,
/// if something differs, of those that do. A file that landed must be in the pull request, and the other way round.
fn same_lines(proposed: &[FilePatch], landed: &[FilePatch]) -> Result<Vec<String>, Vec<String>> {
    let sides = |it: &FilePatch| (it.old.clone(), it.new.clone());
    let path = |it: &FilePatch| {
        let path = it.new.as_ref().or(it.old.as_ref());
        String::from_utf8_lossy(path.map_or(&[][..], |it| it)).into_owned()
    };
    let by_sides: BTreeMap<_, &FilePatch> = proposed.iter().map(|it| (sides(it), it)).collect();
    let mut other: BTreeSet<String> = BTreeSet::new();
    let mut silent = Vec::new();
    let mut seen = BTreeSet::new();
    for it in landed {
        let key = sides(it);
        let Some(expected) = by_sides.get(&key) else {
            other.insert(path(it));
            continue;
        };
        seen.insert(key);
        let modes = |it: &FilePatch| (it.old_mode, it.new_mode);
        if expected.lines != it.lines || expected.binary != it.binary || modes(expected) != modes(it) {
            other.insert(path(it));
        } else if it.binary {
            silent.push(path(it));
        }
    }
    for (key, it) in &by_sides {
        if !seen.contains(key) {
            other.insert(path(it));
        }
    }
    match other.is_empty() {
        true => Ok(silent),
        false => Err(other.into_iter().take(PATHS_MAX).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::diff;
    use serde_json::json;

    fn patch(name: &str, line: &str) -> FilePatch {
        let text = format!(
            "diff --git a/{name} b/{name}\nindex 1..2 100644\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-x\n+{line}\n"
        );
        diff::read(text.as_bytes()).expect("readable").remove(0)
    }

    #[test]
    fn what_landed_is_held_against_what_was_proposed() {
        let (a, b) = (patch("a", "1"), patch("b", "1"));
        let differs = |paths: &[&str]| Err(paths.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(
            same_lines(std::slice::from_ref(&a), std::slice::from_ref(&a)),
            Ok(vec![])
        );
        assert_eq!(
            same_lines(std::slice::from_ref(&a), &[patch("a", "2")]),
            differs(&["a"])
        );
        assert_eq!(
            same_lines(std::slice::from_ref(&a), &[a.clone(), b.clone()]),
            differs(&["b"])
        );
        assert_eq!(
            same_lines(&[a.clone(), b.clone()], std::slice::from_ref(&a)),
            differs(&["b"])
        );
        let mut run = a.clone();
        run.new_mode = Some(0o100_755);
        assert_eq!(same_lines(std::slice::from_ref(&a), &[run]), differs(&["a"]));
        let binary = FilePatch {
            binary: true,
            lines: None,
            ..a
        };
        let one = std::slice::from_ref(&binary);
        assert_eq!(
            same_lines(one, one),
            Ok(vec!["a".to_owned()]),
            "its bytes are to be compared"
        );
    }

    #[test]
    fn an_abbreviation_that_two_share_names_none() {
        let commit = |id: &str| -> (String, Commit) {
            let it = serde_json::from_value(json!({ "hash": id })).expect("a commit");
            (id.to_owned(), it)
        };
        let new = BTreeMap::from([commit("aa11"), commit("aa12"), commit("bb")]);
        let of = |short: &str| the_one(&new, short).map(|it| it.hash.clone());
        assert_eq!(of("aa1"), None);
        assert_eq!(of("aa12").as_deref(), Some("aa12"));
        assert_eq!(of("b").as_deref(), Some("bb"));
        assert_eq!(of("c"), None);
        assert_eq!(of(""), None);
    }
}
