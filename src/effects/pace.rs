//! How long to wait before trying again: doubling, with a ceiling, never shorter than the other side asked for.

use crate::outbound::jitter;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// When each piece of work may be tried next.
pub(super) struct Pace<K> {
    waiting: HashMap<K, (u32, Instant)>,
}

impl<K: Eq + Hash + Clone> Pace<K> {
    pub(super) fn new() -> Self {
        Pace {
            waiting: HashMap::new(),
        }
    }

    /// Whether it may be tried now.
    pub(super) fn is_due(&self, key: &K) -> bool {
        self.waiting.get(key).is_none_or(|(_, at)| *at <= Instant::now())
    }

    /// How often it failed in a row.
    pub(super) fn failures(&self, key: &K) -> u32 {
        self.waiting.get(key).map_or(0, |(failures, _)| *failures)
    }

    /// It failed; not before `at_least`.
    pub(super) fn failed(&mut self, key: &K, at_least: Option<Duration>) {
        let failures = self.failures(key);
        let doubled = FIRST
            .saturating_mul(2_u32.saturating_pow(failures.min(10)))
            .min(LONGEST);
        let wait = at_least.unwrap_or_default().max(jitter(doubled));
        self.waiting
            .insert(key.clone(), (failures.saturating_add(1), Instant::now() + wait));
    }

    /// It is done.
    pub(super) fn done(&mut self, key: &K) {
        self.waiting.remove(key);
    }
}
