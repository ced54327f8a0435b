//! The body of an answer on its way to the client: counted, timed, never collected.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use gatehouse_routes::filter::Pace as Rate;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

mod buffered;
mod pace;

use buffered::Buffered;
pub(crate) use buffered::Plan;
use pace::Pace;

use crate::{
    http::{client::ClientConn, record::Record},
    upstream::{
        connection::Upstream,
        joined::Joined,
        request_body::{BodyError, fit},
    },
    worker::timeouts::{Expiry, RequestTimers},
};

/// The body of an answer, on its way to the client. Trailers pass where the backend speaks HTTP/2.
///
/// Whatever becomes of it, dropping it ends the request: counts and the log line are written.
pub(crate) struct ResponseBody {
    source: Source,
    record: Option<Box<Record>>,
}

/// Most bytes that are read for the sake of the connection that they come over.
const MAX_DISCARD: usize = 64 * 1024;

enum Source {
    Empty,
    Full(Bytes),
    Upstream {
        incoming: Joined,
        upstream: Option<Upstream>,
        /// They have come, and are due once the data is through.
        trailers: Option<Box<HeaderMap>>,
    },
    /// Boxed, so that bodies that pass through unchanged pay nothing for it.
    Transformed(Box<Transformed>),
    /// Leaves no faster than its rule says.
    Paced(Box<Paced>),
    /// Comes no slower than its backend gives it.
    Buffered(Box<Buffered>),
}

/// Changes a body on its way: what a filter puts on an answer. The filter also takes off the fields of the
/// answer's head that are no longer true, such as its length.
pub(crate) trait BodyTransform {
    /// What becomes of the next part; empty: nothing is to be sent yet.
    fn part(&mut self, part: Bytes) -> io::Result<Bytes>;

    /// What is to be sent of what was held back, as nothing more has come yet; empty: nothing.
    fn pause(&mut self) -> io::Result<Bytes>;

    /// What is left to send once the last part has come; empty: nothing.
    fn end(&mut self) -> io::Result<Bytes>;
}

struct Paced {
    source: Source,
    pace: Pace,
}

struct Transformed {
    source: Source,
    /// `None` once the end has been asked for.
    transform: Option<Box<dyn BodyTransform>>,
}

impl ResponseBody {
    /// No body at all.
    pub(crate) fn empty() -> Self {
        Self { source: Source::Empty, record: None }
    }

    /// A short text of our own.
    pub(crate) fn full(text: Bytes) -> Self {
        Self { source: Source::Full(text), record: None }
    }

    /// The body of a backend's answer and the connection that it comes over.
    pub(crate) fn upstream(incoming: Incoming, upstream: Upstream, record: &Record) -> Self {
        let incoming = Joined::new(incoming, upstream.is_http2());
        let mut body = Self {
            source: Source::Upstream { incoming, upstream: Some(upstream), trailers: None },
            record: None,
        };
        if body.is_end_stream() {
            body.give_back(&record.conn);
            body.source = Source::Empty;
        }
        body
    }

    /// Takes what is to come from the backend whatever the client takes.
    pub(crate) fn buffer(&mut self, plan: Plan) {
        if !self.source.is_end() {
            let source = std::mem::replace(&mut self.source, Source::Empty);
            self.source = Source::Buffered(Box::new(Buffered::new(source, plan)));
        }
    }

    /// Changes what is to come; a later transform works on what an earlier one gave. An answer without a
    /// body (to HEAD, 304) stays without one.
    pub(crate) fn transform(&mut self, transform: Box<dyn BodyTransform>) {
        if self.source.is_end() {
            return;
        }
        let source = std::mem::replace(&mut self.source, Source::Empty);
        self.source =
            Source::Transformed(Box::new(Transformed { source, transform: Some(transform) }));
    }

    /// Lets what is to come leave no faster than this, whatever it becomes.
    pub(crate) fn pace(&mut self, rate: Rate) {
        if !self.source.is_end() {
            let source = std::mem::replace(&mut self.source, Source::Empty);
            self.source = Source::Paced(Box::new(Paced { source, pace: Pace::new(rate) }));
        }
    }

