//! TLS that ends at the port of a Service, whatever is spoken within.

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    compile::L4Address,
    snapshot::Live,
    tls::{
        lifetime::Lifetime,
        profile::Profile,
        tickets::{TicketSecret, Tickets},
    },
};

/// The configuration of a port: its certificate is that of the live snapshot. It agrees on no protocol: which one the
/// endpoint speaks only its Service can say ([`agreeing_on`]).
pub(super) fn config(
    live: &Arc<Live>,
    profile: &Profile,
    group: &Arc<TicketSecret>,
    address: SocketAddr,
) -> anyhow::Result<Arc<ServerConfig>> {
    let resolver = Resolver { live: Arc::clone(live), address };
    let mut config = profile
        .builder()
        .context("no cipher for a version of TLS")?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.ignore_client_order = profile.own_order;
    let audience = format!("port {address}");
    let tickets = Tickets::new(Arc::clone(group), &[audience.as_bytes()], Lifetime::default())?;
    config.ticketer = Arc::new(tickets);
    Ok(Arc::new(config))
}

/// The same for a connection that agrees on one of these protocols. A client that offers others alone is refused
/// (RFC 7301 §3.2), one that offers none is not.
pub(crate) fn agreeing_on(config: &Arc<ServerConfig>, protocols: &[Vec<u8>]) -> Arc<ServerConfig> {
    if protocols.is_empty() {
        return Arc::clone(config);
    }
    let mut config = ServerConfig::clone(config);
    config.alpn_protocols = protocols.to_vec();
    Arc::new(config)
}

struct Resolver {
    live: Arc<Live>,
    address: SocketAddr,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    /// `None`, which ends the handshake, where the Service has no usable certificate.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.live.current();
        let certs = snapshot.l4.get(&L4Address::tcp(self.address))?.certs.as_ref()?;
        certs.0.resolve(hello.server_name()).cloned()
    }
}
