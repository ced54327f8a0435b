//! Who has which address: what Services ask for, what is recorded of them, and what the `vip` crate deals out.
//!
//! Neither the node nor the endpoints have a say here. So a result stays true while nothing has changed that it was
//! made of, and [`deal`] gives the previous one back.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use gatehouse_routes::{
    annotations::{self, ServedBy},
    objects::{ObjectKey, ObjectRef, Revision, Store, Stored},
    problem::Problem,
};
use gatehouse_vip::{Allocation, Claim, ClaimId, Pool, PoolUsage, Problem as Refusal, Quarantined};
use k8s_openapi::api::core::v1::Service;

use super::{by_age, claim_id, pools, request::Request};
use crate::{
    compile::{
        Assigned, Compiled, Dealt, NodeContext, Role,
        gateways::{claims_address, may_be_ours},
        shared,
    },
    state::ClusterState,
};

/// The label that every namespace has in a cluster, whatever its manifest says.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Who has what.
#[derive(Debug)]
pub(in crate::compile) struct Deal {
    made_of: MadeOf,
    /// The pools that count, oldest first.
    pub(super) pools: Vec<Pool>,
    /// What counts: of a cluster's Services what is recorded.
    pub(in crate::compile) allocation: Allocation,
    requests: Requests,
    /// What is wrong with pools and requests.
    pub(super) problems: Vec<Problem>,
    /// What is wrong with annotations of Services, by who serves them.
    annotated: Annotated,
    /// Why Services have no address, by Service: the first error of what each asks for.
    unassigned: BTreeMap<ObjectKey, Problem>,
    /// [`Compiled::pools`].
    pub(in crate::compile) usage: Vec<PoolUsage>,
    /// [`Compiled::addresses`].
    pub(in crate::compile) assigned: Arc<BTreeMap<ObjectKey, Assigned>>,
    /// [`Compiled::dealt`].
    pub(in crate::compile) dealt: Arc<BTreeMap<ObjectKey, Dealt>>,
}

/// Everything that a deal depends on.
#[derive(Debug, PartialEq)]
struct MadeOf {
    role: Role,
    services: Versions,
    pools: Versions,
    namespaces: Versions,
    load_balancer_class: Option<String>,
    recorded: BTreeMap<ObjectKey, Vec<IpAddr>>,
    quarantined: Quarantined,
    occupied: BTreeSet<IpAddr>,
    before: Option<Arc<BTreeMap<ObjectKey, Dealt>>>,
}

impl MadeOf {
    fn new(
        state: &ClusterState,
        node: &NodeContext,
        role: Role,
        previous: Option<&Compiled>,
    ) -> Self {
        Self {
            role,
            services: versions(&state.objects.services),
            pools: versions(&state.pools),
            namespaces: versions(&state.objects.namespaces),
            load_balancer_class: node.load_balancer_class.clone(),
            recorded: node.recorded.clone(),
            quarantined: node.quarantined.clone(),
            occupied: node.occupied.clone(),
            before: previous.map(|previous| Arc::clone(&previous.dealt)),
        }
    }
}

/// The objects of a kind, as they are and as they stand.
type Versions = Vec<(Revision, u64)>;

/// Those of which something is wrong, however they are served, in the order of [`ServedBy::ALL`].
type Annotated = BTreeMap<ObjectKey, [Vec<Problem>; ServedBy::ALL.len()]>;

type Requests = BTreeMap<ClaimId, (ObjectKey, Request)>;

/// Deals out addresses to every Service that asks for one, or takes those that are recorded. What is dealt
/// in a cluster counts when it is recorded, and not before.
pub(in crate::compile) fn deal(
    state: &ClusterState,
    node: &NodeContext,
    role: Role,
    previous: Option<&Compiled>,
) -> Arc<Deal> {
    let made_of = MadeOf::new(state, node, role, previous);
    match previous.map(|previous| &previous.deal) {
        Some(deal) if deal.made_of == made_of => Arc::clone(deal),
        _ => Arc::new(made(state, node, role, made_of)),
    }
}

