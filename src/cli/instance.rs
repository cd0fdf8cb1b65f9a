//! The data directory: made once, whole or not at all; opened ever after; never replaced.

use crate::clock::Clock;
use crate::engine::{Begun, begin_instance, continue_instance};
use crate::signing::{
    FileSigner, KeyFileError, Keys, Passphrase, Vault, VaultError, create_key_file, open_key_file,
};
use crate::store;
use crate::store::Store;
use ed25519_dalek::SigningKey;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The journal and everything that follows from it.
const DATABASE: &str = "journal.redb";
/// Stands while the directory is being made. Whatever is in it then was never acknowledged to anybody.
const UNFINISHED: &str = "initialising";
const KEYS: &str = "keys";

/// What can be wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{0} holds files but no {DATABASE}. It is never replaced: restore it from a backup, or name another data directory"
    )]
    NoDatabase(PathBuf),
    #[error("{0}: another process serves this data directory")]
    InUse(PathBuf),
    #[error("{path}: {source}. It is never replaced: restore it from a backup")]
    Store {
        path: PathBuf,
        #[source]
        source: store::Error,
    },
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(
        "the signing keys need a passphrase: set SIGNEDAPPROVAL_KEYS__PASSPHRASE or …_FILE, or give systemd the credential `passphrase`"
    )]
    NoPassphrase,
}

/// An opened instance.
pub struct Instance {
    pub store: Arc<Store>,
    pub begun: Begun,
    pub vault: Vault,
    pub credential_public: [u8; 32],
    /// It was made by this very start.
    pub is_new: bool,
}

/// Opens the data directory, or makes it where there is nothing yet.
pub fn open(
    data_dir: &Path,
    passphrase: Option<&str>,
    evaluation: bool,
    public_url: &str,
    version: &str,
    clock: Arc<dyn Clock>,
) -> Result<Instance, Error> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(io(data_dir))?;
    let database = data_dir.join(DATABASE);
    let unfinished = data_dir.join(UNFINISHED);
    if unfinished.exists() && !database.exists() {
        clear(data_dir).map_err(io(data_dir))?;
    }
    let empty = std::fs::read_dir(data_dir)
        .map_err(io(data_dir))?
        .next()
        .is_none();
    let is_new = empty && !database.exists();
    if !is_new && !database.exists() {
        return Err(Error::NoDatabase(data_dir.to_owned()));
    }
    let passphrase = passphrase_of(data_dir, passphrase, evaluation, is_new)?;
    let failed = |source| match source {
        store::Error::InUse => Error::InUse(data_dir.to_owned()),
        source => Error::Store {
            path: database.clone(),
            source,
        },
    };
    if !is_new {
        let opened = std::thread::scope(|scope| {
            // The key files cost most of a start; they and the database are opened side by side.
            let credential = scope.spawn(|| open_key_file(&key_path(data_dir, "credential"), &passphrase));
            let log = scope.spawn(|| open_key_file(&key_path(data_dir, "log"), &passphrase));
            let store = Store::open(&database);
            let panicked = "opening a key file does not panic";
            (
                store,
                credential.join().expect(panicked),
                log.join().expect(panicked),
            )
        });
        let (store, credential, log) = (Arc::new(opened.0.map_err(failed)?), opened.1?, opened.2?);
        let vault = Vault::open(&data_key_path(data_dir), &root(&credential))?;
        let credential_public = credential.verifying_key().to_bytes();
        let begun = continue_instance(store.clone(), keys(credential, log), clock, public_url, version)
            .map_err(failed)?;
        if unfinished.exists() {
            std::fs::remove_file(&unfinished).map_err(io(&unfinished))?;
        }
        return Ok(Instance {
            store,
            begun,
            vault,
            credential_public,
            is_new,
        });
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir.join(KEYS))
        .map_err(io(data_dir))?;
    let stretched = if data_dir.join(KEYS).join("passphrase").exists() {
        Passphrase::Random(&passphrase)
    } else {
        Passphrase::Chosen(&passphrase)
    };
    let credential = create_key_file(&key_path(data_dir, "credential"), stretched)?;
    let log = create_key_file(&key_path(data_dir, "log"), stretched)?;
    let vault = Vault::create(&data_key_path(data_dir), &root(&credential))?;
    let credential_public = credential.verifying_key().to_bytes();
    let fresh = data_dir.join(format!("{DATABASE}.new"));
    let instance = uuid::Uuid::new_v4().to_string();
    let store = Arc::new(Store::create(&fresh, &instance).map_err(failed)?);
    let begun = begin_instance(
        store.clone(),
        keys(credential, log),
        clock,
        public_url,
        &instance,
        version,
    )
    .map_err(failed)?;
    // Only now is there something to lose, so only now does it get its name.
    std::fs::rename(&fresh, &database).map_err(io(&database))?;
    std::fs::remove_file(&unfinished).map_err(io(&unfinished))?;
    std::fs::File::open(data_dir)
        .and_then(|it| it.sync_all())
        .map_err(io(data_dir))?;
    Ok(Instance {
        store,
        begun,
        vault,
        credential_public,
        is_new,
    })
}

fn key_path(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(KEYS).join(format!("{name}.pem"))
}

fn data_key_path(data_dir: &Path) -> PathBuf {
    data_dir.join(KEYS).join("data-key")
}

fn keys(credential: SigningKey, log: SigningKey) -> Keys {
    Keys {
        credential: Arc::new(FileSigner::new(credential)),
        log: Arc::new(FileSigner::new(log)),
    }
}

/// The vault's data key hangs on the credential key, which the passphrase protects with its costly derivation.
fn root(credential: &SigningKey) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(credential.to_bytes())
}

/// Removes what an interrupted first start left behind.
fn clear(data_dir: &Path) -> std::io::Result<()> {
    for name in [format!("{DATABASE}.new"), "setup-url".into(), "admin.sock".into()] {
        match std::fs::remove_file(data_dir.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    match std::fs::remove_dir_all(data_dir.join(KEYS)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::fs::remove_file(data_dir.join(UNFINISHED))
}

/// The passphrase: as set, from systemd, or, in evaluation mode only, from a file beside the keys.
fn passphrase_of(
    data_dir: &Path,
    set: Option<&str>,
    evaluation: bool,
    is_new: bool,
) -> Result<Zeroizing<String>, Error> {
    if is_new {
        let path = data_dir.join(UNFINISHED);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::Io { path, source })?;
    }
    if let Some(passphrase) = set {
        return Ok(Zeroizing::new(passphrase.to_owned()));
    }
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = Path::new(&directory).join("passphrase");
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(|source| Error::Io { path, source })?;
            return Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
    }
    let path = data_dir.join(KEYS).join("passphrase");
    if path.exists() && evaluation {
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Io { path, source })?;
        return Ok(Zeroizing::new(text));
    }
    if !evaluation || !is_new {
        return Err(Error::NoPassphrase);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("the system's random numbers never run out");
    let passphrase = Zeroizing::new(hex::encode(*bytes));
    let directory = data_dir.join(KEYS);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|source| Error::Io {
            path: directory,
            source,
        })?;
    write_private(&path, passphrase.as_bytes())?;
    Ok(passphrase)
}

/// Writes a file that only its owner can read, replacing an older one at once.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&fresh, path).map_err(io)
}
