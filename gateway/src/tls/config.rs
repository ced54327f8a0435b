//! The configurations of TLS handshakes: one `ServerConfig` per scope and kind of handshake, which outlives snapshots; only
//! its certificate resolver looks at the live one.
//!
//! So a reload loses no session, and a new certificate serves the next handshake.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use anyhow::Context as _;
use gatehouse_routes::{
    filter::client_certificate::{Demand, Subjects},
    host,
    model::{Scope, ScopeSlot},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};

use crate::{
    snapshot::Live,
    tls::{
        client_certificates::ClientTrust,
        handshakes::Handshake,
        lifetime::{Lifetime, Remembered},
        port,
        profile::{Profile, Sessions},
        tickets::{TicketSecret, Tickets},
    },
};

/// Sessions that a process remembers of each configuration where clients get no tickets.
const REMEMBERED: usize = 4096;

/// Makes the TLS configuration of listeners.
pub(crate) struct TlsConfigs {
    live: Arc<Live>,
    default: Arc<CertifiedKey>,
    /// Of ports of Services.
    profile: Arc<Profile>,
    group: Arc<TicketSecret>,
    scopes: BTreeMap<ScopeSlot, TlsPolicies>,
}

/// The TLS configurations of one scope, by what a ClientHello asks for.
#[derive(Clone)]
pub(crate) struct TlsPolicies {
    resolver: Arc<Resolver>,
}

impl TlsPolicies {
    /// Which scope.
    pub(crate) fn slot(&self) -> ScopeSlot {
        self.resolver.slot
    }

    /// The configuration of a kind of handshake, which finds our certificate itself.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn plain(&self, handshake: &Handshake) -> anyhow::Result<Arc<ServerConfig>> {
        let slot = self.slot();
        let find = |known: &[(ScopeSlot, Arc<ServerConfig>)]| {
            known.iter().find(|(of, _)| *of == slot).map(|(_, config)| Arc::clone(config))
        };
        if let Some(config) = find(&handshake.configs.load()) {
            return Ok(config);
        }
        let nobody = WebPkiClientVerifier::no_client_auth();
        let new = Arc::new(config(&self.resolver, handshake, nobody, &[])?);
        handshake.configs.rcu(|known| match find(known) {
            Some(_) => Arc::clone(known),
            None => Arc::new(known.iter().cloned().chain([(slot, Arc::clone(&new))]).collect()),
        });
        Ok(find(&handshake.configs.load()).unwrap_or(new))
    }

    /// The same that asks for a certificate. It has sessions and ticket keys of its own, so that none is resumed that was
    /// not asked for the same.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn asking(
        &self,
        handshake: &Arc<Handshake>,
        trust: &ClientTrust,
        demand: &Demand,
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let slot = self.slot();
        let find = |known: &[(ScopeSlot, Weak<Handshake>, Arc<ServerConfig>)]| {
            let same = |kind: &Weak<_>| std::ptr::eq(kind.as_ptr(), Arc::as_ptr(handshake));
            let found = known.iter().find(|(of, kind, _)| *of == slot && same(kind));
            found.map(|(_, _, config)| Arc::clone(config))
        };
        if let Some(config) = find(&trust.configs.load()) {
            return Ok(config);
        }
        let Demand { authorities, revoked, verify, depth, subjects } = demand;
        let who = format!("{verify:?} {depth} {:?}", subjects.as_ref().map(Subjects::text));
        let asked = [authorities, revoked.as_deref().unwrap_or_default(), who.as_bytes()];
        let new = config(&self.resolver, handshake, Arc::clone(&trust.asking) as _, &asked)?;
        let new = Arc::new(new);
        trust.configs.rcu(|known| match find(known) {
            Some(_) => Arc::clone(known),
            None => {
                // Those of kinds that are no more are in nobody's way but in memory.
                let live = known.iter().filter(|(_, kind, _)| kind.strong_count() > 0).cloned();
                let new = (slot, Arc::downgrade(handshake), Arc::clone(&new));
                Arc::new(live.chain([new]).collect())
            }
        });
        Ok(find(&trust.configs.load()).unwrap_or(new))
    }
}

/// The configuration of handshakes that ask `clients` for what the texts of `asked` describe.
fn config(
    resolver: &Arc<Resolver>,
    handshake: &Handshake,
    clients: Arc<dyn ClientCertVerifier>,
    asked: &[&[u8]],
) -> anyhow::Result<ServerConfig> {
    let profile = &handshake.profile;
    let mut config = profile
        .builder()
        .context("no cipher for a version of TLS")?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(resolver) as _);
    let protocols: &[&[u8]] = if profile.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.ignore_client_order = profile.own_order;
    let scope = match &resolver.scope {
        Scope::Plain => String::new(),
        Scope::Gateway(service) => service.to_string(),
    };
    let terms = Some(handshake.audience.as_bytes()).filter(|terms| !terms.is_empty());
    let audience: Vec<_> = [scope.as_bytes()].iter().chain(asked).copied().chain(terms).collect();
    let lifetime = Lifetime(profile.lifetime);
    match profile.sessions {
        Sessions::Tickets => {
            let tickets = Tickets::new(Arc::clone(&resolver.group), &audience, lifetime)?;
            config.ticketer = Arc::new(tickets);
        }
        Sessions::Remembered => {
            config.session_storage = Arc::new(Remembered::new(REMEMBERED, lifetime));
        }
        Sessions::Never => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(config)
}

impl TlsConfigs {
    /// Makes the default certificate: self-signed, so that a handshake without a fitting certificate
    /// fails in the client, with a reason.
    pub(crate) fn new(
        live: Arc<Live>,
        profile: Arc<Profile>,
        group: TicketSecret,
    ) -> anyhow::Result<Self> {
        let group = Arc::new(group);
        Ok(Self { live, default: self_signed()?, profile, group, scopes: BTreeMap::new() })
    }

    /// With the default profile and no group.
    #[cfg(test)]
    pub(crate) fn of_tests(live: Arc<Live>) -> Self {
        let group = TicketSecret { live: Arc::clone(&live), given: None };
        Self::new(live, Arc::default(), group).unwrap()
    }

    /// The configurations of a scope; the same ones for as long as the process runs.
    pub(crate) fn policies(&mut self, slot: ScopeSlot, scope: &Scope) -> TlsPolicies {
        if let Some(policies) = self.scopes.get(&slot) {
            return policies.clone();
        }
        let resolver = Arc::new(Resolver {
            live: Arc::clone(&self.live),
            slot,
            scope: scope.clone(),
            default: Arc::clone(&self.default),
            group: Arc::clone(&self.group),
        });
        let policies = TlsPolicies { resolver };
        self.scopes.insert(slot, policies.clone());
        policies
    }

    /// The configuration of TLS that ends at the port of a Service.
    pub(crate) fn port(&self, address: SocketAddr) -> anyhow::Result<Arc<ServerConfig>> {
        port::config(&self.live, &self.profile, &self.group, address)
    }
}

/// Finds the certificate for a server name in the live snapshot.
struct Resolver {
    live: Arc<Live>,
    slot: ScopeSlot,
    scope: Scope,
    default: Arc<CertifiedKey>,
    group: Arc<TicketSecret>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.live.current();
        let gateway = snapshot.gateway(self.slot);
        if snapshot.handshakes.base().profile.only_known_names {
            let name = host::canonical(hello.server_name()?)?;
            gateway.filter(|gateway| gateway.routes.has_name(&name))?;
        }
        let found = gateway.and_then(|gateway| gateway.certs.resolve(hello.server_name()));
        Some(Arc::clone(found.unwrap_or(&self.default)))
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
