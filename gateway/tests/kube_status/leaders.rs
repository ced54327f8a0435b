//! Who leads, and that no two leaders ever give one address away twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::bed::{Bed, assert_distinct, eventually, ips};

/// Everything that the statuses of a namespace have ever said.
struct History {
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<BTreeMap<String, Vec<BTreeSet<String>>>>,
}

impl History {
    fn record(bed: &Bed) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (client, namespace) = (bed.client.clone(), bed.namespace.clone());
        let until = Arc::clone(&ended);
        let services: Api<k8s_openapi::api::core::v1::Service> =
            Api::namespaced(client, &namespace);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(follow(services, &until))
        });
        Self { ended, thread }
    }

    /// No address has ever been on two Services, and none that a Service had was taken from it.
    fn assert_safe(self) {
        self.ended.store(true, Ordering::Relaxed);
        let history = self.thread.join().unwrap();
        let mut owners: BTreeMap<&String, &String> = BTreeMap::new();
        for (service, states) in &history {
            let mut had = false;
            for state in states {
                assert!(!had || !state.is_empty(), "{service} lost its address: {states:?}");
                had |= !state.is_empty();
            }
            let all: BTreeSet<&String> = states.iter().flatten().collect();
            assert!(all.len() <= 1, "{service} had several addresses: {states:?}");
            for ip in all {
                if let Some(other) = owners.insert(ip, service) {
                    panic!("{ip} was given to {other} and to {service}");
                }
            }
        }
    }
}

async fn follow(
    services: Api<k8s_openapi::api::core::v1::Service>,
    until: &AtomicBool,
) -> BTreeMap<String, Vec<BTreeSet<String>>> {
    let mut history: BTreeMap<String, Vec<BTreeSet<String>>> = BTreeMap::new();
    let params = WatchParams::default();
    let mut events = services.watch(&params, "0").await.unwrap().boxed();
    while !until.load(Ordering::Relaxed) {
        let wait = tokio::time::timeout(Duration::from_millis(200), events.next());
        let Ok(event) = wait.await else { continue };
        let event = event.expect("the watch goes on").expect("the watch goes on");
        if let WatchEvent::Added(service) | WatchEvent::Modified(service) = event {
            let name = service.metadata.name.clone().unwrap();
            history.entry(name).or_default().push(ips(&service));
        }
    }
    history
}

fn all_assigned(bed: &Bed, count: usize) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let all = bed.addresses();
    let assigned = all.values().filter(|ips| !ips.is_empty()).count();
    (assigned >= count).then_some(all)
}

#[test]
fn two_thousand_services_have_distinct_addresses() {
    let bed = Bed::new("many");
    bed.pool("10.20.0.0/20");
    let _gateway = bed.gateway("node-1", &["--lease-duration", "15", "--renew-deadline", "10"]);
    eventually("a node leads", || bed.leader());
    let begun = Instant::now();
    bed.many_services((0..2000).map(|at| format!("s{at}")));
    let created = begun.elapsed();
    let all = eventually("all have an address", || all_assigned(&bed, 2000));
    println!(
        "2000 Services: created in {created:?}, all with addresses after {:?}",
        begun.elapsed()
    );
    assert_distinct(&all);
}

#[test]
fn a_leader_that_is_killed_in_the_middle_gives_nothing_twice() {
    let bed = Bed::new("killed");
    bed.pool("10.21.0.0/20");
    let history = History::record(&bed);
    let mut gateways: BTreeMap<String, _> =
        ["a", "b"].map(|node| (node.to_owned(), bed.gateway(node, &[]))).into();
    let first = eventually("a node leads", || bed.leader());
    for round in 0..2 {
        bed.many_services((0..300).map(|at| format!("r{round}-{at}")));
        eventually("some have an address", || all_assigned(&bed, round * 300 + 20));
        if round == 0 {
            drop(gateways.remove(&first));
        }
    }
    let all = eventually("all have an address", || all_assigned(&bed, 600));
    assert_distinct(&all);
    assert_ne!(eventually("a node leads", || bed.leader()), first);
    history.assert_safe();
}

#[test]
fn a_leader_that_is_paused_and_goes_on_gives_nothing_twice() {
    let bed = Bed::new("paused");
    bed.pool("10.22.0.0/20");
    let history = History::record(&bed);
    let gateways = ["a", "b"].map(|node| bed.gateway(node, &[]));
    let first = eventually("a node leads", || bed.leader());
    let paused = gateways.iter().find(|it| it.node == first).unwrap();
    bed.many_services((0..300).map(|at| format!("one-{at}")));
    eventually("some have an address", || all_assigned(&bed, 20));
    paused.signal(libc::SIGSTOP);
    bed.many_services((0..300).map(|at| format!("two-{at}")));
    eventually("the other one leads", || bed.leader().filter(|it| *it != first));
    paused.signal(libc::SIGCONT);
    // Whoever leads then: one of them may be late with its renewal on a busy machine.
    let all = eventually("all have an address", || all_assigned(&bed, 600));
    assert_distinct(&all);
    history.assert_safe();
}

