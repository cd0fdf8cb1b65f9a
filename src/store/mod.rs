//! The only home of the database: journal, tree, checkpoints, projections, blobs and sealed secrets in one file.
//! It stores and finds; it never decides, signs or talks to anybody.

mod backup;
mod error;
mod snapshot;
mod tables;
mod transaction;

pub use backup::{BackupError, Head, KeyFile, Restored, Summary, check_backup, restore_backup, write_backup};
pub use error::Error;
pub use snapshot::Snapshot;
pub use transaction::Transaction;

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Version of the schema this program writes. A file with a higher one is refused; one with a lower one is brought up to it
/// by making all projections anew from the journal, whose own form never changes. Raise it with every change of a
/// projection's form, and keep a file of each released version in `tests/golden`.
pub const SCHEMA: u32 = 4;

/// Cache of database pages. redb's own default is 1 GiB, which an appliance on a small host must not take.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Files up to this size are checked whole, page by page, at every start; larger ones where the caller asks for it
/// ([`Store::open_whole`]). At some GB/s of checksumming this stays a small part of a second.
const CHECK_WHOLE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What a database says of itself, written once and checked at every start, so that an empty file can never pass for
/// this instance's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The instance's UUID, hyphenated.
    pub instance: String,
    pub schema: u32,
}

/// The open database.
pub struct Store {
    db: Database,
}

impl Store {
    /// Makes a new database with its identity. The file must not exist.
    ///
    /// # Errors
    /// When the file exists or can't be written.
    pub fn create(path: &Path, instance: &str) -> Result<Store, Error> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::Io(format!("{}: {e}", path.display())))?;
        let backend = FileBackend::new(file).map_err(Error::from_open)?;
        let db = builder(false)
            .create_with_backend(backend)
            .map_err(Error::from_open)?;
        let store = Store { db };
        store.begin_with_identity(instance)?;
        Ok(store)
    }

    /// Makes a new database on an empty storage of one's own. For the crash tests.
    ///
    /// # Errors
    /// When the storage is not empty or can't be written.
    pub fn create_on(backend: impl StorageBackend, instance: &str) -> Result<Store, Error> {
        if backend.len().map_err(|e| Error::Io(e.to_string()))? != 0 {
            return Err(Error::Io("the storage is not empty".into()));
        }
        let db = builder(false)
            .create_with_backend(backend)
            .map_err(Error::from_open)?;
        let store = Store { db };
        store.begin_with_identity(instance)?;
        Ok(store)
    }

    /// Opens an existing database.
    ///
    /// # Errors
    /// `Damaged` when the file is empty, not ours, of a newer schema or fails its checks; never replaces anything.
    pub fn open(path: &Path) -> Result<Store, Error> {
        Store::open_with(path, |length| length <= CHECK_WHOLE_BYTES_MAX)
    }

    /// As `open`, and checks every page, however large the file is: after the machine itself went down, its disk may have
    /// lost what it said was written.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_whole(path: &Path) -> Result<Store, Error> {
        Store::open_with(path, |_| true)
    }

    fn open_with(path: &Path, check_whole: impl Fn(u64) -> bool) -> Result<Store, Error> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| Error::Io(format!("{}: {e}", path.display())))?;
        let length = file.metadata().map_err(|e| Error::Io(e.to_string()))?.len();
        if length == 0 {
            return Err(Error::Damaged("the file is empty".into()));
        }
        drop(file);
        let db = builder(check_whole(length))
            .open(path)
            .map_err(Error::from_open)?;
        Store::checked(db)
    }

    /// Opens an existing database on a storage of one's own, with the checks of `open`. For the crash tests.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_on(backend: impl StorageBackend) -> Result<Store, Error> {
        let length = backend.len().map_err(|e| Error::Io(e.to_string()))?;
        if length == 0 {
            return Err(Error::Damaged("the file is empty".into()));
        }
        let db = builder(length <= CHECK_WHOLE_BYTES_MAX)
            .create_with_backend(backend)
            .map_err(Error::from_open)?;
        Store::checked(db)
    }

    fn checked(db: Database) -> Result<Store, Error> {
        let store = Store { db };
        let identity = store.read()?.identity()?;
        if identity.schema > SCHEMA {
            return Err(Error::Damaged(format!(
                "it was written by a newer version (schema {}, this program knows {SCHEMA})",
                identity.schema
            )));
        }
        store.check_tail()?;
        Ok(store)
    }

    /// Says that the projections are of this program's schema now.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn raise_schema(&self) -> Result<(), Error> {
        let transaction = self.write()?;
        transaction.put_meta("schema", &SCHEMA.to_be_bytes())?;
        transaction.commit()
    }

    /// A consistent view that never waits for the writer.
    pub fn read(&self) -> Result<Snapshot, Error> {
        Snapshot::begin(&self.db)
    }

    /// The one write transaction. Only the engine's writer calls this.
    pub fn write(&self) -> Result<Transaction, Error> {
        Transaction::begin(&self.db)
    }

    fn begin_with_identity(&self, instance: &str) -> Result<(), Error> {
        let transaction = self.write()?;
        transaction.put_meta("instance", instance.as_bytes())?;
        transaction.put_meta("schema", &SCHEMA.to_be_bytes())?;
        transaction.create_tables()?;
        transaction.commit()
    }

    /// The stored checkpoint, tree and last leaf must agree: the cheap part of what an auditor checks.
    fn check_tail(&self) -> Result<(), Error> {
        let snapshot = self.read()?;
        let size = snapshot.size()?;
        if let Some((covered, note)) = snapshot.latest_checkpoint()? {
            if covered > size {
                return Err(Error::Damaged(
                    "the newest checkpoint covers more than the journal holds".into(),
                ));
            }
            let root = snapshot.root(covered)?.base64();
            if note.lines().nth(2) != Some(root.as_str()) {
                return Err(Error::Damaged(
                    "the journal does not match its newest checkpoint".into(),
                ));
            }
        }
        if size > 0 {
            let leaf = snapshot
                .leaf(size - 1)?
                .ok_or(Error::Damaged("the last journal entry is missing".into()))?;
            snapshot.check_leaf(size - 1, &leaf)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

fn builder(check_whole: bool) -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(check_whole);
    builder
}
