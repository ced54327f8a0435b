//! Which VIPs this node holds on which interface, and what has to be done next.
//!
//! The speaker owns one [`Vips`]. It hands in the plan ([`want`](Vips::want)), what the kernel shows
//! ([`see`](Vips::see)), what the group has decided ([`decide`](Vips::decide)) and what neighbours say
//! ([`heard`](Vips::heard)), carries out the actions of [`due`](Vips::due), reports each by
//! [`done`](Vips::done), and passes what is [offered](Vips::offers) and [held](Vips::roles) on to the
//! group. Pure: time is an argument, nothing is sent from here. No address that fails holds up another.

mod arp_ignore;
mod ledger;
mod placement;
mod probe;
mod refusals;
mod reported;
mod state;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    event::SpeakerEvent,
    l2::{
        announce::Pace,
        claim::NeighbourClaim,
        forward_old::{ForwardPath, ForwardPaths},
        group::{Decision, Offer, Role},
        local_state::LocalState,
    },
    links::{
        LinkFacts, Links, Mac,
        change::{Failure, FailureKind},
    },
    plan::{Step, VipPlan, diff},
};
use arp_ignore::ArpIgnore;
use ledger::Ledger;
use state::{Common, Next, VipState};
use timers::TimerQueue;

/// Something to do to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Take the address off.
    Delete { ip: IpAddr, index: u32 },
    /// Put the address on, as a host address; the kernel removes it when it is not renewed.
    Add { ip: IpAddr, index: u32, lifetime: Duration },
    /// Begin the lifetimes of addresses that are on interfaces anew.
    Renew { addresses: Vec<(u32, IpAddr)>, lifetime: Duration },
    /// Ask the neighbours whether one of them has the address.
    Probe { ip: IpAddr, index: u32, mac: Mac },
    /// Tell the neighbours.
    Announce { ip: IpAddr, index: u32, mac: Mac },
    /// Let the kernel answer ARP on an interface for the addresses of that interface only
    /// (`arp_ignore` 1, `arp_announce` 2).
    ArpIgnore { index: u32, name: String },
}

/// How addresses are held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VipsOptions {
    /// After which the kernel removes an address that is not renewed.
    pub(crate) lifetime: Duration,
    /// From renewal to renewal.
    pub(crate) renew_every: Duration,
    /// For how long connections that are open on an address that has moved are served.
    pub(crate) drain_time: Duration,
    /// What a killed predecessor left: taken over (true, alone), or deleted at once, because another
    /// node of the group may hold it by now.
    pub(crate) adopt: bool,
    /// The predecessor still runs and leaves its addresses to this process.
    pub(crate) inherit: bool,
}

/// All addresses that are planned or not yet withdrawn.
#[derive(Debug)]
pub(crate) struct Vips {
    common: Common,
    plan: VipPlan,
    vips: BTreeMap<IpAddr, VipState>,
    timers: TimerQueue,
    /// The last `now` that was handed in.
    clock: Option<Instant>,
    /// There has been a look at the interfaces.
    looked: bool,
    offers: BTreeMap<IpAddr, Offer>,
    /// What was returned last by [`offers`](Self::offers) and its like is out of date.
    offers_changed: bool,
    links_changed: bool,
    roles: BTreeMap<IpAddr, Role>,
    roles_changed: BTreeSet<IpAddr>,
    /// Addresses that may have an old owner.
    with_old_owner: BTreeSet<IpAddr>,
    /// What a predecessor leaves here, until it is taken note of.
    inherited: Option<BTreeSet<IpAddr>>,
}

impl Vips {
    pub(crate) fn new(options: VipsOptions) -> Self {
        Self {
            common: Common {
                links: Links::default(),
                ledger: Ledger::new(options.lifetime, options.renew_every),
                strays: BTreeMap::new(),
                arp_ignore: ArpIgnore::default(),
                pace: Pace::default(),
                events: Vec::new(),
                options,
            },
            plan: VipPlan::default(),
            vips: BTreeMap::new(),
            timers: TimerQueue::default(),
            clock: None,
            looked: false,
            offers: BTreeMap::new(),
            offers_changed: false,
            links_changed: false,
            roles: BTreeMap::new(),
            roles_changed: BTreeSet::new(),
            with_old_owner: BTreeSet::new(),
            inherited: None,
        }
    }

    /// Takes over a plan; an equal one changes nothing.
    pub(crate) fn want(&mut self, plan: VipPlan) {
        for step in diff(&self.plan, &plan) {
            let (ip, vip) = match step {
                Step::Withdraw(ip) => (ip, None),
                Step::Change(ip, vip) | Step::Announce(ip, vip) => (ip, Some(vip)),
            };
            self.vips.entry(ip).or_insert_with(VipState::new).plan(vip);
            // Before the first look at the interfaces, nothing can be said against any address.
            if self.looked {
                self.refresh(ip);
            }
            self.links_changed = true;
        }
        self.plan = plan;
    }

