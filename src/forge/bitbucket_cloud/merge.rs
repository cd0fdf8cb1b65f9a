//! Merging. Bitbucket Cloud takes no commit along with the wish to merge, so nothing pins what is merged: the head is read in
//! full right before, and what was merged is looked at right after. Somebody who pushes in between is found, not stopped.

use crate::domain::facts::ChangeState;
use crate::forge::MergeOutcome;
use crate::forge::bitbucket::with_words;
use crate::forge::bitbucket_cloud::pull_request::{Branch, PullRequest};
use crate::forge::bitbucket_cloud::{BitbucketCloud, TOOK_TOO_LONG};
use crate::forge::git::own_commit_id;
use crate::outbound::{Error, Method, Outcome, Reply};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// A merge writes to a repository, which takes longer than any other call.
const MERGE_TIME: Duration = Duration::from_secs(60);
/// A merge that takes Bitbucket long is asked for so often, so far apart.
const POLLS: u32 = 20;
const POLL: Duration = Duration::from_secs(1);

/// A merge that is under way (`…/merge/task-status/{task_id}`).
#[derive(Deserialize)]
struct Task {
    task_status: String,
}

impl BitbucketCloud {
    /// Merges if the head is still `sha`, as far as can be seen right before.
    pub(crate) async fn merge(
        &self,
        forge_project_id: &str,
        number: u64,
        sha: &str,
        target: &str,
    ) -> MergeOutcome {
        match self.try_merge(forge_project_id, number, sha, target).await {
            Ok(outcome) => outcome,
            Err(error) => not_merged(&error),
        }
    }

    async fn try_merge(
        &self,
        repository: &str,
        number: u64,
        sha: &str,
        target: &str,
    ) -> Result<MergeOutcome, Error> {
        let sha = own_commit_id(sha)?;
        let now = self.pull_request(repository, number).await?;
        match now.state()? {
            ChangeState::Merged => return self.landed_already(repository, &now, sha).await,
            ChangeState::Closed => {
                return Ok(MergeOutcome::NotReady {
                    reason: "it was declined".to_owned(),
                });
            }
            ChangeState::Open => {}
        }
        if now.queued == Some(true) {
            return Ok(MergeOutcome::NotReady {
                reason: "It is in Bitbucket's merge queue, which merges it when its turn comes.".to_owned(),
            });
        }
        if now.target_ref() != target || self.head_of(repository, &now).await? != sha {
            return Ok(MergeOutcome::HeadMoved);
        }
        let text = number.to_string();
        let mut body = json!({ "type": "pullrequest" });
        if let Some(strategy) = strategy(&now.destination.branch) {
            body["merge_strategy"] = json!(strategy);
        }
        let call = self
            .in_repository(Method::Post, repository, &["pullrequests", &text, "merge"])?
            .json(&body)
            .limit(MERGE_TIME);
        match self.fetch(call).await {
            Ok(reply) if reply.status == 202 => self.wait_for(repository, &text, &reply).await?,
            Ok(_) => {}
            // Bitbucket says much the same of a merge that cannot be made and of one that has been made already.
            Err(error) if matches!(error.status(), Some(400 | 409)) => {
                let after = self.pull_request(repository, number).await?;
                return Ok(match after.state()? {
                    ChangeState::Merged => self.landed_already(repository, &after, sha).await?,
                    _ if after.source.short() != now.source.short() => MergeOutcome::HeadMoved,
                    _ => not_merged(&error),
                });
            }
            Err(error) => return Err(error),
        }
        let after = self.pull_request(repository, number).await?;
        match after.state()? {
            ChangeState::Merged => self.landed_already(repository, &after, sha).await,
            _ => Ok(MergeOutcome::Retry {
                after: None,
                reason: "Bitbucket has taken the merge and not finished it yet".to_owned(),
            }),
        }
    }

