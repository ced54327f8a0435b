//! Links without addresses of their own: either end finds the other by router advertisements.

use std::{net::IpAddr, time::Duration};

use gatehouse_testbed::{
    routers::{Config, Kind, Peer, Router, lab::Lab},
    wait::eventually,
};
use serde_json::Value;

use crate::{
    node::Node,
    process::Desired,
    scene::{Asn, NODE_ASN, ROUTE, ROUTE6, VIP, VIP6, peer},
};

/// FRR's ASN; the node takes whatever it is.
const FRR_ASN: u32 = 64501;

/// The node and FRR, with wires between interfaces of the same names at both ends.
fn wires(interfaces: &[&str]) -> Lab {
    let lab = Lab::new(&[]);
    lab.host("node");
    lab.host("frr");
    for interface in interfaces {
        lab.veth(("frr", interface), ("node", interface));
    }
    lab
}

/// FRR with `neighbor <interface> interface remote-as external`.
fn frr<'a>(lab: &'a Lab, interfaces: &[&str], set: impl Fn(&mut Peer)) -> Router<'a> {
    let unnumbered = |interface: &&str| {
        let mut peer = Peer::new(interface, 0);
        set(&mut peer);
        peer
    };
    let peers = interfaces.iter().map(unnumbered).collect();
    let mut config = Config::new(FRR_ASN, [10, 79, 0, 1], peers);
    config.multipath = true;
    lab.router(Kind::Frr, "frr", config)
}

/// An unnumbered peer for each of these interfaces, named as they are.
fn desired(interfaces: &[&str]) -> Desired {
    let mut desired = Desired::new(&[], Asn::External);
    for interface in interfaces {
        let mut unnumbered = peer("", 0);
        unnumbered.dynamic_asn = "external".into();
        unnumbered.interface = (*interface).to_owned();
        desired.peers.insert((*interface).to_owned(), unnumbered);
    }
    desired
}

/// The link-local address of a host on an interface.
fn link_local(lab: &Lab, host: &str, interface: &str) -> IpAddr {
    let text = lab.ip(host, &format!("-6 -o addr show dev {interface} scope link"));
    let mut words = text.split_whitespace().skip_while(|word| *word != "inet6").skip(1);
    let address = words.next().unwrap_or_else(|| panic!("no address in {text}"));
    address.split('/').next().unwrap().parse().unwrap()
}

/// Waits until both ends say that the session on an interface is up.
fn assert_up(node: &mut Node, router: &Router<'_>, interface: &str) {
    node.wait_up(interface, true);
    router.wait_established(interface, true);
}

/// Waits until FRR has both routes, by link-local next hops on so many links.
fn assert_routes(lab: &Lab, router: &Router<'_>, interfaces: &[&str]) {
    let hops: Vec<_> = interfaces.iter().map(|name| link_local(lab, "node", name)).collect();
    for prefix in [ROUTE, ROUTE6] {
        router.wait_route(prefix, |route| {
            route.is_some_and(|route| {
                hops.iter().all(|hop| route.next_hops.contains(hop)) && route.as_path == [NODE_ASN]
            })
        });
    }
}

fn problems(status: &Value) -> Vec<String> {
    let problems = status["problems"].as_array().unwrap().iter();
    problems.map(|problem| problem["reason"].as_str().unwrap().to_owned()).collect()
}

fn says(status: &Value, words: &str) -> bool {
    status["last_error"].as_str().is_some_and(|error| error.contains(words))
}

