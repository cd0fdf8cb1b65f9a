//! The syslog sink against Debian's own servers. Skipped, visibly, where they are not installed.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::sinks::add;
use crate::sinks::assert_whole;
use crate::sinks::lines;
use crate::sinks::up_to_date;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::free_port;
use crate::support::appliance::signal;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::receivers::Kind;
use crate::support::receivers::Receiver;

const SOON: Duration = Duration::from_secs(20);
/// How often the server, and every third time the appliance as well, is stopped and started.
const RESTARTS: usize = 20;

fn rsyslogd() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/sbin/rsyslogd");
    path.exists().then_some(path)
}

/// syslog-ng and rsyslog are not installed side by side, so `tests/run` unpacks it here.
fn syslog_ng() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/syslog-ng");
    root.join("usr/sbin/syslog-ng").exists().then_some(root)
}

fn skipped(test: &str, server: &str) {
    eprintln!("SKIPPED {test}: {server} is not installed");
}

/// A CA and the certificate of `localhost` that it issued.
struct Certificates {
    ca: String,
}

fn certificates(dir: &Path) -> Certificates {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(dir).output();
        let output = output.expect("openssl starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let ca = [
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=test CA",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    openssl(&[&ca[..], &key].concat());
    let request = [
        "req",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "key.pem",
        "-out",
        "request.pem",
    ];
    openssl(&[&request[..], &key].concat());
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "request.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        "cert.pem",
    ]);
    Certificates {
        ca: fs::read_to_string(dir.join("ca.pem")).unwrap(),
    }
}

/// A syslog server that writes what it gets, one message a line, into the file `out`.
struct Server {
    command: Vec<String>,
    library_path: Option<String>,
    port: u16,
    child: Option<Child>,
    log: PathBuf,
}

impl Server {
    fn rsyslog(dir: &Path, tls: bool) -> Server {
        let port = free_port();
        let at = dir.display();
        let (drivers, streams) = if tls {
            (
                format!(
                    "defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{at}/ca.pem\" \
                     defaultNetstreamDriverCertFile=\"{at}/cert.pem\" defaultNetstreamDriverKeyFile=\"{at}/key.pem\""
                ),
                "streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\"",
            )
        } else {
            (String::new(), "")
        };
        let config = format!(
            "global(workDirectory=\"{at}\" maxMessageSize=\"128k\" {drivers})\n\
             main_queue(queue.timeoutShutdown=\"10000\")\n\
             module(load=\"imtcp\" {streams})\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"lines\" type=\"string\" string=\"%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{at}/out\" template=\"lines\")\n"
        );
        let path = dir.join("rsyslog.conf");
        fs::write(&path, config).unwrap();
        let text = |it: PathBuf| it.display().to_string();
        let mut server = Server {
            command: vec![
                "/usr/sbin/rsyslogd".into(),
                "-n".into(),
                "-f".into(),
                text(path),
                "-i".into(),
                text(dir.join("rsyslog.pid")),
            ],
            library_path: None,
            port,
            child: None,
            log: dir.join("server.log"),
        };
        server.start();
        server
    }

    fn syslog_ng(dir: &Path, root: &Path) -> Server {
        let port = free_port();
        let at = dir.display();
        let config = format!(
            "@version: 3.38\n\
             options {{ log-msg-size(131072); stats-freq(0); }};\n\
             source s {{ syslog(ip(127.0.0.1) port({port}) transport(\"tls\") \
             tls(key-file(\"{at}/key.pem\") cert-file(\"{at}/cert.pem\") peer-verify(optional-untrusted))); }};\n\
             destination d {{ file(\"{at}/out\" template(\"$MSG\\n\") flush-lines(1)); }};\n\
             log {{ source(s); destination(d); }};\n"
        );
        let path = dir.join("syslog-ng.conf");
        fs::write(&path, config).unwrap();
        let text = |it: PathBuf| it.display().to_string();
        let lib = root.join("usr/lib/syslog-ng");
        let mut server = Server {
            command: vec![
                text(root.join("usr/sbin/syslog-ng")),
                "-F".into(),
                "--no-caps".into(),
                "-f".into(),
                text(path),
                "-R".into(),
                text(dir.join("persist")),
                "-p".into(),
                text(dir.join("ng.pid")),
                "-c".into(),
                text(dir.join("ng.ctl")),
                "--module-path".into(),
                text(lib.join("3.38")),
            ],
            library_path: Some(format!(
                "{0}:{1}/usr/lib/x86_64-linux-gnu:{1}/lib/x86_64-linux-gnu",
                lib.display(),
                root.display()
            )),
            port,
            child: None,
            log: dir.join("server.log"),
        };
        server.start();
        server
    }

    fn start(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(path) = &self.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
        let mut child = command.spawn().expect("the server starts");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                child.try_wait().unwrap().is_none() && started.elapsed() < SOON,
                "{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            child.wait().expect("it ends");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn body(server: &Server, ca: Option<&str>) -> serde_json::Value {
    let mut body = json!({
        "kind": "syslog", "name": "Syslog", "host": "localhost", "port": server.port, "message_bytes_max": 131_072,
        "transport": if ca.is_some() { "tls" } else { "tcp" },
    });
    if let Some(ca) = ca {
        body["ca_pem"] = json!(ca);
    }
    body
}

/// What a server does at a clean stop with what it has read and not yet written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtStop {
    /// It writes it: nothing it has read is lost.
    Writes,
    /// It drops it. Nobody who speaks syslog can know: so it is stopped only once it has written what was sent.
    Drops,
}

