//! The one write transaction: it appends to the journal and changes projections, all or nothing.

use crate::domain::ids::Digest;
use crate::domain::state::{Fault, Read, Row, Table, Write};
use crate::store::error::Error;
use crate::store::snapshot::{get, hash, scan, tree_error};
use crate::store::tables::{BLOBS, CHECKPOINTS, CURSORS, JOURNAL, META, SECRETS, TREE, node_key, projection};
use crate::tlog;
use crate::tlog::{Hash, NodeId, Nodes};
use redb::{Database, ReadableTable, ReadableTableMetadata, WriteTransaction};

/// A write transaction. Dropped without `commit`, it never happened.
pub struct Transaction {
    transaction: WriteTransaction,
}

impl Transaction {
    pub(super) fn begin(db: &Database) -> Result<Self, Error> {
        let mut transaction = db.begin_write()?;
        // Titles and paths are chosen by attackers: a one-phase commit relies on a checksum they could aim at.
        transaction.set_two_phase_commit(true);
        // Which pages are in use is written with each commit, some tens of KiB, beside two flushes that take far longer. So
        // a start after a kill need not walk the whole file to find out.
        transaction.set_quick_repair(true);
        Ok(Transaction { transaction })
    }

    /// Makes everything durable. An error means unknown, not failed: the process must stop and look.
    pub fn commit(self) -> Result<(), Error> {
        Ok(self.transaction.commit()?)
    }

    /// How many entries the journal has, this transaction's own included.
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.transaction.open_table(JOURNAL)?.len()?)
    }

    /// The last entry.
    pub fn last_leaf(&self) -> Result<Option<Vec<u8>>, Error> {
        let table = self.transaction.open_table(JOURNAL)?;
        Ok(table.last()?.map(|(_, leaf)| leaf.value().to_vec()))
    }

    /// Appends one entry to journal and tree; answers its position.
    pub fn append(&mut self, leaf: &[u8]) -> Result<u64, Error> {
        let seq = self.size()?;
        let made = tlog::append(seq, tlog::leaf_hash(leaf), self).map_err(tree_error)?;
        self.transaction.open_table(JOURNAL)?.insert(seq, leaf)?;
        let mut tree = self.transaction.open_table(TREE)?;
        for (id, hash) in made {
            tree.insert(&node_key(id)[..], &hash.0[..])?;
        }
        Ok(seq)
    }

    /// The root over all entries.
    pub fn root(&self) -> Result<Hash, Error> {
        tlog::root(self.size()?, self).map_err(tree_error)
    }

    /// Stores the signed checkpoint of the first `size` entries.
    pub fn put_checkpoint(&mut self, size: u64, note: &str) -> Result<(), Error> {
        self.transaction
            .open_table(CHECKPOINTS)?
            .insert(size, note.as_bytes())?;
        Ok(())
    }

    /// Stores a blob under its digest.
    pub fn put_blob(&mut self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        self.transaction.open_table(BLOBS)?.insert(&digest.0[..], bytes)?;
        Ok(digest)
    }

    /// Keeps a blob no longer. What its bytes were stays in freed pages until they are used again.
    pub fn remove_blob(&mut self, digest: &Digest) -> Result<(), Error> {
        self.transaction.open_table(BLOBS)?.remove(&digest.0[..])?;
        Ok(())
    }

    /// Stores a sealed secret.
    pub fn put_secret(&mut self, name: &str, sealed: &[u8]) -> Result<(), Error> {
        self.transaction.open_table(SECRETS)?.insert(name, sealed)?;
        Ok(())
    }

    /// Moves a follower's cursor.
    pub fn put_cursor(&mut self, follower: &str, next: u64) -> Result<(), Error> {
        self.transaction.open_table(CURSORS)?.insert(follower, next)?;
        Ok(())
    }

    pub(super) fn put_meta(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.transaction.open_table(META)?.insert(key, value)?;
        Ok(())
    }

    /// The first start after a restore has done what it must.
    pub fn forget_restore(&self) -> Result<(), Error> {
        self.transaction
            .open_table(META)?
            .remove(crate::store::backup::RESTORED)?;
        Ok(())
    }

    /// Makes every table, so that readers never meet a missing one.
    pub(super) fn create_tables(&self) -> Result<(), Error> {
        self.transaction.open_table(JOURNAL)?;
        self.transaction.open_table(TREE)?;
        self.transaction.open_table(CHECKPOINTS)?;
        self.transaction.open_table(BLOBS)?;
        self.transaction.open_table(SECRETS)?;
        self.transaction.open_table(CURSORS)?;
        for table in Table::ALL {
            self.transaction.open_table(projection(*table))?;
        }
        Ok(())
    }

    /// Empties every projection, for a rebuild from the journal.
    pub fn drop_projections(&mut self) -> Result<(), Error> {
        for table in Table::ALL {
            self.transaction.delete_table(projection(*table))?;
            self.transaction.open_table(projection(*table))?;
        }
        Ok(())
    }

    /// The exact bytes of an entry.
    pub fn leaf(&self, seq: u64) -> Result<Option<Vec<u8>>, Error> {
        Ok(self
            .transaction
            .open_table(JOURNAL)?
            .get(seq)?
            .map(|it| it.value().to_vec()))
    }
}

impl Nodes for Transaction {
    type Error = Error;

    fn node(&self, id: NodeId) -> Result<Option<Hash>, Error> {
        let table = self.transaction.open_table(TREE)?;
        let node = table.get(&node_key(id)[..])?;
        node.map(|it| hash(it.value())).transpose()
    }
}

impl Read for Transaction {
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

impl Write for Transaction {
    fn put_raw(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let mut table = self
            .transaction
            .open_table(projection(table))
            .map_err(Error::from)?;
        table.insert(key, value).map_err(Error::from)?;
        Ok(())
    }

    fn delete_raw(&mut self, table: Table, key: &[u8]) -> Result<(), Fault> {
        let mut table = self
            .transaction
            .open_table(projection(table))
            .map_err(Error::from)?;
        table.remove(key).map_err(Error::from)?;
        Ok(())
    }
}
