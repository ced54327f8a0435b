use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    capture::Capture,
    echo::{self, Listener},
    prober::{Pace, Prober},
    wait::{self, comes_true},
};

/// Whether a question for the MAC address of `to` is answered.
fn reaches(from: &Host, to: IpAddr) -> bool {
    let text = to.to_string();
    let words = match to {
        IpAddr::V4(_) => ["arping", "-c", "1", "-w", "1", "-I", "eth0", &text],
        IpAddr::V6(_) => ["ndisc6", "-1", "-r", "1", "-w", "1000", &text, "eth0"],
    };
    from.output(&words).unwrap().0
}

#[test]
fn hosts_reach_each_other_until_a_cable_is_pulled_or_cut() {
    let (lan, [a, b, c]) = Lan::new(["a", "b", "c"]).unwrap();
    for to in [b.v4().into(), b.v6().into()] {
        assert!(comes_true(|| reaches(&a, to)), "{to}");
    }
    lan.unplug(&b).unwrap();
    assert!(!reaches(&a, b.v4().into()));
    assert!(b.run(&["ip", "link", "show", "dev", "eth0"]).unwrap().contains("NO-CARRIER"));
    lan.plug(&b).unwrap();
    assert!(comes_true(|| reaches(&a, b.v4().into())), "the cable is back");
    lan.partition(&[&a], &[&b]).unwrap();
    assert!(!reaches(&a, b.v4().into()));
    for (from, to) in [(&a, &c), (&c, &b)] {
        assert!(comes_true(|| reaches(from, to.v4().into())), "{} to {}", from.name(), to.name());
    }
    lan.heal().unwrap();
    assert!(comes_true(|| reaches(&a, b.v4().into())));
}

#[test]
fn a_cut_in_one_way_lets_the_other_way_pass() {
    let (lan, [a, b]) = Lan::new(["a", "b"]).unwrap();
    let vip: IpAddr = "10.77.1.1".parse().unwrap();
    for (from, to, arrives) in [(&a, &b, false), (&b, &a, true)] {
        lan.heal().unwrap();
        lan.cut_one_way(&a, &b).unwrap();
        let capture = Capture::start(to).unwrap();
        let since = Instant::now();
        let words = ["arping", "-U", "-c", "2", "-i", "eth0", "-S", "10.77.1.1", "10.77.1.1"];
        // Nobody answers an announcement, which arping takes for a failure.
        from.output(&words).unwrap();
        let limit = if arrives { wait::LIMIT } else { Duration::ZERO };
        let seen = capture.wait_for(vip, &from.mac(), since, limit);
        assert_eq!(seen.is_some(), arrives, "{} to {}", from.name(), to.name());
    }
}

#[test]
fn who_answers_for_an_address_is_seen_also_when_there_are_two() {
    let (_lan, [client, a, b]) = Lan::new(["client", "a", "b"]).unwrap();
    for vip in ["10.77.1.1", "fd77::1:1"] {
        let address: IpAddr = vip.parse().unwrap();
        assert_eq!(client.who_has(address).unwrap(), BTreeSet::new());
        for (hosts, expected) in [(&[&a][..], 1), (&[&b], 2)] {
            for host in hosts {
                host.run(&["ip", "address", "add", vip, "dev", "eth0"]).unwrap();
                assert!(host.addresses("eth0").unwrap().contains(&address));
            }
            let macs = wait::look(|| {
                Some(client.who_has(address).unwrap()).filter(|macs| macs.len() == expected)
            });
            assert!(macs.is_some_and(|macs| macs.contains(&a.mac())), "{vip}: {expected} answer");
        }
    }
}

#[test]
fn the_prober_sees_a_server_go_and_come_back() {
    let (lan, [client, server]) = Lan::new(["client", "server"]).unwrap();
    let address = SocketAddr::new(server.v6().into(), 80);
    let listener = Listener { address, service: "one".to_owned(), endpoint: "one".to_owned() };
    server.enter(|| echo::spawn(&[listener], 1)).unwrap().unwrap();
    let prober = Prober::start(&client, address, "any.test", Pace::MEASURING).unwrap();
    let quiet = Duration::from_millis(300);
    assert!(prober.wait_quiet(Instant::now(), quiet));
    let event = Instant::now();
    lan.unplug(&server).unwrap();
    thread::sleep(Duration::from_millis(500));
    lan.plug(&server).unwrap();
    assert!(prober.wait_quiet(Instant::now(), quiet));
    prober.settle(Instant::now());
    let seen = crate::prober::outage(&prober.attempts(), event);
    assert!(seen.failed > 0 && seen.lasted > Some(Duration::from_millis(300)), "{seen:?}");
}
