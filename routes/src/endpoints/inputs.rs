//! Which Services have changed since the previous compile, or their EndpointSlices.

use std::sync::Arc;

use foldhash::{HashSet, HashSetExt as _};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use super::{ServiceName, service_of};
use crate::{
    objects::{ObjectKey, Objects, Store},
    parts::Parts,
};

/// All Services and EndpointSlices of one compile: what the next one finds the changed ones with.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    services: Listed<Service>,
    slices: Listed<EndpointSlice>,
}

/// Objects by key.
type Listed<T> = Parts<(ObjectKey, Arc<T>)>;

/// Services whose backends have to be looked at.
pub(crate) type Changed<'o> = HashSet<ServiceName<'o>>;

impl Inputs {
    /// Remembers the objects, or keeps `previous` if nothing has changed since.
    pub(crate) fn of(objects: &Objects, previous: Option<(&Arc<Self>, &Changed<'_>)>) -> Arc<Self> {
        let none = Self::default();
        let before = match previous {
            Some((previous, changed)) if changed.is_empty() => return Arc::clone(previous),
            Some((previous, _)) => previous,
            None => &none,
        };
        Arc::new(Self {
            services: listed(&objects.services, &before.services),
            slices: listed(&objects.endpoint_slices, &before.slices),
        })
    }

    /// The Services that are not what they were, or whose EndpointSlices are not.
    pub(crate) fn changed<'o>(&'o self, objects: &'o Objects) -> Changed<'o> {
        let mut changed = Changed::new();
        differences(&self.services, &objects.services, |key, _| {
            changed.insert((&*key.namespace, &*key.name));
        });
        differences(&self.slices, &objects.endpoint_slices, |key, slice| {
            // A slice without a Service is nobody's; the empty name keeps the change known.
            changed.insert(service_of(key, slice).unwrap_or((&key.namespace, "")));
        });
        changed
    }
}

fn listed<T>(store: &Store<T>, before: &Listed<T>) -> Listed<T> {
    Parts::of(
        store.iter(),
        before,
        |_, (key, stored), (old, object)| *key == old && Arc::ptr_eq(&stored.object, object),
        |(key, stored)| (key.clone(), Arc::clone(&stored.object)),
    )
}

/// Calls `found` with every version of an object that is in one of the two only. Both are in key order.
fn differences<'o, T>(
    old: &'o Listed<T>,
    new: &'o Store<T>,
    mut found: impl FnMut(&'o ObjectKey, &'o T),
) {
    let mut old = old.iter().peekable();
    for (key, stored) in new {
        // Equality first: keys mostly share their memory.
        while let Some((gone, object)) = old.next_if(|(old, _)| old != key && old < key) {
            found(gone, object);
        }
        match old.next_if(|(old, _)| old == key) {
            Some((_, before)) if Arc::ptr_eq(before, &stored.object) => continue,
            Some((key, before)) => found(key, before),
            None => {}
        }
        found(key, &stored.object);
    }
    old.for_each(|(gone, object)| found(gone, object));
}
