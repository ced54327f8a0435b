//! Addresses, statuses, Events and the election, against a real API server.
//!
//! One cluster for all tests; each has a namespace, pools and a Lease of its own, by `--watch-namespace` and
//! `--lease-namespace`. Nothing is announced: no pool has an L2Advertisement.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod bed;
mod leaders;
mod others;
mod scale;
mod statuses;
mod storm;
