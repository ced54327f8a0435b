//! Which endpoint a connection or the flow of a client's datagrams is passed on to. Pure.

use std::{
    borrow::Borrow,
    hash::{BuildHasher as _, Hasher as _},
    net::{IpAddr, SocketAddr},
};

use foldhash::quality::FixedState;
use gatehouse_routes::{balance, model::Endpoint};

use crate::{compile::ClientAffinity, worker::clock::Tick};

/// By what one is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Each in its turn.
    Turn(u32),
    /// Of two by chance, the one that has less to do; the number is uniform over its type.
    Chance(u64),
    /// A key: always the same endpoint while it is there and well, on every worker and every node. Where endpoints come
    /// and go, only those keys move whose own one goes, and those that fall to a new one.
    Key(Key),
    /// The endpoint that a client had before, as long as that is well; else as by its key.
    Kept(SocketAddr, Key),
}

impl By {
    /// By a client that keeps the endpoint which it has, if it has one.
    pub(super) fn client(client: IpAddr, affinity: Option<&ClientAffinity>, now: Tick) -> Self {
        let key = Key::client(client);
        let kept = affinity.and_then(|affinity| affinity.pins.get(client, now));
        kept.map_or(Self::Key(key), |endpoint| Self::Kept(endpoint, key))
    }
}

/// What a choice is made by that is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// A client, whatever it sends (`sessionAffinity: ClientIP`).
    pub(super) fn client(client: IpAddr) -> Self {
        Self(hash(&octets(client)))
    }

    /// A client's port and the port that it talks to.
    pub(super) fn flow(client: SocketAddr, server: SocketAddr) -> Self {
        let mut bytes = [0; 36];
        bytes[..18].copy_from_slice(&end(client));
        bytes[18..].copy_from_slice(&end(server));
        Self(hash(&bytes))
    }
}

/// The endpoint for a connection: one that `may` have it, well ones before others. `None`: there is none.
pub(super) fn pick<E: Borrow<Endpoint>>(
    endpoints: &[E],
    by: By,
    may_be: impl Fn(SocketAddr) -> bool,
    is_well: impl Fn(&Endpoint) -> bool,
) -> Option<&E> {
    pick_by_load(endpoints, by, may_be, is_well, |_| 0)
}

/// The same where endpoints have so much to do.
pub(super) fn pick_by_load<E: Borrow<Endpoint>>(
    endpoints: &[E],
    by: By,
    may_be: impl Fn(SocketAddr) -> bool,
    is_well: impl Fn(&Endpoint) -> bool,
    load: impl Fn(&Endpoint) -> u64,
) -> Option<&E> {
    let may = |endpoint: &Endpoint| may_be(endpoint.address);
    let well = |endpoint: &Endpoint| may(endpoint) && is_well(endpoint);
    let best = |key| highest(endpoints, key, well).or_else(|| highest(endpoints, key, may));
    match by {
        By::Turn(turn) => balance::pick_endpoint(endpoints, turn, well)
            .or_else(|| balance::pick_endpoint(endpoints, turn, may)),
        By::Chance(random) => balance::pick_better(endpoints, random, &load, well)
            .or_else(|| balance::pick_better(endpoints, random, &load, may)),
        By::Kept(endpoint, key) => {
            let kept = endpoints.iter().find(|one| (*one).borrow().address == endpoint);
            kept.filter(|one| well((*one).borrow())).or_else(|| best(key))
        }
        By::Key(key) => best(key),
    }
}

/// The allowed endpoint that a key leads to.
fn highest<E: Borrow<Endpoint>>(
    endpoints: &[E],
    key: Key,
    allowed: impl Fn(&Endpoint) -> bool,
) -> Option<&E> {
    let allowed = endpoints.iter().filter(|endpoint| allowed((*endpoint).borrow()));
    allowed.max_by_key(|endpoint| score(key, (*endpoint).borrow().address))
}

/// Highest random weight (Thaler, Ravishankar 1998). The numbers are those of every version on every machine: nodes of
/// two versions choose alike.
fn score(Key(key): Key, endpoint: SocketAddr) -> u64 {
    // The finalizer of SplitMix64 (Steele, Lea, Flood 2014): no two endpoints have one score.
    let mut mixed = key ^ hash(&end(endpoint));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// An address and port in one form for both families.
fn end(address: SocketAddr) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&octets(address.ip()));
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

