//! What monitors and the service manager see: metrics, conditions, the log's request ids, sd_notify.

use crate::browser::{assert_clean, can_run, shoot};
use crate::support::appliance::{Answer, Appliance, Options, free_port, http_client, new_dir, run, signal};
use crate::support::authority::{Authority, exchange};
use crate::support::browser::Browser;
use crate::support::person::Person;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Names and values of a text in Prometheus' format, by somebody else's parser where it is installed (`tests/run`).
fn parsed(text: &str) -> Vec<(String, f64)> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let script = "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as parse\n\
                  for f in parse(sys.stdin.read()):\n  assert f.documentation and f.type != 'unknown', f\n";
    let there = Command::new(&python)
        .args(["-c", "import prometheus_client"])
        .output();
    if there.is_ok_and(|it| it.status.success()) {
        let mut child = Command::new(&python)
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let ran = child.wait_with_output().unwrap();
        assert!(
            ran.status.success(),
            "{}\n{text}",
            String::from_utf8_lossy(&ran.stderr)
        );
    } else {
        eprintln!("skipped: prometheus_client is not in target/venv; tests/run installs it");
    }
    by_promtool(text);
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    lines
        .map(|it| {
            let (name, value) = it.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Prometheus' own linter of metrics, where it is installed (Debian: `prometheus`).
fn by_promtool(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped: there is no promtool");
        return;
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let ran = child.wait_with_output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    // It says what it would rather have also where it ends with 0.
    assert!(
        ran.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_on_their_own_listener_parse_and_are_documented() {
    let (authority, port) = (Authority::new("tests"), free_port());
    let issued = authority.issue("localhost", 80, 5);
    let appliance = Appliance::start(
        Options {
            public_url: "https://localhost:{port}".to_owned(),
            trusted_pem: Some(authority.pem.clone()),
            files: vec![
                ("tls.pem".to_owned(), issued.certificate.into_bytes()),
                ("tls.key".to_owned(), issued.key.into_bytes()),
            ],
            ..Options::default()
        }
        .config(&format!(
            "metrics.listen = \"{port}\"\ntls.certificate = \"{{dir}}/tls.pem\"\ntls.private_key = \"{{dir}}/tls.key\"\n"
        ))
        .env("SIGNEDAPPROVAL_METRICS__TOKEN", "see-no-evil")
        .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple"),
    )
    .await;
    let api = appliance.api();
    assert_eq!(api.get("/metrics").await.status, 404, "not in public");
    assert_eq!(api.get("/no-such-page-\u{fc}").await.status, 404);
    let client = http_client(None);
    let at = |path: &str| client.get(format!("http://localhost:{port}{path}"));
    assert_eq!(at("/metrics").send().await.unwrap().status(), 401);
    assert_eq!(
        at("/metrics")
            .bearer_auth("see-no-evi")
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    let scrape = || async {
        at("/metrics")
            .bearer_auth("see-no-evil")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    let started = Instant::now();
    let text = loop {
        let text = scrape().await;
        if text.contains("certificate.expiring") {
            break text;
        }
        assert!(started.elapsed() < SOON, "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let values = parsed(&text);
    let value = |name: &str| {
        let found = values.iter().find(|(it, _)| it == name);
        found.unwrap_or_else(|| panic!("no {name} in\n{text}")).1
    };
    assert_eq!(value("signedapproval_ready"), 1.0);
    assert_eq!(
        value("signedapproval_condition{condition=\"certificate.expiring\",severity=\"warning\"}"),
        1.0
    );
    assert!(value("signedapproval_journal_entries") >= 4.0);
    assert!(value("signedapproval_writer_transactions_total") >= 1.0);
    assert!(
        value("signedapproval_database_bytes") > 4096.0 && value("signedapproval_data_free_bytes") > 4096.0
    );
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 5.0);
    assert!(value("process_threads") > 3.0 && value("process_max_fds") > 100.0);
    let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
    assert!(
        (now - value("process_start_time_seconds")).abs() < 120.0,
        "{text}"
    );
    let not_after = value("signedapproval_certificate_not_after_seconds");
    assert!((not_after - now - 5.0 * 86_400.0).abs() < 120.0, "{not_after}");
    // Paths have no end, patterns have: what is nowhere is one row.
    assert_eq!(
        value("signedapproval_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}"),
        2.0
    );
    assert!(!text.contains("no-such-page"));

    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md")).unwrap();
    let documented: BTreeSet<&str> = page
        .split('`')
        .filter(|it| it.starts_with("signedapproval_") || it.starts_with("process_"))
        .collect();
    let served: BTreeSet<&str> = text
        .lines()
        .filter_map(|it| it.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    // Rows of a follower appear once it has gone somewhere, those of a log sink once there is one.
    let missing: Vec<_> = served.symmetric_difference(&documented).collect();
    assert!(
        missing
            .iter()
            .all(|it| **it == "signedapproval_follower_lag_entries" || it.starts_with("signedapproval_sink_")),
        "{missing:?}"
    );

    for path in ["/healthz", "/readyz"] {
        assert_eq!(at(path).send().await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(
        at("/api/v1/me").send().await.unwrap().status(),
        404,
        "nothing else is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_runs_out_is_told_in_page_event_and_readiness_until_it_is_new() {
    let authority = Authority::new("tests");
    let old = authority.issue("localhost", 80, 20);
    let appliance = Appliance::start(
        Options {
            public_url: "https://localhost:{port}".to_owned(),
            trusted_pem: Some(authority.pem.clone()),
            files: vec![
                ("tls.pem".to_owned(), old.certificate.into_bytes()),
                ("tls.key".to_owned(), old.key.into_bytes()),
            ],
            ..Options::default()
        }
        .config("tls.certificate = \"{dir}/tls.pem\"\ntls.private_key = \"{dir}/tls.key\"\n")
        .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple"),
    )
    .await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let warnings = || async { appliance.api().get("/readyz").await.expect(200)["warnings"].clone() };
    let started = Instant::now();
    while warnings().await != serde_json::json!(["certificate.expiring"]) {
        assert!(started.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = ada.journal("condition.began").await;
    assert_eq!(began.len(), 1, "{began:?}");
    assert_eq!(began[0]["object"]["id"], "certificate.expiring");
    for path in ["/dashboard", "/dashboard/settings/general"] {
        let page = ada.get(path).await.text();
        assert!(
            page.contains("Certificate: expiring") && page.contains("runs out at"),
            "{page}"
        );
    }
    let conditions = ada.get("/api/v1/conditions").await.expect(200);
    assert_eq!(conditions["items"][0]["severity"], "warning", "{conditions}");
    let settings = ada.get("/api/v1/settings").await.expect(200);
    let row = |key: &str| {
        let items = settings["items"].as_array().unwrap();
        items.iter().find(|it| it["key"] == key).unwrap().clone()
    };
    assert_eq!(row("keys.passphrase")["value"], "[secret]");
    assert!(
        row("tls.certificate")["origin"]
            .as_str()
            .unwrap()
            .contains("config.toml:")
    );
    assert_eq!(row("tls.certificate")["reloaded"], true);
    assert!(!settings.to_string().contains("battery"));

    let new = authority.issue("localhost", 1, 80);
    let put = |name: &str, text: &str| {
        let path = appliance.dir().join(name);
        fs::write(path.with_extension("fresh"), text).unwrap();
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path.with_extension("fresh"), own).unwrap();
        fs::rename(path.with_extension("fresh"), path).unwrap();
    };
    appliance.expect_error("can't be used");
    put("tls.pem", &new.certificate);
    put("tls.key", &new.key);
    signal(appliance.pid(), "HUP");
    let started = Instant::now();
    while warnings().await != serde_json::json!([]) {
        assert!(started.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ada.journal("condition.ended").await.len(), 1);
    assert!(
        !ada.get("/dashboard")
            .await
            .text()
            .contains("Certificate: expiring")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_id_in_answer_problem_and_log() {
    let appliance = Appliance::start(Options::default().config("log.format = \"json\"\n")).await;
    let answer: Answer = appliance
        .api()
        .get("/api/v1/approvals/apr_nothing\u{1b}[31m")
        .await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    assert_eq!(answer.json()["instance"], format!("urn:uuid:{id}"));
    let log = appliance.log();
    let line = log
        .lines()
        .find(|it| it.contains(&id))
        .expect("a line with the id");
    let record: Value = serde_json::from_str(line).expect("a line is an object");
    assert_eq!(record["level"], "INFO");
    assert_eq!(record["fields"]["request.id"], id);
    assert_eq!(record["fields"]["method"], "GET");
    assert_eq!(record["fields"]["status"], answer.status);
    assert_eq!(record["fields"]["client.address"], "127.0.0.1");
    assert!(!log.contains('\u{1b}'), "no control character");
    // What merely reads is quiet; what was to change something is not, whatever came of it.
    for path in ["/healthz", "/help", "/.well-known/signedapproval/checkpoint"] {
        let quiet = appliance.api().get(path).await;
        assert_eq!(quiet.status, 200, "{path}");
        assert!(
            !appliance.log().contains(quiet.header("x-request-id").unwrap()),
            "{path}"
        );
    }
    let ada = Person::set_up(&appliance, "Ada").await;
    let told = ada.post("/api/v1/me/test-request", &serde_json::json!({})).await;
    assert!(told.status < 300, "{told:?}");
    let id = told.header("x-request-id").unwrap();
    until("its line", || appliance.log().contains(id)).await;
}

/// A service manager of our own: a socket that hears what it is told.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn heard(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let n = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..n]).into_owned())
    }

    fn hears(&self, wanted: &str) -> bool {
        let started = Instant::now();
        while started.elapsed() < SOON {
            if self
                .heard()
                .is_some_and(|it| it.lines().any(|line| line == wanted))
            {
                return true;
            }
        }
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_and_its_watchdog_fed() {
    let dir = new_dir();
    let path = dir.join("notify");
    let manager = Manager {
        socket: UnixDatagram::bind(&path).unwrap(),
    };
    manager
        .socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut appliance = Appliance::start(
        Options::default()
            .env("NOTIFY_SOCKET", path.to_str().unwrap())
            .env("WATCHDOG_USEC", "600000"),
    )
    .await;
    assert!(manager.hears("READY=1"));
    assert!(manager.hears("WATCHDOG=1") && manager.hears("WATCHDOG=1"));
    signal(appliance.pid(), "HUP");
    assert!(manager.hears("RELOADING=1") && manager.hears("READY=1"));
    // Whoever hangs feeds nobody.
    signal(appliance.pid(), "STOP");
    until("silence", || manager.heard().is_none()).await;
    assert_eq!(manager.heard(), None);
    signal(appliance.pid(), "CONT");
    assert!(manager.hears("WATCHDOG=1"));
    let before = appliance.api().get("/healthz").await.status;
    assert_eq!(before, 200);
    let ended = appliance.stop().await;
    assert!(ended.success(), "{ended}");
    assert!(manager.hears("STOPPING=1"));
    fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_is_logged_changes_while_running() {
    let appliance = Appliance::start(Options::default().config("log.level = \"warn\"\n")).await;
    let quiet = appliance
        .api()
        .get("/help")
        .await
        .header("x-request-id")
        .unwrap()
        .to_owned();
    fs::write(appliance.dir().join("config.toml"), "log.level = \"debug\"\n").unwrap();
    signal(appliance.pid(), "HUP");
    until("the change", || {
        appliance.log().contains("the settings were read anew")
    })
    .await;
    let told = appliance
        .api()
        .get("/healthz")
        .await
        .header("x-request-id")
        .unwrap()
        .to_owned();
    let log = appliance.log();
    assert!(log.contains(&told) && !log.contains(&quiet), "{log}");

    fs::write(appliance.dir().join("config.toml"), "log.level = \"loud\"\n").unwrap();
    let (code, _, err) = run(
        appliance.dir(),
        &["config", "check", "--config", "config.toml"],
        &[],
    )
    .await;
    assert!(code == 2 && err.contains("log.level"), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchers_listener_does_not_understand_more_than_it_must() {
    let port = free_port();
    let appliance =
        Appliance::start(Options::default().config(&format!("metrics.listen = \"127.0.0.1:{port}\"\n")))
            .await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let answer = exchange(
        &mut stream,
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        SOON,
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(appliance.api().get("/readyz").await.status == 200);
}
#[tokio::test(flavor = "multi_thread")]
async fn the_server_page_shows_what_needs_somebody_and_every_setting() {
    if !can_run("the_server_page_shows_what_needs_somebody_and_every_setting") {
        return;
    }
    let appliance = Appliance::start(Options::default().config("limits.connections = 900\n")).await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    browser.goto(&appliance.setup_url()).await;
    browser.fill("[name=name]", "Ada Example").await;
    browser.fill("[name=email]", "ada@example.test").await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("location.pathname.startsWith('/dashboard/set-up')")
        .await;
    // The address it had leads to where it is.
    browser
        .goto(&format!("{}/dashboard/server", appliance.base()))
        .await;
    assert!(browser.url().await.ends_with("/dashboard/settings/general"));
    let page = browser.text("main").await;
    assert!(
        page.contains("limits.connections") && page.contains("900") && page.contains("config.toml, line 1"),
        "{page}"
    );
    assert!(page.contains("Nothing: all of it works as it should"), "{page}");
    shoot(&browser, "server").await;
    assert_clean(&browser, &appliance).await;
}