    /// Takes over what the kernel shows, after everything that was done so far.
    pub(crate) fn see(&mut self, links: Links, now: Instant) {
        self.clock = Some(now);
        let first = !std::mem::replace(&mut self.looked, true);
        if !first && links == self.common.links {
            return;
        }
        self.common.links = links;
        self.common.arp_ignore.see(&self.common.links);
        self.links_changed = true;
        for (ip, vip) in &mut self.vips {
            vip.see(*ip, &mut self.common, now);
            self.offers_changed |= refresh(&mut self.offers, *ip, vip, &mut self.common);
            self.timers.touch(*ip);
            self.roles_changed.insert(*ip);
        }
        if first {
            self.look_back();
        }
    }

    /// What a predecessor that runs still leaves here; once.
    pub(crate) fn take_inherited(&mut self) -> Option<BTreeSet<IpAddr>> {
        self.inherited.take()
    }

    /// Sorts what a predecessor has left on interfaces: what is taken over, and what has to go.
    fn look_back(&mut self) {
        let links = &self.common.links;
        // The kernel answers no neighbour for an address on lo, and the BGP speaker may take it over.
        let on_link = |index| links.link(index).is_some_and(|link| !link.loopback);
        let left = links.ours().filter(|(index, _)| on_link(*index));
        let fits = |(index, ip): &(u32, IpAddr)| {
            self.common.options.inherit && self.offers.get(ip).is_some_and(|it| it.link == *index)
        };
        let (inherited, strays): (BTreeSet<_>, BTreeSet<_>) = left.partition(fits);
        self.inherited = Some(inherited.into_iter().map(|(_, ip)| ip).collect());
        if !self.common.options.adopt {
            self.common.strays = strays.into_iter().map(|stray| (stray, None)).collect();
        }
    }

    /// Takes over a decision of the group about an address that was offered.
    pub(crate) fn decide(&mut self, ip: IpAddr, decision: Decision, now: Instant) {
        let Some(vip) = self.vips.get_mut(&ip) else { return };
        match &decision {
            Decision::Claim { from, .. } => {
                self.common.arp_ignore.claimed(ip);
                self.with_old_owner.extend(from.as_ref().map(|_| ip));
            }
            Decision::Release { .. } => drop(self.with_old_owner.remove(&ip)),
        }
        vip.decide(decision, &mut self.common, now);
        self.timers.touch(ip);
    }

    /// Takes note of what a neighbour says of an address. `member`: the node of the group that it is.
    pub(crate) fn heard(&mut self, claim: NeighbourClaim, member: Option<&str>, now: Instant) {
        // A second interface on the same link hears what the first one says.
        if self.common.links.is_own(claim.mac) {
            return;
        }
        let Some(vip) = self.vips.get_mut(&claim.ip) else { return };
        vip.heard(claim, member, &mut self.common, now);
        self.refresh(claim.ip);
    }

    /// No connection is left on an address that drains.
    pub(crate) fn let_go(&mut self, ip: IpAddr) {
        if let Some(vip) = self.vips.get_mut(&ip) {
            vip.let_go();
            self.timers.touch(ip);
        }
    }

