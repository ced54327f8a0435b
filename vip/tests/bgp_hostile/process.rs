//! The process that the tests start on the node: a speaker that prints its status when asked.
//!
//! Its first line of input is the number of each router and whether it is of the speaker's own ASN,
//! as JSON; each further line asks for the status, which is printed as one line of JSON.

use std::{
    collections::BTreeMap,
    io::BufRead,
    sync::{Arc, Mutex},
};

use gatehouse_testbed::{
    program::{Program, own_test},
    routers::lab::Lab,
};
use gatehouse_vip::{
    BgpSpeaker, BgpSpeakerOptions, ClaimId,
    bgp::{Attributes, BgpPlan, Peer, PeerConfig, RibOut, spec::BgpPeerSpec},
};
use serde_json::Value;

/// What the routers hear of.
pub(crate) const VIP: &str = "203.0.113.10";

/// Name of a router.
pub(crate) fn peer(index: usize) -> String {
    format!("router-{index:03}")
}

/// Address of a router.
pub(crate) fn address(index: usize) -> String {
    format!("10.79.{}.{}", 8 + index / 200, 1 + index % 200)
}

/// The process, seen from the tests.
pub(crate) struct Speaker {
    pid: u32,
    program: Mutex<Program>,
}

impl Speaker {
    /// Starts it on a host; `internal` says of each router whether it is of the speaker's own ASN.
    pub(crate) fn start(lab: &Lab, host: &str, internal: &[bool]) -> Self {
        let mut command = lab.command(host, "env");
        own_test(&mut command, "speaker_process");
        let mut program = Program::start(command);
        program.say(&serde_json::to_string(internal).unwrap());
        Self { pid: program.pid(), program: Mutex::new(program) }
    }

    /// What it knows of its sessions; panics if it does not live any more.
    pub(crate) fn status(&self) -> Value {
        let mut program = self.program.lock().unwrap();
        program.say("status");
        let line = program.expect_that("its status", |line| line.starts_with("status "));
        serde_json::from_str(&line["status ".len()..]).unwrap()
    }

    /// Resident memory in KiB, pages of the binary left out: they come in as they are used.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Open files.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }
}

/// The process itself.
pub(crate) fn run() {
    let mut lines = std::io::stdin().lock().lines().map(Result::unwrap);
    let internal: Vec<bool> = serde_json::from_str(&lines.next().unwrap()).unwrap();
    let options = BgpSpeakerOptions { router_id: Some([10, 0, 0, 1].into()), ..Default::default() };
    let speaker = BgpSpeaker::start(options, |_| {}).unwrap();
    speaker.apply(plan(&internal));
    for _ in lines {
        println!("\nstatus {}", serde_json::to_string(&*speaker.status()).unwrap());
    }
    speaker.stop();
}

fn plan(internal: &[bool]) -> BgpPlan {
    let rib = RibOut {
        routes: [(format!("{VIP}/32").parse().unwrap(), Arc::new(Attributes::default()))].into(),
    };
    let peers: BTreeMap<_, _> = internal.iter().enumerate().map(config).collect();
    BgpPlan {
        routes: peers.keys().map(|name| (name.clone(), Arc::new(rib.clone()))).collect(),
        peers,
        addresses: [(VIP.parse().unwrap(), vec![ClaimId("default/web".into())])].into(),
    }
}

fn config((index, &internal): (usize, &bool)) -> (String, Arc<PeerConfig>) {
    let spec = BgpPeerSpec {
        my_asn: 64512,
        peer_asn: if internal { 64512 } else { 64513 },
        peer_address: address(index),
        dual_stack_address_family: true,
        ..Default::default()
    };
    let peer = Peer::parse(&peer(index), &spec).unwrap().for_session();
    (peer.name.clone(), Arc::new(PeerConfig { peer, password: None, bfd: None }))
}
