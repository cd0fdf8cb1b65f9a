//! The data directory: made once, whole or not at all; opened ever after; never replaced.

use crate::cli::host::SOCKET;
use crate::cli::keyring::{Backend, DirectoryKeyring, Found, KEYS, PASSPHRASE, Secret, first_key};
use crate::cli::passphrase;
use crate::cli::running::Boot;
use crate::cli::sealed::UNSEAL_URL;
use crate::clock::Clock;
use crate::domain::keys::{active, all_keys};
use crate::engine::{Begun, begin_instance, continue_instance, rebuild};
use crate::listen::self_signed::FOLDER as SELF_SIGNED;
use crate::signing::{
    KeyFileError, Keys, Use, Vault, VaultError, check_private, replace_private, sync_folder,
};
use crate::store;
use crate::store::{BackupError, SCHEMA, Store, check_backup, write_backup};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The journal and everything that follows from it.
const DATABASE: &str = "journal.redb";
/// Stands while the directory is being made. Whatever is in it then was never acknowledged to anybody.
const UNFINISHED: &str = "initialising";

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
    #[error("{0}")]
    Keys(String),
    #[error("{path}: {source}. The database was not changed")]
    Backup {
        path: PathBuf,
        #[source]
        source: BackupError,
    },
    #[error(
        "the signing keys need a passphrase: set SIGNEDAPPROVAL_KEYS__PASSPHRASE or …_FILE, or give systemd the credential `passphrase`"
    )]
    NoPassphrase,
}

/// An opened instance.
pub struct Instance {
    pub store: Arc<Store>,
    pub begun: Begun,
    pub vault: Arc<Vault>,
    /// It was made by this very start.
    pub is_new: bool,
}

/// What an instance is opened with.
pub struct Opening<'a> {
    pub data_dir: &'a Path,
    pub backend: Backend,
    /// As set; `None`: from systemd, or, in evaluation mode, from its own file.
    pub passphrase: Option<&'a str>,
    pub evaluation: bool,
    pub public_url: &'a str,
    pub version: &'a str,
    pub clock: Arc<dyn Clock>,
    pub boot: Boot,
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io {
        path: path.clone(),
        source,
    }
}

fn failed(data_dir: &Path) -> impl Fn(store::Error) -> Error + use<> {
    let data_dir = data_dir.to_owned();
    move |source| match source {
        store::Error::InUse => Error::InUse(data_dir.clone()),
        source => Error::Store {
            path: data_dir.join(DATABASE),
            source,
        },
    }
}

/// Opens the data directory, or makes it where there is nothing yet.
pub fn open(opening: Opening<'_>) -> Result<Instance, Error> {
    let data_dir = opening.data_dir;
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
    let mut empty = true;
    for entry in std::fs::read_dir(data_dir).map_err(io(data_dir))? {
        // The link for choosing the first passphrase may stand there already, and the certificate its page is served with.
        let name = entry.map_err(io(data_dir))?.file_name();
        empty &= name == UNSEAL_URL || name == SELF_SIGNED || name == SOCKET;
    }
    let is_new = empty && !database.exists();
    if !is_new && !database.exists() {
        return Err(Error::NoDatabase(data_dir.to_owned()));
    }
    if !is_new && passphrase::was_cut_short(data_dir) {
        // Only with the database's lock: the change may be another process's, which is at it.
        let _lock = Store::open(&database).map_err(failed(data_dir))?;
        passphrase::finish(data_dir).map_err(io(data_dir))?;
    }
    let secret = passphrase_of(data_dir, opening.passphrase, opening.evaluation, is_new)?;
    if is_new {
        begin(opening, secret)
    } else {
        go_on(opening, secret)
    }
}

/// Whether there is nothing yet: the keys are made at this start.
pub fn first_start(data_dir: &Path) -> bool {
    !data_dir.join(DATABASE).exists()
}

