//! A consistent view of everything that is committed. Never waits for the writer.

use crate::domain::event::Event;
use crate::domain::ids::Digest;
use crate::domain::state::{Fault, Read, Row, Table};
use crate::store::Identity;
use crate::store::backup::{RESTORED, Restored};
use crate::store::error::Error;
use crate::store::tables::{BLOBS, CHECKPOINTS, CURSORS, JOURNAL, META, SECRETS, TREE, node_key, projection};
use crate::tlog;
use crate::tlog::{Hash, NodeId, Nodes, TreeError};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

/// A read transaction. Short-lived: an old one keeps freed pages from being used again.
pub struct Snapshot {
    transaction: ReadTransaction,
}

impl Snapshot {
    pub(super) fn begin(db: &Database) -> Result<Self, Error> {
        Ok(Snapshot {
            transaction: db.begin_read()?,
        })
    }

    /// What the database says of itself.
    pub fn identity(&self) -> Result<Identity, Error> {
        let table = match self.transaction.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                return Err(Error::Damaged("it holds no SignedApproval journal".into()));
            }
            Err(e) => return Err(e.into()),
        };
        let value = |key: &str| -> Result<Vec<u8>, Error> {
            Ok(table
                .get(key)?
                .ok_or_else(|| Error::Damaged(format!("it lacks its {key}")))?
                .value()
                .to_vec())
        };
        let instance =
            String::from_utf8(value("instance")?).map_err(|_| Error::Damaged("odd instance id".into()))?;
        let schema = value("schema")?
            .try_into()
            .map_err(|_| Error::Damaged("odd schema number".into()))?;
        Ok(Identity {
            instance,
            schema: u32::from_be_bytes(schema),
        })
    }

    /// A table, for reading.
    pub(super) fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: redb::TableDefinition<'_, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, Error> {
        Ok(self.transaction.open_table(table)?)
    }

    /// What the first start after a restore has to know; `None` when it has been dealt with, or there was none.
    pub fn restored(&self) -> Result<Option<Restored>, Error> {
        let table = self.open(META)?;
        let row = table.get(RESTORED)?;
        row.map(|it| {
            serde_json::from_slice(it.value()).map_err(|e| Error::Damaged(format!("the restore's mark: {e}")))
        })
        .transpose()
    }

    /// How many entries the journal has.
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.transaction.open_table(JOURNAL)?.len()?)
    }

    /// The exact bytes of an entry.
    pub fn leaf(&self, seq: u64) -> Result<Option<Vec<u8>>, Error> {
        Ok(self
            .transaction
            .open_table(JOURNAL)?
            .get(seq)?
            .map(|it| it.value().to_vec()))
    }

    /// Entries from `from` on, at most `limit`.
    pub fn leaves(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let table = self.transaction.open_table(JOURNAL)?;
        let mut leaves = Vec::new();
        for row in table.range(from..)?.take(limit) {
            let (seq, leaf) = row?;
            leaves.push((seq.value(), leaf.value().to_vec()));
        }
        Ok(leaves)
    }

    /// Hands out entries from `from` on, at most `limit`, without a copy of each.
    ///
    /// # Errors
    /// When they can't be read, or `each` says so.
    pub fn each_leaf<E: From<Error>>(
        &self,
        from: u64,
        limit: usize,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = self.transaction.open_table(JOURNAL).map_err(Error::from)?;
        for row in table.range(from..).map_err(Error::from)?.take(limit) {
            let (seq, leaf) = row.map_err(Error::from)?;
            each(seq.value(), leaf.value())?;
        }
        Ok(())
    }

    /// The root of the first `size` entries.
    pub fn root(&self, size: u64) -> Result<Hash, Error> {
        tlog::root(size, self).map_err(tree_error)
    }

    /// The hashes that show entry `index` in the tree of `size` entries.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        tlog::inclusion_proof(index, size, self).map_err(tree_error)
    }

    /// The hashes that show that the tree of `old` entries is the beginning of the tree of `new`.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        tlog::consistency_proof(old, new, self).map_err(tree_error)
    }

    /// The newest checkpoint and the size it covers.
    pub fn latest_checkpoint(&self) -> Result<Option<(u64, String)>, Error> {
        let table = self.transaction.open_table(CHECKPOINTS)?;
        table
            .last()?
            .map(|(size, note)| Ok((size.value(), text(note.value())?)))
            .transpose()
    }

    /// The smallest stored checkpoint that covers entry `index`.
    pub fn checkpoint_covering(&self, index: u64) -> Result<Option<(u64, String)>, Error> {
        let table = self.transaction.open_table(CHECKPOINTS)?;
        match table.range(index + 1..)?.next() {
            Some(row) => {
                let (size, note) = row?;
                Ok(Some((size.value(), text(note.value())?)))
            }
            None => Ok(None),
        }
    }

    /// The largest stored checkpoint that covers at most the first `size` entries.
    pub fn checkpoint_within(&self, size: u64) -> Result<Option<(u64, String)>, Error> {
        let table = self.transaction.open_table(CHECKPOINTS)?;
        match table.range(..=size)?.next_back() {
            Some(row) => {
                let (size, note) = row?;
                Ok(Some((size.value(), text(note.value())?)))
            }
            None => Ok(None),
        }
    }

    /// The largest stored checkpoint that covers more than `from` and at most `to` entries.
    pub fn checkpoint_between(&self, from: u64, to: u64) -> Result<Option<(u64, String)>, Error> {
        let table = self.transaction.open_table(CHECKPOINTS)?;
        match table.range(from + 1..=to)?.next_back() {
            Some(row) => {
                let (size, note) = row?;
                Ok(Some((size.value(), text(note.value())?)))
            }
            None => Ok(None),
        }
    }

    /// Whether a blob is there.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.transaction.open_table(BLOBS)?.get(&digest.0[..])?.is_some())
    }

    /// How many bytes a blob has; `None`: it is not there.
    pub fn blob_bytes(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let table = self.transaction.open_table(BLOBS)?;
        let blob = table.get(&digest.0[..])?;
        Ok(blob.map(|it| it.value().len() as u64))
    }

    /// A sealed secret.
    pub fn secret(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self
            .transaction
            .open_table(SECRETS)?
            .get(name)?
            .map(|it| it.value().to_vec()))
    }

    /// All sealed secrets, by name.
    pub fn secrets(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let table = self.transaction.open_table(SECRETS)?;
        let mut secrets = Vec::new();
        for row in table.iter()? {
            let (name, sealed) = row?;
            secrets.push((name.value().to_owned(), sealed.value().to_vec()));
        }
        Ok(secrets)
    }

    /// Where a follower goes on.
    pub fn cursor(&self, follower: &str) -> Result<u64, Error> {
        Ok(self
            .transaction
            .open_table(CURSORS)?
            .get(follower)?
            .map_or(0, |it| it.value()))
    }

    /// Every follower with the entry it goes on with.
    pub fn cursors(&self) -> Result<Vec<(String, u64)>, Error> {
        let table = self.transaction.open_table(CURSORS)?;
        let mut found = Vec::new();
        for row in table.iter()? {
            let (follower, next) = row?;
            found.push((follower.value().to_owned(), next.value()));
        }
        Ok(found)
    }

    /// How many records a table has.
    pub fn count(&self, table: Table) -> Result<u64, Error> {
        Ok(self.transaction.open_table(projection(table))?.len()?)
    }

    /// The event in a leaf, for followers.
    pub fn event(leaf: &[u8]) -> Result<Event, Error> {
        serde_json::from_slice(leaf).map_err(|e| Error::Damaged(format!("journal entry: {e}")))
    }

    /// That an entry is the one the tree knows.
    pub(super) fn check_leaf(&self, seq: u64, leaf: &[u8]) -> Result<(), Error> {
        let known = self.node(NodeId { level: 0, index: seq })?;
        if known == Some(tlog::leaf_hash(leaf)) {
            Ok(())
        } else {
            Err(Error::Damaged(format!(
                "journal entry {seq} is not the one its tree knows"
            )))
        }
    }
}

