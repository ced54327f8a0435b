//! A request's way to an endpoint that answers it: which ones are tried, and for how long.
//!
//! `proxy` calls [`exchange`] with a request that is fit for the backend, and makes an answer of what comes.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use gatehouse_routes::{action::Forward, model::Endpoint, stats::EndpointStats};
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::{
    admin::metrics::Counter,
    http::{client::ClientConn, error::ProxyErrorKind, record::Record},
    snapshot::Snapshot,
    upstream::{
        connect::connect,
        connection::{Sent, Upstream},
        key::UpstreamKey,
        permit::Most,
        pick::Tries,
        request_body::RequestBody,
    },
    worker::{
        context::Worker,
        counters::{FAILURE, REQUEST},
        timeouts::{BrokenOff, Expiry, RequestTimers},
    },
};

/// A backend's answer and the connection it comes over.
pub(super) type Exchanged = (Response<Incoming>, Upstream);

/// How long a backend is waited for that is to say whether it wants the body. Many do not know the question.
const EXPECT: Duration = Duration::from_secs(1);
/// Most endpoints that a request is sent to. Those that it could not be sent to are not counted: they cost no
/// backend anything, and the time for all tries is bounded.
const SENT: u32 = 3;

/// Exchanges the request for an answer with one endpoint after the other, until one answers or all were tried.
///
/// An endpoint that cannot be connected to has got nothing of the request. One that ends the connection without
/// an answer may have: then another one is tried only if the request may be repeated. A connection that had been
/// kept is first replaced by a new one to the same endpoint, as endpoints end idle connections whenever they
/// like.
pub(super) async fn exchange(
    conn: &Rc<ClientConn>,
    record: &mut Record,
    snapshot: &Snapshot,
    forward: &Forward,
    parts: &mut Parts,
    body: &mut RequestBody,
) -> Result<Exchanged, ProxyErrorKind> {
    let worker = &conn.shared.worker;
    let picked = conn.upstreams.pick_backend(forward, &snapshot.backends, &parts.headers);
    let (backend, index) = picked.ok_or(ProxyErrorKind::NoEndpoints)?;
    record.forwarded(index, &parts.headers);
    let mut tries = Tries::of(backend, forward.spec.backends[index].slot);
    let picked = conn.upstreams.pick_endpoint(worker, &mut tries).await;
    let mut endpoint = picked.ok_or(ProxyErrorKind::NoEndpoints)?;
    let repeatable = body.is_end_stream() && is_idempotent(&parts.method);
    let mut request = take_request(parts, body);
    let (began, mut sent, mut fresh) = (worker.now(), 0, false);
    let mut refused = None;

    loop {
        record.endpoint = Some(endpoint.address);
        let key = UpstreamKey::clear(endpoint.address);
        let pooled = if fresh { None } else { conn.upstreams.pool.checkout(&key) };
        let reused = pooled.is_some();
        let opened = match pooled {
            Some(upstream) => Ok(upstream),
            None => Box::pin(open(conn, &record.timers, &endpoint, tries.has_others())).await,
        };
        let kind = match opened {
            Ok(mut upstream) => {
                if reused {
                    worker.metrics().add(Counter::UpstreamReused);
                }
                sent += 1;
                let may_repeat = repeatable && (reused || (tries.has_others() && sent < SENT));
                let spare = may_repeat.then(|| copy_of(&request));
                record.timers.upstream_awaited(worker.now(), Expiry::Upstream);
                let answer = pin!(upstream.send(request));
                let failure = match answer_to(conn, answer, &mut upstream, &record.timers).await {
                    Ok(response) => {
                        count(worker, &endpoint.stats, REQUEST);
                        return Ok((response, upstream));
                    }
                    Err(failure) => failure,
                };
                count(worker, &endpoint.stats, FAILURE);
                let unsent = failure.unsent.or_else(|| Some(spare?.map(|()| empty(record))));
                match unsent {
                    Some(again) if failure.kind == ProxyErrorKind::UpstreamClosed => {
                        request = again
                    }
                    _ => return Err(failure.kind),
                }
                if reused {
                    fresh = true;
                    record.retries += 1;
                    worker.metrics().add(Counter::Retry);
                    continue;
                }
                failure.kind
            }
            Err(kind) => {
                count(worker, &endpoint.stats, FAILURE);
                kind
            }
        };
        // Why an endpoint was not even tried says more than that another one did not answer.
        if matches!(kind, ProxyErrorKind::Loop | ProxyErrorKind::UpstreamBusy) {
            refused.get_or_insert(kind);
        }
        let kind = refused.unwrap_or(kind);
        if sent >= SENT || worker.now().saturating_sub(began) >= worker.options.limits.tries {
            return Err(kind);
        }
        tries.failed(endpoint.address);
        let next = conn.upstreams.pick_endpoint(worker, &mut tries).await;
        endpoint = next.ok_or(kind)?;
        fresh = false;
        record.retries += 1;
        worker.metrics().add(Counter::Retry);
    }
}

