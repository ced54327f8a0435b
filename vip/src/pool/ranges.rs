//! Sets of addresses as sets of inclusive ranges: what a pool holds, what of it is used.
//!
//! `pool` and `alloc` call this. Sets only grow. Cost depends on the number of ranges, never on the number of
//! addresses, so that an IPv6 /64 is counted exactly and searched in no time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The one that this is not.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// The address with this number; IPv4 uses the low 32 bits.
    pub(crate) fn address(self, number: u128) -> IpAddr {
        match self {
            // Numbers of IPv4 ranges come from IPv4 addresses and stay between them.
            Self::V4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The address as a number, comparable within its family.
pub(crate) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// Addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Ranges,
    v6: Ranges,
}

impl AddressSet {
    /// Adds one address.
    pub fn insert(&mut self, ip: IpAddr) {
        self.of_mut(Family::of(ip)).insert(number(ip), number(ip));
    }

    /// Whether an address is in the set.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.of(Family::of(ip)).holding(number(ip)).is_some()
    }

    pub(crate) fn of(&self, family: Family) -> &Ranges {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    pub(crate) fn of_mut(&mut self, family: Family) -> &mut Ranges {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// Inclusive ranges of numbers, never overlapping, never touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u128, u128>);

impl Ranges {
    /// Adds `first..=last`, joining what it overlaps or touches.
    pub(crate) fn insert(&mut self, first: u128, last: u128) {
        let (mut first, mut last) = (first, last);
        // From the last range that could touch, backwards, until one ends too early to do so.
        while let Some((&start, &end)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            first = first.min(start);
            last = last.max(end);
            self.0.remove(&start);
        }
        self.0.insert(first, last);
    }

    /// The range that holds a number.
    pub(crate) fn holding(&self, number: u128) -> Option<(u128, u128)> {
        let (&start, &end) = self.0.range(..=number).next_back()?;
        (number <= end).then_some((start, end))
    }

    /// What the lowest range that shares numbers with `first..=last` shares with it.
    pub(crate) fn shared(&self, first: u128, last: u128) -> Option<(u128, u128)> {
        let (start, end) = match self.holding(first) {
            Some(range) => range,
            None => self.0.range(first..=last).next().map(|(&start, &end)| (start, end))?,
        };
        Some((start.max(first), end.min(last)))
    }

    /// What of `first..=last` no range holds, in order.
    pub(crate) fn lacking(&self, first: u128, last: u128) -> impl Iterator<Item = (u128, u128)> {
        let mut next = Some(first);
        std::iter::from_fn(move || {
            while let Some(from) = next.filter(|from| *from <= last) {
                let Some((start, end)) = self.shared(from, last) else {
                    next = None;
                    return Some((from, last));
                };
                next = end.checked_add(1);
                if from < start {
                    return Some((from, start - 1));
                }
            }
            None
        })
    }

    /// All ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, u128)> {
        self.0.iter().map(|(&start, &end)| (start, end))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(of: &[(u128, u128)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(first, last) in of {
            ranges.insert(first, last);
        }
        ranges
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        assert_eq!(ranges(&[(1, 3), (5, 7), (4, 4)]), ranges(&[(1, 7)]));
        assert_eq!(ranges(&[(5, 9), (1, 20)]), ranges(&[(1, 20)]));
        assert_eq!(ranges(&[(1, 2), (4, 5)]).iter().count(), 2);
        assert_eq!(ranges(&[(0, 0), (u128::MAX, u128::MAX)]).iter().count(), 2);
        assert_eq!(ranges(&[(0, u128::MAX), (7, 7)]).iter().count(), 1);
    }

    #[test]
    fn shared_part_of_two_ranges_is_exact() {
        let set = ranges(&[(10, 20), (30, 40)]);
        assert_eq!(set.shared(0, 9), None);
        assert_eq!(set.shared(0, 10), Some((10, 10)));
        assert_eq!(set.shared(15, 35), Some((15, 20)));
        assert_eq!(set.shared(21, 35), Some((30, 35)));
        assert_eq!(set.shared(41, u128::MAX), None);
    }

    #[test]
    fn an_ipv4_address_and_the_ipv6_address_of_the_same_number_are_different() {
        let mut set = AddressSet::default();
        set.insert("0.0.0.1".parse().unwrap());
        assert!(!set.contains("::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_holds_what_was_put_in(
            steps in proptest::collection::vec((0u128..64, 0u128..8), 0..20), from in 0u128..80, length in 0u128..80
        ) {
            let mut set = Ranges::default();
            let mut model = std::collections::BTreeSet::new();
            for (first, length) in steps {
                set.insert(first, first + length);
                model.extend(first..=first + length);
            }
            for number in 0..80 {
                prop_assert_eq!(set.holding(number).is_some(), model.contains(&number));
            }
            let all: Vec<_> = set.iter().collect();
            prop_assert!(all.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", all);
            let lacking = set.lacking(from, from + length).flat_map(|(first, last)| first..=last);
            let expected = (from..=from + length).filter(|number| !model.contains(number));
            prop_assert_eq!(lacking.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }
}
