//! Measures the appliance as its users meet it: the real binary, started and asked over loopback with a software
//! passkey and a fake GitLab. It prints what it measured and judges no time; it never talks beyond 127.0.0.1, and it
//! ends by itself. A webhook or a decision that is lost or refused makes it fail.

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the support offers more than the measurements use"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use crate::support::appliance::Answer;
use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::binary;
use crate::support::appliance::free_port;
use crate::support::appliance::http_client;
use crate::support::appliance::new_dir;
use crate::support::appliance::signal;
use crate::support::forge::gitlab::hooks::HookRequest;
use crate::support::forge::gitlab::hooks::fresh_uuid;
use crate::support::gated::Gated;
use crate::support::person::Person;

const USAGE: &str = "\
Measures the appliance over loopback: cargo bench --bench appliance -- [--json]

  --json   JSON on stdout instead of tables
  --hooks RATE[,RATE…]  only webhooks, so many a second
  --quick  about a tenth of everything; also without --bench, which cargo bench adds

SIGNEDAPPROVAL_TEST_BINARY names another binary than cargo's own, TMPDIR where its data lies.
";

/// The whole run. Far above what a slow machine needs: it only keeps a hung one from running for ever.
const TOTAL_MAX: Duration = Duration::from_secs(20 * 60);
/// One start or one end of the process.
const START_MAX: Duration = Duration::from_secs(60);
/// Between two tries to connect to a process that does not listen yet: the resolution of a start's time.
const CONNECT_AGAIN: Duration = Duration::from_micros(100);
/// Before memory is looked at, so that what was just answered is put away.
const REST: Duration = Duration::from_secs(1);
/// Connections that open requests at the same time.
const OPENERS: usize = 8;
/// People who decide at the same moment.
const APPROVERS: usize = 32;
/// Connections that webhooks come on.
const HOOK_CONNECTIONS: usize = 32;
/// Webhooks a second, one rate after the other.
const HOOKS_PER_SECOND: &[u32] = &[500, 2_000];
/// Merge requests that the webhooks are about.
const CHANGES: usize = 10;
/// Flushed writes by which the disk is described.
const FLUSHES: usize = 200;
/// Fewer samples than this have no 99th percentile worth the name.
const P99_SAMPLES_MIN: usize = 100;

/// How much is measured.
struct Counts {
    starts: usize,
    requests: usize,
    decisions: usize,
    /// Rounds in which all approvers decide one request each.
    rounds: usize,
    hook_seconds: u32,
}

const FULL: Counts = Counts {
    starts: 20,
    requests: 1_000,
    decisions: 200,
    rounds: 10,
    hook_seconds: 10,
};
const QUICK: Counts = Counts {
    starts: 3,
    requests: 100,
    decisions: 20,
    rounds: 2,
    hook_seconds: 1,
};

fn main() -> ExitCode {
    let (mut json, mut quick, mut by_cargo_bench) = (false, false, false);
    let mut only_hooks: Option<Vec<u32>> = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--hooks" => {
                let rates = arguments.next().unwrap_or_default();
                let rates: Result<Vec<u32>, _> = rates.split(',').map(str::parse).collect();
                match rates {
                    Ok(rates) if rates.iter().all(|it| *it > 0) => only_hooks = Some(rates),
                    _ => {
                        eprint!("--hooks takes numbers above 0\n\n{USAGE}");
                        return ExitCode::from(2);
                    }
                }
            }
            "--json" => json = true,
            "--quick" => quick = true,
            "--bench" => by_cargo_bench = true,
            "--help" | "-h" => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprint!("unknown argument {other}\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let counts = if quick || !by_cargo_bench { &QUICK } else { &FULL };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime for the measurements");
    let mut report = Report {
        machine: machine(),
        ..Report::default()
    };
    let measured = runtime.block_on(async {
        // What is cut off is dropped, and with it every process that was started.
        tokio::time::timeout(TOTAL_MAX, async {
            match &only_hooks {
                Some(rates) => measure_hooks(counts, rates, &mut report).await,
                None => measure(counts, &mut report).await,
            }
        })
        .await
    });
    if measured.is_err() {
        report
            .failures
            .push(format!("not done after {} s", TOTAL_MAX.as_secs()));
    }
    if json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.tables());
    }
    if report.failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    for failure in &report.failures {
        eprintln!("failed: {failure}");
    }
    ExitCode::FAILURE
}

