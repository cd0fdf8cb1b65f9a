//! Lists that a forge tells page by page: how much of one is read, whether it was read to its end, and at which page that
//! failed.

use crate::outbound::{self, Error};
use std::time::Duration;

/// How much of a list is read.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) pages: u32,
    /// Bytes of one page.
    pub(super) bytes: u64,
}

/// A list, and whether it was read to its end.
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    pub(super) whole: bool,
}

/// The page at which reading a list ended.
#[derive(Debug)]
pub(super) struct BadPage {
    pub(super) page: u32,
    pub(super) error: Error,
}

impl BadPage {
    /// Why `what` is not whole: the same text for the same fault, since it becomes part of what is known about a change.
    pub(super) fn told(&self, what: &str, forge: &str) -> String {
        let page = self.page;
        match self.error.status() {
            Some(code) => format!("page {page} of {what} could not be read: {forge} answered {code}"),
            None => format!("page {page} of {what} could not be read: {}", self.error),
        }
    }
}

/// The answer says how long to keep away.
pub(super) fn is_limit(error: &Error) -> bool {
    matches!(
        error,
        Error::Status { code: 429, .. }
            | Error::Status {
                retry_after: Some(_),
                ..
            }
    )
}

/// A short wait before attempt `attempt + 1`.
pub(super) async fn pause(attempt: u32) {
    let most = Duration::from_millis(400) * attempt;
    tokio::time::sleep(most / 2 + outbound::jitter(most / 2)).await;
}
