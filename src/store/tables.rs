//! The tables and the form of their keys. Values are our own bytes everywhere: redb's typed encodings may change.

use crate::domain::state::Table;
use crate::tlog::NodeId;
use redb::TableDefinition;

/// Identity of the database: `instance`, `schema`.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Position → exact leaf bytes.
pub(super) const JOURNAL: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");
/// Level and index → hash of a perfect subtree.
pub(super) const TREE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("tree");
/// Tree size → signed checkpoint.
pub(super) const CHECKPOINTS: TableDefinition<u64, &[u8]> = TableDefinition::new("checkpoints");
/// SHA-256 → bytes.
pub(super) const BLOBS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("blobs");
/// Name → sealed bytes.
pub(super) const SECRETS: TableDefinition<&str, &[u8]> = TableDefinition::new("secrets");
/// Follower → next journal position.
pub(super) const CURSORS: TableDefinition<&str, u64> = TableDefinition::new("cursors");

/// The table of one projection.
pub(super) fn projection(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

/// Key of a tree node: level, then index big-endian.
pub(super) fn node_key(id: NodeId) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = id.level;
    key[1..].copy_from_slice(&id.index.to_be_bytes());
    key
}
