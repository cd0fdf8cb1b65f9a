//! `signedapproval gate` as a pipeline runs it: every way it can end, what it leaves behind, and servers that lie to it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::binary;
use crate::support::appliance::free_port;
use crate::support::appliance::signal;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

const SOON: Duration = Duration::from_secs(30);
const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_SHA: &str = "89abcdef0123456789abcdef0123456789abcdef";
const ACTION: &str = "Deploy pay/api to production";

/// An appliance, its admin, an approver, a pipeline's key, and the appliance's own keys as somebody pinned them.
pub struct Scene {
    pub appliance: Appliance,
    pub ada: Person,
    pub bea: Person,
    pub key: String,
    pub ci: Api,
    pub pem: PathBuf,
    pub vkey: PathBuf,
}

impl Scene {
    pub async fn new() -> Scene {
        let appliance = Appliance::start(Options::default()).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let key = ada.create_api_key("CI", &["request"], &[]).await.key;
        let ci = appliance.api().with_key(&key);
        let pem = pinned(&appliance, "credential.pem").await;
        let vkey = pinned(&appliance, "log.vkey").await;
        Scene {
            appliance,
            ada,
            bea,
            key,
            ci,
            pem,
            vkey,
        }
    }

    /// What a GitLab job of production has in its environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        gitlab(&self.appliance.base(), &self.key)
    }

    /// Starts a gate that waits.
    pub fn gate(&self, more: &[&str]) -> Gate {
        let pem = self.pem.to_str().expect("UTF-8").to_owned();
        let fixed = ["--action", ACTION, "--trusted-key", &pem];
        Gate::start(
            self.appliance.dir(),
            &[&fixed[..], more].concat(),
            &self.environment(),
        )
    }

    /// The one request that waits, as its gate opened it.
    pub async fn waiting(&self) -> Value {
        let started = Instant::now();
        loop {
            let list = items(&self.ci.get("/api/v1/approvals?status=pending").await);
            if let [one] = list.as_slice() {
                return one.clone();
            }
            assert!(started.elapsed() < SOON, "no request came: {list:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Runs `verify` over files with the pinned key.
    async fn verify(&self, more: &[&str]) -> (i32, String) {
        let pem = self.pem.to_str().expect("UTF-8").to_owned();
        let (code, out, err) = self
            .appliance
            .tool(&[&["verify", "--key", &pem][..], more].concat(), &[])
            .await;
        (code, out + &err)
    }
}

fn gitlab(server: &str, key: &str) -> Vec<(String, String)> {
    [
        ("GITLAB_CI", "true"),
        ("CI_COMMIT_SHA", SHA),
        ("CI_PROJECT_PATH", "pay/api"),
        ("CI_ENVIRONMENT_NAME", "production"),
        ("GITLAB_USER_LOGIN", "mallory"),
        ("CI_JOB_URL", "https://git.corp/pay/api/-/jobs/7"),
        ("SIGNEDAPPROVAL_URL", server),
        ("SIGNEDAPPROVAL_API_KEY", key),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

async fn pinned(appliance: &Appliance, name: &str) -> PathBuf {
    let answer = appliance
        .api()
        .get(&format!("/.well-known/signedapproval/{name}"))
        .await;
    let path = appliance.dir().join(name);
    std::fs::write(&path, &answer.body).expect("the test's directory is writable");
    path
}

/// A running gate.
pub struct Gate {
    child: Option<Child>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A test that failed leaves nobody waiting.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// How one ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Gate {
    fn start(dir: &Path, arguments: &[&str], environment: &[(String, String)]) -> Gate {
        let child = Command::new(binary())
            .arg("gate")
            .args(arguments)
            .current_dir(dir)
            .env_clear()
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test starts");
        Gate { child: Some(child) }
    }

    pub async fn end(mut self) -> Ended {
        let started = Instant::now();
        while self
            .child
            .as_mut()
            .expect("it runs")
            .try_wait()
            .expect("it can be asked")
            .is_none()
        {
            assert!(started.elapsed() < SOON, "the gate still waits");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let output = self
            .child
            .take()
            .expect("it ran")
            .wait_with_output()
            .expect("it can be waited for");
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_opens_the_gate_and_leaves_a_receipt_that_is_good_for_this_deployment_alone() {
    let it = Scene::new().await;
    let vkey = it.vkey.to_str().expect("UTF-8").to_owned();
    let gate = it.gate(&["--receipt", "proof.receipt.json", "--log-key", &vkey]);
    let request = it.waiting().await;
    let id = text(&request, "id");
    assert_eq!(request["action"], ACTION);
    assert_eq!(request["subject"]["digest"]["gitCommit"], SHA);
    assert_eq!(request["environment"], "production");
    assert_eq!(request["project"], "pay/api");
    assert_eq!(request["claimed"]["actor"], "mallory");
    assert_eq!(request["claimed"]["run"], "https://git.corp/pay/api/-/jobs/7");
    assert_eq!(request["requested_by"]["name"], "CI", "a claim is nobody's name");
    it.bea.approve(&id).await;
    let ended = gate.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .out
            .contains(&format!("{}/a/{id}", it.appliance.public_url())),
        "{ended:?}"
    );
    let code = ended
        .out
        .split("Match code ")
        .nth(1)
        .and_then(|it| it.split(':').next());
    let code = code.expect("a match code");
    let page = it.bea.get(&format!("/a/{id}")).await.text();
    assert!(
        page.contains(&format!(">{code}</strong>")),
        "the page shows {code}: {page}"
    );
    assert!(!ended.out.contains(&it.key) && !ended.err.contains(&it.key));
    let shown = it.ci.request(&id).await;
    assert!(
        shown["consumed_at"].is_string(),
        "the gate has used the approval: {shown}"
    );
    let again = it
        .ci
        .post(&format!("/api/v1/approvals/{id}/consume"), &json!({}))
        .await;
    assert_problem!(again, 409, "not-usable");

    let receipt = "proof.receipt.json";
    let good = [
        receipt,
        "--commit",
        SHA,
        "--environment",
        "production",
        "--project",
        "pay/api",
    ];
    let (code, out) = it
        .verify(
            &[
                &good[..],
                &["--action", ACTION, "--at", "now", "--log-key", &vkey],
            ]
            .concat(),
        )
        .await;
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("inclusion: ") && out.contains("was approved"),
        "{out}"
    );
    for bad in [
        ["--commit", OTHER_SHA],
        ["--environment", "staging"],
        ["--project", "pay/other"],
        ["--action", "Deploy something else"],
        ["--at", "2099-01-01T00:00:00Z"],
    ] {
        let (code, out) = it.verify(&[&[receipt][..], &bad].concat()).await;
        assert_eq!(code, 1, "{bad:?}: {out}");
    }
    // Whoever deploys without asking the appliance remembers what was used.
    std::fs::create_dir(it.appliance.dir().join("spent")).expect("a new directory");
    let (code, out) = it.verify(&[&good[..], &["--spent", "spent"]].concat()).await;
    assert_eq!(code, 0, "{out}");
    let (code, out) = it.verify(&[&good[..], &["--spent", "spent"]].concat()).await;
    assert_eq!(code, 1, "used twice: {out}");
    assert!(out.contains("was used here before"), "{out}");

    // A damaged receipt, and one whose parts were exchanged.
    let path = it.appliance.dir().join(receipt);
    let whole = std::fs::read_to_string(&path).expect("the receipt");
    let mut value: Value = serde_json::from_str(&whole).expect("JSON");
    value["claimed"] = json!("e30=");
    let order = ["v", "type", "request", "claimed", "outcome", "credentials"];
    let members: Vec<String> = order
        .iter()
        .map(|it| format!("\"{it}\":{}", value[*it]))
        .collect();
    std::fs::write(&path, format!("{{{}}}\n", members.join(","))).expect("writable");
    let (code, out) = it.verify(&[receipt]).await;
    assert!(
        code == 1 && out.contains("opened with other metadata"),
        "{code} {out}"
    );
    std::fs::write(&path, whole.replace("\"v\":1", "\"v\":2")).expect("writable");
    assert_eq!(it.verify(&[receipt]).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_tells_why_there_is_no_approval() {
    let it = Scene::new().await;
    let gate = it.gate(&["--receipt", "no.receipt.json", "--json"]);
    let id = text(&it.waiting().await, "id");
    it.bea.reject(&id, "not today").await;
    let ended = gate.end().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let told: Value = serde_json::from_str(&ended.out).expect("one JSON object on stdout");
    assert_eq!(told["outcome"], "rejected");
    assert_eq!(told["exit_code"], 1);
    assert_eq!(told["id"], id);
    assert_eq!(told["receipt"], Value::Null);
    assert!(
        !it.appliance.dir().join("no.receipt.json").exists(),
        "no approval, no receipt"
    );

    let expired = it.gate(&["--ttl", "1"]).end().await;
    assert_eq!(expired.code, 3, "{expired:?}");

    let gate = it.gate(&[]);
    let id = text(&it.waiting().await, "id");
    it.ada
        .post(&format!("/api/v1/approvals/{id}/cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(gate.end().await.code, 4);

    for how in ["TERM", "INT"] {
        let gate = it.gate(&[]);
        let id = text(&it.waiting().await, "id");
        signal(gate.pid(), how);
        let ended = gate.end().await;
        assert_eq!(ended.code, 4, "{how}: {ended:?}");
        assert_eq!(
            it.ci.request(&id).await["status"],
            "cancelled",
            "{how} takes the request back"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_can_not_work_ask_nobody() {
    let it = Scene::new().await;
    let dir = it.appliance.dir().to_owned();
    let pem = it.pem.to_str().expect("UTF-8").to_owned();
    let run = |arguments: Vec<String>, environment: Vec<(String, String)>| {
        let dir = dir.clone();
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Gate::start(&dir, &arguments, &environment).end().await
        }
    };
    let own = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let base = ["--action", ACTION, "--patience", "1", "--trusted-key", &pem];
    let with = |more: &[&str]| own(&[&base[..], more].concat());
    let without = |name: &str| {
        it.environment()
            .into_iter()
            .filter(|(it, _)| it != name)
            .collect::<Vec<_>>()
    };

    let no_key = run(own(&["--action", ACTION]), it.environment()).await;
    assert!(
        no_key.code == 2 && no_key.err.contains("no key to trust"),
        "{no_key:?}"
    );
    for (arguments, environment) in [
        (with(&["--commit", "0123abc"]), it.environment()),
        (with(&["--ttl", "0"]), it.environment()),
        (with(&["--ttl", "86401"]), it.environment()),
        (with(&["--receipt", "/nowhere/at/all"]), it.environment()),
        (with(&["--server", "http://approvals.example"]), it.environment()),
        (with(&["--server", "ftp://approvals.example"]), it.environment()),
        (with(&["--log-key", "nothing"]), it.environment()),
        (with(&["--trusted-key", "/nowhere.pem"]), it.environment()),
        (with(&["--unknown"]), it.environment()),
        (with(&[]), without("SIGNEDAPPROVAL_API_KEY")),
        (with(&[]), without("SIGNEDAPPROVAL_URL")),
    ] {
        let ended = run(arguments.clone(), environment).await;
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
    }
    let nobody = with(&["--server", &format!("http://127.0.0.1:{}", free_port())]);
    let ended = run(nobody, it.environment()).await;
    assert_eq!(ended.code, 6, "{ended:?}");
    let foreign = gitlab(
        &it.appliance.base(),
        "sa_0000000000000000000000000000000000000000000",
    );
    let ended = run(with(&[]), foreign).await;
    assert_eq!(ended.code, 5, "{ended:?}");
    let bound = it
        .ada
        .create_api_key("Other", &["request"], &["pay/other"])
        .await
        .key;
    let ended = run(with(&[]), gitlab(&it.appliance.base(), &bound)).await;
    assert!(ended.code == 5 && ended.err.contains("--project"), "{ended:?}");
    assert!(
        it.ada.journal("request.opened").await.is_empty(),
        "nobody was asked"
    );

    // The key as text in the environment, as CI variables hold it: with its line breaks, and without them.
    let text = std::fs::read_to_string(&it.pem).expect("the key");
    let mut asked = Vec::new();
    for form in [text.clone(), text.replace('\n', " ")] {
        let mut environment = it.environment();
        environment.push(("SIGNEDAPPROVAL_TRUSTED_KEY".into(), form));
        asked.push(
            run(own(&["--action", ACTION, "--ttl", "1"]), environment)
                .await
                .code,
        );
    }
    assert_eq!(asked, [3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_by_a_rule_opens_the_gate_and_is_not_called_an_approval() {
    let it = Scene::new().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [{"name": "Sandbox", "match": {"environment": "sandbox*"}, "action": "skip"}]}),
        )
        .await;
    let ended = it
        .gate(&["--environment", "sandbox-1", "--receipt", "skip.receipt.json"])
        .end()
        .await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.out.contains("not an approval") && ended.out.contains("was skipped by rule Sandbox"),
        "{ended:?}"
    );
    let (code, out) = it
        .verify(&["skip.receipt.json", "--environment", "sandbox-1", "--commit", SHA])
        .await;
    assert_eq!(code, 0, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_outlives_a_restart_of_the_server() {
    let mut it = Scene::new().await;
    let gate = it.gate(&[]);
    let id = text(&it.waiting().await, "id");
    it.appliance.kill9();
    it.appliance.restart().await;
    it.bea.approve(&id).await;
    let ended = gate.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(it.ada.journal("request.opened").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_use_with_the_same_idempotency_key_is_one_use() {
    let it = Scene::new().await;
    let id = it.ci.open_request(&json!({"action": "a"})).await;
    it.bea.approve(&id).await;
    let consume = |key: &'static str| {
        let (ci, path) = (it.ci.clone(), format!("/api/v1/approvals/{id}/consume"));
        async move {
            ci.send_json("POST", &path, &[("idempotency-key", key)], &json!({}))
                .await
                .status
        }
    };
    assert_eq!(consume("run-1").await, 200);
    assert_eq!(consume("run-1").await, 200, "the answer may have got lost");
    assert_eq!(consume("run-2").await, 409);
    assert_eq!(it.ada.journal("request.consumed").await.len(), 1);
}

// ---- servers that lie ----

/// What a lying server answers to a method and path; `None`: what the true one says.
type Lie = Box<dyn Fn(&str, &str, &str) -> Option<(u16, String)> + Send + Sync>;

/// A server between the gate and the appliance.
async fn liar(truth: String, lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let lie = std::sync::Arc::new(lie);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (lie, truth) = (lie.clone(), truth.clone());
            tokio::spawn(async move {
                let mut asked = Vec::new();
                let mut piece = [0; 4096];
                loop {
                    let read = stream.read(&mut piece).await.unwrap_or(0);
                    asked.extend_from_slice(&piece[..read]);
                    let text = String::from_utf8_lossy(&asked).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        if read == 0 {
                            return;
                        }
                        continue;
                    };
                    let header = |name: &str| {
                        head.lines()
                            .filter_map(|it| it.split_once(": "))
                            .find(|(it, _)| it.eq_ignore_ascii_case(name))
                            .map(|(_, value)| value.to_owned())
                    };
                    let length: usize = header("content-length")
                        .and_then(|it| it.parse().ok())
                        .unwrap_or(0);
                    if body.len() < length {
                        continue;
                    }
                    let mut words = head.split(' ');
                    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                    let (status, answer) = match lie(method, path, body) {
                        Some((status, answer)) => (status, answer.into_bytes()),
                        None => {
                            let client = crate::support::appliance::http_client(None);
                            let method = method.parse().expect("a method");
                            let mut request = client.request(method, format!("{truth}{path}"));
                            for name in ["authorization", "content-type", "idempotency-key"] {
                                if let Some(value) = header(name) {
                                    request = request.header(name, value);
                                }
                            }
                            let answer = request
                                .body(body.to_owned())
                                .send()
                                .await
                                .expect("the truth answers");
                            (
                                answer.status().as_u16(),
                                answer.bytes().await.expect("whole").to_vec(),
                            )
                        }
                    };
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        answer.len()
                    );
                    let _ = stream.write_all(&[head.as_bytes(), &answer].concat()).await;
                    return;
                }
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_can_not_open_the_gate() {
    let it = Scene::new().await;
    // Two appliances: the pinned one, with a genuine approval of the same action, commit, environment and project; and
    // one of the attacker's own, who approves whatever they like.
    let genuine = json!({
        "action": ACTION, "environment": "production", "project": "pay/api",
        "subject": {"digest": {"gitCommit": SHA}},
        "metadata": {"commit": SHA, "nonce": "00000000000000000000000000000000"},
    });
    let old = it.ci.open_request(&genuine).await;
    it.bea.approve(&old).await;
    let foreign = Scene::new().await;
    let base = it.appliance.base();
    let id = old.clone();
    let opened = move || {
        Some((
            201,
            json!({"id": id, "status": "approved", "expires_at": null, "url": "http://x/"}).to_string(),
        ))
    };
    let replay = opened.clone();
    let liars: Vec<(&str, String, String)> = vec![
        (
            "an older approval of the same thing",
            base.clone(),
            liar(
                base.clone(),
                Box::new(move |method, path, _| {
                    (method == "POST" && path.ends_with("/request")).then(|| replay().expect("an answer"))
                }),
            )
            .await,
        ),
        (
            "only the word",
            base.clone(),
            liar(
                base.clone(),
                Box::new(move |method, path, _| match (method, path) {
                    ("POST", _) => opened(),
                    (_, path) if path.ends_with("/outcome") => Some((200, "{}".into())),
                    _ => None,
                }),
            )
            .await,
        ),
        (
            "approved, and nothing else",
            base.clone(),
            liar(
                base.clone(),
                Box::new(|method, path, _| match method {
                    "GET" if path.contains("/outcome") => Some((404, "{}".into())),
                    "GET" => Some((200, r#"{"status":"approved"}"#.into())),
                    _ => None,
                }),
            )
            .await,
        ),
        (
            "every request is called approved",
            base.clone(),
            liar(
                base.clone(),
                Box::new(|_, _, _| {
                    Some((
                        200,
                        r#"{"id":"apr_00000000000000000000000000000000","status":"approved","url":"x"}"#
                            .into(),
                    ))
                }),
            )
            .await,
        ),
        (
            "a web page",
            base.clone(),
            liar(base.clone(), Box::new(|_, _, _| Some((200, "<html>".into())))).await,
        ),
        (
            "a status of its own",
            base.clone(),
            liar(
                base,
                Box::new(|method, _, _| (method == "GET").then(|| (200, r#"{"status":"approved "}"#.into()))),
            )
            .await,
        ),
    ];
    for (what, _, server) in liars {
        let ended = Gate::start(
            it.appliance.dir(),
            &[
                "--action",
                ACTION,
                "--patience",
                "1",
                "--trusted-key",
                it.pem.to_str().expect("UTF-8"),
                "--receipt",
                "lie.receipt.json",
            ],
            &gitlab(&server, &it.key),
        )
        .end()
        .await;
        assert!(matches!(ended.code, 6 | 7), "{what}: {ended:?}");
        assert!(!it.appliance.dir().join("lie.receipt.json").exists(), "{what}");
    }
    // The attacker's own appliance, whose people really approve: signed, whole, and by a key that nobody pinned.
    let gate = Gate::start(
        it.appliance.dir(),
        &[
            "--action",
            ACTION,
            "--trusted-key",
            it.pem.to_str().expect("UTF-8"),
        ],
        &foreign.environment(),
    );
    let id = text(&foreign.waiting().await, "id");
    foreign.bea.approve(&id).await;
    let ended = gate.end().await;
    assert!(ended.code == 7 && ended.err.contains("not trusted"), "{ended:?}");
    // What was replayed is still there for whoever asked for it.
    it.ci
        .post(&format!("/api/v1/approvals/{old}/consume"), &json!({}))
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_somebody_else_used_does_not_open_the_gate() {
    let it = Scene::new().await;
    // Another holder of the key is quicker: it waits for the same request and uses it before the gate does.
    let slow = liar(
        it.appliance.base(),
        Box::new(|method, path, _| {
            (method == "POST" && path.ends_with("/consume")).then(|| (409, "{}".into()))
        }),
    )
    .await;
    let gate = Gate::start(
        it.appliance.dir(),
        &[
            "--action",
            ACTION,
            "--trusted-key",
            it.pem.to_str().expect("UTF-8"),
        ],
        &gitlab(&slow, &it.key),
    );
    let id = text(&it.waiting().await, "id");
    it.bea.approve(&id).await;
    let ended = gate.end().await;
    assert!(ended.code == 7 && ended.err.contains("used before"), "{ended:?}");
}