#[test]
fn frr_and_the_node_find_each_other_on_a_link_without_addresses_whoever_dials() {
    type Set = fn(&mut Peer);
    let cases: [(Set, u32); 3] = [
        (|_| {}, 179),
        // FRR does not dial: the node does.
        (|peer| peer.passive = true, 179),
        // Nothing listens at this port: FRR has to dial.
        (|_| {}, 1790),
    ];
    for (set, port) in cases {
        let lab = wires(&["eth0"]);
        let frr = frr(&lab, &["eth0"], set);
        let mut node = Node::start(&lab, "node");
        let desired =
            desired(&["eth0"]).with(|peer| peer.peer_port = i64::from(port).try_into().unwrap());
        node.plan(&desired);
        assert_up(&mut node, &frr, "eth0");
        assert_routes(&lab, &frr, &["eth0"]);
        let found = format!("{}%eth0", link_local(&lab, "frr", "eth0"));
        node.wait_peer("eth0", "all is told", |status| {
            status["router"] == "eth0"
                && status["neighbour"] == found.as_str()
                && status["asn"] == FRR_ASN
                && status["announced"] == serde_json::json!({"v4": 1, "v6": 1})
                && problems(status).is_empty()
        });
    }
}

#[test]
fn bird_is_found_and_dialled_and_gobgp_which_knows_the_node_from_its_advertisements_dials() {
    for (kind, password) in [(Kind::Bird, ""), (Kind::Bird, "s3cret"), (Kind::GoBgp, "")] {
        let lab = wires(&["eth0"]);
        let mut node = Node::start(&lab, "node");
        node.plan(&desired(&["eth0"]).with(|peer| peer.password = password.into()));
        let neighbour = || lab.ip("frr", "-6 neigh show dev eth0");
        eventually("the kernel of the router knows the node", || match neighbour() {
            known if known.contains("lladdr") => Ok(()),
            known => Err(known),
        });
        let mut peer = Peer::new("eth0", NODE_ASN);
        peer.password = Some(password.to_owned()).filter(|password| !password.is_empty());
        let router = lab.router(kind, "frr", Config::new(64502, [10, 79, 0, 2], vec![peer]));
        assert_up(&mut node, &router, "eth0");
        assert_routes(&lab, &router, &["eth0"]);
        let found = format!("{}%eth0", link_local(&lab, "frr", "eth0"));
        node.wait_peer("eth0", "it is found", |status| status["neighbour"] == found.as_str());
    }
}

#[test]
fn a_node_alone_on_a_link_says_what_it_waits_for() {
    let lab = wires(&["eth0"]);
    let mut node = Node::start(&lab, "node");
    node.plan(&desired(&["eth0", "eth7"]));
    node.wait_peer("eth0", "nobody is there", |status| {
        says(status, "no router advertisement heard on eth0")
            && problems(status) == ["SessionDown"]
            && status["neighbour"].is_null()
    });
    node.wait_peer("eth7", "no interface", |status| says(status, "there is no interface eth7"));
    lab.ip("frr", "link set eth0 down");
    node.wait_peer("eth0", "no carrier", |status| says(status, "interface eth0 has no carrier"));
    lab.ip("frr", "link set eth0 up");
    lab.ip("node", "-6 addr flush dev eth0");
    node.wait_peer("eth0", "no address", |status| says(status, "no link-local IPv6 address"));
    lab.address("node", "eth0", "fe80::77/64");
    let frr = frr(&lab, &["eth0"], |_| {});
    assert_up(&mut node, &frr, "eth0");
    assert_routes(&lab, &frr, &["eth0"]);
    node.plan(&desired(&[]));
    frr.wait_established("eth0", false);
}

