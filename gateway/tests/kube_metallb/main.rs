//! MetalLB, the real one, beside Gatehouse in one cluster, and in its place in a cluster of the same objects.
//!
//! Hosts are network namespaces: both announce what they give away.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod bed;
mod beside;
mod same;
