//! GitLab's rate limit for authenticated API calls: a window of fixed length for each token, told in every answer's headers.
//! Calls during a `Retry-After` are written down as violations, whether this limit or a planned fault set it.

use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::faults::Fault;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::state::Call;
use crate::support::forge::gitlab::state::State;

/// Calls already on their way when a 429 went out are no violation.
const GRACE: Duration = Duration::from_millis(500);

/// What a token may do.
#[derive(Clone, Debug)]
pub struct Limit {
    pub calls: u64,
    pub window: Duration,
    begun: Instant,
    seen: u64,
}

/// A time in which a token was told not to call.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    from: Instant,
    pub until: Instant,
}

/// How a call stands against its token's limit.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    limit: u64,
    observed: u64,
    left: Duration,
}

impl Standing {
    pub fn over(&self) -> bool {
        self.observed > self.limit
    }

    /// Until when the window lasts, in whole seconds from now.
    pub fn retry_after(&self) -> u64 {
        self.left.as_secs() + u64::from(self.left.subsec_nanos() > 0)
    }

    /// The headers GitLab adds to every answer of a limited caller.
    pub fn told(&self, reply: Reply) -> Reply {
        let seconds = i64::try_from(self.retry_after()).unwrap_or(i64::MAX);
        let reset = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let reply = reply
            .with("RateLimit-Limit", &self.limit.to_string())
            .with("RateLimit-Name", "throttle_authenticated_api")
            .with("RateLimit-Observed", &self.observed.to_string())
            .with(
                "RateLimit-Remaining",
                &self.limit.saturating_sub(self.observed).to_string(),
            )
            .with("RateLimit-Reset", &reset.as_second().to_string())
            .with(
                "RateLimit-ResetTime",
                &reset.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            );
        if self.over() {
            reply.with("Retry-After", &self.retry_after().to_string())
        } else {
            reply
        }
    }
}

/// Counts a call of the token; none where it has no limit.
pub fn count(state: &mut State, secret: &str) -> Option<Standing> {
    let limit = state.limits.get_mut(secret)?;
    if limit.begun.elapsed() >= limit.window {
        limit.begun = Instant::now();
        limit.seen = 0;
    }
    limit.seen += 1;
    let standing = Standing {
        limit: limit.calls,
        observed: limit.seen,
        left: limit.window.saturating_sub(limit.begun.elapsed()),
    };
    if standing.over() {
        hush(state, secret, standing.retry_after());
    }
    Some(standing)
}

/// From now on, for so many seconds, the token has been told not to call.
pub fn hush(state: &mut State, secret: &str, seconds: u64) {
    let from = Instant::now();
    let until = from + Duration::from_secs(seconds);
    let new = Quiet { from, until };
    let quiet = state.quiet.entry(secret.to_owned()).or_insert(new);
    // A quiet time that still runs keeps its beginning: its first 429 counts.
    let from = if quiet.until > from { quiet.from } else { from };
    *quiet = Quiet {
        from,
        until: until.max(quiet.until),
    };
}

/// Whether the call came while its token had been told to wait; then it is a violation, too.
pub fn too_early(state: &mut State, secret: &str, call: &Call) -> bool {
    let Some(quiet) = state.quiet.get(secret).filter(|quiet| call.at < quiet.until) else {
        return false;
    };
    if call.at.saturating_duration_since(quiet.from) > GRACE {
        let line = format!("{} {} before the end of a Retry-After", call.method, call.path);
        state.violations.push(line);
    }
    true
}

impl FakeGitLab {
    /// The token may make so many calls in a minute; more are answered with 429 until the minute is over.
    pub fn limit(&self, per_minute: u64, token: &str) {
        self.limit_within(per_minute, Duration::from_secs(60), token);
    }

    /// The same for a window of another length.
    pub fn limit_within(&self, calls: u64, window: Duration, token: &str) {
        let begun = Instant::now();
        let limit = Limit {
            calls,
            window,
            begun,
            seen: 0,
        };
        self.change_state(|state| state.limits.insert(token.to_owned(), limit));
    }

    /// Takes the token's limit away.
    pub fn unlimited(&self, token: &str) {
        self.change_state(|state| state.limits.remove(token));
    }

    /// Calls of that method (`""`: any) that match the path, written as for [`Fault::path`].
    pub fn calls_like(&self, method: &str, path: &str) -> Vec<Call> {
        let pattern = Fault {
            method: (!method.is_empty()).then(|| method.to_owned()),
            path: path.to_owned(),
            after: 0,
            left: 1,
            trouble: Trouble::StatusLocked,
        };
        let all = self.calls().into_iter();
        all.filter(|call| pattern.matches(&call.method, &call.path, &call.query))
            .collect()
    }

    /// The most calls like this within any time of that length.
    pub fn most_calls_within(&self, window: Duration, method: &str, path: &str) -> usize {
        let times: Vec<Instant> = self.calls_like(method, path).iter().map(|call| call.at).collect();
        let from = |at: &Instant| {
            times
                .iter()
                .filter(|other| **other >= *at && **other < *at + window)
                .count()
        };
        times.iter().map(from).max().unwrap_or(0)
    }

    /// How many calls like this came in each minute since the first one of all.
    pub fn calls_by_minute(&self, method: &str, path: &str) -> Vec<usize> {
        let Some(first) = self.calls().first().map(|call| call.at) else {
            return Vec::new();
        };
        let mut minutes = Vec::new();
        for call in self.calls_like(method, path) {
            let minute = usize::try_from(call.at.saturating_duration_since(first).as_secs() / 60)
                .unwrap_or(usize::MAX);
            if minutes.len() <= minute {
                minutes.resize(minute + 1, 0);
            }
            minutes[minute] += 1;
        }
        minutes
    }
}
