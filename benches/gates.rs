//! Measures what waiting pipelines cost and how soon a decision reaches them, over loopback, with the real binary; and, against
//! nginx in the same run, how many status reads a second it answers over TLS. It prints what it measured and judges no time.

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the support offers more than the measurements use"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::free_port;
use crate::support::appliance::new_dir;
use crate::support::person::Person;

const USAGE: &str = "\
Measures pipelines that wait: cargo bench --bench gates -- [--quick] [--only waiting|reads]

  --quick  a tenth of everything; also without --bench, which cargo bench adds
  --only   one of the two measurements

SIGNEDAPPROVAL_TEST_BINARY names another binary than cargo's own. The comparison needs nginx, wrk and openssl.
";

/// Keys that the pipelines share: as many waiting requests as one key may have, and more.
const KEYS: usize = 10;
/// Connections that are opened at the same time.
const OPENING: usize = 64;
/// Seconds that wrk asks, for each server and round.
const WRK_SECONDS: u32 = 8;
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let (mut quick, mut by_cargo_bench, mut only) = (false, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--bench" => by_cargo_bench = true,
            "--only" => only = arguments.next(),
            _ => {
                print!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let quick = quick || !by_cargo_bench;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if only.as_deref() != Some("reads") {
            waiting(if quick { 500 } else { 5_000 }, if quick { 20 } else { 300 }).await;
        }
        if only.as_deref() != Some("waiting") {
            reads().await;
        }
    });
    ExitCode::SUCCESS
}

fn unlimited() -> Options {
    Options::default()
        .env("SIGNEDAPPROVAL_LIMITS__CHANGES_PER_MINUTE", "0")
        .env("SIGNEDAPPROVAL_LIMITS__READS_PER_MINUTE", "0")
}

/// `VmRSS` or `VmHWM` in MiB.
fn memory(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status
        .lines()
        .find(|it| it.starts_with(name))
        .expect("a line of the kernel's");
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .expect("a number");
    kib / 1024.0
}

/// A long poll on a connection of its own. Ends with the moment of the answer's first byte, and its status line and body.
fn poll(port: u16, key: String, id: String, place: Arc<Semaphore>) -> JoinHandle<(Instant, String)> {
    tokio::spawn(async move {
        let head = format!(
            "GET /api/v1/approvals/{id}?wait=60 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
             connection: close\r\n\r\n"
        );
        let mut stream = {
            let _place = place.acquire().await.expect("open");
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .expect("it listens");
            stream
                .write_all(head.as_bytes())
                .await
                .expect("it takes the request");
            stream
        };
        let mut bytes = vec![0; 2048];
        let read = stream.read(&mut bytes).await.expect("an answer");
        let at = Instant::now();
        bytes.truncate(read);
        let _rest = stream.read_to_end(&mut bytes).await;
        (at, String::from_utf8_lossy(&bytes).into_owned())
    })
}

