//! Whose turn it is: one worker's positions in what backends and endpoints are chosen by.
//!
//! Positions that all workers share would be one cache line that every request writes. Each worker counts for
//! itself instead, so its own requests are dealt out exactly as the weights say; workers begin at different
//! positions, so that they do not all begin with the same endpoint.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use gatehouse_routes::{action::Sequence, model::BackendSlot};

/// The positions of one worker.
pub(super) struct Turns {
    /// Where a sequence begins here.
    start: u32,
    /// Of weighted rules, by the handle that compiles carry over.
    weighted: RefCell<HashMap<*const Sequence, Weighted, foldhash::fast::RandomState>>,
    /// By slot of the backend. What comes to a slot later goes on where its predecessor was.
    endpoints: RefCell<Vec<u32>>,
}

struct Weighted {
    /// Keeps the address its own.
    sequence: Arc<Sequence>,
    next: u32,
}

impl Turns {
    /// `worker` counts the data threads from zero.
    pub(super) fn new(worker: usize) -> Self {
        Self {
            start: u32::try_from(worker).unwrap_or_default(),
            weighted: RefCell::default(),
            endpoints: RefCell::default(),
        }
    }

    /// The next position in a weighted sequence.
    pub(super) fn of_weights(&self, sequence: &Arc<Sequence>) -> u32 {
        let mut known = self.weighted.borrow_mut();
        let weighted = known
            .entry(Arc::as_ptr(sequence))
            .or_insert_with(|| Weighted { sequence: Arc::clone(sequence), next: self.start });
        take(&mut weighted.next)
    }

    /// The next position in the round of a backend's endpoints.
    pub(super) fn of_endpoints(&self, slot: BackendSlot) -> u32 {
        let (slot, mut endpoints) = (slot.0 as usize, self.endpoints.borrow_mut());
        if slot >= endpoints.len() {
            endpoints.resize(slot + 1, self.start);
        }
        take(&mut endpoints[slot])
    }

    /// Forgets sequences that no rule has any more.
    pub(super) fn forget(&self) {
        let mut known = self.weighted.borrow_mut();
        known.retain(|_, weighted| Arc::strong_count(&weighted.sequence) > 1);
    }
}

fn take(next: &mut u32) -> u32 {
    let position = *next;
    *next = position.wrapping_add(1);
    position
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::balance;

    use super::*;

    #[test]
    fn each_worker_deals_its_own_requests_out_exactly_and_begins_elsewhere() {
        let (weights, sequence) = ([3, 2], Arc::default());
        let workers = [Turns::new(0), Turns::new(1)];
        for worker in &workers {
            let chosen = (0..1000).map(|_| {
                balance::pick_weighted(worker.of_weights(&sequence), weights.into_iter()).unwrap()
            });
            assert_eq!(chosen.filter(|index| *index == 0).count(), 600);
        }
        let slot = BackendSlot(7);
        let begins = workers.each_ref().map(|worker| worker.of_endpoints(slot));
        assert_eq!(begins, [0, 1]);
        assert_eq!(workers[0].of_endpoints(slot), 1);
        assert_eq!(workers[0].of_endpoints(BackendSlot(2)), 0);
    }

    #[test]
    fn a_sequence_goes_on_while_some_rule_has_it_and_is_forgotten_then() {
        let (turns, sequence) = (Turns::new(0), Arc::default());
        turns.of_weights(&sequence);
        turns.forget();
        assert_eq!(turns.of_weights(&sequence), 1);
        let weak = Arc::downgrade(&sequence);
        drop(sequence);
        turns.forget();
        assert!(weak.upgrade().is_none());
    }
}
