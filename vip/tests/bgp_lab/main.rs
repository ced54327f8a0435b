//! Real routers in network namespaces, and that they do among themselves what they are here to do
//! with the speaker.
//!
//! Needs root, iproute2 and the Debian packages frr, bird2, gobgpd and exabgp: where one is missing,
//! the tests fail.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on the real network have threads and clocks"
)]

use std::net::IpAddr;

use gatehouse_testbed::{
    routers::{Config, Kind, Peer, Route, Router, lab::Lab},
    wait::{self, eventually},
};

/// Two routers, `one` (.1, AS 64501) and `other` (.2, AS 64502), each announcing a prefix.
const PREFIXES: [&str; 2] = ["198.51.100.1/32", "198.51.100.2/32"];

/// A session of both families.
fn peer(at: &str, asn: u32, from: &str) -> Peer {
    Peer { v4: true, v6: true, ..Peer::new(at, asn).from(from) }
}

/// Two routers on the switch with the same settings for each other.
fn pair<'a>(lab: &'a Lab, kinds: [Kind; 2], set: impl Fn(&mut Peer)) -> [Router<'a>; 2] {
    pair_at(lab, kinds, ["10.79.0.1", "10.79.0.2"], set)
}

fn pair_at<'a>(
    lab: &'a Lab,
    [one, other]: [Kind; 2],
    [at_one, at_other]: [&str; 2],
    set: impl Fn(&mut Peer),
) -> [Router<'a>; 2] {
    let mut peers = [peer(at_other, 64502, at_one), peer(at_one, 64501, at_other)];
    peers.iter_mut().for_each(set);
    let [of_one, of_other] = peers;
    let first = Config::new(64501, [10, 79, 0, 1], vec![of_one]).announcing(&PREFIXES[..1]);
    let second = Config::new(64502, [10, 79, 0, 2], vec![of_other]).announcing(&PREFIXES[1..]);
    [lab.router(one, "one", first), lab.router(other, "other", second)]
}

fn two_hosts() -> Lab {
    Lab::new(&[("one", 1), ("other", 2)])
}

