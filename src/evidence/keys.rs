//! The published history of the appliance's keys, and the statements by which one key introduces the next.
//!
//! `keys.json` and a bundle's `keys/history.json` have one form: `{"keys":[{"keyid","use","spki","from_seq",
//! "until_seq","from","until","introduction"}]}`. An introduction is a DSSE over one such entry without its
//! `introduction`, as it was when the key was activated, signed by the old and the new key in this order.

use crate::domain::ids::Digest;
use crate::domain::keys::KeyRecord;
use crate::evidence::dsse::{DsseError, Envelope, KEY_INTRODUCTION, PublicKey};
use crate::evidence::strict;
use crate::evidence::strict::{Object, Space, StrictError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Longest key history that is read, in bytes.
pub const HISTORY_BYTES_MAX: usize = 1024 * 1024;

/// Why a key history or an introduction was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Json(#[from] StrictError),
    #[error(transparent)]
    Dsse(#[from] DsseError),
    #[error("the key id of an entry is not the digest of its key")]
    KeyId,
    #[error("`use` is neither `credential` nor `log`")]
    Use,
    #[error("the introduction is about another key, another position or another time than the history")]
    OtherEntry,
}

/// One key in the published history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub keyid: String,
    /// `credential` or `log`.
    pub r#use: String,
    /// SubjectPublicKeyInfo DER, base64.
    pub spki: String,
    /// The first journal position it counts for.
    pub from_seq: u64,
    /// The first position it no longer counts for.
    pub until_seq: Option<u64>,
    pub from: String,
    pub until: Option<String>,
    #[serde(skip)]
    pub introduction: Option<Digest>,
}

/// An entry with its introduction's digest, as it is published.
#[derive(Serialize)]
struct Published<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    introduction: Option<String>,
}

impl Entry {
    /// The entry of a recorded key.
    pub fn of(record: &KeyRecord) -> Entry {
        Entry {
            keyid: record.keyid.clone(),
            r#use: record.r#use.clone(),
            spki: record.spki.clone(),
            from_seq: record.from_seq,
            until_seq: record.until_seq,
            from: record.from.to_string(),
            until: record.until.map(|it| it.to_string()),
            introduction: record.introduction,
        }
    }

    /// The key, which counts for the entry's part of the journal alone.
    ///
    /// # Errors
    /// When it is no Ed25519 key, or not the one its id names.
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        let spki = strict::base64(&self.spki).ok_or(DsseError::Key("not base64"))?;
        let key = PublicKey::from_spki(&spki)?;
        if key.id() != self.keyid {
            return Err(KeyError::KeyId);
        }
        Ok(key.counting(self.from_seq, self.until_seq))
    }
}

/// The published history, in the order given.
pub fn history(entries: &[Entry]) -> Vec<u8> {
    #[derive(Serialize)]
    struct History<'a> {
        keys: Vec<Published<'a>>,
    }
    let keys = entries.iter().map(|entry| Published {
        entry,
        introduction: entry.introduction.map(|it| it.to_string()),
    });
    serde_json::to_vec(&History { keys: keys.collect() }).expect("texts and numbers always serialise")
}

/// Reads a published history.
///
/// # Errors
/// When it is not in that form, or an entry's id is not its key's.
pub fn parse_history(bytes: &[u8]) -> Result<Vec<Entry>, KeyError> {
    let value = strict::parse(bytes, Space::Allowed)?;
    let form = value.object("key history")?;
    let mut entries = Vec::new();
    for value in form.list("keys")? {
        let members = value.object("key")?;
        let mut entry = entry(&members)?;
        entry.introduction = match members.text_or_null("introduction")? {
            Some(_) => Some(members.digest("introduction")?),
            None => None,
        };
        entry.public_key()?;
        entries.push(entry);
    }
    Ok(entries)
}

/// The payload by which the key before introduces a new one. Nothing has ended the new one yet.
pub fn introduction_payload(r#use: &str, spki: &[u8], keyid: &str, from_seq: u64, from: &str) -> Vec<u8> {
    let entry = Entry {
        keyid: keyid.to_owned(),
        r#use: r#use.to_owned(),
        spki: STANDARD.encode(spki),
        from_seq,
        until_seq: None,
        from: from.to_owned(),
        until: None,
        introduction: None,
    };
    serde_json::to_vec(&entry).expect("texts and numbers always serialise")
}

/// Checks that `file` is the introduction of `entry`, signed by the key before and by the new one.
///
/// # Errors
/// What does not hold.
pub fn check_introduction(file: &[u8], entry: &Entry, before: &PublicKey) -> Result<(), KeyError> {
    let envelope = Envelope::parse(file)?;
    if envelope.payload_type != KEY_INTRODUCTION || entry.introduction != Some(Digest::of(file)) {
        return Err(KeyError::OtherEntry);
    }
    let expected = Entry {
        until_seq: None,
        until: None,
        introduction: None,
        ..entry.clone()
    };
    if envelope.payload != serde_json::to_vec(&expected).expect("texts and numbers always serialise") {
        return Err(KeyError::OtherEntry);
    }
    envelope.verify_all(&[before.clone(), entry.public_key()?])?;
    Ok(())
}

/// The keys of a use that may be believed: those in `pinned`, by id, and those that a believed key introduced while it
/// still counted. Each counts for its own part of the journal alone.
///
/// A pinned key that the history does not know counts as before, without limits: it belongs to somebody else's history.
pub fn believed(
    pinned: &[PublicKey],
    entries: &[Entry],
    introductions: &[Vec<u8>],
) -> Result<Vec<PublicKey>, KeyError> {
    let mut found: Vec<(PublicKey, Option<&Entry>)> = Vec::new();
    for key in pinned {
        match entries.iter().find(|it| it.keyid == key.id()) {
            Some(entry) => found.push((entry.public_key()?, Some(entry))),
            None => found.push((key.clone(), None)),
        }
    }
    loop {
        let next = entries.iter().find_map(|entry| {
            if found.iter().any(|(key, _)| key.id() == entry.keyid) {
                return None;
            }
            let file = introductions
                .iter()
                .find(|it| entry.introduction == Some(Digest::of(it)))?;
            let introduced = found.iter().any(|(key, by)| {
                by.is_some_and(|by| {
                    // A key that stopped counting before it introduced another introduced nothing.
                    by.r#use == entry.r#use && by.until_seq.is_none_or(|until| entry.from_seq <= until)
                }) && check_introduction(file, entry, key).is_ok()
            });
            introduced.then_some(entry)
        });
        let Some(entry) = next else { break };
        found.push((entry.public_key()?, Some(entry)));
    }
    Ok(found.into_iter().map(|(key, _)| key).collect())
}

fn entry(members: &Object<'_, '_>) -> Result<Entry, KeyError> {
    let r#use = members.text("use")?;
    if !matches!(r#use, "credential" | "log") {
        return Err(KeyError::Use);
    }
    Ok(Entry {
        keyid: members.digest("keyid")?.to_string(),
        r#use: r#use.to_owned(),
        spki: members.text("spki")?.to_owned(),
        from_seq: members.count("from_seq")?,
        until_seq: match members.member("until_seq")?.is_null() {
            true => None,
            false => Some(members.count("until_seq")?),
        },
        from: members.time("from")?.0.to_owned(),
        until: members.text_or_null("until")?.map(str::to_owned),
        introduction: None,
    })
}
