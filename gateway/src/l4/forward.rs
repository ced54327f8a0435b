//! A client's connection passed on to an endpoint that takes it.
//!
//! `worker::accept` calls [`connect`] for connections that end nowhere here: those to the port of a Service, and TLS
//! that is passed through.

use std::{
    borrow::Borrow,
    future::poll_fn,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use gatehouse_proxy_protocol::{self as proxy_protocol, Ends};
use gatehouse_routes::{
    action::Forward,
    filter::{AddressRules, limit_key, rate_limit::LimitScope},
    model::{BackendSlot, Endpoint},
    passthrough::{ClientLimits, PassThrough},
    policy::{balance::Algorithm, limits::Limits},
    stats::EndpointStats,
};
use http::HeaderMap;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{
    pick::{By, Key, pick_by_load},
    relay::{Relay, Relays, break_off, relay_tls},
};
use crate::{
    admin::metrics::Counter,
    compile::{ClientAffinity, L4Port, L4Stats, Named, of_new_clients},
    snapshot::Snapshot,
    upstream::{
        Upstreams,
        connect::connect_plain,
        gates::Entry,
        permit::{Most, Permit},
        pick::is_fit,
        sessions::PickContext,
    },
    worker::{
        clock::Tick,
        context::Worker,
        counters::{Counts, FAILURE, REQUEST},
        in_flight::{self, Counted, TooMany},
        timeouts::ConnTimers,
    },
};

/// How long nothing may move on a connection to a Service's port, where nobody says otherwise: as long as the kernel
/// remembers connections that kube-proxy forwards.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// When a peer that is silent is asked whether it is still there, and how often again.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// What passing on takes of a worker.
pub(crate) struct Means<'w> {
    pub(crate) worker: &'w Rc<Worker>,
    pub(crate) upstreams: &'w Upstreams,
    pub(crate) timers: &'w ConnTimers,
}

/// A client's connection, and what was read of it already.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) ends: Ends,
    pub(crate) early: Vec<u8>,
}

/// Where it goes.
pub(crate) struct To<'s> {
    forward: &'s Forward,
    by_client: bool,
    /// Who has which endpoint, where that is remembered.
    affinity: Option<&'s ClientAffinity>,
    /// Endpoints that may have it, if not all.
    here: Option<&'s [IpAddr]>,
    access: Option<&'s AddressRules>,
    /// How many connections a client may make and have, if that is bounded.
    limits: Option<&'s ClientLimits>,
    /// What a Service's connections are counted in.
    stats: Option<&'s Arc<L4Stats>>,
    /// How long nothing may move, where the object does not say; `None`: as in every tunnel.
    idle: Option<Duration>,
}

impl<'s> To<'s> {
    /// The backend of a Service's port. Who may come in has been asked before.
    pub(crate) fn port(port: &'s L4Port) -> Self {
        let L4Port { forward, by_client, here, stats, .. } = port;
        Self {
            forward,
            by_client: by_client.is_some(),
            affinity: by_client.as_ref(),
            here: here.as_deref(),
            access: None,
            limits: None,
            stats: Some(&stats.0),
            idle: Some(DAY),
        }
    }

    /// The same, or that of a server name which leads elsewhere.
    pub(crate) fn port_of(port: &'s L4Port, name: Option<&str>) -> Self {
        let names = port.names.as_ref();
        match name.and_then(|name| names?.find(name)) {
            // Who has which endpoint is remembered of the port's own ones.
            Some(Named { forward, here, .. }) => {
                Self { forward, here: here.as_deref(), affinity: None, ..Self::port(port) }
            }
            None => Self::port(port),
        }
    }

    /// The backend of a server name, if it has one.
    pub(crate) fn name(pass: &'s PassThrough) -> Option<Self> {
        let PassThrough { forward, by_client, access, limits, .. } = pass;
        let (by_client, access, limits) = (*by_client, access.as_ref(), Some(limits));
        let forward = forward.as_ref()?;
        let (affinity, here) = (None, None);
        Some(Self { forward, by_client, affinity, here, access, limits, stats: None, idle: None })
    }
}

/// A client's connection and that to the endpoint which takes it. What it took to get there is gone: this is all that an
/// open connection needs.
pub(crate) struct Tunnel {
    client: TcpStream,
    backend: TcpStream,
    relay: Relay,
    /// The backend is asked whether it is still there.
    keeps_alive: bool,
    counts: Option<Rc<Counts<L4Stats>>>,
    _held: Held,
}

