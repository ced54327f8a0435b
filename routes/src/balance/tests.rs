use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    action::ForwardSpec,
    model::{BackendKey, BackendPort, BackendProtocol, BackendSlot, EndpointSet, ExternalName},
    objects::ObjectKey,
    policy::Policy,
    transport::Speaks,
};

fn set(ports: &[u16]) -> EndpointSet {
    let endpoint = |port: &u16| Endpoint {
        speaks: Speaks::Http1,
        address: SocketAddr::from(([10, 0, 0, 1], *port)),
        stats: Arc::default(),
    };
    EndpointSet { endpoints: ports.iter().map(endpoint).collect(), ..EndpointSet::default() }
}

fn forward(weights: &[u16]) -> Forward {
    let backend = |(slot, weight): (usize, &u16)| WeightedBackend {
        slot: BackendSlot(slot as u32),
        key: key(slot),
        weight: *weight,
    };
    let backends = weights.iter().enumerate().map(backend).collect();
    Forward::new(ForwardSpec::of(backends, Policy::of_the_process()))
}

fn key(slot: usize) -> BackendKey {
    BackendKey {
        service: ObjectKey::new("d", format!("s{slot}")),
        port: BackendPort::All,
        protocol: BackendProtocol::Declared,
        whole: false,
    }
}

fn backends(sets: Vec<EndpointSet>) -> BackendTable {
    let backend = |(slot, endpoints): (usize, EndpointSet)| {
        Some(Arc::new(Backend { key: key(slot), endpoints: Arc::new(endpoints) }))
    };
    BackendTable::new(sets.into_iter().enumerate().map(backend).collect())
}

fn counts(forward: &Forward, backends: &BackendTable, requests: u32) -> Vec<usize> {
    let mut counts = vec![0; forward.spec.backends.len()];
    for tick in 0..requests {
        let (backend, index) = pick_service(forward, backends, || tick).unwrap();
        assert_eq!(backend.key, forward.spec.backends[index].key);
        counts[index] += 1;
    }
    counts
}

#[test]
fn weights_hold_exactly_however_many_endpoints_each_service_has() {
    // 99:1 with 1 and 20 endpoints: by endpoint, the canary would get 17 %.
    let twenty: Vec<u16> = (1..=20).collect();
    let table = backends(vec![set(&[1]), set(&twenty)]);
    assert_eq!(counts(&forward(&[99, 1]), &table, 1000), [990, 10]);
}

#[test]
fn services_without_endpoints_or_weight_drop_out_of_the_sum() {
    let table = backends(vec![set(&[1]), set(&[]), set(&[1]), set(&[1])]);
    assert_eq!(counts(&forward(&[30, 100, 10, 0]), &table, 400), [300, 0, 100, 0]);
    assert!(pick_service(&forward(&[0, 100, 0, 0]), &table, || 0).is_none());
}

#[test]
fn an_external_name_counts_as_an_endpoint() {
    let external = Some(ExternalName {
        host: "example.com".into(),
        port: 80,
        speaks: Speaks::Http1,
        loopback: false,
    });
    let table = backends(vec![EndpointSet { external, ..set(&[]) }]);
    let forward = forward(&[1]);
    let (backend, index) = pick_service(&forward, &table, || 0).unwrap();
    assert_eq!(index, 0);
    assert!(pick_endpoint(&backend.endpoints.endpoints, 0, |_| true).is_none());
}

#[test]
fn a_position_is_asked_for_only_where_there_is_a_choice() {
    let table = backends(vec![set(&[1]), set(&[])]);
    let asked = || panic!("there is one backend with endpoints");
    assert!(pick_service(&forward(&[5, 5]), &table, asked).is_some_and(|(_, index)| index == 0));
}

