//! Audit bundles: the one form of the archive, what stands in it, and the offline verifier of the whole. What a bundle
//! is made of comes from `audit`; nothing here reads a journal.

pub mod archive;
pub mod manifest;
pub mod verify;
pub mod zip;

/// The files that are no proofs of a single decision, and how they are named.
pub mod names {
    /// For whoever opens the archive first.
    pub const README: &str = "README.txt";
    /// Digests of all other files but the manifest, as `sha256sum` writes them.
    pub const SUMS: &str = "SHA256SUMS";
    /// One row a decision, for spreadsheets.
    pub const APPROVALS: &str = "approvals.csv";
    /// Every leaf between the two checkpoints.
    pub const EVENTS: &str = "events.jsonl";
    /// All keys and the part of the journal they count for.
    pub const HISTORY: &str = "keys/history.json";
    /// One verifier key an epoch, newest first.
    pub const LOG_KEYS: &str = "keys/log.vkey";
    pub const CHECKPOINT_FROM: &str = "log/checkpoint-from";
    pub const CHECKPOINT_TO: &str = "log/checkpoint-to";
    /// One base64 hash a line.
    pub const CONSISTENCY: &str = "log/consistency.txt";
    /// The signed statement about all other files.
    pub const MANIFEST: &str = "manifest.dsse.json";
    /// For people.
    pub const REPORT: &str = "report.html";
    /// The verifier that needs Python and openssl alone.
    pub const VERIFY: &str = "verify.py";
    pub const BLOBS: &str = "blobs/";
    pub const CREDENTIALS: &str = "credentials/";
    pub const OUTCOMES: &str = "outcomes/";
    /// Entries that say what was erased, each with its proof. Only where something is missing that should be here.
    pub const ERASURES: &str = "erasures/";
    /// The checkpoint their proofs are over: `checkpoint-to`, or a later one.
    pub const ERASURES_CHECKPOINT: &str = "erasures/checkpoint";
    /// From `checkpoint-to` to that one: one base64 hash a line.
    pub const ERASURES_CONSISTENCY: &str = "erasures/consistency.txt";
}

/// Endings of the four files of a credential, in the order of their names.
pub const CREDENTIAL_ENDINGS: [&str; 4] = [".dsse.json", ".event.json", ".sigstore.json", ".tlog-proof"];

/// Above this many files the manifest names only those outside of `credentials/`, `outcomes/` and `blobs/`, and
/// `SHA256SUMS`, which it names, holds the digests of them all. So the statement stays below the 256 KiB that a key agent
/// takes at once, and a large bundle needs little memory.
pub const NAMED_FILES_MAX: usize = 1_000;

/// Whether a file's name may stand in a bundle: exactly the layout, so that no path leads out of a folder.
pub fn is_known(name: &str) -> bool {
    use crate::domain::ids::{Digest, RequestId};
    use names::*;
    let fixed = [
        README,
        SUMS,
        APPROVALS,
        EVENTS,
        HISTORY,
        LOG_KEYS,
        CHECKPOINT_FROM,
        CHECKPOINT_TO,
        CONSISTENCY,
        MANIFEST,
        REPORT,
        VERIFY,
        ERASURES_CHECKPOINT,
        ERASURES_CONSISTENCY,
    ];
    if fixed.contains(&name) {
        return true;
    }
    let plain = |it: &str| {
        !it.is_empty()
            && it
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if let Some(rest) = name.strip_prefix(BLOBS) {
        return Digest::parse(rest).is_some();
    }
    if let Some(rest) = name.strip_prefix(CREDENTIALS) {
        return CREDENTIAL_ENDINGS
            .iter()
            .filter_map(|ending| rest.strip_suffix(ending)?.strip_prefix("crd_"))
            .any(|id| Digest::parse(id).is_some());
    }
    if let Some(rest) = name.strip_prefix(OUTCOMES) {
        return rest
            .strip_suffix(".dsse.json")
            .is_some_and(|id| RequestId::parse(id).is_some());
    }
    if let Some(rest) = name.strip_prefix(ERASURES) {
        let seq = rest
            .strip_suffix(".event.json")
            .or_else(|| rest.strip_suffix(".tlog-proof"));
        return seq.is_some_and(|it| it.parse::<u64>().is_ok_and(|seq| seq.to_string() == it));
    }
    if let Some(rest) = name.strip_prefix("keys/credential-") {
        return rest.strip_suffix(".pem").is_some_and(plain);
    }
    name.strip_prefix("schema/")
        .and_then(|it| it.strip_suffix(".json"))
        .is_some_and(plain)
}

/// Whether the manifest names a file by itself even where there are very many.
pub fn is_named_alone(name: &str) -> bool {
    ![names::BLOBS, names::CREDENTIALS, names::OUTCOMES, names::ERASURES]
        .iter()
        .any(|it| name.starts_with(it))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
