//! Real forwarding between hosts in network namespaces. Needs root, iproute2, nft and setpriv.

#![expect(clippy::disallowed_methods, reason = "the lab is made of processes, threads and sockets")]

mod host;
mod lab;

use std::io::BufRead;

use super::*;
use lab::{Lab, Process, wait_for};

const V4: &str = "10.77.0.200";
const V6: &str = "2001:db8:77::200";
/// A virtual address without connections.
const OTHER: &str = "10.77.0.210";
const OLD_V4: &str = "10.77.0.2";
const OLD_V6: &str = "2001:db8:77::2";
const NEW_V4: &str = "10.77.0.3";
const NEW_V6: &str = "2001:db8:77::3";
const THIRD_V4: &str = "10.77.0.4";

/// Runs on the hosts of the lab; see [`host`].
#[test]
#[ignore = "is started by the other tests, on the hosts of their lab"]
fn host_process() {
    let mut host = host::Host::default();
    for order in io::stdin().lock().lines() {
        // Begins a line of its own after whatever the test harness has printed.
        println!("\n> {}", host.obey(&order.unwrap()));
    }
}

struct Scene {
    lab: Lab,
    client: Process,
    old: Process,
    new: Process,
}

impl Scene {
    /// Both virtual addresses are on the old owner; old and new serve.
    fn new() -> Self {
        let lab = Lab::new();
        let [client, mut old, mut new] = ["client", "old", "new"].map(|host| lab.start(host, ""));
        old.ask("serve old", "serving");
        new.ask("serve new", "serving");
        for vip in [V4, V6] {
            lab.ip("old", &format!("addr add {vip} dev eth0 {}", nodad(vip)));
        }
        Self { lab, client, old, new }
    }

    /// `to` takes the address and announces it, at least to the client; `from` keeps it for open connections.
    fn shift(&mut self, vip: &str, from: &str, to: &str) {
        self.lab.ip(to, &format!("addr add {vip} dev eth0 {}", nodad(vip)));
        self.lab.ip(from, &format!("addr add {vip} dev lo {}", nodad(vip)));
        self.lab.ip(from, &format!("addr del {vip} dev eth0"));
        let mac = self.lab.mac(to);
        let process = if to == "new" { &mut self.new } else { &mut self.old };
        process.ask(&format!("announce {vip}"), "announced");
        wait_for("the client sends to the new owner", || {
            self.lab.ip("client", &format!("neigh show {vip}")).contains(&mac)
        });
    }

    /// What is left on `lo` of `host` by [`shift`](Self::shift).
    fn draining_ends(&self, vip: &str, host: &str) {
        self.lab.ip(host, &format!("addr del {vip} dev lo"));
    }

    fn ruleset(&self) -> String {
        self.lab.run("new", "nft list ruleset")
    }
}

fn nodad(vip: &str) -> &'static str {
    if vip.contains(':') { "nodad" } else { "noprefixroute" }
}

fn both() -> String {
    format!("forward {OLD_V4}={V4} {OLD_V6}={V6}")
}

#[test]
fn open_connections_survive_a_move_and_new_ones_are_the_new_owners() {
    let mut scene = Scene::new();
    for vip in [V4, V6] {
        scene.client.ask(&format!("open a {vip}"), "a is with old");
        scene.client.ask("exchange a 1", "a exchanged");
        scene.client.say("exchange a 40");
        scene.new.ask(&both(), "paths stand");
        scene.shift(vip, "old", "new");
        scene.client.expect("a exchanged 40 MB");
        scene.client.ask(&format!("open b {vip}"), "b is with new");
        scene.client.ask("exchange b 20", "b exchanged");
        scene.client.ask("exchange a 20", "a exchanged");
    }
}

#[test]
fn without_forwarding_a_move_resets_open_connections() {
    let mut scene = Scene::new();
    for vip in [V4, V6] {
        scene.client.ask(&format!("open a {vip}"), "a is with old");
        scene.shift(vip, "old", "new");
        scene.client.ask("exchange a 1", "a failed: ConnectionReset");
        scene.client.ask(&format!("open b {vip}"), "b is with new");
    }
}

