//! How many requests clients have under way: one table for all limits, shared by all workers.
//!
//! As in the rate table, a client hashes to a set of words, each of them a mark of its owner and a count, changed by
//! compare-and-swap: no lock, and no memory that grows. A word whose count is zero is free. Where all words of
//! a set belong to others, a request passes uncounted: that takes half a million clients at once.

use std::{
    hash::BuildHasher,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::quality::RandomState;

/// Words of a set: those of one cache line.
const WAYS: usize = 8;
/// Sets, a power of two: 65 536 × 64 bytes are 4 MiB.
const SETS: usize = 1 << 16;
/// Bits of a word that hold the count. The rest marks the owner.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// The table, made with the first request that is counted.
pub(crate) type InFlight = Arc<LazyLock<Table>>;

/// What is under way of all clients.
pub(crate) struct Table {
    sets: Box<[Set]>,
    hasher: RandomState,
}

#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A request under way, until it is dropped.
pub(crate) struct Counted {
    table: InFlight,
    set: usize,
    /// `None`: it passed uncounted.
    way: Option<usize>,
}

/// A client has as many requests under way as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Default for Table {
    fn default() -> Self {
        let set = || Set(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { sets: (0..SETS).map(|_| set()).collect(), hasher: RandomState::default() }
    }
}

impl Table {
    /// Counts a request of `key`, of which so many may be under way.
    pub(crate) fn begin(table: &InFlight, key: (u64, u64), limit: u32) -> Result<Counted, TooMany> {
        let hash = table.hasher.hash_one(key);
        let at = hash as usize % SETS;
        let mark = (hash >> COUNT_BITS).max(1) << COUNT_BITS;
        let limit = u64::from(limit).min(COUNT);
        let counted = |way| Counted { table: Arc::clone(table), set: at, way };
        let set = &table.sets[at].0;
        loop {
            let words = set.iter().map(|word| word.load(Ordering::Relaxed)).enumerate();
            let own = words.clone().find(|(_, seen)| seen & !COUNT == mark && seen & COUNT > 0);
            let free = || words.clone().find(|(_, seen)| seen & COUNT == 0);
            let Some((way, seen)) = own.or_else(free) else { return Ok(counted(None)) };
            let count = seen & COUNT;
            if count >= limit {
                return Err(TooMany);
            }
            let new = mark | (count + 1);
            // Another worker was faster: look again.
            if set[way].compare_exchange(seen, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(counted(Some(way)));
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(way) = self.way {
            // The word is this client's while it counts anything.
            self.table.sets[self.set].0[way].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_client_has_so_many_at_once_and_again_when_one_is_over() {
        let table = InFlight::new(LazyLock::new(Table::default));
        let begin = |key| Table::begin(&table, (1, key), 2);
        let (first, second) = (begin(7).unwrap(), begin(7).unwrap());
        assert!(begin(7).is_err());
        // Another client, and another limit of the same one.
        let _other = begin(8).unwrap();
        let _limit = Table::begin(&table, (2, 7), 1).unwrap();
        drop(first);
        let third = begin(7).unwrap();
        assert!(begin(7).is_err());
        drop((second, third));
        assert!(begin(7).is_ok());
    }

    #[test]
    fn all_workers_together_keep_a_limit_and_leave_nothing_behind() {
        let table = InFlight::new(LazyLock::new(Table::default));
        let most = AtomicU64::new(0);
        let now = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Ok(counted) = Table::begin(&table, (1, 7), 3) else { continue };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(counted);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        let left = table
            .sets
            .iter()
            .flat_map(|set| &set.0)
            .map(|word| word.load(Ordering::Relaxed) & COUNT);
        assert_eq!(left.sum::<u64>(), 0);
    }
}
