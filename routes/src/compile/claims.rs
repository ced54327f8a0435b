//! Which Routes do not get the hosts that they ask for, by the rules of [`crate::admit`].
//!
//! Routes stand in each other's way where they ask for one host; and, if a host belongs to one namespace, where one of them
//! is for the whole domain of the other. So after a change those hosts are judged that a changed Route asks for now, or
//! asked for before, and the others stay as they are.

use std::sync::Arc;

use foldhash::HashSet;

use super::{
    facts::{Facts, Has},
    kept::{Cache, FailedClaims},
    served::JudgedRoute,
};
use crate::{
    admit::{self, RouteClaim, claimed_path},
    options::{Options, admission::Ownership},
    translate::openshift::RouteTranslation,
};

/// The claims that fail. `kept` is what is known of the previous compile, under the same options.
pub(super) fn failed_claims(
    routes: &[JudgedRoute<'_>],
    options: &Options,
    kept: Option<&Cache>,
) -> Arc<FailedClaims> {
    let Some(kept) = kept else { return Arc::new(judge(routes, options, |_| true)) };
    let before = &kept.facts[kept.ingresses.len()..];
    let changed = changed_hosts(routes, before);
    if changed.is_empty() {
        return Arc::clone(&kept.failed_claims);
    }
    let of_domain = |facts: &Facts| facts.has.any(Has::WILDCARD_CLAIM);
    let mut now = routes.iter().map(|route| &route.facts);
    if options.route_admission.ownership == Ownership::Strict
        && (before.iter().any(of_domain) || now.any(of_domain))
    {
        return Arc::new(judge(routes, options, |_| true));
    }
    let mut failed = judge(routes, options, |facts| changed.contains(&facts.host));
    if !kept.failed_claims.is_empty() {
        for (at, route) in routes.iter().enumerate() {
            if !changed.contains(&route.facts.host)
                && let Some(message) = route.was_at.and_then(|at| kept.failed_claims.get(&at))
            {
                failed.insert(at, message.clone());
            }
        }
    }
    Arc::new(failed)
}

/// The hosts of the Routes that have come, have gone, or are not what they were.
fn changed_hosts(routes: &[JudgedRoute<'_>], before: &[Facts]) -> HashSet<u64> {
    let mut changed = HashSet::default();
    let mut rest = before.iter().enumerate();
    for route in routes {
        let Some(was_at) = route.was_at else {
            changed.insert(route.facts.host);
            continue;
        };
        // Both are sorted by key.
        for (at, facts) in rest.by_ref() {
            // The age says where it stands in its source, too.
            let same = at == was_at && facts.age == route.facts.age && route.kept.is_same();
            if !same {
                changed.insert(facts.host);
            }
            if at == was_at {
                if !same {
                    changed.insert(route.facts.host);
                }
                break;
            }
        }
    }
    changed.extend(rest.map(|(_, facts)| facts.host));
    changed
}

/// Judges the Routes of some hosts.
fn judge(
    routes: &[JudgedRoute<'_>],
    options: &Options,
    of: impl Fn(&Facts) -> bool,
) -> FailedClaims {
    let asked = routes.iter().enumerate().filter(|(_, route)| of(&route.facts));
    let claims = asked.filter_map(|(at, route)| {
        let RouteTranslation { claim, path, lane, .. } = &route.kept.result;
        let (host, path) = (claim.as_ref()?, claimed_path(path));
        Some(RouteClaim { seniority: route.seniority(), host, path, lane: *lane, at })
    });
    let ownership = options.route_admission.ownership;
    admit::route_claims(claims.collect(), ownership).into_iter().collect()
}
