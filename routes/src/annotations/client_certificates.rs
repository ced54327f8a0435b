//! Annotations about the certificates of clients, put together: one alone says little.

use std::sync::Arc;

use http::HeaderValue;

use super::{table::Found, value::ClientCertificateSetting};
use crate::filter::client_certificate::{CommonName, Verify};

/// What the annotations of an object ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCertificateSettings {
    pub(crate) secret: Option<Arc<str>>,
    /// What is written: `Some(None)`, nobody is asked.
    pub(crate) verify: Option<Option<Verify>>,
    pub(crate) depth: Option<u8>,
    pub(crate) name: Option<CommonName>,
    pub(crate) error_page: Option<HeaderValue>,
    pub(crate) pass: bool,
}

/// The annotation that names the Secret.
pub(crate) const SECRET: Found<'static> =
    Found { name: "nginx.ingress.kubernetes.io/auth-tls-secret", value: "" };

impl ClientCertificateSettings {
    /// Whether they mean that clients are asked for a certificate.
    pub(crate) fn ask(&self) -> bool {
        self.verify != Some(None) && *self != Self::default()
    }

    pub(super) fn set(&mut self, setting: ClientCertificateSetting) {
        match setting {
            ClientCertificateSetting::Secret(name) => self.secret = Some(name),
            ClientCertificateSetting::Verify(verify) => self.verify = Some(verify),
            ClientCertificateSetting::Depth(depth) => self.depth = Some(depth),
            ClientCertificateSetting::Name(name) => self.name = Some(name),
            ClientCertificateSetting::ErrorPage(url) => self.error_page = Some(url),
            ClientCertificateSetting::Pass(on) => self.pass = on,
        }
    }
}