/// The server goes and comes while entries are made and the appliance is killed: nothing is missing.
async fn outages(
    server: &mut Server,
    at_stop: AtStop,
    out: &Path,
    appliance: &mut Appliance,
    ada: &Person,
    id: &str,
) {
    for round in 0..RESTARTS {
        // Entries on their way while the server stops.
        ada.create_group(&format!("before {round} ä\u{1F512}"), &[]).await;
        if at_stop == AtStop::Drops {
            let next = up_to_date(ada, id).await["next"].as_u64().expect("a position");
            let wanted = format!("\"seq\":{},", next - 1);
            let started = Instant::now();
            while !lines(out).iter().any(|it| it.contains(&wanted)) {
                assert!(started.elapsed() < SOON, "entry {} is not written", next - 1);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        server.stop();
        ada.create_group(&format!("meanwhile {round}"), &[]).await;
        if round % 3 == 2 {
            appliance.kill9();
            appliance.restart().await;
        }
        server.start();
    }
    up_to_date(ada, id).await;
    appliance.stop().await;
    server.stop();
    let journal = assert_whole(&lines(out));
    assert!(journal > 2 * RESTARTS as u64, "{journal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_misses_nothing_over_tcp_and_tls_through_outages_and_restarts() {
    if rsyslogd().is_none() {
        return skipped(
            "rsyslog_misses_nothing_over_tcp_and_tls_through_outages_and_restarts",
            "rsyslog",
        );
    }
    for tls in [false, true] {
        let mut appliance = Appliance::start(Options::default()).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let dir = appliance.dir().to_owned();
        let certificates = certificates(&dir);
        let mut server = Server::rsyslog(&dir, tls);
        let ca = tls.then_some(certificates.ca.as_str());
        let id = text(&add(&ada, &body(&server, ca)).await, "id");
        up_to_date(&ada, &id).await;
        outages(
            &mut server,
            AtStop::Writes,
            &dir.join("out"),
            &mut appliance,
            &ada,
            &id,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_ng_misses_nothing_over_tls_through_outages_and_restarts() {
    let Some(root) = syslog_ng() else {
        return skipped(
            "syslog_ng_misses_nothing_over_tls_through_outages_and_restarts",
            "syslog-ng",
        );
    };
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let dir = appliance.dir().to_owned();
    let certificates = certificates(&dir);
    let mut server = Server::syslog_ng(&dir, &root);
    let id = text(&add(&ada, &body(&server, Some(&certificates.ca))).await, "id");
    up_to_date(&ada, &id).await;
    outages(
        &mut server,
        AtStop::Drops,
        &dir.join("out"),
        &mut appliance,
        &ada,
        &id,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_nobody_vouches_for_gets_nothing() {
    if rsyslogd().is_none() {
        return skipped(
            "a_server_whose_certificate_nobody_vouches_for_gets_nothing",
            "rsyslog",
        );
    }
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let dir = appliance.dir().to_owned();
    let certificates = certificates(&dir);
    let server = Server::rsyslog(&dir, true);
    // No CA, and the right CA for another name.
    let mut other = body(&server, Some(&certificates.ca));
    other["host"] = json!("127.0.0.1");
    let mut stranger = body(&server, Some(&certificates.ca));
    stranger.as_object_mut().unwrap().remove("ca_pem");
    for (name, mut settings) in [("A", other), ("B", stranger)] {
        settings["name"] = json!(name);
        let id = text(&add(&ada, &settings).await, "id");
        let told = ada
            .post(&format!("/api/v1/sinks/{id}/test"), &json!({}))
            .await
            .expect(200);
        assert_eq!(told["stored"], false, "{told}");
        assert!(text(&told, "reason").contains("certificate"), "{told}");
    }
    assert!(lines(&dir.join("out")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_too_long_for_a_receiver_is_withheld_and_told() {
    if rsyslogd().is_none() {
        return skipped("an_entry_too_long_for_a_receiver_is_withheld_and_told", "rsyslog");
    }
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let dir = appliance.dir().to_owned();
    let mut server = Server::rsyslog(&dir, false);
    // A long entry: a sink with a long certificate.
    let hook = Receiver::start(Kind::Webhook);
    let pem = certificates(&dir).ca.repeat(12);
    let long = json!({ "kind": "webhook", "name": "Hook", "url": hook.url(), "ca_pem": pem });
    add(&ada, &long).await;
    let mut settings = body(&server, None);
    settings["message_bytes_max"] = json!(4096);
    let id = text(&add(&ada, &settings).await, "id");
    appliance.expect_error("a log sink does not take an entry");
    let shown = up_to_date(&ada, &id).await;
    assert_eq!(shown["withheld"], 1, "{shown}");
    server.stop();
    let out = lines(&dir.join("out"));
    let substitute = out
        .iter()
        .find(|it| it.contains("entry.withheld"))
        .expect("a substitute");
    assert!(substitute.contains("4096"), "{substitute}");
    assert_eq!(ada.journal("exception.sink_entry_withheld").await.len(), 1);
}
