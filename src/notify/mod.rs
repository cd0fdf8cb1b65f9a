//! The ways to tell a person: a browser's push service, Apple's, mail, chats. Each takes a message and says what became of
//! it; none knows who is told or why.

mod apns;
mod chat;
mod encryption;
mod mail;
mod token;
mod webpush;

pub use apns::{ApnsKey, ApnsSender};
pub use chat::{ChatUrl, send_chat};
pub use encryption::{Subscription, SubscriptionError};
pub use mail::{MailServer, send_mail};
pub use token::{SigningKey, TokenError};
pub use webpush::{PushAddress, WebPush};

use crate::outbound::Outcome;

/// What somebody is told. Small: where the rest is, and enough to know whether to look now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub title: String,
    pub body: String,
    /// Where it leads: an address of this server.
    pub url: String,
    /// What a newer message of the same kind takes the place of, at most 32 characters of base64url.
    pub tag: String,
    /// Seconds after which it is of no use any more.
    pub ttl_seconds: u64,
    /// How many requests wait for this person.
    pub badge: Option<usize>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The other side has it, or may have it later, or never will.
    By(Outcome<()>),
    /// The device is known no more.
    Gone(String),
}

impl Told {
    fn rejected(reason: impl Into<String>) -> Told {
        Told::By(Outcome::Rejected {
            reason: reason.into(),
        })
    }
}
