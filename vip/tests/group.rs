//! Several speakers that share addresses, on real interfaces: which host has an address when, and which
//! answers for it, as the neighbours see it.
//!
//! Hosts on one switch, all of network namespaces; on each a speaker's process. Needs root and the
//! tools of `netns.rs` and `nft`: where one is missing, the tests fail.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on the real network have threads and clocks"
)]

mod speaker_process;

use std::time::{Duration, Instant};

use gatehouse_testbed::{
    program::Program,
    switch::Lab,
    wait::{self, eventually},
};

const KEY: &str = "a secret of these tests alone";
/// By the order of SHA-256(node#address), `gateway` comes before `second` for these, and after it
/// for the others.
const OF_GATEWAY: [&str; 2] = ["10.77.0.210", "2001:db8:77::201"];
const OF_SECOND: [&str; 2] = ["10.77.0.200", "2001:db8:77::200"];
/// The table of a node's fence.
const FENCE: &str = "gatehouse-fence-7471";

/// Not a test by itself: the process that the tests start on the hosts.
#[test]
#[ignore = "the speaker's process of the other tests"]
fn speaker_process() {
    speaker_process::run();
}

/// Two members, `gateway` (.1) and `second` (.3), that have heard of each other.
fn pair(lab: &Lab, more: &[(&str, &str)]) -> [Program; 2] {
    lab.host("second", 3);
    ["gateway", "second"].map(|host| lab.member(host, KEY, more))
}

fn apply(members: &mut [Program], vips: &[&str]) {
    for member in members {
        member.say(&format!("apply {}", vips.join(" ")));
    }
}

fn all() -> Vec<&'static str> {
    [OF_GATEWAY, OF_SECOND].concat()
}

/// As `ip address` writes it.
fn host_address(vip: &str) -> String {
    format!("{vip}/{}", if vip.contains(':') { 128 } else { 32 })
}

/// Waits until a host, and no other of the two, has these addresses.
fn expect_owner(lab: &Lab, owner: &str, vips: &[&str]) {
    for vip in vips {
        let address = host_address(vip);
        lab.until(&format!("{owner} alone has {vip}"), || {
            ["gateway", "second"].iter().all(|host| lab.has(host, &address) == (host == &owner))
        });
    }
}

/// Waits for all of these lines, in whichever order they come.
fn expect_each(program: &Program, lines: [String; 2]) {
    let mut missing = lines.to_vec();
    program.expect(|line| {
        missing.retain(|expected| expected != line);
        missing.is_empty()
    });
}

/// Which hosts answer the client's ARP or neighbour solicitation for an address; each answer counts.
fn answers(lab: &Lab, vip: &str) -> Vec<String> {
    let text = match vip.contains(':') {
        true => lab.try_run("client", &format!("ndisc6 -q -m -r 1 -w 500 {vip} eth0")).1,
        false => lab.try_run("client", &format!("arping -c 2 -w 2 -r -i eth0 {vip}")).1,
    };
    let mut macs: Vec<_> = text.lines().map(|line| line.trim().to_lowercase()).collect();
    macs.retain(|line| line.matches(':').count() == 5 && !line.contains(' '));
    macs.sort();
    macs.dedup();
    macs
}

/// Asserts that this host, and no other, answers for an address.
#[track_caller]
fn assert_answered_by(lab: &Lab, vip: &str, host: &str) {
    let macs = wait::look(|| Some(answers(lab, vip)).filter(|macs| !macs.is_empty()));
    assert_eq!(macs.unwrap_or_default(), [lab.mac(host)], "{vip}");
}

/// What a member says of itself, line by line.
fn status(member: &mut Program) -> Vec<String> {
    member.say("status");
    let mut lines = Vec::new();
    member.expect(|line| {
        lines.push(line.to_owned());
        line == "status ends"
    });
    lines
}

