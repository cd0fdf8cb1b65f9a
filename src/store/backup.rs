//! Backups: everything that can't be made again from the rest, read in one consistent view and written as one stream.
//!
//! A backup holds the journal, its checkpoints, the blobs that entries name, sealed secrets, cursors and the encrypted key
//! files. Projections are left out: a restore makes them from the journal, which is a check of its own. The file begins
//! with one line of JSON (`Head`); records follow, each one byte of kind, the lengths of key and value as u32 big-endian,
//! key, value; a record of kind `E` ends it, whose value is the SHA-256 of all bytes before that record.

use crate::domain::ids::Digest;
use crate::domain::time::Time;
use crate::evidence::leaf;
use crate::store::error::Error;
use crate::store::tables::{BLOBS, CHECKPOINTS, JOURNAL, SECRETS, TREE, node_key};
use crate::store::{SCHEMA, Snapshot, Store};
use crate::tlog;
use crate::tlog::{Checkpoint, Hash, VerifierKey, leaf_hash, node_hash};
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::{Read, Write};

/// What every backup begins with.
const FORMAT: &str = "signedapproval-backup";
/// Form of the file. A higher one is refused.
const FORM: u32 = 1;
/// Longest head, in bytes: a checkpoint and a few names.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest key and value of a record, in bytes. Blobs are the longest: lists of changed files.
const KEY_BYTES_MAX: u32 = 4096;
const VALUE_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Records that a restore writes in one transaction.
const RECORDS_AT_ONCE: usize = 20_000;

/// Why a backup can't be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file ends before its end.
    #[error("the backup is cut off: it ends before its last record")]
    Truncated,
    /// What was read is not what was written, or contradicts itself.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// It was written by a version that knew more.
    #[error("the backup was written by a newer version ({0})")]
    Newer(String),
}

/// The first line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: String,
    pub form: u32,
    /// UUID, hyphenated.
    pub instance: String,
    pub schema: u32,
    /// Version of the program that wrote it.
    pub version: String,
    pub created_at: String,
    /// Entries of the journal in it.
    pub entries: u64,
    /// Root of the tree over all of them, base64.
    pub root: String,
    /// The newest checkpoint, which covers all of them, or nearly all if a signing key was away.
    pub checkpoint: Option<String>,
}

/// What a whole backup turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub head: Head,
    /// Time of the newest entry.
    pub newest: Option<String>,
    /// Entries that the checkpoint covers.
    pub covered: u64,
    pub blobs: u64,
    pub secrets: u64,
    pub key_files: Vec<String>,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, up to its last record.
    pub sha256: String,
}

/// One record of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Journal = b'J' as isize,
    Checkpoint = b'C' as isize,
    Blob = b'B' as isize,
    Secret = b'S' as isize,
    Cursor = b'U' as isize,
    KeyFile = b'K' as isize,
    End = b'E' as isize,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Journal,
        Kind::Checkpoint,
        Kind::Blob,
        Kind::Secret,
        Kind::Cursor,
        Kind::KeyFile,
        Kind::End,
    ];

    fn byte(self) -> u8 {
        self as u8
    }

    fn parse(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|it| it.byte() == byte)
    }
}

/// A file of the data directory that a backup holds beside the database: its name and its bytes.
pub type KeyFile = (String, Vec<u8>);

