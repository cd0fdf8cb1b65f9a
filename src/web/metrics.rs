//! Figures for Prometheus, on a listener of their own: what was counted since the start, and what is so at this moment.

use crate::domain::condition::Severity;
use crate::domain::sink::Sink;
use crate::domain::state::{Read, Table};
use crate::domain::time::Time;
use crate::listen::Connections;
use crate::store::Snapshot;
use crate::web::api::sinks::Lag;
use crate::web::app::App;
use crate::web::problem::Problem;
use crate::web::recall::ROUTE;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::sync::atomic::{AtomicU64, Ordering};
use subtle::ConstantTimeEq;

/// Bounds of answer times, in seconds. Long polls last up to a minute by design.
const ANSWER_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];
/// Media type of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted from the start on.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    /// Those of answers that are given again.
    recalled: (IntCounter, Histogram),
    /// Needed to read them, where one is set.
    token: Option<String>,
    started: Time,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(token: Option<String>, started: Time) -> Metrics {
        let registry = Registry::new();
        let requests = Opts::new(
            "signedapproval_http_requests_total",
            "Answers given, by route, method and status",
        );
        let requests =
            IntCounterVec::new(requests, &["route", "method", "status"]).expect("names are well formed");
        let seconds = HistogramOpts::new(
            "signedapproval_http_request_duration_seconds",
            "Time until an answer's head, by route",
        )
        .buckets(ANSWER_SECONDS.to_vec());
        let seconds = HistogramVec::new(seconds, &["route"]).expect("names are well formed");
        let both: [Box<dyn Collector>; 2] = [Box::new(requests.clone()), Box::new(seconds.clone())];
        for it in both {
            registry.register(it).expect("each is registered once");
        }
        let recalled = (
            requests.with_label_values(&[ROUTE, "GET", "200"]),
            seconds.with_label_values(&[ROUTE]),
        );
        Metrics {
            registry,
            recalled,
            requests,
            seconds,
            token,
            started,
        }
    }

    /// Counts an answer. `route` is the pattern, never the path: paths have no end.
    pub fn answered(&self, route: &str, method: &str, status: u16, seconds: f64) {
        self.requests
            .with_label_values(&[route, method, &status.to_string()])
            .inc();
        self.seconds.with_label_values(&[route]).observe(seconds);
    }

    /// Counts an answer that was given again.
    pub fn recalled(&self, seconds: f64) {
        let (requests, times) = &self.recalled;
        requests.inc();
        times.observe(seconds);
    }
}

/// Whether a caller may read them: whoever has the token, or everybody where none is set.
fn permits(token: Option<&str>, request: &HttpRequest) -> bool {
    let Some(token) = token else {
        return true;
    };
    let value = request.headers().get(header::AUTHORIZATION);
    let shown = value.and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
    shown.is_some_and(|it| it.as_bytes().ct_eq(token.as_bytes()).into())
}

fn text(families: &[prometheus::proto::MetricFamily]) -> Result<HttpResponse, Problem> {
    let text = TextEncoder::new()
        .encode_to_string(families)
        .map_err(Problem::internal)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, TEXT_FORMAT))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text))
}

fn build(registry: &Registry) {
    let info = Opts::new("signedapproval_build_info", "1, with the version as a label")
        .const_label("version", App::version());
    let it = IntGauge::with_opts(info).expect("names are well formed");
    it.set(1);
    registry.register(Box::new(it)).expect("each is registered once");
}

/// What lasts, and whether the appliance is ready all the same.
fn standing<'a>(registry: &Registry, conditions: impl Iterator<Item = (&'a str, Severity)>) {
    let it = IntGaugeVec::new(
        Opts::new(
            "signedapproval_condition",
            "1 for each condition that lasts (Dashboard, Server)",
        ),
        &["condition", "severity"],
    )
    .expect("names are well formed");
    let mut ready = true;
    for (name, severity) in conditions {
        ready &= severity != Severity::Degraded;
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Degraded => "degraded",
        };
        it.with_label_values(&[name, severity]).set(1);
    }
    registry.register(Box::new(it)).expect("each is registered once");
    gauge(
        registry,
        "signedapproval_ready",
        "1 while /readyz answers 200",
        f64::from(u8::from(ready)),
    );
}

/// What monitors are told while the appliance does not serve yet, since somebody has to do something first.
pub struct Waiting {
    /// The condition's name: `sealed`, `rollback_suspected`.
    pub condition: &'static str,
    pub token: Option<String>,
    pub started: Time,
}

