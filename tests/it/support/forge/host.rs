//! What fake forges stand on: a real HTTP server over one state, and a sender of the webhooks that the state raises.

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use jiff::Timestamp;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// A call as it came in.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|it| it.0 == name);
        found.map(|it| it.1.as_str())
    }

    /// The path's segments, decoded.
    pub fn segments(&self) -> Vec<String> {
        let decoded = |it: &str| {
            let pair = format!("p={}", it.replace('+', "%2B"));
            url::form_urlencoded::parse(pair.as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        self.path
            .trim_start_matches('/')
            .split('/')
            .map(decoded)
            .collect()
    }

    pub fn parameters(&self, name: &str) -> Vec<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    }

    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).into_iter().next()
    }
}

/// What is answered.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// A webhook to be sent.
pub struct Outgoing {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The state of a fake forge.
pub trait Served: Send + 'static {
    fn answer(&mut self, asked: &Asked) -> Answer;
    /// The webhooks raised since they were asked for last.
    fn outgoing(&mut self) -> Vec<Outgoing>;
    /// The newest calls, for when something did not happen.
    fn last_calls(&self) -> Vec<String>;
}

/// A running fake forge. Clones are handles of the same one; the last one to go stops it.
pub struct Host<S: Served> {
    running: Arc<Running<S>>,
}

impl<S: Served> Clone for Host<S> {
    fn clone(&self) -> Self {
        Host {
            running: self.running.clone(),
        }
    }
}

struct Running<S: Served> {
    shared: Arc<Shared<S>>,
    handle: ServerHandle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Served> Drop for Running<S> {
    fn drop(&mut self) {
        let _ = self.shared.errands.send(None);
        drop(self.handle.stop(false));
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        thread.expect("the thread is there").join().expect("it ends well");
    }
}

struct Shared<S> {
    state: Mutex<S>,
    /// `None`: no more.
    errands: UnboundedSender<Option<Outgoing>>,
}

impl<S: Served> Shared<S> {
    fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let out = change(&mut state);
        // In the order in which they were raised.
        for it in state.outgoing() {
            let _ = self.errands.send(Some(it));
        }
        out
    }
}

impl<S: Served> Host<S> {
    /// Starts on a port of its own; `make` is told the base URL.
    pub fn start(make: impl FnOnce(&str) -> S) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let port = listener.local_addr().expect("a bound address").port();
        let (errands, inbox) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(make(&format!("http://127.0.0.1:{port}"))),
            errands,
        });
        let (report, handle) = std::sync::mpsc::channel();
        let serving = shared.clone();
        let thread = std::thread::spawn(move || {
            let data = web::Data::from(serving);
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(data.clone())
                        .app_data(web::PayloadConfig::new(32 * 1024 * 1024))
                        .default_service(web::to(serve::<S>))
                };
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .shutdown_timeout(0);
                let server = server.listen(listener).expect("the listener is good").run();
                report.send(server.handle()).expect("the starter waits");
                server.await.expect("the fake forge serves until stopped");
            });
        });
        let handle = handle.recv().expect("the server thread reports its handle");
        std::thread::spawn(move || send_all(inbox));
        Host {
            running: Arc::new(Running {
                shared,
                handle,
                thread: Mutex::new(Some(thread)),
            }),
        }
    }

    pub fn read<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        let state = &self.running.shared.state;
        look(&state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state; what it raises is sent.
    pub fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        self.running.shared.change(change)
    }
}

async fn serve<S: Served>(request: HttpRequest, body: Bytes, shared: web::Data<Shared<S>>) -> HttpResponse {
    let headers = request.headers().iter();
    let asked = Asked {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
        headers: headers
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_ascii_lowercase(), value)
            })
            .collect(),
        body: body.to_vec(),
    };
    let answer = shared.change(|state| state.answer(&asked));
    let mut out = HttpResponse::build(StatusCode::from_u16(answer.status).expect("a status"));
    let now = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    out.insert_header(("date", now));
    out.content_type(answer.content_type);
    for (name, value) in &answer.headers {
        out.insert_header((name.as_str(), value.as_str()));
    }
    out.body(answer.body)
}

/// One after the other, in order.
fn send_all(mut errands: UnboundedReceiver<Option<Outgoing>>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client for webhooks");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for webhooks");
    runtime.block_on(async {
        while let Some(Some(it)) = errands.recv().await {
            let mut call = client.post(it.url).body(it.body);
            for (name, value) in it.headers {
                call = call.header(name, value);
            }
            // Nobody hears of what gets lost.
            let _ = call.send().await;
        }
    });
}
