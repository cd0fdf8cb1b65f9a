//! A TLS front before a fake forge: what a company's proxy with a private authority is to a real one.

use crate::support::authority::Issued;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::TcpListener;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// Ends when it is dropped.
pub struct Front {
    pub port: u16,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

impl Front {
    /// Takes TLS connections under a certificate and hands their content to a port on loopback.
    pub fn before(inner: u16, issued: &Issued) -> Front {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(issued.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .expect("they fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let port = listener.local_addr().expect("a bound address").port();
        listener.set_nonblocking(true).expect("a listener");
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the front");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    let taken = tokio::select! {
                        taken = listener.accept() => taken,
                        _ = &mut stopped => return,
                    };
                    let Ok((outer, _)) = taken else { continue };
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        let Ok(mut outer) = acceptor.accept(outer).await else {
                            return;
                        };
                        if let Ok(mut inner) = TcpStream::connect(("127.0.0.1", inner)).await {
                            let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                        }
                    });
                }
            });
        });
        Front {
            port,
            stop: Some(stop),
        }
    }
}
