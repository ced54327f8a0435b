//! Pools that get other addresses: who is served first.

use super::*;

fn pinned(name: &str, pool: &str) -> Claim {
    Claim { pool: Some(pool.into()), ..v4(name) }
}

#[test]
fn a_claim_that_held_an_address_goes_before_all_that_wait_however_they_ask() {
    let before = [pool("p", &["10.0.0.1/32"])];
    let after = [pool("p", &["10.0.0.2/32"])];
    for waiting in [v4("waiting"), pinned("waiting", "p"), requesting("waiting", &["10.0.0.2"])] {
        let claims = [waiting.clone(), recorded("working", &["10.0.0.1"])];
        assert_eq!(got(&allocate(&before, &claims), "working"), "p:10.0.0.1");
        let result = allocate(&after, &claims);
        assert_eq!(got(&result, "working"), "p:10.0.0.2", "{waiting:?}");
        assert_eq!(got(&result, "waiting"), "-");
        assert_eq!(refusal(&result, "working").reason, "AddressReleased");
        assert!(!refusal(&result, "working").is_error());
    }
}

#[test]
fn a_pool_that_is_gone_for_one_save_and_comes_back_renumbered_serves_former_holders_first() {
    let without = allocate(&[], &[v4("waiting"), recorded("working", &["10.0.0.1"])]);
    let back = resting(
        &[pool("p", &["10.0.0.2/32"])],
        &[v4("waiting"), v4("working")],
        &without.quarantined,
    );
    assert_eq!(got(&back, "working"), "p:10.0.0.2");
}

#[test]
fn what_others_ask_for_by_name_is_left_to_them_while_there_is_anything_else() {
    let after = [pool("p", &["10.0.0.2-10.0.0.4"])];
    let claims = [
        requesting("waiting", &["10.0.0.2"]),
        recorded("first", &["10.0.0.1"]),
        recorded("second", &["10.0.9.1"]),
    ];
    let result = allocate(&after, &claims);
    let all = ["waiting", "first", "second"].map(|name| got(&result, name));
    assert_eq!(all, ["p:10.0.0.2", "p:10.0.0.3", "p:10.0.0.4"]);
    // What cannot be had is not kept free for a Service that asks for it.
    let elsewhere = Claim { pool: Some("q".into()), ..requesting("waiting", &["10.0.0.2"]) };
    let result = allocate(&after, &[elsewhere, recorded("first", &["10.0.0.1"])]);
    assert_eq!(got(&result, "first"), "p:10.0.0.2");
}

#[test]
fn a_family_that_was_lost_comes_before_claims_that_wait_for_one() {
    let after = [pool("four", &["10.0.0.0/24"]), pool("six", &["2001:db8::9/128"])];
    let dual = Claim { recorded: ips(&["10.0.0.9", "2001:db8::1"]), ..claim("dual", PREFER) };
    let result = allocate(&after, &[claim("waiting", Families::V6), dual]);
    assert_eq!(got(&result, "dual"), "four:10.0.0.9+six:2001:db8::9");
    assert_eq!(got(&result, "waiting"), "-");
}

#[test]
fn services_that_shared_an_address_share_the_new_one() {
    let sharing = |name: &str, port: u16| Claim {
        sharing: Some(Sharing {
            key: "k".into(),
            policy: TrafficPolicy::Cluster,
            ports: BTreeSet::from([("TCP".to_owned(), port)]),
        }),
        ..recorded(name, &["10.0.0.1"])
    };
    let claims = [v4("waiting"), sharing("a", 80), sharing("b", 443)];
    let result = allocate(&[pool("p", &["10.0.0.2/32"])], &claims);
    let all = ["waiting", "a", "b"].map(|name| got(&result, name));
    assert_eq!(all, ["-", "p:10.0.0.2", "p:10.0.0.2"]);
}

#[test]
fn what_was_given_up_is_still_said_when_a_second_attempt_gives_everything() {
    // "moves" had an address of a pool that is gone, and asks for what "leaves" is about to leave.
    let pools = [pool("p", &["10.0.0.1-10.0.0.2"])];
    let moves = Claim { requested: ips(&["10.0.0.1"]), ..recorded("moves", &["10.0.9.9"]) };
    let leaves = Claim { requested: ips(&["10.0.0.2"]), ..recorded("leaves", &["10.0.0.1"]) };
    let result = allocate(&pools, &[moves, leaves]);
    assert_eq!(
        (got(&result, "moves"), got(&result, "leaves")),
        ("p:10.0.0.1".into(), "p:10.0.0.2".into())
    );
    let reasons: Vec<_> = result.refused[&id("moves")].iter().map(|it| it.reason).collect();
    assert_eq!(reasons, ["AddressReleased"]);
    assert!(!result.refused.contains_key(&id("leaves")));
}
