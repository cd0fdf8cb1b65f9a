//! The build status of a commit in its repository (7.14 and later). Whoever may read a repository can write any of them, so
//! it is a display: the lock is a branch permission. Bitbucket keeps one of each key and does not tell who wrote it.

use crate::domain::request::GateState;
use crate::domain::text::shortened;
use crate::forge::bitbucket::{state, with_words, word};
use crate::forge::bitbucket_data_center::repository::Place;
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, is_permission};
use crate::forge::git::{full_ref, own_commit_id, short_ref};
use crate::forge::{StatusRead, StatusWrite, Still};
use crate::outbound::{Error, Method, Outcome};
use serde::Deserialize;
use serde_json::json;

/// Characters Bitbucket takes of a key, a name and a description, of an address, and of a ref.
const LONGEST: usize = 255;
const ADDRESS_MAX: usize = 450;
const REF_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    key: String,
    state: String,
    description: Option<String>,
    #[serde(default)]
    created_date: Option<i64>,
    #[serde(default)]
    updated_date: Option<i64>,
}

impl BitbucketDataCenter {
    /// Writes a status. Repeating it is harmless.
    pub(crate) async fn set_status(&self, write: &StatusWrite, still: &Still<'_>) -> Outcome<()> {
        match self.write_status(write, still).await {
            Ok(true) => Outcome::Delivered(()),
            Ok(false) => Outcome::Retry {
                after: None,
                reason: "what was decided changed while Bitbucket was asked".to_owned(),
            },
            Err(error) => judged(error),
        }
    }

    /// `false`: it is no longer to be said and was not, or Bitbucket shows another one afterwards.
    async fn write_status(&self, write: &StatusWrite, still: &Still<'_>) -> Result<bool, Error> {
        let mut place = self.place(&write.forge_project_id).await?;
        let sha = own_commit_id(&write.sha)?;
        for (what, text, max) in [
            ("key", &write.name, LONGEST),
            ("address", &write.target_url, ADDRESS_MAX),
        ] {
            if text.chars().count() > max {
                return Err(Error::Refused(format!(
                    "Bitbucket takes no build status whose {what} has more than {max} characters"
                )));
            }
        }
        let is_over = || write.state == GateState::Success && !still();
        // Only a green that is not true any more does harm.
        if is_over() {
            return Ok(false);
        }
        if let Err(error) = self.post_status(&place, sha, write).await {
            match self.moved(&place, &error).await? {
                Some(_) if is_over() => return Ok(false),
                Some(now) => {
                    place = now;
                    self.post_status(&place, sha, write).await?;
                }
                None => return Err(error),
            }
        }
        if !write.insist {
            return Ok(true);
        }
        let shown = self.status_of(&place, sha, &write.name).await?;
        Ok(shown.is_some_and(|it| it.state == Some(write.state)))
    }

    async fn post_status(&self, place: &Place, sha: &str, write: &StatusWrite) -> Result<(), Error> {
        // The parent is what a required build names.
        let mut body = json!({
            "key": write.name, "parent": write.name, "name": write.name, "state": word(write.state),
            "url": write.target_url, "description": shortened(&write.description, LONGEST),
        });
        let source = full_ref(short_ref(&write.ref_name));
        if !write.ref_name.is_empty() && source.chars().count() <= REF_MAX {
            body["ref"] = json!(source);
        }
        let call = self
            .in_repository(Method::Post, "api", place, &["commits", sha, "builds"])?
            .json(&body);
        self.fetch_at(place, call).await.map(drop)
    }

    /// Reads back the status of that name.
    pub(crate) async fn read_status(
        &self,
        forge_project_id: &str,
        sha: &str,
        name: &str,
    ) -> Result<Option<StatusRead>, Error> {
        let place = self.place(forge_project_id).await?;
        self.status_of(&place, own_commit_id(sha)?, name).await
    }

    async fn status_of(&self, place: &Place, sha: &str, name: &str) -> Result<Option<StatusRead>, Error> {
        let call = self.in_repository(Method::Get, "api", place, &["commits", sha, "builds"])?;
        let found: Build = match self.fetch(call.query([("key", name)])).await {
            Ok(reply) => reply.json()?,
            // No such status, or no such repository.
            Err(error) if error.status() == Some(404) => {
                self.project(&place.id.to_string()).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if found.key != name {
            return Err(Error::NotJson(
                "Bitbucket answered with another build status".to_owned(),
            ));
        }
        let written = found.updated_date.or(found.created_date).unwrap_or(0);
        Ok(Some(StatusRead {
            state: state(&found.state),
            id: format!("{written} {}", found.state),
            word: found.state,
            author: None,
            pipeline: None,
            description: found.description.unwrap_or_default(),
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
        401 if !is_permission(excerpt) => rejected(
            "Bitbucket does not accept the token: it was revoked or has expired. Make a new HTTP access token for the same \
             account and connect Bitbucket again with it",
        ),
        401 | 403 => {
            rejected("the token's account may not write this status: it needs Read on the repository")
        }
        404 => rejected(
            "the token's account does not see the repository any more, or Bitbucket is older than 7.14 and knows no build \
             statuses of repositories",
        ),
        400 => rejected("Bitbucket does not take the status as it is"),
        _ => error.into_outcome(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn refused(code: u16, exception: &str, retry_after: Option<Duration>) -> Error {
        Error::Status {
            code,
            retry_after,
            excerpt: json!({"errors": [{"message": "because\u{202e}", "exceptionName": exception}]})
                .to_string(),
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        for code in [400, 401, 403, 404] {
            let Outcome::Rejected { reason } = judged(refused(code, "", None)) else {
                panic!("{code} is for a person");
            };
            assert!(reason.contains("Bitbucket says: because\\u{202e}"), "{reason}");
        }
        let Outcome::Rejected { reason } = judged(refused(401, "AuthorisationException", None)) else {
            panic!("it is for a person");
        };
        assert!(reason.contains("needs Read"), "{reason}");
        let wait = Some(Duration::from_secs(7));
        assert!(matches!(judged(refused(429, "", wait)), Outcome::Retry { after, .. } if after == wait));
        assert!(matches!(judged(refused(502, "", None)), Outcome::Retry { .. }));
    }
}
