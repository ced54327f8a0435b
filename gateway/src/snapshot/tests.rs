use gatehouse_routes::{model::Scope, objects::SourceTrust};

use super::*;
use crate::{
    compile::{NodeContext, Role, compile},
    source::{Change, Event, Kind, Source, SourceId, manifest::Manifest},
    state::ClusterState,
};

/// What a node makes of gateways by these names, each with an Ingress for its own host.
fn compiled(gateways: &[&str], previous: Option<&Compiled>) -> Arc<Compiled> {
    let yaml = gateways.iter().map(|name| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}}}\n\
             spec: {{controller: gatehouse.io/ingress, parameters: {{kind: Service, scope: Namespace, \
             namespace: gw, name: {name}}}}}\n\
             ---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: d}}\n\
             spec: {{ingressClassName: {name}, rules: [{{host: {name}.example.com}}]}}\n"
        )
    });
    let trust = SourceTrust { loopback_endpoints: true, standalone: true };
    let source = Source {
        id: SourceId("test"),
        trust,
        kinds: Kind::ALL,
        by_name: &[],
        whole_batches: false,
    };
    let mut state = ClusterState::new([source]);
    let manifest = Manifest::of(&yaml.collect::<String>());
    let changes = manifest.objects().zip(0u64..);
    let changes = changes.map(|(placed, order)| Change::Apply(placed.object.clone(), order));
    state.apply(Event::Batch(source.id, changes.collect()));
    Arc::new(compile(&state, &NodeContext::default(), Role::Allocate, previous))
}

/// The number that a listener of this gateway is opened with.
fn slot(compiled: &Compiled, gateway: &str) -> ScopeSlot {
    let named = |scope: &Scope| matches!(scope, Scope::Gateway(key) if *key.name == *gateway);
    compiled.routes.tables.iter().find(|table| named(&table.scope)).unwrap().slot
}

/// The hosts that a listener with this number serves.
fn served(snapshot: &Snapshot, slot: ScopeSlot) -> Vec<String> {
    let gateway = snapshot.gateway(slot);
    let hosts = gateway.into_iter().flat_map(|gateway| gateway.routes.hosts());
    hosts.map(|(pattern, _)| pattern.to_string()).collect()
}

#[test]
fn a_listener_whose_scope_is_gone_serves_nothing_and_never_what_took_its_place() {
    let live = Arc::new(Live::default());
    let worker = LocalLive::new(Arc::clone(&live));
    let mut last = compiled(&["inner", "outer"], None);
    live.publish(Arc::new(Snapshot::new(1, Arc::clone(&last))));
    // The listeners of both are open from here on.
    let (inner, outer) = (slot(&last, "inner"), slot(&last, "outer"));
    assert_eq!(served(&worker.pin(), inner), ["inner.example.com"]);

    let swaps: [(&[&str], &[&str]); 4] = [
        (&["other", "outer"], &[]),
        (&["another", "other", "outer"], &[]),
        (&["outer"], &[]),
        // Back again: the same listener is right again.
        (&["another", "inner", "outer"], &["inner.example.com"]),
    ];
    for (generation, (gateways, by_inner)) in (2..).zip(swaps) {
        last = compiled(gateways, Some(&last));
        live.publish(Arc::new(Snapshot::new(generation, Arc::clone(&last))));
        assert_eq!(served(&worker.pin(), inner), *by_inner, "{gateways:?}");
        assert_eq!(served(&worker.pin(), outer), ["outer.example.com"], "{gateways:?}");
        for name in gateways {
            let own = served(&worker.pin(), slot(&last, name));
            assert_eq!(own, [format!("{name}.example.com")]);
        }
        assert_eq!(served(&worker.pin(), ScopeSlot::PLAIN).len(), gateways.len());
    }
}

fn generation(generation: u64) -> Arc<Snapshot> {
    Arc::new(Snapshot { generation, ..Snapshot::empty() })
}

#[test]
fn a_pinned_request_keeps_its_generation_while_the_next_one_sees_the_new() {
    let live = Arc::new(Live::default());
    let local = LocalLive::new(Arc::clone(&live));
    live.publish(generation(1));
    let pinned = local.pin();
    let retired = live.publish(generation(2));
    assert_eq!(retired.generation, 1);
    assert_eq!((pinned.generation, local.pin().generation), (1, 2));
}

#[test]
fn a_data_thread_never_drops_the_last_reference_of_a_retired_snapshot() {
    let live = Arc::new(Live::default());
    let local = LocalLive::new(Arc::clone(&live));
    live.publish(generation(1));
    let pinned = local.pin();
    let retired = live.publish(generation(2));
    assert!(Arc::strong_count(&retired) > 1, "the request still uses it");
    drop(pinned);
    local.pin();
    assert_eq!(Arc::strong_count(&retired), 1, "only the publisher is left");
}
