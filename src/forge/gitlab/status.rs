//! The commit status: what GitLab shows beside a change. A display, never the lock: any Developer can write one too.

use crate::domain::request::GateState;
use crate::domain::text::shortened;
use crate::forge::StatusRead;
use crate::forge::gitlab::GitLab;
use crate::forge::gitlab::Limits;
use crate::forge::gitlab::User;
use crate::forge::gitlab::commit_id;
use crate::forge::gitlab::project_number;
use crate::forge::gitlab::short_ref;
use crate::forge::gitlab::with_words;
use crate::forge::gitlab::words;
use crate::forge::{StatusWrite, Still};
use crate::outbound;
use crate::outbound::Error;
use crate::outbound::Method;
use crate::outbound::Outcome;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Characters GitLab takes for name, ref, description and URL alike.
const LONGEST: usize = 255;
/// How often a commit is asked for its pipeline before the first status on it, and the time between: right after a push,
/// ours would otherwise make a stray pipeline before GitLab makes its own. (Renovate asks as often.)
const PIPELINE_TRIES: u32 = 2;
const PIPELINE_PAUSE: Duration = Duration::from_secs(1);
/// GitLab holds its lock on a status for at most ten seconds.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const STATUS_LIMITS: Limits = Limits {
    pages: 20,
    bytes: 8 * 1024 * 1024,
};

#[derive(Deserialize)]
struct Commit {
    last_pipeline: Option<Pipeline>,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    sha: String,
    #[serde(rename = "ref")]
    reference: String,
}

#[derive(Deserialize)]
struct Status {
    id: u64,
    #[serde(default)]
    sha: String,
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    status: String,
    name: String,
    description: Option<String>,
    author: Option<User>,
    /// Since GitLab 16.
    pipeline_id: Option<u64>,
}

/// The pipeline to put a status into.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    pipeline: u64,
    /// The pipeline runs on the source branch itself, not on a ref of the merge request.
    on_branch: bool,
}

/// GitLab's word for a state.
pub(super) fn word(state: GateState) -> &'static str {
    match state {
        GateState::Pending => "pending",
        GateState::Success => "success",
        GateState::Failed => "failed",
    }
}

fn state(word: &str) -> Option<GateState> {
    [GateState::Pending, GateState::Success, GateState::Failed]
        .into_iter()
        .find(|it| self::word(*it) == word)
}

impl GitLab {
    /// Writes a status. Repeating it is harmless: a refused repetition of the state that is there counts as delivered.
    pub(crate) async fn set_status(&self, write: &StatusWrite, still: &Still<'_>) -> Outcome<()> {
        let told = self.tell(write, still).await;
        match (told, write.insist) {
            (Outcome::Delivered(()), true) => self.insist(write, still).await,
            (told, _) => told,
        }
    }

    async fn tell(&self, write: &StatusWrite, still: &Still<'_>) -> Outcome<()> {
        match self.write(write, still).await {
            Ok(true) => Outcome::Delivered(()),
            Ok(false) => Outcome::Retry {
                after: None,
                reason: "what was decided changed while GitLab was asked".to_owned(),
            },
            Err(error) => judged(error, write.state),
        }
    }

    /// Makes sure that the status which GitLab shows is ours and in the wanted state.
    ///
    /// GitLab goes on with a pending status of ours even where somebody else's has hidden it, and what is hidden stays so.
    /// Ended first, the next write makes a new one, which hides the other. What it ends as is red, never green.
    async fn insist(&self, write: &StatusWrite, still: &Still<'_>) -> Outcome<()> {
        match self.shows(write).await {
            Ok(true) => return Outcome::Delivered(()),
            Ok(false) => {}
            Err(error) => return error.into_outcome(),
        }
        let ended = StatusWrite {
            state: GateState::Failed,
            ..write.clone()
        };
        for state in [&ended, write] {
            match self.tell(state, still).await {
                Outcome::Delivered(()) => {}
                other => return other,
            }
        }
        match self.shows(write).await {
            Ok(true) => Outcome::Delivered(()),
            Ok(false) => Outcome::Retry {
                after: None,
                reason: "GitLab took the status and shows another".to_owned(),
            },
            Err(error) => error.into_outcome(),
        }
    }

