//! Services that are to be protected: what cannot be done as it is asked for is not done without.

use gatehouse_routes::problem::Severity;

use super::*;

#[test]
fn a_service_whose_protection_cannot_be_read_is_passed_on_by_nobody() {
    for (annotations, passed) in [
        ("gatehouse.io/proxy-protocol: V2", true),
        ("gatehouse.io/proxy-protocol: ' v1 '", true),
        ("gatehouse.io/proxy-protocol: v3", false),
        ("gatehouse.io/proxy-protocol: 'on'", false),
        ("gatehouse.io/proxy-protocol: ''", false),
        ("gatehouse.io/proxy-protocol: v3, gatehouse.io/forwarding: kernel", false),
        ("gatehouse.io/tls-secret: ''", false),
        ("gatehouse.io/tls-secret: ' ', gatehouse.io/tls-server-names: 'a.test=b'", false),
        // Names that nobody reads.
        ("gatehouse.io/proxy-protocl: v2", false),
        ("gatehouse.io/Proxy_Protocol: v2", false),
        ("gatehouse.io/proxy-protocol-version: v2", false),
        ("gatehouse.io/tls-secrets: pair", false),
        ("gatehouse.io/tls_secret: pair, gatehouse.io/forwarding: kernel", false),
        ("gatehouse.io/source-ranges: 10.0.0.0/8", false),
        ("gatehouse.io/loadbalancer-source-ranges: 10.0.0.0/8", false),
        ("gatehouse.io/source-ranges: '0.0.0.0/0,::/0'", true),
        // Those of other kinds of objects.
        ("gatehouse.io/jwt-isuer: https://a.test", false),
        ("gatehouse.io/idle-timeot: 5m", true),
        ("gatehouse.io/colour: blue", true),
        ("example.com/source-ranges: 10.0.0.0/8", true),
    ] {
        let yaml = format!(
            "{POOL}{}{}",
            load_balancer("a", annotations, ""),
            endpoint("a", "10.0.0.1", "node-1")
        );
        let compiled = compiled(&yaml);
        assert_eq!(compiled.l4.len(), usize::from(passed), "{annotations}");
        assert_eq!(compiled.listeners.iter().any(|one| one.vip), passed, "{annotations}");
        assert!(passed || compiled.kernel.rules.is_empty(), "{annotations}");
        let closed = compiled.problems.iter().find(|problem| problem.reason == "PortNotServed");
        let severity = closed.map(|problem| problem.severity);
        let expected = (!passed).then_some(Severity::Error);
        assert_eq!(severity, expected, "{annotations}: {:?}", reasons(&compiled));
        let status = status(&yaml, &node(), "Service default/a");
        let ingress = &status["loadBalancer"]["ingress"][0];
        assert_eq!(ingress["ipMode"], "Proxy", "{annotations}: kube-proxy keeps its hands off");
        let error = &ingress["ports"][0]["error"];
        assert_eq!(error == "gatehouse.io/PortNotServed", !passed, "{annotations}: {status}");
    }
}

#[test]
fn annotations_of_a_service_that_asks_for_no_address_are_told_to_have_no_effect() {
    let ours = "gatehouse.io/forwarding: kernel, gatehouse.io/tls-secret: pair";
    for (type_, told) in
        [("ClusterIP", 2), ("NodePort", 2), ("LoadBalancer, loadBalancerClass: x.test/y", 0)]
    {
        let service = |annotations: &str| {
            format!(
                "{POOL}---\napiVersion: v1\nkind: Service\n\
                 metadata: {{name: inner, annotations: {{{annotations}}}}}\n\
                 spec: {{type: {type_}, ports: [{{port: 80}}]}}\n"
            )
        };
        let compiled = compiled(&service(ours));
        let ignored = compiled.problems.iter().filter(|one| one.reason == "AnnotationIgnored");
        assert_eq!(ignored.count(), told, "{type_}: {:?}", reasons(&compiled));
        let others = service("example.com/forwarding: kernel, gatehouse.io/eject-share: '9'");
        assert!(reasons(&super::compiled(&others)).is_empty(), "{type_}");
    }
}

