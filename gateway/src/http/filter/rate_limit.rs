//! How many requests a client may send.

use std::{ops::ControlFlow, time::Instant};

use gatehouse_routes::filter::rate_limit::RateLimit;

use super::{FilterRequest, Outcome};
use crate::http::error::ProxyErrorKind;

/// Answers requests that are too many, and says when the next one may come (RFC 6585 §4).
pub(super) fn on_request(limit: &RateLimit, request: &mut FilterRequest<'_>) -> Outcome {
    let client = request.client();
    if limit.exempt.contains(client) {
        return Ok(ControlFlow::Continue(()));
    }
    let counted = limit.connections.then_some(&request.conn.counted);
    if counted.is_some_and(|counted| counted.borrow().contains(&limit.scope)) {
        return Ok(ControlFlow::Continue(()));
    }
    let rates = &request.conn.shared.worker.options.rates;
    let key = (limit.scope, RateLimit::counted_by(client));
    let taken = rates.take(key, limit.interval, limit.burst, Instant::now());
    let Err(wait) = taken else {
        if let Some(counted) = counted {
            counted.borrow_mut().push(limit.scope);
        }
        return Ok(ControlFlow::Continue(()));
    };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    request.kept.retry_after = Some(seconds.max(1));
    Err(ProxyErrorKind::TooManyRequests)
}
