//! How much one API key may ask of this server: a bucket a key for calls that change something, one for reads, and so many
//! long polls at once. In memory: a restart forgets what was used, and nothing depends on it.

use crate::domain::ids::ApiKeyId;
use crate::web::problem::Problem;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Long polls of one key that wait at once. A pipeline needs one.
const POLLS_MAX: usize = 2_000;
/// Seconds after which somebody who waits for a place may try again.
const COME_BACK_SECONDS: u64 = 5;
/// A bucket holds what comes in so many seconds: a burst of that size is nothing unusual.
const BURST_SECONDS: f64 = 10.0;
/// A bucket that is full again tells nothing, so it is forgotten once there are so many.
const BUCKETS_MAX: usize = 10_000;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    Read,
    Change,
}

/// Calls a minute that one key may make; 0: as many as it likes.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub reads: u32,
    pub changes: u32,
}

struct Bucket {
    left: f64,
    at: Instant,
}

/// What every key has used.
pub struct Limits {
    rates: Rates,
    buckets: Mutex<HashMap<(ApiKeyId, Use), Bucket>>,
    polls: Arc<Mutex<HashMap<ApiKeyId, usize>>>,
}

/// A place among the long polls of a key; it is free again when this is dropped.
pub struct Poll {
    key: ApiKeyId,
    polls: Arc<Mutex<HashMap<ApiKeyId, usize>>>,
}

impl Limits {
    /// Nothing used yet.
    pub fn new(rates: Rates) -> Self {
        Limits {
            rates,
            buckets: Mutex::default(),
            polls: Arc::default(),
        }
    }

    /// Counts one call of a key.
    ///
    /// # Errors
    /// 429, with the seconds after which there is room again.
    pub fn take(&self, key: &ApiKeyId, what: Use, now: Instant) -> Result<(), Problem> {
        let a_minute = match what {
            Use::Read => self.rates.reads,
            Use::Change => self.rates.changes,
        };
        if a_minute == 0 {
            return Ok(());
        }
        let a_second = f64::from(a_minute) / 60.0;
        let full = (a_second * BURST_SECONDS).max(1.0);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            let time_to_fill = Duration::from_secs_f64(full / a_second);
            buckets.retain(|_, it| now.saturating_duration_since(it.at) < time_to_fill);
        }
        let bucket = buckets
            .entry((key.clone(), what))
            .or_insert(Bucket { left: full, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * a_second).min(full);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait = ((1.0 - bucket.left) / a_second).ceil();
        let kind = match what {
            Use::Read => "reads",
            Use::Change => "changes",
        };
        Err(Problem::too_often(
            &format!("This key may make {a_minute} {kind} a minute."),
            // At most a minute: a rate of one a minute fills its bucket in sixty seconds.
            (wait as u64).clamp(1, 60),
        ))
    }

    /// Takes a place among the long polls of a key.
    ///
    /// # Errors
    /// 429 when the key has as many as one may.
    pub fn poll(&self, key: &ApiKeyId) -> Result<Poll, Problem> {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = polls.entry(key.clone()).or_insert(0);
        if *count >= POLLS_MAX {
            let detail = format!("{POLLS_MAX} calls of this key wait already.");
            return Err(Problem::too_often(&detail, COME_BACK_SECONDS));
        }
        *count += 1;
        Ok(Poll {
            key: key.clone(),
            polls: self.polls.clone(),
        })
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = polls.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                polls.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(nth: u8) -> ApiKeyId {
        ApiKeyId::from_random([nth; 16])
    }

    #[test]
    fn a_key_that_has_used_its_share_waits_and_nobody_else_does() {
        let limits = Limits::new(Rates {
            reads: 0,
            changes: 60,
        });
        let start = Instant::now();
        for _ in 0..10 {
            limits.take(&key(1), Use::Change, start).expect("the burst");
        }
        assert!(limits.take(&key(1), Use::Change, start).is_err());
        limits.take(&key(2), Use::Change, start).expect("another key");
        for _ in 0..1_000 {
            limits.take(&key(1), Use::Read, start).expect("no limit");
        }
        let later = start + Duration::from_secs(1);
        limits.take(&key(1), Use::Change, later).expect("one a second");
        assert!(limits.take(&key(1), Use::Change, later).is_err());
    }

    #[test]
    fn a_place_is_free_again_when_its_poll_ends() {
        let limits = Limits::new(Rates { reads: 0, changes: 0 });
        let mut held: Vec<Poll> = (0..POLLS_MAX)
            .map(|_| limits.poll(&key(1)).expect("a place"))
            .collect();
        assert!(limits.poll(&key(1)).is_err());
        assert!(limits.poll(&key(2)).is_ok());
        held.pop();
        assert!(limits.poll(&key(1)).is_ok());
        drop(held);
        assert!(limits.polls.lock().expect("not poisoned").is_empty());
    }
}
