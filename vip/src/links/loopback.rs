//! Which changes to the addresses on the loopback interface are made: the one place that decides.
//!
//! Two speakers need addresses there, and may need the same one at the same time: the L2 speaker while
//! connections on an address drain, the BGP speaker while routers lead to the address. Neither decides about
//! an address on `lo` by itself: it asks [`LoopbackTable::decide`] what its change comes to. The rules are
//! two: the last user of an address has it taken off, and while routers lead to an address, its lifetime is
//! the BGP speaker's. Pure; `kernel::loopback` asks for both speakers and makes the changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::change::{Change, Failure, FailureKind};

/// What an address on the loopback interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopbackUse {
    /// Its open connections, after it has moved: [`Speaker`](crate::Speaker).
    Draining,
    /// Routers that lead to it: [`BgpSpeaker`](crate::BgpSpeaker).
    Routed,
}

/// The addresses that the speakers need on the loopback interface.
#[derive(Debug, Default)]
pub(crate) struct LoopbackTable {
    uses: BTreeMap<IpAddr, Uses>,
    /// A speaker is taking these off at this moment.
    leaving: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uses {
    draining: bool,
    routed: bool,
}

impl LoopbackTable {
    /// Whether a change has to wait, because the other speaker is taking the address off.
    pub(crate) fn has_to_wait(&self, change: &Change) -> bool {
        self.leaving.contains(&change.ip())
    }

    /// What a change comes to; `None`: the interface stays as it is. The caller makes the change and reports
    /// by [`made`](Self::made), whatever the decision.
    pub(crate) fn decide(&mut self, by: LoopbackUse, change: Change) -> Option<Change> {
        let ip = change.ip();
        if matches!(change, Change::Delete { .. }) {
            self.end_use(by, ip);
            return (!self.uses.contains_key(&ip)).then(|| {
                self.leaving.insert(ip);
                change
            });
        }
        let uses = self.uses.entry(ip).or_default();
        *uses.of(by) = true;
        match (by, change) {
            // The address is there, with a lifetime that is longer than its connections need.
            (LoopbackUse::Draining, Change::Renew { .. }) if uses.routed => None,
            // The address is there, with a lifetime that ends when its connections have ended.
            (LoopbackUse::Routed, Change::Add { index, ip, lifetime }) if uses.draining => {
                Some(Change::Renew { index, ip, lifetime })
            }
            _ => Some(change),
        }
    }

    /// Takes note of what came of a change.
    pub(crate) fn made(&mut self, by: LoopbackUse, change: &Change, outcome: &Result<(), Failure>) {
        self.leaving.remove(&change.ip());
        let used = match outcome {
            Ok(()) => !matches!(change, Change::Delete { .. }),
            // Enough for connections; routers need the right lifetime, so the BGP speaker tries again.
            Err(failure) => failure.kind == FailureKind::Exists && by == LoopbackUse::Draining,
        };
        if !used {
            self.end_use(by, change.ip());
        }
    }

    /// A speaker does not need an address any more, whatever is on the interface.
    pub(crate) fn end_use(&mut self, by: LoopbackUse, ip: IpAddr) {
        if let Some(uses) = self.uses.get_mut(&ip) {
            *uses.of(by) = false;
            if *uses == Uses::default() {
                self.uses.remove(&ip);
            }
        }
    }

    /// A speaker needs no addresses but those for which `keep` holds.
    pub(crate) fn retain(&mut self, by: LoopbackUse, keep: impl Fn(&IpAddr) -> bool) {
        let gone: Vec<_> = self.uses.keys().filter(|ip| !keep(ip)).copied().collect();
        gone.into_iter().for_each(|ip| self.end_use(by, ip));
    }
}

impl Uses {
    fn of(&mut self, by: LoopbackUse) -> &mut bool {
        match by {
            LoopbackUse::Draining => &mut self.draining,
            LoopbackUse::Routed => &mut self.routed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use LoopbackUse::{Draining, Routed};

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
    fn the_last_user_of_an_address_has_it_taken_off() {
        for (first, last) in [(Draining, Routed), (Routed, Draining)] {
            let mut table = LoopbackTable::default();
            assert_eq!(table.decide(first, add(LONG)), Some(add(LONG)));
            assert!(table.decide(last, add(LONG)).is_some());
            assert_eq!(table.decide(first, delete()), None, "{last:?} needs it");
            table.made(first, &delete(), &Ok(()));
            assert_eq!(table.decide(last, delete()), Some(delete()));
            assert!(table.uses.is_empty());
        }
    }

    #[test]
    fn while_routers_lead_to_an_address_it_has_their_lifetime() {
        let mut table = LoopbackTable::default();
        assert_eq!(table.decide(Draining, add(SHORT)), Some(add(SHORT)));
        assert_eq!(table.decide(Draining, renew(SHORT)), Some(renew(SHORT)));
        assert_eq!(table.decide(Routed, add(LONG)), Some(renew(LONG)), "it is there");
        assert_eq!(table.decide(Draining, renew(SHORT)), None, "it would die too soon");
        assert_eq!(table.decide(Routed, delete()), None);
        assert_eq!(table.decide(Draining, renew(SHORT)), Some(renew(SHORT)));
    }

    #[test]
    fn a_change_waits_while_the_address_is_being_taken_off() {
        let mut table = LoopbackTable::default();
        table.decide(Routed, add(LONG));
        table.made(Routed, &add(LONG), &Ok(()));
        assert!(!table.has_to_wait(&add(SHORT)));
        table.decide(Routed, delete());
        assert!(table.has_to_wait(&add(SHORT)));
        let other = Change::Add { index: LO, ip: "192.0.2.2".parse().unwrap(), lifetime: SHORT };
        assert!(!table.has_to_wait(&other), "the other addresses do not wait");
        let gone = Failure { kind: FailureKind::Gone, message: String::new() };
        table.made(Routed, &delete(), &Err(gone));
        assert!(!table.has_to_wait(&add(SHORT)));
    }

    #[test]
    fn a_speaker_that_never_got_or_has_lost_an_address_does_not_keep_it_on_the_interface() {
        for (by, kind, used) in [
            (Routed, FailureKind::Denied, false),
            (Routed, FailureKind::Exists, false),
            (Draining, FailureKind::Denied, false),
            (Draining, FailureKind::Exists, true),
        ] {
            let mut table = LoopbackTable::default();
            table.decide(by, add(LONG));
            table.made(by, &add(LONG), &Err(Failure { kind, message: String::new() }));
            assert_eq!(!table.uses.is_empty(), used, "{by:?} {kind:?}");
        }
        let mut table = LoopbackTable::default();
        table.decide(Routed, add(LONG));
        table.decide(Draining, add(SHORT));
        table.end_use(Draining, ip());
        assert_eq!(table.uses[&ip()], Uses { draining: false, routed: true });
        table.retain(Routed, |_| false);
        assert!(table.uses.is_empty());
    }
}
