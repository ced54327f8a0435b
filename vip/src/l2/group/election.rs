//! The priorities of a group's members for one address.
//!
//! A fit member comes before one that is not; among those, who serves all claims of the address before who serves some of
//! them; then the higher preference; among equals, the lower SHA-256 of `node#address`. The latter two are what MetalLB sorts by (`speaker/
//! layer2_controller.go`), so that an address stays where it is when a cluster changes over. Pure;
//! every member reckons the same from the same tables.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};

use super::wire::{Incarnation, Merit};

/// Place of a node for an address among nodes of the same preference: the lowest is first.
pub(crate) type Rank = [u8; 32];

/// The priority of a member for one address; the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Priority {
    unfit: bool,
    partial: bool,
    /// `u32::MAX` less the preference, so that the highest preference comes first.
    reversed_preference: u32,
    rank: Rank,
    /// Two nodes that were given the same name by mistake must not both win.
    incarnation: Incarnation,
}

impl Priority {
    /// `fit`: could hold the address, serves and does not drain.
    pub(crate) fn new(fit: bool, merit: Merit, rank: Rank, incarnation: Incarnation) -> Self {
        let Merit { partial, preference } = merit;
        Self { unfit: !fit, partial, reversed_preference: u32::MAX - preference, rank, incarnation }
    }

    pub(crate) fn fit(&self) -> bool {
        !self.unfit
    }
}

/// SHA-256 of `node#address`; the address as RFC 5952 writes it.
pub(crate) fn rank(node: &str, ip: IpAddr) -> Rank {
    let mut rank = [0; 32];
    rank.copy_from_slice(digest(&SHA256, format!("{node}#{ip}").as_bytes()).as_ref());
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(ip: &str, nodes: &[(&str, u32, bool)]) -> Vec<String> {
        let priority = |(node, preference, fit): (&str, u32, bool)| {
            let merit = Merit { preference, partial: node.ends_with("-partial") };
            Priority::new(fit, merit, rank(node, ip.parse().unwrap()), [0; 16])
        };
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|node| priority(*node));
        nodes.into_iter().map(|(node, ..)| node.to_owned()).collect()
    }

    // python3: sorted(nodes, key=lambda n: hashlib.sha256(f"{n}#{ip}".encode()).digest())
    #[test]
    fn members_of_equal_preference_are_in_the_order_of_metallb() {
        let nodes = ["node-1", "node-2", "node-3", "worker.example.org", "k8s-a"];
        let cases = [
            ("192.0.2.1", ["node-1", "node-2", "k8s-a", "worker.example.org", "node-3"]),
            ("192.0.2.2", ["k8s-a", "node-3", "worker.example.org", "node-1", "node-2"]),
            ("10.0.0.200", ["node-2", "k8s-a", "worker.example.org", "node-1", "node-3"]),
            ("2001:db8::1", ["node-1", "worker.example.org", "node-2", "node-3", "k8s-a"]),
            ("fd00::a:0:0:1", ["node-2", "worker.example.org", "node-3", "node-1", "k8s-a"]),
        ];
        for (ip, expected) in cases {
            assert_eq!(order(ip, &nodes.map(|node| (node, 0, true))), expected, "{ip}");
        }
    }

    #[test]
    fn fitness_counts_before_preference_and_preference_before_the_hash() {
        let nodes =
            [("node-1", 0, true), ("node-2", 100, false), ("node-3", 1, true), ("k8s-a", 50, true)];
        assert_eq!(order("192.0.2.1", &nodes), ["k8s-a", "node-3", "node-1", "node-2"]);
    }

    #[test]
    fn who_serves_every_service_comes_before_who_serves_some_whatever_the_preference() {
        let nodes =
            [("a-partial", 100, true), ("b-partial", 0, true), ("c", 0, true), ("d", 100, false)];
        assert_eq!(order("192.0.2.1", &nodes), ["c", "a-partial", "b-partial", "d"]);
    }

    #[test]
    fn every_node_is_first_for_about_its_share_of_the_addresses() {
        let mut first = [0; 4];
        for host in 0..1000_u32 {
            let ip = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host));
            let best = (0..4).min_by_key(|node| rank(&format!("node-{node}"), ip)).unwrap();
            first[best] += 1;
        }
        assert!(first.iter().all(|count| (200..300).contains(count)), "{first:?}");
    }

    #[test]
    fn two_nodes_of_one_name_still_have_an_order() {
        let rank = rank("node-1", "192.0.2.1".parse().unwrap());
        let [first, second] =
            [[1; 16], [2; 16]].map(|id| Priority::new(true, Merit::default(), rank, id));
        assert!(first < second);
    }
}
