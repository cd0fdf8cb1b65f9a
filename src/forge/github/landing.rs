//! Where gated branches stand, and what came into them: the commits between two looks, the pull requests they came from,
//! and whether what landed is what was in the pull request.

use crate::domain::branch::{Content, LandedAs, LandedChange, LandedCommit, Landing};
use crate::domain::facts::Account;
use crate::domain::policy::NamePattern;
use crate::forge::LandingAsked;
use crate::forge::github::contributors::{Commit, Parent};
use crate::forge::github::files::{Changed, FILES_MAX};
use crate::forge::github::pull_request::PullRequest;
use crate::forge::github::read::FILE_LIMITS;
use crate::forge::github::repository::Place;
use crate::forge::github::{GitHub, Limits, commit_id, full_ref, has_next, is_limit, short_ref};
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Calls that looking at what came into a branch takes for one merge: comparison, pull requests, content.
const LANDING_CALLS: u32 = 5;
/// Pages of pull requests that were closed lately.
const CLOSED_LIMITS: Limits = Limits {
    pages: 50,
    bytes: 32 * 1024 * 1024,
};
/// Files GitHub shows of a comparison at most.
const COMPARED_MAX: usize = 300;
/// Paths kept of a difference.
const PATHS_MAX: usize = 50;
/// Commits of a pull request that is looked for as a row of commits of its own.
const ROW_MAX: u64 = 250;

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "ref")]
    name: String,
    object: Parent,
}

#[derive(Deserialize)]
struct Branch {
    commit: Parent,
}

/// A commit as git has it.
#[derive(Deserialize)]
struct GitCommit {
    tree: Parent,
}

impl GitHub {
    /// See [`crate::forge::Forge::branches`].
    pub(crate) async fn branches(
        &self,
        forge_project_id: &str,
        patterns: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        self.begin(u32::try_from(patterns.len()).unwrap_or(u32::MAX))?;
        let place = self.place(forge_project_id).await?;
        let mut found = BTreeMap::new();
        let mut missing = false;
        for pattern in patterns {
            let Ok(compiled) = NamePattern::new(pattern) else {
                return Err(Error::Refused(format!("{pattern:?} is not a branch pattern")));
            };
            let literal: String = pattern.chars().take_while(|c| !"*?[{".contains(*c)).collect();
            if literal == *pattern {
                match self.fetch_again(&place, &["branches", pattern], &[]).await {
                    Ok((reply, _)) => {
                        let branch: Branch = reply.json()?;
                        found.insert(full_ref(pattern), commit_id(&branch.commit.sha)?.to_owned());
                    }
                    Err(error) if error.status() == Some(404) => missing = true,
                    Err(error) => return Err(error),
                }
                continue;
            }
            let mut path = vec!["git", "matching-refs", "heads"];
            path.extend(literal.split('/').filter(|it| !it.is_empty()));
            let (reply, _) = self.fetch_again(&place, &path, &[]).await?;
            if has_next(&reply) {
                return Err(Error::NotJson(
                    "there are more branches than can be read".to_owned(),
                ));
            }
            let listed: Vec<Reference> = reply.json()?;
            for it in listed {
                if compiled.matches_branch(&it.name) {
                    found.insert(it.name, commit_id(&it.object.sha)?.to_owned());
                }
            }
        }
        if missing {
            // A repository that is hidden from us answers the same as a branch that is gone.
            self.project(forge_project_id).await?;
        }
        Ok(found)
    }

    /// See [`crate::forge::Forge::landing`].
    pub(crate) async fn landing(&self, asked: &LandingAsked<'_>) -> Result<(bool, Landing), Error> {
        self.begin(LANDING_CALLS)?;
        let place = self.place(asked.forge_project_id).await?;
        let mut incomplete: Option<String> = None;
        let (forward, commits) = match self.compare(&place, asked.before, asked.after).await {
            Ok(found) => {
                if found.commits.len() as u64 != found.total_commits {
                    incomplete = Some("there are more commits than GitHub lists".to_owned());
                }
                let forward = matches!(found.status.as_str(), "ahead" | "identical");
                (forward, found.commits)
            }
            Err(error) if error.status() == Some(404) => {
                incomplete = Some("GitHub does not know the commit the branch was on before".to_owned());
                (false, Vec::new())
            }
            Err(error) => return Err(error),
        };
        let mut new: BTreeMap<String, Commit> = BTreeMap::new();
        for it in commits {
            new.insert(commit_id(&it.sha)?.to_owned(), it);
        }
        if forward && incomplete.is_none() && !new.contains_key(asked.after) {
            incomplete = Some("GitHub's list of commits does not hold the newest one".to_owned());
        }
        let changes = self.landed_changes(&place, asked, &new).await?;
        let commits = new.into_iter().map(|(id, it)| LandedCommit {
            id,
            title: it.title().to_owned(),
            parents: it.parents.into_iter().map(|it| it.sha).collect(),
        });
        let landing = Landing {
            commits: commits.collect(),
            incomplete,
            changes,
        };
        Ok((forward, landing))
    }

