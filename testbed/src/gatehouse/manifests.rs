//! Manifests as text: Services with their EndpointSlices, Ingresses, Routes, TLS Secrets.

use std::{fmt::Write as _, net::SocketAddr};

use crate::gatehouse::tls::Pair;

/// A Service with one port 80 and a slice per endpoint.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  ports:\n  - {{name: http, port: 80, targetPort: 8080}}\n---\n"
    );
    for (n, endpoint) in endpoints.iter().enumerate() {
        let family = if endpoint.is_ipv4() { "IPv4" } else { "IPv6" };
        let (ip, port) = (endpoint.ip(), endpoint.port());
        write!(
            text,
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata:\n  name: {name}-{n}\n  namespace: default\n  \
             labels: {{kubernetes.io/service-name: {name}}}\n\
             addressType: {family}\nports:\n- {{name: http, port: {port}, protocol: TCP}}\n\
             endpoints:\n- addresses: [\"{ip}\"]\n  conditions: {{ready: true}}\n---\n"
        )
        .expect("writing to a string");
    }
    text
}

/// One rule of an Ingress.
pub struct Rule<'a> {
    /// None: the rule has no host.
    pub host: Option<&'a str>,
    /// The path, or a pattern.
    pub path: &'a str,
    /// `pathType`.
    pub kind: &'a str,
    /// Its backend, at port 80.
    pub service: &'a str,
}

/// A `Prefix` rule.
pub const fn prefix<'a>(host: &'a str, path: &'a str, service: &'a str) -> Rule<'a> {
    Rule { host: Some(host), path, kind: "Prefix", service }
}

/// An Ingress of these rules; `annotations` and `tls` are YAML in flow style, or empty.
pub fn ingress(name: &str, annotations: &str, tls: &str, rules: &[Rule<'_>]) -> String {
    let mut text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata:\n  name: {name}\n  namespace: default\n  annotations: {{{annotations}}}\n\
         spec:\n  tls: [{tls}]\n  rules:\n"
    );
    for rule in rules {
        let http = format!(
            "http: {{paths: [{{path: \"{}\", pathType: {}, backend: {{service: {{name: {}, \
             port: {{number: 80}}}}}}}}]}}",
            rule.path, rule.kind, rule.service
        );
        match rule.host {
            Some(host) => writeln!(text, "  - host: \"{host}\"\n    {http}"),
            None => writeln!(text, "  - {http}"),
        }
        .expect("writing to a string");
    }
    text + "---\n"
}

/// A Route that splits its requests among services by weight.
pub fn route(name: &str, host: &str, weights: &[(&str, u32)]) -> String {
    let target = |(service, weight): &(&str, u32)| {
        format!("{{kind: Service, name: {service}, weight: {weight}}}")
    };
    let others: Vec<String> = weights.iter().skip(1).map(target).collect();
    format!(
        "apiVersion: route.openshift.io/v1\nkind: Route\n\
         metadata: {{name: {name}, namespace: default}}\n\
         spec:\n  host: {host}\n  to: {}\n  alternateBackends: [{}]\n---\n",
        target(&weights[0]),
        others.join(", ")
    )
}

/// A Secret of type `kubernetes.io/tls`.
pub fn secret(name: &str, pair: &Pair) -> String {
    let indent = |pem: &str| pem.lines().map(|l| format!("    {l}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\n\
         type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}---\n",
        indent(&pair.certificate),
        indent(&pair.key)
    )
}
