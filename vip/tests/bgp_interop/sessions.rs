//! That sessions come up as their objects say, and only then.

use std::net::IpAddr;

use gatehouse_testbed::{
    routers::{Kind, Peer, Route, Router, lab::Lab},
    wait::eventually,
};

use crate::{
    node::Node,
    process::Desired,
    scene::{
        Asn, NODE, NODE_ASN, NODE6, ROUTE, ROUTE6, assert_route, assert_up, at, at6, hosts, name,
        node_at, peer, router, routers,
    },
};

/// Waits until a router has both routes or the one, and has them from the node's own addresses.
fn assert_heard(router: &Router<'_>, asn: Asn, [v4, v6]: [bool; 2]) {
    for (prefix, hop, wanted) in [(ROUTE, NODE, v4), (ROUTE6, NODE6, v6)] {
        let hop: IpAddr = hop.parse().unwrap();
        router.wait_route(prefix, |route| match route {
            None => !wanted,
            Some(Route { next_hops, as_path, .. }) => {
                wanted && next_hops.contains(&hop) && as_path == asn.path()
            }
        });
    }
}

/// One session for each family, then both on one over IPv4, then both on one over IPv6.
fn every_family(asn: Asn) {
    let lab = hosts(&Kind::ALL);
    let routers = Kind::ALL.map(|kind| {
        let peers = vec![node_at(NODE, &at(kind)), node_at(NODE6, &at6(kind))];
        router(&lab, kind, asn, peers)
    });
    let mut node = Node::start(&lab, "node");
    let mut desired = Desired::new(&Kind::ALL, asn);
    for kind in Kind::ALL {
        desired.peers.insert(format!("{}6", name(kind)), peer(&at6(kind), asn.of(kind)));
    }
    node.plan(&desired);
    for router in &routers {
        router.wait_established(NODE, true);
        router.wait_established(NODE6, true);
        assert_heard(router, asn, [true, true]);
        let families = |status: &serde_json::Value| {
            [&status["announced"]["v4"], &status["announced"]["v6"]].map(|n| n.as_u64().unwrap())
        };
        let (over_v4, over_v6) = (name(router.kind), format!("{}6", name(router.kind)));
        node.wait_peer(over_v4, "IPv4 alone", |status| families(status) == [1, 0]);
        node.wait_peer(&over_v6, "IPv6 alone", |status| families(status) == [0, 1]);
    }
    for over_v6 in [false, true] {
        let mut both = desired.clone().with(|peer| peer.dual_stack_address_family = true);
        both.peers.retain(|name, _| name.ends_with('6') == over_v6);
        node.plan(&both);
        for router in &routers {
            router.wait_established(NODE, !over_v6);
            router.wait_established(NODE6, over_v6);
            assert_heard(router, asn, [true, true]);
        }
    }
    node.plan(&Desired::default());
    assert_route(&routers, ROUTE, false);
    assert_route(&routers, ROUTE6, false);
}

#[test]
fn every_kind_of_router_of_another_as_hears_each_family_alone_and_both_on_one_session() {
    every_family(Asn::External);
}

#[test]
fn every_kind_of_router_of_the_same_as_hears_each_family_alone_and_both_on_one_session() {
    every_family(Asn::Internal);
}

#[test]
fn sessions_are_signed_by_tcp_md5_and_a_wrong_password_ends_its_own_session_alone() {
    let lab = hosts(&Kind::ALL);
    let routers =
        routers(&lab, &Kind::ALL, Asn::External, |peer| peer.password = Some("s3cret".into()));
    let mut node = Node::start(&lab, "node");
    let right =
        Desired::new(&Kind::ALL, Asn::External).with(|peer| peer.password = "s3cret".into());
    node.plan(&right);
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);
    for (index, router) in routers.iter().enumerate() {
        let mut wrong = right.clone();
        wrong.peers.get_mut(name(router.kind)).unwrap().password = "wrong".into();
        let refused = || {
            let counted =
                [name(router.kind), "node"].map(|host| lab.counter(host, "TcpExtTCPMD5Failure"));
            counted.iter().sum::<u64>()
        };
        let before = refused();
        node.plan(&wrong);
        eventually("segments are refused by the kernel", || match refused() {
            now if now > before => Ok(()),
            _ => Err(router.log()),
        });
        router.wait_established(NODE, false);
        node.wait_peer(name(router.kind), "the password is suspected", |peer| {
            peer["problems"].to_string().contains("another password")
        });
        assert_eq!(node.downs(), [name(router.kind)], "no other session ends");
        node.wait_up(name(router.kind), false);
        assert_route(&routers[index..=index], ROUTE, false);
        node.plan(&right);
        router.wait_established(NODE, true);
        node.wait_up(name(router.kind), true);
    }
    assert_eq!(node.downs(), [""; 0]);
}

