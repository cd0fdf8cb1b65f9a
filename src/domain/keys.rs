//! Which keys sign, since when and until when: the recorded history, by position in the journal. It holds no private key
//! and knows no signature.

use crate::domain::apply::Place;
use crate::domain::event::Event;
use crate::domain::ids::Digest;
use crate::domain::state::{Fault, Read, Table, Write, decode, encode};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Row of the current epoch in the counters: its number and the log's origin.
pub const EPOCH: &[u8] = b"epoch";
/// Rows of all epochs begin so; the number follows, big-endian.
const EPOCH_PREFIX: &[u8] = b"epochs/";
/// Rows of the keys that were ever active begin so; the position of their `key.activated` follows, big-endian.
const KEY_PREFIX: &[u8] = b"key/";

/// A signing key and the part of the journal it counts for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `credential` or `log`.
    pub r#use: String,
    pub keyid: String,
    /// SubjectPublicKeyInfo DER, base64.
    pub spki: String,
    pub from_seq: u64,
    pub from: Time,
    /// The first position it no longer counts for; `None`: it still does.
    #[serde(default)]
    pub until_seq: Option<u64>,
    /// When that was recorded.
    #[serde(default)]
    pub until: Option<Time>,
    /// The blob with which the key before introduced it.
    #[serde(default)]
    pub introduction: Option<Digest>,
    /// Why somebody else may hold it.
    #[serde(default)]
    pub compromised: Option<String>,
}

impl KeyRecord {
    /// Whether a signature over what stands at `seq` counts.
    pub fn counts_at(&self, seq: u64) -> bool {
        self.from_seq <= seq && self.until_seq.is_none_or(|until| seq < until)
    }
}

/// An epoch of the log: the tree goes on, under another origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    pub epoch: u32,
    /// First line of its checkpoints.
    pub origin: String,
    /// Position of its `epoch.opened`.
    pub seq: u64,
}

/// All keys there ever were, oldest first.
///
/// # Errors
/// When they can't be read.
pub fn all_keys(state: &impl Read) -> Result<Vec<KeyRecord>, Fault> {
    let rows = state.with_prefix(Table::Counters, KEY_PREFIX)?;
    rows.iter().map(|(_, row)| decode(row)).collect()
}

/// The key of a use that signs now.
pub fn active<'a>(keys: &'a [KeyRecord], which: &str) -> Option<&'a KeyRecord> {
    keys.iter()
        .rev()
        .find(|it| it.r#use == which && it.until_seq.is_none())
}

/// All epochs, oldest first.
///
/// # Errors
/// When they can't be read.
pub fn all_epochs(state: &impl Read) -> Result<Vec<EpochRecord>, Fault> {
    let rows = state.with_prefix(Table::Counters, EPOCH_PREFIX)?;
    rows.iter().map(|(_, row)| decode(row)).collect()
}

/// Each epoch with the log key that signed its last checkpoint, oldest first. An epoch whose key turned out to be
/// compromised before its end is left out: nobody should believe its checkpoints any more.
///
/// # Errors
/// When the state can't be read.
pub fn log_keys(state: &impl Read) -> Result<Vec<(EpochRecord, KeyRecord)>, Fault> {
    let (epochs, keys) = (all_epochs(state)?, all_keys(state)?);
    let mut found = Vec::new();
    for (idx, epoch) in epochs.iter().enumerate() {
        let key = match epochs.get(idx + 1) {
            Some(next) => keys
                .iter()
                .find(|it| it.r#use == "log" && it.counts_at(next.seq.saturating_sub(1))),
            None => active(&keys, "log"),
        };
        if let Some(key) = key {
            found.push((epoch.clone(), key.clone()));
        }
    }
    Ok(found)
}

pub(super) fn apply(event: &Event, at: Place, state: &mut impl Write) -> Result<(), Fault> {
    match event {
        Event::EpochOpened { epoch, origin, .. } => {
            let record = EpochRecord {
                epoch: *epoch,
                origin: origin.clone(),
                seq: at.seq,
            };
            let row = [EPOCH_PREFIX, &epoch.to_be_bytes()].concat();
            state.put_raw(Table::Counters, &row, &encode(&record))?;
            state.put_raw(Table::Counters, EPOCH, &encode(&(epoch, origin)))
        }
        Event::KeyActivated {
            r#use,
            keyid,
            spki,
            from_seq,
            introduction,
        } => {
            let record = KeyRecord {
                r#use: r#use.clone(),
                keyid: keyid.clone(),
                spki: spki.clone(),
                from_seq: *from_seq,
                from: at.time,
                until_seq: None,
                until: None,
                introduction: *introduction,
                compromised: None,
            };
            let row = [KEY_PREFIX, &at.seq.to_be_bytes()].concat();
            state.put_raw(Table::Counters, &row, &encode(&record))
        }
        Event::KeyRetired { keyid, from_seq, .. } => end(keyid, *from_seq, None, at, state),
        Event::KeyCompromised {
            keyid,
            from_seq,
            reason,
            ..
        } => end(keyid, *from_seq, Some(reason), at, state),
        _ => Ok(()),
    }
}

/// A key ends at a position, or earlier than was known before; never later.
fn end(
    keyid: &str,
    from_seq: u64,
    compromised: Option<&String>,
    at: Place,
    state: &mut impl Write,
) -> Result<(), Fault> {
    for (row, bytes) in state.with_prefix(Table::Counters, KEY_PREFIX)? {
        let mut record: KeyRecord = decode(&bytes)?;
        if record.keyid != keyid {
            continue;
        }
        if record.until_seq.is_none_or(|it| from_seq < it) {
            record.until_seq = Some(from_seq);
            record.until = Some(at.time);
        }
        if let Some(reason) = compromised {
            record.compromised = Some(reason.clone());
        }
        state.put_raw(Table::Counters, &row, &encode(&record))?;
    }
    Ok(())
}
