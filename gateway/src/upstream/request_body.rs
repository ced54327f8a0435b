//! The body of a request on its way to the backend: counted, timed, and as a rule never collected. Of one that goes to an
//! HTTP/2 endpoint a short beginning is [remembered](super::remembered); what no backend reads of an HTTP/2 client's short
//! body is read away.

use std::{
    error::Error as StdError,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
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
        remembered::Remembered,
    },
    worker::{
        clock::Clock,
        timeouts::{BrokenOff, Expiry, RequestTimers},
    },
};

/// Most bytes of trailers that are read before they are dropped.
const MAX_TRAILERS: usize = 8 * 1024;

/// An HTTP/2 client that has its answer may send the rest of a short body for so long, and so many bytes: those that it
/// sends unasked. A reset, which a longer body gets (RFC 9113 §8.1), some clients take for the loss of the answer (curl 7).
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: u64 = 64 * 1024;

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
    Client(Passing),
    /// As that, with what has passed remembered. The number is the turn of this reader.
    Remembered(Rc<Remembered<Passing>>, u32),
    /// It was read in whole.
    Kept(Reader),
    /// A body that passes on elsewhere, and the bytes that are still to come of it, if that is known.
    Copy(Copied, Option<u64>),
}

/// A body that comes from the client.
struct Passing {
    incoming: Joined,
    /// Tells a copy what passes.
    tee: Option<Box<Tee>>,
    /// Bytes that may still come.
    left: u64,
}

impl Passing {
    /// The next part, of which the timers are told.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (timers, clock): (&RequestTimers, &Clock),
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => {
                timers.body_awaited(clock.now());
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                timers.break_off(BrokenOff::ByClient);
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(None) => {
                timers.body_over(clock.now());
                self.end();
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                timers.break_off(BrokenOff::TooLarge);
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            self.left = left;
            timers.body_received(data.len(), clock.now());
            if let Some(tee) = &self.tee {
                tee.pass(data);
            }
            if self.incoming.is_end_stream() {
                self.end();
            }
        }
        if let Some(trailers) = frame.trailers_ref() {
            let bytes =
                trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            if bytes > MAX_TRAILERS {
                timers.break_off(BrokenOff::ByClient);
                return Poll::Ready(Some(Err(BodyError::Trailers(bytes))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// All has passed.
    fn end(&self) {
        if let Some(tee) = &self.tee {
            tee.end();
        }
    }
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Option<Joined>,
        timers: Rc<RequestTimers>,
        clock: Rc<Clock>,
    ) -> Self {
        let passing = |incoming| Source::Client(Passing { incoming, tee: None, left: u64::MAX });
        Self::of(incoming.map_or(Source::None, passing), timers, clock)
    }

    fn of(source: Source, timers: Rc<RequestTimers>, clock: Rc<Clock>) -> Self {
        Self { source, trailers: false, withheld: Box::default(), timers, clock }
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
        if let Source::Client(passing) = &mut self.source {
            passing.tee = Some(Box::new(tee));
        } else {
            tee.end();
        }
        Self::of(Source::Copy(copied, self.size_hint().exact()), timers, clock)
    }

    /// What passes of a client's body from here on is remembered, as far as it is short; the body for a request that is sent
    /// again, if [`begin_again`](Self::begin_again) finds that it can be.
    pub(crate) fn remember(&mut self) -> Option<Self> {
        let (remembered, turn) = match std::mem::replace(&mut self.source, Source::None) {
            Source::Client(passing) => (Rc::new(Remembered::new(passing)), 0),
            Source::Remembered(remembered, turn) => (remembered, turn),
            other => {
                self.source = other;
                return None;
            }
        };
        self.source = Source::Remembered(Rc::clone(&remembered), turn);
        let withheld = self.withheld.clone();
        let (timers, clock) = (Rc::clone(&self.timers), Rc::clone(&self.clock));
        let source = Source::Remembered(remembered, turn + 1);
        Some(Self { source, trailers: self.trailers, withheld, timers, clock })
    }

    /// Takes the place of the one that passed before. False: that has passed more than is remembered.
    pub(crate) fn begin_again(&self) -> bool {
        match &self.source {
            Source::Remembered(remembered, turn) => remembered.begin(*turn),
            _ => false,
        }
    }

    /// Lets so many bytes pass at most. False: there will be more, as the request says itself.
    pub(crate) fn limit(&mut self, bytes: u64) -> bool {
        if let Source::Client(passing) = &mut self.source {
            passing.left = bytes;
        }
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(expiry) = this.timers.expired() {
            return Poll::Ready(Some(Err(BodyError::Expired(expiry).into())));
        }
        if this.timers.body_held() {
            // The one who lets it go polls the connection, and with it this body, again.
            return Poll::Pending;
        }
        loop {
            let polled = match &mut this.source {
                Source::None => return Poll::Ready(None),
                Source::Client(passing) => passing.poll(cx, (&this.timers, &this.clock)),
                Source::Remembered(remembered, turn) => {
                    if !remembered.is_turn(*turn) {
                        return Poll::Ready(None);
                    }
                    if let Some(part) = remembered.passed() {
                        this.timers.body_taken(this.clock.now());
                        return Poll::Ready(Some(Ok(Frame::data(part))));
                    }
                    let polled =
                        remembered.poll(cx, |body, cx| body.poll(cx, (&this.timers, &this.clock)));
                    if let Poll::Ready(Some(Ok(frame))) = &polled {
                        match frame.data_ref() {
                            Some(data) => remembered.remember(data),
                            None => remembered.forget(),
                        }
                    }
                    polled
                }
                Source::Kept(_) => return this.poll_kept(cx),
                Source::Copy(..) => return this.poll_copy(cx),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if this.trailers
                        && let Ok(trailers) = frame.into_trailers()
                    {
                        let trailers = fit_for_backend(trailers, &this.withheld);
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::None => true,
            Source::Client(passing) => passing.incoming.is_end_stream(),
            Source::Remembered(remembered, turn) => {
                !remembered.is_turn(*turn)
                    || remembered.left() == 0
                        && remembered.ask(|passing| passing.incoming.is_end_stream())
            }
            Source::Kept(reader) => reader.left() == 0,
            Source::Copy(copied, _) => copied.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::None => SizeHint::with_exact(0),
            Source::Client(passing) => passing.incoming.size_hint(),
            Source::Remembered(remembered, _) => {
                let hint = remembered.ask(|passing| passing.incoming.size_hint());
                match hint.exact() {
                    Some(exact) => SizeHint::with_exact(exact + remembered.left()),
                    None => SizeHint::default(),
                }
            }
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
        let (had_the_word, passing) = match std::mem::replace(&mut self.source, Source::None) {
            Source::Client(passing) => (true, Some(passing)),
            Source::Kept(_) => (true, None),
            Source::Remembered(remembered, turn) => {
                let had_the_word = remembered.is_turn(turn);
                (had_the_word, Rc::into_inner(remembered).map(Remembered::into_body))
            }
            Source::None | Source::Copy(..) => return,
        };
        if had_the_word {
            self.timers.body_over(self.clock.now());
        }
        if let Some(passing) = passing {
            linger(passing);
        }
    }
}

/// Reads away what is left of a body.
fn linger(Passing { mut incoming, .. }: Passing) {
    let short = incoming.size_hint().lower() <= LINGER_BYTES;
    if !incoming.is_http2() || incoming.is_end_stream() || !short {
        return;
    }
    let read = async move {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            if left == 0 {
                return;
            }
        }
    };
    tokio::task::spawn_local(tokio::time::timeout(LINGER, read));
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
