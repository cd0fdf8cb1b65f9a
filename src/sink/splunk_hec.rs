//! Splunk's HTTP Event Collector (Splunk, "Format events for HTTP Event Collector" and "Enable indexer acknowledgement").

use crate::outbound::{Call, Client, Error, Method, Secret};
use crate::sink::{Record, Sent, gzipped};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

/// How often, and how many times, the collector is asked whether an acknowledged batch is indexed. Splunk says every ten
/// seconds; what is indexed sooner need not wait so long.
const ACK_EVERY: Duration = Duration::from_secs(1);
const ACK_TRIES: u32 = 60;

/// A collector.
pub struct SplunkHec {
    pub(super) client: Client,
    pub(super) event: Url,
    pub(super) ack: Url,
    /// `Splunk <token>`.
    pub(super) authorization: Secret,
    pub(super) token: Secret,
    pub(super) host: String,
    pub(super) index: Option<String>,
    pub(super) source: String,
    pub(super) sourcetype: String,
    pub(super) channel: String,
}

/// What the collector answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    code: Option<u32>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct Acks {
    acks: BTreeMap<String, bool>,
}

impl SplunkHec {
    pub(super) async fn send(&self, records: &[Record]) -> Sent {
        let call = match gzipped(&self.event, "application/json", &self.body(records)) {
            Ok(call) => self.authorized(call),
            Err(error) => return Sent::failed(error),
        };
        let reply = match self.client.send(call).await {
            Ok(reply) => reply,
            Err(error) => return Sent::failed(error),
        };
        let answer: Answer = serde_json::from_slice(&reply.body).unwrap_or_default();
        match (reply.status, answer.ack_id) {
            (200..=299, Some(id)) => self.indexed(id).await,
            (status, _) => by_code(status, answer.code, reply.told_wait()),
        }
    }

    fn authorized(&self, call: Call) -> Call {
        call.secret_header("authorization", self.authorization.clone())
            .unseen(self.token.clone())
            .header("x-splunk-request-channel", &self.channel)
    }

    /// Objects one after the other, as the collector takes them.
    fn body(&self, records: &[Record]) -> Vec<u8> {
        let mut rest = json!({ "host": self.host, "source": self.source, "sourcetype": self.sourcetype });
        if let Some(index) = &self.index {
            rest["index"] = json!(index);
        }
        let rest = rest.to_string();
        let rest = rest.trim_start_matches('{');
        let mut body = Vec::new();
        for record in records {
            let (seconds, millis) = (record.time.0.div_euclid(1000), record.time.0.rem_euclid(1000));
            body.extend_from_slice(format!(r#"{{"time":{seconds}.{millis:03},"event":"#).as_bytes());
            body.extend_from_slice(&record.json);
            body.push(b',');
            body.extend_from_slice(rest.as_bytes());
            body.push(b'\n');
        }
        body
    }

    /// Waits until the indexer has written what it acknowledged: before that, a crash of Splunk loses it.
    async fn indexed(&self, id: u64) -> Sent {
        for _ in 0..ACK_TRIES {
            let call = Call::new(Method::Post, self.ack.clone()).json(&json!({ "acks": [id] }));
            let asked = self.client.send(self.authorized(call)).await;
            let acks = asked.and_then(|it| match it.status {
                200 => it.json::<Acks>(),
                status => Err(Error::Status {
                    code: status,
                    retry_after: None,
                    excerpt: String::new(),
                }),
            });
            match acks {
                Ok(it) if it.acks.get(&id.to_string()) == Some(&true) => return Sent::Stored,
                Ok(_) => tokio::time::sleep(ACK_EVERY).await,
                Err(error) => return Sent::failed(error),
            }
        }
        Sent::Later {
            after: None,
            reason: "the indexer did not confirm in time".to_owned(),
        }
    }
}

/// The collector's own codes, where it gives one.
fn by_code(status: u16, code: Option<u32>, told_wait: Option<Duration>) -> Sent {
    let blocked = |reason: &str| Sent::Blocked {
        reason: format!("it answered {status}: {reason}"),
    };
    match code {
        Some(1) => blocked("the token is disabled"),
        Some(2 | 3) => blocked("it asks for another authorization"),
        Some(4) => blocked("it does not know the token"),
        Some(7) => blocked("the token may not write to this index"),
        Some(10 | 11) => blocked("it does not accept our channel"),
        Some(5 | 6 | 12 | 13 | 15) if status == 400 => Sent::TooMuch {
            reason: format!("it answered {status}: it does not take the form of an event"),
        },
        Some(8 | 9) => Sent::Later {
            after: told_wait,
            reason: format!("it answered {status}: it is busy"),
        },
        _ => Sent::by_status(status, told_wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collectors_codes_mean_what_splunk_says() {
        let kind = |status, code| match by_code(status, code, None) {
            Sent::Stored => 's',
            Sent::Later { .. } => 'l',
            Sent::TooMuch { .. } => 't',
            Sent::Blocked { .. } => 'b',
        };
        assert_eq!(kind(200, Some(0)), 's');
        for (status, code) in [
            (403, 1),
            (401, 2),
            (401, 3),
            (403, 4),
            (400, 7),
            (400, 10),
            (400, 11),
        ] {
            assert_eq!(kind(status, Some(code)), 'b', "{code}");
        }
        for code in [5, 6, 12, 13, 15] {
            assert_eq!(kind(400, Some(code)), 't', "{code}");
        }
        assert_eq!(
            (kind(503, Some(9)), kind(500, Some(8)), kind(429, None)),
            ('l', 'l', 'l')
        );
        assert_eq!(
            (kind(413, None), kind(404, None), kind(302, None)),
            ('t', 'b', 'b')
        );
    }
}
