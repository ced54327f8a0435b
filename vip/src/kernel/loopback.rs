//! The addresses that both speakers put on the loopback interface.
//!
//! The L2 speaker puts an address there while it drains, the BGP speaker while routers hear of it; the two
//! may need the same address at the same time. So both speakers make their changes by one
//! [`SharedLoopback`], which their owner gives to both. The speaker that is the last to need an address
//! takes it off, and while routers hear of it, the address has the lifetime that the BGP speaker gives
//! it. Nothing else is decided here.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    kernel::netlink::Netlink,
    links::change::{Change, Failure, FailureKind},
};

/// What the two speakers of a process know of each other's addresses on the loopback interface.
///
/// Clones are the same one. A speaker that is given one of its own shares with nobody.
#[derive(Clone, Debug, Default)]
pub struct SharedLoopback(Arc<Mutex<Needs>>);

/// For whom an address is on the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Its open connections, after it has moved: [`Speaker`](crate::Speaker).
    Draining,
    /// Routers that hear of it: [`BgpSpeaker`](crate::BgpSpeaker).
    Routed,
}

/// The addresses that a speaker needs.
#[derive(Debug, Default)]
struct Needs(BTreeMap<IpAddr, Sides>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sides {
    draining: bool,
    routed: bool,
}

impl SharedLoopback {
    /// Makes a side's changes, in this order; what came of each. Those on other interfaces than `lo` are
    /// made as they are.
    pub(crate) fn change(
        &self,
        side: Side,
        netlink: &mut Netlink,
        lo: Option<u32>,
        changes: &[Change],
    ) -> Vec<Result<(), Failure>> {
        let Some(lo) = lo.filter(|lo| changes.iter().any(|change| change.index() == *lo)) else {
            return netlink.change(changes);
        };
        let mut needs = self.lock();
        let admit = |change: &Change| match change.index() == lo {
            true => needs.admit(side, *change),
            false => Some(*change),
        };
        let admitted: Vec<_> = changes.iter().map(admit).collect();
        let made: Vec<_> = admitted.iter().flatten().copied().collect();
        // The other speaker must not ask for an address while it is being taken off, so the lock is held for
        // that; no other change has to wait.
        let takes_off = made.iter().any(|change| matches!(change, Change::Delete { .. }));
        let held = takes_off.then_some(needs);
        let mut made = netlink.change(&made).into_iter();
        drop(held);
        let mut outcomes = Vec::with_capacity(changes.len());
        for (change, admitted) in changes.iter().zip(admitted) {
            let outcome = admitted.and_then(|_| made.next()).unwrap_or(Ok(()));
            if change.index() == lo && !there(side, &outcome) {
                self.release(side, change.ip());
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// A side does not need an address, whatever has become of it.
    pub(crate) fn release(&self, side: Side, ip: IpAddr) {
        self.lock().release(side, ip);
    }

    /// A side needs no address but those for which `keep` holds.
    pub(crate) fn retain(&self, side: Side, keep: impl Fn(&IpAddr) -> bool) {
        let mut needs = self.lock();
        let gone: Vec<_> = needs.0.keys().filter(|ip| !keep(ip)).copied().collect();
        gone.into_iter().for_each(|ip| needs.release(side, ip));
    }

    /// Nothing is ever half changed under the lock, so a panic spoils nothing.
    fn lock(&self) -> MutexGuard<'_, Needs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Needs {
    /// What a change comes to; `None` if nothing is to be done for it.
    fn admit(&mut self, side: Side, change: Change) -> Option<Change> {
        let ip = change.ip();
        if matches!(change, Change::Delete { .. }) {
            self.release(side, ip);
            return (!self.0.contains_key(&ip)).then_some(change);
        }
        let sides = self.0.entry(ip).or_default();
        *sides.of(side) = true;
        match (side, change) {
            // It is there, and lives longer than its connections may.
            (Side::Draining, Change::Renew { .. }) if sides.routed => None,
            // It is there, with a lifetime that nobody will renew when its connections have ended.
            (Side::Routed, Change::Add { index, ip, lifetime }) if sides.draining => {
                Some(Change::Renew { index, ip, lifetime })
            }
            _ => Some(change),
        }
    }

    fn release(&mut self, side: Side, ip: IpAddr) {
        if let Some(sides) = self.0.get_mut(&ip) {
            *sides.of(side) = false;
            if *sides == Sides::default() {
                self.0.remove(&ip);
            }
        }
    }
}

impl Sides {
    fn of(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Draining => &mut self.draining,
            Side::Routed => &mut self.routed,
        }
    }
}

/// Whether a side takes an address for its own after this. One that was there already is enough for the
/// connections on it; routers need it with the right lifetime, so it is tried again.
fn there(side: Side, outcome: &Result<(), Failure>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(failure) => failure.kind == FailureKind::Exists && side == Side::Draining,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LO: u32 = 1;
    const SHORT: Duration = Duration::from_secs(2);
    const LONG: Duration = Duration::from_secs(60);

    fn ip() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn add(lifetime: Duration) -> Change {
        Change::Add { index: LO, ip: ip(), lifetime }
    }

    fn renew(lifetime: Duration) -> Change {
        Change::Renew { index: LO, ip: ip(), lifetime }
    }

    fn delete() -> Change {
        Change::Delete { index: LO, ip: ip() }
    }

    #[test]
    fn whoever_needs_an_address_last_takes_it_off() {
        for (first, last) in [(Side::Draining, Side::Routed), (Side::Routed, Side::Draining)] {
            let mut needs = Needs::default();
            assert_eq!(needs.admit(first, add(LONG)), Some(add(LONG)));
            assert!(needs.admit(last, add(LONG)).is_some());
            assert_eq!(needs.admit(first, delete()), None, "{last:?} needs it");
            assert_eq!(needs.admit(last, delete()), Some(delete()));
            assert!(needs.0.is_empty());
        }
    }

    #[test]
    fn while_routers_hear_of_an_address_it_has_their_lifetime() {
        let mut needs = Needs::default();
        assert_eq!(needs.admit(Side::Draining, add(SHORT)), Some(add(SHORT)));
        assert_eq!(needs.admit(Side::Draining, renew(SHORT)), Some(renew(SHORT)));
        assert_eq!(needs.admit(Side::Routed, add(LONG)), Some(renew(LONG)), "it is there");
        assert_eq!(needs.admit(Side::Draining, renew(SHORT)), None, "it would die too soon");
        assert_eq!(needs.admit(Side::Routed, delete()), None);
        assert_eq!(needs.admit(Side::Draining, renew(SHORT)), Some(renew(SHORT)));
    }

    #[test]
    fn an_address_that_a_side_never_had_or_has_lost_keeps_nobody_from_taking_it_off() {
        let denied = Err(Failure { kind: FailureKind::Denied, message: String::new() });
        let exists = Err(Failure { kind: FailureKind::Exists, message: String::new() });
        assert!(!there(Side::Routed, &denied) && !there(Side::Draining, &denied));
        assert!(!there(Side::Routed, &exists) && there(Side::Draining, &exists));
        let shared = SharedLoopback::default();
        shared.lock().admit(Side::Routed, add(LONG));
        shared.lock().admit(Side::Draining, add(SHORT));
        shared.release(Side::Draining, ip());
        assert_eq!(shared.lock().0[&ip()], Sides { draining: false, routed: true });
        shared.retain(Side::Routed, |_| false);
        assert!(shared.lock().0.is_empty());
    }
}
