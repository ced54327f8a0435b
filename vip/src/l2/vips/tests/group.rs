//! A node of a group, in virtual time: what the group decides, and what comes of it.

use super::{super::*, node::*};
use crate::{
    l2::group::OldOwner,
    links::tests::{links, with_loopback},
};

#[test]
fn what_a_member_held_is_added_and_announced_at_once() {
    let mut node = member();
    node.decide(VIP, claim(true));
    node.decide(VIP, claim(false));
    assert_eq!(
        node.log(),
        [
            "0: strict 2",
            "0: probe 10.0.0.200 2",
            "0: add 10.0.0.200 2",
            "0: announce 10.0.0.200 2",
            "announced 10.0.0.200 eth2",
        ]
    );
}

#[test]
fn an_address_of_a_dead_member_is_announced_every_100_ms_for_3_s_and_then_as_usual() {
    let mut node = member();
    node.decide(VIP, Decision::Claim { probe: false, contested: true, from: None });
    node.pass(60 * SECOND);
    let announced: Vec<u64> = node
        .log()
        .iter()
        .filter_map(|line| line.split_once(": announce")?.0.parse().ok())
        .collect();
    let often: Vec<_> = (0..=30).map(|tenth| tenth * 100).collect();
    assert_eq!(announced[..31], often);
    assert_eq!(announced[31..], [4100, 5200, 6300, 7400, 8500]);
}

#[test]
fn an_address_that_is_held_is_announced_anew_when_it_is_claimed_again() {
    let mut node = holder(VIP);
    node.decide(VIP, claim(true));
    node.pass(SECOND);
    assert_eq!(node.deeds(), ["10000: announce 10.0.0.200 2"]);
}

#[test]
fn connections_go_to_the_old_owner_from_before_the_address_comes_for_as_long_as_it_serves() {
    let mut node = member();
    let from = |v4: Option<&str>, v6: Option<&str>| OldOwner {
        node: "b".into(),
        link: 2,
        v4: v4.map(|ip| ip.parse().unwrap()),
        v6: v6.map(|ip| ip.parse().unwrap()),
    };
    let claims = [(VIP, from(Some("10.0.0.2"), None)), (VIP6, from(Some("10.0.0.2"), None))];
    for (ip, from) in claims {
        let claim = Decision::Claim { probe: false, contested: false, from: Some(from) };
        node.vips.decide(ip.parse().unwrap(), claim, node.now);
    }
    let path = ForwardPath::on((2, "eth2".into()), "10.0.0.2".parse().unwrap());
    let expected = ForwardPaths::from([(path, BTreeSet::from([VIP.parse().unwrap()]))]);
    assert_eq!(
        node.vips.forward_paths(|_| true),
        expected,
        "not by an address of the other family"
    );
    node.settle();
    node.decide(VIP, claim(false));
    assert_eq!(node.vips.forward_paths(|_| true), expected, "announced anew, it goes on");
    assert_eq!(node.vips.forward_paths(|_| false), ForwardPaths::new());
    node.decide(VIP, release(None));
    assert_eq!(node.vips.forward_paths(|_| true), ForwardPaths::new());
}

#[test]
fn an_address_that_moved_drains_on_lo_until_its_connections_have_ended() {
    for (ip, own) in [(VIP, "10.0.0.1"), (VIP6, "2001:db8::1")] {
        for ended in [false, true] {
            let mut node = holder(ip);
            node.decide(ip, release(Some("b")));
            let moved = [
                format!("10000: add {ip} 1"),
                format!("10000: del {ip} 2"),
                format!("draining {ip} to b"),
            ];
            assert_eq!(node.deeds(), moved);
            assert_eq!(node.role(ip), Some(Role::Draining));
            assert_eq!(node.state(ip), Some(LocalState::Draining));
            node.pass(9 * SECOND);
            let renewed = node.log().pop().unwrap();
            assert_eq!(renewed, format!("19000: renew {ip} 1"));
            let links = node.vips.links_in_use().unwrap();
            let known = links[&2].v4.map(IpAddr::V4) == own.parse().ok()
                || links[&2].v6.map(IpAddr::V6) == own.parse().ok();
            assert!(known, "the new owner has to hear that it drains: {links:?}");
            if ended {
                node.vips.let_go(ip.parse().unwrap());
                node.settle();
            } else {
                node.pass(21 * SECOND);
            }
            let at = if ended { 19000 } else { 40000 };
            assert_eq!(node.deeds(), [format!("{at}: del {ip} 1"), format!("withdrawn {ip}")]);
            assert_eq!((node.role(ip), node.vips.held()), (None, 0));
        }
    }
}

