use gatehouse_routes::objects::SourceTrust;

use super::*;
use crate::{
    compile::compile,
    source::{Change, Event, Source, SourceId, manifest::Manifest},
};

const CLUSTER: Source = Source {
    id: SourceId("cluster"),
    trust: SourceTrust { loopback_endpoints: false, standalone: false },
    kinds: Kind::ALL,
    by_name: &[],
    whole_batches: false,
};

fn tell(state: &mut ClusterState, yaml: &str) {
    let manifest = Manifest::of(yaml);
    let changes = manifest.objects().map(|placed| Change::Apply(placed.object.clone(), 0));
    state.apply(Event::Batch(CLUSTER.id, changes.collect()));
}

fn synced(yaml: &str) -> ClusterState {
    let mut state = ClusterState::new([CLUSTER]);
    tell(&mut state, yaml);
    for &kind in CLUSTER.kinds {
        state.apply(Event::Synced(CLUSTER.id, kind));
    }
    state
}

fn service(name: &str, version: u32) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop, uid: uid-of-{name}, resourceVersion: '{version}'}}
spec: {{type: LoadBalancer, ports: [{{port: 80}}], selector: {{app: x}}}}
status: {{loadBalancer: {{ingress: [{{ip: 192.168.1.200}}]}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.1.1.1], nodeName: node-1}}]
ports: [{{port: 80}}]
"
    )
}

fn lead(services: &[(&str, u64)]) -> Lead {
    let waits_for =
        services.iter().map(|(name, version)| (ObjectKey::new("shop", *name), *version));
    Lead { term: 1, waits_for: Some(waits_for.collect()), differ: Differ::default() }
}

#[test]
fn a_leader_allocates_when_the_state_knows_every_service_that_it_has_read() {
    let mut lead = lead(&[("a", 7), ("b", 12)]);
    let mut state = synced(&service("a", 6));
    assert_eq!(lead.role(&state), Role::Follow);
    tell(&mut state, &service("a", 7));
    assert_eq!(lead.role(&state), Role::Follow, "b is still missing");
    tell(&mut state, &service("b", 13));
    assert_eq!(lead.role(&state), Role::Allocate);
    // From then on it knows its own writes.
    state.apply(Event::Batch(
        CLUSTER.id,
        vec![Change::Delete(Kind::Service, ObjectKey::new("shop", "a"))],
    ));
    assert_eq!(lead.role(&state), Role::Allocate);
}

#[test]
fn a_leader_waits_for_the_whole_state_even_if_there_is_no_service() {
    let mut lead = lead(&[]);
    assert_eq!(lead.role(&ClusterState::new([CLUSTER])), Role::Follow);
    assert_eq!(lead.role(&synced("")), Role::Allocate);
}

#[test]
fn a_service_is_announced_with_every_interface_of_its_addresses() {
    let pool = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.168.1.200-192.168.1.201]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
";
    let state = synced(&format!("{pool}{}", service("a", 1)));
    let node = NodeContext { node: "node-1".to_owned(), ..NodeContext::default() };
    let compiled = compile(&state, &node, Role::Follow, None);
    let vip = "192.168.1.200".parse().unwrap();
    let on = |interface: &str| Announced { vip, interface: interface.to_owned() };
    let both = announcements(&state, &compiled, &[on("eth1"), on("eth0"), on("lo")]);
    let announcement = Announcement {
        uid: "uid-of-a".to_owned(),
        through: vec!["eth0".to_owned(), "eth1".to_owned()],
    };
    let key = (Protocol::Layer2, ObjectKey::new("shop", "a"));
    assert_eq!(both, [(key, announcement)].into(), "no router is told of it");
}

#[test]
fn a_service_without_endpoints_is_no_event_and_one_without_an_address_is() {
    let object = ObjectRef::new("Service", ObjectKey::new("shop", "a"));
    for (problem, told) in [
        (Problem::warning(&object, "NoEndpoints", "", "", ""), false),
        (Problem::warning(&object, "NotAdvertised", "", "", ""), false),
        (Problem::error(&object, "NotAdvertised", "", "", ""), true),
        (Problem::warning(&object, "DeprecatedAnnotation", "", "", ""), true),
        (Problem::error(&object, "PoolExhausted", "", "", ""), true),
    ] {
        assert_eq!(is_told(&problem), told, "{problem}");
    }
}
