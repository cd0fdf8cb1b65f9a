//! Settings of the public listener: TLS, proxies, limits.

use crate::config::layers::{Error, Origin, Value};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Fewer would shut out the people of one office.
const CONNECTIONS_MIN: usize = 16;
const CONNECTIONS_MAX: usize = 1_000_000;

/// Certificate and key, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// How the public listener meets the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// `None`: none of our own; see `cli/serve.rs` for what follows.
    pub tls: Option<TlsFiles>,
    /// TLS 1.3 alone.
    pub only_tls13: bool,
    /// Authorities of client certificates.
    pub client_ca: Option<PathBuf>,
    /// API keys count only together with a client certificate.
    pub keys_need_certificate: bool,
    /// Where plain http is answered with a redirect.
    pub redirect_listen: Option<SocketAddr>,
    /// Where monitors are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Networks of proxies that are believed about the client.
    pub trusted_proxies: Vec<IpNet>,
    pub connections: usize,
    pub connections_per_address: usize,
}

type Values = BTreeMap<&'static str, (Value, Origin)>;

fn text<'a>(values: &'a Values, key: &str) -> Option<&'a str> {
    match values.get(key) {
        Some((Value::Text(text), _)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn bad(values: &Values, key: &'static str, reason: impl Into<String>) -> Error {
    let origin = values.get(key).map_or(Origin::Default, |(_, it)| it.clone());
    Error::Value {
        key,
        origin,
        reason: reason.into(),
    }
}

impl Front {
    pub(super) fn read(values: &Values, public_url: Option<&str>) -> Result<Front, Error> {
        let path = |key: &str| text(values, key).map(PathBuf::from);
        let tls = match (path("tls.certificate"), path("tls.private_key")) {
            (Some(certificate), Some(private_key)) => Some(TlsFiles {
                certificate,
                private_key,
            }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(bad(
                    values,
                    "tls.private_key",
                    "`tls.certificate` is set, so this must be",
                ));
            }
            (None, Some(_)) => {
                return Err(bad(
                    values,
                    "tls.certificate",
                    "`tls.private_key` is set, so this must be",
                ));
            }
        };
        if tls.is_some() && !public_url.is_some_and(|it| it.starts_with("https://")) {
            let reason = "with a certificate, `public_url` must be set and begin with https://";
            return Err(bad(values, "tls.certificate", reason));
        }
        let only_tls13 = match text(values, "tls.minimum_version") {
            Some("1.2") | None => false,
            Some("1.3") => true,
            Some(_) => return Err(bad(values, "tls.minimum_version", "\"1.2\" or \"1.3\"")),
        };
        let keys_need_certificate = match text(values, "tls.client_certificate") {
            Some("optional") | None => false,
            Some("required") => true,
            Some(_) => {
                let reason = "\"optional\" or \"required\" (for calls with an API key)";
                return Err(bad(values, "tls.client_certificate", reason));
            }
        };
        let client_ca = path("tls.client_ca");
        if keys_need_certificate && client_ca.is_none() {
            return Err(bad(
                values,
                "tls.client_certificate",
                "\"required\" needs `tls.client_ca`",
            ));
        }
        let redirect_listen = match text(values, "tls.redirect_listen") {
            Some(it) => {
                let reason = "an address and port, such as 0.0.0.0:80";
                Some(
                    it.parse()
                        .map_err(|_| bad(values, "tls.redirect_listen", reason))?,
                )
            }
            None => None,
        };
        if redirect_listen.is_some() && !public_url.is_some_and(|it| it.starts_with("https://")) {
            let reason = "there is something to redirect to only where `public_url` begins with https://";
            return Err(bad(values, "tls.redirect_listen", reason));
        }
        let metrics_listen = match text(values, "metrics.listen") {
            // A port alone is on this machine.
            Some(it) if it.bytes().all(|b| b.is_ascii_digit()) => {
                let port = it
                    .parse()
                    .map_err(|_| bad(values, "metrics.listen", "a port up to 65535"))?;
                Some(SocketAddr::from(([127, 0, 0, 1], port)))
            }
            Some(it) => {
                let reason = "an address and port, such as 127.0.0.1:9465";
                Some(it.parse().map_err(|_| bad(values, "metrics.listen", reason))?)
            }
            None => None,
        };
        let connections = count(values, "limits.connections")?;
        let connections_per_address = count(values, "limits.connections_per_address")?;
        Ok(Front {
            tls,
            only_tls13,
            client_ca,
            keys_need_certificate,
            redirect_listen,
            metrics_listen,
            trusted_proxies: networks(values)?,
            connections,
            connections_per_address,
        })
    }
}

fn networks(values: &Values) -> Result<Vec<IpNet>, Error> {
    let Some((Value::List(list), _)) = values.get("proxy.trusted") else {
        return Ok(Vec::new());
    };
    let read = |it: &String| {
        let network = it
            .parse::<IpNet>()
            .ok()
            .or_else(|| it.parse::<IpAddr>().ok().map(IpNet::from));
        let Some(network) = network else {
            let reason = format!("{it:?} is no network; write 10.0.0.0/8, 192.0.2.7 or fd00::/8");
            return Err(bad(values, "proxy.trusted", reason));
        };
        // Whoever believes everybody believes the client about itself.
        if network.prefix_len() == 0 {
            let reason = format!("{it:?} is the whole Internet; name your proxies");
            return Err(bad(values, "proxy.trusted", reason));
        }
        Ok(network.trunc())
    };
    list.iter().map(read).collect()
}

fn count(values: &Values, key: &'static str) -> Result<usize, Error> {
    text(values, key)
        .and_then(|it| it.parse().ok())
        .filter(|it| (CONNECTIONS_MIN..=CONNECTIONS_MAX).contains(it))
        .ok_or_else(|| {
            bad(
                values,
                key,
                format!("a whole number from {CONNECTIONS_MIN} to {CONNECTIONS_MAX}"),
            )
        })
}
