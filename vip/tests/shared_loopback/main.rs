//! An address that both speakers of a node need: announced to neighbours and, at the same time, to routers.
//!
//! Hosts on one switch, all of network namespaces; on each a process with both speakers. Needs root and
//! the tools of `netns.rs` and `nft`: where one is missing, the tests fail.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on the real network have threads and clocks"
)]

mod process;

use std::time::Duration;

use gatehouse_testbed::{program::Program, switch::Lab};

const KEY: &str = "a secret of these tests alone";
/// By the order of SHA-256(node#address), `gateway` comes before `second` for these.
const VIPS: [&str; 2] = ["10.77.0.210", "2001:db8:77::201"];
/// Longer than an address lives that no node of a group renews.
const FENCE: Duration = Duration::from_secs(3);

/// Not a test by itself: the process that the tests start on the hosts.
#[test]
#[ignore = "the speakers' process of the other tests"]
fn speaker_process() {
    process::run();
}

/// Two members, `gateway` and `second`, of which the first has the addresses on its link.
fn pair(lab: &Lab) -> [Program; 2] {
    lab.host("second", 3);
    let mut members = ["gateway", "second"].map(|host| lab.member(host, KEY, &[]));
    for member in &mut members {
        member.say(&format!("neighbours {}", VIPS.join(" ")));
    }
    each(&members[0], |vip| format!("announced {vip} eth0"));
    members
}

/// Waits for a line about each address, in whichever order.
fn each(program: &Program, line: impl Fn(&str) -> String) {
    let mut missing: Vec<_> = VIPS.map(line).into();
    program.expect(|line| {
        missing.retain(|expected| expected != line);
        missing.is_empty()
    });
}

/// On which interfaces of the gateway an address is.
fn on(lab: &Lab, vip: &str) -> Vec<String> {
    let text = lab.ip("gateway", "-o addr show");
    let lines = text.lines().filter(|line| line.contains(&format!(" {vip}/")));
    lines.filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect()
}

fn until_on(lab: &Lab, interfaces: &[&str]) {
    for vip in VIPS {
        lab.until(&format!("{vip} is on {interfaces:?}"), || {
            let mut on = on(lab, vip);
            on.sort();
            on == interfaces
        });
    }
}

/// Watches what leaves the gateway's `lo`.
fn watch(lab: &Lab) -> Program {
    let mut watch = lab.shell("gateway");
    watch.say("echo ready; exec ip -o monitor address");
    watch.expect(|line| line == "ready");
    // It is heard once it listens.
    lab.until("the monitor listens", || {
        lab.ip("gateway", "addr replace 192.0.2.77/32 dev lo");
        lab.ip("gateway", "addr del 192.0.2.77/32 dev lo");
        watch.rest(Duration::from_millis(100)).iter().any(|line| line.contains("192.0.2.77"))
    });
    watch
}

/// Asserts that neither address has left `lo` since then.
fn assert_stayed(watch: &Program) {
    let lines = watch.rest(Duration::from_millis(300));
    let left = lines.iter().filter(|line| line.starts_with("Deleted") && line.contains(" lo "));
    let left: Vec<_> = left.filter(|line| VIPS.iter().any(|vip| line.contains(vip))).collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn an_address_that_routers_hear_of_stays_on_lo_when_its_draining_ends() {
    let lab = Lab::new();
    let mut members = pair(&lab);
    members[0].say(&format!("routers {}", VIPS.join(" ")));
    each(&members[0], |vip| format!("added {vip}"));
    until_on(&lab, &["eth0", "lo"]);
    let watch = watch(&lab);

    members[0].say("hand-over");
    each(&members[0], |vip| format!("draining {vip} second"));
    until_on(&lab, &["lo"]);
    VIPS.iter().for_each(|vip| members[0].say(&format!("let-go {vip}")));
    each(&members[0], |vip| format!("withdrawn {vip}"));
    std::thread::sleep(FENCE);
    until_on(&lab, &["lo"]);
    assert_stayed(&watch);

    members[0].say("routers");
    each(&members[0], |vip| format!("removed {vip}"));
    until_on(&lab, &[]);
}

#[test]
fn an_address_that_drains_stays_on_lo_when_routers_begin_and_cease_to_hear_of_it() {
    let lab = Lab::new();
    let mut members = pair(&lab);
    members[0].say("hand-over");
    each(&members[0], |vip| format!("draining {vip} second"));
    until_on(&lab, &["lo"]);
    let watch = watch(&lab);

    members[0].say(&format!("routers {}", VIPS.join(" ")));
    each(&members[0], |vip| format!("added {vip}"));
    std::thread::sleep(FENCE);
    members[0].say("routers");
    each(&members[0], |vip| format!("removed {vip}"));
    std::thread::sleep(FENCE);
    until_on(&lab, &["lo"]);
    assert_stayed(&watch);

    VIPS.iter().for_each(|vip| members[0].say(&format!("let-go {vip}")));
    each(&members[0], |vip| format!("withdrawn {vip}"));
    until_on(&lab, &[]);
}

#[test]
fn what_a_killed_member_of_a_group_told_routers_is_still_on_lo_when_it_starts_again() {
    let lab = Lab::new();
    let mut members = pair(&lab);
    members[0].say(&format!("routers {}", VIPS.join(" ")));
    each(&members[0], |vip| format!("added {vip}"));
    let watch = watch(&lab);
    members[0].kill();

    let mut next = lab.member("gateway", KEY, &[]);
    next.say(&format!("neighbours {}", VIPS.join(" ")));
    // Longer than what is left on the link may stay there.
    std::thread::sleep(FENCE);
    next.say(&format!("routers {}", VIPS.join(" ")));
    each(&next, |vip| format!("added {vip}"));
    VIPS.iter().for_each(|vip| assert!(on(&lab, vip).contains(&"lo".to_owned()), "{vip}"));
    assert_stayed(&watch);
    next.finish();
    until_on(&lab, &[]);
}
