//! Reads away an answer that no client gets, so that its connection serves the next request.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use http_body::Body as _;
use hyper::body::Incoming;

use crate::{
    upstream::{connection::Upstream, pool::Pool},
    worker::context::Worker,
};

/// Reads what is left of an answer, so many bytes and for so long at most; then its connection is closed.
pub(crate) async fn discard(
    (worker, pool): (&Worker, &Pool),
    (body, upstream): (Incoming, Upstream),
    (bytes, time): (usize, Duration),
) {
    let read = read(body, upstream, bytes);
    if let Ok(Some(upstream)) = tokio::time::timeout(worker.scaled(time), read).await {
        pool.checkin(upstream, worker.now());
    }
}

async fn read(mut body: Incoming, mut upstream: Upstream, mut left: usize) -> Option<Upstream> {
    while !body.is_end_stream() {
        let frame = poll_fn(|cx| {
            // Let the connection read before and after the look: what it has read wakes nobody.
            upstream.drive(cx);
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Pending if upstream.drive(cx) => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
                ready => ready,
            }
        });
        match frame.await {
            None => break,
            Some(Err(_)) => return None,
            Some(Ok(frame)) => {
                left = left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len))?;
            }
        }
    }
    Some(upstream)
}
