//! How many requests a client may send.

use std::{ops::ControlFlow, time::Instant};

use gatehouse_routes::filter::rate_limit::RateLimit;
use http::{HeaderValue, header};

use super::{FilterRequest, Outcome};
use crate::http::{error::ProxyErrorKind, respond};

/// Answers requests that are too many, and says when the next one may come (RFC 6585 §4).
pub(super) fn on_request(limit: &RateLimit, request: &FilterRequest<'_>) -> Outcome {
    let client = request.client();
    if limit.exempt.contains(client) {
        return Ok(ControlFlow::Continue(()));
    }
    let rates = &request.conn.shared.worker.options.rates;
    let key = (limit.scope, RateLimit::counted_by(client));
    let taken = rates.take(key, limit.interval, limit.burst, Instant::now());
    let Err(wait) = taken else { return Ok(ControlFlow::Continue(())) };
    let mut response = respond::error(ProxyErrorKind::TooManyRequests);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    Ok(ControlFlow::Break(response))
}
