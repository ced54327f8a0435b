//! One address: what this node does about it, given what the members say.
//!
//! `super` has an [`Address`] for everything that this node offers or has offered lately, and asks it
//! to [`decide`](Address::decide) when something about it has changed. The rule, the same at every
//! member:
//!
//! * The fit member with the best priority ([`super::election`]) is to hold the address. If no member
//!   holds it, that member claims it at once; from a holder that is still fit, it claims it only after
//!   it has been fit for the hold-down.
//! * The holder keeps the address until a member of better priority says that it holds it too. So a
//!   planned move makes before it breaks, and of two holders that hear each other one soon stops.
//! * A holder that can no longer hold the address first gives a fit member a moment to take it.
//!
//! A member that this node hears, but that does not hear this node, counts as absent after a moment. It
//! takes this node for dead and claims the address; yielding to it could leave the address with a node
//! that hears no member. While a link carries one way only there are two holders; as soon as it carries
//! both ways again, one.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Decision, Offer, OldOwner, Role, Timing,
    election::{Priority, Rank, rank},
    link::{Candidate, Header, Link, Report, View},
    member::Member,
    wire::{Incarnation, Merit},
};
use crate::{l2::group::wire::Entry, links::LinkFacts};

/// For this long a member that may hold the address, but has not sent its whole table, holds up a claim.
const DOUBT_TIMEOUT: Duration = Duration::from_secs(1);
/// For this long an address that this node can no longer hold is kept until a member takes it.
const GRACE: Duration = Duration::from_secs(1);
/// For this long it counts that an address was held, or that its holder vanished.
const MEMORY: Duration = Duration::from_secs(10);
/// An address that is lost within this time after it was claimed makes the next hold-down longer.
const UNSTABLE: Duration = Duration::from_secs(60);
/// Longest hold-down.
const LONGEST_HOLD_DOWN: Duration = Duration::from_secs(60);

/// An address.
#[derive(Debug)]
pub(super) struct Address {
    ip: IpAddr,
    rank: Rank,
    link: u32,
    offer: Option<Offer>,
    /// Since when the offer has lasted without interruption.
    offered_since: Instant,
    role: Option<Role>,
    /// What is on the interface does not count: it is about to go, or has gone already.
    void: bool,
    /// Since when this node has claimed it.
    claimed: Option<Instant>,
    /// It was claimed from a holder that was fit.
    taken_back: bool,
    /// The next hold-down is this many times the ordinary one.
    doublings: u32,
    waiting_since: Option<Instant>,
    leaving_since: Option<Instant>,
    /// When a node was last known to hold it.
    held_at: Option<Instant>,
    /// When a member that held it vanished.
    orphaned_at: Option<Instant>,
    /// What was said of others' roles when it was last decided about.
    reports: Vec<Report>,
    terms: u8,
    /// The member that it was claimed from.
    predecessor: Option<Incarnation>,
    wake: Option<Instant>,
}

/// What has become of others that held the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    Nobody,
    LetGo,
    Vanished,
}

impl Address {
    pub(super) fn new(node: &str, ip: IpAddr, offer: Offer, now: Instant) -> Self {
        Self {
            ip,
            rank: rank(node, ip),
            link: offer.link,
            offer: Some(offer),
            offered_since: now,
            role: None,
            void: false,
            claimed: None,
            taken_back: false,
            doublings: 0,
            waiting_since: None,
            leaving_since: None,
            held_at: None,
            orphaned_at: None,
            reports: Vec::new(),
            terms: 0,
            predecessor: None,
            wake: None,
        }
    }

    /// The process before this one has claimed it, and leaves it on its interface for this one.
    pub(super) fn inherit(&mut self, now: Instant) -> Decision {
        self.held_at = Some(now);
        self.claim(Decision::Claim { probe: false, contested: false, from: None }, now)
    }

    /// The link where it is, or was last.
    pub(super) fn link(&self) -> u32 {
        self.link
    }

