//! What becomes of an address that was let go.

use super::*;

#[test]
fn an_address_that_was_let_go_is_not_given_to_others_but_to_its_former_holder() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.3"])];
    let quarantined = quarantined(&[("10.0.0.1", "gone")]);
    let result = resting(&pools, &[v4("new")], &quarantined);
    assert_eq!(got(&result, "new"), "default:10.0.0.2");
    assert_eq!(result.quarantined, quarantined, "it stays quarantined");

    // The one that held it is back, behind the new one in the order of age.
    let result = resting(&pools, &[v4("new"), v4("gone")], &quarantined);
    assert_eq!(got(&result, "new"), "default:10.0.0.2");
    assert_eq!(got(&result, "gone"), "default:10.0.0.1");
    assert_eq!(result.quarantined, Quarantined::new());
}

#[test]
fn a_former_holder_that_wants_another_address_now_gets_that() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.9"]), pool("other", &["10.9.0.0/24"])];
    let quarantined = quarantined(&[("10.0.0.1", "back")]);
    let there = Claim { pool: Some("other".into()), ..v4("back") };
    for (claim, expected) in [
        (requesting("back", &["10.0.0.7"]), "default:10.0.0.7"),
        (there, "other:10.9.0.0"),
        (requesting("back", &["10.0.0.1"]), "default:10.0.0.1"),
    ] {
        let result = resting(&pools, &[claim], &quarantined);
        assert_eq!(got(&result, "back"), expected);
        assert!(result.refused.is_empty());
    }
    // What it wants cannot be had: that is no reason to give it what it did not ask for.
    let result = resting(&pools, &[requesting("back", &["10.5.0.1"])], &quarantined);
    assert_eq!(got(&result, "back"), "-");
}

#[test]
fn a_claim_that_asks_for_an_address_by_name_does_not_wait_until_it_has_rested() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.3"])];
    let rests = quarantined(&[("10.0.0.1", "old-name")]);
    let renamed = requesting("new-name", &["10.0.0.1"]);
    let result = resting(&pools, &[v4("any"), renamed.clone()], &rests);
    assert_eq!(got(&result, "new-name"), "default:10.0.0.1");
    assert_eq!(got(&result, "any"), "default:10.0.0.2", "it asks for nothing, so it waits");
    assert!(result.refused.is_empty() && result.quarantined.is_empty());
    // Within one save, and to a claim that has another one already.
    let renamed = Claim { recorded: ips(&["10.0.0.2"]), ..renamed };
    let result = resting(&pools, std::slice::from_ref(&renamed), &rests);
    assert_eq!(got(&result, "new-name"), "default:10.0.0.1");
    // A former holder that is there takes it first.
    let result = resting(&pools, &[renamed, v4("old-name")], &rests);
    assert_eq!(got(&result, "old-name"), "default:10.0.0.1");
    assert_eq!(refusal(&result, "new-name").reason, "AddressInUse");
}

#[test]
fn a_full_pool_says_how_many_of_its_addresses_are_quarantined() {
    let pools = [pool("default", &["10.0.0.1-10.0.0.3"])];
    let quarantined = quarantined(&[("10.0.0.1", "gone"), ("10.0.0.2", "gone")]);
    let claims = [recorded("web", &["10.0.0.3"]), v4("new")];
    let result = resting(&pools, &claims, &quarantined);
    assert_eq!(
        refusal(&result, "new").message,
        "no pool gives an IPv4 address: \
         pool \"default\": no free IPv4 address (1 used, 2 rest)"
    );
    assert_eq!(refusal(&result, "new").reason, "PoolExhausted");
}

#[test]
fn a_pool_that_is_missing_for_one_save_costs_nobody_the_address() {
    let good = [pool("default", &["10.0.0.1-10.0.0.9"])];
    let bad = [pool("default", &["10.9.0.1-10.9.0.9"])];
    let sharing = |name: &str, port: u16, ips: &[&str]| Claim {
        sharing: Some(Sharing {
            key: "k".into(),
            policy: TrafficPolicy::Cluster,
            ports: BTreeSet::from([("TCP".to_owned(), port)]),
        }),
        ..recorded(name, ips)
    };
    let claims = [
        recorded("a", &["10.0.0.7"]),
        sharing("b", 25, &["10.0.0.8"]),
        sharing("c", 80, &["10.0.0.8"]),
    ];
    let without = allocate(&[], &claims);
    assert_eq!(without.assigned, BTreeMap::new());
    let expected = [("10.0.0.7", "a"), ("10.0.0.8", "b"), ("10.0.0.8", "c")];
    assert_eq!(without.quarantined, quarantined(&expected));

    let nothing = [v4("new"), v4("a"), sharing("b", 25, &[]), sharing("c", 80, &[])];
    let back = resting(&good, &nothing, &without.quarantined);
    assert_eq!(got(&back, "a"), "default:10.0.0.7");
    assert_eq!(got(&back, "b"), "default:10.0.0.8");
    assert_eq!(got(&back, "c"), "default:10.0.0.8", "both former holders of a shared address");

    // Meanwhile they may have got others; those stay.
    let elsewhere = resting(&bad, &nothing, &without.quarantined);
    assert_eq!(got(&elsewhere, "a"), "default:10.9.0.1");
    assert_eq!(elsewhere.quarantined, without.quarantined);
}

#[test]
fn addresses_of_a_family_that_is_not_wanted_any_more_rest() {
    let pools = [pool("both", &["10.1.0.0/24", "2001:db8::/64"])];
    let single = recorded("web", &["10.1.0.9", "2001:db8::77"]);
    let result = allocate(&pools, &[single]);
    assert_eq!(got(&result, "web"), "both:10.1.0.9");
    assert_eq!(result.quarantined, quarantined(&[("2001:db8::77", "web")]));
    assert!(result.refused.is_empty());
}

#[test]
fn usage_counts_shared_addresses_once_and_ipv6_exactly() {
    let full = pool("both", &["10.1.0.0/30", "2001:db8::/64"]);
    let empty = pool("empty", &["10.2.0.0/24"]).drained(true);
    let sharing = |port: u16| {
        let ports = BTreeSet::from([("TCP".to_owned(), port)]);
        Some(Sharing { key: "k".into(), policy: TrafficPolicy::Cluster, ports })
    };
    let claims = [
        claim("dual", REQUIRE),
        Claim { sharing: sharing(1), ..v4("one") },
        Claim { sharing: sharing(2), ..v4("two") },
    ];
    let pools = [full, empty];
    let result = resting(&pools, &claims, &quarantined(&[("10.1.0.3", "x"), ("10.7.0.1", "x")]));
    let usage = usage(&pools, &result);
    assert_eq!(
        usage[0],
        PoolUsage {
            pool: "both".into(),
            assigned_v4: 2,
            assigned_v6: 1,
            available_v4: 1,
            available_v6: (1 << 64) - 1,
            quarantined_v4: 1,
            quarantined_v6: 0,
            draining: false,
        }
    );
    assert_eq!((usage[1].available_v4, usage[1].draining), (256, true));
}
