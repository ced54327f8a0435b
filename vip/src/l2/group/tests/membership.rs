//! Which members are alive: members that come, go, come back, hear nothing or pretend, step by step.

use super::{super::*, lab::*};

#[test]
fn a_link_that_carries_one_way_makes_no_member_and_nobody_yields_to_the_deaf() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    lab.decided();
    // node-1 hears node-2 no longer, so it takes it for dead and claims; node-2 hears that.
    lab.cut.insert(("node-2".to_owned(), "node-1".to_owned()));
    lab.pass(ms(10_000));
    assert_eq!(lab.decided(), all(vec![("node-1", claim(false, true))]));
    let now = lab.now;
    let status = lab.group("node-2").status(now);
    assert_eq!(status.members[0].state, MemberState::Unproven);
    assert_eq!(lab.group("node-1").status(now).members[0].state, MemberState::Dead);
    lab.cut.clear();
    lab.pass(ms(150));
    assert_eq!(lab.decided()[0], ("node-1".to_owned(), release(Some("node-2"))));
}

#[test]
fn who_stood_still_lets_go_of_everything_listens_and_returns_as_a_newcomer() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    lab.node("node-2").runs = false;
    lab.pass(ms(1500));
    lab.decided();
    lab.node("node-2").runs = true;
    let now = lab.now;
    lab.group("node-2").resumed(now);
    lab.pass(ms(10));
    assert_eq!(lab.decided(), all(vec![("node-2", release(None))]));
    // It may have been heard by neighbours until now.
    lab.pass(ms(100));
    assert_eq!(lab.decided(), all(vec![("node-1", claim(false, false))]));
    let waited = lab.until_decision("node-2");
    assert!((ms(4800)..=ms(5100)).contains(&waited), "{waited:?}");
    assert_eq!(lab.decided()[0], ("node-2".to_owned(), take_from("node-1")));
}

#[test]
fn who_never_had_company_goes_on_after_standing_still() {
    let mut lab = Lab::with(&["node-1"]);
    lab.pass(ms(1000));
    lab.decided();
    let now = lab.now + ms(5000);
    lab.group("node-1").resumed(now);
    lab.pass(ms(1000));
    assert_eq!(lab.decided(), []);
}

#[test]
fn recorded_heartbeats_of_an_earlier_life_raise_nobody_from_the_dead() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(2000));
    let recorded: Vec<_> =
        lab.recorded.iter().filter(|(from, _)| from == "node-2").cloned().collect();
    lab.nodes.remove("node-2");
    lab.pass(ms(1000));
    assert_eq!(lab.owner("node-1").as_deref(), Some("node-1"));
    // To the same life of the listener: seen before.
    let (now, from) = (lab.now, SocketAddr::from(([192, 0, 2, 66], 7471)));
    for (_, bytes) in &recorded {
        lab.group("node-1").receive(bytes, from, LINK, now);
    }
    assert!(lab.refused("node-1", "Replayed") + 1 >= recorded.len() as u64);
    assert_eq!(lab.owner("node-1").as_deref(), Some("node-1"));
    // To its next life: authentic, but no proof of anything. It holds a claim up, for a second.
    lab.decided();
    lab.start("node-1", 2);
    for (_, bytes) in &recorded {
        let (now, before) = (lab.now, lab.now);
        lab.group("node-1").receive(bytes, from, LINK, now);
        lab.pass(ms(20));
        assert!(lab.now > before);
        assert!(
            lab.group("node-1").status(now).members.iter().all(|it| it.state != MemberState::Alive)
        );
    }
    lab.pass(ms(1500));
    assert_eq!(lab.decided(), all(vec![("node-1", claim(true, false))]));
}

#[test]
fn a_restarted_node_is_a_newcomer_and_its_earlier_life_is_not_shown() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(1000));
    lab.decided();
    lab.start("node-2", 2);
    assert!(lab.until_decision("node-1") <= ms(40));
    lab.pass(ms(4000));
    assert_eq!(lab.decided(), all(vec![("node-1", claim(false, true))]));
    let now = lab.now;
    let status = lab.group("node-1").status(now);
    assert_eq!(status.members.len(), 1);
    assert_eq!(status.members[0].state, MemberState::Alive);
    assert!(status.duplicate_nodes.is_empty());
    lab.pass(ms(2000));
    assert_eq!(lab.owner("node-1").as_deref(), Some("node-2"));
}

