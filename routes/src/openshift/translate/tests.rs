use super::*;
use crate::testing::objects;

#[test]
fn every_field_of_the_api_survives_reading_and_writing() {
    let text = r#"{
        "metadata": {"name": "r", "namespace": "d"},
        "spec": {
            "host": "foo.com", "subdomain": "x", "path": "/p",
            "to": {"kind": "Service", "name": "a", "weight": 1},
            "alternateBackends": [{"kind": "Service", "name": "b", "weight": 2}],
            "port": {"targetPort": "http"},
            "tls": {
                "termination": "reencrypt", "certificate": "C", "key": "K", "caCertificate": "CA",
                "destinationCACertificate": "D", "insecureEdgeTerminationPolicy": "Allow",
                "externalCertificate": {"name": "s"}
            },
            "wildcardPolicy": "None",
            "httpHeaders": {"actions": {
                "request": [{"name": "X", "action": {"type": "Set", "set": {"value": "v"}}}],
                "response": [{"name": "Y", "action": {"type": "Delete"}}]
            }}
        },
        "status": {"ingress": [{"host": "foo.com"}]}
    }"#;
    let given: serde_json::Value = serde_json::from_str(text).unwrap();
    let route: Route = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&route).unwrap(), given);
}

#[test]
fn unknown_fields_are_ignored() {
    let route: Result<Route, _> = serde_json::from_str(
        r#"{"apiVersion": "route.openshift.io/v1", "spec": {"new": 1}, "x": 2}"#,
    );
    assert_eq!(route.unwrap(), Route::default());
}

fn translated(spec: &str) -> RouteTranslation {
    let objects =
        objects(&format!("kind: Route\nmetadata: {{name: r, namespace: d}}\nspec: {spec}"));
    let (key, stored) = objects.routes.first_key_value().unwrap();
    translate(key, &stored.object, &Options::default(), &mut Slots::new(None))
}

#[test]
fn a_service_named_twice_keeps_its_last_weight() {
    let out = translated(
        "{host: a.com, to: {name: s, weight: 1}, alternateBackends: [{name: t, weight: 2}, {name: s, weight: 3}]}",
    );
    let Some(Action::Forward(forward)) = &out.translation.entries[0].rules[0].http else {
        panic!()
    };
    let weights: Vec<_> =
        forward.backends.iter().map(|b| (&*b.key.service.name, b.weight)).collect();
    assert_eq!(weights, [("t", 2), ("s", 3)]);
}

#[test]
fn the_key_may_come_with_the_certificate() {
    let pem = "'-----BEGIN CERTIFICATE----- -----BEGIN PRIVATE KEY-----'";
    let out = translated(&format!("{{host: a.com, to: {{name: s}}, tls: {{certificate: {pem}}}}}"));
    let [cert] = &out.translation.certs[..] else { panic!() };
    let CertSource::Inline { certificate, key } = &cert.source else { panic!() };
    assert_eq!(certificate, key);
    // A key alone is ignored.
    assert!(translated("{host: a.com, to: {name: s}, tls: {key: K}}").translation.certs.is_empty());
}

#[test]
fn target_ports_are_texts_and_neither_empty_nor_zero() {
    for (port, expected) in
        [("8080", Some("8080")), ("http", Some("http")), ("0", None), ("''", None)]
    {
        let out =
            translated(&format!("{{host: a.com, to: {{name: s}}, port: {{targetPort: {port}}}}}"));
        let used = out.translation.backends.first().map(|usage| usage.key.port.clone());
        assert_eq!(used, expected.map(|text| BackendPort::Target(text.into())));
    }
}
