//! What became of a call: the typed error, and what it means for delivery. Pure.

use std::time::Duration;

/// How an attempt to tell the world ended. This is the only retry policy there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The other side has it.
    Delivered(T),
    /// Not now; `after` is the shortest wait the other side asked for, `None` leaves it to the caller's back-off.
    Retry { after: Option<Duration>, reason: String },
    /// Repeating it cannot help until somebody changes something; `reason` is a sentence an admin can act on.
    Rejected { reason: String },
}

impl<T> Outcome<T> {
    /// The same outcome around another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Outcome::Delivered(value) => Outcome::Delivered(f(value)),
            Outcome::Retry { after, reason } => Outcome::Retry { after, reason },
            Outcome::Rejected { reason } => Outcome::Rejected { reason },
        }
    }
}

/// Why a call has no usable answer. Holds no URL, no header and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection: name, network or certificate.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable { host: String, reason: String },
    /// The whole call took longer than its limit.
    #[error("{host} did not answer in time")]
    Timeout { host: String },
    /// The answer was longer than the call allows, in bytes.
    #[error("the answer of {host} is longer than {cap} bytes")]
    TooLarge { host: String, cap: u64 },
    /// An answer other than 2xx. `excerpt` is the beginning of its body, with everything secret taken out.
    #[error("answered {code}{}", excerpted(.excerpt))]
    Status {
        code: u16,
        retry_after: Option<Duration>,
        excerpt: String,
    },
    /// An answer that is not the JSON the other side promises; the text says what was wrong.
    #[error("the answer is not what it should be: {0}")]
    NotJson(String),
    /// We refused to make the call at all; the text says why.
    #[error("{0}")]
    Refused(String),
}

fn excerpted(excerpt: &str) -> String {
    if excerpt.is_empty() {
        return String::new();
    }
    let short: String = excerpt.chars().take(200).collect();
    let more = if short.len() < excerpt.len() { "…" } else { "" };
    format!(": {short}{more}")
}

impl Error {
    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What the failure means for delivery. An answer that cannot be understood counts as unknown, so it is tried again.
    pub fn into_outcome<T>(self) -> Outcome<T> {
        let reason = self.to_string();
        match self {
            Error::Status {
                code, retry_after, ..
            } => match classify(code, retry_after) {
                Outcome::Retry { after, .. } => Outcome::Retry { after, reason },
                Outcome::Delivered(()) | Outcome::Rejected { .. } => Outcome::Rejected { reason },
            },
            Error::Unreachable { .. }
            | Error::Timeout { .. }
            | Error::TooLarge { .. }
            | Error::NotJson(_) => Outcome::Retry { after: None, reason },
            Error::Refused(_) => Outcome::Rejected { reason },
        }
    }

    /// Trying the same again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self.clone().into_outcome::<()>(), Outcome::Retry { .. })
    }
}

/// What an HTTP status means for delivery, where a protocol has no rule of its own.
///
/// 2xx is delivered. 408, 423, 425, 429, all 5xx, and any 403 that says how long to wait (GitHub's secondary limits) are
/// tried again. All else, redirects included, is for a person to put right.
pub fn classify(status: u16, retry_after: Option<Duration>) -> Outcome<()> {
    match status {
        200..=299 => Outcome::Delivered(()),
        408 | 423 | 425 | 429 | 500..=599 => Outcome::Retry {
            after: retry_after,
            reason: format!("answered {status}"),
        },
        403 if retry_after.is_some() => Outcome::Retry {
            after: retry_after,
            reason: format!("answered {status}"),
        },
        _ => Outcome::Rejected {
            reason: format!("answered {status}"),
        },
    }
}
