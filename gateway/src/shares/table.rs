//! How much clients have used of limits that the nodes of a group share: one table, shared by all workers.
//!
//! As in `worker/rate_table`, of each client the time is kept at which it will have made up for its requests (GCRA),
//! in a set of one cache line, changed by compare-and-swap, and the table does not grow. Beside the time stands what
//! [`Ledger`](super::ledger::Ledger) has to know: how much was used here, and how much of the refill the other nodes
//! are expected to take until it looks again. Requests write no line but that of their client.

use std::{
    sync::{
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use crate::worker::rate_table::Left;

/// Entries of a set: one cache line.
const WAYS: usize = 4;
/// Sets of a process, a power of two: 65 536 × 64 bytes are 4 MiB.
pub(super) const SETS: usize = 1 << 16;
/// Bits of a word that hold the time, in units of 4 µs: 35 years. The rest marks the owner.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// Nanoseconds of a unit.
const UNIT: u128 = 4_000;
/// Keys that may wait for the ledger.
const NOMINEES: usize = 4096;
/// For this long the others' expected use counts though the ledger does not look again.
const TRUSTED: u64 = units(Duration::from_secs(1));

/// Of requests that take this long at the full rate all bring their client to the ledger's notice.
const CHOSEN: u64 = units(Duration::from_secs(1)) / 16;

/// A client is watched by the ledger.
const WATCHED: u64 = 1;
/// A request of it was too much since the ledger last looked.
const WANTED: u64 = 2;
/// Above the flags: the part of the refill that others take, 16 bits; above that what was used here, in units.
const OTHERS_SHIFT: u32 = 8;
const OTHERS: u64 = 0xffff << OTHERS_SHIFT;
const USED_SHIFT: u32 = 24;
/// What was used wraps around: at 2^40 units, 50 days.
pub(super) const USED: u64 = (1 << 40) - 1;

/// All of it: 65 536 of 65 536 parts.
pub(super) const WHOLE: u32 = 1 << 16;

/// What is known of all clients.
pub(crate) struct SharedTable {
    sets: Box<[Set]>,
    begun: Instant,
    /// When the ledger last looked.
    looked: AtomicU64,
    /// What a request is charged, in parts of [`WHOLE`].
    charge: AtomicU32,
    nominees: SyncSender<u64>,
}

#[repr(align(64))]
struct Set([Entry; WAYS]);

#[derive(Default)]
struct Entry {
    /// Mark of the owner, and when it will have made up.
    time: AtomicU64,
    state: AtomicU64,
}

/// What a client has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it will have made up for its requests.
    pub(super) due: u64,
    /// What it has used here since it has its entry.
    pub(super) used: u64,
    /// Something was too much.
    pub(super) wanted: bool,
}

impl SharedTable {
    /// An empty table of so many sets (a power of two), and the keys of clients that come near their limits.
    pub(super) fn new(sets: usize, begun: Instant) -> (Self, Receiver<u64>) {
        let (nominees, nominated) = sync_channel(NOMINEES);
        let table = Self {
            sets: (0..sets).map(|_| Set(Default::default())).collect(),
            begun,
            looked: AtomicU64::new(0),
            charge: AtomicU32::new(WHOLE),
            nominees,
        };
        (table, nominated)
    }

    /// Counts a request of `key` against a limit of one request each `interval` and `burst` ones at once.
    ///
    /// # Errors
    /// The request is too much, and does not count; as far as this node knows it would not be after this time.
    pub(crate) fn take(
        &self,
        key: u64,
        interval: Duration,
        burst: u32,
        now: Instant,
    ) -> Result<Left, Duration> {
        let (set, mark) = self.place(key);
        let now = self.units_at(now);
        let step = units(interval).max(1);
        let ahead = step.saturating_mul(u64::from(burst));
        let charge = step * u64::from(self.charge.load(Relaxed)) / u64::from(WHOLE);
        let elapsed = now.saturating_sub(self.looked.load(Relaxed)).min(TRUSTED);
        loop {
            let (entry, seen) = find(set, mark);
            let known = seen & !TIME == mark;
            let state = if known { entry.state.load(Relaxed) } else { 0 };
            let theirs = elapsed * ((state & OTHERS) >> OTHERS_SHIFT) / u64::from(WHOLE);
            let due = if known { ((seen & TIME) + theirs).max(now) } else { now };
            if due - now > ahead {
                if state & WANTED == 0 {
                    entry.state.fetch_or(WANTED, Relaxed);
                }
                self.nominate(key, entry, state);
                return Err(time_of(due - now - ahead));
            }
            let new = (due + charge).saturating_sub(theirs).min(TIME);
            if entry.time.compare_exchange(seen, mark | new, Relaxed, Relaxed).is_err() {
                // Another worker was faster: look again.
                continue;
            }
            let used = step << USED_SHIFT;
            if known {
                entry.state.fetch_add(used, Relaxed);
            } else {
                entry.state.store(used, Relaxed);
            }
            let level = (due + charge).saturating_sub(now);
            if is_chosen(key ^ new, step) {
                self.nominate(key, entry, state);
            }
            let room = charge.saturating_mul(u64::from(burst) + 1).saturating_sub(level);
            return Ok(Left {
                requests: u32::try_from(room / charge.max(1)).unwrap_or(u32::MAX),
                whole_in: time_of(level),
            });
        }
    }

    /// Has the ledger watch a client, unless it does.
    fn nominate(&self, key: u64, entry: &Entry, state: u64) {
        if state & WATCHED == 0
            && entry.state.fetch_or(WATCHED, Relaxed) & WATCHED == 0
            && self.nominees.try_send(key).is_err()
        {
            entry.state.fetch_and(!WATCHED, Relaxed);
        }
    }

    /// What a client has done; `None`: it has been forgotten for others.
    pub(super) fn see(&self, key: u64) -> Option<Seen> {
        let (entry, time) = self.entry(key)?;
        let state = entry.state.fetch_and(!WANTED, Relaxed);
        let (due, used) = (time & TIME, state >> USED_SHIFT);
        Some(Seen { due, used, wanted: state & WANTED != 0 })
    }

    /// Counts what a client has used elsewhere since `since`, and expects others to take a part of the refill.
    pub(super) fn debit(&self, key: u64, used: u64, since: u64, others: u32) {
        let Some((entry, time)) = self.entry(key) else { return };
        let mark = time & !TIME;
        let later = |time: u64| {
            let due = (time & TIME).max(since).saturating_add(used).min(TIME);
            (time & !TIME == mark).then_some(mark | due)
        };
        if used > 0 && entry.time.fetch_update(Relaxed, Relaxed, later).is_err() {
            return; // it has become another client's
        }
        let others = u64::from(others.min(WHOLE - 1)) << OTHERS_SHIFT;
        // Whatever a request adds meanwhile stays.
        let _ = entry.state.fetch_update(Relaxed, Relaxed, |state| {
            (state & OTHERS != others).then_some(state & !OTHERS | others)
        });
    }

    /// A client has used so much elsewhere that it will have made up for it at `due`, at the earliest. Makes an
    /// entry for it, which is watched.
    pub(super) fn adopt(&self, key: u64, due: u64) {
        let (set, mark) = self.place(key);
        loop {
            let (entry, seen) = find(set, mark);
            let known = seen & !TIME == mark;
            if known && seen & TIME >= due {
                entry.state.fetch_or(WATCHED, Relaxed);
                return;
            }
            if !known && seen & TIME > due {
                return; // a client closer to a limit of this node keeps its entry
            }
            let new = mark | due.min(TIME);
            if entry.time.compare_exchange(seen, new, Relaxed, Relaxed).is_ok() {
                match known {
                    true => drop(entry.state.fetch_or(WATCHED, Relaxed)),
                    false => entry.state.store(WATCHED, Relaxed),
                }
                return;
            }
        }
    }

    /// The ledger does not watch a client any more.
    pub(super) fn release(&self, key: u64) {
        if let Some((entry, _)) = self.entry(key) {
            entry.state.fetch_and(!(WATCHED | WANTED | OTHERS), Relaxed);
        }
    }

    /// The ledger has looked.
    pub(super) fn looked(&self, now: u64) {
        self.looked.store(now, Relaxed);
    }

    /// From now on requests are charged this many parts of [`WHOLE`]: more than all of them if this node is to give
    /// out less than the whole limit.
    pub(super) fn charge(&self, parts: u32) {
        self.charge.store(parts, Relaxed);
    }

    /// An instant on the clock of this table; never 0, so that no time is.
    pub(super) fn units_at(&self, now: Instant) -> u64 {
        units(now.saturating_duration_since(self.begun)) + 1
    }

    fn entry(&self, key: u64) -> Option<(&Entry, u64)> {
        let (set, mark) = self.place(key);
        let (entry, time) = find(set, mark);
        (time & !TIME == mark).then_some((entry, time))
    }

    /// Where a client is kept, and the mark of what is its own.
    fn place(&self, key: u64) -> (&[Entry; WAYS], u64) {
        // Never 0, so that an empty entry has no owner.
        (&self.sets[key as usize % self.sets.len()].0, (key >> TIME_BITS).max(1) << TIME_BITS)
    }
}

pub(super) const fn units(time: Duration) -> u64 {
    let units = time.as_nanos() / UNIT;
    if units > TIME as u128 { TIME } else { units as u64 }
}

fn time_of(units: u64) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(units) * UNIT).unwrap_or(u64::MAX))
}