#[test]
fn each_address_has_one_owner_and_all_are_shared_out() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &all());
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    expect_owner(&lab, "second", &OF_SECOND);
    for vip in all() {
        lab.assert_client_reaches(vip);
    }
    for vip in OF_GATEWAY {
        assert_answered_by(&lab, vip, "gateway");
    }
    eventually("the status tells who has what", || {
        let status = status(&mut members[0]);
        let says = |text: &str| status.iter().any(|line| line.starts_with(text));
        match says("member second alive holds=2")
            && says("vip 10.77.0.200 standby owner=second eligible=[\"second\", \"gateway\"]")
            && says("vip 10.77.0.210 holding owner=gateway")
        {
            true => Ok(()),
            false => Err(status.join("\n")),
        }
    });
}

#[test]
fn when_a_node_is_killed_the_other_takes_over_and_the_kernel_removes_what_it_left() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &all());
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    expect_owner(&lab, "second", &OF_SECOND);
    let capture = lab.capture("arp or (icmp6 and ip6[40] == 136)");
    let since = Instant::now();
    members[0].kill();
    expect_each(&members[1], OF_GATEWAY.map(|vip| format!("announced {vip} eth0")));
    println!("announced {:?} after the kill", since.elapsed());
    let mac = lab.mac("second");
    capture.expect(|line| line.contains(&format!("Reply {} is-at {mac}", OF_GATEWAY[0])));
    // The lifetime: for a while two kernels have it, one of them behind its fence.
    expect_owner(&lab, "second", &all());
    for vip in all() {
        assert_answered_by(&lab, vip, "second");
        lab.assert_client_reaches(vip);
    }
}

#[test]
fn a_node_that_hangs_loses_its_addresses_and_does_not_answer_for_them_when_it_goes_on() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &OF_GATEWAY);
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    members[0].signal("STOP");
    expect_each(&members[1], OF_GATEWAY.map(|vip| format!("announced {vip} eth0")));
    expect_owner(&lab, "second", &OF_GATEWAY);
    let mac = lab.mac("gateway");
    let capture = lab.capture(&format!("ether src {mac} and (arp or (icmp6 and ip6[40] == 136))"));
    let woken = Instant::now();
    members[0].signal("CONT");
    // The hold-down is five seconds; what it would do wrong, it would do at once.
    let frames = capture.before(woken + Duration::from_secs(3));
    let for_vip = |line: &&String| OF_GATEWAY.iter().any(|vip| line.contains(vip));
    assert!(!frames.iter().any(|line| for_vip(&line)), "{frames:#?}");
    expect_owner(&lab, "second", &OF_GATEWAY);
    // It comes back by a planned move.
    expect_owner_on_link(&lab, "gateway", &OF_GATEWAY);
}

/// Waits until only one of the two has the addresses on the link; the other may drain on `lo`.
fn expect_owner_on_link(lab: &Lab, owner: &str, vips: &[&str]) {
    for vip in vips {
        let address = host_address(vip);
        let on_link = |host: &str| {
            let shown = lab.ip(host, "-o addr show dev eth0");
            shown.split_whitespace().any(|word| word == address)
        };
        lab.until(&format!("{owner} alone has {vip} on its eth0"), || {
            ["gateway", "second"].iter().all(|host| on_link(host) == (host == &owner))
        });
    }
}

#[test]
fn a_draining_node_lets_go_of_an_address_only_when_the_other_has_it() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &OF_GATEWAY);
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    let capture = lab.capture("arp");
    members[0].say("hand-over");
    expect_each(&members[1], OF_GATEWAY.map(|vip| format!("announced {vip} eth0")));
    expect_each(&members[0], OF_GATEWAY.map(|vip| format!("draining {vip} second")));
    members[0].expect(|line| line == "handed over true");
    let mac = lab.mac("second");
    capture.expect(|line| line.contains(&format!("Reply {} is-at {mac}", OF_GATEWAY[0])));
    expect_owner_on_link(&lab, "second", &OF_GATEWAY);
    for vip in OF_GATEWAY {
        assert!(lab.gateway_has(&host_address(vip)), "{vip} serves open connections on lo");
        assert_answered_by(&lab, vip, "second");
        members[0].say(&format!("let-go {vip}"));
        members[0].expect(|line| line == format!("withdrawn {vip}"));
    }
    expect_owner(&lab, "second", &OF_GATEWAY);
}