/// Whether a passphrase opens the keys of a data directory. Where there are none yet, any does.
pub fn try_passphrase(data_dir: &Path, passphrase: &str) -> Result<(), Error> {
    if first_start(data_dir) {
        return Ok(());
    }
    let chosen = crate::signing::Passphrase::Chosen(passphrase);
    let data_key = data_key_path(data_dir);
    let credential = Found::open(data_dir, Use::Credential, passphrase)?;
    check_private(&data_key)?;
    Vault::open_only(&data_key, chosen, || {
        credential.current().map(|it| Zeroizing::new(it.to_bytes()))
    })?;
    Ok(())
}

fn go_on(opening: Opening<'_>, secret: Secret) -> Result<Instance, Error> {
    let data_dir = opening.data_dir;
    let database = data_dir.join(DATABASE);
    let (store, credential, log) = std::thread::scope(|scope| {
        // The key files cost most of a start; they and the database are opened side by side.
        let credential = scope.spawn(|| Found::open(data_dir, Use::Credential, &secret.text));
        let log = scope.spawn(|| Found::open(data_dir, Use::Log, &secret.text));
        let store = match opening.boot.is_another(data_dir) {
            true => Store::open_whole(&database),
            false => Store::open(&database),
        };
        let panicked = "opening a key file does not panic";
        (
            store,
            credential.join().expect(panicked),
            log.join().expect(panicked),
        )
    });
    let (store, credential, log) = (Arc::new(store.map_err(failed(data_dir))?), credential?, log?);
    upgrade(&store, data_dir, opening.version, &*opening.clock)?;
    let data_key = data_key_path(data_dir);
    check_private(&data_key)?;
    // A data key of the first form hangs on the credential key's file.
    let root = || credential.current().map(|it| Zeroizing::new(it.to_bytes()));
    let vault = Arc::new(Vault::open(&data_key, secret.as_passphrase(), root)?);
    let recorded = all_keys(&store.read().map_err(failed(data_dir))?)
        .map_err(|e| failed(data_dir)(store::Error::from(e)))?;
    let named = |found: Found, which: Use| {
        let record = active(&recorded, which.name())
            .ok_or_else(|| format!("the journal names no {} key", which.name()))?;
        found.named(record, which, data_dir, &opening.backend)
    };
    let keys = Keys {
        credential: named(credential, Use::Credential).map_err(Error::Keys)?,
        log: named(log, Use::Log).map_err(Error::Keys)?,
    };
    let ring = keyring(&opening, secret, &vault, &keys);
    let begun = continue_instance(
        store.clone(),
        keys,
        opening.clock,
        opening.public_url,
        opening.version,
    )
    .map_err(failed(data_dir))?;
    let unfinished = data_dir.join(UNFINISHED);
    if unfinished.exists() {
        std::fs::remove_file(&unfinished).map_err(io(&unfinished))?;
    }
    Ok(Instance {
        store,
        begun: with_ring(begun, ring),
        vault,
        is_new: false,
    })
}

/// Brings an older schema up to today's: a backup first, checked, then every projection anew from the journal. Cut short at
/// any point it begins anew at the next start.
fn upgrade(store: &Store, data_dir: &Path, version: &str, clock: &dyn Clock) -> Result<(), Error> {
    let snapshot = store.read().map_err(failed(data_dir))?;
    let found = snapshot.identity().map_err(failed(data_dir))?.schema;
    if found == SCHEMA {
        return Ok(());
    }
    let path = data_dir.join(format!("before-schema-{SCHEMA}.sabackup"));
    let part = path.with_extension("part");
    let backup = |error: BackupError| Error::Backup {
        path: path.clone(),
        source: error,
    };
    let mut files = Vec::new();
    for name in ["credential.pem", "log.pem", "data-key"] {
        let from = data_dir.join(KEYS).join(name);
        if from.exists() {
            files.push((name.to_owned(), std::fs::read(&from).map_err(io(&from))?));
        }
    }
    let _ = std::fs::remove_file(&part);
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(io(&part))?;
    write_backup(&snapshot, &files, version, clock.now(), &mut out).map_err(backup)?;
    out.sync_all().map_err(io(&part))?;
    drop(snapshot);
    check_backup(&mut std::fs::File::open(&part).map_err(io(&part))?, &[]).map_err(backup)?;
    std::fs::rename(&part, &path)
        .and_then(|()| sync_folder(&path))
        .map_err(io(&path))?;
    tracing::info!(from = found, to = SCHEMA, backup = %path.display(), "the database's schema is brought up to date");
    rebuild(store).map_err(failed(data_dir))?;
    store.raise_schema().map_err(failed(data_dir))
}

