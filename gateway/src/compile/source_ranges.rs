//! Which clients a Service of type `LoadBalancer` lets in: `spec.loadBalancerSourceRanges`. One with an annotation that
//! would protect and cannot, or that nobody reads and may be meant to, lets nobody in.
//!
//! In a cluster kube-proxy sees to it for Services that it forwards. What ends in this process is this process's
//! to refuse: `worker::accept` asks before anything else.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use gatehouse_routes::{
    annotations,
    networks::{Network, Networks},
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use k8s_openapi::api::core::v1::Service;

/// By Service; one that is not here lets everybody in.
pub(super) type SourceRanges = BTreeMap<ObjectKey, Arc<Networks>>;

/// What these Services say; the same `Arc` as before where that says the same. `addresses`: those that a Service has.
pub(super) fn of<'s, 'a>(
    services: impl Iterator<Item = (&'s ObjectKey, &'s Service)>,
    addresses: impl Fn(&ObjectKey) -> &'a [IpAddr],
    previous: Option<&SourceRanges>,
    problems: &mut Vec<Problem>,
) -> SourceRanges {
    let mut all = SourceRanges::new();
    for (key, service) in services {
        let Some(networks) = said(key, service, problems) else { continue };
        problems.extend(shut(key, &networks, addresses(key)));
        let known = previous.and_then(|previous| previous.get(key));
        let networks = match known.filter(|known| ***known == networks) {
            Some(known) => Arc::clone(known),
            None => Arc::new(networks),
        };
        all.insert(key.clone(), networks);
    }
    all
}

/// `None`: everybody may come in. What is no network lets nobody in.
fn said(key: &ObjectKey, service: &Service, problems: &mut Vec<Problem>) -> Option<Networks> {
    let object = ObjectRef::new("Service", key.clone());
    if annotations::closing(&object, &service.metadata).is_some() {
        // Why, the judge of annotations says.
        return Some(Networks::default());
    }
    let spec = service.spec.as_ref()?;
    let ranges = spec.load_balancer_source_ranges.as_deref().filter(|list| !list.is_empty())?;
    let mut networks: Vec<Network> = Vec::with_capacity(ranges.len());
    for (at, text) in ranges.iter().enumerate() {
        match text.trim().parse() {
            Ok(network) => networks.push(network),
            Err(error) => problems.push(Problem::error(
                &object,
                "InvalidSourceRange",
                format!("spec.loadBalancerSourceRanges[{at}]"),
                format!("{text:?} {error}, so it lets nobody in"),
                "write a network such as 192.0.2.0/24",
            )),
        }
    }
    Some(networks.into_iter().collect())
}

