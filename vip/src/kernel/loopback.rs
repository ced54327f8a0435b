//! Makes the changes to the loopback interface that both speakers of a process ask for.
//!
//! The gateway makes one [`SharedLoopback`] and gives it to both speakers; each speaker's `LinkWatch` has a
//! [`LoopbackUser`] of it, which can speak for that speaker alone. What a change comes to is decided in one
//! place, the [`LoopbackTable`] behind the lock; nothing is decided here.
//!
//! The table is shared by a lock, and there is no thread that owns the interface: in a planned move the L2
//! speaker puts an address on `lo` and takes it off the link in one batch, and has to know the outcome of the
//! first before the second. Asking another thread would add that thread's turn to every move, and a turn of
//! the BGP thread lasts as long as 256 changes and all sessions do. So both speakers make their changes by
//! themselves, each by its own netlink socket. The lock is held for look-ups in the table, never for a system
//! call; a speaker waits only for an address that the other one is taking off at that very moment.

use std::{
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    kernel::netlink::Netlink,
    links::{
        change::{Change, Failure},
        loopback::{LoopbackTable, LoopbackUse},
    },
};

/// Longest that a speaker waits until the other one has taken an address off; far longer than that takes,
/// and less than the nodes of a group wait for a heartbeat.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The addresses of both speakers of a process on its loopback interface.
///
/// Clones are the same one. A speaker that is given one of its own shares with no other.
#[derive(Clone, Debug, Default)]
pub struct SharedLoopback(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<LoopbackTable>,
    /// Notified when addresses have been taken off.
    taken_off: Condvar,
}

/// A [`SharedLoopback`] as one speaker uses it.
#[derive(Debug)]
pub(crate) struct LoopbackUser {
    shared: Arc<Shared>,
    by: LoopbackUse,
}

impl SharedLoopback {
    /// For the speaker that uses addresses for this.
    pub(crate) fn user(&self, by: LoopbackUse) -> LoopbackUser {
        LoopbackUser { shared: Arc::clone(&self.0), by }
    }
}

impl LoopbackUser {
    /// Makes a speaker's changes, in this order; what came of each. Changes to other interfaces than `lo` are
    /// made as they are.
    pub(crate) fn change(
        &self,
        netlink: &mut Netlink,
        lo: Option<u32>,
        changes: &[Change],
    ) -> Vec<Result<(), Failure>> {
        let on_lo = |change: &Change| Some(change.index()) == lo;
        if !changes.iter().any(on_lo) {
            return netlink.change(changes);
        }
        let decided = self.decide(changes, on_lo);
        let to_make: Vec<_> = decided.iter().flatten().copied().collect();
        let mut made = netlink.change(&to_make).into_iter();
        let outcomes: Vec<_> = decided
            .iter()
            .map(|change| change.and_then(|_| made.next()).unwrap_or(Ok(())))
            .collect();
        let mut table = self.lock();
        for (change, outcome) in changes.iter().zip(&outcomes).filter(|(change, _)| on_lo(change)) {
            table.made(self.by, change, outcome);
        }
        drop(table);
        self.shared.taken_off.notify_all();
        outcomes
    }

    /// What each change comes to.
    fn decide(&self, changes: &[Change], on_lo: impl Fn(&Change) -> bool) -> Vec<Option<Change>> {
        let waits = |table: &mut LoopbackTable| {
            changes.iter().any(|change| on_lo(change) && table.has_to_wait(change))
        };
        let waited = self.shared.taken_off.wait_timeout_while(self.lock(), LONGEST_WAIT, waits);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let decide = |change: &Change| match on_lo(change) {
            true => table.decide(self.by, *change),
            false => Some(*change),
        };
        changes.iter().map(decide).collect()
    }

    /// This speaker does not need an address any more, whatever is on the interface.
    pub(crate) fn end_use(&self, ip: IpAddr) {
        self.lock().end_use(self.by, ip);
    }

    /// This speaker needs no addresses but those for which `keep` holds.
    pub(crate) fn retain(&self, keep: impl Fn(&IpAddr) -> bool) {
        self.lock().retain(self.by, keep);
    }

    /// A table is never half changed under the lock, so a panic spoils nothing.
    fn lock(&self) -> MutexGuard<'_, LoopbackTable> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
