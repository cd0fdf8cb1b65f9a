//! The merge queue of a branch (10.0 and later): Bitbucket prepares the commit that it is about to land on a branch of its
//! own, and asks the required builds of that one. No call of its API tells which commit that is, or what is queued, so it is
//! found by what it is: a merge of the target, or of another prepared commit, with the head of an open pull request, that
//! holds exactly what that pull request proposes.

use crate::domain::branch::Content;
use crate::forge::QueuedGroup;
use crate::forge::bitbucket_data_center::contributors::Commit;
use crate::forge::bitbucket_data_center::landing::Branch;
use crate::forge::bitbucket_data_center::repository::{Place, lock};
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, Page};
use crate::forge::git::is_commit_id;
use crate::outbound::{Error, Method};
use std::collections::{BTreeMap, HashMap};

/// The first version with merge queues.
const FIRST_MAJOR: u32 = 10;
/// Branches looked at, those that moved last.
const BRANCHES_MAX: &str = "100";
/// Commits whose shape is kept.
const KEPT_MAX: usize = 4096;
/// Prepared commits that stand upon another.
const DEEPEST: usize = 100;

/// A commit's parents, and what was found of its content.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    parents: Vec<String>,
    /// It holds what its second parent proposes and nothing else; `None`: not looked at.
    sound: Option<bool>,
}

impl BitbucketDataCenter {
    /// See [`crate::forge::Forge::queued_groups`].
    pub(crate) async fn queued_groups(
        &self,
        forge_project_id: &str,
        branch: &str,
    ) -> Result<Vec<QueuedGroup>, Error> {
        self.begin(2)?;
        if self.who().await?.major < FIRST_MAJOR {
            return Ok(Vec::new());
        }
        let place = self.place(forge_project_id).await?;
        let call = self.in_repository(Method::Get, "api", &place, &["branches"])?;
        let call = call.query([("orderBy", "MODIFICATION"), ("limit", BRANCHES_MAX)]);
        let page: Page<Branch> = self.fetch_at(&place, call).await?.json()?;
        let Some(tip) = page.values.iter().find(|it| it.id == branch) else {
            return Ok(Vec::new());
        };
        let tip = tip.latest_commit.clone();
        let open = self.open_at(&place).await?;
        // A commit that somebody proposes by itself has a status and a request of its own.
        let own: Vec<&str> = open.iter().map(|it| it.head.as_str()).collect();
        let heads: BTreeMap<&str, u64> = open
            .iter()
            .filter(|it| it.target == branch && !it.draft && !it.head.is_empty())
            .map(|it| (it.head.as_str(), it.number))
            .collect();
        if heads.is_empty() {
            return Ok(Vec::new());
        }
        let mut shapes: HashMap<String, Shape> = HashMap::new();
        for it in &page.values {
            let commit = &it.latest_commit;
            if *commit == tip || own.contains(&commit.as_str()) || !is_commit_id(commit) {
                continue;
            }
            let shape = self.shape(&place, commit).await?;
            let merges =
                matches!(shape.parents.as_slice(), [_, second] if heads.contains_key(second.as_str()));
            if merges {
                shapes.insert(commit.clone(), shape);
            }
        }
        let mut groups = Vec::new();
        for commit in shapes.keys() {
            let Some(members) = members(commit, &tip, &shapes, &heads) else {
                continue;
            };
            let mut known = true;
            for (_, _, made) in &members {
                known &= self.is_sound(&place, made).await?;
            }
            groups.push(QueuedGroup {
                head: commit.clone(),
                members: members
                    .into_iter()
                    .map(|(number, head, _)| (number, head))
                    .collect(),
                known,
            });
        }
        groups.sort_by_key(|it| it.members.len());
        Ok(groups)
    }

    async fn shape(&self, place: &Place, commit: &str) -> Result<Shape, Error> {
        if let Some(known) = lock(&self.kept.prepared).get(commit).cloned() {
            return Ok(known);
        }
        let found: Commit = self.get(place, &["commits", commit], &[]).await?;
        let shape = Shape {
            parents: found.parents.into_iter().map(|it| it.id).collect(),
            sound: None,
        };
        self.keep_shape(commit, shape.clone());
        Ok(shape)
    }

    fn keep_shape(&self, commit: &str, shape: Shape) {
        let mut kept = lock(&self.kept.prepared);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(commit.to_owned(), shape);
    }

    /// Whether a prepared commit holds what its second parent proposes and nothing else.
    async fn is_sound(&self, place: &Place, commit: &str) -> Result<bool, Error> {
        let mut shape = self.shape(place, commit).await?;
        if let Some(sound) = shape.sound {
            return Ok(sound);
        }
        let [first, second] = shape.parents.as_slice() else {
            return Ok(false);
        };
        let content = self.content(place, second, commit, Some(first)).await?;
        let sound = content == Content::Same;
        shape.sound = Some(sound);
        self.keep_shape(commit, shape);
        Ok(sound)
    }
}

/// The pull requests that a prepared commit holds, first to last, with the commit that brought each; `None` if it does not
/// stand upon the target's tip.
fn members(
    commit: &str,
    tip: &str,
    shapes: &HashMap<String, Shape>,
    heads: &BTreeMap<&str, u64>,
) -> Option<Vec<(u64, String, String)>> {
    let mut found = Vec::new();
    let mut at = commit;
    for _ in 0..DEEPEST {
        let [first, second] = shapes.get(at)?.parents.as_slice() else {
            return None;
        };
        found.push((*heads.get(second.as_str())?, second.clone(), at.to_owned()));
        if first == tip {
            found.reverse();
            return Some(found);
        }
        at = first;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_commit_holds_everything_beneath_it() {
        let shape = |parents: [&str; 2]| Shape {
            parents: parents.map(str::to_owned).to_vec(),
            sound: None,
        };
        let shapes = HashMap::from([
            ("m1".to_owned(), shape(["tip", "a"])),
            ("m2".to_owned(), shape(["m1", "b"])),
            ("old".to_owned(), shape(["before", "a"])),
        ]);
        let heads = BTreeMap::from([("a", 1), ("b", 2)]);
        let numbers = |commit| {
            let found = members(commit, "tip", &shapes, &heads)?;
            Some(found.into_iter().map(|it| it.0).collect::<Vec<_>>())
        };
        assert_eq!(numbers("m1"), Some(vec![1]));
        assert_eq!(numbers("m2"), Some(vec![1, 2]));
        assert_eq!(numbers("old"), None, "the target has moved on");
        assert_eq!(numbers("x"), None);
    }
}
