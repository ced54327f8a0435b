//! Which endpoint of a group gets which part of the connections.
//!
//! A number below [`Shares::below`] chooses: a random one, or one that follows from the client's address or from a flow. Numbers are
//! dealt out in ranges, so that a map has two elements for each endpoint, or a few more. How many numbers there are does
//! not depend on the endpoints: they change while rules that draw a number stay.

use super::{Endpoint, Group};

/// Numbers among which clients and flows are spread. Endpoints get them one by one, so that one that goes leaves those of others
/// as they are; their parts are then right but for about 1/√(numbers of the endpoint).
const HASHES: u32 = 1024;
/// Numbers of which an endpoint gets its weight's part, but for one.
const WEIGHT_SLOTS: u32 = 1 << 31;

/// Ranges of numbers, by the number that each begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) below: u32,
    pub(super) ranges: Vec<(u32, Endpoint)>,
}

impl Shares {
    /// The first number of each range, the one after its last, and its endpoint.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u32, u32, &Endpoint)> {
        let ends = self.ranges.iter().skip(1).map(|(from, _)| *from).chain([self.below]);
        self.ranges.iter().zip(ends).map(|((from, endpoint), end)| (*from, end, endpoint))
    }
}

/// The parts of a group's endpoints; there is no range if there is no endpoint.
pub(super) fn shares(group: &Group) -> Shares {
    let endpoints = group.usable();
    let is_hashed = group.by_client.is_some() || group.is_by_flow();
    if is_hashed { by_hash(&endpoints) } else { by_weight(&endpoints) }
}

fn by_weight(endpoints: &[Endpoint]) -> Shares {
    let sum: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    let (mut before, mut ranges) = (0, Vec::<(u32, Endpoint)>::new());
    for endpoint in endpoints {
        // Less than WEIGHT_SLOTS, as `before` is less than `sum`: a kernel's map has fewer than 2^16 endpoints of less
        // than 2^16 each.
        let from = (before * u64::from(WEIGHT_SLOTS) / sum.max(1)) as u32;
        // One whose part is less than a number has none.
        ranges.pop_if(|(last, _)| *last == from);
        ranges.push((from, *endpoint));
        before += u64::from(endpoint.weight);
    }
    Shares { below: WEIGHT_SLOTS, ranges }
}

fn by_hash(endpoints: &[Endpoint]) -> Shares {
    let common = endpoints.iter().fold(0, |common, endpoint| gcd(common, endpoint.weight));
    let named: Vec<_> = endpoints.iter().map(|endpoint| (endpoint, named(endpoint))).collect();
    let mut ranges: Vec<(u32, Endpoint)> = Vec::new();
    for slot in 0..HASHES {
        let best = named.iter().max_by_key(|(endpoint, named)| {
            score(slot, *named, u64::from(endpoint.weight / common.max(1)).max(1))
        });
        let Some((best, _)) = best else { continue };
        if ranges.last().is_none_or(|(_, last)| last != *best) {
            ranges.push((slot, **best));
        }
    }
    Shares { below: HASHES, ranges }
}

/// A number that follows from the address and the port of an endpoint.
fn named(endpoint: &Endpoint) -> u64 {
    let (seed, ip) = (mixed(u64::from(endpoint.port)), endpoint.ip.to_string());
    ip.bytes().fold(seed, |seed, byte| mixed(seed ^ u64::from(byte)))
}

/// Highest random weight (Thaler, Ravishankar 1998); one that weighs twice as much draws twice as often.
fn score(slot: u32, named: u64, draws: u64) -> u64 {
    let draw = |draw| mixed(named ^ mixed(u64::from(slot) << 16 | draw));
    (0..draws).map(draw).max().unwrap_or(0)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): the same on every node and in every version.
