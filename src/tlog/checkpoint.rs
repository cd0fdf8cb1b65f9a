//! Checkpoints (c2sp.org/tlog-checkpoint): the size and root of a log at one time, as the text the log key signs.
//! It never signs.

use crate::tlog::hash::{Hash, decimal, empty_root};
use crate::tlog::note::{self, Note, NoteError, VerifierKey, is_key_name};

/// Why a checkpoint is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The origin is empty or has a space, a plus or a control character, so that no key can bear it as its name.
    #[error("the checkpoint's origin is malformed")]
    BadOrigin,
    /// The text is not made of origin, size, root and non-empty extension lines.
    #[error("the checkpoint's text is malformed")]
    Malformed,
    /// A tree without leaves has one root only, and this is another.
    #[error("the checkpoint's root is not that of an empty tree")]
    EmptyRoot,
    /// No key that bears the origin as its name has signed.
    #[error("the checkpoint is not signed by a key of its origin")]
    OtherOrigin,
    /// The signed note is at fault.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What a log says of itself at one time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

impl Checkpoint {
    /// A checkpoint to be signed.
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        if !is_key_name(origin) {
            return Err(CheckpointError::BadOrigin);
        }
        if size == 0 && root != empty_root() {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }

    /// The log's name, also that of its keys.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree of that size.
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The text to be signed: its UTF-8 bytes are what goes to the signer.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root.base64())
    }

    /// The signed checkpoint, from the log key and its signature over [`Checkpoint::body`], which is checked first.
    pub fn assemble(&self, public_key: [u8; 32], signature: &[u8; 64]) -> Result<String, CheckpointError> {
        let key = VerifierKey::new(&self.origin, public_key)?;
        Ok(note::assemble(&self.body(), &key, signature)?)
    }

    /// Reads a checkpoint's text, which must have been verified already. Extension lines are passed over.
    pub fn parse_body(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text
            .strip_suffix('\n')
            .ok_or(CheckpointError::Malformed)?
            .split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Malformed);
        };
        if lines.any(str::is_empty) {
            return Err(CheckpointError::Malformed);
        }
        let size = decimal(size).ok_or(CheckpointError::Malformed)?;
        let root = Hash::from_base64(root).ok_or(CheckpointError::Malformed)?;
        Self::new(origin, size, root)
    }

    /// Reads a signed checkpoint and checks that a key named like its origin has signed it. Tells which of the keys
    /// did, so that a caller can see whether that key was in use at this size.
    pub fn open<'k>(
        note: &[u8],
        keys: &'k [VerifierKey],
    ) -> Result<(Self, Vec<&'k VerifierKey>), CheckpointError> {
        let note = Note::parse(note)?;
        let mut signers = note.verify(keys)?;
        let checkpoint = Self::parse_body(note.text())?;
        signers.retain(|key| key.name() == checkpoint.origin);
        if signers.is_empty() {
            return Err(CheckpointError::OtherOrigin);
        }
        Ok((checkpoint, signers))
    }
}
