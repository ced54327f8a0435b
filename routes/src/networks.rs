//! Sets of networks, for rules about client addresses.
//!
//! Made once from a list of any length and asked with every request: ranges in order, none touching the
//! next, so that a look is a binary search.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address, or all addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Bits that count, 0 to 32 or 128.
    length: u8,
}

/// What is not a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither an address nor a network such as 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    /// Reads `ADDRESS` or `ADDRESS/LENGTH`; bits behind the length do not matter.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length: u8 =
            length.map_or(Ok(whole), |length| length.parse().map_err(|_| NotANetwork))?;
        if length > whole {
            return Err(NotANetwork);
        }
        Ok(match (address, address.to_canonical()) {
            // `::ffff:10.0.0.0/104` means IPv4 clients.
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if length >= 96 => {
                Self { address: mapped, length: length - 96 }
            }
            _ => Self { address, length },
        })
    }
}

/// The addresses of any number of networks, both families.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// Whether any network is of the family of this address.
    pub fn has_family_of(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => !self.v4.is_empty(),
            IpAddr::V6(_) => !self.v6.is_empty(),
        }
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Network { address, length } in networks {
            match address {
                IpAddr::V4(address) => {
                    let rest = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                    let first = address.to_bits() & !rest;
                    v4.push((first, first | rest));
                }
                IpAddr::V6(address) => {
                    let rest = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                    let first = address.to_bits() & !rest;
                    v6.push((first, first | rest));
                }
            }
        }
        Self { v4: joined(v4, |end| end.checked_add(1)), v6: joined(v6, |end| end.checked_add(1)) }
    }
}

/// Puts ranges in order and makes one of those that overlap or touch.
fn joined<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            // Nothing lies behind the highest address.
            Some(known) if next(known.1).is_none_or(|next| first <= next) => {
                known.1 = known.1.max(last);
            }
            _ => out.push((first, last)),
        }
    }
    out.into()
}

impl Networks {
    /// Whether an address is in one of the networks. An IPv4 address in IPv6 form counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn within<T: Copy + Ord>(ranges: &[(T, T)], at: T) -> bool {
            let after = ranges.partition_point(|(first, _)| *first <= at);
            after > 0 && ranges[after - 1].1 >= at
        }
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }

    /// The first and last address of each range: in order by family, apart from each other.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 = |(first, last): &(u32, u32)| {
            (Ipv4Addr::from_bits(*first).into(), Ipv4Addr::from_bits(*last).into())
        };
        let v6 = |(first, last): &(u128, u128)| {
            (Ipv6Addr::from_bits(*first).into(), Ipv6Addr::from_bits(*last).into())
        };
        self.v4.iter().map(v4).chain(self.v6.iter().map(v6))
    }

    /// Adds those of another set.
    pub fn extend(&mut self, other: Self) {
        let v4 = self.v4.iter().chain(&other.v4).copied().collect();
        let v6 = self.v6.iter().chain(&other.v6).copied().collect();
        *self = Self {
            v4: joined(v4, |end| end.checked_add(1)),
            v6: joined(v6, |end| end.checked_add(1)),
        };
    }

    /// Whether every address of both families is in them.
    pub fn is_everybody(&self) -> bool {
        *self.v4 == [(0, u32::MAX)] && *self.v6 == [(0, u128::MAX)]
    }

    /// Whether no address is in them.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self
            .v4
            .iter()
            .map(|(a, b)| (IpAddr::from(a.to_be_bytes()), IpAddr::from(b.to_be_bytes())));
        let v6 = self
            .v6
            .iter()
            .map(|(a, b)| (IpAddr::from(a.to_be_bytes()), IpAddr::from(b.to_be_bytes())));
        f.debug_list().entries(v4.chain(v6).map(|(first, last)| format!("{first}-{last}"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(text: &str) -> Networks {
        text.split_whitespace().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    #[test]
    fn an_address_is_in_its_networks_whatever_their_order_and_overlap() {
        let all = networks(
            "10.1.2.3/8 192.0.2.7 10.0.0.0/16 2001:db8::/32 192.0.2.6/31 ::ffff:198.51.100.0/120",
        );
        for inside in [
            "10.255.255.255",
            "192.0.2.6",
            "192.0.2.7",
            "::ffff:10.0.0.1",
            "2001:db8::1",
            "198.51.100.9",
        ] {
            assert!(all.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in
            ["11.0.0.0", "9.255.255.255", "192.0.2.5", "192.0.2.8", "2001:db9::", "::1", "::a00:1"]
        {
            assert!(!all.contains(outside.parse().unwrap()), "{outside}");
        }
        assert_eq!(
            format!("{:?}", networks("10.0.0.0/9 10.128.0.0/9")),
            "[\"10.0.0.0-10.255.255.255\"]"
        );
    }

    #[test]
    fn everybody_is_every_address_of_both_families_however_it_is_put_together() {
        for all in
            ["0.0.0.0/0 ::/0", "::/0 10.0.0.0/8 0.0.0.0/0", "0.0.0.0/1 128.0.0.0/1 8000::/1 ::/1"]
        {
            assert!(networks(all).is_everybody(), "{all}");
        }
        for some in ["0.0.0.0/0", "::/0", "", "0.0.0.0/1 ::/0", "::ffff:0.0.0.0/96 ::/1"] {
            assert!(!networks(some).is_everybody(), "{some}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "a.test",
            "10.0.0.1-10.0.0.9",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }

    proptest! {
        #[test]
        fn looking_up_is_asking_each_network(
            list in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            address in any::<u32>(),
        ) {
            let covers = |(base, length): (u32, u8)| {
                length == 0 || (base ^ address).leading_zeros() >= u32::from(length)
            };
            let one = |(base, length): (u32, u8)| Network {
                address: IpAddr::from(base.to_be_bytes()),
                length,
            };
            let set: Networks = list.iter().copied().map(one).collect();
            let any = list.iter().copied().any(covers);
            prop_assert_eq!(set.contains(IpAddr::from(address.to_be_bytes())), any);
        }
    }
}
