//! The one way out to the network: trusted roots, time limits, size limits, which addresses may be called, and what
//! an answer means for delivery. It never follows a redirect and never puts a credential into a URL, error or log.

mod address;
mod client;
mod nearby;
mod outcome;
mod secret;
pub mod standard_webhook;
mod stream;
mod wait;

pub use address::{join, parse_base};
pub use client::{Call, Client, Method, Reading, Reply, jitter, local, tls, tls_as};
pub use nearby::Nearby;
pub use outcome::{Error, Outcome, classify};
pub use secret::Secret;
pub use stream::Stream;
pub use wait::{retry_after, unix_seconds};

#[cfg(test)]
mod tests;
