//! Certificates by server name: parsed pairs, and the table that a TLS handshake looks them up in.
//!
//! The compile step builds a [`CertTable`] per scope from the bindings that routes ask for; `tls` only
//! calls [`CertTable::resolve`]. A pair is parsed once: while its Secret stays the same object, every
//! later table shares the same `Arc<CertifiedKey>`. Keys are never printed nor logged.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock},
};

use foldhash::fast::RandomState;
pub(crate) use gatehouse_routes::objects::secret_field as field;
use gatehouse_routes::{
    model::{CertBinding, CertSource, HostPattern, Scope},
    objects::{ObjectKey, ObjectRef, Store},
    problem::Problem,
};
use k8s_openapi::api::core::v1::Secret;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

pub(crate) mod der;
mod judge;
mod names;

/// What an authority says of a certificate (OCSP, DER), in the Secret of the pair; stapled to handshakes (RFC 6066 §8).
const STAPLE: &str = "tls.ocsp-staple";

type Names = HashMap<Box<str>, Arc<CertifiedKey>, RandomState>;

/// Which certificate answers for which server name.
#[derive(Default)]
pub struct CertTable {
    /// By full name, lower case.
    pub exact: Names,
    /// By the name without its first label (`example.com` for `*.example.com`).
    pub wildcard: Names,
    /// For names that are in neither map, and for clients that send none.
    pub any: Option<Arc<CertifiedKey>>,
}

impl CertTable {
    /// The certificate for a server name, or for none; `None` means the default certificate. Exact name
    /// first, then the wildcard one label up. Ignores case; allocates nothing.
    pub fn resolve(&self, sni: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let Some(name) = sni else { return self.any.as_ref() };
        let name = name.strip_suffix('.').unwrap_or(name);
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.lookup(name);
        }
        // A DNS name has at most 253 characters; what is longer has no certificate of its own.
        let mut buffer = [0; 253];
        let Some(lower) = buffer.get_mut(..name.len()) else { return self.any.as_ref() };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        match std::str::from_utf8(lower) {
            Ok(lower) => self.lookup(lower),
            Err(_) => self.any.as_ref(),
        }
    }

    /// The certificate of exactly this pattern.
    fn get(&self, host: &HostPattern) -> Option<&Arc<CertifiedKey>> {
        match host {
            HostPattern::Exact(name) => self.exact.get(&**name),
            HostPattern::OneLabel(rest) => self.wildcard.get(&**rest),
            HostPattern::Any => self.any.as_ref(),
        }
    }

    /// Whether the certificate that a client is shown which asks for `name` is good for `host` as well.
    pub fn covers(&self, name: &str, host: &str) -> bool {
        let shown = self.resolve(Some(name)).and_then(|pair| pair.end_entity_cert().ok());
        let Some(certificate) = shown.and_then(|der| ParsedCertificate::try_from(der).ok()) else {
            return false;
        };
        ServerName::try_from(host)
            .is_ok_and(|host| rustls::client::verify_server_name(&certificate, &host).is_ok())
    }

    /// Number of names that have a certificate, [`CertTable::any`] counted as one.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len() + usize::from(self.any.is_some())
    }

    /// True if every handshake gets the default certificate.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lookup(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let one_label_up = || name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest));
        self.exact.get(name).or_else(one_label_up).or(self.any.as_ref())
    }

    fn insert(&mut self, host: &HostPattern, pair: Arc<CertifiedKey>) {
        match host {
            HostPattern::Exact(name) => {
                self.exact.insert(name.as_ref().into(), pair);
            }
            HostPattern::OneLabel(rest) => {
                self.wildcard.insert(rest.as_ref().into(), pair);
            }
            HostPattern::Any => self.any = Some(pair),
        }
    }

    fn same(&self, other: &Self) -> bool {
        let same = |a: &Names, b: &Names| {
            a.len() == b.len()
                && a.iter().all(|(name, pair)| b.get(name).is_some_and(|b| Arc::ptr_eq(pair, b)))
        };
        let any = match (&self.any, &other.any) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        any && same(&self.exact, &other.exact) && same(&self.wildcard, &other.wildcard)
    }
}

impl fmt::Debug for CertTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<String> = self.exact.keys().map(ToString::to_string).collect();
        names.extend(self.wildcard.keys().map(|rest| format!("*.{rest}")));
        names.extend(self.any.as_ref().map(|_| "*".to_owned()));
        names.sort_unstable();
        f.debug_struct("CertTable").field("names", &names).finish_non_exhaustive()
    }
}

