//! Receivers of log sinks: HTTP servers that refuse what the real ones refuse, by their vendors' documents. They keep the
//! records they accepted, byte for byte, and can be told to fail.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::collections::VecDeque;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::App;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web;
use actix_web::web::Bytes;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use standardwebhooks::Webhook;

/// Splunk Cloud's limit of one call, in bytes, and Datadog's.
const HEC_BYTES_MAX: usize = 1_000_000;
const DATADOG_BYTES_MAX: usize = 5 * 1_000_000;
const DATADOG_LOGS_MAX: usize = 1_000;

/// Which receiver it is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Verifies with the independent library. The secret is set once the sink has been made.
    Webhook,
    /// A Splunk collector with this token, which may write to these indexes.
    Hec { token: String, acknowledges: bool },
    /// Datadog's intake with this API key.
    Datadog { key: String },
}

/// How the next call fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, and perhaps how long to wait.
    Status(u16, Option<u64>),
    /// It stores everything, then breaks the connection without an answer.
    Cut,
    /// It answers after this time.
    Slow(Duration),
    /// A redirect to another place.
    Redirect(String),
}

/// What it holds and has seen.
#[derive(Default)]
pub struct State {
    /// Secret of the webhook.
    pub secret: String,
    /// Records in the order they were accepted, repetitions included, as their exact bytes.
    pub records: Vec<String>,
    pub faults: VecDeque<Fault>,
    /// Refuses every record that holds this text.
    pub poison: Option<String>,
    /// Why calls were refused, by its own rules.
    pub refusals: Vec<String>,
    /// Every call: headers as text.
    pub calls: Vec<String>,
    /// What it answers when it is asked for its newest checkpoint; by default the newest it holds.
    pub checkpoint: Option<String>,
    /// Takes anything and keeps nothing: for measurements.
    pub anything: bool,
    /// Acknowledgements that are asked for the first time are not there yet.
    pending_acks: Vec<u64>,
    next_ack: u64,
}

/// A running receiver; the port stays the same over a stop and a new start.
pub struct Receiver {
    pub port: u16,
    kind: Kind,
    state: Arc<Mutex<State>>,
    running: Option<(ServerHandle, JoinHandle<()>)>,
}

struct Shared {
    kind: Kind,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub fn start(kind: Kind) -> Receiver {
        let mut receiver = Receiver {
            port: 0,
            kind,
            state: Arc::default(),
            running: None,
        };
        receiver.go_on();
        receiver
    }

    /// Listens, on the port it had before.
    pub fn go_on(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("a loopback port");
        self.port = listener.local_addr().expect("a bound address").port();
        let shared = web::Data::new(Shared {
            kind: self.kind.clone(),
            state: self.state.clone(),
        });
        let (report, handle) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(shared.clone())
                        .app_data(web::PayloadConfig::new(64 * 1024 * 1024))
                        .default_service(web::to(serve))
                };
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .shutdown_timeout(0)
                    .listen(listener)
                    .expect("the listener is good")
                    .run();
                report.send(server.handle()).expect("the starter waits");
                server.await.expect("it serves until stopped");
            });
        });
        let handle = handle.recv().expect("the thread reports its handle");
        self.running = Some((handle, thread));
    }

    /// Closes the port and every connection.
    pub fn stop(&mut self) {
        if let Some((handle, thread)) = self.running.take() {
            drop(handle.stop(false));
            thread.join().expect("the thread ends well");
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Looks at, or changes, what it holds.
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("no holder panics"))
    }

    /// The accepted records.
    pub fn records(&self) -> Vec<String> {
        self.with(|it| it.records.clone())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let fault = {
        let mut state = shared.state.lock().expect("no holder panics");
        if state.anything {
            return HttpResponse::Ok().json(json!({ "code": 0 }));
        }
        if matches!(shared.kind, Kind::Webhook) && state.secret.is_empty() {
            // The sink's first call may come before the test has read the secret from the answer that made the sink.
            return HttpResponse::ServiceUnavailable().finish();
        }
        state
            .calls
            .push(format!("{} {:?}", request.uri(), request.headers()));
        state.faults.pop_front()
    };
    match fault {
        Some(Fault::Status(status, wait)) => {
            let mut answer = HttpResponse::build(StatusCode::from_u16(status).expect("a status"));
            if let Some(seconds) = wait {
                answer.insert_header(("retry-after", seconds.to_string()));
            }
            return answer.body("internal-host-secret-banner");
        }
        Some(Fault::Redirect(place)) => {
            return HttpResponse::TemporaryRedirect()
                .insert_header(("location", place))
                .finish();
        }
        Some(Fault::Slow(time)) => actix_web::rt::time::sleep(time).await,
        _ => {}
    }
    let mut state = shared.state.lock().expect("no holder panics");
    let judged = match &shared.kind {
        Kind::Webhook => webhook(&request, &body, &mut state),
        Kind::Hec { token, acknowledges } => hec(&request, &body, token, *acknowledges, &mut state),
        Kind::Datadog { key } => datadog(&request, &body, key, &mut state),
    };
    if matches!(fault, Some(Fault::Cut)) {
        // What it has, it has; the sender hears nothing it could rely on.
        return HttpResponse::Ok()
            .insert_header(("content-length", "10"))
            .body(actix_web::body::BoxBody::new(Broken));
    }
    match judged {
        Ok((status, answer)) => {
            HttpResponse::build(StatusCode::from_u16(status).expect("a status")).json(answer)
        }
        Err((status, answer)) => {
            state.refusals.push(format!("{status} {answer}"));
            HttpResponse::build(StatusCode::from_u16(status).expect("a status")).json(answer)
        }
    }
}

