//! What is behind the backends that rules lead to.
//!
//! Thousands of rules lead to thousands of backends, and mostly an object or two have changed. So the backends of the
//! previous compile are these as well, unless a Service has changed, or an object that did leads elsewhere.

use std::sync::Arc;

use super::{backends::Backends, by_age::Served, gather::Run, kept::Cache};
use crate::{
    endpoints::{Changed, Resolved, Resolver, ServiceName, through},
    model::{Backend, BackendKey, BackendTable},
    objects::ObjectKey,
    translate::Translation,
};

impl Run<'_, '_> {
    /// The backends of all that is served, and of what is asked for besides.
    pub(super) fn backends(
        &self,
        served: Served<'_>,
        asked: &[Translation],
        changed: &Changed<'_>,
    ) -> Arc<Backends> {
        // An endpoint at one of our own addresses is none.
        let same_own = self.kept.is_some_and(|kept| kept.own == self.own);
        let leads_as_before = |kept: &&Cache| {
            let (came, went) = served.differences(kept);
            kept.backends.are_those_of((&came, &went), asked)
        };
        let resolved = match self.kept.filter(|_| same_own).filter(leads_as_before) {
            Some(kept) if changed.is_empty() => return Arc::clone(&kept.backends),
            Some(kept) => self.refreshed(&kept.backends, changed),
            None => {
                let all = served.translations(|_, _| true).chain(asked);
                self.resolve(all, |service| !same_own || changed.contains(service))
            }
        };
        let backends = resolved.iter().map(|it| it.as_ref().map(|it| Arc::clone(&it.backend)));
        let table = self.backend_table(backends.collect());
        Arc::new(Backends::new(resolved, asked, table))
    }

    /// The same backends with what is behind their Services now.
    fn refreshed(&self, known: &Backends, changed: &Changed<'_>) -> Vec<Option<Arc<Resolved>>> {
        let mut resolved = known.resolved().to_vec();
        let mut pending = Vec::new();
        for at in known.of_services(changed) {
            resolved[at] = None;
            if let Some(old) = &known.resolved()[at] {
                pending.push((at, &old.backend.key, Some(&**old)));
            }
        }
        self.resolve_pending(&mut resolved, pending);
        resolved
    }

    /// Every backend that a translation refers to, by slot. Only those are looked at whose Service has changed, or its
    /// EndpointSlices, and those that are new.
    fn resolve<'t>(
        &self,
        translations: impl Iterator<Item = &'t Translation>,
        has_changed: impl Fn(&ServiceName<'_>) -> bool,
    ) -> Vec<Option<Arc<Resolved>>> {
        let mut resolved = vec![None; self.slots.len()];
        let mut pending = Vec::new();
        let known = self.kept.map_or(&[][..], |kept| kept.backends.resolved());
        let same = |key: &ObjectKey| !has_changed(&(&*key.namespace, &*key.name));
        for usage in translations.flat_map(|translation| &translation.backends) {
            let at = usage.slot.0 as usize;
            let Some(entry @ None) = resolved.get_mut(at) else { continue };
            let old = known.get(at).and_then(Option::as_ref);
            match old.filter(|old| old.backend.key == usage.key) {
                Some(old) if same(&usage.key.service) && old.through.iter().all(same) => {
                    *entry = Some(Arc::clone(old));
                }
                old => pending.push((at, &usage.key, old.map(|old| &**old))),
            }
        }
        self.resolve_pending(&mut resolved, pending);
        resolved
    }

    /// Puts those in their slots.
    fn resolve_pending(
        &self,
        resolved: &mut [Option<Arc<Resolved>>],
        pending: Vec<(usize, &BackendKey, Option<&Resolved>)>,
    ) {
        let through = pending.iter().flat_map(|(_, key, _)| through(key, self.objects));
        let through: Vec<_> = through.collect();
        let services = pending.iter().map(|(_, key, _)| &key.service).chain(&through);
        let services = services.map(|key| (&*key.namespace, &*key.name)).collect();
        let resolver = Resolver::new(self.objects, &self.own, &services).at(&self.options.place);
        for (at, key, old) in pending {
            // A backend that two rules refer to is pending twice.
            let entry = &mut resolved[at];
            if entry.is_none() {
                *entry = Some(Arc::new(resolver.resolve(key, old)));
            }
        }
    }

    /// The previous table if it has the same backends.
    fn backend_table(&self, slots: Vec<Option<Arc<Backend>>>) -> Arc<BackendTable> {
        let same = |a: &Option<Arc<_>>, b: &Option<Arc<_>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let is_same = |old: &&Arc<BackendTable>| {
            old.slots.len() == slots.len() && old.slots.iter().zip(&slots).all(|(a, b)| same(a, b))
        };
        match self.previous.map(|previous| &previous.backends).filter(is_same) {
            Some(old) => Arc::clone(old),
            None => Arc::new(BackendTable::new(slots.into())),
        }
    }
}
