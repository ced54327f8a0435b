//! Between the snapshot and the BGP speaker: what routers may hear of now, and what became of it.
//!
//! As in `vips`, an address is held back until every listener on it is open (bind, then announce), and
//! listeners outlive it (withdraw, then unbind). Connections on an address that is not announced any
//! more are asked to leave while routers forget the way to it, and are cut when it is gone. In a group
//! that takes longer, and breaks nothing: `leaving` says how.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::{
    BgpEvent, BgpSpeaker, BgpSpeakerOptions, ClaimId, Problem as VipProblem, Routed,
    RoutedAddresses,
    bgp::{BgpPlan, PeerAddress},
};

use super::{
    draining::Departures,
    l2::{Moved, open_addresses},
};
use crate::{compile::ListenerPlan, listeners::Listeners};

/// The routers of this node, and the addresses that they hear of.
pub(crate) struct Routers {
    speaker: Arc<BgpSpeaker>,
    node: ObjectRef,
    applied: Arc<BgpPlan>,
    /// What `applied` was made from.
    planned: Arc<BgpPlan>,
    open: BTreeSet<IpAddr>,
    /// `None`: there is no group whose nodes could pass connections on.
    departures: Option<Departures>,
    /// Addresses on the loopback interface by our doing.
    held: BTreeSet<IpAddr>,
    refused: BTreeMap<IpAddr, VipProblem>,
}

impl Routers {
    /// Starts the speaker's thread. `linger`: for how long connections on an address that other nodes of
    /// the group go on announcing are served; `None`: there is no group.
    pub(crate) fn start(
        options: BgpSpeakerOptions,
        linger: Option<Duration>,
        events: impl Fn(BgpEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self {
            node: ObjectRef::new("Node", ObjectKey::new("", &*options.node)),
            speaker: Arc::new(BgpSpeaker::start(options, events)?),
            applied: Arc::default(),
            planned: Arc::default(),
            open: BTreeSet::new(),
            departures: linger.map(Departures::new),
            held: BTreeSet::new(),
            refused: BTreeMap::new(),
        })
    }

    /// For those who show what the speaker knows, as long as it runs.
    pub(crate) fn speaker(&self) -> Weak<BgpSpeaker> {
        Arc::downgrade(&self.speaker)
    }

    /// Hands the speaker what may be announced of the plan; says what that means for the connections on
    /// the addresses that come or go.
    pub(crate) fn apply(
        &mut self,
        plan: &Arc<BgpPlan>,
        plans: &[ListenerPlan],
        listeners: &Listeners,
    ) -> BTreeMap<IpAddr, Moved> {
        let open = open_addresses(plans, |plan| listeners.is_open(plan));
        let turned = self.departures.as_ref().is_some_and(Departures::changed);
        if Arc::ptr_eq(plan, &self.planned) && open == self.open && !turned {
            return BTreeMap::new();
        }
        let mut allowed = plan.only(|ip| open.contains(ip));
        let before = self.announced();
        if let Some(departures) = &mut self.departures {
            let now = Instant::now();
            allowed = departures.follow(allowed, &self.applied, &self.held, now);
        }
        (self.planned, self.open) = (Arc::clone(plan), open);
        self.refused.retain(|vip, _| allowed.addresses.contains_key(vip));
        if allowed != *self.applied {
            self.applied = Arc::new(allowed);
            self.speaker.apply(BgpPlan::clone(&self.applied));
        }
        let now = self.announced();
        let gone = before.difference(&now).map(|ip| (*ip, Moved::Away));
        let come = now.difference(&before).map(|ip| (*ip, Moved::Here));
        gone.chain(come).collect()
    }

    /// Addresses that routers hear of as soon as they are on the loopback interface.
    fn announced(&self) -> BTreeSet<IpAddr> {
        let stays = |ip: &&IpAddr| self.departures.as_ref().is_none_or(|it| it.announced(ip));
        self.applied.addresses.keys().filter(stays).copied().collect()
    }

