//! The transparency log's mathematics and texts: RFC 6962 hashes, the tree and its proofs, signed notes,
//! checkpoints, tlog-proofs and tiles (C2SP). It never signs, stores or fetches anything.

pub mod checkpoint;
pub mod hash;
pub mod note;
pub mod proof;
pub mod tile;
pub mod tree;

#[cfg(test)]
mod tests;

pub use crate::tlog::checkpoint::{Checkpoint, CheckpointError};
pub use crate::tlog::hash::{Hash, empty_root, leaf_hash, node_hash};
pub use crate::tlog::note::{Note, NoteError, VerifierKey};
pub use crate::tlog::proof::{Proof, ProofError};
pub use crate::tlog::tile::{Tile, TileError, TileKind};
pub use crate::tlog::tree::{
    Batch, Extension, Frontier, MemoryNodes, NodeId, Nodes, TreeError, VerifyError, append,
    consistency_proof, inclusion_proof, root, verify_consistency, verify_extension, verify_inclusion,
};
