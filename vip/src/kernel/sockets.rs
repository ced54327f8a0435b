//! The sockets of both speakers: raw frames and heartbeats for the addresses of a link, TCP, UDP and ICMPv6
//! for routers.
//!
//! Each file opens one kind of socket and reads and writes on it; what that means is decided elsewhere.

pub(crate) mod bfd;
pub(crate) mod bgp;
pub(crate) mod frames;
pub(crate) mod heartbeat;
mod options;
pub(crate) mod router_discovery;