    /// What has to be done now, in this order. Each action has to be reported by
    /// [`done`](Self::done), after which there may be more.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Action> {
        self.clock = Some(now);
        let mut actions = self.purge(now);
        actions.extend(self.renew(now));
        for ip in self.timers.take(now) {
            let Some(vip) = self.vips.get_mut(&ip) else { continue };
            vip.expire_block(now);
            self.offers_changed |= refresh(&mut self.offers, ip, vip, &mut self.common);
            match vip.next(ip, &mut self.common, now) {
                Next::Do(action) => {
                    self.timers.set(ip, None);
                    actions.push(action);
                }
                Next::Wait(until) => self.timers.set(ip, until),
            }
            self.roles_changed.insert(ip);
            if vip.is_over() {
                self.vips.remove(&ip);
                self.with_old_owner.remove(&ip);
                self.timers.set(ip, None);
            }
        }
        actions.extend(self.common.arp_ignore.due(&self.common.links));
        actions.sort_by_key(Action::rank);
        spare_deleted(&mut actions);
        actions
    }

    /// Takes note of what came of an action. Of a renewal, the part that succeeded and the part that
    /// failed may be reported one after the other.
    pub(crate) fn done(&mut self, action: &Action, outcome: Result<(), Failure>, now: Instant) {
        match action {
            Action::Renew { addresses, .. } => self.renewed(addresses, outcome, now),
            Action::ArpIgnore { index, .. } => {
                let failure = outcome.err();
                let refusal =
                    failure.and_then(|why| refusals::failed(action, &self.common.links, &why));
                self.common.arp_ignore.done(*index, refusal);
            }
            Action::Delete { ip, index } if self.common.strays.contains_key(&(*index, *ip)) => {
                self.purged(*index, *ip, outcome, now);
            }
            Action::Delete { ip, .. }
            | Action::Add { ip, .. }
            | Action::Probe { ip, .. }
            | Action::Announce { ip, .. } => {
                let Some(vip) = self.vips.get_mut(ip) else { return };
                vip.done(action, *ip, &outcome, &mut self.common, now);
                if let Action::Announce { ip: IpAddr::V4(_), .. } = action
                    && let Some(refusal) = self.common.arp_ignore.refusal.take()
                {
                    vip.report(*ip, refusal, &mut self.common);
                }
                self.links_changed |= matches!(action, Action::Add { .. } | Action::Delete { .. });
                self.refresh(*ip);
            }
        }
    }

    /// What this node could hold, if that has changed since the last call.
    pub(crate) fn offers(&mut self) -> Option<BTreeMap<IpAddr, Offer>> {
        std::mem::take(&mut self.offers_changed).then(|| self.offers.clone())
    }

    /// What is on the interfaces that was not at the last call, or is no longer.
    pub(crate) fn roles(&mut self) -> Vec<(IpAddr, Option<Role>)> {
        let mut changes = Vec::new();
        for ip in std::mem::take(&mut self.roles_changed) {
            let role = self.vips.get(&ip).and_then(VipState::role);
            let before = match role {
                Some(role) => self.roles.insert(ip, role),
                None => self.roles.remove(&ip),
            };
            if role != before {
                changes.push((ip, role));
            }
        }
        changes
    }

    /// The interfaces with a carrier that have or could have addresses, and this node's own addresses
    /// there, if any of it may have changed since the last call.
    pub(crate) fn links_in_use(&mut self) -> Option<BTreeMap<u32, LinkFacts>> {
        if !std::mem::take(&mut self.links_changed) {
            return None;
        }
        let links = &self.common.links;
        let indices: BTreeSet<_> = self.vips.values().flat_map(VipState::links).collect();
        let usable = |index: &u32| links.link(*index).is_some_and(|link| link.up && link.carrier);
        let facts = |index| Some((index, links.facts(index, |ip| self.vips.contains_key(&ip))?));
        Some(indices.into_iter().filter(usable).filter_map(facts).collect())
    }

    /// By which paths connections go to the old owners of addresses; `still`: the old owner of an address serves some.
    pub(crate) fn forward_paths(&self, still: impl Fn(IpAddr) -> bool) -> ForwardPaths {
        let mut paths = ForwardPaths::new();
        for ip in &self.with_old_owner {
            let Some(from) = self.vips.get(ip).and_then(VipState::old_owner) else { continue };
            let via = match ip {
                IpAddr::V4(_) => from.v4.map(IpAddr::V4),
                IpAddr::V6(_) => from.v6.map(IpAddr::V6),
            };
            let link = self.common.links.link(from.link);
            if let (Some(via), Some(link), true) = (via, link, still(*ip)) {
                let path = ForwardPath::on((link.index, link.name.clone()), via);
                paths.entry(path).or_default().insert(*ip);
            }
        }
        paths
    }

    /// When there is something to do if nothing happens before: for [`due`](Self::due), or because
    /// [`offers`](Self::offers) or [`roles`](Self::roles) have something to tell.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let now = self.clock?;
        let pending = self.timers.pending() || self.offers_changed;
        let strays = self.common.strays.values().map(|not_before| not_before.unwrap_or(now)).min();
        let others = [self.timers.deadline(), self.common.ledger.renewal(), strays];
        others.into_iter().flatten().chain(pending.then_some(now)).min()
    }

    /// How many addresses are on interfaces by our doing; one that is moving to `lo` counts twice.
    pub(crate) fn held(&self) -> usize {
        self.common.ledger.len() + self.common.strays.len()
    }

    /// Addresses are put on interfaces for so long from now on, and renewed so often.
    pub(crate) fn pace(&mut self, lifetime: Duration, renew_every: Duration, now: Instant) {
        let options = &mut self.common.options;
        (options.lifetime, options.renew_every) = (lifetime, renew_every);
        self.common.ledger.pace(lifetime, renew_every, now);
    }

    /// Another number when [`on_interfaces`](Self::on_interfaces) has changed; `None` while there may
    /// still be what a predecessor left.
    pub(crate) fn version(&self) -> Option<u64> {
        let clean = self.looked && self.common.strays.is_empty();
        clean.then(|| self.common.ledger.version())
    }

    /// The addresses that are on interfaces by our doing, with the interface.
    pub(crate) fn on_interfaces(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        self.common.ledger.entries()
    }

    /// For people: each address, what this node does with it, and on which interface.
    pub(crate) fn states(&self) -> impl Iterator<Item = (IpAddr, LocalState, Option<&str>)> {
        self.vips.iter().map(|(ip, vip)| {
            let (state, index) = vip.state();
            let link = index.and_then(|index| self.common.links.link(index));
            (*ip, state, link.map(|link| link.name.as_str()))
        })
    }

    /// What has happened since the last call.
    pub(crate) fn events(&mut self) -> Vec<SpeakerEvent> {
        std::mem::take(&mut self.common.events)
    }

    /// Something about an address has changed.
    fn refresh(&mut self, ip: IpAddr) {
        let Some(vip) = self.vips.get_mut(&ip) else { return };
        self.offers_changed |= refresh(&mut self.offers, ip, vip, &mut self.common);
        self.timers.touch(ip);
        self.roles_changed.insert(ip);
    }

    /// Deletes what a predecessor left.
    fn purge(&self, now: Instant) -> Vec<Action> {
        let due = |at: &Option<Instant>| at.is_none_or(|not_before| not_before <= now);
        let strays = self.common.strays.iter().filter(|(_, not_before)| due(not_before));
        strays.map(|((index, ip), _)| Action::Delete { ip: *ip, index: *index }).collect()
    }

    fn purged(&mut self, index: u32, ip: IpAddr, outcome: Result<(), Failure>, now: Instant) {
        match outcome {
            Err(Failure { kind, .. }) if kind != FailureKind::Gone => {
                self.common.strays.insert((index, ip), Some(now + state::retry(kind)));
            }
            _ => {
                self.common.strays.remove(&(index, ip));
                self.common.links.deleted(index, ip);
                self.timers.touch(ip);
            }
        }
    }

    /// Renews all addresses, if it is time to, but those whose time had run out: this process hung,
    /// and another node of the group may have them.
    fn renew(&mut self, now: Instant) -> Option<Action> {
        let mut addresses = self.common.ledger.renew(now)?;
        if !self.common.options.adopt {
            let expired: BTreeSet<_> = self.common.ledger.expired(now).into_iter().collect();
            addresses.retain(|entry| !expired.contains(entry));
            for (_, ip) in expired {
                if let Some(vip) = self.vips.get_mut(&ip) {
                    vip.expire(now);
                    self.refresh(ip);
                }
            }
        }
        let lifetime = self.common.options.lifetime;
        (!addresses.is_empty()).then_some(Action::Renew { addresses, lifetime })
    }

    fn renewed(&mut self, addresses: &[(u32, IpAddr)], outcome: Result<(), Failure>, now: Instant) {
        match (outcome, addresses.first()) {
            (Ok(()), _) => self.common.ledger.renewed(addresses, now),
            // The kernel shows soon what has gone.
            (Err(Failure { kind: FailureKind::Gone, .. }), _) | (_, None) => {}
            (Err(failure), Some((_, ip))) => {
                self.common.ledger.hurry(now);
                if let Some(vip) = self.vips.get_mut(ip) {
                    vip.report(*ip, refusals::not_renewed(*ip, &failure), &mut self.common);
                }
            }
        }
    }
}

