//! Where gated branches stand, and what came into them: the commits between two looks, the merge requests they came
//! from, and whether what landed is what was in the merge request.

use crate::domain::branch::{Content, LandedAs, LandedChange, LandedCommit, Landing};
use crate::domain::facts::Account;
use crate::domain::policy::NamePattern;
use crate::forge::LandingAsked;
use crate::forge::gitlab::contributors::Event;
use crate::forge::gitlab::files::Diff;
use crate::forge::gitlab::merge_request::MergeRequest;
use crate::forge::gitlab::read::{Branch, FILE_LIMITS};
use crate::forge::gitlab::{
    GitLab, Limits, commit_id, full_ref, is_commit_id, is_limit, project_number, short_ref,
};
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// How much of a list is read.
const LIMITS: Limits = Limits {
    pages: 100,
    bytes: 8 * 1024 * 1024,
};
/// How far back it is looked for who pushed.
const PUSH_LIMITS: Limits = Limits {
    pages: 3,
    bytes: 4 * 1024 * 1024,
};
/// Calls that looking at what came into a branch takes for one merge: base, comparison, merge requests, content.
const LANDING_CALLS: u32 = 4;
/// Bytes of one comparison of two commits.
const COMPARE_BYTES: u64 = 48 * 1024 * 1024;
/// Files from which on GitLab may have cut a list (its default limit).
const DIFFS_MAX: usize = 1000;
/// Paths kept of a difference.
const PATHS_MAX: usize = 50;

#[derive(Deserialize)]
struct Compare {
    #[serde(default)]
    commits: Vec<Commit>,
    #[serde(default)]
    diffs: Vec<Diff>,
    #[serde(default)]
    compare_timeout: bool,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
    #[serde(default)]
    parent_ids: Vec<String>,
    #[serde(default)]
    title: String,
}

impl GitLab {
    /// See [`crate::forge::Forge::branches`].
    pub(crate) async fn branches(
        &self,
        forge_project_id: &str,
        patterns: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        let project = project_number(forge_project_id)?;
        self.begin(u32::try_from(patterns.len()).unwrap_or(u32::MAX))?;
        let mut found = BTreeMap::new();
        let mut missing = false;
        for pattern in patterns {
            let Ok(compiled) = NamePattern::new(pattern) else {
                return Err(Error::Refused(format!("{pattern:?} is not a branch pattern")));
            };
            let literal: String = pattern.chars().take_while(|c| !"*?[{".contains(*c)).collect();
            if literal == *pattern {
                let path = ["projects", project, "repository", "branches", pattern];
                match self.get::<Branch>(&path, &[]).await {
                    Ok(it) => {
                        found.insert(full_ref(pattern), commit_id(&it.commit.id)?.to_owned());
                    }
                    Err(error) if error.status() == Some(404) => missing = true,
                    Err(error) => return Err(error),
                }
                continue;
            }
            let path = ["projects", project, "repository", "branches"];
            let search = format!("^{literal}");
            let query = [("search", search.as_str())];
            let query = if literal.is_empty() {
                &query[..0]
            } else {
                &query[..]
            };
            let listed = self
                .pages::<Branch>(&path, query, LIMITS)
                .await
                .map_err(|it| it.error)?;
            if !listed.whole {
                return Err(Error::NotJson(
                    "there are more branches than can be read".to_owned(),
                ));
            }
            for it in listed.items {
                let name = full_ref(&it.name);
                if compiled.matches_branch(&name) {
                    found.insert(name, commit_id(&it.commit.id)?.to_owned());
                }
            }
        }
        if missing {
            // A project that is hidden from us answers the same as a branch that is gone.
            self.project(project).await?;
        }
        Ok(found)
    }

