//! The values of a line, by the names that a pattern calls them: the one table of them, and how each is
//! written.

use std::{
    fmt,
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use gatehouse_routes::objects::ObjectKey;

use super::entry::Entry;

const BASIC: &[u8] = b"basic ";
/// Most bytes of name and password.
const LONGEST_CREDENTIALS: usize = 1_024;
/// With or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

macro_rules! fields {
    ($( $field:ident: $($name:literal)|+, $doc:literal; )*) => {
        /// A value of a line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Field { $( $field, )* }

        impl Field {
            /// The field that a pattern calls so.
            pub(super) fn named(name: &str) -> Option<Self> {
                match name { $( $($name)|+ => Some(Self::$field), )* _ => None }
            }
        }

        /// Names that a pattern may use, those of one value together, and what they stand for.
        pub const NAMES: &[(&[&str], &str)] = &[ $( (&[$($name),+], $doc), )* ];
    };
}

fields! {
    Time: "time" | "time_iso8601", "end of the request, as 2026-11-29T14:00:00.123Z";
    TimeLocal: "time_local", "the same in the form of Apache, in UTC";
    Seconds: "msec", "the same in seconds since 1970, with milliseconds";
    Client: "client" | "remote_addr", "address of the client: that of the connection, or what a trusted proxy says";
    ClientPort: "remote_port", "port of the client's connection";
    Local: "local", "address and port that the request came in on";
    LocalIp: "server_addr", "the address alone";
    LocalPort: "server_port", "the port alone";
    Method: "method" | "request_method", "method";
    Scheme: "scheme", "`http` or `https`";
    Host: "host" | "http_host", "host as received";
    Path: "path" | "uri", "path as received, without query";
    Query: "query" | "args" | "query_string", "query as received";
    Target: "request_uri", "path and query";
    Request: "request", "method, path, query and protocol";
    Version: "http", "`1.0`, `1.1` or `2`";
    Protocol: "server_protocol" | "protocol", "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`";
    Tls: "tls", "`true` if it came over TLS";
    TlsVersion: "tls_version", "`1.2` or `1.3`";
    TlsProtocol: "ssl_protocol", "`TLSv1.2` or `TLSv1.3`";
    TlsName: "tls_name" | "ssl_server_name", "server name of the TLS handshake";
    Status: "status", "status of the answer; 0: the client left before one";
    UpstreamStatus: "upstream_status", "status of the backend's answer";
    UpstreamBytes: "upstream_response_length", "bytes of the answer's body, if it is the backend's";
    BytesIn: "bytes_in" | "bytes_received" | "request_length", "bytes of the request's body (nginx counts those of the head, too)";
    BytesOut: "bytes_out" | "bytes_sent" | "body_bytes_sent", "bytes of the answer's body";
    Micros: "duration_us", "duration in microseconds";
    Millis: "duration_ms", "duration in milliseconds";
    Nanos: "duration_ns", "duration in nanoseconds";
    Duration: "request_time", "duration in seconds, with milliseconds";
    UpstreamMicros: "upstream_us", "time to the head of the backend's answer in microseconds";
    UpstreamMillis: "upstream_ms", "the same in milliseconds";
    Upstream: "upstream_response_time" | "upstream_header_time", "the same in seconds, with milliseconds";
    Route: "route", "kind, namespace and name of the object whose rule answered";
    Kind: "kind", "its kind";
    Namespace: "namespace", "its namespace";
    Name: "name" | "ingress_name", "its name";
    Backend: "backend", "namespace and name of the Service";
    Service: "service_name", "its name";
    UpstreamName: "proxy_upstream_name", "both with a hyphen between them (ingress-nginx adds the port)";
    AlternativeName: "proxy_alternative_upstream_name", "always absent: a canary's Service is `$backend`";
    Endpoint: "endpoint" | "upstream_addr", "address and port of the endpoint";
    Retries: "retries", "how often the request was sent again";
    Error: "error", "why the gateway answered itself";
    Flags: "flags" | "response_flags", "the same as Envoy's response flags";
    RequestId: "request_id" | "req_id", "value of X-Request-ID, made up where the client sent none";
    UserAgent: "user_agent" | "http_user_agent", "value of User-Agent";
    Referer: "referer" | "http_referer", "value of Referer";
    User: "remote_user", "name that the client has given with its password (Basic), whether or not that is right";
}

/// Values that are the same for all lines of a second.
#[derive(Debug)]
pub(super) struct Second {
    second: u64,
    iso: String,
    clf: String,
}

impl Default for Second {
    fn default() -> Self {
        Self { second: u64::MAX, iso: String::new(), clf: String::new() }
    }
}

impl Second {
    /// Makes it that of a time; returns the milliseconds beyond.
    fn move_to(&mut self, time: SystemTime) -> u32 {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() {
            self.second = since.as_secs();
            self.iso.clear();
            self.clf.clear();
            let second = i64::try_from(self.second).ok();
            if let Some(stamp) = second.and_then(|second| jiff::Timestamp::from_second(second).ok())
            {
                self.iso.push_str(stamp.to_string().trim_end_matches('Z'));
                self.clf.push_str(&stamp.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string());
            }
        }
        since.subsec_millis()
    }
}

/// How text from outside is made harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// RFC 8259 §7.
    Json,
    /// `\xHH` for quotes, backslashes and whatever is not printable ASCII, as nginx does.
    Hex,
}

