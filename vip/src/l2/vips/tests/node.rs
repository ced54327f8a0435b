//! A node in virtual time, for the tests of `vips`: interfaces that come and go, a kernel that
//! refuses, and what the group decides.

#![allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::super::*;
use crate::{
    l2::claim::ClaimKind,
    links::{
        Link, Mac,
        tests::{change_link, links, with_loopback},
    },
    plan::{Interfaces, Vip},
};

/// A holding node, its interfaces, a kernel that obeys, except where it fails, and a
/// group that claims all that is offered.
pub(super) struct Node {
    pub(super) vips: Vips,
    pub(super) links: Links,
    pub(super) start: Instant,
    pub(super) now: Instant,
    /// Actions on these addresses fail like this.
    pub(super) failing: BTreeMap<IpAddr, FailureKind>,
    /// The files of the kernel cannot be written.
    pub(super) read_only: bool,
    /// What is decided of each offer; `None`: nothing.
    pub(super) claim: Option<Decision>,
    pub(super) offers: BTreeMap<IpAddr, Offer>,
    /// What the group takes to be on the interfaces.
    pub(super) roles: BTreeMap<IpAddr, Role>,
    pub(super) log: Vec<String>,
    /// Until when the kernel keeps what it has.
    pub(super) lifetimes: BTreeMap<(u32, IpAddr), Instant>,
}

pub(super) const OPTIONS: VipsOptions = VipsOptions {
    lifetime: Duration::from_secs(2),
    renew_every: Duration::from_millis(500),
    drain_time: Duration::from_secs(30),
    adopt: true,
    inherit: false,
};

impl Node {
    /// Alone. Renewals are not logged.
    pub(super) fn new(links: Links) -> Self {
        Self::with(links, OPTIONS, Some(claim(false)))
    }

    /// In a group, which decides what the test says.
    pub(super) fn in_group(links: Links) -> Self {
        Self::with(links, VipsOptions { adopt: false, ..OPTIONS }, None)
    }

    pub(super) fn with(links: Links, options: VipsOptions, claim: Option<Decision>) -> Self {
        let now = Instant::now();
        let mut node = Self {
            vips: Vips::new(options),
            links,
            start: now,
            now,
            failing: BTreeMap::new(),
            read_only: false,
            claim,
            offers: BTreeMap::new(),
            roles: BTreeMap::new(),
            log: Vec::new(),
            lifetimes: BTreeMap::new(),
        };
        node.see();
        node
    }

    pub(super) fn see(&mut self) {
        self.vips.see(self.links.clone(), self.now);
        self.settle();
    }

    pub(super) fn want(&mut self, plan: &VipPlan) {
        self.vips.want(plan.clone());
        self.settle();
    }

    pub(super) fn decide(&mut self, ip: &str, decision: Decision) {
        self.vips.decide(ip.parse().unwrap(), decision, self.now);
        self.settle();
    }

    /// A neighbour on interface 2 claims or probes for an address.
    pub(super) fn hear(&mut self, ip: &str, kind: ClaimKind, member: Option<&str>) {
        let claim = NeighbourClaim { index: 2, ip: ip.parse().unwrap(), mac: STRANGER, kind };
        self.vips.heard(claim, member, self.now);
        self.settle();
    }