    /// Whether what GitLab shows is what was written, by our own account.
    async fn shows(&self, write: &StatusWrite) -> Result<bool, Error> {
        let me: User = self.get(&["user"], &[]).await?;
        let shown = self
            .read_status(&write.forge_project_id, &write.sha, &write.ref_name, &write.name)
            .await?;
        Ok(shown.is_some_and(|it| {
            it.state == Some(write.state) && it.author.is_some_and(|by| by.id == me.id.to_string())
        }))
    }

    /// `false`: it is no longer to be said, and was not.
    async fn write(&self, write: &StatusWrite, still: &Still<'_>) -> Result<bool, Error> {
        let project = project_number(&write.forge_project_id)?;
        let sha = commit_id(&write.sha).map_err(|_| Error::Refused("not a full commit id".to_owned()))?;
        for (what, text) in [
            ("name", &write.name),
            ("address", &write.target_url),
            ("branch", &write.ref_name),
        ] {
            if text.chars().count() > LONGEST {
                return Err(Error::Refused(format!(
                    "GitLab takes no status whose {what} has more than {LONGEST} characters"
                )));
            }
        }
        let branch = short_ref(&write.ref_name);
        let place = self.place(project, sha, branch, write.state).await;
        // Only a green that is not true any more does harm.
        let is_over = || write.state == GateState::Success && !still();
        if is_over() {
            return Ok(false);
        }
        match self.post(project, sha, branch, write, place.as_ref()).await {
            // The pipeline has been archived or removed since: GitLab shall choose.
            Err(Error::Status { code: 404, .. }) if place.is_some() => {
                if is_over() {
                    return Ok(false);
                }
                self.post(project, sha, branch, write, None).await.map(|()| true)
            }
            answer => answer.map(|()| true),
        }
    }

    async fn post(
        &self,
        project: &str,
        sha: &str,
        branch: &str,
        write: &StatusWrite,
        place: Option<&Place>,
    ) -> Result<(), Error> {
        let mut body = json!({
            "state": word(write.state),
            "name": write.name,
            "description": shortened(&write.description, LONGEST),
            "target_url": write.target_url,
        });
        if let Some(place) = place {
            body["pipeline_id"] = json!(place.pipeline);
        }
        if place.is_none_or(|it| it.on_branch) {
            body["ref"] = json!(branch);
        }
        let call = self
            .call(Method::Post, &["projects", project, "statuses", sha])?
            .json(&body);
        let status: Status = self.client.fetch(call).await?.json()?;
        if status.sha != sha || status.name != write.name || status.status != word(write.state) {
            return Err(Error::NotJson(
                "GitLab took a status and answered with another".to_owned(),
            ));
        }
        Ok(())
    }

    /// The newest pipeline of the commit, if it belongs to this branch or to a merge request. Best effort: without it GitLab
    /// chooses by branch.
    async fn place(&self, project: &str, sha: &str, branch: &str, state: GateState) -> Option<Place> {
        // A state other than pending is never the first on its commit, so there is nothing to wait for.
        let tries = if state == GateState::Pending {
            PIPELINE_TRIES
        } else {
            1
        };
        for attempt in 1..=tries {
            let commit: Commit = self
                .get(&["projects", project, "repository", "commits", sha], &[])
                .await
                .ok()?;
            if let Some(pipeline) = commit.last_pipeline {
                return placed(&pipeline, sha, branch);
            }
            if attempt < tries {
                tokio::time::sleep(PIPELINE_PAUSE).await;
            }
        }
        None
    }

    /// Reads back the status of that name: the newest on the branch or on a merge request's own pipeline.
    pub(crate) async fn read_status(
        &self,
        forge_project_id: &str,
        sha: &str,
        ref_name: &str,
        name: &str,
    ) -> Result<Option<StatusRead>, Error> {
        let project = project_number(forge_project_id)?;
        let sha = commit_id(sha).map_err(|_| Error::Refused("not a full commit id".to_owned()))?;
        let path = ["projects", project, "repository", "commits", sha, "statuses"];
        let listed = self
            .pages::<Status>(&path, &[("name", name)], STATUS_LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "the commit has more statuses than can be read".to_owned(),
            ));
        }
        Ok(newest(listed.items, sha, short_ref(ref_name), name))
    }
}

