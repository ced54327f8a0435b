//! The body of an answer on its way to the client: counted, timed, never collected.

use std::{
    error::Error as StdError,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    http::{client::ClientConn, record::Record, request_body::BodyError},
    upstream::pool::Upstream,
    worker::timeouts::Expiry,
};

/// The body of an answer, on its way to the client. Trailers are dropped.
///
/// Whatever becomes of it, dropping it ends the request: counts and the log line are written.
pub(crate) struct ResponseBody {
    source: Source,
    record: Option<Box<Record>>,
}

enum Source {
    Empty,
    Full(Bytes),
    Upstream { incoming: Incoming, upstream: Option<Box<Upstream>> },
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
    pub(crate) fn upstream(incoming: Incoming, upstream: Box<Upstream>, record: &Record) -> Self {
        let mut body =
            Self { source: Source::Upstream { incoming, upstream: Some(upstream) }, record: None };
        if body.is_end_stream() {
            body.give_back(&record.conn);
            body.source = Source::Empty;
        }
        body
    }

    /// Ties the end of the request to the end of this body.
    pub(crate) fn finishes(&mut self, record: Box<Record>) {
        self.record = Some(record);
    }

    /// The answer is complete: its connection may serve the next request.
    fn give_back(&mut self, conn: &ClientConn) {
        if let Source::Upstream { upstream, .. } = &mut self.source
            && let Some(upstream) = upstream.take()
        {
            conn.upstreams.pool.checkin(upstream, conn.shared.worker.now());
        }
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let (Source::Upstream { incoming, upstream }, Some(record)) =
            (&mut self.source, &self.record)
        else {
            return Poll::Ready(None);
        };
        if let Some(expiry) = record.timers.expired() {
            return Poll::Ready(Some(Err(BodyError::Expired(expiry))));
        }
        let mut alive = None;
        loop {
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
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
            Source::Upstream { .. } => (),
        }
        let polled = this.poll_upstream(cx);
        let ended = this.is_end_stream();
        let Some(record) = &mut this.record else { return Poll::Ready(None) };
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
                    record.complete();
                    this.give_back(&conn);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                record.cut(&error);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                record.complete();
                this.give_back(&conn);
                this.source = Source::Empty;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(text) => text.is_empty(),
            Source::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}
