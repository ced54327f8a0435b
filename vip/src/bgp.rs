//! BGP: which addresses each router hears of, and the sessions that tell it.
//!
//! From objects to bytes: [`spec`] are the `metallb.io` specs as written, [`Peer::parse`] and
//! [`Advertisement::parse`] understand them or refuse them object by object, [`peers_for`] picks
//! the routers of one node. For each of them there is a [`Session`]; when it is up, [`routes`] says
//! what the router is to hear of, [`delta`] what that changes, and [`Outbound`] how it is written.
//!
//! To leave well, the speaker sends the delta to [`RibOut::shutting_down`] first (RFC 8326), then,
//! once routers have had time to turn to others, the one to an empty RIB, and then
//! [`Event::Stop`].
//!
//! Everything is pure: `kernel` owns the sockets, the speaker the clock. Nothing here may fail on what a
//! router sends, or keep it: received routes are checked, counted and forgotten.

mod advertisement;
pub(crate) mod attribute;
pub mod bfd;
pub(crate) mod capability;
mod community;
mod connection;
mod end_of_rib;
mod fsm;
pub(crate) mod header;
mod interface;
mod jitter;
pub(crate) mod message;
mod notification;
pub(crate) mod open;
mod outbound;
mod peer;
mod plan;
mod refresh;
mod report;
mod rib_out;
mod session;
mod settings;
pub(crate) mod speaker;
pub mod spec;
pub(crate) mod unnumbered;
pub(crate) mod update;

pub use advertisement::{Advertisement, PoolFacts};
pub use community::{Aliases, Community};
pub use connection::ConnectionId;
pub(crate) use end_of_rib::EndOfRib;
pub use fsm::State;
pub use interface::{Action, Event};
pub use notification::{Cease, Notification};
pub use open::Negotiated;
pub use outbound::{Encoded, NextHops, Outbound};
pub use peer::{Families, Password, Peer, PeerAddress, RemoteAsn, password_trimmed, peers_for};
pub use plan::{BgpObject, BgpObjects, BgpPlan, BgpPlanned, PeerConfig, Secret, plan};
pub use report::{MessageCounts, Reason, Report};
pub use rib_out::{Attributes, Delta, Reachable, RibOut, delta, routes};
pub use session::Session;
pub use settings::Settings;
