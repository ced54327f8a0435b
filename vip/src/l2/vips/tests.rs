//! One node, alone, in virtual time: plans, interfaces that come and go, a kernel that refuses.

mod group;
pub(super) mod node;
mod random;
mod stranger;
mod together;

use super::*;
use crate::{
    links::{Link, OnLink, Origin, tests::links},
    plan::Interfaces,
};
use node::*;

#[test]
fn a_planned_address_is_added_and_announced_six_times() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.200"]));
    assert_eq!(
        node.log(),
        ["0: add 10.0.0.200 2", "0: announce 10.0.0.200 2", "announced 10.0.0.200 eth2"]
    );
    node.want(&anywhere(&["10.0.0.200"]));
    node.see();
    assert_eq!(node.log(), [""; 0], "an equal plan changes nothing");
    node.pass(60 * SECOND);
    let at: Vec<_> =
        node.log().iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(at, ["1100", "2200", "3300", "4400", "5500"]);
}

#[test]
fn a_change_of_plan_withdraws_before_it_adds_and_leaves_the_rest_alone() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.200", "10.0.0.201"]));
    node.pass(10 * SECOND);
    node.log();
    node.want(&anywhere(&["10.0.0.100", "10.0.0.200"]));
    assert_eq!(
        node.log(),
        [
            "10000: del 10.0.0.201 2",
            "10000: add 10.0.0.100 2",
            "10000: announce 10.0.0.100 2",
            "withdrawn 10.0.0.201",
            "announced 10.0.0.100 eth2",
        ]
    );
    assert_eq!(node.vips.held(), 2);
    node.want(&VipPlan::default());
    assert_eq!(node.vips.held(), 0);
    assert_eq!(node.vips.deadline(), None);
}

#[test]
fn an_address_without_a_subnet_waits_for_it_and_holds_up_nobody() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.200", "192.168.7.9"]));
    assert_eq!(
        node.log(),
        [
            "0: add 10.0.0.200 2",
            "0: announce 10.0.0.200 2",
            "refused 192.168.7.9 NoInterface",
            "announced 10.0.0.200 eth2",
        ]
    );
    node.pass(10 * SECOND);
    node.see();
    assert!(!node.log().iter().any(|line| line.contains("refused")), "reported once");
    let before = node.links.clone();
    let ours: [(u32, &str); 4] =
        [(2, "10.0.0.1/24"), (2, "2001:db8::1/64"), (2, "10.0.0.200/32"), (3, "192.168.7.1/24")];
    node.links = links(&[(2, true), (3, true)], &ours);
    node.see();
    assert_eq!(
        node.log(),
        [
            "10000: add 192.168.7.9 3",
            "10000: announce 192.168.7.9 3",
            "cleared 192.168.7.9",
            "announced 192.168.7.9 eth3",
        ]
    );
    node.links = before;
    node.see();
    node.pass(2 * SECOND);
    assert_eq!(node.log(), ["refused 192.168.7.9 NoInterface", "withdrawn 192.168.7.9"]);
}

#[test]
fn missing_privileges_are_reported_once_and_tried_again_after_30_seconds() {
    let mut node = Node::new(lan());
    node.failing.insert("10.0.0.200".parse().unwrap(), FailureKind::Denied);
    node.want(&anywhere(&["10.0.0.200", "2001:db8::200"]));
    assert_eq!(
        node.log(),
        [
            "0: add 10.0.0.200 2",
            "0: add 2001:db8::200 2",
            "0: announce 2001:db8::200 2",
            "refused 10.0.0.200 NotPermitted",
            "announced 2001:db8::200 eth2",
        ]
    );
    node.pass(29 * SECOND);
    node.log();
    node.pass(2 * SECOND);
    assert_eq!(node.log(), ["30000: add 10.0.0.200 2"]);
    node.failing.clear();
    node.pass(30 * SECOND);
    assert_eq!(node.log()[..2], ["60000: add 10.0.0.200 2", "60000: announce 10.0.0.200 2"]);
}

#[test]
fn an_address_that_cannot_be_announced_stays_and_is_reported() {
    let mut node = Node::new(lan());
    node.vips.want(anywhere(&["10.0.0.200"]));
    node.elect();
    let add = node.vips.due(node.now);
    for action in &add {
        node.vips.done(action, Ok(()), node.now);
    }
    let announce = node.vips.due(node.now);
    let denied = Failure { kind: FailureKind::Denied, message: "not permitted".into() };
    node.vips.done(&announce[0], Err(denied), node.now);
    let events = node.vips.events();
    let [SpeakerEvent::Announced { .. }, SpeakerEvent::Refused { refusal, .. }] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        refusal.to_string(),
        "10.0.0.200 is on eth2 but cannot be announced: not permitted [AnnouncementFailed]; \
         give the process CAP_NET_ADMIN and CAP_NET_RAW"
    );
    assert!(!refusal.is_error());
    assert_eq!(node.vips.held(), 1);
}