    /// Goes to the link where it is offered, once nothing of it is left on another. True if it does.
    pub(super) fn relocate(&mut self) -> bool {
        let link = self.offer.map_or(self.link, |offer| offer.link);
        let idle = self.claimed.is_none() && self.role.is_none();
        idle && std::mem::replace(&mut self.link, link) != link
    }

    /// The priority of this node for the address.
    pub(super) fn priority(&self, link: &Link, me: &Header) -> Priority {
        let fit = me.serving && !me.draining && self.offered() && !link.listening();
        Priority::new(fit, self.merit(), self.rank, me.incarnation)
    }

    /// When a decision is due though nothing changes.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    pub(super) fn active(&self) -> bool {
        self.role == Some(Role::Active) && !self.void
    }

    /// Replaces the offer; true if it differs. To move between links it has to be let go of first,
    /// so the new link counts only then.
    pub(super) fn offer(&mut self, offer: Option<Offer>, now: Instant) -> bool {
        if self.offer == offer {
            return false;
        }
        if self.offer.map(|offer| offer.link) != offer.map(|offer| offer.link) {
            self.offered_since = now;
        }
        self.offer = offer;
        true
    }

    /// What is on the interface now; true if that is new.
    pub(super) fn role(&mut self, role: Option<Role>, now: Instant) -> bool {
        if self.role.is_some() {
            self.held_at = Some(now);
        }
        if role != Some(Role::Active) {
            self.void = false;
        } else if self.role != role {
            self.terms = self.terms.checked_add(1).unwrap_or(1);
        }
        std::mem::replace(&mut self.role, role) != role
    }

    /// The hold-down begins anew.
    pub(super) fn unripe(&mut self, now: Instant) {
        self.offered_since = now;
    }

    /// This node was away: whatever it held others hold now.
    pub(super) fn void(&mut self, now: Instant) -> Option<Decision> {
        self.void = self.role == Some(Role::Active);
        self.unripe(now);
        self.lose(now)
    }

    /// What this node tells of it.
    pub(super) fn entry(&self, introduced: bool, healthy: bool) -> Option<Entry> {
        let entry = Entry {
            preference: self.merit().preference,
            partial: self.merit().partial,
            tenants: self.tenants().unwrap_or_default(),
            eligible: self.offered() && introduced && healthy,
            active: self.active(),
            draining: self.role == Some(Role::Draining),
            terms: self.terms,
            ..Entry::default()
        };
        // A term that is over is in the table as well: a member that has not heard of it has to announce again.
        (entry.eligible || entry.draining || entry.terms > 0).then_some(entry)
    }

    /// Whether nothing about it is worth remembering.
    pub(super) fn forgettable(&self, now: Instant) -> bool {
        let idle = self.offer.is_none() && self.role.is_none() && self.claimed.is_none();
        idle && now > self.offered_since + UNSTABLE
    }

    /// Whether the member that it was claimed from still serves connections on it.
    pub(super) fn old_owner_serves(&self, link: &Link) -> bool {
        self.predecessor.and_then(|id| link.member(&id)).is_some_and(|member| {
            let entry = member.table.get(self.ip);
            member.alive && entry.is_some_and(|(entry, _)| entry.active || entry.draining)
        })
    }

    /// Alone, whatever is offered is claimed.
    pub(super) fn decide_alone(&mut self, healthy: bool, now: Instant) -> Option<Decision> {
        match (healthy && self.offer.is_some(), self.claimed) {
            (true, None) => {
                self.claimed = Some(now);
                Some(Decision::Claim { probe: true, contested: false, from: None })
            }
            (false, Some(_)) => self.lose(now),
            _ => None,
        }
    }

    /// What has to change; `link` is `None` if the link is lost.
    pub(super) fn decide(
        &mut self,
        link: Option<&Link>,
        me: &Header,
        timing: &Timing,
        now: Instant,
    ) -> Option<Decision> {
        self.wake = None;
        let Some(link) = link else {
            if self.reports.drain(..).any(|report| report.alive && report.active) {
                (self.held_at, self.orphaned_at) = (Some(now), Some(now));
            }
            return self.lose(now);
        };
        let view = link.view(self.ip, timing, now);
        let departure = self.follow(&view, link, now);
        let priority = self.priority(link, me);
        if self.claimed.is_none() {
            self.consider(&view, priority, timing, now)
        } else if self.active() {
            self.hold(&view, priority, departure, link, me, now)
        } else {
            self.pursue(&view, priority, departure, timing, now)
        }
    }

    /// Not claimed: is it to be?
    fn consider(
        &mut self,
        view: &View<'_>,
        priority: Priority,
        timing: &Timing,
        now: Instant,
    ) -> Option<Decision> {
        let beaten = view.candidate.is_some_and(|candidate| candidate.priority < priority);
        if !priority.fit() || beaten {
            self.waiting_since = None;
            return None;
        }
        if let Some(holder) = view.holder {
            return self.take_over(holder, timing, now);
        }
        if view.doubt {
            let doubt_until = *self.waiting_since.get_or_insert(now) + DOUBT_TIMEOUT;
            if now < doubt_until {
                self.wake = Some(doubt_until);
                return None;
            }
        }
        let lately = |at: Option<Instant>| at.is_some_and(|at| now <= at + MEMORY);
        let (probe, contested) = (!lately(self.held_at), lately(self.orphaned_at));
        Some(self.claim(Decision::Claim { probe, contested, from: None }, now))
    }

    /// Claimed, but not on the interface yet: is it still to be?
    fn pursue(
        &mut self,
        view: &View<'_>,
        priority: Priority,
        departure: Departure,
        timing: &Timing,
        now: Instant,
    ) -> Option<Decision> {
        let before =
            |candidate: Option<Candidate<'_>>| candidate.is_some_and(|it| it.priority < priority);
        if !priority.fit() || before(view.candidate) || before(view.holder) {
            return self.release(None);
        }
        if let Some(holder) = view.holder
            && self.predecessor != Some(holder.incarnation)
        {
            let take = self.take_over(holder, timing, now);
            return take.or_else(|| self.release(None));
        }
        let contested = departure == Departure::Vanished;
        contested.then(|| self.claim(Decision::Claim { probe: false, contested, from: None }, now))
    }

    /// On the interface: is it to stay?
    fn hold(
        &mut self,
        view: &View<'_>,
        priority: Priority,
        departure: Departure,
        link: &Link,
        me: &Header,
        now: Instant,
    ) -> Option<Decision> {
        let able = self.offered() && me.serving;
        if let Some(holder) = view.holder.filter(|holder| holder.priority < priority) {
            if !able {
                self.reckon_loss(now);
            }
            return self.release(Some(holder.member.node.to_string()));
        }
        if able {
            self.leaving_since = None;
        } else {
            let until = *self.leaving_since.get_or_insert(now) + GRACE;
            if view.candidate.is_none() || now >= until {
                return self.lose(now);
            }
            self.wake = Some(until);
        }
        if departure == Departure::Nobody {
            return None;
        }
        // Until just now two were announcing it: say again where it is.
        let member = self.predecessor.and_then(|id| link.member(&id));
        let from =
            member.filter(|_| self.old_owner_serves(link)).map(|member| self.old_owner(member));
        Some(Decision::Claim { probe: false, contested: departure == Departure::Vanished, from })
    }

    /// Takes it from a holder of lower priority: at once if that one has to go, else when this node
    /// has been fit for long enough.
    fn take_over(
        &mut self,
        holder: Candidate<'_>,
        timing: &Timing,
        now: Instant,
    ) -> Option<Decision> {
        let ripe = self.offered_since + self.hold_down(timing);
        if holder.priority.fit() && now < ripe {
            self.wake = Some(ripe);
            return None;
        }
        self.taken_back = holder.priority.fit();
        self.predecessor = Some(holder.incarnation);
        let from = Some(self.old_owner(holder.member));
        Some(self.claim(Decision::Claim { probe: false, contested: false, from }, now))
    }

    fn claim(&mut self, claim: Decision, now: Instant) -> Decision {
        self.claimed.get_or_insert(now);
        self.waiting_since = None;
        self.leaving_since = None;
        self.void = false;
        if !matches!(claim, Decision::Claim { from: Some(_), .. }) {
            self.predecessor = None;
            self.taken_back = false;
        }
        claim
    }

    /// Lets go because another member is the better one.
    fn release(&mut self, drain_to: Option<String>) -> Option<Decision> {
        self.leaving_since = None;
        self.claimed.take().map(|_| Decision::Release { drain_to })
    }

    /// Lets go because this node cannot hold it.
    fn lose(&mut self, now: Instant) -> Option<Decision> {
        self.reckon_loss(now);
        self.release(None)
    }

    /// A node that keeps taking an address back and losing it again waits longer every time.
    fn reckon_loss(&mut self, now: Instant) {
        match self.claimed {
            Some(claimed) if now >= claimed + UNSTABLE => self.doublings = 0,
            Some(_) if self.taken_back => self.doublings = (self.doublings + 1).min(16),
            _ => {}
        }
    }

    /// Takes note of the members that hold the address, and of what has become of earlier holders.
    fn follow(&mut self, view: &View<'_>, link: &Link, now: Instant) -> Departure {
        let alive = |id: &Incarnation| link.member(id).is_some_and(|member| member.alive);
        let vanished = |old: &Report| old.alive && old.active && !alive(&old.incarnation);
        let let_go = |new: &Report| {
            let mut old = self.reports.iter().filter(|old| old.incarnation == new.incarnation);
            let same = old.any(|old| !old.active && old.terms == new.terms);
            !new.active && !same
        };
        // One that cannot hold it any more either may not mention it at all.
        let silent = |old: &Report| {
            let mut new = view.reports.iter().filter(|new| new.incarnation == old.incarnation);
            old.active && alive(&old.incarnation) && new.next().is_none()
        };
        let departure = if self.reports.iter().any(vanished) {
            self.orphaned_at = Some(now);
            Departure::Vanished
        } else if view.reports.iter().any(let_go) || self.reports.iter().any(silent) {
            Departure::LetGo
        } else {
            Departure::Nobody
        };
        if self.reports.iter().chain(&view.reports).any(|it| it.alive && it.active) {
            self.held_at = Some(now);
        }
        // Members that are not heard now are remembered as they were, but not as alive.
        let reported = |id| view.reports.iter().any(|report| report.incarnation == id);
        self.reports
            .retain(|old| !reported(old.incarnation) && link.member(&old.incarnation).is_some());
        for old in &mut self.reports {
            old.active &= !alive(&old.incarnation);
            old.alive = false;
        }
        self.reports.extend(&view.reports);
        departure
    }

    fn hold_down(&self, timing: &Timing) -> Duration {
        let longest = LONGEST_HOLD_DOWN.max(timing.hold_down);
        timing.hold_down.saturating_mul(1 << self.doublings).min(longest)
    }

    fn old_owner(&self, member: &Member) -> OldOwner {
        let LinkFacts { v4, v6, .. } = member.facts;
        OldOwner { node: member.node.to_string(), link: self.link, v4, v6 }
    }

    /// Offered on the link where it is looked at.
    fn offered(&self) -> bool {
        self.offer.is_some_and(|offer| offer.link == self.link)
    }

    /// Digest of the claims that this node would serve on it; `None` while it could not hold it.
    pub(super) fn tenants(&self) -> Option<u32> {
        self.offer.map(|offer| offer.tenants)
    }

    fn merit(&self) -> Merit {
        let of = |Offer { partial, preference, .. }| Merit { partial, preference };
        self.offer.map(of).unwrap_or_default()
    }
}
