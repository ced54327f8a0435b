use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Node, NodeAddress, NodeStatus, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::*;
use crate::source::{Change, Event, Kind, Object, Source, SourceId};

const SOURCE: Source = Source {
    id: SourceId("test"),
    trust: gatehouse_routes::objects::SourceTrust { loopback_endpoints: false, standalone: false },
    kinds: &[Kind::Node],
    by_name: &[Kind::Secret],
    whole_batches: false,
};

fn state(objects: Vec<Object>) -> ClusterState {
    let mut state = ClusterState::new([SOURCE]);
    let changes = objects.into_iter().map(|object| Change::Apply(object, 0)).collect();
    state.apply(Event::Batch(SOURCE.id, changes));
    state
}

fn member(name: &str, addresses: &[(&str, &str)]) -> Object {
    let addresses = addresses.iter().map(|(kind, address)| NodeAddress {
        type_: (*kind).to_owned(),
        address: (*address).to_owned(),
    });
    let status = NodeStatus { addresses: Some(addresses.collect()), ..NodeStatus::default() };
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Object::Node(Node { metadata, status: Some(status), ..Node::default() }.into())
}

fn secret(entry: &str, value: &[u8]) -> Object {
    let metadata = ObjectMeta {
        namespace: Some("gh".to_owned()),
        name: Some("group".to_owned()),
        ..ObjectMeta::default()
    };
    let data = BTreeMap::from([(entry.to_owned(), ByteString(value.into()))]);
    Object::Secret(Secret { metadata, data: Some(data), ..Secret::default() }.into())
}

fn context(with_secret: bool) -> NodeContext {
    let secret = GroupSecret { object: ObjectKey::new("gh", "group"), entry: "key".to_owned() };
    NodeContext {
        node: "a".to_owned(),
        group_secret: with_secret.then_some(secret),
        ..NodeContext::default()
    }
}

fn planned(objects: Vec<Object>, with_secret: bool) -> (GroupPlan, Vec<Problem>) {
    let mut problems = Vec::new();
    let plan = plan(&state(objects), &context(with_secret), &mut problems);
    (plan, problems)
}

#[test]
fn the_other_nodes_are_reached_at_their_addresses_within_the_cluster() {
    let nodes = vec![
        member("a", &[("InternalIP", "10.0.0.1")]),
        member("b", &[("Hostname", "b"), ("InternalIP", "10.0.0.2"), ("ExternalIP", "192.0.2.2")]),
        member("c", &[("InternalIP", "10.0.0.3"), ("InternalIP", "fd00::3"), ("InternalIP", "?")]),
    ];
    let (plan, problems) = planned(nodes, false);
    let peers: Vec<_> = plan.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["10.0.0.2", "10.0.0.3", "fd00::3"]);
    assert!(plan.key.is_none() && !plan.missing && problems.is_empty());
}

#[test]
fn more_nodes_than_a_group_may_have_are_found_by_multicast_alone() {
    let nodes = |count: u8| {
        let node = |n| member(&format!("n{n}"), &[("InternalIP", &format!("10.0.0.{n}"))]);
        planned((0..count).map(node).collect(), false).0.peers.len()
    };
    assert_eq!((nodes(64), nodes(65)), (64, 0));
}

#[test]
fn the_key_is_that_of_the_secret() {
    let (plan, problems) = planned(vec![secret("key", b"0123456789abcdef\n")], true);
    assert_eq!(plan.key, Some(GroupKey::new(b"0123456789abcdef").unwrap()));
    assert!(!plan.missing && problems.is_empty());
    let (plan, _) = planned(vec![secret("key", b"0123456789abcdef")], false);
    assert_eq!(plan.key, None, "nobody asked for it");
}

#[test]
fn a_secret_that_is_missing_is_to_be_made_and_one_that_is_of_no_use_is_not() {
    let (plan, problems) = planned(Vec::new(), true);
    assert!(plan.missing && plan.key.is_none());
    assert_eq!(problems[0].reason, "GroupKeyMissing");
    for (objects, says) in [
        (vec![secret("token", b"0123456789abcdef")], "has no \"key\""),
        (vec![secret("key", b"too short")], "has 9 bytes"),
    ] {
        let (plan, problems) = planned(objects, true);
        assert!(!plan.missing && plan.key.is_none());
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.is_error() && problem.message.contains(says), "{problem}");
        assert_eq!(
            (problem.reason, problem.object.to_string().as_str()),
            ("GroupKeyUnusable", "Node a")
        );
    }
    let mut state = state(Vec::new());
    let refused =
        BTreeMap::from([((Kind::Secret, ObjectKey::new("gh", "group")), "forbidden".to_owned())]);
    state.apply(Event::Refused(SOURCE.id, refused));
    let mut problems = Vec::new();
    let plan = plan_of(&state, &mut problems);
    assert!(!plan.missing, "it may well exist");
    assert!(problems[0].message.ends_with("cannot be read: forbidden"), "{}", problems[0]);
}

fn plan_of(state: &ClusterState, problems: &mut Vec<Problem>) -> GroupPlan {
    plan(state, &context(true), problems)
}
