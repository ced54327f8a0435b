//! One address: where it is, what the group wants of it, and the next step from the one to the other.
//!
//! `Vips` owns one [`VipState`] for each address and asks it for one action at a time; what came of
//! it decides what is next. Addresses know nothing of each other; what they share is in [`Common`].

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Action, VipsOptions,
    arp_ignore::ArpIgnore,
    ledger::Ledger,
    placement::Placement,
    probe::{Block, Probing, Step},
    refusals,
    reported::Reported,
};
use crate::{
    event::SpeakerEvent,
    l2::{
        announce::Pace,
        claim::{ClaimKind, NeighbourClaim},
        group::{Decision, Offer, OldOwner, Role},
        local_state::LocalState,
    },
    links::{
        Link, Links, OnLink, Origin,
        change::{Failure, FailureKind},
    },
    plan::{Interfaces, Vip},
    problem::Problem,
};

/// Until something that is not permitted is tried again: an operator has to change something first.
const DENIED_RETRY: Duration = Duration::from_secs(30);
/// Until anything else that failed is tried again.
const FAILED_RETRY: Duration = Duration::from_secs(5);
/// From adding an address to adding it again when another program keeps removing it.
const RESTORE_INTERVAL: Duration = Duration::from_secs(1);
/// What all addresses of this node share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) options: VipsOptions,
    pub(super) links: Links,
    pub(super) ledger: Ledger,
    /// What a predecessor left and a group does not adopt; each is deleted, at the instant if given.
    pub(super) strays: BTreeMap<(u32, IpAddr), Option<Instant>>,
    pub(super) arp_ignore: ArpIgnore,
    pub(super) pace: Pace,
    pub(super) events: Vec<SpeakerEvent>,
}

/// What is next for an address.
pub(super) enum Next {
    Do(Action),
    Wait(Option<Instant>),
}

/// An address that is planned, or not yet gone.
#[derive(Debug)]
pub(super) struct VipState {
    planned: bool,
    allowed: Interfaces,
    preference: u32,
    partial: bool,
    tenants: u32,
    /// What could be done, as of the last [`refresh`](Self::refresh).
    pub(super) offer: Option<Offer>,
    /// Where it belongs, if that has a carrier, be it blocked or not.
    home: Option<u32>,
    desired: Desired,
    placement: Option<Placement>,
    /// The loopback interface, if it has the address.
    loopback: Option<u32>,
    /// Until when the open connections may go on, since the address left the link.
    drains_until: Option<Instant>,
    /// The interface that it has left, or is leaving.
    left: Option<u32>,
    probing: Option<Probing>,
    block: Block,
    /// Nothing is tried before.
    not_before: Option<Instant>,
    old_owner: Option<OldOwner>,
    /// It was announced, and its withdrawal has not been reported yet.
    shown: bool,
    reported: Reported,
}

/// The last decision.
#[derive(Debug)]
enum Desired {
    /// To be on the link. `probe` until no neighbour has answered in time, `contested` until it is there.
    Claim { probe: bool, contested: bool },
    /// Not to be on the link.
    Release { drain_to: Option<String> },
}

impl VipState {
    pub(super) fn new() -> Self {
        Self {
            planned: false,
            allowed: Interfaces::Any,
            preference: 0,
            partial: false,
            tenants: 0,
            offer: None,
            home: None,
            desired: Desired::Release { drain_to: None },
            placement: None,
            loopback: None,
            drains_until: None,
            left: None,
            probing: None,
            block: Block::default(),
            not_before: None,
            old_owner: None,
            shown: false,
            reported: Reported::default(),
        }
    }

    /// New terms are tried at once, whatever failed before. `None`: no longer planned; the terms stay
    /// in force until the group has decided what becomes of the address.
    pub(super) fn plan(&mut self, vip: Option<Vip>) {
        self.planned = vip.is_some();
        if let Some(vip) = vip {
            self.tenants = vip.tenants();
            (self.allowed, self.preference) = (vip.interfaces, vip.preference);
            self.partial = vip.partial;
        }
        self.not_before = None;
        self.block = Block::default();
        self.reported.end_all();
    }

    /// Finds out what can be offered; true if that has changed.
    pub(super) fn refresh(&mut self, ip: IpAddr, common: &mut Common) -> bool {
        let offer = self.possible(ip, common);
        if offer.is_some() && self.offer.is_none() {
            self.forget(&refusals::OF_INTERFACES, ip, common);
        }
        std::mem::replace(&mut self.offer, offer) != offer
    }

