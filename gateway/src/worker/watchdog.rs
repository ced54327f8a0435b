//! Whether the data threads turn over: a node whose data path hangs must not hold addresses.
//!
//! Every worker counts the ticks of its clock ([`Report::beats`](crate::worker::thread::Report::beats)). The speaker
//! asks several times a second, on its own thread; a worker whose count has stood still for [`PATIENCE`]
//! makes the node ineligible until it moves again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::worker::thread::Report;

/// How long a worker may stand still. A tick comes every 50 ms; a burst of work delays it by less than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// A watcher who looked away for so long (a stopped process, a suspended host) has seen nobody stand still.
const LOOKED_AWAY: Duration = Duration::from_secs(1);

/// The question that the speaker asks; true while every worker ticks. `tick` is the period of their clocks.
pub(crate) fn watch(workers: Vec<Arc<Report>>, tick: Duration) -> impl Fn() -> bool + Send + Sync {
    let patience = PATIENCE.max(tick * 4);
    let watched = Mutex::new(Watchdog::new(workers.len(), Instant::now()));
    move || {
        let beats = workers.iter().map(|worker| worker.beats());
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.look(beats, patience, Instant::now())
    }
}

/// What was seen of the workers so far.
#[derive(Debug)]
struct Watchdog {
    /// Last count of each worker, and since when it is that.
    workers: Vec<(u64, Instant)>,
    looked: Instant,
}

impl Watchdog {
    fn new(workers: usize, now: Instant) -> Self {
        Self { workers: vec![(0, now); workers], looked: now }
    }

    fn look(&mut self, beats: impl Iterator<Item = u64>, patience: Duration, now: Instant) -> bool {
        let looked_away = now.saturating_duration_since(self.looked) > LOOKED_AWAY;
        self.looked = now;
        let mut alive = true;
        for ((seen, since), beats) in self.workers.iter_mut().zip(beats) {
            if looked_away || *seen != beats {
                (*seen, *since) = (beats, now);
            }
            alive &= now.saturating_duration_since(*since) < patience;
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(250);

    /// Looks once per step at two workers with these counts; says at which steps all was well.
    fn looks(counts: &[[u64; 2]]) -> Vec<bool> {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(2, start);
        let steps = counts.iter().zip(1..);
        steps
            .map(|(counts, step)| {
                watchdog.look(counts.iter().copied(), PATIENCE, start + STEP * step)
            })
            .collect()
    }

    #[test]
    fn one_core_that_stands_still_for_two_seconds_is_enough_and_its_next_tick_heals() {
        let mut counts: Vec<_> = (1..=10).map(|n| [n * 5, 5]).collect();
        counts.push([55, 6]);
        let healthy = looks(&counts);
        assert!(healthy[..8].iter().all(|well| *well), "{healthy:?}");
        assert_eq!(healthy[8..], [false, false, true], "{healthy:?}");
    }

    #[test]
    fn a_watcher_that_was_stopped_itself_accuses_nobody() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(1, start);
        assert!(watchdog.look([7].into_iter(), PATIENCE, start + STEP));
        let resumed = start + Duration::from_secs(60);
        assert!(watchdog.look([7].into_iter(), PATIENCE, resumed));
        let mut look = |steps| watchdog.look([7].into_iter(), PATIENCE, resumed + STEP * steps);
        assert!((1..8).all(&mut look));
        assert!(!look(8), "two seconds later the worker has had its chance");
    }
}
