//! What routers hear: attributes, aggregates, deltas, all again when asked, and much.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use gatehouse_testbed::{
    hosts::run,
    routers::{Kind, Route, Router},
    wait::eventually,
};
use gatehouse_vip::bgp::spec::{BgpAdvertisementSpec, CommunityAlias, CommunitySpec};
use serde_json::Value;

use crate::{
    node::Node,
    process::Desired,
    scene::{Asn, NODE, ROUTE, ROUTE6, VIP, assert_route, assert_up, hosts, name, peer, routers},
};

fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Waits until all routers have a route with these communities and this preference.
fn assert_said(
    routers: &[Router<'_>],
    prefix: &str,
    communities: &[&str],
    large: &[&str],
    preference: Option<u32>,
) {
    let (communities, large) = (texts(communities), texts(large));
    let hop: IpAddr = NODE.parse().unwrap();
    for router in routers {
        router.wait_route(prefix, |route| {
            route.is_some_and(|route: &Route| {
                let said = preference.is_none() || route.local_pref == preference;
                said && route.communities == communities
                    && route.large == large
                    && route.next_hops == [hop].into()
            })
        });
    }
}

fn sent_updates(node: &mut Node, peer: &str) -> u64 {
    node.settled()["peers"][peer]["sent_messages"]["update"].as_u64().unwrap()
}

#[test]
fn communities_and_local_pref_reach_every_kind_of_router_and_change_without_a_reset() {
    let lab = hosts(&Kind::ALL);
    let routers = routers(&lab, &Kind::ALL, Asn::Internal, |_| {});
    let mut node = Node::start(&lab, "node");
    let mut desired = Desired::new(&Kind::ALL, Asn::Internal);
    let alias = CommunityAlias { name: "front-door".into(), value: "large:64512:7:8".into() };
    desired.communities.insert("names".into(), CommunitySpec { communities: vec![alias] });
    let all = desired.advertisements.get_mut("all").unwrap();
    all.local_pref = 200;
    all.communities =
        ["64512:1", "65535:65281", "large:70000:2:3", "front-door"].map(str::to_owned).into();
    node.plan(&desired);
    assert_up(&mut node, &routers);
    let large = ["70000:2:3", "64512:7:8"];
    for router in &routers {
        router.wait_route(ROUTE, |route| {
            route.is_some_and(|route: &Route| {
                // Some show a well-known community by its name.
                let standard = &route.communities;
                standard.contains("64512:1")
                    && standard.len() == 2
                    && route.local_pref == Some(200)
                    && route.large == texts(&large)
                    && route.as_path.is_empty()
            })
        });
    }
    desired.advertisements.get_mut("all").unwrap().communities = vec!["64512:2".into()];
    desired.advertisements.get_mut("all").unwrap().local_pref = 300;
    node.plan(&desired);
    assert_said(&routers, ROUTE, &["64512:2"], &[], Some(300));
    desired.advertisements.insert("all".into(), BgpAdvertisementSpec::default());
    node.plan(&desired);
    assert_said(&routers, ROUTE, &[], &[], Some(100));
    assert_eq!(node.downs(), [""; 0]);
}

#[test]
fn an_aggregate_stays_as_long_as_one_of_its_addresses_does() {
    let lab = hosts(&Kind::ALL);
    let routers = routers(&lab, &Kind::ALL, Asn::External, |_| {});
    let mut node = Node::start(&lab, "node");
    let mut desired =
        Desired::new(&Kind::ALL, Asn::External).with(|peer| peer.dual_stack_address_family = true);
    let wide = BgpAdvertisementSpec {
        aggregation_length: Some(26),
        aggregation_length_v6: Some(64),
        communities: vec!["64512:26".into()],
        ..BgpAdvertisementSpec::default()
    };
    desired.advertisements.insert("wide".into(), wide);
    // Only one router hears of single addresses.
    desired.advertisements.get_mut("all").unwrap().peers = vec![name(Kind::Bird).into()];
    node.plan(&desired);
    assert_up(&mut node, &routers);
    assert_said(&routers, "203.0.113.0/26", &["64512:26"], &[], None);
    assert_route(&routers, "2001:db8:80::/64", true);
    for router in &routers {
        let single = router.kind == Kind::Bird;
        router.wait_route(ROUTE, |route| route.is_some() == single);
        router.wait_route(ROUTE6, |route| route.is_some() == single);
    }
    let before = sent_updates(&mut node, "frr");
    desired.addresses.push("203.0.113.11".parse().unwrap());
    node.plan(&desired);
    assert_route(&routers[1..=1], "203.0.113.11/32", true);
    desired.addresses.retain(|ip| *ip != VIP.parse::<IpAddr>().unwrap());
    node.plan(&desired);
    assert_route(&routers[1..=1], ROUTE, false);
    assert_route(&routers, "203.0.113.0/26", true);
    assert_eq!(sent_updates(&mut node, "frr"), before, "nothing has changed for those");
    desired.addresses.clear();
    node.plan(&desired);
    assert_route(&routers, "203.0.113.0/26", false);
    assert_route(&routers, "2001:db8:80::/64", false);
    assert_eq!(node.downs(), [""; 0]);
}

#[test]
fn a_router_that_asks_is_told_everything_again() {
    let kinds = [Kind::Frr, Kind::Bird];
    let lab = hosts(&kinds);
    let routers = routers(&lab, &kinds, Asn::External, |_| {});
    let mut node = Node::start(&lab, "node");
    node.plan(
        &Desired::new(&kinds, Asn::External).with(|peer| peer.dual_stack_address_family = true),
    );
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);
    assert_route(&routers, ROUTE6, true);
    for router in &routers {
        let before = sent_updates(&mut node, name(router.kind));
        router.refresh(NODE);
        node.wait_peer(name(router.kind), "both families again", |status| {
            let refreshes = status["received_messages"]["route_refresh"].as_u64().unwrap();
            let updates = status["sent_messages"]["update"].as_u64().unwrap();
            refreshes >= 2 && updates >= before + 2
        });
    }
    assert_route(&routers, ROUTE, true);
    assert_route(&routers, ROUTE6, true);
    assert_eq!(node.downs(), [""; 0]);
}

