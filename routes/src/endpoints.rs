//! From a Service and its EndpointSlices to the addresses that answer.
//!
//! The one input that needs distrust: a user who may write an EndpointSlice could point the gateway at the
//! node itself or at a cloud's metadata service. [`refusal`] is the list of addresses that are never
//! dialled. Every endpoint is spoken to as its rule says or, where that says nothing, as its port does.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
};

use foldhash::{HashMap, HashMapExt, HashSet};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort},
        discovery::v1::{Endpoint as DiscoveredEndpoint, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    model::{Backend, BackendKey, BackendPort, Endpoint, EndpointSet, ExternalName, Transport},
    objects::{ObjectKey, ObjectRef, Objects, Stored},
    options::Place,
    problem::Problem,
    transport::Speaks,
};

mod address;
mod empty;
mod gap;
mod idled;
mod inputs;
mod named;
mod near;
mod protocol;

pub use address::refusal;
use address::{checked, external_host};
use empty::Empty;
pub(crate) use gap::Gap;
pub(crate) use inputs::{Changed, Inputs};
pub(crate) use named::{service_named, through};
use near::{Distribution, Nearness};
use protocol::spoken;

/// The label that ties an EndpointSlice to its Service (same namespace).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Looks up what backends consist of.
pub(crate) struct Resolver<'o> {
    objects: &'o Objects,
    /// Where gateways listen.
    own: &'o BTreeSet<SocketAddr>,
    /// Where this process runs.
    place: &'o Place,
    slices: HashMap<ServiceName<'o>, Vec<Slice<'o>>>,
}

type Slice<'o> = (&'o ObjectKey, &'o Stored<EndpointSlice>);

/// Namespace and name of a Service.
pub(crate) type ServiceName<'o> = (&'o str, &'o str);

fn service_of<'o>(key: &'o ObjectKey, slice: &'o EndpointSlice) -> Option<ServiceName<'o>> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((&key.namespace, name))
}

/// A backend and what it was made from.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) backend: Arc<Backend>,
    pub(crate) gap: Option<Gap>,
    /// Other Services that it leads to by their names; the last one need not exist.
    pub(crate) through: Vec<ObjectKey>,
    /// About Service and EndpointSlices; about the rules' objects see [`Gap`].
    pub(crate) problems: Vec<Problem>,
}

impl<'o> Resolver<'o> {
    /// Sorts the EndpointSlices of these Services, the only ones that may be asked for.
    pub(crate) fn new(
        objects: &'o Objects,
        own: &'o BTreeSet<SocketAddr>,
        services: &HashSet<ServiceName<'_>>,
    ) -> Self {
        let mut slices: HashMap<_, Vec<Slice<'o>>> = HashMap::with_capacity(services.len());
        // Mostly nobody asks.
        let all = (!services.is_empty()).then_some(&objects.endpoint_slices);
        for (key, stored) in all.into_iter().flatten() {
            if let Some(service) = service_of(key, &stored.object)
                && services.contains(&service)
            {
                slices.entry(service).or_default().push((key, stored));
            }
        }
        static NOWHERE: LazyLock<Place> = LazyLock::new(Place::default);
        Self { objects, own, place: &NOWHERE, slices }
    }

    /// The same for a process that runs there.
    pub(crate) fn at(self, place: &'o Place) -> Self {
        Self { place, ..self }
    }

    /// Resolves a backend. The counters of the previous value go on, and all of it if nothing differs.
    pub(crate) fn resolve(&self, key: &BackendKey, previous: Option<&Resolved>) -> Resolved {
        let mut draft = Draft::default();
        match (&key.port, self.objects.services.get(&key.service)) {
            (BackendPort::Outside { number, loopback }, _) => {
                draft.outside(key, *number, *loopback);
            }
            (_, None) => draft.gap = Some(Gap::Service),
            (_, Some(service)) => self.fill(&mut draft, key, service),
        }
        let through = through(key, self.objects);
        for to in &through {
            let service = self.objects.services.get(to).filter(|it| it.trust.standalone);
            let Some(service) = service else { break };
            let Some(named) = draft.external.take() else { break };
            // What is said of the port here counts there.
            draft.stated = Some(named.speaks).filter(|speaks| *speaks != Speaks::default());
            self.fill(&mut draft, &named::key(key, &named, (to, &service.object)), service);
        }
        if let Some(last) = through.last()
            && draft.external.is_some()
            && !self.objects.services.contains_key(last)
        {
            draft.gap = Some(Gap::Named);
        }
        Resolved {
            gap: draft.gap,
            through,
            backend: draft.backend(key, previous.map(|old| &old.backend)),
            problems: draft.problems,
        }
    }

