#![allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]

pub(super) mod lab;
mod many;
mod membership;
mod notes;

use super::*;
use lab::*;

#[test]
fn alone_whatever_is_offered_is_claimed_at_once_and_nothing_is_sent() {
    let now = Instant::now();
    let mut group = Group::new("a".into(), None, [1; 16], Vec::new(), Timing::default(), now);
    group.links(BTreeMap::from([(LINK, facts(1))]), now);
    group.offers(offers(0), now);
    assert_eq!(group.decisions(now), [(vip(), claim(true, false))]);
    group.role(vip(), Some(Role::Active), now);
    group.drain(true, now);
    group.resumed(now);
    assert_eq!(group.decisions(now), []);
    group.healthy(false, now);
    assert_eq!(group.decisions(now), [(vip(), release(None))]);
    group.healthy(true, now);
    assert_eq!(group.decisions(now), [(vip(), claim(true, false))]);
    group.offers(BTreeMap::new(), now);
    assert_eq!(group.decisions(now), [(vip(), release(None))]);
    assert_eq!(group.transmit(now), []);
    assert!(!group.can_hand_over(vip()));
    assert_eq!(group.deadline(), None);
}

#[test]
fn the_first_of_a_group_claims_after_listening_with_a_probe_and_the_others_do_nothing() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.pass(ms(390));
    assert_eq!(lab.decided(), []);
    lab.pass(ms(3000));
    assert_eq!(lab.decided(), all(vec![("node-2", claim(true, false))]));
    for node in ["node-1", "node-2", "node-3"] {
        assert_eq!(lab.owner(node).as_deref(), Some("node-2"));
    }
}

#[test]
fn of_a_dead_owner_the_next_claims_without_a_probe_within_330_ms_and_contested() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.pass(ms(3000));
    lab.decided();
    lab.node("node-2").runs = false;
    assert!(lab.until_decision("node-1") <= ms(330));
    lab.pass(ms(5000));
    assert_eq!(lab.decided(), all(vec![("node-1", claim(false, true))]));
}

#[test]
fn nobody_claims_from_a_live_holder_before_the_hold_down_is_over() {
    let mut lab = Lab::with(&["node-1"]);
    lab.pass(ms(3000));
    lab.decided();
    lab.start("node-2", 1);
    let waited = lab.until_decision("node-2");
    assert!((ms(5000)..=ms(5020)).contains(&waited), "{waited:?}");
    lab.pass(ms(1000));
    let expected = all(vec![
        ("node-2", take_from("node-1")),
        ("node-1", release(Some("node-2"))),
        // Two announced it for a moment, so it is announced again, still with its old owner.
        ("node-2", take_from("node-1")),
    ]);
    assert_eq!(lab.decided(), expected);
}

#[test]
fn the_hold_down_doubles_when_an_address_is_soon_lost_again_up_to_a_minute() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(3000));
    let mut waits = Vec::new();
    for _ in 0..6 {
        let now = lab.now;
        lab.group("node-2").links(BTreeMap::new(), now);
        lab.group("node-2").offers(BTreeMap::new(), now);
        lab.pass(ms(1000));
        lab.decided();
        let now = lab.now;
        lab.group("node-2").links(BTreeMap::from([(LINK, facts(b'2'))]), now);
        lab.group("node-2").offers(offers(0), now);
        waits.push((lab.until_decision("node-2").as_millis() + 500) / 1000);
        lab.pass(ms(1000));
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    // Held for a minute, it is stable again.
    lab.pass(ms(61_000));
    let now = lab.now;
    lab.group("node-2").offers(BTreeMap::new(), now);
    lab.pass(ms(1000));
    lab.decided();
    let now = lab.now;
    lab.group("node-2").offers(offers(0), now);
    assert!(lab.until_decision("node-2") <= ms(5020));
}

#[test]
fn a_claim_that_is_still_probing_is_given_up_for_a_better_member() {
    let mut lab = Lab::with(&["node-1"]);
    lab.node("node-1").obeys = false; // the probe takes its time
    lab.pass(ms(410));
    lab.start("node-2", 1);
    lab.pass(ms(2000));
    let expected = all(vec![
        ("node-1", claim(true, false)),
        ("node-1", release(None)),
        ("node-2", claim(true, false)),
    ]);
    assert_eq!(lab.decided(), expected);
}

#[test]
fn a_draining_holder_hands_over_at_once_and_keeps_what_nobody_can_take() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    lab.decided();
    let now = lab.now;
    lab.group("node-2").drain(true, now);
    assert!(lab.group("node-2").can_hand_over(vip()));
    lab.pass(ms(50));
    let expected = all(vec![
        ("node-1", take_from("node-2")),
        ("node-2", release(Some("node-1"))),
        ("node-1", take_from("node-2")),
    ]);
    assert_eq!(lab.decided(), expected);
    let now = lab.now;
    lab.group("node-1").drain(true, now);
    assert!(!lab.group("node-1").can_hand_over(vip()));
    lab.pass(ms(10_000));
    assert_eq!(lab.decided(), []);
    assert_eq!(lab.owner("node-2").as_deref(), Some("node-1"));
}

