//! TLS by rustls: which protocols, and the certificate in use, which is replaced while running. Every new connection
//! takes the newest configuration; those that are there keep theirs, so that nothing is cut off.

use crate::clock::Clock;
use crate::domain::ids::Digest;
use crate::domain::time::Time;
use crate::listen::certificate::{self, Error, Facts, Pair};
use crate::listen::self_signed;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, RootCertStore};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Files {
        certificate: PathBuf,
        private_key: PathBuf,
    },
    /// Made here, in the data directory.
    SelfSigned { data_dir: PathBuf },
}

/// What TLS is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub source: Source,
    /// TLS 1.3 alone, without 1.2.
    pub only_tls13: bool,
    /// Authorities whose certificates callers may show.
    pub client_ca: Option<PathBuf>,
}

/// What new connections get.
pub struct Current {
    pub config: Arc<ServerConfig>,
    pub facts: Facts,
    pub self_signed: bool,
    /// Digest of everything it was made from.
    made_from: Digest,
}

/// What a look at the files came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Looked {
    Same,
    /// New connections get the new certificate.
    Replaced,
    /// What the files hold now can't be used; what was in use stays. Told once for each such content.
    Refused(String),
}

/// The TLS side of the public listener.
pub struct Tls {
    host: String,
    clock: Arc<dyn Clock>,
    wanted: Mutex<Wanted>,
    current: RwLock<Arc<Current>>,
    /// Why the newest files are not in use.
    refused: Mutex<Option<String>>,
}

impl Tls {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(wanted: Wanted, host: &str, clock: Arc<dyn Clock>) -> Result<Tls, Error> {
        let current = build(&wanted, host, clock.now())?;
        Ok(Tls {
            host: host.to_owned(),
            clock,
            wanted: Mutex::new(wanted),
            current: RwLock::new(Arc::new(current)),
            refused: Mutex::new(None),
        })
    }

    /// What new connections get.
    pub fn current(&self) -> Arc<Current> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Why the newest files are not in use, where they are not.
    pub fn refused(&self) -> Option<String> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks at the files and takes what is new and in order.
    pub fn look(&self) -> Looked {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.take(&wanted)
    }

    /// As [`Self::look`], with other settings. They are kept only if they can be used.
    pub fn change(&self, wanted: Wanted) -> Looked {
        let looked = self.take(&wanted);
        if !matches!(looked, Looked::Refused(_)) {
            *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        }
        looked
    }

    fn take(&self, wanted: &Wanted) -> Looked {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match build(wanted, &self.host, self.clock.now()) {
            Ok(new) => {
                *refused = None;
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                if current.made_from == new.made_from {
                    return Looked::Same;
                }
                *current = Arc::new(new);
                Looked::Replaced
            }
            Err(error) => {
                let reason = error.to_string();
                if refused.as_ref() == Some(&reason) {
                    return Looked::Same;
                }
                *refused = Some(reason.clone());
                Looked::Refused(reason)
            }
        }
    }
}

/// Reads, checks and builds, without keeping anything: for `config check` too.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn build(wanted: &Wanted, host: &str, now: Time) -> Result<Current, Error> {
    let (pair, path) = match &wanted.source {
        Source::Files {
            certificate,
            private_key,
        } => (
            certificate::read_pair(certificate, private_key, host, now)?,
            private_key.clone(),
        ),
        Source::SelfSigned { data_dir } => (
            self_signed::obtain(data_dir, host, now)?,
            self_signed::paths(data_dir).1,
        ),
    };
    let provider = Arc::new(provider());
    let Pair { chain, key, facts } = pair;
    let wrong = |reason: String| Error {
        path: path.clone(),
        reason,
    };
    let mut parts: Vec<u8> = Vec::new();
    for it in &chain {
        parts.extend_from_slice(Digest::of(it).0.as_slice());
    }
    parts.push(u8::from(wanted.only_tls13));
    let signer = provider
        .key_provider
        .load_private_key(key)
        .map_err(|e| wrong(format!("this private key can't be used: {e}")))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(wrong("this is not the private key of the certificate".into())),
    }
    let versions: &[_] = if wanted.only_tls13 {
        &[&TLS13]
    } else {
        &[&TLS13, &TLS12]
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|e| wrong(e.to_string()))?;
    let builder = match &wanted.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for it in certificate::read_certificates(file)? {
                parts.extend_from_slice(Digest::of(&it).0.as_slice());
                roots.add(it).map_err(|e| Error {
                    path: file.clone(),
                    reason: format!("a certificate in it can't be an authority: {e}"),
                })?;
            }
            // People and forges have none. What a caller shows has to verify.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| Error {
                    path: file.clone(),
                    reason: e.to_string(),
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // HTTP/2 would bring its own attacks, and nothing here needs it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Current {
        config: Arc::new(config),
        facts,
        self_signed: matches!(wanted.source, Source::SelfSigned { .. }),
        made_from: Digest::of(&parts),
    })
}

/// One provider of cryptography, with the key exchange that a quantum computer does not open first.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        cipher_suites: aws_lc_rs::DEFAULT_CIPHER_SUITES.to_vec(),
        ..default_provider()
    }
}
