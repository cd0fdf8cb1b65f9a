//! The log's mathematics against two independent implementations: `tlog_tiles` (a port of Go's sumdb/tlog) and
//! `ct-merkle`. What we make they must accept, what they make we must make too, byte for byte.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use signedapproval::tlog::checkpoint::Checkpoint;
use signedapproval::tlog::hash::{Hash, leaf_hash};
use signedapproval::tlog::tile::{Tile, TileKind, tile_data};
use signedapproval::tlog::tree::{
    Batch, MemoryNodes, consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion,
};
use tlog_tiles::HashReader;

/// Past two full tiles, so that there are full and partial ones on two levels but a debug build stays quick.
const SIZE: u64 = 600;

/// Sizes around every power of two, and some without a pattern.
const SIZES: [u64; 22] = [
    1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100, 127, 128, 129, 255, 256, 257, 343, 511, 513, SIZE,
];

fn leaf(index: u64) -> Vec<u8> {
    format!(r#"{{"v":1,"seq":{index}}}"#).into_bytes()
}

/// All our nodes, made in batches of odd sizes as a writer would.
fn ours() -> MemoryNodes {
    let mut nodes = MemoryNodes::new();
    let mut size = 0;
    for step in [1, 2, 5, 64, 13].into_iter().cycle() {
        let mut batch = Batch::new(size, &nodes);
        for index in (size..SIZE).take(step) {
            batch.append(leaf_hash(&leaf(index))).unwrap();
        }
        size = batch.size();
        for (id, hash) in batch.into_made() {
            nodes.insert(id, hash);
        }
        if size == SIZE {
            break;
        }
    }
    nodes
}

/// The peer's store: every hash at the place its own numbering gives.
struct Theirs(Vec<tlog_tiles::Hash>);

impl Theirs {
    fn new() -> Self {
        let mut store = Self(Vec::new());
        for index in 0..SIZE {
            let made = tlog_tiles::stored_hashes(index, &leaf(index), &store).unwrap();
            store.0.extend(made);
        }
        store
    }
}

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        indexes
            .iter()
            .map(|idx| {
                self.0
                    .get(*idx as usize)
                    .copied()
                    .ok_or(tlog_tiles::Error::IndexesNotInTree)
            })
            .collect()
    }
}

fn to_ours(hashes: Vec<tlog_tiles::Hash>) -> Vec<Hash> {
    hashes.into_iter().map(|hash| Hash(hash.0)).collect()
}

fn to_theirs(hashes: &[Hash]) -> Vec<tlog_tiles::Hash> {
    hashes.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect()
}

fn concat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn every_node_and_root_is_the_one_tlog_tiles_makes() {
    let (nodes, peer) = (ours(), Theirs::new());
    let mut count = 0;
    for (id, hash) in nodes.iter() {
        let place = tlog_tiles::stored_hash_index(id.level, id.index);
        assert_eq!(hash.0, peer.0[place as usize].0, "{id:?}");
        count += 1;
    }
    assert_eq!(count, peer.0.len());
    for size in 0..=SIZE {
        assert_eq!(
            root(size, &nodes).unwrap().0,
            tlog_tiles::tree_hash(size, &peer).unwrap().0,
            "{size}"
        );
    }
}

#[test]
fn inclusion_proofs_are_those_of_both_peers() {
    let (nodes, peer) = (ours(), Theirs::new());
    let mut peer_tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=SIZE {
        peer_tree.push(leaf(size - 1));
        if !SIZES.contains(&size) {
            continue;
        }
        let top = root(size, &nodes).unwrap();
        assert_eq!(peer_tree.root().as_bytes().as_slice(), top.0);
        for index in 0..size {
            let proof = inclusion_proof(index, size, &nodes).unwrap();
            assert_eq!(
                to_ours(tlog_tiles::prove_record(size, index, &peer).unwrap()),
                proof
            );
            assert_eq!(
                peer_tree.prove_inclusion(index as usize).as_bytes(),
                concat(&proof)
            );
            // Each verifies what the other made.
            let leaf_hash = leaf_hash(&leaf(index));
            verify_inclusion(&leaf_hash, index, size, &proof, &top).unwrap();
            let theirs = to_theirs(&proof);
            let (peer_top, peer_leaf) = (tlog_tiles::Hash(top.0), tlog_tiles::Hash(leaf_hash.0));
            tlog_tiles::check_record(&theirs, size, peer_top, index, peer_leaf).unwrap();
            let moved = (index + 1) % size;
            if moved != index {
                assert!(verify_inclusion(&leaf_hash, moved, size, &proof, &top).is_err());
                assert!(tlog_tiles::check_record(&theirs, size, peer_top, moved, peer_leaf).is_err());
            }
        }
    }
}

