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
    /// `true`: the host has a `tls` entry; else the entries.
    #[serde(default)]
    tls: serde_json::Value,
    /// Secrets, which the objects call `{case}-NAME`, and what is in them: see [`secret`].
    #[serde(default)]
    secrets: BTreeMap<String, String>,
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
    /// Ingresses of the same host, younger by their names.
    #[serde(default)]
    others: Vec<Canary>,
    pub(crate) requests: Vec<Ask>,
}

/// An Ingress beside that of a case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Canary {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    tls: serde_json::Value,
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

/// The objects of a case as YAML. `{case}` stands for its name in names.
pub(crate) fn manifest(at: usize, case: &Case) -> String {
    let objects = case.objects.replace("{host}", &format!("case-{at}.test"));
    let secrets = case.secrets.iter().map(|(name, what)| secret(name, what));
    let text = served(at, case) + &secrets.collect::<String>() + "---\n" + &objects + "\n";
    text.replace("{case}", &format!("case-{at}"))
}

/// A Secret with a certificate, as [`super::certificates`] calls it, and its key. `mixed`: the key is of another one.
fn secret(name: &str, what: &str) -> String {
    let (pair, key) = if what == "mixed" { ("own", "second") } else { (what, what) };
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: \"{{case}}-{name}\", namespace: default}}\n\
         type: kubernetes.io/tls\nstringData: {{tls.crt: \"{{{pair}.crt}}\", tls.key: \"{{{key}.key}}\"}}\n"
    )
}

/// The object of a case and those beside it.
fn served(at: usize, case: &Case) -> String {
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
    let own = Canary {
        annotations: case.annotations.clone(),
        tls: case.tls.clone(),
        paths: Vec::new(),
        backend: Some(case.backend.clone().unwrap_or_else(|| "app".to_owned())),
    };
    let own = ingress(at, "", case, &own, false);
    let canaries = case.canaries.iter().enumerate();
    let canaries =
        canaries.map(|(number, it)| ingress(at, &format!("-canary-{number}"), case, it, true));
    let others = case.others.iter().enumerate();
    let others =
        others.map(|(number, it)| ingress(at, &format!("-other-{number}"), case, it, false));
    config + &own + &canaries.chain(others).collect::<String>()
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

fn ingress(at: usize, suffix: &str, case: &Case, object: &Canary, canary: bool) -> String {
    let mut annotations = object.annotations.clone();
    if canary {
        annotations.insert("canary".to_owned(), "true".to_owned());
    }
    let paths = if object.paths.is_empty() { &case.paths } else { &object.paths };
    let backend = object.backend.as_deref().unwrap_or("canary");
    let tls = match &object.tls {
        serde_json::Value::Bool(true) => "[{hosts: [\"{host}\"]}]".to_owned(),
        serde_json::Value::Array(entries) => serde_json::to_string(entries).unwrap(),
        _ => "[]".to_owned(),
    };
    let tls = tls.replace("{host}", &format!("case-{at}.test"));
    let annotations = annotations.iter().map(|(name, value)| {
        // `${host}` is nginx's variable.
        let own = value.replace("${host}", "${}").replace("{host}", &format!("case-{at}.test"));
        let value = own.replace("${}", "${host}");
        let prefix = if name.contains('/') { "" } else { "nginx.ingress.kubernetes.io/" };
        format!("    {prefix}{name}: {}\n", serde_json::to_string(&value).unwrap())
    });
    let default = vec![("Prefix".to_owned(), "/".to_owned())];
    let paths = if paths.is_empty() { &default } else { paths };
    let paths = paths.iter().map(|(kind, path)| {
        format!(
            "      - {{path: {}, pathType: {kind}, backend: {{service: {{name: {backend}, port: {{number: 80}}}}}}}}\n",
            serde_json::to_string(path).unwrap()
        )
    });
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: case-{at}{suffix}\n  annotations:\n    \
         test: case\n{}spec:\n  tls: {tls}\n  rules:\n  - host: case-{at}.test\n    http:\n      paths:\n{}",
        annotations.collect::<String>(),
        paths.collect::<String>()
    )
}
