//! Answers of our own: what an error says to the client, and short texts.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::http::{body::ResponseBody, error::ProxyErrorKind};

/// The answer to a request that failed.
pub(crate) fn error(kind: ProxyErrorKind) -> Response<ResponseBody> {
    let mut response = text(kind.status(), kind.text());
    if kind.closes() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A short plain-text answer.
pub(crate) fn text(status: u16, body: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The answer to `OPTIONS` about this hop itself.
pub(crate) fn options() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::OK;
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_request_ends_its_connection_and_a_missing_route_does_not() {
        assert_eq!(error(ProxyErrorKind::BadFraming).headers()["connection"], "close");
        assert!(!error(ProxyErrorKind::NoRoute).headers().contains_key("connection"));
    }
}
