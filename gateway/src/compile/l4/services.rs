//! Which Services are passed on, by what, and which backends that takes.

use std::{collections::BTreeSet, sync::Arc};

use gatehouse_routes::{
    annotations::{self, Found, gatehouse},
    compile::Asked,
    model::{
        BackendKey, BackendPort, BackendProtocol, CertBinding, CertSource, HostPattern, Transport,
    },
    objects::{ObjectKey, ObjectRef, Stored},
    policy::{Policy, balance::Algorithm, proxy_protocol::ProxyProtocol},
    problem::Problem,
};
use k8s_openapi::{
    api::core::v1::{PortStatus, Service, ServicePort, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Forwarding, alpn,
    names::{self, Name},
};
use crate::{
    compile::{NodeContext, addresses, gateways::claims_address, slices::Slices},
    state::ClusterState,
};

/// A Service and those of its ports that can be passed on.
pub(in crate::compile) struct Forwarded<'s> {
    pub(in crate::compile) key: &'s ObjectKey,
    pub(in crate::compile) service: &'s Service,
    pub(super) forwarding: Forwarding,
    pub(super) policy: Arc<Policy>,
    pub(super) ports: Vec<Port>,
    pub(super) tls: Option<CertBinding>,
    pub(super) alpn: Box<[Vec<u8>]>,
}

impl Forwarded<'_> {
    /// The Services that server names lead to, each once.
    pub(in crate::compile) fn named(&self) -> Vec<&ObjectKey> {
        let all = self.ports.iter().flat_map(|port| &port.named);
        let all: BTreeSet<_> = all.map(|(name, _)| &name.service).collect();
        all.into_iter().collect()
    }
}

/// A port and its backend.
pub(super) struct Port {
    pub(super) transport: Transport,
    pub(super) number: u16,
    pub(super) backend: BackendKey,
    /// The backends of server names.
    pub(super) named: Vec<(Name, BackendKey)>,
    /// Its place in `spec.ports`.
    at: usize,
}

/// The Services that are passed on here. `gateways` are those that are served otherwise.
pub(in crate::compile) fn services<'s>(
    state: &'s ClusterState,
    node: &NodeContext,
    gateways: &BTreeSet<ObjectKey>,
    problems: &mut Vec<Problem>,
) -> Vec<Forwarded<'s>> {
    let others =
        state.objects.services.iter().filter(|(key, stored)| {
            !gateways.contains(*key) && claims_address(state, node, stored)
        });
    let mut forwarded = Vec::new();
    for (key, stored) in others {
        let Some(forwarding) = asks(key, stored, problems) else { continue };
        let object = ObjectRef::new("Service", key.clone());
        if stored.trust.standalone {
            problems.extend(stored.object.spec.iter().flat_map(|spec| misread(&object, spec)));
        }
        let policy = annotations::policy(&object, &stored.object.metadata);
        let tls = tls(&object, &stored.object);
        let metadata = &stored.object.metadata;
        let names = names::names(&object, metadata, tls.is_some(), problems);
        let alpn = alpn::protocols(&object, metadata, tls.is_some(), problems);
        let beyond = beyond_kernel(tls.as_ref(), &names, &policy);
        let forwarding = what_can(forwarding, (&object, metadata), beyond, problems);
        if forwarding == Forwarding::Kernel {
            problems.extend(unbalanced(&object, metadata, &policy));
        }
        let closed = closed(&object, metadata);
        let is_closed = closed.is_some();
        let mut ports = match closed {
            None => ports(key, &stored.object, &policy, problems),
            Some((field, message, hint)) => {
                problems.push(Problem::error(&object, "PortNotServed", field, message, hint));
                Vec::new()
            }
        };
        for port in ports.iter_mut().filter(|port| port.transport == Transport::Tcp) {
            let backends = names.iter().map(|name| (name.clone(), name.backend(port.number)));
            port.named = backends.collect();
        }
        if policy.check.is_some()
            && !is_closed
            && !ports.iter().any(|port| port.transport == Transport::Tcp)
        {
            let found = gatehouse::FAMILY.find(&gatehouse::HEALTH_CHECK, &stored.object.metadata);
            problems.push(Problem::warning(
                &object,
                "CheckImpossible",
                found.map(|found| found.field()).unwrap_or_default(),
                "endpoints are checked at a TCP port, and the Service has none, so they are not checked",
                "add a TCP port at which the endpoints say how they are, or remove the annotation",
            ));
        }
        // Nor does kube-proxy pass on what this process does not for the sake of a protection.
        let spec = stored.object.spec.as_ref();
        let refused = |port: &ServicePort| refuses(port, &policy);
        let kept =
            spec.and_then(|spec| spec.ports.as_ref()).is_some_and(|all| all.iter().any(refused));
        if !ports.is_empty() || kept || is_closed {
            forwarded.push(Forwarded {
                key,
                service: &stored.object,
                forwarding,
                policy,
                ports,
                tls,
                alpn,
            });
        }
    }
    forwarded
}

