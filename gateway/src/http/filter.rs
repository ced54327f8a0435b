//! The filters of a rule at work: one call before its action, one with the answer.
//!
//! What a filter is told and when it has its turn stands in [`gatehouse_routes::filter`]; `proxy` calls the
//! two functions here, which give the word to one file per filter. A filter that is not done at once boxes
//! its own future, so that requests without it do not carry it. A rule without filters costs one branch
//! each way.

use std::{borrow::Cow, ops::ControlFlow};

use gatehouse_routes::{filter::Filter, model::Scheme};
use http::{Response, Uri};

use crate::http::{
    body::{BodyTransform, ResponseBody},
    error::ProxyErrorKind,
    head::RequestHead,
};

mod https_redirect;
mod rewrite;

/// A request as filters see it, and what they leave for the way to the backend.
pub(crate) struct FilterRequest<'r> {
    pub(crate) scheme: Scheme,
    pub(crate) head: &'r RequestHead<'r>,
    /// The target as received.
    pub(crate) uri: &'r Uri,
    /// The path that the backend gets instead of the one received.
    pub(crate) path: Option<Cow<'r, str>>,
}

impl<'r> FilterRequest<'r> {
    /// A request that no filter has seen.
    pub(crate) fn new(scheme: Scheme, head: &'r RequestHead<'r>, uri: &'r Uri) -> Self {
        Self { scheme, head, uri, path: None }
    }
}

/// What a filter says to a request: go on, or an answer of our own.
pub(crate) type Outcome = Result<ControlFlow<Response<ResponseBody>>, ProxyErrorKind>;

/// The request phases, in their order: the slice is sorted by phase.
#[inline]
pub(crate) fn run_request<'r>(filters: &'r [Filter], request: &mut FilterRequest<'r>) -> Outcome {
    for filter in filters {
        let flow = match filter {
            Filter::HttpsRedirect(redirect) => https_redirect::on_request(*redirect, request)?,
            Filter::Rewrite(rewrite) => rewrite::on_request(rewrite, request),
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The response phases, for every answer that a rule gives: a backend's, our own, errors.
#[inline]
pub(crate) fn run_response(filters: &[Filter], response: &mut Response<ResponseBody>) {
    for filter in filters {
        if let Some(transform) = on_response(filter, response) {
            response.body_mut().transform(transform);
        }
    }
}

/// What a filter does with an answer: changes to its head at once, changes to its body by the value that
/// it returns.
fn on_response(
    filter: &Filter,
    _response: &mut Response<ResponseBody>,
) -> Option<Box<dyn BodyTransform>> {
    match filter {
        Filter::HttpsRedirect(_) | Filter::Rewrite(_) => None,
    }
}