    /// See [`crate::forge::Forge::landing`].
    pub(crate) async fn landing(&self, asked: &LandingAsked<'_>) -> Result<(bool, Landing), Error> {
        let project = project_number(asked.forge_project_id)?;
        self.begin(LANDING_CALLS)?;
        // Nothing was taken away: the old commit is an ancestor of the new one.
        let forward = self.is_ancestor(project, asked.before, asked.after).await?;
        let mut incomplete: Option<String> = None;
        let commits = match self.compare(project, asked.before, asked.after, false).await {
            Ok(found) => found.commits,
            Err(error) if error.status() == Some(404) => {
                incomplete = Some("GitLab does not know the commit the branch was on before".to_owned());
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let mut new: BTreeMap<String, LandedCommit> = BTreeMap::new();
        for it in commits {
            let id = commit_id(&it.id)?.to_owned();
            let landed = LandedCommit {
                id: id.clone(),
                parents: it.parent_ids,
                title: it.title,
            };
            new.insert(id, landed);
        }
        if forward && incomplete.is_none() && !new.contains_key(asked.after) {
            incomplete = Some("GitLab's list of commits does not hold the newest one".to_owned());
        }
        let changes = self.landed_changes(project, asked, &new).await?;
        let landing = Landing {
            commits: new.into_values().collect(),
            incomplete,
            changes,
        };
        Ok((forward, landing))
    }

    /// Whether one commit is another's ancestor, or the same. Without a common history, or where one of them is gone: no.
    async fn is_ancestor(&self, project: &str, older: &str, newer: &str) -> Result<bool, Error> {
        let path = ["projects", project, "repository", "merge_base"];
        let refs = [("refs[]", older), ("refs[]", newer)];
        match self.get::<Commit>(&path, &refs).await {
            Ok(base) => Ok(base.id == older),
            Err(error) if matches!(error.status(), Some(400 | 404)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn compare(&self, project: &str, from: &str, to: &str, straight: bool) -> Result<Compare, Error> {
        let path = ["projects", project, "repository", "compare"];
        let straight = if straight { "true" } else { "false" };
        let query = [("from", from), ("to", to), ("straight", straight)];
        let call = self.call(crate::outbound::Method::Get, &path)?;
        self.client
            .fetch(call.query(query).cap(COMPARE_BYTES))
            .await?
            .json()
    }

    /// The merge requests into the branch that GitLab calls merged since, as far as they brought any of the new commits.
    async fn landed_changes(
        &self,
        project: &str,
        asked: &LandingAsked<'_>,
        new: &BTreeMap<String, LandedCommit>,
    ) -> Result<Vec<LandedChange>, Error> {
        let path = ["projects", project, "merge_requests"];
        let query = [
            ("state", "merged"),
            ("scope", "all"),
            ("target_branch", short_ref(asked.branch)),
            ("updated_after", asked.since),
            ("order_by", "updated_at"),
            ("sort", "asc"),
        ];
        let listed = self
            .pages::<MergeRequest>(&path, &query, LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "there are more merge requests than can be read".to_owned(),
            ));
        }
        let mut changes = Vec::new();
        for it in listed.items {
            let Some(head) = it.head().map(str::to_owned) else {
                continue;
            };
            let squash_then_merge = [&it.squash_commit_sha, &it.merge_commit_sha];
            let mut landed: Vec<&String> = squash_then_merge.into_iter().flatten().collect();
            landed.retain(|commit| **commit != head && new.contains_key(*commit));
            landed.dedup();
            if !it.is_merged() || (landed.is_empty() && !new.contains_key(&head)) {
                continue;
            }
            let ours = (asked.ours)(it.iid);
            let mut landed_as = Vec::new();
            for commit in landed {
                let content = match ours.as_ref() == Some(commit) {
                    true => Content::Same,
                    false => {
                        let parent = new.get(commit).and_then(|it| it.parents.first());
                        self.content(project, it.iid, &head, commit, parent).await?
                    }
                };
                landed_as.push(LandedAs {
                    commit: commit.clone(),
                    content,
                });
            }
            changes.push(LandedChange {
                number: it.iid,
                head,
                by: it.merger().cloned().map(Into::into),
                landed: landed_as,
            });
        }
        Ok(changes)
    }

    /// Whether a merge or squashed commit holds what its merge request held: the same tree as the head, or, where the
    /// branch had moved on, the same lines in the same files.
    async fn content(
        &self,
        project: &str,
        number: u64,
        head: &str,
        commit: &str,
        parent: Option<&String>,
    ) -> Result<Content, Error> {
        let unless_passing = |error: Error| match error.status() {
            Some(404) => Ok(Content::Unknown(
                "GitLab does not show the commits any more".to_owned(),
            )),
            _ => Err(error),
        };
        let straight = match self.compare(project, head, commit, true).await {
            Ok(it) => it,
            Err(error) => return unless_passing(error),
        };
        let cut = |list: &[Diff]| list.len() >= DIFFS_MAX;
        if straight.compare_timeout || cut(&straight.diffs) {
            return Ok(Content::Unknown("GitLab does not compare that much".to_owned()));
        }
        // The same tree as the head is the same content only where the branch had nothing else: beside what had come in
        // since, it takes that away.
        if straight.diffs.is_empty()
            && let Some(parent) = parent
            && self.is_ancestor(project, parent, head).await?
        {
            return Ok(Content::Same);
        }
        let number = number.to_string();
        let proposed = ["projects", project, "merge_requests", &number, "diffs"];
        let landed = ["projects", project, "repository", "commits", commit, "diff"];
        let (proposed, landed) = tokio::join!(
            self.pages::<Diff>(&proposed, &[], FILE_LIMITS),
            self.pages::<Diff>(&landed, &[], FILE_LIMITS)
        );
        let (proposed, landed) = match (proposed, landed) {
            (Ok(proposed), Ok(landed)) => (proposed, landed),
            (Err(bad), _) | (_, Err(bad)) if is_limit(&bad.error) => return Err(bad.error),
            (Err(bad), _) | (_, Err(bad)) => return unless_passing(bad.error),
        };
        // GitLab cuts these lists at its own limits and does not say so.
        if !proposed.whole || !landed.whole || cut(&proposed.items) || cut(&landed.items) {
            return Ok(Content::Unknown("it has more files than GitLab lists".to_owned()));
        }
        Ok(compared(&proposed.items, &landed.items, &straight.diffs))
    }

    /// See [`crate::forge::Forge::pusher`].
    pub(crate) async fn pusher(&self, forge_project_id: &str, branch: &str, commit: &str) -> Option<Account> {
        let project = project_number(forge_project_id).ok()?;
        let path = ["projects", project, "events"];
        let listed = self
            .pages::<Event>(&path, &[("action", "pushed")], PUSH_LIMITS)
            .await
            .ok()?;
        let found = listed.items.into_iter().find(|it| {
            it.push_data.as_ref().is_some_and(|push| {
                push.ref_type.as_deref() != Some("tag")
                    && push.reference.as_deref() == Some(short_ref(branch))
                    && push.commit_to.as_deref() == Some(commit)
            })
        });
        found?.author.map(Into::into)
    }

    /// See [`crate::forge::Forge::restless_commits`].
    pub(crate) async fn restless_commits(
        &self,
        forge_project_id: &str,
        since: &str,
    ) -> Result<BTreeSet<String>, Error> {
        #[derive(Deserialize)]
        struct Pipeline {
            sha: String,
        }
        let project = project_number(forge_project_id)?;
        self.begin(1)?;
        let path = ["projects", project, "pipelines"];
        let query = [
            ("updated_after", since),
            ("order_by", "updated_at"),
            ("sort", "asc"),
        ];
        let listed = self
            .pages::<Pipeline>(&path, &query, LIMITS)
            .await
            .map_err(|it| it.error)?;
        let commits = listed.items.into_iter().map(|it| it.sha);
        Ok(commits.filter(|it| is_commit_id(it)).collect())
    }
}

/// What a merge request changes beside what landed for it, file by file; `straight` is what differs between its head and
/// what landed.
///
/// A file that landed must be in the merge request with the same lines around the same lines. One that is in the merge
/// request and did not land was there already, or was left out.
fn compared(proposed: &[Diff], landed: &[Diff], straight: &[Diff]) -> Content {
    let by_sides = |list: &'_ [Diff]| -> BTreeMap<_, Option<String>> {
        list.iter().map(|it| (it.sides(), it.patch())).collect()
    };
    let (proposed, landed) = (by_sides(proposed), by_sides(landed));
    let other_than_head: BTreeSet<&str> = straight
        .iter()
        .flat_map(|it| [it.old_path.as_str(), it.new_path.as_str()])
        .collect();
    let is_of_head = |sides: &(String, String, _, _)| {
        !other_than_head.contains(sides.0.as_str()) && !other_than_head.contains(sides.1.as_str())
    };
    let mut other = BTreeSet::new();
    let mut silent = None;
    for (sides, patch) in &landed {
        let same = match (proposed.get(sides), patch) {
            // No text at all says nothing about what is in the file.
            (Some(Some(expected)), Some(patch)) => {
                expected == patch && (!patch.is_empty() || is_of_head(sides))
            }
            (Some(_), _) => {
                silent = Some(sides.1.clone());
                continue;
            }
            (None, _) => false,
        };
        if !same {
            other.insert(sides.1.clone());
        }
    }
    for sides in proposed.keys().filter(|it| !landed.contains_key(*it)) {
        if !is_of_head(sides) {
            other.insert(sides.1.clone());
        }
    }
    if !other.is_empty() {
        return Content::Differs(other.into_iter().take(PATHS_MAX).collect());
    }
    match silent {
        Some(path) => Content::Unknown(format!("GitLab does not show the text of {path}")),
        None => Content::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn diff(path: &str, text: &str) -> Diff {
        serde_json::from_value(json!({
            "old_path": path, "new_path": path, "a_mode": "100644", "b_mode": "100644", "diff": text,
        }))
        .expect("a diff")
    }

    #[test]
    fn the_same_lines_around_the_same_lines_are_the_same_content_wherever_they_stand() {
        let proposed = [diff("a", "@@ -1,2 +1,2 @@ one()\n x\n-old\n+new\n")];
        let landed = [diff("a", "@@ -7,2 +9,2 @@ two()\n x\n-old\n+new\n")];
        let moved = [diff("a", "@@ -1,2 +1,4 @@\n+other\n+lines\n x\n new\n")];
        assert_eq!(compared(&proposed, &landed, &moved), Content::Same);
        // The same line into another function.
        let elsewhere = [diff("a", "@@ -7,2 +9,2 @@ one()\n y\n-old\n+new\n")];
        assert_eq!(
            compared(&proposed, &elsewhere, &moved),
            Content::Differs(vec!["a".into()])
        );
    }

    #[test]
    fn a_file_that_was_left_out_is_missed_unless_it_was_there_already() {
        let a = diff("a", "@@ -1 +1 @@\n-old\n+new\n");
        let auth = diff("auth", "@@ -1 +1 @@\n-off\n+on\n");
        let proposed = [a.clone(), auth.clone()];
        assert_eq!(compared(&proposed, std::slice::from_ref(&a), &[]), Content::Same);
        assert_eq!(
            compared(&proposed, std::slice::from_ref(&a), &[auth]),
            Content::Differs(vec!["auth".into()])
        );
    }

    #[test]
    fn a_file_without_text_is_the_same_only_with_the_heads_own_content() {
        let empty = |path: &str| -> Diff {
            serde_json::from_value(json!({
                "old_path": path, "new_path": path, "a_mode": "0", "b_mode": "100644", "new_file": true, "diff": "",
            }))
            .expect("a diff")
        };
        let both = [empty("big")];
        assert_eq!(compared(&both, &both, &[]), Content::Same);
        let other = [diff("big", "@@ -1 +1 @@\n-approved\n+evil\n")];
        assert_eq!(
            compared(&both, &both, &other),
            Content::Differs(vec!["big".into()])
        );
    }

    #[test]
    fn another_line_another_file_and_another_mode_are_not() {
        let proposed = [diff("a", "@@ -1 +1 @@\n-old\n+new\n")];
        let evil = [diff("a", "@@ -1 +1,2 @@\n-old\n+new\n+evil\n")];
        assert_eq!(
            compared(&proposed, &evil, &[]),
            Content::Differs(vec!["a".into()])
        );
        let more = [proposed[0].clone(), diff("b", "@@ -0,0 +1 @@\n+evil\n")];
        assert_eq!(
            compared(&proposed, &more, &[]),
            Content::Differs(vec!["b".into()])
        );
        let mut mode = serde_json::json!({
            "old_path": "a", "new_path": "a", "a_mode": "100644", "b_mode": "100755", "diff": proposed[0].diff,
        });
        let executable: Diff = serde_json::from_value(mode.take()).expect("a diff");
        assert_eq!(
            compared(&proposed, &[executable], &[]),
            Content::Differs(vec!["a".into()])
        );
    }

    #[test]
    fn what_is_not_shown_is_not_called_the_same() {
        let large = |path: &str| -> Diff {
            serde_json::from_value(json!({
                "old_path": path, "new_path": path, "a_mode": "100644", "b_mode": "100644", "too_large": true,
            }))
            .expect("a diff")
        };
        let Content::Unknown(why) = compared(&[large("a")], &[large("a")], &[]) else {
            panic!("it can't be known");
        };
        assert!(why.contains('a'), "{why}");
    }
}
