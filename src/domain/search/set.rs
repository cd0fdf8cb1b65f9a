//! A set of a block's requests, and how it is written: few of them as a list, many as bits.

use crate::domain::search::BLOCK;
use crate::domain::state::Fault;

const BITS: usize = BLOCK as usize;
const BYTES: usize = BITS / 8;
/// A list shorter than this takes less room than the bits.
const LISTED_MAX: usize = BYTES / 2;

/// Which requests of a block.
#[derive(Clone, PartialEq, Eq)]
pub struct Set([u64; BITS / 64]);

impl Set {
    pub fn empty() -> Self {
        Set([0; BITS / 64])
    }

    /// Those from `from` to before `to`, places within the block.
    pub fn between(from: usize, to: usize) -> Self {
        let mut set = Set::empty();
        for place in from..to.min(BITS) {
            set.insert(place);
        }
        set
    }

    pub fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    pub fn remove(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|it| *it == 0)
    }

    /// Adds all of `other`.
    pub fn join(&mut self, other: &Set) {
        for (it, more) in self.0.iter_mut().zip(&other.0) {
            *it |= more;
        }
    }

    /// Keeps what is in `other` too.
    pub fn meet(&mut self, other: &Set) {
        for (it, kept) in self.0.iter_mut().zip(&other.0) {
            *it &= kept;
        }
    }

    /// All places, the last first.
    pub fn backwards(&self) -> impl Iterator<Item = usize> {
        let words = self.0.into_iter().enumerate().rev();
        words.flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                let last = 63_u32.checked_sub(word.leading_zeros())?;
                word &= !(1 << last);
                Some(at * 64 + last as usize)
            })
        })
    }

    fn len(&self) -> usize {
        self.0.iter().map(|it| it.count_ones() as usize).sum()
    }

    /// The bytes of a row. The same set always has the same.
    pub fn encode(&self) -> Vec<u8> {
        if self.len() < LISTED_MAX {
            let mut places: Vec<usize> = self.backwards().collect();
            places.reverse();
            let short = |it| u16::try_from(it).expect("a block has fewer places than 65,536");
            return places
                .into_iter()
                .flat_map(|it| short(it).to_be_bytes())
                .collect();
        }
        self.0.iter().flat_map(|it| it.to_be_bytes()).collect()
    }

    /// Reads a row's bytes.
    ///
    /// # Errors
    /// When no set is written so.
    pub fn decode(bytes: &[u8]) -> Result<Set, Fault> {
        let mut set = Set::empty();
        if bytes.len() == BYTES {
            for (it, eight) in set.0.iter_mut().zip(bytes.chunks_exact(8)) {
                *it = u64::from_be_bytes(eight.try_into().expect("eight bytes"));
            }
            return Ok(set);
        }
        if !bytes.len().is_multiple_of(2) || bytes.len() > BYTES {
            return Err(Fault("a damaged row of the index of requests".into()));
        }
        for two in bytes.chunks_exact(2) {
            let place = usize::from(u16::from_be_bytes([two[0], two[1]]));
            if place >= BITS {
                return Err(Fault("a damaged row of the index of requests".into()));
            }
            set.insert(place);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_row_is_read_as_it_was_written(places in proptest::collection::btree_set(0..BITS, 0..600)) {
            let mut set = Set::empty();
            places.iter().for_each(|it| set.insert(*it));
            let bytes = set.encode();
            prop_assert!(bytes.len() <= BYTES);
            prop_assert!(Set::decode(&bytes).unwrap() == set);
            prop_assert_eq!(set.backwards().collect::<Vec<_>>(), places.iter().rev().copied().collect::<Vec<_>>());
            places.iter().for_each(|it| set.remove(*it));
            prop_assert!(set.is_empty() && set.encode().is_empty());
        }

        #[test]
        fn whatever_stands_in_a_row_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..520)) {
            let _ = Set::decode(&bytes);
        }
    }
}
