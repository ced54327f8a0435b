//! What this node has to announce: the meeting point of allocation, advertisements and node.
//!
//! The compile step of the gateway calls [`plan`] and puts the [`VipPlan`] into its snapshot; the
//! [`Speaker`](crate::Speaker) makes it true: which of the nodes that may announce an address does so is
//! elected there. Nothing here looks at interfaces: that is known only when the plan is carried out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use crate::{
    alloc::{Allocation, Assignment, ClaimId},
    api::{L2AdvertisementSpec, PreferredNodeSelector},
    interface_name::name_fault,
    pool::{Pool, any_matches, selector_faults},
    problem::{Problem, duplicates},
};

/// What one node has to announce.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VipPlan {
    /// By address.
    pub vips: BTreeMap<IpAddr, Vip>,
}

/// One address to announce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vip {
    /// The claims that are served on it.
    pub claims: Vec<ClaimId>,
    /// Where it may be announced.
    pub interfaces: Interfaces,
    /// How much this node is preferred as its owner: the sum of the weights of all
    /// `preferredNodeSelectors` that match it, 0 if none does. The greatest of all nodes wins.
    pub preference: u32,
    /// This node can serve some of the claims only: every node that can serve all of them comes before it, whatever the
    /// preference.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

impl Vip {
    /// A digest of the claims that are served on it, whatever their order: nodes that disagree would serve different
    /// Services on one address.
    pub(crate) fn tenants(&self) -> u32 {
        let mut names: Vec<&str> = self.claims.iter().map(|claim| &*claim.0).collect();
        names.sort_unstable();
        let digest = digest(&SHA256, names.join(" ").as_bytes());
        digest.as_ref().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
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

/// The Node label that takes a node out, whatever its value (`core/v1`, `LabelNodeExcludeBalancers`).
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What the plan has to know of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.name` of the Node, or `--node`.
    pub name: String,
    /// `metadata.labels` of the Node; empty without a cluster.
    pub labels: BTreeMap<String, String>,
    /// `status.conditions` of the Node say `NetworkUnavailable: True`.
    pub network_unavailable: bool,
}

impl NodeFacts {
    /// Why the node announces nothing at all; `None` if it may.
    pub fn exclusion(&self) -> Option<Exclusion> {
        if self.labels.contains_key(EXCLUDE_LABEL) {
            Some(Exclusion::Label)
        } else {
            self.network_unavailable.then_some(Exclusion::NetworkUnavailable)
        }
    }
}

/// Why a node announces nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Exclusion {
    /// It has the label [`EXCLUDE_LABEL`].
    Label,
    /// Its network is not set up (Node condition `NetworkUnavailable`).
    NetworkUnavailable,
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label => write!(f, "the node has the label {EXCLUDE_LABEL}"),
            Self::NetworkUnavailable => {
                f.write_str("the node's condition NetworkUnavailable holds")
            }
        }
    }
}

/// A claim whose traffic this node can take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Labels of the service, for `serviceSelectors`.
    pub labels: BTreeMap<String, String>,
    /// With `externalTrafficPolicy: Local`, whether the node has a ready endpoint of the service;
    /// `None` if the policy is `Cluster`.
    pub local: Option<bool>,
}

/// The result of [`plan()`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// What this node may announce.
    pub plan: VipPlan,
    /// Why something that was wanted is not announced from here. Not severe where other nodes may.
    pub refusals: Vec<(ClaimId, Problem)>,
    /// Why the node announces nothing at all; then there are no refusals of single claims.
    pub excluded: Option<Exclusion>,
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

/// What this node may announce, and why something that was wanted is not.
///
/// `wanted` are the claims whose traffic this node can take. `advertisements` are (name, spec). An
/// address is announced if at least one advertisement selects its pool, the service and the node; if
/// several do, their interfaces add up and so do the weights that prefer this node. The same holds for an
/// address that claims share: what selects any of them counts, once. Without an advertisement nothing is
/// announced, as with MetalLB.
pub fn plan(
    allocation: &Allocation,
    pools: &[Pool],
    advertisements: &[(String, L2AdvertisementSpec)],
    wanted: &BTreeMap<ClaimId, Wanted>,
    node: &NodeFacts,
) -> Planned {
    let mut planned = Planned { excluded: node.exclusion(), ..Planned::default() };
    if planned.excluded.is_some() {
        return planned;
    }
    let by_name: BTreeMap<&str, &Pool> =
        pools.iter().rev().map(|pool| (pool.name(), pool)).collect();
    let mut by_pool: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut vips: BTreeMap<IpAddr, (Vec<ClaimId>, BTreeSet<usize>)> = BTreeMap::new();
    for (id, claim) in wanted {
        let Some(assigned) = allocation.assigned.get(id) else { continue };
        if claim.local == Some(false) {
            planned.refusals.push((id.clone(), no_local_endpoint(node)));
            continue;
        }
        for Assignment { ip, pool } in assigned {
            let selecting = by_pool.entry(pool).or_insert_with(|| {
                let pool = by_name.get(&**pool);
                let selects =
                    |at: &usize| pool.is_some_and(|pool| selects(&advertisements[*at].1, pool));
                (0..advertisements.len()).filter(selects).collect()
            });
            let specs = selecting.iter().map(|at| (*at, &advertisements[*at].1));
            let for_claim: Vec<_> = specs.filter(|(_, spec)| serves(spec, claim)).collect();
            let here = for_claim.iter().filter(|(_, spec)| allows_node(spec, node));
            let here: BTreeSet<usize> = here.map(|(at, _)| *at).collect();
            if here.is_empty() {
                let names = selecting.iter().map(|at| advertisements[*at].0.as_str()).collect();
                let refusal = not_advertised(pool, names, for_claim.is_empty(), node);
                // Both families of a claim mostly have the same story.
                let problem = Some(&(id.clone(), refusal.clone()));
                if planned.refusals.last() != problem {
                    planned.refusals.push((id.clone(), refusal));
                }
                continue;
            }
            let (claims, by) = vips.entry(*ip).or_default();
            claims.push(id.clone());
            by.extend(here);
        }
    }
    let vip = |(claims, by): (Vec<ClaimId>, BTreeSet<usize>)| {
        let specs = || by.iter().map(|at| &advertisements[*at].1);
        let interfaces = specs().map(interfaces).reduce(Interfaces::join);
        let preference = specs().map(|spec| preference(spec, node)).fold(0, u32::saturating_add);
        let interfaces = interfaces.unwrap_or(Interfaces::Any);
        Vip { claims, interfaces, preference, partial: false }
    };
    planned.plan.vips = vips.into_iter().map(|(ip, found)| (ip, vip(found))).collect();
    planned
}

/// What of an advertisement cannot work with these pools; for the object that holds it.
pub fn advertisement_refusals(spec: &L2AdvertisementSpec, pools: &[Pool]) -> Vec<Problem> {
    let mut refusals = Vec::new();
    for (index, name) in spec.ip_address_pools.iter().enumerate() {
        if !pools.iter().any(|pool| pool.name() == name) {
            let known: Vec<_> = pools.iter().map(Pool::name).collect();
            refusals.push(Problem::noted(
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
    refusals.extend(duplicates("spec.ipAddressPools", &spec.ip_address_pools));
    refusals.extend(duplicates("spec.interfaces", &spec.interfaces));
    refusals.extend(duplicates("spec.preferredNodeSelectors", &spec.preferred_node_selectors));
    for (index, name) in spec.interfaces.iter().enumerate() {
        refusals.extend(name_fault(name).map(|why| {
            Problem::refused(
                "InvalidInterface",
                format!("spec.interfaces[{index}]"),
                format!("{why}, so nothing is announced there"),
                "write a name that `ip link` shows, in full",
            )
        }));
    }
    for (field, selectors) in [
        ("spec.ipAddressPoolSelectors", &spec.ip_address_pool_selectors),
        ("spec.nodeSelectors", &spec.node_selectors),
        ("spec.serviceSelectors", &spec.service_selectors),
    ] {
        refusals.extend(selector_faults(field, selectors));
    }
    for (index, preferred) in spec.preferred_node_selectors.iter().enumerate() {
        let field = format!("spec.preferredNodeSelectors[{index}]");
        if weight(preferred).is_none() {
            refusals.push(Problem::refused(
                "InvalidWeight",
                format!("{field}.weight"),
                format!(
                    "the weight {} is not from 1 to 100, so it counts nothing",
                    preferred.weight
                ),
                "write a weight from 1 to 100",
            ));
        }
        if let Some(fault) = preferred.preference.fault() {
            refusals.push(Problem::refused(
                "InvalidSelector",
                format!("{field}.preference"),
                format!("{fault}, so the selector matches nothing"),
                "use In, NotIn (both with values), Exists or DoesNotExist (both without)",
            ));
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

fn selects(spec: &L2AdvertisementSpec, pool: &Pool) -> bool {
    (spec.ip_address_pools.is_empty() && spec.ip_address_pool_selectors.is_empty())
        || spec.ip_address_pools.iter().any(|name| name == pool.name())
        || any_matches(&spec.ip_address_pool_selectors, pool.labels())
}

fn serves(spec: &L2AdvertisementSpec, claim: &Wanted) -> bool {
    spec.service_selectors.is_empty() || any_matches(&spec.service_selectors, &claim.labels)
}

fn allows_node(spec: &L2AdvertisementSpec, node: &NodeFacts) -> bool {
    spec.node_selectors.is_empty() || any_matches(&spec.node_selectors, &node.labels)
}

fn interfaces(spec: &L2AdvertisementSpec) -> Interfaces {
    if spec.interfaces.is_empty() {
        Interfaces::Any
    } else {
        Interfaces::Named(spec.interfaces.iter().cloned().collect())
    }
}

fn preference(spec: &L2AdvertisementSpec, node: &NodeFacts) -> u32 {
    let preferring = spec.preferred_node_selectors.iter();
    preferring
        .filter(|preferred| preferred.preference.matches(&node.labels))
        .filter_map(weight)
        .fold(0, u32::saturating_add)
}

fn weight(preferred: &PreferredNodeSelector) -> Option<u32> {
    u32::try_from(preferred.weight).ok().filter(|weight| (1..=100).contains(weight))
}

fn no_local_endpoint(node: &NodeFacts) -> Problem {
    Problem::noted(
        "NoLocalEndpoint",
        "",
        format!(
            "externalTrafficPolicy is Local and node \"{}\" has no ready endpoint of the service",
            node.name
        ),
        "",
    )
}

fn not_advertised(pool: &str, names: Vec<&str>, not_for_it: bool, node: &NodeFacts) -> Problem {
    if names.is_empty() {
        return Problem::refused(
            "NotAdvertised",
            "",
            format!(
                "no L2Advertisement selects pool \"{pool}\", so its addresses are not announced"
            ),
            format!("create an L2Advertisement, with \"{pool}\" in ipAddressPools or without any"),
        );
    }
    let names = names.join(", ");
    if not_for_it {
        return Problem::refused(
            "NotAdvertised",
            "",
            format!("pool \"{pool}\" is advertised ({names}), but not for this service"),
            "give the service labels that one of their serviceSelectors matches",
        );
    }
    // Other nodes may announce it: no fault, as long as one does.
    Problem::noted(
        "NotAdvertised",
        "",
        format!("pool \"{pool}\" is advertised ({names}), but not from this node"),
        format!("node \"{}\" matches none of their nodeSelectors", node.name),
    )
}

#[cfg(test)]
mod tests;
