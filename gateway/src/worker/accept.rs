//! Takes connections from a worker's sockets and decides what each of them is: the one place that does.
//!
//! First whether its client may come in at all, for a load balancer that is trusted the client of whom it tells.
//! Then plain HTTP, or TLS that is dealt with as its ClientHello asks.

use std::{
    future::poll_fn,
    io::{self, ErrorKind::TimedOut},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use gatehouse_proxy_protocol as proxy_protocol;
use rustls::ProtocolVersion;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot::{self, error::TryRecvError},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    admin::metrics::Counter,
    compile::{L4Address, L4Stats},
    http::{
        client_identity::ClientIdentity,
        conn::{self, Accepted, TlsSession},
    },
    l4::{
        forward::{Client, Means, To, Tunnel, connect, forward_tls},
        proxy_protocol::read as read_proxy_header,
        relay::{Relays, break_off},
    },
    snapshot::{GatewaySnapshot, Snapshot},
    tls::{
        client_certificates::OldCertificate,
        client_hello::{self, Choice, Heard},
        config::TlsPolicies,
        port::agreeing_on,
        profile::CipherSet,
    },
    upstream::Upstreams,
    worker::{
        context::Worker,
        listener::{self, ListenerFacts},
        local_address::{Closed, LocalAddress},
        timeouts::{ConnTimers, Phase, Registered},
    },
};

/// Pauses of an accept loop that runs out of descriptors or memory: doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Accepts on a worker until the returned sender is dropped. Connections look at `ends` for whether they are to end.
pub(crate) fn accept(
    worker: &Rc<Worker>,
    upstreams: &Rc<Upstreams>,
    relays: &Rc<Relays>,
    opened: listener::Opened,
    ends: &Rc<Closed>,
) -> io::Result<oneshot::Sender<()>> {
    let socket = TcpListener::from_std(opened.socket)?;
    let (closing, mut closed) = oneshot::channel::<()>();
    let entrance = Entrance {
        worker: Rc::clone(worker),
        upstreams: Rc::clone(upstreams),
        relays: Rc::clone(relays),
        address: worker.address(opened.facts.address.ip()),
        ends: Rc::clone(ends),
        listener: opened.facts,
    };
    tokio::task::spawn_local(async move {
        let worker = &entrance.worker;
        let mut pause = BACKOFF.0;
        loop {
            if !worker.has_room() {
                tokio::select! {
                    _ = &mut closed => break,
                    () = tokio::time::sleep(BACKOFF.0) => continue,
                }
            }
            let Some(accepted) = poll_fn(|cx| next(&socket, &mut closed, cx)).await else { break };
            match accepted {
                Ok((stream, peer)) => {
                    pause = BACKOFF.0;
                    entrance.admit(stream, peer);
                }
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "out of resources, not accepting for {pause:?}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
                // The client left between its SYN and our accept.
                Err(error) => tracing::debug!(%error, "accept failed"),
            }
        }
        // Closing a SO_REUSEPORT socket resets what is queued on it: take that in first.
        while let Poll::Ready(Ok((stream, peer))) =
            socket.poll_accept(&mut Context::from_waker(Waker::noop()))
        {
            entrance.admit(stream, peer);
        }
        drop(socket);
        drop(opened.in_use);
    });
    Ok(closing)
}

/// The next connection; `None`: no more are to be accepted.
fn next(
    socket: &TcpListener,
    closed: &mut oneshot::Receiver<()>,
    cx: &mut Context<'_>,
) -> Poll<Option<io::Result<(TcpStream, SocketAddr)>>> {
    // Looked at each time, as there may always be a connection.
    if closed.try_recv() != Err(TryRecvError::Empty) {
        return Poll::Ready(None);
    }
    match socket.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        Poll::Pending => Pin::new(closed).poll(cx).map(|_| None),
    }
}

/// Where HTTPS is served, to those who look at the port alone (ingress-nginx does).
const HTTPS: u16 = 443;

/// Where a connection comes from and where it came in, as far as is known.
#[derive(Clone, Copy)]
struct Ends {
    peer: SocketAddr,
    local: SocketAddr,
    /// The client speaks TLS to the load balancer in front.
    secured: bool,
}

impl From<Ends> for proxy_protocol::Ends {
    fn from(Ends { peer, local, .. }: Ends) -> Self {
        Self { client: peer, server: local }
    }
}

/// What every connection of one socket is given.
#[derive(Clone)]
struct Entrance {
    worker: Rc<Worker>,
    upstreams: Rc<Upstreams>,
    relays: Rc<Relays>,
    listener: Arc<ListenerFacts>,
    address: Rc<LocalAddress>,
    ends: Rc<Closed>,
}

