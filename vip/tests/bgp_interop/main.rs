//! The BGP speaker beside real routers: FRR, BIRD, GoBGP and ExaBGP on one switch with it, all of
//! network namespaces.
//!
//! The speaker is a process of its own, so that it can be killed and held. The routers are those of
//! the test bed. Needs root, iproute2 and the Debian packages frr, bird2, gobgpd and exabgp: where one is
//! missing, the tests fail.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on the real network have threads and clocks"
)]

mod changes;
mod failures;
mod leaving;
mod node;
mod process;
mod restart;
mod routes;
mod scene;
mod sessions;
mod unnumbered;

/// Not a test by itself: the process that the tests start on the node.
#[test]
#[ignore = "the speaker's process of the other tests"]
fn node_process() {
    process::run();
}
