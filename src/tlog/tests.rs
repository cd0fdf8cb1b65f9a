//! What must hold of hashes, trees, notes, checkpoints, proofs and tiles. Vectors of others come first, then
//! properties over random trees, then damage done to texts.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use crate::tlog::checkpoint::{Checkpoint, CheckpointError};
use crate::tlog::hash::{Hash, empty_root, leaf_hash, node_hash};
use crate::tlog::note::{self, Note, NoteError, SIGNATURES_MAX, VerifierKey};
use crate::tlog::proof::{Proof, ProofError};
use crate::tlog::tile::{self, ENTRY_BYTES_MAX, Tile, TileDataError, TileError, TileKind};
use crate::tlog::tree::{
    Batch, Frontier, MemoryNodes, NodeId, Nodes, TreeError, VerifyError, append, consistency_proof,
    inclusion_proof, root, verify_consistency, verify_extension, verify_inclusion,
};

const ORIGIN: &str = "approvals.example:8443/log/0a1b2c3d/1";

/// The eight leaves every RFC 6962 implementation is tried with.
const CLASSIC_LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

/// Their roots, from the tree of one leaf to that of eight.
const CLASSIC_ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hex(text: &str) -> Hash {
    Hash::from_hex(text).unwrap()
}

/// The tree over leaves `0`, `1`, …: as text, so that all differ.
fn leaves(size: u64) -> impl Iterator<Item = Hash> + Clone {
    (0..size).map(|index| leaf_hash(index.to_string().as_bytes()))
}

fn tree(size: u64) -> MemoryNodes {
    MemoryNodes::from_leaf_hashes(leaves(size))
}

fn log_key(origin: &str, seed: u8) -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[seed; 32]);
    let verifier = VerifierKey::new(origin, signing.verifying_key().to_bytes()).unwrap();
    (signing, verifier)
}

fn signed(checkpoint: &Checkpoint, seed: u8) -> String {
    let (signing, verifier) = log_key(checkpoint.origin(), seed);
    checkpoint
        .assemble(
            *verifier.key(),
            &signing.sign(checkpoint.body().as_bytes()).to_bytes(),
        )
        .unwrap()
}

/// A proof of one leaf of `tree(size)`, under the key of seed 7.
fn proof_of(index: u64, size: u64) -> String {
    let nodes = tree(size);
    let checkpoint = Checkpoint::new(ORIGIN, size, root(size, &nodes).unwrap()).unwrap();
    let hashes = inclusion_proof(index, size, &nodes).unwrap();
    Proof::new(index, hashes, &signed(&checkpoint, 7))
        .unwrap()
        .encode()
}

/// Whether a text is a proof of the leaf, told by the way a verifier goes.
fn proves(text: &[u8], leaf: &[u8], keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
    Proof::parse(text)?.verify(leaf, keys)
}