#[test]
fn a_client_reaches_the_address_by_either_family_over_either_link_by_link_local_next_hops_alone() {
    let lab = wires(&["eth0", "eth1"]);
    lab.host("client");
    lab.veth(("frr", "access"), ("client", "eth0"));
    lab.address("frr", "access", "10.80.0.1/24");
    lab.address("client", "eth0", "10.80.0.2/24");
    lab.address("frr", "access", "2001:db8:81::1/64");
    lab.address("client", "eth0", "2001:db8:81::2/64");
    lab.ip("client", "route add default via 10.80.0.1");
    lab.ip("client", "route add default via 2001:db8:81::1");
    let frr = frr(&lab, &["eth0", "eth1"], |_| {});
    let mut node = Node::start(&lab, "node");
    node.plan(&desired(&["eth0", "eth1"]));
    for interface in ["eth0", "eth1"] {
        assert_up(&mut node, &frr, interface);
    }
    assert_routes(&lab, &frr, &["eth0", "eth1"]);
    // The way back is the node's administrator's business.
    let back = |interface: &str| {
        let hop = link_local(&lab, "frr", interface);
        lab.ip("node", &format!("route replace 10.80.0.0/24 via inet6 {hop} dev {interface}"));
        lab.ip("node", &format!("-6 route replace 2001:db8:81::/64 via {hop} dev {interface}"));
    };
    back("eth0");
    let at = [format!("{VIP}:80"), format!("[{VIP6}]:80")];
    let _servers = at.each_ref().map(|at| lab.serve("node", at));
    let ask = |at: &str| lab.ask("client", at, Duration::from_secs(5));
    let reached = |at: &str| {
        eventually(&format!("an answer from {at}"), || match ask(at) {
            Some(_) => Ok(()),
            None => Err(frr.log()),
        });
    };
    for at in &at {
        reached(at);
        assert!((0..10).all(|_| ask(at).as_deref() == Some("node")), "{}", frr.log());
    }
    // One of the links is cut: everything goes by the other one, and comes back.
    lab.ip("node", "link set eth0 down");
    back("eth1");
    node.wait_up("eth0", false);
    at.iter().for_each(|at| reached(at));
    node.wait_up("eth1", true);
    lab.ip("node", "link set eth0 up");
    assert_up(&mut node, &frr, "eth0");
    assert_eq!(node.downs(), ["eth0"]);
    assert_routes(&lab, &frr, &["eth0", "eth1"]);
}

#[test]
fn one_link_local_address_on_two_links_has_a_password_for_each_of_them() {
    let lab = wires(&["eth0", "eth1"]);
    for interface in ["eth0", "eth1"] {
        for (host, number) in [("frr", 1), ("node", 10)] {
            lab.ip(host, &format!("-6 addr flush dev {interface}"));
            lab.address(host, interface, &format!("fe80::{number}/64"));
        }
    }
    let secret = |interface: &str| format!("secret of {interface}").replace(' ', "-");
    let signed = |peer: &mut Peer| peer.password = Some(secret(&peer.at));
    let right = || {
        let mut desired = desired(&["eth0", "eth1"]);
        desired.peers.iter_mut().for_each(|(name, peer)| peer.password = secret(name));
        desired
    };
    for (who, passive, port) in [("FRR", false, 1790), ("the node", true, 179)] {
        if passive {
            // FRR has but one password for all that dial it from one address.
            lab.ip("node", "-6 addr flush dev eth1");
            lab.address("node", "eth1", "fe80::11/64");
        }
        let frr = frr(&lab, &["eth0", "eth1"], |peer| {
            signed(peer);
            peer.passive = passive;
        });
        let mut node = Node::start(&lab, "node");
        let right = right().with(|peer| peer.peer_port = port);
        node.plan(&right);
        for interface in ["eth0", "eth1"] {
            assert_up(&mut node, &frr, interface);
        }
        let refused = || {
            let counters =
                ["TcpExtTCPMD5Failure", "TcpExtTCPMD5NotFound", "TcpExtTCPMD5Unexpected"];
            let of = |host: &str| counters.map(|name| lab.counter(host, name)).iter().sum::<u64>();
            of("frr") + of("node")
        };
        for password in [secret("eth0"), String::new()] {
            let mut wrong = right.clone();
            wrong.peers.get_mut("eth1").unwrap().password = password;
            node.downs();
            let before = refused();
            node.plan(&wrong);
            eventually("segments are refused by the kernel", || match refused() {
                now if now > before => Ok(()),
                _ => Err(frr.log()),
            });
            frr.wait_established("eth1", false);
            node.wait_up("eth1", false);
            assert_eq!(node.downs(), ["eth1"], "{who} dials: no other session ends");
            node.plan(&right);
            assert_up(&mut node, &frr, "eth1");
        }
        assert_eq!(node.downs(), [""; 0]);
    }
}