/// What a connection to an endpoint takes up while it is open.
struct Held {
    _permit: Permit,
    /// Of an endpoint whose connections are bounded.
    _entry: Option<Entry>,
    /// Of a client whose connections are.
    _counted: Option<Box<Counted>>,
}

/// Finds where `find` says an endpoint that takes a connection. One that nobody takes is broken off.
pub(crate) async fn connect(
    means: Means<'_>,
    client: Client,
    find: impl for<'s> FnOnce(&'s Snapshot) -> Option<To<'s>>,
) -> Option<Tunnel> {
    let Client { stream: client, ends, early } = client;
    let Some(joined) = join(&means, &client, ends, find).await else {
        break_off(&client);
        return None;
    };
    let Joined { stream: backend, _held, mut preface, counts } = joined;
    preface.extend(early);
    let keeps_alive = false;
    Some(Tunnel { client, backend, relay: Relay::new(preface), keeps_alive, counts, _held })
}

impl Tunnel {
    /// Passes bytes on; ready when both sides have ended, one has broken off or the timers end it.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ends: (&Worker, &ConnTimers),
        relays: &Relays,
    ) -> Poll<()> {
        let Self { client, backend, relay, keeps_alive, counts, .. } = self;
        // Most connections are over before it is worth three calls of the kernel.
        if !*keeps_alive && ends.1.was_quiet() {
            *keeps_alive = true;
            let _ = keep_alive(&SockRef::from(&*backend));
        }
        ready!(relay.poll(cx, ends, relays, client, backend));
        count(ends.0, counts.as_ref(), relay.moved());
        Poll::Ready(())
    }
}

/// Passes on a connection whose TLS has ended here, until it ends.
pub(crate) async fn forward_tls(
    means: Means<'_>,
    mut stream: TlsStream<TcpStream>,
    ends: Ends,
    find: impl for<'s> FnOnce(&'s Snapshot) -> Option<To<'s>>,
) {
    let joining = Box::pin(join(&means, stream.get_ref().0, ends, find));
    let Some(mut joined) = joining.await else {
        return break_off(stream.get_ref().0);
    };
    let Means { worker, timers, .. } = means;
    let early = std::mem::take(&mut joined.preface);
    let backend = &mut joined.stream;
    let _ = keep_alive(&SockRef::from(&*backend));
    let moved = relay_tls((&**worker, timers), &mut stream, backend, early).await;
    count(worker, joined.counts.as_ref(), moved);
}

/// What a connection is joined with.
struct Joined {
    stream: TcpStream,
    _held: Held,
    /// What the endpoint is sent before anything else.
    preface: Vec<u8>,
    /// What it counts in, if it is of a Service's port.
    counts: Option<Rc<Counts<L4Stats>>>,
}

/// An endpoint for a connection. `None`: its client may not come in, or nobody takes it.
async fn join(
    means: &Means<'_>,
    stream: &TcpStream,
    ends: Ends,
    find: impl for<'s> FnOnce(&'s Snapshot) -> Option<To<'s>>,
) -> Option<Joined> {
    let Means { worker, timers, .. } = means;
    let snapshot = worker.pin();
    let to = find(&snapshot);
    let refused = |to: &To<'_>| to.access.is_some_and(|access| !access.admit(ends.client.ip()));
    if to.as_ref().is_some_and(refused) {
        worker.metrics().add(Counter::ConnectionRefused);
        return None;
    }
    let limits = to.as_ref().and_then(|to| to.limits);
    let Ok(counted) = limits.map_or(Ok(None), |limits| admit(worker, limits, ends.client.ip()))
    else {
        worker.metrics().add(Counter::ConnectionRefused);
        return None;
    };
    let counts = to.as_ref().and_then(|to| to.stats).map(|stats| worker.l4_counters().of(stats));
    let add = |kind| {
        if let Some(counts) = &counts {
            worker.l4_counters().add(counts, kind);
        }
    };
    let joined = match &to {
        None => None,
        Some(to) => {
            let policy = &to.forward.spec.policy;
            let idle = policy.timeouts.and_then(|timeouts| timeouts.tunnel);
            let idle = idle.or_else(|| to.idle.map(|idle| worker.scaled(idle)));
            let preface = policy
                .proxy_protocol
                .map(|version| proxy_protocol::header(version, with_own(ends, stream)));
            let mut reaching = pin!(reach(means, &snapshot, to, ends.client.ip()));
            let reached = poll_fn(|cx| {
                timers.register(cx);
                if timers.expired().is_some() {
                    return Poll::Ready(None);
                }
                reaching.as_mut().poll(cx)
            });
            reached.await.map(|reached| ((reached, preface.unwrap_or_default()), idle))
        }
    };
    let Some(((reached, preface), idle)) = joined else {
        worker.metrics().add(Counter::TcpFailed);
        add(L4Stats::FAILED);
        return None;
    };
    worker.metrics().add(Counter::TcpForwarded);
    add(L4Stats::OPENED);
    let (stream, held) = reached;
    let joined = Joined { stream, _held: Held { _counted: counted, ..held }, preface, counts };
    timers.becomes_tunnel(idle.map(|idle| idle.as_millis() as Tick), worker.now());
    Some(joined)
}

