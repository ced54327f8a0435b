//! Copies of requests for a mirror.
//!
//! A copy is a task of its own beside its request, which waits for nothing of it. The body is copied as it passes
//! on to the backend (`upstream/copies.rs`), so that a mirror that is slow loses its copy. A copy counts as one that
//! has come through gateways: it may come through one more, where there is no copy of it.

use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use gatehouse_routes::filter::mirror::{Mirror, MirrorTarget};
use http::{Request, Uri, Version, header, request::Parts, uri::PathAndQuery};
use http_body::Body as _;

use super::{FilterRequest, redirect};
use crate::{
    admin::metrics::Counter,
    http::{client::ClientConn, headers},
    snapshot::Pinned,
    upstream::{
        Upstreams,
        connect::connect,
        connection::Upstream,
        copies::{CopyError, Place},
        discard::discard,
        h2,
        key::{Asks, Target},
        permit::Most,
        pick::Tries,
        request_body::RequestBody,
        sessions::PickContext,
    },
    worker::{
        context::Worker,
        timeouts::{Expiry, RequestTimers},
    },
};

/// Most bytes of a mirror's answer that are read, and for how long.
const READ: (usize, Duration) = (1024 * 1024, Duration::from_secs(10));

/// A copy that is to be sent.
pub(crate) struct Copy {
    mirror: Arc<Mirror>,
    target: PathAndQuery,
}

/// Decides whether there is a copy of a request, and what it asks for.
pub(super) fn on_request(mirror: &Arc<Mirror>, request: &mut FilterRequest<'_>) {
    if (request.head.seen.hops && headers::is_copy(request.headers))
        || !mirror.share.takes(|below| fastrand::u32(..below))
    {
        return;
    }
    let (method, uri) = (request.method, request.uri);
    let fill = |template| {
        redirect::fill(template, request.scheme, request.head, method, uri, request.headers)
    };
    let target = match &mirror.target {
        MirrorTarget::Same => request.head.path_and_query(uri),
        MirrorTarget::Path(path) => {
            let path = fill(path);
            let target = match uri.query() {
                Some(query) => {
                    format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' })
                }
                None => path,
            };
            PathAndQuery::try_from(target).ok()
        }
        MirrorTarget::Filled(target) => PathAndQuery::try_from(fill(target)).ok(),
    };
    let Some(target) = target else { return };
    request.kept.copy = Some(Box::new(Copy { mirror: Arc::clone(mirror), target }));
}

/// Begins a copy of a request that has the form that its backend gets.
pub(crate) fn begin(
    copy: &Copy,
    conn: &Rc<ClientConn>,
    snapshot: &Pinned,
    parts: &Parts,
    body: &mut RequestBody,
) {
    let (worker, upstreams) = (&conn.shared.worker, &conn.upstreams);
    // Most connections are for what clients wait for.
    let Some(place) = upstreams.copies.enter(worker.options.max_connections.div_ceil(4)) else {
        worker.metrics().add(Counter::MirrorDropped);
        return;
    };
    let timers = worker.request_timers();
    let (shared, clock) = (timers.share(), Rc::clone(worker.clock()));
    let has_body = !body.is_end_stream();
    let copied = match has_body && copy.mirror.body {
        true => body.copied(&place, shared, clock),
        false => RequestBody::new(None, shared, clock),
    };
    let mut request = Request::new(copied);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = Uri::from(copy.target.clone());
    *request.version_mut() = Version::HTTP_11;
    let fields = request.headers_mut();
    *fields = parts.headers.clone();
    fields.insert(header::HOST, copy.mirror.host.clone());
    fields.remove(header::EXPECT);
    headers::mark_copy(fields);
    if has_body && !copy.mirror.body {
        fields.remove(header::CONTENT_LENGTH);
        fields.remove(header::TRANSFER_ENCODING);
    }
    let sending = Sending {
        worker: Rc::clone(worker),
        upstreams: Rc::clone(upstreams),
        snapshot: snapshot.clone(),
        mirror: Arc::clone(&copy.mirror),
        http2: conn.http2,
        place,
    };
    tokio::task::spawn_local(async move {
        let outcome = sending.run(request, &timers).await;
        sending.worker.metrics().add(match outcome {
            Some(()) => Counter::MirrorSent,
            None if sending.place.ended() == Some(CopyError::Behind) => Counter::MirrorDropped,
            None => Counter::MirrorFailed,
        });
    });
}

/// What a copy needs on its way.
struct Sending {
    worker: Rc<Worker>,
    upstreams: Rc<Upstreams>,
    snapshot: Pinned,
    mirror: Arc<Mirror>,
    /// The client speaks HTTP/2.
    http2: bool,
    place: Place,
}

impl Sending {
    /// Sends the copy and reads its answer away; `None`: there was none.
    async fn run(&self, request: Request<RequestBody>, timers: &RequestTimers) -> Option<()> {
        let (worker, upstreams, forward) = (&self.worker, &self.upstreams, &self.mirror.to);
        let backends = &self.snapshot.backends;
        let (backend, index) =
            upstreams.pick_backend(forward, backends, request.headers(), PickContext::default())?;
        let slot = forward.spec.backends[index].slot;
        let mut tries = Tries::of(backend, forward, index, PickContext::default());
        let endpoint = upstreams.pick_endpoint(worker, &mut tries).await?;
        let asks = || Asks { http2: self.http2, http1: false };
        let target = Target::of(&endpoint, slot, &self.snapshot.backend_tls, asks).ok()?;
        let mut request = request;
        if let Some(upstream) = upstreams.pool.checkout(&target.key) {
            match self.exchange(upstream, request, target, timers).await {
                Ok(()) => return Some(()),
                // The connection has ended before a byte was written.
                Err(unsent) => request = unsent?,
            }
        }
        let options = &worker.options;
        let most = Most { all: options.max_connections, each: options.max_endpoint_connections };
        let permit = upstreams.pool.permit(endpoint.address, most)?;
        let on = (&**worker, &**upstreams);
        let upstream = connect(on, timers, target, (&endpoint.stats, permit), false).await.ok()?;
        self.exchange(upstream, request, target, timers).await.ok()
    }

    /// Sends the copy over a connection; an error holds the copy if nothing of it was sent.
    async fn exchange(
        &self,
        mut upstream: Upstream,
        mut request: Request<RequestBody>,
        target: Target<'_>,
        timers: &RequestTimers,
    ) -> Result<(), Option<Request<RequestBody>>> {
        let worker = &*self.worker;
        if upstream.is_http2() {
            h2::to_http2(&mut request, target.way.is_some());
        } else {
            h2::to_http1(&mut request);
        }
        timers.upstream_awaited(worker.now(), Expiry::Upstream);
        let mut sent = pin!(upstream.send(request));
        let answer = poll_fn(|cx| {
            timers.register(cx);
            if timers.expired().is_some() || self.place.ended().is_some() {
                upstream.timed_out();
                return Poll::Ready(Err(None));
            }
            let alive = upstream.drive(cx);
            while upstream.next_interim().is_some() {}
            match sent.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut failed)) => Poll::Ready(Err(failed.take_message())),
                Poll::Pending if alive => Poll::Pending,
                Poll::Pending => Poll::Ready(Err(None)),
            }
        });
        let answer = answer.await?;
        let on = (worker, &self.upstreams.pool);
        discard(on, (answer.into_body(), upstream), READ).await;
        Ok(())
    }
}
