//! Allocation rules, in the words of services and pools.

use proptest::prelude::*;

use super::*;
use crate::api::{IpAddressPoolSpec, ServiceAllocation};

fn spec(addresses: &[&str]) -> IpAddressPoolSpec {
    IpAddressPoolSpec {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..IpAddressPoolSpec::default()
    }
}

fn pool(name: &str, addresses: &[&str]) -> Pool {
    Pool::parse(name, &BTreeMap::new(), &spec(addresses)).unwrap()
}

fn manual(name: &str, addresses: &[&str]) -> Pool {
    let spec = IpAddressPoolSpec { auto_assign: Some(false), ..spec(addresses) };
    Pool::parse(name, &BTreeMap::new(), &spec).unwrap()
}

fn allocated(name: &str, addresses: &[&str], allocation: ServiceAllocation) -> Pool {
    let spec = IpAddressPoolSpec { service_allocation: Some(allocation), ..spec(addresses) };
    Pool::parse(name, &BTreeMap::new(), &spec).unwrap()
}

fn id(name: &str) -> ClaimId {
    ClaimId(format!("ns/{name}").into())
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn claim(name: &str, families: Families) -> Claim {
    Claim { id: id(name), families, requested: vec![], pool: None, recorded: vec![] }
}

fn v4(name: &str) -> Claim {
    claim(name, Families::V4)
}

fn requesting(name: &str, requested: &[&str]) -> Claim {
    Claim { requested: ips(requested), ..v4(name) }
}

fn recorded(name: &str, recorded: &[&str]) -> Claim {
    Claim { recorded: ips(recorded), ..v4(name) }
}

const PREFER: Families = Families::PreferDual { first: Family::V4 };
const REQUIRE: Families = Families::RequireDual { first: Family::V4 };

/// `pool:ip,ip` or `-`.
fn got(allocation: &Allocation, name: &str) -> String {
    allocation.assigned.get(&id(name)).map_or_else(
        || "-".to_owned(),
        |got| {
            let ips: Vec<_> = got.ips.iter().map(ToString::to_string).collect();
            format!("{}:{}", got.pool, ips.join(","))
        },
    )
}

fn refusal<'a>(allocation: &'a Allocation, name: &str) -> &'a Refusal {
    &allocation.refused[&id(name)][0]
}

#[test]
fn new_claims_get_the_lowest_free_addresses_in_order() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.2"]), pool("more", &["10.1.0.0/30"])];
    let result = allocate(&pools, &[v4("c"), v4("a"), v4("b")]);
    assert_eq!(got(&result, "c"), "default:10.0.0.1");
    assert_eq!(got(&result, "a"), "default:10.0.0.2");
    assert_eq!(got(&result, "b"), "more:10.1.0.0");
    assert!(result.refused.is_empty());
}

#[test]
fn recorded_addresses_stay_whoever_comes_first() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.3"])];
    let claims = [v4("new"), recorded("old", &["10.0.0.1"]), requesting("greedy", &["10.0.0.1"])];
    for claims in [claims.to_vec(), claims.iter().rev().cloned().collect()] {
        let result = allocate(&pools, &claims);
        assert_eq!(got(&result, "old"), "default:10.0.0.1");
        assert_eq!(got(&result, "new"), "default:10.0.0.2");
        assert_eq!(got(&result, "greedy"), "-");
        let refusal = refusal(&result, "greedy");
        assert_eq!(refusal.reason, "AddressInUse");
        assert_eq!(refusal.message, "10.0.0.1 is in use by ns/old");
        assert!(refusal.severe);
    }
}

#[test]
fn of_two_claims_that_recorded_one_address_the_same_one_keeps_it_in_any_order() {
    let pools = [pool("default", &["10.0.0.0/29"])];
    let claims = [recorded("b", &["10.0.0.5"]), recorded("a", &["10.0.0.5"])];
    for claims in [claims.to_vec(), claims.iter().rev().cloned().collect()] {
        let result = allocate(&pools, &claims);
        assert_eq!(got(&result, "a"), "default:10.0.0.5");
        assert_eq!(got(&result, "b"), "default:10.0.0.0");
        let refusal = refusal(&result, "b");
        assert_eq!(refusal.reason, "AddressReleased");
        assert_eq!(refusal.message, "10.0.0.5 is given up: 10.0.0.5 is in use by ns/a");
        assert!(!refusal.severe);
    }
}