    fn fill(&self, draft: &mut Draft<'o>, key: &BackendKey, service: &'o Stored<Service>) {
        let owner = (&*key.service.namespace, &*key.service.name);
        let slices = self.slices.get(&owner).map_or(&[][..], Vec::as_slice);
        draft.fill(key, service, slices, (self.own, self.place));
    }
}

/// A backend under construction.
#[derive(Default)]
struct Draft<'s> {
    /// What the Service says of its ports.
    ports: &'s [ServicePort],
    /// What the rule says is spoken.
    stated: Option<Speaks>,
    /// What the ports are of.
    transport: Transport,
    addresses: Vec<(SocketAddr, Speaks)>,
    /// Of endpoints that are going away but still serve: used for clients that they have, and where no other
    /// is left.
    terminating: Vec<(SocketAddr, Speaks)>,
    /// How near the ready ones are, in their order.
    nearness: Vec<(SocketAddr, Nearness)>,
    distribution: Distribution,
    by_client: bool,
    external: Option<ExternalName>,
    gap: Option<Gap>,
    problems: Vec<Problem>,
}

/// Why an endpoint may get traffic (discovery/v1 EndpointConditions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// It is ready, or nobody says that it is not.
    Ready,
    /// It is going away but still serves; kube-proxy sends it traffic if there is no ready one.
    Terminating,
}

impl Condition {
    fn of(endpoint: &DiscoveredEndpoint) -> Option<Self> {
        let Some(conditions) = &endpoint.conditions else { return Some(Self::Ready) };
        match (conditions.ready, conditions.serving, conditions.terminating) {
            (None | Some(true), ..) => Some(Self::Ready),
            (Some(false), Some(true), Some(true)) => Some(Self::Terminating),
            _ => None,
        }
    }
}

/// Which ports of an EndpointSlice are meant.
enum Wanted<'a> {
    Name(&'a str),
    Target(&'a str),
    All,
}

impl Wanted<'_> {
    fn takes(&self, port: &SlicePort<'_>) -> bool {
        match self {
            Self::Name(wanted) => *wanted == port.name,
            // Compared as text (route/v1 RoutePort.targetPort).
            Self::Target(wanted) => *wanted == port.name || **wanted == *port.number.to_string(),
            Self::All => true,
        }
    }
}

