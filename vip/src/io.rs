//! The only places that touch the network: `netlink` for addresses, `link` for raw frames, `heartbeat`
//! for the group's datagrams, `nft` for relays and `diag` for connections that need them, `fence` for
//! the fence, `transaction` for both tables of nf_tables, `sysctl` for what interfaces answer; `loopback`
//! for the interface that both speakers use; `bgp`, `bfd` and `router_discovery` for routers; and `wait`,
//! `thread` and `errand` for threads themselves.
//!
//! Only the speakers call them. They decide nothing.

pub(crate) mod bfd;
pub(crate) mod bgp;
mod diag;
pub(crate) mod errand;
pub(crate) mod fence;
pub(crate) mod heartbeat;
pub(crate) mod link;
pub(crate) mod loopback;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod router_discovery;
mod sockopt;
pub(crate) mod sysctl;
pub(crate) mod thread;
mod transaction;
pub(crate) mod wait;

#[cfg(test)]
mod netns_tests;
#[cfg(test)]
pub(crate) mod wire_tests;