async fn measure(counts: &Counts, report: &mut Report) {
    let size = fs::metadata(binary()).expect("the binary is there").len();
    report.figure("binary_size", "size of the binary", mib(size), "MiB");
    measure_starts(counts, report);
    measure_memory_and_decisions(counts, report).await;
    measure_hooks(counts, HOOKS_PER_SECOND, report).await;
}

// ---- starts ----

/// New data directories, and one that a first start left.
fn measure_starts(counts: &Counts, report: &mut Report) {
    progress("starts");
    let starts: Vec<_> = (0..counts.starts)
        .map(|_| {
            let dir = new_dir();
            let took = start_once(&dir, &dir.join("data"), free_port());
            remove(&dir);
            took
        })
        .collect();
    report.starts("start_new", "start, new data directory", starts);
    let (dir, port) = (new_dir(), free_port());
    let data_dir = dir.join("data");
    let first = start_once(&dir, &data_dir, port);
    let starts = (0..counts.starts)
        .map(|_| start_once(&dir, &data_dir, port))
        .collect();
    report.starts("start_existing", "start, existing data directory", starts);
    if let Err(reason) = first {
        report.failures.push(format!("the first start: {reason}"));
    }
    remove(&dir);
}

/// The time from the spawn to the first 200 of `/healthz`. The process is then ended by SIGTERM.
fn start_once(dir: &Path, data_dir: &Path, port: u16) -> Result<Duration, String> {
    let log = dir.join("start.log");
    let to_log = || {
        File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the directory is writable")
    };
    let mut command = Command::new(binary());
    command
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .arg("serve")
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--public-url", &format!("http://localhost:{port}")])
        .stdin(Stdio::null())
        .stdout(to_log())
        .stderr(to_log());
    let started = Instant::now();
    let child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", binary().display()));
    let mut running = Running(child);
    loop {
        match ask_health(port) {
            Ok(true) => break,
            Ok(false) | Err(_) if started.elapsed() < START_MAX => {}
            last => return Err(format!("/healthz: {last:?} after {START_MAX:?}")),
        }
        if let Some(status) = running.0.try_wait().expect("the child can be asked") {
            let text = fs::read(&log).unwrap_or_default();
            return Err(format!("it ended, {status}: {}", String::from_utf8_lossy(&text)));
        }
        std::thread::sleep(CONNECT_AGAIN);
    }
    let took = started.elapsed();
    signal(running.0.id(), "TERM");
    let asked = Instant::now();
    while asked.elapsed() < START_MAX {
        match running.0.try_wait().expect("the child can be asked") {
            Some(status) if status.success() => return Ok(took),
            Some(status) => return Err(format!("it ended, {status}, when asked to stop")),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Err(format!("it still runs {START_MAX:?} after SIGTERM"))
}

/// A process that is gone when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Killing one that has ended does nothing, and there is nobody left to tell.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// One connection, one question, without a client's own costs.
fn ask_health(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(START_MAX))?;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status == *b"HTTP/1.1 200")
}

// ---- memory and decisions ----

/// One appliance: its memory when new, its memory after the requests, then decisions on these requests.
async fn measure_memory_and_decisions(counts: &Counts, report: &mut Report) {
    progress("memory");
    let appliance = Appliance::start(Options::default()).await;
    tokio::time::sleep(REST).await;
    report.figure(
        "rss_start",
        "resident memory after the start",
        rss(appliance.pid(), "VmRSS"),
        "MiB",
    );

    let ada = Person::set_up(&appliance, "Ada").await;
    let mut keys = Vec::new();
    for n in 0..OPENERS {
        let key = ada
            .create_api_key(&format!("Pipeline {n}"), &["request"], &[])
            .await;
        keys.push(appliance.api().with_key(&key.key));
    }
    let requests = open_requests(keys, counts.requests).await;
    tokio::time::sleep(REST).await;
    let what = format!("resident memory after {} requests opened", requests.len());
    report.figure("rss_after_requests", &what, rss(appliance.pid(), "VmRSS"), "MiB");

    progress("decisions");
    let needed = counts.decisions + counts.rounds * APPROVERS;
    let mut open = requests;
    // Where fewer requests were opened than decisions are wanted (a quick run), the rest is opened now.
    if open.len() < needed {
        let key = ada.create_api_key("More", &["request"], &[]).await;
        let more = needed - open.len();
        open.extend(open_requests(vec![appliance.api().with_key(&key.key)], more).await);
    }

    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let mut alone = Vec::new();
    for request in open.drain(..counts.decisions) {
        alone.push(decide(&bea, &request, None).await);
    }
    report.decisions("decision", "decision, one approver", alone);

    let barrier = Arc::new(Barrier::new(APPROVERS));
    let mut together = JoinSet::new();
    for n in 0..APPROVERS {
        let person = ada
            .bring_in(&appliance, &format!("Approver {n}"), &["approver"])
            .await;
        let mine: Vec<String> = open.drain(..counts.rounds).collect();
        let barrier = barrier.clone();
        together.spawn(async move {
            let mut made = Vec::new();
            for request in mine {
                made.push(decide(&person, &request, Some(&barrier)).await);
            }
            made
        });
    }
    let made = together.join_all().await.concat();
    let what = format!("decision, {APPROVERS} approvers at the same moment");
    report.decisions("decision_concurrent", &what, made);
    report.figure(
        "rss_after_decisions",
        "resident memory after the decisions",
        rss(appliance.pid(), "VmRSS"),
        "MiB",
    );
}