/// Counts a client's connection where those of each client are bounded.
fn admit(
    worker: &Worker,
    limits: &ClientLimits,
    client: IpAddr,
) -> Result<Option<Box<Counted>>, TooMany> {
    let (options, network) = (&worker.options, limit_key::network(client));
    let at_once = limits.at_once.as_ref().filter(|limit| !limit.exempt.contains(client));
    let counted = at_once.map(|limit| {
        in_flight::Table::begin(&options.in_flight, (limit.scope, network), limit.limit)
    });
    let counted = counted.transpose()?.map(Box::new);
    if let Some(limit) = limits.rate.as_ref().filter(|limit| !limit.exempt.contains(client)) {
        let (pace, now) = ((limit.interval, limit.burst), Instant::now());
        let key = (limit.scope, network);
        let taken = match limit.reach {
            LimitScope::Node => options.rates.take(key, pace.0, pace.1, now),
            LimitScope::Group => {
                options.shares.take(key.0, &limit_key::Client::Network(network), pace, now)
            }
        };
        taken.map_err(|_| TooMany)?;
    }
    Ok(counted)
}

fn count(worker: &Worker, counts: Option<&Rc<Counts<L4Stats>>>, (came, went): (u64, u64)) {
    if let Some(counts) = counts {
        let counters = worker.l4_counters();
        counters.add(counts, L4Stats::ENDED);
        counters.add_amount(counts, L4Stats::BYTES_IN, came);
        counters.add_amount(counts, L4Stats::BYTES_OUT, went);
    }
    worker.metrics().add_amount(Counter::TcpBytesIn, came);
    worker.metrics().add_amount(Counter::TcpBytesOut, went);
}

/// Where the client came in, if its listener takes any address.
fn with_own(ends: Ends, stream: &TcpStream) -> Ends {
    match stream.local_addr() {
        Ok(server) if ends.server.ip().is_unspecified() => Ends { server, ..ends },
        _ => ends,
    }
}

/// Has a peer that vanished without a word noticed. Sockets that a listener accepts inherit it.
pub(crate) fn keep_alive(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1))
}

/// A connection that an endpoint has accepted.
type Reached = (TcpStream, Held);

/// A connection to one of the endpoints; `None`: none of them takes it.
async fn reach(
    means: &Means<'_>,
    snapshot: &Snapshot,
    to: &To<'_>,
    client: IpAddr,
) -> Option<Reached> {
    let Means { worker, upstreams, .. } = means;
    let (backend, index) = upstreams.pick_backend(
        to.forward,
        &snapshot.backends,
        &HeaderMap::new(),
        PickContext::default(),
    )?;
    let slot = to.forward.spec.backends.get(index)?.slot;
    let set = &backend.endpoints;
    match &set.external {
        None => one_of(means, of_new_clients(set, to.here), slot, to, client).await,
        Some(external) => {
            let named = Box::pin(upstreams.names.endpoints(worker, external)).await;
            one_of(means, &named, slot, to, client).await
        }
    }
}

