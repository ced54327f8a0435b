//! The same endpoint for the same key: rendezvous hashing (highest random weight, Thaler and Ravishankar).
//!
//! Every endpoint has a score for a key, and the highest one takes the request. There is no table to build or to
//! share; when one of n endpoints goes, its own keys move and no other, and they move to all others alike; while
//! one is unfit the same holds. A choice looks at every endpoint, two multiplications each.

use std::{
    borrow::Borrow,
    net::{IpAddr, SocketAddr},
};

use crate::model::Endpoint;

/// A hash that is the same on every machine and in every version (FNV-1a, finished as SplitMix64 is).
#[derive(Clone, Copy, Debug)]
pub struct StableHash(u64);

impl Default for StableHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl StableHash {
    /// Goes on with these bytes, and with their end.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.0 = (self.0 ^ 0xff).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// The number.
    pub fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// The endpoint of a key among those that `may` have it. Of `subset` endpoints that share the key, `random`
/// says which one.
pub fn pick_hashed<E: Borrow<Endpoint>>(
    endpoints: &[E],
    key: u64,
    subset: u32,
    random: impl FnOnce() -> u32,
    may: impl Fn(&Endpoint) -> bool,
) -> Option<&E> {
    let best = |below: u64| {
        let scored =
            endpoints.iter().map(|endpoint| (score(key, endpoint.borrow().address), endpoint));
        scored
            .filter(|(score, endpoint)| *score < below && may((*endpoint).borrow()))
            .max_by_key(|(score, _)| *score)
    };
    let mut picked = best(u64::MAX)?;
    if subset > 1 {
        for _ in 0..random() % subset {
            // Where there are fewer than the subset may hold, the last one takes the rest.
            let Some(next) = best(picked.0) else { break };
            picked = next;
        }
    }
    Some(picked.1)
}

/// The endpoint of a key, of endpoints that stand wherever.
pub fn pick_own<'e>(
    endpoints: impl Iterator<Item = &'e Endpoint>,
    key: u64,
) -> Option<&'e Endpoint> {
    endpoints.max_by_key(|endpoint| score(key, endpoint.address))
}

/// How much an endpoint is the one of a key; never `u64::MAX`.
fn score(key: u64, address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            mix((bits >> 64) as u64) ^ bits as u64
        }
    };
    mix(key ^ mix(ip << 16 ^ ip >> 48 ^ u64::from(address.port()))) >> 1
}

/// SplitMix64's finish: every bit of the result depends on every bit of the number.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::Speaks;

    fn endpoints(count: u16) -> Vec<Endpoint> {
        let address = |n: u16| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 8080));
        (0..count)
            .map(|n| Endpoint {
                address: address(n),
                speaks: Speaks::Http1,
                stats: Default::default(),
            })
            .collect()
    }

    fn picked(endpoints: &[Endpoint], key: u64) -> SocketAddr {
        pick_hashed(endpoints, key, 1, || 0, |_| true).unwrap().address
    }

    #[test]
    fn keys_spread_evenly_and_one_of_a_hundred_takes_one_percent_with_it() {
        const KEYS: u64 = 100_000;
        let all = endpoints(100);
        let before: Vec<_> = (0..KEYS).map(|key| picked(&all, key)).collect();
        for endpoint in &all {
            let share =
                before.iter().filter(|address| **address == endpoint.address).count() as f64;
            // 3.9 standard deviations: one of a hundred is farther off once in a hundred runs of other keys.
            let deviation = (KEYS as f64 * 0.01 * 0.99).sqrt();
            assert!((share - 1000.0).abs() < 3.9 * deviation, "{}: {share}", endpoint.address);
        }
        let gone = all[37].address;
        let rest: Vec<_> =
            all.iter().filter(|endpoint| endpoint.address != gone).cloned().collect();
        let moved = (0..KEYS).filter(|key| picked(&rest, *key) != before[*key as usize]).count();
        let its_own = before.iter().filter(|address| **address == gone).count();
        assert_eq!(moved, its_own, "no key of another endpoint moves");
    }

    #[test]
    fn a_subset_shares_a_key_and_holds_as_many_as_it_says() {
        let all = endpoints(20);
        let of = |key, random| pick_hashed(&all, key, 3, || random, |_| true).unwrap().address;
        for key in 0..100 {
            let mut subset: Vec<_> = (0..9).map(|random| of(key, random)).collect();
            subset.sort_unstable();
            subset.dedup();
            assert_eq!(subset.len(), 3);
        }
        let few = endpoints(2);
        assert!((0..9).all(|random| pick_hashed(&few, 1, 3, || random, |_| true).is_some()));
    }

    proptest! {
        #[test]
        fn only_keys_of_the_one_that_goes_move_and_only_to_one_that_may(
            count in 2u16..60, gone in 0u16..60, key: u64,
        ) {
            let all = endpoints(count);
            let gone = all[usize::from(gone % count)].address;
            let before = picked(&all, key);
            let rest: Vec<_> = all.iter().filter(|one| one.address != gone).cloned().collect();
            let after = picked(&rest, key);
            prop_assert!(before == gone || before == after);
            // One that is unfit counts as gone.
            let fit = pick_hashed(&all, key, 1, || 0, |one| one.address != gone).unwrap().address;
            prop_assert_eq!(fit, after);
        }
    }
}
