//! Calls back whoever asked for it once a request has its outcome, signed as Standard Webhooks. What is owed stands in a
//! projection, so that a restart goes on where it was. A callback proves nothing: it says when to fetch the proof.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::ids::RequestId;
use crate::domain::people::callback_secret_name;
use crate::domain::request::{Opening, Request, Requester};
use crate::domain::state::{Read, Table, decode};
use crate::domain::time::Time;
use crate::effects::errands::Errands;
use crate::effects::{Surroundings, Trouble};
use crate::forge::Unseal;
use crate::outbound::standard_webhook::{SigningSecret, signed};
use crate::outbound::{Call, Client, Method, Outcome};
use serde_json::json;
use std::time::Duration;
use url::Url;

/// A receiver has this long to answer.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Bytes of its answer that are read: none of it is used.
const ANSWER_BYTES_MAX: u64 = 4096;
/// Whoever has not answered for a day gets no callback any more.
const GIVEN_UP_SECONDS: u64 = 24 * 3_600;

/// Makes all callbacks, for ever.
///
/// # Errors
/// The state can't be read.
pub async fn run_callbacks(at: Surroundings, client: Client, unseal: Unseal) -> Result<(), Trouble> {
    let errands = Errands {
        table: Table::OpenCallbacks,
        rows_max: 10_000,
        in_flight_max: 16,
        what: "a callback can't be made",
    };
    let work = at.clone();
    errands
        .run(at, move |request| {
            let (at, client, unseal) = (work.clone(), client.clone(), unseal.clone());
            async move { call_back(&at, &client, &unseal, &request).await }
        })
        .await
}

/// One attempt. `Some`: not before this time again.
async fn call_back(
    at: &Surroundings,
    client: &Client,
    unseal: &Unseal,
    id: &RequestId,
) -> Result<Option<Duration>, Trouble> {
    let snapshot = at.store.read()?;
    let Some(request) = snapshot.get::<Request>(id.as_str())? else {
        return Ok(None);
    };
    let now = at.clock.now();
    let opening: Option<Opening> = snapshot
        .blob(&request.opening)?
        .map(|it| decode(&it))
        .transpose()?;
    let secret = match &request.requester {
        Requester::Key { id, .. } => {
            let name = callback_secret_name(id);
            let sealed = snapshot.secret(&name)?;
            sealed.and_then(|it| unseal(&name, &it)).and_then(|it| {
                let text = String::from_utf8(it).ok()?;
                SigningSecret::read(&text)
            })
        }
        _ => None,
    };
    drop(snapshot);
    let url = opening
        .as_ref()
        .and_then(|it| Url::parse(it.callback_url.as_deref()?).ok());
    let (Some(url), Some(secret)) = (url, secret) else {
        return settle(
            at,
            id,
            false,
            Some("The key's callback secret can't be opened.".into()),
        )
        .await;
    };
    let body = message(&request, opening.as_ref(), &at.public_url);
    // The same for every attempt, so that a receiver drops what it has.
    let message_id = format!("{}-{}", request.id, request.status.name());
    let call = Call::new(Method::Post, url).limit(CALL_MAX).cap(ANSWER_BYTES_MAX);
    let call = signed(
        call,
        &message_id,
        now.0 / 1000,
        body,
        std::slice::from_ref(&secret),
    );
    let outcome = match client.fetch(call).await {
        Ok(_) => Outcome::Delivered(()),
        // An answer that is long or strange is an answer: the receiver has it.
        Err(crate::outbound::Error::TooLarge { .. }) => Outcome::Delivered(()),
        Err(error) => error.into_outcome(),
    };
    match outcome {
        Outcome::Delivered(()) => settle(at, id, true, None).await,
        Outcome::Rejected { reason } => settle(at, id, false, Some(reason)).await,
        Outcome::Retry { reason, .. } if overdue(&request, now) => settle(at, id, false, Some(reason)).await,
        Outcome::Retry { after, reason } => {
            tracing::info!(%reason, request = %id, "a callback is tried again");
            Ok(Some(after.unwrap_or_default()))
        }
    }
}

fn overdue(request: &Request, now: Time) -> bool {
    request
        .decided_at
        .is_some_and(|it| it.seconds_until(now) > GIVEN_UP_SECONDS)
}

async fn settle(
    at: &Surroundings,
    id: &RequestId,
    delivered: bool,
    reason: Option<String>,
) -> Result<Option<Duration>, Trouble> {
    let command = Command::RecordCallback {
        request: id.clone(),
        delivered,
        reason,
    };
    at.engine.submit(Actor::System, command).await?;
    Ok(None)
}

/// The body: what happened to which request, and nothing that a caller would have to trust.
fn message(request: &Request, opening: Option<&Opening>, public_url: &str) -> Vec<u8> {
    let digest = opening.and_then(|it| it.digest.as_ref());
    json!({
        "type": format!("request.{}", request.status.name()),
        "timestamp": request.decided_at,
        "data": {
            "id": request.id,
            "kind": request.kind.name(),
            "status": request.status.name(),
            "environment": request.environment,
            "project": request.project_name,
            "digest": digest.map(|(name, hex)| json!({ name: hex })),
            "decided_at": request.decided_at,
            "expires_at": request.expires_at,
            "url": format!("{public_url}/api/v1/approvals/{}", request.id),
        },
    })
    .to_string()
    .into_bytes()
}
