//! Who may pass by the address that a request comes from.

use std::ops::ControlFlow;

use gatehouse_routes::filter::AddressRules;

use super::{FilterRequest, Outcome};
use crate::http::error::ProxyErrorKind;

/// Refuses clients whose address the rules do not admit.
pub(super) fn on_request(rules: &AddressRules, request: &FilterRequest<'_>) -> Outcome {
    if rules.admit(request.client()) {
        Ok(ControlFlow::Continue(()))
    } else {
        Err(ProxyErrorKind::AddressRefused)
    }
}
