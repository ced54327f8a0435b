//! The process that the tests start on a host: a speaker that obeys lines and prints what happens.
//!
//! Commands on its input: `apply [ADDRESS[@INTERFACE]]…`, `withdraw`, `hand-over`, `let-go ADDRESS`,
//! `status`, `serve` (TCP port 7000: each line comes back after the node's name). It stops at the end of input. Events come as lines; see [`print`]. The group is told by
//! environment variables, as the command line belongs to the test harness: `GH_NODE`, `GH_KEY`,
//! `GH_PEERS`, `GH_DRAIN_TIME` (seconds).

use std::{
    collections::BTreeSet,
    env::var,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use gatehouse_testbed::wait;
use gatehouse_vip::{
    DEFAULT_GROUP_PORT, GroupKey, GroupOptions, Interfaces, Speaker, SpeakerEvent, SpeakerOptions,
    Vip, VipPlan,
};

pub(crate) fn run() {
    let speaker = Speaker::start(options(), print).unwrap();
    println!("\nspeaker ready");
    for line in std::io::stdin().lock().lines().map(Result::unwrap) {
        let mut words = line.split(' ');
        match words.next() {
            Some("apply") => speaker.apply(plan(words)),
            Some("withdraw") => {
                println!("\nwithdrew {}", speaker.withdraw_all_and_wait(wait::LIMIT))
            }
            Some("hand-over") => {
                println!("\nhanded over {}", speaker.hand_over_and_wait(wait::LIMIT));
            }
            Some("let-go") => speaker.let_go(words.next().unwrap().parse().unwrap()),
            Some("status") => print_status(&speaker),
            Some("serve") => serve(),
            other => panic!("unknown command {other:?}"),
        }
    }
    speaker.stop();
}

fn options() -> SpeakerOptions {
    let group = var("GH_KEY").ok().map(|key| GroupOptions {
        key: Some(GroupKey::new(key.as_bytes()).unwrap()),
        port: DEFAULT_GROUP_PORT,
        peers: var("GH_PEERS")
            .unwrap_or_default()
            .split_whitespace()
            .map(|peer| SocketAddr::new(peer.parse().unwrap(), DEFAULT_GROUP_PORT))
            .collect(),
    });
    let drain_time = var("GH_DRAIN_TIME").map_or(30, |seconds| seconds.parse().unwrap());
    SpeakerOptions {
        name: "gh-speaker".into(),
        node: var("GH_NODE").unwrap_or_else(|_| "gateway".into()),
        group,
        drain_time: Duration::from_secs(drain_time),
        ..SpeakerOptions::default()
    }
}

fn serve() {
    let listener = TcpListener::bind(("::", 7000)).unwrap();
    println!("\nserving");
    std::thread::spawn(move || {
        for connection in listener.incoming().map(Result::unwrap) {
            std::thread::spawn(move || {
                let lines = BufReader::new(connection.try_clone().unwrap()).lines();
                for line in lines.map_while(Result::ok) {
                    let name = var("GH_NODE").unwrap();
                    if writeln!(&connection, "{name} {line}").is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn print(event: SpeakerEvent) {
    match event {
        SpeakerEvent::Announced { vip, interface } => println!("\nannounced {vip} {interface}"),
        SpeakerEvent::Draining { vip, to } => println!("\ndraining {vip} {to}"),
        SpeakerEvent::Cleared { vip } => println!("\ncleared {vip}"),
        SpeakerEvent::Forwarded { vip, elsewhere } => println!("\nforwarded {vip} {elsewhere}"),
        SpeakerEvent::Withdrawn { vip } => println!("\nwithdrawn {vip}"),
        SpeakerEvent::Refused { vip, refusal } => {
            println!("\nrefused {vip} severe={} {refusal}", refusal.is_error());
        }
    }
}

fn print_status(speaker: &Speaker) {
    let status = speaker.status();
    for member in &status.members {
        println!("\nmember {} {} holds={}", member.node, member.state.as_str(), member.holds);
    }
    for (vip, status) in status.vips.iter() {
        let owner = status.owner.as_deref().unwrap_or("nobody");
        let here = status.here.as_str();
        println!("\nvip {vip} {here} owner={owner} eligible={:?}", status.eligible);
    }
    println!("\nrefused datagrams {:?}", status.counters.refused);
    status.problems.iter().for_each(|problem| println!("\nproblem {problem}"));
    println!("\nstatus ends");
}

fn plan<'a>(addresses: impl Iterator<Item = &'a str>) -> VipPlan {
    let vip = |text: &str| {
        let (ip, interfaces) = match text.split_once('@') {
            Some((ip, name)) => (ip, Interfaces::Named(BTreeSet::from([name.to_owned()]))),
            None => (text, Interfaces::Any),
        };
        (ip.parse().unwrap(), Vip { claims: vec![], interfaces, preference: 0, partial: false })
    };
    VipPlan { vips: addresses.map(vip).collect() }
}
