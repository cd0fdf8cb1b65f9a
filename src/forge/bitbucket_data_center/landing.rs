//! Where gated branches stand, and what came into them: the commits between two looks, the pull requests they came from,
//! and whether what landed is what was in the pull request.

use crate::domain::branch::{Content, LandedAs, LandedChange, LandedCommit, Landing};
use crate::domain::facts::Account;
use crate::domain::policy::NamePattern;
use crate::forge::LandingAsked;
use crate::forge::bitbucket_data_center::contributors::{Commit, RefActivity};
use crate::forge::bitbucket_data_center::files::Changed;
use crate::forge::bitbucket_data_center::pull_request::PullRequest;
use crate::forge::bitbucket_data_center::read::{COMMIT_LIMITS, FILE_LIMITS};
use crate::forge::bitbucket_data_center::repository::Place;
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, Page, Went};
use crate::forge::git::{commit_id, full_ref};
use crate::forge::pages::{Limits, is_limit};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Calls that looking at what came into a branch takes for one merge: comparison, pull requests, who, content.
const LANDING_CALLS: u32 = 6;
/// Pages of branches.
const BRANCH_LIMITS: Limits = Limits {
    pages: 50,
    bytes: 8 * 1024 * 1024,
};
/// Pages of merged pull requests.
const MERGED_PAGES: u32 = 50;
/// Paths kept of a difference.
const PATHS_MAX: usize = 50;
/// Files whose lines are compared one by one.
const COMPARED_MAX: usize = 50;
/// Commits of a pull request that is looked for as a row of commits of its own.
const ROW_MAX: usize = 250;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Branch {
    /// Full ref.
    pub(super) id: String,
    pub(super) latest_commit: String,
}

