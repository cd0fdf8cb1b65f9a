//! Starts the real binary in a directory of its own, speaks HTTP to it, kills it, starts it again. It knows the
//! product only by what its users see: flags, files they are told of, HTTP, exit codes, the log.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::fs::File;
use std::future::Future;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

/// How long a start may take. A debug build derives keys from passphrases slowly on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a graceful end may take.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);
/// One question for readiness.
const ASK_MAX: Duration = Duration::from_secs(2);
/// The wait of one HTTP exchange; above the 60 s of the longest `wait=`.
const HTTP_MAX: Duration = Duration::from_secs(90);
/// Another process may take a port between our look and the appliance's bind.
const PORT_TRIES: u32 = 8;

/// The binary under test: cargo's own, or the one named by `SIGNEDAPPROVAL_TEST_BINARY` (a release build).
pub fn binary() -> PathBuf {
    match std::env::var_os("SIGNEDAPPROVAL_TEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_signedapproval")),
    }
}

/// How the system's words for EADDRINUSE begin.
const ADDRESS_IN_USE: &str = "Address already in use";

/// What a start waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// `/readyz` answers 200.
    Ready,
    /// `/healthz` answers 200: the appliance may be sealed or degraded.
    Alive,
}

/// How to start the appliance. The default is evaluation mode with nothing configured but the address.
#[derive(Clone)]
pub struct Options {
    /// Content of a configuration file given by `--config`; `{port}`, `{dir}` and `{data_dir}` are filled in.
    pub config: Option<String>,
    /// Environment variables besides `PATH` and `HOME`; nothing else is inherited. Filled in as `config` is.
    pub environment: Vec<(String, String)>,
    /// More arguments after those of `serve`. Filled in as `config` is.
    pub arguments: Vec<String>,
    /// The public URL, `{port}` filled in; `http://localhost:{port}` by default.
    pub public_url: String,
    /// Where it listens, `{port}` filled in.
    pub listen: String,
    /// Speak https to it, trusting only this CA (PEM).
    pub trusted_pem: Option<String>,
    /// What to wait for.
    pub until: Until,
    /// An existing data directory, for instance a restored backup. It is not removed.
    pub data_dir: Option<PathBuf>,
    /// Files to write into the appliance's directory before the start: name, content.
    pub files: Vec<(String, Vec<u8>)>,
    /// The only name server it knows, in a mount namespace of its own: needs root.
    pub name_server: Option<Ipv4Addr>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            config: None,
            environment: Vec::new(),
            arguments: Vec::new(),
            public_url: "http://localhost:{port}".to_owned(),
            listen: "127.0.0.1:{port}".to_owned(),
            trusted_pem: None,
            until: Until::Ready,
            data_dir: None,
            files: Vec::new(),
            name_server: None,
        }
    }
}

impl Options {
    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Options {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives it a configuration file.
    pub fn config(mut self, text: &str) -> Options {
        self.config = Some(text.to_owned());
        self
    }
}

/// A start that came to nothing: the process ended.
#[derive(Debug)]
pub struct StartFailure {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout and stderr.
    pub log: String,
}

/// One running appliance. Dropping it kills the process, looks through the log and removes the directory.
pub struct Appliance {
    /// Changes take effect with the next [`Self::restart`].
    pub options: Options,
    dir: PathBuf,
    data_dir: PathBuf,
    port: u16,
    http: reqwest::Client,
    child: Option<Child>,
    expected_errors: Mutex<Vec<String>>,
}

impl Appliance {
    /// Starts the appliance and waits until it is ready. Panics with the log if it does not come up.
    pub async fn start(options: Options) -> Appliance {
        match Appliance::try_start(options).await {
            Ok(appliance) => appliance,
            Err(e) => panic!("the appliance ended at its start, code {:?}:\n{}", e.code, e.log),
        }
    }

    /// As [`Self::start`], for settings that must be refused.
    pub async fn try_start(options: Options) -> Result<Appliance, StartFailure> {
        let http = http_client(options.trusted_pem.as_deref());
        let mut attempt = 1;
        loop {
            let dir = new_dir();
            for (name, content) in &options.files {
                let path = dir.join(name);
                fs::write(&path, content).expect("the test's directory is writable");
                // Among them are keys, which nobody else may read.
                let own = fs::Permissions::from_mode(0o600);
                fs::set_permissions(&path, own).expect("the test's own file");
            }
            let mut appliance = Appliance {
                data_dir: options.data_dir.clone().unwrap_or_else(|| dir.join("data")),
                dir,
                port: free_port(),
                http: http.clone(),
                child: None,
                expected_errors: Mutex::new(Vec::new()),
                options: options.clone(),
            };
            let Err(failure) = appliance.launch().await else {
                return Ok(appliance);
            };
            let clash = failure.log.contains(ADDRESS_IN_USE) || !is_free(appliance.port);
            // This start is over and judged by its code: every line of its log is expected.
            appliance.expect_error("");
            if !clash || attempt == PORT_TRIES {
                return Err(failure);
            }
            attempt += 1;
        }
    }

