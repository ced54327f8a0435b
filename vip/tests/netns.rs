//! The speaker on real interfaces, as its neighbours see it.
//!
//! A client and a gateway on one switch, all of network namespaces; the speaker is a process on the
//! gateway. Needs root and the tools `ip`, `bash`, `arping`, `ndisc6`, `tcpdump` and `setpriv`: where
//! one is missing, the tests fail.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on the real network have threads and clocks"
)]

mod speaker_process;

use std::time::Duration;

use gatehouse_testbed::switch::Lab;

const VIP: &str = "10.77.0.200";
const VIP6: &str = "2001:db8:77::200";

/// Not a test by itself: the process that the tests start in the gateway's namespace.
#[test]
#[ignore = "the speaker's process of the other tests"]
fn speaker_process() {
    speaker_process::run();
}

#[test]
fn neighbours_learn_an_ipv4_vip_and_are_answered_with_the_gateways_mac() {
    let lab = Lab::new();
    let mac = lab.mac("gateway");
    // The client believes that another machine has the address, as after a fail-over.
    lab.ip("client", &format!("neigh replace {VIP} lladdr 02:00:00:00:de:ad dev eth0 nud stale"));
    let capture = lab.capture("arp");
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP}"));
    speaker.expect(|line| line == format!("announced {VIP} eth0"));
    assert!(lab.gateway_has("10.77.0.200/32"));

    let from_gateway = |line: &str| line.starts_with(char::is_numeric) && line.contains(&mac);
    for _ in 0..3 {
        let probe = capture.expect(|line| from_gateway(line) && line.contains("Request who-has"));
        assert!(probe.contains("tell 0.0.0.0"), "{probe}");
    }
    for round in 0..2 {
        let request = capture.expect(|line| from_gateway(line) && line.contains("Request who-has"));
        assert!(request.contains("> ff:ff:ff:ff:ff:ff"), "round {round}: {request}");
        assert!(request.contains(&format!("tell {VIP}")), "round {round}: {request}");
        let reply = capture.expect(|line| line.contains("Reply"));
        assert!(reply.contains(&format!("Reply {VIP} is-at {mac}")), "round {round}: {reply}");
    }
    let cached = lab.ip("client", &format!("neigh show {VIP}"));
    assert!(cached.contains(&mac), "the stale entry was not replaced: {cached}");

    let answer = lab.run("client", &format!("arping -C 1 -w 60 -r -i eth0 {VIP}"));
    assert_eq!(answer.lines().next(), Some(mac.as_str()));
    lab.assert_client_reaches(VIP);
}

#[test]
fn neighbours_learn_an_ipv6_vip_and_reach_it() {
    let lab = Lab::new();
    let mac = lab.mac("gateway");
    lab.ip("client", &format!("neigh replace {VIP6} lladdr 02:00:00:00:de:ad dev eth0 nud stale"));
    let capture = lab.capture("icmp6 and ip6[40] == 136 and dst host ff02::1");
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP6}"));
    speaker.expect(|line| line == format!("announced {VIP6} eth0"));
    assert!(lab.gateway_has("2001:db8:77::200/128"));

    // tcpdump writes the options and flags on lines of their own.
    let head = capture.expect(|line| line.contains(&format!("tgt is {VIP6}")));
    assert!(head.contains("override") && !head.contains("solicited"), "{head}");
    let option = capture.expect(|line| line.contains("destination link-address option"));
    assert!(option.contains(&mac), "{option}");
    let cached = lab.ip("client", &format!("neigh show {VIP6}"));
    assert!(cached.contains(&mac), "the stale entry was not replaced: {cached}");

    let answer = lab.run("client", &format!("ndisc6 -q -1 -r 60 {VIP6} eth0"));
    assert_eq!(answer.trim().to_lowercase(), mac);
    lab.assert_client_reaches(VIP6);
    let route = lab.ip("gateway", "-6 route get 2001:db8:77::2");
    assert!(!route.contains(VIP6), "the node talks from the VIP: {route}");
}