/// By what a Service asks to be passed on; `None`: by the cluster.
fn asks(
    key: &ObjectKey,
    stored: &Stored<Service>,
    problems: &mut Vec<Problem>,
) -> Option<Forwarding> {
    let found = gatehouse::FAMILY.find(&gatehouse::FORWARDING, &stored.object.metadata);
    let asked = found.as_ref().map(|found| Forwarding::of_annotation(found.value.trim()));
    if let (Some(found), Some(None)) = (&found, asked) {
        let instead = if stored.trust.standalone { "this process" } else { "kube-proxy" };
        problems.push(Problem::error(
            &ObjectRef::new("Service", key.clone()),
            "InvalidAnnotation",
            found.field(),
            format!(
                "{:?} is neither \"gateway\" nor \"kernel\", so {instead} passes its connections on",
                found.value
            ),
            "write gateway or kernel, or remove the annotation",
        ));
    }
    asked.flatten().or_else(|| stored.trust.standalone.then_some(Forwarding::Gateway))
}

/// Words that an API server would have refused.
fn misread<'s>(object: &'s ObjectRef, spec: &'s ServiceSpec) -> impl Iterator<Item = Problem> + 's {
    let words = [
        (&spec.external_traffic_policy, "spec.externalTrafficPolicy", ["Cluster", "Local"]),
        (&spec.session_affinity, "spec.sessionAffinity", ["None", "ClientIP"]),
    ];
    words.into_iter().filter_map(|(said, field, known)| {
        let word = said.as_deref().filter(|word| !word.is_empty() && !known.contains(word))?;
        let [default, other] = known;
        let message =
            format!("{word:?} is neither {default} nor {other}, so it counts as {default}");
        let hint = format!("write {default} or {other}");
        Some(Problem::error(object, "InvalidValue", field, message, hint))
    })
}

/// What of the things that a Service asks for a kernel cannot do.
fn beyond_kernel(
    tls: Option<&CertBinding>,
    names: &[Name],
    policy: &Policy,
) -> Option<&'static str> {
    match policy.proxy_protocol {
        _ if tls.is_some() => Some("end TLS"),
        _ if !names.is_empty() => Some("choose by server name"),
        Some(_) => Some("send a PROXY header"),
        None if policy.limits.is_some() => Some("bound connections"),
        None => None,
    }
}

