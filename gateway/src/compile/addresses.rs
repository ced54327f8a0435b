//! Virtual addresses: pools and `LoadBalancer` Services in, assignments and the announcement plan out.
//!
//! This file and those below it only translate: Kubernetes objects into claims and pools of the `vip`
//! crate, and its refusals into problems. Who gets what is decided there.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use gatehouse_routes::{
    objects::{Age, ObjectKey, ObjectRef, Stored},
    problem::Problem,
};
use gatehouse_vip::{
    Allocation, Claim, ClaimId, Exclusion, Pool, PoolUsage, Quarantined, VipPlan, bgp::BgpPlan,
};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use self::request::Request;
use super::{Assigned, Compiled, Dealt, NodeContext, Role, gateways::claims_address};
use crate::state::ClusterState;

mod bgp;
mod local;
pub(super) mod pools;
mod request;

pub(super) use bgp::passwords;
pub(super) use local::zone;

/// The label that every namespace has in a cluster, whatever its manifest says.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Reason of the refusal of a claim that no L2Advertisement is for.
const NOT_ADVERTISED: &str = "NotAdvertised";

/// Who got what, and what this node announces.
pub(super) struct Addresses {
    pub(super) assigned: BTreeMap<ObjectKey, Assigned>,
    pub(super) dealt: BTreeMap<ObjectKey, Dealt>,
    pub(super) forwarded: BTreeSet<IpAddr>,
    pub(super) vips: VipPlan,
    pub(super) bgp: BgpPlan,
    pub(super) excluded: Option<Exclusion>,
    pub(super) pools: Vec<PoolUsage>,
    pub(super) quarantined: Quarantined,
}

/// The Services whose traffic ends in this process.
pub(super) struct Ours<'s> {
    pub(super) gateways: &'s BTreeMap<ObjectKey, &'s Service>,
    /// Those whose connections it passes on.
    pub(super) passed_on: BTreeSet<&'s ObjectKey>,
}

impl Ours<'_> {
    fn has(&self, key: &ObjectKey) -> bool {
        self.gateways.contains_key(key) || self.passed_on.contains(key)
    }
}

/// Deals out addresses to every Service that asks for one, or takes those that are recorded. What is dealt
/// in a cluster is announced when it is recorded, and not before.
pub(super) fn allocate(
    state: &ClusterState,
    node: &NodeContext,
    role: Role,
    previous: Option<&Compiled>,
    ours: &Ours<'_>,
    problems: &mut Vec<Problem>,
) -> Addresses {
    let pools = pools::usable(&state.pools, problems);
    let recorded = Recorded::new(state, node, role, previous);
    let (claims, requests) = claims(state, &pools, &recorded, problems);
    let quarantined = recorded.quarantined(&requests);
    let mut allocation = match role {
        Role::Allocate => {
            gatehouse_vip::allocate(&pools, &claims, &quarantined, &recorded.occupied())
        }
        Role::Follow => gatehouse_vip::follow(&pools, &claims, &quarantined),
    };

    let usage = gatehouse_vip::usage(&pools, &allocation);
    let dealt = dealt(state, assigned(&allocation, &requests));
    only_recorded(state, &mut allocation, &requests);
    let assigned = assigned(&allocation, &requests);
    let wanted = local::wanted(state, node, ours, &assigned, problems);
    let forwarded = assigned.iter().filter(|(key, _)| !ours.has(key));
    let forwarded = forwarded.flat_map(|(_, assigned)| assigned.ips.iter().copied()).collect();
    let advertisements: Vec<_> = state
        .l2_advertisements
        .iter()
        .map(|(key, stored)| (key.name.to_string(), stored.object.spec.clone()))
        .collect();
    for (key, stored) in &state.l2_advertisements {
        let object = ObjectRef::new("L2Advertisement", key.clone());
        let refusals = gatehouse_vip::advertisement_refusals(&stored.object.spec, &pools);
        problems.extend(refusals.into_iter().map(|open| open.about(object.clone())));
    }
    let facts = local::facts(state, node);
    problems.extend(local::excluded(state, node, &facts, &allocation));
    let planned = gatehouse_vip::plan(&allocation, &pools, &advertisements, &wanted, &facts);

    let bgp = bgp::plan(state, &pools, &allocation, &wanted, &facts, problems);
    // Routers tell the network the way to it, so that no link has to.
    let routed: BTreeSet<_> = bgp.addresses.values().flatten().collect();
    let mut unannounced = planned.refusals;
    unannounced.retain(|(id, refusal)| refusal.reason != NOT_ADVERTISED || !routed.contains(id));

    let refused = allocation.refused.into_iter();
    let refusals =
        refused.flat_map(|(id, list)| list.into_iter().map(move |one| (id.clone(), one)));
    for (id, refusal) in refusals.chain(unannounced.iter().cloned()) {
        if let Some((key, request)) = requests.get(&id) {
            problems.push(request.problem(key, refusal));
        }
    }
    Addresses {
        assigned,
        dealt,
        forwarded,
        vips: planned.plan,
        bgp,
        excluded: planned.excluded,
        pools: usage,
        quarantined: allocation.quarantined,
    }
}

