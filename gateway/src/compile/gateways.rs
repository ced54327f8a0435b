//! Gateway Services: which Services this process itself stands behind, and the sockets that follow.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use gatehouse_routes::{
    model::{Scope, ScopeSlot},
    objects::{ObjectKey, ObjectRef, Stored},
    options::Options,
    problem::Problem,
};
use k8s_openapi::api::core::v1::{PortStatus, Service, ServicePort};

use super::{Assigned, ListenerPlan, NodeContext, Protocol};
use crate::state::ClusterState;

/// `spec.loadBalancerClass` that asks for an address of ours by name; so does no class at all.
pub(super) const LOAD_BALANCER_CLASS: &str = "gatehouse.io/vip";

/// The gateway Services that can be served, by key. The route tables say which Services are named as
/// gateways; what keeps one of them from being served becomes a problem of the object that names it.
pub(super) fn gateways<'s>(
    state: &'s ClusterState,
    node: &NodeContext,
    routes: &gatehouse_routes::compile::Compiled,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ObjectKey, &'s Service> {
    let mut usable = BTreeMap::new();
    for table in &routes.tables {
        let Scope::Gateway(key) = &table.scope else { continue };
        match servable(state, node, key) {
            Ok(service) => {
                usable.insert(key.clone(), service);
            }
            Err((reason, message, hint)) => {
                for (object, field) in named_by(state, &node.options, key) {
                    problems.push(Problem::error(&object, reason, field, &*message, hint));
                }
            }
        }
    }
    usable
}

/// True if the Service asks for an address from this process. In a cluster without any pool, one that names
/// no class asks whatever else gives addresses there.
pub(super) fn claims_address(
    state: &ClusterState,
    node: &NodeContext,
    stored: &Stored<Service>,
) -> bool {
    // Before any look at the object.
    if !stored.special {
        return false;
    }
    let ours = node.load_balancer_class.as_deref();
    let spec = stored.object.spec.as_ref();
    let class = spec.and_then(|spec| spec.load_balancer_class.as_ref());
    let poolless = !stored.trust.standalone && state.pools.is_empty();
    may_be_ours(ours, &stored.object) && !(poolless && ours.is_none() && class.is_none())
}

/// True if the type and the class of the Service ask for an address from this process.
/// `load_balancer_class` is that of [`NodeContext`].
pub(crate) fn may_be_ours(load_balancer_class: Option<&str>, service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let class = spec.load_balancer_class.as_deref();
    let ours = match load_balancer_class {
        None => class.is_none_or(|class| class == LOAD_BALANCER_CLASS),
        ours => class == ours,
    };
    ours && spec.type_.as_deref() == Some("LoadBalancer")
}

/// What the status of a gateway says of its ports: those that it does not serve have an error.
pub(super) fn port_statuses(service: &Service) -> Vec<PortStatus> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let status = |port: &ServicePort| PortStatus {
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        error: protocol(port).is_none().then(|| "gatehouse.io/PortNotServed".to_owned()),
    };
    ports.iter().map(status).collect()
}

/// Sockets in a stable order: plain ones as given, then those of the gateway Services.
pub(super) fn listeners(
    node: &NodeContext,
    gateways: &BTreeMap<ObjectKey, &Service>,
    routes: &gatehouse_routes::compile::Compiled,
    addresses: &BTreeMap<ObjectKey, Assigned>,
    problems: &mut Vec<Problem>,
) -> Vec<ListenerPlan> {
    let mut listeners: Vec<ListenerPlan> = Vec::new();
    for (protocol, plain) in [(Protocol::Http, &node.http), (Protocol::Https, &node.https)] {
        for &address in plain {
            if !listeners.iter().any(|known| known.address == address) {
                let (scope, slot) = (Scope::Plain, ScopeSlot::PLAIN);
                listeners.push(ListenerPlan { address, scope, slot, protocol, vip: false });
            }
        }
    }
    for table in &routes.tables {
        let Scope::Gateway(key) = &table.scope else { continue };
        let Some(service) = gateways.get(key) else { continue };
        let ports = served_ports(key, service, problems);
        let ips: &[IpAddr] = addresses.get(key).map_or(&[], |assigned| &assigned.ips);
        for &ip in ips {
            listeners.extend(ports.iter().map(|&(port, protocol)| ListenerPlan {
                address: SocketAddr::new(ip, port),
                scope: table.scope.clone(),
                slot: table.slot,
                protocol,
                vip: true,
            }));
        }
    }
    listeners
}

