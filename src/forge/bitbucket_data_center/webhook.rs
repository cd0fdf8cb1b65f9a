//! Data Center's webhooks: what one is about. Nothing in a body is ever believed beyond that.

use crate::forge::{Hint, HookRefusal};

/// Reads what a webhook is about.
///
/// # Errors
/// `Unreadable`, always: no Data Center is connected.
pub fn parse(_: &dyn Fn(&str) -> Option<String>, _: &[u8]) -> Result<Hint, HookRefusal> {
    Err(HookRefusal::Unreadable(
        "this version does not connect to Bitbucket Data Center".to_owned(),
    ))
}
