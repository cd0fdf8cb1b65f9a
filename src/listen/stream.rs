//! A connection's bytes, with deadlines: a request's head has to come in time, and whoever is sent something has to take
//! it. Bodies have their own deadline where they are read.

use crate::listen::connections::{Entry, Serving};
use rustls::pki_types::CertificateDer;
use std::io::{IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

/// From the first byte after an answer, or of a connection, until a request's head is there.
const HEAD: Duration = Duration::from_secs(10);
/// How long a write may wait before what was taken meanwhile is weighed.
const STALL: Duration = Duration::from_secs(20);
/// Bytes that have to be taken in that time: 1 KiB a second.
const STALL_BYTES_MIN: usize = 20 * 1024;

/// A socket with deadlines.
pub struct Guarded {
    io: TcpStream,
    entry: Entry,
    /// Runs while a head is on its way; with the number of requests before it.
    head: Option<(Pin<Box<Sleep>>, u32)>,
    /// Runs while the other side does not take what is written.
    stall: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since `stall` runs.
    taken: usize,
}

impl Guarded {
    pub(super) fn new(io: TcpStream, entry: Entry) -> Self {
        Guarded {
            io,
            entry,
            head: None,
            stall: None,
            taken: 0,
        }
    }

    /// The next byte, left where it is.
    pub(super) async fn peek(&self, into: &mut [u8]) -> Result<usize> {
        self.io.peek(into).await
    }

    fn too_slow(&self) -> std::io::Error {
        self.entry.was_too_slow();
        std::io::ErrorKind::TimedOut.into()
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<Result<usize>>,
        all: usize,
    ) -> Poll<Result<usize>> {
        match polled {
            Poll::Ready(Ok(n)) if n == all => {
                self.stall = None;
                self.taken = 0;
                polled
            }
            Poll::Ready(Ok(n)) => {
                self.taken += n;
                polled
            }
            Poll::Ready(Err(_)) => polled,
            Poll::Pending => loop {
                let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL)));
                if stall.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                if self.taken < STALL_BYTES_MIN {
                    return Poll::Ready(Err(self.too_slow()));
                }
                self.stall = None;
                self.taken = 0;
            },
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.entry.is_evicted(context) {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(context, into);
        let (served, is_serving) = this.entry.progress();
        if is_serving || this.head.as_ref().is_some_and(|(_, it)| *it != served) {
            this.head = None;
        }
        if is_serving {
            return polled;
        }
        if into.filled().len() > before && this.head.is_none() {
            this.head = Some((Box::pin(sleep(HEAD)), served));
        }
        if polled.is_pending()
            && let Some((head, _)) = &mut this.head
            && head.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(this.too_slow()));
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(context, polled, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        let all = pieces.iter().map(|it| it.len()).sum();
        self.wrote(context, polled, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A certificate that a caller showed and proved, and that an authority of `tls.client_ca` vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// RFC 4514, as far as it can be read.
    pub subject: String,
}

/// Who is at the other end.
#[derive(Clone)]
pub struct Peer {
    /// As the socket says: a proxy's, where there is one.
    pub address: SocketAddr,
    pub over_tls: bool,
    pub certificate: Option<Arc<ClientCertificate>>,
    entry: Entry,
}

impl Peer {
    /// Marks the connection as at work until the answer has been sent.
    pub fn serve(&self) -> Serving {
        self.entry.serve()
    }
}

/// A connection that HTTP is spoken on.
pub struct Connection {
    io: Io,
    peer: Peer,
}

enum Io {
    Plain(Guarded),
    Tls(Box<TlsStream<Guarded>>),
}

impl Connection {
    pub(super) fn plain(io: Guarded, address: SocketAddr, entry: Entry) -> Self {
        Connection {
            io: Io::Plain(io),
            peer: Peer {
                address,
                over_tls: false,
                certificate: None,
                entry,
            },
        }
    }

    pub(super) fn tls(io: TlsStream<Guarded>, address: SocketAddr, entry: Entry) -> Self {
        let shown = io.get_ref().1.peer_certificates().and_then(|it| it.first());
        let certificate = shown.map(|it| Arc::new(client_certificate(it)));
        Connection {
            io: Io::Tls(Box::new(io)),
            peer: Peer {
                address,
                over_tls: true,
                certificate,
                entry,
            },
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

fn client_certificate(der: &CertificateDer<'_>) -> ClientCertificate {
    let subject = match X509Certificate::from_der(der) {
        Ok((_, it)) => it.subject().to_string(),
        Err(_) => String::new(),
    };
    ClientCertificate { subject }
}

macro_rules! io {
    ($self:ident, $it:ident => $call:expr) => {
        match &mut $self.get_mut().io {
            Io::Plain(io) => {
                let $it = Pin::new(io);
                $call
            }
            Io::Tls(io) => {
                let $it = Pin::new(io.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        io!(self, it => it.poll_read(context, into))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        io!(self, it => it.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        io!(self, it => it.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        io!(self, it => it.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        io!(self, it => it.poll_shutdown(context))
    }
}
