//! Whether the journal fits a checkpoint of its own that somebody else kept. It reads; it never writes.

use crate::domain::apply::GIVEN_UP;
use crate::domain::ids::Digest;
use crate::domain::keys::all_keys;
use crate::domain::state::{Read, Table};
use crate::store;
use crate::store::{Snapshot, Store};
use crate::tlog::{Checkpoint, Note, VerifierKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How a checkpoint and the journal fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The journal begins with exactly what the checkpoint covers.
    Consistent,
    /// The checkpoint is another log's, or no checkpoint, or one that was knowingly gone on without: it says nothing.
    Unrelated,
    /// It covers more than the journal holds.
    Smaller,
    /// The journal holds other entries than those it covers.
    Inconsistent,
    /// It bears the name of this log and a signature by no key the journal knows: of a journal that lacks the key's entry, or
    /// made up by somebody who may write where it was found.
    UnknownKey,
}

/// Compares the journal with a checkpoint, and tells how many entries that covers.
///
/// # Errors
/// When the journal can't be read.
pub fn compare_checkpoint(store: &Store, note: &str) -> Result<(Fit, u64), store::Error> {
    let snapshot = store.read()?;
    let unrelated = Ok((Fit::Unrelated, 0));
    let Ok(parsed) = Note::parse(note.as_bytes()) else {
        return unrelated;
    };
    let Ok(claimed) = Checkpoint::parse_body(parsed.text()) else {
        return unrelated;
    };
    let instance = snapshot.identity()?.instance;
    // `<host>/log/<first 8 hex of the instance>/<epoch>`; the host may have changed with the public URL.
    let mut parts = claimed.origin().rsplitn(4, '/');
    let (epoch, own, log) = (parts.next(), parts.next(), parts.next());
    let is_ours = log == Some("log")
        && own == Some(&instance[..8.min(instance.len())])
        && epoch.is_some_and(|it| it.parse::<u32>().is_ok());
    if !is_ours {
        return unrelated;
    }
    let given_up = [GIVEN_UP, &Digest::of(note.as_bytes()).0[..]].concat();
    if snapshot.get_raw(Table::Counters, &given_up)?.is_some() {
        return unrelated;
    }
    let keys = log_keys(&snapshot, claimed.origin())?;
    let Ok((checkpoint, _)) = Checkpoint::open(note.as_bytes(), &keys) else {
        return Ok((Fit::UnknownKey, claimed.size()));
    };
    let size = checkpoint.size();
    let fit = if size > snapshot.size()? {
        Fit::Smaller
    } else if snapshot.root(size)? == *checkpoint.root() {
        Fit::Consistent
    } else {
        Fit::Inconsistent
    };
    Ok((fit, size))
}

/// Every log key the journal ever named, under the checkpoint's origin.
fn log_keys(snapshot: &Snapshot, origin: &str) -> Result<Vec<VerifierKey>, store::Error> {
    let mut keys = Vec::new();
    for record in all_keys(snapshot)? {
        if record.r#use != "log" {
            continue;
        }
        // The last 32 bytes of an Ed25519 SubjectPublicKeyInfo are the key (RFC 8410).
        let raw = STANDARD
            .decode(&record.spki)
            .ok()
            .and_then(|it| it.last_chunk::<32>().copied());
        if let Some(key) = raw.and_then(|it| VerifierKey::new(origin, it).ok()) {
            keys.push(key);
        }
    }
    Ok(keys)
}
