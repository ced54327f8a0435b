//! Where routers have to send packets for the announced addresses: this node's own addresses on
//! the link that the session runs over.
//!
//! Pure; `peer_driver` asks for each session that comes up, and again when the node has other addresses.

use std::net::{IpAddr, Ipv4Addr};

use crate::{bgp::NextHops, links::Links};

/// The next hops of a session whose near end is `local`.
///
/// The other family's is the first address of the same interface that has a subnet. An unnumbered link
/// is used as one: IPv4 routes go by its link-local address where the router understands that
/// (`by_v6`, RFC 8950).
pub(super) fn of(local: IpAddr, links: &Links, by_v6: bool) -> NextHops {
    let index = links.with(local).map(|link| link.index);
    let own = || links.own().filter(|(link, _)| Some(link.index) == index).map(|(_, ip)| ip);
    let v4 = own().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
    let v6 = own().find_map(|ip| match ip {
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => Some(ip),
        _ => None,
    });
    match local {
        IpAddr::V4(local) => NextHops { v4: Some(local), v6, link_local: None },
        IpAddr::V6(local) if local.is_unicast_link_local() => {
            NextHops { v4: v4.filter(|_| !by_v6), v6: None, link_local: Some(local) }
        }
        IpAddr::V6(local) => NextHops { v4, v6: Some(local), link_local: None },
    }
}

/// BGP Identifier of a node: its first IPv4 address, or a number made from its name.
pub(super) fn router_id(node: &str, links: &Links) -> Ipv4Addr {
    let mut own = links.own().filter_map(|(_, ip)| match ip {
        IpAddr::V4(ip) if !ip.is_link_local() => Some(ip),
        _ => None,
    });
    own.next().unwrap_or_else(|| {
        // FNV-1a: the same after every restart, different on every node, and not zero.
        let hash = node
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Ipv4Addr::from(hash.max(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::tests::links;

    fn hops(local: &str, by_v6: bool) -> NextHops {
        let links = links(
            &[(2, true), (3, true)],
            &[
                (2, "192.0.2.1/24"),
                (2, "2001:db8::1/64"),
                (2, "fe80::1/64"),
                (2, "198.51.100.1/32"),
                (3, "fe80::2/64"),
                (3, "203.0.113.1/31"),
            ],
        );
        of(local.parse().unwrap(), &links, by_v6)
    }

    #[test]
    fn the_other_family_goes_by_an_address_of_the_same_link() {
        let (v4, v6) = (hops("192.0.2.1", false), hops("2001:db8::1", false));
        assert_eq!(v4.v4.map(|ip| ip.to_string()), Some("192.0.2.1".into()));
        assert_eq!(v4, v6);
        assert_eq!(v4.v6.map(|ip| ip.to_string()), Some("2001:db8::1".into()));
        let elsewhere = hops("203.0.113.1", false);
        assert_eq!((elsewhere.v6, elsewhere.link_local), (None, None), "link-local is not enough");
    }

    #[test]
    fn an_unnumbered_link_carries_ipv4_by_its_link_local_address_if_the_router_can() {
        let can = hops("fe80::2", true);
        assert_eq!((can.v4, can.v6, can.link_local), (None, None, "fe80::2".parse().ok()));
        assert_eq!(hops("fe80::2", false).v4, "203.0.113.1".parse().ok());
    }

    #[test]
    fn a_node_is_known_by_its_first_address_or_by_a_number_of_its_name() {
        let seen = links(&[(2, true)], &[(2, "169.254.1.1/16"), (2, "192.0.2.9/24")]);
        assert_eq!(router_id("a", &seen), Ipv4Addr::new(192, 0, 2, 9));
        let none = links(&[(2, true)], &[(2, "2001:db8::1/64")]);
        assert_ne!(router_id("a", &none), router_id("b", &none));
        assert_eq!(router_id("a", &none), router_id("a", &none));
    }
}