    /// Lets go of a body that no client gets. Where the rest of it is there already, its connection may serve the
    /// next request.
    pub(crate) fn discard(mut self, record: &Record) {
        if let Source::Buffered(buffered) = &mut self.source {
            // It waits for nobody.
            self.source = std::mem::replace(&mut buffered.source, Source::Empty);
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut left = MAX_DISCARD;
        loop {
            match self.source.poll(&mut cx, &record.timers) {
                Poll::Ready(Some(Ok(data))) if data.len() <= left => left -= data.len(),
                Poll::Ready(None) => return self.give_back(&record.conn),
                _ => return,
            }
        }
    }

    /// Ties the end of the request to the end of this body.
    pub(crate) fn finishes(&mut self, record: Box<Record>) {
        self.record = Some(record);
    }

    /// The answer is complete: its connection may serve the next request.
    fn give_back(&mut self, conn: &ClientConn) {
        if let Some(upstream) = self.source.take_upstream() {
            conn.checkin(upstream);
        }
    }
}

/// The next part of a body, its end, or why there is none.
type Polled = Poll<Option<Result<Bytes, BodyError>>>;

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>, timers: &RequestTimers) -> Polled {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => match std::mem::replace(self, Self::Empty) {
                Self::Full(text) => Poll::Ready(Some(Ok(text))),
                _ => Poll::Ready(None),
            },
            Self::Upstream { incoming, upstream, trailers } => {
                poll_upstream(incoming, (upstream.as_mut(), trailers), cx, timers)
            }
            Self::Transformed(transformed) => transformed.poll(cx, timers),
            Self::Paced(paced) => paced.poll(cx, timers),
            Self::Buffered(buffered) => buffered.poll(cx, timers),
        }
    }

    fn take_upstream(&mut self) -> Option<Upstream> {
        match self {
            Self::Empty | Self::Full(_) => None,
            Self::Upstream { upstream, .. } => upstream.take(),
            Self::Transformed(transformed) => transformed.source.take_upstream(),
            Self::Paced(paced) => paced.source.take_upstream(),
            Self::Buffered(buffered) => buffered.source.take_upstream(),
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Empty | Self::Full(_) => None,
            Self::Upstream { trailers, .. } => trailers.take().map(|trailers| *trailers),
            Self::Transformed(transformed) => transformed.source.take_trailers(),
            Self::Paced(paced) => paced.source.take_trailers(),
            Self::Buffered(buffered) => buffered.take_trailers(),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(text) => text.is_empty(),
            Self::Upstream { incoming, trailers, .. } => {
                trailers.is_none() && incoming.is_end_stream()
            }
            Self::Transformed(transformed) => transformed.transform.is_none(),
            Self::Paced(paced) => !paced.pace.holds() && paced.source.is_end(),
            Self::Buffered(buffered) => buffered.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(text) => SizeHint::with_exact(text.len() as u64),
            Self::Upstream { incoming, .. } => incoming.size_hint(),
            Self::Transformed(_) => SizeHint::default(),
            Self::Paced(paced) if paced.pace.holds() => SizeHint::default(),
            Self::Paced(paced) => paced.source.size_hint(),
            Self::Buffered(buffered) => buffered.size_hint(),
        }
    }
}

impl Transformed {
    fn poll(&mut self, cx: &mut Context<'_>, timers: &RequestTimers) -> Polled {
        while let Some(transform) = &mut self.transform {
            let part = match self.source.poll(cx, timers) {
                Poll::Ready(Some(Ok(part))) => transform.part(part),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    let rest = transform.end();
                    self.transform = None;
                    rest
                }
                Poll::Pending => match transform.pause() {
                    Ok(held) if held.is_empty() => return Poll::Pending,
                    held => held,
                },
            };
            match part {
                Ok(part) if part.is_empty() => {}
                Ok(part) => return Poll::Ready(Some(Ok(part))),
                Err(error) => return Poll::Ready(Some(Err(BodyError::Transform(error)))),
            }
        }
        Poll::Ready(None)
    }
}

impl Paced {
    fn poll(&mut self, cx: &mut Context<'_>, timers: &RequestTimers) -> Polled {
        while !self.pace.holds() {
            match std::task::ready!(self.source.poll(cx, timers)) {
                Some(Ok(part)) => self.pace.take_in(part),
                other => return Poll::Ready(other),
            }
        }
        self.pace.poll(cx).map(|part| Some(Ok(part)))
    }
}