/// A body that breaks off at once.
struct Broken;

impl actix_web::body::MessageBody for Broken {
    type Error = std::io::Error;

    fn size(&self) -> actix_web::body::BodySize {
        actix_web::body::BodySize::Sized(10)
    }

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, std::io::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("cut on purpose"))))
    }
}

type Judged = Result<(u16, Value), (u16, Value)>;

fn header<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    request
        .headers()
        .get(name)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default()
}

fn plain(request: &HttpRequest, body: &Bytes) -> Vec<u8> {
    let mut bytes = Vec::new();
    match header(request, "content-encoding") {
        "gzip" => {
            GzDecoder::new(&body[..])
                .read_to_end(&mut bytes)
                .expect("the body is gzip");
            bytes
        }
        "" => body.to_vec(),
        other => panic!("nobody asked for content-encoding {other}"),
    }
}

fn poisoned(state: &State, record: &str) -> bool {
    state.poison.as_ref().is_some_and(|it| record.contains(it))
}

fn webhook(request: &HttpRequest, body: &Bytes, state: &mut State) -> Judged {
    #[derive(Deserialize)]
    struct Message {
        r#type: String,
        data: Box<RawValue>,
    }
    #[derive(Deserialize)]
    struct Records {
        records: Vec<Box<RawValue>>,
    }
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        if let Ok(value) = header(request, name).parse() {
            headers.insert(name, value);
        }
    }
    let verifier = Webhook::new(&state.secret).expect("a secret");
    if let Err(error) = verifier.verify(body, &headers) {
        return Err((401, json!({ "error": error.to_string() })));
    }
    let message: Message = serde_json::from_slice(body).map_err(|e| (400, json!(e.to_string())))?;
    match message.r#type.as_str() {
        "journal.records" => {
            let records: Records =
                serde_json::from_str(message.data.get()).map_err(|e| (400, json!(e.to_string())))?;
            if records.records.iter().any(|it| poisoned(state, it.get())) {
                return Err((422, json!("poison")));
            }
            state
                .records
                .extend(records.records.iter().map(|it| it.get().to_owned()));
            Ok((200, json!({})))
        }
        "checkpoint.wanted" => {
            let newest = state.checkpoint.clone().or_else(|| {
                let of = |it: &String| serde_json::from_str::<Value>(it).ok();
                let all = state.records.iter().rev().filter_map(of);
                let mut checkpoints = all.filter(|it| it["type"] == "checkpoint");
                checkpoints
                    .next()
                    .and_then(|it| it["checkpoint"].as_str().map(str::to_owned))
            });
            match newest {
                Some(note) => Ok((200, json!({ "checkpoint": note }))),
                None => Err((404, json!("none yet"))),
            }
        }
        other => Err((400, json!(other))),
    }
}

