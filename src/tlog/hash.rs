//! A SHA-256 hash of the tree and the three ways RFC 6962 section 2.1 makes one. Never hashes without its prefix.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// What a leaf's hash begins with (RFC 6962 section 2.1), so that no leaf can pass for an inner node.
const LEAF_PREFIX: [u8; 1] = [0x00];
/// What an inner node's hash begins with.
const NODE_PREFIX: [u8; 1] = [0x01];

/// A SHA-256 hash: of a leaf, of an inner node, or of a whole tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Lowercase hex, 64 digits.
    pub fn hex(&self) -> String {
        hex_text(&self.0)
    }

    /// Standard base64 with padding, 44 characters, as checkpoints and proofs carry it.
    pub fn base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// Reads lowercase hex; `None` unless it is exactly what [`Hash::hex`] writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_bytes(text).map(Self)
    }

    /// Reads base64; `None` unless it is exactly what [`Hash::base64`] writes: a second spelling of the same hash
    /// (stray bits in the last character, absent padding) is refused.
    pub fn from_base64(text: &str) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// The hash of a leaf: SHA-256(0x00 || leaf bytes).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&LEAF_PREFIX, leaf])
}

/// The hash of an inner node: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&NODE_PREFIX, &left.0, &right.0])
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// SHA-256 over the parts one after another.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

/// Lowercase hex of any bytes.
pub(crate) fn hex_text(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Exactly `N` bytes from lowercase hex; `None` for anything else.
pub(crate) fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// A decimal number as C2SP texts write it: digits only, no leading zero unless it is `0`.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let well_formed =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if well_formed { text.parse().ok() } else { None }
}
