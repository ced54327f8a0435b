//! How endpoints are spoken to: in which protocol, and whom TLS trusts.
//!
//! The translations and `appProtocol` say it, [`crate::endpoints`] notes it on every endpoint, the gateway makes
//! connections by it. Secrets are named here; the gateway reads them.

use std::sync::Arc;

use crate::objects::{ObjectKey, ObjectRef};

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Speaks {
    /// HTTP/1.1 in clear text.
    #[default]
    Http1,
    /// HTTP/2 in clear text, without asking first (RFC 9113 §3.3).
    Http2,
    /// TLS, and what is agreed on within.
    Tls(Alpn),
}

/// What is spoken within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2 for clients that speak it themselves, if the endpoint agrees (RFC 7301); HTTP/1.1 for all others.
    Either,
}

/// How TLS to the endpoints of a backend is done. The default takes any certificate and names no server.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendTls {
    /// Whose certificates are believed; `None`: all of them.
    pub trust: Option<Trust>,
    /// Certificates between the endpoint's own and that of the authority at most; `None`: any number.
    pub depth: Option<u8>,
    /// Name that the endpoint's certificate must have, where certificates are not all believed; `None`: any.
    pub name: Option<Arc<str>>,
    /// Server name that the endpoint is told (RFC 6066 §3); `None`: none.
    pub server_name: Option<Arc<str>>,
    /// Secret with the certificate to show to the endpoint, if it has one.
    pub identity: Option<ObjectKey>,
    /// Versions that may be spoken.
    pub versions: TlsVersions,
    /// Ciphers of TLS 1.2 that may be used, as OpenSSL lists them; `None`: the built-in ones.
    pub ciphers: Option<Arc<str>>,
    /// The object that asks for it and its field, where something of it may turn out to be broken.
    pub asked_by: Option<(ObjectRef, Arc<str>)>,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// What the authorities in `ca.crt` of a Secret have signed.
    Secret(ObjectKey),
    /// What the authorities in this PEM text have signed.
    Pem(Arc<str>),
}

/// Versions of TLS that may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

impl BackendTls {
    /// The Secrets that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &ObjectKey> {
        let trust = match &self.trust {
            Some(Trust::Secret(key)) => Some(key),
            Some(Trust::Pem(_)) | None => None,
        };
        trust.into_iter().chain(&self.identity)
    }
}

/// The DNS name of a Service, for which a cluster's authority signs the certificates of its pods.
pub(crate) fn service_name(service: &ObjectKey) -> Arc<str> {
    format!("{}.{}.svc", service.name, service.namespace).into()
}