    /// The root of its HTTP API, without a final slash, as seen from this machine.
    pub fn base(&self) -> String {
        let scheme = if self.options.trusted_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://localhost:{}", self.port)
    }

    /// The public URL, without a final slash.
    pub fn public_url(&self) -> String {
        self.fill(&self.options.public_url)
            .trim_end_matches('/')
            .to_owned()
    }

    /// The origin that browsers see: scheme, host and port of the public URL.
    pub fn origin(&self) -> String {
        Url::parse(&self.public_url())
            .expect("the public URL parses")
            .origin()
            .ascii_serialization()
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of this test's appliance: configuration, log, data. Free for the test's own files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The process id. Panics when it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the appliance runs").id()
    }

    /// A client without credentials.
    pub fn api(&self) -> Api {
        Api {
            base: self.base(),
            http: self.http.clone(),
            headers: Vec::new(),
        }
    }

    /// The set-up URL as the operator finds it on the host. Panics if other users of the host could read it.
    pub fn setup_url(&self) -> String {
        let path = self.data_dir.join("setup-url");
        let meta =
            fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}\n{}", path.display(), self.log_end()));
        assert_eq!(
            meta.permissions().mode() & 0o7777,
            0o600,
            "{} is not 0600",
            path.display()
        );
        fs::read_to_string(&path)
            .expect("the set-up URL is text")
            .trim()
            .to_owned()
    }

