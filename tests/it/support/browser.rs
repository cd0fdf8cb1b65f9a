//! A small WebDriver client (W3C WebDriver, its WebAuthn extension, and Chromium's own commands) for Debian's chromium
//! and chromedriver. A browser finds no host but this machine. It never retries an action, it only waits for conditions.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::fs;
use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;

use crate::support::appliance::http_client;
use crate::support::appliance::new_dir;
use crate::support::appliance::signal;

/// Debian's places.
const CHROMIUM: &str = "/usr/bin/chromium";
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
/// Key of an element reference (W3C WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Starting a browser on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// Until a condition on a page must be true.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);
/// Browsers that run at the same time in one test process: each takes several hundred megabytes.
static SEATS: Semaphore = Semaphore::const_new(2);

/// How to start a browser.
#[derive(Clone, Default)]
pub struct BrowserOptions {
    /// More command line switches.
    pub arguments: Vec<String>,
    /// Accept any certificate, for an appliance with a test CA.
    pub accept_insecure_certs: bool,
}

/// One headless browser with a profile of its own. Dropping it ends browser and driver and removes the profile.
pub struct Browser {
    driver: Child,
    port: u16,
    /// Path of the session, `/session/…`, once there is one.
    session: String,
    browser_pid: Option<u32>,
    http: reqwest::Client,
    dir: PathBuf,
    console: Mutex<Vec<ConsoleEntry>>,
    requested: Mutex<Vec<String>>,
    _seat: SemaphorePermit<'static>,
}

/// A line of the browser's console.
#[derive(Clone, Debug)]
pub struct ConsoleEntry {
    /// `SEVERE`, `WARNING`, `INFO`, `DEBUG`.
    pub level: String,
    /// `javascript`, `console-api`, `network`, `security`, …
    pub source: String,
    /// Place and text.
    pub message: String,
}

/// A reference to an element of the current page.
#[derive(Clone, Debug)]
pub struct Element(String);

/// What the WebDriver answers when it says no.
#[derive(Clone, Debug)]
pub struct DriverError {
    /// The error code, for instance `no such element`.
    pub error: String,
    /// Its words.
    pub message: String,
}

impl Browser {
    /// Whether chromium and chromedriver are installed where Debian puts them.
    pub fn available() -> bool {
        Path::new(CHROMIUM).exists() && Path::new(CHROMEDRIVER).exists()
    }

    /// Starts a browser. Panics if it does not come up.
    pub async fn start() -> Browser {
        Browser::start_with(&BrowserOptions::default()).await
    }