/// `GET /metrics` meanwhile: that it is not ready, and why.
pub async fn get_waiting_metrics(
    waiting: Data<Waiting>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if !permits(waiting.token.as_deref(), &request) {
        return Err(Problem::unauthenticated());
    }
    let now = Registry::new();
    build(&now);
    standing(&now, std::iter::once((waiting.condition, Severity::Degraded)));
    process(waiting.started, &now);
    text(&now.gather())
}

/// `GET /readyz` meanwhile.
pub async fn get_waiting_readiness(waiting: Data<Waiting>) -> HttpResponse {
    HttpResponse::ServiceUnavailable()
        .json(serde_json::json!({ "status": "not ready", "reasons": [waiting.condition] }))
}

/// `GET /metrics`: whoever reaches the listener, with the token where one is set.
pub async fn get_metrics(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if !permits(app.metrics.token.as_deref(), &request) {
        return Err(Problem::unauthenticated());
    }
    let now = Registry::new();
    moment(&app, &now)?;
    let mut families = app.metrics.registry.gather();
    families.extend(now.gather());
    text(&families)
}

/// A gauge with one value.
fn gauge(registry: &Registry, name: &str, help: &str, value: f64) {
    let it = Gauge::new(name, help).expect("names are well formed");
    it.set(value);
    registry.register(Box::new(it)).expect("each is registered once");
}

/// A counter that is kept elsewhere.
fn counter(registry: &Registry, name: &str, help: &str, value: u64) {
    let it = prometheus::IntCounter::new(name, help).expect("names are well formed");
    it.inc_by(value);
    registry.register(Box::new(it)).expect("each is registered once");
}

fn whole(value: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "figures for people, exact up to 2^53")]
    let value = value as f64;
    value
}

/// What is so at this moment.
fn moment(app: &App, registry: &Registry) -> Result<(), Problem> {
    build(registry);
    let state = app.snapshot()?;
    let conditions = app.conditions()?;
    standing(
        registry,
        conditions.iter().map(|it| (it.name.as_str(), it.severity)),
    );

    let timings = app.engine.timings();
    let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
    counter(
        registry,
        "signedapproval_writer_transactions_total",
        "Transactions of the writer",
        read(&timings.groups),
    );
    counter(
        registry,
        "signedapproval_writer_commands_total",
        "Commands decided",
        read(&timings.commands),
    );
    let seconds = prometheus::Counter::new(
        "signedapproval_writer_transaction_seconds_total",
        "Time spent in transactions, signing and flushing included",
    )
    .expect("names are well formed");
    seconds.inc_by(std::time::Duration::from_micros(read(&timings.micros)).as_secs_f64());
    registry
        .register(Box::new(seconds))
        .expect("each is registered once");

    let size = state.size()?;
    gauge(
        registry,
        "signedapproval_journal_entries",
        "Entries in the journal",
        whole(size),
    );
    gauge(
        registry,
        "signedapproval_database_bytes",
        "Size of the database file",
        whole(std::fs::metadata(app.database_file()).map_or(0, |it| it.len())),
    );
    gauge(
        registry,
        "signedapproval_data_free_bytes",
        "Free space where the data directory is",
        whole(crate::listen::free_bytes(&app.database_file())),
    );
    gauge(
        registry,
        "signedapproval_writer_queue",
        "Commands that wait for the writer",
        whole(app.engine.queued() as u64),
    );
    let lag = IntGaugeVec::new(
        Opts::new(
            "signedapproval_follower_lag_entries",
            "Journal entries a follower has not looked at yet",
        ),
        &["follower"],
    )
    .expect("names are well formed");
    for (follower, next) in state.cursors()? {
        let behind = i64::try_from(size.saturating_sub(next)).unwrap_or(i64::MAX);
        lag.with_label_values(&[follower.as_str()]).set(behind);
    }
    registry.register(Box::new(lag)).expect("each is registered once");
    sinks(app, &state, registry)?;
    let rows = [
        (
            "signedapproval_requests_waiting",
            "Approval requests that wait for people",
            Table::Waiting,
        ),
        (
            "signedapproval_requests",
            "Approval requests of all times",
            Table::Requests,
        ),
        (
            "signedapproval_exceptions",
            "Exceptions of all times: what went past a gate",
            Table::Exceptions,
        ),
        (
            "signedapproval_changes_to_look_at",
            "Changes a webhook or a look says to read anew",
            Table::Hints,
        ),
        (
            "signedapproval_deployments_open",
            "Deployments of which something may still have to be done",
            Table::OpenDeployments,
        ),
        (
            "signedapproval_sessions",
            "Sessions of people, ended ones included",
            Table::Sessions,
        ),
    ];
    for (name, help, table) in rows {
        gauge(registry, name, help, whole(state.count(table)?));
    }
    connections(&app.front.connections, registry);
    certificate(app, registry);
    process(app.metrics.started, registry);
    Ok(())
}

