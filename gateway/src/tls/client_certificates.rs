//! The certificates of clients: whom hosts believe, and the handshakes that ask for them.
//!
//! The compile step builds a [`ClientTrustTable`]. A handshake only asks for a certificate and makes sure that the
//! client has its key; whether an authority answers for it is found out before the first request
//! ([`ClientTrust::judge`]), so that a refusal is an answer of HTTP and new authorities count on old connections, too.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    sync::Arc,
};

use gatehouse_routes::{
    compile::GatewayTable, filter::client_certificate::Demand, objects::ObjectRef,
    problem::Problem, table::RouteTable,
};
use rustls::{
    CertificateError, DistinguishedName, Error, OtherError,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{
    certs::{checks_signatures, der},
    chain::{Authorities, Purpose},
    handshakes::ConfigsByKind,
};

pub(crate) mod subject;

/// Bytes of names in a handshake; where there are more, clients choose a certificate without them.
const MAX_HINTS: usize = 8 * 1024;

/// Whom a demand believes.
pub struct ClientTrust {
    authorities: Authorities,
    depth: u8,
    /// What handshakes ask with.
    pub(crate) asking: Arc<Asking>,
    pub(crate) configs: ConfigsByKind,
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust")
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

/// What is found of a chain of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An authority answers for it.
    Believed,
    /// No authority does, and nothing else is wrong with it.
    Unknown,
    /// Something is wrong with it.
    Invalid(webpki::Error),
}

impl ClientTrust {
    fn new(demand: &Demand) -> Result<Self, String> {
        let lists = demand.revoked.as_deref().map(|pem| ("ca.crl", pem));
        let authorities = Authorities::parse(("ca.crt", &demand.authorities), lists)?;
        let mut hints: Vec<_> =
            authorities.subjects().map(DistinguishedName::in_sequence).collect();
        if authorities.subjects().map(<[u8]>::len).sum::<usize>() > MAX_HINTS {
            hints.clear();
        }
        Ok(Self {
            authorities,
            depth: demand.depth,
            asking: Arc::new(Asking { hints }),
            configs: Default::default(),
        })
    }

    /// Whether an authority answers for a chain, leaf first.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Standing {
        let [leaf, others @ ..] = chain else { return Standing::Unknown };
        match self.authorities.verify(leaf, others, Purpose::Client, Some(self.depth), now) {
            Ok(()) => Standing::Believed,
            Err(webpki::Error::UnknownIssuer) => Standing::Unknown,
            // What `openssl req -x509` makes. Its dates have been looked at before.
            Err(webpki::Error::CaUsedAsEndEntity) if der::is_self_issued(leaf) => Standing::Unknown,
            Err(error) => Standing::Invalid(error),
        }
    }
}

/// Whom to believe, or why that is not known.
type Made = Result<Arc<ClientTrust>, Arc<str>>;

/// What is known of the demands of all hosts.
#[derive(Clone, Debug, Default)]
pub struct ClientTrustTable(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By the address of the demand, which is held here.
    by_address: HashMap<usize, (Arc<Demand>, Made), foldhash::fast::RandomState>,
    /// The objects that ask for what is broken.
    asked_by: BTreeMap<ObjectRef, Arc<str>>,
    /// What it was made from.
    routes: Vec<Arc<RouteTable>>,
}

impl ClientTrustTable {
    /// Whom a demand of a host of the same snapshot believes.
    ///
    /// # Errors
    /// Why that is not known: the host is closed.
    pub fn get(&self, demand: &Arc<Demand>) -> Result<&Arc<ClientTrust>, &str> {
        match self.0.by_address.get(&Arc::as_ptr(demand).addr()) {
            Some((_, Ok(trust))) => Ok(trust),
            Some((_, Err(why))) => Err(why),
            None => Err("nothing is known of the authorities"),
        }
    }

    /// The table of all hosts; the previous one if no host has changed. Equal demands share what was made of them.
    #[expect(clippy::mutable_key_type, reason = "what a Bytes of a demand says does not change")]
    pub(crate) fn of(tables: &[GatewayTable], previous: Option<&Self>) -> Self {
        let same = |known: &&Self| GatewayTable::are_of(tables, &known.0.routes);
        if let Some(previous) = previous.filter(same) {
            return previous.clone();
        }
        let before = previous.iter().flat_map(|previous| previous.0.by_address.values());
        let mut known: HashMap<_, _> = before.cloned().collect();
        let mut table = Table::default();
        for routes in tables.iter().map(|table| &table.routes) {
            table.routes.push(Arc::clone(routes));
            if !routes.asks_certificates() {
                continue;
            }
            for (_, host) in routes.hosts() {
                let Some(rule) = host.certificates_asked_by() else { continue };
                let Some(asked) = host.client_certificates() else { continue };
                let demand = &asked.demand;
                let made = known
                    .entry(Arc::clone(demand))
                    .or_insert_with(|| ClientTrust::new(demand).map(Arc::new).map_err(Arc::from));
                if let Err(why) = &*made {
                    table.asked_by.insert(rule.object.clone(), Arc::clone(why));
                }
                let entry = (Arc::clone(demand), made.clone());
                table.by_address.insert(Arc::as_ptr(demand).addr(), entry);
            }
        }
        Self(Arc::new(table))
    }

    /// What is broken, to the objects that ask for it.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.0.asked_by.iter().map(|(object, why)| {
            Problem::error(
                object,
                "AuthoritiesInvalid",
                "metadata.annotations",
                format!("certificates of clients cannot be looked at: {why}; requests get 503"),
                "ca.crt holds certificates of authorities in PEM, ca.crl lists of what they have taken back",
            )
        })
    }
}

/// Why the handshake of a client ends that has shown a certificate without extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is of version {version} of X.509, and only version 3 is taken (RFC 5280): have it made anew with an extension, \
     such as extendedKeyUsage = clientAuth"
)]
pub(crate) struct OldCertificate {
    version: u8,
}

impl OldCertificate {
    /// That, if it is why a handshake has failed.
    pub(crate) fn is_why(error: &io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref()? {
            Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
                why.downcast_ref().copied()
            }
            _ => None,
        }
    }
}

/// Asks for a certificate and takes any whose key the client has.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Names of the authorities, for clients that have several certificates.
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    /// Not here: see the head of this file. But whether a client has the key of an old certificate, nobody here can tell.
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match der::fields(end_entity).map(|fields| fields.version) {
            Some(version @ 1..=2) => {
                let why = OtherError(Arc::new(OldCertificate { version }));
                Err(Error::InvalidCertificate(CertificateError::Other(why)))
            }
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    checks_signatures!();
}
