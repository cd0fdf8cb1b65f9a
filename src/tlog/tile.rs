//! Tiles (c2sp.org/tlog-tiles): the paths and contents of the files a log is served and exported as. It never serves
//! or writes any.

use std::error::Error;
use std::fmt;

use crate::tlog::hash::Hash;
use crate::tlog::tree::{NodeId, Nodes, TreeError, stored};

/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u16 = 256;
/// Tree levels a tile stands for: its width is two to this power.
const TILE_HEIGHT: u8 = 8;
/// The specification's bound on levels. No tree of ours comes near: level 7 begins at 2^56 leaves.
const LEVEL_MAX: u8 = 63;
/// Above it, the index of a tile's last hash would not fit 64 bits.
const INDEX_MAX: u64 = u64::MAX >> TILE_HEIGHT;
/// The longest entry: its length stands in 16 bits.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// Why a tile or bundle is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The level is above 63.
    #[error("the tile's level is out of range")]
    Level,
    /// The index is above 2^56 - 1.
    #[error("the tile's index is out of range")]
    Index,
    /// The width is not from 1 to 256.
    #[error("the tile's width is out of range")]
    Width,
    /// The path is not one that [`Tile`]'s text form has.
    #[error("the tile's path is malformed")]
    Path,
    /// An entry is longer than [`ENTRY_BYTES_MAX`].
    #[error("the entry is too long for a bundle")]
    EntryTooLong,
    /// The bundle ends within an entry.
    #[error("the entry bundle is cut off")]
    Truncated,
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of this tile level; level 0 has those of the leaves, each next one those of full tiles below.
    Hashes(u8),
    /// The leaves themselves.
    Entries,
}

/// One tile. Its text form is its path, `tile/<level or entries>/<index>[.p/<width>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl Tile {
    /// A tile; a width of 256 makes it a full one.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, TileError> {
        if matches!(kind, TileKind::Hashes(level) if level > LEVEL_MAX) {
            return Err(TileError::Level);
        }
        if index > INDEX_MAX {
            return Err(TileError::Index);
        }
        if !(1..=TILE_WIDTH).contains(&width) {
            return Err(TileError::Width);
        }
        Ok(Self { kind, index, width })
    }

    /// Reads a path; accepts only what this type writes.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        let (kind, rest) = path
            .strip_prefix("tile/")
            .and_then(|rest| rest.split_once('/'))
            .ok_or(TileError::Path)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(level.parse().map_err(|_| TileError::Path)?),
        };
        let (digits, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((digits, width)) => (digits, width.parse().map_err(|_| TileError::Path)?),
        };
        let mut index: u64 = 0;
        for element in digits.split('/') {
            let number: u16 = element
                .trim_start_matches('x')
                .parse()
                .map_err(|_| TileError::Path)?;
            index = index
                .checked_mul(1000)
                .and_then(|it| it.checked_add(number.into()))
                .ok_or(TileError::Index)?;
        }
        let tile = Self::new(kind, index, width)?;
        // Signs, superfluous zeros and an `x` too many or too few have been let through so far.
        if tile.to_string() == path {
            Ok(tile)
        } else {
            Err(TileError::Path)
        }
    }

    /// What it holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its place among those of its kind, 0-based.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it has: 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// How wide this tile is in a tree of `size` leaves: 256 where full, 0 where there is no such tile. A log serves
    /// a tile only if that is at least its width.
    pub fn width_at(&self, size: u64) -> u16 {
        let level = match self.kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        let hashes = size
            .checked_shr(u32::from(level) * u32::from(TILE_HEIGHT))
            .unwrap_or(0);
        let width = hashes
            .saturating_sub(self.index << TILE_HEIGHT)
            .min(TILE_WIDTH.into());
        u16::try_from(width).expect("the minimum with 256 fits 16 bits")
    }

    /// The indexes of the leaves whose hashes or entries a tile of level 0 holds.
    pub fn entries(&self) -> Option<std::ops::RangeInclusive<u64>> {
        let first = self.index << TILE_HEIGHT;
        matches!(self.kind, TileKind::Entries | TileKind::Hashes(0))
            .then(|| first..=first + u64::from(self.width - 1))
    }

    /// All tiles of a tree of `size` leaves: the full ones, and the partial ones at its right edge. Entry bundles
    /// are as the hash tiles of level 0.
    pub fn of_tree(size: u64) -> impl Iterator<Item = Self> {
        let kinds = std::iter::once((TileKind::Entries, 0))
            .chain((0..8).map(|level| (TileKind::Hashes(level), level)));
        kinds.flat_map(move |(kind, level)| {
            let hashes = size >> (level * TILE_HEIGHT);
            (0..hashes.div_ceil(TILE_WIDTH.into())).map(move |index| {
                let full = Self {
                    kind,
                    index,
                    width: TILE_WIDTH,
                };
                Self {
                    width: full.width_at(size),
                    ..full
                }
            })
        })
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => write!(f, "tile/entries/")?,
        }
        let mut thousands = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            thousands.push(rest % 1000);
            rest /= 1000;
        }
        for element in thousands[1..].iter().rev() {
            write!(f, "x{element:03}/")?;
        }
        write!(f, "{:03}", thousands[0])?;
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)
        } else {
            Ok(())
        }
    }
}

/// The path of a hash tile.
pub fn tile_path(level: u8, index: u64, width: u16) -> Result<String, TileError> {
    Ok(Tile::new(TileKind::Hashes(level), index, width)?.to_string())
}

/// The path of an entry bundle.
pub fn bundle_path(index: u64, width: u16) -> Result<String, TileError> {
    Ok(Tile::new(TileKind::Entries, index, width)?.to_string())
}

/// Why a hash tile has no contents.
#[derive(Debug, thiserror::Error)]
pub enum TileDataError<E: Error + 'static> {
    /// There is no such tile.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The tree does not have all its hashes.
    #[error(transparent)]
    Tree(TreeError<E>),
}

/// The contents of a hash tile: its hashes, 32 bytes each, from left to right.
pub fn tile_data<N: Nodes>(
    level: u8,
    index: u64,
    width: u16,
    nodes: &N,
) -> Result<Vec<u8>, TileDataError<N::Error>> {
    let tile = Tile::new(TileKind::Hashes(level), index, width)?;
    // A subtree of 2^64 leaves or more is no node.
    if level >= 64 / TILE_HEIGHT {
        return Err(TileError::Level.into());
    }
    let first = tile.index << TILE_HEIGHT;
    let mut data = Vec::with_capacity(usize::from(width) * 32);
    for offset in 0..u64::from(width) {
        let id = NodeId {
            level: level * TILE_HEIGHT,
            index: first + offset,
        };
        let Hash(bytes) = stored(id, nodes).map_err(TileDataError::Tree)?;
        data.extend_from_slice(&bytes);
    }
    Ok(data)
}

/// The contents of an entry bundle: each entry behind its length, 16 bits, big-endian.
pub fn encode_bundle<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Result<Vec<u8>, TileError> {
    let mut bundle = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong)?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// The entries of a bundle.
pub fn decode_bundle(mut bundle: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk().ok_or(TileError::Truncated)?;
        let (entry, rest) = rest
            .split_at_checked(u16::from_be_bytes(*length).into())
            .ok_or(TileError::Truncated)?;
        entries.push(entry);
        bundle = rest;
    }
    Ok(entries)
}
