//! The build status. Whoever may read a repository may write any status to it, under any key: it is a display. A merge check
//! counts green builds and does not ask whose they are.
//!
//! Bitbucket keeps one status for each key of a commit, and does not tell who wrote it. Writing again replaces it.

use crate::domain::text::shortened;
use crate::forge::bitbucket::{key, state, with_words, word};
use crate::forge::bitbucket_cloud::BitbucketCloud;
use crate::forge::git::{own_commit_id, short_ref};
use crate::forge::pages::Limits;
use crate::forge::{StatusRead, StatusWrite, Still};
use crate::outbound::{Error, Method, Outcome};
use serde::Deserialize;
use serde_json::json;

/// Characters kept of a description and of a name.
const TEXT_MAX: usize = 255;
const LIMITS: Limits = Limits {
    pages: 20,
    bytes: 8 * 1024 * 1024,
};

#[derive(Debug, Deserialize)]
struct Status {
    key: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    updated_on: String,
}

impl BitbucketCloud {
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
        let sha = own_commit_id(&write.sha)?;
        let key = key(&write.name);
        let body = json!({
            "type": "build", "key": key, "state": word(write.state), "url": write.target_url,
            "name": shortened(&write.name, TEXT_MAX),
            "description": shortened(&write.description, TEXT_MAX),
            "refname": short_ref(&write.ref_name),
        });
        // Only a green that is not true any more does harm.
        if write.state == crate::domain::request::GateState::Success && !still() {
            return Ok(false);
        }
        let path = ["commit", sha, "statuses", "build"];
        let call = self
            .in_repository(Method::Post, &write.forge_project_id, &path)?
            .json(&body);
        let status: Status = self.fetch(call).await?.json()?;
        if status.state != word(write.state) || status.key != key {
            return Err(Error::NotJson(
                "Bitbucket took a status and answered with another".to_owned(),
            ));
        }
        if !write.insist {
            return Ok(true);
        }
        let shown = self
            .read_status(&write.forge_project_id, sha, &write.name)
            .await?;
        Ok(shown.is_some_and(|it| it.state == Some(write.state)))
    }

    /// Reads back the status of that name.
    pub(crate) async fn read_status(
        &self,
        forge_project_id: &str,
        sha: &str,
        name: &str,
    ) -> Result<Option<StatusRead>, Error> {
        let path = ["commit", own_commit_id(sha)?, "statuses"];
        let (listed, _) = self
            .pages::<Status>(forge_project_id, &path, &[("pagelen", "100")], LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "the commit has more statuses than can be read".to_owned(),
            ));
        }
        let key = key(name);
        let found = listed.items.into_iter().find(|it| it.key == key);
        Ok(found.map(|it| StatusRead {
            state: state(&it.state),
            word: it.state,
            author: None,
            // Another one each time it is written.
            id: format!("{key}@{}", it.updated_on),
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
            "Bitbucket does not accept the token or consumer: it is wrong, expired or revoked. Make a new one and connect \
             again",
        ),
        403 => rejected(
            "the token or consumer may not write this status: it needs the scope to read repositories, and its account a \
             place on the repository",
        ),
        404 => rejected(
            "Bitbucket shows this repository or commit not, or not any more, to the token or consumer",
        ),
        400 => rejected("Bitbucket does not take the status as it is"),
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
            excerpt: json!({"type": "error", "error": {"message": message}}).to_string(),
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        for code in [400, 401, 403, 404] {
            let Outcome::Rejected { reason } = judged(refused(code, "because\u{202e}", None)) else {
                panic!("{code} is for a person");
            };
            assert!(reason.contains("Bitbucket says: because\\u{202e}"), "{reason}");
        }
        let wait = Some(Duration::from_secs(7));
        assert!(matches!(judged(refused(429, "limit", wait)), Outcome::Retry { after, .. } if after == wait));
        assert!(matches!(judged(refused(502, "", None)), Outcome::Retry { .. }));
    }
}
