use proptest::prelude::*;

use super::*;
use crate::{
    action::ForwardSpec,
    model::{BackendKey, BackendPort, BackendSlot, ExternalName},
    objects::ObjectKey,
};

fn set(ports: &[u16]) -> EndpointSet {
    let endpoint = |port: &u16| Endpoint {
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
    Forward::new(ForwardSpec { backends })
}

fn key(slot: usize) -> BackendKey {
    BackendKey { service: ObjectKey::new("d", format!("s{slot}")), port: BackendPort::All }
}

fn backends(sets: Vec<EndpointSet>) -> BackendTable {
    let backend = |(slot, endpoints): (usize, EndpointSet)| {
        Some(Arc::new(Backend { key: key(slot), endpoints: Arc::new(endpoints) }))
    };
    BackendTable { slots: sets.into_iter().enumerate().map(backend).collect() }
}

fn counts(forward: &Forward, backends: &BackendTable, requests: usize) -> Vec<usize> {
    let mut counts = vec![0; forward.spec.backends.len()];
    for _ in 0..requests {
        let (backend, index) = pick_service(forward, backends).unwrap();
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
    assert!(pick_service(&forward(&[0, 100, 0, 0]), &table).is_none());
}

#[test]
fn an_external_name_counts_as_an_endpoint() {
    let external = Some(ExternalName { host: "example.com".into(), port: 80, loopback: false });
    let table = backends(vec![EndpointSet { external, ..set(&[]) }]);
    let forward = forward(&[1]);
    let (backend, index) = pick_service(&forward, &table).unwrap();
    assert_eq!(index, 0);
    assert!(pick_endpoint(&backend.endpoints).is_none());
}

#[test]
fn the_counter_moves_only_where_there_is_a_choice() {
    let table = backends(vec![set(&[1]), set(&[])]);
    let alone = forward(&[5, 5]);
    counts(&alone, &table, 10);
    assert_eq!(alone.tick.load(Ordering::Relaxed), 0);
    let single = set(&[1]);
    assert!(pick_endpoint(&single).is_some());
    assert_eq!(single.tick.load(Ordering::Relaxed), 0);
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

#[test]
fn endpoints_take_turns() {
    let set = set(&[1, 2, 3]);
    let ports: Vec<_> = (0..6).map(|_| pick_endpoint(&set).unwrap().address.port()).collect();
    assert_eq!(ports, [1, 2, 3, 1, 2, 3]);
    assert!(pick_endpoint(&EndpointSet::default()).is_none());
}

#[test]
fn a_retry_goes_elsewhere_if_there_is_an_elsewhere() {
    let failed = SocketAddr::from(([10, 0, 0, 1], 2));
    let several = set(&[1, 2, 3]);
    for _ in 0..9 {
        assert_ne!(pick_endpoint_excluding(&several, failed).unwrap().address, failed);
    }
    assert_eq!(pick_endpoint_excluding(&set(&[2]), failed).unwrap().address, failed);
    assert!(pick_endpoint_excluding(&set(&[]), failed).is_none());
}

proptest! {
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
