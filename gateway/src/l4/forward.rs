//! A client's connection passed on to an endpoint that takes it.
//!
//! `worker::accept` calls [`forward`] for connections that end nowhere here: those to the port of a Service, and TLS
//! that is passed through.

use std::{
    borrow::Borrow,
    future::poll_fn,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use gatehouse_routes::{
    action::Forward,
    filter::AddressRules,
    model::{BackendSlot, Endpoint},
    passthrough::PassThrough,
    stats::EndpointStats,
};
use http::HeaderMap;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{
    pick::{By, pick},
    proxy_protocol::{self, Ends},
    relay::{Relays, break_off, relay_tls},
};
use crate::{
    admin::metrics::Counter,
    compile::L4Port,
    snapshot::Snapshot,
    upstream::{
        Upstreams,
        connect::connect_plain,
        permit::{Most, Permit},
        pick::is_fit,
        sessions::Wish,
    },
    worker::{
        clock::Tick,
        context::Worker,
        counters::{FAILURE, REQUEST},
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
    pub(crate) relays: &'w Relays,
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
    /// Endpoints that may have it, if not all.
    here: Option<&'s [IpAddr]>,
    access: Option<&'s AddressRules>,
    /// How long nothing may move, where the object does not say; `None`: as in every tunnel.
    idle: Option<Duration>,
}

impl<'s> To<'s> {
    /// The backend of a Service's port. Who may come in has been asked before.
    pub(crate) fn port(port: &'s L4Port) -> Self {
        let L4Port { forward, by_client, here, .. } = port;
        Self {
            forward,
            by_client: *by_client,
            here: here.as_deref(),
            access: None,
            idle: Some(DAY),
        }
    }

    /// The backend of a server name, if it has one.
    pub(crate) fn name(pass: &'s PassThrough) -> Option<Self> {
        let PassThrough { forward, by_client, access, .. } = pass;
        let (by_client, access) = (*by_client, access.as_ref());
        Some(Self { forward: forward.as_ref()?, by_client, here: None, access, idle: None })
    }
}

/// An endpoint that has accepted a connection.
struct Reached {
    stream: TcpStream,
    _permit: Permit,
}

/// Passes a connection on to where `find` says, until it ends. One that nobody takes is broken off.
pub(crate) async fn forward(
    means: Means<'_>,
    client: Client,
    find: impl for<'s> FnOnce(&'s Snapshot) -> Option<To<'s>>,
) {
    let Client { mut stream, ends, early } = client;
    let Some(mut joined) = join(&means, &stream, ends, find).await else {
        return break_off(&stream);
    };
    let Means { worker, timers, relays, .. } = means;
    let early = [joined.told, early].concat();
    let backend = &mut joined.reached.stream;
    let moved = relays.relay((&**worker, timers), &mut stream, backend, early).await;
    count(worker, moved);
}

/// The same for a connection whose TLS has ended here.
pub(crate) async fn forward_tls(
    means: Means<'_>,
    mut stream: TlsStream<TcpStream>,
    ends: Ends,
    find: impl for<'s> FnOnce(&'s Snapshot) -> Option<To<'s>>,
) {
    let Some(mut joined) = join(&means, stream.get_ref().0, ends, find).await else {
        return break_off(stream.get_ref().0);
    };
    let Means { worker, timers, .. } = means;
    let backend = &mut joined.reached.stream;
    let moved = relay_tls((&**worker, timers), &mut stream, backend, joined.told).await;
    count(worker, moved);
}

/// What a connection is joined with.
struct Joined {
    reached: Reached,
    /// What the endpoint is told before anything else.
    told: Vec<u8>,
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
    let joined = match &to {
        None => None,
        Some(to) => {
            let policy = &to.forward.spec.policy;
            let idle = policy.timeouts.and_then(|timeouts| timeouts.tunnel);
            let idle = idle.or_else(|| to.idle.map(|idle| worker.scaled(idle)));
            let told = policy
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
            let joined =
                reached.await.map(|reached| Joined { reached, told: told.unwrap_or_default() });
            joined.map(|joined| (joined, idle))
        }
    };
    let Some((joined, idle)) = joined else {
        worker.metrics().add(Counter::TcpFailed);
        return None;
    };
    worker.metrics().add(Counter::TcpForwarded);
    keep_alive(stream);
    keep_alive(&joined.reached.stream);
    timers.becomes_tunnel(idle.map(|idle| idle.as_millis() as Tick), worker.now());
    Some(joined)
}

fn count(worker: &Worker, (came, went): (u64, u64)) {
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

/// A peer that vanished without a word is noticed.
fn keep_alive(stream: &TcpStream) {
    let often = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    let _ = SockRef::from(stream).set_tcp_keepalive(&often);
}

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
        Wish::default(),
    )?;
    let slot = to.forward.spec.backends.get(index)?.slot;
    let set = &backend.endpoints;
    match &set.external {
        None => one_of(means, &set.endpoints, slot, to, client).await,
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
    let by = if to.by_client { By::Client(client) } else { By::Turn(upstreams.turn(slot)) };
    let mut tried: Vec<SocketAddr> = Vec::new();
    let began = worker.now();
    loop {
        let may = |at: SocketAddr| {
            !tried.contains(&at) && to.here.is_none_or(|here| here.binary_search(&at.ip()).is_ok())
        };
        let is_well = |endpoint: &Endpoint| is_fit(worker, endpoint);
        let endpoint: &Endpoint = pick(endpoints, by, may, is_well)?.borrow();
        let left = endpoints.iter().filter(|one| may((*one).borrow().address)).count();
        let limits = &worker.options.limits;
        let limit = if left > 1 { limits.connect_try } else { limits.connect };
        let opened = open(means, endpoint.address, &endpoint.stats, limit).await;
        let counters = worker.endpoint_counters();
        let counts = counters.of(&endpoint.stats);
        match opened {
            Ok(reached) => {
                counters.add(&counts, REQUEST);
                return Some(reached);
            }
            Err(error) => {
                tracing::debug!(address = %endpoint.address, %error, "a connection cannot be passed on");
                counters.add(&counts, FAILURE);
            }
        }
        tried.push(endpoint.address);
        if worker.now().saturating_sub(began) >= limits.tries {
            return None;
        }
    }
}

/// Opens a connection to an endpoint, within bounds and not to this process itself.
async fn open(
    Means { worker, upstreams, .. }: &Means<'_>,
    address: SocketAddr,
    stats: &Arc<EndpointStats>,
    limit: Tick,
) -> io::Result<Reached> {
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
    Ok(Reached { stream, _permit: permit })
}
