//! Values of fields that name the backend of a path: texts with those variables of ingress-nginx that are the same for
//! every request of a path. Meshes are told in this way which Service a request is for.

use http::HeaderValue;
use k8s_openapi::api::networking::v1::IngressBackend;

use crate::{
    objects::ObjectKey,
    template::{Piece, pieces},
};

/// A text of which every variable is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendText(Box<str>);

/// What is filled in.
struct Path<'p> {
    namespace: &'p str,
    ingress: &'p str,
    service: &'p str,
    port: &'p str,
}

impl BackendText {
    /// The text, if it can be the value of a field whatever the names are.
    pub(super) fn new(text: &str) -> Option<Self> {
        let known = Self(text.into());
        known.value(&Path { namespace: "n", ingress: "i", service: "s", port: "80" })?;
        Some(known)
    }

    /// What it is with some names.
    pub(super) fn sample(&self) -> Option<String> {
        self.fill(&Path { namespace: "n", ingress: "i", service: "s", port: "80" })
    }

    /// The value where it is the same for all paths.
    pub(super) fn fixed(&self) -> Option<HeaderValue> {
        let variable = pieces(&self.0).iter().any(|piece| matches!(piece, Piece::Name(_)));
        if variable { None } else { HeaderValue::try_from(&*self.0).ok() }
    }

    /// The value for a path of an Ingress, if it depends on that and the backend is a Service.
    pub(super) fn of(&self, ingress: &ObjectKey, backend: &IngressBackend) -> Option<HeaderValue> {
        if self.fixed().is_some() {
            return None;
        }
        let service = backend.service.as_ref()?;
        let port = service.port.as_ref()?;
        let port = match (&port.name, port.number) {
            (_, Some(number)) => number.to_string(),
            (Some(name), None) => name.clone(),
            (None, None) => return None,
        };
        let (namespace, ingress) = (&*ingress.namespace, &*ingress.name);
        self.value(&Path { namespace, ingress, service: &service.name, port: &port })
    }

    fn value(&self, path: &Path<'_>) -> Option<HeaderValue> {
        HeaderValue::try_from(self.fill(path)?).ok()
    }

    fn fill(&self, path: &Path<'_>) -> Option<String> {
        let parts = pieces(&self.0).into_iter().map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Name("namespace") => Some(path.namespace),
            Piece::Name("ingress_name") => Some(path.ingress),
            Piece::Name("service_name") => Some(path.service),
            Piece::Name("service_port") => Some(path.port),
            Piece::Name(_) => None,
        });
        parts.collect()
    }
}