impl<'s> Draft<'s> {
    fn fill(
        &mut self,
        key: &BackendKey,
        service: &'s Stored<Service>,
        slices: &[Slice<'_>],
        (own, place): (&BTreeSet<SocketAddr>, &Place),
    ) {
        let spec = service.object.spec.as_ref();
        self.ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        self.stated = key.protocol.stated().or(self.stated);
        self.transport = key.protocol.transport();
        let affinity = spec.and_then(|spec| spec.session_affinity.as_deref());
        self.by_client = affinity == Some("ClientIP");
        let distribution = spec.and_then(|spec| spec.traffic_distribution.as_deref());
        self.distribution = Distribution::of(distribution);
        let port = service_port(self.transport, &key.port, self.ports);
        if spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName")) {
            let name = spec.and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
            return self.external(key, name, service.trust.loopback_endpoints);
        }
        let wanted = match &key.port {
            BackendPort::Number(_) | BackendPort::Name(_) | BackendPort::First => match port {
                Some(port) => Wanted::Name(port.name.as_deref().unwrap_or_default()),
                None => {
                    self.gap = Some(Gap::Port);
                    return;
                }
            },
            BackendPort::Target(text) => Wanted::Target(text),
            BackendPort::All => Wanted::All,
            BackendPort::Outside { .. } => return,
        };
        if key.whole
            && let Some(address) = spec.and_then(|spec| spec.cluster_ip.as_deref())
            && let Some(port) = port.and_then(|port| u16::try_from(port.port).ok())
            && let Ok(ip) = address.parse::<IpAddr>()
        {
            return self.whole(
                key,
                SocketAddr::new(ip, port),
                service.trust.loopback_endpoints,
                own,
            );
        }
        // A cluster names the ports of a slice anew a moment after those of its Service. Until then the number that the
        // Service's port leads to says which is meant.
        let number = match wanted {
            Wanted::Name(_) if !service.trust.standalone => port.and_then(target_number),
            _ => None,
        };
        let number = number.map(|number| number.to_string());
        let before = number.as_deref().map(Wanted::Target);
        let (mut listed, mut found) = (false, false);
        for (slice_key, slice) in slices {
            listed |= slice.object.ports.as_ref().is_some_and(|ports| !ports.is_empty());
            let has = |wanted: &Wanted<'_>| {
                slice_ports(&slice.object, self.transport).any(|port| wanted.takes(&port))
            };
            let wanted = before.as_ref().filter(|_| !has(&wanted)).unwrap_or(&wanted);
            found |= has(wanted);
            self.take(slice_key, slice, wanted, (own, place));
        }
        if self.addresses.is_empty() {
            self.addresses = std::mem::take(&mut self.terminating);
        }
        if self.addresses.is_empty() {
            for address in idled::addresses(&service.object, &wanted, self.transport) {
                self.whole(key, address, service.trust.loopback_endpoints, own);
            }
        }
        if listed && matches!(wanted, Wanted::Target(_)) && !found {
            self.gap = Some(Gap::Port);
        }
        // What an API server has given a name of its own was copied from a cluster, whose endpoints come and go.
        let by_hand = service.trust.standalone && service.object.metadata.uid.is_none();
        if self.gap.is_none() && self.addresses.is_empty() && by_hand {
            self.gap = Some(Gap::Endpoints(Empty::why(slices, !found)));
        }
    }

    /// What is spoken on a port of an EndpointSlice, which the Service's port of the same name may say.
    fn spoken(&self, port: &SlicePort<'_>) -> Speaks {
        if let Some(stated) = self.stated {
            return stated;
        }
        let name = |of: &&ServicePort| of.name.as_deref().unwrap_or_default() == port.name;
        let of_service = || self.ports.iter().find(name)?.app_protocol.as_deref();
        spoken(port.app_protocol.or_else(of_service))
    }

    fn take(
        &mut self,
        key: &ObjectKey,
        stored: &Stored<EndpointSlice>,
        wanted: &Wanted<'_>,
        (own, place): (&BTreeSet<SocketAddr>, &Place),
    ) {
        let (slice, loopback) = (&stored.object, stored.trust.loopback_endpoints);
        let object = || ObjectRef::new("EndpointSlice", key.clone());
        if !matches!(&*slice.address_type, "IPv4" | "IPv6") {
            let message = format!("address type {:?} is not IPv4 or IPv6", slice.address_type);
            let hint = "use a Service of type ExternalName for names";
            let problem =
                Problem::warning(&object(), "AddressRefused", "addressType", message, hint);
            self.problems.push(problem);
            return;
        }
        let ports: Vec<(u16, Speaks)> = slice_ports(slice, self.transport)
            .filter(|port| wanted.takes(port))
            .map(|port| (port.number, self.spoken(&port)))
            .collect();
        for (at, endpoint) in slice.endpoints.iter().enumerate() {
            let Some(condition) = Condition::of(endpoint) else { continue };
            // Further addresses of an endpoint are the same pod again (discovery/v1 Endpoint.addresses).
            let Some(text) = endpoint.addresses.first() else { continue };
            let checked = checked(text, loopback).and_then(|ip| {
                // Gateways listen for TCP.
                let looping = |(port, _): &(u16, Speaks)| {
                    self.transport == Transport::Tcp && own.contains(&SocketAddr::new(ip, *port))
                };
                match ports.iter().any(looping) {
                    true => Err("an address of a gateway itself"),
                    false => Ok(ip),
                }
            });
            match checked {
                Ok(ip) => {
                    let addresses = match condition {
                        Condition::Ready => &mut self.addresses,
                        Condition::Terminating => &mut self.terminating,
                    };
                    let at = |&(port, speaks): &(u16, Speaks)| (SocketAddr::new(ip, port), speaks);
                    addresses.extend(ports.iter().map(at));
                    if condition == Condition::Ready {
                        let nearness = Nearness::of(endpoint, place);
                        let at = |(port, _): &(u16, Speaks)| (SocketAddr::new(ip, *port), nearness);
                        self.nearness.extend(ports.iter().map(at));
                    }
                }
                Err(why) => self.problems.push(Problem::warning(
                    &object(),
                    "AddressRefused",
                    format!("endpoints[{at}].addresses[0]"),
                    format!("address {text:?} is {why}, so the endpoint gets no traffic"),
                    "list the addresses of the pods",
                )),
            }
        }
    }

    /// A host or an address that an object names itself.
    fn outside(&mut self, key: &BackendKey, port: u16, loopback: bool) {
        let speaks = key.protocol.stated().unwrap_or_default();
        let host = &key.service.name;
        match host.parse::<IpAddr>() {
            Ok(ip) => self.addresses.push((SocketAddr::new(ip, port), speaks)),
            Err(_) => {
                let host = Arc::clone(host);
                self.external = Some(ExternalName { host, port, speaks, loopback });
            }
        }
    }

    fn external(&mut self, key: &BackendKey, name: &str, loopback: bool) {
        let ports = self.ports;
        let target = |port: &ServicePort| match port.target_port {
            Some(IntOrString::Int(target)) if target > 0 => target,
            _ => port.port,
        };
        let of_service = service_port(self.transport, &key.port, ports);
        let declared = of_service.and_then(|port| port.app_protocol.as_deref());
        let speaks = self.stated.unwrap_or_else(|| spoken(declared));
        let port = match (&key.port, of_service) {
            (_, Some(port)) => Some(target(port)),
            // Ports are optional here: without any, the number is what the other side listens on.
            (BackendPort::Number(number), None) if ports.is_empty() => Some(i32::from(*number)),
            (BackendPort::Target(text), None) => text.parse().ok(),
            (BackendPort::All, None) => Some(ports.first().map_or(80, target)),
            _ => None,
        };
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
        else {
            self.gap = Some(Gap::Port);
            return;
        };
        match external_host(name, loopback) {
            Ok(host) => self.external = Some(ExternalName { host, port, speaks, loopback }),
            Err(why) => self.problems.push(Problem::error(
                &ObjectRef::new("Service", key.service.clone()),
                "InvalidExternalName",
                "spec.externalName",
                format!("name {name:?} is {why}; requests get 503"),
                "name a host by DNS, or list addresses in an EndpointSlice",
            )),
        }
    }

    /// The address of the Service, as if it were the only endpoint.
    fn whole(
        &mut self,
        key: &BackendKey,
        address: SocketAddr,
        loopback: bool,
        own: &BTreeSet<SocketAddr>,
    ) {
        let name = self.ports.iter().find(|port| port.port == i32::from(address.port()));
        let declared = name.and_then(|port| port.app_protocol.as_deref());
        let speaks = self.stated.unwrap_or_else(|| spoken(declared));
        let refused = refusal(address.ip()).filter(|_| !(loopback && address.ip().is_loopback()));
        let own_address = || own.contains(&address).then_some("an address of a gateway itself");
        match refused.or_else(own_address) {
            None => self.addresses.push((address, speaks)),
            Some(why) => self.problems.push(Problem::warning(
                &ObjectRef::new("Service", key.service.clone()),
                "AddressRefused",
                "spec.clusterIP",
                format!("address {} is {why}; requests get 503", address.ip()),
                "give the Service another address, or remove service-upstream from what refers to it",
            )),
        }
    }

    /// The ready endpoints that are near, by address.
    fn near(&self) -> Vec<SocketAddr> {
        let all: Vec<_> = self.nearness.iter().map(|(_, nearness)| *nearness).collect();
        let Some(is_near) = near::among(&all, self.distribution) else { return Vec::new() };
        let near = self.nearness.iter().filter(|(_, nearness)| is_near(nearness));
        let mut near: Vec<_> = near.map(|(address, _)| *address).collect();
        near.sort_unstable();
        near.dedup();
        near
    }

    /// The backend, with the counters of the previous one; the previous one itself if nothing differs.
    fn backend(&mut self, key: &BackendKey, previous: Option<&Arc<Backend>>) -> Arc<Backend> {
        for addresses in [&mut self.addresses, &mut self.terminating] {
            addresses.sort_unstable();
            addresses.dedup_by_key(|(address, _)| *address);
        }
        let ready = &self.addresses;
        self.terminating.retain(|(address, _)| {
            ready.binary_search_by_key(address, |(ready, _)| *ready).is_err()
        });
        let old = previous.map(|backend| &*backend.endpoints);
        let near = self.near();
        let same = |old: &[Endpoint], new: &[(SocketAddr, Speaks)]| {
            old.iter().map(|it| (it.address, it.speaks)).eq(new.iter().copied())
        };
        if let (Some(backend), Some(old)) = (previous, old)
            && old.external == self.external
            && same(&old.endpoints, &self.addresses)
            && same(&old.draining, &self.terminating)
            && old.by_client == self.by_client
            && old.near.iter().map(|endpoint| endpoint.address).eq(near.iter().copied())
        {
            return Arc::clone(backend);
        }
        let stats = |address: SocketAddr| {
            let lists = old.into_iter().flat_map(|old| [&old.endpoints, &old.draining]);
            let mut found = lists.filter_map(|list| {
                let at = list.binary_search_by_key(&address, |endpoint| endpoint.address);
                Some(Arc::clone(&list[at.ok()?].stats))
            });
            found.next().unwrap_or_default()
        };
        let endpoint = |&(address, speaks): &(SocketAddr, Speaks)| Endpoint {
            address,
            speaks,
            stats: stats(address),
        };
        let endpoints: Box<[Endpoint]> = self.addresses.iter().map(endpoint).collect();
        let is_near = |endpoint: &&Endpoint| near.binary_search(&endpoint.address).is_ok();
        let set = EndpointSet {
            near: endpoints.iter().filter(is_near).cloned().collect(),
            by_client: self.by_client,
            draining: self.terminating.iter().map(endpoint).collect(),
            endpoints,
            external: self.external.take(),
        };
        Arc::new(Backend { key: key.clone(), endpoints: Arc::new(set) })
    }
}