pub(super) fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::forwarding::Transport;

    fn group(weights: &[u16], is_by_client: bool) -> Group {
        let endpoint = |(n, weight): (usize, &u16)| Endpoint {
            ip: [10, 1, 0, n as u8].into(),
            port: 80,
            weight: *weight,
        };
        Group {
            transport: Transport::Tcp,
            v6: false,
            endpoints: weights.iter().enumerate().map(endpoint).collect(),
            draining: Vec::new(),
            by_client: is_by_client.then_some(std::time::Duration::from_secs(60)),
            by_flow: true,
            keeps_client: false,
            keeps_port: false,
            sources: None,
        }
    }

    fn of_datagrams(weights: &[u16]) -> Shares {
        shares(&Group { transport: Transport::Udp, ..group(weights, false) })
    }

    fn counts(shares: &Shares) -> BTreeMap<Endpoint, u32> {
        let mut counts = BTreeMap::new();
        for (from, end, endpoint) in shares.ranges() {
            *counts.entry(*endpoint).or_default() += end - from;
        }
        counts
    }

    #[test]
    fn each_endpoint_gets_its_weight_and_those_without_weight_get_nothing() {
        let shares = shares(&group(&[1, 0, 3], false));
        let quarter = WEIGHT_SLOTS / 4;
        let counts = counts(&shares).values().copied().collect::<Vec<_>>();
        assert_eq!(counts, [quarter, 3 * quarter]);
        for none in [group(&[0], false), group(&[], true)] {
            assert_eq!(super::shares(&none).ranges, []);
        }
        assert_eq!(of_datagrams(&[0]).ranges, []);
    }

    #[test]
    fn the_least_weight_beside_many_of_the_greatest_has_its_part_of_the_numbers() {
        let weights: Vec<u16> = [1].into_iter().chain([u16::MAX; 255]).collect();
        let shares = shares(&group(&weights, false));
        let first = shares.ranges().next().unwrap();
        let part = u64::from(WEIGHT_SLOTS) / (1 + 255 * u64::from(u16::MAX));
        assert_eq!((first.0, u64::from(first.1)), (0, part));
        assert_eq!(shares.ranges().map(|(from, end, _)| end - from).sum::<u32>(), WEIGHT_SLOTS);
    }

    #[test]
    fn clients_are_spread_by_weight() {
        let counts = counts(&shares(&group(&[100, 200, 100], true)));
        let counts: Vec<_> = counts.values().copied().collect();
        // Three standard deviations of 1024 draws with p = 1/4 and 1/2.
        for (count, part) in counts.into_iter().zip([256_u32, 512, 256]) {
            assert!(count.abs_diff(part) <= 48, "{count} for {part}");
        }
    }

    /// The endpoint that a number leads to.
    fn leads_to(shares: &Shares, slot: u32) -> std::net::IpAddr {
        shares.ranges.iter().rev().find(|(from, _)| *from <= slot).unwrap().1.ip
    }

    #[test]
    fn clients_and_flows_of_an_endpoint_stay_when_another_one_goes() {
        let clients = [[1, 1, 1, 1], [1, 1, 0, 1]].map(|weights| shares(&group(&weights, true)));
        let flows = [[1, 1, 1, 1], [1, 1, 0, 1]].map(|weights| of_datagrams(&weights));
        for [all, rest] in [clients, flows] {
            for slot in 0..all.below {
                let (before, after) = (leads_to(&all, slot), leads_to(&rest, slot));
                assert!(before == after || before == std::net::IpAddr::from([10, 1, 0, 2]));
            }
        }
    }

    #[test]
    fn about_one_flow_in_a_hundred_moves_when_one_endpoint_of_a_hundred_goes() {
        let [all, mut rest] = [[1; 100]; 2];
        rest[40] = 0;
        let (all, rest) = (of_datagrams(&all), of_datagrams(&rest));
        let moved = (0..all.below).filter(|slot| leads_to(&all, *slot) != leads_to(&rest, *slot));
        // Three standard deviations of 1024 draws with p = 1/100.
        assert!((moved.count() as u32).abs_diff(all.below / 100) <= 10);
        assert_eq!(counts(&all).len(), 100, "each has some");
    }
}
