//! Which routes a peer hears of, and the least that says what has changed.

use proptest::prelude::*;

use super::*;
use crate::{api::IpAddressPoolSpec, bgp::Aliases};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn advertisement(name: &str, yaml: &str) -> Advertisement {
    let spec = serde_saphyr::from_str(yaml).unwrap();
    Advertisement::parse(name, &spec, &Aliases::default()).unwrap()
}

fn pool(name: &str, addresses: &[&str]) -> PoolFacts {
    let spec = IpAddressPoolSpec {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..IpAddressPoolSpec::default()
    };
    PoolFacts::new(name, &BTreeMap::new(), &spec)
}

/// Addresses of pool "a", with one service each whose label `app` is given.
fn addresses(of: &[(&str, &str)]) -> BTreeMap<IpAddr, Reachable> {
    of.iter()
        .map(|(ip, app)| {
            let services = vec![labels(&[("app", app)])];
            (ip.parse().unwrap(), Reachable { pool: "a".into(), services })
        })
        .collect()
}

/// Routes in words: prefix, preference, communities.
fn texts(rib: &RibOut) -> Vec<String> {
    rib.routes
        .iter()
        .map(|(prefix, attributes)| {
            let preference = attributes.local_pref.map_or_else(|| "-".into(), |p| p.to_string());
            let communities: Vec<_> =
                attributes.communities.iter().map(ToString::to_string).collect();
            format!("{prefix} {preference} {}", communities.join(" ")).trim_end().to_owned()
        })
        .collect()
}

fn heard(advertisements: &[Advertisement], peer: &str) -> Vec<String> {
    let addresses = addresses(&[("10.1.0.1", "web"), ("10.1.0.2", "db"), ("2001:db8::1", "web")]);
    let pools = [pool("a", &["10.1.0.0/16", "2001:db8::/48"])];
    let node = labels(&[("rack", "one")]);
    let (rib, refusals) = routes(&addresses, &pools, advertisements, &node, peer);
    assert_eq!(refusals, []);
    texts(&rib)
}

#[test]
fn without_an_advertisement_nothing_is_announced_and_with_an_empty_one_every_address() {
    assert_eq!(heard(&[], "tor"), [""; 0]);
    let all = ["10.1.0.1/32 -", "10.1.0.2/32 -", "2001:db8::1/128 -"];
    assert_eq!(heard(&[advertisement("all", "{}")], "tor"), all);
}

