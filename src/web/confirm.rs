//! A passkey under one call. A person asks for a ceremony over exactly what they are about to send (method, path, digest of
//! the body, reason), answers it, and sends the call with the word they got. Whatever the call commands then carries the
//! ceremony along; the rules say which commands need it.

use crate::domain::command::{Command, Confirmed};
use crate::domain::ids::Digest;
use crate::domain::time::Time;
use crate::identity::hash_token;
use crate::web::app::App;
use crate::web::body::WEBHOOK_BYTES_MAX;
use crate::web::problem::Problem;
use crate::web::reason;
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{Error, HttpMessage};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

/// The header with the word.
pub const HEADER: &str = "x-confirmation";
/// How long a confirmed call may be sent, in seconds: as long as a ceremony.
const LIFETIME_SECONDS: u64 = 120;
/// Confirmed calls that were not sent yet, at the most. Each took a passkey, so there are few.
const OPEN_MAX: usize = 1_000;

tokio::task_local! {
    static CONFIRMED: Option<Confirmed>;
}

/// A call as it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub method: String,
    /// With its query.
    pub path: String,
    pub body_sha256: Digest,
    /// As the journal is to have it.
    pub reason: String,
}

/// Confirmed calls that were not sent yet, by the digest of their word.
#[derive(Default)]
pub struct Confirmations {
    open: Mutex<HashMap<Digest, (Call, Confirmed, Time)>>,
}

impl Confirmations {
    /// Keeps one.
    pub fn keep(&self, word: Digest, call: Call, confirmed: Confirmed, now: Time) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, _, until)| *until > now);
        if open.len() < OPEN_MAX {
            open.insert(word, (call, confirmed, now.plus_seconds(LIFETIME_SECONDS)));
        }
    }

    /// Takes one out, once, whatever comes of it.
    fn take(&self, word: &Digest, now: Time) -> Option<(Call, Confirmed)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (call, confirmed, until) = open.remove(word)?;
        (now < until).then_some((call, confirmed))
    }
}

/// A command with the ceremony of the call that is being answered.
pub fn with_ceremony(command: Command) -> Command {
    match current() {
        Some(confirmed) => Command::Confirmed {
            confirmed: Box::new(confirmed),
            command: Box::new(command),
        },
        None => command,
    }
}

/// The ceremony of the call that is being answered.
pub fn current() -> Option<Confirmed> {
    CONFIRMED.try_with(Clone::clone).unwrap_or_default()
}

/// Work that goes on in a task of its own, with the ceremony of the call that began it.
pub async fn within<T>(confirmed: Option<Confirmed>, work: impl Future<Output = T>) -> T {
    CONFIRMED.scope(confirmed, work).await
}

/// Surrounds each call: finds its ceremony, and makes sure that it is about this very call.
pub async fn carry(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some(word) = request.headers().get(HEADER) else {
        return next.call(request).await;
    };
    let word = hash_token(word.to_str().unwrap_or_default());
    let Some(app) = request.app_data::<Data<App>>().cloned() else {
        return Err(Problem::internal("no app").into());
    };
    let Some((call, confirmed)) = app.confirmations.take(&word, app.now()) else {
        return Err(Problem::ceremony_spent().into());
    };
    let mut body = Vec::new();
    let mut payload = request.take_payload();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("The body broke off."))?;
        if body.len() + chunk.len() > WEBHOOK_BYTES_MAX {
            return Err(Problem::too_large(WEBHOOK_BYTES_MAX).into());
        }
        body.extend_from_slice(&chunk);
    }
    let said = Call {
        method: request.method().as_str().to_owned(),
        path: request
            .uri()
            .path_and_query()
            .map_or_else(String::new, |it| it.as_str().to_owned()),
        body_sha256: Digest::of(&body),
        reason: reason::read(request.headers())?.unwrap_or_default(),
    };
    if said != call {
        // Burnt all the same: a ceremony that turns up under another call is nobody's any more.
        return Err(Problem::ceremony_failed().into());
    }
    request.set_payload(Payload::from(Bytes::from(body)));
    within(Some(confirmed), next.call(request)).await
}
