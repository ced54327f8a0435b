//! Services whose connections this process passes on: in a cluster those that ask for it, without one every Service
//! of type `LoadBalancer` that is no gateway.
//!
//! Before the routes are compiled [`services`] says which backends that takes; afterwards, when it is known who has
//! which address, [`plan`] says what is passed on to whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gatehouse_routes::{
    action::{Forward, ForwardSpec, WeightedBackend},
    annotations::{self, gatehouse},
    compile::Asked,
    model::{
        BackendKey, BackendPort, BackendProtocol, BackendSlot, CertBinding, CertSource,
        HostPattern, Scope, ScopeSlot,
    },
    networks::Networks,
    objects::{ObjectKey, ObjectRef, Store, Stored},
    policy::Policy,
    problem::Problem,
};
use k8s_openapi::api::core::v1::{PortStatus, Secret, Service, ServicePort};

use super::{
    Assigned, ListenerPlan, NodeContext, Protocol, gateways::claims_address,
    source_ranges::SourceRanges,
};
use crate::{
    state::ClusterState,
    tls::certs::{self, CertTable},
};

/// Label of an EndpointSlice: the Service that it belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where connections to one address and port are passed on to.
#[derive(Debug, PartialEq)]
pub struct L4Port {
    /// The Service.
    pub service: ObjectKey,
    /// Its backend.
    pub forward: Forward,
    /// A client keeps its endpoint (`sessionAffinity: ClientIP`).
    pub by_client: bool,
    /// Only endpoints of these addresses, those on this node (`externalTrafficPolicy: Local`).
    pub here: Option<Box<[IpAddr]>>,
    /// The clients that may come in; `None`: everybody.
    pub sources: Option<Arc<Networks>>,
    /// TLS ends here; the endpoint gets what is within.
    pub certs: Option<Certs>,
}

/// The certificate of a Service's ports, if it is usable.
#[derive(Clone, Debug)]
pub struct Certs(pub Arc<CertTable>);

/// Tables that say the same are the same.
impl PartialEq for Certs {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// By address.
pub type L4Plan = BTreeMap<SocketAddr, Arc<L4Port>>;

/// A Service and those of its ports that can be passed on.
pub(super) struct Forwarded<'s> {
    pub(super) key: &'s ObjectKey,
    pub(super) service: &'s Service,
    policy: Arc<Policy>,
    ports: Vec<(u16, BackendKey)>,
    tls: Option<CertBinding>,
}

/// The Services whose connections are passed on here. `gateways` are those that are served otherwise.
pub(super) fn services<'s>(
    state: &'s ClusterState,
    node: &NodeContext,
    gateways: &BTreeSet<ObjectKey>,
    problems: &mut Vec<Problem>,
) -> Vec<Forwarded<'s>> {
    let others = state.objects.services.iter().filter(|(key, stored)| {
        !gateways.contains(*key)
            && claims_address(state, node, stored)
            && asks(key, stored, problems)
    });
    let others: Vec<_> = others.collect();
    let forwarded = others.into_iter().map(|(key, stored)| {
        let object = ObjectRef::new("Service", key.clone());
        Forwarded {
            key,
            service: &stored.object,
            policy: annotations::policy(&object, &stored.object.metadata),
            ports: ports(key, &stored.object, problems),
            tls: tls(&object, &stored.object),
        }
    });
    forwarded.filter(|forwarded| !forwarded.ports.is_empty()).collect()
}

/// Whether a Service asks this process to pass its connections on.
fn asks(key: &ObjectKey, stored: &Stored<Service>, problems: &mut Vec<Problem>) -> bool {
    let found = gatehouse::FAMILY.find(&gatehouse::FORWARDING, &stored.object.metadata);
    if let Some(found) = found.filter(|found| found.value.trim() != "gateway") {
        let instead = if stored.trust.standalone { "this process" } else { "kube-proxy" };
        problems.push(Problem::error(
            &ObjectRef::new("Service", key.clone()),
            "InvalidAnnotation",
            found.field(),
            format!("{:?} is not \"gateway\", so {instead} passes its connections on", found.value),
            "write gateway, or remove the annotation",
        ));
    }
    stored.trust.standalone || found.is_some_and(|found| found.value.trim() == "gateway")
}

/// The TCP ports of a Service, and the backend of each.
fn ports(
    key: &ObjectKey,
    service: &Service,
    problems: &mut Vec<Problem>,
) -> Vec<(u16, BackendKey)> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut passed = Vec::with_capacity(ports.len());
    for (at, port) in ports.iter().enumerate() {
        let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        match u16::try_from(port.port) {
            Ok(number) if number > 0 && tcp => passed.push((
                number,
                BackendKey {
                    service: key.clone(),
                    port: BackendPort::Number(number),
                    protocol: BackendProtocol::Bytes,
                },
            )),
            _ => problems.push(Problem::warning(
                &ObjectRef::new("Service", key.clone()),
                "PortNotServed",
                format!("spec.ports[{at}]"),
                format!("port {} is not TCP, and nothing else is passed on yet", port.port),
                "have kube-proxy forward it: without gatehouse.io/forwarding, in a cluster",
            )),
        }
    }
    passed
}

/// The certificate that a Service asks for.
fn tls(object: &ObjectRef, service: &Service) -> Option<CertBinding> {
    let found = gatehouse::FAMILY.find(&gatehouse::TLS_SECRET, &service.metadata)?;
    let secret = ObjectKey::new(Arc::clone(&object.key.namespace), found.value.trim());
    Some(CertBinding {
        host: HostPattern::Any,
        if_named: false,
        source: CertSource::Secret(secret),
        object: object.clone(),
        field: found.field(),
    })
}

