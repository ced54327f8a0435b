//! TLS that ends at the port of a Service, whatever is spoken within.

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{snapshot::Live, tls::certs};

/// The configuration of a port: its certificate is that of the live snapshot. It agrees on no protocol, as nobody
/// here knows which one the endpoint speaks.
pub(super) fn config(live: &Arc<Live>, address: SocketAddr) -> anyhow::Result<Arc<ServerConfig>> {
    let resolver = Resolver { live: Arc::clone(live), address };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(certs::provider()))
        .with_safe_default_protocol_versions()
        .context("TLS provider without TLS 1.2 and 1.3")?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.ticketer = aws_lc_rs::Ticketer::new().context("no session ticket key")?;
    Ok(Arc::new(config))
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
        let certs = snapshot.l4.get(&self.address)?.certs.as_ref()?;
        certs.0.resolve(hello.server_name()).cloned()
    }
}