    /// The pull requests into the branch that GitHub calls merged since, as far as they brought any of the new commits.
    async fn landed_changes(
        &self,
        place: &Place,
        asked: &LandingAsked<'_>,
        new: &BTreeMap<String, Commit>,
    ) -> Result<Vec<LandedChange>, Error> {
        let since: jiff::Timestamp = asked
            .since
            .parse()
            .map_err(|_| Error::Refused("a time that is none".to_owned()))?;
        let query = [
            ("state", "closed"),
            ("base", short_ref(asked.branch)),
            ("sort", "updated"),
            ("direction", "desc"),
        ];
        let mut merged: Vec<PullRequest> = Vec::new();
        let mut page = 1;
        loop {
            let reply = self
                .page(place, &["pulls"], &query, page, CLOSED_LIMITS.bytes)
                .await?;
            let found: Vec<PullRequest> = reply.json()?;
            let older = found
                .iter()
                .any(|it| it.updated().is_some_and(|at| at < since.as_second()));
            merged.extend(found);
            if older || !has_next(&reply) {
                break;
            }
            page += 1;
            if page > CLOSED_LIMITS.pages {
                return Err(Error::NotJson(
                    "there are more pull requests than can be read".to_owned(),
                ));
            }
        }
        let mut changes = Vec::new();
        for it in merged {
            let Some(commit) = it.landed().map(str::to_owned) else {
                continue;
            };
            if !new.contains_key(&commit) && !new.contains_key(&it.head.sha) {
                continue;
            }
            // Who merged it, and how many commits it had, tells only its own page.
            let it = self.pull_request(place, it.number).await?;
            let landed = match commit == it.head.sha || !new.contains_key(&commit) {
                true => Vec::new(),
                false => self.landed_as(place, asked, &it, &commit, new).await?,
            };
            changes.push(LandedChange {
                number: it.number,
                head: it.head.sha.clone(),
                by: it.merged_by.map(Into::into),
                landed,
            });
        }
        Ok(changes)
    }

    /// The commits a pull request landed as: a merge commit, a squashed one, or its own ones made anew.
    async fn landed_as(
        &self,
        place: &Place,
        asked: &LandingAsked<'_>,
        change: &PullRequest,
        commit: &str,
        new: &BTreeMap<String, Commit>,
    ) -> Result<Vec<LandedAs>, Error> {
        let ours = (asked.ours)(change.number).as_deref() == Some(commit);
        let parent = |of: &str| {
            new.get(of)
                .and_then(|it| it.parents.first())
                .map(|it| it.sha.clone())
        };
        let single = new.get(commit).is_some_and(|it| it.parents.len() == 1);
        let before = parent(commit);
        let content = match ours && !single {
            true => Content::Same,
            false => self.content(place, change, commit, before.as_deref()).await?,
        };
        let count = change.commits.unwrap_or(1);
        if content == Content::Same || !single || !(2..=ROW_MAX).contains(&count) {
            return Ok(vec![LandedAs {
                commit: commit.to_owned(),
                content,
            }]);
        }
        // Rebased: as many commits as it had, one after the other.
        let mut row = vec![commit.to_owned()];
        while (row.len() as u64) < count {
            match row.last().and_then(|it| parent(it)) {
                Some(older) if new.get(&older).is_some_and(|it| it.parents.len() == 1) => row.push(older),
                _ => break,
            }
        }
        let below = row.last().and_then(|it| parent(it));
        let whole = match row.len() as u64 == count {
            true => self.content(place, change, commit, below.as_deref()).await?,
            false => content.clone(),
        };
        if whole != Content::Same {
            row.truncate(1);
        }
        let content = if whole == Content::Same { whole } else { content };
        Ok(row
            .into_iter()
            .map(|commit| LandedAs {
                commit,
                content: content.clone(),
            })
            .collect())
    }

