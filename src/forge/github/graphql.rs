//! GraphQL, for what REST has nothing: the statuses of all open pull requests at once, and the merge queue.

use crate::forge::github::repository::{Place, lock};
use crate::forge::github::{GitHub, dressed, is_commit_id};
use crate::outbound::{Call, Error, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// Pages of open pull requests whose statuses are looked at.
const PAGES_MAX: u32 = 20;
/// What our statuses begin with.
const PREFIX: &str = "signedapproval/";

/// The newest status of each context on the heads of open pull requests.
pub(super) const STATUSES: &str = "\
query($owner: String!, $name: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    pullRequests(states: OPEN, first: 100, after: $after, orderBy: {field: UPDATED_AT, direction: DESC}) {
      pageInfo { hasNextPage endCursor }
      nodes {
        headRefOid
        commits(last: 1) {
          nodes { commit { oid status { contexts { context state createdAt creator { login } } } } }
        }
      }
    }
  }
}";

/// Puts a pull request into its branch's merge queue, at one head.
pub(super) const ENQUEUE: &str = "\
mutation($pullRequest: ID!, $head: GitObjectID!) {
  enqueuePullRequest(input: {pullRequestId: $pullRequest, expectedHeadOid: $head}) {
    mergeQueueEntry { id }
  }
}";

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Deserialize)]
struct OfRepository<T> {
    repository: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenOnes {
    pull_requests: OpenPage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenPage {
    page_info: PageInfo,
    nodes: Vec<OpenOne>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenOne {
    head_ref_oid: String,
    commits: Nodes<OfCommit>,
}

#[derive(Deserialize)]
pub(super) struct Nodes<T> {
    pub(super) nodes: Vec<T>,
}

#[derive(Deserialize)]
struct OfCommit {
    commit: WithStatus,
}

#[derive(Deserialize)]
struct WithStatus {
    oid: String,
    status: Option<Statuses>,
}

#[derive(Deserialize)]
struct Statuses {
    contexts: Vec<Context>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    context: String,
    state: String,
    created_at: String,
    creator: Option<Login>,
}

#[derive(Deserialize)]
struct Login {
    login: String,
}

impl GitHub {
    /// Asks, and reads the answer. GraphQL answers 200 also to what it refuses.
    ///
    /// # Errors
    /// As any call; a refusal as the status REST would have answered with.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        place: &Place,
        document: &str,
        variables: Value,
    ) -> Result<T, Error> {
        let call = dressed(Call::new(Method::Post, self.graphql.clone()))
            .json(&json!({ "query": document, "variables": variables }))
            .cap(super::BYTES);
        let reply = self.fetch_at(place, call).await?;
        let answer: Answer<T> = reply.json()?;
        if let Some(fault) = answer.errors.first() {
            let code = match fault.kind.as_str() {
                "RATE_LIMITED" => 429,
                "NOT_FOUND" => 404,
                "FORBIDDEN" | "INSUFFICIENT_SCOPES" => 403,
                _ => 422,
            };
            return Err(Error::Status {
                code,
                retry_after: reply.told_wait(),
                excerpt: fault.message.clone(),
            });
        }
        answer
            .data
            .ok_or_else(|| Error::NotJson("an answer without data".to_owned()))
    }

    /// Heads of open pull requests whose statuses of our name are others than at the last look; at the first look all that
    /// have any.
    pub(crate) async fn restless_commits(&self, forge_project_id: &str) -> Result<BTreeSet<String>, Error> {
        self.begin(1)?;
        let place = self.place(forge_project_id).await?;
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let variables = json!({ "owner": place.owner, "name": place.name, "after": after });
            let found: OfRepository<OpenOnes> = self.ask(&place, STATUSES, variables).await?;
            let page = found
                .repository
                .ok_or_else(|| Error::NotJson("an answer without the repository".to_owned()))?
                .pull_requests;
            for it in page.nodes {
                let Some(commit) = it.commits.nodes.into_iter().next().map(|it| it.commit) else {
                    continue;
                };
                if commit.oid != it.head_ref_oid || !is_commit_id(&commit.oid) {
                    continue;
                }
                let shown = commit.status.map(|it| it.contexts).unwrap_or_default();
                let mut ours: Vec<String> = shown
                    .into_iter()
                    .filter(|it| it.context.to_ascii_lowercase().starts_with(PREFIX))
                    .map(|it| {
                        let by = it.creator.map(|it| it.login).unwrap_or_default();
                        format!("{} {} {} {by}", it.context, it.state, it.created_at)
                    })
                    .collect();
                if !ours.is_empty() {
                    ours.sort();
                    seen.insert(commit.oid, ours.join("\n"));
                }
            }
            after = page.page_info.end_cursor.filter(|_| page.page_info.has_next_page);
            if after.is_none() {
                break;
            }
        }
        let mut kept = lock(&self.kept.statuses);
        let before = kept.insert(place.id, seen.clone()).unwrap_or_default();
        Ok(seen
            .into_iter()
            .filter(|(commit, shown)| before.get(commit) != Some(shown))
            .map(|(commit, _)| commit)
            .collect())
    }

    /// Puts a pull request into its merge queue.
    pub(super) async fn put_into_queue(&self, place: &Place, node: &str, head: &str) -> Result<(), Error> {
        let variables = json!({ "pullRequest": node, "head": head });
        let answer: Result<Value, Error> = self.ask(place, ENQUEUE, variables).await;
        match answer {
            Ok(_) => Ok(()),
            // It is in there already.
            Err(Error::Status { excerpt, .. }) if excerpt.contains("already in the queue") => Ok(()),
            Err(error) => Err(error),
        }
    }
}