impl Action {
    /// First what must not be any more, last what can wait.
    fn rank(&self) -> u8 {
        match self {
            Self::Delete { .. } => 0,
            Self::ArpIgnore { .. } => 1,
            Self::Renew { .. } => 2,
            Self::Add { .. } => 3,
            Self::Announce { .. } => 4,
            Self::Probe { .. } => 5,
        }
    }
}

/// Takes what is deleted out of the renewal, which would put it on the interface again.
fn spare_deleted(actions: &mut Vec<Action>) {
    let deleted: BTreeSet<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Delete { ip, index } => Some((*index, *ip)),
            _ => None,
        })
        .collect();
    actions.retain_mut(|action| match action {
        Action::Renew { addresses, .. } => {
            addresses.retain(|entry| !deleted.contains(entry));
            !addresses.is_empty()
        }
        _ => true,
    });
}

/// Finds out what can be offered of an address; true if that has changed.
fn refresh(
    offers: &mut BTreeMap<IpAddr, Offer>,
    ip: IpAddr,
    vip: &mut VipState,
    common: &mut Common,
) -> bool {
    let changed = vip.refresh(ip, common);
    match vip.offer {
        Some(offer) if changed => drop(offers.insert(ip, offer)),
        None if changed => drop(offers.remove(&ip)),
        _ => {}
    }
    changed
}

#[cfg(test)]
mod tests;