/// An IPv4 client is itself in IPv6 form.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

    use super::*;

    fn endpoints(count: u8) -> Vec<Endpoint> {
        let endpoint = |n| Endpoint {
            address: SocketAddr::from(([10, 0, 0, n], 80)),
            speaks: Default::default(),
            stats: Arc::default(),
        };
        (0..count).map(endpoint).collect()
    }

    fn client(n: u32) -> By {
        By::Key(Key::client(Ipv4Addr::from_bits(0xc000_0000 + n).into()))
    }

    fn chosen(endpoints: &[Endpoint], by: By) -> SocketAddr {
        pick(endpoints, by, |_| true, |_| true).unwrap().address
    }

    #[test]
    fn turns_go_round_and_leave_out_the_sick_while_there_are_others() {
        let all = endpoints(3);
        let firsts: Vec<_> = (0..3).map(|turn| chosen(&all, By::Turn(turn))).collect();
        assert_eq!(firsts, all.iter().map(|one| one.address).collect::<Vec<_>>());
        let well = |one: &Endpoint| one.address != all[1].address;
        for turn in 0..6 {
            assert_ne!(pick(&all, By::Turn(turn), |_| true, well).unwrap().address, all[1].address);
        }
        assert!(
            pick(&all, By::Turn(1), |_| true, |_| false).is_some(),
            "a sick one is better than none"
        );
        assert!(pick(&all, By::Turn(1), |_| false, |_| true).is_none());
        assert!(pick::<Endpoint>(&[], By::Turn(1), |_| true, |_| true).is_none());
    }

    #[test]
    fn of_two_by_chance_the_one_with_less_to_do_is_chosen_and_the_sick_only_where_all_are() {
        let all = endpoints(2);
        let load = |busy: usize| {
            let busy = all[busy].address;
            move |one: &Endpoint| u64::from(one.address == busy)
        };
        let random = || (0..64).map(|n| By::Chance(u64::MAX / 64 * n));
        for by in random() {
            for busy in [0, 1] {
                let well = pick_by_load(&all, by, |_| true, |_| true, load(busy)).unwrap();
                assert_eq!(well.address, all[1 - busy].address);
                let is_well = |one: &Endpoint| one.address == all[busy].address;
                let other = pick_by_load(&all, by, |_| true, is_well, load(busy)).unwrap();
                assert_eq!(other.address, all[busy].address, "the other one is sick");
                assert!(pick_by_load(&all, by, |_| true, |_| false, load(busy)).is_some());
            }
        }
        let chosen: std::collections::BTreeSet<_> = random().map(|by| chosen(&all, by)).collect();
        assert_eq!(chosen.len(), 2, "alike, each gets some");
    }

    #[test]
    fn a_client_keeps_its_endpoint_and_clients_are_spread() {
        let all = endpoints(10);
        let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for n in 0..10_000 {
            *counts.entry(chosen(&all, client(n))).or_default() += 1;
        }
        assert!(
            counts.len() == 10 && counts.values().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
        // One goes: its clients move, and no others.
        let gone = all[4].address;
        let rest: Vec<_> = all.iter().filter(|one| one.address != gone).cloned().collect();
        for n in 0..10_000 {
            let before = chosen(&all, client(n));
            let after = chosen(&rest, client(n));
            assert!(before == after || before == gone, "{before} {after}");
        }
        // An IPv4 client is itself in IPv6 form.
        let mapped: IpAddr = "::ffff:192.0.0.7".parse().unwrap();
        assert_eq!(chosen(&all, By::Key(Key::client(mapped))), chosen(&all, client(7)));
    }

    #[test]
    fn flows_of_one_client_are_spread_and_move_only_where_they_must() {
        let all = endpoints(100);
        let server = "192.0.2.53:53".parse().unwrap();
        let flow = |port: u16| By::Key(Key::flow(([10, 1, 2, 3], port).into(), server));
        let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        (0..50_000).for_each(|port| *counts.entry(chosen(&all, flow(port))).or_default() += 1);
        assert!(
            counts.len() == 100 && counts.values().all(|count| (380..630).contains(count)),
            "{counts:?}"
        );
        let gone = all[17].address;
        let rest: Vec<_> = all.iter().filter(|one| one.address != gone).cloned().collect();
        for port in 0..50_000 {
            let (before, after) = (chosen(&all, flow(port)), chosen(&rest, flow(port)));
            assert!(before == after || before == gone, "{before} {after}");
        }
        // The other way round, nothing moves but to the new one.
        let moved =
            (0..50_000).filter(|port| chosen(&rest, flow(*port)) != chosen(&all, flow(*port)));
        assert_eq!(moved.count() as u32, counts[&gone]);
    }

    #[test]
    fn scores_are_the_same_in_every_version() {
        let server = "192.0.2.53:53".parse().unwrap();
        let key = Key::flow("10.1.2.3:4000".parse().unwrap(), server);
        let six = Key::client("2001:db8::7".parse().unwrap());
        let endpoint = "10.0.0.1:5353".parse().unwrap();
        assert_eq!(
            [score(key, endpoint), score(six, endpoint)],
            [1_683_783_364_910_567_552, 14_427_831_623_327_884_439]
        );
    }

    #[test]
    fn a_client_has_its_endpoint_while_that_is_well_and_there() {
        let all = endpoints(5);
        let key = Key::client("192.0.2.1".parse().unwrap());
        let by_key = chosen(&all, By::Key(key));
        for kept in all.iter().map(|one| one.address) {
            let by = By::Kept(kept, key);
            assert_eq!(chosen(&all, by), kept);
            let other = pick(&all, by, |_| true, |one| one.address != kept).unwrap().address;
            assert!(other == by_key || kept == by_key);
            assert_ne!(pick(&all, by, |at| at != kept, |_| true).unwrap().address, kept);
        }
        assert_eq!(chosen(&all, By::Kept("192.0.2.9:1".parse().unwrap(), key)), by_key);
    }

    #[test]
    fn a_client_whose_endpoint_is_sick_goes_to_its_next_one_and_comes_back() {
        let all = endpoints(5);
        let first = chosen(&all, client(1));
        let well = |one: &Endpoint| one.address != first;
        let second = pick(&all, client(1), |_| true, well).unwrap().address;
        assert_ne!(first, second);
        assert_eq!(pick(&all, client(1), |at| at != first, |_| true).unwrap().address, second);
        assert_eq!(chosen(&all, client(1)), first);
    }
}