async fn waiting(pipelines: usize, decisions: usize) {
    let appliance = Appliance::start(unlimited()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let mut keys: Vec<(String, Api)> = Vec::new();
    for nth in 0..KEYS {
        let key = ada
            .create_api_key(&format!("CI {nth}"), &["request"], &[])
            .await
            .key;
        keys.push((key.clone(), appliance.api().with_key(&key)));
    }
    println!("{pipelines} pipelines, {KEYS} API keys");
    println!("resident before: {:.1} MiB", memory(appliance.pid(), "VmRSS"));
    let mut opened = Vec::new();
    for chunk in (0..pipelines).collect::<Vec<_>>().chunks(OPENING) {
        let mut together = Vec::new();
        for nth in chunk {
            let (key, api) = keys[nth % KEYS].clone();
            let body = json!({"action": format!("Deploy {nth}"), "environment": "production", "ttl_seconds": 86_400});
            together.push(tokio::spawn(async move { (key, api.open_request(&body).await) }));
        }
        for one in together {
            opened.push(one.await.expect("no panic"));
        }
    }
    println!(
        "resident with the requests open: {:.1} MiB",
        memory(appliance.pid(), "VmRSS")
    );
    let place = Arc::new(Semaphore::new(OPENING));
    let started = Instant::now();
    let mut polls: Vec<_> = opened
        .iter()
        .map(|(key, id)| Some(poll(appliance.port(), key.clone(), id.clone(), place.clone())))
        .collect();
    // Every connection has been taken in, and each has asked.
    while place.available_permits() < OPENING || started.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let early = polls.iter().flatten().filter(|it| it.is_finished()).count();
    assert_eq!(early, 0, "a long poll was answered before anything happened");
    println!("all wait after {:.1} s", started.elapsed().as_secs_f64());
    println!(
        "resident with all of them waiting: {:.1} MiB",
        memory(appliance.pid(), "VmRSS")
    );
    let (mut after_answer, mut after_asking) = (Vec::new(), Vec::new());
    for nth in 0..decisions {
        let at = nth * (pipelines / decisions);
        let signed = bea
            .begin_decision(&opened[at].1, "approve", None)
            .await
            .expect("Bea may decide");
        let asked = Instant::now();
        let answer = bea.finish_decision(&signed).await;
        let decided = Instant::now();
        assert_eq!(answer.status, 200, "{answer:?}");
        let (seen, text) = polls[at].take().expect("once").await.expect("no panic");
        assert!(text.contains("\"status\":\"approved\""), "{text}");
        after_answer.push(seen.saturating_duration_since(decided).as_secs_f64() * 1e3);
        after_asking.push(seen.saturating_duration_since(asked).as_secs_f64() * 1e3);
        if started.elapsed() > Duration::from_secs(50) {
            // Their minute is nearly over: what follows would be no decision's doing.
            println!(
                "stopped after {} decisions, before the long polls end by themselves",
                nth + 1
            );
            break;
        }
    }
    println!(
        "resident at its most: {:.1} MiB",
        memory(appliance.pid(), "VmHWM")
    );
    tell("pipeline has it after the approver's answer", &mut after_answer);
    tell("pipeline has it after the decision was sent", &mut after_asking);
    for one in polls.into_iter().flatten() {
        one.abort();
    }
}

fn tell(what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!(
        "{what}: n {}, median {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Runs a program and gives its stdout; `None` if it is not installed.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn certificate(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let (c, k) = (cert.to_str()?, key.to_str()?);
    let subject = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        // openssl would make it an authority's, which no client takes for a server's.
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-days",
        "2",
    ];
    let make = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        k,
        "-out",
        c,
    ];
    output("openssl", &[&make[..], &subject].concat())?;
    Some((cert, key))
}

/// Requests a second that wrk counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tuning {
    /// The directives of Debian's own `nginx.conf` that matter here: a line in the log for each answer, no files kept open.
    AsInstalled,
    /// Nothing beside the answer: no log, the file kept open, connections never closed.
    Tuned,
}

/// A web server that serves the file `status.json` of a directory.
struct Nginx {
    child: std::process::Child,
    url: String,
}

impl Nginx {
    fn start(dir: &Path, name: &str, tuning: Tuning, cert: &Path, key: &Path) -> Nginx {
        let (port, shown) = (free_port(), dir.display());
        let (events, http) = match tuning {
            Tuning::AsInstalled => (
                "worker_connections 768;",
                format!(
                    "sendfile on; tcp_nopush on; types_hash_max_size 2048; include /etc/nginx/mime.types; gzip on;\n\
                     default_type application/octet-stream; ssl_prefer_server_ciphers on; access_log {shown}/{name}.log;"
                ),
            ),
            Tuning::Tuned => (
                "worker_connections 1024;",
                "access_log off; keepalive_requests 1000000000; sendfile on; default_type application/json; \
                 open_file_cache max=10;"
                    .to_owned(),
            ),
        };
        let config = format!(
            "daemon off; worker_processes auto; pid {shown}/{name}.pid; error_log {shown}/{name}-error.log;\n\
             events {{ {events} }}\n\
             http {{ {http}\n\
             client_body_temp_path {shown}; proxy_temp_path {shown}; fastcgi_temp_path {shown}; uwsgi_temp_path {shown};\n\
             scgi_temp_path {shown};\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_protocols TLSv1.3; root {shown}; }} }}\n",
            cert.display(),
            key.display(),
        );
        let file = dir.join(format!("{name}.conf"));
        std::fs::write(&file, config).expect("writable");
        let child = Command::new("nginx")
            .args([
                "-c",
                file.to_str().expect("UTF-8"),
                "-e",
                dir.join(format!("{name}-error.log")).to_str().expect("UTF-8"),
            ])
            .spawn()
            .expect("nginx starts");
        let url = format!("https://localhost:{port}/status.json");
        Nginx { child, url }
    }

