//! Termination `reencrypt`: how TLS to the pods of a Route is done.
//!
//! As OpenShift's router does it: the Route's own authorities without a look at names, else the authority of the
//! cluster with the name of the Service, else any certificate.

use std::sync::Arc;

use super::given;
use crate::{
    model::BackendProtocol,
    objects::{ObjectKey, ObjectRef},
    openshift::TlsConfig,
    options::Options,
    problem::Problem,
    transport::{self, Alpn, BackendTls, Trust},
};

const FIELD: &str = "spec.tls.destinationCACertificate";

/// Whether a Route asks for TLS to its pods.
pub(super) fn is_asked(tls: &TlsConfig) -> bool {
    tls.termination.as_deref().is_some_and(|it| it.eq_ignore_ascii_case("reencrypt"))
}

/// How a Service of a Route is spoken to.
pub(super) fn protocol(
    tls: Option<&TlsConfig>,
    object: &ObjectRef,
    service: &ObjectKey,
    options: &Options,
) -> BackendProtocol {
    let Some(tls) = tls.filter(|tls| is_asked(tls)) else { return BackendProtocol::Declared };
    let own = given(&tls.destination_ca_certificate).map(Arc::from);
    way(own.as_ref().map(|text| (text, FIELD)), object, service, options)
}

/// The same with these authorities of its own, which the field names, if it has any.
pub(in crate::translate) fn way(
    authorities: Option<(&Arc<str>, &str)>,
    object: &ObjectRef,
    service: &ObjectKey,
    options: &Options,
) -> BackendProtocol {
    let way = match (authorities, &options.destination_ca) {
        (Some((text, field)), _) => BackendTls {
            trust: Some(Trust::Pem(Arc::clone(text))),
            asked_by: Some((object.clone(), field.into())),
            ..BackendTls::default()
        },
        (None, Some(text)) => {
            let name = transport::service_name(service);
            BackendTls {
                trust: Some(Trust::Pem(Arc::clone(text))),
                name: Some(Arc::clone(&name)),
                server_name: Some(name),
                ..BackendTls::default()
            }
        }
        (None, None) => BackendTls::default(),
    };
    BackendProtocol::Tls(Alpn::Either, Arc::new(way))
}

/// What its author should know of a Route whose pods are not verified.
pub(super) fn unverified(
    tls: Option<&TlsConfig>,
    object: &ObjectRef,
    options: &Options,
) -> Option<Problem> {
    let tls = tls.filter(|tls| is_asked(tls))?;
    if given(&tls.destination_ca_certificate).is_some() || options.destination_ca.is_some() {
        return None;
    }
    Some(not_verified(object, FIELD))
}

/// What is said where nobody verifies the pods.
pub(in crate::translate) fn not_verified(object: &ObjectRef, field: &str) -> Problem {
    let message =
        "nothing says whose certificates to believe, so those of the pods are not verified";
    let hint = "write the authority that signed them, or start with --destination-ca";
    Problem::warning(object, "BackendNotVerified", field, message, hint)
}
