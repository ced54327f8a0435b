//! Allocation rules, in the words of services and pools.

use super::*;
use crate::api::{IpAddressPoolSpec, ServiceAllocation};

mod admission;
mod follow;
mod overlap;
mod properties;
mod quarantine;
mod renumbered;
mod scale;
mod sharing;
mod strangers;

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
    Claim {
        id: id(name),
        tenant: Tenant { namespace: "ns".into(), ..Tenant::default() },
        families,
        requested: vec![],
        pool: None,
        sharing: None,
        recorded: vec![],
    }
}

fn v4(name: &str) -> Claim {
    claim(name, Families::V4)
}

fn quarantined(of: &[(&str, &str)]) -> Quarantined {
    let mut quarantined = Quarantined::new();
    for (ip, former) in of {
        quarantined.entry(ip.parse().unwrap()).or_default().insert(id(former));
    }
    quarantined
}

fn requesting(name: &str, requested: &[&str]) -> Claim {
    Claim { requested: ips(requested), ..v4(name) }
}

fn recorded(name: &str, recorded: &[&str]) -> Claim {
    Claim { recorded: ips(recorded), ..v4(name) }
}

const PREFER: Families = Families::PreferDual { first: Family::V4 };
const REQUIRE: Families = Families::RequireDual { first: Family::V4 };

/// Nothing is quarantined.
fn allocate(pools: &[Pool], claims: &[Claim]) -> Allocation {
    resting(pools, claims, &Quarantined::new())
}

/// No stranger has an address.
fn resting(pools: &[Pool], claims: &[Claim], quarantined: &Quarantined) -> Allocation {
    super::allocate(pools, claims, quarantined, &BTreeSet::new())
}

/// `pool:ip,ip`, `pool:ip+other:ip` or `-`.
fn got(allocation: &Allocation, name: &str) -> String {
    let mut text = String::new();
    let mut last: Option<&Assignment> = None;
    for given in allocation.assigned.get(&id(name)).into_iter().flatten() {
        text += match last {
            Some(last) if last.pool == given.pool => ",".to_owned(),
            Some(_) => format!("+{}:", given.pool),
            None => format!("{}:", given.pool),
        }
        .as_str();
        text += &given.ip.to_string();
        last = Some(given);
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

fn refusal<'a>(allocation: &'a Allocation, name: &str) -> &'a Problem {
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
        assert!(refusal.is_error());
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
        assert!(!refusal.is_error());
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
        assert!(!refusal.is_error(), "{reason}");
    }
}

#[test]
fn what_is_asked_for_in_vain_is_given_to_others() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.3"])];
    let two = requesting("two", &["10.0.0.1", "10.0.0.2"]);
    let result = allocate(&pools, &[v4("a"), v4("b"), two, requesting("one", &["10.0.0.3"])]);
    let got = ["a", "b", "two", "one"].map(|name| got(&result, name));
    assert_eq!(got, ["default:10.0.0.1", "default:10.0.0.2", "-", "default:10.0.0.3"]);
    assert_eq!(refusal(&result, "two").reason, "TooManyAddresses");
}

#[test]
fn a_good_request_moves_the_claim_and_its_old_address_rests() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.2"])];
    let mover = Claim { requested: ips(&["10.0.0.2"]), ..recorded("mover", &["10.0.0.1"]) };
    let result = allocate(&pools, &[requesting("waiting", &["10.0.0.1"]), mover.clone()]);
    assert_eq!(got(&result, "mover"), "default:10.0.0.2");
    assert_eq!(got(&result, "waiting"), "default:10.0.0.1", "it asks for the address by name");
    assert_eq!(result.quarantined, Quarantined::new());
    let result = allocate(&pools, &[v4("waiting"), mover]);
    assert_eq!(got(&result, "waiting"), "-");
    assert_eq!(result.quarantined, quarantined(&[("10.0.0.1", "mover")]));
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
    assert_eq!(
        refusal.message,
        "no pool gives an IPv4 address: pool \"vip\": no free IPv4 address (1 used)"
    );
}