/// The prefixes of a list of ExaBGP's.
fn nlri(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|item| item["nlri"].to_string()).collect()
}

/// How many prefixes of IPv4 a router has from the node.
fn count(router: &Router<'_>) -> u64 {
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap_or_default();
    let mut command = router.lab.command(&router.host, "env");
    match router.kind {
        Kind::Frr => {
            command.args(["vtysh", "--vty_socket"]).arg(&router.folder);
            command.args(["-c", "show bgp ipv4 unicast summary json"]);
            json(run(&mut command))["peers"][NODE]["pfxRcd"].as_u64().unwrap_or_default()
        }
        Kind::Bird => {
            command.args(["birdc", "-s"]).arg(router.folder.join("bird.ctl"));
            command.args(["show", "route", "protocol", "p0", "table", "master4", "count"]);
            let text = run(&mut command);
            let line = text.lines().find(|line| line.contains(" of ")).unwrap_or_default();
            line.split(' ').next().unwrap_or_default().parse().unwrap_or_default()
        }
        Kind::GoBgp => {
            command.args(["gobgp", "-j", "global", "rib", "summary", "-a", "ipv4"]);
            json(run(&mut command))["num_destination"].as_u64().unwrap_or_default()
        }
        Kind::ExaBgp => {
            let text = std::fs::read_to_string(router.folder.join("heard.json")).unwrap();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut heard = BTreeSet::new();
            for line in lines {
                let neighbour = &line["neighbor"];
                if neighbour["state"] == "down" {
                    heard.clear();
                }
                let update = &neighbour["message"]["update"];
                for prefix in nlri(&update["withdraw"]["ipv4 unicast"]) {
                    heard.remove(&prefix);
                }
                let hops = update["announce"]["ipv4 unicast"].as_object();
                heard.extend(hops.into_iter().flat_map(|hops| hops.values()).flat_map(nlri));
            }
            heard.len() as u64
        }
    }
}

#[test]
fn ten_thousand_prefixes_reach_all_four_routers_complete() {
    const PREFIXES: u32 = 10_000;
    let lab = hosts(&Kind::ALL);
    let mut routers = routers(&lab, &Kind::ALL, Asn::External, |peer| peer.hold = 90);
    let mut node = Node::start(&lab, "node");
    let mut desired =
        Desired::new(&Kind::ALL, Asn::External).with(|peer| peer.hold_time = Some("90s".into()));
    // No router answers there, so that the addresses are on the interface before a router hears of them.
    desired.peers.insert("nobody".into(), peer("10.79.0.99", 64599));
    desired.advertisements.get_mut("all").unwrap().peers = vec!["nobody".into()];
    let first = u32::from(Ipv4Addr::new(10, 200, 0, 0));
    desired.addresses = (first..first + PREFIXES).map(|ip| Ipv4Addr::from(ip).into()).collect();
    let begun = Instant::now();
    node.plan(&desired);
    eventually("all addresses are on the interface", || {
        match node.status()["addresses"].as_array().map_or(0, Vec::len) {
            count if count == PREFIXES as usize => Ok(()),
            count => Err(count.to_string()),
        }
    });
    println!("{PREFIXES} addresses on the interface: {:?}", begun.elapsed());
    assert_up(&mut node, &routers);
    assert_count(&routers, 0, begun);

    desired.advertisements.get_mut("all").unwrap().peers.clear();
    let begun = Instant::now();
    node.plan(&desired);
    assert_count(&routers, PREFIXES, begun);
    let sent = sent_updates(&mut node, "frr");
    println!("in {sent} UPDATE messages each");
    assert!(sent < u64::from(PREFIXES) / 10, "they are packed: {sent}");

    // Routers that come later hear of all of them at once.
    routers.iter_mut().for_each(Router::restart);
    let begun = Instant::now();
    assert_up(&mut node, &routers);
    assert_count(&routers, PREFIXES, begun);

    let begun = Instant::now();
    let addresses = std::mem::take(&mut desired.addresses);
    node.plan(&desired);
    assert_count(&routers, 0, begun);
    eventually("no address is on the interface", || {
        match lab.ip("node", "-o -4 addr show dev lo") {
            text if text.lines().count() == 1 => Ok(()),
            text => Err(format!("{} addresses", text.lines().count())),
        }
    });

    // From the plan on: first the kernel gets them, then the routers.
    desired.addresses = addresses;
    let begun = Instant::now();
    node.plan(&desired);
    assert_count(&routers, PREFIXES, begun);
}

/// Waits until all routers have so many prefixes, and prints when that was.
fn assert_count(routers: &[Router<'_>], wanted: u32, since: Instant) {
    for router in routers {
        eventually(&format!("{wanted} prefixes by {:?}", router.kind), || match count(router) {
            has if has == u64::from(wanted) => Ok(()),
            has => Err(format!("{has} prefixes\n{}", router.log())),
        });
        println!("{wanted} prefixes by {:?}: {:?}", router.kind, since.elapsed());
    }
}
