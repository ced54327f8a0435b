//! What pools hold, what they refuse and in which words.

use super::*;
use crate::api::{LabelExpression, LabelSelector};

fn spec(addresses: &[&str]) -> IpAddressPoolSpec {
    IpAddressPoolSpec {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..IpAddressPoolSpec::default()
    }
}

fn parse(spec: &IpAddressPoolSpec) -> Result<Pool, Vec<Problem>> {
    Pool::parse("default", &BTreeMap::new(), spec)
}

fn named(name: &str, addresses: &[&str]) -> Pool {
    Pool::parse(name, &BTreeMap::new(), &spec(addresses)).unwrap()
}

/// The first free address, searched from the very beginning.
fn first(pool: &Pool, used: &AddressSet, family: Family) -> Option<IpAddr> {
    pool.first_free(used, family, Place::FIRST).map(|place| place.ip)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn blocks_and_ranges_hold_exactly_their_addresses() {
    let cases: &[(&str, &[&str], &[&str], u128)] = &[
        ("10.1.2.0/30", &["10.1.2.0", "10.1.2.3"], &["10.1.1.255", "10.1.2.4"], 4),
        ("10.1.2.3/24", &["10.1.2.0", "10.1.2.255"], &["10.1.3.0"], 256),
        ("10.1.2.3/32", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"], 1),
        (
            "192.168.1.200-192.168.1.250",
            &["192.168.1.200", "192.168.1.250"],
            &["192.168.1.199", "192.168.1.251"],
            51,
        ),
        (" 10.0.0.9 - 10.0.0.9 ", &["10.0.0.9"], &["10.0.0.10"], 1),
        ("2001:db8::/126", &["2001:db8::", "2001:db8::3"], &["2001:db8::4"], 4),
        ("2001:db8::a-2001:db8::1:9", &["2001:db8::ffff"], &["2001:db8::9"], 0x1_0000),
    ];
    for (entry, inside, outside, size) in cases {
        let pool = parse(&spec(&[entry])).unwrap();
        assert_eq!(pool.refusals(), &[], "{entry}");
        assert!(inside.iter().all(|text| pool.contains(ip(text))), "{entry}");
        assert!(!outside.iter().any(|text| pool.contains(ip(text))), "{entry}");
        assert_eq!(pool.size(Family::V4) + pool.size(Family::V6), *size, "{entry}");
    }
}

#[test]
fn a_bad_entry_is_named_with_its_value_and_what_to_write_instead() {
    let cases = [
        (
            "192.168.1.5",
            "\"192.168.1.5\" is neither a CIDR block nor a range",
            "write 192.168.1.5/32",
        ),
        (
            "2001:db8::5",
            "\"2001:db8::5\" is neither a CIDR block nor a range",
            "write 2001:db8::5/128",
        ),
        (
            "10.0.0.0/33",
            "\"10.0.0.0/33\" is neither a CIDR block nor a range",
            "write 192.168.1.0/24, or 192.168.1.200-192.168.1.250",
        ),
        (
            "10.0.0.0/255.255.255.0",
            "\"10.0.0.0/255.255.255.0\" is neither a CIDR block nor a range",
            "write 192.168.1.0/24, or 192.168.1.200-192.168.1.250",
        ),
        (
            "192.168.1.10-20",
            "the end of \"192.168.1.10-20\", \"20\", is not an IP address",
            "write both ends in full, such as 192.168.1.200-192.168.1.250",
        ),
        (
            "-10.0.0.1",
            "the start of \"-10.0.0.1\", \"\", is not an IP address",
            "write both ends in full, such as 192.168.1.200-192.168.1.250",
        ),
        (
            "10.0.0.9-10.0.0.1",
            "\"10.0.0.9-10.0.0.1\" ends before it starts",
            "write 10.0.0.1-10.0.0.9",
        ),
        (
            "10.0.0.1-2001:db8::1",
            "\"10.0.0.1-2001:db8::1\" starts in one address family and ends in the other",
            "write one entry for each family",
        ),
        (
            "0.0.0.0/0",
            "\"0.0.0.0/0\" holds 0.0.0.0, of 0.0.0.0/8, which is not for hosts",
            "list unicast addresses only",
        ),
        (
            "126.255.255.255-127.0.0.9",
            "\"126.255.255.255-127.0.0.9\" holds 127.0.0.0, of 127.0.0.0/8, which is not for hosts",
            "list unicast addresses only",
        ),
        (
            "ff02::/120",
            "\"ff02::/120\" holds ff02::, of ff00::/8, which is not for hosts",
            "list unicast addresses only",
        ),
    ];
    for (entry, message, hint) in cases {
        let refusals = parse(&spec(&[entry])).unwrap_err();
        let expected = Problem::refused("InvalidAddresses", "spec.addresses[0]", message, hint);
        assert_eq!(refusals, vec![expected], "{entry}");
    }
}

#[test]
fn a_pool_without_addresses_is_refused() {
    let refusals = parse(&spec(&[])).unwrap_err();
    assert_eq!(refusals[0].reason, "NoAddresses");
    assert!(refusals[0].is_error());
}

#[test]
fn a_bad_entry_does_not_take_the_good_ones_along() {
    let pool = parse(&spec(&["10.0.0.0/30", "nonsense", "2001:db8::/126"])).unwrap();
    assert!(pool.contains(ip("10.0.0.1")) && pool.contains(ip("2001:db8::1")));
    assert_eq!(pool.refusals().len(), 1);
    assert_eq!(pool.refusals()[0].field, "spec.addresses[1]");
    assert!(pool.refusals()[0].is_error());
}

#[test]
fn an_address_listed_twice_counts_once_and_is_said() {
    let pool = parse(&spec(&["10.0.0.0/30", "10.0.0.2-10.0.0.5"])).unwrap();
    assert_eq!(pool.size(Family::V4), 6);
    assert_eq!(
        pool.refusals()[0].message,
        "\"10.0.0.2-10.0.0.5\" repeats 10.0.0.2-10.0.0.3 of an earlier entry"
    );
    assert!(!pool.refusals()[0].is_error());
}

#[test]
fn an_ipv6_block_is_counted_exactly_and_searched_at_once() {
    let pool = named("six", &["2001:db8:0:1::/64"]);
    assert_eq!(pool.size(Family::V6), 1 << 64);
    let mut used = AddressSet::default();
    assert_eq!(first(&pool, &used, Family::V6), Some(ip("2001:db8:0:1::1")));
    used.of_mut(Family::V6)
        .insert(number(ip("2001:db8:0:1::1")), number(ip("2001:db8:0:1:ffff:ffff:ffff:fffe")));
    assert_eq!(first(&pool, &used, Family::V6), Some(ip("2001:db8:0:1:ffff:ffff:ffff:ffff")));
    used.insert(ip("2001:db8:0:1:ffff:ffff:ffff:ffff"));
    assert_eq!(first(&pool, &used, Family::V6), None);
    assert_eq!(named("huge", &["2001:db8::/32"]).size(Family::V6), 1 << 96);
}

#[test]
fn addresses_are_given_in_the_order_of_the_list() {
    // The last entry has what others have, before and after.
    let pool =
        named("p", &["10.0.0.8/31", "10.0.0.2-10.0.0.4", "fd09::7/128", "10.0.0.1-10.0.0.10"]);
    let mut used = AddressSet::default();
    let mut given = Vec::new();
    while let Some(ip) = first(&pool, &used, Family::V4) {
        used.insert(ip);
        given.push(number(ip) & 0xff);
    }
    assert_eq!(given, [8, 9, 2, 3, 4, 1, 5, 6, 7, 10]);
    assert_eq!(first(&pool, &used, Family::V6), Some(ip("fd09::7")));
}

#[test]
fn anycast_addresses_of_ipv6_are_not_given_but_can_be_had() {
    // entry, what is given first
    for (entry, expected) in [
        ("fd09::/64", Some("fd09::1")),
        ("fd09::/120", Some("fd09::1")),
        ("fd09::-fd09::9", Some("fd09::1")),
        ("fd09::/127", Some("fd09::1")),
        // The lowest address of the block: the routers', on a link of that prefix.
        ("fd09::100/120", Some("fd09::101")),
        ("fd09::100-fd09::1ff", Some("fd09::100")),
        ("fd09::100/127", Some("fd09::100")),
        ("fd09::7/128", Some("fd09::7")),
        // The routers' of the second link.
        ("fd09::ffff:ffff:ffff:ffff-fd09:0:0:1::5", Some("fd09::ffff:ffff:ffff:ffff")),
        ("fd09:0:0:1::-fd09:0:0:1::5", Some("fd09:0:0:1::1")),
        // RFC 2526.
        ("fd09::fdff:ffff:ffff:ff80-fd09::fe00:0:0:0", Some("fd09::fe00:0:0:0")),
        ("fd09::fdff:ffff:ffff:ff7f-fd09::fe00:0:0:0", Some("fd09::fdff:ffff:ffff:ff7f")),
        ("fd09::fdff:ffff:ffff:fff0/124", None),
        ("fd09::/128", None),
    ] {
        let pool = named("p", &[entry]);
        let given = first(&pool, &AddressSet::default(), Family::V6);
        assert_eq!(given, expected.map(ip), "{entry}");
        let (family, first, _) = pool.listed()[0];
        assert!(pool.contains(family.address(first)), "{entry}");
    }
    let v4 = named("p", &["10.0.0.0/24"]);
    assert_eq!(first(&v4, &AddressSet::default(), Family::V4), Some(ip("10.0.0.0")));
}

#[test]
fn what_a_list_holds_twice_is_said() {
    let selector = LabelSelector {
        match_labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        ..LabelSelector::default()
    };
    let values = LabelSelector {
        match_expressions: vec![LabelExpression {
            key: "a".into(),
            operator: "In".into(),
            values: vec!["x".into(), "y".into(), "x".into()],
        }],
        ..LabelSelector::default()
    };
    let limits = ServiceAllocation {
        namespaces: vec!["a".into(), "b".into(), "a".into()],
        namespace_selectors: vec![selector.clone(), selector.clone()],
        service_selectors: vec![selector, values],
        ..ServiceAllocation::default()
    };
    let spec = IpAddressPoolSpec {
        service_allocation: Some(limits),
        ..spec(&["10.0.0.0/24", "10.0.0.0/24"])
    };
    let pool = parse(&spec).unwrap();
    let told: Vec<_> = pool.refusals().iter().map(|one| (one.reason, one.field.as_str())).collect();
    assert!(!pool.refusals().iter().any(Problem::is_error));
    assert_eq!(
        told,
        [
            ("DuplicateAddresses", "spec.addresses[1]"),
            ("Duplicate", "spec.serviceAllocation.namespaces[2]"),
            ("Duplicate", "spec.serviceAllocation.namespaceSelectors[1]"),
            (
                "Duplicate",
                "spec.serviceAllocation.serviceSelectors[1].matchExpressions[0].values[2]"
            ),
        ]
    );
}

#[test]
fn buggy_addresses_are_left_out_of_everything() {
    let spec = IpAddressPoolSpec { avoid_buggy_ips: true, ..spec(&["10.0.0.254-10.0.2.1"]) };
    let pool = parse(&spec).unwrap();
    let mut used = AddressSet::default();
    let mut count = 0;
    while let Some(ip) = first(&pool, &used, Family::V4) {
        assert!(pool.contains(ip) && !is_buggy(ip));
        used.insert(ip);
        count += 1;
    }
    assert_eq!(count, pool.size(Family::V4));
    assert_eq!(count, 1 + 254 + 1);
    assert!(!pool.contains(ip("10.0.1.0")) && !pool.contains(ip("10.0.0.255")));
}

#[test]
fn a_search_that_goes_on_where_the_last_one_ended_finds_the_same() {
    let spec = IpAddressPoolSpec {
        avoid_buggy_ips: true,
        ..spec(&["10.2.0.0/30", "10.0.0.250-10.0.1.3", "10.3.0.1/32"])
    };
    let pool = parse(&spec).unwrap();
    let mut used = AddressSet::default();
    let mut from = Place::FIRST;
    while let Some(next) = pool.first_free(&used, Family::V4, from) {
        assert_eq!(Some(next.ip), first(&pool, &used, Family::V4));
        used.insert(next.ip);
        from = next;
    }
    assert_eq!(first(&pool, &used, Family::V4), None);
}

#[test]
fn a_priority_alone_keeps_nobody_out() {
    let open = IpAddressPoolSpec {
        service_allocation: Some(ServiceAllocation { priority: 5, ..ServiceAllocation::default() }),
        ..spec(&["10.0.0.0/24"])
    };
    let pool = parse(&open).unwrap();
    assert_eq!(pool.admits(&Tenant::default()), Ok(()));
    assert_eq!(pool.refusals(), &[]);
}

#[test]
fn a_broken_selector_is_told_on_the_pool() {
    let broken = LabelSelector {
        match_expressions: vec![LabelExpression {
            operator: "Is".into(),
            ..LabelExpression::default()
        }],
        ..LabelSelector::default()
    };
    let allocation =
        ServiceAllocation { service_selectors: vec![broken], ..ServiceAllocation::default() };
    let spec = IpAddressPoolSpec { service_allocation: Some(allocation), ..spec(&["10.0.0.0/24"]) };
    let pool = parse(&spec).unwrap();
    assert_eq!(pool.refusals()[0].field, "spec.serviceAllocation.serviceSelectors[0]");
    assert!(pool.admits(&Tenant::default()).is_err());
}
