//! A node of a group, in virtual time: asking for an address, and what neighbours say of it.

use super::{super::*, node::*};
use crate::l2::claim::ClaimKind::{Claim, Probe};

#[test]
fn an_address_is_asked_for_three_times_before_it_is_used() {
    for (ip, first) in [(VIP, Some("0: strict 2")), (VIP6, None)] {
        let mut node = member();
        node.decide(ip, claim(true));
        assert_eq!((node.state(ip), node.role(ip)), (Some(LocalState::Probing), None));
        node.pass(SECOND);
        let mut expected: Vec<String> = first.into_iter().map(str::to_owned).collect();
        expected.extend([0, 200, 400].map(|at| format!("{at}: probe {ip} 2")));
        expected.extend([format!("600: add {ip} 2"), format!("600: announce {ip} 2")]);
        expected.push(format!("announced {ip} eth2"));
        assert_eq!(node.deeds(), expected);
        assert_eq!(
            (node.state(ip), node.role(ip)),
            (Some(LocalState::Holding), Some(Role::Active))
        );
    }
}

#[test]
fn an_address_that_a_stranger_has_or_wants_is_left_to_it_and_the_others_go_on() {
    for kind in [Claim, Probe] {
        let mut node = member();
        node.decide(VIP, claim(true));
        node.decide(VIP6, claim(true));
        node.pass(300 * MS);
        node.log();
        node.hear(VIP, kind, None);
        assert_eq!(node.log(), [format!("refused {VIP} AddressInUse")]);
        assert_eq!(
            (node.offered(), node.state(VIP)),
            (vec![VIP6.into()], Some(LocalState::Blocked))
        );
        node.pass(SECOND - MS);
        assert_eq!(node.offered(), [VIP6]);
        assert_eq!(node.role(VIP6), Some(Role::Active));
        node.pass(MS);
        assert_eq!((node.offered(), node.role(VIP)), (vec![VIP.into(), VIP6.into()], None));
    }
}

#[test]
fn a_stranger_is_named_and_asked_for_less_and_less_often() {
    let mut node = Node::with(host(), OPTIONS, Some(claim(true)));
    node.want(&anywhere(&[VIP]));
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(node.state(VIP), Some(LocalState::Probing));
        let now = node.now;
        node.vips.heard(
            NeighbourClaim { index: 2, ip: VIP.parse().unwrap(), mac: STRANGER, kind: Claim },
            None,
            now,
        );
        if waits.is_empty() {
            let events = node.vips.events();
            let [SpeakerEvent::Refused { refusal, .. }] = events.as_slice() else {
                panic!("{events:?}");
            };
            assert_eq!(
                refusal.to_string(),
                "10.0.0.200 is used on eth2 by 02:00:00:00:00:99, which is not of this group; it is \
                 tried again in 1 s [AddressInUse]; take the address off that host, or leave it out \
                 of the pool"
            );
            assert!(refusal.is_error());
        }
        node.settle();
        while node.state(VIP) == Some(LocalState::Blocked) {
            node.pass(SECOND);
        }
        waits.push((node.now - now).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert!(!node.log().iter().any(|line| line.starts_with("refused")), "reported once");
    node.pass(SECOND);
    assert_eq!(node.role(VIP), Some(Role::Active), "the stranger has gone");
    node.decide(VIP, release(None));
    node.decide(VIP, claim(true));
    node.hear(VIP, Claim, None);
    node.pass(SECOND);
    assert_eq!(node.state(VIP), Some(LocalState::Probing), "it begins again at one second");
}

#[test]
fn an_address_that_another_member_took_while_a_stranger_left_is_no_longer_complained_of() {
    let mut node = member();
    node.decide(VIP, claim(true));
    node.hear(VIP, Claim, None);
    node.deeds();
    node.pass(7 * SECOND);
    assert_eq!(node.deeds(), [format!("cleared {VIP}")]);
    assert_eq!(node.vips.deadline(), None);
}

#[test]
fn a_member_that_announces_what_is_being_asked_for_is_left_to_the_group() {
    let mut node = member();
    node.decide(VIP, claim(true));
    node.pass(100 * MS);
    node.hear(VIP, Claim, Some("b"));
    assert_eq!(node.state(VIP), Some(LocalState::Probing));
    node.decide(VIP, release(None));
    node.pass(SECOND);
    assert!(!node.log().iter().any(|line| line.contains("add")), "a release ends the probing");
    assert_eq!(node.state(VIP), Some(LocalState::Standby));
}

#[test]
fn a_member_that_announces_what_is_held_here_is_answered_ten_times_a_second_at_most() {
    let mut node = holder(VIP);
    for _ in 0..30 {
        node.hear(VIP, Claim, Some("b"));
        node.pass(10 * MS);
    }
    node.pass(SECOND);
    let expected = [10000, 10100, 10200, 10300].map(|at| format!("{at}: announce {VIP} 2"));
    assert_eq!(node.deeds(), expected);
    node.decide(VIP, release(Some("b")));
    node.deeds();
    node.hear(VIP, Claim, Some("b"));
    node.pass(SECOND);
    assert_eq!(node.deeds(), [""; 0], "what has been handed over is not contested");
}

#[test]
fn a_stranger_is_told_off_every_ten_seconds_and_never_yielded_to() {
    let mut node = holder(VIP);
    for _ in 0..25 {
        node.hear(VIP, Claim, None);
        node.hear(VIP, Probe, None);
        node.pass(SECOND);
    }
    let at = [10000, 20000, 30000].map(|at| format!("{at}: announce {VIP} 2"));
    let conflict = format!("refused {VIP} AddressConflict");
    assert_eq!(node.deeds(), [at[0].clone(), conflict, at[1].clone(), at[2].clone()]);
    node.pass(58 * SECOND);
    assert_eq!(node.deeds(), [""; 0]);
    node.pass(2 * SECOND);
    assert_eq!(node.deeds(), [format!("announced {VIP} eth2")], "a minute later all is well");
}

#[test]
fn what_comes_from_this_node_or_by_another_interface_is_no_rival() {
    let mut node = holder(VIP);
    let ip = VIP.parse().unwrap();
    let own = NeighbourClaim { index: 2, ip, mac: [2, 0, 0, 0, 0, 3], kind: Claim };
    node.vips.heard(own, None, node.now);
    node.vips.heard(NeighbourClaim { index: 3, mac: STRANGER, ..own }, None, node.now);
    node.settle();
    assert_eq!(node.log(), [""; 0]);
}
