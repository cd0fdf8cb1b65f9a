//! The fake GitLab's HTTP side: one server thread on loopback, and the planned faults as they look on the wire.
//! It never listens on another address than 127.0.0.1 and knows nothing of merge requests.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::App;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::body::BodySize;
use actix_web::body::BoxBody;
use actix_web::body::MessageBody;
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web;
use actix_web::web::Bytes;

use crate::support::forge::gitlab::Shared;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::Request;

/// GitLab takes bodies of about this size; a status post is a few hundred bytes.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// An answer and how it goes out.
pub struct Outgoing {
    pub reply: Reply,
    pub way: Way,
}

/// How an answer goes out.
pub enum Way {
    Plain,
    /// After this time.
    Late(Duration),
    /// Half the body, then the connection breaks.
    Cut,
    /// A JSON string of this many bytes instead of the body.
    Flood(u64),
}

/// The running server; the port stays the same over a stop and a new start.
pub struct Server {
    pub port: u16,
    handle: ServerHandle,
    thread: JoinHandle<()>,
}

impl Server {
    /// Listens on 127.0.0.1; port 0 takes a free one.
    pub fn start(shared: Arc<Shared>, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a loopback port for the fake GitLab");
        let port = listener.local_addr().expect("a bound address").port();
        let (report, handle) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let data = web::Data::from(shared);
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(data.clone())
                        .app_data(web::PayloadConfig::new(BODY_LIMIT))
                        .default_service(web::to(serve))
                };
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .shutdown_timeout(0);
                let server = server.listen(listener).expect("the listener is good").run();
                report.send(server.handle()).expect("the starter waits");
                server.await.expect("the fake GitLab serves until stopped");
            });
        });
        let handle = handle.recv().expect("the server thread reports its handle");
        Self { port, handle, thread }
    }

    /// Closes the port and every connection; returns when nothing listens any more.
    pub fn stop(self) {
        // Asking is enough: the answer of the stop is the end of the thread.
        drop(self.handle.stop(false));
        self.thread.join().expect("the server thread ends well");
    }
}

async fn serve(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
    let asked = Request {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
        private_token: header("private-token"),
        bearer,
        content_type: header("content-type"),
        body: body.to_vec(),
    };
    let shared = shared.into_inner();
    // Off the event loop: the test's own check may take its time or run a runtime of its own.
    match web::block(move || shared.handle(asked)).await {
        Ok(outgoing) => put(outgoing).await,
        Err(_) => HttpResponse::InternalServerError().body("the fake GitLab broke; see the test's output"),
    }
}

async fn put(outgoing: Outgoing) -> HttpResponse {
    let Outgoing { reply, way } = outgoing;
    if let Way::Late(time) = way {
        actix_web::rt::time::sleep(time).await;
    }
    let status = StatusCode::from_u16(reply.status).expect("a valid status code");
    let mut out = HttpResponse::build(status);
    out.content_type(reply.content_type);
    for (name, value) in &reply.headers {
        out.insert_header((name.as_str(), value.as_str()));
    }
    match way {
        Way::Cut => {
            let half = reply.body[..reply.body.len() / 2].to_vec();
            out.body(BoxBody::new(Broken {
                size: reply.body.len() as u64,
                half: Some(half.into()),
            }))
        }
        Way::Flood(size) => out.body(BoxBody::new(Flood { left: size })),
        Way::Plain | Way::Late(_) => out.body(reply.body),
    }
}

/// A body that promises its whole size and breaks off half way.
struct Broken {
    size: u64,
    half: Option<Bytes>,
}

impl MessageBody for Broken {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        let half = self.half.take();
        Poll::Ready(Some(half.ok_or_else(|| io::Error::other("cut on purpose"))))
    }
}

/// A body of any size that costs no memory.
struct Flood {
    left: u64,
}

impl MessageBody for Flood {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        static SPACES: [u8; 65_536] = [b' '; 65_536];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.left.min(SPACES.len() as u64);
        self.left -= piece;
        let piece = usize::try_from(piece).expect("at most 65536");
        Poll::Ready(Some(Ok(Bytes::from_static(&SPACES[..piece]))))
    }
}
