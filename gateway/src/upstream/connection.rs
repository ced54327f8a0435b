//! One connection to an endpoint, whatever is spoken on it.
//!
//! The future of one of HTTP/1.1 is polled by the request that uses it, then by the body of the answer, not by a task
//! of its own: that saves two task switches per request.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, Request, header};
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;

use crate::{
    upstream::{
        flood::Flood,
        h2::Stream as Http2,
        interim::{Interim, Lookout, UpstreamIo},
        key::UpstreamKey,
        permit::Permit,
        request_body::{RequestBody, Sent},
        stream::UpstreamStream,
    },
    worker::clock::Tick,
};

/// Schemes that authenticate a connection, not a request.
const SCHEMES: [&str; 3] = ["NTLM", "Negotiate", "Nego2"];

/// hyper's side of a connection.
type Stream = Connection<TokioIo<UpstreamIo>, RequestBody>;

/// A connection to an endpoint.
pub(crate) enum Upstream {
    /// HTTP/1.1: one request at a time.
    Http1(Box<Http1>),
    /// HTTP/2: a part of a connection that other requests use, too.
    Http2(Http2),
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
    /// It has carried what authenticates a connection.
    bound: bool,
    permit: Permit,
}

impl Upstream {
    pub(crate) fn http1(
        key: UpstreamKey,
        sender: SendRequest<RequestBody>,
        (connection, lookout): (Stream, Rc<Lookout>),
        permit: Permit,
    ) -> Self {
        Self::Http1(Box::new(Http1 {
            key,
            sender,
            connection,
            lookout,
            over: false,
            idle_since: 0,
            bound: false,
            permit,
        }))
    }

    /// Which requests it may serve.
    pub(crate) fn key(&self) -> UpstreamKey {
        match self {
            Self::Http1(http1) => http1.key,
            Self::Http2(stream) => stream.key(),
        }
    }

    /// Whether HTTP/2 is spoken.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Whether it serves one client connection and no other.
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self, Self::Http1(http1) if http1.bound)
    }

    /// Hands a request over. The caller drives the connection until the answer is there.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        match self {
            Self::Http1(http1) => {
                http1.lookout.begin();
                http1.bound |= authenticates(request.headers());
                Either::Left(http1.sender.try_send_request(request))
            }
            Self::Http2(stream) => Either::Right(stream.send(request)),
        }
    }

    /// The next interim answer that has come.
    pub(crate) fn next_interim(&self) -> Option<Interim> {
        match self {
            Self::Http1(http1) => http1.lookout.next(),
            Self::Http2(_) => None,
        }
    }

    /// Moves bytes both ways; true while the connection lives. One of HTTP/2 moves by itself, and its end is that of
    /// all its streams.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Http1(http1) = self else { return true };
        if !http1.over {
            http1.over = matches!(Pin::new(&mut http1.connection).poll(cx), Poll::Ready(_));
        }
        !http1.over
    }

    /// True if the last exchange is complete in both directions, in HTTP/1.1, and not a byte came unasked (P11).
    ///
    /// Polling without a waker also lets go of the task that used the connection last.
    pub(super) fn is_clean(&mut self) -> bool {
        let alive = self.drive(&mut Context::from_waker(Waker::noop()));
        let Self::Http1(http1) = self else { return false };
        alive && http1.sender.is_ready() && !http1.lookout.is_last()
    }

    /// Notes that it idles from now on.
    pub(super) fn idles(&mut self, now: Tick) {
        let Self::Http1(http1) = self else { return };
        http1.idle_since = now;
    }

    /// How long it has idled.
    pub(super) fn idle_for(&self, now: Tick) -> Tick {
        let Self::Http1(http1) = self else { return 0 };
        now.saturating_sub(http1.idle_since)
    }

    /// An answer did not come in time. A connection of HTTP/2 gets no more requests then: its endpoint may be gone.
    pub(crate) fn timed_out(&self) {
        if let Self::Http2(stream) = self {
            stream.distrust();
        }
    }

    /// What the endpoint has sent too many of, if an exchange has failed of that.
    pub(crate) fn flood(&self, error: &hyper::Error) -> Option<Flood> {
        match self {
            Self::Http1(_) => Flood::cause_of(error),
            Self::Http2(stream) => stream.flood(),
        }
    }

    /// The bare stream of an upgraded connection, what was read of it already, and the right to it; `None` of
    /// HTTP/2, which upgrades nothing.
    pub(crate) fn into_stream(self) -> Option<(UpstreamStream, Bytes, Permit)> {
        let Self::Http1(http1) = self else { return None };
        let parts = http1.connection.into_parts();
        Some((parts.io.into_inner().into_stream(), parts.read_buf, http1.permit))
    }
}

/// Whether a request tells its connection whose it is.
pub(crate) fn authenticates(headers: &HeaderMap) -> bool {
    headers.get_all(header::AUTHORIZATION).iter().any(|value| {
        // Servers take a tab for the space that belongs there.
        let mut words = value.as_bytes().split(u8::is_ascii_whitespace);
        let scheme = words.next().unwrap_or_default();
        SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ntlm_and_negotiate_authenticate_a_connection_and_other_schemes_a_request() {
        for (value, does) in [
            ("NTLM TlRMTVNTUAAB", true),
            ("ntlm\tTlRMTVNTUAAB", true),
            ("Negotiate YII", true),
            ("NEGOTIATE", true),
            ("Nego2 YII", true),
            ("Basic TlRMTQ==", false),
            ("Bearer NTLM", false),
            ("NTLMx a", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(header::AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(authenticates(&headers), does, "{value}");
        }
        assert!(!authenticates(&HeaderMap::new()));
    }
}
