//! An Ingress as the Routes that OpenShift's controller makes of it: one for each path.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{HTTPIngressPath, Ingress, IngressServiceBackend},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Map, Value, json};

use super::{Converted, carried};
use crate::{
    annotations,
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
};

/// Longest name that is kept in front of what tells the Routes of an Ingress apart, in bytes.
const MAX_BASE: usize = 58;

/// The Routes of all Ingresses.
pub fn routes(objects: &Objects) -> Converted {
    let mut out = Converted::default();
    for (key, stored) in &objects.ingresses {
        let ingress = &stored.object;
        One {
            key,
            ingress,
            objects,
            object: ObjectRef::new("Ingress", key.clone()),
            out: &mut out,
        }
        .convert();
    }
    out
}

/// An Ingress under way.
struct One<'o> {
    key: &'o ObjectKey,
    ingress: &'o Ingress,
    objects: &'o Objects,
    object: ObjectRef,
    out: &'o mut Converted,
}

impl One<'_> {
    fn convert(mut self) {
        let Some(spec) = &self.ingress.spec else { return };
        if spec.default_backend.is_some() {
            let hint = "write a Route with the host that it is to be for";
            self.lost("spec.defaultBackend", "a Route has no default backend", hint);
        }
        for (at, rule) in spec.rules.iter().flatten().enumerate() {
            let field = format!("spec.rules[{at}]");
            let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) else {
                self.lost(&format!("{field}.host"), "a Route is for one host", "name the host");
                continue;
            };
            for (at, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
                self.path(host, path, &format!("{field}.http.paths[{at}]"));
            }
        }
    }

    fn path(&mut self, host: &str, path: &HTTPIngressPath, field: &str) {
        if path.path_type == "Exact" {
            let hint = "OpenShift leaves it out, too; type Prefix serves all that is below";
            return self.lost(&format!("{field}.pathType"), "a Route knows no exact paths", hint);
        }
        let Some(service) = &path.backend.service else {
            let hint = "name a Service";
            return self.lost(&format!("{field}.backend"), "a Route leads to Services only", hint);
        };
        let (host, wildcard) = match host.strip_prefix("*.") {
            Some(domain) => (format!("wildcard.{domain}"), "Subdomain"),
            None => (host.to_owned(), "None"),
        };
        let text = path.path.as_deref().unwrap_or_default();
        let mut spec = json!({
            "host": host,
            "to": { "kind": "Service", "name": service.name, "weight": 100 },
            "wildcardPolicy": wildcard,
        });
        // A Prefix ignores the slash at its end, a Route insists on it.
        let prefix = if path.path_type == "Prefix" { text.trim_end_matches('/') } else { text };
        if !prefix.is_empty() {
            spec["path"] = prefix.into();
        }
        match self.port(service) {
            Ok(Some(port)) => spec["port"] = json!({ "targetPort": port }),
            Ok(None) => {}
            Err(message) => {
                let hint = "give its manifest along with the Ingress";
                self.lost(&format!("{field}.backend.service"), &message, hint);
            }
        }
        if let Some(tls) = self.tls(&host, prefix) {
            spec["tls"] = tls;
        }
        let manifest = json!({
            "apiVersion": "route.openshift.io/v1",
            "kind": "Route",
            "metadata": self.metadata(&host, prefix),
            "spec": spec,
        });
        self.out.manifests.push(manifest);
    }

    /// The name of the port: Routes know those of the endpoints. `None`: the Service has one without a name.
    fn port(&self, backend: &IngressServiceBackend) -> Result<Option<String>, String> {
        let key = ObjectKey::new(self.key.namespace.clone(), &*backend.name);
        let service = self.objects.services.get(&key);
        let Some(service) = service else {
            let named = backend.port.as_ref().and_then(|port| port.name.clone());
            let missing = || format!("Service {key} is not known, so its port is not, either");
            return named.map(Some).ok_or_else(missing);
        };
        let ports = |service: &Service| service.spec.clone().and_then(|spec| spec.ports);
        let ports = ports(&service.object).unwrap_or_default();
        let wanted = backend.port.as_ref();
        let found = ports.into_iter().find(|port| match wanted {
            Some(wanted) if wanted.name.is_some() => port.name == wanted.name,
            Some(wanted) => Some(port.port) == wanted.number,
            None => false,
        });
        match found {
            Some(port) => Ok(port.name),
            None => Err(format!("Service {key} has no such port")),
        }
    }

    fn tls(&mut self, host: &str, path: &str) -> Option<Value> {
        let metadata = &self.ingress.metadata;
        let termination = annotations::termination(metadata);
        let entries = self.ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
        let mut entries = entries.enumerate();
        let entry = entries.find(|(_, entry)| {
            let hosts = entry.hosts.as_deref().unwrap_or_default();
            let named = |one: &String| one == host || one.replace('*', "wildcard") == host;
            hosts.iter().any(named) || (hosts.is_empty() && entry.secret_name.is_none())
        });
        if entry.is_none() && termination.is_none() {
            return None;
        }
        let termination = termination.unwrap_or("edge");
        let mut tls = Map::new();
        tls.insert("termination".into(), termination.into());
        tls.insert("insecureEdgeTerminationPolicy".into(), "Redirect".into());
        let secret = entry.and_then(|(at, entry)| Some((at, entry.secret_name.clone()?)));
        match (termination, secret) {
            ("passthrough", _) if !path.is_empty() => {
                let hint = "a Route that passes TLS through has no path";
                self.lost(
                    "spec.rules",
                    "the path cannot be seen in TLS that is passed through",
                    hint,
                );
            }
            ("passthrough", _) | (_, None) => {}
            (_, Some((_, secret))) => {
                tls.insert("externalCertificate".into(), json!({ "name": secret }));
            }
        }
        Some(tls.into())
    }

    fn metadata(&self, host: &str, path: &str) -> Value {
        let mut hasher = DefaultHasher::new();
        (host, path).hash(&mut hasher);
        let base = self.key.name.get(..MAX_BASE).unwrap_or(&self.key.name);
        let tail: String = format!("{:016x}", hasher.finish()).chars().take(5).collect();
        named(&format!("{base}-{tail}"), &self.key.namespace, &self.ingress.metadata)
    }

    fn lost(&mut self, field: &str, message: &str, hint: &str) {
        let problem = Problem::warning(&self.object, "NotConverted", field, message, hint);
        self.out.problems.push(problem);
    }
}

/// Metadata of what is made of an object: its labels and annotations go along.
pub(super) fn named(name: &str, namespace: &str, of: &ObjectMeta) -> Value {
    let mut metadata = json!({ "name": name, "namespace": namespace });
    if let Some(labels) = of.labels.as_ref().filter(|labels| !labels.is_empty()) {
        metadata["labels"] = json!(labels);
    }
    let annotations = carried(of.annotations.as_ref());
    if !annotations.is_empty() {
        metadata["annotations"] = annotations.into();
    }
    metadata
}