fn made(state: &ClusterState, node: &NodeContext, role: Role, made_of: MadeOf) -> Deal {
    let mut problems = Vec::new();
    let mut pools = pools::usable(&state.pools, &mut problems);
    let recorded = Recorded::new(state, node, role, made_of.before.as_deref());
    let (claims, requests) = claims(state, &pools, &recorded, &mut problems);
    pools::part(&state.pools, &mut pools, &claims, &mut problems);
    let quarantined = recorded.quarantined(state, &requests);
    let mut allocation = match role {
        Role::Allocate => {
            gatehouse_vip::allocate(&pools, &claims, &quarantined, &recorded.occupied())
        }
        Role::Follow => gatehouse_vip::follow(&pools, &claims, &quarantined),
    };
    let usage = gatehouse_vip::usage(&pools, &allocation);
    let mut dealt = dealt(state, assigned(&allocation, &requests));
    if role == Role::Allocate {
        dealt.extend(given_up(state, &requests, &dealt));
    }
    only_recorded(state, &mut allocation, &requests);
    let mut deal = Deal {
        assigned: Arc::new(assigned(&allocation, &requests)),
        // The same `Arc` where it is the same: then the next deal is made of the same.
        dealt: shared(dealt, made_of.before.as_ref()),
        made_of,
        pools,
        allocation,
        annotated: annotated(state, &requests),
        unassigned: BTreeMap::new(),
        requests,
        problems,
        usage,
    };
    let refused = deal.allocation.refused.iter();
    let refused = refused.flat_map(|(id, list)| list.iter().map(move |one| (id, one.clone())));
    let refused: Vec<_> = refused.filter_map(|(id, refusal)| deal.problem(id, refusal)).collect();
    deal.problems.extend(refused);
    let errors = deal.problems.iter().filter(|it| it.is_error() && it.object.kind == "Service");
    for problem in errors {
        deal.unassigned.entry(problem.object.key.clone()).or_insert_with(|| problem.clone());
    }
    deal
}

impl Deal {
    /// What a refusal of a claim says of its Service.
    pub(super) fn problem(&self, id: &ClaimId, refusal: Refusal) -> Option<Problem> {
        let (key, request) = self.requests.get(id)?;
        Some(request.problem(key, refusal))
    }

    /// Why a Service has no address, of all that is wrong with it.
    pub(in crate::compile) fn unassigned(&self, service: &ObjectKey) -> Option<&Problem> {
        self.unassigned.get(service)
    }

    /// What is wrong with the annotations of Services.
    pub(super) fn of_annotations(
        &self,
        served: impl Fn(&ObjectKey) -> ServedBy,
    ) -> impl Iterator<Item = &Problem> {
        self.annotated.iter().flat_map(move |(key, problems)| {
            let by = served(key);
            let all = ServedBy::ALL.iter().zip(problems);
            all.filter(move |(one, _)| **one == by).flat_map(|(_, problems)| problems)
        })
    }
}

/// A deal as it is made without looking at the previous one.
#[cfg(test)]
pub(in crate::compile) fn deal_anew(
    state: &ClusterState,
    node: &NodeContext,
    role: Role,
    previous: Option<&Compiled>,
) -> Deal {
    made(state, node, role, MadeOf::new(state, node, role, previous))
}

fn versions<T>(store: &Store<T>) -> Versions {
    store.values().map(|stored| (stored.revision, stored.order)).collect()
}

/// The claims of all Services that want addresses, oldest first, and what they came from.
fn claims(
    state: &ClusterState,
    pools: &[Pool],
    recorded: &Recorded<'_>,
    problems: &mut Vec<Problem>,
) -> (Vec<Claim>, Requests) {
    let node = recorded.node;
    let services = state.objects.services.iter();
    let services = services.filter(|(_, stored)| claims_address(state, node, stored));
    let mut namespaces: HashMap<&str, Arc<BTreeMap<String, String>>> = HashMap::new();
    let mut claims = Vec::new();
    let mut requests = BTreeMap::new();
    for (key, stored) in by_age(services, |service| &service.metadata) {
        let held = recorded.of(key, stored);
        let holding = !held.is_empty();
        // It keeps what it has until it is gone.
        if !holding && stored.object.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let (request, broken) = Request::read(key, &stored.object, holding, problems);
        if !broken || holding {
            let labels = namespaces
                .entry(&key.namespace)
                .or_insert_with(|| namespace_labels(state, &key.namespace).into());
            let labels = Arc::clone(labels);
            claims.push(request.claim(&stored.object, pools, labels, held));
        }
        requests.insert(claim_id(key), (key.clone(), request));
    }
    (claims, requests)
}

