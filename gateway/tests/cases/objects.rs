//! What a case is, and its objects as manifests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Ask;

/// One object and what is asked of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Names without a prefix are ingress-nginx's; `{host}` stands for the case's host.
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// Objects that the annotations name, as YAML; `{authority}` stands for the certificate of the authority.
    #[serde(default)]
    objects: String,
    /// `[type, path]` each, `[Prefix, /]` if none is given.
    #[serde(default)]
    paths: Vec<(String, String)>,
    /// The host has a `tls` entry.
    #[serde(default)]
    tls: bool,
    /// Entries of a ConfigMap, which annotations name `{case}`.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// The backend of all paths, `app` if none is given.
    backend: Option<String>,
    /// Instead of an Ingress a Route with this `spec`; `to` is `app` unless it says otherwise.
    route: Option<serde_json::Value>,
    /// Routes beside that one, which is made in the fifth minute.
    #[serde(default)]
    routes: Vec<Beside>,
    /// Ingresses that take requests of this one.
    #[serde(default)]
    canaries: Vec<Canary>,
    pub(crate) requests: Vec<Ask>,
}

/// An Ingress with the annotation `canary`, and more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Canary {
    annotations: BTreeMap<String, String>,
    /// Those of the case, if none is given.
    #[serde(default)]
    paths: Vec<(String, String)>,
    backend: Option<String>,
}

/// A Route beside that of a case, as `default/case-N-NAME`; its host is that of the case unless it says otherwise, with
/// `{host}` for that.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    name: String,
    namespace: Option<String>,
    /// The minute in which it was made.
    made: u32,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    spec: serde_json::Value,
}

/// The objects of a case as YAML.
pub(crate) fn manifest(at: usize, case: &Case) -> String {
    let config = match case.config.is_empty() {
        true => String::new(),
        false => format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: case-{at}}}\ndata: {}\n",
            serde_json::to_string(&case.config).unwrap()
        ),
    };
    if let Some(spec) = &case.route {
        let own = route(&format!("case-{at}"), "default", 5, at, &case.annotations, spec);
        let others = case.routes.iter().map(|other| {
            let Beside { name, namespace, made, annotations, spec } = other;
            let namespace = namespace.as_deref().unwrap_or("default");
            route(&format!("case-{at}-{name}"), namespace, *made, at, annotations, spec)
        });
        return config + &own + &others.collect::<String>();
    }
    let own = ingress(
        at,
        "",
        &case.annotations,
        &case.paths,
        case.backend.as_deref().unwrap_or("app"),
        case.tls,
    );
    let canaries = case.canaries.iter().enumerate().map(|(number, canary)| {
        let mut annotations = canary.annotations.clone();
        annotations.insert("canary".to_owned(), "true".to_owned());
        let paths = if canary.paths.is_empty() { &case.paths } else { &canary.paths };
        let backend = canary.backend.as_deref().unwrap_or("canary");
        ingress(at, &format!("-canary-{number}"), &annotations, paths, backend, false)
    });
    let objects = case.objects.replace("{host}", &format!("case-{at}.test"));
    let objects = if objects.is_empty() { objects } else { format!("---\n{objects}\n") };
    config + &own + &canaries.collect::<String>() + &objects
}

fn route(
    name: &str,
    namespace: &str,
    made: u32,
    at: usize,
    annotations: &BTreeMap<String, String>,
    spec: &serde_json::Value,
) -> String {
    let annotations: BTreeMap<String, &String> = annotations
        .iter()
        .map(|(name, value)| {
            let prefix = if name.contains('/') { "" } else { "haproxy.router.openshift.io/" };
            (format!("{prefix}{name}"), value)
        })
        .collect();
    let mut spec = spec.clone();
    let own = format!("case-{at}.test");
    spec["host"] = match &spec["host"] {
        serde_json::Value::String(host) => host.replace("{host}", &own).into(),
        _ => own.into(),
    };
    if spec["to"].is_null() {
        spec["to"] = serde_json::json!({ "kind": "Service", "name": "app" });
    }
    let created = format!("2024-01-01T00:{made:02}:00Z");
    let route = serde_json::json!({
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "annotations": annotations,
        },
        "spec": spec,
    });
    format!("---\n{route}\n")
}

fn ingress(
    at: usize,
    suffix: &str,
    annotations: &BTreeMap<String, String>,
    paths: &[(String, String)],
    backend: &str,
    tls: bool,
) -> String {
    let annotations = annotations.iter().map(|(name, value)| {
        // `${host}` is nginx's variable.
        let own = value.replace("${host}", "${}").replace("{host}", &format!("case-{at}.test"));
        let value = own.replace("${}", "${host}");
        let prefix = if name.contains('/') { "" } else { "nginx.ingress.kubernetes.io/" };
        let value = value.replace("{case}", &format!("case-{at}"));
        format!("    {prefix}{name}: {}\n", serde_json::to_string(&value).unwrap())
    });
    let default = [("Prefix".to_owned(), "/".to_owned())];
    let paths = if paths.is_empty() { &default } else { paths };
    let paths = paths.iter().map(|(kind, path)| {
        format!(
            "      - {{path: {}, pathType: {kind}, backend: {{service: {{name: {backend}, port: {{number: 80}}}}}}}}\n",
            serde_json::to_string(path).unwrap()
        )
    });
    let tls = if tls { format!("  tls: [{{hosts: [case-{at}.test]}}]\n") } else { String::new() };
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: case-{at}{suffix}\n  annotations:\n    \
         test: case\n{}spec:\n{tls}  rules:\n  - host: case-{at}.test\n    http:\n      paths:\n{}",
        annotations.collect::<String>(),
        paths.collect::<String>()
    )
}
