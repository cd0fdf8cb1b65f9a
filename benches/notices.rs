//! Measures how long it takes from a merge request's webhook to the push that tells its approver: the real binary, a fake
//! GitLab that sends the webhooks, and a push service over TLS. It judges nothing but that every push came and was correct.

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the support offers more than the measurements use"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::gated::Gated;
use crate::support::push::PushService;
use crate::support::push::Subscriber;

const USAGE: &str = "\
Measures webhook to push: cargo bench --bench notices -- [--rate N] [--seconds N]

SIGNEDAPPROVAL_TEST_BINARY names another binary than cargo's own.
";
/// How long after the last webhook a push may come.
const LAST: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let (mut rate, mut seconds) = (50_u32, 20_u32);
    let mut arguments = std::env::args().skip(1);
    while let Some(it) = arguments.next() {
        let mut number = || arguments.next().and_then(|it| it.parse().ok());
        match it.as_str() {
            "--bench" => {}
            "--rate" => rate = number().unwrap_or(rate),
            "--seconds" => seconds = number().unwrap_or(seconds),
            _ => {
                eprint!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(rate, seconds))
}

async fn measure(rate: u32, seconds: u32) -> ExitCode {
    let service = PushService::start().await;
    let it = Gated::start().await;
    // The caps are for people; here each merge request is to be told by itself.
    let settings = json!({
        "push_hosts": ["localhost"], "ca_pem": service.ca_pem, "contact": "mailto:ops@example.com",
        "per_ten_minutes": 100_000, "per_hour": 100_000, "per_requester": 100_000, "remind_after": null,
    });
    it.ada
        .put("/api/v1/settings/notifications", &settings)
        .await
        .expect(200);
    let browser = Subscriber::new(&service.endpoint("phone"));
    let body = json!({"platform": "webpush", "subscription": browser.json});
    it.bea.post("/api/v1/me/devices", &body).await.expect(200);

    let count = rate * seconds;
    let started = Instant::now();
    let mut opened: HashMap<String, Instant> = HashMap::new();
    let mut late = Duration::ZERO;
    for n in 0..count {
        let due = started + Duration::from_secs(1) * n / rate;
        tokio::time::sleep_until(due.into()).await;
        late = late.max(due.elapsed());
        let title = format!("Measured {n:05}");
        let commit = Gated::commit_of_carl(&format!("src/file-{n}.rs"));
        let (branch, at) = (format!("topic-{n}"), Instant::now());
        // Making it sends the webhook.
        tokio::task::block_in_place(|| it.open_with(&branch, "main", &title, &commit));
        opened.insert(title, at);
    }
    let sent_for = started.elapsed();
    let ended = Instant::now();
    while service.taken().len() < count as usize && ended.elapsed() < LAST {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut took: Vec<Duration> = Vec::new();
    for pushed in service.taken() {
        let told = browser.read(&pushed.body)["notification"]["body"].to_string();
        let title = opened.keys().find(|it| told.contains(it.as_str())).cloned();
        if let Some(at) = title.and_then(|it| opened.remove(&it)) {
            took.push(pushed.at.duration_since(at));
        }
    }
    took.sort_unstable();
    service.assert_correct();
    let at = |quantile: f64| {
        let idx = ((took.len() as f64 - 1.0) * quantile).round();
        took.get(idx as usize)
            .map_or(f64::NAN, |it| it.as_secs_f64() * 1000.0)
    };
    println!(
        "webhook to push, {rate} a second for {seconds} s: {} of {count} pushes",
        took.len()
    );
    println!("| p50 | p90 | p99 | max |");
    println!("|---|---|---|---|");
    println!(
        "| {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms |",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    println!(
        "the webhooks took {:.1} s to send, at most {:.0} ms late",
        sent_for.as_secs_f64(),
        late.as_secs_f64() * 1000.0
    );
    match took.len() == count as usize {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("{} pushes did not come", opened.len());
            ExitCode::FAILURE
        }
    }
}