#[test]
fn open_connections_survive_a_planned_move_and_new_ones_are_the_new_owners() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &OF_GATEWAY);
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    for member in &mut members {
        member.say("serve");
        member.expect(|line| line == "serving");
    }
    let shells = OF_GATEWAY.map(|vip| {
        let mut shell = lab.shell("client");
        shell.say(&format!("exec 3<>/dev/tcp/{vip}/7000"));
        shell.say("echo before >&3; read -r -t 60 answer <&3; echo \"$answer\"");
        shell.expect(|line| line == "gateway before");
        shell
    });
    members[0].say("hand-over");
    members[0].expect(|line| line == "handed over true");
    expect_owner_on_link(&lab, "second", &OF_GATEWAY);
    for (mut shell, vip) in shells.into_iter().zip(OF_GATEWAY) {
        shell.say("echo after >&3; read -r -t 60 answer <&3; echo \"$answer\"");
        shell.expect(|line| line == "gateway after");
        shell.say(&format!("exec 4<>/dev/tcp/{vip}/7000"));
        shell.say("echo new >&4; read -r -t 60 answer <&4; echo \"$answer\"");
        shell.expect(|line| line == "second new");
        shell.say("echo still >&3; read -r -t 60 answer <&3; echo \"$answer\"");
        shell.expect(|line| line == "gateway still");
    }
    let forwarding = || {
        let tables = lab.run("second", "nft list tables");
        tables.lines().filter(|table| !table.contains(FENCE)).count()
    };
    assert_eq!(forwarding(), 1);
    for vip in OF_GATEWAY {
        members[0].say(&format!("let-go {vip}"));
    }
    lab.until("nothing is forwarded", || forwarding() == 0);
}

#[test]
fn an_address_that_comes_back_while_it_drains_finds_its_connections() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &OF_GATEWAY);
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    for member in &mut members {
        member.say("serve");
        member.expect(|line| line == "serving");
    }
    let ask = |shell: &mut Program, descriptor: u8, expected: &str| {
        shell.say(&format!("echo x >&{descriptor}; read -r -t 60 answer <&{descriptor}"));
        shell.say("echo \"$answer\"");
        shell.expect(|line| line == format!("{expected} x"));
    };
    let mut shells = OF_GATEWAY.map(|vip| {
        let mut shell = lab.shell("client");
        shell.say(&format!("exec 3<>/dev/tcp/{vip}/7000"));
        ask(&mut shell, 3, "gateway");
        shell
    });
    // The node is taken out of the plan, and put back.
    members[0].say("apply 10.77.0.240");
    expect_owner_on_link(&lab, "second", &OF_GATEWAY);
    for (shell, vip) in shells.iter_mut().zip(OF_GATEWAY) {
        shell.say(&format!("exec 4<>/dev/tcp/{vip}/7000"));
        ask(shell, 4, "second");
        ask(shell, 3, "gateway");
    }
    members[0].say(&format!("apply {}", OF_GATEWAY.join(" ")));
    expect_owner_on_link(&lab, "gateway", &OF_GATEWAY);
    for shell in &mut shells {
        ask(shell, 3, "gateway");
        ask(shell, 4, "second");
    }
}

#[test]
fn draining_ends_by_itself() {
    let lab = Lab::new();
    // Long enough to be seen on a busy machine.
    let mut members = pair(&lab, &[("GH_DRAIN_TIME", "10")]);
    apply(&mut members, &OF_GATEWAY);
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    members[0].say("hand-over");
    members[0].expect(|line| line == "handed over true");
    expect_owner_on_link(&lab, "second", &OF_GATEWAY);
    assert!(OF_GATEWAY.iter().all(|vip| lab.gateway_has(&host_address(vip))));
    expect_owner(&lab, "second", &OF_GATEWAY);
}

#[test]
fn a_node_that_stops_leaves_nothing_behind_and_its_addresses_are_taken_over() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &all());
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    expect_owner(&lab, "second", &OF_SECOND);
    members[0].finish();
    let left = lab.ip("gateway", "-o addr show");
    let none = all().iter().all(|vip| !left.contains(&host_address(vip)));
    assert!(none, "{left} {:#?}", members[0].rest(Duration::from_millis(100)));
    expect_owner(&lab, "second", &all());
    let strict = lab.run("gateway", "cat /proc/sys/net/ipv4/conf/eth0/arp_ignore");
    assert_eq!(strict.trim(), "0", "the interface's settings are as they were");
    assert_eq!(lab.run("gateway", "nft list ruleset"), "");
}

