//! What the tests of this crate share: objects from YAML, answers in words.

use std::sync::Arc;

use http::Request;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    action::{Action, DENY_STATUS},
    compile::{Compiled, compile},
    encoded_slash,
    filter::Rewrite,
    host,
    matcher::RequestView,
    model::Scheme,
    objects::{ObjectKey, Objects, SourceTrust, Special, Store, Stored},
    options::{
        Options,
        admission::{Ownership, RouteAdmission},
    },
    path,
    table::{Matched, RouteTable},
};

/// Objects from a multi-document YAML text; the position in the text is the order.
pub(crate) fn objects(yaml: &str) -> Objects {
    let documents = yaml.split("\n---\n").filter(|text| !text.trim().is_empty());
    from_values(
        documents.map(|text| {
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
        }),
    )
}

/// Objects from parsed documents.
pub(crate) fn from_values(documents: impl IntoIterator<Item = Value>) -> Objects {
    let mut objects = Objects::default();
    for (order, document) in (0..).zip(documents) {
        add(&mut objects, order, document);
    }
    objects
}

/// Adds or replaces one object.
pub(crate) fn add(objects: &mut Objects, order: u64, document: Value) {
    match document["kind"].as_str().unwrap() {
        "Ingress" => put(&mut objects.ingresses, order, document),
        "IngressClass" => put(&mut objects.ingress_classes, order, document),
        "Route" => put(&mut objects.routes, order, document),
        "Service" => put(&mut objects.services, order, document),
        "EndpointSlice" => put(&mut objects.endpoint_slices, order, document),
        "Node" => put(&mut objects.nodes, order, document),
        "ConfigMap" => put(&mut objects.config_maps, order, document),
        "Secret" => put(&mut objects.secrets, order, document),
        other => panic!("kind {other}"),
    }
}

fn put<T: DeserializeOwned + Special>(store: &mut Store<T>, order: u64, document: Value) {
    let text = |field: &str| document["metadata"][field].as_str().unwrap_or_default().to_owned();
    let key = ObjectKey::new(text("namespace"), text("name"));
    let object = serde_json::from_value(document).unwrap_or_else(|error| panic!("{key}: {error}"));
    let trust = SourceTrust::default();
    store.insert(key, Stored::new(Arc::new(object), order, trust));
}

/// Compiles with default options.
pub(crate) fn compiled(yaml: &str) -> Compiled {
    compile(&objects(yaml), &Options::default(), None)
}

/// What a table says to a `GET` of canonical host and path.
pub(crate) fn lookup<'t>(
    table: &'t RouteTable,
    scheme: Scheme,
    host: &str,
    path: &str,
) -> Option<Matched<'t>> {
    let (parts, ()) = Request::new(()).into_parts();
    table.lookup(&RequestView { scheme, host, path, parts: &parts })
}

/// What table `[0]` answers to `http://host/path` or `https://host/path`, in words.
pub(crate) fn answer(compiled: &Compiled, url: &str) -> String {
    answer_of(&compiled.tables[0].routes, url)
}

/// What a table answers to a URL, in words.
pub(crate) fn answer_of(table: &RouteTable, url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let slash = rest.find('/').unwrap();
    let host = host::canonical(&rest[..slash]).unwrap();
    let path = path::canonical(&rest[slash..]).unwrap();
    let Some(matched) = lookup(table, scheme, &host, &path.matched) else {
        let unserved = table.host_for(&host).is_some_and(|host| host.of_routes());
        return if unserved { "503" } else { "404" }.into();
    };
    let rule = matched.rule;
    let (parts, ()) = Request::new(()).into_parts();
    let view = RequestView { scheme, host: &host, path: &path.matched, parts: &parts };
    if path.encoded_slash && !encoded_slash::admits(table, &view, rule) {
        return "400".into();
    }
    if let Some(redirect) = rule.redirect(scheme) {
        return format!("redirect {}", redirect.status);
    }
    match &rule.action {
        Action::Deny { reason, .. } => format!("{DENY_STATUS} {reason}"),
        Action::Redirect(redirect) => format!("{} {}", redirect.status, redirect.to.text()),
        Action::Forward(forward) => {
            let backends = forward.spec.main();
            let keys = backends.iter().map(|backend| {
                let name = format!("{}:{}", backend.key.service.name, backend.key.port);
                if backends.len() > 1 { format!("{name}={}", backend.weight) } else { name }
            });
            let to = keys.collect::<Vec<_>>().join(" ");
            match rule.rewrite() {
                None => to,
                Some(Rewrite::Replace(text)) => format!("{to} as {text}"),
                Some(Rewrite::Captures { target, .. }) => format!("{to} with {target}"),
                Some(Rewrite::Prefix { prefix, target }) => format!("{to} {prefix} -> {target}"),
            }
        }
    }
}

