//! What a BGP router says that breaks the rules, and the answer that the RFCs have for it.
//!
//! Tables alone, built without the codec of any speaker. The tests of the session machine in `vip` read them
//! in virtual time; `vip/tests/bgp_hostile` sends them over TCP. Both use the same rows, so a rule that holds
//! in the state machine holds on the wire.

#![allow(clippy::unwrap_used, reason = "the tables are constants of the tests")]

pub mod messages;
pub mod updates;
