//! The body of a request on its way to the backend: counted, timed, never collected.

use std::{
    error::Error as StdError,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::TrySendError};

use crate::worker::{
    clock::Clock,
    timeouts::{BrokenOff, Expiry, RequestTimers},
};

/// Most bytes of trailers that are read before they are dropped.
const MAX_TRAILERS: usize = 8 * 1024;

/// What hyper makes of a request: an answer, or an error and the request if it was not sent.
pub(crate) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// A deadline passed.
    #[error("body ended by timeout ({0:?})")]
    Expired(Expiry),
    /// The other side broke it off.
    #[error("body broke off")]
    Broken(#[from] hyper::Error),
    /// More trailers than any client needs (P3).
    #[error("{0} bytes of trailers, the limit is {MAX_TRAILERS}")]
    Trailers(usize),
    /// More bytes than the rule allows.
    #[error("the body is larger than its rule allows")]
    TooLarge,
    /// What changes it on its way has failed.
    #[error("the body cannot be changed: {0}")]
    Transform(#[source] std::io::Error),
    /// The backend's connection ended before the body did.
    #[error("the backend closed the connection within the body")]
    Cut,
}

/// The body of a request, on its way to the backend. Trailers are dropped but where HTTP/2 is spoken (P3).
pub(crate) struct RequestBody {
    /// `None` once it was taken, and for a request that is sent again without one.
    incoming: Option<Incoming>,
    /// Bytes that may still come.
    left: u64,
    trailers: bool,
    timers: Rc<RequestTimers>,
    clock: Rc<Clock>,
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Option<Incoming>,
        timers: Rc<RequestTimers>,
        clock: Rc<Clock>,
    ) -> Self {
        Self { incoming, left: u64::MAX, trailers: false, timers, clock }
    }

    /// Lets so many bytes pass at most. False: there will be more, as the request says itself.
    pub(crate) fn limit(&mut self, bytes: u64) -> bool {
        self.left = bytes;
        self.size_hint().lower() <= bytes
    }

    /// Whether trailers pass on.
    pub(super) fn pass_trailers(&mut self, pass: bool) {
        self.trailers = pass;
    }

    /// The body itself, which leaves nothing here.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            incoming: self.incoming.take(),
            left: self.left,
            trailers: self.trailers,
            timers: Rc::clone(&self.timers),
            clock: Rc::clone(&self.clock),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(expiry) = self.timers.expired() {
            return Poll::Ready(Some(Err(BodyError::Expired(expiry).into())));
        }
        if self.timers.body_held() {
            // The one who lets it go polls the connection, and with it this body, again.
            return Poll::Pending;
        }
        loop {
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            match Pin::new(incoming).poll_frame(cx) {
                Poll::Pending => {
                    self.timers.body_awaited(self.clock.now());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let trailers = frame.trailers_ref().map_or(0, |trailers| {
                        trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
                    });
                    if trailers > MAX_TRAILERS {
                        self.timers.break_off(BrokenOff::ByClient);
                        return Poll::Ready(Some(Err(BodyError::Trailers(trailers).into())));
                    }
                    if let Some(data) = frame.data_ref() {
                        let Some(left) = self.left.checked_sub(data.len() as u64) else {
                            self.timers.break_off(BrokenOff::TooLarge);
                            return Poll::Ready(Some(Err(BodyError::TooLarge.into())));
                        };
                        self.left = left;
                        self.timers.body_received(data.len(), self.clock.now());
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    if self.trailers
                        && let Ok(trailers) = frame.into_trailers()
                    {
                        return Poll::Ready(Some(Ok(Frame::trailers(fit(trailers)))));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.timers.break_off(BrokenOff::ByClient);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    self.timers.body_over(self.clock.now());
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// Trailers without those that would mean something of the message itself (RFC 9110 §6.5.1).
pub(crate) fn fit(mut trailers: HeaderMap) -> HeaderMap {
    const NEVER: [HeaderName; 12] = [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::HOST,
        header::PROXY_AUTHORIZATION,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    for name in &NEVER {
        trailers.remove(name);
    }
    trailers
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.incoming.is_some() {
            self.timers.body_over(self.clock.now());
        }
    }
}
