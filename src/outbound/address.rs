//! Which addresses may be called, and how URLs are put together. It never looks a name up twice: what was checked is what
//! is connected to.

use crate::outbound::Error;
use crate::outbound::Nearby;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use url::Host;
use url::Url;

/// Cloud metadata services outside the link-local ranges: Alibaba, Oracle.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
/// The EC2 metadata service over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Reads a base URL that somebody typed: https (or http to a host in `allow_http`), a host, no credentials, no query, no
/// fragment. A path is kept: an installation may live below one.
pub fn parse_base(text: &str, allow_http: &[String]) -> Result<Url, Error> {
    let refused = |reason: &str| Err(Error::Refused(reason.to_owned()));
    let Ok(url) = Url::parse(text.trim()) else {
        return refused("the base URL is not a URL");
    };
    permit(&url, allow_http)?;
    if url.query().is_some() || url.fragment().is_some() {
        return refused("the base URL may not have a query or a fragment");
    }
    Ok(url)
}

/// `base` with more path segments. Each segment is percent-encoded once, `/` in it included, and the path that `base` has
/// already is kept (`Url::join` would drop it).
pub fn join(base: &Url, segments: &[&str]) -> Result<Url, Error> {
    let refused = |reason: &str| Err(Error::Refused(reason.to_owned()));
    if segments
        .iter()
        .any(|it| it.is_empty() || *it == "." || *it == "..")
    {
        return refused("a path segment is empty or only dots");
    }
    let mut url = base.clone();
    match url.path_segments_mut() {
        Ok(mut path) => path.pop_if_empty().extend(segments),
        Err(()) => return refused("the base URL cannot have a path"),
    };
    Ok(url)
}

/// Refuses a URL that must not be called: another scheme than https (http to a host in `allow_http` is let through),
/// credentials in it, no host, or a literal address that [`forbidden`] names.
pub(crate) fn permit(url: &Url, allow_http: &[String]) -> Result<(), Error> {
    let refused = |reason: String| Err(Error::Refused(reason));
    if !url.username().is_empty() || url.password().is_some() {
        return refused("a URL may not hold credentials".to_owned());
    }
    let Some(host) = url.host_str() else {
        return refused("the URL names no host".to_owned());
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match url.scheme() {
        "https" => {}
        "http" => {
            let named = |it: &String| {
                let it = it.trim();
                it.eq_ignore_ascii_case(host)
                    || it.eq_ignore_ascii_case(bare)
                    || url
                        .port_or_known_default()
                        .is_some_and(|p| it.eq_ignore_ascii_case(&format!("{host}:{p}")))
            };
            if !allow_http.iter().any(named) {
                return refused(format!(
                    "plain http to {host} is not allowed: use https, or list it in outbound.allow_http"
                ));
            }
        }
        other => return refused(format!("only https URLs are called, not {other}")),
    }
    match literal(url) {
        Some(address) if forbidden(address) => refused(format!("{host} is an address that is never called")),
        _ => Ok(()),
    }
}

/// The address in a URL that names one instead of a host.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host() {
        Some(Host::Ipv4(it)) => Some(IpAddr::V4(it)),
        Some(Host::Ipv6(it)) => Some(IpAddr::V6(it)),
        _ => None,
    }
}

/// Addresses no forge or sink can have: link-local (metadata services), unspecified, multicast, broadcast. Private networks
/// are allowed, since that is where this product lives.
pub(crate) fn forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => {
            it.is_link_local()
                || it.is_unspecified()
                || it.octets()[0] == 0
                || it.is_multicast()
                || it.is_broadcast()
                || METADATA_V4.contains(&it)
        }
        IpAddr::V6(it) => match embedded(it) {
            Some(inner) => forbidden(IpAddr::V4(inner)),
            None => {
                it.is_unspecified() || it.is_multicast() || it.is_unicast_link_local() || it == METADATA_V6
            }
        },
    }
}

/// The IPv4 address inside a mapped, compatible or NAT64 (RFC 6052, `64:ff9b::/96`) one; `::` and `::1` are not such.
pub(crate) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let prefix = [a, b, c, d, e, f];
    let mapped = prefix == [0, 0, 0, 0, 0, 0xffff];
    let compatible = prefix == [0; 6] && high != 0;
    let nat64 = prefix == [0x64, 0xff9b, 0, 0, 0, 0];
    (mapped || compatible || nat64).then(|| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

/// A name led to an address that is not called; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ForbiddenAddress(pub String);

/// The system's own name resolution (hosts file, search domains), with [`forbidden`] applied to what is then connected to,
/// and the rules of [`Nearby`] where they are asked for.
pub(crate) struct GuardedResolver(pub Option<Arc<Nearby>>);

impl reqwest::dns::Resolve for GuardedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let nearby = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &found {
                if forbidden(address.ip()) {
                    let why = format!("{} leads to an address that is never called", name.as_str());
                    return Err(ForbiddenAddress(why).into());
                }
                if let Some(Err(error)) = nearby.as_ref().map(|it| it.permit(name.as_str(), address.ip())) {
                    return Err(ForbiddenAddress(error.to_string()).into());
                }
            }
            let addresses: reqwest::dns::Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}
