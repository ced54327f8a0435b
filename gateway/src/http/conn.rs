//! HTTP on one client connection, from the accepted stream to its end.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use gatehouse_routes::model::Scheme;
use http::HeaderValue;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    http::{
        client::ClientConn,
        client_identity::ClientIdentity,
        error::ProxyErrorKind,
        frame_guard::FrameGuard,
        head::{MAX_FIELD_BYTES, MAX_TARGET, is_trusted},
        head_scanner::HeadScanner,
        headers::Forwarding,
        io::{ClientIo, ConnShared, Guard, InterimQueue},
        proxy,
        streams::StreamExecutor,
    },
    tls::profile::CipherSet,
    upstream::{Upstreams, bound::Bound},
    worker::{
        context::Worker,
        listener::ListenerFacts,
        timeouts::{ConnTimers, Expiry, Phase, Registered},
    },
};

/// Room that hyper gives a head besides its target: ours is refused first, with the right status.
const HEAD_BESIDES: usize = MAX_FIELD_BYTES + 1024;
/// What is read ahead of an HTTP/1 client, and what of an answer waits for it (P24).
const MAX_BUFFER: usize = 128 * 1024;
/// Streams that a client may have open at once (RFC 9113 §5.1.2).
const MAX_STREAMS: u32 = 100;
/// What a client may send on one stream, and on all of them, before we took it.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What of an answer may wait for the client's window, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Resets that a client may provoke or send before the connection ends (P20).
const MAX_RESETS: usize = 100;
/// How long an idle HTTP/1 client that is to leave may stay: one that is about to ask again hears it with
/// its answer and loses no request; one that does not ask is cut off.
const LEAVE: Duration = Duration::from_secs(1);
/// How long and how much a client may go on sending that was answered before it had sent all, so that it gets to
/// read the answer: what is on its way in a second or two of a fast connection.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// How long a client of HTTP/2 may take to hear that the connection ends.
const GOAWAY: Duration = Duration::from_secs(1);

/// An accepted connection: what is known of it before its first request.
pub(crate) struct Accepted {
    pub(crate) worker: Rc<Worker>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) listener: Arc<ListenerFacts>,
    pub(crate) timers: Registered<ConnTimers>,
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) local: SocketAddr,
    /// `None` on plain TCP.
    pub(crate) tls: Option<TlsSession>,
    /// The client speaks TLS to the proxy that passes its connection on.
    pub(crate) secured: bool,
}

/// What a TLS handshake agreed on.
pub(crate) struct TlsSession {
    pub(crate) http2: bool,
    /// Such as `TLSv1.3`.
    pub(crate) version: &'static str,
    pub(crate) cipher: CipherSet,
    /// In canonical form.
    pub(crate) server_name: Option<Box<str>>,
    /// `None`: the client was not asked for a certificate.
    pub(crate) identity: Option<Box<ClientIdentity>>,
}

/// Serves HTTP on a connection until it ends.
pub(crate) async fn serve<S>(accepted: Accepted, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Accepted { worker, upstreams, listener, timers, peer, local, tls, secured } = accepted;
    let scheme = if tls.is_some() || secured { Scheme::Https } else { Scheme::Http };
    let http2 = tls.as_ref().is_some_and(|tls| tls.http2);
    let guard = if http2 {
        Guard::Frames(FrameGuard::new(worker.now()))
    } else {
        Guard::Head(HeadScanner::default())
    };
    let trusted = Arc::clone(&worker.options.trusted);
    let request_timers = worker.request_timers();
    let shared = Rc::new(ConnShared {
        worker,
        timers,
        guard: RefCell::new(guard),
        request_timers,
        half_closes: Cell::new(false),
        client_ended: Cell::new(false),
        interim: InterimQueue::default(),
    });
    let io = ClientIo::new(stream, tls.is_some(), Rc::clone(&shared));
    let tls_version = tls.as_ref().map(|tls| tls.version);
    let cipher = tls.as_ref().map(|tls| tls.cipher).unwrap_or_default();
    let (server_name, identity) = tls.map_or((None, None), |tls| (tls.server_name, tls.identity));
    let conn = Rc::new(ClientConn {
        forwarding: Forwarding {
            peer: peer.ip().to_canonical(),
            client: text(&peer.ip().to_canonical().to_string()),
            proto: HeaderValue::from_static(match scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            }),
            http2,
            port: text(&local.port().to_string()),
            believed: is_trusted(peer.ip().to_canonical(), &trusted),
            trusted,
        },
        shared,
        upstreams,
        listener,
        peer,
        local,
        scheme,
        tls_version,
        cipher,
        server_name,
        identity,
        tunnel: RefCell::default(),
        http2,
        bound: Bound::default(),
        counted: RefCell::default(),
    });
    if http2 {
        Box::pin(serve_http2(conn, io)).await;
    } else {
        serve_http1(conn, io).await;
    }
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, dots and colons are a valid header value")
}