#[test]
fn a_requested_address_is_not_given_to_somebody_who_asks_for_nothing() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.9"])];
    let result = allocate(&pools, &[v4("any"), requesting("picky", &["10.0.0.1"])]);
    assert_eq!(got(&result, "picky"), "default:10.0.0.1");
    assert_eq!(got(&result, "any"), "default:10.0.0.2");
}

#[test]
fn a_typo_in_the_request_keeps_the_working_address() {
    let pools = [pool("default", &["10.0.0.0/24"]), manual("vip", &["10.9.0.0/30"])];
    let held = |requested: &[&str], pool: Option<&str>| Claim {
        requested: ips(requested),
        pool: pool.map(str::to_owned),
        ..recorded("web", &["10.0.0.7"])
    };
    let other = recorded("other", &["10.0.0.8"]);
    let cases = [
        (
            held(&["10.5.0.1"], None),
            "AddressNotInPool",
            "10.5.0.1 is in no pool; looked in: default, vip; 10.0.0.7 stays in use",
        ),
        (
            held(&["10.0.0.8"], None),
            "AddressInUse",
            "10.0.0.8 is in use by ns/other; 10.0.0.7 stays in use",
        ),
        (
            held(&["2001:db8::1"], None),
            "FamilyMismatch",
            "the requested address 2001:db8::1 is not IPv4; 10.0.0.7 stays in use",
        ),
        (
            held(&["10.0.0.1", "10.0.0.2"], None),
            "TooManyAddresses",
            "10.0.0.2 is the second IPv4 address requested; 10.0.0.7 stays in use",
        ),
        (
            held(&["10.0.0.1"], Some("vip")),
            "PoolMismatch",
            "the requested address 10.0.0.1 is of pool \"default\"; 10.0.0.7 stays in use",
        ),
        (
            held(&[], Some("vpi")),
            "PoolNotFound",
            "there is no usable pool \"vpi\"; 10.0.0.7 stays in use",
        ),
    ];
    for (web, reason, message) in cases {
        let result = allocate(&pools, &[web, other.clone()]);
        assert_eq!(got(&result, "web"), "default:10.0.0.7", "{reason}");
        let refusal = refusal(&result, "web");
        assert_eq!((refusal.reason, refusal.message.as_str()), (reason, message));
        assert!(!refusal.severe, "{reason}");
    }
}

#[test]
fn a_good_request_moves_the_claim_and_frees_its_old_address() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.2"])];
    let mover = Claim { requested: ips(&["10.0.0.2"]), ..recorded("mover", &["10.0.0.1"]) };
    let result = allocate(&pools, &[requesting("waiting", &["10.0.0.1"]), mover]);
    assert_eq!(got(&result, "mover"), "default:10.0.0.2");
    assert_eq!(got(&result, "waiting"), "default:10.0.0.1");
    assert!(result.refused.is_empty());
}

#[test]
fn an_address_that_a_mover_frees_is_the_second_one_of_who_prefers_two() {
    let pools = [pool("both", &["10.0.0.1/32", "2001:db8::/126"]), pool("away", &["10.9.0.1/32"])];
    let dual = claim("dual", PREFER);
    let mover = Claim { pool: Some("away".into()), ..recorded("mover", &["10.0.0.1"]) };
    let six = Claim { requested: ips(&["2001:db8::2"]), ..dual };
    let result = allocate(&pools, &[six, mover]);
    assert_eq!(got(&result, "mover"), "away:10.9.0.1");
    assert_eq!(got(&result, "dual"), "both:10.0.0.1,2001:db8::2");
}

#[test]
fn a_named_pool_is_the_only_one_that_counts() {
    let pools = [pool("default", &["10.0.0.0/24"]), manual("vip", &["10.9.0.0/32"])];
    let pinned = |name: &str| Claim { pool: Some("vip".into()), ..v4(name) };
    let result = allocate(&pools, &[v4("plain"), pinned("first"), pinned("second")]);
    assert_eq!(got(&result, "plain"), "default:10.0.0.0");
    assert_eq!(got(&result, "first"), "vip:10.9.0.0");
    assert_eq!(got(&result, "second"), "-");
    let refusal = refusal(&result, "second");
    assert_eq!(refusal.reason, "PoolExhausted");
    assert_eq!(refusal.message, "no free IPv4 address; looked in: vip");
}

#[test]
fn an_address_that_left_the_pools_is_replaced_and_that_is_said() {
    let pools = [pool("default", &["10.0.0.0/24"])];
    let result = allocate(&pools, &[recorded("web", &["10.5.0.1"])]);
    assert_eq!(got(&result, "web"), "default:10.0.0.0");
    assert_eq!(refusal(&result, "web").reason, "AddressReleased");
}

