//! The validated head of a request: what stands between hyper and everything that decides.
//!
//! [`RequestHead::validate`] is the only way to get one, and `proxy.rs` is its only caller. Whatever it
//! lets through has exactly one host, one canonical path and one length; nothing downstream looks at the
//! parsed request before this did. The numbers P1 … P24 are those of `docs/ARCHITECTURE.md`.

use std::{borrow::Cow, net::IpAddr};

use gatehouse_routes::{host, path};
use http::{
    HeaderMap, HeaderValue, Method, Version, header,
    request::Parts,
    uri::{PathAndQuery, Uri},
};

use crate::{
    field_names::{HOPS, is_certificate, is_forwarded},
    http::{error::ProxyErrorKind, head_scanner::HeadFlags},
};

/// Longest request target, in bytes (P5), unless `--max-uri` says otherwise.
pub(crate) const MAX_TARGET: usize = 8 * 1024;
/// Most header fields (P5).
pub(crate) const MAX_FIELDS: usize = 100;
/// Most bytes of header fields, as `name: value\r\n` (P5).
pub(crate) const MAX_FIELD_BYTES: usize = 64 * 1024;
/// Longest method.
const MAX_METHOD: usize = 32;

/// Fields that need work before the request may go on; found in the one pass over all fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Any hop-by-hop field (RFC 9110 §7.6.1), or `Connection` itself.
    pub(crate) hop_by_hop: bool,
    /// Any `X-Forwarded-*`, `Forwarded`, `X-Real-IP` or alias of them, or an alias of a framing field.
    pub(crate) forwarded: bool,
    /// Among these, any that says which certificate a client has shown.
    pub(crate) certificate: bool,
    /// More than one `Cookie` field.
    pub(crate) cookies: bool,
    /// `Expect` that is not passed on.
    pub(crate) expect: bool,
    /// More than one `Content-Length`, all of them equal.
    pub(crate) lengths: bool,
    /// `Max-Forwards`.
    pub(crate) max_forwards: bool,
    /// Our own count of the gateways that the request has come through.
    pub(crate) hops: bool,
}

/// What an answer without any backend is due to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// `OPTIONS *`, or `OPTIONS` with `Max-Forwards: 0`: we are the final recipient.
    Options,
}

/// A request that may be routed.
#[derive(Debug)]
pub(crate) struct RequestHead<'r> {
    /// Host without port: lower case, no trailing dot; empty for an HTTP/1.0 request without one.
    pub(crate) host: Cow<'r, str>,
    /// The port that stands behind it.
    pub(crate) port: Option<u16>,
    /// The path that rules see.
    pub(crate) path: Cow<'r, str>,
    /// The raw path had dot segments, so the backend gets `path` instead.
    pub(crate) path_rewritten: bool,
    /// The path holds a slash that is encoded.
    pub(crate) encoded_slash: bool,
    /// What the client asks its connection to become, such as `websocket`.
    pub(crate) upgrade: Option<&'r HeaderValue>,
    /// Fields that need work.
    pub(crate) seen: Seen,
    /// Answered here, without a backend.
    pub(crate) local: Option<Local>,
}

impl<'r> RequestHead<'r> {
    /// Judges a parsed request.
    ///
    /// # Errors
    /// The kind says which answer it gets and whether the connection goes on.
    pub(crate) fn validate(
        parts: &'r Parts,
        flags: HeadFlags,
        max_target: usize,
    ) -> Result<Self, ProxyErrorKind> {
        if target_length(&parts.uri) > max_target {
            return Err(ProxyErrorKind::UriTooLong);
        }
        if flags.is_ambiguous() {
            return Err(ProxyErrorKind::BadFraming);
        }
        check_method(&parts.method)?;
        let seen = check_fields(parts)?;
        let (host, port) = authority(parts)?;
        let upgrade = match parts.version {
            Version::HTTP_11 if seen.hop_by_hop => wanted_upgrade(&parts.headers),
            _ => None,
        };
        let mut head = Self {
            host,
            port,
            path: Cow::Borrowed("*"),
            path_rewritten: false,
            encoded_slash: false,
            upgrade,
            seen,
            local: None,
        };
        if parts.method == Method::OPTIONS
            && (parts.uri.path() == "*" || max_forwards_zero(&parts.headers))
        {
            head.local = Some(Local::Options);
            if parts.uri.path() == "*" {
                return Ok(head);
            }
        }
        if flags.fragment || !query_is_clean(parts.uri.query()) {
            return Err(ProxyErrorKind::BadPath);
        }
        let canonical = path::canonical(parts.uri.path()).map_err(|_| ProxyErrorKind::BadPath)?;
        head.path = canonical.matched;
        head.path_rewritten = canonical.rewritten;
        head.encoded_slash = canonical.encoded_slash;
        Ok(head)
    }