fn hec(request: &HttpRequest, body: &Bytes, token: &str, acknowledges: bool, state: &mut State) -> Judged {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Event {
        #[serde(default)]
        #[allow(dead_code)]
        time: Option<Value>,
        #[serde(default)]
        #[allow(dead_code)]
        host: Option<String>,
        #[serde(default)]
        #[allow(dead_code)]
        source: Option<String>,
        #[serde(default)]
        #[allow(dead_code)]
        sourcetype: Option<String>,
        #[serde(default)]
        index: Option<String>,
        #[serde(default)]
        event: Option<Box<RawValue>>,
    }
    let refuse = |status: u16, code: u32, text: &str| Err((status, json!({ "text": text, "code": code })));
    match header(request, "authorization").strip_prefix("Splunk ") {
        None if header(request, "authorization").is_empty() => return refuse(401, 2, "Token is required"),
        None => return refuse(401, 3, "Invalid authorization"),
        Some(it) if it != token => return refuse(403, 4, "Invalid token"),
        Some(_) => {}
    }
    let channel = header(request, "x-splunk-request-channel");
    if acknowledges && uuid::Uuid::parse_str(channel).is_err() {
        return refuse(400, 10, "Data channel is missing");
    }
    if request.path() == "/services/collector/ack" {
        let asked: Value = serde_json::from_slice(body).expect("JSON");
        let id = asked["acks"][0].as_u64().expect("an id");
        // The first question comes too early.
        let known = state.pending_acks.contains(&id);
        state.pending_acks.retain(|it| *it != id);
        if !known && id < state.next_ack {
            return Ok((200, json!({ "acks": { id.to_string(): true } })));
        }
        return Ok((200, json!({ "acks": { id.to_string(): false } })));
    }
    if request.path() != "/services/collector/event" {
        return Err((
            404,
            json!({ "text": "The requested URL was not found on this server.", "code": 404 }),
        ));
    }
    let bytes = plain(request, body);
    if bytes.len() > HEC_BYTES_MAX {
        return Err((413, json!({ "text": "Content-Length too large", "code": 413 })));
    }
    let mut accepted = Vec::new();
    for (number, event) in serde_json::Deserializer::from_slice(&bytes)
        .into_iter::<Event>()
        .enumerate()
    {
        let invalid = |code: u32, text: &str| {
            Err((
                400,
                json!({ "text": text, "code": code, "invalid-event-number": number }),
            ))
        };
        let Ok(event) = event else {
            return invalid(6, "Invalid data format");
        };
        if event.index.as_deref().is_some_and(|it| it != "audit") {
            return invalid(7, "Incorrect index");
        }
        match event.event {
            None => return invalid(12, "Event field is required"),
            Some(it) if it.get() == "\"\"" => return invalid(13, "Event field cannot be blank"),
            Some(it) if poisoned(state, it.get()) => return invalid(6, "Invalid data format"),
            Some(it) => accepted.push(it.get().to_owned()),
        }
    }
    if accepted.is_empty() {
        return refuse(400, 5, "No data");
    }
    state.records.extend(accepted);
    if acknowledges {
        let id = state.next_ack;
        state.next_ack += 1;
        state.pending_acks.push(id);
        return Ok((200, json!({ "text": "Success", "code": 0, "ackId": id })));
    }
    Ok((200, json!({ "text": "Success", "code": 0 })))
}

fn datadog(request: &HttpRequest, body: &Bytes, key: &str, state: &mut State) -> Judged {
    #[derive(Deserialize)]
    struct Log {
        message: String,
        ddsource: String,
        service: String,
        hostname: String,
        timestamp: i64,
    }
    let refuse = |status: u16, detail: &str| {
        Err((
            status,
            json!({ "errors": [{ "status": status.to_string(), "title": detail }] }),
        ))
    };
    match header(request, "dd-api-key") {
        "" => return refuse(401, "Unauthorized"),
        it if it != key => return refuse(403, "Forbidden"),
        _ => {}
    }
    if request.path() != "/api/v2/logs" || request.method() != "POST" {
        return refuse(404, "Not found");
    }
    let bytes = plain(request, body);
    if bytes.len() > DATADOG_BYTES_MAX {
        return refuse(413, "Payload Too Large");
    }
    let Ok(logs) = serde_json::from_slice::<Vec<Log>>(&bytes) else {
        return refuse(400, "Bad Request");
    };
    let named = |it: &Log| {
        it.ddsource == "signedapproval"
            && !it.service.is_empty()
            && !it.hostname.is_empty()
            && it.timestamp > 0
    };
    if logs.is_empty() || logs.len() > DATADOG_LOGS_MAX || !logs.iter().all(named) {
        return refuse(400, "Bad Request");
    }
    if logs.iter().any(|it| poisoned(state, &it.message)) {
        return refuse(400, "Bad Request");
    }
    state.records.extend(logs.into_iter().map(|it| it.message));
    Ok((202, json!({})))
}