    /// What the nodes of the group are to know; `None` if there is no group.
    pub(crate) fn routed(&self) -> Option<RoutedAddresses> {
        let departures = self.departures.as_ref()?;
        let interface = |address: &PeerAddress| match address {
            PeerAddress::Interface(name) => Some(name.clone()),
            PeerAddress::Ip(_) => None,
        };
        let peers = self.applied.peers.values();
        let interfaces = peers.filter_map(|config| interface(&config.peer.address)).collect();
        Some(RoutedAddresses { addresses: departures.routed(&self.applied), interfaces })
    }

    /// As [`Self::routed`], when the node leaves every address.
    pub(crate) fn routed_no_more(&self) -> Option<RoutedAddresses> {
        let mut routed = self.routed()?;
        routed.addresses.values_mut().for_each(|state| *state = Routed::Leaving);
        Some(routed)
    }

    /// The nodes of the group pass on what is open on the address, if one of them serves it. True if
    /// [`apply`](Self::apply) has something to do.
    pub(crate) fn relayed(&mut self, vip: IpAddr, elsewhere: bool, now: Instant) -> bool {
        let departures = self.departures.as_mut();
        let goes = departures.is_some_and(|departures| departures.relayed(vip, elsewhere, now));
        if goes && elsewhere {
            tracing::info!(%vip, "left to other nodes, open connections go on");
        }
        goes
    }

    /// Lets addresses go that every connection has left; as [`relayed`](Self::relayed).
    pub(crate) fn let_go(&mut self, left: impl Fn(IpAddr) -> Option<usize>, now: Instant) -> bool {
        let Some(departures) = &mut self.departures else { return false };
        departures.let_go(left, now);
        departures.changed()
    }

    /// Whether some address waits for its connections to end.
    pub(crate) fn lingers(&self) -> bool {
        self.departures.as_ref().is_some_and(Departures::lingers)
    }

    /// Takes note of what the speaker did; says what it means for the connections on the address.
    pub(crate) fn heard(&mut self, event: BgpEvent) -> Option<(IpAddr, Moved)> {
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
                self.departures.iter_mut().for_each(|departures| departures.removed(vip));
                Some((vip, Moved::Gone))
            }
            BgpEvent::Refused { vip, refusal } => {
                self.refused.insert(vip, refusal);
                None
            }
            // The speaker has logged it, and its status says so.
            BgpEvent::Up { .. } | BgpEvent::Down { .. } => None,
        }
    }

    /// True while the address is wanted or still on the loopback interface.
    pub(crate) fn holds(&self, vip: &IpAddr) -> bool {
        self.applied.addresses.contains_key(vip) || self.held.contains(vip)
    }

    /// Addresses that are on the loopback interface.
    pub(crate) fn held(&self) -> &BTreeSet<IpAddr> {
        &self.held
    }

    /// Those of them that routers hear of.
    pub(crate) fn told(&self) -> BTreeSet<IpAddr> {
        self.announced().intersection(&self.held).copied().collect()
    }

    /// What is wrong now, as problems of the Services, the peers and the node. `peer` finds the object
    /// behind the name of a BGPPeer.
    pub(crate) fn problems(&self, peer: impl Fn(&str) -> Option<ObjectKey>) -> Vec<Problem> {
        let status = self.speaker.status();
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
            let claims: &[ClaimId] =
                self.applied.addresses.get(vip).map(Vec::as_slice).unwrap_or_default();
            let services: BTreeSet<&str> = claims.iter().map(|claim| &*claim.0).collect();
            for service in services {
                let (namespace, name) = service.split_once('/').unwrap_or(("", service));
                let object = ObjectRef::new("Service", ObjectKey::new(namespace, name));
                problems.push(refusal.clone().about(object));
            }
        }
        problems
    }

    /// Begins to leave well, and waits so long for it: routers are asked to prefer other ways, then told
    /// that there is none here any more. The addresses stay for open connections. True if it is done.
    pub(crate) fn drain(&self, timeout: Duration) -> bool {
        self.speaker.drain_and_wait(timeout)
    }
}