#[test]
fn datagrams_that_no_header_can_precede_are_left_to_nobody_else() {
    let yaml = format!(
        "{POOL}{}{}",
        load_balancer("dns", "gatehouse.io/proxy-protocol: v1", ""),
        endpoint("dns", "10.0.0.1", "node-1")
    );
    let yaml = yaml.replace("ports: [{port: 25}]", "ports: [{port: 53, protocol: UDP}]");
    assert!(compiled(&yaml).l4.is_empty());
    let status = status(&yaml, &node(), "Service default/dns");
    let ingress = &status["loadBalancer"]["ingress"][0];
    assert_eq!(ingress["ipMode"], "Proxy", "{status}");
    assert_eq!(ingress["ports"][0]["error"], "gatehouse.io/PortNotServed", "{status}");
}

/// Severity, message and hint of what is said of an annotation of a Service.
fn said(compiled: &Compiled, annotation: &str) -> String {
    let field = format!("metadata.annotations[{annotation}]");
    let of = |problem: &&Problem| problem.object.kind == "Service" && problem.field == field;
    let all = compiled.problems.iter().filter(of);
    let all = all.map(|one| format!("{:?}: {}; {}", one.severity, one.message, one.hint));
    all.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_a_protection_on_a_service_comes_to_is_said_by_who_serves_it() {
    const KUBE_PROXY: &str = "kube-proxy passes the connections on";
    const UNREAD: &str =
        "kube-proxy passes the connections of the Service on, which does not read it";
    for (annotation, value, by_cluster, on_gateway, by_process) in [
        // What nobody reads.
        (
            "gatehouse.io/source-ranges",
            "10.0.0.0/8",
            [KUBE_PROXY, "loadBalancerSourceRanges"],
            ["resets every connection", "Error"],
            ["no port is passed on", "Error"],
        ),
        (
            "gatehouse.io/proxy-protocl",
            "v2",
            [KUBE_PROXY, "forwarding: gateway"],
            ["resets every connection", "proxy-protocol was meant"],
            ["no port is passed on", "proxy-protocol was meant"],
        ),
        (
            "gatehouse.io/proxy-protocol",
            "v3",
            [KUBE_PROXY, "Error"],
            ["resets", "Error"],
            ["no port", "Error"],
        ),
        (
            "gatehouse.io/jwt-issuer",
            "https://a.test",
            [KUBE_PROXY, "Error"],
            ["resets", "Error"],
            ["no port", "Error"],
        ),
        // What only this process reads.
        (
            "gatehouse.io/proxy-protocol",
            "v2",
            [UNREAD, "Error"],
            ["no effect on a gateway", "Error"],
            ["", ""],
        ),
        (
            "gatehouse.io/tls-secret",
            "pair",
            [UNREAD, "Error"],
            ["spec.tls", "Error"],
            ["connections are refused", "Error"],
        ),
        (
            "gatehouse.io/idle-timeout",
            "5m",
            [UNREAD, "Warning"],
            ["no effect on a gateway", "Warning"],
            ["", ""],
        ),
        (
            "gatehouse.io/health-check",
            "tcp",
            [UNREAD, "Warning"],
            ["no effect on a gateway", "Warning"],
            ["", ""],
        ),
        (
            "gatehouse.io/forwarding",
            "kernel",
            ["", ""],
            ["no effect on a gateway", "Warning"],
            ["", ""],
        ),
        ("example.com/source-ranges", "10.0.0.0/8", ["", ""], ["", ""], ["", ""]),
    ] {
        let annotations = format!("{annotation}: '{value}'");
        let a = |more: &str| load_balancer("a", &format!("{annotations}{more}"), "");
        let of_gateway = GATEWAY.replace(
            "namespace: gatehouse}\nspec:",
            &format!("namespace: gatehouse, annotations: {{{annotations}}}}}\nspec:"),
        );
        let of = |yaml: &str, source| {
            compile(&state_of(&format!("{POOL}{yaml}"), source), &node(), None)
        };
        let forwarding = ", gatehouse.io/forwarding: gateway";
        let asked = if annotation.ends_with("forwarding") { "" } else { forwarding };
        for (compiled, expected) in [
            (of(&a(""), CLUSTER), by_cluster),
            (of(&of_gateway, CLUSTER), on_gateway),
            (of(&of_gateway, SOURCE), on_gateway),
            (of(&a(asked), CLUSTER), by_process),
            (of(&a(""), SOURCE), by_process),
        ] {
            let said = said(&compiled, annotation);
            let right = expected.iter().all(|part| said.contains(part));
            assert!(
                right && said.is_empty() == expected[0].is_empty(),
                "{annotations}: {expected:?}: {said}"
            );
            if expected == by_cluster && !expected[0].is_empty() {
                assert!(!said.contains("no port is passed on"), "{annotations}: {said}");
            }
        }
    }
}