    fn possible(&mut self, ip: IpAddr, common: &mut Common) -> Option<Offer> {
        self.home = None;
        if !self.planned {
            return None;
        }
        let link = match self.best_link(ip, &common.links) {
            Ok(link) => link,
            Err(refusal) => {
                self.reported.problem(ip, refusal, &mut common.events);
                return None;
            }
        };
        if link.carrier {
            self.home = Some(link.index);
        } else {
            let refusal = refusals::no_carrier(ip, link);
            self.reported.problem(ip, refusal, &mut common.events);
            // Alone, no other node could take it: it waits where it is for the cable.
            if !common.options.adopt || self.placement.is_none() {
                return None;
            }
        }
        let offer = Offer {
            link: link.index,
            preference: self.preference,
            tenants: self.tenants,
            partial: self.partial,
        };
        (!self.block.is_active()).then_some(offer)
    }

    /// Where the address stays or goes. It does not leave an interface that it may be on, unless there
    /// is another one that has a carrier.
    fn best_link<'a>(&self, ip: IpAddr, links: &'a Links) -> Result<&'a Link, Problem> {
        let here = self
            .placement
            .as_ref()
            .filter(|placement| links.fits(placement.index, ip, &self.allowed))
            .and_then(|placement| links.link(placement.index));
        if let Some(here) = here.filter(|here| here.carrier) {
            return Ok(here);
        }
        let home = links.home(ip, &self.allowed);
        match (home, here) {
            (Ok(home), _) if home.carrier => Ok(home),
            (_, Some(here)) => Ok(here),
            (home, None) => home,
        }
    }

    /// Takes over what the kernel shows of the address.
    pub(super) fn see(&mut self, ip: IpAddr, common: &mut Common, now: Instant) {
        if let Some(index) = self.loopback.filter(|index| !common.links.has(*index, ip)) {
            common.ledger.removed(index, ip);
            self.loopback = None;
        }
        let Some(placement) = &mut self.placement else { return };
        if !common.links.has(placement.index, ip) {
            let until = common.ledger.removed(placement.index, ip);
            if !common.options.adopt && until.is_some_and(|until| until <= now) {
                self.expire(now);
            } else if matches!(self.desired, Desired::Claim { .. }) {
                // Another program took it away, or the interface went. It comes back, but not in a race with
                // a program that keeps removing it.
                self.not_before = Some(placement.since + RESTORE_INTERVAL);
            }
            self.placement = None;
        } else if let Some(link) = common.links.link(placement.index)
            && placement.see(link, &mut common.pace, now)
        {
            self.reported.end_all();
        }
    }

    /// Takes over a decision.
    pub(super) fn decide(&mut self, decision: Decision, common: &mut Common, now: Instant) {
        match decision {
            Decision::Claim { probe, contested, from } => {
                if let Desired::Release { .. } = self.desired {
                    self.not_before = None;
                    self.probing = None;
                }
                self.old_owner = from.or_else(|| self.old_owner.take());
                let absent = self.placement.is_none();
                self.desired =
                    Desired::Claim { probe: probe && absent, contested: contested && absent };
                if let Some(placement) = &mut self.placement {
                    placement.announce(contested, &mut common.pace, now);
                }
            }
            Decision::Release { drain_to } => self.release(drain_to),
        }
    }

    fn release(&mut self, drain_to: Option<String>) {
        self.desired = Desired::Release { drain_to };
        self.not_before = None;
    }

    /// The time of the address has run out: this process hung, or cannot renew it, and another node may
    /// have the address. It has to go, wherever it is, and to come back takes a new offer.
    pub(super) fn expire(&mut self, now: Instant) {
        self.release(None);
        self.block.failed(now + RESTORE_INTERVAL);
    }

    /// No connection is left on a draining address.
    pub(super) fn let_go(&mut self) {
        if matches!(self.desired, Desired::Release { .. }) && self.placement.is_none() {
            self.release(None);
        }
    }

    /// Takes note of what a neighbour says of the address.
    pub(super) fn heard(
        &mut self,
        claim: NeighbourClaim,
        member: Option<&str>,
        common: &mut Common,
        now: Instant,
    ) {
        let NeighbourClaim { index, ip, mac, kind } = claim;
        if let Some(placement) =
            self.placement.as_mut().filter(|placement| placement.index == index)
        {
            // A probe is answered by the kernel; what is to be released is not defended.
            if kind == ClaimKind::Claim && matches!(self.desired, Desired::Claim { .. }) {
                if member.is_some() {
                    placement.answer(now);
                } else {
                    let refusal = refusals::conflict(ip, &placement.name, mac);
                    placement.defend(now);
                    self.reported.problem(ip, refusal, &mut common.events);
                }
            }
        } else if self.probing.is_some_and(|probing| probing.index == index) && member.is_none() {
            // A node that probes at the same time loses as well, so both keep away (RFC 5227 §2.1.1).
            let again = self.block.used(now);
            if let Some(link) = common.links.link(index) {
                let refusal = refusals::in_use(ip, link, mac, again);
                self.reported.problem(ip, refusal, &mut common.events);
            }
            self.release(None);
        }
    }

    /// The next thing to do. Each action has to be reported by [`done`](Self::done).
    pub(super) fn next(&mut self, ip: IpAddr, common: &mut Common, now: Instant) -> Next {
        if let Some(not_before) = self.not_before.filter(|not_before| now < *not_before) {
            return Next::Wait(Some(not_before));
        }
        self.not_before = None;
        match self.desired {
            Desired::Claim { .. } => self.claim(ip, common, now),
            Desired::Release { .. } => self.leave(ip, common, now),
        }
    }

    fn claim(&mut self, ip: IpAddr, common: &mut Common, now: Instant) -> Next {
        if let Some(placement) = &self.placement {
            let fits = common.links.fits(placement.index, ip, &self.allowed);
            let elsewhere = self.offer.is_some_and(|offer| offer.link != placement.index);
            match common.options.adopt {
                // The group decides which node is to have it on another link.
                false if !fits => {
                    self.release(None);
                    return self.leave(ip, common, now);
                }
                true if (!fits || elsewhere) && placement.ours => {
                    return Next::Do(Action::Delete { ip, index: placement.index });
                }
                true if !fits || elsewhere => self.placement = None,
                _ => {}
            }
        }
        if self.placement.is_none() {
            let Some(offer) = self.offer else {
                // The group hears that nothing is offered; what comes after needs its decision.
                self.release(None);
                return self.leave(ip, common, now);
            };
            if let Some(next) = self.settle(ip, offer.link, common, now) {
                return next;
            }
        }
        let Some(placement) = &mut self.placement else { return Next::Wait(None) };
        if let Some(mac) = placement
            .mac
            .filter(|_| placement.announcements.is_some_and(|announcements| announcements.due(now)))
        {
            return Next::Do(Action::Announce { ip, index: placement.index, mac });
        }
        if let Some(index) = self.loopback {
            return Next::Do(Action::Delete { ip, index });
        }
        if placement.quiet_at.is_some_and(|quiet_at| quiet_at <= now) {
            placement.quiet_at = None;
            self.reported.end_all();
            self.reported.announced(ip, placement, &mut common.events);
        }
        let announcements =
            placement.announcements.and_then(|announcements| announcements.deadline());
        Next::Wait(announcements.into_iter().chain(placement.quiet_at).min())
    }

    /// Finds a place for the address: adopts the address where it is already, else probes for it and adds it. `None`:
    /// it is there.
    fn settle(
        &mut self,
        ip: IpAddr,
        index: u32,
        common: &mut Common,
        now: Instant,
    ) -> Option<Next> {
        let Some(link) = common.links.link(index) else { return Some(Next::Wait(None)) };
        if common.strays.contains_key(&(index, ip)) {
            return Some(Next::Wait(None)); // until it is gone
        }
        let host = OnLink::host(index, ip);
        let entries: Vec<_> = common.links.on(index, ip).collect();
        if !entries.is_empty() {
            // A host address without a foreign mark is what a predecessor that was killed leaves.
            let ours = entries.iter().any(|(entry, by)| *entry == host && *by != Origin::Foreign);
            if ours {
                common.ledger.adopted(index, ip, now);
            }
            self.arrive(ip, index, ours, common, now);
            return None;
        }
        let mac = link.mac;
        // On lo it is ours still, or was until a moment ago.
        let probe = matches!(self.desired, Desired::Claim { probe: true, .. });
        if let Some(mac) = mac.filter(|_| probe && self.loopback.is_none()) {
            let probing = self
                .probing
                .filter(|probing| probing.index == index)
                .unwrap_or_else(|| Probing::start(index, now, &mut common.pace));
            self.probing = Some(probing);
            match probing.step(now) {
                Step::Ask => return Some(Next::Do(Action::Probe { ip, index, mac })),
                Step::Wait(until) => return Some(Next::Wait(Some(until))),
                Step::Free => {}
            }
        }
        Some(Next::Do(Action::Add { ip, index, lifetime: common.options.lifetime }))
    }

    /// Notes that an interface has the address. Without ARP and NDP, that is all there is to do.
    fn arrive(&mut self, ip: IpAddr, index: u32, ours: bool, common: &mut Common, now: Instant) {
        let Some(link) = common.links.link(index) else { return };
        let contested = matches!(self.desired, Desired::Claim { contested: true, .. });
        let placement = Placement::new(link, ours, contested, &mut common.pace, now);
        self.reported.end_all();
        if placement.announced {
            self.reported.announced(ip, &placement, &mut common.events);
        }
        self.placement = Some(placement);
        if let Desired::Claim { probe, contested } = &mut self.desired {
            // Added again after another program removed it, it is ours already.
            (*probe, *contested) = (false, false);
        }
        self.probing = None;
        self.block = Block::default();
        (self.drains_until, self.left) = (None, None);
        self.shown = true;
    }

    /// What to do about an address that is to leave the link: to drain, or to go at once.
    fn leave(&mut self, ip: IpAddr, common: &mut Common, now: Instant) -> Next {
        self.probing = None;
        self.old_owner = None;
        let Desired::Release { drain_to } = &mut self.desired else { return Next::Wait(None) };
        // The node's own address neither moves nor goes.
        if let Some(placement) = self.placement.take_if(|placement| placement.ours) {
            let index = placement.index;
            self.left = Some(index);
            let hidden = drain_to.as_ref().map(|to| (to, hideout(ip, &placement, common)));
            let action = match hidden {
                Some((_, Ok(lo))) if self.loopback != Some(lo) => {
                    Action::Add { ip, index: lo, lifetime: common.options.lifetime }
                }
                Some((to, Err(why))) => {
                    let refusal = refusals::cut(ip, &placement.name, to, why);
                    self.reported.problem(ip, refusal, &mut common.events);
                    self.block.complain(now);
                    *drain_to = None;
                    Action::Delete { ip, index }
                }
                _ => Action::Delete { ip, index },
            };
            self.placement = Some(placement);
            return Next::Do(action);
        }
        self.placement = None;
        if let Some(index) = self.loopback {
            if let Some(to) = drain_to {
                let until = *self.drains_until.get_or_insert_with(|| {
                    common.events.push(SpeakerEvent::Draining { vip: ip, to: to.clone() });
                    now + common.options.drain_time
                });
                if now < until {
                    return Next::Wait(Some(until));
                }
            }
            return Next::Do(Action::Delete { ip, index });
        }
        *drain_to = None;
        (self.drains_until, self.left) = (None, None);
        if std::mem::take(&mut self.shown) {
            common.events.push(SpeakerEvent::Withdrawn { vip: ip });
        }
        self.forget(&refusals::OF_PLACES, ip, common);
        if self.block.forgive(now) && self.reported.end_all() {
            common.events.push(SpeakerEvent::Cleared { vip: ip });
        }
        Next::Wait(self.block.deadline())
    }

    /// Ends the time of keeping away from the address, if it is over.
    pub(super) fn expire_block(&mut self, now: Instant) {
        self.block.expire(now);
    }

    /// Takes note of what came of an action on the address.
    pub(super) fn done(
        &mut self,
        action: &Action,
        ip: IpAddr,
        outcome: &Result<(), Failure>,
        common: &mut Common,
        now: Instant,
    ) {
        let failure = outcome.as_ref().err().map(|failure| failure.kind);
        match (action, failure) {
            (Action::Add { index, .. }, None | Some(FailureKind::Exists)) => {
                common.links.added(*index, ip);
                common.ledger.added(*index, ip, now);
                if common.links.link(*index).is_some_and(|link| link.loopback) {
                    self.loopback = Some(*index);
                } else {
                    self.arrive(ip, *index, true, common, now);
                }
            }
            (Action::Delete { index, .. }, None | Some(FailureKind::Gone)) => {
                common.links.deleted(*index, ip);
                common.ledger.removed(*index, ip);
                self.placement.take_if(|placement| placement.index == *index);
                self.loopback.take_if(|loopback| *loopback == *index);
            }
            (Action::Announce { .. }, _) => self.announced(ip, common, now),
            (Action::Probe { .. }, _) => {
                if let Some(probing) = &mut self.probing {
                    probing.sent(now);
                }
            }
            (Action::Add { .. }, Some(_)) if matches!(self.desired, Desired::Release { .. }) => {
                // It cannot drain, so it goes.
                self.desired = Desired::Release { drain_to: None };
            }
            // Another node may be able to hold it.
            (Action::Add { .. }, Some(kind)) => self.block.failed(now + retry(kind)),
            (_, Some(kind)) => self.not_before = Some(now + retry(kind)),
            _ => {}
        }
        if let Err(failure) = outcome
            && let Some(refusal) = refusals::failed(action, &common.links, failure)
        {
            self.reported.problem(ip, refusal, &mut common.events);
        }
    }

    fn announced(&mut self, ip: IpAddr, common: &mut Common, now: Instant) {
        let Some(placement) = &mut self.placement else { return };
        if let Some(announcements) = &mut placement.announcements {
            announcements.made(now, &mut common.pace);
        }
        if !std::mem::replace(&mut placement.announced, true) {
            self.reported.announced(ip, placement, &mut common.events);
        }
    }

    /// Reports a problem of the address, once for each reason.
    pub(super) fn report(&mut self, ip: IpAddr, refusal: Problem, common: &mut Common) {
        self.reported.problem(ip, refusal, &mut common.events);
    }

    /// Reasons no longer hold. Where the address is on an interface, its announcement says so.
    fn forget(&mut self, reasons: &[&str], ip: IpAddr, common: &mut Common) {
        if self.reported.end(reasons) && self.planned && self.placement.is_none() {
            common.events.push(SpeakerEvent::Cleared { vip: ip });
        }
    }

    /// What is on the interfaces.
    pub(super) fn role(&self) -> Option<Role> {
        match (&self.placement, self.loopback) {
            (Some(_), _) => Some(Role::Active),
            (None, Some(_)) => Some(Role::Draining),
            (None, None) => None,
        }
    }

    /// Whether nothing is left of it, nor wanted.
    pub(super) fn is_over(&self) -> bool {
        !self.planned && self.role().is_none() && matches!(self.desired, Desired::Release { .. })
    }

    /// Where its connections of the time before the move are.
    pub(super) fn old_owner(&self) -> Option<&OldOwner> {
        self.old_owner.as_ref()
    }

    /// The interfaces that it is on, belongs to, or has left for `lo`.
    pub(super) fn links(&self) -> impl Iterator<Item = u32> {
        let placement = self.placement.as_ref().map(|placement| placement.index);
        [placement, self.home, self.left].into_iter().flatten()
    }

    /// For people: what this node does with the address, and on which interface.
    pub(super) fn state(&self) -> (LocalState, Option<u32>) {
        match (&self.placement, self.loopback, self.probing, self.offer) {
            (Some(placement), ..) => (LocalState::Holding, Some(placement.index)),
            (None, Some(index), ..) => (LocalState::Draining, Some(index)),
            (None, None, Some(probing), _) => (LocalState::Probing, Some(probing.index)),
            (None, None, None, Some(offer)) => (LocalState::Standby, Some(offer.link)),
            (None, None, None, None) => (LocalState::Blocked, None),
        }
    }
}

/// Where an address can be without being on its link; or why nowhere.
fn hideout(ip: IpAddr, placement: &Placement, common: &Common) -> Result<u32, &'static str> {
    if placement.mac.is_some() && !common.arp_ignore.hides(placement.index, ip) {
        return Err("the kernel would go on answering ARP for it");
    }
    common.links.loopback().map(|lo| lo.index).ok_or("there is no loopback interface that is up")
}

pub(super) fn retry(kind: FailureKind) -> Duration {
    if kind == FailureKind::Denied { DENIED_RETRY } else { FAILED_RETRY }
}
