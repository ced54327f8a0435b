//! How many requests a client may have under way.

use std::ops::ControlFlow;

use gatehouse_routes::filter::connection_limit::ConnectionLimit;

use super::{FilterRequest, Outcome};
use crate::{http::error::ProxyErrorKind, worker::in_flight::Table};

/// Counts a request until its answer has left, and refuses those that are too many.
pub(super) fn on_request(limit: &ConnectionLimit, request: &mut FilterRequest<'_>) -> Outcome {
    if limit.exempt.contains(request.client()) {
        return Ok(ControlFlow::Continue(()));
    }
    let table = &request.conn.shared.worker.options.in_flight;
    let key = (limit.scope, request.counted_by(&limit.by));
    match Table::begin(table, key, limit.limit) {
        Ok(counted) => {
            request.kept.counted = Some(Box::new(counted));
            Ok(ControlFlow::Continue(()))
        }
        Err(_) => {
            request.kept.limit_status = Some(limit.status);
            Err(ProxyErrorKind::TooManyRequests)
        }
    }
}
