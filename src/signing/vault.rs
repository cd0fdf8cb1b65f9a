//! Seals secrets at rest: XChaCha20-Poly1305 with table and name as associated data, so that sealed values can't be
//! swapped. The data keys are random and stand in one file, wrapped under the passphrase; a new one can follow at any
//! time, and each sealed secret names the one it was sealed with.

use crate::signing::file::{Passphrase, replace_private};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use zeroize::Zeroizing;

/// First byte of everything sealed by a version that knew one data key, bound to the name alone.
const FORM_ONE_KEY: u8 = 1;
/// First byte of everything sealed now: the data key's number follows.
const FORM: u8 = 2;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// How the wrapping key comes from the passphrase: stretched, or, where it is 256 random bits, derived.
const STRETCHED: u8 = 1;
const DERIVED: u8 = 2;
/// scrypt's cost for a passphrase that somebody chose: as for the key files beside it.
const SCRYPT_LOG_N: u8 = 14;
/// What the wrapped data keys are bound to.
const DATA_KEYS: &str = "signedapproval/data-keys/v2";

/// Why a secret can't be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The data keys' file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The data keys' file does not open under this passphrase, or is damaged.
    #[error("{0}: the passphrase does not open the data keys")]
    Passphrase(String),
    /// The sealed bytes are damaged, stand under another name or belong to another key.
    #[error("a sealed secret can't be opened")]
    Sealed,
}

struct DataKey {
    number: u32,
    cipher: XChaCha20Poly1305,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl DataKey {
    fn new(number: u32, bytes: Zeroizing<[u8; KEY_BYTES]>) -> DataKey {
        DataKey {
            number,
            cipher: XChaCha20Poly1305::new(&Key::from(*bytes)),
            bytes,
        }
    }

    fn random(number: u32) -> DataKey {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).expect("the system's random numbers never run out");
        DataKey::new(number, bytes)
    }
}

/// Seals and opens secrets.
pub struct Vault {
    path: PathBuf,
    /// What wraps the data keys, and how it came from the passphrase.
    wrapping: RwLock<Wrapping>,
    /// Oldest first; the newest seals.
    keys: RwLock<Vec<DataKey>>,
}

struct Wrapping {
    how: u8,
    salt: [u8; SALT_BYTES],
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Wrapping {
    /// Under a passphrase, with a salt of its own.
    fn fresh(passphrase: Passphrase<'_>) -> Wrapping {
        let how = match passphrase {
            Passphrase::Chosen(_) => STRETCHED,
            Passphrase::Random(_) => DERIVED,
        };
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).expect("the system's random numbers never run out");
        Wrapping::new(how, salt, passphrase.text())
    }

    fn new(how: u8, salt: [u8; SALT_BYTES], passphrase: &str) -> Wrapping {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if how == STRETCHED {
            let parameters = scrypt::Params::new(SCRYPT_LOG_N, 8, 1).expect("these parameters are valid");
            scrypt::scrypt(passphrase.as_bytes(), &salt, &parameters, &mut *key)
                .expect("32 bytes are within scrypt's limit");
        } else {
            Hkdf::<Sha256>::new(Some(&salt), passphrase.as_bytes())
                .expand(DATA_KEYS.as_bytes(), &mut *key)
                .expect("32 bytes are within HKDF's limit");
        }
        Wrapping { how, salt, key }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key))
    }
}

