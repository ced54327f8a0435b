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
    upstream::{
        Upstreams,
        connection::Upstream,
        h2, health,
        interim::{Lookout, UpstreamIo},
        key::{Target, Transport, UpstreamKey},
        permit::Permit,
        pool::Pool,
        stream::{self, OpenError, UpstreamStream},
    },
    worker::{
        clock::Tick,
        context::Worker,
        timeouts::{Expiry, RequestTimers},
    },
};

/// Most bytes of an answer's header block (P5).
const MAX_ANSWER_HEAD: usize = 256 * 1024;

/// Most fields of an answer. hyper makes room for as many with every answer, a page-aligned block that is not
/// touched.
const MAX_ANSWER_FIELDS: usize = 2_000;

/// What is read ahead of a backend: a whole head must fit.
const MAX_BUFFER: usize = MAX_ANSWER_HEAD + 16 * 1024;

/// Connects to an endpoint the given way. How it went is noted in `stats`. Where `others` may be tried, it
/// does not wait for as long.
///
/// # Errors
/// `ConnectFailed`, `ConnectTimeout` or `UpstreamTls`; nothing of the request was sent, another endpoint may get it.
pub(crate) async fn connect(
    (worker, upstreams): (&Worker, &Upstreams),
    timers: &RequestTimers,
    target: Target<'_>,
    (stats, permit): (&EndpointStats, Permit),
    others: bool,
) -> Result<Upstream, ProxyErrorKind> {
    let Target { key, way } = target;
    let address = key.address;
    let last = if others { Expiry::TryConnect } else { Expiry::Connect };
    timers.upstream_awaited(worker.now(), Expiry::SlowConnect);
    let mut connecting = pin!(stream::open(address, way));
    let connected = poll_fn(|cx| {
        timers.register(cx);
        match timers.expired() {
            Some(Expiry::SlowConnect) => {
                health::connect_slow(stats, worker.now(), worker.options.limits.connect);
                timers.clear();
                timers.upstream_awaited(worker.now(), last);
            }
            Some(expiry) if expiry == last => {
                return Poll::Ready(Err(OpenError::Connect(ErrorKind::TimedOut.into())));
            }
            _ => (),
        }
        connecting.as_mut().poll(cx)
    })
    .await;
    timers.clear();
    let stream = match connected {
        Ok(stream) => stream,
        Err(OpenError::Tls(error)) => {
            worker.warn(|| tracing::warn!(%address, %error, "no TLS to the endpoint"));
            upstreams.tls_failures.failed(key, &error);
            worker.metrics().add(Counter::UpstreamConnectFailed);
            return Err(ProxyErrorKind::UpstreamTls);
        }
        Err(OpenError::Connect(error)) => {
            tracing::debug!(%address, %error, "connect failed");
            worker.metrics().add(Counter::UpstreamConnectFailed);
            failed(worker, address, stats, &error);
            return Err(match error.kind() {
                ErrorKind::TimedOut => ProxyErrorKind::ConnectTimeout,
                _ => ProxyErrorKind::ConnectFailed,
            });
        }
    };
    succeeded(address, stats);
    worker.metrics().add(Counter::UpstreamNew);
    let http2 = match (way, stream.agreed_on_http2()) {
        (_, Some(agreed)) => agreed,
        (Some(way), None) => way.prior_knowledge,
        (None, None) => key.transport == Transport::Http2,
    };
    if http2 {
        return begin_http2(&upstreams.pool, key, stream, permit).await;
    }
    let lookout = Rc::<Lookout>::default();
    let stream = UpstreamIo::new(stream, Rc::clone(&lookout));
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(worker.options.header_case.is_preserved())
        .max_header_size(MAX_ANSWER_HEAD)
        .max_headers(MAX_ANSWER_FIELDS)
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| ProxyErrorKind::ConnectFailed)?;
    Ok(Upstream::http1(key, sender, (connection, lookout), permit))
}

/// HTTP/2 on a new connection, which other requests are to find in the pool.
async fn begin_http2(
    pool: &Pool,
    key: UpstreamKey,
    stream: UpstreamStream,
    permit: Permit,
) -> Result<Upstream, ProxyErrorKind> {
    let begun = h2::begin(key, stream, permit).await;
    let shared = begun.map_err(|_| ProxyErrorKind::ConnectFailed)?;
    let stream = shared.stream().ok_or(ProxyErrorKind::ConnectFailed)?;
    pool.share(shared);
    Ok(Upstream::Http2(stream))
}

/// Connects to an endpoint for bytes that are passed on as they are. How it went is noted in `stats`.
///
/// # Errors
/// The endpoint did not accept the connection within `limit`.
pub(crate) async fn connect_plain(
    worker: &Worker,
    address: SocketAddr,
    stats: &EndpointStats,
    limit: Tick,
) -> io::Result<TcpStream> {
    let limit = Duration::from_millis(limit);
    let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    match connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            succeeded(address, stats);
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Err(error) => {
            worker.metrics().add(Counter::UpstreamConnectFailed);
            failed(worker, address, stats, &error);
            Err(error)
        }
    }
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

/// An endpoint accepts connections, or does not refuse datagrams.
pub(crate) fn succeeded(address: SocketAddr, stats: &EndpointStats) {
    if health::connected(stats) {
        tracing::info!(%address, "the endpoint accepts connections again");
    }
}

/// An endpoint refuses, or cannot be reached.
pub(crate) fn failed(
    worker: &Worker,
    address: SocketAddr,
    stats: &EndpointStats,
    error: &io::Error,
) {
    let of_endpoint = !is_own(error, address);
    if of_endpoint && health::connect_failed(stats, worker.now(), worker.options.limits.ejection) {
        tracing::warn!(%address, %error, "the endpoint is ejected: a connect to it has failed");
        worker.metrics().add(Counter::EndpointEjected);
    }
}

/// A lack of descriptors, ports or memory is this host's own. Without an IPv6 address of its own, it has none to
/// reach others from: that is no lack of ports.
fn is_own(error: &io::Error, address: SocketAddr) -> bool {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => true,
        Some(libc::EADDRNOTAVAIL) => address.is_ipv4(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_lacks_is_not_the_endpoints_fault_and_a_family_without_a_way_is() {
        let (v4, v6) = (SocketAddr::from(([10, 0, 0, 1], 80)), "[fd00::1]:80".parse().unwrap());
        let own = |code: i32, address| is_own(&io::Error::from_raw_os_error(code), address);
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN] {
            assert!(own(code, v4) && own(code, v6), "{code}");
        }
        assert!(own(libc::EADDRNOTAVAIL, v4) && !own(libc::EADDRNOTAVAIL, v6));
        for code in [
            libc::ECONNREFUSED,
            libc::ENETUNREACH,
            libc::EHOSTUNREACH,
            libc::EAFNOSUPPORT,
            libc::EACCES,
            libc::EINVAL,
        ] {
            assert!(!own(code, v4) && !own(code, v6), "{code}");
        }
        assert!(!is_own(&ErrorKind::TimedOut.into(), v4));
    }
}
