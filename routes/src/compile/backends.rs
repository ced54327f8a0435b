//! The backends that rules lead to, each with the endpoints that stand behind it.

use std::{hash::BuildHasher as _, sync::Arc};

use foldhash::{HashSet, quality::FixedState};

use crate::{
    endpoints::{Changed, Gap, Resolved, ServiceName},
    model::{BackendSlot, BackendTable},
    problem::Problem,
    translate::{BackendUse, Translation},
};

/// Every backend that a translation refers to.
#[derive(Debug)]
pub(super) struct Backends {
    /// By slot.
    resolved: Vec<Option<Arc<Resolved>>>,
    /// Stands for the Service of each, by slot; another Service has another one, but for a rare chance.
    services: Vec<u64>,
    /// Slots of those that no object that is served refers to.
    asked: Vec<BackendSlot>,
    /// What each lacks, by slot.
    gaps: Vec<Option<Gap>>,
    /// Whether any lacks something.
    pub(super) missing: bool,
    /// About Services and EndpointSlices.
    pub(super) problems: Vec<Problem>,
    /// What requests are served with.
    pub(super) table: Arc<BackendTable>,
}

/// Stands for the Services of a backend that leads to others by their names.
const SEVERAL: u64 = u64::MAX;

impl Backends {
    /// Those; `table` is made of them.
    pub(super) fn new(
        resolved: Vec<Option<Arc<Resolved>>>,
        asked: &[Translation],
        table: Arc<BackendTable>,
    ) -> Self {
        let gaps: Vec<_> = resolved.iter().map(|it| it.as_ref()?.gap).collect();
        Self {
            services: resolved.iter().map(|it| it.as_deref().map_or(0, mark)).collect(),
            asked: slots(asked),
            missing: gaps.iter().any(Option::is_some),
            gaps,
            problems: resolved.iter().flatten().flat_map(|it| &it.problems).cloned().collect(),
            table,
            resolved,
        }
    }

    /// By slot.
    pub(super) fn resolved(&self) -> &[Option<Arc<Resolved>>] {
        &self.resolved
    }

    /// What a backend lacks.
    pub(super) fn gap(&self, usage: &BackendUse) -> Option<Gap> {
        self.gaps.get(usage.slot.0 as usize).copied().flatten()
    }

    /// The slots of these Services, and perhaps some more.
    pub(super) fn of_services(&self, services: &Changed<'_>) -> Vec<usize> {
        let marks: HashSet<_> = services.iter().map(hash).collect();
        let all = self.services.iter().enumerate();
        let of = all.filter(|(_, service)| **service == SEVERAL || marks.contains(service));
        of.map(|(slot, _)| slot).collect()
    }

    /// Whether all backends are referred to that are here, and no others, though `came` is here in the place of `went`:
    /// it leads where that led, or to more of those that others lead to.
    pub(super) fn are_those_of(
        &self,
        (came, went): (&[&Translation], &[&Translation]),
        asked: &[Translation],
    ) -> bool {
        let has = |usage: &BackendUse| {
            let at = usage.slot.0 as usize;
            let here = self.resolved.get(at).and_then(Option::as_ref);
            here.is_some_and(|it| it.backend.key == usage.key)
        };
        let mut leads = came.iter().copied().chain(asked).flat_map(|it| &it.backends);
        if self.asked != slots(asked) || !leads.all(has) {
            return false;
        }
        let led = slots(went.iter().copied());
        if led.is_empty() {
            return true;
        }
        let leads: HashSet<_> = slots(came.iter().copied()).into_iter().collect();
        led.iter().all(|slot| leads.contains(slot))
    }
}

/// What stands for the Service of a backend.
fn mark(resolved: &Resolved) -> u64 {
    let service = &resolved.backend.key.service;
    if !resolved.through.is_empty() {
        return SEVERAL;
    }
    hash(&(&service.namespace, &service.name))
}

fn hash(service: &ServiceName<'_>) -> u64 {
    FixedState::default().hash_one(service)
}

/// Slots that those refer to.
fn slots<'t>(translations: impl IntoIterator<Item = &'t Translation>) -> Vec<BackendSlot> {
    let all = translations.into_iter().flat_map(|translation| &translation.backends);
    all.map(|usage| usage.slot).collect()
}
