//! The objects of a compile under way, once they are translated.

use std::sync::Arc;

use super::{
    Compiled, IngressOutcome, RouteOutcome,
    facts::Facts,
    kept::{KeptIngress, KeptRoute, OwnIngress},
};
use crate::{admit::Seniority, objects::ObjectKey};

/// An Ingress of ours, ready to be put into the tables.
pub(super) struct ServedIngress {
    pub(super) kept: Arc<KeptIngress>,
    /// Its place among the Ingresses of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) facts: Facts,
}

/// A Route with its outcome so far.
pub(super) struct JudgedRoute {
    pub(super) kept: Arc<KeptRoute>,
    /// Its place among the Routes of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) facts: Facts,
    /// Reason and message, if it is not admitted.
    pub(super) refused: Option<(&'static str, String)>,
    /// Its rules go into the tables, be it to close its path.
    pub(super) in_table: bool,
}

impl JudgedRoute {
    pub(super) fn seniority(&self) -> Seniority<'_> {
        self.kept.seniority("Route", self.facts.age)
    }

    /// What becomes of it, the previous value if it is the same.
    pub(super) fn outcome(&self, previous: Option<&Compiled>) -> Arc<RouteOutcome> {
        let (reason, message) = match &self.refused {
            Some((reason, message)) => (*reason, &**message),
            None => ("", ""),
        };
        let admitted = self.refused.is_none();
        // Outcomes stand where their Routes do.
        let before = self.was_at.zip(previous).and_then(|(at, previous)| {
            let same = Arc::ptr_eq(previous.cache.routes.get(at)?, &self.kept);
            previous.routes.get(at).filter(|_| same)
        });
        let same = |before: &&Arc<RouteOutcome>| {
            (before.admitted, before.reason, &*before.message) == (admitted, reason, message)
        };
        before.filter(same).cloned().unwrap_or_else(|| {
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

impl ServedIngress {
    pub(super) fn seniority(&self) -> Seniority<'_> {
        self.kept.seniority("Ingress", self.facts.age)
    }

    /// The gateway Service that serves it.
    pub(super) fn gateway(&self) -> Option<&ObjectKey> {
        self.kept.result.gateway.as_ref()
    }

    /// What becomes of it, the previous value if it is the same.
    pub(super) fn outcome(&self, previous: Option<&Compiled>) -> Arc<IngressOutcome> {
        // Outcomes stand where their Ingresses do.
        let before = self.was_at.zip(previous).and_then(|(at, previous)| {
            let same = Arc::ptr_eq(previous.cache.ingresses.get(at)?, &self.kept);
            Some((previous.ingresses.get(at)?, same))
        });
        let OwnIngress { class, gateway, .. } = &self.kept.result;
        let is = |before: &Arc<IngressOutcome>| {
            before.object == self.kept.key
                && before.class.as_deref() == class.as_deref()
                && before.gateway == *gateway
        };
        match before {
            Some((before, same)) if same || is(before) => Arc::clone(before),
            _ => Arc::new(IngressOutcome {
                object: self.kept.key.clone(),
                class: class.as_deref().map(str::to_owned),
                gateway: gateway.clone(),
            }),
        }
    }
}
