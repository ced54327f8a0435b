//! The redirect to https: same host and target, another scheme.

use std::ops::ControlFlow;

use gatehouse_routes::filter::HttpsRedirect;
use http::{HeaderValue, Response, header, uri::PathAndQuery};

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
    let target = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Ok(ControlFlow::Break(answer(redirect, host, target)))
}

/// The answer: without a slash at the end of the target if `trim_slash`.
fn answer(redirect: HttpsRedirect, host: &str, target: &str) -> Response<ResponseBody> {
    let HttpsRedirect { status, trim_slash } = redirect;
    let target = if trim_slash { target.strip_suffix('/').unwrap_or(target) } else { target };
    let mut response = respond::text(status, "");
    if let Ok(location) = HeaderValue::try_from(format!("https://{host}{target}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_keeps_its_query_and_loses_at_most_one_slash() {
        for (target, trim_slash, location) in [
            ("/a/", true, "https://h.test/a"),
            ("/a/", false, "https://h.test/a/"),
            ("/a//", true, "https://h.test/a/"),
            ("/a?b=/c", true, "https://h.test/a?b=/c"),
            ("/", true, "https://h.test"),
        ] {
            let response = answer(HttpsRedirect { status: 308, trim_slash }, "h.test", target);
            assert_eq!(response.status(), 308);
            assert_eq!(response.headers()[header::LOCATION], location);
        }
    }
}
