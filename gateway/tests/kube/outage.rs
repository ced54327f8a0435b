//! An API server that is away, comes back, and has forgotten what it told.

use std::time::{Duration, Instant};

use gatehouse_testbed::{
    gatehouse::{gateway::Plan, manifests, tls},
    wait::comes_true,
};
use tempfile::TempDir;

use crate::bed::{Bed, Load, answers, ingress, service, shows};

#[test]
fn an_api_server_that_goes_and_comes_costs_no_request() {
    let bed = Bed::new();
    bed.namespace("app", &bed.one);
    let pair = tls::certificate(&["tls.test"]);
    bed.apply("app", &manifests::secret("pair", &pair));
    bed.apply("app", &ingress("web", "app.test", ""));
    bed.apply("app", &ingress("tls", "tls.test", "{hosts: [tls.test], secretName: pair}"));
    let state = TempDir::new().unwrap();
    let plan = || Plan::default().kubeconfig(bed.cluster.kubeconfig()).state_dir(state.path());
    let gateway = plan().start();
    answers(&gateway, "app.test", "one");
    let load = Load::start(gateway.http, "app.test");

    // A restarted one does not know what it told: every list is told anew.
    for backend in [&bed.two, &bed.one] {
        bed.cluster.api_server().restart().unwrap();
        bed.apply("app", &service(backend));
        answers(&gateway, "app.test", &backend.name);
    }

    bed.cluster.api_server().stop();
    shows(&gateway, "/readyz", "stale");
    std::thread::sleep(Duration::from_secs(5));
    shows(&gateway, "/status", "unwatched");
    let metrics = gateway.page("/metrics");
    assert!(!metrics.contains("gatehouse_source_stale_seconds 0\n"), "{metrics}");
    load.end();
    drop(gateway);

    // What the last process knew is served, certificates included.
    let begun = Instant::now();
    let gateway = plan().start();
    println!("ready {:?} after the start without an API server", begun.elapsed());
    assert!(gateway.page("/readyz").contains("stale"), "{}", gateway.page("/readyz"));
    let load = Load::start(gateway.http, "app.test");
    let shown = tls::Tls::connect(gateway.https, "tls.test", &[]).unwrap().peer();
    assert_eq!(shown, pair.der);

    bed.cluster.api_server().start().unwrap();
    let fresh = || !gateway.page("/readyz").contains("stale");
    assert!(comes_true(fresh), "{}", gateway.page("/readyz"));
    bed.apply("app", &service(&bed.two));
    answers(&gateway, "app.test", "two");
    load.end();
}
