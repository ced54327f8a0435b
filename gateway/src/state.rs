//! The objects as the sources have told them so far.
//!
//! One owner, a plain thread: it applies events and hands `&ClusterState` to
//! [`compile`](crate::compile::compile). No locks, no clock, and no opinion about what an object means.

use std::collections::BTreeMap;

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef, Objects, Store, Stored},
    problem::Problem,
};
use gatehouse_vip::{
    api::{IpAddressPoolSpec, L2AdvertisementSpec},
    bgp::spec::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec},
};

use crate::source::{Change, Custom, Event, Object};

/// Everything that is known about the cluster.
#[derive(Debug, Default, Clone)]
pub struct ClusterState {
    /// What routing depends on, and Services for addresses.
    pub objects: Objects,
    /// `metallb.io` IPAddressPool.
    pub pools: Store<Custom<IpAddressPoolSpec>>,
    /// `metallb.io` L2Advertisement.
    pub l2_advertisements: Store<Custom<L2AdvertisementSpec>>,
    /// `metallb.io` BGPPeer.
    pub bgp_peers: Store<Custom<BgpPeerSpec>>,
    /// `metallb.io` BGPAdvertisement.
    pub bgp_advertisements: Store<Custom<BgpAdvertisementSpec>>,
    /// `metallb.io` BFDProfile.
    pub bfd_profiles: Store<Custom<BfdProfileSpec>>,
    /// `metallb.io` Community.
    pub communities: Store<Custom<CommunitySpec>>,
    /// What the sources themselves found wrong, by source.
    pub source_problems: BTreeMap<&'static str, Vec<Problem>>,
    synced: bool,
}

impl ClusterState {
    /// Takes over an event; true if what [`compile`](crate::compile::compile) sees has changed.
    pub fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Batch(changes) => {
                let mut changed = false;
                for change in changes {
                    changed |= self.change(change);
                }
                changed
            }
            Event::Problems { source, problems } => {
                let previous = self.source_problems.insert(source, problems);
                previous.as_ref() != self.source_problems.get(source)
            }
            Event::Synced => !std::mem::replace(&mut self.synced, true),
        }
    }

    /// True once a source has sent everything that existed at its start; before that nothing may be
    /// published.
    pub fn synced(&self) -> bool {
        self.synced
    }

    fn change(&mut self, change: Change) -> bool {
        match change {
            Change::Apply(object, order) => {
                let key = object.key();
                match object {
                    Object::BfdProfile(new) => put(&mut self.bfd_profiles, key, new, order),
                    Object::BgpAdvertisement(new) => {
                        put(&mut self.bgp_advertisements, key, new, order)
                    }
                    Object::BgpPeer(new) => put(&mut self.bgp_peers, key, new, order),
                    Object::Community(new) => put(&mut self.communities, key, new, order),
                    Object::ConfigMap(new) => put(&mut self.objects.config_maps, key, new, order),
                    Object::EndpointSlice(new) => {
                        put(&mut self.objects.endpoint_slices, key, new, order)
                    }
                    Object::Ingress(new) => put(&mut self.objects.ingresses, key, new, order),
                    Object::IngressClass(new) => {
                        put(&mut self.objects.ingress_classes, key, new, order)
                    }
                    Object::IpAddressPool(new) => put(&mut self.pools, key, new, order),
                    Object::L2Advertisement(new) => {
                        put(&mut self.l2_advertisements, key, new, order)
                    }
                    Object::Namespace(new) => put(&mut self.objects.namespaces, key, new, order),
                    Object::Node(new) => put(&mut self.objects.nodes, key, new, order),
                    Object::Route(new) => put(&mut self.objects.routes, key, new, order),
                    Object::Secret(new) => put(&mut self.objects.secrets, key, new, order),
                    Object::Service(new) => put(&mut self.objects.services, key, new, order),
                }
            }
            Change::Delete(object) => self.delete(&object),
        }
    }

    fn delete(&mut self, object: &ObjectRef) -> bool {
        let key = &object.key;
        match object.kind {
            "BFDProfile" => self.bfd_profiles.remove(key).is_some(),
            "BGPAdvertisement" => self.bgp_advertisements.remove(key).is_some(),
            "BGPPeer" => self.bgp_peers.remove(key).is_some(),
            "Community" => self.communities.remove(key).is_some(),
            "ConfigMap" => self.objects.config_maps.remove(key).is_some(),
            "EndpointSlice" => self.objects.endpoint_slices.remove(key).is_some(),
            "Ingress" => self.objects.ingresses.remove(key).is_some(),
            "IngressClass" => self.objects.ingress_classes.remove(key).is_some(),
            "IPAddressPool" => self.pools.remove(key).is_some(),
            "L2Advertisement" => self.l2_advertisements.remove(key).is_some(),
            "Namespace" => self.objects.namespaces.remove(key).is_some(),
            "Node" => self.objects.nodes.remove(key).is_some(),
            "Route" => self.objects.routes.remove(key).is_some(),
            "Secret" => self.objects.secrets.remove(key).is_some(),
            "Service" => self.objects.services.remove(key).is_some(),
            _ => false,
        }
    }
}

