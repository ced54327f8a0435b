//! A table that changes, that another process takes over, and that other programs change.

use std::sync::atomic::{AtomicBool, Ordering};

use gatehouse_testbed::wait::Until;

use super::*;

/// How often a table changes under traffic. Of the first packets of flows that come in while it does, one was lost with
/// every fifty changes or so before the changes were made in steps.
const CHANGES: usize = 400;

#[test]
fn while_endpoints_weights_clients_and_networks_change_no_first_packet_is_lost() {
    let mut lab = Lab::new();
    lab.forward("web", VIP4, Transport::Tcp, &[80]);
    lab.forward("dns", VIP6, Transport::Udp, &[53]);
    lab.apply();
    let endpoints = [lab.group("web").endpoints.clone(), lab.group("dns").endpoints.clone()];
    let everybody = [("0.0.0.0", "255.255.255.255"), ("::", "ffff::")];
    let everybody = everybody.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
    let neighbours = [("10.9.0.0", "10.9.0.255"), ("fd09::", "fd09::ffff")];
    let neighbours =
        neighbours.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
    let sources = [None, Some(everybody.to_vec()), Some(neighbours.to_vec())];

    let over = AtomicBool::new(false);
    let Lab { client, node, table, rules, .. } = &mut lab;
    let asked = thread::scope(|scope| {
        let until = Until::dropped(&over);
        let traffic = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                // Each is a flow of its own, and says what it has to say once.
                ask(client, VIP4, 80);
                exchange(&datagram_socket(client, VIP6, 53)).expect("an answer");
                asked += 1;
            }
            asked
        });
        for change in 0..CHANGES {
            for (name, all) in ["web", "dns"].into_iter().zip(&endpoints) {
                let group = rules.groups.get_mut(name).unwrap();
                group.endpoints = all.clone();
                match change % 4 {
                    0 => group.endpoints.truncate(1),
                    1 => drop(group.endpoints.remove(0)),
                    _ => group.endpoints[0].weight = 1 + (change % 7) as u16,
                }
                group.by_client = (change / 4 % 2 == 1).then_some(HOUR);
                group.by_flow = change / 2 % 2 == 0;
                group.sources = sources[change / 8 % 3].clone();
            }
            node.enter(|| table.apply(rules)).unwrap().unwrap();
        }
        drop(until);
        traffic.join().unwrap()
    });
    assert!(asked > 0);
    // It was changed, not made anew, and nothing was left over.
    let totals = lab.totals();
    assert_eq!(totals["web"].connections, asked);
    assert!(lab.stands(&totals));
    let before = anatomy(&lab);
    lab.node.run(&["nft", "delete", "table", "inet", "gatehouse-l4"]).unwrap();
    lab.table = ForwardingTable::default();
    lab.apply();
    assert_eq!(anatomy(&lab), before);
}