#[test]
fn a_leader_that_ends_lets_the_next_one_begin_at_once() {
    let bed = Bed::new("handed");
    bed.pool("10.23.0.0/20");
    let more = ["--lease-duration", "600", "--renew-deadline", "500", "--drain-timeout", "0"];
    let mut gateways = ["a", "b"].map(|node| bed.gateway(node, &more));
    let first = eventually("a node leads", || bed.leader());
    bed.service("one", json!({}));
    eventually("it has an address", || all_assigned(&bed, 1));
    let leader = gateways.iter_mut().find(|it| it.node == first).unwrap();
    leader.signal(libc::SIGTERM);
    leader.ends();
    eventually("the other one leads", || bed.leader().filter(|it| *it != first));
    bed.service("two", json!({}));
    assert_distinct(&eventually("both have an address", || all_assigned(&bed, 2)));
}

/// Whoever was to remove its finalizer may be long gone: a controller that was uninstalled.
#[test]
fn a_service_that_is_never_gone_keeps_its_address_and_no_leader_from_allocating() {
    let bed = Bed::new("stuck");
    bed.pool("10.25.0.0/30");
    let finalizers = |names: &[&str]| {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": names } }));
        let (services, params) = (bed.services(), PatchParams::default());
        bed.runtime.block_on(services.patch("stuck", &params, &patch)).unwrap();
    };
    let gateway = bed.gateway("node-1", &[]);
    for name in ["stuck", "waits"] {
        bed.service(name, json!({}));
    }
    let before = eventually("both have an address", || all_assigned(&bed, 2));
    finalizers(&["test.example/wait"]);
    for name in ["stuck", "waits"] {
        let services = bed.services();
        bed.runtime.block_on(services.delete(name, &Default::default())).unwrap();
    }
    drop(gateway);
    let _gateway = bed.gateway("node-2", &[]);
    // As many as there are addresses left, and one more.
    for name in ["a", "b", "c", "d"] {
        bed.service(name, json!({}));
    }
    let others = |all: &BTreeMap<String, BTreeSet<String>>| {
        all.iter().filter(|(name, ips)| *name != "stuck" && !ips.is_empty()).count()
    };
    eventually("three have an address", || (others(&bed.addresses()) == 3).then_some(()));
    thread::sleep(Duration::from_secs(2));
    let all = bed.addresses();
    assert_eq!((&all["stuck"], others(&all)), (&before["stuck"], 3), "{all:?}");
    assert_distinct(&all);
    finalizers(&[]);
    eventually("it is gone, and the last one has an address", || all_assigned(&bed, 4));
}

/// Each with a Lease of its own: one for the inside, one for the outside.
#[test]
fn gateways_of_two_classes_leave_each_other_their_addresses() {
    let bed = Bed::new("classes");
    bed.pool("10.26.0.0/24");
    let history = History::record(&bed);
    let of = |node: &str, class: &str| {
        bed.gateway(node, &["--lease-name", node, "--load-balancer-class", class])
    };
    let _inside = of("inside", "example.com/inside");
    bed.service("inside", json!({ "loadBalancerClass": "example.com/inside" }));
    eventually("it has an address", || all_assigned(&bed, 1));
    let _outside = of("outside", "example.com/outside");
    bed.service("outside", json!({ "loadBalancerClass": "example.com/outside" }));
    eventually("both have an address", || all_assigned(&bed, 2));
    thread::sleep(Duration::from_secs(3));
    assert_distinct(&eventually("both have it still", || all_assigned(&bed, 2)));
    history.assert_safe();
}

#[test]
fn who_loses_the_lease_writes_nothing_more() {
    let bed = Bed::new("lost");
    bed.pool("10.24.0.0/20");
    let _gateway = bed.gateway("node-1", &[]);
    eventually("a node leads", || bed.leader());
    bed.service("before", json!({}));
    eventually("it has an address", || all_assigned(&bed, 1));
    let steal = |holder: &str, turn: i32| {
        let spec = json!({ "holderIdentity": holder, "leaseTransitions": turn, "leaseDurationSeconds": 4 });
        let (params, patch) = (PatchParams::default(), Patch::Merge(json!({ "spec": spec })));
        let api: Api<Lease> = bed.leases();
        bed.runtime.block_on(api.patch("gatehouse", &params, &patch)).unwrap();
    };
    steal("stranger_1", 100);
    // Longer than it may go on without a renewal.
    for turn in 0..10 {
        thread::sleep(Duration::from_millis(500));
        steal("stranger_1", 101 + turn);
    }
    bed.service("after", json!({}));
    for turn in 0..6 {
        thread::sleep(Duration::from_millis(500));
        steal("stranger_1", 200 + turn);
        assert!(all_assigned(&bed, 2).is_none(), "it has no right to write");
    }
    steal("", 300);
    assert_distinct(&eventually("both have an address", || all_assigned(&bed, 2)));
    assert_eq!(bed.leader().as_deref(), Some("node-1"));
}

#[test]
fn a_leader_that_has_nothing_to_do_rests() {
    let bed = Bed::new("idle");
    let gateway = bed.gateway("node-1", &[]);
    eventually("a node leads", || bed.leader());
    // Longer than a term without a renewal lasts.
    thread::sleep(Duration::from_secs(4));
    let before = gateway.status_cpu();
    thread::sleep(Duration::from_secs(4));
    let used = gateway.status_cpu() - before;
    assert!(used < Duration::from_secs(1), "{used:?} of CPU time in 4 s");
}