/// What a decision took, or why there is none.
type Made = Result<Duration, String>;

/// Options and signature first; only the decision's own round trip is timed, from the barrier on where there is one.
async fn decide(person: &Person, request: &str, barrier: Option<&Barrier>) -> Made {
    let begun = person.begin_decision(request, "approve", None).await;
    if let Some(barrier) = barrier {
        // Whoever was refused comes along too, or the others would wait for ever.
        barrier.wait().await;
    }
    let signed = begun.map_err(|answer| format!("the options of {request}: {answer:?}"))?;
    let started = Instant::now();
    let answer: Answer = person.finish_decision(&signed).await;
    let took = started.elapsed();
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is_made = body["status"] == "approved" && body["credential"].is_string();
    if answer.status == 200 && is_made {
        Ok(took)
    } else {
        Err(format!("{request}: {answer:?}"))
    }
}

/// Opens that many requests, one task for each client; gives their ids.
async fn open_requests(clients: Vec<Api>, count: usize) -> Vec<String> {
    let mut opening = JoinSet::new();
    let tasks = clients.len();
    for (nth, client) in clients.into_iter().enumerate() {
        opening.spawn(async move {
            let mut ids = Vec::new();
            for n in (nth..count).step_by(tasks) {
                let body = json!({
                    "action": format!("Deploy build {n} to production"), "environment": "production",
                    "metadata": {"commit": format!("{n:040x}"), "actor": "ci"}, "ttl_seconds": 3600,
                });
                ids.push(client.open_request(&body).await);
            }
            ids
        });
    }
    opening.join_all().await.concat()
}

// ---- webhooks ----

/// What became of one webhook.
struct Sent {
    delivery: String,
    /// The HTTP status, or why there was no answer.
    answer: Result<u16, String>,
    /// Since it was due: the wait for a free connection counts.
    took: Duration,
}

