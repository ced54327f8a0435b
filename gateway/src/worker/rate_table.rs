//! How much of their limits clients have used: one table for all limits, shared by all workers.
//!
//! GCRA (ITU-T I.371): of each client only the time is kept at which it will have made up for its requests. A time
//! and a mark of its owner are one word, changed by compare-and-swap, so that a limit is exact over all workers
//! without a lock. The table does not grow: a client hashes to a set of eight words, and where all of them are in
//! use, the one whose time comes first gives way. A spray of addresses can make clients forgotten, it cannot make
//! anybody wait and takes no memory.

use std::{
    hash::BuildHasher,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;

/// Words of a set: those of one cache line.
const WAYS: usize = 8;
/// Sets, a power of two: 65 536 × 64 bytes are 4 MiB.
const SETS: usize = 1 << 16;
/// Bits of a word that hold the time, in units of 4 µs: 35 years. The rest marks the owner.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// Nanoseconds of a unit.
const UNIT: u128 = 4_000;

/// The table, made with the first request that is limited.
pub(crate) type Rates = Arc<LazyLock<RateTable>>;

/// What is known of all clients.
pub(crate) struct RateTable {
    sets: Box<[Set]>,
    hasher: RandomState,
    begun: Instant,
}

#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

impl Default for RateTable {
    fn default() -> Self {
        let set = || Set(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            sets: (0..SETS).map(|_| set()).collect(),
            hasher: RandomState::default(),
            begun: Instant::now(),
        }
    }
}

impl RateTable {
    /// Counts a request of `key` against a limit of one request each `interval` and `burst` ones at once.
    ///
    /// # Errors
    /// The request is too much, and does not count; it would not be after this time.
    pub(crate) fn take(
        &self,
        key: (u64, u64),
        interval: Duration,
        burst: u32,
        now: Instant,
    ) -> Result<Left, Duration> {
        let hash = self.hasher.hash_one(key);
        let set = &self.sets[hash as usize % SETS].0;
        // Never 0, so that an empty word has no owner.
        let mark = (hash >> TIME_BITS).max(1) << TIME_BITS;
        // The clock begins late enough that no time is 0 either.
        let now = units(now.saturating_duration_since(self.begun)) + 1;
        let step = units(interval).max(1);
        let ahead = step.saturating_mul(u64::from(burst));
        loop {
            let (word, seen) = find(set, mark);
            let due = if seen & !TIME == mark { (seen & TIME).max(now) } else { now };
            if due - now > ahead {
                return Err(time_of(due - now - ahead));
            }
            let new = mark | (due + step).min(TIME);
            // Another worker was faster: look again.
            if word.compare_exchange(seen, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let ahead = (due + step).saturating_sub(now);
                let room = step.saturating_mul(u64::from(burst) + 1).saturating_sub(ahead);
                return Ok(Left {
                    requests: u32::try_from(room / step).unwrap_or(u32::MAX),
                    whole_in: time_of(ahead),
                });
            }
        }
    }

    /// What stands for a text in keys.
    pub(crate) fn digest(&self, text: &[u8]) -> u64 {
        self.hasher.hash_one(text)
    }
}

/// What a client has left of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Requests that may come at once.
    pub(crate) requests: u32,
    /// When all of them may again.
    pub(crate) whole_in: Duration,
}

fn time_of(units: u64) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(units) * UNIT).unwrap_or(u64::MAX))
}

/// The word of an owner, or else the one that is to become it, and what it holds.
fn find(set: &[AtomicU64; WAYS], mark: u64) -> (&AtomicU64, u64) {
    let mut oldest = (&set[0], u64::MAX);
    for word in set {
        let seen = word.load(Ordering::Relaxed);
        if seen & !TIME == mark {
            return (word, seen);
        }
        if seen & TIME < oldest.1 & TIME {
            oldest = (word, seen);
        }
    }
    oldest
}

fn units(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / UNIT).unwrap_or(TIME).min(TIME)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn allowed(table: &RateTable, key: u64, times: u32, burst: u32, now: Instant) -> u32 {
        (0..times).filter(|_| table.take((1, key), SECOND, burst, now).is_ok()).count() as u32
    }

    #[test]
    fn a_client_may_burst_once_and_then_has_its_rate() {
        let table = RateTable::default();
        let begin = Instant::now();
        assert_eq!(allowed(&table, 7, 20, 4, begin), 5);
        assert_eq!(allowed(&table, 7, 20, 4, begin + SECOND), 1);
        assert_eq!(allowed(&table, 7, 20, 4, begin + 3 * SECOND), 2);
        // Another client, and another limit of the same one.
        assert_eq!(allowed(&table, 8, 20, 4, begin), 5);
        assert!(table.take((2, 7), SECOND, 0, begin).is_ok());
        // Who waits long enough has the whole burst again, and no more.
        assert_eq!(allowed(&table, 7, 20, 4, begin + 1000 * SECOND), 5);
    }

    #[test]
    fn a_client_is_told_what_is_left() {
        let (table, begin) = (RateTable::default(), Instant::now());
        let take = |after| table.take((1, 7), SECOND, 4, begin + after).unwrap();
        let left = |requests, whole_in| Left { requests, whole_in };
        assert_eq!(take(Duration::ZERO), left(4, SECOND));
        assert_eq!(take(Duration::ZERO), left(3, 2 * SECOND));
        assert_eq!(take(2 * SECOND).requests, 4);
    }

    #[test]
    fn a_refusal_says_when_the_next_request_is_due_and_does_not_count() {
        let table = RateTable::default();
        let begin = Instant::now();
        assert_eq!(allowed(&table, 7, 1, 0, begin), 1);
        for _ in 0..100 {
            let wait = table.take((1, 7), SECOND, 0, begin).unwrap_err();
            assert!(wait <= SECOND && wait > SECOND / 2, "{wait:?}");
        }
        assert_eq!(allowed(&table, 7, 9, 0, begin + SECOND), 1);
    }

    #[test]
    fn all_workers_together_keep_a_limit_exactly() {
        let table = RateTable::default();
        let begin = Instant::now();
        let total: u32 = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| allowed(&table, 7, 10_000, 999, begin))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(total, 1000);
    }

    #[test]
    fn a_spray_of_clients_takes_no_memory_and_each_of_them_gets_its_first_request() {
        let table = RateTable::default();
        let begin = Instant::now();
        let clients = 2 * SETS * WAYS;
        let passed = (0..clients as u64)
            .filter(|client| table.take((1, *client), SECOND, 0, begin).is_ok())
            .count();
        // Few of them meet another one with the same mark.
        assert!(passed > clients / 1000 * 999, "{passed} of {clients}");
        // A client that comes later is limited as any other.
        let later = begin + 100 * SECOND;
        assert_eq!(allowed(&table, u64::MAX, 10, 1, later), 2);
    }
}
