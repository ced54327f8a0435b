use super::*;
use crate::testing::objects;

fn translated(spec: &str) -> RouteTranslation {
    let objects =
        objects(&format!("kind: Route\nmetadata: {{name: r, namespace: d}}\nspec: {spec}"));
    let (key, stored) = objects.routes.first_key_value().unwrap();
    translate(
        key,
        &stored.object,
        (&Options::default(), &Objects::default()),
        None,
        &mut Slots::new(None),
    )
}

#[test]
fn a_service_named_twice_keeps_its_last_weight() {
    let out = translated(
        "{host: a.com, to: {name: s, weight: 1}, alternateBackends: [{name: t, weight: 2}, {name: s, weight: 3}]}",
    );
    let Action::Forward(forward) = &out.translation.entries[0].rules[0].action else { panic!() };
    let weights: Vec<_> =
        forward.spec.backends.iter().map(|b| (&*b.key.service.name, b.weight)).collect();
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
