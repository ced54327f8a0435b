//! The objects as the sources have told them so far.
//!
//! One owner, a plain thread: it applies events and hands `&ClusterState` to
//! [`compile`](crate::compile::compile). No locks, no clock, and no opinion about what an object means.

use std::{collections::BTreeMap, ops::Deref};

use gatehouse_routes::problem::Problem;

use crate::source::{Change, Event, Stores};

/// Everything that is known about the cluster. The objects can be read from here and are changed by
/// [`ClusterState::apply`] alone.
#[derive(Debug, Default, Clone)]
pub struct ClusterState {
    stores: Stores,
    /// What the sources themselves found wrong, by source.
    pub source_problems: BTreeMap<&'static str, Vec<Problem>>,
    synced: bool,
}

impl Deref for ClusterState {
    type Target = Stores;

    fn deref(&self) -> &Stores {
        &self.stores
    }
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
            Change::Apply(object, order) => self.stores.put(object, order),
            Change::Delete(kind, key) => self.stores.remove(kind, &key),
        }
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::objects::ObjectKey;

    use super::*;
    use crate::source::{Kind, Object};

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
        assert!(state.apply(Event::Batch(vec![Change::Delete(Kind::Service, web.key())])));
        assert!(!state.apply(Event::Batch(vec![Change::Delete(Kind::Service, web.key())])));
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
    fn every_kind_can_be_read_applied_and_deleted() {
        for &kind in Kind::ALL {
            let name = kind.name();
            let object = kind.read(kind.api_version(), &Empty).unwrap();
            assert_eq!((object.kind(), Kind::named(name)), (kind, Some(kind)), "{name}");
            let mut state = ClusterState::default();
            assert!(state.apply(Event::Batch(vec![Change::Apply(object, 0)])), "{name}");
            let delete = || Event::Batch(vec![Change::Delete(kind, ObjectKey::new("", ""))]);
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
}
