//! What this node does with every address, on links and towards routers together.
//!
//! The one place that decides about an address that a link and a router both have: it stays until the last
//! of them lets go, and so do its connections ([`seen_on_link`], [`seen_by_routers`]). `super` carries out
//! what is decided here. Pure: time is an argument, nothing is sent.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_routes::{objects::ObjectKey, problem::Problem};
use gatehouse_vip::{
    BgpStatus, Routed, RoutedAddresses, SpeakerEvent, SpeakerStatus, VipPlan, bgp::BgpPlan,
};

use super::{Announced, Change, Changes, Event, bgp::BgpAddresses, l2::L2Addresses, open::Open};

/// The addresses of this node.
#[derive(Debug)]
pub(super) struct AddressState {
    l2: L2Addresses,
    bgp: BgpAddresses,
    /// Whatever may stay elsewhere, here everything is to end.
    stopping: bool,
}

/// What the speakers are to be told; a plan is `None` if it is what they have.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) vips: Option<VipPlan>,
    pub(super) bgp: Option<Arc<BgpPlan>>,
    /// For the nodes of the group, again each time; `None`: there is no group.
    pub(super) routed: Option<RoutedAddresses>,
}

impl AddressState {
    /// `drain`: for how long connections on an address that is no longer announced are served. Those on one that routers
    /// lead elsewhere are if the node is `in_group`: others could not forward them. `problems` are those of the node that
    /// are known already.
    pub(super) fn new(node: &str, drain: Duration, in_group: bool, problems: Vec<Problem>) -> Self {
        Self {
            l2: L2Addresses::new(node, drain, problems),
            bgp: BgpAddresses::new(node, in_group.then_some(drain)),
            stopping: false,
        }
    }

    /// What may be announced of the plans, on the addresses that are `open`. Says what that means for the
    /// connections on the addresses that come or go.
    pub(super) fn apply(
        &mut self,
        vips: &VipPlan,
        bgp: &Arc<BgpPlan>,
        open: Open,
        now: Instant,
    ) -> (Orders, Changes) {
        let (vips, on_links) = self.l2.apply(vips, &open, now);
        let (bgp, mut changes) = self.bgp.apply(bgp, open, now);
        changes.retain(|ip, change| seen_by_routers(*change, self.l2.holds(ip)).is_some());
        // What leaves a link goes on if routers lead here as well.
        changes.extend(on_links.into_iter().filter(|(ip, _)| !self.bgp.holds(ip)));
        changes.retain(|_, change| self.counts(*change));
        (Orders { vips, bgp, routed: self.routed() }, changes)
    }

    /// Takes note of what a speaker did; says what it means for the connections on the address.
    pub(super) fn heard(&mut self, event: Event, now: Instant) -> Option<(IpAddr, Change)> {
        let (ip, change) = match event {
            Event::L2(SpeakerEvent::Forwarded { vip, elsewhere }) => {
                // A stop does not wait for it: every connection leaves anyway.
                if self.stopping {
                    return None;
                }
                let (ip, change) = self.bgp.forwarded(vip, elsewhere, now)?;
                (ip, seen_by_routers(change, self.l2.holds(&ip))?)
            }
            Event::L2(event) => {
                let (ip, change) = self.l2.heard(event, now)?;
                (ip, seen_on_link(change, self.bgp.holds(&ip)))
            }
            Event::Bgp(event) => {
                let (ip, change) = self.bgp.heard(event)?;
                (ip, seen_by_routers(change, self.l2.holds(&ip))?)
            }
        };
        self.counts(change).then_some((ip, change))
    }

    /// True while the address is wanted or still on an interface.
    pub(super) fn holds(&self, ip: IpAddr) -> bool {
        self.l2.holds(&ip) || self.bgp.holds(&ip)
    }

    /// Whether some address waits for its connections to end.
    pub(super) fn is_draining(&self) -> bool {
        // A stop keeps the addresses of routers for open connections only: no neighbour that missed an
        // announcement goes on sending to them. Nor does it wait for what waits for endpoints.
        let waits = self.bgp.is_draining() || self.l2.is_idling();
        self.l2.is_draining() || (!self.stopping && waits)
    }

    /// Addresses of a link that another node has taken over and that are still usable here.
    pub(super) fn draining(&self) -> Arc<[IpAddr]> {
        self.l2.draining()
    }

    /// Ends the draining of addresses that every connection has left. `left` counts them; `None` while
    /// that is not known. Returns the addresses that leave their link now, and whether
    /// [`apply`](Self::apply) has something to do.
    pub(super) fn release_drained(
        &mut self,
        left: impl Fn(IpAddr) -> Option<usize>,
        now: Instant,
    ) -> (Vec<IpAddr>, bool) {
        let idle = self.l2.idled(&left, now);
        (self.l2.drained(&left, now), self.bgp.drained(&left, now) || idle)
    }

    /// What is wrong now, as problems of the Services, the peers and the node.
    pub(super) fn problems(
        &mut self,
        l2: &SpeakerStatus,
        bgp: &BgpStatus,
        peer: impl Fn(&str) -> Option<ObjectKey>,
        now: Instant,
    ) -> Vec<Problem> {
        let mut problems = self.l2.problems(l2, now);
        problems.extend(self.bgp.problems(bgp, peer));
        problems
    }

    /// Announced addresses and their interfaces.
    pub(super) fn announced(&self) -> Vec<Announced> {
        let on_links = self.l2.held().iter();
        let on_links =
            on_links.map(|(vip, interface)| Announced { vip: *vip, interface: interface.clone() });
        let told = self.bgp.told().into_iter();
        let told = told.map(|vip| Announced { vip, interface: "lo".to_owned() });
        on_links.chain(told).collect()
    }

    /// The node leaves every address. Returns what the nodes of the group are to know, if there is a group,
    /// and which connections are to leave at once.
    pub(super) fn begin_stop(&mut self) -> (Option<RoutedAddresses>, Changes) {
        self.stopping = true;
        // Connections that come by routers begin to leave while routers still lead here: when they lead
        // elsewhere, what is open breaks unless the nodes of a group forward it.
        let held = self.bgp.held().iter();
        let changes = held.filter_map(|ip| {
            let change = seen_by_routers(Change::Draining, self.l2.holds(ip))?;
            Some((*ip, change))
        });
        (self.routed(), changes.collect())
    }

    /// Whether a change still counts: once the node stops, no connection is to stay.
    fn counts(&self, change: Change) -> bool {
        !self.stopping || change != Change::Active
    }

    /// What the nodes of the group are to know, if there is a group: once the node stops, that it leaves
    /// every address, whatever is planned.
    fn routed(&self) -> Option<RoutedAddresses> {
        let mut routed = self.bgp.routed()?;
        if self.stopping {
            routed.addresses.values_mut().for_each(|state| *state = Routed::Leaving);
        }
        Some(routed)
    }
}

/// What a change on a link means for the connections on the address: those on one that leaves the link go
/// on if routers lead here as well.
fn seen_on_link(change: Change, routers_have_it: bool) -> Change {
    match change {
        Change::Gone if routers_have_it => Change::Active,
        change => change,
    }
}

/// What a change of what routers hear means for the connections on the address: nothing if it goes, but a
/// link has it as well.
fn seen_by_routers(change: Change, link_has_it: bool) -> Option<Change> {
    (change == Change::Active || !link_has_it).then_some(change)
}

#[cfg(test)]
mod tests;
