//! Which address belongs to which node, and the protocols that say so to the network.
//!
//! The way of an address: [`Pool::parse`] reads what may be given away, [`allocate`] gives it to
//! claims, [`plan()`] decides what this node has to announce, and the [`Speaker`] makes it true on
//! the interfaces. Everything but `speaker` and `io` is pure: no clock, no socket, no log; state
//! machines take `now` and return actions.
//!
//! The gateway calls this crate; this crate knows nothing of it, nor of any Kubernetes object but
//! the `metallb.io` specs in [`api`]. A claim is an opaque id with constraints.

#![deny(unsafe_code)]

mod alloc;
pub mod api;
mod arp;
pub mod bfd;
pub mod bgp;
mod burst;
mod fence;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod group;
mod holdings;
mod io;
mod jitter;
mod links;
mod ndp;
mod neighbour;
mod nftables;
mod plan;
mod pool;
mod ranges;
mod refusal;
mod relay;
mod router_discovery;
mod speaker;
mod speaker_bgp;

pub use alloc::{
    Allocation, Assignment, Claim, ClaimId, Families, PoolUsage, QUARANTINE, Quarantine, Resting,
    Sharing, TrafficPolicy, allocate, usage,
};
pub use group::{GroupKey, Routed};
pub use io::loopback::SharedLoopback;
pub use plan::{
    EXCLUDE_LABEL, Exclusion, Interfaces, NodeFacts, Planned, Step, Vip, VipPlan, Wanted,
    advertisement_refusals, diff, plan,
};
pub use pool::{Pool, Tenant, overlaps};
pub use ranges::{AddressSet, Family};
pub use refusal::Refusal;
pub use speaker::{
    DEFAULT_GROUP_PORT, GroupOptions, Health, MemberStatus, RoutedAddresses, Speaker,
    SpeakerCounters, SpeakerEvent, SpeakerOptions, SpeakerStatus, VipStatus,
};
pub use speaker_bgp::{
    BGP_PORT, BfdPackets, BfdStatus, BgpEvent, BgpSpeaker, BgpSpeakerOptions, BgpStatus, Messages,
    PeerStatus, Prefixes,
};
