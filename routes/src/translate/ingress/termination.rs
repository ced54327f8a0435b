//! `route.openshift.io/termination`: what OpenShift's controller makes of an Ingress is a Route, and TLS is done as that
//! one has it; and what an Ingress without it does with clear text.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use super::Translator;
use crate::{
    annotations::{Settings, Termination},
    filter::HttpsRedirect,
    model::BackendProtocol,
    objects::{ObjectKey, Objects, secret_field},
    problem::Problem,
    references::Reference,
    translate::{Translation, openshift::reencrypt},
};

/// Where an Ingress names the Secret with the authorities of its pods.
pub(crate) const AUTHORITIES: &str =
    "metadata.annotations[route.openshift.io/destination-ca-certificate-secret]";
/// Where that Secret has them: as OpenShift's controller reads it, else where authorities stand elsewhere.
const KEYS: [&str; 2] = ["tls.crt", "ca.crt"];
/// What comes of a Secret that cannot be used.
const CLOSED: &str = "every path is closed (503)";
/// Where an Ingress names the termination of a Route.
pub(super) const FIELD: &str = "metadata.annotations[route.openshift.io/termination]";

impl Translator<'_, '_> {
    /// Where clear text is sent, if it is not served. `has_tls`: there is a `tls` entry for the host.
    ///
    /// As a Route: found (302), with the target as it is; else as ingress-nginx does it. Its ConfigMap has the last word
    /// on the status.
    pub(super) fn https_redirect(&self, has_tls: bool) -> Option<HttpsRedirect> {
        let settings = &self.settings;
        let as_route = settings.termination.is_some();
        let (status, trim_slash) =
            if as_route { (302, false) } else { (308, !settings.redirects.keep_slash) };
        let status = settings.global.https_status.unwrap_or(status);
        // Its pods expect TLS: what a client says in clear text is not for them, unless it is said how they get it.
        let passed = settings.passthrough && settings.transport.speaks().is_none();
        let redirects = as_route || settings.force_ssl_redirect || has_tls || passed;
        redirects.then_some(HttpsRedirect { status, trim_slash })
    }

    /// How a Service is spoken to.
    pub(super) fn protocol(&self, service: &ObjectKey) -> BackendProtocol {
        let (transport, object) = (&self.settings.transport, &self.out.object);
        if self.settings.termination != Some(Termination::Reencrypt) {
            return transport.of(object, service);
        }
        let options = self.reading.options;
        let authorities = self.authorities.as_ref().map(|pem| (pem, AUTHORITIES));
        let as_route = || reencrypt::way(authorities, object, service, options);
        transport.over_tls(object, service, authorities).unwrap_or_else(as_route)
    }
}

/// The authorities in a Secret. What is not PEM is told of where it is used.
pub(crate) fn authorities_in(secret: &Secret) -> Option<String> {
    let pem = KEYS.into_iter().find_map(|key| secret_field(secret, key));
    pem.map(|pem| String::from_utf8_lossy(pem).into_owned())
}

/// The authorities of the pods that an Ingress names, in PEM. What it names and does not have closes it.
pub(super) fn authorities(
    settings: &mut Settings,
    objects: &Objects,
    out: &mut Translation,
) -> Option<Arc<str>> {
    let name = settings.destination_ca.as_ref()?;
    let object = &out.object;
    if settings.termination != Some(Termination::Reencrypt) {
        out.problems.push(Problem::warning(
            object,
            "AnnotationIgnored",
            AUTHORITIES,
            "it has no effect, as TLS to the pods is asked for by termination reencrypt alone",
            "write route.openshift.io/termination: reencrypt, or remove it",
        ));
        return None;
    }
    let key = ObjectKey::new(Arc::clone(&object.key.namespace), &**name);
    let reference = Reference::secret(objects, key);
    out.references.push(reference.clone());
    let found = reference.as_secret(object, AUTHORITIES, CLOSED).and_then(|secret| {
        authorities_in(&secret).map(Arc::from).ok_or_else(|| {
            let [first, second] = KEYS;
            Box::new(Problem::error(
                object,
                "AuthoritiesInvalid",
                AUTHORITIES,
                format!("{} has neither {first} nor {second}; {CLOSED}", reference.object()),
                "put the certificates of the authorities there, in PEM",
            ))
        })
    });
    found
        .map_err(|problem| {
            settings.deny.get_or_insert(problem.reason);
            out.problems.push(*problem);
        })
        .ok()
}