fn put<T>(store: &mut Store<T>, key: ObjectKey, object: std::sync::Arc<T>, order: u64) -> bool {
    if let Some(known) = store.get_mut(&key) {
        let same = std::sync::Arc::ptr_eq(&known.object, &object) && known.order == order;
        *known = Stored { object, order };
        return !same;
    }
    store.insert(key, Stored { object, order });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Object {
        let mut service = k8s_openapi::api::core::v1::Service::default();
        service.metadata.namespace = Some("default".to_owned());
        service.metadata.name = Some(name.to_owned());
        Object::Service(service.into())
    }

    #[test]
    fn a_batch_is_a_change_only_if_an_object_or_its_order_is_another() {
        let mut state = ClusterState::default();
        let web = service("web");
        let apply = |order| Event::Batch(vec![Change::Apply(web.clone(), order)]);
        assert!(state.apply(apply(0)), "a new object");
        assert!(!state.apply(apply(0)), "the same object");
        assert!(state.apply(apply(1)), "another order");
        let equal = Event::Batch(vec![Change::Apply(service("web"), 1)]);
        assert!(state.apply(equal), "another pointer, as sources promise to keep them");
        assert!(state.apply(Event::Batch(vec![Change::Delete(web.object_ref())])));
        assert!(!state.apply(Event::Batch(vec![Change::Delete(web.object_ref())])));
        assert!(state.objects.services.is_empty());
        assert!(!state.apply(Event::Batch(Vec::new())));
    }

    #[test]
    fn the_problems_of_a_source_replace_its_former_ones() {
        let mut state = ClusterState::default();
        let object = service("web").object_ref();
        let problem = |reason| Problem::error(&object, reason, "", "", "");
        let told = |source, reason| Event::Problems { source, problems: vec![problem(reason)] };
        assert!(state.apply(told("files", "A")));
        assert!(!state.apply(told("files", "A")));
        assert!(state.apply(told("other", "B")));
        assert!(state.apply(told("files", "C")));
        let reasons = |state: &ClusterState| {
            let problems = state.source_problems.values().flatten();
            problems.map(|problem| problem.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&state), ["C", "B"]);
        assert!(state.apply(Event::Problems { source: "other", problems: Vec::new() }));
        assert_eq!(reasons(&state), ["C"]);
    }

    #[test]
    fn nothing_is_synced_before_the_source_says_so() {
        let mut state = ClusterState::default();
        state.apply(Event::Batch(vec![Change::Apply(service("web"), 0)]));
        assert!(!state.synced());
        assert!(state.apply(Event::Synced) && state.synced());
        assert!(!state.apply(Event::Synced));
    }

    #[test]
    fn every_kind_can_be_applied_and_deleted() {
        use crate::source::Object as O;
        let mut state = ClusterState::default();
        let all = [
            O::BfdProfile(Default::default()),
            O::BgpAdvertisement(Default::default()),
            O::BgpPeer(Default::default()),
            O::Community(Default::default()),
            O::ConfigMap(Default::default()),
            O::EndpointSlice(Default::default()),
            O::Ingress(Default::default()),
            O::IngressClass(Default::default()),
            O::IpAddressPool(Default::default()),
            O::L2Advertisement(Default::default()),
            O::Namespace(Default::default()),
            O::Node(Default::default()),
            O::Route(Default::default()),
            O::Secret(Default::default()),
            O::Service(Default::default()),
        ];
        for object in all {
            let name = object.object_ref();
            assert_ne!(crate::source::api_version(name.kind), "", "{name}");
            assert!(state.apply(Event::Batch(vec![Change::Apply(object, 0)])), "{name}");
            assert!(state.apply(Event::Batch(vec![Change::Delete(name.clone())])), "{name}");
        }
    }
}