/// The Secrets that they name.
pub(super) fn secrets<'s>(services: &'s [Forwarded<'_>]) -> impl Iterator<Item = &'s ObjectKey> {
    services.iter().filter_map(|service| match &service.tls.as_ref()?.source {
        CertSource::Secret(secret) => Some(secret),
        CertSource::Inline { .. } => None,
    })
}

/// The certificates of those that want TLS to end here, by Service.
pub(super) fn certs(
    services: &[Forwarded<'_>],
    builder: &mut certs::Builder<'_>,
    known: &Store<Secret>,
    previous: Option<&L4Plan>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ObjectKey, Certs> {
    let mut all = BTreeMap::new();
    for Forwarded { key, tls, .. } in services {
        let Some(binding) = tls else { continue };
        let there = matches!(&binding.source, CertSource::Secret(key) if known.contains_key(key));
        if !there {
            problems.push(Problem::error(
                &binding.object,
                "SecretNotFound",
                binding.field.clone(),
                "the Secret does not exist, or may not be read, so connections are refused",
                "create a Secret of type kubernetes.io/tls in the namespace of the Service",
            ));
        }
        let before = previous.iter().flat_map(|previous| previous.values());
        let before =
            before.filter(|port| port.service == **key).find_map(|port| port.certs.as_ref());
        let bindings = if there { std::slice::from_ref(binding) } else { &[] };
        let scope = Scope::Gateway((*key).clone());
        let table = builder.table(&scope, bindings, before.map(|certs| &certs.0));
        all.insert((*key).clone(), Certs(table));
    }
    all
}

/// The backends that they take, in one order with [`plan`].
pub(super) fn asked(services: &[Forwarded<'_>]) -> Vec<Asked> {
    let ports = services.iter().flat_map(|service| {
        service.ports.iter().enumerate().map(|(at, (_, key))| Asked {
            object: ObjectRef::new("Service", service.key.clone()),
            key: key.clone(),
            field: format!("spec.ports[{at}]"),
        })
    });
    ports.collect()
}

/// What is passed on, given the slots of the backends and who has which address. Ports that say the same as before
/// are the same.
pub(super) fn plan(
    services: &[Forwarded<'_>],
    slots: &[BackendSlot],
    (state, node): (&ClusterState, &NodeContext),
    addresses: &BTreeMap<ObjectKey, Assigned>,
    (sources, certs): (&SourceRanges, &BTreeMap<ObjectKey, Certs>),
    previous: Option<&L4Plan>,
) -> L4Plan {
    let mut plan = L4Plan::new();
    let mut slots = slots.iter();
    for Forwarded { key, service, policy, ports, .. } in services {
        let spec = service.spec.as_ref();
        let text = |field: Option<&Option<String>>| field.and_then(|text| text.clone());
        let affinity = text(spec.map(|spec| &spec.session_affinity));
        let local = text(spec.map(|spec| &spec.external_traffic_policy));
        let here = (local.as_deref() == Some("Local")).then(|| on_node(state, key, &node.node));
        let ips: &[IpAddr] = addresses.get(*key).map_or(&[], |assigned| &assigned.ips);
        for ((number, backend), slot) in ports.iter().zip(&mut slots) {
            let backend = WeightedBackend { slot: *slot, key: backend.clone(), weight: 1 };
            for ip in ips {
                let spec = ForwardSpec::of(Box::new([backend.clone()]), Arc::clone(policy));
                let port = L4Port {
                    service: (*key).clone(),
                    forward: Forward::new(spec),
                    by_client: affinity.as_deref() == Some("ClientIP"),
                    here: here.clone(),
                    sources: sources.get(*key).cloned(),
                    certs: certs.get(*key).cloned(),
                };
                let address = SocketAddr::new(*ip, *number);
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
pub(super) fn listeners(plan: &L4Plan) -> impl Iterator<Item = ListenerPlan> {
    plan.iter().map(|(address, port)| ListenerPlan {
        address: *address,
        scope: Scope::Gateway(port.service.clone()),
        slot: ScopeSlot::NONE,
        protocol: if port.certs.is_some() { Protocol::Tls } else { Protocol::Tcp },
        vip: true,
    })
}

/// What the status of such a Service says of its ports: those that are not passed on have an error.
pub(super) fn port_statuses(service: &Service) -> Vec<PortStatus> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let status = |port: &ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let error = (protocol != "TCP").then(|| "gatehouse.io/PortNotServed".to_owned());
        PortStatus { port: port.port, protocol, error }
    };
    // With nothing to say there is no need to list them.
    let statuses: Vec<_> = ports.iter().map(status).collect();
    if statuses.iter().any(|status| status.error.is_some()) { statuses } else { Vec::new() }
}

/// The addresses of a Service's endpoints on a node, in order.
fn on_node(state: &ClusterState, service: &ObjectKey, node: &str) -> Box<[IpAddr]> {
    let slices = state.objects.endpoint_slices.iter().filter(|(key, stored)| {
        let labels = stored.object.metadata.labels.as_ref();
        key.namespace == service.namespace
            && labels
                .and_then(|labels| labels.get(SERVICE_NAME))
                .is_some_and(|of| **of == *service.name)
    });
    let endpoints = slices.flat_map(|(_, stored)| &stored.object.endpoints);
    let here = endpoints.filter(|endpoint| endpoint.node_name.as_deref() == Some(node));
    let ips = here.flat_map(|endpoint| &endpoint.addresses);
    let mut ips: Vec<IpAddr> = ips.filter_map(|text| text.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    ips.into()
}
