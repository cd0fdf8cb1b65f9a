//! Finds the globs that match a path without asking every one: by the folders, names and endings that most globs spell
//! out. Built once with the document.
//!
//! It answers exactly as the globs themselves do, for paths in ASCII; for all other paths the globs are asked one by one,
//! because there folding may change how many characters a name has. A property test holds the two together.

use crate::domain::policy::glob::{Effort, PathGlob, Plain};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// How a glob is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    /// Widely: the folded form, and a folder stands for what is below it.
    Demand,
    /// Narrowly: exact bytes, this very file.
    Grant,
}

/// One glob, as its owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Position of the rule.
    pub owner: u32,
    /// Position of the glob among the rule's.
    pub glob: u32,
}

/// A one in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;
/// The high bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// One segment of a path, with what the index looks it up by.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: u32,
    to: u32,
    /// After the last dot; 0 where there is none.
    dot: u32,
    hash: u64,
    /// Hash of what follows the last dot.
    ending: u64,
}

/// A path cut into segments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    segments: Vec<Segment>,
    ascii: bool,
    upper: bool,
    control: bool,
    backslash: bool,
    /// A segment is empty, or ends in a space or a dot.
    odd_segment: bool,
}

impl Cut {
    /// Looks at the bytes once.
    pub fn at(&mut self, path: &[u8]) {
        self.segments.clear();
        // More than nearly every path has: it grows once.
        self.segments.reserve(16);
        let (mut foreign, mut upper, mut control, mut backslash) = (0, 0, 0, 0);
        let (mut from, mut dot) = (0, 0);
        let mut odd = false;
        let mut segment = |from: usize, to: usize, dot: usize| {
            let bytes = &path[from..to];
            odd |= matches!(bytes.last(), None | Some(b' ' | b'.'));
            self.segments.push(Segment {
                from: from as u32,
                to: to as u32,
                dot: dot as u32,
                hash: hash(bytes),
                ending: if dot > 0 { hash(&path[dot..to]) } else { 0 },
            });
        };
        // Eight bytes at a time; the last eight are filled up with letters, which mean nothing.
        for start in (0..path.len()).step_by(8) {
            let word = match path.get(start..start + 8) {
                Some(eight) => u64::from_le_bytes(eight.try_into().expect("eight bytes")),
                None => {
                    let mut eight = [b'a'; 8];
                    eight[..path.len() - start].copy_from_slice(&path[start..]);
                    u64::from_le_bytes(eight)
                }
            };
            let low = word & !HIGH;
            foreign |= word & HIGH;
            // A byte's high bit is set where the low seven are at least so much; carries stay within their byte.
            let at_least = |least: u8| low + EACH * u64::from(0x80 - least);
            upper |= at_least(b'A') & !at_least(b'Z' + 1) & HIGH & !word;
            control |= (!at_least(0x20) | at_least(0x7f)) & HIGH & !word;
            backslash |= at_least(b'\\') & !at_least(b'\\' + 1) & HIGH & !word;
            // The two are neighbours in ASCII.
            let mut marks = at_least(b'.') & !at_least(b'/' + 1) & HIGH & !word;
            while marks != 0 {
                let at = start + marks.trailing_zeros() as usize / 8;
                marks &= marks - 1;
                if path[at] == b'/' {
                    segment(from, at, dot);
                    (from, dot) = (at + 1, 0);
                } else {
                    dot = at + 1;
                }
            }
        }
        segment(from, path.len(), dot);
        self.ascii = foreign == 0;
        self.upper = upper != 0;
        self.control = control != 0;
        self.backslash = backslash != 0;
        self.odd_segment = odd;
    }

    /// All bytes are ASCII.
    pub fn is_ascii(&self) -> bool {
        self.ascii
    }

    /// An ASCII letter that folding changes is among them.
    pub fn has_upper(&self) -> bool {
        self.upper
    }

    /// A control character, a backslash, an empty segment, or one that ends in a space or a dot.
    pub fn is_odd(&self) -> bool {
        self.odd_segment || self.control || self.backslash
    }

