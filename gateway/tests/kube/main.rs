//! Objects from a real API server: what kubectl does is live in traffic, and an API server that is away,
//! comes back or forgets costs no request.
//!
//! etcd, the API server, the gateway, its backends and its clients are on one host, a network namespace.
//! Needs root, iproute2, curl and the programs of [`gatehouse_testbed::cluster`]; fails without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test program exports nothing")]

mod bed;
mod conformance;
mod live;
mod outage;
mod turns;
mod unsteady;
mod way;