    /// Path and query as the backend gets them, unless a filter has another path for it: those received, without dot
    /// segments. Whatever tells others of the target tells this one, or they would judge another path than the one that is
    /// answered.
    pub(crate) fn target<'t>(&'t self, uri: &'t Uri) -> Cow<'t, str> {
        if !self.path_rewritten {
            return Cow::Borrowed(uri.path_and_query().map_or("/", PathAndQuery::as_str));
        }
        match uri.query() {
            Some(query) => Cow::Owned(format!("{}?{query}", self.path)),
            None => Cow::Borrowed(&self.path),
        }
    }

    /// The same in a form to be sent.
    pub(crate) fn path_and_query(&self, uri: &Uri) -> Option<PathAndQuery> {
        if self.path_rewritten {
            return PathAndQuery::try_from(&*self.target(uri)).ok();
        }
        uri.path_and_query().cloned()
    }
}

fn target_length(uri: &Uri) -> usize {
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    authority + uri.path_and_query().map_or(0, |path| path.as_str().len())
}

fn check_method(method: &Method) -> Result<(), ProxyErrorKind> {
    match *method {
        Method::GET | Method::POST | Method::PUT | Method::HEAD | Method::DELETE => Ok(()),
        Method::TRACE => Err(ProxyErrorKind::MethodRefused),
        Method::CONNECT => Err(ProxyErrorKind::NotImplemented),
        _ if method.as_str().len() > MAX_METHOD => Err(ProxyErrorKind::NotImplemented),
        _ => Ok(()),
    }
}

/// The one pass over all fields: limits, framing, and what will have to be changed.
fn check_fields(parts: &Parts) -> Result<Seen, ProxyErrorKind> {
    let headers = &parts.headers;
    if headers.len() > MAX_FIELDS {
        return Err(ProxyErrorKind::HeadersTooLarge);
    }
    let mut seen = Seen::default();
    let mut bytes = 0;
    let mut cookies = 0;
    let mut length: Option<&HeaderValue> = None;
    for (name, value) in headers {
        let name = name.as_str();
        bytes += name.len() + value.len() + 4;
        match name.as_bytes()[0] | 0x20 {
            b'c' if name == "cookie" => cookies += 1,
            b'c' if name == "content-length" => {
                // Of HTTP/2 they come as they are: the library looks at the first one.
                if length.is_some_and(|length| length != value) {
                    return Err(ProxyErrorKind::BadFraming);
                }
                seen.lengths |= length.replace(value).is_some();
            }
            b'c' if name == "connection" => seen.hop_by_hop = true,
            b'c' if name == "content_length" => seen.forwarded = true,
            b'e' if name == "expect" => {
                if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                    return Err(ProxyErrorKind::BadHeader);
                }
                seen.expect = true;
            }
            b't' if name == "transfer-encoding" => {
                if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(ProxyErrorKind::BadFraming);
                }
                seen.hop_by_hop = true;
            }
            b't' if name == "transfer_encoding" => seen.forwarded = true,
            b't' if name == "te" || name == "trailer" => seen.hop_by_hop = true,
            b'u' if name == "upgrade" => seen.hop_by_hop = true,
            b'm' if name == "max-forwards" => seen.max_forwards = true,
            b'k' if name == "keep-alive" => seen.hop_by_hop = true,
            b'g' if name == HOPS => seen.hops = true,
            b'h' if name == "http2-settings" => seen.hop_by_hop = true,
            b'p' if name.starts_with("proxy") => seen.hop_by_hop = true,
            b'f' | b'x' | b's' | b'c' if is_forwarded(name) => {
                seen.forwarded = true;
                seen.certificate |= is_certificate(name);
            }
            _ => (),
        }
    }
    if bytes > MAX_FIELD_BYTES {
        return Err(ProxyErrorKind::HeadersTooLarge);
    }
    let encodings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
    if seen.hop_by_hop && encodings > 1 {
        return Err(ProxyErrorKind::BadFraming);
    }
    seen.cookies = cookies > 1;
    Ok(seen)
}

/// The one host that the request names (P13), and the port behind it.
fn authority(parts: &Parts) -> Result<(Cow<'_, str>, Option<u16>), ProxyErrorKind> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyErrorKind::BadHost);
    }
    let field = match field {
        Some(value) => Some(split_host(value.to_str().map_err(|_| ProxyErrorKind::BadHost)?)?),
        None => None,
    };
    let target = match parts.uri.authority() {
        Some(authority) => {
            if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
                return Err(ProxyErrorKind::BadPath);
            }
            Some(split_host(authority.as_str())?)
        }
        None => None,
    };
    match (target, field) {
        (Some(target), Some(field)) if !same_authority(&target, &field) => {
            Err(ProxyErrorKind::BadHost)
        }
        // RFC 9112 §3.2: a request line in absolute form does not excuse a missing Host.
        (Some(_), None) if parts.version == Version::HTTP_11 => Err(ProxyErrorKind::BadHost),
        (Some(named), _) | (None, Some(named)) => Ok(named),
        (None, None) if parts.version < Version::HTTP_11 => Ok((Cow::Borrowed(""), None)),
        (None, None) => Err(ProxyErrorKind::BadHost),
    }
}