#[test]
fn two_nodes_of_one_name_are_told_of_and_still_only_one_owns() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.start_as("node-3", "node-2", 1, Some(key()));
    lab.pass(ms(8000));
    let now = lab.now;
    for host in ["node-1", "node-2", "node-3"] {
        let status = lab.group(host).status(now);
        assert_eq!(status.duplicate_nodes, ["node-2"], "{host}");
    }
    let active = |(_, node): &(&String, &Node)| node.group.addresses[&vip()].active();
    assert_eq!(lab.nodes.iter().filter(active).count(), 1);
}

#[test]
fn what_is_not_of_this_group_or_this_link_is_counted_and_changes_nothing() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    let stranger = Some(GroupKey::new(b"the secret of another group").unwrap());
    lab.start_as("node-3", "node-3", 1, stranger);
    lab.pass(ms(1000));
    let now = lab.now;
    assert!(lab.refused("node-1", "NotAuthentic") >= 10);
    assert_eq!(lab.group("node-1").status(now).members.len(), 1);
    let (_, bytes) = lab.recorded.iter().find(|(from, _)| from == "node-2").cloned().unwrap();
    lab.group("node-1").receive(&bytes, SocketAddr::from(([192, 0, 2, 2], 7471)), 9, now);
    assert_eq!(lab.refused("node-1", "UnknownLink"), 1);
}

#[test]
fn a_node_without_a_key_claims_nothing_and_is_silent_until_it_has_one() {
    let mut lab = Lab::with(&["node-1"]);
    lab.start("node-2", 1);
    lab.group("node-2").wait_for_key();
    let now = lab.now;
    lab.group("node-2").links(BTreeMap::from([(LINK, facts(b'2'))]), now);
    lab.pass(ms(3000));
    assert_eq!(lab.decided(), all(vec![("node-1", claim(true, false))]));
    assert!(lab.recorded.iter().all(|(from, _)| from == "node-1"));
    let now = lab.now;
    assert!(lab.group("node-2").key(key(), now), "it is the first one");
    assert!(!lab.group("node-2").key(key(), now));
    lab.group("node-2").links(BTreeMap::from([(LINK, facts(b'2'))]), now);
    lab.pass(ms(10_000));
    assert_eq!(lab.decided()[0], ("node-2".to_owned(), take_from("node-1")));
    assert_eq!(lab.owner("node-1").as_deref(), Some("node-2"));
}

#[test]
fn a_key_that_reaches_the_nodes_one_after_the_other_moves_no_address() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.pass(ms(3000));
    lab.decided();
    let new = GroupKey::new(b"the next secret of the group").unwrap();
    for node in ["node-3", "node-2", "node-1"] {
        let now = lab.now;
        lab.group(node).key(new.clone(), now);
        lab.pass(ms(100_000));
        assert_eq!(lab.decided(), [], "{node}");
    }
    // A newcomer has the new one only, and one that missed the change is a stranger in the end.
    lab.nodes.remove("node-3");
    lab.start_as("node-3", "node-3", 2, Some(new));
    lab.pass(ms(1_000));
    assert_eq!(lab.owner("node-3").as_deref(), Some("node-2"));
    lab.pass(ms(600_000));
    assert_eq!(lab.decided(), []);
    let before = lab.refused("node-1", "NotAuthentic");
    lab.start_as("node-4", "node-4", 1, Some(key()));
    lab.pass(ms(1_000));
    assert!(lab.refused("node-1", "NotAuthentic") >= before + 10);
}

