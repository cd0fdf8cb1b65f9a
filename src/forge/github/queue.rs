//! The merge queue of a branch: which commits GitHub is about to land, and which pull requests each of them holds.

use crate::forge::QueuedGroup;
use crate::forge::github::graphql::Nodes;
use crate::forge::github::{GitHub, is_commit_id, short_ref};
use crate::outbound::Error;
use serde::Deserialize;
use serde_json::json;

/// The entries of a branch's queue, first to last.
pub(super) const QUEUE: &str = "\
query($owner: String!, $name: String!, $branch: String!) {
  repository(owner: $owner, name: $name) {
    mergeQueue(branch: $branch) {
      entries(first: 100) {
        nodes { position headCommit { oid } pullRequest { number headRefOid } }
      }
    }
  }
}";

#[derive(Deserialize)]
struct Answer {
    repository: Option<Repository>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Repository {
    merge_queue: Option<Queue>,
}

#[derive(Deserialize)]
struct Queue {
    entries: Nodes<Entry>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    position: u64,
    head_commit: Option<Oid>,
    pull_request: Option<Queued>,
}

#[derive(Clone, Deserialize)]
struct Oid {
    oid: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Queued {
    number: u64,
    head_ref_oid: String,
}

impl GitHub {
    /// See [`crate::forge::Forge::queued_groups`].
    pub(crate) async fn queued_groups(
        &self,
        forge_project_id: &str,
        branch: &str,
    ) -> Result<Vec<QueuedGroup>, Error> {
        self.begin(1)?;
        let place = self.place(forge_project_id).await?;
        let variables = json!({ "owner": place.owner, "name": place.name, "branch": short_ref(branch) });
        let answer: Answer = self.ask(&place, QUEUE, variables).await?;
        let queue = answer.repository.and_then(|it| it.merge_queue);
        Ok(queue.map_or_else(Vec::new, |it| groups(it.entries.nodes)))
    }
}

/// Each entry's commit holds its own pull request and all that stand before it.
fn groups(mut all: Vec<Entry>) -> Vec<QueuedGroup> {
    all.sort_by_key(|it| it.position);
    let mut before: Vec<(u64, String)> = Vec::new();
    // An entry that hides what it holds spoils all that stand behind it.
    let mut known = true;
    let mut groups = Vec::new();
    for it in all {
        match it.pull_request {
            Some(it) if is_commit_id(&it.head_ref_oid) => before.push((it.number, it.head_ref_oid)),
            _ => known = false,
        }
        if let Some(head) = it.head_commit.map(|it| it.oid).filter(|it| is_commit_id(it)) {
            groups.push(QueuedGroup {
                head,
                members: before.clone(),
                known,
            });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_holds_everything_before_it() {
        let sha = |n: u8| n.to_string().repeat(40);
        let entries: Vec<Entry> = serde_json::from_value(json!([
            {"position": 2, "headCommit": {"oid": sha(8)}, "pullRequest": {"number": 12, "headRefOid": sha(2)}},
            {"position": 1, "headCommit": {"oid": sha(7)}, "pullRequest": {"number": 11, "headRefOid": sha(1)}},
            {"position": 3, "headCommit": null, "pullRequest": {"number": 13, "headRefOid": sha(3)}},
            {"position": 4, "headCommit": {"oid": sha(9)}, "pullRequest": null},
        ]))
        .expect("a queue");
        let found = groups(entries);
        let members: Vec<Vec<u64>> = found
            .iter()
            .map(|it| it.members.iter().map(|it| it.0).collect())
            .collect();
        assert_eq!(members, [vec![11], vec![11, 12], vec![11, 12, 13]]);
        assert_eq!(
            found.iter().map(|it| it.known).collect::<Vec<_>>(),
            [true, true, false]
        );
    }
}
