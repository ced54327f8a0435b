//! How many requests a client may send.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use gatehouse_routes::filter::rate_limit::{LimitScope, RateLimit};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{FilterRequest, Kept, Outcome};
use crate::http::error::ProxyErrorKind;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Answers requests that are too many, and says when the next one may come (RFC 6585 §4).
pub(super) fn on_request(limit: &RateLimit, request: &mut FilterRequest<'_>) -> Outcome {
    // Who counts by the address is told by it; others need it only where a list has exceptions.
    if limit.exempt.contains(request.client()) {
        return Ok(ControlFlow::Continue(()));
    }
    let counted = limit.connections.then_some(&request.conn.counted);
    if counted.is_some_and(|counted| counted.borrow().contains(&limit.scope)) {
        return Ok(ControlFlow::Continue(()));
    }
    let options = &request.conn.shared.worker.options;
    let (pace, now) = ((limit.interval, limit.burst), Instant::now());
    let counted_here = match limit.reach {
        LimitScope::Node => {
            let key = (limit.scope, request.counted_by(&limit.by));
            options.rates.take(key, limit.interval, limit.burst, now)
        }
        LimitScope::Group => {
            options.shares.take(limit.scope, &request.counted_as(&limit.by), pace, now)
        }
    };
    match counted_here {
        Ok(left) => {
            if let Some(counted) = counted {
                counted.borrow_mut().push(limit.scope);
            }
            show(limit, &mut request.kept, left.requests, left.whole_in);
            Ok(ControlFlow::Continue(()))
        }
        Err(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            request.kept.retry_after = Some(seconds.max(1));
            request.kept.limit_status = Some(limit.status);
            show(limit, &mut request.kept, 0, wait.max(Duration::from_secs(1)));
            Err(ProxyErrorKind::TooManyRequests)
        }
    }
}

/// Notes what the client is told.
fn show(limit: &RateLimit, kept: &mut Kept, left: u32, whole_in: Duration) {
    if let Some(shown) = &limit.shown
        && let Some(item) = shown.left(left, whole_in)
    {
        kept.rates.get_or_insert_default().push((limit.scope, item));
    }
}

/// Tells the client of its limits.
pub(super) fn on_response(limit: &RateLimit, kept: &Kept, headers: &mut HeaderMap) {
    if let Some(seconds) = kept.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let mut rates = kept.rates.iter().flat_map(|rates| rates.iter());
    if let Some(shown) = &limit.shown
        && let Some((_, left)) = rates.find(|(scope, _)| *scope == limit.scope)
    {
        headers.append(&POLICY, shown.policy.clone());
        headers.append(&LEFT, left.clone());
    }
}