/// Webhooks at a steady pace, then the journal, then starts on the data directory that came of it.
async fn measure_hooks(counts: &Counts, rates: &[u32], report: &mut Report) {
    let mut gated = Gated::start().await;
    let changes: Vec<_> = (0..CHANGES)
        .map(|n| gated.open(&format!("feature-{n}"), "main"))
        .collect();
    for change in &changes {
        gated.request(change, "main", "pending").await;
    }
    let genuine: Vec<HookRequest> = gated
        .gitlab
        .deliveries()
        .iter()
        .filter(|it| it.event == "Merge Request Hook")
        .map(|it| gated.gitlab.request_of(it.id))
        .collect();
    assert_eq!(genuine.len(), CHANGES, "one webhook for each merge request");

    let mut sent = Vec::new();
    for rate in rates {
        progress(&format!("{rate} webhooks a second"));
        sent.extend(measure_rate(&genuine, counts.hook_seconds, *rate, report).await);
    }

    // The journal's list is the judge: an answer of success means that the delivery is in it, once.
    let mut journalled: BTreeMap<String, usize> = BTreeMap::new();
    for event in gated.ada.journal("hook.received").await {
        let delivery = event["data"]["delivery"]
            .as_str()
            .unwrap_or_else(|| panic!("a received webhook without a delivery: {event}"));
        *journalled.entry(delivery.to_owned()).or_default() += 1;
    }
    let acknowledged: Vec<&Sent> = sent.iter().filter(|it| it.is_acknowledged()).collect();
    let times = |it: &Sent| journalled.get(&it.delivery).copied().unwrap_or_default();
    let lost = acknowledged.iter().filter(|it| times(it) == 0).count();
    let doubled = acknowledged.iter().filter(|it| times(it) > 1).count();
    let numbers = [
        (
            "webhook_acknowledged",
            "webhooks acknowledged",
            acknowledged.len(),
        ),
        ("webhook_lost", "webhooks acknowledged and lost", lost),
        ("webhook_doubled", "webhooks journalled twice", doubled),
    ];
    for (key, what, number) in numbers {
        report.figure(key, what, real(number), "");
    }
    if lost + doubled > 0 {
        report
            .failures
            .push(format!("{lost} webhooks lost, {doubled} doubled"));
    }
    let pid = gated.appliance.pid();
    let (now, most) = (rss(pid, "VmRSS"), rss(pid, "VmHWM"));
    report.figure(
        "rss_after_webhooks",
        "resident memory after the webhooks",
        now,
        "MiB",
    );
    report.figure("rss_most", "resident memory at its most till then", most, "MiB");

    progress("starts with a journal");
    let answer = gated
        .appliance
        .api()
        .get("/.well-known/signedapproval/checkpoint")
        .await;
    // A checkpoint's second line is the size of the tree (C2SP tlog-checkpoint).
    let entries = answer.text().lines().nth(1).unwrap_or_default().to_owned();
    gated.appliance.stop().await;
    let at = &gated.appliance;
    let starts = (0..counts.starts)
        .map(|_| start_once(at.dir(), at.data_dir(), at.port()))
        .collect();
    let what = format!("start, a journal of {entries} entries");
    report.starts("start_journal", &what, starts);
}

/// Webhooks at one pace; what became of them.
async fn measure_rate(
    genuine: &[HookRequest],
    seconds: u32,
    per_second: u32,
    report: &mut Report,
) -> Vec<Sent> {
    let count = seconds * per_second;
    let started = Instant::now();
    let sent = send_hooks(genuine.to_vec(), count, per_second).await;
    let lasted = started.elapsed();

    let mut by_answer: BTreeMap<String, usize> = BTreeMap::new();
    for it in &sent {
        let word = match &it.answer {
            Ok(status) => status.to_string(),
            Err(_) => "none".to_owned(),
        };
        *by_answer.entry(word).or_default() += 1;
    }
    let what = format!("webhook, {per_second} a second for {seconds} s");
    let key = format!("webhook_{per_second}");
    report.durations(&key, &what, sent.iter().map(|it| it.took).collect());
    let rate = f64::from(count) / lasted.as_secs_f64();
    let what = format!("webhooks answered a second, of {per_second} due");
    report.figure(&format!("{key}_rate"), &what, rate, "1/s");
    for (word, times) in &by_answer {
        let what = format!("webhooks answered {word}, at {per_second} a second");
        report.figure(&format!("{key}_answer_{word}"), &what, real(*times), "");
    }
    let refused: Vec<&Sent> = sent.iter().filter(|it| !it.is_acknowledged()).collect();
    if let Some(first) = refused.first() {
        report.failures.push(format!(
            "{} webhooks not acknowledged, the first: {:?}",
            refused.len(),
            first.answer
        ));
    }
    sent
}

impl Sent {
    fn is_acknowledged(&self) -> bool {
        self.answer.as_ref().is_ok_and(|it| (200..300).contains(it))
    }
}

/// Sends `count` webhooks, each under an id of its own, when they are due: nothing waits for the answer of another but
/// for the lack of a free connection, and that wait counts.
async fn send_hooks(genuine: Vec<HookRequest>, count: u32, per_second: u32) -> Vec<Sent> {
    let (queue, due) = unbounded_channel();
    // A thread of its own: the runtime's clock ticks in milliseconds.
    let pacer = std::thread::spawn(move || {
        let begun = Instant::now();
        for n in 0..count {
            let at = begun + n * Duration::from_secs(1) / per_second;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if queue.send((n, at)).is_err() {
                return;
            }
        }
    });
    let (genuine, due) = (Arc::new(genuine), Arc::new(Mutex::new(due)));
    let mut senders = JoinSet::new();
    for _ in 0..HOOK_CONNECTIONS {
        senders.spawn(send_due_hooks(genuine.clone(), due.clone()));
    }
    let sent = senders.join_all().await.into_iter().flatten().collect();
    pacer.join().expect("the pacer only sleeps and sends");
    sent
}