/// Writes a backup of what a view holds.
///
/// # Errors
/// When the database can't be read or `out` can't be written.
pub fn write_backup(
    snapshot: &Snapshot,
    key_files: &[KeyFile],
    version: &str,
    created_at: Time,
    out: &mut dyn Write,
) -> Result<Head, BackupError> {
    let identity = snapshot.identity()?;
    let entries = snapshot.size()?;
    let head = Head {
        format: FORMAT.into(),
        form: FORM,
        instance: identity.instance,
        schema: identity.schema,
        version: version.to_owned(),
        created_at: created_at.to_string(),
        entries,
        root: snapshot.root(entries)?.base64(),
        checkpoint: snapshot.latest_checkpoint()?.map(|(_, note)| note),
    };
    let mut out = Hashing {
        inner: out,
        hash: Sha256::new(),
    };
    let mut line = serde_json::to_vec(&head).expect("texts and numbers always serialise");
    line.push(b'\n');
    out.write_all(&line)?;
    snapshot.each(JOURNAL, |key: u64, value| {
        record(&mut out, Kind::Journal, &key.to_be_bytes(), value)
    })?;
    snapshot.each(CHECKPOINTS, |key: u64, value| {
        record(&mut out, Kind::Checkpoint, &key.to_be_bytes(), value)
    })?;
    snapshot.each(BLOBS, |key: &[u8], value| {
        record(&mut out, Kind::Blob, key, value)
    })?;
    snapshot.each(SECRETS, |key: &str, value| {
        record(&mut out, Kind::Secret, key.as_bytes(), value)
    })?;
    for (name, next) in snapshot.cursors()? {
        record(&mut out, Kind::Cursor, name.as_bytes(), &next.to_be_bytes())?;
    }
    for (name, bytes) in key_files {
        record(&mut out, Kind::KeyFile, name.as_bytes(), bytes)?;
    }
    let digest = out.hash.clone().finalize();
    record(&mut out, Kind::End, b"", &digest)?;
    out.flush()?;
    Ok(head)
}

fn record(out: &mut dyn Write, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
    let too_long = || BackupError::Damaged("a record is too long for a backup".into());
    let key_length = u32::try_from(key.len()).ok().filter(|it| *it <= KEY_BYTES_MAX);
    let value_length = u32::try_from(value.len())
        .ok()
        .filter(|it| *it <= VALUE_BYTES_MAX);
    out.write_all(&[kind.byte()])?;
    out.write_all(&key_length.ok_or_else(too_long)?.to_be_bytes())?;
    out.write_all(&value_length.ok_or_else(too_long)?.to_be_bytes())?;
    out.write_all(key)?;
    out.write_all(value)?;
    Ok(())
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Reads a whole backup and checks all of it: the file's own digest, every entry against the tree, the tree against its
/// root and the checkpoint, the checkpoint's signature under a log key that the journal names, every blob against its
/// name. With `pinned` log keys, the checkpoint must be signed by one of them.
///
/// # Errors
/// What does not hold.
pub fn check_backup(input: &mut dyn Read, pinned: &[VerifierKey]) -> Result<Summary, BackupError> {
    let mut checking = Checking::default();
    let (head, bytes, sha256) = read(input, &mut |kind, key, value| checking.record(kind, key, value))?;
    checking.summary(head, bytes, sha256, pinned)
}

/// Where a restore came from, kept in the database until the first start has opened a new epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub created_at: String,
    pub entries: u64,
    /// The next epoch is at least this one: a higher one was seen outside.
    pub epoch: u32,
}

/// Puts a backup that was checked into a new database, and answers with its key files. Projections are for the caller to
/// rebuild.
///
/// # Errors
/// As `check_backup`, and when the database can't be written.
pub fn restore_backup(
    input: &mut dyn Read,
    store: &Store,
    restored: &Restored,
) -> Result<Vec<KeyFile>, BackupError> {
    let mut key_files = Vec::new();
    let mut waiting: Vec<(Kind, Vec<u8>, Vec<u8>)> = Vec::new();
    read(input, &mut |kind, key, value| {
        if kind == Kind::KeyFile {
            let name = String::from_utf8(key.to_vec()).map_err(|_| damaged("odd name of a key file"))?;
            key_files.push((name, value.to_vec()));
            return Ok(());
        }
        waiting.push((kind, key.to_vec(), value.to_vec()));
        if waiting.len() >= RECORDS_AT_ONCE {
            put(store, std::mem::take(&mut waiting))?;
        }
        Ok(())
    })?;
    put(store, waiting)?;
    let transaction = store.write()?;
    let marker = serde_json::to_vec(restored).expect("texts and numbers always serialise");
    transaction.put_meta(RESTORED, &marker)?;
    transaction.commit()?;
    Ok(key_files)
}

