//! What this node has to announce: the meeting point of allocation, advertisements and node.
//!
//! The compile step of the gateway calls [`plan`] and puts the [`VipPlan`] into its snapshot; the
//! [`Speaker`](crate::Speaker) makes it true. With one node, the node announces everything that is
//! advertised from it; election among nodes plugs in here, as one more condition. Nothing here looks
//! at interfaces: that is known only when the plan is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::alloc::{Allocation, ClaimId};
use crate::api::L2AdvertisementSpec;
use crate::pool::Pool;
use crate::refusal::Refusal;

/// What one node has to announce.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VipPlan {
    /// By address.
    pub vips: BTreeMap<IpAddr, Vip>,
}

/// One address to announce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vip {
    /// Who is served on it.
    pub claims: Vec<ClaimId>,
    /// Where it may be announced.
    pub interfaces: Interfaces,
    /// How much this node is preferred to hold it: the sum of the weights of the advertisements'
    /// `preferredNodeSelectors` that match it.
    pub preference: u32,
}

/// Interfaces that the advertisements allow, all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Interfaces {
    /// Whichever has the subnet.
    Any,
    /// Only these, by exact name.
    Named(BTreeSet<String>),
}

impl Interfaces {
    /// Whether an interface may be used.
    pub fn allow(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Named(names) => names.contains(name),
        }
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(mut names), Self::Named(more)) => {
                names.extend(more);
                Self::Named(names)
            }
            _ => Self::Any,
        }
    }
}

/// What the plan has to know of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.name` of the Node, or `--node`.
    pub name: String,
    /// `metadata.labels` of the Node; empty without a cluster.
    pub labels: BTreeMap<String, String>,
}

/// One change from plan to plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stop announcing.
    Withdraw(IpAddr),
    /// Keep announcing, under new terms.
    Change(IpAddr, Vip),
    /// Start announcing.
    Announce(IpAddr, Vip),
}

/// What this node has to announce, and why something that was wanted is not.
///
/// `wanted` are the claims that this process serves. `advertisements` are (name, spec); without one
/// that selects the pool, nothing of it is announced, as with MetalLB.
pub fn plan(
    allocation: &Allocation,
    pools: &[Pool],
    advertisements: &[(String, L2AdvertisementSpec)],
    wanted: &BTreeSet<ClaimId>,
    node: &NodeFacts,
) -> (VipPlan, Vec<(ClaimId, Refusal)>) {
    let mut plan = VipPlan::default();
    let mut refusals = Vec::new();
    let mut by_pool: BTreeMap<&str, Result<Interfaces, Refusal>> = BTreeMap::new();
    for id in wanted {
        let Some(assignment) = allocation.assigned.get(id) else { continue };
        let allowed = by_pool
            .entry(&assignment.pool)
            .or_insert_with(|| interfaces_for(&assignment.pool, pools, advertisements, node));
        match allowed {
            Err(refusal) => refusals.push((id.clone(), refusal.clone())),
            Ok(interfaces) => {
                for &ip in &assignment.ips {
                    plan.vips
                        .entry(ip)
                        .or_insert_with(|| Vip {
                            claims: Vec::new(),
                            interfaces: interfaces.clone(),
                            preference: 0,
                        })
                        .claims
                        .push(id.clone());
                }
            }
        }
    }
    (plan, refusals)
}

/// What of an advertisement cannot work with these pools; for the object that holds it.
pub fn advertisement_refusals(spec: &L2AdvertisementSpec, pools: &[Pool]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if !spec.service_selectors.is_empty() {
        refusals.push(Refusal::error(
            "UnsupportedSelector",
            "spec.serviceSelectors",
            "serviceSelectors is not supported yet, so the advertisement announces nothing",
            "remove it to announce all services of its pools",
        ));
    }
    for (index, name) in spec.ip_address_pools.iter().enumerate() {
        if !pools.iter().any(|pool| pool.name() == name) {
            let known: Vec<_> = pools.iter().map(Pool::name).collect();
            refusals.push(Refusal::warning(
                "PoolNotFound",
                format!("spec.ipAddressPools[{index}]"),
                format!("there is no usable pool \"{name}\""),
                format!(
                    "pools: {}",
                    if known.is_empty() { "none".into() } else { known.join(", ") }
                ),
            ));
        }
    }
    let selectors = [
        ("ipAddressPoolSelectors", &spec.ip_address_pool_selectors),
        ("nodeSelectors", &spec.node_selectors),
    ];
    for (field, selectors) in selectors {
        for (index, selector) in selectors.iter().enumerate() {
            if let Some(fault) = selector.fault() {
                refusals.push(Refusal::error(
                    "InvalidSelector",
                    format!("spec.{field}[{index}]"),
                    format!("{fault}, so the selector matches nothing"),
                    "use In, NotIn (both with values), Exists or DoesNotExist (both without)",
                ));
            }
        }
    }
    refusals
}

