use std::fmt::Write as _;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::{
    action::{Action, Reach},
    filter::Filters,
    matcher::{Matches, Schemes},
    model::Scheme,
    objects::{ObjectKey, ObjectRef},
    options::EncodedSlashes,
    testing,
};

#[derive(Deserialize)]
struct Row {
    kind: String,
    paths: Vec<String>,
    request: String,
    answer: Option<String>,
}

fn path_match(kind: &str, text: &str) -> PathMatch {
    match kind {
        "Exact" => PathMatch::Exact(text.into()),
        "Prefix" => PathMatch::Prefix(text.into()),
        "RoutePrefix" => PathMatch::RoutePrefix(text.into()),
        "Regex" => PathMatch::Regex(PathRegex::new(text).unwrap()),
        other => panic!("{other}"),
    }
}

fn rule(path: PathMatch) -> Arc<RouteRule> {
    let object = ObjectRef::new("Ingress", ObjectKey::new("default", "a"));
    Arc::new(RouteRule {
        object,
        host: HostPattern::Any,
        matches: Matches { path, schemes: Schemes::BOTH },
        encoded_slashes: EncodedSlashes::default(),
        filters: Filters::default(),
        action: Action::Deny { reason: "Test", reach: Reach::Rule },
    })
}

fn table(paths: Vec<PathMatch>) -> RouteTable {
    let rules = paths.into_iter().map(rule).collect();
    let host = HostRoutes::build(HostPattern::Any, rules, true);
    RouteTable::default().edited([(HostPattern::Any, Some(Arc::new(host)))])
}

fn answer(table: &RouteTable, path: &str) -> Option<PathMatch> {
    let path = path::canonical(path).unwrap().matched;
    Some(testing::lookup(table, Scheme::Http, "foo.com", &path)?.rule.matches.path.clone())
}

#[test]
fn paths_match_as_the_api_documents() {
    let rows: Vec<Row> = serde_saphyr::from_str(include_str!("path_types.yaml")).unwrap();
    assert!(rows.len() > 30);
    for Row { kind, mut paths, request, answer: expected } in rows {
        let expected = expected.map(|text| path_match(&kind, &text));
        // The order of the rules must not matter.
        for _ in 0..2 {
            let table = table(paths.iter().map(|text| path_match(&kind, text)).collect());
            assert_eq!(answer(&table, &request), expected, "{kind} {paths:?} {request}");
            paths.reverse();
        }
    }
}

#[test]
fn rules_are_listed_in_the_order_in_which_they_win() {
    let kinds = [
        ("Prefix", "/"),
        ("Regex", "/ab.*"),
        ("Exact", "/x"),
        ("Prefix", "/longer"),
        ("Prefix", "/four/"),
        ("Exact", "/exact"),
    ];
    let table = table(kinds.iter().map(|(kind, text)| path_match(kind, text)).collect());
    let host = table.host(&HostPattern::Any).unwrap();
    let listed: Vec<_> = host.rules().map(|rule| rule.matches.path.text().to_owned()).collect();
    assert_eq!(listed, ["/exact", "/x", "/longer", "/four/", "/ab.*", "/"]);
}

#[test]
fn the_number_of_hosts_changes_no_answer() {
    for count in [1, 101, 5000] {
        let mut yaml =
            String::from("kind: Ingress\nmetadata: {name: a, namespace: d}\nspec:\n  rules:\n");
        for n in 0..count {
            writeln!(yaml, "  - {{host: h{n}.example.com, http: {{paths: [{{pathType: Prefix, path: /p{n}, backend: {{service: {{name: s{n}, port: {{number: 80}}}}}}}}]}}}}").unwrap();
        }
        yaml.push_str("  - {host: '*.example.com', http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: wild, port: {number: 80}}}}]}}\n");
        let compiled = testing::compiled(&yaml);
        for n in [0, count / 2, count - 1] {
            let name = format!("s{n}:80");
            assert_eq!(
                testing::answer(&compiled, &format!("http://h{n}.example.com/p{n}/x")),
                name
            );
            assert_eq!(testing::answer(&compiled, &format!("http://H{n}.EXAMPLE.Com./p{n}")), name);
            assert_eq!(testing::answer(&compiled, &format!("http://h{n}.example.com/P{n}")), "404");
        }
        assert_eq!(testing::answer(&compiled, "http://H.EXAMPLE.com/"), "wild:80");
        assert_eq!(testing::answer(&compiled, "http://example.com/"), "404");
    }
}

