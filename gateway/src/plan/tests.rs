use std::fs;

use serde_json::json;

use super::*;
use crate::cli::try_parse;

mod explained;
mod unreadable;

const MANIFESTS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: example.com
    http:
      paths:
      - {path: /a, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}]
ports: [{port: 8080}]
";

/// Runs a command on the manifests; `@` stands for their path.
pub(super) fn command(manifests: &str, words: &str) -> (anyhow::Result<ExitCode>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.yaml");
    fs::write(&file, manifests).unwrap();
    let file = file.to_str().unwrap();
    let words = words.split(' ').map(|word| if word == "@" { file } else { word });
    let mut out = String::new();
    let result = match try_parse(["gatehouse"].into_iter().chain(words)).unwrap() {
        Command::Plan(arguments) => plan(&arguments, &mut out),
        Command::Check(arguments) => check(&arguments, check::Page::default(), &mut out),
        Command::Explain(arguments) => explain::run(&arguments, &mut out),
        Command::Migrate(arguments) => migrate::run(&arguments, &mut out),
        other => panic!("{other:?}"),
    };
    (result, out.replace(file, "@"))
}

pub(super) fn succeeded(code: &ExitCode) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
}

#[test]
fn plan_for_people_is_a_page_of_aligned_columns() {
    let (result, out) = command(MANIFESTS, "plan @");
    assert!(succeeded(&result.unwrap()));
    assert_eq!(
        out,
        "\
ADDRESSES
  none

POOLS
  none

LISTENERS
  ADDRESS         PROTOCOL  GATEWAY
  127.0.0.1:8080  http      plain
  127.0.0.1:8443  https     plain

ROUTES
  HOST         PATH  MATCH   HTTP     HTTPS    BACKENDS                     OBJECT
  example.com  /a    Prefix  forward  forward  default/a:80 (2 endpoints)   Ingress default/web
  example.com  /     Prefix  forward  forward  default/b:80 (no endpoints)  Ingress default/web

PROBLEMS
  error: Ingress default/web: spec.rules[0].http.paths[1].backend.service: Service default/b has no endpoint: \
no EndpointSlice of its namespace has the label kubernetes.io/service-name with its name; requests get 503 \
[NoEndpoints]; write an EndpointSlice of that label, with the Service's port name and an address that is ready
"
    );
}

/// The same with an endpoint for every Service.
fn answered() -> String {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: b-1, labels: \
                 {kubernetes.io/service-name: b}}\naddressType: IPv4\nendpoints: [{addresses: [127.0.0.3]}]\n\
                 ports: [{port: 8080}]\n";
    format!("{}{slice}", MANIFESTS.trim_start())
}

#[test]
fn manifests_are_judged_by_the_tls_that_the_flags_of_run_leave() {
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: global, namespace: default}\n\
                  data: {ssl-protocols: TLSv1.2}\n";
    let own = format!("{}{config}", answered());
    for (flags, possible) in
        [("", true), (" --tls-profile modern", false), (" --tls-min-version 1.3", false)]
    {
        let words = format!("check @ --nginx-config default/global{flags}");
        let (_, out) = command(&own, &words);
        assert_eq!(out.contains("TlsTermsImpossible"), !possible, "{words}: {out}");
    }
    for words in ["plan @", "explain @ http://example.com/a", "check @"] {
        let (result, _) =
            command(&own, &format!("{words} --tls-profile custom --tls-ciphers NONE"));
        assert!(result.unwrap_err().to_string().contains("--tls-ciphers"), "{words}");
    }
}

#[test]
fn check_fails_only_on_errors_and_counts() {
    let (result, out) = command(&answered(), "check @");
    assert!(succeeded(&result.unwrap()));
    assert_eq!(out, "0 errors, 0 warnings\n");

    let unknown = answered().replace("spec:\n  rules", "spec:\n  ingressClassName: other\n  rules");
    let (result, out) = command(&unknown, "check @");
    assert!(succeeded(&result.unwrap()), "a warning is no failure");
    assert!(
        out.starts_with("@:1: Ingress default/web\n  warning: spec.ingressClassName: "),
        "{out}"
    );
    assert!(out.ends_with("\n0 errors, 1 warning\n"), "{out}");
    let (result, strict) = command(&unknown, "check --strict @");
    assert!(!succeeded(&result.unwrap()), "but with --strict");
    assert_eq!(strict, out);
    let (_, out) = command(&unknown, "check --claim-class other @");
    assert_eq!(out, "0 errors, 0 warnings\n");

    let (result, out) = command(&answered().replace("number: 80", "number: x"), "check @");
    assert!(!succeeded(&result.unwrap()));
    assert!(out.starts_with("error: @:9: Ingress web: spec.rules[0].http"), "{out}");
    assert!(out.ends_with("\n1 error, 0 warnings\n"), "{out}");
}

