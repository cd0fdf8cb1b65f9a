//! Datadog's log intake (Datadog, API reference, "Send logs", v2): 202, at most 1,000 logs and 5 MB a call.

use crate::outbound::{Client, Secret};
use crate::sink::{Record, Sent, gzipped};
use serde_json::json;
use url::Url;

/// An intake.
pub struct Datadog {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) key: Secret,
    pub(super) host: String,
    pub(super) service: String,
    /// Comma-separated.
    pub(super) tags: String,
}

impl Datadog {
    pub(super) async fn send(&self, records: &[Record]) -> Sent {
        let logs: Vec<_> = records
            .iter()
            .map(|it| {
                json!({
                    "ddsource": "signedapproval",
                    "ddtags": self.tags,
                    "hostname": self.host,
                    "service": self.service,
                    "timestamp": it.time.0,
                    "status": if it.warning { "warn" } else { "info" },
                    // A message that is JSON is read into attributes; as text it keeps the journal's bytes.
                    "message": String::from_utf8_lossy(&it.json),
                })
            })
            .collect();
        let body = serde_json::to_vec(&logs).expect("texts and numbers are JSON");
        let call = match gzipped(&self.url, "application/json", &body) {
            Ok(call) => call.secret_header("dd-api-key", self.key.clone()),
            Err(error) => return Sent::failed(error),
        };
        match self.client.send(call).await {
            Ok(reply) => Sent::by_status(reply.status, reply.told_wait()),
            Err(error) => Sent::failed(error),
        }
    }
}
