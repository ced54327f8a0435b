//! Everything that is served, the oldest first.
//!
//! Who is older decides who keeps what. The order of the previous compile is where the sort begins: where little has
//! changed it compares each object with its neighbour and is done.

use super::gather::{Cache, JudgedRoute, ServedIngress};
use crate::{admit::Seniority, objects::ObjectKey, translate::Translation};

/// An object with rules in the tables.
#[derive(Clone, Copy)]
pub(super) struct Claimant<'c> {
    seniority: Seniority<'c>,
    pub(super) translation: &'c Translation,
    pub(super) gateway: Option<&'c ObjectKey>,
}

/// The claimants by age, and their places: those of the Routes stand behind those of the Ingresses.
pub(super) fn claimants<'c>(
    ingresses: &'c [ServedIngress<'_>],
    routes: &'c [JudgedRoute<'_>],
    default_gateway: Option<&'c ObjectKey>,
    kept: Option<&Cache>,
) -> (Vec<Claimant<'c>>, Vec<usize>) {
    let mut order = begin(ingresses, routes, kept);
    let count = ingresses.len();
    order.retain(|at| *at < count || routes[at - count].in_table);
    let claimant = |at: usize| match ingresses.get(at) {
        Some(ingress) => Claimant {
            seniority: ingress.seniority,
            translation: &ingress.kept.result.1,
            gateway: ingress.gateway,
        },
        None => {
            let route = &routes[at - count];
            Claimant {
                seniority: route.seniority,
                translation: &route.kept.result.translation,
                gateway: default_gateway,
            }
        }
    };
    let mut all: Vec<_> = order.into_iter().map(|at| (claimant(at), at)).collect();
    all.sort_by(|(a, _), (b, _)| a.seniority.cmp(&b.seniority));
    all.into_iter().unzip()
}

/// All places: of what was there before in the order that it had, then of all others.
fn begin(
    ingresses: &[ServedIngress<'_>],
    routes: &[JudgedRoute<'_>],
    kept: Option<&Cache>,
) -> Vec<usize> {
    let places = 0..ingresses.len() + routes.len();
    let Some(kept) = kept else { return places.collect() };
    let before = kept.ingresses.len();
    let of_ingresses = ingresses.iter().map(|ingress| ingress.was_at);
    let of_routes = routes.iter().map(|route| Some(before + route.was_at?));
    let mut now = vec![None; before + kept.routes.len()];
    let mut new = Vec::new();
    for (at, was_at) in places.zip(of_ingresses.chain(of_routes)) {
        match was_at {
            Some(was_at) => now[was_at] = Some(at),
            None => new.push(at),
        }
    }
    let mut order: Vec<_> = kept.by_age.iter().filter_map(|was_at| now[*was_at].take()).collect();
    // What was in no table.
    order.extend(now.into_iter().flatten());
    order.extend(new);
    order
}
