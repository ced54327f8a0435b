//! What most tests begin with: a node and routers on one switch, and objects that make them peers.

use gatehouse_testbed::routers::{Config, Kind, Peer, Router, lab::Lab};
use gatehouse_vip::bgp::spec::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec};

use crate::{node::Node, process::Desired};

/// ASN of the node.
pub(crate) const NODE_ASN: u32 = 64512;
/// Of the node, on the switch.
pub(crate) const NODE: &str = "10.79.0.10";
pub(crate) const NODE6: &str = "2001:db8:79::10";

pub(crate) const VIP: &str = "203.0.113.10";
pub(crate) const ROUTE: &str = "203.0.113.10/32";
pub(crate) const VIP6: &str = "2001:db8:80::10";
pub(crate) const ROUTE6: &str = "2001:db8:80::10/128";

/// Whether the routers are of the node's AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asn {
    Internal,
    External,
}

/// The name of a router: of its host, and of the `BGPPeer`.
pub(crate) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Frr => "frr",
        Kind::Bird => "bird",
        Kind::GoBgp => "gobgp",
        Kind::ExaBgp => "exabgp",
    }
}

/// The last number of its addresses.
fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Frr => 1,
        Kind::Bird => 2,
        Kind::GoBgp => 3,
        Kind::ExaBgp => 4,
    }
}

pub(crate) fn at(kind: Kind) -> String {
    format!("10.79.0.{}", number(kind))
}

pub(crate) fn at6(kind: Kind) -> String {
    format!("2001:db8:79::{}", number(kind))
}

impl Asn {
    pub(crate) fn of(self, kind: Kind) -> u32 {
        match self {
            Self::Internal => NODE_ASN,
            Self::External => 64500 + u32::from(number(kind)),
        }
    }

    /// What a router sees before the node's routes.
    pub(crate) fn path(self) -> &'static [u32] {
        match self {
            Self::Internal => &[],
            Self::External => &[NODE_ASN],
        }
    }
}

/// A switch with the node and hosts for routers on it.
pub(crate) fn hosts(kinds: &[Kind]) -> Lab {
    let mut hosts = vec![("node", 10)];
    hosts.extend(kinds.iter().map(|&kind| (name(kind), number(kind))));
    Lab::new(&hosts)
}

/// The node as a neighbour of a router, for both families.
pub(crate) fn node_at(at: &str, local: &str) -> Peer {
    Peer { v4: true, v6: true, ..Peer::new(at, NODE_ASN).from(local) }
}

/// Starts routers that expect the node at its IPv4 address.
pub(crate) fn routers<'a>(
    lab: &'a Lab,
    kinds: &[Kind],
    asn: Asn,
    set: impl Fn(&mut Peer),
) -> Vec<Router<'a>> {
    let start = |kind: &Kind| {
        let mut peer = node_at(NODE, &at(*kind));
        set(&mut peer);
        router(lab, *kind, asn, vec![peer])
    };
    kinds.iter().map(start).collect()
}

pub(crate) fn router(lab: &Lab, kind: Kind, asn: Asn, peers: Vec<Peer>) -> Router<'_> {
    let config = Config::new(asn.of(kind), [10, 79, 0, number(kind)], peers);
    lab.router(kind, name(kind), config)
}

/// A `BGPPeer` for a router at an address, as impatient as the lab's routers.
pub(crate) fn peer(at: &str, asn: u32) -> BgpPeerSpec {
    BgpPeerSpec {
        my_asn: NODE_ASN,
        peer_asn: asn,
        peer_address: at.to_owned(),
        hold_time: Some("9s".into()),
        keepalive_time: Some("3s".into()),
        connect_time: Some("1s".into()),
        ..BgpPeerSpec::default()
    }
}

impl Desired {
    /// Sessions with these routers over IPv4, and one address of each family for all of them.
    pub(crate) fn new(kinds: &[Kind], asn: Asn) -> Self {
        let peer = |&kind: &Kind| (name(kind).to_owned(), peer(&at(kind), asn.of(kind)));
        Self {
            peers: kinds.iter().map(peer).collect(),
            advertisements: [("all".to_owned(), BgpAdvertisementSpec::default())].into(),
            addresses: [VIP, VIP6].map(|ip| ip.parse().unwrap()).into(),
            ..Self::default()
        }
    }

    /// The same, after a change of every peer.
    pub(crate) fn with(mut self, set: impl Fn(&mut BgpPeerSpec)) -> Self {
        self.peers.values_mut().for_each(set);
        self
    }

    /// The same, with BFD for all peers.
    pub(crate) fn with_bfd(mut self, interval: u32, multiplier: u32) -> Self {
        let profile = BfdProfileSpec {
            receive_interval: Some(interval),
            transmit_interval: Some(interval),
            detect_multiplier: Some(multiplier),
            ..BfdProfileSpec::default()
        };
        self.profiles.insert("fast".into(), profile);
        self.with(|peer| peer.bfd_profile = "fast".into())
    }
}

/// Waits until both ends say that the session is up, for all routers.
pub(crate) fn assert_up(node: &mut Node, routers: &[Router<'_>]) {
    for router in routers {
        node.wait_up(name(router.kind), true);
        router.wait_established(&router.config.peers[0].at, true);
    }
}

/// Waits until all routers have a route, or until none has.
pub(crate) fn assert_route(routers: &[Router<'_>], prefix: &str, wanted: bool) {
    for router in routers {
        router.wait_route(prefix, |route| route.is_some() == wanted);
    }
}
