use gatehouse_routes::objects::SourceTrust;
use k8s_openapi::api::core::v1::{Secret, Service};

use super::*;

const ONE: SourceId = SourceId("one");
const TWO: SourceId = SourceId("two");

/// A source of Services and Secrets.
fn source(id: SourceId) -> Source {
    Source {
        id,
        trust: SourceTrust::default(),
        kinds: &[Kind::Service, Kind::Secret],
        by_name: &[],
        whole_batches: false,
    }
}

fn state(sources: &[SourceId]) -> ClusterState {
    ClusterState::new(sources.iter().copied().map(source))
}

/// A Service; `content` tells it from others of its name.
fn service(name: &str, content: &str) -> Object {
    let mut service = Service::default();
    service.metadata.namespace = Some("default".to_owned());
    service.metadata.name = Some(name.to_owned());
    service.metadata.resource_version = Some(content.to_owned());
    Object::Service(service.into())
}

fn secret(name: &str) -> Object {
    let mut secret = Secret::default();
    secret.metadata.namespace = Some("default".to_owned());
    secret.metadata.name = Some(name.to_owned());
    Object::Secret(secret.into())
}

fn put(source: SourceId, object: Object) -> Event {
    Event::Batch(source, vec![Change::Apply(object, 0)])
}

fn delete(source: SourceId, name: &str) -> Event {
    let key = ObjectKey::new("default", name);
    Event::Batch(source, vec![Change::Delete(Kind::Service, key)])
}

/// `name=content` of the Services, then the names of the Secrets.
fn shown(state: &ClusterState) -> String {
    let content = |object: &Service| object.metadata.resource_version.clone().unwrap_or_default();
    let services = state.objects.services.iter();
    let services = services.map(|(key, at)| format!("{}={}", key.name, content(&at.object)));
    let secrets = state.objects.secrets.keys().map(|key| key.name.to_string());
    services.chain(secrets).collect::<Vec<_>>().join(" ")
}

/// Applies events one by one; after each of them the state must have changed or not, and show this.
fn tell(state: &mut ClusterState, story: Vec<(Event, bool, &str)>) {
    for (step, (event, changes, expected)) in story.into_iter().enumerate() {
        let what = format!("step {step}: {event:?}");
        assert_eq!(state.apply(event), changes, "{what}");
        assert_eq!(shown(state), expected, "{what}");
    }
}

/// Both kinds told to the end, with one Service and one Secret.
fn synced(sources: &[SourceId]) -> ClusterState {
    let mut state = state(sources);
    let story = vec![
        (put(ONE, service("a", "1")), true, "a=1"),
        (put(ONE, secret("s")), true, "a=1 s"),
        (Event::Synced(ONE, Kind::Service), true, "a=1 s"),
        (Event::Synced(ONE, Kind::Secret), true, "a=1 s"),
    ];
    tell(&mut state, story);
    state
}

#[test]
fn a_batch_is_a_change_only_if_an_object_or_its_order_is_another() {
    let mut state = state(&[ONE]);
    let web = service("web", "");
    let apply = |order| Event::Batch(ONE, vec![Change::Apply(web.clone(), order)]);
    assert!(state.apply(apply(0)), "a new object");
    assert!(!state.apply(apply(0)), "the same object");
    assert!(state.apply(apply(1)), "another order");
    let equal = Event::Batch(ONE, vec![Change::Apply(service("web", ""), 1)]);
    assert!(state.apply(equal), "another pointer, as sources promise to keep them");
    assert!(state.apply(delete(ONE, "web")));
    assert!(!state.apply(delete(ONE, "web")));
    assert!(state.objects.services.is_empty());
    assert!(!state.apply(Event::Batch(ONE, Vec::new())));
}

#[test]
fn the_problems_of_a_source_replace_its_former_ones() {
    let mut state = state(&[ONE, TWO]);
    let object = service("web", "").object_ref();
    let problem = |reason| Problem::error(&object, reason, "", "", "");
    let told = |source, reason| Event::Problems(source, vec![problem(reason)]);
    assert!(state.apply(told(ONE, "A")));
    assert!(!state.apply(told(ONE, "A")));
    assert!(state.apply(told(TWO, "B")));
    assert!(state.apply(told(ONE, "C")));
    let reasons = |state: &ClusterState| {
        state.problems().iter().map(|problem| problem.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&state), ["C", "B"]);
    assert!(state.apply(Event::Problems(TWO, Vec::new())));
    assert_eq!(reasons(&state), ["C"]);
}

#[test]
fn nothing_is_synced_before_every_kind_of_every_source_is() {
    let mut state = state(&[ONE, TWO]);
    state.apply(put(ONE, service("web", "")));
    let order = [(TWO, Kind::Secret), (ONE, Kind::Service), (ONE, Kind::Secret)];
    for (source, kind) in order {
        assert!(!state.synced());
        assert!(state.apply(Event::Synced(source, kind)));
        assert!(!state.apply(Event::Synced(source, kind)), "once is enough");
    }
    assert!(!state.synced());
    assert!(state.apply(Event::Synced(TWO, Kind::Service)) && state.synced());
    assert!(!ClusterState::default().synced(), "without sources nobody knows anything");
}

#[test]
fn no_source_takes_away_what_another_one_told() {
    let mut state = synced(&[ONE, TWO]);
    let story = vec![
        (put(TWO, service("b", "2")), true, "a=1 b=2 s"),
        (delete(TWO, "a"), false, "a=1 b=2 s"),
        (delete(TWO, "b"), true, "a=1 s"),
    ];
    tell(&mut state, story);
}

