//! A compile that follows many others says what the first one would have said.

use serde_json::Value;

use super::*;
use crate::{options::admission::Ownership, rule::RouteRule};

/// Names of objects of each kind. Few, so that they replace each other and collide.
const NAMES: u8 = 4;

/// What becomes of an object: another version of it, or none.
type Edit = (u8, u8, Option<(u8, u8, u8, u8, u8)>);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let version = (0..7u8, 0..3u8, 0..4u8, 0..3u8, 0..8u8);
    proptest::collection::vec((0..6u8, 0..NAMES, proptest::option::weighted(0.8, version)), 1..24)
}

fn metadata(name: &str, age: u8, annotations: &Value) -> Value {
    json!({
        "name": name, "namespace": format!("n{}", name.len() % 2), "uid": format!("{name}-{age}"),
        "creationTimestamp": format!("200{age}-01-01T00:00:00Z"), "annotations": annotations,
    })
}

/// The object that an edit is about, and its next version.
fn read((kind, name, version): &Edit) -> (&'static str, ObjectKey, Option<Value>) {
    let kind =
        ["Ingress", "Route", "Service", "EndpointSlice", "Secret", "IngressClass"][*kind as usize];
    let text = match kind {
        "IngressClass" => format!("c{name}"),
        _ => format!("{}{name}", if *name > 1 { "o" } else { "oo" }),
    };
    let namespace =
        if kind == "IngressClass" { String::new() } else { format!("n{}", text.len() % 2) };
    let key = ObjectKey::new(namespace, &*text);
    let value = version.map(|(host, path, service, age, more)| {
        let host = ["a.x.com", "b.x.com", "*.x.com", "a.x.com", "", "a.y.com", "*.y.com"][host as usize];
        let path = ["/", "/a", "/a/"][path as usize];
        let service = format!("{}{service}", if service > 1 { "o" } else { "oo" });
        let annotations = match more {
            1 => json!({ "nginx.ingress.kubernetes.io/canary": "true",
                         "nginx.ingress.kubernetes.io/canary-weight": "30" }),
            2 => json!({ "nginx.ingress.kubernetes.io/server-alias": "b.x.com, c.x.com" }),
            3 => json!({ "nginx.ingress.kubernetes.io/auth-type": "basic",
                         "nginx.ingress.kubernetes.io/auth-secret": service }),
            4 => json!({ "gatehouse.io/health-check": "tcp" }),
            _ => json!({}),
        };
        let metadata = metadata(&text, age, &annotations);
        let spec = match kind {
            "Ingress" => json!({
                "ingressClassName": match more { 5 => json!("c1"), 6 => json!("c2"), _ => Value::Null },
                "tls": if more == 7 { json!([{ "hosts": [host], "secretName": service }]) } else { json!([]) },
                "rules": [{ "host": host, "http": { "paths": [{ "path": path, "pathType": "Prefix",
                    "backend": { "service": { "name": service, "port": { "number": 80 } } } }] } }],
            }),
            "Route" => json!({
                "host": host.replace("*.", "w."), "path": path,
                "wildcardPolicy": if host.starts_with('*') { "Subdomain" } else { "None" },
                "to": { "name": service },
                "tls": match more {
                    5 => json!({ "termination": "passthrough" }),
                    6 => json!({ "termination": "edge" }),
                    _ => Value::Null,
                },
            }),
            "Service" => json!({ "ports": [{ "port": if more < 6 { 80 } else { 81 }, "targetPort": 8080 }] }),
            "IngressClass" => json!({
                "controller": if more == 0 { "another" } else { "gatehouse.io/ingress" },
                "parameters": if more < 4 { Value::Null } else { json!({
                    "kind": "Service", "scope": "Namespace", "namespace": "n0", "name": "gateway" }) },
            }),
            _ => Value::Null,
        };
        let mut value = json!({ "kind": kind, "metadata": metadata, "spec": spec });
        match kind {
            "EndpointSlice" => {
                value["metadata"]["labels"] = json!({ "kubernetes.io/service-name": service });
                value["addressType"] = json!("IPv4");
                value["ports"] = json!([{ "port": 8080 }]);
                value["endpoints"] = json!([{ "addresses": [format!("10.0.0.{more}")] }]);
            }
            "IngressClass" => value["metadata"]["namespace"] = json!(""),
            _ => {}
        }
        value
    });
    (kind, key, value)
}