#[test]
fn withdrawing_removes_the_addresses_and_nobody_answers_any_more() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP} {VIP6} 10.77.0.201"));
    for vip in [VIP, "10.77.0.201", VIP6] {
        speaker.expect(|line| line == format!("announced {vip} eth0"));
    }
    speaker.say(&format!("apply {VIP} {VIP6}"));
    speaker.expect(|line| line == "withdrawn 10.77.0.201");
    assert!(!lab.gateway_has("10.77.0.201/32") && lab.gateway_has("10.77.0.200/32"));

    speaker.say("withdraw");
    speaker.expect(|line| line == "withdrew true");
    assert!(!lab.gateway_has("10.77.0.200/32") && !lab.gateway_has("2001:db8:77::200/128"));
    let (answered, text) = lab.try_run("client", &format!("arping -c 1 -w 1 -r -i eth0 {VIP}"));
    assert!(!answered, "{text}");
    assert!(lab.gateway_has("10.77.0.1/24"), "the node's own address stays");
}

#[test]
fn stopping_removes_the_addresses() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP} {VIP6}"));
    speaker.expect(|line| line == format!("announced {VIP6} eth0"));
    speaker.finish();
    assert!(!lab.gateway_has("10.77.0.200/32") && !lab.gateway_has("2001:db8:77::200/128"));
}

#[test]
fn an_address_of_a_foreign_subnet_is_refused_until_the_subnet_appears() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply 10.78.0.200 {VIP}"));
    let refused = speaker.expect(|line| line.starts_with("refused"));
    assert_eq!(
        refused,
        "refused 10.78.0.200 severe=true no interface has a subnet that holds 10.78.0.200; \
         subnets: eth0 10.77.0.0/24 [NoInterface]; use a pool within one of these subnets, or give \
         an interface an address of the pool's"
    );
    speaker.expect(|line| line == format!("announced {VIP} eth0"));
    lab.ip("gateway", "addr add 10.78.0.1/24 dev eth0");
    speaker.expect(|line| line == "announced 10.78.0.200 eth0");
    assert!(lab.gateway_has("10.78.0.200/32"));
}

#[test]
fn only_advertised_interfaces_are_used() {
    let lab = Lab::new();
    lab.ip("gateway", "link add eth1 type bridge");
    lab.ip("gateway", "link set eth1 up");
    lab.ip("gateway", "addr add 10.77.0.9/24 dev eth1");
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP}@eth1"));
    speaker.expect(|line| line == format!("announced {VIP} eth1"));
    speaker.say(&format!("apply {VIP}@eth0"));
    speaker.expect(|line| line == format!("announced {VIP} eth0"));
    let addresses = lab.ip("gateway", "-o addr show");
    assert_eq!(addresses.matches("10.77.0.200/32").count(), 1, "{addresses}");
    speaker.say(&format!("apply {VIP}@eth9"));
    let refused = speaker.expect(|line| line.starts_with("refused"));
    assert!(refused.contains("none of the advertised interfaces (eth9)"), "{refused}");
    assert!(!lab.gateway_has("10.77.0.200/32"));
}

#[test]
fn an_address_that_somebody_removes_comes_back() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP} {VIP6}"));
    speaker.expect(|line| line == format!("announced {VIP6} eth0"));
    for address in ["10.77.0.200/32", "2001:db8:77::200/128"] {
        lab.ip("gateway", &format!("addr del {address} dev eth0"));
        let vip = address.split('/').next().unwrap();
        speaker.expect(|line| line == format!("announced {vip} eth0"));
        assert!(lab.gateway_has(address));
    }
}

#[test]
fn an_equal_plan_touches_nothing() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP}"));
    speaker.expect(|line| line == format!("announced {VIP} eth0"));
    // After the last announcement, whatever is still sent would be due to the second plan.
    std::thread::sleep(Duration::from_secs(8));
    let capture = lab.capture("arp");
    speaker.say(&format!("apply {VIP}"));
    let sent = capture.rest(Duration::from_secs(2));
    assert!(!sent.iter().any(|line| line.contains(VIP)), "{sent:#?}");
    let events = speaker.rest(Duration::from_millis(100));
    assert!(!events.iter().any(|line| line.contains(VIP)), "{events:#?}");
}

