//! Connections for protocols that are not HTTP: plain TCP or TLS, to addresses that may be called.

use crate::outbound::{Error, Nearby};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time to make a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long after the receiver's end a refusal of the last bytes may still come: several round trips of any network
/// between two data centres.
const AFTER_THE_END: Duration = Duration::from_millis(50);
/// Answers of a receiver that says nothing by its protocol are read and dropped up to here.
const UNASKED_BYTES_MAX: usize = 64 * 1024;

/// A connection.
pub struct Stream {
    host: String,
    inner: Inner,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to `host` and `port`; with TLS if there are settings for it, and then the certificate must be `host`'s.
    ///
    /// # Errors
    /// `Refused` for an address that may not be called, else `Unreachable` or `Timeout`.
    pub async fn connect(
        host: &str,
        port: u16,
        nearby: &Nearby,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Stream, Error> {
        let whole = async {
            // What was checked is what is connected to: the name is looked up once.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
                .await
                .map_err(|e| unreachable(host, &e))?
                .collect();
            for address in &found {
                nearby.permit(host, address.ip())?;
            }
            let mut failed = None;
            for address in found {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Stream::over(host, stream, tls).await,
                    Err(error) => failed = Some(unreachable(host, &error)),
                }
            }
            Err(failed.unwrap_or_else(|| Error::Unreachable {
                host: host.to_owned(),
                reason: "the name has no address".to_owned(),
            }))
        };
        timeout(CONNECT, whole).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                host: host.to_owned(),
            })
        })
    }

    async fn over(
        host: &str,
        stream: TcpStream,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Stream, Error> {
        stream.set_nodelay(true).map_err(|e| unreachable(host, &e))?;
        let inner = match tls {
            None => Inner::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|_| Error::Refused(format!("{host} is no name a certificate could bear")))?;
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .map_err(|e| unreachable(host, &e))?;
                Inner::Tls(Box::new(stream))
            }
        };
        Ok(Stream {
            host: host.to_owned(),
            inner,
        })
    }

    /// Sends everything within `limit`. That it was sent does not mean that anybody has it.
    ///
    /// # Errors
    /// `Unreachable` or `Timeout`; then any part of it may have arrived.
    pub async fn write(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Error> {
        let host = self.host.clone();
        let writing = async {
            match &mut self.inner {
                Inner::Plain(it) => it.write_all(bytes).await,
                Inner::Tls(it) => {
                    it.write_all(bytes).await?;
                    it.flush().await
                }
            }
        };
        match timeout(limit, writing).await {
            Ok(done) => done.map_err(|e| unreachable(&host, &e)),
            Err(_) => Err(Error::Timeout { host }),
        }
    }

    /// Ends the stream and waits until the other side has read to that end and closed in turn.
    ///
    /// A receiver that closes with bytes unread makes its system answer with a reset, and that is an error here. So success
    /// means that its program has read everything; what it did with it, no stream can tell.
    ///
    /// # Errors
    /// `Unreachable` or `Timeout`; then any part of it may have arrived.
    pub async fn finish(mut self, limit: Duration) -> Result<(), Error> {
        let host = self.host.clone();
        let ending = async {
            match &mut self.inner {
                Inner::Plain(it) => {
                    it.shutdown().await?;
                    read_to_end(it).await?;
                }
                Inner::Tls(it) => {
                    it.shutdown().await?;
                    read_to_end(it).await?;
                }
            }
            tokio::time::sleep(AFTER_THE_END).await;
            let socket = match &self.inner {
                Inner::Plain(it) => it,
                Inner::Tls(it) => it.get_ref().0,
            };
            socket.take_error()?.map_or(Ok(()), Err)
        };
        match timeout(limit, ending).await {
            Ok(done) => done.map_err(|e: std::io::Error| unreachable(&host, &e)),
            Err(_) => Err(Error::Unreachable {
                host,
                reason: "the receiver did not close the connection after its end".to_owned(),
            }),
        }
    }
}

async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    let mut taken = 0;
    loop {
        match stream.read(&mut piece).await {
            Ok(0) => return Ok(()),
            Ok(length) => taken += length,
            // Many receivers end a TLS connection without TLS's own farewell. The reset that matters is another error.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        if taken > UNASKED_BYTES_MAX {
            return Err(std::io::Error::other("the receiver sends what nobody asked for"));
        }
    }
}

fn unreachable(host: &str, error: &std::io::Error) -> Error {
    let mut reason: String = error
        .to_string()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect();
    if reason.contains("UnknownIssuer") {
        reason.push_str("; if a private authority issued it, add that authority's certificate here");
    }
    Error::Unreachable {
        host: host.to_owned(),
        reason,
    }
}
