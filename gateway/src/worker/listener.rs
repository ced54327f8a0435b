//! What a worker gets of a listener: its socket and what its connections have to know of it.

use std::{net::SocketAddr, sync::Arc};

use gatehouse_routes::model::ScopeSlot;
use rustls::ServerConfig;

use crate::tls::config::TlsPolicies;

/// Names one listener for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListenerId(pub(crate) u64);

/// What a connection has to know about the listener it came through.
pub(crate) struct ListenerFacts {
    pub(crate) address: SocketAddr,
    /// Whose rules it serves.
    pub(crate) slot: ScopeSlot,
    /// `None`: plain TCP.
    pub(crate) tls: Option<TlsPolicies>,
    /// Connections are passed on, as they are or without their TLS.
    pub(crate) passes_on: bool,
    /// How their TLS ends here.
    pub(crate) port_tls: Option<Arc<ServerConfig>>,
}

/// One worker's socket of a listener for datagrams.
pub(crate) struct OpenedUdp {
    pub(crate) id: ListenerId,
    pub(crate) address: SocketAddr,
    pub(crate) socket: std::net::UdpSocket,
    /// Goes when the socket is closed.
    pub(crate) in_use: Arc<()>,
}

/// One worker's socket of a listener.
pub(crate) struct Opened {
    pub(crate) id: ListenerId,
    pub(crate) facts: Arc<ListenerFacts>,
    pub(crate) socket: std::net::TcpListener,
    /// Goes when the socket is closed.
    pub(crate) in_use: Arc<()>,
}
