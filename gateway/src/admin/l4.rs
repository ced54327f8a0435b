//! What goes through the ports of Services that this process passes on, by Service and transport: for `/status` and `/metrics`.
//!
//! There are as many rows as Services that are passed on; no client can add one.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_routes::{model::Transport, objects::ObjectKey};
use serde::{Deserialize, Serialize};

use crate::{
    compile::{Forwarding, L4Port, L4Stats},
    snapshot::Snapshot,
};

/// The TCP or UDP ports of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct L4Row {
    /// The Service, as namespace/name.
    pub service: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// By what it is forwarded: `gateway`, this process.
    pub forwarding: String,
    /// Connections and UDP sessions that are open.
    pub open: u64,
    /// Those that were passed on to an endpoint since the start.
    pub forwarded: u64,
    /// Those that no endpoint took, and UDP sessions whose endpoint refused.
    pub failed: u64,
    /// Connections and datagrams of clients in none of its source ranges.
    pub denied: u64,
    /// UDP sessions that had to make room.
    pub evicted: u64,
    /// Datagrams for which there was no room.
    pub full: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

/// The rows of the live configuration, by Service and transport.
pub(crate) fn rows(snapshot: &Snapshot) -> Vec<L4Row> {
    let ours = snapshot.l4.iter().filter(|(_, port)| port.forwarding == Forwarding::Gateway);
    let ports = ours.map(|(at, port)| ((&port.service, at.transport), port));
    // All ports of a Service and transport have one count.
    let ports: BTreeMap<_, _> = ports.collect();
    let row = |((service, transport), port): ((&ObjectKey, Transport), &Arc<L4Port>)| {
        let stats = &port.stats.0;
        L4Row {
            service: service.to_string(),
            protocol: transport.name().to_lowercase(),
            forwarding: port.forwarding.name().to_owned(),
            open: stats.open(),
            forwarded: stats.get(L4Stats::OPENED),
            failed: stats.get(L4Stats::FAILED),
            denied: stats.get(L4Stats::DENIED),
            evicted: stats.get(L4Stats::EVICTED),
            full: stats.get(L4Stats::FULL),
            bytes_in: stats.get(L4Stats::BYTES_IN),
            bytes_out: stats.get(L4Stats::BYTES_OUT),
        }
    };
    ports.into_iter().map(row).collect()
}
