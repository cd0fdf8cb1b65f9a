//! What was read at one size of the journal. All recorded state follows from the journal, so until it grows the same
//! question has the same answer; then everything here is forgotten.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Answers to questions, at one size of the journal.
pub struct Recent<K, V> {
    held: Mutex<(u64, HashMap<K, V>)>,
    most: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Nothing yet, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Recent {
            held: Mutex::new((0, HashMap::new())),
            most,
        }
    }

    /// The answer that was found at this size.
    pub fn get(&self, size: u64, key: &K) -> Option<V> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 == size {
            held.1.get(key).cloned()
        } else {
            None
        }
    }

    /// Keeps an answer. `size` was read before the answer was: what is kept may be newer, never older.
    pub fn put(&self, size: u64, key: K, value: V) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if size < held.0 {
            return;
        }
        if size > held.0 || held.1.len() >= self.most {
            held.1.clear();
            held.0 = size;
        }
        held.1.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_the_journal_grew_is_never_given_again() {
        let recent = Recent::new(2);
        recent.put(5, "a", 1);
        assert_eq!(recent.get(5, &"a"), Some(1));
        assert_eq!(recent.get(6, &"a"), None);
        recent.put(6, "b", 2);
        assert_eq!(recent.get(6, &"a"), None);
        recent.put(5, "a", 1);
        assert_eq!(recent.get(6, &"a"), None, "late and old");
        recent.put(6, "c", 3);
        recent.put(6, "d", 4);
        assert_eq!(
            (recent.get(6, &"b"), recent.get(6, &"d")),
            (None, Some(4)),
            "bounded"
        );
    }
}
