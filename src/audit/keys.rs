//! The keys as they stood when a bundle's journal ended: the same whenever the bundle is made.

use crate::audit::{Error, damaged};
use crate::domain::keys::{all_keys, log_keys as all_log_keys};
use crate::evidence::dsse::PublicKey;
use crate::evidence::keys::Entry;
use crate::store::Snapshot;
use crate::tlog::VerifierKey;

/// All keys that counted for any of the first `size` entries, and the key that signs now. An end that lies behind them is
/// left out: it says nothing about them.
pub(super) fn history(size: u64, signing: &str, state: &Snapshot) -> Result<Vec<Entry>, Error> {
    let mut keys = all_keys(state)?;
    keys.retain(|it| it.from_seq < size || it.keyid == signing);
    let entries = keys.iter().map(Entry::of).map(|entry| match entry.until_seq {
        Some(until) if until > size => Entry {
            until_seq: None,
            until: None,
            ..entry
        },
        _ => entry,
    });
    Ok(entries.collect())
}

/// The credential keys among them.
pub(super) fn credential_keys(history: &[Entry]) -> Vec<PublicKey> {
    history
        .iter()
        .filter(|it| it.r#use == "credential")
        .filter_map(|it| it.public_key().ok())
        .collect()
}

/// One verifier key of the log an epoch, newest first, for the epochs begun within the first `size` entries.
pub(super) fn log_keys(size: u64, state: &Snapshot) -> Result<String, Error> {
    let mut lines = String::new();
    for (epoch, record) in all_log_keys(state)?.iter().rev().filter(|(it, _)| it.seq < size) {
        let key = Entry::of(record)
            .public_key()
            .map_err(|e| damaged(e.to_string()))?;
        let spki = key.spki();
        let raw = spki
            .last_chunk::<32>()
            .ok_or_else(|| damaged("a short log key"))?;
        let key = VerifierKey::new(&epoch.origin, *raw).map_err(|e| damaged(e.to_string()))?;
        lines.push_str(&key.vkey());
        lines.push('\n');
    }
    Ok(lines)
}
