//! Who a client is: the one phase of a request that may wait.
//!
//! `proxy` boxes [`run`], so that requests of rules without authentication do not carry it. It has the filters
//! before it run first, and gives the head back that it was lent. Whatever goes wrong here refuses the request.

use std::{ops::ControlFlow, rc::Rc};

use gatehouse_routes::{
    filter::authentication::Authentication, matcher::RequestView, model::Scheme, rule::RouteRule,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};

use super::{FilterRequest, Kept, Outcome, run_request};
use crate::{
    http::{body::ResponseBody, client::ClientConn, error::ProxyErrorKind, head::RequestHead},
    snapshot::{GatewaySnapshot, Snapshot},
    worker::timeouts::RequestTimers,
};

mod basic;
mod external;

/// A request at the gate.
pub(crate) struct Gate<'g> {
    pub(crate) conn: &'g Rc<ClientConn>,
    pub(crate) snapshot: &'g Snapshot,
    pub(crate) gateway: &'g GatewaySnapshot,
    pub(crate) timers: &'g Rc<RequestTimers>,
    /// The request, as it came.
    pub(crate) parts: &'g Parts,
    pub(crate) rule: &'g RouteRule,
    pub(crate) scheme: Scheme,
}

/// What one method says.
enum Verdict {
    Passes(Option<Box<Passed>>),
    Refuses(Response<ResponseBody>),
}

/// What is known of a client that passes.
pub(crate) struct Passed {
    /// Fields of the request that the backend gets.
    set: Vec<(HeaderName, HeaderValue)>,
    /// Cookies that the client gets.
    cookies: Vec<HeaderValue>,
    /// Whatever the status of the answer.
    always: bool,
}

/// Runs the filters up to authentication, and authentication.
pub(crate) async fn run<'p>(
    gate: Gate<'_>,
    head: RequestHead<'p>,
    kept: &mut Kept,
) -> (RequestHead<'p>, Outcome) {
    let outcome = outcome(&gate, &head, kept).await;
    (head, outcome)
}

async fn outcome(gate: &Gate<'_>, head: &RequestHead<'_>, kept: &mut Kept) -> Outcome {
    let Some((at, authentication)) = gate.rule.filters.authentication() else {
        return Ok(ControlFlow::Continue(()));
    };
    let parts = gate.parts;
    let view = RequestView { scheme: gate.scheme, host: &head.host, path: &head.path, parts };
    let mut request = FilterRequest::new((gate.conn, gate.gateway), head, &view);
    request.kept = std::mem::take(kept);
    let before = run_request(&gate.rule.filters[..at], &mut request);
    *kept = std::mem::take(&mut request.kept);
    if before.as_ref().map_or(true, ControlFlow::is_break) {
        return before;
    }
    authenticate(authentication, gate, &request, kept).await
}

async fn authenticate(
    authentication: &Authentication,
    gate: &Gate<'_>,
    request: &FilterRequest<'_>,
    kept: &mut Kept,
) -> Outcome {
    let any = authentication.any.as_ref();
    // Without a rule about addresses none is enough.
    let named = any.filter(|rules| !rules.allow.is_empty() || !rules.deny.is_empty());
    if named.is_some_and(|rules| rules.admit(request.client())) {
        return Ok(ControlFlow::Continue(()));
    }
    let mut refusal = None;
    if let Some(basic) = &authentication.basic {
        match basic::check(basic, request).await? {
            Verdict::Passes(_) if any.is_some() => return Ok(ControlFlow::Continue(())),
            Verdict::Passes(_) => {}
            Verdict::Refuses(response) if any.is_some() => refusal = Some(response),
            Verdict::Refuses(response) => return Ok(ControlFlow::Break(response)),
        }
    }
    if let Some(external) = &authentication.external {
        match external::check(external, gate, request).await? {
            Verdict::Passes(passed) => {
                kept.passed = passed;
                return Ok(ControlFlow::Continue(()));
            }
            Verdict::Refuses(response) => refusal = Some(response),
        }
    }
    match refusal {
        Some(response) => Ok(ControlFlow::Break(response)),
        // With `any`, whoever passes one has returned by now.
        None if any.is_some() => Err(ProxyErrorKind::Unauthorized),
        None => Ok(ControlFlow::Continue(())),
    }
}

/// What the backend gets to know of who a client is: what was found out, and nothing that the client says itself.
pub(super) fn on_forward(authentication: &Authentication, kept: &Kept, headers: &mut HeaderMap) {
    if authentication.basic.is_some() {
        headers.remove(header::AUTHORIZATION);
    }
    if let Some(external) = &authentication.external {
        for name in &external.copy {
            headers.remove(name);
        }
    }
    let Some(passed) = &kept.passed else { return };
    for (name, _) in &passed.set {
        headers.remove(name);
    }
    for (name, value) in &passed.set {
        headers.append(name, value.clone());
    }
}

/// The cookies of the authentication service, on the answers on which nginx sets fields.
pub(super) fn on_response(kept: &Kept, status: StatusCode, headers: &mut HeaderMap) {
    let Some(passed) = &kept.passed else { return };
    if passed.always
        || matches!(status.as_u16(), 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
    {
        for cookie in &passed.cookies {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
    }
}