    /// Time passes, from deadline to deadline.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.vips.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.settle();
            assert!(self.vips.deadline() > Some(self.now) || self.vips.deadline().is_none());
        }
        self.now = end;
    }

    /// Time passes, and the process does not run; it hears of what the kernel removes by
    /// [`see`](Self::see).
    pub(super) fn hang(&mut self, duration: Duration) {
        self.now += duration;
        for ((index, ip), _) in self.lifetimes.extract_if(.., |_, until| *until <= self.now) {
            self.links.deleted(index, ip);
        }
    }

    pub(super) fn settle(&mut self) {
        loop {
            self.elect();
            let actions = self.vips.due(self.now);
            let idle = actions.is_empty();
            for action in actions {
                self.perform(&action);
            }
            for (ip, role) in self.vips.roles() {
                match role {
                    Some(role) => drop(self.roles.insert(ip, role)),
                    None => drop(self.roles.remove(&ip)),
                }
            }
            if idle && self.vips.deadline() != Some(self.now) {
                break;
            }
        }
        for event in self.vips.events() {
            self.log.push(match event {
                SpeakerEvent::Announced { vip, interface } => {
                    format!("announced {vip} {interface}")
                }
                SpeakerEvent::Draining { vip, to } => format!("draining {vip} to {to}"),
                SpeakerEvent::Forwarded { vip, .. } => format!("forwarded {vip}"),
                SpeakerEvent::Withdrawn { vip } => format!("withdrawn {vip}"),
                SpeakerEvent::Cleared { vip } => format!("cleared {vip}"),
                SpeakerEvent::Refused { vip, refusal } => {
                    format!("refused {vip} {}", refusal.reason)
                }
            });
        }
    }

    /// What a group of one decides.
    pub(super) fn elect(&mut self) {
        let Some(offers) = self.vips.offers() else { return };
        let before = std::mem::replace(&mut self.offers, offers);
        let Some(claim) = &self.claim else { return };
        for ip in self.offers.keys().filter(|ip| !before.contains_key(ip)) {
            self.vips.decide(*ip, claim.clone(), self.now);
        }
        for ip in before.keys().filter(|ip| !self.offers.contains_key(ip)) {
            self.vips.decide(*ip, release(None), self.now);
        }
    }

    pub(super) fn perform(&mut self, action: &Action) {
        let at = (self.now - self.start).as_millis();
        let (text, ip) = match action {
            Action::Add { ip, index, .. } => (format!("add {ip} {index}"), Some(ip)),
            Action::Delete { ip, index } => (format!("del {ip} {index}"), Some(ip)),
            Action::Announce { ip, index, .. } => (format!("announce {ip} {index}"), Some(ip)),
            Action::Probe { ip, index, .. } => (format!("probe {ip} {index}"), Some(ip)),
            Action::ArpIgnore { index, .. } => (format!("strict {index}"), None),
            Action::Renew { addresses, .. } => {
                let addresses: Vec<_> =
                    addresses.iter().map(|(index, ip)| format!("{ip} {index}")).collect();
                (format!("renew {}", addresses.join(", ")), None)
            }
        };
        let failing = match action {
            Action::ArpIgnore { .. } if self.read_only => Some(&FailureKind::Other),
            _ => ip.and_then(|ip| self.failing.get(ip)),
        };
        let outcome = match failing {
            Some(kind) => Err(Failure { kind: *kind, message: "no".into() }),
            None => Ok(()),
        };
        if outcome.is_ok() {
            match action {
                Action::Add { ip, index, lifetime } => {
                    self.links.added(*index, *ip);
                    self.lifetimes.insert((*index, *ip), self.now + *lifetime);
                }
                Action::Renew { addresses, lifetime } => {
                    for entry in addresses {
                        assert!(self.links.has(entry.0, entry.1), "{action:?} would put it back");
                        self.lifetimes.insert(*entry, self.now + *lifetime);
                    }
                }
                Action::Delete { ip, index } => {
                    self.links.deleted(*index, *ip);
                    self.lifetimes.remove(&(*index, *ip));
                }
                _ => {}
            }
        }
        let quiet = matches!(action, Action::Renew { .. } | Action::ArpIgnore { .. });
        if !(quiet && self.vips.common.options.adopt) {
            self.log.push(format!("{at}: {text}"));
        }
        self.vips.done(action, outcome, self.now);
    }

    /// Changes an interface.
    pub(super) fn link(&mut self, index: u32, change: impl Fn(&mut Link)) {
        change_link(&mut self.links, index, change);
        self.see();
    }

    /// The kernel, or another program, has removed an address.
    pub(super) fn lose(&mut self, index: u32, ip: &str) {
        self.links.deleted(index, ip.parse().unwrap());
        self.see();
    }

    /// For people: what becomes of an address here.
    pub(super) fn state(&self, ip: &str) -> Option<LocalState> {
        let ip: IpAddr = ip.parse().unwrap();
        self.vips.states().find(|(of, ..)| *of == ip).map(|(_, state, _)| state)
    }

    pub(super) fn role(&self, ip: &str) -> Option<Role> {
        self.roles.get(&ip.parse::<IpAddr>().unwrap()).copied()
    }

    pub(super) fn offered(&self) -> Vec<String> {
        self.offers.keys().map(ToString::to_string).collect()
    }

    pub(super) fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// The log without renewals, which in a group are twice a second.
    pub(super) fn deeds(&mut self) -> Vec<String> {
        let mut log = self.log();
        log.retain(|line| !line.contains(": renew"));
        log
    }
}

pub(super) const STRANGER: Mac = [2, 0, 0, 0, 0, 0x99];

pub(super) fn claim(probe: bool) -> Decision {
    Decision::Claim { probe, contested: false, from: None }
}

pub(super) fn release(drain_to: Option<&str>) -> Decision {
    Decision::Release { drain_to: drain_to.map(str::to_owned) }
}

pub(super) fn plan(vips: &[(&str, Interfaces)]) -> VipPlan {
    let vip = |interfaces: &Interfaces| Vip {
        claims: vec![],
        interfaces: interfaces.clone(),
        preference: 0,
        partial: false,
    };
    VipPlan { vips: vips.iter().map(|(ip, at)| (ip.parse().unwrap(), vip(at))).collect() }
}

pub(super) fn anywhere(vips: &[&str]) -> VipPlan {
    plan(&vips.iter().map(|ip| (*ip, Interfaces::Any)).collect::<Vec<_>>())
}

pub(super) fn on(name: &str) -> Interfaces {
    Interfaces::Named([name.to_owned()].into())
}

pub(super) fn lan() -> Links {
    links(&[(2, true)], &[(2, "10.0.0.1/24"), (2, "2001:db8::1/64")])
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// [`lan`] of a host that has a loopback interface, and another interface without addresses.
pub(super) fn host() -> Links {
    let addresses = [(2, "10.0.0.1/24"), (2, "2001:db8::1/64")];
    with_loopback(links(&[(2, true), (3, false)], &addresses))
}

pub(super) const VIP: &str = "10.0.0.200";
pub(super) const VIP6: &str = "2001:db8::200";
pub(super) const MS: Duration = Duration::from_millis(1);

/// A member that is offered both addresses.
pub(super) fn member() -> Node {
    let mut node = Node::in_group(host());
    node.want(&anywhere(&[VIP, VIP6]));
    assert_eq!(node.offered(), [VIP, VIP6]);
    assert_eq!(node.log(), [""; 0], "nothing is done without a decision");
    node
}

/// A member that has held an address for a while.
pub(super) fn holder(ip: &str) -> Node {
    let mut node = member();
    node.decide(ip, claim(false));
    node.pass(10 * SECOND);
    node.log();
    assert_eq!(node.role(ip), Some(Role::Active));
    node
}
