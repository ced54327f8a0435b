//! What a request to the echo backend is answered with.
//!
//! Called once per request by [`super`]. The query asks for special treatment, all parts optional:
//!
//! | query      | answer                                                            |
//! |------------|-------------------------------------------------------------------|
//! | `size=N`   | a body of N bytes (at most 16 GiB) in place of the text           |
//! | `delay=MS` | waits before answering, at most 120 000 ms                        |
//! | `status=N` | this status, 200 to 599                                           |
//! | `chunked`  | no `Content-Length`: the body goes out chunked                    |
//! | `json`     | JSON with all received headers (so does `Accept: application/json`) |
//! | `bearer=T` | status 401 unless the request says `Authorization: Bearer T` |
//! | `read=1`   | reads the request body to its end and says how many bytes it had  |

use std::{cell::RefCell, collections::BTreeMap, fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, UPGRADE},
};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use serde::Serialize;

use super::{body::EchoBody, websocket};

/// Largest body that `size=` gives, in bytes.
const MAX_SIZE: u64 = 16 << 30;

/// Longest wait that `delay=` gives, in milliseconds.
const MAX_DELAY_MS: u64 = 120_000;

/// Who answers.
#[derive(Debug)]
pub(super) struct Identity {
    service: String,
    endpoint: String,
    /// The same as response headers, made once.
    service_header: Option<HeaderValue>,
}

impl Identity {
    /// An echo backend that calls itself `service` and `endpoint`.
    pub(super) fn new(service: String, endpoint: String) -> Self {
        let service_header = HeaderValue::from_str(&service).ok();
        Self { service, endpoint, service_header }
    }
}

/// What the query asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    size: Option<u64>,
    delay_ms: u64,
    status: StatusCode,
    chunked: bool,
    json: bool,
    read: bool,
}

/// The JSON answer.
#[derive(Serialize)]
struct Report<'a> {
    service: &'a str,
    endpoint: &'a str,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    host: String,
    version: &'static str,
    headers: BTreeMap<&'a str, Vec<String>>,
    body_bytes: Option<u64>,
}

/// Answers one request. `line` is scratch space of the connection.
pub(super) async fn answer(
    identity: &Identity,
    line: &RefCell<String>,
    request: Request<Incoming>,
) -> Response<EchoBody> {
    if request.headers().contains_key(UPGRADE)
        && let Some(response) = websocket::upgrade(&request)
    {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            websocket::spawn_echo(request);
        }
        return response.map(EchoBody::text);
    }
    let asked = match asked(request.uri(), request.headers()) {
        Ok(asked) => asked,
        Err(text) => return respond(identity, StatusCode::BAD_REQUEST, EchoBody::text(text)),
    };
    let (head, mut body) = request.into_parts();
    // An unread body would make hyper close the connection; a backend reads what it is sent.
    let body_bytes = if body.is_end_stream() { Some(0) } else { drain(&mut body).await };
    if asked.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(asked.delay_ms)).await;
    }
    let mut body = if let Some(size) = asked.size {
        EchoBody::fill(size)
    } else if asked.read {
        EchoBody::text(body_bytes.map_or_else(|| "aborted\n".into(), |count| format!("{count}\n")))
    } else if asked.json {
        EchoBody::text(report(identity, &head, body_bytes))
    } else {
        EchoBody::text(text_line(identity, &mut line.borrow_mut(), &head))
    };
    if asked.chunked {
        body = body.chunked();
    }
    if matches!(asked.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        body = EchoBody::text(Bytes::new());
    }
    let mut response = respond(identity, asked.status, body);
    if asked.json {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

fn respond(identity: &Identity, status: StatusCode, body: EchoBody) -> Response<EchoBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Some(service) = &identity.service_header {
        headers.insert("x-echo-service", service.clone());
    }
    response
}

/// `service=alpha endpoint=127.0.0.1:9001 method=GET path=/a?b host=example.test`
fn text_line(identity: &Identity, line: &mut String, head: &http::request::Parts) -> Bytes {
    line.clear();
    let path = head.uri.path_and_query().map_or("*", |path| path.as_str());
    let host = host(&head.uri, &head.headers);
    // Writing to a String cannot fail.
    let _ = writeln!(
        line,
        "service={} endpoint={} method={} path={path} host={host}",
        identity.service, identity.endpoint, head.method,
    );
    Bytes::copy_from_slice(line.as_bytes())
}

fn report(identity: &Identity, head: &http::request::Parts, body_bytes: Option<u64>) -> Bytes {
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str()).or_default().push(value);
    }
    let report = Report {
        service: &identity.service,
        endpoint: &identity.endpoint,
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        host: host(&head.uri, &head.headers).into_owned(),
        version: if head.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
        headers,
        body_bytes,
    };
    let mut text = serde_json::to_vec_pretty(&report).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> std::borrow::Cow<'a, str> {
    match headers.get(HOST) {
        Some(host) => String::from_utf8_lossy(host.as_bytes()),
        None => uri.authority().map_or("-", |authority| authority.as_str()).into(),
    }
}

/// Reads the body to its end; none when the client broke off.
async fn drain(body: &mut Incoming) -> Option<u64> {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        count += frame.ok()?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Some(count)
}

fn asked(uri: &Uri, headers: &HeaderMap) -> Result<Asked, String> {
    let mut asked = Asked::default();
    if let Some(accept) = headers.get(ACCEPT) {
        asked.json = accept.as_bytes() == b"application/json";
    }
    let Some(query) = uri.query() else { return Ok(asked) };
    for part in query.split('&') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "size" => asked.size = Some(number(key, value, 0, MAX_SIZE)?),
            "delay" => asked.delay_ms = number(key, value, 0, MAX_DELAY_MS)?,
            "status" => {
                let code = number(key, value, 200, 599)?;
                asked.status = u16::try_from(code)
                    .ok()
                    .and_then(|code| StatusCode::from_u16(code).ok())
                    .unwrap_or_default();
            }
            "bearer" => {
                let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
                if shown.and_then(|shown| shown.strip_prefix(b"Bearer ")) != Some(value.as_bytes())
                {
                    asked.status = StatusCode::UNAUTHORIZED;
                }
            }
            "chunked" => asked.chunked = true,
            "json" => asked.json = true,
            "read" => asked.read = true,
            // A query of the client's own, such as a cache buster.
            _ => {}
        }
    }
    Ok(asked)
}

fn number(key: &str, value: &str, least: u64, most: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("query `{key}={value}`: a number from {least} to {most} is needed\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_by(uri: &str) -> Result<Asked, String> {
        asked(&uri.parse().unwrap(), &HeaderMap::new())
    }

    #[test]
    fn the_query_names_size_delay_status_and_form() {
        let asked = asked_by("/x?size=65536&delay=20&status=503&chunked&json&other=1").unwrap();
        assert_eq!(asked.size, Some(65536));
        assert_eq!(asked.delay_ms, 20);
        assert_eq!(asked.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(asked.chunked && asked.json && !asked.read);
        assert_eq!(asked_by("/x").unwrap(), Asked::default());
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_its_limits() {
        for query in ["status=100", "status=600", "status=abc", "size=-1", "delay=999999999"] {
            let error = asked_by(&format!("/?{query}")).unwrap_err();
            assert!(error.contains(query) && error.contains(" to "), "{error}");
        }
    }
}
