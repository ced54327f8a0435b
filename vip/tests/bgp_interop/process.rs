//! The process that the tests start on a host: a BGP speaker that obeys lines and prints what happens.
//!
//! Commands on its input: `plan DESIRED` (a [`Desired`] in JSON, which becomes a plan as the gateway makes it),
//! `drain`, `status`. It stops at the end of input. `GH_GRACE` says how long routes are marked before they
//! are withdrawn, in milliseconds.

use std::{collections::BTreeMap, env::var, io::BufRead, net::IpAddr, time::Duration};

use gatehouse_testbed::wait;
use gatehouse_vip::{
    Allocation, Assignment, BgpEvent, BgpSpeaker, BgpSpeakerOptions, ClaimId, NodeFacts,
    Quarantined, Wanted,
    api::IpAddressPoolSpec,
    bgp::{
        BgpObjects, BgpPlan, PoolFacts, plan,
        spec::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec},
    },
};
use serde::{Deserialize, Serialize};

/// The only pool; every address is of it.
const POOL: [&str; 3] = ["203.0.113.0/24", "10.200.0.0/16", "2001:db8:80::/48"];

/// Objects, by name, and the addresses of the one service that there is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Desired {
    pub(crate) peers: BTreeMap<String, BgpPeerSpec>,
    pub(crate) advertisements: BTreeMap<String, BgpAdvertisementSpec>,
    pub(crate) profiles: BTreeMap<String, BfdProfileSpec>,
    pub(crate) communities: BTreeMap<String, CommunitySpec>,
    pub(crate) addresses: Vec<IpAddr>,
}

pub(crate) fn run() {
    let grace = var("GH_GRACE").map_or(1000, |text| text.parse().unwrap());
    let grace = Duration::from_millis(grace);
    let options = BgpSpeakerOptions { node: "node".into(), grace, ..BgpSpeakerOptions::default() };
    let speaker = BgpSpeaker::start(options, print).unwrap();
    println!("\nnode ready");
    for line in std::io::stdin().lock().lines().map(Result::unwrap) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("plan", desired) => speaker.apply(planned(&serde_json::from_str(desired).unwrap())),
            ("drain", _) => println!("\ndrained {}", speaker.drain_and_wait(wait::LIMIT)),
            ("status", _) => {
                println!("\nstatus {}", serde_json::to_string(&*speaker.status()).unwrap());
            }
            other => panic!("unknown command {other:?}"),
        }
    }
    speaker.stop();
}

fn planned(desired: &Desired) -> BgpPlan {
    let pool = IpAddressPoolSpec {
        addresses: POOL.map(str::to_owned).into(),
        ..IpAddressPoolSpec::default()
    };
    let objects = BgpObjects {
        peers: desired.peers.clone().into_iter().collect(),
        advertisements: desired.advertisements.clone().into_iter().collect(),
        profiles: desired.profiles.clone().into_iter().collect(),
        communities: desired.communities.clone().into_iter().collect(),
        pools: vec![PoolFacts::new("pool", &BTreeMap::new(), &pool)],
        secrets: BTreeMap::new(),
    };
    let web = ClaimId("test/web".into());
    let assigned = |ip: &IpAddr| Assignment { ip: *ip, pool: "pool".into() };
    let allocation = Allocation {
        assigned: [(web.clone(), desired.addresses.iter().map(assigned).collect())].into(),
        refused: BTreeMap::new(),
        quarantined: Quarantined::default(),
    };
    let node = NodeFacts { name: "node".into(), ..NodeFacts::default() };
    let planned = plan(&objects, &allocation, &[(web, Wanted::default())].into(), &node);
    for (object, name, refusal) in planned.refusals {
        println!("\nobject {} {name} {refusal}", object.kind());
    }
    planned.plan
}

fn print(event: BgpEvent) {
    match event {
        BgpEvent::Up { peer } => println!("\nup {peer}"),
        BgpEvent::Down { peer, reason } => println!("\ndown {peer} {reason}"),
        BgpEvent::Added { vip } => println!("\nadded {vip}"),
        BgpEvent::Removed { vip } => println!("\nremoved {vip}"),
        BgpEvent::Refused { vip, refusal } => println!("\nrefused {vip} {refusal}"),
    }
}
