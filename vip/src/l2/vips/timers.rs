//! Which addresses have to be looked at, and when: so that a wake-up costs what is due, not what there
//! is.
//!
//! `Vips` notes a deadline for each address and whatever has been touched meanwhile. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

/// Deadlines of addresses, in order.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    touched: BTreeSet<IpAddr>,
    order: BTreeSet<(Instant, IpAddr)>,
    deadlines: BTreeMap<IpAddr, Instant>,
}

impl TimerQueue {
    /// Has an address looked at as soon as possible.
    pub(super) fn touch(&mut self, ip: IpAddr) {
        self.touched.insert(ip);
    }

    /// Has an address looked at at a deadline, in place of the one before; `None`: no more.
    pub(super) fn set(&mut self, ip: IpAddr, deadline: Option<Instant>) {
        let former = match deadline {
            Some(deadline) => self.deadlines.insert(ip, deadline),
            None => self.deadlines.remove(&ip),
        };
        if let Some(former) = former {
            self.order.remove(&(former, ip));
        }
        self.order.extend(deadline.map(|deadline| (deadline, ip)));
    }

    /// The addresses to look at, each once.
    pub(super) fn take(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        while let Some(&(deadline, ip)) = self.order.first().filter(|(at, _)| *at <= now) {
            self.order.remove(&(deadline, ip));
            self.deadlines.remove(&ip);
            self.touched.insert(ip);
        }
        std::mem::take(&mut self.touched)
    }

    /// Whether something has been touched.
    pub(super) fn pending(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The first deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|(deadline, _)| *deadline)
    }
}
