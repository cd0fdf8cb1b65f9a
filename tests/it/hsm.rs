//! Keys that the appliance never holds: in a hardware token (SoftHSM) behind the helper, and in OpenSSH's agent.

use std::fs;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use signedapproval::evidence::dsse::Envelope;
use signedapproval::evidence::dsse::pae;
use signedapproval::signing::AgentSigner;
use signedapproval::signing::Signer as _;

use crate::keys::current;
use crate::keys::keys;
use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::monitor::{Monitor, is_over, journal_tells, page_says};
use crate::support::person::Person;
use crate::support::problem::assert_problem;
use crate::support::token::Agent;
use crate::support::token::Token;

const STATEMENT: &str = "application/vnd.in-toto+json";

/// An appliance whose keys are in an agent. Its name has no port, so that the log's origin is known before its start.
fn options(socket: &std::path::Path) -> Options {
    Options {
        public_url: "http://localhost".into(),
        ..Options::default()
    }
    .env("SIGNEDAPPROVAL_KEYS__BACKEND", "agent")
    .env(
        "SIGNEDAPPROVAL_KEYS__AGENT_SOCKET",
        socket.to_str().expect("UTF-8"),
    )
}

async fn action(ci: &Api) -> String {
    ci.open_request(&json!({"action": "deploy"})).await
}

