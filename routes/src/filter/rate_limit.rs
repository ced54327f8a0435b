//! How many requests a client may send.

use std::{net::IpAddr, time::Duration};

use crate::networks::Networks;

/// A limit for each client address. IPv6 clients count by their /64, which is what one of them has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Tells this limit from all others; the same for every version of the object that sets it.
    pub scope: u64,
    /// Connections are counted, by the first request of each that comes here, instead of requests.
    pub connections: bool,
    /// Time between two requests at the full rate.
    pub interval: Duration,
    /// Requests that may come before their time.
    pub burst: u32,
    /// Who is not counted.
    pub exempt: Networks,
}

impl RateLimit {
    /// What a client is counted by.
    pub fn counted_by(client: IpAddr) -> u64 {
        match client.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // No /64 in use begins with zeros, so that none is an IPv4 address.
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_network_and_an_ipv4_client_itself_in_either_form() {
        let key = |text: &str| RateLimit::counted_by(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
