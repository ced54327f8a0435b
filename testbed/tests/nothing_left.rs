//! A test that fails, or is killed in the middle, leaves nothing behind: no process, no interface, no
//! namespace, no folder.
//!
//! The test that ends so is a process of its own. What it makes carries its mark, and it lays a cable into a
//! namespace of ours: when the namespace at the other end goes, so does the interface at this one. Needs
//! root, iproute2, util-linux and the Debian packages frr and exabgp, whose routers start others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use gatehouse_testbed::{
    guard,
    namespace::Namespace,
    process::Process,
    program::{Program, own_test},
    routers::{Config, Kind, Peer, lab::Lab},
    wait::eventually,
};

/// The namespace that the test to be ended lays a cable into: a path.
const BESIDE: &str = "GATEHOUSE_TESTBED_BESIDE";

/// Not a test by itself: a test that makes all sorts of things, says so, and waits to be told how to end.
#[test]
#[ignore = "the test that ends in the middle of the other tests"]
fn test_that_ends_in_the_middle() {
    let lab = Lab::new(&[("node", 1), ("frr", 2), ("exabgp", 3)]);
    let beside = std::env::var(BESIDE).unwrap();
    lab.ip("node", &format!("link add cable type veth peer name cable netns {beside}"));
    let folder = guard::folder("gatehouse-left-").unwrap();
    let sleep = Process::start("sleep", Path::new("sleep"), ["600"], None).unwrap();
    let shell = Program::start(lab.command("node", "bash"));
    // FRR changes its user, ExaBGP starts a process of its own.
    let routers =
        [(Kind::Frr, "frr", 2), (Kind::ExaBgp, "exabgp", 3)].map(|(kind, host, number)| {
            let peer = Peer::new("10.79.0.1", 64512).from(&format!("10.79.0.{number}"));
            lab.router(kind, host, Config::new(64513, [10, 79, 0, number], vec![peer]))
        });
    // Such as a router that hangs.
    routers[0].hold();
    let _server = lab.serve("node", "10.79.0.1:80");
    println!("\nfolder {}", folder.path().display());
    println!("\nfolder {}", lab.folder("node").display());
    println!("\nprocess {}", sleep.pid());
    println!("\nprocess {}", shell.pid());
    println!("\nready");
    let mut order = String::new();
    std::io::stdin().read_line(&mut order).unwrap();
    panic!("as it was told: {order}");
}

/// Everything that carries the mark of a run.
fn marked(mark: &str) -> Vec<String> {
    let mark = format!("{}={mark}", guard::VARIABLE);
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let carries = |path: &Path| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let found = processes.filter(|path| carries(path));
    found.map(|path| fs::read_to_string(path.join("comm")).unwrap_or_default()).collect()
}

/// Lets the other test make its things, ends it, and waits until nothing of them is left.
fn ends(end: impl FnOnce(&mut Program)) {
    let beside = Namespace::new("beside").unwrap();
    let mut command = guard::command("env");
    command.env(BESIDE, beside.path());
    own_test(&mut command, "test_that_ends_in_the_middle");
    let mut program = Program::start(command);
    let mut folders = Vec::new();
    let mut processes = Vec::new();
    program.expect_that("all is there", |line| {
        match line.split_once(' ') {
            Some(("folder", path)) => folders.push(path.to_owned()),
            Some(("process", pid)) => processes.push(pid.to_owned()),
            _ => {}
        }
        line == "ready"
    });
    let mark = mark_of(&processes[0]);
    let before = marked(&mark);
    assert!(before.len() >= 7, "FRR alone is three: {before:?}");
    assert!(folders.iter().all(|path| Path::new(path).is_dir()), "{folders:?}");
    let has_cable = || beside.run(&["ip", "link", "show", "cable"]).is_ok();
    assert!(has_cable());

    end(&mut program);
    eventually("nothing is left", || {
        let left = marked(&mark);
        let folders: Vec<_> = folders.iter().filter(|path| Path::new(path).exists()).collect();
        match left.is_empty() && folders.is_empty() && !has_cable() {
            true => Ok(()),
            false => Err(format!("{left:?}, {folders:?}, interface: {}", has_cable())),
        }
    });
}

/// The mark of the run that a process belongs to.
fn mark_of(pid: &str) -> String {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let prefix = format!("{}=", guard::VARIABLE);
    let mut mark = environment.split('\0').filter_map(|variable| variable.strip_prefix(&prefix));
    mark.next().unwrap().to_owned()
}

#[test]
fn a_test_that_panics_leaves_nothing_behind() {
    ends(|program| program.say("panic"));
}

#[test]
fn a_test_that_is_killed_leaves_nothing_behind() {
    ends(Program::kill);
}
