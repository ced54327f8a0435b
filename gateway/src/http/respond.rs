//! Answers of our own: what an error says to the client, the page of hosts that Routes name, and short texts.

use bytes::Bytes;
use gatehouse_routes::rule::RouteRule;
use http::{HeaderValue, Response, StatusCode, header};

use crate::http::{body::ResponseBody, error::ProxyErrorKind};

/// `Server` of every answer that no backend has given, so that a client can tell whose it is. Without a version.
const SERVER: HeaderValue = HeaderValue::from_static("gatehouse");

/// The answer to a request that failed, with the id by which logs know it.
pub(crate) fn error(kind: ProxyErrorKind, id: Option<&HeaderValue>) -> Response<ResponseBody> {
    if kind == ProxyErrorKind::Unserved {
        return unavailable();
    }
    let mut response = text(kind.status(), kind.text());
    if let Some(id) = id.and_then(|id| id.to_str().ok()) {
        let text = format!("{}request id: {id}\n", kind.text());
        *response.body_mut() = ResponseBody::full(Bytes::from(text));
    }
    if kind == ProxyErrorKind::Overloaded {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
    }
    if kind.closes() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a request that failed once its rule was found. A Route answers as OpenShift's router does: whatever
/// keeps its application from being reached is 503, with a page.
pub(crate) fn error_of(
    rule: &RouteRule,
    kind: ProxyErrorKind,
    id: Option<&HeaderValue>,
) -> Response<ResponseBody> {
    let unreached = matches!(
        kind,
        ProxyErrorKind::Denied
            | ProxyErrorKind::NoEndpoints
            | ProxyErrorKind::UpstreamBusy
            | ProxyErrorKind::ConnectFailed
            | ProxyErrorKind::ConnectTimeout
    );
    if unreached && rule.object.kind == "Route" { unavailable() } else { error(kind, id) }
}

/// Says to people that an application is not available, and to caches that this may change at any moment.
pub(crate) fn unavailable() -> Response<ResponseBody> {
    let mut response = text(503, UNAVAILABLE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let never = HeaderValue::from_static("private, max-age=0, no-cache, no-store");
    headers.insert(header::CACHE_CONTROL, never);
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

const UNAVAILABLE: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Application is not available</title></head>
<body>
<h1>Application is not available</h1>
<p>The application is currently not serving requests at this address. It may be starting or stopped.</p>
<ul>
<li>The host does not exist: check the spelling of the address.</li>
<li>The host exists, but no route is for this path, or for http or https.</li>
<li>The route exists, but none of its pods is ready.</li>
</ul>
</body>
</html>
";

/// Gives the answer to what is too much the status that its object wants.
pub(crate) fn restate(
    response: &mut Response<ResponseBody>,
    status: StatusCode,
    id: Option<&HeaderValue>,
) {
    if response.status() == status {
        return;
    }
    *response.status_mut() = status;
    let reason = "too many requests: this client sends more than this path allows";
    let id = id.and_then(|id| id.to_str().ok()).map(|id| format!("request id: {id}\n"));
    let text = format!("{} {reason}\n{}", status.as_u16(), id.unwrap_or_default());
    *response.body_mut() = ResponseBody::full(Bytes::from(text));
}

/// A short plain-text answer.
pub(crate) fn text(status: u16, body: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(header::SERVER, SERVER);
    response
}

/// The answer to `OPTIONS` about this hop itself.
pub(crate) fn options() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::OK;
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, allow);
    response.headers_mut().insert(header::SERVER, SERVER);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_request_ends_its_connection_and_a_missing_route_does_not() {
        assert_eq!(error(ProxyErrorKind::BadFraming, None).headers()["connection"], "close");
        assert!(!error(ProxyErrorKind::NoRoute, None).headers().contains_key("connection"));
    }
}
