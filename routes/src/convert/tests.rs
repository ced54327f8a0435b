use serde_json::json;

use super::*;
use crate::{annotations::Written, compile::compile, options::Options, testing};

const SERVICES: &str = "
kind: Service
metadata: {name: app, namespace: d}
spec: {ports: [{name: web, port: 80, targetPort: 8080}, {port: 81, targetPort: admin}]}
---
kind: Service
metadata: {name: next, namespace: d}
spec: {ports: [{name: web, port: 80, targetPort: 8080}]}
";

fn fields(converted: &Converted) -> Vec<&str> {
    converted.problems.iter().map(|problem| &*problem.field).collect()
}

#[test]
fn each_path_of_an_ingress_becomes_a_route() {
    let objects = testing::objects(&format!(
        "{SERVICES}
---
kind: Ingress
metadata: {{name: shop, namespace: d, labels: {{a: b}}, annotations: {{haproxy.router.openshift.io/timeout: 5s, kubernetes.io/ingress.class: x}}}}
spec:
  tls: [{{hosts: [shop.com], secretName: pair}}]
  defaultBackend: {{service: {{name: app, port: {{number: 80}}}}}}
  rules:
  - host: shop.com
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}
      - {{path: /api/, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 81}}}}}}}}
      - {{path: /exact, pathType: Exact, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}
  - host: '*.wild.com'
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: none, port: {{number: 80}}}}}}}}]}}
  - http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}]}}
"
    ));
    let converted = routes(&objects);
    let [root, api, wild] = &converted.manifests[..] else { panic!("{:#?}", converted.manifests) };
    let tls = json!({
        "termination": "edge",
        "insecureEdgeTerminationPolicy": "Redirect",
        "externalCertificate": { "name": "pair" },
    });
    assert_eq!(root["spec"]["tls"], tls);
    assert_eq!(root["spec"]["port"]["targetPort"], "web");
    assert_eq!(root["metadata"]["labels"], json!({ "a": "b" }));
    assert_eq!(
        root["metadata"]["annotations"],
        json!({ "haproxy.router.openshift.io/timeout": "5s" })
    );
    assert!(root["spec"]["path"].is_null());
    assert_eq!(api["spec"]["path"], "/api");
    assert!(api["spec"]["port"].is_null(), "the port has no name");
    assert_eq!(wild["spec"]["host"], "wildcard.wild.com");
    assert_eq!(wild["spec"]["wildcardPolicy"], "Subdomain");
    assert!(wild["spec"]["tls"].is_null());
    assert_eq!(
        fields(&converted),
        [
            "spec.defaultBackend",
            "spec.rules[0].http.paths[2].pathType",
            "spec.rules[1].http.paths[0].backend.service",
            "spec.rules[2].host",
        ]
    );
    let names: std::collections::HashSet<_> =
        converted.manifests.iter().map(|one| one["metadata"]["name"].to_string()).collect();
    assert_eq!(names.len(), 3);
}

#[test]
fn a_route_becomes_an_ingress_with_canaries_and_a_secret() {
    let objects = testing::objects(&format!(
        "{SERVICES}
---
kind: Route
metadata: {{name: shop, namespace: d}}
spec:
  host: shop.com
  path: /shop
  port: {{targetPort: 8080}}
  to: {{kind: Service, name: app, weight: 3}}
  alternateBackends: [{{kind: Service, name: next, weight: 1}}]
  tls: {{termination: edge, insecureEdgeTerminationPolicy: Allow, certificate: C, key: K}}
---
kind: Route
metadata: {{name: none, namespace: d}}
spec: {{to: {{name: app}}}}
"
    ));
    let converted = ingresses(&objects, Some("gatehouse"));
    let [own, canary, secret] = &converted.manifests[..] else { panic!() };
    assert_eq!(
        own["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"]["number"],
        80
    );
    assert_eq!(own["spec"]["ingressClassName"], "gatehouse");
    assert_eq!(own["spec"]["tls"], json!([{ "hosts": ["shop.com"], "secretName": "shop-tls" }]));
    let annotation = |of: &Value, name: Written| of["metadata"]["annotations"][name.name()].clone();
    assert_eq!(annotation(own, Written::SslRedirect), "false");
    assert_eq!(annotation(canary, Written::CanaryWeight), "1");
    assert_eq!(annotation(canary, Written::CanaryWeightTotal), "4");
    assert_eq!(secret["stringData"], json!({ "tls.crt": "C", "tls.key": "K" }));
    assert_eq!(fields(&converted), ["spec.host"]);
}