#[test]
fn check_fails_where_every_request_of_a_rule_gets_an_error() {
    let empty =
        "error: spec.rules[0].http.paths[1].backend.service: Service default/b has no endpoint: ";
    let label = "labels: {kubernetes.io/service-name: b}";
    for (from, to, said) in [
        (label, "labels: {}", empty),
        (label, "labels: {kubernetes.io/service-name: c}", empty),
        ("127.0.0.3]}", "127.0.0.3], conditions: {ready: false}}", empty),
        ("metadata: {name: b}", "metadata: {name: c}", "Service default/b does not exist"),
        (
            "service: {name: b, port: {number: 80}",
            "service: {name: b, port: {number: 81}",
            "no TCP port 81",
        ),
    ] {
        assert!(answered().contains(from), "{from}");
        let (result, out) = command(&answered().replace(from, to), "check @");
        assert!(!succeeded(&result.unwrap()), "{out}");
        assert!(out.starts_with("@:1: Ingress default/web\n") && out.contains(said), "{out}");
    }
}

#[test]
fn check_lists_objects_with_errors_first_and_each_once() {
    let quiet =
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: aaa}\nspec: {}\n";
    let noisy = answered().replace(
        "metadata: {name: web}",
        "metadata: {name: web, annotations: {nginx.ingress.kubernetes.io/hsts-of-nobody: x, \
         nginx.ingress.kubernetes.io/auth-snippet: \"deny all;\"}}",
    );
    let (_, out) = command(&format!("{noisy}{quiet}"), "check @");
    let heads: Vec<&str> = out.lines().filter(|line| line.starts_with('@')).collect();
    let aaa = format!("@:{}: Ingress default/aaa", noisy.lines().count() + 1);
    assert_eq!(heads, ["@:1: Ingress default/web", &*aaa], "{out}");
    let severity = |line: &str| line.trim_start().split(": ").next().map(str::to_owned);
    let told: Vec<_> =
        out.lines().filter(|line| line.starts_with("  ")).filter_map(severity).collect();
    assert_eq!(told, ["error", "warning", "warning"], "{out}");
}

#[test]
fn plan_of_broken_manifests_plans_the_rest_says_where_and_fails() {
    let (result, out) = command(&format!("a: [\n---\n{MANIFESTS}"), "plan @");
    assert!(!succeeded(&result.unwrap()));
    assert!(out.contains("in.yaml:1: ") || out.contains("@:1: "), "{out}");
    assert!(out.contains("example.com"), "{out}");
}

#[test]
fn explain_names_the_rule_that_answers_and_the_ones_that_do_not() {
    let (_, out) = command(MANIFESTS, "explain @ http://Example.com:8080/a/x?y -o json");
    let json: Value = serde_json::from_str(&out).unwrap();
    let request = json!({"scheme": "http", "host": "example.com", "path": "/a/x"});
    assert_eq!(json["request"], request);
    assert_eq!(json["winner"]["object"], "Ingress default/web");
    assert_eq!(json["winner"]["path"], "/a");
    assert_eq!(json["losers"][0]["path"], "/");

    let (_, out) = command(MANIFESTS, "explain @ http://127.0.0.1:8080/a/../b -H Host:example.com");
    assert!(
        out.starts_with("http://example.com/b\n  is answered by Ingress default/web ("),
        "{out}"
    );
    assert!(
        out.contains("\nnot answered by\n  Ingress default/web (example.com Prefix /a)"),
        "{out}"
    );
    let (_, out) = command(MANIFESTS, "explain @ https://other.com");
    assert!(out.starts_with("https://other.com/\n  is answered by no rule: 404\n"), "{out}");
}

/// What is explained with these words: whether the client gets an answer, and a part of what is said.
fn explains(manifests: &str, rows: &[(&str, bool, &str)]) {
    for (words, good, what) in rows {
        let (result, out) = command(manifests, words);
        assert_eq!(succeeded(&result.unwrap()), *good, "{words}: {out}");
        assert!(out.contains(what), "{words}: {out}");
    }
}

#[test]
fn explain_fails_where_the_client_gets_an_error() {
    let rows = [
        ("explain @ http://example.com/a", true, "  at plain addresses\n"),
        (
            "explain @ http://example.com/b",
            false,
            "  with 503: no backend of it has a ready endpoint",
        ),
        ("explain @ http://example.com/a%2Fb", false, "  with 400: a server that decodes"),
        ("explain @ http://example.com/a/c%2Fb", true, "is answered by"),
        ("explain @ http://other.com/", false, "is answered by no rule: 404"),
        ("explain @ http://other.com/", false, "\n2 rules of other hosts with --all\n"),
        (
            "explain --all @ http://other.com/",
            false,
            "(example.com Prefix /a)  host does not match",
        ),
        ("explain @ http://127.0.0.1:8080/ -H Host:example.com", false, "503"),
    ];
    explains(MANIFESTS, &rows);
}

/// An Ingress without any protection, and its backend.
const OPEN: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: open}
spec:
  rules:
  - host: example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: b-1, labels: {kubernetes.io/service-name: b}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{port: 8080}]
---
";

/// The backend of it alone: Service `b` with an endpoint.
fn backend() -> &'static str {
    OPEN.split_once("---\n").unwrap().1
}

