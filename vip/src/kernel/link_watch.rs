//! The interfaces and addresses of this node, kept as the kernel shows them.
//!
//! Each speaker's thread owns one [`LinkWatch`] and calls [`look`](LinkWatch::look) in every turn. It reads
//! notices, and lists everything now and then: soon after notices were lost or an address of this
//! process has gone, again after a list that failed, and from time to time anyway, so that nothing that
//! was missed stays missed for long. What follows from a change is the caller's business.

use std::{
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use crate::{
    kernel::{
        loopback::LoopbackUser,
        netlink::{Netlink, Notices},
    },
    links::{
        Links,
        change::{Change, Failure},
    },
};

/// Between two lists of the interfaces while they keep changing.
const LIST_INTERVAL: Duration = Duration::from_millis(50);
/// Between two lists while nothing seems to change.
const LIST_ANYWAY: Duration = Duration::from_secs(30);
/// After a list that failed, or notices that could not be read.
const LIST_AGAIN: Duration = Duration::from_secs(1);

/// The interfaces and addresses of this node.
pub(crate) struct LinkWatch {
    /// As last seen; the owner notes its own changes here.
    pub(crate) links: Links,
    /// What this speaker needs on `lo`.
    pub(crate) loopback: LoopbackUser,
    netlink: Netlink,
    list_at: Instant,
}

impl LinkWatch {
    /// Opens netlink in the network namespace of the calling thread; nothing is listed yet.
    pub(crate) fn open(loopback: LoopbackUser, now: Instant) -> io::Result<Self> {
        let netlink = Netlink::open()?;
        Ok(Self { links: Links::default(), loopback, netlink, list_at: now })
    }

    /// Takes in what has changed; whether anything has.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        let mut changed = self.read_notices(now);
        if now >= self.list_at {
            changed |= self.list(now).unwrap_or_else(|error| {
                warn!(%error, "interfaces cannot be listed");
                false
            });
        }
        changed
    }

    /// Lists everything; whether that is different from what was known.
    pub(crate) fn list(&mut self, now: Instant) -> io::Result<bool> {
        self.list_at = now + LIST_AGAIN;
        let links = self.netlink.links()?;
        self.list_at = now + LIST_ANYWAY;
        let changed = links != self.links;
        self.links = links;
        Ok(changed)
    }

    /// Lists everything at the next [`look`](Self::look).
    pub(crate) fn list_soon(&mut self, now: Instant) {
        self.list_at = now;
    }

    /// Makes the speaker's changes, in this order; what came of each. On the loopback interface the other
    /// speaker may need the same addresses.
    pub(crate) fn change(&mut self, changes: &[Change]) -> Vec<Result<(), Failure>> {
        let lo = self.links.loopback().map(|lo| lo.index);
        self.loopback.change(&mut self.netlink, lo, changes)
    }

    /// When to look at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        self.list_at
    }

    /// What to wait for.
    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.netlink.watch()
    }

    /// Some at a time: the caller has other things to do, and waits no longer while there are more.
    fn read_notices(&mut self, now: Instant) -> bool {
        match self.netlink.notices() {
            Ok(Notices::Changes(notices)) => {
                let mut changed = false;
                for notice in notices {
                    // Not in order with what this thread did meanwhile, so only a list tells.
                    if self.links.takes_ours(&notice) {
                        self.list_at = self.list_at.min(now + LIST_INTERVAL);
                    }
                    changed |= self.links.apply(notice);
                }
                changed
            }
            Ok(Notices::Lost) => {
                self.list_at = self.list_at.min(now + LIST_INTERVAL);
                false
            }
            Err(error) => {
                debug!(%error, "notices of the interfaces cannot be read");
                self.list_at = self.list_at.min(now + LIST_AGAIN);
                false
            }
        }
    }
}
