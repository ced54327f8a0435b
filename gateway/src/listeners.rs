//! The sockets that clients connect to: opened and closed by the controller, accepted from by every worker.
//!
//! Each listener is one `SO_REUSEPORT` socket per worker, so that the kernel spreads connections and no
//! worker waits for another. Sockets are keyed by what they serve and outlive snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
};

use socket2::{Domain, Protocol as Transport, Socket, Type};

use crate::{
    compile::{ListenerPlan, Protocol},
    tls::config::TlsConfigs,
    worker::{
        listener::{ListenerFacts, ListenerId, Opened},
        thread::{Command, WorkerHandle},
    },
};

/// Connections that the kernel keeps for a worker that is busy.
const BACKLOG: i32 = 4096;

/// The open listeners; belongs to the controller.
pub(crate) struct Listeners {
    tls: TlsConfigs,
    open: BTreeMap<SocketAddr, (ListenerPlan, ListenerId)>,
    /// Why planned listeners are not open.
    failed: BTreeMap<SocketAddr, String>,
    next_id: u64,
}

impl Listeners {
    pub(crate) fn new(tls: TlsConfigs) -> Self {
        Self { tls, open: BTreeMap::new(), failed: BTreeMap::new(), next_id: 1 }
    }

    /// Opens what is planned and not open yet. What cannot be opened is noted in [`Self::failed`] and
    /// tried again by the next call.
    pub(crate) fn open(&mut self, plans: &[ListenerPlan], workers: &[WorkerHandle]) {
        self.failed.clear();
        for plan in plans {
            let known = self.open.get(&plan.address);
            if known.is_some_and(|(open, _)| open == plan) {
                continue;
            }
            match self.open_one(plan, workers) {
                Ok(id) => {
                    tracing::info!(address = %plan.address, protocol = ?plan.protocol, "listening");
                    // Same address, other service: the new socket is there before the old one goes.
                    if let Some((_, old)) = self.open.insert(plan.address, (plan.clone(), id)) {
                        unlisten(old, workers);
                    }
                }
                Err(error) => {
                    tracing::error!(address = %plan.address, error = format!("{error:#}"), "cannot listen");
                    self.failed.insert(plan.address, format!("{error:#}"));
                }
            }
        }
    }

    /// Closes what is no longer planned, except addresses that `keep` still announces.
    pub(crate) fn close(
        &mut self,
        plans: &[ListenerPlan],
        workers: &[WorkerHandle],
        keep: impl Fn(&SocketAddr) -> bool,
    ) {
        let planned: BTreeSet<_> = plans.iter().map(|plan| plan.address).collect();
        self.open.retain(|address, (_, id)| {
            let stays = planned.contains(address) || keep(address);
            if !stays {
                tracing::info!(%address, "no longer listening");
                unlisten(*id, workers);
            }
            stays
        });
    }

    /// Whether this listener is open just as planned.
    pub(crate) fn is_open(&self, plan: &ListenerPlan) -> bool {
        self.open.get(&plan.address).is_some_and(|(open, _)| open == plan)
    }

    /// Planned listeners that could not be opened, and why.
    pub(crate) fn failed(&self) -> &BTreeMap<SocketAddr, String> {
        &self.failed
    }

    fn open_one(
        &mut self,
        plan: &ListenerPlan,
        workers: &[WorkerHandle],
    ) -> anyhow::Result<ListenerId> {
        let tls = match plan.protocol {
            Protocol::Http => None,
            Protocol::Https => Some(self.tls.policies(plan.slot)?),
        };
        let sockets =
            workers.iter().map(|_| bind(plan.address, plan.vip)).collect::<io::Result<Vec<_>>>()?;
        let id = ListenerId(self.next_id);
        self.next_id += 1;
        let facts = Arc::new(ListenerFacts { address: plan.address, slot: plan.slot, tls });
        for (worker, socket) in workers.iter().zip(sockets) {
            let facts = Arc::clone(&facts);
            worker.send(Command::Listen(Box::new(Opened { id, facts, socket })));
        }
        Ok(id)
    }
}

fn unlisten(id: ListenerId, workers: &[WorkerHandle]) {
    for worker in workers {
        worker.send(Command::Unlisten(id));
    }
}

/// Opens a listening socket. A virtual address is bound before it is on any interface, so that nothing is
/// announced that does not answer.
fn bind(address: SocketAddr, virtual_address: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Transport::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if virtual_address {
        if address.is_ipv6() {
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
    }
    // Accepted sockets inherit it. Heads and last frames are written whole; waiting for more would only
    // add latency.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