/// One connection: takes what is due, as long as there is something.
async fn send_due_hooks(
    genuine: Arc<Vec<HookRequest>>,
    due: Arc<Mutex<UnboundedReceiver<(u32, Instant)>>>,
) -> Vec<Sent> {
    let client = http_client(None);
    let mut sent = Vec::new();
    loop {
        let next = due.lock().await.recv().await;
        let Some((n, at)) = next else {
            return sent;
        };
        let delivery = fresh_uuid();
        let hook = genuine[n as usize % genuine.len()]
            .clone()
            .with("Idempotency-Key", &delivery)
            .with("X-Gitlab-Event-UUID", &fresh_uuid());
        let mut call = client.post(&hook.url).body(hook.body);
        for (name, value) in &hook.headers {
            call = call.header(name, value);
        }
        let answer = match call.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                // An answer counts when all of it is there.
                answer.bytes().await.map(|_| status).map_err(|e| format!("{e:?}"))
            }
            Err(error) => Err(format!("{error:?}")),
        };
        sent.push(Sent {
            delivery,
            answer,
            took: at.elapsed(),
        });
    }
}

// ---- the report ----

/// What was measured, in order.
#[derive(Default)]
struct Report {
    machine: Vec<(&'static str, String)>,
    durations: Vec<Durations>,
    figures: Vec<Figure>,
    failures: Vec<String>,
}

struct Durations {
    key: String,
    what: String,
    /// Sorted, never empty.
    samples: Vec<Duration>,
}

struct Figure {
    key: String,
    what: String,
    value: f64,
    unit: &'static str,
}

impl Report {
    fn figure(&mut self, key: &str, what: &str, value: f64, unit: &'static str) {
        self.figures.push(Figure {
            key: key.to_owned(),
            what: what.to_owned(),
            value,
            unit,
        });
    }

    fn durations(&mut self, key: &str, what: &str, mut samples: Vec<Duration>) {
        samples.sort_unstable();
        if !samples.is_empty() {
            self.durations.push(Durations {
                key: key.to_owned(),
                what: what.to_owned(),
                samples,
            });
        }
    }

    fn starts(&mut self, key: &str, what: &str, starts: Vec<Made>) {
        self.made(key, what, "starts", starts);
    }

    fn decisions(&mut self, key: &str, what: &str, made: Vec<Made>) {
        self.made(key, what, "decisions", made);
    }

    /// Keeps the times of what succeeded, and a failure that names the first of what did not.
    fn made(&mut self, key: &str, what: &str, kind: &str, made: Vec<Made>) {
        let all = made.len();
        let (mut took, mut reasons) = (Vec::new(), Vec::new());
        for it in made {
            match it {
                Ok(duration) => took.push(duration),
                Err(reason) => reasons.push(reason),
            }
        }
        if let Some(first) = reasons.first() {
            let failed = reasons.len();
            self.failures.push(format!(
                "{failed} of {all} {kind} failed ({what}), the first: {first}"
            ));
        }
        self.durations(key, what, took);
    }

    fn tables(&self) -> String {
        let mut text = "| machine | |\n|---|---|\n".to_owned();
        for (name, value) in &self.machine {
            text.push_str(&format!("| {name} | {value} |\n"));
        }
        text.push_str("\n| milliseconds | n | min | median | p99 | max |\n|---|---:|---:|---:|---:|---:|\n");
        for it in &self.durations {
            let p99 = it.p99().map_or("–".to_owned(), |it| format!("{it:.2}"));
            text.push_str(&format!(
                "| {} | {} | {:.2} | {:.2} | {p99} | {:.2} |\n",
                it.what,
                it.samples.len(),
                it.at(0.0),
                it.at(0.5),
                it.at(1.0)
            ));
        }
        text.push_str("\n| figure | |\n|---|---:|\n");
        for it in &self.figures {
            let value = if it.unit.is_empty() {
                format!("{}", it.value)
            } else {
                format!("{:.1} {}", it.value, it.unit)
            };
            text.push_str(&format!("| {} | {value} |\n", it.what));
        }
        text
    }