type Requests<'s> = BTreeMap<ClaimId, (&'s ObjectKey, Request)>;

/// The claims of all Services that want addresses, oldest first, and what they came from.
fn claims<'s>(
    state: &'s ClusterState,
    pools: &[Pool],
    recorded: &Recorded<'_>,
    problems: &mut Vec<Problem>,
) -> (Vec<Claim>, Requests<'s>) {
    let node = recorded.node;
    let services = state.objects.services.iter();
    let services = services.filter(|(_, stored)| claims_address(state, node, stored));
    let mut namespaces: HashMap<&str, Arc<BTreeMap<String, String>>> = HashMap::new();
    let mut claims = Vec::new();
    let mut requests = BTreeMap::new();
    for (key, stored) in by_age(services, |service| &service.metadata) {
        let held = recorded.of(key, stored);
        let holding = !held.is_empty();
        let (request, broken) = Request::read(key, &stored.object, holding, problems);
        if !broken || holding {
            let labels = namespaces
                .entry(&key.namespace)
                .or_insert_with(|| namespace_labels(state, &key.namespace).into());
            let labels = Arc::clone(labels);
            claims.push(request.claim(&stored.object, pools, labels, held));
        }
        requests.insert(claim_id(key), (key, request));
    }
    (claims, requests)
}

/// Labels of the Namespace object; without one, only the label that every namespace has.
fn namespace_labels(state: &ClusterState, namespace: &str) -> BTreeMap<String, String> {
    let known = state.objects.namespaces.get(&ObjectKey::new("", namespace));
    let labels = known.and_then(|stored| stored.object.metadata.labels.clone());
    let mut labels = labels.unwrap_or_default();
    labels.insert(NAMESPACE_NAME.to_owned(), namespace.to_owned());
    labels
}

/// The addresses that Services have held so far.
///
/// A node that follows believes the record alone. One that deals addresses out also knows those that it has
/// dealt and that are not recorded yet; a record that it did not expect is that of another hand, and counts.
/// The record of a Service in a cluster is its status, that of another one the state file.
struct Recorded<'c> {
    node: &'c NodeContext,
    role: Role,
    previous: Option<&'c Compiled>,
    /// Recorded addresses: no Service has one of them that only waits for it to be recorded.
    taken: BTreeSet<IpAddr>,
    /// Addresses of Services that somebody else serves: another class in the same cluster.
    foreign: BTreeSet<IpAddr>,
}

impl<'c> Recorded<'c> {
    fn new(
        state: &ClusterState,
        node: &'c NodeContext,
        role: Role,
        previous: Option<&'c Compiled>,
    ) -> Self {
        let (mut taken, mut foreign) = (BTreeSet::new(), BTreeSet::new());
        if role == Role::Allocate {
            for stored in state.objects.services.values().filter(|it| !it.trust.standalone) {
                match claims_address(state, node, stored) {
                    true => taken.extend(in_status(&stored.object)),
                    false => foreign.extend(in_status(&stored.object)),
                }
            }
        }
        Self { node, role, previous, taken, foreign }
    }

