//! How fast a long journal is exported and verified, and in how much memory. A campaign, run by
//! `SIGNEDAPPROVAL_AUDIT_FIGURES=1000000` (entries), for the figures in docs/performance.md:
//!
//! SIGNEDAPPROVAL_TEST_BINARY=…/release/signedapproval SIGNEDAPPROVAL_AUDIT_FIGURES=1000000 \
//!   cargo test --test it audit_figures:: -- --nocapture

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::bare_command;
use crate::support::long_journal::fill;
use crate::support::person::Person;

/// Decisions by people, each with its credential and outcome: fewer than a key may ask for in a minute.
const DECISIONS: usize = 1_000;

/// The most that a process has held resident, in MiB.
fn most_resident(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|it| it.starts_with("VmHWM"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// `audit verify` of a bundle: seconds, and the most it held.
fn verified(dir: &Path, bundle: &str) -> (f64, f64) {
    let began = Instant::now();
    let mut child = bare_command(dir)
        .args(["audit", "verify", bundle, "--key", "credential.pem"])
        .args(["--log-key", "log.vkey"])
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut most = 0.0;
    loop {
        if let Some(held) = most_resident(child.id()) {
            most = held;
        }
        if let Some(status) = child.try_wait().expect("it is ours") {
            assert!(status.success(), "{status}");
            return (began.elapsed().as_secs_f64(), most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Verifications a second, by `openssl speed`.
fn openssl(name: &str) -> f64 {
    let output = Command::new("openssl")
        .args(["speed", "-seconds", "3", name])
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    let rate = last.split_whitespace().last().and_then(|it| it.parse().ok());
    rate.unwrap_or_else(|| panic!("{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_journal_is_exported_and_verified() {
    let Some(entries) = std::env::var("SIGNEDAPPROVAL_AUDIT_FIGURES")
        .ok()
        .and_then(|it| it.parse::<usize>().ok())
    else {
        eprintln!("skipped: set SIGNEDAPPROVAL_AUDIT_FIGURES to a number of entries");
        return;
    };
    let options = Options::default().config("limits.changes_per_minute = \"100000\"\n");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let began = Instant::now();
    for n in 0..DECISIONS {
        let request = ci.open_request(&json!({ "action": format!("deploy {n}") })).await;
        bea.approve(&request).await;
    }
    println!(
        "{DECISIONS} requests opened and decided by passkey in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let dir = appliance.dir().to_owned();
    for name in ["credential.pem", "log.vkey"] {
        let path = format!("/.well-known/signedapproval/{name}");
        fs::write(dir.join(name), &appliance.api().get(&path).await.body).expect("written");
    }
    let decided = jiff::Timestamp::now().to_string();
    let export = async |appliance: &Appliance, to: &str, name: &str| {
        let out = dir.join(name).display().to_string();
        let began = Instant::now();
        let (code, said, err) = appliance
            .cli(&[
                "audit",
                "export",
                "--from",
                "2000-01-01",
                "--to",
                to,
                "--out",
                &out,
            ])
            .await;
        assert_eq!(code, 0, "{said}{err}");
        began.elapsed().as_secs_f64()
    };
    export(&appliance, &decided, "decisions.zip").await;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let (seconds, held) = verified(&dir, "decisions.zip");
        rates.push(DECISIONS as f64 / seconds);
        println!(
            "audit verify of {DECISIONS} credentials and outcomes: {:.0} credentials/s, at most {held:.1} MiB",
            DECISIONS as f64 / seconds
        );
    }
    rates.sort_by(f64::total_cmp);
    let (ed25519, p256) = (openssl("ed25519"), openssl("ecdsap256"));
    let both = 1.0 / (1.0 / ed25519 + 1.0 / p256);
    println!(
        "openssl speed: Ed25519 {ed25519:.0}/s, P-256 {p256:.0}/s, one of each {both:.0}/s; ours is {:.2} of that (median of 3)",
        rates[1] / both
    );

    let public_url = appliance.public_url();
    appliance.stop().await;
    fill(appliance.data_dir(), &public_url, entries);
    appliance.restart().await;
    // The first start reads what the followers have not read yet, and keeps that memory: the second is like any other.
    appliance.stop().await;
    appliance.restart().await;
    let before = most_resident(appliance.pid()).expect("it runs");
    let end = jiff::Timestamp::now().to_string();
    let seconds = export(&appliance, &end, "all.zip").await;
    let held = most_resident(appliance.pid()).expect("it runs");
    println!(
        "export of {entries} events: {:.0} events/s ({seconds:.1} s); the appliance held at most {held:.1} MiB, {before:.1} MiB before; {:.0} MB",
        entries as f64 / seconds,
        fs::metadata(dir.join("all.zip")).expect("there").len() as f64 / 1e6
    );
    let (seconds, held) = verified(&dir, "all.zip");
    println!(
        "audit verify of it: {:.0} events/s ({seconds:.1} s), at most {held:.1} MiB",
        entries as f64 / seconds
    );
}
