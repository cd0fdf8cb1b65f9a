//! Instants as data. Nothing here can tell what time it is.

use crate::domain::text::{English, Speaker};
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC. Written as RFC 3339 with milliseconds, `2026-03-15T14:23:07.000Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Time(pub i64);

impl Time {
    /// This instant plus `seconds`, saturating.
    pub fn plus_seconds(self, seconds: u64) -> Time {
        let ms = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
        Time(self.0.saturating_add(ms))
    }

    /// Whole seconds from `self` until `later`; 0 when it has passed.
    pub fn seconds_until(self, later: Time) -> u64 {
        u64::try_from(later.0.saturating_sub(self.0).max(0) / 1000).unwrap_or(0)
    }

    /// Reads RFC 3339 with any offset and precision.
    pub fn parse(text: &str) -> Option<Time> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|it| Time(it.as_millisecond()))
    }

    /// The instant to the second, for sentences: `2026-03-15T14:23:07Z`.
    pub fn to_the_second(self) -> String {
        self.print("%Y-%m-%dT%H:%M:%SZ")
    }

    fn print(self, format: &str) -> String {
        let clamped = self.0.clamp(-62_135_596_800_000, 253_402_300_799_999);
        jiff::Timestamp::from_millisecond(clamped)
            .expect("clamped to years 1 to 9999")
            .strftime(format)
            .to_string()
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.print("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// A span in its largest fitting unit, with a second one where it matters: `9 min`, `1 h 5 min`, `3 days`.
pub fn span(seconds: u64) -> String {
    span_in(&English, seconds)
}

/// The same in a language.
pub fn span_in(to: &impl Speaker, seconds: u64) -> String {
    let minutes = seconds / 60;
    let hours = minutes / 60;
    match (hours / 24, hours, minutes) {
        (0, 0, 0) => to.say("{n} s", &[("n", &seconds)]),
        (0, 0, _) => to.say("{n} min", &[("n", &minutes)]),
        (0, _, _) if minutes.is_multiple_of(60) => to.say("{n} h", &[("n", &hours)]),
        (0, _, _) => to.say(
            "{hours} h {minutes} min",
            &[("hours", &hours), ("minutes", &(minutes % 60))],
        ),
        (days, ..) => to.say_counted(days, "{n} day", "{n} days", &[]),
    }
}