#[test]
fn connections_go_to_the_old_owner_as_long_as_it_lives_and_drains() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    let now = lab.now;
    lab.group("node-2").drain(true, now);
    lab.pass(ms(100));
    assert!(lab.group("node-1").old_owner_serves(vip()));
    lab.pass(ms(5000));
    assert!(lab.group("node-1").old_owner_serves(vip()));
    lab.set_role("node-2", None);
    lab.pass(ms(20));
    assert!(!lab.group("node-1").old_owner_serves(vip()));
    lab.set_role("node-2", Some(Role::Draining));
    lab.pass(ms(20));
    lab.node("node-2").runs = false;
    lab.pass(ms(400));
    assert!(!lab.group("node-1").old_owner_serves(vip()));
}

#[test]
fn a_holder_that_can_no_longer_hold_waits_a_second_for_whoever_can() {
    for cause in ["listener closed", "data path hangs"] {
        let mut lab = Lab::with(&["node-1", "node-2"]);
        lab.pass(ms(1000));
        lab.decided();
        lab.node("node-1").obeys = false; // it claims, but does not get it onto its interface
        let now = lab.now;
        match cause {
            "listener closed" => lab.group("node-2").offers(BTreeMap::new(), now),
            _ => lab.group("node-2").healthy(false, now),
        }
        lab.pass(ms(990));
        assert_eq!(lab.decided(), all(vec![("node-1", take_from("node-2"))]), "{cause}");
        lab.pass(ms(30));
        assert_eq!(lab.decided(), all(vec![("node-2", release(None))]), "{cause}");
    }
}

#[test]
fn without_anybody_to_take_it_or_without_the_link_an_address_is_let_go_of_at_once() {
    let mut lab = Lab::with(&["node-1"]);
    lab.pass(ms(1000));
    lab.decided();
    let now = lab.now;
    lab.group("node-1").offers(BTreeMap::new(), now);
    lab.pass(ms(10));
    assert_eq!(lab.decided(), all(vec![("node-1", release(None))]));

    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    lab.decided();
    let now = lab.now;
    lab.group("node-2").links(BTreeMap::new(), now);
    assert_eq!(lab.group("node-2").decisions(now), [(vip(), release(None))]);
}

#[test]
fn a_returned_link_is_listened_to_before_anything_is_claimed_there() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    let now = lab.now;
    lab.group("node-2").links(BTreeMap::new(), now);
    lab.pass(ms(1000));
    lab.decided();
    let now = lab.now;
    lab.group("node-2").links(BTreeMap::from([(LINK, facts(b'2'))]), now);
    assert_eq!(lab.group("node-2").decisions(now), []);
    lab.pass(ms(1000));
    // Only that it had held the address is news to node-1's neighbours.
    assert_eq!(lab.decided(), all(vec![("node-1", claim(false, false))]));
    assert_eq!(lab.owner("node-2").as_deref(), Some("node-1"));
}

#[test]
fn after_a_partition_the_one_that_stands_behind_yields_and_the_other_announces_again() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    let pair = ["node-1", "node-2"].map(str::to_owned);
    let [a, b] = pair;
    lab.cut = [(a.clone(), b.clone()), (b, a)].into();
    lab.pass(ms(3000));
    assert_eq!(lab.owner("node-1").as_deref(), Some("node-1"));
    assert_eq!(lab.owner("node-2").as_deref(), Some("node-2"));
    lab.decided();
    lab.cut.clear();
    lab.pass(ms(200));
    let expected = all(vec![("node-1", release(Some("node-2"))), ("node-2", claim(false, false))]);
    assert_eq!(lab.decided(), expected);
}

#[test]
fn a_higher_preference_moves_an_address_without_hold_down_if_the_node_has_long_been_fit() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.pass(ms(6000));
    lab.decided();
    let now = lab.now;
    lab.group("node-3").offers(offers(100), now);
    lab.pass(ms(50));
    let expected = all(vec![
        ("node-3", take_from("node-2")),
        ("node-2", release(Some("node-3"))),
        ("node-3", take_from("node-2")),
    ]);
    assert_eq!(lab.decided(), expected);
}

