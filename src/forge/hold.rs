//! Keeping away from a forge as it asks: one hold for all calls of a connection, whoever makes them.
//!
//! Two things are learnt from every answer. *Wait*: an answer that says how long to keep away (`Retry-After`, or a rate
//! limit that is used up) holds every call until then. *Nearly used up*: below a twentieth of the rate limit, background
//! reading is spread over the time that is left, so that statuses and merges still get through.

use crate::domain::time::Time;
use crate::outbound::{Call, Client, Error, Reply, unix_seconds};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Background reading slows down when less than one part in this many of the rate limit remains.
const LOW_PART: u64 = 20;
/// Of what remains then, one part in this many is for background reading; the rest is for decisions.
const BACKGROUND_PART: u64 = 2;
/// No rate limit has a longer period than this; a reset further away is a broken clock.
const PERIOD_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a forge asked for. Shared by all clones of a connection.
#[derive(Debug, Default)]
pub(super) struct Hold {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// No call before that.
    until: Option<Instant>,
    /// The rate limit is nearly used up.
    low: Option<Low>,
    /// Since when no call was answered by the forge itself.
    silent: Option<Instant>,
    /// What time the newest answer said it is, in unix seconds, and when it came.
    dated: Option<(i64, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Low {
    /// When the limit starts anew.
    reset: Instant,
    /// Between two background calls.
    spacing: Duration,
    /// The next background call, at the earliest.
    next: Instant,
}

/// What an answer says of its rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    limit: u64,
    remaining: u64,
    /// Until the limit starts anew.
    reset: Duration,
}

impl Hold {
    /// Lets a call pass, or answers what the forge answered, with the wait that is left.
    ///
    /// # Errors
    /// `Status` 429 while the forge asked to be left alone.
    pub(super) fn admit(&self) -> Result<(), Error> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Result<(), Error> {
        match self.lock().until {
            Some(until) if until > now => Err(held(until - now, "the wait it asked for has not passed")),
            _ => Ok(()),
        }
    }

    /// Lets a piece of background reading of about so many calls begin, or answers when it may. Asked once, before the
    /// first call of it: what has begun is finished, or its calls would be lost.
    ///
    /// # Errors
    /// `Status` 429 as [`Hold::admit`], or while the rate limit is nearly used up and it is not this one's turn.
    pub(super) fn admit_background(&self, calls: u32) -> Result<(), Error> {
        self.admit_background_at(calls, Instant::now())
    }

    fn admit_background_at(&self, calls: u32, now: Instant) -> Result<(), Error> {
        self.admit_at(now)?;
        let mut state = self.lock();
        let Some(low) = &mut state.low else { return Ok(()) };
        if now >= low.reset {
            state.low = None;
            return Ok(());
        }
        let turn = low.next.min(low.reset);
        if turn > now {
            return Err(held(
                turn - now,
                "its rate limit is nearly used up, and what is left is for decisions",
            ));
        }
        low.next = now + low.spacing.saturating_mul(calls.max(1));
        Ok(())
    }

    /// Learns from an answer, whatever its status.
    fn learn(&self, reply: &Reply) {
        self.learn_at(reply.told_wait(), limit(reply), Instant::now());
    }

    fn learn_at(&self, wait: Option<Duration>, limit: Option<Limit>, now: Instant) {
        let mut state = self.lock();
        if let Some(wait) = wait {
            let until = now + wait;
            // Of two answers the longer wait holds: the calls went out side by side.
            state.until = Some(state.until.map_or(until, |it| it.max(until)));
        }
        let Some(limit) = limit else { return };
        if limit.remaining.saturating_mul(LOW_PART) > limit.limit {
            state.low = None;
            return;
        }
        let calls = u32::try_from(limit.remaining / BACKGROUND_PART).unwrap_or(u32::MAX);
        let spacing = limit.reset / calls.max(1);
        let next = state.low.map_or(now + spacing, |it| it.next);
        state.low = Some(Low {
            reset: now + limit.reset,
            spacing,
            next,
        });
    }