async fn serve_http1<S>(conn: Rc<ClientConn>, io: ClientIo<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let shared = Rc::clone(&conn.shared);
    let requests = Rc::clone(&conn);
    let service = service_fn(move |request| proxy::handle(Rc::clone(&requests), request));
    let mut connection = http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None)
        .preserve_header_case(shared.worker.options.header_case.is_preserved())
        .max_header_size(shared.worker.options.max_target + HEAD_BESIDES)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(io), service);
    let mut leaving = false;
    let outcome = poll_fn(|cx| {
        shared.timers.register(cx);
        shared.request_timers.register(cx);
        if shared.timers.expired().is_some()
            || matches!(shared.request_timers.expired(), Some(Expiry::Stalled | Expiry::Gone))
        {
            return Poll::Ready(Outcome::Cut);
        }
        // hyper takes a connection for idle until it has a whole head, and would close it.
        let asks = matches!(shared.timers.phase(), Phase::FirstByte | Phase::Head);
        if !leaving && !asks && shared.leaving_for(LEAVE) {
            leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx).map(|result| match result {
            Ok(()) => Outcome::Done,
            Err(error) if error.is_parse() => Outcome::Refused,
            Err(_) => Outcome::Cut,
        })
    })
    .await;
    match outcome {
        Outcome::Cut => return,
        Outcome::Refused => shared.worker.metrics().error(ProxyErrorKind::Malformed as usize),
        Outcome::Done => (),
    }
    let parts = connection.into_parts();
    let mut io = TokioIo::into_inner(parts.io);
    if let Some(tunnel) = conn.tunnel.take() {
        shared.half_closes.set(true);
        if let Err(error) = tunnel.run(&shared, io, parts.read_buf).await {
            tracing::debug!(%error, "tunnel ended");
        }
        return;
    }
    if matches!(outcome, Outcome::Done) && !shared.half_closes.get() && shared.has_all() {
        return;
    }
    shared.half_closes.set(true);
    let limit = shared.worker.scaled(LINGER);
    let _ = tokio::time::timeout(limit, linger(&mut io)).await;
}

enum Outcome {
    /// The last answer was written.
    Done,
    /// hyper refused a request and said so.
    Refused,
    /// Nothing more to say.
    Cut,
}

/// Ends our half, then reads on for a moment: closing a socket with unread bytes would reset it, and the
/// client might never read the answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(io: &mut ClientIo<S>) {
    if io.shutdown().await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES;
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = io.read(&mut buffer).await {
        left = left.saturating_sub(read);
        if read == 0 || left == 0 {
            return;
        }
    }
}

async fn serve_http2<S>(conn: Rc<ClientConn>, io: ClientIo<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let shared = Rc::clone(&conn.shared);
    // The target is one of the fields here.
    let fields = MAX_FIELD_BYTES + shared.worker.options.max_target.saturating_sub(MAX_TARGET);
    // Boxed where it begins: hyper hands it from hand to hand before it is spawned.
    let service = service_fn(move |request| Box::pin(proxy::handle(Rc::clone(&conn), request)));
    let mut connection = http2::Builder::new(StreamExecutor { worker: Rc::clone(&shared.worker) })
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(fields).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .serve_connection(TokioIo::new(io), service);
    let mut leaving = None;
    poll_fn(|cx| {
        shared.timers.register(cx);
        shared.request_timers.register(cx);
        if shared.request_timers.expired().is_some() {
            return Poll::Ready(());
        }
        let expired = shared.timers.expired().is_some();
        // A client that has not asked yet would take GOAWAY for a refusal, and meet the next one.
        let leaves = shared.timers.leaving().is_some() && shared.timers.phase() != Phase::FirstByte;
        if (expired || leaves) && leaving.is_none() {
            // GOAWAY, then a moment to take it.
            Pin::new(&mut connection).graceful_shutdown();
            leaving = Some(Box::pin(tokio::time::sleep(shared.worker.scaled(GOAWAY))));
        }
        // hyper waits for the answer to its closing ping, which a client need not give.
        if let Some(deadline) = &mut leaving
            && deadline.as_mut().poll(cx).is_ready()
            && (expired || !shared.timers.busy())
        {
            return Poll::Ready(());
        }
        Pin::new(&mut connection).poll(cx).map(drop)
    })
    .await;
}
