//! Which Routes do not get the hosts that they ask for, by the rules of [`crate::admit`].
//!
//! Routes stand in each other's way where they ask for one host; and, if a host belongs to one namespace, where one of them
//! is for the whole domain of the other. So after a change those hosts are judged that a changed Route asks for now, or
//! asked for before, with all hosts of their domains where a wildcard is or was asked for; the others stay as they are.

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
    let changed = Changed::since(before, routes, options.route_admission.ownership);
    if changed.hosts.is_empty() {
        return Arc::clone(&kept.failed_claims);
    }
    let mut failed = judge(routes, options, |facts| changed.meets(facts));
    if !kept.failed_claims.is_empty() {
        for (at, route) in routes.iter().enumerate() {
            if !changed.meets(&route.facts)
                && let Some(message) = route.was_at.and_then(|at| kept.failed_claims.get(&at))
            {
                failed.insert(at, message.clone());
            }
        }
    }
    Arc::new(failed)
}

/// What the Routes ask for that have come, have gone, or are not what they were.
#[derive(Default)]
struct Changed {
    hosts: HashSet<u64>,
    /// The domains of these hosts that a wildcard is or was asked for.
    domains: HashSet<u64>,
}

impl Changed {
    fn since(before: &[Facts], routes: &[JudgedRoute<'_>], ownership: Ownership) -> Self {
        let (mut changed, mut domains) = (Self::default(), HashSet::default());
        let mut add = |facts: &Facts| {
            changed.hosts.insert(facts.host);
            domains.insert(facts.domain);
        };
        let mut rest = before.iter().enumerate();
        for route in routes {
            let Some(was_at) = route.was_at else {
                add(&route.facts);
                continue;
            };
            // Both are sorted by key.
            for (at, facts) in rest.by_ref() {
                // The age says where it stands in its source, too.
                let same = at == was_at && facts.age == route.facts.age && route.kept.is_same();
                if !same {
                    add(facts);
                }
                if at == was_at {
                    if !same {
                        add(&route.facts);
                    }
                    break;
                }
            }
        }
        rest.for_each(|(_, facts)| add(facts));
        if ownership == Ownership::Strict && !domains.is_empty() {
            let all = before.iter().chain(routes.iter().map(|route| &route.facts));
            let wildcards = all.filter(|facts| facts.has.any(Has::WILDCARD_CLAIM));
            let met = wildcards.map(|facts| facts.domain).filter(|domain| domains.contains(domain));
            changed.domains = met.collect();
        }
        changed
    }

    /// Whether a Route could get its host, or lose it, by what has changed.
    fn meets(&self, facts: &Facts) -> bool {
        self.hosts.contains(&facts.host)
            || (!self.domains.is_empty() && self.domains.contains(&facts.domain))
    }
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
