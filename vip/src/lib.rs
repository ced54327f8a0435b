//! Which address belongs to which node, and the protocols that say so to the network.
//!
//! The way of an address: [`Pool::parse`] reads what may be given away, [`allocate`] gives it to
//! claims, [`plan()`] decides what this node has to announce, and the [`Speaker`] makes it true on
//! the interfaces. Everything but `kernel` and the two speakers (`l2::speaker`, `bgp::speaker`) is
//! pure: no clock, no socket, no log; state machines take `now` and return actions.
//!
//! The gateway calls this crate; this crate knows nothing of it, nor of any Kubernetes object but
//! the `metallb.io` specs in [`api`]. A claim is an opaque id with constraints.

#![deny(unsafe_code)]

mod alloc;
pub mod api;
pub mod bgp;
mod event;
pub mod forwarding;
mod interface_name;
mod kernel;
mod l2;
mod links;
mod nftables;
mod plan;
mod pool;
mod problem;
#[cfg(any(test, fuzzing))]
pub mod testing;

pub use alloc::{
    Allocation, Assignment, Claim, ClaimId, Families, PoolUsage, QUARANTINE, Quarantine,
    Quarantined, Sharing, Strangers, TrafficPolicy, allocate, follow, part, usage,
};
pub use bgp::{
    bfd,
    speaker::{
        BGP_PORT, BfdPackets, BfdState, BfdStatus, BgpSpeaker, BgpSpeakerOptions, BgpStatus,
        Messages, PeerStatus, Prefixes,
    },
};
pub use event::{BgpEvent, SpeakerEvent};
pub use kernel::{
    loopback::SharedLoopback, nftables::forwarding::ForwardingTable, sysctl::SharedSysctls,
    turn::Health,
};
pub use l2::{
    group::{GroupKey, LONGEST_NOTE, MemberState, Note, Routed},
    local_state::LocalState,
    speaker::{
        DEFAULT_GROUP_PORT, GroupOptions, MemberStatus, NoteSink, Predecessor, RoutedAddresses,
        Speaker, SpeakerCounters, SpeakerOptions, SpeakerStatus, VipStatus,
    },
};
pub use plan::{
    EXCLUDE_LABEL, Exclusion, Interfaces, NodeFacts, Planned, Step, Vip, VipPlan, Wanted,
    advertisement_refusals, diff, plan,
};
pub use pool::{
    Pool, Tenant,
    ranges::{AddressSet, Family},
};
pub use problem::Problem;
