//! The action that sends a client elsewhere.

use gatehouse_routes::{
    action::Redirect,
    model::Scheme,
    template::{Template, Variable},
};
use http::{HeaderMap, HeaderValue, Method, Response, Uri, header, request::Parts};

use crate::http::{body::ResponseBody, error::ProxyErrorKind, head::RequestHead, respond};

/// The answer to a request.
pub(crate) fn answer(
    redirect: &Redirect,
    scheme: Scheme,
    head: &RequestHead<'_>,
    parts: &Parts,
) -> Result<Response<ResponseBody>, ProxyErrorKind> {
    to(redirect.status, filled(&redirect.to, scheme, head, parts))
}

/// The same, where the URL is known.
pub(super) fn to(status: u16, url: String) -> Result<Response<ResponseBody>, ProxyErrorKind> {
    let mut response = respond::text(status, "");
    let location = HeaderValue::try_from(url).map_err(|_| ProxyErrorKind::BadPath)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// A text with what a request says filled in.
pub(super) fn filled(
    template: &Template,
    scheme: Scheme,
    head: &RequestHead<'_>,
    parts: &Parts,
) -> String {
    fill(template, scheme, head, &parts.method, &parts.uri, &parts.headers)
}

/// The same, of a request whose parts are apart.
pub(super) fn fill(
    template: &Template,
    scheme: Scheme,
    head: &RequestHead<'_>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> String {
    template.fill(|variable, out| value(variable, scheme, head, (method, uri, headers), out))
}

/// Appends what a variable stands for.
pub(super) fn value(
    variable: Variable,
    scheme: Scheme,
    head: &RequestHead<'_>,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    out: &mut String,
) {
    let field = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    out.push_str(match variable {
        Variable::RequestUri => return out.push_str(&head.target(uri)),
        Variable::EscapedRequestUri => return escape(&head.target(uri), out),
        Variable::Uri => &head.path,
        Variable::Args => uri.query().unwrap_or_default(),
        Variable::IsArgs if uri.query().is_some_and(|query| !query.is_empty()) => "?",
        Variable::IsArgs => "",
        Variable::Host => &head.host,
        Variable::HttpHost => {
            uri.authority().map(|it| it.as_str()).or_else(field).unwrap_or(&head.host)
        }
        Variable::Scheme => super::scheme_name(scheme),
        Variable::Method => method.as_str(),
    });
}

/// Percent-encodes all but what is unreserved (RFC 3986 §2.3).
fn escape(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}