impl Nodes for Snapshot {
    type Error = Error;

    fn node(&self, id: NodeId) -> Result<Option<Hash>, Error> {
        let table = self.transaction.open_table(TREE)?;
        let node = table.get(&node_key(id)[..])?;
        node.map(|it| hash(it.value())).transpose()
    }
}

impl Read for Snapshot {
    fn get_raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let table = self
            .transaction
            .open_table(projection(table))
            .map_err(Error::from)?;
        get(&table, key)
    }

    fn scan_raw(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        backwards: bool,
    ) -> Result<Vec<Row>, Fault> {
        let table = self
            .transaction
            .open_table(projection(table))
            .map_err(Error::from)?;
        scan(&table, from, to, limit, backwards)
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Fault> {
        get(
            &self.transaction.open_table(BLOBS).map_err(Error::from)?,
            &digest.0,
        )
    }
}

/// Bytes tables are all of this type.
pub(super) trait Bytes: ReadableTable<&'static [u8], &'static [u8]> {}
impl<T: ReadableTable<&'static [u8], &'static [u8]>> Bytes for T {}

pub(super) fn get(table: &impl Bytes, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    Ok(table.get(key).map_err(Error::from)?.map(|it| it.value().to_vec()))
}

pub(super) fn scan(
    table: &impl Bytes,
    from: &[u8],
    to: &[u8],
    limit: usize,
    backwards: bool,
) -> Result<Vec<Row>, Fault> {
    let mut range = table.range(from..to).map_err(Error::from)?;
    let mut rows = Vec::new();
    while rows.len() < limit {
        let row = if backwards {
            range.next_back()
        } else {
            range.next()
        };
        let Some(row) = row else { break };
        let (key, value) = row.map_err(Error::from)?;
        rows.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(rows)
}

pub(super) fn hash(bytes: &[u8]) -> Result<Hash, Error> {
    bytes
        .try_into()
        .map(Hash)
        .map_err(|_| Error::Damaged("a tree node is not 32 bytes".into()))
}

pub(super) fn tree_error(error: TreeError<Error>) -> Error {
    match error {
        TreeError::Nodes(e) => e,
        other => Error::Damaged(other.to_string()),
    }
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Damaged("a checkpoint is not text".into()))
}
