//! BFD: whether a router is still there, known within milliseconds (RFC 5880, 5881, 5883).
//!
//! Asynchronous mode, single and multi hop, without authentication, demand mode and echo. Pure:
//! `io` owns the sockets, the speaker the clock; a BGP session whose BFD session goes down ends with it.

mod settings;

pub use settings::Settings;
