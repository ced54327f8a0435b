//! `spec.externalIPs`: addresses that are routed to the node from outside.
//!
//! A user who may write a Service may write any address there, and so take the traffic of others (CVE-2020-8554). So
//! only addresses within `--external-ips` count, and none that a Service has from a pool. They are served where the node
//! has them, never claimed and never announced.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gatehouse_routes::{
    model::Transport,
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};

use super::services::Forwarded;
use crate::compile::{Assigned, NodeContext};

/// The addresses on which Services are passed on: those that they were given, and external ones.
pub(in crate::compile) fn with_external<'a>(
    services: &[Forwarded<'_>],
    node: &NodeContext,
    assigned: &'a BTreeMap<ObjectKey, Assigned>,
    problems: &mut Vec<Problem>,
) -> Cow<'a, BTreeMap<ObjectKey, Assigned>> {
    let mut all = Cow::Borrowed(assigned);
    let pooled: BTreeSet<IpAddr> = assigned.values().flat_map(|one| one.ips.clone()).collect();
    let mut taken: BTreeMap<(IpAddr, Transport, u16), &ObjectKey> = BTreeMap::new();
    for service in services {
        let spec = service.service.spec.as_ref();
        let texts = spec.and_then(|spec| spec.external_ips.as_deref()).unwrap_or_default();
        for (at, text) in texts.iter().enumerate() {
            let complain = |reason, message: String, hint| {
                let object = ObjectRef::new("Service", service.key.clone());
                Problem::warning(&object, reason, format!("spec.externalIPs[{at}]"), message, hint)
            };
            let Ok(ip) = text.trim().parse::<IpAddr>() else {
                let message = format!("{text:?} is no address, so it is not served here");
                problems.push(complain("ExternalIpInvalid", message, "write an IP address"));
                continue;
            };
            if !node.external_ips.contains(ip) {
                problems.push(complain(
                    "ExternalIpRefused",
                    format!("{ip} is not in --external-ips, so it is not served here"),
                    "ask for an address of a pool, or have the network permitted by --external-ips",
                ));
                continue;
            }
            let other = service.ports.iter().find_map(|port| {
                let other = *taken.entry((ip, port.transport, port.number)).or_insert(service.key);
                (other != service.key).then_some(other)
            });
            if pooled.contains(&ip) || other.is_some() {
                let whose =
                    other.map_or_else(|| "of a pool".to_owned(), |other| format!("{other}'s"));
                problems.push(complain(
                    "ExternalIpTaken",
                    format!("{ip} is {whose}, so it is not served here for this Service"),
                    "choose another address",
                ));
                continue;
            }
            let known = all.to_mut().entry(service.key.clone());
            known.or_insert_with(|| Assigned { ips: Vec::new(), pools: Vec::new() }).ips.push(ip);
        }
    }
    all
}
