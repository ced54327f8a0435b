//! Opening a connection to an endpoint, for a request or as a trial.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use gatehouse_routes::stats::EndpointStats;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    admin::metrics::Counter,
    http::error::ProxyErrorKind,
    upstream::{connection::Upstream, health, key::UpstreamKey},
    worker::{
        clock::Tick,
        context::Worker,
        timeouts::{Expiry, RequestTimers},
    },
};

/// Most bytes of an answer's header block (P5).
const MAX_ANSWER_HEAD: usize = 256 * 1024;

/// What is read ahead of a backend: a whole head must fit.
const MAX_BUFFER: usize = MAX_ANSWER_HEAD + 16 * 1024;

/// Connects to an endpoint as the key says. How it went is noted in `stats`.
///
/// # Errors
/// `ConnectFailed` or `ConnectTimeout`; nothing of the request was sent, another endpoint may get it.
pub(crate) async fn connect(
    worker: &Worker,
    timers: &RequestTimers,
    key: UpstreamKey,
    stats: Option<&EndpointStats>,
) -> Result<Upstream, ProxyErrorKind> {
    let address = key.address;
    timers.upstream_awaited(worker.now(), Expiry::Connect);
    let mut connecting = pin!(TcpStream::connect(address));
    let connected = poll_fn(|cx| {
        timers.register(cx);
        if timers.expired() == Some(Expiry::Connect) {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        connecting.as_mut().poll(cx)
    })
    .await;
    timers.clear();
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%address, %error, "connect failed");
            worker.metrics().add(Counter::UpstreamConnectFailed);
            if let Some(stats) = stats {
                failed(worker, address, stats, &error);
            }
            return Err(match error.kind() {
                ErrorKind::TimedOut => ProxyErrorKind::ConnectTimeout,
                _ => ProxyErrorKind::ConnectFailed,
            });
        }
    };
    if let Some(stats) = stats {
        succeeded(address, stats);
    }
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

/// Sees whether an ejected endpoint accepts a connection again; no request waits for it. The trial is the
/// caller's to make ([`health::takes_trial`]) and ends within [`trial_time`].
pub(super) fn try_again(worker: &Rc<Worker>, address: SocketAddr, stats: &Arc<EndpointStats>) {
    let (worker, stats) = (Rc::clone(worker), Arc::clone(stats));
    tokio::task::spawn_local(async move {
        let limit = Duration::from_millis(worker.options.limits.connect);
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => succeeded(address, &stats),
            Ok(Err(_)) | Err(_) => {
                tracing::debug!(%address, "the endpoint is still unreachable");
                health::trial_failed(&stats, worker.now(), worker.options.limits.ejection);
            }
        }
    });
}

/// Longest that a trial takes, on clocks that may be late.
pub(super) fn trial_time(worker: &Worker) -> Tick {
    worker.options.limits.connect + worker.options.limits.ejection
}

fn succeeded(address: SocketAddr, stats: &EndpointStats) {
    if health::connected(stats) {
        tracing::info!(%address, "the endpoint accepts connections again");
    }
}

fn failed(worker: &Worker, address: SocketAddr, stats: &EndpointStats, error: &io::Error) {
    // A lack of descriptors, ports or memory is this host's own.
    let of_endpoint = matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    );
    if of_endpoint && health::connect_failed(stats, worker.now(), worker.options.limits.ejection) {
        tracing::warn!(%address, %error, "the endpoint is ejected: connects to it fail in a row");
        worker.metrics().add(Counter::EndpointEjected);
    }
}
