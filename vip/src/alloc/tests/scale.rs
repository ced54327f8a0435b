//! Many claims, large pools: the result is exact; how long it took is printed, never asserted.

use std::time::Instant;

use super::*;

const MANY: u32 = 100_000;

fn many(of: impl Fn(u32) -> Claim) -> Vec<Claim> {
    (0..MANY).map(of).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test that prints how long something took")]
fn timed(what: &str, work: impl FnOnce() -> Allocation) -> Allocation {
    let begun = Instant::now();
    let result = work();
    println!("{what}: {:?}", begun.elapsed());
    result
}

fn number_of(allocation: &Allocation, name: &str) -> u128 {
    crate::pool::ranges::number(allocation.assigned[&id(name)][0].ip)
}

fn first(ip: &str) -> u128 {
    crate::pool::ranges::number(ip.parse().unwrap())
}

#[test]
fn a_hundred_thousand_services_get_the_first_addresses_of_a_slash_12() {
    let pools = [pool("wide", &["10.16.0.0/12"])];
    let claims = many(|n| v4(&format!("c{n:06}")));
    let result = timed("new, /12", || allocate(&pools, &claims));
    assert!(result.refused.is_empty());
    for n in [0, 1, 65_536, MANY - 1] {
        assert_eq!(number_of(&result, &format!("c{n:06}")), first("10.16.0.0") + u128::from(n));
    }
    // Again with everything recorded, and one more in the gap that one of them left.
    let mut claims = many(|n| {
        let name = format!("c{n:06}");
        let recorded = result.assigned[&id(&name)].iter().map(|got| got.ip).collect();
        Claim { recorded, ..v4(&name) }
    });
    claims.remove(777);
    claims.push(v4("one-more"));
    let again = timed("recorded, /12", || allocate(&pools, &claims));
    assert_eq!(number_of(&again, "one-more"), first("10.16.0.0") + 777);
    assert_eq!(again.assigned.len(), result.assigned.len());
}

#[test]
fn full_pools_of_many_ranges_and_ports_in_use_do_not_slow_the_rest_down() {
    // Every third address, without .0 and .255; then 64 pools more of the same kind.
    let entries = |pool: u32| -> Vec<String> {
        (0..512).map(|n| format!("10.{pool}.{}.{}/32", n / 85, n % 85 * 3)).collect()
    };
    let spec = |pool: u32| IpAddressPoolSpec {
        addresses: entries(pool),
        avoid_buggy_ips: true,
        ..IpAddressPoolSpec::default()
    };
    let mut pools: Vec<_> = (0..64)
        .map(|n| Pool::parse(&format!("p{n}"), &BTreeMap::new(), &spec(n)).unwrap())
        .collect();
    pools.push(pool("last", &["2001:db8::/64", "172.16.0.0/12"]));
    let usable: u128 = pools[..64].iter().map(|pool| pool.size(Family::V4)).sum();
    // All want port 80 under one key, so that no two may share.
    let sharing = Some(Sharing {
        key: "k".into(),
        policy: TrafficPolicy::Cluster,
        ports: BTreeSet::from([("TCP".to_owned(), 80)]),
    });
    let claims = many(|n| Claim { sharing: sharing.clone(), ..v4(&format!("c{n:06}")) });
    let result = timed("64 full pools of 512 ranges", || allocate(&pools, &claims));
    assert!(!result.refused.values().flatten().any(Problem::is_error));
    let last = number_of(&result, &format!("c{:06}", MANY - 1));
    assert_eq!(last, first("172.16.0.0") + u128::from(MANY) - 1 - usable);
    assert_eq!(usage(&pools, &result)[64].available_v6, 1 << 64);
}

#[test]
fn a_hundred_thousand_refusals_are_as_cheap_as_gifts() {
    let pools = [pool("narrow", &["10.0.0.1/32"]), pool("six", &["2001:db8::/64"])];
    let claims = many(|n| v4(&format!("c{n:06}")));
    let result = timed("refused", || allocate(&pools, &claims));
    assert_eq!((result.assigned.len(), result.refused.len()), (1, MANY as usize - 1));
}

#[test]
fn an_ipv6_block_gives_its_very_last_address() {
    let pools = [pool("six", &["2001:db8::/64"])];
    let mut claims = vec![
        Claim { requested: ips(&["2001:db8::ffff:ffff:ffff:ffff"]), ..claim("last", Families::V6) },
        Claim { requested: ips(&["2001:db8::1"]), ..claim("first", Families::V6) },
    ];
    claims.push(claim("next", Families::V6));
    let result = allocate(&pools, &claims);
    assert_eq!(got(&result, "last"), "six:2001:db8::ffff:ffff:ffff:ffff");
    assert_eq!(got(&result, "next"), "six:2001:db8::2");
    assert_eq!(usage(&pools, &result)[0].available_v6, (1 << 64) - 3);
}