#[test]
fn of_one_object_in_two_sources_that_of_the_first_counts_whenever_it_comes() {
    let mut state = synced(&[TWO, ONE]);
    let story = vec![
        (put(TWO, service("a", "2")), true, "a=2 s"),
        // Both have one already, and this one does not count.
        (put(ONE, service("a", "3")), false, "a=2 s"),
    ];
    tell(&mut state, story);
    let problems: Vec<_> = state.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("source one is overridden by that of source two"), "{problems:?}");
    tell(&mut state, vec![(delete(TWO, "a"), true, "a=3 s")]);
    assert_eq!(state.problems(), []);
    let story = vec![
        (put(TWO, service("a", "4")), true, "a=4 s"),
        // Only the problem goes.
        (delete(ONE, "a"), true, "a=4 s"),
        (delete(TWO, "a"), true, "s"),
    ];
    tell(&mut state, story);
}

#[test]
fn objects_have_the_trust_of_their_source() {
    let trust = SourceTrust { loopback_endpoints: true, standalone: false };
    let mut state = ClusterState::new([Source { trust, ..source(ONE) }, source(TWO)]);
    state.apply(put(ONE, service("a", "")));
    state.apply(put(TWO, service("a", "")));
    state.apply(put(TWO, service("b", "")));
    let given: Vec<_> = state.objects.services.values().map(|stored| stored.trust).collect();
    assert_eq!(given, [trust, SourceTrust::default()]);
    state.apply(delete(ONE, "a"));
    let given: Vec<_> = state.objects.services.values().map(|stored| stored.trust).collect();
    assert_eq!(given, [SourceTrust::default(); 2]);
}

#[test]
fn unannounced_sources_and_kinds_change_nothing() {
    let mut state = synced(&[ONE]);
    let node = Object::Node(Default::default());
    let story = vec![
        (put(TWO, service("b", "1")), false, "a=1 s"),
        (Event::Synced(TWO, Kind::Service), false, "a=1 s"),
        (Event::Problems(TWO, vec![]), false, "a=1 s"),
        (put(ONE, node), false, "a=1 s"),
        (Event::Synced(ONE, Kind::Node), false, "a=1 s"),
    ];
    tell(&mut state, story);
    assert!(state.objects.nodes.is_empty());
}

#[test]
fn another_status_of_an_ingress_or_a_route_is_no_change_for_a_compile() {
    let read = |kind: Kind, version: &str, annotation: &str, status: &str| {
        let object = serde_json::json!({
            "metadata": {
                "namespace": "default", "name": "web", "resourceVersion": version,
                "annotations": { "a": annotation },
            },
            "spec": { "to": { "kind": "Service", "name": "web" } },
            "status": { "loadBalancer": { "ingress": [{ "ip": status }] } },
        });
        kind.read(kind.api_version(), &Value(object)).unwrap()
    };
    for (kind, compiled) in [(Kind::Ingress, false), (Kind::Route, false), (Kind::Service, true)] {
        let mut state = ClusterState::new([Source { kinds: Kind::ALL, ..source(ONE) }]);
        assert!(state.apply(put(ONE, read(kind, "1", "x", "192.0.2.1"))));
        assert!(!state.take_other_statuses(), "{kind:?}: it is new");
        let revision = |state: &ClusterState| match kind {
            Kind::Ingress => state.objects.ingresses.values().next().unwrap().revision,
            Kind::Route => state.objects.routes.values().next().unwrap().revision,
            _ => state.objects.services.values().next().unwrap().revision,
        };
        let first = revision(&state);
        let told = read(kind, "2", "x", "192.0.2.2");
        assert_eq!(state.apply(put(ONE, told.clone())), compiled, "{kind:?}");
        assert_eq!(state.take_other_statuses(), !compiled, "{kind:?}");
        assert_eq!(revision(&state) == first, !compiled, "{kind:?}");
        assert!(!state.take_other_statuses(), "once is enough");
        let known = state.metadata(kind, &told.key()).unwrap().0;
        assert_eq!(
            known.resource_version.as_deref(),
            Some("2"),
            "{kind:?}: it is the one that counts"
        );
        assert!(state.apply(put(ONE, read(kind, "3", "y", "192.0.2.2"))), "{kind:?}");
        assert_ne!(revision(&state), first, "{kind:?}");
        assert!(!state.take_other_statuses(), "{kind:?}");
    }
}

#[test]
fn every_kind_can_be_read_applied_and_deleted() {
    for &kind in Kind::ALL {
        let name = kind.name();
        let object = kind.read(kind.api_version(), &Empty).unwrap();
        assert_eq!((object.kind(), Kind::named(name)), (kind, Some(kind)), "{name}");
        let mut state = ClusterState::new([Source { kinds: Kind::ALL, ..source(ONE) }]);
        assert!(state.apply(put(ONE, object)), "{name}");
        let delete = || Event::Batch(ONE, vec![Change::Delete(kind, ObjectKey::new("", ""))]);
        assert!(state.apply(delete()) && !state.apply(delete()), "{name}");
    }
    assert_eq!(Kind::named("File"), None);
}

/// An object of which nothing is said but what every EndpointSlice and Route must say.
struct Empty;

impl crate::source::Read for Empty {
    type Error = serde_json::Error;

    fn read<T: serde::de::DeserializeOwned>(&self, _: Kind) -> Result<T, Self::Error> {
        let object = serde_json::json!({
            "metadata": {}, "spec": {}, "addressType": "IPv4", "endpoints": [],
        });
        serde_json::from_value(object)
    }
}

/// One object.
struct Value(serde_json::Value);

impl crate::source::Read for Value {
    type Error = serde_json::Error;

    fn read<T: serde::de::DeserializeOwned>(&self, _: Kind) -> Result<T, Self::Error> {
        serde_json::from_value(self.0.clone())
    }
}