/// Steps from `old` to `new`, as few as possible: withdrawals first, so that an address that moves
/// between claims or interfaces is never announced on old terms next to new ones.
pub fn diff(old: &VipPlan, new: &VipPlan) -> Vec<Step> {
    let withdrawn = old.vips.keys().filter(|ip| !new.vips.contains_key(ip));
    let changed =
        new.vips.iter().filter(|(ip, vip)| old.vips.get(ip).is_some_and(|old| old != *vip));
    let added = new.vips.iter().filter(|(ip, _)| !old.vips.contains_key(ip));
    withdrawn
        .map(|ip| Step::Withdraw(*ip))
        .chain(changed.map(|(ip, vip)| Step::Change(*ip, vip.clone())))
        .chain(added.map(|(ip, vip)| Step::Announce(*ip, vip.clone())))
        .collect()
}

/// Where addresses of a pool may be announced from this node: the union over all advertisements that
/// select pool and node.
fn interfaces_for(
    pool: &str,
    pools: &[Pool],
    advertisements: &[(String, L2AdvertisementSpec)],
    node: &NodeFacts,
) -> Result<Interfaces, Refusal> {
    let selecting = || {
        let pool = pools.iter().find(|candidate| candidate.name() == pool);
        advertisements.iter().filter(move |(_, spec)| pool.is_some_and(|pool| selects(spec, pool)))
    };
    let here = selecting().filter(|(_, spec)| {
        // A limit to some services that is not understood must not become "all services".
        let node_fits = spec.node_selectors.is_empty()
            || spec.node_selectors.iter().any(|selector| selector.matches(&node.labels));
        node_fits && spec.service_selectors.is_empty()
    });
    let allowed = here.map(|(_, spec)| {
        if spec.interfaces.is_empty() {
            Interfaces::Any
        } else {
            Interfaces::Named(spec.interfaces.iter().cloned().collect())
        }
    });
    allowed.reduce(Interfaces::join).ok_or_else(|| not_advertised(pool, selecting(), node))
}

fn selects(spec: &L2AdvertisementSpec, pool: &Pool) -> bool {
    (spec.ip_address_pools.is_empty() && spec.ip_address_pool_selectors.is_empty())
        || spec.ip_address_pools.iter().any(|name| name == pool.name())
        || spec.ip_address_pool_selectors.iter().any(|selector| selector.matches(pool.labels()))
}

fn not_advertised<'a>(
    pool: &str,
    selecting: impl Iterator<Item = &'a (String, L2AdvertisementSpec)>,
    node: &NodeFacts,
) -> Refusal {
    let selecting: Vec<_> = selecting.collect();
    let names: Vec<_> = selecting.iter().map(|(name, _)| name.as_str()).collect();
    let limited = selecting.iter().any(|(_, spec)| !spec.service_selectors.is_empty());
    let (message, hint) = if selecting.is_empty() {
        (
            format!(
                "no L2Advertisement selects pool \"{pool}\", so its addresses are not announced"
            ),
            format!("create an L2Advertisement, with \"{pool}\" in ipAddressPools or without any"),
        )
    } else if limited {
        (
            format!("pool \"{pool}\" is advertised only to some services ({})", names.join(", ")),
            "serviceSelectors is not supported yet; remove it".to_owned(),
        )
    } else {
        (
            format!("pool \"{pool}\" is advertised ({}), but not from this node", names.join(", ")),
            format!("node \"{}\" matches none of their nodeSelectors", node.name),
        )
    };
    Refusal::error("NotAdvertised", "", message, hint)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
