//! What the announcement plan has to know of this node: its labels and condition, and which Services'
//! traffic it can take.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::{Allocation, ClaimId, EXCLUDE_LABEL, Exclusion, NodeFacts, Wanted};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};

use super::{Ours, claim_id, request::is_local};
use crate::{
    compile::{Assigned, NodeContext, slices::Slices},
    state::ClusterState,
};

/// Labels of the Node object if there is one, else those of the command line.
pub(super) fn facts(state: &ClusterState, node: &NodeContext) -> NodeFacts {
    let known = state.objects.nodes.get(&ObjectKey::new("", node.node.as_str()));
    let mut facts = known.map(|stored| of_object(&stored.object, node)).unwrap_or_default();
    let labelled = known.is_some_and(|stored| stored.object.metadata.labels.is_some());
    if !labelled {
        facts.labels = node.labels.clone();
        if node.ignore_exclude_label {
            facts.labels.remove(EXCLUDE_LABEL);
        }
    }
    NodeFacts { name: node.node.clone(), ..facts }
}

/// The zone of this node, if it is known.
pub(in crate::compile) fn zone(state: &ClusterState, node: &NodeContext) -> Option<String> {
    facts(state, node).labels.remove("topology.kubernetes.io/zone")
}

/// What a Node object says.
fn of_object(object: &Node, context: &NodeContext) -> NodeFacts {
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    if context.ignore_exclude_label {
        labels.remove(EXCLUDE_LABEL);
    }
    let status = object.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    NodeFacts {
        name: object.metadata.name.clone().unwrap_or_default(),
        labels,
        network_unavailable: conditions
            .iter()
            .any(|one| one.type_ == "NetworkUnavailable" && one.status == "True"),
    }
}

/// Nodes that announce no address though there are some: this one, and of those that manifests list every
/// other, for each host reads the same manifests.
pub(super) fn excluded(
    state: &ClusterState,
    node: &NodeContext,
    facts: &NodeFacts,
    allocation: &Allocation,
) -> Vec<Problem> {
    if allocation.assigned.is_empty() {
        return Vec::new();
    }
    let mut excluded: BTreeMap<String, Exclusion> = BTreeMap::new();
    excluded.extend(facts.exclusion().map(|why| (facts.name.clone(), why)));
    let listed = state.objects.nodes.iter().filter(|(_, stored)| stored.trust.standalone);
    for (key, stored) in listed.filter(|(key, _)| *key.name != *facts.name) {
        let why = of_object(&stored.object, node).exclusion();
        excluded.extend(why.map(|why| (key.name.to_string(), why)));
    }
    let problem = |(name, why): (String, Exclusion)| {
        let hint = match why {
            Exclusion::Label => format!(
                "remove the label: kubectl label node {name} {EXCLUDE_LABEL}- (or in the manifest of the \
                 Node); or run with --ignore-exclude-lb"
            ),
            Exclusion::NetworkUnavailable => {
                "wait for the network plugin of the cluster, or see why it fails".to_owned()
            }
        };
        Problem::warning(
            &ObjectRef::new("Node", ObjectKey::new("", name.as_str())),
            "NodeExcluded",
            match why {
                Exclusion::Label => format!("metadata.labels[{EXCLUDE_LABEL}]"),
                Exclusion::NetworkUnavailable => "status.conditions".to_owned(),
            },
            format!("this node announces no address: {why}"),
            hint,
        )
    };
    excluded.into_iter().map(problem).collect()
}

/// The claims whose traffic this node can take; and the addresses of Services passed on by this process or its kernel of
/// which no node can take any, for there is no usable endpoint.
///
/// A gateway's traffic ends in this process, so this node always has a local endpoint of it. Traffic of
/// other Services is passed on by this process or by kube-proxy, and as MetalLB does, their
/// addresses are announced only while some endpoint is usable: one of their own, or of a Service that a
/// server name leads to.
pub(super) fn wanted(
    state: &ClusterState,
    node: &NodeContext,
    ours: &Ours<'_>,
    assigned: &BTreeMap<ObjectKey, Assigned>,
    problems: &mut Vec<Problem>,
) -> (BTreeMap<ClaimId, Wanted>, BTreeSet<IpAddr>) {
    let (mut wanted, mut without_endpoint) = (BTreeMap::new(), BTreeSet::new());
    for (key, service) in ours.gateways {
        let local = is_local(service).then_some(true);
        wanted.insert(claim_id(key), Wanted { labels: labels(service), local });
    }
    let others = assigned.iter().filter(|(key, _)| !ours.gateways.contains_key(*key));
    for (key, assigned) in others {
        let Some(stored) = state.objects.services.get(key) else { continue };
        let object = ObjectRef::new("Service", key.clone());
        let passed_on = ours.passed_on.get(key);
        if stored.trust.standalone && passed_on.is_none() {
            problems.push(Problem::warning(
                &object,
                "NotForwarded",
                "spec.type",
                "the Service has an address but no TCP or UDP port that is passed on",
                "serve it by an Ingress or a Route on a gateway Service",
            ));
            continue;
        }
        let named = passed_on.map(Vec::as_slice).unwrap_or_default();
        let Some(here) = usable((state, ours.slices), node, key, named) else {
            if passed_on.is_some() {
                without_endpoint.extend(assigned.ips.iter().copied());
            }
            // Of objects that are written by hand that is said where their endpoints are looked for.
            if passed_on.is_some() && stored.trust.standalone {
                continue;
            }
            problems.push(Problem::warning(
                &object,
                "NoEndpoints",
                "",
                "the Service has no usable endpoint, so its address is not announced",
                "",
            ));
            continue;
        };
        let local = is_local(&stored.object).then_some(here);
        wanted.insert(claim_id(key), Wanted { labels: labels(&stored.object), local });
    }
    (wanted, without_endpoint)
}

/// Whether an endpoint of a Service, or of one that its server names lead to, is on this node. `None`: there is none that
/// can be used, and so no address of the Service is announced.
pub(in crate::compile) fn usable(
    (state, slices): (&ClusterState, &Slices<'_>),
    node: &NodeContext,
    service: &ObjectKey,
    named: &[&ObjectKey],
) -> Option<bool> {
    let all = [service].into_iter().chain(named.iter().copied());
    let usable = all.filter_map(|service| {
        let usable = usable_on(slices.of(service), &node.node);
        usable.or_else(|| is_elsewhere(state, service).then_some(false))
    });
    usable.reduce(|any, one| any || one)
}

/// Whether one of the usable endpoints is on this node; `None` if no endpoint is usable anywhere. As
/// with MetalLB an endpoint is usable that is ready, or still serves while it terminates.
fn usable_on(slices: &[&EndpointSlice], node: &str) -> Option<bool> {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let usable = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready) != Some(false);
        ready || conditions.and_then(|conditions| conditions.serving) == Some(true)
    });
    let here = usable.map(|endpoint| endpoint.node_name.as_deref() == Some(node));
    here.reduce(|any, one| any || one)
}

/// Whether the endpoints of a Service are found by DNS: on no node that is known here.
fn is_elsewhere(state: &ClusterState, service: &ObjectKey) -> bool {
    let spec = state.objects.services.get(service).and_then(|stored| stored.object.spec.as_ref());
    spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    service.metadata.labels.clone().unwrap_or_default()
}