/// Waits until both have a session and the other's prefix, over the address that the session is with.
///
/// All of it is asked at once: a helper of a graceful restart may take a stale route away between two
/// questions, until the restarted router has announced it again.
fn assert_exchange(routers: &[Router<'_>; 2]) {
    for (router, asn, prefix) in
        [(&routers[0], 64502, PREFIXES[1]), (&routers[1], 64501, PREFIXES[0])]
    {
        let peer = &router.config.peers[0];
        router.wait_established(&peer.at, true);
        let same_family = peer.at.contains(':') == prefix.contains(':');
        let next_hop = peer.at.parse().ok().filter(|_| same_family);
        router.wait_route(prefix, |route| {
            route.is_some_and(|route| {
                route.as_path == [asn] && next_hop.is_none_or(|hop| route.next_hops.contains(&hop))
            })
        });
        assert_eq!(router.route("198.51.100.77/32"), None);
    }
}

/// Every two different kinds.
fn pairs() -> impl Iterator<Item = [Kind; 2]> {
    let all = Kind::ALL.into_iter().enumerate();
    all.flat_map(|(index, one)| {
        Kind::ALL.into_iter().skip(index + 1).map(move |other| [one, other])
    })
}

#[test]
fn every_two_kinds_of_router_exchange_routes() {
    for kinds in pairs() {
        assert_exchange(&pair(&two_hosts(), kinds, |_| {}));
    }
}

#[test]
fn every_two_kinds_of_router_exchange_routes_under_tcp_md5() {
    for kinds in pairs() {
        let secret = |peer: &mut Peer| peer.password = Some("s3cret".to_owned());
        assert_exchange(&pair(&two_hosts(), kinds, secret));
    }
}

#[test]
fn routers_with_different_passwords_do_not_hear_each_other() {
    for kinds in [[Kind::Frr, Kind::Bird], [Kind::GoBgp, Kind::ExaBgp]] {
        let lab = two_hosts();
        // The one that dials to .1 is .2.
        let secret = |peer: &mut Peer| peer.password = Some(format!("to-{}", peer.at));
        let [one, other] = pair(&lab, kinds, secret);
        eventually("refused by the kernel", || {
            match ["one", "other"].map(|host| lab.counter(host, "TcpExtTCPMD5Failure")) {
                [0, 0] => Err(format!("nothing refused\n{}{}", one.log(), other.log())),
                _ => Ok(()),
            }
        });
        assert!(!one.established("10.79.0.2") && !other.established("10.79.0.1"));
    }
}

#[test]
fn every_kind_of_router_speaks_over_ipv6() {
    for kind in Kind::ALL {
        let ends = ["2001:db8:79::1", "2001:db8:79::2"];
        assert_exchange(&pair_at(&two_hosts(), [Kind::Frr, kind], ends, |_| {}));
    }
}

#[test]
fn every_kind_of_router_takes_ttl_255_alone_where_told_to() {
    for kind in Kind::ALL {
        assert_exchange(&pair(&two_hosts(), [Kind::Frr, kind], |peer| peer.gtsm = true));
    }
}

#[test]
fn every_kind_of_router_reaches_over_several_hops() {
    for kind in Kind::ALL {
        let lab = Lab::new(&[("one", 1), ("middle", 3)]);
        lab.host("other");
        lab.veth(("middle", "far"), ("other", "eth0"));
        lab.address("middle", "far", "10.80.0.3/24");
        lab.address("other", "eth0", "10.80.0.2/24");
        lab.ip("one", "route add 10.80.0.0/24 via 10.79.0.3");
        lab.ip("other", "route add 10.79.0.0/24 via 10.80.0.3");
        let far = |peer: &mut Peer| peer.multi_hop = Some(5);
        assert_exchange(&pair_at(&lab, [Kind::Frr, kind], ["10.79.0.1", "10.80.0.2"], far));
    }
}

#[test]
fn frr_finds_an_unnumbered_neighbour_and_announces_ipv4_over_its_link_local_address() {
    let lab = two_hosts();
    let [one, other] =
        [("one", 64501, 64502, 1), ("other", 64502, 64501, 2)].map(|(host, asn, peer, number)| {
            let config = Config::new(asn, [10, 79, 0, number], vec![Peer::new("eth0", peer)]);
            lab.router(Kind::Frr, host, config.announcing(&[PREFIXES[usize::from(number) - 1]]))
        });
    one.wait_established("eth0", true);
    other.wait_established("eth0", true);
    let link_local: IpAddr = "fe80::2".parse().unwrap();
    one.wait_route(PREFIXES[1], |route| {
        route.is_some_and(|route| route.next_hops.contains(&link_local))
    });
}

#[test]
fn every_kind_of_router_shows_the_attributes_of_a_route() {
    for kind in Kind::ALL {
        let lab = two_hosts();
        let listening =
            Config::new(64500, [10, 79, 0, 1], vec![peer("10.79.0.2", 64500, "10.79.0.1")]);
        let listening = lab.router(kind, "one", listening);
        let mut telling =
            Config::new(64500, [10, 79, 0, 2], vec![peer("10.79.0.1", 64500, "10.79.0.2")]);
        telling.attributes = "med 7 local-preference 200 as-path [ 64999 70000 ] \
            community [64500:1 65535:0] large-community [70000:1:2 64500:3:4]"
            .to_owned();
        let telling = telling.announcing(&["203.0.113.10/32", "203.0.113.128/25"]);
        let _telling = lab.router(Kind::ExaBgp, "other", telling);
        let texts = |texts: [&str; 2]| texts.map(str::to_owned).into();
        let wanted = Route {
            next_hops: ["10.79.0.2".parse().unwrap()].into(),
            local_pref: Some(200),
            med: Some(7),
            as_path: vec![64999, 70000],
            communities: texts(["64500:1", "65535:0"]),
            large: texts(["70000:1:2", "64500:3:4"]),
        };
        for prefix in ["203.0.113.10/32", "203.0.113.128/25"] {
            listening.wait_route(prefix, |route| route == Some(&wanted));
        }
        assert_eq!(listening.route("203.0.113.0/24"), None);
    }
}

#[test]
fn a_router_that_falls_silent_is_given_up_after_the_hold_time() {
    for kind in Kind::ALL {
        let lab = two_hosts();
        let routers = pair(&lab, [kind, Kind::Bird], |peer| peer.hold = 3);
        assert_exchange(&routers);
        let [one, other] = routers;
        other.hold();
        one.wait_established("10.79.0.2", false);
        one.wait_route(PREFIXES[1], |route| route.is_none());
        other.release();
        one.wait_established("10.79.0.2", true);
    }
}

#[test]
fn a_router_that_restarts_takes_its_routes_away_and_brings_them_back() {
    for kind in Kind::ALL {
        let lab = two_hosts();
        let routers = pair(&lab, [Kind::Frr, kind], |_| {});
        assert_exchange(&routers);
        let [one, mut other] = routers;
        other.stop();
        one.wait_established("10.79.0.2", false);
        one.wait_route(PREFIXES[1], |route| route.is_none());
        other.start();
        other.restart();
        assert_exchange(&[one, other]);
    }
}

#[test]
fn a_router_that_is_killed_keeps_its_routes_by_graceful_restart() {
    for [helper, kind] in
        [[Kind::Frr, Kind::Bird], [Kind::Bird, Kind::GoBgp], [Kind::GoBgp, Kind::Bird]]
    {
        let lab = two_hosts();
        let routers = pair(&lab, [helper, kind], |peer| peer.graceful_restart = true);
        assert_exchange(&routers);
        let [one, mut other] = routers;
        other.kill();
        one.wait_established("10.79.0.2", false);
        let log = || format!("{helper:?} has forgotten {kind:?}: {}", one.log());
        assert!(one.route(PREFIXES[1]).is_some(), "{}", log());
        other.start();
        assert_exchange(&[one, other]);
    }
}

#[test]
fn routers_ask_for_all_routes_again() {
    for kind in [Kind::Frr, Kind::Bird] {
        let lab = two_hosts();
        let routers = pair(&lab, [Kind::Frr, kind], |_| {});
        assert_exchange(&routers);
        let [one, other] = routers;
        assert_eq!(one.refreshes("10.79.0.2"), 0);
        other.refresh("10.79.0.1");
        eventually("a route refresh", || match one.refreshes("10.79.0.2") {
            0 => Err(other.log()),
            _ => Ok(()),
        });
    }
}

#[test]
fn frr_and_bird_find_each_other_dead_by_bfd_long_before_the_hold_time() {
    for kinds in [[Kind::Frr, Kind::Bird], [Kind::Bird, Kind::Frr]] {
        assert!(kinds.into_iter().all(Kind::has_bfd));
        // BIRD sends with TTL 64 over several hops, which FRR takes if the peer may be anywhere.
        for multi_hop in [None, Some(255)] {
            let lab = two_hosts();
            let routers = pair(&lab, kinds, |peer| {
                // Longer than this test waits.
                (peer.hold, peer.bfd, peer.multi_hop) = (180, Some((100, 3)), multi_hop);
            });
            assert_exchange(&routers);
            let [one, other] = routers;
            one.wait_bfd("10.79.0.2", true);
            other.hold();
            one.wait_established("10.79.0.2", false);
            one.wait_route(PREFIXES[1], |route| route.is_none());
            one.wait_bfd("10.79.0.2", false);
            other.release();
            one.wait_established("10.79.0.2", true);
        }
    }
}

#[test]
fn a_router_spreads_clients_over_two_nodes_and_forgets_one_that_dies() {
    const VIP: &str = "203.0.113.10";
    let lab = Lab::new(&[("router", 1), ("left", 11), ("right", 12)]);
    lab.host("client");
    lab.veth(("router", "access"), ("client", "eth0"));
    lab.address("router", "access", "10.80.0.1/24");
    lab.address("client", "eth0", "10.80.0.2/24");
    lab.ip("client", "route add default via 10.80.0.1");

    // Slow enough that a busy machine does not look like a dead node.
    let bfd = |peer| Peer { bfd: Some((300, 5)), hold: 180, ..peer };
    let nodes = ["10.79.0.11", "10.79.0.12"].map(|at| bfd(peer(at, 64512, "10.79.0.1")));
    let mut config = Config::new(64500, [10, 79, 0, 1], nodes.into());
    config.multipath = true;
    let router = lab.router(Kind::Frr, "router", config);
    let [left, _right] = [("left", 11), ("right", 12)].map(|(host, number)| {
        lab.address(host, "lo", &format!("{VIP}/32"));
        lab.ip(host, "route add 10.80.0.0/24 via 10.79.0.1");
        let peers = vec![bfd(peer("10.79.0.1", 64500, &format!("10.79.0.{number}")))];
        let config = Config::new(64512, [10, 79, 0, number], peers);
        let server = lab.serve(host, &format!("{VIP}:80"));
        (lab.router(Kind::Bird, host, config.announcing(&[&format!("{VIP}/32")])), server)
    });
    let ask = || lab.ask("client", &format!("{VIP}:80"), wait::LIMIT);
    let hops = |count: usize| {
        let prefix = format!("{VIP}/32");
        router
            .wait_route(&prefix, |route| route.is_some_and(|route| route.next_hops.len() == count));
        eventually("the kernel's route", || {
            let text = lab.ip("router", &format!("route show {VIP}"));
            if text.matches(" via ").count() == count { Ok(()) } else { Err(text) }
        });
    };
    hops(2);
    ["10.79.0.11", "10.79.0.12"].iter().for_each(|node| router.wait_bfd(node, true));
    let answers: Vec<_> = (0..40).map(|_| ask().expect("an answer")).collect();
    for node in ["left", "right"] {
        assert!(answers.iter().any(|answer| answer == node), "{node} was never asked: {answers:?}");
    }
    left.0.hold();
    hops(1);
    assert!((0..20).all(|_| ask().as_deref() == Some("right")));
    left.0.release();
    hops(2);
}
