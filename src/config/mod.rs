//! Settings: defaults, then the file, then the environment, then flags; every value remembers where it came from. It
//! reads and checks, and starts nothing.

mod front;
mod keys;
mod layers;
mod sinks;

#[cfg(test)]
mod tests;

pub use front::{Front, TlsFiles};
pub use keys::{KEYS, Key, Kind, RELOADED};
pub use layers::{Error, Flags, Layers, Origin, Value, load};
pub use sinks::SinkSettings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the file is looked for when `--config` names none.
pub const DEFAULT_FILE: &str = "/etc/signedapproval/config.toml";

/// What is lost on the way shows within a minute, so nobody looks more seldom.
const LOOK_EVERY_SECONDS_MAX: u64 = 60;

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Where the signing keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySettings {
    /// In encrypted files of the data directory.
    File,
    /// In an agent that listens on a Unix socket.
    Agent {
        socket: PathBuf,
        /// Fingerprint or comment of the two keys.
        credential: String,
        log: String,
    },
}

/// Settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// As set; `None`: follows from the address that is listened on.
    pub public_url: Option<String>,
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    /// TLS, proxies and limits of the public listener.
    pub front: Front,
    /// Where the signing keys are.
    pub keys: KeySettings,
    /// Opens the key files. `None` in evaluation mode, which keeps its own.
    pub passphrase: Option<String>,
    /// Bytes that should stay free where the journal is.
    pub storage_reserve: u64,
    /// Where backups are made by a schedule, how often, and how many are kept; `None`: nowhere.
    pub backup: Option<(PathBuf, Duration, usize)>,
    /// Hosts that may be called over plain http.
    pub allow_http: Vec<String>,
    /// Private hosts and networks that log sinks may be in.
    pub allow_private: Vec<String>,
    pub sinks: SinkSettings,
    /// How often forges are looked at anew: 1 to 60 seconds.
    pub look_every: Duration,
    /// Seconds before a new passkey may decide; `None`: 24 hours, 0 in evaluation mode.
    pub passkey_hold_seconds: Option<u64>,
    /// AAGUIDs of the authenticator models that may be enrolled; empty: any.
    pub authenticators: Vec<String>,
    /// Seconds without a call after which a session counts no more.
    pub session_idle_seconds: u64,
    /// Calls a minute that one API key may make; 0: as many as it likes.
    pub changes_per_minute: u32,
    pub reads_per_minute: u32,
    /// Hosts that callbacks may go to: names, `*.` and a domain, addresses.
    pub callback_hosts: Vec<String>,
    /// Where the operator keeps languages of their own.
    pub languages: Option<PathBuf>,
    pub log_format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// Needed to read the metrics, where it is set.
    pub metrics_token: Option<String>,
    /// Every value with its origin, for people.
    pub origins: BTreeMap<&'static str, (Value, Origin)>,
}

