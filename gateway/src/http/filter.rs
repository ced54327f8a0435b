//! The filters of a rule at work: one call before its action, one with the answer.
//!
//! What a filter is told and when it has its turn stands in [`gatehouse_routes::filter`]; `proxy` calls the
//! two functions here, which give the word to one file per filter. A filter that is not done at once boxes
//! its own future, so that requests without it do not carry it. A rule without filters costs one branch
//! each way.

use std::{borrow::Cow, net::IpAddr, ops::ControlFlow};

use gatehouse_routes::{
    filter::{
        Filter,
        compress::Coding,
        header_edits,
        limit_key::{self, LimitKey},
    },
    matcher::RequestView,
    model::Scheme,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts,
};

use crate::{
    http::{
        body::{BodyTransform, ResponseBody},
        client::ClientConn,
        client_certificate::Certified,
        error::ProxyErrorKind,
        head::RequestHead,
        headers::{self, client_address},
    },
    snapshot::GatewaySnapshot,
    worker::in_flight::Counted,
};

mod access;
mod answer_fields;
pub(crate) mod authenticate;
mod cases;
mod compress;
mod connection_limit;
mod cors;
mod https_redirect;
pub(crate) mod mirror;
mod rate_limit;
pub(crate) mod redirect;
mod rewrite;

/// A request as filters see it, and what they leave for the way to the backend.
pub(crate) struct FilterRequest<'r> {
    conn: &'r ClientConn,
    gateway: &'r GatewaySnapshot,
    /// That of the client.
    pub(crate) scheme: Scheme,
    pub(crate) head: &'r RequestHead<'r>,
    /// The target as received.
    pub(crate) uri: &'r Uri,
    method: &'r Method,
    headers: &'r HeaderMap,
    /// What the two above are parts of.
    parts: &'r Parts,
    /// What the answer has to look like because of what was asked.
    pub(crate) kept: Kept,
    /// Bytes of body that may go on to the backend.
    pub(crate) body_limit: Option<u64>,
    /// The path that the backend gets instead of the one received.
    pub(crate) path: Option<Cow<'r, str>>,
}

impl<'r> FilterRequest<'r> {
    /// A request that no filter has seen.
    pub(crate) fn new(
        (conn, gateway): (&'r ClientConn, &'r GatewaySnapshot),
        head: &'r RequestHead<'r>,
        view: &RequestView<'r>,
    ) -> Self {
        Self {
            conn,
            gateway,
            scheme: view.scheme,
            head,
            uri: &view.parts.uri,
            method: &view.parts.method,
            headers: &view.parts.headers,
            parts: view.parts,
            kept: Kept::default(),
            body_limit: None,
            path: None,
        }
    }

    /// The request as rules see it.
    fn view(&self) -> RequestView<'_> {
        RequestView {
            scheme: self.scheme,
            host: &self.head.host,
            path: &self.head.path,
            parts: self.parts,
        }
    }

    /// What the client is counted by.
    fn counted_as<'k>(&'k self, key: &'k LimitKey) -> limit_key::Client<'k> {
        key.of(&self.view(), self.kept.claims(), || self.client())
    }

    /// What stands for that on this node.
    fn counted_by(&self, key: &LimitKey) -> u64 {
        match self.counted_as(key) {
            limit_key::Client::Network(network) => network,
            limit_key::Client::Named(name) => self.conn.shared.worker.options.rates.digest(&name),
        }
    }

    /// The address of the client, as trusted proxies tell it.
    fn client(&self) -> IpAddr {
        client_address(self.headers, &self.conn.forwarding)
    }
}

