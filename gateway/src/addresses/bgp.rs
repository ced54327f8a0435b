//! The addresses that routers lead here: what the BGP speaker is to have, and what became of it.
//!
//! Connections on an address that is not announced any more are asked to leave while routers forget the
//! way to it, and are cut when it is gone. In a group that takes longer, and breaks nothing: `draining`
//! says how. Pure: `super` talks to the speaker, `state` asks for both.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::{
    BgpEvent, BgpStatus, Problem as VipProblem, RoutedAddresses,
    bgp::{BgpPlan, PeerAddress},
};

use super::{Change, Changes, draining::Draining, open::Open, problems::of_services};

/// The addresses that routers hear of.
#[derive(Debug)]
pub(super) struct BgpAddresses {
    node: ObjectRef,
    applied: Arc<BgpPlan>,
    /// What `applied` was made from.
    planned: Arc<BgpPlan>,
    open: Open,
    /// `None`: there is no group whose nodes could forward connections.
    draining: Option<Draining>,
    /// Addresses on the loopback interface by our doing.
    held: BTreeSet<IpAddr>,
    refused: BTreeMap<IpAddr, VipProblem>,
}

impl BgpAddresses {
    /// `drain`: for how long connections on an address that other nodes of the group go on announcing are
    /// served; `None`: there is no group.
    pub(super) fn new(node: &str, drain: Option<Duration>) -> Self {
        Self {
            node: ObjectRef::new("Node", ObjectKey::new("", node)),
            applied: Arc::default(),
            planned: Arc::default(),
            open: Open::default(),
            draining: drain.map(Draining::new),
            held: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// What the speaker is to have of the plan, if that has changed: the addresses that are `open`, and
    /// those that are drained. Says what that means for the connections on addresses that come or go.
    pub(super) fn apply(
        &mut self,
        plan: &Arc<BgpPlan>,
        open: Open,
        now: Instant,
    ) -> (Option<Arc<BgpPlan>>, Changes) {
        let turned = self.draining.as_ref().is_some_and(Draining::changed);
        if Arc::ptr_eq(plan, &self.planned) && open == self.open && !turned {
            return (None, Changes::new());
        }
        let mut allowed = plan.only(|ip| open.addresses.contains(ip));
        if !open.partial.is_empty() {
            allowed = allowed.deferring(&open.partial);
        }
        let before = self.announced();
        if let Some(draining) = &mut self.draining {
            allowed = draining.follow(allowed, &self.applied, &self.held, now);
        }
        (self.planned, self.open) = (Arc::clone(plan), open);
        self.refused.retain(|vip, _| allowed.addresses.contains_key(vip));
        let changed = allowed != *self.applied;
        if changed {
            self.applied = Arc::new(allowed);
        }
        let now = self.announced();
        let gone = before.difference(&now).map(|ip| (*ip, Change::Draining));
        let come = now.difference(&before).map(|ip| (*ip, Change::Active));
        (changed.then(|| Arc::clone(&self.applied)), gone.chain(come).collect())
    }

    /// Takes note of what the speaker did; says what it means for the connections on the address.
    pub(super) fn heard(&mut self, event: BgpEvent) -> Option<(IpAddr, Change)> {
        match event {
            BgpEvent::Added { vip } => {
                tracing::info!(%vip, "told to routers");
                self.refused.remove(&vip);
                self.held.insert(vip);
                None
            }
            BgpEvent::Removed { vip } => {
                tracing::info!(%vip, "withdrawn from routers");
                self.held.remove(&vip);
                self.draining.iter_mut().for_each(|draining| draining.removed(vip));
                Some((vip, Change::Gone))
            }
            BgpEvent::Refused { vip, refusal } => {
                self.refused.insert(vip, refusal);
                None
            }
            // The speaker has logged it, and its status says so.
            BgpEvent::Up { .. } | BgpEvent::Down { .. } => None,
        }
    }

    /// The other nodes of the group forward what is open on the address, if one of them serves it
    /// (`elsewhere`). Says what it means for the connections on the address.
    pub(super) fn forwarded(
        &mut self,
        vip: IpAddr,
        elsewhere: bool,
        now: Instant,
    ) -> Option<(IpAddr, Change)> {
        if !self.draining.as_mut()?.forwarded(vip, elsewhere, now) {
            return None;
        }
        if elsewhere {
            tracing::info!(%vip, "left to other nodes, open connections go on");
        }
        Some((vip, Change::Draining))
    }

    /// Ends the draining of addresses that every connection has left. True if [`apply`](Self::apply) has
    /// something to do.
    pub(super) fn drained(&mut self, left: impl Fn(IpAddr) -> Option<usize>, now: Instant) -> bool {
        let Some(draining) = &mut self.draining else { return false };
        draining.drained(left, now);
        draining.changed()
    }

    /// Whether some address waits for its connections to end.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.as_ref().is_some_and(Draining::is_draining)
    }

    /// What the nodes of the group are to know; `None` if there is no group.
    pub(super) fn routed(&self) -> Option<RoutedAddresses> {
        let draining = self.draining.as_ref()?;
        let interface = |address: &PeerAddress| match address {
            PeerAddress::Interface(name) => Some(name.clone()),
            PeerAddress::Ip(_) => None,
        };
        let peers = self.applied.peers.values();
        let interfaces = peers.filter_map(|config| interface(&config.peer.address)).collect();
        Some(RoutedAddresses { addresses: draining.routed(&self.applied), interfaces })
    }

    /// True while the address is wanted or still on the loopback interface.
    pub(super) fn holds(&self, vip: &IpAddr) -> bool {
        self.applied.addresses.contains_key(vip) || self.held.contains(vip)
    }

    /// Addresses that are on the loopback interface.
    pub(super) fn held(&self) -> &BTreeSet<IpAddr> {
        &self.held
    }

    /// Those of them that routers hear of.
    pub(super) fn told(&self) -> BTreeSet<IpAddr> {
        self.announced().intersection(&self.held).copied().collect()
    }

    /// What is wrong now, as problems of the Services, the peers and the node. `peer` finds the object
    /// behind the name of a BGPPeer.
    pub(super) fn problems(
        &self,
        status: &BgpStatus,
        peer: impl Fn(&str) -> Option<ObjectKey>,
    ) -> Vec<Problem> {
        let mut problems: Vec<_> =
            status.problems.iter().map(|open| open.clone().about(self.node.clone())).collect();
        for (name, status) in &status.peers {
            if let Some(key) = peer(name) {
                let object = ObjectRef::new("BGPPeer", key);
                problems
                    .extend(status.problems.iter().map(|open| open.clone().about(object.clone())));
            }
        }
        for (vip, refusal) in &self.refused {
            let claims = self.applied.addresses.get(vip).map(Vec::as_slice).unwrap_or_default();
            problems.extend(of_services(claims, refusal));
        }
        problems
    }

    /// Addresses that routers hear of as soon as they are on the loopback interface.
    fn announced(&self) -> BTreeSet<IpAddr> {
        let stays = |ip: &&IpAddr| self.draining.as_ref().is_none_or(|it| it.announced(ip));
        self.applied.addresses.keys().filter(stays).copied().collect()
    }
}
