//! HTTP/2 connections to endpoints: one for many requests at a time.
//!
//! Such a connection is a task of its own, unlike one of HTTP/1.1, as no single request could drive it. The pool
//! keeps it for as long as it takes requests; each request holds a [`Stream`] of it.

use std::{
    cell::{Cell, RefCell},
    error::Error as _,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Instant,
};

use http::{HeaderName, HeaderValue, Request, Uri, header, uri};
use http_body::Body as _;
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::TokioIo;

use crate::{
    upstream::{
        flood::Flood,
        frames::{Counted, Due},
        key::UpstreamKey,
        permit::Permit,
        request_body::{RequestBody, Sent},
        stream::UpstreamStream,
    },
    worker::clock::Tick,
};

/// Requests at a time over one connection at most, if the endpoint does not allow fewer.
const MAX_STREAMS: usize = 100;
/// What an endpoint may send of one answer before its client takes it.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What it may send of all of them: no client that takes nothing holds up those of others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * (MAX_STREAMS as u32 + 28);
/// What of a request's body may wait for the endpoint.
const SEND_BUFFER: usize = 64 * 1024;
/// Most bytes of an answer's fields (P5).
const MAX_FIELDS: u32 = 256 * 1024;

static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A connection that requests share.
pub(super) struct Shared {
    key: UpstreamKey,
    sender: RefCell<http2::SendRequest<RequestBody>>,
    streams: Cell<usize>,
    /// As many as the endpoint allows.
    most: Cell<usize>,
    /// It takes no more requests.
    over: Cell<bool>,
    idle_since: Cell<Option<Tick>>,
    due: Rc<Due>,
    _permit: Permit,
}

/// One request's part of a connection.
pub(crate) struct Stream(Rc<Shared>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
    }
}

/// Begins to speak HTTP/2 on a stream.
pub(super) async fn begin(
    key: UpstreamKey,
    stream: UpstreamStream,
    permit: Permit,
) -> hyper::Result<Rc<Shared>> {
    let due = Rc::new(Due::since(Instant::now()));
    let stream = Counted::new(stream, Rc::clone(&due));
    let (sender, mut connection) = http2::Builder::new(LocalExecutor)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_FIELDS)
        .handshake(TokioIo::new(stream))
        .await?;
    let shared = Rc::new(Shared {
        key,
        sender: RefCell::new(sender),
        streams: Cell::new(0),
        most: Cell::new(MAX_STREAMS),
        over: Cell::new(false),
        idle_since: Cell::new(None),
        due,
        _permit: permit,
    });
    let weak = Rc::downgrade(&shared);
    tokio::task::spawn_local(poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        if let Some(shared) = weak.upgrade() {
            shared.most.set(connection.current_max_send_streams().min(MAX_STREAMS));
            if let Poll::Ready(result) = &polled {
                shared.over.set(true);
                if let Err(error) = result {
                    tracing::debug!(address = %shared.key.address, %error, "HTTP/2 connection ended");
                }
            }
        }
        polled.map(drop)
    }));
    Ok(shared)
}

impl Shared {
    pub(super) fn key(&self) -> UpstreamKey {
        self.key
    }

    /// A part of it for one more request, if it takes one.
    pub(super) fn stream(self: &Rc<Self>) -> Option<Stream> {
        if self.streams.get() >= self.most.get() || self.is_over() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        self.idle_since.set(None);
        Some(Stream(Rc::clone(self)))
    }

    /// Whether it takes no more requests.
    pub(super) fn is_over(&self) -> bool {
        self.over.get() || self.sender.borrow().is_closed()
    }

    /// Whether no request uses it.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Whether it is worth keeping: it takes requests, or has done so until `ttl` ago.
    pub(super) fn is_kept(&self, now: Tick, ttl: Tick) -> bool {
        if self.is_over() {
            return false;
        }
        if !self.is_idle() {
            return true;
        }
        let since = self.idle_since.get().unwrap_or(now);
        self.idle_since.set(Some(since));
        now.saturating_sub(since) < ttl
    }
}

impl Stream {
    pub(super) fn key(&self) -> UpstreamKey {
        self.0.key
    }

    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        self.0.due.request();
        self.0.sender.borrow_mut().try_send_request(request)
    }

    /// What the endpoint has sent too many of, if that has ended the connection.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.0.due.flood()
    }

    /// The connection gets no more requests: the endpoint may be gone without a word.
    pub(super) fn distrust(&self) {
        self.0.over.set(true);
    }
}

/// Whether the endpoint has said that it did nothing about a request (RFC 9113 §8.7), so that another one may get
/// it, whatever it asks for.
pub(crate) fn is_refused(error: &hyper::Error) -> bool {
    let reason = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    reason.is_some_and(|error| {
        error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Whether the endpoint takes a request over HTTP/1.1 alone (RFC 9113 §7): it has done nothing about it. IIS says so
/// where it authenticates connections.
pub(crate) fn asks_for_http1(error: &hyper::Error) -> bool {
    let reason = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    reason.is_some_and(|error| {
        error.is_remote() && error.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED)
    })
}

/// Makes of a request in the form of HTTP/1.1 one of HTTP/2 (RFC 9113 §8.3.1); one that has this form already, as
/// it goes to the next connection, keeps it.
pub(crate) fn to_http2(request: &mut Request<RequestBody>, tls: bool) {
    let scheme = if tls { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.and_then(|host| uri::Authority::from_maybe_shared(host).ok());
    let authority = authority.or_else(|| request.uri().authority().cloned());
    let mut parts = uri::Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Some(authority) = authority {
        parts.authority = Some(authority);
        parts.scheme = Some(scheme);
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    for name in [
        &header::CONNECTION,
        &header::TRANSFER_ENCODING,
        &header::UPGRADE,
        &header::EXPECT,
        &HTTP2_SETTINGS,
        &KEEP_ALIVE,
    ] {
        headers.remove(name);
    }
    // We take them, whether or not the client does.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    request.body_mut().pass_trailers(true);
}

/// Takes [`to_http2`] back, for a request that goes elsewhere.
pub(crate) fn to_http1(request: &mut Request<RequestBody>) {
    let Some(authority) = request.uri().authority() else { return };
    let host = HeaderValue::from_str(authority.as_str()).ok();
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let open = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    let headers = request.headers_mut();
    headers.remove(header::TE);
    if let Some(host) = host {
        headers.insert(header::HOST, host);
    }
    if open {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    request.body_mut().pass_trailers(false);
}

/// Runs the parts of a connection on the thread that it belongs to.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
