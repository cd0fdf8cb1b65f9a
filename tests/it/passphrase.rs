//! The passphrase of the keys: changed while the appliance runs, entered on the host, chosen at a first start.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::keys::{Files, current, keys};
use crate::support::appliance::{Appliance, Options, Until, bare_command, free_port, http_client, new_dir};
use crate::support::person::Person;

const OLD: &str = "correct horse battery staple";
const NEW: &str = "quite another passphrase";

/// A subcommand with lines on its standard input: exit code, stdout, stderr.
fn with_input(appliance: &Appliance, arguments: &[&str], lines: &str) -> (i32, String, String) {
    let mut child = bare_command(appliance.dir())
        .args(arguments)
        .arg("--data-dir")
        .arg(appliance.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments reads nothing.
    let _written = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let ended = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        ended.status.code().unwrap_or(-1),
        text(&ended.stdout),
        text(&ended.stderr),
    )
}

/// An appliance behind a TLS proxy, whose passphrase is set.
fn behind_a_proxy(passphrase: &str) -> Options {
    Options {
        public_url: "https://approvals.example".into(),
        until: Until::Alive,
        ..Options::default()
    }
    .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", passphrase)
}

fn set(appliance: &mut Appliance, passphrase: &str) {
    appliance.options.environment = behind_a_proxy(passphrase).environment;
}

