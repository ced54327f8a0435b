//! What becomes of sessions and routes when one end dies, hangs or restarts.

use std::time::{Duration, Instant};

use gatehouse_testbed::{
    routers::{Kind, Router},
    wait::comes_true,
};

use crate::{
    node::Node,
    process::Desired,
    scene::{Asn, NODE, ROUTE, ROUTE6, assert_route, assert_up, hosts, name, routers},
};

const OTHER: &str = "203.0.113.11/32";

/// Routers that keep the routes of a neighbour which restarts; ExaBGP keeps none at all.
const KEEPERS: [Kind; 3] = [Kind::Frr, Kind::Bird, Kind::GoBgp];

/// Asserts that all routers have these routes until the sessions are up again.
fn assert_kept_until_up(node: &mut Node, routers: &[Router<'_>], prefixes: &[&str]) {
    let up = comes_true(|| {
        // In this order, so that the last look is at a session that is up.
        let up = routers.iter().all(|router| {
            router.established(NODE) && node.peer(name(router.kind))["state"] == "established"
        });
        for router in routers {
            for prefix in prefixes {
                let log = || format!("{prefix} is gone from {:?}: {}", router.kind, router.log());
                assert!(router.route(prefix).is_some(), "{}", log());
            }
        }
        up
    });
    assert!(up, "no session: {}", node.status());
}

#[test]
fn routes_outlive_a_killed_process_by_graceful_restart_and_go_if_they_are_not_said_again() {
    let lab = hosts(&KEEPERS);
    let routers = routers(&lab, &KEEPERS, Asn::External, |peer| {
        // Where both dial at one moment, FRR 8 ends the session that it has, and forgets what it kept.
        (peer.graceful_restart, peer.passive) = (true, true);
    });
    let mut node = Node::start(&lab, "node");
    // GoBGP waits for the End-of-RIB of every family that it has, agreed on or not.
    let mut desired = Desired::new(&KEEPERS, Asn::External).with(|peer| {
        peer.enable_graceful_restart = true;
        peer.dual_stack_address_family = true;
    });
    desired.addresses.push("203.0.113.11".parse().unwrap());
    node.plan(&desired);
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);
    assert_route(&routers, OTHER, true);
    assert_route(&routers, ROUTE6, true);

    node.kill();
    routers.iter().for_each(|router| router.wait_established(NODE, false));
    for router in &routers {
        for prefix in [ROUTE, ROUTE6, OTHER] {
            assert!(router.route(prefix).is_some(), "{:?}: {}", router.kind, router.log());
        }
    }
    let mut next = Node::start(&lab, "node");
    desired.addresses.pop();
    next.plan(&desired);
    assert_kept_until_up(&mut next, &routers, &[ROUTE, ROUTE6]);
    assert_route(&routers, OTHER, false);
    assert_route(&routers, ROUTE, true);
    assert_route(&routers, ROUTE6, true);
}

#[test]
fn without_graceful_restart_the_routes_of_a_killed_process_go_at_once() {
    let lab = hosts(&Kind::ALL);
    let routers = routers(&lab, &Kind::ALL, Asn::External, |_| {});
    let mut node = Node::start(&lab, "node");
    let desired = Desired::new(&Kind::ALL, Asn::External);
    node.plan(&desired);
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);
    node.kill();
    assert_route(&routers, ROUTE, false);
    let mut next = Node::start(&lab, "node");
    next.plan(&desired);
    assert_up(&mut next, &routers);
    assert_route(&routers, ROUTE, true);
}

