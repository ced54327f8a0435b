//! TLS to services that no object of a cluster stands for: an authentication service, an issuer of tokens.
//!
//! They are always verified, by the authorities that this host believes or by those that an object names.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use gatehouse_routes::transport::BackendTls;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use super::{
    NEXT, Way, WayId,
    verifier::{self, EndpointVerifier},
};
use crate::tls::certs::provider;

/// Ways remembered, so that sessions are resumed and connections kept.
const KNOWN: usize = 256;

/// A server, and the only authorities that are believed of it.
type Key = (Arc<str>, Option<Arc<str>>);
/// The way to it, or why there is none.
type Made = Result<Arc<Way>, Arc<str>>;

/// The authorities that this host believes, read once.
static SYSTEM: LazyLock<Result<Arc<RootCertStore>, String>> = LazyLock::new(|| {
    let loaded = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(loaded.certs);
    match (store.is_empty(), loaded.errors.first()) {
        (false, _) => Ok(Arc::new(store)),
        (true, Some(error)) => Err(format!("the authorities of this host cannot be read: {error}")),
        (true, None) => Err("this host believes no authority".to_owned()),
    }
});

/// The ways that one worker has gone.
#[derive(Default)]
pub struct LocalWays(RefCell<HashMap<Key, Made>>);

impl LocalWays {
    /// The way to a server; `trust`: the only authorities that are believed of it, in PEM.
    ///
    /// # Errors
    /// Why there is none.
    pub fn way(&self, host: &Arc<str>, trust: Option<&Arc<str>>) -> Made {
        remembered(&mut self.0.borrow_mut(), host, trust, || way(host, trust))
    }
}

/// The way to a server, the same for all workers.
///
/// # Errors
/// Why there is none.
pub fn way(host: &Arc<str>, trust: Option<&Arc<str>>) -> Made {
    static WAYS: Mutex<Option<HashMap<Key, Made>>> = Mutex::new(None);
    let mut ways = WAYS.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || made(host, trust.map(|text| &**text)).map(Arc::new).map_err(Arc::from);
    remembered(ways.get_or_insert_default(), host, trust, make)
}

/// How a program asks servers of any name, which are verified by the authorities of this host, or, if it is told so, not
/// at all.
///
/// # Errors
/// There are no authorities.
pub(crate) fn client(insecure: bool) -> Result<Arc<ClientConfig>, String> {
    if !insecure {
        return Ok(Arc::new(verifying(Arc::clone(SYSTEM.as_ref()?))?));
    }
    let verifier = EndpointVerifier { authorities: None, depth: None, name: None };
    let mut config = verifier::config(&BackendTls::default(), verifier, None)?;
    config.enable_sni = true;
    Ok(Arc::new(config))
}

fn remembered(
    ways: &mut HashMap<Key, Made>,
    host: &Arc<str>,
    trust: Option<&Arc<str>>,
    make: impl FnOnce() -> Made,
) -> Made {
    let key = (Arc::clone(host), trust.cloned());
    if let Some(made) = ways.get(&key) {
        return made.clone();
    }
    if ways.len() >= KNOWN {
        ways.clear();
    }
    let made = make();
    ways.insert(key, made.clone());
    made
}

fn made(host: &str, trust: Option<&str>) -> Result<Way, String> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is no name that a server can have"))?;
    let roots = match trust {
        Some(text) => Arc::new(named(text)?),
        None => Arc::clone(SYSTEM.as_ref()?),
    };
    let connector = TlsConnector::from(Arc::new(verifying(roots)?));
    Ok(Way { id: WayId(NEXT.fetch_add(1, Relaxed)), connector, name, prior_knowledge: false })
}

fn verifying(roots: Arc<RootCertStore>) -> Result<ClientConfig, String> {
    Ok(ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Authorities that an object names.
fn named(text: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|_| "the authority is not valid PEM")?;
        store.add(certificate).map_err(|error| format!("the authority is unusable: {error}"))?;
    }
    match store.is_empty() {
        true => Err("the authority holds no certificate".to_owned()),
        false => Ok(store),
    }
}
