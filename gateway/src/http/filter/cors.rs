//! What pages of other origins may do: answers to their preflights, and fields of all other answers.

use std::ops::ControlFlow;

use gatehouse_routes::filter::cors::{Cors, Origins};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::{FilterRequest, Kept, Own};
use crate::http::body::ResponseBody;

/// Answers a preflight of an origin that is meant (Fetch §3.2.2), and keeps the origin for the answer.
pub(super) fn on_request(cors: &Cors, request: &mut FilterRequest<'_>) -> ControlFlow<Own> {
    let Some(origin) = request.headers.get(header::ORIGIN) else {
        return ControlFlow::Continue(());
    };
    if !cors.origins.contain(origin.as_bytes()) {
        return ControlFlow::Continue(());
    }
    request.kept.origin = Some(Box::new(origin.clone()));
    let preflight = *request.method == Method::OPTIONS
        && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !preflight {
        return ControlFlow::Continue(());
    }
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
    ControlFlow::Break(response.into())
}

/// Says who may read the answer. Where that depends on who asks, caches have to know.
pub(super) fn on_response(cors: &Cors, kept: &Kept, headers: &mut HeaderMap) {
    let origin = match (&cors.origins, &kept.origin) {
        (Origins::Any, _) => HeaderValue::from_static("*"),
        (Origins::Some(_), origin) => {
            add_vary(headers, "Origin");
            let Some(origin) = origin else { return };
            (**origin).clone()
        }
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        let yes = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    } else {
        headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    }
    if let Some(expose) = &cors.expose {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
    }
}

/// Names a field in `Vary`, unless the answer does already.
pub(super) fn add_vary(headers: &mut HeaderMap, field: &'static str) {
    let mut named = headers
        .get_all(header::VARY)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    if !named.any(|name| name == b"*" || name.eq_ignore_ascii_case(field.as_bytes())) {
        headers.append(header::VARY, HeaderValue::from_static(field));
    }
}
