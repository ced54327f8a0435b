//! The announced addresses on the loopback interface: added, kept alive, taken off.
//!
//! The driver says what is wanted and what the kernel shows, makes the [`Change`]s that are
//! [`due`](AnnouncedAddresses::due) and reports what came of them. Pure. Addresses have a lifetime in the
//! kernel, so that a killed process leaves none behind; addresses that another program has put there are used
//! and left alone. There may be tens of thousands, so a turn costs what it changes, not what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::{
    links::{
        Links, Origin,
        change::{Change, Failure, FailureKind},
    },
    problem::Problem,
};

/// The kernel takes an address off when it was not renewed for this long. No other node answers for the
/// address, so the lifetime need not be short: it only cleans up after a process that was killed. A
/// process that is restarted within this time finds the addresses still there.
const LIFETIME: Duration = Duration::from_secs(60);
/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(20);
/// What is to be renewed within this time is renewed together with what is due: a few hundred addresses at
/// a time cost less than thousands one by one, and keep no session waiting.
const TOGETHER: Duration = Duration::from_millis(250);
/// An address that is not announced any more stays for so long: routers need a moment to forget it.
const PARTING: Duration = Duration::from_secs(1);
/// After something failed.
const AGAIN: Duration = Duration::from_secs(1);
/// After an address was there that was not known to be: a list of the interfaces shows whose it is.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
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
    Refused(IpAddr, Problem),
}

/// How things are with an address, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Wanted, and not there. `refused`: the owner knows that it cannot be, though it is tried again.
    Missing { refused: bool },
    /// There, and wanted. `foreign`: another program has put it there.
    Held { foreign: bool },
    /// There, and not wanted any more.
    Parting { foreign: bool },
}

/// An address that is wanted, or there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    state: State,
    /// When something is to be done about it; `None` for nothing.
    at: Option<Instant>,
}

/// The announced addresses.
#[derive(Debug, Default)]
pub(super) struct AnnouncedAddresses {
    addresses: BTreeMap<IpAddr, Entry>,
    /// The instants of `addresses`.
    agenda: BTreeSet<(Instant, IpAddr)>,
    /// How many are missing and not refused.
    awaited: usize,
    /// How many are there by our doing.
    ours: usize,
}

impl AnnouncedAddresses {
    /// These addresses are to be on the interface, and no others.
    pub(super) fn want(&mut self, wanted: &BTreeSet<IpAddr>, now: Instant) {
        let unwanted: Vec<_> =
            self.addresses.keys().filter(|ip| !wanted.contains(ip)).copied().collect();
        for ip in unwanted {
            match self.state(ip) {
                Some(State::Held { foreign }) => {
                    self.set(ip, State::Parting { foreign }, Some(now + PARTING));
                }
                Some(State::Missing { .. }) => self.forget(ip),
                Some(State::Parting { .. }) | None => {}
            }
        }
        for &ip in wanted {
            match self.state(ip) {
                None => self.set(ip, State::Missing { refused: false }, Some(now)),
                Some(State::Parting { foreign: false }) => {
                    self.set(ip, State::Held { foreign: false }, Some(now));
                }
                Some(State::Parting { foreign: true }) => {
                    self.set(ip, State::Held { foreign: true }, None);
                }
                Some(State::Held { .. } | State::Missing { .. }) => {}
            }
        }
    }

    /// All of them go, at once.
    pub(super) fn give_back(&mut self, now: Instant) {
        self.want(&BTreeSet::new(), now);
        for ip in self.addresses.keys().copied().collect::<Vec<_>>() {
            if let Some(state) = self.state(ip) {
                self.set(ip, state, Some(now));
            }
        }
    }

    /// The kernel shows other addresses than before; true if some that were there are not.
    pub(super) fn look(&mut self, links: &Links, now: Instant) -> bool {
        let Some(lo) = links.loopback().map(|lo| lo.index) else { return false };
        let gone: Vec<_> = self
            .addresses
            .iter()
            .filter(|(ip, entry)| entry.state.is_there() && !links.has(lo, **ip))
            .map(|(ip, entry)| (*ip, entry.state))
            .collect();
        for (ip, state) in &gone {
            match state {
                // Another program took it off: added again, at once.
                State::Held { .. } => {
                    self.set(*ip, State::Missing { refused: false }, Some(now));
                }
                // The owner hears of it, as if this speaker had taken the address off.
                _ => self.set(*ip, State::Parting { foreign: true }, Some(now)),
            }
        }
        !gone.is_empty()
    }

