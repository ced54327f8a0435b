//! The objects of a compile under way, once they are translated.

use std::sync::Arc;

use super::{
    Compiled, IngressOutcome, RouteOutcome,
    facts::Facts,
    kept::{Held, OwnIngress},
};
use crate::{admit::Seniority, objects::ObjectKey, translate::openshift::RouteTranslation};

/// An Ingress of ours, ready to be put into the tables.
pub(super) struct ServedIngress<'p> {
    pub(super) kept: Held<'p, OwnIngress>,
    /// Its place among the Ingresses of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) facts: Facts,
}

/// A Route with its outcome so far.
pub(super) struct JudgedRoute<'p> {
    pub(super) kept: Held<'p, RouteTranslation>,
    /// Its place among the Routes of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) facts: Facts,
    /// Reason and message, if it is not admitted.
    pub(super) refused: Option<(&'static str, String)>,
    /// Its rules go into the tables, be it to close its path.
    pub(super) in_table: bool,
}

impl JudgedRoute<'_> {
    pub(super) fn seniority(&self) -> Seniority<'_> {
        self.kept.seniority("Route", self.facts.age)
    }

    /// What becomes of it, the previous value if it is the same.
    fn outcome(&self, previous: Option<&Compiled>) -> Arc<RouteOutcome> {
        let (reason, message) = match &self.refused {
            Some((reason, message)) => (*reason, &**message),
            None => ("", ""),
        };
        let admitted = self.refused.is_none();
        // Outcomes stand where their Routes do.
        let before = self.was_at.zip(previous).and_then(|(at, previous)| previous.routes.get(at));
        let is = |before: &&Arc<RouteOutcome>| {
            before.object == self.kept.key
                && *before.host == *self.kept.result.host
                && (before.admitted, before.reason, &*before.message) == (admitted, reason, message)
        };
        before.filter(is).cloned().unwrap_or_else(|| {
            Arc::new(RouteOutcome {
                object: self.kept.key.clone(),
                host: self.kept.result.host.to_string(),
                admitted,
                reason,
                message: message.to_owned(),
            })
        })
    }
}

impl ServedIngress<'_> {
    pub(super) fn seniority(&self) -> Seniority<'_> {
        self.kept.seniority("Ingress", self.facts.age)
    }

    /// The gateway Service that serves it.
    pub(super) fn gateway(&self) -> Option<&ObjectKey> {
        self.kept.result.gateway.as_ref()
    }

    /// What becomes of it, the previous value if it is the same.
    fn outcome(&self, previous: Option<&Compiled>) -> Arc<IngressOutcome> {
        // Outcomes stand where their Ingresses do.
        let before =
            self.was_at.zip(previous).and_then(|(at, previous)| previous.ingresses.get(at));
        let OwnIngress { class, gateway, .. } = &self.kept.result;
        let is = |before: &&Arc<IngressOutcome>| {
            before.object == self.kept.key
                && before.class.as_deref() == class.as_deref()
                && before.gateway == *gateway
        };
        before.filter(is).cloned().unwrap_or_else(|| {
            Arc::new(IngressOutcome {
                object: self.kept.key.clone(),
                class: class.as_deref().map(str::to_owned),
                gateway: gateway.clone(),
            })
        })
    }
}

/// Places of the Routes that are not admitted.
pub(super) fn refused(routes: &[JudgedRoute<'_>]) -> Vec<usize> {
    let refused = routes.iter().enumerate().filter(|(_, route)| route.refused.is_some());
    refused.map(|(at, _)| at).collect()
}

/// What becomes of the Routes.
pub(super) fn of_routes(
    routes: &[JudgedRoute<'_>],
    previous: Option<&Compiled>,
) -> Arc<[Arc<RouteOutcome>]> {
    let stays = |previous: &Compiled, at: usize, route: &JudgedRoute<'_>| {
        let refused = &previous.cache.refused_routes;
        let same = route.was_at == Some(at) && route.kept.is_same();
        same && route.refused.is_none() && refused.binary_search(&at).is_err()
    };
    let before = previous.map(|previous| (previous, &previous.routes));
    outcomes(routes, before, stays, |route| route.outcome(previous))
}

/// What becomes of the Ingresses.
pub(super) fn of_ingresses(
    ingresses: &[ServedIngress<'_>],
    previous: Option<&Compiled>,
) -> Arc<[Arc<IngressOutcome>]> {
    let stays = |_: &Compiled, at: usize, ingress: &ServedIngress<'_>| {
        ingress.was_at == Some(at) && ingress.kept.is_same()
    };
    let before = previous.map(|previous| (previous, &previous.ingresses));
    outcomes(ingresses, before, stays, |ingress| ingress.outcome(previous))
}

/// One outcome for each, the previous list if it says the same. `stays` holds for those of which that can be told without a
/// look at what became of them before.
fn outcomes<T, O>(
    all: &[T],
    before: Option<(&Compiled, &Arc<[Arc<O>]>)>,
    stays: impl Fn(&Compiled, usize, &T) -> bool,
    outcome: impl Fn(&T) -> Arc<O>,
) -> Arc<[Arc<O>]> {
    if let Some((previous, before)) = before
        && before.len() == all.len()
        && all.iter().zip(&**before).enumerate().all(|(at, (one, before))| {
            stays(previous, at, one) || Arc::ptr_eq(&outcome(one), before)
        })
    {
        return Arc::clone(before);
    }
    all.iter().map(outcome).collect()
}
