//! Takes connections from a worker's sockets and decides what each of them is: the one place that does.
//!
//! Plain HTTP, or TLS that is dealt with as its ClientHello asks.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustls::ProtocolVersion;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::server::TlsStream;

use crate::{
    admin::metrics::Counter,
    http::conn::{self, Accepted, TlsSession},
    tls::{
        client_hello::{self, Choice},
        config::TlsPolicies,
    },
    upstream::Upstreams,
    worker::{
        context::Worker,
        listener::{ListenerFacts, Opened},
        local_address::LocalAddress,
        timeouts::{ConnTimers, Phase, Registered},
    },
};

/// Pauses of an accept loop that runs out of descriptors or memory: doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Accepts on a worker until the returned sender is dropped.
pub(crate) fn accept(
    worker: &Rc<Worker>,
    upstreams: &Rc<Upstreams>,
    opened: Opened,
) -> io::Result<oneshot::Sender<()>> {
    let socket = TcpListener::from_std(opened.socket)?;
    let (closing, mut closed) = oneshot::channel::<()>();
    let entrance = Entrance {
        worker: Rc::clone(worker),
        upstreams: Rc::clone(upstreams),
        address: worker.address(opened.facts.address.ip()),
        listener: opened.facts,
    };
    tokio::task::spawn_local(async move {
        let worker = &entrance.worker;
        let mut pause = BACKOFF.0;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = &mut closed => break,
                accepted = socket.accept(), if worker.has_room() => accepted,
                () = tokio::time::sleep(BACKOFF.0), if !worker.has_room() => continue,
            };
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
    });
    Ok(closing)
}

/// What every connection of one socket is given.
#[derive(Clone)]
struct Entrance {
    worker: Rc<Worker>,
    upstreams: Rc<Upstreams>,
    listener: Arc<ListenerFacts>,
    address: Rc<LocalAddress>,
}

impl Entrance {
    /// Starts the task of a connection.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        self.worker.metrics().add(Counter::ConnectionAccepted);
        tokio::task::spawn_local(serve(self.clone(), stream, peer));
    }

    fn timers(&self, phase: Phase) -> Registered<ConnTimers> {
        self.worker.conn_timers(phase, &self.address)
    }

    fn accepted(
        self,
        timers: Registered<ConnTimers>,
        (peer, local): (SocketAddr, SocketAddr),
        tls: Option<TlsSession>,
    ) -> Accepted {
        let Self { worker, upstreams, listener, .. } = self;
        Accepted { worker, upstreams, listener, timers, peer, local, tls }
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

/// Serves a connection until it ends.
async fn serve(entrance: Entrance, stream: TcpStream, peer: SocketAddr) {
    let (worker, address) = (Rc::clone(&entrance.worker), Rc::clone(&entrance.address));
    worker.connection_opened(&address);
    // Boxed apart: a task is as large as its largest branch, and is moved when it is spawned.
    match entrance.listener.tls.clone() {
        None => {
            let timers = entrance.timers(Phase::FirstByte);
            let ends = (peer, entrance.local(&stream));
            Box::pin(conn::serve(entrance.accepted(timers, ends, None), stream)).await;
        }
        Some(policies) => Box::pin(serve_tls(entrance, policies, stream, peer)).await,
    }
    worker.connection_closed(&address);
}

async fn serve_tls(entrance: Entrance, policies: TlsPolicies, stream: TcpStream, peer: SocketAddr) {
    let worker = &entrance.worker;
    let timers = entrance.timers(Phase::Handshake);
    let ends = (peer, entrance.local(&stream));
    let mut opening = Box::pin(open(policies, stream));
    let opened = poll_fn(|cx| {
        timers.register(cx);
        if timers.expired().is_some() {
            return Poll::Ready(None);
        }
        opening.as_mut().poll(cx).map(Result::ok)
    })
    .await;
    drop(opening);
    let Some(Terminated { stream, server_name }) = opened else {
        worker.metrics().add(Counter::TlsHandshakeFailed);
        return;
    };
    worker.metrics().add(Counter::TlsHandshake);
    timers.enter(Phase::FirstByte, worker.now());
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let version = match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "other",
    };
    let tls = Some(TlsSession { http2, version, server_name });
    conn::serve(entrance.accepted(timers, ends, tls), stream).await;
}

/// A connection whose TLS ends here.
struct Terminated {
    stream: Box<TlsStream<TcpStream>>,
    server_name: Option<Box<str>>,
}

/// Reads the ClientHello and does what the policies say of it. One future for all of that, so that a
/// handshake costs one allocation.
async fn open(policies: TlsPolicies, stream: TcpStream) -> io::Result<Terminated> {
    let start = client_hello::read(stream).await?;
    match client_hello::choose(&policies, &start.client_hello()) {
        Choice::Terminate { config, server_name } => {
            let stream = start.into_stream(Arc::clone(config)).await?;
            Ok(Terminated { stream: Box::new(stream), server_name })
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
