//! The body of a request on its way to the backend: counted, timed, and as a rule never collected.

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

use crate::{
    field_names::{HOPS, is_alike, is_forwarded},
    spool::{KeepError, Kept, Reader},
    upstream::{
        copies::{Copied, CopyError, Place, Tee},
        joined::Joined,
    },
    worker::{
        clock::Clock,
        timeouts::{BrokenOff, Expiry, RequestTimers},
    },
};

/// Most bytes of trailers that are read before they are dropped.
const MAX_TRAILERS: usize = 8 * 1024;

/// What hyper makes of a request: an answer, or an error and the request if it was not sent.
pub(crate) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// What comes of a body at one time.
type Part = Result<Frame<Bytes>, Box<dyn StdError + Send + Sync>>;

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
    /// What was kept of it cannot be read.
    #[error("the body cannot be read: {0}")]
    Kept(#[source] std::io::Error),
    /// What has come of it cannot be kept for its client.
    #[error("the body cannot be kept: {0}")]
    Unkept(#[source] KeepError),
    /// What changes it on its way has failed.
    #[error("the body cannot be changed: {0}")]
    Transform(#[source] std::io::Error),
    /// It is a copy, which is no longer made.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The backend's connection ended before the body did.
    #[error("the backend closed the connection within the body")]
    Cut,
}

/// The body of a request, on its way to the backend. Trailers are dropped but where HTTP/2 is spoken (P3).
pub(crate) struct RequestBody {
    source: Source,
    /// Tells a copy what passes.
    tee: Option<Box<Tee>>,
    /// Bytes that may still come.
    left: u64,
    trailers: bool,
    /// Fields that the backend gets of the gateway alone: no trailer has their names.
    withheld: Box<[HeaderName]>,
    timers: Rc<RequestTimers>,
    clock: Rc<Clock>,
}

/// Where a body comes from.
enum Source {
    /// It was taken, or the request is sent again without one.
    None,
    Client(Joined),
    /// It was read in whole.
    Kept(Reader),
    /// A body that passes on elsewhere, and the bytes that are still to come of it, if that is known.
    Copy(Copied, Option<u64>),
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Option<Joined>,
        timers: Rc<RequestTimers>,
        clock: Rc<Clock>,
    ) -> Self {
        Self::of(incoming.map_or(Source::None, Source::Client), timers, clock)
    }

    fn of(source: Source, timers: Rc<RequestTimers>, clock: Rc<Clock>) -> Self {
        let withheld = Box::default();
        Self { source, tee: None, left: u64::MAX, trailers: false, withheld, timers, clock }
    }

    /// A body that was read in whole, from its beginning.
    pub(crate) fn of_kept(kept: &Rc<Kept>, timers: Rc<RequestTimers>, clock: Rc<Clock>) -> Self {
        Self::of(Source::Kept(Reader::of(kept)), timers, clock)
    }

    /// From here on the body is what was read of it, in whole.
    pub(crate) fn keep(&mut self, kept: Kept) {
        self.source = Source::Kept(Reader::of(&Rc::new(kept)));
    }

    /// What was read of it, if that is all.
    pub(crate) fn kept(&self) -> Option<&Rc<Kept>> {
        match &self.source {
            Source::Kept(reader) => Some(reader.kept()),
            _ => None,
        }
    }

    /// A copy of what passes from here on.
    pub(crate) fn copied(
        &mut self,
        place: &Place,
        timers: Rc<RequestTimers>,
        clock: Rc<Clock>,
    ) -> Self {
        if let Some(kept) = self.kept() {
            return Self::of_kept(kept, timers, clock);
        }
        let (tee, copied) = place.channel();
        self.tee = Some(Box::new(tee));
        Self::of(Source::Copy(copied, self.size_hint().exact()), timers, clock)
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

    /// Trailers may not have these names, in any spelling.
    pub(crate) fn withhold<'n>(&mut self, names: impl Iterator<Item = &'n HeaderName>) {
        if !self.is_end_stream() {
            self.withheld = names.cloned().collect();
        }
    }

    /// The body itself, which leaves nothing here.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            source: std::mem::replace(&mut self.source, Source::None),
            tee: self.tee.take(),
            left: self.left,
            trailers: self.trailers,
            withheld: std::mem::take(&mut self.withheld),
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
            let incoming = match &mut self.source {
                Source::None => return Poll::Ready(None),
                Source::Client(incoming) => incoming,
                Source::Kept(_) => return self.poll_kept(cx),
                Source::Copy(..) => return self.poll_copy(cx),
            };
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
                        if let Some(tee) = &self.tee {
                            tee.pass(data);
                            if self.is_end_stream() {
                                tee.end();
                            }
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    if self.trailers
                        && let Ok(trailers) = frame.into_trailers()
                    {
                        let trailers = fit_for_backend(trailers, &self.withheld);
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.timers.break_off(BrokenOff::ByClient);
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    self.timers.body_over(self.clock.now());
                    if let Some(tee) = &self.tee {
                        tee.end();
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::None => true,
            Source::Client(incoming) => incoming.is_end_stream(),
            Source::Kept(reader) => reader.left() == 0,
            Source::Copy(copied, _) => copied.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::None => SizeHint::with_exact(0),
            Source::Client(incoming) => incoming.size_hint(),
            Source::Kept(reader) => SizeHint::with_exact(reader.left()),
            Source::Copy(_, left) => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl RequestBody {
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        let Source::Kept(reader) = &mut self.source else { return Poll::Ready(None) };
        reader.poll(cx).map(|part| match part {
            Some(Ok(part)) => {
                self.timers.body_taken(self.clock.now());
                Some(Ok(Frame::data(part)))
            }
            Some(Err(error)) => {
                self.timers.break_off(BrokenOff::Unread);
                Some(Err(BodyError::Kept(error).into()))
            }
            None => {
                self.timers.body_over(self.clock.now());
                None
            }
        })
    }

    fn poll_copy(&mut self, cx: &Context<'_>) -> Poll<Option<Part>> {
        let Source::Copy(copied, left) = &mut self.source else { return Poll::Ready(None) };
        copied.poll(cx).map(|part| match part {
            Some(Ok(part)) => {
                *left = left.map(|left| left.saturating_sub(part.len() as u64));
                self.timers.body_received(part.len(), self.clock.now());
                Some(Ok(Frame::data(part)))
            }
            Some(Err(error)) => {
                self.timers.break_off(BrokenOff::ByClient);
                Some(Err(BodyError::from(error).into()))
            }
            None => {
                self.timers.body_over(self.clock.now());
                None
            }
        })
    }
}

/// Trailers without those that would mean something of the message itself (RFC 9110 §6.5.1), in any spelling.
pub(crate) fn fit(mut trailers: HeaderMap) -> HeaderMap {
    const NEVER: [HeaderName; 21] = [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::HOST,
        header::MAX_FORWARDS,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::RANGE,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    remove(&mut trailers, |name| NEVER.iter().any(|never| is_alike(name, never.as_str())));
    trailers
}

/// Those of a request: what its head may not say they may not say either. A server that takes trailers for fields would
/// believe them.
fn fit_for_backend(trailers: HeaderMap, withheld: &[HeaderName]) -> HeaderMap {
    let mut trailers = fit(trailers);
    remove(&mut trailers, |name| {
        is_forwarded(name)
            || is_alike(name, HOPS)
            || is_alike(name, "proxy")
            || withheld.iter().any(|own| is_alike(name, own.as_str()))
    });
    trailers
}

fn remove(trailers: &mut HeaderMap, which: impl Fn(&str) -> bool) {
    while let Some(name) = trailers.keys().find(|name| which(name.as_str())).cloned() {
        trailers.remove(name);
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if matches!(self.source, Source::Client(_) | Source::Kept(_)) {
            self.timers.body_over(self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Which of these trailers reach a backend whose rule has these fields of its own.
    fn passed(names: &[&'static str], own: &[HeaderName]) -> Vec<String> {
        let fields = names.iter().map(|name| (HeaderName::from_static(name), "x"));
        let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let left = fit_for_backend(fields.collect(), own);
        left.keys().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn trailers_of_a_request_say_nothing_that_its_head_may_not_say() {
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_proto",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x-request-id",
            "ssl-client-verify",
            "ssl_client_subject_dn",
            "x-ssl-client-cn",
            "client-cert",
            "x_forwarded_client_cert",
            "gatehouse-hops",
            "gatehouse_hops",
            "content_length",
            "transfer_encoding",
            "proxy",
            "proxy_connection",
            "authorization",
            "cookie",
            "host",
            "x-tenant",
            "x_tenant",
            "x-auth_user",
        ] {
            let own = [HeaderName::from_static("x-tenant"), HeaderName::from_static("x_auth_user")];
            assert_eq!(passed(&[name, "x-sum"], &own), ["x-sum"], "{name}");
        }
        for name in ["x-sum", "grpc-status", "x-tenant", "x_sum", "server-timing"] {
            assert_eq!(passed(&[name], &[]), [name]);
        }
    }

    #[test]
    fn trailers_of_an_answer_may_have_the_names_that_only_requests_are_judged_by() {
        let mut trailers = HeaderMap::new();
        for name in ["x-request-id", "grpc-status", "set-cookie", "content_length"] {
            trailers.insert(name, HeaderValue::from_static("x"));
        }
        assert_eq!(fit(trailers).keys().collect::<Vec<_>>(), ["x-request-id", "grpc-status"]);
    }
}