/// How far each log sink is behind, and whether it takes entries.
fn sinks(app: &App, state: &Snapshot, registry: &Registry) -> Result<(), Problem> {
    let names = ["sink", "kind", "name"];
    let gauges = [
        (
            "signedapproval_sink_lag_entries",
            "Journal entries that a log sink has not stored yet",
        ),
        (
            "signedapproval_sink_lag_seconds",
            "Age of the oldest entry that a log sink has not stored yet",
        ),
        (
            "signedapproval_sink_failing",
            "1 while a log sink takes nothing: it is tried again by itself",
        ),
        (
            "signedapproval_sink_withheld_entries",
            "Entries that a log sink refused for good; it holds a substitute with position and hash",
        ),
    ]
    .map(|(name, help)| IntGaugeVec::new(Opts::new(name, help), &names).expect("names are well formed"));
    for sink in state.all::<Sink>()? {
        if sink.removed.is_some() {
            continue;
        }
        let lag = Lag::of(app, &sink, state, app.now())?;
        let health = app.sinks.board.health(&sink.id).unwrap_or_default();
        let failing = health.failing.is_some() || sink.stuck.is_some();
        let values = [lag.entries, lag.seconds, u64::from(failing), sink.withheld];
        let labels = [sink.id.as_str(), sink.destination.kind(), &sink.name];
        for (gauge, value) in gauges.iter().zip(values) {
            gauge
                .with_label_values(&labels)
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
    for gauge in gauges {
        registry
            .register(Box::new(gauge))
            .expect("each is registered once");
    }
    Ok(())
}

fn connections(connections: &Connections, registry: &Registry) {
    gauge(
        registry,
        "signedapproval_connections",
        "Connections of the public listeners",
        whole(connections.count() as u64),
    );
    let tally = &connections.tally;
    let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
    for (name, help, value) in [
        (
            "signedapproval_connections_accepted_total",
            "Connections that got a place",
            read(&tally.accepted),
        ),
        (
            "signedapproval_connections_refused_total",
            "Connections that found no room",
            read(&tally.refused),
        ),
        (
            "signedapproval_connections_evicted_total",
            "Waiting connections closed to make room",
            read(&tally.evicted),
        ),
        (
            "signedapproval_connections_too_slow_total",
            "Connections closed for taking too long",
            read(&tally.too_slow),
        ),
        (
            "signedapproval_connections_strangers_total",
            "Connections from elsewhere than the trusted proxies",
            read(&tally.strangers),
        ),
        (
            "signedapproval_tls_handshakes_failed_total",
            "Connections that came to no TLS",
            read(&tally.handshakes_failed),
        ),
    ] {
        counter(registry, name, help, value);
    }
}

fn certificate(app: &App, registry: &Registry) {
    let Some(tls) = &app.front.tls else {
        return;
    };
    let current = tls.current();
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
    let seconds = (current.facts.not_after.0 / 1000) as f64;
    gauge(
        registry,
        "signedapproval_certificate_not_after_seconds",
        "When the TLS certificate runs out, in seconds since 1970",
        seconds,
    );
    gauge(
        registry,
        "signedapproval_certificate_self_signed",
        "1 while the TLS certificate is of the server's own making",
        f64::from(u8::from(current.self_signed)),
    );
}

/// What Prometheus' own client libraries say of their process, by the same names.
fn process(started: Time, registry: &Registry) {
    let it = crate::listen::process();
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Resident memory",
            it.resident_bytes,
        ),
        ("process_virtual_memory_bytes", "Virtual memory", it.virtual_bytes),
        ("process_open_fds", "Open files", it.open_files),
        ("process_max_fds", "Files that may be open", it.open_files_max),
        ("process_threads", "Threads", it.threads),
    ] {
        gauge(registry, name, help, whole(value));
    }
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century")]
    let began = started.0 as f64 / 1000.0;
    gauge(
        registry,
        "process_start_time_seconds",
        "When the process began, in seconds since 1970",
        began,
    );
    let seconds = prometheus::Counter::new("process_cpu_seconds_total", "CPU time used")
        .expect("names are well formed");
    seconds.inc_by(it.cpu_seconds);
    registry
        .register(Box::new(seconds))
        .expect("each is registered once");
}
