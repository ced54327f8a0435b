//! What goes into a session and what comes out of it: [`Event`], [`Action`].
//!
//! The contract between [`Session`](super::Session), which is pure, and the speaker, which has the
//! clock and the sockets.

use super::{
    connection::ConnectionId, notification::Cease, open::Negotiated, peer::Families, report::Reason,
};

/// What happens to a session.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Begin, or begin again after [`Event::Stop`].
    Start,
    /// End, and stay so; the text goes to the router for a shutdown or reset (RFC 9003).
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