#[test]
fn every_host_has_one_entry_that_owns_it() {
    let compiled = testing::compiled(
        "kind: Ingress\nmetadata: {name: a, namespace: d}\nspec: {rules: [{host: a.com}, {host: '*.a.com'}, {}]}",
    );
    let table = &compiled.tables[0].routes;
    let name = |host: &str| table.host_for(host).map(|host| host.name.to_string());
    assert_eq!(name("a.com").as_deref(), Some("a.com"));
    assert_eq!(name("x.a.com").as_deref(), Some("*.a.com"));
    assert_eq!(name("x.x.a.com").as_deref(), Some("*"));
    let listed: Vec<_> = table.hosts().map(|(pattern, _)| pattern.to_string()).collect();
    assert_eq!(listed, ["a.com", "*.a.com", "*"]);
}

/// The same question answered the slow way: look at every rule, take the longest.
fn by_hand(paths: &[PathMatch], request: &str) -> Option<PathMatch> {
    let matches = |path: &&PathMatch| match path {
        PathMatch::Exact(text) => **text == *request,
        PathMatch::Prefix(text) => {
            let elements = |path: &str| -> Vec<String> {
                path.split('/').filter(|e| !e.is_empty()).map(str::to_owned).collect()
            };
            elements(request).starts_with(&elements(text))
        }
        PathMatch::RoutePrefix(text) => request.strip_prefix(&**text).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || text.ends_with('/') || text.is_empty()
        }),
        PathMatch::Regex(_) | PathMatch::Default => false,
    };
    let rank = |path: &&PathMatch| (matches!(path, PathMatch::Exact(_)), path.text().len());
    paths.iter().filter(matches).max_by_key(rank).cloned()
}

proptest! {
    #[test]
    fn the_table_answers_as_a_look_at_every_rule_would(
        paths in proptest::collection::btree_set(
            ("(/[ab]{1,2}){0,4}/?", 0..3u8).prop_filter("a path", |(text, _)| !text.is_empty()), 1..12),
        request in "(/[ab]{1,2}){0,5}/?".prop_filter("a path", |text| !text.is_empty()),
    ) {
        let kinds = ["Exact", "Prefix", "RoutePrefix"];
        let paths: Vec<_> =
            paths.iter().map(|(text, kind)| path_match(kinds[usize::from(*kind)], text)).collect();
        let (winners, _) = admit::owners(&paths.iter().cloned().map(rule).collect::<Vec<_>>());
        let winners: Vec<_> = winners.iter().map(|rule| rule.matches.path.clone()).collect();
        // A Route's prefix and an Ingress' of the same length only meet as one path with and without
        // slash; they are different lengths then.
        prop_assert_eq!(answer(&table(paths), &request), by_hand(&winners, &request));
    }
}

#[test]
fn of_many_hosts_each_is_found_until_it_is_taken_out_and_the_table_before_keeps_it() {
    let host = |number: usize| HostPattern::Exact(format!("h{number}.example.com").into());
    let entry = |number: usize| {
        let rules = vec![rule(PathMatch::Prefix("/".into()))];
        (host(number), Some(Arc::new(HostRoutes::build(host(number), rules, true))))
    };
    let all = RouteTable::default().edited((0..3000).map(entry));
    assert_eq!(all.len(), 3000);
    let fewer = all.edited((0..3000).step_by(3).map(|number| (host(number), None)));
    assert_eq!(fewer.len(), 2000);
    for number in 0..3000 {
        let name = format!("h{number}.example.com");
        let found = |table: &RouteTable| testing::lookup(table, Scheme::Http, &name, "/").is_some();
        assert!(found(&all), "{name}");
        assert_eq!(found(&fewer), number % 3 != 0, "{name}");
    }
    let again = fewer.edited((0..3000).step_by(3).map(entry));
    assert_eq!(again.hosts().count(), 3000);
}
