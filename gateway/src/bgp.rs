//! Between the snapshot and the BGP speaker: what routers may hear of now, and what became of it.
//!
//! As in `vips`, an address is held back until every listener on it is open (bind, then announce), and
//! listeners outlive it (withdraw, then unbind). Connections on an address that is not announced any
//! more are asked to leave while routers forget the way to it, and are cut when it is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::{BgpEvent, BgpSpeaker, BgpSpeakerOptions, ClaimId, Refusal, bgp::BgpPlan};

use crate::{
    compile::ListenerPlan,
    listeners::Listeners,
    vips::{Moved, open_addresses, problem},
};

/// The routers of this node, and the addresses that they hear of.
pub(crate) struct Routers {
    speaker: Arc<BgpSpeaker>,
    node: ObjectRef,
    applied: Arc<BgpPlan>,
    /// What `applied` was made from.
    planned: Arc<BgpPlan>,
    open: BTreeSet<IpAddr>,
    /// Addresses on the loopback interface by our doing.
    held: BTreeSet<IpAddr>,
    refused: BTreeMap<IpAddr, Refusal>,
}

impl Routers {
    /// Starts the speaker's thread.
    pub(crate) fn start(
        options: BgpSpeakerOptions,
        events: impl Fn(BgpEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self {
            node: ObjectRef::new("Node", ObjectKey::new("", &*options.node)),
            speaker: Arc::new(BgpSpeaker::start(options, events)?),
            applied: Arc::default(),
            planned: Arc::default(),
            open: BTreeSet::new(),
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
        if Arc::ptr_eq(plan, &self.planned) && open == self.open {
            return BTreeMap::new();
        }
        let allowed = plan.only(|ip| open.contains(ip));
        (self.planned, self.open) = (Arc::clone(plan), open);
        self.refused.retain(|vip, _| allowed.addresses.contains_key(vip));
        let before = std::mem::replace(&mut self.applied, Arc::new(allowed));
        if before == self.applied {
            return BTreeMap::new();
        }
        self.speaker.apply(BgpPlan::clone(&self.applied));
        let (before, now) = (&before.addresses, &self.applied.addresses);
        let gone = before.keys().filter(|ip| !now.contains_key(ip)).map(|ip| (*ip, Moved::Away));
        let come = now.keys().filter(|ip| !before.contains_key(ip)).map(|ip| (*ip, Moved::Here));
        gone.chain(come).collect()
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

    /// What is wrong now, as problems of the Services, the peers and the node. `peer` finds the object
    /// behind the name of a BGPPeer.
    pub(crate) fn problems(&self, peer: impl Fn(&str) -> Option<ObjectKey>) -> Vec<Problem> {
        let status = self.speaker.status();
        let mut problems: Vec<_> =
            status.problems.iter().map(|refusal| problem(&self.node, refusal)).collect();
        for (name, status) in &status.peers {
            if let Some(key) = peer(name) {
                let object = ObjectRef::new("BGPPeer", key);
                problems.extend(status.problems.iter().map(|refusal| problem(&object, refusal)));
            }
        }
        for (vip, refusal) in &self.refused {
            let claims: &[ClaimId] =
                self.applied.addresses.get(vip).map(Vec::as_slice).unwrap_or_default();
            let services: BTreeSet<&str> = claims.iter().map(|claim| &*claim.0).collect();
            for service in services {
                let (namespace, name) = service.split_once('/').unwrap_or(("", service));
                let object = ObjectRef::new("Service", ObjectKey::new(namespace, name));
                problems.push(problem(&object, refusal));
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
