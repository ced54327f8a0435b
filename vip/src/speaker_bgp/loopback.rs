//! The announced addresses on the loopback interface: added, kept alive, taken off.
//!
//! The driver says what is wanted and what the kernel shows, makes the [`Change`]s that are
//! [`due`](Loopback::due) and reports what came of them. Pure. Addresses have a lifetime in the kernel,
//! so that a killed process leaves none behind; those that somebody else has put there are used and
//! left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::holdings::{Failure, FailureKind};
use crate::io::netlink::Change;
use crate::links::{Links, Origin};
use crate::refusal::Refusal;

/// The kernel takes an address off if it is not renewed for so long.
const LIFETIME: Duration = Duration::from_secs(10);
/// Between two renewals.
const RENEWAL: Duration = Duration::from_millis(2500);
/// An address that is not announced any more stays for so long: routers need a moment to forget it.
const PARTING: Duration = Duration::from_secs(1);
/// After something failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Changes of one turn, so that thousands of addresses do not keep the sessions waiting.
const AT_ONCE: usize = 256;

/// What has become of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is on the interface: it may be announced.
    Added(IpAddr),
    /// It is not there any more, by our doing.
    Removed(IpAddr),
    /// It cannot be there.
    Refused(IpAddr, Refusal),
}

/// An address that is on the interface, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Somebody else has put it there.
    foreign: bool,
    /// When something is to be done about it; `None` for nothing.
    at: Option<Instant>,
    /// It is not wanted any more, and goes at that instant.
    parting: bool,
}

/// The addresses of the loopback interface.
#[derive(Debug, Default)]
pub(super) struct Loopback {
    wanted: BTreeSet<IpAddr>,
    held: BTreeMap<IpAddr, Held>,
    /// Those that could not be added, and when that is tried again.
    failed: BTreeMap<IpAddr, Instant>,
    /// By when to look next; kept, because thousands of addresses are looked at for it.
    deadline: Option<Instant>,
}

impl Loopback {
    /// These addresses are to be on the interface, and no others.
    pub(super) fn want(&mut self, wanted: BTreeSet<IpAddr>, now: Instant) {
        for (ip, held) in &mut self.held {
            match (wanted.contains(ip), held.parting) {
                (false, false) => *held = Held { at: Some(now + PARTING), parting: true, ..*held },
                (true, true) => *held = Held { at: Some(now), parting: false, ..*held },
                _ => {}
            }
        }
        self.failed.retain(|ip, _| wanted.contains(ip));
        self.wanted = wanted;
        self.deadline = Some(now);
    }

    /// All of them go, at once.
    pub(super) fn give_back(&mut self, now: Instant) {
        self.want(BTreeSet::new(), now);
        for held in self.held.values_mut() {
            held.at = Some(now);
        }
    }

    /// The kernel shows other addresses than before.
    pub(super) fn look(&mut self, links: &Links, now: Instant) {
        let Some(lo) = links.loopback().map(|lo| lo.index) else { return };
        // Taken off by somebody: added again, at once.
        self.held.retain(|ip, _| links.has(lo, *ip));
        self.deadline = Some(now);
    }

