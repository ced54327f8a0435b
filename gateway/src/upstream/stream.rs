//! The byte stream to an endpoint, in clear text or in TLS, and how it is opened.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::tls::backends::Way;

/// Bytes to and from an endpoint.
pub(crate) enum UpstreamStream {
    Clear(TcpStream),
    /// Boxed: a TLS session is a kilobyte.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The endpoint does not accept connections.
    #[error("{0}")]
    Connect(io::Error),
    /// It accepts connections, but no TLS, or its certificate is not believed.
    #[error("{0}")]
    Tls(io::Error),
}

/// Connects to an endpoint, and secures the connection where there is a way to do that.
pub(super) async fn open(
    address: SocketAddr,
    way: Option<&Way>,
) -> Result<UpstreamStream, OpenError> {
    let stream = TcpStream::connect(address).await.map_err(OpenError::Connect)?;
    // A head and what there is of its body leave in one write; waiting for more would only add latency.
    let _ = stream.set_nodelay(true);
    let Some(way) = way else { return Ok(UpstreamStream::Clear(stream)) };
    // Boxed: most connections are in clear text.
    let handshake = Box::pin(way.connector.connect(way.name.clone(), stream));
    let stream = handshake.await.map_err(OpenError::Tls)?;
    Ok(UpstreamStream::Tls(Box::new(stream)))
}

impl UpstreamStream {
    /// Whether HTTP/2 has been agreed on (RFC 7301); `None`: nothing has.
    pub(super) fn agreed_on_http2(&self) -> Option<bool> {
        match self {
            Self::Clear(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol().map(|name| name == b"h2"),
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
