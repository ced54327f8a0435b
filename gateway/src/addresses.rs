//! The virtual addresses of this node: held on a link (L2) or announced to routers (BGP).
//!
//! `controller` hands over every new plan and hears what became of it; `app` starts the two speakers.

pub(crate) mod bgp;
pub(crate) mod draining;
pub(crate) mod group;
pub(crate) mod heartbeats;
pub(crate) mod l2;
