//! Reads the body of a request in whole before a backend is chosen for it (`proxy-request-buffering`).
//!
//! A client that is slow holds no connection to a backend then, and what it has sent can be sent again. Calls of
//! gRPC and upgrades are conversations: they pass as they come.

use std::{future::poll_fn, pin::Pin};

use gatehouse_routes::{action::Forward, policy::Policy};
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;

use crate::{
    http::{client::ClientConn, error::ProxyErrorKind, grpc},
    snapshot::{Pinned, Snapshot},
    spool::KeepError,
    upstream::request_body::RequestBody,
    worker::timeouts::{BrokenOff, RequestTimers},
};

/// Whether the body of a request is read in whole.
#[inline]
pub(super) fn is_wanted(policy: &Policy, headers: &HeaderMap, body: &RequestBody) -> bool {
    policy.buffering.is_some() && !body.is_end_stream() && !grpc::is_call(headers)
}

/// Reads the body and keeps it. The request then has the length that it has turned out to have.
pub(super) async fn keep(
    conn: &ClientConn,
    timers: &RequestTimers,
    policy: &Policy,
    headers: &mut HeaderMap,
    body: &mut RequestBody,
) -> Result<(), ProxyErrorKind> {
    if let Some(timeouts) = policy.timeouts {
        timers.own(timeouts);
    }
    let unkept = |error: KeepError| {
        conn.shared.worker.warn(|| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a request is refused")
        });
        ProxyErrorKind::BodyUnkept
    };
    let most = policy.buffering.unwrap_or_default().memory;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let spool = &conn.shared.worker.options.spool;
    let mut keeping = spool.keep(most, body.size_hint().exact()).map_err(unkept)?;
    loop {
        let part = poll_fn(|cx| {
            timers.register(cx);
            Pin::new(&mut *body).poll_frame(cx)
        });
        match part.await {
            None => break,
            // What follows the body as trailers is not kept.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    keeping.add(data).await.map_err(unkept)?;
                }
            }
            Some(Err(_)) => {
                return Err(match timers.broken_off() {
                    Some(BrokenOff::TooLarge) => ProxyErrorKind::BodyTooLarge,
                    Some(_) => ProxyErrorKind::ClientGone,
                    None => ProxyErrorKind::SlowRequest,
                });
            }
        }
    }
    let kept = keeping.done();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(kept.len()));
    body.keep(kept);
    Ok(())
}

/// The world as it is once the body was read, if the backends of the request are still there: their endpoints may
/// be others by now.
pub(super) fn now(conn: &ClientConn, then: &Snapshot, forward: &Forward) -> Option<Box<Pinned>> {
    let now = conn.shared.worker.pin();
    let same = |slot| {
        let [then, now] = [then, &*now].map(|snapshot| snapshot.backends.get(slot));
        then.zip(now).is_some_and(|(then, now)| then.key == now.key)
    };
    let moved = now.generation != then.generation;
    let known = moved && forward.spec.backends.iter().all(|backend| same(backend.slot));
    known.then(|| Box::new(now))
}