impl Entrance {
    /// Starts the task of a connection.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        self.worker.metrics().add(Counter::ConnectionAccepted);
        let proxied = self.worker.options.proxied.as_ref();
        let proxied = proxied.is_some_and(|senders| senders.contains(peer.ip()));
        // Of a load balancer it is its client that may come in or not.
        if !proxied && !self.lets_in(peer.ip()) {
            return break_off(&stream);
        }
        if self.listener.passes_on {
            let finding = find_way(self.clone(), stream, peer, proxied);
            tokio::task::spawn_local(PassedOn::Finding(Box::pin(finding)));
        } else {
            tokio::task::spawn_local(serve(self.clone(), stream, peer, proxied));
        }
    }

    /// Whether the Service behind this listener serves clients of this address.
    fn lets_in(&self, client: IpAddr) -> bool {
        let snapshot = self.worker.pin();
        let allowed = match self.listener.passes_on {
            true => {
                let port = snapshot.l4.get(&L4Address::tcp(self.listener.address));
                port.is_some_and(|port| {
                    let lets_in =
                        port.sources.as_ref().is_none_or(|sources| sources.contains(client));
                    if !lets_in {
                        let counters = self.worker.l4_counters();
                        counters.add(&counters.of(&port.stats.0), L4Stats::DENIED);
                    }
                    lets_in
                })
            }
            false => {
                snapshot.gateway(self.listener.slot).is_none_or(|gateway| gateway.lets_in(client))
            }
        };
        if !allowed {
            self.worker.metrics().add(Counter::ConnectionRefused);
        }
        allowed
    }

    fn means<'w>(&'w self, timers: &'w ConnTimers) -> Means<'w> {
        Means { worker: &self.worker, upstreams: &self.upstreams, timers }
    }

    fn timers(&self, phase: Phase) -> Registered<ConnTimers> {
        self.worker.conn_timers(phase, (&self.address, &self.ends))
    }

    fn accepted(
        &self,
        timers: Registered<ConnTimers>,
        Ends { peer, local, secured }: Ends,
        tls: Option<TlsSession>,
    ) -> Accepted {
        let Self { worker, upstreams, listener, .. } = self.clone();
        Accepted { worker, upstreams, listener, timers, peer, local, tls, secured }
    }

    /// Where a connection came in. Only a log that is written asks the kernel, and only where the listener
    /// does not say it.
    fn local(&self, stream: &TcpStream) -> SocketAddr {
        let listening = self.listener.address;
        if !listening.ip().is_unspecified() || !self.worker.logs_access() {
            return listening;
        }
        stream.local_addr().unwrap_or(listening)
    }
}

/// A connection counts for as long as this lives.
struct Open {
    worker: Rc<Worker>,
    address: Rc<LocalAddress>,
}

impl Open {
    fn new(entrance: &Entrance) -> Self {
        let (worker, address) = (Rc::clone(&entrance.worker), Rc::clone(&entrance.address));
        worker.connection_opened(&address);
        Self { worker, address }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.connection_closed(&self.address);
    }
}

/// A connection to the port of a Service. Many of them are idle for hours. So this is a state that holds what it needs now
/// and no more, in place of an `async fn`, which has room for all that it ever needed.
#[expect(clippy::large_enum_variant, reason = "the large one is what it is for hours")]
enum PassedOn {
    /// Its way is looked for.
    Finding(Pin<Box<dyn Future<Output = Option<Passing>>>>),
    /// It is open.
    Passing(Passing),
}

impl Future for PassedOn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Passing(passing) => return Pin::new(passing).poll(cx),
                Self::Finding(finding) => match ready!(finding.as_mut().poll(cx)) {
                    Some(passing) => *self = Self::Passing(passing),
                    None => return Poll::Ready(()),
                },
            }
        }
    }
}

/// An open connection that is passed on as it is.
struct Passing {
    tunnel: Tunnel,
    timers: Registered<ConnTimers>,
    relays: Rc<Relays>,
    open: Open,
}

impl Future for Passing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { tunnel, timers, relays, open } = &mut *self;
        tunnel.poll(cx, (&open.worker, timers), relays)
    }
}

/// Serves a connection until it ends.
async fn serve(entrance: Entrance, mut stream: TcpStream, peer: SocketAddr, proxied: bool) {
    let open = Open::new(&entrance);
    let Some(ends) = come_in(&entrance, &mut stream, peer, proxied).await else {
        return break_off(&stream);
    };
    // Boxed apart: a task is as large as its largest branch, and is moved when it is spawned.
    match entrance.listener.tls.clone() {
        None => {
            let timers = entrance.timers(Phase::FirstByte);
            Box::pin(conn::serve(entrance.accepted(timers, ends, None), stream)).await;
        }
        Some(policies) => {
            let serving = Box::pin(serve_tls(&entrance, policies, stream, ends));
            if let Some((timers, tunnel)) = serving.await {
                let relays = Rc::clone(&entrance.relays);
                Box::pin(Passing { tunnel, timers, relays, open }).await;
            }
        }
    }
}

