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
mod holdings;
mod io;
mod jitter;
mod links;
mod ndp;
mod plan;
mod pool;
mod ranges;
mod refusal;
mod speaker;

pub use alloc::{Allocation, Assignment, Claim, ClaimId, Families, allocate};
pub use plan::{Interfaces, NodeFacts, Step, Vip, VipPlan, advertisement_refusals, diff, plan};
pub use pool::{Pool, overlaps};
pub use ranges::{AddressSet, Family};
pub use refusal::Refusal;
pub use speaker::{Speaker, SpeakerEvent, SpeakerOptions};