fn poll_upstream(
    incoming: &mut Joined,
    (mut upstream, trailers): (Option<&mut Upstream>, &mut Option<Box<HeaderMap>>),
    cx: &mut Context<'_>,
    timers: &RequestTimers,
) -> Polled {
    if let Some(expiry) = timers.expired() {
        return Poll::Ready(Some(Err(BodyError::Expired(expiry))));
    }
    let mut alive = None;
    loop {
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(frame) if upstream.as_ref().is_some_and(|on| on.is_http2()) => {
                        *trailers = frame.into_trailers().ok().map(|it| Box::new(fit(it)));
                    }
                    // No client of HTTP/1.1 has been told to expect any.
                    Err(_) => {}
                }
            }
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(BodyError::Broken(error))));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => match alive {
                // Nothing there yet: let the connection read, then look once more.
                None => alive = Some(upstream.as_mut().is_some_and(|on| on.drive(cx))),
                Some(true) => return Poll::Pending,
                Some(false) => return Poll::Ready(Some(Err(BodyError::Cut))),
            },
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::Full(text) => {
                let text = std::mem::take(text);
                this.source = Source::Empty;
                if let Some(record) = &mut this.record {
                    record.sent(text.len());
                }
                return Poll::Ready(Some(Ok(Frame::data(text))));
            }
            Source::Upstream { .. }
            | Source::Transformed(_)
            | Source::Paced(_)
            | Source::Buffered(_) => (),
        }
        let Some(record) = &mut this.record else { return Poll::Ready(None) };
        let polled = this.source.poll(cx, &record.timers);
        let ended = this.source.is_end();
        let conn = Rc::clone(&record.conn);
        match polled {
            Poll::Pending => {
                record.timers.answer_taken();
                record.timers.upstream_awaited(conn.shared.worker.now(), Expiry::Upstream);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(data))) => {
                record.timers.upstream_delivered();
                record.timers.answer_taken();
                record.timers.answer_offered(conn.shared.worker.now());
                record.sent(data.len());
                if ended {
                    this.give_back(&conn);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                record.cut(&error);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                let trailers = this.source.take_trailers();
                this.give_back(&conn);
                this.source = Source::Empty;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds a body back and gives it in brackets.
    struct Bracket(Vec<u8>);

    impl Bracket {
        fn boxed() -> Box<dyn BodyTransform> {
            Box::new(Self(b"[".to_vec()))
        }
    }

    impl BodyTransform for Bracket {
        fn part(&mut self, part: Bytes) -> io::Result<Bytes> {
            self.0.extend_from_slice(&part);
            Ok(Bytes::new())
        }

        fn pause(&mut self) -> io::Result<Bytes> {
            Ok(Bytes::new())
        }

        fn end(&mut self) -> io::Result<Bytes> {
            self.0.push(b']');
            Ok(std::mem::take(&mut self.0).into())
        }
    }

    /// Lets everything pass in capitals.
    struct Capitals;

    impl BodyTransform for Capitals {
        fn part(&mut self, part: Bytes) -> io::Result<Bytes> {
            Ok(part.to_ascii_uppercase().into())
        }

        fn pause(&mut self) -> io::Result<Bytes> {
            Ok(Bytes::new())
        }

        fn end(&mut self) -> io::Result<Bytes> {
            Ok(Bytes::new())
        }
    }

    fn parts(body: &mut ResponseBody) -> Vec<Bytes> {
        let timers = RequestTimers::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut parts = Vec::new();
        while let Poll::Ready(Some(part)) = body.source.poll(&mut cx, &timers) {
            parts.push(part.unwrap());
        }
        parts
    }

    #[test]
    fn transforms_work_one_after_the_other_and_may_hold_back_what_they_get() {
        let mut body = ResponseBody::full(Bytes::from_static(b"text"));
        body.transform(Bracket::boxed());
        body.transform(Box::new(Capitals));
        body.transform(Bracket::boxed());
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(parts(&mut body), ["[[TEXT]]"]);
        assert!(body.is_end_stream());
    }

    #[test]
    fn what_passes_at_once_ends_with_the_body() {
        let mut body = ResponseBody::full(Bytes::from_static(b"text"));
        body.transform(Box::new(Capitals));
        assert_eq!(parts(&mut body), ["TEXT"]);
        assert!(body.is_end_stream());
    }

    #[test]
    fn an_answer_without_a_body_gets_none() {
        let mut body = ResponseBody::empty();
        body.transform(Bracket::boxed());
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }
}