/// Row of the marker in the database's identity.
pub(super) const RESTORED: &str = "restored";

fn put(store: &Store, records: Vec<(Kind, Vec<u8>, Vec<u8>)>) -> Result<(), BackupError> {
    let mut transaction = store.write()?;
    for (kind, key, value) in records {
        match kind {
            Kind::Journal => {
                let seq = transaction.append(&value)?;
                if seq.to_be_bytes()[..] != key {
                    return Err(damaged("an entry is missing"));
                }
            }
            Kind::Checkpoint => {
                let size = u64::from_be_bytes(eight(&key)?);
                let note = String::from_utf8(value).map_err(|_| damaged("a checkpoint is not text"))?;
                transaction.put_checkpoint(size, &note)?;
            }
            Kind::Blob => {
                transaction.put_blob(&value)?;
            }
            Kind::Secret => {
                let name = String::from_utf8(key).map_err(|_| damaged("odd name of a secret"))?;
                transaction.put_secret(&name, &value)?;
            }
            Kind::Cursor => {
                let name = String::from_utf8(key).map_err(|_| damaged("odd name of a cursor"))?;
                transaction.put_cursor(&name, u64::from_be_bytes(eight(&value)?))?;
            }
            Kind::KeyFile | Kind::End => {}
        }
    }
    transaction.commit()?;
    Ok(())
}

type OnRecord<'a> = dyn FnMut(Kind, &[u8], &[u8]) -> Result<(), BackupError> + 'a;

/// Reads the head and hands every record on; checks the digest at the end and that nothing stands behind it.
fn read(input: &mut dyn Read, on: &mut OnRecord<'_>) -> Result<(Head, u64, String), BackupError> {
    let mut input = std::io::BufReader::with_capacity(1 << 20, input);
    let mut hash = Sha256::new();
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        exact(&mut input, &mut byte)?;
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
        if line.len() > HEAD_BYTES_MAX {
            return Err(damaged("it does not begin as a backup does"));
        }
    }
    hash.update(&line);
    let mut bytes = line.len() as u64;
    let head: Head =
        serde_json::from_slice(&line).map_err(|_| damaged("it does not begin as a backup does"))?;
    if head.format != FORMAT {
        return Err(damaged("it is not a backup of SignedApproval"));
    }
    if head.form > FORM || head.schema > SCHEMA {
        return Err(BackupError::Newer(format!(
            "version {}, form {}, schema {}; this program knows form {FORM}, schema {SCHEMA}",
            head.version, head.form, head.schema
        )));
    }
    let (mut key, mut value) = (Vec::new(), Vec::new());
    loop {
        let mut fixed = [0; 9];
        exact(&mut input, &mut fixed)?;
        let kind = Kind::parse(fixed[0]).ok_or_else(|| damaged("a record of no known kind"))?;
        let key_length = u32::from_be_bytes([fixed[1], fixed[2], fixed[3], fixed[4]]);
        let value_length = u32::from_be_bytes([fixed[5], fixed[6], fixed[7], fixed[8]]);
        if key_length > KEY_BYTES_MAX || value_length > VALUE_BYTES_MAX {
            return Err(damaged("a record is longer than any can be"));
        }
        take(&mut input, &mut key, key_length)?;
        take(&mut input, &mut value, value_length)?;
        bytes += 9 + u64::from(key_length) + u64::from(value_length);
        if kind == Kind::End {
            let digest = hash.finalize();
            if digest[..] != value[..] {
                return Err(damaged("its digest is not the one it ends with"));
            }
            if input.read(&mut [0])? != 0 {
                return Err(damaged("something stands behind its end"));
            }
            return Ok((head, bytes, hex::encode(digest)));
        }
        hash.update(fixed);
        hash.update(&key);
        hash.update(&value);
        on(kind, &key, &value)?;
    }
}