#[test]
fn roots_are_those_of_the_classic_tree() {
    let nodes = MemoryNodes::from_leaf_hashes(CLASSIC_LEAVES.map(leaf_hash));
    let mut frontier = Frontier::new();
    assert_eq!(root(0, &nodes).unwrap(), empty_root());
    assert_eq!(frontier.root(), empty_root());
    assert_eq!(
        empty_root().to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (idx, wanted) in CLASSIC_ROOTS.iter().enumerate() {
        frontier.append(leaf_hash(CLASSIC_LEAVES[idx]));
        assert_eq!(root(idx as u64 + 1, &nodes).unwrap(), hex(wanted));
        assert_eq!(frontier.root(), hex(wanted));
    }
}

#[test]
fn proofs_are_those_of_the_classic_tree() {
    let nodes = MemoryNodes::from_leaf_hashes(CLASSIC_LEAVES.map(leaf_hash));
    let l2 = hex("96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7");
    let n34 = hex("5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e");
    let n5678 = hex("6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4");
    assert_eq!(inclusion_proof(0, 8, &nodes).unwrap(), [l2, n34, n5678]);
    assert_eq!(consistency_proof(1, 8, &nodes).unwrap(), [l2, n34, n5678]);
    let six_to_eight = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(consistency_proof(6, 8, &nodes).unwrap(), six_to_eight.map(hex));
    let two_to_five = [
        n34,
        hex("bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"),
    ];
    assert_eq!(consistency_proof(2, 5, &nodes).unwrap(), two_to_five);
}

#[test]
fn every_small_inclusion_proof_holds_for_its_place_only() {
    for size in 1..=33 {
        let nodes = tree(size);
        let roots: Vec<Hash> = (0..=size + 9).map(|it| root(it, &tree(it)).unwrap()).collect();
        for (index, leaf) in leaves(size).enumerate() {
            let proof = inclusion_proof(index as u64, size, &nodes).unwrap();
            for (other_size, other_root) in roots.iter().enumerate() {
                for other_index in 0..size + 9 {
                    let here = other_size as u64 == size && other_index == index as u64;
                    let holds =
                        verify_inclusion(&leaf, other_index, other_size as u64, &proof, other_root).is_ok();
                    assert_eq!(holds, here, "{index} of {size} as {other_index} of {other_size}");
                }
            }
        }
    }
}

#[test]
fn every_small_consistency_proof_holds_for_its_sizes_only() {
    let nodes = tree(24);
    let roots: Vec<Hash> = (0..=24).map(|it| root(it, &nodes).unwrap()).collect();
    let at = |size: u64| &roots[size as usize];
    for new in 0..=16 {
        for old in 0..=new {
            let proof = consistency_proof(old, new, &nodes).unwrap();
            for other_new in 0..=24 {
                for other_old in 0..=24 {
                    let here = (other_old, other_new) == (old, new);
                    // Nothing needs to be shown where the proof is empty: those cases hold among themselves.
                    let trivial = |old: u64, new: u64| old == 0 || old == new;
                    let both_trivial =
                        trivial(old, new) && trivial(other_old, other_new) && other_old <= other_new;
                    let holds =
                        verify_consistency(other_old, at(other_old), other_new, at(other_new), &proof)
                            .is_ok();
                    assert_eq!(
                        holds,
                        here || both_trivial,
                        "{old} to {new} as {other_old} to {other_new}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_empty_tree_and_the_same_tree_need_no_proof_but_the_right_roots() {
    let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
    assert_eq!(verify_consistency(0, &empty_root(), 5, &a, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &a, 5, &a, &[]), Err(VerifyError::OldRoot));
    assert_eq!(
        verify_consistency(0, &empty_root(), 0, &a, &[]),
        Err(VerifyError::Root)
    );
    assert_eq!(
        verify_consistency(0, &empty_root(), 5, &a, &[b]),
        Err(VerifyError::Length)
    );
    assert_eq!(verify_consistency(5, &a, 5, &a, &[]), Ok(()));
    assert_eq!(verify_consistency(5, &a, 5, &b, &[]), Err(VerifyError::Root));
    assert_eq!(verify_consistency(5, &a, 5, &a, &[b]), Err(VerifyError::Length));
    assert_eq!(
        verify_consistency(6, &a, 5, &a, &[]),
        Err(VerifyError::OutOfRange)
    );
    assert_eq!(verify_consistency(3, &a, 5, &b, &[]), Err(VerifyError::Length));
    // A root under a larger size than its own: the path is right, and too short for that size.
    let (two, three) = (node_hash(&a, &b), node_hash(&node_hash(&a, &b), &a));
    assert_eq!(verify_consistency(1, &a, 2, &two, &[b]), Ok(()));
    assert_eq!(verify_consistency(1, &a, 3, &two, &[b]), Err(VerifyError::Length));
    assert_eq!(verify_consistency(2, &two, 3, &three, &[a]), Ok(()));
    assert_eq!(
        verify_consistency(2, &two, 5, &three, &[a]),
        Err(VerifyError::Length)
    );
    assert_eq!(verify_inclusion(&a, 0, 3, &[b], &two), Err(VerifyError::Length));
    assert_eq!(verify_inclusion(&a, 0, 0, &[], &a), Err(VerifyError::OutOfRange));
    assert_eq!(verify_inclusion(&a, 0, 1, &[], &a), Ok(()));
}

#[test]
fn a_missing_node_is_named_and_a_wrong_place_refused() {
    let mut nodes = tree(8);
    let gone = NodeId { level: 1, index: 2 };
    nodes.remove(gone).unwrap();
    assert!(root(8, &nodes).is_ok());
    assert!(matches!(root(6, &nodes), Err(TreeError::Missing(id)) if id == gone));
    assert!(matches!(inclusion_proof(7, 8, &nodes), Err(TreeError::Missing(id)) if id == gone));
    assert!(matches!(
        inclusion_proof(8, 8, &nodes),
        Err(TreeError::OutOfRange { asked: 8, size: 8 })
    ));
    assert!(matches!(
        consistency_proof(9, 8, &nodes),
        Err(TreeError::OutOfRange { asked: 9, size: 8 })
    ));
    // A tree longer than what is stored is not made up.
    assert!(matches!(
        root(9, &nodes),
        Err(TreeError::Missing(NodeId { level: 0, index: 8 }))
    ));
    assert!(matches!(
        append(15, leaf_hash(b""), &nodes),
        Err(TreeError::Missing(NodeId { level: 0, index: 14 }))
    ));
    assert!(matches!(
        append(u64::MAX, leaf_hash(b""), &nodes),
        Err(TreeError::Full)
    ));
}

#[test]
fn the_largest_trees_do_not_overflow() {
    /// Every node is there, and they are all alike.
    struct Endless;
    impl Nodes for Endless {
        type Error = std::convert::Infallible;
        fn node(&self, id: NodeId) -> Result<Option<Hash>, Self::Error> {
            assert!(id.level < 64 && u128::from(id.index) << id.level < 1 << 64);
            Ok(Some(empty_root()))
        }
    }
    for size in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) + 1] {
        let top = root(size, &Endless).unwrap();
        for index in [0, size / 2, size - 1] {
            let proof = inclusion_proof(index, size, &Endless).unwrap();
            assert!(proof.len() <= 64);
            // The nodes do not hash to one another, so that only the shape can be right.
            assert_ne!(
                verify_inclusion(&top, index, size, &proof, &top),
                Err(VerifyError::Length)
            );
        }
        let proof = consistency_proof(size - 3, size, &Endless).unwrap();
        let verified = verify_consistency(size - 3, &top, size, &top, &proof);
        assert_ne!(verified, Err(VerifyError::Length));
    }
    assert_eq!(append(u64::MAX - 1, empty_root(), &Endless).unwrap().len(), 1);
    assert_eq!(append((1 << 63) - 1, empty_root(), &Endless).unwrap().len(), 64);
}

#[test]
fn notes_of_others_verify() {
    // The specification's example, and the one of Go's golang.org/x/mod/sumdb/note.
    let c2sp = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let c2sp_key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let go = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let go_key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let keys = [c2sp_key, go_key].map(|vkey| VerifierKey::parse(vkey).unwrap());
    for (note, key) in [(c2sp, &keys[0]), (go, &keys[1])] {
        let parsed = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(parsed.verify(&keys).unwrap(), [key]);
        assert_eq!(parsed.encode(), note);
    }
    assert_eq!(keys.map(|key| key.vkey()), [c2sp_key, go_key]);
}

#[test]
fn verifier_keys_are_read_strictly() {
    let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    for (from, to, error) in [
        ("530d903a", "530d903b", NoteError::MalformedKey),
        ("530d903a", "530D903A", NoteError::MalformedKey),
        ("530d903a", "30d903a", NoteError::MalformedKey),
        ("foo", "bar", NoteError::MalformedKey),
        ("foo", "fo o", NoteError::BadName),
        ("example.com/foo", "", NoteError::BadName),
        ("+Aek", "+Bek", NoteError::MalformedKey),
        ("v3U2k", "v3U2l", NoteError::MalformedKey),
        ("v3U2k", "v3U2k=", NoteError::MalformedKey),
        ("v3U2k", "v3U2k\n", NoteError::MalformedKey),
        ("+530d903a", "", NoteError::MalformedKey),
    ] {
        assert_eq!(
            VerifierKey::parse(&vkey.replace(from, to)),
            Err(error),
            "{from} to {to}"
        );
    }
    // The neutral point: under it, one signature holds for every text.
    let mut weak = [0; 32];
    weak[0] = 1;
    assert_eq!(VerifierKey::new("example.com/foo", weak), Err(NoteError::BadKey));
    // No point of the curve has this coordinate.
    let mut off = [0; 32];
    off[0] = 2;
    assert_eq!(VerifierKey::new("example.com/foo", off), Err(NoteError::BadKey));
}

#[test]
fn notes_are_read_strictly() {
    let line = "\u{2014} a AAAAAAA=\n";
    let parse = |text: &str| Note::parse(text.as_bytes()).map(|note| note.text().to_owned());
    assert_eq!(parse(&format!("text\n\n{line}")), Ok("text\n".to_owned()));
    assert_eq!(
        parse(&format!("with\n\nempty\n\n\nlines\n\n{line}")),
        Ok("with\n\nempty\n\n\nlines\n".to_owned())
    );
    for (text, error) in [
        (String::new(), NoteError::NoSignatures),
        ("text\n".to_owned(), NoteError::NoSignatures),
        ("text\n\n".to_owned(), NoteError::NoSignatures),
        (format!("text\n{line}"), NoteError::NoSignatures),
        (format!("text\n\n{}", line.trim_end()), NoteError::NoSignatures),
        ("text\n\n\n".to_owned(), NoteError::NoSignatures),
        (format!("text\r\n\n{line}"), NoteError::NotText),
        (format!("te\0xt\n\n{line}"), NoteError::NotText),
        (format!("text\n\n{line}more\n"), NoteError::MalformedSignature(2)),
        (format!("text\n\n{line} "), NoteError::NoSignatures),
        (
            "text\n\n- a AAAAAAA=\n".to_owned(),
            NoteError::MalformedSignature(1),
        ),
        (
            "text\n\n\u{2014}  AAAAAAA=\n".to_owned(),
            NoteError::MalformedSignature(1),
        ),
        (
            "text\n\n\u{2014} a+b AAAAAAA=\n".to_owned(),
            NoteError::MalformedSignature(1),
        ),
        (
            "text\n\n\u{2014} a\u{a0}b AAAAAAA=\n".to_owned(),
            NoteError::MalformedSignature(1),
        ),
        (
            "text\n\n\u{2014} a AAAAAA==\n".to_owned(),
            NoteError::MalformedSignature(1),
        ),
        (
            "text\n\n\u{2014} a AAAAAAB=\n".to_owned(),
            NoteError::MalformedSignature(1),
        ),
        (
            "text\n\n\u{2014} a AAAAAAA\n".to_owned(),
            NoteError::MalformedSignature(1),
        ),
    ] {
        assert_eq!(parse(&text), Err(error), "{text:?}");
    }
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::NotText));
    assert!(parse(&format!("text\n\n{}", line.repeat(SIGNATURES_MAX))).is_ok());
    assert_eq!(
        parse(&format!("text\n\n{}", line.repeat(SIGNATURES_MAX + 1))),
        Err(NoteError::TooManySignatures)
    );
    let longest = note::NOTE_BYTES_MAX - 2 - line.len();
    assert!(parse(&format!("{}\n\n{line}", "x".repeat(longest))).is_ok());
    assert_eq!(
        parse(&format!("{}\n\n{line}", "x".repeat(longest + 1))),
        Err(NoteError::TooLong)
    );
}

#[test]
fn a_note_needs_one_known_signer_and_no_false_one() {
    let (first, first_key) = log_key("one.example", 1);
    let (second, second_key) = log_key("two.example", 2);
    let text = "hello\n";
    let line = |signing: &SigningKey, key: &VerifierKey, text: &str| {
        note::note_signature_line(key.name(), key.key(), &signing.sign(text.as_bytes()).to_bytes())
    };
    let (good, bad) = (
        line(&first, &first_key, text),
        line(&second, &second_key, "hullo\n"),
    );
    let note = Note::parse(format!("{text}\n{good}{bad}").as_bytes()).unwrap();
    let keys = [first_key.clone(), second_key.clone()];
    // Known to the verifier or not makes the difference for a false signature.
    assert_eq!(note.verify(&keys[..1]).unwrap(), [&first_key]);
    assert_eq!(note.verify(&keys), Err(NoteError::BadSignature));
    assert_eq!(note.verify(&[]), Err(NoteError::UnknownSigner));
    // The same key under another name is another key.
    let renamed = VerifierKey::new("other.example", *first_key.key()).unwrap();
    assert_eq!(note.verify(&[renamed]), Err(NoteError::UnknownSigner));
    // Listed twice it is still one signer.
    let twice = [first_key.clone(), first_key.clone()];
    assert_eq!(note.verify(&twice).unwrap(), [&first_key]);

    assert!(note::assemble(text, &first_key, &first.sign(text.as_bytes()).to_bytes()).is_ok());
    let refused = note::assemble(text, &first_key, &second.sign(text.as_bytes()).to_bytes());
    assert_eq!(refused, Err(NoteError::BadSignature));
    let unended = note::assemble("hello", &first_key, &first.sign(b"hello").to_bytes());
    assert_eq!(unended, Err(NoteError::BadText));
}

#[test]
fn a_signature_that_is_not_reduced_is_refused() {
    // Adding the group's order to S gives a second signature that lax verifiers take.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (signing, key) = log_key("one.example", 1);
    let mut signature = signing.sign(b"hello\n").to_bytes();
    assert!(note::assemble("hello\n", &key, &signature).is_ok());
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(
        note::assemble("hello\n", &key, &signature),
        Err(NoteError::BadSignature)
    );
}

#[test]
fn a_signature_with_a_point_of_small_order_is_refused() {
    // R is the neutral point, and S fits it: plain verification takes this one, strict verification does not.
    let mut signature = [0; 64];
    signature[0] = 1;
    let s = hex("4bd04b4a9350b51ba51bb20cf349133f9553802b5a74c508042a587c030dd80c");
    signature[32..].copy_from_slice(&s.0);
    let (signing, key) = log_key("one.example", 1);
    let plain = ed25519_dalek::Signature::from_bytes(&signature);
    assert!(ed25519_dalek::Verifier::verify(&signing.verifying_key(), b"hello\n", &plain).is_ok());
    assert_eq!(
        note::assemble("hello\n", &key, &signature),
        Err(NoteError::BadSignature)
    );
}

#[test]
fn two_keys_of_one_name_and_id_are_not_told_apart_by_luck() {
    // Found by trying: the ids of these two are equal.
    let [one, other] = [9861u32, 59832].map(|number| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        SigningKey::from_bytes(&seed)
    });
    let keys =
        [&one, &other].map(|key| VerifierKey::new("one.example", key.verifying_key().to_bytes()).unwrap());
    assert_eq!(keys[0].id(), keys[1].id());
    let text = note::assemble("hello\n", &keys[0], &one.sign(b"hello\n").to_bytes()).unwrap();
    let note = Note::parse(text.as_bytes()).unwrap();
    assert_eq!(note.verify(&keys), Err(NoteError::AmbiguousKey));
    assert!(note.verify(&keys[..1]).is_ok());
    assert_eq!(note.verify(&keys[1..]), Err(NoteError::BadSignature));
}

#[test]
fn checkpoints_are_read_strictly() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let body = format!("example.com/behind-the-sofa\n20852163\n{root}\n");
    let checkpoint = Checkpoint::parse_body(&body).unwrap();
    assert_eq!(
        (checkpoint.origin(), checkpoint.size()),
        ("example.com/behind-the-sofa", 20_852_163)
    );
    assert_eq!(checkpoint.root().base64(), root);
    assert_eq!(checkpoint.body(), body);
    assert_eq!(
        Checkpoint::parse_body(&format!("{body}an extension\n")),
        Ok(checkpoint)
    );
    for (text, error) in [
        (String::new(), CheckpointError::Malformed),
        (body.trim_end().to_owned(), CheckpointError::Malformed),
        (format!("{body}\n"), CheckpointError::Malformed),
        (format!("{body}\nx\n"), CheckpointError::Malformed),
        (body.replace("2085", "02085"), CheckpointError::Malformed),
        (body.replace("2085", "+2085"), CheckpointError::Malformed),
        (body.replace("2085", "-2085"), CheckpointError::Malformed),
        (body.replace("20852163", ""), CheckpointError::Malformed),
        (
            body.replace("20852163", "18446744073709551616"),
            CheckpointError::Malformed,
        ),
        (body.replace("20852163", "0"), CheckpointError::EmptyRoot),
        (body.replace("q2I=", "q2J="), CheckpointError::Malformed),
        (body.replace("q2I=", "q2I"), CheckpointError::Malformed),
        (body.replace("CsUY", ""), CheckpointError::Malformed),
        (body.replace("behind-", "behind "), CheckpointError::BadOrigin),
        (body.replace("behind-", "behind+"), CheckpointError::BadOrigin),
        (
            body.replace("example.com/behind-the-sofa", ""),
            CheckpointError::BadOrigin,
        ),
    ] {
        assert_eq!(Checkpoint::parse_body(&text), Err(error), "{text:?}");
    }
    assert_eq!(
        Checkpoint::new("a\nb", 1, empty_root()),
        Err(CheckpointError::BadOrigin)
    );
    let empty = Checkpoint::new("a", 0, empty_root()).unwrap();
    assert_eq!(Checkpoint::parse_body(&empty.body()), Ok(empty));
}