    /// Starts a browser with options. Waits while too many run already.
    pub async fn start_with(options: &BrowserOptions) -> Browser {
        let seat = SEATS.acquire().await.expect("the semaphore is never closed");
        let dir = new_dir();
        let log = dir.join("chromedriver.log");
        let out = File::create(&log).expect("the test's directory is writable");
        let err = out.try_clone().expect("a file handle can be copied");
        let driver = Command::new(CHROMEDRIVER)
            .arg("--port=0")
            .env("HOME", &dir)
            .env("TMPDIR", &dir)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // A group of its own, so that nothing it starts outlives it.
            .process_group(0)
            .spawn()
            .expect("chromedriver starts");
        let mut browser = Browser {
            driver,
            port: 0,
            session: String::new(),
            browser_pid: None,
            http: http_client(None),
            dir,
            console: Mutex::default(),
            requested: Mutex::default(),
            _seat: seat,
        };
        browser.port = browser.wait_for_port(&log).await;

        let mut arguments: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            // Nothing outside this machine can be found.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!(
            "--user-data-dir={}",
            browser.dir.join("profile").display()
        ));
        arguments.extend_from_slice(&options.arguments);
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": options.accept_insecure_certs,
            // An unexpected dialog stays open and fails the next command.
            "unhandledPromptBehavior": "ignore",
            "webauthn:virtualAuthenticators": true,
            // A script that looks at a whole page takes its time where others have the processors.
            "timeouts": {"script": 120_000},
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = match browser.send("POST", "/session", &capabilities).await {
            Ok(session) => session,
            Err(e) => panic!(
                "no browser session: {e:?}\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            ),
        };
        browser.session = format!(
            "/session/{}",
            session["sessionId"].as_str().expect("a session has an id")
        );
        browser.browser_pid = session["capabilities"]["goog:processID"]
            .as_u64()
            .and_then(|it| u32::try_from(it).ok());
        // The browser's own first page made requests that no test asks for.
        browser.goto("about:blank").await;
        browser.requested_urls().await;
        browser.requested.lock().expect("no holder panics").clear();
        browser
    }

    // ---- pages ----

    /// Goes to a URL and waits for its load event. Panics if nothing answers there.
    pub async fn goto(&self, url: &str) {
        self.command("POST", "/url", &json!({"url": url})).await;
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.command("POST", "/refresh", &json!({})).await;
    }

    /// The URL of the page.
    pub async fn url(&self) -> String {
        as_text(&self.command("GET", "/url", &Value::Null).await)
    }

    /// The title of the page.
    pub async fn title(&self) -> String {
        as_text(&self.command("GET", "/title", &Value::Null).await)
    }

    /// The page as HTML, as it stands now.
    pub async fn source(&self) -> String {
        as_text(&self.command("GET", "/source", &Value::Null).await)
    }

    /// The first element of a CSS selector, if there is one now.
    pub async fn find(&self, css: &str) -> Option<Element> {
        self.find_all(css).await.into_iter().next()
    }

    /// All elements of a CSS selector.
    pub async fn find_all(&self, css: &str) -> Vec<Element> {
        let found = self
            .command(
                "POST",
                "/elements",
                &json!({"using": "css selector", "value": css}),
            )
            .await;
        found
            .as_array()
            .expect("a list of elements")
            .iter()
            .map(|it| Element(as_text(&it[ELEMENT])))
            .collect()
    }

    /// The first element of a CSS selector, once there is one that is displayed. Panics if there is none in time.
    pub async fn element(&self, css: &str) -> Element {
        let started = Instant::now();
        loop {
            if let Some(element) = self.find(css).await {
                let path = format!("/element/{}/displayed", element.0);
                // The page may have replaced it meanwhile: then look again.
                if matches!(
                    self.try_command("GET", &path, &Value::Null).await,
                    Ok(Value::Bool(true))
                ) {
                    return element;
                }
            }
            if started.elapsed() > WAIT_MAX {
                panic!(
                    "no displayed {css:?} within {WAIT_MAX:?}; {}",
                    self.situation().await
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Clicks the first element of a CSS selector, once it is displayed, as a person would: not through what covers it.
    pub async fn click(&self, css: &str) {
        // A page whose scripts are not there yet sends its forms as they are, and moves under the pointer once they come.
        self.wait_until("document.readyState === 'complete'").await;
        // Changes of the configuration ask why; what a test is not about is filled in here.
        let reason = "const it = document.querySelector(arguments[0])?.closest('form')?.querySelector('[name=reason]'); \
                      if (it && !it.value) it.value = 'a test';";
        self.script(reason, &[json!(css)]).await;
        let element = self.element(css).await;
        self.on_element(css, "POST", &element, "click", &json!({})).await;
    }

    /// Replaces the text of a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.on_element(css, "POST", &element, "clear", &json!({})).await;
        self.on_element(css, "POST", &element, "value", &json!({"text": text}))
            .await;
    }

    /// Types into a field, or presses keys there (`"\u{E007}"` is Enter, `"\u{E004}"` Tab).
    pub async fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.on_element(css, "POST", &element, "value", &json!({"text": text}))
            .await;
    }

    /// The visible text of the first element of a CSS selector, once it is displayed.
    pub async fn text(&self, css: &str) -> String {
        let element = self.element(css).await;
        as_text(&self.on_element(css, "GET", &element, "text", &Value::Null).await)
    }

    /// An attribute of the first element of a CSS selector, once it is displayed.
    pub async fn attribute(&self, css: &str, name: &str) -> Option<String> {
        let element = self.element(css).await;
        let value = self
            .on_element(css, "GET", &element, &format!("attribute/{name}"), &Value::Null)
            .await;
        value.as_str().map(str::to_owned)
    }

    // ---- scripts ----

    /// Runs a function body with `arguments`, and gives what it returns.
    pub async fn script(&self, body: &str, arguments: &[Value]) -> Value {
        self.command(
            "POST",
            "/execute/sync",
            &json!({"script": body, "args": arguments}),
        )
        .await
    }

    /// Runs the body of an async function with `arguments`, and gives what it resolves to. Panics if it rejects.
    pub async fn script_async(&self, body: &str, arguments: &[Value]) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];\
             const given = Array.prototype.slice.call(arguments, 0, -1);\
             (async function () {{ {body}\n }}).apply(null, given).then(\
             (value) => done({{value: value === undefined ? null : value}}),\
             (error) => done({{error: String(error && error.name) + ': ' + String(error && error.message)}}));"
        );
        let answer = self
            .command(
                "POST",
                "/execute/async",
                &json!({"script": script, "args": arguments}),
            )
            .await;
        if let Some(error) = answer["error"].as_str() {
            panic!("the script rejected: {error}\n{body}");
        }
        answer["value"].clone()
    }

    /// Waits until a JavaScript expression is true. Panics with the page's state if it is not in time.
    pub async fn wait_until(&self, expression: &str) {
        self.wait_until_within(expression, WAIT_MAX).await;
    }

    /// As [`Self::wait_until`], with another bound.
    pub async fn wait_until_within(&self, expression: &str, max: Duration) {
        let body = json!({"script": format!("return !!({expression});"), "args": []});
        let started = Instant::now();
        loop {
            match self.try_command("POST", "/execute/sync", &body).await {
                Ok(Value::Bool(true)) => return,
                Ok(_) => {}
                // The page is being replaced by the next one, or the expression looks at what is not there yet.
                Err(e) if e.error == "javascript error" || e.error == "unknown error" => {}
                Err(e) => panic!("waiting for {expression}: {e:?}"),
            }
            if started.elapsed() > max {
                panic!("{expression} not true within {max:?}; {}", self.situation().await);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the page's visible text holds this.
    pub async fn wait_for_text(&self, text: &str) {
        self.wait_until(&format!("document.body.innerText.includes({})", json!(text)))
            .await;
    }

    // ---- dialogs and windows ----

    /// The text of an open alert, confirm or prompt.
    pub async fn dialog(&self) -> Option<String> {
        match self.try_command("GET", "/alert/text", &Value::Null).await {
            Ok(text) => Some(as_text(&text)),
            Err(e) if e.error == "no such alert" => None,
            Err(e) => panic!("asking for a dialog: {e:?}"),
        }
    }

    /// Accepts the open dialog.
    pub async fn accept_dialog(&self) {
        self.command("POST", "/alert/accept", &json!({})).await;
    }

    /// Sets the outer size of the window.
    pub async fn window_size(&self, width: u32, height: u32) {
        self.command("POST", "/window/rect", &json!({"width": width, "height": height}))
            .await;
    }

    /// Makes it a phone of 390 by 844 CSS pixels with touch.
    pub async fn be_a_phone(&self) {
        self.device(390, 844, 3, true).await;
    }

    /// Sets the inner size in CSS pixels, the pixel ratio, and whether it is a mobile device with touch.
    pub async fn device(&self, width: u32, height: u32, scale: u32, mobile: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile});
        self.cdp("Emulation.setDeviceMetricsOverride", &metrics).await;
        self.cdp("Emulation.setTouchEmulationEnabled", &json!({"enabled": mobile}))
            .await;
    }

    /// Prefers `dark` or `light`.
    pub async fn color_scheme(&self, scheme: &str) {
        self.media(&[("prefers-color-scheme", scheme)]).await;
    }

    /// Sets media features, for instance `prefers-reduced-motion`; earlier ones are forgotten.
    pub async fn media(&self, features: &[(&str, &str)]) {
        let features: Vec<Value> = features
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        self.cdp("Emulation.setEmulatedMedia", &json!({"features": features}))
            .await;
    }

    /// Takes the network away or gives it back.
    pub async fn offline(&self, offline: bool) {
        self.cdp("Network.enable", &json!({})).await;
        let conditions =
            json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.cdp("Network.emulateNetworkConditions", &conditions).await;
    }

    /// Grants a permission (`notifications`, `clipboardReadWrite`, …) to an origin.
    pub async fn grant(&self, origin: &str, permission: &str) {
        self.cdp(
            "Browser.grantPermissions",
            &json!({"origin": origin, "permissions": [permission]}),
        )
        .await;
    }

    /// Any command of the Chrome DevTools Protocol.
    pub async fn cdp(&self, name: &str, parameters: &Value) -> Value {
        self.command(
            "POST",
            "/goog/cdp/execute",
            &json!({"cmd": name, "params": parameters}),
        )
        .await
    }

    /// Writes what is seen to a PNG file.
    pub async fn screenshot(&self, file: &Path) {
        let png = as_text(&self.command("GET", "/screenshot", &Value::Null).await);
        let png = STANDARD.decode(png).expect("a screenshot is base64");
        assert!(png.starts_with(b"\x89PNG"), "a screenshot is a PNG");
        fs::write(file, png).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    /// Writes the whole page, beyond what is seen, to a PNG file.
    pub async fn full_screenshot(&self, file: &Path) {
        let answer = self
            .cdp(
                "Page.captureScreenshot",
                &json!({"format": "png", "captureBeyondViewport": true}),
            )
            .await;
        let png = STANDARD
            .decode(as_text(&answer["data"]))
            .expect("a screenshot is base64");
        fs::write(file, png).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    // ---- cookies, console, network ----

    /// The cookies of the page, HttpOnly ones too, in WebDriver's form.
    pub async fn cookies(&self) -> Vec<Value> {
        self.command("GET", "/cookie", &Value::Null)
            .await
            .as_array()
            .expect("a list of cookies")
            .clone()
    }

    /// Everything written to the console since the start.
    pub async fn console(&self) -> Vec<ConsoleEntry> {
        let new = self.command("POST", "/se/log", &json!({"type": "browser"})).await;
        let mut console = self.console.lock().expect("no holder panics");
        for entry in new.as_array().expect("a list of log entries") {
            console.push(ConsoleEntry {
                level: as_text(&entry["level"]),
                source: entry["source"].as_str().unwrap_or_default().to_owned(),
                message: as_text(&entry["message"]),
            });
        }
        console.clone()
    }

    /// The console's lines about the Content Security Policy.
    pub async fn csp_violations(&self) -> Vec<ConsoleEntry> {
        let mut console = self.console().await;
        console.retain(|it| {
            it.message.contains("Content Security Policy") || it.message.contains("Content-Security-Policy")
        });
        console
    }

    /// The console's lines of level SEVERE: uncaught errors, failed loads, CSP violations.
    pub async fn console_errors(&self) -> Vec<ConsoleEntry> {
        let mut console = self.console().await;
        console.retain(|it| it.level == "SEVERE");
        console
    }

    /// The URLs of all requests that pages tried to make since the start, data and blob URLs and what the Content
    /// Security Policy then blocked included; not those of the browser's own pages.
    pub async fn requested_urls(&self) -> Vec<String> {
        let new = self
            .command("POST", "/se/log", &json!({"type": "performance"}))
            .await;
        let mut requested = self.requested.lock().expect("no holder panics");
        for entry in new.as_array().expect("a list of log entries") {
            let event: Value = serde_json::from_str(&as_text(&entry["message"])).expect("an event is JSON");
            if event["message"]["method"] == "Network.requestWillBeSent" {
                let url = as_text(&event["message"]["params"]["request"]["url"]);
                if !url.starts_with("chrome") {
                    requested.push(url);
                }
            }
        }
        requested.clone()
    }

    // ---- virtual authenticators (WebAuthn Level 3, section 11) ----

    /// Adds a platform authenticator with discoverable credentials that answers at once and verifies its user.
    pub async fn add_authenticator(&self) -> String {
        self.add_authenticator_with(&json!({})).await
    }

    /// As [`Self::add_authenticator`], with other properties, for instance `{"isUserVerified": false}`.
    pub async fn add_authenticator_with(&self, changes: &Value) -> String {
        let mut properties = json!({
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": true,
            "hasUserVerification": true,
            "isUserConsenting": true,
            "isUserVerified": true,
        });
        for (name, value) in changes.as_object().expect("an object of properties") {
            properties[name] = value.clone();
        }
        as_text(&self.command("POST", "/webauthn/authenticator", &properties).await)
    }

    /// Removes an authenticator with all its credentials.
    pub async fn remove_authenticator(&self, authenticator: &str) {
        self.command(
            "DELETE",
            &format!("/webauthn/authenticator/{authenticator}"),
            &Value::Null,
        )
        .await;
    }

    /// Whether the authenticator verifies its user from now on.
    pub async fn user_verified(&self, authenticator: &str, verified: bool) {
        let path = format!("/webauthn/authenticator/{authenticator}/uv");
        self.command("POST", &path, &json!({"isUserVerified": verified}))
            .await;
    }

    /// The authenticator's credentials, private keys included, in the extension's form.
    pub async fn credentials(&self, authenticator: &str) -> Vec<Value> {
        let path = format!("/webauthn/authenticator/{authenticator}/credentials");
        self.command("GET", &path, &Value::Null)
            .await
            .as_array()
            .expect("a list of credentials")
            .clone()
    }

    /// Removes one credential by its id (base64url).
    pub async fn remove_credential(&self, authenticator: &str, id: &str) {
        let path = format!("/webauthn/authenticator/{authenticator}/credentials/{id}");
        self.command("DELETE", &path, &Value::Null).await;
    }

    // ---- the protocol ----

    /// A command of this session. Panics if the driver says no.
    pub async fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        match self.try_command(method, path, body).await {
            Ok(value) => value,
            Err(e) => panic!("{method} {path} {body}: {}: {}", e.error, e.message),
        }
    }

    /// A command of this session.
    pub async fn try_command(&self, method: &str, path: &str, body: &Value) -> Result<Value, DriverError> {
        self.send(method, &format!("{}{path}", self.session), body).await
    }

    async fn on_element(
        &self,
        css: &str,
        method: &str,
        element: &Element,
        what: &str,
        body: &Value,
    ) -> Value {
        match self
            .try_command(method, &format!("/element/{}/{what}", element.0), body)
            .await
        {
            Ok(value) => value,
            Err(e) => panic!("{what} of {css:?}: {}: {}", e.error, e.message),
        }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, DriverError> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method's name");
        let mut request = self.http.request(method.clone(), url);
        if method == reqwest::Method::POST {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request
            .send()
            .await
            .unwrap_or_else(|e| panic!("chromedriver is gone: {e:?}"));
        let ok = response.status().is_success();
        let bytes = response
            .bytes()
            .await
            .unwrap_or_else(|e| panic!("chromedriver is gone: {e:?}"));
        let mut answer: Value = serde_json::from_slice(&bytes).expect("a WebDriver answer is JSON");
        let value = answer["value"].take();
        if ok {
            return Ok(value);
        }
        Err(DriverError {
            error: value["error"].as_str().unwrap_or_default().to_owned(),
            message: value["message"]
                .as_str()
                .unwrap_or_default()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        })
    }

    async fn wait_for_port(&mut self, log: &Path) -> u16 {
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(log).unwrap_or_default();
            // "ChromeDriver was started successfully on port 36715."
            if let Some((_, rest)) = text.split_once("started successfully on port ")
                && let Some((port, _)) = rest.split_once('.')
            {
                return port.parse().expect("a port");
            }
            let ended = self.driver.try_wait().expect("the child can be asked");
            assert!(
                ended.is_none() && started.elapsed() < START_MAX,
                "chromedriver did not start: {ended:?}\n{text}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Where a failed test stands, in words.
    async fn situation(&self) -> String {
        let page = self.try_command("GET", "/url", &Value::Null).await;
        let body = json!({"script": "return document.body ? document.body.innerText.slice(0, 1500) : '';", "args": []});
        let text = self.try_command("POST", "/execute/sync", &body).await;
        let console = self
            .try_command("POST", "/se/log", &json!({"type": "browser"}))
            .await;
        format!("page {page:?}\ntext {text:?}\nnew in the console {console:?}")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The polite way first, so that the browser's own children end with it. Each step may fail because the one
        // before did its work, or because there was no session: nothing is left to tell then.
        if !self.session.is_empty() {
            let _quit = quit(self.port, &self.session);
        }
        if let Some(pid) = self.browser_pid.filter(|it| is_browser_of(*it, &self.dir)) {
            signal(pid, "KILL");
        }
        let group = format!("-{}", self.driver.id());
        let _gone = Command::new("sh")
            .args(["-c", "kill -s KILL -- \"$0\" 2>/dev/null", &group])
            .status();
        let _reaped = self.driver.wait();
        if std::env::var_os("SIGNEDAPPROVAL_TEST_KEEP").is_none() {
            let _removed = fs::remove_dir_all(&self.dir);
        }
    }
}

/// `DELETE /session/…` without a runtime: a drop may happen where none is left.
fn quit(port: u16, session: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("DELETE {session} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    // The first bytes of the answer come when the browser is gone.
    stream.read_exact(&mut [0; 12])
}

/// Whether a process is still the browser of this profile: its id may have been given to another one.
fn is_browser_of(pid: u32, dir: &Path) -> bool {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command_line).contains(&*dir.to_string_lossy())
}

#[track_caller]
fn as_text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not text: {value}"))
        .to_owned()
}