    /// What is no longer free though no claim has it: addresses that hosts outside use, and those that another
    /// controller has given to Services of another class. What is recorded here stays.
    fn occupied(&self) -> Cow<'c, BTreeSet<IpAddr>> {
        let mut foreign = self.foreign.difference(&self.taken).peekable();
        match foreign.peek() {
            None => Cow::Borrowed(&self.node.occupied),
            Some(_) => Cow::Owned(foreign.chain(&self.node.occupied).copied().collect()),
        }
    }

    fn of(&self, key: &ObjectKey, service: &Stored<Service>) -> Vec<IpAddr> {
        let before = match self.role {
            Role::Allocate => self.previous.and_then(|previous| previous.dealt.get(key)),
            Role::Follow => None,
        };
        if service.trust.standalone {
            return match before {
                Some(dealt) => dealt.assigned.ips.clone(),
                None => self.node.recorded.get(key).cloned().unwrap_or_default(),
            };
        }
        let recorded = in_status(&service.object);
        match before {
            Some(dealt) if recorded.is_empty() || recorded == dealt.recorded => {
                let free = |ip: &&IpAddr| recorded.contains(ip) || !self.taken.contains(ip);
                dealt.assigned.ips.iter().filter(free).copied().collect()
            }
            _ => recorded,
        }
    }

    /// What rests: as the caller knows it, and what Services held that do not ask any more.
    fn quarantined(&self, asking: &Requests<'_>) -> Quarantined {
        let mut quarantined = self.node.quarantined.clone();
        let before = self.previous.map(|previous| {
            previous.dealt.iter().map(|(key, dealt)| (key, &dealt.assigned.ips)).collect()
        });
        let before: Vec<(&ObjectKey, &Vec<IpAddr>)> =
            before.unwrap_or_else(|| self.node.recorded.iter().collect());
        for (key, ips) in before {
            let id = claim_id(key);
            if !asking.contains_key(&id) {
                for ip in ips {
                    quarantined.entry(*ip).or_default().insert(id.clone());
                }
            }
        }
        quarantined
    }
}

/// `status.loadBalancer.ingress`; entries that name no address are not ours.
pub(super) fn in_status(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}

fn assigned(allocation: &Allocation, requests: &Requests<'_>) -> BTreeMap<ObjectKey, Assigned> {
    let assigned = allocation.assigned.iter().filter_map(|(id, given)| {
        let (key, _) = requests.get(id)?;
        let ips = given.iter().map(|given| given.ip).collect();
        let pools = given.iter().map(|given| given.pool.to_string()).collect();
        Some(((*key).clone(), Assigned { ips, pools }))
    });
    assigned.collect()
}

fn dealt(
    state: &ClusterState,
    assigned: BTreeMap<ObjectKey, Assigned>,
) -> BTreeMap<ObjectKey, Dealt> {
    let dealt = assigned.into_iter().map(|(key, assigned)| {
        let stored = state.objects.services.get(&key).filter(|stored| !stored.trust.standalone);
        let recorded = stored.map(|stored| in_status(&stored.object)).unwrap_or_default();
        (key, Dealt { assigned, recorded })
    });
    dealt.collect()
}

/// Takes the addresses out that count only when they are recorded.
fn only_recorded(state: &ClusterState, allocation: &mut Allocation, requests: &Requests<'_>) {
    allocation.assigned.retain(|id, given| {
        let key = requests.get(id).map(|(key, _)| *key);
        let Some(stored) = key.and_then(|key| state.objects.services.get(key)) else {
            return false;
        };
        if !stored.trust.standalone {
            let recorded = in_status(&stored.object);
            given.retain(|given| recorded.contains(&given.ip));
        }
        !given.is_empty()
    });
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
