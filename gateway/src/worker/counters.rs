//! What one worker counts on its way to totals that all workers share.
//!
//! A total is one cache line for all cores: adding to it per request would have them wait for each other. A
//! worker counts in cells of its own instead and adds them up at its next clock tick. The totals are handles
//! that the compiler carries from snapshot to snapshot, so their addresses are what counts are found by.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gatehouse_routes::stats::EndpointStats;

use crate::{admin::metrics::series, compile::L4Stats};

/// Most counts of one kind.
const KINDS: usize = series::NUMBERS;

/// Totals that counts are added to.
pub(crate) trait Totals {
    /// The total of each kind, in the order of the numbers that [`Counters::add`] takes.
    fn totals(&self) -> impl Iterator<Item = &AtomicU64>;
}

impl Totals for series::Totals {
    /// By [`series::Number`].
    fn totals(&self) -> impl Iterator<Item = &AtomicU64> {
        self.0.iter()
    }
}

impl Totals for EndpointStats {
    /// [`REQUEST`], [`FAILURE`], [`JUDGED`], [`FAULT`].
    fn totals(&self) -> impl Iterator<Item = &AtomicU64> {
        [&self.requests, &self.failures, &self.judged, &self.faults].into_iter()
    }
}

impl Totals for L4Stats {
    /// By the numbers of [`L4Stats`].
    fn totals(&self) -> impl Iterator<Item = &AtomicU64> {
        self.totals.iter()
    }
}

/// A request that an endpoint answered.
pub(crate) const REQUEST: usize = 0;
/// A connect or an exchange that failed.
pub(crate) const FAILURE: usize = 1;
/// A request whose outcome counts for or against the endpoint.
pub(crate) const JUDGED: usize = 2;
/// One that the endpoint has failed.
pub(crate) const FAULT: usize = 3;

/// One worker's counts for one handle.
pub(crate) struct Counts<T> {
    totals: Arc<T>,
    counts: [Cell<u64>; KINDS],
    /// Stands in the list of what the next tick adds up.
    listed: Cell<bool>,
}

/// One worker's counts for all handles of a kind.
pub(crate) struct Counters<T> {
    known: RefCell<HashMap<*const T, Rc<Counts<T>>, foldhash::fast::RandomState>>,
    changed: RefCell<Vec<Rc<Counts<T>>>>,
}

impl<T> Default for Counters<T> {
    fn default() -> Self {
        Self { known: RefCell::default(), changed: RefCell::default() }
    }
}

impl<T: Totals> Counters<T> {
    /// This worker's counts for a handle.
    pub(crate) fn of(&self, totals: &Arc<T>) -> Rc<Counts<T>> {
        let mut known = self.known.borrow_mut();
        let counts = known.entry(Arc::as_ptr(totals)).or_insert_with(|| {
            let totals = Arc::clone(totals);
            Rc::new(Counts { totals, counts: Default::default(), listed: Cell::new(false) })
        });
        Rc::clone(counts)
    }

    /// Counts one of a kind; a kind that the totals do not have counts for nothing.
    pub(crate) fn add(&self, counts: &Rc<Counts<T>>, kind: usize) {
        self.add_amount(counts, kind, 1);
    }

    /// Counts so many of a kind.
    pub(crate) fn add_amount(&self, counts: &Rc<Counts<T>>, kind: usize, amount: u64) {
        let Some(count) = counts.counts.get(kind) else { return };
        count.set(count.get().wrapping_add(amount));
        if !counts.listed.replace(true) {
            self.changed.borrow_mut().push(Rc::clone(counts));
        }
    }

    /// Adds everything to the totals.
    pub(super) fn flush(&self) {
        for counts in self.changed.borrow_mut().drain(..) {
            counts.listed.set(false);
            for (count, total) in counts.counts.iter().zip(counts.totals.totals()) {
                let count = count.take();
                if count > 0 {
                    total.fetch_add(count, Ordering::Relaxed);
                }
            }
        }
    }

    /// Forgets handles that nothing else refers to any more. Call after [`Self::flush`].
    pub(super) fn forget(&self) {
        self.known.borrow_mut().retain(|_, counts| {
            Arc::strong_count(&counts.totals) > 1 || Rc::strong_count(counts) > 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(stats: &EndpointStats) -> Vec<u64> {
        stats.totals().map(|total| total.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn counts_of_all_workers_meet_in_the_totals() {
        let stats = Arc::new(EndpointStats::default());
        let workers = [Counters::default(), Counters::default()];
        for worker in &workers {
            worker.add(&worker.of(&stats), REQUEST);
            worker.add(&worker.of(&stats), REQUEST);
            worker.add(&worker.of(&stats), FAILURE);
        }
        assert_eq!(totals(&stats), [0; 4], "no shared line is touched before the tick");
        workers.iter().for_each(Counters::flush);
        assert_eq!(totals(&stats), [4, 2, 0, 0]);
        workers.iter().for_each(Counters::flush);
        assert_eq!(totals(&stats), [4, 2, 0, 0], "nothing is added twice");
    }

    #[test]
    fn a_handle_that_only_its_counts_know_is_forgotten_and_what_a_request_still_counts_is_not_lost()
    {
        let (stats, worker) = (Arc::new(EndpointStats::default()), Counters::default());
        let of_a_request = worker.of(&stats);
        let weak = Arc::downgrade(&stats);
        drop(stats);
        worker.forget();
        worker.add(&of_a_request, REQUEST);
        worker.flush();
        assert_eq!(totals(&of_a_request.totals), [1, 0, 0, 0]);
        drop(of_a_request);
        worker.forget();
        assert!(weak.upgrade().is_none(), "the handle of a host that is gone");
    }
}
