//! Log sinks: where the journal is copied to, entry by entry.

use crate::domain::ids::SinkId;
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Sinks at once: each is a worker of its own that reads the whole journal.
pub const SINKS_MAX: usize = 20;

/// In which form an entry is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    /// The journal's own bytes, as they are hashed into the log.
    #[default]
    Journal,
    /// An event of the Open Cybersecurity Schema Framework, with the journal's bytes in `raw_data`.
    Ocsf,
}

/// How syslog travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogTransport {
    /// RFC 6587, octet counting: for networks one trusts.
    Tcp,
    /// RFC 5425.
    Tls,
}

/// Where entries go. Secrets (keys, tokens) are sealed elsewhere, never here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Destination {
    /// A URL that takes messages signed as Standard Webhooks asks.
    Webhook {
        url: String,
        ca_pem: Option<String>,
        /// At start it is asked for the newest checkpoint it holds.
        read_back: bool,
    },
    /// A Splunk HTTP Event Collector.
    SplunkHec {
        /// Base of the collector, without `/services/collector`.
        url: String,
        ca_pem: Option<String>,
        index: Option<String>,
        source: String,
        sourcetype: String,
        /// Names this sender, where the token asks for indexer acknowledgement.
        channel: String,
    },
    /// Datadog's log intake.
    Datadog {
        /// Base of the intake, such as `https://http-intake.logs.datadoghq.eu`.
        url: String,
        ca_pem: Option<String>,
        service: String,
        tags: Vec<String>,
    },
    /// RFC 5424 over a stream.
    Syslog {
        host: String,
        port: u16,
        transport: SyslogTransport,
        ca_pem: Option<String>,
        /// For a server that asks who we are; its key is sealed.
        client_certificate: Option<String>,
        /// A batch counts as stored once the receiver has read to its end and closed in turn. Without it, once it was sent.
        confirm: bool,
        /// Longest message, in bytes. An entry that would be longer is withheld, and that is told.
        message_bytes_max: u32,
        /// RFC 5424, table 1: 0 to 23.
        facility: u8,
    },
    /// JSON lines in the directory that the settings name.
    File { name: String },
}

impl Destination {
    /// The word for it in the API and the journal.
    pub fn kind(&self) -> &'static str {
        match self {
            Destination::Webhook { .. } => "webhook",
            Destination::SplunkHec { .. } => "splunk_hec",
            Destination::Datadog { .. } => "datadog",
            Destination::Syslog { .. } => "syslog",
            Destination::File { .. } => "file",
        }
    }

    /// The product's or protocol's own name, for people.
    pub fn title(&self) -> &'static str {
        match self {
            Destination::Webhook { .. } => "Signed webhook",
            Destination::SplunkHec { .. } => "Splunk HEC",
            Destination::Datadog { .. } => "Datadog logs",
            Destination::Syslog { .. } => "Syslog",
            Destination::File { .. } => "JSON lines file",
        }
    }

    /// Where it leads, for people; also what a secret belongs to: another place must not get the secret of this one.
    pub fn place(&self) -> String {
        match self {
            Destination::Webhook { url, .. }
            | Destination::SplunkHec { url, .. }
            | Destination::Datadog { url, .. } => url.clone(),
            Destination::Syslog {
                host,
                port,
                transport,
                ..
            } => match transport {
                SyslogTransport::Tcp => format!("{host}:{port} (TCP)"),
                SyslogTransport::Tls => format!("{host}:{port} (TLS)"),
            },
            Destination::File { name } => format!("{name}.jsonl"),
        }
    }
}

/// A log sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    pub id: SinkId,
    pub name: String,
    pub destination: Destination,
    pub format: SinkFormat,
    /// The first entry it gets.
    pub from: u64,
    pub created_at: Time,
    /// Journal position of its newest settings: a worker with older ones starts anew.
    pub settings_seq: u64,
    /// Journal position of its removal.
    pub removed: Option<u64>,
    /// It has been failing for long, and that was told: journal position of the exception.
    pub stuck: Option<u64>,
    /// Entries that it refused and got a substitute for.
    pub withheld: u64,
}

impl Record for Sink {
    const TABLE: Table = Table::Sinks;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// Name of the cursor of a sink among the followers'.
pub fn sink_follower(id: &SinkId) -> String {
    format!("sink/{id}")
}
