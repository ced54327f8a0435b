//! A Route as an Ingress, with one more for each alternate backend and a Secret for a certificate that stands in it.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use super::{Converted, carried, to_route::named};
use crate::{
    annotations::{ObjectKind, Written},
    objects::{ObjectKey, ObjectRef, Objects},
    openshift::{Route, RouteTargetReference, TlsConfig},
    problem::Problem,
};

/// The Ingresses of all Routes. `class` is the class that they name, if any.
pub fn ingresses(objects: &Objects, class: Option<&str>) -> Converted {
    let mut out = Converted::default();
    for (key, stored) in &objects.routes {
        let object = ObjectRef::new("Route", key.clone());
        One { key, route: &stored.object, objects, class, object, out: &mut out }.convert();
    }
    out
}

/// A Route under way.
struct One<'o> {
    key: &'o ObjectKey,
    route: &'o Route,
    objects: &'o Objects,
    class: Option<&'o str>,
    object: ObjectRef,
    out: &'o mut Converted,
}

impl One<'_> {
    fn convert(mut self) {
        let spec = &self.route.spec;
        let given = self.route.metadata.annotations.as_ref();
        let problems = &mut self.out.problems;
        let Some(kept) = carried(&self.object, ObjectKind::Ingress, given, problems) else {
            return;
        };
        let Some(host) = spec.host.as_deref().filter(|host| !host.is_empty()) else {
            return self.lost(
                "spec.host",
                "the Route has no host of its own",
                "write it into spec.host",
            );
        };
        let host = match (spec.wildcard_policy.as_deref(), host.split_once('.')) {
            (Some("Subdomain"), Some((_, domain))) => format!("*.{domain}"),
            _ => host.to_owned(),
        };
        if let Some(headers) = &spec.http_headers {
            if !headers.actions.request.is_empty() {
                let message = "pods would get what clients say in these fields, and nothing on an Ingress sets or \
                               deletes them, so no Ingress is made of the Route";
                return self.refused("spec.httpHeaders.actions.request", message, "keep the Route");
            }
            let hint = "see custom-headers";
            self.lost("spec.httpHeaders", "an Ingress has no such field", hint);
        }
        let targets: Vec<_> = std::iter::once(&spec.to).chain(&spec.alternate_backends).collect();
        let weight = |target: &RouteTargetReference| target.weight.unwrap_or(100).max(0);
        let total: i32 = targets.iter().map(|target| weight(target)).sum();
        if total == 0 {
            let message = "no Service has a weight, so nobody is served; an Ingress would serve everybody, so none is \
                           made of the Route";
            let hint = "give a Service a weight if it is to be served again";
            return self.refused("spec.to.weight", message, hint);
        }
        if spec.path.as_deref().is_some_and(|path| path.len() > 1 && path.ends_with('/')) {
            let hint = "see whether that may be served, too";
            let message =
                "a Route's slash at the end leaves out the path without it, a Prefix takes it in";
            self.lost("spec.path", message, hint);
        }
        let own = self.ingress(&self.key.name, &host, &spec.to, &kept);
        self.out.manifests.push(own);
        for (at, target) in targets.iter().enumerate().skip(1) {
            let mut canary = self.ingress(&format!("{}-{at}", self.key.name), &host, target, &kept);
            let annotations = &mut canary["metadata"]["annotations"];
            annotations[Written::Canary.name()] = "true".into();
            annotations[Written::CanaryWeight.name()] = weight(target).to_string().into();
            annotations[Written::CanaryWeightTotal.name()] = total.max(1).to_string().into();
            self.out.manifests.push(canary);
        }
        if let Some((certificate, key)) = spec.tls.as_ref().and_then(TlsConfig::pair) {
            self.out.manifests.push(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": { "name": self.secret(), "namespace": &*self.key.namespace },
                "type": "kubernetes.io/tls",
                "stringData": { "tls.crt": certificate, "tls.key": key.unwrap_or_default() },
            }));
        }
        if let Some(authority) = self.authority() {
            let secret = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": { "name": self.authority_secret(), "namespace": &*self.key.namespace },
                "type": "Opaque",
                "stringData": { "ca.crt": authority },
            });
            self.out.manifests.push(secret);
        }
    }

    /// The authority that the pods' certificates must chain to, where TLS is spoken to them.
    fn authority(&self) -> Option<&'_ str> {
        let tls = self.route.spec.tls.as_ref()?;
        let reencrypt = tls.termination.as_deref()?.eq_ignore_ascii_case("reencrypt");
        tls.destination_ca_certificate
            .as_deref()
            .filter(|text| reencrypt && !text.trim().is_empty())
    }

    fn authority_secret(&self) -> String {
        format!("{}-ca", self.key.name)
    }

    fn ingress(
        &mut self,
        name: &str,
        host: &str,
        target: &RouteTargetReference,
        kept: &Map<String, Value>,
    ) -> Value {
        let spec = &self.route.spec;
        let path = spec.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let port = self.port(target);
        let mut metadata = named(name, &self.key.namespace, &self.route.metadata, kept.clone());
        let mut out = json!({
            "rules": [{ "host": host, "http": { "paths": [{
                "path": path,
                "pathType": "Prefix",
                "backend": { "service": { "name": target.name, "port": port } },
            }] } }],
        });
        if let Some(class) = self.class {
            out["ingressClassName"] = class.into();
        }
        if let Some(tls) = &spec.tls {
            self.tls(tls, host, &mut metadata, &mut out);
        }
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": out })
    }

    fn tls(&mut self, tls: &TlsConfig, host: &str, metadata: &mut Value, spec: &mut Value) {
        let external = tls.external_certificate.as_ref().map(|secret| secret.name.clone());
        let secret = external.or_else(|| tls.certificate.is_some().then(|| self.secret()));
        let mut entry = json!({ "hosts": [host] });
        if let Some(secret) = secret {
            entry["secretName"] = secret.into();
        }
        spec["tls"] = json!([entry]);
        let termination = tls.termination.as_deref().unwrap_or_default().to_ascii_lowercase();
        let annotations = &mut metadata["annotations"];
        match &*termination {
            "reencrypt" => {
                annotations[Written::BackendProtocol.name()] = "HTTPS".into();
            }
            "passthrough" => {
                annotations[Written::SslPassthrough.name()] = "true".into();
            }
            _ => {}
        }
        let policy = tls.insecure_edge_termination_policy.as_deref().unwrap_or_default();
        match policy {
            "Redirect" => {}
            "Allow" => annotations[Written::SslRedirect.name()] = "false".into(),
            _ => {
                let hint = "leave it, or keep the Route";
                let message = "clear text was refused and is redirected to https now";
                self.lost("spec.tls.insecureEdgeTerminationPolicy", message, hint);
            }
        }
        if self.authority().is_some() {
            let secret = format!("{}/{}", self.key.namespace, self.authority_secret());
            annotations[Written::ProxySslSecret.name()] = secret.into();
            annotations[Written::ProxySslVerify.name()] = "on".into();
        } else if termination == "reencrypt" {
            let hint = "name the authority in proxy-ssl-secret, with proxy-ssl-verify: \"on\"";
            let message =
                "the authority of the cluster is not asked about the pods' certificates any more";
            self.lost("spec.tls.termination", message, hint);
        }
    }

    /// The port of the Service that leads to the target port, which is the endpoints'.
    fn port(&mut self, target: &RouteTargetReference) -> Value {
        let key = ObjectKey::new(self.key.namespace.clone(), &*target.name);
        let service = self.objects.services.get(&key).map(|stored| &stored.object);
        let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_deref());
        let text = |port: &IntOrString| match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        let wanted = self.route.spec.port.as_ref().map(|port| text(&port.target_port));
        let ports = ports.unwrap_or_default();
        let found = ports.iter().find(|port| match &wanted {
            None => true,
            Some(wanted) => {
                let target = port.target_port.as_ref().map(text);
                port.name.as_ref() == Some(wanted)
                    || target.as_ref() == Some(wanted)
                    || (target.is_none() && port.port.to_string() == *wanted)
            }
        });
        match (found, wanted) {
            (Some(port), _) => json!({ "number": port.port }),
            (None, wanted) => {
                let message =
                    format!("Service {key} is not known, or has no port that leads to the Route's");
                self.lost(
                    "spec.port.targetPort",
                    &message,
                    "give its manifest along, or correct the port",
                );
                let wanted = wanted.unwrap_or_else(|| "80".to_owned());
                match wanted.parse::<u16>() {
                    Ok(number) => json!({ "number": number }),
                    Err(_) => json!({ "name": wanted }),
                }
            }
        }
    }

    fn secret(&self) -> String {
        format!("{}-tls", self.key.name)
    }

    /// Nothing is made of it: open it would be another than it was.
    fn refused(&mut self, field: &str, message: &str, hint: &str) {
        self.out.problems.push(Problem::error(&self.object, "NotConverted", field, message, hint));
    }

    fn lost(&mut self, field: &str, message: &str, hint: &str) {
        let problem = Problem::warning(&self.object, "NotConverted", field, message, hint);
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }
}
