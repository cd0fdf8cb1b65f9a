//! How long every page takes at the server, with many requests and a long journal. A campaign, run by
//! `SIGNEDAPPROVAL_PAGE_TIMES=100000,1000000` (requests, entries), for the figures in docs/performance.md:
//!
//! SIGNEDAPPROVAL_TEST_BINARY=…/release/signedapproval SIGNEDAPPROVAL_PAGE_TIMES=100000,1000000 \
//!   cargo test --test it page_times:: -- --nocapture

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::http_client;
use crate::support::long_journal::fill;
use crate::support::person::Person;
use crate::support::person::text;

/// Callers at once while requests are made.
const AT_ONCE: usize = 16;
/// Looks at each page; the first is not counted.
const LOOKS: usize = 41;
/// Requests that are left waiting.
const WAITING: usize = 200;

const PAGES: [&str; 50] = [
    "/dashboard",
    "/dashboard/requests",
    "/dashboard/requests?status=cancelled",
    "/dashboard/requests?status=pending",
    "/dashboard/requests?q=deploy",
    "/dashboard/requests?q=deploy+77777",
    "/dashboard/requests?q=1",
    "/dashboard/requests?q=nothing+of+this",
    "/dashboard/requests?q=deploy&status=rejected",
    "/dashboard/requests?environment=place-3&status=cancelled&kind=deployment",
    "/dashboard/requests?since=2020-01-01&until=2020-12-31",
    "/api/v1/approvals?q=deploy+7&status=cancelled&limit=50",
    "/dashboard/settings/diagnostics",
    "/dashboard/policies",
    "/dashboard/new-policy?name=new",
    "/dashboard/exceptions",
    "/dashboard/proposals",
    "/dashboard/integrations",
    "/dashboard/integrations/gitlab",
    "/dashboard/people",
    "/dashboard/groups",
    "/dashboard/api-keys",
    "/dashboard/audit",
    "/dashboard/audit?kind=request.",
    "/dashboard/audit?kind=policy.",
    "/dashboard/audit?kind=exception.",
    "/dashboard/audit?since=2020-01-01&until=2020-12-31",
    "/dashboard/audit/report",
    "/dashboard/settings/retention",
    "/dashboard/settings/log-sinks",
    "/dashboard/settings/notifications",
    "/dashboard/settings",
    "/dashboard/settings/general",
    "/dashboard/settings/tls",
    "/dashboard/settings/signing-keys",
    "/dashboard/settings/backup",
    "/dashboard/settings/security",
    "/dashboard/settings/about",
    "/dashboard/set-up/public-url",
    "/dashboard/set-up/forge",
    "/dashboard/set-up/approver",
    "/a/",
    "/a/history",
    "/a/phone",
    "/a/passkeys",
    "/a/accounts",
    "/verify",
    "/help",
    "/help/api",
    "/login",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_page_with_many_requests_and_a_long_journal() {
    let wanted = std::env::var("SIGNEDAPPROVAL_PAGE_TIMES").ok();
    let wanted = wanted.as_deref().and_then(|it| it.split_once(','));
    let Some((requests, entries)) = wanted.and_then(|(a, b)| {
        let number = |it: &str| it.trim().parse::<usize>().ok();
        Some((number(a)?, number(b)?))
    }) else {
        eprintln!("skipped: set SIGNEDAPPROVAL_PAGE_TIMES to requests,entries");
        return;
    };
    let options = Options::default().config("limits.changes_per_minute = \"0\"\nlog.level = \"warn\"\n");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let began = Instant::now();
    let made = Arc::new(AtomicUsize::new(0));
    let callers = (0..AT_ONCE).map(|_| {
        let (ci, made) = (ci.clone(), made.clone());
        tokio::spawn(async move {
            loop {
                let n = made.fetch_add(1, Ordering::Relaxed);
                if n >= requests {
                    return;
                }
                let body = json!({"action": format!("deploy {n}"), "environment": format!("place-{}", n % 20),
                    "metadata": {"actor": "somebody", "commit": "0123456789abcdef"}});
                let opened = ci.post("/api/v1/approvals/request", &body).await.expect(201);
                if n + WAITING < requests {
                    let path = format!("/api/v1/approvals/{}/cancel", text(&opened, "id"));
                    ci.post(&path, &json!({})).await.expect(200);
                }
            }
        })
    });
    for it in callers.collect::<Vec<_>>() {
        it.await.expect("a caller");
    }
    println!(
        "{requests} requests made in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let public_url = appliance.public_url();
    appliance.stop().await;
    fill(appliance.data_dir(), &public_url, entries);
    for _ in 0..2 {
        // The first start reads what nobody has read yet.
        appliance.restart().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        appliance.stop().await;
    }
    appliance.restart().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let newest = ci.get("/api/v1/approvals?limit=1").await.expect(200);
    let newest = text(&newest["items"][0], "id").to_owned();
    let further = [
        format!("/a/{newest}"),
        format!("/dashboard/audit?request={newest}"),
        format!("/dashboard/audit?person={}", ada.id()),
    ];
    let cookie = ada.session_cookie().expect("signed in");
    let client = http_client(None);
    let mut slow = 0;
    println!("| page | median | p95 | most | bytes |\n|---|---:|---:|---:|---:|");
    let began = Instant::now();
    let report = format!("{}/dashboard/audit/report", appliance.base());
    loop {
        let answer = client.get(&report).header("cookie", &cookie).send().await;
        let page = answer.expect("an answer").text().await.expect("a page");
        if !page.contains("data-making") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "the report of all of it was made in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let pages = || PAGES.iter().copied().chain(further.iter().map(String::as_str));
    for page in pages() {
        let url = format!("{}{page}", appliance.base());
        let (mut times, mut bytes) = (Vec::new(), 0);
        for look in 0..LOOKS {
            let began = Instant::now();
            let answer = client
                .get(&url)
                .header("cookie", &cookie)
                .send()
                .await
                .expect("an answer");
            let code = answer.status().as_u16();
            bytes = answer.bytes().await.expect("a body").len();
            assert!(matches!(code, 200 | 303 | 302), "{page}: {code}");
            if look > 0 {
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
        }
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        slow += usize::from(at(50) >= 20.0);
        println!(
            "| `{page}` | {:.1} ms | {:.1} ms | {:.1} ms | {bytes} |",
            at(50),
            at(95),
            at(100)
        );
    }
    println!(
        "{slow} of {} pages take 20 ms or more at the median",
        pages().count()
    );
}