/// By what a Service is passed on that asks for this: what is to be done with the bytes of connections takes a process.
fn what_can(
    asked: Forwarding,
    (object, metadata): (&ObjectRef, &ObjectMeta),
    beyond: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Forwarding {
    let Some(what) = beyond.filter(|_| asked == Forwarding::Kernel) else { return asked };
    let found = gatehouse::FAMILY.find(&gatehouse::FORWARDING, metadata);
    let field = found.map(|found| found.field()).unwrap_or_default();
    problems.push(Problem::warning(
        object,
        "KernelCannot",
        field,
        format!("the kernel cannot {what}, so this process passes the connections on"),
        "write gateway, or remove the annotation that asks for it",
    ));
    Forwarding::Gateway
}

/// A way to choose endpoints that a kernel does not have.
fn unbalanced(object: &ObjectRef, metadata: &ObjectMeta, policy: &Policy) -> Option<Problem> {
    let hint = match policy.balance.algorithm {
        Algorithm::RoundRobin | Algorithm::Random => return None,
        Algorithm::LeastRequest | Algorithm::LeastTime => {
            "write gatehouse.io/forwarding: gateway, or remove the annotation"
        }
        Algorithm::Hash { .. } => "write sessionAffinity: ClientIP, or remove the annotation",
    };
    let found = gatehouse::FAMILY.find(&gatehouse::LOAD_BALANCE, metadata)?;
    let message = "the kernel spreads connections at random".to_owned();
    Some(Problem::warning(object, "KernelCannot", found.field(), message, hint))
}

/// Why no port of a Service is passed on: an annotation that protects says nothing that can be done, or stands under a name
/// that nobody reads; field, message and hint. Who serves the port without that serves it to those whom it is to be
/// protected from.
fn closed(object: &ObjectRef, metadata: &ObjectMeta) -> Option<(String, String, String)> {
    let written = |row| gatehouse::FAMILY.find_written(row, metadata);
    let without_header = written(&gatehouse::PROXY_PROTOCOL)
        .filter(|found| found.value.trim().parse::<ProxyProtocol>().is_err())
        .map(|found| {
            let what = format!(
                "{:?} is no version of the PROXY protocol, and without a header clients could write one, so no port is passed on",
                found.value
            );
            (found, what, "write v1 or v2, or remove the annotation")
        });
    let in_clear_text = || {
        let found = written(&gatehouse::TLS_SECRET)?;
        let what = "it names no Secret, and TLS is to end here, so no port is passed on".to_owned();
        let hint = "write the name of a Secret of type kubernetes.io/tls, or remove the annotation";
        found.value.trim().is_empty().then_some((found, what, hint))
    };
    let said =
        |(found, what, hint): (Found<'_>, String, &str)| (found.field(), what, hint.to_owned());
    without_header.or_else(in_clear_text).map(said).or_else(|| {
        let problem = annotations::closing(object, metadata)?;
        Some((problem.field, problem.message, problem.hint))
    })
}

/// The TCP and UDP ports of a Service, and the backend of each.
fn ports(
    key: &ObjectKey,
    service: &Service,
    policy: &Policy,
    problems: &mut Vec<Problem>,
) -> Vec<Port> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut passed = Vec::with_capacity(ports.len());
    for (at, port) in ports.iter().enumerate() {
        let number = u16::try_from(port.port).ok().filter(|number| *number > 0);
        let known = transport(port, policy).and_then(|transport| {
            let none = || (format!("port {} is none", port.port), "write a port from 1 to 65535");
            Ok((transport, number.ok_or_else(none)?))
        });
        let problem = |(message, hint)| {
            problems.push(Problem::warning(
                &ObjectRef::new("Service", key.clone()),
                "PortNotServed",
                format!("spec.ports[{at}]"),
                message,
                hint,
            ));
        };
        let Ok((transport, number)) = known.map_err(problem) else { continue };
        let protocol = match transport {
            Transport::Tcp => BackendProtocol::Bytes,
            Transport::Udp => BackendProtocol::Datagrams,
        };
        let port = BackendPort::Number(number);
        let backend = BackendKey { service: key.clone(), port, protocol, whole: false };
        passed.push(Port { transport, number, backend, named: Vec::new(), at });
    }
    passed
}

/// What a port is of, if that is passed on; message and hint if not.
fn transport(port: &ServicePort, policy: &Policy) -> Result<Transport, (String, &'static str)> {
    let protocol = port.protocol.as_deref().unwrap_or_default();
    match Transport::of_port(port.protocol.as_deref()) {
        None => Err((
            format!("port {} is of {protocol}, and only TCP and UDP are passed on", port.port),
            "have kube-proxy forward it: without gatehouse.io/forwarding, in a cluster",
        )),
        Some(_) if refuses(port, policy) => Err((
            format!(
                "port {} is of UDP, which version 1 of the PROXY protocol does not know",
                port.port
            ),
            "write gatehouse.io/proxy-protocol: v2, or remove the annotation",
        )),
        Some(transport) => Ok(transport),
    }
}

/// Whether a port is UDP's, and a header is to be put before it of a version that has no word for it: an endpoint that waits
/// for a header must not take a client's bytes for one.
fn refuses(port: &ServicePort, policy: &Policy) -> bool {
    let transport = Transport::of_port(port.protocol.as_deref());
    transport == Some(Transport::Udp) && policy.proxy_protocol == Some(ProxyProtocol::V1)
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
pub(in crate::compile) fn secrets<'s>(
    services: &'s [Forwarded<'_>],
) -> impl Iterator<Item = &'s ObjectKey> {
    services.iter().filter_map(|service| match &service.tls.as_ref()?.source {
        CertSource::Secret(secret) => Some(secret),
        CertSource::Inline { .. } => None,
    })
}