#[test]
fn a_checkpoint_counts_only_under_a_key_of_its_origin() {
    let checkpoint = Checkpoint::new(ORIGIN, 1, leaf_hash(b"")).unwrap();
    let text = signed(&checkpoint, 7);
    let (_, key) = log_key(ORIGIN, 7);
    let (_, rotated) = log_key(ORIGIN, 8);
    let keys = [rotated, key.clone()];
    assert_eq!(
        Checkpoint::open(text.as_bytes(), &keys),
        Ok((checkpoint.clone(), vec![&key]))
    );
    assert_eq!(
        Checkpoint::open(text.as_bytes(), &keys[..1]),
        Err(NoteError::UnknownSigner.into())
    );

    // A key that is trusted for one log may not speak for another.
    let (signing, stranger) = log_key("other.example/log", 7);
    let body = checkpoint.body();
    let crossed = note::assemble(&body, &stranger, &signing.sign(body.as_bytes()).to_bytes()).unwrap();
    let keys = [key, stranger];
    assert_eq!(
        Checkpoint::open(crossed.as_bytes(), &keys),
        Err(CheckpointError::OtherOrigin)
    );

    let wrong = checkpoint.assemble(*keys[0].key(), &[0; 64]);
    assert_eq!(wrong, Err(NoteError::BadSignature.into()));
}