    /// Notes whether a call was answered. A forge's own error page (5xx) is none: so answers what stands in front of it.
    fn heard(&self, answered: bool) {
        let mut state = self.lock();
        state.silent = match answered {
            true => None,
            false => state.silent.or_else(|| Some(Instant::now())),
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same as what the forge answered, with the time that is left of it.
fn held(left: Duration, why: &str) -> Error {
    Error::Status {
        code: 429,
        retry_after: Some(left),
        excerpt: format!("not called now: {why}"),
    }
}

/// Bitbucket Cloud's limits roll over an hour.
const ROLLING: Duration = Duration::from_secs(3600);

/// Bitbucket Cloud says no more than whether less than a fifth is left (`X-RateLimit-NearLimit`, "API request limits"). Then
/// it counts as nearly used up, or it would be before anybody is told.
fn near_limit(reply: &Reply) -> Option<Limit> {
    let near = match reply
        .header("x-ratelimit-nearlimit")?
        .to_ascii_lowercase()
        .as_str()
    {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    let limit: u64 = reply.header("x-ratelimit-limit")?.trim().parse().ok()?;
    Some(Limit {
        limit,
        remaining: if near { limit / LOW_PART } else { limit },
        reset: ROLLING,
    })
}

/// `RateLimit-Limit`, `-Remaining` and `-Reset` (unix seconds, against the answer's own `Date`), which GitHub writes with an
/// `X-` in front.
fn limit(reply: &Reply) -> Option<Limit> {
    if let Some(near) = near_limit(reply) {
        return Some(near);
    }
    let number = |name: &str| {
        let plain = reply.header(name);
        let text = plain.or_else(|| reply.header(&format!("x-{name}")))?;
        text.trim().parse::<i64>().ok()
    };
    let reset = number("ratelimit-reset")?.saturating_sub(unix_seconds(reply.header("date")?)?);
    Some(Limit {
        limit: u64::try_from(number("ratelimit-limit")?).ok()?,
        remaining: u64::try_from(number("ratelimit-remaining")?).ok()?,
        reset: Duration::from_secs(u64::try_from(reset).unwrap_or(0)).min(PERIOD_MAX),
    })
}

/// A client whose every call passes the hold.
#[derive(Clone, Debug)]
pub(super) struct Held {
    client: Client,
    hold: Arc<Hold>,
}

impl Held {
    /// A client under a hold of its own.
    pub(super) fn new(client: Client) -> Self {
        Held {
            client,
            hold: Arc::default(),
        }
    }

    /// The same client under the hold of another: a new token does not make the forge forget.
    pub(super) fn under(&mut self, other: &Held) {
        self.hold = other.hold.clone();
    }

    /// See [`Hold::admit_background`].
    pub(super) fn admit_background(&self, calls: u32) -> Result<(), Error> {
        self.hold.admit_background(calls)
    }

    /// Makes a call that must be answered with 2xx.
    ///
    /// # Errors
    /// As [`Client::fetch`]; `Status` 429 at once, without a call, while the forge asked to be left alone.
    pub(super) async fn fetch(&self, call: Call) -> Result<Reply, Error> {
        self.send(call).await?.accepted()
    }

    /// Makes a call, whatever its answer.
    ///
    /// # Errors
    /// As [`Client::send`]; `Status` 429 at once, without a call, while the forge asked to be left alone.
    pub(super) async fn send(&self, call: Call) -> Result<Reply, Error> {
        self.hold.admit()?;
        let sent = self.client.send(call).await;
        match &sent {
            Ok(reply) => self.hold.heard(reply.status < 500),
            Err(Error::Unreachable { .. } | Error::Timeout { .. }) => self.hold.heard(false),
            // Not called at all: nothing is learnt.
            Err(Error::Refused(_)) => {}
            Err(_) => self.hold.heard(true),
        }
        let reply = sent?;
        if let Some(date) = reply.header("date").and_then(unix_seconds) {
            self.hold.lock().dated = Some((date, Instant::now()));
        }
        self.hold.learn(&reply);
        Ok(reply)
    }

    /// Makes a call whose limits are not ours: one without credentials.
    ///
    /// # Errors
    /// As [`Held::send`].
    pub(super) async fn send_unlearned(&self, call: Call) -> Result<Reply, Error> {
        self.hold.admit()?;
        self.client.send(call).await
    }

    /// No call before that time has passed, as an answer asked in words.
    pub(super) fn wait(&self, wait: Duration) {
        self.hold.learn_at(Some(wait), None, Instant::now());
    }

    /// For how long no call was answered; `None` while they are.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.hold.lock().silent.map(|it| it.elapsed())
    }

    /// What time it is by the forge, to the second, as the newest answer's `Date` (RFC 9110, 6.6.1) tells; `None` before one.
    pub(super) fn time_there(&self) -> Option<Time> {
        let (date, came) = self.hold.lock().dated?;
        Some(Time(date.saturating_mul(1000)).plus_seconds(came.elapsed().as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn left(answer: Result<(), Error>) -> Option<Duration> {
        match answer {
            Ok(()) => None,
            Err(Error::Status {
                code: 429,
                retry_after,
                ..
            }) => retry_after,
            Err(other) => panic!("{other}"),
        }
    }

    fn low(limit: u64, remaining: u64, reset: u64) -> Option<Limit> {
        Some(Limit {
            limit,
            remaining,
            reset: SECOND * u32::try_from(reset).unwrap(),
        })
    }

    #[test]
    fn no_call_passes_before_the_wait_is_over_and_every_call_after_it() {
        let (hold, now) = (Hold::default(), Instant::now());
        assert_eq!(left(hold.admit_at(now)), None);
        hold.learn_at(Some(10 * SECOND), None, now);
        assert_eq!(left(hold.admit_at(now)), Some(10 * SECOND));
        assert_eq!(left(hold.admit_at(now + 9 * SECOND)), Some(SECOND));
        assert_eq!(left(hold.admit_background_at(1, now + 9 * SECOND)), Some(SECOND));
        assert_eq!(left(hold.admit_at(now + 10 * SECOND)), None);
    }

    #[test]
    fn a_shorter_wait_does_not_end_a_longer_one() {
        let (hold, now) = (Hold::default(), Instant::now());
        hold.learn_at(Some(10 * SECOND), None, now);
        hold.learn_at(Some(2 * SECOND), None, now + SECOND);
        // Nor does an answer to a call that was under way.
        hold.learn_at(None, low(2000, 1990, 60), now + SECOND);
        assert_eq!(left(hold.admit_at(now + 5 * SECOND)), Some(5 * SECOND));
    }

    #[test]
    fn background_reading_is_spread_over_what_is_left_and_decisions_go_on() {
        let (hold, now) = (Hold::default(), Instant::now());
        hold.learn_at(None, low(2000, 101, 30), now);
        assert_eq!(left(hold.admit_background_at(1, now)), None);
        // 100 of 2,000 are a twentieth: half of them for reading, one every 0.6 seconds.
        hold.learn_at(None, low(2000, 100, 30), now);
        let turn = Duration::from_millis(600);
        assert_eq!(left(hold.admit_background_at(1, now)), Some(turn));
        assert_eq!(left(hold.admit_at(now)), None);
        assert_eq!(left(hold.admit_background_at(5, now + turn)), None);
        // Five calls take five turns, and the answers to them do not move the next one.
        hold.learn_at(None, low(2000, 95, 29), now + SECOND);
        assert_eq!(
            left(hold.admit_background_at(1, now + turn)),
            Some(Duration::from_secs(3))
        );
        // With the new period everything is as before, also if no answer came since.
        assert_eq!(left(hold.admit_background_at(1, now + 31 * SECOND)), None);
        assert_eq!(left(hold.admit_background_at(1, now + 31 * SECOND)), None);
    }

    #[test]
    fn nothing_left_is_no_division_by_zero() {
        let (hold, now) = (Hold::default(), Instant::now());
        hold.learn_at(None, low(0, 0, 0), now);
        assert_eq!(left(hold.admit_background_at(1, now)), None);
        hold.learn_at(None, low(10, 0, 60), now);
        assert_eq!(left(hold.admit_background_at(1, now)), Some(60 * SECOND));
    }
}
