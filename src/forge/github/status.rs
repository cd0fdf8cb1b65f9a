//! The commit status by the App. Where a branch's rules require it and pin it to the App, it is the lock: nobody else's
//! counts. Elsewhere it is a display that whoever may write can write too.
//!
//! GitHub keeps all statuses of a commit and goes by the newest of each context, so writing again replaces what somebody
//! else wrote.

use crate::domain::request::GateState;
use crate::domain::text::shortened;
use crate::forge::github::repository::Place;
use crate::forge::github::{GitHub, Limits, User, own_commit_id, with_words};
use crate::forge::{StatusRead, StatusWrite, Still};
use crate::outbound::{Error, Method, Outcome};
use serde::Deserialize;
use serde_json::json;

/// Characters GitHub takes of a description.
const DESCRIPTION_MAX: usize = 140;
/// Characters of a context and of an address.
const LONGEST: usize = 255;
/// A commit has at most 1,000 statuses of a context.
const LIMITS: Limits = Limits {
    pages: 20,
    bytes: 8 * 1024 * 1024,
};

#[derive(Deserialize)]
struct Status {
    id: u64,
    state: String,
    context: String,
    description: Option<String>,
    creator: Option<User>,
}

/// GitHub's word for a state.
pub(super) fn word(state: GateState) -> &'static str {
    match state {
        GateState::Pending => "pending",
        GateState::Success => "success",
        GateState::Failed => "failure",
    }
}

fn state(word: &str) -> Option<GateState> {
    [GateState::Pending, GateState::Success, GateState::Failed]
        .into_iter()
        .find(|it| self::word(*it) == word)
}

impl GitHub {
    /// Writes a status. Repeating it is harmless.
    pub(crate) async fn set_status(&self, write: &StatusWrite, still: &Still<'_>) -> Outcome<()> {
        match self.write_status(write, still).await {
            Ok(true) => Outcome::Delivered(()),
            Ok(false) => Outcome::Retry {
                after: None,
                reason: "what was decided changed while GitHub was asked".to_owned(),
            },
            Err(error) => judged(error),
        }
    }

    /// `false`: it is no longer to be said and was not, or GitHub shows another one afterwards.
    async fn write_status(&self, write: &StatusWrite, still: &Still<'_>) -> Result<bool, Error> {
        let mut place = self.place(&write.forge_project_id).await?;
        let sha = own_commit_id(&write.sha)?;
        for (what, text) in [("name", &write.name), ("address", &write.target_url)] {
            if text.chars().count() > LONGEST {
                return Err(Error::Refused(format!(
                    "GitHub takes no status whose {what} has more than {LONGEST} characters"
                )));
            }
        }
        let is_over = || write.state == GateState::Success && !still();
        // Only a green that is not true any more does harm.
        if is_over() {
            return Ok(false);
        }
        let status = match self.post_status(&place, sha, write).await {
            Ok(status) => status,
            Err(error) => match self.moved(&place, &error).await? {
                Some(_) if is_over() => return Ok(false),
                Some(now) => {
                    place = now;
                    self.post_status(&place, sha, write).await?
                }
                None => return Err(error),
            },
        };
        if status.state != word(write.state) || !status.context.eq_ignore_ascii_case(&write.name) {
            return Err(Error::NotJson(
                "GitHub took a status and answered with another".to_owned(),
            ));
        }
        if !write.insist {
            return Ok(true);
        }
        let shown = self.newest(&place, sha, &write.name).await?;
        Ok(shown.is_some_and(|it| it.state == Some(write.state)))
    }

    async fn post_status(&self, place: &Place, sha: &str, write: &StatusWrite) -> Result<Status, Error> {
        let body = json!({
            "state": word(write.state), "context": write.name, "target_url": write.target_url,
            "description": shortened(&write.description, DESCRIPTION_MAX),
        });
        let call = self
            .in_repository(Method::Post, place, &["statuses", sha])?
            .json(&body);
        self.fetch_at(place, call).await?.json()
    }

    /// Reads back the status of that name.
    pub(crate) async fn read_status(
        &self,
        forge_project_id: &str,
        sha: &str,
        name: &str,
    ) -> Result<Option<StatusRead>, Error> {
        let place = self.place(forge_project_id).await?;
        self.newest(&place, own_commit_id(sha)?, name).await
    }

    async fn newest(&self, place: &Place, sha: &str, name: &str) -> Result<Option<StatusRead>, Error> {
        let path = ["commits", sha, "statuses"];
        let listed = self
            .pages::<Status>(place, &path, &[], LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "the commit has more statuses than can be read".to_owned(),
            ));
        }
        // Contexts are the same whatever their case.
        let ours = |it: &Status| it.context.eq_ignore_ascii_case(name);
        let found = listed.items.into_iter().filter(ours).max_by_key(|it| it.id);
        Ok(found.map(|it| StatusRead {
            state: state(&it.state),
            word: it.state,
            author: it.creator.map(Into::into),
            id: it.id.to_string(),
            pipeline: None,
            description: it.description.unwrap_or_default(),
        }))
    }
}

/// What a refusal of a status means.
fn judged(error: Error) -> Outcome<()> {
    let Error::Status {
        code,
        excerpt,
        retry_after: None,
    } = &error
    else {
        return error.into_outcome();
    };
    let rejected = |sentence: &str| Outcome::Rejected {
        reason: with_words(sentence, excerpt),
    };
    match code {
        401 => rejected(
            "GitHub does not accept the App: its private key was deleted. Make a new one and connect the App again",
        ),
        403 if excerpt.contains("suspended") => rejected(
            "the App's installation is suspended: an owner of the organization lifts that under Settings → GitHub Apps → \
             Configure",
        ),
        403 => rejected(
            "the App may not write this status: it needs the permission Commit statuses (read and write), accepted by the \
             installation",
        ),
        404 => rejected("the App is not installed on this repository any more, or may not see it"),
        422 => rejected("GitHub does not take the status as it is"),
        _ => error.into_outcome(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn refused(code: u16, message: &str, retry_after: Option<Duration>) -> Error {
        Error::Status {
            code,
            retry_after,
            excerpt: json!({ "message": message }).to_string(),
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        for code in [401, 403, 404, 422] {
            let Outcome::Rejected { reason } = judged(refused(code, "because\u{202e}", None)) else {
                panic!("{code} is for a person");
            };
            assert!(reason.contains("GitHub says: because\\u{202e}"), "{reason}");
        }
        let Outcome::Rejected { reason } = judged(refused(403, "This installation has been suspended", None))
        else {
            panic!("it is for a person");
        };
        assert!(reason.contains("suspended: an owner"), "{reason}");
        let wait = Some(Duration::from_secs(7));
        assert!(matches!(judged(refused(429, "limit", wait)), Outcome::Retry { after, .. } if after == wait));
        assert!(matches!(judged(refused(502, "", None)), Outcome::Retry { .. }));
    }

    #[test]
    fn every_state_has_a_word_of_its_own() {
        for it in [GateState::Pending, GateState::Success, GateState::Failed] {
            assert_eq!(state(word(it)), Some(it));
        }
        assert_eq!(state("error"), None);
    }
}