    /// What is to be done now.
    pub(super) fn due(&mut self, links: &Links, now: Instant) -> (Vec<Change>, Vec<Outcome>) {
        let (mut changes, mut outcomes) = (Vec::new(), Vec::new());
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return (changes, outcomes);
        }
        let Some(index) = links.loopback().map(|lo| lo.index) else {
            self.refuse_all(&mut outcomes, now);
            return (changes, outcomes);
        };
        for (&ip, held) in self.held.iter().filter(|(_, held)| held.at.is_some_and(|at| at <= now))
        {
            changes.push(match held.parting {
                true => Change::Delete { index, ip },
                false => Change::Renew { index, ip, lifetime: LIFETIME },
            });
        }
        let mut foreign = Vec::new();
        for &ip in self.wanted.iter().filter(|ip| !self.held.contains_key(ip)) {
            if self.failed.get(&ip).is_some_and(|again| *again > now) {
                continue;
            }
            let mut origins = links.on(index, ip).map(|(_, origin)| origin);
            match origins.next() {
                None => changes.push(Change::Add { index, ip, lifetime: LIFETIME }),
                // Left by a predecessor that was killed.
                Some(Origin::Ours) => changes.push(Change::Renew { index, ip, lifetime: LIFETIME }),
                Some(_) => foreign.push(ip),
            }
        }
        for ip in foreign {
            self.failed.remove(&ip);
            self.held.insert(ip, Held { foreign: true, at: None, parting: false });
            outcomes.push(Outcome::Added(ip));
        }
        let gone = self.held.iter().filter(|(_, held)| held.foreign && held.parting);
        for ip in gone.map(|(ip, _)| *ip).collect::<Vec<_>>() {
            self.held.remove(&ip);
            changes.retain(|change| !matches!(change, Change::Delete { ip: of, .. } if *of == ip));
            outcomes.push(Outcome::Removed(ip));
        }
        changes.truncate(AT_ONCE);
        self.deadline = self.next_deadline(now);
        (changes, outcomes)
    }

    /// Takes note of what came of a change.
    pub(super) fn done(
        &mut self,
        change: &Change,
        result: &Result<(), Failure>,
        now: Instant,
    ) -> Option<Outcome> {
        let outcome = match (change, result) {
            (Change::Add { ip, .. } | Change::Renew { ip, .. }, Ok(())) => {
                let held = Held { foreign: false, at: Some(now + RENEWAL), parting: false };
                self.failed.remove(ip);
                self.held.insert(*ip, held).is_none().then_some(Outcome::Added(*ip))
            }
            // What cannot be deleted is not renewed either, so the kernel does it.
            (Change::Delete { ip, .. }, _) => self.held.remove(ip).map(|_| Outcome::Removed(*ip)),
            (Change::Add { ip, .. } | Change::Renew { ip, .. }, Err(failure)) => {
                self.held.remove(ip);
                let first = self.failed.insert(*ip, now + AGAIN).is_none();
                let told = first && failure.kind != FailureKind::Exists;
                told.then(|| Outcome::Refused(*ip, refusal(*ip, failure)))
            }
        };
        // There may be more than was done at once.
        self.deadline = Some(now);
        outcome
    }

    /// Whether an address of a prefix is there and stays.
    pub(super) fn has_within(&self, prefix: &IpNet) -> bool {
        let mut within = self.held.range(prefix.network()..=prefix.broadcast());
        within.any(|(_, held)| !held.parting)
    }

    /// The addresses that are there and stay.
    pub(super) fn steady(&self) -> impl Iterator<Item = IpAddr> {
        self.held.iter().filter(|(_, held)| !held.parting).map(|(ip, _)| *ip)
    }

    /// How many addresses are there by our doing.
    pub(super) fn ours(&self) -> usize {
        self.held.values().filter(|held| !held.foreign).count()
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let held = self.held.values().filter_map(|held| held.at);
        let missing = self.wanted.iter().filter(|ip| !self.held.contains_key(ip));
        let missing = missing.map(|ip| self.failed.get(ip).copied().unwrap_or(now));
        held.chain(missing).min()
    }

    fn refuse_all(&mut self, outcomes: &mut Vec<Outcome>, now: Instant) {
        for ip in &self.wanted {
            if self.failed.insert(*ip, now + AGAIN).is_none() {
                outcomes.push(Outcome::Refused(
                    *ip,
                    Refusal::error(
                        "NoLoopback",
                        "",
                        format!("{ip} belongs on the loopback interface, which is not up"),
                        "set lo up",
                    ),
                ));
            }
        }
        self.deadline = Some(now + AGAIN);
    }
}

fn refusal(ip: IpAddr, failure: &Failure) -> Refusal {
    let message =
        format!("{ip} cannot be put on lo, so no router hears of it: {}", failure.message);
    match failure.kind {
        FailureKind::Denied => {
            Refusal::error("NotPermitted", "", message, "give the process CAP_NET_ADMIN")
        }
        _ => Refusal::error("AddressFailed", "", message, ""),
    }
}

#[cfg(test)]
#[path = "loopback_tests.rs"]
mod tests;