    /// Whether what lies between `parent` and `commit` is what the pull request held: the same tree as its head, or, where
    /// the branch had moved on, the same content or the same lines in the same files.
    async fn content(
        &self,
        place: &Place,
        change: &PullRequest,
        commit: &str,
        parent: Option<&str>,
    ) -> Result<Content, Error> {
        let unknown = |text: &str| Ok(Content::Unknown(text.to_owned()));
        let Some(parent) = parent else {
            return unknown("GitHub does not tell what it was made from");
        };
        let head = commit_id(&change.head.sha)?;
        let compared = tokio::try_join!(
            self.tree_of(place, head),
            self.tree_of(place, commit),
            self.compare(place, parent, head),
            self.compare(place, parent, commit),
        );
        let (head_tree, landed_tree, to_head, landed) = match compared {
            Ok(all) => all,
            Err(error) if error.status() == Some(404) => {
                return unknown("GitHub does not show the commits any more");
            }
            Err(error) => return Err(error),
        };
        // The same tree as the head is the same content only where the branch had nothing else: beside what had come in
        // since, it takes that away.
        if head_tree == landed_tree && matches!(to_head.status.as_str(), "ahead" | "identical") {
            return Ok(Content::Same);
        }
        let number = change.number.to_string();
        let listed = self
            .pages::<Changed>(place, &["pulls", &number, "files"], &[], FILE_LIMITS)
            .await;
        let proposed = match listed {
            Ok(it) if it.whole && it.items.len() < FILES_MAX => it.items,
            Ok(_) => return unknown("it has more files than GitHub lists"),
            Err(bad) if is_limit(&bad.error) => return Err(bad.error),
            Err(bad) if bad.error.status() == Some(404) => {
                return unknown("GitHub does not show the pull request any more");
            }
            Err(bad) => return Err(bad.error),
        };
        if landed.files.len() >= COMPARED_MAX {
            return unknown("GitHub does not compare that much");
        }
        Ok(same_lines(&proposed, &landed.files))
    }

    async fn tree_of(&self, place: &Place, commit: &str) -> Result<String, Error> {
        let found: GitCommit = self.get(place, &["git", "commits", commit], &[]).await?;
        Ok(found.tree.sha)
    }

    /// See [`crate::forge::Forge::pusher`].
    pub(crate) async fn pusher(&self, forge_project_id: &str, branch: &str, commit: &str) -> Option<Account> {
        let place = self.place(forge_project_id).await.ok()?;
        let listed = self.activity(&place, branch).await.ok()?;
        let found = listed
            .items
            .into_iter()
            .find(|it| it.after == commit && it.reference == branch);
        found?.actor.map(Into::into)
    }
}

/// What a pull request changes beside what landed for it, file by file. A file that landed must be in the pull request,
/// with the same content or the same lines; one that is in the pull request and did not land was left out.
fn same_lines(proposed: &[Changed], landed: &[Changed]) -> Content {
    let sides = |it: &Changed| {
        let old = it
            .previous_filename
            .clone()
            .unwrap_or_else(|| it.filename.clone());
        (it.status.clone(), old, it.filename.clone())
    };
    let by_sides: BTreeMap<_, &Changed> = proposed.iter().map(|it| (sides(it), it)).collect();
    let mut other: BTreeSet<String> = BTreeSet::new();
    let mut silent = None;
    let mut seen = BTreeSet::new();
    for it in landed {
        let key = sides(it);
        let Some(expected) = by_sides.get(&key) else {
            other.insert(it.filename.clone());
            continue;
        };
        seen.insert(key);
        if it.sha.is_some() && it.sha == expected.sha {
            continue;
        }
        match (&expected.patch, &it.patch) {
            (Some(a), Some(b)) if lines(a) == lines(b) => {}
            (Some(_), Some(_)) => drop(other.insert(it.filename.clone())),
            _ => silent = Some(it.filename.clone()),
        }
    }
    for key in by_sides.keys().filter(|it| !seen.contains(*it)) {
        other.insert(key.2.clone());
    }
    if !other.is_empty() {
        return Content::Differs(other.into_iter().take(PATHS_MAX).collect());
    }
    match silent {
        Some(path) => Content::Unknown(format!(
            "GitHub shows no lines of {}",
            crate::domain::text::visible(&path)
        )),
        None => Content::Same,
    }
}

/// A patch without the numbers of its lines: those move with what else came in.
fn lines(patch: &str) -> Vec<&str> {
    patch
        .lines()
        .map(|it| if it.starts_with("@@ ") { "@@" } else { it })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(name: &str, sha: &str, patch: Option<&str>) -> Changed {
        serde_json::from_value(json!({"filename": name, "status": "modified", "sha": sha, "patch": patch}))
            .expect("a file")
    }

    #[test]
    fn what_landed_is_held_against_what_was_proposed() {
        let one = |sha, patch| vec![file("a", sha, patch)];
        let same = |a: &[Changed], b: &[Changed]| same_lines(a, b) == Content::Same;
        assert!(same(&one("1", None), &one("1", None)));
        // The branch had moved on in the same file.
        assert!(same(
            &one("1", Some("@@ -1 +1 @@\n-x\n+y")),
            &one("2", Some("@@ -9 +9 @@ fn\n-x\n+y"))
        ));
        assert!(!same(
            &one("1", Some("@@ -1 +1 @@\n-x\n+y")),
            &one("2", Some("@@ -1 +1 @@\n-x\n+z"))
        ));
        assert!(!same(&one("1", None), &one("2", None)), "nobody knows");
        assert_eq!(
            same_lines(&one("1", None), &[file("a", "1", None), file("b", "3", None)]),
            Content::Differs(vec!["b".to_owned()])
        );
        assert_eq!(
            same_lines(&[file("a", "1", None), file("b", "3", None)], &one("1", None)),
            Content::Differs(vec!["b".to_owned()])
        );
    }
}