#[test]
fn other_paths_come_and_go_without_disturbing_connections() {
    let mut scene = Scene::new();
    scene.client.ask(&format!("open a {V4}"), "a is with old");
    scene.new.ask(&both(), "paths stand");
    scene.shift(V4, "old", "new");
    scene.client.ask(&format!("open b {V4}"), "b is with new");
    for change in [
        format!("{} {THIRD_V4}={OTHER}", both()),
        format!("forward {OLD_V4}={V4},{OTHER}"),
        format!("forward {OLD_V4}={V4}"),
        format!("{} {THIRD_V4}={OTHER}", both()),
    ] {
        scene.new.ask(&change, "paths stand");
        scene.client.ask("exchange a 2", "a exchanged");
        scene.client.ask("exchange b 2", "b exchanged");
    }
}

#[test]
fn a_path_that_ends_and_comes_again_has_forgotten_which_connections_were_here() {
    let mut scene = Scene::new();
    scene.client.ask(&format!("open w {V4}"), "w is with old");
    // This one stands all the time, so the table does as well.
    let other = format!("{THIRD_V4}={OTHER}");
    scene.new.ask(&format!("forward {other} {OLD_V4}={V4}"), "paths stand");
    scene.shift(V4, "old", "new");
    scene.client.ask(&format!("open a {V4} from 5555"), "a is with new");
    scene.client.ask("reset a", "a reset");
    scene.new.ask(&format!("forward {other}"), "paths stand");
    scene.draining_ends(V4, "old");
    scene.shift(V4, "new", "old");
    scene.draining_ends(V4, "new");
    // The same client and port, and it is the old owner's now.
    scene.client.ask(&format!("open a {V4} from 5555"), "a is with old");
    scene.new.ask(&format!("forward {other} {OLD_V4}={V4}"), "paths stand");
    scene.shift(V4, "old", "new");
    scene.client.ask("exchange a 1", "a exchanged");
    scene.client.ask(&format!("open b {V4}"), "b is with new");
}

#[test]
fn an_address_that_comes_back_at_once_finds_its_connections() {
    let mut scene = Scene::new();
    for (vip, new, old) in [(V4, NEW_V4, OLD_V4), (V6, NEW_V6, OLD_V6)] {
        // Each has a connection of its own on the address, one of them by way of the other.
        scene.client.ask(&format!("open a {vip}"), "a is with old");
        scene.new.ask(&format!("forward {old}={vip}"), "paths stand");
        scene.shift(vip, "old", "new");
        scene.client.ask(&format!("open b {vip}"), "b is with new");
        scene.old.ask(&format!("forward {new}={vip}"), "paths stand");
        scene.old.ask(&format!("keep {vip}"), "kept");
        scene.shift(vip, "new", "old");
        scene.draining_ends(vip, "old");
        scene.new.ask("forward", "paths stand");
        for id in ["a", "b"] {
            scene.client.ask(&format!("exchange {id} 5"), &format!("{id} exchanged"));
        }
        scene.client.ask(&format!("open c {vip}"), "c is with old");
    }
    scene.old.ask("forward", "paths stand");
    scene.old.ask(&format!("keep {V4}"), "kept"); // nothing is forwarded, so everything stays anyway
}

#[test]
fn connections_of_a_node_that_notes_first_survive_the_beginning_of_its_path() {
    let mut scene = Scene::new();
    for (vip, new) in [(V4, NEW_V4), (V6, NEW_V6)] {
        // Both nodes have the address all the time; the client's packets go to the old one.
        scene.lab.ip("new", &format!("addr add {vip} dev lo {}", nodad(vip)));
        scene.client.ask(&format!("open a {vip}"), "a is with old");
        scene.client.say("exchange a 30");
        scene.old.ask(&format!("forward here={vip}"), "paths stand");
        scene.client.expect("a exchanged 30 MB");
        scene.client.ask(&format!("open b {vip}"), "b is with old");
        scene.client.say("exchange a 30");
        scene.old.ask(&format!("keep {vip}"), "kept");
        scene.old.ask(&format!("forward {new}={vip}"), "paths stand");
        scene.client.expect("a exchanged 30 MB");
        scene.client.ask("exchange b 1", "b exchanged");
        scene.client.ask(&format!("open c {vip}"), "c is with old");
        scene.old.ask("forward", "paths stand");
    }
}

