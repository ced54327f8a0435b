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