/// Whether a status of `branch` may be put into the commit's last pipeline. Never into one of another commit or branch: a
/// status there would decide over somebody else's change.
fn placed(pipeline: &Pipeline, sha: &str, branch: &str) -> Option<Place> {
    let on_branch = pipeline.reference == branch;
    let fits = pipeline.sha == sha && (on_branch || is_merge_request_ref(&pipeline.reference));
    fits.then_some(Place {
        pipeline: pipeline.id,
        on_branch,
    })
}

fn is_merge_request_ref(reference: &str) -> bool {
    reference.starts_with("refs/merge-requests/")
}

fn newest(statuses: Vec<Status>, sha: &str, branch: &str, name: &str) -> Option<StatusRead> {
    let ours = |it: &Status| {
        let reference = it.reference.as_deref().unwrap_or(branch);
        it.name == name
            && (it.sha.is_empty() || it.sha == sha)
            && (reference == branch || is_merge_request_ref(reference))
    };
    let found = statuses.into_iter().filter(ours).max_by_key(|it| it.id)?;
    Some(StatusRead {
        state: state(&found.status),
        word: found.status,
        author: found.author.map(Into::into),
        id: found.id.to_string(),
        pipeline: found.pipeline_id,
        description: found.description.unwrap_or_default(),
    })
}

/// What a refusal of a status means.
pub(super) fn judged(error: Error, wanted: GateState) -> Outcome<()> {
    let Error::Status { code, excerpt, .. } = &error else {
        return error.into_outcome();
    };
    let rejected = |sentence: &str| Outcome::Rejected {
        reason: with_words(sentence, excerpt),
    };
    match code {
        400 => match transition_from(&words(excerpt)) {
            // GitLab refuses to go from a state to the same one.
            Some(from) if from == word(wanted) => Outcome::Delivered(()),
            // Another write is on its way through GitLab; from where it ends, ours may go on.
            Some(from) => Outcome::Retry {
                after: Some(outbound::jitter(LOCK_WAIT) + LOCK_WAIT),
                reason: format!("GitLab does not go from {from} to {} now", word(wanted)),
            },
            None => rejected("GitLab does not take the status as it is"),
        },
        409 => Outcome::Retry {
            after: Some(outbound::jitter(LOCK_WAIT) + LOCK_WAIT / 4),
            reason: "GitLab is busy with another update of this status".to_owned(),
        },
        401 => rejected(
            "GitLab does not accept the token: it is wrong, expired or revoked. Enter a new one for this integration",
        ),
        403 => rejected(
            "the token may not write this status: its account needs the role Developer (Maintainer where the branch is \
             protected) and the token the scope api",
        ),
        404 => rejected(
            "GitLab knows no such project, commit or branch, or does not show it to the token's account: check its \
             membership, and that the source branch is in this project and not in a fork",
        ),
        422 => rejected("GitLab cannot take another status on this commit"),
        _ => error.into_outcome(),
    }
}

