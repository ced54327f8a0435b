//! What the explanation of a request knows of connections: whether TLS ends here, who may come in, what they have to show.

use super::*;

const SERVED: &str = "
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: app}
spec: {host: app.test, path: /app, to: {kind: Service, name: b}}
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: through}
spec: {host: through.test, to: {kind: Service, name: b}, tls: {termination: passthrough}}
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: nobody}
spec: {host: nobody.test, to: {kind: Service, name: missing}, tls: {termination: passthrough}}
---
apiVersion: v1
kind: Secret
metadata: {name: authorities}
stringData: {ca.crt: no certificate}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shown, annotations: {nginx.ingress.kubernetes.io/auth-tls-secret: default/authorities}}
spec:
  rules:
  - host: shown.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}]}
---
";

#[test]
fn explain_says_what_the_listener_does_before_it_asks_a_rule() {
    let served = format!("{SERVED}{}", backend());
    let rows = [
        ("explain @ http://app.test/app", true, "is answered by Route default/app"),
        ("explain @ http://app.test/else", false, "  is answered by no rule: 503\n"),
        ("explain @ http://app.test/else", false, "  with 503: only Routes name this host"),
        ("explain @ https://app.test/app", false, "  is answered by no rule: 503\n"),
        ("explain @ http://other.test/", false, "  is answered by no rule: 404\n"),
        (
            "explain @ https://through.test/",
            true,
            "  is passed on as it is by Route default/through (through.test): to default/b:",
        ),
        ("explain @ https://nobody.test/", false, "  and broken off: no backend of it has"),
        // Its handshake names no host.
        (
            "explain @ https://127.0.0.1:8443/ -H Host:through.test",
            false,
            "  is answered by no rule",
        ),
        ("explain @ https://shown.test/", false, "  with 503: no client certificate can be judged"),
    ];
    explains(&served, &rows);
    let (_, out) = command(&served, "explain @ https://through.test/ -o json");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["passedOn"]["object"], "Route default/through");
    assert_eq!((&json["winner"], &json["error"]), (&Value::Null, &Value::Null));
    let (_, out) = command(&served, "explain @ http://app.test/else -o json");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["error"]["status"], 503);
}

#[test]
fn explain_knows_whom_the_service_of_a_gateway_lets_in() {
    let class = "spec:\n  ingressClassName: two\n  rules";
    let ranges = "name: two, annotations: {metallb.io/loadBalancerIPs: 192.0.2.2}}\nspec: \
                  {loadBalancerSourceRanges: [10.0.0.0/8], ";
    let manifests = GATEWAYS.replace(
        "name: two, annotations: {metallb.io/loadBalancerIPs: 192.0.2.2}}\nspec: {",
        ranges,
    ) + &MANIFESTS.trim_start().replace("spec:\n  rules", class);
    for (client, good) in [("10.1.2.3", true), ("198.51.100.1", false)] {
        let words = format!("explain --client {client} @ http://example.com/a");
        let (result, out) = command(&manifests, &words);
        match result {
            Ok(code) => assert!(good && succeeded(&code), "{client}: {out}"),
            Err(error) => assert!(!good && error.to_string().contains("are reset"), "{error}"),
        }
    }
}
