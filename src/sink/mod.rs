//! Log sinks: what takes a copy of the journal. One file a kind; each frames records, sends them, and says what became of
//! them. None of them knows the store, retries on its own, or lets the answer of the other side be seen.

mod board;
mod datadog;
mod file;
mod ocsf;
mod record;
mod secrets;
mod splunk_hec;
mod syslog;
mod webhook;
pub mod witness;

pub use board::{Board, Health, Requirement};
pub use file::checked_file_name;
pub use record::{About, Record};
pub use secrets::{SinkSecrets, secrets_name};

use crate::domain::sink::{Destination, Sink, SyslogTransport};
use crate::outbound::{Call, Client, Error, Method, Nearby, Outcome, Secret, join, parse_base, tls, tls_as};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt to hand records over ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The receiver has all of them.
    Stored,
    /// Not now. Some of them may have arrived.
    Later { after: Option<Duration>, reason: String },
    /// The receiver does not take these records, for their size or form: fewer may pass.
    TooMuch { reason: String },
    /// It takes nothing until somebody changes something.
    Blocked { reason: String },
}

impl Sent {
    /// What an error before any answer means.
    fn failed(error: Error) -> Sent {
        match error.into_outcome::<()>() {
            Outcome::Delivered(()) => Sent::Stored,
            Outcome::Retry { after, reason } => Sent::Later { after, reason },
            Outcome::Rejected { reason } => Sent::Blocked { reason },
        }
    }

    /// What an HTTP status means where the receiver's protocol has no rule of its own. Only the status is told: what else
    /// it answered may be another server's (SSRF).
    fn by_status(status: u16, told_wait: Option<Duration>) -> Sent {
        let reason = format!("it answered {status}");
        match status {
            200..=299 => Sent::Stored,
            400 | 413 | 422 => Sent::TooMuch { reason },
            300..=399 => Sent::Blocked {
                reason: format!("{reason}, a redirect, which is never followed: correct the URL"),
            },
            401 | 403 if told_wait.is_none() => Sent::Blocked {
                reason: format!("{reason}: it does not accept our credential"),
            },
            403 | 408 | 423 | 425 | 429 | 500..=599 => Sent::Later {
                after: told_wait,
                reason,
            },
            _ => Sent::Blocked { reason },
        }
    }
}

/// The most that is sent at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub records: usize,
    /// Of the records' JSON.
    pub bytes: usize,
}

/// A sink that can be sent to.
pub enum Connection {
    Webhook(webhook::Webhook),
    SplunkHec(splunk_hec::SplunkHec),
    Datadog(datadog::Datadog),
    Syslog(syslog::Syslog),
    File(file::JsonLines),
}

impl Connection {
    /// The most that it is sent at once.
    pub fn limits(&self) -> Limits {
        let (records, bytes) = match self {
            Connection::Webhook(_) => (1_000, 1024 * 1024),
            // Splunk Cloud recommends at most 1 MB a call.
            Connection::SplunkHec(_) => (2_000, 900 * 1024),
            // 1,000 logs and 5 MB; framing and escapes cost less than as much again.
            Connection::Datadog(_) => (1_000, 2 * 1024 * 1024),
            Connection::Syslog(_) => (4_000, 4 * 1024 * 1024),
            Connection::File(_) => (10_000, 8 * 1024 * 1024),
        };
        Limits { records, bytes }
    }

    /// Why it would not take this record at all, where that is known before it is sent.
    pub fn refuses(&self, record: &Record) -> Option<String> {
        match self {
            Connection::Syslog(it) => it.refuses(record),
            _ => None,
        }
    }

    /// Sends records, in their order. `id` names them: the same again for the same records.
    pub async fn send(&self, records: &[Record], id: &str, unix_seconds: i64) -> Sent {
        match self {
            Connection::Webhook(it) => it.send(records, id, unix_seconds).await,
            Connection::SplunkHec(it) => it.send(records).await,
            Connection::Datadog(it) => it.send(records).await,
            Connection::Syslog(it) => it.send(records).await,
            Connection::File(it) => it.send(records).await,
        }
    }

    /// Whether what it has taken is stored by its own word, so that a decision may rely on it.
    pub fn confirms(&self) -> bool {
        match self {
            Connection::Syslog(it) => it.confirms(),
            _ => true,
        }
    }

    /// The newest checkpoint it says it holds; `None` when it is of a kind that can't be asked.
    ///
    /// # Errors
    /// Why it could not be asked, in words without its answer.
    pub async fn newest_checkpoint(&self, id: &str, unix_seconds: i64) -> Option<Result<String, String>> {
        match self {
            Connection::Webhook(it) => it.newest_checkpoint(id, unix_seconds).await,
            _ => None,
        }
    }
}