#[test]
fn sessions_come_back_after_either_end_has_restarted_or_the_link_was_gone() {
    let lab = wires(&["eth0"]);
    let mut frr = frr(&lab, &["eth0"], |_| {});
    let mut node = Node::start(&lab, "node");
    node.plan(&desired(&["eth0"]));
    assert_up(&mut node, &frr, "eth0");
    frr.kill();
    node.wait_up("eth0", false);
    frr.start();
    assert_up(&mut node, &frr, "eth0");
    assert_routes(&lab, &frr, &["eth0"]);

    for host in ["frr", "node"] {
        lab.ip(host, "link set eth0 down");
        node.wait_up("eth0", false);
        frr.wait_established("eth0", false);
        lab.ip(host, "link set eth0 up");
        assert_up(&mut node, &frr, "eth0");
        assert_routes(&lab, &frr, &["eth0"]);
    }

    node.kill();
    frr.wait_established("eth0", false);
    let mut node = Node::start(&lab, "node");
    node.plan(&desired(&["eth0"]));
    assert_up(&mut node, &frr, "eth0");

    // Another name is another interface; the same name on a new wire is the one that was meant.
    lab.ip("node", "link set eth0 down");
    lab.ip("node", "link set eth0 name lan0");
    lab.ip("node", "link set lan0 up");
    node.wait_peer("eth0", "it is gone", |status| says(status, "there is no interface eth0"));
    lab.ip("node", "link del lan0");
    lab.veth(("frr", "eth0"), ("node", "eth0"));
    assert_up(&mut node, &frr, "eth0");
    assert_routes(&lab, &frr, &["eth0"]);
}

#[test]
fn a_router_that_takes_the_place_of_another_is_found_and_two_at_once_are_told() {
    let lab = Lab::new(&[("node", 10), ("one", 1), ("other", 2)]);
    let start = |host: &str, number: u8| {
        let peer = Peer::new("eth0", 0);
        let config = Config::new(FRR_ASN + u32::from(number), [10, 79, 0, number], vec![peer]);
        lab.router(Kind::Frr, host, config)
    };
    for host in ["node", "one", "other"] {
        lab.ip(host, "-6 addr flush dev eth0");
    }
    lab.address("node", "eth0", "fe80::10/64");
    lab.address("one", "eth0", "fe80::1/64");
    lab.address("other", "eth0", "fe80::2/64");
    let mut one = start("one", 1);
    let mut node = Node::start(&lab, "node");
    node.plan(&desired(&["eth0"]));
    assert_up(&mut node, &one, "eth0");
    one.kill();
    lab.ip("one", "link set eth0 down");
    let _other = start("other", 2);
    node.wait_peer("eth0", "the new router", |status| {
        status["state"] == "established" && status["neighbour"] == "fe80::2%eth0"
    });
    node.wait_peer("eth0", "no trouble", |status| problems(status).is_empty());
    node.downs();

    // The first one again: it takes what it hears last, which may be the other one.
    lab.ip("one", "link set eth0 up");
    lab.address("one", "eth0", "fe80::1/64");
    one.start();
    node.wait_peer("eth0", "two routers", |status| problems(status) == ["AmbiguousNeighbor"]);
    let status = node.settled()["peers"]["eth0"].clone();
    assert_eq!(status["neighbour"], "fe80::2%eth0", "{status}");
    assert_eq!(node.downs(), [""; 0], "the session is not touched");
    let message = status["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("fe80::1") && message.contains("fe80::2"), "{message}");
}
