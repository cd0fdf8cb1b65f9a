//! Where the signing keys of a data directory are, and how the next ones come: encrypted files, or an agent.

use crate::cli::passphrase;
use crate::domain::keys::KeyRecord;
use crate::evidence::dsse::{key_id, spki_of_ed25519};
use crate::signing::{
    AgentSigner, FileSigner, Identity, KeyFileError, Keyring, Passphrase, Signer, Use, Vault,
    agent_identities, create_key_file, open_key_file, sync_folder,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Folder of the keys in the data directory.
pub const KEYS: &str = "keys";
/// In evaluation only: the passphrase beside them.
pub const PASSPHRASE: &str = "passphrase";

/// Where keys are made and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    File,
    Agent {
        socket: PathBuf,
        /// Fingerprint or comment of the two keys.
        credential: String,
        log: String,
    },
}

impl Backend {
    fn called(&self, which: Use) -> Option<(&Path, &str)> {
        match self {
            Backend::File => None,
            Backend::Agent {
                socket,
                credential,
                log,
            } => Some((socket, if which == Use::Log { log } else { credential })),
        }
    }
}

/// The passphrase and how it came about.
pub struct Secret {
    pub text: Zeroizing<String>,
    /// 256 random bits made by this program.
    pub random: bool,
}

impl Secret {
    pub fn as_passphrase(&self) -> Passphrase<'_> {
        if self.random {
            Passphrase::Random(&self.text)
        } else {
            Passphrase::Chosen(&self.text)
        }
    }
}

/// Path of the key file in use.
pub fn key_path(data_dir: &Path, which: Use) -> PathBuf {
    data_dir.join(KEYS).join(format!("{}.pem", which.name()))
}

/// Path of the key file that is to follow.
fn next_path(data_dir: &Path, which: Use) -> PathBuf {
    data_dir.join(KEYS).join(format!("{}-next.pem", which.name()))
}

/// The key files of one use, as they were found.
pub struct Found {
    current: Option<SigningKey>,
    next: Option<SigningKey>,
}

impl Found {
    /// Opens the key files of a use, where they are there.
    pub fn open(data_dir: &Path, which: Use, passphrase: &str) -> Result<Found, KeyFileError> {
        let open = |path: PathBuf| match path.exists() {
            true => open_key_file(&path, passphrase).map(Some),
            false => Ok(None),
        };
        Ok(Found {
            current: open(key_path(data_dir, which))?,
            next: open(next_path(data_dir, which))?,
        })
    }

    /// The key in use, where it is in a file.
    pub fn current(&self) -> Option<&SigningKey> {
        self.current.as_ref()
    }

    /// The signer that the journal names, and what a change of keys that was cut short left to do is done: the named
    /// key's file is put in its place, another one removed.
    ///
    /// # Errors
    /// For people: there is no such key here.
    pub fn named(
        self,
        record: &KeyRecord,
        which: Use,
        data_dir: &Path,
        backend: &Backend,
    ) -> Result<Arc<dyn Signer>, String> {
        let is_named =
            |key: &SigningKey| key_id(&spki_of_ed25519(&key.verifying_key().to_bytes())) == record.keyid;
        let (path, next) = (key_path(data_dir, which), next_path(data_dir, which));
        if let Some(key) = self.current.filter(is_named) {
            if self.next.is_some() {
                remove(&next)?;
            }
            return Ok(Arc::new(FileSigner::new(key)));
        }
        if let Some(key) = self.next.filter(is_named) {
            replace(&next, &path)?;
            return Ok(Arc::new(FileSigner::new(key)));
        }
        let Some((socket, _)) = backend.called(which) else {
            return Err(format!(
                "the {} key is not the one this journal names",
                which.name()
            ));
        };
        // Whether the agent has it now is no matter: it may come later.
        let spki = STANDARD.decode(&record.spki).map_err(|e| e.to_string())?;
        let raw = spki.len().checked_sub(32).map(|at| &spki[at..]);
        let raw = raw.and_then(|it| <[u8; 32]>::try_from(it).ok());
        let raw = raw.ok_or("the journal names a key that is none")?;
        if path.exists() {
            remove(&path)?;
        }
        Ok(Arc::new(AgentSigner::new(socket, raw)))
    }
}