#[test]
fn an_address_leaves_a_node_that_serves_a_part_of_it_for_one_that_serves_all_of_it() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.pass(ms(6000));
    let offer = |lab: &mut Lab, node: &str, partial| {
        let mut terms = offers(100);
        terms.values_mut().for_each(|offer| offer.partial = partial);
        let now = lab.now;
        lab.group(node).offers(terms, now);
    };
    let holders = |lab: &mut Lab| {
        // Longer than any hold-down.
        lab.pass(ms(130_000));
        let active = |node: &&str| lab.nodes[*node].group.addresses.values().any(Address::active);
        ["node-1", "node-2", "node-3"].into_iter().filter(active).collect::<Vec<_>>()
    };
    offer(&mut lab, "node-3", false);
    assert_eq!(holders(&mut lab), ["node-3"]);
    offer(&mut lab, "node-3", true);
    assert_eq!(holders(&mut lab), ["node-2"]);
    // There is none any more.
    offer(&mut lab, "node-1", true);
    offer(&mut lab, "node-2", true);
    offer(&mut lab, "node-3", true);
    assert_eq!(holders(&mut lab).len(), 1);
}

#[test]
fn a_change_is_sent_at_once_and_heartbeats_every_100_ms_else() {
    let mut lab = Lab::with(&["node-1"]);
    lab.pass(ms(3000));
    let group = lab.group("node-1");
    let mut now = group.now;
    let mut sent = Vec::new();
    for _ in 0..5 {
        now = group.deadline().unwrap();
        assert_eq!(group.decisions(now), []);
        sent.push((now, group.transmit(now).len()));
    }
    assert!(sent.windows(2).all(|pair| pair[1].0 - pair[0].0 == ms(100)), "{sent:?}");
    assert!(sent.iter().all(|(_, count)| *count == 1));
    now += ms(50);
    group.drain(true, now);
    assert_eq!(group.deadline(), Some(now));
    assert_eq!(group.transmit(now).len(), 1);
    // What changes together goes together.
    group.drain(false, now + ms(1));
    assert!(group.transmit(now + ms(1)).is_empty());
    assert_eq!(group.transmit(now + ms(5)).len(), 1);
}

#[test]
fn peers_get_by_unicast_what_goes_out_by_multicast_where_they_can_be_reached() {
    let now = Instant::now();
    let peers: Vec<SocketAddr> = ["192.0.2.2:7471", "[2001:db8::2]:7471", "[fe80::2%9]:7471"]
        .map(|it| it.parse().unwrap())
        .into();
    let key = key();
    let mut group =
        Group::new("a".into(), Some(key), [1; 16], peers.clone(), Timing::default(), now);
    let v4_only = LinkFacts { v6: None, ..facts(1) };
    group.links(BTreeMap::from([(LINK, facts(1)), (9, facts(1)), (11, v4_only)]), now);
    let sent = group.transmit(now);
    let to = |link: u32| -> Vec<Destination> {
        sent.iter().filter(|it| it.link == link).map(|it| it.to).collect()
    };
    let [v4, v6, scoped] = [0, 1, 2].map(|index| Destination::Peer(peers[index]));
    assert_eq!(to(LINK), [Destination::Multicast, v4, v6]);
    assert_eq!(to(9), [Destination::Multicast, v4, v6, scoped]);
    assert_eq!(to(11), [Destination::Multicast, v4]);
    assert_eq!(group.status(now).counters.sent, 9);
}

#[test]
fn a_thousand_addresses_move_from_a_dead_node_in_one_turn() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    let many: BTreeMap<IpAddr, Offer> = (0..1000)
        .map(|host| {
            (
                Ipv4Addr::from_bits(0xc000_0300 + host).into(),
                Offer { link: LINK, preference: 0, tenants: 0, partial: false },
            )
        })
        .collect();
    let now = lab.now;
    for node in ["node-1", "node-2"] {
        lab.group(node).offers(many.clone(), now);
    }
    lab.pass(ms(3000));
    let held = |lab: &Lab, node: &str| {
        lab.nodes[node].group.addresses.values().filter(|address| address.active()).count()
    };
    assert_eq!(held(&lab, "node-1") + held(&lab, "node-2"), 1000);
    assert!(held(&lab, "node-1") > 400 && held(&lab, "node-2") > 400);
    // A table that all members know is not sent again.
    lab.recorded.clear();
    lab.pass(ms(1000));
    assert!(lab.recorded.len() <= 22, "{} datagrams", lab.recorded.len());
    assert!(lab.recorded.iter().all(|(_, bytes)| bytes.len() < 200));
    lab.decided();
    lab.node("node-2").runs = false;
    lab.until_decision("node-1");
    let taken = lab.decided();
    assert!(taken.iter().all(|(node, what)| node == "node-1" && *what == claim(false, true)));
    assert_eq!(held(&lab, "node-1"), 1000);
    assert!(lab.recorded.iter().all(|(_, bytes)| bytes.len() <= wire::LONGEST));
}
