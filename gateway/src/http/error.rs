//! What can go wrong with a request: the one table of statuses, labels and texts.
//!
//! `respond` makes answers of it; the access log and the metrics take its labels.

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])* $name:ident: $status:literal $label:literal $text:literal; )*) => {
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

            /// Text of the answer.
            pub(crate) const fn text(self) -> &'static str {
                match self { $( Self::$name => concat!($status, " ", $text, "\n"), )* }
            }
        }
    };
}

kinds! {
    /// Host missing, doubled, malformed or contradicting the request target.
    BadHost: 400 "bad_host" "bad request: the host is missing, doubled or malformed";
    /// Request target that is not a clean path, or hides one.
    BadPath: 400 "bad_path" "bad request: the path is malformed or encoded ambiguously";
    /// Content-Length and Transfer-Encoding that do not give one length.
    BadFraming: 400 "bad_framing" "bad request: the length of the body is ambiguous";
    /// A header that must not be there, or not in this form.
    BadHeader: 400 "bad_header" "bad request: a header is malformed";
    /// Not HTTP by its parser's rules; hyper has answered.
    Malformed: 400 "malformed" "bad request";
    /// The host asks for a certificate, and the client has shown none.
    CertificateMissing: 400 "certificate_missing" "bad request: no required client certificate was sent";
    /// The client's certificate is not believed.
    CertificateInvalid: 400 "certificate_invalid" "bad request: the client certificate is not accepted";
    /// The client has not shown who it is.
    Unauthorized: 401 "unauthorized" "authorization required";
    /// The authentication service refuses the client.
    AuthenticationRefused: 403 "authentication_refused" "forbidden: this client may not pass";
    /// The client's certificate has a name that may not pass.
    CertificateForbidden: 403 "certificate_forbidden" "forbidden: the client certificate has a name that may not pass";
    /// The rule lets no client of this address pass.
    AddressRefused: 403 "address_refused" "forbidden: the client's address may not pass";
    /// What the client says of itself keeps it out.
    ClientBlocked: 403 "client_blocked" "forbidden: clients like this one may not pass";
    /// Nothing routes this host and path.
    NoRoute: 404 "no_route" "not found: no rule for this host and path";
    /// TRACE.
    MethodRefused: 405 "method_refused" "method not allowed";
    /// The client was too slow with its body.
    SlowRequest: 408 "slow_request" "request timeout";
    /// More bytes of body than the rule allows.
    BodyTooLarge: 413 "body_too_large" "request entity too large: the body is larger than this path allows";
    /// A target longer than `--max-uri`.
    UriTooLong: 414 "uri_too_long" "uri too long: path and query have more bytes than this gateway takes";
    /// The TLS server name and the host belong to different owners.
    Misdirected: 421 "misdirected" "misdirected request: the TLS server name is another owner's, whose certificate does not cover this host";
    /// The handshake was made for a name that asks for other client certificates than this host.
    CertificateMisdirected: 421 "certificate_misdirected" "misdirected request: this connection was not asked for the client certificate of this host";
    /// The TLS of the connection is none that this host speaks.
    TlsMisdirected: 421 "tls_misdirected" "misdirected request: this connection has a version or a cipher of TLS that is none of this host";
    /// The TLS of this host is passed on, and that of the connection ended here.
    TlsPassedOn: 421 "tls_passed_on" "misdirected request: this host ends TLS itself, over connections of its own name";
    /// The client sends more requests than the rule allows.
    TooManyRequests: 429 "too_many_requests" "too many requests: this client sends more than this path allows";
    /// More than 100 fields or 64 KiB of them.
    HeadersTooLarge: 431 "headers_too_large" "request header fields too large: the limit is 100 fields and 64 KiB";
    /// The rule's expression takes more steps than it may to say whether the path matches.
    ExpressionOverrun: 500 "expression_overrun" "internal server error: an expression of this host takes too long for this path";
    /// The authentication service gave no answer that counts.
    AuthenticationFailed: 500 "authentication_failed" "internal server error: the authentication service cannot be asked";
    /// CONNECT, or a method longer than 32 characters.
    NotImplemented: 501 "not_implemented" "method not implemented";
    /// The client went away, or broke off its body.
    ClientGone: 400 "client_gone" "bad request: the body broke off";
    /// A protecting setting of the rule is broken, so it stays closed.
    Denied: 503 "denied" "service unavailable: a setting that protects this path cannot be honoured";
    /// Only Routes name this host, and none of them is for this path and scheme.
    Unserved: 503 "unserved" "service unavailable: no Route of this host is for this path and scheme";
    /// More passwords are tried than can be looked at.
    AuthenticationBusy: 503 "authentication_busy" "service unavailable: too many passwords are tried at once";
    /// The keys by which tokens are verified were never had.
    KeysMissing: 503 "keys_missing" "service unavailable: the keys by which tokens are verified cannot be had";
    /// There is no room to keep the body of a request that is read in whole, or it cannot be read again.
    BodyUnkept: 503 "body_unkept" "service unavailable: there is no room to keep the body of this request";
    /// The memory of the process nears its limit (P24d).
    Overloaded: 503 "overloaded" "service unavailable: this gateway is short of memory, try again";
    /// The rule has no backend with a ready endpoint.
    NoEndpoints: 503 "no_endpoints" "service unavailable: no ready endpoint";
    /// The request has come back to gateways too often, or its backend is this gateway itself.
    Loop: 508 "loop" "loop detected: the backend of this request leads back to the gateway";
    /// No more connections to the backend may be opened.
    UpstreamBusy: 503 "upstream_busy" "service unavailable: too many connections to the backend are open";
    /// The endpoint has all the requests that its rule lets it have, and as many wait for it.
    QueueFull: 503 "queue_full" "service unavailable: too many requests wait for the backend";
    /// The endpoint had all the requests that its rule lets it have for as long as a request waits.
    QueueTimeout: 503 "queue_timeout" "service unavailable: the backend has been busy for too long";
    /// The endpoint refused the connection.
    ConnectFailed: 502 "connect_failed" "bad gateway: the backend does not accept connections";
    /// The endpoint speaks no TLS, or its certificate is not believed.
    UpstreamTls: 503 "upstream_tls" "service unavailable: no TLS to the backend, or its certificate is not believed";
    /// The endpoint did not answer the connect in time.
    ConnectTimeout: 504 "connect_timeout" "gateway timeout: the backend does not accept connections";
    /// The endpoint ended the connection without an answer.
    UpstreamClosed: 502 "upstream_closed" "bad gateway: the backend closed the connection";
    /// The answer is not HTTP, or breaks its rules.
    UpstreamInvalid: 502 "upstream_invalid" "bad gateway: the backend's answer is not valid HTTP";
    /// More fields than an answer may have, or more bytes of them.
    AnswerTooLarge: 502 "answer_too_large" "bad gateway: the header of the backend's answer is over the limit of 2000 fields and 256 KiB";
    /// No answer in time.
    UpstreamTimeout: 504 "upstream_timeout" "gateway timeout: the backend did not answer";
    /// The answer began and broke off.
    UpstreamCut: 502 "upstream_cut" "bad gateway: the answer broke off";
    /// The client stopped taking the answer.
    ClientStalled: 408 "client_stalled" "request timeout";
}

impl ProxyErrorKind {
    /// Whether the connection must end with this answer: what follows on it cannot be trusted, or needs another
    /// handshake.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::BadHost
                | Self::BadFraming
                | Self::BadHeader
                | Self::SlowRequest
                | Self::Overloaded
                | Self::UriTooLong
                | Self::HeadersTooLarge
                | Self::NotImplemented
                | Self::CertificateMisdirected
                | Self::TlsMisdirected
                | Self::TlsPassedOn
                | Self::ClientGone
        )
    }
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
    fn a_closed_path_answers_with_the_status_that_plan_and_explain_show() {
        assert_eq!(ProxyErrorKind::Denied.status(), gatehouse_routes::action::DENY_STATUS);
    }
}