#[test]
fn letting_go_does_not_concern_an_address_that_is_held() {
    let mut node = holder(VIP);
    node.vips.let_go(VIP.parse().unwrap());
    node.pass(SECOND);
    assert_eq!(node.deeds(), [""; 0]);
}

#[test]
fn an_address_comes_back_from_lo_without_a_gap_and_without_a_probe() {
    let mut node = holder(VIP);
    node.decide(VIP, release(Some("b")));
    node.pass(SECOND);
    node.log();
    node.decide(VIP, claim(true));
    assert_eq!(
        node.deeds(),
        [
            "11000: add 10.0.0.200 2",
            "11000: announce 10.0.0.200 2",
            "11000: del 10.0.0.200 1",
            "announced 10.0.0.200 eth2",
        ]
    );
    node.pass(60 * SECOND);
    assert_eq!(node.role(VIP), Some(Role::Active));
    assert_eq!(node.vips.held(), 1);
}

#[test]
fn an_address_is_released_at_once_when_nobody_has_it() {
    let mut node = holder(VIP);
    node.decide(VIP, release(None));
    assert_eq!(node.deeds(), ["10000: del 10.0.0.200 2", "withdrawn 10.0.0.200"]);
    node.decide(VIP, claim(false));
    node.decide(VIP, release(Some("b")));
    node.deeds();
    node.decide(VIP, release(None));
    assert_eq!(node.deeds(), ["10000: del 10.0.0.200 1", "withdrawn 10.0.0.200"]);
    assert_eq!(node.role(VIP), None);
}

#[test]
fn where_the_kernel_cannot_be_made_strict_ipv4_does_not_drain_and_that_is_said() {
    let mut node = member();
    node.read_only = true;
    node.decide(VIP, claim(false));
    node.decide(VIP6, claim(false));
    let log = node.deeds();
    let said = |text: &str| log.iter().position(|line| line.contains(text));
    assert!(said("announced 10.0.0.200") < said("ArpNotStrict"), "which ends refusals: {log:?}");
    assert_eq!(log.iter().filter(|line| line.contains("ArpNotStrict")).count(), 1, "{log:?}");
    node.decide(VIP, release(Some("b")));
    node.decide(VIP6, release(Some("b")));
    assert_eq!(
        node.deeds(),
        [
            "0: del 10.0.0.200 2",
            "refused 10.0.0.200 ConnectionsCut",
            "withdrawn 10.0.0.200",
            "0: add 2001:db8::200 1",
            "0: del 2001:db8::200 2",
            "draining 2001:db8::200 to b",
        ]
    );
    node.pass(29 * SECOND);
    assert_eq!(node.deeds(), [""; 0]);
    node.pass(60 * SECOND);
    assert!(
        node.deeds().contains(&format!("cleared {VIP}")),
        "what is over is not reported for ever"
    );
}

#[test]
fn what_is_deleted_is_not_renewed_in_the_same_breath() {
    let mut node = member();
    node.decide(VIP, claim(false));
    node.decide(VIP6, claim(false));
    node.pass(10 * SECOND - MS);
    node.log();
    node.now += MS;
    node.decide(VIP, release(None));
    assert_eq!(
        node.log(),
        ["10000: del 10.0.0.200 2", "10000: renew 2001:db8::200 2", "withdrawn 10.0.0.200"]
    );
}

#[test]
fn a_host_address_of_unknown_origin_is_taken_over_when_it_is_claimed() {
    let addresses = [(2, "10.0.0.1/24"), (2, "10.0.0.200/32")];
    let mut node = Node::in_group(with_loopback(links(&[(2, true)], &addresses)));
    node.want(&anywhere(&[VIP]));
    assert_eq!((node.log(), node.role(VIP)), (vec![], None), "a kernel without marks");
    node.decide(VIP, claim(true));
    node.pass(SECOND);
    assert_eq!(
        node.deeds(),
        ["0: strict 2", "0: announce 10.0.0.200 2", "announced 10.0.0.200 eth2"]
    );
    node.decide(VIP, release(None));
    assert_eq!(node.deeds(), ["1000: del 10.0.0.200 2", "withdrawn 10.0.0.200"]);
}

#[test]
fn what_is_said_of_the_nodes_own_address_ends_when_another_node_has_it() {
    let addresses = [(2, "10.0.0.1/24"), (2, "10.0.0.200/24")];
    let mut node = Node::in_group(with_loopback(links(&[(2, true)], &addresses)));
    node.want(&anywhere(&[VIP]));
    node.decide(VIP, claim(true));
    assert!(node.log().contains(&"refused 10.0.0.200 NodeAddress".to_owned()));
    node.decide(VIP, release(None));
    assert_eq!(node.deeds(), ["withdrawn 10.0.0.200", "cleared 10.0.0.200"]);
}

