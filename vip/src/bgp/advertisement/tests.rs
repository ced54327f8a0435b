//! Which advertisements are understood, and what they turn addresses into.

use super::*;
use crate::bgp::spec::{CommunityAlias, CommunitySpec};

fn parse(yaml: &str) -> Result<Advertisement, Vec<Problem>> {
    let alias = CommunityAlias { name: "blue".into(), value: "65000:1".into() };
    let (aliases, _) =
        Aliases::new(&[("aliases".into(), CommunitySpec { communities: vec![alias] })]);
    Advertisement::parse("adv", &serde_saphyr::from_str(yaml).unwrap(), &aliases)
}

fn pool(name: &str, addresses: &[&str]) -> PoolFacts {
    let spec = IpAddressPoolSpec {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..IpAddressPoolSpec::default()
    };
    PoolFacts::new(name, &BTreeMap::from([("zone".into(), name.into())]), &spec)
}

fn labels(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

#[test]
fn an_address_becomes_the_prefix_of_the_aggregation_length() {
    let pool = pool("a", &["10.1.0.0/16", "2001:db8::/48"]);
    // advertisement, address, prefix
    let cases = [
        ("{}", "10.1.2.3", Some("10.1.2.3/32")),
        ("{}", "2001:db8::9", Some("2001:db8::9/128")),
        ("{aggregationLength: 24}", "10.1.2.3", Some("10.1.2.0/24")),
        ("{aggregationLength: 16}", "10.1.2.3", Some("10.1.0.0/16")),
        ("{aggregationLength: 15}", "10.1.2.3", None),
        ("{aggregationLengthV6: 64}", "2001:db8::9", Some("2001:db8::/64")),
        ("{aggregationLengthV6: 47}", "2001:db8::9", None),
    ];
    for (advertisement, ip, prefix) in cases {
        let advertisement = parse(advertisement).unwrap();
        let expected = prefix.map(|prefix| prefix.parse().unwrap());
        assert_eq!(advertisement.prefix(ip.parse().unwrap(), &pool), expected, "{prefix:?}");
    }
}

/// As with MetalLB: a range is as wide as its widest block, a pool as its narrowest entry.
#[test]
fn an_aggregate_may_be_as_wide_as_every_entry_of_the_pool() {
    let cases: &[(&[&str], u8)] = &[
        (&["10.1.0.0/24"], 24),
        (&["10.1.0.0/16", "10.2.0.0/24"], 24),
        (&["10.1.0.10-10.1.0.200"], 26),
        (&[" 10.1.0.1 - 10.1.0.1 "], 32),
        (&["2001:db8::/64", "nonsense", "10.0.0.9-10.0.0.1"], 0),
        (&["0.0.0.0-255.255.255.255"], 0),
    ];
    for (addresses, shortest) in cases {
        assert_eq!(pool("a", addresses).shortest_v4, *shortest, "{addresses:?}");
    }
    let narrow = parse("{aggregationLength: 16}").unwrap();
    let problems =
        narrow.mismatches(&[pool("wide", &["10.1.0.0/16"]), pool("slim", &["10.2.0.0/24"])], &[]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "/16 is wider than an entry of pool \"slim\"");
    assert_eq!(
        (problems[0].hint.as_str(), problems[0].is_error()),
        ("use at least 24, or leave the pool out", true)
    );
}

#[test]
fn selectors_pick_pools_nodes_peers_and_services() {
    let everything = parse("{}").unwrap();
    let picky = parse(
        "ipAddressPools: [a]
ipAddressPoolSelectors: [{matchLabels: {zone: b}}]
nodeSelectors: [{matchLabels: {rack: one}}]
peers: [tor-1]
serviceSelectors: [{matchLabels: {app: web}}]
localPref: 200
communities: [blue, 'large:1:2:3', '65000:1']
",
    )
    .unwrap();
    for (name, picked) in [("a", true), ("b", true), ("c", false)] {
        assert!(everything.selects(&pool(name, &[])));
        assert_eq!(picky.selects(&pool(name, &[])), picked, "{name}");
    }
    assert!(everything.from_node(&BTreeMap::new()) && everything.for_peer("tor-2"));
    assert!(everything.serves(&BTreeMap::new()));
    assert!(picky.from_node(&labels("rack", "one")) && !picky.from_node(&labels("rack", "two")));
    assert!(picky.for_peer("tor-1") && !picky.for_peer("tor-2"));
    assert!(picky.serves(&labels("app", "web")) && !picky.serves(&labels("app", "db")));
    assert_eq!((everything.local_pref(), picky.local_pref()), (None, Some(200)));
    let communities = [Community::Standard(65000, 1), Community::Large(1, 2, 3)];
    assert_eq!(picky.communities(), &BTreeSet::from(communities));
}

#[test]
fn what_makes_no_sense_is_refused_by_field_and_value() {
    let cases = [
        ("{aggregationLength: 0}", "aggregationLength", "0 is not the length of a prefix"),
        ("{aggregationLength: 33}", "aggregationLength", "33 is not the length of a prefix"),
        ("{aggregationLength: -1}", "aggregationLength", "-1 is not the length of a prefix"),
        ("{aggregationLengthV6: 129}", "aggregationLengthV6", "129 is not the length of a prefix"),
        ("{communities: ['65000:1', red]}", "communities[1]", "\"red\""),
        ("{communities: ['65536:1']}", "communities[0]", "\"65536\""),
        (
            "{aggregationLength: 24, serviceSelectors: [{}]}",
            "aggregationLength",
            "serviceSelectors",
        ),
        (
            "{aggregationLengthV6: 64, serviceSelectors: [{}]}",
            "aggregationLengthV6",
            "serviceSelectors",
        ),
    ];
    for (yaml, field, part) in cases {
        let faults = parse(yaml).expect_err(yaml);
        assert_eq!(faults.len(), 1, "{yaml}: {faults:?}");
        assert_eq!(faults[0].field, format!("spec.{field}"), "{yaml}");
        assert!(faults[0].message.contains(part), "{yaml}: {}", faults[0].message);
    }
    let tolerated =
        parse("{nodeSelectors: [{matchExpressions: [{key: a, operator: In}]}]}").unwrap();
    assert_eq!(tolerated.refusals()[0].field, "spec.nodeSelectors[0]");
}

#[test]
fn names_of_nobody_are_told_with_the_names_that_exist() {
    let advertisement = parse("{ipAddressPools: [a, x], peers: [y]}").unwrap();
    let problems = advertisement.mismatches(&[pool("a", &["10.0.0.0/8"])], &["tor-1", "tor-2"]);
    let problems: Vec<_> = problems
        .iter()
        .map(|refusal| (refusal.reason, refusal.message.as_str(), refusal.hint.as_str()))
        .collect();
    assert_eq!(
        problems,
        [
            ("PoolNotFound", "there is no usable pool \"x\"", "there are: a"),
            ("PeerNotFound", "there is no usable BGPPeer \"y\"", "there are: tor-1, tor-2"),
        ]
    );
}