#[test]
fn routers_several_hops_away_are_reached_by_ebgp_multi_hop() {
    let names = Kind::ALL.map(|kind| (name(kind), at(kind)));
    let mut switched = vec![("middle", 9)];
    switched.extend(
        names.iter().map(|(name, at)| (*name, at.rsplit('.').next().unwrap().parse().unwrap())),
    );
    let lab = Lab::new(&switched);
    lab.host("node");
    lab.veth(("middle", "far"), ("node", "eth0"));
    lab.address("middle", "far", "10.80.0.9/24");
    lab.address("node", "eth0", "10.80.0.10/24");
    lab.ip("node", "route add default via 10.80.0.9");
    for (host, _) in &names {
        lab.ip(host, "route add 10.80.0.0/24 via 10.79.0.9");
    }
    let routers = Kind::ALL.map(|kind| {
        let far = Peer { multi_hop: Some(5), ..node_at("10.80.0.10", &at(kind)) };
        router(&lab, kind, Asn::External, vec![far])
    });
    let mut node = Node::start(&lab, "node");
    node.plan(&Desired::new(&Kind::ALL, Asn::External).with(|peer| peer.ebgp_multi_hop = true));
    assert_up(&mut node, &routers);
    let hop: IpAddr = "10.80.0.10".parse().unwrap();
    for router in &routers {
        router
            .wait_route(ROUTE, |route| route.is_some_and(|route| route.next_hops == [hop].into()));
    }
}

#[test]
fn a_peer_is_dialled_from_its_source_address_as_its_local_asn_whoever_answers() {
    const SOURCE: &str = "10.79.0.77";
    let lab = hosts(&Kind::ALL);
    lab.address("node", "eth0", &format!("{SOURCE}/24"));
    let routers = Kind::ALL.map(|kind| {
        // It cannot dial where it is not listened to under that ASN.
        let peer = Peer { asn: 64999, ..node_at(SOURCE, &at(kind)) };
        router(&lab, kind, Asn::External, vec![peer])
    });
    let mut node = Node::start(&lab, "node");
    node.plan(&Desired::new(&Kind::ALL, Asn::External).with(|peer| {
        (peer.peer_asn, peer.dynamic_asn) = (0, "external".into());
        (peer.local_asn, peer.source_address) = (64999, SOURCE.into());
        peer.router_id = "192.0.2.77".into();
    }));
    assert_up(&mut node, &routers);
    for router in &routers {
        router.wait_route(ROUTE, |route| {
            route.is_some_and(|route| {
                route.as_path == [64999] && route.next_hops == [SOURCE.parse().unwrap()].into()
            })
        });
        let status = node.peer(name(router.kind));
        assert_eq!(status["asn"], Asn::External.of(router.kind), "{status}");
    }
    // And one whose ASN is not allowed is refused, in words.
    node.plan(&Desired::new(&Kind::ALL, Asn::External).with(|peer| {
        (peer.peer_asn, peer.dynamic_asn) = (0, "internal".into());
        (peer.local_asn, peer.source_address) = (64999, SOURCE.into());
    }));
    for router in &routers {
        router.wait_established(SOURCE, false);
        node.wait_peer(name(router.kind), "the ASN is why", |status| {
            status["last_error"].as_str().is_some_and(|why| why.contains("AS"))
        });
    }
}

#[test]
fn whichever_end_dials_there_is_one_session() {
    // The routers do not dial: the node does. Then the node cannot dial, so that the routers have to.
    let lab = hosts(&Kind::ALL);
    let routers = routers(&lab, &Kind::ALL, Asn::External, |peer| peer.passive = true);
    let mut node = Node::start(&lab, "node");
    node.plan(&Desired::new(&Kind::ALL, Asn::External));
    assert_up(&mut node, &routers);
    drop((routers, node));

    let lab = hosts(&Kind::ALL);
    let routers = crate::scene::routers(&lab, &Kind::ALL, Asn::External, |_| {});
    let mut node = Node::start(&lab, "node");
    // Nothing listens at this port.
    node.plan(&Desired::new(&Kind::ALL, Asn::External).with(|peer| peer.peer_port = 1790));
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);
    assert_eq!(node.status()["peers"]["frr"]["asn"], Asn::External.of(Kind::Frr));
    assert_ne!(Asn::External.of(Kind::Frr), NODE_ASN);
}
