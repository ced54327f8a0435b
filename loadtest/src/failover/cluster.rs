//! What a trial needs to know of the nodes that share an address.
//!
//! Implemented for gatehouse and for keepalived; used by the trials only.

use std::net::IpAddr;

use gatehouse_testbed::lan::Host;

use super::Strike;

/// Three nodes on a link.
pub(super) trait Cluster {
    /// The name in the report.
    fn name(&self) -> &'static str;

    /// Where the clients are.
    fn client(&self) -> &Host;

    /// Waits until all nodes take part and `vip` has one owner; says which.
    fn whole(&mut self, vip: IpAddr) -> anyhow::Result<usize>;

    /// Strikes a node; returns at once.
    fn strike(&mut self, node: usize, strike: Strike) -> anyhow::Result<()>;

    /// Undoes a strike; the node may not have come back yet when this returns.
    fn repair(&mut self, node: usize, strike: Strike) -> anyhow::Result<()>;

    /// What helps to understand a failure.
    fn describe(&self) -> String;
}
