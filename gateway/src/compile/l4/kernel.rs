//! What the kernel is to pass on: the ports of Services that ask for it, put together where they lead to the same
//! endpoints.

use std::{collections::BTreeMap, net::SocketAddr, ops::Bound, sync::Arc};

use gatehouse_routes::{
    model::{BackendTable, Transport},
    objects::ObjectRef,
    problem::Problem,
    stats::EndpointStats,
};
use gatehouse_vip::forwarding::{self, Endpoint, Group, Rules};

use super::{Forwarding, L4Address, L4Plan, L4Port, of_new_clients};

/// What the kernel is to pass on, and the endpoints that checks may take out of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelPlan {
    /// With all endpoints.
    pub rules: Rules,
    /// Those of groups whose endpoints are checked.
    pub watched: BTreeMap<Arc<str>, Vec<Watched>>,
}

/// An endpoint that is checked.
#[derive(Clone, Debug)]
pub struct Watched {
    /// As its group has it.
    pub endpoint: Endpoint,
    /// What is known of it.
    pub stats: Arc<EndpointStats>,
}

/// What is known of an endpoint is one thing, whatever it says.
impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && Arc::ptr_eq(&self.stats, &other.stats)
    }
}

/// Most groups of a Service whose flows are led to endpoints by their hash: each takes some hundred kilobytes of the kernel's.
/// A Service with ports that all have endpoints of their own gets no more than one with few of them.
const BY_FLOW: usize = 16;

/// The Service that a group is of, by the name of the group: `service/NAMESPACE/NAME`.
fn service_of(name: &str) -> &str {
    let end = name.match_indices('/').nth(2).map_or(name.len(), |(end, _)| end);
    &name[..end]
}

/// The rules of what a plan gives to the kernel.
///
/// Ports of a Service that lead to the same endpoints are one group. So is a thousand of ports that endpoints have as
/// well, as the kernel then keeps the client's. A group is named after its Service and its lowest port.
///
/// Ports whose endpoints are checked are one only where the same checks speak for them.
///
/// Endpoints that a kernel cannot reach for others are left out, and said once for each Service.
pub(in crate::compile) fn kernel_plan(
    plan: &L4Plan,
    backends: &BackendTable,
    problems: &mut Vec<Problem>,
) -> KernelPlan {
    let KernelPlan { mut rules, mut watched } = KernelPlan::default();
    let mut beyond = BTreeMap::new();
    for (at, port) in plan.iter().filter(|(_, port)| port.forwarding == Forwarding::Kernel) {
        let group = group(at, port, backends, |endpoint| {
            beyond.insert(&port.service, endpoint);
        });
        let prefix = format!("service/{}/{}/", port.service.namespace, port.service.name);
        let of_service =
            rules.groups.range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded));
        let mut of_service = of_service.take_while(|(name, _)| name.starts_with(&prefix));
        let health = health(port, &group, backends);
        let same = |name: &str, known: &Group| {
            *known == group && watched.get(name).map_or(&[][..], Vec::as_slice) == health
        };
        let name = match of_service.find(|(name, known)| same(name, known)) {
            Some((name, _)) => Arc::clone(name),
            None => {
                let family = if group.v6 { 6 } else { 4 };
                let transport = at.transport.name().to_lowercase();
                format!("{prefix}{}/{transport}/{family}", at.address.port()).into()
            }
        };
        if !health.is_empty() {
            watched.insert(Arc::clone(&name), health);
        }
        rules.groups.entry(Arc::clone(&name)).or_insert(group);
        let address = (at.address.ip(), transport(at.transport), at.address.port());
        rules.ports.insert(address, name);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let is_of_udp = |group: &Group| group.transport == forwarding::Transport::Udp;
    for (name, _) in rules.groups.iter().filter(|(_, group)| is_of_udp(group)) {
        *counts.entry(service_of(name).to_owned()).or_default() += 1;
    }
    for (name, group) in rules.groups.iter_mut().filter(|(_, group)| is_of_udp(group)) {
        group.by_flow = counts.get(service_of(name)).is_some_and(|count| *count <= BY_FLOW);
    }
    problems.extend(beyond.into_iter().map(|(service, endpoint)| {
        Problem::warning(
            &ObjectRef::new("Service", service.clone()),
            "KernelCannot",
            "",
            format!("the kernel does not forward to {endpoint}, which gets no connection"),
            "have the endpoint listen on an address of its host, or this process pass its connections on",
        )
    }));
    KernelPlan { rules, watched }
}

/// The health of a group's endpoints, if they are checked.
fn health(port: &L4Port, group: &Group, backends: &BackendTable) -> Vec<Watched> {
    let spec = &port.forward.spec;
    let backends = spec.backends.iter().filter_map(|backend| backends.get(backend.slot));
    let all = backends.filter(|_| spec.policy.check.is_some());
    let all = all.flat_map(|backend| &backend.endpoints.endpoints);
    let watched = all.filter_map(|one| {
        let (ip, port) = (one.address.ip().to_canonical(), one.address.port());
        let is_it =
            |endpoint: &&Endpoint| endpoint.ip == ip && (group.keeps_port || endpoint.port == port);
        let endpoint = *group.endpoints.iter().find(is_it)?;
        Some(Watched { endpoint, stats: Arc::clone(&one.stats) })
    });
    watched.collect()
}

fn transport(transport: Transport) -> forwarding::Transport {
    match transport {
        Transport::Tcp => forwarding::Transport::Tcp,
        Transport::Udp => forwarding::Transport::Udp,
    }
}

fn group(
    at: &L4Address,
    port: &L4Port,
    backends: &BackendTable,
    mut is_beyond: impl FnMut(SocketAddr),
) -> Group {
    let v6 = at.address.is_ipv6();
    let (mut endpoints, mut draining) = (Vec::new(), Vec::new());
    let mut reachable = |from: &[gatehouse_routes::model::Endpoint], to: &mut Vec<Endpoint>| {
        for endpoint in from {
            let ip = endpoint.address.ip().to_canonical();
            let here = port.here.as_ref().is_none_or(|here| here.contains(&ip));
            if ip.is_loopback() {
                is_beyond(endpoint.address);
            } else if here && ip.is_ipv6() == v6 {
                to.push(Endpoint { ip, port: endpoint.address.port(), weight: 1 });
            }
        }
    };
    for backend in &port.forward.spec.backends {
        let Some(known) = backends.get(backend.slot) else { continue };
        reachable(of_new_clients(&known.endpoints, port.here.as_deref()), &mut endpoints);
        reachable(&known.endpoints.draining, &mut draining);
    }
    let number = at.address.port();
    let keeps_port = !endpoints.is_empty() && endpoints.iter().all(|one| one.port == number);
    if keeps_port {
        endpoints.iter_mut().for_each(|endpoint| endpoint.port = 0);
    }
    Group {
        transport: transport(at.transport),
        v6,
        endpoints,
        draining,
        by_client: port.by_client.as_ref().map(|affinity| affinity.time),
        by_flow: false,
        keeps_client: port.here.is_some(),
        keeps_port,
        sources: port.sources.as_ref().map(|sources| sources.ranges().collect()),
    }
}
