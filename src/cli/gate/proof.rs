//! Fetches what proves an approval, verifies all of it here, spends the approval, and only then writes the receipt.

use crate::cli::gate::ask::Asked;
use crate::cli::gate::server::Failure;
use crate::cli::gate::{End, NOT_PROVEN, Prepared, USAGE};
use crate::cli::pinned;
use crate::clock::{Clock, SystemClock};
use crate::domain::text::visible;
use crate::evidence::outcome::Outcome;
use crate::evidence::receipt::{Held, Receipt};
use crate::evidence::verify::{self, Body, Expect, Trust};

/// Most credentials that are fetched: more than any quorum.
const CREDENTIALS_MAX: usize = 1_000;

/// An approval that verifies.
pub struct Proven {
    /// In one sentence.
    pub verdict: String,
    /// A rule asked for nobody.
    pub skipped: bool,
}

/// Proves the approval of a request.
pub async fn prove(prepared: &Prepared, asked: &Asked) -> Result<Proven, End> {
    let trust = Trust {
        keys: &prepared.keys,
        log_keys: &prepared.log_keys,
    };
    let expect = Expect {
        commit: prepared.commit.as_deref(),
        action: Some(&prepared.action),
        environment: prepared.environment.as_deref(),
        project: prepared.project.as_deref(),
        request: Some(asked.id.as_str()),
        claimed: Some(asked.claimed_sha256()),
        at: Some(SystemClock.now()),
    };
    let outcome = fetched(prepared, &["approvals", asked.id.as_str(), "outcome"]).await?;
    let (report, verified) = verify::document(&outcome, &trust, &expect, None);
    let Some(Body::Outcome {
        outcome: statement, ..
    }) = verified.map(|it| it.body)
    else {
        return Err(not_proven("the outcome", &report));
    };
    let mut named: Vec<&String> = statement
        .obligations
        .iter()
        .flat_map(|it| &it.credentials)
        .collect();
    named.sort();
    named.dedup();
    if named.len() > CREDENTIALS_MAX {
        return Err(End::new(
            NOT_PROVEN,
            "not_proven",
            "The outcome names more credentials than there can be.",
        ));
    }
    let mut credentials = Vec::new();
    for id in named {
        credentials.push(Held {
            credential: fetched(prepared, &["credentials", id]).await?,
            event: fetched(prepared, &["credentials", id, "event"]).await?,
            proof: fetched(prepared, &["credentials", id, "proof"]).await?,
        });
    }
    let receipt = Receipt {
        request: asked.id.clone(),
        claimed: asked.claimed.clone().into_bytes(),
        outcome,
        credentials,
    };
    let bytes = receipt.to_bytes();
    let report = verify::receipt(&bytes, &trust, &expect);
    let Some(verdict) = report.verdict.clone().filter(|_| report.valid) else {
        return Err(not_proven("the approval", &report));
    };
    let skipped = statement.outcome == Outcome::Skipped;
    // A skip can't be spent: it is the rule's, not anybody's approval.
    if !skipped && !prepared.server.consume(&asked.id, &asked.nonce).await? {
        return Err(End::new(
            NOT_PROVEN,
            "not_proven",
            "The approval verifies, but it was used before or its time has passed: it is good for one deployment.",
        ));
    }
    if let Some(path) = &prepared.receipt {
        pinned::write(path, &bytes).map_err(|reason| End::new(USAGE, "usage", reason))?;
    }
    Ok(Proven { verdict, skipped })
}

/// A part of the proof. One that the server does not hand out is one that is not there.
async fn fetched(prepared: &Prepared, segments: &[&str]) -> Result<Vec<u8>, End> {
    match prepared.server.file(segments).await {
        Ok(bytes) => Ok(bytes),
        Err(failure @ Failure::Unreachable(_)) => Err(failure.into()),
        Err(Failure::NotAuthorised(reason) | Failure::Refused(reason)) => Err(End::new(
            NOT_PROVEN,
            "not_proven",
            format!("The server says it is approved and does not give the proof. {reason}"),
        )),
    }
}

/// What did not verify, in one sentence.
fn not_proven(what: &str, report: &verify::Report) -> End {
    let failed: Vec<String> = report
        .checks
        .iter()
        .filter(|it| !it.ok)
        .map(|it| format!("{}: {}", it.name, it.detail))
        .collect();
    End::new(
        NOT_PROVEN,
        "not_proven",
        format!(
            "The server says it is approved, but {what} does not verify ({}).",
            visible(&failed.join("; "))
        ),
    )
}
