//! Manifests for gatehouse: Ingresses, Routes, or a Service of type `LoadBalancer`.

use std::net::SocketAddr;

use gatehouse_testbed::manifests;

use super::{SERVICES, Site, service_of};
use crate::bench::{
    scenario::{EDGE, PASSTHROUGH, REENCRYPT},
    setup::{Feature, Serves, host_name},
};

pub(super) fn manifests(site: &Site) -> String {
    match site.setup.serves {
        Serves::Hosts { feature, .. } => ingresses(site, feature),
        Serves::Routes { clear } => routes(site, clear),
        Serves::Tcp => load_balancer(site),
    }
}

/// One Ingress for each host.
fn ingresses(site: &Site, feature: &Feature) -> String {
    let mut text = manifests::CLASS.to_owned();
    let certificate = &site.certificate;
    text += &manifests::tls_secret("bench", &certificate.certificate_pem, &certificate.key_pem);
    if !feature.objects.is_empty() {
        text += &format!("---\n{}", feature.objects);
    }
    for number in 0..SERVICES {
        text += &manifests::service(&service_of(number), site.endpoint());
    }
    let annotations = site.fill(feature.annotations);
    let comma = if annotations.is_empty() { "" } else { ", " };
    let (path, path_type) = feature.path;
    for (number, host) in site.hosts().iter().enumerate() {
        text += &format!(
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: site-{number}
  namespace: default
  annotations: {{nginx.ingress.kubernetes.io/ssl-redirect: \"false\"{comma}{annotations}}}
spec:
  ingressClassName: gatehouse
  tls: [{{hosts: [{host}], secretName: bench}}]
  rules:
    - host: {host}
      http:
        paths:
          - path: \"{path}\"
            pathType: {path_type}
            backend: {{service: {{name: {service}, port: {{number: 80}}}}}}
",
            service = service_of(number),
        );
    }
    text
}

/// A Route of each termination, and Routes in clear text.
fn routes(site: &Site, clear: usize) -> String {
    let backends = &site.backends;
    let mut text = String::new();
    for number in 0..SERVICES {
        text += &manifests::service(&service_of(number), backends.http);
    }
    text += &manifests::service("tls", backends.tls);
    text += &manifests::service("two", backends.http);
    text += &another_endpoint("two", backends.http_too);
    let pem = |name: &str, pem: &str| {
        format!(
            "    {name}: |\n{}",
            pem.lines().map(|l| format!("      {l}\n")).collect::<String>()
        )
    };
    let certificate = pem("certificate", &site.certificate.certificate_pem)
        + &pem("key", &site.certificate.key_pem);
    let authority = pem("destinationCACertificate", &site.certificate.authority_pem);
    text += &route("edge", EDGE, "two", &format!("    termination: edge\n{certificate}"));
    let tls = format!("    termination: reencrypt\n{certificate}{authority}");
    text += &route("reencrypt", REENCRYPT, "tls", &tls);
    text += &route("passthrough", PASSTHROUGH, "tls", "    termination: passthrough\n");
    for number in 0..clear {
        let (name, host) = (format!("route-{number}"), host_name(number));
        text += &route(&name, &host, &service_of(number), "");
    }
    text
}

fn route(name: &str, host: &str, service: &str, tls: &str) -> String {
    let tls = if tls.is_empty() { String::new() } else { format!("  tls:\n{tls}") };
    format!(
        "---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {{name: {name}, namespace: default}}
spec:
  host: {host}
  to: {{kind: Service, name: {service}, weight: 100}}
{tls}"
    )
}

/// A Service whose port this process passes on.
fn load_balancer(site: &Site) -> String {
    let (ip, port) = (site.tcp.ip(), site.tcp.port());
    format!(
        "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: bench, namespace: default}}
spec: {{addresses: [{ip}/32]}}
---
apiVersion: v1
kind: Service
metadata: {{name: tcp, namespace: default}}
spec: {{type: LoadBalancer, ports: [{{name: http, port: {port}}}]}}
{}",
        another_endpoint("tcp", site.backends.http)
    )
}

/// A slice of its own.
fn another_endpoint(service: &str, endpoint: SocketAddr) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-2, namespace: default, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, protocol: TCP, port: {port}}}]
endpoints: [{{addresses: [\"{ip}\"], conditions: {{ready: true}}}}]
"
    )
}