#[test]
fn what_was_refused_of_an_address_on_an_interface_ends_with_it() {
    let mut node = holder(VIP);
    node.failing.insert(VIP.parse().unwrap(), FailureKind::Other);
    node.decide(VIP, release(None));
    node.failing.clear();
    node.pass(6 * SECOND);
    assert_eq!(
        node.deeds(),
        [
            "10000: del 10.0.0.200 2",
            "refused 10.0.0.200 WithdrawFailed",
            "15000: del 10.0.0.200 2",
            "withdrawn 10.0.0.200",
            "cleared 10.0.0.200",
        ]
    );
}

#[test]
fn what_breaks_connections_is_reported_with_the_settings_that_would_help() {
    let texts = [
        refusals::cut(
            VIP.parse().unwrap(),
            "eth2",
            "b",
            "the kernel would go on answering ARP for it",
        ),
        refusals::failed(
            &Action::ArpIgnore { index: 2, name: "eth2".into() },
            &host(),
            &Failure { kind: FailureKind::Other, message: "read-only file system".into() },
        )
        .unwrap(),
    ];
    let hint = "set net.ipv4.conf.eth2.arp_ignore=1 and net.ipv4.conf.eth2.arp_announce=2, or let \
                the process write to /proc/sys/net";
    let expected = [
        "connections that are open on 10.0.0.200 break as it moves to b: the kernel would go on \
         answering ARP for it [ConnectionsCut]; ",
        "the kernel may answer ARP for VIPs on eth2 that are on other interfaces: read-only file \
         system [ArpNotStrict]; ",
    ];
    for (text, expected) in texts.iter().zip(expected) {
        assert_eq!(text.to_string(), format!("{expected}{hint}"));
        assert!(!text.is_error());
    }
}

#[test]
fn every_interface_that_speaks_arp_is_made_strict_once() {
    let mut node = member();
    node.decide(VIP6, claim(false));
    assert!(!node.log().iter().any(|line| line.contains("strict")), "IPv6 needs nothing");
    node.decide(VIP, claim(false));
    node.link(3, |link| (link.up, link.carrier) = (true, true));
    node.decide(VIP, release(None));
    node.decide(VIP, claim(false));
    let log = node.log();
    let strict: Vec<_> = log.iter().filter(|line| line.contains("strict")).collect();
    assert_eq!(strict, ["0: strict 2", "0: strict 3"]);
}

#[test]
fn all_addresses_are_renewed_together_twice_a_second() {
    let mut node = member();
    node.decide(VIP, claim(false));
    node.pass(200 * MS);
    node.decide(VIP6, claim(false));
    node.pass(10 * SECOND);
    let log = node.log();
    let renewals: Vec<_> = log.iter().filter(|line| line.contains("renew")).collect();
    assert_eq!(renewals.len(), 20);
    assert_eq!(renewals[0], "500: renew 10.0.0.200 2, 2001:db8::200 2");
    assert_eq!(renewals[1], "1000: renew 10.0.0.200 2, 2001:db8::200 2");
    node.decide(VIP, release(None));
    node.decide(VIP6, release(None));
    assert_eq!(node.vips.deadline(), None, "nothing to renew");
}

#[test]
fn a_member_that_hung_lets_go_of_what_it_held_until_the_group_decides_again() {
    // Whether or not the kernel has already removed it, as it does a little late.
    for removed in [false, true] {
        let mut node = holder(VIP);
        node.hang(3 * SECOND);
        if removed {
            node.lose(2, VIP);
        } else {
            node.settle();
        }
        let deleted = format!("13000: del {VIP} 2");
        let expected = [deleted, format!("withdrawn {VIP}")];
        assert_eq!(node.log(), expected[usize::from(removed)..], "neither renewed nor restored");
        assert_eq!(node.role(VIP), None);
        assert_eq!(node.offered(), [VIP6], "the group has to notice");
        node.pass(10 * SECOND);
        assert_eq!(node.offered(), [VIP, VIP6]);
        assert_eq!(node.log(), [""; 0]);
        node.decide(VIP, claim(false));
        assert_eq!(node.role(VIP), Some(Role::Active));
    }
}

#[test]
fn a_lone_node_that_hung_takes_its_addresses_back() {
    let mut node = Node::new(host());
    node.want(&anywhere(&[VIP]));
    node.pass(10 * SECOND);
    node.log();
    node.hang(3 * SECOND);
    node.lose(2, VIP);
    assert_eq!(node.log()[..2], ["13000: add 10.0.0.200 2", "13000: announce 10.0.0.200 2"]);
}