#[test]
fn what_a_neighbour_hands_in_can_stay_where_the_rest_is_passed_on() {
    let mut scene = Scene::new();
    let mac = scene.lab.mac("client");
    let from = &mac;
    for (vip, old) in [(V4, OLD_V4), (V6, OLD_V6)] {
        scene.client.ask(&format!("open a {vip}"), "a is with old");
        let third = format!("{old}={vip} 02:00:00:00:00:99>{old}={vip}");
        scene.new.ask(&format!("forward {third} {from}>here={vip}"), "paths stand");
        scene.shift(vip, "old", "new");
        scene.client.ask("exchange a 1", "a failed: ConnectionReset");
        scene.client.ask(&format!("open a {vip}"), "a is with new");
        scene.client.ask("exchange a 1", "a exchanged");
    }
}

#[test]
fn what_a_neighbour_hands_in_can_go_another_way_than_the_rest() {
    let mut scene = Scene::new();
    let mac = scene.lab.mac("client");
    for (vip, old, third) in [(V4, OLD_V4, THIRD_V4), (V6, OLD_V6, "2001:db8:77::4")] {
        scene.client.ask(&format!("open a {vip}"), "a is with old");
        let path = format!("forward {third}={vip} {}>{old}={vip}", mac.trim());
        scene.new.ask(&path, "paths stand");
        scene.shift(vip, "old", "new");
        scene.client.ask("exchange a 3", "a exchanged");
    }
}

#[test]
fn a_path_can_change_its_next_hop() {
    let mut scene = Scene::new();
    scene.client.ask(&format!("open a {V4}"), "a is with old");
    scene.new.ask(&format!("forward {THIRD_V4}={V4}"), "paths stand");
    scene.new.ask(&format!("forward {OLD_V4}={V4}"), "paths stand");
    scene.shift(V4, "old", "new");
    scene.client.ask("exchange a 1", "a exchanged");
}

#[test]
fn the_table_goes_with_the_last_path() {
    let mut scene = Scene::new();
    scene.new.ask(&both(), "paths stand");
    assert!(scene.ruleset().contains("table netdev gatehouse-"));
    scene.new.ask("forward", "paths stand");
    assert_eq!(scene.ruleset(), "");
    scene.new.ask(&both(), "paths stand");
    assert!(scene.ruleset().contains("table netdev gatehouse-"));
}

#[test]
fn a_killed_process_leaves_no_path_and_no_other_process_can_remove_one() {
    let mut scene = Scene::new();
    scene.new.ask(&both(), "paths stand");
    scene.lab.run("new", "nft flush ruleset");
    assert!(scene.ruleset().contains("table netdev gatehouse-"));
    scene.new.kill();
    wait_for("the table is gone", || scene.ruleset().is_empty());
}

