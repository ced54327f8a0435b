//! Virtual addresses: pools and `LoadBalancer` Services in, assignments and the announcement plan out.
//!
//! This file and those below it only translate: Kubernetes objects into claims and pools of the `vip`
//! crate, and its refusals into problems. Who gets what is decided there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gatehouse_routes::{
    annotations::ServedBy,
    objects::{Age, ObjectKey, ObjectRef, Stored},
    problem::Problem,
};
use gatehouse_vip::{ClaimId, Exclusion, VipPlan, bgp::BgpPlan};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{NodeContext, slices::Slices};
use crate::state::ClusterState;

mod bgp;
mod deal;
mod local;
pub(super) mod pools;
mod request;

pub(super) use bgp::passwords;
#[cfg(test)]
pub(super) use deal::deal_anew;
pub(super) use deal::{Deal, deal};
pub(super) use local::{usable, zone};

/// Reason of the refusal of a claim that no L2Advertisement is for.
const NOT_ADVERTISED: &str = "NotAdvertised";

/// What this node announces.
pub(super) struct Announced {
    pub(super) forwarded: BTreeSet<IpAddr>,
    pub(super) without_endpoint: BTreeSet<IpAddr>,
    pub(super) vips: VipPlan,
    pub(super) bgp: BgpPlan,
    pub(super) excluded: Option<Exclusion>,
}

/// The Services whose traffic ends in this process.
pub(super) struct Ours<'s> {
    pub(super) gateways: &'s BTreeMap<ObjectKey, &'s Service>,
    /// Those whose connections it passes on, and the Services that server names lead them to.
    pub(super) passed_on: BTreeMap<&'s ObjectKey, Vec<&'s ObjectKey>>,
    pub(super) slices: &'s Slices<'s>,
}

impl Ours<'_> {
    fn has(&self, key: &ObjectKey) -> bool {
        self.gateways.contains_key(key) || self.passed_on.contains_key(key)
    }

    /// Who serves a Service that asks for an address.
    fn served(&self, state: &ClusterState, key: &ObjectKey) -> ServedBy {
        let stored = || state.objects.services.get(key);
        if self.gateways.contains_key(key) {
            ServedBy::Gateway
        } else if self.passed_on.contains_key(key) || stored().is_some_and(|it| it.trust.standalone)
        {
            ServedBy::Process
        } else {
            ServedBy::Cluster
        }
    }
}

/// Plans what this node announces of the addresses that have been dealt out.
pub(super) fn announce(
    state: &ClusterState,
    node: &NodeContext,
    deal: &Deal,
    ours: &Ours<'_>,
    problems: &mut Vec<Problem>,
) -> Announced {
    problems.extend(deal.problems.iter().cloned());
    problems.extend(deal.of_annotations(|key| ours.served(state, key)).cloned());
    let (wanted, without_endpoint) = local::wanted(state, node, ours, &deal.assigned, problems);
    let forwarded = deal.assigned.iter().filter(|(key, _)| !ours.has(key));
    let forwarded = forwarded.flat_map(|(_, assigned)| assigned.ips.iter().copied()).collect();
    let advertisements: Vec<_> = state
        .l2_advertisements
        .iter()
        .map(|(key, stored)| (key.name.to_string(), stored.object.spec.clone()))
        .collect();
    for (key, stored) in &state.l2_advertisements {
        let object = ObjectRef::new("L2Advertisement", key.clone());
        let refusals = gatehouse_vip::advertisement_refusals(&stored.object.spec, &deal.pools);
        problems.extend(refusals.into_iter().map(|open| open.about(object.clone())));
    }
    let facts = local::facts(state, node);
    problems.extend(local::excluded(state, node, &facts, &deal.allocation));
    let (allocation, pools) = (&deal.allocation, &*deal.pools);
    let planned = gatehouse_vip::plan(allocation, pools, &advertisements, &wanted, &facts);

    let bgp = bgp::plan(state, pools, allocation, &wanted, &facts, problems);
    // Routers tell the network the way to it, so that no link has to.
    let routed: BTreeSet<_> = bgp.addresses.values().flatten().collect();
    let mut unannounced = planned.refusals;
    unannounced.retain(|(id, refusal)| refusal.reason != NOT_ADVERTISED || !routed.contains(id));
    problems.extend(unannounced.into_iter().filter_map(|(id, refusal)| deal.problem(&id, refusal)));
    let (vips, excluded) = (planned.plan, planned.excluded);
    Announced { forwarded, without_endpoint, vips, bgp, excluded }
}

fn by_age<'s, T: 's>(
    stored: impl Iterator<Item = (&'s ObjectKey, &'s Stored<T>)>,
    metadata: impl Fn(&T) -> &ObjectMeta,
) -> Vec<(&'s ObjectKey, &'s Stored<T>)> {
    let aged = stored.map(|entry| (entry.1.age(metadata(&entry.1.object)), entry));
    let mut aged: Vec<(Age, _)> = aged.collect();
    // They come in key order and the sort is stable, so equal ages fall back to the key.
    aged.sort_by_key(|(age, _)| *age);
    aged.into_iter().map(|(_, entry)| entry).collect()
}

fn claim_id(key: &ObjectKey) -> ClaimId {
    ClaimId(key.to_string().into())
}
