//! An Ingress as the Routes that OpenShift's controller makes of it: one for each path. A canary becomes a backend of
//! the Route of the path that it is a canary of.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{HTTPIngressPath, Ingress, IngressServiceBackend},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Map, Value, json};

use super::{Converted, carried};

mod canaries;

use crate::{
    annotations::{self, ObjectKind, Settings, Written},
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
    translate::ingress::{AUTHORITIES, authorities_in, has_expression},
    transport::Speaks,
};
use canaries::Canaries;

/// Longest name that is kept in front of what tells the Routes of an Ingress apart, in bytes.
const MAX_BASE: usize = 58;

/// The Routes of all Ingresses.
pub fn routes(objects: &Objects) -> Converted {
    let mut out = Converted::default();
    let read = |key: &ObjectKey, ingress: &Ingress| {
        let object = ObjectRef::new("Ingress", key.clone());
        let settings = annotations::parse(&object, &ingress.metadata).0;
        (object, settings)
    };
    let mut canaries = Canaries::default();
    for (key, stored) in &objects.ingresses {
        let (object, settings) = read(key, &stored.object);
        if settings.canary.is_on() {
            canaries.add(&object, &settings.canary, &stored.object, &mut out.problems);
        }
    }
    for (key, stored) in &objects.ingresses {
        let ingress = &*stored.object;
        let (object, settings) = read(key, ingress);
        if !settings.canary.is_on() {
            let (out, canaries) = (&mut out, &mut canaries);
            One { key, ingress, objects, object, settings, canaries, out }.convert();
        }
    }
    canaries.left_over(&mut out.problems);
    out
}

/// An Ingress under way.
struct One<'r, 'o> {
    key: &'o ObjectKey,
    ingress: &'o Ingress,
    objects: &'o Objects,
    object: ObjectRef,
    settings: Settings,
    canaries: &'r mut Canaries<'o>,
    out: &'r mut Converted,
}

