//! Why the rules say no. Expected, part of the API, matched exhaustively by whoever words it.

/// A refusal. Each is a noun phrase for what is in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing by that id that the caller may know of.
    #[error("There is nothing here by that id.")]
    Unknown,
    /// The person wrote, committed, pushed or asked for what is to be approved (policy rule 7).
    #[error("{why}")]
    SelfApproval { why: String },
    /// The person lacks the role, or no rule of this request names them.
    #[error("{why}")]
    NotEligible { why: String },
    /// One person counts once (policy rule 6).
    #[error("You have decided this request already.")]
    AlreadyDecided,
    /// The request has its outcome.
    #[error("This request is already {status}.")]
    AlreadyEnded { status: &'static str },
    /// The change moved on while it was being decided.
    #[error("The change is no longer what you were shown. Look at it again and decide anew.")]
    StaleSubject,
    /// The method is not one the rules of this request take.
    #[error("{why}")]
    MethodNotAllowed { why: String },
    /// A one-time code that is wrong, too old or was used before.
    #[error("The one-time code is not right, or was used before. Wait for the next one.")]
    WrongCode,
    /// Too many one-time codes were wrong; none is looked at for a while.
    #[error(
        "Too many one-time codes were wrong, so none is looked at until {until}. Your passkey works as before."
    )]
    TooManyCodes {
        /// To the second.
        until: String,
        seconds: u64,
    },
    /// A rule of the policy blocks it.
    #[error("A rule of the policy blocks this; no decision can change that.")]
    Blocked,
    /// A request that is not approved, is out of time or was used up.
    #[error("{why}")]
    NotUsable { why: String },
    /// The same idempotency key with another body.
    #[error("This Idempotency-Key was used with another body.")]
    IdempotencyConflict,
    /// Set-up was claimed, or an invitation used, before, or it has run out.
    #[error("This link has been used or has run out. Ask for a new one.")]
    LinkSpent,
    /// Something by that name or id exists.
    #[error("{what}")]
    Duplicate { what: String },
    /// A value that the rules do not take.
    #[error("{reason}")]
    Invalid { field: String, reason: String },
    /// A dangerous act without a passkey at that moment.
    #[error("Confirm this with your passkey: to {act}, being signed in is not enough.")]
    PasskeyNeeded { act: &'static str },
    /// The last admin can't be removed, and the like.
    #[error("{why}")]
    NotAllowed { why: String },
    /// What the caller started from has been changed by somebody else meanwhile.
    #[error("{what}")]
    Outdated { what: String },
    /// The caller has too many requests open.
    #[error("Too many requests of this key are waiting ({max}). Let some be decided or cancel them.")]
    TooManyWaiting { max: usize },
}

impl Refusal {
    /// A value that the rules do not take.
    pub fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Refusal::Invalid {
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}
