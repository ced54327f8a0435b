//! Services whose connections and datagrams this process passes on: in a cluster those that ask for it, without one
//! every Service of type `LoadBalancer` that is no gateway.
//!
//! Before the routes are compiled [`services()`] says which backends that takes; afterwards, when it is known who has
//! which address, [`plan()`] says what is passed on to whom. TCP and UDP differ in nothing here but where it is said.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gatehouse_routes::{
    action::Forward,
    model::{Endpoint, EndpointSet, Transport},
    networks::Networks,
    objects::ObjectKey,
    server_names::ServerNames,
};
use serde::Serialize;

mod affinity;
mod alpn;
mod certs;
mod external;
mod kernel;
mod names;
mod plan;
mod services;

pub use affinity::{Affinities, ClientAffinity, Kept, ServicePort};
pub use certs::Certs;
pub(super) use certs::certs;
pub(super) use external::with_external;
pub(super) use kernel::kernel_plan;
pub use kernel::{KernelPlan, Watched};
pub use names::Named;
pub(super) use plan::{listeners, plan};
pub(super) use services::{asked, port_statuses, secrets, services};

/// A port of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct L4Address {
    /// TCP or UDP: the same number may be a port of each.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
}

impl L4Address {
    /// A TCP port.
    pub fn tcp(address: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, address }
    }

    /// A UDP port.
    pub fn udp(address: SocketAddr) -> Self {
        Self { transport: Transport::Udp, address }
    }
}

/// By what a Service's connections and datagrams are passed on (`gatehouse.io/forwarding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// By this process.
    Gateway,
    /// By the kernel of the node that holds the address.
    Kernel,
}

impl Forwarding {
    /// The value of the annotation that asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Kernel => "kernel",
        }
    }

    fn of_annotation(value: &str) -> Option<Self> {
        [Self::Gateway, Self::Kernel]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(value))
    }
}

/// Where what comes to one port of an address is passed on to.
#[derive(Debug, PartialEq)]
pub struct L4Port {
    /// The Service.
    pub service: ObjectKey,
    /// By what.
    pub forwarding: Forwarding,
    /// Its backend.
    pub forward: Forward,
    /// A client keeps its endpoint (`sessionAffinity: ClientIP`).
    pub by_client: Option<ClientAffinity>,
    /// Only endpoints of these addresses, those on this node (`externalTrafficPolicy: Local`).
    pub here: Option<Box<[IpAddr]>>,
    /// Where TLS of some server names goes instead.
    pub names: Option<Arc<ServerNames<Named>>>,
    /// The clients that may come in; `None`: everybody.
    pub sources: Option<Arc<Networks>>,
    /// TLS ends here; the endpoint gets what is within.
    pub certs: Option<Certs>,
    /// The protocols that this TLS agrees on, the preferred ones first (ALPN, RFC 7301); none: whatever the client offers,
    /// nothing is agreed on.
    pub alpn: Box<[Vec<u8>]>,
    /// What is counted, of all ports of this Service and transport together.
    pub stats: StatsHandle,
}

impl L4Port {
    /// All that it leads to.
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> {
        let named = self.names.iter().flat_map(|names| names.values());
        [&self.forward].into_iter().chain(named.map(|named| &named.forward))
    }
}

/// The endpoints among which those on this node, `here`, get new clients; `None`: all of them do. Where none here is ready,
/// those here that serve on while they terminate do: as with kube-proxy, what is ready elsewhere does not matter.
pub fn of_new_clients<'e>(set: &'e EndpointSet, here: Option<&[IpAddr]>) -> &'e [Endpoint] {
    let Some(here) = here else { return &set.endpoints };
    let has = |all: &[Endpoint]| {
        all.iter().any(|one| here.binary_search(&one.address.ip().to_canonical()).is_ok())
    };
    if !has(&set.endpoints) && has(&set.draining) { &set.draining } else { &set.endpoints }
}

/// What is counted of a Service's TCP or UDP ports, over all workers; carried from compile to compile.
#[derive(Debug, Default)]
pub struct L4Stats {
    /// By the numbers below.
    pub totals: [AtomicU64; 8],
}

impl L4Stats {
    /// Connections and UDP sessions that were passed on to an endpoint.
    pub const OPENED: usize = 0;
    /// Those that have ended.
    pub const ENDED: usize = 1;
    /// Refused: the client is in none of the Service's source ranges.
    pub const DENIED: usize = 2;
    /// No endpoint took them, or the endpoint of a UDP session refused.
    pub const FAILED: usize = 3;
    /// UDP sessions that had to make room.
    pub const EVICTED: usize = 4;
    /// Datagrams for which there was no room.
    pub const FULL: usize = 5;
    /// Bytes from clients.
    pub const BYTES_IN: usize = 6;
    /// Bytes to clients.
    pub const BYTES_OUT: usize = 7;

    /// One of the totals.
    pub fn get(&self, number: usize) -> u64 {
        self.totals[number].load(Relaxed)
    }

    /// Connections and sessions that are open.
    pub fn open(&self) -> u64 {
        self.get(Self::OPENED).saturating_sub(self.get(Self::ENDED))
    }
}

/// A hold on what is counted. It says nothing of what is configured, so all of them are the same.
#[derive(Clone, Debug, Default)]
pub struct StatsHandle(pub Arc<L4Stats>);

impl PartialEq for StatsHandle {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// By transport and address.
pub type L4Plan = BTreeMap<L4Address, Arc<L4Port>>;