#[test]
fn a_restricted_pool_gives_nothing_by_any_way() {
    let limited =
        ServiceAllocation { namespaces: vec!["prod".into()], ..ServiceAllocation::default() };
    let pools = [allocated("prod", &["10.0.0.0/24"], limited)];
    let claims = [
        v4("any"),
        requesting("request", &["10.0.0.1"]),
        Claim { pool: Some("prod".into()), ..v4("pinned") },
        recorded("record", &["10.0.0.2"]),
    ];
    let result = allocate(&pools, &claims);
    assert_eq!(result.assigned, BTreeMap::new());
    assert_eq!(refusal(&result, "any").reason, "NoPool");
    assert_eq!(refusal(&result, "request").reason, "PoolRestricted");
    assert_eq!(refusal(&result, "pinned").reason, "PoolRestricted");
    assert_eq!(refusal(&result, "record").reason, "AddressReleased");
}

#[test]
fn pools_with_a_priority_are_tried_first() {
    let priority = |priority| ServiceAllocation { priority, ..ServiceAllocation::default() };
    let pools = [
        pool("plain", &["10.0.0.1/32"]),
        allocated("zero", &["10.0.0.2/32"], priority(0)),
        allocated("late", &["10.0.0.3/32"], priority(20)),
        allocated("soon", &["10.0.0.4/32"], priority(10)),
    ];
    let result = allocate(&pools, &[v4("a"), v4("b"), v4("c"), v4("d")]);
    let order = ["a", "b", "c", "d"].map(|name| got(&result, name));
    assert_eq!(order, ["soon:10.0.0.4", "late:10.0.0.3", "zero:10.0.0.2", "plain:10.0.0.1"]);
}

#[test]
fn dual_stack_takes_both_addresses_of_one_pool() {
    let four = || pool("four", &["10.0.0.0/24"]);
    let six = || pool("six", &["2001:db8::/64"]);
    let both = || pool("both", &["10.1.0.0/24", "2001:db8:1::/64"]);
    let six_first = Families::PreferDual { first: Family::V6 };
    let cases = [
        (PREFER, vec![four(), six(), both()], "both:10.1.0.0,2001:db8:1::"),
        (six_first, vec![four(), six(), both()], "both:2001:db8:1::,10.1.0.0"),
        (PREFER, vec![six(), four()], "four:10.0.0.0"),
        (six_first, vec![four(), six()], "six:2001:db8::"),
        (PREFER, vec![six()], "six:2001:db8::"),
        (REQUIRE, vec![four(), both()], "both:10.1.0.0,2001:db8:1::"),
        (REQUIRE, vec![four(), six()], "-"),
    ];
    for (families, pools, expected) in cases {
        let result = allocate(&pools, &[claim("dual", families)]);
        assert_eq!(got(&result, "dual"), expected, "{families:?}");
    }
}

#[test]
fn a_dual_stack_claim_keeps_its_address_and_gains_the_second_from_the_same_pool() {
    let pools = [pool("four", &["10.0.0.0/24"]), pool("both", &["10.1.0.0/24", "2001:db8::/64"])];
    for families in [PREFER, REQUIRE] {
        let grows = Claim { recorded: ips(&["10.1.0.9"]), ..claim("grows", families) };
        let stays = Claim { recorded: ips(&["10.0.0.9"]), ..claim("stays", families) };
        let result = allocate(&pools, &[grows, stays]);
        assert_eq!(got(&result, "grows"), "both:10.1.0.9,2001:db8::");
        assert_eq!(got(&result, "stays"), "four:10.0.0.9");
        let refused = result.refused.get(&id("stays"));
        assert_eq!(refused.is_some(), families == REQUIRE);
        assert!(refused.is_none_or(|refused| !refused[0].severe));
    }
}

#[test]
fn a_request_for_one_family_leaves_the_other_address_alone() {
    let pools = [pool("both", &["10.1.0.0/24", "2001:db8::/64"])];
    let dual = Claim {
        requested: ips(&["10.1.0.50"]),
        recorded: ips(&["10.1.0.9", "2001:db8::77"]),
        ..claim("dual", REQUIRE)
    };
    let result = allocate(&pools, &[dual]);
    assert_eq!(got(&result, "dual"), "both:10.1.0.50,2001:db8::77");
}

