use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    capture::Capture,
    echo::{self, Door},
    prober::Prober,
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
        assert!(reaches(&a, to), "{to}");
    }
    lan.unplug(&b).unwrap();
    assert!(!reaches(&a, b.v4().into()));
    assert!(b.run(&["ip", "link", "show", "dev", "eth0"]).unwrap().contains("NO-CARRIER"));
    lan.plug(&b).unwrap();
    let since = Instant::now();
    while !reaches(&a, b.v4().into()) {
        assert!(since.elapsed() < Duration::from_secs(20), "the cable is back");
    }
    lan.partition(&[&a], &[&b]).unwrap();
    assert!(
        !reaches(&a, b.v4().into()) && reaches(&a, c.v4().into()) && reaches(&c, b.v4().into())
    );
    lan.heal().unwrap();
    assert!(reaches(&a, b.v4().into()));
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
        let seen =
            capture.wait_for(vip, &from.mac(), since, Duration::from_secs(u64::from(arrives)));
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
            let macs = client.who_has(address).unwrap();
            assert_eq!(macs.len(), expected, "{vip}: {macs:?}");
            assert!(macs.contains(&a.mac()), "{vip}: {macs:?}");
        }
    }
}

#[test]
fn the_prober_sees_a_server_go_and_come_back() {
    let (lan, [client, server]) = Lan::new(["client", "server"]).unwrap();
    let address = SocketAddr::new(server.v6().into(), 80);
    let door = Door { address, service: "one".to_owned(), endpoint: "one".to_owned() };
    server.enter(|| echo::spawn(&[door], 1)).unwrap().unwrap();
    let prober = Prober::start(&client, address, "any.test").unwrap();
    let quiet = Duration::from_millis(300);
    assert!(prober.wait_quiet(Instant::now(), quiet, Duration::from_secs(20)));
    let event = Instant::now();
    lan.unplug(&server).unwrap();
    thread::sleep(Duration::from_millis(500));
    lan.plug(&server).unwrap();
    assert!(prober.wait_quiet(Instant::now(), quiet, Duration::from_secs(20)));
    prober.settle(Instant::now());
    let seen = crate::prober::outage(&prober.attempts(), event);
    assert!(seen.failed > 20 && seen.lasted > Some(Duration::from_millis(300)), "{seen:?}");
}
