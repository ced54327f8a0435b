//! A request's way to an endpoint that answers it: which ones are tried, and for how long.
//!
//! `proxy` calls [`exchange`] with a request that is fit for the backend, and makes an answer of what comes.

use std::{
    error::Error as _,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use gatehouse_routes::{
    action::Forward,
    model::{BackendSlot, Endpoint},
    policy::{
        Policy,
        ejection::Ejection,
        limits::Limits,
        retries::{Failures, Retries},
    },
    stats::EndpointStats,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use rustls::AlertDescription;

use crate::{
    admin::metrics::Counter,
    http::{client::ClientConn, error::ProxyErrorKind, grpc, record::Record},
    snapshot::Snapshot,
    spool::Kept,
    upstream::{
        budget::Wait,
        connect::connect,
        connection::{Upstream, authenticates},
        h2,
        key::{Asks, Target},
        permit::Most,
        pick::Tries,
        request_body::{RequestBody, Sent},
    },
    worker::{
        clock::Tick,
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

/// What bounds the tries of one request.
struct Bounds {
    on: Failures,
    sent: u32,
    time: Tick,
}

impl Bounds {
    fn new(retries: &Retries, worker: &Worker) -> Self {
        let time = retries.time.map(|time| time.as_millis() as Tick);
        Self {
            on: retries.on,
            sent: match retries.tries {
                None => SENT,
                Some(0) => u32::MAX,
                Some(tries) => tries,
            },
            time: match time {
                None => worker.options.limits.tries,
                Some(0) => Tick::MAX,
                Some(time) => time,
            },
        }
    }

    /// Whether one more endpoint may get a request that so many got since it began.
    fn admit(&self, sent: u32, began: Tick, worker: &Worker) -> bool {
        sent < self.sent && worker.now().saturating_sub(began) < self.time
    }

    /// Whether another endpoint is tried where one accepts no connection.
    fn opens_others(&self) -> bool {
        self.on.has(Failures::ERROR) || self.on.has(Failures::TIMEOUT)
    }

    /// Whether another endpoint may mend a failure.
    fn mends(&self, kind: ProxyErrorKind, timers: &RequestTimers) -> bool {
        self.on.has(match kind {
            _ if is_unopened(kind) => return self.opens_others(),
            // Nothing came of the endpoint: its turn was never taken.
            ProxyErrorKind::Loop | ProxyErrorKind::UpstreamBusy => return true,
            ProxyErrorKind::UpstreamClosed => Failures::ERROR,
            ProxyErrorKind::UpstreamInvalid | ProxyErrorKind::AnswerTooLarge => Failures::INVALID,
            ProxyErrorKind::UpstreamTimeout if is_blamed(kind, timers) => Failures::TIMEOUT,
            _ => return false,
        })
    }
}

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
    record.pick_context.known_at = conn.bound.known_at(forward);
    let picked = conn.upstreams.pick_backend(
        forward,
        &snapshot.backends,
        &parts.headers,
        record.pick_context,
    );
    let (backend, mut index) = picked.ok_or(ProxyErrorKind::NoEndpoints)?;
    record.forwarded(index, &parts.headers);
    let mut slot = forward.spec.backends[index].slot;
    let mut tries = Tries::of(backend, forward, index, record.pick_context);
    let picked = conn.upstreams.pick_endpoint(worker, &mut tries).await;
    let mut endpoint = picked.ok_or(ProxyErrorKind::NoEndpoints)?;
    let policy = &*forward.spec.policy;
    if let Some(timeouts) = policy.timeouts {
        record.timers.own(timeouts);
    }
    let bounds = Bounds::new(&policy.retries, worker);
    let kept = body.kept().cloned();
    // It can be sent again from its beginning.
    let whole = body.is_end_stream() || kept.is_some();
    let repeatable =
        whole && (is_idempotent(&parts.method) || bounds.on.has(Failures::NON_IDEMPOTENT));
    let weighs = policy.balance.weighs();
    let mut request = take_request(parts, body);
    let (began, mut sent, mut fresh) = (worker.now(), 0, false);
    // An endpoint has asked for HTTP/1.1.
    let mut http1 = false;
    let mut wait = conn.upstreams.budgets.begin(slot);
    let (mut refused, mut left) = (None, Vec::new());

    loop {
        record.endpoint = Some(endpoint.address);
        if let Some(limits) = policy.limits {
            enter(conn, record, &endpoint, limits).await?;
        }
        let handed = weighs.then(|| begin(conn, record, &endpoint));
        let target = target(conn, (snapshot, slot), &endpoint, (request.headers(), http1))?;
        let pooled = if fresh { None } else { conn.checkout(&target.key) };
        let reused = pooled.is_some();
        let others = tries.has_others() && bounds.opens_others();
        let opened = match pooled {
            Some(upstream) => Ok(upstream),
            None => Box::pin(open(conn, &record.timers, &endpoint, target, others)).await,
        };
        let kind = match opened {
            Ok(mut upstream) => {
                if reused {
                    worker.metrics().add(Counter::UpstreamReused);
                }
                // One that a kept connection has failed is asked once more, not another one.
                sent += u32::from(!fresh);
                let is_stale = |kind| reused && kind == ProxyErrorKind::UpstreamClosed;
                let others = tries.has_others() && bounds.admit(sent, began, worker);
                let may_repeat = repeatable && (reused || others);
                fit(&mut request, &upstream, target, &record.timers);
                let spare = (may_repeat || upstream.is_http2()).then(|| copy_of(&request));
                // What is refused has a body that may have left already.
                let rest = if upstream.is_http2() { request.body_mut().remember() } else { None };
                record.timers.upstream_awaited(worker.now(), Expiry::Upstream);
                let answer = pin!(upstream.send(request));
                if upstream.is_bound() {
                    conn.bound.bind(slot, target.key);
                }
                let answer = answer_to(conn, answer, &mut upstream, &record.timers).await;
                let (failure, mendable) = match answer {
                    Ok(response) => {
                        count(worker, &endpoint.stats, REQUEST);
                        if !reused {
                            conn.upstreams.tls_failures.succeeded(target.key);
                        }
                        if let Some(handed) = handed {
                            record.answered_after(handed.elapsed());
                        }
                        let status = response.status().as_u16();
                        if tries.is_judged() {
                            let well = !is_failure(status, response.headers());
                            tries.answered(worker, &endpoint, well);
                        }
                        let mends_status = bounds.on.has_status(status);
                        if !mends_status {
                            wait.answered();
                        }
                        let again = others && may_repeat && mends_status;
                        if !again || !may_go_on(worker, &mut wait, policy) {
                            return Ok((response, upstream));
                        }
                        // Another endpoint has the word: what this one says is not read any further.
                        (ProxyErrorKind::UpstreamInvalid.into(), true)
                    }
                    Err(failure) => {
                        count(worker, &endpoint.stats, FAILURE);
                        let said_why = failure.asks_for_http1 || is_stale(failure.kind);
                        if !said_why && is_blamed(failure.kind, &record.timers) {
                            tries.answered(worker, &endpoint, false);
                        }
                        let mendable = bounds.mends(failure.kind, &record.timers);
                        (failure, mendable)
                    }
                };
                let stale = is_stale(failure.kind);
                let other_way = failure.asks_for_http1 && !http1;
                // What no endpoint has got is no burden to any.
                let free = stale || other_way || failure.unsent.is_some();
                let unsent = failure.unsent.or_else(|| {
                    let body = match may_repeat || (whole && failure.refused) {
                        true => Some(again(record, kept.as_ref())),
                        false => rest.filter(|rest| failure.refused && rest.begin_again()),
                    };
                    spare.zip(body).map(|(head, body)| head.map(|()| body))
                });
                match unsent {
                    Some(again) if stale || other_way || mendable => {
                        if !free && !may_go_on(worker, &mut wait, policy) {
                            return Err(failure.kind);
                        }
                        request = again;
                    }
                    _ => return Err(failure.kind),
                }
                record.timers.clear();
                if stale || other_way {
                    (fresh, http1) = (stale, http1 || other_way);
                    record.retries += 1;
                    worker.metrics().add(Counter::Retry);
                    continue;
                }
                failure.kind
            }
            Err(kind) => {
                count(worker, &endpoint.stats, FAILURE);
                if is_blamed(kind, &record.timers) {
                    tries.answered(worker, &endpoint, false);
                }
                if !bounds.mends(kind, &record.timers) {
                    return Err(kind);
                }
                kind
            }
        };
        // Why an endpoint was not even tried says more than that another one did not answer.
        if matches!(kind, ProxyErrorKind::Loop | ProxyErrorKind::UpstreamBusy) {
            refused.get_or_insert(kind);
        }
        let kind = refused.unwrap_or(kind);
        if !bounds.admit(sent, began, worker) {
            return Err(kind);
        }
        tries.failed(endpoint.address);
        let mut next = conn.upstreams.pick_endpoint(worker, &mut tries).await;
        if next.is_none() && is_unopened(kind) {
            // None of this Service's endpoints has got anything: the object may have another Service.
            left.push(index);
            let other = conn.upstreams.pick_other_backend(forward, &snapshot.backends, &left);
            let (backend, other) = other.ok_or(kind)?;
            record.forwarded(other, request.headers());
            (index, slot) = (other, forward.spec.backends[other].slot);
            tries = Tries::of(backend, forward, index, record.pick_context);
            wait = conn.upstreams.budgets.begin(slot);
            next = conn.upstreams.pick_endpoint(worker, &mut tries).await;
        }
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
    target: Target<'_>,
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
    let on = (&**worker, &*conn.upstreams);
    connect(on, timers, target, (&endpoint.stats, permit), others).await
}

/// How a request gets to an endpoint.
fn target<'s>(
    conn: &ClientConn,
    (snapshot, slot): (&'s Snapshot, BackendSlot),
    endpoint: &Endpoint,
    (headers, http1): (&HeaderMap, bool),
) -> Result<Target<'s>, ProxyErrorKind> {
    let asks = || Asks {
        http2: conn.http2,
        http1: http1
            || headers.contains_key(header::UPGRADE)
            || authenticates(headers)
            || conn.bound.is_of(slot),
    };
    Target::of(endpoint, slot, &snapshot.backend_tls, asks).map_err(|why| {
        let address = endpoint.address;
        conn.shared.worker.warn(|| tracing::warn!(%address, why, "a backend is closed"));
        ProxyErrorKind::Denied
    })
}

/// Gives a request the form that is spoken on a connection.
fn fit(
    request: &mut Request<RequestBody>,
    upstream: &Upstream,
    target: Target<'_>,
    timers: &RequestTimers,
) {
    if upstream.is_http2() {
        // Whether the body is wanted is not heard of there before the answer.
        timers.hold_body(false);
        if grpc::is_call(request.headers()) {
            timers.go_both_ways();
        }
        h2::to_http2(request, target.way.is_some());
    } else {
        h2::to_http1(request);
    }
}

/// What a request is sent again with: all of its body, if it has one.
fn again(record: &Record, kept: Option<&Rc<Kept>>) -> RequestBody {
    let timers = Rc::clone(&record.timers);
    let clock = Rc::clone(record.conn.shared.worker.clock());
    match kept {
        Some(kept) => RequestBody::of_kept(kept, timers, clock),
        None => RequestBody::new(None, timers, clock),
    }
}

/// Waits until the endpoint may have one more request.
async fn enter(
    conn: &ClientConn,
    record: &mut Record,
    endpoint: &Endpoint,
    limits: Limits,
) -> Result<(), ProxyErrorKind> {
    // Of the endpoint that was tried before.
    record.entry = None;
    let longest = Duration::from_millis(conn.shared.worker.options.limits.connect);
    record.entry = Some(conn.upstreams.gates.enter(&endpoint.stats, limits, longest).await?);
    Ok(())
}

/// Notes that an endpoint has one more request under way; returns when it was handed over.
fn begin(conn: &ClientConn, record: &mut Record, endpoint: &Endpoint) -> Instant {
    let load = conn.upstreams.loads.of(&endpoint.stats, conn.shared.worker.now());
    record.under_way = Some(load.begin());
    Instant::now()
}

/// Whether the request may be sent again, by the share of requests that may.
fn may_go_on(worker: &Worker, wait: &mut Wait<'_>, policy: &Policy) -> bool {
    let may = wait.may_go_on(policy.retries.budget);
    if !may {
        worker.metrics().add(Counter::RetryRefused);
    }
    may
}

/// Whether an endpoint could not be connected to.
fn is_unopened(kind: ProxyErrorKind) -> bool {
    matches!(
        kind,
        ProxyErrorKind::ConnectFailed
            | ProxyErrorKind::ConnectTimeout
            | ProxyErrorKind::UpstreamTls
    )
}

/// Whether an exchange without an answer is its endpoint's doing.
fn is_blamed(kind: ProxyErrorKind, timers: &RequestTimers) -> bool {
    match kind {
        ProxyErrorKind::ConnectFailed
        | ProxyErrorKind::ConnectTimeout
        | ProxyErrorKind::UpstreamTls
        | ProxyErrorKind::UpstreamClosed
        | ProxyErrorKind::UpstreamInvalid
        | ProxyErrorKind::AnswerTooLarge => true,
        ProxyErrorKind::UpstreamTimeout => {
            matches!(timers.expired(), Some(Expiry::Upstream | Expiry::Sending))
        }
        _ => false,
    }
}

/// Whether an answer is a failure of its endpoint, also where only gRPC says so.
fn is_failure(status: u16, headers: &HeaderMap) -> bool {
    Ejection::is_failure(status) || grpc::is_failure(headers)
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
    std::mem::swap(request.extensions_mut(), &mut parts.extensions);
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
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

struct Failure {
    kind: ProxyErrorKind,
    /// The request, if not a byte of it was written.
    unsent: Option<Request<RequestBody>>,
    /// The endpoint has said that it did nothing about it.
    refused: bool,
    /// And that it would over HTTP/1.1.
    asks_for_http1: bool,
}

impl From<ProxyErrorKind> for Failure {
    fn from(kind: ProxyErrorKind) -> Self {
        Self { kind, unsent: None, refused: false, asks_for_http1: false }
    }
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
            upstream.timed_out();
            return Poll::Ready(Err(Failure::from(kind)));
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
                let error = failed.error();
                let flood = upstream.flood(error);
                if let Some(why) = flood {
                    let address = upstream.key().address;
                    let worker = &conn.shared.worker;
                    worker.warn(|| tracing::warn!(%address, %why, "a backend is cut off"));
                }
                let mut kind = kind_of(error, timers, flood.is_some());
                let asks_for_http1 = h2::asks_for_http1(error);
                let mut refused = asks_for_http1 || h2::is_refused(error);
                if let Some(why) = refusal_of_tls(error) {
                    (kind, refused) = (ProxyErrorKind::UpstreamTls, true);
                    conn.upstreams.tls_failures.failed(upstream.key(), why);
                }
                Poll::Ready(Err(Failure { kind, unsent, refused, asks_for_http1 }))
            }
            Poll::Pending if alive => Poll::Pending,
            Poll::Pending => Poll::Ready(Err(Failure::from(ProxyErrorKind::UpstreamClosed))),
        }
    })
    .await
}

/// Why the endpoint ends the handshake after our last word in it, as TLS 1.3 lets it: it does not take our certificate, or
/// misses one (RFC 8446 §4.4.2.4).
fn refusal_of_tls(error: &hyper::Error) -> Option<&rustls::Error> {
    let error = error.source()?.downcast_ref::<io::Error>()?.get_ref()?;
    let error = error.downcast_ref::<rustls::Error>()?;
    let rustls::Error::AlertReceived(alert) = error else { return None };
    let of_certificate = matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    );
    of_certificate.then_some(error)
}

fn kind_of(error: &hyper::Error, timers: &RequestTimers, floods: bool) -> ProxyErrorKind {
    match timers.broken_off() {
        Some(BrokenOff::ByClient) => ProxyErrorKind::ClientGone,
        Some(BrokenOff::TooLarge) => ProxyErrorKind::BodyTooLarge,
        Some(BrokenOff::Unread) => ProxyErrorKind::BodyUnkept,
        None if error.is_parse_too_large() => ProxyErrorKind::AnswerTooLarge,
        None if error.is_parse() || floods => ProxyErrorKind::UpstreamInvalid,
        None => ProxyErrorKind::UpstreamClosed,
    }
}
