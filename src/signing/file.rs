//! Keys in files: encrypted PKCS#8 version 1 (RFC 5958, PBES2 with AES-256-CBC), readable by OpenSSL 3.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The passphrase is not this file's.
    #[error("{path}: the passphrase does not open this key")]
    Passphrase { path: String },
    /// Others than the owner can read or replace the file.
    #[error("{path}: its mode is {mode:04o}, so that others than its owner can use it; set it to 0600")]
    Mode { path: String, mode: u32 },
    /// The file is not an encrypted Ed25519 key.
    #[error("{path}: not an encrypted PKCS#8 Ed25519 key")]
    Form { path: String },
}

/// How a passphrase came about, which decides how much it has to be stretched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passphrase<'a> {
    /// Chosen by somebody: scrypt makes each guess cost time and memory.
    Chosen(&'a str),
    /// 256 random bits made by this program: nobody guesses them, so stretching would only make every start slower.
    Random(&'a str),
}

impl Passphrase<'_> {
    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Passphrase::Chosen(text) | Passphrase::Random(text) => text,
        }
    }
}

/// PBKDF2 iterations for a random passphrase: the form wants some.
const RANDOM_ITERATIONS: u32 = 2_048;

fn parameters(passphrase: Passphrase<'_>) -> Result<Parameters, pkcs8::pkcs5::Error> {
    match passphrase {
        // scrypt with log_n 14: OpenSSL 3.0's memory limit lets it read no more.
        Passphrase::Chosen(_) => Parameters::generate_scrypt(&mut getrandom::SysRng),
        Passphrase::Random(_) => {
            let (mut salt, mut iv) = ([0; 16], [0; 16]);
            getrandom::fill(&mut salt).expect("the system's random numbers never run out");
            getrandom::fill(&mut iv).expect("the system's random numbers never run out");
            Parameters::generate_pbkdf2_sha256_aes256cbc(RANDOM_ITERATIONS, &salt, iv)
        }
    }
}

/// A passphrase on its way to where it is used. Prints as nothing.
#[derive(Clone)]
pub struct PassphraseText(Zeroizing<String>);

impl PassphraseText {
    /// Takes the text over.
    pub fn new(text: Zeroizing<String>) -> Self {
        PassphraseText(text)
    }

    /// Its text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PassphraseText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassphraseText")
    }
}

/// Makes a new key and writes it, encrypted, with mode 0600. The file must not exist.
pub fn create_key_file(path: &Path, passphrase: Passphrase<'_>) -> Result<SigningKey, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).expect("the system's random numbers never run out");
    let key = SigningKey::from_bytes(&seed);
    write_key_file(path, &key, passphrase)?;
    Ok(key)
}

/// Writes a key, encrypted, with mode 0600. The file must not exist.
///
/// # Errors
/// `Io` when it exists or can't be written.
pub fn write_key_file(path: &Path, key: &SigningKey, passphrase: Passphrase<'_>) -> Result<(), KeyFileError> {
    let form = || KeyFileError::Form {
        path: path.display().to_string(),
    };
    let seed = Zeroizing::new(key.to_bytes());
    // Version 1: OpenSSL 3.0 reads no version 2, which is what a public key in the structure would make it.
    let plain = KeypairBytes {
        secret_key: *seed,
        public_key: None,
    }
    .to_pkcs8_der()
    .map_err(|_| form())?;
    let info = PrivateKeyInfoRef::try_from(plain.as_bytes()).map_err(|_| form())?;
    let parameters = parameters(passphrase).map_err(|_| form())?;
    let sealed = info
        .encrypt_with_params(parameters, passphrase.text())
        .map_err(|_| form())?;
    let pem = sealed
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .map_err(|_| form())?;
    let io = |source| KeyFileError::Io {
        path: path.display().to_string(),
        source,
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    file.write_all(pem.as_bytes()).map_err(io)?;
    file.sync_all().map_err(io)?;
    sync_folder(path).map_err(io)
}

/// Refuses a file that others than its owner can read or write.
///
/// # Errors
/// `Mode`, or `Io` when it is not there.
pub fn check_private(path: &Path) -> Result<(), KeyFileError> {
    let meta = std::fs::metadata(path).map_err(|source| KeyFileError::Io {
        path: path.display().to_string(),
        source,
    })?;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode {
            path: path.display().to_string(),
            mode,
        });
    }
    Ok(())
}

/// Writes a file that only its owner can read, in place of an older one: wholly or not at all, also in a power cut.
///
/// # Errors
/// When it can't be written.
pub fn replace_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    sync_folder(path)
}

/// Makes a new name in a folder durable.
pub fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens a key file.
pub fn open_key_file(path: &Path, passphrase: &str) -> Result<SigningKey, KeyFileError> {
    let shown = path.display().to_string();
    check_private(path)?;
    let pem = std::fs::read_to_string(path).map_err(|source| KeyFileError::Io {
        path: shown.clone(),
        source,
    })?;
    let form = || KeyFileError::Form { path: shown.clone() };
    let (label, document) = SecretDocument::from_pem(&pem).map_err(|_| form())?;
    if label != "ENCRYPTED PRIVATE KEY" {
        return Err(form());
    }
    let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| form())?;
    let plain = sealed
        .decrypt(passphrase)
        .map_err(|_| KeyFileError::Passphrase { path: shown.clone() })?;
    SigningKey::from_pkcs8_der(plain.as_bytes()).map_err(|_| form())
}