#[test]
fn choices_are_interleaved() {
    let weights = [50, 50];
    let picks: Vec<_> = (0..100).map(|t| pick_weighted(t, weights.into_iter()).unwrap()).collect();
    let longest = picks.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap();
    assert!(longest <= 2, "{longest} in a row of a 50:50 split");
    let rare: Vec<_> =
        (0..200).filter(|t| pick_weighted(*t, [95, 5].into_iter()) == Some(1)).collect();
    assert!(rare.windows(2).all(|w| w[1] - w[0] > 5), "{rare:?}");
}

/// The ports that requests at positions from 0 on come to.
fn ports(set: &EndpointSet, requests: u32, may: impl Fn(u16) -> bool) -> Vec<u16> {
    let pick = |tick| pick_endpoint(&set.endpoints, tick, |endpoint| may(endpoint.address.port()));
    (0..requests).filter_map(|tick| Some(pick(tick)?.address.port())).collect()
}

#[test]
fn endpoints_take_turns() {
    assert_eq!(ports(&set(&[1, 2, 3]), 6, |_| true), [1, 2, 3, 1, 2, 3]);
    assert_eq!(ports(&set(&[]), 3, |_| true), [0; 0]);
}

#[test]
fn endpoints_that_may_not_are_passed_over_and_what_they_leave_is_shared_evenly() {
    let set = set(&[1, 2, 3, 4]);
    assert_eq!(ports(&set, 8, |port| port != 2), [1, 1, 3, 4, 1, 3, 3, 4]);
    // Each second one: remainders of the position itself would always hit the same endpoint.
    let left = ports(&set, 400, |port| port % 2 == 0);
    assert_eq!([2, 4].map(|port| left.iter().filter(|other| **other == port).count()), [200; 2]);
    assert_eq!(ports(&set, 4, |port| port == 3), [3; 4]);
    assert_eq!(ports(&set, 4, |_| false), [0; 0], "the caller decides what then");
}

proptest! {
    #[test]
    fn whatever_endpoints_may_not_the_others_have_equal_shares(
        may in proptest::collection::vec(any::<bool>(), 1..12),
        start in 0..u32::MAX - 200_000,
    ) {
        let every: Vec<u16> = (0..may.len() as u16).collect();
        let (set, left) = (set(&every), may.iter().filter(|may| **may).count());
        let whole = may.len() * left;
        let mut counts = vec![0; may.len()];
        for tick in (start..).take(whole) {
            let may = |endpoint: &Endpoint| may[usize::from(endpoint.address.port())];
            if let Some(endpoint) = pick_endpoint(&set.endpoints, tick, may) {
                counts[usize::from(endpoint.address.port())] += 1;
            }
        }
        for (may, count) in may.iter().zip(&counts) {
            prop_assert_eq!(*count, if *may { whole / left } else { 0 });
        }
    }

    #[test]
    fn any_window_as_long_as_the_sum_is_exact(
        weights in proptest::collection::vec(0..=256u32, 1..5),
        start in 0..u32::MAX - 2000,
    ) {
        let sum: u32 = weights.iter().sum();
        prop_assume!(sum > 0);
        let mut counts = vec![0; weights.len()];
        for tick in start..start + sum {
            counts[pick_weighted(tick, weights.iter().copied()).unwrap()] += 1;
        }
        prop_assert_eq!(counts, weights);
    }

    #[test]
    fn no_weights_make_it_panic(tick: u32, weights in proptest::collection::vec(any::<u32>(), 0..5)) {
        let picked = pick_weighted(tick, weights.iter().copied());
        prop_assert_eq!(picked.is_none(), weights.iter().all(|weight| *weight == 0));
        prop_assert!(picked.is_none_or(|index| weights[index] > 0));
    }
}

#[test]
fn a_split_that_can_be_said_in_smaller_numbers_is_exact_over_those() {
    for (weights, window) in [([80, 20], 5), ([50, 50], 2), ([256, 128], 3)] {
        let sum: u32 = weights.iter().sum();
        for start in 0..20 {
            let first = (start..start + window)
                .filter(|&tick| pick_weighted(tick, weights.iter().copied()) == Some(0))
                .count();
            assert_eq!(first as u32 * sum, window * weights[0], "{weights:?} from {start}");
        }
    }
}
