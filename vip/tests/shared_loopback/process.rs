//! The process that the tests start on a host: both speakers, as the gateway has them.
//!
//! Commands on its input: `neighbours [ADDRESS]…`, `routers [ADDRESS]…` (the addresses that they are to hear of now),
//! `hand-over`, `let-go ADDRESS`. It stops at the end of input. Events come as lines. `GH_NODE` and
//! `GH_KEY` name the node, as the command line belongs to the test harness.

use std::{collections::BTreeMap, env::var, io::BufRead, net::IpAddr};

use gatehouse_testbed::wait;
use gatehouse_vip::{
    Allocation, Assignment, BgpEvent, BgpSpeaker, BgpSpeakerOptions, ClaimId, DEFAULT_GROUP_PORT,
    GroupKey, GroupOptions, Interfaces, NodeFacts, Quarantined, SharedLoopback, Speaker,
    SpeakerEvent, SpeakerOptions, Vip, VipPlan, Wanted,
    api::IpAddressPoolSpec,
    bgp::{
        self, BgpObjects, BgpPlan, PoolFacts,
        spec::{BgpAdvertisementSpec, BgpPeerSpec},
    },
};

pub(crate) fn run() {
    let (node, loopback) = (var("GH_NODE").unwrap(), SharedLoopback::default());
    let key = GroupKey::new(var("GH_KEY").unwrap().as_bytes()).unwrap();
    let options = SpeakerOptions {
        node: node.clone(),
        group: Some(GroupOptions { key: Some(key), port: DEFAULT_GROUP_PORT, peers: Vec::new() }),
        loopback: loopback.clone(),
        ..SpeakerOptions::default()
    };
    let bgp = BgpSpeakerOptions { node, loopback, ..BgpSpeakerOptions::default() };
    let routers = BgpSpeaker::start(bgp, print_routed).unwrap();
    let neighbours = Speaker::start(options, print).unwrap();
    println!("\nspeaker ready");
    for line in std::io::stdin().lock().lines().map(Result::unwrap) {
        let mut words = line.split(' ');
        match words.next() {
            Some("neighbours") => neighbours.apply(VipPlan { vips: words.map(vip).collect() }),
            Some("routers") => routers.apply(routed(words.map(|ip| ip.parse().unwrap()).collect())),
            Some("hand-over") => drop(neighbours.hand_over_and_wait(wait::LIMIT)),
            Some("let-go") => neighbours.let_go(words.next().unwrap().parse().unwrap()),
            other => panic!("unknown command {other:?}"),
        }
    }
    routers.stop();
    neighbours.stop();
}

fn vip(ip: &str) -> (IpAddr, Vip) {
    let vip =
        Vip { claims: Vec::new(), interfaces: Interfaces::Any, preference: 0, partial: false };
    (ip.parse().unwrap(), vip)
}

/// A router that does not answer is to hear of these addresses.
fn routed(addresses: Vec<IpAddr>) -> BgpPlan {
    let pool = IpAddressPoolSpec {
        addresses: ["10.77.0.0/24", "2001:db8:77::/64"].map(str::to_owned).into(),
        ..IpAddressPoolSpec::default()
    };
    let peer = BgpPeerSpec {
        my_asn: 64512,
        peer_asn: 64513,
        peer_address: "10.77.0.99".into(),
        dual_stack_address_family: true,
        ..BgpPeerSpec::default()
    };
    let objects = BgpObjects {
        peers: vec![("router".into(), peer)],
        advertisements: vec![("all".into(), BgpAdvertisementSpec::default())],
        pools: vec![PoolFacts::new("pool", &BTreeMap::new(), &pool)],
        ..BgpObjects::default()
    };
    let web = ClaimId("test/web".into());
    let assigned = addresses.into_iter().map(|ip| Assignment { ip, pool: "pool".into() });
    let allocation = Allocation {
        assigned: [(web.clone(), assigned.collect())].into(),
        refused: BTreeMap::new(),
        quarantined: Quarantined::default(),
    };
    let node = NodeFacts { name: "node".into(), ..NodeFacts::default() };
    bgp::plan(&objects, &allocation, &[(web, Wanted::default())].into(), &node).plan
}

fn print(event: SpeakerEvent) {
    match event {
        SpeakerEvent::Announced { vip, interface } => println!("\nannounced {vip} {interface}"),
        SpeakerEvent::Draining { vip, to } => println!("\ndraining {vip} {to}"),
        SpeakerEvent::Withdrawn { vip } => println!("\nwithdrawn {vip}"),
        other => println!("\n{other:?}"),
    }
}

fn print_routed(event: BgpEvent) {
    match event {
        BgpEvent::Added { vip } => println!("\nadded {vip}"),
        BgpEvent::Removed { vip } => println!("\nremoved {vip}"),
        other => println!("\n{other:?}"),
    }
}
