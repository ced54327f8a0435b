//! `route.openshift.io/termination`: what OpenShift's controller makes of an Ingress is a Route, and TLS is done as that
//! one has it; and what an Ingress without it does with clear text.

use super::Translator;
use crate::{
    annotations::Termination, filter::HttpsRedirect, model::BackendProtocol, objects::ObjectKey,
    translate::openshift::reencrypt,
};

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
        let redirects = as_route || settings.force_ssl_redirect || has_tls;
        redirects.then_some(HttpsRedirect { status, trim_slash })
    }

    /// How a Service is spoken to.
    pub(super) fn protocol(&self, service: &ObjectKey) -> BackendProtocol {
        let (transport, object) = (&self.settings.transport, &self.out.object);
        if self.settings.termination != Some(Termination::Reencrypt) {
            return transport.of(object, service);
        }
        let options = self.reading.options;
        let as_route = || reencrypt::way(None, object, service, options);
        transport.over_tls(object, service).unwrap_or_else(as_route)
    }
}
