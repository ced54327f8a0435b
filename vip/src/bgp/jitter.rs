//! Chance for timers, from a seed: the same seed gives the same times.
//!
//! Sessions that begin together must not stay in step (RFC 4271 §10, RFC 5880 §6.8.7). Only the
//! caller may ask the system for chance; this makes a little of it go a long way.

use std::time::Duration;

/// A source of shortened times. SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// From a seed that should differ from session to session.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A time from `low` to `high` percent of the one given, evenly.
    pub(crate) fn percent(&mut self, time: Duration, low: u32, high: u32) -> Duration {
        let span = u64::from(high.saturating_sub(low)) * 1000 + 1;
        let thousandths = u64::from(low) * 1000 + self.next() % span;
        let nanos = time.as_nanos().saturating_mul(thousandths.into()) / 100_000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_in_their_bounds_reach_both_ends_and_repeat_with_the_seed() {
        let second = Duration::from_secs(1);
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..10_000).map(|_| jitter.percent(second, 75, 100)).collect::<Vec<_>>()
        };
        let times = draw(7);
        assert!(times.iter().all(|time| (second * 3 / 4..=second).contains(time)));
        assert!(times.iter().any(|time| *time < second * 76 / 100));
        assert!(times.iter().any(|time| *time > second * 99 / 100));
        assert_eq!(times, draw(7));
        assert_ne!(times, draw(8));
        assert_eq!(Jitter::new(1).percent(Duration::MAX, 100, 100), Duration::from_nanos(u64::MAX));
    }
}
