//! gRPC of the echo backend: HTTP/2 in clear text, messages and a status in the trailers.
//!
//! Called by [`super`] with each connection. A call reads its request to the end and answers with messages
//! of fill, as its query asks: `/bench.Echo/Stream?messages=100&bytes=128`; one of 64 bytes without. Every
//! message is a DATA frame of its own, as servers send them that stream. What a message says is of no concern:
//! proxies do not look into it.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming},
    rt::Executor,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest message, in bytes: what gRPC libraries take by default.
const MAX_BYTES: usize = 4 << 20;

/// Streams at a time on one connection; peers open few connections.
const STREAMS: u32 = 4096;

/// Serves a connection until its end.
pub(super) async fn serve(stream: TcpStream) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    // A client that goes away is the normal end of a connection.
    let _ = http2::Builder::new(Here)
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Runs streams on the thread of their connection.
#[derive(Debug, Clone, Copy)]
struct Here;

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

async fn answer(request: Request<Incoming>) -> Response<Messages> {
    let asked = |name: &str| {
        let query = request.uri().query().unwrap_or_default();
        let mut parts = query.split('&').filter_map(|part| part.split_once('='));
        parts.find_map(|(key, value)| (key == name).then(|| value.parse().ok())?)
    };
    let left = asked("messages").unwrap_or(1);
    let bytes = asked("bytes").unwrap_or(64).min(MAX_BYTES);
    // A broken request is the client's affair.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Messages { message: message(bytes), left, ended: false });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A message with its prefix: not compressed, its length in four octets.
fn message(bytes: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(5 + bytes);
    message.put_u8(0);
    // At most MAX_BYTES.
    message.put_u32(bytes as u32);
    message.put_bytes(b'x', bytes);
    message.freeze()
}

/// The same message so many times, then `grpc-status: 0`.
struct Messages {
    message: Bytes,
    left: usize,
    ended: bool,
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(self.message.clone()))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
