//! Pools that have addresses in common.

use super::*;

#[test]
fn pools_that_share_addresses_with_an_older_one_are_named() {
    let mut pools = [
        pool("a", &["10.0.0.0/28", "2001:db8::/126"]),
        pool("b", &["10.0.0.15-10.0.0.40"]),
        pool("c", &["10.0.0.30-10.0.0.50"]),
        pool("d", &["2001:db8::3/128", "10.9.0.0/24"]),
        pool("e", &["10.10.0.0/24"]),
    ];
    let text = |text: &str| text.to_owned();
    assert_eq!(
        part(&mut pools, &[]),
        [
            (text("b"), text("a"), text("10.0.0.15")),
            (text("c"), text("b"), text("10.0.0.30-10.0.0.40")),
            (text("d"), text("a"), text("2001:db8::3")),
        ]
    );
    let having = |ip: &str| {
        let having = pools.iter().filter(|pool| pool.contains(ip.parse().unwrap()));
        having.map(|pool| pool.name().to_owned()).collect::<Vec<_>>()
    };
    for (ip, pool) in [
        ("10.0.0.0", "a"),
        ("10.0.0.15", "a"),
        ("10.0.0.16", "b"),
        ("10.0.0.40", "b"),
        ("10.0.0.41", "c"),
        ("2001:db8::3", "a"),
        ("10.9.0.255", "d"),
        ("10.10.0.1", "e"),
    ] {
        assert_eq!(having(ip), [pool], "{ip}");
    }
    let draining = pools.iter().map(Pool::draining);
    assert_eq!(draining.collect::<Vec<_>>(), [false, true, true, true, false]);
    let mut apart = [pool("a", &["10.0.0.0/28"]), pool("b", &["10.0.0.16/28"])];
    assert_eq!(part(&mut apart, &[]), []);
    assert!(!apart[1].draining());
}

#[test]
fn nobody_loses_an_address_to_an_overlap() {
    let limit = ServiceAllocation { namespaces: vec!["x".into()], ..ServiceAllocation::default() };
    let named = |pool: &str, claim: Claim| Claim { pool: Some(pool.to_owned()), ..claim };
    let claims = [
        recorded("low", &["10.0.0.1"]),
        named("new", recorded("pinned", &["10.0.0.20"])),
        named("old", recorded("other", &["10.0.0.2"])),
        recorded("high", &["10.0.0.30"]),
    ];
    let news = [v4("any"), named("new", v4("asks"))];
    let all = [&claims[..], &news].concat();
    // Of the two, either may be the one that was edited.
    for (old, new, high) in [
        ("10.0.0.0/27", "10.0.0.16/28", "old"),
        ("10.0.0.0/28", "10.0.0.0/27", "new"),
        ("10.0.0.0/27", "10.0.0.0/27", "old"),
    ] {
        let mut pools = [pool("old", &[old]), pool("new", &[new])];
        assert_eq!(part(&mut pools, &all).len(), 1);
        let result = resting(&pools, &all, &Quarantined::new());
        assert_eq!(got(&result, "low"), "old:10.0.0.1");
        assert_eq!(got(&result, "pinned"), "new:10.0.0.20");
        assert_eq!(got(&result, "other"), "old:10.0.0.2");
        assert_eq!(got(&result, "high"), format!("{high}:10.0.0.30"));
        assert_eq!(got(&result, "any"), "old:10.0.0.0");
        assert_eq!(got(&result, "asks"), "-", "the newer one gives nothing");
        let followed = follow(&pools, &claims, &Quarantined::new());
        assert_eq!(followed.assigned[&id("pinned")], result.assigned[&id("pinned")]);
    }
    // The older one does not let them in.
    let mut pools = [allocated("old", &["10.0.0.0/27"], limit), pool("new", &["10.0.0.0/27"])];
    part(&mut pools, &all);
    let result = resting(&pools, &all, &Quarantined::new());
    assert_eq!(got(&result, "low"), "new:10.0.0.1");
    assert_eq!(got(&result, "pinned"), "new:10.0.0.20");
}
