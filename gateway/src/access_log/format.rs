//! What a line looks like: the formats that have a name, and patterns.
//!
//! A format is read once and is a list of segments from then on; a line is written by walking it.

use std::{str::FromStr, sync::Arc};

use super::{
    entry::Entry,
    field::{Escape, Field, NAMES, Second},
};

/// How a line is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    escape: Escape,
    segments: Arc<[Segment]>,
    end: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    before: Box<str>,
    field: Field,
    after: &'static str,
}

/// Our own names. A value that is absent is left out.
const JSON: &[(&str, Field)] = &[
    ("time", Field::Time),
    ("client", Field::Client),
    ("local", Field::Local),
    ("method", Field::Method),
    ("scheme", Field::Scheme),
    ("host", Field::Host),
    ("path", Field::Path),
    ("query", Field::Query),
    ("http", Field::Version),
    ("tls", Field::Tls),
    ("tls_version", Field::TlsVersion),
    ("tls_name", Field::TlsName),
    ("status", Field::Status),
    ("upstream_status", Field::UpstreamStatus),
    ("bytes_in", Field::BytesIn),
    ("bytes_out", Field::BytesOut),
    ("duration_us", Field::Micros),
    ("route", Field::Route),
    ("backend", Field::Backend),
    ("endpoint", Field::Endpoint),
    ("upstream_us", Field::UpstreamMicros),
    ("retries", Field::Retries),
    ("error", Field::Error),
    ("request_id", Field::RequestId),
    ("user_agent", Field::UserAgent),
    ("referer", Field::Referer),
];

/// Elastic Common Schema 8, with dotted names; what it has no name for is under `gatehouse`.
const ECS: &[(&str, Field)] = &[
    ("@timestamp", Field::Time),
    ("source.ip", Field::Client),
    ("source.port", Field::ClientPort),
    ("destination.ip", Field::LocalIp),
    ("destination.port", Field::LocalPort),
    ("http.request.method", Field::Method),
    ("http.request.id", Field::RequestId),
    ("http.request.referrer", Field::Referer),
    ("http.request.body.bytes", Field::BytesIn),
    ("http.response.status_code", Field::Status),
    ("http.response.body.bytes", Field::BytesOut),
    ("http.version", Field::Version),
    ("url.scheme", Field::Scheme),
    ("url.domain", Field::Host),
    ("url.path", Field::Path),
    ("url.query", Field::Query),
    ("user_agent.original", Field::UserAgent),
    ("tls.version", Field::TlsVersion),
    ("tls.client.server_name", Field::TlsName),
    ("event.duration", Field::Nanos),
    ("error.type", Field::Error),
    ("gatehouse.route", Field::Route),
    ("gatehouse.service", Field::Backend),
    ("gatehouse.endpoint", Field::Endpoint),
    ("gatehouse.upstream_status", Field::UpstreamStatus),
    ("gatehouse.upstream_us", Field::UpstreamMicros),
    ("gatehouse.retries", Field::Retries),
];
/// What every document of that schema says of itself.
const ECS_END: &str = ",\"event.kind\":\"event\",\"event.category\":[\"web\"],\
                       \"event.dataset\":\"gatehouse.access\",\"ecs.version\":\"8.11.0\"}\n";

/// Apache's and nginx' combined log.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                        \"$http_referer\" \"$http_user_agent\"";
/// ingress-nginx' default (`log-format-upstream`).
const INGRESS_NGINX: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                             \"$http_referer\" \"$http_user_agent\" $request_length $request_time \
                             [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr \
                             $upstream_response_length $upstream_response_time $upstream_status $req_id";
/// Envoy's default.
const ENVOY: &str = "[$time] \"$method $request_uri $server_protocol\" $status $response_flags $bytes_received \
                     $bytes_sent $duration_ms $upstream_ms \"$client\" \"$user_agent\" \"$request_id\" \
                     \"$host\" \"$endpoint\"";

impl Default for Format {
    fn default() -> Self {
        Self::json(JSON, "}\n")
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::default()),
            "ecs" => Ok(Self::json(ECS, ECS_END)),
            "combined" => Self::pattern(COMBINED),
            "ingress-nginx" => Self::pattern(INGRESS_NGINX),
            "envoy" => Self::pattern(ENVOY),
            _ if text.contains('$') => Self::pattern(text),
            _ => Err(format!(
                "\"{text}\" is not json, combined, ecs, envoy, ingress-nginx, nor a pattern with names such as $status"
            )),
        }
    }
}

impl Format {
    /// Writes a line. Allocates nothing.
    pub(super) fn line(&self, entry: &Entry<'_>, second: &mut Second, out: &mut Vec<u8>) {
        let Self { escape, segments, end } = self;
        for Segment { before, field, after } in &**segments {
            let start = out.len();
            out.extend_from_slice(before.as_bytes());
            let value = out.len();
            field.write(entry, second, *escape, out);
            match escape {
                Escape::Json if out.len() == value && !keeps_empty(*field) => out.truncate(start),
                Escape::Json => out.extend_from_slice(after.as_bytes()),
                Escape::Hex if out.len() == value => out.push(b'-'),
                Escape::Hex => (),
            }
        }
        out.extend_from_slice(end.as_bytes());
    }

    /// Whether a line names the user of a request.
    pub(super) fn names_users(&self) -> bool {
        self.segments.iter().any(|segment| segment.field == Field::User)
    }

    /// One object of these keys; the first of them is never absent.
    fn json(fields: &[(&str, Field)], end: &str) -> Self {
        let segments = fields.iter().zip(std::iter::once('{').chain(std::iter::repeat(',')));
        let segments = segments.map(|((key, field), open)| {
            let quote = if field.is_bare() { "" } else { "\"" };
            Segment {
                before: format!("{open}\"{key}\":{quote}").into(),
                field: *field,
                after: quote,
            }
        });
        Self { escape: Escape::Json, segments: segments.collect(), end: end.into() }
    }

    /// Text with `$name` or `${name}`; `$$` is a dollar.
    fn pattern(text: &str) -> Result<Self, String> {
        let (mut segments, mut before) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some((plain, after)) = rest.split_once('$') {
            before.push_str(plain);
            if let Some(after) = after.strip_prefix('$') {
                before.push('$');
                rest = after;
                continue;
            }
            let (name, after) = name(after).ok_or_else(|| {
                format!("\"{text}\": a dollar is followed by a name, as in $status or ${{status}}; $$ is a dollar")
            })?;
            let field = Field::named(name).ok_or_else(|| unknown(name))?;
            segments.push(Segment { before: std::mem::take(&mut before).into(), field, after: "" });
            rest = after;
        }
        before.push_str(rest);
        if before.contains('\n') || segments.iter().any(|segment| segment.before.contains('\n')) {
            return Err("a pattern is one line".to_owned());
        }
        before.push('\n');
        Ok(Self { escape: Escape::Hex, segments: segments.into(), end: before.into() })
    }
}

/// An empty text that says something: that there was no error, or an empty host.
fn keeps_empty(field: Field) -> bool {
    matches!(field, Field::Error | Field::Host | Field::Path)
}

/// The name behind a dollar, and what follows it.
fn name(text: &str) -> Option<(&str, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        return braced.split_once('}').filter(|(name, _)| !name.is_empty());
    }
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    (!name.is_empty()).then_some((name, rest))
}

fn unknown(name: &str) -> String {
    let names = NAMES.iter().map(|(names, _)| format!("${}", names[0])).collect::<Vec<_>>();
    format!("${name} is no name of the access log; there are {}", names.join(" "))
}

#[cfg(test)]
mod tests;
