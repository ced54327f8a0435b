//! What two requests must have in common to go over the same connection.

use std::net::SocketAddr;

/// Where a connection leads and how it is secured. A connection serves only requests whose keys are equal in
/// every part, so that what one tenant's backend was trusted with never carries another tenant's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamKey {
    /// The endpoint.
    pub(crate) address: SocketAddr,
    /// What protects the connection and what is spoken on it.
    pub(crate) transport: Transport,
}

impl UpstreamKey {
    /// HTTP/1.1 in clear text.
    pub(crate) fn clear(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Clear }
    }
}

/// How an endpoint is spoken to. Whatever tells one TLS connection from another (server name, authorities that
/// are trusted, client certificate, protocol) belongs into the variant that brings TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// HTTP/1.1 over TCP.
    Clear,
}
