//! Virtual addresses: pools and `LoadBalancer` Services in, assignments and the announcement plan out.
//!
//! This file only translates: Kubernetes objects into claims and pools of the `vip` crate, and its
//! refusals into problems. Who gets what is decided there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gatehouse_routes::{
    objects::{Age, ObjectKey, ObjectRef, Store, Stored},
    problem::{Problem, Severity},
};
use gatehouse_vip::{
    Claim, ClaimId, Families, Family, NodeFacts, Pool, Refusal, VipPlan, api::IpAddressPoolSpec,
};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Assigned, Compiled, NodeContext, gateways::claims_address};
use crate::{source::Custom, state::ClusterState};

/// Annotations that ask for certain addresses, the current spelling first.
const REQUEST_ANNOTATIONS: [&str; 2] =
    ["metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];
/// Annotations that name a pool.
const POOL_ANNOTATIONS: [&str; 2] = ["metallb.io/address-pool", "metallb.universe.tf/address-pool"];

/// Who got what, and what this node announces.
pub(super) struct Addresses {
    pub(super) assigned: BTreeMap<ObjectKey, Assigned>,
    pub(super) vips: VipPlan,
}

/// Deals out addresses to every Service that asks for one.
pub(super) fn allocate(
    state: &ClusterState,
    node: &NodeContext,
    previous: Option<&Compiled>,
    gateways: &BTreeMap<ObjectKey, &Service>,
    problems: &mut Vec<Problem>,
) -> Addresses {
    let pools = usable_pools(&state.pools, problems);
    let services =
        state.objects.services.iter().filter(|(_, stored)| claims_address(&stored.object));
    let mut claims = Vec::new();
    let mut requests = BTreeMap::new();
    for (key, stored) in by_age(services, |service| &service.metadata) {
        let recorded = previous
            .and_then(|previous| previous.addresses.get(key))
            .map(|assigned| &assigned.ips)
            .or_else(|| node.recorded.get(key))
            .cloned()
            .unwrap_or_default();
        let (request, broken) = Request::read(key, &stored.object, !recorded.is_empty());
        let refused = !broken.is_empty() && recorded.is_empty();
        problems.extend(broken);
        if !refused {
            claims.push(request.claim(&stored.object, &pools, recorded));
        }
        requests.insert(claim_id(key), (key.clone(), request));
    }

    let allocation = gatehouse_vip::allocate(&pools, &claims);
    let wanted: BTreeSet<ClaimId> = gateways.keys().map(claim_id).collect();
    let advertisements: Vec<_> = state
        .l2_advertisements
        .iter()
        .map(|(key, stored)| (key.name.to_string(), stored.object.spec.clone()))
        .collect();
    for (key, stored) in &state.l2_advertisements {
        let object = ObjectRef::new("L2Advertisement", key.clone());
        let refusals = gatehouse_vip::advertisement_refusals(&stored.object.spec, &pools);
        problems.extend(refusals.into_iter().map(|refusal| problem(&object, refusal)));
    }
    let (vips, unannounced) =
        gatehouse_vip::plan(&allocation, &pools, &advertisements, &wanted, &facts(state, node));

    let refused = allocation.refused.into_iter();
    let refusals =
        refused.flat_map(|(id, list)| list.into_iter().map(move |one| (id.clone(), one)));
    for (id, refusal) in refusals.chain(unannounced) {
        if let Some((key, request)) = requests.get(&id) {
            problems.push(request.problem(key, refusal));
        }
    }
    let assigned = allocation.assigned.into_iter().filter_map(|(id, assignment)| {
        let (key, _) = requests.get(&id)?;
        Some((key.clone(), Assigned { pool: assignment.pool, ips: assignment.ips }))
    });
    let assigned: BTreeMap<_, _> = assigned.collect();
    for key in assigned.keys().filter(|key| !gateways.contains_key(*key)) {
        problems.push(Problem::warning(
            &ObjectRef::new("Service", key.clone()),
            "NotForwarded",
            "spec.type",
            "the Service has an address, but forwarding to its endpoints is not built yet",
            "serve it by an Ingress or a Route on a gateway Service",
        ));
    }
    Addresses { assigned, vips }
}

/// What a Service asks for, and where it says so.
struct Request {
    addresses: Vec<IpAddr>,
    /// Field that holds the addresses.
    field: String,
    pool: Option<String>,
    pool_field: String,
}

impl Request {
    /// Reads the request; one that makes no sense counts as none. `holding`: the Service has an address
    /// that it keeps in that case.
    fn read(key: &ObjectKey, service: &Service, holding: bool) -> (Self, Vec<Problem>) {
        let object = ObjectRef::new("Service", key.clone());
        let annotated = annotation(service, &REQUEST_ANNOTATIONS);
        let in_spec = service
            .spec
            .as_ref()
            .and_then(|spec| spec.load_balancer_ip.as_deref())
            .filter(|text| !text.is_empty())
            .map(|text| ("spec.loadBalancerIP".to_owned(), text));
        let mut problems = Vec::new();
        let mut broken = |field: &str, message: String, hint: &str| {
            let mut problem =
                Problem::error(&object, "InvalidAddressRequest", field, message, hint);
            if holding {
                problem.severity = Severity::Warning;
                problem.message += "; the Service keeps the address it has";
            }
            problems.push(problem);
        };
        if let (Some((field, _)), Some(_)) = (&annotated, &in_spec) {
            let message =
                "spec.loadBalancerIP and the annotation both ask for addresses".to_owned();
            broken(field, message, "keep the annotation, spec.loadBalancerIP is deprecated");
        }
        let mut addresses = Vec::new();
        let (field, text) = annotated.or(in_spec).unwrap_or_default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.parse() {
                Ok(ip) => addresses.push(ip),
                Err(_) => broken(
                    &field,
                    format!("\"{part}\" is not an IP address"),
                    "write one address of each family, separated by a comma",
                ),
            }
        }
        if !problems.is_empty() {
            addresses.clear();
        }
        let (pool_field, pool) = annotation(service, &POOL_ANNOTATIONS)
            .map_or_else(Default::default, |(field, name)| (field, Some(name.to_owned())));
        (Self { addresses, field, pool, pool_field }, problems)
    }

    fn claim(&self, service: &Service, pools: &[Pool], recorded: Vec<IpAddr>) -> Claim {
        Claim {
            id: claim_id(&crate::source::key_of(&service.metadata)),
            families: self.families(service, pools),
            requested: self.addresses.clone(),
            pool: self.pool.clone(),
            recorded,
        }
    }

    /// The families that the Service names; else those of the addresses it asks for; else IPv4, unless
    /// there are only IPv6 pools. (In a cluster the API server fills the fields in.)
    fn families(&self, service: &Service, pools: &[Pool]) -> Families {
        let spec = service.spec.as_ref();
        let named = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
        let policy = spec.and_then(|spec| spec.ip_family_policy.as_deref());
        let first = match (named.first().map(String::as_str), self.addresses.first()) {
            (Some("IPv6"), _) => Family::V6,
            (Some(_), _) => Family::V4,
            (None, Some(ip)) => Family::of(*ip),
            (None, None) => default_family(pools, self.pool.as_deref()),
        };
        let both_requested = self.addresses.iter().any(|ip| Family::of(*ip) != first);
        match policy {
            Some("PreferDualStack") => Families::PreferDual { first },
            Some("RequireDualStack") => Families::RequireDual { first },
            Some(_) => single(first),
            None if named.len() > 1 => Families::RequireDual { first },
            None if named.is_empty() && both_requested => Families::RequireDual { first },
            None => single(first),
        }
    }

    /// A refusal in terms of the Service's fields.
    fn problem(&self, key: &ObjectKey, mut refusal: Refusal) -> Problem {
        match refusal.field.as_str() {
            "requested" => refusal.field.clone_from(&self.field),
            "pool" => refusal.field.clone_from(&self.pool_field),
            "families" => refusal.field = "spec.ipFamilies".to_owned(),
            _ => {}
        }
        problem(&ObjectRef::new("Service", key.clone()), refusal)
    }
}

