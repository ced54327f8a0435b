//! What the two speakers tell their owner, one event at a time.
//!
//! Plain values. `l2::vips` and the drivers make them; the gateway hears them and turns them into
//! statuses, events and log lines.

use std::net::IpAddr;

use crate::problem::Problem;

/// What the speaker has done or could not do. Sent from its own thread: do not block, do not panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeakerEvent {
    /// The address is on the interface and announced to its neighbours. Again after it was moved,
    /// or restored after another program had removed it.
    Announced {
        /// The address.
        vip: IpAddr,
        /// The interface that has it.
        interface: String,
    },
    /// The address is no longer wanted, nor on any interface by our doing.
    Withdrawn {
        /// The address.
        vip: IpAddr,
    },
    /// Another node has taken the address over. It is not announced here any more, but connections
    /// that are open on it go on: end them gracefully, then say so by [`Speaker::let_go`](crate::Speaker::let_go).
    /// [`Withdrawn`](Self::Withdrawn) follows, or `Announced` if the address comes back before.
    Draining {
        /// The address.
        vip: IpAddr,
        /// The node that has it now.
        to: String,
    },
    /// The address, which is [`Routed::Leaving`](crate::Routed::Leaving), may be withdrawn from routers: the
    /// other nodes forward to this one what is open here, or took too long. Once for each time it leaves;
    /// alone, at once.
    Forwarded {
        /// The address.
        vip: IpAddr,
        /// Another node serves it.
        elsewhere: bool,
    },
    /// What was refused about the address no longer holds, though it is not announced here: it may be
    /// on another node.
    Cleared {
        /// The address.
        vip: IpAddr,
    },
    /// The address is not announced (`severe`), or not wholly as it should be. Sent once for each
    /// reason until something changes, though it is tried again.
    Refused {
        /// The address.
        vip: IpAddr,
        /// Why: `NoInterface`, `NoCarrier`, `BroadcastAddress`, `AddressInUse` (a stranger has it),
        /// `NotPermitted`, `AddressFailed`, `WithdrawFailed`, or, not severe, `AnnouncementFailed`,
        /// `ProbeFailed`, `RenewFailed`, `AddressConflict` (a stranger uses it as well),
        /// `NodeAddress` (the node has it by itself, so that it stays when it moves), `ConnectionsCut`
        /// (they cannot go on while another node has it), `RelayFailed` (those that began on another
        /// node are not passed on to it; once for the whole node) and, once for the whole node,
        /// `ArpNotStrict`.
        refusal: Problem,
    },
}

/// What the BGP speaker has done or could not do. Sent from its own thread: do not block, do not panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BgpEvent {
    /// The session with the router is up, and the router has all routes.
    Up {
        /// Name of the `BGPPeer`.
        peer: String,
    },
    /// The session with the router is no more.
    Down {
        /// Name of the `BGPPeer`.
        peer: String,
        /// Why, in words.
        reason: String,
    },
    /// The address is on the loopback interface, and routers hear of it.
    Added {
        /// The address.
        vip: IpAddr,
    },
    /// The address is withdrawn and has left the loopback interface.
    Removed {
        /// The address.
        vip: IpAddr,
    },
    /// The address cannot be on the loopback interface, so that no router hears of it. Sent once until
    /// something changes, though it is tried again.
    Refused {
        /// The address.
        vip: IpAddr,
        /// Why: `NotPermitted`, `NoLoopback`, `AddressFailed`.
        refusal: Problem,
    },
}
