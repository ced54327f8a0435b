//! The only places that touch the network: `netlink` for addresses, `link` for raw frames.
//!
//! Only the speaker calls them. They decide nothing.

pub(crate) mod link;
pub(crate) mod netlink;
