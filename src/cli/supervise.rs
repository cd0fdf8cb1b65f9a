//! What the service manager is told (`sd_notify(3)`), and the watchdog. Without one all of it is nothing.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::engine::Engine;
use crate::store::Store;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;

/// Area of no conditions: a command that decides nothing, and yet goes through queue, writer and disk.
const PROBE: &str = "watchdog";

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// It serves from now on.
pub fn ready(public_url: &str) {
    tell(&[
        NotifyState::Ready,
        NotifyState::Status(&format!("serving {public_url}")),
    ]);
}

/// Settings are being read anew; `ready` has to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager could not be told"),
    }
}

/// It ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Tells the watchdog that the appliance is alive, as long as a command gets through the writer and the database can be
/// read. Where one of them hangs, nothing is told, and the service manager starts the appliance anew.
pub async fn watchdog(engine: Engine, store: Arc<Store>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    // Half of the limit, as sd_watchdog_enabled(3) advises, so that one slow round is forgiven.
    let mut tick = tokio::time::interval((limit / 2).max(Duration::from_millis(100)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let command = Command::ReportConditions {
            area: PROBE,
            now: Vec::new(),
        };
        let written = engine.submit(Actor::System, command).await;
        match (written, store.read().and_then(|it| it.size())) {
            (Ok(_), Ok(_)) => tell(&[NotifyState::Watchdog]),
            // A full queue moves: the writer is alive.
            (Err(crate::engine::Error::Busy), Ok(_)) => tell(&[NotifyState::Watchdog]),
            (Err(error), _) => tracing::warn!(%error, "the watchdog is told nothing"),
            (_, Err(error)) => tracing::warn!(%error, "the watchdog is told nothing"),
        }
    }
}
