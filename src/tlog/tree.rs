//! The Merkle tree of RFC 6962, kept as the hashes of its perfect subtrees, which never change once written; its
//! proofs, and their verification after RFC 9162. It reads nodes through a trait and never keeps any itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;

use crate::tlog::hash::{Hash, empty_root, node_hash};

/// The place of a perfect subtree: the one over leaves `index << level` up to `(index + 1) << level`, exclusive.
/// Level 0 is the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Height of the subtree: it has `1 << level` leaves. At most 63.
    pub level: u8,
    /// Position among the subtrees of that height, from the left, 0-based.
    pub index: u64,
}

/// Where nodes are read from.
pub trait Nodes {
    /// What goes wrong when reading.
    type Error: Error + 'static;

    /// The node's hash; `None` if it is not there, which includes subtrees that are not full yet.
    fn node(&self, id: NodeId) -> Result<Option<Hash>, Self::Error>;
}

/// Why something could not be computed from stored nodes.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E: Error + 'static> {
    /// A node that a tree of the given size has is not in the storage.
    #[error("node {} of level {} is missing", .0.index, .0.level)]
    Missing(NodeId),
    /// The index or size asked for is not within the tree.
    #[error("{asked} is not within a tree of size {size}")]
    OutOfRange {
        /// The leaf index or tree size asked for.
        asked: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The tree can have no more leaves.
    #[error("the tree is full")]
    Full,
    /// The nodes could not be read.
    #[error("the tree's nodes cannot be read")]
    Nodes(#[source] E),
}

/// Why a proof does not show what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The index is not below the size, or the old size is above the new one.
    #[error("the index or size is not within the tree")]
    OutOfRange,
    /// The proof has more or fewer hashes than its index and sizes ask for.
    #[error("the proof has a wrong number of hashes")]
    Length,
    /// The proof leads to another root of the old tree.
    #[error("the proof leads to another root of the older tree")]
    OldRoot,
    /// The proof leads to another root.
    #[error("the proof leads to another root")]
    Root,
    /// The leaves handed over are not as many as the sizes say, or do not lead to the root.
    #[error("the leaves are not those between the two trees")]
    Leaves,
}

/// The nodes that come into being when a leaf is appended to a tree of `size` leaves: the leaf itself first, then
/// every perfect subtree it completes, from the bottom up.
///
/// All nodes of the tree so far must be readable. For several leaves in a row use [`Batch`], or write each result
/// before the next call.
pub fn append<N: Nodes>(
    size: u64,
    leaf_hash: Hash,
    nodes: &N,
) -> Result<Vec<(NodeId, Hash)>, TreeError<N::Error>> {
    if size == u64::MAX {
        return Err(TreeError::Full);
    }
    let mut id = NodeId {
        level: 0,
        index: size,
    };
    let mut hash = leaf_hash;
    let mut made = vec![(id, hash)];
    while id.index % 2 == 1 {
        let left = stored(
            NodeId {
                level: id.level,
                index: id.index - 1,
            },
            nodes,
        )?;
        hash = node_hash(&left, &hash);
        id = NodeId {
            level: id.level + 1,
            index: id.index / 2,
        };
        made.push((id, hash));
    }
    Ok(made)
}

/// The root of the tree of the first `size` leaves (RFC 6962 section 2.1).
pub fn root<N: Nodes>(size: u64, nodes: &N) -> Result<Hash, TreeError<N::Error>> {
    if size == 0 {
        Ok(empty_root())
    } else {
        range_hash(0, size, nodes)
    }
}

