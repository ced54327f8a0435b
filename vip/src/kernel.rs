//! The only room that touches the network: `netlink` for interfaces and addresses, `link_watch` for what
//! has become of them, `loopback` for the interface that both speakers use, `sockets` for frames,
//! heartbeats, BGP, BFD and router discovery, `nftables` for the tables of nf_tables and `sock_diag` for the connections that they concern,
//! `sysctl` for what interfaces answer; `mailbox`, `thread`, `turn` and `wait` for the threads themselves.
//!
//! Only the speakers call it, and the gateway the table of [`crate::forwarding`]. It decides nothing.

pub(crate) mod link_watch;
pub(crate) mod loopback;
pub(crate) mod mailbox;
pub(crate) mod netlink;
pub(crate) mod nftables;
mod sock_diag;
pub(crate) mod sockets;
pub(crate) mod sysctl;
pub(crate) mod thread;
pub(crate) mod turn;
pub(crate) mod wait;

#[cfg(test)]
pub(crate) mod tests;
