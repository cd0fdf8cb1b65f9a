//! A journal that is smaller than, or another one than, what a checkpoint outside the data directory says: an older copy
//! of the data directory, or a changed one.

use crate::domain::ids::{Digest, PersonId};
use serde::{Deserialize, Serialize};

/// Admins who must agree to go on from such a journal.
pub const ADMINS_NEEDED: usize = 2;

/// A checkpoint that the journal does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundCheckpoint {
    /// Where it was found, for people.
    pub place: String,
    /// How many entries it covers.
    pub size: u64,
    /// The signed note, as it was found.
    pub checkpoint: String,
}

/// Somebody who agreed to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackConfirmation {
    /// `None`: the appliance's own host.
    pub person: Option<PersonId>,
    pub name: String,
    /// Blob with what was signed and the signature; `None` for the host.
    pub evidence_sha256: Option<Digest>,
}
