//! What can go wrong with a request, whose fault it is, and the one place that makes an answer of it.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::http::body::ResponseBody;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the client sent.
    Client,
    /// The backend, or the way to it.
    Upstream,
    /// Our configuration, or ourselves.
    Gateway,
}

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])* $name:ident: $status:literal $side:ident $label:literal $text:literal; )*) => {
        /// Every way in which a request can fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProxyErrorKind { $( $(#[doc = $doc])* $name, )* }

        impl ProxyErrorKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];
            /// The labels of [`Self::ALL`].
            pub const LABELS: &'static [&'static str] = &[ $( $label, )* ];

            /// Label in the access log and in `gatehouse_errors_total`.
            pub const fn label(self) -> &'static str {
                match self { $( Self::$name => $label, )* }
            }

            /// Status of the answer.
            pub const fn status(self) -> u16 {
                match self { $( Self::$name => $status, )* }
            }

            /// Whose fault it is.
            pub const fn side(self) -> Side {
                match self { $( Self::$name => Side::$side, )* }
            }

            const fn text(self) -> &'static str {
                match self { $( Self::$name => concat!($status, " ", $text, "\n"), )* }
            }
        }
    };
}

kinds! {
    /// Host missing, doubled, malformed or contradicting the request target.
    BadHost: 400 Client "bad_host" "bad request: the host is missing, doubled or malformed";
    /// Request target that is not a clean path, or hides one.
    BadPath: 400 Client "bad_path" "bad request: the path is malformed or encoded ambiguously";
    /// Content-Length and Transfer-Encoding that do not give one length.
    BadFraming: 400 Client "bad_framing" "bad request: the length of the body is ambiguous";
    /// A header that must not be there, or not in this form.
    BadHeader: 400 Client "bad_header" "bad request: a header is malformed";
    /// Not HTTP by its parser's rules; hyper has answered.
    Malformed: 400 Client "malformed" "bad request";
    /// Nothing routes this host and path.
    NoRoute: 404 Client "no_route" "not found: no rule for this host and path";
    /// TRACE.
    MethodRefused: 405 Client "method_refused" "method not allowed";
    /// The client was too slow with its body.
    SlowRequest: 408 Client "slow_request" "request timeout";
    /// Request line over 8 KiB.
    UriTooLong: 414 Client "uri_too_long" "uri too long: the limit is 8 KiB";
    /// The TLS server name and the host belong to different owners.
    Misdirected: 421 Client "misdirected" "misdirected request: the TLS server name is another owner's";
    /// More than 100 fields or 64 KiB of them.
    HeadersTooLarge: 431 Client "headers_too_large" "request header fields too large: the limit is 100 fields and 64 KiB";
    /// CONNECT, or a method longer than 32 characters.
    NotImplemented: 501 Client "not_implemented" "method not implemented";
    /// The client went away, or broke off its body.
    ClientGone: 400 Client "client_gone" "bad request: the body broke off";
    /// A protecting setting of the rule is broken, so it stays closed.
    Denied: 503 Gateway "denied" "service unavailable: a setting that protects this path cannot be honoured";
    /// The rule has no backend with a ready endpoint.
    NoEndpoints: 503 Gateway "no_endpoints" "service unavailable: no ready endpoint";
    /// The endpoint refused the connection.
    ConnectFailed: 502 Upstream "connect_failed" "bad gateway: the backend does not accept connections";
    /// The endpoint did not answer the connect in time.
    ConnectTimeout: 504 Upstream "connect_timeout" "gateway timeout: the backend does not accept connections";
    /// The endpoint ended the connection without an answer.
    UpstreamClosed: 502 Upstream "upstream_closed" "bad gateway: the backend closed the connection";
    /// The answer is not HTTP, or breaks its rules.
    UpstreamInvalid: 502 Upstream "upstream_invalid" "bad gateway: the backend's answer is not valid HTTP";
    /// No answer in time.
    UpstreamTimeout: 504 Upstream "upstream_timeout" "gateway timeout: the backend did not answer";
    /// The answer began and broke off.
    UpstreamCut: 502 Upstream "upstream_cut" "bad gateway: the answer broke off";
    /// The client stopped taking the answer.
    ClientStalled: 408 Client "client_stalled" "request timeout";
}

impl ProxyErrorKind {
    /// Whether the connection must end with this answer: what follows on it cannot be trusted.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::BadHost
                | Self::BadFraming
                | Self::BadHeader
                | Self::SlowRequest
                | Self::UriTooLong
                | Self::HeadersTooLarge
                | Self::NotImplemented
                | Self::ClientGone
        )
    }

    /// The answer to send.
    pub fn response(self) -> Response<ResponseBody> {
        let mut response = text(self.status(), self.text());
        if self.closes() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A short plain-text answer of our own.
pub(crate) fn text(status: u16, body: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_agree() {
        for (number, kind) in ProxyErrorKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number);
            assert_eq!(ProxyErrorKind::LABELS[number], kind.label());
            assert!(kind.text().starts_with(&kind.status().to_string()), "{kind:?}");
        }
    }

    #[test]
    fn an_ambiguous_request_ends_its_connection_and_a_missing_route_does_not() {
        assert_eq!(ProxyErrorKind::BadFraming.response().headers()["connection"], "close");
        assert!(!ProxyErrorKind::NoRoute.response().headers().contains_key("connection"));
    }
}
