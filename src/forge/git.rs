//! Git's own names, as forges write them.

use crate::outbound::Error;
use url::Url;

/// A full commit id: 40 (SHA-1) or 64 (SHA-256) lowercase hex digits.
pub(super) fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The same as an error about an answer.
pub(super) fn commit_id(text: &str) -> Result<&str, Error> {
    if is_commit_id(text) {
        Ok(text)
    } else {
        Err(Error::NotJson("a commit id is not a full one".to_owned()))
    }
}

/// The same as an error about a call.
pub(super) fn own_commit_id(text: &str) -> Result<&str, Error> {
    commit_id(text).map_err(|_| Error::Refused("not a full commit id".to_owned()))
}

/// A branch's full ref. A short name never means a tag here.
pub(super) fn full_ref(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

/// A ref's short name.
pub(super) fn short_ref(reference: &str) -> &str {
    reference.strip_prefix("refs/heads/").unwrap_or(reference)
}

/// A page's address, if it is one that a link may lead to.
pub(super) fn page_url(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => text.to_owned(),
        _ => String::new(),
    }
}
