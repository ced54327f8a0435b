//! Server names of raw TLS that lead to other Services (`gatehouse.io/tls-server-names`).
//!
//! One Service has the address and the port and says in one place which name goes where; the others need no address.

use std::{net::IpAddr, sync::Arc};

use gatehouse_routes::{
    action::Forward,
    annotations::gatehouse,
    host,
    model::{BackendKey, BackendPort, BackendProtocol, HostPattern},
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Where connections of a server name are passed on to.
#[derive(Debug, PartialEq)]
pub struct Named {
    /// The name as it was written.
    pub host: HostPattern,
    /// The Service.
    pub service: ObjectKey,
    /// Its backend.
    pub forward: Forward,
    /// Only endpoints of these addresses, those on this node (`externalTrafficPolicy: Local` of the Service that has the
    /// address).
    pub here: Option<Box<[IpAddr]>>,
}

/// What the annotation says of a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Name {
    pub(super) host: HostPattern,
    pub(super) service: ObjectKey,
    /// `None`: that of the Service which has the address.
    port: Option<u16>,
}

impl Name {
    /// Where connections to a port go.
    pub(super) fn backend(&self, port: u16) -> BackendKey {
        BackendKey {
            service: self.service.clone(),
            port: BackendPort::Number(self.port.unwrap_or(port)),
            protocol: BackendProtocol::Bytes,
            whole: false,
        }
    }
}

/// The field that says it.
pub(super) fn field(metadata: &ObjectMeta) -> Option<String> {
    gatehouse::FAMILY.find(&gatehouse::TLS_SERVER_NAMES, metadata).map(|found| found.field())
}

/// The names of a Service, each once. What cannot be read is said and left out.
pub(super) fn names(
    object: &ObjectRef,
    metadata: &ObjectMeta,
    ends_tls: bool,
    problems: &mut Vec<Problem>,
) -> Vec<Name> {
    let Some(found) = gatehouse::FAMILY.find(&gatehouse::TLS_SERVER_NAMES, metadata) else {
        return Vec::new();
    };
    let mut complain = |message: String, hint| {
        let reason = "InvalidAnnotation";
        problems.push(Problem::error(object, reason, found.field(), message, hint));
    };
    if ends_tls {
        complain(
            "TLS ends here (gatehouse.io/tls-secret), so no server name leads elsewhere".to_owned(),
            "remove one of the two annotations",
        );
        return Vec::new();
    }
    let mut names: Vec<Name> = Vec::new();
    let entries = found.value.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    for entry in entries {
        let Some(name) = read(object, entry) else {
            complain(
                format!("{entry:?} is not NAME=SERVICE or NAME=SERVICE:PORT, so it leads nowhere"),
                "write a server name, =, and a Service of this namespace",
            );
            continue;
        };
        if names.iter().any(|known| known.host == name.host) {
            complain(
                format!("{} is there twice, and the first one counts", name.host),
                "remove one of the two",
            );
            continue;
        }
        names.push(name);
    }
    names
}

fn read(object: &ObjectRef, entry: &str) -> Option<Name> {
    let (name, to) = entry.split_once('=')?;
    // As clients write names.
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let host = host::pattern(name).ok().filter(|host| *host != HostPattern::Any)?;
    let (service, port) = match to.trim().split_once(':') {
        Some((service, port)) => (service, Some(port.parse().ok().filter(|port| *port > 0)?)),
        None => (to.trim(), None),
    };
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_service = !service.is_empty() && service.len() <= 63 && service.bytes().all(is_name);
    let service = is_service.then(|| ObjectKey::new(Arc::clone(&object.key.namespace), service))?;
    Some(Name { host, service, port })
}
