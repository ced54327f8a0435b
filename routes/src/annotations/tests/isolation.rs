//! Whatever stands in an annotation, the rules of other objects are what they are without it; and where it
//! protects, a value that cannot be honoured closes the paths of its object.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    action::Action,
    compile::{Compiled, compile},
    matcher::RequestView,
    model::Scheme,
    objects::Objects,
    options::Options,
    problem::Severity,
    rule::RouteRule,
    testing,
};

/// Values that hardly any annotation takes.
const BAD: [&str; 9] = [
    "\u{7}",
    "-1",
    "no such value",
    "{{",
    "a; return 200",
    "~(",
    "$nothing",
    "http://169.254.169.254/",
    "other/secret",
];

/// An object with an annotation, and others beside it: of its namespace and of another, of its host and of others.
fn world(kind: &str, annotation: Option<(&str, &str)>) -> Objects {
    let annotations = |own: bool| match annotation.filter(|_| own) {
        Some((name, value)) => json!({ name: value }),
        None => json!({}),
    };
    let ingress = |name: &str, namespace: &str, host: &str, path: &str| {
        let path = json!({"path": path, "pathType": "Prefix",
            "backend": {"service": {"name": name, "port": {"number": 80}}}});
        json!({"kind": "Ingress",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations(name == "victim")},
            "spec": {"ingressClassName": "g", "rules": [{"host": host, "http": {"paths": [path]}}]}})
    };
    let route = |name: &str, namespace: &str, host: &str, path: &str| {
        json!({"kind": "Route",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations(name == "victim")},
            "spec": {"host": host, "path": path, "to": {"kind": "Service", "name": name}}})
    };
    let victim = match kind {
        "Route" => route("victim", "d", "v.test", "/"),
        _ => ingress("victim", "d", "v.test", "/"),
    };
    testing::from_values([
        json!({"kind": "IngressClass", "metadata": {"name": "g"}, "spec": {"controller": "gatehouse.io/ingress"}}),
        ingress("host", "d", "v.test", "/host"),
        ingress("namespace", "d", "n.test", "/"),
        ingress("foreign", "f", "v.test", "/foreign"),
        ingress("far", "f", "far.test", "/"),
        route("route", "d", "r.test", "/"),
        route("path", "d", "v.test", "/path"),
        victim,
    ])
}

/// Every rule that objects ask for, by object; of the one with the annotation or of the others.
fn rules(compiled: &Compiled, of_victim: bool) -> Vec<Arc<RouteRule>> {
    let hosts = compiled.tables[0].routes.hosts();
    let rules = hosts.flat_map(|(_, host)| host.candidates().to_vec());
    rules.filter(|rule| (&*rule.object.key.name == "victim") == of_victim).collect()
}

/// Judges one value of one annotation beside the world without it.
fn judge(bare: &Compiled, kind: &str, row: &Annotation, full: &str, value: &str) {
    let compiled = compile(&world(kind, Some((full, value))), &Options::default(), Some(bare));
    let case = || format!("{full}: {value:?} on a {kind}: {:?}", testing::problems(&compiled));
    assert_eq!(rules(&compiled, false), rules(bare, false), "{}", case());
    let others = |problem: &&Problem| {
        &*problem.object.key.name != "victim" && problem.reason != "PathConflict"
    };
    let (own, before): (Vec<_>, Vec<_>) = (
        compiled.problems.iter().filter(others).collect(),
        bare.problems.iter().filter(others).collect(),
    );
    assert_eq!(own, before, "{}", case());
    let field = format!("metadata.annotations[{full}]");
    let refused = compiled.problems.iter().any(|problem| {
        let own = &*problem.object.key.name == "victim" && problem.field == field;
        own && problem.severity == Severity::Error
    });
    let (parts, ()) = http::Request::new(()).into_parts();
    let answer = |host: &str| {
        let view = RequestView { scheme: Scheme::Http, host, path: "/", parts: &parts };
        compiled.tables[0].routes.lookup(&view).map(|matched| Arc::clone(matched.rule))
    };
    if refused && row.protects {
        let closed =
            answer("v.test").is_some_and(|rule| matches!(rule.action, Action::Deny { .. }));
        assert!(closed, "open: {}", case());
        let open = |rule: &Arc<RouteRule>| !matches!(rule.action, Action::Deny { .. });
        assert!(!rules(&compiled, true).iter().any(open), "a path is open: {}", case());
    }
    // What others have on other hosts answers as before.
    for (host, name) in [("n.test", "namespace"), ("far.test", "far"), ("r.test", "route")] {
        let rule = answer(host).expect("the rule of the host");
        assert!(&*rule.object.key.name == name, "{host}: {}", case());
    }
}

/// The rows of objects that have paths, with a kind of such an object and the whole name.
fn rows_with_paths() -> impl Iterator<Item = (&'static str, &'static Annotation, String)> {
    rows()
        .filter(|(.., kind)| ["Ingress", "Route"].contains(kind))
        .map(|(family, row, kind)| (kind, row, format!("{}{}", family.prefix, row.name)))
}

#[test]
fn a_bad_value_changes_nothing_but_its_own_object_and_closes_that_where_it_protects() {
    let bare = |kind| compile(&world(kind, None), &Options::default(), None);
    let (ingress, route) = (bare("Ingress"), bare("Route"));
    let mut protected = 0;
    for (kind, row, full) in rows_with_paths() {
        let bare = if kind == "Route" { &route } else { &ingress };
        BAD.iter().for_each(|value| judge(bare, kind, row, &full, value));
        protected += usize::from(row.protects);
    }
    assert!(protected > 20, "{protected} rows protect");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_text_reaches_the_rules_of_others(at in 0..usize::MAX, value in "\\PC{0,40}|[a-z0-9/:.,$~(){} -]{0,30}") {
        let all: Vec<_> = rows_with_paths().collect();
        let (kind, row, full) = &all[at % all.len()];
        let bare = compile(&world(kind, None), &Options::default(), None);
        judge(&bare, kind, row, full, &value);
    }
}

/// A canary is what reaches the rules of others, and only with values that make it one.
#[test]
fn a_value_that_reaches_others_is_seen_by_this_test() {
    let ingress = |name: &str, annotations: Value| {
        let path = json!({"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": name, "port": {"number": 80}}}});
        json!({"kind": "Ingress",
            "metadata": {"name": name, "namespace": "d", "annotations": annotations},
            "spec": {"ingressClassName": "g", "rules": [{"host": "c.test", "http": {"paths": [path]}}]}})
    };
    let class = json!({"kind": "IngressClass", "metadata": {"name": "g"}, "spec": {"controller": "gatehouse.io/ingress"}});
    let with = |annotations| {
        let objects = testing::from_values([
            class.clone(),
            ingress("main", json!({})),
            ingress("victim", annotations),
        ]);
        compile(&objects, &Options::default(), None)
    };
    let canary = |on: &str| {
        let (canary, weight) = (format!("{NGINX}canary"), format!("{NGINX}canary-weight"));
        with(json!({ canary: on, weight: "10" }))
    };
    assert_ne!(rules(&canary("true"), false), rules(&canary("false"), false));
}
