//! One check of one endpoint.

use std::{io, net::SocketAddr, time::Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use gatehouse_routes::policy::check::CheckKind;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    tls::backends::Way,
    upstream::{
        frames::{Counted, Due},
        stream::{self, UpstreamStream},
    },
};

/// Longest status line, and longest answer in gRPC's protocol.
const MOST: usize = 4 * 1024;
/// `SERVING` of `grpc.health.v1.HealthCheckResponse`: field 1, a number, 1.
const SERVING: [u8; 2] = [0x08, 1];

/// Whether an endpoint is well. The caller bounds the time. `header`: what it hears before anything else. `way`: how TLS is
/// done, if it is.
///
/// # Errors
/// Why it is not.
pub(super) async fn probe(
    address: SocketAddr,
    header: &[u8],
    kind: &CheckKind,
    way: Option<&Way>,
) -> io::Result<()> {
    let mut stream = stream::open(address, way).await.map_err(io::Error::other)?;
    stream.write_all(header).await?;
    match kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http { path, host } => {
            let own = address.to_string();
            http(stream, path, host.as_deref().unwrap_or(&own)).await
        }
        CheckKind::Grpc { service } => grpc(stream, (address, way.is_some()), service).await,
    }
}

async fn http(mut stream: UpstreamStream, path: &str, host: &str) -> io::Result<()> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gatehouse-check\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < MOST {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    match status(&line) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(io::Error::other(format!("status {status}"))),
        None => Err(io::Error::other("not HTTP")),
    }
}

/// The status of an answer's first line (RFC 9112 §4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3)?;
    if rest.get(3).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

async fn grpc(
    stream: UpstreamStream,
    (address, secure): (SocketAddr, bool),
    service: &str,
) -> io::Result<()> {
    let scheme = if secure { "https" } else { "http" };
    // It may say no more than a backend may say to one request.
    let due = Due::since(Instant::now());
    due.request();
    let stream = TokioIo::new(Counted::new(stream, due));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), stream).await.map_err(io::Error::other)?;
    let request = Request::post(format!("{scheme}://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "gatehouse-check")
        .body(Full::new(message(service)))
        .map_err(io::Error::other)?;
    let exchanged = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(format!("status {}", response.status())));
        }
        let head = response.headers().get("grpc-status").cloned();
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(io::Error::other)?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        match status.or(head) {
            Some(status) if status == "0" => {}
            other => return Err(io::Error::other(format!("grpc-status {other:?}"))),
        }
        match body.to_bytes().get(5..) {
            Some(text) if text.starts_with(&SERVING) => Ok(()),
            _ => Err(io::Error::other("not serving")),
        }
    };
    tokio::select! {
        result = exchanged => result,
        ended = connection => Err(ended.map_or_else(io::Error::other, |()| io::ErrorKind::UnexpectedEof.into())),
    }
}

/// `HealthCheckRequest { service }` with gRPC's prefix.
fn message(service: &str) -> Bytes {
    // A name is shorter than 128 bytes, so its length is one byte (`value/choice` bounds it).
    let name = &service.as_bytes()[..service.len().min(127)];
    let mut message = BytesMut::new();
    message.put_u8(0);
    let length = if name.is_empty() { 0 } else { name.len() + 2 };
    message.put_u32(length as u32);
    if !name.is_empty() {
        message.put_u8(0x0a);
        message.put_u8(name.len() as u8);
        message.extend_from_slice(name);
    }
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_the_status() {
        for (line, expected) in [
            (&b"HTTP/1.1 204 No Content\r\n"[..], Some(204)),
            (b"HTTP/1.0 503\r\n", Some(503)),
            (b"HTTP/1.1 2000 x", None),
            (b"HTTP/1.1 20", None),
            (b"SSH-2.0-x\r\n", None),
            (b"", None),
        ] {
            assert_eq!(status(line), expected, "{line:?}");
        }
    }

    /// A server of one connection that reports this status for `acme.Shop`.
    async fn grpc_server(status: u8) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move |request: Request<hyper::body::Incoming>| async move {
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            let trailers = async move {
                let known = if asked == message("acme.Shop") { "0" } else { "5" };
                Some(Ok(http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static(known),
                )])))
            };
            let body = Full::new(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]));
            Ok::<_, std::convert::Infallible>(http::Response::new(body.with_trailers(trailers)))
        };
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(answer);
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
        address
    }

    #[tokio::test]
    async fn a_server_says_by_grpc_how_it_is() {
        for (service, status, well) in
            [("acme.Shop", 1, true), ("acme.Shop", 2, false), ("acme.Other", 1, false)]
        {
            let kind = CheckKind::Grpc { service: service.into() };
            let result = probe(grpc_server(status).await, &[], &kind, None).await;
            assert_eq!(result.is_ok(), well, "{service} {status}: {result:?}");
        }
    }

    /// A server of HTTP/2 that goes on saying this; whether anybody still listens after a while is told.
    async fn flooder(flood: Vec<u8>) -> (SocketAddr, tokio::sync::oneshot::Receiver<usize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gone, ended) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.into_split();
            // The preface, SETTINGS, HEADERS and the question; what follows is read, too.
            let mut asked = vec![0; 24];
            read.read_exact(&mut asked).await.unwrap();
            while !asked.windows(9).any(|it| it[3] == 1 && it[5..] == [0, 0, 0, 1]) {
                assert!(read.read_buf(&mut asked).await.unwrap() > 0);
            }
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
            let _ = write.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            let mut sent = 0;
            while write.write_all(&flood).await.is_ok() {
                sent += 1;
            }
            let _ = gone.send(sent);
        });
        (address, ended)
    }

    #[tokio::test]
    async fn a_server_that_says_something_else_without_end_is_not_well_and_not_heard() {
        for flood in [
            // :status 103, PING, SETTINGS, a window of one byte more, nothing.
            &[0, 0, 5, 1, 4, 0, 0, 0, 1, 8, 3, b'1', b'0', b'3'][..],
            &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0, 0, 0, 4, 0, 0, 0, 0, 0],
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 99, 0, 0, 0, 0, 0],
        ] {
            let (address, ended) = flooder(flood.repeat(1_000)).await;
            let kind = CheckKind::Grpc { service: "".into() };
            let limit = std::time::Duration::from_secs(10);
            let probed = tokio::time::timeout(limit, probe(address, &[], &kind, None)).await;
            assert!(probed.unwrap().is_err(), "{flood:?}");
            let sent = tokio::time::timeout(limit, ended).await;
            assert!(sent.is_ok(), "{flood:?}");
        }
    }

    #[test]
    fn a_question_has_the_name_of_the_service_or_none() {
        assert_eq!(&message("")[..], b"\0\0\0\0\0");
        assert_eq!(&message("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
    }
}
