//! What `spec.tls` of an Ingress says: whose hosts are served over TLS, with which certificates.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressSpec};

use super::{closing, reference};
use crate::{
    host,
    model::{CertBinding, CertSource, HostPattern},
    objects::ObjectKey,
    problem::Problem,
};

/// What the `tls` entries of an Ingress say.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    /// Hosts that count as served over TLS.
    pub(crate) hosts: Vec<HostPattern>,
    pub(super) certs: Arc<[CertBinding]>,
    pub(super) problems: Vec<Problem>,
}

impl Tls {
    /// Whether every host of its Ingress is among them.
    pub(super) fn covers(&self, ingress: &Ingress) -> bool {
        let covers = |host: &HostPattern| {
            self.hosts.iter().any(|tls| match host {
                HostPattern::Exact(name) => host::matches(tls, name),
                host => host == tls,
            })
        };
        ingress.spec.as_ref().is_none_or(|spec| own_hosts(spec).iter().all(covers))
    }
}

/// Reads `spec.tls`.
pub(crate) fn tls(key: &ObjectKey, ingress: &Ingress) -> Tls {
    let object = reference(key);
    let mut found = Tls::default();
    let Some(spec) = &ingress.spec else { return found };
    // Entries that name their hosts first.
    let (mut certs, mut unnamed) = (Vec::new(), Vec::new());
    for (at, entry) in spec.tls.iter().flatten().enumerate() {
        let mut hosts = Vec::new();
        for (index, text) in entry.hosts.iter().flatten().enumerate() {
            match host::pattern(text) {
                Ok(host) => hosts.push(host),
                Err(error) => {
                    let field = format!("spec.tls[{at}].hosts[{index}]");
                    found.problems.push(closing::invalid_host(&object, field, text, error));
                }
            }
        }
        let if_named = entry.hosts.as_ref().is_none_or(Vec::is_empty);
        if if_named {
            hosts = own_hosts(spec);
        }
        if let Some(name) = entry.secret_name.as_deref().filter(|name| !name.is_empty()) {
            let secret = ObjectKey::new(Arc::clone(&key.namespace), name);
            let certs = if if_named { &mut unnamed } else { &mut certs };
            certs.extend(hosts.iter().map(|host| CertBinding {
                host: host.clone(),
                if_named,
                source: CertSource::Secret(secret.clone()),
                object: object.clone(),
                field: format!("spec.tls[{at}].secretName"),
            }));
        }
        found.hosts.extend(hosts);
    }
    certs.append(&mut unnamed);
    found.certs = certs.into();
    found
}

/// The hosts of an Ingress' rules, each once: what a `tls` entry without hosts is meant for.
fn own_hosts(spec: &IngressSpec) -> Vec<HostPattern> {
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() {
        return vec![HostPattern::Any];
    }
    let mut hosts = Vec::new();
    for rule in rules {
        if let Ok(host) = host::pattern(rule.host.as_deref().unwrap_or_default())
            && !hosts.contains(&host)
        {
            hosts.push(host);
        }
    }
    hosts
}