#[test]
fn a_successor_on_the_same_node_goes_on_as_the_same_member() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.pass(ms(10_000));
    lab.decided();
    let incarnation = lab.group("node-2").header.incarnation;
    lab.start_as("beside-2", "node-2", 1, Some(key()));
    let (key, now) = (Some(key()), lab.now);
    let mut group =
        Group::new("node-2".into(), key, incarnation, Vec::new(), Timing::default(), now);
    group.overhear();
    group.inherit(BTreeSet::from([vip()]));
    group.links(BTreeMap::from([(LINK, facts(b'2'))]), now);
    group.offers(offers(0), now);
    assert!(!group.has_overheard(now));
    lab.node("beside-2").group = group;
    lab.pass(ms(5_000));
    assert_eq!(lab.decided(), all(vec![("beside-2", claim(false, false))]));
    assert!(lab.recorded.iter().all(|(from, _)| from != "beside-2"), "it is silent");
    let now = lab.now;
    assert!(lab.group("beside-2").has_overheard(now));
    let sequence = lab.group("node-2").sequence();
    lab.nodes.remove("node-2");
    lab.group("beside-2").speak(sequence, now);
    lab.pass(ms(10_000));
    assert_eq!(lab.decided(), []);
    for node in ["node-1", "node-3"] {
        assert_eq!(lab.owner(node).as_deref(), Some("node-2"));
        let now = lab.now;
        let status = lab.group(node).status(now);
        assert_eq!((status.members.len(), status.duplicate_nodes.len()), (2, 0));
    }
    // It is a member like any other: when it dies, the next one claims.
    lab.node("beside-2").runs = false;
    assert!(lab.until_decision("node-1") <= ms(330));
}

#[test]
fn there_are_512_members_at_most_and_a_dead_one_makes_room() {
    let mut lab = Lab::with(&["node-1"]);
    let key = key();
    let from = SocketAddr::from(([192, 0, 2, 2], 7471));
    lab.pass(ms(100));
    let now = lab.now;
    let host = |number: u16| {
        let [high, low] = number.to_be_bytes();
        LinkFacts { mac: [2, 0, 0, 1, high, low], ..facts(low) }
    };
    let mut hello = |number: u16, now: Instant| {
        let mut incarnation = [7; 16];
        incarnation[..2].copy_from_slice(&number.to_be_bytes());
        let sent = lab.nodes["node-1"].group.sequence;
        let echo = wire::Echo {
            prefix: wire::prefix(&lab.nodes["node-1"].group.header.incarnation),
            sequence: sent as u32,
            known: 0,
            follows: false,
        };
        let message = Message {
            incarnation,
            sequence: 1,
            draining: false,
            serving: true,
            facts: host(number),
            node: format!("many-{number}").into(),
            version: 1,
            chunks: 0,
            echoes: Some(vec![echo]),
            partial: false,
            chunk: None,
        };
        lab.group("node-1").receive(&message.seal(&key), from, LINK, now);
    };
    for number in 0..513 {
        hello(number, now);
    }
    assert_eq!(lab.refused("node-1", "TooManyMembers"), 1);
    assert_eq!(lab.group("node-1").member_of(LINK, host(511).mac), Some("many-511"));
    assert_eq!(lab.group("node-1").member_of(LINK, host(512).mac), None);
    lab.pass(ms(500));
    // All are dead, and still no strangers.
    assert_eq!(lab.group("node-1").member_of(LINK, host(511).mac), Some("many-511"));
}

#[test]
fn nodes_that_would_serve_different_services_on_an_address_see_that_of_each_other() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.pass(ms(1000));
    let at_odds = |lab: &mut Lab, node: &str| {
        let now = lab.now;
        lab.group(node).status(now).vips[&vip()].at_odds.iter().cloned().collect::<Vec<_>>()
    };
    assert!(at_odds(&mut lab, "node-1").is_empty());
    let now = lab.now;
    let offer = Offer { link: LINK, preference: 0, tenants: 7, partial: false };
    lab.group("node-2").offers([(vip(), offer)].into(), now);
    lab.pass(ms(100));
    assert_eq!(at_odds(&mut lab, "node-1"), ["node-2"]);
    assert_eq!(at_odds(&mut lab, "node-2"), ["node-1", "node-3"]);
    // It is reported, not acted upon: the holder of the address keeps it.
    assert_eq!(lab.owner("node-1").as_deref(), Some("node-2"));
    lab.nodes.remove("node-2");
    lab.pass(ms(1000));
    assert!(at_odds(&mut lab, "node-1").is_empty());
}