    /// Asked to stop it takes its workers along; killed it would leave them.
    fn stop(mut self) {
        output("kill", &["-TERM", &self.child.id().to_string()]).expect("it runs");
        self.child.wait().expect("it is reaped");
    }
}

fn wrk(url: &str, key: Option<&str>) -> f64 {
    let seconds = format!("{WRK_SECONDS}s");
    let header = key.map(|it| format!("Authorization: Bearer {it}"));
    let mut arguments = vec!["-t1", "-c32", "-d", &seconds];
    if let Some(header) = &header {
        arguments.extend(["-H", header.as_str()]);
    }
    arguments.push(url);
    let said = output("wrk", &arguments).expect("wrk is installed");
    assert!(!said.contains("Non-2xx"), "{said}");
    let line = said
        .lines()
        .find(|it| it.contains("Requests/sec:"))
        .expect("wrk's count");
    line.split_whitespace()
        .last()
        .and_then(|it| it.parse().ok())
        .expect("a number")
}

async fn reads() {
    let dir = new_dir();
    let installed = ["nginx", "wrk"]
        .iter()
        .all(|it| Path::new("/usr/sbin").join(it).exists() || Path::new("/usr/bin").join(it).exists());
    let Some((cert, key)) = certificate(&dir).filter(|_| installed) else {
        println!("SKIPPED: the comparison needs nginx, wrk and openssl (Debian packages of these names)");
        return;
    };
    let pem = std::fs::read_to_string(&cert).expect("the certificate");
    let mut options = unlimited();
    options.trusted_pem = Some(pem);
    options.public_url = "https://localhost:{port}".to_owned();
    let options = options
        .env("SIGNEDAPPROVAL_TLS__CERTIFICATE", cert.to_str().expect("UTF-8"))
        .env("SIGNEDAPPROVAL_TLS__PRIVATE_KEY", key.to_str().expect("UTF-8"))
        .env(
            "SIGNEDAPPROVAL_KEYS__PASSPHRASE",
            "a passphrase for one measurement",
        );
    let appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let api_key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&api_key);
    let id = ci
        .open_request(&json!({"action": "Deploy", "environment": "production", "ttl_seconds": 86_400}))
        .await;
    let path = format!("/api/v1/approvals/{id}");
    let body = ci.get(&path).await.body;
    std::fs::write(dir.join("status.json"), &body).expect("writable");
    let tuned = Nginx::start(&dir, "tuned", Tuning::Tuned, &cert, &key);
    let usual = Nginx::start(&dir, "usual", Tuning::AsInstalled, &cert, &key);
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!(
        "status reads over TLS 1.3, {} bytes of body, 32 connections, wrk beside it on the same machine",
        body.len()
    );
    println!(
        "load average before: {}",
        std::fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .trim()
    );
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        let best = wrk(&tuned.url, None);
        let own = wrk(&format!("{}{path}", appliance.base()), Some(&api_key));
        let installed = wrk(&usual.url, None);
        println!(
            "round {round}: SignedApproval {own:.0} 1/s; nginx as Debian sets it up {installed:.0} 1/s, ratio {:.2}; \
             nginx without its log and with open files kept {best:.0} 1/s, ratio {:.2}",
            own / installed,
            own / best
        );
        ratios[0].push(own / installed);
        ratios[1].push(own / best);
    }
    for (ratios, of) in ratios.iter_mut().zip(["as Debian sets it up", "tuned"]) {
        ratios.sort_by(f64::total_cmp);
        println!(
            "ratio to nginx {of}, median of {ROUNDS}: {:.2}",
            ratios[ROUNDS / 2]
        );
    }
    for it in [tuned, usual] {
        it.stop();
    }
    drop(appliance);
    let _removed = std::fs::remove_dir_all(&dir);
}