    /// Every byte can be shown as it is.
    pub fn is_printable(&self) -> bool {
        self.ascii && !self.control
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Entries by the hash of their literal, behind a filter that says "no" to most keys for the price of one bit.
#[derive(Clone, Debug)]
struct Map {
    filter: [u64; FILTER_WORDS],
    entries: HashMap<u64, Vec<Entry>, BuildHasherDefault<AsItIs>>,
}

/// 2,048 bits: a quarter of them is set at some six hundred keys.
const FILTER_WORDS: usize = 32;

impl Map {
    fn new() -> Self {
        Map {
            filter: [0; FILTER_WORDS],
            entries: HashMap::default(),
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn bit(key: u64) -> (usize, u64) {
        ((key >> 59) as usize, 1 << ((key >> 53) & 63))
    }

    fn add(&mut self, key: u64, entry: Entry) {
        let (word, bit) = Map::bit(key);
        self.filter[word] |= bit;
        self.entries.entry(key).or_default().push(entry);
    }

    fn get(&self, key: u64) -> &[Entry] {
        let (word, bit) = Map::bit(key);
        if self.filter[word] & bit == 0 {
            return &[];
        }
        self.entries.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// Every segment is looked up once for each length of an ending; more lengths than this are asked one by one.
const TAIL_LENGTHS_MAX: usize = 8;

fn mix(hash: u64, word: u64) -> u64 {
    // Multiplication spreads upwards only; the rotation brings it back down for the table's low bits.
    (hash.rotate_left(26) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash(bytes: &[u8]) -> u64 {
    let eight = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let four = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let length = bytes.len();
    // The last word may overlap the one before: with the length beside it, nothing is lost.
    match length {
        0 => 1,
        1..=3 => {
            let [first, middle, last] = [bytes[0], bytes[length / 2], bytes[length - 1]].map(u64::from);
            mix(length as u64, first << 16 | middle << 8 | last)
        }
        4..=7 => mix(
            length as u64,
            u64::from(four(0)) << 32 | u64::from(four(length - 4)),
        ),
        _ => {
            let mut hash = length as u64;
            for at in (0..length - 8).step_by(8) {
                hash = mix(hash, eight(at));
            }
            mix(hash, eight(length - 8))
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    place: Place,
    literal: Box<[u8]>,
    /// Only what lies below it matches.
    below: bool,
    /// The glob goes on: ask it.
    ask: bool,
}

/// Globs by what they spell out.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    sense: Sense,
    /// By leading folders; the literal is the path so far.
    leading: Map,
    /// Most segments of such a literal.
    deepest: usize,
    /// By the name of a segment at any depth.
    names: Map,
    /// By what follows the last dot of a segment at any depth; the literal is the whole ending.
    endings: Map,
    /// By how a segment at any depth ends, where no dot is in that; the literal is the whole ending.
    tails: Map,
    /// The lengths of those endings, each once.
    tail_lengths: Vec<usize>,
    /// By how a segment at any depth begins.
    beginnings: Vec<Entry>,
    /// All others: to be asked.
    others: Vec<Place>,
}

impl Index {
    /// An index without globs.
    pub fn new(sense: Sense) -> Self {
        Index {
            sense,
            leading: Map::new(),
            deepest: 0,
            names: Map::new(),
            endings: Map::new(),
            tails: Map::new(),
            tail_lengths: Vec::new(),
            beginnings: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Takes a glob in.
    pub fn add(&mut self, place: Place, glob: &PathGlob) {
        let entry = |literal: &[u8], below, ask| Entry {
            place,
            literal: literal.into(),
            below,
            ask,
        };
        match glob.plain(self.sense == Sense::Demand) {
            Plain::Path { literal, below, more } => {
                let segments = literal.split(|it| *it == b'/');
                let (mut chain, mut depth) = (0, 0);
                for segment in segments {
                    chain = mix(chain, hash(segment));
                    depth += 1;
                }
                self.deepest = self.deepest.max(depth);
                self.leading.add(chain, entry(&literal, below, more));
            }
            Plain::Name { literal, below } => {
                self.names.add(hash(&literal), entry(&literal, below, false));
            }
            Plain::Ending(literal) => match literal.iter().rposition(|it| *it == b'.') {
                Some(dot) => {
                    let key = hash(&literal[dot + 1..]);
                    self.endings.add(key, entry(&literal, false, false));
                }
                None => {
                    let length = literal.len();
                    if !self.tail_lengths.contains(&length) {
                        if self.tail_lengths.len() == TAIL_LENGTHS_MAX {
                            return self.others.push(place);
                        }
                        self.tail_lengths.push(length);
                    }
                    self.tails.add(hash(&literal), entry(&literal, false, false));
                }
            },
            Plain::Beginning(literal) => self.beginnings.push(entry(&literal, false, false)),
            Plain::Other => self.others.push(place),
        }
    }

    /// There is no glob in it.
    fn is_empty(&self) -> bool {
        self.leading.is_empty()
            && self.names.is_empty()
            && self.endings.is_empty()
            && self.tails.is_empty()
            && self.beginnings.is_empty()
            && self.others.is_empty()
    }

    /// Tells of every glob that matches (`false`), or has to be asked (`true`). `path` is in the form of the sense: folded
    /// for demands; `cut` is of that form.
    pub fn find(&self, path: &[u8], cut: &Cut, effort: &mut Effort, mut found: impl FnMut(Place, bool)) {
        if self.is_empty() {
            return;
        }
        let widely = self.sense == Sense::Demand;
        let count = cut.segments.len();
        let (named, ending) = (!self.names.is_empty(), !self.endings.is_empty());
        let mut chain = 0;
        for (at, own) in cut.segments.iter().enumerate() {
            let (from, to) = (own.from as usize, own.to as usize);
            let is_last = at + 1 == count;
            let here = |below: bool| if below { !is_last } else { widely || is_last };
            if at < self.deepest {
                chain = mix(chain, own.hash);
                for it in self.leading.get(chain) {
                    if (it.ask || here(it.below)) && *it.literal == path[..to] {
                        found(it.place, it.ask);
                    }
                }
            }
            if named {
                for it in self.names.get(own.hash) {
                    if here(it.below) && *it.literal == path[from..to] {
                        found(it.place, false);
                    }
                }
            }
            if !widely && !is_last {
                continue;
            }
            if ending && own.dot > 0 {
                for it in self.endings.get(own.ending) {
                    if path[from..to].ends_with(&it.literal) {
                        found(it.place, false);
                    }
                }
            }
            for length in self.tail_lengths.iter().filter(|it| **it <= to - from) {
                effort.steps += 1 + *length as u64 / 8;
                let tail = &path[to - length..to];
                for it in self.tails.get(hash(tail)) {
                    if *it.literal == *tail {
                        found(it.place, false);
                    }
                }
            }
            if !self.beginnings.is_empty() {
                effort.steps += self.beginnings.len() as u64;
                for it in self
                    .beginnings
                    .iter()
                    .filter(|it| path[from..to].starts_with(&it.literal))
                {
                    found(it.place, false);
                }
            }
        }
        for place in &self.others {
            found(*place, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Eight bytes at once must see what one byte at a time sees.
        #[test]
        fn a_path_is_cut_as_byte_by_byte(path in proptest::collection::vec(
            prop_oneof![4 => proptest::sample::select(&b"ab/.AZ@[\\ \x1f\x20\x7e\x7f\x80\xff-0"[..]), 1 => any::<u8>()], 0..40,
        )) {
            let mut cut = Cut::default();
            cut.at(&path);
            let texts: Vec<&[u8]> = path.split(|it| *it == b'/').collect();
            let own: Vec<&[u8]> = cut.segments.iter().map(|it| &path[it.from as usize..it.to as usize]).collect();
            prop_assert_eq!(&own, &texts);
            for (segment, text) in cut.segments.iter().zip(&texts) {
                let dot = text.iter().rposition(|it| *it == b'.').map_or(0, |it| segment.from as usize + it + 1);
                prop_assert_eq!(segment.dot as usize, dot);
                prop_assert_eq!(segment.hash, hash(text));
            }
            prop_assert_eq!(cut.is_ascii(), path.is_ascii());
            prop_assert_eq!(cut.has_upper(), path.iter().any(u8::is_ascii_uppercase));
            prop_assert_eq!(cut.is_printable(), path.is_ascii() && !path.iter().any(u8::is_ascii_control));
            let odd = texts.iter().any(|it| it.is_empty() || it.ends_with(b" ") || it.ends_with(b"."))
                || path.iter().any(|it| it.is_ascii_control() || *it == b'\\');
            prop_assert_eq!(cut.is_odd(), odd);
        }
    }
}