impl Vault {
    /// Makes a first data key, wrapped under the passphrase, in a file of mode 0600.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn create(path: &Path, passphrase: Passphrase<'_>) -> Result<Vault, VaultError> {
        let vault = Vault {
            path: path.to_owned(),
            wrapping: RwLock::new(Wrapping::fresh(passphrase)),
            keys: RwLock::new(vec![DataKey::random(1)]),
        };
        vault.write(&vault.keys.read().unwrap_or_else(PoisonError::into_inner))?;
        Ok(vault)
    }

    /// Whether a passphrase opens the data keys. Nothing is written.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_only(
        path: &Path,
        passphrase: Passphrase<'_>,
        root: impl FnOnce() -> Option<Zeroizing<[u8; KEY_BYTES]>>,
    ) -> Result<(), VaultError> {
        let file = std::fs::read(path).map_err(|source| VaultError::Io {
            path: path.display().to_string(),
            source,
        })?;
        if file.first() != Some(&FORM_ONE_KEY) {
            return Vault::open(path, passphrase, || None).map(|_| ());
        }
        root()
            .and_then(|root| open_first_form(&root, &file))
            .map(|_| ())
            .ok_or_else(|| VaultError::Passphrase(path.display().to_string()))
    }

    /// Opens the data keys. A file of the first form hangs on the credential key, which `root` answers; it is written
    /// anew in today's form.
    ///
    /// # Errors
    /// `Passphrase` when the file does not open under it.
    pub fn open(
        path: &Path,
        passphrase: Passphrase<'_>,
        root: impl FnOnce() -> Option<Zeroizing<[u8; KEY_BYTES]>>,
    ) -> Result<Vault, VaultError> {
        let file = std::fs::read(path).map_err(|source| VaultError::Io {
            path: path.display().to_string(),
            source,
        })?;
        let wrong = || VaultError::Passphrase(path.display().to_string());
        if file.first() == Some(&FORM_ONE_KEY) {
            let root = root().ok_or_else(wrong)?;
            let bytes = open_first_form(&root, &file).ok_or_else(wrong)?;
            let vault = Vault::create(path, passphrase)?;
            *vault.keys.write().unwrap_or_else(PoisonError::into_inner) = vec![DataKey::new(1, bytes)];
            vault.write(&vault.keys.read().unwrap_or_else(PoisonError::into_inner))?;
            return Ok(vault);
        }
        let (how, salt, nonce, text) = parts(&file).ok_or_else(wrong)?;
        let wrapping = Wrapping::new(how, salt, passphrase.text());
        let payload = Payload {
            msg: text,
            aad: DATA_KEYS.as_bytes(),
        };
        let plain = wrapping.cipher().decrypt(&XNonce::from(nonce), payload);
        let plain = Zeroizing::new(plain.map_err(|_| wrong())?);
        let mut keys = Vec::new();
        for row in plain.chunks_exact(4 + KEY_BYTES) {
            let (number, bytes) = row.split_at(4);
            let number = u32::from_be_bytes(number.try_into().expect("four bytes"));
            let bytes: [u8; KEY_BYTES] = bytes.try_into().expect("32 bytes");
            keys.push(DataKey::new(number, Zeroizing::new(bytes)));
        }
        if keys.is_empty() {
            return Err(wrong());
        }
        Ok(Vault {
            path: path.to_owned(),
            wrapping: RwLock::new(wrapping),
            keys: RwLock::new(keys),
        })
    }

    /// Seals a secret under its name, with the newest data key.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Vec<u8> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let newest = keys.last().expect("there is always one");
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the system's random numbers never run out");
        let number = newest.number.to_be_bytes();
        let payload = Payload {
            msg: secret,
            aad: &associated(name, newest.number),
        };
        let sealed = newest
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("secrets are far below the cipher's limit");
        [&[FORM][..], &number, &nonce, &sealed].concat()
    }

    /// Opens what was sealed under the same name.
    ///
    /// # Errors
    /// `Sealed` when it is damaged, stands under another name or was sealed by a data key that is gone.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (form, rest) = sealed.split_first().ok_or(VaultError::Sealed)?;
        let (number, aad, rest) = match *form {
            FORM_ONE_KEY => (1, name.as_bytes().to_vec(), rest),
            FORM => {
                let (number, rest) = rest.split_first_chunk::<4>().ok_or(VaultError::Sealed)?;
                let number = u32::from_be_bytes(*number);
                (number, associated(name, number), rest)
            }
            _ => return Err(VaultError::Sealed),
        };
        let (nonce, msg) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(VaultError::Sealed)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys
            .iter()
            .find(|it| it.number == number)
            .ok_or(VaultError::Sealed)?;
        key.cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg, aad: &aad })
            .map_err(|_| VaultError::Sealed)
    }

    /// Number of the data key that seals now.
    pub fn newest(&self) -> u32 {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.last().expect("there is always one").number
    }

    /// Adds a data key that seals from now on, durable before it seals anything. The older ones still open.
    ///
    /// # Errors
    /// When the file can't be written; the older key then goes on sealing.
    pub fn add_key(&self) -> Result<(), VaultError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let number = keys.last().expect("there is always one").number + 1;
        keys.push(DataKey::random(number));
        if let Err(error) = self.write(&keys) {
            keys.pop();
            return Err(error);
        }
        Ok(())
    }

    /// Forgets all data keys but the newest. Only once nothing sealed by them is stored any more.
    ///
    /// # Errors
    /// When the file can't be written; the older keys then stay.
    pub fn forget_older_keys(&self) -> Result<(), VaultError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let newest = keys.len() - 1;
        self.write(&keys[newest..])?;
        keys.drain(..newest);
        Ok(())
    }

    /// Writes the data keys to another file, under another passphrase. Nothing else changes: see [`Vault::adopt`].
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write_under(&self, path: &Path, passphrase: Passphrase<'_>) -> Result<Rewrapped, VaultError> {
        let wrapping = Wrapping::fresh(passphrase);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        write_keys(path, &wrapping, &keys)?;
        Ok(Rewrapped(wrapping))
    }

    /// The file that was written under another passphrase stands in this one's place now.
    pub fn adopt(&self, rewrapped: Rewrapped) {
        *self.wrapping.write().unwrap_or_else(PoisonError::into_inner) = rewrapped.0;
    }

    fn write(&self, keys: &[DataKey]) -> Result<(), VaultError> {
        let wrapping = self.wrapping.read().unwrap_or_else(PoisonError::into_inner);
        write_keys(&self.path, &wrapping, keys)
    }
}

