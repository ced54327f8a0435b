//! Short frames of HTTP/2 that have come together pass on as one.
//!
//! To pass a frame on costs more than to copy what a short one holds: a stream of messages would cost a frame for each.
//! Nothing is waited for: what has come is joined, and passes at once.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Data that is shorter is joined with what follows, bytes.
const SHORT: usize = 2 * 1024;
/// What a frame holds unless more was agreed on (RFC 9113 §4.2), bytes.
const FRAME: usize = 16 * 1024;

/// A body whose short frames are joined, if it comes over HTTP/2.
pub(crate) struct Joined<B: Body = Incoming> {
    body: B,
    is_http2: bool,
    /// Trailers, or why there is no more, that have come behind data which was passed on.
    behind: Option<Box<Result<HeaderMap, B::Error>>>,
}

impl<B: Body<Data = Bytes> + Unpin> Joined<B> {
    pub(crate) fn new(body: B, is_http2: bool) -> Self {
        Self { body, is_http2, behind: None }
    }

    /// Whether it comes over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// `last`, and what follows if that has come and is short, too.
    fn join(&mut self, mut last: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut joined = BytesMut::new();
        while last.len() < SHORT
            && joined.len() + last.len() + SHORT <= FRAME
            && !self.body.is_end_stream()
        {
            let Poll::Ready(Some(next)) = Pin::new(&mut self.body).poll_frame(cx) else { break };
            match next.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    joined.extend_from_slice(&last);
                    last = data;
                    continue;
                }
                Ok(Err(frame)) => {
                    self.behind = frame.into_trailers().ok().map(|fields| Box::new(Ok(fields)));
                }
                Err(error) => self.behind = Some(Box::new(Err(error))),
            }
            break;
        }
        if joined.is_empty() {
            return last;
        }
        joined.extend_from_slice(&last);
        joined.freeze()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Joined<B>
where
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(behind) = self.behind.take() {
            return Poll::Ready(Some(behind.map(Frame::trailers)));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if !self.is_http2 {
            return polled;
        }
        polled.map_ok(|frame| match frame.into_data() {
            Ok(data) => Frame::data(self.join(data, cx)),
            Err(frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.behind.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, task::Waker};

    use super::*;

    /// A body that has come so far; `None` among its parts: nothing more has come yet.
    struct Came(VecDeque<Option<Result<Frame<Bytes>, &'static str>>>);

    impl Body for Came {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.0.pop_front() {
                Some(None) => Poll::Pending,
                Some(Some(part)) => Poll::Ready(Some(part)),
                None => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn data(size: usize) -> Option<Result<Frame<Bytes>, &'static str>> {
        Some(Ok(Frame::data(vec![b'x'; size].into())))
    }

    /// What is passed on of a body: lengths of data, `-` where nothing has come, `trailers`, or a fault.
    fn passed(
        parts: impl IntoIterator<Item = Option<Result<Frame<Bytes>, &'static str>>>,
        is_http2: bool,
    ) -> String {
        let mut body = Joined::new(Came(parts.into_iter().collect()), is_http2);
        let mut cx = Context::from_waker(Waker::noop());
        let mut told = Vec::new();
        while !body.is_end_stream() {
            told.push(match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Pending => "-".to_owned(),
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(fault))) => fault.to_owned(),
                Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                    Some(data) => data.len().to_string(),
                    None => "trailers".to_owned(),
                },
            });
        }
        told.join(" ")
    }

    #[test]
    fn what_has_come_is_joined_and_nothing_is_waited_for() {
        assert_eq!(passed([data(10)], true), "10");
        assert_eq!(passed([data(10), data(5), data(7)], true), "22");
        // A poll that finds nothing is not the last word: hyper asks again when something has come.
        assert_eq!(passed([data(10), data(5), None, data(7)], true), "15 7");
        assert_eq!(passed([data(10), data(5), data(7)], false), "10 5 7");
    }

    #[test]
    fn long_data_is_the_last_that_is_joined_and_a_frame_is_not_outgrown() {
        assert_eq!(passed([data(10), data(SHORT), data(7)], true), format!("{} 7", 10 + SHORT));
        assert_eq!(passed([data(SHORT), data(7)], true), format!("{SHORT} 7"));
        assert_eq!(passed((0..20).map(|_| data(1000)), true), "15000 5000");
    }

    #[test]
    fn trailers_and_faults_come_behind_the_data() {
        let trailers = || Some(Ok(Frame::trailers(HeaderMap::new())));
        assert_eq!(passed([data(10), data(5), trailers()], true), "15 trailers");
        assert_eq!(passed([trailers()], true), "trailers");
        assert_eq!(passed([data(10), data(5), Some(Err("reset"))], true), "15 reset");
    }

    #[test]
    fn joined_data_is_the_same_bytes() {
        let parts = ["abc", "d", "efgh"].map(|text| Some(Ok(Frame::data(Bytes::from(text)))));
        let mut body = Joined::new(Came(parts.into_iter().collect()), true);
        let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = polled else { panic!() };
        assert_eq!(frame.into_data().unwrap(), "abcdefgh");
    }
}