/// The audit path of leaf `index` in the tree of the first `size` leaves, the leaf's sibling first
/// (RFC 6962 section 2.1.1).
pub fn inclusion_proof<N: Nodes>(index: u64, size: u64, nodes: &N) -> Result<Vec<Hash>, TreeError<N::Error>> {
    if index >= size {
        return Err(TreeError::OutOfRange { asked: index, size });
    }
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range_hash(middle, to, nodes)?);
            to = middle;
        } else {
            path.push(range_hash(from, middle, nodes)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `new` leaves begins with the tree of `old` leaves (RFC 6962 section 2.1.2).
/// Empty when `old` is 0 or equals `new`: nothing but the two roots is needed then.
pub fn consistency_proof<N: Nodes>(old: u64, new: u64, nodes: &N) -> Result<Vec<Hash>, TreeError<N::Error>> {
    if old > new {
        return Err(TreeError::OutOfRange {
            asked: old,
            size: new,
        });
    }
    consistency_ranges(old, new)
        .into_iter()
        .map(|(from, to)| range_hash(from, to, nodes))
        .collect()
}

/// Checks that the leaf with this hash is number `index` in the tree (RFC 9162 section 2.1.3.2).
///
/// The size only tells the shape of the path: `size` and `root` belong together and must both come from one
/// checkpoint that was verified.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), VerifyError> {
    if index >= size {
        return Err(VerifyError::OutOfRange);
    }
    // `at` and `last` are the `fn` and `sn` of the RFC: this node and the last one of its level.
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf_hash;
    for sibling in proof {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if at % 2 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at % 2 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if hash == *root {
        Ok(())
    } else {
        Err(VerifyError::Root)
    }
}

/// Checks that the tree of `new` leaves begins with the tree of `old` leaves (RFC 9162 section 2.1.4.2).
///
/// RFC 9162 leaves two cases out: from the empty tree every tree follows, and a tree follows from itself. Both ask
/// for an empty proof. Each size belongs with its root, see [`verify_inclusion`].
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), VerifyError> {
    if old > new {
        return Err(VerifyError::OutOfRange);
    }
    if old == 0 || old == new {
        if old == 0 && *old_root != empty_root() {
            return Err(VerifyError::OldRoot);
        }
        if old == new && old_root != new_root {
            return Err(VerifyError::Root);
        }
        return if proof.is_empty() {
            Ok(())
        } else {
            Err(VerifyError::Length)
        };
    }
    // An old tree that is perfect is itself the first node, and is left out of the proof.
    let mut path = old.is_power_of_two().then_some(old_root).into_iter().chain(proof);
    let (mut at, mut last) = (old - 1, new - 1);
    while at % 2 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let first = path.next().ok_or(VerifyError::Length)?;
    let (mut old_hash, mut new_hash) = (*first, *first);
    for node in path {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if at % 2 == 1 || at == last {
            old_hash = node_hash(node, &old_hash);
            new_hash = node_hash(node, &new_hash);
            while at % 2 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, node);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if old_hash != *old_root {
        return Err(VerifyError::OldRoot);
    }
    if new_hash == *new_root {
        Ok(())
    } else {
        Err(VerifyError::Root)
    }
}

/// Checks that the leaves with these hashes, in order, are all that lies between two trees: none is left out, added,
/// changed or moved. Needs no node but those in the consistency proof, and memory for one path only.
pub fn verify_extension(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
    leaf_hashes: impl IntoIterator<Item = Hash>,
) -> Result<(), VerifyError> {
    let mut extension = Extension::begin(old, old_root, new, new_root, proof)?;
    for leaf_hash in leaf_hashes {
        extension.append(leaf_hash)?;
    }
    extension.finish()
}

/// [`verify_extension`] one leaf after the other, for readers that do something else with each leaf besides.
#[derive(Clone, Debug)]
pub struct Extension {
    /// `None` where both trees are the same one, and nothing may come.
    frontier: Option<Frontier>,
    new: u64,
    new_root: Hash,
}

impl Extension {
    /// Checks that the new tree begins with the old one, and gets ready for the leaves between them.
    pub fn begin(
        old: u64,
        old_root: &Hash,
        new: u64,
        new_root: &Hash,
        proof: &[Hash],
    ) -> Result<Self, VerifyError> {
        verify_consistency(old, old_root, new, new_root, proof)?;
        let frontier = if old == 0 {
            Some(Frontier::new())
        } else if old.is_power_of_two() {
            Some(Frontier {
                size: old,
                peaks: vec![*old_root],
            })
        } else if old == new {
            // The proof is empty, so that there is nothing to build on; but neither may there be any leaf.
            None
        } else {
            // Every range of the proof is wholly old or wholly new, and the old ones are the old tree's peaks. The
            // proof runs from the smallest, rightmost peak to the left.
            let ranges = consistency_ranges(old, new);
            let mut peaks: Vec<Hash> = ranges
                .iter()
                .zip(proof)
                .filter(|((_, to), _)| *to <= old)
                .map(|(_, hash)| *hash)
                .collect();
            peaks.reverse();
            Some(Frontier { size: old, peaks })
        };
        Ok(Extension {
            frontier,
            new,
            new_root: *new_root,
        })
    }

    /// The next leaf.
    pub fn append(&mut self, leaf_hash: Hash) -> Result<(), VerifyError> {
        match &mut self.frontier {
            Some(frontier) if frontier.size < self.new => {
                frontier.append(leaf_hash);
                Ok(())
            }
            _ => Err(VerifyError::Leaves),
        }
    }

    /// There are no more leaves: they must have been all of them, and the right ones.
    pub fn finish(self) -> Result<(), VerifyError> {
        match self.frontier {
            None => Ok(()),
            Some(it) if it.size == self.new && it.root() == self.new_root => Ok(()),
            Some(_) => Err(VerifyError::Leaves),
        }
    }
}

/// Leaves appended on top of stored nodes but not written yet: its nodes are readable like the stored ones.
#[derive(Debug)]
pub struct Batch<'n, N: Nodes> {
    stored: &'n N,
    size: u64,
    made: BTreeMap<NodeId, Hash>,
}

impl<'n, N: Nodes> Batch<'n, N> {
    /// Begins a batch after the `size` leaves whose nodes are stored.
    pub fn new(size: u64, stored: &'n N) -> Self {
        Self {
            stored,
            size,
            made: BTreeMap::new(),
        }
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf_hash: Hash) -> Result<(), TreeError<N::Error>> {
        let made = append(self.size, leaf_hash, self)?;
        self.made.extend(made);
        self.size += 1;
        Ok(())
    }

    /// The number of leaves, those of the batch included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree, the batch included.
    pub fn root(&self) -> Result<Hash, TreeError<N::Error>> {
        root(self.size, self)
    }

    /// The new nodes, to be written.
    pub fn into_made(self) -> BTreeMap<NodeId, Hash> {
        self.made
    }
}

impl<N: Nodes> Nodes for Batch<'_, N> {
    type Error = N::Error;

    fn node(&self, id: NodeId) -> Result<Option<Hash>, N::Error> {
        match self.made.get(&id) {
            Some(hash) => Ok(Some(*hash)),
            None => self.stored.node(id),
        }
    }
}

