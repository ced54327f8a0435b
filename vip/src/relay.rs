//! Relays: after a planned move, connections that began on the old owner are passed on to it.
//!
//! `holdings` says which relays are wanted, the speaker makes the kernel's those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Where the segments go: to a neighbour on a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Relay {
    /// Index and name of the interface by which the segments come, and go again.
    pub(crate) device: (u32, String),
    /// The old owner's own address on that link, of the family of the relayed addresses.
    pub(crate) via: IpAddr,
}

/// The virtual addresses that each relay is for.
pub(crate) type Relays = BTreeMap<Relay, BTreeSet<IpAddr>>;