#[test]
fn no_byte_of_a_proof_can_be_changed_added_or_left_out() {
    let (_, key) = log_key(ORIGIN, 7);
    // A path of two hashes, and the only leaf, whose path is empty.
    for (index, size) in [(2, 4), (0, 1)] {
        let good = proof_of(index, size).into_bytes();
        let leaf = index.to_string().into_bytes();
        let keys = std::slice::from_ref(&key);
        let checkpoint = proves(&good, &leaf, keys).unwrap();
        assert_eq!((checkpoint.origin(), checkpoint.size()), (ORIGIN, size));
        for at in 0..good.len() {
            let mut changed = good.clone();
            for byte in (0..=255).filter(|byte| *byte != good[at]) {
                changed[at] = byte;
                assert!(proves(&changed, &leaf, keys).is_err(), "byte {at} as {byte}");
            }
            let mut shorter = good.clone();
            shorter.remove(at);
            assert!(proves(&shorter, &leaf, keys).is_err(), "without byte {at}");
            assert!(proves(&good[..at], &leaf, keys).is_err(), "cut at {at}");
        }
        for at in 0..=good.len() {
            for byte in *b"\n 0A=+x\r\t" {
                let mut longer = good.clone();
                longer.insert(at, byte);
                assert!(
                    proves(&longer, &leaf, keys).is_err(),
                    "{byte} put before byte {at}"
                );
            }
        }
    }
}

