//! A client that speaks HTTP/2 over TLS, for calls whose bodies go both ways and whose answers end with trailers.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::gatehouse::tls::client_config;

const SENT: http::HeaderName = http::HeaderName::from_static("sent");

/// A connection.
pub struct Caller {
    sender: SendRequest<Bytes>,
    host: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Called {
    /// Status of HTTP.
    pub status: u16,
    /// Fields before the body.
    pub fields: HeaderMap,
    /// As much as came.
    pub body: Vec<u8>,
    /// Fields behind it.
    pub trailers: HeaderMap,
    /// It broke off.
    pub broken: Option<h2::Error>,
}

impl Called {
    /// The status of gRPC, wherever it stands.
    pub fn grpc_status(&self) -> Option<&str> {
        let found = self.trailers.get("grpc-status").or_else(|| self.fields.get("grpc-status"));
        found.and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Caller {
    /// Connects to a gateway for a host.
    pub async fn connect(gateway: SocketAddr, host: &str) -> Self {
        let stream = TcpStream::connect(gateway).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream =
            TlsConnector::from(client_config(&["h2"])).connect(name, stream).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { sender, host: host.to_owned() }
    }

    /// Begins a request; `open`: more of it is to follow.
    pub async fn begin(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        open: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.host))
            .header("content-type", kind)
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut sender = self.sender.clone().ready().await.unwrap();
        sender.send_request(request, !open).unwrap()
    }

    /// A GET.
    pub async fn get(&mut self, path: &str) -> Called {
        let (response, _) = self.begin("GET", path, "text/plain", false).await;
        finish(response.await).await
    }

    /// A call of gRPC with one message and, if given, a trailer `sent`.
    pub async fn call(
        &mut self,
        path: &str,
        message: &'static [u8],
        sent: Option<&'static str>,
    ) -> Called {
        let sent = sent.map(|sent| HeaderMap::from_iter([(SENT, HeaderValue::from_static(sent))]));
        self.call_with(path, message, sent).await
    }

    /// One with these trailers.
    pub async fn call_with(
        &mut self,
        path: &str,
        message: &'static [u8],
        trailers: Option<HeaderMap>,
    ) -> Called {
        let (response, mut send) = self.begin("POST", path, "application/grpc", true).await;
        // The answer may come first.
        drop(send.send_data(Bytes::from_static(message), trailers.is_none()));
        if let Some(trailers) = trailers {
            drop(send.send_trailers(trailers));
        }
        finish(response.await).await
    }
}

/// Reads an answer to its end.
pub async fn finish(response: Result<Response<RecvStream>, h2::Error>) -> Called {
    let mut called = Called {
        status: 0,
        fields: HeaderMap::new(),
        body: Vec::new(),
        trailers: HeaderMap::new(),
        broken: None,
    };
    let (parts, mut body) = match response {
        Ok(response) => response.into_parts(),
        Err(error) => return Called { broken: Some(error), ..called },
    };
    (called.status, called.fields) = (parts.status.as_u16(), parts.headers);
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                called.body.extend_from_slice(&data);
            }
            Err(error) => return Called { broken: Some(error), ..called },
        }
    }
    match body.trailers().await {
        Ok(trailers) => called.trailers = trailers.unwrap_or_default(),
        Err(error) => called.broken = Some(error),
    }
    called
}