    /// Everything it wrote to stdout and stderr, over all its starts.
    pub fn log(&self) -> String {
        let mut text = read_lossy(&self.dir.join("stdout"));
        text.push_str(&read_lossy(&self.dir.join("stderr")));
        text
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|it| it.try_wait().expect("the child can be asked").is_none())
    }

    /// Tells that log lines of level ERROR with this text in them are part of the test.
    pub fn expect_error(&self, text: &str) {
        self.expected_errors
            .lock()
            .expect("no holder panics")
            .push(text.to_owned());
    }

    /// Ends it as a power cut would: SIGKILL, no farewell.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; what counts is that it is gone.
            let _gone = child.kill();
            child.wait().expect("a killed child is reaped");
        }
    }

    /// SIGTERM, then waits for the end and gives its status. Panics if it does not end in time.
    pub async fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.wait_for_end(STOP_MAX).await
    }

    /// Waits until the process ends by itself, and gives its status. Panics if it does not within `max`.
    pub async fn wait_for_end(&mut self, max: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            let child = self.child.as_mut().expect("the appliance was started");
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                self.child = None;
                return status;
            }
            assert!(
                started.elapsed() < max,
                "the appliance still runs after {max:?}:\n{}",
                self.log_end()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts it again on the same data and the same port; stops it first if it runs.
    pub async fn restart(&mut self) {
        if let Err(e) = self.try_restart().await {
            panic!(
                "the appliance ended at its restart, code {:?}:\n{}",
                e.code, e.log
            );
        }
    }

    /// As [`Self::restart`], for data or settings that must be refused.
    pub async fn try_restart(&mut self) -> Result<(), StartFailure> {
        if self.child.is_some() {
            self.stop().await;
        }
        let mut attempt = 1;
        loop {
            // The origin names the port, so there is no other: wait until its taker lets go.
            let started = Instant::now();
            while !is_free(self.port) {
                assert!(
                    started.elapsed() < START_MAX,
                    "port {} is taken by another process",
                    self.port
                );
                tokio::time::sleep(POLL).await;
            }
            let before = self.log().matches(ADDRESS_IN_USE).count();
            let Err(failure) = self.launch().await else {
                return Ok(());
            };
            let clash = failure.log.matches(ADDRESS_IN_USE).count() > before;
            if !clash || attempt == PORT_TRIES {
                return Err(failure);
            }
            self.expect_error(ADDRESS_IN_USE);
            attempt += 1;
        }
    }

    /// Runs another subcommand of the same binary on this data directory: exit code, stdout, stderr.
    pub fn cli(&self, arguments: &[&str]) -> impl Future<Output = (i32, String, String)> + Send + use<> {
        let data_dir = self.data_dir.to_str().expect("the test's directory is UTF-8");
        let mut all: Vec<&str> = arguments.to_vec();
        if !arguments.contains(&"--data-dir") {
            all.extend(["--data-dir", data_dir]);
        }
        run(&self.dir, &all, &[])
    }

    /// Runs a subcommand as it stands, with these environment variables: exit code, stdout, stderr.
    /// The future may be spawned, for instance a `gate` that waits for a decision.
    pub fn tool(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> impl Future<Output = (i32, String, String)> + Send + use<> {
        run(&self.dir, arguments, environment)
    }

    /// The last look from outside: exports the whole journal, verifies the bundle offline with the published keys,
    /// and gives the bundle's path.
    pub async fn assert_journal_verifies(&self) -> PathBuf {
        static EXPORTS: AtomicU32 = AtomicU32::new(0);
        let stem = format!("whole-{}", EXPORTS.fetch_add(1, Ordering::Relaxed));
        let path_of = |name: &str| {
            let path = self.dir.join(name);
            path.to_str().expect("the test's directory is UTF-8").to_owned()
        };
        let bundle = path_of(&format!("{stem}.zip"));
        // `to` is exclusive, so the next second covers what happens in this one.
        let to = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 1);
        let to = to.expect("a time of this century").to_string();
        let period = ["--from", "2000-01-01T00:00:00Z", "--to", &to];
        let arguments = [&["audit", "export"][..], &period, &["--out", &bundle]].concat();
        let (code, out, err) = self.cli(&arguments).await;
        assert_eq!(code, 0, "audit export: {out}{err}");
        let mut keys = Vec::new();
        for name in ["credential.pem", "log.vkey"] {
            let answer = self
                .api()
                .get(&format!("/.well-known/signedapproval/{name}"))
                .await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let path = path_of(&format!("{stem}-{name}"));
            fs::write(&path, &answer.body).expect("the test's directory is writable");
            keys.push(path);
        }
        let arguments = [
            "audit",
            "verify",
            &bundle,
            "--key",
            &keys[0],
            "--log-key",
            &keys[1],
        ];
        let (code, out, err) = self.tool(&arguments, &[]).await;
        assert_eq!(code, 0, "audit verify: {out}{err}");
        PathBuf::from(bundle)
    }

    async fn launch(&mut self) -> Result<(), StartFailure> {
        let mut command = match self.options.name_server {
            None => bare_command(&self.dir),
            Some(server) => with_name_server(&self.dir, server),
        };
        command.arg("serve").arg("--data-dir").arg(&self.data_dir);
        command.arg("--listen").arg(self.fill(&self.options.listen));
        command.arg("--public-url").arg(self.public_url());
        if let Some(config) = &self.options.config {
            let path = self.dir.join("config.toml");
            fs::write(&path, self.fill(config)).expect("the test's directory is writable");
            command.arg("--config").arg(path);
        }
        command.args(self.options.arguments.iter().map(|it| self.fill(it)));
        command.envs(
            self.options
                .environment
                .iter()
                .map(|(name, value)| (name, self.fill(value))),
        );
        command
            .stdin(Stdio::null())
            .stdout(self.append_to("stdout"))
            .stderr(self.append_to("stderr"));
        self.child = Some(
            command
                .spawn()
                .unwrap_or_else(|e| panic!("{}: {e}", binary().display())),
        );

        let path = if self.options.until == Until::Ready {
            "/readyz"
        } else {
            "/healthz"
        };
        let api = self.api();
        let started = Instant::now();
        let mut last = None;
        loop {
            let child = self.child.as_mut().expect("just started");
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                self.child = None;
                return Err(StartFailure {
                    code: status.code(),
                    log: self.log(),
                });
            }
            // Whoever else took the port may accept and never answer.
            let asked = tokio::time::timeout(ASK_MAX, api.try_send("GET", path, &[], None)).await;
            if let Ok(Ok(answer)) = asked {
                // Whoever else took the port would answer too.
                if answer.status == 200 && is_listening(self.pid(), self.port) {
                    return Ok(());
                }
                last = Some(answer);
            }
            if started.elapsed() > START_MAX {
                panic!(
                    "{path} not 200 within {START_MAX:?}, last {last:?}:\n{}",
                    self.log_end()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn append_to(&self, name: &str) -> File {
        let file = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(name));
        file.expect("the test's directory is writable")
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{port}", &self.port.to_string())
            .replace("{data_dir}", &self.data_dir.to_string_lossy())
            .replace("{dir}", &self.dir.to_string_lossy())
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.kill9();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!(
                "log of the appliance at {}:\n{}",
                self.dir.display(),
                self.log_end()
            );
        }
        if std::env::var_os("SIGNEDAPPROVAL_TEST_KEEP").is_none() {
            // A directory left behind does no harm; a panic here would hide the test's own.
            let _removed = fs::remove_dir_all(&self.dir);
        }
        if !std::thread::panicking() {
            let expected = self.expected_errors.lock().expect("no holder panics").clone();
            let unexpected = unexpected_errors(&log, &expected);
            assert!(
                unexpected.is_empty(),
                "unexpected errors in the log:\n{}",
                unexpected.join("\n")
            );
        }
    }
}

/// The lines of a log, text or JSON, that tell of an error or of a panic and hold none of the expected texts.
pub fn unexpected_errors(log: &str, expected: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for line in log.lines() {
        let plain = without_colours(line);
        let is_error = match serde_json::from_str::<Value>(&plain) {
            Ok(Value::Object(record)) => record.get("level").is_some_and(|it| it == "ERROR"),
            // Text lines begin with the time, then the level.
            _ => plain.split_whitespace().take(3).any(|it| it == "ERROR"),
        };
        let is_panic = plain.contains("panicked at ");
        if (is_error || is_panic) && !expected.iter().any(|it| plain.contains(it.as_str())) {
            found.push(plain);
        }
    }
    found
}

/// A client of the HTTP API. Clones share their connections.
#[derive(Clone)]
pub struct Api {
    base: String,
    http: reqwest::Client,
    headers: Vec<(String, String)>,
}

impl Api {
    /// The same client with an API key.
    pub fn with_key(&self, key: &str) -> Api {
        self.with_header("authorization", &format!("Bearer {key}"))
    }

    /// The same client with one more header in every call.
    pub fn with_header(&self, name: &str, value: &str) -> Api {
        let mut it = self.clone();
        it.headers.push((name.to_owned(), value.to_owned()));
        it
    }

    /// GET of a path, or of an absolute URL.
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).await
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_json("POST", path, &[], body).await
    }

    /// PUT of a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send_json("PUT", path, &[], body).await
    }

    /// PATCH of a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send_json("PATCH", path, &[], body).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None).await
    }

    /// Any method with a JSON body and more headers.
    pub async fn send_json(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(method, path, &all, Some(body.to_string().into_bytes()))
            .await
    }

    /// Any call. Panics when there is no answer at all.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        match self.try_send(method, path, headers, body).await {
            Ok(answer) => answer,
            Err(e) => panic!("{method} {path}: {e:?}"),
        }
    }

    /// Any call; an error when there is no answer, for instance because the appliance was killed meanwhile.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, reqwest::Error> {
        let response = self.response(method, path, headers, body).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer {
            status,
            headers,
            body: response.bytes().await?.to_vec(),
        })
    }

    /// Any call, answered as soon as the head is there: for streams, whose chunks the caller reads.
    pub async fn response(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let absolute = path.starts_with("http://") || path.starts_with("https://");
        let url = if absolute {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        };
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method's name");
        // Changes of the configuration have to say why; what a test is not about is said here.
        let stated = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("x-reason"));
        let reads = method == reqwest::Method::GET || method == reqwest::Method::HEAD;
        let mut request = self.http.request(method, &url);
        if !stated && !reads && !absolute {
            request = request.header("x-reason", "a test");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await
    }

    /// Opens a request as a pipeline does, and gives its id. Panics unless it answers 201.
    pub async fn open_request(&self, body: &Value) -> String {
        let answer = self.post("/api/v1/approvals/request", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"]
            .as_str()
            .expect("a request has an id")
            .to_owned()
    }

    /// A request as its requester sees it. Panics unless it answers 200.
    pub async fn request(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/v1/approvals/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until a request has this status, and gives it. Panics if it has not within `max`.
    pub async fn wait_for_status(&self, id: &str, status: &str, max: Duration) -> Value {
        let started = Instant::now();
        loop {
            let request = self.request(id).await;
            if request["status"] == status {
                return request;
            }
            assert!(started.elapsed() < max, "not {status} within {max:?}: {request}");
            tokio::time::sleep(5 * POLL).await;
        }
    }
}

/// A complete HTTP answer.
#[derive(Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON. Panics with the answer if it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON: {e}: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|it| it.to_str().expect("a header is visible ASCII"))
    }

    /// Asserts the status, and gives the body as JSON (null where there is none).
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content_type = self.header("content-type").unwrap_or("no content type");
        let shown: String = self.text().chars().take(2000).collect();
        write!(f, "{} ({content_type}) {shown}", self.status)
    }
}

