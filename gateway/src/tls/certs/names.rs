//! The names that a certificate itself holds, where a `tls` entry names no hosts.
//!
//! Such an entry is for what its certificate and the rules of its Ingress have in common. The table of
//! certificates asks for that, and tells which name gets which.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_routes::{
    host,
    model::{CertBinding, CertSource, HostPattern},
    objects::ObjectRef,
    problem::Problem,
};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::CertTable;

/// The hosts that the host of a rule and the names of a certificate have in common.
pub(super) fn common(rule: &HostPattern, pair: &CertifiedKey) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    for name in names(pair) {
        let host = match (rule, &name) {
            (HostPattern::Any, _) => Some(name),
            (HostPattern::Exact(host), _) => host::matches(&name, host).then(|| rule.clone()),
            (HostPattern::OneLabel(_), HostPattern::Exact(host)) => {
                host::matches(rule, host).then_some(name)
            }
            (HostPattern::OneLabel(_), _) => (*rule == name).then_some(name),
        };
        hosts.extend(host.filter(|host| !hosts.contains(host)));
    }
    hosts
}

/// Which name gets which certificate: a warning for each entry without hosts.
pub(super) fn problems(
    table: &CertTable,
    unnamed: &[(&CertBinding, Arc<CertifiedKey>)],
) -> Vec<Problem> {
    let mut entries: BTreeMap<(&ObjectRef, &str), Vec<_>> = BTreeMap::new();
    for (binding, pair) in unnamed {
        entries.entry((&binding.object, &binding.field)).or_default().push((binding, pair));
    }
    let told = entries.into_iter().filter_map(|((object, field), bindings)| {
        let (mut shown, mut others) = (Vec::new(), Vec::new());
        for (binding, pair) in &bindings {
            let common = common(&binding.host, pair);
            let own =
                |host: &&HostPattern| table.get(host).is_some_and(|one| Arc::ptr_eq(one, pair));
            shown.extend(common.iter().filter(own).map(ToString::to_string));
            if !common.contains(&binding.host) {
                let which = match table.get(&binding.host) {
                    Some(_) if binding.host != HostPattern::Any => "that of another entry",
                    _ => "the default certificate",
                };
                others.push(match binding.host {
                    HostPattern::Any => format!("other hosts get {which}"),
                    _ => format!("{} gets {which}", binding.host),
                });
            }
        }
        shown.sort();
        let CertSource::Secret(secret) = &bindings.first()?.0.source else { return None };
        let what = match shown.as_slice() {
            [] => "is shown for no host".to_owned(),
            shown => format!("is shown for {}", shown.join(", ")),
        };
        let rest = others.iter().map(|other| format!("; {other}")).collect::<String>();
        Some(Problem::warning(
            object,
            "CertificateNames",
            field,
            format!("the entry names no hosts: the certificate of secret {secret} {what}{rest}"),
            "name the hosts in the entry",
        ))
    });
    told.collect()
}

/// The DNS names of a certificate.
fn names(pair: &CertifiedKey) -> Vec<HostPattern> {
    let Some(certificate) =
        pair.end_entity_cert().ok().and_then(|der| EndEntityCert::try_from(der).ok())
    else {
        return Vec::new();
    };
    certificate
        .valid_dns_names()
        .filter_map(|name| host::pattern(&name.to_ascii_lowercase()).ok())
        .collect()
}

#[cfg(test)]
mod tests;
