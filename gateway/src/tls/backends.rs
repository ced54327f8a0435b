//! TLS to backends: what a compile makes of the way in which backends are spoken to.
//!
//! The compile step builds a [`BackendTlsTable`]; the upstream room finds the [`Way`] to an endpoint there. A way is
//! made once: while what is asked for and the Secrets stay the same, every later table shares it, so that
//! sessions are resumed. A Secret that changes makes a new way, and connections of the old one serve no more requests.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gatehouse_routes::{
    model::{BackendSlot, BackendTable},
    objects::{ObjectKey, Store},
    problem::Problem,
    transport::{Alpn, BackendTls, Trust},
};
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{
    certs::{self, parse_pair},
    chain::Authorities,
};

pub mod outside;
mod verifier;

use verifier::EndpointVerifier;

/// The number of the next way.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Tells ways apart for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WayId(u64);

impl WayId {
    /// One that no other way has.
    pub(crate) fn new() -> Self {
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// How TLS connections to endpoints are made: all that go one way may serve the same requests.
pub struct Way {
    /// Which one.
    pub id: WayId,
    /// Makes them.
    pub connector: TlsConnector,
    /// The name of the server.
    pub name: ServerName<'static>,
    /// HTTP/2 is spoken even where the endpoint agrees on nothing.
    pub prior_knowledge: bool,
}

/// The ways to the endpoints of a backend, by what is spoken there.
pub struct Ways {
    http1: Way,
    http2: Way,
    either: Way,
}

impl Ways {
    /// The way for a request. `http2`: its client speaks HTTP/2; `http1`: HTTP/2 cannot carry it.
    pub fn of(&self, alpn: Alpn, http2: bool, http1: bool) -> &Way {
        match alpn {
            _ if http1 => &self.http1,
            Alpn::Http1 => &self.http1,
            Alpn::Http2 => &self.http2,
            Alpn::Either if http2 => &self.either,
            Alpn::Either => &self.http1,
        }
    }

    /// Whether this is one of them.
    pub fn has(&self, way: WayId) -> bool {
        [&self.http1, &self.http2, &self.either].iter().any(|own| own.id == way)
    }
}

/// The ways, or why there are none.
type Made = Result<Arc<Ways>, Arc<str>>;

/// Ways by backend.
#[derive(Clone, Default)]
pub struct BackendTlsTable(Arc<Table>);

#[derive(Default)]
struct Table {
    /// Of backends that say how TLS is done.
    by_slot: Box<[Option<Made>]>,
    /// Of all others.
    plain: Option<Made>,
    /// What it was made from.
    backends: Option<Arc<BackendTable>>,
    known: HashMap<Arc<BackendTls>, Known>,
}

struct Known {
    secrets: Vec<Option<Arc<Secret>>>,
    made: Made,
}

impl fmt::Debug for BackendTlsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTlsTable").field("ways", &self.0.known.len()).finish_non_exhaustive()
    }
}

impl BackendTlsTable {
    /// The ways to a backend.
    ///
    /// # Errors
    /// Why there are none.
    pub fn get(&self, slot: BackendSlot) -> Result<&Ways, &str> {
        let own = self.0.by_slot.get(slot.0 as usize).and_then(Option::as_ref);
        match own.or(self.0.plain.as_ref()) {
            Some(Ok(ways)) => Ok(ways),
            Some(Err(why)) => Err(why),
            None => Err("nothing is known of the backend"),
        }
    }

    /// The table of these backends; the previous one if nothing has changed.
    pub(crate) fn of(
        backends: &Arc<BackendTable>,
        secrets: &Store<Secret>,
        previous: Option<&Self>,
    ) -> Self {
        if let Some(previous) = previous
            && previous.0.backends.as_ref().is_some_and(|before| Arc::ptr_eq(before, backends))
            && previous.0.known.iter().all(|(tls, known)| known.is_current(tls, secrets))
        {
            return previous.clone();
        }
        let mut table = Table { backends: Some(Arc::clone(backends)), ..Table::default() };
        let default = Arc::new(BackendTls::default());
        table.plain = Some(table.made(&default, secrets, previous));
        let mut by_slot = Vec::new();
        for (at, backend) in backends.slots.iter().enumerate() {
            if let Some(tls) = backend.as_ref().and_then(|backend| backend.key.protocol.tls()) {
                by_slot.resize(at, None);
                by_slot.push(Some(table.made(tls, secrets, previous)));
            }
        }
        table.by_slot = by_slot.into();
        Self(Arc::new(table))
    }

