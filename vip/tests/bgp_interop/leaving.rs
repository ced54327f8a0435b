//! That the node leaves well, as a whole or from one router, and touches nothing else.

use std::{fs, path::PathBuf, time::Duration};

use gatehouse_testbed::{
    routers::{Kind, Router},
    wait::eventually,
};

use crate::{
    node::Node,
    process::Desired,
    scene::{Asn, NODE, ROUTE, VIP, assert_route, assert_up, hosts, name, routers},
};

/// Waits until a router has logged something, however long ago.
fn assert_notified(router: &Router<'_>, word: &str) {
    eventually(&format!("{word} by {:?}", router.kind), || {
        let logs = fs::read_dir(&router.folder).unwrap().map(|entry| entry.unwrap().path());
        let mut logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
        let heard =
            |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(word);
        if logs.any(heard) { Ok(()) } else { Err(router.log()) }
    });
}

#[test]
fn a_node_that_drains_is_marked_then_withdrawn_then_gone_and_keeps_its_address_to_the_end() {
    let lab = hosts(&Kind::ALL);
    let routers = routers(&lab, &Kind::ALL, Asn::External, |_| {});
    // Long enough to be seen by routers that are asked one after the other.
    let mut node = Node::start_with_grace(&lab, "node", Duration::from_secs(12));
    let mut desired = Desired::new(&Kind::ALL, Asn::External);
    desired.advertisements.get_mut("all").unwrap().communities = vec!["64512:1".into()];
    node.plan(&desired);
    assert_up(&mut node, &routers);
    assert_route(&routers, ROUTE, true);

    node.say("drain");
    let marked = ["64512:1", "65535:0"].map(str::to_owned).into();
    for router in &routers {
        router.wait_route(ROUTE, |route| route.is_some_and(|route| route.communities == marked));
        assert!(router.established(NODE), "{}", router.log());
    }
    assert_route(&routers, ROUTE, false);
    node.expect("it is drained", |line| line == "drained true");
    for router in &routers {
        router.wait_established(NODE, false);
    }
    assert_notified(&routers[0], "6/2 (Cease/Administrative Shutdown)");
    assert_notified(&routers[1], "Administrative shutdown");
    let addresses = lab.ip("node", "-o addr show dev lo");
    assert!(addresses.contains(VIP), "open connections need the address: {addresses}");
    node.finish();
    let addresses = lab.ip("node", "-o addr show dev lo");
    assert!(!addresses.contains(VIP), "{addresses}");
}

#[test]
fn a_peer_that_is_added_changed_or_removed_touches_no_other() {
    let lab = hosts(&Kind::ALL);
    let routers = routers(&lab, &Kind::ALL, Asn::External, |_| {});
    let mut node = Node::start(&lab, "node");
    let all = Desired::new(&Kind::ALL, Asn::External);
    let mut desired = all.clone();
    desired.peers.clear();
    for kind in Kind::ALL {
        desired.peers.insert(name(kind).to_owned(), all.peers[name(kind)].clone());
        node.plan(&desired);
        node.wait_up(name(kind), true);
    }
    assert_route(&routers, ROUTE, true);
    let updates = |node: &mut Node| {
        let status = node.settled();
        Kind::ALL.map(|kind| status["peers"][name(kind)]["sent_messages"]["update"].clone())
    };
    let before = updates(&mut node);
    assert_eq!(node.downs(), [""; 0]);

    // A change that needs a new session, then one that needs none, then removal.
    desired.peers.get_mut(name(Kind::Bird)).unwrap().hold_time = Some("6s".into());
    node.plan(&desired);
    node.wait_peer(name(Kind::Bird), "the new hold time", |peer| peer["hold_seconds"] == 6);
    assert_notified(&routers[1], "Other configuration change");
    routers[1].wait_established(NODE, true);
    routers[1].wait_route(ROUTE, |route| route.is_some());
    assert_eq!(node.downs(), [name(Kind::Bird)]);
    desired.advertisements.get_mut("all").unwrap().local_pref = 150;
    node.plan(&desired);
    desired.peers.remove(name(Kind::ExaBgp));
    node.plan(&desired);
    routers[3].wait_established(NODE, false);
    desired.peers.remove(name(Kind::Frr));
    node.plan(&desired);
    routers[0].wait_established(NODE, false);
    assert_notified(&routers[0], "6/3 (Cease/Peer De-configured)");
    routers[0].wait_route(ROUTE, |route| route.is_none());

    let status = node.settled();
    assert_eq!(status["peers"].as_object().unwrap().len(), 2, "{status}");
    assert_eq!(node.downs(), [name(Kind::ExaBgp), name(Kind::Frr)]);
    let gobgp = &status["peers"][name(Kind::GoBgp)];
    // LOCAL_PREF is not for routers of another AS.
    assert_eq!(gobgp["sent_messages"]["update"], before[2], "{gobgp}");
    assert!(routers[2].established(NODE) && routers[1].established(NODE));
}
