//! Who a client is: the one phase of a request that may wait.
//!
//! `proxy` boxes [`run`], so that requests of rules without authentication do not carry it. It has the filters
//! before it run first, and gives the head back that it was lent. Whatever goes wrong here refuses the request.

use std::{ops::ControlFlow, rc::Rc, sync::Arc};

use gatehouse_routes::{
    filter::authentication::{Authentication, jwt::Claims},
    matcher::RequestView,
    model::Scheme,
    rule::RouteRule,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

use super::{FilterRequest, Kept, Outcome, Own, run_request};
use crate::{
    http::{client::ClientConn, error::ProxyErrorKind, head::RequestHead, headers},
    snapshot::{GatewaySnapshot, Snapshot},
    worker::timeouts::RequestTimers,
};

mod basic;
mod external;
mod jwt;

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
enum Decision {
    Passes,
    Refuses(Own),
}

/// What is known of a client that passes.
#[derive(Default)]
pub(crate) struct Passed {
    /// What its token says, which is verified.
    claims: Option<Rc<Claims>>,
    /// Fields of the request that the backend gets.
    set: Vec<(HeaderName, HeaderValue)>,
    /// Cookies that the client gets.
    cookies: Vec<HeaderValue>,
    /// Whatever the status of the answer.
    always: bool,
}

impl Kept {
    /// What the client's token says, which is verified: for filters that have their turn after authentication.
    pub(crate) fn claims(&self) -> Option<&Claims> {
        self.passed.as_ref()?.claims.as_deref()
    }

    /// What an authentication service was told that the request is called.
    pub(crate) fn request_id(&self) -> Option<&HeaderValue> {
        let mut set = self.passed.as_ref()?.set.iter();
        set.find(|(name, _)| *name == external::X_REQUEST_ID).map(|(_, value)| value)
    }
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
    authentication: &Arc<Authentication>,
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
    let mut so_far = SoFar { any: any.is_some(), refusal: None };
    // In the order of what they cost.
    if let Some(basic) = &authentication.basic {
        let decision = basic::check(basic, request).await?;
        if let Some(end) = so_far.then(decision) {
            return Ok(end);
        }
    }
    if let Some(jwt) = &authentication.jwt {
        let decision = match jwt::check(jwt, request, &gate.snapshot.backends).await? {
            Ok(claims) => {
                kept.passed.get_or_insert_default().claims = Some(claims);
                Decision::Passes
            }
            Err(refusal) => Decision::Refuses(refusal),
        };
        if let Some(end) = so_far.then(decision) {
            return Ok(end);
        }
    }
    if let Some(external) = &authentication.external {
        let decision = external::check((external, authentication), gate, request, kept).await?;
        if let Some(end) = so_far.then(decision) {
            return Ok(end);
        }
    }
    match so_far.refusal {
        Some(refusal) => Ok(ControlFlow::Break(refusal)),
        // With `any`, a request that passes one has returned by now.
        None if any.is_some() => Err(ProxyErrorKind::Unauthorized),
        None => Ok(ControlFlow::Continue(())),
    }
}

/// What the methods have said so far.
struct SoFar {
    /// One is enough.
    any: bool,
    refusal: Option<Own>,
}

impl SoFar {
    /// Takes what the next one says; what comes of it, if the others need not be asked.
    fn then(&mut self, decision: Decision) -> Option<ControlFlow<Own>> {
        match decision {
            Decision::Passes if self.any => Some(ControlFlow::Continue(())),
            Decision::Passes => None,
            Decision::Refuses(refusal) if !self.any => Some(ControlFlow::Break(refusal)),
            Decision::Refuses(mut refusal) => {
                // The last refusal, with what the others ask for.
                for before in self.refusal.iter_mut().map(Own::fields_mut) {
                    for challenge in before.get_all(header::WWW_AUTHENTICATE) {
                        refusal.fields_mut().append(header::WWW_AUTHENTICATE, challenge.clone());
                    }
                }
                self.refusal = Some(refusal);
                None
            }
        }
    }
}

/// The fields that say who a client is, where that is the gateway's to say.
pub(super) fn own_names(authentication: &Authentication) -> impl Iterator<Item = &HeaderName> {
    let Authentication { any: _, basic: _, jwt, external } = authentication;
    let copied = external.iter().flat_map(|external| &external.copy);
    copied.chain(jwt.iter().flat_map(|jwt| jwt.copy.iter().map(|(_, name)| name)))
}

/// Takes them off where a client says them itself, and its password, which is for the gateway alone.
pub(super) fn strip(authentication: &Authentication, headers: &mut HeaderMap) {
    if authentication.basic.is_some() {
        headers.remove(header::AUTHORIZATION);
    }
    for name in own_names(authentication) {
        headers::remove_spellings(headers, name);
    }
}

/// What the backend gets to know of who a client is: what was found out, and nothing that the client says itself.
pub(super) fn on_forward(authentication: &Authentication, kept: &Kept, headers: &mut HeaderMap) {
    strip(authentication, headers);
    let Some(passed) = &kept.passed else { return };
    for (name, _) in &passed.set {
        headers.remove(name);
    }
    for (name, value) in &passed.set {
        headers.append(name, value.clone());
    }
    if let (Some(jwt), Some(claims)) = (&authentication.jwt, kept.claims()) {
        for (name, value) in jwt.fields(claims) {
            headers.append(name, value);
        }
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
