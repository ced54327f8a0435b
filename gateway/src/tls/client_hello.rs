//! The ClientHello of a connection: read before any TLS configuration is chosen, then chosen by.
//!
//! `worker::accept` calls [`read`], then [`choose`], then does what the [`Choice`] says. Where TLS may go on as it is, it calls
//! [`hear`] instead.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use gatehouse_routes::host;
use rustls::{
    ServerConfig,
    server::{Accepted, Acceptor, ClientHello},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::{snapshot::Snapshot, tls::config::TlsPolicies};

mod server_name;

/// A ClientHello that may go on as it is, to whom its server name leads.
pub(crate) struct Heard {
    pub(crate) stream: TcpStream,
    /// All that was read.
    pub(crate) bytes: Vec<u8>,
    /// In canonical form; `None` if the client named none, or an address.
    pub(crate) name: Option<Box<str>>,
    /// How TLS would end here.
    end: Result<Accepted, Refused>,
}

/// Why TLS cannot end here, and what the client is told then.
struct Refused {
    error: io::Error,
    alert: Vec<u8>,
}

/// Reads a ClientHello as [`read`] does, also one that this process could not answer: that is for whoever ends TLS to judge.
///
/// # Errors
/// As those of [`read`], for what is no ClientHello at all.
pub(crate) async fn hear(stream: TcpStream) -> io::Result<Heard> {
    let kept = Kept { stream, bytes: Vec::new(), alert: Vec::new() };
    let mut reading = LazyConfigAcceptor::new(Acceptor::default(), kept);
    let error = match (&mut reading).await {
        Ok(StartHandshake { accepted, io: Kept { stream, bytes, .. }, .. }) => {
            let name = server_name(&accepted.client_hello());
            return Ok(Heard { stream, bytes, name, end: Ok(accepted) });
        }
        Err(error) => error,
    };
    let Some(Kept { stream, bytes, alert }) = reading.take_io() else { return Err(error) };
    let refused = Refused { error, alert };
    match server_name::of(&bytes) {
        Some(name) => Ok(Heard { stream, bytes, name, end: Err(refused) }),
        None => Err(refused.tell(stream).await),
    }
}

impl Heard {
    /// Goes on with the handshake here.
    ///
    /// # Errors
    /// TLS cannot end here. The client has been told.
    pub(crate) async fn start(self) -> io::Result<StartHandshake<TcpStream>> {
        match self.end {
            Ok(accepted) => Ok(StartHandshake::from_parts(accepted, self.stream)),
            Err(refused) => Err(refused.tell(self.stream).await),
        }
    }
}

impl Refused {
    async fn tell(self, mut stream: TcpStream) -> io::Error {
        let _ = stream.write_all(&self.alert).await;
        self.error
    }
}

/// The server name of a ClientHello in canonical form; `None` if the client named none, or an address.
pub(crate) fn server_name(hello: &ClientHello<'_>) -> Option<Box<str>> {
    let name = hello.server_name().and_then(host::canonical)?;
    Some(name.into_owned().into_boxed_str())
}

/// A stream that keeps what is read of it, and what would be written: an alert, which is not to be sent where TLS goes on.
struct Kept {
    stream: TcpStream,
    bytes: Vec<u8>,
    alert: Vec<u8>,
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

impl AsyncWrite for Kept {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alert.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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
