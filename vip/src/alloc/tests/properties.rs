//! Promises of the allocator, over arbitrary claims.

use proptest::prelude::*;

use super::*;
use crate::api::LabelSelector;

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
    let sharing = proptest::option::weighted(0.5, (0u8..2, 0u8..2, 0u16..4)).prop_map(|sharing| {
        let (key, policy, port) = sharing?;
        let policy = match policy {
            0 => TrafficPolicy::Cluster,
            _ => TrafficPolicy::Local(BTreeMap::new()),
        };
        let ports = BTreeSet::from([("TCP".to_owned(), port)]);
        Some(Sharing { key: key.to_string(), policy, ports })
    });
    let namespace = prop_oneof![Just("a"), Just("b")];
    let requested = proptest::option::weighted(0.3, some.clone());
    (0u8..30, families, requested, pool, sharing, namespace, some).prop_map(
        |(name, families, requested, pool, sharing, namespace, recorded)| Claim {
            id: id(&format!("c{name}")),
            tenant: Tenant { namespace: namespace.into(), ..Tenant::default() },
            families,
            requested: requested.unwrap_or_default(),
            pool,
            sharing,
            recorded,
        },
    )
}

fn any_quarantined() -> impl Strategy<Value = Quarantined> {
    proptest::collection::btree_map(0u8..24, 0u8..40, 0..6).prop_map(|quarantined| {
        let entry = |(last, name): (u8, u8)| {
            (IpAddr::from([10, 0, 0, last]), BTreeSet::from([id(&format!("c{name}"))]))
        };
        quarantined.into_iter().map(entry).collect()
    })
}

fn some_pools() -> [Pool; 4] {
    let limit = ServiceAllocation {
        namespaces: vec!["a".into()],
        namespace_selectors: vec![LabelSelector {
            match_labels: BTreeMap::from([("no".into(), "such".into())]),
            ..LabelSelector::default()
        }],
        ..ServiceAllocation::default()
    };
    [
        pool("one", &["10.0.0.0/29", "2001:db8::/126"]),
        pool("two", &["10.0.0.12-10.0.0.17"]),
        manual("three", &["2001:db8::8/126", "10.0.0.20/31"]),
        allocated("four", &["10.0.0.22-10.0.0.23"], limit),
    ]
}

/// Claims that hold one address must all allow it.
fn may_share(one: &Claim, other: &Claim) -> bool {
    let (Some(one), Some(other)) = (&one.sharing, &other.sharing) else { return false };
    one.key == other.key && one.policy == other.policy && one.ports.is_disjoint(&other.ports)
}

/// The claims as they come back the next time.
fn recorded_as(result: &Allocation, claims: &[Claim]) -> Vec<Claim> {
    let recorded = |claim: &Claim| Claim {
        recorded: result.assigned.get(&claim.id).into_iter().flatten().map(|got| got.ip).collect(),
        ..claim.clone()
    };
    claims.iter().map(recorded).collect()
}

proptest! {
    #[test]
    fn no_address_is_given_outside_its_pool_nor_beyond_the_wish_nor_twice_unless_shared(
        claims in proptest::collection::vec(any_claim(), 0..40), quarantined in any_quarantined(),
    ) {
        let pools = some_pools();
        let result = resting(&pools, &claims, &quarantined);
        let mut holders: BTreeMap<IpAddr, Vec<&Claim>> = BTreeMap::new();
        for (id, assigned) in &result.assigned {
            let claim = claims.iter().find(|claim| claim.id == *id).unwrap();
            prop_assert!(!assigned.is_empty());
            let families: BTreeSet<_> = assigned.iter().map(|got| Family::of(got.ip)).collect();
            prop_assert_eq!(families.len(), assigned.len());
            prop_assert!(families.iter().all(|family| claim.families.wanted().contains(family)));
            for Assignment { ip, pool } in assigned {
                let pool = pools.iter().find(|candidate| candidate.name() == &**pool).unwrap();
                prop_assert!(pool.contains(*ip));
                prop_assert_eq!(pool.admits(&claim.tenant), Ok(()));
                prop_assert!(!result.quarantined.contains_key(ip));
                holders.entry(*ip).or_default().push(claim);
            }
        }
        for (ip, former) in &quarantined {
            let kept = claims.iter().any(|claim| claim.recorded.contains(ip));
            let asks = |claim: &&Claim| former.contains(&claim.id) || claim.requested.contains(ip);
            let asked = |holders: &Vec<&Claim>| holders.iter().any(asks);
            let taken = holders.get(ip).is_some_and(|holders| !asked(holders));
            prop_assert!(kept || !taken, "{} rests for others", ip);
        }
        for (ip, claims) in holders {
            for (index, one) in claims.iter().enumerate() {
                prop_assert!(claims[..index].iter().all(|other| may_share(one, other)), "{}", ip);
            }
        }
        for claim in &claims {
            let severe = result.refused.get(&claim.id)
                .is_some_and(|refused| refused.iter().any(|refusal| refusal.is_error()));
            prop_assert_ne!(severe, result.assigned.contains_key(&claim.id));
        }
        for used in usage(&pools, &result) {
            let pool = pools.iter().find(|pool| pool.name() == used.pool).unwrap();
            let v4 = used.assigned_v4 + used.available_v4 + used.quarantined_v4;
            let v6 = used.assigned_v6 + used.available_v6 + used.quarantined_v6;
            prop_assert_eq!((v4, v6), (pool.size(Family::V4), pool.size(Family::V6)));
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer_and_nothing_is_left_for_the_next_time(
        claims in proptest::collection::vec(any_claim(), 0..40), quarantined in any_quarantined(),
    ) {
        let pools = some_pools();
        let first = resting(&pools, &claims, &quarantined);
        prop_assert_eq!(&first, &resting(&pools, &claims, &quarantined));
        let recorded = recorded_as(&first, &claims);
        let second = resting(&pools, &recorded, &first.quarantined);
        prop_assert_eq!(&second.assigned, &first.assigned);
        prop_assert_eq!(&second.quarantined, &first.quarantined);
    }

    #[test]
    fn whoever_comes_and_goes_nobody_else_is_moved(
        claims in proptest::collection::vec(any_claim(), 0..20),
        more in proptest::collection::vec(any_claim(), 0..20),
        gone in 0usize..20,
    ) {
        let pools = some_pools();
        let mut seen = BTreeSet::new();
        let mut claims = claims;
        claims.retain(|claim| seen.insert(claim.id.clone()));
        let first = allocate(&pools, &claims);
        let mut after = more;
        after.retain(|claim| claims.iter().all(|known| known.id != claim.id));
        after.iter_mut().for_each(|claim| claim.recorded.clear());
        after.extend(recorded_as(&first, &claims).into_iter().skip(gone));
        let second = resting(&pools, &after, &first.quarantined);
        for (id, held) in &first.assigned {
            let claim = claims.iter().find(|claim| claim.id == *id).unwrap();
            let stays = after.iter().any(|after| after.id == *id);
            // A claim that still asks for something else may get it now; no other claim loses anything.
            if stays && !first.refused.contains_key(id) && claim.families.wanted().len() == held.len() {
                prop_assert_eq!(second.assigned.get(id), Some(held));
            }
        }
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
