//! Merging, pinned to the head that was approved. A merge is never asked for again with another head.

use crate::forge::MergeOutcome;
use crate::forge::gitlab::GitLab;
use crate::forge::gitlab::User;
use crate::forge::gitlab::commit_id;
use crate::forge::gitlab::full_ref;
use crate::forge::gitlab::merge_request::MergeRequest;
use crate::forge::gitlab::project_number;
use crate::forge::gitlab::with_words;
use crate::outbound::Error;
use crate::outbound::Method;
use crate::outbound::Reply;
use serde_json::json;
use std::time::Duration;

/// A merge writes to a repository, which takes longer than any other call.
const MERGE_TIME: Duration = Duration::from_secs(60);
/// How long GitLab usually needs to find out whether it can merge something.
const CHECK_WAIT: Duration = Duration::from_secs(2);

impl GitLab {
    /// Merges if the head is still `sha`; GitLab compares it itself.
    ///
    /// GitLab compares the head alone. The target is looked at right before, and in the answer.
    pub(crate) async fn merge(
        &self,
        forge_project_id: &str,
        number: u64,
        sha: &str,
        target: &str,
    ) -> MergeOutcome {
        match self.merge_request(forge_project_id, number).await {
            Ok(now) if full_ref(&now.target_branch) == target => {}
            Ok(_) => return MergeOutcome::HeadMoved,
            Err(error) => return not_merged(error, None, sha),
        }
        match self.ask_to_merge(forge_project_id, number, sha).await {
            Ok(reply) => match reply.json::<MergeRequest>() {
                Ok(now) if now.is_merged() => MergeOutcome::Merged { commit: now.landed() },
                Ok(_) => MergeOutcome::Retry {
                    after: None,
                    reason: "GitLab has taken the merge and not finished it yet".to_owned(),
                },
                Err(error) => MergeOutcome::Retry {
                    after: None,
                    reason: error.to_string(),
                },
            },
            Err(error) => {
                // GitLab says the same of a merge that cannot be made and of one that has been made already, and looks at the
                // head last: only the change itself tells.
                if matches!(error.status(), Some(405 | 406 | 422))
                    && let Ok(now) = self.merge_request(forge_project_id, number).await
                {
                    let outcome = not_merged(error, Some(&now), sha);
                    let ours = match self.get::<User>(&["user"], &[]).await {
                        Ok(me) => now.merger().is_some_and(|it| it.id == me.id),
                        Err(_) => false,
                    };
                    return match outcome {
                        // Somebody else was quicker: what landed is theirs to answer for, and is compared like any merge.
                        MergeOutcome::Merged { .. } if !ours => MergeOutcome::Merged { commit: None },
                        outcome => outcome,
                    };
                }
                not_merged(error, None, sha)
            }
        }
    }

    async fn ask_to_merge(&self, forge_project_id: &str, number: u64, sha: &str) -> Result<Reply, Error> {
        let project = project_number(forge_project_id)?;
        let sha = commit_id(sha).map_err(|_| Error::Refused("not a full commit id".to_owned()))?;
        let number = number.to_string();
        let path = ["projects", project, "merge_requests", number.as_str(), "merge"];
        let call = self
            .call(Method::Put, &path)?
            .json(&json!({ "sha": sha }))
            .limit(MERGE_TIME);
        self.client.fetch(call).await
    }
}

/// What a refused merge means; `now` is the change as it was read after the refusal, where that says more.
fn not_merged(error: Error, now: Option<&MergeRequest>, sha: &str) -> MergeOutcome {
    let excerpt = match &error {
        Error::Status { excerpt, .. } => excerpt.as_str(),
        _ => "",
    };
    match error.status() {
        Some(409) => MergeOutcome::HeadMoved,
        Some(401 | 403) => MergeOutcome::Denied {
            reason: with_words(
                "GitLab does not let the token's account merge: it needs the role Maintainer, or a place in the target \
                 branch's \"allowed to merge\", and the token the scope api",
                excerpt,
            ),
        },
        Some(404) => MergeOutcome::Denied {
            reason: with_words(
                "GitLab knows no such merge request, or does not show it to the token's account",
                excerpt,
            ),
        },
        Some(405 | 406 | 422) => match now {
            Some(now) if now.head() != Some(sha) => MergeOutcome::HeadMoved,
            Some(now) if now.is_merged() => MergeOutcome::Merged { commit: now.landed() },
            Some(now) if now.is_being_checked() => MergeOutcome::Retry {
                after: Some(CHECK_WAIT),
                reason: now.why_not_merged(),
            },
            Some(now) => MergeOutcome::NotReady {
                reason: with_words(&now.why_not_merged(), excerpt),
            },
            None => MergeOutcome::NotReady {
                reason: with_words("GitLab does not merge it now", excerpt),
            },
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

    fn now(state: &str, head: &str) -> MergeRequest {
        serde_json::from_value(json!({
            "iid": 3, "project_id": 7, "state": state, "title": "t", "web_url": "https://h/x",
            "author": {"id": 1, "username": "a", "name": "A"}, "source_branch": "topic", "target_branch": "main",
            "sha": head, "merge_commit_sha": if state == "merged" { json!(OTHER) } else { json!(null) },
            "detailed_merge_status": "ci_still_running",
        }))
        .expect("a merge request")
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(not_merged(refused(409), None, HEAD), MergeOutcome::HeadMoved);
        for code in [401, 403, 404] {
            assert!(
                matches!(not_merged(refused(code), None, HEAD), MergeOutcome::Denied { .. }),
                "{code}"
            );
        }
        for code in [405, 406, 422] {
            assert!(
                matches!(
                    not_merged(refused(code), None, HEAD),
                    MergeOutcome::NotReady { .. }
                ),
                "{code}"
            );
            assert_eq!(
                not_merged(refused(code), Some(&now("opened", OTHER)), HEAD),
                MergeOutcome::HeadMoved
            );
            let merged = MergeOutcome::Merged {
                commit: Some(OTHER.to_owned()),
            };
            assert_eq!(
                not_merged(refused(code), Some(&now("merged", HEAD)), HEAD),
                merged
            );
            // Merged with another head than the approved one is not our merge.
            assert_eq!(
                not_merged(refused(code), Some(&now("merged", OTHER)), HEAD),
                MergeOutcome::HeadMoved
            );
            let waiting = not_merged(refused(code), Some(&now("opened", HEAD)), HEAD);
            let MergeOutcome::NotReady { reason } = waiting else {
                panic!("not ready")
            };
            assert!(reason.contains("pipeline"), "{reason}");
        }
        for code in [429, 500, 502] {
            assert!(
                matches!(not_merged(refused(code), None, HEAD), MergeOutcome::Retry { .. }),
                "{code}"
            );
        }
        let late = Error::Timeout { host: "h".to_owned() };
        assert!(matches!(not_merged(late, None, HEAD), MergeOutcome::Retry { .. }));
    }
}