/// Opens the way of a connection to the port of a Service. `None`: there is none, or it has come to its end already.
async fn find_way(
    entrance: Entrance,
    mut stream: TcpStream,
    peer: SocketAddr,
    proxied: bool,
) -> Option<Passing> {
    let open = Open::new(&entrance);
    let Some(ends) = come_in(&entrance, &mut stream, peer, proxied).await else {
        break_off(&stream);
        return None;
    };
    let timers = entrance.timers(Phase::Active);
    let tunnel = pass_on(&entrance, &timers, stream, ends).await?;
    Some(Passing { tunnel, timers, relays: entrance.relays, open })
}

/// Both ends of a connection. `None`: it may not come in.
async fn come_in(
    entrance: &Entrance,
    stream: &mut TcpStream,
    peer: SocketAddr,
    proxied: bool,
) -> Option<Ends> {
    let ends = Ends { peer, local: entrance.local(stream), secured: false };
    if proxied { Box::pin(told(entrance, stream, ends)).await } else { Some(ends) }
}

/// Both ends of the client's connection to the load balancer that passes it on here. `None`: the load balancer
/// does not say so as it has to, or the client may not come in.
async fn told(entrance: &Entrance, stream: &mut TcpStream, own: Ends) -> Option<Ends> {
    let mut reading = pin!(read_proxy_header(stream));
    let timers = entrance.timers(Phase::Handshake);
    let header = within(&timers, reading.as_mut()).await.unwrap_or_else(|| Err(TimedOut.into()));
    let header = match header {
        Ok(header) => header,
        Err(error) => {
            let (worker, peer) = (&entrance.worker, own.peer);
            worker.metrics().add(Counter::ProxyHeaderInvalid);
            worker.warn(|| tracing::warn!(%peer, %error, "a trusted load balancer sends no PROXY header that makes sense"));
            return None;
        }
    };
    let ends = match header.ends {
        // The load balancer itself, which looks whether this process is there.
        None => own,
        Some(proxy_protocol::Ends { client: peer, server: local }) => {
            Ends { peer, local, secured: header.tls || local.port() == HTTPS }
        }
    };
    entrance.lets_in(ends.peer.ip()).then_some(ends)
}

/// What comes of a future, unless the timers of its connection expire first.
async fn within<F: Future>(timers: &ConnTimers, mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        timers.register(cx);
        if timers.expired().is_some() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// The tunnel of a connection to the port of a Service. `None`: there is none, or it has come to its end already.
async fn pass_on(
    entrance: &Entrance,
    timers: &ConnTimers,
    stream: TcpStream,
    ends: Ends,
) -> Option<Tunnel> {
    let (worker, address) = (&entrance.worker, entrance.listener.address);
    let Some(config) = &entrance.listener.port_tls else {
        if worker.pin().chooses_by_name(address) {
            return Box::pin(pass_on_by_name(entrance, timers, stream, ends)).await;
        }
        let client = Client { stream, ends: ends.into(), early: Vec::new() };
        return connect(entrance.means(timers), client, port_at(address)).await;
    };
    timers.enter(Phase::Handshake, worker.now());
    let config = match worker.pin().l4.get(&L4Address::tcp(address)) {
        Some(port) => agreeing_on(config, &port.alpn),
        // There is no certificate for it either.
        None => Arc::clone(config),
    };
    let mut opening = Box::pin(TlsAcceptor::from(config).accept(stream));
    let Some(Ok(stream)) = within(timers, opening.as_mut()).await else {
        worker.metrics().add(Counter::TlsHandshakeFailed);
        return None;
    };
    drop(opening);
    worker.metrics().add(Counter::TlsHandshake);
    timers.enter(Phase::Active, worker.now());
    Box::pin(forward_tls(entrance.means(timers), stream, ends.into(), port_at(address))).await;
    None
}

/// The backend of the Service that has a port.
fn port_at(address: SocketAddr) -> impl for<'s> FnOnce(&'s Snapshot) -> Option<To<'s>> {
    move |snapshot| Some(To::port(snapshot.l4.get(&L4Address::tcp(address))?))
}

