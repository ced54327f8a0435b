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
