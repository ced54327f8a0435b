//! An answer that is taken from its backend at the backend's speed, whatever its client takes (`proxy-buffering`).
//!
//! The first part of it passes as it comes. If that was not all, a task of its own takes the rest, gives the connection
//! back, and lets go of what the endpoint has under way; what the client does not take yet waits in a [`reservoir`].
//!
//! [`reservoir`]: crate::spool::reservoir

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use gatehouse_routes::policy::{Policy, buffering::AnswerBuffering, timeouts::Timeouts};
use http::{HeaderMap, HeaderName};
use http_body::SizeHint;
use tokio::task::AbortHandle;

use super::{Polled, Source, poll_upstream};
use crate::{
    http::{client::ClientConn, record::Record},
    spool::reservoir::{Inlet, Next, Outlet},
    upstream::{
        connection::Upstream, gates::Entry, joined::Joined, loads::UnderWay,
        request_body::BodyError,
    },
    worker::timeouts::{Expiry, RequestTimers},
};

/// What a backend says of it (ngx_http_proxy_module, `proxy_buffering`).
const ACCEL: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Trailers, or why the body broke off.
type End = Result<Option<Box<HeaderMap>>, BodyError>;

/// How an answer is taken, and what its endpoint has under way until it is.
pub(crate) struct Plan {
    conn: Rc<ClientConn>,
    buffering: AnswerBuffering,
    timeouts: Option<Timeouts>,
    under_way: (Option<UnderWay>, Option<Entry>),
}

impl Plan {
    /// The plan for an answer with these fields, if it is to be taken so. What the backend says of it is for nobody else.
    pub(crate) fn of(
        policy: &Policy,
        headers: &mut HeaderMap,
        record: &mut Record,
    ) -> Option<Self> {
        let buffering = policy.answers?;
        let said = headers.remove(&ACCEL);
        let on = match said.as_ref().map(|said| said.as_bytes()) {
            Some(said) if said.eq_ignore_ascii_case(b"yes") => true,
            Some(said) if said.eq_ignore_ascii_case(b"no") => false,
            _ => buffering.on,
        };
        on.then(|| Self {
            conn: Rc::clone(&record.conn),
            buffering,
            timeouts: policy.timeouts,
            under_way: (record.under_way.take(), record.entry.take()),
        })
    }
}

/// The body of such an answer.
pub(super) struct Buffered {
    /// Where its first part comes from; then nothing.
    pub(super) source: Source,
    /// `None` once the rest is under way.
    plan: Option<Plan>,
    rest: Option<Rest>,
    /// Bytes that the client has still to get, if that is known.
    left: Option<u64>,
}

/// What follows the first part.
struct Rest {
    outlet: Outlet<End>,
    task: AbortHandle,
    trailers: Option<Box<HeaderMap>>,
    over: bool,
}

impl Drop for Rest {
    fn drop(&mut self) {
        // Nobody takes it any more.
        self.task.abort();
    }
}

impl Buffered {
    pub(super) fn new(source: Source, plan: Plan) -> Self {
        let left = source.size_hint().exact();
        Self { source, plan: Some(plan), rest: None, left }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timers: &RequestTimers) -> Polled {
        let polled = match &mut self.rest {
            Some(rest) => ready!(rest.poll(cx, timers)),
            None => {
                let polled = ready!(self.source.poll(cx, timers));
                if matches!(polled, Some(Ok(_))) && !self.source.is_end() {
                    self.begin();
                }
                polled
            }
        };
        if let (Some(left), Some(Ok(part))) = (&mut self.left, &polled) {
            *left = left.saturating_sub(part.len() as u64);
        }
        Poll::Ready(polled)
    }

    /// The rest comes by itself from here on.
    fn begin(&mut self) {
        if !matches!(self.source, Source::Upstream { upstream: Some(_), trailers: None, .. }) {
            return;
        }
        let Some(plan) = self.plan.take() else { return };
        let source = std::mem::replace(&mut self.source, Source::Empty);
        let Source::Upstream { incoming, upstream: Some(upstream), .. } = source else { return };
        let AnswerBuffering { memory, file, .. } = plan.buffering;
        let (inlet, outlet) = plan.conn.shared.worker.options.spool.reservoir(memory, file);
        let task = tokio::task::spawn_local(take(incoming, upstream, inlet, plan)).abort_handle();
        self.rest = Some(Rest { outlet, task, trailers: None, over: false });
    }

    pub(super) fn is_end(&self) -> bool {
        match &self.rest {
            Some(rest) => rest.over && rest.trailers.is_none(),
            None => self.source.is_end(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.rest {
            Some(rest) => rest.trailers.take().map(|trailers| *trailers),
            None => self.source.take_trailers(),
        }
    }
}

impl Rest {
    fn poll(&mut self, cx: &mut Context<'_>, timers: &RequestTimers) -> Polled {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(expiry) = timers.expired() {
            return Poll::Ready(Some(Err(BodyError::Expired(expiry))));
        }
        let next = ready!(self.outlet.poll(cx));
        Poll::Ready(match next {
            Ok(Next::Part(part)) => Some(Ok(part)),
            Ok(Next::Over(end)) => {
                self.over = true;
                match end {
                    Ok(trailers) => {
                        self.trailers = trailers;
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            }
            Err(error) => {
                self.over = true;
                Some(Err(BodyError::Kept(error)))
            }
        })
    }
}

/// Takes a body from its backend and lets go of that.
async fn take(mut incoming: Joined, mut upstream: Upstream, inlet: Inlet<End>, plan: Plan) {
    let Plan { conn, timeouts, under_way, .. } = plan;
    let worker = &conn.shared.worker;
    // Those of the request wait for its client.
    let timers = worker.request_timers();
    if let Some(timeouts) = timeouts {
        timers.own(timeouts);
    }
    let mut trailers = None;
    let end = loop {
        timers.upstream_awaited(worker.now(), Expiry::Upstream);
        let part = std::future::poll_fn(|cx| {
            timers.register(cx);
            let from = (Some(&mut upstream), &mut trailers);
            poll_upstream(&mut incoming, from, cx, &timers)
        });
        let part = part.await;
        timers.upstream_delivered();
        match part {
            None => break Ok(trailers),
            Some(Err(error)) => break Err(error),
            Some(Ok(part)) => {
                if let Err(error) = inlet.add(&part).await {
                    worker.warn(|| {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "an answer is broken off"
                        );
                    });
                    break Err(BodyError::Unkept(error));
                }
            }
        }
    };
    drop(under_way);
    if end.is_ok() {
        conn.checkin(upstream);
    }
    inlet.end(end);
}
