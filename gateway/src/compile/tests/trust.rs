//! What a source may ask for, and what it may not.

use super::*;

/// A source behind which there is a cluster with tenants.
const CLUSTER: Source = Source {
    id: SourceId("cluster"),
    trust: NONE,
    kinds: Kind::ALL,
    by_name: &[],
    whole_batches: false,
};
const NONE: SourceTrust = SourceTrust { loopback_endpoints: false, standalone: false };

/// An Ingress with two backends in the namespace: `app` by addresses, `name` by an external name.
fn app(namespace: &str, address: &str, name: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: app, namespace: {namespace}}}
spec:
  ingressClassName: gatehouse
  rules:
  - host: {namespace}.example.com
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}
      - {{path: /n, pathType: Prefix, backend: {{service: {{name: name, port: {{number: 80}}}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: app, namespace: {namespace}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: name, namespace: {namespace}}}
spec: {{type: ExternalName, externalName: {name}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: app, namespace: {namespace}, labels: {{kubernetes.io/service-name: app}}}}
addressType: IPv4
endpoints: [{{addresses: [{address}]}}, {{addresses: [10.0.0.1]}}]
ports: [{{port: 80}}]
"
    )
}

const CLASS: &str = "
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: gatehouse}
spec: {controller: gatehouse.io/ingress}
";

/// `service: addresses and names, those that may lead to this host marked` of every backend.
fn backends(compiled: &Compiled) -> Vec<String> {
    let backends = compiled.routes.backends.slots.iter().flatten();
    let mut shown: Vec<_> = backends
        .map(|backend| {
            let set = &backend.endpoints;
            let addresses = set.endpoints.iter().map(|endpoint| endpoint.address.to_string());
            let names = set.external.iter().map(|name| {
                format!("{}{}", name.host, if name.loopback { " or this host" } else { "" })
            });
            let all: Vec<_> = addresses.chain(names).collect();
            format!("{}: {}", backend.key.service, all.join(" "))
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn a_cluster_may_not_name_loopback_and_files_beside_it_may() {
    let mut state = ClusterState::new([SOURCE, CLUSTER]);
    tell(&mut state, &app("files", "127.0.0.1", "localhost"), SOURCE);
    tell(&mut state, &format!("{}{CLASS}", app("tenant", "127.0.0.1", "a.com")), CLUSTER);
    let mixed = compile(&state, &node(), None);
    assert_eq!(
        backends(&mixed),
        [
            "files/app: 10.0.0.1:80 127.0.0.1:80",
            "files/name: localhost or this host",
            "tenant/app: 10.0.0.1:80",
            "tenant/name: a.com",
        ]
    );
    assert_eq!(
        reasons(&mixed),
        ["AddressRefused EndpointSlice tenant/app endpoints[0].addresses[0]"]
    );
}

#[test]
fn an_untrusted_source_reaches_loopback_under_no_spelling() {
    for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "::127.0.0.1"] {
        let yaml = format!("{}{CLASS}", app("tenant", &format!("'{address}'"), "localhost"));
        let compiled = compile(&state_of(&yaml, CLUSTER), &node(), None);
        assert_eq!(backends(&compiled), ["tenant/app: 10.0.0.1:80", "tenant/name: "], "{address}");
        let expected = [
            "AddressRefused EndpointSlice tenant/app endpoints[0].addresses[0]",
            "InvalidExternalName Service tenant/name spec.externalName",
        ];
        assert_eq!(reasons(&compiled), expected, "{address}");
    }
}

#[test]
fn an_object_that_a_less_trusted_source_takes_over_loses_what_only_the_other_may() {
    let yaml = format!("{}{CLASS}", app("a", "127.0.0.1", "localhost"));
    let mut state = ClusterState::new([SOURCE, CLUSTER]);
    tell(&mut state, &yaml, CLUSTER);
    tell(&mut state, &yaml, SOURCE);
    let before = compile(&state, &node(), None);
    assert_eq!(
        backends(&before),
        ["a/app: 10.0.0.1:80 127.0.0.1:80", "a/name: localhost or this host"]
    );
    let manifest = Manifest::of(&yaml);
    let gone = manifest.objects().map(|it| Change::Delete(it.object.kind(), it.object.key()));
    state.apply(Event::Batch(SOURCE.id, gone.collect()));
    let after = compile(&state, &node(), Some(&before));
    assert_eq!(backends(&after), ["a/app: 10.0.0.1:80", "a/name: "]);
}