/// What is converted there answers as what it is made of.
#[test]
fn a_route_whose_weights_serve_nobody_makes_no_ingress_that_serves_everybody() {
    let route = |to: &str| {
        let objects = testing::objects(&format!(
            "{SERVICES}---\nkind: Route\nmetadata: {{name: r, namespace: d}}\nspec: {{host: r.com, {to}}}\n"
        ));
        let converted = ingresses(&objects, None);
        let errors = converted.problems.iter().filter(|problem| problem.is_error());
        (converted.manifests.len(), errors.map(|it| it.field.to_string()).collect::<Vec<_>>())
    };
    for (to, made) in [
        ("to: {name: app, weight: 0}", 0),
        ("to: {name: app, weight: 0}, alternateBackends: [{name: next, weight: 0}]", 0),
        ("to: {name: app, weight: 0}, alternateBackends: [{name: next, weight: 1}]", 2),
        ("to: {name: app}", 1),
    ] {
        let errors = if made == 0 { vec!["spec.to.weight".to_owned()] } else { vec![] };
        assert_eq!(route(to), (made, errors), "{to}");
    }
}

#[test]
fn a_route_that_sets_fields_of_requests_makes_no_ingress_that_lets_clients_say_them() {
    for (direction, action, made) in [
        ("request", "{type: Delete}", 0),
        ("request", "{type: Set, set: {value: b}}", 0),
        ("response", "{type: Delete}", 1),
    ] {
        let objects = testing::objects(&format!(
            "{SERVICES}---\nkind: Route\nmetadata: {{name: r, namespace: d}}\nspec: {{host: r.com, to: {{name: app}}, \
             httpHeaders: {{actions: {{{direction}: [{{name: X-User, action: {action}}}]}}}}}}\n"
        ));
        let converted = ingresses(&objects, None);
        assert_eq!(converted.manifests.len(), made, "{direction} {action}");
        assert_eq!(converted.problems.iter().any(Problem::is_error), made == 0);
    }
}

#[test]
fn a_slash_at_the_end_of_a_routes_path_is_said_to_mean_less() {
    for (path, told) in [("/", false), ("/a", false), ("/a/", true)] {
        let objects = testing::objects(&format!(
            "{SERVICES}---\nkind: Route\nmetadata: {{name: r, namespace: d}}\nspec: {{host: r.com, path: {path}, to: {{name: app}}}}\n"
        ));
        let converted = ingresses(&objects, None);
        assert_eq!(fields(&converted).contains(&"spec.path"), told, "{path}");
    }
}

#[test]
fn both_ways_lead_to_the_same_backends() {
    let options = Options { claim_classes: vec!["nginx".into()], ..Options::default() };
    let mut objects = testing::objects(&format!(
        "{SERVICES}
---
kind: Route
metadata: {{name: shop, namespace: d}}
spec: {{host: shop.com, path: /shop, to: {{name: app}}, tls: {{termination: edge, insecureEdgeTerminationPolicy: Redirect}}}}
"
    ));
    let urls = ["http://shop.com/shop", "https://shop.com/shop/x", "https://shop.com/shopx"];
    let status = |objects: &_| {
        let compiled = compile(objects, &options, None);
        urls.map(|url| testing::answer(&compiled, url)[..1].to_owned())
    };
    let before = status(&objects);
    let converted = ingresses(&objects, Some("nginx"));
    objects.routes.clear();
    for manifest in converted.manifests {
        testing::add(&mut objects, 9, manifest);
    }
    let between = status(&objects);
    assert_eq!((&before[0], &between[0]), (&"r".to_owned(), &"r".to_owned()), "redirects");
    assert_eq!((&before[1], &between[1]), (&"a".to_owned(), &"a".to_owned()), "the application");
    let back = routes(&objects);
    objects.ingresses.clear();
    for manifest in back.manifests {
        testing::add(&mut objects, 9, manifest);
    }
    assert_eq!(status(&objects), before);
}

