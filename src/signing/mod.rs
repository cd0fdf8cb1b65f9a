//! The appliance's own signatures: an Ed25519 key for credentials, another for the log, and the vault that seals secrets.
//! It signs what it is handed and never knows what that means.

mod agent;
mod file;
mod vault;

pub use agent::{AgentSigner, Identity, agent_identities};
pub use file::{
    KeyFileError, Passphrase, PassphraseText, check_private, create_key_file, open_key_file, replace_private,
    sync_folder, write_key_file,
};
pub use vault::{Rewrapped, Vault, VaultError};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use std::sync::Arc;

/// Signs with one Ed25519 key.
pub trait Signer: Send + Sync {
    /// The public key, raw.
    fn public_key(&self) -> [u8; 32];
    /// Where the private key is: `file` or `agent`.
    fn backend(&self) -> &'static str;
    /// Whether the key can be used now, as far as can be told without signing.
    ///
    /// # Errors
    /// `Away` when it can't.
    fn check(&self) -> Result<(), SignError>;
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

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Credential,
    Log,
}

impl Use {
    /// The journal's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Use::Credential => "credential",
            Use::Log => "log",
        }
    }
}

/// Where the next keys come from, and what is done once the journal names them.
pub trait Keyring: Send {
    /// Makes, or finds, the key that is to follow. Until `promote` the old one stays usable after a crash.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn successor(&mut self, which: Use) -> Result<Arc<dyn Signer>, String>;
    /// The journal names the successor now: it takes the old one's place.
    ///
    /// # Errors
    /// For people. The journal stays right; the next start does what is left.
    fn promote(&mut self, which: Use) -> Result<(), String>;
    /// Nothing came of it.
    fn discard(&mut self, which: Use);
    /// Adds a data key, with which secrets are sealed from now on.
    ///
    /// # Errors
    /// For people; the older one goes on sealing.
    fn add_data_key(&mut self) -> Result<(), String>;
    /// Seals a stored secret anew with the newest data key.
    ///
    /// # Errors
    /// When it does not open.
    fn reseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String>;
    /// Nothing stored was sealed by an older data key any more.
    ///
    /// # Errors
    /// For people; the older ones then stay.
    fn forget_older_data_keys(&mut self) -> Result<(), String>;
    /// Puts everything that the passphrase guards under another one: all of it or nothing, also in a power cut.
    ///
    /// # Errors
    /// For people; the one of before then still holds. `from` has to be that one.
    fn change_passphrase(&mut self, from: &str, to: &str) -> Result<(), String>;
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

    fn backend(&self) -> &'static str {
        "file"
    }

    fn check(&self) -> Result<(), SignError> {
        Ok(())
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}