fn same_authority(
    target: &(Cow<'_, str>, Option<u16>),
    field: &(Cow<'_, str>, Option<u16>),
) -> bool {
    let port = |port: Option<u16>| port.filter(|port| !matches!(port, 80 | 443));
    target.0 == field.0 && port(target.1) == port(field.1)
}

/// Splits and checks `host[:port]`.
fn split_host(text: &str) -> Result<(Cow<'_, str>, Option<u16>), ProxyErrorKind> {
    let (name, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => {
            let digits = &text[colon + 1..];
            if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(ProxyErrorKind::BadHost);
            }
            // RFC 3986 §3.2.3: an empty port is the default one.
            let port = match digits {
                "" => None,
                digits => Some(digits.parse().map_err(|_| ProxyErrorKind::BadHost)?),
            };
            (&text[..colon], port)
        }
        _ => (text, None),
    };
    let name = host::canonical(name).ok_or(ProxyErrorKind::BadHost)?;
    Ok((name, port))
}

/// The one protocol that the connection is to become. A choice of several is none: the first that is admitted need
/// not be the one that the backend takes.
fn wanted_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut upgrades = headers.get_all(header::UPGRADE).iter();
    let wanted = upgrades.next().filter(|wanted| !wanted.as_bytes().contains(&b','))?;
    let named = upgrades.next().is_none()
        && headers.get_all(header::CONNECTION).iter().any(|value| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        });
    named.then_some(wanted)
}

fn max_forwards_zero(headers: &HeaderMap) -> bool {
    headers.get(header::MAX_FORWARDS).is_some_and(|value| value.as_bytes() == b"0")
}

