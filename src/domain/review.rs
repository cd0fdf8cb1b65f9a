//! Reviews of the journal: somebody looked a period over and says so (21 CFR 11.10(e), Annex 11 section 9: audit trails
//! are reviewed). Their sign-off is itself an entry.

use crate::domain::ids::PersonId;
use crate::domain::state::{Fault, Read, Table, decode};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Rows of the reviews begin so; the position of their event follows, big-endian.
pub const PREFIX: &[u8] = b"reviews/";

/// Somebody looked a period over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalReview {
    pub from: Time,
    /// Exclusive.
    pub to: Time,
    /// Entries the journal had when they looked.
    pub through: u64,
    pub person: PersonId,
    pub name: String,
    pub note: String,
    pub at: Time,
}

impl JournalReview {
    /// All of them, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn all(state: &impl Read) -> Result<Vec<JournalReview>, Fault> {
        let rows = state.with_prefix(Table::Counters, PREFIX)?;
        rows.iter().map(|(_, row)| decode(row)).collect()
    }
}
