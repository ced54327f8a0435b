//! What a neighbour says of an address, as read from a frame of ARP or NDP.
//!
//! `neighbour` makes it, `vips` decides what follows from it.

use std::net::IpAddr;

use crate::links::Mac;

/// What a frame says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeighbourClaim {
    /// The interface that the frame came in by.
    pub(crate) index: u32,
    /// The address that it speaks of.
    pub(crate) ip: IpAddr,
    /// The neighbour that has the address, or would like to.
    pub(crate) mac: Mac,
    /// Whether it has it.
    pub(crate) kind: ClaimKind,
}

/// How far a neighbour is with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimKind {
    /// It asks whether another node has the address (RFC 5227 §2.1.1, RFC 4862 §5.4.2).
    Probe,
    /// It uses the address.
    Claim,
}