async fn one_of<E: Borrow<Endpoint>>(
    means: &Means<'_>,
    endpoints: &[E],
    slot: BackendSlot,
    to: &To<'_>,
    client: IpAddr,
) -> Option<Reached> {
    let Means { worker, upstreams, .. } = means;
    let policy = &to.forward.spec.policy;
    let (algorithm, limits) = (&policy.balance.algorithm, policy.limits);
    let by = match algorithm {
        _ if to.by_client => By::client(client, to.affinity, worker.now()),
        Algorithm::Hash { .. } => By::Key(Key::client(client)),
        Algorithm::RoundRobin => By::Turn(upstreams.turn(slot)),
        Algorithm::Random | Algorithm::LeastRequest | Algorithm::LeastTime => {
            By::Chance(fastrand::u64(..))
        }
    };
    // How long a connection takes says nothing of its endpoint: it is the client's.
    let by_load = matches!(algorithm, Algorithm::LeastRequest | Algorithm::LeastTime);
    let load =
        |one: &Endpoint| if by_load { upstreams.pool.open_to(one.address) as u64 } else { 0 };
    let mut tried: Vec<SocketAddr> = Vec::new();
    let began = worker.now();
    loop {
        let may = |at: SocketAddr| {
            !tried.contains(&at) && to.here.is_none_or(|here| here.binary_search(&at.ip()).is_ok())
        };
        // A client that keeps its endpoint waits for that.
        let has_room = |endpoint: &Endpoint| {
            let is_open = |limits| upstreams.gates.is_open(&endpoint.stats, limits);
            to.by_client || limits.is_none_or(is_open)
        };
        let is_well = |endpoint: &Endpoint| is_fit(worker, endpoint) && has_room(endpoint);
        let endpoint: &Endpoint = pick_by_load(endpoints, by, may, is_well, load)?.borrow();
        let left = endpoints.iter().filter(|one| may((*one).borrow().address)).count();
        let times = &worker.options.limits;
        let time = if left > 1 { times.connect_try } else { times.connect };
        let opened = match enter(means, endpoint, limits).await {
            Ok(entry) => open(means, endpoint.address, &endpoint.stats, time)
                .await
                .map(|(stream, _permit)| (stream, Held { _permit, _entry: entry, _counted: None })),
            Err(()) => {
                worker.warn(|| {
                    tracing::warn!(address = %endpoint.address, "the endpoint has as many connections as it may");
                });
                return None;
            }
        };
        let counters = worker.endpoint_counters();
        let counts = counters.of(&endpoint.stats);
        match opened {
            Ok(reached) => {
                counters.add(&counts, REQUEST);
                if let Some(ClientAffinity { time, pins }) = to.affinity {
                    pins.keep(client, endpoint.address, worker.now(), worker.scaled(*time));
                }
                return Some(reached);
            }
            Err(error) => {
                tracing::debug!(address = %endpoint.address, %error, "a connection cannot be passed on");
                counters.add(&counts, FAILURE);
            }
        }
        tried.push(endpoint.address);
        if worker.now().saturating_sub(began) >= times.tries {
            return None;
        }
    }
}

/// Waits until an endpoint may have one more connection, if they are bounded.
async fn enter(
    Means { worker, upstreams, .. }: &Means<'_>,
    endpoint: &Endpoint,
    limits: Option<Limits>,
) -> Result<Option<Entry>, ()> {
    let Some(limits) = limits else { return Ok(None) };
    let longest = Duration::from_millis(worker.options.limits.tries);
    let entered = upstreams.gates.enter(&endpoint.stats, limits, longest).await;
    entered.map(Some).map_err(drop)
}

/// Opens a connection to an endpoint, within bounds and not to this process itself.
async fn open(
    Means { worker, upstreams, .. }: &Means<'_>,
    address: SocketAddr,
    stats: &Arc<EndpointStats>,
    limit: Tick,
) -> io::Result<(TcpStream, Permit)> {
    if worker.is_own(address) {
        worker.warn(|| tracing::warn!(%address, "a backend leads to this gateway itself"));
        return Err(ErrorKind::AddrInUse.into());
    }
    let options = &worker.options;
    let most = Most { all: options.max_connections, each: options.max_endpoint_connections };
    let Some(permit) = upstreams.pool.permit(address, most) else {
        worker
            .warn(|| tracing::warn!(%address, ?most, "too many connections to endpoints are open"));
        return Err(ErrorKind::QuotaExceeded.into());
    };
    let stream = connect_plain(worker, address, stats, limit).await?;
    Ok((stream, permit))
}
