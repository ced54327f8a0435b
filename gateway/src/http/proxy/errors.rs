//! What a client gets instead of an error, where the rule has something to say about it: what the Service for
//! errors answers, or a page of the object.
//!
//! `proxy` keeps what the request said before the request goes on, and shows every answer of such a rule here.

use std::rc::Rc;

use bytes::Bytes;
use gatehouse_routes::{
    action::Forward,
    filter::{
        Filter,
        error_pages::{ErrorPage, ErrorPages},
    },
    rule::RouteRule,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    request::Parts, uri::PathAndQuery,
};

use super::{Answer, Origin, finish_answer};
use crate::{
    http::{
        body::ResponseBody,
        client::ClientConn,
        error::ProxyErrorKind,
        exchange::exchange,
        filter,
        head::{RequestHead, Seen},
        headers,
        record::Record,
    },
    snapshot::Snapshot,
    upstream::request_body::RequestBody,
};

const X_CODE: HeaderName = HeaderName::from_static("x-code");
const X_FORMAT: HeaderName = HeaderName::from_static("x-format");
const X_INGRESS_NAME: HeaderName = HeaderName::from_static("x-ingress-name");
const X_NAMESPACE: HeaderName = HeaderName::from_static("x-namespace");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_SERVICE_NAME: HeaderName = HeaderName::from_static("x-service-name");
const X_SERVICE_PORT: HeaderName = HeaderName::from_static("x-service-port");

/// Fields of a request that say nothing about its error: those of its body, and conditions.
const NOT_ASKED: [HeaderName; 13] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    X_CODE,
];

/// Fields of an error that hold whatever words it.
const KEPT: [HeaderName; 5] = [
    header::ALLOW,
    header::CONNECTION,
    header::RETRY_AFTER,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
];

/// What a request said, and what its rule wants done about errors.
pub(super) struct Asked<'r> {
    rule: &'r RouteRule,
    pages: &'r ErrorPages,
    seen: Seen,
    head: bool,
    authority: Option<HeaderValue>,
    target: Option<PathAndQuery>,
    headers: HeaderMap,
}

/// Where an answer is made.
#[derive(Clone, Copy)]
pub(super) struct Via<'a> {
    pub(super) conn: &'a Rc<ClientConn>,
    pub(super) snapshot: &'a Snapshot,
}

impl<'r> Asked<'r> {
    /// Keeps a request whose rule cares for errors.
    pub(super) fn of(
        rule: &'r RouteRule,
        head: &RequestHead<'_>,
        parts: &Parts,
    ) -> Option<Box<Self>> {
        let pages = rule.filters.iter().find_map(|filter| match filter {
            Filter::ErrorPages(pages) => Some(&**pages),
            _ => None,
        })?;
        let mut headers = HeaderMap::new();
        if pages.backend.is_some() {
            headers = parts.headers.clone();
            for name in &NOT_ASKED {
                headers.remove(name);
            }
        } else {
            for name in [header::ACCEPT, X_REQUEST_ID] {
                if let Some(value) = parts.headers.get(&name) {
                    headers.insert(name, value.clone());
                }
            }
        }
        let authority = parts.uri.authority();
        Some(Box::new(Self {
            rule,
            pages,
            seen: head.seen,
            head: parts.method == Method::HEAD,
            authority: authority.and_then(|it| HeaderValue::from_str(it.as_str()).ok()),
            target: head.path_and_query(&parts.uri),
            headers,
        }))
    }

    /// The answer that the client gets.
    pub(super) async fn instead(
        &self,
        via: Via<'_>,
        record: &mut Record,
        answer: Answer,
    ) -> Answer {
        let status = answer.response.status();
        let (empty, failed) = match answer.origin {
            Origin::Gateway(kind) => (kind == Some(ProxyErrorKind::NoEndpoints), kind.is_some()),
            Origin::Backend => (false, false),
        };
        let is_backends = matches!(answer.origin, Origin::Backend);
        let meant = self.pages.statuses.binary_search(&status.as_u16()).is_ok()
            && !(is_backends && self.pages.leaves_backend);
        if !meant && !failed {
            return answer;
        }
        let mut worded = None;
        if let Some(forward) = self.pages.backend.as_ref().filter(|_| meant || empty) {
            worded = self.ask(via, record, forward, status, empty).await;
        }
        let worded = worded.or_else(|| {
            let page = self.pages.page(status.as_u16(), self.headers.get(header::ACCEPT));
            match page {
                Some(page) => Some(self.page(page, record, status)),
                None if is_backends => Some(plain(record, status)),
                None => None,
            }
        });
        let Some(mut response) = worded else { return answer };
        let Answer { response: replaced, origin } = answer;
        let (replaced, body) = replaced.into_parts();
        let fields = response.headers_mut();
        for name in &KEPT {
            if replaced.headers.contains_key(name) {
                fields.remove(name);
            }
            replaced.headers.get_all(name).iter().for_each(|value| {
                fields.append(name, value.clone());
            });
        }
        if !is_backends {
            // Those of an authentication service, with which its client comes back.
            for cookie in replaced.headers.get_all(header::SET_COOKIE) {
                fields.append(header::SET_COOKIE, cookie.clone());
            }
            for name in [header::CACHE_CONTROL, header::PRAGMA] {
                if let Some(value) = replaced.headers.get(&name)
                    && !fields.contains_key(&name)
                {
                    fields.insert(name, value.clone());
                }
            }
        }
        body.discard(record);
        Answer { response, origin }
    }