    /// The Secrets that it needs, whether or not they exist.
    pub(crate) fn secrets(&self) -> BTreeSet<ObjectKey> {
        self.0.known.keys().flat_map(|tls| tls.secrets()).cloned().collect()
    }

    /// What is broken, to the objects that ask for it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let broken = self.0.known.iter().filter_map(|(tls, known)| {
            let (why, (object, field)) = (known.made.as_ref().err()?, tls.asked_by.as_ref()?);
            Some(Problem::error(
                object,
                "BackendTlsBroken",
                field.to_string(),
                format!("the pods cannot be spoken to as asked: {why}; requests get 503"),
                "ca.crt holds authorities in PEM; tls.crt is a chain, leaf first, and tls.key its private key",
            ))
        });
        let mut problems: Vec<Problem> = broken.collect();
        problems.sort_by(|a, b| (&a.object, &a.message).cmp(&(&b.object, &b.message)));
        problems
    }
}

impl Known {
    fn is_current(&self, tls: &BackendTls, secrets: &Store<Secret>) -> bool {
        let now = found(tls, secrets);
        now.len() == self.secrets.len()
            && now.iter().zip(&self.secrets).all(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            })
    }
}

impl Table {
    fn made(
        &mut self,
        tls: &Arc<BackendTls>,
        secrets: &Store<Secret>,
        previous: Option<&BackendTlsTable>,
    ) -> Made {
        if let Some(known) = self.known.get(tls) {
            return known.made.clone();
        }
        let known = previous.and_then(|table| table.0.known.get(tls));
        let made = match known.filter(|known| known.is_current(tls, secrets)) {
            Some(known) => known.made.clone(),
            None => ways(tls, secrets).map(Arc::new).map_err(Arc::from),
        };
        let known = Known { secrets: found(tls, secrets), made: made.clone() };
        self.known.insert(Arc::clone(tls), known);
        made
    }
}

fn found(tls: &BackendTls, secrets: &Store<Secret>) -> Vec<Option<Arc<Secret>>> {
    tls.secrets().map(|key| secrets.get(key).map(|stored| Arc::clone(&stored.object))).collect()
}

/// Makes the ways.
fn ways(tls: &BackendTls, secrets: &Store<Secret>) -> Result<Ways, String> {
    let secret = |key: &ObjectKey| {
        let stored = secrets.get(key).ok_or_else(|| format!("Secret {key} does not exist"));
        stored.map(|stored| &*stored.object)
    };
    let authorities = match &tls.trust {
        None => None,
        Some(Trust::Pem(text)) => {
            Some(Authorities::parse(("the authority", text.as_bytes()), None)?)
        }
        Some(Trust::Secret(key)) => {
            let text = certs::field(secret(key)?, "ca.crt");
            let text = text.ok_or_else(|| format!("Secret {key} has no ca.crt"))?;
            Some(Authorities::parse(("ca.crt", text), None)?)
        }
    };
    let identity = match &tls.identity {
        None => None,
        Some(key) => {
            let secret = secret(key)?;
            match (certs::field(secret, "tls.crt"), certs::field(secret, "tls.key")) {
                (Some(chain), Some(own)) => {
                    let pair = parse_pair(("tls.crt", chain), ("tls.key", own));
                    Some(pair.map_err(|error| format!("Secret {key}: {error}"))?)
                }
                _ => None,
            }
        }
    };
    let given = tls.server_name.as_ref().or(tls.name.as_ref());
    let name = given.map_or("backend.invalid", |name| &**name);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name:?} is no name that a server can have"))?;
    let verified = match &tls.name {
        Some(wanted) => Some(
            ServerName::try_from(wanted.to_string())
                .map_err(|_| format!("{wanted:?} is no name that a certificate can have"))?,
        ),
        None => None,
    };
    let verifier = EndpointVerifier { authorities, depth: tls.depth, name: verified };
    let config = verifier::config(tls, verifier, identity)?;
    let way = |alpn: &[&[u8]], prior_knowledge| {
        let mut config = config.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Way {
            id: WayId::new(),
            connector: TlsConnector::from(Arc::new(config)),
            name: name.clone(),
            prior_knowledge,
        }
    };
    Ok(Ways {
        http1: way(&[], false),
        http2: way(&[b"h2"], true),
        either: way(&[b"h2", b"http/1.1"], false),
    })
}

#[cfg(test)]
mod tests;
