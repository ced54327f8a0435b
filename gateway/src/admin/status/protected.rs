//! What clients have to show before paths answer: the part of the status that says who may pass.
//!
//! Paths that are closed because their protection cannot be honoured are among the problems.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_routes::{
    compile::Compiled, explain, filter::authentication::jwt::KeySource, rule::RouteRule,
};
use serde::{Deserialize, Serialize};

use crate::upstream::issuers::IssuerFact;

/// Hosts that are named of one row.
const MOST_HOSTS: usize = 20;

/// Paths of one object that ask the same of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProtectedRow {
    /// Kind, namespace and name.
    pub object: String,
    /// What a client has to show, in words.
    pub requires: String,
    /// Some of its hosts, twenty at most.
    pub hosts: Vec<String>,
    /// How many paths, on all hosts.
    pub paths: usize,
    /// How it stands with the keys of tokens that are asked for at a URL.
    pub keys: Option<String>,
}

/// The rows of what is served, given what is known of the issuers of tokens.
pub(crate) fn rows(
    compiled: &Compiled,
    issuers: &BTreeMap<String, IssuerFact>,
) -> Vec<ProtectedRow> {
    let mut rows: BTreeMap<(String, String), (ProtectedRow, BTreeSet<String>)> = BTreeMap::new();
    let hosts = compiled.tables.iter().flat_map(|table| table.routes.hosts());
    for (host, routes) in hosts {
        for rule in routes.rules() {
            let Some(requires) = explain::requires(rule) else { continue };
            let object = rule.object.to_string();
            let (row, hosts) = rows.entry((object, requires)).or_default();
            row.paths += 1;
            hosts.insert(host.to_string());
            if row.keys.is_none() {
                row.keys = url(rule).map(|url| keys(issuers.get(&url)));
            }
        }
    }
    let row =
        |((object, requires), (row, hosts)): ((String, String), (ProtectedRow, BTreeSet<_>))| {
            let hosts = hosts.into_iter().take(MOST_HOSTS).collect();
            ProtectedRow { object, requires, hosts, ..row }
        };
    rows.into_iter().map(row).collect()
}

/// Where the keys of a rule's tokens are.
fn url(rule: &RouteRule) -> Option<String> {
    let (_, authentication) = rule.filters.authentication()?;
    match &authentication.jwt.as_ref()?.keys {
        KeySource::Url(url, _) => Some(url.to_string()),
        KeySource::Given(_) => None,
    }
}

fn keys(known: Option<&IssuerFact>) -> String {
    let failures = |failures: u32| match failures {
        0 => String::new(),
        some => format!(", {some} questions since without an answer"),
    };
    match known {
        None => "no token has come yet".to_owned(),
        Some(IssuerFact { age: None, failures: 0 }) => "asked for".to_owned(),
        Some(IssuerFact { age: None, failures: some }) => {
            format!("none, {some} questions without an answer: nobody passes")
        }
        Some(IssuerFact { age: Some(age), failures: some }) => {
            format!("{}s old{}", age.as_secs(), failures(*some))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compile::NodeContext;

    #[test]
    fn it_is_said_how_it_stands_with_the_keys_of_tokens() {
        let fact =
            |age: Option<u64>, failures| IssuerFact { age: age.map(Duration::from_secs), failures };
        assert_eq!(keys(None), "no token has come yet");
        assert_eq!(
            keys(Some(&fact(None, 3))),
            "none, 3 questions without an answer: nobody passes"
        );
        assert_eq!(keys(Some(&fact(Some(12), 0))), "12s old");
        assert_eq!(
            keys(Some(&fact(Some(900), 2))),
            "900s old, 2 questions since without an answer"
        );
    }

    #[test]
    fn paths_that_ask_the_same_of_clients_are_one_row_of_their_object() {
        const OBJECTS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: gatehouse}
spec: {controller: gatehouse.io/ingress}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: asked
  namespace: x
  annotations: {nginx.ingress.kubernetes.io/auth-url: "https://auth.test/check"}
spec:
  ingressClassName: gatehouse
  rules:
    - host: a.test
      http: {paths: [{path: /one, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}},
                     {path: /two, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}
    - host: b.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: open, namespace: x}
spec:
  ingressClassName: gatehouse
  rules:
    - host: c.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}
"#;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("objects.yaml");
        std::fs::write(&file, OBJECTS).unwrap();
        let planned = crate::plan::planned(&[file], NodeContext::default()).unwrap();
        let [row] = &*rows(&planned.compiled.routes, &BTreeMap::new()) else { panic!() };
        assert_eq!((row.paths, &*row.hosts), (3, &["a.test".to_owned(), "b.test".to_owned()][..]));
        assert!(row.object.contains("x/asked"), "{row:?}");
        assert_eq!(row.requires, "a yes of https://auth.test/check");
        assert_eq!(row.keys, None, "no tokens");
    }
}