#[test]
fn an_address_that_a_stranger_uses_is_left_to_it_until_it_goes() {
    let lab = Lab::new();
    lab.host("stranger", 9);
    for vip in OF_GATEWAY {
        let nodad = if vip.contains(':') { " nodad" } else { "" };
        lab.ip("stranger", &format!("addr add {} dev eth0{nodad}", host_address(vip)));
    }
    let mut members = pair(&lab, &[]);
    let other = "10.77.0.220";
    apply(&mut members, &[&OF_GATEWAY[..], &[other]].concat());
    let mac = lab.mac("stranger");
    let mut refused = OF_GATEWAY.to_vec();
    members[0].expect(|line| {
        let used = line.contains("AddressInUse") && line.to_lowercase().contains(&mac);
        refused.retain(|vip| !(used && line.starts_with(&format!("refused {vip} severe=true"))));
        refused.is_empty()
    });
    lab.until("another address is served", || {
        ["gateway", "second"].iter().any(|host| lab.has(host, &host_address(other)))
    });
    for host in ["gateway", "second"] {
        assert!(OF_GATEWAY.iter().all(|vip| !lab.has(host, &host_address(vip))));
    }
    for vip in OF_GATEWAY {
        lab.ip("stranger", &format!("addr del {} dev eth0", host_address(vip)));
    }
    lab.until("the addresses are claimed", || {
        OF_GATEWAY
            .iter()
            .all(|vip| ["gateway", "second"].iter().any(|host| lab.has(host, &host_address(vip))))
    });
}

#[test]
fn nodes_that_multicast_does_not_reach_find_each_other_by_their_addresses() {
    let lab = Lab::new();
    lab.host("second", 3);
    for host in ["gateway", "second"] {
        for rule in [
            "add table inet quiet",
            "add chain inet quiet in { type filter hook input priority 0 ; }",
            "add rule inet quiet in ip daddr 239.0.0.0/8 drop",
            "add rule inet quiet in ip6 daddr ff12::/16 drop",
        ] {
            lab.run(host, &format!("nft {rule}"));
        }
    }
    let mut members = [("gateway", "10.77.0.3"), ("second", "10.77.0.1")]
        .map(|(host, peer)| lab.member(host, KEY, &[("GH_PEERS", peer)]));
    apply(&mut members, &all());
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    expect_owner(&lab, "second", &OF_SECOND);
}

#[test]
fn a_node_with_another_key_is_a_stranger() {
    let lab = Lab::new();
    lab.host("second", 3);
    let mut first = lab.member("gateway", KEY, &[]);
    first.say(&format!("apply {}", OF_SECOND[0]));
    first.expect(|line| line == format!("announced {} eth0", OF_SECOND[0]));
    let mut other = lab.member("second", "not the secret of the others", &[]);
    other.say(&format!("apply {}", OF_SECOND[0]));
    other.expect(|line| line.contains("AddressInUse"));
    expect_owner(&lab, "gateway", &OF_SECOND[..1]);
    let counted = |line: &String| line.starts_with("refused datagrams") && !line.contains("{}");
    assert!(wait::comes_true(|| status(&mut other).iter().any(counted)));
}

#[test]
fn a_thousand_addresses_move_when_their_node_dies() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    // Each node has its share of them.
    let vips: Vec<_> = (0..1000)
        .map(|n| match n % 10 {
            9 => format!("2001:db8:77::1:{n:x}"),
            _ => format!("10.77.{}.{}", 1 + n / 250, 1 + n % 250),
        })
        .collect();
    for (host, number) in [("gateway", 1), ("second", 3)] {
        lab.ip(host, &format!("addr add 10.77.8.{number}/16 dev eth0"));
    }
    let texts: Vec<_> = vips.iter().map(String::as_str).collect();
    apply(&mut members, &texts);
    let held = |host: &str| {
        let shown = lab.ip(host, "-o addr show dev eth0");
        shown
            .split_whitespace()
            .filter(|word| word.ends_with("/32") || word.ends_with("/128"))
            .count()
    };
    lab.until("all addresses are held", || held("gateway") + held("second") == vips.len());
    assert!(held("gateway") > 300 && held("second") > 300);
    std::thread::sleep(Duration::from_secs(8));
    let [own, kernel] = members[1].processor_time();
    std::thread::sleep(Duration::from_secs(5));
    let [own, kernel] =
        [members[1].processor_time()[0] - own, members[1].processor_time()[1] - kernel];
    println!("idle for 5 s: {own} ms of processor time, and {kernel} ms of the kernel's");

    let since = Instant::now();
    members[0].kill();
    lab.until("the other has all of them", || held("second") == vips.len());
    println!("all moved {:?} after the kill", since.elapsed());
    lab.until("the dead node has none of them", || held("gateway") == 0);
}

