//! What a group sends, and where to.

use std::net::SocketAddr;

use crate::links::LinkFacts;

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// All members on the link.
    Multicast,
    /// A member that multicast may not reach.
    Peer(SocketAddr),
}

/// A UDP payload to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// Index of the interface to send it from.
    pub(crate) link: u32,
    pub(crate) to: Destination,
    pub(crate) bytes: Vec<u8>,
}

/// Where a datagram goes on a link where this node has these addresses.
pub(super) fn destinations(peers: &[SocketAddr], link: u32, facts: &LinkFacts) -> Vec<Destination> {
    let reachable = |peer: &&SocketAddr| match peer {
        SocketAddr::V4(_) => facts.v4.is_some(),
        SocketAddr::V6(peer) => facts.v6.is_some() && [0, link].contains(&peer.scope_id()),
    };
    let peers = peers.iter().filter(reachable).map(|peer| Destination::Peer(*peer));
    std::iter::once(Destination::Multicast).chain(peers).collect()
}
