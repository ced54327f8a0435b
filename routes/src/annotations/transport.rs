//! What annotations say of the way to the backend: protocol and TLS, part by part.

use std::sync::Arc;

use crate::{
    model::BackendProtocol,
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
    transport::{self, Alpn, BackendTls, Speaks, TlsVersions, Trust},
};

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is spoken, whatever the port says.
    Speaks(Speaks),
    /// Where certificates are.
    Secret(SecretName),
    /// Whether the backend's certificate is verified.
    Verify(bool),
    Depth(u8),
    /// The name that it must have.
    Name(Arc<str>),
    /// Whether the backend is told that name.
    ServerName(bool),
    Versions(TlsVersions),
    Ciphers(Arc<str>),
    /// The address of the Service stands for its endpoints.
    Whole(bool),
}

/// A Secret, as annotations name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretName {
    /// `None`: the object's own.
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) name: Arc<str>,
}

impl SecretName {
    /// The Secret, if it is one of the namespace: what others have is not for this object to use.
    pub(crate) fn within(&self, namespace: &Arc<str>) -> Option<ObjectKey> {
        let own = self.namespace.as_ref().is_none_or(|named| named == namespace);
        own.then(|| ObjectKey::new(Arc::clone(namespace), &*self.name))
    }
}

/// All parts of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransportSettings {
    speaks: Option<Speaks>,
    secret: Option<SecretName>,
    verify: bool,
    depth: Option<u8>,
    name: Option<Arc<str>>,
    server_name: bool,
    versions: TlsVersions,
    ciphers: Option<Arc<str>>,
    /// The address of the Service stands for its endpoints.
    pub(crate) whole: bool,
}

impl TransportSettings {
    /// What is spoken, if it is said.
    pub(crate) fn speaks(&self) -> Option<Speaks> {
        self.speaks
    }

    pub(super) fn set(&mut self, part: Part) {
        match part {
            Part::Speaks(speaks) => self.speaks = Some(speaks),
            Part::Secret(secret) => self.secret = Some(secret),
            Part::Verify(on) => self.verify = on,
            Part::Depth(depth) => self.depth = Some(depth),
            Part::Name(name) => self.name = Some(name),
            Part::ServerName(on) => self.server_name = on,
            Part::Versions(versions) => self.versions = versions,
            Part::Ciphers(ciphers) => self.ciphers = Some(ciphers),
            Part::Whole(on) => self.whole = on,
        }
    }

    /// What cannot be done as it is asked for, so that the object has to be closed.
    pub(crate) fn fault(&self, object: &ObjectRef) -> Option<Problem> {
        let error = |name: &str, message: String, hint: &str| {
            let message = format!("{message}; every path is closed (503)");
            Some(Problem::error(object, "InvalidAnnotation", field(name), message, hint))
        };
        match &self.secret {
            Some(secret) if secret.within(&object.key.namespace).is_none() => error(
                "proxy-ssl-secret",
                "the Secret is of another namespace".into(),
                "copy it into the namespace of the Ingress",
            ),
            None if self.verify => error(
                "proxy-ssl-verify",
                "no proxy-ssl-secret says by which authorities to verify".into(),
                "name a Secret that has them in ca.crt, or write \"off\"",
            ),
            _ => None,
        }
    }

    /// How a Service is spoken to.
    pub(crate) fn of(&self, object: &ObjectRef, service: &ObjectKey) -> BackendProtocol {
        match self.speaks {
            None if self.says_nothing_of_tls() => BackendProtocol::Declared,
            None => BackendProtocol::DeclaredWith(Arc::new(self.tls(object, service))),
            Some(Speaks::Http1) => BackendProtocol::ClearText,
            Some(Speaks::Http2) => BackendProtocol::Http2,
            Some(Speaks::Tls(alpn)) => {
                BackendProtocol::Tls(alpn, Arc::new(self.tls(object, service)))
            }
        }
    }

    /// How a Service is spoken to over TLS, if anything is said of that. These authorities verify it where no others
    /// do: the field names them.
    pub(crate) fn over_tls(
        &self,
        object: &ObjectRef,
        service: &ObjectKey,
        authorities: Option<(&Arc<str>, &str)>,
    ) -> Option<BackendProtocol> {
        if !self.is_said_of_tls() {
            return None;
        }
        let mut tls = self.tls(object, service);
        if let (None, Some((pem, field))) = (&tls.trust, authorities) {
            tls.trust = Some(Trust::Pem(Arc::clone(pem)));
            tls.asked_by.get_or_insert_with(|| (object.clone(), field.into()));
        }
        Some(BackendProtocol::Tls(Alpn::Either, Arc::new(tls)))
    }

    /// Whether anything is said of how TLS is done.
    pub(crate) fn is_said_of_tls(&self) -> bool {
        !self.says_nothing_of_tls()
    }

    fn says_nothing_of_tls(&self) -> bool {
        self.secret.is_none()
            && !self.server_name
            && self.ciphers.is_none()
            && self.versions == TlsVersions::default()
    }

    fn tls(&self, object: &ObjectRef, service: &ObjectKey) -> BackendTls {
        let secret = self.secret.as_ref().and_then(|it| it.within(&object.key.namespace));
        let name = || self.name.clone().unwrap_or_else(|| transport::service_name(service));
        let asked_by = match (&self.secret, &self.ciphers) {
            (Some(_), _) => Some("proxy-ssl-secret"),
            (None, Some(_)) => Some("proxy-ssl-ciphers"),
            (None, None) => None,
        };
        BackendTls {
            trust: secret.clone().filter(|_| self.verify).map(Trust::Secret),
            depth: self.depth.filter(|_| self.verify),
            name: self.verify.then(name),
            server_name: self.server_name.then(name),
            identity: secret,
            versions: self.versions,
            ciphers: self.ciphers.clone(),
            asked_by: asked_by.map(|name| (object.clone(), field(name).into())),
        }
    }
}

/// Where the object says it.
fn field(name: &str) -> String {
    format!("metadata.annotations[nginx.ingress.kubernetes.io/{name}]")
}

/// What `backend-protocol` names.
pub(super) fn protocol(name: &str) -> Option<Speaks> {
    const NAMES: [(&str, Speaks); 4] = [
        ("http", Speaks::Http1),
        ("https", Speaks::Tls(Alpn::Http1)),
        ("grpc", Speaks::Http2),
        ("grpcs", Speaks::Tls(Alpn::Http2)),
    ];
    let found = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, speaks)| *speaks)
}
