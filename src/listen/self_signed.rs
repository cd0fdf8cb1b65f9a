//! A certificate of our own making, for the time until there is a real one. Nobody trusts it, and everything says so.

use crate::domain::time::Time;
use crate::listen::certificate::{Error, Left, Pair, read_pair};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How long one lasts, in days. A new one is made when little is left.
const DAYS: u64 = 90;

/// Their folder in the data directory.
pub const FOLDER: &str = "tls";

/// Where certificate and key are.
pub fn paths(data_dir: &Path) -> (PathBuf, PathBuf) {
    let dir = data_dir.join(FOLDER);
    (dir.join("self-signed.pem"), dir.join("self-signed.key"))
}

/// The certificate in the data directory, made anew where there is none for this host that lasts.
///
/// # Errors
/// When it can't be written.
pub fn obtain(data_dir: &Path, host: &str, now: Time) -> Result<Pair, Error> {
    let (certificate, key) = paths(data_dir);
    if let Ok(pair) = read_pair(&certificate, &key, host, now)
        && pair.facts.names_host
        && pair.facts.left(now) == Left::Enough
    {
        return Ok(pair);
    }
    make(data_dir, host, now)?;
    read_pair(&certificate, &key, host, now)
}

fn make(data_dir: &Path, host: &str, now: Time) -> Result<(), Error> {
    let (certificate_path, key_path) = paths(data_dir);
    let wrong = |path: &Path, reason: String| Error {
        path: path.to_owned(),
        reason,
    };
    let made = (|| {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(vec![host.to_owned()])?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, host);
        name.push(DnType::OrganizationName, "SignedApproval, self-signed");
        parameters.distinguished_name = name;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let second = |it: Time| {
            rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(Time(0).seconds_until(it))
        };
        // An hour back, for clients whose clock is behind.
        parameters.not_before = second(Time(now.0.saturating_sub(3_600_000)));
        parameters.not_after = second(now.plus_seconds(DAYS * 86_400 - 3_600));
        let certificate = parameters.self_signed(&key)?;
        Ok::<_, rcgen::Error>((certificate.pem(), key.serialize_pem()))
    })();
    let (certificate, key) = made.map_err(|e| wrong(&certificate_path, e.to_string()))?;
    let dir = data_dir.join("tls");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|e| wrong(&dir, e.to_string()))?;
    // A crash between the two leaves a pair that does not match, which the next start makes anew.
    write(&key_path, key.as_bytes(), 0o600).map_err(|e| wrong(&key_path, e.to_string()))?;
    write(&certificate_path, certificate.as_bytes(), 0o644)
        .map_err(|e| wrong(&certificate_path, e.to_string()))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    let _ = std::fs::remove_file(fresh);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)
}
