//! What an Ingress, a Route or an IngressClass that cannot be read still keeps closed.
//!
//! Such an object would not be there, and what it protects could be answered for by a rule of another one. So the
//! readers of manifests and of the API server put a stand-in in its place where they know no earlier version: its
//! name, class, hosts and paths, as far as they can be told, and the word that all of them are to be closed. What
//! cannot be told apart closes with what can: a path without its text is its whole host. Of a class that is all that its
//! Ingresses ask for.

use gatehouse_routes::{
    annotations::{gatehouse, is_default_class},
    openshift::{Route, RouteSpec, TlsConfig},
};
use k8s_openapi::{
    api::networking::v1::{
        HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressClass,
        IngressClassSpec, IngressRule, IngressSpec, IngressTLS,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::{Kind, Object};

/// What can be read of an object.
pub(crate) struct Remains {
    /// All ways in which it can be read: one for the first and one for the last of keys that are there twice.
    pub(crate) readings: Vec<Value>,
    /// There was more, nobody knows what.
    pub(crate) cut: bool,
}

impl Remains {
    /// Whether the object has the same name however it is read.
    pub(crate) fn agree_on_name(&self) -> bool {
        let mut names = self.readings.iter().map(|it| it.get("metadata")?.get("name"));
        let first = names.next().flatten();
        names.all(|name| name == first)
    }
}

/// The stand-in; `None` if no host can be read, or the kind has none. `why` is `field: what is wrong`.
pub(crate) fn stand_in(kind: Kind, remains: &Remains, why: &str) -> Option<Object> {
    let last = remains.readings.last()?;
    let mut metadata = metadata(last.get("metadata"));
    metadata.annotations.get_or_insert_default().insert(gatehouse::unreadable(), why.to_owned());
    match kind {
        Kind::Ingress => {
            let spec = Some(ingress(remains)?);
            Some(Object::Ingress(Ingress { metadata, spec, ..Ingress::default() }.into()))
        }
        Kind::Route => {
            let spec = route(remains)?;
            Some(Object::Route(Route { metadata, spec, status: None }.into()))
        }
        Kind::IngressClass => {
            let spec = class(remains, &mut metadata);
            Some(Object::IngressClass(IngressClass { metadata, spec: Some(spec) }.into()))
        }
        _ => None,
    }
}

/// Whether an object only stands in for one that cannot be read.
pub(crate) fn is_stand_in(object: &Object) -> bool {
    let annotations = object.metadata().annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(&gatehouse::unreadable()))
}

/// Names and what routing asks of labels and annotations. A value that is no text is taken as it is written: a
/// canary is one, whether its `true` has quotes or not.
fn metadata(value: Option<&Value>) -> ObjectMeta {
    let field = |name: &str| value.and_then(|value| value.get(name));
    let texts = |name: &str| {
        let entries = field(name).and_then(Value::as_object).into_iter().flatten();
        let entries = entries.map(|(name, value)| {
            let text = match value {
                Value::Null => String::new(),
                value => text(value).unwrap_or_else(|| value.to_string()),
            };
            (name.clone(), text)
        });
        entries.collect()
    };
    let time = |name: &str| {
        let time = field(name).cloned();
        time.and_then(|time| serde_json::from_value(time).ok())
    };
    ObjectMeta {
        name: field("name").and_then(text),
        namespace: field("namespace").and_then(text),
        labels: Some(texts("labels")),
        annotations: Some(texts("annotations")),
        creation_timestamp: time("creationTimestamp"),
        deletion_timestamp: time("deletionTimestamp"),
        resource_version: field("resourceVersion").and_then(text),
        uid: field("uid").and_then(text),
        ..ObjectMeta::default()
    }
}

fn ingress(remains: &Remains) -> Option<IngressSpec> {
    let mut spec = IngressSpec::default();
    let mut rules: Vec<IngressRule> = Vec::new();
    let mut tls: Vec<IngressTLS> = Vec::new();
    let mut unclear = remains.cut;
    for reading in &remains.readings {
        let Some(given) = reading.get("spec") else { continue };
        spec.ingress_class_name = given.get("ingressClassName").and_then(text);
        if given.get("defaultBackend").is_some_and(|backend| !backend.is_null()) {
            spec.default_backend = Some(IngressBackend::default());
        }
        let of_tls = items(given.get("tls"));
        tls.extend(of_tls.iter().map(|entry| IngressTLS {
            hosts: Some(texts(entry.get("hosts"))),
            secret_name: entry.get("secretName").and_then(text),
        }));
        let found = items(given.get("rules"));
        unclear |= found.is_empty() && given.get("rules").is_some_and(|rules| !rules.is_null());
        let before = rules.len();
        rules.extend(found.iter().flat_map(|entry| of_rule(entry)));
        if remains.cut && rules.len() > before {
            // Further paths of this host may have stood where the text ends.
            let host = rules.last().and_then(|rule| rule.host.clone());
            rules.push(whole(host));
        }
    }
    if unclear {
        // Their rules may be what cannot be read.
        let named = tls.iter().flat_map(|entry| entry.hosts.iter().flatten().cloned());
        let hosts: Vec<_> = named
            .filter(|host| !rules.iter().any(|rule| rule.host.as_ref() == Some(host)))
            .collect();
        rules.extend(hosts.into_iter().map(|host| whole(Some(host))));
    }
    if rules.is_empty() && spec.default_backend.is_none() {
        return None;
    }
    // The same rule is in both readings, mostly.
    let mut once: Vec<IngressRule> = Vec::with_capacity(rules.len());
    for rule in rules {
        if !once.contains(&rule) {
            once.push(rule);
        }
    }
    tls.dedup();
    (spec.rules, spec.tls) = (Some(once), Some(tls));
    Some(spec)
}

/// A rule, once for each of its hosts; no host means every host, as in one that is whole.
fn of_rule(entry: &Value) -> Vec<IngressRule> {
    let hosts: Vec<Option<String>> = match entry.get("host") {
        Some(list @ Value::Array(_)) => texts(Some(list)).into_iter().map(Some).collect(),
        Some(Value::Null) => vec![None],
        Some(host) => text(host).into_iter().map(Some).collect(),
        None if entry.is_object() => vec![None],
        // It is no rule at all.
        None => Vec::new(),
    };
    let http = entry.get("http");
    let paths = items(http.and_then(|http| http.get("paths")));
    let paths: Vec<_> = match &*paths {
        // Without `http`, or with a null in its place, a host has no paths; anything else may be some.
        [] if http.is_none_or(Value::is_null) => Vec::new(),
        [] => vec![path(&Value::Null)],
        paths => paths.iter().map(|entry| path(entry)).collect(),
    };
    let rule = |host| IngressRule {
        host,
        http: (!paths.is_empty()).then(|| HTTPIngressRuleValue { paths: paths.clone() }),
    };
    hosts.into_iter().map(rule).collect()
}

fn path(entry: &Value) -> HTTPIngressPath {
    let kind = entry.get("pathType").and_then(Value::as_str);
    let kind = kind.filter(|kind| ["Exact", "Prefix", "ImplementationSpecific"].contains(kind));
    HTTPIngressPath {
        path: Some(entry.get("path").and_then(text).unwrap_or_else(|| "/".to_owned())),
        path_type: kind.unwrap_or("Prefix").to_owned(),
        ..HTTPIngressPath::default()
    }
}

/// All of a host.
fn whole(host: Option<String>) -> IngressRule {
    let paths = vec![path(&Value::Null)];
    IngressRule { host, http: Some(HTTPIngressRuleValue { paths }) }
}

fn route(remains: &Remains) -> Option<RouteSpec> {
    let specs: Vec<&Value> =
        remains.readings.iter().filter_map(|reading| reading.get("spec")).collect();
    let last = specs.last().filter(|spec| spec.is_object())?;
    let field = |name: &str| last.get(name).and_then(text);
    let same = specs.iter().all(|spec| spec.get("path") == last.get("path"));
    let tls = last.get("tls").filter(|tls| !tls.is_null()).map(|tls| TlsConfig {
        // Whatever it says of certificates: it closes.
        termination: tls.get("termination").and_then(text),
        certificate: tls.get("certificate").and_then(text),
        key: tls.get("key").and_then(text),
        ..TlsConfig::default()
    });
    Some(RouteSpec {
        host: field("host"),
        subdomain: field("subdomain"),
        path: field("path").filter(|_| same),
        wildcard_policy: field("wildcardPolicy"),
        tls,
        ..RouteSpec::default()
    })
}

/// Whose class it is, if that is sure, and whether it may be the one of Ingresses that name none.
fn class(remains: &Remains, metadata: &mut ObjectMeta) -> IngressClassSpec {
    let name = is_default_class();
    let may_be_default = remains.readings.iter().any(|reading| {
        let annotations = reading.get("metadata").and_then(|it| it.get("annotations"));
        match annotations.and_then(|annotations| annotations.get(&name)) {
            Some(said) => text(said).as_deref() != Some("false"),
            // It may have stood where the text ends, or in what is no table of annotations.
            None => remains.cut || annotations.is_some_and(|it| !it.is_object() && !it.is_null()),
        }
    });
    metadata.annotations.get_or_insert_default().insert(name, may_be_default.to_string());
    let mut specs = remains.readings.iter().map(|reading| reading.get("spec"));
    let said = |spec: Option<&Value>| spec?.get("controller").and_then(text);
    let first = said(specs.next().flatten());
    let controller = first.filter(|first| specs.all(|spec| said(spec).as_ref() == Some(first)));
    let last = remains.readings.last().and_then(|reading| reading.get("spec")?.get("parameters"));
    let parameters = last.and_then(|parameters| serde_json::from_value(parameters.clone()).ok());
    IngressClassSpec { controller, parameters }
}

/// The items of a list, or the one thing that stands where a list is meant.
fn items(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A text, or what is written in its place; `None` for nothing, and for what holds others.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