#[test]
fn a_proof_has_nothing_unauthenticated() {
    let (_, key) = log_key(ORIGIN, 7);
    let keys = [key];
    let good = proof_of(2, 5);
    assert!(proves(good.as_bytes(), b"2", &keys).is_ok());
    assert_eq!(
        proves(good.as_bytes(), b"3", &keys),
        Err(VerifyError::Root.into())
    );
    assert_eq!(
        proves(good.as_bytes(), b"2", &[]),
        Err(NoteError::UnknownSigner.into())
    );

    let extra = good.replace("index", "extra AAAA\nindex");
    assert_eq!(Proof::parse(extra.as_bytes()), Err(ProofError::ExtraData));
    let last_line = good.lines().last().unwrap();
    assert_eq!(
        Proof::parse(format!("{good}{last_line}\n").as_bytes()),
        Err(ProofError::ManySignatures)
    );
    let witnessed = format!("{good}\u{2014} witness.example AAAAAAA=\n");
    assert_eq!(
        Proof::parse(witnessed.as_bytes()),
        Err(ProofError::ManySignatures)
    );

    let outside = good.replace("index 2", "index 5");
    assert_eq!(
        Proof::parse(outside.as_bytes()),
        Err(VerifyError::OutOfRange.into())
    );
    for (from, to) in [
        ("index 2", "index 02"),
        ("index 2", "index +2"),
        ("index 2", "index  2"),
    ] {
        assert_eq!(
            Proof::parse(good.replace(from, to).as_bytes()),
            Err(ProofError::Malformed)
        );
    }
    let checkpoint = &good[good.find("\n\n").unwrap() + 2..];
    assert!(Proof::new(2, vec![empty_root(); 64], checkpoint).is_ok());
    assert_eq!(
        Proof::new(2, vec![empty_root(); 65], checkpoint),
        Err(ProofError::Malformed)
    );
    let many = Proof::parse(
        good.replace(
            "index 2\n",
            &format!("index 2\n{}", (empty_root().base64() + "\n").repeat(65)),
        )
        .as_bytes(),
    );
    assert_eq!(many, Err(ProofError::Malformed));
    assert_eq!(
        Proof::parse(&vec![b'x'; crate::tlog::proof::PROOF_BYTES_MAX + 1]),
        Err(ProofError::TooLong)
    );
}