impl Field {
    /// True if JSON has it without quotes.
    pub(super) fn is_bare(self) -> bool {
        matches!(
            self,
            Self::Tls
                | Self::ClientPort
                | Self::LocalPort
                | Self::Status
                | Self::UpstreamStatus
                | Self::UpstreamBytes
                | Self::BytesIn
                | Self::BytesOut
                | Self::Micros
                | Self::Millis
                | Self::Nanos
                | Self::Duration
                | Self::UpstreamMicros
                | Self::UpstreamMillis
                | Self::Upstream
                | Self::Seconds
                | Self::Retries
        )
    }

    /// Writes its value; nothing if it is absent. Allocates nothing.
    pub(super) fn write(
        self,
        entry: &Entry<'_>,
        second: &mut Second,
        escape: Escape,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Time | Self::TimeLocal | Self::Seconds => self.time(entry.time, second, out),
            Self::Client => display(out, Some(entry.client.ip())),
            Self::ClientPort => number(out, Some(entry.client.port().into())),
            Self::Local => display(out, Some(entry.local)),
            Self::LocalIp => display(out, Some(entry.local.ip())),
            Self::LocalPort => number(out, Some(entry.local.port().into())),
            Self::Method => text(out, entry.method.as_bytes(), escape),
            Self::Scheme => out.extend_from_slice(entry.scheme.as_bytes()),
            Self::Host => text(out, entry.host, escape),
            Self::Path => text(out, entry.path, escape),
            Self::Query => text(out, entry.query.unwrap_or_default(), escape),
            Self::Target => target(out, entry, escape),
            Self::Request => {
                text(out, entry.method.as_bytes(), escape);
                out.push(b' ');
                target(out, entry, escape);
                out.push(b' ');
                out.extend_from_slice(protocol(entry.version).as_bytes());
            }
            Self::Version => out.extend_from_slice(version(entry.version).as_bytes()),
            Self::Protocol => out.extend_from_slice(protocol(entry.version).as_bytes()),
            Self::Tls => {
                out.extend_from_slice(if entry.tls.is_some() { b"true" } else { b"false" });
            }
            Self::TlsVersion => {
                let version = entry.tls.unwrap_or_default();
                out.extend_from_slice(version.strip_prefix("TLSv").unwrap_or(version).as_bytes());
            }
            Self::TlsProtocol => out.extend_from_slice(entry.tls.unwrap_or_default().as_bytes()),
            Self::TlsName => text(out, entry.server_name.unwrap_or_default().as_bytes(), escape),
            Self::Status => number(out, Some(entry.status.into())),
            Self::UpstreamStatus => number(out, entry.upstream_status.map(Into::into)),
            Self::UpstreamBytes => {
                number(out, entry.upstream_status.map(|_| entry.bytes_out));
            }
            Self::BytesIn => number(out, Some(entry.bytes_in)),
            Self::BytesOut => number(out, Some(entry.bytes_out)),
            Self::Micros => number(out, Some(whole(entry.duration.as_micros()))),
            Self::Millis => number(out, Some(whole(entry.duration.as_millis()))),
            Self::Nanos => number(out, Some(whole(entry.duration.as_nanos()))),
            Self::Duration => seconds(out, entry.duration),
            Self::UpstreamMicros => number(out, entry.upstream.map(|it| whole(it.as_micros()))),
            Self::UpstreamMillis => number(out, entry.upstream.map(|it| whole(it.as_millis()))),
            Self::Upstream => entry.upstream.iter().for_each(|it| seconds(out, *it)),
            Self::Route => display(out, entry.route),
            Self::Kind => display(out, entry.route.map(|route| route.kind)),
            Self::Namespace => display(out, entry.route.map(|route| &route.key.namespace)),
            Self::Name => display(out, entry.route.map(|route| &route.key.name)),
            Self::Backend => display(out, entry.backend),
            Self::Service => display(out, entry.backend.map(|service| &service.name)),
            Self::UpstreamName => {
                if let Some(ObjectKey { namespace, name }) = entry.backend {
                    display(out, Some(format_args!("{namespace}-{name}")));
                }
            }
            Self::Endpoint => display(out, entry.endpoint),
            Self::Retries => number(out, Some(entry.retries.into())),
            Self::Error => out.extend_from_slice(entry.error.as_bytes()),
            Self::Flags => out.extend_from_slice(flags(entry.error).as_bytes()),
            Self::RequestId => text(out, entry.request_id, escape),
            Self::UserAgent => text(out, entry.user_agent.unwrap_or_default(), escape),
            Self::Referer => text(out, entry.referer.unwrap_or_default(), escape),
            Self::User => user(out, entry.authorization.unwrap_or_default(), escape),
            Self::AlternativeName => (),
        }
    }

    fn time(self, time: SystemTime, second: &mut Second, out: &mut Vec<u8>) {
        let millis = second.move_to(time);
        match self {
            Self::TimeLocal => out.extend_from_slice(second.clf.as_bytes()),
            Self::Seconds => {
                number(out, Some(second.second));
                thousandths(out, millis);
            }
            _ => {
                out.extend_from_slice(second.iso.as_bytes());
                thousandths(out, millis);
                out.push(b'Z');
            }
        }
    }
}

