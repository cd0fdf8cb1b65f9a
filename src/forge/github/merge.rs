//! Merging, pinned to the head that was approved. A merge is never asked for again with another head.

use crate::domain::facts::ChangeState;
use crate::forge::MergeOutcome;
use crate::forge::github::pull_request::PullRequest;
use crate::forge::github::repository::{Place, Repository};
use crate::forge::github::{GitHub, full_ref, own_commit_id, with_words};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// A merge writes to a repository, which takes longer than any other call.
const MERGE_TIME: Duration = Duration::from_secs(60);
/// How long GitHub usually needs to find out whether it can merge something.
const CHECK_WAIT: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Merged {
    sha: Option<String>,
    merged: bool,
}

impl GitHub {
    /// Merges if the head is still `sha`; GitHub compares it itself. It compares the head alone: the target is looked at
    /// right before, and whether it goes through a merge queue in GitHub's answer.
    pub(crate) async fn merge(
        &self,
        forge_project_id: &str,
        number: u64,
        sha: &str,
        target: &str,
    ) -> MergeOutcome {
        match self.try_merge(forge_project_id, number, sha, target).await {
            Ok(outcome) => outcome,
            Err(error) => not_merged(error, None, sha, None),
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
        let now = self.pull_request(&place, number).await?;
        if full_ref(&now.base.reference) != target || now.head.sha != sha {
            return Ok(MergeOutcome::HeadMoved);
        }
        let repository: Repository = self.get(&place, &[], &[]).await?;
        let text = number.to_string();
        let call = self
            .in_repository(Method::Put, &place, &["pulls", &text, "merge"])?
            .json(&json!({ "sha": sha, "merge_method": method(&repository) }))
            .limit(MERGE_TIME);
        match self.fetch_at(&place, call).await {
            Ok(reply) => {
                let merged: Merged = reply.json()?;
                Ok(match merged.merged {
                    true => MergeOutcome::Merged { commit: merged.sha },
                    false => MergeOutcome::Retry {
                        after: None,
                        reason: "GitHub has taken the merge and not finished it yet".to_owned(),
                    },
                })
            }
            // GitHub says the same of a merge that cannot be made and of one that has been made already.
            Err(error) if matches!(error.status(), Some(405 | 409 | 422)) => {
                if is_queued(&error) {
                    return Ok(self.enqueue(&place, &now, sha).await);
                }
                let now = self.pull_request(&place, number).await?;
                let ours = self.me().await.ok().map(|it| it.account.id);
                Ok(not_merged(error, Some(&now), sha, ours.as_deref()))
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a pull request whose branch goes through a merge queue into it, at this head.
    async fn enqueue(&self, place: &Place, change: &PullRequest, sha: &str) -> MergeOutcome {
        let Some(id) = &change.node_id else {
            return MergeOutcome::NotReady {
                reason: "GitHub does not tell the pull request's id for its merge queue".to_owned(),
            };
        };
        match self.put_into_queue(place, id, sha).await {
            Ok(()) => MergeOutcome::NotReady {
                reason: "It is in GitHub's merge queue, which merges it when its turn comes.".to_owned(),
            },
            Err(error) => not_merged(error, None, sha, None),
        }
    }
}

/// The branch takes changes through its merge queue alone.
fn is_queued(error: &Error) -> bool {
    matches!(error, Error::Status { excerpt, .. } if excerpt.to_ascii_lowercase().contains("merge queue"))
}

/// The way of merging that the repository allows; a merge commit keeps the approved head in the history, so it comes first.
fn method(it: &Repository) -> &'static str {
    match (
        it.allow_merge_commit,
        it.allow_squash_merge,
        it.allow_rebase_merge,
    ) {
        (Some(false), Some(true), _) => "squash",
        (Some(false), _, Some(true)) => "rebase",
        _ => "merge",
    }
}

/// What a refused merge means; `now` is the change as it was read after the refusal, `ours` our account's number.
fn not_merged(error: Error, now: Option<&PullRequest>, sha: &str, ours: Option<&str>) -> MergeOutcome {
    let excerpt = match &error {
        Error::Status { excerpt, .. } => excerpt.as_str(),
        _ => "",
    };
    let denied = |sentence: &str| MergeOutcome::Denied {
        reason: with_words(sentence, excerpt),
    };
    if let Some(now) = now {
        if now.head.sha != sha {
            return MergeOutcome::HeadMoved;
        }
        if now.state().ok() == Some(ChangeState::Merged) {
            let by_us = now
                .merged_by
                .as_ref()
                .is_some_and(|it| Some(it.id.to_string().as_str()) == ours);
            // Somebody else was quicker: what landed is theirs to answer for, and is compared like any merge.
            let commit = now.landed().filter(|_| by_us).map(str::to_owned);
            return MergeOutcome::Merged { commit };
        }
        if now.mergeable_state.as_deref() == Some("unknown") {
            return MergeOutcome::Retry {
                after: Some(CHECK_WAIT),
                reason: "GitHub is still finding out whether it can be merged".to_owned(),
            };
        }
        let why = match now.mergeable_state.as_deref() {
            Some("dirty") => "it conflicts with its target branch",
            Some("blocked") => "GitHub's rules for the branch block it: a review or another check is missing",
            Some("behind") => "its branch is behind its target, and the rules ask for an up-to-date one",
            Some("draft") => "it is a draft",
            Some("unstable") => "another check has not passed",
            _ => "GitHub does not merge it now",
        };
        return MergeOutcome::NotReady {
            reason: with_words(why, excerpt),
        };
    }
    match (&error, error.status()) {
        (
            Error::Status {
                retry_after: Some(_), ..
            },
            _,
        ) => MergeOutcome::after(error),
        (_, Some(409)) => MergeOutcome::HeadMoved,
        (_, Some(403)) => denied(
            "GitHub does not let the App merge: it needs the permissions Contents and Pull requests (read and write), \
             accepted by the installation, and a place in the branch's rules where those name who may merge",
        ),
        (_, Some(401)) => denied("GitHub does not accept the App: its private key was deleted"),
        (_, Some(404)) => denied("GitHub knows no such pull request, or does not show it to the App"),
        (_, Some(405 | 422)) => MergeOutcome::NotReady {
            reason: with_words("GitHub does not merge it now", excerpt),
        },
        _ => MergeOutcome::after(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";
    const OTHER: &str = "f123456789abcdef0123456789abcdef01234567";

    fn refused(code: u16) -> Error {
        Error::Status {
            code,
            retry_after: None,
            excerpt: json!({"message": format!("{code} no")}).to_string(),
        }
    }

    fn now(merged: bool, head: &str, state: &str) -> PullRequest {
        serde_json::from_value(json!({
            "number": 3, "state": if merged { "closed" } else { "open" }, "title": "t",
            "user": {"id": 1, "login": "a"}, "mergeable_state": state, "merged_by": {"id": 9, "login": "gate[bot]"},
            "merged_at": merged.then_some("2026-01-01T00:00:00Z"), "merge_commit_sha": OTHER,
            "head": {"sha": head, "ref": "topic", "repo": null}, "base": {"sha": head, "ref": "main", "repo": null},
        }))
        .expect("a pull request")
    }

    #[test]
    fn refusals_are_told_apart() {
        for code in [401, 403, 404] {
            assert!(
                matches!(
                    not_merged(refused(code), None, HEAD, None),
                    MergeOutcome::Denied { .. }
                ),
                "{code}"
            );
        }
        assert_eq!(
            not_merged(refused(409), None, HEAD, None),
            MergeOutcome::HeadMoved
        );
        for code in [405, 409, 422] {
            let moved = now(false, OTHER, "clean");
            assert_eq!(
                not_merged(refused(code), Some(&moved), HEAD, None),
                MergeOutcome::HeadMoved
            );
            let merged = now(true, HEAD, "unknown");
            let by = |ours| not_merged(refused(code), Some(&merged), HEAD, ours);
            assert_eq!(
                by(Some("9")),
                MergeOutcome::Merged {
                    commit: Some(OTHER.to_owned())
                }
            );
            assert_eq!(by(Some("8")), MergeOutcome::Merged { commit: None });
            let blocked = now(false, HEAD, "blocked");
            assert!(matches!(
                not_merged(refused(code), Some(&blocked), HEAD, None),
                MergeOutcome::NotReady { reason } if reason.contains("rules")
            ));
            let unknown = now(false, HEAD, "unknown");
            assert!(matches!(
                not_merged(refused(code), Some(&unknown), HEAD, None),
                MergeOutcome::Retry { after: Some(_), .. }
            ));
        }
        for code in [429, 500, 502] {
            assert!(matches!(
                not_merged(refused(code), None, HEAD, None),
                MergeOutcome::Retry { .. }
            ));
        }
    }

    #[test]
    fn the_way_of_merging_is_one_the_repository_allows() {
        let repository = |merge: Option<bool>, squash: Option<bool>, rebase: Option<bool>| -> Repository {
            serde_json::from_value(
                json!({"id": 1, "name": "a", "full_name": "o/a", "owner": {"login": "o"},
                "allow_merge_commit": merge, "allow_squash_merge": squash, "allow_rebase_merge": rebase}),
            )
            .expect("a repository")
        };
        assert_eq!(method(&repository(None, None, None)), "merge");
        assert_eq!(method(&repository(Some(true), Some(true), Some(true))), "merge");
        assert_eq!(method(&repository(Some(false), Some(true), Some(true))), "squash");
        assert_eq!(
            method(&repository(Some(false), Some(false), Some(true))),
            "rebase"
        );
    }
}