#[test]
fn tiles_have_the_paths_of_the_specification() {
    assert_eq!(
        tile::tile_path(0, 1_234_067, 256).unwrap(),
        "tile/0/x001/x234/067"
    );
    assert_eq!(tile::tile_path(2, 0, 1).unwrap(), "tile/2/000.p/1");
    assert_eq!(tile::bundle_path(273, 112).unwrap(), "tile/entries/273.p/112");
    assert_eq!(tile::tile_path(64, 0, 1), Err(TileError::Level));
    assert_eq!(tile::tile_path(0, 1 << 56, 1), Err(TileError::Index));
    assert_eq!(tile::tile_path(0, 0, 0), Err(TileError::Width));
    assert_eq!(tile::tile_path(0, 0, 257), Err(TileError::Width));
    for path in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/001",
        "tile/0/x001/xx01/001",
        "tile/0/x001/",
        "tile/00/001",
        "tile/+0/001",
        "tile/256/001",
        "tile/data/001",
        "tile/0/../001",
        "tile/0/001/",
        "tile/0/001.p",
        "tile/0/001.p/",
        "tile/0/001.p/01",
        "tile/0/001.p/+1",
        "tile/0/001.p/256",
        "tile/0/001.p/1/",
        "tile/0/001.p/1.p/1",
        "tile/0/00\u{661}",
    ] {
        assert_eq!(Tile::parse(path), Err(TileError::Path), "{path}");
    }
    assert_eq!(Tile::parse("tile/64/001"), Err(TileError::Level));
    assert_eq!(Tile::parse("tile/0/001.p/0"), Err(TileError::Width));
    assert_eq!(
        Tile::parse("tile/0/x072/x057/x594/x037/x927/936"),
        Err(TileError::Index)
    );
    assert_eq!(
        Tile::parse(&format!("tile/0/{}001", "x999/".repeat(9))),
        Err(TileError::Index)
    );
}

#[test]
fn a_tree_has_the_tiles_of_the_specification() {
    let count = |size: u64| {
        let mut tiles: BTreeMap<TileKind, (u64, Vec<u16>)> = BTreeMap::new();
        for tile in Tile::of_tree(size) {
            let (full, partial) = tiles.entry(tile.kind()).or_default();
            if tile.width() == 256 {
                *full += 1
            } else {
                partial.push(tile.width())
            }
        }
        tiles
    };
    let level = TileKind::Hashes;
    // Both examples are the specification's.
    assert_eq!(
        count(70_000),
        BTreeMap::from([
            (level(0), (273, vec![112])),
            (level(1), (1, vec![17])),
            (level(2), (0, vec![1])),
            (TileKind::Entries, (273, vec![112])),
        ])
    );
    assert_eq!(
        count(256),
        BTreeMap::from([
            (level(0), (1, vec![])),
            (level(1), (0, vec![1])),
            (TileKind::Entries, (1, vec![])),
        ])
    );
    assert_eq!(count(0), BTreeMap::new());
    let at = |kind, index, size| Tile::new(kind, index, 1).unwrap().width_at(size);
    assert_eq!(at(level(63), 0, u64::MAX), 0);
    assert_eq!(at(level(7), 0, u64::MAX), 255);
    assert_eq!(at(level(0), (1 << 56) - 1, u64::MAX), 255);
    assert_eq!(at(level(0), 2, 512), 0);
    let last = Tile::new(TileKind::Entries, (1 << 56) - 1, 256).unwrap();
    assert_eq!(last.entries(), Some(u64::MAX - 255..=u64::MAX));
    assert_eq!(Tile::new(level(1), 0, 1).unwrap().entries(), None);
}

#[test]
fn tiles_hold_the_hashes_of_the_specification() {
    let nodes = tree(600);
    let first: Vec<u8> = leaves(256).flat_map(|hash| hash.0).collect();
    assert_eq!(tile::tile_data(0, 0, 256, &nodes).unwrap(), first);
    let second: Vec<u8> = leaves(600).skip(512).take(88).flat_map(|hash| hash.0).collect();
    assert_eq!(tile::tile_data(0, 2, 88, &nodes).unwrap(), second);
    let upper = [
        root(256, &nodes).unwrap(),
        MemoryNodes::from_leaf_hashes(leaves(512).skip(256))
            .node(NodeId { level: 8, index: 0 })
            .unwrap()
            .unwrap(),
    ];
    assert_eq!(
        tile::tile_data(1, 0, 2, &nodes).unwrap(),
        upper.map(|hash| hash.0).concat()
    );
    let gone = NodeId { level: 0, index: 600 };
    assert!(matches!(
        tile::tile_data(0, 2, 89, &nodes),
        Err(TileDataError::Tree(TreeError::Missing(id))) if id == gone
    ));
    for level in [8, 63] {
        assert!(matches!(
            tile::tile_data(level, 0, 1, &nodes),
            Err(TileDataError::Tile(TileError::Level))
        ));
    }
}

#[test]
fn bundles_take_entries_up_to_their_limit() {
    let longest = vec![b'x'; ENTRY_BYTES_MAX];
    let bundle = tile::encode_bundle([&b""[..], b"ab", &longest]).unwrap();
    assert_eq!(bundle[..6], [0, 0, 0, 2, b'a', b'b']);
    assert_eq!(tile::decode_bundle(&bundle).unwrap(), [&b""[..], b"ab", &longest]);
    let too_long = vec![b'x'; ENTRY_BYTES_MAX + 1];
    assert_eq!(tile::encode_bundle([&too_long]), Err(TileError::EntryTooLong));
    assert_eq!(tile::decode_bundle(&[0]), Err(TileError::Truncated));
    assert_eq!(tile::decode_bundle(&[0, 2, b'a']), Err(TileError::Truncated));
}

