//! What a session needs to know of the peer and of this node.
//!
//! Made by the speaker for each session; [`Session`](super::Session) and the OPEN message read it.

use std::{net::Ipv4Addr, time::Duration};

use super::peer::{Families, Peer, RemoteAsn};

/// What one session needs to know of the peer and of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// ASN of this end.
    pub local_asn: u32,
    /// ASN that the router may have.
    pub remote_asn: RemoteAsn,
    /// BGP Identifier of this end; not zero.
    pub router_id: Ipv4Addr,
    /// Hold time to ask for; zero for none.
    pub hold_time: Duration,
    /// Longest time between keepalives.
    pub keepalive_time: Duration,
    /// Longest time between attempts, and for one.
    pub connect_time: Duration,
    /// Families to agree on.
    pub families: Families,
    /// Whether to ask the router to keep routes while this process restarts.
    pub graceful_restart: bool,
    /// Whether this process has restarted within the time that routers keep routes, with its
    /// addresses still on the node.
    pub restarted: bool,
    /// Whether the session runs over IPv6, so that IPv4 routes may need an IPv6 next hop.
    pub over_v6: bool,
    /// Whether to leave dialling to the router.
    pub passive: bool,
}

impl Settings {
    /// What a session with a peer needs to know: `router_id` is the node's, for peers that have no
    /// other one; `over_v6` and `restarted` as in the fields.
    pub fn new(peer: &Peer, router_id: Ipv4Addr, over_v6: bool, restarted: bool) -> Self {
        Self {
            local_asn: peer.local_asn,
            remote_asn: peer.remote_asn,
            router_id: peer.router_id.unwrap_or(router_id),
            hold_time: peer.hold_time,
            keepalive_time: peer.keepalive_time,
            connect_time: peer.connect_time,
            families: peer.families,
            graceful_restart: peer.graceful_restart,
            restarted: restarted && peer.graceful_restart,
            over_v6,
            passive: false,
        }
    }
}
