//! Offline proofs that a leaf is in a log (`c2sp.org/tlog-proof@v1`): leaf index, audit path and signed checkpoint in
//! one text.
//!
//! Nothing in our proofs is unauthenticated: the optional `extra` line and a second signature line, which a verifier
//! could only pass over, are refused. So there is one text for one statement, and no byte of it can be changed.

use crate::tlog::checkpoint::{Checkpoint, CheckpointError};
use crate::tlog::hash::{Hash, decimal, leaf_hash};
use crate::tlog::note::{NOTE_BYTES_MAX, Note, NoteError, VerifierKey};
use crate::tlog::tree::{VerifyError, verify_inclusion};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// A tree of 2^64 leaves has no longer path.
const HASHES_MAX: usize = 64;
/// No proof is longer: its lines before the checkpoint have at most 45 bytes, newline included.
pub const PROOF_BYTES_MAX: usize = (HASHES_MAX + 3) * 45 + NOTE_BYTES_MAX;

/// Why a proof is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Longer than [`PROOF_BYTES_MAX`].
    #[error("the proof is too long")]
    TooLong,
    /// Not UTF-8.
    #[error("the proof is not text")]
    NotText,
    /// The first line is another, or the lines up to the checkpoint are not as they must be.
    #[error("the proof is malformed")]
    Malformed,
    /// The proof has the optional `extra` line, which nothing authenticates.
    #[error("the proof has extra data")]
    ExtraData,
    /// The checkpoint has more than one signature.
    #[error("the proof's checkpoint has more than one signature")]
    ManySignatures,
    /// The checkpoint is at fault.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the leaf to the checkpoint's root.
    #[error(transparent)]
    Inclusion(#[from] VerifyError),
}

impl From<NoteError> for ProofError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// A proof as it was read or made. Nothing in it may be believed before [`Proof::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    index: u64,
    hashes: Vec<Hash>,
    /// The signed note, verbatim.
    checkpoint: String,
}

impl Proof {
    /// A proof from the leaf's index, its audit path and the signed checkpoint's verbatim text.
    pub fn new(index: u64, hashes: Vec<Hash>, checkpoint: &str) -> Result<Self, ProofError> {
        if hashes.len() > HASHES_MAX {
            return Err(ProofError::Malformed);
        }
        let note = Note::parse(checkpoint.as_bytes())?;
        if note.signatures().len() != 1 {
            return Err(ProofError::ManySignatures);
        }
        if index >= Checkpoint::parse_body(note.text())?.size() {
            return Err(ProofError::Inclusion(VerifyError::OutOfRange));
        }
        Ok(Self {
            index,
            hashes,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Reads a proof; accepts only what [`Proof::encode`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(ProofError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ProofError::NotText)?;
        let rest = text.strip_prefix(HEADER).ok_or(ProofError::Malformed)?;
        // The first empty line ends the path; the note has another one later.
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(ProofError::Malformed)?;
        let mut lines = head.split('\n');
        let first = lines.next().ok_or(ProofError::Malformed)?;
        if first.starts_with("extra ") {
            return Err(ProofError::ExtraData);
        }
        let index = first
            .strip_prefix("index ")
            .and_then(decimal)
            .ok_or(ProofError::Malformed)?;
        let hashes: Option<Vec<Hash>> = lines.take(HASHES_MAX + 1).map(Hash::from_base64).collect();
        Self::new(index, hashes.ok_or(ProofError::Malformed)?, checkpoint)
    }

    /// The proof's text.
    pub fn encode(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| hash.base64() + "\n").collect();
        format!("{HEADER}index {}\n{hashes}\n{}", self.index, self.checkpoint)
    }

    /// The leaf's index, 0-based.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The audit path, the leaf's sibling first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The signed checkpoint, verbatim: for [`Checkpoint::open`], which also tells the key.
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// Checks that a leaf of these bytes stands at [`Proof::index`] in the log whose checkpoint one of the keys has
    /// signed, and returns that checkpoint. The keys' names are the origins that are accepted.
    pub fn verify(&self, leaf: &[u8], keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        let (checkpoint, _) = Checkpoint::open(self.checkpoint.as_bytes(), keys)?;
        verify_inclusion(
            &leaf_hash(leaf),
            self.index,
            checkpoint.size(),
            &self.hashes,
            checkpoint.root(),
        )?;
        Ok(checkpoint)
    }
}
