//! What the speakers refuse about an address, as problems of the Services that claim it.

use std::collections::BTreeSet;

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::{ClaimId, Problem as VipProblem};

/// A refusal of an address as problems of the Services that claim it.
pub(super) fn of_services(claims: &[ClaimId], refusal: &VipProblem) -> Vec<Problem> {
    let services: BTreeSet<&str> = claims.iter().map(|claim| &*claim.0).collect();
    let problems = services.into_iter().map(|service| {
        let (namespace, name) = service.split_once('/').unwrap_or(("", service));
        let object = ObjectRef::new("Service", ObjectKey::new(namespace, name));
        refusal.clone().about(object)
    });
    problems.collect()
}
