//! One client's flow and the endpoint that it talks with.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use gatehouse_proxy_protocol::{self as proxy_protocol, Ends};
use gatehouse_routes::{
    model::{Backend, Endpoint, EndpointSet},
    stats::EndpointStats,
};
use tokio::{io::Interest, net::UdpSocket, task::AbortHandle};

use super::{
    BATCHES, IDLE, Listener, Target, Udp,
    refuse::Refuser,
    socket::{self, Datagrams, Io},
    table::{Flow, Room, SessionId, Stage},
};
use crate::{
    admin::metrics::Counter,
    compile::{ClientAffinity, L4Port, L4Stats, of_new_clients},
    l4::pick::{By, Key, pick},
    upstream::{connect, health},
    worker::{
        clock::Tick,
        counters::{Counts, FAILURE, REQUEST},
    },
};

/// Endpoints that a new session tries, should the host know no way to one.
const TRIES: usize = 3;
/// Silence after which an endpoint that was tried again is taken for well: it did not refuse. Milliseconds.
const TRIAL: Tick = 1_000;

/// One session.
pub(super) struct Session {
    endpoint: SocketAddr,
    /// Of the endpoint.
    stats: Arc<EndpointStats>,
    /// Talks with the endpoint alone.
    upstream: Rc<Upstream>,
    /// What every datagram begins with, if the endpoint is told of clients.
    header: Box<[u8]>,
    /// That of the target for which all this was found right.
    epoch: u64,
    /// Silence that ends it before it is established, and then.
    idle: (Tick, Tick),
    /// It is there to find out whether its endpoint is well again.
    trial: bool,
    pub(super) counts: Rc<Counts<L4Stats>>,
    /// The task that hears the endpoint.
    task: Option<AbortHandle>,
}

/// A socket that talks with an endpoint alone, and is counted for as long as it is open.
struct Upstream {
    socket: UdpSocket,
    sockets: Rc<Cell<usize>>,
}

impl Upstream {
    fn new(socket: UdpSocket, sockets: &Rc<Cell<usize>>) -> Self {
        sockets.update(|count| count + 1);
        Self { socket, sockets: Rc::clone(sockets) }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.sockets.update(|count| count - 1);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Session {
    pub(super) fn idle(&self, stage: Stage) -> Tick {
        if stage == Stage::Established { self.idle.1 } else { self.idle.0 }
    }

    fn send(&self, io: &Io, datagrams: &Datagrams<'_>) -> io::Result<()> {
        let to = (self.endpoint, true);
        if self.header.is_empty() {
            return io.send(&self.upstream.socket, to, datagrams);
        }
        datagrams.iter().try_for_each(|datagram| {
            let told = [&*self.header, datagram].concat();
            io.send(&self.upstream.socket, to, &Datagrams::one(self.endpoint, &told))
        })
    }
}

/// An endpoint for a flow: that which it is led to if it is well, or if it is time to try it again, and then the flow is the
/// trial. Where none is well, that one all the same.
fn choose<'s>(
    udp: &Udp,
    port: &L4Port,
    endpoints: &'s [Endpoint],
    by: By,
    tried: &[SocketAddr],
) -> Option<(&'s Endpoint, bool)> {
    let here =
        |at: SocketAddr| port.here.as_ref().is_none_or(|here| here.binary_search(&at.ip()).is_ok());
    let may = |at: SocketAddr| here(at) && !tried.contains(&at) && !udp.is_own(at);
    let first = pick(endpoints, by, may, |_| true)?;
    if health::why_ejected(&first.stats).is_none() {
        return Some((first, false));
    }
    let (now, ejection) = (udp.worker.now(), udp.worker.options.limits.ejection);
    if health::takes_trial(&first.stats, now, TRIAL + ejection) {
        return Some((first, true));
    }
    let is_well = |endpoint: &Endpoint| health::why_ejected(&endpoint.stats).is_none();
    Some((pick(endpoints, by, may, is_well)?, false))
}

/// Silence that ends sessions of a port, before they are established and then.
fn idle(udp: &Udp, port: &L4Port) -> (Tick, Tick) {
    let own = port.forward.spec.policy.timeouts.and_then(|timeouts| timeouts.tunnel);
    match own.map(|own| Tick::try_from(own.as_millis()).unwrap_or(Tick::MAX)) {
        Some(own) => (own.min(IDLE.0), own),
        None => {
            let scaled = |time: Tick| (time as f64 * udp.worker.options.time_scale) as Tick;
            (scaled(IDLE.0), scaled(IDLE.1))
        }
    }
}

/// What every datagram of a client begins with.
fn header(port: &L4Port, client: SocketAddr, server: SocketAddr) -> Box<[u8]> {
    match port.forward.spec.policy.proxy_protocol {
        Some(_) => proxy_protocol::datagram_header(Ends { client, server }).into(),
        None => Box::default(),
    }
}

/// What a session is opened or looked at with.
#[derive(Clone, Copy)]
struct At<'l> {
    listener: &'l Rc<Listener>,
    port: &'l L4Port,
    backend: Option<&'l Backend>,
    epoch: u64,
    counts: &'l Rc<Counts<L4Stats>>,
    flow: Flow,
}

