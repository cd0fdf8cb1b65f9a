//! Sessions that nobody uses end (setting `security.session_idle`). When each was last used is kept in memory: a restart gives
//! each its idle time once more, and its absolute limit holds all the same.

use crate::domain::ids::Digest;
use crate::domain::time::Time;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Sessions that are remembered before those that are idle are forgotten.
const KEPT_MAX: usize = 10_000;

/// When each session was last used.
pub struct SessionUses {
    limit_seconds: u64,
    started_at: Time,
    last: Mutex<HashMap<Digest, Time>>,
}

impl SessionUses {
    /// None was used yet since the start.
    pub fn new(limit_seconds: u64, started_at: Time) -> Self {
        SessionUses {
            limit_seconds,
            started_at,
            last: Mutex::default(),
        }
    }

    /// Notes that a session is used that was opened at `opened_at`; `false` when it was idle for too long, and then for ever.
    pub fn note(&self, session: &Digest, opened_at: Time, now: Time) -> bool {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // One that nobody used yet is idle since it was opened.
        let last = *all.entry(*session).or_insert(opened_at.max(self.started_at));
        let idle = last.seconds_until(now) >= self.limit_seconds;
        if !idle {
            all.insert(*session, now.max(last));
        }
        if all.len() > KEPT_MAX {
            // An idle session has to stay idle, so only those go that are past any use.
            all.retain(|_, at| at.seconds_until(now) < crate::web::session::SESSION_SECONDS);
        }
        !idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_idle_for_the_limit_ends_and_does_not_come_back() {
        let uses = SessionUses::new(60, Time(0));
        let (mine, other, unused) = (Digest([1; 32]), Digest([2; 32]), Digest([3; 32]));
        for at in [0, 59_999, 119_000] {
            assert!(uses.note(&mine, Time(0), Time(at)), "in use at {at}");
        }
        assert!(uses.note(&other, Time(119_000), Time(119_000)));
        assert!(!uses.note(&mine, Time(0), Time(179_000)), "a minute later");
        assert!(
            !uses.note(&mine, Time(0), Time(179_001)),
            "trying does not bring it back"
        );
        assert!(uses.note(&other, Time(119_000), Time(178_999)), "each by itself");
        assert!(
            uses.note(&other, Time(119_000), Time(100_000)),
            "a clock that goes back ends nothing"
        );
        assert!(
            !uses.note(&unused, Time(100_000), Time(160_000)),
            "one that was never used is idle since it was opened"
        );
        let restarted = SessionUses::new(60, Time(150_000));
        assert!(
            restarted.note(&unused, Time(100_000), Time(160_000)),
            "a restart gives each its idle time once more"
        );
    }

    #[test]
    fn many_sessions_do_not_bring_an_idle_one_back() {
        let uses = SessionUses::new(60, Time(0));
        let idle = Digest([255; 32]);
        assert!(uses.note(&idle, Time(0), Time(0)));
        for n in 0..=KEPT_MAX as u64 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            assert!(uses.note(&Digest(bytes), Time(100_000), Time(100_000)));
        }
        assert!(!uses.note(&idle, Time(0), Time(100_000)));
    }
}