#[test]
fn without_pools_every_claim_hears_why() {
    let result = allocate(&[], &[v4("a"), requesting("b", &["10.0.0.1"])]);
    assert_eq!(refusal(&result, "a").message, "no pool assigns addresses by itself; pools: none");
    assert_eq!(refusal(&result, "b").hint, "create an IPAddressPool");
    let six = allocate(&[pool("default", &["10.0.0.0/24"])], &[claim("six", Families::V6)]);
    assert_eq!(refusal(&six, "six").message, "no pool with IPv6 addresses; looked in: default");
}

#[test]
fn the_second_claim_of_one_id_does_not_count() {
    let pools = [pool("default", &["10.0.0.0/24"])];
    let result = allocate(&pools, &[v4("a"), requesting("a", &["10.0.0.9"]), v4("b")]);
    assert_eq!(got(&result, "a"), "default:10.0.0.0");
    assert_eq!(got(&result, "b"), "default:10.0.0.1");
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let families = prop_oneof![
        Just(Families::V4),
        Just(Families::V6),
        Just(PREFER),
        Just(REQUIRE),
        Just(Families::PreferDual { first: Family::V6 }),
    ];
    let address = prop_oneof![
        (0u8..24).prop_map(|last| IpAddr::from([10, 0, 0, last])),
        (0u16..24).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
    ];
    let some = proptest::collection::vec(address, 0..3);
    let pool = proptest::option::weighted(0.3, prop_oneof!["one", "two", "three", "gone"]);
    (0u8..30, families, proptest::option::weighted(0.3, some.clone()), pool, some).prop_map(
        |(name, families, requested, pool, recorded)| Claim {
            id: id(&format!("c{name}")),
            families,
            requested: requested.unwrap_or_default(),
            pool,
            recorded,
        },
    )
}

fn some_pools() -> [Pool; 3] {
    [
        pool("one", &["10.0.0.0/29", "2001:db8::/126"]),
        pool("two", &["10.0.0.12-10.0.0.17"]),
        manual("three", &["2001:db8::8/126", "10.0.0.20/31"]),
    ]
}

proptest! {
    #[test]
    fn no_address_is_given_twice_nor_outside_its_pool_nor_beyond_the_wish(
        claims in proptest::collection::vec(any_claim(), 0..40)
    ) {
        let pools = some_pools();
        let result = allocate(&pools, &claims);
        let mut given = BTreeSet::new();
        for (id, assignment) in &result.assigned {
            let claim = claims.iter().find(|claim| claim.id == *id).unwrap();
            let pool = pools.iter().find(|pool| pool.name() == assignment.pool).unwrap();
            prop_assert!(!assignment.ips.is_empty());
            let families: BTreeSet<_> = assignment.ips.iter().map(|ip| Family::of(*ip)).collect();
            prop_assert_eq!(families.len(), assignment.ips.len());
            prop_assert!(families.iter().all(|family| claim.families.wanted().contains(family)));
            for ip in &assignment.ips {
                prop_assert!(pool.contains(*ip));
                prop_assert!(given.insert(*ip), "{} was given twice", ip);
            }
        }
        for claim in &claims {
            let severe = result.refused.get(&claim.id)
                .is_some_and(|refused| refused.iter().any(|refusal| refusal.severe));
            prop_assert_ne!(severe, result.assigned.contains_key(&claim.id));
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer_and_what_was_given_stays(
        claims in proptest::collection::vec(any_claim(), 0..40)
    ) {
        let pools = some_pools();
        let first = allocate(&pools, &claims);
        prop_assert_eq!(&first, &allocate(&pools, &claims));
        let mut recorded = claims;
        for claim in &mut recorded {
            claim.recorded = first.assigned.get(&claim.id).map_or_else(Vec::new, |got| got.ips.clone());
        }
        prop_assert_eq!(&allocate(&pools, &recorded).assigned, &first.assigned);
    }

    #[test]
    fn recorded_addresses_stay_in_any_order_of_claims(
        order in Just((0u8..16).collect::<Vec<_>>()).prop_shuffle(),
        asking in proptest::collection::vec(any_claim(), 0..10),
    ) {
        let holders = order.iter().map(|last| {
            recorded(&format!("holder-{last:02}"), &[&format!("10.0.0.{last}")])
        });
        let pools = [pool("all", &["10.0.0.0/24", "2001:db8::/64"])];
        let claims: Vec<_> = asking.into_iter().map(|claim| Claim { recorded: vec![], ..claim })
            .chain(holders).collect();
        let result = allocate(&pools, &claims);
        for last in 0u8..16 {
            prop_assert_eq!(got(&result, &format!("holder-{last:02}")), format!("all:10.0.0.{last}"));
        }
    }
}
