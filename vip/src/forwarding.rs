//! Forwarding by the kernel: what connections to an address and port become, without a process on their way.
//!
//! [`Rules`] say where connections go. `change` turns two of them, those that are wanted and those that stand, into
//! transactions of nf_tables, in an order in which no packet is lost (`steps`); a
//! [`ForwardingTable`](crate::ForwardingTable) carries them out, and conntrack does the rest. All of it is in one table that is this program's alone:
//!
//! - chain `to-endpoint` (and `to-endpoint-local`, for clients on this host) looks an address, protocol and port up in one map,
//!   however many there are, and goes on in the chain of the group that it leads to. Only addresses that this host has
//!   are looked at: rules of an address that is elsewhere, or that a process which was killed has left, do nothing.
//! - the chain of a group drops clients that may not come in, counts and chooses an endpoint. It has maps of its own for
//!   that, whose elements change with the endpoints while the chain stays.
//! - chain `way-back` gives connections an address of this host as their source, where an answer would else not come
//!   back by this host.
//! - chain `refuse` answers for addresses and ports that have no endpoint, so that no other program of this host does
//!   in their place.
//! - the chains `count-*` count what comes in and goes out, by group.
//! - the counter `made-of-*` counts nothing: its name says what the table is made of.
//!
//! A connection that stands goes on, whatever becomes of its group: the kernel asks for its first packet only.
//! Pure.

mod batch;
mod group;
mod layout;
mod share;
mod steps;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

pub use batch::Totals;
pub(crate) use batch::{Made, change, counters_of, datagrams, removal, sets_of_clients};

/// The name of the table, of the family `inet`.
pub const TABLE: &str = "gatehouse-l4";

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Its number in an IP header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

/// Where connections to one address and port go, or UDP's equivalent of connections.
pub type Ports = BTreeMap<(IpAddr, Transport, u16), Arc<str>>;

/// All that the kernel is to forward.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By name: letters, digits, `.`, `-` and `/`, at most 200 bytes.
    pub groups: BTreeMap<Arc<str>, Group>,
    /// The group of each address, protocol and port. One whose group is not there, or is of another family or
    /// protocol, has no endpoint.
    pub ports: Ports,
}

impl Rules {
    /// Whether there is nothing to forward.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }
}

/// Endpoints, and who may reach them how. Groups are of one family and one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What is forwarded.
    pub transport: Transport,
    /// IPv6, or else IPv4.
    pub v6: bool,
    /// Those of the other family are left out. None: connections are refused.
    pub endpoints: Vec<Endpoint>,
    /// Those that serve on and get no new connection: UDP's flows stay with them.
    pub draining: Vec<Endpoint>,
    /// Connections of a client go to the endpoint of a hash of its address, which is the same on every node and after
    /// every restart. For so long after its last connection it keeps the one that it has while that is there, though
    /// its hash may lead to another one since.
    pub by_client: Option<Duration>,
    /// UDP: the hash of a flow leads to its endpoint, the same on every node, which takes a map of a thousand numbers. Otherwise
    /// flows are spread at random, as TCP's connections are.
    pub by_flow: bool,
    /// Clients keep their addresses: answers are known to come back by this host, as the endpoints are on it.
    pub keeps_client: bool,
    /// The endpoint gets the port that the client asked for, whatever its own is: many ports can be one group.
    pub keeps_port: bool,
    /// The clients that may come in, first and last address of each range; `None`: everybody. Ranges are in order, do
    /// not overlap and do not touch; those of the other family do not matter.
    pub sources: Option<Vec<(IpAddr, IpAddr)>>,
}

/// An endpoint of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// Nothing of it matters where the client's port is kept.
    pub port: u16,
    /// Its part is this of the sum of all. Zero: none.
    pub weight: u16,
}

impl Group {
    /// The endpoints that can be chosen, in order, each once.
    fn usable(&self) -> Vec<Endpoint> {
        self.reachable(self.endpoints.iter())
    }

    /// Those, and those that serve on.
    fn serving(&self) -> Vec<Endpoint> {
        self.reachable(self.endpoints.iter().chain(&self.draining))
    }

    /// Whether the hash of a flow leads to its endpoint.
    fn is_by_flow(&self) -> bool {
        self.by_flow && self.by_client.is_none() && self.transport == Transport::Udp
    }

    fn reachable<'e>(&self, endpoints: impl Iterator<Item = &'e Endpoint>) -> Vec<Endpoint> {
        let usable = |endpoint: &&Endpoint| {
            endpoint.ip.is_ipv6() == self.v6
                && endpoint.weight > 0
                && !endpoint.ip.is_loopback()
                && !endpoint.ip.is_unspecified()
        };
        let mut endpoints: Vec<_> = endpoints.filter(usable).copied().collect();
        if self.keeps_port {
            endpoints.iter_mut().for_each(|endpoint| endpoint.port = 0);
        }
        endpoints.sort_unstable();
        endpoints.dedup_by_key(|endpoint| (endpoint.ip, endpoint.port));
        endpoints
    }
}

/// What the kernel has counted for a group since the table stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were given an endpoint.
    pub connections: u64,
    /// Bytes from clients, IP headers included.
    pub bytes_in: u64,
    /// Bytes to clients, IP headers included.
    pub bytes_out: u64,
}

/// What a table that replaces another one begins with.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What has been counted.
    pub(crate) totals: Totals,
    /// Which clients endpoints have.
    pub(crate) clients: Clients,
}

/// Clients' addresses and for how many milliseconds they keep their endpoint, by the name of the endpoint's set.
pub(crate) type Clients = BTreeMap<String, Vec<(Vec<u8>, u64)>>;

#[cfg(test)]
mod tests;