/// The state GitLab could not leave: `Cannot transition status via :enqueue from :pending (Reason(s): …)`.
fn transition_from(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("Cannot transition status via :")?;
    let (_, from) = rest.split_once(" from :")?;
    let end = from
        .find(|c: char| !c.is_ascii_lowercase() && c != '_')
        .unwrap_or(from.len());
    Some(&from[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn refused(code: u16, message: &str) -> Error {
        Error::Status {
            code,
            retry_after: None,
            excerpt: json!({ "message": message }).to_string(),
        }
    }

    #[test]
    fn a_refused_repetition_is_delivered() {
        let pending = "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \"enqueue\")";
        assert_eq!(
            judged(refused(400, pending), GateState::Pending),
            Outcome::Delivered(())
        );
        assert!(matches!(
            judged(refused(400, pending), GateState::Success),
            Outcome::Retry { after: Some(_), .. }
        ));
        let failed = "Cannot transition status via :drop from :failed";
        assert_eq!(
            judged(refused(400, failed), GateState::Failed),
            Outcome::Delivered(())
        );
        let success = "Cannot transition status via :success from :success (Reason(s): x)";
        assert_eq!(
            judged(refused(400, success), GateState::Success),
            Outcome::Delivered(())
        );
        let running = "Cannot transition status via :run from :running";
        assert!(matches!(
            judged(refused(400, running), GateState::Pending),
            Outcome::Retry { .. }
        ));
        // Only at the beginning: what a stranger wrote into a name must not count.
        let quoted = "name is odd: Cannot transition status via :drop from :failed";
        assert!(matches!(
            judged(refused(400, quoted), GateState::Failed),
            Outcome::Rejected { .. }
        ));
    }

    #[test]
    fn refusals_are_told_apart() {
        let lock = "Another update to this commit status is in progress";
        assert!(matches!(
            judged(refused(409, lock), GateState::Pending),
            Outcome::Retry { after: Some(_), .. }
        ));
        for code in [400, 401, 403, 404, 422] {
            let Outcome::Rejected { reason } = judged(refused(code, "because\u{202e}"), GateState::Success)
            else {
                panic!("{code} is for a person");
            };
            assert!(reason.contains("GitLab says: because\\u{202e}"), "{reason}");
        }
        let wait = Some(Duration::from_secs(7));
        let limit = Error::Status {
            code: 429,
            retry_after: wait,
            excerpt: "Retry later".to_owned(),
        };
        assert!(matches!(judged(limit, GateState::Success), Outcome::Retry { after, .. } if after == wait));
        assert!(matches!(
            judged(refused(502, ""), GateState::Success),
            Outcome::Retry { .. }
        ));
        let late = Error::Timeout { host: "h".to_owned() };
        assert!(matches!(judged(late, GateState::Success), Outcome::Retry { .. }));
        let form = json!({"message": {"target_url": ["is too long", "is blocked"]}}).to_string();
        assert_eq!(words(&form), "target_url is too long, is blocked");
    }

    #[test]
    fn a_status_goes_into_its_own_pipeline_only() {
        let pipeline = |sha: &str, reference: &str| Pipeline {
            id: 5,
            sha: sha.into(),
            reference: reference.into(),
        };
        let on_branch = |on_branch| {
            Some(Place {
                pipeline: 5,
                on_branch,
            })
        };
        assert_eq!(placed(&pipeline(SHA, "topic"), SHA, "topic"), on_branch(true));
        assert_eq!(
            placed(&pipeline(SHA, "refs/merge-requests/3/head"), SHA, "topic"),
            on_branch(false)
        );
        assert_eq!(placed(&pipeline(SHA, "other"), SHA, "topic"), None);
        assert_eq!(
            placed(&pipeline(&SHA.replace('0', "1"), "topic"), SHA, "topic"),
            None
        );
    }

    #[test]
    fn the_newest_of_the_name_and_branch_is_read() {
        let status = |id: u64, reference: &str, name: &str, status: &str, author: u64| -> Status {
            let author = json!({"id": author, "username": "u"});
            serde_json::from_value(
                json!({"id": id, "sha": SHA, "ref": reference, "name": name, "status": status,
                "description": null, "author": author}),
            )
            .expect("a status")
        };
        let name = "signedapproval/main";
        let all = || {
            vec![
                status(1, "topic", name, "pending", 9),
                status(4, "topic", name, "success", 8),
                status(3, "topic", name, "failed", 9),
                status(7, "other", name, "pending", 9),
                status(8, "topic", "signedapproval/dev", "pending", 9),
            ]
        };
        let read = newest(all(), SHA, "topic", name).expect("there is one");
        assert_eq!(
            (read.state, read.author.expect("told").id.as_str()),
            (Some(GateState::Success), "8")
        );
        assert_eq!(newest(all(), SHA, "none", name), None);
        let odd = newest(
            vec![status(1, "refs/merge-requests/1/head", name, "canceled", 9)],
            SHA,
            "topic",
            name,
        );
        assert_eq!(odd.expect("there is one").state, None);
    }
}
