//! The configurations of TLS handshakes: one `ServerConfig` per scope, which outlives snapshots; only its certificate
//! resolver looks at the live one.
//!
//! So a reload loses no session, and a new certificate serves the next handshake.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use gatehouse_routes::model::ScopeSlot;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    snapshot::Live,
    tls::{certs, port},
};

/// Makes the TLS configuration of listeners.
pub(crate) struct TlsConfigs {
    live: Arc<Live>,
    default: Arc<CertifiedKey>,
    scopes: BTreeMap<ScopeSlot, TlsPolicies>,
}

/// The TLS configurations of one scope, by what a ClientHello asks for.
#[derive(Clone)]
pub(crate) struct TlsPolicies {
    /// One policy serves every name; its resolver finds the certificate.
    pub(crate) every_name: Arc<ServerConfig>,
}

impl TlsConfigs {
    /// Makes the default certificate: self-signed, so that a handshake without a fitting certificate
    /// fails in the client, with a reason.
    pub(crate) fn new(live: Arc<Live>) -> anyhow::Result<Self> {
        Ok(Self { live, default: self_signed()?, scopes: BTreeMap::new() })
    }

    /// The configurations of a scope; the same ones for as long as the process runs.
    pub(crate) fn policies(&mut self, slot: ScopeSlot) -> anyhow::Result<TlsPolicies> {
        if let Some(policies) = self.scopes.get(&slot) {
            return Ok(policies.clone());
        }
        let (live, default) = (Arc::clone(&self.live), Arc::clone(&self.default));
        let resolver = Resolver { live, slot, default };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(certs::provider()))
            .with_safe_default_protocol_versions()
            .context("TLS provider without TLS 1.2 and 1.3")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Its keys live in memory, are used for six hours and understood for six more (P27).
        config.ticketer = aws_lc_rs::Ticketer::new().context("no session ticket key")?;
        let policies = TlsPolicies { every_name: Arc::new(config) };
        self.scopes.insert(slot, policies.clone());
        Ok(policies)
    }
}

impl TlsConfigs {
    /// The configuration of TLS that ends at the port of a Service.
    pub(crate) fn port(&self, address: SocketAddr) -> anyhow::Result<Arc<ServerConfig>> {
        port::config(&self.live, address)
    }
}

/// Finds the certificate for a server name in the live snapshot.
struct Resolver {
    live: Arc<Live>,
    slot: ScopeSlot,
    default: Arc<CertifiedKey>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.live.current();
        let found = snapshot
            .gateway(self.slot)
            .and_then(|gateway| gateway.certs.resolve(hello.server_name()))
            .unwrap_or(&self.default);
        Some(Arc::clone(found))
    }
}

fn self_signed() -> anyhow::Result<Arc<CertifiedKey>> {
    let key = KeyPair::generate().context("no key for the default certificate")?;
    let mut params = CertificateParams::new(vec!["gatehouse.invalid".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Gatehouse default certificate");
    let certificate = params.self_signed(&key).context("no default certificate")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).context("unusable default key")?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}