#[test]
fn each_selector_narrows_what_is_announced() {
    let cases: &[(&str, &[&str])] = &[
        ("{ipAddressPools: [b]}", &[]),
        ("{nodeSelectors: [{matchLabels: {rack: two}}]}", &[]),
        ("{peers: [other]}", &[]),
        (
            "{peers: [other, tor], localPref: 200}",
            &["10.1.0.1/32 200", "10.1.0.2/32 200", "2001:db8::1/128 200"],
        ),
        ("{serviceSelectors: [{matchLabels: {app: db}}]}", &["10.1.0.2/32 -"]),
        ("{aggregationLength: 24, aggregationLengthV6: 64}", &["10.1.0.0/24 -", "2001:db8::/64 -"]),
        // Too wide for the pool: that family is not announced.
        ("{aggregationLength: 8}", &["2001:db8::1/128 -"]),
        (
            "{communities: ['65000:1', 'large:1:2:3']}",
            &[
                "10.1.0.1/32 - 65000:1 large:1:2:3",
                "10.1.0.2/32 - 65000:1 large:1:2:3",
                "2001:db8::1/128 - 65000:1 large:1:2:3",
            ],
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(&heard(&[advertisement("one", yaml)], "tor"), expected, "{yaml}");
    }
}

#[test]
fn several_advertisements_of_a_prefix_are_one_route_with_all_their_communities() {
    let advertisements = [
        advertisement("plain", "{communities: ['65000:1']}"),
        advertisement("preferred", "{localPref: 300, communities: ['65000:2', '65000:1']}"),
        advertisement("wide", "{aggregationLength: 24, communities: ['65000:3']}"),
    ];
    assert_eq!(
        heard(&advertisements, "tor"),
        [
            "10.1.0.0/24 - 65000:3",
            "10.1.0.1/32 300 65000:1 65000:2",
            "10.1.0.2/32 300 65000:1 65000:2",
            "2001:db8::1/128 300 65000:1 65000:2 65000:3",
        ]
    );
}

#[test]
fn of_two_preferences_for_a_prefix_the_older_one_counts_and_the_newer_object_is_told() {
    let advertisements = [
        advertisement("old", "{localPref: 300, communities: ['65000:1']}"),
        advertisement("new", "{localPref: 200, communities: ['65000:2']}"),
        advertisement("agrees", "{localPref: 300, communities: ['65000:3']}"),
    ];
    let (rib, refusals) = routes(
        &addresses(&[("10.1.0.1", "web"), ("10.1.0.2", "web")]),
        &[pool("a", &["10.1.0.0/16"])],
        &advertisements,
        &BTreeMap::new(),
        "tor",
    );
    let expected = ["10.1.0.1/32 300 65000:1 65000:3", "10.1.0.2/32 300 65000:1 65000:3"];
    assert_eq!(texts(&rib), expected);
    let [(name, refusal)] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!((name.as_str(), refusal.field.as_str()), ("new", "spec.localPref"));
    assert_eq!(
        refusal.message,
        "10.1.0.1/32 is announced with localPref 300 by \"old\", so that 200 does not count"
    );
}

#[test]
fn an_address_of_a_pool_that_is_not_there_or_without_services_is_not_announced() {
    let mut addresses = addresses(&[("10.1.0.1", "web"), ("10.1.0.2", "web")]);
    addresses.get_mut(&"10.1.0.1".parse().unwrap()).unwrap().pool = "gone".into();
    addresses.get_mut(&"10.1.0.2".parse().unwrap()).unwrap().services.clear();
    let pools = [pool("a", &["10.1.0.0/16"])];
    let all = [advertisement("all", "{}")];
    let (rib, _) = routes(&addresses, &pools, &all, &BTreeMap::new(), "tor");
    assert_eq!(rib, RibOut::default());
}

#[test]
fn routes_that_are_about_to_go_away_are_marked_and_keep_what_was_said_of_them() {
    let advertisements = [advertisement("one", "{localPref: 300, communities: ['65000:1']}")];
    let addresses = addresses(&[("10.1.0.1", "web")]);
    let pools = [pool("a", &["10.1.0.0/16"])];
    let (rib, _) = routes(&addresses, &pools, &advertisements, &BTreeMap::new(), "tor");
    let leaving = rib.shutting_down();
    assert_eq!(texts(&leaving), ["10.1.0.1/32 0 65000:1 65535:0"]);
    assert_eq!(leaving.shutting_down(), leaving);
    let delta = delta(&rib, &leaving);
    assert_eq!((delta.announce.len(), delta.withdraw.len()), (1, 0));
}

/// Ten thousand addresses and four peers: what is the same is kept once.
#[test]
fn many_routes_of_one_advertisement_share_what_is_said_of_them() {
    let many: BTreeMap<IpAddr, Reachable> = (0..10_000_u32)
        .map(|n| {
            let reachable = Reachable { pool: "a".into(), services: vec![BTreeMap::new()] };
            (IpAddr::from(std::net::Ipv4Addr::from(0x0a01_0000 + n)), reachable)
        })
        .collect();
    let pools = [pool("a", &["10.1.0.0/16"])];
    let advertisements = [advertisement("one", "{communities: ['65000:1']}")];
    for peer in ["tor-1", "tor-2", "tor-3", "tor-4"] {
        let (rib, _) = routes(&many, &pools, &advertisements, &BTreeMap::new(), peer);
        assert_eq!(rib.routes.len(), 10_000);
        let first = rib.routes.values().next().unwrap();
        assert!(rib.routes.values().all(|one| Arc::ptr_eq(one, first)));
        assert_eq!(delta(&RibOut::default(), &rib).announce.len(), 1);
        assert_eq!(delta(&rib, &rib), Delta::default());
    }
}

/// Few prefixes and few attributes, so that they meet often.
pub(in super::super) fn ribs() -> impl Strategy<Value = RibOut> {
    let prefix = prop_oneof![
        (0..40_u8, 24..=32_u8).prop_map(|(n, length)| format!("10.1.{n}.{n}/{length}")),
        (0..40_u8, 48..=128_u8).prop_map(|(n, length)| format!("2001:db8:{n}::{n}/{length}")),
    ];
    let communities = proptest::collection::btree_set(
        prop_oneof![
            (0..3_u16).prop_map(|n| Community::Standard(65000, n)),
            (0..3_u32).prop_map(|n| Community::Large(1, 2, n)),
        ],
        0..3,
    );
    let attributes = (proptest::option::of(100..103_u32), communities)
        .prop_map(|(local_pref, communities)| Arc::new(Attributes { local_pref, communities }));
    let prefix = prefix.prop_map(|text| text.parse::<IpNet>().unwrap().trunc());
    proptest::collection::btree_map(prefix, attributes, 0..60).prop_map(|routes| RibOut { routes })
}

proptest! {
    #[test]
    fn a_delta_leads_from_old_to_new_and_says_nothing_twice(old in ribs(), new in ribs()) {
        let delta = delta(&old, &new);
        let mut rib = old;
        for prefix in &delta.withdraw {
            prop_assert!(rib.routes.remove(prefix).is_some());
        }
        for (attributes, prefixes) in &delta.announce {
            for prefix in prefixes {
                let before = rib.routes.insert(*prefix, Arc::clone(attributes));
                prop_assert_ne!(before.as_ref(), Some(attributes));
            }
        }
        prop_assert_eq!(rib, new);
    }
}
