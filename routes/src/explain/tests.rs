use super::*;
use crate::testing;

const OBJECTS: &str = "
kind: Ingress
metadata: {name: old, namespace: d, creationTimestamp: '2001-01-01T00:00:00Z'}
spec:
  rules:
  - host: a.foo.com
    http:
      paths:
      - {pathType: Prefix, path: /api, backend: {service: {name: api, port: {number: 80}}}}
      - {pathType: Prefix, path: /, backend: {service: {name: root, port: {number: 80}}}}
      - {pathType: Exact, path: /api/exact, backend: {service: {name: exact, port: {number: 80}}}}
---
kind: Ingress
metadata: {name: young, namespace: d, creationTimestamp: '2002-01-01T00:00:00Z'}
spec:
  rules:
  - host: a.foo.com
    http: {paths: [{pathType: Prefix, path: /api, backend: {service: {name: api2, port: {number: 80}}}}]}
  - host: '*.foo.com'
    http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: wild, port: {number: 80}}}}]}
  - http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: any, port: {number: 80}}}}]}
---
kind: Route
metadata: {name: secure, namespace: d, creationTimestamp: '2003-01-01T00:00:00Z'}
spec: {host: b.bar.com, to: {name: secure}, tls: {termination: edge}}
";

/// The explanation of a `GET`.
fn explained_get(compiled: &Compiled, scheme: Scheme, host: &str, path: &str) -> Explanation {
    let (parts, ()) = http::Request::new(()).into_parts();
    explain(compiled, RequestView { scheme, host, path, parts: &parts })
}

/// Winner and losers as `path: reason`.
fn lines(scheme: Scheme, host: &str, path: &str) -> (Option<String>, Vec<String>) {
    let explanation = explained_get(&testing::compiled(OBJECTS), scheme, host, path);
    let line = |rule: &ExplainedRule| {
        format!("{}{} {}: {}", rule.host, rule.path, rule.object.key.name, rule.reason)
    };
    (explanation.winner.as_ref().map(line), explanation.losers.iter().map(line).collect())
}

#[test]
fn the_winner_and_each_loser_say_why() {
    let (winner, losers) = lines(Scheme::Http, "a.foo.com", "/api/x");
    assert_eq!(
        winner.as_deref(),
        Some("a.foo.com/api old: the host is named, and it is the longest prefix of the path")
    );
    assert_eq!(
        losers,
        [
            "a.foo.com/api/exact old: the path is not exactly this",
            "a.foo.com/ old: matches, but Prefix /api of Ingress d/old is more specific",
            "a.foo.com/api young: Ingress d/old has this host and path and is older",
            "*.foo.com/ young: host a.foo.com is more specific and answers",
            "*/ young: host a.foo.com is more specific and answers",
            "b.bar.com secure: host does not match",
        ]
    );
}

#[test]
fn a_wildcard_says_that_it_covers_one_label() {
    let (winner, losers) = lines(Scheme::Http, "x.a.foo.com", "/");
    assert_eq!(
        winner.as_deref(),
        Some("*/ young: the host has no rule of its own, and it is the longest prefix of the path")
    );
    assert!(
        losers.contains(
            &"*.foo.com/ young: host does not match: *.foo.com covers exactly one label".to_owned()
        ),
        "{losers:?}"
    );
}

#[test]
fn a_rule_of_the_other_scheme_says_so() {
    let (_, losers) = lines(Scheme::Http, "b.bar.com", "/");
    assert!(
        losers.contains(&"b.bar.com secure: not served in clear text".to_owned()),
        "{losers:?}"
    );
    let (winner, _) = lines(Scheme::Https, "b.bar.com", "/");
    assert!(winner.unwrap().starts_with("b.bar.com secure: the host is named"));
}

#[test]
fn every_rule_is_listed_once_and_the_winner_is_what_the_table_answers() {
    let compiled = testing::compiled(OBJECTS);
    for (host, path) in [("a.foo.com", "/"), ("z.foo.com", "/q"), ("q", "/"), ("b.bar.com", "/")] {
        let explanation = explained_get(&compiled, Scheme::Http, host, path);
        let winner = explanation.winner.as_ref().map(|winner| winner.object.clone());
        let found = testing::lookup(&compiled.tables[0].routes, Scheme::Http, host, path);
        assert_eq!(winner, found.map(|found| found.rule.object.clone()));
        assert_eq!(explanation.losers.len() + usize::from(explanation.winner.is_some()), 7);
    }
}

#[test]
fn it_prints_as_json() {
    let explanation = explained_get(&testing::compiled(OBJECTS), Scheme::Http, "q", "/");
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["winner"]["matchKind"], "Prefix");
    assert_eq!(json["winner"]["object"], "Ingress d/young");
    assert_eq!(json["winner"]["action"], "forward to d/any:80");
}