#[test]
fn consistency_proofs_are_those_of_both_peers() {
    let (nodes, peer) = (ours(), Theirs::new());
    let mut peer_tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for new in 1..=SIZE {
        peer_tree.push(leaf(new - 1));
        if !SIZES.contains(&new) {
            continue;
        }
        let new_root = root(new, &nodes).unwrap();
        for old in 1..=new {
            let old_root = root(old, &nodes).unwrap();
            let proof = consistency_proof(old, new, &nodes).unwrap();
            assert_eq!(to_ours(tlog_tiles::prove_tree(new, old, &peer).unwrap()), proof);
            assert_eq!(
                peer_tree.prove_consistency((new - old) as usize).as_bytes(),
                concat(&proof)
            );
            verify_consistency(old, &old_root, new, &new_root, &proof).unwrap();
            let (peer_new, peer_old) = (tlog_tiles::Hash(new_root.0), tlog_tiles::Hash(old_root.0));
            tlog_tiles::check_tree(&to_theirs(&proof), new, peer_new, old, peer_old).unwrap();
        }
    }
}

#[test]
fn damaged_proofs_are_refused_by_both_or_by_none() {
    let (nodes, peer) = (ours(), Theirs::new());
    let at = |size: u64| Hash(tlog_tiles::tree_hash(size, &peer).unwrap().0);
    for new in 1..20 {
        for old in 1..=new {
            let proof = consistency_proof(old, new, &nodes).unwrap();
            for other_new in 1..24 {
                for other_old in 1..=other_new {
                    let (new_root, old_root) = (at(other_new), at(other_old));
                    let we = verify_consistency(other_old, &old_root, other_new, &new_root, &proof).is_ok();
                    let they = tlog_tiles::check_tree(
                        &to_theirs(&proof),
                        other_new,
                        tlog_tiles::Hash(new_root.0),
                        other_old,
                        tlog_tiles::Hash(old_root.0),
                    )
                    .is_ok();
                    assert_eq!(we, they, "{old} to {new} as {other_old} to {other_new}");
                }
            }
        }
    }
}

#[test]
fn tiles_are_those_of_tlog_tiles() {
    let (nodes, peer) = (ours(), Theirs::new());
    let mut hash_tiles = 0;
    for tile in Tile::of_tree(SIZE) {
        let theirs = match tile.kind() {
            TileKind::Entries => tlog_tiles::Tile::new(8, 0, tile.index(), tile.width().into(), true),
            TileKind::Hashes(level) => {
                tlog_tiles::Tile::new(8, level, tile.index(), tile.width().into(), false)
            }
        };
        // Go's checksum database names the height too, and calls entries data.
        let path = theirs
            .path()
            .replacen("tile/8/", "tile/", 1)
            .replacen("/data/", "/entries/", 1);
        assert_eq!(tile.to_string(), path);
        if let TileKind::Hashes(level) = tile.kind() {
            let data = tile_data(level, tile.index(), tile.width(), &nodes).unwrap();
            assert_eq!(data, theirs.read_data(&peer).unwrap());
            hash_tiles += 1;
        }
    }
    assert_eq!(hash_tiles, tlog_tiles::Tile::new_tiles(8, 0, SIZE).len());
    for index in [0, 999, 1000, 1_234_067, 999_999_999_999] {
        let path = Tile::new(TileKind::Hashes(3), index, 256).unwrap().to_string();
        let theirs = tlog_tiles::Tile::from_path(&path.replacen("tile/", "tile/8/", 1)).unwrap();
        assert_eq!(
            (theirs.level(), theirs.level_index(), theirs.width()),
            (3, index, 256)
        );
    }
}

#[test]
fn checkpoint_bodies_are_those_of_tlog_tiles() {
    let nodes = ours();
    for size in 0..=SIZE {
        let top = root(size, &nodes).unwrap();
        let body = Checkpoint::new("log.example/log/0a1b2c3d/1", size, top)
            .unwrap()
            .body();
        let theirs = tlog_tiles::Checkpoint::from_bytes(body.as_bytes()).unwrap();
        assert_eq!(
            (theirs.origin(), theirs.size()),
            ("log.example/log/0a1b2c3d/1", size)
        );
        assert_eq!(theirs.hash().0, top.0);
        assert_eq!(theirs.to_bytes(), body.into_bytes());
    }
}
