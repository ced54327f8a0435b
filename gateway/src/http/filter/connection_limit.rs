//! How many requests a client may have under way.

use std::ops::ControlFlow;

use gatehouse_routes::filter::{connection_limit::ConnectionLimit, rate_limit::RateLimit};

use super::{FilterRequest, Outcome};
use crate::{http::error::ProxyErrorKind, worker::in_flight::Table};

/// Counts a request until its answer has left, and refuses those that are too many.
pub(super) fn on_request(limit: &ConnectionLimit, request: &mut FilterRequest<'_>) -> Outcome {
    let client = request.client();
    if limit.exempt.contains(client) {
        return Ok(ControlFlow::Continue(()));
    }
    let table = &request.conn.shared.worker.options.in_flight;
    let key = (limit.scope, RateLimit::counted_by(client));
    match Table::begin(table, key, limit.limit) {
        Ok(counted) => {
            request.kept.counted = Some(Box::new(counted));
            Ok(ControlFlow::Continue(()))
        }
        Err(_) => Err(ProxyErrorKind::TooManyRequests),
    }
}
