//! Between the network and HTTP: sockets, TLS, who may connect, and how long a connection may take for what. It knows
//! nothing of requests.

pub mod certificate;
mod connections;
mod process;
mod proxies;
pub mod self_signed;
mod sockets;
mod stream;
pub mod tls;

#[cfg(test)]
mod tests;

pub use connections::{Caps, Connections, Entry, Serving, Tally};
pub use process::{Process, free_bytes, process};
pub use proxies::Proxies;
pub use sockets::{Inherited, raise_file_limit};
pub use stream::{ClientCertificate, Connection, Peer};
pub use tls::Tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use stream::Guarded;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A TLS handshake has to end within this.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// First byte of every TLS connection: a record of type handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What a listener asks of each connection before HTTP begins.
pub struct Front {
    /// `None`: plain, for a TLS proxy or for evaluation.
    pub tls: Option<Arc<Tls>>,
    pub proxies: Arc<Proxies>,
    pub connections: Arc<Connections>,
    /// What people use, for whoever speaks plain http to a TLS port.
    pub public_url: String,
    /// Plain and not for evaluation: only a trusted proxy or this machine may talk to it.
    pub for_proxies: bool,
    /// API keys count only on connections with a client certificate.
    pub keys_need_certificate: AtomicBool,
}

impl Front {
    /// Takes a connection: counts it, refuses whom it is not for, and makes TLS.
    ///
    /// # Errors
    /// When the connection is not to be served. It is closed then, and the reason counted.
    pub async fn accept(&self, io: TcpStream) -> std::io::Result<(Connection, Option<SocketAddr>)> {
        let address = io.peer_addr()?;
        let ip = unmapped(address.ip());
        let trusted = self.proxies.trusts(ip);
        let entry = self.connections.admit(ip, trusted)?;
        // Answers are small and wait for nobody.
        io.set_nodelay(true)?;
        let stream = Guarded::new(io, entry.clone());
        if self.for_proxies && !trusted && !ip.is_loopback() {
            self.connections.tally.refused_strangers();
            let text = "This port is for this server's TLS proxy alone.\n";
            return Err(turn_away(stream, "403 Forbidden", text).await);
        }
        let Some(tls) = &self.tls else {
            return Ok((Connection::plain(stream, address, entry), Some(address)));
        };
        let config = tls.current().config.clone();
        let made = tokio::time::timeout(HANDSHAKE, async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
                let text = format!("This port speaks https: {}\n", self.public_url);
                return Err(turn_away(stream, "400 Bad Request", &text).await);
            }
            tokio_rustls::TlsAcceptor::from(config).accept(stream).await
        });
        match made.await {
            Ok(Ok(stream)) => Ok((Connection::tls(stream, address, entry), Some(address))),
            Ok(Err(error)) => {
                self.connections.tally.failed_handshakes();
                tracing::debug!(client.address = %ip, %error, "no TLS connection");
                Err(error)
            }
            Err(_) => {
                self.connections.tally.failed_handshakes();
                Err(std::io::ErrorKind::TimedOut.into())
            }
        }
    }
}

/// Says why in plain HTTP and closes.
async fn turn_away(mut stream: Guarded, status: &str, text: &str) -> std::io::Error {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // It is only a hint; whoever does not take it is closed all the same.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
    std::io::ErrorKind::ConnectionRefused.into()
}

/// An IPv4 address that came through an IPv6 socket as what it is.
pub fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(it) => it.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}
