//! Answers of our own to gRPC clients, which look for their status elsewhere than HTTP's.
//!
//! The form is that of a call that ends without a message: 200, and `grpc-status` among the fields (gRPC over
//! HTTP/2, "Trailers-Only"). `proxy` asks for it; log and metrics keep the status of HTTP.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::http::{body::ResponseBody, error::ProxyErrorKind};

const GRPC: &[u8] = b"application/grpc";
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is a call of gRPC.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let rest = kind.as_bytes().strip_prefix(GRPC);
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// Whether an answer without a message says that the server has failed: the codes that stand for a status of 5xx but 501.
pub(crate) fn is_failure(headers: &HeaderMap) -> bool {
    const FAILURES: [&[u8]; 5] = [b"2", b"4", b"13", b"14", b"15"];
    headers.get(&GRPC_STATUS).is_some_and(|status| FAILURES.contains(&status.as_bytes()))
}

/// Makes of the answer to a failure one that a gRPC client understands.
pub(crate) fn fit(response: &mut Response<ResponseBody>, kind: ProxyErrorKind) {
    *response.status_mut() = StatusCode::OK;
    *response.body_mut() = ResponseBody::empty();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&GRPC_STATUS, HeaderValue::from_static(status(kind)));
    headers.insert(&GRPC_MESSAGE, HeaderValue::from_static(kind.label()));
}

/// The code for a failure: as gRPC maps the status of HTTP, and `DEADLINE_EXCEEDED` where time ran out once the
/// backend had the call, as clients may repeat what is `UNAVAILABLE`.
fn status(kind: ProxyErrorKind) -> &'static str {
    const DEADLINE_EXCEEDED: &str = "4";
    const PERMISSION_DENIED: &str = "7";
    const RESOURCE_EXHAUSTED: &str = "8";
    const UNIMPLEMENTED: &str = "12";
    const INTERNAL: &str = "13";
    const UNAVAILABLE: &str = "14";
    const UNAUTHENTICATED: &str = "16";
    match (kind, kind.status()) {
        (ProxyErrorKind::UpstreamTimeout, _) => DEADLINE_EXCEEDED,
        (_, 401) => UNAUTHENTICATED,
        (_, 403) => PERMISSION_DENIED,
        (_, 404 | 405 | 501) => UNIMPLEMENTED,
        (_, 413) => RESOURCE_EXHAUSTED,
        (_, 429 | 502 | 503 | 504) => UNAVAILABLE,
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_call(&headers), expected, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn a_failure_is_told_in_the_codes_of_grpc() {
        for (kind, code) in [
            (ProxyErrorKind::NoRoute, "12"),
            (ProxyErrorKind::NoEndpoints, "14"),
            (ProxyErrorKind::ConnectFailed, "14"),
            (ProxyErrorKind::UpstreamTimeout, "4"),
            (ProxyErrorKind::AddressRefused, "7"),
            (ProxyErrorKind::ClientBlocked, "7"),
            (ProxyErrorKind::TooManyRequests, "14"),
            (ProxyErrorKind::BadHost, "13"),
        ] {
            let mut response = crate::http::respond::error(kind, None);
            fit(&mut response, kind);
            assert_eq!(
                (response.status(), &response.headers()["grpc-status"]),
                (StatusCode::OK, &HeaderValue::from_static(code)),
                "{kind:?}"
            );
            assert!(!response.headers().contains_key("content-length"));
        }
    }
}
