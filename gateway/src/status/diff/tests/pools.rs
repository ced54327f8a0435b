//! Without any pool, for a moment or for longer.

use super::*;

/// The only pool is replaced, or the kind is installed anew.
#[test]
fn pools_that_are_missing_for_a_moment_change_nothing() {
    let mut leader = Leader::default();
    let a = service("a", 1, ", ipFamilies: [IPv4]", &address("192.168.1.200"));
    assert_eq!(leader.sees(&format!("{POOL}{a}")), []);
    assert_eq!(leader.sees(&a), [], "the address rests");
    assert_eq!(leader.sees(&format!("{POOL}{a}")), []);
    assert_eq!(leader.sees(&a), []);
    assert_eq!(one(leader.sees(&a)).how, How::GiveUp, "it has rested long enough");

    let mut leader = Leader::default();
    let web = ingress("gatehouse", "loadBalancer: {ingress: [{ip: 192.168.1.200}]}");
    let without = web.replace(POOL, "");
    assert_eq!(leader.sees(&web), []);
    assert_eq!(leader.sees(&without), []);
    let given_up = leader.sees(&without);
    assert_eq!(given_up.len(), 2);
    assert!(given_up.iter().all(|patch| patch.how == How::GiveUp));
}

/// The only pool is being replaced while it starts, or the kind is told late.
#[test]
fn a_leader_that_starts_without_pools_leaves_what_is_recorded_for_as_long() {
    let a = service("a", 1, ", ipFamilies: [IPv4]", &address("192.168.1.200"));
    let web = ingress("gatehouse", "loadBalancer: {ingress: [{ip: 192.168.1.200}]}");
    let without = web.replace(POOL, "");
    let starts = |objects: &[(&'static str, &str)]| {
        let of = |(kind, name): &(&'static str, &str)| {
            let (namespace, name) = name.split_once('/').unwrap_or(("shop", name));
            ObjectRef::new(kind, ObjectKey::new(namespace, name))
        };
        let differ = Differ::written_before(objects.iter().map(of).collect(), BTreeSet::new());
        Leader { differ, ..Leader::default() }
    };
    let mut leader = starts(&[("Service", "a")]);
    assert_eq!(leader.sees(&a), [], "the address rests");
    assert_eq!(leader.sees(&format!("{POOL}{a}")), []);
    let mut leader = starts(&[("Service", "a")]);
    assert_eq!(leader.sees(&a), []);
    assert_eq!(one(leader.sees(&a)).how, How::GiveUp, "it has rested long enough");
    let mut leader = starts(&[("Service", "gatehouse/gateway"), ("Ingress", "web")]);
    assert_eq!(leader.sees(&without), []);
    assert_eq!(leader.sees(&without).len(), 2);
}
