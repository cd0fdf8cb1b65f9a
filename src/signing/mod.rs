//! The appliance's own signatures: an Ed25519 key for credentials, another for the log, and the vault that seals secrets.
//! It signs what it is handed and never knows what that means.

mod file;
mod vault;

pub use file::{KeyFileError, Passphrase, create_key_file, open_key_file};
pub use vault::{Vault, VaultError};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use std::sync::Arc;

/// Signs with one Ed25519 key.
pub trait Signer: Send + Sync {
    /// The public key, raw.
    fn public_key(&self) -> [u8; 32];
    /// A pure Ed25519 signature (RFC 8032) over `message`.
    ///
    /// # Errors
    /// `Away` when the key can't be used now.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key can't be reached. Nothing was signed; asking again later may help.
    #[error("the signing key can't be used now: {0}")]
    Away(String),
    /// What came back does not verify under the public key. It is never stored.
    #[error("the signing key answered with a signature that does not verify")]
    Wrong,
}

/// The two keys.
#[derive(Clone)]
pub struct Keys {
    /// Signs credentials and outcomes.
    pub credential: Arc<dyn Signer>,
    /// Signs checkpoints of the log.
    pub log: Arc<dyn Signer>,
}

/// Signs, and believes the signature only after checking it: a fault in a key device must not reach the journal.
///
/// # Errors
/// As `Signer::sign`, and `Wrong` when the answer does not verify.
pub fn sign_verified(signer: &dyn Signer, message: &[u8]) -> Result<[u8; 64], SignError> {
    let signature = signer.sign(message)?;
    let key = VerifyingKey::from_bytes(&signer.public_key()).map_err(|_| SignError::Wrong)?;
    key.verify_strict(message, &Signature::from_bytes(&signature))
        .map_err(|_| SignError::Wrong)?;
    Ok(signature)
}

/// A key held in memory, opened from its file. Wiped when dropped.
pub struct FileSigner {
    key: SigningKey,
}

impl FileSigner {
    /// Wraps a key.
    pub fn new(key: SigningKey) -> Self {
        FileSigner { key }
    }
}

impl Signer for FileSigner {
    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}
