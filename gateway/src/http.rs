//! From a client's connection to a backend's answer.
//!
//! `conn` drives a connection, `proxy` a request (read it from top to bottom), `exchange` its way to
//! an endpoint, `head` decides what is a request at all. `head_scanner`, `frame_guard` and `io` protect us from clients, `respond` words our refusals. `filter`
//! is what a rule does to a request besides sending it on.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod client_certificate;
pub(crate) mod client_identity;
pub(crate) mod conn;
pub mod error;
pub(crate) mod exchange;
pub(crate) mod filter;
pub(crate) mod frame_guard;
pub(crate) mod grpc;
pub(crate) mod head;
pub(crate) mod head_scanner;
pub(crate) mod headers;
pub(crate) mod io;
mod keep_body;
pub(crate) mod proxy;
pub(crate) mod record;
pub(crate) mod respond;
pub(crate) mod router_fields;
mod steer;
pub(crate) mod streams;
pub(crate) mod upgrade;