#[test]
fn hashes_have_one_text_form_each() {
    let hash = leaf_hash(b"x");
    assert_eq!(Hash::from_hex(&hash.hex()), Some(hash));
    assert_eq!(Hash::from_base64(&hash.base64()), Some(hash));
    assert_eq!(format!("{hash}{hash:?}"), hash.hex().repeat(2));
    assert_eq!(Hash::from_hex(&hash.hex().to_uppercase()), None);
    assert_eq!(Hash::from_hex(&hash.hex()[1..]), None);
    assert_eq!(Hash::from_hex(&"\u{e9}".repeat(32)), None);
    assert_eq!(Hash::from_base64(hash.base64().trim_end_matches('=')), None);
    assert_eq!(Hash::from_base64(""), None);
    assert_ne!(node_hash(&hash, &empty_root()), node_hash(&empty_root(), &hash));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inclusion_proofs_hold_and_any_change_breaks_them(
        (size, index) in (1u64..1500).prop_flat_map(|size| (Just(size), 0..size)),
        other_index in 0u64..1600, at in any::<prop::sample::Index>(), bit in 0u32..256,
    ) {
        let nodes = tree(size);
        let top = root(size, &nodes).unwrap();
        let leaf = leaf_hash(index.to_string().as_bytes());
        let proof = inclusion_proof(index, size, &nodes).unwrap();
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &top), Ok(()));

        let flipped = |hash: &Hash| {
            let mut hash = *hash;
            hash.0[bit as usize / 8] ^= 1 << (bit % 8);
            hash
        };
        prop_assert_eq!(verify_inclusion(&flipped(&leaf), index, size, &proof, &top), Err(VerifyError::Root));
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &flipped(&top)), Err(VerifyError::Root));
        if other_index != index {
            prop_assert!(verify_inclusion(&leaf, other_index, size, &proof, &top).is_err());
        }
        for other_size in [size - 1, size + 1, size * 2, size / 2] {
            if other_size != size {
                let other_top = root(other_size, &tree(other_size)).unwrap();
                prop_assert!(verify_inclusion(&leaf, index, other_size, &proof, &other_top).is_err());
            }
        }
        if !proof.is_empty() {
            let at = at.index(proof.len());
            let mut changed = proof.clone();
            changed[at] = flipped(&changed[at]);
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &changed, &top), Err(VerifyError::Root));
            let mut shorter = proof.clone();
            shorter.remove(at);
            prop_assert!(verify_inclusion(&leaf, index, size, &shorter, &top).is_err());
        }
        let mut longer = proof;
        longer.insert(at.index(longer.len() + 1), top);
        prop_assert!(verify_inclusion(&leaf, index, size, &longer, &top).is_err());
    }

    #[test]
    fn consistency_proofs_hold_and_any_change_breaks_them(
        (new, old) in (1u64..1500).prop_flat_map(|new| (Just(new), 0..=new)),
        at in any::<prop::sample::Index>(), bit in 0u32..256,
    ) {
        let nodes = tree(new + 1);
        let roots: Vec<Hash> = [old, new, old + 1, new + 1].iter().map(|it| root(*it, &nodes).unwrap()).collect();
        let proof = consistency_proof(old, new, &nodes).unwrap();
        prop_assert_eq!(verify_consistency(old, &roots[0], new, &roots[1], &proof), Ok(()));

        let flipped = |hash: &Hash| {
            let mut hash = *hash;
            hash.0[bit as usize / 8] ^= 1 << (bit % 8);
            hash
        };
        prop_assert!(verify_consistency(old, &flipped(&roots[0]), new, &roots[1], &proof).is_err());
        // Whatever comes after nothing is consistent with it.
        if old > 0 {
            prop_assert!(verify_consistency(old, &roots[0], new, &flipped(&roots[1]), &proof).is_err());
        }
        if !proof.is_empty() {
            prop_assert!(verify_consistency(old, &roots[0], new + 1, &roots[3], &proof).is_err());
            prop_assert!(verify_consistency(old + 1, &roots[2], new, &roots[1], &proof).is_err());
            let at = at.index(proof.len());
            let mut changed = proof.clone();
            changed[at] = flipped(&changed[at]);
            prop_assert!(verify_consistency(old, &roots[0], new, &roots[1], &changed).is_err());
            let mut shorter = proof.clone();
            shorter.remove(at);
            prop_assert!(verify_consistency(old, &roots[0], new, &roots[1], &shorter).is_err());
        }
        let mut longer = proof;
        longer.insert(at.index(longer.len() + 1), roots[1]);
        prop_assert!(verify_consistency(old, &roots[0], new, &roots[1], &longer).is_err());
    }

    #[test]
    fn appending_never_changes_an_earlier_node_root_or_proof(
        (size, index) in (1u64..300).prop_flat_map(|size| (Just(size), 0..size)), more in 1u64..300, old in 0u64..300,
    ) {
        let nodes = tree(size);
        let mut batch = Batch::new(size, &nodes);
        for leaf in leaves(size + more).skip(size as usize) {
            batch.append(leaf).unwrap();
        }
        let old = old.min(size);
        prop_assert_eq!(batch.size(), size + more);
        prop_assert_eq!(batch.root().unwrap(), root(size + more, &tree(size + more)).unwrap());
        prop_assert_eq!(root(size, &batch).unwrap(), root(size, &nodes).unwrap());
        prop_assert_eq!(inclusion_proof(index, size, &batch).unwrap(), inclusion_proof(index, size, &nodes).unwrap());
        prop_assert_eq!(
            consistency_proof(old, size, &batch).unwrap(),
            consistency_proof(old, size, &nodes).unwrap()
        );
        let made = batch.into_made();
        let mut all = nodes.clone();
        for (id, hash) in made {
            prop_assert_eq!(nodes.node(id).unwrap(), None, "a node was made twice");
            all.insert(id, hash);
        }
        prop_assert_eq!(all, tree(size + more));
    }

    #[test]
    fn the_leaves_between_two_trees_are_all_needed_and_in_order(
        (new, old) in (1u64..400).prop_flat_map(|new| (Just(new), 0..=new)), at in any::<prop::sample::Index>(),
    ) {
        let nodes = tree(new);
        let (old_root, new_root) = (root(old, &nodes).unwrap(), root(new, &nodes).unwrap());
        let proof = consistency_proof(old, new, &nodes).unwrap();
        let check = |leaves: &[Hash]| {
            verify_extension(old, &old_root, new, &new_root, &proof, leaves.iter().copied())
        };
        let between: Vec<Hash> = leaves(new).skip(old as usize).collect();
        prop_assert_eq!(check(&between), Ok(()));
        let mut added = between.clone();
        added.insert(at.index(between.len() + 1), empty_root());
        prop_assert_eq!(check(&added), Err(VerifyError::Leaves));
        if !between.is_empty() {
            let at = at.index(between.len());
            let mut changed = between.clone();
            changed[at] = empty_root();
            prop_assert_eq!(check(&changed), Err(VerifyError::Leaves));
            let mut fewer = between.clone();
            fewer.remove(at);
            prop_assert_eq!(check(&fewer), Err(VerifyError::Leaves));
            let mut moved = between.clone();
            moved.rotate_left(1);
            prop_assert_eq!(check(&moved).is_ok(), between.len() == 1);
        }
        let other = leaf_hash(b"other");
        prop_assert!(verify_extension(old, &old_root, new, &other, &proof, between.iter().copied()).is_err());
        prop_assert!(verify_extension(old, &other, new, &new_root, &proof, between).is_err());
    }

    #[test]
    fn texts_are_written_as_they_were_read(
        origin in "[a-z0-9./:-]{1,40}", size in any::<u64>(), bytes in any::<[u8; 32]>(), seed in any::<u8>(),
        index in any::<u64>(), path in prop::collection::vec(any::<[u8; 32]>(), 0..=64),
        text in "[ -~\u{e9}\n]{0,80}",
    ) {
        let top = if size == 0 { empty_root() } else { Hash(bytes) };
        let checkpoint = Checkpoint::new(&origin, size, top).unwrap();
        prop_assert_eq!(&Checkpoint::parse_body(&checkpoint.body()).unwrap(), &checkpoint);
        let note = signed(&checkpoint, seed);
        prop_assert_eq!(Note::parse(note.as_bytes()).unwrap().encode(), note.clone());
        let (signing, key) = log_key(&origin, seed);
        prop_assert_eq!(&VerifierKey::parse(&key.vkey()).unwrap(), &key);
        let keys = [key];
        prop_assert_eq!(Checkpoint::open(note.as_bytes(), &keys).unwrap().0, checkpoint);
        if size > 0 {
            let proof = Proof::new(index % size, path.into_iter().map(Hash).collect(), &note).unwrap();
            prop_assert_eq!(Proof::parse(proof.encode().as_bytes()).unwrap(), proof);
        }
        let text = text + "\n";
        let free = note::assemble(&text, &keys[0], &signing.sign(text.as_bytes()).to_bytes()).unwrap();
        let parsed = Note::parse(free.as_bytes()).unwrap();
        prop_assert_eq!(parsed.text(), &text);
        prop_assert!(parsed.verify(&keys).is_ok());
        prop_assert_eq!(parsed.encode(), free);
    }

    #[test]
    fn a_proof_of_any_tree_is_refused_after_any_change_of_a_byte(
        (size, index) in (1u64..700).prop_flat_map(|size| (Just(size), 0..size)),
        at in any::<prop::sample::Index>(), xor in 1u8..,
    ) {
        let (_, key) = log_key(ORIGIN, 7);
        let mut text = proof_of(index, size).into_bytes();
        let leaf = index.to_string();
        prop_assert!(proves(&text, leaf.as_bytes(), std::slice::from_ref(&key)).is_ok());
        let at = at.index(text.len());
        text[at] ^= xor;
        prop_assert!(proves(&text, leaf.as_bytes(), &[key]).is_err());
    }

    #[test]
    fn hostile_bytes_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}", path in "[tile/0-9xp.entris]{0,40}",
    ) {
        let _ = Note::parse(&bytes);
        let _ = Proof::parse(&bytes);
        let _ = Proof::parse(format!("c2sp.org/tlog-proof@v1\nindex {text}").as_bytes());
        let _ = tile::decode_bundle(&bytes);
        let _ = VerifierKey::parse(&text);
        let _ = Checkpoint::parse_body(&text);
        if let Ok(tile) = Tile::parse(&path) {
            prop_assert_eq!(tile.to_string(), path);
        }
    }

    #[test]
    fn tile_paths_and_bundles_are_read_as_written(
        level in 0u8..64, index in 0u64..1 << 56, width in 1u16..=256, entries in any::<bool>(),
        bundle in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
    ) {
        let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
        let tile = Tile::new(kind, index, width).unwrap();
        prop_assert_eq!(Tile::parse(&tile.to_string()).unwrap(), tile);
        let bytes = tile::encode_bundle(&bundle).unwrap();
        prop_assert_eq!(tile::decode_bundle(&bytes).unwrap(), bundle);
    }
}
