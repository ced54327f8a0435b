//! Runtime facts that must survive a swap of the table: atomics only, totals over every core.
//!
//! A compile carries these handles over by key (endpoint address), so that a reload forgets
//! neither load nor counts. Nothing here is read by the compiler.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// What is known about one endpoint at run time.
#[derive(Debug, Default)]
pub struct EndpointStats {
    /// Requests sent so far.
    pub requests: AtomicU64,
    /// Connects or exchanges that failed so far.
    pub failures: AtomicU64,
    /// Times that it was ejected so far.
    pub ejections: AtomicU64,
    /// What the data path makes of the last connects, in a form of its own; 0: nothing speaks against it.
    pub health: AtomicU64,
    /// Requests whose outcome counts for or against it, where its answers are judged.
    pub judged: AtomicU64,
    /// Those of them that it failed.
    pub faults: AtomicU64,
    /// Failures in a row, where its answers are judged.
    pub faults_in_a_row: AtomicU32,
}