fn openssl_opens(path: &Path, passphrase: &str) -> bool {
    let opened = Command::new("openssl")
        .args(["pkey", "-noout", "-in"])
        .arg(path)
        .args(["-passin", &format!("pass:{passphrase}")])
        .stderr(Stdio::null())
        .status();
    opened.unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_passphrase_takes_over_while_the_appliance_runs() {
    let mut appliance = Appliance::start(behind_a_proxy(OLD)).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let files = Files::new();
    let before = current(&appliance, "credential").await;
    let change = ["keys", "change-passphrase"];
    for (lines, reason) in [
        (format!("{NEW}\n{NEW}\n"), "the passphrase until now is another"),
        (format!("{OLD}\nshort\n"), "At least 12 characters"),
        (format!("{OLD}\n"), "no passphrase was given"),
    ] {
        let (code, out, err) = with_input(&appliance, &change, &lines);
        assert!(code != 0 && err.contains(reason), "{code} {out}{err}");
    }
    let folder = appliance.data_dir().join("keys");
    assert!(openssl_opens(&folder.join("log.pem"), OLD));
    let (code, out, err) = with_input(&appliance, &change, &format!("{OLD}\n{NEW}\n"));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("make a new one now"), "{out}");
    for name in ["credential.pem", "log.pem"] {
        assert!(openssl_opens(&folder.join(name), NEW), "{name}");
        assert!(!openssl_opens(&folder.join(name), OLD), "{name}");
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let meta = entry.unwrap().metadata().unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
    for left in ["keys.next", "keys.before"] {
        assert!(!appliance.data_dir().join(left).exists(), "{left}");
    }
    // What is written from now on, too: new data keys, new signing keys.
    keys(&appliance, &["rotate", "--use", "data"]).await;
    keys(&appliance, &["rotate", "--use", "log"]).await;
    assert!(openssl_opens(&folder.join("log.pem"), NEW));
    assert_eq!(ada.journal("passphrase.changed").await.len(), 1);
    assert_eq!(current(&appliance, "credential").await, before);

    appliance.stop().await;
    let failure = appliance
        .try_restart()
        .await
        .expect_err("the old one opens nothing");
    assert_eq!(failure.code, Some(1), "{}", failure.log);
    assert!(
        failure.log.contains("the passphrase does not open"),
        "{}",
        failure.log
    );
    set(&mut appliance, NEW);
    appliance.restart().await;
    let request = ada.post("/api/v1/me/test-request", &json!({})).await;
    assert!(request.status < 300, "{request:?}");
    // Cut short at any moment, the old one still holds or the new one does, and nothing is left lying about.
    let data = appliance.data_dir().to_owned();
    for cut in ["written", "moved", "replaced"] {
        appliance.stop().await;
        let (now, next, old) = (
            data.join("keys"),
            data.join("keys.next"),
            data.join("keys.before"),
        );
        match cut {
            "written" => copy(&now, &next),
            "moved" => {
                copy(&now, &next);
                fs::rename(&now, &old).unwrap();
            }
            _ => copy(&now, &old),
        }
        appliance.restart().await;
        assert!(
            !next.exists() && !old.exists() && now.join("data-key").exists(),
            "{cut}"
        );
    }
    for secret in [OLD, NEW] {
        assert!(!appliance.log().contains(secret));
    }
    drop(files);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_evaluation_there_is_no_passphrase_to_change() {
    let appliance = Appliance::start(Options::default()).await;
    let (code, _, err) = with_input(
        &appliance,
        &["keys", "change-passphrase"],
        &format!("{OLD}\n{NEW}\n"),
    );
    assert!(code != 0 && err.contains("in evaluation"), "{code} {err}");
}

/// With nothing but an address, the first start of all: a certificate of its own, and a passphrase that is chosen now.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_without_certificate_and_passphrase_lets_the_host_choose_one() {
    let dir = new_dir();
    let (port, data) = (free_port(), dir.join("data"));
    let start = || {
        bare_command(&dir)
            .args(["serve", "--data-dir", "data"])
            .args(["--listen", &format!("0.0.0.0:{port}")])
            .args(["--public-url", &format!("https://localhost:{port}")])
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.join("out")).unwrap())
            .stderr(fs::File::create(dir.join("err")).unwrap())
            .spawn()
            .unwrap()
    };
    let said = |what: &'static str, path: PathBuf| async move {
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(&path).unwrap();
            if text.contains(what) {
                return text;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{what}: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let unseal = |lines: &str| {
        let mut child = bare_command(&dir)
            .args(["keys", "unseal", "--data-dir", "data"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        (
            ended.status.code(),
            String::from_utf8_lossy(&ended.stderr).into_owned(),
        )
    };
    let mut child = start();
    let first = said("compare its SHA-256", dir.join("out")).await;
    assert!(
        first.contains("This is the first start")
            && first.contains("keys unseal")
            && first.contains("unseal-url"),
        "{first}"
    );
    let link = fs::read_to_string(data.join("unseal-url")).unwrap();
    assert!(!first.contains(link.split_once('#').unwrap().1), "not in a log");
    // The page is there, under the certificate whose digest was said.
    let pem = fs::read_to_string(data.join("tls/self-signed.pem")).unwrap();
    let page = http_client(Some(&pem))
        .get(format!("https://localhost:{port}/unseal"))
        .send()
        .await
        .unwrap();
    assert!(page.text().await.unwrap().contains("Choose the passphrase"));
    // Somebody who starts it a second time does not take the socket away.
    let second = bare_command(&dir)
        .args(["serve", "--data-dir", "data", "--listen", "0.0.0.0:0"])
        .args(["--public-url", "https://localhost"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process serves"));

    let (code, err) = unseal("short\n");
    assert!(code == Some(2) && err.contains("At least 12"), "{code:?} {err}");
    let (code, err) = unseal(&format!("{OLD}\n"));
    assert_eq!(code, Some(0), "{err}");
    said("Set it up", dir.join("out")).await;
    assert!(!data.join("unseal-url").exists());
    assert!(openssl_opens(&data.join("keys/log.pem"), OLD));
    assert_eq!(
        fs::read_to_string(data.join("tls/self-signed.pem")).unwrap(),
        pem,
        "the same one"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    // From now on each start waits for it.
    let mut child = start();
    said("Sealed", dir.join("out")).await;
    said("compare its SHA-256", dir.join("out")).await;
    let (code, err) = unseal("something else entirely\n");
    assert!(code == Some(2) && err.contains("does not open"), "{code:?} {err}");
    let (code, err) = unseal(&format!("{OLD}\n"));
    assert_eq!(code, Some(0), "{err}");
    said("Set it up", dir.join("out")).await;
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(&dir).unwrap();
}
