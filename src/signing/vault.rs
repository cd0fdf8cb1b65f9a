//! Seals secrets at rest: XChaCha20-Poly1305 with the secret's name as associated data, so that sealed values can't be
//! swapped. The data key is random, kept wrapped in a file of its own.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// First byte of everything sealed, so that the form can change.
const FORM: u8 = 1;
const NONCE_BYTES: usize = 24;

/// Why a secret can't be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The data key's file can't be read or written.
    #[error("the data key's file: {0}")]
    Io(#[from] std::io::Error),
    /// The sealed bytes are damaged, stand under another name or belong to another key.
    #[error("a sealed secret can't be opened")]
    Sealed,
}

/// Seals and opens secrets.
pub struct Vault {
    cipher: XChaCha20Poly1305,
}

impl Vault {
    /// Makes a new data key, wrapped under `root`, in a new file of mode 0600.
    pub fn create(path: &Path, root: &[u8; 32]) -> Result<Vault, VaultError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).expect("the system's random numbers never run out");
        let wrapped = wrapping(root).seal("data key", &*key);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(&wrapped)?;
        file.sync_all()?;
        Ok(Vault::with_key(&key))
    }

    /// Opens the data key.
    pub fn open(path: &Path, root: &[u8; 32]) -> Result<Vault, VaultError> {
        let wrapped = std::fs::read(path)?;
        let key = Zeroizing::new(wrapping(root).unseal("data key", &wrapped)?);
        let key: [u8; 32] = key.as_slice().try_into().map_err(|_| VaultError::Sealed)?;
        Ok(Vault::with_key(&Zeroizing::new(key)))
    }

    /// Seals a secret under its name.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the system's random numbers never run out");
        let payload = Payload {
            msg: secret,
            aad: name.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("secrets are far below the cipher's limit");
        [&[FORM][..], &nonce, &sealed].concat()
    }

    /// Opens what was sealed under the same name.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (form, rest) = sealed.split_first().ok_or(VaultError::Sealed)?;
        let (nonce, text) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(VaultError::Sealed)?;
        if *form != FORM {
            return Err(VaultError::Sealed);
        }
        let payload = Payload {
            msg: text,
            aad: name.as_bytes(),
        };
        self.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| VaultError::Sealed)
    }

    fn with_key(key: &[u8; 32]) -> Vault {
        Vault {
            cipher: XChaCha20Poly1305::new(&Key::from(*key)),
        }
    }
}

/// The key that wraps the data key, derived so that the root itself is never used as a cipher key.
fn wrapping(root: &[u8; 32]) -> Vault {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, root)
        .expand(b"signedapproval/data-key/v1", &mut *key)
        .expect("32 bytes are within HKDF's limit");
    Vault::with_key(&key)
}
