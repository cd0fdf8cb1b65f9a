//! What a monitor sees of an appliance: its metrics listener, scraped.

use std::time::{Duration, Instant};

use crate::support::appliance::{Appliance, Options, free_port, http_client};
use crate::support::person::Person;

/// How long something may take to show.
const SOON: Duration = Duration::from_secs(30);

/// Scrapes one metrics listener.
pub struct Monitor {
    port: u16,
    client: reqwest::Client,
}

impl Monitor {
    /// A monitor, and the options of an appliance that it can scrape.
    pub fn of(options: Options) -> (Monitor, Options) {
        let port = free_port();
        let monitor = Monitor {
            port,
            client: http_client(None),
        };
        let options = options.env("SIGNEDAPPROVAL_METRICS__LISTEN", &format!("127.0.0.1:{port}"));
        (monitor, options)
    }

    /// What it is told; nothing while nobody answers.
    pub async fn scrape(&self) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        match self.client.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Waits until a condition lasts, with this severity.
    pub async fn sees(&self, condition: &str, severity: &str) {
        let line =
            format!("signedapproval_condition{{condition=\"{condition}\",severity=\"{severity}\"}} 1\n");
        let ready = format!("signedapproval_ready {}\n", u8::from(severity == "warning"));
        self.until(|text| text.contains(&line) && text.contains(&ready))
            .await;
    }

    /// Waits until a condition is over.
    pub async fn no_longer_sees(&self, condition: &str) {
        let part = format!("condition=\"{condition}\"");
        self.until(|text| text.contains("signedapproval_ready 1\n") && !text.contains(&part))
            .await;
    }

    async fn until(&self, is: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let text = self.scrape().await;
            if is(&text) {
                return;
            }
            assert!(started.elapsed() < SOON, "not within {SOON:?}:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until the journal tells how often a condition began and ended.
pub async fn journal_tells(reader: &Person, condition: &str, began: usize, ended: usize) {
    let started = Instant::now();
    loop {
        let mut counts = Vec::new();
        for kind in ["condition.began", "condition.ended"] {
            let all = reader.journal(kind).await;
            counts.push(
                all.iter()
                    .filter(|it| it["data"]["condition"] == condition)
                    .count(),
            );
        }
        if counts == [began, ended] {
            return;
        }
        assert!(started.elapsed() < SOON, "{condition}: {counts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a page for administrators says something.
pub async fn page_says(reader: &Person, path: &str, words: &str) {
    let started = Instant::now();
    loop {
        let page = reader.get(path).await.text();
        if page.contains(words) {
            return;
        }
        assert!(started.elapsed() < SOON, "{path} does not say {words:?}: {page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The condition is over for everybody: monitor and journal.
pub async fn is_over(appliance: &Appliance, monitor: &Monitor, reader: &Person, condition: &str) {
    monitor.no_longer_sees(condition).await;
    assert_eq!(appliance.api().get("/readyz").await.status, 200);
    journal_tells(reader, condition, 1, 1).await;
}