fn remove(path: &Path) -> Result<(), String> {
    std::fs::remove_file(path)
        .and_then(|()| sync_folder(path))
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn replace(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::rename(from, to)
        .and_then(|()| sync_folder(to))
        .map_err(|e| format!("{}: {e}", to.display()))
}

/// Makes the first key of a use, or finds it in the agent.
///
/// # Errors
/// For people.
pub fn first_key(
    data_dir: &Path,
    which: Use,
    backend: &Backend,
    passphrase: Passphrase<'_>,
) -> Result<Arc<dyn Signer>, String> {
    match backend.called(which) {
        None => {
            let key = create_key_file(&key_path(data_dir, which), passphrase).map_err(|e| e.to_string())?;
            Ok(Arc::new(FileSigner::new(key)))
        }
        Some((socket, name)) => in_agent(socket, name, which, None),
    }
}

/// The one key of that name in the agent, other than the one that signs now.
fn in_agent(socket: &Path, name: &str, which: Use, now: Option<[u8; 32]>) -> Result<Arc<dyn Signer>, String> {
    let mut called: Vec<Identity> = agent_identities(socket)?;
    called.retain(|it| it.is_called(name));
    let known = called.len();
    called.retain(|it| Some(it.public_key) != now);
    match called.as_slice() {
        [one] => Ok(Arc::new(AgentSigner::new(socket, one.public_key))),
        [] if known > 0 => Err(format!(
            "the agent's key {name:?} is the {} key that signs now: make another one, or set `keys.{}` to its fingerprint",
            which.name(),
            which.name()
        )),
        [] => Err(format!(
            "the agent at {} has no Ed25519 key {name:?}",
            socket.display()
        )),
        _ => Err(format!(
            "the agent has {} keys {name:?}: set `keys.{}` to the fingerprint of one",
            called.len(),
            which.name()
        )),
    }
}

/// The keys of a running appliance.
pub struct DirectoryKeyring {
    pub data_dir: PathBuf,
    pub backend: Backend,
    pub secret: Secret,
    pub vault: Arc<Vault>,
    /// The public keys that sign now: credential, log.
    pub now: [[u8; 32]; 2],
    /// What `successor` found, until it is promoted or discarded.
    pub coming: Option<[u8; 32]>,
}

impl DirectoryKeyring {
    fn slot(which: Use) -> usize {
        usize::from(which == Use::Log)
    }
}

impl Keyring for DirectoryKeyring {
    fn successor(&mut self, which: Use) -> Result<Arc<dyn Signer>, String> {
        let now = self.now[Self::slot(which)];
        let signer: Arc<dyn Signer> = match self.backend.called(which) {
            Some((socket, name)) => in_agent(socket, name, which, Some(now))?,
            None => {
                let path = next_path(&self.data_dir, which);
                if path.exists() {
                    // Left by a change that came to nothing: no journal names it.
                    remove(&path)?;
                }
                let key = create_key_file(&path, self.secret.as_passphrase()).map_err(|e| e.to_string())?;
                Arc::new(FileSigner::new(key))
            }
        };
        self.coming = Some(signer.public_key());
        Ok(signer)
    }

    fn promote(&mut self, which: Use) -> Result<(), String> {
        if let Some(coming) = self.coming.take() {
            self.now[Self::slot(which)] = coming;
        }
        let (path, next) = (key_path(&self.data_dir, which), next_path(&self.data_dir, which));
        match self.backend {
            Backend::File => replace(&next, &path),
            // It was in a file until now.
            Backend::Agent { .. } if path.exists() => remove(&path),
            Backend::Agent { .. } => Ok(()),
        }
    }

    fn discard(&mut self, which: Use) {
        self.coming = None;
        let next = next_path(&self.data_dir, which);
        if next.exists()
            && let Err(error) = remove(&next)
        {
            tracing::warn!(%error, "a key that nobody needs could not be removed");
        }
    }

    fn add_data_key(&mut self) -> Result<(), String> {
        self.vault.add_key().map_err(|e| e.to_string())
    }

    fn reseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let plain = self.vault.unseal(name, sealed).map_err(|e| e.to_string())?;
        Ok(self.vault.seal(name, &Zeroizing::new(plain)))
    }

    fn forget_older_data_keys(&mut self) -> Result<(), String> {
        self.vault.forget_older_keys().map_err(|e| e.to_string())
    }

    fn change_passphrase(&mut self, from: &str, to: &str) -> Result<(), String> {
        use subtle::ConstantTimeEq as _;
        if self.data_dir.join(KEYS).join(PASSPHRASE).exists() {
            return Err("in evaluation the passphrase stands beside the keys and guards nothing".into());
        }
        if !bool::from(from.as_bytes().ct_eq(self.secret.text.as_bytes())) {
            return Err("the passphrase until now is another".into());
        }
        let rewrapped = passphrase::put_under(&self.data_dir, &self.vault, from, to)?;
        self.vault.adopt(rewrapped);
        self.secret = Secret {
            text: Zeroizing::new(to.to_owned()),
            random: false,
        };
        Ok(())
    }
}