fn query_is_clean(query: Option<&str>) -> bool {
    query.is_none_or(|query| query.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#'))
}

/// Whether a peer's own `X-Forwarded-*` may be believed (P16).
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[ipnet::IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&peer))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(request: http::request::Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn get(target: &str, host: &str) -> Parts {
        parts(Request::get(target).header("host", host))
    }

    fn judge(parts: &Parts) -> Result<String, ProxyErrorKind> {
        RequestHead::validate(parts, HeadFlags::default(), MAX_TARGET)
            .map(|head| format!("{}{}", head.host, head.path))
    }

    #[test]
    fn one_host_in_its_canonical_form() {
        for (host, expected) in [
            ("example.test", "example.test"),
            ("EXAMPLE.Test.", "example.test"),
            ("example.test:8080", "example.test"),
            ("example.test:", "example.test"),
            ("[::1]:80", "[::1]"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(judge(&get("/", host)), Ok(format!("{expected}/")), "{host}");
        }
    }

    #[test]
    fn a_target_is_told_as_it_came_but_without_dot_segments() {
        for (target, told) in [
            ("/a/b?c=/../d", "/a/b?c=/../d"),
            ("/public/../admin", "/admin"),
            ("/public/%2e%2e/admin?a=b", "/admin?a=b"),
            ("/./a?", "/a?"),
            ("/%61//b", "/%61//b"),
            ("http://a.test/x/../y?z", "/y?z"),
        ] {
            let parts = get(target, "a.test");
            let head = RequestHead::validate(&parts, HeadFlags::default(), MAX_TARGET).unwrap();
            assert_eq!(head.target(&parts.uri), told, "{target}");
            assert_eq!(head.path_and_query(&parts.uri).unwrap(), told, "{target}");
        }
    }

    #[test]
    fn a_host_that_two_parsers_could_read_differently_is_refused() {
        for host in
            ["", "a b", "a,b", "user@a", "a:b", "a:99999", "a:1:2", "a/b", "[::1", "a\\b", "a%41"]
        {
            assert_eq!(judge(&get("/", host)), Err(ProxyErrorKind::BadHost), "{host:?}");
        }
        let two = parts(Request::get("/").header("host", "a.test").header("host", "a.test"));
        assert_eq!(judge(&two), Err(ProxyErrorKind::BadHost));
        assert_eq!(judge(&parts(Request::get("/"))), Err(ProxyErrorKind::BadHost));
    }

    #[test]
    fn absolute_form_and_host_must_agree() {
        assert_eq!(judge(&get("http://a.test/x", "A.test:80")), Ok("a.test/x".to_owned()));
        assert_eq!(judge(&get("http://a.test/x", "b.test")), Err(ProxyErrorKind::BadHost));
        assert_eq!(judge(&get("http://a.test:81/x", "a.test")), Err(ProxyErrorKind::BadHost));
        assert_eq!(judge(&get("ftp://a.test/x", "a.test")), Err(ProxyErrorKind::BadPath));
    }

    #[test]
    fn http_1_0_may_come_without_a_host() {
        let request = parts(Request::get("/x").version(Version::HTTP_10));
        assert_eq!(judge(&request), Ok("/x".to_owned()));
    }

    #[test]
    fn a_request_of_two_lengths_is_refused() {
        let request = get("/", "a.test");
        let twins =
            HeadFlags { content_length: true, transfer_encoding: true, ..HeadFlags::default() };
        assert_eq!(
            RequestHead::validate(&request, twins, MAX_TARGET).map(|_| ()),
            Err(ProxyErrorKind::BadFraming)
        );
        for coding in ["identity", "gzip, chunked", "chunked, chunked", "\"chunked\"", "xchunked"] {
            let request =
                parts(Request::post("/").header("host", "a").header("transfer-encoding", coding));
            assert_eq!(judge(&request), Err(ProxyErrorKind::BadFraming), "{coding}");
        }
        let twice = parts(
            Request::post("/")
                .header("host", "a")
                .header("transfer-encoding", "chunked")
                .header("transfer-encoding", "chunked"),
        );
        assert_eq!(judge(&twice), Err(ProxyErrorKind::BadFraming));
        for (lengths, well) in [
            (&["5"][..], true),
            (&["5", "5"], true),
            (&["5", "5", "5"], true),
            (&["5", "6"], false),
            (&["6", "5"], false),
            (&["5", "5", "6"], false),
            (&["5", ""], false),
            (&["5", "5, 5"], false),
            (&["5", "05"], false),
        ] {
            let mut request = Request::post("/").header("host", "a");
            for length in lengths {
                request = request.header("content-length", *length);
            }
            let expected = if well { Ok("a/".to_owned()) } else { Err(ProxyErrorKind::BadFraming) };
            assert_eq!(judge(&parts(request)), expected, "{lengths:?}");
        }
    }

    #[test]
    fn limits_hold_at_the_byte() {
        let target = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert!(judge(&get(&target(MAX_TARGET), "a")).is_ok());
        assert_eq!(judge(&get(&target(MAX_TARGET + 1), "a")), Err(ProxyErrorKind::UriTooLong));

        let fields = |count: usize| {
            let mut request = Request::get("/").header("host", "a");
            for _ in 1..count {
                request = request.header("x", "y");
            }
            parts(request)
        };
        assert!(judge(&fields(MAX_FIELDS)).is_ok());
        assert_eq!(judge(&fields(MAX_FIELDS + 1)), Err(ProxyErrorKind::HeadersTooLarge));

        let block = |bytes: usize| {
            let value = "v".repeat(bytes - "host: a\r\n".len() - "x: \r\n".len());
            parts(Request::get("/").header("host", "a").header("x", value))
        };
        assert!(judge(&block(MAX_FIELD_BYTES)).is_ok());
        assert_eq!(judge(&block(MAX_FIELD_BYTES + 1)), Err(ProxyErrorKind::HeadersTooLarge));
    }

    #[test]
    fn methods_that_reach_past_the_gateway_are_refused() {
        let request =
            |method: &str| parts(Request::builder().method(method).uri("/").header("host", "a"));
        assert_eq!(judge(&request("TRACE")), Err(ProxyErrorKind::MethodRefused));
        assert_eq!(judge(&request(&"M".repeat(33))), Err(ProxyErrorKind::NotImplemented));
        assert!(judge(&request("PROPFIND")).is_ok());
        let connect =
            parts(Request::builder().method("CONNECT").uri("a:443").header("host", "a:443"));
        assert_eq!(judge(&connect), Err(ProxyErrorKind::NotImplemented));
    }

    #[test]
    fn an_upgrade_is_to_one_protocol_and_connection_names_it() {
        let asks = |connection: &str, upgrade: &str| {
            let request = parts(
                Request::get("/")
                    .header("host", "a")
                    .header("connection", connection)
                    .header("upgrade", upgrade),
            );
            RequestHead::validate(&request, HeadFlags::default(), MAX_TARGET)
                .unwrap()
                .upgrade
                .cloned()
        };
        assert_eq!(asks("keep-alive, Upgrade", "WebSocket").unwrap(), "WebSocket");
        assert_eq!(asks("Upgrade", "SPDY/3.1").unwrap(), "SPDY/3.1");
        assert_eq!(asks("keep-alive", "websocket"), None);
        assert_eq!(asks("upgrade", "websocket, h2c"), None);
    }
}