/// The name within `Authorization: Basic …` (RFC 7617).
fn user(out: &mut Vec<u8>, authorization: &[u8], escape: Escape) {
    let mut decoded = [0; LONGEST_CREDENTIALS];
    let found = authorization.split_at_checked(BASIC.len());
    let given = found.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BASIC));
    let length =
        given.and_then(|(_, given)| BASE64.decode_slice(given.trim_ascii(), &mut decoded).ok());
    let name = length.and_then(|length| decoded[..length].split(|byte| *byte == b':').next());
    text(out, name.unwrap_or_default(), escape);
}

/// Envoy's response flag for a label of ours.
fn flags(error: &str) -> &'static str {
    match error {
        "" => "",
        "no_route" => "NR",
        "no_endpoints" => "UH",
        "connect_failed" | "connect_timeout" => "UF",
        "upstream_closed" | "upstream_cut" => "UC",
        "upstream_timeout" => "UT",
        "upstream_invalid" => "UPE",
        "client_gone" | "client_stalled" | "slow_request" => "DC",
        _ => "DPE",
    }
}

fn target(out: &mut Vec<u8>, entry: &Entry<'_>, escape: Escape) {
    text(out, entry.path, escape);
    if let Some(query) = entry.query {
        out.push(b'?');
        text(out, query, escape);
    }
}

fn whole(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn seconds(out: &mut Vec<u8>, duration: Duration) {
    number(out, Some(duration.as_secs()));
    thousandths(out, duration.subsec_millis());
}

fn thousandths(out: &mut Vec<u8>, millis: u32) {
    let digit = |value: u32| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis)]);
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_11 => "1.1",
        http::Version::HTTP_2 => "2",
        _ => "other",
    }
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_11 => "HTTP/1.1",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "other",
    }
}

fn number(out: &mut Vec<u8>, value: Option<u64>) {
    if let Some(value) = value {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

/// A value whose text needs no escaping: addresses, kinds, Kubernetes names.
fn display(out: &mut Vec<u8>, value: Option<impl fmt::Display>) {
    if let Some(value) = value {
        write!(out, "{value}").expect("writing to a Vec cannot fail");
    }
}

fn text(out: &mut Vec<u8>, value: &[u8], escape: Escape) {
    match escape {
        Escape::Json => {
            for chunk in value.utf8_chunks() {
                json(out, chunk.valid());
                if !chunk.invalid().is_empty() {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
        Escape::Hex => hex(out, value),
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// RFC 8259 §7: quote, backslash and control characters.
fn json(out: &mut Vec<u8>, text: &str) {
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0x7f;
    escaped(out, text.as_bytes(), special, |out, byte| match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    });
}

fn hex(out: &mut Vec<u8>, text: &[u8]) {
    let special = |byte: u8| !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\';
    escaped(out, text, special, |out, byte| {
        let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        out.extend_from_slice(&[b'\\', b'x', digits[0], digits[1]]);
    });
}

fn escaped(
    out: &mut Vec<u8>,
    bytes: &[u8],
    special: impl Fn(u8) -> bool,
    write: impl Fn(&mut Vec<u8>, u8),
) {
    let mut plain = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if special(byte) {
            out.extend_from_slice(&bytes[plain..index]);
            plain = index + 1;
            write(out, byte);
        }
    }
    out.extend_from_slice(&bytes[plain..]);
}
