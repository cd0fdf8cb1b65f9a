//! Private networks: refused to whatever an admin may point anywhere by page (log sinks, callbacks), unless the settings
//! list them. Forges are not asked: they live in private networks, and their answers are read as a forge's alone.

use crate::outbound::Error;
use crate::outbound::address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hosts and networks of the private kind that may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nearby {
    names: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl Nearby {
    /// Reads a list of host names, addresses and networks (`10.0.0.0/8`).
    ///
    /// # Errors
    /// The entry that is none of these.
    pub fn parse<T: AsRef<str>>(list: &[T]) -> Result<Nearby, String> {
        let mut nearby = Nearby::default();
        for entry in list {
            let entry = entry.as_ref().trim();
            let bare = entry.trim_start_matches('[').trim_end_matches(']');
            if let Some((address, bits)) = bare.split_once('/') {
                let network = address.parse::<IpAddr>().ok().zip(bits.parse::<u8>().ok());
                let fits = |it: &(IpAddr, u8)| it.1 <= if it.0.is_ipv4() { 32 } else { 128 };
                let network = network
                    .filter(fits)
                    .ok_or_else(|| format!("{entry} is no network"))?;
                nearby.networks.push(network);
            } else if let Ok(address) = bare.parse::<IpAddr>() {
                nearby
                    .networks
                    .push((address, if address.is_ipv4() { 32 } else { 128 }));
            } else if !entry.is_empty()
                && entry
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
            {
                nearby.names.push(entry.to_ascii_lowercase());
            } else {
                return Err(format!("{entry:?} is no host name, address or network"));
            }
        }
        Ok(nearby)
    }

    /// Whether `address`, found under the name `host` or written as it, may be connected to.
    ///
    /// # Errors
    /// `Refused` with what to do about it.
    pub fn permit(&self, host: &str, address: IpAddr) -> Result<(), Error> {
        if address::forbidden(address) {
            return Err(Error::Refused(format!(
                "{host} is an address that is never called"
            )));
        }
        let listed = || {
            self.names.iter().any(|it| it.eq_ignore_ascii_case(host))
                || self.networks.iter().any(|it| within(address, *it))
        };
        if is_private(address) && !listed() {
            return Err(Error::Refused(format!(
                "{host} leads into a private network ({address}): list it in outbound.allow_private"
            )));
        }
        Ok(())
    }
}

impl Nearby {
    /// As [`Nearby::permit`], for a host that is written as an address. A name is looked at when it is looked up.
    ///
    /// # Errors
    /// As [`Nearby::permit`].
    pub fn permit_literal(&self, host: &str) -> Result<(), Error> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_or(Ok(()), |address| self.permit(host, address))
    }
}

/// Loopback and every network that is not the public Internet's (RFC 6890).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => {
            let [a, b, c, _] = it.octets();
            it.is_loopback()
                || it.is_private()
                || (a == 100 && (64..128).contains(&b))
                || (a, b, c) == (192, 0, 0)
                || (a == 198 && (18..20).contains(&b))
                || it.is_documentation()
                || a >= 240
        }
        IpAddr::V6(it) => match address::embedded(it) {
            Some(inner) => is_private(IpAddr::V4(inner)),
            None => {
                let [first, second, ..] = it.segments();
                // Teredo and 6to4 carry IPv4 addresses of anybody's choice.
                it.is_loopback()
                    || it.is_unique_local()
                    || (first & 0xffc0) == 0xfec0
                    || (first, second) == (0x2001, 0xdb8)
                    || (first, second) == (0x2001, 0)
                    || first == 0x2002
            }
        },
    }
}

fn within(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    let v4 = |it: Ipv4Addr| u32::from(it);
    let v6 = |it: Ipv6Addr| u128::from(it);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let shift = 32_u32.saturating_sub(bits.into());
            v4(a).checked_shr(shift).unwrap_or(0) == v4(n).checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let shift = 128_u32.saturating_sub(bits.into());
            v6(a).checked_shr(shift).unwrap_or(0) == v6(n).checked_shr(shift).unwrap_or(0)
        }
        // An IPv4 address in IPv6 clothes is what it is inside.
        (IpAddr::V6(a), IpAddr::V4(_)) => {
            address::embedded(a).is_some_and(|it| within(IpAddr::V4(it), (network, bits)))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn private_networks_need_leave_and_metadata_never_gets_it() {
        let nobody = Nearby::default();
        let all = Nearby::parse(&["0.0.0.0/0", "::/0", "metadata.test"]).expect("networks");
        for private in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "240.0.0.1",
            "::1",
            "fd00::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:0:a00:1::",
        ] {
            assert!(nobody.permit("h", ip(private)).is_err(), "{private}");
            assert!(all.permit("h", ip(private)).is_ok(), "{private}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(nobody.permit("h", ip(public)).is_ok(), "{public}");
        }
        for never in [
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "100.100.100.200",
            "::ffff:169.254.169.254",
        ] {
            assert!(all.permit("metadata.test", ip(never)).is_err(), "{never}");
        }
    }

    #[test]
    fn a_list_names_hosts_addresses_and_networks() {
        let list = Nearby::parse(&[
            "splunk.corp",
            "10.1.0.0/16",
            "192.168.7.7",
            "fd00:1::/32",
            "[::1]",
        ]);
        let list = list.expect("a list");
        assert!(list.permit("SPLUNK.corp", ip("10.200.0.1")).is_ok());
        assert!(list.permit("other.corp", ip("10.200.0.1")).is_err());
        assert!(list.permit("other.corp", ip("10.1.200.1")).is_ok());
        assert!(list.permit("h", ip("192.168.7.7")).is_ok() && list.permit("h", ip("192.168.7.8")).is_err());
        assert!(list.permit("h", ip("fd00:1:2::3")).is_ok() && list.permit("h", ip("fd00:2::3")).is_err());
        assert!(list.permit("h", ip("::1")).is_ok());
        assert!(list.permit("h", ip("::ffff:10.1.2.3")).is_ok());
        for bad in ["10.0.0.0/33", "10.0.0/8", "", "a b", "http://x", "*"] {
            assert!(Nearby::parse(&[bad]).is_err(), "{bad}");
        }
    }
}