#[test]
fn an_address_that_somebody_removes_within_its_lifetime_is_restored_at_once() {
    let mut node = holder(VIP);
    node.lose(2, VIP);
    assert_eq!(
        node.log()[..2],
        ["10000: add 10.0.0.200 2", "10000: announce 10.0.0.200 2"],
        "without a probe"
    );
    assert_eq!(node.role(VIP), Some(Role::Active));
}

#[test]
fn a_renewal_that_fails_in_part_holds_up_nobody_else() {
    let mut node = member();
    node.decide(VIP, claim(false));
    node.decide(VIP6, claim(false));
    node.log();
    let entry = |ip: &str| vec![(2, ip.parse::<IpAddr>().unwrap())];
    for _ in 0..5 {
        node.now += 500 * MS;
        let now = node.now;
        for action in node.vips.due(now) {
            let Action::Renew { lifetime, .. } = action else {
                node.perform(&action);
                continue;
            };
            let part = |ip| Action::Renew { addresses: entry(ip), lifetime };
            let why = Failure { kind: FailureKind::Denied, message: "no".into() };
            node.vips.done(&part(VIP), Err(why), now);
            node.vips.done(&part(VIP6), Ok(()), now);
        }
        node.settle();
    }
    let deeds = node.deeds();
    assert!(deeds.contains(&format!("refused {VIP} RenewFailed")), "{deeds:?}");
    assert!(deeds.contains(&format!("2000: del {VIP} 2")), "{deeds:?}");
    assert_eq!((node.role(VIP), node.role(VIP6)), (None, Some(Role::Active)));
}

#[test]
fn what_a_killed_predecessor_left_on_a_link_is_deleted_at_once_and_what_is_on_lo_is_not() {
    let mut left = host();
    left.added(2, VIP.parse().unwrap());
    left.added(1, VIP6.parse().unwrap());
    let mut node = Node::with(left, VipsOptions { adopt: false, ..OPTIONS }, Some(claim(false)));
    assert_eq!(node.log(), ["0: del 10.0.0.200 2"]);
    assert_eq!(node.vips.held(), 0);
    let mut left = host();
    left.added(2, VIP.parse().unwrap());
    let mut node = Node::in_group(host());
    (node.vips, node.links) = (Vips::new(VipsOptions { adopt: false, ..OPTIONS }), left);
    node.failing.insert(VIP.parse().unwrap(), FailureKind::Other);
    node.vips.want(anywhere(&[VIP]));
    node.see();
    node.decide(VIP, claim(false));
    assert_eq!(node.role(VIP), None);
    assert_eq!(node.log(), ["0: del 10.0.0.200 2", "0: strict 2"]);
    node.failing.clear();
    node.pass(6 * SECOND);
    assert_eq!(
        node.deeds()[..3],
        ["5000: del 10.0.0.200 2", "5000: add 10.0.0.200 2", "5000: announce 10.0.0.200 2"]
    );
}

#[test]
fn an_interface_without_carrier_offers_nothing_and_the_group_decides_what_becomes_of_it() {
    let mut node = holder(VIP);
    node.link(2, |link| link.carrier = false);
    assert_eq!(node.offered(), [""; 0]);
    assert_eq!(node.log(), [VIP, VIP6].map(|ip| format!("refused {ip} NoCarrier")));
    assert_eq!(node.vips.links_in_use(), Some(BTreeMap::new()));
    node.decide(VIP, release(None));
    assert_eq!(node.log(), ["10000: del 10.0.0.200 2", "withdrawn 10.0.0.200"]);
    node.link(2, |link| link.carrier = true);
    assert_eq!(node.offered(), [VIP, VIP6]);
    assert_eq!(node.log(), [VIP, VIP6].map(|ip| format!("cleared {ip}")));
    assert!(node.vips.links_in_use().unwrap().contains_key(&2));
}

#[test]
fn a_claim_ends_with_its_interface_and_is_not_taken_up_again_unasked() {
    let mut node = holder(VIP);
    node.link(2, |link| link.up = false);
    assert_eq!(node.role(VIP), None);
    assert_eq!(node.offered(), [""; 0]);
    node.link(2, |link| link.up = true);
    node.log();
    node.pass(10 * SECOND);
    assert_eq!(node.log(), [""; 0]);
    assert_eq!(
        (node.offered(), node.state(VIP)),
        (vec![VIP.into(), VIP6.into()], Some(LocalState::Standby))
    );
}

