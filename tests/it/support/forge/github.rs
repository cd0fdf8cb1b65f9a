//! A stateful, strict GitHub on loopback, in the manner of an Enterprise Server: real HTTP, real refusals, real webhooks. It
//! knows one App, its installations and what they may do, and checks every token.

pub mod acts;
mod api;
mod app;
pub mod deploys;
mod graph;
mod hooks;
mod pulls;
mod rules;
pub mod shapes;
pub mod state;
mod validator;

use crate::support::forge::github::api::{Reply, Request};
use crate::support::forge::github::hooks::Errand;
use crate::support::forge::github::state::{Call, Fault, State};
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use jiff::Timestamp;
use serde_json::Value;
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

pub use hooks::sign as hooks_sign;
pub use validator::installed;

/// A running fake GitHub. Clones are handles of the same one; the last one to go stops it.
#[derive(Clone)]
pub struct FakeGitHub {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    handle: ServerHandle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.shared.errands.send(Errand::Stop);
        drop(self.handle.stop(false));
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        thread.expect("the thread is there").join().expect("it ends well");
    }
}

/// What the server, the webhook sender and the test side share.
pub struct Shared {
    state: Mutex<State>,
    ticks: Mutex<u64>,
    ticked: Condvar,
    errands: UnboundedSender<Errand>,
}

impl Shared {
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state; what it raises is sent.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (out, raised) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let out = change(&mut state);
            (out, std::mem::take(&mut state.raised))
        };
        for delivery in raised {
            let _ = self.errands.send(Errand::Deliver(delivery));
        }
        *self.ticks.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.ticked.notify_all();
        out
    }
}

impl FakeGitHub {
    /// Starts on a port of its own, with an App that is installed nowhere.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let port = listener.local_addr().expect("a bound address").port();
        let (errands, inbox) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(&format!("http://127.0.0.1:{port}"))),
            ticks: Mutex::new(0),
            ticked: Condvar::new(),
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
                        .default_service(web::to(serve))
                };
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .shutdown_timeout(0);
                let server = server.listen(listener).expect("the listener is good").run();
                report.send(server.handle()).expect("the starter waits");
                server.await.expect("the fake GitHub serves until stopped");
            });
        });
        let handle = handle.recv().expect("the server thread reports its handle");
        let sending = shared.clone();
        std::thread::spawn(move || hooks::run(&sending, inbox));
        FakeGitHub {
            running: Arc::new(Running {
                shared,
                handle,
                thread: Mutex::new(Some(thread)),
            }),
        }
    }

    /// Where people would go.
    pub fn base_url(&self) -> String {
        self.read(|state| state.base_url.clone())
    }

    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.running.shared.read(look)
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.running.shared.change(change)
    }

    /// The next `times` calls of that method whose path holds `path` are answered so.
    pub fn fail(
        &self,
        method: &str,
        path: &str,
        times: usize,
        status: u16,
        headers: &[(&str, &str)],
        body: Value,
    ) {
        let fault = Fault {
            method: method.to_owned(),
            path: path.to_owned(),
            left: times,
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body,
        };
        self.change(|state| state.faults.push(fault));
    }

    /// The calls of that method whose path holds `path`.
    pub fn calls_to(&self, method: &str, path: &str) -> Vec<Call> {
        self.read(|state| {
            let all = state.calls.iter();
            all.filter(|it| it.method == method && it.path.contains(path))
                .cloned()
                .collect()
        })
    }

    /// Waits until the condition holds; it is looked at again at each change.
    pub fn expect(&self, what: &str, timeout: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        loop {
            if holds(self) {
                return;
            }
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                let lines: Vec<String> = self.read(|state| {
                    let last = state.calls.iter().rev().take(25).rev();
                    last.map(|it| {
                        let (method, path, query) = (&it.method, &it.path, &it.query);
                        format!("  {method} {path}?{query} {} -> {}", it.body, it.status)
                    })
                    .collect()
                });
                panic!(
                    "not within {timeout:?}: {what}\nlast calls:\n{}",
                    lines.join("\n")
                );
            }
            let ticks = &self.running.shared.ticks;
            let guard = ticks.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = left.min(Duration::from_millis(200));
            drop(self.running.shared.ticked.wait_timeout(guard, wait));
        }
    }

    /// Nothing that no real client may do was done: odd tokens, calls that GitHub's own document does not describe.
    pub fn assert_no_violations(&self) {
        let found = self.read(|state| state.violations.clone());
        assert!(found.is_empty(), "the fake GitHub saw:\n{}", found.join("\n"));
    }
}

async fn serve(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let asked = Request {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
        authorization: header("authorization"),
        accept: header("accept"),
        version: header("x-github-api-version"),
        agent: header("user-agent"),
        if_none_match: header("if-none-match"),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        raw: body.to_vec(),
    };
    let reply: Reply = shared.change(|state| api::handle(state, &asked));
    let mut out = HttpResponse::build(StatusCode::from_u16(reply.status).expect("a status"));
    let now = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    out.insert_header(("date", now));
    out.content_type("application/json; charset=utf-8");
    for (name, value) in &reply.headers {
        out.insert_header((name.as_str(), value.as_str()));
    }
    match reply.body {
        Value::Null => out.finish(),
        body => out.body(body.to_string()),
    }
}