/// Problems as `Kind namespace/name Reason field`.
pub(crate) fn problems(compiled: &Compiled) -> Vec<String> {
    let line = |p: &crate::problem::Problem| format!("{} {} {}", p.object, p.reason, p.field);
    compiled.problems.iter().map(|problem| line(problem).trim_end().to_owned()).collect()
}

/// A table of cases: objects in, answers and problems out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What the case shows.
    pub(crate) name: String,
    /// In short form, see [`expand`].
    pub(crate) objects: Vec<Value>,
    /// URL → answer.
    pub(crate) answers: std::collections::BTreeMap<String, String>,
    /// Settings about Routes.
    #[serde(default)]
    pub(crate) settings: Settings,
    /// As [`problems`] gives them, without those about missing Services.
    #[serde(default)]
    pub(crate) problems: Vec<String>,
}

/// Settings of a case, as the flags of the same names have them.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Settings {
    route_ownership: String,
    allow_wildcard_routes: bool,
    route_allowed_domain: Vec<String>,
    route_denied_domain: Vec<String>,
    route_selector: String,
    route_field_selector: String,
}

impl Settings {
    fn admission(&self) -> RouteAdmission {
        RouteAdmission {
            ownership: match &*self.route_ownership {
                "" => Ownership::default(),
                text => text.parse().unwrap(),
            },
            wildcards: self.allow_wildcard_routes,
            allowed_domains: self.route_allowed_domain.clone(),
            denied_domains: self.route_denied_domain.clone(),
            labels: self.route_selector.parse().unwrap(),
            fields: self.route_field_selector.parse().unwrap(),
        }
    }
}

/// Runs a YAML table of [`Case`]s.
pub(crate) fn run_cases(yaml: &str) {
    let cases: Vec<Case> = serde_saphyr::from_str(yaml).unwrap();
    assert!(!cases.is_empty());
    let mut failures = Vec::new();
    for case in cases {
        let objects = from_values(case.objects.into_iter().map(expand));
        let options = Options {
            route_domain: Some("apps.example".into()),
            claim_classes: vec!["nginx".into()],
            route_admission: case.settings.admission(),
            ..Options::default()
        };
        let compiled = compile(&objects, &options, None);
        for (url, expected) in case.answers {
            let given = answer(&compiled, &url);
            if given != expected {
                failures.push(format!("{}: {url}: expected {expected}, got {given}", case.name));
            }
        }
        let mut given = problems(&compiled);
        given.retain(|line| !line.contains("BackendNotFound"));
        if given != case.problems {
            failures.push(format!("{}: expected {:#?}, got {given:#?}", case.name, case.problems));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Spells out the short form of the tables: `metadata` from `name` (namespace `default` unless
/// `ns/name`), `age` and `annotations`; in an Ingress, `rules` as `[host, type, path, service]`.
fn expand(mut object: Value) -> Value {
    if object.get("metadata").is_some() {
        return object;
    }
    let take = |object: &mut Value, field: &str| {
        object.as_object_mut().unwrap().remove(field).unwrap_or_default()
    };
    let name = take(&mut object, "name");
    let name = name.as_str().unwrap();
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let mut metadata = serde_json::json!({ "name": name, "namespace": namespace });
    if let Some(age) = take(&mut object, "age").as_u64() {
        metadata["creationTimestamp"] = format!("{:04}-01-01T00:00:00Z", 2000 + age).into();
    }
    for field in ["uid", "labels"] {
        let value = take(&mut object, field);
        if !value.is_null() {
            metadata[field] = value;
        }
    }
    let annotations = take(&mut object, "annotations");
    if !annotations.is_null() {
        metadata["annotations"] = annotations;
    }
    if let Value::Array(rules) = take(&mut object, "rules") {
        let rules: Vec<Value> = rules.iter().map(expand_rule).collect();
        object["spec"]["rules"] = rules.into();
    }
    object["metadata"] = metadata;
    object
}

fn expand_rule(rule: &Value) -> Value {
    let host = &rule[0];
    if rule.as_array().unwrap().len() == 1 {
        return serde_json::json!({ "host": host });
    }
    let path = serde_json::json!({
        "pathType": rule[1],
        "path": rule[2],
        "backend": { "service": { "name": rule[3], "port": { "number": 80 } } },
    });
    serde_json::json!({ "host": host, "http": { "paths": [path] } })
}