impl One<'_, '_> {
    fn convert(mut self) {
        let Some(spec) = &self.ingress.spec else { return };
        if self.settings.redirects.everywhere().is_some() {
            let message = "every request is sent elsewhere and none meets its Services; a Route cannot say that";
            let hint = "write a Route that leads to a server which redirects, or leave the redirect to an Ingress";
            return self.refused("metadata.annotations", message, hint);
        }
        let given = self.ingress.metadata.annotations.as_ref();
        let problems = &mut self.out.problems;
        let kept = carried(&self.object, ObjectKind::Route, given, problems);
        let Some(mut kept) = kept else { return };
        let memory = self.settings.response_memory();
        kept.extend(memory.map(|bytes| (Written::response_memory(), bytes.to_string().into())));
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
                self.path(host, path, &kept, &format!("{field}.http.paths[{at}]"));
            }
        }
    }

    fn path(&mut self, host: &str, path: &HTTPIngressPath, kept: &Map<String, Value>, field: &str) {
        let named = host;
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
        let (text, rewrite) = match self.rewritten(text) {
            Ok(rewritten) => rewritten,
            Err(message) => {
                let hint = "write the Route by hand";
                return self.refused(&format!("{field}.path"), &message, hint);
            }
        };
        let mut kept = kept.clone();
        kept.extend(rewrite.map(|target| (Written::rewrite_of_routes(), target.into())));
        let mut spec = json!({
            "host": host,
            "to": { "kind": "Service", "name": service.name, "weight": 100 },
            "wildcardPolicy": wildcard,
        });
        // A Prefix ignores the slash at its end, a Route insists on it.
        let prefix =
            if path.path_type == "Prefix" { text.trim_end_matches('/') } else { text.as_str() };
        if !prefix.is_empty() {
            spec["path"] = prefix.into();
        }
        let port = port(self.objects, &self.key.namespace, service);
        match &port {
            Ok(Some(port)) => spec["port"] = json!({ "targetPort": port }),
            Ok(None) => {}
            Err(message) => {
                let hint = "give its manifest along with the Ingress";
                self.lost(&format!("{field}.backend.service"), message, hint);
            }
        }
        match self.tls(&host, prefix) {
            Ok(None) => {}
            Ok(Some(tls)) => spec["tls"] = tls,
            Err((field, message)) => {
                return self.refused(&field, &message, "write the Route by hand");
            }
        }
        let port = port.ok().flatten();
        let of = |service: &IngressServiceBackend| {
            self::port(self.objects, &self.key.namespace, service).ok().flatten() == port
        };
        let problems = &mut self.out.problems;
        let others = self.canaries.take(&self.key.namespace, (named, path), &of, problems);
        if let Some((own, others)) = others {
            spec["to"]["weight"] = own.into();
            spec["alternateBackends"] = others;
        }
        let manifest = json!({
            "apiVersion": "route.openshift.io/v1",
            "kind": "Route",
            "metadata": self.metadata(&host, prefix, kept),
            "spec": spec,
        });
        self.out.manifests.push(manifest);
    }

    /// The path of a Route that is meant by one of an Ingress, and what stands in for it in what the backend gets.
    /// An expression is one that a Route can say if all it does is to take a prefix off.
    fn rewritten(&self, text: &str) -> Result<(String, Option<String>), String> {
        let target = self.settings.rewrite.as_ref();
        let captures = target.filter(|target| target.captures);
        let expression = self.settings.use_regex || captures.is_some();
        if !expression || !has_expression(text) {
            return match target {
                Some(target) if *target.text != *text => Err(format!(
                    "every request would become {:?}; a Route can only put something in the place of its path",
                    target.text
                )),
                _ => Ok((text.to_owned(), None)),
            };
        }
        let prefix = captures.and_then(|target| {
            let (prefix, captured) = match text.strip_suffix("(/|$)(.*)") {
                Some(prefix) => (prefix, "$2"),
                // The slash has to be there.
                None => (text.strip_suffix("(.*)").filter(|prefix| prefix.ends_with('/'))?, "$1"),
            };
            let to = target.text.strip_suffix(captured)?.strip_suffix('/')?;
            (!has_expression(prefix) && !to.contains(['$', '?'])).then_some((prefix, to))
        });
        match prefix {
            Some((prefix, to)) => {
                let changes = prefix.trim_end_matches('/') != to;
                let to = if to.is_empty() { "/" } else { to };
                Ok((prefix.to_owned(), changes.then(|| to.to_owned())))
            }
            None => Err("the path is an expression, and that of a Route is none".to_owned()),
        }
    }

    /// What becomes of TLS; an error, with its field, if what is spoken to the backend cannot be said.
    fn tls(&mut self, host: &str, path: &str) -> Result<Option<Value>, (String, String)> {
        let metadata = &self.ingress.metadata;
        let mut termination = annotations::termination(metadata);
        if self.settings.passthrough {
            termination = Some("passthrough");
        }
        let forced = self.settings.force_ssl_redirect || termination.is_some();
        let entries = self.ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
        let mut entries = entries.enumerate();
        let entry = entries.find(|(_, entry)| {
            let hosts = entry.hosts.as_deref().unwrap_or_default();
            let named = |one: &String| one == host || one.replace('*', "wildcard") == host;
            hosts.iter().any(named) || (hosts.is_empty() && entry.secret_name.is_none())
        });
        let has_tls = entry.is_some() || forced;
        let protocol = |message: &str| Err((Written::BackendProtocol.field(), message.to_owned()));
        let termination = match (self.settings.transport.speaks(), termination) {
            (Some(Speaks::Http1) | None, termination) => termination.unwrap_or("edge"),
            (Some(_), Some(termination @ ("reencrypt" | "passthrough"))) => termination,
            (Some(Speaks::Tls(_)), None) if has_tls => "reencrypt",
            (Some(Speaks::Tls(_)), _) => {
                return protocol("a Route speaks TLS to its backends only if clients do, too");
            }
            (Some(_), _) => return protocol("a Route has no such protocol of its backends"),
        };
        if !has_tls {
            return Ok(None);
        }
        let mut tls = Map::new();
        tls.insert("termination".into(), termination.into());
        // An Ingress serves clear text of a host with TLS unless it redirects.
        let redirects = forced || self.settings.ssl_redirect;
        let insecure = if redirects { "Redirect" } else { "Allow" };
        tls.insert("insecureEdgeTerminationPolicy".into(), insecure.into());
        if let Some(name) =
            self.settings.destination_ca.as_ref().filter(|_| termination == "reencrypt")
        {
            let key = ObjectKey::new(Arc::clone(&self.key.namespace), &**name);
            let secret = self.objects.secrets.get(&key);
            let authorities = secret.and_then(|secret| authorities_in(&secret.object));
            let authorities = authorities.ok_or_else(|| {
                (AUTHORITIES.to_owned(), format!("the authorities in Secret {key} are not known"))
            })?;
            tls.insert("destinationCACertificate".into(), authorities.into());
        }
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
        Ok(Some(tls.into()))
    }

    fn metadata(&self, host: &str, path: &str, kept: Map<String, Value>) -> Value {
        let mut hasher = DefaultHasher::new();
        (host, path).hash(&mut hasher);
        let base = self.key.name.get(..MAX_BASE).unwrap_or(&self.key.name);
        let tail: String = format!("{:016x}", hasher.finish()).chars().take(5).collect();
        named(&format!("{base}-{tail}"), &self.key.namespace, &self.ingress.metadata, kept)
    }

    /// It is not made: open it would be another than it was.
    fn refused(&mut self, field: &str, message: &str, hint: &str) {
        let message = format!("{message}, so no Route is made of it");
        let problem = Problem::error(&self.object, "NotConverted", field, message, hint);
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }

    fn lost(&mut self, field: &str, message: &str, hint: &str) {
        let problem = Problem::warning(&self.object, "NotConverted", field, message, hint);
        self.out.problems.push(problem);
    }
}

/// The name of the port: Routes know those of the endpoints. `None`: the Service has one without a name.
fn port(
    objects: &Objects,
    namespace: &Arc<str>,
    backend: &IngressServiceBackend,
) -> Result<Option<String>, String> {
    let key = ObjectKey::new(Arc::clone(namespace), &*backend.name);
    let Some(service) = objects.services.get(&key) else {
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

/// Metadata of what is made of an object: its labels go along, and these annotations.
pub(super) fn named(
    name: &str,
    namespace: &str,
    of: &ObjectMeta,
    annotations: Map<String, Value>,
) -> Value {
    let mut metadata = json!({ "name": name, "namespace": namespace });
    if let Some(labels) = of.labels.as_ref().filter(|labels| !labels.is_empty()) {
        metadata["labels"] = json!(labels);
    }
    if !annotations.is_empty() {
        metadata["annotations"] = annotations.into();
    }
    metadata
}