#[test]
fn an_address_goes_to_another_interface_of_its_subnet_when_the_cable_is_pulled() {
    let addresses = [(2, "10.0.0.1/24"), (3, "10.0.0.2/24")];
    let both = with_loopback(links(&[(2, true), (3, true)], &addresses));
    let moved = [
        "0: del 10.0.0.200 2",
        "0: add 10.0.0.200 3",
        "0: announce 10.0.0.200 3",
        "announced 10.0.0.200 eth3",
    ];
    let mut alone = Node::new(both.clone());
    alone.want(&anywhere(&[VIP]));
    alone.log();
    alone.link(2, |link| link.carrier = false);
    assert_eq!(alone.deeds(), moved);
    alone.link(2, |link| link.carrier = true);
    assert_eq!(alone.deeds(), [""; 0], "and stays there");

    let mut node = Node::in_group(both);
    node.want(&anywhere(&[VIP]));
    node.decide(VIP, claim(false));
    node.log();
    node.link(2, |link| link.carrier = false);
    assert_eq!(node.deeds(), [""; 0], "other nodes are on the other link");
    assert_eq!(node.offers[&VIP.parse().unwrap()].link, 3);
    node.decide(VIP, release(None));
    node.decide(VIP, claim(false));
    let mut expected: Vec<String> = moved.map(str::to_owned).into();
    expected.insert(1, format!("withdrawn {VIP}"));
    assert_eq!(node.deeds(), expected);
}

#[test]
fn an_address_whose_interface_loses_the_subnet_is_taken_off_and_decided_anew() {
    let addresses = [(2, "10.0.0.1/24"), (3, "10.0.0.2/24")];
    let mut node = Node::in_group(with_loopback(links(&[(2, true), (3, true)], &addresses)));
    node.want(&anywhere(&[VIP]));
    node.decide(VIP, claim(false));
    node.log();
    node.want(&plan(&[(VIP, on("eth3"))]));
    assert_eq!(node.deeds(), ["0: del 10.0.0.200 2", "withdrawn 10.0.0.200"]);
    assert_eq!((node.role(VIP), node.offers[&VIP.parse().unwrap()].link), (None, 3));
    node.decide(VIP, claim(false));
    assert_eq!(node.deeds()[0], "0: add 10.0.0.200 3");
}

#[test]
fn an_address_that_cannot_be_added_here_is_offered_to_nobody_for_a_while() {
    let mut node = member();
    node.failing.insert(VIP.parse().unwrap(), FailureKind::Denied);
    node.decide(VIP, claim(false));
    assert_eq!(node.offered(), [VIP6]);
    node.pass(29 * SECOND);
    assert_eq!(node.offered(), [VIP6]);
    node.pass(SECOND);
    assert_eq!(node.offered(), [VIP, VIP6]);
    assert_eq!(
        node.deeds(),
        ["0: strict 2", "0: add 10.0.0.200 2", "refused 10.0.0.200 NotPermitted"]
    );
}

#[test]
fn what_is_no_longer_planned_stays_until_the_group_has_decided() {
    let mut node = holder(VIP);
    node.want(&VipPlan::default());
    assert_eq!(node.offered(), [""; 0]);
    node.pass(SECOND);
    assert_eq!((node.deeds(), node.role(VIP)), (vec![], Some(Role::Active)));
    node.decide(VIP, release(Some("b")));
    node.pass(40 * SECOND);
    assert_eq!(node.deeds().last(), Some(&format!("withdrawn {VIP}")));
    assert_eq!((node.state(VIP), node.vips.deadline()), (None, None));
}

#[test]
fn a_thousand_addresses_that_are_held_need_nothing_but_a_renewal_twice_a_second() {
    let mut node = Node::in_group(with_loopback(links(&[(2, true)], &[(2, "10.0.0.1/16")])));
    let vips: Vec<_> = (0..1000).map(|n| format!("10.0.{}.{}", 1 + n / 250, 1 + n % 250)).collect();
    node.want(&anywhere(&vips.iter().map(String::as_str).collect::<Vec<_>>()));
    for ip in &vips {
        node.vips.decide(ip.parse().unwrap(), claim(false), node.now);
    }
    node.settle();
    assert_eq!(node.roles.len(), 1000);
    node.pass(100 * MS);
    let announced = node.log().iter().filter(|line| line.contains("announce ")).count();
    assert_eq!(announced, 1000, "each within the first 100 ms");
    node.pass(20 * SECOND);
    node.log();
    node.pass(10 * SECOND);
    assert_eq!(node.log().len(), 20);
}
