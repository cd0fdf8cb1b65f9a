//! Syslog: RFC 5424 messages with octet counting, over TCP (RFC 6587, section 3.4.1) or TLS (RFC 5425).
//!
//! The protocol has no acknowledgement. So a batch is a connection of its own, which ends with the batch; the receiver's own
//! end of it says that its program has read everything (`outbound::Stream::finish`).

use crate::outbound::{Nearby, Stream};
use crate::sink::{About, Record, Sent};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Time for sending one batch, and again for its end.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest MSGID and HOSTNAME (RFC 5424, section 6).
const MSGID_MAX: usize = 32;
const HOSTNAME_MAX: usize = 255;
/// Severities (RFC 5424, table 2).
const WARNING: u32 = 4;
const INFORMATIONAL: u32 = 6;
/// Numbers of messages go up to here, then begin again at 1 (RFC 5424, section 7.3.1).
const SEQUENCE_MAX: u64 = 2_147_483_647;

/// A syslog server.
pub struct Syslog {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) nearby: Arc<Nearby>,
    pub(super) confirm: bool,
    pub(super) message_bytes_max: usize,
    pub(super) facility: u8,
    pub(super) about: About,
    /// The connection between batches, where nothing is confirmed.
    pub(super) kept: Mutex<Option<Stream>>,
}

impl Syslog {
    pub(super) fn confirms(&self) -> bool {
        self.confirm
    }

    pub(super) fn refuses(&self, record: &Record) -> Option<String> {
        let length = self.message(record).len();
        (length > self.message_bytes_max).then(|| {
            format!(
                "its message has {length} bytes, and this sink takes {}",
                self.message_bytes_max
            )
        })
    }

    pub(super) async fn send(&self, records: &[Record]) -> Sent {
        let mut bytes = Vec::new();
        for record in records {
            let message = self.message(record);
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(&message);
        }
        let sent = async {
            let mut kept = self.kept.lock().await;
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => Stream::connect(&self.host, self.port, &self.nearby, self.tls.clone()).await?,
            };
            stream.write(&bytes, LIMIT).await?;
            if self.confirm {
                stream.finish(LIMIT).await
            } else {
                *kept = Some(stream);
                Ok(())
            }
        };
        match sent.await {
            Ok(()) => Sent::Stored,
            Err(error) => Sent::failed(error),
        }
    }

    /// One message. MSG is JSON in UTF-8 without a byte order mark, "MSG-ANY": readers of JSON stumble over the mark.
    fn message(&self, record: &Record) -> Vec<u8> {
        let severity = if record.warning { WARNING } else { INFORMATIONAL };
        let priority = u32::from(self.facility) * 8 + severity;
        let host = visible(&self.about.host, HOSTNAME_MAX);
        let msgid = visible(&record.kind, MSGID_MAX);
        let number = record.seq % SEQUENCE_MAX + 1;
        let mut message = format!(
            "<{priority}>1 {} {host} signedapproval - {msgid} [meta sequenceId=\"{number}\"][origin software=\"SignedApproval\" swVersion=\"{}\"] ",
            record.time, self.about.version
        )
        .into_bytes();
        message.extend_from_slice(&record.json);
        message
    }
}

/// The text's visible ASCII, or the nil value.
fn visible(text: &str, length_max: usize) -> String {
    let kept: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(length_max)
        .collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}