    /// What is to be done now.
    pub(super) fn due(&mut self, links: &Links, now: Instant) -> (Vec<Change>, Vec<Outcome>) {
        let (mut changes, mut outcomes) = (Vec::new(), Vec::new());
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return (changes, outcomes);
        }
        let Some(index) = links.loopback().map(|lo| lo.index) else {
            self.refuse_all(&mut outcomes, now);
            return (changes, outcomes);
        };
        let near = self.agenda.iter().take_while(|(at, _)| *at <= now + TOGETHER);
        let due = near
            .filter(|(at, ip)| *at <= now || matches!(self.state(*ip), Some(State::Held { .. })));
        for ip in due.map(|(_, ip)| *ip).take(AT_ONCE).collect::<Vec<_>>() {
            match self.state(ip) {
                Some(State::Held { .. }) => {
                    changes.push(Change::Renew { index, ip, lifetime: LIFETIME });
                }
                Some(State::Parting { foreign: false }) => {
                    changes.push(Change::Delete { index, ip });
                }
                Some(State::Parting { foreign: true }) => {
                    self.forget(ip);
                    outcomes.push(Outcome::Removed(ip));
                }
                Some(State::Missing { .. }) => match links.on(index, ip).next() {
                    None => changes.push(Change::Add { index, ip, lifetime: LIFETIME }),
                    // Left by a predecessor that was killed.
                    Some((_, Origin::Ours)) => {
                        changes.push(Change::Renew { index, ip, lifetime: LIFETIME });
                    }
                    Some(_) => {
                        self.set(ip, State::Held { foreign: true }, None);
                        outcomes.push(Outcome::Added(ip));
                    }
                },
                None => {}
            }
        }
        (changes, outcomes)
    }

    /// Takes note of what came of a change.
    pub(super) fn done(
        &mut self,
        change: &Change,
        result: &Result<(), Failure>,
        now: Instant,
    ) -> Option<Outcome> {
        let (Change::Add { ip, .. } | Change::Renew { ip, .. } | Change::Delete { ip, .. }) =
            *change;
        let before = self.state(ip)?;
        match (change, result) {
            // What cannot be deleted is not renewed either, so the kernel does it.
            (Change::Delete { .. }, _) => {
                self.forget(ip);
                Some(Outcome::Removed(ip))
            }
            (_, Ok(())) => {
                let missing = !before.is_there();
                let next = if missing { first_renewal(ip) } else { RENEWAL };
                self.set(ip, State::Held { foreign: false }, Some(now + next));
                missing.then_some(Outcome::Added(ip))
            }
            (_, Err(failure)) if failure.kind == FailureKind::Exists => {
                self.set(ip, before, Some(now + LOOK_AGAIN));
                None
            }
            (_, Err(failure)) => {
                self.set(ip, State::Missing { refused: true }, Some(now + AGAIN));
                let first = before != State::Missing { refused: true };
                first.then(|| Outcome::Refused(ip, refusal(ip, failure)))
            }
        }
    }

    /// Whether an address of a prefix is there and stays.
    pub(super) fn has_within(&self, prefix: &IpNet) -> bool {
        let mut within = self.addresses.range(prefix.network()..=prefix.broadcast());
        within.any(|(_, entry)| entry.state.stays())
    }

    /// Whether every address that is wanted is there, or cannot be.
    pub(super) fn settled(&self) -> bool {
        self.awaited == 0
    }

    /// The addresses that are there and stay.
    pub(super) fn steady(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter(|(_, entry)| entry.state.stays()).map(|(ip, _)| *ip)
    }

    /// Whether it is wanted, or there.
    pub(super) fn knows(&self, ip: IpAddr) -> bool {
        self.addresses.contains_key(&ip)
    }

    /// How many addresses are there by our doing.
    pub(super) fn ours(&self) -> usize {
        self.ours
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _)| *at)
    }

    fn state(&self, ip: IpAddr) -> Option<State> {
        self.addresses.get(&ip).map(|entry| entry.state)
    }

    fn set(&mut self, ip: IpAddr, state: State, at: Option<Instant>) {
        self.replace(ip, Some(Entry { state, at }));
    }

    fn forget(&mut self, ip: IpAddr) {
        self.replace(ip, None);
    }

    /// The only place that changes an entry, so that what is counted stays right.
    fn replace(&mut self, ip: IpAddr, entry: Option<Entry>) {
        let before = match entry {
            Some(entry) => self.addresses.insert(ip, entry),
            None => self.addresses.remove(&ip),
        };
        if let Some(before) = before {
            self.awaited -= usize::from(before.state == State::Missing { refused: false });
            self.ours -= usize::from(before.state.is_ours());
            if let Some(at) = before.at {
                self.agenda.remove(&(at, ip));
            }
        }
        if let Some(entry) = entry {
            self.awaited += usize::from(entry.state == State::Missing { refused: false });
            self.ours += usize::from(entry.state.is_ours());
            self.agenda.extend(entry.at.map(|at| (at, ip)));
        }
    }

    fn refuse_all(&mut self, outcomes: &mut Vec<Outcome>, now: Instant) {
        for (ip, Entry { state, at }) in self.addresses.clone() {
            if state == (State::Missing { refused: false }) {
                outcomes.push(Outcome::Refused(
                    ip,
                    Problem::refused(
                        "NoLoopback",
                        "",
                        format!("{ip} belongs on the loopback interface, which is not up"),
                        "set lo up",
                    ),
                ));
                self.set(ip, State::Missing { refused: true }, Some(now + AGAIN));
            } else {
                self.set(ip, state, at.map(|at| at.max(now + AGAIN)));
            }
        }
    }
}

impl State {
    /// On the interface.
    fn is_there(self) -> bool {
        !matches!(self, Self::Missing { .. })
    }

    /// On the interface, and not about to leave it.
    fn stays(self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// On the interface by our doing.
    fn is_ours(self) -> bool {
        matches!(self, Self::Held { foreign: false } | Self::Parting { foreign: false })
    }
}

/// Addresses that were added together are not renewed together: half of the time between two renewals is
/// shared out among them, by their last octet, in which neighbours differ.
fn first_renewal(ip: IpAddr) -> Duration {
    let last = match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    RENEWAL / 2 + RENEWAL / 2 * u32::from(last) / 256
}

fn refusal(ip: IpAddr, failure: &Failure) -> Problem {
    let message =
        format!("{ip} cannot be put on lo, so no router hears of it: {}", failure.message);
    match failure.kind {
        FailureKind::Denied => {
            Problem::refused("NotPermitted", "", message, "give the process CAP_NET_ADMIN")
        }
        _ => Problem::refused("AddressFailed", "", message, ""),
    }
}

#[cfg(test)]
mod tests;