/// Opens a sealed secret by its name; `None` when it can't be opened.
pub type Unseal = Arc<dyn Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// What every connection is made with: what the settings allow, what this appliance calls itself.
pub struct Sinks {
    pub about: About,
    /// Hosts that may be called by plain http.
    pub allow_http: Vec<String>,
    /// Private networks that may be called.
    pub nearby: Arc<Nearby>,
    /// Where files go; `None`: nowhere.
    pub directory: Option<PathBuf>,
    pub unseal: Unseal,
    pub board: Board,
}

impl Sinks {
    /// A connection of these settings. Nothing is called yet.
    ///
    /// # Errors
    /// `Refused` with what is wrong.
    pub fn connect(&self, destination: &Destination, secrets: &SinkSecrets) -> Result<Connection, Error> {
        let refused = |reason: &str| Error::Refused(reason.to_owned());
        let base = |url: &str| {
            let url = parse_base(url, &self.allow_http)?;
            self.nearby.permit_literal(url.host_str().unwrap_or_default())?;
            Ok::<_, Error>(url)
        };
        let client = |ca_pem: &Option<String>| {
            Client::guarded(ca_pem.as_deref(), &self.allow_http, self.nearby.clone())
        };
        Ok(match destination {
            Destination::Webhook {
                url,
                ca_pem,
                read_back,
            } => Connection::Webhook(webhook::Webhook {
                client: client(ca_pem)?,
                url: base(url)?,
                signing: secrets.signing()?,
                authorization: secrets.get("authorization").cloned(),
                read_back: *read_back,
                about: self.about.clone(),
            }),
            Destination::SplunkHec {
                url,
                ca_pem,
                index,
                source,
                sourcetype,
                channel,
            } => {
                let base = base(url)?;
                let token = secrets.get("token").ok_or_else(|| refused("it has no token"))?;
                Connection::SplunkHec(splunk_hec::SplunkHec {
                    client: client(ca_pem)?,
                    event: join(&base, &["services", "collector", "event"])?,
                    ack: join(&base, &["services", "collector", "ack"])?,
                    authorization: Secret::new(format!("Splunk {}", token.expose())),
                    token: token.clone(),
                    host: self.about.host.clone(),
                    index: index.clone(),
                    source: source.clone(),
                    sourcetype: sourcetype.clone(),
                    channel: channel.clone(),
                })
            }
            Destination::Datadog {
                url,
                ca_pem,
                service,
                tags,
            } => Connection::Datadog(datadog::Datadog {
                client: client(ca_pem)?,
                url: join(&base(url)?, &["api", "v2", "logs"])?,
                key: secrets
                    .get("token")
                    .ok_or_else(|| refused("it has no API key"))?
                    .clone(),
                host: self.about.host.clone(),
                service: service.clone(),
                tags: tags.join(","),
            }),
            Destination::Syslog {
                host,
                port,
                transport,
                ca_pem,
                client_certificate,
                confirm,
                message_bytes_max,
                facility,
            } => {
                self.nearby.permit_literal(host)?;
                let settings = match (transport, client_certificate) {
                    (SyslogTransport::Tcp, _) => None,
                    (SyslogTransport::Tls, None) => Some(tls(ca_pem.as_deref())?),
                    (SyslogTransport::Tls, Some(certificate)) => {
                        let key = secrets.get("client_key");
                        let key = key.ok_or_else(|| refused("the client certificate has no private key"))?;
                        Some(tls_as(ca_pem.as_deref(), certificate, key)?)
                    }
                };
                Connection::Syslog(syslog::Syslog {
                    host: host.clone(),
                    port: *port,
                    tls: settings,
                    nearby: self.nearby.clone(),
                    confirm: *confirm,
                    message_bytes_max: *message_bytes_max as usize,
                    facility: *facility,
                    about: self.about.clone(),
                    kept: Default::default(),
                })
            }
            Destination::File { name } => {
                let directory = self.directory.as_ref().ok_or_else(|| {
                    refused("no directory is set: an operator has to name one in sinks.directory")
                })?;
                Connection::File(file::JsonLines::new(directory, name)?)
            }
        })
    }

    /// The connection of a recorded sink, from its sealed secrets.
    ///
    /// # Errors
    /// As [`Sinks::connect`], and when the secrets can't be opened.
    pub fn of(&self, sink: &Sink, sealed: Option<&[u8]>) -> Result<Connection, Error> {
        let secrets = match sealed {
            None => SinkSecrets::default(),
            Some(sealed) => (self.unseal)(&secrets_name(&sink.id), sealed)
                .and_then(|it| SinkSecrets::read(&it))
                .ok_or_else(|| {
                    Error::Refused("a stored secret can't be opened with the present keys".into())
                })?,
        };
        self.connect(&sink.destination, &secrets)
    }
}

/// A POST of a compressed body.
fn gzipped(url: &url::Url, content_type: &str, body: &[u8]) -> Result<Call, Error> {
    let unfit = |e: std::io::Error| Error::Refused(format!("a body can't be compressed: {e}"));
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).map_err(unfit)?;
    let bytes = encoder.finish().map_err(unfit)?;
    Ok(Call::new(Method::Post, url.clone())
        .header("content-encoding", "gzip")
        .body(content_type, bytes))
}
