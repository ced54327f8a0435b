//! Kubernetes objects in, route table out.
//!
//! ```text
//!  Objects ──> translate/{ingress,openshift} ─> RouteRule ─> admit ┬─> GatewayTable (one per scope): RouteTable + CertBindings
//!  (objects.rs)                                                    │
//!       └────> endpoints.rs ─> Backend ────────────────────────────┴─> BackendTable          + statuses + problems
//! ```
//!
//! Everything here is pure: no clock, no socket, no random number, no log line. The one mutable thing
//! is [`stats`]: counters that outlive a table and are carried from one compile to the next.

#![forbid(unsafe_code)]

pub mod action;
pub mod admit;
pub mod annotations;
pub mod balance;
pub mod canary;
mod class;
pub mod compile;
pub mod convert;
pub mod cookie;
pub mod encoded_slash;
pub mod endpoints;
pub mod explain;
pub mod filter;
pub mod host;
pub mod matcher;
pub mod model;
pub mod networks;
pub mod objects;
pub mod openshift;
pub mod options;
mod parts;
pub mod passthrough;
pub mod path;
pub mod policy;
pub mod problem;
mod references;
pub mod rule;
pub mod selector;
pub mod server_names;
mod slots;
pub mod stats;
pub mod table;
pub mod template;
#[cfg(test)]
mod testing;
mod translate;
pub mod transport;