/// Waits until the gateway's fence is around these addresses and its key turns.
fn expect_fence(lab: &Lab, vips: &[&str]) {
    lab.until("the gateway has its fence", || {
        let (stands, table) = lab.try_run("gateway", &format!("nft list table netdev {FENCE}"));
        stands && table.contains("expires") && vips.iter().all(|vip| table.contains(vip))
    });
}

/// How long the gateway's kernel keeps an address if it is not renewed, in seconds; none while it has not got it: one that
/// lives for two seconds may be gone for a moment on a busy machine.
fn lifetime(lab: &Lab, vip: &str) -> Option<u64> {
    let shown = lab.ip("gateway", "-o addr show dev eth0");
    let line = shown.lines().find(|line| line.contains(&host_address(vip)))?;
    let left = line.split("valid_lft ").nth(1)?.split("sec").next()?;
    Some(left.parse().unwrap_or_else(|_| panic!("{line}")))
}

/// The same, with no fence around it.
fn is_short(lab: &Lab, vip: &str) -> bool {
    lifetime(lab, vip).is_some_and(|left| left <= 2)
}

#[test]
fn the_kernel_of_a_hung_node_is_silent_though_it_has_the_addresses() {
    let lab = Lab::new();
    let mut members = pair(&lab, &[]);
    apply(&mut members, &OF_GATEWAY);
    expect_owner(&lab, "gateway", &OF_GATEWAY);
    expect_fence(&lab, &OF_GATEWAY);
    members[0].signal("STOP");
    expect_each(&members[1], OF_GATEWAY.map(|vip| format!("announced {vip} eth0")));
    let mac = lab.mac("gateway");
    let capture = lab.capture(&format!("ether src {mac} and (arp or (icmp6 and ip6[40] == 136))"));
    for vip in OF_GATEWAY {
        assert!(lab.gateway_has(&host_address(vip)), "{vip} has not been taken off yet");
        assert_answered_by(&lab, vip, "second");
    }
    // For its own address it answers as ever.
    assert_answered_by(&lab, "10.77.0.1", "gateway");
    let woken = Instant::now();
    members[0].signal("CONT");
    // Shorter than the hold-down, after which it has them back.
    let frames = capture.before(woken + Duration::from_secs(3));
    let for_vip = |line: &&String| OF_GATEWAY.iter().any(|vip| line.contains(vip));
    assert!(!frames.iter().any(|line| for_vip(&line)), "{frames:#?}");
    expect_owner(&lab, "second", &OF_GATEWAY);
    expect_owner_on_link(&lab, "gateway", &OF_GATEWAY);
    for vip in OF_GATEWAY {
        assert_answered_by(&lab, vip, "gateway");
    }
}

#[test]
fn a_node_that_hung_without_a_rival_answers_again_when_it_goes_on() {
    let lab = Lab::new();
    let mut member = lab.member("gateway", KEY, &[]);
    member.say(&format!("apply {}", OF_GATEWAY.join(" ")));
    expect_each(&member, OF_GATEWAY.map(|vip| format!("announced {vip} eth0")));
    expect_fence(&lab, &OF_GATEWAY);
    member.signal("STOP");
    std::thread::sleep(Duration::from_millis(500));
    for vip in OF_GATEWAY {
        assert!(lab.gateway_has(&host_address(vip)), "{vip}");
        assert!(answers(&lab, vip).is_empty(), "{vip}");
    }
    member.signal("CONT");
    for vip in OF_GATEWAY {
        lab.until("it is answered for", || answers(&lab, vip) == [lab.mac("gateway")]);
        assert!(lab.gateway_has(&host_address(vip)), "{vip}");
    }
}

