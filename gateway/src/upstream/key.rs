//! What two requests must have in common to go over the same connection.

use std::net::SocketAddr;

use gatehouse_routes::{
    model::{BackendSlot, Endpoint},
    transport::Speaks,
};

use crate::tls::backends::{BackendTlsTable, Way, WayId};

/// Where a connection leads and how it is secured. A connection serves only requests whose keys are equal in
/// every part, so that what one tenant's backend was trusted with never carries another tenant's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamKey {
    /// The endpoint.
    pub(crate) address: SocketAddr,
    /// What protects the connection and what is spoken on it.
    pub(crate) transport: Transport,
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// HTTP/1.1 over TCP.
    Clear,
    /// HTTP/2 over TCP.
    Http2,
    /// TLS. Server name, authorities that are trusted, client certificate and protocols are those of the way.
    Tls(WayId),
}

/// What a request asks of the connection that it goes over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks {
    /// Its client speaks HTTP/2.
    pub(crate) http2: bool,
    /// HTTP/2 cannot carry it: it becomes a tunnel, it tells its connection whose it is, or the endpoint says so.
    pub(crate) http1: bool,
}

/// An endpoint, and how a request gets there.
#[derive(Clone, Copy)]
pub(crate) struct Target<'s> {
    pub(crate) key: UpstreamKey,
    /// How TLS is done, if it is.
    pub(crate) way: Option<&'s Way>,
}

impl<'s> Target<'s> {
    /// The way of a request to an endpoint of the backend in a slot.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn of(
        endpoint: &Endpoint,
        slot: BackendSlot,
        table: &'s BackendTlsTable,
        asks: impl Fn() -> Asks,
    ) -> Result<Self, &'s str> {
        let (transport, way) = match endpoint.speaks {
            Speaks::Http1 => (Transport::Clear, None),
            Speaks::Http2 if asks().http1 => (Transport::Clear, None),
            Speaks::Http2 => (Transport::Http2, None),
            Speaks::Tls(alpn) => {
                let Asks { http2, http1 } = asks();
                let way = table.get(slot)?.of(alpn, http2, http1);
                (Transport::Tls(way.id), Some(way))
            }
        };
        Ok(Self { key: UpstreamKey { address: endpoint.address, transport }, way })
    }
}
