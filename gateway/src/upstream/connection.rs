//! One connection to an endpoint, whatever is spoken on it.
//!
//! Its future is polled by the request that uses it, then by the body of the answer, not by a task of its own:
//! that saves two task switches per request.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    upstream::{
        interim::{Interim, Lookout, UpstreamIo},
        key::UpstreamKey,
        permit::Permit,
        request_body::RequestBody,
    },
    worker::clock::Tick,
};

/// What hyper makes of a request: an answer, or an error and the request if it was not sent.
pub(crate) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// hyper's side of a connection.
type Stream = Connection<TokioIo<UpstreamIo>, RequestBody>;

/// A connection to an endpoint.
pub(crate) enum Upstream {
    /// HTTP/1.1: one request at a time.
    Http1(Box<Http1>),
}

/// An HTTP/1.1 connection; 700 bytes that move between pool, request and body.
pub(crate) struct Http1 {
    key: UpstreamKey,
    sender: SendRequest<RequestBody>,
    connection: Stream,
    lookout: Rc<Lookout>,
    /// The connection's future is over; it must not be polled again.
    over: bool,
    idle_since: Tick,
    permit: Permit,
}

impl Upstream {
    pub(crate) fn http1(
        key: UpstreamKey,
        sender: SendRequest<RequestBody>,
        (connection, lookout): (Stream, Rc<Lookout>),
        permit: Permit,
    ) -> Self {
        let (over, idle_since) = (false, 0);
        Self::Http1(Box::new(Http1 { key, sender, connection, lookout, over, idle_since, permit }))
    }

    /// Which requests it may serve.
    pub(crate) fn key(&self) -> UpstreamKey {
        let Self::Http1(http1) = self;
        http1.key
    }

    /// Hands a request over. The caller drives the connection until the answer is there.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        let Self::Http1(http1) = self;
        http1.lookout.begin();
        http1.sender.try_send_request(request)
    }

    /// The next interim answer that has come.
    pub(crate) fn next_interim(&self) -> Option<Interim> {
        let Self::Http1(http1) = self;
        http1.lookout.next()
    }

    /// Moves bytes both ways; true while the connection lives.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Http1(http1) = self;
        if !http1.over {
            http1.over = matches!(Pin::new(&mut http1.connection).poll(cx), Poll::Ready(_));
        }
        !http1.over
    }

    /// True if the last exchange is complete in both directions and not a byte came unasked (P11).
    ///
    /// Polling without a waker also lets go of the task that used the connection last.
    pub(super) fn is_clean(&mut self) -> bool {
        let alive = self.drive(&mut Context::from_waker(Waker::noop()));
        let Self::Http1(http1) = self;
        alive && http1.sender.is_ready()
    }

    /// Notes that it idles from now on.
    pub(super) fn idles(&mut self, now: Tick) {
        let Self::Http1(http1) = self;
        http1.idle_since = now;
    }

    /// How long it has idled.
    pub(super) fn idle_for(&self, now: Tick) -> Tick {
        let Self::Http1(http1) = self;
        now.saturating_sub(http1.idle_since)
    }

    /// The bare stream of an upgraded connection, what was read of it already, and the right to it.
    pub(crate) fn into_stream(self) -> (TcpStream, Bytes, Permit) {
        let Self::Http1(http1) = self;
        let parts = http1.connection.into_parts();
        (parts.io.into_inner().into_stream(), parts.read_buf, http1.permit)
    }
}
