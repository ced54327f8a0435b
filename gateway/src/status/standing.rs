//! How things stand with the Lease and the statuses: the status thread writes it, the admin pages read it.
//!
//! Nothing is decided by it. A status that the API server refuses is a [`Problem`] here and not one of the
//! configuration: nothing is wrong with the object, and only the leader knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use k8s_openapi::api::coordination::v1::Lease;

use super::{contest::Rival, queue::Outcome};

/// Shared by the status thread and the admin pages.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    leader: Option<Leader>,
    lease: Option<Problem>,
    refused: BTreeMap<ObjectRef, Problem>,
}

/// The process that leads, as the Lease last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Name of its node.
    pub(crate) node: String,
    /// It is this process.
    pub(crate) here: bool,
    /// Since when, in RFC 3339.
    pub(crate) since: Option<String>,
}

impl Standing {
    /// The process that leads, if one does.
    pub(crate) fn leader(&self) -> Option<Leader> {
        self.known().leader.clone()
    }

    /// Everything that the API server refuses, and what somebody else writes as well.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let known = self.known();
        known.lease.iter().chain(known.refused.values()).cloned().collect()
    }

    /// What the Lease says now; `identity` is that of this process.
    pub(super) fn lease(&self, lease: Option<&Lease>, identity: &str) {
        let leader = lease.and_then(|lease| leader(lease, identity));
        let mut known = self.known();
        known.leader = leader;
        known.lease = None;
    }

    /// The API server refuses to show or to take the Lease, and why.
    pub(super) fn lease_refused(&self, namespace: &str, name: &str, why: &str) {
        self.known().lease = Some(Problem::error(
            &ObjectRef::new("Lease", ObjectKey::new(namespace, name)),
            "LeaseRefused",
            "",
            format!(
                "{why}; while no node leads, addresses are not allocated and statuses not written"
            ),
            "grant get, create and update of leases in that namespace, or name another one by --lease-namespace",
        ));
    }

    /// What became of the write of a status.
    pub(super) fn written(&self, object: &ObjectRef, outcome: &Outcome) {
        let mut known = self.known();
        match outcome {
            Outcome::Refused(why) => {
                let problem = Problem::error(
                    object,
                    "StatusRefused",
                    "status",
                    format!("the API server refuses the status that this object is to have: {why}"),
                    "grant patch of its status subresource, or change the policy or webhook that refuses it",
                );
                known.refused.insert(object.clone(), problem);
            }
            Outcome::Contested(rival) => {
                known.refused.insert(object.clone(), contested(object, rival));
            }
            Outcome::Failed(..) => (),
            Outcome::Done(_) | Outcome::Conflict | Outcome::Gone => {
                known.refused.remove(object);
            }
        }
    }

    /// These are all statuses that are to be written; others need not be any more.
    pub(super) fn differing<'o>(&self, objects: impl Iterator<Item = &'o ObjectRef>) {
        let mut known = self.known();
        if !known.refused.is_empty() {
            let differing: BTreeSet<&ObjectRef> = objects.collect();
            known.refused.retain(|object, _| differing.contains(object));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody else insists on another status.
pub(super) fn contested(object: &ObjectRef, rival: &Rival) -> Problem {
    let Rival { manager, prevails } = rival;
    let whose = if *prevails {
        "so it is left as that one writes it"
    } else {
        "which is to leave it to this one"
    };
    Problem::warning(
        object,
        "StatusContested",
        "status",
        format!("the field manager \"{manager}\" writes another status again and again, {whose}"),
        "let only one of them serve this object: by class, selectors or --router-name",
    )
}

fn leader(lease: &Lease, identity: &str) -> Option<Leader> {
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
    // Another program may hold a Lease of that name.
    let node = holder.rsplit_once('_').map_or(holder, |(node, _)| node);
    let since = spec.acquire_time.as_ref().map(|time| super::seconds(time.0));
    Some(Leader { node: node.to_owned(), here: holder == identity, since })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    use super::*;

    fn lease(holder: &str) -> Lease {
        let spec = LeaseSpec { holder_identity: Some(holder.to_owned()), ..LeaseSpec::default() };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn the_leader_is_known_by_its_node() {
        let standing = Standing::default();
        assert_eq!(standing.leader(), None);
        for (holder, node, here) in
            [("a_1f", "a", true), ("b_c_2e", "b_c", false), ("by-hand", "by-hand", false)]
        {
            standing.lease(Some(&lease(holder)), "a_1f");
            let leader = standing.leader().unwrap();
            assert_eq!((&*leader.node, leader.here), (node, here));
        }
        standing.lease(Some(&lease("")), "a_1f");
        assert_eq!(standing.leader(), None, "it has been let go of");
    }

    #[test]
    fn what_is_refused_is_a_problem_until_it_is_taken_or_not_wanted_any_more() {
        let standing = Standing::default();
        let object = |name: &str| ObjectRef::new("Service", ObjectKey::new("shop", name));
        let refused = Outcome::Refused("services \"a\" is forbidden".to_owned());
        let shown = || {
            let problems = standing.problems();
            problems.iter().map(|it| format!("{} {}", it.object, it.reason)).collect::<Vec<_>>()
        };
        for name in ["a", "b", "c"] {
            standing.written(&object(name), &refused);
        }
        standing.written(&object("a"), &Outcome::Failed("too late".to_owned(), None));
        standing.written(&object("b"), &Outcome::Done("7".to_owned()));
        assert_eq!(shown(), ["Service shop/a StatusRefused", "Service shop/c StatusRefused"]);
        assert!(standing.problems()[0].message.contains("is forbidden"));
        standing.differing([&object("a")].into_iter());
        assert_eq!(shown(), ["Service shop/a StatusRefused"]);
        standing.lease_refused("gate", "house", "leases is forbidden");
        assert_eq!(shown(), ["Lease gate/house LeaseRefused", "Service shop/a StatusRefused"]);
        standing.lease(None, "a_1f");
        assert_eq!(shown(), ["Service shop/a StatusRefused"]);
    }
}
