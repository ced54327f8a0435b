//! The redirect to https: same host and target, another scheme and the port that serves it.

use std::ops::ControlFlow;

use gatehouse_routes::filter::HttpsRedirect;
use http::{HeaderValue, Response, header};

use super::{FilterRequest, Outcome};
use crate::http::{body::ResponseBody, error::ProxyErrorKind, respond};

/// Answers a request in clear text.
pub(super) fn on_request(redirect: HttpsRedirect, request: &FilterRequest<'_>) -> Outcome {
    if !redirect.applies(request.scheme) {
        return Ok(ControlFlow::Continue(()));
    }
    let host = &request.head.host;
    if host.is_empty() {
        // There is no place to send a client that named none.
        return Err(ProxyErrorKind::BadHost);
    }
    let target = request.head.target(request.uri);
    Ok(ControlFlow::Break(answer(redirect, host, https_port(request), &target).into()))
}

/// The port to name, if it is not the usual one.
///
/// A client that names the port of our own listener came here directly, so its way to TLS is our own
/// listener too. One that names another port came over something that maps ports; where TLS is there only
/// the operator can tell.
fn https_port(request: &FilterRequest<'_>) -> Option<u16> {
    let listener = request.conn.listener.address;
    let told = request.conn.shared.worker.options.public_https_port;
    let direct = request.head.port.unwrap_or(80) == listener.port();
    let own = || request.gateway.https_port(listener.ip()).filter(|_| direct);
    told.or_else(own).filter(|port| *port != 443)
}

/// The answer: without a slash at the end of the path if `trim_slash`, as ingress-nginx, which leaves it
/// where a query follows.
fn answer(
    redirect: HttpsRedirect,
    host: &str,
    port: Option<u16>,
    target: &str,
) -> Response<ResponseBody> {
    let HttpsRedirect { status, trim_slash } = redirect;
    let trimmed = target.strip_suffix('/').filter(|_| trim_slash && !target.contains('?'));
    let target = trimmed.unwrap_or(target);
    let mut response = respond::text(status, "");
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    if let Ok(location) = HeaderValue::try_from(format!("https://{host}{port}{target}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_loses_at_most_one_slash_and_the_query_nothing() {
        for (target, trim_slash, location) in [
            ("/login?next=/home/", true, "https://h.test/login?next=/home/"),
            ("/a/?b/", true, "https://h.test/a/?b/"),
            ("/a?/", true, "https://h.test/a?/"),
            ("/a/?", true, "https://h.test/a/?"),
            ("/a/", true, "https://h.test/a"),
            ("/a/", false, "https://h.test/a/"),
            ("/a//", true, "https://h.test/a/"),
            ("/a?b=/c", true, "https://h.test/a?b=/c"),
            ("/", true, "https://h.test"),
        ] {
            let redirect = HttpsRedirect { status: 308, trim_slash };
            let response = answer(redirect, "h.test", None, target);
            assert_eq!(response.status(), 308);
            assert_eq!(response.headers()[header::LOCATION], location);
        }
        let redirect = HttpsRedirect { status: 302, trim_slash: false };
        let response = answer(redirect, "[::1]", Some(8443), "/a");
        assert_eq!(response.headers()[header::LOCATION], "https://[::1]:8443/a");
    }
}
