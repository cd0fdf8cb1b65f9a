//! How the sinks are doing: what their workers write down and pages, programs and decisions read. In memory only; what has to
//! outlive a restart is in the journal.

use crate::domain::ids::SinkId;
use crate::domain::time::Time;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// How one sink is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The first entry it lacks.
    pub next: u64,
    /// When it last stored something.
    pub stored_at: Option<Time>,
    /// Since when it fails, and why it did the last time.
    pub failing: Option<(Time, String)>,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// Whether a decision may rely on what it took.
    pub confirms: bool,
}

/// Whether a decision needs a sink that has stored it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requirement {
    /// No: the journal is what counts, and sinks follow.
    #[default]
    None,
    /// One of them, within this time.
    Any(Duration),
}

/// All sinks' health.
#[derive(Debug)]
pub struct Board {
    health: Mutex<BTreeMap<SinkId, Health>>,
    /// Up to where the sink that is furthest has stored, by its own word.
    furthest: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Board {
            health: Mutex::default(),
            furthest: watch::Sender::new(0),
        }
    }
}

impl Board {
    /// How a sink is doing; `None` before its worker has begun.
    pub fn health(&self, sink: &SinkId) -> Option<Health> {
        self.lock().get(sink).cloned()
    }

    /// Writes down how a sink is doing.
    pub fn set(&self, sink: &SinkId, health: Health) {
        let mut all = self.lock();
        all.insert(sink.clone(), health);
        let furthest = all.values().filter(|it| it.confirms).map(|it| it.next).max();
        drop(all);
        self.furthest
            .send_if_modified(|it| std::mem::replace(it, furthest.unwrap_or(0)) != furthest.unwrap_or(0));
    }

    /// A sink is gone.
    pub fn forget(&self, sink: &SinkId) {
        self.lock().remove(sink);
    }

    /// Waits until some sink has stored every entry before `size`. `false`: none had within `limit`.
    pub async fn stored(&self, size: u64, limit: Duration) -> bool {
        let mut furthest = self.furthest.subscribe();
        let reached = furthest.wait_for(|it| *it >= size);
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SinkId, Health>> {
        // A panic while holding the lock leaves a map that is whole.
        self.health
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
