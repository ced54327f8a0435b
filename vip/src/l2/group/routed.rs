//! Addresses that several members have at once because routers lead to each of them: which members
//! leave an address, and which member forwards what to which.
//!
//! A router that spreads clients over several nodes (ECMP) sends the open connections of one node to
//! another as soon as it hears that the node leaves. So a member that is about to leave an address tells
//! the other members first. They begin to forward to it every connection that they have not seen begin,
//! and confirm that. Only then the routers hear of it. The member goes on serving its open connections
//! until it no longer mentions the address.
//!
//! Several members may be leaving at once, and a router may still lead to all of them. A TCP segment of an
//! unknown connection has to visit each leaving member once and then to stay. A member that gets it from
//! a router forwards it to the first leaving member, in the order of their incarnations; a leaving member
//! that gets it from another member forwards it to the next one in that order; the last one keeps it. So
//! forwarding always goes up in one order and never in circles.
//!
//! Part of [`Group`], which is asked by the speaker's driver. Pure. Nothing here has to do with
//! elections: an address may be announced by ARP and NDP as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    time::{Duration, Instant},
};

use super::{Group, member::Member, wire::Incarnation};
use crate::{
    l2::{forward_old::NextHop, group::wire::Entry},
    links::Mac,
};

/// How long a member that leaves waits until the others forward to it; after that its open connections
/// may break.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// What this node does with an address that routers lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// Takes whatever comes.
    Serving,
    /// Is about to have routers lead elsewhere, or has had them; serves what is open.
    Leaving,
}

/// The addresses that routers lead to this node.
#[derive(Debug, Default)]
pub(super) struct Routes {
    own: BTreeMap<IpAddr, Own>,
    /// The members to forward to may be others than those that were last asked for.
    stale: bool,
}

#[derive(Debug)]
struct Own {
    state: Routed,
    /// While others are waited for.
    asking: Option<Asking>,
}

#[derive(Debug)]
struct Asking {
    until: Instant,
    /// By link, the version of this node's table that says it first.
    versions: BTreeMap<u32, u32>,
}

/// What this node forwards of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub(crate) vip: IpAddr,
    pub(crate) to: NextHop,
    /// Where that goes instead which a member hands in; `None`: nowhere.
    pub(crate) from_members: BTreeMap<Mac, Option<NextHop>>,
}

/// All that this node forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwardings {
    pub(crate) all: Vec<Forwarding>,
    /// Link, member and version of its table that this follows from.
    follows: Vec<(u32, Incarnation, u32)>,
}

impl Routes {
    /// Something about a member has changed.
    pub(super) fn touch(&mut self) {
        self.stale = true;
    }

    /// Adds what members hear of these addresses to this node's table.
    pub(super) fn enter(&self, entries: &mut BTreeMap<IpAddr, Entry>) {
        for (ip, own) in &self.own {
            let entry = entries.entry(*ip).or_default();
            entry.routed = true;
            entry.leaving = own.state == Routed::Leaving;
        }
    }

    /// When a member that is waited for is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.own.values().filter_map(|own| Some(own.asking.as_ref()?.until)).min()
    }
}

impl Group {
    /// The addresses that routers lead to this node; replaces what was said before.
    pub(crate) fn routed(&mut self, addresses: &BTreeMap<IpAddr, Routed>, now: Instant) {
        self.pass(now);
        let own = addresses.iter().map(|(ip, state)| {
            let before = self.routes.own.remove(ip).filter(|own| own.state == *state);
            let new = || {
                let asking = Asking { until: now + LEAVE_TIMEOUT, versions: BTreeMap::new() };
                Own { state: *state, asking: (*state == Routed::Leaving).then_some(asking) }
            };
            (*ip, before.unwrap_or_else(new))
        });
        self.routes.own = own.collect();
        self.routes.touch();
        self.unpublished.extend(self.links.keys());
    }

    /// The addresses that routers lead to this node.
    pub(crate) fn routes(&self) -> impl Iterator<Item = IpAddr> {
        self.routes.own.keys().copied()
    }

    /// What this node is to pass on, if that may have changed since it was last said to stand.
    pub(crate) fn forwardings(&mut self) -> Option<Forwardings> {
        let behind = |member: &Member| member.followed != member.table.version();
        let mut members = self.links.values().flat_map(|link| link.members());
        let behind = members.any(|(_, member)| member.alive && behind(member));
        if !std::mem::take(&mut self.routes.stale) && !behind {
            return None;
        }
        let leavers = self.leavers();
        let forwardings =
            leavers.iter().filter_map(|(vip, leavers)| self.forwarding(*vip, leavers));
        let follows = self.links.iter().flat_map(|(index, link)| {
            let alive = link.members().filter(|(_, member)| member.alive);
            alive.map(|(id, member)| (*index, *id, member.table.version()))
        });
        Some(Forwardings { all: forwardings.collect(), follows: follows.collect() })
    }