/// The lines of one file's change.
#[derive(Deserialize)]
struct Diffs {
    #[serde(default)]
    diffs: Vec<Diff>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Diff {
    #[serde(default)]
    hunks: Vec<Hunk>,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    binary: bool,
}

#[derive(Deserialize)]
struct Hunk {
    #[serde(default)]
    segments: Vec<Segment>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    lines: Vec<Line>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    line: String,
    #[serde(default)]
    truncated: bool,
}

impl BitbucketDataCenter {
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
                match self.tip(&place, &full_ref(pattern)).await {
                    Ok(tip) => drop(found.insert(full_ref(pattern), tip)),
                    Err(error) if matches!(error.status(), Some(400 | 404)) => missing = true,
                    Err(error) => return Err(error),
                }
                continue;
            }
            let query = [("filterText", literal.as_str())];
            let query = if literal.is_empty() {
                &query[..0]
            } else {
                &query[..]
            };
            let listed = self
                .pages::<Branch>(&place, &["branches"], query, BRANCH_LIMITS)
                .await
                .map_err(|it| it.error)?;
            if !listed.whole {
                return Err(Error::NotJson(
                    "there are more branches than can be read".to_owned(),
                ));
            }
            for it in listed.items {
                if compiled.matches_branch(&it.id) {
                    found.insert(it.id, commit_id(&it.latest_commit)?.to_owned());
                }
            }
        }
        if missing {
            // A repository that is hidden from us, or renamed, answers the same as a branch that is gone.
            self.doubt_place(place.id);
            self.project(forge_project_id).await?;
        }
        Ok(found)
    }

    /// See [`crate::forge::Forge::landing`].
    pub(crate) async fn landing(&self, asked: &LandingAsked<'_>) -> Result<(bool, Landing), Error> {
        self.begin(LANDING_CALLS)?;
        let place = self.place(asked.forge_project_id).await?;
        let mut incomplete: Option<String> = None;
        // Nothing was taken away: the old commit is an ancestor of the new one.
        let forward = self.is_ancestor(&place, asked.before, asked.after).await?;
        let query = [("from", asked.after), ("to", asked.before)];
        let listed = self
            .pages::<Commit>(&place, &["compare", "commits"], &query, COMMIT_LIMITS)
            .await;
        let commits = match listed {
            Ok(listed) => {
                if !listed.whole {
                    incomplete = Some("there are more commits than Bitbucket lists".to_owned());
                }
                listed.items
            }
            Err(bad) if bad.error.status() == Some(404) => {
                incomplete = Some("Bitbucket does not know the commit the branch was on before".to_owned());
                Vec::new()
            }
            Err(bad) => return Err(bad.error),
        };
        let mut new: BTreeMap<String, Commit> = BTreeMap::new();
        for it in commits {
            new.insert(commit_id(&it.id)?.to_owned(), it);
        }
        if forward && incomplete.is_none() && !new.contains_key(asked.after) {
            incomplete = Some("Bitbucket's list of commits does not hold the newest one".to_owned());
        }
        let changes = self.landed_changes(&place, asked, &new).await?;
        let commits = new.into_iter().map(|(id, it)| LandedCommit {
            id,
            title: it.title().to_owned(),
            parents: it.parents.into_iter().map(|it| it.id).collect(),
        });
        let landing = Landing {
            commits: commits.collect(),
            incomplete,
            changes,
        };
        Ok((forward, landing))
    }

    /// Whether one commit is another's ancestor, or the same. Where one of them is gone: no.
    pub(super) async fn is_ancestor(&self, place: &Place, older: &str, newer: &str) -> Result<bool, Error> {
        if older == newer {
            return Ok(true);
        }
        let call = self.in_repository(Method::Get, "api", place, &["compare", "commits"])?;
        let call = call.query([("from", older), ("to", newer), ("limit", "1")]);
        match self.fetch(call).await {
            Ok(reply) => {
                let page: Page<Commit> = reply.json()?;
                Ok(page.values.is_empty() && page.is_last_page)
            }
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The pull requests into the branch that Bitbucket calls merged since, as far as they brought any of the new commits.
    /// Versions that do not know the order by their end give another one: then all are read.
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
        let mut merged: Vec<PullRequest> = Vec::new();
        let (mut start, mut last, mut falls) = (0, i64::MAX, true);
        for page in 1.. {
            let from = start.to_string();
            let call = self.in_repository(Method::Get, "api", place, &["pull-requests"])?;
            let call = call.query([
                ("state", "MERGED"),
                ("at", asked.branch),
                ("direction", "INCOMING"),
                ("order", "CLOSED_DATE"),
                ("limit", "100"),
                ("start", from.as_str()),
            ]);
            let reply = self.fetch_at(place, call.cap(FILE_LIMITS.bytes)).await?;
            let mut found = Vec::new();
            let went = reply.json::<Page<PullRequest>>()?.take(start, &mut found);
            let mut older = false;
            for it in found {
                let closed = it.closed().unwrap_or(i64::MAX);
                falls &= closed <= last;
                last = closed;
                if closed < since.as_millisecond() {
                    older = true;
                } else {
                    merged.push(it);
                }
            }
            match went {
                Went::ToTheEnd => break,
                Went::On(_) if older && falls => break,
                Went::On(next) if page < MERGED_PAGES => start = next,
                Went::On(_) | Went::Short => {
                    return Err(Error::NotJson(
                        "there are more merged pull requests than can be read".to_owned(),
                    ));
                }
            }
        }
        let mut changes = Vec::new();
        for it in merged {
            let head = commit_id(it.head())?.to_owned();
            let commit = it.landed().map(str::to_owned);
            let landed_here = commit.as_ref().is_some_and(|it| new.contains_key(it));
            if it.target() != asked.branch || (!landed_here && !new.contains_key(&head)) {
                continue;
            }
            let landed = match commit {
                Some(commit) if landed_here && commit != head => {
                    self.landed_as(place, asked, &it, &commit, new).await?
                }
                _ => Vec::new(),
            };
            changes.push(LandedChange {
                number: it.number,
                by: self.merger(place, it.number).await?.map(Into::into),
                head,
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
        let head = commit_id(change.head())?;
        let parents_of = |of: &str| -> Vec<String> {
            let known = new
                .get(of)
                .map(|it| it.parents.iter().map(|it| it.id.clone()).collect());
            known.unwrap_or_default()
        };
        let parents = parents_of(commit);
        // The first parent is what it was merged into.
        let with_head = parents.iter().skip(1).any(|it| it == head);
        let ours = (asked.ours)(change.number).as_deref() == Some(commit);
        if ours && with_head {
            return Ok(vec![LandedAs {
                commit: commit.to_owned(),
                content: Content::Same,
            }]);
        }
        let content = self
            .content(place, head, commit, parents.first().map(String::as_str))
            .await?;
        let one = |content: Content| {
            Ok(vec![LandedAs {
                commit: commit.to_owned(),
                content,
            }])
        };
        if with_head {
            return one(content);
        }
        // Made anew: below a merge commit, or as the newest ones themselves.
        let (mut row, mut next) = match parents.as_slice() {
            [_, second] => (vec![commit.to_owned()], Some(second.clone())),
            [_] if content == Content::Same => return one(content),
            [_] => (Vec::new(), Some(commit.to_owned())),
            _ => return one(content),
        };
        let merge = row.len();
        let count = self.commits_of(place, change.number).await?;
        let mut below = None;
        while let Some(it) = next
            .take()
            .filter(|it| new.contains_key(it) && row.len() - merge < count)
        {
            match parents_of(&it).as_slice() {
                [only] => {
                    below = Some(only.clone());
                    next = Some(only.clone());
                }
                _ => break,
            }
            row.push(it);
        }
        let whole = count > 0 && count <= ROW_MAX && row.len() - merge == count;
        let rebuilt = match (merge, whole) {
            // The merge commit holds the row, and its content was compared.
            (1, _) => content.clone(),
            (_, true) => self.content(place, head, commit, below.as_deref()).await?,
            _ => content.clone(),
        };
        if !whole || rebuilt != Content::Same {
            return one(if rebuilt == Content::Same {
                rebuilt
            } else {
                content
            });
        }
        Ok(row
            .into_iter()
            .map(|commit| LandedAs {
                commit,
                content: Content::Same,
            })
            .collect())
    }

    /// How many commits a pull request had; 0 if that can't be told.
    async fn commits_of(&self, place: &Place, number: u64) -> Result<usize, Error> {
        let number = number.to_string();
        let path = ["pull-requests", number.as_str(), "commits"];
        match self.pages::<Commit>(place, &path, &[], COMMIT_LIMITS).await {
            Ok(listed) if listed.whole => Ok(listed.items.len()),
            Ok(_) => Ok(0),
            Err(bad) if is_limit(&bad.error) => Err(bad.error),
            Err(_) => Ok(0),
        }
    }

    /// Whether what lies between `parent` and `commit` is what the pull request held at `head`: the same files as there, or,
    /// where the branch had moved on, the same content or the same lines in the same files.
    pub(super) async fn content(
        &self,
        place: &Place,
        head: &str,
        commit: &str,
        parent: Option<&str>,
    ) -> Result<Content, Error> {
        let unknown = |text: &str| Ok(Content::Unknown(text.to_owned()));
        let Some(parent) = parent else {
            return unknown("Bitbucket does not tell what it was made from");
        };
        let gone = "Bitbucket does not show the commits any more";
        let base_call = self
            .in_repository(Method::Get, "api", place, &["commits", head, "merge-base"])?
            .query([("otherCommitId", parent)]);
        let base = match self.one_or_none(place, base_call).await {
            Ok(Some(base)) => base,
            Ok(None) => return unknown("it has no commit in common with what it was merged into"),
            Err(error) if error.status() == Some(404) => return unknown(gone),
            Err(error) => return Err(error),
        };
        let straight = match self.changes(place, head, commit).await {
            Ok((files, true)) => paths(&files),
            Ok((_, false)) => return unknown("it has more files than Bitbucket lists"),
            Err(error) if error.status() == Some(404) => return unknown(gone),
            Err(error) => return Err(error),
        };
        // Where the branch had nothing else, what landed has to be the head, file by file.
        if base == parent {
            return Ok(match straight.is_empty() {
                true => Content::Same,
                false => Content::Differs(straight.into_iter().take(PATHS_MAX).collect()),
            });
        }
        let compared = tokio::try_join!(
            self.changes(place, &base, head),
            self.changes(place, parent, commit),
            self.changes(place, &base, parent),
        );
        let ((proposed, all_proposed), (landed, all_landed), (beside, all_beside)) = match compared {
            Ok(all) => all,
            Err(error) if error.status() == Some(404) => return unknown(gone),
            Err(error) => return Err(error),
        };
        if !all_proposed || !all_landed || !all_beside {
            return unknown("it has more files than Bitbucket lists");
        }
        // A file that nothing else had touched has to be the head's, mode and all.
        let beside = paths(&beside);
        let own = paths(&proposed);
        let odd: Vec<String> = own
            .into_iter()
            .filter(|it| straight.contains(it) && !beside.contains(it))
            .collect();
        if !odd.is_empty() {
            return Ok(Content::Differs(odd.into_iter().take(PATHS_MAX).collect()));
        }
        let apart = match sorted(&proposed, &landed) {
            Ok(apart) => apart,
            Err(paths) => return Ok(Content::Differs(paths)),
        };
        if apart.len() > COMPARED_MAX {
            return unknown("too many of its files had moved on beside it");
        }
        let mut other = Vec::new();
        for path in apart {
            let both = tokio::try_join!(
                self.lines(place, &base, head, &path),
                self.lines(place, parent, commit, &path)
            );
            match both? {
                (Some(a), Some(b)) if a == b => {}
                (Some(_), Some(_)) => other.push(path),
                _ => {
                    let path = crate::domain::text::visible(&path);
                    return unknown(&format!("Bitbucket shows no lines of {path}"));
                }
            }
        }
        match other.is_empty() {
            true => Ok(Content::Same),
            false => Ok(Content::Differs(other)),
        }
    }

    /// The files in which two commits differ, and whether those are all.
    async fn changes(&self, place: &Place, from: &str, to: &str) -> Result<(Vec<Changed>, bool), Error> {
        let query = [("since", from), ("until", to)];
        let listed = self
            .pages::<Changed>(place, &["changes"], &query, FILE_LIMITS)
            .await
            .map_err(|it| it.error)?;
        Ok((listed.items, listed.whole))
    }

    /// The lines of one file that differ between two commits, without where they stand; `None` where Bitbucket does not
    /// show all of them.
    async fn lines(
        &self,
        place: &Place,
        from: &str,
        to: &str,
        path: &str,
    ) -> Result<Option<Vec<(String, String)>>, Error> {
        let segments: Vec<&str> = ["commits", to, "diff"]
            .into_iter()
            .chain(path.split('/'))
            .collect();
        let call = self.in_repository(Method::Get, "api", place, &segments)?;
        let call = call.query([("since", from), ("contextLines", "3"), ("withComments", "false")]);
        let found: Diffs = match self.fetch_at(place, call.cap(FILE_LIMITS.bytes)).await {
            Ok(reply) => reply.json()?,
            Err(error) if matches!(error.status(), Some(400 | 404)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(lines_of(found))
    }

    /// See [`crate::forge::Forge::pusher`].
    pub(crate) async fn pusher(&self, forge_project_id: &str, branch: &str, commit: &str) -> Option<Account> {
        let place = self.place(forge_project_id).await.ok()?;
        let call = self
            .in_repository(Method::Get, "api", &place, &["ref-change-activities"])
            .ok()?;
        let call = call.query([("ref", branch), ("limit", "100")]);
        let page: Page<RefActivity> = self.fetch(call).await.ok()?.json().ok()?;
        let found = page
            .values
            .into_iter()
            .find(|it| it.ref_change.to_hash == commit && it.ref_change.ref_id == branch);
        found?.user.map(Into::into)
    }
}

/// The changed lines in order, each with what it is; `None` where anything of them is left out.
fn lines_of(found: Diffs) -> Option<Vec<(String, String)>> {
    if found.truncated || found.diffs.is_empty() {
        return None;
    }
    let mut lines = Vec::new();
    for diff in found.diffs {
        if diff.truncated || diff.binary || diff.hunks.is_empty() {
            return None;
        }
        for hunk in diff.hunks {
            if hunk.truncated {
                return None;
            }
            lines.push(("HUNK".to_owned(), String::new()));
            for segment in hunk.segments {
                if segment.truncated || segment.lines.iter().any(|it| it.truncated) {
                    return None;
                }
                lines.extend(
                    segment
                        .lines
                        .into_iter()
                        .map(|it| (segment.kind.clone(), it.line)),
                );
            }
        }
    }
    Some(lines)
}

/// All paths in a list, before and after.
fn paths(listed: &[Changed]) -> BTreeSet<String> {
    let sides = listed.iter().map(Changed::sides);
    sides.flat_map(|(_, old, new)| [old, new]).collect()
}

/// The paths of the files that stand in both lists with different content.
///
/// # Errors
/// The paths of those that stand in one list alone.
fn sorted(proposed: &[Changed], landed: &[Changed]) -> Result<Vec<String>, Vec<String>> {
    let by_sides: BTreeMap<_, &Changed> = proposed.iter().map(|it| (it.sides(), it)).collect();
    let (mut apart, mut other) = (Vec::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    for it in landed {
        let key = it.sides();
        let Some(expected) = by_sides.get(&key) else {
            other.insert(it.path());
            continue;
        };
        seen.insert(key);
        let same = it.content_id.is_some() && it.content_id == expected.content_id;
        if it.modes() != expected.modes() {
            other.insert(it.path());
        } else if !same {
            apart.push(it.path());
        }
    }
    for key in by_sides.keys().filter(|it| !seen.contains(*it)) {
        other.insert(key.2.clone());
    }
    match other.is_empty() {
        true => Ok(apart),
        false => Err(other.into_iter().take(PATHS_MAX).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(name: &str, content: &str) -> Changed {
        serde_json::from_value(
            json!({"contentId": content, "path": {"toString": name}, "type": "MODIFY",
            "executable": false, "srcExecutable": false}),
        )
        .expect("a file")
    }

    #[test]
    fn what_landed_is_held_against_what_was_proposed() {
        let one = |content| vec![file("a", content)];
        assert_eq!(sorted(&one("1"), &one("1")), Ok(vec![]));
        assert_eq!(
            sorted(&one("1"), &one("2")),
            Ok(vec!["a".to_owned()]),
            "its lines tell"
        );
        assert_eq!(sorted(&one("1"), &[]), Err(vec!["a".to_owned()]), "left out");
        assert_eq!(
            sorted(&[], &one("1")),
            Err(vec!["a".to_owned()]),
            "nobody proposed it"
        );
        let other = vec![file("a", "1"), file("b", "1")];
        assert_eq!(sorted(&one("1"), &other), Err(vec!["b".to_owned()]));
    }

    #[test]
    fn lines_count_only_if_all_are_shown() {
        let diff = |fields: serde_json::Value| -> Diffs {
            let mut segment = json!({"type": "ADDED", "lines": [{"line": "x"}]});
            for (name, value) in fields.as_object().expect("an object") {
                segment[name] = value.clone();
            }
            serde_json::from_value(json!({"diffs": [{"hunks": [{"segments": [segment]}]}]})).expect("a diff")
        };
        let whole = lines_of(diff(json!({}))).expect("all of it");
        assert_eq!(whole[1], ("ADDED".to_owned(), "x".to_owned()));
        assert!(lines_of(diff(json!({"truncated": true}))).is_none());
        assert!(lines_of(diff(json!({"lines": [{"line": "x", "truncated": true}]}))).is_none());
        for nothing in [
            json!({}),
            json!({"diffs": [{"binary": true}]}),
            json!({"diffs": [{}]}),
        ] {
            assert!(lines_of(serde_json::from_value(nothing).expect("a diff")).is_none());
        }
    }
}
