//! Merging what was approved. Bitbucket pins neither head nor target: its `version` guards edits alone. So the head is read
//! right before, and what was merged is read right after.

use crate::domain::facts::ChangeState;
use crate::forge::MergeOutcome;
use crate::forge::bitbucket::{with_words, words};
use crate::forge::bitbucket_data_center::contributors::Commit;
use crate::forge::bitbucket_data_center::pull_request::PullRequest;
use crate::forge::bitbucket_data_center::repository::Place;
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, is_permission};
use crate::forge::git::own_commit_id;
use crate::outbound::{Error, Method};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// A merge writes to a repository, which takes longer than any other call.
const MERGE_TIME: Duration = Duration::from_secs(60);
/// Vetoes named in one sentence.
const VETOES_MAX: usize = 3;

/// Whether a pull request can be merged (`GET …/merge`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Mergeability {
    /// Every version says so; the documentation leaves it out.
    can_merge: Option<bool>,
    conflicted: bool,
    vetoes: Vec<Veto>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Veto {
    summary_message: String,
}

impl Mergeability {
    /// Why it can't be merged now.
    fn objection(&self) -> Option<String> {
        if self.conflicted {
            return Some("it conflicts with its target branch".to_owned());
        }
        let vetoes: Vec<&str> = self.vetoes.iter().map(|it| it.summary_message.as_str()).collect();
        let named = vetoes[..vetoes.len().min(VETOES_MAX)].join("; ");
        match (vetoes.is_empty(), self.can_merge) {
            (false, _) => Some(with_words(
                "Bitbucket's merge checks do not let it in yet",
                &named,
            )),
            (true, Some(false)) => Some("Bitbucket does not merge it now".to_owned()),
            (true, _) => None,
        }
    }
}

impl BitbucketDataCenter {
    /// Merges if the head is still `sha` and the target still `target`.
    pub(crate) async fn merge(
        &self,
        forge_project_id: &str,
        number: u64,
        sha: &str,
        target: &str,
    ) -> MergeOutcome {
        match self.try_merge(forge_project_id, number, sha, target).await {
            Ok(outcome) => outcome,
            Err(error) => refused(error),
        }
    }

    async fn try_merge(
        &self,
        forge_project_id: &str,
        number: u64,
        sha: &str,
        target: &str,
    ) -> Result<MergeOutcome, Error> {
        let sha = own_commit_id(sha)?;
        let place = self.place(forge_project_id).await?;
        let text = number.to_string();
        let path = ["pull-requests", text.as_str(), "merge"];
        let checked: Mergeability = match self.get(&place, &path, &[]).await {
            Ok(it) => it,
            // It is not open any more: it may be ours from before a lost answer.
            Err(error) if error.status() == Some(409) => {
                let now = self.pull_request(&place, number).await?;
                return self.ended(&place, &now, sha, error).await;
            }
            Err(error) => return Err(error),
        };
        // Read last: nothing may lie between what is looked at here and the merge.
        let now = self.pull_request(&place, number).await?;
        if now.target() != target || now.head() != sha {
            return Ok(MergeOutcome::HeadMoved);
        }
        if let Some(reason) = checked.objection() {
            return Ok(MergeOutcome::NotReady { reason });
        }
        let version = now.version.to_string();
        let call = self
            .in_repository(Method::Post, "api", &place, &path)?
            .query([("version", version.as_str())])
            .json(&json!({ "version": now.version }))
            .limit(MERGE_TIME);
        let merged: PullRequest = match self.fetch_at(&place, call).await {
            Ok(reply) => reply.json()?,
            // Vetoed, out of date, in conflict, or merged already: all the same number.
            Err(error) if error.status() == Some(409) => {
                let now = self.pull_request(&place, number).await?;
                return self.ended(&place, &now, sha, error).await;
            }
            Err(error) => return Err(error),
        };
        match merged.state()? {
            ChangeState::Merged => self.merged_as(&place, &merged, sha).await,
            ChangeState::Open => Ok(MergeOutcome::NotReady {
                reason: "Bitbucket has taken it and merges it when its turn comes.".to_owned(),
            }),
            ChangeState::Closed => Ok(MergeOutcome::NotReady {
                reason: "Bitbucket says that it was declined.".to_owned(),
            }),
        }
    }

    /// What a refusal means, by what the pull request is afterwards.
    async fn ended(
        &self,
        place: &Place,
        now: &PullRequest,
        sha: &str,
        error: Error,
    ) -> Result<MergeOutcome, Error> {
        if now.head() != sha {
            return Ok(MergeOutcome::HeadMoved);
        }
        if now.state()? == ChangeState::Merged {
            let by = self.merger(place, now.number).await?;
            let ours = self.who().await?.identity.account.id;
            return match by {
                Some(by) if by.id.to_string() == ours => self.merged_as(place, now, sha).await,
                // Somebody else was quicker: what landed is theirs to answer for, and is compared like any merge.
                _ => Ok(MergeOutcome::Merged { commit: None }),
            };
        }
        Ok(refused(error))
    }

