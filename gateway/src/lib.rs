//! Gatehouse: claims virtual addresses and routes HTTP on them, from one hot-swapped configuration.
//!
//! ```text
//!  source ──> state ──> compile (pure) ──> snapshot ──> worker, tls, upstream, http, listeners  (data threads)
//!                             controller drives it ─└──> addresses (speaker threads), admin
//! ```
//!
//! Imports flow one way along that line (`.ci/imports`). `docs/ARCHITECTURE.md` is the map.

pub mod access_log;
pub(crate) mod addresses;
pub mod admin;
pub mod app;
pub mod cli;
pub mod compile;
pub mod config;
pub(crate) mod controller;
pub mod crds;
pub mod docs;
mod durable_file;
mod field_names;
mod handover;
pub mod http;
pub(crate) mod l4;
pub(crate) mod listeners;
pub mod logging;
mod overload;
mod panics;
mod passwords;
pub mod plan;
mod process;
mod regular_file;
mod shares;
pub mod snapshot;
pub mod source;
mod spool;
pub mod state;
pub mod state_file;
pub(crate) mod status;
pub(crate) mod text_table;
pub mod tls;
mod tokens;
pub(crate) mod upstream;
mod verdicts;
pub(crate) mod worker;
