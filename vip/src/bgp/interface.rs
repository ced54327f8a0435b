//! What goes into a session and what comes out of it: [`Settings`], [`Event`], [`Action`].
//!
//! The contract between [`Session`](super::Session), which is pure, and the speaker, which has the
//! clock and the sockets.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::connection::ConnectionId;
use super::notification::Cease;
use super::open::Negotiated;
use super::peer::{Families, Peer, RemoteAsn};
use super::report::Reason;

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

/// What happens to a session.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Begin, or begin again after [`Event::Stop`].
    Start,
    /// End, and stay so; the text is told to the router for a shutdown or reset (RFC 9003).
    Stop(Cease, &'a str),
    /// The BFD session with the router went down.
    BfdDown,
    /// The router has dialled in: the answer is [`Action::Accept`] or [`Action::Reject`].
    Incoming,
    /// The connection asked for by [`Action::Connect`] is there.
    Opened(ConnectionId),
    /// It is not to be had, or a connection has been closed by the router or broken off.
    Failed(ConnectionId),
    /// The router has sent something.
    Bytes(ConnectionId, &'a [u8]),
    /// All that was to be sent on the connection has left the socket's buffer.
    Flushed(ConnectionId),
    /// Time has passed.
    Tick,
}

/// What a session wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial the router.
    Connect(ConnectionId),
    /// The incoming connection is taken, by this name.
    Accept(ConnectionId),
    /// Close the incoming connection.
    Reject,
    /// Send these octets, whole, after what is still to be sent.
    Send(ConnectionId, Vec<u8>),
    /// Send what is still to be sent, without waiting for the router, and close; or stop dialling.
    Close(ConnectionId),
    /// The session is up: send all routes on this connection, then End-of-RIB if it is agreed on.
    Up(ConnectionId, Negotiated),
    /// The session that was up is no more.
    Down(Reason),
    /// The router wants all routes of these families again.
    Refresh(Families),
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