    /// Waits for a merge that Bitbucket makes behind our back.
    ///
    /// # Errors
    /// Why it was not made, or `Timeout`.
    async fn wait_for(&self, repository: &str, number: &str, taken: &Reply) -> Result<(), Error> {
        // Of the address only the task's name is taken.
        let task = taken
            .header("location")
            .and_then(|it| it.trim_end_matches('/').rsplit('/').next())
            .filter(|it| {
                !it.is_empty()
                    && it.len() <= 200
                    && it
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            })
            .ok_or_else(|| Error::NotJson("a merge under way without a name".to_owned()))?;
        let path = ["pullrequests", number, "merge", "task-status", task];
        for _ in 0..POLLS {
            let it: Task = self.get(repository, &path, &[]).await?;
            if it.task_status != "PENDING" {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Error::Timeout {
            host: self.api.host_str().unwrap_or_default().to_owned(),
        })
    }

    /// What a merged pull request landed as. Only what is seen to hold the approved head is told as our own doing; anything
    /// else is compared like anybody's merge, and found if it is not what was approved.
    async fn landed_already(
        &self,
        repository: &str,
        change: &PullRequest,
        sha: &str,
    ) -> Result<MergeOutcome, Error> {
        let ours = self.identify().await.ok().map(|it| it.account.id);
        let by_us = change
            .closed_by
            .as_ref()
            .is_some_and(|it| Some(it.uuid.as_str()) == ours.as_deref());
        let Some(short) = change.landed().filter(|_| by_us) else {
            return Ok(MergeOutcome::Merged { commit: None });
        };
        let commit = match self.commit_named(repository, short).await {
            Ok(it) => it,
            Err(error) if error.status() == Some(404) => return Ok(MergeOutcome::Merged { commit: None }),
            Err(error) => return Err(error),
        };
        let holds = commit.hash == sha || commit.parents.iter().skip(1).any(|it| it.hash == sha);
        if !holds && commit.parents.len() > 1 {
            tracing::warn!(
                number = change.number,
                "Bitbucket merged another head than the approved one"
            );
        }
        Ok(MergeOutcome::Merged {
            commit: Some(commit.hash).filter(|_| holds),
        })
    }
}

/// The way of merging that the branch allows; a merge commit keeps the approved head in the history, so it comes first.
/// `None`: whatever Bitbucket takes by itself.
fn strategy(branch: &Branch) -> Option<&str> {
    const KEEPS_HEAD: &str = "merge_commit";
    let allowed = &branch.merge_strategies;
    if allowed.is_empty() || allowed.iter().any(|it| it == KEEPS_HEAD) {
        return (!allowed.is_empty()).then_some(KEEPS_HEAD);
    }
    branch
        .default_merge_strategy
        .as_deref()
        .or_else(|| allowed.first().map(String::as_str))
}

/// What a refused merge means.
fn not_merged(error: &Error) -> MergeOutcome {
    let excerpt = match error {
        Error::Status { excerpt, .. } => excerpt.as_str(),
        _ => "",
    };
    let denied = |sentence: &str| MergeOutcome::Denied {
        reason: with_words(sentence, excerpt),
    };
    match (error, error.status()) {
        (
            Error::Status {
                retry_after: Some(_), ..
            },
            _,
        ) => retried(error),
        (_, Some(403)) => denied(
            "Bitbucket does not let this server's account merge: its token needs to write pull requests, and the branch \
             restriction \"Merge via pull request\" must name it",
        ),
        (_, Some(401)) => denied("Bitbucket does not accept the token or consumer any more"),
        (_, Some(404)) => denied("Bitbucket knows no such pull request, or does not show it to the token"),
        (_, Some(400 | 409)) => MergeOutcome::NotReady {
            reason: with_words(
                "Bitbucket does not merge it now: it conflicts, or a merge check has not passed",
                excerpt,
            ),
        },
        (_, Some(TOOK_TOO_LONG)) => MergeOutcome::Retry {
            after: None,
            reason: "the merge took Bitbucket too long".to_owned(),
        },
        _ => retried(error),
    }
}

fn retried(error: &Error) -> MergeOutcome {
    match error.clone().into_outcome::<()>() {
        Outcome::Retry { after, reason } => MergeOutcome::Retry { after, reason },
        Outcome::Rejected { reason } => MergeOutcome::NotReady { reason },
        Outcome::Delivered(()) => MergeOutcome::Retry {
            after: None,
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> MergeOutcome {
        not_merged(&Error::Status {
            code,
            retry_after: None,
            excerpt: r#"{"type":"error","error":{"message":"why"}}"#.to_owned(),
        })
    }

    #[test]
    fn refusals_are_told_apart() {
        for code in [401, 403, 404] {
            assert!(
                matches!(refused(code), MergeOutcome::Denied { reason } if reason.contains("Bitbucket says: why"))
            );
        }
        for code in [400, 409] {
            assert!(matches!(refused(code), MergeOutcome::NotReady { reason } if reason.contains("why")));
        }
        for code in [500, TOOK_TOO_LONG] {
            assert!(matches!(refused(code), MergeOutcome::Retry { .. }), "{code}");
        }
        let limited = not_merged(&Error::Status {
            code: 429,
            retry_after: Some(POLL),
            excerpt: String::new(),
        });
        assert!(matches!(
            limited,
            MergeOutcome::Retry {
                after: Some(POLL),
                ..
            }
        ));
    }

    #[test]
    fn a_merge_commit_is_preferred() {
        let branch = |allowed: &[&str], first: Option<&str>| Branch {
            name: "main".to_owned(),
            merge_strategies: allowed.iter().map(|it| (*it).to_owned()).collect(),
            default_merge_strategy: first.map(str::to_owned),
        };
        let of = |allowed: &[&str], first| strategy(&branch(allowed, first)).map(str::to_owned);
        assert_eq!(of(&[], None), None);
        assert_eq!(
            of(&["squash", "merge_commit"], Some("squash")).as_deref(),
            Some("merge_commit")
        );
        assert_eq!(
            of(&["squash", "fast_forward"], Some("fast_forward")).as_deref(),
            Some("fast_forward")
        );
        assert_eq!(of(&["squash"], None).as_deref(), Some("squash"));
    }
}
