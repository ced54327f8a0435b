//! A node that takes recorded addresses and gives none.

use super::*;

fn recorded(name: &str, addresses: &[&str]) -> Claim {
    Claim { recorded: ips(addresses), ..claim(name, Families::V4) }
}

/// `name: address of pool` for all that is taken.
fn taken(allocation: &Allocation) -> Vec<String> {
    let assigned = allocation.assigned.iter();
    let shown = assigned.map(|(id, given)| {
        let given: Vec<_> = given.iter().map(|one| format!("{} of {}", one.ip, one.pool)).collect();
        format!("{id}: {}", given.join(", "))
    });
    shown.collect()
}

#[test]
fn only_recorded_addresses_of_known_pools_are_taken_one_of_each_family() {
    let pools = [pool("old", &["10.0.0.0/24"]), pool("new", &["10.1.0.0/24", "fd00::/64"])];
    for (addresses, expected) in [
        (&[][..], &[][..]),
        (&["10.0.0.7"], &["ns/a: 10.0.0.7 of old"]),
        (&["fd00::7", "10.1.0.7"], &["ns/a: fd00::7 of new, 10.1.0.7 of new"]),
        (&["10.0.0.7", "10.0.0.8"], &["ns/a: 10.0.0.7 of old"]),
        (&["192.168.0.1", "10.0.0.8"], &["ns/a: 10.0.0.8 of old"]),
        (&["192.168.0.1"], &[]),
    ] {
        let claims = [recorded("a", addresses), claim("waits", Families::V4)];
        let allocation = follow(&pools, &claims, &Quarantined::new());
        assert_eq!(taken(&allocation), expected, "{addresses:?}");
        assert!(allocation.refused.is_empty(), "{addresses:?}");
    }
}

#[test]
fn what_the_claim_asks_for_now_is_not_this_nodes_business() {
    let pools = [pool("old", &["10.0.0.0/24"])];
    let asks = Claim { requested: ips(&["10.0.0.9"]), ..recorded("a", &["10.0.0.7"]) };
    let shared = recorded("b", &["10.0.0.7"]);
    let allocation = follow(&pools, &[asks, shared], &Quarantined::new());
    assert_eq!(taken(&allocation), ["ns/a: 10.0.0.7 of old", "ns/b: 10.0.0.7 of old"]);
}

#[test]
fn an_address_is_quarantined_until_it_is_recorded_again() {
    let pools = [pool("old", &["10.0.0.0/24"])];
    let quarantined: Quarantined =
        ips(&["10.0.0.7", "10.0.0.8"]).into_iter().map(|ip| (ip, [id("b")].into())).collect();
    let allocation = follow(&pools, &[recorded("a", &["10.0.0.7"])], &quarantined);
    let left: Vec<IpAddr> = allocation.quarantined.keys().copied().collect();
    assert_eq!(left, ips(&["10.0.0.8"]));
}
