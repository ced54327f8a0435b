//! What this program has put on interfaces, and until when the kernel keeps it at least.
//!
//! The kernel removes an address that is not renewed: nothing stays behind a process that hangs or is
//! killed. All addresses are renewed together, so that one clock serves a thousand. Pure;
//! `Vips` owns one.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// From a renewal that failed to the next one.
const RETRY: Duration = Duration::from_secs(1);

/// Addresses on interfaces by our doing.
#[derive(Debug)]
pub(super) struct Ledger {
    lifetime: Duration,
    renew_every: Duration,
    /// By interface and address: until when the kernel keeps it.
    entries: BTreeMap<(u32, IpAddr), Instant>,
    renewal: Option<Instant>,
    version: u64,
}

impl Ledger {
    pub(super) fn new(lifetime: Duration, renew_every: Duration) -> Self {
        Self { lifetime, renew_every, entries: BTreeMap::new(), renewal: None, version: 0 }
    }

    /// From now on addresses are put on for so long, and renewed so often; those that were put on for
    /// longer are renewed at once.
    pub(super) fn pace(&mut self, lifetime: Duration, renew_every: Duration, now: Instant) {
        if lifetime < self.lifetime && self.renewal.is_some() {
            self.renewal = Some(now);
        }
        (self.lifetime, self.renew_every) = (lifetime, renew_every);
    }

    /// Notes an address that has been put on an interface with the lifetime.
    pub(super) fn added(&mut self, index: u32, ip: IpAddr, now: Instant) {
        self.entries.insert((index, ip), now + self.lifetime);
        self.version += 1;
        self.renewal.get_or_insert(now + self.renew_every);
    }

    /// Notes an address that a predecessor has put there: it may not have long to live, so it is
    /// renewed at once.
    pub(super) fn adopted(&mut self, index: u32, ip: IpAddr, now: Instant) {
        self.entries.insert((index, ip), now + self.renew_every);
        self.version += 1;
        self.renewal = Some(now);
    }

    /// Notes that an address is gone; until when it should have been there.
    pub(super) fn removed(&mut self, index: u32, ip: IpAddr) -> Option<Instant> {
        let until = self.entries.remove(&(index, ip));
        self.version += u64::from(until.is_some());
        if self.entries.is_empty() {
            self.renewal = None;
        }
        until
    }

    /// Notes that addresses have been renewed; those that are no longer here were removed since.
    pub(super) fn renewed(&mut self, addresses: &[(u32, IpAddr)], now: Instant) {
        for entry in addresses {
            if let Some(until) = self.entries.get_mut(entry) {
                *until = now + self.lifetime;
            }
        }
    }

    /// Addresses whose time has run out, because they were not renewed.
    pub(super) fn expired(&self, now: Instant) -> Vec<(u32, IpAddr)> {
        let expired = self.entries.iter().filter(|(_, until)| **until <= now);
        expired.map(|(entry, _)| *entry).collect()
    }

    /// All addresses, if they are to be renewed now.
    pub(super) fn renew(&mut self, now: Instant) -> Option<Vec<(u32, IpAddr)>> {
        self.renewal.filter(|renewal| *renewal <= now)?;
        self.renewal = Some(now + self.renew_every);
        Some(self.entries.keys().copied().collect())
    }

    /// A renewal has failed: all are renewed again before their time is over.
    pub(super) fn hurry(&mut self, now: Instant) {
        let soon = now + RETRY.min(self.renew_every);
        self.renewal = self.renewal.map(|renewal| renewal.min(soon));
    }

    /// When the next renewal is due.
    pub(super) fn renewal(&self) -> Option<Instant> {
        self.renewal
    }

    /// The addresses, by interface.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        self.entries.keys().copied()
    }

    /// Another one when an address has come or gone.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How many addresses there are; one on two interfaces counts twice.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests start somewhere in time")]

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn addresses_that_are_to_live_shorter_are_renewed_at_once() {
        let (start, ip) = (Instant::now(), "192.0.2.1".parse().unwrap());
        let mut ledger = Ledger::new(seconds(10), seconds(8));
        ledger.pace(seconds(2), seconds(1), start);
        assert_eq!(ledger.renewal(), None, "there is none");
        ledger.pace(seconds(10), seconds(8), start);
        ledger.added(2, ip, start);
        assert_eq!(ledger.renewal(), Some(start + seconds(8)));
        ledger.pace(seconds(2), seconds(1), start + seconds(3));
        assert_eq!(ledger.renew(start + seconds(3)), Some(vec![(2, ip)]));
        assert_eq!(ledger.renewal(), Some(start + seconds(4)));
        // Longer lives begin with the renewal that is due anyway.
        ledger.pace(seconds(10), seconds(8), start + seconds(3));
        assert_eq!(ledger.renewal(), Some(start + seconds(4)));
    }

    #[test]
    fn a_renewal_that_failed_is_made_again_in_time() {
        let (start, ip) = (Instant::now(), "192.0.2.1".parse().unwrap());
        let mut ledger = Ledger::new(seconds(10), seconds(8));
        ledger.added(2, ip, start);
        ledger.renew(start + seconds(8));
        ledger.hurry(start + seconds(8));
        assert_eq!(ledger.renewal(), Some(start + seconds(9)));
        assert!(ledger.expired(start + seconds(9)).is_empty());
    }
}
