//! Where in the journal an entry of some kind, of somebody or of a request can be: eight bytes an entry in memory, so that the
//! newest few of a million are found without reading the million. A mark says where not to look; whoever reads an entry
//! there still has to see whether it is meant.

use crate::audit::{Error, damaged};
use crate::store::Snapshot;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bits of a mark for each of the four ids that an entry can name. With a million entries some sixty of each id's marks are
/// another's.
const ID_BITS: u32 = 14;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
/// Above the ids: the family of an entry's type.
const FAMILY_AT: u32 = 4 * ID_BITS;
/// Room that is taken at once when the marks need more.
const ROOM: usize = 1 << 16;

/// What an entry is to be about. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// The type's first word, as `request`.
    pub family: Option<String>,
    /// Ids, each of which the entry's actor, its object, its person or its request is.
    pub ids: Vec<String>,
}

/// A mark for each entry of the journal, from its first.
#[derive(Debug, Default)]
pub struct Timeline {
    marks: Vec<u64>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    actor: Named<'a>,
    #[serde(borrow)]
    object: Option<Named<'a>>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    person: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Never 0, which is "none".
fn of_family(family: &str) -> u64 {
    hash(family) % 255 + 1
}

/// Never 0, which is "none".
fn of_id(id: &str) -> u64 {
    hash(id) % ID_MASK + 1
}

fn family(kind: &str) -> &str {
    kind.split_once('.').map_or(kind, |it| it.0)
}

fn mark(leaf: &[u8]) -> Result<u64, serde_json::Error> {
    let entry: Entry<'_> = serde_json::from_slice(leaf)?;
    let object = entry.object.and_then(|it| it.id);
    let ids = [entry.actor.id, object, entry.data.person, entry.data.request];
    let ids = ids.iter().enumerate().map(|(place, id)| {
        // Ids have nothing that JSON escapes; something else than a text is none.
        let id = id.and_then(|it| it.get().strip_prefix('"')?.strip_suffix('"'));
        id.map_or(0, of_id) << (place as u32 * ID_BITS)
    });
    Ok(ids.fold(of_family(family(entry.r#type)) << FAMILY_AT, |all, it| all | it))
}

fn can_be(mark: u64, family: Option<u64>, ids: &[u64]) -> bool {
    let names = |id: &u64| (0..4).any(|place| mark >> (place * ID_BITS) & ID_MASK == *id);
    family.is_none_or(|it| mark >> FAMILY_AT == it) && ids.iter().all(names)
}

impl Sought {
    /// Every entry is meant.
    pub fn is_empty(&self) -> bool {
        *self == Sought::default()
    }
}

impl Timeline {
    /// How many entries are not marked yet.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn left(&self, state: &Snapshot) -> Result<u64, Error> {
        Ok(state.size()?.saturating_sub(self.marks.len() as u64))
    }

    /// Marks at most `limit` entries.
    ///
    /// # Errors
    /// When an entry can't be read. What was marked before it stays marked, once.
    pub fn go_on(&mut self, limit: usize, state: &Snapshot) -> Result<(), Error> {
        if self.marks.is_empty() {
            self.marks
                .reserve_exact(usize::try_from(state.size()?).unwrap_or(0) + ROOM);
        }
        state.each_leaf(self.marks.len() as u64, limit, |seq, leaf| -> Result<(), Error> {
            let mark = mark(leaf).map_err(|e| damaged(format!("entry {seq}: {e}")))?;
            if self.marks.len() == self.marks.capacity() {
                self.marks.reserve_exact(ROOM);
            }
            self.marks.push(mark);
            Ok(())
        })
    }

    /// Positions in `first..end` where what is sought can be, the newest first, at most `limit`.
    pub fn newest(&self, sought: &Sought, first: u64, end: u64, limit: usize) -> Vec<u64> {
        let family = sought.family.as_deref().map(of_family);
        let ids: Vec<u64> = sought.ids.iter().map(|it| of_id(it)).collect();
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(self.marks.len());
        let first = usize::try_from(first).unwrap_or(usize::MAX).min(end);
        let found = self.marks[first..end].iter().enumerate().rev();
        found
            .filter(|(_, mark)| can_be(**mark, family, &ids))
            .map(|(at, _)| (first + at) as u64)
            .take(limit)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn line(entries: &[Value]) -> Timeline {
        let marks = entries.iter().map(|it| mark(it.to_string().as_bytes()));
        Timeline {
            marks: marks.collect::<Result<_, _>>().expect("entries"),
        }
    }

    fn sought(family: Option<&str>, ids: &[&str]) -> Sought {
        Sought {
            family: family.map(str::to_owned),
            ids: ids.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    #[test]
    fn an_entry_is_found_by_its_family_and_by_whomever_it_names() {
        let line = line(&[
            json!({"type": "request.opened", "actor": {"kind": "key", "id": "key_1"}, "object": {"kind": "request", "id": "apr_1"},
                "data": {"request": "apr_1"}}),
            json!({"type": "decision.recorded", "actor": {"kind": "person", "id": "per_1"}, "data": {"request": "apr_1", "person": "per_1"}}),
            json!({"type": "person.invited", "actor": {"kind": "host"}, "object": null, "data": {"person": {"id": "per_1"}}}),
            json!({"type": "request.approved", "actor": {"kind": "system"}, "data": {"request": "apr_1"}}),
        ]);
        let at = |family, ids: &[&str]| line.newest(&sought(family, ids), 0, 9, 9);
        assert_eq!(at(None, &[]), [3, 2, 1, 0]);
        assert_eq!(at(Some("request"), &[]), [3, 0]);
        assert_eq!(at(None, &["apr_1"]), [3, 1, 0]);
        assert_eq!(at(None, &["per_1"]), [1]);
        assert_eq!(at(Some("request"), &["apr_1"]), [3, 0]);
        assert_eq!(at(None, &["apr_1", "per_1"]), [1]);
        assert_eq!(at(None, &["apr_2"]), [0; 0]);
        assert_eq!(line.newest(&sought(None, &["apr_1"]), 1, 3, 9), [1]);
        assert_eq!(line.newest(&sought(None, &["apr_1"]), 0, 4, 2), [3, 1]);
        assert_eq!(line.newest(&sought(None, &[]), 7, 3, 2), [0; 0]);
    }

    proptest! {
        /// Whatever is there is found; what is found beside it is little.
        #[test]
        fn nothing_that_is_meant_is_passed_over(
            entries in proptest::collection::vec((0_u8..5, 0_u16..60, 0_u16..60, 0_u16..60, 0_u16..60), 1..200),
            family in proptest::option::of(0_u8..5),
            id in proptest::option::of(0_u16..60),
        ) {
            let families = ["request", "decision", "exception", "person", "key"];
            let id_of = |n: u16| format!("per_{n}");
            let all: Vec<Value> = entries.iter().map(|(kind, a, b, c, d)| json!({
                "type": format!("{}.happened", families[usize::from(*kind)]), "actor": {"kind": "person", "id": id_of(*a)},
                "object": {"kind": "person", "id": id_of(*b)}, "data": {"person": id_of(*c), "request": id_of(*d)},
            })).collect();
            let sought = Sought {
                family: family.map(|it| families[usize::from(it)].to_owned()),
                ids: id.map(id_of).into_iter().collect(),
            };
            let found = line(&all).newest(&sought, 0, all.len() as u64, all.len());
            for (at, (kind, a, b, c, d)) in entries.iter().enumerate() {
                let meant = family.is_none_or(|it| it == *kind) && id.is_none_or(|it| [a, b, c, d].contains(&&it));
                prop_assert!(!meant || found.contains(&(at as u64)));
            }
            prop_assert!(found.windows(2).all(|it| it[0] > it[1]));
        }
    }
}
