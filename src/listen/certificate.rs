//! Certificate and key in files: read whole, checked against each other and against the clock, or refused with the
//! reason. Nothing is used of a pair that is not in order.

use crate::domain::ids::Digest;
use crate::domain::time::Time;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// Largest file that is read as a certificate, a key or a list of authorities: far more than any chain needs.
const BYTES_MAX: u64 = 1024 * 1024;
/// Mode bits that no private key may have: readable or writable for everybody, or writable for the group.
const KEY_MODE_FORBIDDEN: u32 = 0o027;

/// Why a pair can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Error {
    pub path: PathBuf,
    pub reason: String,
}

/// A certificate chain with its key, in order.
pub struct Pair {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub facts: Facts,
}

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub subject: String,
    pub issuer: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    pub not_before: Time,
    pub not_after: Time,
    /// SHA-256 of the DER.
    pub sha256: Digest,
    /// Whether it is for the host of the public URL.
    pub names_host: bool,
}

/// How much time a certificate has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    Enough,
    /// Less than a third of its life, and less than 30 days.
    Little,
    /// Less than a tenth of its life, and less than 7 days.
    VeryLittle,
    Nothing,
}

impl Facts {
    /// How much time is left.
    pub fn left(&self, now: Time) -> Left {
        const DAY: u64 = 86_400;
        let life = self.not_before.seconds_until(self.not_after);
        let left = now.seconds_until(self.not_after);
        match left {
            _ if now >= self.not_after => Left::Nothing,
            it if it < (life / 10).min(7 * DAY) => Left::VeryLittle,
            it if it < (life / 3).min(30 * DAY) => Left::Little,
            _ => Left::Enough,
        }
    }
}

/// Reads and checks a pair.
///
/// # Errors
/// Names the file and what is wrong: unreadable, too open, cut off, not matching, expired.
pub fn read_pair(certificate: &Path, private_key: &Path, host: &str, now: Time) -> Result<Pair, Error> {
    let wrong = |path: &Path, reason: String| Error {
        path: path.to_owned(),
        reason,
    };
    let chain = read_certificates(certificate)?;
    let key = read_key(private_key)?;
    let facts = facts(&chain[0], host).map_err(|reason| wrong(certificate, reason))?;
    if now >= facts.not_after {
        return Err(wrong(
            certificate,
            format!("the certificate expired at {}", facts.not_after.to_the_second()),
        ));
    }
    if now < facts.not_before {
        return Err(wrong(
            certificate,
            format!(
                "the certificate is not valid before {}; is this machine's clock right?",
                facts.not_before.to_the_second()
            ),
        ));
    }
    Ok(Pair { chain, key, facts })
}

/// Reads all certificates in a PEM file; at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |reason: String| Error {
        path: path.to_owned(),
        reason,
    };
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|e| wrong(format!("not whole PEM: {e}")))?;
    if all.is_empty() {
        return Err(wrong(
            "there is no certificate in it (PEM, `BEGIN CERTIFICATE`)".into(),
        ));
    }
    for it in &all {
        X509Certificate::from_der(it).map_err(|e| wrong(format!("a certificate in it is damaged: {e}")))?;
    }
    Ok(all)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let wrong = |reason: String| Error {
        path: path.to_owned(),
        reason,
    };
    let mode = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.mode();
    if mode & KEY_MODE_FORBIDDEN != 0 {
        return Err(wrong(format!(
            "mode {:04o} lets others at the private key; `chmod 0640` or stricter",
            mode & 0o7777
        )));
    }
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| match e {
        // It must not repeat what it stumbled over: that may be the key.
        rustls::pki_types::pem::Error::NoItemsFound => {
            wrong("there is no private key in it (PEM; one with a passphrase can't be used)".into())
        }
        _ => wrong("the private key in it is cut off or damaged".into()),
    })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = |reason: String| Error {
        path: path.to_owned(),
        reason,
    };
    let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if size > BYTES_MAX {
        return Err(wrong(format!("{size} bytes are no PEM file")));
    }
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|e| wrong(e.to_string()))
}

fn facts(der: &CertificateDer<'_>, host: &str) -> Result<Facts, String> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|e| format!("damaged: {e}"))?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(it)) => it.value.general_names.iter().filter_map(name).collect(),
        _ => Vec::new(),
    };
    let names_host = ServerName::try_from(host.to_owned()).is_ok_and(|name| {
        ParsedCertificate::try_from(der)
            .is_ok_and(|it| rustls::client::verify_server_name(&it, &name).is_ok())
    });
    let seconds = |it: i64| Time(it.saturating_mul(1000));
    Ok(Facts {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names,
        not_before: seconds(parsed.validity().not_before.timestamp()),
        not_after: seconds(parsed.validity().not_after.timestamp()),
        sha256: Digest::of(der),
        names_host,
    })
}

fn name(it: &GeneralName<'_>) -> Option<String> {
    match it {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|it| std::net::IpAddr::from(it).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|it| std::net::IpAddr::from(it).to_string()),
            _ => None,
        },
        _ => None,
    }
}