/// The right edge of a tree, enough to go on appending and to tell the root: for readers of a whole journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Hashes of the perfect subtrees the tree consists of, the largest first: one for each one-bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf_hash: Hash) {
        let mut hash = leaf_hash;
        for _ in 0..self.size.trailing_ones() {
            let left = self
                .peaks
                .pop()
                .expect("a peak stands for each one-bit of the size");
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => empty_root(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// Nodes in memory: for verifiers and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryNodes(BTreeMap<NodeId, Hash>);

impl MemoryNodes {
    /// No nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The nodes of the tree over leaves with these hashes.
    pub fn from_leaf_hashes(leaf_hashes: impl IntoIterator<Item = Hash>) -> Self {
        let mut nodes = Self::new();
        for (size, leaf_hash) in (0..).zip(leaf_hashes) {
            let made = append(size, leaf_hash, &nodes).expect("every earlier node was just inserted");
            nodes.0.extend(made);
        }
        nodes
    }

    /// Puts a node in place.
    pub fn insert(&mut self, id: NodeId, hash: Hash) {
        self.0.insert(id, hash);
    }

    /// Takes a node away.
    pub fn remove(&mut self, id: NodeId) -> Option<Hash> {
        self.0.remove(&id)
    }

    /// All nodes, by level and index.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Hash)> + '_ {
        self.0.iter().map(|(id, hash)| (*id, *hash))
    }
}

impl Nodes for MemoryNodes {
    type Error = Infallible;

    fn node(&self, id: NodeId) -> Result<Option<Hash>, Infallible> {
        Ok(self.0.get(&id).copied())
    }
}

/// The largest power of two below `size`, which must be at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The node, which has to be there.
pub(crate) fn stored<N: Nodes>(id: NodeId, nodes: &N) -> Result<Hash, TreeError<N::Error>> {
    nodes
        .node(id)
        .map_err(TreeError::Nodes)?
        .ok_or(TreeError::Missing(id))
}

/// The tree hash of the leaves from `from` up to `to`, exclusive. The range is not empty, and its start is a multiple
/// of the power of two that its length rounds up to, as in every range RFC 6962 speaks of.
fn range_hash<N: Nodes>(from: u64, to: u64, nodes: &N) -> Result<Hash, TreeError<N::Error>> {
    let mut peaks = Vec::new();
    let mut at = from;
    while at < to {
        let level = (to - at).ilog2();
        let id = NodeId {
            level: u8::try_from(level).expect("a logarithm of 64 bits is below 64"),
            index: at >> level,
        };
        peaks.push(stored(id, nodes)?);
        at += 1 << level;
    }
    let mut hash = peaks.pop().expect("the range is not empty");
    while let Some(left) = peaks.pop() {
        hash = node_hash(&left, &hash);
    }
    Ok(hash)
}

/// The ranges of leaves whose hashes are the consistency proof, in its order (RFC 6962 section 2.1.2, SUBPROOF).
fn consistency_ranges(old: u64, new: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    if old == 0 {
        return ranges;
    }
    let (mut from, mut to) = (0, new);
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    // A range that still starts at 0 is the old tree itself, whose root the verifier has.
    if from != 0 {
        ranges.push((from, to));
    }
    ranges.reverse();
    ranges
}
