//! The forward paths in the kernel: one netlink socket that owns one table of nf_tables.
//!
//! Only the speaker calls this. What to send is decided by [`crate::l2::forward_old`]. The table goes with the
//! socket, so that a killed process leaves no path behind. Needs `CAP_NET_ADMIN` in the network
//! namespace's user namespace, Linux 5.12, and nf_tables with the family netdev and `fwd`.

use std::{collections::BTreeSet, io, net::IpAddr};

use super::{Failure, Transactions};
use crate::{
    forwarding,
    kernel::sock_diag,
    l2::forward_old::{Connection, ForwardPaths, Ruleset},
};

/// The kernel's paths; opened at the first need, in the network namespace of the calling thread.
#[derive(Debug, Default)]
pub(crate) struct Nft {
    table: Option<Table>,
}

impl Nft {
    /// Makes the kernel's paths those of `wanted`, in one transaction, and notes of own connections
    /// survive it while any path stands. Does nothing if they are.
    ///
    /// It waits while another program is changing nf_tables. On an
    /// error the paths are those of before, or none if that is not certain. Kinds of errors:
    /// `PermissionDenied`; `Unsupported`, if this kernel cannot do it at all; `NotFound`, if a device
    /// is not there (before Linux 6.16); `InvalidInput`, if an address and its next hop are of different
    /// families.
    pub(crate) fn apply(&mut self, wanted: &ForwardPaths) -> io::Result<()> {
        match self.table {
            None if wanted.values().all(BTreeSet::is_empty) => return Ok(()),
            None => self.table = Some(Table::open()?),
            Some(_) => {}
        }
        self.with_table(|table| table.change(wanted))
    }

    /// The open connections of this node on those of the addresses that are forwarded, which
    /// [`apply`](Self::apply) cannot know. Walks over all TCP sockets of the namespace, and where Services are passed on by
    /// the kernel over all connections that it tracks.
    pub(crate) fn connections(&self, vips: &BTreeSet<IpAddr>) -> io::Result<Vec<Connection>> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        let forwarded = |vip: &IpAddr| table.rules.forwards(*vip);
        let forwarded: BTreeSet<_> = vips.iter().copied().filter(forwarded).collect();
        if forwarded.is_empty() {
            return Ok(Vec::new());
        }
        let sockets = sock_diag::connections(&forwarded);
        let mut connections =
            sockets.map_err(|error| table.transactions.described("list TCP connections", error))?;
        if !table.transactions.counters(forwarding::TABLE)?.is_empty() {
            let passed_on = table.transactions.passed_on(&forwarded)?;
            let passed_on = passed_on.into_iter();
            connections.extend(passed_on.map(|(local, remote)| Connection { local, remote }));
        }
        Ok(connections)
    }

    /// Keeps these connections here, though they began before their address was forwarded.
    pub(crate) fn keep(&mut self, connections: &[Connection]) -> io::Result<()> {
        self.with_table(|table| table.keep(connections))
    }

    fn with_table(
        &mut self,
        action: impl FnOnce(&mut Table) -> Result<(), Failure>,
    ) -> io::Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        action(table).map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Unknown(error) => {
                // Closing the socket leaves nothing, and that is certain.
                self.table = None;
                error
            }
        })
    }
}

#[derive(Debug)]
struct Table {
    transactions: Transactions,
    name: String,
    rules: Ruleset,
}

impl Table {
    fn open() -> io::Result<Self> {
        let transactions =
            Transactions::open("forwarding", "Linux 5.12 with nf_tables, netdev and fwd")?;
        // Called after the socket's number, so as not to meet the table of another process, or one
        // that is about to go.
        let name = format!("gatehouse-{}", transactions.port());
        Ok(Self { transactions, name, rules: Ruleset::default() })
    }

    fn change(&mut self, wanted: &ForwardPaths) -> Result<(), Failure> {
        let changed = self.rules.change(&self.name, wanted);
        let changed = changed.map_err(|mixed| {
            Failure::Refused(io::Error::new(io::ErrorKind::InvalidInput, mixed))
        })?;
        let Some((batch, rules)) = changed else { return Ok(()) };
        self.transactions.commit(batch)?;
        self.rules = rules;
        Ok(())
    }

    fn keep(&self, connections: &[Connection]) -> Result<(), Failure> {
        self.rules
            .keep(&self.name, connections)
            .map_or(Ok(()), |batch| self.transactions.commit(batch))
    }
}

#[cfg(test)]
mod tests;
