//! The only places that touch the network: `netlink` for addresses, `link` for raw frames, `nft` for
//! relays, `diag` for connections.
//!
//! Only the speaker calls them. They decide nothing.

mod diag;
pub(crate) mod link;
pub(crate) mod netlink;
#[cfg_attr(not(test), expect(dead_code, reason = "the speaker does not relay yet"))]
pub(crate) mod nft;
