//! The certificates that an Ingress asks of clients, with the Secret that it names for that.

use std::sync::Arc;

use super::Translator;
use crate::{
    annotations::client_certificates::SECRET,
    filter::{
        Filter,
        client_certificate::{CertificateFields, ClientCertificates, Demand, Subjects},
    },
    objects::{ObjectKey, secret_field},
    problem::Problem,
    references::Reference,
};

/// What comes of a Secret that cannot be used.
const CLOSED: &str = "every path of its hosts is closed (503)";
/// Where a Secret has the authorities, and what they have taken back.
const FIELDS: (&str, &str) = ("ca.crt", "ca.crl");

impl Translator<'_, '_> {
    /// Adds the filter, or closes the hosts.
    pub(super) fn client_certificates(&mut self) {
        if !self.settings.client_certificates.ask() {
            return;
        }
        match self.demand() {
            Ok(asked) => self.filters.push(Filter::ClientCertificate(Arc::new(asked))),
            Err(problem) => {
                self.settings.deny.get_or_insert(problem.reason);
                self.settings.deny_host = true;
                self.out.problems.push(*problem);
            }
        }
    }

    fn demand(&mut self) -> Result<ClientCertificates, Box<Problem>> {
        let settings = self.settings.client_certificates.clone();
        let annotation = SECRET.field();
        let Some(named) = &settings.secret else {
            return Err(Box::new(Problem::error(
                &self.out.object,
                "IncompleteClientCertificates",
                annotation,
                format!("no Secret with authorities is named, so {CLOSED}"),
                "name it by auth-tls-secret, or remove the other auth-tls annotations if the hosts may be open",
            )));
        };
        let namespace = &self.key.namespace;
        let key = match named.split_once('/') {
            Some((other, _)) if *other != **namespace => {
                return Err(Box::new(Problem::error(
                    &self.out.object,
                    "OtherNamespace",
                    annotation,
                    format!("{named} is in another namespace than the Ingress, so {CLOSED}"),
                    "copy the Secret to the namespace of the Ingress",
                )));
            }
            Some((_, name)) => ObjectKey::new(Arc::clone(namespace), name),
            None => ObjectKey::new(Arc::clone(namespace), &**named),
        };
        let reference = Reference::secret(self.reading.objects, key);
        self.out.references.push(reference.clone());
        let secret = reference.as_secret(&self.out.object, &annotation, CLOSED)?;
        let Some(authorities) = secret_field(&secret, FIELDS.0) else {
            return Err(Box::new(Problem::error(
                &self.out.object,
                "AuthoritiesInvalid",
                annotation,
                format!("{} has no {}, so {CLOSED}", reference.object(), FIELDS.0),
                "put the certificates of the authorities there, in PEM",
            )));
        };
        let demand = Demand {
            authorities: authorities.into(),
            revoked: secret_field(&secret, FIELDS.1).map(Into::into),
            verify: settings.verify.flatten().unwrap_or_default(),
            depth: settings.depth.unwrap_or(1),
            subjects: settings.name.map(Subjects::CommonName),
        };
        Ok(ClientCertificates {
            demand: Arc::new(demand),
            error_page: settings.error_page,
            fields: CertificateFields::Nginx { certificate: settings.pass },
        })
    }
}