/// An HTTP client that follows no redirect, knows no proxy and finds `localhost` at 127.0.0.1.
/// It trusts the given CA alone; without one it has no use for https.
pub fn http_client(trusted_pem: Option<&str>) -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the tests may have been first; any provider will do.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    let roots = trusted_pem
        .map(|pem| reqwest::Certificate::from_pem_bundle(pem.as_bytes()).expect("PEM certificates"))
        .unwrap_or_default();
    reqwest::Client::builder()
        .no_proxy()
        .no_hickory_dns()
        .resolve("localhost", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(HTTP_MAX)
        .tls_certs_only(roots)
        .build()
        .expect("the client builds")
}

/// Runs the binary under test in a directory, without blocking the runtime: exit code (-1 for a signal), stdout,
/// stderr.
pub fn run(
    dir: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> impl Future<Output = (i32, String, String)> + Send + use<> {
    let mut command = bare_command(dir);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    async move {
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("the run does not panic");
        let output = output.expect("the binary under test starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }
}

/// Sends a signal by name (`TERM`, `HUP`, `STOP`, `CONT`) to one process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .status();
    assert!(status.expect("sh starts").success(), "kill -s {name} {pid}");
}

/// A new directory of this process, in the system's place for temporary files: short, for Unix sockets within.
pub fn new_dir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut salt = [0; 4];
    getrandom::fill(&mut salt).expect("the system gives random bytes");
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("sa-it-{}-{}-{n}", std::process::id(), hex::encode(salt)));
    fs::create_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    dir
}

