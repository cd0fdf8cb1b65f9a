//! How long a server asked us to wait. It never reads a clock: dates are measured against the answer's own `Date`.

use jiff::fmt::rfc2822::DateTimeParser;
use std::time::Duration;

/// Nobody is made to wait longer than this by one answer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or an HTTP date measured against the same answer's `Date` header.
/// `None` when it is absent or says nothing usable; never more than a day.
pub fn retry_after(value: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let value = value?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let until = unix_seconds(value)?;
    let now = unix_seconds(date?)?;
    let seconds = until.saturating_sub(now).max(0).unsigned_abs();
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// Reads a rate limit's reset time, unix seconds (`RateLimit-Reset` on GitLab, `X-RateLimit-Reset` on GitHub), against the
/// answer's `Date`, when the same answer says that nothing remains.
pub(crate) fn rate_limit_reset(
    remaining: Option<&str>,
    reset: Option<&str>,
    date: Option<&str>,
) -> Option<Duration> {
    if remaining?.trim() != "0" {
        return None;
    }
    let until: i64 = reset?.trim().parse().ok()?;
    let now = unix_seconds(date?)?;
    let seconds = until.saturating_sub(now).max(0).unsigned_abs();
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// An IMF-fixdate as unix seconds. The two obsolete forms of HTTP dates are not read.
pub fn unix_seconds(text: &str) -> Option<i64> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    Some(PARSER.parse_timestamp(text).ok()?.as_second())
}
