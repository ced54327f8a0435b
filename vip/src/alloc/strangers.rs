//! Addresses that hosts outside use, though pools have them.
//!
//! The owner of the speakers tells what they found out, the time comes from outside. An address counts as
//! occupied when its stranger stayed: then [`allocate`](crate::allocate) gives Services that did not ask for
//! it another one. It is forgotten after a while, for hosts go as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

/// A stranger that is still there after this time stays: the address was asked for several times meanwhile.
const STAYS: Duration = Duration::from_secs(10);
/// For how long an address is taken for occupied after it was given up.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Addresses that hosts outside use.
#[derive(Clone, Debug, Default)]
pub struct Strangers {
    since: BTreeMap<IpAddr, Instant>,
    until: BTreeMap<IpAddr, Instant>,
    occupied: BTreeSet<IpAddr>,
}

impl Strangers {
    /// A stranger has the address, so that this node cannot.
    pub fn seen(&mut self, ip: IpAddr, now: Instant) {
        self.since.entry(ip).or_insert(now);
    }

    /// The address is held here, or elsewhere in the group, or not wanted any more.
    pub fn gone(&mut self, ip: IpAddr) {
        self.since.remove(&ip);
    }

    /// What [`allocate`](crate::allocate) is to know.
    pub fn occupied(&self) -> &BTreeSet<IpAddr> {
        &self.occupied
    }

    /// Takes note of the time; true if other addresses are occupied than before.
    pub fn turn(&mut self, now: Instant) -> bool {
        let stay = self.since.iter().filter(|(_, since)| **since + STAYS <= now);
        // As long as it is seen, the time to forget it begins anew.
        self.until.extend(stay.map(|(ip, _)| (*ip, now + REMEMBERED)));
        self.until.retain(|_, until| *until > now);
        let same = self.occupied.len() == self.until.len()
            && self.occupied.iter().all(|ip| self.until.contains_key(ip));
        if !same {
            self.occupied = self.until.keys().copied().collect();
        }
        !same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_occupied_when_its_stranger_stays_and_is_forgotten_in_time() {
        #[expect(clippy::disallowed_methods, reason = "an Instant to count from")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let brief: IpAddr = "192.0.2.2".parse().unwrap();
        let mut strangers = Strangers::default();
        strangers.seen(ip, at(0));
        strangers.seen(brief, at(0));
        strangers.gone(brief);
        strangers.seen(ip, at(5));
        assert!(!strangers.turn(at(9)));
        assert!(strangers.turn(at(10)), "told again, it counts from the first time");
        assert_eq!(strangers.occupied(), &BTreeSet::from([ip]));
        assert!(!strangers.turn(at(300)));
        strangers.gone(ip);
        assert!(!strangers.turn(at(899)));
        assert!(strangers.turn(at(900)));
        assert!(strangers.occupied().is_empty());
    }
}