    /// What the Service for errors says; `None`: nothing.
    async fn ask(
        &self,
        Via { conn, snapshot }: Via<'_>,
        record: &mut Record,
        forward: &Forward,
        status: StatusCode,
        empty: bool,
    ) -> Option<Response<ResponseBody>> {
        let (mut parts, ()) = Request::new(()).into_parts();
        if self.head {
            parts.method = Method::HEAD;
        }
        if let Some(target) = self.target.as_ref().filter(|_| empty) {
            parts.uri = Uri::from(target.clone());
        }
        parts.headers = self.headers.clone();
        headers::prepare_request(
            &mut parts.headers,
            self.seen,
            None,
            self.authority.clone(),
            (&conn.forwarding, None),
        );
        // Nothing was found out of its client that it may believe.
        if self.seen.certificate {
            headers::remove_certificate(&mut parts.headers);
        }
        filter::strip(&self.rule.filters, &mut parts.headers);
        if let Some(of_rule) = self.rule.forward() {
            headers::hide_session(&of_rule.spec.policy, &mut parts.headers);
        }
        self.tell(&mut parts.headers, record, status);
        let clock = Rc::clone(conn.shared.worker.clock());
        let mut body = RequestBody::new(None, Rc::clone(&record.timers), clock);
        record.timers.go_on();
        let mark = record.mark();
        let exchanged = exchange(conn, record, snapshot, forward, &mut parts, &mut body).await;
        record.restore(mark);
        let policy = &forward.spec.policy;
        exchanged.and_then(|exchanged| finish_answer(conn, record, (None, policy), exchanged)).ok()
    }

    /// Which error it is, in the fields of ingress-nginx.
    fn tell(&self, headers: &mut HeaderMap, record: &mut Record, status: StatusCode) {
        let key = &self.rule.object.key;
        let backend = self.rule.forward().and_then(|forward| forward.spec.backends.first());
        let set = |headers: &mut HeaderMap, name: HeaderName, text: &str| {
            headers::remove_spellings(headers, &name);
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        set(headers, X_CODE, status.as_str());
        set(headers, X_ORIGINAL_URI, self.target.as_ref().map_or("/", PathAndQuery::as_str));
        set(headers, X_NAMESPACE, &key.namespace);
        set(headers, X_INGRESS_NAME, &key.name);
        for name in [X_SERVICE_NAME, X_SERVICE_PORT, X_FORMAT] {
            headers::remove_spellings(headers, &name);
        }
        if let Some(backend) = backend {
            set(headers, X_SERVICE_NAME, &backend.key.service.name);
            set(headers, X_SERVICE_PORT, &backend.key.port.to_string());
        }
        let accept = self.headers.get(header::ACCEPT).cloned();
        headers.insert(X_FORMAT, accept.unwrap_or(HeaderValue::from_static("")));
        if let Some(id) = record.request_id(headers) {
            headers.insert(X_REQUEST_ID, id);
        }
    }

    fn page(
        &self,
        page: &ErrorPage,
        record: &mut Record,
        status: StatusCode,
    ) -> Response<ResponseBody> {
        let id = record.request_id(&self.headers);
        let id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let reason = status.canonical_reason().unwrap_or_default();
        let mut response =
            text(status, page.content_type(), page.fill(status.as_u16(), reason, id));
        for (name, value) in page.fields() {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

/// Words an error of the gateway itself as the process does, if it has a text for it.
pub(super) fn word(
    snapshot: &Snapshot,
    record: &mut Record,
    headers: &HeaderMap,
    response: &mut Response<ResponseBody>,
) {
    let Some(pages) = snapshot.error_pages() else { return };
    let status = response.status();
    let accept = headers.get(header::ACCEPT);
    let Some(page) = pages.page(status.as_u16(), accept) else { return };
    let id = record.request_id(headers);
    let id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or_default();
    *response.body_mut() = ResponseBody::full(page.fill(status.as_u16(), reason, id).into());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, page.content_type());
    for (name, value) in page.fields() {
        fields.insert(name, value.clone());
    }
}

/// A backend's error in our own words.
fn plain(record: &mut Record, status: StatusCode) -> Response<ResponseBody> {
    let reason = status.canonical_reason().unwrap_or("Error");
    let id = record.request_id(&HeaderMap::new());
    let id = id.as_ref().and_then(|id| id.to_str().ok());
    let id = id.map(|id| format!("request id: {id}\n")).unwrap_or_default();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    text(status, kind, format!("{} {reason}\n{id}", status.as_str()))
}

fn text(status: StatusCode, kind: HeaderValue, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