/// A port of 127.0.0.1 that nothing listens on and that this process has not handed out before.
/// Taken below the ephemeral range, so that no outgoing connection has it.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("no holder panics");
    for _ in 0..10_000 {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        let port = 10_240 + u16::from_le_bytes(bytes) % 22_000;
        if !given.contains(&port) && is_free(port) {
            given.insert(port);
            return port;
        }
    }
    unreachable!("10,000 tries of 22,000 ports met no free one")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether this very process listens on the port: one of its sockets is the listener in the kernel's table.
fn is_listening(pid: u32, port: u16) -> bool {
    let table = read_lossy(Path::new("/proc/net/tcp"));
    let local = [format!("0100007F:{port:04X}"), format!("00000000:{port:04X}")];
    let inodes: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        // Columns: slot, local address, remote address, state (0A is LISTEN), …, inode at the tenth place.
        .filter(|it| it.len() > 9 && it[3] == "0A" && local.iter().any(|local| it[1] == local))
        .map(|it| format!("socket:[{}]", it[9]))
        .collect();
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    open.flatten().any(|it| {
        let target = fs::read_link(it.path()).unwrap_or_default();
        inodes.iter().any(|inode| target == Path::new(inode))
    })
}

/// As [`bare_command`], asking this name server alone. `unshare` and `sh` replace themselves, so the process is the same.
fn with_name_server(dir: &Path, server: Ipv4Addr) -> Command {
    let (resolver, switch) = (dir.join("resolv.conf"), dir.join("nsswitch.conf"));
    let text = format!("nameserver {server}\noptions timeout:1 attempts:2\n");
    fs::write(&resolver, text).expect("the test's directory is writable");
    fs::write(&switch, "hosts: files dns\n").expect("the test's directory is writable");
    let bare = bare_command(dir);
    let mut command = Command::new("unshare");
    command.current_dir(dir).env_clear();
    for (name, value) in bare.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let mounts = "mount --bind \"$0\" /etc/resolv.conf && mount --bind \"$1\" /etc/nsswitch.conf && shift && exec \"$@\"";
    command
        .args(["--mount", "sh", "-c", mounts])
        .args([&resolver, &switch])
        .arg(binary());
    command
}

/// The binary under test with nothing inherited that could change what it does.
pub fn bare_command(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(dir).env_clear().env("HOME", dir);
    // LLVM_PROFILE_FILE: a build that measures coverage writes there.
    for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The line without ANSI colours.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, it)| it);
    }
    plain.push_str(rest);
    plain
}