async fn wait_ready(appliance: &Appliance, ready: bool) -> Value {
    let started = Instant::now();
    loop {
        let answer = appliance.api().get("/readyz").await;
        if (answer.status == 200) == ready {
            return answer.json();
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "not {ready}: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every entry is covered by the newest checkpoint.
async fn all_is_covered(appliance: &Appliance, ada: &Person) -> bool {
    let note = appliance
        .api()
        .get("/.well-known/signedapproval/checkpoint")
        .await
        .text();
    let covered: u64 = note.lines().nth(1).expect("a size").parse().expect("a number");
    let after = covered.saturating_sub(1);
    let rest = ada
        .get(&format!("/api/v1/journal?after={after}&limit=10"))
        .await
        .expect(200);
    rest["items"].as_array().expect("entries").is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_signs_and_openssl_verifies_with_the_tokens_own_key() {
    let token = Token::new();
    let made = token.generate();
    assert_eq!(made.lines().count(), 2, "{made}");
    assert_eq!(token.generate(), made, "a second time makes nothing");
    let helper = token.serve("localhost/log/");
    let appliance = Appliance::start(options(&helper.socket)).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let id = bea.approve(&action(&ci).await).await;

    // What openssl makes of it, with the key that OpenSC reads from the token.
    let file = bea.get(&format!("/api/v1/credentials/{id}")).await.body;
    let envelope = Envelope::parse(&file).expect("an envelope");
    let pem = token.public_key("01");
    fs::write(token.dir.join("pae"), pae(STATEMENT, &envelope.payload)).expect("written");
    fs::write(token.dir.join("sig"), envelope.signatures[0].sig).expect("written");
    let verify = |message: &str| {
        Command::new("openssl")
            .args(["pkeyutl", "-verify", "-pubin", "-inkey"])
            .arg(&pem)
            .args(["-rawin", "-in", message, "-sigfile", "sig"])
            .current_dir(&token.dir)
            .output()
            .expect("openssl runs")
    };
    let output = verify("pae");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "Signature Verified Successfully"
    );
    fs::write(token.dir.join("other"), b"another message").expect("written");
    assert!(!verify("other").status.success(), "the check can fail");
    let published = appliance
        .api()
        .get("/.well-known/signedapproval/credential.pem")
        .await
        .text();
    let body = |pem: &str| {
        pem.lines()
            .filter(|it| !it.starts_with("---"))
            .collect::<String>()
    };
    assert_eq!(body(&published), body(&fs::read_to_string(&pem).expect("text")));

    // No private key is here.
    let mut files: Vec<String> = fs::read_dir(appliance.data_dir().join("keys"))
        .expect("the folder")
        .map(|it| it.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, ["data-key", "passphrase"]);
    let (code, out, err) = appliance.cli(&["keys", "show"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.matches("signs (agent)").count(), 2, "{out}");

    // A second key of the token takes over, chosen by its fingerprint.
    token.make_key("credential", "07");
    drop(helper);
    let helper = token.serve("localhost/log/");
    let old = STANDARD.decode(body(&published)).expect("base64");
    let next = helper
        .identities()
        .into_iter()
        .find(|it| it.comment == "credential" && !old.ends_with(&it.public_key))
        .expect("the new key");
    let mut appliance = appliance;
    appliance.options = options(&helper.socket).env("SIGNEDAPPROVAL_KEYS__CREDENTIAL", &next.fingerprint());
    appliance.restart().await;
    bea.sign_in().await;
    let before = current(&appliance, "credential").await;
    bea.approve(&action(&ci).await).await;
    let done = keys(&appliance, &["rotate", "--use", "credential"]).await;
    assert_eq!(done[0]["ended"], before);
    let id = bea.approve(&action(&ci).await).await;
    let file = bea.get(&format!("/api/v1/credentials/{id}")).await.body;
    let envelope = Envelope::parse(&file).expect("an envelope");
    assert_eq!(envelope.signatures[0].keyid, done[0]["activated"]);
    let (code, _, err) = appliance.cli(&["keys", "rotate", "--use", "credential"]).await;
    assert_eq!(code, 2, "there is no further key: {err}");
    assert!(err.contains("is the credential key that signs now"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_token_nothing_is_decided_and_all_else_goes_on() {
    let token = Token::new();
    token.generate();
    let helper = token.serve("localhost/log/");
    let (monitor, options) = Monitor::of(options(&helper.socket));
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let request = action(&ci).await;

    // The token is taken out: refused, visible, nothing approved.
    token.set_present(false);
    let refused = bea.decide(&request, "approve", None).await;
    assert_problem!(refused, 503, "sealed");
    assert_eq!(
        wait_ready(&appliance, false).await["reasons"],
        json!(["signer_down"])
    );
    let (code, _, _) = appliance.cli(&["healthcheck"]).await;
    assert_eq!(code, 1);
    monitor.sees("signer_down", "degraded").await;
    journal_tells(&ada, "signer_down", 1, 0).await;
    page_says(&ada, "/dashboard", "The signing key is away").await;
    // What needs no signature of its own is recorded; its checkpoint follows.
    let second = action(&ci).await;
    for id in [&request, &second] {
        assert_eq!(ci.request(id).await["status"], "pending");
    }
    assert!(!all_is_covered(&appliance, &ada).await, "the check can fail");
    let refused = bea.decide(&second, "approve", None).await;
    assert_problem!(refused, 503, "sealed");

    // It is put back: no restart is needed, and everything is covered again.
    token.set_present(true);
    wait_ready(&appliance, true).await;
    is_over(&appliance, &monitor, &ada, "signer_down").await;
    assert!(all_is_covered(&appliance, &ada).await);
    bea.approve(&request).await;

    // The helper dies and comes again: the session is lost with it.
    drop(helper);
    let refused = bea.decide(&second, "approve", None).await;
    assert_problem!(refused, 503, "sealed");
    wait_ready(&appliance, false).await;
    // A start without its keys is no failure: it serves, and says what it can't do.
    appliance.options.until = crate::support::appliance::Until::Alive;
    appliance.restart().await;
    wait_ready(&appliance, false).await;
    let _helper = token.serve("localhost/log/");
    wait_ready(&appliance, true).await;
    bea.sign_in().await;
    bea.approve(&second).await;
    assert!(all_is_covered(&appliance, &ada).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_helper_signs_nothing_but_statements_and_this_logs_checkpoints() {
    let token = Token::new();
    token.generate();
    let helper = token.serve("sa.example/log/");
    let credential = AgentSigner::new(&helper.socket, helper.identity("credential").public_key);
    let log = AgentSigner::new(&helper.socket, helper.identity("log").public_key);
    let root = format!("{}=", "A".repeat(43));
    let statement = pae(STATEMENT, b"{}");
    let checkpoint = format!("sa.example/log/0123abcd/1\n5\n{root}\n").into_bytes();
    assert!(credential.sign(&statement).is_ok());
    assert!(log.sign(&checkpoint).is_ok());
    for message in [
        b"hello".to_vec(),
        Vec::new(),
        checkpoint.clone(),
        pae("text/plain", b"{}"),
    ] {
        assert!(credential.sign(&message).is_err(), "{message:?}");
    }
    for message in [
        statement,
        format!("other.example/log/0123abcd/1\n5\n{root}\n").into_bytes(),
    ] {
        assert!(log.sign(&message).is_err(), "{message:?}");
    }
    drop(helper);

    // A refused PIN ends it at once, with a code that a service manager does not restart; so it never locks the token.
    let wrong = token.pin("wrong", "000000", 0o600);
    let mut command = token.helper(&wrong);
    command
        .arg("--socket")
        .arg(token.socket())
        .args(["--origin", "sa.example/log/"]);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let open = token.pin("open", "271828", 0o644);
    let output = token.helper(&open).arg("--generate").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("its mode is 0644"));
    let pin = token.dir.join("pin");
    let mut command = token.helper(&pin);
    command
        .arg("--socket")
        .arg(token.socket())
        .args(["--origin", "sa.example"]);
    assert_eq!(
        command.output().expect("it runs").status.code(),
        Some(2),
        "an origin that is no prefix"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_give_way_to_openssh_s_agent_by_a_rotation() {
    let mut appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let agent = Agent::of_openssh(appliance.dir(), &["credential", "log"]);
    let before = current(&appliance, "credential").await;
    let socket = agent.socket.to_str().expect("UTF-8").to_owned();
    appliance.options = Options::default()
        .env("SIGNEDAPPROVAL_KEYS__BACKEND", "agent")
        .env("SIGNEDAPPROVAL_KEYS__AGENT_SOCKET", &socket);
    appliance.restart().await;
    // The setting alone changes nothing: the journal still names the key in the file.
    assert_eq!(current(&appliance, "credential").await, before);
    let folder = appliance.data_dir().join("keys");
    assert!(folder.join("credential.pem").exists());
    keys(&appliance, &["rotate"]).await;
    assert!(!folder.join("credential.pem").exists() && !folder.join("log.pem").exists());
    bea.sign_in().await;
    bea.approve(&action(&ci).await).await;
    // And it starts again with them.
    appliance.restart().await;
    bea.sign_in().await;
    bea.approve(&action(&ci).await).await;
    let keyid = current(&appliance, "credential").await;
    let spki = signedapproval::evidence::dsse::spki_of_ed25519(&agent.identity("credential").public_key);
    assert_eq!(keyid, signedapproval::evidence::dsse::key_id(&spki));
}
