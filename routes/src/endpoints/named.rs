//! Services by the names that a cluster's DNS has for them: of those that are written in files no name server knows.

use k8s_openapi::api::core::v1::Service;

use super::ServiceName;
use crate::{
    host,
    model::{BackendKey, BackendPort, ExternalName},
    objects::{ObjectKey, Objects},
};

/// The default domain of a cluster.
const DOMAIN: &str = ".cluster.local";
/// Most names that lead from one to the next.
const MOST: usize = 4;

/// The Service that a host in a cluster is.
pub(crate) fn service_named(host: &str) -> Option<ServiceName<'_>> {
    let host = host.strip_suffix(DOMAIN).unwrap_or(host);
    let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
    let labels = !name.is_empty() && !namespace.is_empty() && !namespace.contains('.');
    labels.then_some((namespace, name))
}

/// The Services that a backend leads to by their names, one by the other; the last one need not exist. Names are
/// followed only where files say them.
pub(crate) fn through(key: &BackendKey, objects: &Objects) -> Vec<ObjectKey> {
    let mut host = match key.port {
        BackendPort::Outside { loopback, .. } => Some(&*key.service.name).filter(|_| loopback),
        _ => external_name(&key.service, objects),
    };
    let mut way = Vec::new();
    while way.len() < MOST
        && let Some(named) = host.and_then(host::canonical)
        && let Some((namespace, name)) = service_named(&named)
    {
        let service = ObjectKey::new(namespace, name);
        host = external_name(&service, objects);
        way.push(service);
    }
    way
}

/// Where a Service that is written in a file leads, if that is a name.
fn external_name<'o>(service: &ObjectKey, objects: &'o Objects) -> Option<&'o str> {
    let service = objects.services.get(service).filter(|it| it.trust.standalone)?;
    let spec = service.object.spec.as_ref()?;
    spec.external_name.as_deref().filter(|_| spec.type_.as_deref() == Some("ExternalName"))
}

/// The backend that a connection to the name would have: that of the Service's port, or of the pods' own port
/// where the Service has no address.
pub(super) fn key(
    asked: &BackendKey,
    named: &ExternalName,
    (to, service): (&ObjectKey, &Service),
) -> BackendKey {
    let spec = service.spec.as_ref();
    let headless = spec.is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"));
    BackendKey {
        service: to.clone(),
        port: match headless {
            true => BackendPort::Target(named.port.to_string().into()),
            false => BackendPort::Number(named.port),
        },
        protocol: asked.protocol.clone(),
        whole: false,
    }
}
