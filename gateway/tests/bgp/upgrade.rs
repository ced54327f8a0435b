//! An upgrade beside a router: the new process starts beside the old one, and the router keeps its routes until it has
//! them from the new one (RFC 4724).

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        gateway::{Gateway, Plan},
        manifests::service,
    },
    guard,
    prober::{Pace, Prober, failures},
    routers::{Config, Kind, Peer, Router},
};

use super::{BFD, MANIFEST, NODE, ROUTES, Scene, VIP, leads};

/// Answers over this time in a row are an address that is served.
const QUIET: Duration = Duration::from_secs(1);
/// Less than a process waits for a router to notice that its session is closed, retransmissions included.
const LOST: Duration = Duration::from_millis(400);

impl Scene {
    /// FRR, which keeps routes for a neighbour that restarts.
    fn patient_router(&self, bfd: Option<(u16, u8)>) -> Router<'_> {
        let peer = Peer { v6: true, graceful_restart: true, bfd, ..Peer::new(NODE[0], 64512) };
        // Where both dial at one moment, FRR 8 ends the session that it has, and forgets what it kept.
        let peer = Peer { passive: true, ..peer };
        let peer = Peer { password: Some("opensesame".into()), ..peer.from("10.79.0.1") };
        self.lab.router(Kind::Frr, "router", Config::new(64501, [10, 79, 0, 1], vec![peer]))
    }

    /// A process of the node, which finds the one before it in this folder.
    fn process(&self, manifest: &str, state: &std::path::Path) -> Gateway {
        let prefix = self.lab.namespace("node").prefix();
        let backend = "127.0.0.1:8000".parse().unwrap();
        Plan::default()
            .manifest("bgp.yaml", manifest)
            .manifest("app.yaml", service("app", &[backend]))
            .node("node")
            .state_dir(state)
            .via(&prefix.each_ref().map(String::as_str))
            .spawn()
    }
}

/// When a router hears that a connection has ended.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    AtOnce,
    /// The packet that says so is lost, and comes again.
    Late,
}

fn upgrade(bfd: bool, ends: Ends) {
    let scene = Scene::new();
    let router = scene.patient_router(bfd.then_some(BFD));
    let restarts = "dualStackAddressFamily: true\n  enableGracefulRestart: true";
    let manifest = MANIFEST.replace("dualStackAddressFamily: true", restarts);
    let manifest = if bfd { manifest } else { manifest.replace("  bfdProfile: fast\n", "") };
    let state = guard::folder("gatehouse-state-").unwrap();
    let mut before = scene.process(&manifest, state.path());
    for (prefix, node) in ROUTES.into_iter().zip(NODE) {
        router.wait_route(prefix, |route| leads(route, node, &["64512:80"]));
    }
    if bfd {
        router.wait_bfd(NODE[0], true);
    }
    let server = SocketAddr::new(VIP.parse().unwrap(), 80);
    let host = scene.lab.namespace("client");
    let client = Prober::start(&host, server, "app.test", Pace::TESTING).unwrap();
    assert!(client.wait_quiet(Instant::now(), QUIET));

    let event = Instant::now();
    let after = scene.process(&manifest, state.path());
    scene.wait_says("node", &format!("http://{}/readyz", after.admin), "ready");
    let at_router = scene.lab.namespace("router");
    let nft = |commands: &str| at_router.feed(&["nft", "-f", "-"], commands).unwrap();
    if ends == Ends::Late {
        nft(
            "table inet lossy {\n chain c {\n type filter hook input priority 0\n tcp flags fin,rst drop\n }\n}\n",
        );
    }
    before.terminate();
    if ends == Ends::Late {
        thread::sleep(LOST);
        nft("delete table inet lossy\n");
    }
    assert_eq!(before.wait().and_then(|status| status.code()), Some(0), "{}", before.output());
    let metrics = format!("http://{}/metrics", after.admin);
    scene.wait_says("node", &metrics, "gatehouse_bgp_session_up{peer=\"tor\"} 1");
    for (prefix, node) in ROUTES.into_iter().zip(NODE) {
        router.wait_route(prefix, |route| leads(route, node, &["64512:80"]));
    }
    if bfd {
        scene.wait_says("node", &metrics, "gatehouse_bfd_session_up{peer=\"tor\"} 1");
        router.wait_bfd(NODE[0], true);
    }
    // Longer than the router waits for heartbeats of the old process.
    assert!(client.wait_quiet(Instant::now(), 5 * QUIET));
    client.settle(Instant::now());
    let words = after.output();
    assert_eq!(
        words.matches("BGP session up").count(),
        1,
        "the session broke off once more: {words}"
    );
    assert!(!words.contains("are not all here"), "{words}");
    let failures = failures(&client.attempts(), event);
    assert!(failures.is_empty(), "{failures}\n{}\n{}", router.log(), after.output());
}

#[test]
fn a_router_keeps_its_routes_while_a_process_succeeds_another() {
    upgrade(false, Ends::AtOnce);
}

#[test]
fn a_router_that_watches_by_bfd_keeps_them_too() {
    upgrade(true, Ends::AtOnce);
}

/// To a router that does not know of the end of the connection yet, BFD's last word is the death of the node.
#[test]
fn a_router_that_hears_late_of_the_end_of_its_session_keeps_them_as_well() {
    upgrade(true, Ends::Late);
}