/// The backends that they take, in one order with [`plan`](super::plan()).
pub(in crate::compile) fn asked(
    services: &[Forwarded<'_>],
    known: (&ClusterState, &Slices<'_>),
    node: &NodeContext,
) -> Vec<Asked> {
    let mut all = Vec::new();
    for service in services {
        let object = ObjectRef::new("Service", service.key.clone());
        let of_names = names::field(&service.service.metadata).unwrap_or_default();
        let announced = addresses::usable(known, node, service.key, &service.named()).is_some();
        let so = |lost| Some(if announced { lost } else { "no address is announced for it" });
        for port in &service.ports {
            let (key, field) = (port.backend.clone(), format!("spec.ports[{}]", port.at));
            let lost = lost(service.forwarding, port.transport);
            all.push(Asked { object: object.clone(), key, field, so: so(lost) });
            let named = port.named.iter().map(|(_, key)| Asked {
                object: object.clone(),
                key: key.clone(),
                field: of_names.clone(),
                so: so("connections of its names are reset"),
            });
            all.extend(named);
        }
    }
    all
}

/// What becomes of clients of a port without an endpoint on an address that is announced.
fn lost(forwarding: Forwarding, transport: Transport) -> &'static str {
    match (forwarding, transport) {
        (Forwarding::Kernel, Transport::Tcp) => "connections are refused",
        (Forwarding::Kernel, Transport::Udp) => "datagrams are refused",
        (Forwarding::Gateway, Transport::Tcp) => "connections are reset",
        (Forwarding::Gateway, Transport::Udp) => "datagrams are not answered",
    }
}

/// What the status of such a Service says of its ports: those that are not passed on have an error.
pub(in crate::compile) fn port_statuses(key: &ObjectKey, service: &Service) -> Vec<PortStatus> {
    let object = ObjectRef::new("Service", key.clone());
    let policy = annotations::policy(&object, &service.metadata);
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let closed = closed(&object, &service.metadata).is_some();
    let status = |port: &ServicePort| {
        let passed = !closed && transport(port, &policy).is_ok();
        let error = (!passed).then(|| "gatehouse.io/PortNotServed".to_owned());
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        PortStatus { port: port.port, protocol, error }
    };
    // With nothing to say there is no need to list them.
    let statuses: Vec<_> = ports.iter().map(status).collect();
    if statuses.iter().any(|status| status.error.is_some()) { statuses } else { Vec::new() }
}