fn remove(objects: &mut Objects, kind: &str, key: &ObjectKey) {
    match kind {
        "Ingress" => drop(objects.ingresses.remove(key)),
        "Route" => drop(objects.routes.remove(key)),
        "Service" => drop(objects.services.remove(key)),
        "EndpointSlice" => drop(objects.endpoint_slices.remove(key)),
        "Secret" => drop(objects.secrets.remove(key)),
        _ => drop(objects.ingress_classes.remove(key)),
    }
}

/// All that a compile says, without the numbers that depend on what was there before.
fn said(compiled: &Compiled) -> Vec<String> {
    let mut said = Vec::new();
    let hosts = ["a.x.com", "b.x.com", "c.x.com", "d.x.com", "x.com", "a.y.com", "b.y.com"];
    for table in &compiled.tables {
        said.push(format!("{:?} {:?} {:?}", table.scope, table.certs, table.passthrough));
        for (scheme, host) in hosts.iter().flat_map(|host| [("http", host), ("https", host)]) {
            for path in ["/", "/a", "/a/", "/b"] {
                let url = format!("{scheme}://{host}{path}");
                said.push(format!("{url} {}", answer_of(&table.routes, &url)));
            }
        }
        for (pattern, host) in table.routes.hosts() {
            let rule = |rule: &Arc<RouteRule>| {
                let forward = rule.forward().into_iter();
                let backends = forward.flat_map(|forward| &forward.spec.backends).map(|one| {
                    let backend = compiled.backends.get(one.slot).unwrap();
                    assert_eq!(backend.key, one.key);
                    let endpoints: Vec<_> = backend.endpoints.all().map(|at| at.address).collect();
                    format!("{:?}={} {endpoints:?}", one.key, one.weight)
                });
                format!("{} {:?} {:?}", rule.object, rule.matches, backends.collect::<Vec<_>>())
            };
            let rules: Vec<_> = host.rules().map(rule).collect();
            said.push(format!(
                "{pattern} {} {} {rules:#?}",
                host.no_fallthrough(),
                host.of_routes()
            ));
        }
        said.push(format!("{}", table.routes.watched_rules().count()));
    }
    said.push(format!("{:#?}", compiled.ingresses));
    said.push(format!("{:#?}", compiled.routes));
    said.push(format!("{:#?}", compiled.problems));
    said.push(format!("{:?} {:?}", compiled.wanted_secrets, compiled.wanted_config_maps));
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn after_any_edits_a_compile_says_what_the_first_one_would_have_said(
        edits in edits(), shared in any::<bool>(), wildcards in any::<bool>(),
    ) {
        let mut options = Options::default();
        options.route_admission.wildcards = wildcards;
        if shared {
            options.route_admission.ownership = Ownership::InterNamespaceAllowed;
        }
        let mut objects = objects("");
        let mut last: Option<Compiled> = None;
        for (count, edit) in edits.iter().enumerate() {
            let (kind, key, value) = read(edit);
            match value {
                Some(value) => add(&mut objects, 0, value),
                None => remove(&mut objects, kind, &key),
            }
            // Several edits come at once, too.
            if count % 3 == 1 {
                continue;
            }
            let next = compile(&objects, &options, last.as_ref());
            let fresh = compile(&objects, &options, None);
            prop_assert_eq!(said(&next), said(&fresh), "after {:?}", edit);
            last = Some(next);
        }
    }
}
