//! Addresses that hosts outside use.

use super::*;

fn with(pools: &[Pool], claims: &[Claim], occupied: &[&str]) -> Allocation {
    let occupied = ips(occupied).into_iter().collect();
    super::super::allocate(pools, claims, &Quarantined::new(), &occupied)
}

#[test]
fn an_occupied_address_is_replaced_for_claims_that_did_not_ask_for_it() {
    let pools = [pool("p", &["10.0.0.1-10.0.0.3"]), pool("six", &["fd09::/64"])];
    let holder = recorded("web", &["10.0.0.1"]);
    let result = with(&pools, std::slice::from_ref(&holder), &["10.0.0.1"]);
    assert_eq!(got(&result, "web"), "p:10.0.0.2");
    assert!(result.refused.is_empty());
    let asking = Claim { requested: ips(&["10.0.0.1"]), ..holder.clone() };
    assert_eq!(got(&with(&pools, &[asking], &["10.0.0.1"]), "web"), "p:10.0.0.1");
    let new = [requesting("asks", &["10.0.0.1"]), v4("new")];
    let result = with(&pools, &new, &["10.0.0.1"]);
    assert_eq!(got(&result, "asks"), "p:10.0.0.1");
    assert_eq!(got(&result, "new"), "p:10.0.0.2");
    let pinned = Claim { pool: Some("p".into()), ..holder };
    assert_eq!(got(&with(&pools, &[pinned], &["10.0.0.1"]), "web"), "p:10.0.0.2");
    let dual = Claim { recorded: ips(&["10.0.0.1", "fd09::7"]), ..claim("dual", REQUIRE) };
    let result = with(&pools, &[dual], &["fd09::7"]);
    assert_eq!(got(&result, "dual"), "p:10.0.0.1+six:fd09::1", "the other family stays");
}

#[test]
fn an_occupied_address_stays_where_there_is_no_other_and_does_not_come_back() {
    let one = [pool("p", &["10.0.0.1/32"])];
    let result = with(&one, &[recorded("web", &["10.0.0.1"])], &["10.0.0.1"]);
    assert_eq!(got(&result, "web"), "p:10.0.0.1");
    let refusal = refusal(&result, "web");
    assert_eq!((refusal.reason, refusal.is_error()), ("PoolExhausted", false));

    // What it had is quarantined for it, but not given back while a stranger has it.
    let pools = [pool("p", &["10.0.0.1-10.0.0.3"])];
    let rests = quarantined(&[("10.0.0.1", "web")]);
    let occupied = ips(&["10.0.0.1"]).into_iter().collect();
    let result = super::super::allocate(&pools, &[v4("web")], &rests, &occupied);
    assert_eq!(got(&result, "web"), "p:10.0.0.2");
}

#[test]
fn sharers_move_together_but_for_the_one_that_asks() {
    let pools = [pool("p", &["10.0.0.1-10.0.0.3"])];
    let at = |name: &str, port: u16| Claim {
        sharing: Some(Sharing {
            key: "k".into(),
            policy: TrafficPolicy::Cluster,
            ports: BTreeSet::from([("TCP".to_owned(), port)]),
        }),
        ..recorded(name, &["10.0.0.1"])
    };
    let result = with(&pools, &[at("a", 1), at("b", 2)], &["10.0.0.1"]);
    assert_eq!((got(&result, "a"), got(&result, "b")), ("p:10.0.0.2".into(), "p:10.0.0.2".into()));
    let asks = Claim { requested: ips(&["10.0.0.1"]), ..at("a", 1) };
    let result = with(&pools, &[asks, at("b", 2)], &["10.0.0.1"]);
    assert_eq!((got(&result, "a"), got(&result, "b")), ("p:10.0.0.1".into(), "p:10.0.0.2".into()));
}
