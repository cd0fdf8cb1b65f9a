//! A certificate authority of the tests' own, and a client that says what was agreed on.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const DAY: u64 = 86_400;

/// An authority that nobody but the tests trusts.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A new authority.
    pub fn new(name: &str) -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).expect("tests make good certificates");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("tests make good certificates");
        let pem = parameters
            .self_signed(&key)
            .expect("tests make good certificates")
            .pem();
        Authority {
            pem,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// A certificate for a host, valid from `from` days before now to `to` days after (either may be negative).
    pub fn issue(&self, host: &str, from: i64, to: i64) -> Issued {
        let mut parameters =
            CertificateParams::new(vec![host.to_owned()]).expect("tests make good certificates");
        parameters.distinguished_name.push(DnType::CommonName, host);
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = u64::try_from(jiff::Timestamp::now().as_second()).expect("tests make good certificates");
        let at = |days: i64| {
            let seconds =
                now.saturating_add_signed(days * i64::try_from(DAY).expect("tests make good certificates"));
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        parameters.not_before = at(-from);
        parameters.not_after = at(to);
        let key = KeyPair::generate().expect("tests make good certificates");
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .expect("tests make good certificates");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for `localhost` as a server has it in its best days.
    pub fn localhost(&self) -> Issued {
        self.issue("localhost", 1, 80)
    }
}

/// What a client offers.
#[derive(Clone, Default)]
pub struct Offer<'a> {
    pub only_tls12: bool,
    pub alpn: Vec<&'static [u8]>,
    pub certificate: Option<&'a Issued>,
}

/// Shakes hands with 127.0.0.1, trusting one authority.
pub async fn connect(
    port: u16,
    trusted_pem: &str,
    offer: &Offer<'_>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for it in CertificateDer::pem_slice_iter(trusted_pem.as_bytes()) {
        roots
            .add(it.expect("tests make good certificates"))
            .expect("tests make good certificates");
    }
    let versions: &[_] = if offer.only_tls12 {
        &[&rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // As browsers do: shares of both are sent, and the server chooses.
    provider.kx_groups = vec![
        rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768,
        rustls::crypto::aws_lc_rs::kx_group::X25519,
    ];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("tests make good certificates")
        .with_root_certificates(roots);
    let mut config = match offer.certificate {
        None => builder.with_no_client_auth(),
        Some(it) => builder
            .with_client_auth_cert(
                CertificateDer::pem_slice_iter(it.certificate.as_bytes())
                    .map(|it| it.expect("tests make good certificates"))
                    .collect(),
                PrivateKeyDer::from_pem_slice(it.key.as_bytes()).expect("tests make good certificates"),
            )
            .expect("tests make good certificates"),
    };
    config.alpn_protocols = offer.alpn.iter().map(|it| it.to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").expect("tests make good certificates");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Sends bytes and reads the answer until the other side closes or `max` is over.
pub async fn exchange(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    request: &str,
    max: Duration,
) -> String {
    let mut answer = Vec::new();
    stream
        .write_all(request.as_bytes())
        .await
        .expect("tests make good certificates");
    let read = stream.read_to_end(&mut answer);
    // An abrupt end is an answer too.
    let _ended = tokio::time::timeout(max, read).await;
    String::from_utf8_lossy(&answer).into_owned()
}