impl Settings {
    /// Checks layered values.
    ///
    /// # Errors
    /// Names the key, where its value came from, and what is wrong.
    pub fn from_layers(layers: Layers) -> Result<Settings, Error> {
        let values = layers.values;
        let text = |key: &str| match values.get(key) {
            Some((Value::Text(text), _)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        let bad = |key: &'static str, reason: &str| {
            let origin = values
                .get(key)
                .map_or(Origin::Default, |(_, origin)| origin.clone());
            Error::Value {
                key,
                origin,
                reason: reason.to_owned(),
            }
        };
        let public_url = text("public_url").map(|it| it.trim_end_matches('/').to_owned());
        if let Some(url) = &public_url {
            check_public_url(url).map_err(|reason| bad("public_url", reason))?;
        }
        let listen = text("listen")
            .unwrap_or_default()
            .parse()
            .map_err(|_| bad("listen", "an address and port, such as 127.0.0.1:8080"))?;
        let log_format = match text("log.format").as_deref() {
            Some("json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            _ => return Err(bad("log.format", "\"text\" or \"json\"")),
        };
        let passkey_hold_seconds = match text("security.passkey_hold") {
            Some(text) => Some(seconds(&text).ok_or_else(|| {
                bad(
                    "security.passkey_hold",
                    "a time such as \"24h\", \"30m\" or \"0\"",
                )
            })?),
            None => None,
        };
        let authenticators: Vec<String> = match values.get("security.authenticators") {
            Some((Value::List(list), _)) => list.iter().map(|it| it.trim().to_ascii_lowercase()).collect(),
            _ => Vec::new(),
        };
        if authenticators
            .iter()
            .any(|it| uuid::Uuid::parse_str(it).is_err() || it.len() != 36)
        {
            return Err(bad(
                "security.authenticators",
                "AAGUIDs, such as \"cb69481e-8ff7-4039-93ec-0a2729a154a8\"",
            ));
        }
        let session_idle_seconds = text("security.session_idle")
            .and_then(|it| seconds(&it))
            .filter(|it| *it >= 60)
            .ok_or_else(|| bad("security.session_idle", "a time of at least \"1m\""))?;
        let look_every = text("forge.look_every")
            .and_then(|it| seconds(&it))
            .filter(|it| (1..=LOOK_EVERY_SECONDS_MAX).contains(it))
            .map(Duration::from_secs)
            .ok_or_else(|| bad("forge.look_every", "a time from \"1s\" to \"60s\""))?;
        let keys = match (text("keys.backend").as_deref(), text("keys.agent_socket")) {
            (Some("file"), _) => KeySettings::File,
            (Some("agent"), Some(socket)) => KeySettings::Agent {
                socket: socket.into(),
                credential: text("keys.credential").unwrap_or_default(),
                log: text("keys.log").unwrap_or_default(),
            },
            (Some("agent"), None) => {
                return Err(bad(
                    "keys.agent_socket",
                    "needed where `keys.backend` is \"agent\"",
                ));
            }
            _ => return Err(bad("keys.backend", "\"file\" or \"agent\"")),
        };
        let storage_reserve = text("storage.reserve_mib")
            .and_then(|it| it.parse::<u64>().ok())
            .filter(|it| (1..=1 << 30).contains(it))
            .map(|it| it << 20)
            .ok_or_else(|| bad("storage.reserve_mib", "a whole number of MiB from 1"))?;
        let every = text("backup.every")
            .and_then(|it| seconds(&it))
            .filter(|it| *it >= 1)
            .map(Duration::from_secs)
            .ok_or_else(|| bad("backup.every", "a time such as \"24h\" or \"30m\""))?;
        let keep = text("backup.keep")
            .and_then(|it| it.parse::<usize>().ok())
            .filter(|it| (1..=10_000).contains(it))
            .ok_or_else(|| bad("backup.keep", "a whole number from 1 to 10000"))?;
        let backup = text("backup.directory").map(|it| (PathBuf::from(it), every, keep));
        let rate = |key: &'static str| {
            let found = text(key).and_then(|it| it.parse::<u32>().ok());
            found.ok_or_else(|| bad(key, "a number of calls a minute; 0 for no limit"))
        };
        let (changes_per_minute, reads_per_minute) = (
            rate("limits.changes_per_minute")?,
            rate("limits.reads_per_minute")?,
        );
        let callback_hosts = match values.get("callbacks.hosts") {
            Some((Value::List(list), _)) => list.iter().map(|it| it.trim().to_ascii_lowercase()).collect(),
            _ => Vec::new(),
        };
        let list = |key: &str| match values.get(key) {
            Some((Value::List(list), _)) => list.clone(),
            _ => Vec::new(),
        };
        let log_level = text("log.level").unwrap_or_default();
        if !["error", "warn", "info", "debug", "trace"].contains(&log_level.as_str()) {
            return Err(bad(
                "log.level",
                "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            ));
        }
        let front = Front::read(&values, public_url.as_deref())?;
        let (allow_http, allow_private) = (list("outbound.allow_http"), list("outbound.allow_private"));
        let sinks = SinkSettings::read(&text, &bad)?;
        Ok(Settings {
            public_url,
            listen,
            data_dir: text("data_dir").unwrap_or_default().into(),
            front,
            keys,
            backup,
            storage_reserve,
            passphrase: text("keys.passphrase"),
            allow_http,
            allow_private,
            sinks,
            look_every,
            passkey_hold_seconds,
            authenticators,
            session_idle_seconds,
            changes_per_minute,
            reads_per_minute,
            callback_hosts,
            languages: text("languages.directory").map(Into::into),
            log_format,
            log_level,
            metrics_token: text("metrics.token"),
            origins: values,
        })
    }
}

/// Whether a public URL makes this an evaluation: plain http on a loopback name.
pub fn is_evaluation(public_url: &str) -> bool {
    match public_url.strip_prefix("http://") {
        Some(rest) => is_loopback_name(host_of(rest)),
        None => false,
    }
}

/// Names that never leave the machine.
pub fn is_loopback_name(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

fn host_of(authority: &str) -> &str {
    let authority = authority.split('/').next().unwrap_or(authority);
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// Whether people and forges can know an appliance by this address for good.
///
/// # Errors
/// What it should be instead, and why.
pub fn check_public_url(url: &str) -> Result<(), &'static str> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or("a URL such as https://approvals.example")?;
    if rest.contains('/') || rest.contains('?') || rest.contains('#') || rest.contains('@') {
        return Err("scheme, host and port only, without a path");
    }
    let host = host_of(rest);
    if host.is_empty() || host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("a host name, not an address: passkeys belong to names");
    }
    let named = host
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    if !named {
        return Err("a host name in lower case, in its ASCII form");
    }
    match scheme {
        "https" => Ok(()),
        "http" if is_loopback_name(host) => Ok(()),
        "http" => Err("https everywhere but on localhost: browsers allow passkeys nowhere else"),
        _ => Err("https, or http on localhost"),
    }
}

/// `90`, `90s`, `30m`, `24h` or `7d` in seconds.
fn seconds(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