fn exact(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), BackupError> {
    input.read_exact(bytes).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => BackupError::Truncated,
        _ => BackupError::Io(e),
    })
}

/// Reads `length` bytes into `into`, without believing the length before the bytes are there.
fn take(input: &mut impl Read, into: &mut Vec<u8>, length: u32) -> Result<(), BackupError> {
    into.clear();
    let read = input.take(u64::from(length)).read_to_end(into)?;
    if read < length as usize {
        return Err(BackupError::Truncated);
    }
    Ok(())
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

fn eight(bytes: &[u8]) -> Result<[u8; 8], BackupError> {
    bytes.try_into().map_err(|_| damaged("a number of odd length"))
}

/// What is checked while a backup is read.
#[derive(Default)]
struct Checking {
    /// Roots of the perfect subtrees that make up the tree so far, the largest first, each with its height.
    edge: Vec<(u32, Hash)>,
    entries: u64,
    newest: Option<String>,
    log_keys: Vec<[u8; 32]>,
    wanted: Option<u64>,
    checkpoints: u64,
    blobs: u64,
    secrets: u64,
    key_files: Vec<String>,
    /// Roots at all sizes that may be asked for: only the newest checkpoint is, which comes after the entries.
    roots: std::collections::BTreeMap<u64, Hash>,
}

/// Roots that are kept while reading: the newest checkpoint covers all entries, or all but the few that were recorded
/// while a signing key was away.
const ROOTS_KEPT: usize = 100_000;

impl Checking {
    fn record(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        match kind {
            Kind::Journal => self.entry(u64::from_be_bytes(eight(key)?), value),
            Kind::Checkpoint => {
                self.checkpoints += 1;
                let size = u64::from_be_bytes(eight(key)?);
                self.wanted = Some(size);
                Ok(())
            }
            Kind::Blob => {
                self.blobs += 1;
                match Digest::of(value).0[..] == *key {
                    true => Ok(()),
                    false => Err(damaged("a blob is not the one its name says")),
                }
            }
            Kind::Secret => {
                self.secrets += 1;
                Ok(())
            }
            Kind::KeyFile => {
                let name = std::str::from_utf8(key).unwrap_or_default();
                let good = !name.is_empty()
                    && name
                        .bytes()
                        .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-'))
                    && !name.starts_with('.');
                match good {
                    true => self.key_files.push(name.to_owned()),
                    false => return Err(damaged("odd name of a key file")),
                }
                Ok(())
            }
            Kind::Cursor | Kind::End => Ok(()),
        }
    }

    fn entry(&mut self, seq: u64, bytes: &[u8]) -> Result<(), BackupError> {
        let parsed = leaf::parse(bytes).map_err(|e| BackupError::Damaged(format!("entry {seq}: {e}")))?;
        if seq != self.entries || parsed.seq != seq {
            return Err(BackupError::Damaged(format!("entry {} is missing", self.entries)));
        }
        if parsed.kind == "key.activated"
            && let Some(key) = log_key(bytes)
        {
            self.log_keys.push(key);
        }
        let (mut height, mut hash) = (0, leaf_hash(bytes));
        while let Some((top, left)) = self.edge.pop_if(|(top, _)| *top == height) {
            hash = node_hash(&left, &hash);
            height = top + 1;
        }
        self.edge.push((height, hash));
        self.entries += 1;
        self.newest = Some(parsed.time);
        self.roots.insert(self.entries, self.root());
        if self.roots.len() > ROOTS_KEPT {
            self.roots.pop_first();
        }
        Ok(())
    }

    fn root(&self) -> Hash {
        let mut parts = self.edge.iter().rev().map(|(_, hash)| *hash);
        let Some(mut root) = parts.next() else {
            return tlog::empty_root();
        };
        for left in parts {
            root = node_hash(&left, &root);
        }
        root
    }

    fn summary(
        self,
        head: Head,
        bytes: u64,
        sha256: String,
        pinned: &[VerifierKey],
    ) -> Result<Summary, BackupError> {
        if self.entries != head.entries || self.root().base64() != head.root {
            return Err(damaged("its entries are not the ones its head names"));
        }
        let mut covered = 0;
        if let Some(note) = &head.checkpoint {
            let origin = note.lines().next().unwrap_or_default();
            let own: Vec<VerifierKey> = self
                .log_keys
                .iter()
                .filter_map(|it| VerifierKey::new(origin, *it).ok())
                .collect();
            let believed = if pinned.is_empty() { &own[..] } else { pinned };
            let checkpoint = Checkpoint::open(note.as_bytes(), believed)
                .map_err(|e| BackupError::Damaged(format!("its checkpoint: {e}")))?
                .0;
            covered = checkpoint.size();
            if self.wanted != Some(covered) || self.roots.get(&covered) != Some(checkpoint.root()) {
                return Err(damaged("its entries are not the ones its checkpoint covers"));
            }
        } else if self.entries > 0 {
            return Err(damaged("it holds entries and no checkpoint"));
        }
        Ok(Summary {
            head,
            newest: self.newest,
            covered,
            blobs: self.blobs,
            secrets: self.secrets,
            key_files: self.key_files,
            bytes,
            sha256,
        })
    }
}

/// The raw log key of a `key.activated` entry.
fn log_key(bytes: &[u8]) -> Option<[u8; 32]> {
    use base64::Engine as _;
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    if value["data"]["use"] != "log" {
        return None;
    }
    let spki = base64::engine::general_purpose::STANDARD
        .decode(value["data"]["spki"].as_str()?)
        .ok()?;
    spki.last_chunk::<32>().copied()
}

impl Snapshot {
    /// Hands every row of a table on, in key order.
    fn each<K: redb::Key + 'static>(
        &self,
        table: TableDefinition<'_, K, &'static [u8]>,
        mut on: impl for<'a> FnMut(K::SelfType<'a>, &[u8]) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let table = self.open(table)?;
        for row in table.iter().map_err(Error::from)? {
            let (key, value) = row.map_err(Error::from)?;
            on(key.value(), value.value())?;
        }
        Ok(())
    }

    /// That blobs are what their names say. Answers where to go on; `None` at the end.
    ///
    /// # Errors
    /// `Damaged` with the first that is not.
    pub fn check_blobs(&self, from: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut next = None;
        for row in self.open(BLOBS)?.range(from..)?.take(limit) {
            let (key, bytes) = row?;
            if Digest::of(bytes.value()).0[..] != *key.value() {
                return Err(Error::Damaged(format!(
                    "the blob {} is not what its name says",
                    hex::encode(key.value())
                )));
            }
            next = Some([key.value(), &[0]].concat());
        }
        Ok(next)
    }

    /// That the tree holds what a whole look at the journal says: each entry, and each node above them.
    ///
    /// # Errors
    /// `Damaged` with the first entry that is not what it was.
    pub fn check_entries(&self, from: u64, limit: usize) -> Result<u64, Error> {
        let tree = self.open(TREE)?;
        let mut next = from;
        for (seq, leaf) in self.leaves(from, limit)? {
            let id = tlog::NodeId { level: 0, index: seq };
            let known = tree.get(&node_key(id)[..])?;
            if seq != next || known.is_none_or(|it| it.value() != leaf_hash(&leaf).0) {
                return Err(Error::Damaged(format!(
                    "journal entry {next} is not the one its tree knows"
                )));
            }
            next += 1;
        }
        Ok(next)
    }
}
