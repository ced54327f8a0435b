//! BFD: whether a router is still there, known within milliseconds (RFC 5880, 5881, 5883).
//!
//! Asynchronous mode, single and multi hop, without authentication, demand mode and echo. Pure:
//! `kernel` owns the sockets, the speaker the clock. When a session goes down, the speaker tells the BGP
//! session with the same router by [`bgp::Event::BfdDown`](crate::bgp::Event::BfdDown).

mod packet;
mod session;
mod settings;

pub use packet::{Diagnostic, Discard, LENGTH, Packet, State};
pub use session::{Action, Session};
pub use settings::Settings;
