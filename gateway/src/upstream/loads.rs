//! What one worker has under way at each endpoint, and how long each took lately.
//!
//! Kept for endpoints alone whose rules choose by it, found by the handle that compiles carry over by address, so
//! that a new configuration forgets nothing. No two workers share any of it: each judges by its own requests.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use gatehouse_routes::{balance, stats::EndpointStats};

use crate::worker::clock::Tick;

/// Time in which what was known of an endpoint loses half its weight, in milliseconds.
const HALF: Tick = 5_000;

/// All that one worker knows.
#[derive(Default)]
pub(crate) struct Loads {
    known: RefCell<HashMap<*const EndpointStats, Rc<Load>, foldhash::fast::RandomState>>,
}

/// One endpoint.
pub(crate) struct Load {
    /// Keeps the address its own.
    stats: Arc<EndpointStats>,
    in_flight: Cell<u32>,
    /// Microseconds until the head of an answer.
    ewma: Cell<u64>,
    measured: Cell<Tick>,
    /// When it was met here first.
    since: Tick,
}

/// A request that an endpoint works on, until it is dropped.
pub(crate) struct UnderWay(Rc<Load>);

impl Loads {
    /// What is known of an endpoint.
    pub(crate) fn of(&self, stats: &Arc<EndpointStats>, now: Tick) -> Rc<Load> {
        let mut known = self.known.borrow_mut();
        let load = known.entry(Arc::as_ptr(stats)).or_insert_with(|| {
            Rc::new(Load {
                stats: Arc::clone(stats),
                in_flight: Cell::new(0),
                ewma: Cell::new(0),
                measured: Cell::new(now),
                since: now,
            })
        });
        Rc::clone(load)
    }

    /// Forgets endpoints that no backend has any more.
    pub(super) fn forget(&self) {
        self.known
            .borrow_mut()
            .retain(|_, load| Arc::strong_count(&load.stats) > 1 || Rc::strong_count(load) > 1);
    }
}

impl Load {
    /// One more request for it.
    pub(crate) fn begin(self: &Rc<Self>) -> UnderWay {
        self.in_flight.set(self.in_flight.get() + 1);
        UnderWay(Rc::clone(self))
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.get().into()
    }

    /// What one more request is expected to take.
    pub(super) fn expected(&self, now: Tick) -> u64 {
        let passed = now.saturating_sub(self.measured.get());
        let ewma = balance::peak_ewma(self.ewma.get(), 0, passed, HALF);
        balance::expected(ewma, self.in_flight.get())
    }

    /// How long it has been known here.
    pub(super) fn age(&self, now: Tick) -> Tick {
        now.saturating_sub(self.since)
    }
}

impl UnderWay {
    /// The head of the answer came after this time.
    pub(crate) fn answered(&self, after: Duration, now: Tick) {
        let passed = now.saturating_sub(self.0.measured.replace(now));
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        // A peak is answered by the next choice; many fast answers are one measurement for each tick.
        let before = self.0.ewma.get();
        let ewma = balance::peak_ewma(before, micros, passed.max(50), HALF);
        self.0.ewma.set(ewma);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_counts_until_it_ends_and_outlives_the_configuration() {
        let (loads, stats) = (Loads::default(), Arc::<EndpointStats>::default());
        let first = loads.of(&stats, 0).begin();
        let second = loads.of(&stats, 7).begin();
        assert_eq!(loads.of(&stats, 9).in_flight(), 2);
        assert_eq!(loads.of(&stats, 9).age(9), 9, "the first meeting counts");
        drop(first);
        assert_eq!(loads.of(&stats, 9).in_flight(), 1);
        let weak = Arc::downgrade(&stats);
        drop(stats);
        loads.forget();
        assert!(weak.upgrade().is_some(), "a request is under way");
        drop(second);
        loads.forget();
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_while_nothing_comes() {
        let (loads, stats) = (Loads::default(), Arc::<EndpointStats>::default());
        let load = loads.of(&stats, 0);
        assert_eq!(load.expected(0), 0, "an endpoint that nothing is known of is tried");
        load.begin().answered(Duration::from_millis(80), 100);
        assert_eq!(load.expected(100), 80_000);
        let _one = load.begin();
        assert_eq!(load.expected(100), 160_000);
        assert_eq!(load.expected(100 + HALF), 80_000);
    }
}