/// The names of all parts and the rules of all chains, in whatever order they were made.
fn anatomy(lab: &Lab) -> Vec<String> {
    let listed = lab.node.run(&["nft", "--terse", "--stateless", "list", "ruleset"]).unwrap();
    let mut lines: Vec<_> = listed.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_process_leaves_a_table_of_another_one_alone_that_is_as_it_wants_it() {
    let mut lab = Lab::new();
    lab.forward("web", VIP4, Transport::Tcp, &[80]).by_client = Some(HOUR);
    lab.forward("none", VIP6, Transport::Tcp, &[80]).endpoints.clear();
    lab.apply();
    ask(&lab.client, VIP4, 80);
    // With the number that the kernel gave to each part of it.
    let listed = |lab: &Lab| {
        let list = ["nft", "--handle", "--terse", "--stateless", "list", "ruleset"];
        lab.node.run(&list).unwrap()
    };
    let made_by = listed(&lab);
    lab.table = ForwardingTable::default();
    lab.apply();
    assert_eq!(listed(&lab), made_by);
    // From then on it is its own.
    lab.group("web").endpoints.truncate(1);
    lab.apply();
    let totals = lab.totals();
    assert!(lab.stands(&totals));
    assert_eq!(totals["web"].connections, 1);

    // One that is not quite so is replaced: other rules, and rules that are not all there.
    let table = |lab: &Lab| listed(lab).lines().next().unwrap().to_owned();
    let made = table(&lab);
    lab.table = ForwardingTable::default();
    lab.group("web").endpoints[0].port = 8081;
    lab.apply();
    assert_ne!(table(&lab), made);
    let made = table(&lab);
    lab.node.run(&["nft", "flush", "chain", "inet", "gatehouse-l4", "way-back"]).unwrap();
    lab.table = ForwardingTable::default();
    lab.apply();
    assert_ne!(table(&lab), made);
    assert!(ask(&lab.client, VIP4, 80).contains(" 8081 "));
}

/// As hosts do that save their rules for the next start.
#[test]
fn what_nft_lists_of_a_table_it_can_read() {
    let mut lab = Lab::new();
    let networks = [("10.9.0.0", "10.9.0.255"), ("fd09::", "fd09::ffff")];
    let networks = networks.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
    for vip in [VIP4, VIP6] {
        let name = |what| format!("service/a/{what}/{}", if vip == VIP6 { 6 } else { 4 });
        lab.forward(&name("web"), vip, Transport::Tcp, &[80]);
        lab.forward(&name("dns"), vip, Transport::Udp, &[80]).endpoints[0].weight = 3;
        lab.forward(&name("kept"), vip, Transport::Tcp, &[81]).by_client = Some(HOUR);
        lab.forward(&name("range"), vip, Transport::Udp, &[82, 83]).keeps_port = true;
        lab.forward(&name("own"), vip, Transport::Tcp, &[84]).sources = Some(networks.to_vec());
        lab.forward(&name("local"), vip, Transport::Tcp, &[85]).keeps_client = true;
        lab.forward(&name("none"), vip, Transport::Tcp, &[86]).endpoints.clear();
    }
    lab.apply();
    ask(&lab.client, VIP4, 81);
    let listed = lab.ruleset();
    lab.node.feed(&["nft", "--check", "--file", "-"], &listed).unwrap();
    for line in [
        "typeof numgen random mod 2147483648 : ip6 daddr . tcp dport",
        "typeof numgen random mod 1024 : ip6 daddr . udp dport",
        "jhash ip6 saddr . ip6 daddr . udp sport . udp dport mod 1024",
    ] {
        assert!(listed.contains(line), "{line} is not in\n{listed}");
    }
}

#[test]
fn open_connections_go_on_when_their_endpoint_goes_and_when_the_table_is_replaced() {
    let mut lab = Lab::new();
    lab.forward("web", VIP4, Transport::Tcp, &[80]);
    lab.apply();
    let (mut stream, words) = connect(&lab.client, VIP4, 80).unwrap();
    let its = usize::from(words.starts_with("b1"));
    lab.group("web").endpoints.remove(its);
    lab.apply();
    goes_on(&mut stream);
    for _ in 0..12 {
        assert_ne!(ask(&lab.client, VIP4, 80)[..2], words[..2]);
    }
    let before = lab.totals()["web"];
    // Another process, which knows of nothing.
    lab.table = ForwardingTable::default();
    lab.apply();
    goes_on(&mut stream);
    let after = lab.totals()["web"];
    assert!(after.connections == before.connections && after.bytes_in > before.bytes_in);
    // Nothing is left to forward to.
    lab.group("web").endpoints.clear();
    lab.apply();
    goes_on(&mut stream);
    let refused = connect(&lab.client, VIP4, 80).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn other_tables_stay_as_they_are_and_a_table_that_is_gone_comes_back() {
    let mut lab = Lab::new();
    lab.node
        .feed(
            &["nft", "-f", "-"],
            "table inet other {\n chain c {\n ip daddr 10.9.0.200 accept\n }\n}\n",
        )
        .unwrap();
    let before = lab.ruleset();
    lab.forward("web", VIP4, Transport::Tcp, &[80]);
    lab.apply();
    ask(&lab.client, VIP4, 80);
    let totals = lab.totals();
    assert!(lab.stands(&totals));
    lab.node.run(&["nft", "delete", "table", "inet", "gatehouse-l4"]).unwrap();
    let totals = lab.totals();
    assert!(!lab.stands(&totals));
    // Also if nobody has noticed.
    lab.group("web").endpoints.truncate(1);
    lab.apply();
    ask(&lab.client, VIP4, 80);
    let Lab { node, table, .. } = &mut lab;
    node.enter(|| table.remove()).unwrap().unwrap();
    node.enter(|| table.remove()).unwrap().unwrap();
    assert_eq!(lab.ruleset(), before);
}

#[test]
fn rules_and_elements_that_another_program_takes_out_are_missed_and_what_else_it_does_is_not() {
    let mut lab = Lab::new();
    for (vip, name) in [(VIP4, "web"), (VIP6, "web6")] {
        let group = lab.forward(name, vip, Transport::Tcp, &[80, 81]);
        group.by_client = Some(HOUR);
        group.keeps_client = true;
        group.sources = Some(vec![
            ("10.9.0.0".parse().unwrap(), "10.9.0.255".parse().unwrap()),
            ("fd09::".parse().unwrap(), "fd09::ffff".parse().unwrap()),
        ]);
    }
    lab.forward("none", VIP4, Transport::Udp, &[80]).endpoints.clear();
    lab.apply();
    let totals = lab.totals();
    assert!(lab.stands(&totals));
    // Changes, of this process and of another one, after which all is there.
    lab.group("web").by_client = None;
    lab.group("web6").endpoints.truncate(1);
    lab.apply();
    assert!(lab.stands(&totals));
    lab.node.run(&["nft", "add", "table", "inet", "other"]).unwrap();
    assert!(lab.stands(&totals));
    ask(&lab.client, VIP6, 80);
    assert!(lab.stands(&totals), "a client that an endpoint has");
    let table = "inet gatehouse-l4";
    for taken in [
        format!("flush table {table}"),
        format!("flush chain {table} to-endpoint"),
        format!("flush chain {table} web"),
        format!("flush map {table} services4"),
        format!("delete element {table} services6 {{ {VIP6} . tcp . 81 }}"),
        format!("flush set {table} refused4"),
    ] {
        lab.node.feed(&["nft", "-f", "-"], &taken).unwrap();
        assert!(!lab.stands(&totals), "{taken}");
        assert!(!lab.stands(&totals), "{taken}: it is not forgotten");
        lab.table.forget();
        lab.apply();
        assert!(lab.stands(&totals), "{taken}: all is there again");
        ask(&lab.client, VIP4, 80);
    }
}
