//! Who counts as the client, and who has to make room.

use crate::listen::{Caps, Connections, Proxies};
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client(trusted: &[&str], peer: &str, headers: &[&str]) -> IpAddr {
    let proxies = Proxies::new(trusted.iter().map(|it| it.parse().unwrap()).collect());
    proxies.client(ip(peer), headers.iter().copied())
}

#[test]
fn only_a_trusted_proxy_says_who_the_client_is() {
    // Nobody is trusted: the header is the client's own writing.
    assert_eq!(client(&[], "203.0.113.9", &["192.0.2.1"]), ip("203.0.113.9"));
    assert_eq!(
        client(&["10.0.0.0/8"], "203.0.113.9", &["192.0.2.1"]),
        ip("203.0.113.9")
    );
    assert_eq!(
        client(&["10.0.0.0/8"], "10.1.2.3", &["192.0.2.1"]),
        ip("192.0.2.1")
    );
    // What the client wrote stands left of what the proxy added.
    assert_eq!(
        client(&["10.0.0.0/8"], "10.1.2.3", &["1.1.1.1, 192.0.2.1"]),
        ip("192.0.2.1")
    );
    assert_eq!(
        client(&["10.0.0.0/8"], "10.1.2.3", &["1.1.1.1", "192.0.2.1, 10.9.9.9"]),
        ip("192.0.2.1")
    );
    // All of them proxies: the outermost.
    assert_eq!(
        client(&["10.0.0.0/8"], "10.1.2.3", &["10.0.0.1, 10.0.0.2"]),
        ip("10.0.0.1")
    );
    // Unreadable: no further than what is known.
    assert_eq!(
        client(&["10.0.0.0/8"], "10.1.2.3", &["192.0.2.1, unknown"]),
        ip("10.1.2.3")
    );
    assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", &[]), ip("10.1.2.3"));
    // As proxies write them.
    assert_eq!(
        client(&["10.0.0.0/8"], "::ffff:10.1.2.3", &["192.0.2.1:4711"]),
        ip("192.0.2.1")
    );
    assert_eq!(
        client(&["fd00::/8"], "fd00::1", &["[2001:db8::1]:4711"]),
        ip("2001:db8::1")
    );
    assert_eq!(
        client(&["fd00::/8"], "fd00::1", &["[2001:db8::1]"]),
        ip("2001:db8::1")
    );
}

#[test]
fn a_long_list_of_hops_is_not_walked_to_its_end() {
    let hops = vec!["10.0.0.1"; 10_000].join(",");
    assert_eq!(
        client(&["10.0.0.0/8"], "10.1.2.3", &[&format!("192.0.2.1,{hops}")]),
        ip("10.0.0.1")
    );
}

#[test]
fn nobody_at_work_makes_room() {
    let connections = Connections::new(Caps {
        total: 100,
        per_address: 2,
    });
    let first = connections.admit(ip("192.0.2.1"), false).unwrap();
    let _serving = first.serve();
    let second = connections.admit(ip("192.0.2.1"), false).unwrap();
    let _also = second.serve();
    assert!(
        connections.admit(ip("192.0.2.1"), false).is_err(),
        "both are at work"
    );
    assert!(
        connections.admit(ip("192.0.2.2"), false).is_ok(),
        "another address has room"
    );
    assert!(
        connections.admit(ip("192.0.2.1"), true).is_ok(),
        "a proxy is not counted by address"
    );
    drop(_also);
    drop(second);
    assert!(
        connections.admit(ip("192.0.2.1"), false).is_ok(),
        "a place was freed"
    );
}

#[test]
fn the_networks_of_one_ipv6_customer_count_as_one() {
    let connections = Connections::new(Caps {
        total: 100,
        per_address: 1,
    });
    let first = connections.admit(ip("2001:db8:1:2::1"), false).unwrap();
    let _serving = first.serve();
    assert!(connections.admit(ip("2001:db8:1:2:ffff::9"), false).is_err());
    assert!(connections.admit(ip("2001:db8:1:3::1"), false).is_ok());
    assert_eq!(connections.count(), 1);
}
