//! What an erasure would take away, before anybody orders it.

use crate::audit::Error;
use crate::domain::retention::{ErasureScope, examine};
use crate::domain::time::Time;
use crate::store::Store;

/// Requests looked at in one view of the database.
const ROWS: usize = 1_000;
/// Requests named one by one.
const NAMED_MAX: usize = 20;

/// What an erasure would take away.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Erasable {
    pub requests: u64,
    pub documents: u64,
    /// Their size together.
    pub bytes: u64,
    /// The first of the requests, oldest first.
    pub first: Vec<Named>,
    /// Requests that are meant and stay: their time of retention is not over.
    pub retained: u64,
    /// They wait, or can still be used.
    pub in_use: u64,
    /// An earlier version opened them, and others may share their documents.
    pub shared: u64,
}

/// One request, for people.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Named {
    pub id: String,
    /// Text from outside.
    pub title: String,
    pub ended_at: Option<Time>,
}

/// Counts what an erasure would take away now.
///
/// # Errors
/// When the store can't be read.
pub fn erasable(store: &Store, scope: &ErasureScope, before: Time, now: Time) -> Result<Erasable, Error> {
    let mut sum = Erasable::default();
    let mut from = 0;
    loop {
        let state = store.read()?;
        let found = examine(scope, before, now, from, ROWS, &state)?;
        sum.retained += found.retained;
        sum.in_use += found.in_use;
        sum.shared += found.shared;
        for request in found.erasable {
            sum.requests += 1;
            let credentials = request.decisions.iter().map(|it| it.credential);
            for digest in credentials.chain([request.opening]).chain(request.outcome) {
                sum.documents += 1;
                sum.bytes += state.blob_bytes(&digest)?.unwrap_or_default();
            }
            if sum.first.len() < NAMED_MAX {
                sum.first.push(Named {
                    id: request.id.to_string(),
                    title: request.title,
                    ended_at: request.decided_at,
                });
            }
        }
        match found.next {
            Some(next) => from = next,
            None => return Ok(sum),
        }
    }
}
