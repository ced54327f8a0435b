//! The only places that touch the network: `netlink` for addresses, `link` for raw frames, `heartbeat`
//! for the group's datagrams, `nft` for relays and `diag` for connections that need them, `sysctl` for
//! what interfaces answer; and `wait` and `thread` for the speaker's thread itself.
//!
//! Only the speaker calls them. They decide nothing.

mod diag;
pub(crate) mod heartbeat;
pub(crate) mod link;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod sysctl;
pub(crate) mod thread;
pub(crate) mod wait;

#[cfg(test)]
mod netns_tests;