/// Why a Service cannot be a gateway: reason, message, hint.
type Unusable = (&'static str, String, &'static str);

fn servable<'s>(
    state: &'s ClusterState,
    node: &NodeContext,
    key: &ObjectKey,
) -> Result<&'s Service, Unusable> {
    let Some(stored) = state.objects.services.get(key) else {
        let message = format!("the gateway Service {key} does not exist");
        return Err(("GatewayNotFound", message, "create it with type LoadBalancer"));
    };
    let service = &*stored.object;
    if claims_address(state, node, stored) {
        return Ok(service);
    }
    let spec = service.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP");
    if kind != "LoadBalancer" {
        let message = format!("the gateway Service {key} is of type {kind}, not LoadBalancer");
        return Err(("GatewayNotLoadBalancer", message, "set spec.type: LoadBalancer"));
    }
    match spec.and_then(|spec| spec.load_balancer_class.as_deref()) {
        None if node.load_balancer_class.is_none() => {
            let message =
                format!("there is no IPAddressPool, so the gateway Service {key} has no address");
            Err((
                "NoPool",
                message,
                "create an IPAddressPool, or serve plain addresses (--http, --https)",
            ))
        }
        class => {
            let class = class.unwrap_or_default();
            let message =
                format!("the gateway Service {key} is of load balancer class \"{class}\"");
            let hint = "set spec.loadBalancerClass to that of --load-balancer-class, by default none or \
                        gatehouse.io/vip";
            Err(("GatewayOfOtherClass", message, hint))
        }
    }
}

/// The objects that name a Service as their gateway, and the field in which they do; the Service itself
/// where only the command line names it.
fn named_by(
    state: &ClusterState,
    options: &Options,
    service: &ObjectKey,
) -> Vec<(ObjectRef, &'static str)> {
    let classes = state.objects.ingress_classes.iter().filter(|(_, stored)| {
        let spec = stored.object.spec.as_ref();
        spec.filter(|spec| spec.controller.as_ref() == Some(&options.controller))
            .and_then(|spec| spec.parameters.as_ref())
            .is_some_and(|parameters| {
                parameters.name == *service.name
                    && parameters.namespace.as_deref() == Some(&service.namespace)
            })
    });
    let mut objects: Vec<_> = classes
        .map(|(key, _)| (ObjectRef::new("IngressClass", key.clone()), "spec.parameters"))
        .collect();
    if objects.is_empty() {
        objects.push((ObjectRef::new("Service", service.clone()), ""));
    }
    objects
}

fn served_ports(
    key: &ObjectKey,
    service: &Service,
    problems: &mut Vec<Problem>,
) -> Vec<(u16, Protocol)> {
    let object = ObjectRef::new("Service", key.clone());
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut served = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        match (protocol(port), u16::try_from(port.port)) {
            (Some(protocol), Ok(number)) if number != 0 => served.push((number, protocol)),
            _ => problems.push(Problem::warning(
                &object,
                "PortNotServed",
                format!("spec.ports[{index}]"),
                format!(
                    "port {} is neither HTTP nor HTTPS, so the gateway does not serve it",
                    port.port
                ),
                "name it http or https, or set its appProtocol to one of these",
            )),
        }
    }
    if ports.is_empty() {
        problems.push(Problem::error(
            &object,
            "NoPorts",
            "spec.ports",
            "the gateway Service has no ports, so nothing is served on its addresses",
            "add the ports http 80 and https 443",
        ));
    }
    served
}

/// What a gateway speaks on a port: `appProtocol` decides, else the name, else the well-known number.
fn protocol(port: &ServicePort) -> Option<Protocol> {
    if port.protocol.as_deref().is_some_and(|transport| transport != "TCP") {
        return None;
    }
    let by_name = |name: &str| match name {
        "http" => Some(Protocol::Http),
        "https" => Some(Protocol::Https),
        _ => None,
    };
    match (port.app_protocol.as_deref(), port.name.as_deref().and_then(by_name), port.port) {
        (Some(name), _, _) => by_name(name),
        (None, Some(protocol), _) => Some(protocol),
        (None, None, 80) => Some(Protocol::Http),
        (None, None, 443) => Some(Protocol::Https),
        _ => None,
    }
}