/// What is wrong with the annotations of the Services that ask, and of those that ask for no address.
fn annotated(state: &ClusterState, requests: &Requests) -> Annotated {
    let asking = requests.values().filter_map(|(key, _)| {
        let service = &state.objects.services.get(key)?.object;
        let object = ObjectRef::new("Service", key.clone());
        let of = |by| annotations::of_service(&object, &service.metadata, by);
        Some((key.clone(), ServedBy::ALL.map(of)))
    });
    let inner = state.objects.services.iter().filter(|(_, stored)| !stored.special);
    let inner = inner.filter_map(|(key, stored)| {
        let metadata = &stored.object.metadata;
        metadata.annotations.as_ref()?;
        let object = ObjectRef::new("Service", key.clone());
        let spec = stored.object.spec.as_ref();
        let type_ = spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP");
        let of = |_| annotations::of_inner_service(&object, metadata, type_);
        Some((key.clone(), ServedBy::ALL.map(of)))
    });
    let all = asking.chain(inner);
    all.filter(|(_, all)| all.iter().any(|problems| !problems.is_empty())).collect()
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
    /// What was dealt before.
    before: Option<&'c BTreeMap<ObjectKey, Dealt>>,
    /// Recorded addresses: no Service has one of them that only waits for it to be recorded.
    taken: BTreeSet<IpAddr>,
    /// Addresses of Services of another controller: another class in the same cluster.
    foreign: BTreeSet<IpAddr>,
}

impl<'c> Recorded<'c> {
    fn new(
        state: &ClusterState,
        node: &'c NodeContext,
        role: Role,
        before: Option<&'c BTreeMap<ObjectKey, Dealt>>,
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
        Self { node, role, before, taken, foreign }
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
            Role::Allocate => self.before.and_then(|before| before.get(key)),
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

    /// What rests: as the caller knows it, and what Services held that do not ask any more. At the start that is also what
    /// is recorded of those which would ask if there were any pool: it may be on its way.
    fn quarantined(&self, state: &ClusterState, asking: &Requests) -> Quarantined {
        let mut quarantined = self.node.quarantined.clone();
        let mut let_go = |key: &ObjectKey, ips: &[IpAddr]| {
            let id = claim_id(key);
            if !asking.contains_key(&id) {
                for ip in ips {
                    quarantined.entry(*ip).or_default().insert(id.clone());
                }
            }
        };
        if let Some(before) = self.before {
            before.iter().for_each(|(key, dealt)| let_go(key, &dealt.assigned.ips));
            return quarantined;
        }
        self.node.recorded.iter().for_each(|(key, ips)| let_go(key, ips));
        let class = self.node.load_balancer_class.as_deref();
        for (key, stored) in &state.objects.services {
            if !stored.trust.standalone && may_be_ours(class, &stored.object) {
                let_go(key, &in_status(&stored.object));
            }
        }
        quarantined
    }
}

/// `status.loadBalancer.ingress`; entries that name no address are not ours.
fn in_status(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}

fn assigned(allocation: &Allocation, requests: &Requests) -> BTreeMap<ObjectKey, Assigned> {
    let assigned = allocation.assigned.iter().filter_map(|(id, given)| {
        let (key, _) = requests.get(id)?;
        let ips = given.iter().map(|given| given.ip).collect();
        let pools = given.iter().map(|given| given.pool.to_string()).collect();
        Some((key.clone(), Assigned { ips, pools }))
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

/// Services that have lost the addresses that are recorded, and got none. That is known from then on, or they would lose
/// them anew each time, and what they lost would rest for ever.
fn given_up(
    state: &ClusterState,
    requests: &Requests,
    dealt: &BTreeMap<ObjectKey, Dealt>,
) -> BTreeMap<ObjectKey, Dealt> {
    let without = requests.values().filter(|(key, _)| !dealt.contains_key(key));
    let given_up = without.filter_map(|(key, _)| {
        let stored = state.objects.services.get(key).filter(|it| !it.trust.standalone)?;
        let (assigned, recorded) = (Assigned::default(), in_status(&stored.object));
        (!recorded.is_empty()).then(|| (key.clone(), Dealt { assigned, recorded }))
    });
    given_up.collect()
}

/// Takes the addresses out that count only when they are recorded.
fn only_recorded(state: &ClusterState, allocation: &mut Allocation, requests: &Requests) {
    allocation.assigned.retain(|id, given| {
        let key = requests.get(id).map(|(key, _)| key);
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
