//! Deadlines: turns one that has passed into a command, and finds those that stricter rules have brought forward. The
//! clock is read here and nowhere below.

use crate::clock::Clock;
use crate::domain::apply::RULES;
use crate::domain::command::Command;
use crate::domain::decide::shortened;
use crate::domain::event::Actor;
use crate::domain::ids::RequestId;
use crate::domain::request::Request;
use crate::domain::state::{Read, Table};
use crate::engine::{Condition, Engine};
use crate::store;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;

/// How often deadlines are looked at: a request expires at most this late, in milliseconds.
const LOOK_EVERY_MS: u64 = 250;

/// How often the signing keys of an agent are looked for, in milliseconds; and while they are away.
const SIGNER_LOOK_MS: u64 = 2_000;
const SIGNER_LOOK_DOWN_MS: u64 = 500;

/// Deadlines handled in one look, so that a burst of them does not fill the writer's queue.
const DUE_MAX: usize = 512;

/// Waiting requests judged anew in one go, outside the writer, after the rules have changed.
const JUDGED_AT_ONCE: usize = 64;

/// Expires what is due and shortens what the rules have shortened, for ever.
pub async fn run_timers(store: Arc<Store>, clock: Arc<dyn Clock>, engine: Engine) {
    tokio::join!(
        expire_due(&store, &*clock, &engine),
        shorten_waiting(&store, &engine),
        watch_signer(&engine)
    );
}

/// Whether the signing keys are there, and the clock is right, shows also while nobody decides anything.
async fn watch_signer(engine: &Engine) {
    loop {
        let down = engine.health().has(Condition::SignerDown);
        let wait = if down { SIGNER_LOOK_DOWN_MS } else { SIGNER_LOOK_MS };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        engine.look_at_signer();
    }
}

async fn expire_due(store: &Store, clock: &dyn Clock, engine: &Engine) {
    let mut every = ticks();
    loop {
        every.tick().await;
        let due = match due(store, clock) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "deadlines can't be read");
                continue;
            }
        };
        give(engine, due, |request| Command::Expire { request }).await;
    }
}

/// After each change of the rules (and once after a start) looks through everything that waits. Until it has come to a
/// request, whoever asks about that one is told its new time all the same: `as_judged_now` knows it.
async fn shorten_waiting(store: &Arc<Store>, engine: &Engine) {
    let mut every = ticks();
    let mut judged_by: Option<Vec<u8>> = None;
    loop {
        every.tick().await;
        let rules = store
            .read()
            .and_then(|it| Ok(it.get_raw(Table::Counters, RULES)?));
        let rules = match rules {
            Ok(rules) => rules.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "the rules can't be read");
                continue;
            }
        };
        if judged_by.as_ref() == Some(&rules) {
            continue;
        }
        let (mut from, mut whole) = (Some(Vec::new()), true);
        while let Some(row) = from {
            let store = Arc::clone(store);
            // Judging reads whole file lists: not on a thread that answers people.
            let page = tokio::task::spawn_blocking(move || shortened_from(&store, &row)).await;
            from = match page {
                Ok(Ok((shorter, next))) => {
                    whole &= give(engine, shorter, |request| Command::Shorten { request }).await;
                    next
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "waiting requests can't be judged");
                    whole = false;
                    None
                }
                Err(error) => {
                    tracing::error!(%error, "waiting requests can't be judged");
                    whole = false;
                    None
                }
            };
        }
        // What could not be done is tried again at the next look.
        judged_by = whole.then_some(rules);
    }
}

fn ticks() -> tokio::time::Interval {
    let mut every = tokio::time::interval(Duration::from_millis(LOOK_EVERY_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every
}

/// Whether all of them were carried out.
async fn give(engine: &Engine, requests: Vec<RequestId>, command: impl Fn(RequestId) -> Command) -> bool {
    let mut all = true;
    for request in requests {
        if let Err(error) = engine.submit(Actor::System, command(request)).await {
            // While a signing key is away this is told of often enough.
            all = false;
            if !matches!(error, crate::engine::Error::Sealed(_)) {
                tracing::warn!(%error, "a request's deadline could not be recorded yet");
            }
        }
    }
    all
}

/// The requests of one page that have less time than is recorded, and the row the next page begins with.
fn shortened_from(store: &Store, from: &[u8]) -> Result<(Vec<RequestId>, Option<Vec<u8>>), store::Error> {
    let snapshot = store.read()?;
    let rows = snapshot.scan_raw(Table::Waiting, from, &[0xff; 8], JUDGED_AT_ONCE, false)?;
    let next = rows.get(JUDGED_AT_ONCE - 1).map(|(row, _)| {
        let mut next = row.clone();
        next.push(0);
        next
    });
    let mut found = Vec::new();
    for (row, _) in rows {
        let Some(id) = std::str::from_utf8(&row).ok().and_then(RequestId::parse) else {
            continue;
        };
        if let Some(request) = snapshot.get::<Request>(id.as_str())?
            && shortened(request, &snapshot)?.is_some()
        {
            found.push(id);
        }
    }
    Ok((found, next))
}

fn due(store: &Store, clock: &dyn Clock) -> Result<Vec<RequestId>, store::Error> {
    let now = u64::try_from(clock.now().0).unwrap_or(0);
    let snapshot = store.read()?;
    // Half-open: a deadline of this very millisecond has passed.
    let rows = snapshot.scan_raw(Table::Deadlines, &[], &(now + 1).to_be_bytes(), DUE_MAX, false)?;
    Ok(rows
        .iter()
        .filter_map(|(row, _)| std::str::from_utf8(row.get(8..)?).ok().and_then(RequestId::parse))
        .collect())
}