/// The port of a Service that an object names.
fn service_port<'s>(
    transport: Transport,
    port: &BackendPort,
    ports: &'s [ServicePort],
) -> Option<&'s ServicePort> {
    let mut ports = ports.iter().filter(|port| is_of(transport, port.protocol.as_deref()));
    match port {
        BackendPort::Number(number) => ports.find(|port| port.port == i32::from(*number)),
        BackendPort::Name(name) => ports.find(|port| port.name.as_deref() == Some(&**name)),
        BackendPort::Target(text) => ports.find(|port| port.name.as_deref() == Some(&**text)),
        BackendPort::First => ports.next(),
        BackendPort::All | BackendPort::Outside { .. } => None,
    }
}

/// The port of the pods to which one of a Service leads, if that is a number.
fn target_number(port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(_)) => None,
    }
}

/// A port of an EndpointSlice.
struct SlicePort<'o> {
    /// Empty if it has none.
    name: &'o str,
    number: u16,
    app_protocol: Option<&'o str>,
}

fn slice_ports(slice: &EndpointSlice, transport: Transport) -> impl Iterator<Item = SlicePort<'_>> {
    let ports = slice.ports.iter().flatten();
    ports.filter(move |port| is_of(transport, port.protocol.as_deref())).filter_map(|port| {
        let number = u16::try_from(port.port?).ok().filter(|number| *number > 0)?;
        let name = port.name.as_deref().unwrap_or_default();
        Some(SlicePort { name, number, app_protocol: port.app_protocol.as_deref() })
    })
}

fn is_of(transport: Transport, protocol: Option<&str>) -> bool {
    Transport::of_port(protocol) == Some(transport)
}

#[cfg(test)]
mod tests;
