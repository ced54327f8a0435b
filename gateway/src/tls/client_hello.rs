//! The ClientHello of a connection: read before any TLS configuration is chosen, then chosen by.
//!
//! `worker::accept` calls [`read`], then [`choose`], then does what the [`Choice`] says.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use gatehouse_routes::host;
use rustls::{
    ServerConfig,
    server::{Acceptor, ClientHello},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::{snapshot::Snapshot, tls::config::TlsPolicies};

/// A ClientHello that was read, and the bytes that it came in.
pub(crate) struct Replayed {
    pub(crate) start: StartHandshake<TcpStream>,
    pub(crate) bytes: Vec<u8>,
}

/// Reads a ClientHello as [`read`] does and keeps what was read, to be passed on.
pub(crate) async fn read_and_keep(stream: TcpStream) -> io::Result<Replayed> {
    let start = read(Kept { stream, bytes: Vec::new() }).await?;
    let StartHandshake { accepted, io: Kept { stream, bytes }, .. } = start;
    Ok(Replayed { start: StartHandshake::from_parts(accepted, stream), bytes })
}

/// The server name of a ClientHello in canonical form; `None` if the client named none, or an address.
pub(crate) fn server_name(hello: &ClientHello<'_>) -> Option<Box<str>> {
    let name = hello.server_name().and_then(host::canonical)?;
    Some(name.into_owned().into_boxed_str())
}

/// A stream that keeps what is read of it.
struct Kept {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl AsyncRead for Kept {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.bytes.extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

/// Only an alert is ever written.
impl AsyncWrite for Kept {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What becomes of a TLS connection.
pub(crate) enum Choice {
    /// TLS ends here, under this configuration.
    Terminate {
        config: Arc<ServerConfig>,
        /// In canonical form; `None` if the client named none, or an address.
        server_name: Option<Box<str>>,
        /// The client is asked for a certificate.
        asks: bool,
    },
}

/// Reads a ClientHello, in however many pieces it comes. Bounded in size by rustls (64 KiB), in time by
/// the timers of the connection.
///
/// # Errors
/// The connection ended, or what came is no ClientHello; then the client has been sent an alert, unless
/// what came is a record of another kind.
pub(crate) fn read<S>(stream: S) -> impl Future<Output = io::Result<StartHandshake<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    LazyConfigAcceptor::new(Acceptor::default(), stream)
}

/// What `policies` say of this ClientHello: the terms and the demand of the host that it names decide.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn choose(
    policies: &TlsPolicies,
    snapshot: &Snapshot,
    hello: &ClientHello<'_>,
) -> io::Result<Choice> {
    let server_name = server_name(hello);
    let gateway = snapshot.gateway(policies.slot());
    let asked =
        gateway.and_then(|gateway| gateway.routes.client_certificates(server_name.as_deref()));
    // Where authorities are broken, nobody is asked: the host is closed.
    let trust = asked.and_then(|asked| snapshot.client_trust.get(&asked.demand).ok());
    let terms = gateway.and_then(|gateway| gateway.routes.tls_terms(server_name.as_deref()));
    let handshake = snapshot.handshakes.of_host(terms);
    let config = match asked.zip(trust) {
        Some((asked, trust)) => policies.asking(handshake, trust, &asked.demand),
        None => policies.plain(handshake),
    };
    let config = config.map_err(io::Error::other)?;
    Ok(Choice::Terminate { config, server_name, asks: trust.is_some() })
}

#[cfg(test)]
mod tests;