fn begin(opening: Opening<'_>, secret: Secret) -> Result<Instance, Error> {
    let data_dir = opening.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir.join(KEYS))
        .map_err(io(data_dir))?;
    let first = |which| first_key(data_dir, which, &opening.backend, secret.as_passphrase());
    let keys = Keys {
        credential: first(Use::Credential).map_err(Error::Keys)?,
        log: first(Use::Log).map_err(Error::Keys)?,
    };
    let vault = Arc::new(Vault::create(&data_key_path(data_dir), secret.as_passphrase())?);
    let fresh = data_dir.join(format!("{DATABASE}.new"));
    let instance = uuid::Uuid::new_v4().to_string();
    let store = Arc::new(Store::create(&fresh, &instance).map_err(failed(data_dir))?);
    let ring = keyring(&opening, secret, &vault, &keys);
    let begun = begin_instance(
        store.clone(),
        keys,
        opening.clock,
        opening.public_url,
        &instance,
        opening.version,
    )
    .map_err(failed(data_dir))?;
    let (database, unfinished) = (data_dir.join(DATABASE), data_dir.join(UNFINISHED));
    let link = data_dir.join(UNSEAL_URL);
    if link.exists() {
        std::fs::remove_file(&link).map_err(io(&link))?;
    }
    // Only now is there something to lose, so only now does it get its name.
    std::fs::rename(&fresh, &database).map_err(io(&database))?;
    std::fs::remove_file(&unfinished).map_err(io(&unfinished))?;
    std::fs::File::open(data_dir)
        .and_then(|it| it.sync_all())
        .map_err(io(data_dir))?;
    Ok(Instance {
        store,
        begun: with_ring(begun, ring),
        vault,
        is_new: true,
    })
}

fn keyring(opening: &Opening<'_>, secret: Secret, vault: &Arc<Vault>, keys: &Keys) -> DirectoryKeyring {
    DirectoryKeyring {
        data_dir: opening.data_dir.to_owned(),
        backend: opening.backend.clone(),
        secret,
        vault: vault.clone(),
        now: [keys.credential.public_key(), keys.log.public_key()],
        coming: None,
    }
}

fn with_ring(begun: Begun, ring: DirectoryKeyring) -> Begun {
    Begun {
        writer: begun.writer.with_keyring(Box::new(ring)),
        ..begun
    }
}

fn data_key_path(data_dir: &Path) -> PathBuf {
    data_dir.join(KEYS).join("data-key")
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
) -> Result<Secret, Error> {
    let own = data_dir.join(KEYS).join(PASSPHRASE);
    let given = |text: &str| Secret {
        text: Zeroizing::new(text.to_owned()),
        random: own.exists(),
    };
    let found = match set {
        Some(passphrase) => Some(given(passphrase)),
        None => match std::env::var_os("CREDENTIALS_DIRECTORY").map(|it| Path::new(&it).join("passphrase")) {
            Some(path) if path.exists() => {
                let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(io(&path))?);
                Some(given(text.trim_end_matches(['\r', '\n'])))
            }
            _ if own.exists() && evaluation => {
                check_private(&own)?;
                let text = Zeroizing::new(std::fs::read_to_string(&own).map_err(io(&own))?);
                Some(given(&text))
            }
            _ => None,
        },
    };
    if found.is_none() && (!evaluation || !is_new) {
        return Err(Error::NoPassphrase);
    }
    if is_new {
        let path = data_dir.join(UNFINISHED);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io(&path))?;
    }
    if let Some(secret) = found {
        return Ok(secret);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("the system's random numbers never run out");
    let passphrase = Zeroizing::new(hex::encode(*bytes));
    let directory = data_dir.join(KEYS);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(io(&directory))?;
    write_private(&own, passphrase.as_bytes())?;
    Ok(Secret {
        text: passphrase,
        random: true,
    })
}

/// Writes a file that only its owner can read, replacing an older one at once.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace_private(path, bytes).map_err(io(path))
}