/// Whether a request is one of those that bring a client to the ledger's notice: sixteen a second of a client that
/// uses all of its limit, one a second of one that uses a sixteenth.
fn is_chosen(random: u64, step: u64) -> bool {
    let high = random.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    high < step.min(CHOSEN) * (1 << 32) / CHOSEN
}

/// The entry of an owner, or else the one that is to become it, and its time.
fn find(set: &[Entry; WAYS], mark: u64) -> (&Entry, u64) {
    let mut oldest = (&set[0], u64::MAX);
    for entry in set {
        let seen = entry.time.load(Relaxed);
        if seen & !TIME == mark {
            return (entry, seen);
        }
        if seen & TIME < oldest.1 & TIME {
            oldest = (entry, seen);
        }
    }
    oldest
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn table() -> (SharedTable, Receiver<u64>, Instant) {
        let begun = Instant::now();
        let (table, nominated) = SharedTable::new(1 << 10, begun);
        (table, nominated, begun)
    }

    fn allowed(table: &SharedTable, key: u64, times: u32, burst: u32, now: Instant) -> u32 {
        (0..times).filter(|_| table.take(key, SECOND, burst, now).is_ok()).count() as u32
    }

    #[test]
    fn alone_a_client_may_burst_once_and_then_has_its_rate() {
        let (table, _nominated, begun) = table();
        assert_eq!(allowed(&table, 7, 20, 4, begun), 5);
        let wait = table.take(7, SECOND, 4, begun).unwrap_err();
        assert!(wait <= SECOND && wait > SECOND / 2, "{wait:?}");
        assert_eq!(allowed(&table, 7, 20, 4, begun + SECOND), 1);
        assert_eq!(allowed(&table, 8, 20, 4, begun), 5);
        let left = table.take(9, SECOND, 4, begun).unwrap();
        assert_eq!(left, Left { requests: 4, whole_in: SECOND });
    }

    #[test]
    fn all_workers_together_keep_a_limit_exactly_and_what_they_use_is_counted() {
        let (table, nominated, begun) = table();
        let total: u32 = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| allowed(&table, 7, 10_000, 999, begun))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(total, 1000);
        assert_eq!(nominated.try_iter().collect::<Vec<_>>(), [7], "once, however many ask");
        let seen = table.see(7).unwrap();
        assert_eq!((seen.used, seen.wanted), (1000 * units(SECOND), true));
        assert!(!table.see(7).unwrap().wanted, "it is told once");
    }

    #[test]
    fn what_others_used_is_charged_and_what_they_will_use_is_expected_until_it_is_known() {
        let (table, _nominated, begun) = table();
        assert_eq!(allowed(&table, 7, 20, 9, begun), 10);
        let later = begun + 10 * SECOND;
        let now = table.units_at(later);
        // Five more elsewhere, and half of the refill from now on.
        table.debit(7, 5 * units(SECOND), now, WHOLE / 2);
        table.looked(now);
        assert_eq!(allowed(&table, 7, 20, 9, later), 5);
        assert_eq!(allowed(&table, 7, 20, 9, later + SECOND), 0, "half a request is due");
        table.debit(7, 0, now, 0);
        assert_eq!(allowed(&table, 7, 20, 9, later + SECOND), 1, "nobody has used it");
    }

    #[test]
    fn a_node_that_is_cut_off_gives_out_its_part_of_rate_and_burst() {
        let (table, _nominated, begun) = table();
        table.charge(3 * WHOLE);
        assert_eq!(allowed(&table, 7, 100, 59, begun), 20);
        assert_eq!(allowed(&table, 7, 100, 59, begun + 30 * SECOND), 10);
    }

    #[test]
    fn who_is_adopted_has_used_so_much_and_keeps_who_is_nearer_to_a_limit() {
        let (table, _nominated, begun) = table();
        table.adopt(7, table.units_at(begun + 10 * SECOND));
        assert_eq!(allowed(&table, 7, 20, 9, begun), 0);
        table.adopt(7, table.units_at(begun));
        assert_eq!(allowed(&table, 7, 20, 9, begun), 0, "the later time counts");
        // Of one set: four that have all used more.
        let mark = |number: u64| (number << TIME_BITS) | 5;
        for number in 1..=4 {
            assert_eq!(allowed(&table, mark(number), 9, 9, begun), 9);
        }
        table.adopt(mark(9), table.units_at(begun + SECOND));
        assert_eq!(table.see(mark(9)), None);
        assert!((1..=4).all(|number| table.see(mark(number)).is_some()));
    }
}
