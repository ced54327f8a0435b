//! What is passed on to whom, now that it is known who has which address.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gatehouse_routes::{
    action::{Forward, ForwardSpec, WeightedBackend},
    model::{BackendSlot, Scope, ScopeSlot, Transport},
    objects::ObjectKey,
    server_names::ServerNames,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{
    Certs, ClientAffinity, Forwarding, L4Address, L4Plan, L4Port, Named, StatsHandle,
    services::{Forwarded, Port},
};
use crate::compile::{
    Assigned, ListenerPlan, NodeContext, Protocol, slices::Slices, source_ranges::SourceRanges,
};

/// What is passed on, given the slots of the backends and who has which address. Ports that say the same as before
/// are the same.
pub(in crate::compile) fn plan(
    services: &[Forwarded<'_>],
    slots: &[BackendSlot],
    (slices, node): (&Slices<'_>, &NodeContext),
    addresses: &BTreeMap<ObjectKey, Assigned>,
    (sources, certs): (&SourceRanges, &BTreeMap<ObjectKey, Certs>),
    previous: Option<&L4Plan>,
) -> L4Plan {
    let mut plan = L4Plan::new();
    let mut slots = slots.iter();
    let before = previous.into_iter().flatten();
    let counted: BTreeMap<_, _> =
        before.clone().map(|(at, port)| ((&port.service, at.transport), &port.stats)).collect();
    let pinned = before.filter_map(|(at, port)| {
        let pins = &port.by_client.as_ref()?.pins;
        Some(((&port.service, at.transport, at.address.port()), pins))
    });
    let pinned: BTreeMap<_, _> = pinned.collect();
    for Forwarded { key, service, forwarding, policy, ports, alpn, .. } in services {
        let mut stats = BTreeMap::new();
        let spec = service.spec.as_ref();
        let text = |field: Option<&Option<String>>| field.and_then(|text| text.clone());
        let local = text(spec.map(|spec| &spec.external_traffic_policy));
        let here_of = |service: &ObjectKey| on_node(slices.of(service), &node.node);
        let here = (local.as_deref() == Some("Local")).then(|| here_of(key));
        let ips: &[IpAddr] = addresses.get(*key).map_or(&[], |assigned| &assigned.ips);
        for Port { transport, number, backend, named, .. } in ports {
            // One slot for each backend that was asked for, in that order.
            let Some(slot) = slots.next() else { break };
            let mut names = ServerNames::default();
            for ((name, backend), slot) in named.iter().zip(&mut slots) {
                let backend = WeightedBackend { slot: *slot, key: backend.clone(), weight: 1 };
                let spec = ForwardSpec::of(Box::new([backend]), Arc::clone(policy));
                let (host, service) = (name.host.clone(), name.service.clone());
                let here = here.as_ref().map(|_| here_of(&service));
                let forward = Forward::new(spec);
                names.insert(&name.host, Named { host, service, forward, here });
            }
            let names = (!names.is_empty()).then(|| Arc::new(names));
            let stats: &StatsHandle = stats.entry(*transport).or_insert_with(|| {
                counted
                    .get(&(*key, *transport))
                    .map_or_else(StatsHandle::default, |it| (*it).clone())
            });
            let known = pinned.get(&(*key, *transport, *number)).copied();
            let handed = || node.affinities.get(&((*key).clone(), *transport, *number));
            let by_client = ClientAffinity::of(spec, known.or_else(handed));
            let backend = WeightedBackend { slot: *slot, key: backend.clone(), weight: 1 };
            for ip in ips {
                let spec = ForwardSpec::of(Box::new([backend.clone()]), Arc::clone(policy));
                let port = L4Port {
                    service: (*key).clone(),
                    forwarding: *forwarding,
                    forward: Forward::new(spec),
                    by_client: by_client.clone(),
                    here: here.clone(),
                    names: names.clone(),
                    sources: sources.get(*key).cloned(),
                    certs: certs.get(*key).filter(|_| *transport == Transport::Tcp).cloned(),
                    alpn: alpn.clone(),
                    stats: stats.clone(),
                };
                let address = SocketAddr::new(*ip, *number);
                let address = L4Address { transport: *transport, address };
                let known = previous.and_then(|previous| previous.get(&address));
                let port = match known.filter(|known| ***known == port) {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(port),
                };
                plan.insert(address, port);
            }
        }
    }
    plan
}

/// Their listeners, in the order of their addresses.
pub(in crate::compile) fn listeners(plan: &L4Plan) -> impl Iterator<Item = ListenerPlan> {
    let ours = plan.iter().filter(|(_, port)| port.forwarding == Forwarding::Gateway);
    ours.map(|(at, port)| ListenerPlan {
        address: at.address,
        scope: Scope::Gateway(port.service.clone()),
        slot: ScopeSlot::NONE,
        protocol: match (at.transport, &port.certs) {
            (Transport::Udp, _) => Protocol::Udp,
            (Transport::Tcp, Some(_)) => Protocol::Tls,
            (Transport::Tcp, None) => Protocol::Tcp,
        },
        vip: true,
    })
}

/// The addresses of a Service's endpoints on a node, in order.
fn on_node(slices: &[&EndpointSlice], node: &str) -> Box<[IpAddr]> {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|endpoint| endpoint.node_name.as_deref() == Some(node));
    let ips = here.flat_map(|endpoint| &endpoint.addresses);
    let mut ips: Vec<IpAddr> = ips.filter_map(|text| text.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    ips.into()
}
