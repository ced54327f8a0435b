//! Pools that are not for every claim: tenancy, draining, and how a refusal lists what was tried.

use super::*;
use crate::api::LabelSelector;

fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn selector(key: &str, value: &str) -> LabelSelector {
    LabelSelector { match_labels: labels(&[(key, value)]), ..LabelSelector::default() }
}

fn of(namespace: &str, claim: Claim) -> Claim {
    let namespace_labels = labels(&[("kubernetes.io/metadata.name", namespace)]).into();
    let labels = labels(&[("app", "web")]);
    Claim { tenant: Tenant { namespace: namespace.into(), namespace_labels, labels }, ..claim }
}

#[test]
fn a_limited_pool_serves_those_it_is_for_and_nobody_else_by_any_way() {
    let limits = [
        ServiceAllocation { namespaces: vec!["prod".into()], ..ServiceAllocation::default() },
        ServiceAllocation {
            namespace_selectors: vec![selector("kubernetes.io/metadata.name", "prod")],
            ..ServiceAllocation::default()
        },
    ];
    for limit in limits {
        let pools = [allocated("prod", &["10.0.0.0/24"], limit)];
        let claims = |namespace: &str| {
            [
                v4("any"),
                requesting("request", &["10.0.0.1"]),
                Claim { pool: Some("prod".into()), ..v4("pinned") },
                recorded("record", &["10.0.0.2"]),
            ]
            .map(|claim| of(namespace, claim))
        };
        let result = allocate(&pools, &claims("prod"));
        assert_eq!(result.assigned.len(), 4);
        assert!(result.refused.is_empty());

        let result = allocate(&pools, &claims("test"));
        assert_eq!(result.assigned, BTreeMap::new());
        for name in ["any", "request", "pinned"] {
            let refusal = refusal(&result, name);
            assert_eq!((refusal.reason, refusal.is_error()), ("PoolRestricted", true), "{name}");
            assert!(refusal.message.contains("not for namespace test"), "{}", refusal.message);
        }
        assert_eq!(refusal(&result, "record").reason, "AddressReleased");
        assert_eq!(result.quarantined, quarantined(&[("10.0.0.2", "record")]));
    }
}

#[test]
fn selectors_that_match_nothing_close_the_pool_instead_of_opening_it() {
    let closed = ServiceAllocation {
        namespace_selectors: vec![selector("team", "nobody")],
        ..ServiceAllocation::default()
    };
    let result = allocate(
        &[allocated("closed", &["10.0.0.0/24"], closed)],
        &[of("a", requesting("web", &["10.0.0.1"]))],
    );
    assert_eq!(got(&result, "web"), "-");
}

#[test]
fn service_selectors_choose_among_the_services_of_a_namespace() {
    let limit = |value: &str| ServiceAllocation {
        service_selectors: vec![selector("app", value)],
        ..ServiceAllocation::default()
    };
    let pools = [
        allocated("mail", &["10.0.0.0/24"], limit("mail")),
        allocated("web", &["10.1.0.0/24"], limit("web")),
    ];
    assert_eq!(got(&allocate(&pools, &[of("a", v4("web"))]), "web"), "web:10.1.0.0");
}

#[test]
fn a_draining_pool_keeps_what_it_gave_and_gives_nothing_new() {
    let draining = pool("old", &["10.0.0.0/24"]).drained(true);
    let claims = [
        recorded("holder", &["10.0.0.9"]),
        v4("any"),
        requesting("request", &["10.0.0.1"]),
        Claim { pool: Some("old".into()), ..v4("pinned") },
        Claim { requested: ips(&["10.0.0.10"]), ..recorded("mover", &["10.0.0.8"]) },
    ];
    let result = resting(
        std::slice::from_ref(&draining),
        &[&claims[..], &[v4("back")]].concat(),
        &quarantined(&[("10.0.0.3", "back")]),
    );
    assert_eq!(got(&result, "holder"), "old:10.0.0.9");
    assert_eq!(got(&result, "mover"), "old:10.0.0.8");
    assert_eq!(got(&result, "back"), "old:10.0.0.3", "it was given before the pool was to drain");
    for name in ["any", "request", "pinned", "mover"] {
        assert_eq!(refusal(&result, name).reason, "PoolDraining", "{name}");
        assert_eq!(refusal(&result, name).is_error(), name != "mover");
        if name != "mover" {
            assert_eq!(got(&result, name), "-");
        }
    }
    let result = allocate(&[draining, pool("new", &["10.1.0.0/24"])], &claims[..2]);
    assert_eq!(got(&result, "any"), "new:10.1.0.0");
}

#[test]
fn a_refusal_names_every_pool_that_was_tried_and_why_it_said_no() {
    let limit = ServiceAllocation { namespaces: vec!["a".into()], ..ServiceAllocation::default() };
    let pools = [
        pool("full", &["10.3.0.1/32"]),
        manual("asked", &["10.2.0.0/24"]),
        pool("six", &["2001:db8::/64"]),
        pool("old", &["10.4.0.0/24"]).drained(true),
        allocated("a", &["10.0.0.0/24"], limit),
    ];
    let result = allocate(&pools, &[recorded("x", &["10.3.0.1"]), of("b", v4("web"))]);
    let refusal = refusal(&result, "web");
    assert_eq!(refusal.reason, "PoolExhausted");
    assert_eq!(
        refusal.message,
        "no pool gives an IPv4 address: pool \"a\": not for namespace b; \
         pool \"full\": no free IPv4 address (1 used); pool \"six\": no IPv4 addresses; \
         pool \"old\": draining; pool \"asked\": gives addresses on request only"
    );
    let many: Vec<_> =
        (0..20).map(|n| pool(&format!("p{n}"), &[&format!("2001:db8:{n}::/64")])).collect();
    let result = allocate(&many, &[v4("web")]);
    assert!(super::refusal(&result, "web").message.ends_with("no IPv4 addresses; and 12 more"));
}

#[test]
fn addresses_left_out_by_avoid_buggy_ips_cannot_be_requested_either() {
    let spec = IpAddressPoolSpec { avoid_buggy_ips: true, ..spec(&["10.0.0.0/24"]) };
    let pools = [Pool::parse("p", &BTreeMap::new(), &spec).unwrap()];
    let result = allocate(&pools, &[requesting("zero", &["10.0.0.0"]), v4("any")]);
    assert_eq!(refusal(&result, "zero").message, "avoidBuggyIPs leaves 10.0.0.0 out of pool \"p\"");
    assert_eq!(got(&result, "any"), "p:10.0.0.1");
}