#[test]
fn nft_lists_the_rules_as_they_are_meant() {
    let mut scene = Scene::new();
    scene.new.ask(&both(), "paths stand");
    let index = scene.lab.index("new");
    let ruleset = scene.ruleset();
    let connection = |ip: &str| format!("{ip} saddr . tcp sport . {ip} daddr . tcp dport");
    for (version, ip, vip, via, whole) in [
        (4, "ip", V4, OLD_V4, "ip protocol tcp ip frag-off & 16383 == 0"),
        (6, "ip6", V6, OLD_V6, "ip6 nexthdr tcp"),
    ] {
        let (at, key) = (format!("{version}-{index}.0"), connection(ip));
        for line in [
            format!("elements = {{ {vip} }}"),
            format!("elements = {{ {vip} : {via} }}"),
            format!("meta pkttype host {whole} {ip} daddr @moved{at} goto forward{at}"),
            format!(
                "tcp flags syn / syn,ack update @mine{version}-0 {{ {key} timeout 1m }} accept"
            ),
            format!("{key} @mine{version}-0 update @mine{version}-0 {{ {key} }} accept"),
            format!("fwd {ip} to {ip} daddr map @via{at} device {ip} daddr map @out{at}"),
        ] {
            assert!(ruleset.lines().any(|listed| listed.trim() == line), "{line}\n{ruleset}");
        }
    }
    assert!(ruleset.contains(&format!("chain in-{index}.0-eth0 ")), "{ruleset}");
    let hook = "type filter hook ingress device \"eth0\" priority filter; policy accept;";
    assert!(ruleset.contains(hook), "{ruleset}");
}

#[test]
fn thousands_of_addresses_are_one_change() {
    let mut scene = Scene::new();
    let vips = |net: &str| -> Vec<String> {
        (0..4000).map(|n| format!("{net}{:x}", 0x1000 + n)).collect()
    };
    let vips = vips("2001:db8:77::").join(",");
    scene.new.ask(&format!("forward {OLD_V6}={vips}"), "paths stand");
    assert_eq!(scene.ruleset().matches(&format!(" : {OLD_V6}")).count(), 4000);
    scene.new.ask(&format!("forward {OLD_V6}={V6}"), "paths stand");
    assert_eq!(scene.ruleset().matches(&format!(" : {OLD_V6}")).count(), 1);
}

#[test]
fn what_the_kernel_refuses_leaves_the_paths_as_they_were() {
    let mut scene = Scene::new();
    scene.new.ask(&both(), "paths stand");
    let before = scene.ruleset();
    // Longer than names of devices are. (A chain for a device that is not there is no error since
    // Linux 6.16.)
    let path = format!("forward-on a-name-of-seventeen 99 {OLD_V4}={OTHER}");
    let refusal = scene.new.ask(&path, "refused");
    assert!(refusal.contains("cannot create chain in-99.0-a-name-of-seventeen"), "{refusal}");
    assert!(refusal.contains("(os error "), "{refusal}");
    let refusal = scene.new.ask(&format!("forward {OLD_V4}={V6}"), "refused InvalidInput");
    assert!(refusal.contains(V6) && refusal.contains(OLD_V4), "{refusal}");
    assert_eq!(scene.ruleset(), before);
    scene.new.ask(&both(), "paths stand");
    scene.new.ask("forward", "paths stand");
    assert_eq!(scene.ruleset(), "");
}

#[test]
fn without_the_capability_forwarding_is_not_permitted() {
    let lab = Lab::new();
    let mut host = lab.start("new", "setpriv --inh-caps=-all --bounding-set=-net_admin");
    let refusal = host.ask(&both(), "refused PermissionDenied");
    assert!(refusal.contains("CAP_NET_ADMIN"), "{refusal}");
    // Wanting none is no error.
    host.ask("forward", "paths stand");
}

#[test]
fn a_path_stays_when_its_device_is_renamed() {
    let mut scene = Scene::new();
    let index = scene.lab.index("new");
    let path = |device: &str| format!("forward-on {device} {index} {OLD_V4}={V4}");
    scene.client.ask(&format!("open a {V4}"), "a is with old");
    scene.new.ask(&path("eth0"), "paths stand");
    scene.shift(V4, "old", "new");
    scene.client.ask(&format!("open b {V4}"), "b is with new");
    scene.lab.ip("new", "link set eth0 down");
    scene.lab.ip("new", "link set eth0 name lan0");
    scene.lab.ip("new", "link set lan0 up");
    scene.new.ask(&path("lan0"), "paths stand");
    scene.client.ask("exchange a 1", "a exchanged");
    scene.client.ask("exchange b 1", "b exchanged");
}