#[test]
fn without_a_successor_the_kernel_removes_what_a_killed_process_left() {
    let lab = Lab::new();
    let mut killed = lab.speaker("");
    killed.say(&format!("apply {VIP} {VIP6}"));
    killed.expect(|line| line == format!("announced {VIP6} eth0"));
    killed.kill();
    assert!(lab.gateway_has("10.77.0.200/32") && lab.gateway_has("2001:db8:77::200/128"));
    lab.until("the addresses have run out", || {
        !lab.gateway_has("10.77.0.200/32") && !lab.gateway_has("2001:db8:77::200/128")
    });
    assert!(lab.gateway_has("10.77.0.1/24"), "the node's own address stays");
}

#[test]
fn an_address_lives_on_for_as_long_as_its_process() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("");
    speaker.say(&format!("apply {VIP} {VIP6}"));
    speaker.expect(|line| line == format!("announced {VIP6} eth0"));
    // Longer than the kernel's lifetime.
    std::thread::sleep(Duration::from_secs(13));
    assert!(lab.gateway_has("10.77.0.200/32") && lab.gateway_has("2001:db8:77::200/128"));
    let events = speaker.rest(Duration::from_millis(100));
    let moved = |line: &String| line.contains("withdrawn") || line.contains("refused");
    assert!(!events.iter().any(moved), "{events:#?}");
}

#[test]
fn the_next_process_adopts_what_a_killed_one_left() {
    let lab = Lab::new();
    let mut killed = lab.speaker("");
    killed.say(&format!("apply {VIP} {VIP6}"));
    killed.expect(|line| line == format!("announced {VIP6} eth0"));
    killed.kill();
    // What kill -9 leaves behind: the kernel keeps the address, and answers for it.
    assert!(lab.gateway_has("10.77.0.200/32") && lab.gateway_has("2001:db8:77::200/128"));
    lab.assert_client_reaches(VIP);

    let capture = lab.capture("arp");
    let mut next = lab.speaker("");
    next.say(&format!("apply {VIP} {VIP6}"));
    next.expect(|line| line == format!("announced {VIP6} eth0"));
    capture.expect(|line| line.contains(&format!("Reply {VIP} is-at")));
    next.say("withdraw");
    next.expect(|line| line == "withdrew true");
    assert!(!lab.gateway_has("10.77.0.200/32") && !lab.gateway_has("2001:db8:77::200/128"));
}

#[test]
fn without_cap_net_admin_the_address_is_refused_with_the_capabilities_it_needs() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("setpriv --inh-caps=-all --bounding-set=-net_admin");
    speaker.say(&format!("apply {VIP}"));
    let refused = speaker.expect(|line| line.starts_with("refused"));
    assert_eq!(
        refused,
        format!(
            "refused {VIP} severe=true {VIP} cannot be added to eth0: Operation not permitted (os \
             error 1) [NotPermitted]; give the process CAP_NET_ADMIN and CAP_NET_RAW"
        )
    );
    assert!(!lab.gateway_has("10.77.0.200/32"));
}

#[test]
fn without_cap_net_raw_the_address_works_and_the_missing_announcement_is_reported() {
    let lab = Lab::new();
    let mut speaker = lab.speaker("setpriv --inh-caps=-all --bounding-set=-net_raw");
    speaker.say(&format!("apply {VIP}"));
    speaker.expect(|line| line == format!("announced {VIP} eth0"));
    let refused = speaker.expect(|line| line.starts_with("refused"));
    assert!(
        refused.contains("severe=false") && refused.contains("[AnnouncementFailed]"),
        "{refused}"
    );
    lab.assert_client_reaches(VIP);
}