#[test]
fn an_address_that_left_the_pools_is_replaced_and_that_is_said() {
    let pools = [pool("default", &["10.0.0.0/24"])];
    let result = allocate(&pools, &[recorded("web", &["10.5.0.1"])]);
    assert_eq!(got(&result, "web"), "default:10.0.0.0");
    assert_eq!(refusal(&result, "web").reason, "AddressReleased");
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
fn dual_stack_takes_both_addresses_of_one_pool_or_else_of_two() {
    let four = || pool("four", &["10.0.0.0/24"]);
    let six = || pool("six", &["2001:db8::/64"]);
    let both = || pool("both", &["10.1.0.0/24", "2001:db8:1::/64"]);
    let six_first = Families::PreferDual { first: Family::V6 };
    let cases = [
        (PREFER, vec![four(), six(), both()], "both:10.1.0.0,2001:db8:1::1"),
        (six_first, vec![four(), six(), both()], "both:2001:db8:1::1,10.1.0.0"),
        (PREFER, vec![six(), four()], "four:10.0.0.0+six:2001:db8::1"),
        (six_first, vec![four(), six()], "six:2001:db8::1+four:10.0.0.0"),
        (PREFER, vec![six()], "six:2001:db8::1"),
        (PREFER, vec![four()], "four:10.0.0.0"),
        (REQUIRE, vec![four(), both()], "both:10.1.0.0,2001:db8:1::1"),
        (REQUIRE, vec![four(), six()], "four:10.0.0.0+six:2001:db8::1"),
        (REQUIRE, vec![four()], "-"),
        (REQUIRE, vec![six()], "-"),
    ];
    for (families, pools, expected) in cases {
        let result = allocate(&pools, &[claim("dual", families)]);
        assert_eq!(got(&result, "dual"), expected, "{families:?}");
        assert_eq!(result.refused.is_empty(), expected != "-", "{families:?}");
    }
}

#[test]
fn a_dual_stack_claim_keeps_its_address_and_gains_the_second_best_from_the_same_pool() {
    let four = || pool("four", &["10.0.0.0/24"]);
    let six = || pool("six", &["2001:db8:6::/64"]);
    let both = || pool("both", &["10.1.0.0/24", "2001:db8::/64"]);
    for families in [PREFER, REQUIRE] {
        let grows = Claim { recorded: ips(&["10.1.0.9"]), ..claim("grows", families) };
        let joins = Claim { recorded: ips(&["10.0.0.9"]), ..claim("joins", families) };
        let result = allocate(&[six(), four(), both()], &[grows.clone(), joins.clone()]);
        assert_eq!(got(&result, "grows"), "both:10.1.0.9,2001:db8::1");
        assert_eq!(got(&result, "joins"), "four:10.0.0.9+six:2001:db8:6::1");
        // Without a second family anywhere, what there is stays; only a claim that requires two hears of it.
        let result = allocate(&[four()], &[joins]);
        assert_eq!(got(&result, "joins"), "four:10.0.0.9");
        let refused = result.refused.get(&id("joins"));
        assert_eq!(refused.is_some(), families == REQUIRE);
        assert!(refused.is_none_or(|refused| !refused[0].is_error()));
    }
}

#[test]
fn who_prefers_two_families_hears_that_one_ran_out() {
    let pools = [pool("four", &["10.0.0.1/32"]), pool("six", &["2001:db8::/64"])];
    let result = allocate(&pools, &[v4("first"), claim("dual", PREFER)]);
    assert_eq!(got(&result, "dual"), "six:2001:db8::1");
    let refusal = refusal(&result, "dual");
    assert_eq!((refusal.reason, refusal.is_error()), ("PoolExhausted", false));
    assert_eq!(
        refusal.message,
        "no pool gives an IPv4 address: pool \"four\": no free IPv4 address (1 used); \
         pool \"six\": no IPv4 addresses; it has 2001:db8::1 only"
    );
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
    assert_eq!(refusal(&result, "a").reason, "NoPool");
    assert_eq!(refusal(&result, "a").message, "no pool gives an IPv4 address: there is none");
    assert_eq!(refusal(&result, "b").hint, "create an IPAddressPool");
    let six = allocate(&[pool("default", &["10.0.0.0/24"])], &[claim("six", Families::V6)]);
    assert_eq!(
        refusal(&six, "six").message,
        "no pool gives an IPv6 address: pool \"default\": no IPv6 addresses"
    );
    assert_eq!(refusal(&six, "six").field, "families");
}

#[test]
fn the_second_claim_of_one_id_does_not_count() {
    let pools = [pool("default", &["10.0.0.0/24"])];
    let result = allocate(&pools, &[v4("a"), requesting("a", &["10.0.0.9"]), v4("b")]);
    assert_eq!(got(&result, "a"), "default:10.0.0.0");
    assert_eq!(got(&result, "b"), "default:10.0.0.1");
}