/// The tunnel of TLS to the port of a Service, as it is, to where its server name leads.
async fn pass_on_by_name(
    entrance: &Entrance,
    timers: &ConnTimers,
    stream: TcpStream,
    ends: Ends,
) -> Option<Tunnel> {
    let (worker, address) = (&entrance.worker, entrance.listener.address);
    timers.enter(Phase::Handshake, worker.now());
    let reading = pin!(client_hello::hear(stream));
    let Some(Ok(Heard { stream, bytes, name, .. })) = within(timers, reading).await else {
        worker.metrics().add(Counter::TlsHandshakeFailed);
        return None;
    };
    timers.enter(Phase::Active, worker.now());
    let client = Client { stream, ends: ends.into(), early: bytes };
    connect(entrance.means(timers), client, |snapshot: &Snapshot| {
        Some(To::port_of(snapshot.l4.get(&L4Address::tcp(address))?, name.as_deref()))
    })
    .await
}

/// Serves TLS until it ends, or gives it back as a tunnel.
async fn serve_tls(
    entrance: &Entrance,
    policies: TlsPolicies,
    stream: TcpStream,
    ends: Ends,
) -> Option<(Registered<ConnTimers>, Tunnel)> {
    let worker = &entrance.worker;
    let timers = entrance.timers(Phase::Handshake);
    let mut opening = Box::pin(open(entrance, policies, stream));
    let opened = within(&timers, opening.as_mut()).await;
    drop(opening);
    let opened =
        opened.and_then(|opened| opened.inspect_err(|error| tell(worker, error, &ends)).ok());
    let Terminated { stream, server_name, identity } = match opened {
        Some(Opened::Terminated(terminated)) => terminated,
        Some(Opened::PassedThrough { stream, early, name }) => {
            timers.enter(Phase::Active, worker.now());
            let client = Client { stream, ends: ends.into(), early };
            let slot = entrance.listener.slot;
            let connecting = connect(entrance.means(&timers), client, |snapshot: &Snapshot| {
                To::name(snapshot.gateway(slot)?.passed_through(&name)?)
            });
            let tunnel = Box::pin(connecting).await?;
            return Some((timers, tunnel));
        }
        None => {
            worker.metrics().add(Counter::TlsHandshakeFailed);
            return None;
        }
    };
    worker.metrics().add(Counter::TlsHandshake);
    timers.enter(Phase::FirstByte, worker.now());
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let version = match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "other",
    };
    let suite = stream.get_ref().1.negotiated_cipher_suite();
    let cipher = suite.map(|suite| CipherSet::of(suite.suite())).unwrap_or_default();
    let tls = Some(TlsSession { http2, version, cipher, server_name, identity });
    conn::serve(entrance.accepted(timers, ends, tls), stream).await;
    None
}

/// Says why a handshake has failed, where its client's owner has to do something about it.
fn tell(worker: &Worker, error: &io::Error, ends: &Ends) {
    if let Some(why) = OldCertificate::is_why(error) {
        let client = ends.peer;
        worker.warn(|| {
            let error: &dyn std::error::Error = &why;
            tracing::warn!(%client, error, "the certificate that a client shows cannot be used");
        });
    }
}

/// What became of a TLS connection.
enum Opened {
    Terminated(Terminated),
    /// It goes on with the bytes that were read of it, as the server name says.
    PassedThrough {
        stream: TcpStream,
        early: Vec<u8>,
        name: Box<str>,
    },
}

/// A connection whose TLS ends here.
struct Terminated {
    stream: Box<TlsStream<TcpStream>>,
    server_name: Option<Box<str>>,
    /// `None`: the client was not asked for a certificate.
    identity: Option<Box<ClientIdentity>>,
}

/// Reads the ClientHello and does what the policies say of it. One future for all of that, so that a
/// handshake costs one allocation.
async fn open(entrance: &Entrance, policies: TlsPolicies, stream: TcpStream) -> io::Result<Opened> {
    let (worker, slot) = (&entrance.worker, entrance.listener.slot);
    let passes = worker.pin().gateway(slot).is_some_and(GatewaySnapshot::passes_through);
    let start = if passes {
        let mut heard = client_hello::hear(stream).await?;
        let passed = |name: &str| {
            let snapshot = worker.pin();
            snapshot.gateway(slot).is_some_and(|gateway| gateway.passed_through(name).is_some())
        };
        if let Some(name) = heard.name.take_if(|name| passed(name)) {
            let Heard { stream, bytes: early, .. } = heard;
            return Ok(Opened::PassedThrough { stream, early, name });
        }
        heard.start().await?
    } else {
        client_hello::read(stream).await?
    };
    let choice = client_hello::choose(&policies, &worker.pin(), &start.client_hello())?;
    match choice {
        Choice::Terminate { config, server_name, asks } => {
            let stream = Box::new(start.into_stream(config).await?);
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let identity = asks.then(|| Box::new(ClientIdentity::new(shown)));
            Ok(Opened::Terminated(Terminated { stream, server_name, identity }))
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
