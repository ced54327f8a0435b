//! Choice by chance and by load: the better one of two.
//!
//! Two by chance and the better of them spread requests nearly as well as a look at all of them, and do not send
//! everybody to the one that has just become the best (Mitzenmacher, "The Power of Two Choices").

use std::borrow::Borrow;

use crate::model::Endpoint;

/// Of two endpoints by chance the one that costs less. Those that may not have the request are passed over;
/// `None`: none may. `random` is uniform over its type.
pub fn pick_better<E: Borrow<Endpoint>>(
    endpoints: &[E],
    random: u64,
    cost: impl Fn(&Endpoint) -> u64,
    may: impl Fn(&Endpoint) -> bool,
) -> Option<&E> {
    let count = u32::try_from(endpoints.len()).ok()?;
    let (high, low) = ((random >> 32) as u32, random as u32);
    let first = below(high, count)?;
    // Any other one.
    let second = below(low, count - 1).map(|step| (first + 1 + step) % count);
    let at =
        |index: u32| endpoints.get(index as usize).filter(|endpoint| may((*endpoint).borrow()));
    match (at(first), second.and_then(at)) {
        (Some(a), Some(b)) => Some(if cost(b.borrow()) < cost(a.borrow()) { b } else { a }),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => {
            let fit = || endpoints.iter().filter(|endpoint| may((*endpoint).borrow()));
            let left = u32::try_from(fit().count()).ok()?;
            fit().nth(below(high, left)? as usize)
        }
    }
}

/// One of `count` numbers by a random one (Lemire's multiplication); `None` if there is none.
fn below(random: u32, count: u32) -> Option<u32> {
    (count > 0).then(|| ((u64::from(random) * u64::from(count)) >> 32) as u32)
}

/// What an endpoint is expected to need for one more request: how long it takes for one, by how many it has.
///
/// `ewma` is in any unit of time, `in_flight` counts requests under way. An endpoint that nothing is known of has
/// 0 and is tried at once.
pub fn expected(ewma: u64, in_flight: u32) -> u64 {
    ewma.saturating_mul(u64::from(in_flight) + 1)
}

/// How long an endpoint takes, by its last answers: a peak is believed at once, all else by and by.
///
/// `half` is the time in which what was known loses half its weight; `passed` the time since. All in one
/// unit.
pub fn peak_ewma(before: u64, measured: u64, passed: u64, half: u64) -> u64 {
    if measured >= before {
        return measured;
    }
    // Halves by whole steps, the rest linearly: exact at the steps, 6 % off at most between them.
    let (steps, rest) = (passed / half.max(1), passed % half.max(1));
    let weight = |whole: u64| {
        let halved = whole >> steps.min(63);
        halved - halved * rest / half.max(1) / 2
    };
    measured + weight(before - measured)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::transport::Speaks;

    fn endpoints(count: u16) -> Vec<Endpoint> {
        let address = |n: u16| SocketAddr::from(([10, 0, 0, 1], 8000 + n));
        (0..count)
            .map(|n| Endpoint {
                address: address(n),
                speaks: Speaks::Http1,
                stats: Default::default(),
            })
            .collect()
    }

    /// SplitMix64, for the same numbers in every run.
    fn numbers(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|n| {
            let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        })
    }

    fn shares(
        count: u16,
        cost: impl Fn(u16) -> u64,
        may: impl Fn(u16) -> bool,
        choices: u64,
    ) -> Vec<u64> {
        let all = endpoints(count);
        let index = |endpoint: &Endpoint| endpoint.address.port() - 8000;
        let mut shares = vec![0; count.into()];
        for random in numbers(choices) {
            let cost = |endpoint: &Endpoint| cost(index(endpoint));
            let may = |endpoint: &Endpoint| may(index(endpoint));
            let picked = pick_better(&all, random, cost, may).unwrap();
            shares[usize::from(index(picked))] += 1;
        }
        shares
    }

    #[test]
    fn chance_alone_is_even_within_three_standard_deviations() {
        for count in [1u16, 2, 3, 7, 10] {
            let even = 30_000.0 / f64::from(count);
            let deviation = (even * (1.0 - 1.0 / f64::from(count))).sqrt();
            for share in shares(count, |_| 0, |_| true, 30_000) {
                assert!((share as f64 - even).abs() <= 3.0 * deviation, "{share} of {count}");
            }
        }
    }

    #[test]
    fn the_costly_one_is_chosen_only_against_itself_and_the_unfit_one_never() {
        // Endpoint 0 loses against every other.
        let costly = shares(4, |n| u64::from(n == 0), |_| true, 10_000);
        assert_eq!(costly[0], 0);
        let unfit = shares(4, |_| 0, |n| n == 2, 1_000);
        assert_eq!(unfit, [0, 0, 1_000, 0]);
        let all = endpoints(3);
        assert!(pick_better(&all, 7, |_| 0, |_| false).is_none());
        assert!(pick_better(&endpoints(0), 7, |_| 0, |_| true).is_none());
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_by_halves() {
        assert_eq!(peak_ewma(10, 100, 0, 1_000), 100);
        assert_eq!(peak_ewma(100, 20, 0, 1_000), 100);
        assert_eq!(peak_ewma(100, 20, 1_000, 1_000), 60);
        assert_eq!(peak_ewma(100, 20, 2_000, 1_000), 40);
        assert_eq!(peak_ewma(100, 20, 500, 1_000), 80);
        assert_eq!(peak_ewma(100, 20, u64::MAX, 1_000), 20);
        assert_eq!(expected(5, 0), 5);
        assert_eq!(expected(5, 3), 20);
    }
}