#[test]
fn frr_and_bird_notice_a_hung_or_killed_node_by_bfd_and_the_node_notices_them() {
    let kinds = [Kind::Frr, Kind::Bird];
    let lab = hosts(&kinds);
    // The hold time is longer than this test waits.
    let routers = routers(&lab, &kinds, Asn::External, |peer| {
        (peer.hold, peer.bfd) = (180, Some((50, 3)));
    });
    let desired = Desired::new(&kinds, Asn::External)
        .with_bfd(50, 3)
        .with(|peer| peer.hold_time = Some("180s".into()));
    let mut node = Node::start(&lab, "node");
    node.plan(&desired);
    let watched = |node: &mut Node| {
        for router in &routers {
            router.wait_bfd(NODE, true);
            node.wait_peer(name(router.kind), "BFD is up", |peer| peer["bfd"]["state"] == "up");
        }
        assert_up(node, &routers);
        assert_route(&routers, ROUTE, true);
    };
    watched(&mut node);

    node.hold();
    let struck = Instant::now();
    for router in &routers {
        router.wait_route(ROUTE, |route| route.is_none());
        println!("a hung node is gone from {:?} after {:?}", router.kind, struck.elapsed());
        router.wait_bfd(NODE, false);
    }
    node.release();
    watched(&mut node);

    for router in &routers {
        router.hold();
        let struck = Instant::now();
        node.wait_peer(name(router.kind), "BFD is down, and so is the session", |status| {
            status["state"] != "established"
                && status["bfd"]["state"] == "down"
                && status["last_error"].as_str().is_some_and(|error| error.contains("BFD"))
        });
        println!("{:?} is known to be dead after {:?}", router.kind, struck.elapsed());
        router.release();
        watched(&mut node);
    }

    let struck = Instant::now();
    node.kill();
    for router in &routers {
        router.wait_route(ROUTE, |route| route.is_none());
        println!("a killed node is gone from {:?} after {:?}", router.kind, struck.elapsed());
    }
}

#[test]
fn bfd_watches_over_several_hops_and_its_profile_changes_without_a_new_session() {
    let kinds = [Kind::Frr, Kind::Bird];
    let lab = hosts(&kinds);
    let routers = routers(&lab, &kinds, Asn::External, |peer| {
        (peer.hold, peer.bfd, peer.multi_hop) = (180, Some((100, 20)), Some(255));
    });
    let mut node = Node::start(&lab, "node");
    let mut desired = Desired::new(&kinds, Asn::External).with_bfd(100, 20).with(|peer| {
        peer.hold_time = Some("180s".into());
        peer.ebgp_multi_hop = true;
    });
    // BIRD sends with TTL 64 over several hops.
    desired.profiles.get_mut("fast").unwrap().minimum_ttl = Some(1);
    node.plan(&desired);
    assert_up(&mut node, &routers);
    for router in &routers {
        router.wait_bfd(NODE, true);
        node.wait_peer(name(router.kind), "BFD is up", |peer| peer["bfd"]["state"] == "up");
    }
    desired.profiles.get_mut("fast").unwrap().transmit_interval = Some(200);
    node.plan(&desired);
    // Longer than the detection time of either setting, 2 s and 4 s.
    std::thread::sleep(Duration::from_secs(5));
    for router in &routers {
        router.wait_bfd(NODE, true);
    }
    assert_eq!(node.downs(), [""; 0]);
    routers[1].hold();
    node.wait_up(name(Kind::Bird), false);
    node.wait_up(name(Kind::Frr), true);
    routers[1].release();
    node.wait_up(name(Kind::Bird), true);
}

#[test]
fn routers_that_fall_silent_are_given_up_after_the_hold_time_and_so_is_the_node() {
    let lab = hosts(&Kind::ALL);
    let routers = routers(&lab, &Kind::ALL, Asn::External, |peer| peer.hold = 3);
    let mut node = Node::start(&lab, "node");
    node.plan(&Desired::new(&Kind::ALL, Asn::External).with(|peer| {
        (peer.hold_time, peer.keepalive_time) = (Some("3s".into()), Some("1s".into()));
    }));
    assert_up(&mut node, &routers);
    routers.iter().for_each(Router::hold);
    for router in &routers {
        node.wait_peer(name(router.kind), "the hold timer has expired", |status| {
            let error = status["last_error"].as_str().unwrap_or_default();
            status["state"] != "established" && error.contains("hold timer")
        });
    }
    routers.iter().for_each(Router::release);
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);

    node.hold();
    for router in &routers {
        router.wait_established(NODE, false);
        router.wait_route(ROUTE, |route| route.is_none());
    }
    node.release();
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);
}

#[test]
fn a_router_that_restarts_hears_everything_again_and_the_others_notice_nothing() {
    let lab = hosts(&Kind::ALL);
    let mut routers = routers(&lab, &Kind::ALL, Asn::External, |_| {});
    let mut node = Node::start(&lab, "node");
    node.plan(&Desired::new(&Kind::ALL, Asn::External));
    assert_up(&mut node, &routers);
    for router in &mut routers {
        router.stop();
        node.wait_up(name(router.kind), false);
        router.start();
        node.wait_up(name(router.kind), true);
        router.wait_established(NODE, true);
        router.wait_route(ROUTE, |route| route.is_some());
        assert_eq!(node.downs(), [name(router.kind)]);
    }
}
