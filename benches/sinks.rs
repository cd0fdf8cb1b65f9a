//! How fast a log sink that was down catches up: the real binary over loopback, one sink of each kind after the other, over
//! the same journal. It judges nothing but that everything arrived.

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the support offers more than the measurements use"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::free_port;
use crate::support::long_journal::fill;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::receivers::Kind;
use crate::support::receivers::Receiver;

const USAGE: &str = "\
Measures how fast log sinks catch up: cargo bench --bench sinks -- [--entries N]

SIGNEDAPPROVAL_TEST_BINARY names another binary than cargo's own.
";

const MAX: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let mut entries = 20_000;
    let mut arguments = std::env::args().skip(1);
    while let Some(it) = arguments.next() {
        match it.as_str() {
            "--bench" => {}
            "--entries" => match arguments.next().and_then(|it| it.parse().ok()) {
                Some(n) => entries = n,
                None => return usage(),
            },
            _ => return usage(),
        }
    }
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(measure(entries));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}

async fn measure(entries: u64) {
    let options = Options::default().config("[sinks]\ndirectory = \"{dir}\"\n");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let public_url = appliance.public_url();
    appliance.stop().await;
    fill(
        appliance.data_dir(),
        &public_url,
        usize::try_from(entries).expect("it fits"),
    );
    appliance.restart().await;

    let file = json!({ "kind": "file", "name": "file", "file": "bench" });
    catch_up(&ada, "file", &file, entries).await;
    let lines = fs::read(appliance.dir().join("bench.jsonl")).expect("the file");
    println!("bytes a record: {}", lines.len() as u64 / entries);
    let file = json!({ "kind": "file", "name": "ocsf", "file": "ocsf", "format": "ocsf" });
    catch_up(&ada, "file, ocsf", &file, entries).await;

    let hook = Receiver::start(Kind::Webhook);
    hook.with(|it| it.anything = true);
    let it = json!({ "kind": "webhook", "name": "webhook", "url": hook.url() });
    catch_up(&ada, "webhook", &it, entries).await;
    let hec = Receiver::start(Kind::Hec {
        token: "t".into(),
        acknowledges: false,
    });
    hec.with(|it| it.anything = true);
    let it = json!({ "kind": "splunk_hec", "name": "hec", "url": hec.url(), "token": "t" });
    catch_up(&ada, "splunk_hec", &it, entries).await;
    let datadog = Receiver::start(Kind::Datadog { key: "k".into() });
    datadog.with(|it| it.anything = true);
    let it = json!({ "kind": "datadog", "name": "datadog", "url": datadog.url(), "token": "k" });
    catch_up(&ada, "datadog", &it, entries).await;

    // A server that reads and closes, so that the sink is measured and not the server.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut piece = vec![0; 65_536];
            while stream.read(&mut piece).is_ok_and(|it| it > 0) {}
        }
    });
    let syslog = |name: &str, port: u16| {
        json!({ "kind": "syslog", "name": name, "host": "127.0.0.1", "port": port, "transport": "tcp",
                "message_bytes_max": 131_072 })
    };
    catch_up(
        &ada,
        "syslog, a server that only reads",
        &syslog("reads", port),
        entries,
    )
    .await;
    rsyslog(&appliance, &ada, entries, &lines, &syslog).await;
}

async fn catch_up(ada: &Person, name: &str, body: &serde_json::Value, entries: u64) {
    let started = Instant::now();
    let made = ada.post("/api/v1/sinks", body).await.expect(201);
    let path = format!("/api/v1/sinks/{}", text(&made, "id"));
    loop {
        let it = ada.get(&path).await.expect(200);
        if it["state"] == "up_to_date" {
            break;
        }
        assert!(started.elapsed() < MAX, "{it}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{name}: {:.0} entries/s ({seconds:.2} s)",
        entries as f64 / seconds
    );
}

/// rsyslog, from us and from util-linux's `logger`, the same lines over the same TCP input.
async fn rsyslog(
    appliance: &Appliance,
    ada: &Person,
    entries: u64,
    lines: &[u8],
    syslog: &impl Fn(&str, u16) -> serde_json::Value,
) {
    if !Path::new("/usr/sbin/rsyslogd").exists() {
        println!("rsyslog: not installed");
        return;
    }
    let (dir, port) = (appliance.dir().display().to_string(), free_port());
    let config = format!(
        "global(workDirectory=\"{dir}\" maxMessageSize=\"128k\")\nmodule(load=\"imtcp\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         template(name=\"lines\" type=\"string\" string=\"%msg%\\n\")\n\
         action(type=\"omfile\" file=\"{dir}/out\" template=\"lines\")\n"
    );
    fs::write(appliance.dir().join("r.conf"), config).expect("written");
    let mut server = Command::new("/usr/sbin/rsyslogd")
        .args([
            "-n",
            "-f",
            &format!("{dir}/r.conf"),
            "-i",
            &format!("{dir}/r.pid"),
        ])
        .spawn()
        .expect("rsyslogd starts");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    catch_up(ada, "syslog, rsyslog", &syslog("rsyslog", port), entries).await;
    let path = appliance.dir().join("lines");
    fs::write(&path, lines).expect("written");
    let started = Instant::now();
    let status = Command::new("logger")
        .args([
            "-T",
            "-n",
            "127.0.0.1",
            "-P",
            &port.to_string(),
            "--rfc5424",
            "--octet-count",
            "-S",
            "131072",
            "-f",
        ])
        .arg(&path)
        .status();
    if status.is_ok_and(|it| it.success()) {
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "logger (util-linux), the same lines to the same rsyslog: {:.0} entries/s ({seconds:.2} s)",
            entries as f64 / seconds
        );
    }
    let _ = server.kill();
    let _ = server.wait();
}
