//! The ClientHello of a connection: read before any TLS configuration is chosen, then chosen by.
//!
//! `worker::accept` calls [`read`], then [`choose`], then does what the [`Choice`] says.

use std::{io, sync::Arc};

use gatehouse_routes::host;
use rustls::{
    ServerConfig,
    server::{Acceptor, ClientHello},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::tls::config::TlsPolicies;

/// What becomes of a TLS connection.
pub(crate) enum Choice<'a> {
    /// TLS ends here, under this configuration.
    Terminate {
        config: &'a Arc<ServerConfig>,
        /// In canonical form; `None` if the client named none, or an address.
        server_name: Option<Box<str>>,
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

/// What `policies` say of this ClientHello.
pub(crate) fn choose<'a>(policies: &'a TlsPolicies, hello: &ClientHello<'_>) -> Choice<'a> {
    let server_name = hello.server_name().and_then(host::canonical);
    Choice::Terminate {
        config: &policies.every_name,
        server_name: server_name.map(|name| name.into_owned().into_boxed_str()),
    }
}

#[cfg(test)]
mod tests;