#[test]
fn a_fence_that_somebody_removed_stands_again() {
    let lab = Lab::new();
    let mut member = lab.member("gateway", KEY, &[]);
    member.say(&format!("apply {}", OF_GATEWAY.join(" ")));
    expect_each(&member, OF_GATEWAY.map(|vip| format!("announced {vip} eth0")));
    expect_fence(&lab, &OF_GATEWAY);
    for _ in 0..3 {
        lab.run("gateway", "nft flush ruleset");
        expect_fence(&lab, &OF_GATEWAY);
    }
    assert_answered_by(&lab, OF_GATEWAY[0], "gateway");
    member.signal("STOP");
    std::thread::sleep(Duration::from_millis(500));
    assert!(answers(&lab, OF_GATEWAY[0]).is_empty());
}

#[test]
fn what_a_killed_process_leaves_is_replaced_by_its_successor() {
    let lab = Lab::new();
    let mut member = lab.member("gateway", KEY, &[]);
    let vip = OF_GATEWAY[0];
    member.say(&format!("apply {vip}"));
    member.expect(|line| line == format!("announced {vip} eth0"));
    expect_fence(&lab, &[vip]);
    member.kill();
    std::thread::sleep(Duration::from_millis(500));
    assert!(lab.gateway_has(&host_address(vip)));
    assert!(answers(&lab, vip).is_empty());
    let mut member = lab.member("gateway", KEY, &[]);
    lab.until("what was left is gone", || !lab.gateway_has(&host_address(vip)));
    member.say(&format!("apply {vip}"));
    member.expect(|line| line == format!("announced {vip} eth0"));
    assert_answered_by(&lab, vip, "gateway");
    assert_eq!(lab.run("gateway", "nft list tables").lines().count(), 1);
}

#[test]
fn where_no_fence_can_be_built_lifetimes_are_short_and_the_node_says_so() {
    let lab = Lab::new();
    // Another process owns a table of that name, so that the speaker cannot build one.
    let mut other = lab.shell("gateway");
    other.say("nft -i");
    other.say(&format!("add table netdev {FENCE} {{ flags owner; }}"));
    lab.until("the name is taken", || lab.run("gateway", "nft list tables").contains(FENCE));
    let mut member = lab.member("gateway", KEY, &[]);
    let vip = OF_GATEWAY[0];
    member.say(&format!("apply {vip}"));
    member.expect(|line| line == format!("announced {vip} eth0"));
    let problem = |member: &mut Program| {
        status(member).into_iter().find(|line| line.contains("FenceFailed")).unwrap_or_default()
    };
    eventually("the node says so", || match problem(&mut member) {
        text if text.contains("cannot create table") && text.contains("CAP_NET_ADMIN") => Ok(()),
        text => Err(text),
    });
    lab.until("it is renewed for a short time", || is_short(&lab, vip));
    other.say("quit");
    expect_fence(&lab, &[vip]);
    lab.until("it is renewed for longer", || lifetime(&lab, vip) > Some(2));
    assert!(wait::comes_true(|| problem(&mut member).is_empty()));
}

#[test]
fn a_key_that_does_not_turn_closes_no_fence() {
    let lab = Lab::new();
    let mut member = lab.member("gateway", KEY, &[]);
    let vip = OF_GATEWAY[0];
    member.say(&format!("apply {vip}"));
    member.expect(|line| line == format!("announced {vip} eth0"));
    expect_fence(&lab, &[vip]);
    for rule in [
        "add table netdev other",
        "add chain netdev other in { type filter hook ingress device lo priority -300 ; }",
        "add rule netdev other in meta protocol != ip drop",
    ] {
        lab.run("gateway", &format!("nft {rule}"));
    }
    lab.until("the fence is given up", || {
        !lab.run("gateway", "nft list tables").contains(FENCE) && is_short(&lab, vip)
    });
    for _ in 0..5 {
        assert_answered_by(&lab, vip, "gateway");
    }
    lab.run("gateway", "nft delete table netdev other");
    expect_fence(&lab, &[vip]);
}