/// Pools that may be given from, oldest first; what is wrong with the others becomes problems.
fn usable_pools(
    store: &Store<Custom<IpAddressPoolSpec>>,
    problems: &mut Vec<Problem>,
) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    let mut objects: BTreeMap<&str, ObjectRef> = BTreeMap::new();
    for (key, stored) in by_age(store.iter(), |pool| &pool.metadata) {
        let object = ObjectRef::new("IPAddressPool", key.clone());
        if objects.contains_key(&*key.name) {
            problems.push(Problem::error(
                &object,
                "DuplicatePool",
                "metadata.name",
                format!("an older pool in another namespace is also named \"{}\"", key.name),
                "rename one of them",
            ));
            continue;
        }
        let labels = stored.object.metadata.labels.clone().unwrap_or_default();
        match Pool::parse(&key.name, &labels, &stored.object.spec) {
            Ok(pool) => {
                let notes = pool.refusals().iter().cloned();
                problems.extend(notes.map(|refusal| problem(&object, refusal)));
                pools.push(pool);
            }
            Err(refusals) => {
                problems.extend(refusals.into_iter().map(|refusal| problem(&object, refusal)));
            }
        }
        objects.insert(&key.name, object);
    }
    for (newer, older, what) in gatehouse_vip::overlaps(&pools) {
        pools.retain(|pool| pool.name() != newer);
        if let Some(object) = objects.get(&*newer) {
            problems.push(Problem::error(
                object,
                "PoolOverlap",
                "spec.addresses",
                format!("{what} belongs to the older pool \"{older}\", so this pool is not used"),
                "give every address to one pool only",
            ));
        }
    }
    pools
}

/// Labels of the Node object if there is one, else those of the command line.
fn facts(state: &ClusterState, node: &NodeContext) -> NodeFacts {
    let known = state.objects.nodes.get(&ObjectKey::new("", node.node.as_str()));
    let labels = known.and_then(|stored| stored.object.metadata.labels.clone());
    NodeFacts { name: node.node.clone(), labels: labels.unwrap_or_else(|| node.labels.clone()) }
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

/// The first of these annotations that is there and not empty: its field and its value.
fn annotation<'s>(service: &'s Service, names: &[&str]) -> Option<(String, &'s str)> {
    let annotations = service.metadata.annotations.as_ref()?;
    names.iter().find_map(|name| {
        let value = annotations.get(*name).filter(|value| !value.trim().is_empty())?;
        Some((format!("metadata.annotations[{name}]"), value.as_str()))
    })
}

fn default_family(pools: &[Pool], named: Option<&str>) -> Family {
    let mut candidates = pools.iter().filter(|pool| named.is_none_or(|name| name == pool.name()));
    let only_v6 =
        candidates.clone().next().is_some() && candidates.all(|pool| pool.size(Family::V4) == 0);
    if only_v6 { Family::V6 } else { Family::V4 }
}

fn single(family: Family) -> Families {
    match family {
        Family::V4 => Families::V4,
        Family::V6 => Families::V6,
    }
}

fn claim_id(key: &ObjectKey) -> ClaimId {
    ClaimId(key.to_string().into())
}

fn problem(object: &ObjectRef, refusal: Refusal) -> Problem {
    let Refusal { reason, field, message, hint, severe } = refusal;
    let severity = if severe { Severity::Error } else { Severity::Warning };
    Problem { severity, ..Problem::error(object, reason, field, message, hint) }
}