/// What filters that look at the request keep for its answer. Most requests have nothing to keep.
#[derive(Default)]
pub(crate) struct Kept {
    /// An origin whose pages may read the answer.
    origin: Option<Box<HeaderValue>>,
    /// What redirects and cookies of the answer are rewritten with.
    named: Option<Box<answer_fields::Named>>,
    /// The coding that the client takes its answer in.
    coding: Option<Coding>,
    /// The request counts as one under way.
    pub(crate) counted: Option<Box<Counted>>,
    /// Seconds after which the client may ask again.
    retry_after: Option<u64>,
    /// The status of an answer to what is too much.
    pub(crate) limit_status: Option<StatusCode>,
    /// What the client is told of its limits, by their scopes.
    #[expect(
        clippy::box_collection,
        reason = "nearly no request has any, and this is moved with each"
    )]
    rates: Option<Box<Vec<(u64, HeaderValue)>>>,
    /// The answer is a backend's.
    pub(crate) proxied: bool,
    /// A copy that is to be sent.
    pub(crate) copy: Option<Box<mirror::Copy>>,
    /// What was found of the client's certificate, where the host asks for one.
    pub(crate) certified: Option<Box<Certified>>,
    /// What authentication found out.
    passed: Option<Box<authenticate::Passed>>,
}

impl Kept {
    /// The certificate of the client (DER), where its host asks for one; empty if it has shown none.
    fn certificate(&self) -> &[u8] {
        self.certified.as_ref().map_or(&[], |certified| certified.der())
    }
}

/// An answer of our own.
pub(crate) enum Own {
    /// As it stands.
    Answer(Response<ResponseBody>),
    /// A failure, which is worded and logged as any other, and fields of its answer.
    Failure(ProxyErrorKind, HeaderMap),
}

impl Own {
    fn fields_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Answer(response) => response.headers_mut(),
            Self::Failure(_, fields) => fields,
        }
    }
}

impl From<Response<ResponseBody>> for Own {
    fn from(response: Response<ResponseBody>) -> Self {
        Self::Answer(response)
    }
}

/// What a filter says to a request: go on, or an answer of our own.
pub(crate) type Outcome = Result<ControlFlow<Own>, ProxyErrorKind>;