/// How the data keys are wrapped in a file that is to take the place of the one in use.
pub struct Rewrapped(Wrapping);

fn write_keys(path: &Path, wrapping: &Wrapping, keys: &[DataKey]) -> Result<(), VaultError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(keys.len() * (4 + KEY_BYTES)));
    for key in keys {
        plain.extend_from_slice(&key.number.to_be_bytes());
        plain.extend_from_slice(&*key.bytes);
    }
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the system's random numbers never run out");
    let payload = Payload {
        msg: &plain,
        aad: DATA_KEYS.as_bytes(),
    };
    let sealed = wrapping
        .cipher()
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a few keys are far below the cipher's limit");
    let file = [&[FORM, wrapping.how][..], &wrapping.salt, &nonce, &sealed].concat();
    replace_private(path, &file).map_err(|source| VaultError::Io {
        path: path.display().to_string(),
        source,
    })
}

/// What a sealed secret is bound to: its table, its name and the data key's number.
fn associated(name: &str, number: u32) -> Vec<u8> {
    [
        &b"signedapproval/sealed/v2\0secrets\0"[..],
        name.as_bytes(),
        b"\0",
        &number.to_be_bytes(),
    ]
    .concat()
}

type Parts<'a> = (u8, [u8; SALT_BYTES], [u8; NONCE_BYTES], &'a [u8]);

fn parts(file: &[u8]) -> Option<Parts<'_>> {
    let ([form, how], rest) = file.split_first_chunk::<2>()?;
    let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>()?;
    let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let known = *form == FORM && matches!(*how, STRETCHED | DERIVED);
    known.then_some((*how, *salt, *nonce, text))
}

/// The one data key of a file of the first form, which was wrapped under a key derived from the credential key.
fn open_first_form(root: &[u8; KEY_BYTES], file: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Hkdf::<Sha256>::new(None, root)
        .expand(b"signedapproval/data-key/v1", &mut *key)
        .ok()?;
    let (nonce, msg) = file.get(1..)?.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg,
        aad: b"data key",
    };
    let plain = XChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(&XNonce::from(*nonce), payload)
        .ok()?;
    let plain = Zeroizing::new(plain);
    Some(Zeroizing::new(plain.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).expect("random");
        std::env::temp_dir().join(format!("sa-vault-{name}-{}", hex::encode(bits)))
    }

    #[test]
    fn secrets_open_under_their_own_name_and_passphrase_only() {
        let path = place("names");
        let vault = Vault::create(&path, Passphrase::Random("one")).expect("created");
        let sealed = vault.seal("a", b"secret");
        assert_eq!(vault.unseal("a", &sealed).expect("opens"), b"secret");
        assert!(vault.unseal("b", &sealed).is_err(), "swapped rows do not open");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(vault.unseal("a", &changed).is_err(), "byte {at}");
        }
        assert!(matches!(
            Vault::open(&path, Passphrase::Random("two"), || None),
            Err(VaultError::Passphrase(_))
        ));
        let again = Vault::open(&path, Passphrase::Random("one"), || None).expect("opens");
        assert_eq!(again.unseal("a", &sealed).expect("opens"), b"secret");
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_new_data_key_seals_and_the_old_one_opens_until_it_is_forgotten() {
        let path = place("rotation");
        let vault = Vault::create(&path, Passphrase::Random("one")).expect("created");
        let before = vault.seal("a", b"secret");
        vault.add_key().expect("added");
        let after = vault.seal("a", b"secret");
        let again = Vault::open(&path, Passphrase::Random("one"), || None).expect("opens");
        for sealed in [&before, &after] {
            assert_eq!(again.unseal("a", sealed).expect("opens"), b"secret");
        }
        again.forget_older_keys().expect("forgotten");
        let again = Vault::open(&path, Passphrase::Random("one"), || None).expect("opens");
        assert!(again.unseal("a", &before).is_err());
        assert_eq!(again.unseal("a", &after).expect("opens"), b"secret");
        std::fs::remove_file(&path).expect("removed");
    }
}
