//! Entries as messages that are signed as Standard Webhooks asks.

use crate::outbound::standard_webhook::{SigningSecret, signed};
use crate::outbound::{Call, Client, Method, Secret};
use crate::sink::record::{About, list};
use crate::sink::{Record, Sent};
use url::Url;

/// Longest answer that is read for a checkpoint, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 16 * 1024;

/// A webhook.
pub struct Webhook {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) signing: SigningSecret,
    /// The whole value of an `Authorization` header, where the receiver asks for one.
    pub(super) authorization: Option<Secret>,
    pub(super) read_back: bool,
    pub(super) about: About,
}

impl Webhook {
    fn call(&self, kind: &str, data: &str, id: &str, unix_seconds: i64) -> Call {
        let instance = &self.about.instance;
        let stamp = jiff::Timestamp::from_second(unix_seconds).unwrap_or_default();
        // The records stand in it as they are: whoever hashes one gets the log's own hash.
        let body =
            format!(r#"{{"type":"{kind}","timestamp":"{stamp}","instance":"{instance}","data":{data}}}"#);
        let call = Call::new(Method::Post, self.url.clone());
        let call = match &self.authorization {
            Some(it) => call.secret_header("authorization", it.clone()),
            None => call,
        };
        signed(
            call,
            id,
            unix_seconds,
            body.into_bytes(),
            std::slice::from_ref(&self.signing),
        )
    }

    pub(super) async fn send(&self, records: &[Record], id: &str, unix_seconds: i64) -> Sent {
        let list = list(records);
        let Ok(records) = std::str::from_utf8(&list) else {
            return Sent::TooMuch {
                reason: "an entry is not text".to_owned(),
            };
        };
        let data = format!(r#"{{"records":{records}}}"#);
        let call = self.call("journal.records", &data, id, unix_seconds);
        match self.client.send(call).await {
            Ok(reply) => Sent::by_status(reply.status, reply.told_wait()),
            Err(error) => Sent::failed(error),
        }
    }

    pub(super) async fn newest_checkpoint(
        &self,
        id: &str,
        unix_seconds: i64,
    ) -> Option<Result<String, String>> {
        #[derive(serde::Deserialize)]
        struct Answer {
            checkpoint: String,
        }
        if !self.read_back {
            return None;
        }
        let call = self
            .call("checkpoint.wanted", "{}", id, unix_seconds)
            .cap(CHECKPOINT_BYTES_MAX);
        Some(match self.client.send(call).await {
            Ok(reply) if reply.status == 200 => serde_json::from_slice::<Answer>(&reply.body)
                .map(|it| it.checkpoint)
                .map_err(|_| "its answer is not {\"checkpoint\": …}".to_owned()),
            Ok(reply) => Err(format!("it answered {}", reply.status)),
            Err(error) => Err(error.to_string()),
        })
    }
}
