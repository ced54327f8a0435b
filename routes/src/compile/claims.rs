//! Which Routes do not get the hosts that they ask for, by the rules of [`crate::admit`].

use std::sync::Arc;

use super::{
    kept::{Cache, FailedClaims},
    served::JudgedRoute,
};
use crate::{
    admit::{self, RouteClaim, claimed_path},
    options::Options,
    translate::openshift::RouteTranslation,
};

/// Whether the Routes are those of the previous compile, and of the same age.
pub(super) fn are_same_claims(routes: &[JudgedRoute], kept: &Cache) -> bool {
    let before = kept.routes.iter().zip(&kept.facts[kept.ingresses.len()..]).enumerate();
    routes.len() == kept.routes.len()
        && routes.iter().zip(before).all(|(route, (at, (before, facts)))| {
            // The age says where it stands in its source, too.
            route.was_at == Some(at)
                && route.facts.age == facts.age
                && Arc::ptr_eq(&route.kept, before)
        })
}

/// The claims that fail.
pub(super) fn failed_claims(routes: &[JudgedRoute], options: &Options) -> FailedClaims {
    let claims = routes.iter().enumerate().filter_map(|(at, route)| {
        let RouteTranslation { claim, path, lane, .. } = &route.kept.result;
        let (host, path) = (claim.as_ref()?, claimed_path(path));
        Some(RouteClaim { seniority: route.seniority(), host, path, lane: *lane, at })
    });
    let ownership = options.route_admission.ownership;
    admit::route_claims(claims.collect(), ownership).into_iter().collect()
}