    /// The kernel forwards, as far as this node can; the members that leave hear of it at once.
    pub(crate) fn forwardings_stand(&mut self, forwardings: &Forwardings, now: Instant) {
        self.pass(now);
        for (link, member, version) in &forwardings.follows {
            if let Some(link) = self.links.get_mut(link) {
                link.follow(member, *version, now);
            }
        }
    }

    /// The addresses that may be withdrawn from routers, each once, and whether routers can lead them
    /// elsewhere: another member serves the address. All members that have it forward to this node what is
    /// open here, unless they took too long. To be called after [`decisions`](Self::decisions).
    pub(crate) fn departures(&mut self, now: Instant) -> Vec<(IpAddr, bool)> {
        self.pass(now);
        let mut routes = std::mem::take(&mut self.routes);
        let mut departures = Vec::new();
        for (ip, own) in &mut routes.own {
            let Some(asking) = &mut own.asking else { continue };
            for (index, link) in &self.links {
                asking.versions.entry(*index).or_insert_with(|| link.version());
            }
            let (others, ready) = self.ready_without(*ip, asking);
            if ready || now >= asking.until {
                own.asking = None;
                departures.push((*ip, others));
            }
        }
        self.routes = routes;
        departures
    }

    /// How many addresses wait to be [departures](Self::departures).
    pub(crate) fn departing(&self) -> usize {
        self.routes.own.values().filter(|own| own.asking.is_some()).count()
    }

    /// Whether another member serves the address, and whether all members that have it forward.
    fn ready_without(&self, ip: IpAddr, asking: &Asking) -> (bool, bool) {
        let mut heirs: BTreeMap<&Incarnation, bool> = BTreeMap::new();
        let mut others = false;
        for (index, link) in &self.links {
            let asked = asking.versions.get(index).copied();
            for (incarnation, member) in link.members().filter(|(_, member)| member.alive) {
                let Some((entry, _)) = member.table.get(ip) else { continue };
                if entry.routed {
                    others |= !entry.leaving;
                    let follows = asked.is_some_and(|version| member.passes_on(version));
                    *heirs.entry(incarnation).or_default() |= follows;
                }
            }
        }
        let known = self.links.values().all(|link| !link.listening());
        (others, known && heirs.values().all(|follows| *follows))
    }

    /// The live members that leave an address of this node's, and how they are reached.
    fn leavers(&self) -> BTreeMap<IpAddr, BTreeMap<Incarnation, NextHop>> {
        let mut leavers: BTreeMap<IpAddr, BTreeMap<_, _>> = BTreeMap::new();
        for (index, link) in &self.links {
            for (incarnation, member) in link.members().filter(|(_, member)| member.alive) {
                let leaves = |(ip, entry): &(IpAddr, &Entry)| {
                    entry.leaving && self.routes.own.contains_key(ip)
                };
                for (ip, _) in member.table.iter().filter(leaves) {
                    let via = match ip {
                        IpAddr::V4(_) => member.facts.v4.map(IpAddr::V4),
                        IpAddr::V6(_) => member.facts.v6.map(IpAddr::V6),
                    };
                    let Some(via) = via else { continue };
                    let hop = NextHop { link: *index, via };
                    leavers.entry(ip).or_default().entry(*incarnation).or_insert(hop);
                }
            }
        }
        leavers
    }

    fn forwarding(
        &self,
        vip: IpAddr,
        leavers: &BTreeMap<Incarnation, NextHop>,
    ) -> Option<Forwarding> {
        let to = *leavers.values().next()?;
        let mut from_members = BTreeMap::new();
        if self.routes.own.get(&vip)?.state == Routed::Leaving {
            let after = (Bound::Excluded(self.header.incarnation), Bound::Unbounded);
            let next = leavers.range(after).next().map(|(_, hop)| *hop);
            if next != Some(to) {
                from_members = self.macs(vip).into_iter().map(|mac| (mac, next)).collect();
            }
        }
        Some(Forwarding { vip, to, from_members })
    }

    /// By what the members that have an address hand segments in.
    fn macs(&self, vip: IpAddr) -> BTreeSet<Mac> {
        let members = self.links.values().flat_map(|link| link.members());
        let has = |member: &Member| member.table.get(vip).is_some_and(|(entry, _)| entry.routed);
        let having = members.filter(|(_, member)| member.alive && has(member));
        having.map(|(_, member)| member.facts.mac).collect()
    }
}

#[cfg(test)]
mod tests;
