//! The action that sends a client elsewhere.

use gatehouse_routes::{action::Redirect, model::Scheme, template::Variable};
use http::{HeaderValue, Response, header, request::Parts, uri::PathAndQuery};

use crate::http::{body::ResponseBody, error::ProxyErrorKind, head::RequestHead, respond};

/// The answer to a request.
pub(crate) fn answer(
    redirect: &Redirect,
    scheme: Scheme,
    head: &RequestHead<'_>,
    parts: &Parts,
) -> Result<Response<ResponseBody>, ProxyErrorKind> {
    let uri = &parts.uri;
    let field = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let to = redirect.to.fill(|variable, out| {
        out.push_str(match variable {
            Variable::RequestUri => uri.path_and_query().map_or("/", PathAndQuery::as_str),
            Variable::Uri => uri.path(),
            Variable::Args => uri.query().unwrap_or_default(),
            Variable::IsArgs if uri.query().is_some_and(|query| !query.is_empty()) => "?",
            Variable::IsArgs => "",
            Variable::Host => &head.host,
            Variable::HttpHost => {
                uri.authority().map(|it| it.as_str()).or_else(field).unwrap_or(&head.host)
            }
            Variable::Scheme => super::scheme_name(scheme),
        });
    });
    let mut response = respond::text(redirect.status, "");
    let location = HeaderValue::try_from(to).map_err(|_| ProxyErrorKind::BadPath)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