    fn json(&self) -> Value {
        let mut durations = json!({});
        for it in &self.durations {
            durations[&it.key] = json!({
                "what": it.what, "n": it.samples.len(), "min": it.at(0.0), "median": it.at(0.5),
                "p99": it.p99(), "max": it.at(1.0),
            });
        }
        let mut figures = json!({});
        for it in &self.figures {
            figures[&it.key] = json!({"what": it.what, "value": it.value, "unit": it.unit});
        }
        let machine: BTreeMap<_, _> = self.machine.iter().cloned().collect();
        json!({
            "machine": machine, "durations_ms": durations, "figures": figures, "failures": self.failures,
        })
    }
}

impl Durations {
    /// The quantile by nearest rank, in milliseconds.
    fn at(&self, quantile: f64) -> f64 {
        let rank = (quantile * real(self.samples.len())).ceil() as usize;
        self.samples[rank.clamp(1, self.samples.len()) - 1].as_secs_f64() * 1e3
    }

    fn p99(&self) -> Option<f64> {
        (self.samples.len() >= P99_SAMPLES_MIN).then(|| self.at(0.99))
    }
}

/// What the numbers depend on.
fn machine() -> Vec<(&'static str, String)> {
    let path = binary();
    let version = Command::new(&path).arg("--version").output();
    let version = version.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let has = |name: &str| path.components().any(|it| it.as_os_str() == name);
    let profile = match (has("release"), has("debug")) {
        (true, false) => "release",
        (false, true) => "debug: these numbers say nothing about a release",
        _ => "unknown",
    };
    let dir = new_dir();
    let (disk, flush) = (file_system(&dir), flush_time(&dir));
    remove(&dir);
    let cores = std::thread::available_parallelism().map_or("unknown".to_owned(), |it| it.to_string());
    vec![
        (
            "binary",
            String::from_utf8_lossy(&version.stdout).trim().to_owned(),
        ),
        ("profile", profile.to_owned()),
        (
            "processor",
            format!("{cores} cores, {}", line_of("/proc/cpuinfo", "model name")),
        ),
        ("memory", line_of("/proc/meminfo", "MemTotal")),
        ("kernel", format!("Linux {}", whole("/proc/sys/kernel/osrelease"))),
        ("data directories on", disk),
        ("one flushed 4 KiB write there, median", flush),
        ("load average before", whole("/proc/loadavg")),
        ("load comes from", "the same machine, over 127.0.0.1".to_owned()),
    ]
}

/// Kind and device of the file system a directory is on.
fn file_system(dir: &Path) -> String {
    let dir = fs::canonicalize(dir).expect("the directory is there");
    let table = whole("/proc/self/mountinfo");
    // Fields: id, parent, device, root, mount point, options, any optional ones, "-", kind, source.
    let mounts = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((before.split(' ').nth(4)?, after))
    });
    let nearest = mounts
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    let mut words = nearest.map_or("", |(_, after)| after).split(' ');
    match (words.next(), words.next()) {
        (Some(kind), Some(source)) => format!("{kind} ({source})"),
        _ => "unknown".to_owned(),
    }
}

/// The floor under every durable answer: a small write and an fdatasync.
fn flush_time(dir: &Path) -> String {
    let mut file = File::create(dir.join("flush")).expect("the directory is writable");
    let mut took: Vec<Duration> = (0..FLUSHES)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&[0x5a; 4096]).expect("there is room for a page");
            file.sync_data().expect("the page is flushed");
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    format!("{:.2} ms", took[FLUSHES / 2].as_secs_f64() * 1e3)
}

/// A file of `/proc`, or `unknown`.
fn whole(path: &str) -> String {
    fs::read_to_string(path).map_or("unknown".to_owned(), |it| it.trim().to_owned())
}

/// The value of the first `name: value` line, its white space made single.
fn line_of(path: &str, name: &str) -> String {
    let text = whole(path);
    let value = text
        .lines()
        .filter_map(|it| it.split_once(':'))
        .find(|(key, _)| key.trim() == name);
    value.map_or("unknown".to_owned(), |(_, it)| {
        it.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// `VmRSS` or `VmHWM` of a process, in MiB.
fn rss(pid: u32, name: &str) -> f64 {
    let line = line_of(&format!("/proc/{pid}/status"), name);
    let kib = line.strip_suffix(" kB").and_then(|it| it.parse::<u64>().ok());
    mib(kib.unwrap_or_else(|| panic!("{name} of {pid} is {line:?}")) * 1024)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn real(count: usize) -> f64 {
    count as f64
}

fn remove(dir: &Path) {
    // What stays behind lies among temporary files and changes no number.
    let _removed = fs::remove_dir_all(dir);
}

fn progress(phase: &str) {
    eprintln!("measuring: {phase}");
}