/// An Ingress with annotations of ingress-nginx, `name: value` in YAML.
fn ingress(name: &str, annotations: &str, path: &str) -> String {
    let annotations: String = annotations
        .split(';')
        .filter(|one| !one.trim().is_empty())
        .map(|one| format!("    nginx.ingress.kubernetes.io/{}\n", one.trim()))
        .collect();
    format!(
        "---\nkind: Ingress\nmetadata:\n  name: {name}\n  namespace: d\n  annotations:\n    example.com/x: me\n{annotations}\
         spec:\n  rules:\n  - host: shop.com\n    http: {{paths: [{{path: '{path}', pathType: ImplementationSpecific, \
         backend: {{service: {{name: app, port: {{number: 80}}}}}}}}]}}\n"
    )
}

fn converted(manifests: &str) -> Converted {
    routes(&testing::objects(&format!("{SERVICES}{manifests}")))
}

#[test]
fn a_protection_that_a_route_cannot_say_makes_no_route_and_an_error() {
    for annotations in [
        "auth-url: http://a.b/",
        "auth-type: basic; auth-secret: users",
        "auth-tls-secret: d/ca",
        "denylist-source-range: 10.0.0.0/8",
        "whitelist-source-range: nonsense",
        "limit-rps: '5'; limit-whitelist: nonsense",
        "limit-rate: '3'",
        "proxy-body-size: 1m",
        "backend-protocol: GRPC",
        "backend-protocol: HTTPS",
        "configuration-snippet: deny all;",
        "rewrite-target: /other",
        "rewrite-target: '/index.php?a=b'",
        "use-regex: 'true'; rewrite-target: '/index.php?path=/$2'",
        "permanent-redirect: 'https://elsewhere.test/'",
        "temporal-redirect: 'https://elsewhere.test/'",
        "modsecurity-snippets: x",
    ] {
        let converted = converted(&ingress("x", annotations, "/a"));
        assert_eq!(converted.manifests, Vec::<Value>::new(), "{annotations}");
        let errors = converted.problems.iter().filter(|problem| problem.is_error());
        let reasons: Vec<_> = errors.map(|problem| problem.reason).collect();
        assert!(reasons.starts_with(&["NotConverted"]), "{annotations}: {reasons:?}");
    }
    for path in ["/[a-z]+", "/a(/|$)(.*)x"] {
        let converted = converted(&ingress("x", "use-regex: 'true'", path));
        assert!(converted.manifests.is_empty() && converted.problems[0].is_error(), "{path}");
    }
}

