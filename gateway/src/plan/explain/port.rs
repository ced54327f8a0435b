//! What a port of a Service does with a connection, of which no rule is asked: to whom it is passed on, by its server name
//! where that says so.

use std::net::{IpAddr, SocketAddr};

use gatehouse_routes::{
    explain::{Explanation, PassedOn},
    model::{HostPattern, Scheme, Transport},
    objects::ObjectRef,
};

use super::{Request, rows};
use crate::compile::{Compiled, Forwarding, L4Address, L4Port};

/// A TCP port of an address, and what it does.
pub(super) type Port<'c> = (SocketAddr, &'c L4Port);

/// The port of an address, if it is one of a Service.
pub(super) fn at(compiled: &Compiled, address: SocketAddr) -> Option<Port<'_>> {
    compiled.l4.get(&L4Address::tcp(address)).map(|port| (address, &**port))
}

/// The port that is meant by a URL with a name, of which nobody knows where it leads: one where that name leads somewhere
/// of its own, or else any with this number if nothing else listens there. `served`: a gateway knows the host.
/// `is_web`: a gateway has this number.
pub(super) fn by_name<'c>(
    compiled: &'c Compiled,
    request: &Request,
    (served, is_web): (bool, bool),
) -> Option<Port<'c>> {
    let tcp = |at: &&L4Address| at.transport == Transport::Tcp && at.address.port() == request.port;
    let ports = || compiled.l4.iter().filter(|(at, _)| tcp(at));
    let name = request.server_name();
    let leads = |port: &L4Port| {
        name.zip(port.names.as_ref()).is_some_and(|(name, names)| names.find(name).is_some())
    };
    let known = ports().find(|(_, port)| leads(port)).filter(|_| !served || !is_web);
    let is_elsewhere = is_web || (served && request.is_default_port());
    let only = || ports().next().filter(|_| !is_elsewhere);
    known.or_else(only).map(|(at, port)| (at.address, &**port))
}

/// What becomes of a connection, why, and where it comes in.
pub(super) fn explain(
    compiled: &Compiled,
    request: &Request,
    client: Option<IpAddr>,
    (address, port): Port<'_>,
) -> (Explanation, String, String) {
    let is_tls = request.scheme == Scheme::Https;
    let name = request.server_name();
    let named = name.zip(port.names.as_ref()).and_then(|(name, names)| names.find(name));
    let (host, forward, here) = match named {
        Some(named) => (named.host.clone(), &named.forward, named.here.as_deref()),
        None => (HostPattern::Any, &port.forward, port.here.as_deref()),
    };
    let because = match (&port.names, named, name) {
        (None, ..) => "what comes to the port of a Service is, whatever is asked".to_owned(),
        (Some(_), Some(_), _) => "its server name leads there".to_owned(),
        (Some(_), None, Some(_)) => "its server name leads nowhere else".to_owned(),
        (Some(_), None, None) => "it names no server".to_owned(),
    };
    let endpoints = rows::forwarded_to(compiled, forward, here);
    let refused = |client| port.sources.as_ref().is_some_and(|sources| !sources.contains(client));
    let broken_off = if client.is_some_and(refused) {
        Some("the client is in none of the networks of spec.loadBalancerSourceRanges")
    } else if !is_tls && port.names.is_some() {
        Some("what begins otherwise than TLS has no server name to go by")
    } else if !is_tls && port.certs.is_some() {
        Some("TLS is to end here, and it begins otherwise")
    } else if endpoints.is_empty() {
        Some("it has no endpoint")
    } else {
        None
    };
    let backends = forward.spec.backends.iter().map(|one| one.key.to_string());
    let to = match &*endpoints {
        [] => backends.collect(),
        some => backends.map(|key| format!("{key} ({})", some.join(", "))).collect(),
    };
    let object = ObjectRef::new("Service", port.service.clone());
    let by = match port.forwarding {
        Forwarding::Gateway => "passed on by this process",
        Forwarding::Kernel => "passed on by the kernel",
    };
    let ends = if port.certs.is_some() { ", where its TLS ends" } else { "" };
    let passed_on = Some(PassedOn { object, host, to, broken_off });
    let explanation = Explanation { passed_on, ..Explanation::default() };
    (explanation, because, format!("{address}, {by}{ends}"))
}
