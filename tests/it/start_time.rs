//! How long a start takes with a long journal. A campaign, run by `SIGNEDAPPROVAL_LONG_JOURNAL=1000000` (entries), for the
//! figures in docs/performance.md:
//!
//! SIGNEDAPPROVAL_TEST_BINARY=…/release/signedapproval SIGNEDAPPROVAL_LONG_JOURNAL=1000000 \
//!   cargo test --test it start_time:: -- --nocapture

use crate::support::appliance::{Appliance, Options, bare_command, free_port};
use crate::support::authority::exchange;
use crate::support::long_journal::fill;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const STARTS: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_long_journal() {
    let Some(entries) = std::env::var("SIGNEDAPPROVAL_LONG_JOURNAL")
        .ok()
        .and_then(|it| it.parse::<usize>().ok())
    else {
        eprintln!("skipped: set SIGNEDAPPROVAL_LONG_JOURNAL to a number of entries");
        return;
    };
    let mut appliance = Appliance::start(Options::default()).await;
    let public_url = appliance.public_url();
    appliance.stop().await;
    let data = appliance.data_dir().to_owned();
    fill(&data, &public_url, entries);
    let bytes = fs::metadata(data.join("journal.redb")).unwrap().len();
    println!("{entries} entries, {} MiB", bytes / 1024 / 1024);
    // The first start has the followers read what nobody has read yet; it is told by itself.
    for (ended_by, starts) in [("TERM", 1), ("TERM", STARTS), ("KILL", STARTS)] {
        let mut times = Vec::new();
        let mut resident = String::new();
        for _ in 0..starts {
            let (took, memory) = start(&appliance, &public_url, ended_by).await;
            times.push(took);
            resident = memory;
        }
        times.sort();
        println!(
            "process to /readyz 200, ended by SIG{ended_by}: median {:?} of {starts} ({:?} to {:?}); {resident}",
            times[starts / 2],
            times[0],
            times[starts - 1]
        );
    }
}

/// Starts it, waits until it is ready, and ends it: how long that took, and its resident memory.
async fn start(appliance: &Appliance, public_url: &str, ended_by: &str) -> (Duration, String) {
    let port = free_port();
    let begun = Instant::now();
    let mut child = bare_command(appliance.dir())
        .args(["serve", "--data-dir"])
        .arg(appliance.data_dir())
        .args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--public-url",
            public_url,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not start");
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
            let request = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            if exchange(&mut stream, request, Duration::from_secs(60))
                .await
                .starts_with("HTTP/1.1 200")
            {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let resident = status
        .lines()
        .find(|it| it.starts_with("VmRSS"))
        .unwrap_or_default()
        .to_owned();
    // Long enough for something to be written: a kill in the midst of work is what counts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    crate::support::appliance::signal(child.id(), ended_by);
    child.wait().unwrap();
    (took, resident)
}
