//! The pools that may be given from, read from the IPAddressPools.

use std::collections::BTreeMap;

use gatehouse_routes::{
    annotations::{self, gatehouse},
    objects::{ObjectKey, ObjectRef, Store},
    problem::Problem,
};
use gatehouse_vip::{Claim, Pool, api::IpAddressPoolSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::by_age;
use crate::source::Custom;

/// Pools that may be given from, oldest first; what is wrong with the others becomes problems.
pub(super) fn usable(
    store: &Store<Custom<IpAddressPoolSpec>>,
    problems: &mut Vec<Problem>,
) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    let mut objects: BTreeMap<&str, ObjectRef> = BTreeMap::new();
    for (key, stored) in by_age(store.iter(), |pool| &pool.metadata) {
        let object = ObjectRef::new("IPAddressPool", key.clone());
        if objects.contains_key(&*key.name) {
            problems.push(Problem::error(
                &object,
                "DuplicatePool",
                "metadata.name",
                format!("an older pool in another namespace is also named \"{}\"", key.name),
                "rename one of them",
            ));
            continue;
        }
        let draining = draining(&object, &stored.object.metadata, problems);
        let labels = stored.object.metadata.labels.clone().unwrap_or_default();
        match Pool::parse(&key.name, &labels, &stored.object.spec) {
            Ok(pool) => {
                let notes = pool.refusals().iter().cloned();
                problems.extend(notes.map(|open| open.about(object.clone())));
                pools.push(pool.drained(draining));
            }
            Err(refusals) => {
                problems.extend(refusals.into_iter().map(|open| open.about(object.clone())));
            }
        }
        objects.insert(&key.name, object);
    }
    pools
}

/// Has each address be of one pool; that pools overlap becomes a problem of the newer one.
pub(super) fn part(
    store: &Store<Custom<IpAddressPoolSpec>>,
    pools: &mut [Pool],
    claims: &[Claim],
    problems: &mut Vec<Problem>,
) {
    let overlaps = gatehouse_vip::part(pools, claims);
    if overlaps.is_empty() {
        return;
    }
    let objects = named(store);
    for (newer, older, what) in overlaps {
        let Some(key) = objects.get(&*newer) else { continue };
        problems.push(Problem::error(
            &ObjectRef::new("IPAddressPool", (*key).clone()),
            "PoolOverlap",
            "spec.addresses",
            format!(
                "{what} is also in the older pool \"{older}\", so this pool gives nothing new; \
                 Services keep what they have"
            ),
            "give every address to one pool only",
        ));
    }
}

/// The object behind each name that [`usable`] looks at: of several of one name, the oldest.
pub(in crate::compile) fn named(
    store: &Store<Custom<IpAddressPoolSpec>>,
) -> BTreeMap<&str, &ObjectKey> {
    let by_age = by_age(store.iter(), |pool| &pool.metadata);
    by_age.into_iter().rev().map(|(key, _)| (&*key.name, key)).collect()
}

fn draining(object: &ObjectRef, metadata: &ObjectMeta, problems: &mut Vec<Problem>) -> bool {
    problems.extend(annotations::problems(object, metadata));
    let Some(found) = gatehouse::FAMILY.find(&gatehouse::DRAIN, metadata) else { return false };
    match found.value {
        "true" => true,
        "false" => false,
        value => {
            problems.push(Problem::warning(
                object,
                "InvalidAnnotation",
                found.field(),
                format!(
                    "\"{value}\" is neither \"true\" nor \"false\", so the pool does not drain"
                ),
                "write \"true\" to stop the pool from giving addresses",
            ));
            false
        }
    }
}