/// Two gateways that have an address each, and one host on the second.
const GATEWAYS: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: p, namespace: metallb-system}
spec: {addresses: [192.0.2.1-192.0.2.9]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: one}
spec: {controller: gatehouse.io/ingress, parameters: {kind: Service, scope: Namespace, namespace: default, name: one}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: two}
spec: {controller: gatehouse.io/ingress, parameters: {kind: Service, scope: Namespace, namespace: default, name: two}}
---
apiVersion: v1
kind: Service
metadata: {name: one, annotations: {metallb.io/loadBalancerIPs: 192.0.2.1}}
spec: {type: LoadBalancer, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, annotations: {metallb.io/loadBalancerIPs: 192.0.2.2}}
spec: {type: LoadBalancer, ports: [{name: http, port: 80}]}
---
";

#[test]
fn explain_asks_the_listener_that_the_request_comes_to() {
    let class = "spec:\n  ingressClassName: two\n  rules";
    let manifests =
        format!("{GATEWAYS}{}", MANIFESTS.trim_start().replace("spec:\n  rules", class));
    let rows = [
        ("explain @ http://example.com/a", true, "  at gateway default/two\n"),
        ("explain @ http://192.0.2.2/a -H Host:example.com", true, "  at gateway default/two\n"),
        ("explain @ http://192.0.2.1/a -H Host:example.com", false, "is answered by no rule: 404"),
        (
            "explain @ http://192.0.2.1/a -H Host:example.com",
            false,
            "  Ingress default/web  it is served on the addresses of gateway default/two only\n",
        ),
        (
            "explain --gateway default/one @ http://example.com/a",
            false,
            "  at gateway default/one\n",
        ),
        ("explain @ http://127.0.0.1:8080/a -H Host:example.com", true, "  at plain addresses\n"),
    ];
    explains(&manifests, &rows);
}

#[test]
fn explain_refuses_what_is_no_request() {
    for (words, why) in [
        ("explain @ example.com/", "is not a URL"),
        ("explain x @", "is a file, the URL comes last"),
        ("explain @ http://a..b/", "\"a..b\" is not a host name"),
        ("explain @ http://a/%00", "\"/%00\" would be refused"),
        ("explain @ http://a/ -H nothing", "is not NAME: VALUE"),
        ("explain @ http://a:x1/", "is not a host name"),
        ("explain @ http://a:99999/", "is not a port"),
        ("explain @ http://127.0.0.1/", "nothing listens on 127.0.0.1:80; there is 127.0.0.1:8080"),
        ("explain @ http://127.0.0.1:8443/", "speaks TLS: write https://"),
        ("explain --gateway d/g @ http://a/", "no class of ours has d/g as its gateway"),
    ] {
        let (result, _) = command(MANIFESTS, words);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(why), "{words}: {error}");
    }
}

#[test]
fn the_snapshot_shows_backends_and_what_they_did() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("in.yaml"), MANIFESTS).unwrap();
    let planned = planned(&[folder.path().to_owned()], NodeContext::default()).unwrap();
    let shown = snapshot_json(&planned.compiled, 3);
    assert_eq!(shown["generation"], 3);
    let backends = shown["backends"].as_array().unwrap();
    let backend = backends.iter().find(|backend| backend["service"] == "default/a").unwrap();
    assert_eq!(backend["endpoints"][1]["address"], "127.0.0.2:8080");
    assert_eq!(backend["endpoints"][1]["requests"], 0);
    assert_eq!(shown["problems"][0]["reason"], "NoEndpoints");
}

const PASSED_ON: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [10.0.0.200-10.0.0.210]}
---
apiVersion: v1
kind: Service
metadata: {name: dns, annotations: {gatehouse.io/forwarding: kernel}}
spec:
  type: LoadBalancer
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  ports: [{name: tcp, port: 53}, {name: udp, port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: sql, annotations: {gatehouse.io/tls-server-names: '*.db.test=dns'}}
spec: {type: LoadBalancer, ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}]
ports: [{name: tcp, port: 5353}, {name: udp, port: 5353, protocol: UDP}]
";

#[test]
fn ports_of_services_are_named_whoever_passes_them_on() {
    let (_, table) = command(PASSED_ON, "plan @");
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        "10.0.0.200:53 - tcp kernel default/dns 10.1.0.1:5353, 10.1.0.2:5353",
        "10.0.0.200:53 - udp kernel default/dns 10.1.0.1:5353, 10.1.0.2:5353",
        "10.0.0.201:5432 - tcp gateway default/sql none",
        "10.0.0.201:5432 *.db.test tcp gateway default/dns none",
    ] {
        let row: Vec<_> = row.split(' ').collect();
        assert!(rows.contains(&row), "{row:?} is not in\n{table}");
    }
    let (_, text) = command(PASSED_ON, "plan -o json @");
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        plan["forwarded"][0],
        json!({
            "address": "10.0.0.200:53",
            "protocol": "tcp",
            "by": "kernel",
            "service": "default/dns",
            "endpoints": ["10.1.0.1:5353", "10.1.0.2:5353"],
            "server_names": [],
            "client_affinity_seconds": 60,
        })
    );
}
