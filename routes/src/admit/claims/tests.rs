use proptest::prelude::*;

use super::*;
use crate::objects::Age;

/// `namespace/name host path lane`, the oldest first; `*.foo.com` is a wildcard.
fn refused(ownership: Ownership, lines: &[&str]) -> Vec<String> {
    let given: Vec<_> = lines.iter().enumerate().map(|(at, line)| One::new(at, line)).collect();
    let mut refused: Vec<_> = route_claims(given.iter().map(One::claim).collect(), ownership)
        .into_iter()
        .map(|(at, message)| format!("{}: {message}", given[at].key.name))
        .collect();
    refused.sort();
    refused
}

struct One {
    key: ObjectKey,
    host: HostPattern,
    path: String,
    lane: Lane,
    age: usize,
}

impl One {
    fn new(age: usize, line: &str) -> Self {
        let mut words = line.split_whitespace();
        let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
        let host = words.next().unwrap();
        let path = words.next().unwrap().to_owned();
        let lane = match words.next() {
            None => Lane::Clear,
            Some("edge") => Lane::Terminated,
            Some("passthrough") => Lane::PassedThrough,
            Some(other) => panic!("{other}"),
        };
        let host = match host.strip_prefix("*.") {
            Some(domain) => HostPattern::OneLabel(domain.into()),
            None => HostPattern::Exact(host.into()),
        };
        Self { key: ObjectKey::new(namespace, name), host, path, lane, age }
    }

    fn claim(&self) -> RouteClaim<'_> {
        let age = Age { created: Some(self.age as i128), order: 0 };
        let seniority = Seniority { age, kind: "Route", uid: None, key: &self.key };
        let path = claimed_path(&self.path);
        RouteClaim { seniority, host: &self.host, path, lane: self.lane, at: self.age }
    }
}

#[test]
fn the_oldest_route_of_a_host_fixes_its_namespace() {
    let lines = ["a/one h.com /x", "b/two h.com /y", "a/three h.com /x", "a/four h.com /z"];
    assert_eq!(
        refused(Ownership::Strict, &lines),
        [
            "three: route one already exposes h.com and is older",
            "two: a route in another namespace holds h.com and is older than two",
        ]
    );
    assert_eq!(
        refused(Ownership::InterNamespaceAllowed, &lines),
        ["three: route one already exposes h.com and is older"]
    );
    assert_eq!(
        refused(Ownership::InterNamespaceAllowed, &["a/one h.com /x", "b/two h.com /x"]),
        ["two: a route in another namespace holds h.com and is older than two"]
    );
}

#[test]
fn no_path_and_the_root_are_one_claim_as_are_all_spellings_of_a_path() {
    for (a, b) in [("/", "/"), ("/a%7e", "/a~"), ("/%e4", "/%E4")] {
        let lines = [format!("a/one h.com {a}"), format!("a/two h.com {b}")];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(refused(Ownership::Strict, &lines).len(), 1, "{a} {b}");
    }
    assert_eq!(claimed_path(""), "/");
    let lines = ["a/one h.com /x", "a/two h.com /x/"];
    assert!(refused(Ownership::Strict, &lines).is_empty(), "these match different requests");
}

#[test]
fn a_passed_through_host_leaves_room_for_clear_text_only() {
    for (lines, wanted) in [
        (["a/one h.com / passthrough", "a/two h.com /"], 0),
        (["a/one h.com /", "a/two h.com / passthrough"], 0),
        (["a/one h.com / passthrough", "a/two h.com /x edge"], 1),
        (["a/one h.com /x edge", "a/two h.com / passthrough"], 1),
        (["a/one h.com / passthrough", "a/two h.com / passthrough"], 1),
        (["a/one h.com /x", "a/two h.com /x edge"], 1),
        (["a/one h.com / passthrough", "b/two h.com /"], 1),
    ] {
        assert_eq!(refused(Ownership::Strict, &lines).len(), wanted, "{lines:?}");
    }
}

#[test]
fn a_wildcard_and_the_hosts_of_its_domain_belong_to_one_namespace() {
    for (lines, strict, shared) in [
        (["a/wild *.foo.com /", "a/host x.foo.com /"], 0, 0),
        (["a/wild *.foo.com /", "b/host x.foo.com /y"], 1, 0),
        (["a/host x.foo.com /y", "b/wild *.foo.com /"], 1, 0),
        (["a/wild *.foo.com /", "a/again *.foo.com /"], 1, 1),
        (["a/wild *.foo.com /", "b/again *.foo.com /x"], 1, 0),
        (["a/wild *.foo.com /", "b/host y.x.foo.com /"], 0, 0),
        (["a/wild *.foo.com /", "b/host foo.com /"], 0, 0),
        (["a/host net /", "b/host com /"], 0, 0),
    ] {
        assert_eq!(refused(Ownership::Strict, &lines).len(), strict, "{lines:?}");
        assert_eq!(refused(Ownership::InterNamespaceAllowed, &lines).len(), shared, "{lines:?}");
    }
}

fn any_line() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["a.com", "x.foo.com", "y.foo.com", "*.foo.com"]);
    let path = prop::sample::select(vec!["/", "/x", "/x/", "/%78"]);
    let lane = prop::sample::select(vec!["", "edge", "passthrough"]);
    let namespace = prop::sample::select(vec!["a", "b"]);
    (namespace, host, path, lane)
        .prop_map(|(namespace, host, path, lane)| format!("{namespace}/r {host} {path} {lane}"))
}

proptest! {
    /// After any edits, in whatever order they come, the same Routes have the same hosts.
    #[test]
    fn who_gets_a_host_does_not_depend_on_the_order(
        lines in prop::collection::vec(any_line(), 1..12),
        strict: bool,
        turns in any::<u64>(),
    ) {
        let ownership = if strict { Ownership::Strict } else { Ownership::InterNamespaceAllowed };
        let given: Vec<_> = lines.iter().enumerate().map(|(at, line)| One::new(at, line)).collect();
        let judge = |order: Vec<&One>| {
            let mut failed = route_claims(order.into_iter().map(One::claim).collect(), ownership);
            failed.sort();
            failed
        };
        let first = judge(given.iter().collect());
        let mut turned: Vec<_> = given.iter().collect();
        let by = turns as usize % given.len();
        turned.rotate_left(by);
        if turns % 2 == 0 {
            turned.reverse();
        }
        prop_assert_eq!(&judge(turned), &first);
        // The oldest of all has what it asks for, and a refused claimant takes nothing from the others.
        prop_assert!(first.iter().all(|(at, _)| *at != 0));
        let failed: Vec<_> = first.iter().map(|(at, _)| *at).collect();
        let rest = given.iter().filter(|one| !failed.contains(&one.age)).collect();
        prop_assert_eq!(judge(rest), Vec::new());
    }
}
