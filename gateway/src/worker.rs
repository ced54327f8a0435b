//! The data threads: one per core, each with its own event loop, listeners, timers and clock.
//!
//! Workers share nothing but the live snapshot and what it points to. The controller talks to a worker by
//! [`thread::Command`]s only. `clock`, `timeouts`, `counters`, `header_case`, `local_address`, `listener` and `context` are
//! what `http` and `upstream` build on; `accept`, `thread` and `watchdog` build on those two.

pub(crate) mod accept;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod header_case;
pub(crate) mod in_flight;
pub(crate) mod listener;
pub(crate) mod local_address;
pub(crate) mod rate_table;
pub(crate) mod series;
pub(crate) mod thread;
pub(crate) mod timeouts;
pub(crate) mod watchdog;