/// The request phases, in their order: the slice is sorted by phase.
#[inline]
pub(crate) fn run_request<'r>(filters: &'r [Filter], request: &mut FilterRequest<'r>) -> Outcome {
    for filter in filters {
        let flow = match filter {
            Filter::HttpsRedirect(redirect) => https_redirect::on_request(*redirect, request)?,
            Filter::Access(rules) => access::on_request(rules, request)?,
            Filter::Block(block) if block.refuses(request.headers) => {
                return Err(ProxyErrorKind::ClientBlocked);
            }
            Filter::Block(_) => ControlFlow::Continue(()),
            Filter::Cases(all) => cases::on_request(all, request)?,
            // It was looked at before all filters; a request that comes here all the same has not been.
            Filter::ClientCertificate(_) if request.kept.certified.is_none() => {
                return Err(ProxyErrorKind::Denied);
            }
            Filter::BodyLimit(bytes) => {
                request.body_limit = Some(*bytes);
                ControlFlow::Continue(())
            }
            Filter::RateLimit(limit) => rate_limit::on_request(limit, request)?,
            Filter::Connections(limit) => connection_limit::on_request(limit, request)?,
            // It has a phase of its own; a request that comes here all the same has skipped it.
            Filter::Authenticate(_) => return Err(ProxyErrorKind::Denied),
            Filter::Compress(compress) => {
                compress::on_request(compress, request);
                ControlFlow::Continue(())
            }
            Filter::Cors(cors) => cors::on_request(cors, request),
            Filter::Rewrite(rewrite) => rewrite::on_request(rewrite, request)?,
            Filter::Mirror(mirror) => {
                mirror::on_request(mirror, request);
                ControlFlow::Continue(())
            }
            Filter::AnswerFields(fields) => {
                answer_fields::on_request(fields, request);
                ControlFlow::Continue(())
            }
            Filter::SetHeader(..)
            | Filter::EditRequest(_)
            | Filter::EditResponse(_)
            | Filter::ClientCertificate(_)
            | Filter::Tls(_)
            | Filter::ErrorPages(_)
            | Filter::Pace(_)
            | Filter::Hsts(_) => ControlFlow::Continue(()),
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// What the fields of the request become that the backend gets, after our own were set.
#[inline]
pub(crate) fn run_forward(filters: &[Filter], kept: &Kept, headers: &mut HeaderMap) {
    for filter in filters {
        match filter {
            Filter::SetHeader(name, value) => {
                headers::remove_spellings(headers, name);
                headers.insert(name, value.clone());
            }
            Filter::EditRequest(edits) => {
                header_edits::apply(edits, kept.certificate(), headers);
                // An object may set one field in several spellings; a client may not.
                let own = |name: &HeaderName| edits.iter().any(|edit| edit.name == *name);
                for edit in edits.iter() {
                    headers::remove_aliases(headers, &edit.name, own);
                }
            }
            Filter::Authenticate(authentication) => {
                authenticate::on_forward(authentication, kept, headers);
            }
            _ => {}
        }
    }
}

/// The fields that the backend of a rule gets of the gateway alone, whatever a client says in their place.
pub(crate) fn own_names(filters: &[Filter]) -> impl Iterator<Item = &HeaderName> {
    filters.iter().flat_map(|filter| {
        let set = if let Filter::SetHeader(name, _) = filter { Some(name) } else { None };
        let edits = if let Filter::EditRequest(edits) = filter { &**edits } else { &[] };
        let found = if let Filter::Authenticate(found) = filter { Some(&**found) } else { None };
        let found = found.into_iter().flat_map(authenticate::own_names);
        set.into_iter().chain(edits.iter().map(|edit| &edit.name)).chain(found)
    })
}

/// Takes off a request what the backend of a rule gets of the gateway alone, for a service that is told none of it: what
/// the client says in its place would be believed there.
pub(crate) fn strip(filters: &[Filter], headers: &mut HeaderMap) {
    // Without a host there is no request.
    for name in own_names(filters).filter(|name| **name != header::HOST) {
        headers::remove_spellings(headers, name);
    }
    for filter in filters {
        if let Filter::Authenticate(authentication) = filter {
            authenticate::strip(authentication, headers);
        }
    }
}

/// The response phases, for every answer that a rule gives: a backend's, our own, errors.
#[inline]
pub(crate) fn run_response(
    filters: &[Filter],
    scheme: Scheme,
    kept: &Kept,
    response: &mut Response<ResponseBody>,
) {
    for filter in filters {
        if let Some(transform) = on_response(filter, scheme, kept, response) {
            response.body_mut().transform(transform);
        }
    }
}

/// What a filter does with an answer: changes to its head at once, changes to its body by the value that
/// it returns.
fn on_response(
    filter: &Filter,
    scheme: Scheme,
    kept: &Kept,
    response: &mut Response<ResponseBody>,
) -> Option<Box<dyn BodyTransform>> {
    match filter {
        Filter::Cors(cors) => cors::on_response(cors, kept, response.headers_mut()),
        Filter::Authenticate(_) => {
            let status = response.status();
            authenticate::on_response(kept, status, response.headers_mut());
        }
        Filter::Hsts(value) if scheme == Scheme::Https => {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
        Filter::AnswerFields(fields) => {
            answer_fields::on_response(fields, kept, response.headers_mut());
        }
        Filter::EditResponse(edits) => {
            header_edits::apply(edits, kept.certificate(), response.headers_mut());
        }
        Filter::RateLimit(limit) => rate_limit::on_response(limit, kept, response.headers_mut()),
        Filter::Compress(compress) => return compress::on_response(compress, kept, response),
        Filter::Pace(rate) => response.body_mut().pace(*rate),
        Filter::HttpsRedirect(_)
        | Filter::Connections(_)
        | Filter::Access(_)
        | Filter::Block(_)
        | Filter::Cases(_)
        | Filter::ClientCertificate(_)
        | Filter::Tls(_)
        | Filter::BodyLimit(_)
        | Filter::Rewrite(_)
        | Filter::Mirror(_)
        | Filter::EditRequest(_)
        | Filter::SetHeader(..)
        | Filter::ErrorPages(_)
        | Filter::Hsts(_) => {}
    }
    None
}

/// A scheme as URLs spell it.
fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}