/// What is said of an address that no client may come in at, as all networks are of the other family.
fn shut(key: &ObjectKey, networks: &Networks, addresses: &[IpAddr]) -> Option<Problem> {
    // Where there is no network at all, what is wrong has been said.
    let some = *networks != Networks::default();
    let at = addresses.iter().find(|address| some && !networks.has_family_of(**address))?;
    let (family, all) = if at.is_ipv4() { ("IPv4", "0.0.0.0/0") } else { ("IPv6", "::/0") };
    Some(Problem::warning(
        &ObjectRef::new("Service", key.clone()),
        "SourceRangesLackFamily",
        "spec.loadBalancerSourceRanges",
        format!("has no {family} network, so no client may connect to {at}"),
        format!("add the {family} networks of the clients, or {all} for all of them"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(ranges: &[&str]) -> Service {
        let mut service = Service::default();
        let spec = service.spec.get_or_insert_default();
        spec.load_balancer_source_ranges = Some(ranges.iter().map(ToString::to_string).collect());
        service
    }

    fn ranges(service: &Service, previous: Option<&SourceRanges>) -> (SourceRanges, Vec<String>) {
        let (key, mut problems) = (ObjectKey::new("d", "gateway"), Vec::new());
        let addresses = |_: &ObjectKey| &[] as &[IpAddr];
        let all = of([(&key, service)].into_iter(), addresses, previous, &mut problems);
        (
            all,
            problems
                .iter()
                .map(|problem| format!("{} {}", problem.field, problem.message))
                .collect(),
        )
    }

    #[test]
    fn only_the_networks_that_are_named_come_in_and_a_broken_name_opens_nothing() {
        let lets_in = |service: &Service, client: &str| {
            let (all, _) = ranges(service, None);
            let mut all = all.values();
            all.next().is_none_or(|networks| networks.contains(client.parse().unwrap()))
        };
        let some = service(&["192.0.2.0/24", " 2001:db8::/32 "]);
        for (client, wanted) in [
            ("192.0.2.9", true),
            ("::ffff:192.0.2.9", true),
            ("192.0.3.9", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(lets_in(&some, client), wanted, "{client}");
        }
        assert!(lets_in(&service(&[]), "192.0.3.9") && lets_in(&Service::default(), "::1"));
        assert!(!lets_in(&service(&["192.0.2.0/33"]), "192.0.2.1"));
        let (_, problems) = ranges(&service(&["192.0.2.0/33", "10.0.0.0/8"]), None);
        assert_eq!(
            problems,
            [
                "spec.loadBalancerSourceRanges[0] \"192.0.2.0/33\" is neither an address nor a network such as \
              10.0.0.0/8, so it lets nobody in"
            ]
        );
    }

    #[test]
    fn an_address_of_a_family_without_networks_is_said_to_be_shut() {
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        for (names, addresses, said) in [
            (
                &["10.0.0.0/8"][..],
                &[v4, v6][..],
                Some("no IPv6 network, so no client may connect to 2001:db8::1"),
            ),
            (
                &["10.0.0.0/8"],
                &[v6],
                Some("no IPv6 network, so no client may connect to 2001:db8::1"),
            ),
            (
                &["2001:db8::/32"],
                &[v4, v6],
                Some("no IPv4 network, so no client may connect to 192.0.2.1"),
            ),
            (&["10.0.0.0/8", "2001:db8::/32"], &[v4, v6], None),
            (&["::ffff:10.0.0.0/104"], &[v4], None),
            (&["10.0.0.0/8"], &[v4], None),
            (&["10.0.0.0/8"], &[], None),
            (&["10.0.0.0/33"], &[v4, v6], None),
        ] {
            let key = ObjectKey::new("d", "gateway");
            let networks = names.iter().filter_map(|name| name.parse::<Network>().ok()).collect();
            let problem = shut(&key, &networks, addresses);
            let message = problem.map(|problem| problem.message);
            assert_eq!(message.is_some(), said.is_some(), "{names:?} {addresses:?}");
            assert!(message.unwrap_or_default().contains(said.unwrap_or_default()), "{names:?}");
        }
    }

    #[test]
    fn a_service_with_a_protection_that_nobody_reads_lets_nobody_in() {
        for (name, value, open) in [
            ("gatehouse.io/source-ranges", "10.0.0.0/8", false),
            ("gatehouse.io/allow-source-rnge", "10.0.0.0/8", false),
            ("gatehouse.io/proxy-protokol", "v2", false),
            ("gatehouse.io/tls-secert", "pair", false),
            ("gatehouse.io/colour", "blue", true),
            ("gatehouse.io/idle-timeot", "5m", true),
            ("example.com/source-ranges", "10.0.0.0/8", true),
        ] {
            let mut service = Service::default();
            service.metadata.annotations = Some([(name.to_owned(), value.to_owned())].into());
            let (all, _) = ranges(&service, None);
            let client = "10.1.2.3".parse().unwrap();
            assert_eq!(all.values().all(|networks| networks.contains(client)), open, "{name}");
        }
    }

    #[test]
    fn what_did_not_change_stays_the_same_set() {
        let (before, _) = ranges(&service(&["192.0.2.0/24"]), None);
        let (after, _) = ranges(&service(&["192.0.2.0/25", "192.0.2.128/25"]), Some(&before));
        assert!(before.values().zip(after.values()).all(|(a, b)| Arc::ptr_eq(a, b)));
    }
}
