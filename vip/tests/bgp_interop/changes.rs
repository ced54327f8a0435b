//! What routers notice of a change: of an object, and of the addresses of a link.

use std::{net::IpAddr, time::Duration};

use gatehouse_testbed::{
    routers::{Kind, Router},
    wait::eventually,
};

use crate::{
    node::Node,
    process::Desired,
    scene::{Asn, NODE6, ROUTE, ROUTE6, assert_route, assert_up, hosts, name, routers},
};

/// Waits until a router has the route by this address of the node's.
fn assert_next_hop(router: &Router<'_>, prefix: &str, hop: &str) {
    let hop: IpAddr = hop.parse().unwrap();
    router.wait_route(prefix, |route| route.is_some_and(|route| route.next_hops.contains(&hop)));
}

#[test]
fn a_changed_peer_is_reset_once_also_with_bfd() {
    let kinds = [Kind::Frr, Kind::Bird];
    let lab = hosts(&kinds);
    let routers = routers(&lab, &kinds, Asn::External, |peer| peer.bfd = Some((100, 20)));
    let desired = Desired::new(&kinds, Asn::External).with_bfd(100, 20);
    let mut node = Node::start(&lab, "node");
    node.plan(&desired);
    assert_up(&mut node, &routers);
    for router in &routers {
        node.wait_peer(name(router.kind), "BFD is up", |peer| peer["bfd"]["state"] == "up");
    }
    node.downs();
    for hold in ["12s", "15s"] {
        let changed = desired.clone().with(|peer| peer.hold_time = Some(hold.into()));
        node.plan(&changed);
        node.expect("a session ends", |line| line.starts_with("down "));
        for router in &routers {
            node.wait_peer(name(router.kind), "the session is a new one", |peer| {
                peer["state"] == "established" && peer["established"] == 1
            });
        }
        assert_up(&mut node, &routers);
        // Longer than the goodbye of a BFD session, and than its first packets.
        std::thread::sleep(Duration::from_secs(4));
        let mut downs = node.downs();
        downs.sort();
        assert_eq!(downs, ["bird", "frr"], "each once: {}", node.status());
        assert_route(&routers, ROUTE, true);
    }
}

#[test]
fn the_next_hop_follows_the_address_of_the_link() {
    let kinds = [Kind::Frr, Kind::Bird, Kind::GoBgp];
    let lab = hosts(&kinds);
    let routers = routers(&lab, &kinds, Asn::External, |_| {});
    let mut node = Node::start(&lab, "node");
    node.plan(
        &Desired::new(&kinds, Asn::External).with(|peer| peer.dual_stack_address_family = true),
    );
    assert_up(&mut node, &routers);
    for router in &routers {
        assert_next_hop(router, ROUTE6, NODE6);
    }
    let other = "2001:db8:79::11";
    let change = |what: &str, ip: &str| {
        let nodad = if what == "add" { " nodad" } else { "" };
        lab.ip("node", &format!("addr {what} {ip}/64 dev eth0{nodad}"));
    };
    change("del", NODE6);
    assert_route(&routers, ROUTE6, false);
    eventually("the node says that there is no next hop", || {
        let status = node.status().to_string();
        if status.contains("NoNextHop") { Ok(()) } else { Err(status) }
    });
    assert_route(&routers, ROUTE, true);
    change("add", other);
    for router in &routers {
        assert_next_hop(router, ROUTE6, other);
    }
    change("add", NODE6);
    change("del", other);
    for router in &routers {
        assert_next_hop(router, ROUTE6, NODE6);
    }
    assert_eq!(node.downs(), [""; 0], "no session ends by it");
}
