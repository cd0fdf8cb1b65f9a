//! One-time codes by time (TOTP, RFC 6238): what is recorded of a person's generator, and how often somebody may be wrong.
//!
//! A code binds nothing: it shows that somebody held the generator, not what they wanted. So a decision by one rests on the
//! server's word alone, and is called that everywhere.

use crate::domain::ids::PersonId;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Seconds a code lasts (RFC 6238 §5.2), as every app understands it.
pub const PERIOD_SECONDS: u64 = 30;
/// Digits of a code.
pub const DIGITS: u64 = 6;
/// Steps before and after the current one that are taken too (RFC 6238 §5.2).
pub const SKEW_STEPS: u64 = 1;
/// Wrong codes within `WINDOW_SECONDS`; after them none is looked at for a while.
pub const WRONG_IN_WINDOW_MAX: usize = 5;
/// How long a wrong code counts against its owner, in seconds.
pub const WINDOW_SECONDS: u64 = 300;
/// Wrong codes one after the other, over any time; after them the generator is locked for good.
pub const WRONG_IN_A_ROW_MAX: u32 = 10;
/// How much a decision by a code is worth (`evidence.md`: the server says that the code was right; nobody else can check).
pub const GRADE: &str = "server-attested";

/// Name of a generator's secret among the sealed secrets.
pub fn totp_secret(person: &PersonId) -> String {
    format!("totp/{person}")
}

/// The time step of an instant.
pub fn step_at(now: Time) -> u64 {
    u64::try_from(now.0).unwrap_or(0) / (PERIOD_SECONDS * 1000)
}

/// A person's generator of one-time codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generator {
    pub added_at: Time,
    /// A new one decides only from here on (setting `security.passkey_hold`).
    pub decides_from: Time,
    /// The highest step whose code was taken, or burnt. Neither it nor an earlier one is taken again.
    pub last_step: u64,
    /// When the wrong codes of the last minutes came, oldest first.
    #[serde(default)]
    pub wrong: Vec<Time>,
    /// Wrong codes since the last right one.
    #[serde(default)]
    pub wrong_in_a_row: u32,
    #[serde(default)]
    pub locked_at: Option<Time>,
    #[serde(default)]
    pub last_used_at: Option<Time>,
}

impl Generator {
    /// Until when no code is looked at, since too many were wrong. `None`: one is looked at.
    pub fn shut_until(&self, now: Time) -> Option<Time> {
        let recent: Vec<&Time> = self.recent(now).collect();
        let first = recent.len().checked_sub(WRONG_IN_WINDOW_MAX)?;
        recent.get(first).map(|it| it.plus_seconds(WINDOW_SECONDS))
    }

    /// Whether it may decide by now.
    pub fn decides(&self, now: Time) -> bool {
        self.locked_at.is_none() && self.decides_from <= now
    }

    /// Whether the code of this step may be taken: near now, and later than any that was taken before.
    pub fn takes(&self, step: u64, now: Time) -> bool {
        step > self.last_step && step_at(now).abs_diff(step) <= SKEW_STEPS
    }

    /// A wrong code came.
    pub fn count_wrong(&mut self, now: Time) {
        let mut wrong: Vec<Time> = self.recent(now).copied().collect();
        wrong.push(now);
        self.wrong = wrong;
        self.wrong_in_a_row = self.wrong_in_a_row.saturating_add(1);
    }

    /// A step's code was taken, or burnt by being given where it does not count.
    pub fn burn(&mut self, step: u64) {
        self.last_step = self.last_step.max(step);
    }

    fn recent(&self, now: Time) -> impl Iterator<Item = &Time> {
        self.wrong
            .iter()
            .filter(move |it| now < it.plus_seconds(WINDOW_SECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator() -> Generator {
        Generator {
            added_at: Time(0),
            decides_from: Time(0),
            last_step: 0,
            wrong: Vec::new(),
            wrong_in_a_row: 0,
            locked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn five_wrong_codes_shut_it_until_the_first_of_them_is_five_minutes_old() {
        let mut it = generator();
        for second in 0..5 {
            assert_eq!(it.shut_until(Time(second * 1000)), None);
            it.count_wrong(Time(second * 1000));
        }
        assert_eq!(it.shut_until(Time(5_000)), Some(Time(300_000)));
        assert_eq!(it.shut_until(Time(299_999)), Some(Time(300_000)));
        assert_eq!(it.shut_until(Time(300_000)), None);
        it.count_wrong(Time(300_000));
        assert_eq!(
            it.shut_until(Time(300_000)),
            Some(Time(301_000)),
            "the window slides"
        );
    }

    #[test]
    fn only_the_steps_around_now_are_taken_and_none_twice() {
        let mut it = generator();
        let now = Time(1_000_000_000);
        let step = step_at(now);
        for near in [step - 1, step, step + 1] {
            assert!(it.takes(near, now));
        }
        assert!(!it.takes(step - 2, now) && !it.takes(step + 2, now));
        it.burn(step);
        assert!(!it.takes(step, now) && !it.takes(step - 1, now) && it.takes(step + 1, now));
        it.burn(step - 1);
        assert_eq!(it.last_step, step, "it never goes back");
    }
}
