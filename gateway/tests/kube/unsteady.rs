//! Watches that break all the time, and an API server that hangs instead of going away.

use std::{
    thread,
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::gateway::{Gateway, Plan},
    wait::{comes_true, eventually},
};
use tempfile::TempDir;

use crate::{
    bed::{Bed, Load, answers, ingress, service},
    way::Way,
};

/// Longest that a process which starts beside a hanging API server may take, however busy the machine is.
const START: Duration = Duration::from_secs(30);

#[test]
fn watches_that_break_change_nothing() {
    let bed = Bed::new();
    bed.namespace("app", &bed.one);
    bed.apply("app", &ingress("web", "app.test", ""));
    let way = Way::to(&bed.cluster);
    let state = TempDir::new().unwrap();
    let plan = || Plan::default().kubeconfig(way.kubeconfig()).state_dir(state.path());
    let gateway = plan().start();
    answers(&gateway, "app.test", "one");
    let load = Load::start(gateway.http, "app.test");

    // What is told again is what was told before: no new configuration.
    let before = settled(&gateway);
    let watches = watches(&gateway);
    for _ in 0..8 {
        // Who fails again and again waits longer each time.
        assert!(comes_true(|| way.cut() > 0), "nobody watches");
        thread::sleep(Duration::from_secs(1));
    }
    assert!(self::watches(&gateway) > watches + 10, "the watches did not break");
    assert_eq!(generation(&gateway), before);
    // One that has forgotten what it told (410 Gone): lists are told anew.
    bed.cluster.api_server().restart().unwrap();
    bed.apply("app", &ingress("marker", "marker.test", ""));
    answers(&gateway, "marker.test", "one");
    assert_eq!(generation(&gateway), before + 1, "for the new Ingress, and for nothing else");
    // What changes meanwhile is not missed.
    for backend in [&bed.two, &bed.one].into_iter().cycle().take(8) {
        bed.apply("app", &service(backend));
        way.cut();
        answers(&gateway, "app.test", &backend.name);
    }

    // It hangs: connections stay, and nothing comes.
    bed.cluster.api_server().pause();
    thread::sleep(Duration::from_secs(5));
    let begun = Instant::now();
    let second = plan().start();
    let took = begun.elapsed();
    println!("ready {took:?} after the start beside an API server that hangs");
    assert!(took < START, "{took:?}");
    answers(&second, "app.test", "one");
    let other = Load::start(second.http, "app.test");
    thread::sleep(Duration::from_secs(5));
    bed.cluster.api_server().resume();
    bed.apply("app", &service(&bed.two));
    answers(&gateway, "app.test", "two");
    answers(&second, "app.test", "two");
    let fresh = || !second.page("/readyz").contains("stale");
    assert!(comes_true(fresh), "{}", second.page("/readyz"));
    load.end();
    other.end();
}

fn generation(gateway: &Gateway) -> u64 {
    let page: serde_json::Value = serde_json::from_str(&gateway.page("/status")).unwrap();
    page["generation"].as_u64().unwrap()
}

/// The generation when nothing is written any more that would change it.
fn settled(gateway: &Gateway) -> u64 {
    eventually("nothing changes any more", || {
        let before = generation(gateway);
        thread::sleep(Duration::from_secs(1));
        let now = generation(gateway);
        if now == before { Ok(now) } else { Err(format!("{before}, then {now}")) }
    })
}

/// How many watches have begun.
fn watches(gateway: &Gateway) -> u64 {
    let metrics = gateway.page("/metrics");
    let begun = "gatehouse_api_requests_total{verb=\"watch\",code=\"200\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(begun));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}