#[test]
fn annotations_of_an_ingress_become_those_that_say_the_same_on_a_route() {
    for (annotations, path, expected, spec) in [
        (
            "whitelist-source-range: '10.0.0.0/8,1.2.3.4'",
            "/a",
            json!({"haproxy/ip_whitelist": "10.0.0.0/8 1.2.3.4"}),
            json!({}),
        ),
        (
            "limit-rps: '5'; limit-rpm: '60'; limit-connections: '3'",
            "/a",
            json!({
                "gatehouse/limit-rps": "5",
                "gatehouse/limit-rpm": "60",
                "haproxy/rate-limit-connections": "true",
                "haproxy/rate-limit-connections.concurrent-tcp": "3",
            }),
            json!({}),
        ),
        (
            "limit-rpm: '5'; limit-burst-multiplier: '2'; limit-whitelist: 1.2.3.4; limit-allowlist: 10.0.0.0/8",
            "/a",
            json!({
                "gatehouse/limit-rpm": "5",
                "gatehouse/limit-burst-multiplier": "2",
                "gatehouse/limit-allowlist": "10.0.0.0/8,1.2.3.4",
            }),
            json!({}),
        ),
        (
            "proxy-buffering: 'on'; proxy-buffer-size: 16k; proxy-buffers-number: '8'; proxy-max-temp-file-size: '0'",
            "/a",
            json!({
                "gatehouse/response-buffering": "on",
                "gatehouse/response-memory": "131072",
                "gatehouse/response-file": "0",
            }),
            json!({}),
        ),
        (
            "proxy-read-timeout: '90'",
            "/a",
            json!({"haproxy/timeout": "90000ms", "haproxy/timeout-tunnel": "90000ms"}),
            json!({}),
        ),
        (
            "affinity: cookie; session-cookie-name: s",
            "/a",
            json!({"router/cookie_name": "s"}),
            json!({}),
        ),
        (
            "rewrite-target: /$2",
            "/a(/|$)(.*)",
            json!({"haproxy/rewrite-target": "/"}),
            json!({"path": "/a"}),
        ),
        (
            "rewrite-target: /v2/$1",
            "/a/(.*)",
            json!({"haproxy/rewrite-target": "/v2"}),
            json!({"path": "/a/"}),
        ),
        ("rewrite-target: /$1", "/(.*)", json!({}), json!({})),
        ("rewrite-target: /a", "/a", json!({}), json!({"path": "/a"})),
        (
            "force-ssl-redirect: 'true'",
            "/a",
            json!({}),
            json!({"tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}}),
        ),
        (
            "force-ssl-redirect: 'true'; backend-protocol: HTTPS",
            "/a",
            json!({}),
            json!({"tls": {"termination": "reencrypt", "insecureEdgeTerminationPolicy": "Redirect"}}),
        ),
        (
            "ssl-passthrough: 'true'",
            "/",
            json!({}),
            json!({"tls": {"termination": "passthrough", "insecureEdgeTerminationPolicy": "Redirect"}}),
        ),
    ] {
        let converted = converted(&ingress("x", annotations, path));
        assert!(
            !converted.problems.iter().any(Problem::is_error),
            "{annotations}: {:?}",
            converted.problems
        );
        let [route] = &converted.manifests[..] else { panic!("{annotations}") };
        let mut own = Map::from_iter([("example.com/x".to_owned(), "me".into())]);
        for (name, value) in expected.as_object().unwrap() {
            let (family, name) = name.split_once('/').unwrap();
            let prefix = match family {
                "haproxy" => "haproxy.router.openshift.io",
                "router" => "router.openshift.io",
                _ => "gatehouse.io",
            };
            own.insert(format!("{prefix}/{name}"), value.clone());
        }
        assert_eq!(route["metadata"]["annotations"], Value::Object(own), "{annotations}");
        for (name, value) in spec.as_object().unwrap() {
            assert_eq!(route["spec"][name], *value, "{annotations}");
        }
    }
}

#[test]
fn clear_text_that_an_ingress_serves_beside_tls_a_route_serves_too() {
    let tls = "  tls: [{hosts: [shop.com]}]\n";
    for (annotation, policy) in
        [("ssl-redirect: 'false'", "Allow"), ("ssl-redirect: 'true'", "Redirect"), ("", "Redirect")]
    {
        let converted = converted(&(ingress("x", annotation, "/a") + tls));
        assert_eq!(converted.manifests[0]["spec"]["tls"]["insecureEdgeTerminationPolicy"], policy);
    }
}

#[test]
fn the_authorities_that_an_ingress_names_stand_in_its_route() {
    let own = "    route.openshift.io/termination: reencrypt\n    \
               route.openshift.io/destination-ca-certificate-secret: ca\nspec:\n";
    let text = ingress("x", "", "/a").replace("spec:\n", own);
    let secret = |key: &str| {
        format!(
            "---\nkind: Secret\nmetadata: {{name: ca, namespace: d}}\nstringData: {{{key}: CA}}\n"
        )
    };
    for key in ["tls.crt", "ca.crt"] {
        let converted = converted(&(text.clone() + &secret(key)));
        assert_eq!(converted.problems, [], "{key}");
        let tls = &converted.manifests[0]["spec"]["tls"];
        assert_eq!(tls["destinationCACertificate"], "CA", "{key}");
        assert_eq!(tls["termination"], "reencrypt", "{key}");
    }
    // A Route without them would believe any pod.
    for missing in [text.clone(), text + &secret("other")] {
        let converted = converted(&missing);
        assert_eq!(converted.manifests, [] as [Value; 0]);
        assert!(converted.problems[0].field.contains("destination-ca"), "{:?}", converted.problems);
    }
}

#[test]
fn what_protects_nothing_is_left_out_with_a_warning() {
    let converted =
        converted(&ingress("x", "enable-cors: 'true'; proxy-connect-timeout: '8'", "/a"));
    assert_eq!(converted.manifests[0]["metadata"]["annotations"], json!({ "example.com/x": "me" }));
    let [cors, timeout] = &converted.problems[..] else { panic!("{:?}", converted.problems) };
    assert!(!cors.is_error() && cors.message.contains("protects nothing"), "{cors:?}");
    assert!(cors.field.contains("enable-cors") && timeout.field.contains("proxy-connect-timeout"));
}

#[test]
fn a_canary_becomes_a_backend_of_the_route_of_its_path_or_nothing() {
    let next = |text: String| text.replace("name: app,", "name: next,");
    let canary =
        |name: &str, more: &str| next(ingress(name, &format!("canary: 'true'; {more}"), "/a"));
    let weights = |converted: &Converted| {
        let spec = &converted.manifests[0]["spec"];
        (spec["to"]["weight"].clone(), spec["alternateBackends"].clone())
    };
    let own = ingress("own", "", "/a");
    for (more, to, weight) in [
        ("canary-weight: '20'", 80, 20),
        ("canary-weight: '1'; canary-weight-total: '1000'", 255, 1),
        ("canary-weight: '100'", 0, 100),
    ] {
        // The canary comes first or last by its name.
        for name in ["a", "z"] {
            let converted = converted(&(own.clone() + &canary(name, more)));
            assert_eq!(converted.manifests.len(), 1, "{more}");
            assert!(converted.problems.is_empty(), "{:?}", converted.problems);
            let other = json!([{ "kind": "Service", "name": "next", "weight": weight }]);
            assert_eq!(weights(&converted), (to.into(), other), "{more}");
        }
    }
    let both = converted(
        &(own.clone() + &canary("b", "canary-weight: '10'") + &canary("c", "canary-weight: '95'")),
    );
    assert_eq!(weights(&both).0, 90);
    assert!(both.problems[0].message.contains("more than all"), "{:?}", both.problems);
    for more in ["canary-by-header: x", "canary-by-cookie: x", "canary-weight: '0'", ""] {
        let converted = converted(&(own.clone() + &canary("z", more)));
        assert_eq!(weights(&converted), (100.into(), Value::Null), "{more}");
        assert_eq!(converted.manifests.len(), 1);
        assert!(!converted.problems.is_empty(), "{more}");
    }
    let alone = converted(&canary("z", "canary-weight: '20'"));
    assert!(alone.manifests.is_empty() && alone.problems.len() == 1);
    // What it is a canary of is not made, so it is not, either.
    let closed = ingress("own", "auth-url: http://a.b/", "/a");
    assert!(converted(&(closed + &canary("z", "canary-weight: '20'"))).manifests.is_empty());
}

#[test]
fn a_route_with_what_is_read_on_an_ingress_only_does_not_become_one_that_does_it() {
    let route = |annotation: &str, tls: &str| {
        let objects = testing::objects(&format!(
            "{SERVICES}---\nkind: Route\nmetadata: {{name: shop, namespace: d, annotations: {{{annotation}}}}}\n\
             spec: {{host: shop.com, to: {{name: app}}{tls}}}\n"
        ));
        ingresses(&objects, None)
    };
    let closed = route("nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8", "");
    assert!(closed.manifests.is_empty() && closed.problems[0].is_error());
    let plain = route("nginx.ingress.kubernetes.io/enable-cors: 'true'", "");
    assert!(plain.manifests[0]["metadata"]["annotations"].is_null());
    assert_eq!(plain.problems.len(), 1);
    let limited = route("haproxy.router.openshift.io/ip_allowlist: 10.0.0.0/8", "");
    let kept = json!({ "haproxy.router.openshift.io/ip_allowlist": "10.0.0.0/8" });
    assert_eq!(limited.manifests[0]["metadata"]["annotations"], kept);
    // Who verified the pods does so still.
    let tls = ", tls: {termination: reencrypt, insecureEdgeTerminationPolicy: Redirect, destinationCACertificate: CA}";
    let verified = route("", tls);
    let [ingress, secret] = &verified.manifests[..] else { panic!("{:?}", verified.manifests) };
    let annotations = &ingress["metadata"]["annotations"];
    assert_eq!(annotations[Written::ProxySslSecret.name()], "d/shop-ca");
    assert_eq!(annotations[Written::ProxySslVerify.name()], "on");
    assert_eq!(secret["stringData"], json!({ "ca.crt": "CA" }));
    assert_eq!(verified.problems, []);
}