impl At<'_> {
    fn lets_in(&self) -> bool {
        let client = self.flow.client.ip();
        self.port.sources.as_ref().is_none_or(|sources| sources.contains(client))
    }
}

impl Udp {
    /// Passes on what a client has sent.
    pub(super) fn from_client(
        self: &Rc<Self>,
        io: &Io,
        listener: &Rc<Listener>,
        datagrams: &Datagrams<'_>,
    ) {
        let target = listener.target.borrow();
        let Target { port: Some(port), backend, counts: Some(counts), epoch, .. } = &*target else {
            return;
        };
        let flow = Flow { client: datagrams.from, listener: listener.id };
        let (backend, epoch) = (backend.as_deref(), *epoch);
        let at = At { listener, port, backend, epoch, counts, flow };
        let known = self.table.borrow().find(&flow);
        let Some(id) = known.filter(|id| self.keeps(*id, at)).or_else(|| self.begin(at)) else {
            return;
        };
        let mut table = self.table.borrow_mut();
        let Some(session) = table.get_mut(id) else { return };
        match session.send(io, datagrams) {
            Ok(()) => {
                table.client_spoke(id, self.worker.now());
                drop(table);
                self.count(counts, L4Stats::BYTES_IN, datagrams.bytes.len() as u64);
            }
            Err(error) => {
                drop(table);
                self.failed(io, listener, id, &error);
            }
        }
    }

    /// Whether a session goes on: with its endpoint while that is there and well, and while its client may come in.
    /// Ends it if not.
    fn keeps(&self, id: SessionId, at: At<'_>) -> bool {
        let mut table = self.table.borrow_mut();
        let Some(session) = table.get_mut(id) else { return false };
        let set = at.backend.map(|backend| &*backend.endpoints);
        let mut keeps = true;
        if session.epoch != at.epoch {
            let mut all = set.into_iter().flat_map(EndpointSet::all);
            let ip = session.endpoint.ip();
            keeps = at.lets_in()
                && all.any(|endpoint| endpoint.address == session.endpoint)
                && at.port.here.as_ref().is_none_or(|here| here.binary_search(&ip).is_ok());
            session.header = header(at.port, at.flow.client, at.listener.address);
            session.idle = idle(self, at.port);
            session.epoch = at.epoch;
        }
        if keeps && !session.trial && health::why_ejected(&session.stats).is_some() {
            // With no better one it stays.
            let others = set.map_or(&[][..], |set| &set.endpoints);
            keeps = !others.iter().any(|other| health::why_ejected(&other.stats).is_none());
        }
        if !keeps && table.remove(id).is_some() {
            self.count(at.counts, L4Stats::ENDED, 1);
        }
        keeps
    }

    /// Opens a session; `None`: its client may not come in, there is no room, or nobody takes it.
    fn begin(self: &Rc<Self>, at: At<'_>) -> Option<SessionId> {
        let At { listener, port, counts, flow, epoch, .. } = at;
        if !at.lets_in() {
            self.count(counts, L4Stats::DENIED, 1);
            return None;
        }
        // A flood of flows gets as many as this thread can open and close beside its other work.
        let closing = self.sockets.get().saturating_sub(self.table.borrow().len());
        let room = match closing < self.closing {
            true => self.table.borrow_mut().make_room(flow.client.ip()),
            false => Room::None,
        };
        match room {
            Room::Free => (),
            Room::Made(session) => {
                self.count(&session.counts, L4Stats::ENDED, 1);
                self.count(&session.counts, L4Stats::EVICTED, 1);
            }
            Room::None => {
                self.count(counts, L4Stats::FULL, 1);
                self.worker.warn(|| {
                    tracing::warn!(address = %listener.address, "there is no room for more UDP sessions");
                });
                return None;
            }
        }
        self.opened.update(|count| count + 1);
        let Some((endpoint, trial, upstream)) = self.reach(at) else {
            self.count(counts, L4Stats::FAILED, 1);
            self.refuse(listener, flow.client);
            return None;
        };
        self.count(counts, L4Stats::OPENED, 1);
        let endpoints = self.worker.endpoint_counters();
        endpoints.add(&endpoints.of(&endpoint.stats), REQUEST);
        let upstream = Rc::new(Upstream::new(upstream, &self.sockets));
        let session = Session {
            endpoint: endpoint.address,
            stats: Arc::clone(&endpoint.stats),
            upstream: Rc::clone(&upstream),
            header: header(port, flow.client, listener.address),
            epoch,
            idle: idle(self, port),
            trial,
            counts: Rc::clone(counts),
            task: None,
        };
        let mut table = self.table.borrow_mut();
        let id = table.insert(flow, session, self.worker.now());
        let hears =
            Rc::clone(self).hear(Rc::clone(listener), upstream, id, flow, Rc::clone(counts));
        let task = tokio::task::spawn_local(hears).abort_handle();
        if let Some(session) = table.get_mut(id) {
            session.task = Some(task);
        }
        drop(table);
        if trial {
            tokio::task::spawn_local(Rc::clone(self).watch(id, endpoint.clone()));
        }
        Some(id)
    }