/// Pairs that are parsed already, by where they came from. Carried from one compile to the next.
#[derive(Default)]
pub struct CertCache {
    secrets: HashMap<ObjectKey, CachedSecret>,
    inline: HashMap<InlineKey, Result<Arc<CertifiedKey>, PairError>>,
    /// What was found of the certificates of Routes.
    judged: judge::Judgements,
    /// The last good pair of each binding, so that a broken renewal does not take a host down.
    good: HashMap<BindingKey, Arc<CertifiedKey>>,
}

/// Certificate and key text, compared as text; shared with the object, so it costs no copy.
type InlineKey = (Arc<str>, Arc<str>);
/// What a binding is for and who asks for it.
type BindingKey = (Scope, HostPattern, ObjectRef);

struct CachedSecret {
    secret: Arc<Secret>,
    pair: Result<Arc<CertifiedKey>, PairError>,
}

impl fmt::Debug for CertCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertCache")
            .field("secrets", &self.secrets.len())
            .field("inline", &self.inline.len())
            .finish_non_exhaustive()
    }
}

/// What is wrong with a certificate and its key. Never holds any of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The Secret lacks one of its two fields.
    #[error("the secret has no {0}")]
    Missing(&'static str),
    /// No certificate in the PEM text.
    #[error("{0} holds no PEM certificate")]
    NoCertificate(&'static str),
    /// No private key in the PEM text.
    #[error("{0} holds no PEM private key (PKCS #8, PKCS #1 or SEC 1)")]
    NoKey(&'static str),
    /// The PEM text is damaged.
    #[error("{0} is not valid PEM")]
    Pem(&'static str),
    /// The certificate or the key is of a kind that TLS here cannot use.
    #[error("the certificate or its key is unusable: {0}")]
    Unusable(String),
    /// They are not a pair.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

/// Parses a PEM certificate chain (leaf first) and its key, and makes sure that they are a pair. The
/// two names are for messages: where the texts come from.
pub fn parse_pair(
    (chain_name, chain): (&'static str, &[u8]),
    (key_name, key): (&'static str, &[u8]),
) -> Result<CertifiedKey, PairError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| PairError::Pem(chain_name))?;
    if chain.is_empty() {
        return Err(PairError::NoCertificate(chain_name));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => PairError::NoKey(key_name),
        _ => PairError::Pem(key_name),
    })?;
    CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PairError::Mismatch,
        other => PairError::Unusable(other.to_string()),
    })
}

/// The cryptography of every handshake.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// The methods of a verifier, of servers or of clients, that make sure that a peer has the key of its certificate.
macro_rules! checks_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &crate::tls::certs::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &crate::tls::certs::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            crate::tls::certs::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(in crate::tls) use checks_signatures;

/// Builds the tables of one compile, sharing parsed pairs with the previous one.
pub(crate) struct Builder<'a> {
    secrets: &'a Store<Secret>,
    previous: Option<&'a CertCache>,
    cache: CertCache,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    /// Starts with what the previous compile has parsed.
    pub(crate) fn new(secrets: &'a Store<Secret>, previous: Option<&'a CertCache>) -> Self {
        Self { secrets, previous, cache: CertCache::default(), problems: Vec::new() }
    }

    /// The table of a scope; `previous` is returned if nothing changed.
    pub(crate) fn table(
        &mut self,
        scope: &Scope,
        bindings: &[CertBinding],
        previous: Option<&Arc<CertTable>>,
    ) -> Arc<CertTable> {
        let mut table = CertTable::default();
        let mut decided = HashSet::new();
        let mut unnamed = Vec::new();
        // A host that is spelled out before those that only a wildcard or a rule without host stands for.
        let derived =
            |one: &&CertBinding| one.if_named && !matches!(one.host, HostPattern::Exact(_));
        let given = bindings.iter().filter(|one| !derived(one));
        for binding in given.chain(bindings.iter().filter(derived)) {
            let pair = self.usable(scope, binding);
            let hosts = match (&pair, binding.if_named) {
                (_, false) => vec![binding.host.clone()],
                (Some(pair), true) => names::common(&binding.host, pair),
                (None, true) => Vec::new(),
            };
            for host in &hosts {
                if decided.insert(host.clone())
                    && let Some(pair) = &pair
                {
                    table.insert(host, Arc::clone(pair));
                }
            }
            if let Some(pair) = pair.filter(|_| binding.if_named) {
                unnamed.push((binding, pair));
            }
        }
        self.problems.extend(names::problems(&table, &unnamed));
        match previous {
            Some(previous) if previous.same(&table) => Arc::clone(previous),
            _ => Arc::new(table),
        }
    }

    /// The pair of a binding; the last good one if it cannot be read, which is told.
    fn usable(&mut self, scope: &Scope, binding: &CertBinding) -> Option<Arc<CertifiedKey>> {
        let key = (scope.clone(), binding.host.clone(), binding.object.clone());
        let pair = match self.pair(&binding.source) {
            Ok(pair) => Some(pair),
            Err(error) => {
                let last_good = self.previous.and_then(|cache| cache.good.get(&key)).cloned();
                self.report(binding, &error, last_good.is_some());
                last_good
            }
        };
        if let Some(pair) = &pair {
            self.cache.good.insert(key, Arc::clone(pair));
        }
        pair
    }

    /// What is to be kept for the next compile, and what is wrong.
    pub(crate) fn finish(mut self) -> (CertCache, Vec<Problem>) {
        // The plain scope repeats the bindings of every other one.
        self.problems.sort_by(|a, b| {
            (&a.object, &a.field, &a.message).cmp(&(&b.object, &b.field, &b.message))
        });
        self.problems.dedup();
        (self.cache, self.problems)
    }

    fn pair(&mut self, source: &CertSource) -> Result<Arc<CertifiedKey>, PairError> {
        match source {
            CertSource::Secret(key) => self.secret_pair(key),
            CertSource::Inline { certificate, key } => {
                let name = (Arc::clone(certificate), Arc::clone(key));
                if let Some(known) = self.cache.inline.get(&name) {
                    return known.clone();
                }
                let known = self.previous.and_then(|cache| cache.inline.get(&name)).cloned();
                let pair = known.unwrap_or_else(|| {
                    let chain = ("spec.tls.certificate", certificate.as_bytes());
                    parse_pair(chain, ("spec.tls.key", key.as_bytes())).map(Arc::new)
                });
                self.cache.inline.insert(name, pair.clone());
                pair
            }
        }
    }

    fn secret_pair(&mut self, key: &ObjectKey) -> Result<Arc<CertifiedKey>, PairError> {
        if let Some(known) = self.cache.secrets.get(key) {
            return known.pair.clone();
        }
        let Some(stored) = self.secrets.get(key) else { return Err(PairError::Missing("object")) };
        let known = self
            .previous
            .and_then(|cache| cache.secrets.get(key))
            .filter(|known| Arc::ptr_eq(&known.secret, &stored.object));
        let pair = known.map_or_else(|| parse_secret(&stored.object), |known| known.pair.clone());
        let cached = CachedSecret { secret: Arc::clone(&stored.object), pair: pair.clone() };
        self.cache.secrets.insert(key.clone(), cached);
        pair
    }

    fn report(&mut self, binding: &CertBinding, error: &PairError, kept: bool) {
        if binding.object.kind == "Route" {
            // It is refused, and told so.
            return;
        }
        let source = match &binding.source {
            CertSource::Secret(key) => format!("certificate of secret {key}"),
            CertSource::Inline { .. } => "certificate".to_owned(),
        };
        let instead = match (kept, binding.object.kind) {
            (true, _) => "the previous certificate is used".to_owned(),
            (false, "Service") => "connections are refused".to_owned(),
            (false, _) => format!("{} is used", binding.instead()),
        };
        self.problems.push(Problem::error(
            &binding.object,
            "CertificateInvalid",
            binding.field.clone(),
            format!("{source} for {}: {error}; {instead}", binding.host),
            "renew the pair: tls.crt is the chain in PEM, leaf first, tls.key its private key",
        ));
    }
}

fn parse_secret(secret: &Secret) -> Result<Arc<CertifiedKey>, PairError> {
    let field = |name: &'static str| field(secret, name).ok_or(PairError::Missing(name));
    let mut pair = parse_pair(("tls.crt", field("tls.crt")?), ("tls.key", field("tls.key")?))?;
    // What is no DER is not shown to clients, which would refuse the handshake.
    let staple = field(STAPLE).ok().filter(|staple| staple.first() == Some(&0x30));
    pair.ocsp = staple.map(<[u8]>::to_vec);
    Ok(Arc::new(pair))
}

#[cfg(test)]
mod tests;
