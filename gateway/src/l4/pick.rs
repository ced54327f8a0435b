//! Which endpoint a connection is passed on to. Pure.

use std::{
    borrow::Borrow,
    hash::BuildHasher as _,
    net::{IpAddr, SocketAddr},
};

use foldhash::quality::FixedState;
use gatehouse_routes::{balance, model::Endpoint};

/// By what one is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Each in its turn.
    Turn(u32),
    /// The client's address: always the same one while it is there and well, on every worker and every node. Where
    /// endpoints come and go, only those clients move whose own one goes, and those that fall to a new one.
    Client(IpAddr),
}

/// The endpoint for a connection: one that `may` have it, well ones before others. `None`: there is none.
pub(super) fn pick<E: Borrow<Endpoint>>(
    endpoints: &[E],
    by: By,
    may: impl Fn(SocketAddr) -> bool,
    is_well: impl Fn(&Endpoint) -> bool,
) -> Option<&E> {
    let may = |endpoint: &Endpoint| may(endpoint.address);
    let well = |endpoint: &Endpoint| may(endpoint) && is_well(endpoint);
    match by {
        By::Turn(turn) => balance::pick_endpoint(endpoints, turn, well)
            .or_else(|| balance::pick_endpoint(endpoints, turn, may)),
        By::Client(client) => {
            let best = |allowed: &dyn Fn(&Endpoint) -> bool| {
                let allowed = endpoints.iter().filter(|endpoint| allowed((*endpoint).borrow()));
                allowed.max_by_key(|endpoint| score(client, (*endpoint).borrow().address))
            };
            best(&well).or_else(|| best(&may))
        }
    }
}

/// Highest random weight (Thaler, Ravishankar 1998).
fn score(client: IpAddr, endpoint: SocketAddr) -> u64 {
    FixedState::with_seed(0).hash_one((client.to_canonical(), endpoint))
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
        By::Client(Ipv4Addr::from_bits(0xc000_0000 + n).into())
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
        assert_eq!(chosen(&all, By::Client(mapped)), chosen(&all, client(7)));
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