#[test]
fn what_a_killed_predecessor_left_is_adopted_announced_and_later_deleted() {
    let left = links(&[(2, true)], &[(2, "10.0.0.1/24"), (2, "10.0.0.200/32")]);
    let mut node = Node::new(left);
    node.want(&anywhere(&["10.0.0.200"]));
    assert_eq!(node.log(), ["0: announce 10.0.0.200 2", "announced 10.0.0.200 eth2"]);
    assert_eq!(node.vips.held(), 1);
    node.want(&VipPlan::default());
    assert_eq!(node.log(), ["0: del 10.0.0.200 2", "withdrawn 10.0.0.200"]);
}

#[test]
fn the_nodes_own_address_is_announced_with_a_warning_but_never_deleted() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.1"]));
    assert_eq!(
        node.log(),
        ["0: announce 10.0.0.1 2", "announced 10.0.0.1 eth2", "refused 10.0.0.1 NodeAddress"]
    );
    assert_eq!(node.vips.held(), 0);
    node.want(&VipPlan::default());
    assert_eq!(node.log(), ["withdrawn 10.0.0.1"]);
}

#[test]
fn an_address_that_somebody_removes_comes_back_at_most_once_a_second() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.200"]));
    node.pass(10 * SECOND);
    node.log();
    node.links = lan();
    node.see();
    assert_eq!(node.log()[0], "10000: add 10.0.0.200 2");
    node.pass(SECOND / 10);
    node.links = lan();
    node.see();
    assert_eq!(node.log(), [""; 0]);
    node.pass(SECOND);
    assert_eq!(node.log()[0], "11000: add 10.0.0.200 2");
}

#[test]
fn an_address_moves_when_its_interface_is_no_longer_allowed() {
    let both = links(&[(2, true), (3, true)], &[(2, "10.0.0.1/24"), (3, "10.0.0.2/24")]);
    let mut node = Node::new(both);
    node.want(&plan(&[("10.0.0.200", on("eth2"))]));
    node.log();
    node.want(&plan(&[("10.0.0.200", Interfaces::Any)]));
    assert_eq!(node.log(), [""; 0], "it stays where it may be");
    node.want(&plan(&[("10.0.0.200", on("eth3"))]));
    assert_eq!(
        node.log(),
        [
            "0: del 10.0.0.200 2",
            "0: add 10.0.0.200 3",
            "0: announce 10.0.0.200 3",
            "announced 10.0.0.200 eth3",
        ]
    );
}

#[test]
fn an_address_is_taken_off_an_interface_that_goes_down_and_put_back() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.200"]));
    node.pass(10 * SECOND);
    node.log();
    let with_vip = [(2, "10.0.0.1/24"), (2, "10.0.0.200/32")];
    node.links = links(&[(2, false)], &with_vip);
    node.see();
    assert_eq!(
        node.log(),
        ["10000: del 10.0.0.200 2", "refused 10.0.0.200 NoInterface", "withdrawn 10.0.0.200"]
    );
    node.links = links(&[(2, true)], &with_vip[..1]);
    node.see();
    assert_eq!(node.log()[..2], ["10000: add 10.0.0.200 2", "10000: announce 10.0.0.200 2"]);
}

#[test]
fn a_plugged_in_cable_hears_the_announcements_again() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.200"]));
    node.pass(10 * SECOND);
    node.log();
    let carrier = |links: &Links, carrier| {
        let link = Link { carrier, ..links.link(2).unwrap().clone() };
        let on = OnLink::host(2, "10.0.0.200".parse().unwrap());
        let own = OnLink { index: 2, ip: "10.0.0.1".parse().unwrap(), prefix: 24 };
        Links::new([link], [(on, Origin::Ours), (own, Origin::Unknown)])
    };
    node.links = carrier(&node.links, false);
    node.see();
    assert_eq!(node.log(), ["refused 10.0.0.200 NoCarrier"], "alone, it waits where it is");
    node.links = carrier(&node.links, true);
    node.see();
    assert_eq!(node.log(), ["10000: announce 10.0.0.200 2", "announced 10.0.0.200 eth2"]);
}

#[test]
fn an_interface_without_arp_gets_the_address_and_no_frames() {
    let seen = lan();
    let tunnel = Link { mac: None, ..seen.link(2).unwrap().clone() };
    let own = OnLink { index: 2, ip: "10.0.0.1".parse().unwrap(), prefix: 24 };
    let mut node = Node::new(Links::new([tunnel], [(own, Origin::Unknown)]));
    node.want(&anywhere(&["10.0.0.200"]));
    assert_eq!(node.log(), ["0: add 10.0.0.200 2", "announced 10.0.0.200 eth2"]);
    node.pass(60 * SECOND);
    assert_eq!(node.log(), [""; 0]);
}

#[test]
fn a_deletion_that_fails_is_tried_again_until_the_address_is_gone() {
    let mut node = Node::new(lan());
    node.want(&anywhere(&["10.0.0.200"]));
    node.failing.insert("10.0.0.200".parse().unwrap(), FailureKind::Other);
    node.log();
    node.want(&VipPlan::default());
    assert_eq!(node.log(), ["0: del 10.0.0.200 2", "refused 10.0.0.200 WithdrawFailed"]);
    assert_eq!(node.vips.held(), 1);
    node.failing.clear();
    node.pass(6 * SECOND);
    assert_eq!(node.log(), ["5000: del 10.0.0.200 2", "withdrawn 10.0.0.200"]);
    assert_eq!(node.vips.held(), 0);
}
