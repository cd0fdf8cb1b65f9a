//! Opening the request, so that a lost answer or a restart of the server never makes two of it.

use crate::cli::gate::server::Failure;
use crate::cli::gate::{End, NOT_PROVEN, Prepared};
use crate::clock::{Clock, SystemClock};
use crate::domain::ids::{Digest, RequestId};
use crate::domain::time::Time;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// A request that was opened.
#[derive(Debug)]
pub struct Asked {
    pub id: RequestId,
    pub url: String,
    pub status: String,
    pub expires_at: Option<String>,
    /// From the answer on.
    pub lifetime: Option<Duration>,
    /// The metadata's bytes as they were sent.
    pub claimed: String,
    /// Names this use of the approval, so that a repeated call is not a second one.
    pub nonce: String,
}

impl Asked {
    /// Opens the request.
    pub async fn open(prepared: &Prepared) -> Result<Asked, End> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(|e| {
            End::new(
                crate::cli::gate::USAGE,
                "usage",
                format!("no random numbers: {e}"),
            )
        })?;
        let nonce = hex::encode(bits);
        let (commit, project) = (prepared.commit.as_deref(), prepared.project.as_deref());
        let claimed = prepared.ci.metadata(commit, project, &nonce);
        let body = body(prepared, &claimed).map_err(|e| End::new(NOT_PROVEN, "not_proven", e.to_string()))?;
        let made = prepared
            .server
            .open(&nonce, body)
            .await
            .map_err(|failure| match failure {
                Failure::NotAuthorised(reason) if project.is_some() => Failure::NotAuthorised(format!(
                    "{reason} Is the key for project {}? Another one is named with --project.",
                    project.unwrap_or_default()
                )),
                other => other,
            })?;
        let text = |name: &str| made[name].as_str().map(str::to_owned);
        let strange = || {
            End::new(
                NOT_PROVEN,
                "not_proven",
                "The server's answer is not that of an appliance.",
            )
        };
        let expires_at = text("expires_at");
        let lifetime = expires_at
            .as_deref()
            .and_then(Time::parse)
            .map(|it| Duration::from_secs(SystemClock.now().seconds_until(it)));
        Ok(Asked {
            id: text("id")
                .and_then(|it| RequestId::parse(&it))
                .ok_or_else(strange)?,
            url: text("url")
                .map(|it| crate::domain::text::visible(&it))
                .ok_or_else(strange)?,
            status: text("status").ok_or_else(strange)?,
            // A gate that was given a time keeps to it, whatever the server says.
            lifetime: match (lifetime, prepared.ttl) {
                (Some(told), Some(own)) => Some(told.min(Duration::from_secs(own.into()))),
                (None, Some(own)) => Some(Duration::from_secs(own.into())),
                (told, None) => told,
            },
            expires_at,
            claimed,
            nonce,
        })
    }

    /// Digest of the metadata: the subject of the request must name it.
    pub fn claimed_sha256(&self) -> Digest {
        Digest::of(self.claimed.as_bytes())
    }
}

/// The request's body. The metadata stand in it byte by byte as their digest is made.
#[derive(Serialize)]
struct Body<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Subject<'a>>,
    metadata: &'a RawValue,
}

#[derive(Serialize)]
struct Subject<'a> {
    digest: Digests<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Digests<'a> {
    git_commit: &'a str,
}

fn body(prepared: &Prepared, claimed: &str) -> Result<String, serde_json::Error> {
    let metadata = RawValue::from_string(claimed.to_owned())?;
    serde_json::to_string(&Body {
        action: &prepared.action,
        environment: prepared.environment.as_deref(),
        project: prepared.project.as_deref(),
        ttl_seconds: prepared.ttl,
        subject: prepared.commit.as_deref().map(|git_commit| Subject {
            digest: Digests { git_commit },
        }),
        metadata: &metadata,
    })
}
