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

#[test]
fn explain_leads_a_connection_to_the_port_of_a_service_where_the_listener_does() {
    let more = "
---
apiVersion: v1
kind: Service
metadata: {name: users}
spec: {ports: [{port: 6432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: users-1, labels: {kubernetes.io/service-name: users}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.9]}]
ports: [{port: 6432}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: known}
spec:
  rules:
  - host: known.db.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: users, port: {number: 6432}}}}]}
";
    let names = "'*.db.test=users:6432,known.db.test=users:6432'";
    let manifests = format!("{}{more}", PASSED_ON.replace("'*.db.test=dns'", names)).replace(
        "spec: {type: LoadBalancer, ports: [{port: 5432}]}",
        "spec: {type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8], ports: [{port: 5432}]}",
    );
    let users = "by Service default/sql (*.db.test): to default/users:6432 (10.1.0.9:6432)\n  because its server name leads";
    explains(
        &manifests,
        &[
            (
                "explain @ http://10.0.0.200:53/",
                true,
                "default/dns:53 (10.1.0.1:5353, 10.1.0.2:5353)",
            ),
            ("explain @ http://10.0.0.200:53/", true, "at 10.0.0.200:53, passed on by the kernel"),
            // As the server name says, and not as `Host` does.
            ("explain @ https://a.db.test:5432/", true, users),
            ("explain --server-name a.db.test @ https://10.0.0.201:5432/", true, users),
            ("explain --server-name A.DB.test @ https://other.test:5432/", true, users),
            (
                "explain @ https://a.db.test:5432/",
                true,
                "at 10.0.0.201:5432, passed on by this process",
            ),
            (
                "explain @ https://10.0.0.201:5432/ -H Host:a.db.test",
                false,
                "because it names no server",
            ),
            (
                "explain @ https://a.b.db.test:5432/",
                false,
                "by Service default/sql: to default/sql:5432",
            ),
            (
                "explain @ https://a.b.db.test:5432/",
                false,
                "because its server name leads nowhere else",
            ),
            (
                "explain @ http://a.db.test:5432/",
                false,
                "broken off: what begins otherwise than TLS",
            ),
            ("explain --client 10.9.9.9 @ https://a.db.test:5432/", true, users),
            (
                "explain --client 192.0.2.1 @ https://a.db.test:5432/",
                false,
                "broken off: the client is in none",
            ),
            // By host, where the address decides nothing.
            ("explain @ https://known.db.test/", true, "is answered by Ingress default/known"),
            (
                "explain @ https://known.db.test:5432/",
                true,
                "by Service default/sql (known.db.test)",
            ),
        ],
    );
    let (_, out) = command(&manifests, "explain -o json @ https://a.db.test:5432/");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["passedOn"]["object"], "Service default/sql");
    assert_eq!(json["passedOn"]["to"][0], "default/users:6432 (10.1.0.9:6432)");
}

#[test]
fn explain_says_which_certificate_a_client_is_asked_for() {
    let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap().cert.pem();
    let ca = ca.trim_end().replace('\n', "\n    ");
    let served = format!("{SERVED}{}", backend())
        .replace("stringData: {ca.crt: no certificate}", &format!("stringData:\n  ca.crt: |\n    {ca}"))
        .replace("auth-tls-secret: default/authorities", "auth-tls-secret: default/authorities, nginx.ingress.kubernetes.io/auth-tls-match-cn: CN=me");
    explains(
        &served,
        &[
            (
                "explain @ https://shown.test/",
                true,
                "  its client is asked for a certificate by Ingress default/shown (required, ",
            ),
            ("explain @ https://shown.test/", true, ", subject CN=me); without one: 400\n"),
            ("explain --server-name app.test @ https://shown.test/", false, "  with 421: "),
            ("explain @ https://127.0.0.1:8443/ -H Host:shown.test", false, "  with 421: "),
            (
                "explain @ http://shown.test/",
                false,
                "  with 400: the host asks for a client certificate",
            ),
        ],
    );
    let (_, out) = command(&served, "explain @ http://shown.test/");
    assert!(!out.contains("its client"), "{out}");
}
