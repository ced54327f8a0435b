//! Kubernetes objects as YAML text, as a person would write them.
//!
//! Used by the benchmark and the scale test to tell gatehouse what to serve. Written as text and not
//! from typed objects, because reading such text is part of what is measured.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// An `IngressClass` named `gatehouse`.
pub const CLASS: &str = "apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: gatehouse
spec:
  controller: gatehouse.io/ingress
";

/// A `Service` with port 80 and its `EndpointSlice` with one endpoint.
pub fn service(name: &str, endpoint: SocketAddr) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
spec:
  ports:
    - name: http
      port: 80
      targetPort: {port}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: default
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
  - name: http
    protocol: TCP
    port: {port}
endpoints:
  - addresses: [\"{ip}\"]
    conditions:
      ready: true
",
        port = endpoint.port(),
        ip = endpoint.ip(),
    )
}

/// An `Ingress` that sends `path` of `host` to port 80 of `service`; over TLS too when a `secret` is
/// named, without redirecting plain HTTP.
pub fn ingress(name: &str, host: &str, path: &str, service: &str, secret: Option<&str>) -> String {
    let tls = secret.map_or_else(String::new, |secret| {
        format!("  tls:\n    - hosts: [\"{host}\"]\n      secretName: {secret}\n")
    });
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  namespace: default
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: \"false\"
spec:
  ingressClassName: gatehouse
{tls}  rules:
    - host: {host}
      http:
        paths:
          - path: {path}
            pathType: Prefix
            backend:
              service:
                name: {service}
                port:
                  number: 80
"
    )
}

/// A Route without TLS for everything under `path`.
pub fn route(name: &str, host: &str, path: &str, service: &str) -> String {
    format!(
        "---
apiVersion: route.openshift.io/v1
kind: Route
metadata:
  name: {name}
  namespace: default
spec:
  host: {host}
  path: {path}
  to: {{kind: Service, name: {service}, weight: 100}}
"
    )
}

/// A `Secret` of type `kubernetes.io/tls`.
pub fn tls_secret(name: &str, certificate_pem: &str, key_pem: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Secret
metadata:
  name: {name}
  namespace: default
type: kubernetes.io/tls
data:
  tls.crt: {}
  tls.key: {}
",
        STANDARD.encode(certificate_pem),
        STANDARD.encode(key_pem),
    )
}
