//! Deadlines: turns one that has passed into a command. The clock is read here and nowhere below.

use crate::clock::Clock;
use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::ids::RequestId;
use crate::domain::state::{Read, Table};
use crate::engine::Engine;
use crate::store;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;

/// How often deadlines are looked at: a request expires at most this late, in milliseconds.
const LOOK_EVERY_MS: u64 = 250;

/// Deadlines handled in one look, so that a burst of them does not fill the writer's queue.
const DUE_MAX: usize = 512;

/// Expires what is due, for ever.
pub async fn run_timers(store: Arc<Store>, clock: Arc<dyn Clock>, engine: Engine) {
    let mut every = tokio::time::interval(Duration::from_millis(LOOK_EVERY_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let due = match due(&store, &*clock) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "deadlines can't be read");
                continue;
            }
        };
        for request in due {
            if let Err(error) = engine.submit(Actor::System, Command::Expire { request }).await {
                tracing::warn!(%error, "a request could not be expired yet");
            }
        }
    }
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
