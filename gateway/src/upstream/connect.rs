//! Opening a connection to an endpoint.

use std::{future::poll_fn, io, pin::pin, task::Poll};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    admin::metrics::Counter,
    http::error::ProxyErrorKind,
    upstream::{connection::Upstream, key::UpstreamKey},
    worker::{
        context::Worker,
        timeouts::{Expiry, RequestTimers},
    },
};

/// Most bytes of an answer's header block (P5).
const MAX_ANSWER_HEAD: usize = 256 * 1024;

/// What is read ahead of a backend: a whole head must fit.
const MAX_BUFFER: usize = MAX_ANSWER_HEAD + 16 * 1024;

/// Connects to an endpoint as the key says.
///
/// # Errors
/// `ConnectFailed` or `ConnectTimeout`; nothing of the request was sent, another endpoint may get it.
pub(crate) async fn connect(
    worker: &Worker,
    timers: &RequestTimers,
    key: UpstreamKey,
) -> Result<Upstream, ProxyErrorKind> {
    let address = key.address;
    timers.upstream_awaited(worker.now(), Expiry::Connect);
    let mut connecting = pin!(TcpStream::connect(address));
    let stream = poll_fn(|cx| {
        timers.register(cx);
        if timers.expired() == Some(Expiry::Connect) {
            return Poll::Ready(Err(ProxyErrorKind::ConnectTimeout));
        }
        connecting.as_mut().poll(cx).map_err(|error: io::Error| {
            tracing::debug!(%address, %error, "connect failed");
            ProxyErrorKind::ConnectFailed
        })
    })
    .await;
    timers.clear();
    let stream = stream.inspect_err(|_| worker.metrics().add(Counter::UpstreamConnectFailed))?;
    // An answer's head and body leave in one write; waiting for more would only add latency.
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_ANSWER_HEAD)
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| ProxyErrorKind::ConnectFailed)?;
    worker.metrics().add(Counter::UpstreamNew);
    Ok(Upstream::http1(key, sender, connection))
}
