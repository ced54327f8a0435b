//! Numbers backends and scopes, so that a rule finds its backend and a listener its rules by index, the same
//! from compile to compile. A backend's number is free again once no rule refers to it; a scope's never is,
//! because a listener holds it from one compile to the next.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use crate::model::{BackendKey, BackendSlot, BackendTable, Scope, ScopeSlot};

/// Slot of every backend of one compile.
pub(crate) type SlotMap = HashMap<BackendKey, BackendSlot>;

/// Numbers of all scopes that there ever were.
#[derive(Clone, Debug)]
pub(crate) struct ScopeSlots(Arc<HashMap<Scope, ScopeSlot>>);

impl Default for ScopeSlots {
    fn default() -> Self {
        Self(Arc::new([(Scope::Plain, ScopeSlot::PLAIN)].into_iter().collect()))
    }
}

impl ScopeSlots {
    /// The slot of a scope.
    pub(crate) fn slot(&mut self, scope: &Scope) -> ScopeSlot {
        if let Some(known) = self.0.get(scope) {
            return *known;
        }
        let next = ScopeSlot(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        Arc::make_mut(&mut self.0).insert(scope.clone(), next);
        next
    }
}

/// Gives out slots: the one of the previous compile, else one that is free there, else a new one.
pub(crate) struct Slots<'p> {
    previous: Option<&'p Arc<SlotMap>>,
    /// Free in the previous table; popped from the end, so in descending order.
    free: Vec<u32>,
    end: u32,
    added: SlotMap,
}

impl<'p> Slots<'p> {
    /// Continues from the previous compile, if there is one.
    pub(crate) fn new(previous: Option<(&'p Arc<SlotMap>, &BackendTable)>) -> Self {
        let slots = previous.map_or(&[][..], |(_, table)| &table.slots);
        let free = (0u32..).zip(slots).filter(|(_, slot)| slot.is_none()).map(|(at, _)| at);
        let mut free: Vec<u32> = free.collect();
        free.reverse();
        Self {
            previous: previous.map(|(map, _)| map),
            free,
            end: u32::try_from(slots.len()).unwrap_or(u32::MAX),
            added: SlotMap::new(),
        }
    }

    /// The slot of a backend.
    pub(crate) fn slot(&mut self, key: &BackendKey) -> BackendSlot {
        let known = self.previous.and_then(|map| map.get(key)).or_else(|| self.added.get(key));
        if let Some(slot) = known {
            return *slot;
        }
        let slot = BackendSlot(self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        }));
        self.added.insert(key.clone(), slot);
        slot
    }

    /// Length that the table must have to hold every slot given out so far.
    pub(crate) fn len(&self) -> usize {
        self.end as usize
    }

    /// The map for the next compile, given the finished table: the previous one if it still holds.
    pub(crate) fn finish(self, table: &BackendTable) -> Arc<SlotMap> {
        let used = |slot: BackendSlot| table.get(slot).is_some();
        if let Some(previous) = self.previous
            && self.added.is_empty()
            && previous.values().all(|slot| used(*slot))
        {
            return Arc::clone(previous);
        }
        let backends = table.slots.iter().flatten();
        let numbered = (0u32..).zip(&table.slots).filter_map(|(at, slot)| {
            slot.as_ref().map(|backend| (backend.key.clone(), BackendSlot(at)))
        });
        let mut map = SlotMap::with_capacity(backends.count());
        map.extend(numbered);
        Arc::new(map)
    }
}