    /// What was merged: the approved head, with a commit that holds it, or something else, which is read anew and found.
    async fn merged_as(&self, place: &Place, merged: &PullRequest, sha: &str) -> Result<MergeOutcome, Error> {
        if merged.head() != sha {
            tracing::warn!(
                number = merged.number,
                "Bitbucket merged another head than the approved one"
            );
            return Ok(MergeOutcome::HeadMoved);
        }
        let Some(commit) = merged.landed() else {
            return Ok(MergeOutcome::Merged { commit: None });
        };
        // A squashed or rebased one does not name the head: it is compared when the branch is looked at.
        let holds = commit == sha
            || match self.get::<Commit>(place, &["commits", commit], &[]).await {
                // The first parent is what it was merged into.
                Ok(it) => it.parents.iter().skip(1).any(|it| it.id == sha),
                // It is merged all the same.
                Err(_) => false,
            };
        Ok(MergeOutcome::Merged {
            commit: holds.then(|| commit.to_owned()),
        })
    }
}

/// What a refused merge means while the pull request is open at the approved head.
fn refused(error: Error) -> MergeOutcome {
    let Error::Status {
        code,
        excerpt,
        retry_after: None,
    } = &error
    else {
        return MergeOutcome::after(error);
    };
    let denied = |sentence: &str| MergeOutcome::Denied {
        reason: with_words(sentence, excerpt),
    };
    match code {
        401 if !is_permission(excerpt) => denied(
            "Bitbucket does not accept the token: it was revoked or has expired. Make a new HTTP access token for the same \
             account and connect Bitbucket again with it",
        ),
        401 | 403 => denied(
            "Bitbucket does not let this server merge: its account needs Write on the repository, and a place among the \
             exceptions of the branch permission",
        ),
        404 => denied("Bitbucket knows no such pull request, or does not show it to the token's account"),
        409 if excerpt.contains("OutOfDate") => MergeOutcome::Retry {
            after: None,
            reason: with_words("somebody edited the pull request meanwhile", excerpt),
        },
        // The account behind a project's or repository's token has no e-mail, and so can make no commit.
        _ if words(excerpt).contains("e-mail") || words(excerpt).contains("email") => denied(
            "Bitbucket lets only an account with an e-mail address merge: use the token of a user, not one of a project or \
             repository",
        ),
        400 | 409 => MergeOutcome::NotReady {
            reason: with_words("Bitbucket does not merge it now", &vetoes(excerpt)),
        },
        _ => MergeOutcome::after(error),
    }
}

/// The vetoes of a refusal, where it has any; else its own words.
fn vetoes(excerpt: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(excerpt).unwrap_or_default();
    let errors = value["errors"].as_array().into_iter().flatten();
    let vetoes = errors.flat_map(|it| it["vetoes"].as_array().into_iter().flatten());
    let named: Vec<&str> = vetoes
        .filter_map(|it| it["summaryMessage"].as_str())
        .take(VETOES_MAX)
        .collect();
    match named.is_empty() {
        true => excerpt.to_owned(),
        false => named.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, exception: &str, message: &str) -> Error {
        let error = json!({"message": message, "exceptionName": exception,
            "vetoes": [{"summaryMessage": "Not all required builds are successful", "detailedMessage": "x"}]});
        Error::Status {
            code,
            retry_after: None,
            excerpt: json!({"errors": [error]}).to_string(),
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        for code in [401, 403, 404] {
            assert!(
                matches!(refused(status(code, "", "no")), MergeOutcome::Denied { .. }),
                "{code}"
            );
        }
        let vetoed = refused(status(
            409,
            "com.atlassian.bitbucket.pull.PullRequestMergeVetoedException",
            "vetoed",
        ));
        assert!(matches!(vetoed, MergeOutcome::NotReady { reason } if reason.contains("required builds")));
        let stale = refused(status(
            409,
            "com.atlassian.bitbucket.pull.PullRequestOutOfDateException",
            "old",
        ));
        assert!(matches!(stale, MergeOutcome::Retry { .. }));
        let nobody = refused(status(
            409,
            "x",
            "Only users with a valid e-mail address can create a commit",
        ));
        assert!(matches!(nobody, MergeOutcome::Denied { reason } if reason.contains("token of a user")));
        for code in [429, 500, 502] {
            assert!(
                matches!(refused(status(code, "", "")), MergeOutcome::Retry { .. }),
                "{code}"
            );
        }
    }

    #[test]
    fn what_stands_in_the_way_is_told() {
        let read = |value: serde_json::Value| -> Mergeability { serde_json::from_value(value).expect("it") };
        assert_eq!(
            read(json!({"canMerge": true, "conflicted": false, "vetoes": []})).objection(),
            None
        );
        assert_eq!(
            read(json!({"conflicted": false, "outcome": "CLEAN", "vetoes": []})).objection(),
            None
        );
        let conflict = read(json!({"canMerge": false, "conflicted": true})).objection();
        assert!(conflict.is_some_and(|it| it.contains("conflicts")));
        let veto =
            read(json!({"canMerge": false, "vetoes": [{"summaryMessage": "Two approvals are missing"}]}))
                .objection();
        assert!(veto.is_some_and(|it| it.contains("Two approvals")));
        assert!(read(json!({"canMerge": false})).objection().is_some());
    }
}