/// Opens a connection to an endpoint, within bounds and not to this process itself.
async fn open(
    conn: &ClientConn,
    timers: &RequestTimers,
    endpoint: &Endpoint,
    others: bool,
) -> Result<Upstream, ProxyErrorKind> {
    let (worker, address) = (&conn.shared.worker, endpoint.address);
    if worker.is_own(address) {
        worker.warn(|| tracing::warn!(%address, "a backend leads to this gateway itself"));
        return Err(ProxyErrorKind::Loop);
    }
    let options = &worker.options;
    let most = Most { all: options.max_connections, each: options.max_endpoint_connections };
    let Some(permit) = conn.upstreams.pool.permit(address, most) else {
        worker
            .warn(|| tracing::warn!(%address, ?most, "too many connections to endpoints are open"));
        return Err(ProxyErrorKind::UpstreamBusy);
    };
    connect(worker, timers, UpstreamKey::clear(address), (&endpoint.stats, permit), others).await
}

/// What a request without a body is sent again with.
fn empty(record: &Record) -> RequestBody {
    let clock = record.conn.shared.worker.clock();
    RequestBody::new(None, Rc::clone(&record.timers), Rc::clone(clock))
}

/// Counts what became of a request at an endpoint.
fn count(worker: &Worker, stats: &Arc<EndpointStats>, kind: usize) {
    let counters = worker.endpoint_counters();
    counters.add(&counters.of(stats), kind);
}

/// The request itself, which leaves nothing behind.
fn take_request(parts: &mut Parts, body: &mut RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body.take());
    std::mem::swap(request.method_mut(), &mut parts.method);
    std::mem::swap(request.uri_mut(), &mut parts.uri);
    std::mem::swap(request.headers_mut(), &mut parts.headers);
    request
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

fn copy_of(request: &Request<RequestBody>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

struct Failure {
    kind: ProxyErrorKind,
    /// The request, if not a byte of it was written.
    unsent: Option<Request<RequestBody>>,
}

/// Waits for the head of the answer to a request that was handed to a connection. The connection is
/// driven from here: no other task is involved.
async fn answer_to(
    conn: &ClientConn,
    mut sent: Pin<&mut impl Future<Output = Sent>>,
    upstream: &mut Upstream,
    timers: &RequestTimers,
) -> Result<Response<Incoming>, Failure> {
    let patience = conn.shared.worker.scaled(EXPECT);
    let mut patience = timers.body_held().then(|| Box::pin(tokio::time::sleep(patience)));
    poll_fn(|cx| {
        timers.register(cx);
        let ended = match timers.expired() {
            Some(Expiry::SlowBody) => Some(ProxyErrorKind::SlowRequest),
            Some(_) => Some(ProxyErrorKind::UpstreamTimeout),
            None => None,
        };
        if let Some(kind) = ended {
            return Poll::Ready(Err(Failure { kind, unsent: None }));
        }
        if patience.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_ready()) {
            patience = None;
            timers.hold_body(false);
        }
        let mut alive = upstream.drive(cx);
        while let Some(interim) = upstream.next_interim() {
            if interim.status != StatusCode::CONTINUE {
                conn.shared.interim.offer(&interim.head);
            } else if timers.body_held() {
                patience = None;
                timers.hold_body(false);
                alive = upstream.drive(cx);
            }
        }
        match sent.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut failed)) => {
                let unsent = failed.take_message();
                Poll::Ready(Err(Failure { kind: kind_of(failed.error(), timers), unsent }))
            }
            Poll::Pending if alive => Poll::Pending,
            Poll::Pending => {
                Poll::Ready(Err(Failure { kind: ProxyErrorKind::UpstreamClosed, unsent: None }))
            }
        }
    })
    .await
}

fn kind_of(error: &hyper::Error, timers: &RequestTimers) -> ProxyErrorKind {
    match timers.broken_off() {
        Some(BrokenOff::ByClient) => ProxyErrorKind::ClientGone,
        Some(BrokenOff::TooLarge) => ProxyErrorKind::BodyTooLarge,
        None if error.is_parse_too_large() => ProxyErrorKind::AnswerTooLarge,
        None if error.is_parse() => ProxyErrorKind::UpstreamInvalid,
        None => ProxyErrorKind::UpstreamClosed,
    }
}
