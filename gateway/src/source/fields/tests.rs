use gatehouse_routes::openshift::Route;
use gatehouse_vip::api::IpAddressPoolSpec;
use k8s_openapi::api::networking::v1::Ingress;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::source::Custom;

fn unread<T: DeserializeOwned>(value: Value) -> Vec<String> {
    let mut unread = Vec::new();
    let _: T = read(&value, &mut unread).unwrap();
    unread.iter().map(|one| format!("{}{}", one.path, one.advice())).collect()
}

#[test]
fn what_a_type_does_not_know_is_found_wherever_it_stands() {
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": "a", "annotation": { "x": "y" }, "labels": { "hosts": "any" } },
        "spec": {
            "ingressClass": "internal",
            "rules": [
                { "host": "a.example", "http": { "paths": [{ "path": "/", "pathtype": "Prefix", "backend": {} }] } },
                { "hosts": "b.example", "http": { "paths": [] } },
            ],
        },
        "status": { "loadBalancer": {}, "more": 1 },
    });
    assert_eq!(
        unread::<Ingress>(ingress),
        [
            "metadata.annotation: annotations was meant?",
            "spec.ingressClass",
            "spec.rules[0].http.paths[0].pathtype: pathType was meant?",
            "spec.rules[1].hosts: host was meant?",
        ]
    );
    let pool = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": { "name": "p" },
        "spec": {
            "addresses": ["10.0.0.0/24"], "autoassign": false, "avoidBuggyIps": true,
            "serviceAllocation": { "serviceSelectors": [{ "matchLabel": { "a": "b" } }], "colour": "red" },
        },
        "status": { "assignedIPv4": 1 },
    });
    assert_eq!(
        unread::<Custom<IpAddressPoolSpec>>(pool),
        [
            "spec.autoassign: autoAssign was meant?",
            "spec.avoidBuggyIps: avoidBuggyIPs was meant?",
            "spec.serviceAllocation.colour",
            "spec.serviceAllocation.serviceSelectors[0].matchLabel: matchLabels was meant?",
        ]
    );
    let route = json!({
        "metadata": { "name": "r" },
        "spec": { "host": "a.example", "Path": "/x", "to": { "name": "s" }, "tls": { "terminate": "edge" } },
    });
    let told = ["spec.Path: path was meant?", "spec.tls.terminate: termination was meant?"];
    assert_eq!(unread::<Route>(route), told);
}

#[test]
fn a_field_limits_if_somebody_would_get_more_without_it() {
    for (kind, path, meant, expected) in [
        (Kind::IpAddressPool, "spec.autoassign", Some("autoAssign"), true),
        (Kind::IpAddressPool, "spec.avoidBuggyIps", Some("avoidBuggyIPs"), false),
        (Kind::IpAddressPool, "spec.colour", None, false),
        (Kind::IpAddressPool, "serviceAllocation", None, true),
        (Kind::IpAddressPool, "spec.tenantSelector", None, true),
        (Kind::L2Advertisement, "spec.interface", Some("interfaces"), true),
        (
            Kind::L2Advertisement,
            "spec.preferredNodeSelector",
            Some("preferredNodeSelectors"),
            false,
        ),
        (Kind::L2Advertisement, "specs", Some("spec"), true),
        (Kind::BgpPeer, "spec.passwordsecret", Some("passwordSecret"), true),
        (Kind::BgpPeer, "spec.holdtime", Some("holdTime"), false),
        (Kind::BgpAdvertisement, "spec.community", Some("communities"), true),
        (Kind::BgpAdvertisement, "spec.localpref", Some("localPref"), false),
        (Kind::Ingress, "spec.rules[0].hosts", Some("host"), true),
        (Kind::Ingress, "spec.annotations", None, true),
        (Kind::Ingress, "spec.defaultBackends", Some("defaultBackend"), false),
        (
            Kind::Route,
            "spec.tls.insecureEdgeTerminationPolice",
            Some("insecureEdgeTerminationPolicy"),
            true,
        ),
        (Kind::Route, "spec.tls.terminate", None, false),
        (Kind::IngressClass, "spec.parameter", Some("parameters"), true),
        (Kind::Service, "spec.loadBalancerSourceRange", Some("loadBalancerSourceRanges"), true),
        (Kind::Service, "spec.sessionAffinities", Some("sessionAffinity"), false),
        (Kind::Node, "spec.nodeSelector", None, false),
        (Kind::Secret, "secretData", None, false),
    ] {
        let unread = Unread { path: path.to_owned(), meant };
        assert_eq!(limits(kind, &unread), expected, "{kind:?} {path}");
    }
}

#[test]
fn only_a_name_that_is_nearly_the_same_was_meant() {
    const FIELDS: &[&str] = &["host", "http", "communities", "peers", "password", "passwordSecret"];
    for (name, meant) in [
        ("hosts", Some("host")),
        ("Host", Some("host")),
        ("community", Some("communities")),
        ("peer", Some("peers")),
        ("passwordsecret", Some("passwordSecret")),
        ("pass", None),
        ("x", None),
        ("colour", None),
    ] {
        assert_eq!(nearest(name, FIELDS), meant, "{name}");
    }
}
