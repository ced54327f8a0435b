//! BGP: which addresses each router hears of, and the sessions that tell it.
//!
//! From objects to bytes: [`spec`] are the `metallb.io` specs as written, [`Peer::parse`] and
//! [`Advertisement::parse`] understand them or refuse them object by object, [`peers_for`] picks
//! the routers of one node. Everything is pure: `io` owns the sockets, the speaker the clock.
//!
//! Nothing here may fail on what a router sends, or keep it: received routes are checked, counted
//! and forgotten.

mod advertisement;
mod community;
mod peer;
pub mod spec;

pub use advertisement::{Advertisement, PoolFacts};
pub use community::{Aliases, Community};
pub use peer::{Families, Password, Peer, PeerAddress, RemoteAsn, peers_for};