    /// An endpoint, and a socket that talks with it.
    fn reach<'s>(&self, at: At<'s>) -> Option<(&'s Endpoint, bool, UdpSocket)> {
        let endpoints = of_new_clients(&at.backend?.endpoints, at.port.here.as_deref());
        let client = at.flow.client.ip();
        let by = match &at.port.by_client {
            Some(affinity) => By::client(client, Some(affinity), self.worker.now()),
            None => By::Key(Key::flow(at.flow.client, at.listener.address)),
        };
        let mut tried = Vec::new();
        while tried.len() < TRIES {
            let (endpoint, trial) = choose(self, at.port, endpoints, by, &tried)?;
            match socket::connect(endpoint.address) {
                Ok(socket) => {
                    if let Some(ClientAffinity { time, pins }) = &at.port.by_client {
                        let (now, time) = (self.worker.now(), self.worker.scaled(*time));
                        pins.keep(client, endpoint.address, now, time);
                    }
                    return Some((endpoint, trial, socket));
                }
                Err(error) => self.blame(endpoint.address, &endpoint.stats, trial, &error),
            }
            tried.push(endpoint.address);
        }
        None
    }

    /// Notes that an endpoint cannot be reached.
    fn blame(
        &self,
        endpoint: SocketAddr,
        stats: &Arc<EndpointStats>,
        trial: bool,
        error: &io::Error,
    ) {
        let counters = self.worker.endpoint_counters();
        counters.add(&counters.of(stats), FAILURE);
        self.worker.metrics().add(Counter::UpstreamConnectFailed);
        if trial {
            health::trial_failed(stats, self.worker.now(), self.worker.options.limits.ejection);
        }
        connect::failed(&self.worker, endpoint, stats, error);
    }

    /// An endpoint that does not refuse for a while is well again.
    async fn watch(self: Rc<Self>, id: SessionId, endpoint: Endpoint) {
        tokio::time::sleep(Duration::from_millis(TRIAL).mul_f64(self.worker.options.time_scale))
            .await;
        if let Some(session) = self.table.borrow_mut().get_mut(id) {
            session.trial = false;
            connect::succeeded(endpoint.address, &endpoint.stats);
        }
    }

    /// Hears the endpoint of a session.
    async fn hear(
        self: Rc<Self>,
        listener: Rc<Listener>,
        upstream: Rc<Upstream>,
        id: SessionId,
        Flow { client, .. }: Flow,
        counts: Rc<Counts<L4Stats>>,
    ) {
        let Some(io) = self.io.get() else { return };
        let hear = || {
            let heard = io.receive(&upstream.socket, |datagrams| {
                self.table.borrow_mut().backend_spoke(id, self.worker.now());
                // A client that takes no more loses it, as by any link that is full.
                if io.send(&listener.socket, (client, false), &datagrams).is_ok() {
                    self.count(&counts, L4Stats::BYTES_OUT, datagrams.bytes.len() as u64);
                }
            });
            match heard {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => {
                    self.failed(io, &listener, id, &error);
                    true
                }
                Ok(()) => true,
            }
        };
        while upstream.socket.ready(Interest::READABLE | Interest::ERROR).await.is_ok() {
            if (0..BATCHES).all(|_| hear()) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What the network says of a session's endpoint, or what the kernel says of this host. A session whose endpoint
    /// cannot be reached ends; its client is told, and its next datagram goes to another one.
    fn failed(&self, io: &Io, listener: &Listener, id: SessionId, error: &io::Error) {
        let mut table = self.table.borrow_mut();
        let Some(session) = table.get_mut(id) else { return };
        io.forget_errors(&session.upstream.socket);
        if !socket::is_unreachable(error) {
            return;
        }
        let (client, gone) = (table.client(id), table.remove(id));
        drop(table);
        if let (Some(client), Some(session)) = (client, gone) {
            tracing::debug!(endpoint = %session.endpoint, %client, %error, "a UDP session ends");
            self.count(&session.counts, L4Stats::ENDED, 1);
            self.count(&session.counts, L4Stats::FAILED, 1);
            self.blame(session.endpoint, &session.stats, session.trial, error);
            self.refuse(listener, client);
        }
    }

    /// Tells a client that nobody is there.
    fn refuse(&self, listener: &Listener, client: SocketAddr) {
        let refuser = self.refuser.get_or_init(Refuser::default);
        refuser.refuse(client, listener.address, self.worker.now());
    }
}
