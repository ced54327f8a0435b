//! Certificates of Services whose TLS ends here (`gatehouse.io/tls-secret`).

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_routes::{
    model::{CertSource, Scope},
    objects::{ObjectKey, Store},
    problem::Problem,
};
use k8s_openapi::api::core::v1::Secret;

use super::{L4Plan, services::Forwarded};
use crate::tls::certs::{self, CertTable};

/// The certificate of a Service's ports, if it is usable.
#[derive(Clone, Debug)]
pub struct Certs(pub Arc<CertTable>);

/// Tables that say the same are the same.
impl PartialEq for Certs {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The certificates of those that want TLS to end here, by Service.
pub(in crate::compile) fn certs(
    services: &[Forwarded<'_>],
    builder: &mut certs::Builder<'_>,
    known: &Store<Secret>,
    previous: Option<&L4Plan>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ObjectKey, Certs> {
    let mut all = BTreeMap::new();
    for Forwarded { key, tls, .. } in services {
        let Some(binding) = tls else { continue };
        let there = matches!(&binding.source, CertSource::Secret(key) if known.contains_key(key));
        if !there {
            problems.push(Problem::error(
                &binding.object,
                "SecretNotFound",
                binding.field.clone(),
                "the Secret does not exist, or may not be read, so connections are refused",
                "create a Secret of type kubernetes.io/tls in the namespace of the Service",
            ));
        }
        let before = previous.iter().flat_map(|previous| previous.values());
        let before =
            before.filter(|port| port.service == **key).find_map(|port| port.certs.as_ref());
        let bindings = if there { std::slice::from_ref(binding) } else { &[] };
        let scope = Scope::Gateway((*key).clone());
        let table = builder.table(&scope, bindings, before.map(|certs| &certs.0));
        all.insert((*key).clone(), Certs(table));
    }
    all
}
