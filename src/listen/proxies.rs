//! Whose word counts about the client's address: nobody's but that of the proxies in `proxy.trusted`.

use crate::listen::unmapped;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

/// Hops of `X-Forwarded-For` that are looked at.
const HOPS_MAX: usize = 16;

/// The trusted proxies, replaceable while running.
#[derive(Debug, Default)]
pub struct Proxies(RwLock<Vec<IpNet>>);

impl Proxies {
    /// Trusts these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Proxies(RwLock::new(networks))
    }

    /// Trusts these networks from now on.
    pub fn replace(&self, networks: Vec<IpNet>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = networks;
    }

    /// Whether a proxy at this address is believed.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = unmapped(ip);
        let networks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        networks.iter().any(|it| it.contains(&ip))
    }

    /// The client's address: the peer's own or, as a trusted proxy tells in `X-Forwarded-For`, the last one that is not
    /// a trusted proxy itself. What stands further left was written by the client. `forwarded` are the header's values
    /// in their order.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = unmapped(peer);
        let hops = forwarded.rev().flat_map(|it| it.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            if !self.trusts(client) {
                break;
            }
            // A proxy that is believed, but writes what nobody can read: its own address is all that is known.
            let Some(told) = address(hop.trim()) else { break };
            client = unmapped(told);
        }
        client
    }
}

/// An address, with or without port or brackets, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|it| it.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}
